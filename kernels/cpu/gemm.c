/* y = act(x·Wᵀ + bias) + residual, and the product behind it (gemm.h) that direct convolutions use too.
 *
 * Work is cut into items: a block of rows times some tiles of NR columns. Within an item the sums of rows × NR stay in the
 * thread's scratch (L2) while the weights of one block of k after the other pass by; 16-bit weights are widened once
 * for a block and all rows. Weights are read from memory once for each block of rows.
 */
#include <omp.h>
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/table.h"
#include "kernels/cpu/threads.h"

enum {
    MOST_ROWS = 480,            /* of an item: 60 KiB of sums */
    FEW_ROWS = 96,              /* enough for widened and fetched weights to pay; smaller items only for balance */
    NEAR_WEIGHTS = 1 << 19,     /* bytes of weights that stay in a core's own cache: an item then has few rows, … */
    NEAR_ROWS = 192 << 10,      /* … whose inputs or results are about this many bytes, and stay there too */
    LEAST_ROWS = 32,
    MOST_POINTERS = 1 << 15     /* of an item: rows·taps */
};

INLINE void finish_rows(const weft_activation act, const struct finish *f, int64_t first, int64_t rows, int64_t column,
                        int64_t columns, const float *sums) {
    for (int64_t j = 0; j < columns; j += VL) {
        const int64_t n = MIN(VL, columns - j), at = column + j;
        const bool full = n == VL;
        const vf bias = !f->bias ? (vf){ 0 } : full ? vf_load(f->bias + at) : vf_load_n(f->bias + at, n);
        for (int64_t r = 0; r < rows; r++) {
            vf v = vf_load(sums + r * NR + j) + bias;
            if (f->added) {
                const float *p = f->added + (first + r) / f->added_rows * f->ldy + at;
                v += full ? vf_load(p) : vf_load_n(p, n);
            }
            v = vf_activate(act, v);
            if (f->residual) {
                const float *p = f->residual + (first + r) * f->ldr + at;
                v += full ? vf_load(p) : vf_load_n(p, n);
            }
            float *y = f->y + (first + r) * f->ldy + at;
            if (full) vf_store(y, v);
            else vf_store_n(y, v, n);
        }
    }
}

void ISA_NAME(weft_finish)(const struct finish *f, int64_t first, int64_t rows, int64_t column, int64_t columns, const float *sums) {
    switch (f->act) {
#define CASE(a) case a: finish_rows(a, f, first, rows, column, columns, sums); break
    CASE(WEFT_ACT_SILU);
    CASE(WEFT_ACT_GELU);
    CASE(WEFT_ACT_QUICK_GELU);
    CASE(WEFT_ACT_GELU_TANH);
    CASE(WEFT_ACT_RELU);
    default: finish_rows(WEFT_ACT_NONE, f, first, rows, column, columns, sums);
#undef CASE
    }
}

void ISA_NAME(weft_widen)(weft_dtype type, const void *from, int64_t count, float *to) {
    const uint16_t *h = from;
    if (type == WEFT_F16)
        for (int64_t i = 0; i < count; i += VL) vf_store(to + i, vf_from_f16(h + i));
    else
        for (int64_t i = 0; i < count; i += VL) vf_store(to + i, vf_from_bf16(h + i));
}

/* How a product is cut up. */
struct plan {
    int64_t row_blocks, rows;       /* rows of the largest block */
    int64_t tiles, groups;          /* tiles of NR columns, dealt out to groups */
    int64_t segs, depth;            /* taps and k of one block of the sum; more than one tap only where k is whole */
    size_t pointers, sums, weights; /* bytes of a thread's scratch */
};

/* The most rows of an item. */
static int64_t most_rows(const weft_env *env, const struct product *p) {
    const int64_t most = MAX(MR, MIN(env->scratch_hint ? MOST_ROWS : FEW_ROWS, MOST_POINTERS / p->taps / MR * MR));
    const int64_t bytes = (int64_t)weft_dtype_size(p->wtype);
    if (p->n * p->taps * p->k * bytes > NEAR_WEIGHTS) return most;
    return MIN(most, MAX(LEAST_ROWS, NEAR_ROWS / (MAX(p->n, p->k) * (int64_t)sizeof(float)) / MR * MR));
}

static struct plan plan_of(const weft_env *env, const struct product *p) {
    struct plan q = { .tiles = (p->n + NR - 1) / NR };
    const int64_t most = most_rows(env, p);
    q.row_blocks = (p->m + most - 1) / most;
    /* Four items a thread even out what one is slower than another. */
    const int64_t wish = env->threads > 1 ? 4 * env->threads : 1;
    q.groups = MIN(q.tiles, (wish + q.row_blocks - 1) / q.row_blocks);
    if (q.row_blocks * q.groups < wish)
        q.row_blocks = MAX(q.row_blocks, MIN((wish + q.groups - 1) / q.groups, p->m / FEW_ROWS));
    q.rows = (p->m + q.row_blocks - 1) / q.row_blocks;
    q.depth = block_depth(p->k);
    q.segs = q.depth < p->k ? 1 : MIN(p->taps, MAX(1, K_BLOCK / MAX(1, p->k)));
    q.pointers = ((size_t)(q.rows * p->taps) * sizeof(float *) + 63) / 64 * 64;
    q.sums = (size_t)q.rows * NR * sizeof(float);
    q.weights = p->wtype == WEFT_F32 ? 0 : (size_t)(q.segs * q.depth) * NR * sizeof(float);
    return q;
}

/* Asks for the lines of y (and of what is added to it) that a tile's rows end in: they are too far apart for the processor
 * to foresee. */
INLINE void fetch_rows(const struct finish *f, int64_t first, int64_t rows, int64_t column) {
    for (int64_t r = first; r < first + rows; r++)
        for (int64_t j = 0; j < NR; j += 16) {
            __builtin_prefetch(f->y + r * f->ldy + column + j, 1);
            if (f->residual) __builtin_prefetch(f->residual + r * f->ldr + column + j, 0);
        }
}

/* The rows of one block of the sum and one tile of columns; in the last block they are finished while they are in L1. */
static void multiply_rows(int64_t rows, int panels, int add, struct tile_args *t, float *sums, const struct finish *f, int64_t row, int64_t column,
                          int64_t columns, bool ahead) {
    const int64_t tiles = (rows + MR - 1) / MR;
    const float *const *a = t->a;
    const int64_t step = f && !add ? 0 : NR;        /* of a single block no sums need be kept */
    const float *next = t->next;
    for (int64_t i = 0; i < tiles; i++) {
        const int64_t from = i * rows / tiles, to = (i + 1) * rows / tiles;
        if (f && i + 1 < tiles) fetch_rows(f, row + to, (i + 2) * rows / tiles - to, column);
        t->a = a + from;
        t->next = ahead && i + 1 < tiles ? a[to] + t->offset : next;
        t->c = sums + from * step;
        ISA_NAME(weft_tiles)[add][panels - 1][to - from - 1](t);
        if (f) ISA_NAME(weft_finish)(f, row + from, to - from, column, columns, t->c);
    }
    t->a = a;
}

/* All of the sum for `rows` rows and one tile of columns. */
static void multiply_tile(const struct product *p, const struct plan *q, int64_t first, int64_t rows, int64_t tile, const float **pointers,
                          float *sums, float *weights) {
    const int64_t panels = MIN(PANELS_PER_TILE, (p->n - tile * NR + PANEL - 1) / PANEL), panel = p->taps * p->k * PANEL;
    const size_t size = weft_dtype_size(p->wtype);
    const char *w = (const char *)p->w + (size_t)(tile * PANELS_PER_TILE * panel) * size;
    int add = 0;
    for (int64_t tap = 0; tap < p->taps; tap += q->segs)
        for (int64_t k = 0; k < p->k || k == 0; k += MAX(1, q->depth), add = 1) {
            struct tile_args t = { .segs = MIN(q->segs, p->taps - tap), .k = MIN(q->depth, p->k - k), .a = pointers + tap * rows,
                                   .segs_stride = rows, .offset = k, .panel = panel };
            /* The rows are found by the processor itself; the next block's weights are a new place. */
            const char *from = w + (size_t)((tap * p->k + k) * PANEL) * size;
            t.b = (const float *)from;
            t.next = (const float *)(from + (size_t)(t.segs * t.k * PANEL) * size);
            if (weights) {
                t.b = weights;
                t.panel = t.segs * t.k * PANEL;
                for (int64_t i = 0; i < panels; i++)
                    ISA_NAME(weft_widen)(p->wtype, from + (size_t)(i * panel) * size, t.panel, weights + i * t.panel);
            }
            const bool last = tap + q->segs >= p->taps && k + q->depth >= p->k;
            multiply_rows(rows, (int)panels, add, &t, sums, last ? &p->finish : NULL, first, tile * NR, MIN(NR, p->n - tile * NR), last && !add && p->taps == 1);
        }
}

static void run_item(const weft_env *env, const struct product *p, const struct plan *q, int64_t item, char *scratch) {
    /* Blocks of rows that share weights are next to each other: the second finds them in the cache. */
    const int64_t group = item / q->row_blocks, block = item % q->row_blocks;
    const int64_t first = block * p->m / q->row_blocks, rows = (block + 1) * p->m / q->row_blocks - first;
    const float **pointers = (const float **)scratch;
    float *sums = (float *)(scratch + q->pointers), *weights = q->weights ? (float *)(scratch + q->pointers + q->sums) : NULL;
    p->rows(p->how, first, rows, pointers);
    for (int64_t tile = group * q->tiles / q->groups; tile < (group + 1) * q->tiles / q->groups; tile++) {
        if (cancelled(env)) return;
        multiply_tile(p, q, first, rows, tile, pointers, sums, weights);
    }
}

int ISA_NAME(weft_product)(const weft_env *env, const struct product *p) {
    if (p->m <= 0 || p->n <= 0) return WEFT_K_OK;
    if (p->wtype != WEFT_F32 && p->wtype != WEFT_F16 && p->wtype != WEFT_BF16) return WEFT_K_NO_TYPE;
    if ((unsigned)p->finish.act >= WEFT_ACT_COUNT) return WEFT_K_NO_CASE;
    const struct plan q = plan_of(env, p);
    const int64_t items = q.row_blocks * q.groups;
    const double weights = (double)p->n * (double)p->taps * (double)p->k;
    const int threads = (int)MIN(items, threads_for(env, weights * (1 + (double)p->m / 8)));
    const size_t each = (q.pointers + q.sums + q.weights + 63) / 64 * 64, bytes = each * (size_t)threads;
    char *scratch = env->alloc(env->owner, bytes);
    if (!scratch) return WEFT_K_NO_MEMORY;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < items; i++)
        if (!cancelled(env)) run_item(env, p, &q, i, scratch + (size_t)omp_get_thread_num() * each);
    env->release(env->owner, scratch, bytes);
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}

static void gemm_rows(const void *how, int64_t first, int64_t count, const float **out) {
    const weft_gemm_args *a = how;
    for (int64_t i = 0; i < count; i++) out[i] = (const float *)a->x + (first + i) * a->ldx;
}

int ISA_NAME(gemm)(const weft_env *env, const weft_gemm_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    return ISA_NAME(weft_product)(env, &(struct product){
        .m = a->m, .n = a->n, .taps = 1, .k = a->k, .wtype = a->wtype, .w = a->w, .rows = gemm_rows, .how = a,
        .finish = { .bias = a->bias, .residual = a->residual, .ldr = a->ldr, .act = a->act, .y = a->y, .ldy = a->ldy } });
}
