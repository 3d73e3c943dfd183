/* See gaussian_diffusion.h. */
#include "nodes/checkpoint/gaussian_diffusion.h"

#include <math.h>
#include <string.h>

#include "runtime/nearest.h"

#define MAX_STEPS 100000

static const char *const objectives[WEFT_PREDICTION_COUNT] = {
    [WEFT_PREDICTION_EPSILON] = "pred_noise", [WEFT_PREDICTION_V] = "pred_v", [WEFT_PREDICTION_SAMPLE] = "pred_x0",
};

static const struct { const char *theirs, *ours; } schedules[] = {
    { "linear", "linear" }, { "cosine", "squaredcos_cap_v2" }, { "sigmoid", "sigmoid_cap" },
};
enum { SCHEDULES = sizeof schedules / sizeof *schedules };

/* Arguments that are no settings of the noise: the usual value (NAN: none is), and where another one belongs. */
static const struct { const char *key; double usual; const char *instead; } others[] = {
    { "sampling_timesteps", NAN, "it is the node Scheduler's steps" },
    { "ddim_sampling_eta", 0, "it is the node Scheduler's eta" },
    { "schedule_fn_kwargs", NAN, "the schedules' own ends and slopes are all there is" },
    { "auto_normalize", 1, "what is trained on is between -1 and 1 already" },
    { "offset_noise_strength", 0, "it belongs to the noise that AddNoise and Loss are given" },
    { "min_snr_loss_weight", 0, "it is the node Loss's weighting" },
    { "min_snr_gamma", 5, "it is the node Loss's gamma" },
    { "immiscible", 0, "it is what the node MatchNoise does" },
    { "image_size", NAN, NULL },        /* anything goes */
};
enum { OTHERS = sizeof others / sizeof *others };

const char *weft_gaussian_objective(weft_prediction p) { return objectives[p]; }

const char *weft_gaussian_schedule(const char *beta_schedule) {
    for (int i = 0; i < SCHEDULES; i++)
        if (!strcmp(schedules[i].ours, beta_schedule)) return schedules[i].theirs;
    return NULL;
}

static bool is_usual(const cJSON *value, double usual) {
    if (cJSON_IsNull(value) || (cJSON_IsObject(value) && !value->child)) return true;
    if (cJSON_IsBool(value)) return cJSON_IsTrue(value) == (usual != 0) && !isnan(usual);
    return cJSON_IsNumber(value) && value->valuedouble == usual;
}

static void check_field(const weft_json *j, const cJSON *field) {
    static const char *const read[] = { "_class_name", "timesteps", "objective", "beta_schedule" };
    weft_nearest near = { .name = field->string };
    for (size_t i = 0; i < sizeof read / sizeof *read; i++) {
        if (!strcmp(read[i], field->string)) return;
        weft_nearest_try(&near, read[i]);
    }
    for (int i = 0; i < OTHERS; i++) {
        weft_nearest_try(&near, others[i].key);
        if (strcmp(others[i].key, field->string)) continue;
        if (others[i].instead && !is_usual(field, others[i].usual))
            weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: is no setting of a scheduler here: %s", j->file, field->string,
                      others[i].instead);
        return;
    }
    weft_fail(j->ctx, WEFT_E_FORMAT, "%s: GaussianDiffusion has no argument \"%.60s\"%s%s%s", j->file, field->string,
              near.best ? "; did you mean \"" : "", near.best ? near.best : "", near.best ? "\"?" : "");
}

void weft_gaussian_diffusion_from(const weft_json *j, weft_scheduler_config *config) {
    for (const cJSON *field = j->object->child; field && weft_ok(j->ctx); field = field->next) check_field(j, field);
    int n = (int)weft_json_int(j, "timesteps", 1, MAX_STEPS, config->num_train_timesteps), type = 0, schedule = 0;
    const char *objective = weft_json_text_of(j, "objective", objectives[config->prediction_type]);
    const char *betas = weft_json_text_of(j, "beta_schedule", weft_gaussian_schedule(config->beta_schedule));
    while (type < WEFT_PREDICTION_COUNT && strcmp(objectives[type], objective)) type++;
    while (schedule < SCHEDULES && strcmp(schedules[schedule].theirs, betas)) schedule++;
    if (type == WEFT_PREDICTION_COUNT)
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: objective: %.60s; pred_noise, pred_x0 or pred_v is expected", j->file,
                  objective);
    else if (schedule == SCHEDULES)
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: beta_schedule: %.60s; linear, cosine or sigmoid is expected", j->file,
                  betas);
    else if (schedule == 0 && n <= 20)
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: timesteps: %d; linear betas end in 20/timesteps, which must be below 1",
                  j->file, n);
    if (!weft_ok(j->ctx)) return;
    config->num_train_timesteps = n;
    config->prediction_type = (weft_prediction)type;
    snprintf(config->beta_schedule, sizeof config->beta_schedule, "%s", schedules[schedule].ours);
    if (schedule) return;
    config->beta_start = 0.1 / n;
    config->beta_end = 20.0 / n;
}
