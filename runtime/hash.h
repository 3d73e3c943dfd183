/* A 128-bit hash of words and bytes: signatures of work and of files, never a protection against an adversary. The same
 * on every machine with the same byte order. */
#ifndef WEFT_HASH_H
#define WEFT_HASH_H

#include "runtime/weft.h"

typedef struct weft_hash { uint64_t a, b; } weft_hash;      /* starts as zeros */

void weft_hash_word(weft_hash *h, uint64_t word);
void weft_hash_bytes(weft_hash *h, const void *bytes, size_t n);    /* the length counts too */
void weft_hash_text(weft_hash *h, const char *text);
static inline bool weft_hash_equal(weft_hash x, weft_hash y) { return x.a == y.a && x.b == y.b; }
/* 32 hexadecimal digits; returns out. */
const char *weft_hash_hex(weft_hash h, char out[33]);

#endif
