/* Files of weights; see source.h. The names of variants and shards are those that diffusers writes (utils/constants.py,
 * _add_variant). */
#include "nodes/checkpoint/source.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/params.h"

#define INDEX_LIMIT ((size_t)16 << 20)

bool weft_path_has_file(const char *folder, const char *name) {
    char path[4096];
    struct stat st;
    int length = snprintf(path, sizeof path, name ? "%s/%s" : "%s", folder, name);
    return length > 0 && (size_t)length < sizeof path && !stat(path, &st) && !S_ISDIR(st.st_mode);
}

bool weft_path_has_folder(const char *folder, const char *name) {
    char path[4096];
    struct stat st;
    int length = snprintf(path, sizeof path, name ? "%s/%s" : "%s", folder, name);
    return length > 0 && (size_t)length < sizeof path && !stat(path, &st) && S_ISDIR(st.st_mode);
}

static bool has_ending(const char *path, const char *const *endings) {
    const char *dot = strrchr(path, '.');
    for (; dot && *endings; endings++)
        if (!strcasecmp(dot, *endings)) return true;
    return false;
}

/* Other formats are told by their first bytes, PyTorch's also by the usual endings. */
static weft_status check_format(weft_ctx *c, const char *path) {
    static const char *const pickles[] = { ".ckpt", ".pt", ".pth", ".bin", ".pkl", NULL };
    unsigned char head[8] = { 0 };
    struct stat st;
    FILE *f = stat(path, &st) || !S_ISREG(st.st_mode) ? NULL : fopen(path, "rb");
    size_t got = f ? fread(head, 1, sizeof head, f) : 0;
    if (!f) return WEFT_OK;     /* opening it for good tells why */
    fclose(f);
    if (got >= 4 && !memcmp(head, "GGUF", 4))
        return weft_fail(c, WEFT_E_FORMAT,
                         "%s: is a GGUF file, which Weft does not read; the same model as .safetensors is needed",
                         path);
    if (has_ending(path, pickles) || (got >= 4 && !memcmp(head, "PK\3\4", 4)) ||
        (got >= 2 && head[0] == 0x80 && head[1] <= 5 && head[2]))
        return weft_fail(c, WEFT_E_FORMAT,
                         "%s: is a pickle of PyTorch, which can run any program when it is opened, so Weft does not; "
                         "convert it to .safetensors (in Python: safetensors.torch.save_file(torch.load(FILE, "
                         "weights_only=True)[\"state_dict\"], NEW))", path);
    return WEFT_OK;
}

weft_status weft_source_open_file(weft_ctx *c, weft_source *s, const char *path) {
    if (!weft_ok(c) || check_format(c, path)) return weft_error(c);
    weft_safetensors **files = realloc(s->files, (size_t)(s->count + 1) * sizeof *files);
    if (!files) return weft_fail(c, WEFT_E_MEMORY, "%s: no memory to open it", path);
    s->files = files;
    s->files[s->count] = weft_st_open(c, path);
    if (s->files[s->count]) s->count++;
    return weft_error(c);
}

static weft_status open_in(weft_ctx *c, weft_source *s, const char *folder, const char *name) {
    char *path = weft_path_join(c, folder, name);
    weft_status status = path ? weft_source_open_file(c, s, path) : weft_error(c);
    weft_text_free(path);
    return status;
}

static bool is_open(const weft_source *s, const char *name) {
    for (int i = 0; i < s->count; i++) {
        const char *path = weft_st_path(s->files[i]), *slash = strrchr(path, '/');
        if (!strcmp(slash ? slash + 1 : path, name)) return true;
    }
    return false;
}

weft_status weft_source_open_shards(weft_ctx *c, weft_source *s, const char *folder, const char *index) {
    char *path = weft_path_join(c, folder, index);
    cJSON *tree = path ? weft_json_read(c, path, INDEX_LIMIT, 0) : NULL;
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(tree, "weight_map"), *item;
    if (tree && (!cJSON_IsObject(map) || !map->child))
        weft_fail(c, WEFT_E_FORMAT, "%s: weight_map: expected an object with the files of all tensors", path);
    cJSON_ArrayForEach(item, map) {
        if (!weft_ok(c)) break;
        if (!cJSON_IsString(item) || !weft_path_is_plain(item->valuestring)) {
            weft_fail(c, WEFT_E_FORMAT, "%s: weight_map: expected names of files in the same folder", path);
        } else if (!is_open(s, item->valuestring)) {
            if (s->count == WEFT_SHARDS_MOST)
                weft_fail(c, WEFT_E_FORMAT, "%s: weight_map: more than %d files", path, WEFT_SHARDS_MOST);
            else if (open_in(c, s, folder, item->valuestring)) break;
        }
    }
    cJSON_Delete(tree);
    weft_text_free(path);
    return weft_error(c);
}

weft_status weft_source_open_folder(weft_ctx *c, weft_source *s, const char *folder, const char *stem) {
    static const struct { const char *format; bool index; } names[] = {
        { "%s.safetensors", false }, { "%s.safetensors.index.json", true }, { "%s.fp16.safetensors", false },
        { "%s.safetensors.index.fp16.json", true }, { "%s.fp16.safetensors.index.json", true },
        { "%s.non_ema.safetensors", false },
    };
    static const char *const pickles[] = { "%s.bin", "%s.fp16.bin", "pytorch_%s.bin", "pytorch_%s.fp16.bin" };
    char name[128], looked[768] = "";
    if (!weft_ok(c)) return weft_error(c);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(name, sizeof name, names[i].format, stem);
        if (weft_path_has_file(folder, name))
            return names[i].index ? weft_source_open_shards(c, s, folder, name) : open_in(c, s, folder, name);
        size_t at = strlen(looked);
        snprintf(looked + at, sizeof looked - at, "%s%s", i ? ", " : "", name);
    }
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        snprintf(name, sizeof name, pickles[i], stem);
        if (weft_path_has_file(folder, name)) return open_in(c, s, folder, name);
    }
    return weft_fail(c, WEFT_E_FILE, "%s: no weights here; looked for %s", folder, looked);
}

void weft_source_close(weft_source *s) {
    for (int i = 0; i < s->count; i++) weft_st_close(s->files[i]);
    free(s->files);
    *s = (weft_source){ 0 };
}

const weft_st_entry *weft_source_find(const weft_source *s, const char *name, weft_safetensors **file) {
    for (int i = 0; i < s->count; i++) {
        const weft_st_entry *e = weft_st_find(s->files[i], name);
        if (!e) continue;
        if (file) *file = s->files[i];
        return e;
    }
    return NULL;
}

static bool has_name(const void *user, const char *name) {
    return weft_source_find(user, name, NULL) != NULL;
}

const weft_st_entry *weft_source_at(const weft_source *s, int64_t i) {
    for (int k = 0; k < s->count; i -= weft_st_count(s->files[k++]))
        if (i < weft_st_count(s->files[k])) return weft_st_at(s->files[k], i);
    return NULL;
}

static const char *name_at(const void *user, int64_t i) {
    const weft_st_entry *e = weft_source_at(user, i);
    return e ? e->name : NULL;
}

weft_name_list weft_source_names(const weft_source *s) {
    return (weft_name_list){ has_name, name_at, s };
}
