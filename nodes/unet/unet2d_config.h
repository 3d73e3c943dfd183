/* Reading the configurations of the other classes of UNet, for weft_unet_config_read(). */
#ifndef WEFT_UNET2D_CONFIG_H
#define WEFT_UNET2D_CONFIG_H

#include "nodes/unet/unet2d_condition.h"
#include "runtime/json.h"

/* Fills the configuration from an object of class UNet2DModel, or sets the error. */
void weft_unet2d_config_from(const weft_json *j, weft_unet_config *config);
/* The same for class Unet of denoising-diffusion-pytorch. */
void weft_unet_rms_config_from(const weft_json *j, weft_unet_config *config);

#endif
