/* DPM-Solver++ and its kin, up to third order: Lu et al., arXiv:2206.00927 and arXiv:2211.01095, as diffusers'
 * DPMSolverMultistepScheduler. On x₀ (…++) or ε, with λ = ln α − ln σ, h = λ' − λ, and for the sde forms twice the
 * drift and fresh noise; m₀ the newest evaluation:
 *
 *   D₀ = m₀,  D₁ = (m₀ − m₁)/r₀ and for third order D₁ + r₀/(r₀ + r₁)·(D₁ − D₁'),  D₂ = (D₁ − D₁')/(r₀ + r₁),
 *   D₁' = (m₁ − m₂)/r₁,  r₀ = (λ − λ₁)/h,  r₁ = (λ₁ − λ₂)/h
 *
 *   ++       E = e^{−h} − 1:   x' = (σ'/σ)·x − α'·E·D₀ + α'·g₁·D₁ − α'·g₂·D₂
 *            g₁ = −E/2 (midpoint) or E/h + 1 (heun, third order), g₂ = (E + h)/h² − ½ (sde: + ½, as diffusers has it)
 *   sde-++   E = e^{−2h} − 1:  x' = (σ'/σ)·e^{−h}·x − …, h doubled in g₁ and g₂, + σ'·√(−E)·noise
 *   ε        E = e^h − 1:      x' = (α'/α)·x − σ'·E·D₀ − σ'·g₁·D₁ − σ'·g₂·D₂
 *            g₁ = E/2 or E/h − 1, g₂ = (E − h)/h² − ½
 *   sde-ε    x' = (α'/α)·x − 2σ'·E·D₀ − 2σ'·g₁·D₁ + σ'·√(e^{2h} − 1)·noise
 */
#include "nodes/sampling/kinds/kinds.h"

#include <math.h>
#include <string.h>

static bool prepare(weft_ctx *c, weft_scheduler *s) {
    const weft_scheduler_config *k = &s->config;
    bool epsilon = !strcmp(k->algorithm_type, "dpmsolver") || !strcmp(k->algorithm_type, "sde-dpmsolver");
    if (epsilon && !strcmp(k->final_sigmas_type, "zero"))
        weft_fail(c, WEFT_E_ARGUMENT, "scheduler dpmsolver_multistep: %s wants final_sigmas_type sigma_min, not zero",
                  k->algorithm_type);
    if (!strcmp(k->algorithm_type, "sde-dpmsolver") && k->solver_order > 2)
        weft_fail(c, WEFT_E_ARGUMENT, "scheduler dpmsolver_multistep: sde-dpmsolver goes up to order 2, not %d",
                  k->solver_order);
    return weft_ok(c) && weft_solver_levels(c, s, true);
}

static int order_of(const weft_scheduler *s, int i, int known) {
    const weft_scheduler_config *k = &s->config;
    bool few = k->lower_order_final && s->count < 15;
    if (i == s->count - 1 && (k->euler_at_final || few || !strcmp(k->final_sigmas_type, "zero"))) return 1;
    int order = known < k->solver_order ? known : k->solver_order;
    return i == s->count - 2 && few && order > 2 ? 2 : order;
}

/* What D₀, D₁, D₂, x and noise are multiplied with. */
struct parts { double d[3], x, noise; };

static struct parts parts_of(const weft_scheduler *s, int i, int order) {
    const weft_noise_level *a = &s->levels[i], *b = a + 1;
    const char *type = s->config.algorithm_type;
    bool sde = !strncmp(type, "sde-", 4), plus = strstr(type, "++") || !strcmp(type, "deis");
    bool exact = order == 3 || !strcmp(s->config.solver_type, "heun");
    double h = weft_level_lambda(b) - weft_level_lambda(a), k = plus ? sde ? -2 * h : -h : h, e = expm1(k);
    double out = plus ? b->alpha : b->sigma, twice = sde && !plus ? 2 : 1;
    struct parts p = { .x = plus ? b->sigma / a->sigma * (sde ? exp(-h) : 1) : b->alpha / a->alpha };
    p.d[0] = -twice * out * e;
    if (order > 1) p.d[1] = exact ? (plus ? 1 : -1) * twice * out * (plus ? e / -k + 1 : e / k - 1) : p.d[0] / 2;
    if (order > 2) p.d[2] = -out * ((e - k) / (k * k) + (sde ? 0.5 : -0.5));
    if (sde) p.noise = b->sigma * sqrt(plus ? -e : expm1(2 * h));
    return p;
}

/* Over the evaluations themselves: the differences written out. */
static void over_evaluations(const weft_scheduler *s, int i, int order, const struct parts *p, double *w) {
    const weft_noise_level *a = &s->levels[i];
    double here = weft_level_lambda(a), h = weft_level_lambda(a + 1) - here;
    w[0] = p->d[0];
    if (order < 2) return;
    double before = weft_level_lambda(a - 1), r0 = (here - before) / h, near = p->d[1], far = 0;
    if (order == 3) {       /* D₁ = near difference + r₀/(r₀ + r₁)·(near − far one), D₂ = (near − far)/(r₀ + r₁) */
        double r1 = (before - weft_level_lambda(a - 2)) / h, share = (p->d[1] * r0 + p->d[2]) / (r0 + r1);
        near += share;
        far = -share / r1;
    }
    w[0] += near / r0;
    w[1] = -near / r0 + far;
    w[2] = -far;
}

static weft_tensor *step(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                         weft_prediction type, weft_sampler_state *state, weft_tensor **denoised) {
    const weft_noise_level *now = &s->levels[i];
    bool epsilon = !strcmp(s->config.algorithm_type, "dpmsolver") || !strcmp(s->config.algorithm_type, "sde-dpmsolver");
    weft_tensor *m = *denoised = weft_bounded(c, s, weft_to_denoised(c, type, now, x, out), false);
    if (epsilon) m = s->config.thresholding ? weft_to_epsilon(c, WEFT_PREDICTION_SAMPLE, now, x, m)
                                            : weft_to_epsilon(c, type, now, x, out);
    if (!weft_ok(c)) return NULL;
    weft_sampler_remember(state, m);
    int order = order_of(s, i, state->known);
    struct parts p = parts_of(s, i, order);
    double w[3] = { 0 };
    over_evaluations(s, i, order, &p, w);
    weft_tensor *noise = strncmp(s->config.algorithm_type, "sde-", 4) ? NULL : weft_fresh_noise(c, x, state->rng);
    x = weft_axpby(c, p.x, x, w[0], m);
    for (int j = 1; j < order; j++) x = weft_axpby(c, 1, x, w[j], state->history[j]);
    return noise ? weft_axpby(c, 1, x, p.noise, noise) : x;
}

const weft_scheduler_kind weft_kind_dpmsolver_multistep = {
    .name = "dpmsolver_multistep", .class_name = "DPMSolverMultistepScheduler", .prepare = prepare, .step = step };
