/* conv2d and its two gradients.
 *
 * One-tap convolutions of stride 1 are gemms. The gradient by the input of a convolution of stride 1 is a convolution
 * of dy with the weights as they are packed for it; of a larger stride, cuDNN's own, which wants the weights the first
 * way round. Types that differ meet in f32.
 */
#include "kernels/cuda/products.h"

static bool is_float(weft_dtype t) { return t == WEFT_F32 || t == WEFT_F16 || t == WEFT_BF16; }

/* One tap that sees the pixel itself. */
static bool is_pointwise(int64_t h, int64_t w, int64_t oh, int64_t ow, int kh, int kw, int stride, int top, int left) {
    return kh == 1 && kw == 1 && stride == 1 && top == 0 && left == 0 && h == oh && w == ow;
}

/* ---- forward ------------------------------------------------------------------------------------------------ */

static cuda_conv dnn_conv(const weft_conv2d_args *a) {
    return (cuda_conv){ .kind = CUDA_CONV_FORWARD, .type = a->type, .n = a->n, .h = a->h, .w = a->w, .c = a->c,
                        .o = a->o, .oh = a->oh, .ow = a->ow, .kh = a->kh, .kw = a->kw, .stride = a->stride,
                        .pad_top = a->pad_top, .pad_left = a->pad_left, .x = a->x, .weight = a->weight, .y = a->y };
}

/* cuDNN's convolution, and what is added to it in a pass of ours: in place, but where y holds the residual. */
static int conv_and_tail(const weft_env *env, const char *who, const weft_conv2d_args *a) {
    const int64_t pixels = a->n * a->oh * a->ow;
    cuda_conv c = dnn_conv(a);
    cuda_scratch plain = { 0 };
    int status = WEFT_K_OK;
    if (a->residual == a->y) {
        c.y = NULL;
        if ((status = cuda_dnn_can(env, who, &c))) return status;
        if ((status = cuda_scratch_new(env, (size_t)(pixels * a->o) * weft_dtype_size(a->type), &plain))) return status;
        c.y = plain.p;
    }
    status = cuda_dnn_conv(env, who, &c);
    if (!status && (a->bias || a->row || a->residual)) {
        const cuda_tail tail = { .type = a->type, .d_type = a->type, .m = pixels, .n = a->o, .d = c.y, .d_row = a->o,
                                 .bias = a->bias, .row = a->row, .rows_per_row = a->oh * a->ow, .residual = a->residual,
                                 .residual_row = a->o, .y = a->y, .y_row = a->o };
        status = cuda_tail_run(env, who, &tail);
    }
    cuda_scratch_free(env, &plain);
    return status;
}

/* With all operands of one type: cuDNN with everything in one graph, or with a pass behind it, or our own tiles. Only
 * the second rounds twice; no ready-made engine of cuDNN's adds a row of each image. */
static int conv(const weft_env *env, const char *who, const weft_conv2d_args *a) {
    int status = WEFT_K_NO_CASE;
    if (a->bias && !a->row && a->residual != a->y) {
        cuda_conv c = dnn_conv(a);
        c.bias = a->bias;
        c.residual = a->residual;
        status = cuda_dnn_conv(env, who, &c);
    }
    if (status == WEFT_K_NO_CASE) status = conv_and_tail(env, who, a);
    return status == WEFT_K_NO_CASE ? cuda_tile_conv(env, who, a) : status;
}

/* Through f32: f32 weights for f32 activations; or all in f32, and the rest added in one pass that rounds. */
static int mixed_conv(const weft_env *env, const char *who, const weft_conv2d_args *a) {
    const int64_t pixels = a->n * a->oh * a->ow;
    int64_t taps = (int64_t)a->kh * a->kw * a->c, row = a->n * a->h * a->w * a->c;
    weft_conv2d_args f = *a;
    cuda_scratch x = { 0 }, w = { 0 }, y = { 0 };
    f.type = f.wtype = WEFT_F32;
    int status = cuda_to_f32(env, a->wtype, a->o, taps, &taps, &f.weight, &w);
    if (!status) status = cuda_to_f32(env, a->type, 1, row, &row, &f.x, &x);
    if (!status && a->type != WEFT_F32) {
        f.bias = f.row = f.residual = NULL;
        status = cuda_scratch_new(env, (size_t)(pixels * a->o) * sizeof(float), &y);
        f.y = y.p;
    }
    if (!status) status = conv(env, who, &f);
    if (!status && a->type != WEFT_F32) {
        const cuda_tail tail = { .type = a->type, .d_type = WEFT_F32, .m = pixels, .n = a->o, .d = y.p, .d_row = a->o,
                                 .bias = a->bias, .row = a->row, .rows_per_row = a->oh * a->ow, .residual = a->residual,
                                 .residual_row = a->o, .y = a->y, .y_row = a->o };
        status = cuda_tail_run(env, who, &tail);
    }
    cuda_scratch_free(env, &y);
    cuda_scratch_free(env, &x);
    cuda_scratch_free(env, &w);
    return status;
}

static int any_conv(const weft_env *env, const char *who, const weft_conv2d_args *a) {
    if (a->n * a->oh * a->ow < 1 || a->o < 1) return WEFT_K_OK;
    if (is_pointwise(a->h, a->w, a->oh, a->ow, a->kh, a->kw, a->stride, a->pad_top, a->pad_left)) {
        const weft_gemm_args gemm = { .type = a->type, .wtype = a->wtype, .m = a->n * a->h * a->w, .n = a->o, .k = a->c,
                                      .x = a->x, .ldx = a->c, .w = a->weight, .bias = a->bias, .residual = a->residual,
                                      .ldr = a->o, .y = a->y, .ldy = a->o };
        return cuda_linear(env, who, &gemm, a->row, a->h * a->w);
    }
    return a->type == a->wtype ? conv(env, who, a) : mixed_conv(env, who, a);
}

int weft_cuda_conv2d(const weft_env *env, const weft_conv2d_args *a) {
    if (!is_float(a->type) || !is_float(a->wtype)) return WEFT_K_NO_TYPE;
    if (a->stride < 1 || a->kh < 1 || a->kw < 1) return WEFT_K_NO_CASE;
    return any_conv(env, "conv2d", a);
}

/* ---- the gradient by the input ------------------------------------------------------------------------------ */

static const char *const by_input = "conv2d_grad_input";

/* W(o, tap, c) from what is packed, W'(c, taps − 1 − tap, o). */
static int turn_back(const weft_env *env, const weft_conv2d_grad_input_args *a, void *weight) {
    const int64_t taps = (int64_t)a->kh * a->kw;
    const char *last = (const char *)a->weight + (size_t)((taps - 1) * a->o) * weft_dtype_size(a->type);
    const weft_copy_args copy = { .src_type = a->type, .dst_type = a->type, .rank = 3, .shape = { a->o, taps, a->c },
                                  .src_stride = { 1, -a->o, taps * a->o }, .dst_stride = { taps * a->c, a->c, 1 },
                                  .src = last, .dst = weight };
    return weft_cuda_copy(env, &copy);
}

static int grad_input(const weft_env *env, const weft_conv2d_grad_input_args *a) {
    cuda_conv c = { .kind = CUDA_CONV_GRAD_INPUT, .type = a->type, .n = a->n, .h = a->h, .w = a->w, .c = a->c,
                    .o = a->o, .oh = a->oh, .ow = a->ow, .kh = a->kh, .kw = a->kw, .stride = a->stride,
                    .pad_top = a->pad_top, .pad_left = a->pad_left, .x = a->dx, .y = a->dy };
    cuda_scratch weight = { 0 };
    int status = cuda_dnn_can(env, by_input, &c);
    if (!status)
        status = cuda_scratch_new(env, (size_t)(a->o * a->kh * a->kw * a->c) * weft_dtype_size(a->type), &weight);
    if (!status) status = turn_back(env, a, weight.p);
    c.weight = weight.p;
    if (!status) status = cuda_dnn_conv(env, by_input, &c);
    cuda_scratch_free(env, &weight);
    return status == WEFT_K_NO_CASE ? cuda_tile_conv_grad_input(env, by_input, a) : status;
}

static int mixed_grad_input(const weft_env *env, const weft_conv2d_grad_input_args *a) {
    int64_t taps = (int64_t)a->kh * a->kw * a->o, row = a->n * a->oh * a->ow * a->o, count = a->n * a->h * a->w * a->c;
    weft_conv2d_grad_input_args f = *a;
    cuda_scratch dy = { 0 }, w = { 0 }, dx = { 0 };
    f.type = f.wtype = WEFT_F32;
    int status = cuda_to_f32(env, a->wtype, a->c, taps, &taps, &f.weight, &w);
    if (!status) status = cuda_to_f32(env, a->type, 1, row, &row, &f.dy, &dy);
    if (!status && a->type != WEFT_F32) {
        status = cuda_scratch_new(env, (size_t)count * sizeof(float), &dx);
        f.dx = dx.p;
    }
    if (!status) status = weft_cuda_conv2d_grad_input(env, &f);
    if (!status && a->type != WEFT_F32) {
        const weft_copy_args copy = { .src_type = WEFT_F32, .dst_type = a->type, .rank = 1, .shape = { count },
                                      .src_stride = { 1 }, .dst_stride = { 1 }, .src = dx.p, .dst = a->dx };
        status = weft_cuda_copy(env, &copy);
    }
    cuda_scratch_free(env, &dx);
    cuda_scratch_free(env, &dy);
    cuda_scratch_free(env, &w);
    return status;
}

int weft_cuda_conv2d_grad_input(const weft_env *env, const weft_conv2d_grad_input_args *a) {
    if (!is_float(a->type) || !is_float(a->wtype)) return WEFT_K_NO_TYPE;
    if (a->stride < 1 || a->kh < 1 || a->kw < 1) return WEFT_K_NO_CASE;
    if (a->n * a->h * a->w < 1 || a->c < 1) return WEFT_K_OK;
    if (a->stride == 1) {
        const weft_conv2d_args f = { .type = a->type, .wtype = a->wtype, .n = a->n, .h = a->oh, .w = a->ow, .c = a->o,
                                     .o = a->c, .oh = a->h, .ow = a->w, .kh = a->kh, .kw = a->kw, .stride = 1,
                                     .pad_top = a->kh - 1 - a->pad_top, .pad_left = a->kw - 1 - a->pad_left, .x = a->dy,
                                     .weight = a->weight, .y = a->dx };
        return any_conv(env, by_input, &f);
    }
    return a->type == a->wtype ? grad_input(env, a) : mixed_grad_input(env, a);
}

/* ---- the gradient by the weights ---------------------------------------------------------------------------- */

static const char *const by_weight = "conv2d_grad_weight";

/* dw(o,c,tap) = packed(o,tap,c), or added to it. */
static int give_weight(const weft_env *env, const weft_conv2d_grad_weight_args *a, const void *packed) {
    const int64_t taps = (int64_t)a->kh * a->kw;
    if (a->accumulate) {
        const weft_binary_args sum = { .type = a->type, .op = WEFT_BINARY_ADD, .rank = 3, .shape = { a->o, a->c, taps },
                                       .a_stride = { a->c * taps, taps, 1 }, .b_stride = { a->c * taps, 1, a->c },
                                       .a = a->dw, .b = packed, .y = a->dw };
        return weft_cuda_binary(env, &sum);
    }
    const weft_copy_args copy = { .src_type = a->type, .dst_type = a->type, .rank = 3, .shape = { a->o, a->c, taps },
                                  .src_stride = { a->c * taps, 1, a->c }, .dst_stride = { a->c * taps, taps, 1 },
                                  .src = packed, .dst = a->dw };
    return weft_cuda_copy(env, &copy);
}

/* dw(o,c) = dyᵀ(o, pixels)·x(pixels, c) */
static int pointwise_grad_weight(const weft_env *env, const weft_conv2d_grad_weight_args *a) {
    const cuda_product p = { .type = a->type, .d_type = a->type, .batch = 1, .m = a->o, .n = a->c,
                             .k = a->n * a->h * a->w, .alpha = 1, .a = a->dy, .a_row = 1, .a_col = a->o, .b = a->x,
                             .b_row = a->c, .b_col = 1, .c = a->accumulate ? a->dw : NULL, .c_row = a->c, .d = a->dw,
                             .d_row = a->c };
    return cuda_product_run(env, by_weight, &p);
}

int weft_cuda_conv2d_grad_weight(const weft_env *env, const weft_conv2d_grad_weight_args *a) {
    if (!is_float(a->type)) return WEFT_K_NO_TYPE;
    if (a->stride < 1 || a->kh < 1 || a->kw < 1) return WEFT_K_NO_CASE;
    if (a->o < 1 || a->c < 1) return WEFT_K_OK;
    if (is_pointwise(a->h, a->w, a->oh, a->ow, a->kh, a->kw, a->stride, a->pad_top, a->pad_left))
        return pointwise_grad_weight(env, a);
    cuda_conv c = { .kind = CUDA_CONV_GRAD_WEIGHT, .type = a->type, .n = a->n, .h = a->h, .w = a->w, .c = a->c,
                    .o = a->o, .oh = a->oh, .ow = a->ow, .kh = a->kh, .kw = a->kw, .stride = a->stride,
                    .pad_top = a->pad_top, .pad_left = a->pad_left, .x = a->x, .y = a->dy };
    cuda_scratch packed = { 0 };
    int status = cuda_dnn_can(env, by_weight, &c);
    if (!status)
        status = cuda_scratch_new(env, (size_t)(a->o * a->kh * a->kw * a->c) * weft_dtype_size(a->type), &packed);
    c.weight = packed.p;
    if (!status) status = cuda_dnn_conv(env, by_weight, &c);
    if (!status) status = give_weight(env, a, packed.p);
    cuda_scratch_free(env, &packed);
    return status == WEFT_K_NO_CASE ? cuda_tile_conv_grad_weight(env, by_weight, a) : status;
}
