/* A product of rows found through pointers with packed weights: what linear layers and direct convolutions have in common.
 *
 * y(m,n) = act(Σ over taps and k of row(m,tap)(k)·W(n,tap,k) + bias(n) + added(m/added_rows, n)) + residual(m,n)
 */
#ifndef WEFT_CPU_GEMM_H
#define WEFT_CPU_GEMM_H

#include "kernels/cpu/microkernel.h"

/* What is done with sums before they are stored. */
struct finish {
    const float *bias;                          /* n, or NULL */
    const float *added; int64_t added_rows;     /* a row, ldy apart, for every added_rows rows; or NULL */
    const float *residual; int64_t ldr;         /* may be y */
    weft_activation act;
    float *y; int64_t ldy;
};

struct product {
    int64_t m, n, taps, k;
    weft_dtype wtype;
    const void *w;
    /* Writes the pointers of rows first … first + count − 1, each with k values behind it: out[tap·count + row]. */
    void (*rows)(const void *how, int64_t first, int64_t count, const float **out);
    const void *how;
    struct finish finish;
};

int ISA_NAME(weft_product)(const weft_env *env, const struct product *p);

/* Finishes and stores `rows` rows of sums, NR apart, of the columns from `column` on, at most NR of them; `first` is the
 * number of the first row. */
void ISA_NAME(weft_finish)(const struct finish *f, int64_t first, int64_t rows, int64_t column, int64_t columns, const float *sums);

/* `count` values (a multiple of PANEL) of f16 or bf16 as f32. */
void ISA_NAME(weft_widen)(weft_dtype type, const void *from, int64_t count, float *to);

#endif
