/* Element by element, naively: unary, affine, binary, axpby, geglu, and the reductions. */
#include "kernels/ref/ref.h"

static double sigmoid(double v) { return 1 / (1 + exp(-v)); }

/* x·Φ(x); by erfc, which keeps its digits where 1 + erf loses them. */
static double gelu(double v) { return 0.5 * v * erfc(-v * M_SQRT1_2); }

static double gelu_tanh(double v) { return 0.5 * v * (1 + tanh(M_SQRT2 * sqrt(M_1_PI) * (v + 0.044715 * v * v * v))); }

static double relu(double v) { return v < 0 ? 0 : v; }

double weft_ref_activate(weft_activation act, double v) {
    switch (act) {
    case WEFT_ACT_SILU: return v * sigmoid(v);
    case WEFT_ACT_GELU: return gelu(v);
    case WEFT_ACT_QUICK_GELU: return v * sigmoid(1.702 * v);
    case WEFT_ACT_GELU_TANH: return gelu_tanh(v);
    case WEFT_ACT_RELU: return relu(v);
    default: return v;
    }
}

static double unary(weft_unary_op op, double v) {
    switch (op) {
    case WEFT_UNARY_SILU: return v * sigmoid(v);
    case WEFT_UNARY_GELU: return gelu(v);
    case WEFT_UNARY_QUICK_GELU: return v * sigmoid(1.702 * v);
    case WEFT_UNARY_GELU_TANH: return gelu_tanh(v);
    case WEFT_UNARY_RELU: return relu(v);
    case WEFT_UNARY_SIGMOID: return sigmoid(v);
    case WEFT_UNARY_TANH: return tanh(v);
    case WEFT_UNARY_EXP: return exp(v);
    case WEFT_UNARY_LOG: return log(v);
    case WEFT_UNARY_SQRT: return sqrt(v);
    case WEFT_UNARY_ABS: return fabs(v);
    case WEFT_UNARY_SQUARE: return v * v;
    case WEFT_UNARY_SIN: return sin(v);
    case WEFT_UNARY_COS: return cos(v);
    default: return NAN;
    }
}

int weft_ref_unary(const weft_env *env, const weft_unary_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if ((unsigned)a->op >= WEFT_UNARY_COUNT) return WEFT_K_NO_CASE;
    for (int64_t i = 0; i < a->n; i++) ref_put(a->type, a->y, i, unary(a->op, ref_get(a->type, a->x, i)));
    return WEFT_K_OK;
}

/* NaN passes through the clamp, as in torch.clamp. */
int weft_ref_affine(const weft_env *env, const weft_affine_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t i = 0; i < a->n; i++) {
        double v = a->scale * ref_get(a->type, a->x, i) + a->shift;
        if (v < a->low) v = a->low;
        if (v > a->high) v = a->high;
        ref_put(a->type, a->y, i, v);
    }
    return WEFT_K_OK;
}

/* Minimum and maximum are NaN where an operand is, as in torch.minimum. */
static double binary(weft_binary_op op, double a, double b) {
    switch (op) {
    case WEFT_BINARY_ADD: return a + b;
    case WEFT_BINARY_SUB: return a - b;
    case WEFT_BINARY_MUL: return a * b;
    case WEFT_BINARY_DIV: return a / b;
    case WEFT_BINARY_MIN: return a < b || isnan(a) ? a : b;
    case WEFT_BINARY_MAX: return a > b || isnan(a) ? a : b;
    default: return NAN;
    }
}

int weft_ref_binary(const weft_env *env, const weft_binary_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if ((unsigned)a->op >= WEFT_BINARY_COUNT || a->rank < 0 || a->rank > WEFT_MAX_RANK) return WEFT_K_NO_CASE;
    int64_t count = 1;
    for (int d = 0; d < a->rank; d++) count *= a->shape[d];
    for (int64_t i = 0; i < count; i++) {
        int64_t rest = i, at_a = 0, at_b = 0;
        for (int d = a->rank - 1; d >= 0; d--) {
            at_a += rest % a->shape[d] * a->a_stride[d];
            at_b += rest % a->shape[d] * a->b_stride[d];
            rest /= a->shape[d];
        }
        ref_put(a->type, a->y, i, binary(a->op, ref_get(a->type, a->a, at_a), ref_get(a->type, a->b, at_b)));
    }
    return WEFT_K_OK;
}

int weft_ref_axpby(const weft_env *env, const weft_axpby_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t i = 0; i < a->n; i++)
        ref_put(a->type, a->y, i, a->alpha * ref_get(a->type, a->a, i) + a->beta * ref_get(a->type, a->b, i));
    return WEFT_K_OK;
}

int weft_ref_geglu(const weft_env *env, const weft_geglu_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t row = 0; row < a->rows; row++)
        for (int64_t i = 0; i < a->half; i++) {
            int64_t at = row * 2 * a->half + i;
            ref_put(a->type, a->y, row * a->half + i,
                    ref_get(a->type, a->x, at) * gelu(ref_get(a->type, a->x, at + a->half)));
        }
    return WEFT_K_OK;
}

int weft_ref_reduce(const weft_env *env, const weft_reduce_args *a) {
    (void)env;
    bool picks = a->op == WEFT_REDUCE_MAX || a->op == WEFT_REDUCE_MIN;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if ((unsigned)a->op >= WEFT_REDUCE_COUNT || (picks && a->mid < 1)) return WEFT_K_NO_CASE;
    for (int64_t outer = 0; outer < a->outer; outer++)
        for (int64_t inner = 0; inner < a->inner; inner++) {
            const int64_t first = outer * a->mid * a->inner + inner;
            double r = picks ? ref_get(a->type, a->x, first) : 0;
            for (int64_t i = 0; i < a->mid; i++) {
                double v = ref_get(a->type, a->x, first + i * a->inner);
                if (a->op == WEFT_REDUCE_MAX) r = binary(WEFT_BINARY_MAX, r, v);
                else if (a->op == WEFT_REDUCE_MIN) r = binary(WEFT_BINARY_MIN, r, v);
                else r += v;
            }
            ref_put(a->type, a->y, outer * a->inner + inner, a->op == WEFT_REDUCE_MEAN ? r / (double)a->mid : r);
        }
    return WEFT_K_OK;
}
