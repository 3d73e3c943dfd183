/* Methods of second order with two evaluations a step. Karras et al., arXiv:2206.00364; k-diffusion's behaviour.
 *
 *   heun:   Euler to σ', the slope there, and the mean of both slopes over the step
 *   dpm_2:  Euler to the geometric mean of σ and σ', and the slope there over the step; ancestral: down to σ_down,
 *           then noise
 *
 * The last step, to σ' = 0, is Euler's.
 */
#include "nodes/sampling/sampling.h"

#include <math.h>

/* Keeps x and the slope of a step's first evaluation. */
static void keep_start(weft_sampler_state *s, weft_tensor *x, weft_tensor *slope) {
    weft_unref(s->start);
    weft_unref(s->slope);
    s->start = weft_ref(x);
    s->slope = weft_ref(slope);
}

/* ---- heun ---------------------------------------------------------------------------------------------- */

static double heun_second(const double *sigmas, int step) { return sigmas[step + 1]; }

static weft_tensor *heun_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                              weft_tensor *denoised, weft_sampler_state *s) {
    const weft_evaluation *e = &p->evaluations[i];
    double sigma = p->sigmas[e->step], next = weft_next_level(p, i);
    weft_tensor *d = weft_slope(c, x, denoised, e->sigma);
    if (e->stage == 0) {
        keep_start(s, x, d);
        return weft_move(c, x, denoised, sigma, next);
    }
    return weft_axpby(c, 1, s->start, next - sigma, weft_axpby(c, 0.5, s->slope, 0.5, d));
}

/* ---- dpm_2 --------------------------------------------------------------------------------------------- */

static double middle(double a, double b) { return b > 0 ? exp((log(a) + log(b)) / 2) : 0; }

static double dpm_2_second(const double *sigmas, int step) { return middle(sigmas[step], sigmas[step + 1]); }

static double dpm_2_ancestral_second(const double *sigmas, int step) {
    double down, up;
    weft_ancestral_step(sigmas[step], sigmas[step + 1], &down, &up);
    return middle(sigmas[step], down);
}

/* To `end` through the slope at the middle; the end itself where the step has one evaluation. */
static weft_tensor *dpm_2_to(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                             weft_tensor *denoised, weft_sampler_state *s, double end) {
    const weft_evaluation *e = &p->evaluations[i];
    double sigma = p->sigmas[e->step];
    weft_tensor *d = weft_slope(c, x, denoised, e->sigma);
    if (e->stage == 1) return weft_axpby(c, 1, s->start, end - sigma, d);
    keep_start(s, x, d);
    double mid = middle(sigma, end);
    return weft_move(c, x, denoised, sigma, mid > 0 ? mid : end);
}

static weft_tensor *dpm_2_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                               weft_tensor *denoised, weft_sampler_state *s) {
    return dpm_2_to(c, p, i, x, denoised, s, weft_next_level(p, i));
}

static weft_tensor *dpm_2_ancestral_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                                         weft_tensor *denoised, weft_sampler_state *s) {
    double down, up;
    weft_ancestral_step(p->sigmas[p->evaluations[i].step], weft_next_level(p, i), &down, &up);
    x = dpm_2_to(c, p, i, x, denoised, s, down);
    return p->evaluations[i].stage == 1 ? weft_add_fresh_noise(c, x, up, s->rng) : x;
}

const weft_method weft_method_heun = {
    .name = "heun", .summary = "Heun's method: two evaluations a step.", .second = heun_second, .step = heun_step };
const weft_method weft_method_dpm_2 = {
    .name = "dpm_2", .summary = "The midpoint method in ln σ: two evaluations a step.", .drops_penultimate = true,
    .second = dpm_2_second, .step = dpm_2_step };
const weft_method weft_method_dpm_2_ancestral = {
    .name = "dpm_2_ancestral", .summary = "dpm_2 with fresh noise at each step.", .noisy = true,
    .drops_penultimate = true, .second = dpm_2_ancestral_second, .step = dpm_2_ancestral_step };
