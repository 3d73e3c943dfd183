/* x ← x + attn1(norm1 x);  x ← x + attn2(norm2 x, context);  x ← x + ff(norm3 x), a block; see transformer2d.h.
 * The sums ride on the last product of each part. */
#include "nodes/unet/transformer2d.h"

#include "nodes/blocks.h"
#include "runtime/autograd.h"

#define LAYER_NORM_EPS 1e-5
#define GROUP_NORM_EPS 1e-6

/* net.2(GEGLU(net.0.proj(norm x))) + x, four times as wide inside. */
static weft_tensor *feed_forward(weft_ctx *c, weft_params block, weft_tensor *x) {
    weft_params p = weft_sub(block, "ff.net");
    int64_t width = weft_dim(x, -1);
    weft_chain chain = weft_chain_begin(c, 4);
    weft_tensor *h = weft_chain_next(c, &chain, weft_nn_layer_norm(c, weft_sub(block, "norm3"), x, LAYER_NORM_EPS));
    h = weft_chain_next(c, &chain, weft_nn_linear(c, weft_sub(p, "0.proj"), h, 8 * width, true));
    h = weft_chain_next(c, &chain, weft_geglu(c, h));
    return weft_chain_next(c, &chain, weft_nn_linear_act(c, weft_sub(p, "2"), h, width, true, WEFT_ACT_NONE, x));
}

/* x + attn(norm x, context); context NULL: x's own. */
static weft_tensor *attention(weft_ctx *c, weft_params attn, weft_params norm, weft_tensor *x, weft_tensor *context,
                              int heads) {
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor *h = weft_nn_layer_norm(c, norm, x, LAYER_NORM_EPS);
    return weft_scope_end(c, s, weft_block_attention(c, attn, h, context ? context : h, heads, false, x));
}

struct block { weft_params p; int heads; };

/* in: x, context. */
static void run_block(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **out) {
    const struct block *b = user;
    weft_params p = b->p;
    weft_tensor *x = in[0];
    weft_scope s = weft_scope_begin(c, p);
    weft_chain chain = weft_chain_begin(c, 3);
    x = weft_chain_next(c, &chain, attention(c, weft_sub(p, "attn1"), weft_sub(p, "norm1"), x, NULL, b->heads));
    x = weft_chain_next(c, &chain, attention(c, weft_sub(p, "attn2"), weft_sub(p, "norm2"), x, in[1], b->heads));
    x = weft_chain_next(c, &chain, feed_forward(c, p, x));
    out[0] = weft_scope_end(c, s, x);
}

static weft_tensor *transformer_block(weft_ctx *c, weft_params p, weft_tensor *x, weft_tensor *context, int heads) {
    struct block b = { p, heads };
    weft_tensor *y;
    weft_recompute(c, run_block, &b, sizeof b, 2, (weft_tensor *const[]){ x, context }, 1, &y);
    return y;
}

/* proj_in, proj_out: (N,H,W,C) → the same, + residual (may be NULL). */
static weft_tensor *projection(weft_ctx *c, weft_params p, bool linear, weft_tensor *x, weft_tensor *residual) {
    int64_t width = weft_dim(x, -1);
    if (linear) return weft_nn_linear_act(c, p, x, width, true, WEFT_ACT_NONE, residual);
    return weft_nn_conv2d_add(c, p, x, width, 1, WEFT_CONV_SAME(1), NULL, residual);
}

struct entrance { weft_params p; weft_norm norm; bool linear; };

/* Norm and proj_in: (N,H,W,C) → the same. */
static void enter(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **out) {
    const struct entrance *e = user;
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor *y = weft_block_norm(c, weft_sub(e->p, "norm"), in[0], e->norm);
    out[0] = weft_scope_end(c, s, projection(c, weft_sub(e->p, "proj_in"), e->linear, y, NULL));
}

weft_tensor *weft_transformer2d(weft_ctx *c, weft_params p, const weft_transformer *how, weft_tensor *x,
                                weft_tensor *context) {
    weft_scope s = weft_scope_begin(c, p);
    int64_t n = weft_dim(x, 0), h = weft_dim(x, 1), w = weft_dim(x, 2), width = weft_dim(x, 3);
    struct entrance e = { p, { how->norm_groups, GROUP_NORM_EPS }, how->linear_projection };
    weft_tensor *y;
    weft_chain chain = weft_chain_begin(c, how->depth + 1);
    weft_recompute(c, enter, &e, sizeof e, 1, &x, 1, &y);
    y = weft_chain_next(c, &chain, weft_reshape(c, y, WEFT_SHAPE(n, h * w, width)));
    for (int i = 0; i < how->depth; i++) {
        y = transformer_block(c, weft_sub_at(p, "transformer_blocks", i), y, context, how->heads);
        y = weft_chain_next(c, &chain, y);
    }
    y = weft_reshape(c, y, WEFT_SHAPE(n, h, w, width));
    return weft_scope_end(c, s, projection(c, weft_sub(p, "proj_out"), how->linear_projection, y, x));
}
