/* Opening safetensors files: the mapping, the look-ups, tensors on it. The header is read in safetensors_header.c. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "runtime/file.h"
#include "runtime/internal.h"
#include "runtime/safetensors_internal.h"

static weft_safetensors *file_new(weft_ctx *c, const char *path) {
    weft_safetensors *f = weft_host_alloc(sizeof *f);
    if (f) f->path = weft_host_alloc(strlen(path) + 1);
    if (f && f->path) {
        strcpy(f->path, path);
        atomic_init(&f->owners, 1);
        return f;
    }
    weft_host_free(f);
    weft_fail(c, WEFT_E_MEMORY, "%s: no memory to open it", path);
    return NULL;
}

static weft_safetensors *read_header(weft_ctx *c, weft_safetensors *f) {
    if (st_read_header(c, f)) return f;
    weft_st_close(f);
    return NULL;
}

weft_safetensors *weft_st_open(weft_ctx *c, const char *path) {
    size_t size = 0;
    int fd = weft_file_open(c, path, &size);
    if (fd < 0) return NULL;
    weft_safetensors *f = file_new(c, path);
    if (f && size) {
        void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            weft_fail(c, WEFT_E_FILE, "%s: cannot be mapped: %s", path, strerror(errno));
            weft_st_close(f);
            f = NULL;
        } else {
            f->bytes = map;
            f->size = size;
            f->mapped = true;
        }
    }
    close(fd);
    return f ? read_header(c, f) : NULL;
}

weft_safetensors *weft_st_open_memory(weft_ctx *c, const char *name, const void *bytes, size_t size) {
    weft_safetensors *f = file_new(c, name);
    if (!f) return NULL;
    f->bytes = bytes;
    f->size = size;
    return read_header(c, f);
}

void weft_st_close(weft_safetensors *f) {
    if (!f || atomic_fetch_sub(&f->owners, 1) > 1) return;
    if (f->mapped) munmap((void *)f->bytes, f->size);
    weft_host_free(f->entries);
    weft_host_free(f->by_name);
    weft_host_free(f->pairs);
    weft_host_free(f->strings);
    weft_host_free(f->path);
    weft_host_free(f);
}

const char *weft_st_path(const weft_safetensors *f) { return f->path; }
int64_t weft_st_count(const weft_safetensors *f) { return f->count; }

const weft_st_entry *weft_st_at(const weft_safetensors *f, int64_t i) {
    return i >= 0 && i < f->count ? &f->entries[i] : NULL;
}

static int name_order(const void *name, const void *entry) {
    return strcmp(name, (*(const weft_st_entry *const *)entry)->name);
}

const weft_st_entry *weft_st_find(const weft_safetensors *f, const char *name) {
    const weft_st_entry **found = bsearch(name, f->by_name, (size_t)f->count, sizeof *f->by_name, name_order);
    return found ? *found : NULL;
}

static int key_order(const void *key, const void *pair) { return strcmp(key, ((const struct st_pair *)pair)->key); }

const char *weft_st_metadata(const weft_safetensors *f, const char *key) {
    const struct st_pair *found =
        f->pair_count ? bsearch(key, f->pairs, (size_t)f->pair_count, sizeof *f->pairs, key_order) : NULL;
    return found ? found->value : NULL;
}

bool weft_st_metadata_at(const weft_safetensors *f, int64_t i, const char **key, const char **value) {
    if (i < 0 || i >= f->pair_count) return false;
    *key = f->pairs[i].key;
    *value = f->pairs[i].value;
    return true;
}

static void release(void *user) { weft_st_close(user); }

weft_tensor *weft_st_tensor(weft_ctx *c, weft_safetensors *f, const weft_st_entry *e) {
    atomic_fetch_add(&f->owners, 1);
    return weft_tensor_borrow(c, e->type, e->rank, e->shape, e->data, release, f);
}

void weft_st_drop_pages(weft_safetensors *f, const weft_st_entry *e) {
    if (!f->mapped) return;
    /* Whole pages inside the entry alone: the others belong to its neighbours too. */
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)e->data + page - 1) / page * page;
    uintptr_t to = ((uintptr_t)e->data + e->bytes) / page * page;
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}
