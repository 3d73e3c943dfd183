/* Winograd convolution F(m×m, 3×3), m = 2 or 4 (winograd_transform.h), with weights transformed on the fly.
 *
 * Tiles of all images stand in one list, worked off in blocks that keep the transformed inputs V in the cache. For a block:
 *   1. V[chunk of c][point][tile][c] = Bᵀ·d·B, tiles shared out to the threads;
 *   2. for an item, some tiles and one tile of NR output channels: chunk by chunk of c, U[point][c][NR] = G·g·Gᵀ from
 *      the packed weights, then for each of the (m+2)² points sums[point][tile][NR] += V·U by the micro-kernel;
 *      at the end Aᵀ·sums·A, bias, row and residual, stored.
 * Stored transformed weights would take 4 times the memory of the plain ones (m = 4); transforming them costs as much as
 * the products of some 3 tiles.
 */
#include <omp.h>
#include "kernels/cpu/microkernel.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/winograd.h"
#include "kernels/cpu/winograd_transform.h"

enum {
    NEAR_V = 1 << 20,           /* bytes of a block's V for each thread: it stays in the core's own cache, … */
    MANY_TILES = 160,           /* … unless these are fewer tiles for each thread: then weights are transformed too often, … */
    MOST_V = 8 << 20,           /* … and V goes up to the part of the cache that all cores share */
    FEW_TILES = 32,             /* blocks and items are not cut smaller than this for the cache or for balance */
    LEAST_TILES = 8,            /* but for want of memory */
    PAD = 16                    /* floats between arrays walked side by side, which else would fall on the same cache lines */
};

struct job {
    const weft_conv2d_args *a;
    int m, points;              /* points: (m+2)² */
    int64_t down, across, tiles;                    /* tiles of a picture's height and width; of all */
    int64_t depth, chunks;                          /* channels of a chunk */
    int64_t block, columns, parts;                  /* tiles of a block; tiles of NR columns; parts of a block's tiles */
    int64_t ld, v_point, u_point, sums_point;       /* strides in floats: V's rows; from point to point */
    size_t v, zeros, u, sums;                       /* floats: of all V, of a row of zeros, of a thread's U and sums */
    float *scratch;             /* V, zeros, then U and sums of each thread */
};

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* ---- inputs ------------------------------------------------------------------------------------------------- */

/* Tile `t` of the block that begins with tile `first`: all its channels. */
INLINE void transform_input(const int m, const struct job *j, int64_t first, int64_t t) {
    const weft_conv2d_args *a = j->a;
    enum { SIDE = MOST_POINTS };
    const int side = m + 2;
    const int64_t tile = first + t, image = tile / (j->down * j->across);
    const int64_t top = tile / j->across % j->down * m - a->pad_top, left = tile % j->across * m - a->pad_left;
    const float *zeros = j->scratch + j->v, *pixels[SIDE * SIDE];
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            const bool inside = top + y >= 0 && top + y < a->h && left + x >= 0 && left + x < a->w;
            pixels[y * side + x] = inside ? (const float *)a->x + ((image * a->h + top + y) * a->w + left + x) * a->c : zeros;
        }
    for (int64_t chunk = 0; chunk < j->chunks; chunk++) {
        const int64_t from = chunk * j->depth, end = MIN(a->c, from + j->depth);
        float *to = j->scratch + chunk * j->points * j->v_point + t * j->ld;
        for (int64_t c = from; c < end; c += VL, to += VL) {
            vf d[SIDE * SIDE];
            if (c + VL <= a->c) {
                UNROLL_SQUARE
                for (int i = 0; i < side * side; i++) d[i] = vf_load(pixels[i] + c);
            } else {
                for (int i = 0; i < side * side; i++) d[i] = vf_load_n(pixels[i] + c, a->c - c);
            }
            input_square(m, d);
            UNROLL_SQUARE
            for (int i = 0; i < side * side; i++) vf_store(to + i * j->v_point, d[i]);
        }
    }
}

/* ---- weights ------------------------------------------------------------------------------------------------ */

INLINE vf load_weight(const weft_dtype type, const void *w, int64_t i) {
    return type == WEFT_F32 ? vf_load((const float *)w + i)
         : type == WEFT_F16 ? vf_from_f16((const uint16_t *)w + i) : vf_from_bf16((const uint16_t *)w + i);
}

/* U of `depth` channels from `c` on, for `panels` panels of outputs from `panel` on. */
INLINE void transform_weights(const int m, const weft_dtype type, const struct job *j, int64_t panel, int64_t panels, int64_t c, int64_t depth, float *u) {
    const int points = (m + 2) * (m + 2);
    const int64_t tap = j->a->c * PANEL;
    for (int64_t p = 0; p < panels; p++) {
        const int64_t from = (panel + p) * 9 * tap + c * PANEL;
        for (int64_t k = 0; k < depth * PANEL; k += VL) {
            vf g[9], r[MOST_POINTS * MOST_POINTS];
            UNROLL
            for (int i = 0; i < 9; i++) g[i] = load_weight(type, j->a->weight, from + i * tap + k);
            filter_square(m, g, r);
            UNROLL_SQUARE
            for (int i = 0; i < points; i++) vf_store(u + i * j->u_point + p * depth * PANEL + k, r[i]);
        }
    }
}

/* ---- outputs ------------------------------------------------------------------------------------------------ */

/* One tile's results from `column` on, at most VL of them: n. */
INLINE void transform_output(const int m, const struct job *j, int64_t tile, int64_t column, int64_t n, const float *sums) {
    const weft_conv2d_args *a = j->a;
    const int points = (m + 2) * (m + 2);
    vf v[MOST_POINTS * MOST_POINTS], r[16];
    UNROLL_SQUARE
    for (int i = 0; i < points; i++) v[i] = vf_load(sums + i * j->sums_point);
    output_square(m, v, r);
    const int64_t image = tile / (j->down * j->across), top = tile / j->across % j->down * m, left = tile % j->across * m;
    const bool full = n == VL;
    vf add = { 0 };
    if (a->bias) add = full ? vf_load((const float *)a->bias + column) : vf_load_n((const float *)a->bias + column, n);
    if (a->row) {
        const float *row = (const float *)a->row + image * a->o + column;
        add += full ? vf_load(row) : vf_load_n(row, n);
    }
    const int64_t first = ((image * a->oh + top) * a->ow + left) * a->o + column;
    UNROLL
    for (int y = 0; y < m; y++) {
        if (top + y >= a->oh) break;
        UNROLL
        for (int x = 0; x < m; x++) {
            if (left + x >= a->ow) break;
            const int64_t at = first + (y * a->ow + x) * a->o;
            vf value = r[y * m + x] + add;
            if (a->residual) value += full ? vf_load((const float *)a->residual + at) : vf_load_n((const float *)a->residual + at, n);
            if (full) vf_store((float *)a->y + at, value);
            else vf_store_n((float *)a->y + at, value, n);
        }
    }
}

/* ---- one function of each for both sizes and all types ------------------------------------------------------- */

static void input_2(const struct job *j, int64_t first, int64_t t) { transform_input(2, j, first, t); }
static void input_4(const struct job *j, int64_t first, int64_t t) { transform_input(4, j, first, t); }

#define WEIGHTS(m, type) \
    static void weights_##m##_##type(const struct job *j, int64_t panel, int64_t panels, int64_t c, int64_t depth, float *u) { \
        transform_weights(m, WEFT_##type, j, panel, panels, c, depth, u); \
    }
WEIGHTS(2, F32)
WEIGHTS(2, F16)
WEIGHTS(2, BF16)
WEIGHTS(4, F32)
WEIGHTS(4, F16)
WEIGHTS(4, BF16)
static void (*const weights[2][3])(const struct job *j, int64_t panel, int64_t panels, int64_t c, int64_t depth, float *u) = {
    { weights_2_F32, weights_2_F16, weights_2_BF16 }, { weights_4_F32, weights_4_F16, weights_4_BF16 },
};
_Static_assert(WEFT_F32 == 0 && WEFT_F16 == 1 && WEFT_BF16 == 2, "the columns above");

static void outputs(const struct job *j, int64_t first, int64_t count, int64_t column, int64_t columns, const float *sums) {
    for (int64_t t = 0; t < count; t++)
        for (int64_t c = 0; c < columns; c += VL) {
            if (j->m == 4) transform_output(4, j, first + t, column + c, MIN(VL, columns - c), sums + t * NR + c);
            else transform_output(2, j, first + t, column + c, MIN(VL, columns - c), sums + t * NR + c);
        }
}

/* ---- the work ----------------------------------------------------------------------------------------------- */

/* sums[point][tile][NR] = or += V·U for one chunk of channels; tiles from `begin` to `end` of the block. */
static void multiply_points(const struct job *j, int64_t chunk, int64_t depth, int64_t begin, int64_t end, int panels, const float *u, float *sums) {
    const float *v = j->scratch + chunk * j->points * j->v_point;
    const int64_t count = end - begin, groups = (count + MR - 1) / MR;
    const float *rows[MR];
    for (int i = 0; i < j->points; i++)
        for (int64_t g = 0; g < groups; g++) {
            const int64_t first = g * count / groups, n = (g + 1) * count / groups - first;
            for (int64_t r = 0; r < n; r++) rows[r] = v + i * j->v_point + (begin + first + r) * j->ld;
            const struct tile_args t = { .segs = 1, .k = depth, .a = rows, .b = u + i * j->u_point, .panel = depth * PANEL,
                                         .c = sums + i * j->sums_point + first * NR,
                                         .next = g + 1 < groups ? rows[0] + n * j->ld : v + (i + 1) * j->v_point + begin * j->ld };
            ISA_NAME(weft_tiles)[chunk > 0][panels - 1][n - 1](&t);
        }
}

/* Item `item` of the block of `count` tiles that begins with tile `first`. */
static void run_item(const weft_env *env, const struct job *j, int64_t first, int64_t count, int64_t item) {
    const weft_conv2d_args *a = j->a;
    const int64_t part = item % j->parts, column = item / j->parts, begin = part * count / j->parts, end = (part + 1) * count / j->parts;
    const int64_t columns = MIN(NR, a->o - column * NR), panels = (columns + PANEL - 1) / PANEL;
    float *u = j->scratch + j->v + j->zeros + (size_t)omp_get_thread_num() * (j->u + j->sums), *sums = u + j->u;
    if (begin == end) return;
    for (int64_t chunk = 0; chunk < j->chunks; chunk++) {
        const int64_t c = chunk * j->depth, depth = MIN(j->depth, a->c - c);
        if (cancelled(env)) return;
        weights[j->m == 4][a->wtype](j, column * PANELS_PER_TILE, panels, c, depth, u);
        multiply_points(j, chunk, depth, begin, end, (int)panels, u, sums);
    }
    outputs(j, first + begin, end - begin, column * NR, columns, sums);
}

static void run(const weft_env *env, const struct job *j, int threads) {
#pragma omp parallel num_threads(threads)
    for (int64_t first = 0; first < j->tiles; first += j->block) {
        const int64_t count = MIN(j->block, j->tiles - first);
#pragma omp for schedule(dynamic, 4)
        for (int64_t t = 0; t < count; t++) {
            if (cancelled(env)) continue;
            if (j->m == 4) input_4(j, first, t);
            else input_2(j, first, t);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < j->columns * j->parts; i++)
            if (!cancelled(env)) run_item(env, j, first, count, i);
    }
}

/* ---- plan --------------------------------------------------------------------------------------------------- */

static struct job job_of(const weft_conv2d_args *a, int m) {
    struct job j = { .a = a, .m = m, .points = (m + 2) * (m + 2), .down = (a->oh + m - 1) / m, .across = (a->ow + m - 1) / m };
    j.tiles = a->n * j.down * j.across;
    j.columns = (a->o + NR - 1) / NR;
    /* With few tiles a chunk's U is read once or twice only: then it had better stay in a core's own cache. */
    j.depth = round_up(j.tiles > FEW_TILES / 2 ? block_depth(a->c) : MIN(a->c, K_BLOCK / 2), VL);
    j.chunks = (a->c + j.depth - 1) / j.depth;
    j.ld = round_up(j.depth, 16) + PAD;
    j.u_point = j.depth * NR + PAD;
    j.zeros = (size_t)round_up(a->c, 16);
    j.u = (size_t)(j.points * j.u_point);
    return j;
}

/* Sizes that follow from the block's, on which no sum depends; returns the bytes of scratch. */
static size_t set_block(struct job *j, int64_t block, int threads) {
    j->block = block;
    j->v_point = block * j->ld + PAD;
    j->v = (size_t)(j->chunks * j->points * j->v_point);
    /* Three items a thread even out what one is slower than another. */
    const int64_t wish = threads > 1 ? (3 * threads + j->columns - 1) / j->columns : 1;
    j->parts = MAX(1, MIN(wish, block / FEW_TILES));
    j->sums_point = (block + j->parts - 1) / j->parts * NR + PAD;
    j->sums = (size_t)(j->points * j->sums_point);
    return (j->v + j->zeros + (size_t)threads * (j->u + j->sums)) * sizeof(float);
}

/* Less scratch: smaller blocks first, then fewer threads, so that the number of threads never decides what is computed. */
static size_t shrink(struct job *j, int *threads) {
    int64_t block = j->block;
    if (block > LEAST_TILES) block = MAX(LEAST_TILES, (block + 1) / 2);
    else if (*threads > 1) *threads = (*threads + 1) / 2;
    else return 0;
    return set_block(j, block, *threads);
}

int ISA_NAME(weft_winograd)(const weft_env *env, const weft_conv2d_args *a, int m) {
    struct job j = job_of(a, m);
    int threads = threads_for(env, (double)j.tiles * j.points * (double)a->c * (double)a->o / 8);
    const int64_t tile_bytes = j.chunks * j.points * j.ld * (int64_t)sizeof(float);
    const int64_t near = MAX(NEAR_V / tile_bytes, MANY_TILES) * threads;
    const int64_t blocks = (j.tiles - 1) / MAX(FEW_TILES, MIN(near, MOST_V / tile_bytes)) + 1;
    size_t bytes = set_block(&j, (j.tiles + blocks - 1) / blocks, threads);
    while (bytes > env->scratch_hint || !(j.scratch = env->alloc(env->owner, bytes)))
        if (!(bytes = shrink(&j, &threads))) return WEFT_K_NO_MEMORY;
    memset(j.scratch + j.v, 0, j.zeros * sizeof(float));
    run(env, &j, threads);
    env->release(env->owner, j.scratch, bytes);
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}

/* Cycles, in vectors of 16 floats and for one input channel and 16 outputs: what was measured on Zen 4, where transforms
 * are bound by their stores. Direct: 9 products for each output. By tiles: the products, the weights' transform, and
 * the inputs' and the outputs', which are shared by all outputs and all channels. */
static double cost(const weft_conv2d_args *a, int m) {
    const struct job j = job_of(a, m);
    const double tiles = (double)j.tiles, input = m == 4 ? 250 : 90, output = m == 4 ? 250 : 90, filter = m == 4 ? 130 : 50;
    return tiles * j.points * (1 + 3.0 / (double)a->c) + filter + tiles * input / (double)round_up(a->o, PANEL) + tiles * output / (double)a->c;
}

int ISA_NAME(weft_winograd_choice)(const weft_env *env, const weft_conv2d_args *a) {
    if (a->kh != 3 || a->kw != 3 || a->stride != 1 || a->c < 16) return 0;
    const double direct = 9 * (double)a->n * (double)a->oh * (double)a->ow, two = cost(a, 2), four = cost(a, 4);
    if (env->precision == WEFT_PRECISION_FAST && four < two && four < direct) return 4;
    return two < direct ? 2 : 0;
}
