/* DDIM: Song et al., arXiv:2010.02502, as diffusers' DDIMScheduler.
 *
 *   p = t − T/N (whole division);  ᾱ' = ᾱ_p, past the start 1 (set_alpha_to_one) or ᾱ_0
 *   s = η·√((1 − ᾱ')/(1 − ᾱ)·(1 − ᾱ/ᾱ')):   x' = √ᾱ'·x₀ + √(1 − ᾱ' − s²)·ε + s·noise
 *
 * x₀ is clipped, ε is not worked out anew from it.
 */
#include "nodes/sampling/kinds/kinds.h"

#include <math.h>

static weft_noise_level before(const weft_scheduler *s, const weft_noise_level *l) {
    int p = (int)l->timestep - s->config.num_train_timesteps / s->steps;
    if (p >= 0) return weft_level_of_timestep(s, p);
    return weft_level_of_alpha(s->config.set_alpha_to_one ? 1 : s->alphas_cumprod[0]);
}

static bool prepare(weft_ctx *c, weft_scheduler *s) {
    if (!weft_levels_at_timesteps(c, s, (weft_noise_level){ 0 })) return false;
    s->levels[s->count] = before(s, &s->levels[s->count - 1]);
    return true;
}

static weft_tensor *step(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                         weft_prediction type, weft_sampler_state *state, weft_tensor **denoised) {
    const weft_noise_level *now = &s->levels[i], next = before(s, now);
    double b = now->sigma * now->sigma, b_next = next.sigma * next.sigma, keep = now->alpha / next.alpha;
    double noise = s->eta * sqrt(fmax(b_next / b * (1 - keep * keep), 0));
    weft_tensor *x0 = *denoised = weft_bounded(c, s, weft_to_denoised(c, type, now, x, out), true);
    weft_tensor *epsilon = weft_to_epsilon(c, type, now, x, out);
    weft_tensor *mean = weft_axpby(c, next.alpha, x0, sqrt(fmax(b_next - noise * noise, 0)), epsilon);
    return s->eta > 0 ? weft_axpby(c, 1, mean, noise, weft_fresh_noise(c, x, state->rng)) : mean;
}

const weft_scheduler_kind weft_kind_ddim = {
    .name = "ddim", .class_name = "DDIMScheduler", .prepare = prepare, .step = step };
