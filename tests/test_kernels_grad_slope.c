/* The naive gradients are the slopes of the naive kernels: in f64, every element of every input moved a little both ways changes
 * L = Σ r·y by what the gradient with dy = r says. */
#include "tests/kernel_products.h"

/* What is checked: the forward call as it stands, its output y of `count` elements, and r, which is also the gradient's dy. */
struct forward {
    enum weft_kernel_id id;
    void *args;
    double *y, *r;
    int64_t count;
};

static int run(enum weft_kernel_id id, const void *args) {
    struct scratch s;
    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_EXACT);
    int status = kernel_call(weft_kernels_reference(), id, &env, args);
    if (status || s.live) TEST_FAIL("%s: status %d, %zu bytes kept", weft_kernel_names[id], status, s.live);
    return status;
}

static double loss(const struct forward *f) {
    double sum = 0;
    run(f->id, f->args);
    for (int64_t i = 0; i < f->count; i++) sum += f->r[i] * f->y[i];
    return sum;
}

/* dx: the gradient that was computed for x, which the forward's arguments name. The difference quotient is good to the third
 * derivative times step² (1e-8 here), and to the roundings of the loss over the step (1e-15·50/1e-4). */
static void check_slope(const struct forward *f, double *x, const double *dx, int64_t n, const char *what) {
    const double step = 1e-4;
    for (int64_t i = 0; i < n; i++) {
        const double at = x[i];
        x[i] = at + step;
        const double up = loss(f);
        x[i] = at - step;
        const double slope = (up - loss(f)) / (2 * step);
        x[i] = at;
        if (!(fabs(slope - dx[i]) <= 2e-6 * (1 + fabs(slope)))) {
            TEST_FAIL("%s of %s: element %d is %.12g, the slope %.12g", weft_kernel_names[f->id], what, (int)i, dx[i], slope);
            return;
        }
    }
}

static double *values(int64_t n) { return random_values(WEFT_F64, n, 0, 1); }
static double *room(int64_t n) { return random_values(WEFT_F64, n, 1e9, 0); }

static struct forward forward_of(enum weft_kernel_id id, void *args, void **y, int64_t count) {
    *y = room(count);
    return (struct forward){ id, args, *y, values(count), count };
}

TEST(slope_of_conv2d) {
    static const struct conv_shape shapes[] = {
        { 2, 5, 4, 3, 2, 3, 3, 1, 1, 1, 1, 1 }, { 1, 6, 5, 2, 3, 3, 3, 2, 0, 1, 0, 1 }, { 1, 7, 6, 2, 2, 3, 2, 2, 1, 1, 1, 1 },
        { 2, 4, 5, 3, 4, 1, 1, 1, 0, 0, 0, 0 }, { 1, 8, 7, 1, 2, 2, 4, 3, 2, 0, 1, 3 }, { 1, 5, 5, 2, 2, 3, 3, 1, -1, 0, 2, 4 },
        { 1, 5, 6, 2, 2, 1, 1, 2, 0, 0, 0, 0 },
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct conv_shape s = shapes[i];
        weft_conv2d_args a;
        conv_case(&a, WEFT_F64, WEFT_F64, s, 0, WEFT_PRECISION_EXACT);
        const int64_t taps = s.kh * s.kw, in = s.n * s.h * s.w * s.c, weights = s.o * taps * s.c;
        double *plain = values(weights), *packed = room(weights), *reversed = room(weights), *dx = room(in), *dw = room(weights);
        weft_pack_args pack = { .type = WEFT_F64, .n = s.o, .taps = taps, .k = s.c, .stride_n = s.c * taps, .stride_tap = 1,
                                .stride_k = taps, .src = plain, .dst = packed };
        run(WEFT_KERNEL_pack, &pack);
        pack = (weft_pack_args){ .type = WEFT_F64, .n = s.c, .taps = taps, .k = s.o, .stride_n = taps, .stride_tap = -1,
                                 .stride_k = s.c * taps, .src = plain + taps - 1, .dst = reversed };
        run(WEFT_KERNEL_pack, &pack);
        a.weight = packed;
        const struct forward f = forward_of(WEFT_KERNEL_conv2d, &a, &a.y, s.n * a.oh * a.ow * s.o);
        weft_conv2d_grad_input_args g = {
            .type = WEFT_F64, .wtype = WEFT_F64, .n = s.n, .h = s.h, .w = s.w, .c = s.c, .o = s.o, .oh = a.oh, .ow = a.ow,
            .kh = s.kh, .kw = s.kw, .stride = s.stride, .pad_top = s.top, .pad_left = s.left, .dy = f.r, .weight = reversed, .dx = dx };
        run(WEFT_KERNEL_conv2d_grad_input, &g);
        check_slope(&f, (double *)a.x, dx, in, "x");
        weft_conv2d_grad_weight_args w = {
            .type = WEFT_F64, .n = s.n, .h = s.h, .w = s.w, .c = s.c, .o = s.o, .oh = a.oh, .ow = a.ow, .kh = s.kh, .kw = s.kw,
            .stride = s.stride, .pad_top = s.top, .pad_left = s.left, .x = a.x, .dy = f.r, .dw = dw };
        run(WEFT_KERNEL_conv2d_grad_weight, &w);
        pack = (weft_pack_args){ .type = WEFT_F64, .n = s.o, .taps = taps, .k = s.c, .stride_n = s.c * taps, .stride_tap = 1,
                                 .stride_k = taps, .src = dw, .dst = plain };
        run(WEFT_KERNEL_pack, &pack);
        check_slope(&f, packed, plain, weights, "weights");
        buffers_free();
    }
}

/* Causal with fewer keys than queries: the first rows see none. */
TEST(slope_of_attention) {
    for (int causal = 0; causal < 2; causal++)
        for (int tk = 3; tk <= 7; tk += 2) {
            const int64_t batch = 2, heads = 2, tq = 5, d = 3, row = heads * d + 1, q = batch * tq * row, k = batch * tk * row;
            weft_attention_args a;
            attention_case(&a, WEFT_F64, batch, heads, tq, tk, d, causal, 1, 1);
            a.lse = room(batch * heads * tq);
            const struct forward f = forward_of(WEFT_KERNEL_attention, &a, &a.o, q);
            memset(f.y, 0, (size_t)q * sizeof(double));             /* the gaps between tokens */
            loss(&f);
            double *dq = room(q), *dk = room(k), *dv = room(k);
            for (int64_t i = 0; i < q; i++) dq[i] = 0;
            for (int64_t i = 0; i < k; i++) dk[i] = dv[i] = 0;
            weft_attention_grad_args g = {
                .type = WEFT_F64, .batch = batch, .heads = heads, .tq = tq, .tk = tk, .d = d, .scale = a.scale, .causal = causal,
                .q = a.q, .q_batch = tq * row, .q_token = row, .q_head = d, .k = a.k, .k_batch = tk * row, .k_token = row, .k_head = d,
                .v = a.v, .v_batch = tk * row, .v_token = row, .v_head = d, .o = a.o, .dout = f.r, .o_batch = tq * row, .o_token = row,
                .o_head = d, .lse = a.lse, .dq = dq, .dq_batch = tq * row, .dq_token = row, .dq_head = d,
                .dk = dk, .dk_batch = tk * row, .dk_token = row, .dk_head = d,
                .dv = dv, .dv_batch = tk * row, .dv_token = row, .dv_head = d };
            run(WEFT_KERNEL_attention_grad, &g);
            check_slope(&f, (double *)a.q, dq, q, "queries");
            check_slope(&f, (double *)a.k, dk, k, "keys");
            check_slope(&f, (double *)a.v, dv, k, "values");
            buffers_free();
        }
}

TEST(slope_of_norms) {
    for (weft_activation act = 0; act < WEFT_ACT_COUNT; act++) {
        const int64_t n = 2, pixels = 5, c = 6, groups = 3, count = n * pixels * c;
        const bool affine = act != WEFT_ACT_GELU;
        double *gamma = affine ? values(c) : NULL, *beta = affine ? values(c) : NULL, *x = values(count), *dx = room(count);
        weft_group_norm_args a = { .type = WEFT_F64, .n = n, .pixels = pixels, .c = c, .groups = groups, .eps = 1e-2, .act = act, .x = x,
                                   .gamma = gamma, .beta = beta, .mean = room(n * groups), .rstd = room(n * groups) };
        const struct forward f = forward_of(WEFT_KERNEL_group_norm, &a, &a.y, count);
        loss(&f);
        weft_group_norm_grad_args g = { .type = WEFT_F64, .n = n, .pixels = pixels, .c = c, .groups = groups, .act = act, .x = x,
                                        .gamma = gamma, .beta = beta, .mean = a.mean, .rstd = a.rstd, .dy = f.r, .dx = dx,
                                        .dgamma = room(c), .dbeta = room(c) };
        run(WEFT_KERNEL_group_norm_grad, &g);
        check_slope(&f, x, dx, count, "x");
        if (affine) {
            check_slope(&f, gamma, g.dgamma, c, "gamma");
            check_slope(&f, beta, g.dbeta, c, "beta");
        }
        buffers_free();
    }
    const int64_t rows = 4, c = 7, count = rows * c;
    double *gamma = values(c), *beta = values(c), *x = values(count), *dx = room(count);
    weft_layer_norm_args a = { .type = WEFT_F64, .rows = rows, .c = c, .eps = 1e-2, .x = x, .gamma = gamma, .beta = beta,
                               .mean = room(rows), .rstd = room(rows) };
    struct forward f = forward_of(WEFT_KERNEL_layer_norm, &a, &a.y, count);
    loss(&f);
    weft_layer_norm_grad_args g = { .type = WEFT_F64, .rows = rows, .c = c, .x = x, .gamma = gamma, .mean = a.mean, .rstd = a.rstd,
                                    .dy = f.r, .dx = dx, .dgamma = room(c), .dbeta = room(c) };
    run(WEFT_KERNEL_layer_norm_grad, &g);
    check_slope(&f, x, dx, count, "x");
    check_slope(&f, gamma, g.dgamma, c, "gamma");
    check_slope(&f, beta, g.dbeta, c, "beta");
    weft_softmax_args s = { .type = WEFT_F64, .rows = rows, .c = c, .scale = 0.7, .x = x };
    f = forward_of(WEFT_KERNEL_softmax, &s, &s.y, count);
    loss(&f);
    weft_softmax_grad_args t = { .type = WEFT_F64, .rows = rows, .c = c, .scale = 0.7, .y = f.y, .dy = f.r, .dx = dx };
    t.y = memcpy(room(count), f.y, (size_t)count * sizeof(double));
    run(WEFT_KERNEL_softmax_grad, &t);
    check_slope(&f, x, dx, count, "x");
    buffers_free();
}

TEST(slope_of_unary) {
    for (weft_unary_op op = 0; op < WEFT_UNARY_COUNT; op++) {
        const int64_t n = 50;
        const bool positive = op == WEFT_UNARY_LOG || op == WEFT_UNARY_SQRT;
        double *x = random_values(WEFT_F64, n, 0, 2), *dx = room(n);
        for (int64_t i = 0; i < n; i++) x[i] = copysign(fabs(x[i]) + 0.05, positive ? 1 : x[i]);     /* off corner and pole */
        weft_unary_args a = { .type = WEFT_F64, .op = op, .n = n, .x = x };
        const struct forward f = forward_of(WEFT_KERNEL_unary, &a, &a.y, n);
        run(WEFT_KERNEL_unary_grad, &(weft_unary_grad_args){ .type = WEFT_F64, .op = op, .n = n, .x = x, .dy = f.r, .dx = dx });
        check_slope(&f, x, dx, n, "x");
        buffers_free();
    }
}

TEST(slope_of_affine_and_geglu) {
    const int64_t n = 50;
    double *x = random_values(WEFT_F64, n, 0, 2), *dx = room(n);
    for (int clamps = 0; clamps < 2; clamps++) {
        weft_affine_args a = { .type = WEFT_F64, .n = n, .scale = 1.5, .shift = 0.3, .low = clamps ? -1 : -INFINITY,
                               .high = clamps ? 1 : INFINITY, .x = x };
        const struct forward f = forward_of(WEFT_KERNEL_affine, &a, &a.y, n);
        weft_affine_grad_args g = { .type = WEFT_F64, .n = n, .scale = 1.5, .shift = 0.3, .low = a.low, .high = a.high,
                                    .x = clamps ? x : NULL, .dy = f.r, .dx = dx };
        run(WEFT_KERNEL_affine_grad, &g);
        check_slope(&f, x, dx, n, "x");
    }
    weft_geglu_args a = { .type = WEFT_F64, .rows = 5, .half = 5, .x = x };
    const struct forward f = forward_of(WEFT_KERNEL_geglu, &a, &a.y, 25);
    run(WEFT_KERNEL_geglu_grad, &(weft_geglu_grad_args){ .type = WEFT_F64, .rows = 5, .half = 5, .x = x, .dy = f.r, .dx = dx });
    check_slope(&f, x, dx, n, "x");
    buffers_free();
}

TEST(slope_of_reduce) {
    for (weft_reduce_op op = 0; op < WEFT_REDUCE_COUNT; op++) {
        const bool picks = op == WEFT_REDUCE_MAX || op == WEFT_REDUCE_MIN;
        double *x = values(60), *dx = room(60);
        weft_reduce_args a = { .type = WEFT_F64, .op = op, .outer = 3, .mid = 5, .inner = 4, .x = x };
        const struct forward f = forward_of(WEFT_KERNEL_reduce, &a, &a.y, 12);
        loss(&f);
        weft_reduce_grad_args g = { .type = WEFT_F64, .op = op, .outer = 3, .mid = 5, .inner = 4, .x = picks ? x : NULL,
                                    .y = picks ? f.y : NULL, .dy = f.r, .dx = dx };
        run(WEFT_KERNEL_reduce_grad, &g);
        check_slope(&f, x, dx, 60, "x");
        buffers_free();
    }
}

TEST(slope_of_resample) {
    static const int64_t sizes[][4] = { { 4, 5, 7, 3 }, { 3, 4, 6, 8 }, { 7, 6, 3, 6 }, { 5, 1, 5, 4 } };
    for (weft_resample_mode mode = 0; mode < WEFT_RESAMPLE_COUNT; mode++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const int64_t n = 2, h = sizes[i][0], w = sizes[i][1], oh = sizes[i][2], ow = sizes[i][3], c = 2, in = n * h * w * c;
            double *x = values(in), *dx = room(in);
            weft_resample_args a = { .type = WEFT_F64, .mode = mode, .n = n, .h = h, .w = w, .c = c, .oh = oh, .ow = ow, .x = x };
            const struct forward f = forward_of(WEFT_KERNEL_resample, &a, &a.y, n * oh * ow * c);
            run(WEFT_KERNEL_resample_grad, &(weft_resample_grad_args){ .type = WEFT_F64, .mode = mode, .n = n, .h = h, .w = w, .c = c,
                                                                       .oh = oh, .ow = ow, .dy = f.r, .dx = dx });
            check_slope(&f, x, dx, in, "x");
            buffers_free();
        }
}

TEST(slope_of_pad) {
    static const int64_t pads[][4] = { { 1, 2, 2, 1 }, { 3, 0, 0, 4 }, { 0, 0, 0, 0 }, { -1, 2, 1, -2 } };
    for (weft_pad_mode mode = 0; mode < WEFT_PAD_COUNT; mode++)
        for (size_t i = 0; i < sizeof pads / sizeof *pads - (mode != WEFT_PAD_CONSTANT); i++) {
            const int64_t n = 2, h = 4, w = 5, c = 3, in = n * h * w * c, *p = pads[i];
            double *x = values(in), *dx = room(in);
            weft_pad_args a = { .type = WEFT_F64, .mode = mode, .n = n, .h = h, .w = w, .c = c, .top = p[0], .bottom = p[1],
                                .left = p[2], .right = p[3], .value = 3, .x = x };
            const struct forward f = forward_of(WEFT_KERNEL_pad, &a, &a.y, n * (h + p[0] + p[1]) * (w + p[2] + p[3]) * c);
            run(WEFT_KERNEL_pad_grad, &(weft_pad_grad_args){ .type = WEFT_F64, .mode = mode, .n = n, .h = h, .w = w, .c = c, .top = p[0],
                                                             .bottom = p[1], .left = p[2], .right = p[3], .dy = f.r, .dx = dx });
            check_slope(&f, x, dx, in, "x");
            buffers_free();
        }
}

TEST(slope_of_embedding) {
    const int64_t ids[] = { 2, 0, 2, 4, 2 }, rows = 6, c = 3;
    double *table = values(rows * c), *dtable = room(rows * c);
    weft_embedding_args a = { .type = WEFT_F64, .table_type = WEFT_F64, .id_type = WEFT_I64, .n = 5, .rows = rows, .c = c, .ids = ids,
                              .table = table };
    const struct forward f = forward_of(WEFT_KERNEL_embedding, &a, &a.y, 15);
    weft_embedding_grad_args g = { .type = WEFT_F64, .id_type = WEFT_I64, .n = 5, .rows = rows, .c = c, .ids = ids, .dy = f.r,
                                   .dtable = dtable };
    run(WEFT_KERNEL_embedding_grad, &g);
    check_slope(&f, table, dtable, rows * c, "table");
    g.accumulate = 1;
    run(WEFT_KERNEL_embedding_grad, &g);
    for (int64_t i = 0; i < rows * c; i++) dtable[i] /= 2;
    check_slope(&f, table, dtable, rows * c, "table, added up");
    buffers_free();
}

TEST_MAIN
