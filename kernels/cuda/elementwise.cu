/* Element by element over dense arrays: unary, affine, axpby, lerp, geglu. Clamping and relu let NaN through, as
 * PyTorch does. */
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/math.cuh"

/* ---- one operand -------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ float unary(weft_unary_op op, float x) {
    switch (op) {
    case WEFT_UNARY_SILU: return activate(WEFT_ACT_SILU, x);
    case WEFT_UNARY_GELU: return activate(WEFT_ACT_GELU, x);
    case WEFT_UNARY_QUICK_GELU: return activate(WEFT_ACT_QUICK_GELU, x);
    case WEFT_UNARY_GELU_TANH: return activate(WEFT_ACT_GELU_TANH, x);
    case WEFT_UNARY_RELU: return activate(WEFT_ACT_RELU, x);
    case WEFT_UNARY_SIGMOID: return sigmoid(x);
    case WEFT_UNARY_TANH: return tanhf(x);
    case WEFT_UNARY_EXP: return expf(x);
    case WEFT_UNARY_LOG: return logf(x);
    case WEFT_UNARY_SQRT: return sqrtf(x);
    case WEFT_UNARY_ABS: return fabsf(x);
    case WEFT_UNARY_SIN: return sinf(x);
    case WEFT_UNARY_COS: return cosf(x);
    default: return x * x;
    }
}

/* The operation is known to the compiler where loads are wide; the rare other arrays share one kernel. */
template <weft_unary_op op> struct unary_of {
    __device__ __forceinline__ float operator()(float x) const { return unary(op, x); }
};
struct unary_any {
    weft_unary_op op;
    __device__ __forceinline__ float operator()(float x) const { return unary(op, x); }
};

template <typename T> static int unary(const weft_env *env, const weft_unary_args *a) {
    if ((unsigned)a->op >= WEFT_UNARY_COUNT) return WEFT_K_NO_CASE;
    if (!all_wide(a->x, a->y)) return map_by<T, 1>(env, "unary", a->n, unary_any{ a->op }, a->y, a->x);
    switch (a->op) {
#define OP(id) \
    case WEFT_UNARY_##id: return map_by<T, wide<T>()>(env, "unary", a->n, unary_of<WEFT_UNARY_##id>(), a->y, a->x)
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

int weft_cuda_unary(const weft_env *env, const weft_unary_args *a) {
#define DO(T) return unary<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}

struct affine_of {
    float scale, shift, low, high;
    __device__ __forceinline__ float operator()(float x) const {
        const float v = scale * x + shift;
        return v < low ? low : v > high ? high : v;
    }
};

int weft_cuda_affine(const weft_env *env, const weft_affine_args *a) {
    const affine_of f = { (float)a->scale, (float)a->shift, (float)a->low, (float)a->high };
#define DO(T) return map<T>(env, "affine", a->n, f, a->y, a->x)
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* ---- two operands ------------------------------------------------------------------------------------------- */

struct axpby_of {
    float alpha, beta;
    __device__ __forceinline__ float operator()(float a, float b) const { return alpha * a + beta * b; }
};

int weft_cuda_axpby(const weft_env *env, const weft_axpby_args *a) {
    const axpby_of f = { (float)a->alpha, (float)a->beta };
#define DO(T) return map<T>(env, "axpby", a->n, f, a->y, a->a, a->b)
    EACH_FLOAT(a->type, DO)
#undef DO
}

struct lerp_of {
    float t;
    __device__ __forceinline__ float operator()(float a, float b) const { return a + t * (b - a); }
};

int weft_cuda_lerp(const weft_env *env, const weft_lerp_args *a) {
    const lerp_of f = { (float)a->t };
#define DO(T) return map<T>(env, "lerp", a->n, f, a->y, a->a, a->b)
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* ---- geglu -------------------------------------------------------------------------------------------------- */

struct geglu_of {
    __device__ __forceinline__ float operator()(float x, float gate) const { return x * gelu(gate); }
};

/* half is in packs of N. */
template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK) geglu_kernel(int64_t rows, int64_t half, const T *x, T *y) {
    for (int64_t i = grid_first(); i < rows * half; i += grid_step()) {
        const T *at = x + (i + i / half * half) * N;        /* row·2·half + column */
        store_pack<T, N>(y + i * N, map_pack<T, N>(geglu_of(), load_pack<T, N>(at), load_pack<T, N>(at + half * N)));
    }
}

template <typename T> static int geglu(const weft_env *env, const weft_geglu_args *a) {
    const int64_t n = a->rows * a->half;
    constexpr int N = wide<T>();
    if (n < 1) return WEFT_K_OK;
    if (a->half % N == 0 && is_wide(a->x) && is_wide(a->y))
        return launch(env, "geglu", grid_for(env, n / N), BLOCK, 0, geglu_kernel<N, T>, a->rows, a->half / N,
                      (const T *)a->x, (T *)a->y);
    return launch(env, "geglu", grid_for(env, n), BLOCK, 0, geglu_kernel<1, T>, a->rows, a->half, (const T *)a->x,
                  (T *)a->y);
}

int weft_cuda_geglu(const weft_env *env, const weft_geglu_args *a) {
#define DO(T) return geglu<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* ---- is there code for this device? ------------------------------------------------------------------------- */

cudaError_t cuda_probe(void) {
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, (const void *)geglu_kernel<1, float>);
}
