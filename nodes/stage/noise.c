/* Noise, RandomTimesteps, AddNoise, Denoised: PyTorch's random numbers, a picture mixed with noise, and what a model takes
 * the picture for. */
#include <math.h>
#include <stdlib.h>

#include "nodes/stage/stage.h"
#include "runtime/autograd.h"

/* ---- Noise ----------------------------------------------------------------------------------------------------- */

struct noise {
    uint64_t seed;
    weft_tensor *like;
    weft_latent *latent;
    int64_t width, height, batch_size, channels;
    weft_tensor *noise;
    weft_state_value *state;
};

static void noise_run(weft_ctx *c, void *self) {
    struct noise *n = self;
    const int64_t shape[] = { n->batch_size, n->height / 8, n->width / 8, n->channels };
    weft_tensor *like = n->like ? n->like : n->latent ? n->latent->samples : NULL;
    weft_sampler_state state = { .rng = weft_rng_new(c, WEFT_RNG_CPU, n->seed), .seed = n->seed };
    char text[96];
    if (!like) like = weft_broadcast(c, weft_scalar(c, WEFT_F32, 0), 4, shape);
    if (like && weft_rank(like) != 4)
        weft_fail(c, WEFT_E_SHAPE, "like: expected (N, height, width, channels), found %s",
                  weft_describe(like, text, sizeof text));
    const int64_t *places = !n->like && n->latent ? n->latent->batch_index : NULL;
    if (weft_ok(c)) n->noise = weft_sampling_noise(c, like, state.rng, places);
    n->state = weft_state_value_new(c, &state);
}

const weft_node weft_node_Noise = {
    .name = "Noise", .category = "stages/sampling", .size = sizeof(struct noise),
    .summary = "Normal numbers, the same as PyTorch's generator on the CPU gives for this seed and shape.",
    .inputs = (const weft_port[]){
        WEFT_SEED_IN(struct noise, seed, "what they are drawn from"),
        WEFT_OPTIONAL_TENSOR_IN(struct noise, like, "TENSOR", "(N, height, width, channels): noise of this shape"),
        WEFT_OPTIONAL_OBJECT_IN(struct noise, latent, "LATENT", "noise of this shape, for its places in the batch"),
        WEFT_OPTIONAL_INT_IN(struct noise, width, 512, 8, 16384, 8, "otherwise for a picture of this width"),
        WEFT_OPTIONAL_INT_IN(struct noise, height, 512, 8, 16384, 8, "and this height"),
        WEFT_OPTIONAL_INT_IN(struct noise, batch_size, 1, 1, 4096, 1, "how many pictures"),
        WEFT_OPTIONAL_INT_IN(struct noise, channels, 4, 1, 64, 1, "channels of the latents"), { 0 } },
    .outputs = (const weft_port[]){
        WEFT_TENSOR_OUT(struct noise, noise, "(N, height, width, channels)"),
        WEFT_OUT(struct noise, state, WEFT_PORT_OBJECT, "state", "SAMPLER_STATE",
                 "the generator behind these numbers: a first SchedulerStep goes on from it, as diffusers does"),
        { 0 } },
    .run = noise_run,
};

/* ---- timesteps of the training --------------------------------------------------------------------------------- */

double *weft_training_timesteps(weft_ctx *c, const weft_scheduler *s, weft_tensor *timesteps, int64_t images,
                                int64_t *count) {
    int64_t n = *count = weft_count(timesteps);
    if (n != 1 && n != images) {
        weft_fail(c, WEFT_E_SHAPE, "timesteps: %lld of them for %lld images", (long long)n, (long long)images);
        return NULL;
    }
    double *t = malloc(sizeof *t * (size_t)n + 1);
    if (!t) weft_fail(c, WEFT_E_MEMORY, "out of memory for %lld timesteps", (long long)n);
    else if (weft_read(c, weft_contiguous(c, weft_cast(c, timesteps, WEFT_F64)), t, sizeof *t * (size_t)n) == WEFT_OK)
        for (int64_t i = 0; i < n; i++)
            if (!(t[i] >= 0 && t[i] < s->config.num_train_timesteps && t[i] == floor(t[i])))
                weft_fail(c, WEFT_E_ARGUMENT, "timesteps: %g is none of the training's, 0…%d", t[i],
                          s->config.num_train_timesteps - 1);
    if (weft_ok(c)) return t;
    free(t);
    return NULL;
}

/* The level of a timestep, as the scheduler's steps have it. */
static weft_noise_level training_level(const weft_scheduler *s, double timestep) {
    double bar = s->alphas_cumprod[(int)timestep], unit = s->kind->exploding ? sqrt(bar) : 1;
    return (weft_noise_level){ .timestep = timestep, .alpha = sqrt(bar) / unit, .sigma = sqrt(1 - bar) / unit };
}

typedef weft_mix pair_fn(const weft_scheduler *s, const weft_noise_level *l);

/* Two numbers for each of the timesteps, (N, 1, 1, …) of x's rank and type. False with the error set. */
static bool training_pairs(weft_ctx *c, const weft_scheduler *s, weft_tensor *timesteps, weft_tensor *x, pair_fn *pair,
                           weft_tensor **first, weft_tensor **second) {
    int64_t n, shape[WEFT_MAX_RANK];
    double *t = weft_training_timesteps(c, s, timesteps, weft_dim(x, 0), &n);
    double *a = t ? malloc(sizeof *a * 2 * (size_t)n) : NULL;
    if (t && !a) weft_fail(c, WEFT_E_MEMORY, "out of memory for %lld timesteps", (long long)n);
    for (int i = 0; i < weft_rank(x); i++) shape[i] = i ? 1 : n;
    for (int64_t i = 0; a && i < n; i++) {
        weft_noise_level l = training_level(s, t[i]);
        weft_mix m = pair(s, &l);
        a[i] = m.of_x;
        a[n + i] = m.of_out;
    }
    *first = *second = NULL;
    if (a) {
        *first = weft_cast(c, weft_tensor_from(c, WEFT_F64, weft_rank(x), shape, a), weft_type(x));
        *second = weft_cast(c, weft_tensor_from(c, WEFT_F64, weft_rank(x), shape, a + n), weft_type(x));
    }
    free(a);
    free(t);
    return weft_ok(c);
}

static weft_mix level_pair(const weft_scheduler *s, const weft_noise_level *l) {
    (void)s;
    return (weft_mix){ l->alpha, l->sigma };
}

static weft_mix denoised_pair(const weft_scheduler *s, const weft_noise_level *l) {
    return weft_denoised_mix(s->config.prediction_type, l);
}

bool weft_training_levels(weft_ctx *c, const weft_scheduler *s, weft_tensor *timesteps, weft_tensor *x,
                          weft_tensor **alpha, weft_tensor **sigma) {
    return training_pairs(c, s, timesteps, x, level_pair, alpha, sigma);
}

/* ---- RandomTimesteps ------------------------------------------------------------------------------------------- */

struct random_timesteps {
    weft_scheduler *scheduler;
    weft_tensor *like;
    weft_state_value *state;
    uint64_t seed;
    weft_tensor *timesteps;
    weft_state_value *out;
};

static void random_timesteps_run(weft_ctx *c, void *self) {
    struct random_timesteps *n = self;
    const int64_t images = weft_dim(n->like, 0);
    weft_sampler_state state = { .seed = n->seed };
    if (weft_rank(n->like) < 1) {
        weft_fail(c, WEFT_E_SHAPE, "like: expected a batch, found a single number");
        return;
    }
    if (n->state && !weft_sampler_state_copy(c, &n->state->state, &state)) return;
    if (!state.rng) state.rng = weft_rng_new(c, WEFT_RNG_CPU, n->seed);
    if (weft_ok(c))
        n->timesteps = weft_randint(c, state.rng, 0, n->scheduler->config.num_train_timesteps, WEFT_SHAPE(images));
    n->out = weft_state_value_new(c, &state);
}

const weft_node weft_node_RandomTimesteps = {
    .name = "RandomTimesteps", .category = "stages/training", .size = sizeof(struct random_timesteps),
    .summary = "A timestep of the training for each image, all equally likely: the numbers of PyTorch's generator.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct random_timesteps, scheduler, "SCHEDULER", "whose training"),
        WEFT_TENSOR_IN(struct random_timesteps, like, "(N, …): how many images"),
        WEFT_OPTIONAL_OBJECT_IN(struct random_timesteps, state, "SAMPLER_STATE",
                                "the generator behind the noise, to go on with"),
        WEFT_OPTIONAL_SEED_IN(struct random_timesteps, seed, "what they are drawn from where no state comes in"),
        { 0 } },
    .outputs = (const weft_port[]){
        WEFT_TENSOR_OUT(struct random_timesteps, timesteps, "(N) whole numbers"),
        WEFT_OUT(struct random_timesteps, out, WEFT_PORT_OBJECT, "state", "SAMPLER_STATE", "the generator behind them"),
        { 0 } },
    .run = random_timesteps_run,
};

/* ---- AddNoise -------------------------------------------------------------------------------------------------- */

struct add_noise {
    weft_scheduler *scheduler;
    weft_tensor *noise, *samples;
    int64_t step;
    weft_tensor *timesteps;
    weft_tensor *sample;
};

static void add_noise_run(weft_ctx *c, void *self) {
    struct add_noise *n = self;
    weft_tensor *alpha, *sigma;
    if (!n->timesteps) {
        if (weft_want_step(c, n->scheduler, n->step, true))
            n->sample = weft_scheduler_add_noise(c, n->scheduler, (int)n->step, n->samples, n->noise);
    } else if (!n->samples) {
        weft_fail(c, WEFT_E_ARGUMENT, "timesteps are given, but no samples");
    } else if (weft_training_levels(c, n->scheduler, n->timesteps, n->samples, &alpha, &sigma)) {
        n->sample = weft_add(c, weft_mul(c, n->samples, alpha), weft_mul(c, n->noise, sigma));
    }
}

const weft_node weft_node_AddNoise = {
    .name = "AddNoise", .category = "stages/sampling", .size = sizeof(struct add_noise),
    .summary = "Samples with as much noise as they have at a step, or at timesteps of the training.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct add_noise, scheduler, "SCHEDULER", "the scheduler"),
        WEFT_TENSOR_IN(struct add_noise, noise, "the noise"),
        WEFT_OPTIONAL_TENSOR_IN(struct add_noise, samples, "TENSOR",
                                "clean samples; none: pure noise at its first scale"),
        WEFT_OPTIONAL_INT_IN(struct add_noise, step, 0, 0, 100000, 1, "the evaluation that comes next"),
        WEFT_OPTIONAL_TENSOR_IN(struct add_noise, timesteps, "TENSOR",
                                "instead of a step: a timestep of the training each"),
        { 0 } },
    .outputs = (const weft_port[]){ WEFT_TENSOR_OUT(struct add_noise, sample, "the noisy samples"), { 0 } },
    .run = add_noise_run,
};

/* ---- Denoised -------------------------------------------------------------------------------------------------- */

struct denoised { weft_scheduler *scheduler; weft_tensor *prediction, *sample, *timesteps, *denoised; };

static void denoised_run(weft_ctx *c, void *self) {
    struct denoised *n = self;
    weft_tensor *of_sample, *of_prediction;
    if (!training_pairs(c, n->scheduler, n->timesteps, n->sample, denoised_pair, &of_sample, &of_prediction)) return;
    weft_tensor *x = weft_add(c, weft_mul(c, n->sample, of_sample), weft_mul(c, n->prediction, of_prediction));
    n->denoised = weft_detach(c, x);
}

const weft_node weft_node_Denoised = {
    .name = "Denoised", .category = "stages/training", .size = sizeof(struct denoised),
    .summary = "What a prediction takes noisy samples for, at timesteps of the training; not clipped, and no gradient "
               "passes: for self-conditioning.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct denoised, scheduler, "SCHEDULER", "says what is predicted"),
        WEFT_TENSOR_IN(struct denoised, prediction, "what the model gave"),
        WEFT_TENSOR_IN(struct denoised, sample, "the noisy samples"),
        WEFT_TENSOR_IN(struct denoised, timesteps, "a timestep of the training each, or one for all"), { 0 } },
    .outputs = (const weft_port[]){
        WEFT_TENSOR_OUT(struct denoised, denoised, "the samples without noise, by the model"), { 0 } },
    .run = denoised_run,
};
