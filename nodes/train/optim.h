/* Optimisers: they change parameters by their gradients and keep their own state beside them.
 *
 * AdamW, Adam (weight decay as an L2 penalty), SGD with momentum, Lion and Adafactor, each step as torch.optim's,
 * lion-pytorch's and transformers' Adafactor take it. State is f32 (f64 for f64 parameters). A parameter in f16 or bf16
 * gets an f32 master copy that the updates go to; the parameter is rounded from it after each step. That saves memory
 * where the device computes in 16 bits; on the CPU back end, which computes in f32, it costs memory and gains nothing.
 *
 * After a failed step (the error says why) parameters and state may be half new: go back to a checkpoint. */
#ifndef WEFT_TRAIN_OPTIM_H
#define WEFT_TRAIN_OPTIM_H

#include "runtime/weft.h"

typedef enum weft_optim_kind {
    WEFT_OPTIM_ADAMW, WEFT_OPTIM_ADAM, WEFT_OPTIM_SGD, WEFT_OPTIM_LION, WEFT_OPTIM_ADAFACTOR, WEFT_OPTIM_COUNT
} weft_optim_kind;

/* "adamw", "adam", …; and back: WEFT_OPTIM_COUNT for another name. */
const char *weft_optim_name(weft_optim_kind kind);
weft_optim_kind weft_optim_of(const char *name);

typedef struct weft_optim_options {
    weft_optim_kind kind;
    double lr, weight_decay;                /* of group 0 */
    double beta1, beta2, eps;               /* beta1 0 for Adafactor: no first moment */
    double momentum, dampening;             /* SGD */
    bool nesterov;
    double least, clip, decay_rate;         /* Adafactor: eps[1], clip_threshold, and −0.8 */
    bool scale_parameter, relative_step, warmup_init;   /* relative_step: lr must be 0, it is worked out */
} weft_optim_options;

/* The defaults of the libraries named above. */
weft_optim_options weft_optim_defaults(weft_optim_kind kind);

typedef struct weft_optim weft_optim;

/* NULL with the error set (a value outside its range, no memory). */
weft_optim *weft_optim_new(weft_ctx *c, const weft_optim_options *options);
void weft_optim_free(weft_optim *o);        /* takes NULL */

/* Another group with a learning rate and weight decay of its own; its number, or −1 with the error set. */
int weft_optim_group(weft_optim *o, double lr, double weight_decay);
/* Adds a parameter under a name of its own; the optimiser holds a reference and makes its state at once. */
weft_status weft_optim_add(weft_optim *o, int group, const char *name, weft_tensor *param) WEFT_MUST_CHECK;
int64_t weft_optim_count(const weft_optim *o);
/* The i-th with its name (unless NULL); NULL past the end. */
weft_tensor *weft_optim_param(const weft_optim *o, int64_t i, const char **name);

/* Multiplies every group's learning rate: what a schedule (lr_schedule.h) gives. 1 at first. */
void weft_optim_set_factor(weft_optim *o, double factor);
double weft_optim_lr(const weft_optim *o, int group);      /* with the factor; 0 for a group that is none */

/* One step. grads[i] belongs to the i-th parameter, has its shape and any float type; NULL: that parameter stays as it
 * is. */
weft_status weft_optim_step(weft_optim *o, weft_tensor *const *grads) WEFT_MUST_CHECK;

/* The state (moments, masters, counts of steps), exactly; not the options and learning rates, which are the program's.
 * Loading wants a file of the same kind of optimiser over the same parameters. */
weft_status weft_optim_save(weft_optim *o, const char *path) WEFT_MUST_CHECK;
weft_status weft_optim_load(weft_optim *o, const char *path) WEFT_MUST_CHECK;

/* ---- gradients --------------------------------------------------------------------------------------------------- */

/* √Σ x² over all of the tensors (NULL ones skipped), in double, the same for any number of threads; *norm. */
weft_status weft_grad_norm(weft_ctx *c, int64_t n, weft_tensor *const *grads, double *norm) WEFT_MUST_CHECK;
/* As torch.nn.utils.clip_grad_norm_: multiplies all by min(1, most/(norm + 1e-6)). `strict`: a norm that is not finite
 * is an error and leaves them as they are; otherwise they become NaN. *norm: before clipping; may be NULL. */
weft_status weft_clip_grad_norm(weft_ctx *c, int64_t n, weft_tensor *const *grads, double most, bool strict,
    double *norm) WEFT_MUST_CHECK;
/* As clip_grad_value_: each value to −most … most. */
weft_status weft_clip_grad_value(weft_ctx *c, int64_t n, weft_tensor *const *grads, double most) WEFT_MUST_CHECK;

/* The scale by which a loss is multiplied so that f16 gradients do not vanish; torch.amp.GradScaler's rules: halved
 * where a gradient was not finite (that step is left out), doubled after `interval` good steps. */
typedef struct weft_loss_scale {
    double scale, growth, backoff;
    int64_t interval, good;                 /* good: steps in a row so far */
} weft_loss_scale;
#define WEFT_LOSS_SCALE ((weft_loss_scale){ 65536, 2, 0.5, 2000, 0 })

/* Divides the gradients by the scale. *finite: whether all are; if not, leave the step out. */
weft_status weft_loss_unscale(weft_ctx *c, const weft_loss_scale *s, int64_t n, weft_tensor *const *grads,
    bool *finite) WEFT_MUST_CHECK;
/* After each step, taken or left out. */
void weft_loss_scale_update(weft_loss_scale *s, bool finite);

#endif
