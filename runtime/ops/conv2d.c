/* conv2d: y(n,oh,ow,o) = x(n,h,w,c) * W(o,c,kh,kw) + b(o) + row(n,o) + residual(n,oh,ow,o), zeros outside x;
 * oh = (h + top + bottom − kh)/stride + 1, rounded down, and ow alike. */
#include <limits.h>
#include "runtime/ops/gradient.h"

static void conv2d_backward(weft_ctx *c, const weft_entry *e);

const weft_op weft_op_conv2d = { "conv2d", WEFT_KERNEL_conv2d, conv2d_backward };

static bool check_weight(weft_ctx *c, const weft_tensor *x, const weft_tensor *w) {
    const weft_op *op = &weft_op_conv2d;
    if (x->rank != 4) weft_op_fail(c, op, WEFT_E_SHAPE, "input %s is not (N, H, W, C)", DESCRIBE(x));
    else if (w->rank != 4) weft_op_fail(c, op, WEFT_E_SHAPE, "weight %s is not (O, C, kh, kw)", DESCRIBE(w));
    else if (x->shape[3] != w->shape[1])
        weft_op_fail(c, op, WEFT_E_SHAPE, "input %s has %" PRId64 " channels, weight %s takes %" PRId64, DESCRIBE(x),
                     x->shape[3], DESCRIBE(w), w->shape[1]);
    else if (w->shape[2] < 1 || w->shape[3] < 1 || w->shape[2] > INT_MAX || w->shape[3] > INT_MAX)
        weft_op_fail(c, op, WEFT_E_SHAPE, "weight %s has no window", DESCRIBE(w));
    return weft_op_takes(c, op, x->type) && weft_weight_takes(c, op, w);
}

/* y's shape; false, with the error set, where the padded input is smaller than the window. */
static bool walk(weft_ctx *c, const weft_tensor *x, const weft_tensor *w, weft_conv how, int64_t shape[4]) {
    const weft_op *op = &weft_op_conv2d;
    int64_t h = x->shape[1] + how.top + how.bottom - w->shape[2];
    int64_t wide = x->shape[2] + how.left + how.right - w->shape[3];
    if (how.stride < 1) weft_op_fail(c, op, WEFT_E_ARGUMENT, "stride %d; it is 1 or more", how.stride);
    else if (h < 0 || wide < 0)
        weft_op_fail(c, op, WEFT_E_SHAPE, "input %s, padded by %d, %d, %d, %d (top, bottom, left, right), is smaller "
                     "than the window of weight %s", DESCRIBE(x), how.top, how.bottom, how.left, how.right,
                     DESCRIBE(w));
    if (!weft_ok(c)) return false;
    shape[0] = x->shape[0];
    shape[1] = h / how.stride + 1;
    shape[2] = wide / how.stride + 1;
    shape[3] = w->shape[0];
    return true;
}

/* ---- the gradient: operands x, w, b, row, residual; kept x where w wants one, w where x does --------------------- */

static double products(const weft_conv2d_args *f) {
    return 2.0 * (double)(f->n * f->oh * f->ow) * (double)f->o * (double)(f->kh * f->kw * f->c);
}

static void backward_x(weft_ctx *c, const weft_entry *e, const weft_tensor *dy) {
    const weft_conv2d_args *f = e->args;
    weft_tensor *dx = weft_gradient_new(c, e, 0, NULL);
    weft_storage *packed = dx ? weft_weight_pack_back(c, e->op, weft_kept(e, 1), f->wtype) : NULL;
    if (!packed) return;
    weft_conv2d_grad_input_args a = {
        .type = f->type, .wtype = f->wtype, .n = f->n, .h = f->h, .w = f->w, .c = f->c, .o = f->o, .oh = f->oh,
        .ow = f->ow, .kh = f->kh, .kw = f->kw, .stride = f->stride, .pad_top = f->pad_top, .pad_left = f->pad_left,
        .dy = weft_raw(dy), .weight = packed->data, .dx = weft_raw(dx),
    };
    c->flops += products(f);
    WEFT_GRADIENT_RUN(c, e, conv2d_grad_input, a);
    weft_storage_drop(packed);
    weft_give(c, e, 0, dx);
}

static void backward_w(weft_ctx *c, const weft_entry *e, const weft_tensor *dy) {
    const weft_conv2d_args *f = e->args;
    bool adds;
    weft_tensor *dw = weft_gradient_begin(c, e, 1, f->type, &adds);
    if (!dw) return;
    weft_conv2d_grad_weight_args a = {
        .type = f->type, .n = f->n, .h = f->h, .w = f->w, .c = f->c, .o = f->o, .oh = f->oh, .ow = f->ow,
        .kh = f->kh, .kw = f->kw, .stride = f->stride, .pad_top = f->pad_top, .pad_left = f->pad_left,
        .accumulate = adds, .x = weft_raw(weft_kept(e, 0)), .dy = weft_raw(dy), .dw = weft_raw(dw),
    };
    c->flops += products(f);
    WEFT_GRADIENT_RUN(c, e, conv2d_grad_weight, a);
    weft_gradient_end(c, e, 1, dw);
}

static void conv2d_backward(weft_ctx *c, const weft_entry *e) {
    weft_tensor *dy = weft_dense_dy(c, e);
    if (!dy) return;
    if (weft_wants(e, 0)) backward_x(c, e, dy);
    if (weft_wants(e, 1)) backward_w(c, e, dy);
    weft_give_sum(c, e, 2, dy);
    if (weft_wants(e, 3)) {
        weft_tensor *pixels = weft_reshape(c, dy, WEFT_SHAPE(dy->shape[0], dy->shape[1] * dy->shape[2], dy->shape[3]));
        weft_give(c, e, 3, weft_reduce(c, WEFT_REDUCE_SUM, pixels, 1));
    }
    weft_give(c, e, 4, e->dy);
}

weft_tensor *weft_conv2d(weft_ctx *c, weft_tensor *x, weft_tensor *w, weft_tensor *b, weft_conv how, weft_tensor *row,
                         weft_tensor *residual) {
    const weft_op *op = &weft_op_conv2d;
    int64_t shape[4];
    if (!WEFT_OP_BEGIN(c, op, x, w) || !check_weight(c, x, w) || !walk(c, x, w, how, shape)) return NULL;
    if (!weft_op_optional(c, op, x, "bias", &b, 1, &shape[3])) return NULL;
    if (!weft_op_optional(c, op, x, "row", &row, 2, (const int64_t[]){ shape[0], shape[3] })) return NULL;
    if (!weft_op_optional(c, op, x, "residual", &residual, 4, shape)) return NULL;
    weft_tensor *y = weft_tensor_make(c, op->name, x->type, 4, shape);
    if (!y || c->shape_only) return weft_op_end(c, op, y);
    if (!(x = weft_op_dense(c, op, x))) return NULL;
    const weft_dtype wtype = weft_weight_type(c, w, x->type);
    weft_storage *packed = weft_weight_pack(c, op, w, wtype);
    if (!packed) return NULL;
    weft_conv2d_args a = {
        .type = x->type, .wtype = wtype, .n = x->shape[0], .h = x->shape[1], .w = x->shape[2], .c = x->shape[3],
        .o = shape[3], .oh = shape[1], .ow = shape[2], .kh = (int)w->shape[2], .kw = (int)w->shape[3],
        .stride = how.stride, .pad_top = how.top, .pad_left = how.left, .x = weft_raw(x), .weight = packed->data,
        .bias = weft_raw(b), .row = weft_raw(row), .residual = weft_raw(residual), .y = weft_raw(y),
    };
    c->flops += products(&a);
    WEFT_OP_RUN(c, op, conv2d, a);
    weft_storage_drop(packed);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(x, w, b, row, residual),
                 WEFT_TENSORS(weft_requires_grad(w) ? x : NULL, weft_requires_grad(x) ? w : NULL));
    return weft_op_end(c, op, y);
}
