/* Exponential moving averages of parameters, to sample with: average += (1 − decay)·(parameter − average).
 *
 * How the decay grows is one of two rules. diffusers' EMAModel, for its n-th step: s = n − update_after_step − 1, 0
 * where s ≤ 0, else (1 + s)/(10 + s), or with use_warmup 1 − (1 + s/inv_gamma)^−power, kept within [min_decay, decay].
 * lucidrains' ema_pytorch, for its n-th call: the first one copies; then only where (n − 1) divides by update_every:
 * copies up to n − 1 = update_after_step, after that s as above and the warm-up's formula.
 *
 * Averages are f32 (f64 for f64 parameters), also of f16 and bf16 parameters, where an average in 16 bits would stand
 * still. */
#ifndef WEFT_TRAIN_EMA_H
#define WEFT_TRAIN_EMA_H

#include "runtime/weft.h"

typedef enum weft_ema_rule { WEFT_EMA_DIFFUSERS, WEFT_EMA_LUCIDRAINS, WEFT_EMA_COUNT } weft_ema_rule;

const char *weft_ema_name(weft_ema_rule rule);          /* "diffusers", …; and back: WEFT_EMA_COUNT for another name */
weft_ema_rule weft_ema_of(const char *name);

typedef struct weft_ema_options {
    weft_ema_rule rule;
    double decay, min_decay;            /* lucidrains: beta, min_value */
    int64_t update_after_step;
    int64_t update_every;               /* lucidrains */
    bool use_warmup;                    /* diffusers: use_ema_warmup */
    double inv_gamma, power;
} weft_ema_options;

/* Each library's defaults: 0.9999, 0, then 0 without warm-up, or 100 and every 10; 1, 2/3. */
weft_ema_options weft_ema_defaults(weft_ema_rule rule);

typedef struct weft_ema weft_ema;

weft_ema *weft_ema_new(weft_ctx *c, const weft_ema_options *options);       /* NULL with the error set */
void weft_ema_free(weft_ema *e);                                            /* takes NULL */
/* Adds a parameter, whose value now is the average; a reference is held. */
weft_status weft_ema_add(weft_ema *e, const char *name, weft_tensor *param) WEFT_MUST_CHECK;
int64_t weft_ema_count(const weft_ema *e);
/* The i-th with its name (unless NULL); NULL past the end. */
weft_tensor *weft_ema_average(const weft_ema *e, int64_t i, const char **name);

/* After each step of the optimiser. */
weft_status weft_ema_step(weft_ema *e) WEFT_MUST_CHECK;
double weft_ema_decay(const weft_ema *e);       /* the decay of the last step that averaged; 0: it copied */
/* What the step after `steps` steps does: true with its decay (0: copies), or false where it leaves the average as it
 * is. */
bool weft_ema_plan(const weft_ema_options *options, int64_t steps, double *decay);

/* Exchanges parameters and averages, so that the model samples with the averages, and back. In between neither step,
 * save nor load. Where it fails, nothing is exchanged. */
weft_status weft_ema_swap(weft_ema *e) WEFT_MUST_CHECK;
bool weft_ema_swapped(const weft_ema *e);

/* The averages and the count of steps, exactly. */
weft_status weft_ema_save(weft_ema *e, const char *path) WEFT_MUST_CHECK;
weft_status weft_ema_load(weft_ema *e, const char *path) WEFT_MUST_CHECK;

#endif
