/* Gradients element by element, naively: unary, affine, geglu, reductions; softmax and the norms. */
#include "kernels/ref/ref.h"

static double sigmoid(double v) { return 1 / (1 + exp(-v)); }

/* d/dv of v·σ(kv) */
static double swish_slope(double v, double k) {
    double s = sigmoid(k * v);
    return s + k * v * s * (1 - s);
}

/* d/dv of v·Φ(v) = Φ(v) + v·φ(v) */
static double gelu_slope(double v) { return 0.5 * erfc(-v * M_SQRT1_2) + v * exp(-0.5 * v * v) * (0.5 * M_SQRT1_2 * M_2_SQRTPI); }

/* d/dv of ½v·(1 + tanh u(v)), u = √(2/π)·(v + 0.044715v³) */
static double gelu_tanh_slope(double v) {
    const double k = M_SQRT2 * sqrt(M_1_PI), t = tanh(k * (v + 0.044715 * v * v * v));
    return 0.5 * (1 + t) + 0.5 * v * (1 - t * t) * k * (1 + 3 * 0.044715 * v * v);
}

static double slope(weft_unary_op op, double v) {
    switch (op) {
    case WEFT_UNARY_SILU: return swish_slope(v, 1);
    case WEFT_UNARY_GELU: return gelu_slope(v);
    case WEFT_UNARY_QUICK_GELU: return swish_slope(v, 1.702);
    case WEFT_UNARY_GELU_TANH: return gelu_tanh_slope(v);
    case WEFT_UNARY_RELU: return v <= 0 ? 0 : 1;
    case WEFT_UNARY_SIGMOID: return sigmoid(v) * sigmoid(-v);
    case WEFT_UNARY_TANH: return 1 / (cosh(v) * cosh(v));
    case WEFT_UNARY_EXP: return exp(v);
    case WEFT_UNARY_LOG: return 1 / v;
    case WEFT_UNARY_SQRT: return 0.5 / sqrt(v);
    case WEFT_UNARY_ABS: return v > 0 ? 1 : v < 0 ? -1 : 0;
    case WEFT_UNARY_SQUARE: return 2 * v;
    case WEFT_UNARY_SIN: return cos(v);
    case WEFT_UNARY_COS: return -sin(v);
    default: return NAN;
    }
}

int weft_ref_unary_grad(const weft_env *env, const weft_unary_grad_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if ((unsigned)a->op >= WEFT_UNARY_COUNT) return WEFT_K_NO_CASE;
    for (int64_t i = 0; i < a->n; i++)
        ref_put(a->type, a->dx, i, ref_get(a->type, a->dy, i) * slope(a->op, ref_get(a->type, a->x, i)));
    return WEFT_K_OK;
}

int weft_ref_affine_grad(const weft_env *env, const weft_affine_grad_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    const bool clamps = a->low > -INFINITY || a->high < INFINITY;
    for (int64_t i = 0; i < a->n; i++) {
        double y = clamps ? a->scale * ref_get(a->type, a->x, i) + a->shift : 0;
        bool inside = !clamps || (y > a->low && y < a->high);
        ref_put(a->type, a->dx, i, inside ? a->scale * ref_get(a->type, a->dy, i) : 0);
    }
    return WEFT_K_OK;
}

int weft_ref_geglu_grad(const weft_env *env, const weft_geglu_grad_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t row = 0; row < a->rows; row++)
        for (int64_t i = 0; i < a->half; i++) {
            int64_t at = row * 2 * a->half + i, gate = at + a->half;
            double dy = ref_get(a->type, a->dy, row * a->half + i), v = ref_get(a->type, a->x, gate);
            ref_put(a->type, a->dx, at, dy * weft_ref_activate(WEFT_ACT_GELU, v));
            ref_put(a->type, a->dx, gate, dy * ref_get(a->type, a->x, at) * gelu_slope(v));
        }
    return WEFT_K_OK;
}

/* One (outer, inner) of max or min: dy shared by the values that are y. */
static void share(const weft_reduce_grad_args *a, int64_t first, double y, double dy) {
    int64_t equal = 0;
    for (int64_t i = 0; i < a->mid; i++) equal += ref_get(a->type, a->x, first + i * a->inner) == y;
    for (int64_t i = 0; i < a->mid; i++) {
        bool is = ref_get(a->type, a->x, first + i * a->inner) == y;
        ref_put(a->type, a->dx, first + i * a->inner, is ? dy / (double)equal : 0);
    }
}

int weft_ref_reduce_grad(const weft_env *env, const weft_reduce_grad_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if ((unsigned)a->op >= WEFT_REDUCE_COUNT) return WEFT_K_NO_CASE;
    for (int64_t outer = 0; outer < a->outer; outer++)
        for (int64_t inner = 0; inner < a->inner; inner++) {
            const int64_t first = outer * a->mid * a->inner + inner, at = outer * a->inner + inner;
            const double dy = ref_get(a->type, a->dy, at);
            if (a->op == WEFT_REDUCE_MAX || a->op == WEFT_REDUCE_MIN) share(a, first, ref_get(a->type, a->y, at), dy);
            else
                for (int64_t i = 0; i < a->mid; i++)
                    ref_put(a->type, a->dx, first + i * a->inner, a->op == WEFT_REDUCE_MEAN ? dy / (double)a->mid : dy);
        }
    return WEFT_K_OK;
}

int weft_ref_softmax_grad(const weft_env *env, const weft_softmax_grad_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t row = 0; row < a->rows; row++) {
        const int64_t first = row * a->c;
        double sum = 0;
        for (int64_t i = 0; i < a->c; i++) sum += ref_get(a->type, a->y, first + i) * ref_get(a->type, a->dy, first + i);
        for (int64_t i = 0; i < a->c; i++)
            ref_put(a->type, a->dx, first + i,
                    a->scale * ref_get(a->type, a->y, first + i) * (ref_get(a->type, a->dy, first + i) - sum));
    }
    return WEFT_K_OK;
}

/* ---- norms ---------------------------------------------------------------------------------------------- */

/* The activation as a unary function; none where there is none. */
static double activation_slope(weft_activation act, double v) {
    static const weft_unary_op op[WEFT_ACT_COUNT] = {
        [WEFT_ACT_SILU] = WEFT_UNARY_SILU, [WEFT_ACT_GELU] = WEFT_UNARY_GELU, [WEFT_ACT_QUICK_GELU] = WEFT_UNARY_QUICK_GELU,
        [WEFT_ACT_GELU_TANH] = WEFT_UNARY_GELU_TANH, [WEFT_ACT_RELU] = WEFT_UNARY_RELU };
    return act == WEFT_ACT_NONE ? 1 : slope(op[act], v);
}

static double or_else(weft_dtype type, const void *p, int64_t i, double other) { return p ? ref_get(type, p, i) : other; }

/* x̂ and dz of one element. */
static void element(const weft_group_norm_grad_args *a, int64_t group, int64_t at, double *x, double *dz) {
    const int64_t channel = at % a->c;
    *x = (ref_get(a->type, a->x, at) - ref_get(a->type, a->mean, group)) * ref_get(a->type, a->rstd, group);
    double z = *x * or_else(a->type, a->gamma, channel, 1) + or_else(a->type, a->beta, channel, 0);
    *dz = ref_get(a->type, a->dy, at) * activation_slope(a->act, z);
}

/* dgamma and dbeta of one channel. */
static void group_norm_channel(const weft_group_norm_grad_args *a, int64_t channel) {
    double gamma = 0, beta = 0, x, dz;
    for (int64_t n = 0; n < a->n; n++)
        for (int64_t p = 0; p < a->pixels; p++) {
            element(a, n * a->groups + channel / (a->c / a->groups), (n * a->pixels + p) * a->c + channel, &x, &dz);
            gamma += dz * x;
            beta += dz;
        }
    if (a->dgamma) ref_put(a->type, a->dgamma, channel, gamma);
    if (a->dbeta) ref_put(a->type, a->dbeta, channel, beta);
}

static void group_norm_dx(const weft_group_norm_grad_args *a, int64_t group) {
    const int64_t width = a->c / a->groups, count = a->pixels * width;
    const int64_t first = group / a->groups * a->pixels * a->c + group % a->groups * width;
    double mean = 0, along = 0, x, dz;
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = first + i / width * a->c + i % width;
        element(a, group, at, &x, &dz);
        dz *= or_else(a->type, a->gamma, at % a->c, 1);
        mean += dz / (double)count;
        along += dz * x / (double)count;
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = first + i / width * a->c + i % width;
        element(a, group, at, &x, &dz);
        dz *= or_else(a->type, a->gamma, at % a->c, 1);
        ref_put(a->type, a->dx, at, ref_get(a->type, a->rstd, group) * (dz - mean - x * along));
    }
}

int weft_ref_group_norm_grad(const weft_env *env, const weft_group_norm_grad_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if (a->groups < 1 || a->c % a->groups || (unsigned)a->act >= WEFT_ACT_COUNT) return WEFT_K_NO_CASE;
    for (int64_t c = 0; c < a->c && (a->dgamma || a->dbeta); c++) {
        if (ref_cancelled(env)) return WEFT_K_CANCELLED;
        group_norm_channel(a, c);
    }
    for (int64_t group = 0; group < a->n * a->groups && a->dx; group++) {   /* last: dx may be dy */
        if (ref_cancelled(env)) return WEFT_K_CANCELLED;
        group_norm_dx(a, group);
    }
    return WEFT_K_OK;
}

/* A layer norm is a group norm of one pixel and one group for each row, but for its sums over rows. */
int weft_ref_layer_norm_grad(const weft_env *env, const weft_layer_norm_grad_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if (a->c < 1) return WEFT_K_OK;
    return weft_ref_group_norm_grad(env, &(weft_group_norm_grad_args){
        .type = a->type, .n = a->rows, .pixels = 1, .c = a->c, .groups = 1, .x = a->x, .gamma = a->gamma, .mean = a->mean,
        .rstd = a->rstd, .dy = a->dy, .dx = a->dx, .dgamma = a->dgamma, .dbeta = a->dbeta });
}
