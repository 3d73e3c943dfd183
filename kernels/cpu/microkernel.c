/* The tiles of microkernel.h, one function for each number of rows and panels: the compiler then allots registers to each on
 * its own, and a product of few rows costs no more than those. */
#include "kernels/cpu/microkernel.h"

INLINE void tile(const int add, const int panels, const int rows, const struct tile_args *t) {
    enum { V = PANEL / VL };                    /* vectors of a panel */
    vf acc[MR][NR / VL] = { 0 };
    const float *b = t->b;
    float *to = t->c;
    const float *next = t->next;
    const int64_t depth = t->k, panel = t->panel;
    for (int64_t s = 0; s < t->segs; s++) {
        const float *a[MR];
        UNROLL
        for (int r = 0; r < rows; r++) a[r] = t->a[s * t->segs_stride + r] + t->offset;
        for (int64_t k = 0; k < depth; k++, b += PANEL, next += MR) {
            __builtin_prefetch(next, 0, 2);
            vf w[NR / VL];
            UNROLL
            for (int v = 0; v < panels * V; v++) w[v] = vf_load(b + v / V * panel + v % V * VL);
            UNROLL
            for (int r = 0; r < rows; r++) {
                vf x = vf_set(a[r][k]);
                UNROLL
                for (int v = 0; v < panels * V; v++) acc[r][v] += x * w[v];
            }
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int v = 0; v < panels * V; v++) {
            float *c = to + r * NR + v * VL;
            vf_store(c, add ? vf_load(c) + acc[r][v] : acc[r][v]);
        }
}

#define TILE(add, panels, rows) \
    static __attribute__((noinline)) void tile_##add##_##panels##_##rows(const struct tile_args *t) { tile(add, panels, rows, t); }
#if MR == 8
#define ROWS(F, add, panels) \
    F(add, panels, 1) F(add, panels, 2) F(add, panels, 3) F(add, panels, 4) F(add, panels, 5) F(add, panels, 6) F(add, panels, 7) \
    F(add, panels, 8)
#elif MR == 6
#define ROWS(F, add, panels) F(add, panels, 1) F(add, panels, 2) F(add, panels, 3) F(add, panels, 4) F(add, panels, 5) F(add, panels, 6)
#else
#define ROWS(F, add, panels) F(add, panels, 1) F(add, panels, 2) F(add, panels, 3)
#endif
#define NAME(add, panels, rows) tile_##add##_##panels##_##rows,

ROWS(TILE, 0, 1)
ROWS(TILE, 1, 1)
#if PANELS_PER_TILE > 1
ROWS(TILE, 0, 2)
ROWS(TILE, 1, 2)
#endif

tile_fn *const ISA_NAME(weft_tiles)[2][PANELS_PER_TILE][MR] = {
#if PANELS_PER_TILE > 1
    { { ROWS(NAME, 0, 1) }, { ROWS(NAME, 0, 2) } }, { { ROWS(NAME, 1, 1) }, { ROWS(NAME, 1, 2) } },
#else
    { { ROWS(NAME, 0, 1) } }, { { ROWS(NAME, 1, 1) } },
#endif
};
