/* Methods that look back. lms: Adams–Bashforth over slopes, with the integrals of the Lagrange polynomials over [σ, σ'] (k-diffusion; a cubic,
 * so two Gauss points are exact). dpmpp_2m: DPM-Solver++(2M), Lu et al. arXiv:2211.01095, as k-diffusion has it:
 *
 *   h = ln σ − ln σ',  r = h_last/h,  D = (1 + 1/2r)·x₀ − (1/2r)·x₀_last,  x = (σ'/σ)·x + (1 − e^{−h})·D
 */
#include "nodes/sampling/sampling.h"

#include <math.h>

/* ∫ over [sigmas[i], sigmas[i+1]] of the Lagrange polynomial that is 1 at sigmas[i − j] and 0 at the others of the last `order`. */
static double lms_coefficient(const double *sigmas, int i, int j, int order) {
    static const double at[2] = { -0.57735026918962576, 0.57735026918962576 };
    double a = sigmas[i], b = sigmas[i + 1], sum = 0;
    for (int g = 0; g < 2; g++) {
        double tau = (a + b) / 2 + at[g] * (b - a) / 2, product = 1;
        for (int k = 0; k < order; k++)
            if (k != j) product *= (tau - sigmas[i - k]) / (sigmas[i - j] - sigmas[i - k]);
        sum += product;
    }
    return sum * (b - a) / 2;
}

static weft_tensor *lms_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised, weft_sampler_state *s) {
    weft_sampler_remember(s, weft_slope(c, x, denoised, weft_level(p, i)));
    if (weft_next_level(p, i) == 0) return denoised;
    for (int j = 0; j < s->known; j++) x = weft_axpby(c, 1, x, lms_coefficient(p->sigmas, i, j, s->known), s->history[j]);
    return x;
}

static weft_tensor *dpmpp_2m_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised, weft_sampler_state *s) {
    double sigma = weft_level(p, i), next = weft_next_level(p, i);
    weft_tensor *d = denoised;
    if (next == 0) return denoised;
    double h = log(sigma) - log(next);
    if (s->known) {
        double r = (log(p->sigmas[i - 1]) - log(sigma)) / h;
        d = weft_axpby(c, 1 + 1 / (2 * r), denoised, -1 / (2 * r), s->history[0]);
    }
    weft_sampler_remember(s, denoised);
    return weft_axpby(c, next / sigma, x, -expm1(-h), d);
}

const weft_method weft_method_lms = { .name = "lms", .summary = "Linear multistep, four slopes back.", .step = lms_step };
const weft_method weft_method_dpmpp_2m = { .name = "dpmpp_2m", .summary = "DPM-Solver++ of second order, one evaluation a step.", .step = dpmpp_2m_step };
