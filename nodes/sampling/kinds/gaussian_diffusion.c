/* denoising-diffusion-pytorch's GaussianDiffusion: as many steps as the training had are DDPM's (arXiv:2006.11239),
 * fewer are DDIM's (arXiv:2010.02502).
 *
 *   timesteps   those of S + 1 numbers evenly from T − 1 to −1, fractions cut off; −1, the end, is the clean picture
 *   DDIM        s = η·√((1 − ᾱ')/(1 − ᾱ)·(1 − ᾱ/ᾱ')):   x' = √ᾱ'·x₀ + √(1 − ᾱ' − s²)·ε + s·noise
 *
 * x₀ is clipped, and ε worked out anew from it. Facts: denoising_diffusion_pytorch 2.3.4.
 */
#include "nodes/sampling/kinds/kinds.h"

#include <math.h>

extern const weft_scheduler_kind weft_kind_ddpm;

static bool prepare(weft_ctx *c, weft_scheduler *s) {
    const int n = s->steps, last = s->config.num_train_timesteps - 1;
    if (!weft_scheduler_room(c, s, n)) return false;
    for (int i = 0; i < n; i++) s->levels[i] = weft_level_of_timestep(s, (int)weft_even(-1, last, n - i, n + 1, true));
    s->levels[n] = weft_level_of_alpha(1);
    s->init_noise_sigma = 1;
    return true;
}

static weft_tensor *step(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                         weft_prediction type, weft_sampler_state *state, weft_tensor **denoised) {
    const weft_noise_level *now = &s->levels[i], *next = now + 1;
    if (s->steps == s->config.num_train_timesteps) return weft_kind_ddpm.step(c, s, i, x, out, type, state, denoised);
    double b = now->sigma * now->sigma, b_next = next->sigma * next->sigma, keep = now->alpha / next->alpha;
    double noise = s->eta * sqrt(fmax(b_next / b * (1 - keep * keep), 0));
    weft_tensor *x0 = *denoised = weft_bounded(c, s, weft_to_denoised(c, type, now, x, out), true);
    weft_tensor *epsilon = weft_to_epsilon(c, WEFT_PREDICTION_SAMPLE, now, x, x0);
    weft_tensor *mean = weft_axpby(c, next->alpha, x0, sqrt(fmax(b_next - noise * noise, 0)), epsilon);
    return weft_add_fresh_noise(c, mean, noise, state->rng);
}

const weft_scheduler_kind weft_kind_gaussian_diffusion = {
    .name = "gaussian_diffusion", .class_name = "GaussianDiffusion", .exact = true, .prepare = prepare, .step = step };
