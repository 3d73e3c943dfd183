/* What a model says of its noise: a scheduler_config.json of diffusers in plain fields.
 *
 * Fields have diffusers' names; what a file does not say has the default that the constructor of the file's class has
 * (diffusers, schedulers/scheduling_*.py). Nothing is worked out here: tables and steps are the samplers' affair.
 */
#ifndef WEFT_SCHEDULER_CONFIG_H
#define WEFT_SCHEDULER_CONFIG_H

#include "runtime/weft.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum weft_prediction { WEFT_PREDICTION_EPSILON, WEFT_PREDICTION_V, WEFT_PREDICTION_SAMPLE,
                               WEFT_PREDICTION_COUNT } weft_prediction;

/* "epsilon", "v_prediction", "sample" */
const char *weft_prediction_name(weft_prediction p);

typedef struct weft_scheduler_config {
    char class_name[64];                /* _class_name: "PNDMScheduler" */
    int num_train_timesteps;
    double beta_start, beta_end;
    char beta_schedule[32];             /* "scaled_linear", … */
    double *trained_betas;              /* num_train_timesteps of them, owned; NULL: none */
    weft_prediction prediction_type;
    char timestep_spacing[16];          /* "leading", "linspace", "trailing" */
    int steps_offset;
    bool set_alpha_to_one;
    bool clip_sample;
    double clip_sample_range;
    bool thresholding;
    double dynamic_thresholding_ratio, sample_max_value;
    bool rescale_betas_zero_snr;
    bool skip_prk_steps;
    bool use_karras_sigmas;
    char variance_type[24];             /* DDPM; "" elsewhere */
    /* the whole file, for keys that are one class's own; owned, NULL where there was none */
    char *json;
} weft_scheduler_config;

/* What the single files of Stable Diffusion 1 and 2 mean, as their diffusers folders say it: 0.00085…0.012
 * scaled_linear over 1000 steps, leading with offset 1, nothing clipped; PNDM, or DDIM for v. Owns nothing. */
weft_scheduler_config weft_scheduler_config_sd(weft_prediction prediction);

/* Reads a scheduler_config.json. Values that make no sense are errors that name file and key; unknown classes get
 * DDPM's defaults. */
weft_status weft_scheduler_config_read(weft_ctx *c, const char *path, weft_scheduler_config *config) WEFT_MUST_CHECK;
/* The same from text; `name` stands for the file in messages. */
weft_status weft_scheduler_config_parse(weft_ctx *c, const char *name, const char *text, size_t size,
                                        weft_scheduler_config *config) WEFT_MUST_CHECK;
/* Frees what it owns; takes an empty one, and NULL. */
void weft_scheduler_config_free(weft_scheduler_config *config);

#ifdef __cplusplus
}
#endif
#endif
