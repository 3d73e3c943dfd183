/* Pictures, (N,H,W,C): resample to another size, pad or crop. */
#include "runtime/ops/gradient.h"

static void resample_backward(weft_ctx *c, const weft_entry *e) {
    const weft_resample_args *f = e->args;
    weft_tensor *dy = weft_dense_dy(c, e), *dx = dy ? weft_gradient_new(c, e, 0, NULL) : NULL;
    if (!dx) return;
    weft_resample_grad_args a = { .type = f->type, .mode = f->mode, .n = f->n, .h = f->h, .w = f->w, .c = f->c,
                                  .oh = f->oh, .ow = f->ow, .dy = weft_raw(dy), .dx = weft_raw(dx) };
    WEFT_GRADIENT_RUN(c, e, resample_grad, a);
    weft_give(c, e, 0, dx);
}

static void pad_backward(weft_ctx *c, const weft_entry *e) {
    const weft_pad_args *f = e->args;
    weft_tensor *dy = weft_dense_dy(c, e), *dx = dy ? weft_gradient_new(c, e, 0, NULL) : NULL;
    if (!dx) return;
    weft_pad_grad_args a = { .type = f->type, .mode = f->mode, .n = f->n, .h = f->h, .w = f->w, .c = f->c,
                             .top = f->top, .bottom = f->bottom, .left = f->left, .right = f->right,
                             .dy = weft_raw(dy), .dx = weft_raw(dx) };
    WEFT_GRADIENT_RUN(c, e, pad_grad, a);
    weft_give(c, e, 0, dx);
}

const weft_op weft_op_resample = { "resample", WEFT_KERNEL_resample, resample_backward };
const weft_op weft_op_pad = { "pad", WEFT_KERNEL_pad, pad_backward };

static bool is_picture(weft_ctx *c, const weft_op *op, const weft_tensor *x) {
    if (x->rank != 4) weft_op_fail(c, op, WEFT_E_SHAPE, "input %s is not (N, H, W, C)", DESCRIBE(x));
    return x->rank == 4;
}

weft_tensor *weft_resample(weft_ctx *c, weft_tensor *x, weft_resample_mode mode, int64_t oh, int64_t ow) {
    const weft_op *op = &weft_op_resample;
    if (!WEFT_OP_BEGIN(c, op, x) || !is_picture(c, op, x) || !weft_op_takes(c, op, x->type)) return NULL;
    if ((unsigned)mode >= WEFT_RESAMPLE_COUNT) return weft_op_fail(c, op, WEFT_E_ARGUMENT, "%d is no mode", (int)mode);
    if (oh < 1 || ow < 1 || x->shape[1] < 1 || x->shape[2] < 1)
        return weft_op_fail(c, op, WEFT_E_SHAPE, "input %s to %" PRId64 "×%" PRId64 ": no picture without a pixel",
                            DESCRIBE(x), oh, ow);
    if (!(x = weft_op_dense(c, op, x))) return NULL;
    weft_tensor *y = weft_tensor_make(c, op->name, x->type, WEFT_SHAPE(x->shape[0], oh, ow, x->shape[3]));
    if (!y) return NULL;
    weft_resample_args a = { .type = x->type, .mode = mode, .n = x->shape[0], .h = x->shape[1], .w = x->shape[2],
                             .c = x->shape[3], .oh = oh, .ow = ow, .x = weft_raw(x), .y = weft_raw(y) };
    WEFT_OP_RUN(c, op, resample, a);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(x), 0, NULL);
    return weft_op_end(c, op, y);
}

/* Whether the mode can put these two pads beside `size` values. */
static bool pads_fit(weft_pad_mode mode, int64_t size, int before, int after) {
    if (size + before + after < 0) return false;
    if (mode == WEFT_PAD_CONSTANT || (!before && !after)) return true;
    if (before < 0 || after < 0) return false;
    return mode == WEFT_PAD_REPLICATE ? size > 0 : before < size && after < size;
}

weft_tensor *weft_pad(weft_ctx *c, weft_tensor *x, weft_pad_mode mode, int top, int bottom, int left, int right,
                      double value) {
    static const char *const name[WEFT_PAD_COUNT] = { "constant", "replicate", "reflect" };
    const weft_op *op = &weft_op_pad;
    if (!WEFT_OP_BEGIN(c, op, x) || !is_picture(c, op, x) || !weft_op_takes(c, op, x->type)) return NULL;
    if ((unsigned)mode >= WEFT_PAD_COUNT) return weft_op_fail(c, op, WEFT_E_ARGUMENT, "%d is no mode", (int)mode);
    if (!pads_fit(mode, x->shape[1], top, bottom) || !pads_fit(mode, x->shape[2], left, right))
        return weft_op_fail(c, op, WEFT_E_SHAPE, "input %s cannot be padded by %d, %d, %d, %d (top, bottom, left, "
                            "right) in mode %s", DESCRIBE(x), top, bottom, left, right, name[mode]);
    if (!(x = weft_op_dense(c, op, x))) return NULL;
    const int64_t h = x->shape[1] + top + bottom, w = x->shape[2] + left + right;
    weft_tensor *y = weft_tensor_make(c, op->name, x->type, WEFT_SHAPE(x->shape[0], h, w, x->shape[3]));
    if (!y) return NULL;
    weft_pad_args a = { .type = x->type, .mode = mode, .n = x->shape[0], .h = x->shape[1], .w = x->shape[2],
                        .c = x->shape[3], .top = top, .bottom = bottom, .left = left, .right = right, .value = value,
                        .x = weft_raw(x), .y = weft_raw(y) };
    WEFT_OP_RUN(c, op, pad, a);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(x), 0, NULL);
    return weft_op_end(c, op, y);
}
