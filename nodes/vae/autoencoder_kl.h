/* The variational autoencoder between pictures and latents: diffusers' AutoencoderKL, names and numbers.
 *
 * Pictures are (N, H, W, 3) in [−1, 1], latents (N, H/8, W/8, 4) for the usual four resolutions. Attention weights have
 * the names to_q, to_k, to_v, to_out.0; files with the older query, key, value, proj_attn are renamed when loaded.
 * Paper: arXiv:2112.10752. Facts: diffusers, autoencoder_kl.py and vae.py.
 */
#ifndef WEFT_AUTOENCODER_KL_H
#define WEFT_AUTOENCODER_KL_H

#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_VAE_MAX_BLOCKS 8

/* config.json in plain fields; see weft_unet_config for the manner. */
typedef struct weft_vae_config {
    int in_channels, out_channels, latent_channels;
    int blocks;
    int channels[WEFT_VAE_MAX_BLOCKS];      /* block_out_channels */
    int layers;                             /* layers_per_block; the decoder has one more */
    int norm_groups;
    bool mid_attention;                     /* mid_block_add_attention */
    bool quant_conv, post_quant_conv;       /* use_quant_conv, use_post_quant_conv */
    double scaling_factor, shift_factor;
} weft_vae_config;

extern const weft_vae_config weft_vae_sd, weft_vae_sdxl;

weft_status weft_vae_config_read(weft_ctx *c, const char *path, weft_vae_config *config) WEFT_MUST_CHECK;
weft_status weft_vae_config_parse(weft_ctx *c, const char *name, const char *text, size_t size,
                                  weft_vae_config *config) WEFT_MUST_CHECK;
weft_status weft_vae_config_check(weft_ctx *c, const char *name, const weft_vae_config *config) WEFT_MUST_CHECK;

/* A diagonal normal distribution over latents: what the encoder answers. Both (N, h, w, latent_channels), logvar within
 * [−30, 20]; NULL, NULL with the error set. The mode is the mean. */
typedef struct weft_vae_moments { weft_tensor *mean, *logvar; } weft_vae_moments;

weft_vae_moments weft_vae_encode(weft_ctx *c, weft_params p, const weft_vae_config *config, weft_tensor *image);
/* mean + exp(logvar/2)·noise. noise: like mean. */
weft_tensor *weft_vae_sample(weft_ctx *c, weft_vae_moments m, weft_tensor *noise);
/* (N, h, w, latent_channels) as the encoder gives them, not scaled → (N, 8h, 8w, out_channels), not clamped. */
weft_tensor *weft_vae_decode(weft_ctx *c, weft_params p, const weft_vae_config *config, weft_tensor *latent);

/* Between the autoencoder's latents and the UNet's: (z − shift_factor)·scaling_factor, and back. */
weft_tensor *weft_vae_scale(weft_ctx *c, const weft_vae_config *config, weft_tensor *latent);
weft_tensor *weft_vae_unscale(weft_ctx *c, const weft_vae_config *config, weft_tensor *latent);

/* [−1, 1] → u8: (x/2 + ½) clamped to [0, 1], times 255, rounded half to even: diffusers' numbers to the bit. */
weft_tensor *weft_vae_to_pixels(weft_ctx *c, weft_tensor *image);
/* u8 → f32: 2·(x/255) − 1. */
weft_tensor *weft_vae_from_pixels(weft_ctx *c, weft_tensor *pixels);

/* weft_walk_fns: one direction, or both, on a small input; user is a const weft_vae_config. */
void weft_vae_walk_encoder(weft_ctx *c, weft_params root, void *user);
void weft_vae_walk_decoder(weft_ctx *c, weft_params root, void *user);
void weft_vae_walk(weft_ctx *c, weft_params root, void *user);

#ifdef __cplusplus
}
#endif
#endif
