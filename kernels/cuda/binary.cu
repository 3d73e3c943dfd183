/* y = op(a, b), either repeated along any dimension.
 *
 * Dense operands go through map(). Else a thread makes N neighbours of y at once where the last dimension allows it:
 * each operand's are neighbours too, or one value.
 */
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/strided.cuh"

/* Minimum and maximum are NaN where an operand is. */
static __device__ __forceinline__ float binary(weft_binary_op op, float a, float b) {
    switch (op) {
    case WEFT_BINARY_ADD: return a + b;
    case WEFT_BINARY_SUB: return a - b;
    case WEFT_BINARY_MUL: return a * b;
    case WEFT_BINARY_DIV: return a / b;
    case WEFT_BINARY_MIN: return a < b || a != a ? a : b;
    default: return a > b || a != a ? a : b;
    }
}

struct binary_of {
    weft_binary_op op;
    __device__ __forceinline__ float operator()(float a, float b) const { return binary(op, a, b); }
};

/* N neighbours, or N times the same. */
template <int N, typename T> static __device__ __forceinline__ pack<T, N> load_or_repeat(const T *p, int64_t stride) {
    pack<T, N> v;
    if (stride) return load_pack<T, N>(p);
#pragma unroll
    for (int k = 0; k < N; k++) v.v[k] = *p;
    return v;
}

/* s counts the last dimension in packs. */
template <int N, typename I, typename T>
static __global__ void __launch_bounds__(BLOCK) binary_kernel(strided s, binary_of f, const T *a, const T *b, T *y) {
    for (int64_t i = grid_first(); i < s.count; i += grid_step()) {
        int64_t at_a, at_b;
        strided_at<I>(s, i, &at_a, &at_b);
        const pack<T, N> v = load_or_repeat<N>(a + at_a, N == 1 || s.stride[0][s.rank - 1]);
        const pack<T, N> w = load_or_repeat<N>(b + at_b, N == 1 || s.stride[1][s.rank - 1]);
        store_pack<T, N>(y + i * N, map_pack<T, N>(f, v, w));
    }
}

/* Whether an operand's packs along the last dimension are whole and aligned. */
static bool packs(const strided &s, int k, const void *p, int n) {
    const int last = s.rank - 1;
    if (s.stride[k][last] == 0) return true;
    if (s.stride[k][last] != 1 || !is_wide(p)) return false;
    for (int d = 0; d < last; d++)
        if (s.stride[k][d] % n) return false;
    return true;
}

template <typename T> static int run(const weft_env *env, const weft_binary_args *a, strided s) {
    const T *p = (const T *)a->a, *q = (const T *)a->b;
    T *y = (T *)a->y;
    constexpr int N = wide<T>();
    const int last = s.rank - 1;
    if (s.rank == 1 && s.stride[0][0] == 1 && s.stride[1][0] == 1)
        return map<T>(env, "binary", s.count, binary_of{ a->op }, a->y, a->a, a->b);
    if (s.shape[last] % N == 0 && is_wide(y) && packs(s, 0, p, N) && packs(s, 1, q, N)) {
        s.shape[last] /= N;
        s.count /= N;
        for (int k = 0; k < 2; k++) s.stride[k][last] *= N;
        const unsigned grid = grid_for(env, s.count);
        if (strided_is_small(s))
            return launch(env, "binary", grid, BLOCK, 0, binary_kernel<N, uint32_t, T>, s, binary_of{ a->op }, p, q, y);
        return launch(env, "binary", grid, BLOCK, 0, binary_kernel<N, int64_t, T>, s, binary_of{ a->op }, p, q, y);
    }
    return launch(env, "binary", grid_for(env, s.count), BLOCK, 0, binary_kernel<1, int64_t, T>, s, binary_of{ a->op },
                  p, q, y);
}

int weft_cuda_binary(const weft_env *env, const weft_binary_args *a) {
    strided s = strided_of(a->rank, a->shape, a->a_stride, a->b_stride);
    if ((unsigned)a->op >= WEFT_BINARY_COUNT || s.count < 0) return WEFT_K_NO_CASE;
    if (s.count == 0) return WEFT_K_OK;
    strided_simplify(&s);
#define DO(T) return run<T>(env, a, s)
    EACH_FLOAT(a->type, DO)
#undef DO
}
