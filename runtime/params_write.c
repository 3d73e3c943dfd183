/* Writing a tree to a file, or to shards and their index (huggingface_hub's layout, as params_load.c reads it): an overlay
 * as what its model is, deltas and adapters merged into the weights below.
 *
 *     stem-00001-of-00003.safetensors …    stem.safetensors.index.json: {"metadata": {"total_size": bytes of all tensors},
 *                                          "weight_map": {"name": "file", …}}
 */
#include <stdlib.h>
#include <string.h>
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/params_internal.h"

/* Other programs (transformers) refuse files that do not say whose layout they have. */
static const char *const layout[] = { "format", "pt", NULL };

/* What is written, in the order of names. */
struct writing {
    weft_st_item *items;
    int64_t count;
    char *names;            /* the items' */
    weft_tree *changes;     /* holds merged weights; NULL: the tree is no overlay */
};

/* prefix + name in the next free bytes of `names`; returns it. */
static const char *file_name(char **names, const char *prefix, const char *name) {
    char *start = *names;
    *names = stpcpy(stpcpy(start, prefix), name) + 1;
    return start;
}

/* The tensor that is written for a node of t, which `changes` (NULL: none) may change. NULL with the error set. */
static weft_tensor *changed(weft_ctx *c, weft_tree *changes, const struct param_listed *l, weft_tensor *plain) {
    uint32_t node = changes ? param_find(changes, 0, l->name) : 0;
    if (!node || !changes->nodes[node].deltas) return plain;
    return param_merge(c, changes, node, plain);
}

/* `label` names the file in messages. False with the error set. */
static bool list_items(
    weft_ctx *c, weft_tree *t, const char *prefix, const char *label, weft_dtype type, struct writing *w) {
    size_t bytes = 1;
    if (!weft_ok(c) || !param_list(t)) return false;
    for (int64_t i = 0; i < t->count; i++) bytes += strlen(prefix) + strlen(t->list[i].name) + 1;
    w->items = weft_host_alloc(((size_t)t->count + 1) * sizeof *w->items);
    char *free_name = w->names = weft_host_alloc(bytes);
    if (!w->items || !w->names) weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the header", label);
    for (; w->count < t->count && weft_ok(c); w->count++) {
        const struct param_listed *l = &t->list[w->count];
        const struct param_node *node = &t->nodes[l->node];
        if (node->pin && node->pin->entry->foreign) {
            weft_fail(c, WEFT_E_TYPE, "%s: %s is %s, which Weft cannot write", label, l->name, node->pin->entry->foreign);
            break;
        }
        weft_dtype own = weft_type(node->tensor);
        bool real = own == WEFT_F32 || own == WEFT_F16 || own == WEFT_BF16 || own == WEFT_F64;
        const char *name = file_name(&free_name, prefix, l->name);
        w->items[w->count] = (weft_st_item){ name, changed(c, w->changes, l, node->tensor), real ? type : own };
    }
    return weft_ok(c);
}

/* All deltas and adapters of the overlays from the lowest up to t. */
static void gather(weft_ctx *c, weft_tree *to, const weft_tree *t) {
    if (!t->below) return;
    gather(c, to, t->below);
    if (!weft_tree_copy_deltas(c, to, t) && weft_tree_merge_adapters(c, to, t)) return;
}

/* False with the error set; writing_end() in either case. */
static bool writing_begin(
    weft_ctx *c, weft_tree *t, const char *prefix, const char *label, weft_dtype type, struct writing *w) {
    weft_tree *root = t;
    while (root->below) root = root->below;
    w->changes = t->below ? weft_tree_overlay(c, root) : NULL;
    if (w->changes) gather(c, w->changes, t);
    return list_items(c, root, prefix, label, type, w);
}

static void writing_end(struct writing *w) {
    weft_host_free(w->names);
    weft_host_free(w->items);
    weft_tree_free(w->changes);
}

weft_status weft_tree_write(weft_ctx *c, weft_tree *t, const char *prefix, const char *path, weft_dtype type) {
    struct writing w = { 0 };
    if (writing_begin(c, t, prefix, path, type, &w) && weft_st_write(c, path, w.items, w.count, layout)) { /* told */ }
    writing_end(&w);
    return weft_error(c);
}

/* ---- shards ------------------------------------------------------------------------------------------------ */

static int64_t bytes_of(const weft_st_item *item) {
    return weft_count(item->tensor) * (int64_t)weft_dtype_size(item->type);
}

/* Behind the last item of the shard that begins at `from`: as many as `most` bytes hold, but at least one. */
static int64_t shard_end(const struct writing *w, int64_t from, int64_t most) {
    int64_t bytes = 0;
    do bytes += bytes_of(&w->items[from++]);
    while (from < w->count && bytes + bytes_of(&w->items[from]) <= most);
    return from;
}

/* Writes the items from `from` to `end` as this file, and lists them in the map. */
static bool write_shard(weft_ctx *c, const struct writing *w, int64_t from, int64_t end, const char *folder,
    const char *name, cJSON *map) {
    char *path = weft_path_join(c, folder, name);
    bool ok = path && weft_st_write(c, path, w->items + from, end - from, layout) == WEFT_OK;
    for (int64_t i = from; i < end && ok; i++) {
        ok = cJSON_AddStringToObject(map, w->items[i].name, name) != NULL;
        if (!ok) weft_fail(c, WEFT_E_MEMORY, "%s: no memory for its names", path);
    }
    weft_text_free(path);
    return ok;
}

static void write_index(weft_ctx *c, cJSON *index, const char *folder, const char *stem, int64_t total) {
    char name[PARAM_STEM + 32];
    snprintf(name, sizeof name, "%s.safetensors.index.json", stem);
    cJSON *metadata = cJSON_GetObjectItemCaseSensitive(index, "metadata");
    char *path = weft_path_join(c, folder, name);
    char *text = cJSON_AddNumberToObject(metadata, "total_size", (double)total) ? cJSON_Print(index) : NULL;
    if (!text) weft_fail(c, WEFT_E_MEMORY, "%s: no memory for %s", folder, name);
    else if (path && !weft_file_save(c, path, text, strlen(text))) { /* told */ }
    cJSON_free(text);
    weft_text_free(path);
}

static void write_shards(
    weft_ctx *c, const struct writing *w, const char *folder, const char *stem, int64_t most, int shards) {
    char name[PARAM_STEM + 48];
    cJSON *index = cJSON_CreateObject(), *map = NULL;
    if (cJSON_AddObjectToObject(index, "metadata")) map = cJSON_AddObjectToObject(index, "weight_map");
    if (!map) weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the index of the shards", folder);
    int64_t from = 0, total = 0;
    for (int k = 1; k <= shards && weft_ok(c); k++) {
        int64_t end = shard_end(w, from, most);
        snprintf(name, sizeof name, "%s-%05d-of-%05d.safetensors", stem, k, shards);
        if (!write_shard(c, w, from, end, folder, name, map)) break;
        for (; from < end; from++) total += bytes_of(&w->items[from]);
    }
    if (weft_ok(c)) write_index(c, index, folder, stem, total);
    cJSON_Delete(index);
}

weft_status weft_tree_write_folder(weft_ctx *c, weft_tree *t, const char *prefix, const char *folder, const char *stem,
    weft_dtype type, int64_t most) {
    char name[PARAM_STEM + 16];
    struct writing w = { 0 };
    if (!weft_ok(c)) return weft_error(c);
    if (strlen(stem) > PARAM_STEM) return weft_fail(c, WEFT_E_ARGUMENT, "%s: a name of a file that is too long", stem);
    snprintf(name, sizeof name, "%s.safetensors", stem);
    char *path = weft_path_join(c, folder, name);
    if (!path || !writing_begin(c, t, prefix, path, type, &w)) goto out;
    int64_t shards = 0;
    for (int64_t i = 0; i < w.count; shards++) i = shard_end(&w, i, most);
    if (shards > WEFT_SHARDS_MOST)
        weft_fail(c, WEFT_E_ARGUMENT, "%s: would be %lld shards of at most %lld bytes; there can be %d", path,
            (long long)shards, (long long)most, WEFT_SHARDS_MOST);
    else if (shards > 1) write_shards(c, &w, folder, stem, most, (int)shards);
    else if (weft_st_write(c, path, w.items, w.count, layout)) goto out;
out:
    writing_end(&w);
    weft_text_free(path);
    return weft_error(c);
}
