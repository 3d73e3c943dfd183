/* Opening; see checkpoint.h. A folder's parts have files and a config.json each; a single file's are told apart by
 * their names. */
#include "nodes/checkpoint/checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/checkpoint/config_json.h"
#include "nodes/checkpoint/kinds.h"
#include "nodes/checkpoint/parts.h"
#include "nodes/config.h"
#include "runtime/file.h"

/* Stable Diffusion 2 that predicts v tells itself apart by the spread of one bias (ComfyUI, supported_models.py). */
#define V_BIAS_SPREAD 0.09

const char *weft_family_name(weft_family f) {
    static const char *const names[WEFT_FAMILY_COUNT] = { "a model of unknown family", "Stable Diffusion 1",
                                                          "Stable Diffusion 2" };
    return (unsigned)f < WEFT_FAMILY_COUNT ? names[f] : "?";
}

/* One opening. */
struct opening {
    weft_ctx *c;
    weft_checkpoint *k;
    unsigned need, want;        /* want includes need */
    const char *by;             /* how the prediction type is known */
};

static bool wants(const struct opening *o, int part) {
    return o->want >> part & 1;
}

static bool load_done(const struct opening *o, int part) {
    return weft_progress(o->c, "load", part + 1, WEFT_NAMES_PARTS);
}

/* ---- prediction type -------------------------------------------------------------------------------------------- */

/* The standard deviation of an entry's values; 0 with or without an error where it has none. */
static double spread_of(weft_ctx *c, weft_safetensors *f, const weft_st_entry *e) {
    float value[8192];
    int64_t n = e->rank == 1 ? e->shape[0] : 0;
    double sum = 0, squares = 0;
    if (n < 1 || n > 8192) return 0;
    weft_scope s = weft_scope_named(c, "load");
    weft_tensor *t = weft_cast(c, weft_st_tensor(c, f, e), WEFT_F32);
    if (t && weft_read(c, t, value, (size_t)n * sizeof *value) != WEFT_OK) n = 0;
    weft_scope_end(c, s, NULL);
    if (!weft_ok(c) || !n) return 0;
    for (int64_t i = 0; i < n; i++) sum += value[i];
    for (int64_t i = 0; i < n; i++) squares += (value[i] - sum / (double)n) * (value[i] - sum / (double)n);
    return sqrt(squares / (double)n);
}

/* The bias of the first norm in the last transformer of the way up. */
static double norm_spread(weft_ctx *c, const weft_checkpoint *k, const weft_source *s, const weft_namer *n) {
    char wanted[WEFT_NAME_MAX], name[WEFT_NAME_MAX];
    snprintf(wanted, sizeof wanted, "up_blocks.%d.attentions.%d.transformer_blocks.0.norm1.bias",
             k->unet_config.blocks - 1, k->unet_config.layers[0]);
    for (int f = 0; f < s->count; f++)
        for (int64_t i = 0; i < weft_st_count(s->files[f]); i++) {
            const weft_st_entry *e = weft_st_at(s->files[f], i);
            if (weft_namer_rename((void *)n, e, name, sizeof name) && !strcmp(name, wanted))
                return spread_of(c, s->files[f], e);
        }
    return 0;
}

/* Files without a scheduler_config.json: metadata (Stability's model specification), marks of other tools, or the
 * weights themselves. */
static void guess_scheduler(struct opening *o, const weft_source *s, const weft_namer *unet) {
    weft_prediction p = WEFT_PREDICTION_EPSILON;
    const char *spec = NULL;
    for (int f = 0; f < s->count && !spec; f++) spec = weft_st_metadata(s->files[f], "modelspec.prediction_type");
    o->by = "as nothing says otherwise";
    if (spec) {
        o->by = "by its metadata";
        if (*spec == 'v') p = WEFT_PREDICTION_V;
    } else if (weft_source_find(s, "v_pred", NULL)) {
        o->by = "by the tensor v_pred";
        p = WEFT_PREDICTION_V;
    } else if (o->k->unet && o->k->family == WEFT_FAMILY_SD2 && o->k->unet_config.in_channels == 4) {
        o->by = "by the spread of its last norm's bias";
        if (norm_spread(o->c, o->k, s, unet) > V_BIAS_SPREAD) p = WEFT_PREDICTION_V;
    }
    const char *own = o->k->unet ? weft_unet_scheduler(&o->k->unet_config) : NULL;
    if (own) {
        if (weft_scheduler_config_as(o->c, NULL, own, NULL, NULL, &o->k->scheduler)) o->by = NULL;
        return;
    }
    o->k->scheduler = weft_scheduler_config_sd(p);
    o->k->scheduler.rescale_betas_zero_snr = weft_source_find(s, "ztsnr", NULL) != NULL;
}

/* ---- tokenizer -------------------------------------------------------------------------------------------------- */

static bool has_vocabulary(const char *folder) {
    return weft_path_has_file(folder, "tokenizer.json") || weft_path_has_file(folder, "vocab.json");
}

/* From the first of the folders (NULL: none) that has one, otherwise the one that all Stable Diffusion models share. */
static weft_status open_tokenizer(struct opening *o, const char *first, const char *second) {
    weft_checkpoint *k = o->k;
    if (first && has_vocabulary(first)) k->tokenizer = weft_tokenizer_open_folder(o->c, first);
    else if (second && has_vocabulary(second)) k->tokenizer = weft_tokenizer_open_folder(o->c, second);
    else if (weft_tokenizer_has_builtin()) {
        k->tokenizer = weft_tokenizer_open_builtin(o->c);
        /* OpenCLIP fills with 0, and has gelu where OpenAI's encoder has quick_gelu. */
        if (k->tokenizer && k->text_config.act == WEFT_ACT_GELU && weft_tokenizer_set_pad(o->c, k->tokenizer, 0))
            return weft_error(o->c);
    }
    if (k->tokenizer && weft_tokenizer_size(k->tokenizer) > k->text_config.vocabulary)
        weft_fail(o->c, WEFT_E_FORMAT, "%s: the tokenizer has %d tokens, the text encoder takes %d", k->path,
                  (int)weft_tokenizer_size(k->tokenizer), k->text_config.vocabulary);
    return weft_error(o->c);
}

/* ---- which part a config.json is of ----------------------------------------------------------------------------- */

struct told { int part; char class_name[64]; };     /* part −1: none of ours */

static void read_class(const weft_json *j, void *out) {
    struct told *t = out;
    const cJSON *architectures = weft_json_field(j, "architectures");
    const char *name = weft_json_text_of(j, "_class_name", NULL), *type = weft_json_text_of(j, "model_type", "");
    if (!name && cJSON_IsArray(architectures) && cJSON_IsString(architectures->child))
        name = architectures->child->valuestring;
    snprintf(t->class_name, sizeof t->class_name, "%s", name ? name : "");
    for (char *p = t->class_name; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p > '~') *p = '?';
    if (!strcmp(t->class_name, "UNet2DConditionModel") || !strcmp(t->class_name, "UNet2DModel") ||
        !strcmp(t->class_name, "Unet")) t->part = WEFT_NAMES_UNET;
    else if (!strcmp(t->class_name, "AutoencoderKL")) t->part = WEFT_NAMES_VAE;
    else if (!strncmp(t->class_name, "CLIPTextModel", 13) || !strcmp(type, "clip_text_model"))
        t->part = WEFT_NAMES_TEXT;
}

/* ---- folders ---------------------------------------------------------------------------------------------------- */

static void read_index(const weft_json *j, void *out) {
    static const struct { const char *start, *kind; } refused[] = {
        { "StableDiffusionXL", "Stable Diffusion XL, which Weft does not read yet" },
        { "StableDiffusion3", "Stable Diffusion 3, which Weft does not read" },
        { "StableDiffusionControlNet",
          "Stable Diffusion with a ControlNet, which Weft does not read yet; open its parts one by one" },
        { "Flux", "Flux, which Weft does not read" },
    };
    char name[64];
    snprintf(name, sizeof name, "%s", weft_json_text_of(j, "_class_name", ""));
    (void)out;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!strncmp(name, refused[i].start, strlen(refused[i].start))) {
            weft_fail(j->ctx, WEFT_E_FORMAT, "%s: this is a folder of %s", j->file, refused[i].kind);
            return;
        }
    if (weft_json_field(j, "text_encoder_2"))
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: this is a folder with two text encoders, as Stable Diffusion XL has "
                                         "them; Weft does not read it yet", j->file);
    else if (weft_json_field(j, "transformer"))
        weft_fail(j->ctx, WEFT_E_FORMAT,
                  "%s: this is a folder of a model with a transformer in place of the UNet, which Weft does not read",
                  j->file);
}

/* The part in a folder of its own. */
static weft_status load_folder_part(struct opening *o, weft_part part, const char *folder) {
    weft_source s = { 0 };
    char *config = weft_path_join(o->c, folder, "config.json");
    if (config && !weft_path_has_file(config, NULL)) {
        weft_fail(o->c, WEFT_E_FILE, "%s: config.json is missing", folder);
        goto out;
    }
    if (!config || weft_source_open_folder(o->c, &s, folder, weft_part_rows[part].stem)) goto out;
    weft_namer n = weft_namer_make(weft_source_names(&s), part);
    if (n.naming == WEFT_NAMING_NONE) {
        bool final;
        const char *kind = weft_kind_of(weft_source_names(&s), &final);
        weft_fail(o->c, WEFT_E_FORMAT, "%s: holds no %s%s%s", weft_st_path(s.files[0]), weft_part_rows[part].title,
                  kind ? "; looks like " : "",
                  kind ? kind : "");
        goto out;
    }
    o->k->ldm_names = n.naming == WEFT_NAMING_LDM;
    if (weft_part_load(o->c, o->k, &s, &n, config, folder) || weft_parts_count_rest(o->c, o->k, &s, &n, 1)) goto out;
    if (part == WEFT_NAMES_UNET) guess_scheduler(o, &s, &n);
out:
    weft_source_close(&s);
    weft_text_free(config);
    return weft_error(o->c);
}

/* Of the folder of a whole model; where it says nothing, what the UNet let guess stays. Pipelines of a UNet2DModel may
 * have all their files in one folder. */
static weft_status load_folder_scheduler(struct opening *o, const char *path) {
    static const char below[] = "scheduler/scheduler_config.json";
    const char *name = weft_path_has_file(path, below) ? below : strrchr(below, '/') + 1;
    if (weft_path_has_file(path, name)) {
        char *file = weft_path_join(o->c, path, name);
        o->by = "by its scheduler_config.json";
        weft_scheduler_config_free(&o->k->scheduler);
        if (file && weft_scheduler_config_read(o->c, file, &o->k->scheduler)) o->by = NULL;
        weft_text_free(file);
    } else if (!o->by) guess_scheduler(o, &(weft_source){ 0 }, NULL);
    return weft_error(o->c);
}

/* The folder of one part: "…/unet". */
static weft_status open_part_folder(struct opening *o, const char *path) {
    struct told t = { .part = -1 };
    char text[96];
    char *config = weft_path_join(o->c, path, "config.json"), *tokenizer = weft_path_join(o->c, path, "../tokenizer");
    char *above = weft_path_join(o->c, path, "..");
    if (!config || !tokenizer || !above || weft_config_read(o->c, config, read_class, &t)) goto out;
    if (t.part < 0)
        weft_fail(o->c, WEFT_E_FORMAT,
                  "%s: is of class \"%s\"; Weft reads UNet2DConditionModel, UNet2DModel, Unet, AutoencoderKL and "
                  "CLIPTextModel", config, t.class_name);
    else if (o->need & ~(1u << t.part))
        weft_fail(o->c, WEFT_E_FORMAT, "%s: is the folder of the %s alone; also needed: %s", path,
                  weft_part_rows[t.part].title,
                  weft_parts_text(o->need & ~(1u << t.part), text, sizeof text));
    else if (!wants(o, t.part))
        weft_fail(o->c, WEFT_E_FORMAT, "%s: is the folder of the %s, which was not asked for", path,
                  weft_part_rows[t.part].title);
    else if (load_folder_part(o, t.part, path) == WEFT_OK &&
             load_folder_scheduler(o, weft_path_has_file(path, "scheduler_config.json") ? path : above) == WEFT_OK &&
             t.part == WEFT_NAMES_TEXT && open_tokenizer(o, path, tokenizer)) goto out;
out:
    weft_text_free(config);
    weft_text_free(tokenizer);
    weft_text_free(above);
    return weft_error(o->c);
}

static weft_status open_folder(struct opening *o, const char *path) {
    char looked[256] = "", missing[96];
    unsigned lacking = 0;
    bool any = false;
    if (weft_path_has_file(path, "model_index.json")) {
        char *index = weft_path_join(o->c, path, "model_index.json");
        weft_status status = index ? weft_config_read(o->c, index, read_index, NULL) : weft_error(o->c);
        weft_text_free(index);
        if (status) return status;
    }
    if (weft_path_has_file(path, "config.json") && !weft_path_has_folder(path, "unet"))
        return open_part_folder(o, path);
    for (int part = 0; part < WEFT_NAMES_PARTS; part++) {
        size_t at = strlen(looked);
        const char *name = weft_part_rows[part].folder;
        any |= weft_path_has_folder(path, name);
        if ((o->need >> part & 1) && !weft_path_has_folder(path, name)) lacking |= 1u << part;
        snprintf(looked + at, sizeof looked - at, "%s%s/", part ? ", " : "", name);
    }
    if (!any)
        return weft_fail(o->c, WEFT_E_FILE, "%s: no model here; looked for model_index.json, config.json, %s", path,
                         looked);
    if (lacking)
        return weft_fail(o->c, WEFT_E_FILE, "%s: lacks the %s; looked for %s", path,
                         weft_parts_text(lacking, missing, sizeof missing), looked);
    for (int part = 0; part < WEFT_NAMES_PARTS; part++) {
        const char *name = weft_part_rows[part].folder;
        char *folder = wants(o, part) && weft_path_has_folder(path, name) ? weft_path_join(o->c, path, name) : NULL;
        if (folder) (void)(load_folder_part(o, part, folder) || !load_done(o, part));
        weft_text_free(folder);
        if (!weft_ok(o->c)) return weft_error(o->c);
    }
    if (o->k->text) {
        char *tokenizer = weft_path_join(o->c, path, "tokenizer");
        if (tokenizer) (void)open_tokenizer(o, tokenizer, NULL);
        weft_text_free(tokenizer);
    }
    return weft_ok(o->c) ? load_folder_scheduler(o, path) : weft_error(o->c);
}

/* ---- single files ----------------------------------------------------------------------------------------------- */

/* The config.json beside a file with diffusers' names, where it is of the part; NULL otherwise. To be freed. */
static char *config_beside(weft_ctx *c, const char *path, const weft_namer *n, unsigned found) {
    const char *slash = strrchr(path, '/');
    struct told t = { .part = -1 };
    if ((n->naming != WEFT_NAMING_DIFFUSERS && n->naming != WEFT_NAMING_RMS) || found != 1u << n->part) return NULL;
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!folder) weft_fail(c, WEFT_E_MEMORY, "%s: no memory to open it", path);
    bool there = folder && weft_path_has_file(folder, "config.json");
    char *config = there ? weft_path_join(c, folder, "config.json") : NULL;
    free(folder);
    if (config && weft_config_read(c, config, read_class, &t) == WEFT_OK && t.part == (int)n->part) return config;
    weft_text_free(config);
    return NULL;
}

static weft_status refuse_file(struct opening *o, const char *path, const char *kind, unsigned found) {
    char missing[96], there[96];
    weft_parts_text(o->need & ~found, missing, sizeof missing);
    weft_parts_text(found, there, sizeof there);
    if (kind && !found)
        return weft_fail(o->c, WEFT_E_FORMAT, "%s: is not the model that was asked for; it looks like %s", path, kind);
    if (found)
        return weft_fail(o->c, WEFT_E_FORMAT, "%s: lacks what is needed: %s; it holds: %s", path, missing, there);
    return weft_fail(o->c, WEFT_E_FORMAT, "%s: holds no %s under any name that Weft knows", path,
                     missing[0] ? missing : "text encoder, UNet or autoencoder");
}

static weft_status open_single(struct opening *o, const char *path) {
    weft_source s = { 0 };
    weft_namer namers[WEFT_NAMES_PARTS];
    unsigned found = 0;
    bool final = false;
    if (weft_source_open_file(o->c, &s, path)) goto out;
    weft_name_list names = weft_source_names(&s);
    const char *kind = weft_kind_of(names, &final);
    for (int part = 0; part < WEFT_NAMES_PARTS; part++) {
        namers[part] = weft_namer_make(names, part);
        if (namers[part].naming != WEFT_NAMING_NONE) found |= 1u << part;
    }
    if (final) weft_fail(o->c, WEFT_E_FORMAT, "%s: is %s", path, kind);
    else if ((o->need & ~found) || !(o->want & found)) refuse_file(o, path, kind, found);
    for (int part = 0; part < WEFT_NAMES_PARTS && weft_ok(o->c); part++) {
        if (!wants(o, part) || !(found >> part & 1)) continue;
        if (part == WEFT_NAMES_UNET || !o->k->ldm_names) o->k->ldm_names = namers[part].naming == WEFT_NAMING_LDM;
        char *config = config_beside(o->c, path, &namers[part], found);
        if (weft_ok(o->c)) (void)(weft_part_load(o->c, o->k, &s, &namers[part], config, path) || !load_done(o, part));
        weft_text_free(config);
    }
    if (!weft_ok(o->c) || (o->k->text && open_tokenizer(o, NULL, NULL))) goto out;
    if (weft_parts_count_rest(o->c, o->k, &s, namers, WEFT_NAMES_PARTS) == WEFT_OK)
        guess_scheduler(o, &s, &namers[WEFT_NAMES_UNET]);
out:
    weft_source_close(&s);
    return weft_error(o->c);
}

/* ---- all -------------------------------------------------------------------------------------------------------- */

static void tell_why(struct opening *o) {
    weft_checkpoint *k = o->k;
    char parts[96], rest[96] = "";
    weft_parts_text(k->parts, parts, sizeof parts);
    if (k->ema + k->unknown > 0)
        snprintf(rest, sizeof rest, "; left out: %lld EMA copies, %lld unknown tensors", (long long)k->ema,
                 (long long)k->unknown);
    int used = snprintf(k->why, sizeof k->why, "%s (%s): %s", weft_family_name(k->family),
                        !k->single_file ? "folder of diffusers" :
                        k->ldm_names ? "single file, LDM names" : "single file, diffusers' names", parts);
    if (k->unet && used > 0 && (size_t)used < sizeof k->why)
        used += !k->unet_config.context
            ? snprintf(k->why + used, sizeof k->why - (size_t)used, "; without a text; %s, %s",
                       weft_prediction_name(k->scheduler.prediction_type), o->by)
            : snprintf(k->why + used, sizeof k->why - (size_t)used, "; context of %d, %s; %s, %s",
                       k->unet_config.context,
                       k->unet_config.linear_projection ? "linear projections" : "convolutions as projections",
                       weft_prediction_name(k->scheduler.prediction_type), o->by);
    if (used > 0 && (size_t)used < sizeof k->why) snprintf(k->why + used, sizeof k->why - (size_t)used, "%s", rest);
}

weft_checkpoint *weft_checkpoint_open(weft_ctx *c, const char *path, unsigned need, unsigned want) {
    struct opening o = { .c = c, .need = need, .want = need | want };
    if (!weft_ok(c)) return NULL;
    if (!path || !o.want || (o.want & ~(unsigned)WEFT_PARTS_ALL)) {
        weft_fail(c, WEFT_E_ARGUMENT, "checkpoint: a path and a set of parts are needed");
        return NULL;
    }
    weft_checkpoint *k = o.k = calloc(1, sizeof *k);
    if (k) k->path = strdup(path);
    if (!k || !k->path) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory to open it", path);
        weft_checkpoint_free(k);
        return NULL;
    }
    k->single_file = !weft_path_has_folder(path, NULL);
    if ((k->single_file ? open_single(&o, path) : open_folder(&o, path)) == WEFT_OK &&
        weft_parts_check(c, k) == WEFT_OK) {
        k->inpaint = k->unet && k->unet_config.in_channels == 9;
        tell_why(&o);
        return k;
    }
    weft_checkpoint_free(k);
    return NULL;
}

void weft_checkpoint_free(weft_checkpoint *k) {
    if (!k) return;
    for (int part = 0; part < WEFT_NAMES_PARTS; part++) weft_part_free(k, part);
    weft_tokenizer_free(k->tokenizer);
    weft_scheduler_config_free(&k->scheduler);
    for (int64_t i = 0; i < k->unknown; i++) free(k->unknown_names[i]);
    free(k->unknown_names);
    free(k->path);
    free(k);
}
