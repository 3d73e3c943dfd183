/* Learning-rate schedules: the factor by which the rate is multiplied at a step, as diffusers.optimization's. */
#ifndef WEFT_TRAIN_LR_SCHEDULE_H
#define WEFT_TRAIN_LR_SCHEDULE_H

#include "runtime/weft.h"

typedef enum weft_lr_kind {
    WEFT_LR_CONSTANT, WEFT_LR_CONSTANT_WITH_WARMUP, WEFT_LR_LINEAR, WEFT_LR_COSINE, WEFT_LR_COSINE_WITH_RESTARTS,
    WEFT_LR_POLYNOMIAL, WEFT_LR_PIECEWISE_CONSTANT, WEFT_LR_COUNT
} weft_lr_kind;

const char *weft_lr_name(weft_lr_kind kind);        /* "constant", …; and back: WEFT_LR_COUNT for another name */
weft_lr_kind weft_lr_of(const char *name);

#define WEFT_LR_RULES 64

typedef struct weft_lr_schedule {
    weft_lr_kind kind;
    int64_t warmup, total;          /* steps; total: of the whole run, the warm-up's with them */
    double cycles;                  /* 0: the kind's own, ½ for cosine, 1 with restarts */
    double power, end;              /* polynomial: 1, and the learning rate at the end, 1e-7 */
    int rules;                      /* piecewise_constant: factor[i] before step until[i], sorted by it; then `last` */
    int64_t until[WEFT_LR_RULES];
    double factor[WEFT_LR_RULES], last;
} weft_lr_schedule;

/* The defaults of a kind. */
weft_lr_schedule weft_lr_defaults(weft_lr_kind kind);
/* diffusers' step_rules, "1:10,0.1:20,0.01": 1 before step 10, 0.1 before step 20, then 0.01. False with the error set.
 * */
bool weft_lr_rules(weft_ctx *c, weft_lr_schedule *s, const char *rules);
/* The factor for the step that comes after `step` steps were taken (0: the first); lr: the rate it will multiply. */
double weft_lr_factor(const weft_lr_schedule *s, double lr, int64_t step);

#endif
