/* Noise levels: the table that a model was trained with, and the schedules that pick from it. Numbers as ComfyUI's
 * (k-diffusion's): σ = √((1 − ᾱ)/ᾱ), kept in f32, interpolated in ln σ.
 */
#ifndef WEFT_SCHEDULE_H
#define WEFT_SCHEDULE_H

#include "nodes/checkpoint/scheduler_config.h"

/* The training's noise levels, σ rising with the timestep. */
typedef struct weft_sigma_table {
    int count;                  /* num_train_timesteps */
    double *alphas_cumprod;     /* ᾱ in double */
    float *sigmas, *log_sigmas;
} weft_sigma_table;

/* ᾱ of every training timestep, num_train_timesteps of them, to out. zero_snr: rescaled so that the last is 0. single:
 * betas and results are rounded to f32, as diffusers has them. */
void weft_alphas_cumprod(const weft_scheduler_config *config, bool zero_snr, bool single, double *out);
/* Number i of n evenly from a to b; single: in f32, from both ends, as torch.linspace does it. */
double weft_even(double a, double b, int i, int n, bool single);
/* From a model's settings; zero_snr rescales as ComfyUI's ModelSamplingDiscrete does. False with the error set. */
bool weft_sigma_table_make(weft_ctx *c, const weft_scheduler_config *config, bool zero_snr, weft_sigma_table *out);
void weft_sigma_table_free(weft_sigma_table *t);
double weft_sigma_at(const weft_sigma_table *t, double timestep);       /* interpolated in ln σ */
double weft_timestep_of(const weft_sigma_table *t, double sigma);       /* the nearest in ln σ, a whole number */
/* percent of the way (0: most noise) to σ, as conditionings' time ranges mean it. */
double weft_sigma_of_percent(const weft_sigma_table *t, double percent);

/* KSampler's schedules, in ComfyUI's order. */
extern const char *const weft_schedule_names[];

/* steps + 1 levels that end in 0 (beta may drop repeats, ddim_uniform strides and so may give a few more); *count of
 * them, malloc'd. NULL with the error set. */
double *weft_schedule_make(weft_ctx *c, const weft_sigma_table *t, int schedule, int steps, int *count);

#endif
