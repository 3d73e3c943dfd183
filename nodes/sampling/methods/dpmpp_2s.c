/* dpmpp_2s_ancestral: DPM-Solver++(2S), Lu et al. arXiv:2211.01095, with fresh noise; k-diffusion's behaviour.
 *
 *   to the geometric mean m of σ and σ_down:  u = (m/σ)·x + (1 − m/σ)·x₀
 *   with x₀ there over the whole step:        x' = (σ_down/σ)·x + (1 − σ_down/σ)·x₀(u) + σ_up·noise
 */
#include "nodes/sampling/sampling.h"

#include <math.h>

static double second(const double *sigmas, int step) {
    double down, up;
    weft_ancestral_step(sigmas[step], sigmas[step + 1], &down, &up);
    return down > 0 ? sqrt(sigmas[step]) * sqrt(down) : 0;
}

static weft_tensor *step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised,
                         weft_sampler_state *s) {
    const weft_evaluation *e = &p->evaluations[i];
    double sigma = p->sigmas[e->step], down, up;
    weft_ancestral_step(sigma, weft_next_level(p, i), &down, &up);
    if (e->stage == 1) {
        return weft_add_fresh_noise(c, weft_move(c, s->start, denoised, sigma, down), up, s->rng);
    }
    if (down == 0) return weft_add_fresh_noise(c, denoised, up, s->rng);
    weft_unref(s->start);
    s->start = weft_ref(x);
    return weft_move(c, x, denoised, sigma, second(p->sigmas, e->step));
}

const weft_method weft_method_dpmpp_2s_ancestral = {
    .name = "dpmpp_2s_ancestral", .summary = "DPM-Solver++ with two evaluations a step, and fresh noise.",
    .noisy = true, .second = second, .step = step };
