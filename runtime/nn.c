/* Layers: the parameters "weight" and "bias" below a place, applied. Weights keep the type of the file; bias, gamma
 * and beta are converted to the type of x. Each opens a scope of its place, so that a message names the layer.
 * An adapter at the place (params.h) works beside the layer.
 * New weights are drawn as PyTorch's layers draw them: uniform ±1/√fan_in, norms 1 and 0.
 */
#include "runtime/ops/ops.h"
#include "runtime/params_internal.h"

static weft_init fan_in(int64_t n) { return (weft_init){ .kind = WEFT_INIT_FAN_IN, .fan_in = (double)n }; }

static weft_tensor *constant(
    weft_ctx *c, weft_params p, const char *name, weft_init_kind kind, int64_t n, weft_dtype type) {
    return param_vector(c, p, name, (weft_init){ .kind = kind }, n, type);
}

/* ---- low-rank adapters: y + scale·up(down(x)) for each of the layer's, from the top tree on ----------------------- */

/* The same place in the tree below; {0} where there is none. */
static weft_params below(weft_params p) { return (weft_params){ p.tree->below, p.tree->nodes[p.node].base }; }

static weft_params first_adapter(weft_params p) {
    while (p.tree && !p.tree->nodes[p.node].adapter) p = below(p);
    return p;
}

/* how NULL: the layer is linear. A 1×1 convolution may have its weights as matrices. */
static weft_tensor *adapted(weft_ctx *c, weft_params p, weft_tensor *x, weft_tensor *y, const weft_conv *how) {
    if (!weft_ok(c)) return NULL;
    for (p = first_adapter(p); p.tree; p = first_adapter(below(p))) {
        const struct param_adapter *a = p.tree->nodes[p.node].adapter;
        weft_tensor *down = p.tree->nodes[a->down].tensor, *up = p.tree->nodes[a->up].tensor;
        weft_scope s = weft_scope_begin(c, p);
        weft_tensor *h = how && weft_rank(down) == 4 ? weft_conv2d(c, x, down, NULL, *how, NULL, NULL)
                             : weft_linear(c, x, down, NULL, WEFT_ACT_NONE, NULL);
        h = weft_affine(c, h, a->scale, 0);
        y = weft_scope_end(c, s, weft_linear(c, h, up, NULL, WEFT_ACT_NONE, y));
    }
    return y;
}

/* act(linear + adapters) + residual */
static weft_tensor *adapted_linear(weft_ctx *c, weft_params p, weft_tensor *x, weft_tensor *w, weft_tensor *b,
    weft_activation act, weft_tensor *residual) {
    if (act == WEFT_ACT_NONE) return adapted(c, p, x, weft_linear(c, x, w, b, act, residual), NULL);
    weft_tensor *y = adapted(c, p, x, weft_linear(c, x, w, b, WEFT_ACT_NONE, NULL), NULL);
    y = weft_activate(c, act, y);
    return residual ? weft_add(c, y, residual) : y;
}

/* ---- layers ------------------------------------------------------------------------------------------------------- */

/* rank: of the weight, 2 or 4. */
static weft_tensor *linear(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int rank, bool bias,
    weft_activation act, weft_tensor *residual) {
    if (!x) return NULL;
    weft_scope s = weft_scope_begin(c, p);
    int64_t in = weft_dim(x, -1);
    weft_tensor *w = weft_param(c, p, "weight", fan_in(in), rank, (const int64_t[]){ out, in, 1, 1 });
    weft_tensor *b = bias ? param_vector(c, p, "bias", fan_in(in), out, weft_type(x)) : NULL;
    if (!weft_ok(c)) return weft_scope_end(c, s, NULL);
    return weft_scope_end(c, s, first_adapter(p).tree ? adapted_linear(c, p, x, w, b, act, residual)
                                                      : weft_linear(c, x, w, b, act, residual));
}

weft_tensor *weft_nn_linear_act(
    weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, bool bias, weft_activation act, weft_tensor *residual) {
    return linear(c, p, x, out, 2, bias, act, residual);
}

weft_tensor *weft_nn_linear(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, bool bias) {
    return linear(c, p, x, out, 2, bias, WEFT_ACT_NONE, NULL);
}

weft_tensor *weft_nn_pointwise(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, bool bias) {
    return linear(c, p, x, out, 4, bias, WEFT_ACT_NONE, NULL);
}

weft_tensor *weft_nn_conv2d_add(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int k, weft_conv how,
    weft_tensor *row, weft_tensor *residual) {
    if (!x) return NULL;
    weft_scope s = weft_scope_begin(c, p);
    int64_t in = weft_dim(x, -1);
    weft_tensor *w = weft_param(c, p, "weight", fan_in(in * k * k), WEFT_SHAPE(out, in, k, k));
    weft_tensor *b = param_vector(c, p, "bias", fan_in(in * k * k), out, weft_type(x));
    weft_tensor *y = weft_ok(c) ? weft_conv2d(c, x, w, b, how, row, residual) : NULL;
    return weft_scope_end(c, s, adapted(c, p, x, y, &how));
}

weft_tensor *weft_nn_conv2d(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int k, weft_conv how) {
    return weft_nn_conv2d_add(c, p, x, out, k, how, NULL, NULL);
}

weft_tensor *weft_nn_group_norm(
    weft_ctx *c, weft_params p, weft_tensor *x, int groups, double eps, weft_activation act) {
    if (!x) return NULL;
    weft_scope s = weft_scope_begin(c, p);
    weft_tensor *gamma = constant(c, p, "weight", WEFT_INIT_ONES, weft_dim(x, -1), weft_type(x));
    weft_tensor *beta = constant(c, p, "bias", WEFT_INIT_ZEROS, weft_dim(x, -1), weft_type(x));
    return weft_scope_end(c, s, weft_ok(c) ? weft_group_norm(c, x, groups, eps, gamma, beta, act) : NULL);
}

weft_tensor *weft_nn_layer_norm(weft_ctx *c, weft_params p, weft_tensor *x, double eps) {
    if (!x) return NULL;
    weft_scope s = weft_scope_begin(c, p);
    weft_tensor *gamma = constant(c, p, "weight", WEFT_INIT_ONES, weft_dim(x, -1), weft_type(x));
    weft_tensor *beta = constant(c, p, "bias", WEFT_INIT_ZEROS, weft_dim(x, -1), weft_type(x));
    return weft_scope_end(c, s, weft_ok(c) ? weft_layer_norm(c, x, eps, gamma, beta) : NULL);
}

weft_tensor *weft_nn_embedding(
    weft_ctx *c, weft_params p, weft_tensor *ids, int64_t rows, int64_t width, double std, weft_dtype type) {
    if (!ids) return NULL;
    weft_scope s = weft_scope_begin(c, p);
    weft_tensor *table = weft_param(
        c, p, "weight", (weft_init){ .kind = WEFT_INIT_NORMAL, .std = std }, WEFT_SHAPE(rows, width));
    return weft_scope_end(c, s, weft_ok(c) ? weft_embedding(c, ids, table, type) : NULL);
}
