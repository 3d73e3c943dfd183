/* Norms and softmax, naively: mean, then variance around that mean (two passes, biased), then the values. */
#include "kernels/ref/ref.h"

int weft_ref_group_norm(const weft_env *env, const weft_group_norm_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if (a->groups < 1 || a->c % a->groups || (unsigned)a->act >= WEFT_ACT_COUNT) return WEFT_K_NO_CASE;
    int64_t width = a->c / a->groups;
    double count = (double)(a->pixels * width);
    for (int64_t ng = 0; ng < a->n * a->groups; ng++) {
        int64_t first = ng / a->groups * a->pixels * a->c + ng % a->groups * width;
        double sum = 0, squares = 0;
        if (ref_cancelled(env)) return WEFT_K_CANCELLED;
        for (int64_t p = 0; p < a->pixels; p++)
            for (int64_t i = 0; i < width; i++) sum += ref_get(a->type, a->x, first + p * a->c + i);
        double mean = sum / count;
        for (int64_t p = 0; p < a->pixels; p++)
            for (int64_t i = 0; i < width; i++) {
                double d = ref_get(a->type, a->x, first + p * a->c + i) - mean;
                squares += d * d;
            }
        double rstd = 1 / sqrt(squares / count + a->eps);
        for (int64_t p = 0; p < a->pixels; p++)
            for (int64_t i = 0; i < width; i++) {
                int64_t at = first + p * a->c + i, channel = ng % a->groups * width + i;
                double y = (ref_get(a->type, a->x, at) - mean) * rstd;
                if (a->gamma) y *= ref_get(a->type, a->gamma, channel);
                if (a->beta) y += ref_get(a->type, a->beta, channel);
                ref_put(a->type, a->y, at, weft_ref_activate(a->act, y));
            }
        if (a->mean) ref_put(a->type, a->mean, ng, mean);
        if (a->rstd) ref_put(a->type, a->rstd, ng, rstd);
    }
    return WEFT_K_OK;
}

int weft_ref_layer_norm(const weft_env *env, const weft_layer_norm_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t row = 0; row < a->rows; row++) {
        double sum = 0, squares = 0;
        if (ref_cancelled(env)) return WEFT_K_CANCELLED;
        for (int64_t i = 0; i < a->c; i++) sum += ref_get(a->type, a->x, row * a->c + i);
        double mean = sum / (double)a->c;
        for (int64_t i = 0; i < a->c; i++) {
            double d = ref_get(a->type, a->x, row * a->c + i) - mean;
            squares += d * d;
        }
        double rstd = 1 / sqrt(squares / (double)a->c + a->eps);
        for (int64_t i = 0; i < a->c; i++) {
            double y = (ref_get(a->type, a->x, row * a->c + i) - mean) * rstd;
            if (a->gamma) y *= ref_get(a->type, a->gamma, i);
            if (a->beta) y += ref_get(a->type, a->beta, i);
            ref_put(a->type, a->y, row * a->c + i, y);
        }
        if (a->mean) ref_put(a->type, a->mean, row, mean);
        if (a->rstd) ref_put(a->type, a->rstd, row, rstd);
    }
    return WEFT_K_OK;
}

int weft_ref_softmax(const weft_env *env, const weft_softmax_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t row = 0; row < a->rows; row++) {
        int64_t first = row * a->c;
        double largest = -INFINITY, total = 0;
        if (ref_cancelled(env)) return WEFT_K_CANCELLED;
        for (int64_t i = 0; i < a->c; i++) {
            double v = a->scale * ref_get(a->type, a->x, first + i);
            if (v > largest || isnan(v)) largest = v;
        }
        for (int64_t i = 0; i < a->c; i++) total += exp(a->scale * ref_get(a->type, a->x, first + i) - largest);
        for (int64_t i = 0; i < a->c; i++) {
            double v = a->scale * ref_get(a->type, a->x, first + i);
            ref_put(a->type, a->y, first + i, exp(v - largest) / total);
        }
    }
    return WEFT_K_OK;
}
