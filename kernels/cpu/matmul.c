/* C = alpha·A·B (+ C), A and B read through any strides, for each of a batch: products of two activations, weight gradients.
 *
 * Work is cut into items of at most MOST_ROWS × MOST_COLUMNS of C. An item goes through k in blocks: B's are copied into
 * panels, A's into rows where they do not lie so already, and the micro-kernel adds the product to the item's sums. Where the sum
 * runs over rows of both, as in weight gradients, outer_product.c does it without turning anything over.
 */
#include <omp.h>
#include "kernels/cpu/microkernel.h"
#include "kernels/cpu/outer.h"
#include "kernels/cpu/table.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/transpose.h"

enum { MOST_ROWS = 192, MOST_COLUMNS = 384, FEW_ROWS = 48, FEW_COLUMNS = 64 };

struct plan {
    int64_t row_blocks, column_blocks, items;
    size_t a, b, sums;              /* floats of a thread's scratch */
};

/* dst(rows, columns), rows `ld` apart, from any strides. */
static void gather(int64_t rows, int64_t columns, const float *src, int64_t row, int64_t column, float *dst, int64_t ld) {
    int64_t r = 0, c = 0;
    if (column == 1) {
        for (; r < rows; r++) memcpy(dst + r * ld, src + r * row, (size_t)columns * sizeof(float));
        return;
    }
    if (row == 1)
        for (; r + VL <= rows; r += VL) {
            for (c = 0; c + VL <= columns; c += VL) {
                vf t[VL];
                UNROLL
                for (int i = 0; i < VL; i++) t[i] = vf_load(src + r + (c + i) * column);
                vf_transpose(t);
                UNROLL
                for (int i = 0; i < VL; i++) vf_store(dst + (r + i) * ld + c, t[i]);
            }
            for (; c < columns; c++)
                for (int i = 0; i < VL; i++) dst[(r + i) * ld + c] = src[r + i + c * column];
        }
    for (; r < rows; r++)
        for (c = 0; c < columns; c++) dst[r * ld + c] = src[r * row + c * column];
}

/* One tile of B's columns as panels of k rows, zeros behind the last column. */
static void pack_columns(const weft_matmul_args *a, const float *b, int64_t k, int64_t columns, float *to) {
    for (int64_t j = 0; j < columns; j += PANEL, to += k * PANEL) {
        const int64_t n = MIN(PANEL, columns - j);
        gather(k, n, b + j * a->b_col, a->b_row, a->b_col, to, PANEL);
        for (int64_t i = 0; n < PANEL && i < k; i++) memset(to + i * PANEL + n, 0, (size_t)(PANEL - n) * sizeof(float));
    }
}

static void store_sums(const weft_matmul_args *a, int64_t rows, int64_t columns, const float *sums, float *c) {
    const float alpha = (float)a->alpha;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < columns; j += VL) {
            const int64_t n = MIN(VL, columns - j);
            float *to = c + r * a->ldc + j;
            vf v = vf_load(sums + r * NR + j) * alpha;
            if (a->accumulate) v += n == VL ? vf_load(to) : vf_load_n(to, n);
            if (n == VL) vf_store(to, v);
            else vf_store_n(to, v, n);
        }
}

/* One block of k for all of an item's rows and columns; sums: [tile][rows][NR]. */
static void multiply_block(const weft_matmul_args *a, const struct plan *q, int64_t rows, int64_t columns, int64_t k, const float *from_a,
                           const float *from_b, int add, float *scratch, float *sums) {
    float *packed_a = scratch, *packed_b = scratch + q->a;
    const float *pointers[MOST_ROWS];
    const int64_t tiles = (rows + MR - 1) / MR, copied = a->a_col != 1;
    if (copied) gather(rows, k, from_a, a->a_row, a->a_col, packed_a, K_BLOCK);
    for (int64_t r = 0; r < rows; r++) pointers[r] = copied ? packed_a + r * K_BLOCK : from_a + r * a->a_row;
    for (int64_t j = 0; j < columns; j += NR) {
        const int64_t n = MIN(NR, columns - j), panels = (n + PANEL - 1) / PANEL;
        pack_columns(a, from_b + j * a->b_col, k, n, packed_b);
        for (int64_t i = 0; i < tiles; i++) {
            const int64_t first = i * rows / tiles, count = (i + 1) * rows / tiles - first;
            const struct tile_args t = { .segs = 1, .k = k, .a = pointers + first, .b = packed_b, .panel = k * PANEL,
                                         .c = sums + j * rows + first * NR, .next = packed_b };
            ISA_NAME(weft_tiles)[add][panels - 1][count - 1](&t);
        }
    }
}

static void run_item(const weft_env *env, const weft_matmul_args *a, const struct plan *q, int64_t item, float *scratch) {
    const int64_t cb = item % q->column_blocks, rb = item / q->column_blocks % q->row_blocks, batch = item / q->column_blocks / q->row_blocks;
    const int64_t row = rb * a->m / q->row_blocks, rows = (rb + 1) * a->m / q->row_blocks - row;
    /* Column blocks are cut between tiles. */
    const int64_t tiles = (a->n + NR - 1) / NR;
    const int64_t column = cb * tiles / q->column_blocks * NR, columns = MIN(a->n, (cb + 1) * tiles / q->column_blocks * NR) - column;
    const float *from_a = (const float *)a->a + batch * a->a_batch + row * a->a_row;
    const float *from_b = (const float *)a->b + batch * a->b_batch + column * a->b_col;
    float *c = (float *)a->c + batch * a->c_batch + row * a->ldc + column, *sums = scratch + q->a + q->b;
    int add = 0;
    for (int64_t k = 0; k < a->k || k == 0; k += K_BLOCK, add = 1) {
        if (cancelled(env)) return;
        multiply_block(a, q, rows, columns, MIN(K_BLOCK, a->k - k), from_a + k * a->a_col, from_b + k * a->b_row, add, scratch, sums);
    }
    for (int64_t j = 0; j < columns; j += NR) store_sums(a, rows, MIN(NR, columns - j), sums + j * rows, c + j);
}

/* Blocks as large as allowed, then smaller ones until every thread has some. */
static struct plan plan_of(const weft_env *env, const weft_matmul_args *a) {
    struct plan q = { .row_blocks = (a->m + MOST_ROWS - 1) / MOST_ROWS, .column_blocks = (a->n + MOST_COLUMNS - 1) / MOST_COLUMNS };
    const int64_t wish = env->threads > 1 ? 3 * env->threads : 1;
    while (a->batch * q.row_blocks * q.column_blocks < wish) {
        if (a->m / (q.row_blocks + 1) >= FEW_ROWS) q.row_blocks++;
        else if (a->n / (q.column_blocks + 1) >= FEW_COLUMNS) q.column_blocks++;
        else break;
    }
    q.items = a->batch * q.row_blocks * q.column_blocks;
    const int64_t rows = (a->m + q.row_blocks - 1) / q.row_blocks, tiles = (a->n + NR - 1) / NR;
    q.a = a->a_col == 1 ? 0 : (size_t)rows * K_BLOCK;
    q.b = (size_t)K_BLOCK * NR;
    q.sums = (size_t)(rows * ((tiles + q.column_blocks - 1) / q.column_blocks) * NR);
    return q;
}

int ISA_NAME(matmul)(const weft_env *env, const weft_matmul_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (a->batch <= 0 || a->m <= 0 || a->n <= 0) return WEFT_K_OK;
    if (a->batch == 1 && a->a_row == 1 && a->b_col == 1 && a->m >= OUTER_ROWS && a->n >= VL && a->k >= OUTER_CHAIN / 2) {
        int status = ISA_NAME(weft_outer_product)(env, a);
        if (status != WEFT_K_NO_MEMORY) return status;
    }
    const struct plan q = plan_of(env, a);
    const double work = (double)a->batch * (double)a->m * (double)a->n * (double)a->k / 8;
    const int threads = (int)MIN(q.items, threads_for(env, work));
    const size_t each = (q.a + q.b + q.sums + 15) / 16 * 16, bytes = each * sizeof(float) * (size_t)threads;
    float *scratch = env->alloc(env->owner, bytes);
    if (!scratch) return WEFT_K_NO_MEMORY;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < q.items; i++)
        if (!cancelled(env)) run_item(env, a, &q, i, scratch + (size_t)omp_get_thread_num() * each);
    env->release(env->owner, scratch, bytes);
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}
