/* The text encoder of CLIP: transformers' CLIPTextModel, and CLIPTextModelWithProjection, names and numbers.
 *
 *   x₀ = token_embedding(ids) + position_embedding(0…T−1)
 *   x += self_attn(layer_norm1(x)), causal;  x += fc2(act(fc1(layer_norm2(x))))        for each layer
 *   pooled = final_layer_norm(x) at the end token, through text_projection where there is one
 *
 * A function of (context, parameters, configuration, ids). The place of the parameters is the one that has
 * "embeddings", "encoder" and "final_layer_norm" below it ("text_model." in files), and "text_projection" beside them.
 * Papers: arXiv:2103.00020 (CLIP), arXiv:2212.07143 (OpenCLIP). Facts: transformers 5, modeling_clip.py.
 */
#ifndef WEFT_CLIP_TEXT_H
#define WEFT_CLIP_TEXT_H

#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* config.json in plain fields. */
typedef struct weft_clip_text_config {
    int vocabulary;             /* vocab_size */
    int added;                  /* rows "token_embedding.added" behind it: new tokens (textual inversion); of no file */
    int width;                  /* hidden_size */
    int inner;                  /* intermediate_size */
    int layers;                 /* num_hidden_layers */
    int heads;                  /* num_attention_heads */
    int positions;              /* max_position_embeddings */
    weft_activation act;        /* hidden_act: quick_gelu, gelu, or gelu_new and its other names */
    double norm_eps;            /* layer_norm_eps */
    double spread;              /* initializer_factor: new token vectors have a deviation of 0.02, positions of 0.01, times
                                 * this; of no file */
    int projection;             /* projection_dim where architectures names CLIPTextModelWithProjection; 0: there is no
                                 * text_projection */
    int eos;                    /* eos_token_id: pooled is its first place; 2, as old configurations have it, means the
                                 * highest id's */
} weft_clip_text_config;

/* SD1 and SDXL's first; SD2 as diffusers keeps it (23 layers of 24); SDXL's second. */
extern const weft_clip_text_config weft_clip_text_l14, weft_clip_text_h14, weft_clip_text_bigg14;

/* Reads a config.json (the path of the file itself); errors name file and key. Keys of other tools are ignored. */
weft_status weft_clip_text_config_read(weft_ctx *c, const char *path, weft_clip_text_config *config) WEFT_MUST_CHECK;
/* The same from text; `name` stands for the file in messages. */
weft_status weft_clip_text_config_parse(weft_ctx *c, const char *name, const char *text, size_t size,
                                        weft_clip_text_config *config) WEFT_MUST_CHECK;
/* Checks a configuration made by hand in the same way. */
weft_status weft_clip_text_config_check(weft_ctx *c, const char *name,
                                        const weft_clip_text_config *config) WEFT_MUST_CHECK;

typedef void weft_clip_text_observe_fn(void *user, int layer, weft_tensor *state);

typedef struct weft_clip_text_inputs {
    weft_tensor *ids;           /* (B, T), i32 or i64, 1 ≤ T ≤ positions, every id below vocabulary + added, or with … */
    weft_tensor *vectors;       /* … that + i for row i of these (n, width); NULL: there are none */
    weft_dtype type;            /* of the results; f32: activations are of weft_compute_type() */
    int layer;                  /* the state that `hidden` is: 0 the embeddings, i what leaves layer i; −1 the last, −2
                                 * the one before it (which other tools call clip skip 2), … */
    bool final_norm;            /* hidden goes through final_layer_norm: as SD1 and SD2 want it; SDXL does not */
    bool pooled;                /* whether that is wanted too; without it, the layers behind `layer` are not run */
    weft_clip_text_observe_fn *observe;     /* sees each state, from 0 on, before any final norm; NULL: nobody looks */
    void *observe_user;
} weft_clip_text_inputs;

typedef struct weft_clip_text_outputs {
    weft_tensor *hidden;        /* (B, T, width) */
    weft_tensor *pooled;        /* (B, width), or (B, projection) where there is one; NULL unless asked for */
} weft_clip_text_outputs;

/* Both results are in the innermost scope. On an error they are NULL and the code is returned. Reports
 * weft_progress("text", layer, layers). */
weft_status weft_clip_text(weft_ctx *c, weft_params p, const weft_clip_text_config *config,
                           const weft_clip_text_inputs *in,
                           weft_clip_text_outputs *out);

/* A weft_walk_fn: the model on a small input; user is a const weft_clip_text_config. */
void weft_clip_text_walk(weft_ctx *c, weft_params root, void *user);

#ifdef __cplusplus
}
#endif
#endif
