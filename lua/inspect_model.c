/* What is in files of weights: tensors by the first parts of their names, element types, metadata, and what the
 * checkpoint reader takes them for; ranks and targets of a LoRA. Opening maps a file and reads its head. */
#include "lua/inspect.h"

#include <stdlib.h>
#include <string.h>
#include "nodes/checkpoint/kinds.h"
#include "nodes/checkpoint/parts.h"
#include "nodes/checkpoint/source.h"
#include "nodes/lora/lora.h"

enum { MOST_GROUPS = 16, DEEPEST = 4 };

/* ---- tensors by prefix ------------------------------------------------------------------------------------------- */

struct group {
    const char *name;
    size_t length;
    double tensors, parameters, bytes, of_type[WEFT_DTYPE_COUNT];
    const char *foreign;
};

/* The first `depth` parts of a name, which dots divide; "lora_unet" of a LoRA's "lora_unet_down_blocks_0_…", whose
 * names have no other order. */
static size_t prefix_of(const char *name, int depth) {
    const char *end = name;
    if (!strncmp(name, "lora_", 5)) return 5 + strcspn(name + 5, "_.");
    for (; depth; depth--) {
        end += strcspn(end, ".");
        if (!*end || depth == 1) break;
        end++;
    }
    return (size_t)(end - name);
}

static void count_entry(struct group *g, const weft_st_entry *e) {
    double n = 1;
    for (int i = 0; i < e->rank; i++) n *= (double)e->shape[i];
    g->tensors++;
    g->bytes += (double)e->bytes;
    if (e->foreign) g->foreign = e->foreign;
    else {
        g->parameters += n;
        g->of_type[e->type] += n;
    }
}

/* Groups of names that share `depth` parts; −1 where there are more than MOST_GROUPS. */
static int group_names(const weft_source *s, int depth, struct group *groups) {
    const weft_st_entry *e;
    int count = 0;
    for (int64_t i = 0; (e = weft_source_at(s, i)); i++) {
        size_t length = prefix_of(e->name, depth);
        int k = 0;
        while (k < count && (groups[k].length != length || memcmp(groups[k].name, e->name, length))) k++;
        if (k == MOST_GROUPS) return -1;
        if (k == count) groups[count++] = (struct group){ .name = e->name, .length = length };
        count_entry(&groups[k], e);
    }
    return count;
}

static int by_name(const void *a, const void *b) {
    const struct group *x = a, *y = b;
    int order = memcmp(x->name, y->name, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static void types_text(const struct group *g, char *out, size_t size) {
    size_t used = 0;
    *out = 0;
    for (int t = 0; t < WEFT_DTYPE_COUNT && used < size; t++)
        if (g->of_type[t] > 0)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", weft_dtype_name((weft_dtype)t));
    if (g->foreign && used < size) snprintf(out + used, size - used, "%s%s", used ? ", " : "", g->foreign);
}

static void group_facts(const struct group *g, cJSON *row) {
    char types[64];
    types_text(g, types, sizeof types);
    cJSON_AddNumberToObject(row, "tensors", g->tensors);
    cJSON_AddNumberToObject(row, "parameters", g->parameters);
    cJSON_AddNumberToObject(row, "bytes", g->bytes);
    cJSON_AddStringToObject(row, "types", types);
}

static void tensor_facts(const weft_source *s, cJSON *out) {
    const weft_st_entry *e;
    struct group groups[MOST_GROUPS], all = { 0 };
    int count = 0, found;
    for (int depth = DEEPEST; depth && count <= 0; depth--) {
        found = group_names(s, depth, groups);
        if (found >= 0) count = found;
    }
    for (int64_t i = 0; (e = weft_source_at(s, i)); i++) count_entry(&all, e);
    group_facts(&all, out);
    if (count < 2) return;
    qsort(groups, (size_t)count, sizeof *groups, by_name);
    for (int i = 0; i < count; i++) {
        char name[256];
        cJSON *row = inspect_row(inspect_list(out, "groups"));
        snprintf(name, sizeof name, "%.*s", (int)(groups[i].length < sizeof name ? groups[i].length : sizeof name - 1),
                 groups[i].name);
        cJSON_AddStringToObject(row, "prefix", name);
        group_facts(&groups[i], row);
    }
}

static void metadata_facts(const weft_safetensors *f, cJSON *out) {
    const char *key, *value;
    cJSON *metadata = NULL;
    for (int64_t i = 0; weft_st_metadata_at(f, i, &key, &value); i++) {
        if (!metadata) metadata = cJSON_AddObjectToObject(out, "metadata");
        cJSON_AddStringToObject(metadata, key, value);
    }
}

/* ---- LoRA -------------------------------------------------------------------------------------------------------- */

static const char *target_of(const weft_st_entry *e, weft_lora_part part) {
    if (part == WEFT_LORA_TEXT) return "text_encoder";
    if (part == WEFT_LORA_FOREIGN) return "other_models";
    if (e->rank == 4 && e->shape[2] > 1) return "unet_convolution";
    if (strstr(e->name, "attn")) return "unet_attention";
    return strstr(e->name, "ff") ? "unet_feed_forward" : "unet_other";
}

static void add_to(cJSON *object, const char *name) {
    cJSON *n = cJSON_GetObjectItemCaseSensitive(object, name);
    if (n) cJSON_SetNumberValue(n, n->valuedouble + 1);
    else cJSON_AddNumberToObject(object, name, 1);
}

/* The first factor of a layer has as many rows as its rank. */
static void lora_facts(session *s, const char *path, const weft_safetensors *f, cJSON *out) {
    weft_lora *lora = weft_lora_open(s->c, path);
    weft_clear(s->c);
    if (!lora) return;
    const char *made_for = weft_lora_made_for(lora);
    if (made_for) cJSON_AddStringToObject(out, "made_for", made_for);
    cJSON *ranks = cJSON_AddObjectToObject(out, "layers_by_rank"),
          *targets = cJSON_AddObjectToObject(out, "layers_by_target");
    for (int64_t i = 0; i < weft_st_count(f); i++) {
        const weft_st_entry *e = weft_st_at(f, i);
        weft_lora_key key = weft_lora_key_read(e->name);
        char rank[24];
        if (key.role != WEFT_LORA_DOWN || e->rank < 2) continue;
        snprintf(rank, sizeof rank, "%lld", (long long)e->shape[0]);
        add_to(ranks, rank);
        add_to(targets, target_of(e, key.part));
    }
    weft_lora_close(lora);
}

/* ---- models ------------------------------------------------------------------------------------------------------ */

static void config_text(const weft_checkpoint *k, int part, char *out, size_t size) {
    const weft_clip_text_config *t = &k->text_config;
    const weft_unet_config *u = &k->unet_config;
    const weft_vae_config *v = &k->vae_config;
    if (part == WEFT_NAMES_TEXT)
        snprintf(out, size, "%d layers of %d, %d heads, %d places", t->layers, t->width, t->heads, t->positions);
    else if (part == WEFT_NAMES_UNET)
        snprintf(out, size, "%d to %d channels, %d resolutions of %d to %d, context %d", u->in_channels,
                 u->out_channels, u->blocks, u->channels[0], u->channels[u->blocks > 0 ? u->blocks - 1 : 0],
                 u->context);
    else
        snprintf(out, size, "%d latent channels, %d resolutions of %d to %d, scale %g", v->latent_channels, v->blocks,
                 v->channels[0], v->channels[v->blocks > 0 ? v->blocks - 1 : 0], v->scaling_factor);
}

static void model_facts(const weft_checkpoint *k, cJSON *out) {
    cJSON_AddStringToObject(out, "taken_for", k->why);
    if (k->family) cJSON_AddStringToObject(out, "family", weft_family_name(k->family));
    for (int part = 0; part < WEFT_NAMES_PARTS; part++) {
        if (!(k->parts >> part & 1)) continue;
        char text[160];
        cJSON *row = inspect_row(inspect_list(out, "parts"));
        config_text(k, part, text, sizeof text);
        cJSON_AddStringToObject(row, "part", weft_part_rows[part].title);
        cJSON_AddStringToObject(row, "build", text);
    }
    if (k->parts & WEFT_PART_UNET) {
        char text[256];
        snprintf(text, sizeof text, "%s, %s, %d steps, betas %g to %g (%s)%s", k->scheduler.class_name,
                 weft_prediction_name(k->scheduler.prediction_type), k->scheduler.num_train_timesteps,
                 k->scheduler.beta_start, k->scheduler.beta_end, k->scheduler.beta_schedule,
                 k->scheduler.rescale_betas_zero_snr ? ", zero terminal SNR" : "");
        cJSON_AddStringToObject(out, "scheduler", text);
    }
    for (int64_t i = 0; i < k->unknown && i < 8; i++)
        cJSON_AddItemToArray(inspect_list(out, "tensors_no_model_takes"), cJSON_CreateString(k->unknown_names[i]));
}

/* What kind of file the checkpoint reader, or else the names alone, take it for. */
static void taken_for(session *s, const char *path, const weft_source *source, cJSON *out) {
    bool final;
    weft_checkpoint *k = weft_checkpoint_open(s->c, path, 0, WEFT_PARTS_ALL);
    const char *kind = k ? NULL : weft_kind_of(weft_source_names(source), &final);
    if (k) model_facts(k, out);
    else cJSON_AddStringToObject(out, "taken_for", kind ? kind : weft_message(s->c));
    weft_checkpoint_free(k);
    weft_clear(s->c);
}

bool inspect_weights(session *s, const char *path, cJSON *out) {
    weft_source source = { 0 };
    const bool opened = weft_source_open_file(s->c, &source, path) == WEFT_OK;
    if (opened) {
        cJSON_AddStringToObject(out, "kind", "safetensors");
        taken_for(s, path, &source, out);
        tensor_facts(&source, out);
        lora_facts(s, path, source.files[0], out);
        metadata_facts(source.files[0], out);
    }
    weft_source_close(&source);         /* it holds a list also where the file could not be opened */
    return opened;
}

bool inspect_shards(session *s, const char *path, cJSON *out) {
    weft_source source = { 0 };
    const char *slash = strrchr(path, '/');
    char *folder = strndup(slash ? path : ".", slash ? (size_t)(slash - path) + 1 : 1);
    if (!folder) weft_fail(s->c, WEFT_E_MEMORY, "%s: no memory for its folder", path);
    const bool opened = folder && weft_source_open_shards(s->c, &source, folder, slash ? slash + 1 : path) == WEFT_OK;
    if (opened) {
        cJSON_AddStringToObject(out, "kind", "index of shards");
        cJSON_AddNumberToObject(out, "shards", source.count);
        taken_for(s, folder, &source, out);
        tensor_facts(&source, out);
    }
    weft_source_close(&source);
    free(folder);
    return opened;
}

bool inspect_model_folder(session *s, const char *path, cJSON *out) {
    weft_checkpoint *k = weft_checkpoint_open(s->c, path, 0, WEFT_PARTS_ALL);
    if (!k) return false;
    cJSON_AddStringToObject(out, "kind", "folder of diffusers");
    model_facts(k, out);
    weft_checkpoint_free(k);
    return true;
}
