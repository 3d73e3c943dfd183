/* scheduler_config.json; see scheduler_config.h. */
#include "nodes/checkpoint/scheduler_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/checkpoint/gaussian_diffusion.h"
#include "nodes/config.h"
#include "runtime/file.h"
#include "runtime/nearest.h"

#define MAX_STEPS 100000        /* num_train_timesteps */

static const char *const prediction_names[WEFT_PREDICTION_COUNT] = { "epsilon", "v_prediction", "sample" };

const char *weft_prediction_name(weft_prediction p) {
    return (unsigned)p < WEFT_PREDICTION_COUNT ? prediction_names[p] : "?";
}

/* What the constructors have in common, and how some differ. */
static const weft_scheduler_config common = {
    .num_train_timesteps = 1000, .beta_start = 1e-4, .beta_end = 0.02, .beta_schedule = "linear",
    .timestep_spacing = "linspace",
    .clip_sample_range = 1, .dynamic_thresholding_ratio = 0.995, .sample_max_value = 1,
    .final_sigmas_type = "zero", .interpolation_type = "linear", .solver_order = 2, .solver_type = "midpoint",
    .algorithm_type = "dpmsolver++", .predict_x0 = true, .lower_order_final = true, .lambda_min_clipped = -INFINITY,
};

struct class_defaults {
    const char *name;
    double beta_start, beta_end;        /* 0, 0: the common ones */
    const char *beta_schedule;          /* NULL: the common one */
    bool leading, set_alpha_to_one, clip_sample;
    const char *variance_type;          /* NULL: none */
    const char *solver_type;            /* NULL: the common one */
    weft_prediction prediction;
};

/* A class that is not here has the common ones; DDPM's are what an unknown one gets. */
static const struct class_defaults classes[] = {
    { .name = "DDPMScheduler", .leading = true, .clip_sample = true, .variance_type = "fixed_small" },
    { .name = "DDIMScheduler", .leading = true, .clip_sample = true, .set_alpha_to_one = true },
    { .name = "PNDMScheduler", .leading = true },
    { .name = "LCMScheduler", .beta_start = 0.00085, .beta_end = 0.012, .beta_schedule = "scaled_linear",
      .leading = true, .set_alpha_to_one = true },
    { .name = "TCDScheduler", .beta_start = 0.00085, .beta_end = 0.012, .beta_schedule = "scaled_linear",
      .leading = true, .set_alpha_to_one = true },
    { .name = "HeunDiscreteScheduler", .beta_start = 0.00085, .beta_end = 0.012 },
    { .name = "KDPM2DiscreteScheduler", .beta_start = 0.00085, .beta_end = 0.012 },
    { .name = "KDPM2AncestralDiscreteScheduler", .beta_start = 0.00085, .beta_end = 0.012 },
    { .name = "DPMSolverSDEScheduler", .beta_start = 0.00085, .beta_end = 0.012 },
    { .name = "EulerDiscreteScheduler" },
    { .name = "EulerAncestralDiscreteScheduler" },
    { .name = "LMSDiscreteScheduler" },
    { .name = "DPMSolverMultistepScheduler" },
    { .name = "DPMSolverSinglestepScheduler" },
    { .name = "DEISMultistepScheduler" },
    { .name = "UniPCMultistepScheduler", .solver_type = "bh2" },
    { .name = "GaussianDiffusion", .beta_schedule = "sigmoid_cap", .set_alpha_to_one = true, .clip_sample = true,
      .prediction = WEFT_PREDICTION_V },
};

static void set_text(char *out, size_t size, const char *text) {
    snprintf(out, size, "%s", text);
}

static weft_scheduler_config defaults_of(const char *class_name) {
    const struct class_defaults *d = &classes[0];
    weft_scheduler_config config = common;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (!strcmp(classes[i].name, class_name)) d = &classes[i];
    set_text(config.class_name, sizeof config.class_name, class_name);
    if (d->beta_end > 0) {
        config.beta_start = d->beta_start;
        config.beta_end = d->beta_end;
    }
    if (d->beta_schedule) set_text(config.beta_schedule, sizeof config.beta_schedule, d->beta_schedule);
    if (d->leading) set_text(config.timestep_spacing, sizeof config.timestep_spacing, "leading");
    if (d->variance_type) set_text(config.variance_type, sizeof config.variance_type, d->variance_type);
    if (d->solver_type) set_text(config.solver_type, sizeof config.solver_type, d->solver_type);
    config.set_alpha_to_one = d->set_alpha_to_one;
    config.clip_sample = d->clip_sample;
    config.prediction_type = d->prediction;
    return config;
}

weft_scheduler_config weft_scheduler_config_sd(weft_prediction prediction) {
    weft_scheduler_config config = defaults_of(prediction == WEFT_PREDICTION_V ? "DDIMScheduler" : "PNDMScheduler");
    config.beta_start = 0.00085;
    config.beta_end = 0.012;
    set_text(config.beta_schedule, sizeof config.beta_schedule, "scaled_linear");
    config.prediction_type = prediction;
    config.steps_offset = 1;
    config.set_alpha_to_one = config.clip_sample = false;
    config.skip_prk_steps = true;
    return config;
}

/* A number above low (or from low on, where `from`) up to high. */
static void read_double(const weft_json *j, const char *key, double low, bool from, double high, double *field) {
    double value = weft_json_double(j, key, *field);
    if (weft_ok(j->ctx) && !((from ? value >= low : value > low) && value <= high))
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: expected a number %s %g and at most %g, found %g", j->file, key,
                  from ? "from" : "above", low, high, value);
    *field = value;
}

static void read_betas(const weft_json *j, weft_scheduler_config *config) {
    const cJSON *list = weft_json_field(j, "trained_betas"), *item;
    if (!list && config->trained_betas && weft_json_field(j, "num_train_timesteps"))
        weft_fail(j->ctx, WEFT_E_ARGUMENT, "%s: num_train_timesteps: the model brings a list of trained_betas",
                  j->file);
    if (!list) return;
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : -1;
    if (n != config->num_train_timesteps) {
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: trained_betas: expected a list of %d numbers", j->file,
                  config->num_train_timesteps);
        return;
    }
    free(config->trained_betas);
    double *beta = config->trained_betas = malloc((size_t)n * sizeof *beta);
    if (!beta) {
        weft_fail(j->ctx, WEFT_E_MEMORY, "%s: no memory for trained_betas", j->file);
        return;
    }
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 1)) {
            weft_fail(j->ctx, WEFT_E_FORMAT, "%s: trained_betas: expected numbers from 0 to 1", j->file);
            return;
        }
        *beta++ = item->valuedouble;
    }
}

static const weft_config_rule rules[] = {
    { "beta_schedule", "linear|scaled_linear|squaredcos_cap_v2|sigmoid|sigmoid_cap|laplace|exp" },
    { "prediction_type", "epsilon|v_prediction|sample" },
    { "timestep_spacing", "leading|linspace|trailing" },
    { "variance_type", "fixed_small|fixed_small_log|fixed_large|fixed_large_log|learned|learned_range" },
    { "final_sigmas_type", "zero|sigma_min" },
    { "interpolation_type", "linear|log_linear" },
    { "timestep_type", "discrete|continuous" },
    { "solver_type", "midpoint|heun|bh1|bh2|logrho" },
    { "algorithm_type", "dpmsolver|dpmsolver++|sde-dpmsolver|sde-dpmsolver++|deis" },
    { NULL, NULL },
};

static void read_text(const weft_json *j, const char *key, char *field, size_t size) {
    const char *text = weft_json_text_of(j, key, NULL);
    if (text) set_text(field, size, text);
}

/* Keys of diffusers' solvers. What a checkpoint asks for and no scheduler here does is noted, not refused: KSampler
 * needs the betas alone. */
static void read_solver(const weft_json *j, weft_scheduler_config *config) {
    static const char *const other[] = { "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas",
                                         "use_flow_sigmas", "use_dynamic_shifting" };
    config->use_karras_sigmas = weft_json_bool(j, "use_karras_sigmas", config->use_karras_sigmas);
    read_double(j, "sigma_min", 0, true, 1e9, &config->sigma_min);
    read_double(j, "sigma_max", 0, true, 1e9, &config->sigma_max);
    read_text(j, "final_sigmas_type", config->final_sigmas_type, sizeof config->final_sigmas_type);
    read_text(j, "interpolation_type", config->interpolation_type, sizeof config->interpolation_type);
    config->continuous = !strcmp(weft_json_text_of(j, "timestep_type", config->continuous ? "continuous" : "discrete"),
                                 "continuous");
    config->solver_order = (int)weft_json_int(j, "solver_order", 1, 3, config->solver_order);
    read_text(j, "solver_type", config->solver_type, sizeof config->solver_type);
    read_text(j, "algorithm_type", config->algorithm_type, sizeof config->algorithm_type);
    config->predict_x0 = weft_json_bool(j, "predict_x0", config->predict_x0);
    config->lower_order_final = weft_json_bool(j, "lower_order_final", config->lower_order_final);
    config->euler_at_final = weft_json_bool(j, "euler_at_final", config->euler_at_final);
    read_double(j, "lambda_min_clipped", -INFINITY, true, 1e9, &config->lambda_min_clipped);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (weft_json_bool(j, other[i], false)) set_text(config->unsupported, sizeof config->unsupported, other[i]);
    const cJSON *list = weft_json_field(j, "disable_corrector");
    if (cJSON_IsArray(list) && cJSON_GetArraySize(list))
        set_text(config->unsupported, sizeof config->unsupported, "disable_corrector");
}

static void read_fields(const weft_json *j, weft_scheduler_config *config) {
    if (weft_config_rules(j, rules)) return;
    config->num_train_timesteps = (int)weft_json_int(j, "num_train_timesteps", 1, MAX_STEPS,
                                                     config->num_train_timesteps);
    read_double(j, "beta_start", 0, false, 1, &config->beta_start);
    read_double(j, "beta_end", 0, false, 1, &config->beta_end);
    read_text(j, "beta_schedule", config->beta_schedule, sizeof config->beta_schedule);
    const char *prediction = weft_json_text_of(j, "prediction_type", prediction_names[config->prediction_type]);
    for (int i = 0; i < WEFT_PREDICTION_COUNT; i++)
        if (!strcmp(prediction_names[i], prediction)) config->prediction_type = (weft_prediction)i;
    read_text(j, "timestep_spacing", config->timestep_spacing, sizeof config->timestep_spacing);
    config->steps_offset = (int)weft_json_int(j, "steps_offset", 0, config->num_train_timesteps, config->steps_offset);
    config->set_alpha_to_one = weft_json_bool(j, "set_alpha_to_one", config->set_alpha_to_one);
    config->clip_sample = weft_json_bool(j, "clip_sample", config->clip_sample);
    read_double(j, "clip_sample_range", 0, false, 1e6, &config->clip_sample_range);
    config->thresholding = weft_json_bool(j, "thresholding", config->thresholding);
    read_double(j, "dynamic_thresholding_ratio", 0, true, 1, &config->dynamic_thresholding_ratio);
    read_double(j, "sample_max_value", 0, false, 1e6, &config->sample_max_value);
    config->rescale_betas_zero_snr = weft_json_bool(j, "rescale_betas_zero_snr", config->rescale_betas_zero_snr);
    config->skip_prk_steps = weft_json_bool(j, "skip_prk_steps", config->skip_prk_steps);
    read_solver(j, config);
    if (config->variance_type[0]) read_text(j, "variance_type", config->variance_type, sizeof config->variance_type);
    read_betas(j, config);
}

weft_status weft_scheduler_config_parse(weft_ctx *c, const char *name, const char *text, size_t size,
                                        weft_scheduler_config *config) {
    *config = defaults_of("");
    cJSON *tree = weft_json_parse(c, name, text, size, WEFT_JSON_NAN);
    if (!tree) return weft_error(c);
    weft_json j = { c, name, tree };
    if (!cJSON_IsObject(tree))
        weft_fail(c, WEFT_E_FORMAT, "%s: expected an object, found %s", name, weft_json_kind(tree));
    else {
        *config = defaults_of(weft_json_text_of(&j, "_class_name", ""));
        if (!strcmp(config->class_name, "GaussianDiffusion")) {
            weft_gaussian_diffusion_from(&j, config);
            goto out;           /* its text is in other words than diffusers' and is not kept */
        }
        read_fields(&j, config);
        config->json = malloc(size + 1);
        if (config->json) {
            memcpy(config->json, text, size);
            config->json[size] = 0;
        } else weft_fail(c, WEFT_E_MEMORY, "%s: no memory for its text", name);
    }
out:
    cJSON_Delete(tree);
    if (!weft_ok(c)) weft_scheduler_config_free(config);
    return weft_error(c);
}

weft_status weft_scheduler_config_read(weft_ctx *c, const char *path, weft_scheduler_config *config) {
    size_t size;
    *config = (weft_scheduler_config){ 0 };
    char *text = weft_file_read(c, path, WEFT_CONFIG_LIMIT, &size);
    if (!text) return weft_error(c);
    weft_status status = weft_scheduler_config_parse(c, path, text, size, config);
    weft_text_free(text);
    return status;
}

/* ---- copies and variants --------------------------------------------------------------------------------- */

weft_status weft_scheduler_config_copy(weft_ctx *c, const weft_scheduler_config *from, weft_scheduler_config *config) {
    *config = *from;
    config->json = NULL;
    config->trained_betas = NULL;
    if (!weft_ok(c)) return weft_error(c);
    size_t bytes = sizeof(double) * (size_t)from->num_train_timesteps, length = from->json ? strlen(from->json) + 1 : 0;
    if (from->trained_betas && (config->trained_betas = malloc(bytes)))
        memcpy(config->trained_betas, from->trained_betas, bytes);
    if (from->json && (config->json = malloc(length))) memcpy(config->json, from->json, length);
    if (!config->trained_betas == !from->trained_betas && !config->json == !from->json) return WEFT_OK;
    weft_scheduler_config_free(config);
    return weft_fail(c, WEFT_E_MEMORY, "scheduler: out of memory for its settings");
}

static const char *const keys[] = {
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "timestep_spacing", "steps_offset", "set_alpha_to_one", "clip_sample", "clip_sample_range", "thresholding",
    "dynamic_thresholding_ratio", "sample_max_value", "rescale_betas_zero_snr", "skip_prk_steps", "use_karras_sigmas",
    "sigma_min", "sigma_max", "final_sigmas_type", "interpolation_type", "timestep_type", "solver_order",
    "solver_type", "algorithm_type", "predict_x0", "lower_order_final", "euler_at_final", "lambda_min_clipped",
    "variance_type" };

/* Reads an object of keys over what `config` says already. */
static void read_over(weft_ctx *c, const char *name, const char *text, bool strict, weft_scheduler_config *config) {
    cJSON *tree = weft_json_parse(c, name, text, strlen(text), WEFT_JSON_NAN);
    weft_json j = { c, name, tree };
    if (!tree) return;
    if (!cJSON_IsObject(tree))
        weft_fail(c, WEFT_E_FORMAT, "%s: expected an object, found %s", name, weft_json_kind(tree));
    for (const cJSON *field = tree->child; strict && field && weft_ok(c); field = field->next) {
        weft_nearest near = { .name = field->string };
        bool known = false;
        for (size_t i = 0; i < sizeof keys / sizeof *keys && !known; i++) {
            known = !strcmp(keys[i], field->string);
            weft_nearest_try(&near, keys[i]);
        }
        if (!known && near.best)
            weft_fail(c, WEFT_E_FORMAT, "%s: there is no key \"%.60s\"; did you mean \"%s\"?", name, field->string,
                      near.best);
        else if (!known) weft_fail(c, WEFT_E_FORMAT, "%s: there is no key \"%.60s\"", name, field->string);
    }
    if (weft_ok(c)) read_fields(&j, config);
    cJSON_Delete(tree);
}

/* What a configuration that was not read from a file says. */
static void take_common(weft_ctx *c, const weft_scheduler_config *from, weft_scheduler_config *config) {
    weft_scheduler_config own;
    if (weft_scheduler_config_copy(c, from, &own)) return;
    config->num_train_timesteps = own.num_train_timesteps;
    config->beta_start = own.beta_start;
    config->beta_end = own.beta_end;
    set_text(config->beta_schedule, sizeof config->beta_schedule, own.beta_schedule);
    config->trained_betas = own.trained_betas;
    config->prediction_type = own.prediction_type;
    config->steps_offset = own.steps_offset;
    config->set_alpha_to_one = own.set_alpha_to_one;
    config->clip_sample = own.clip_sample;
    config->rescale_betas_zero_snr = own.rescale_betas_zero_snr;
    config->skip_prk_steps = own.skip_prk_steps;
}

weft_status weft_scheduler_config_as(weft_ctx *c, const weft_scheduler_config *from, const char *class_name,
                                     const char *changes, const char *config_text, weft_scheduler_config *config) {
    *config = defaults_of(class_name);
    if (from && from->json) read_over(c, "scheduler_config.json", from->json, false, config);
    else if (from) take_common(c, from, config);
    if (changes && *changes && weft_ok(c)) read_over(c, "scheduler", changes, true, config);
    if (config_text && *config_text && weft_ok(c)) read_over(c, "config", config_text, true, config);
    if (!weft_ok(c)) weft_scheduler_config_free(config);
    return weft_error(c);
}

void weft_scheduler_config_free(weft_scheduler_config *config) {
    if (!config) return;
    free(config->trained_betas);
    free(config->json);
    config->trained_betas = NULL;
    config->json = NULL;
}
