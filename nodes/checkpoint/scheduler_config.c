/* scheduler_config.json; see scheduler_config.h. */
#include "nodes/checkpoint/scheduler_config.h"

#include <stdlib.h>
#include <string.h>

#include "nodes/config.h"
#include "runtime/file.h"

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
};

struct class_defaults {
    const char *name;
    double beta_start, beta_end;        /* 0, 0: the common ones */
    const char *beta_schedule;          /* NULL: the common one */
    bool leading, set_alpha_to_one, clip_sample;
    const char *variance_type;          /* NULL: none */
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
    { .name = "UniPCMultistepScheduler" },
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
    config.set_alpha_to_one = d->set_alpha_to_one;
    config.clip_sample = d->clip_sample;
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
    if (!list) return;
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : -1;
    if (n != config->num_train_timesteps) {
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: trained_betas: expected a list of %d numbers", j->file,
                  config->num_train_timesteps);
        return;
    }
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
    { "beta_schedule", "linear|scaled_linear|squaredcos_cap_v2|sigmoid|laplace|exp" },
    { "prediction_type", "epsilon|v_prediction|sample" },
    { "timestep_spacing", "leading|linspace|trailing" },
    { "variance_type", "fixed_small|fixed_small_log|fixed_large|fixed_large_log|learned|learned_range" },
    { NULL, NULL },
};

static void read_text(const weft_json *j, const char *key, char *field, size_t size) {
    const char *text = weft_json_text_of(j, key, NULL);
    if (text) set_text(field, size, text);
}

static void read_fields(const weft_json *j, weft_scheduler_config *config) {
    if (weft_config_rules(j, rules)) return;
    config->num_train_timesteps = (int)weft_json_int(j, "num_train_timesteps", 1, MAX_STEPS,
                                                     config->num_train_timesteps);
    read_double(j, "beta_start", 0, false, 1, &config->beta_start);
    read_double(j, "beta_end", 0, false, 1, &config->beta_end);
    read_text(j, "beta_schedule", config->beta_schedule, sizeof config->beta_schedule);
    for (int i = 0; i < WEFT_PREDICTION_COUNT; i++)
        if (!strcmp(prediction_names[i], weft_json_text_of(j, "prediction_type", "epsilon")))
            config->prediction_type = (weft_prediction)i;
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
    config->use_karras_sigmas = weft_json_bool(j, "use_karras_sigmas", config->use_karras_sigmas);
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
        read_fields(&j, config);
        config->json = malloc(size + 1);
        if (config->json) {
            memcpy(config->json, text, size);
            config->json[size] = 0;
        } else weft_fail(c, WEFT_E_MEMORY, "%s: no memory for its text", name);
    }
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

void weft_scheduler_config_free(weft_scheduler_config *config) {
    if (!config) return;
    free(config->trained_betas);
    free(config->json);
    config->trained_betas = NULL;
    config->json = NULL;
}
