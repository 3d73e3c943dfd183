/* Element by element over dense arrays: unary, affine, axpby, geglu. Clamping and relu let NaN through, as PyTorch
 * does. */
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/threads.h"

#define PIECE 8192          /* elements of one work item */

INLINE vf unary(const weft_unary_op op, vf x) {
    switch (op) {
    case WEFT_UNARY_SILU: return vf_silu(x);
    case WEFT_UNARY_GELU: return vf_gelu(x);
    case WEFT_UNARY_QUICK_GELU: return vf_quick_gelu(x);
    case WEFT_UNARY_GELU_TANH: return vf_gelu_tanh(x);
    case WEFT_UNARY_RELU: return vf_activate(WEFT_ACT_RELU, x);
    case WEFT_UNARY_SIGMOID: return vf_sigmoid(x);
    case WEFT_UNARY_TANH: return vf_tanh(x);
    case WEFT_UNARY_EXP: return vf_exp(x);
    case WEFT_UNARY_SQRT: return vf_sqrt(x);
    case WEFT_UNARY_ABS: return vf_abs(x);
    default: return x * x;
    }
}

INLINE void map(const weft_unary_op op, const float *x, float *y, int64_t n) {
    int64_t i = 0;
    for (; i + VL <= n; i += VL) vf_store(y + i, unary(op, vf_load(x + i)));
    if (i < n) vf_store_n(y + i, unary(op, vf_load_n(x + i, n - i)), n - i);
}

/* Rare, and good in the C library over the whole range. */
static void map_scalar(float (*f)(float), const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = f(x[i]);
}

static void unary_piece(weft_unary_op op, const float *x, float *y, int64_t n) {
    switch (op) {
#define OP(id) case WEFT_UNARY_##id: map(WEFT_UNARY_##id, x, y, n); break
    OP(SILU); OP(GELU); OP(QUICK_GELU); OP(GELU_TANH); OP(RELU); OP(SIGMOID); OP(TANH); OP(EXP); OP(SQRT); OP(ABS);
    OP(SQUARE);
#undef OP
    case WEFT_UNARY_LOG: map_scalar(logf, x, y, n); break;
    case WEFT_UNARY_SIN: map_scalar(sinf, x, y, n); break;
    case WEFT_UNARY_COS: map_scalar(cosf, x, y, n); break;
    default: break;
    }
}

int ISA_NAME(unary)(const weft_env *env, const weft_unary_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if ((unsigned)a->op >= WEFT_UNARY_COUNT) return WEFT_K_NO_CASE;
    const float *x = a->x;
    float *y = a->y;
#pragma omp parallel for num_threads(threads_for(env, 2.0 * (double)a->n))
    for (int64_t i = 0; i < a->n; i += PIECE) unary_piece(a->op, x + i, y + i, MIN(PIECE, a->n - i));
    return WEFT_K_OK;
}

INLINE vf affine(vf x, vf scale, vf shift, vf low, vf high) {
    return vf_min(high, vf_max(low, x * scale + shift));        /* in this order NaN stays */
}

int ISA_NAME(affine)(const weft_env *env, const weft_affine_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const vf scale = vf_set((float)a->scale), shift = vf_set((float)a->shift);
    const vf low = vf_set((float)a->low), high = vf_set((float)a->high);
#pragma omp parallel for num_threads(threads_for(env, (double)a->n))
    for (int64_t from = 0; from < a->n; from += PIECE) {
        const float *x = (const float *)a->x + from;
        float *y = (float *)a->y + from;
        const int64_t n = MIN(PIECE, a->n - from);
        int64_t i = 0;
        for (; i + VL <= n; i += VL) vf_store(y + i, affine(vf_load(x + i), scale, shift, low, high));
        if (i < n) vf_store_n(y + i, affine(vf_load_n(x + i, n - i), scale, shift, low, high), n - i);
    }
    return WEFT_K_OK;
}

int ISA_NAME(axpby)(const weft_env *env, const weft_axpby_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const vf alpha = vf_set((float)a->alpha), beta = vf_set((float)a->beta);
#pragma omp parallel for num_threads(threads_for(env, (double)a->n))
    for (int64_t from = 0; from < a->n; from += PIECE) {
        const float *p = (const float *)a->a + from, *q = (const float *)a->b + from;
        float *y = (float *)a->y + from;
        const int64_t n = MIN(PIECE, a->n - from);
        int64_t i = 0;
        for (; i + VL <= n; i += VL) vf_store(y + i, alpha * vf_load(p + i) + beta * vf_load(q + i));
        if (i < n) vf_store_n(y + i, alpha * vf_load_n(p + i, n - i) + beta * vf_load_n(q + i, n - i), n - i);
    }
    return WEFT_K_OK;
}

int ISA_NAME(geglu)(const weft_env *env, const weft_geglu_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const int64_t half = a->half;
#pragma omp parallel for num_threads(threads_for(env, 3.0 * (double)a->rows * (double)half))
    for (int64_t row = 0; row < a->rows; row++) {
        const float *x = (const float *)a->x + row * 2 * half, *gate = x + half;
        float *y = (float *)a->y + row * half;
        int64_t i = 0;
        for (; i + VL <= half; i += VL) vf_store(y + i, vf_load(x + i) * vf_gelu(vf_load(gate + i)));
        if (i < half) vf_store_n(y + i, vf_load_n(x + i, half - i) * vf_gelu(vf_load_n(gate + i, half - i)), half - i);
    }
    return WEFT_K_OK;
}
