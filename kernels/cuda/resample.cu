/* resample and its gradient: every mode of PyTorch and Pillow, by the lists of weighted source positions of
 * kernels/ref/taps.h.
 *
 * nearest picks: its positions are worked out where they are used, and pixels are moved by their size alone. The others
 * read tables that the host makes, in double. PyTorch's modes and all gradients take both directions at once, in f32.
 * Pillow's modes take one direction, then the other, in double, with the picture between rounded to its type; of u8
 * pictures the weights are whole numbers of 2⁻²², so that the result is Pillow's to the bit.
 */
#include <stdlib.h>
#include "kernels/cuda/lines.cuh"
#include "kernels/ref/taps.h"

/* c counts units or packs of a pixel. */
typedef struct sizes { int64_t n, h, w, c, oh, ow; } sizes;

/* ---- nearest ------------------------------------------------------------------------------------------------ */

/* As PyTorch: floor(scale·i) or floor(scale·(i + ½)) in f32. */
static __device__ __forceinline__ int64_t nearest(bool exact, float scale, int64_t i, int64_t in) {
    const float at = floorf(__fmul_rn(scale, (float)i + (exact ? 0.5f : 0)));
    return at < (float)in ? (int64_t)at : in - 1;
}

template <typename U>
static __global__ void __launch_bounds__(BLOCK)
nearest_kernel(sizes s, bool exact, float down, float across, const U *x, U *y) {
    const int64_t length = s.ow * s.c;
    for (int64_t line = line_first(); line < s.n * s.oh; line += line_step()) {
        const U *from = x + (line / s.oh * s.h + nearest(exact, down, line % s.oh, s.h)) * s.w * s.c;
        for (int64_t i = grid_first(); i < length; i += grid_step()) {
            const uint32_t column = (uint32_t)i / (uint32_t)s.c;
            y[line * length + i] =
                from[nearest(exact, across, column, s.w) * s.c + ((uint32_t)i - column * (uint32_t)s.c)];
        }
    }
}

template <typename U> static int nearest(const weft_env *env, const weft_resample_args *a, const sizes &s) {
    const lines l = lines_of(s.n * s.oh, s.ow * s.c);
    return launch(env, "resample", l.grid, l.block, 0, nearest_kernel<U>, s, a->mode == WEFT_NEAREST_EXACT,
                  (float)((double)s.h / (double)s.oh), (float)((double)s.w / (double)s.ow), (const U *)a->x, (U *)a->y);
}

static int resample_nearest(const weft_env *env, const weft_resample_args *a, sizes s) {
    const size_t pixel = (size_t)a->c * weft_dtype_size(a->type);
    const int unit = unit_of(pixel, a->x, a->y);
    s.c = (int64_t)(pixel / unit);
#define DO(U) return nearest<U>(env, a, s)
    EACH_UNIT(unit, DO)
#undef DO
}

/* The first of the results that position `at`, or a later one, goes into: a guess that is too low, and from there. */
static __device__ __forceinline__ int64_t first_result(bool exact, float scale, int64_t at, int64_t in, int64_t out) {
    int64_t i = (int64_t)((float)at / scale) - 2;
    if (i < 0) i = 0;
    while (i < out && nearest(exact, scale, i, in) < at) i++;
    return i;
}

template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK)
nearest_grad_kernel(sizes s, bool exact, float down, float across, const T *dy, T *dx) {
    const int64_t length = s.w * s.c;
    for (int64_t line = line_first(); line < s.n * s.h; line += line_step()) {
        const int64_t row = line % s.h, first = first_result(exact, down, row, s.h, s.oh);
        for (int64_t i = grid_first(); i < length; i += grid_step()) {
            const uint32_t column = (uint32_t)i / (uint32_t)s.c, channel = (uint32_t)i - column * (uint32_t)s.c;
            const int64_t left = first_result(exact, across, column, s.w, s.ow);
            float sum[N] = {};
            for (int64_t r = first; r < s.oh && nearest(exact, down, r, s.h) == row; r++)
                for (int64_t q = left; q < s.ow && nearest(exact, across, q, s.w) == column; q++) {
                    const pack<T, N> v =
                        load_pack<T, N>(dy + (((line / s.h * s.oh + r) * s.ow + q) * s.c + channel) * N);
#pragma unroll
                    for (int k = 0; k < N; k++) sum[k] += to_float(v.v[k]);
                }
            pack<T, N> v;
#pragma unroll
            for (int k = 0; k < N; k++) v.v[k] = from_float<T>(sum[k]);
            store_pack<T, N>(dx + (line * length + i) * N, v);
        }
    }
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

/* Result i of a direction: the sum over k < count[i] of w[i·most + k] times source position first[i] + k. */
typedef struct taps { int64_t out, most; int32_t *first, *count; double *w; } taps;

/* In words of 8 bytes. */
static int64_t taps_words(const taps *t) { return t->out * (t->most + 1); }

static void taps_at(taps *t, void *memory) {
    t->first = (int32_t *)memory;
    t->count = t->first + t->out;
    t->w = (double *)(t->count + t->out);
}

/* Of one direction, in memory of its own; NULL: none. The caller frees t->first. */
static bool taps_make(taps *t, weft_resample_mode mode, weft_dtype type, int64_t in, int64_t out) {
    *t = taps{ out, ref_most_taps(mode, in, out), NULL, NULL, NULL };
    void *memory = malloc((size_t)taps_words(t) * 8);
    ref_taps one = { 0, 0, (double *)malloc((size_t)t->most * sizeof(double)) };
    if (!memory || !one.w) {
        free(memory);
        free(one.w);
        return false;
    }
    taps_at(t, memory);
    for (int64_t i = 0; i < out; i++) {
        ref_taps_of(mode, type, in, out, i, &one);
        t->first[i] = (int32_t)one.first;
        t->count[i] = (int32_t)one.count;
        for (int64_t k = 0; k < t->most; k++)       /* beyond the count: never used */
            t->w[i * t->most + k] = k >= one.count ? 0 : type == WEFT_U8 ? (double)ref_fixed(one.w[k]) : one.w[k];
    }
    free(one.w);
    return true;
}

/* The other direction's: for each of `in` source positions the results that it went into, which follow one another.
 * Frees t's. */
static bool taps_turn(taps *t, int64_t in) {
    taps turned = { in, 1, NULL, NULL, NULL };
    int32_t *end = (int32_t *)calloc((size_t)in * 2, sizeof *end), *first = end + in;
    for (int64_t i = 0; end && i < t->out; i++)
        for (int64_t at = t->first[i]; at < t->first[i] + t->count[i]; at++) {
            if (!end[at]) first[at] = (int32_t)i;
            end[at] = (int32_t)i + 1;
            if (end[at] - first[at] > turned.most) turned.most = end[at] - first[at];
        }
    void *memory = end ? calloc((size_t)taps_words(&turned), 8) : NULL;
    if (memory) {
        taps_at(&turned, memory);
        for (int64_t at = 0; at < in; at++) {
            turned.first[at] = first[at];
            turned.count[at] = end[at] - first[at];
        }
        for (int64_t i = 0; i < t->out; i++)
            for (int64_t k = 0; k < t->count[i]; k++) {
                const int64_t at = t->first[i] + k;
                turned.w[at * turned.most + i - first[at]] = t->w[i * t->most + k];
            }
    }
    free(end);
    free(t->first);
    *t = turned;
    return memory != NULL;
}

/* What the device reads: both directions' tables, one behind the other. */
typedef struct tables { taps rows, columns; size_t bytes; } tables;

/* rows and columns are the host's, and freed. Their memory on the device is rows.first then, to be released; NULL where
 * this fails. */
static int tables_send(const weft_env *env, tables *t) {
    const int64_t words = taps_words(&t->rows), all = words + taps_words(&t->columns);
    t->bytes = (size_t)all * 8;
    double *host = (double *)realloc(t->rows.first, t->bytes),
           *device = host ? (double *)env->alloc(env->owner, t->bytes) : NULL;
    if (host) memcpy(host + words, t->columns.first, (size_t)(all - words) * 8);
    const int status = device ? cuda_mem_copy(env, device, host, t->bytes) : WEFT_K_NO_MEMORY;
    free(t->columns.first);
    free(host ? (void *)host : t->rows.first);
    t->rows.first = NULL;
    if (device && status) env->release(env->owner, device, t->bytes);
    if (status) return status;
    taps_at(&t->rows, device);
    taps_at(&t->columns, device + words);
    return WEFT_K_OK;
}

static void tables_release(const weft_env *env, const tables *t) { env->release(env->owner, t->rows.first, t->bytes); }

/* For (h, w) to (oh, ow); turned: for the gradient, from the results back. */
static int tables_of(const weft_env *env, tables *t, weft_resample_mode mode, weft_dtype type, const sizes &s,
                     bool turned) {
    bool made = taps_make(&t->rows, mode, type, s.h, s.oh);
    if (made && turned) made = taps_turn(&t->rows, s.h);
    if (!made) return WEFT_K_NO_MEMORY;
    made = taps_make(&t->columns, mode, type, s.w, s.ow);
    if (made && turned) made = taps_turn(&t->columns, s.w);
    if (made) return tables_send(env, t);
    free(t->rows.first);
    return WEFT_K_NO_MEMORY;
}

/* ---- both directions at once -------------------------------------------------------------------------------- */

template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK) blend_kernel(sizes s, taps rows, taps columns, const T *x, T *y) {
    const int64_t length = s.ow * s.c;
    for (int64_t line = line_first(); line < s.n * s.oh; line += line_step()) {
        const int64_t row = line % s.oh;
        for (int64_t i = grid_first(); i < length; i += grid_step()) {
            const uint32_t column = (uint32_t)i / (uint32_t)s.c, channel = (uint32_t)i - column * (uint32_t)s.c;
            const double *down = rows.w + row * rows.most, *across = columns.w + column * columns.most;
            float sum[N] = {};
            for (int r = 0; r < rows.count[row]; r++) {
                const T *from =
                    x + (((line / s.oh * s.h + rows.first[row] + r) * s.w + columns.first[column]) * s.c + channel) * N;
                const float weight = (float)down[r];
                float part[N] = {};
                for (int q = 0; q < columns.count[column]; q++) {
                    const pack<T, N> v = load_pack<T, N>(from + q * s.c * N);
                    const float w = (float)across[q];
#pragma unroll
                    for (int k = 0; k < N; k++) part[k] += w * to_float(v.v[k]);
                }
#pragma unroll
                for (int k = 0; k < N; k++) sum[k] += weight * part[k];
            }
            pack<T, N> v;
#pragma unroll
            for (int k = 0; k < N; k++) v.v[k] = from_float<T>(sum[k]);
            store_pack<T, N>(y + (line * length + i) * N, v);
        }
    }
}

template <int N, typename T>
static int blend(const weft_env *env, const char *who, sizes s, const tables &t, const void *x, void *y) {
    s.c /= N;
    const lines l = lines_of(s.n * s.oh, s.ow * s.c);
    return launch(env, who, l.grid, l.block, 0, blend_kernel<N, T>, s, t.rows, t.columns, (const T *)x, (T *)y);
}

template <typename T>
static int blend_by_packs(const weft_env *env, const char *who, const sizes &s, const tables &t, const void *x,
                          void *y) {
    return s.c % wide<T>() == 0 && is_wide(x) && is_wide(y) ? blend<wide<T>(), T>(env, who, s, t, x, y)
                                                            : blend<1, T>(env, who, s, t, x, y);
}

/* ---- one direction, as Pillow ------------------------------------------------------------------------------- */

template <typename T> struct sum_of_taps {
    double v;
    __device__ __forceinline__ void start() { v = 0; }
    __device__ __forceinline__ void add(double w, T x) { v += w * to_float(x); }
    __device__ __forceinline__ T result() const { return from_float<T>((float)v); }
};
template <> struct sum_of_taps<uint8_t> {
    int v;
    __device__ __forceinline__ void start() { v = 1 << 21; }
    __device__ __forceinline__ void add(double w, uint8_t x) { v += (int)w * x; }
    __device__ __forceinline__ uint8_t result() const { return (uint8_t)(v < 0 ? 0 : v >> 22 > 255 ? 255 : v >> 22); }
};

/* (outer, in, inner) to (outer, out, inner); inner counts packs. */
template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK)
pass_kernel(int64_t outer, int64_t in, int64_t inner, taps t, const T *x, T *y) {
    for (int64_t line = line_first(); line < outer * t.out; line += line_step()) {
        const int64_t at = line % t.out;
        const double *w = t.w + at * t.most;
        for (int64_t i = grid_first(); i < inner; i += grid_step()) {
            const T *from = x + ((line / t.out * in + t.first[at]) * inner + i) * N;
            sum_of_taps<T> sum[N];
#pragma unroll
            for (int k = 0; k < N; k++) sum[k].start();
            for (int q = 0; q < t.count[at]; q++) {
                const pack<T, N> v = load_pack<T, N>(from + q * inner * N);
#pragma unroll
                for (int k = 0; k < N; k++) sum[k].add(w[q], v.v[k]);
            }
            pack<T, N> v;
#pragma unroll
            for (int k = 0; k < N; k++) v.v[k] = sum[k].result();
            store_pack<T, N>(y + (line * inner + i) * N, v);
        }
    }
}

template <typename T>
static int pass(const weft_env *env, int64_t outer, int64_t in, int64_t inner, const taps &t, const void *x, void *y) {
    constexpr int N = sizeof(T) == 1 ? 4 : wide<T>();
    const bool packs = inner % N == 0 && (size_t)x % (N * sizeof(T)) == 0 && (size_t)y % (N * sizeof(T)) == 0;
    const lines l = lines_of(outer * t.out, packs ? inner / N : inner);
    if (packs)
        return launch(env, "resample", l.grid, l.block, 0, pass_kernel<N, T>, outer, in, inner / N, t, (const T *)x,
                      (T *)y);
    return launch(env, "resample", l.grid, l.block, 0, pass_kernel<1, T>, outer, in, inner, t, (const T *)x, (T *)y);
}

/* Pillow 13 takes the rows first where that leaves far fewer of them; older ones always the columns. */
static bool rows_first(const sizes &s) { return s.h > s.oh && s.h - s.oh > 2 * (s.w - s.ow); }

template <typename T> static int pil(const weft_env *env, const sizes &s, const tables &t, const void *x, void *y) {
    if (s.oh == s.h) return pass<T>(env, s.n * s.h, s.w, s.c, t.columns, x, y);
    if (s.ow == s.w) return pass<T>(env, s.n, s.h, s.w * s.c, t.rows, x, y);
    const size_t bytes = (size_t)(s.n * (rows_first(s) ? s.oh * s.w : s.h * s.ow) * s.c) * sizeof(T);
    void *between = env->alloc(env->owner, bytes);
    if (!between) return WEFT_K_NO_MEMORY;
    int status;
    if (rows_first(s)) {
        status = pass<T>(env, s.n, s.h, s.w * s.c, t.rows, x, between);
        if (!status) status = pass<T>(env, s.n * s.oh, s.w, s.c, t.columns, between, y);
    } else {
        status = pass<T>(env, s.n * s.h, s.w, s.c, t.columns, x, between);
        if (!status) status = pass<T>(env, s.n, s.h, s.ow * s.c, t.rows, between, y);
    }
    env->release(env->owner, between, bytes);
    return status;
}

/* ---- the kernels of the table ------------------------------------------------------------------------------- */

template <typename T> static int resample(const weft_env *env, const weft_resample_args *a, const sizes &s) {
    tables t;
    int status = tables_of(env, &t, a->mode, a->type, s, false);
    if (status) return status;
    status = ref_is_pil(a->mode) ? pil<T>(env, s, t, a->x, a->y) : blend_by_packs<T>(env, "resample", s, t, a->x, a->y);
    tables_release(env, &t);
    return status;
}

int weft_cuda_resample(const weft_env *env, const weft_resample_args *a) {
    const sizes s = { a->n, a->h, a->w, a->c, a->oh, a->ow };
    const cuda_queue *q = cuda_queue_of(env);
    if ((unsigned)a->mode >= WEFT_RESAMPLE_COUNT) return WEFT_K_NO_CASE;
    if (!ref_takes((ref_is_pil(a->mode) ? REF_FLOATS | REF_BIT(WEFT_U8) : REF_FLOATS) & ~REF_BIT(WEFT_F64), a->type))
        return WEFT_K_NO_TYPE;
    if (a->n * a->c * a->oh * a->ow < 1) return WEFT_K_OK;
    if (a->h < 1 || a->w < 1 || !line_fits(a->h) || !line_fits(a->oh) || !line_fits(a->w * a->c)
        || !line_fits(a->ow * a->c))
        return WEFT_K_NO_CASE;
    if (a->mode == WEFT_NEAREST || a->mode == WEFT_NEAREST_EXACT) return resample_nearest(env, a, s);
    if (ref_is_pil(a->mode) && a->h == a->oh && a->w == a->ow) {
        const size_t bytes = (size_t)(a->n * a->h * a->w * a->c) * weft_dtype_size(a->type);
        const int status = cuda_enter(q);
        return status ? status
                      : cuda_asked(q, cudaMemcpyAsync(a->y, a->x, bytes, cudaMemcpyDefault, q->stream), "resample");
    }
    if (a->type == WEFT_U8) {
        tables t;
        int status = tables_of(env, &t, a->mode, a->type, s, false);
        if (status) return status;
        status = pil<uint8_t>(env, s, t, a->x, a->y);
        tables_release(env, &t);
        return status;
    }
#define DO(T) return resample<T>(env, a, s)
    EACH_FLOAT(a->type, DO)
#undef DO
}

template <int N, typename T> static int nearest_grad(const weft_env *env, const weft_resample_grad_args *a, sizes s) {
    s.c /= N;
    const lines l = lines_of(s.n * s.h, s.w * s.c);
    return launch(env, "resample_grad", l.grid, l.block, 0, nearest_grad_kernel<N, T>, s, a->mode == WEFT_NEAREST_EXACT,
                  (float)((double)s.h / (double)s.oh), (float)((double)s.w / (double)s.ow), (const T *)a->dy,
                  (T *)a->dx);
}

template <typename T> static int resample_grad(const weft_env *env, const weft_resample_grad_args *a, const sizes &s) {
    const bool packs = s.c % wide<T>() == 0 && is_wide(a->dy) && is_wide(a->dx);
    if (a->mode == WEFT_NEAREST || a->mode == WEFT_NEAREST_EXACT)
        return packs ? nearest_grad<wide<T>(), T>(env, a, s) : nearest_grad<1, T>(env, a, s);
    tables t;
    int status = tables_of(env, &t, a->mode, a->type, s, true);
    if (status) return status;
    status = blend_by_packs<T>(env, "resample_grad", sizes{ s.n, s.oh, s.ow, s.c, s.h, s.w }, t, a->dy, a->dx);
    tables_release(env, &t);
    return status;
}

int weft_cuda_resample_grad(const weft_env *env, const weft_resample_grad_args *a) {
    const sizes s = { a->n, a->h, a->w, a->c, a->oh, a->ow };
    const cuda_queue *q = cuda_queue_of(env);
    if ((unsigned)a->mode >= WEFT_RESAMPLE_COUNT) return WEFT_K_NO_CASE;
    if (!ref_takes(REF_FLOATS & ~REF_BIT(WEFT_F64), a->type)) return WEFT_K_NO_TYPE;
    if (a->n * a->c * a->h * a->w < 1) return WEFT_K_OK;
    if (a->oh < 1 || a->ow < 1) {
        const size_t bytes = (size_t)(a->n * a->h * a->w * a->c) * weft_dtype_size(a->type);
        const int status = cuda_enter(q);
        return status ? status : cuda_asked(q, cudaMemsetAsync(a->dx, 0, bytes, q->stream), "resample_grad");
    }
    if (!line_fits(a->h) || !line_fits(a->oh) || !line_fits(a->w * a->c) || !line_fits(a->ow * a->c))
        return WEFT_K_NO_CASE;
#define DO(T) return resample_grad<T>(env, a, s)
    EACH_FLOAT(a->type, DO)
#undef DO
}
