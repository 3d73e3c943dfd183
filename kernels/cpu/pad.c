/* fill; pad: a picture with more (or, constant mode, less) around it, types by their size alone; and pad's gradient. */
#include "kernels/cpu/convert.h"
#include "kernels/cpu/threads.h"

#define PIECE 16384

int ISA_NAME(fill)(const weft_env *env, const weft_fill_args *a) {
    if (!is_type(a->type)) return WEFT_K_NO_TYPE;
    const size_t size = weft_dtype_size(a->type);
    uint64_t one;
    convert_value(a->type, &one, a->value);
#pragma omp parallel for num_threads(threads_for(env, (double)a->n))
    for (int64_t i = 0; i < a->n; i += PIECE)
        fill_row((char *)a->dst + (size_t)i * size, &one, size, MIN(PIECE, a->n - i));
    return WEFT_K_OK;
}

/* The source position of a padded one; −1: outside, where the constant goes. */
static int64_t source(weft_pad_mode mode, int64_t i, int64_t size) {
    if (i >= 0 && i < size) return i;
    if (mode == WEFT_PAD_REPLICATE) return i < 0 ? 0 : size - 1;
    if (mode == WEFT_PAD_REFLECT) return i < 0 ? -i : 2 * (size - 1) - i;
    return -1;
}

/* Whether the mode can fill these pads beside `size` values: replicating needs one, reflecting more than it fills. */
static bool fits(weft_pad_mode mode, int64_t size, int64_t before, int64_t after) {
    if (size + before + after < 0) return false;
    if (mode == WEFT_PAD_CONSTANT || (before == 0 && after == 0)) return true;
    if (before < 0 || after < 0) return false;
    return mode == WEFT_PAD_REPLICATE ? size > 0 : before < size && after < size;
}

/* One row of the result: what lies inside the source in one stretch, the rest pixel by pixel. */
static void pad_row(const weft_pad_args *a, const void *one, int64_t row) {
    const size_t size = weft_dtype_size(a->type), pixel = (size_t)a->c * size;
    const int64_t oh = a->h + a->top + a->bottom, ow = a->w + a->left + a->right;
    const int64_t image = row / oh, from = source(a->mode, row % oh - a->top, a->h);
    const int64_t first = MIN(ow, MAX(0, a->left)), end = MAX(first, MIN(ow, a->left + a->w));
    char *y = (char *)a->y + (size_t)(row * ow) * pixel;
    if (from < 0) {
        fill_row(y, one, size, ow * a->c);
        return;
    }
    const char *x = (const char *)a->x + (size_t)((image * a->h + from) * a->w) * pixel;
    for (int64_t i = 0; i < ow; i++) {
        if (i == first && end > first) {
            memcpy(y + (size_t)i * pixel, x + (size_t)(i - a->left) * pixel, (size_t)(end - first) * pixel);
            i = end - 1;
            continue;
        }
        const int64_t at = source(a->mode, i - a->left, a->w);
        if (at < 0) fill_row(y + (size_t)i * pixel, one, size, a->c);
        else memcpy(y + (size_t)i * pixel, x + (size_t)at * pixel, pixel);
    }
}

int ISA_NAME(pad)(const weft_env *env, const weft_pad_args *a) {
    if (!is_type(a->type)) return WEFT_K_NO_TYPE;
    if ((unsigned)a->mode >= WEFT_PAD_COUNT) return WEFT_K_NO_CASE;
    if (!fits(a->mode, a->h, a->top, a->bottom) || !fits(a->mode, a->w, a->left, a->right)) return WEFT_K_NO_CASE;
    const int64_t oh = a->h + a->top + a->bottom, ow = a->w + a->left + a->right;
    if (a->n * oh * ow * a->c == 0) return WEFT_K_OK;
    uint64_t one;
    convert_value(a->type, &one, a->value);
#pragma omp parallel for num_threads(threads_for(env, (double)(a->n * oh) * (double)(ow * a->c)))
    for (int64_t row = 0; row < a->n * oh; row++) pad_row(a, &one, row);
    return WEFT_K_OK;
}

/* One line of dx: every line of dy that was copied from it, pixel by pixel outside the stretch that was copied whole. */
static void gather_line(const weft_pad_grad_args *a, int64_t line) {
    const int64_t oh = a->h + a->top + a->bottom, ow = a->w + a->left + a->right, image = line / a->h, width = a->w * a->c;
    float *dx = (float *)a->dx + line * width;
    memset(dx, 0, (size_t)width * sizeof(float));
    for (int64_t y = 0; y < oh; y++) {
        if (source(a->mode, y - a->top, a->h) != line % a->h) continue;
        const float *dy = (const float *)a->dy + (image * oh + y) * ow * a->c;
        for (int64_t i = 0; i < width; i++) dx[i] += dy[a->left * a->c + i];
        for (int64_t x = 0; x < ow; x++) {
            if (x == a->left) x += a->w;
            const int64_t at = x < ow ? source(a->mode, x - a->left, a->w) : 0;
            for (int64_t c = 0; c < a->c && x < ow; c++) dx[at * a->c + c] += dy[x * a->c + c];
        }
    }
}

int ISA_NAME(pad_grad)(const weft_env *env, const weft_pad_grad_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if ((unsigned)a->mode >= WEFT_PAD_COUNT) return WEFT_K_NO_CASE;
    if (!fits(a->mode, a->h, a->top, a->bottom) || !fits(a->mode, a->w, a->left, a->right)) return WEFT_K_NO_CASE;
    const int64_t oh = a->h + a->top + a->bottom, ow = a->w + a->left + a->right;
    /* What zeros were put around is cut out again, what was cut off becomes zeros. */
    if (a->mode == WEFT_PAD_CONSTANT)
        return ISA_NAME(pad)(env, &(weft_pad_args){ .type = a->type, .mode = a->mode, .n = a->n, .h = oh, .w = ow, .c = a->c, .top = -a->top,
                                                    .bottom = -a->bottom, .left = -a->left, .right = -a->right, .x = a->dy, .y = a->dx });
#pragma omp parallel for num_threads(threads_for(env, (double)(a->n * oh) * (double)(ow * a->c)))
    for (int64_t line = 0; line < a->n * a->h; line++) gather_line(a, line);
    return WEFT_K_OK;
}
