/* What travels along the links of a diffusion graph besides plain tensors: models, text encoders, autoencoders, latents, conditionings.
 *
 * All are objects with counted references (runtime/graph/node.h) and never change once a node has given them out: a node that
 * alters one gives out a copy, which shares the weights and tensors.
 *
 * IMAGE is a tensor (N, H, W, 3) f32 in [0, 1]; MASK a tensor (N, H, W) f32 in [0, 1].
 */
#ifndef WEFT_VALUES_H
#define WEFT_VALUES_H

#include "nodes/checkpoint/checkpoint.h"
#include "runtime/graph/graph.h"

/* A tree of weights with counted references; an overlay (LoRA) keeps the one below it alive. */
typedef struct weft_weights {
    weft_object object;
    weft_tree *tree;
    struct weft_weights *below;     /* NULL: the tree stands for itself */
} weft_weights;
/* Takes the tree over (frees it where it fails); NULL with the error set. */
weft_weights *weft_weights_new(weft_ctx *c, weft_tree *tree, weft_weights *below);

/* "MODEL": a UNet and how to sample with it. */
typedef struct weft_model {
    weft_object object;
    weft_weights *weights;
    weft_unet_config config;
    weft_family family;
    weft_prediction prediction;
    bool zero_snr;                  /* ModelSamplingDiscrete */
    double cfg_rescale;             /* RescaleCFG; 0: none */
    weft_scheduler_config scheduler;    /* with copies of what it owns */
    double latent_scale;            /* of the autoencoder that goes with it: 0.18215 */
} weft_model;

/* "CLIP": a tokenizer and a text encoder. */
typedef struct weft_clip {
    weft_object object;
    weft_weights *weights;
    weft_clip_text_config config;
    weft_object *tokenizer_holder;  /* keeps the tokenizer alive */
    const weft_tokenizer *tokenizer;    /* NULL: none; encoding text is then an error that says what to do */
    weft_family family;
    int layer;                      /* CLIPSetLastLayer: −1 the last … */
} weft_clip;

/* "VAE" */
typedef struct weft_vae {
    weft_object object;
    weft_weights *weights;
    weft_vae_config config;
} weft_vae;

/* "LATENT": not scaled, as the autoencoder gives and takes it. */
typedef struct weft_latent {
    weft_object object;
    weft_tensor *samples;           /* (N, h, w, channels) f32 */
    weft_tensor *noise_mask;        /* (1 or N, H, W) f32, any size; 1: is redrawn; NULL: all of it is */
    int64_t *batch_index;           /* N places in the batch whose noise each image takes; NULL: 0 … N−1 */
    double downscale;               /* pixels a latent's side: 8 */
} weft_latent;

/* One of a conditioning's texts, and where and when it counts. */
typedef struct weft_cond {
    weft_tensor *context;           /* (1 or N, T, D) f32 */
    weft_tensor *pooled;            /* (1 or N, D), or NULL */
    bool has_area;
    int64_t area_x, area_y, area_width, area_height;    /* in latent pixels */
    weft_tensor *mask;              /* (1 or N, H, W), or NULL */
    double mask_strength;
    bool mask_bounds;               /* set_area_to_bounds */
    double strength;                /* of the area */
    double start_percent, end_percent;  /* of the sampling: 0 … 1 */
    weft_tensor *concat_latent;     /* inpainting models: what stands behind the latent's channels, or NULL */
} weft_cond;

/* "CONDITIONING" */
typedef struct weft_conditioning {
    weft_object object;
    int count;
    weft_cond *items;
} weft_conditioning;

/* "TEXTS": one for each image of a batch. */
typedef struct weft_texts {
    weft_object object;
    int count;
    char **items;                   /* malloc'd, ended by 0 */
} weft_texts;

extern const weft_class weft_class_model, weft_class_clip, weft_class_vae, weft_class_latent, weft_class_conditioning,
    weft_class_texts, weft_class_weights;

/* New objects; the fields are copied and every reference in them is taken anew. NULL with the error set. */
weft_model *weft_model_new(weft_ctx *c, const weft_model *fields);
weft_clip *weft_clip_new(weft_ctx *c, const weft_clip *fields);
weft_vae *weft_vae_new(weft_ctx *c, const weft_vae *fields);
weft_latent *weft_latent_new(weft_ctx *c, const weft_latent *fields);
weft_conditioning *weft_conditioning_new(weft_ctx *c, int count, const weft_cond *items);
weft_texts *weft_texts_new(weft_ctx *c, int count, const char *const *items);      /* copied */

/* All node classes: the list in nodes/list.h. NULL with the error set. */
weft_registry *weft_nodes_registry(weft_ctx *c);

#endif
