/* Resampling as PyTorch's F.interpolate does it, f32: nearest, nearest-exact, bilinear, bicubic, area.
 *
 * Source positions and weights follow ATen's UpSample.h step by step in float, because for ratios that are no whole
 * number the result shows their rounding: scale = in/out; position = scale·(i + ½) − ½, where PyTorch 2's CPU build
 * rounds product and difference each for bilinear, and fuses them for bicubic. The sums go rows first, then columns.
 */
#include <omp.h>
#include "kernels/cpu/resample.h"

/* Keys' cubic convolution, a = −0.75, for |x| < 1 and for 1 ≤ |x| < 2. */
static float cubic_near(float x) { return ((-0.75f + 2) * x - (-0.75f + 3)) * x * x + 1; }
static float cubic_far(float x) { return ((-0.75f * x + 3.75f) * x - 6) * x + 3; }

/* Adds the weights of positions whole − reach …, those beyond an edge to the edge. */
static void put_taps(struct taps *t, int64_t i, int64_t in, int64_t from, int n, const float *w) {
    const int64_t low = MAX(0, from), high = MIN(in - 1, from + n - 1);
    t->first[i] = low;
    t->count[i] = high - low + 1;
    for (int64_t k = 0; k <= high - low; k++) t->w[i * t->most + k] = 0;
    for (int k = 0; k < n; k++) {
        const int64_t at = MIN(MAX(from + k, low), high);
        t->w[i * t->most + at - low] += w[k];
    }
}

static void nearest_taps(bool exact, struct taps *t, int64_t i, int64_t in) {
    const float scale = (float)in / (float)t->out;
    const int64_t at = (int64_t)floorf((float)((double)scale * ((double)i + (exact ? 0.5 : 0))));
    put_taps(t, i, in, MIN(at, in - 1), 1, (float[]){ 1 });
}

static void smooth_taps(bool bicubic, struct taps *t, int64_t i, int64_t in) {
    const float scale = (float)in / (float)t->out;
    const double product = (double)scale * ((double)i + 0.5);           /* exact */
    float at = bicubic ? (float)(product - 0.5) : (float)product - 0.5f;
    if (!bicubic) at = MAX(at, 0);
    const int64_t whole = MIN((int64_t)floorf(at), in - 1);
    const float part = MIN(MAX(at - (float)whole, 0), 1);
    if (bicubic) {
        const float w[4] = { cubic_far(part + 1), cubic_near(part), cubic_near(1 - part), cubic_far(2 - part) };
        put_taps(t, i, in, whole - 1, 4, w);
    } else {
        put_taps(t, i, in, whole, 2, (float[]){ 1 - part, part });
    }
}

static void area_taps(struct taps *t, int64_t i, int64_t in) {
    t->first[i] = i * in / t->out;
    t->count[i] = ((i + 1) * in + t->out - 1) / t->out - t->first[i];
    for (int64_t k = 0; k < t->count[i]; k++) t->w[i * t->most + k] = 1 / (double)t->count[i];
}

static bool make_taps(const weft_env *env, weft_resample_mode mode, struct taps *t, int64_t in, int64_t out) {
    if (!taps_new(env, t, out, mode == WEFT_AREA ? in / out + 2 : 4)) return false;
    for (int64_t i = 0; i < out; i++) {
        if (mode == WEFT_AREA) area_taps(t, i, in);
        else if (mode == WEFT_NEAREST || mode == WEFT_NEAREST_EXACT) nearest_taps(mode == WEFT_NEAREST_EXACT, t, i, in);
        else smooth_taps(mode == WEFT_BICUBIC, t, i, in);
    }
    return true;
}

/* y(n) = Σ w[k]·x(n) of row k, `stride` apart. */
static void blend(const float *x, int64_t stride, const double *w, int64_t count, float *y, int64_t n) {
    if (count == 1 && w[0] == 1) {
        memcpy(y, x, (size_t)n * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < n; i += VL) {
        const int64_t m = n - i;
        vf sum = { 0 };
        for (int64_t k = 0; k < count; k++)
            sum += (m < VL ? vf_load_n(x + k * stride + i, m) : vf_load(x + k * stride + i)) * (float)w[k];
        if (m < VL) vf_store_n(y + i, sum, m);
        else vf_store(y + i, sum);
    }
}

/* Row `row` of all the images' rows; `line` holds w·c floats. */
static void resample_row(const weft_resample_args *a, const struct taps *rows, const struct taps *columns, int64_t row,
                         float *line) {
    const int64_t y = row % a->oh, width = a->w * a->c;
    const float *x = (const float *)a->x + (row / a->oh * a->h + rows->first[y]) * width;
    float *out = (float *)a->y + row * a->ow * a->c;
    const double *w = rows->w + y * rows->most;
    if (rows->count[y] > 1 || w[0] != 1) {
        blend(x, width, w, rows->count[y], line, width);
        x = line;
    }
    for (int64_t i = 0; i < a->ow; i++)
        blend(x + columns->first[i] * a->c, a->c, columns->w + i * columns->most, columns->count[i], out + i * a->c,
              a->c);
}

static int run(const weft_env *env, const weft_resample_args *a, const struct taps *rows, const struct taps *columns) {
    const int threads = threads_for(env, (double)(a->n * a->oh) * (double)(a->ow * a->c) * 4);
    const size_t line = (size_t)(a->w * a->c + 15) / 16 * 16, bytes = line * sizeof(float) * (size_t)threads;
    float *lines = env->alloc(env->owner, bytes);
    if (!lines) return WEFT_K_NO_MEMORY;
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < a->n * a->oh; row++)
        resample_row(a, rows, columns, row, lines + (size_t)omp_get_thread_num() * line);
    env->release(env->owner, lines, bytes);
    return WEFT_K_OK;
}

static int resample_torch(const weft_env *env, const weft_resample_args *a) {
    struct taps rows = { 0 }, columns = { 0 };
    int status = WEFT_K_NO_MEMORY;
    if (make_taps(env, a->mode, &rows, a->h, a->oh) && make_taps(env, a->mode, &columns, a->w, a->ow)) status = run(env, a, &rows, &columns);
    taps_free(env, &columns);
    taps_free(env, &rows);
    return status;
}

int ISA_NAME(resample)(const weft_env *env, const weft_resample_args *a) {
    const bool pil = a->mode >= WEFT_PIL_BILINEAR;
    if ((unsigned)a->mode >= WEFT_RESAMPLE_COUNT) return WEFT_K_NO_CASE;
    if (a->type != WEFT_F32 && !(pil && a->type == WEFT_U8)) return WEFT_K_NO_TYPE;
    if (a->n * a->c * a->oh * a->ow == 0) return WEFT_K_OK;
    if (a->h < 1 || a->w < 1) return WEFT_K_NO_CASE;
    return pil ? ISA_NAME(resample_pil)(env, a) : resample_torch(env, a);
}

/* ---- the gradient ------------------------------------------------------------------------------------------- */

/* The taps of the other direction: for each of `in` source positions the results it went into, which follow one another. */
static bool turn_over(const weft_env *env, const struct taps *t, struct taps *turned, int64_t in) {
    struct taps range;                  /* first and, here, end */
    int64_t most = 1;
    if (!taps_new(env, &range, in, 0)) return false;
    for (int64_t i = 0; i < in; i++) range.first[i] = range.count[i] = 0;
    for (int64_t i = 0; i < t->out; i++)
        for (int64_t at = t->first[i]; at < t->first[i] + t->count[i]; at++) {
            if (range.count[at] == 0) range.first[at] = i;
            range.count[at] = i + 1;
            most = MAX(most, i + 1 - range.first[at]);
        }
    const bool got = taps_new(env, turned, in, most);
    for (int64_t i = 0; got && i < in; i++) {
        turned->first[i] = range.first[i];
        turned->count[i] = range.count[i] - range.first[i];
        for (int64_t k = 0; k < most; k++) turned->w[i * most + k] = 0;
    }
    for (int64_t i = 0; got && i < t->out; i++)
        for (int64_t k = 0; k < t->count[i]; k++) {
            const int64_t at = t->first[i] + k;
            turned->w[at * most + i - turned->first[at]] = t->w[i * t->most + k];
        }
    taps_free(env, &range);
    return got;
}

static bool turned_taps(const weft_env *env, const weft_resample_args *a, struct taps *turned, int64_t in, int64_t out) {
    struct taps t = { 0 };
    const bool made = a->mode >= WEFT_PIL_BILINEAR ? ISA_NAME(weft_pil_taps)(env, a, &t, in, out) : make_taps(env, a->mode, &t, in, out);
    const bool got = made && turn_over(env, &t, turned, in);
    taps_free(env, &t);
    return got;
}

/* The same work as resampling, from the results' side. */
int ISA_NAME(resample_grad)(const weft_env *env, const weft_resample_grad_args *a) {
    if ((unsigned)a->mode >= WEFT_RESAMPLE_COUNT) return WEFT_K_NO_CASE;
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (a->n * a->c * a->h * a->w == 0) return WEFT_K_OK;
    if (a->oh < 1 || a->ow < 1) {
        memset(a->dx, 0, (size_t)(a->n * a->h * a->w * a->c) * sizeof(float));
        return WEFT_K_OK;
    }
    const weft_resample_args r = { .type = a->type, .mode = a->mode, .n = a->n, .h = a->oh, .w = a->ow, .c = a->c, .oh = a->h, .ow = a->w,
                                   .x = a->dy, .y = a->dx };
    struct taps rows = { 0 }, columns = { 0 };
    int status = WEFT_K_NO_MEMORY;
    if (turned_taps(env, &r, &rows, a->h, a->oh) && turned_taps(env, &r, &columns, a->w, a->ow)) status = run(env, &r, &rows, &columns);
    taps_free(env, &columns);
    taps_free(env, &rows);
    return status;
}
