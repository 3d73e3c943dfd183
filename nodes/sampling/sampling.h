/* Sampling: a plan of evaluations, and steps between them.
 *
 * x is the sample in the units of its noise level: x = x₀ + σ·noise. An evaluation gives the model's idea of x₀
 * ("denoised") at one σ; a step takes x from one evaluation to the next. Methods that evaluate twice in a step (heun,
 * dpm_2) have two evaluations there: a step is then a pure function of (plan, evaluation, denoised, x, state), and
 * KSampler, the stage nodes and Lua all run the same loop:
 *
 *     for i in evaluations:  denoised = guide(x, σᵢ);  x = step(i, x, denoised, state)
 */
#ifndef WEFT_SAMPLING_H
#define WEFT_SAMPLING_H

#include "nodes/sampling/schedule.h"
#include "runtime/rng.h"

enum { WEFT_HISTORY = 4 };

/* What a method remembers between evaluations; it owns references. */
typedef struct weft_sampler_state {
    weft_tensor *start;                     /* x at the first evaluation of a step with two */
    weft_tensor *slope;                     /* and the slope there */
    weft_tensor *history[WEFT_HISTORY];     /* of earlier steps, newest first: denoised or slopes */
    int known;                              /* how many */
    const void *of;                         /* whose memory it is: a method or a kind of scheduler; NULL: of none yet */
    int next;                               /* the evaluation that it is for */
    weft_rng *rng;                          /* for methods that add noise; the caller's */
    uint64_t seed;                          /* what the sampling was seeded with: noise from a Brownian tree */
} weft_sampler_state;
void weft_sampler_state_clear(weft_sampler_state *s);   /* forgets all but rng, which stays the caller's, and seed */
/* Puts a tensor in front of the history. */
void weft_sampler_remember(weft_sampler_state *s, weft_tensor *t);

typedef struct weft_evaluation {
    double sigma;               /* of x at this evaluation */
    int step;                   /* it belongs to the step from sigmas[step] to sigmas[step + 1] */
    int stage;                  /* 0, or 1: the second of its step */
} weft_evaluation;

typedef struct weft_method weft_method;
typedef struct weft_sampling_plan {
    const weft_method *method;
    const double *sigmas;       /* steps + 1 of them, falling; the caller's */
    int steps;
    weft_evaluation *evaluations;
    int count;
} weft_sampling_plan;

struct weft_method {
    const char *name;           /* KSampler's sampler_name */
    const char *summary;
    bool noisy;                 /* draws noise between steps */
    bool other_mask_noise;      /* a noise mask's outside is noised from seed + 1 instead of the first noise */
    bool drops_penultimate;     /* KSampler plans one step more and leaves out the level before the last */
    /* The second evaluation's σ of a step, 0 where it has none. NULL: never one. */
    double (*second)(const double *sigmas, int step);
    /* x at the next evaluation, in the innermost scope. */
    weft_tensor *(*step)(weft_ctx *c, const weft_sampling_plan *p, int i, weft_tensor *x, weft_tensor *denoised,
                         weft_sampler_state *s);
};

/* Plans a method over noise levels. False with the error set. */
bool weft_sampling_plan_make(weft_ctx *c, const weft_method *m, const double *sigmas, int count,
                             weft_sampling_plan *out);
void weft_sampling_plan_free(weft_sampling_plan *p);

/* KSampler's levels: denoise < 1 takes the end of a longer schedule, 0 takes none (*count is then 0). malloc'd; NULL
 * with the error set. */
double *weft_sampling_levels(weft_ctx *c, const weft_sigma_table *t, const weft_method *m, int schedule, int steps,
                             double denoise, int *count);
/* Noise like `latent` (N, h, w, channels), drawn in NCHW order for the whole batch; batch_index (or NULL): for each
 * image, the place in a batch whose noise it has. */
weft_tensor *weft_sampling_noise(weft_ctx *c, weft_tensor *latent, weft_rng *rng, const int64_t *batch_index);
/* The first x is latent + noise·scale: √(1 + σ²) at the table's end and above, otherwise σ. */
double weft_first_noise(const weft_sigma_table *t, double sigma);

/* All methods, in KSampler's order; the names alone for its port. */
extern const weft_method *const weft_methods[];
extern const char *const weft_method_names[];

/* ---- what methods are made of -------------------------------------------------------------------------- */

static inline double weft_level(const weft_sampling_plan *p, int i) { return p->evaluations[i].sigma; }
static inline double weft_next_level(const weft_sampling_plan *p, int i) {
    return p->sigmas[p->evaluations[i].step + 1];
}
/* (x − denoised)/σ: the direction of the noise. */
weft_tensor *weft_slope(weft_ctx *c, weft_tensor *x, weft_tensor *denoised, double sigma);
/* x moved along its slope to another level: (to/σ)·x + (1 − to/σ)·denoised, which is x + (to − σ)·slope without its
 * cancellation. */
static inline weft_tensor *weft_move(weft_ctx *c, weft_tensor *x, weft_tensor *denoised, double sigma, double to) {
    return weft_axpby(c, to / sigma, x, 1 - to / sigma, denoised);
}
/* Fresh noise like x, drawn in f32 and NCHW order. */
weft_tensor *weft_fresh_noise(weft_ctx *c, weft_tensor *x, weft_rng *rng);
/* x + noise·scale, with fresh noise; x itself where scale is 0. */
weft_tensor *weft_add_fresh_noise(weft_ctx *c, weft_tensor *x, double scale, weft_rng *rng);
/* A step to `next` with as much fresh noise as keeps the process: *down to walk to, *up the noise's scale. */
void weft_ancestral_step(double sigma, double next, double *down, double *up);

#endif
