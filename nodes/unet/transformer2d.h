/* The transformer of the conditional UNet: diffusers' Transformer2DModel on pictures.
 * Facts: diffusers, transformer_2d.py and attention.py (BasicTransformerBlock, GEGLU). */
#ifndef WEFT_TRANSFORMER2D_H
#define WEFT_TRANSFORMER2D_H

#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_TRANSFORMER_MAX_DEPTH 32

typedef struct weft_transformer {
    int heads;                  /* divides the channels */
    int depth;                  /* blocks, 1…WEFT_TRANSFORMER_MAX_DEPTH */
    int norm_groups;            /* of the group norm in front, whose eps is 1e-6 whatever the UNet's is */
    bool linear_projection;     /* proj_in and proj_out are linear layers, otherwise 1×1 convolutions */
} weft_transformer;

/* x (N,H,W,C), context (N,T,D) → (N,H,W,C): proj_out(blocks(proj_in(norm(x)))) + x. */
weft_tensor *weft_transformer2d(weft_ctx *c, weft_params p, const weft_transformer *how, weft_tensor *x,
                                weft_tensor *context);

#ifdef __cplusplus
}
#endif
#endif
