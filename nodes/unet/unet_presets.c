/* The configurations of the published Stable Diffusion models, as in their unet/config.json. */
#include "nodes/unet/unet2d_condition.h"

#define USUAL \
    .out_channels = 4, .norm_groups = 32, .norm_eps = 1e-5, .downsample_padding = 1, .conv_in_kernel = 3, \
    .conv_out_kernel = 3, .flip_sin_to_cos = true, .mid = WEFT_UNET_MID_ATTENTION

/* Stable Diffusion 1 and 2: four resolutions, attention at the first three. */
#define SD \
    USUAL, .blocks = 4, .channels = { 320, 640, 1280, 1280 }, .layers = { 2, 2, 2, 2 }, .depth = { 1, 1, 1, 1 }, \
    .down_attention = { true, true, true, false }, .up_attention = { false, true, true, true }

const weft_unet_config weft_unet_sd15 = { SD, .in_channels = 4, .heads = { 8, 8, 8, 8 }, .context = 768 };

const weft_unet_config weft_unet_sd15_inpaint = { SD, .in_channels = 9, .heads = { 8, 8, 8, 8 }, .context = 768 };

const weft_unet_config weft_unet_sd21 = {
    SD, .in_channels = 4, .heads = { 5, 10, 20, 20 }, .context = 1024, .linear_projection = true,
};

const weft_unet_config weft_unet_sdxl = {
    USUAL, .in_channels = 4, .blocks = 3, .channels = { 320, 640, 1280 }, .layers = { 2, 2, 2 }, .heads = { 5, 10, 20 },
    .depth = { 1, 2, 10 }, .down_attention = { false, true, true }, .up_attention = { true, true, false },
    .context = 2048, .linear_projection = true, .addition_time_embed_dim = 256, .addition_input_dim = 2816,
};

const weft_unet_config weft_unet_sdxl_refiner = {
    USUAL, .in_channels = 4, .blocks = 4, .channels = { 384, 768, 1536, 1536 }, .layers = { 2, 2, 2, 2 },
    .heads = { 6, 12, 24, 24 }, .depth = { 4, 4, 4, 4 }, .down_attention = { false, true, true, false },
    .up_attention = { false, true, true, false }, .context = 1280, .linear_projection = true,
    .addition_time_embed_dim = 256, .addition_input_dim = 2560,
};
