/* See blocks.h. Scopes inside the blocks are placed so that the large activations live no longer than they must: at the
 * full resolution of an autoencoder one is 134 MB. */
#include "nodes/blocks.h"

weft_chain weft_chain_begin(weft_ctx *c, int steps) {
    weft_chain chain;
    chain.left = 0;
    if (steps < 0 || steps > WEFT_CHAIN_MAX) {
        weft_fail(c, WEFT_E_INTERNAL, "a chain of %d steps; 0 to %d are possible", steps, WEFT_CHAIN_MAX);
        return chain;
    }
    while (chain.left < steps) chain.scope[chain.left++] = weft_scope_begin(c, (weft_params){ 0 });
    return chain;
}

weft_tensor *weft_chain_next(weft_ctx *c, weft_chain *chain, weft_tensor *x) {
    return chain->left > 0 ? weft_scope_end(c, chain->scope[--chain->left], x) : NULL;
}

/* SiLU(norm2(conv1(SiLU(norm1(x))) + time)): the inner half of a resnet block, of which one tensor remains. */
static weft_tensor *resnet_inner(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, weft_norm norm,
                                 weft_tensor *temb) {
    weft_chain chain = weft_chain_begin(c, 3);
    weft_tensor *h = weft_chain_next(c, &chain, weft_block_norm_silu(c, weft_sub(p, "norm1"), x, norm));
    weft_tensor *time = temb ? weft_nn_linear(c, weft_sub(p, "time_emb_proj"), temb, out, true) : NULL;
    h = weft_nn_conv2d_add(c, weft_sub(p, "conv1"), h, out, 3, WEFT_CONV_SAME(3), time, NULL);
    h = weft_chain_next(c, &chain, h);
    return weft_chain_next(c, &chain, weft_block_norm_silu(c, weft_sub(p, "norm2"), h, norm));
}

weft_tensor *weft_block_resnet(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, weft_norm norm,
                               weft_tensor *temb) {
    weft_scope s = weft_scope_begin(c, p);
    weft_tensor *h = resnet_inner(c, p, x, out, norm, temb);
    if (weft_dim(x, -1) != out) x = weft_block_conv(c, weft_sub(p, "conv_shortcut"), x, out, 1);
    h = weft_nn_conv2d_add(c, weft_sub(p, "conv2"), h, out, 3, WEFT_CONV_SAME(3), NULL, x);
    return weft_scope_end(c, s, h);
}

/* (N,T,C) → (N,T,heads,C/heads), a view. */
static weft_tensor *split_heads(weft_ctx *c, weft_tensor *x, int heads) {
    return weft_reshape(c, x, WEFT_SHAPE(weft_dim(x, 0), weft_dim(x, 1), heads, weft_dim(x, 2) / heads));
}

weft_tensor *weft_block_attention(weft_ctx *c, weft_params p, weft_tensor *x, weft_tensor *context, int heads,
                                  bool bias, weft_tensor *residual) {
    weft_scope s = weft_scope_begin(c, p);
    int64_t width = weft_dim(x, -1);
    weft_scope inner = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor *q = weft_nn_linear(c, weft_sub(p, "to_q"), x, width, bias);
    weft_tensor *k = weft_nn_linear(c, weft_sub(p, "to_k"), context, width, bias);
    weft_tensor *v = weft_nn_linear(c, weft_sub(p, "to_v"), context, width, bias);
    q = split_heads(c, q, heads);
    k = split_heads(c, k, heads);
    v = split_heads(c, v, heads);
    weft_tensor *o = weft_scope_end(c, inner, weft_attention(c, q, k, v, 0, false));
    o = weft_reshape(c, o, WEFT_SHAPE(weft_dim(x, 0), weft_dim(x, 1), width));
    o = weft_nn_linear_act(c, weft_sub(p, "to_out.0"), o, width, true, WEFT_ACT_NONE, residual);
    return weft_scope_end(c, s, o);
}

weft_tensor *weft_block_pixel_attention(weft_ctx *c, weft_params p, weft_tensor *x, int heads, weft_norm norm) {
    weft_scope s = weft_scope_begin(c, p);
    int64_t n = weft_dim(x, 0), h = weft_dim(x, 1), w = weft_dim(x, 2), channels = weft_dim(x, 3);
    weft_tensor *tokens = weft_reshape(c, x, WEFT_SHAPE(n, h * w, channels));
    weft_tensor *y = weft_block_norm(c, weft_sub(p, "group_norm"), tokens, norm);
    y = weft_block_attention(c, p, y, y, heads, true, tokens);
    return weft_scope_end(c, s, weft_reshape(c, y, WEFT_SHAPE(n, h, w, channels)));
}

weft_tensor *weft_block_downsample(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int padding) {
    weft_scope s = weft_scope_begin(c, p);
    weft_conv how = { .stride = 2, .top = padding, .left = padding, .bottom = 1, .right = 1 };
    return weft_scope_end(c, s, weft_nn_conv2d(c, weft_sub(p, "conv"), x, out, 3, how));
}

weft_tensor *weft_block_upsample(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int64_t h, int64_t w) {
    weft_scope s = weft_scope_begin(c, p);
    x = weft_resample(c, x, WEFT_NEAREST, h, w);
    return weft_scope_end(c, s, weft_block_conv(c, weft_sub(p, "conv"), x, out, 3));
}

weft_tensor *weft_block_embedding_mlp(weft_ctx *c, weft_params p, weft_tensor *x, int64_t width,
                                      weft_tensor *residual) {
    weft_scope s = weft_scope_begin(c, p);
    x = weft_nn_linear_act(c, weft_sub(p, "linear_1"), x, width, true, WEFT_ACT_SILU, NULL);
    x = weft_nn_linear_act(c, weft_sub(p, "linear_2"), x, width, true, WEFT_ACT_NONE, residual);
    return weft_scope_end(c, s, x);
}
