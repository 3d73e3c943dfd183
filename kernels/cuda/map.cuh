/* y(i) = f(a(i), b(i), …) over dense arrays: what the element-wise kernels are made of.
 *
 * f is a struct with operator()(float…) → float; y may be any of the inputs. Wide loads where all addresses allow them.
 */
#ifndef WEFT_CUDA_MAP_CUH
#define WEFT_CUDA_MAP_CUH

#include "kernels/cuda/common.cuh"

template <typename T, int N, typename F, typename... X>
static __device__ __forceinline__ pack<T, N> map_pack(const F &f, const X &...x) {
    pack<T, N> y;
#pragma unroll
    for (int k = 0; k < N; k++) y.v[k] = from_float<T>(f(to_float(x.v[k])...));
    return y;
}

/* N elements a step, then those that are left, one each. */
template <int N, typename T, typename F, typename... X>
static __global__ void __launch_bounds__(BLOCK) map_kernel(int64_t n, F f, T *y, const X *...x) {
    for (int64_t i = grid_first(); i < n / N; i += grid_step())
        store_pack<T, N>(y + i * N, map_pack<T, N>(f, load_pack<X, N>(x + i * N)...));
    for (int64_t i = n / N * N + grid_first(); N > 1 && i < n; i += grid_step())
        y[i] = from_float<T>(f(to_float(x[i])...));
}

template <typename T, typename> using always = T;

template <typename T, int N, typename F, typename... X>
static int map_by(const weft_env *env, const char *who, int64_t n, const F &f, void *y, const X *...x) {
    if (n < 1) return WEFT_K_OK;
    return launch(env, who, grid_for(env, (n + N - 1) / N), BLOCK, 0, map_kernel<N, T, F, always<T, X>...>, n, f,
                  (T *)y, (const T *)x...);
}

template <typename... X> static bool all_wide(const X *...x) {
    bool all = true;
    for (const void *p : { (const void *)x... }) all = all && is_wide(p);
    return all;
}

template <typename T, typename F, typename... X>
static int map(const weft_env *env, const char *who, int64_t n, const F &f, void *y, const X *...x) {
    return all_wide(y, x...) ? map_by<T, wide<T>()>(env, who, n, f, y, x...) : map_by<T, 1>(env, who, n, f, y, x...);
}

#endif
