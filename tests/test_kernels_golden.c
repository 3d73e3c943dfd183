/* Both back ends against PyTorch, Pillow and diffusers: tests/golden/kernels_*.safetensors, made by make_kernels.py. */
#include "tests/kernel_golden.h"

TEST(golden_conv2d) {
    REQUIRE(golden_open("products"));
    for (int i = 0; golden_case("conv2d", i); i++)
        for (int p = 0; p < 2; p++) {
            int64_t o = dim("w", 0), in = dim("w", 1), taps = dim("w", 2) * dim("w", 3);
            weft_conv2d_args a = { .type = WEFT_F32, .wtype = WEFT_F32, .n = dim("x", 0), .h = dim("x", 1),
                                   .w = dim("x", 2), .c = dim("x", 3), .o = o, .oh = dim("y", 1), .ow = dim("y", 2),
                                   .kh = (int)dim("w", 2), .kw = (int)dim("w", 3), .stride = (int)option(0),
                                   .pad_top = (int)option(1), .pad_left = (int)option(2), .x = tensor("x"),
                                   .bias = tensor("b"), .row = tensor("row"), .residual = tensor("r") };
            struct kernel_case c = { .id = WEFT_KERNEL_conv2d, .args = &a, .out = &a.y, .weight = &a.weight,
                                     .precision = p ? WEFT_PRECISION_EXACT : WEFT_PRECISION_FAST };
            c.plain = (weft_pack_args){ .type = WEFT_F32, .n = o, .taps = taps, .k = in, .stride_n = in * taps,
                                        .stride_tap = 1, .stride_k = taps, .src = tensor("w") };
            c.tolerance = p ? sum_tolerance(in * taps) : 1e-5;      /* as in kernel_products.h */
            golden_check(c, "y", ROUNDED);
        }
    golden_close();
}

TEST(golden_gemm) {
    REQUIRE(golden_open("products"));
    for (int i = 0; golden_case("gemm", i); i++) {
        int64_t m = dim("x", 0), k = dim("x", 1), n = dim("w", 0);
        weft_gemm_args a = { .type = WEFT_F32, .wtype = WEFT_F32, .m = m, .n = n, .k = k, .x = tensor("x"), .ldx = k,
                             .bias = tensor("b"), .residual = tensor("r"), .ldr = n,
                             .act = (weft_activation)option(0), .ldy = n };
        struct kernel_case c = { .id = WEFT_KERNEL_gemm, .args = &a, .out = &a.y, .weight = &a.w,
                                 .precision = WEFT_PRECISION_EXACT };
        c.plain = (weft_pack_args){ .type = WEFT_F32, .n = n, .taps = 1, .k = k, .stride_n = k, .stride_tap = 1,
                                    .stride_k = 1, .src = tensor("w") };
        c.tolerance = sum_tolerance(k);
        golden_check(c, "y", ROUNDED);
    }
    golden_close();
}

TEST(golden_attention) {
    REQUIRE(golden_open("products"));
    for (int i = 0; golden_case("attention", i); i++) {
        int64_t tq = dim("q", 1), heads = dim("q", 2), d = dim("q", 3), tk = dim("k", 1), row = heads * d;
        weft_attention_args a = { .type = WEFT_F32, .batch = dim("q", 0), .heads = heads, .tq = tq, .tk = tk, .d = d,
                                  .scale = 1 / sqrt((double)d), .causal = (int)option(0),
                                  .q = tensor("q"), .q_batch = tq * row, .q_token = row, .q_head = d,
                                  .k = tensor("k"), .k_batch = tk * row, .k_token = row, .k_head = d,
                                  .v = tensor("v"), .v_batch = tk * row, .v_token = row, .v_head = d,
                                  .o_batch = tq * row, .o_token = row, .o_head = d };
        /* Scores of up to about 150 in f32 are off by 150·6e-8 and the exponential by as much of itself. */
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_attention, .args = &a, .out = &a.o, .tolerance = 1e-5 },
                     "y", ROUNDED);
    }
    golden_close();
}

TEST(golden_norms) {
    REQUIRE(golden_open("norms"));
    for (int i = 0; golden_case("group_norm", i); i++) {
        weft_group_norm_args a = { .type = WEFT_F32, .n = dim("x", 0), .pixels = dim("x", 1), .c = dim("x", 2),
                                   .groups = option(0), .eps = number(0), .x = tensor("x"), .gamma = tensor("g"),
                                   .beta = tensor("b"), .act = option(1) ? WEFT_ACT_SILU : WEFT_ACT_NONE };
        /* x − mean of f32 values that lie 1500 spreads from 0 is good to 1500·6e-8 of the spread; the rest to 1e-6. */
        struct kernel_case c = { .id = WEFT_KERNEL_group_norm, .args = &a, .out = &a.y };
        c.tolerance = i == 3 ? 1e-4 : i == 2 ? 2e-5 : 2e-6;
        golden_check(c, "y", ROUNDED);
    }
    for (int i = 0; golden_case("layer_norm", i); i++) {
        weft_layer_norm_args a = { .type = WEFT_F32, .rows = dim("x", 0), .c = dim("x", 1), .eps = number(0),
                                   .x = tensor("x"), .gamma = tensor("g"), .beta = tensor("b") };
        struct kernel_case c = { .id = WEFT_KERNEL_layer_norm, .args = &a, .out = &a.y };
        c.tolerance = i == 2 ? 3e-5 : 2e-6;         /* here 500 spreads */
        golden_check(c, "y", ROUNDED);
    }
    for (int i = 0; golden_case("softmax", i); i++) {
        weft_softmax_args a = { .type = WEFT_F32, .rows = dim("x", 0), .c = dim("x", 1), .scale = number(0),
                                .x = tensor("x") };
        /* scale·x up to about 300 in f32: 300·6e-8 in the exponent. */
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_softmax, .args = &a, .out = &a.y, .tolerance = 1e-5 },
                     "y", ROUNDED);
    }
    golden_close();
}

/* A unary function at x may be off by a few rounding errors of its value, of its argument (times the slope: exp, sin,
 * cos of large x have none to spare, so their argument is exact) and, gelu by 1 + erf in f32, of x itself. */
TEST(golden_unary) {
    REQUIRE(golden_open("pointwise"));
    for (int i = 0; golden_case("unary", i); i++) {
        weft_unary_args a = { .type = WEFT_F32, .op = (weft_unary_op)option(0), .n = count("x"), .x = tensor("x") };
        struct kernel_case c = { .id = WEFT_KERNEL_unary, .args = &a, .out = &a.y, .tolerance = 1e-6 };
        /* the special values: each for itself, results below the normal range may be flushed */
        if (option(1)) {
            c.each = true;
            c.tolerance = 2e-6;
            c.floor = 1.2e-38;
        }
        golden_check(c, "y", ROUNDED);
    }
    golden_close();
}

TEST(golden_pointwise) {
    REQUIRE(golden_open("pointwise"));
    for (int i = 0; golden_case("affine", i); i++) {
        weft_affine_args a = { .type = WEFT_F32, .n = count("x"), .scale = number(0), .shift = number(1),
                               .low = number(2), .high = number(3), .x = tensor("x") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_affine, .args = &a, .out = &a.y, .each = true,
                                           .tolerance = 2.5e-7, .floor = 1e-6 }, "y", ROUNDED);
    }
    for (int i = 0; golden_case("geglu", i); i++) {
        weft_geglu_args a = { .type = WEFT_F32, .rows = dim("x", 0), .half = dim("x", 1) / 2, .x = tensor("x") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_geglu, .args = &a, .out = &a.y, .tolerance = 1e-6 }, "y",
                     ROUNDED);
    }
    for (int i = 0; golden_case("reduce", i); i++) {
        weft_reduce_args a = { .type = WEFT_F32, .op = (weft_reduce_op)option(0), .outer = dim("x", 0),
                               .mid = dim("x", 1), .inner = dim("x", 2), .x = tensor("x") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_reduce, .args = &a, .out = &a.y, .tolerance = 3e-7 }, "y",
                     ROUNDED);
    }
    golden_close();
}

TEST(golden_binary) {
    REQUIRE(golden_open("pointwise"));
    for (int i = 0; golden_case("binary", i); i++) {
        weft_binary_args a = { .type = WEFT_F32, .op = (weft_binary_op)option(0), .rank = entry("y")->rank,
                               .a = tensor("a"), .b = tensor("b") };
        int64_t a_step = 1, b_step = 1;
        for (int d = a.rank - 1; d >= 0; d--) {         /* NumPy's rule: from the right; a size of 1 or none repeats */
            int ad = d - a.rank + entry("a")->rank, bd = d - a.rank + entry("b")->rank;
            int64_t as = ad >= 0 ? dim("a", ad) : 1, bs = bd >= 0 ? dim("b", bd) : 1;
            a.shape[d] = dim("y", d);
            a.a_stride[d] = as == 1 ? 0 : a_step;
            a.b_stride[d] = bs == 1 ? 0 : b_step;
            a_step *= as;
            b_step *= bs;
        }
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_binary, .args = &a, .out = &a.y, .each = true,
                                           .tolerance = ROUNDED }, "y", ROUNDED);
    }
    golden_close();
}

TEST(golden_resample) {
    REQUIRE(golden_open("pictures"));
    for (int u8 = 0; u8 < 2; u8++)
        for (int i = 0; golden_case(u8 ? "resample_u8" : "resample", i); i++) {
            weft_resample_args a = { .type = u8 ? WEFT_U8 : WEFT_F32, .mode = (weft_resample_mode)option(0),
                                     .n = dim("x", 0), .h = dim("x", 1), .w = dim("x", 2), .c = dim("x", 3),
                                     .oh = dim("y", 1), .ow = dim("y", 2), .x = tensor("x") };
            bool same = u8 || a.mode <= WEFT_NEAREST_EXACT;
            /* Source positions of non-integer ratios are f32 numbers of up to 64, and PyTorch fuses their multiply
             * and add in some layouts and not in others: 64·6e-8 in a weight, less over a picture. 8-bit and picked
             * values are equal. */
            golden_check((struct kernel_case){ .id = WEFT_KERNEL_resample, .args = &a, .out = &a.y,
                                               .tolerance = same ? 0 : 3e-6 },
                         "y", same ? 0 : 2e-6);
        }
    golden_close();
}

TEST(golden_pad) {
    REQUIRE(golden_open("pictures"));
    for (int i = 0; golden_case("pad", i); i++) {
        weft_pad_args a = { .type = WEFT_F32, .mode = (weft_pad_mode)option(0), .n = dim("x", 0), .h = dim("x", 1),
                            .w = dim("x", 2), .c = dim("x", 3), .left = option(1), .right = option(2),
                            .top = option(3), .bottom = option(4), .value = number(0), .x = tensor("x") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_pad, .args = &a, .out = &a.y }, "y", 0);
    }
    golden_close();
}

TEST(golden_tables) {
    REQUIRE(golden_open("tables"));
    for (int i = 0; golden_case("timestep", i); i++) {
        weft_timestep_args a = { .type = WEFT_F32, .n = dim("x", 0), .dim = option(0), .flip = (int)option(1),
                                 .max_period = number(0), .shift = number(1),
                                 .scale = number(2), .t = tensor("x") };
        /* An angle near 1000 is good to 3e-5 in f32, and PyTorch's exponential to one rounding: some values are off
         * by that. */
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_timestep, .args = &a, .out = &a.y, .tolerance = 1e-5 },
                     "y", 1e-5);
    }
    for (int i = 0; golden_case("embedding", i); i++) {
        weft_embedding_args a = { .type = WEFT_F32, .table_type = entry("w")->type, .id_type = WEFT_I64,
                                  .n = dim("x", 0), .rows = dim("w", 0),
                                  .c = dim("w", 1), .ids = tensor("x"), .table = tensor("w") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_embedding, .args = &a, .out = &a.y }, "y", 0);
    }
    golden_close();
}

TEST(golden_casts) {
    REQUIRE(golden_open("tables"));
    for (int i = 0; golden_case("copy", i); i++) {
        const char *y = entry("y") ? "y" : "y64";
        weft_copy_args a = { .src_type = entry("x")->type, .dst_type = entry(y)->type, .rank = 1,
                             .shape = { count("x") }, .src_stride = { 1 },
                             .dst_stride = { 1 }, .src = tensor("x") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_copy, .args = &a, .out = &a.dst }, y, 0);
    }
    golden_close();
}

KERNEL_TEST_MAIN
