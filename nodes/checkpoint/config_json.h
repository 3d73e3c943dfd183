/* Configurations as the JSON that diffusers, transformers and (Unet, GaussianDiffusion: the constructors' arguments)
 * denoising-diffusion-pytorch read: the other way of the …_config_parse() functions.
 * Each is a malloc'd text, ended by 0; NULL without memory. */
#ifndef WEFT_CONFIG_JSON_H
#define WEFT_CONFIG_JSON_H

#include "nodes/checkpoint/checkpoint.h"

/* sample_size: the side of the latents (UNet) or pictures (autoencoder) the model is for; 0: left out. */
char *weft_unet_config_json(const weft_unet_config *config, int sample_size);
/* The class that it is for: "UNet2DConditionModel", "UNet2DModel" or "Unet". */
const char *weft_unet_class(const weft_unet_config *config);
/* The class of scheduler that goes with a UNet without a text where nothing names one; NULL for the others. */
const char *weft_unet_scheduler(const weft_unet_config *config);
char *weft_vae_config_json(const weft_vae_config *config, int sample_size);
/* bos, pad: of the tokenizer that goes with it. */
char *weft_clip_text_config_json(const weft_clip_text_config *config, int bos, int pad);
char *weft_scheduler_config_json(const weft_scheduler_config *config);
/* The class that it is for: diffusers' name; DDIM where the configuration names none. */
const char *weft_scheduler_class(const weft_scheduler_config *config);

#endif
