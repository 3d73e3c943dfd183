/* Scheduler, KScheduler: how noise is taken away, as a value that other nodes step along. ScaleModelInput,
 * SchedulerStep, SchedulerHandOver. See nodes/sampling/scheduler.h.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "nodes/sampling/guide.h"
#include "nodes/sampling/kinds/list.h"
#include "nodes/stage/stage.h"

bool weft_want_step(weft_ctx *c, const weft_scheduler *s, int64_t step, bool end) {
    if (step >= 0 && step < s->count + end) return true;
    weft_fail(c, WEFT_E_ARGUMENT, "step %lld: the scheduler has %d evaluations, 0…%d", (long long)step, s->count,
              s->count - 1);
    return false;
}

/* ---- what both schedulers give --------------------------------------------------------------------------------- */

struct tables {
    weft_scheduler *scheduler;
    weft_tensor *timesteps, *sigmas, *alphas_cumprod;
    double init_noise_sigma;
    int64_t count;
};

#define TABLES_OUT(S) \
    WEFT_OUT(S, tables.scheduler, WEFT_PORT_OBJECT, "scheduler", "SCHEDULER", "the scheduler"), \
    WEFT_OUT(S, tables.timesteps, WEFT_PORT_TENSOR, "timesteps", "TENSOR", "what the model is told at each step"), \
    WEFT_OUT(S, tables.sigmas, WEFT_PORT_TENSOR, "sigmas", "TENSOR", "noise for each unit of picture"), \
    WEFT_OUT(S, tables.alphas_cumprod, WEFT_PORT_TENSOR, "alphas_cumprod", "TENSOR", "the training's table"), \
    WEFT_OUT(S, tables.init_noise_sigma, WEFT_PORT_FLOAT, "init_noise_sigma", "FLOAT", "the scale of pure noise"), \
    WEFT_OUT(S, tables.count, WEFT_PORT_INT, "count", "INT", "how often the model is asked"), { 0 }

static void show(weft_ctx *c, weft_scheduler *s, struct tables *t) {
    int train = s->config.num_train_timesteps;
    t->scheduler = s;
    t->init_noise_sigma = s->init_noise_sigma;
    t->count = s->count;
    float *v = malloc(sizeof *v * ((size_t)s->count + (size_t)train + 1));
    if (!v) {
        weft_fail(c, WEFT_E_MEMORY, "out of memory for tables of %d steps", s->count);
        return;
    }
    for (int i = 0; i < s->count; i++) v[i] = (float)s->levels[i].timestep;
    t->timesteps = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(s->count), v);
    for (int i = 0; i <= s->count; i++) v[i] = (float)weft_level_ratio(&s->levels[i]);
    t->sigmas = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(s->count + 1), v);
    for (int i = 0; i < train; i++) v[i] = (float)s->alphas_cumprod[i];
    t->alphas_cumprod = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(train), v);
    free(v);
}

/* ---- Scheduler ------------------------------------------------------------------------------------------------- */

struct scheduler {
    weft_model *model;
    int scheduler;
    int64_t steps;
    int timestep_spacing, prediction_type, beta_schedule;
    double beta_start, beta_end;
    int64_t num_train_timesteps;
    int sigmas;
    double eta;
    const char *config;
    struct tables tables;
};

#define K(name) #name,
static const char *const scheduler_choices[] = { "model", WEFT_KINDS(K) NULL };
#undef K
static const char *const spacings[] = { "model", "leading", "linspace", "trailing", NULL };
static const char *const predictions[] = { "model", "epsilon", "v_prediction", "sample", NULL };
static const char *const beta_schedules[] = { "model", "linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid",
                                              "laplace", "exp", "sigmoid_cap", NULL };
static const char *const sigma_choices[] = { "model", "plain", "karras", NULL };

/* The kind that the choice, or the model's settings, name. */
static const weft_scheduler_kind *kind_of(weft_ctx *c, const struct scheduler *n) {
    const char *class_name = n->model ? n->model->scheduler.class_name : "";
    if (n->scheduler) return weft_scheduler_kinds[n->scheduler - 1];
    for (int i = 0; weft_scheduler_kinds[i]; i++)
        if (!strcmp(weft_scheduler_kinds[i]->class_name, class_name)) return weft_scheduler_kinds[i];
    if (n->model)
        weft_fail(c, WEFT_E_ARGUMENT, "scheduler: the model names %.60s, which is not here; choose one", class_name);
    else weft_fail(c, WEFT_E_ARGUMENT, "scheduler: \"model\" wants a model; link one, or choose a scheduler");
    return NULL;
}

/* What the inputs change, as an object of diffusers' keys. malloc'd; NULL with the error set. */
static char *changes_of(weft_ctx *c, const struct scheduler *n) {
    cJSON *o = cJSON_CreateObject();
    bool ok = o != NULL;
    if (n->timestep_spacing) ok = ok && cJSON_AddStringToObject(o, "timestep_spacing", spacings[n->timestep_spacing]);
    if (n->prediction_type) ok = ok && cJSON_AddStringToObject(o, "prediction_type", predictions[n->prediction_type]);
    else if (n->model)
        ok = ok && cJSON_AddStringToObject(o, "prediction_type", weft_prediction_name(n->model->prediction));
    if (n->model) ok = ok && cJSON_AddBoolToObject(o, "rescale_betas_zero_snr", n->model->zero_snr);
    if (n->beta_schedule) ok = ok && cJSON_AddStringToObject(o, "beta_schedule", beta_schedules[n->beta_schedule]);
    if (n->beta_start > 0) ok = ok && cJSON_AddNumberToObject(o, "beta_start", n->beta_start);
    if (n->beta_end > 0) ok = ok && cJSON_AddNumberToObject(o, "beta_end", n->beta_end);
    if (n->num_train_timesteps)
        ok = ok && cJSON_AddNumberToObject(o, "num_train_timesteps", (double)n->num_train_timesteps);
    if (n->sigmas) ok = ok && cJSON_AddBoolToObject(o, "use_karras_sigmas", n->sigmas == 2);
    char *text = ok ? cJSON_PrintUnformatted(o) : NULL;
    cJSON_Delete(o);
    if (!text) weft_fail(c, WEFT_E_MEMORY, "scheduler: out of memory");
    return text;
}

static void scheduler_run(weft_ctx *c, void *self) {
    struct scheduler *n = self;
    const weft_scheduler_kind *kind = kind_of(c, n);
    char *changes = kind ? changes_of(c, n) : NULL;
    weft_scheduler_config all = { 0 };
    if (changes && weft_scheduler_config_as(c, n->model ? &n->model->scheduler : NULL, kind->class_name, changes,
                                            n->config, &all) == WEFT_OK) {
        weft_scheduler *s = weft_scheduler_new(c, kind, &all, n->eta, (int)n->steps);
        if (s) show(c, s, &n->tables);
        weft_scheduler_config_free(&all);
    }
    cJSON_free(changes);
}

const weft_node weft_node_Scheduler = {
    .name = "Scheduler", .category = "stages/sampling", .size = sizeof(struct scheduler),
    .summary = "A scheduler of diffusers' or denoising-diffusion-pytorch's: how many steps, at which timesteps, and how "
               "each is taken.",
    .inputs = (const weft_port[]){
        WEFT_OPTIONAL_OBJECT_IN(struct scheduler, model, "MODEL", "whose settings stand where nothing else is said"),
        WEFT_CHOICE_IN(struct scheduler, scheduler, scheduler_choices, NULL, "model: the one its checkpoint names"),
        WEFT_INT_IN(struct scheduler, steps, 20, 1, 10000, 1, "how many steps"),
        WEFT_OPTIONAL_CHOICE_IN(struct scheduler, timestep_spacing, spacings, NULL, "where the timesteps lie"),
        WEFT_OPTIONAL_CHOICE_IN(struct scheduler, prediction_type, predictions, NULL, "what the model gives"),
        WEFT_OPTIONAL_CHOICE_IN(struct scheduler, beta_schedule, beta_schedules, NULL, "the training's noise"),
        WEFT_OPTIONAL_FLOAT_IN(struct scheduler, beta_start, 0, 0, 1, 0.0001, "its first beta; 0: the model's"),
        WEFT_OPTIONAL_FLOAT_IN(struct scheduler, beta_end, 0, 0, 1, 0.0001, "its last beta; 0: the model's"),
        WEFT_OPTIONAL_INT_IN(struct scheduler, num_train_timesteps, 0, 0, 100000, 1, "its length; 0: the model's"),
        WEFT_OPTIONAL_CHOICE_IN(struct scheduler, sigmas, sigma_choices, NULL, "karras: Karras' noise levels"),
        WEFT_OPTIONAL_FLOAT_IN(struct scheduler, eta, 0, 0, 1, 0.01,
                               "ddim, gaussian_diffusion: how much noise each step adds"),
        WEFT_OPTIONAL_TEXT_IN(struct scheduler, config, "",
                              "more keys of a scheduler_config.json: {\"solver_order\": 3}"),
        { 0 } },
    .outputs = (const weft_port[]){ TABLES_OUT(struct scheduler) }, .run = scheduler_run,
};

/* ---- KScheduler ------------------------------------------------------------------------------------------------ */

struct k_scheduler {
    weft_model *model;
    int sampler_name, scheduler;
    int64_t steps;
    double denoise;
    struct tables tables;
};

static void k_scheduler_run(weft_ctx *c, void *self) {
    struct k_scheduler *n = self;
    const weft_method *method = weft_methods[n->sampler_name];
    weft_sigma_table table;
    int count;
    if (!weft_model_sigmas(c, n->model, &table)) return;
    double *sigmas = weft_sampling_levels(c, &table, method, n->scheduler, (int)n->steps, n->denoise, &count);
    weft_sigma_table_free(&table);
    if (!sigmas) {
        weft_fail(c, WEFT_E_MEMORY, "out of memory for %lld steps", (long long)n->steps);
        return;
    }
    weft_scheduler *s = weft_scheduler_of_method(c, n->model, method, sigmas, count);
    if (s) show(c, s, &n->tables);
}

const weft_node weft_node_KScheduler = {
    .name = "KScheduler", .category = "stages/sampling", .size = sizeof(struct k_scheduler),
    .summary = "A sampler of KSampler's over one of its schedules, for the nodes that step: KSampler's numbers.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct k_scheduler, model, "MODEL", "whose noise levels"),
        WEFT_CHOICE_IN(struct k_scheduler, sampler_name, weft_method_names, NULL, "the method of each step"),
        WEFT_CHOICE_IN(struct k_scheduler, scheduler, weft_schedule_names, NULL, "how the noise levels are spaced"),
        WEFT_INT_IN(struct k_scheduler, steps, 20, 1, 10000, 1, "how many steps"),
        WEFT_OPTIONAL_FLOAT_IN(struct k_scheduler, denoise, 1, 0, 1, 0.01, "less: the end of a longer schedule"),
        { 0 } },
    .outputs = (const weft_port[]){ TABLES_OUT(struct k_scheduler) }, .run = k_scheduler_run,
};

/* ---- ScaleModelInput ------------------------------------------------------------------------------------------- */

struct scale_input { weft_scheduler *scheduler; int64_t step; weft_tensor *sample, *scaled; double timestep, sigma; };

static void scale_input_run(weft_ctx *c, void *self) {
    struct scale_input *n = self;
    if (!weft_want_step(c, n->scheduler, n->step, false)) return;
    const weft_noise_level *l = &n->scheduler->levels[n->step];
    n->scaled = weft_affine(c, n->sample, l->input, 0);
    n->timestep = l->timestep;
    n->sigma = weft_level_ratio(l);
}

const weft_node weft_node_ScaleModelInput = {
    .name = "ScaleModelInput", .category = "stages/sampling", .size = sizeof(struct scale_input),
    .summary = "The sample as the model sees it at a step, and the timestep that goes with it.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct scale_input, scheduler, "SCHEDULER", "the scheduler"),
        WEFT_TENSOR_IN(struct scale_input, sample, "the sample"),
        WEFT_INT_IN(struct scale_input, step, 0, 0, 100000, 1, "which evaluation, from 0"), { 0 } },
    .outputs = (const weft_port[]){
        WEFT_OUT(struct scale_input, scaled, WEFT_PORT_TENSOR, "sample", "TENSOR", "what the model sees"),
        WEFT_OUT(struct scale_input, timestep, WEFT_PORT_FLOAT, "timestep", "FLOAT", "what it is told"),
        WEFT_OUT(struct scale_input, sigma, WEFT_PORT_FLOAT, "sigma", "FLOAT", "noise for each unit of picture"),
        { 0 } },
    .run = scale_input_run,
};

/* ---- SchedulerStep --------------------------------------------------------------------------------------------- */

struct scheduler_step {
    weft_scheduler *scheduler;
    int64_t step;
    weft_tensor *prediction, *sample;
    weft_state_value *state;
    uint64_t seed;
    weft_tensor *next, *denoised;
    weft_state_value *out;
};

static void scheduler_step_run(weft_ctx *c, void *self) {
    struct scheduler_step *n = self;
    const weft_scheduler *s = n->scheduler;
    weft_sampler_state state;
    if (!weft_want_step(c, s, n->step, false)) return;
    bool ready = n->state ? weft_sampler_state_copy(c, &n->state->state, &state)
                          : weft_sampler_state_begin(c, s, n->seed, &state);
    if (!ready) return;
    n->next = weft_scheduler_step(c, s, (int)n->step, n->sample, n->prediction, s->config.prediction_type, &state,
                                  &n->denoised);
    n->out = weft_state_value_new(c, &state);
}

const weft_node weft_node_SchedulerStep = {
    .name = "SchedulerStep", .category = "stages/sampling", .size = sizeof(struct scheduler_step),
    .summary = "One step: the sample with as much less noise as the scheduler says, by the model's prediction.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct scheduler_step, scheduler, "SCHEDULER", "the scheduler"),
        WEFT_INT_IN(struct scheduler_step, step, 0, 0, 100000, 1, "which evaluation, from 0"),
        WEFT_TENSOR_IN(struct scheduler_step, prediction, "what the model gave"),
        WEFT_TENSOR_IN(struct scheduler_step, sample, "the sample, not scaled for the model"),
        WEFT_OPTIONAL_OBJECT_IN(struct scheduler_step, state, "SAMPLER_STATE",
                                "from the step before; none at the first"),
        WEFT_OPTIONAL_SEED_IN(struct scheduler_step, seed, "what fresh noise is drawn from where no state comes in"),
        { 0 } },
    .outputs = (const weft_port[]){
        WEFT_OUT(struct scheduler_step, next, WEFT_PORT_TENSOR, "sample", "TENSOR", "the sample at the next level"),
        WEFT_OUT(struct scheduler_step, denoised, WEFT_PORT_TENSOR, "denoised", "TENSOR",
                 "what it took for the picture"),
        WEFT_OUT(struct scheduler_step, out, WEFT_PORT_OBJECT, "state", "SAMPLER_STATE", "for the next step"), { 0 } },
    .run = scheduler_step_run,
};

/* ---- SchedulerHandOver ----------------------------------------------------------------------------------------- */

struct hand_over {
    weft_scheduler *scheduler, *to;
    int64_t step;
    weft_tensor *sample, *out;
    int64_t to_step;
};

static void hand_over_run(weft_ctx *c, void *self) {
    struct hand_over *n = self;
    if (!weft_want_step(c, n->scheduler, n->step, true)) return;
    const weft_noise_level *from = &n->scheduler->levels[n->step], *levels = n->to->levels;
    double ratio = weft_level_ratio(from), least = INFINITY;
    for (int i = 0; i < n->to->count; i++) {
        double off = fabs(log(weft_level_ratio(&levels[i]) / ratio));
        if (!(off < least)) continue;
        least = off;
        n->to_step = i;
    }
    n->out = weft_affine(c, n->sample, levels[n->to_step].alpha / from->alpha, 0);
}

const weft_node weft_node_SchedulerHandOver = {
    .name = "SchedulerHandOver", .category = "stages/sampling", .size = sizeof(struct hand_over),
    .summary = "A sample of one scheduler in another's units, and the step there whose noise is nearest.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct hand_over, scheduler, "SCHEDULER", "the one that ends"),
        WEFT_INT_IN(struct hand_over, step, 0, 0, 100000, 1, "the evaluation it would come to next"),
        WEFT_TENSOR_IN(struct hand_over, sample, "its sample there"),
        WEFT_OBJECT_IN(struct hand_over, to, "SCHEDULER", "the one that goes on"), { 0 } },
    .outputs = (const weft_port[]){
        WEFT_OUT(struct hand_over, out, WEFT_PORT_TENSOR, "sample", "TENSOR", "the sample in the other's units"),
        WEFT_OUT(struct hand_over, to_step, WEFT_PORT_INT, "step", "INT", "where it goes on"), { 0 } },
    .run = hand_over_run,
};
