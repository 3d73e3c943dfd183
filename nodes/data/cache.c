/* See cache.h. The checksum is over each tensor's name, type, shape and bytes, in the file's order. */
#include "nodes/data/cache.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct weft_cache {
    char *folder;
    weft_ctx *quiet;            /* what is wrong with an entry is no error of the caller's */
    weft_cache_stats stats;
};

/* Makes the folder and what is above it; false with errno. */
static bool make_folders(char *path) {
    for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        bool made = !mkdir(path, 0777) || errno == EEXIST;
        *slash = '/';
        if (!made) return false;
    }
    struct stat s;
    if (!mkdir(path, 0777)) return true;
    if (errno == EEXIST && !stat(path, &s) && !S_ISDIR(s.st_mode)) errno = ENOTDIR;
    return errno == EEXIST;
}

weft_cache *weft_cache_open(weft_ctx *c, const char *folder) {
    if (!weft_ok(c)) return NULL;
    weft_cache *k = calloc(1, sizeof *k);
    if (k) k->folder = strdup(folder);
    if (k) k->quiet = weft_ctx_new(&(weft_options){ .device = "cpu", .threads = 1 });
    if (!k || !k->folder || !k->quiet) weft_fail(c, WEFT_E_MEMORY, "cache: out of memory");
    else if (!*folder || strlen(folder) > PATH_MAX - 64 || !make_folders(k->folder))
        weft_fail(c, WEFT_E_FILE, "%s: the cache's folder cannot be made: %s", folder,
                  *folder && errno ? strerror(errno) : "no good name");
    else return k;
    weft_cache_close(k);
    return NULL;
}

void weft_cache_close(weft_cache *k) {
    if (!k) return;
    weft_ctx_free(k->quiet);
    free(k->folder);
    free(k);
}

weft_cache_stats weft_cache_stats_of(const weft_cache *k) { return k->stats; }

/* The entry's path; `cut` (may be NULL) gets where its last part begins. */
static void path_of(const weft_cache *k, weft_hash key, char path[PATH_MAX], size_t *cut) {
    char hex[33];
    weft_hash_hex(key, hex);
    int n = snprintf(path, PATH_MAX, "%s/%.2s", k->folder, hex);
    if (cut) *cut = (size_t)n;
    snprintf(path + n, PATH_MAX - (size_t)n, "/%s.safetensors", hex);
}

static void sign_header(weft_hash *h, const char *name, weft_dtype type, int rank, const int64_t *shape) {
    weft_hash_text(h, name);
    weft_hash_word(h, type);
    weft_hash_bytes(h, shape, (size_t)rank * sizeof *shape);
}

/* Whether the open file is the whole entry of this key. */
static bool is_whole(const weft_safetensors *f, weft_hash key) {
    char hex[33];
    weft_hash sum = { 0, 0 };
    const char *said_key = weft_st_metadata(f, "weft_key"), *said_sum = weft_st_metadata(f, "weft_checksum");
    if (!said_key || !said_sum || strcmp(said_key, weft_hash_hex(key, hex))) return false;
    for (int64_t i = 0; i < weft_st_count(f); i++) {
        const weft_st_entry *e = weft_st_at(f, i);
        weft_hash one = { 0, 0 };
        sign_header(&one, e->name, e->type, e->rank, e->shape);
        weft_hash_bytes(&one, e->data, e->bytes);
        sum.a += one.a;                     /* the order plays no part */
        sum.b += one.b;
    }
    return !strcmp(said_sum, weft_hash_hex(sum, hex));
}

/* The open entry; NULL where there is none, or with the error set. */
static weft_safetensors *open_entry(weft_ctx *c, weft_cache *k, weft_hash key) {
    char path[PATH_MAX];
    path_of(k, key, path, NULL);
    if (access(path, F_OK)) {
        k->stats.missing++;
        return NULL;
    }
    weft_safetensors *f = weft_st_open(k->quiet, path);
    if (!f && weft_error(k->quiet) == WEFT_E_MEMORY) weft_fail(c, WEFT_E_MEMORY, "%s", weft_message(k->quiet));
    weft_clear(k->quiet);
    if (f && is_whole(f, key)) return f;
    k->stats.broken++;
    weft_st_close(f);
    return NULL;
}

bool weft_cache_get(weft_ctx *c, weft_cache *k, weft_hash key, const char *const *names, int n, weft_tensor **out) {
    if (!weft_ok(c)) return false;
    weft_safetensors *f = open_entry(c, k, key);
    bool there = f;
    for (int i = 0; f && i < n; i++) there = there && weft_st_find(f, names[i]);
    for (int i = 0; i < n; i++) out[i] = there ? weft_st_tensor(c, f, weft_st_find(f, names[i])) : NULL;
    weft_st_close(f);
    if (f && there) k->stats.found++;
    else if (f) k->stats.missing++;
    return there && weft_ok(c);
}

/* Adds an item to the sum as is_whole() will find it. */
static bool sign_item(weft_ctx *c, const weft_st_item *item, weft_hash *sum) {
    weft_tensor *t = weft_cast(c, item->tensor, item->type);
    size_t bytes = t ? (size_t)weft_count(t) * weft_dtype_size(item->type) : 0;
    void *data = t ? malloc(bytes + 1) : NULL;
    weft_hash one = { 0, 0 };
    if (t && !data) weft_fail(c, WEFT_E_MEMORY, "cache: out of memory");
    if (data && !weft_read(c, t, data, bytes)) {
        sign_header(&one, item->name, item->type, weft_rank(t), weft_shape(t));
        weft_hash_bytes(&one, data, bytes);
        sum->a += one.a;
        sum->b += one.b;
    }
    free(data);
    return weft_ok(c);
}

weft_status weft_cache_put(weft_ctx *c, weft_cache *k, weft_hash key, const weft_st_item *items, int n) {
    char path[PATH_MAX], hex[33], sum_hex[33];
    size_t cut;
    weft_hash sum = { 0, 0 };
    if (!weft_ok(c)) return weft_error(c);
    weft_scope s = weft_scope_named(c, "cache");
    for (int i = 0; i < n && sign_item(c, &items[i], &sum);) i++;
    path_of(k, key, path, &cut);
    path[cut] = 0;
    if (weft_ok(c) && mkdir(path, 0777) && errno != EEXIST)
        weft_fail(c, WEFT_E_FILE, "%s: cannot be made: %s", path, strerror(errno));
    path[cut] = '/';
    const char *const facts[] = { "weft_key", weft_hash_hex(key, hex), "weft_checksum", weft_hash_hex(sum, sum_hex),
                                  NULL };
    if (weft_ok(c) && !weft_st_write(c, path, items, n, facts)) k->stats.written++;
    weft_scope_end(c, s, NULL);
    return weft_error(c);
}
