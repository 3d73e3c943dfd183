/* Schedulers as values: making, stepping, their objects. See scheduler.h. */
#include "nodes/sampling/scheduler.h"
#include "nodes/sampling/kinds/list.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define K(name) extern const weft_scheduler_kind weft_kind_##name;
WEFT_KINDS(K)
#undef K

const weft_scheduler_kind *const weft_scheduler_kinds[] = {
#define K(name) &weft_kind_##name,
    WEFT_KINDS(K)
#undef K
    NULL };

/* ---- the object ---------------------------------------------------------------------------------------------- */

static void scheduler_free(weft_object *o) {
    weft_scheduler *s = (weft_scheduler *)o;
    weft_scheduler_config_free(&s->config);
    weft_sampling_plan_free(&s->plan);
    free(s->sigmas);
    free(s->levels);
    free(s->alphas_cumprod);
    free(s);
}

static const char *scheduler_describe(const weft_object *o, char *buffer, size_t size) {
    const weft_scheduler *s = (const weft_scheduler *)o;
    snprintf(buffer, size, "%s, %d steps, %d evaluations, predicts %s",
             s->kind->name ? s->kind->name : s->plan.method->name, s->steps, s->count,
             weft_prediction_name(s->config.prediction_type));
    return buffer;
}

const weft_class weft_class_scheduler = { .type = "SCHEDULER", .free = scheduler_free, .describe = scheduler_describe };

bool weft_scheduler_room(weft_ctx *c, weft_scheduler *s, int count) {
    s->count = count;
    s->levels = calloc((size_t)count + 1, sizeof *s->levels);
    if (!s->levels) weft_fail(c, WEFT_E_MEMORY, "scheduler: out of memory for %d steps", count);
    return s->levels != NULL;
}

/* With settings and room for ᾱ; NULL with the error set. */
static weft_scheduler *start(weft_ctx *c, const weft_scheduler_kind *kind, const weft_scheduler_config *config) {
    if (!weft_ok(c)) return NULL;
    int n = config->num_train_timesteps;
    weft_scheduler *s = calloc(1, sizeof *s);
    double *alphas = calloc(n > 0 ? (size_t)n : 1, sizeof *alphas);
    if (s && alphas && weft_scheduler_config_copy(c, config, &s->config) == WEFT_OK) {
        s->object = (weft_object){ &weft_class_scheduler, 1 };
        s->kind = kind;
        s->alphas_cumprod = alphas;
        return s;
    }
    free(s);
    free(alphas);
    weft_fail(c, WEFT_E_MEMORY, "scheduler: out of memory");
    return NULL;
}

weft_scheduler *weft_scheduler_new(weft_ctx *c, const weft_scheduler_kind *kind, const weft_scheduler_config *config,
                                   double eta, int steps) {
    weft_scheduler *s = start(c, kind, config);
    if (!s) return NULL;
    s->eta = eta;
    s->steps = steps;
    if (config->unsupported[0])
        weft_fail(c, WEFT_E_ARGUMENT, "scheduler %s: %s is not supported", kind->name, config->unsupported);
    else if (steps < 1 || steps > config->num_train_timesteps)
        weft_fail(c, WEFT_E_ARGUMENT, "scheduler %s: %d steps where the model was trained in %d", kind->name, steps,
                  config->num_train_timesteps);
    if (weft_ok(c)) {
        weft_alphas_cumprod(config, config->rescale_betas_zero_snr, !kind->exact, s->alphas_cumprod);
        if (kind->prepare(c, s)) return s;
    }
    scheduler_free(&s->object);
    return NULL;
}

/* ---- levels and predictions ------------------------------------------------------------------------------------ */

weft_mix weft_denoised_mix(weft_prediction type, const weft_noise_level *l) {
    double square = l->alpha * l->alpha + l->sigma * l->sigma;
    if (type == WEFT_PREDICTION_SAMPLE) return (weft_mix){ 0, 1 };
    if (type == WEFT_PREDICTION_V) return (weft_mix){ l->alpha / square, -l->sigma / sqrt(square) };
    return (weft_mix){ 1 / l->alpha, -l->sigma / l->alpha };
}

weft_tensor *weft_to_denoised(weft_ctx *c, weft_prediction type, const weft_noise_level *l, weft_tensor *x,
                              weft_tensor *out) {
    if (type == WEFT_PREDICTION_SAMPLE) return out;
    weft_mix m = weft_denoised_mix(type, l);
    return weft_axpby(c, m.of_x, x, m.of_out, out);
}

weft_tensor *weft_to_epsilon(weft_ctx *c, weft_prediction type, const weft_noise_level *l, weft_tensor *x,
                             weft_tensor *out) {
    double square = l->alpha * l->alpha + l->sigma * l->sigma;
    if (type == WEFT_PREDICTION_EPSILON) return out;
    if (type == WEFT_PREDICTION_V) return weft_axpby(c, l->sigma / square, x, l->alpha / sqrt(square), out);
    return weft_axpby(c, 1 / l->sigma, x, -l->alpha / l->sigma, out);
}

weft_tensor *weft_cfg_mix(weft_ctx *c, weft_tensor *cond, weft_tensor *uncond, double scale) {
    return weft_axpby(c, 1 - scale, uncond, scale, cond);
}

weft_tensor *weft_scheduler_add_noise(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x0,
                                      weft_tensor *noise) {
    if (!x0) return weft_affine(c, noise, s->init_noise_sigma, 0);
    return weft_axpby(c, s->levels[i].alpha, x0, s->levels[i].noise, noise);
}

weft_tensor *weft_scheduler_step(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                                 weft_prediction type, weft_sampler_state *state, weft_tensor **denoised) {
    weft_tensor *none = NULL;
    const void *who = s->plan.method ? (const void *)s->plan.method : (const void *)s->kind;
    if (state->of != who) {     /* another scheduler's history means nothing here; its generator goes on */
        weft_sampler_state_clear(state);
        state->of = who;
    } else if (state->next != i) {
        weft_fail(c, WEFT_E_ARGUMENT, "a state for step %d, but this is step %d", state->next, i);
    }
    state->next = i + 1;
    if (!denoised) denoised = &none;
    *denoised = NULL;
    if (!weft_ok(c)) return NULL;
    return s->kind->step(c, s, i, x, out, type, state, denoised);
}

/* ---- KSampler's methods ---------------------------------------------------------------------------------------- */

static weft_tensor *method_step(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                                weft_prediction type, weft_sampler_state *state, weft_tensor **denoised) {
    if (s->plan.evaluations[i].stage == 1 && !state->start) {
        weft_fail(c, WEFT_E_ARGUMENT, "step %d of %s is the second half of one: it wants the state of step %d", i,
                  s->plan.method->name, i - 1);
        return NULL;
    }
    *denoised = weft_to_denoised(c, type, &s->levels[i], x, out);
    return weft_ok(c) ? s->plan.method->step(c, &s->plan, i, x, *denoised, state) : NULL;
}

static const weft_scheduler_kind method_kind = { .exploding = true, .step = method_step };

static weft_noise_level method_level(const weft_sigma_table *t, double sigma, double noise) {
    return (weft_noise_level){ .timestep = sigma > 0 ? weft_timestep_of(t, sigma) : 0, .alpha = 1, .sigma = sigma,
                               .input = 1 / sqrt(sigma * sigma + 1), .noise = noise };
}

weft_scheduler *weft_scheduler_of_method(weft_ctx *c, const weft_model *m, const weft_method *method, double *sigmas,
                                         int count) {
    weft_sigma_table table = { 0 };
    weft_scheduler *s = start(c, &method_kind, &m->scheduler);
    if (!s) {
        free(sigmas);
        return NULL;
    }
    s->sigmas = sigmas;
    s->steps = count > 0 ? count - 1 : 0;
    s->config.prediction_type = m->prediction;
    if (weft_sigma_table_make(c, &m->scheduler, m->zero_snr, &table) &&
        weft_sampling_plan_make(c, method, sigmas, count, &s->plan) && weft_scheduler_room(c, s, s->plan.count)) {
        memcpy(s->alphas_cumprod, table.alphas_cumprod, sizeof(double) * (size_t)table.count);
        for (int i = 0; i < s->count; i++) {
            double sigma = weft_level(&s->plan, i);
            s->levels[i] = method_level(&table, sigma, weft_first_noise(&table, sigma));
        }
        double end = count > 0 ? sigmas[count - 1] : 0;
        s->levels[s->count] = method_level(&table, end, end);
        s->init_noise_sigma = s->levels[0].noise;
    }
    weft_sigma_table_free(&table);
    if (weft_ok(c)) return s;
    scheduler_free(&s->object);
    return NULL;
}

/* ---- states --------------------------------------------------------------------------------------------------- */

bool weft_sampler_state_begin(weft_ctx *c, const weft_scheduler *s, uint64_t seed, weft_sampler_state *state) {
    *state = (weft_sampler_state){ .seed = seed,
                                   .rng = weft_rng_new(c, WEFT_RNG_CPU, s->kind == &method_kind ? seed + 1 : seed) };
    return state->rng != NULL;
}

/* A generator that goes on as this one would. */
static weft_rng *rng_copy(weft_ctx *c, const weft_rng *from) {
    size_t size = 0;
    weft_rng_save(from, NULL, &size);
    void *bytes = malloc(size + 1);
    weft_rng *rng = bytes ? weft_rng_new(c, WEFT_RNG_CPU, 0) : NULL;
    if (rng && !(weft_rng_save(from, bytes, &size) && weft_rng_load(rng, bytes, size))) {
        weft_rng_free(rng);
        rng = NULL;
    }
    free(bytes);
    if (!rng) weft_fail(c, WEFT_E_MEMORY, "sampler state: out of memory");
    return rng;
}

bool weft_sampler_state_copy(weft_ctx *c, const weft_sampler_state *from, weft_sampler_state *to) {
    *to = *from;
    if (from->rng && !(to->rng = rng_copy(c, from->rng))) {
        *to = (weft_sampler_state){ 0 };
        return false;
    }
    weft_ref(to->start);
    weft_ref(to->slope);
    for (int i = 0; i < WEFT_HISTORY; i++) weft_ref(to->history[i]);
    return true;
}

void weft_sampler_state_end(weft_sampler_state *state) {
    weft_sampler_state_clear(state);
    weft_rng_free(state->rng);
    state->rng = NULL;
}

static void state_free(weft_object *o) {
    weft_sampler_state_end(&((weft_state_value *)o)->state);
    free(o);
}

const weft_class weft_class_sampler_state = { .type = "SAMPLER_STATE", .free = state_free };

weft_state_value *weft_state_value_new(weft_ctx *c, weft_sampler_state *state) {
    weft_state_value *v = weft_ok(c) ? malloc(sizeof *v) : NULL;
    if (!v) {
        weft_sampler_state_end(state);
        weft_fail(c, WEFT_E_MEMORY, "sampler state: out of memory");
        return NULL;
    }
    *v = (weft_state_value){ .object = { &weft_class_sampler_state, 1 }, .state = *state };
    return v;
}
