/* Filling a tree from files: one, or the shards that an index names (huggingface_hub's layout: {"weight_map":
 * {"name": "file", …}}). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/params_internal.h"

#define INDEX_MOST ((size_t)64 << 20)

weft_status weft_tree_add_file(weft_ctx *c, weft_tree *t, const char *path, weft_rename_fn *rename, void *user) {
    char renamed[PARAM_ROOM];
    if (!weft_ok(c)) return weft_error(c);
    weft_safetensors *file = weft_st_open(c, path);
    if (!file) return weft_error(c);
    int64_t count = weft_st_count(file);
    struct param_source *source = weft_host_alloc(sizeof *source + (size_t)count * sizeof *source->pins);
    if (!source) {
        weft_st_close(file);
        return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for its names", path);
    }
    source->file = file;
    source->next = t->sources;
    t->sources = source;
    weft_tree_set_frozen(t, true);
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    for (int64_t i = 0; i < count; i++) {
        const weft_st_entry *e = weft_st_at(file, i);
        const char *name = e->name;
        if (rename && !rename(user, e, renamed, sizeof renamed)) continue;
        if (rename) name = renamed;
        source->pins[i] = (struct param_pin){ file, e };
        if (!param_add(t, name, weft_st_tensor(c, file, e), &source->pins[i])) break;
    }
    weft_scope_end(c, s, NULL);
    return weft_error(c);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static bool shard_fault(weft_ctx *c, const char *index, const char *shard, const char *what) {
    weft_fail(c, WEFT_E_FORMAT, "%s: names the file \"%.200s\", %s", index, shard, what);
    return false;
}

/* The files that the index names, each once, to be freed by weft_host_free(); NULL with the error set. */
static const char **shard_names(weft_ctx *c, const char *index, const cJSON *map, int *count) {
    int n = 0;
    const cJSON *item;
    const char **names = weft_host_alloc(((size_t)cJSON_GetArraySize(map) + 1) * sizeof *names);
    if (!names) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory for its names", index);
        return NULL;
    }
    cJSON_ArrayForEach(item, map) {
        if (cJSON_IsString(item)) names[n++] = item->valuestring;
        else
            weft_fail(
                c, WEFT_E_FORMAT, "%s: weight_map: expected names of files, found %s", index, weft_json_kind(item));
    }
    qsort(names, (size_t)n, sizeof *names, by_text);
    *count = 0;
    for (int i = 0; i < n && weft_ok(c); i++) {
        if (*count && !strcmp(names[*count - 1], names[i])) continue;
        if (!weft_path_is_plain(names[i])) shard_fault(c, index, names[i], "which is not a plain name of a file");
        names[(*count)++] = names[i];
    }
    if (weft_ok(c)) return names;
    weft_host_free(names);
    return NULL;
}

static bool add_shard(weft_ctx *c, weft_tree *t, const char *folder, const char *index, const char *shard) {
    char *path = weft_path_join(c, folder, shard);
    if (!path) return false;
    bool ok = access(path, F_OK) ? shard_fault(c, index, shard, "which is not there")
                                 : weft_tree_add_file(c, t, path, NULL, NULL) == WEFT_OK;
    weft_text_free(path);
    return ok;
}

static void add_shards(weft_ctx *c, weft_tree *t, const char *folder, const char *index) {
    int count = 0;
    const char **shards = NULL;
    const cJSON *item, *map = NULL;
    cJSON *root = weft_json_read(c, index, INDEX_MOST, 0);
    if (root) map = weft_json_need(&(weft_json){ c, index, root }, "weight_map");
    if (map && !cJSON_IsObject(map))
        weft_fail(c, WEFT_E_FORMAT, "%s: weight_map: expected an object, found %s", index, weft_json_kind(map));
    if (map && weft_ok(c)) shards = shard_names(c, index, map, &count);
    for (int i = 0; i < count && shards; i++)
        if (!add_shard(c, t, folder, index, shards[i])) break;
    if (shards && weft_ok(c)) {
        cJSON_ArrayForEach(item, map) {
            uint32_t node = param_find(t, 0, item->string);
            if (!node || !t->nodes[node].tensor)
                weft_fail(c, WEFT_E_FORMAT, "%s: %.200s is in none of its files", index, item->string);
        }
    }
    weft_host_free(shards);
    cJSON_Delete(root);
}

weft_status weft_tree_add_folder(weft_ctx *c, weft_tree *t, const char *folder, const char *stem) {
    char name[PARAM_STEM + 32];
    char *single = NULL, *index = NULL;
    if (!weft_ok(c)) return weft_error(c);
    if (strlen(stem) > PARAM_STEM) return weft_fail(c, WEFT_E_ARGUMENT, "%s: a name of a file that is too long", stem);
    snprintf(name, sizeof name, "%s.safetensors.index.json", stem);
    index = weft_path_join(c, folder, name);
    snprintf(name, sizeof name, "%s.safetensors", stem);
    single = weft_path_join(c, folder, name);
    if (!index || !single) goto out;
    if (!access(single, F_OK)) {
        if (weft_tree_add_file(c, t, single, NULL, NULL)) goto out;
    } else if (!access(index, F_OK)) {
        add_shards(c, t, folder, index);
    } else {
        weft_fail(c, WEFT_E_FILE, "%s: has neither %s.safetensors nor %s.safetensors.index.json", folder, stem, stem);
    }
out:
    weft_text_free(single);
    weft_text_free(index);
    return weft_error(c);
}
