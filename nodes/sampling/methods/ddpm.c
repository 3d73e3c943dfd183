/* ddpm: the ancestral step of Ho et al., arXiv:2006.11239, between any two noise levels; ᾱ = 1/(σ² + 1), in units where
 * x = √ᾱ·x₀ + √(1 − ᾱ)·ε.
 *
 *   a = ᾱ/ᾱ',  μ = (x − (1 − a)·ε/√(1 − ᾱ))/√a,  x' = μ + √((1 − a)(1 − ᾱ')/(1 − ᾱ))·noise
 */
#include "nodes/sampling/sampling.h"

#include <math.h>

static weft_tensor *ddpm_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                              weft_tensor *denoised, weft_sampler_state *s) {
    double sigma = weft_level(p, i), next = weft_next_level(p, i);
    double ac = 1 / (sigma * sigma + 1), before = 1 / (next * next + 1), a = ac / before;
    weft_tensor *epsilon = weft_slope(c, x, denoised, sigma);
    weft_tensor *mean = weft_axpby(c, sqrt(ac / a), x, -(1 - a) / sqrt((1 - ac) * a), epsilon);
    if (next == 0) return mean;
    mean = weft_add_fresh_noise(c, mean, sqrt((1 - a) * (1 - before) / (1 - ac)), s->rng);
    return weft_affine(c, mean, sqrt(1 + next * next), 0);
}

const weft_method weft_method_ddpm = {
    .name = "ddpm", .summary = "The ancestral sampling of DDPM.", .noisy = true, .step = ddpm_step };
