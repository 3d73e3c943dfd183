/* Changes of tensors in place: what optimisers and moving averages are made of. No tape records them.
 *
 * What is changed must be dense memory of the context's own (not a mapped file), f32 or f64; the tensors of a call have
 * one type and shape, except that gradients and sources of another type are converted. Packed forms of the old content
 * are not used again. A cancel flag does not stop an update half-way. Each returns the context's status. */
#ifndef WEFT_UPDATE_H
#define WEFT_UPDATE_H

#include "runtime/weft.h"

/* Whether t may be changed in place; `name` begins the error's message where not. */
bool weft_update_allowed(weft_ctx *c, const char *name, const weft_tensor *t);

/* One step of an optimiser; `how` holds the hyperparameters (kernels.h), its arrays and sizes are filled in. */
weft_status weft_update_adam(weft_ctx *c, weft_adam_args how, weft_tensor *param, weft_tensor *grad, weft_tensor *m,
    weft_tensor *v) WEFT_MUST_CHECK;
weft_status weft_update_sgd(weft_ctx *c, weft_sgd_args how, weft_tensor *param, weft_tensor *grad,
    weft_tensor *m) WEFT_MUST_CHECK;                            /* m NULL: no momentum */
weft_status weft_update_lion(weft_ctx *c, weft_lion_args how, weft_tensor *param, weft_tensor *grad,
    weft_tensor *m) WEFT_MUST_CHECK;
/* row (…, rows), col (…, cols) for a param (…, rows, cols); row NULL: not factored, col is like param. m may be NULL.
 * relative: the learning rate is multiplied by max(how.least, rms(param)). */
weft_status weft_update_adafactor(weft_ctx *c, weft_adafactor_args how, bool relative, weft_tensor *param,
                                  weft_tensor *grad,
    weft_tensor *row, weft_tensor *col, weft_tensor *m) WEFT_MUST_CHECK;

/* t += amount·(to − t) */
weft_status weft_update_lerp(weft_ctx *c, weft_tensor *t, weft_tensor *to, double amount) WEFT_MUST_CHECK;
/* t = from, converted to t's type, which here may be any; the same shape. */
weft_status weft_update_copy(weft_ctx *c, weft_tensor *t, weft_tensor *from) WEFT_MUST_CHECK;
/* t = clamp(scale·t, low, high); t may also be f16 or bf16. */
weft_status weft_update_scale(weft_ctx *c, weft_tensor *t, double scale, double low, double high) WEFT_MUST_CHECK;

/* sums[i] = Σ x² of the i-th tensor, in double, the same for any number of threads; 0 for NULL. Reads only. */
weft_status weft_sum_squares(weft_ctx *c, int64_t n, weft_tensor *const *tensors, double *sums) WEFT_MUST_CHECK;

#endif
