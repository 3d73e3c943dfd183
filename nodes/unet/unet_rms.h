/* The Unet of denoising-diffusion-pytorch (lucidrains): unconditional, with RMS norms, linear attention on the large
 * resolutions and full attention on the smallest.
 *
 * A function of (context, parameters, configuration, inputs), as the other models are; weights carry the names of its
 * state dict ("downs.0.0.block1.proj.weight"). Facts: denoising_diffusion_pytorch 2.3.4. Papers: arXiv:2006.11239 (DDPM),
 * arXiv:1812.01243 (linear attention), arXiv:1910.07467 (RMS norm), arXiv:2208.04202 (self-conditioning).
 */
#ifndef WEFT_UNET_RMS_H
#define WEFT_UNET_RMS_H

#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_UNET_RMS_MAX_STAGES 8

/* The constructor's arguments in plain fields. Arrays run from the largest resolution to the smallest. */
typedef struct weft_unet_rms_config {
    int dim;                                    /* width of the first stage; 4·dim is the time embedding's */
    int init_dim;                               /* of the first convolution; 0: dim */
    int channels;                               /* of the picture */
    int out_dim;                                /* of the prediction; 0: channels */
    bool self_condition;                        /* takes an earlier estimate of the picture too */
    double theta;                               /* sinusoidal_pos_emb_theta */
    int fourier_dim;                            /* learned_sinusoidal_dim; 0: the time's frequencies are no weights */
    bool random_fourier;                        /* random_fourier_features: those weights are never trained */
    int stages;
    int dim_mults[WEFT_UNET_RMS_MAX_STAGES];
    int heads[WEFT_UNET_RMS_MAX_STAGES];        /* attn_heads */
    int head_dim[WEFT_UNET_RMS_MAX_STAGES];     /* attn_dim_head */
    bool full_attention[WEFT_UNET_RMS_MAX_STAGES];
} weft_unet_rms_config;

/* Unet(64): dim_mults 1, 2, 4, 8 over 3 channels. */
extern const weft_unet_rms_config weft_unet_rms_default;

/* Reads a config.json that holds the constructor's arguments; "_class_name": "Unet". Errors name file and key. */
weft_status weft_unet_rms_config_read(weft_ctx *c, const char *path, weft_unet_rms_config *config) WEFT_MUST_CHECK;
weft_status weft_unet_rms_config_parse(weft_ctx *c, const char *name, const char *text, size_t size,
                                       weft_unet_rms_config *config) WEFT_MUST_CHECK;
/* Checks a configuration made by hand in the same way. */
weft_status weft_unet_rms_config_check(weft_ctx *c, const char *name, const weft_unet_rms_config *config) WEFT_MUST_CHECK;

/* sample: (N,H,W,channels), H and W multiples of 2^(stages − 1); timesteps: (N), of the sample's type; self_cond: like
 * sample, or NULL: zeros. → (N,H,W,out_dim), in the innermost scope; NULL with the error set. */
weft_tensor *weft_unet_rms(weft_ctx *c, weft_params p, const weft_unet_rms_config *config, weft_tensor *sample,
                           weft_tensor *timesteps, weft_tensor *self_cond);

/* A weft_walk_fn: the model on a small input; user is a const weft_unet_rms_config. */
void weft_unet_rms_walk(weft_ctx *c, weft_params root, void *user);

#ifdef __cplusplus
}
#endif
#endif
