/* Pieces that the image models share: resnet block, attention, down- and upsampling, time embedding.
 *
 * Each takes the place of its parameters (diffusers' names below it) and tensors in NHWC, and returns one tensor in the
 * innermost scope; all else it made is dropped.
 * Facts: diffusers, resnet.py, attention_processor.py, downsampling.py, upsampling.py.
 */
#ifndef WEFT_BLOCKS_H
#define WEFT_BLOCKS_H

#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A chain x₁ = f₁(x₀), x₂ = f₂(x₁), …: each result drops the one before it, so that two at most are alive. Opens a
 * scope for each step and closes one at each weft_chain_next(). */
#define WEFT_CHAIN_MAX 64
typedef struct weft_chain { weft_scope scope[WEFT_CHAIN_MAX]; int left; } weft_chain;
/* steps: exactly as many weft_chain_next() must follow (0…WEFT_CHAIN_MAX). */
weft_chain weft_chain_begin(weft_ctx *c, int steps);
weft_tensor *weft_chain_next(weft_ctx *c, weft_chain *chain, weft_tensor *x);

/* The group norms of a model are all alike. */
typedef struct weft_norm { int groups; double eps; } weft_norm;

static inline weft_tensor *weft_block_norm(weft_ctx *c, weft_params p, weft_tensor *x, weft_norm norm) {
    return weft_nn_group_norm(c, p, x, norm.groups, norm.eps, WEFT_ACT_NONE);
}
static inline weft_tensor *weft_block_norm_silu(weft_ctx *c, weft_params p, weft_tensor *x, weft_norm norm) {
    return weft_nn_group_norm(c, p, x, norm.groups, norm.eps, WEFT_ACT_SILU);
}
/* k odd; same size. */
static inline weft_tensor *weft_block_conv(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int k) {
    return weft_nn_conv2d(c, p, x, out, k, WEFT_CONV_SAME(k));
}

/* Blocks that hold much are run by weft_recompute() (autograd.h). */

/* x (N,H,W,C) → (N,H,W,out): norm1, SiLU, conv1, + time_emb_proj(temb), norm2, SiLU, conv2, + x (through conv_shortcut
 * where C ≠ out). temb: SiLU of the time embedding (N,E), the same for all blocks; NULL: a model without time.
 * skip: not NULL: x is the two side by side. */
weft_tensor *weft_block_resnet(weft_ctx *c, weft_params p, weft_tensor *x, weft_tensor *skip, int64_t out,
                               weft_norm norm, weft_tensor *temb);

/* softmax(q·kᵀ/√d)·v by to_q, to_k, to_v (with biases or without), then to_out.0 (with a bias) + residual.
 * x: (N,T,C); context: (N,S,D), x itself for self-attention; residual: (N,T,C). heads divides C. */
weft_tensor *weft_block_attention(weft_ctx *c, weft_params p, weft_tensor *x, weft_tensor *context, int heads,
                                  bool bias, weft_tensor *residual);

/* Self-attention over the pixels of x (N,H,W,C) behind group_norm, + x. */
weft_tensor *weft_block_pixel_attention(weft_ctx *c, weft_params p, weft_tensor *x, int heads, weft_norm norm);

/* "conv" 3×3 with stride 2. padding 1: on all sides; 0: one row and column at the bottom and right. */
weft_tensor *weft_block_downsample(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int padding);
/* Nearest to (h, w), then "conv" 3×3. */
weft_tensor *weft_block_upsample(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int64_t h, int64_t w);

/* linear_2(SiLU(linear_1(x))) + residual (may be NULL). x: (N,K) → (N,width). */
weft_tensor *weft_block_embedding_mlp(weft_ctx *c, weft_params p, weft_tensor *x, int64_t width,
                                      weft_tensor *residual);

#ifdef __cplusplus
}
#endif
#endif
