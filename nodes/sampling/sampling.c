/* Plans, states and what the methods share. See sampling.h. */
#include "nodes/sampling/sampling.h"
#include "nodes/sampling/methods/list.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- states -------------------------------------------------------------------------------------------- */

void weft_sampler_state_clear(weft_sampler_state *s) {
    weft_unref(s->start);
    weft_unref(s->slope);
    for (int i = 0; i < WEFT_HISTORY; i++) weft_unref(s->history[i]);
    *s = (weft_sampler_state){ .rng = s->rng, .seed = s->seed };
}

void weft_sampler_remember(weft_sampler_state *s, weft_tensor *t) {
    weft_unref(s->history[WEFT_HISTORY - 1]);
    for (int i = WEFT_HISTORY - 1; i; i--) s->history[i] = s->history[i - 1];
    s->history[0] = weft_ref(t);
    if (s->known < WEFT_HISTORY) s->known++;
}

/* ---- plans --------------------------------------------------------------------------------------------- */

bool weft_sampling_plan_make(weft_ctx *c, const weft_method *m, const double *sigmas, int count,
                             weft_sampling_plan *out) {
    int steps = count > 0 ? count - 1 : 0;
    *out = (weft_sampling_plan){ .method = m, .sigmas = sigmas, .steps = steps };
    out->evaluations = calloc(2 * (size_t)steps + 1, sizeof *out->evaluations);
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

/* ---- parts of steps ------------------------------------------------------------------------------------ */

weft_tensor *weft_slope(weft_ctx *c, weft_tensor *x, weft_tensor *denoised, double sigma) {
    return weft_axpby(c, 1 / sigma, x, -1 / sigma, denoised);
}

static weft_tensor *draw(weft_ctx *c, weft_rng *rng, weft_tensor *like, int64_t images) {
    const int64_t shape[] = { images, weft_dim(like, 3), weft_dim(like, 1), weft_dim(like, 2) };
    return weft_to_nhwc(c, weft_randn(c, rng, WEFT_F32, 4, shape));
}

weft_tensor *weft_fresh_noise(weft_ctx *c, weft_tensor *x, weft_rng *rng) {
    return weft_cast(c, draw(c, rng, x, weft_dim(x, 0)), weft_type(x));
}

weft_tensor *weft_add_fresh_noise(weft_ctx *c, weft_tensor *x, double scale, weft_rng *rng) {
    return scale == 0 ? x : weft_axpby(c, 1, x, scale, weft_fresh_noise(c, x, rng));
}

void weft_ancestral_step(double sigma, double next, double *down, double *up) {
    *up = fmin(next, sqrt(next * next * (sigma * sigma - next * next) / (sigma * sigma)));
    *down = sqrt(next * next - *up * *up);
}

/* ---- beginnings ----------------------------------------------------------------------------------------- */

double *weft_sampling_levels(weft_ctx *c, const weft_sigma_table *t, const weft_method *m, int schedule, int steps,
                             double denoise, int *count) {
    *count = 0;
    if (denoise <= 0) return calloc(1, sizeof(double));
    double planned = denoise > 0.9999 ? steps : floor(steps / denoise);
    if (planned > 1e7) {
        weft_fail(c, WEFT_E_ARGUMENT, "denoise %g in %d steps is a schedule of %g steps", denoise, steps, planned);
        return NULL;
    }
    double *all = weft_schedule_make(c, t, schedule, (int)planned + m->drops_penultimate, count);
    if (!all) return NULL;
    if (m->drops_penultimate && *count > 2) {
        all[*count - 2] = all[*count - 1];
        --*count;
    }
    int skip = denoise > 0.9999 || *count < steps + 1 ? 0 : *count - (steps + 1);
    *count -= skip;
    memmove(all, all + skip, (size_t)*count * sizeof *all);
    return all;
}

/* Draws image after image and keeps those asked for. */
static weft_tensor *draw_indexed(weft_ctx *c, weft_rng *rng, weft_tensor *latent, const int64_t *index) {
    int64_t n = weft_dim(latent, 0), last = 0;
    weft_tensor **parts = calloc((size_t)n + 1, sizeof *parts);
    if (!parts) weft_fail(c, WEFT_E_MEMORY, "out of memory for the noise of %lld images", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        if (index[i] > last) last = index[i];
        if (index[i] < 0 || index[i] > 1000000)
            weft_fail(c, WEFT_E_ARGUMENT, "batch_index: a place in a batch is 0…1000000, not %lld",
                      (long long)index[i]);
    }
    for (int64_t at = 0; weft_ok(c) && at <= last; at++) {
        weft_scope s = weft_scope_named(c, "noise");
        weft_tensor *one = draw(c, rng, latent, 1);
        bool wanted = false;
        for (int64_t i = 0; i < n; i++)
            if (index[i] == at) {
                parts[i] = one;
                wanted = true;
            }
        weft_scope_end(c, s, wanted ? one : NULL);
    }
    weft_tensor *out = weft_ok(c) ? weft_concat(c, 0, (int)n, parts) : NULL;
    free(parts);
    return out;
}

weft_tensor *weft_sampling_noise(weft_ctx *c, weft_tensor *latent, weft_rng *rng, const int64_t *batch_index) {
    weft_scope s = weft_scope_named(c, "noise");
    weft_tensor *out = batch_index ? draw_indexed(c, rng, latent, batch_index)
                                   : draw(c, rng, latent, weft_dim(latent, 0));
    return weft_scope_end(c, s, out);
}

double weft_first_noise(const weft_sigma_table *t, double sigma) {
    double top = t->sigmas[t->count - 1];
    bool most = sigma > top || fabs(sigma - top) <= 1e-5 * fmax(sigma, top);
    return most ? sqrt(1 + sigma * sigma) : sigma;
}
