/* Cases of the products (gemm, convolution, attention) built from their sizes; for the tests by subject, at random,
 * and of failing scratch. What a builder returns points into `*a`, which must stay while the case is used. */
#ifndef WEFT_KERNEL_PRODUCTS_H
#define WEFT_KERNEL_PRODUCTS_H

#include "tests/kernel_cases.h"

/* What of the optional operands a case has. */
enum { HAS_BIAS = 1, HAS_RESIDUAL = 2, HAS_ROW = 4, RESIDUAL_IS_Y = 8 };

static inline struct kernel_case gemm_case(weft_gemm_args *a, weft_dtype type, weft_dtype wtype, int64_t m, int64_t n,
                                           int64_t k, int has, weft_activation act) {
    int64_t ldx = k + (has & HAS_BIAS ? 3 : 0), ldy = n + (has & HAS_RESIDUAL ? 5 : 0);
    int64_t ldr = has & RESIDUAL_IS_Y ? ldy : n + 1;
    void *w = random_values(wtype, n * k, 0, 1 / sqrt(k > 0 ? (double)k : 1));
    *a = (weft_gemm_args){ .type = type, .wtype = wtype, .m = m, .n = n, .k = k, .ldx = ldx, .ldr = ldr, .act = act,
                           .ldy = ldy };
    a->x = random_values(type, m * ldx, 0, 1);
    if (has & HAS_BIAS) a->bias = random_values(type, n, 0, 1);
    if (has & HAS_RESIDUAL) a->residual = random_values(type, m * ldr, 0, 1);
    struct kernel_case c = { .id = WEFT_KERNEL_gemm, .args = a, .out = &a->y, .type = type,
                             .count = m ? (m - 1) * ldy + n : 0,
                             .weight = &a->w, .plain = { .type = wtype, .n = n, .taps = 1, .k = k, .stride_n = k,
                                                         .stride_tap = 1, .stride_k = 1, .src = w },
                             .tolerance = sum_tolerance(k), .terms = 1 };
    /* The gaps between the rows are compared too: they must stay as they were. */
    c.before = random_values(type, c.count, 0, 1);
    if (has & RESIDUAL_IS_Y) c.alias = &a->residual;
    return c;
}

struct conv_shape { int64_t n, h, w, c, o; int kh, kw, stride, top, bottom, left, right; };

/* Winograd F(4×4) multiplies by up to 8 on the way in and out: measured 2e-6 of the rms, some five times a plain sum.
 * */
static inline double conv_tolerance(struct conv_shape s, weft_precision precision) {
    return precision == WEFT_PRECISION_FAST ? 1e-5 : sum_tolerance(s.kh * s.kw * s.c);
}

static inline struct kernel_case conv_case(weft_conv2d_args *a, weft_dtype type, weft_dtype wtype, struct conv_shape s,
                                           int has, weft_precision precision) {
    int64_t taps = (int64_t)s.kh * s.kw;
    int64_t oh = (s.h + s.top + s.bottom - s.kh) / s.stride + 1, ow = (s.w + s.left + s.right - s.kw) / s.stride + 1;
    void *w = random_values(wtype, s.o * taps * s.c, 0, 1 / sqrt((double)(taps * (s.c ? s.c : 1))));
    *a = (weft_conv2d_args){ .type = type, .wtype = wtype, .n = s.n, .h = s.h, .w = s.w, .c = s.c, .o = s.o, .oh = oh,
                             .ow = ow, .kh = s.kh, .kw = s.kw, .stride = s.stride, .pad_top = s.top,
                             .pad_left = s.left };
    a->x = random_values(type, s.n * s.h * s.w * s.c, 0, 1);
    if (has & HAS_BIAS) a->bias = random_values(type, s.o, 0, 1);
    if (has & HAS_ROW) a->row = random_values(type, s.n * s.o, 0, 1);
    if (has & HAS_RESIDUAL) a->residual = random_values(type, s.n * oh * ow * s.o, 0, 1);
    struct kernel_case c = { .id = WEFT_KERNEL_conv2d, .args = a, .out = &a->y, .type = type,
                             .count = s.n * oh * ow * s.o,
                             .weight = &a->weight, .precision = precision, .terms = 1,
                             .plain = { .type = wtype, .n = s.o, .taps = taps, .k = s.c, .stride_n = taps * s.c,
                                        .stride_tap = 1, .stride_k = taps, .src = w } };
    if (has & RESIDUAL_IS_Y) {
        c.before = random_values(type, c.count, 0, 1);
        c.alias = &a->residual;
    }
    c.tolerance = conv_tolerance(s, precision);
    return c;
}

/* dy is (n,oh,ow,o); the weights are packed as the gradient wants them: taps in reverse order, channels exchanged. */
static inline struct kernel_case conv_grad_input_case(weft_conv2d_grad_input_args *a, weft_dtype type, weft_dtype wtype,
                                                      struct conv_shape s, weft_precision precision) {
    int64_t taps = (int64_t)s.kh * s.kw;
    int64_t oh = (s.h + s.top + s.bottom - s.kh) / s.stride + 1, ow = (s.w + s.left + s.right - s.kw) / s.stride + 1;
    char *w = random_values(wtype, s.o * taps * s.c, 0, 1 / sqrt((double)(taps * (s.o ? s.o : 1))));
    *a = (weft_conv2d_grad_input_args){ .type = type, .wtype = wtype, .n = s.n, .h = s.h, .w = s.w, .c = s.c, .o = s.o, .oh = oh,
                                        .ow = ow, .kh = s.kh, .kw = s.kw, .stride = s.stride, .pad_top = s.top,
                                        .pad_left = s.left, .dy = random_values(type, s.n * oh * ow * s.o, 0, 1) };
    struct kernel_case c = { .id = WEFT_KERNEL_conv2d_grad_input, .args = a, .out = &a->dx, .type = type,
                             .count = s.n * s.h * s.w * s.c, .weight = &a->weight, .precision = precision, .terms = 1,
                             .plain = { .type = wtype, .n = s.c, .taps = taps, .k = s.o, .stride_n = taps, .stride_tap = -1,
                                        .stride_k = s.c * taps, .src = w + (taps - 1) * (int64_t)weft_dtype_size(wtype) } };
    c.tolerance = precision == WEFT_PRECISION_FAST ? 1e-5 : sum_tolerance(taps * s.o);
    return c;
}

/* Sums of n·oh·ow terms: `terms` is the size that they have by chance. */
static inline struct kernel_case conv_grad_weight_case(weft_conv2d_grad_weight_args *a, weft_dtype type, struct conv_shape s,
                                                       int accumulate, weft_precision precision) {
    int64_t oh = (s.h + s.top + s.bottom - s.kh) / s.stride + 1, ow = (s.w + s.left + s.right - s.kw) / s.stride + 1;
    *a = (weft_conv2d_grad_weight_args){ .type = type, .n = s.n, .h = s.h, .w = s.w, .c = s.c, .o = s.o, .oh = oh, .ow = ow,
                                         .kh = s.kh, .kw = s.kw, .stride = s.stride, .pad_top = s.top, .pad_left = s.left,
                                         .accumulate = accumulate, .x = random_values(type, s.n * s.h * s.w * s.c, 0, 1),
                                         .dy = random_values(type, s.n * oh * ow * s.o, 0, 1) };
    struct kernel_case c = { .id = WEFT_KERNEL_conv2d_grad_weight, .args = a, .out = &a->dw, .type = type,
                             .count = s.o * s.c * s.kh * s.kw, .precision = precision, .terms = sqrt((double)(s.n * oh * ow)) };
    if (accumulate) c.before = random_values(type, c.count, 0, 1);
    c.tolerance = precision == WEFT_PRECISION_FAST ? 1e-5 : sum_tolerance(s.n * oh * ow);
    return c;
}

/* q, k, v as slices of wider rows, (batch, token, heads, d) with a gap of `gap` elements after each token. */
static inline struct kernel_case attention_case(weft_attention_args *a, weft_dtype type, int64_t batch, int64_t heads,
                                                int64_t tq, int64_t tk, int64_t d, int causal, double sharp,
                                                int64_t gap) {
    int64_t row = heads * d + gap;
    *a = (weft_attention_args){ .type = type, .batch = batch, .heads = heads, .tq = tq, .tk = tk, .d = d,
                                .scale = 1 / sqrt((double)d), .causal = causal,
                                .q_batch = tq * row, .q_token = row, .q_head = d, .k_batch = tk * row, .k_token = row,
                                .k_head = d, .v_batch = tk * row, .v_token = row, .v_head = d,
                                .o_batch = tq * row, .o_token = row, .o_head = d };
    a->q = random_values(type, batch * tq * row, 0, sharp);
    a->k = random_values(type, batch * tk * row, 0, 1);
    a->v = random_values(type, batch * tk * row, 0, 1);
    struct kernel_case c = { .id = WEFT_KERNEL_attention, .args = a, .out = &a->o, .type = type,
                             .count = batch * tq * row };
    c.before = random_values(type, c.count, 0, 0.2);
    /* A score of size s carries an error of s·6e-8·(a few) into the exponent; scores are about as large as `sharp`,
     * their largest five times that. */
    c.tolerance = sum_tolerance(d) + sum_tolerance(tk) + 5 * sharp * 1.2e-7;
    c.terms = 1 / sqrt(tk > 0 ? (double)tk : 1);
    return c;
}

/* The gradient of the case above: o and lse by the reference, dout at random. which: 0 dq, 1 dk, 2 dv is the output under test; the
 * other two are computed beside it, or, where `alone`, not wanted. */
static inline struct kernel_case attention_grad_case(weft_attention_grad_args *g, weft_dtype type, int64_t batch, int64_t heads,
                                                     int64_t tq, int64_t tk, int64_t d, int causal, double sharp, int64_t gap,
                                                     int which, bool alone) {
    weft_attention_args a;
    struct kernel_case c = attention_case(&a, type, batch, heads, tq, tk, d, causal, sharp, gap);
    struct scratch s;
    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_EXACT);
    int64_t row = heads * d + gap;
    a.o = buffer_new(bytes_of(type, batch * tq * row), 0, 0);
    a.lse = buffer_new((size_t)(batch * heads * tq) * (type == WEFT_F32 ? 4 : 8), 0, 0);
    memset(a.o, 0, bytes_of(type, batch * tq * row));
    if (weft_kernels_reference()->attention(&env, &a)) TEST_FAIL("the forward fails");
    *g = (weft_attention_grad_args){
        .type = type, .batch = batch, .heads = heads, .tq = tq, .tk = tk, .d = d, .scale = a.scale, .causal = causal,
        .q = a.q, .q_batch = tq * row, .q_token = row, .q_head = d, .k = a.k, .k_batch = tk * row, .k_token = row, .k_head = d,
        .v = a.v, .v_batch = tk * row, .v_token = row, .v_head = d, .o = a.o, .dout = random_values(type, batch * tq * row, 0, 1),
        .o_batch = tq * row, .o_token = row, .o_head = d, .lse = a.lse, .dq_batch = tq * row, .dq_token = row, .dq_head = d,
        .dk_batch = tk * row, .dk_token = row, .dk_head = d, .dv_batch = tk * row, .dv_token = row, .dv_head = d };
    void **out[] = { &g->dq, &g->dk, &g->dv };
    for (int i = 0; i < 3; i++)
        if (!alone && i != which) *out[i] = buffer_new(bytes_of(type, batch * (i ? tk : tq) * row), 0, 0);
    c.id = WEFT_KERNEL_attention_grad;
    c.args = g;
    c.out = out[which];
    c.count = batch * (which ? tk : tq) * row;
    /* The gaps between tokens must stay as they were; small, so that they do not hide what is near them. */
    c.before = random_values(type, c.count, 0, 1e-3);
    /* As the forward's, and what a score is off by counts in p and in dp − delta alike. dk and dv sum over queries with weights of
     * about 1/tk each. */
    c.tolerance = 2 * (sum_tolerance(d) + sum_tolerance(tk) + sum_tolerance(tq)) + 10 * sharp * 1.2e-7;
    c.terms = (which ? sqrt((double)tq) / (tk > 0 ? (double)tk : 1) : 1 / sqrt(tk > 0 ? (double)tk : 1)) / 2;
    return c;
}

#endif
