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

struct outer_args {
    int64_t segs, k;                        /* `segs` stretches of `k` steps each */
    const float *a; int64_t a_seg;          /* floats from one stretch to the next; steps lie OUTER_ROWS apart */
    const float *b[OUTER_VECTORS]; int64_t b_seg, b_step;
    float *c;
};
typedef void outer_fn(const struct outer_args *t);

/* [add to C][vectors − 1] */
extern outer_fn *const ISA_NAME(weft_outer)[2][OUTER_VECTORS];

#endif
