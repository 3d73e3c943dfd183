/* Weights and inputs that a golden script and a test both compute, so that golden files hold results only.
 *
 * A value depends on the tensor's name and the element's index i (in the file's order, NCHW for pictures) alone:
 *     z = splitmix64(fnv1a64(name) + (i + 1)·0x9E3779B97F4A7C15),  b = (z >> 56) − 128, so −128…127
 *     rank ≥ 2:                           b·2^(−7 − ⌊(bits(fan_in) − 1)/2⌋), fan_in: the product of all sizes but the first,
 *                                         bits(): binary digits; about ±1/√fan_in
 *     rank 1, name ends in "weight":      1 + ⌊b/8⌋·2^−6     (norms)
 *     rank 1, other:                      b·2^−10            (biases)
 *     inputs:                             b·2^−exponent
 * Every value has 8 significant bits, so f16 and bf16 hold it exactly. tests/golden/golden_weights.py is the other side.
 * FNV-1a: Fowler, Noll, Vo. splitmix64: Steele, Lea, Flood 2014.
 */
#ifndef WEFT_GOLDEN_WEIGHTS_H
#define WEFT_GOLDEN_WEIGHTS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/params.h"

static inline uint64_t golden_seed(const char *name) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *name; name++) h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return h;
}

/* −128…127 */
static inline int golden_byte(uint64_t seed, int64_t i) {
    uint64_t z = seed + ((uint64_t)i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (int)(z >> 56) - 128;
}

/* Fills a weight of this name and shape. */
static inline void golden_weight(const char *name, int rank, const int64_t *shape, float *dst) {
    uint64_t seed = golden_seed(name);
    int64_t count = 1, fan_in = 1;
    int bits = 0;
    size_t length = strlen(name);
    for (int i = 0; i < rank; i++) count *= shape[i];
    for (int i = 1; i < rank; i++) fan_in *= shape[i];
    for (int64_t v = fan_in; v; v >>= 1) bits++;
    bool norm = rank == 1 && length >= 6 && !strcmp(name + length - 6, "weight");
    float scale = rank >= 2 ? ldexpf(1, -7 - (bits - 1) / 2) : norm ? ldexpf(1, -6) : ldexpf(1, -10);
    for (int64_t i = 0; i < count; i++) {
        int b = golden_byte(seed, i);
        dst[i] = norm ? 1 + (float)((b + 128) / 8 - 16) * scale : (float)b * scale;
    }
}

/* A tensor of inputs, f32, of this shape; b·2^−exponent. */
static inline weft_tensor *golden_input(weft_ctx *c, const char *name, int exponent, int rank, const int64_t *shape) {
    uint64_t seed = golden_seed(name);
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= shape[i];
    float *values = malloc((size_t)(count ? count : 1) * sizeof *values);
    if (!values) return NULL;
    for (int64_t i = 0; i < count; i++) values[i] = (float)golden_byte(seed, i) * ldexpf(1, -exponent);
    weft_tensor *t = weft_tensor_from(c, WEFT_F32, rank, shape, values);
    free(values);
    return t;
}

/* A tree with a weight of this kind, stored as `type`, for everything that the walk asks for. NULL with the error set. */
static inline weft_tree *golden_tree(weft_ctx *c, const char *name, weft_walk_fn *walk, void *user, weft_dtype type) {
    weft_tree *list = weft_tree_new(c, name), *tree = weft_tree_new(c, name);
    weft_scope s = weft_scope_named(c, "golden");
    if (!list || !tree) goto out;
    weft_tree_make(list, WEFT_F32, 0);
    if (weft_tree_check(c, list, walk, user, false)) goto out;
    for (int64_t i = 0; i < weft_tree_count(list) && weft_ok(c); i++) {
        const char *key = NULL;
        weft_scope one = weft_scope_named(c, "weight");
        weft_tensor *t = weft_tree_plain(c, list, i, &key);
        int64_t shape[WEFT_MAX_RANK];
        int rank = weft_rank(t);
        if (!t || !key) break;
        memcpy(shape, weft_shape(t), (size_t)rank * sizeof *shape);
        float *values = malloc((size_t)weft_count(t) * sizeof *values);
        if (!values) weft_fail(c, WEFT_E_MEMORY, "no memory for %s", key);
        else {
            golden_weight(key, rank, shape, values);
            t = weft_cast(c, weft_tensor_from(c, WEFT_F32, rank, shape, values), type);
            if (t && weft_tree_add(c, tree, key, t)) t = NULL;
        }
        free(values);
        weft_scope_end(c, one, NULL);
    }
out:
    weft_scope_end(c, s, NULL);
    weft_tree_free(list);
    if (weft_ok(c)) return tree;
    weft_tree_free(tree);
    return NULL;
}

#endif
