/* See blocks.h. Scopes inside the blocks are placed so that the large activations live no longer than they must: at the
 * full resolution of an autoencoder one is 134 MB. */
#include "nodes/blocks.h"

#include "runtime/autograd.h"

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

struct resnet { weft_params p; int64_t out; weft_norm norm; };

/* in: x, skip or NULL, temb or NULL. */
static void resnet(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **out) {
    const struct resnet *r = user;
    weft_scope s = weft_scope_begin(c, r->p);
    weft_tensor *x = in[1] ? weft_concat2(c, -1, in[0], in[1]) : in[0];
    weft_tensor *h = resnet_inner(c, r->p, x, r->out, r->norm, in[2]);
    if (weft_dim(x, -1) != r->out) x = weft_block_conv(c, weft_sub(r->p, "conv_shortcut"), x, r->out, 1);
    h = weft_nn_conv2d_add(c, weft_sub(r->p, "conv2"), h, r->out, 3, WEFT_CONV_SAME(3), NULL, x);
    out[0] = weft_scope_end(c, s, h);
}

weft_tensor *weft_block_resnet(weft_ctx *c, weft_params p, weft_tensor *x, weft_tensor *skip, int64_t out,
                               weft_norm norm, weft_tensor *temb) {
    struct resnet r = { p, out, norm };
    weft_tensor *y;
    weft_recompute(c, resnet, &r, sizeof r, 3, (weft_tensor *const[]){ x, skip, temb }, 1, &y);
    return y;
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

struct pixels { weft_params p; int heads; weft_norm norm; };

static void pixel_attention(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **out) {
    const struct pixels *a = user;
    weft_params p = a->p;
    weft_tensor *x = in[0];
    weft_scope s = weft_scope_begin(c, p);
    int64_t n = weft_dim(x, 0), h = weft_dim(x, 1), w = weft_dim(x, 2), channels = weft_dim(x, 3);
    weft_tensor *tokens = weft_reshape(c, x, WEFT_SHAPE(n, h * w, channels));
    weft_tensor *y = weft_block_norm(c, weft_sub(p, "group_norm"), tokens, a->norm);
    y = weft_block_attention(c, p, y, y, a->heads, true, tokens);
    out[0] = weft_scope_end(c, s, weft_reshape(c, y, WEFT_SHAPE(n, h, w, channels)));
}

weft_tensor *weft_block_pixel_attention(weft_ctx *c, weft_params p, weft_tensor *x, int heads, weft_norm norm) {
    struct pixels a = { p, heads, norm };
    weft_tensor *y;
    weft_recompute(c, pixel_attention, &a, sizeof a, 1, &x, 1, &y);
    return y;
}

weft_tensor *weft_block_downsample(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int padding) {
    weft_scope s = weft_scope_begin(c, p);
    weft_conv how = { .stride = 2, .top = padding, .left = padding, .bottom = 1, .right = 1 };
    return weft_scope_end(c, s, weft_nn_conv2d(c, weft_sub(p, "conv"), x, out, 3, how));
}

struct upsample { weft_params p; int64_t out, h, w; };

static void upsample(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **out) {
    const struct upsample *u = user;
    weft_scope s = weft_scope_begin(c, u->p);
    weft_tensor *x = weft_resample(c, in[0], WEFT_NEAREST, u->h, u->w);
    out[0] = weft_scope_end(c, s, weft_block_conv(c, weft_sub(u->p, "conv"), x, u->out, 3));
}

weft_tensor *weft_block_upsample(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int64_t h, int64_t w) {
    struct upsample u = { p, out, h, w };
    weft_tensor *y;
    weft_recompute(c, upsample, &u, sizeof u, 1, &x, 1, &y);
    return y;
}

weft_tensor *weft_block_embedding_mlp(weft_ctx *c, weft_params p, weft_tensor *x, int64_t width,
                                      weft_tensor *residual) {
    weft_scope s = weft_scope_begin(c, p);
    x = weft_nn_linear_act(c, weft_sub(p, "linear_1"), x, width, true, WEFT_ACT_SILU, NULL);
    x = weft_nn_linear_act(c, weft_sub(p, "linear_2"), x, width, true, WEFT_ACT_NONE, residual);
    return weft_scope_end(c, s, x);
}
