/* Opening LoRA files: their tensors gathered by layer; alphas. See lora.h. */
#include "nodes/lora/lora_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/checkpoint/kinds.h"
#include "runtime/json.h"

/* ---- alphas ------------------------------------------------------------------------------------------------------ */

/* Whether a key of alpha_pattern, PEFT's regular expression, names the place: plain text, at its end behind a dot, with
 * ^ the whole of it. */
static bool pattern_fits(const char *pattern, const char *place) {
    bool from_start = *pattern == '^';
    size_t n = strlen(pattern += from_start), length = strlen(place);
    return length >= n && !strcmp(place + length - n, pattern) &&
           (length == n || (!from_start && place[length - n - 1] == '.'));
}

/* "unet.lora_alpha" and its kin: what LoraConfig said, by part. NaN: nothing. */
static double metadata_alpha(const weft_lora *lora, const lora_layer *layer, bool *root) {
    static const char *const parts[] = { "unet", "text_encoder" };
    char key[64], place[WEFT_LORA_NAME];
    const char *part = parts[layer->key.part];
    size_t prefix = strlen(part) + 1;
    const cJSON *item;
    if (!lora->metadata || strncmp(layer->name, part, prefix - 1)) return NAN;
    snprintf(place, sizeof place, "%.*s", (int)(layer->key.layer - prefix), layer->name + prefix);
    snprintf(key, sizeof key, "%s.use_rslora", part);
    *root = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(lora->metadata, key));
    snprintf(key, sizeof key, "%s.alpha_pattern", part);
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(lora->metadata, key))
        if (cJSON_IsNumber(item) && pattern_fits(item->string, place)) return item->valuedouble;
    snprintf(key, sizeof key, "%s.lora_alpha", part);
    item = cJSON_GetObjectItemCaseSensitive(lora->metadata, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

double lora_scale(weft_ctx *c, const weft_lora *lora, const lora_layer *layer) {
    const weft_st_entry *e = layer->of[WEFT_LORA_ALPHA];
    double rank = (double)layer->of[WEFT_LORA_DOWN]->shape[0], alpha;
    bool root = false;
    if (e) {
        weft_scope s = weft_scope_named(c, e->name);
        alpha = weft_item(c, weft_st_tensor(c, lora->source.files[0], e));
        weft_scope_end(c, s, NULL);
        if (weft_ok(c) && !isfinite(alpha)) weft_fail(c, WEFT_E_FORMAT, "%s: is no number", e->name);
        return weft_ok(c) ? alpha / rank : NAN;
    }
    alpha = metadata_alpha(lora, layer, &root);
    return isfinite(alpha) ? alpha / (root ? sqrt(rank) : rank) : 1;
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

static bool refuse(weft_ctx *c, const char *name, const char *what) {
    weft_fail(c, WEFT_E_FORMAT, "%.200s: %s", name, what);
    return false;
}

/* Numbers of a type and rank that can be used. */
static bool check_entry(weft_ctx *c, const weft_st_entry *e, weft_lora_role role) {
    bool real = e->type == WEFT_F16 || e->type == WEFT_BF16 || e->type == WEFT_F32 || e->type == WEFT_F64;
    if (role == WEFT_LORA_ALPHA && (e->type == WEFT_I64 || e->type == WEFT_I32)) real = true;
    if (e->foreign || !real) {
        weft_fail(c, WEFT_E_TYPE, "%.200s: is of type %s, expected f32, f16 or bf16", e->name,
                  e->foreign ? e->foreign : weft_dtype_name(e->type));
        return false;
    }
    if (role == WEFT_LORA_ALPHA) return true;
    if (e->bytes == 0) return refuse(c, e->name, "is empty");
    bool factor = role == WEFT_LORA_DOWN || role == WEFT_LORA_UP;
    if (factor && e->rank != 2 && e->rank != 4) return refuse(c, e->name, "has neither 2 nor 4 dimensions");
    if (role == WEFT_LORA_MID && e->rank != 4) return refuse(c, e->name, "has not 4 dimensions");
    return true;
}

static int by_layer(const void *a, const void *b) {
    const lora_layer *x = a, *y = b;
    size_t n = x->key.layer < y->key.layer ? x->key.layer : y->key.layer;
    int order = memcmp(x->name, y->name, n);
    return order ? order : (x->key.layer > y->key.layer) - (x->key.layer < y->key.layer);
}

/* Tensors of one layer become one; each has one of a role as yet. */
static bool join(weft_ctx *c, weft_lora *lora) {
    int64_t n = 0;
    qsort(lora->layers, (size_t)lora->count, sizeof *lora->layers, by_layer);
    for (int64_t i = 0; i < lora->count; i++) {
        lora_layer *l = &lora->layers[i], *last = n ? &lora->layers[n - 1] : NULL;
        if (!last || by_layer(last, l)) {
            lora->layers[n++] = *l;
            continue;
        }
        const weft_st_entry *e = l->of[l->key.role];
        if (last->of[l->key.role]) return refuse(c, e->name, "stands there under a second name too");
        last->of[l->key.role] = e;
    }
    lora->count = n;
    return true;
}

static bool check_layer(weft_ctx *c, const lora_layer *l) {
    const weft_st_entry *const *of = l->of;
    if (of[WEFT_LORA_DOWN] && !of[WEFT_LORA_UP])
        return refuse(c, of[WEFT_LORA_DOWN]->name, "there is no up that goes with this down");
    if (of[WEFT_LORA_UP] && !of[WEFT_LORA_DOWN])
        return refuse(c, of[WEFT_LORA_UP]->name, "there is no down that goes with this up");
    if (of[WEFT_LORA_MID] && !of[WEFT_LORA_DOWN])
        return refuse(c, of[WEFT_LORA_MID]->name, "there is no down that goes with this mid");
    return true;
}

static bool read_layers(weft_ctx *c, weft_lora *lora) {
    const weft_safetensors *file = lora->source.files[0];
    int64_t n = weft_st_count(file);
    lora->layers = calloc((size_t)n + 1, sizeof *lora->layers);
    if (!lora->layers) {
        weft_fail(c, WEFT_E_MEMORY, "no memory for its names");
        return false;
    }
    for (int64_t i = 0; i < n; i++) {
        const weft_st_entry *e = weft_st_at(file, i);
        weft_lora_key key = weft_lora_key_read(e->name);
        if (key.role == WEFT_LORA_UNKNOWN) continue;
        if (key.role == WEFT_LORA_REFUSED) {
            weft_fail(c, WEFT_E_FORMAT, "is a %s (%.200s), which Weft does not read; it reads LoRA, LoCon and plain "
                      "differences", key.refused, e->name);
            return false;
        }
        if (!check_entry(c, e, key.role)) return false;
        lora_layer *l = &lora->layers[lora->count++];
        *l = (lora_layer){ .name = e->name, .key = key };
        l->of[key.role] = e;
    }
    if (!join(c, lora)) return false;
    for (int64_t i = 0; i < lora->count; i++)
        if (!check_layer(c, &lora->layers[i])) return false;
    if (lora->count) return true;
    bool final;
    const char *kind = weft_kind_of(weft_source_names(&lora->source), &final);
    weft_fail(c, WEFT_E_FORMAT, "is no LoRA: none of its tensors has a name of one%s%s", kind ? "; it looks like " : "",
              kind ? kind : "");
    return false;
}

static bool read_metadata(weft_ctx *c, weft_lora *lora) {
    const char *text = weft_st_metadata(lora->source.files[0], "lora_adapter_metadata");
    if (text) lora->metadata = weft_json_parse(c, "lora_adapter_metadata", text, strlen(text), WEFT_JSON_NAN);
    return weft_ok(c);
}

weft_lora *weft_lora_open(weft_ctx *c, const char *path) {
    weft_lora *lora = weft_ok(c) ? calloc(1, sizeof *lora) : NULL;
    if (!lora) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory to open it", path);
        return NULL;
    }
    if (!weft_source_open_file(c, &lora->source, path)) {
        const char *slash = strrchr(path = weft_st_path(lora->source.files[0]), '/');
        lora->name = slash ? slash + 1 : path;
        weft_scope s = weft_scope_named(c, path);
        bool whole = read_layers(c, lora) && read_metadata(c, lora);
        weft_scope_end(c, s, NULL);
        if (whole) return lora;
    }
    weft_lora_close(lora);
    return NULL;
}

void weft_lora_close(weft_lora *lora) {
    if (!lora) return;
    weft_source_close(&lora->source);
    cJSON_Delete(lora->metadata);
    free(lora->layers);
    free(lora);
}
