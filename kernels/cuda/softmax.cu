/* Softmax of rows, y = exp(scale·x − largest)/Σ, and its gradient, dx = scale·y·(dy − Σ y·dy).
 *
 * The exponent is (x − best)·scale with the x that makes it largest, not scale·x − largest: exactly 0 for the best,
 * however large x is and however the compiler fuses.
 */
#include "kernels/cuda/rows.cuh"

template <int N, typename T>
static __global__ void __launch_bounds__(LARGEST_TEAM)
softmax_kernel(int64_t rows, int64_t packs, float scale, const T *x, T *y) {
    const float sign = scale < 0 ? -1 : 1;
    for (int64_t row = first_row(); row < rows; row += row_step()) {
        const T *from = x + row * packs * N;
        T *to = y + row * packs * N;
        float best = -INFINITY, total = 0;
        for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
            const pack<T, N> v = load_pack<T, N>(from + i * N);
#pragma unroll
            for (int k = 0; k < N; k++) best = fmaxf(best, sign * to_float(v.v[k]));
        }
        best = sign * team_max(best);
        for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
            const pack<T, N> v = load_pack<T, N>(from + i * N);
#pragma unroll
            for (int k = 0; k < N; k++) total += expf((to_float(v.v[k]) - best) * scale);
        }
        total = 1 / team_sum(total);
        for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
            pack<T, N> v = load_pack<T, N>(from + i * N);
#pragma unroll
            for (int k = 0; k < N; k++) v.v[k] = from_float<T>(expf((to_float(v.v[k]) - best) * scale) * total);
            store_pack<T, N>(to + i * N, v);
        }
    }
}

template <int N, typename T>
static __global__ void __launch_bounds__(LARGEST_TEAM)
softmax_grad_kernel(int64_t rows, int64_t packs, float scale, const T *y, const T *dy, T *dx) {
    for (int64_t row = first_row(); row < rows; row += row_step()) {
        const int64_t begin = row * packs * N;
        float sum = 0;
        for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
            const pack<T, N> v = load_pack<T, N>(y + begin + i * N), d = load_pack<T, N>(dy + begin + i * N);
#pragma unroll
            for (int k = 0; k < N; k++) sum += to_float(v.v[k]) * to_float(d.v[k]);
        }
        sum = team_sum(sum);
        for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
            const pack<T, N> v = load_pack<T, N>(y + begin + i * N);
            pack<T, N> d = load_pack<T, N>(dy + begin + i * N);
#pragma unroll
            for (int k = 0; k < N; k++) d.v[k] = from_float<T>(scale * to_float(v.v[k]) * (to_float(d.v[k]) - sum));
            store_pack<T, N>(dx + begin + i * N, d);
        }
    }
}

template <int N, typename T> static int softmax(const weft_env *env, const weft_softmax_args *a) {
    const teams t = teams_of(env, a->rows, a->c / N);
    return launch(env, "softmax", t.grid, t.block, 0, softmax_kernel<N, T>, a->rows, a->c / N, (float)a->scale,
                  (const T *)a->x, (T *)a->y);
}

template <int N, typename T> static int softmax_grad(const weft_env *env, const weft_softmax_grad_args *a) {
    const teams t = teams_of(env, a->rows, a->c / N);
    return launch(env, "softmax_grad", t.grid, t.block, 0, softmax_grad_kernel<N, T>, a->rows, a->c / N,
                  (float)a->scale, (const T *)a->y, (const T *)a->dy, (T *)a->dx);
}

int weft_cuda_softmax(const weft_env *env, const weft_softmax_args *a) {
    if (a->rows * a->c < 1) return WEFT_K_OK;
#define DO(T) \
    return a->c % wide<T>() == 0 && is_wide(a->x) && is_wide(a->y) ? softmax<wide<T>(), T>(env, a) \
                                                                   : softmax<1, T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}

int weft_cuda_softmax_grad(const weft_env *env, const weft_softmax_grad_args *a) {
    if (a->rows * a->c < 1) return WEFT_K_OK;
#define DO(T) \
    return a->c % wide<T>() == 0 && is_wide(a->y) && is_wide(a->dy) && is_wide(a->dx) \
               ? softmax_grad<wide<T>(), T>(env, a) \
               : softmax_grad<1, T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}
