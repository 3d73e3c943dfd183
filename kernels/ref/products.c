/* Products, naively: packed weights, gemm, matmul, convolution. Every sum is one plain loop in double. */
#include "kernels/ref/ref.h"

/* "Packed" here is plain and dense: (n, taps, k) in the source's type. */
size_t weft_ref_pack_bytes(const weft_pack_args *a) {
    return (size_t)(a->n * a->taps * a->k) * weft_dtype_size(a->type);
}

int weft_ref_pack(const weft_env *env, const weft_pack_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    int64_t i = 0;
    for (int64_t n = 0; n < a->n; n++)
        for (int64_t tap = 0; tap < a->taps; tap++)
            for (int64_t k = 0; k < a->k; k++)
                ref_move(a->type, a->dst, i++, a->src, n * a->stride_n + tap * a->stride_tap + k * a->stride_k);
    return WEFT_K_OK;
}

int weft_ref_unpack(const weft_env *env, const weft_pack_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    int64_t i = 0;
    for (int64_t n = 0; n < a->n; n++)
        for (int64_t tap = 0; tap < a->taps; tap++)
            for (int64_t k = 0; k < a->k; k++)
                ref_move(a->type, a->dst, n * a->stride_n + tap * a->stride_tap + k * a->stride_k, a->src, i++);
    return WEFT_K_OK;
}

int weft_ref_gemm(const weft_env *env, const weft_gemm_args *a) {
    if (!ref_takes(REF_FLOATS, a->type) || !ref_takes(REF_FLOATS, a->wtype)) return WEFT_K_NO_TYPE;
    if ((unsigned)a->act >= WEFT_ACT_COUNT) return WEFT_K_NO_CASE;
    for (int64_t m = 0; m < a->m; m++) {
        if (ref_cancelled(env)) return WEFT_K_CANCELLED;
        for (int64_t n = 0; n < a->n; n++) {
            double sum = a->bias ? ref_get(a->type, a->bias, n) : 0;
            for (int64_t k = 0; k < a->k; k++)
                sum += ref_get(a->type, a->x, m * a->ldx + k) * ref_get(a->wtype, a->w, n * a->k + k);
            double y = weft_ref_activate(a->act, sum);
            if (a->residual) y += ref_get(a->type, a->residual, m * a->ldr + n);
            ref_put(a->type, a->y, m * a->ldy + n, y);
        }
    }
    return WEFT_K_OK;
}

int weft_ref_matmul(const weft_env *env, const weft_matmul_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t batch = 0; batch < a->batch; batch++)
        for (int64_t m = 0; m < a->m; m++) {
            if (ref_cancelled(env)) return WEFT_K_CANCELLED;
            for (int64_t n = 0; n < a->n; n++) {
                int64_t at = batch * a->c_batch + m * a->ldc + n;
                double sum = 0;
                for (int64_t k = 0; k < a->k; k++)
                    sum += ref_get(a->type, a->a, batch * a->a_batch + m * a->a_row + k * a->a_col)
                         * ref_get(a->type, a->b, batch * a->b_batch + k * a->b_row + n * a->b_col);
                sum *= a->alpha;
                if (a->accumulate) sum += ref_get(a->type, a->c, at);
                ref_put(a->type, a->c, at, sum);
            }
        }
    return WEFT_K_OK;
}

/* One output value of a convolution, without what is added behind it. */
static double window(const weft_conv2d_args *a, int64_t n, int64_t oy, int64_t ox, int64_t o) {
    double sum = 0;
    for (int ky = 0; ky < a->kh; ky++) {
        int64_t y = oy * a->stride - a->pad_top + ky;
        if (y < 0 || y >= a->h) continue;
        for (int kx = 0; kx < a->kw; kx++) {
            int64_t x = ox * a->stride - a->pad_left + kx;
            if (x < 0 || x >= a->w) continue;
            int64_t pixel = ((n * a->h + y) * a->w + x) * a->c;
            int64_t tap = (o * a->kh * a->kw + ky * a->kw + kx) * a->c;
            for (int64_t c = 0; c < a->c; c++)
                sum += ref_get(a->type, a->x, pixel + c) * ref_get(a->wtype, a->weight, tap + c);
        }
    }
    return sum;
}

int weft_ref_conv2d(const weft_env *env, const weft_conv2d_args *a) {
    if (!ref_takes(REF_FLOATS, a->type) || !ref_takes(REF_FLOATS, a->wtype)) return WEFT_K_NO_TYPE;
    if (a->stride < 1 || a->kh < 1 || a->kw < 1) return WEFT_K_NO_CASE;
    int64_t at = 0;
    for (int64_t n = 0; n < a->n; n++)
        for (int64_t oy = 0; oy < a->oh; oy++) {
            if (ref_cancelled(env)) return WEFT_K_CANCELLED;
            for (int64_t ox = 0; ox < a->ow; ox++)
                for (int64_t o = 0; o < a->o; o++, at++) {
                    double y = window(a, n, oy, ox, o);
                    if (a->bias) y += ref_get(a->type, a->bias, o);
                    if (a->row) y += ref_get(a->type, a->row, n * a->o + o);
                    if (a->residual) y += ref_get(a->type, a->residual, at);
                    ref_put(a->type, a->y, at, y);
                }
        }
    return WEFT_K_OK;
}

/* The value of dx at one pixel and channel: each tap (ky, kx) leads to the window whose that tap read the pixel, if there is one. */
static double spread(const weft_conv2d_grad_input_args *a, int64_t n, int64_t y, int64_t x, int64_t c) {
    const int taps = a->kh * a->kw;
    double sum = 0;
    for (int ky = 0; ky < a->kh; ky++) {
        const int64_t down = y + a->pad_top - ky, oy = down / a->stride;
        if (down < 0 || down % a->stride || oy >= a->oh) continue;
        for (int kx = 0; kx < a->kw; kx++) {
            const int64_t across = x + a->pad_left - kx, ox = across / a->stride;
            if (across < 0 || across % a->stride || ox >= a->ow) continue;
            const int64_t dy = ((n * a->oh + oy) * a->ow + ox) * a->o;
            const int64_t w = (c * taps + taps - 1 - (ky * a->kw + kx)) * a->o;
            for (int64_t o = 0; o < a->o; o++) sum += ref_get(a->type, a->dy, dy + o) * ref_get(a->wtype, a->weight, w + o);
        }
    }
    return sum;
}

int weft_ref_conv2d_grad_input(const weft_env *env, const weft_conv2d_grad_input_args *a) {
    if (!ref_takes(REF_FLOATS, a->type) || !ref_takes(REF_FLOATS, a->wtype)) return WEFT_K_NO_TYPE;
    if (a->stride < 1 || a->kh < 1 || a->kw < 1) return WEFT_K_NO_CASE;
    int64_t at = 0;
    for (int64_t n = 0; n < a->n; n++)
        for (int64_t y = 0; y < a->h; y++) {
            if (ref_cancelled(env)) return WEFT_K_CANCELLED;
            for (int64_t x = 0; x < a->w; x++)
                for (int64_t c = 0; c < a->c; c++) ref_put(a->type, a->dx, at++, spread(a, n, y, x, c));
        }
    return WEFT_K_OK;
}

static double correlate(const weft_conv2d_grad_weight_args *a, int64_t o, int64_t c, int ky, int kx) {
    double sum = 0;
    for (int64_t n = 0; n < a->n; n++)
        for (int64_t oy = 0; oy < a->oh; oy++) {
            const int64_t y = oy * a->stride - a->pad_top + ky;
            if (y < 0 || y >= a->h) continue;
            for (int64_t ox = 0; ox < a->ow; ox++) {
                const int64_t x = ox * a->stride - a->pad_left + kx;
                if (x < 0 || x >= a->w) continue;
                sum += ref_get(a->type, a->dy, ((n * a->oh + oy) * a->ow + ox) * a->o + o)
                     * ref_get(a->type, a->x, ((n * a->h + y) * a->w + x) * a->c + c);
            }
        }
    return sum;
}

int weft_ref_conv2d_grad_weight(const weft_env *env, const weft_conv2d_grad_weight_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if (a->stride < 1 || a->kh < 1 || a->kw < 1) return WEFT_K_NO_CASE;
    int64_t at = 0;
    for (int64_t o = 0; o < a->o; o++) {
        if (ref_cancelled(env)) return WEFT_K_CANCELLED;
        for (int64_t c = 0; c < a->c; c++)
            for (int ky = 0; ky < a->kh; ky++)
                for (int kx = 0; kx < a->kw; kx++, at++)
                    ref_put(a->type, a->dw, at, (a->accumulate ? ref_get(a->type, a->dw, at) : 0) + correlate(a, o, c, ky, kx));
    }
    return WEFT_K_OK;
}
