/* PNDM: Liu et al., arXiv:2202.09778, as diffusers' PNDMScheduler: linear multistep over predictions, begun with three
 * Runge–Kutta steps of four evaluations, or (skip_prk_steps) with Heun's method over the first interval.
 *
 *   transfer:  x' = √(ᾱ'/ᾱ)·x − (ᾱ' − ᾱ)/(ᾱ·√(1 − ᾱ') + √(ᾱ·(1 − ᾱ)·ᾱ'))·ε
 *   multistep: ε from (3, −1)/2, (23, −16, 5)/12, (55, −59, 37, −9)/24 of the last predictions
 *
 * What is mixed are the predictions as the model gives them; a mixed v becomes ε at the transfer's start.
 */
#include "nodes/sampling/kinds/kinds.h"

#include <math.h>
#include <stdlib.h>

enum { PRK = 12 };      /* evaluations of the Runge–Kutta steps */

static int stride(const weft_scheduler *s) { return s->config.num_train_timesteps / s->steps; }

static bool prepare(weft_ctx *c, weft_scheduler *s) {
    int n = s->steps, half = stride(s) / 2, train = s->config.num_train_timesteps;
    bool skip = s->config.skip_prk_steps;
    if (!skip && n < 4)
        weft_fail(c, WEFT_E_ARGUMENT, "scheduler pndm: %d steps; without skip_prk_steps it takes 4 or more", n);
    if (s->config.prediction_type == WEFT_PREDICTION_SAMPLE)
        weft_fail(c, WEFT_E_ARGUMENT, "scheduler pndm: takes epsilon and v_prediction, not sample");
    double *t = weft_spaced_timesteps(c, s, train, n, n, true);
    if (t && weft_scheduler_room(c, s, skip ? n + (n > 1) : PRK + n - 3)) {
        for (int i = 0; i < s->count; i++) {
            int at = skip ? (i < 2 ? i : i - 1) : i - PRK + 3, more = 0;
            if (!skip && i < PRK) {     /* a, b + h, b + h, b for each pair of neighbours a > b */
                at = i / 4 + (i % 4 > 0);
                more = i % 4 == 1 || i % 4 == 2 ? half : 0;
            }
            s->levels[i] = weft_level_of_timestep(s, (int)t[at] + more);
        }
        s->levels[s->count] = weft_level_of_alpha(s->config.set_alpha_to_one ? 1 : s->alphas_cumprod[0]);
        s->init_noise_sigma = 1;
    }
    free(t);
    return weft_ok(c);
}

static weft_tensor *transfer(weft_ctx *c, const weft_scheduler *s, weft_tensor *x, int t, int to, weft_tensor *mixed,
                             weft_prediction type) {
    int top = s->config.num_train_timesteps - 1;
    weft_noise_level now = weft_level_of_timestep(s, t < top ? t : top);
    weft_noise_level next = weft_level_of_alpha(s->config.set_alpha_to_one ? 1 : s->alphas_cumprod[0]);
    if (to >= 0) next = weft_level_of_timestep(s, to);
    double a = now.alpha * now.alpha, b = next.alpha * next.alpha;
    double scale = (b - a) / (a * next.sigma + now.alpha * now.sigma * next.alpha);
    return weft_axpby(c, next.alpha / now.alpha, x, -scale, weft_to_epsilon(c, type, &now, x, mixed));
}

static bool wants_start(weft_ctx *c, const weft_sampler_state *state, int i) {
    if (state->start) return true;
    weft_fail(c, WEFT_E_ARGUMENT, "step %d of pndm is within its first ones: it wants the state of step %d", i, i - 1);
    return false;
}

static void begin_at(weft_sampler_state *state, weft_tensor *x) {
    weft_unref(state->start);
    state->start = weft_ref(x);
}

/* The third and fourth parts are mixed with what `slope` gathers: (e₁ + 2·e₂ + 2·e₃ + e₄)/6. */
static weft_tensor *runge_kutta(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                                weft_prediction type, weft_sampler_state *state) {
    int t = (int)s->levels[i].timestep, to = i % 2 ? t : t - stride(s) / 2, part = i % 4;
    weft_tensor *mixed = out, *sum = NULL;
    if (part == 0) {
        begin_at(state, x);
        weft_sampler_remember(state, out);
        sum = weft_affine(c, out, 1 / 6.0, 0);
    } else {
        if (!wants_start(c, state, i)) return NULL;
        sum = weft_axpby(c, 1, state->slope, part == 3 ? 1 / 6.0 : 1 / 3.0, out);
        if (part == 3) mixed = sum;
    }
    weft_unref(state->slope);
    state->slope = weft_ref(sum);
    return transfer(c, s, state->start, (int)s->levels[i / 4 * 4].timestep, to, mixed, type);
}

static weft_tensor *multistep(weft_ctx *c, const weft_sampler_state *state) {
    static const double weights[4][4] = { { 1 }, { 3 / 2.0, -1 / 2.0 }, { 23 / 12.0, -16 / 12.0, 5 / 12.0 },
                                          { 55 / 24.0, -59 / 24.0, 37 / 24.0, -9 / 24.0 } };
    return weft_weighted(c, state->known, weights[state->known - 1], state->history);
}

static weft_tensor *step(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                         weft_prediction type, weft_sampler_state *state, weft_tensor **denoised) {
    int t = (int)s->levels[i].timestep;
    *denoised = weft_to_denoised(c, type, &s->levels[i], x, out);
    if (!weft_ok(c)) return NULL;
    if (!s->config.skip_prk_steps && i < PRK) return runge_kutta(c, s, i, x, out, type, state);
    if (s->config.skip_prk_steps && i == 1) {       /* the mean of both slopes over the first interval again */
        if (!wants_start(c, state, i)) return NULL;
        weft_tensor *mean = weft_axpby(c, 0.5, out, 0.5, state->history[0]);
        return transfer(c, s, state->start, t + stride(s), t, mean, type);
    }
    begin_at(state, x);
    weft_sampler_remember(state, out);
    return transfer(c, s, x, t, t - stride(s), multistep(c, state), type);
}

const weft_scheduler_kind weft_kind_pndm = {
    .name = "pndm", .class_name = "PNDMScheduler", .prepare = prepare, .step = step };
