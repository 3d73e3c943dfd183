/* Gradients element by element: unary, affine, geglu. */
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/math.cuh"

/* ---- unary -------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ float unary_slope(weft_unary_op op, float x) {
    float slope;
    switch (op) {
    case WEFT_UNARY_SILU: return activate_slope(WEFT_ACT_SILU, x);
    case WEFT_UNARY_GELU: return activate_slope(WEFT_ACT_GELU, x);
    case WEFT_UNARY_QUICK_GELU: return activate_slope(WEFT_ACT_QUICK_GELU, x);
    case WEFT_UNARY_GELU_TANH: return activate_slope(WEFT_ACT_GELU_TANH, x);
    case WEFT_UNARY_RELU: return activate_slope(WEFT_ACT_RELU, x);
    case WEFT_UNARY_SIGMOID: sigmoid_and_slope(x, &slope); return slope;
    case WEFT_UNARY_TANH: sigmoid_and_slope(2 * x, &slope); return 4 * slope;       /* 1/cosh² */
    case WEFT_UNARY_EXP: return expf(x);
    case WEFT_UNARY_LOG: return 1 / x;
    case WEFT_UNARY_SQRT: return 0.5f / sqrtf(x);
    case WEFT_UNARY_ABS: return x > 0 ? 1 : x < 0 ? -1 : 0;
    case WEFT_UNARY_SIN: return cosf(x);
    case WEFT_UNARY_COS: return -sinf(x);
    default: return 2 * x;
    }
}

/* As in elementwise.cu: one kernel for each operation, and one for all where loads are not wide. */
template <weft_unary_op op> struct unary_grad_of {
    __device__ __forceinline__ float operator()(float x, float dy) const { return dy * unary_slope(op, x); }
};
struct unary_grad_any {
    weft_unary_op op;
    __device__ __forceinline__ float operator()(float x, float dy) const { return dy * unary_slope(op, x); }
};

template <typename T> static int unary_grad(const weft_env *env, const weft_unary_grad_args *a) {
    if ((unsigned)a->op >= WEFT_UNARY_COUNT) return WEFT_K_NO_CASE;
    if (!all_wide(a->x, a->dy, a->dx))
        return map_by<T, 1>(env, "unary_grad", a->n, unary_grad_any{ a->op }, a->dx, a->x, a->dy);
    switch (a->op) {
#define OP(id) case WEFT_UNARY_##id: \
        return map_by<T, wide<T>()>(env, "unary_grad", a->n, unary_grad_of<WEFT_UNARY_##id>(), a->dx, a->x, a->dy)
        OP(SILU);
        OP(GELU);
        OP(QUICK_GELU);
        OP(GELU_TANH);
        OP(RELU);
        OP(SIGMOID);
        OP(TANH);
        OP(EXP);
        OP(LOG);
        OP(SQRT);
        OP(ABS);
        OP(SQUARE);
        OP(SIN);
        OP(COS);
#undef OP
    default: return WEFT_K_NO_CASE;
    }
}

int weft_cuda_unary_grad(const weft_env *env, const weft_unary_grad_args *a) {
#define DO(T) return unary_grad<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* ---- affine ------------------------------------------------------------------------------------------------- */

struct scale_of {
    float scale;
    __device__ __forceinline__ float operator()(float dy) const { return scale * dy; }
};

struct clamp_grad_of {
    float scale, shift, low, high;
    __device__ __forceinline__ float operator()(float x, float dy) const {
        const float y = scale * x + shift;
        return y > low && y < high ? scale * dy : 0;
    }
};

int weft_cuda_affine_grad(const weft_env *env, const weft_affine_grad_args *a) {
    const clamp_grad_of f = { (float)a->scale, (float)a->shift, (float)a->low, (float)a->high };
    const bool clamps = a->low > -INFINITY || a->high < INFINITY;
#define DO(T) return clamps ? map<T>(env, "affine_grad", a->n, f, a->dx, a->x, a->dy) \
                            : map<T>(env, "affine_grad", a->n, scale_of{ f.scale }, a->dx, a->dy)
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* ---- geglu -------------------------------------------------------------------------------------------------- */

struct geglu_grad_x_of {
    __device__ __forceinline__ float operator()(float gate, float dy) const { return dy * gelu(gate); }
};
struct geglu_grad_gate_of {
    __device__ __forceinline__ float operator()(float x, float gate, float dy) const {
        return dy * x * gelu_slope(gate);
    }
};

/* half is in packs of N. */
template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK)
    geglu_grad_kernel(int64_t rows, int64_t half, const T *x, const T *dy, T *dx) {
    for (int64_t i = grid_first(); i < rows * half; i += grid_step()) {
        const int64_t at = (i + i / half * half) * N, to = at + half * N;       /* of the value, of the gate */
        const pack<T, N> value = load_pack<T, N>(x + at), gate = load_pack<T, N>(x + to),
                         d = load_pack<T, N>(dy + i * N);
        store_pack<T, N>(dx + at, map_pack<T, N>(geglu_grad_x_of(), gate, d));
        store_pack<T, N>(dx + to, map_pack<T, N>(geglu_grad_gate_of(), value, gate, d));
    }
}

template <typename T> static int geglu_grad(const weft_env *env, const weft_geglu_grad_args *a) {
    const int64_t n = a->rows * a->half;
    constexpr int N = wide<T>();
    const T *x = (const T *)a->x, *dy = (const T *)a->dy;
    T *dx = (T *)a->dx;
    if (n < 1) return WEFT_K_OK;
    if (a->half % N == 0 && is_wide(x) && is_wide(dy) && is_wide(dx))
        return launch(env, "geglu_grad", grid_for(env, n / N), BLOCK, 0, geglu_grad_kernel<N, T>, a->rows, a->half / N,
                      x, dy, dx);
    return launch(env, "geglu_grad", grid_for(env, n), BLOCK, 0, geglu_grad_kernel<1, T>, a->rows, a->half, x, dy, dx);
}

int weft_cuda_geglu_grad(const weft_env *env, const weft_geglu_grad_args *a) {
#define DO(T) return geglu_grad<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}
