/* Tensors kept on disk under a key: latents and text embeddings that are made once.
 *
 * A key is a hash over all that the tensors follow from: the picture's bytes, how it was scaled, the model's signature
 * (hash.h, weft_dataset_sign()). An entry is FOLDER/ab/abc….safetensors, complete or not there, and carries its key and
 * a checksum of its data: what is broken, cut short or not what its name says counts as not there and is made anew.
 */
#ifndef WEFT_CACHE_H
#define WEFT_CACHE_H

#include "runtime/hash.h"
#include "runtime/safetensors.h"

typedef struct weft_cache weft_cache;

/* The folder is made where it is not there; NULL with the error set. */
weft_cache *weft_cache_open(weft_ctx *c, const char *folder);
void weft_cache_close(weft_cache *k);       /* takes NULL; tensors that were taken from it live on */

/* The entry's n tensors of these names to out, in the innermost scope. False where there is no whole entry that has
 * them all, or with the error set. */
bool weft_cache_get(weft_ctx *c, weft_cache *k, weft_hash key, const char *const *names, int n, weft_tensor **out);
weft_status weft_cache_put(weft_ctx *c, weft_cache *k, weft_hash key, const weft_st_item *items, int n) WEFT_MUST_CHECK;

typedef struct weft_cache_stats { int64_t found, missing, broken, written; } weft_cache_stats;
weft_cache_stats weft_cache_stats_of(const weft_cache *k);

#endif
