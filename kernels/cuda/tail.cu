/* y = act(d + bias) + row + residual: what a library could not add behind its product, in one pass over it. */
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/products.h"

/* The columns in packs of N, as the strides are; a missing operand is NULL. */
template <typename T, typename D> struct tail_of {
    int64_t m, n, d_row, rows_per_row, residual_row, y_row;
    weft_activation act;
    const D *d;
    const T *bias, *row, *residual;
    T *y;
};

template <int N, typename T>
static __device__ __forceinline__ void add_pack(float *sum, const T *p) {
    if (!p) return;
    const pack<T, N> v = load_pack<T, N>(p);
#pragma unroll
    for (int k = 0; k < N; k++) sum[k] += to_float(v.v[k]);
}

template <int N, typename I, typename T, typename D>
static __global__ void __launch_bounds__(BLOCK) tail_kernel(tail_of<T, D> t) {
    for (int64_t i = grid_first(); i < t.m * t.n; i += grid_step()) {
        const int64_t r = (int64_t)((I)i / (I)t.n), at = (i - r * t.n) * N;
        float sum[N] = {};
        pack<T, N> y;
        add_pack<N>(sum, t.d + r * t.d_row + at);
        add_pack<N>(sum, t.bias ? t.bias + at : t.bias);
        if (t.act != WEFT_ACT_NONE) {
#pragma unroll
            for (int k = 0; k < N; k++) sum[k] = activate(t.act, sum[k]);
        }
        add_pack<N>(sum, t.row ? t.row + (int64_t)((I)r / (I)t.rows_per_row) * t.n * N + at : t.row);
        add_pack<N>(sum, t.residual ? t.residual + r * t.residual_row + at : t.residual);
#pragma unroll
        for (int k = 0; k < N; k++) y.v[k] = from_float<T>(sum[k]);
        store_pack<T, N>(t.y + r * t.y_row + at, y);
    }
}

/* Four at once: 16 bytes of f32, 8 of 16-bit types. */
enum { TAIL_PACK = 4 };

static bool aligned(const void *p, int64_t row, size_t size) {
    return (size_t)p % (TAIL_PACK * size) == 0 && (row * (int64_t)size) % (int64_t)(TAIL_PACK * size) == 0;
}

template <typename T, typename D> static int run(const weft_env *env, const char *who, const cuda_tail *a) {
    tail_of<T, D> t = { a->m, a->n, a->d_row, a->rows_per_row, a->residual_row, a->y_row, a->act, (const D *)a->d,
                        (const T *)a->bias, (const T *)a->row, (const T *)a->residual, (T *)a->y };
    const bool packs = a->n % TAIL_PACK == 0 && aligned(a->d, a->d_row, sizeof(D)) && aligned(a->y, a->y_row, sizeof(T))
                    && aligned(a->bias, 0, sizeof(T)) && aligned(a->row, 0, sizeof(T))
                    && (!a->residual || aligned(a->residual, a->residual_row, sizeof(T)));
    const bool small = a->m * a->n <= INT32_MAX;
    if (packs) t.n /= TAIL_PACK;
    const unsigned grid = grid_for(env, t.m * t.n);
    if (packs && small) return launch(env, who, grid, BLOCK, 0, tail_kernel<TAIL_PACK, uint32_t, T, D>, t);
    if (packs) return launch(env, who, grid, BLOCK, 0, tail_kernel<TAIL_PACK, int64_t, T, D>, t);
    return launch(env, who, grid, BLOCK, 0, tail_kernel<1, int64_t, T, D>, t);
}

int cuda_tail_run(const weft_env *env, const char *who, const cuda_tail *t) {
    if (t->m < 1 || t->n < 1) return WEFT_K_OK;
    if (t->d_type == WEFT_F32) {
#define DO(T) return run<T, float>(env, who, t)
        EACH_FLOAT(t->type, DO)
#undef DO
    }
#define DO(T) return run<T, T>(env, who, t)
    EACH_FLOAT(t->type, DO)
#undef DO
}
