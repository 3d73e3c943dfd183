/* The inner loop of every product: C(rows × NR) = or += A(rows × k)·B(k × NR), held in registers.
 *
 * A is read through row pointers, so that a convolution needs no copy of its windows: `segs` arrays of row pointers,
 * `segs_stride` apart, give the k values of one segment each (a filter tap); `offset` is added to every pointer.
 * B is packed weights (pack.c): panels of PANEL columns, [segs·k][PANEL]; a tile takes NR/PANEL of them, `panel` floats apart.
 * C has rows of NR floats. Its sums run in order over segs and k whatever the number of rows, so a row's result does not
 * depend on the tile that it falls in.
 */
#ifndef WEFT_MICROKERNEL_H
#define WEFT_MICROKERNEL_H

#include "kernels/cpu/simd.h"

#define PANEL 16            /* columns of a packed panel, the same for all instruction sets */
#if VL == 16
#define MR 8                /* rows of the largest tile; more (registers allow 12) measured slower: more streams through L1 */
#define NR 32               /* columns of a full tile */
#elif VL == 8
#define MR 6
#define NR 16
#else
#define MR 3
#define NR 16
#endif
#define PANELS_PER_TILE (NR / PANEL)

/* The longest chain of additions: longer sums are cut into blocks of this, which keeps their rounding error small. */
#define K_BLOCK 256

/* How long the blocks of a sum over k are: k itself when that is near enough, else equal parts. */
INLINE int64_t block_depth(int64_t k) {
    const int64_t blocks = (k + K_BLOCK - 1) / K_BLOCK;
    return k <= K_BLOCK * 3 / 2 ? k : (k + blocks - 1) / blocks;
}

struct tile_args {
    int64_t segs, k;
    const float *const *a;
    int64_t segs_stride, offset;
    const float *b;
    int64_t panel;
    float *c;
    const float *next;      /* what the next tile reads, segs·k·MR floats: fetched into the cache meanwhile */
};
typedef void tile_fn(const struct tile_args *t);

/* [add to C][panels − 1][rows − 1] */
extern tile_fn *const ISA_NAME(weft_tiles)[2][PANELS_PER_TILE][MR];

#endif
