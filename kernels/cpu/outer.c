/* The tiles of outer.h, one function for each number of vectors. */
#include "kernels/cpu/outer.h"

INLINE void outer(const int add, const int vectors, const struct outer_args *t) {
    vf acc[OUTER_ROWS][OUTER_VECTORS] = { 0 };
    const int64_t step = t->b_step, a_step = t->a_step;
    float *c = t->c;
    for (int64_t s = 0; s < t->segs; s++) {
        const float *a = t->a + s * t->a_seg, *b[OUTER_VECTORS];
        UNROLL
        for (int v = 0; v < vectors; v++) b[v] = t->b[v] + s * t->b_seg;
        for (int64_t k = 0; k < t->k; k++, a += a_step) {
            vf w[OUTER_VECTORS];
            UNROLL
            for (int v = 0; v < vectors; v++) w[v] = vf_load(b[v] + k * step);
            UNROLL
            for (int r = 0; r < OUTER_ROWS; r++) {
                const vf x = vf_set(a[r]);
                UNROLL
                for (int v = 0; v < vectors; v++) acc[r][v] += x * w[v];
            }
        }
    }
    UNROLL
    for (int v = 0; v < vectors; v++)
        UNROLL
        for (int r = 0; r < OUTER_ROWS; r++) {
            float *to = c + (v * OUTER_ROWS + r) * VL;
            vf_store(to, add ? vf_load(to) + acc[r][v] : acc[r][v]);
        }
}

#define TILE(add, vectors) \
    static __attribute__((noinline)) void outer_##add##_##vectors(const struct outer_args *t) { outer(add, vectors, t); }
TILE(0, 1)
TILE(0, 2)
TILE(0, 3)
TILE(1, 1)
TILE(1, 2)
TILE(1, 3)

outer_fn *const ISA_NAME(weft_outer)[2][OUTER_VECTORS] = {
    { outer_0_1, outer_0_2, outer_0_3 }, { outer_1_1, outer_1_2, outer_1_3 },
};
