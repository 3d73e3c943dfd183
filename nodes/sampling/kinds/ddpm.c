/* DDPM: Ho et al., arXiv:2006.11239, as diffusers' DDPMScheduler.
 *
 *   a = ᾱ/ᾱ', β = 1 − a:   x' = √ᾱ'·β/(1 − ᾱ)·x₀ + √a·(1 − ᾱ')/(1 − ᾱ)·x + √variance·noise   (no noise at timestep 0)
 *   variance: fixed_small β·(1 − ᾱ')/(1 − ᾱ), fixed_large β.  ᾱ' is of the next timestep in the list, 1 past its end
 */
#include "nodes/sampling/kinds/kinds.h"

#include <math.h>
#include <string.h>

static bool prepare(weft_ctx *c, weft_scheduler *s) {
    const char *v = s->config.variance_type;
    if (*v && strcmp(v, "fixed_small") && strcmp(v, "fixed_small_log") && strcmp(v, "fixed_large")) {
        weft_fail(c, WEFT_E_ARGUMENT,
                  "scheduler ddpm: variance_type %s is not supported; fixed_small and fixed_large are", v);
        return false;
    }
    return weft_levels_at_timesteps(c, s, weft_level_of_alpha(1));
}

static weft_tensor *step(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                         weft_prediction type, weft_sampler_state *state, weft_tensor **denoised) {
    const weft_noise_level *now = &s->levels[i], *next = now + 1;
    double a = now->alpha * now->alpha, b = now->sigma * now->sigma;
    double a_next = next->alpha * next->alpha, b_next = next->sigma * next->sigma, keep = a / a_next, beta = 1 - keep;
    weft_tensor *x0 = *denoised = weft_bounded(c, s, weft_to_denoised(c, type, now, x, out), true);
    weft_tensor *mean = weft_axpby(c, next->alpha * beta / b, x0, sqrt(keep) * b_next / b, x);
    if (now->timestep <= 0) return mean;
    double variance = strcmp(s->config.variance_type, "fixed_large") ? fmax(beta * b_next / b, 1e-20) : beta;
    return weft_add_fresh_noise(c, mean, sqrt(variance), state->rng);
}

const weft_scheduler_kind weft_kind_ddpm = {
    .name = "ddpm", .class_name = "DDPMScheduler", .prepare = prepare, .step = step };
