/* The constructor's arguments of denoising-diffusion-pytorch's GaussianDiffusion, as the settings of a scheduler.
 *
 *   timesteps → num_train_timesteps
 *   objective: pred_noise, pred_x0, pred_v → prediction_type: epsilon, sample, v_prediction
 *   beta_schedule: linear → linear, 0.1/timesteps … 20/timesteps    cosine → squaredcos_cap_v2    sigmoid → sigmoid_cap
 *
 * Facts: denoising_diffusion_pytorch 2.3.4.
 */
#ifndef WEFT_GAUSSIAN_DIFFUSION_H
#define WEFT_GAUSSIAN_DIFFUSION_H

#include "nodes/checkpoint/scheduler_config.h"
#include "runtime/json.h"

/* Fills the settings, which have the class's defaults already, from an object of its arguments. What is not about the
 * noise (sampling_timesteps, min_snr_loss_weight …) has its place elsewhere in Weft: where it is not as by itself, and
 * for keys that the constructor does not know, the error says so. */
void weft_gaussian_diffusion_from(const weft_json *j, weft_scheduler_config *config);

/* The other way: "pred_v"; "sigmoid", or NULL for a schedule that it does not have. */
const char *weft_gaussian_objective(weft_prediction p);
const char *weft_gaussian_schedule(const char *beta_schedule);

#endif
