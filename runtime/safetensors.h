/* safetensors files: u64 little-endian header length, JSON header, raw data. Format: huggingface/safetensors.
 *
 * Reading maps the file and checks all of it before anything is used: header ≤100 MB, strict JSON, duplicate names,
 * known types, at most WEFT_MAX_RANK dimensions, shape × size == extent, extents without overlap or gap, up to the
 * file's end. Writing goes to a temporary name in the same folder, is synced, then renamed.
 *
 * A mapped file must not be cut short while it is in use: the system answers a read past the new end by SIGBUS.
 * Replacing it by a new file of the same name (as Weft and most programs write) does no harm.
 */
#ifndef WEFT_SAFETENSORS_H
#define WEFT_SAFETENSORS_H

#include "runtime/weft.h"

typedef struct weft_safetensors weft_safetensors;

typedef struct weft_st_entry {
    const char *name;           /* UTF-8, owned by the file */
    weft_dtype type;
    int rank;
    int64_t shape[WEFT_MAX_RANK];
    const void *data;           /* inside the mapping; may lie at an odd address */
    size_t bytes;
    /* a type that Weft does not have ("F8_E4M3"): the entry is then its bytes, as u8; NULL otherwise */
    const char *foreign;
} weft_st_entry;

/* NULL with the context's error set: the message names the file and what is wrong with it. Counted references;
 * tensors made from it hold one each. Tensors of types Weft does not have (BOOL, F8_*, …) are listed with their
 * bytes as u8 and named in the error only when somebody asks for them as a parameter. */
weft_safetensors *weft_st_open(weft_ctx *c, const char *path);
/* The same from bytes in memory, which must outlive it (tests, fuzzers). */
weft_safetensors *weft_st_open_memory(weft_ctx *c, const char *name, const void *bytes, size_t size);
void weft_st_close(weft_safetensors *f);            /* takes NULL */
const char *weft_st_path(const weft_safetensors *f);
int64_t weft_st_count(const weft_safetensors *f);
const weft_st_entry *weft_st_at(const weft_safetensors *f, int64_t i);              /* in the order of the data */
const weft_st_entry *weft_st_find(const weft_safetensors *f, const char *name);     /* NULL where there is none */
/* __metadata__: the value of a key, NULL where there is none; or the i-th pair (false past the end). */
const char *weft_st_metadata(const weft_safetensors *f, const char *key);
bool weft_st_metadata_at(const weft_safetensors *f, int64_t i, const char **key, const char **value);
/* A tensor on the mapping (no copy on a CPU, unless its address does not suit its type), in the innermost scope. */
weft_tensor *weft_st_tensor(weft_ctx *c, weft_safetensors *f, const weft_st_entry *e);
/* Tells the system that the entry's pages are not needed for now (they were packed). */
void weft_st_drop_pages(weft_safetensors *f, const weft_st_entry *e);

/* One tensor to write: read from t (any strides), stored as `type`. */
typedef struct weft_st_item { const char *name; weft_tensor *tensor; weft_dtype type; } weft_st_item;
/* metadata: NULL or key, value, …, NULL. In the order of the reference library (wider types first, which aligns them
 * all, then by name); the file is complete or not there. */
weft_status weft_st_write(
    weft_ctx *c, const char *path, const weft_st_item *items, int64_t n, const char *const *metadata) WEFT_MUST_CHECK;

#endif
