/* The gradient of a 3×3 convolution by its weights, by Winograd's tiles (winograd_transform.h): for each of the (m+2)² points a
 * product of its own, M(point) = Σ over tiles of DY(point)(tile, o)·V(point)(tile, c); then dw = Gᵀ·M·G. With m = 4 that is a quarter
 * of the direct way's multiplications.
 *
 * Tiles of all images stand in one list, worked off in blocks: V and DY of a block are transformed, tiles shared out to the
 * threads; then an item, OUTER_VECTORS panels of c and about ITEM_OUTPUTS of o, goes through the points one after the other into
 * sums that stay in the thread's scratch, and at the block's end into dw.
 */
#include <omp.h>
#include "kernels/cpu/outer.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/winograd.h"
#include "kernels/cpu/winograd_transform.h"

enum {
    MOST_POINT_BYTES = 6 << 20,         /* of a block's V and DY */
    LEAST_TILES = 96,           /* of a block, where scratch allows: the way to dw then costs little beside the products */
    FEW_POINT_BYTES = 1 << 20,  /* the same where all sums are kept from block to block: it then stays in a core's own cache */
    FEW_TILES = 32,
    MOST_SUMS = 3 << 19,        /* bytes of all sums, to be kept so */
    ITEM_OUTPUTS = 64,
    ITEM_PANELS = ITEM_OUTPUTS / OUTER_ROWS,
    PAD = 16                    /* floats between arrays walked side by side, which else would fall on the same cache lines */
};

struct job {
    const weft_conv2d_grad_weight_args *a;
    int m, points;
    int64_t down, across, tiles;                    /* tiles of a picture's height and width; of all */
    int64_t block;                                  /* tiles of a block */
    int64_t o_panels, c_panels, o_groups, c_groups;
    int64_t o_panel, c_panel;                       /* floats of a panel; panels follow one another, then points */
    int64_t o_most, c_most;                         /* panels of the largest item */
    int64_t point_sums;                             /* floats from one point's sums to the next's */
    bool keeps;                                     /* every item has sums of its own, through all blocks */
    size_t zeros, sums;                             /* floats: of a row of zeros, of a thread's (or an item's) sums */
    float *dy, *v, *scratch;                        /* scratch: the zeros, then the sums */
};

/* ---- inputs ------------------------------------------------------------------------------------------------- */

/* The pixels of a square of side `side` at (top, left) of a picture of h×w pixels, zeros outside. */
INLINE void find_pixels(const int side, const float *picture, int64_t h, int64_t w, int64_t c, int64_t top, int64_t left, const float *zeros,
                        const float **pixels) {
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            const bool inside = top + y >= 0 && top + y < h && left + x >= 0 && left + x < w;
            pixels[y * side + x] = inside ? picture + ((top + y) * w + left + x) * c : zeros;
        }
}

/* Tile `t` of the block that begins with tile `first`: all channels of x. */
INLINE void transform_x(const int m, const struct job *j, int64_t first, int64_t t) {
    const weft_conv2d_grad_weight_args *a = j->a;
    const int side = m + 2;
    const int64_t tile = first + t, image = tile / (j->down * j->across);
    const float *pixels[MOST_POINTS * MOST_POINTS];
    find_pixels(side, (const float *)a->x + image * a->h * a->w * a->c, a->h, a->w, a->c, tile / j->across % j->down * m - a->pad_top,
                tile % j->across * m - a->pad_left, j->scratch, pixels);
    float *to = j->v + t * VL;
    for (int64_t c = 0; c < a->c; c += VL, to += j->c_panel) {
        vf d[MOST_POINTS * MOST_POINTS];
        if (c + VL <= a->c) {
            UNROLL_SQUARE
            for (int i = 0; i < side * side; i++) d[i] = vf_load(pixels[i] + c);
        } else {
            for (int i = 0; i < side * side; i++) d[i] = vf_load_n(pixels[i] + c, a->c - c);
        }
        input_square(m, d);
        UNROLL_SQUARE
        for (int i = 0; i < side * side; i++) vf_store(to + i * j->c_panels * j->c_panel, d[i]);
    }
}

/* The same of dy; a vector fills the place of that tile in VL/OUTER_ROWS panels. */
INLINE void transform_dy(const int m, const struct job *j, int64_t first, int64_t t) {
    const weft_conv2d_grad_weight_args *a = j->a;
    const int points = (m + 2) * (m + 2);
    const int64_t tile = first + t, image = tile / (j->down * j->across);
    const float *pixels[16];
    find_pixels(m, (const float *)a->dy + image * a->oh * a->ow * a->o, a->oh, a->ow, a->o, tile / j->across % j->down * m,
                tile % j->across * m, j->scratch, pixels);
    for (int64_t o = 0; o < a->o; o += VL) {
        vf d[16], r[MOST_POINTS * MOST_POINTS];
        if (o + VL <= a->o) {
            UNROLL
            for (int i = 0; i < m * m; i++) d[i] = vf_load(pixels[i] + o);
        } else {
            for (int i = 0; i < m * m; i++) d[i] = vf_load_n(pixels[i] + o, a->o - o);
        }
        spread_square(m, d, r);
        float *to = j->dy + o / OUTER_ROWS * j->o_panel + t * OUTER_ROWS;
        UNROLL_SQUARE
        for (int i = 0; i < points; i++)
            UNROLL
            for (int part = 0; part < VL / OUTER_ROWS; part++)
                memcpy(to + i * j->o_panels * j->o_panel + part * j->o_panel, (const float *)&r[i] + part * OUTER_ROWS, OUTER_ROWS * sizeof(float));
    }
}

/* ---- sums --------------------------------------------------------------------------------------------------- */

/* The sums of one point for an item: sums[panel of o][vector][OUTER_ROWS][VL]. */
static void multiply_point(const struct job *j, int64_t point, int64_t tiles, int64_t o_panel, int64_t o_panels, int64_t c_panel, int64_t vectors,
                           bool add, float *sums) {
    const float *dy = j->dy + (point * j->o_panels + o_panel) * j->o_panel, *v = j->v + (point * j->c_panels + c_panel) * j->c_panel;
    for (int64_t from = 0; from < tiles; from += OUTER_CHAIN) {
        struct outer_args t = { .segs = 1, .k = MIN(OUTER_CHAIN, tiles - from), .a_step = OUTER_ROWS, .b_step = VL };
        for (int64_t i = 0; i < vectors; i++) t.b[i] = v + i * j->c_panel + from * VL;
        for (int64_t p = 0; p < o_panels; p++) {
            t.a = dy + p * j->o_panel + from * OUTER_ROWS;
            t.c = sums + p * j->c_most * OUTER_ROWS * VL;
            ISA_NAME(weft_outer)[add || from > 0][vectors - 1](&t);
        }
    }
}

/* One row of o, one panel of c: from the points' sums, `ld` floats apart, to nine taps of VL channels. */
INLINE void store_row(const int m, const weft_conv2d_grad_weight_args *a, int64_t o, int64_t c, bool add, const float *sums, int64_t ld) {
    const int points = (m + 2) * (m + 2);
    vf v[MOST_POINTS * MOST_POINTS], r[9];
    float taps[9][VL];
    UNROLL_SQUARE
    for (int i = 0; i < points; i++) v[i] = vf_load(sums + i * ld);
    collect_square(m, v, r);
    UNROLL
    for (int i = 0; i < 9; i++) vf_store(taps[i], r[i]);
    float *dw = (float *)a->dw + (o * a->c + c) * 9;
    for (int64_t l = 0; l < MIN(VL, a->c - c); l++) {
        if (add)
            for (int i = 0; i < 9; i++) dw[l * 9 + i] += taps[i][l];
        else
            for (int i = 0; i < 9; i++) dw[l * 9 + i] = taps[i][l];
    }
}

/* An item's part of dw, in panels; what is named `most` elsewhere. */
struct part { int64_t o_panel, o_panels, c_panel, vectors; };

static struct part part_of(const struct job *j, int64_t item) {
    const int64_t o_group = item % j->o_groups, c_group = item / j->o_groups;
    struct part p = { .o_panel = o_group * j->o_panels / j->o_groups, .c_panel = c_group * j->c_panels / j->c_groups };
    p.o_panels = (o_group + 1) * j->o_panels / j->o_groups - p.o_panel;
    p.vectors = (c_group + 1) * j->c_panels / j->c_groups - p.c_panel;
    return p;
}

static void store_item(const struct job *j, const struct part *part, bool add, const float *sums) {
    const weft_conv2d_grad_weight_args *a = j->a;
    for (int64_t p = 0; p < part->o_panels; p++)
        for (int64_t r = 0; r < OUTER_ROWS && (part->o_panel + p) * OUTER_ROWS + r < a->o; r++)
            for (int64_t i = 0; i < part->vectors; i++) {
                const int64_t o = (part->o_panel + p) * OUTER_ROWS + r, c = (part->c_panel + i) * VL;
                const float *from = sums + ((p * j->c_most + i) * OUTER_ROWS + r) * VL;
                if (j->m == 4) store_row(4, a, o, c, add, from, j->point_sums);
                else store_row(2, a, o, c, add, from, j->point_sums);
            }
}

/* The block of `count` tiles from tile `first` on. */
static void run_item(const weft_env *env, const struct job *j, int64_t first, int64_t count, int64_t item) {
    const struct part p = part_of(j, item);
    float *sums = j->scratch + j->zeros + (size_t)(j->keeps ? item : omp_get_thread_num()) * j->sums;
    for (int64_t point = 0; point < j->points; point++) {
        if (cancelled(env)) return;
        multiply_point(j, point, count, p.o_panel, p.o_panels, p.c_panel, p.vectors, j->keeps && first > 0, sums + point * j->point_sums);
    }
    if (!j->keeps) store_item(j, &p, j->a->accumulate || first > 0, sums);
    else if (first + count == j->tiles) store_item(j, &p, j->a->accumulate, sums);
}

static void run(const weft_env *env, const struct job *j, int threads) {
#pragma omp parallel num_threads(threads)
    for (int64_t first = 0; first < j->tiles; first += j->block) {
        const int64_t count = MIN(j->block, j->tiles - first);
#pragma omp for schedule(dynamic, 4)
        for (int64_t t = 0; t < count; t++) {
            if (cancelled(env)) continue;
            if (j->m == 4) transform_x(4, j, first, t);
            else transform_x(2, j, first, t);
            if (j->m == 4) transform_dy(4, j, first, t);
            else transform_dy(2, j, first, t);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < j->o_groups * j->c_groups; i++)
            if (!cancelled(env)) run_item(env, j, first, count, i);
    }
}

/* ---- plan --------------------------------------------------------------------------------------------------- */

static struct job job_of(const weft_conv2d_grad_weight_args *a, int m) {
    struct job j = { .a = a, .m = m, .points = (m + 2) * (m + 2), .down = (a->oh + m - 1) / m, .across = (a->ow + m - 1) / m };
    j.tiles = a->n * j.down * j.across;
    j.c_panels = (a->c + VL - 1) / VL;
    j.o_panels = (a->o + VL - 1) / VL * (VL / OUTER_ROWS);
    j.c_groups = (j.c_panels + OUTER_VECTORS - 1) / OUTER_VECTORS;
    j.o_groups = (j.o_panels + ITEM_PANELS - 1) / ITEM_PANELS;
    j.c_most = (j.c_panels + j.c_groups - 1) / j.c_groups;
    j.o_most = (j.o_panels + j.o_groups - 1) / j.o_groups;
    j.point_sums = j.o_most * j.c_most * OUTER_ROWS * VL + PAD;
    j.zeros = (size_t)(MAX(a->c, a->o) + 15) / 16 * 16;
    j.sums = (size_t)(j.points * j.point_sums);
    j.keeps = (int64_t)(j.sums * sizeof(float)) * j.o_groups * j.c_groups <= MOST_SUMS;
    return j;
}

static void set_block(struct job *j, int64_t tiles) {
    j->block = tiles;
    j->o_panel = tiles * OUTER_ROWS + PAD;
    j->c_panel = tiles * VL + PAD;
}

static size_t scratch_bytes(const struct job *j, int threads) {
    const int64_t sums = j->keeps ? j->o_groups * j->c_groups : threads;
    return ((size_t)(j->points * (j->o_panels * j->o_panel + j->c_panels * j->c_panel)) + j->zeros + (size_t)sums * j->sums) * sizeof(float);
}

int ISA_NAME(weft_winograd_grad)(const weft_env *env, const weft_conv2d_grad_weight_args *a, int m) {
    struct job j = job_of(a, m);
    int threads = threads_for(env, (double)j.tiles * j.points * (double)a->c * (double)a->o / 8);
    const int64_t tile_bytes = j.points * (j.c_panels * VL + j.o_panels * OUTER_ROWS) * (int64_t)sizeof(float);
    j.keeps = j.keeps && (j.sums * (size_t)(j.o_groups * j.c_groups) + j.zeros) * sizeof(float) + FEW_POINT_BYTES <= env->scratch_hint;
    const int64_t most = j.keeps ? MAX(FEW_TILES, FEW_POINT_BYTES / tile_bytes) : MAX(LEAST_TILES, MOST_POINT_BYTES / tile_bytes);
    const int64_t blocks = (j.tiles - 1) / most + 1;
    set_block(&j, (j.tiles + blocks - 1) / blocks);
    /* Blocks cut sums, so the number of threads has no say in them: fewer threads first, then smaller blocks. */
    while (scratch_bytes(&j, 1) > env->scratch_hint && j.block > LEAST_TILES / 2) set_block(&j, j.block / 2);
    if (scratch_bytes(&j, 1) > env->scratch_hint) return WEFT_K_NO_MEMORY;
    while (!(j.dy = env->alloc(env->owner, scratch_bytes(&j, threads)))) {
        if (threads == 1) return WEFT_K_NO_MEMORY;
        threads = (threads + 1) / 2;
    }
    j.v = j.dy + j.points * j.o_panels * j.o_panel;
    j.scratch = j.v + j.points * j.c_panels * j.c_panel;
    memset(j.scratch, 0, j.zeros * sizeof(float));
    run(env, &j, threads);
    env->release(env->owner, j.dy, scratch_bytes(&j, threads));
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}

/* As in winograd.c, for one vector of inputs and one output: products, and the transforms, of which those of x and dy are shared. */
static double cost(const weft_conv2d_grad_weight_args *a, int m) {
    const struct job j = job_of(a, m);
    const double tiles = (double)j.tiles, input = m == 4 ? 250 : 90, collect = m == 4 ? 500 : 350;
    return tiles * j.points + collect + tiles * input / (double)(j.o_panels * OUTER_ROWS) + tiles * input / (double)(j.c_panels * VL);
}

int ISA_NAME(weft_winograd_grad_choice)(const weft_env *env, const weft_conv2d_grad_weight_args *a) {
    if (a->kh != 3 || a->kw != 3 || a->stride != 1 || a->c < 16 || a->o < 16) return 0;
    const double direct = 9 * (double)a->n * (double)a->oh * (double)a->ow, two = cost(a, 2), four = cost(a, 4);
    if (env->precision == WEFT_PRECISION_FAST && four < two && four < direct) return 4;
    return two < direct ? 2 : 0;
}
