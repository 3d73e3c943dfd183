/* Configurations as the JSON that diffusers and transformers read: the other way of the …_config_parse() functions.
 * Each is a malloc'd text, ended by 0; NULL without memory. */
#ifndef WEFT_CONFIG_JSON_H
#define WEFT_CONFIG_JSON_H

#include "nodes/checkpoint/checkpoint.h"

/* sample_size: the side of the latents (UNet) or pictures (autoencoder) the model is for; 0: left out. */
char *weft_unet_config_json(const weft_unet_config *config, int sample_size);
/* The class that it is for: "UNet2DConditionModel" or "UNet2DModel". */
const char *weft_unet_class(const weft_unet_config *config);
char *weft_vae_config_json(const weft_vae_config *config, int sample_size);
/* bos, pad: of the tokenizer that goes with it. */
char *weft_clip_text_config_json(const weft_clip_text_config *config, int bos, int pad);
char *weft_scheduler_config_json(const weft_scheduler_config *config);
/* The class that it is for: diffusers' name; DDIM where the configuration names none. */
const char *weft_scheduler_class(const weft_scheduler_config *config);

#endif
