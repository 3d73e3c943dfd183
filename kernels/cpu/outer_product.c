/* C = alpha·Aᵀ·B (+ C), a sum over the rows of both: the weight gradient of a linear layer.
 *
 * Rows are packed block by block, a's in panels of OUTER_ROWS, b's in panels of VL, or read where they lie. An item is some panels of each: its sums stay in
 * the thread's scratch for the block, then go to C.
 */
#include <omp.h>
#include "kernels/cpu/outer.h"
#include "kernels/cpu/threads.h"

enum {
    MOST_PACKED = 1 << 20,      /* bytes of a block's rows: they stay in a core's own cache */
    NEAR = 128,                 /* floats between rows that are read where they lie; further apart they fall on few places in L1 */
    LEAST_STEPS = 2 * OUTER_CHAIN,      /* of a block: going to C then costs little beside the products */
    MOST_ROWS = 128,                    /* of an item, and vectors of columns: what it reads of a block then fits into L2 */
    MOST_VECTORS = 4 * OUTER_VECTORS
};

struct job {
    const weft_matmul_args *a;
    int64_t block;                      /* rows of a block */
    int64_t m_panels, n_panels;
    int64_t m_items, n_items;           /* items along each side */
    int64_t m_panel, n_panel;           /* floats of a panel; 0: that operand is read where it lies */
    float *left, *right, *scratch;
};
#define SUMS (MOST_ROWS * MOST_VECTORS * VL)     /* floats of a thread's */

static void pack_row(const struct job *j, int64_t first, int64_t row) {
    const weft_matmul_args *a = j->a;
    if (j->m_panel) outer_pack(OUTER_ROWS, (const float *)a->a + (first + row) * a->a_col, a->m, j->left + row * OUTER_ROWS, j->m_panel);
    if (j->n_panel) outer_pack(VL, (const float *)a->b + (first + row) * a->b_row, a->n, j->right + row * VL, j->n_panel);
}

/* One panel of C's rows, `vectors` of its columns. */
static void store_panel(const weft_matmul_args *a, int64_t row, int64_t column, int64_t vectors, bool add, const float *sums) {
    const float alpha = (float)a->alpha;
    for (int64_t v = 0; v < vectors; v++, column += VL)
        for (int64_t r = 0; r < MIN(OUTER_ROWS, a->m - row); r++) {
            float *c = (float *)a->c + (row + r) * a->ldc + column;
            const int64_t n = MIN(VL, a->n - column);
            vf sum = vf_load(sums + (v * OUTER_ROWS + r) * VL) * alpha;
            if (add) sum += n == VL ? vf_load(c) : vf_load_n(c, n);
            if (n == VL) vf_store(c, sum);
            else vf_store_n(c, sum, n);
        }
}

/* sums: [vectors, in tiles][panel of rows][OUTER_ROWS][VL] */
static void run_item(const struct job *j, int64_t first_row, int64_t rows, int64_t item, bool add, float *sums) {
    const float *a = (const float *)j->a->a + first_row * j->a->a_col, *b = (const float *)j->a->b + first_row * j->a->b_row;
    const int64_t mi = item % j->m_items, ni = item / j->m_items;
    const int64_t m = mi * j->m_panels / j->m_items, panels = (mi + 1) * j->m_panels / j->m_items - m;
    const int64_t n = ni * j->n_panels / j->n_items, vectors = (ni + 1) * j->n_panels / j->n_items - n;
    const int64_t tiles = (vectors + OUTER_VECTORS - 1) / OUTER_VECTORS;
    for (int64_t from = 0; from < rows; from += OUTER_CHAIN)
        for (int64_t tile = 0; tile < tiles; tile++) {
            const int64_t first = tile * vectors / tiles, count = (tile + 1) * vectors / tiles - first;
            struct outer_args t = { .segs = 1, .k = MIN(OUTER_CHAIN, rows - from), .a_step = j->m_panel ? OUTER_ROWS : j->a->a_col,
                                    .b_step = j->n_panel ? VL : j->a->b_row };
            for (int64_t v = 0; v < count; v++)
                t.b[v] = j->n_panel ? j->right + (n + first + v) * j->n_panel + from * VL : b + from * t.b_step + (n + first + v) * VL;
            for (int64_t p = 0; p < panels; p++) {
                t.a = j->m_panel ? j->left + (m + p) * j->m_panel + from * OUTER_ROWS : a + from * t.a_step + (m + p) * OUTER_ROWS;
                t.c = sums + (first * panels + p * count) * OUTER_ROWS * VL;
                ISA_NAME(weft_outer)[from > 0][count - 1](&t);
            }
        }
    for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t first = tile * vectors / tiles, count = (tile + 1) * vectors / tiles - first;
        for (int64_t p = 0; p < panels; p++)
            store_panel(j->a, (m + p) * OUTER_ROWS, (n + first) * VL, count, add, sums + (first * panels + p * count) * OUTER_ROWS * VL);
    }
}

static void run(const weft_env *env, const struct job *j, int threads) {
#pragma omp parallel num_threads(threads)
    for (int64_t first = 0; first < j->a->k; first += j->block) {
        const int64_t rows = MIN(j->block, j->a->k - first);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++)
            if (!cancelled(env)) pack_row(j, first, row);
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < j->m_items * j->n_items; item++)
            if (!cancelled(env)) run_item(j, first, rows, item, j->a->accumulate || first > 0, j->scratch + (size_t)omp_get_thread_num() * SUMS);
    }
}

/* Items as large as allowed, then smaller ones until every thread has some: what is summed in which order stays the same. */
static void cut_items(struct job *j, int threads) {
    const int64_t wish = threads > 1 ? 4 * threads : 1;
    j->m_items = (j->m_panels * OUTER_ROWS + MOST_ROWS - 1) / MOST_ROWS;
    j->n_items = (j->n_panels + MOST_VECTORS - 1) / MOST_VECTORS;
    while (j->m_items * j->n_items < wish) {
        if (j->n_panels / j->n_items > OUTER_VECTORS) j->n_items++;
        else if (j->m_panels / j->m_items > 4) j->m_items++;
        else break;
    }
}

static void set_block(struct job *j, int64_t rows) {
    j->block = rows;
    /* 64 bytes more keep panels from falling on the same places in the cache. */
    j->m_panel = j->a->m % OUTER_ROWS || j->a->a_col > NEAR ? (rows * OUTER_ROWS + 31) / 16 * 16 : 0;
    j->n_panel = j->a->n % VL || j->a->b_row > NEAR ? rows * VL + 16 : 0;
}

static size_t scratch_bytes(const struct job *j, int threads) {
    return (size_t)(j->m_panels * j->m_panel + j->n_panels * j->n_panel + threads * SUMS) * sizeof(float);
}

int ISA_NAME(weft_outer_product)(const weft_env *env, const weft_matmul_args *a) {
    struct job j = { .a = a, .m_panels = (a->m + OUTER_ROWS - 1) / OUTER_ROWS, .n_panels = (a->n + VL - 1) / VL };
    int threads = threads_for(env, (double)a->m * (double)a->n * (double)a->k / 8);
    cut_items(&j, threads);
    threads = (int)MIN(threads, j.m_items * j.n_items);
    const int64_t blocks = (a->k - 1) / MAX(LEAST_STEPS, MOST_PACKED / ((a->m + a->n) * (int64_t)sizeof(float))) + 1;
    set_block(&j, (a->k + blocks - 1) / blocks);
    /* Blocks cut sums, so the number of threads has no say in them. */
    while (scratch_bytes(&j, 1) > env->scratch_hint && j.block > LEAST_STEPS) set_block(&j, MAX(LEAST_STEPS, j.block / 2));
    if (scratch_bytes(&j, 1) > env->scratch_hint) return WEFT_K_NO_MEMORY;
    while (!(j.left = env->alloc(env->owner, scratch_bytes(&j, threads)))) {
        if (threads == 1) return WEFT_K_NO_MEMORY;
        threads = (threads + 1) / 2;
    }
    j.right = j.left + j.m_panels * j.m_panel;
    j.scratch = j.right + j.n_panels * j.n_panel;
    run(env, &j, threads);
    env->release(env->owner, j.left, scratch_bytes(&j, threads));
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}
