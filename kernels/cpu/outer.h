/* The inner loop of products whose sum runs over rows of both operands, as weight gradients do: C += Σ over k of a(k)ᵀ·b(k), held
 * in registers. Both operands are packed with the sum's steps one behind the other: a in panels of OUTER_ROWS, b in panels of VL.
 *
 * A tile has OUTER_ROWS (VL or half of it) rows and up to OUTER_VECTORS vectors of columns, each vector from a panel (or a place in one) of its own:
 * for a convolution the same channels under neighbouring taps. C is [vectors][OUTER_ROWS][VL].
 */
#ifndef WEFT_OUTER_H
#define WEFT_OUTER_H

#include "kernels/cpu/simd.h"

#define OUTER_VECTORS 3
#if VL == 16
#define OUTER_ROWS 8
#elif VL == 8
#define OUTER_ROWS 4
#else
#define OUTER_ROWS 4
#endif
#define OUTER_CHAIN 128     /* steps after which sums go to C and start again: the longest chain of additions; b's part stays in L1 */

struct outer_args {
    int64_t segs, k;                        /* `segs` stretches of `k` steps each */
    const float *a; int64_t a_seg, a_step;  /* floats from one stretch, and one step, to the next */
    const float *b[OUTER_VECTORS]; int64_t b_seg, b_step;
    float *c;
};
typedef void outer_fn(const struct outer_args *t);

/* One step of an operand into panels of `width`, `panel` floats apart; zeros behind the last value. */
INLINE void outer_pack(const int width, const float *from, int64_t count, float *to, int64_t panel) {
    int64_t i = 0;
    for (; i + width <= count; i += width, to += panel) memcpy(to, from + i, (size_t)width * sizeof(float));
    if (i == count) return;
    for (int k = 0; k < width; k++) to[k] = i + k < count ? from[i + k] : 0;
}

/* [add to C][vectors − 1] */
extern outer_fn *const ISA_NAME(weft_outer)[2][OUTER_VECTORS];

/* A matmul of one batch whose a_row and b_col are 1: outer_product.c. WEFT_K_NO_MEMORY, with nothing done, for want of scratch. */
int ISA_NAME(weft_outer_product)(const weft_env *env, const weft_matmul_args *a);

#endif
