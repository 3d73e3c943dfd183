/* The optimisers' updates, naively, in double: one element after the other, as kernels.h writes them. */
#include "kernels/ref/ref.h"

#define TAKES (REF_BIT(WEFT_F32) | REF_BIT(WEFT_F64))

int weft_ref_sum_squares(const weft_env *env, const weft_sum_squares_args *a) {
    (void)env;
    if (!ref_takes(TAKES, a->type)) return WEFT_K_NO_TYPE;
    double sum = 0;
    for (int64_t i = 0; i < a->n; i++) {
        double x = ref_get(a->type, a->x, i);
        sum += x * x;
    }
    *a->y = sum;
    return WEFT_K_OK;
}

int weft_ref_lerp(const weft_env *env, const weft_lerp_args *a) {
    (void)env;
    if (!ref_takes(TAKES, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t i = 0; i < a->n; i++) {
        double from = ref_get(a->type, a->a, i), to = ref_get(a->type, a->b, i);
        ref_put(a->type, a->y, i, from + a->t * (to - from));
    }
    return WEFT_K_OK;
}

int weft_ref_adam(const weft_env *env, const weft_adam_args *a) {
    (void)env;
    if (!ref_takes(TAKES, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t i = 0; i < a->n; i++) {
        double p = ref_get(a->type, a->param, i), g = ref_get(a->type, a->grad, i);
        double m = ref_get(a->type, a->m, i), v = ref_get(a->type, a->v, i);
        if (a->decoupled) p *= 1 - a->lr * a->weight_decay;
        else g += a->weight_decay * p;
        m += (1 - a->beta1) * (g - m);
        v = a->beta2 * v + (1 - a->beta2) * g * g;
        p -= a->lr / a->correct1 * m / (sqrt(v) / sqrt(a->correct2) + a->eps);
        ref_put(a->type, a->m, i, m);
        ref_put(a->type, a->v, i, v);
        ref_put(a->type, a->param, i, p);
    }
    return WEFT_K_OK;
}

int weft_ref_sgd(const weft_env *env, const weft_sgd_args *a) {
    (void)env;
    if (!ref_takes(TAKES, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t i = 0; i < a->n; i++) {
        double p = ref_get(a->type, a->param, i), g = ref_get(a->type, a->grad, i) + a->weight_decay * p;
        if (a->m) {
            double m = a->first ? g : a->momentum * ref_get(a->type, a->m, i) + (1 - a->dampening) * g;
            ref_put(a->type, a->m, i, m);
            g = a->nesterov ? g + a->momentum * m : m;
        }
        ref_put(a->type, a->param, i, p - a->lr * g);
    }
    return WEFT_K_OK;
}

/* 0 for 0; NaN for NaN, so that a broken gradient shows. */
static double sign(double v) { return v > 0 ? 1 : v < 0 ? -1 : v; }

int weft_ref_lion(const weft_env *env, const weft_lion_args *a) {
    (void)env;
    if (!ref_takes(TAKES, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t i = 0; i < a->n; i++) {
        double p = ref_get(a->type, a->param, i), g = ref_get(a->type, a->grad, i), m = ref_get(a->type, a->m, i);
        p *= 1 - a->lr * a->weight_decay;
        p -= a->lr * sign(a->beta1 * m + (1 - a->beta1) * g);
        ref_put(a->type, a->param, i, p);
        ref_put(a->type, a->m, i, a->beta2 * m + (1 - a->beta2) * g);
    }
    return WEFT_K_OK;
}

/* ---- Adafactor ----------------------------------------------------------------------------------------------- */

/* Moves an average's element i toward a mean. */
static void move(const weft_adafactor_args *a, void *average, int64_t i, double mean) {
    ref_put(a->type, average, i, a->decay * ref_get(a->type, average, i) + (1 - a->decay) * mean);
}

static double square(const weft_adafactor_args *a, int64_t i) {
    double g = ref_get(a->type, a->grad, i);
    return g * g + a->eps;
}

int weft_ref_adafactor_moments(const weft_env *env, const weft_adafactor_moments_args *a) {
    (void)env;
    if (!ref_takes(TAKES, a->type)) return WEFT_K_NO_TYPE;
    if (a->rows * a->cols == 0) return WEFT_K_OK;
    if (!a->row) {
        for (int64_t i = 0; i < a->batch * a->rows * a->cols; i++) move(a, a->col, i, square(a, i));
        return WEFT_K_OK;
    }
    for (int64_t b = 0; b < a->batch; b++) {
        for (int64_t r = 0; r < a->rows; r++) {
            double sum = 0;
            for (int64_t c = 0; c < a->cols; c++) sum += square(a, (b * a->rows + r) * a->cols + c);
            move(a, a->row, b * a->rows + r, sum / (double)a->cols);
        }
        for (int64_t c = 0; c < a->cols; c++) {
            double sum = 0;
            for (int64_t r = 0; r < a->rows; r++) sum += square(a, (b * a->rows + r) * a->cols + c);
            move(a, a->col, b * a->cols + c, sum / (double)a->rows);
        }
    }
    return WEFT_K_OK;
}

static double row_mean(const weft_adafactor_args *a, int64_t b) {
    double sum = 0;
    if (!a->row) return 0;
    for (int64_t r = 0; r < a->rows; r++) sum += ref_get(a->type, a->row, b * a->rows + r);
    return sum / (double)a->rows;
}

/* u of element c of row r of batch b, whose mean of rows is `mean`. */
static double direction(const weft_adafactor_args *a, double mean, int64_t b, int64_t r, int64_t c) {
    int64_t row = b * a->rows + r, i = row * a->cols + c;
    double g = ref_get(a->type, a->grad, i);
    if (!a->row) return g / sqrt(ref_get(a->type, a->col, i));
    return g / sqrt(ref_get(a->type, a->row, row) / mean) / sqrt(ref_get(a->type, a->col, b * a->cols + c));
}

int weft_ref_adafactor_size(const weft_env *env, const weft_adafactor_size_args *a) {
    (void)env;
    if (!ref_takes(TAKES, a->type)) return WEFT_K_NO_TYPE;
    double sum = 0;
    for (int64_t b = 0; b < a->batch; b++) {
        const double mean = row_mean(a, b);
        for (int64_t r = 0; r < a->rows; r++)
            for (int64_t c = 0; c < a->cols; c++) {
                double u = direction(a, mean, b, r, c);
                sum += u * u;
            }
    }
    *a->squares = sum;
    return WEFT_K_OK;
}

int weft_ref_adafactor_apply(const weft_env *env, const weft_adafactor_apply_args *a) {
    (void)env;
    if (!ref_takes(TAKES, a->type)) return WEFT_K_NO_TYPE;
    const double n = (double)a->batch * (double)a->rows * (double)a->cols;
    double lr = a->lr;
    if (a->param_squares) lr *= fmax(a->least, sqrt(*a->param_squares / n));
    const double over = sqrt(*a->squares / n) / a->clip, scale = over > 1 || isnan(over) ? lr / over : lr;
    for (int64_t b = 0; b < a->batch; b++) {
        const double mean = row_mean(a, b);
        for (int64_t r = 0; r < a->rows; r++)
            for (int64_t c = 0; c < a->cols; c++) {
                const int64_t i = (b * a->rows + r) * a->cols + c;
                double p = ref_get(a->type, a->param, i), u = scale * direction(a, mean, b, r, c);
                if (a->m) {
                    u = a->beta1 * ref_get(a->type, a->m, i) + (1 - a->beta1) * u;
                    ref_put(a->type, a->m, i, u);
                }
                p -= a->weight_decay * lr * p;
                ref_put(a->type, a->param, i, p - u);
            }
    }
    return WEFT_K_OK;
}
