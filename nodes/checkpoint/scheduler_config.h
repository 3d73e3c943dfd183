/* What a model says of its noise: a scheduler_config.json of diffusers in plain fields, or the arguments of
 * denoising-diffusion-pytorch's GaussianDiffusion ("_class_name" says so) translated to them.
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
    double sigma_min, sigma_max;        /* ends of Karras' levels; 0: the table's */
    char final_sigmas_type[12];         /* "zero", "sigma_min" */
    char interpolation_type[12];        /* Euler: "linear", "log_linear" */
    bool continuous;                    /* Euler: timestep_type is "continuous" */
    int solver_order;                   /* 1…3 */
    char solver_type[12];               /* DPM-Solver: "midpoint", "heun"; UniPC: "bh1", "bh2" */
    char algorithm_type[20];            /* "dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver" */
    bool predict_x0, lower_order_final, euler_at_final;
    double lambda_min_clipped;          /* −INFINITY: none */
    char variance_type[24];             /* DDPM; "" elsewhere */
    char unsupported[28];               /* a key that asks for what no scheduler here does; "": none */
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
/* What `from` says (NULL: nothing), as the constructor of another class takes it: a key that its file leaves out has
 * that class's default; what `changes` and then `config_text` name (objects of diffusers' keys; NULL or "": none) has
 * that value. */
weft_status weft_scheduler_config_as(weft_ctx *c, const weft_scheduler_config *from, const char *class_name,
                                     const char *changes, const char *config_text,
                                     weft_scheduler_config *config) WEFT_MUST_CHECK;
/* A copy that owns copies. */
weft_status weft_scheduler_config_copy(weft_ctx *c, const weft_scheduler_config *from,
                                       weft_scheduler_config *config) WEFT_MUST_CHECK;
/* Frees what it owns; takes an empty one, and NULL. */
void weft_scheduler_config_free(weft_scheduler_config *config);

#ifdef __cplusplus
}
#endif
#endif
