/* A scheduler is a value: a table of noise levels, and steps that are pure functions of (scheduler, evaluation,
 * prediction, sample, state).
 *
 *   x = α·x₀ + σ·ε     at every level. Two families of units: diffusers' variance-preserving one (α² + σ² = 1), and
 *                      that of k-diffusion, KSampler and diffusers' Euler (α = 1)
 *   the model sees x·input and the number `timestep`; its prediction is ε, or v = α'·ε − σ'·x₀ with (α', σ') =
 *   (α, σ)/√(α² + σ²), or x₀
 *
 * A kind fills the levels and gives the step. Diffusers' schedulers are kinds of their own (nodes/sampling/kinds);
 * every method of KSampler is one too, over its plan: KSampler runs nothing else.
 *
 *     for i in 0 … count − 1:  prediction = model(x·input[i], timestep[i]);  x = step(i, prediction, x, state)
 */
#ifndef WEFT_SCHEDULER_H
#define WEFT_SCHEDULER_H

#include "nodes/sampling/sampling.h"
#include "nodes/values.h"

typedef struct weft_noise_level {
    double timestep;            /* what the model is told */
    double alpha, sigma;        /* x = alpha·x₀ + sigma·ε */
    double input;               /* the model sees x·input */
    double noise;               /* latents are noised to this level with alpha·x₀ + noise·ε: sigma, but for KSampler's
                                 * start */
} weft_noise_level;

/* x₀ = x·of_x + out·of_out, where out is the model's output of that type at a level. */
typedef struct weft_mix { double of_x, of_out; } weft_mix;
weft_mix weft_denoised_mix(weft_prediction type, const weft_noise_level *l);

typedef struct weft_scheduler weft_scheduler;

typedef struct weft_scheduler_kind {
    const char *name;           /* the node Scheduler's choice */
    const char *class_name;     /* diffusers' */
    bool exploding;             /* α = 1 */
    bool exact;                 /* ᾱ as f64 has it, not rounded to f32 as in diffusers */
    /* Fills count, levels (weft_scheduler_room) and init_noise_sigma. False with the error set. */
    bool (*prepare)(weft_ctx *c, weft_scheduler *s);
    /* x at the next level, in the innermost scope; *denoised: what it took for x₀. `type` says what `out`, the model's
     * output, is. */
    weft_tensor *(*step)(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                         weft_prediction type, weft_sampler_state *state, weft_tensor **denoised);
} weft_scheduler_kind;

/* "SCHEDULER". Never changes once it is made. */
struct weft_scheduler {
    weft_object object;
    const weft_scheduler_kind *kind;
    weft_scheduler_config config;       /* owned */
    double eta;                         /* DDIM's noise: 0 none, 1 DDPM's */
    int steps;                          /* as asked for */
    int count;                          /* evaluations of the model */
    weft_noise_level *levels;           /* count + 1: the last is where it ends */
    double init_noise_sigma;            /* pure noise times this is a first sample */
    double *alphas_cumprod;             /* config.num_train_timesteps of them */
    weft_sampling_plan plan;            /* KSampler's methods; elsewhere empty */
    double *sigmas;                     /* the plan's, owned */
};
extern const weft_class weft_class_scheduler;

/* Diffusers' kinds in the order of kinds/list.h, NULL-terminated. */
extern const weft_scheduler_kind *const weft_scheduler_kinds[];

/* A scheduler of diffusers' from its settings (copied). NULL with the error set. */
weft_scheduler *weft_scheduler_new(weft_ctx *c, const weft_scheduler_kind *kind, const weft_scheduler_config *config,
                                   double eta, int steps);
/* A method of KSampler over falling levels (`sigmas`: count of them, malloc'd, taken over also where it fails). */
weft_scheduler *weft_scheduler_of_method(weft_ctx *c, const weft_model *m, const weft_method *method, double *sigmas,
                                         int count);
/* A level's noise for each unit of the picture: k-diffusion's σ. */
static inline double weft_level_ratio(const weft_noise_level *l) { return l->sigma / l->alpha; }

/* alpha·x₀ + noise·ε at level i; x₀ NULL: noise·init_noise_sigma. */
weft_tensor *weft_scheduler_add_noise(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x0, weft_tensor *noise);
/* One step. x, out alike; state is changed (weft_sampler_state_begin starts one). denoised may be NULL. In the
 * innermost scope; NULL with the error set. */
weft_tensor *weft_scheduler_step(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                                 weft_prediction type, weft_sampler_state *state, weft_tensor **denoised);

/* An empty state whose generator is seeded as this scheduler's origin does it: KSampler's at seed + 1, diffusers' at
 * seed. False with the error set. The generator becomes the state's: weft_sampler_state_end frees both. */
bool weft_sampler_state_begin(weft_ctx *c, const weft_scheduler *s, uint64_t seed, weft_sampler_state *state);
/* A state like `from` that shares its tensors and has a generator of its own. False with the error set. */
bool weft_sampler_state_copy(weft_ctx *c, const weft_sampler_state *from, weft_sampler_state *to);
void weft_sampler_state_end(weft_sampler_state *state);

/* "SAMPLER_STATE": what a step hands to the next one. */
typedef struct weft_state_value { weft_object object; weft_sampler_state state; } weft_state_value;
extern const weft_class weft_class_sampler_state;
/* Takes the state over (ends it where it fails). NULL with the error set. */
weft_state_value *weft_state_value_new(weft_ctx *c, weft_sampler_state *state);

/* ---- what kinds are made of ---------------------------------------------------------------------------------- */

/* Levels for `count` evaluations and the end, zeroed. False with the error set. */
bool weft_scheduler_room(weft_ctx *c, weft_scheduler *s, int count);
/* x₀, or ε, by what the model said at a level. */
weft_tensor *weft_to_denoised(weft_ctx *c, weft_prediction type, const weft_noise_level *l, weft_tensor *x,
                              weft_tensor *out);
weft_tensor *weft_to_epsilon(weft_ctx *c, weft_prediction type, const weft_noise_level *l, weft_tensor *x,
                             weft_tensor *out);
/* uncond + scale·(cond − uncond) */
weft_tensor *weft_cfg_mix(weft_ctx *c, weft_tensor *cond, weft_tensor *uncond, double scale);

#endif
