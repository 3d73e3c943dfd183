/* Plans, states and what the methods share. See sampling.h. */
#include "nodes/sampling/sampling.h"
#include "nodes/sampling/methods/list.h"

#include <math.h>
#include <stdlib.h>

#define M(name) extern const weft_method weft_method_##name;
WEFT_METHODS(M)
#undef M

const weft_method *const weft_methods[] = {
#define M(name) &weft_method_##name,
    WEFT_METHODS(M)
#undef M
    NULL };
const char *const weft_method_names[] = {
#define M(name) #name,
    WEFT_METHODS(M)
#undef M
    NULL };

/* ---- states -------------------------------------------------------------------------------------------------------------------------------- */

void weft_sampler_state_clear(weft_sampler_state *s) {
    weft_unref(s->start);
    weft_unref(s->slope);
    for (int i = 0; i < WEFT_HISTORY; i++) weft_unref(s->history[i]);
    *s = (weft_sampler_state){ .rng = s->rng };
}

void weft_sampler_remember(weft_sampler_state *s, weft_tensor *t) {
    weft_unref(s->history[WEFT_HISTORY - 1]);
    for (int i = WEFT_HISTORY - 1; i; i--) s->history[i] = s->history[i - 1];
    s->history[0] = weft_ref(t);
    if (s->known < WEFT_HISTORY) s->known++;
}

/* ---- plans ----------------------------------------------------------------------------------------------------------------------------------- */

bool weft_sampling_plan_make(weft_ctx *c, const weft_method *m, const double *sigmas, int count, weft_sampling_plan *out) {
    int steps = count > 0 ? count - 1 : 0;
    *out = (weft_sampling_plan){ .method = m, .sigmas = sigmas, .steps = steps, .evaluations = calloc(2 * (size_t)steps + 1, sizeof *out->evaluations) };
    if (!out->evaluations) {
        weft_fail(c, WEFT_E_MEMORY, "out of memory for %d steps", steps);
        return false;
    }
    for (int i = 0; i < steps; i++) {
        out->evaluations[out->count++] = (weft_evaluation){ sigmas[i], i, 0 };
        double second = m->second ? m->second(sigmas, i) : 0;
        if (second > 0) out->evaluations[out->count++] = (weft_evaluation){ second, i, 1 };
    }
    return true;
}

void weft_sampling_plan_free(weft_sampling_plan *p) {
    free(p->evaluations);
    *p = (weft_sampling_plan){ 0 };
}

/* ---- parts of steps ------------------------------------------------------------------------------------------------------------------------------ */

weft_tensor *weft_slope(weft_ctx *c, weft_tensor *x, weft_tensor *denoised, double sigma) {
    return weft_axpby(c, 1 / sigma, x, -1 / sigma, denoised);
}

weft_tensor *weft_add_fresh_noise(weft_ctx *c, weft_tensor *x, double scale, weft_rng *rng) {
    if (scale == 0) return x;
    weft_tensor *noise = weft_randn(c, rng, WEFT_F32, WEFT_SHAPE(weft_dim(x, 0), weft_dim(x, 3), weft_dim(x, 1), weft_dim(x, 2)));
    return weft_axpby(c, 1, x, scale, weft_to_nhwc(c, noise));
}

void weft_ancestral_step(double sigma, double next, double *down, double *up) {
    *up = fmin(next, sqrt(next * next * (sigma * sigma - next * next) / (sigma * sigma)));
    *down = sqrt(next * next - *up * *up);
}
