/* DPM-Solver++ as a stochastic equation: Lu et al., arXiv:2211.01095, k-diffusion's behaviour; noise from a Brownian
 * tree over the levels above 0. h = ln σ − ln σ', e = e^{−2h}:
 *
 *   dpmpp_2m_sde  x' = (σ'/σ)·e^{−h}·x + (1 − e)·x₀ + (1 − e)/2·(x₀ − x₀_last)/r + σ'·√(1 − e)·noise,  r = h_last/h
 *                 heun: (1 − e)/(−2h) + 1 instead of (1 − e)/2
 *   dpmpp_3m_sde  the same over two last ones: φ₂·D₁ − φ₃·D₂,  φ₂ = (e − 1)/2h + 1,  φ₃ = φ₂/2h − ½,  D₁ and D₂ the
 *                 first and second difference in units of h
 *   dpmpp_sde     an ancestral step to the geometric mean, x₀ there, and with it an ancestral step over the whole
 *
 * The names with _gpu draw their noise on a GPU where there is one; the tree here is always the CPU's.
 */
#include "nodes/sampling/brownian.h"
#include "nodes/sampling/sampling.h"

#include <math.h>

/* x + scale·noise of the path from σ to `to`. */
static weft_tensor *walk(weft_ctx *c, const weft_sampling_plan *p, weft_tensor *x, double sigma, double to,
                         double scale,
                         const weft_sampler_state *s) {
    double low = p->sigmas[p->steps] > 0 ? p->sigmas[p->steps] : p->sigmas[p->steps - 1];
    if (scale == 0) return x;
    return weft_axpby(c, 1, x, scale, weft_brownian_noise(c, x, s->seed, low, p->sigmas[0], sigma, to));
}

/* ---- one evaluation a step ------------------------------------------------------------------------------------- */

enum form { MIDPOINT, HEUN, THIRD };

/* ln σ_i − ln σ_{i + 1} */
static double width(const weft_sampling_plan *p, int i) { return log(p->sigmas[i]) - log(p->sigmas[i + 1]); }

/* Adds what earlier evaluations say: differences in units of h. */
static weft_tensor *curved(weft_ctx *c, const weft_sampling_plan *p, int i, enum form form, weft_tensor *x,
                           weft_tensor *x0, const weft_sampler_state *s) {
    double h = width(p, i), less = -expm1(-2 * h), phi2 = 1 - less / (2 * h), phi3 = phi2 / (2 * h) - 0.5;
    if (!s->known) return x;
    double first = form == MIDPOINT ? less / 2 : form == HEUN ? 1 - less / (2 * h) : phi2, r0 = width(p, i - 1) / h;
    if (form != THIRD || s->known < 2) return weft_axpby(c, 1, x, first / r0, weft_axpby(c, 1, x0, -1, s->history[0]));
    double r1 = width(p, i - 2) / h, share = (phi2 * r0 - phi3) / (r0 + r1);
    weft_tensor *near = weft_axpby(c, 1 / r0, x0, -1 / r0, s->history[0]);
    weft_tensor *far = weft_axpby(c, 1 / r1, s->history[0], -1 / r1, s->history[1]);
    return weft_axpby(c, 1, x, 1, weft_axpby(c, phi2 + share, near, -share, far));
}

static weft_tensor *multistep(weft_ctx *c, const weft_sampling_plan *p, int i, enum form form, weft_tensor *x,
                              weft_tensor *denoised, weft_sampler_state *s) {
    double sigma = weft_level(p, i), next = weft_next_level(p, i), h;
    if (next == 0) return denoised;
    h = width(p, i);
    x = weft_axpby(c, next / sigma * exp(-h), x, -expm1(-2 * h), denoised);
    x = curved(c, p, i, form, x, denoised, s);
    weft_sampler_remember(s, denoised);
    return walk(c, p, x, sigma, next, next * sqrt(-expm1(-2 * h)), s);
}

static weft_tensor *midpoint_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x,
                                  weft_tensor *denoised,
                                  weft_sampler_state *s) {
    return multistep(c, p, i, MIDPOINT, x, denoised, s);
}

static weft_tensor *heun_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised,
                              weft_sampler_state *s) {
    return multistep(c, p, i, HEUN, x, denoised, s);
}

static weft_tensor *third_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised,
                               weft_sampler_state *s) {
    return multistep(c, p, i, THIRD, x, denoised, s);
}

/* ---- two evaluations a step ------------------------------------------------------------------------------------ */

static double second(const double *sigmas, int step) {
    return sigmas[step + 1] > 0 ? exp((log(sigmas[step]) + log(sigmas[step + 1])) / 2) : 0;
}

static weft_tensor *sde_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised,
                             weft_sampler_state *s) {
    const weft_evaluation *e = &p->evaluations[i];
    double sigma = p->sigmas[e->step], next = weft_next_level(p, i), down, up;
    if (next == 0) return denoised;
    double to = e->stage == 0 ? second(p->sigmas, e->step) : next;
    weft_tensor *start = e->stage == 0 ? x : s->start;
    weft_ancestral_step(sigma, to, &down, &up);
    weft_tensor *out = walk(c, p, weft_move(c, start, denoised, sigma, down), sigma, to, up, s);
    if (e->stage == 0) {
        weft_unref(s->start);
        s->start = weft_ref(x);
    }
    return out;
}

#define ONE(id, step_, text) const weft_method weft_method_##id = { \
        .name = #id, .summary = text, .noisy = true, .step = step_ };
ONE(dpmpp_2m_sde, midpoint_step, "DPM-Solver++ of second order with fresh noise, one evaluation a step.")
ONE(dpmpp_2m_sde_gpu, midpoint_step, "dpmpp_2m_sde.")
ONE(dpmpp_2m_sde_heun, heun_step, "dpmpp_2m_sde with Heun's weights.")
ONE(dpmpp_2m_sde_heun_gpu, heun_step, "dpmpp_2m_sde_heun.")
ONE(dpmpp_3m_sde, third_step, "DPM-Solver++ of third order with fresh noise, one evaluation a step.")
ONE(dpmpp_3m_sde_gpu, third_step, "dpmpp_3m_sde.")

const weft_method weft_method_dpmpp_sde = {
    .name = "dpmpp_sde", .summary = "DPM-Solver++ with fresh noise and two evaluations a step.", .noisy = true,
    .second = second, .step = sde_step };
const weft_method weft_method_dpmpp_sde_gpu = {
    .name = "dpmpp_sde_gpu", .summary = "dpmpp_sde.", .noisy = true, .second = second, .step = sde_step };
