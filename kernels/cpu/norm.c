/* Group norm (with its activation) and layer norm: y = (x − mean)/√(var + eps)·gamma + beta.
 *
 * Sums run in double over x − shift, shift being a first value: mean² never cancels against the mean of squares,
 * however far the mean is from zero. The result is (x − m)·a + b with m the mean rounded to float, where x − m is
 * exact for x near m; b carries what the rounding of m left out.
 */
#include "kernels/cpu/norm.h"
#include "kernels/cpu/simd_double.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/threads.h"

/* ---- group norm ----------------------------------------------------------------------------------------- */

#define WIDE 4              /* vectors of channels that are summed side by side */

/* What the passes over one call share. A chunk is some pixels of one image: the unit of work, and of summation. */
struct group_norm {
    const weft_group_norm_args *a;
    int64_t chunks, chunk;              /* of one image; pixels in one */
    double *sum, *square;               /* (n, chunks, c): of x − shift, shift(n, c) = the image's first pixel */
    float *mean, *scale, *shift;        /* (n, c): y = (x − mean)·scale + shift */
};

/* sum and square over `pixels` for `wide` vectors of channels. */
INLINE void sum_channels(const int wide, const float *x, const float *first, int64_t pixels, int64_t c, double *sum,
                         double *square) {
    vd s[WIDE] = { 0 }, q[WIDE] = { 0 }, shift[WIDE];
    UNROLL
    for (int i = 0; i < wide; i++) shift[i] = vd_from_f32(first + i * VD);
    for (int64_t p = 0; p < pixels; p++, x += c) {
        UNROLL
        for (int i = 0; i < wide; i++) {
            vd d = vd_from_f32(x + i * VD) - shift[i];
            s[i] += d;
            q[i] += d * d;
        }
    }
    UNROLL
    for (int i = 0; i < wide; i++) {
        vd_store(sum + i * VD, s[i]);
        vd_store(square + i * VD, q[i]);
    }
}

static void sum_chunk(const struct group_norm *g, int64_t item) {
    const int64_t c = g->a->c, image = item / g->chunks, start = item % g->chunks * g->chunk;
    const int64_t pixels = MIN(g->chunk, g->a->pixels - start);
    const float *first = (const float *)g->a->x + image * g->a->pixels * c, *x = first + start * c;
    double *sum = g->sum + item * c, *square = g->square + item * c;
    int64_t i = 0;
    for (; i + WIDE * VD <= c; i += WIDE * VD) sum_channels(WIDE, x + i, first + i, pixels, c, sum + i, square + i);
    for (; i + VD <= c; i += VD) sum_channels(1, x + i, first + i, pixels, c, sum + i, square + i);
    for (; i < c; i++) {
        double s = 0, q = 0;
        for (int64_t p = 0; p < pixels; p++) {
            double d = (double)x[p * c + i] - first[i];
            s += d;
            q += d * d;
        }
        sum[i] = s;
        square[i] = q;
    }
}

/* From the chunks' sums to a channel's mean and sum of squared deviations; channels join by their means' spread. */
static void finish_group(const struct group_norm *g, int64_t image, int64_t group) {
    const weft_group_norm_args *a = g->a;
    const int64_t width = a->c / a->groups, from = group * width;
    const float *first = (const float *)a->x + image * a->pixels * a->c, *gamma = a->gamma, *beta = a->beta;
    const double pixels = (double)a->pixels;
    double *sum = g->sum + image * g->chunks * a->c, *square = g->square + image * g->chunks * a->c;
    for (int64_t k = 1; k < g->chunks; k++)
        for (int64_t i = from; i < from + width; i++) {
            sum[i] += sum[k * a->c + i];
            square[i] += square[k * a->c + i];
        }
    double mean = 0, var = 0;
    for (int64_t i = from; i < from + width; i++) mean += (first[i] + sum[i] / pixels) / (double)width;
    for (int64_t i = from; i < from + width; i++) {
        double off = first[i] + sum[i] / pixels - mean;
        var += ((square[i] - sum[i] * (sum[i] / pixels)) / pixels + off * off) / (double)width;
    }
    const double rstd = 1 / sqrt((var < 0 ? 0 : var) + a->eps);
    for (int64_t i = from; i < from + width; i++) {
        double scale = rstd * (gamma ? gamma[i] : 1);
        g->mean[image * a->c + i] = (float)mean;
        g->scale[image * a->c + i] = (float)scale;
        g->shift[image * a->c + i] = (float)((beta ? beta[i] : 0) + ((float)mean - mean) * scale);
    }
    if (a->mean) ((float *)a->mean)[image * a->groups + group] = (float)mean;
    if (a->rstd) ((float *)a->rstd)[image * a->groups + group] = (float)rstd;
}

INLINE void apply_pixels(const weft_activation act, const float *x, float *y, int64_t pixels, int64_t c,
                         const float *mean, const float *scale, const float *shift) {
    for (int64_t p = 0; p < pixels; p++, x += c, y += c) {
        int64_t i = 0;
        for (; i + VL <= c; i += VL) {
            vf v = (vf_load(x + i) - vf_load(mean + i)) * vf_load(scale + i) + vf_load(shift + i);
            vf_store(y + i, vf_activate(act, v));
        }
        if (i == c) continue;
        vf v = (vf_load_n(x + i, c - i) - vf_load_n(mean + i, c - i)) * vf_load_n(scale + i, c - i)
             + vf_load_n(shift + i, c - i);
        vf_store_n(y + i, vf_activate(act, v), c - i);
    }
}

static void apply_chunk(const struct group_norm *g, int64_t item) {
    const int64_t c = g->a->c, image = item / g->chunks, start = item % g->chunks * g->chunk;
    const int64_t pixels = MIN(g->chunk, g->a->pixels - start), at = (image * g->a->pixels + start) * c;
    const float *x = (const float *)g->a->x + at;
    float *y = (float *)g->a->y + at;
#define APPLY(act) apply_pixels(act, x, y, pixels, c, g->mean + image * c, g->scale + image * c, g->shift + image * c)
    switch (g->a->act) {
    case WEFT_ACT_SILU: APPLY(WEFT_ACT_SILU); break;
    case WEFT_ACT_GELU: APPLY(WEFT_ACT_GELU); break;
    case WEFT_ACT_QUICK_GELU: APPLY(WEFT_ACT_QUICK_GELU); break;
    case WEFT_ACT_GELU_TANH: APPLY(WEFT_ACT_GELU_TANH); break;
    case WEFT_ACT_RELU: APPLY(WEFT_ACT_RELU); break;
    default: APPLY(WEFT_ACT_NONE); break;
    }
#undef APPLY
}

int ISA_NAME(group_norm)(const weft_env *env, const weft_group_norm_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (a->groups < 1 || a->c % a->groups || (unsigned)a->act >= WEFT_ACT_COUNT) return WEFT_K_NO_CASE;
    if (a->n * a->pixels * a->c == 0) return WEFT_K_OK;
    struct group_norm g = { .a = a, .chunk = MAX(64, 32768 / a->c) };
    g.chunks = (a->pixels + g.chunk - 1) / g.chunk;
    const int64_t items = a->n * g.chunks;
    const size_t bytes = (size_t)(items * a->c) * 2 * sizeof(double) + (size_t)(a->n * a->c) * 3 * sizeof(float);
    g.sum = env->alloc(env->owner, bytes);
    if (!g.sum) return WEFT_K_NO_MEMORY;
    g.square = g.sum + items * a->c;
    g.mean = (float *)(g.square + items * a->c);
    g.scale = g.mean + a->n * a->c;
    g.shift = g.scale + a->n * a->c;
    const int threads = threads_for(env, (double)a->n * (double)a->pixels * (double)a->c);
#pragma omp parallel num_threads(threads)
    if (norm_by_images(a->n, threads)) {
#pragma omp for
        for (int64_t i = 0; i < a->n; i++) {
            for (int64_t k = 0; k < g.chunks; k++) sum_chunk(&g, i * g.chunks + k);
            for (int64_t k = 0; k < a->groups; k++) finish_group(&g, i, k);
            for (int64_t k = 0; k < g.chunks; k++) apply_chunk(&g, i * g.chunks + k);
        }
    } else {
#pragma omp for
        for (int64_t i = 0; i < items; i++) sum_chunk(&g, i);
#pragma omp for
        for (int64_t i = 0; i < a->n * a->groups; i++) finish_group(&g, i / a->groups, i % a->groups);
#pragma omp for
        for (int64_t i = 0; i < items; i++) apply_chunk(&g, i);
    }
    env->release(env->owner, g.sum, bytes);
    return WEFT_K_OK;
}

/* ---- layer norm ----------------------------------------------------------------------------------------- */

/* Mean and biased variance of c values. */
static void moments(const float *x, int64_t c, double *mean, double *var) {
    const double shift = x[0];
    vd s[WIDE] = { 0 }, q[WIDE] = { 0 };
    double sum = 0, square = 0;
    int64_t i = 0;
    for (; i + WIDE * VD <= c; i += WIDE * VD) {
        UNROLL
        for (int k = 0; k < WIDE; k++) {
            vd d = vd_from_f32(x + i + k * VD) - shift;
            s[k] += d;
            q[k] += d * d;
        }
    }
    for (; i < c; i++) {
        double d = x[i] - shift;
        sum += d;
        square += d * d;
    }
    sum += vd_sum((s[0] + s[1]) + (s[2] + s[3]));
    square += vd_sum((q[0] + q[1]) + (q[2] + q[3]));
    sum /= (double)c;
    square = square / (double)c - sum * sum;
    *mean = shift + sum;
    *var = square < 0 ? 0 : square;
}

INLINE void normalise_row(const bool has_gamma, const bool has_beta, const weft_layer_norm_args *a, int64_t row) {
    const float *x = (const float *)a->x + row * a->c, *gamma = a->gamma, *beta = a->beta;
    float *y = (float *)a->y + row * a->c;
    double mean, var;
    moments(x, a->c, &mean, &var);
    const double rstd = 1 / sqrt(var + a->eps);
    const float m = (float)mean, scale = (float)rstd, rest = (float)((m - mean) * rstd);
    int64_t i = 0;
    for (; i + VL <= a->c; i += VL) {
        vf v = (vf_load(x + i) - m) * scale + rest;
        if (has_gamma) v *= vf_load(gamma + i);
        if (has_beta) v += vf_load(beta + i);
        vf_store(y + i, v);
    }
    if (i < a->c) {
        vf v = (vf_load_n(x + i, a->c - i) - m) * scale + rest;
        if (has_gamma) v *= vf_load_n(gamma + i, a->c - i);
        if (has_beta) v += vf_load_n(beta + i, a->c - i);
        vf_store_n(y + i, v, a->c - i);
    }
    if (a->mean) ((float *)a->mean)[row] = m;
    if (a->rstd) ((float *)a->rstd)[row] = scale;
}

int ISA_NAME(layer_norm)(const weft_env *env, const weft_layer_norm_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (a->rows * a->c == 0) return WEFT_K_OK;
#pragma omp parallel for num_threads(threads_for(env, (double)a->rows * (double)a->c))
    for (int64_t row = 0; row < a->rows; row++) {
        if (a->gamma && a->beta) normalise_row(true, true, a, row);
        else if (a->gamma) normalise_row(true, false, a, row);
        else if (a->beta) normalise_row(false, true, a, row);
        else normalise_row(false, false, a, row);
    }
    return WEFT_K_OK;
}
