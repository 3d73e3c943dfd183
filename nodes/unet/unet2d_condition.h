/* The conditional UNet of Stable Diffusion 1, 2 and XL: diffusers' UNet2DConditionModel, names and numbers; and
 * UNet2DModel, which is built alike but takes no text: its attention is over the pixels (DDPM, arXiv:2006.11239).
 *
 * The model is a function of (context, parameters, configuration, inputs). Weights are read from the parameter tree
 * under diffusers' names ("down_blocks.0.resnets.1.conv1.weight"); a shape-only run checks or makes a tree (weft_unet_walk).
 * Papers: arXiv:2112.10752 (latent diffusion), arXiv:2307.01952 (SDXL). Facts: diffusers, unet_2d_condition.py.
 */
#ifndef WEFT_UNET2D_CONDITION_H
#define WEFT_UNET2D_CONDITION_H

#include "nodes/unet/unet_rms.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_UNET_MAX_BLOCKS 8
#define WEFT_UNET_MAX_LAYERS 16

typedef enum weft_unet_mid {
    WEFT_UNET_MID_ATTENTION,            /* "UNetMidBlock2DCrossAttn", and UNet2DModel's: resnet, attention, resnet */
    WEFT_UNET_MID_RESNET,               /* "UNetMidBlock2D" of UNet2DConditionModel: one resnet */
    WEFT_UNET_MID_RESNETS,              /* of UNet2DModel, with add_attention false: two of them */
    WEFT_UNET_MID_NONE                  /* null */
} weft_unet_mid;

/* config.json in plain fields. Arrays run from the first (largest) resolution to the last, for the way down;
 * the way up reads them backwards, as diffusers does. heads and depth matter where there is attention. The third class
 * of UNet is denoising-diffusion-pytorch's Unet, a model of its own (unet_rms.h). */
typedef struct weft_unet_config {
    bool pixel_attention;                               /* UNet2DModel: no transformers and no context */
    int head_width;                                     /* of pixel attention: its attention_head_dim; 0: one head */
    int mid_norm_groups;                                /* of the middle's pixel attention; 0: norm_groups */
    int in_channels, out_channels;
    int blocks;                                         /* resolutions */
    int channels[WEFT_UNET_MAX_BLOCKS];                 /* block_out_channels */
    int layers[WEFT_UNET_MAX_BLOCKS];                   /* layers_per_block; the way up has one more */
    bool down_attention[WEFT_UNET_MAX_BLOCKS];          /* CrossAttnDownBlock2D, otherwise DownBlock2D */
    bool up_attention[WEFT_UNET_MAX_BLOCKS];            /* in the order of up_block_types: smallest resolution first */
    weft_unet_mid mid;
    int heads[WEFT_UNET_MAX_BLOCKS];                    /* attention_head_dim, which means the number of heads */
    int depth[WEFT_UNET_MAX_BLOCKS];                    /* transformer_layers_per_block */
    int context;                                        /* cross_attention_dim; 0: it takes no text */
    bool linear_projection;                             /* use_linear_projection */
    int norm_groups;
    double norm_eps;
    int downsample_padding;                             /* 1, or 0: pads right and bottom instead */
    int conv_in_kernel, conv_out_kernel;                /* odd */
    bool center_input_sample;                           /* the sample is 2·x − 1 */
    bool flip_sin_to_cos;
    double freq_shift;
    int time_embedding_dim;                             /* 0: 4·channels[0] */
    int time_cond_proj_dim;                             /* width of timestep_cond (LCM's guidance embedding); 0: none */
    /* addition_embed_type "text_time" (SDXL); both 0: none. */
    int addition_time_embed_dim;                        /* sinusoids for each of the time ids */
    int addition_input_dim;                             /* projection_class_embeddings_input_dim */
    /* Unet: what it is; in_channels, out_channels, blocks and channels say the same for whoever only looks. stages 0:
     * it is one of the others. */
    weft_unet_rms_config rms;
} weft_unet_config;

extern const weft_unet_config weft_unet_sd15, weft_unet_sd15_inpaint, weft_unet_sd21;
extern const weft_unet_config weft_unet_sdxl, weft_unet_sdxl_refiner;
extern const weft_unet_config weft_unet2d_default;      /* UNet2DModel() */

/* Reads a config.json (the path of the file itself). What it asks for and Weft does not do, and values that make no
 * sense, are errors that name file and key; keys that only other tools use are ignored. */
weft_status weft_unet_config_read(weft_ctx *c, const char *path, weft_unet_config *config) WEFT_MUST_CHECK;
/* The same from text; `name` stands for the file in messages. */
weft_status weft_unet_config_parse(weft_ctx *c, const char *name, const char *text, size_t size,
                                   weft_unet_config *config) WEFT_MUST_CHECK;
/* Checks a configuration made by hand in the same way. */
weft_status weft_unet_config_check(weft_ctx *c, const char *name, const weft_unet_config *config) WEFT_MUST_CHECK;

/* Tells what came out of a place of the model: "conv_in", "down_blocks.0", "mid_block", "up_blocks.3". */
typedef void weft_unet_observe_fn(void *user, const char *place, weft_tensor *t);

typedef struct weft_unet_inputs {
    weft_tensor *sample;            /* (N, H, W, in_channels); its type is the result's; activations: weft_to_compute() */
    weft_tensor *timesteps;         /* (N) or (1) for all images, f32 or f64 */
    weft_tensor *context;           /* encoder_hidden_states (N, T, D); NULL for pixel attention */
    weft_tensor *text_embeds;       /* text_time: pooled text (N, P); otherwise NULL */
    weft_tensor *time_ids;          /* text_time: (N, K), K·addition_time_embed_dim + P = addition_input_dim */
    weft_tensor *timestep_cond;     /* (N, time_cond_proj_dim), or NULL: none is added */
    weft_tensor *self_cond;         /* Unet with self_condition: an earlier estimate of the picture, or NULL: zeros */
    weft_unet_observe_fn *observe;  /* NULL: nobody looks */
    void *observe_user;
} weft_unet_inputs;

/* The prediction (N, H, W, out_channels), in the innermost scope. Any H, W ≥ 1 go: the way up follows the sizes of the
 * way down. Reports weft_progress("unet", block, blocks). NULL with the error set. */
weft_tensor *weft_unet2d_condition(weft_ctx *c, weft_params p, const weft_unet_config *config,
                                   const weft_unet_inputs *in);

/* Any of the three classes on its inputs: this one, or weft_unet_rms(), whose sizes must be multiples of
 * 2^(stages − 1). */
weft_tensor *weft_unet_predict(weft_ctx *c, weft_params p, const weft_unet_config *config, const weft_unet_inputs *in);

/* A weft_walk_fn: the model on a small input; user is a const weft_unet_config. */
void weft_unet_walk(weft_ctx *c, weft_params root, void *user);

#ifdef __cplusplus
}
#endif
#endif
