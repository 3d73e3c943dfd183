/* UniPC as diffusers' UniPCMultistepScheduler: up to third order, on x₀ (predict_x0) or ε. Weights:
 * nodes/sampling/unipc.h.
 *
 * An evaluation first corrects the sample it was made at, with the order the last step had, then predicts the next one.
 */
#include "nodes/sampling/kinds/kinds.h"
#include "nodes/sampling/unipc.h"

#include <math.h>
#include <string.h>

static bool prepare(weft_ctx *c, weft_scheduler *s) { return weft_solver_levels(c, s, false); }

static int order_of(const weft_scheduler *s, int i, const weft_sampler_state *state) {
    int order = s->config.solver_order, left = s->count - i;
    if (left < order && s->config.lower_order_final) order = left;
    return state->known < order ? state->known : order;
}

/* The step from level i to the next one; `now`, the evaluation there (or NULL), makes it the corrector. */
static weft_tensor *step_from(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *now,
                              const weft_sampler_state *state) {
    const weft_noise_level *a = &s->levels[i], *b = a + 1;
    bool x0 = s->config.predict_x0;
    int order = order_of(s, i, state), n = now ? order : order - 1;
    double from = weft_level_lambda(a), h = weft_level_lambda(b) - from;
    double r[WEFT_UNIPC_ORDER], w[WEFT_UNIPC_ORDER + 1], out = x0 ? b->alpha : b->sigma;
    for (int j = 1; j < order; j++) r[j - 1] = (weft_level_lambda(a - j) - from) / h;
    weft_unipc_weights(x0 ? -h : h, r, order, strcmp(s->config.solver_type, "bh1"), now != NULL, w);
    weft_tensor *x = weft_affine(c, state->start, x0 ? b->sigma / a->sigma : b->alpha / a->alpha, 0);
    for (int j = 1; j <= n; j++) x = weft_axpby(c, 1, x, -out * w[j], j == order ? now : state->history[j]);
    return weft_axpby(c, 1, x, -out * w[0], state->history[0]);
}

static weft_tensor *step(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                         weft_prediction type, weft_sampler_state *state, weft_tensor **denoised) {
    const weft_noise_level *now = &s->levels[i];
    *denoised = weft_bounded(c, s, weft_to_denoised(c, type, now, x, out), false);
    weft_tensor *m = s->config.predict_x0 ? *denoised : weft_to_epsilon(c, type, now, x, out);
    if (!weft_ok(c)) return NULL;
    if (state->known) x = step_from(c, s, i - 1, m, state);
    weft_sampler_remember(state, m);
    weft_unref(state->start);
    state->start = weft_ref(x);
    if (now[1].sigma > 0) return step_from(c, s, i, NULL, state);
    return s->config.predict_x0 ? m : weft_to_denoised(c, WEFT_PREDICTION_EPSILON, now, x, m);
}

const weft_scheduler_kind weft_kind_unipc = {
    .name = "unipc", .class_name = "UniPCMultistepScheduler", .prepare = prepare, .step = step };
