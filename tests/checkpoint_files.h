/* Checkpoints of tiny models, written for tests: names and shapes from tests/golden/checkpoint.safetensors, values from
 * golden_weights.h by diffusers' name, so that every way of storing them must give the same results. */
#ifndef WEFT_TEST_CHECKPOINT_FILES_H
#define WEFT_TEST_CHECKPOINT_FILES_H

#include <ftw.h>
#include <sys/stat.h>

#include "nodes/checkpoint/checkpoint.h"
#include "tests/golden_weights.h"
#include "tests/test.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/checkpoint.safetensors"

enum { TEXT, UNET, VAE };
static const char *const part_names[] = { "text_encoder", "unet", "vae" };

/* ---- names ------------------------------------------------------------------------------------------------------ */

/* A tensor: its names in both worlds, its shape in one of the models. */
struct row { char ldm[128], name[128]; int part, rank; int64_t shape[4]; };
struct rows { struct row *at; int count; };

/* Appends the lines of "names.FAMILY.PART" that have a shape in a column (2: tiny, 3: full, 4: full, of sd2). */
__attribute__((unused)) static void add_rows(struct rows *rows, weft_safetensors *golden, const char *family,
                                             int part, int column) {
    char key[64];
    snprintf(key, sizeof key, "names.%s.%s", family, part_names[part]);
    const char *text = weft_st_metadata(golden, key);
    while (text && *text) {
        char line[512], *field[6] = { 0 };
        size_t length = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)length, text);
        text += length + (text[length] == '\n');
        int n = 0;
        for (char *p = strtok(line, "\t"); p && n < 6; p = strtok(NULL, "\t")) field[n++] = p;
        if (n <= column || !strcmp(field[column], "-")) continue;
        rows->at = realloc(rows->at, (size_t)(rows->count + 1) * sizeof *rows->at);
        struct row *r = &rows->at[rows->count++];
        *r = (struct row){ .part = part };
        snprintf(r->ldm, sizeof r->ldm, "%s", field[0]);
        snprintf(r->name, sizeof r->name, "%s", field[1]);
        char *p = field[column];
        while (*p && r->rank < 4) {
            r->shape[r->rank++] = strtoll(p, &p, 10);
            if (*p == 'x') p++;
        }
    }
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

enum layout {
    LAYOUT_LDM = 1,             /* otherwise diffusers' names, with the folder's in front if there are several parts */
    LAYOUT_EMA = 2,             /* model_ema.… copies of the UNet, of other values */
    LAYOUT_NO_TEXT_MODEL = 4,   /* "cond_stage_model.transformer.encoder.…", as some have it */
    LAYOUT_BUFFERS = 8,         /* alphas_cumprod, position_ids, logit_scale */
    LAYOUT_UNKNOWN = 16,        /* two tensors that nobody knows */
    LAYOUT_NO_PREFIX = 32,      /* a part alone, under LDM names without their prefix */
    LAYOUT_TEXT_MODEL = 64,     /* diffusers' names, those of the text encoder as before transformers 5.6 */
    LAYOUT_OLD_VAE = 128        /* query, key, value, proj_attn */
};

struct file_options {
    const char *family;         /* "sd1", "sd2" */
    unsigned parts;             /* WEFT_PART_… */
    int layout;
    weft_dtype type;
    const char *without;        /* tensors whose name of diffusers contains this are left out; NULL: none */
    const char *misshape;       /* the one of this name gets a row more */
    double v_bias;              /* the norm that tells v is multiplied by this; 0: is as it is */
    int shard, shards;          /* only every shards-th tensor, from the shard-th on; 0: all */
    const char *const *metadata;
};

struct file_writer { weft_ctx *c; const struct file_options *o; weft_st_item *items; char (*names)[256]; int count; };

static inline void put_tensor(struct file_writer *w, const char *name, weft_tensor *t) {
    snprintf(w->names[w->count], sizeof *w->names, "%s", name);
    w->items[w->count] = (weft_st_item){ w->names[w->count], t, weft_type(t) == WEFT_I64 ? WEFT_I64 : w->o->type };
    w->count++;
}

/* The row's values, by its diffusers name. */
static inline weft_tensor *row_tensor(struct file_writer *w, const struct row *r) {
    int64_t shape[4], count = 1;
    memcpy(shape, r->shape, sizeof shape);
    if (w->o->misshape && !strcmp(w->o->misshape, r->name)) shape[0]++;
    for (int i = 0; i < r->rank; i++) count *= shape[i];
    float *values = malloc((size_t)count * sizeof *values);
    golden_weight(r->name, r->rank, shape, values);
    bool last_norm = !strncmp(r->name, "up_blocks.1.attentions.1.", 25) && strstr(r->name, "norm1.bias");
    for (int64_t i = 0; i < count && last_norm && w->o->v_bias > 0; i++) values[i] *= (float)w->o->v_bias;
    /* LDM's attention of the autoencoder consists of 1×1 convolutions. */
    int rank = r->rank == 2 && strstr(r->ldm, ".attn_1.") && (w->o->layout & LAYOUT_LDM) ? 4 : r->rank;
    if (rank == 4 && r->rank == 2) shape[2] = shape[3] = 1;
    weft_tensor *t = weft_tensor_from(w->c, WEFT_F32, rank, shape, values);
    free(values);
    return t;
}

static inline void replace(char *name, size_t size, const char *from, const char *to) {
    char *p = strstr(name, from), rest[256];
    if (!p) return;
    snprintf(rest, sizeof rest, "%s", p + strlen(from));
    snprintf(p, size - (size_t)(p - name), "%s%s", to, rest);
}

static inline void stored_name(const struct file_options *o, const struct row *r, char *out, size_t size) {
    static const char *const prefixes[] = { "cond_stage_model.transformer.", "model.diffusion_model.",
                                            "first_stage_model." };
    if (o->layout & LAYOUT_LDM) {
        snprintf(out, size, "%s", r->ldm);
        if (o->layout & LAYOUT_NO_TEXT_MODEL) replace(out, size, "text_model.", "");
        if (o->layout & LAYOUT_NO_PREFIX) {
            replace(out, size, prefixes[r->part], "");
            replace(out, size, "cond_stage_model.model.", "");
        }
        return;
    }
    bool several = o->parts & (o->parts - 1), level = r->part == TEXT && (o->layout & LAYOUT_TEXT_MODEL);
    snprintf(out, size, "%s%s%s%s", several ? part_names[r->part] : "", several ? "." : "",
             level ? "text_model." : "", r->name);
    if (!(o->layout & LAYOUT_OLD_VAE) || r->part != VAE) return;
    replace(out, size, ".to_q.", ".query.");
    replace(out, size, ".to_k.", ".key.");
    replace(out, size, ".to_v.", ".value.");
    replace(out, size, ".to_out.0.", ".proj_attn.");
}

/* OpenCLIP's in_proj: the rows of q, k and v in one tensor; made when q comes. */
static inline bool put_joined(struct file_writer *w, const struct rows *rows, const struct row *r, char *name) {
    char *p = strstr(name, ".in_proj_");
    weft_tensor *parts[3] = { NULL };
    if (!p) return false;
    if (p[9] != 'q') return true;
    for (int i = 0; i < 3; i++) {
        char wanted[128];
        snprintf(wanted, sizeof wanted, "%s", r->name);
        replace(wanted, sizeof wanted, "q_proj", (const char *[]){ "q_proj", "k_proj", "v_proj" }[i]);
        for (int k = 0; k < rows->count; k++)
            if (!strcmp(rows->at[k].name, wanted)) parts[i] = row_tensor(w, &rows->at[k]);
    }
    memmove(p + 9, p + 11, strlen(p + 11) + 1);
    put_tensor(w, name, weft_concat(w->c, 0, 3, parts));
    return true;
}

static inline void put_extras(struct file_writer *w) {
    weft_ctx *c = w->c;
    int layout = w->o->layout;
    if (layout & LAYOUT_BUFFERS) {
        put_tensor(w, "alphas_cumprod", weft_full(c, WEFT_F32, WEFT_SHAPE(1000), 0.5));
        put_tensor(w, "cond_stage_model.transformer.text_model.embeddings.position_ids",
                   weft_full(c, WEFT_I64, WEFT_SHAPE(1, 77), 1));
        put_tensor(w, "cond_stage_model.logit_scale", weft_scalar(c, WEFT_F32, 4.6));
    }
    if (layout & LAYOUT_UNKNOWN) {
        put_tensor(w, "model.diffusion_model.input_blocks.1.0.in_layers.9.weight",
                   weft_full(c, WEFT_F32, WEFT_SHAPE(3), 1));
        put_tensor(w, "strange.thing", weft_full(c, WEFT_F32, WEFT_SHAPE(2, 2), 1));
    }
}

/* OpenCLIP files have one layer more than is used. */
static inline void put_last_layer(struct file_writer *w) {
    put_tensor(w, "cond_stage_model.model.transformer.resblocks.2.ln_1.weight",
               weft_full(w->c, WEFT_F32, WEFT_SHAPE(64), 1));
    put_tensor(w, "cond_stage_model.model.transformer.resblocks.2.mlp.c_fc.bias",
               weft_full(w->c, WEFT_F32, WEFT_SHAPE(192), 1));
}

/* Writes the tiny model of a family; REPORTS on failure. */
__attribute__((unused)) static bool write_file(weft_ctx *c, const char *path, struct file_options o) {
    struct rows rows = { 0 };
    weft_safetensors *golden = weft_st_open(c, GOLDEN);
    for (int part = 0; part < 3 && golden; part++)
        if (o.parts >> part & 1) add_rows(&rows, golden, part == VAE ? "sd1" : o.family, part, 2);
    struct file_writer w = { .c = c, .o = &o };
    w.items = calloc((size_t)rows.count * 2 + 16, sizeof *w.items);
    w.names = calloc((size_t)rows.count * 2 + 16, sizeof *w.names);
    weft_scope s = weft_scope_named(c, "write");
    for (int i = 0; i < rows.count; i++) {
        const struct row *r = &rows.at[i];
        char name[256];
        if ((o.without && strstr(r->name, o.without)) || (o.shards && i % o.shards != o.shard)) continue;
        stored_name(&o, r, name, sizeof name);
        if (put_joined(&w, &rows, r, name)) continue;
        put_tensor(&w, name, row_tensor(&w, r));
        if (!(o.layout & LAYOUT_EMA) || r->part != UNET) continue;
        snprintf(name, sizeof name, "model_ema.diffusion_model%.*s", (int)(sizeof name - 32),
                 r->ldm + strlen("model.diffusion_model"));
        put_tensor(&w, name, weft_full(c, WEFT_F32, WEFT_SHAPE(1), 3));
    }
    if ((o.layout & LAYOUT_LDM) && (o.parts & WEFT_PART_TEXT) && !strcmp(o.family, "sd2") &&
        !(o.layout & LAYOUT_NO_PREFIX)) put_last_layer(&w);
    put_extras(&w);
    bool ok = weft_ok(c) && weft_st_write(c, path, w.items, w.count, o.metadata) == WEFT_OK;
    if (!ok) TEST_FAIL("%s cannot be written: %s", path, weft_message(c));
    weft_scope_end(c, s, NULL);
    free(w.items);
    free(w.names);
    free(rows.at);
    weft_st_close(golden);
    return ok;
}

/* ---- folders ---------------------------------------------------------------------------------------------------- */

/* A folder of the running case's own, dropped with all in it by drop_folder(). */
__attribute__((unused)) static const char *new_folder(void) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/weft-checkpoint-XXXXXX");
    return mkdtemp(path);
}

static inline int drop_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

__attribute__((unused)) static void drop_folder(const char *folder) {
    nftw(folder, drop_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* folder/name in one of four buffers, in turn. */
__attribute__((unused)) static const char *in(const char *folder, const char *name) {
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof *path, "%s/%s", folder, name);
    return p;
}

__attribute__((unused)) static void put_text(const char *folder, const char *name, const char *content) {
    FILE *f = fopen(in(folder, name), "wb");
    if (!f || fwrite(content, 1, strlen(content), f) != strlen(content) || fclose(f))
        TEST_FAIL("%s cannot be written", name);
}

/* A folder of diffusers with these parts, in `folder` (which is there). */
__attribute__((unused)) static bool write_folder(weft_ctx *c, const char *folder, struct file_options o) {
    weft_safetensors *golden = weft_st_open(c, GOLDEN);
    unsigned parts = o.parts;
    bool ok = golden != NULL;
    put_text(folder, "model_index.json",
             "{\"_class_name\": \"StableDiffusionPipeline\", \"unet\": [\"diffusers\", \"UNet2DConditionModel\"]}");
    for (int part = 0; part < 3 && ok; part++) {
        char sub[200], file[256], key[64];
        if (!(parts >> part & 1)) continue;
        snprintf(sub, sizeof sub, "%s/%s", folder, part_names[part]);
        mkdir(sub, 0755);
        snprintf(key, sizeof key, "config.%s.%s", part == VAE ? "sd1" : o.family, part_names[part]);
        put_text(sub, "config.json", weft_st_metadata(golden, key));
        snprintf(file, sizeof file, "%s/%s.safetensors", sub, part == TEXT ? "model" : "diffusion_pytorch_model");
        o.parts = 1u << part;
        ok = write_file(c, file, o);
    }
    weft_st_close(golden);
    return ok;
}

#endif
