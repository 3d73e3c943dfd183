/* KSampler, KSamplerAdvanced: noise to latents. ComfyUI's inputs, defaults and numbers:
 *
 *   latents are scaled to the model's units here (all-zero ones stay); the first noise comes from torch's CPU generator
 *   at `seed`, a method's own noise from a fresh one at seed + 1; σ' = 0 at the end unless noise is to be left over
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/sampling/guide.h"
#include "nodes/sampling/scheduler.h"

/* ---- what both do --------------------------------------------------------------------------------------- */

struct request {
    weft_model *model;
    uint64_t seed;
    int64_t steps;
    double cfg, denoise;
    int method, schedule;
    weft_conditioning *positive, *negative;
    weft_latent *latent;
    bool add_noise, leave_noise;
    int64_t start, end;         /* steps of the schedule */
};

/* Runs the scheduler; x at its end in the innermost scope. */
static weft_tensor *sample(weft_ctx *c, const weft_scheduler *k, const weft_guide *g, weft_tensor *x, uint64_t seed) {
    weft_sampler_state state;
    if (!weft_sampler_state_begin(c, k, seed, &state)) return NULL;
    weft_ref(x);
    if (weft_ok(c)) weft_progress(c, "sample", 0, k->steps);
    for (int i = 0; weft_ok(c) && i < k->count; i++) {
        weft_scope s = weft_scope_named(c, "sample");
        weft_tensor *denoised = weft_guide_denoise(c, g, x, k->levels[i].sigma);
        weft_tensor *next = weft_scheduler_step(c, k, i, x, denoised, WEFT_PREDICTION_SAMPLE, &state, NULL);
        next = weft_ok(c) ? weft_ref(next) : NULL;
        weft_scope_end(c, s, NULL);
        weft_unref(x);
        x = next;
        bool whole = i + 1 == k->count || k->plan.evaluations[i + 1].stage == 0;
        if (whole && weft_ok(c)) weft_progress(c, "sample", k->plan.evaluations[i].step + 1, k->steps);
    }
    weft_tensor *out = weft_ok(c) ? weft_affine(c, x, 1 / g->model->latent_scale, 0) : NULL;
    weft_unref(x);
    weft_sampler_state_end(&state);
    return out;
}

/* Noise like the latents from a fresh generator. */
static weft_tensor *noise_of(weft_ctx *c, weft_tensor *latent, uint64_t seed, const int64_t *batch_index) {
    weft_rng *rng = weft_rng_new(c, WEFT_RNG_CPU, seed);
    weft_tensor *noise = rng ? weft_sampling_noise(c, latent, rng, batch_index) : NULL;
    weft_rng_free(rng);
    return noise;
}

static bool all_zero(weft_ctx *c, weft_tensor *t) {
    return weft_item(c, weft_reduce_all(c, WEFT_REDUCE_MAX, t)) == 0 &&
           weft_item(c, weft_reduce_all(c, WEFT_REDUCE_MIN, t)) == 0;
}

static bool check_latent(weft_ctx *c, const struct request *r) {
    weft_tensor *t = r->latent->samples;
    char shape[96];
    if (weft_rank(t) == 4 && weft_count(t) && weft_dim(t, 3) == r->model->config.out_channels) return true;
    weft_fail(c, WEFT_E_SHAPE, "latent_image: the model takes latents (N, h, w, %d), not %s",
              r->model->config.out_channels, weft_describe(t, shape, sizeof shape));
    return false;
}

/* The levels to sample over; *count 0 or 1: none, the latent stays. malloc'd; NULL with the error set. */
static double *levels(weft_ctx *c, const struct request *r, int *count) {
    weft_sigma_table table;
    if (!weft_model_sigmas(c, r->model, &table)) return NULL;
    double *sigmas = weft_sampling_levels(c, &table, weft_methods[r->method], r->schedule, (int)r->steps, r->denoise,
                                          count);
    weft_sigma_table_free(&table);
    if (!sigmas) {
        weft_fail(c, WEFT_E_MEMORY, "out of memory for %lld steps", (long long)r->steps);
        return NULL;
    }
    if (r->end < *count - 1) {
        *count = (int)r->end + 1;
        if (!r->leave_noise) sigmas[*count - 1] = 0;
    }
    int skip = r->start < *count - 1 ? (int)r->start : *count;
    *count -= skip;
    memmove(sigmas, sigmas + skip, (size_t)*count * sizeof *sigmas);
    return sigmas;
}

static weft_tensor *sample_over(weft_ctx *c, const struct request *r, const weft_scheduler *k) {
    weft_tensor *latent = weft_contiguous(c, weft_cast(c, r->latent->samples, WEFT_F32));
    weft_tensor *noise = r->add_noise ? noise_of(c, latent, r->seed, r->latent->batch_index)
                                      : weft_affine(c, latent, 0, 0);
    if (!all_zero(c, latent)) latent = weft_affine(c, latent, r->model->latent_scale, 0);
    weft_tensor *outside = noise;
    if (k->plan.method->other_mask_noise && r->latent->noise_mask) outside = noise_of(c, latent, r->seed + 1, NULL);
    weft_guide guide;
    if (!weft_guide_make(c, r->model, r->positive, r->negative, r->cfg, latent, outside, r->latent->noise_mask,
                         &guide))
        return NULL;
    weft_tensor *out = sample(c, k, &guide, weft_scheduler_add_noise(c, k, 0, latent, noise), r->seed);
    weft_guide_free(&guide);
    return out;
}

static weft_latent *run(weft_ctx *c, const struct request *r) {
    int count;
    if (!check_latent(c, r)) return NULL;
    double *sigmas = levels(c, r, &count);
    if (!sigmas) return NULL;
    weft_scheduler *k = weft_scheduler_of_method(c, r->model, weft_methods[r->method], sigmas, count);
    if (!k) return NULL;
    weft_latent fields = *r->latent;
    if (k->count) fields.samples = sample_over(c, r, k);
    weft_object_unref(&k->object);
    return weft_ok(c) ? weft_latent_new(c, &fields) : NULL;
}

/* ---- KSampler ------------------------------------------------------------------------------------------- */

struct ksampler {
    weft_model *model;
    uint64_t seed;
    int64_t steps;
    double cfg;
    int sampler_name, scheduler;
    weft_conditioning *positive, *negative;
    weft_latent *latent_image;
    double denoise;
    weft_latent *latent;
};

static void ksampler_run(weft_ctx *c, void *self) {
    struct ksampler *n = self;
    n->latent = run(c, &(struct request){
        .model = n->model, .seed = n->seed, .steps = n->steps, .cfg = n->cfg, .denoise = n->denoise,
        .method = n->sampler_name, .schedule = n->scheduler, .positive = n->positive, .negative = n->negative,
        .latent = n->latent_image, .add_noise = true, .end = INT64_MAX });
}

const weft_node weft_node_KSampler = {
    .name = "KSampler", .category = "sampling", .size = sizeof(struct ksampler),
    .summary = "Draws a latent from noise: the model, guided by texts, takes the noise away step by step.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct ksampler, model, "MODEL", "the model"),
        WEFT_SEED_IN(struct ksampler, seed, "what the noise is drawn from"),
        WEFT_INT_IN(struct ksampler, steps, 20, 1, 10000, 1, "how many steps"),
        WEFT_FLOAT_IN(struct ksampler, cfg, 8, 0, 100, 0.1, "how far the texts pull; 1: the positive one alone"),
        WEFT_CHOICE_IN(struct ksampler, sampler_name, weft_method_names, NULL, "the method of each step"),
        WEFT_CHOICE_IN(struct ksampler, scheduler, weft_schedule_names, NULL, "how the noise levels are spaced"),
        WEFT_OBJECT_IN(struct ksampler, positive, "CONDITIONING", "what the picture shows"),
        WEFT_OBJECT_IN(struct ksampler, negative, "CONDITIONING", "what it does not"),
        WEFT_OBJECT_IN(struct ksampler, latent_image, "LATENT", "where it starts"),
        { "denoise", "FLOAT", WEFT_PORT_FLOAT, WEFT_PORT_LATE, offsetof(struct ksampler, denoise), 1, 0, 1, 0.01, NULL,
          NULL, NULL, "how much is drawn anew; 1: all" }, { 0 } },
    .outputs = (const weft_port[]){
        WEFT_OUT(struct ksampler, latent, WEFT_PORT_OBJECT, "LATENT", "LATENT", "the latent"), { 0 } },
    .run = ksampler_run,
};

/* ---- KSamplerAdvanced ----------------------------------------------------------------------------------- */

struct ksampler_advanced {
    weft_model *model;
    int add_noise;
    uint64_t noise_seed;
    int64_t steps;
    double cfg;
    int sampler_name, scheduler;
    weft_conditioning *positive, *negative;
    weft_latent *latent_image;
    int64_t start_at_step, end_at_step;
    int return_with_leftover_noise;
    weft_latent *latent;
};

static const char *const enable_disable[] = { "enable", "disable", NULL };
static const char *const disable_enable[] = { "disable", "enable", NULL };

static void ksampler_advanced_run(weft_ctx *c, void *self) {
    struct ksampler_advanced *n = self;
    n->latent = run(c, &(struct request){
        .model = n->model, .seed = n->noise_seed, .steps = n->steps, .cfg = n->cfg, .denoise = 1,
        .method = n->sampler_name, .schedule = n->scheduler, .positive = n->positive, .negative = n->negative,
        .latent = n->latent_image, .add_noise = n->add_noise == 0, .leave_noise = n->return_with_leftover_noise == 1,
        .start = n->start_at_step, .end = n->end_at_step });
}

const weft_node weft_node_KSamplerAdvanced = {
    .name = "KSamplerAdvanced", .title = "KSampler (Advanced)", .category = "sampling",
    .summary = "KSampler over a part of its steps, with or without noise at the start and the end.",
    .size = sizeof(struct ksampler_advanced),
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct ksampler_advanced, model, "MODEL", "the model"),
        WEFT_CHOICE_IN(struct ksampler_advanced, add_noise, enable_disable, NULL, "disable: the latent has its noise"),
        WEFT_SEED_IN(struct ksampler_advanced, noise_seed, "what the noise is drawn from"),
        WEFT_INT_IN(struct ksampler_advanced, steps, 20, 1, 10000, 1, "how many steps the whole schedule has"),
        WEFT_FLOAT_IN(struct ksampler_advanced, cfg, 8, 0, 100, 0.1,
                      "how far the texts pull; 1: the positive one alone"),
        WEFT_CHOICE_IN(struct ksampler_advanced, sampler_name, weft_method_names, NULL, "the method of each step"),
        WEFT_CHOICE_IN(struct ksampler_advanced, scheduler, weft_schedule_names, NULL,
                       "how the noise levels are spaced"),
        WEFT_OBJECT_IN(struct ksampler_advanced, positive, "CONDITIONING", "what the picture shows"),
        WEFT_OBJECT_IN(struct ksampler_advanced, negative, "CONDITIONING", "what it does not"),
        WEFT_OBJECT_IN(struct ksampler_advanced, latent_image, "LATENT", "where it starts"),
        WEFT_INT_IN(struct ksampler_advanced, start_at_step, 0, 0, 10000, 1, "the first step that is run"),
        WEFT_INT_IN(struct ksampler_advanced, end_at_step, 10000, 0, 10000, 1, "the step before which it ends"),
        WEFT_CHOICE_IN(struct ksampler_advanced, return_with_leftover_noise, disable_enable, NULL,
                       "enable: an early end keeps its noise"),
        { 0 } },
    .outputs = (const weft_port[]){
        WEFT_OUT(struct ksampler_advanced, latent, WEFT_PORT_OBJECT, "LATENT", "LATENT", "the latent"), { 0 } },
    .run = ksampler_advanced_run,
};
