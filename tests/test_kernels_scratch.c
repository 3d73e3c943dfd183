/* Scratch that fails at each place where it is asked for, and the cancel flag: a kernel answers, releases what it
 * took, and does not crash; where it says OK the result is right. */
#include "tests/kernel_products.h"

/* Refuses the first request, then the second, … until the kernel gets by without a refusal. Another way taken for
 * lack of scratch may round another way: within the case's tolerance of the reference. */
static void fail_everywhere(const struct kernel_case *c, const char *what) {
    const weft_kernels *tables[] = { weft_kernels_reference(), tested() };
    const void *want = tested()->types[c->id] ? case_want(c, what) : NULL;
    for (int t = 0; t < 2 && want; t++)
        for (int threads = 1; threads <= 1 + t; threads++) {
            struct scratch s;
            for (int64_t fail_at = 0;; fail_at++) {
                weft_env env = kernel_env(&s, threads, c->precision);
                int status;
                void *y;
                if (c->weight) {        /* packing may take scratch of its own: let it, the kernel is what is tested */
                    struct kernel_case packing = *c;
                    packing.id = WEFT_KERNEL_fill;
                    packing.args = &(weft_fill_args){ .type = WEFT_F32, .n = 0 };
                    case_run(&packing, tables[t], &env, &status);
                    CHECK_EQ(status, WEFT_K_OK);
                }
                y = *c->out = buffer_new(bytes_of(c->type, c->count), GUARD, 0);
                if (c->before) memcpy(y, c->before, bytes_of(c->type, c->count));
                if (c->alias) *c->alias = y;
                s.calls = 0;
                s.fail_at = fail_at;
                status = kernel_call(tables[t], c->id, &env, c->args);
                if (status != WEFT_K_OK && status != WEFT_K_NO_MEMORY)
                    TEST_FAIL("%s, request %" PRId64 " refused: status %d", what, fail_at, status);
                if (s.live) TEST_FAIL("%s, request %" PRId64 " refused: %zu bytes kept", what, fail_at, s.live);
                if (!guard_holds(y, bytes_of(c->type, c->count)))
                    TEST_FAIL("%s, request %" PRId64 " refused: wrote outside its output", what, fail_at);
                if (status == WEFT_K_OK && !case_near(c, y, want, what)) return;
                if (s.calls <= fail_at) break;
                if (fail_at > 100) { TEST_FAIL("%s: more than 100 requests for scratch", what); return; }
            }
        }
}

/* Up from the start: given up, or done; either way nothing is kept. */
static void cancel(const struct kernel_case *c, const char *what) {
    const weft_kernels *tables[] = { weft_kernels_reference(), tested() };
    const void *want = tested()->types[c->id] ? case_want(c, what) : NULL;
    volatile int flag = 1;
    for (int t = 0; t < 2 && want; t++)
        for (int threads = 1; threads <= 1 + 2 * t; threads++) {
            struct scratch s;
            weft_env env = kernel_env(&s, threads, c->precision);
            env.cancel = &flag;
            int status;
            flag = 0;
            void *y = case_run(c, tables[t], &env, &status);
            CHECK_EQ(status, WEFT_K_OK);            /* a flag that is down changes nothing */
            flag = 1;
            if (c->before) memcpy(y, c->before, bytes_of(c->type, c->count));
            status = kernel_call(tables[t], c->id, &env, c->args);
            if (status != WEFT_K_CANCELLED && status != WEFT_K_OK) TEST_FAIL("%s, cancelled: status %d", what, status);
            if (status == WEFT_K_OK) case_near(c, y, want, what);
            if (s.live) TEST_FAIL("%s, cancelled: %zu bytes kept", what, s.live);
        }
}

static void both(const struct kernel_case *c, const char *what) {
    fail_everywhere(c, what);
    cancel(c, what);
    buffers_free();
}

TEST(scratch_gemm) {
    weft_gemm_args a;
    struct kernel_case c = gemm_case(&a, WEFT_F32, WEFT_F32, 77, 50, 320, HAS_BIAS | RESIDUAL_IS_Y, WEFT_ACT_SILU);
    both(&c, "gemm");
    c = gemm_case(&a, WEFT_F32, WEFT_F16, 200, 70, 600, HAS_BIAS, WEFT_ACT_NONE);
    both(&c, "gemm of f16 weights");
}

TEST(scratch_matmul) {
    for (int layout = 0; layout < 4; layout++) {
        int64_t m = 40, n = 50, k = 300;
        weft_matmul_args a = { .type = WEFT_F32, .batch = 2, .m = m, .n = n, .k = k, .alpha = 1, .accumulate = 1,
                               .a_batch = m * k, .a_row = layout & 1 ? 1 : k, .a_col = layout & 1 ? m : 1,
                               .b_batch = n * k, .b_row = layout & 2 ? 1 : n, .b_col = layout & 2 ? k : 1,
                               .c_batch = m * n, .ldc = n, .a = random_values(WEFT_F32, 2 * m * k, 0, 1),
                               .b = random_values(WEFT_F32, 2 * n * k, 0, 1) };
        struct kernel_case c = { .id = WEFT_KERNEL_matmul, .args = &a, .out = &a.c, .type = WEFT_F32,
                                 .count = 2 * m * n, .before = random_values(WEFT_F32, 2 * m * n, 0, 1),
                                 .tolerance = sum_tolerance(k) };
        both(&c, "matmul");
    }
}

TEST(scratch_conv2d) {
    static const struct conv_shape shapes[] = {
        { 2, 12, 13, 24, 35, 3, 3, 1, 1, 1, 1, 1 },
        { 1, 12, 13, 24, 35, 3, 3, 2, 0, 1, 0, 1 },
        { 1, 9, 9, 20, 30, 1, 1, 1, 0, 0, 0, 0 },
        { 1, 9, 9, 20, 30, 5, 5, 1, 2, 2, 2, 2 },
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int p = 0; p < 2; p++)
            for (int half = 0; half < 2; half++) {
                weft_conv2d_args a;
                struct kernel_case c = conv_case(&a, WEFT_F32, half ? WEFT_F16 : WEFT_F32, shapes[i],
                                                 HAS_BIAS | HAS_ROW | RESIDUAL_IS_Y, (weft_precision)p);
                both(&c, "conv2d");
            }
}

TEST(scratch_attention) {
    for (int causal = 0; causal < 2; causal++) {
        weft_attention_args a;
        struct kernel_case c = attention_case(&a, WEFT_F32, 2, 2, 70, 130, 24, causal, 1, 4);
        both(&c, "attention");
    }
}

TEST(scratch_norms) {
    weft_group_norm_args a = { .type = WEFT_F32, .n = 2, .pixels = 500, .c = 40, .groups = 5, .eps = 1e-5,
                               .act = WEFT_ACT_SILU, .x = random_values(WEFT_F32, 40000, 1, 1) };
    struct kernel_case c = { .id = WEFT_KERNEL_group_norm, .args = &a, .out = &a.y, .type = WEFT_F32, .count = 40000,
                             .tolerance = 2e-6 };
    both(&c, "group_norm");
    weft_layer_norm_args l = { .type = WEFT_F32, .rows = 50, .c = 300, .eps = 1e-5, .x = random_values(WEFT_F32, 15000,
        1, 1) };
    c = (struct kernel_case){ .id = WEFT_KERNEL_layer_norm, .args = &l, .out = &l.y, .type = WEFT_F32, .count = 15000,
                              .tolerance = 2e-6 };
    both(&c, "layer_norm");
    weft_softmax_args s = { .type = WEFT_F32, .rows = 50, .c = 300, .scale = 1, .x = random_values(WEFT_F32, 15000, 1,
        1) };
    c = (struct kernel_case){ .id = WEFT_KERNEL_softmax, .args = &s, .out = &s.y, .type = WEFT_F32, .count = 15000,
                              .tolerance = 2e-6 };
    both(&c, "softmax");
}

TEST(scratch_resample) {
    for (weft_resample_mode mode = 0; mode < WEFT_RESAMPLE_COUNT; mode++)
        for (int u8 = 0; u8 <= (mode >= WEFT_PIL_BILINEAR); u8++) {
            weft_dtype type = u8 ? WEFT_U8 : WEFT_F32;
            weft_resample_args a = { .type = type, .mode = mode, .n = 2, .h = 20, .w = 30, .c = 3, .oh = 33, .ow = 17,
                                     .x = random_values(type, 3600, u8 ? 128 : 0, u8 ? 60 : 1) };
            struct kernel_case c = { .id = WEFT_KERNEL_resample, .args = &a, .out = &a.y, .type = type,
                                     .count = 2 * 33 * 17 * 3, .tolerance = u8 ? 0 : 3e-6 };
            both(&c, "resample");
        }
}

TEST(scratch_conv_grads) {
    static const struct conv_shape shapes[] = {
        { 2, 12, 13, 24, 35, 3, 3, 1, 1, 1, 1, 1 }, { 2, 12, 13, 24, 35, 3, 3, 2, 0, 1, 0, 1 }, { 1, 9, 9, 20, 30, 1, 1, 1, 0, 0, 0, 0 },
        { 1, 9, 9, 20, 30, 5, 5, 3, 2, 2, 2, 2 },
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int p = 0; p < 2; p++) {
            weft_conv2d_grad_input_args input;
            struct kernel_case c = conv_grad_input_case(&input, WEFT_F32, p ? WEFT_F16 : WEFT_F32, shapes[i], (weft_precision)p);
            both(&c, "conv2d_grad_input");
            weft_conv2d_grad_weight_args weight;
            c = conv_grad_weight_case(&weight, WEFT_F32, shapes[i], 1, (weft_precision)p);
            both(&c, "conv2d_grad_weight");
        }
}

TEST(scratch_attention_grad) {
    for (int which = 0; which < 3; which++) {
        weft_attention_grad_args a;
        struct kernel_case c = attention_grad_case(&a, WEFT_F32, 1, 1, 70, 1100, 24, which == 1, 1, 4, which, false);
        both(&c, "attention_grad");
    }
}

TEST(scratch_norm_grads) {
    weft_group_norm_grad_args g = { .type = WEFT_F32, .n = 2, .pixels = 500, .c = 40, .groups = 5, .act = WEFT_ACT_SILU,
                                    .x = random_values(WEFT_F32, 40000, 0, 1), .dy = random_values(WEFT_F32, 40000, 0, 1),
                                    .mean = random_values(WEFT_F32, 10, 0, 0.1), .rstd = random_values(WEFT_F32, 10, 1, 0.1) };
    struct kernel_case c = { .id = WEFT_KERNEL_group_norm_grad, .args = &g, .out = &g.dx, .type = WEFT_F32, .count = 40000,
                             .tolerance = 2e-6 };
    both(&c, "group_norm_grad");
    weft_layer_norm_grad_args l = { .type = WEFT_F32, .rows = 300, .c = 50, .x = random_values(WEFT_F32, 15000, 0, 1),
                                    .dy = random_values(WEFT_F32, 15000, 0, 1), .mean = random_values(WEFT_F32, 300, 0, 0.1),
                                    .rstd = random_values(WEFT_F32, 300, 1, 0.1) };
    c = (struct kernel_case){ .id = WEFT_KERNEL_layer_norm_grad, .args = &l, .out = &l.dgamma, .type = WEFT_F32, .count = 50,
                              .tolerance = 2e-6 };
    both(&c, "layer_norm_grad");
}

TEST(scratch_picture_grads) {
    for (weft_resample_mode mode = 0; mode < WEFT_RESAMPLE_COUNT; mode++) {
        weft_resample_grad_args a = { .type = WEFT_F32, .mode = mode, .n = 2, .h = 20, .w = 30, .c = 3, .oh = 33, .ow = 17,
                                      .dy = random_values(WEFT_F32, 2 * 33 * 17 * 3, 0, 1) };
        struct kernel_case c = { .id = WEFT_KERNEL_resample_grad, .args = &a, .out = &a.dx, .type = WEFT_F32, .count = 3600,
                                 .tolerance = 4e-6 };
        both(&c, "resample_grad");
    }
    weft_pad_grad_args p = { .type = WEFT_F32, .mode = WEFT_PAD_REFLECT, .n = 2, .h = 9, .w = 10, .c = 5, .top = 3, .bottom = 4, .left = 5,
                             .right = 6, .dy = random_values(WEFT_F32, 2 * 16 * 21 * 5, 0, 1) };
    struct kernel_case c = { .id = WEFT_KERNEL_pad_grad, .args = &p, .out = &p.dx, .type = WEFT_F32, .count = 900, .tolerance = 3e-7 };
    both(&c, "pad_grad");
}

TEST(scratch_others) {
    weft_reduce_args r = { .type = WEFT_F32, .op = WEFT_REDUCE_SUM, .outer = 3, .mid = 2000, .inner = 7,
                           .x = random_values(WEFT_F32, 42000, 1, 1) };
    struct kernel_case c = { .id = WEFT_KERNEL_reduce, .args = &r, .out = &r.y, .type = WEFT_F32, .count = 21,
                             .tolerance = 5e-7 };
    both(&c, "reduce");
    weft_timestep_args t = { .type = WEFT_F32, .n = 3, .dim = 64, .max_period = 10000, .scale = 1,
                             .t = random_values(WEFT_F32, 3, 10, 1) };
    c = (struct kernel_case){ .id = WEFT_KERNEL_timestep, .args = &t, .out = &t.y, .type = WEFT_F32, .count = 192,
                              .tolerance = 1e-5 };
    both(&c, "timestep");
    weft_copy_args p = { .src_type = WEFT_F16, .dst_type = WEFT_F32, .rank = 3, .shape = { 20, 30, 40 },
                         .src_stride = { 1, 20, 600 }, .dst_stride = { 1200, 40, 1 }, .src = random_values(WEFT_F16,
                             24000, 0, 1) };
    c = (struct kernel_case){ .id = WEFT_KERNEL_copy, .args = &p, .out = &p.dst, .type = WEFT_F32, .count = 24000 };
    both(&c, "copy");
}

KERNEL_TEST_MAIN
