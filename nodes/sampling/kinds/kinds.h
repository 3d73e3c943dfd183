/* What diffusers' schedulers share: timesteps, noise levels, what is done to x₀. */
#ifndef WEFT_KINDS_H
#define WEFT_KINDS_H

#include "nodes/sampling/scheduler.h"

/* count falling timesteps by the configuration's spacing; points: how many are spaced over 0 … last − 1 (count, or one
 * more, of which the smallest is left out). round: to whole numbers, halves to even. malloc'd; NULL with the error
 * set. */
double *weft_spaced_timesteps(weft_ctx *c, const weft_scheduler *s, int last, int count, int points, bool round);

/* α = √ᾱ, σ = √(1 − ᾱ), where ᾱ is the table's at a whole timestep. */
weft_noise_level weft_level_of_timestep(const weft_scheduler *s, int timestep);
/* The same by ᾱ. */
weft_noise_level weft_level_of_alpha(double alpha_cumprod);
/* By σ/α; exploding: α = 1. */
weft_noise_level weft_level_of_ratio(double ratio, double timestep, bool exploding);
/* λ = ln α − ln σ */
double weft_level_lambda(const weft_noise_level *l);

/* Levels at the spaced timesteps of the training's table, one evaluation each, and the level `end` behind them. */
bool weft_levels_at_timesteps(weft_ctx *c, weft_scheduler *s, weft_noise_level end);
/* The levels of DPM-Solver and UniPC: one point more is spaced, or Karras' levels over the whole table. */
bool weft_solver_levels(weft_ctx *c, weft_scheduler *s, bool last_is_tables);

/* The training's σ/α of every timestep, as f32; malloc'd, NULL with the error set. */
double *weft_table_ratios(weft_ctx *c, const weft_scheduler *s);
/* Karras' n levels from `high` to `low` (or the configuration's ends), ρ = 7. */
void weft_karras_levels(const weft_scheduler_config *k, double low, double high, int n, double *out);
/* The timestep of a level, interpolated in its logarithm. */
double weft_timestep_between(const double *ratios, int n, double ratio);

/* x₀ clipped or thresholded as the configuration says. */
weft_tensor *weft_bounded(weft_ctx *c, const weft_scheduler *s, weft_tensor *x0, bool clip);
/* Σ weight·part, from left to right. */
weft_tensor *weft_weighted(weft_ctx *c, int n, const double *weights, weft_tensor *const *parts);

#endif
