/* UniPC: Zhao et al., arXiv:2302.04867, on x₀, up to third order, as ComfyUI runs it: a last level of 0 becomes 0.001.
 *
 * Weights: nodes/sampling/unipc.h, with α = 1.
 *
 * An evaluation at x' first corrects x', then predicts the next: one evaluation a step.
 */
#include "nodes/sampling/sampling.h"
#include "nodes/sampling/unipc.h"

#include <math.h>

enum { ORDER = WEFT_UNIPC_ORDER };

static double level(const weft_sampling_plan *p, int k) { return p->sigmas[k] > 0 ? p->sigmas[k] : 0.001; }

/* The order of the step that ends at level k. */
static int order_at(const weft_sampling_plan *p, int k) {
    int most = p->steps - 1 < ORDER ? p->steps - 1 : ORDER;
    if (most < 1) return 1;
    if (k < most) return k;
    return p->steps + 1 - k < most ? p->steps + 1 - k : most;
}

/* The step to level k from s->start; `now`, the evaluation at level k (or NULL), makes it the corrector. */
static weft_tensor *step_to(weft_ctx *c, const weft_sampling_plan *p, int k, bool bh2, weft_tensor *now,
                            const weft_sampler_state *s) {
    int order = order_at(p, k) < s->known ? order_at(p, k) : s->known, n = now ? order : order - 1;
    double hh = log(level(p, k)) - log(level(p, k - 1)), r[ORDER], w[ORDER + 1];
    for (int j = 1; j < order; j++) r[j - 1] = (log(level(p, k - 1)) - log(level(p, k - 1 - j))) / -hh;
    weft_unipc_weights(hh, r, order, bh2, now != NULL, w);
    weft_tensor *x = weft_affine(c, s->start, level(p, k) / level(p, k - 1), 0);
    for (int j = 1; j <= n; j++) x = weft_axpby(c, 1, x, -w[j], j == order ? now : s->history[j]);
    return weft_axpby(c, 1, x, -w[0], s->history[0]);
}

static weft_tensor *step(weft_ctx *c, const weft_sampling_plan *p, int i, bool bh2, weft_tensor *x,
                         weft_tensor *denoised, weft_sampler_state *s) {
    if (s->known) x = step_to(c, p, i, bh2, denoised, s);
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
