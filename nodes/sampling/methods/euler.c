/* Euler's method and its kin. Karras et al., arXiv:2206.00364; k-diffusion's behaviour.
 *
 *   euler:            x += d·(σ' − σ),  d = (x − x₀)/σ
 *   euler_ancestral:  the same down to σ_down, then noise·σ_up
 *   lcm:              x = x₀ + σ'·noise
 *   ddim:             euler (the two are the same in these units)
 */
#include "nodes/sampling/sampling.h"

static weft_tensor *euler_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                               weft_tensor *denoised, weft_sampler_state *s) {
    (void)s;
    return weft_move(c, x, denoised, weft_level(p, i), weft_next_level(p, i));
}

static weft_tensor *ancestral_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                                   weft_tensor *denoised, weft_sampler_state *s) {
    double sigma = weft_level(p, i), next = weft_next_level(p, i), down, up;
    weft_ancestral_step(sigma, next, &down, &up);
    if (down == 0) return denoised;
    return weft_add_fresh_noise(c, weft_move(c, x, denoised, sigma, down), up, s->rng);
}

static weft_tensor *lcm_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                             weft_tensor *denoised, weft_sampler_state *s) {
    (void)x;
    return weft_add_fresh_noise(c, denoised, weft_next_level(p, i), s->rng);
}

const weft_method weft_method_euler = { .name = "euler", .summary = "Euler's method.", .step = euler_step };
const weft_method weft_method_ddim = {
    .name = "ddim", .summary = "DDIM without noise: Euler's method, with other noise under a mask.",
    .other_mask_noise = true, .step = euler_step };
const weft_method weft_method_euler_ancestral = {
    .name = "euler_ancestral", .summary = "Euler's method with fresh noise at each step.", .noisy = true,
    .step = ancestral_step };
const weft_method weft_method_lcm = {
    .name = "lcm", .summary = "For latent consistency models: x₀, noised again.", .noisy = true, .step = lcm_step };
