/* y = softmax(scale·x) over rows: exp(scale·(x − extreme)) over their sum, extreme being the row's largest value
 * (its smallest where scale is negative), so that no exponent is above 0. Sums run in float over short stretches, in
 * double over those.
 */
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/threads.h"

#define STRETCH (64 * VL)

/* A NaN may be passed over: its own exponential brings it into the sum. */
static float extreme(const float *x, int64_t c, bool largest) {
    vf e = vf_set(largest ? -INFINITY : INFINITY);
    int64_t i = 0;
    for (; i + VL <= c; i += VL) e = largest ? vf_max(vf_load(x + i), e) : vf_min(vf_load(x + i), e);
    float t[VL], r;
    vf_store(t, e);
    r = t[0];
    for (int k = 1; k < VL; k++) r = largest ? MAX(r, t[k]) : MIN(r, t[k]);
    for (; i < c; i++) r = largest ? MAX(r, x[i]) : MIN(r, x[i]);
    return r;
}

static void softmax_row(const float *x, float *y, int64_t c, float scale) {
    const float top = extreme(x, c, scale >= 0);
    double total = 0;
    int64_t i = 0;
    while (i + VL <= c) {
        vf sum = { 0 };
        for (int64_t end = MIN(i + STRETCH, c); i + VL <= end; i += VL) {
            vf e = vf_exp((vf_load(x + i) - top) * scale);
            vf_store(y + i, e);
            sum += e;
        }
        total += vf_sum(sum);
    }
    if (i < c) {
        float t[VL];
        vf_store(t, vf_exp((vf_load_n(x + i, c - i) - top) * scale));
        memcpy(y + i, t, (size_t)(c - i) * sizeof(float));
        for (int k = 0; k < c - i; k++) total += t[k];
    }
    const float inverse = (float)(1 / total);
    for (i = 0; i + VL <= c; i += VL) vf_store(y + i, vf_load(y + i) * inverse);
    for (; i < c; i++) y[i] *= inverse;
}

int ISA_NAME(softmax)(const weft_env *env, const weft_softmax_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (a->rows * a->c == 0) return WEFT_K_OK;
#pragma omp parallel for num_threads(threads_for(env, 4.0 * (double)a->rows * (double)a->c))
    for (int64_t row = 0; row < a->rows; row++)
        softmax_row((const float *)a->x + row * a->c, (float *)a->y + row * a->c, a->c, (float)a->scale);
    return WEFT_K_OK;
}
