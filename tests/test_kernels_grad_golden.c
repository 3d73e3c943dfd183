/* Gradients of both back ends against PyTorch's autograd and Pillow: tests/golden/kernels_grads.safetensors, made by
 * make_kernel_grads.py. */
#include "tests/kernel_golden.h"

/* What the forward hands on (statistics, lse, o, softmax's y) is rounded to f32 in the file, and products with it follow. */
#define HANDED_ON 2e-6

/* Each result of a case: its slot in the arguments, its name in the file. */
struct result { void **slot; const char *name; };

static void check_results(struct kernel_case c, const struct result *results, int n, double reference_tolerance) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n; k++) *results[k].slot = buffer_new((size_t)count(results[k].name) * 4, 0, 0);
        c.out = results[i].slot;
        golden_check(c, results[i].name, reference_tolerance);
    }
}

TEST(golden_conv2d_grad) {
    REQUIRE(golden_open("grads"));
    for (int i = 0; golden_case("conv2d_grad", i); i++)
        for (int p = 0; p < 2; p++) {
            const int64_t o = dim("w", 0), in = dim("w", 1), taps = dim("w", 2) * dim("w", 3);
            weft_conv2d_grad_input_args a = {
                .type = WEFT_F32, .wtype = WEFT_F32, .n = dim("x", 0), .h = dim("x", 1), .w = dim("x", 2), .c = in, .o = o,
                .oh = dim("dy", 1), .ow = dim("dy", 2), .kh = (int)dim("w", 2), .kw = (int)dim("w", 3), .stride = (int)option(0),
                .pad_top = (int)option(1), .pad_left = (int)option(2), .dy = tensor("dy") };
            struct kernel_case c = { .id = WEFT_KERNEL_conv2d_grad_input, .args = &a, .out = &a.dx, .weight = &a.weight,
                                     .precision = p ? WEFT_PRECISION_EXACT : WEFT_PRECISION_FAST };
            c.plain = (weft_pack_args){ .type = WEFT_F32, .n = in, .taps = taps, .k = o, .stride_n = taps, .stride_tap = -1,
                                        .stride_k = in * taps, .src = (float *)tensor("w") + taps - 1 };
            c.tolerance = p ? sum_tolerance(o * taps) : 1e-5;       /* as in kernel_products.h */
            golden_check(c, "dx", ROUNDED);
            weft_conv2d_grad_weight_args w = {
                .type = WEFT_F32, .n = a.n, .h = a.h, .w = a.w, .c = in, .o = o, .oh = a.oh, .ow = a.ow, .kh = a.kh, .kw = a.kw,
                .stride = a.stride, .pad_top = a.pad_top, .pad_left = a.pad_left, .x = tensor("x"), .dy = a.dy };
            golden_check((struct kernel_case){ .id = WEFT_KERNEL_conv2d_grad_weight, .args = &w, .out = &w.dw, .precision = c.precision,
                                               .tolerance = p ? sum_tolerance(a.n * a.oh * a.ow) : 1e-5 }, "dw", ROUNDED);
        }
    golden_close();
}

TEST(golden_attention_grad) {
    REQUIRE(golden_open("grads"));
    for (int i = 0; golden_case("attention_grad", i); i++) {
        const int64_t tq = dim("q", 1), heads = dim("q", 2), d = dim("q", 3), tk = dim("k", 1), row = heads * d;
        weft_attention_grad_args a = {
            .type = WEFT_F32, .batch = dim("q", 0), .heads = heads, .tq = tq, .tk = tk, .d = d, .scale = 1 / sqrt((double)d),
            .causal = (int)option(0), .q = tensor("q"), .q_batch = tq * row, .q_token = row, .q_head = d,
            .k = tensor("k"), .k_batch = tk * row, .k_token = row, .k_head = d, .v = tensor("v"), .v_batch = tk * row, .v_token = row,
            .v_head = d, .o = tensor("o"), .dout = tensor("dy"), .o_batch = tq * row, .o_token = row, .o_head = d, .lse = tensor("lse"),
            .dq_batch = tq * row, .dq_token = row, .dq_head = d, .dk_batch = tk * row, .dk_token = row, .dk_head = d,
            .dv_batch = tk * row, .dv_token = row, .dv_head = d };
        check_results((struct kernel_case){ .id = WEFT_KERNEL_attention_grad, .args = &a, .tolerance = 1e-5 },
                      (struct result[]){ { &a.dq, "dq" }, { &a.dk, "dk" }, { &a.dv, "dv" } }, 3, HANDED_ON);
    }
    golden_close();
}

TEST(golden_norm_grads) {
    REQUIRE(golden_open("grads"));
    for (int i = 0; golden_case("group_norm_grad", i); i++) {
        weft_group_norm_grad_args a = { .type = WEFT_F32, .n = dim("x", 0), .pixels = dim("x", 1), .c = dim("x", 2), .groups = option(0),
                                        .act = (weft_activation)option(1), .x = tensor("x"), .gamma = tensor("g"), .beta = tensor("b"),
                                        .mean = tensor("mean"), .rstd = tensor("rstd"), .dy = tensor("dy") };
        check_results((struct kernel_case){ .id = WEFT_KERNEL_group_norm_grad, .args = &a, .tolerance = 3e-6 },
                      (struct result[]){ { &a.dx, "dx" }, { &a.dgamma, "dg" }, { &a.dbeta, "db" } }, 3, HANDED_ON);
    }
    for (int i = 0; golden_case("layer_norm_grad", i); i++) {
        weft_layer_norm_grad_args a = { .type = WEFT_F32, .rows = dim("x", 0), .c = dim("x", 1), .x = tensor("x"), .gamma = tensor("g"),
                                        .mean = tensor("mean"), .rstd = tensor("rstd"), .dy = tensor("dy") };
        check_results((struct kernel_case){ .id = WEFT_KERNEL_layer_norm_grad, .args = &a, .tolerance = 3e-6 },
                      (struct result[]){ { &a.dx, "dx" }, { &a.dgamma, "dg" }, { &a.dbeta, "db" } }, 3, HANDED_ON);
    }
    for (int i = 0; golden_case("softmax_grad", i); i++) {
        weft_softmax_grad_args a = { .type = WEFT_F32, .rows = dim("x", 0), .c = dim("x", 1), .scale = number(0), .y = tensor("x"),
                                     .dy = tensor("dy") };
        struct kernel_case c = { .id = WEFT_KERNEL_softmax_grad, .args = &a, .out = &a.dx, .tolerance = 3e-6 };
        c.terms = c.floor = 1e-3;       /* of one value: the gradient is 0 */
        golden_check(c, "dx", HANDED_ON);
    }
    golden_close();
}

TEST(golden_pointwise_grads) {
    REQUIRE(golden_open("grads"));
    for (int i = 0; golden_case("unary_grad", i); i++) {
        weft_unary_grad_args a = { .type = WEFT_F32, .op = (weft_unary_op)option(0), .n = count("x"), .x = tensor("x"), .dy = tensor("dy") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_unary_grad, .args = &a, .out = &a.dx, .tolerance = 1e-6 }, "dx", ROUNDED);
    }
    for (int i = 0; golden_case("affine_grad", i); i++) {
        weft_affine_grad_args a = { .type = WEFT_F32, .n = count("x"), .scale = number(0), .shift = number(1), .low = number(2),
                                    .high = number(3), .x = tensor("x"), .dy = tensor("dy") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_affine_grad, .args = &a, .out = &a.dx, .tolerance = 1e-7 }, "dx", ROUNDED);
    }
    for (int i = 0; golden_case("geglu_grad", i); i++) {
        weft_geglu_grad_args a = { .type = WEFT_F32, .rows = dim("dy", 0), .half = dim("dy", 1), .x = tensor("x"), .dy = tensor("dy") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_geglu_grad, .args = &a, .out = &a.dx, .tolerance = 1e-6 }, "dx", ROUNDED);
    }
    for (int i = 0; golden_case("reduce_grad", i); i++) {
        weft_reduce_grad_args a = { .type = WEFT_F32, .op = (weft_reduce_op)option(0), .outer = dim("x", 0), .mid = dim("x", 1),
                                    .inner = dim("x", 2), .x = tensor("x"), .y = tensor("y"), .dy = tensor("dy") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_reduce_grad, .args = &a, .out = &a.dx, .tolerance = 2e-7 }, "dx", ROUNDED);
    }
    golden_close();
}

TEST(golden_picture_grads) {
    REQUIRE(golden_open("grads"));
    for (int i = 0; golden_case("resample_grad", i); i++) {
        weft_resample_grad_args a = { .type = WEFT_F32, .mode = (weft_resample_mode)option(0), .n = dim("dx", 0), .h = dim("dx", 1),
                                      .w = dim("dx", 2), .c = dim("dx", 3), .oh = dim("dy", 1), .ow = dim("dy", 2), .dy = tensor("dy") };
        /* PyTorch's own sums are in f32; Pillow's weights rounded so. */
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_resample_grad, .args = &a, .out = &a.dx, .tolerance = 2e-6 }, "dx", 1e-6);
    }
    for (int i = 0; golden_case("pad_grad", i); i++) {
        weft_pad_grad_args a = { .type = WEFT_F32, .mode = (weft_pad_mode)option(0), .n = dim("dx", 0), .h = dim("dx", 1),
                                 .w = dim("dx", 2), .c = dim("dx", 3), .left = option(1), .right = option(2), .top = option(3),
                                 .bottom = option(4), .dy = tensor("dy") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_pad_grad, .args = &a, .out = &a.dx, .tolerance = 3e-7 }, "dx", ROUNDED);
    }
    for (int i = 0; golden_case("embedding_grad", i); i++) {
        weft_embedding_grad_args a = { .type = WEFT_F32, .id_type = WEFT_I64, .n = dim("dy", 0), .rows = dim("dx", 0), .c = dim("dx", 1),
                                       .ids = tensor("x"), .dy = tensor("dy") };
        golden_check((struct kernel_case){ .id = WEFT_KERNEL_embedding_grad, .args = &a, .out = &a.dtable, .tolerance = 3e-7 }, "dx", ROUNDED);
    }
    golden_close();
}

KERNEL_TEST_MAIN
