/* Resampling as Pillow's Image.resize does it (its Resample.c): bilinear, bicubic (a = −0.5) and Lanczos (3 lobes).
 *
 * When shrinking, the filter is stretched by the ratio. Weights are worked out in double and sum to 1. Columns and
 * rows go one after the other; a side whose size stays is left alone. u8: weights rounded to 22-bit fixed point,
 * each pass rounded and clipped to 0…255: equal to Pillow's to the bit. f32: sums in double, each pass rounded to
 * float.
 */
#include "kernels/cpu/resample.h"

#define FIXED_BITS 22
#define STRIP 256           /* values that are summed side by side */

static double bilinear(double x) { return fabs(x) < 1 ? 1 - fabs(x) : 0; }

static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double sinc(double x) { return x == 0 ? 1 : sin(x * M_PI) / (x * M_PI); }

static double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

/* u8: the weights become whole numbers, still held in double. */
bool ISA_NAME(weft_pil_taps)(const weft_env *env, const weft_resample_args *a, struct taps *t, int64_t in, int64_t out) {
    static double (*const filters[])(double) = { bilinear, bicubic, lanczos };
    const int kind = (int)a->mode - WEFT_PIL_BILINEAR;
    const double scale = (double)in / (double)out, stretch = MAX(scale, 1);
    const double support = (kind + 1) * stretch;
    if (!taps_new(env, t, out, (int64_t)ceil(support) * 2 + 1)) return false;
    for (int64_t i = 0; i < out; i++) {
        const double centre = ((double)i + 0.5) * scale;
        const int64_t first = MAX(0, (int64_t)(centre - support + 0.5));
        const int64_t end = MIN(in, (int64_t)(centre + support + 0.5));
        double *w = t->w + i * t->most, total = 0;
        t->first[i] = first;
        t->count[i] = end - first;
        for (int64_t k = 0; k < end - first; k++)
            total += w[k] = filters[kind](((double)(k + first) - centre + 0.5) * (1 / stretch));
        for (int64_t k = 0; k < end - first; k++) {
            if (total != 0) w[k] /= total;
            if (a->type == WEFT_U8) w[k] = trunc(w[k] * (1 << FIXED_BITS) + (w[k] < 0 ? -0.5 : 0.5));
        }
    }
    return true;
}

/* y(n) = Σ w[k]·x(n) of row k, `stride` apart. */
static void blend_u8(const uint8_t *x, int64_t stride, const double *w, int64_t count, uint8_t *y, int64_t n) {
    int32_t sum[STRIP];
    for (int64_t i = 0; i < n; i += STRIP, x += STRIP, y += STRIP) {
        const int64_t m = MIN(STRIP, n - i);
        for (int64_t j = 0; j < m; j++) sum[j] = 1 << (FIXED_BITS - 1);
        for (int64_t k = 0; k < count; k++) {
            const int32_t weight = (int32_t)w[k];
            for (int64_t j = 0; j < m; j++) sum[j] += weight * x[k * stride + j];
        }
        for (int64_t j = 0; j < m; j++) y[j] = (uint8_t)MIN(MAX(sum[j] >> FIXED_BITS, 0), 255);
    }
}

static void blend_f32(const float *x, int64_t stride, const double *w, int64_t count, float *y, int64_t n) {
    double sum[STRIP];
    for (int64_t i = 0; i < n; i += STRIP, x += STRIP, y += STRIP) {
        const int64_t m = MIN(STRIP, n - i);
        for (int64_t j = 0; j < m; j++) sum[j] = 0;
        for (int64_t k = 0; k < count; k++)
            for (int64_t j = 0; j < m; j++) sum[j] += w[k] * x[k * stride + j];
        for (int64_t j = 0; j < m; j++) y[j] = (float)sum[j];
    }
}

/* One result position of one direction: `inner` values follow one another between two source positions. */
static void blend(weft_dtype type, const void *x, const struct taps *t, int64_t i, int64_t inner, void *y, int64_t at) {
    const int64_t from = t->first[i] * inner;
    if (type == WEFT_U8)
        blend_u8((const uint8_t *)x + from, inner, t->w + i * t->most, t->count[i], (uint8_t *)y + at, inner);
    else
        blend_f32((const float *)x + from, inner, t->w + i * t->most, t->count[i], (float *)y + at, inner);
}

/* (height, w, c) → (height, ow, c) */
static void pass_columns(const weft_env *env, const weft_resample_args *a, const struct taps *t, const char *x,
                         int64_t height, char *y) {
    const size_t pixel = weft_dtype_size(a->type) * (size_t)a->c;
    const size_t from = (size_t)a->w * pixel, to = (size_t)a->ow * pixel;
#pragma omp parallel for num_threads(threads_for(env, 8.0 * (double)height * (double)(a->ow * a->c)))
    for (int64_t r = 0; r < height; r++)
        for (int64_t i = 0; i < a->ow; i++)
            blend(a->type, x + (size_t)r * from, t, i, a->c, y + (size_t)r * to, i * a->c);
}

/* (h, width, c) → (oh, width, c) */
static void pass_rows(const weft_env *env, const weft_resample_args *a, const struct taps *t, const char *x,
                      int64_t width, char *y) {
#pragma omp parallel for num_threads(threads_for(env, 8.0 * (double)a->oh * (double)(width * a->c)))
    for (int64_t i = 0; i < a->oh; i++) blend(a->type, x, t, i, width * a->c, y, i * width * a->c);
}

/* Rows first where that saves the most, as Pillow 13 decides it; older ones always took the columns first. */
static bool rows_first(const weft_resample_args *a) { return a->h > a->oh && a->h - a->oh > (a->w - a->ow) * 2; }

/* One image; `between` is used where both sides change. */
static void resample_image(const weft_env *env, const weft_resample_args *a, const struct taps *rows,
                           const struct taps *columns, const char *x, char *between, char *y) {
    if (!rows->out && !columns->out) {
        memcpy(y, x, (size_t)(a->h * a->w * a->c) * weft_dtype_size(a->type));
    } else if (!rows->out) {
        pass_columns(env, a, columns, x, a->h, y);
    } else if (!columns->out) {
        pass_rows(env, a, rows, x, a->w, y);
    } else if (rows_first(a)) {
        pass_rows(env, a, rows, x, a->w, between);
        pass_columns(env, a, columns, between, a->oh, y);
    } else {
        pass_columns(env, a, columns, x, a->h, between);
        pass_rows(env, a, rows, between, a->ow, y);
    }
}

int ISA_NAME(resample_pil)(const weft_env *env, const weft_resample_args *a) {
    const size_t pixel = weft_dtype_size(a->type) * (size_t)a->c;
    const size_t image = (size_t)(a->h * a->w) * pixel, result = (size_t)(a->oh * a->ow) * pixel;
    const size_t bytes = (size_t)(rows_first(a) ? a->oh * a->w : a->h * a->ow) * pixel;
    struct taps rows = { 0 }, columns = { 0 };
    const bool across = a->ow != a->w, down = a->oh != a->h;
    char *between = across && down ? env->alloc(env->owner, bytes) : NULL;
    int status = WEFT_K_NO_MEMORY;
    if ((between || !across || !down) && (!across || ISA_NAME(weft_pil_taps)(env, a, &columns, a->w, a->ow))
        && (!down || ISA_NAME(weft_pil_taps)(env, a, &rows, a->h, a->oh))) {
        for (int64_t i = 0; i < a->n; i++)
            resample_image(env, a, &rows, &columns, (const char *)a->x + (size_t)i * image, between,
                           (char *)a->y + (size_t)i * result);
        status = WEFT_K_OK;
    }
    taps_free(env, &rows);
    taps_free(env, &columns);
    if (between) env->release(env->owner, between, bytes);
    return status;
}
