/* See hash.h: two accumulators, each mixed by the finaliser of MurmurHash3 (A. Appleby) after every word. */
#include <inttypes.h>
#include <string.h>
#include "runtime/hash.h"

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
    return x ^ (x >> 33);
}

void weft_hash_word(weft_hash *h, uint64_t word) {
    h->a = mix(h->a ^ word) + 0x9e3779b97f4a7c15u;
    h->b = mix(h->b + word * 0xd6e8feb86659fd93u) ^ h->a;
}

void weft_hash_bytes(weft_hash *h, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    weft_hash_word(h, n);
    while (n) {
        uint64_t word = 0;
        size_t k = n < 8 ? n : 8;
        memcpy(&word, p, k);
        weft_hash_word(h, word);
        p += k;
        n -= k;
    }
}

void weft_hash_text(weft_hash *h, const char *text) { weft_hash_bytes(h, text, strlen(text)); }

const char *weft_hash_hex(weft_hash h, char out[33]) {
    snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, h.a, h.b);
    return out;
}
