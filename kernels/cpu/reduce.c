/* Reductions of x(outer, mid, inner) over mid. Sums and means run in double; max and min are NaN where a value is.
 * One result is one thread's: several inner positions side by side in vectors, or one long row in VL (or VD)
 * strands. Sums of columns go down the rows with many columns at a time, so that memory is read from front to back.
 */
#include "kernels/cpu/simd_double.h"
#include "kernels/cpu/threads.h"

#define WIDE 4              /* vectors side by side */
#define BLOCK (WIDE * VL)   /* inner positions of one work item */
#define SUM_BLOCK 1024      /* the same, of sums, at most */

INLINE vf pick(const bool max, vf r, vf v) { return vf_select((max ? v > r : v < r) | (v != v), v, r); }

INLINE float pick_one(const bool max, float r, float v) { return (max ? v > r : v < r) || isnan(v) ? v : r; }

/* The row's largest or smallest value; n ≥ 1. */
INLINE float pick_row(const bool max, const float *x, int64_t n) {
    float r = x[0], t[VL];
    int64_t i = 0;
    if (n >= VL) {
        vf v = vf_load(x);
        for (i = VL; i + VL <= n; i += VL) v = pick(max, v, vf_load(x + i));
        vf_store(t, v);
        for (int k = 0; k < VL; k++) r = isnan(r) ? r : pick_one(max, r, t[k]);
    }
    for (; i < n; i++) r = isnan(r) ? r : pick_one(max, r, x[i]);
    return r;
}

/* The same for up to BLOCK columns. */
INLINE void pick_columns(const bool max, const float *x, int64_t mid, int64_t inner, int64_t columns, float *y) {
    int64_t c = 0;
    for (; c + VL <= columns; c += VL) {
        vf r = vf_load(x + c);
        for (int64_t i = 1; i < mid; i++) r = pick(max, r, vf_load(x + i * inner + c));
        vf_store(y + c, r);
    }
    for (; c < columns; c++) {
        float r = x[c];
        for (int64_t i = 1; i < mid; i++) r = isnan(r) ? r : pick_one(max, r, x[i * inner + c]);
        y[c] = r;
    }
}

static double sum_row(const float *x, int64_t n) {
    vd s[WIDE] = { 0 };
    double rest = 0;
    int64_t i = 0;
    for (; i + WIDE * VD <= n; i += WIDE * VD) {
        UNROLL
        for (int k = 0; k < WIDE; k++) s[k] += vd_from_f32(x + i + k * VD);
    }
    for (; i < n; i++) rest += x[i];
    return vd_sum((s[0] + s[1]) + (s[2] + s[3])) + rest;
}

/* sums += `rows` rows, four or one. */
INLINE void add_rows(const int rows, const float *x, int64_t inner, int64_t columns, double *sums) {
    int64_t c = 0;
    for (; c + VD <= columns; c += VD) {
        vd s = vd_from_f32(x + c);
        if (rows == 4)
            s = (s + vd_from_f32(x + inner + c)) + (vd_from_f32(x + 2 * inner + c) + vd_from_f32(x + 3 * inner + c));
        vd_store(sums + c, vd_load(sums + c) + s);
    }
    for (; c < columns; c++)
        for (int r = 0; r < rows; r++) sums[c] += x[r * inner + c];
}

/* Up to SUM_BLOCK columns. */
static void sum_columns(const float *x, int64_t mid, int64_t inner, int64_t columns, double divide, float *y) {
    double sums[SUM_BLOCK] = { 0 };
    int64_t i = 0;
    for (; i + 4 <= mid; i += 4) add_rows(4, x + i * inner, inner, columns, sums);
    for (; i < mid; i++) add_rows(1, x + i * inner, inner, columns, sums);
    for (int64_t c = 0; c < columns; c++) y[c] = (float)(sums[c] / divide);
}

/* Inner positions of one work item; for sums as many as every thread can have. */
static int64_t block_of(const weft_reduce_args *a, int threads) {
    if (a->op == WEFT_REDUCE_MAX || a->op == WEFT_REDUCE_MIN) return BLOCK;
    const int64_t blocks = a->outer < threads ? threads : 1, block = (a->inner + blocks - 1) / blocks;
    return MIN(SUM_BLOCK, (block + BLOCK - 1) / BLOCK * BLOCK);
}

int ISA_NAME(reduce)(const weft_env *env, const weft_reduce_args *a) {
    const bool max = a->op == WEFT_REDUCE_MAX, picks = max || a->op == WEFT_REDUCE_MIN;
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if ((unsigned)a->op >= WEFT_REDUCE_COUNT || (picks && a->mid < 1)) return WEFT_K_NO_CASE;
    if (a->outer * a->inner == 0) return WEFT_K_OK;
    const int threads = threads_for(env, (double)a->outer * (double)a->mid * (double)a->inner);
    const int64_t block = block_of(a, threads), blocks = (a->inner + block - 1) / block;
    const double divide = a->op == WEFT_REDUCE_MEAN ? (double)a->mid : 1;
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < a->outer * blocks; i++) {
        const int64_t from = i % blocks * block, columns = MIN(block, a->inner - from);
        const float *x = (const float *)a->x + i / blocks * a->mid * a->inner + from;
        float *y = (float *)a->y + i / blocks * a->inner + from;
        if (a->inner == 1 && picks) *y = max ? pick_row(true, x, a->mid) : pick_row(false, x, a->mid);
        else if (a->inner == 1) *y = (float)(sum_row(x, a->mid) / divide);
        else if (!picks) sum_columns(x, a->mid, a->inner, columns, divide, y);
        else if (max) pick_columns(true, x, a->mid, a->inner, columns, y);
        else pick_columns(false, x, a->mid, a->inner, columns, y);
    }
    return WEFT_K_OK;
}
