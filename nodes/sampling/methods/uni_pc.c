/* UniPC: Zhao et al., arXiv:2302.04867, on x₀, up to third order, as ComfyUI runs it: a last level of 0 becomes 0.001.
 *
 *   hh = ln σ' − ln σ,  φ = e^hh − 1,  B = hh (bh1) or φ (bh2),  D_j = (m_j − m_0)/r_j,  r_j = (λ_j − λ_0)/(−hh)
 *   predictor:  x' = (σ'/σ)·x − φ·m_0 − B·Σ ρ_j·D_j
 *   corrector:  the same from the same x, with the new evaluation as one more point (r = 1)
 *
 * An evaluation at x' first corrects x', then predicts the next: one evaluation a step.
 */
#include "nodes/sampling/sampling.h"

#include <math.h>

enum { ORDER = 3 };

static double level(const weft_sampling_plan *p, int k) { return p->sigmas[k] > 0 ? p->sigmas[k] : 0.001; }

/* The order of the step that ends at level k. */
static int order_at(const weft_sampling_plan *p, int k) {
    int most = p->steps - 1 < ORDER ? p->steps - 1 : ORDER;
    if (most < 1) return 1;
    if (k < most) return k;
    return p->steps + 1 - k < most ? p->steps + 1 - k : most;
}

struct terms { double h, phi, base, r[ORDER], b[ORDER]; };

/* Of the step to level k. */
static struct terms terms_of(const weft_sampling_plan *p, int k, int order, bool bh2) {
    struct terms t = { .h = log(level(p, k)) - log(level(p, k - 1)) };
    t.phi = expm1(t.h);
    t.base = bh2 ? t.phi : t.h;
    for (int j = 1; j < order; j++) t.r[j - 1] = (log(level(p, k - 1)) - log(level(p, k - 1 - j))) / -t.h;
    t.r[order - 1] = 1;
    double part = t.phi / t.h - 1, factorial = 1;
    for (int i = 0; i < order; i++) {
        t.b[i] = part * factorial / t.base;
        factorial *= i + 2;
        part = part / t.h - 1 / factorial;
    }
    return t;
}

/* Solves Σ_j r_j^i·x_j = b_i for the first n, by Gauss with the largest pivot. */
static void solve(const double *r, const double *b, int n, double *x) {
    double a[ORDER][ORDER + 1];
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) a[i][j] = pow(r[j], i);
        a[i][n] = b[i];
    }
    for (int k = 0; k < n; k++) {
        int best = k;
        for (int i = k + 1; i < n; i++)
            if (fabs(a[i][k]) > fabs(a[best][k])) best = i;
        for (int j = 0; j <= n; j++) {
            double swap = a[k][j];
            a[k][j] = a[best][j];
            a[best][j] = swap;
        }
        for (int i = k + 1; i < n; i++)
            for (int j = n; j >= k; j--) a[i][j] -= a[i][k] / a[k][k] * a[k][j];
    }
    for (int i = n - 1; i >= 0; i--) {
        x[i] = a[i][n];
        for (int j = i + 1; j < n; j++) x[i] -= a[i][j] * x[j];
        x[i] /= a[i][i];
    }
}

/* The step to level k from s->start; `now`, the evaluation at level k (or NULL), makes it the corrector. */
static weft_tensor *step_to(weft_ctx *c, const weft_sampling_plan *p, int k, bool bh2, weft_tensor *now,
                            const weft_sampler_state *s) {
    int order = order_at(p, k), n = now ? order : order - 1;
    struct terms t = terms_of(p, k, order, bh2);
    double rho[ORDER] = { 0.5 };
    if (now ? order > 1 : order > 2) solve(t.r, t.b, n, rho);
    double first = -t.phi;
    weft_tensor *x = weft_affine(c, s->start, level(p, k) / level(p, k - 1), 0);
    for (int j = 0; j < n; j++) {
        double w = t.base * rho[j] / t.r[j];
        x = weft_axpby(c, 1, x, -w, j == order - 1 ? now : s->history[j + 1]);
        first += w;
    }
    return weft_axpby(c, 1, x, first, s->history[0]);
}

static weft_tensor *step(weft_ctx *c, const weft_sampling_plan *p, int i, bool bh2, weft_tensor *x,
                         weft_tensor *denoised, weft_sampler_state *s) {
    if (i > 0) x = step_to(c, p, i, bh2, denoised, s);
    weft_sampler_remember(s, denoised);
    weft_unref(s->start);
    s->start = weft_ref(x);
    return step_to(c, p, i + 1, bh2, NULL, s);
}

static weft_tensor *bh1_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised,
                             weft_sampler_state *s) {
    return step(c, p, i, false, x, denoised, s);
}

static weft_tensor *bh2_step(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised,
                             weft_sampler_state *s) {
    return step(c, p, i, true, x, denoised, s);
}

const weft_method weft_method_uni_pc = {
    .name = "uni_pc", .summary = "UniPC of third order with B = h.", .drops_penultimate = true, .step = bh1_step };
const weft_method weft_method_uni_pc_bh2 = {
    .name = "uni_pc_bh2", .summary = "UniPC of third order with B = e^h − 1: better in few steps.",
    .drops_penultimate = true, .step = bh2_step };
