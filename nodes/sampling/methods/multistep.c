/* Methods that look back, one evaluation a step.
 *
 *   lms           Adams–Bashforth over slopes d, with the integrals of the Lagrange polynomials over [σ, σ'] (a cubic,
 *                 so two Gauss points are exact)
 *   ipndm         Adams–Bashforth with the weights of even steps: Zhang and Chen, arXiv:2204.13902
 *   gradient_estimation   Euler along 2·d − d_last: Permenter and Yuan, arXiv:2306.04848
 *   dpmpp_2m      DPM-Solver++(2M), Lu et al. arXiv:2211.01095:
 *                 h = ln σ − ln σ',  r = h_last/h,  x' = (σ'/σ)·x + (1 − e^{−h})·((1 + 1/2r)·x₀ − (1/2r)·x₀_last)
 *   res_multistep exponential integrator of second order, arXiv:2308.02157:
 *                 φ₁ = (e^{−h} − 1)/−h,  φ₂ = (φ₁ − 1)/−h,  x' = e^{−h}·x + h·((φ₁ + φ₂/r)·x₀ − φ₂/r·x₀_last)
 *
 * Behaviour: k-diffusion and ComfyUI, which take x₀ itself where σ' is 0.
 */
#include "nodes/sampling/sampling.h"

#include <math.h>

/* ∫ over [sigmas[i], sigmas[i+1]] of the Lagrange polynomial that is 1 at sigmas[i − j] and 0 at the others of the last
 * `order`. */
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

static weft_tensor *lms_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                             weft_tensor *denoised, weft_sampler_state *s) {
    weft_sampler_remember(s, weft_slope(c, x, denoised, weft_level(p, i)));
    if (weft_next_level(p, i) == 0) return denoised;
    for (int j = 0; j < s->known; j++)
        x = weft_axpby(c, 1, x, lms_coefficient(p->sigmas, i, j, s->known), s->history[j]);
    return x;
}

static weft_tensor *dpmpp_2m_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                                  weft_tensor *denoised, weft_sampler_state *s) {
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

static weft_tensor *ipndm_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised,
                               weft_sampler_state *s) {
    static const double weights[WEFT_HISTORY][WEFT_HISTORY] = {
        { 1 }, { 3 / 2.0, -1 / 2.0 }, { 23 / 12.0, -16 / 12.0, 5 / 12.0 },
        { 55 / 24.0, -59 / 24.0, 37 / 24.0, -9 / 24.0 } };
    double sigma = weft_level(p, i), next = weft_next_level(p, i);
    if (next == 0) return denoised;
    weft_sampler_remember(s, weft_slope(c, x, denoised, sigma));
    for (int j = 0; j < s->known; j++)
        x = weft_axpby(c, 1, x, (next - sigma) * weights[s->known - 1][j], s->history[j]);
    return x;
}

static weft_tensor *gradient_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                                  weft_tensor *denoised, weft_sampler_state *s) {
    double sigma = weft_level(p, i), next = weft_next_level(p, i);
    if (next == 0) return denoised;
    weft_tensor *d = weft_slope(c, x, denoised, sigma), *along = d;
    if (s->known) along = weft_axpby(c, 2, d, -1, s->history[0]);
    weft_sampler_remember(s, d);
    return weft_axpby(c, 1, x, next - sigma, along);
}

static weft_tensor *res_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised,
                             weft_sampler_state *s) {
    double sigma = weft_level(p, i), next = weft_next_level(p, i);
    weft_tensor *last = s->known ? s->history[0] : NULL;
    if (next == 0) return denoised;
    weft_tensor *out = NULL;
    if (last) {
        double h = log(sigma) - log(next), r = (log(p->sigmas[i - 1]) - log(sigma)) / h;
        double phi1 = expm1(-h) / -h, phi2 = (phi1 - 1) / -h;
        weft_tensor *mean = weft_axpby(c, h * (phi1 + phi2 / r), denoised, -h * phi2 / r, last);
        out = weft_axpby(c, next / sigma, x, 1, mean);
    } else {
        out = weft_move(c, x, denoised, sigma, next);
    }
    weft_sampler_remember(s, denoised);
    return out;
}

const weft_method weft_method_lms = {
    .name = "lms", .summary = "Linear multistep, four slopes back.", .step = lms_step };
const weft_method weft_method_dpmpp_2m = {
    .name = "dpmpp_2m", .summary = "DPM-Solver++ of second order, one evaluation a step.", .step = dpmpp_2m_step };
const weft_method weft_method_ipndm = {
    .name = "ipndm", .summary = "Four slopes back with the weights of even steps.", .step = ipndm_step };
const weft_method weft_method_res_multistep = {
    .name = "res_multistep", .summary = "An exponential integrator of second order.", .step = res_step };
const weft_method weft_method_gradient_estimation = {
    .name = "gradient_estimation", .summary = "Euler's method with a better slope from the last one.",
    .step = gradient_step };
