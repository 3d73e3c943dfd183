/* The gradient of a convolution by its weights: dw(o,c,tap) = Σ over windows of dy(window, o)·x(window + tap, c). winograd_grad.c
 * takes the 3×3 ones where it is faster; this is the direct way.
 *
 * Lines of dy and the lines of x under their windows are packed, block by block: dy in panels of OUTER_ROWS channels, x with its
 * zeros around it in panels of VL channels, so that a tap is a place to start at. An item is one panel of o, one of c and all
 * taps: its sums stay in the thread's scratch for the block, then are added to dw. A chain of additions is at most about CHAIN long.
 */
#include <omp.h>
#include "kernels/cpu/outer.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/winograd.h"

enum {
    CHAIN = 256,
    MOST_PACKED = 6 << 20,      /* bytes of a block's packed lines: the part of the cache that all cores share */
    LEAST_PIXELS = 1024         /* of a block, where scratch allows: adding to dw then costs little beside the products */
};

struct job {
    const weft_conv2d_grad_weight_args *a;
    int64_t images, lines;              /* of a block: some whole images, or some of one image's lines */
    int64_t width, height;              /* of the packed x of one image of a block */
    int64_t o_panels, c_panels;
    int64_t o_panel, c_panel;           /* floats of a panel */
    size_t sums;                        /* floats of a thread's */
    float *dy, *x, *scratch;
};

/* A block as it is: images and lines at the end may be fewer. */
struct block { int64_t image, images, line, lines; };

/* ---- packing ------------------------------------------------------------------------------------------------ */

/* Line `line` of the block's dy. */
static void pack_dy(const struct job *j, const struct block *b, int64_t line) {
    const weft_conv2d_grad_weight_args *a = j->a;
    const int64_t image = b->image + line / b->lines, y = b->line + line % b->lines;
    const float *from = (const float *)a->dy + (image * a->oh + y) * a->ow * a->o;
    for (int64_t x = 0; x < a->ow; x++)
        outer_pack(OUTER_ROWS, from + x * a->o, a->o, j->dy + (line * a->ow + x) * OUTER_ROWS, j->o_panel);
}

/* Line `line` of the block's x: j->height of them an image, those outside the picture zeros. */
static void pack_x(const struct job *j, const struct block *b, int64_t line) {
    const weft_conv2d_grad_weight_args *a = j->a;
    const int64_t image = b->image + line / j->height, y = b->line * a->stride - a->pad_top + line % j->height;
    float *to = j->x + line * j->width * VL;
    for (int64_t i = 0; i < j->width; i++, to += VL) {
        const int64_t x = i - a->pad_left;
        if (y >= 0 && y < a->h && x >= 0 && x < a->w)
            outer_pack(VL, (const float *)a->x + ((image * a->h + y) * a->w + x) * a->c, a->c, to, j->c_panel);
        else
            for (int64_t p = 0; p < j->c_panels; p++) vf_store(to + p * j->c_panel, (vf){ 0 });
    }
}

/* ---- sums --------------------------------------------------------------------------------------------------- */

/* Some lines, `count` pixels of each from column `from` on, of one image: added to all of the item's sums, [tap][OUTER_ROWS][VL]. */
static void add_lines(const struct job *j, const float *dy, const float *x, int64_t lines, int64_t count, bool add, float *sums) {
    const weft_conv2d_grad_weight_args *a = j->a;
    struct outer_args t = { .segs = lines, .k = count, .a = dy, .a_seg = a->ow * OUTER_ROWS, .a_step = OUTER_ROWS, .b_seg = a->stride * j->width * VL,
                            .b_step = a->stride * VL };
    for (int64_t ky = 0; ky < a->kh; ky++)
        for (int64_t kx = 0; kx < a->kw; kx += OUTER_VECTORS) {
            const int64_t vectors = MIN(OUTER_VECTORS, a->kw - kx);
            for (int64_t v = 0; v < vectors; v++) t.b[v] = x + (ky * j->width + kx + v) * VL;
            t.c = sums + (ky * a->kw + kx) * OUTER_ROWS * VL;
            ISA_NAME(weft_outer)[add][vectors - 1](&t);
        }
}

/* An item's sums to dw. */
static void store_item(const struct job *j, int64_t o_panel, int64_t c_panel, bool add, const float *sums) {
    const weft_conv2d_grad_weight_args *a = j->a;
    const int64_t o = o_panel * OUTER_ROWS, c = c_panel * VL, taps = (int64_t)a->kh * a->kw;
    const int64_t rows = MIN(OUTER_ROWS, a->o - o), lanes = MIN(VL, a->c - c);
    for (int64_t r = 0; r < rows; r++) {
        float *dw = (float *)a->dw + ((o + r) * a->c + c) * taps;
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t l = 0; l < lanes; l++) {
                const float sum = sums[(tap * OUTER_ROWS + r) * VL + l];
                dw[l * taps + tap] = add ? dw[l * taps + tap] + sum : sum;
            }
    }
}

static void run_item(const struct job *j, const struct block *b, int64_t item, bool add, float *sums) {
    const weft_conv2d_grad_weight_args *a = j->a;
    const int64_t o_panel = item % j->o_panels, c_panel = item / j->o_panels;
    const float *dy = j->dy + o_panel * j->o_panel, *x = j->x + c_panel * j->c_panel;
    const int64_t at_once = MAX(1, CHAIN / a->ow), pieces = (a->ow + CHAIN * 3 / 2 - 1) / (CHAIN * 3 / 2);
    bool more = false;
    for (int64_t image = 0; image < b->images; image++)
        for (int64_t line = 0; line < b->lines; line += at_once)
            for (int64_t piece = 0; piece < pieces; piece++, more = true) {
                const int64_t from = piece * a->ow / pieces, count = (piece + 1) * a->ow / pieces - from;
                add_lines(j, dy + ((image * b->lines + line) * a->ow + from) * OUTER_ROWS,
                          x + ((image * j->height + line * a->stride) * j->width + from * a->stride) * VL,
                          MIN(at_once, b->lines - line), count, more, sums);
            }
    store_item(j, o_panel, c_panel, add, sums);
}

static void run(const weft_env *env, struct job *j, int threads) {
    const weft_conv2d_grad_weight_args *a = j->a;
    const int64_t parts = (a->oh + j->lines - 1) / j->lines, blocks = parts > 1 ? a->n * parts : (a->n + j->images - 1) / j->images;
#pragma omp parallel num_threads(threads)
    for (int64_t i = 0; i < blocks; i++) {
        struct block b = { .image = parts > 1 ? i / parts : i * j->images, .line = i % parts * j->lines };
        b.images = parts > 1 ? 1 : MIN(j->images, a->n - b.image);
        b.lines = MIN(j->lines, a->oh - b.line);
        float *sums = j->scratch + (size_t)omp_get_thread_num() * j->sums;
#pragma omp for schedule(static) nowait
        for (int64_t line = 0; line < b.images * b.lines; line++)
            if (!cancelled(env)) pack_dy(j, &b, line);
#pragma omp for schedule(static)
        for (int64_t line = 0; line < b.images * j->height; line++)
            if (!cancelled(env)) pack_x(j, &b, line);
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < j->o_panels * j->c_panels; item++)
            if (!cancelled(env)) run_item(j, &b, item, a->accumulate || i > 0, sums);
    }
}

/* ---- plan --------------------------------------------------------------------------------------------------- */

/* Sizes that follow from the block's images and lines. */
static void set_block(struct job *j, int64_t images, int64_t lines) {
    const weft_conv2d_grad_weight_args *a = j->a;
    j->images = images;
    j->lines = lines;
    j->height = (lines - 1) * a->stride + a->kh;
    /* 64 bytes more keep panels from falling on the same places in the cache. */
    j->o_panel = (images * lines * a->ow * OUTER_ROWS + 31) / 16 * 16;
    j->c_panel = images * j->height * j->width * VL + 16;
}

static size_t scratch_bytes(const struct job *j, int threads) {
    return (size_t)(j->o_panels * j->o_panel + j->c_panels * j->c_panel + (int64_t)j->sums * threads) * sizeof(float);
}

static bool smaller_block(struct job *j) {
    if (j->images > 1) set_block(j, (j->images + 1) / 2, j->lines);
    else if (j->lines > 1) set_block(j, 1, (j->lines + 1) / 2);
    else return false;
    return true;
}

static int direct(const weft_env *env, const weft_conv2d_grad_weight_args *a) {
    struct job j = { .a = a, .width = (a->ow - 1) * a->stride + a->kw, .o_panels = (a->o + OUTER_ROWS - 1) / OUTER_ROWS,
                     .c_panels = (a->c + VL - 1) / VL };
    j.sums = (size_t)(a->kh * a->kw * OUTER_ROWS * VL);
    int threads = threads_for(env, (double)(a->n * a->oh * a->ow) * (double)a->c * (double)a->o * a->kh * a->kw / 8);
    const int64_t line = a->ow * (a->o + a->c * a->stride * a->stride) * (int64_t)sizeof(float);
    const int64_t lines = MAX(MOST_PACKED / line, (LEAST_PIXELS + a->ow - 1) / a->ow);
    const int64_t parts = (a->oh + lines - 1) / lines;
    set_block(&j, MIN(a->n, MAX(1, lines / a->oh)), (a->oh + parts - 1) / parts);
    /* Blocks cut sums, so the number of threads has no say in them: fewer threads first, then smaller blocks. */
    while (scratch_bytes(&j, 1) > env->scratch_hint && smaller_block(&j)) continue;
    while (!(j.dy = env->alloc(env->owner, scratch_bytes(&j, threads)))) {
        if (threads > 1) threads = (threads + 1) / 2;
        else if (!smaller_block(&j)) return WEFT_K_NO_MEMORY;
    }
    j.x = j.dy + j.o_panels * j.o_panel;
    j.scratch = j.x + j.c_panels * j.c_panel;
    run(env, &j, threads);
    env->release(env->owner, j.dy, scratch_bytes(&j, threads));
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}

int ISA_NAME(conv2d_grad_weight)(const weft_env *env, const weft_conv2d_grad_weight_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (a->stride < 1 || a->kh < 1 || a->kw < 1) return WEFT_K_NO_CASE;
    if (a->o <= 0 || a->c <= 0) return WEFT_K_OK;
    if (a->n <= 0 || a->oh <= 0 || a->ow <= 0) {
        if (!a->accumulate) memset(a->dw, 0, (size_t)(a->o * a->c * a->kh * a->kw) * sizeof(float));
        return WEFT_K_OK;
    }
    /* Filters of one pixel, each window its own pixel: a product of two matrices. */
    if (a->kh == 1 && a->kw == 1 && a->stride == 1 && a->pad_top == 0 && a->pad_left == 0 && a->oh == a->h && a->ow == a->w)
        return ISA_NAME(matmul)(env, &(weft_matmul_args){ .type = a->type, .batch = 1, .m = a->o, .n = a->c, .k = a->n * a->oh * a->ow,
                                                          .a = a->dy, .a_row = 1, .a_col = a->o, .b = a->x, .b_row = a->c, .b_col = 1,
                                                          .c = a->dw, .ldc = a->c, .alpha = 1, .accumulate = a->accumulate });
    const int m = ISA_NAME(weft_winograd_grad_choice)(env, a);
    int status = m ? ISA_NAME(weft_winograd_grad)(env, a, m) : WEFT_K_NO_MEMORY;
    return status == WEFT_K_NO_MEMORY ? direct(env, a) : status;
}
