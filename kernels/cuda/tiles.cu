/* Products and convolutions by tiles of our own, for whatever cuBLASLt or cuDNN has no algorithm for: odd strides,
 * pads, types.
 *
 * A block makes 64×64 sums of products of a(row, k) and b(k, column); where a and b come from (strides, a convolution's
 * windows) is what the kernels differ in, so that a convolution is one product without its matrix of windows ever being
 * there. Sums are f32: 16 terms, then those together, in a fixed order.
 */
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/products.h"

enum { TILE = 64, DEPTH = 16, SIDE = 4, THREADS = 256 };        /* a thread has SIDE × SIDE of the sums */
enum { LINE = TILE + 4 };       /* of a tile in shared memory, so that stores along k meet in few banks */

/* ---- where operands come from: at(place of a row or column, k) ----------------------------------------------- */

/* Strides. along_k: neighbours in memory are neighbours in k, which tells how a block's threads share the loads. */
template <typename T> struct from_strides {
    typedef const T *place;
    const T *p;
    int64_t batch, major, step;
    bool along_k;
    __device__ __forceinline__ place start(int64_t image, int64_t i) const { return p + image * batch + i * major; }
    __device__ __forceinline__ float at(place from, uint32_t k) const { return to_float(from[(int64_t)k * step]); }
};

/* The windows of x(n,h,w,c) that y's pixels see, k = (tap, c): rows of y are `step` rows of x apart, and between two
 * rows of x lie `gap` − 1 of zeros (that is the gradient of a convolution of that stride). */
template <typename T> struct from_windows {
    struct place { const T *image; int32_t y, x; };
    const T *p;
    int64_t oh, ow;
    int32_t h, w, c, kw, step, gap, top, left;
    bool along_k;
    __device__ __forceinline__ place start(int64_t, int64_t i) const {
        const int64_t line = i / ow;
        return { p + line / oh * h * w * c, (int32_t)(line % oh) * step - top, (int32_t)(i - line * ow) * step - left };
    }
    __device__ __forceinline__ float at(const place &from, uint32_t k) const {
        const uint32_t tap = k / (uint32_t)c, ky = tap / (uint32_t)kw;
        int32_t y = from.y + (int32_t)ky, x = from.x + (int32_t)(tap - ky * (uint32_t)kw);
        if (gap > 1) {
            if (y % gap || x % gap) return 0;
            y /= gap;
            x /= gap;
        }
        if (y < 0 || y >= h || x < 0 || x >= w) return 0;
        return to_float(from.image[((int64_t)y * w + x) * c + (k - tap * (uint32_t)c)]);
    }
};

/* What one weight (c, tap) of a convolution saw of x, k = (n, oy, ox). */
template <typename T> struct from_pixels {
    struct place { int64_t c; int32_t y, x; };
    const T *p;
    int64_t c;
    int32_t h, w, oh, ow, kh, kw, stride, top, left;
    bool along_k;
    __device__ __forceinline__ place start(int64_t, int64_t i) const {
        const int32_t tap = (int32_t)(i % (kh * kw));
        return { i / (kh * kw), tap / kw - top, tap % kw - left };
    }
    __device__ __forceinline__ float at(const place &from, uint32_t k) const {
        const uint32_t line = k / (uint32_t)ow, image = line / (uint32_t)oh;
        const int32_t y = (int32_t)(line - image * (uint32_t)oh) * stride + from.y;
        const int32_t x = (int32_t)(k - line * (uint32_t)ow) * stride + from.x;
        if (y < 0 || y >= h || x < 0 || x >= w) return 0;
        return to_float(p[(((int64_t)image * h + y) * w + x) * c + from.c]);
    }
};

/* d = act(alpha·sum + c + bias) + row; missing ones are NULL. */
template <typename D> struct to_rows {
    float alpha;
    weft_activation act;
    const D *c; int64_t c_batch, c_row;
    const D *bias, *row; int64_t rows_per_row, columns;
    D *d; int64_t d_batch, d_row;
    __device__ __forceinline__ void put(int64_t image, int64_t i, int64_t j, float sum) const {
        float v = alpha * sum;
        if (c) v += to_float(c[image * c_batch + i * c_row + j]);
        if (bias) v += to_float(bias[j]);
        if (act != WEFT_ACT_NONE) v = activate(act, v);
        if (row) v += to_float(row[i / rows_per_row * columns + j]);
        d[image * d_batch + i * d_row + j] = from_float<D>(v);
    }
};

/* ---- the tile ----------------------------------------------------------------------------------------------- */

/* 64 rows (or columns) × 16 of k into shared memory, zeros outside: each thread four, along k or along the rows. */
template <typename F, typename P>
static __device__ __forceinline__ void load(const F &from, const P *place, float (*tile)[LINE], int64_t rows_left,
                                            int64_t k0, int64_t k) {
    const int t = (int)threadIdx.x;
#pragma unroll
    for (int i = 0; i < SIDE; i++) {
        const int row = from.along_k ? t / DEPTH + i * (THREADS / DEPTH) : t % TILE;
        const int depth = from.along_k ? t % DEPTH : t / TILE + i * (THREADS / TILE);
        tile[depth][row] = row < rows_left && k0 + depth < k ? from.at(place[i], (uint32_t)(k0 + depth)) : 0;
    }
}

template <typename F, typename P>
static __device__ __forceinline__ void start(const F &from, P *place, int64_t image, int64_t first) {
    const int t = (int)threadIdx.x;
#pragma unroll
    for (int i = 0; i < SIDE; i++)
        place[i] = from.start(image, first + (from.along_k ? t / DEPTH + i * (THREADS / DEPTH) : t % TILE));
}

static __device__ __forceinline__ void add_products(const float *a, const float *b, float (*sum)[SIDE]) {
#pragma unroll
    for (int i = 0; i < SIDE; i++)
#pragma unroll
        for (int j = 0; j < SIDE; j++) sum[i][j] += a[i] * b[j];
}

typedef struct tile_sizes { int64_t batch, m, n, k; } tile_sizes;

template <typename A, typename B, typename P>
static __global__ void __launch_bounds__(THREADS) tile_kernel(tile_sizes s, A a, B b, P to) {
    __shared__ __align__(16) float tile_a[DEPTH][LINE], tile_b[DEPTH][LINE];
    const int x = (int)threadIdx.x % (TILE / SIDE) * SIDE, y = (int)threadIdx.x / (TILE / SIDE) * SIDE;
    for (int64_t image = blockIdx.z; image < s.batch; image += gridDim.z)
        for (int64_t j0 = (int64_t)blockIdx.y * TILE; j0 < s.n; j0 += (int64_t)gridDim.y * TILE) {
            const int64_t i0 = (int64_t)blockIdx.x * TILE;
            typename A::place from_a[SIDE];
            typename B::place from_b[SIDE];
            float sum[SIDE][SIDE] = {};
            start(a, from_a, image, i0);
            start(b, from_b, image, j0);
            for (int64_t k0 = 0; k0 < s.k; k0 += DEPTH) {
                float part[SIDE][SIDE] = {};
                load(a, from_a, tile_a, s.m - i0, k0, s.k);
                load(b, from_b, tile_b, s.n - j0, k0, s.k);
                __syncthreads();
#pragma unroll
                for (int depth = 0; depth < DEPTH; depth++) add_products(&tile_a[depth][y], &tile_b[depth][x], part);
                __syncthreads();
#pragma unroll
                for (int i = 0; i < SIDE; i++)
#pragma unroll
                    for (int j = 0; j < SIDE; j++) sum[i][j] += part[i][j];
            }
#pragma unroll
            for (int i = 0; i < SIDE; i++)
#pragma unroll
                for (int j = 0; j < SIDE; j++)
                    if (i0 + y + i < s.m && j0 + x + j < s.n) to.put(image, i0 + y + i, j0 + x + j, sum[i][j]);
        }
}

template <typename A, typename B, typename P>
static int tiles(const weft_env *env, const char *who, const tile_sizes &s, const A &a, const B &b, const P &to) {
    const int64_t rows = (s.m + TILE - 1) / TILE, columns = (s.n + TILE - 1) / TILE, most = 65535;
    const cuda_plan_key key = { { s.batch, s.m, s.n, s.k }, 4 };
    if (rows > INT32_MAX || s.k > INT32_MAX) return WEFT_K_NO_CASE;
    cuda_plan_tell(who, &key, "our own tiles");
    const dim3 grid((unsigned)rows, (unsigned)(columns < most ? columns : most),
                    (unsigned)(s.batch < most ? s.batch : most));
    return launch(env, who, grid, dim3(THREADS), 0, tile_kernel<A, B, P>, s, a, b, to);
}

/* ---- products ----------------------------------------------------------------------------------------------- */

template <typename T, typename D> static int product(const weft_env *env, const char *who, const cuda_product *p) {
    const from_strides<T> a = { (const T *)p->a, p->a_batch, p->a_row, p->a_col, p->a_col == 1 };
    const from_strides<T> b = { (const T *)p->b, p->b_batch, p->b_col, p->b_row, p->b_row == 1 };
    const to_rows<D> to = { (float)p->alpha, p->act, (const D *)p->c, p->c_batch, p->c_row, (const D *)p->bias, nullptr,
                            1, p->n, (D *)p->d, p->d_batch, p->d_row };
    return tiles(env, who, tile_sizes{ p->batch, p->m, p->n, p->k }, a, b, to);
}

int cuda_tile_product(const weft_env *env, const char *who, const cuda_product *p) {
    if (p->d_type == WEFT_F32) {
#define DO(T) return product<T, float>(env, who, p)
        EACH_FLOAT(p->type, DO)
#undef DO
    }
#define DO(T) return product<T, T>(env, who, p)
    EACH_FLOAT(p->type, DO)
#undef DO
}

/* ---- convolutions ------------------------------------------------------------------------------------------- */

/* Pictures whose sides and taps do not fit 32-bit numbers there are none of. */
static bool counts(int64_t h, int64_t w, int64_t c, int64_t taps) {
    const int64_t most = INT32_MAX / 2;
    return h < most && w < most && c < most && (c == 0 || taps < most / c);
}

template <typename T>
static int conv(const weft_env *env, const char *who, const weft_conv2d_args *a, const from_windows<T> &x) {
    const int64_t k = (int64_t)a->kh * a->kw * a->c;
    const from_strides<T> w = { (const T *)a->weight, 0, k, 1, true };
    const to_rows<T> to = { 1, WEFT_ACT_NONE, (const T *)a->residual, 0, a->o, (const T *)a->bias, (const T *)a->row,
                            a->oh * a->ow, a->o, (T *)a->y, 0, a->o };
    return tiles(env, who, tile_sizes{ 1, a->n * a->oh * a->ow, a->o, k }, x, w, to);
}

int cuda_tile_conv(const weft_env *env, const char *who, const weft_conv2d_args *a) {
    if (!counts(a->h, a->w, a->c, (int64_t)a->kh * a->kw) || !counts(a->oh * a->stride, a->ow * a->stride, 1, 1))
        return WEFT_K_NO_CASE;
#define DO(T)                                                                                                          \
    return conv<T>(env, who, a,                                                                                        \
                   { (const T *)a->x, a->oh, a->ow, (int32_t)a->h, (int32_t)a->w, (int32_t)a->c, a->kw, a->stride, 1,  \
                     a->pad_top, a->pad_left, true })
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* A convolution of dy, spread out by the stride, with the weights as they were packed for it: turned over. */
int cuda_tile_conv_grad_input(const weft_env *env, const char *who, const weft_conv2d_grad_input_args *a) {
    const weft_conv2d_args f = { .type = a->type, .wtype = a->wtype, .n = a->n, .h = a->oh, .w = a->ow, .c = a->o,
                                 .o = a->c, .oh = a->h, .ow = a->w, .kh = a->kh, .kw = a->kw, .stride = 1,
                                 .pad_top = a->kh - 1 - a->pad_top, .pad_left = a->kw - 1 - a->pad_left, .x = a->dy,
                                 .weight = a->weight, .bias = nullptr, .row = nullptr, .residual = nullptr,
                                 .y = a->dx };
    if (!counts(a->oh * a->stride, a->ow * a->stride, a->o, (int64_t)a->kh * a->kw) || !counts(a->h, a->w, 1, 1))
        return WEFT_K_NO_CASE;
#define DO(T)                                                                                                          \
    return conv<T>(env, who, &f,                                                                                       \
                   { (const T *)f.x, f.oh, f.ow, (int32_t)f.h, (int32_t)f.w, (int32_t)f.c, f.kw, 1, a->stride,         \
                     f.pad_top, f.pad_left, true })
    EACH_FLOAT(a->type, DO)
#undef DO
}

template <typename T>
static int grad_weight(const weft_env *env, const char *who, const weft_conv2d_grad_weight_args *a) {
    const int64_t columns = (int64_t)a->kh * a->kw * a->c, pixels = a->n * a->oh * a->ow;
    const from_strides<T> dy = { (const T *)a->dy, 0, 1, a->o, false };
    const from_pixels<T> x = { (const T *)a->x, a->c, (int32_t)a->h, (int32_t)a->w, (int32_t)a->oh, (int32_t)a->ow,
                               a->kh, a->kw, a->stride, a->pad_top, a->pad_left, false };
    const to_rows<T> to = { 1, WEFT_ACT_NONE, a->accumulate ? (const T *)a->dw : nullptr, 0, columns, nullptr, nullptr,
                            1, columns, (T *)a->dw, 0, columns };
    return tiles(env, who, tile_sizes{ 1, a->o, columns, pixels }, dy, x, to);
}

int cuda_tile_conv_grad_weight(const weft_env *env, const char *who, const weft_conv2d_grad_weight_args *a) {
    if (!counts(a->h, a->w, a->c, (int64_t)a->kh * a->kw) || !counts(a->oh * a->stride, a->ow * a->stride, 1, 1))
        return WEFT_K_NO_CASE;
#define DO(T) return grad_weight<T>(env, who, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}
