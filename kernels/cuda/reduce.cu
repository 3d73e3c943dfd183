/* reduce: sum, mean, largest or smallest of x(outer, mid, inner) over mid, see reduce.cuh; and its gradient. */
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/reduce.cuh"

/* ---- forward ------------------------------------------------------------------------------------------------ */

/* NaN where a value is. */
struct pick_of {
    typedef float sum;
    bool largest;
    __device__ __forceinline__ float none() const { return largest ? -INFINITY : INFINITY; }
    __device__ __forceinline__ float one(float v) const { return v; }
    __device__ __forceinline__ float join(float a, float b) const {
        return (largest ? b > a : b < a) || b != b ? b : a;
    }
    __device__ __forceinline__ float four(float a, float b, float c, float d) const {
        return join(join(a, b), join(c, d));
    }
};

template <typename T> struct put {
    T *y;
    double divide;
    __device__ __forceinline__ void operator()(int64_t i, double v) const { y[i] = from_float<T>((float)(v / divide)); }
    __device__ __forceinline__ void operator()(int64_t i, float v) const { y[i] = from_float<T>(v); }
};

template <typename T> static int reduce(const weft_env *env, const weft_reduce_args *a) {
    const put<T> store = { (T *)a->y, a->op == WEFT_REDUCE_MEAN ? (double)a->mid : 1 };
    if (a->op == WEFT_REDUCE_SUM || a->op == WEFT_REDUCE_MEAN)
        return reduce_dense<T>(env, "reduce", a->outer, a->mid, a->inner, a->x, sum_of(), store);
    return reduce_dense<T>(env, "reduce", a->outer, a->mid, a->inner, a->x, pick_of{ a->op == WEFT_REDUCE_MAX }, store);
}

int weft_cuda_reduce(const weft_env *env, const weft_reduce_args *a) {
    const bool picks = a->op == WEFT_REDUCE_MAX || a->op == WEFT_REDUCE_MIN;
    if ((unsigned)a->op >= WEFT_REDUCE_COUNT || (picks && a->mid < 1)) return WEFT_K_NO_CASE;
#define DO(T) return reduce<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* ---- gradient ----------------------------------------------------------------------------------------------- */

/* dy over all of mid. inner counts packs of N, or is N where one value of dy fills a pack. */
template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK)
spread_kernel(int64_t packs, int64_t mid, int64_t inner, float divide, bool single, const T *dy, T *dx) {
    for (int64_t i = grid_first(); i < packs; i += grid_step()) {
        const int64_t from = i / (mid * inner) * inner + i % inner;
        pack<T, N> v;
        if (single) {
#pragma unroll
            for (int k = 0; k < N; k++) v.v[k] = dy[from];
        } else v = load_pack<T, N>(dy + from * N);
#pragma unroll
        for (int k = 0; k < N; k++) v.v[k] = from_float<T>(to_float(v.v[k]) / divide);
        store_pack<T, N>(dx + i * N, v);
    }
}

template <typename T> static int spread(const weft_env *env, const weft_reduce_grad_args *a) {
    constexpr int N = wide<T>();
    const float divide = a->op == WEFT_REDUCE_MEAN ? (float)a->mid : 1;
    const int64_t n = a->outer * a->mid * a->inner;
    const T *dy = (const T *)a->dy;
    T *dx = (T *)a->dx;
    if (is_wide(dx) && a->inner == 1 && a->mid % N == 0)
        return launch(env, "reduce_grad", grid_for(env, n / N), BLOCK, 0, spread_kernel<N, T>, n / N, a->mid / N,
                      (int64_t)1, divide, true, dy, dx);
    if (is_wide(dx) && is_wide(dy) && a->inner % N == 0)
        return launch(env, "reduce_grad", grid_for(env, n / N), BLOCK, 0, spread_kernel<N, T>, n / N, a->mid,
                      a->inner / N, divide, false, dy, dx);
    return launch(env, "reduce_grad", grid_for(env, n), BLOCK, 0, spread_kernel<1, T>, n, a->mid, a->inner, divide,
                  false, dy, dx);
}

/* A block has `wide` columns of one outer; its threads count the values equal to y, row by row, and then share dy among
 * them. */
template <typename T>
static __global__ void __launch_bounds__(BLOCK)
share_kernel(int64_t outer, int64_t mid, int64_t inner, int wide, const T *x, const T *y, const T *dy, T *dx) {
    __shared__ int equal[BLOCK];
    const int64_t across = (inner + wide - 1) / wide;
    const int w = (int)threadIdx.x % wide, high = BLOCK / wide, row = (int)threadIdx.x / wide;
    for (int64_t tile = blockIdx.x; tile < outer * across; tile += gridDim.x) {
        const int64_t column = tile % across * wide + w, at = tile / across * inner + column,
                      first = tile / across * mid * inner + column;
        const bool there = row < high && column < inner;
        const float best = there ? to_float(y[at]) : 0;
        int count = 0;
        for (int64_t i = row; there && i < mid; i += high) count += to_float(x[first + i * inner]) == best;
        __syncthreads();
        equal[threadIdx.x] = count;
        __syncthreads();
        count = 0;
        for (int i = 0; i < high; i++) count += equal[i * wide + w];
        const float part = there ? to_float(dy[at]) / (float)count : 0;
        for (int64_t i = row; there && i < mid; i += high)
            dx[first + i * inner] = from_float<T>(to_float(x[first + i * inner]) == best ? part : 0);
    }
}

template <typename T> static int share(const weft_env *env, const weft_reduce_grad_args *a) {
    const int wide = (int)least(a->inner, WARP);
    const int64_t tiles = a->outer * div_up(a->inner, wide);
    return launch(env, "reduce_grad", grid_of(tiles), BLOCK, 0, share_kernel<T>, a->outer, a->mid, a->inner, wide,
                  (const T *)a->x, (const T *)a->y, (const T *)a->dy, (T *)a->dx);
}

int weft_cuda_reduce_grad(const weft_env *env, const weft_reduce_grad_args *a) {
    const bool picks = a->op == WEFT_REDUCE_MAX || a->op == WEFT_REDUCE_MIN;
    if ((unsigned)a->op >= WEFT_REDUCE_COUNT) return WEFT_K_NO_CASE;
    if (a->outer * a->mid * a->inner < 1) return WEFT_K_OK;
#define DO(T) return picks ? share<T>(env, a) : spread<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}
