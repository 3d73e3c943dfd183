/* Norms: group_norm over a group's channels and all pixels, layer_norm and softmax over the last dimension.
 * y = act((x − mean)/√(var + eps)·gamma + beta), the variance biased. */
#include <math.h>
#include "runtime/ops/gradient.h"

/* The gradients: operands x, gamma, beta; kept x, gamma, beta, mean, rstd. A result nobody wants is NULL to the
 * kernel. */

static weft_tensor *wanted(weft_ctx *c, const weft_entry *e, int i, weft_tensor *reuse) {
    return weft_wants(e, i) ? weft_gradient_new(c, e, i, reuse) : NULL;
}

static void group_norm_backward(weft_ctx *c, const weft_entry *e) {
    const weft_group_norm_args *f = e->args;
    weft_tensor *dy = weft_dense_dy(c, e), *dx = wanted(c, e, 0, dy);
    weft_tensor *dgamma = wanted(c, e, 1, NULL), *dbeta = wanted(c, e, 2, NULL);
    if (!weft_ok(c)) return;
    weft_group_norm_grad_args a = {
        .type = f->type, .n = f->n, .pixels = f->pixels, .c = f->c, .groups = f->groups, .act = f->act,
        .x = weft_raw(weft_kept(e, 0)), .gamma = weft_raw(weft_kept(e, 1)), .beta = weft_raw(weft_kept(e, 2)),
        .mean = weft_raw(weft_kept(e, 3)), .rstd = weft_raw(weft_kept(e, 4)), .dy = weft_raw(dy),
        .dx = weft_raw(dx), .dgamma = weft_raw(dgamma), .dbeta = weft_raw(dbeta),
    };
    WEFT_GRADIENT_RUN(c, e, group_norm_grad, a);
    weft_give(c, e, 0, dx);
    weft_give(c, e, 1, dgamma);
    weft_give(c, e, 2, dbeta);
}

static void layer_norm_backward(weft_ctx *c, const weft_entry *e) {
    const weft_layer_norm_args *f = e->args;
    weft_tensor *dy = weft_dense_dy(c, e), *dx = wanted(c, e, 0, dy);
    weft_tensor *dgamma = wanted(c, e, 1, NULL), *dbeta = wanted(c, e, 2, NULL);
    if (!weft_ok(c)) return;
    weft_layer_norm_grad_args a = {
        .type = f->type, .rows = f->rows, .c = f->c, .x = weft_raw(weft_kept(e, 0)), .gamma = weft_raw(weft_kept(e, 1)),
        .mean = weft_raw(weft_kept(e, 3)), .rstd = weft_raw(weft_kept(e, 4)), .dy = weft_raw(dy), .dx = weft_raw(dx),
        .dgamma = weft_raw(dgamma), .dbeta = weft_raw(dbeta),
    };
    WEFT_GRADIENT_RUN(c, e, layer_norm_grad, a);
    weft_give(c, e, 0, dx);
    weft_give(c, e, 1, dgamma);
    weft_give(c, e, 2, dbeta);
}

static void softmax_backward(weft_ctx *c, const weft_entry *e) {
    const weft_softmax_args *f = e->args;
    weft_tensor *dy = weft_dense_dy(c, e), *dx = wanted(c, e, 0, dy);
    if (!dx) return;
    weft_softmax_grad_args a = { .type = f->type, .rows = f->rows, .c = f->c, .scale = f->scale,
                                 .y = weft_raw(weft_kept(e, 0)), .dy = weft_raw(dy), .dx = weft_raw(dx) };
    WEFT_GRADIENT_RUN(c, e, softmax_grad, a);
    weft_give(c, e, 0, dx);
}

const weft_op weft_op_group_norm = { "group_norm", WEFT_KERNEL_group_norm, group_norm_backward };
const weft_op weft_op_layer_norm = { "layer_norm", WEFT_KERNEL_layer_norm, layer_norm_backward };
const weft_op weft_op_softmax = { "softmax", WEFT_KERNEL_softmax, softmax_backward };

/* The product of the sizes of dimensions [first, last). */
static int64_t product(const weft_tensor *x, int first, int last) {
    int64_t n = 1;
    for (int i = first; i < last; i++) n *= x->shape[i];
    return n;
}

/* Whether x has a last dimension; the error is set where it has none. */
static bool has_rows(weft_ctx *c, const weft_op *op, const weft_tensor *x) {
    if (x->rank < 1) weft_op_fail(c, op, WEFT_E_SHAPE, "a single value has no dimension to go over");
    return x->rank >= 1;
}

/* eps and the pair of gamma and beta, each (channels); the error is set where they are wrong. */
static bool check_scale(weft_ctx *c, const weft_op *op, const weft_tensor *x, double eps, weft_tensor **gamma,
                        weft_tensor **beta) {
    const int64_t channels = x->shape[x->rank - 1];
    if (!(eps >= 0) || isinf(eps)) weft_op_fail(c, op, WEFT_E_ARGUMENT, "eps %g; it is 0 or more", eps);
    else if (!*gamma != !*beta) weft_op_fail(c, op, WEFT_E_ARGUMENT, "gamma and beta are given both or not at all");
    return weft_ok(c) && weft_op_optional(c, op, x, "gamma", gamma, 1, &channels)
        && weft_op_optional(c, op, x, "beta", beta, 1, &channels);
}

weft_tensor *weft_group_norm(weft_ctx *c, weft_tensor *x, int groups, double eps, weft_tensor *gamma, weft_tensor *beta,
                             weft_activation act) {
    const weft_op *op = &weft_op_group_norm;
    if (!WEFT_OP_BEGIN(c, op, x)) return NULL;
    if (x->rank < 2) return weft_op_fail(c, op, WEFT_E_SHAPE, "input %s is not (N, H, W, C) or (N, T, C)", DESCRIBE(x));
    const int64_t channels = x->shape[x->rank - 1];
    if (groups < 1 || channels % groups)
        return weft_op_fail(c, op, WEFT_E_SHAPE, "the %" PRId64 " channels of %s do not divide into %d groups",
                            channels, DESCRIBE(x), groups);
    if ((unsigned)act >= WEFT_ACT_COUNT) return weft_op_fail(c, op, WEFT_E_ARGUMENT, "%d is no activation", (int)act);
    if (!check_scale(c, op, x, eps, &gamma, &beta)) return NULL;
    weft_tensor *y = weft_op_like(c, op, &x), *mean = NULL, *rstd = NULL;
    if (y && weft_records(c, WEFT_TENSORS(x, gamma, beta))) {
        mean = weft_tensor_make(c, op->name, x->type, WEFT_SHAPE(x->shape[0], groups));
        rstd = weft_tensor_make(c, op->name, x->type, WEFT_SHAPE(x->shape[0], groups));
    }
    if (!y || !weft_ok(c)) return NULL;
    weft_group_norm_args a = {
        .type = x->type, .n = x->shape[0], .pixels = product(x, 1, x->rank - 1), .c = channels, .groups = groups,
        .eps = eps, .act = act, .x = weft_raw(x), .gamma = weft_raw(gamma), .beta = weft_raw(beta), .y = weft_raw(y),
        .mean = weft_raw(mean), .rstd = weft_raw(rstd),
    };
    WEFT_OP_RUN(c, op, group_norm, a);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(x, gamma, beta), WEFT_TENSORS(x, gamma, beta, mean, rstd));
    return weft_op_end(c, op, y);
}

weft_tensor *weft_layer_norm(weft_ctx *c, weft_tensor *x, double eps, weft_tensor *gamma, weft_tensor *beta) {
    const weft_op *op = &weft_op_layer_norm;
    if (!WEFT_OP_BEGIN(c, op, x) || !has_rows(c, op, x) || !check_scale(c, op, x, eps, &gamma, &beta)) return NULL;
    weft_tensor *y = weft_op_like(c, op, &x), *mean = NULL, *rstd = NULL;
    const int64_t rows = product(x, 0, x->rank - 1);
    if (y && weft_records(c, WEFT_TENSORS(x, gamma, beta))) {
        mean = weft_tensor_make(c, op->name, x->type, 1, &rows);
        rstd = weft_tensor_make(c, op->name, x->type, 1, &rows);
    }
    if (!y || !weft_ok(c)) return NULL;
    weft_layer_norm_args a = {
        .type = x->type, .rows = rows, .c = x->shape[x->rank - 1], .eps = eps, .x = weft_raw(x),
        .gamma = weft_raw(gamma), .beta = weft_raw(beta), .y = weft_raw(y), .mean = weft_raw(mean),
        .rstd = weft_raw(rstd),
    };
    WEFT_OP_RUN(c, op, layer_norm, a);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(x, gamma, beta), WEFT_TENSORS(x, gamma, beta, mean, rstd));
    return weft_op_end(c, op, y);
}

weft_tensor *weft_softmax(weft_ctx *c, weft_tensor *x, double scale) {
    const weft_op *op = &weft_op_softmax;
    if (!WEFT_OP_BEGIN(c, op, x) || !has_rows(c, op, x)) return NULL;
    if (!isfinite(scale)) return weft_op_fail(c, op, WEFT_E_ARGUMENT, "scale %g", scale);
    weft_tensor *y = weft_op_like(c, op, &x);
    if (!y) return NULL;
    weft_softmax_args a = { .type = x->type, .rows = product(x, 0, x->rank - 1), .c = x->shape[x->rank - 1],
                            .scale = scale, .x = weft_raw(x), .y = weft_raw(y) };
    WEFT_OP_RUN(c, op, softmax, a);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(x), WEFT_TENSORS(y));
    return weft_op_end(c, op, y);
}
