/* pad: a picture with more (or, constant mode, less) around it, types by their size alone; and its gradient. */
#include <string.h>
#include "kernels/cuda/lines.cuh"
#include "kernels/ref/ref.h"

/* c counts units of a pixel. */
typedef struct padding { weft_pad_mode mode; int64_t n, h, w, c, top, left, oh, ow; } padding;

/* Whether the mode can fill these pads beside `size` values: replicating needs one, reflecting more than it fills. */
static bool fits(weft_pad_mode mode, int64_t size, int64_t before, int64_t after) {
    if (size + before + after < 0) return false;
    if (mode == WEFT_PAD_CONSTANT || (before == 0 && after == 0)) return true;
    if (before < 0 || after < 0) return false;
    return mode == WEFT_PAD_REPLICATE ? size > 0 : before < size && after < size;
}

/* ---- forward ------------------------------------------------------------------------------------------------ */

/* The source position of a padded one; −1: outside, where the constant goes. */
static __device__ __forceinline__ int64_t source(weft_pad_mode mode, int64_t i, int64_t size) {
    if (i >= 0 && i < size) return i;
    if (mode == WEFT_PAD_REPLICATE) return i < 0 ? 0 : size - 1;
    if (mode == WEFT_PAD_REFLECT) return i < 0 ? -i : 2 * (size - 1) - i;
    return -1;
}

template <typename U> static __global__ void __launch_bounds__(BLOCK) pad_kernel(padding s, U value, const U *x, U *y) {
    const int64_t length = s.ow * s.c;
    for (int64_t line = line_first(); line < s.n * s.oh; line += line_step()) {
        const int64_t row = source(s.mode, line % s.oh - s.top, s.h);
        const U *from = x + (line / s.oh * s.h + row) * s.w * s.c;
        for (int64_t i = grid_first(); i < length; i += grid_step()) {
            const uint32_t column = (uint32_t)i / (uint32_t)s.c;
            const int64_t at = source(s.mode, (int64_t)column - s.left, s.w);
            y[line * length + i] = row < 0 || at < 0 ? value : from[at * s.c + ((uint32_t)i - column * (uint32_t)s.c)];
        }
    }
}

template <typename U>
static int pad(const weft_env *env, const padding &s, const uint64_t *values, const void *x, void *y) {
    const lines l = lines_of(s.n * s.oh, s.ow * s.c);
    U value;
    memcpy(&value, values, sizeof value);
    return launch(env, "pad", l.grid, l.block, 0, pad_kernel<U>, s, value, (const U *)x, (U *)y);
}

int weft_cuda_pad(const weft_env *env, const weft_pad_args *a) {
    const size_t size = weft_dtype_size(a->type), pixel = (size_t)a->c * size;
    uint64_t values[2] = { 0, 0 };
    if (!size) return WEFT_K_NO_TYPE;
    if ((unsigned)a->mode >= WEFT_PAD_COUNT) return WEFT_K_NO_CASE;
    if (!fits(a->mode, a->h, a->top, a->bottom) || !fits(a->mode, a->w, a->left, a->right)) return WEFT_K_NO_CASE;
    padding s = { a->mode, a->n, a->h, a->w, a->c, a->top, a->left, a->h + a->top + a->bottom,
                  a->w + a->left + a->right };
    if (s.n * s.oh * s.ow * s.c < 1) return WEFT_K_OK;
    for (size_t i = 0; i < sizeof values / size; i++) ref_put(a->type, values, (int64_t)i, a->value);
    const int unit = unit_of(pixel, a->x, a->y);
    s.c = (int64_t)(pixel / unit);
    if (!line_fits(s.ow * s.c)) return WEFT_K_NO_CASE;
#define DO(U) return pad<U>(env, s, values, a->x, a->y)
    EACH_UNIT(unit, DO)
#undef DO
}

/* ---- gradient ----------------------------------------------------------------------------------------------- */

/* The padded positions that a source position was copied to: a range, and its mirror images (−1: none). */
typedef struct copies { int64_t first, last, mirror[2]; } copies;

static __device__ __forceinline__ copies copies_of(weft_pad_mode mode, int64_t i, int64_t size, int64_t before,
                                                   int64_t all) {
    copies r = { i + before, i + before, { -1, -1 } };
    if (mode == WEFT_PAD_REPLICATE) {
        if (i == 0) r.first = 0;
        if (i == size - 1) r.last = all - 1;
    } else if (mode == WEFT_PAD_REFLECT) {
        if (i > 0 && before - i >= 0) r.mirror[0] = before - i;
        if (i < size - 1 && before + 2 * (size - 1) - i < all) r.mirror[1] = before + 2 * (size - 1) - i;
    } else if (r.first < 0 || r.first >= all) r.last = r.first - 1;
    return r;
}

/* The next one behind position p, first −1; −1 behind the last. */
static __device__ __forceinline__ int64_t next_copy(const copies &r, int64_t p) {
    if (p < 0 && r.first <= r.last) return r.first;
    if (p >= r.first && p < r.last) return p + 1;
    if (p == r.last && r.mirror[0] >= 0) return r.mirror[0];
    if (p != r.mirror[1] && p >= 0) return r.mirror[1];
    return -1;
}

/* c counts packs. */
template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK) pad_grad_kernel(padding s, const T *dy, T *dx) {
    const int64_t length = s.w * s.c;
    for (int64_t line = line_first(); line < s.n * s.h; line += line_step()) {
        const copies rows = copies_of(s.mode, line % s.h, s.h, s.top, s.oh);
        const T *image = dy + line / s.h * s.oh * s.ow * s.c * N;
        for (int64_t i = grid_first(); i < length; i += grid_step()) {
            const uint32_t column = (uint32_t)i / (uint32_t)s.c, channel = (uint32_t)i - column * (uint32_t)s.c;
            const copies columns = copies_of(s.mode, column, s.w, s.left, s.ow);
            float sum[N] = {};
            for (int64_t r = next_copy(rows, -1); r >= 0; r = next_copy(rows, r))
                for (int64_t q = next_copy(columns, -1); q >= 0; q = next_copy(columns, q)) {
                    const pack<T, N> v = load_pack<T, N>(image + ((r * s.ow + q) * s.c + channel) * N);
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

template <int N, typename T> static int pad_grad(const weft_env *env, padding s, const void *dy, void *dx) {
    s.c /= N;
    const lines l = lines_of(s.n * s.h, s.w * s.c);
    return launch(env, "pad_grad", l.grid, l.block, 0, pad_grad_kernel<N, T>, s, (const T *)dy, (T *)dx);
}

int weft_cuda_pad_grad(const weft_env *env, const weft_pad_grad_args *a) {
    if ((unsigned)a->mode >= WEFT_PAD_COUNT) return WEFT_K_NO_CASE;
    if (!fits(a->mode, a->h, a->top, a->bottom) || !fits(a->mode, a->w, a->left, a->right) || !line_fits(a->w * a->c))
        return WEFT_K_NO_CASE;
    const padding s = { a->mode, a->n, a->h, a->w, a->c, a->top, a->left, a->h + a->top + a->bottom,
                        a->w + a->left + a->right };
    if (s.n * s.h * s.w * s.c < 1) return WEFT_K_OK;
#define DO(T) \
    return s.c % wide<T>() == 0 && is_wide(a->dy) && is_wide(a->dx) ? pad_grad<wide<T>(), T>(env, s, a->dy, a->dx) \
                                                                    : pad_grad<1, T>(env, s, a->dy, a->dx)
    EACH_FLOAT(a->type, DO)
#undef DO
}
