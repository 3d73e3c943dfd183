/* conv2d: y(n,oh,ow,o) = x(n,h,w,c) * W(o,c,kh,kw) + b(o) + row(n,o) + residual(n,oh,ow,o), zeros outside x;
 * oh = (h + top + bottom − kh)/stride + 1, rounded down, and ow alike. */
#include <limits.h>
#include "runtime/ops/ops.h"

const weft_op weft_op_conv2d = { "conv2d", WEFT_KERNEL_conv2d, NULL };

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
    weft_storage *packed = weft_weight_pack(c, op, w);
    if (!packed) return NULL;
    weft_conv2d_args a = {
        .type = x->type, .wtype = w->type, .n = x->shape[0], .h = x->shape[1], .w = x->shape[2], .c = x->shape[3],
        .o = shape[3], .oh = shape[1], .ow = shape[2], .kh = (int)w->shape[2], .kw = (int)w->shape[3],
        .stride = how.stride, .pad_top = how.top, .pad_left = how.left, .x = weft_raw(x), .weight = packed->data,
        .bias = weft_raw(b), .row = weft_raw(row), .residual = weft_raw(residual), .y = weft_raw(y),
    };
    c->flops += 2.0 * (double)(a.n * a.oh * a.ow) * (double)a.o * (double)(a.kh * a.kw * a.c);
    WEFT_OP_RUN(c, op, conv2d, a);
    weft_storage_drop(packed);
    return weft_op_end(c, op, y);
}
