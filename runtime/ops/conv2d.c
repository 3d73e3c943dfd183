/* conv2d: y(n,oh,ow,o) = x(n,h,w,c) * W(o,c,kh,kw) + b(o) + row(n,o) + residual(n,oh,ow,o), zeros outside x;
 * oh = (h + top + bottom − kh)/stride + 1, rounded down, and ow alike. */
#include <limits.h>
#include "runtime/ops/ops.h"

const weft_op weft_op_conv2d = { "conv2d", WEFT_KERNEL_conv2d, NULL };

/* Whether x, w and the walk go together; then y's shape. The error is set where not. */
static bool check(weft_ctx *c, const weft_tensor *x, const weft_tensor *w, weft_conv how, int64_t shape[4]) {
    const weft_op *op = &weft_op_conv2d;
    char a[WEFT_TEXT], b[WEFT_TEXT];
    weft_describe(x, a, sizeof a);
    weft_describe(w, b, sizeof b);
    if (x->rank != 4) return weft_op_fail(c, op, WEFT_E_SHAPE, "input %s is not (N, H, W, C)", a);
    if (w->rank != 4) return weft_op_fail(c, op, WEFT_E_SHAPE, "weight %s is not (O, C, kh, kw)", b);
    if (x->shape[3] != w->shape[1])
        return weft_op_fail(c, op, WEFT_E_SHAPE, "input %s has %lld channels, weight %s takes %lld", a, (long long)x->shape[3], b, (long long)w->shape[1]);
    if (how.stride < 1) return weft_op_fail(c, op, WEFT_E_ARGUMENT, "stride %d", how.stride);
    if (w->shape[2] < 1 || w->shape[3] < 1 || w->shape[2] > INT_MAX || w->shape[3] > INT_MAX)
        return weft_op_fail(c, op, WEFT_E_SHAPE, "weight %s has no window", b);
    int64_t h = x->shape[1] + how.top + how.bottom, wide = x->shape[2] + how.left + how.right;
    if (h < w->shape[2] || wide < w->shape[3])
        return weft_op_fail(c, op, WEFT_E_SHAPE, "input %s, padded by %d, %d, %d, %d (top, bottom, left, right), is smaller than the window of weight %s", a,
                            how.top, how.bottom, how.left, how.right, b);
    shape[0] = x->shape[0];
    shape[1] = (h - w->shape[2]) / how.stride + 1;
    shape[2] = (wide - w->shape[3]) / how.stride + 1;
    shape[3] = w->shape[0];
    return weft_op_takes(c, op, x->type) && weft_weight_takes(c, op, w);
}

static void run(weft_ctx *c, weft_tensor *x, weft_tensor *w, weft_tensor *b, weft_conv how, weft_tensor *row, weft_tensor *residual, weft_tensor *y) {
    const weft_op *op = &weft_op_conv2d;
    if (!(x = weft_op_dense(c, op, x))) return;
    weft_storage *packed = weft_weight_pack(c, op, w);
    if (!packed) return;
    weft_conv2d_args a = {
        .type = x->type, .wtype = w->type, .n = x->shape[0], .h = x->shape[1], .w = x->shape[2], .c = x->shape[3],
        .o = y->shape[3], .oh = y->shape[1], .ow = y->shape[2], .kh = (int)w->shape[2], .kw = (int)w->shape[3],
        .stride = how.stride, .pad_top = how.top, .pad_left = how.left, .x = weft_raw(x), .weight = packed->data, .bias = b ? weft_raw(b) : NULL,
        .row = row ? weft_raw(row) : NULL, .residual = residual ? weft_raw(residual) : NULL, .y = weft_raw(y),
    };
    WEFT_OP_RUN(c, op, conv2d, a);
    weft_storage_drop(packed);
}

weft_tensor *weft_conv2d(weft_ctx *c, weft_tensor *x, weft_tensor *w, weft_tensor *b, weft_conv how, weft_tensor *row, weft_tensor *residual) {
    const weft_op *op = &weft_op_conv2d;
    int64_t shape[4];
    if (!WEFT_OP_BEGIN(c, op, x, w) || !check(c, x, w, how, shape)) return NULL;
    if (!weft_op_optional(c, op, x, "bias", &b, 1, &shape[3]) || !weft_op_optional(c, op, x, "row", &row, 2, (const int64_t[]){ shape[0], shape[3] })
        || !weft_op_optional(c, op, x, "residual", &residual, 4, shape)) return NULL;
    weft_tensor *y = weft_tensor_make(c, op->name, x->type, 4, shape);
    if (y && !c->shape_only) run(c, x, w, b, how, row, residual, y);
    return weft_op_end(c, op, y);
}
