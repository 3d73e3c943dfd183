/* What is done to gradients between backward and the optimiser's step: norms, clipping, loss scaling; see optim.h. Here
 * is also the one place where a run on several machines would average them. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include "nodes/train/optim.h"
#include "runtime/update.h"

weft_status weft_grad_norm(weft_ctx *c, int64_t n, weft_tensor *const *grads, double *norm) {
    double *sums = calloc(1, (size_t)n * sizeof *sums + 1), sum = 0;
    if (!sums) return weft_fail(c, WEFT_E_MEMORY, "no memory for the gradients' norms");
    if (weft_sum_squares(c, n, grads, sums) == WEFT_OK)
        for (int64_t i = 0; i < n; i++) sum += sums[i];
    *norm = sqrt(sum);
    free(sums);
    return weft_error(c);
}

static weft_status scale_all(weft_ctx *c, int64_t n, weft_tensor *const *grads, double scale, double most) {
    for (int64_t i = 0; i < n && weft_ok(c); i++)
        if (grads[i] && weft_update_scale(c, grads[i], scale, -most, most)) break;
    return weft_error(c);
}

weft_status weft_clip_grad_norm(weft_ctx *c, int64_t n, weft_tensor *const *grads, double most, bool strict,
                                double *norm) {
    double before = 0;
    if (weft_grad_norm(c, n, grads, &before)) return weft_error(c);
    if (norm) *norm = before;
    if (strict && !isfinite(before))
        return weft_fail(c, WEFT_E_ARGUMENT,
                         "the gradients' norm is %g: a value is not finite, and nothing can be clipped", before);
    const double scale = most / (before + 1e-6);
    return scale >= 1 ? weft_error(c) : scale_all(c, n, grads, scale, INFINITY);
}

weft_status weft_clip_grad_value(weft_ctx *c, int64_t n, weft_tensor *const *grads, double most) {
    return scale_all(c, n, grads, 1, most);
}

weft_status weft_loss_unscale(weft_ctx *c, const weft_loss_scale *s, int64_t n, weft_tensor *const *grads,
                              bool *finite) {
    double norm = 0;
    if (scale_all(c, n, grads, 1 / s->scale, INFINITY) || weft_grad_norm(c, n, grads, &norm)) return weft_error(c);
    *finite = isfinite(norm);
    return WEFT_OK;
}

void weft_loss_scale_update(weft_loss_scale *s, bool finite) {
    if (!finite) {
        s->scale *= s->backoff;
        s->good = 0;
    } else if (++s->good >= s->interval) {
        if (s->scale * s->growth <= FLT_MAX) s->scale *= s->growth;     /* torch keeps it in a float */
        s->good = 0;
    }
}
