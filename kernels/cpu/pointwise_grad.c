/* Gradients element by element: unary, affine, geglu; of softmax and of reductions. */
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/threads.h"

#define PIECE 8192          /* elements of one work item */
#define STRETCH (64 * VL)   /* of a sum in float */

INLINE vf slope(const weft_unary_op op, vf x) {
    switch (op) {
    case WEFT_UNARY_SILU: return vf_activate_slope(WEFT_ACT_SILU, x);
    case WEFT_UNARY_GELU: return vf_activate_slope(WEFT_ACT_GELU, x);
    case WEFT_UNARY_QUICK_GELU: return vf_activate_slope(WEFT_ACT_QUICK_GELU, x);
    case WEFT_UNARY_GELU_TANH: return vf_activate_slope(WEFT_ACT_GELU_TANH, x);
    case WEFT_UNARY_RELU: return vf_activate_slope(WEFT_ACT_RELU, x);
    case WEFT_UNARY_SIGMOID: return vf_sigmoid_slope(x);
    case WEFT_UNARY_TANH: return vf_tanh_slope(x);
    case WEFT_UNARY_EXP: return vf_exp(x);
    case WEFT_UNARY_LOG: return 1 / x;
    case WEFT_UNARY_SQRT: return 0.5f / vf_sqrt(x);
    case WEFT_UNARY_ABS: return vf_select(x > 0, vf_set(1), vf_select(x < 0, vf_set(-1), (vf){ 0 }));
    default: return x + x;
    }
}

INLINE void map(const weft_unary_op op, const float *x, const float *dy, float *dx, int64_t n) {
    int64_t i = 0;
    for (; i + VL <= n; i += VL) vf_store(dx + i, vf_load(dy + i) * slope(op, vf_load(x + i)));
    if (i < n) vf_store_n(dx + i, vf_load_n(dy + i, n - i) * slope(op, vf_load_n(x + i, n - i)), n - i);
}

static void unary_piece(weft_unary_op op, const float *x, const float *dy, float *dx, int64_t n) {
    switch (op) {
#define OP(id) case WEFT_UNARY_##id: map(WEFT_UNARY_##id, x, dy, dx, n); break
    OP(SILU); OP(GELU); OP(QUICK_GELU); OP(GELU_TANH); OP(RELU); OP(SIGMOID); OP(TANH); OP(EXP); OP(LOG); OP(SQRT); OP(ABS);
    OP(SQUARE);
#undef OP
    /* Rare, and good in the C library over the whole range. */
    case WEFT_UNARY_SIN: for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * cosf(x[i]); break;
    case WEFT_UNARY_COS: for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * -sinf(x[i]); break;
    default: break;
    }
}

int ISA_NAME(unary_grad)(const weft_env *env, const weft_unary_grad_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if ((unsigned)a->op >= WEFT_UNARY_COUNT) return WEFT_K_NO_CASE;
    const float *x = a->x, *dy = a->dy;
    float *dx = a->dx;
#pragma omp parallel for num_threads(threads_for(env, 3.0 * (double)a->n))
    for (int64_t i = 0; i < a->n; i += PIECE) unary_piece(a->op, x + i, dy + i, dx + i, MIN(PIECE, a->n - i));
    return WEFT_K_OK;
}

int ISA_NAME(affine_grad)(const weft_env *env, const weft_affine_grad_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const bool clamps = a->low > -INFINITY || a->high < INFINITY;
    const vf scale = vf_set((float)a->scale), shift = vf_set((float)a->shift);
    const vf low = vf_set((float)a->low), high = vf_set((float)a->high);
#pragma omp parallel for num_threads(threads_for(env, (double)a->n))
    for (int64_t from = 0; from < a->n; from += PIECE)
        for (int64_t i = from; i < MIN(from + PIECE, a->n); i += VL) {
            const int64_t n = MIN(VL, a->n - i);
            const float *dy = (const float *)a->dy + i, *x = (const float *)a->x + i;
            vf v = (n == VL ? vf_load(dy) : vf_load_n(dy, n)) * scale;
            if (clamps) {
                const vf y = (n == VL ? vf_load(x) : vf_load_n(x, n)) * scale + shift;
                v = vf_select((y > low) & (y < high), v, (vf){ 0 });
            }
            if (n == VL) vf_store((float *)a->dx + i, v);
            else vf_store_n((float *)a->dx + i, v, n);
        }
    return WEFT_K_OK;
}

INLINE void geglu_vector(vf x, vf gate, vf dy, vf *dx, vf *dgate) {
    vf bell;
    const vf cdf = vf_normal(gate, &bell);
    *dx = dy * (gate * cdf);
    *dgate = dy * x * (cdf + gate * bell * 0.398942280f);
}

int ISA_NAME(geglu_grad)(const weft_env *env, const weft_geglu_grad_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const int64_t half = a->half;
#pragma omp parallel for num_threads(threads_for(env, 5.0 * (double)a->rows * (double)half))
    for (int64_t row = 0; row < a->rows; row++) {
        const float *x = (const float *)a->x + row * 2 * half, *dy = (const float *)a->dy + row * half;
        float *dx = (float *)a->dx + row * 2 * half;
        int64_t i = 0;
        vf value, gate;
        for (; i + VL <= half; i += VL) {
            geglu_vector(vf_load(x + i), vf_load(x + half + i), vf_load(dy + i), &value, &gate);
            vf_store(dx + i, value);
            vf_store(dx + half + i, gate);
        }
        if (i == half) continue;
        geglu_vector(vf_load_n(x + i, half - i), vf_load_n(x + half + i, half - i), vf_load_n(dy + i, half - i), &value, &gate);
        vf_store_n(dx + i, value, half - i);
        vf_store_n(dx + half + i, gate, half - i);
    }
    return WEFT_K_OK;
}

/* ---- softmax ------------------------------------------------------------------------------------------------ */

static void softmax_row(const float *y, const float *dy, float *dx, int64_t c, float scale) {
    double total = 0;
    int64_t i = 0;
    while (i + VL <= c) {
        vf sum = { 0 };
        for (int64_t end = MIN(i + STRETCH, c); i + VL <= end; i += VL) sum += vf_load(y + i) * vf_load(dy + i);
        total += vf_sum(sum);
    }
    for (; i < c; i++) total += (double)y[i] * dy[i];
    const float sum = (float)total;
    for (i = 0; i + VL <= c; i += VL) vf_store(dx + i, scale * vf_load(y + i) * (vf_load(dy + i) - sum));
    for (; i < c; i++) dx[i] = scale * y[i] * (dy[i] - sum);
}

int ISA_NAME(softmax_grad)(const weft_env *env, const weft_softmax_grad_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
#pragma omp parallel for num_threads(threads_for(env, 3.0 * (double)a->rows * (double)a->c))
    for (int64_t row = 0; row < a->rows; row++)
        softmax_row((const float *)a->y + row * a->c, (const float *)a->dy + row * a->c, (float *)a->dx + row * a->c, a->c, (float)a->scale);
    return WEFT_K_OK;
}

/* ---- reductions --------------------------------------------------------------------------------------------- */

/* max and min: dy shared by the values that are y. `columns` of inner, at most VL. */
static void share(const weft_reduce_grad_args *a, int64_t outer, int64_t column, int64_t columns) {
    const int64_t at = outer * a->inner + column, first = outer * a->mid * a->inner + column;
    const float *x = (const float *)a->x + first;
    float *dx = (float *)a->dx + first;
    const vf y = vf_load_n((const float *)a->y + at, columns), dy = vf_load_n((const float *)a->dy + at, columns);
    vi equal = { 0 };
    for (int64_t i = 0; i < a->mid; i++) equal -= vf_load_n(x + i * a->inner, columns) == y;
    const vf each = dy / __builtin_convertvector(equal, vf);
    for (int64_t i = 0; i < a->mid; i++)
        vf_store_n(dx + i * a->inner, vf_select(vf_load_n(x + i * a->inner, columns) == y, each, (vf){ 0 }), columns);
}

/* The same for inner 1: one row. */
static void share_row(const float *x, float y, float dy, float *dx, int64_t n) {
    int64_t equal = 0;
    for (int64_t i = 0; i < n; i++) equal += x[i] == y;
    const float each = dy / (float)equal;
    for (int64_t i = 0; i < n; i++) dx[i] = x[i] == y ? each : 0;
}

int ISA_NAME(reduce_grad)(const weft_env *env, const weft_reduce_grad_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if ((unsigned)a->op >= WEFT_REDUCE_COUNT) return WEFT_K_NO_CASE;
    if (a->outer * a->mid * a->inner == 0) return WEFT_K_OK;
    const bool picks = a->op == WEFT_REDUCE_MAX || a->op == WEFT_REDUCE_MIN;
    const float factor = a->op == WEFT_REDUCE_MEAN ? (float)(1 / (double)a->mid) : 1;
    const int64_t blocks = (a->inner + VL - 1) / VL;
    const double work = (double)a->outer * (double)a->mid * (double)a->inner;
    if (picks && a->inner > 1) {
#pragma omp parallel for num_threads(threads_for(env, 2 * work))
        for (int64_t i = 0; i < a->outer * blocks; i++) share(a, i / blocks, i % blocks * VL, MIN(VL, a->inner - i % blocks * VL));
        return WEFT_K_OK;
    }
#pragma omp parallel for num_threads(threads_for(env, work))
    for (int64_t i = 0; i < a->outer * (picks ? 1 : a->mid); i++) {
        const float *x = a->x, *y = a->y, *dy = a->dy;
        float *dx = a->dx;
        if (picks) share_row(x + i * a->mid, y[i], dy[i], dx + i * a->mid, a->mid);
        else
            for (int64_t k = 0; k < a->inner; k++) dx[i * a->inner + k] = dy[i / a->mid * a->inner + k] * factor;
    }
    return WEFT_K_OK;
}
