/* Operations against numbers worked out by hand, on both back ends, and what they refuse, with the message.
 * Numbers are small integers or come with their formula; 1e-6 and the like are a few roundings of f32 at that size. */
#include "tests/tensors.h"

#define S(...) WEFT_SHAPE(__VA_ARGS__)

/* A case that runs on both back ends. */
#define TEST_BOTH(id) \
    static void both_##id(weft_ctx *c); \
    TEST(id) { \
        for (int i = 0; i < 2; i++) { \
            weft_ctx *c = open_device(i ? "cpu" : "reference"); \
            REQUIRE(c); \
            both_##id(c); \
            CLOSE(c); \
        } \
    } \
    static void both_##id(weft_ctx *c)

TEST_BOTH(binary_broadcasts) {
    weft_tensor *a = counting(c, WEFT_F32, S(2, 3)), *b = TENSOR(c, WEFT_F32, S(3), 10, 20, 30);
    CHECK_TENSOR(c, weft_add(c, a, b), S(2, 3), 0, 10, 21, 32, 13, 24, 35);
    CHECK_TENSOR(c, weft_subtract(c, b, a), S(2, 3), 0, 10, 19, 28, 7, 16, 25);
    weft_tensor *column = TENSOR(c, WEFT_F32, S(2, 1), 2, 4);
    CHECK_TENSOR(c, weft_mul(c, a, column), S(2, 3), 0, 0, 2, 4, 12, 16, 20);
    CHECK_TENSOR(c, weft_div(c, column, weft_scalar(c, WEFT_F32, 4)), S(2, 1), 0, 0.5, 1);
    CHECK_TENSOR(c, weft_binary(c, WEFT_BINARY_MAX, column, weft_reshape(c, b, S(1, 3))), S(2, 3), 0,
                 10, 20, 30, 10, 20, 30);
    CHECK_TENSOR(c, weft_binary(c, WEFT_BINARY_MIN, column, b), S(2, 3), 0, 2, 2, 2, 4, 4, 4);
    weft_tensor *turned = weft_permute(c, a, (const int[]){ 1, 0 });
    CHECK_TENSOR(c, weft_add(c, turned, turned), S(3, 2), 0, 0, 6, 2, 8, 4, 10);
    CHECK_TENSOR(c, weft_add(c, weft_scalar(c, WEFT_F32, 1), weft_scalar(c, WEFT_F32, 2)), SCALAR, 0, 3);
    CHECK(!weft_add(c, a, turned));
    CHECK_ERROR(c, WEFT_E_SHAPE, "add: (2, 3) f32 and (3, 2) f32 do not go together");
    CHECK(!weft_mul(c, a, weft_cast(c, a, WEFT_F64)));
    CHECK_ERROR(c, WEFT_E_TYPE, "mul: the second operand is f64, input is f32; both must have the same type");
    CHECK(!weft_binary(c, (weft_binary_op)77, a, a));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "77 is no binary operation");
    weft_tensor *ids = weft_cast(c, a, WEFT_U8);
    CHECK(!weft_div(c, ids, ids));
    CHECK_ERROR(c, WEFT_E_TYPE, "div: the ");
}

TEST_BOTH(rank_six_broadcast) {
    weft_tensor *a = counting(c, WEFT_F32, S(1, 2, 1, 2, 1, 2));
    weft_tensor *b = TENSOR(c, WEFT_F32, S(2, 1, 1), 100, 200);
    CHECK_TENSOR(c, weft_add(c, a, b), S(1, 2, 1, 2, 1, 2), 0, 100, 101, 202, 203, 104, 105, 206, 207);
}

TEST_BOTH(unary_and_affine) {
    weft_tensor *x = TENSOR(c, WEFT_F32, S(4), -2, 0, 1, 3);
    CHECK_TENSOR(c, weft_unary(c, WEFT_UNARY_RELU, x), S(4), 0, 0, 0, 1, 3);
    CHECK_TENSOR(c, weft_unary(c, WEFT_UNARY_SQUARE, x), S(4), 0, 4, 0, 1, 9);
    CHECK_TENSOR(c, weft_unary(c, WEFT_UNARY_ABS, x), S(4), 0, 2, 0, 1, 3);
    CHECK_TENSOR(c, weft_exp(c, x), S(4), 1e-5, exp(-2), 1, exp(1), exp(3));
    CHECK_TENSOR(c, weft_silu(c, x), S(4), 1e-6, -2 / (1 + exp(2)), 0, 1 / (1 + exp(-1)), 3 / (1 + exp(-3)));
    CHECK_TENSOR(c, weft_gelu(c, x), S(4), 1e-6, -1 - erf(-M_SQRT2), 0, 0.5 + 0.5 * erf(M_SQRT1_2),
                 1.5 + 1.5 * erf(3 * M_SQRT1_2));
    CHECK_TENSOR(c, weft_affine(c, x, 2, -1), S(4), 0, -5, -1, 1, 5);
    CHECK_TENSOR(c, weft_clamp(c, x, -1, 2), S(4), 0, -1, 0, 1, 2);
    CHECK_TENSOR(c, weft_clamp(c, x, 0, INFINITY), S(4), 0, 0, 0, 1, 3);
    CHECK_TENSOR(c, weft_axpby(c, 2, x, -1, weft_full(c, WEFT_F32, S(4), 1)), S(4), 0, -5, -1, 1, 5);
    CHECK(!weft_clamp(c, x, 2, 1));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "clamp: nothing lies from 2 to 1");
    CHECK(!weft_clamp(c, x, NAN, 1));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "clamp");
    CHECK(!weft_unary(c, (weft_unary_op)-1, x));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "no unary operation");
    CHECK(!weft_silu(c, weft_cast(c, x, WEFT_I64)));
    CHECK_ERROR(c, WEFT_E_TYPE, "silu: the ");
    CHECK(!weft_axpby(c, 1, x, 1, weft_full(c, WEFT_F32, S(1), 1)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "axpby: the second operand is (1) f32, expected (4) for the input (4) f32");
}

TEST_BOTH(geglu) {
    weft_tensor *x = TENSOR(c, WEFT_F32, S(2, 4), 2, 3, 0, 1, 4, 5, 1, 0);
    double g = 0.5 + 0.5 * erf(M_SQRT1_2);
    CHECK_TENSOR(c, weft_geglu(c, x), S(2, 2), 1e-6, 0, 3 * g, 4 * g, 0);
    CHECK(!weft_geglu(c, weft_slice(c, x, 1, 0, 3)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "geglu: input (2, 3) f32 does not halve");
    CHECK(!weft_geglu(c, weft_scalar(c, WEFT_F32, 1)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "() f32");
}

TEST_BOTH(linear) {
    weft_tensor *x = counting(c, WEFT_F32, S(1, 2, 3)), *w = TENSOR(c, WEFT_F32, S(2, 3), 1, 0, -1, 2, 2, 2);
    weft_tensor *b = TENSOR(c, WEFT_F32, S(2), 100, -10), *r = counting(c, WEFT_F32, S(1, 2, 2));
    CHECK_TENSOR(c, weft_linear(c, x, w, NULL, WEFT_ACT_NONE, NULL), S(1, 2, 2), 0, -2, 6, -2, 24);
    CHECK_TENSOR(c, weft_linear(c, x, w, b, WEFT_ACT_RELU, r), S(1, 2, 2), 0, 98, 1, 100, 17);
    weft_tensor *w4 = weft_reshape(c, w, S(2, 3, 1, 1));
    CHECK_TENSOR(c, weft_linear(c, x, w4, b, WEFT_ACT_NONE, NULL), S(1, 2, 2), 0, 98, -4, 98, 14);
    CHECK_TENSOR(c, weft_linear(c, weft_reshape(c, weft_slice(c, x, 1, 1, 1), S(3)), w, NULL, WEFT_ACT_NONE, NULL),
                 S(2), 0, -2, 24);
    weft_tensor *wide = weft_slice(c, counting(c, WEFT_F32, S(2, 5)), 1, 1, 3);         /* rows 5 apart */
    CHECK_TENSOR(c, weft_linear(c, wide, w, NULL, WEFT_ACT_NONE, NULL), S(2, 2), 0, -2, 12, -2, 42);
    weft_tensor *same = weft_broadcast(c, weft_slice(c, wide, 0, 1, 1), S(2, 3));       /* rows 0 apart */
    CHECK_TENSOR(c, weft_linear(c, same, w, NULL, WEFT_ACT_NONE, NULL), S(2, 2), 0, -2, 42, -2, 42);
    weft_tensor *turned = weft_permute(c, w, (const int[]){ 1, 0 });        /* a weight by strides */
    CHECK_TENSOR(c, weft_linear(c, r, turned, NULL, WEFT_ACT_NONE, NULL), S(1, 2, 3), 0, 2, 2, 2, 8, 6, 4);
    CHECK(!weft_linear(c, r, w, NULL, WEFT_ACT_NONE, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "linear: input (1, 2, 2) f32 has 2 features, weight (2, 3) f32 takes 3");
    CHECK(!weft_linear(c, x, r, NULL, WEFT_ACT_NONE, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "weight (1, 2, 2) f32 is not (n, k) or (n, k, 1, 1)");
    CHECK(!weft_linear(c, weft_scalar(c, WEFT_F32, 1), w, NULL, WEFT_ACT_NONE, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "input () f32 has 0 features");
    CHECK(!weft_linear(c, x, w, x, WEFT_ACT_NONE, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "linear: bias is (1, 2, 3) f32, expected (2)");
    CHECK(!weft_linear(c, x, w, weft_cast(c, b, WEFT_F16), WEFT_ACT_NONE, NULL));
    CHECK_ERROR(c, WEFT_E_TYPE, "linear: bias is f16, input is f32");
    CHECK(!weft_linear(c, x, w, b, WEFT_ACT_NONE, x));
    CHECK_ERROR(c, WEFT_E_SHAPE, "linear: residual is (1, 2, 3) f32, expected (1, 2, 2)");
    CHECK(!weft_linear(c, x, weft_cast(c, w, WEFT_I32), b, WEFT_ACT_NONE, NULL));
    CHECK_ERROR(c, WEFT_E_TYPE, "back end has no kernel for weights of i32");
    CHECK(!weft_linear(c, weft_cast(c, x, WEFT_U8), w, NULL, WEFT_ACT_NONE, NULL));
    CHECK_ERROR(c, WEFT_E_TYPE, "back end has no kernel for u8");
    bool mixes = weft_linear(c, x, weft_cast(c, w, WEFT_F64), NULL, WEFT_ACT_NONE, NULL) != NULL;
    CHECK_EQ(mixes, !strcmp(weft_backend(c)->name, "reference"));
    if (!mixes) CHECK_ERROR(c, WEFT_E_TYPE, " back end has no kernel for ");
    CHECK(!weft_linear(c, x, w, b, (weft_activation)99, NULL));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "99 is no activation");
}

TEST_BOTH(matmul) {
    weft_tensor *a = counting(c, WEFT_F32, S(2, 2, 3)), *b = counting(c, WEFT_F32, S(2, 3, 1));
    CHECK_TENSOR(c, weft_matmul(c, a, b), S(2, 2, 1), 0, 5, 14, 86, 122);
    weft_tensor *turned = weft_permute(c, a, (const int[]){ 0, 2, 1 });
    CHECK_TENSOR(c, weft_matmul(c, turned, a), S(2, 3, 3), 0, 9, 12, 15, 12, 17, 22, 15, 22, 29,
                 117, 132, 147, 132, 149, 166, 147, 166, 185);
    weft_tensor *swapped = weft_permute(c, counting(c, WEFT_F32, S(2, 3, 2, 1)), (const int[]){ 2, 1, 0, 3 });
    weft_tensor *ones = weft_full(c, WEFT_F32, S(2, 3, 1, 2), 1);      /* outer sizes that no one stride walks */
    CHECK_TENSOR(c, weft_matmul(c, ones, swapped), S(2, 3, 1, 1), 0, 6, 10, 14, 8, 12, 16);
    CHECK(!weft_matmul(c, a, a));
    CHECK_ERROR(c, WEFT_E_SHAPE, "matmul: (2, 2, 3) f32 and (2, 2, 3) f32 do not go together");
    CHECK(!weft_matmul(c, a, weft_slice(c, b, 0, 0, 1)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "matmul");
    CHECK(!weft_matmul(c, weft_reshape(c, a, S(12)), b));
    CHECK_ERROR(c, WEFT_E_SHAPE, "(12) f32");
    CHECK(!weft_matmul(c, a, weft_cast(c, b, WEFT_BF16)));
    CHECK_ERROR(c, WEFT_E_TYPE, "matmul: the second operand is bf16");
}

TEST_BOTH(conv2d) {
    weft_tensor *x = counting(c, WEFT_F32, S(1, 3, 3, 1)), *w = weft_full(c, WEFT_F32, S(1, 1, 3, 3), 1);
    CHECK_TENSOR(c, weft_conv2d(c, x, w, NULL, WEFT_CONV_SAME(3), NULL, NULL), S(1, 3, 3, 1), 1e-5,
                 8, 15, 12, 21, 36, 27, 20, 33, 24);
    weft_conv none = { .stride = 1 };
    CHECK_TENSOR(c, weft_conv2d(c, x, w, NULL, none, NULL, NULL), S(1, 1, 1, 1), 1e-5, 36);
    weft_conv down = { .stride = 2, .bottom = 1, .right = 1 };
    CHECK_TENSOR(c, weft_conv2d(c, x, w, NULL, down, NULL, NULL), S(1, 1, 1, 1), 1e-5, 36);
    weft_conv crop = { .stride = 1, .top = -1, .bottom = 1, .left = 1, .right = 1 };
    CHECK_TENSOR(c, weft_conv2d(c, x, w, NULL, crop, NULL, NULL), S(1, 1, 3, 1), 1e-5, 20, 33, 24);
    weft_tensor *edge = TENSOR(c, WEFT_F32, S(2, 1, 1, 2), 1, -1, 2, 0);           /* an even window */
    weft_tensor *b = TENSOR(c, WEFT_F32, S(2), 10, 20), *row = TENSOR(c, WEFT_F32, S(1, 2), 100, 200);
    weft_tensor *r = weft_full(c, WEFT_F32, S(1, 3, 2, 2), 1000);
    CHECK_TENSOR(c, weft_conv2d(c, x, edge, b, none, row, r), S(1, 3, 2, 2), 1e-3, 1109, 1220, 1109, 1222, 1109,
                 1226, 1109, 1228, 1109, 1232, 1109, 1234);
    weft_tensor *oihw = weft_permute(c, counting(c, WEFT_F32, S(1, 3, 3, 1)), (const int[]){ 0, 3, 1, 2 });
    weft_tensor *view = weft_permute(c, oihw, (const int[]){ 0, 1, 3, 2 });         /* taps that no one stride walks */
    CHECK_TENSOR(c, weft_conv2d(c, x, oihw, NULL, none, NULL, NULL), S(1, 1, 1, 1), 1e-4, 204);
    CHECK_TENSOR(c, weft_conv2d(c, x, view, NULL, none, NULL, NULL), S(1, 1, 1, 1), 1e-4, 180);
    CHECK(!weft_conv2d(c, x, weft_full(c, WEFT_F32, S(640, 4, 3, 3), 1), NULL, none, NULL, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "conv2d: input (1, 3, 3, 1) f32 has 1 channels, weight (640, 4, 3, 3) f32 takes 4");
    CHECK(!weft_conv2d(c, x, w, NULL, (weft_conv){ .stride = 0 }, NULL, NULL));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "conv2d: stride 0");
    CHECK(!weft_conv2d(c, x, w, NULL, (weft_conv){ .stride = 1, .top = -1 }, NULL, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "padded by -1, 0, 0, 0 (top, bottom, left, right), is smaller than the window");
    CHECK(!weft_conv2d(c, x, weft_reshape(c, w, S(3, 3)), NULL, none, NULL, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "weight (3, 3) f32 is not (O, C, kh, kw)");
    CHECK(!weft_conv2d(c, weft_reshape(c, x, S(9)), w, NULL, none, NULL, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "input (9) f32 is not (N, H, W, C)");
    CHECK(!weft_conv2d(c, x, w, row, none, NULL, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "conv2d: bias is (1, 2) f32, expected (1)");
    CHECK(!weft_conv2d(c, x, w, NULL, none, row, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "conv2d: row is (1, 2) f32, expected (1, 1)");
    CHECK(!weft_conv2d(c, x, w, NULL, none, NULL, x));
    CHECK_ERROR(c, WEFT_E_SHAPE, "conv2d: residual is (1, 3, 3, 1) f32, expected (1, 1, 1, 1)");
    CHECK(!weft_conv2d(c, x, weft_tensor_new(c, WEFT_F32, S(1, 1, 0, 3)), NULL, none, NULL, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "has no window");
}

TEST_BOTH(attention) {
    /* Two queries, two keys, one head of width 1: weights e^{qk}/Σ. */
    weft_tensor *q = TENSOR(c, WEFT_F32, S(1, 2, 1, 1), 0, 1), *k = TENSOR(c, WEFT_F32, S(1, 2, 1, 1), 0, 2);
    weft_tensor *v = TENSOR(c, WEFT_F32, S(1, 2, 1, 1), 10, 20);
    double p = exp(2) / (1 + exp(2)), half = exp(1) / (1 + exp(1));
    CHECK_TENSOR(c, weft_attention(c, q, k, v, 0, false), S(1, 2, 1, 1), 1e-5, 15, 10 + 10 * p);
    CHECK_TENSOR(c, weft_attention(c, q, k, v, 0.5, false), S(1, 2, 1, 1), 1e-5, 15, 10 + 10 * half);
    CHECK_TENSOR(c, weft_attention(c, q, k, v, 1, true), S(1, 2, 1, 1), 1e-5, 10, 10 + 10 * p);
    weft_tensor *none = weft_tensor_new(c, WEFT_F32, S(1, 0, 1, 1));
    CHECK_TENSOR(c, weft_attention(c, q, none, none, 0, false), S(1, 2, 1, 1), 0, 0, 0);
    CHECK(!weft_attention(c, q, weft_reshape(c, k, S(1, 1, 2, 1)), v, 0, false));
    CHECK_ERROR(c, WEFT_E_SHAPE, "attention: q (1, 2, 1, 1) f32, k (1, 1, 2, 1) f32, v (1, 2, 1, 1) f32");
    CHECK(!weft_attention(c, q, k, weft_cast(c, v, WEFT_F16), 0, false));
    CHECK_ERROR(c, WEFT_E_TYPE, "attention: v is f16, input is f32");
    CHECK(!weft_attention(c, q, k, v, NAN, false));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "attention: scale");
}

TEST_BOTH(norms) {
    /* Mean 2.5 and variance 1.25 of 1, 2, 3, 4. */
    weft_tensor *x = TENSOR(c, WEFT_F32, S(1, 2, 4), 1, 2, 10, 10, 3, 4, 10, 10);
    double s = 1 / sqrt(1.25 + 1e-5);
    CHECK_TENSOR(c, weft_group_norm(c, x, 2, 1e-5, NULL, NULL, WEFT_ACT_NONE), S(1, 2, 4), 1e-5,
                 -1.5 * s, -0.5 * s, 0, 0, 0.5 * s, 1.5 * s, 0, 0);
    weft_tensor *g = TENSOR(c, WEFT_F32, S(4), 2, 1, 1, 1), *b = TENSOR(c, WEFT_F32, S(4), 0, 0, -5, 7);
    CHECK_TENSOR(c, weft_group_norm(c, x, 2, 1e-5, g, b, WEFT_ACT_RELU), S(1, 2, 4), 1e-5,
                 0, 0, 0, 7, s, 1.5 * s, 0, 7);
    weft_tensor *rows = TENSOR(c, WEFT_F32, S(2, 4), 1, 2, 3, 4, 8, 8, 8, 8);
    CHECK_TENSOR(c, weft_layer_norm(c, rows, 1e-5, g, b), S(2, 4), 1e-5, -3 * s, -0.5 * s, 0.5 * s - 5, 1.5 * s + 7,
                 0, 0, -5, 7);
    CHECK_TENSOR(c, weft_layer_norm(c, rows, 1e-5, NULL, NULL), S(2, 4), 1e-5, -1.5 * s, -0.5 * s, 0.5 * s, 1.5 * s,
                 0, 0, 0, 0);
    weft_tensor *logits = TENSOR(c, WEFT_F32, S(3), 0, 1, 2);
    double e = exp(0.5), sum = 1 + e + e * e;
    CHECK_TENSOR(c, weft_softmax(c, logits, 0.5), S(3), 1e-6, 1 / sum, e / sum, e * e / sum);
    CHECK(!weft_group_norm(c, x, 3, 1e-5, NULL, NULL, WEFT_ACT_NONE));
    CHECK_ERROR(c, WEFT_E_SHAPE, "group_norm: the 4 channels of (1, 2, 4) f32 do not divide into 3 groups");
    CHECK(!weft_group_norm(c, x, 0, 1e-5, NULL, NULL, WEFT_ACT_NONE));
    CHECK_ERROR(c, WEFT_E_SHAPE, "into 0 groups");
    CHECK(!weft_group_norm(c, x, 2, -1, NULL, NULL, WEFT_ACT_NONE));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "group_norm: eps -1");
    CHECK(!weft_group_norm(c, x, 2, 1e-5, g, NULL, WEFT_ACT_NONE));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "gamma and beta are given both or not at all");
    CHECK(!weft_group_norm(c, x, 2, 1e-5, logits, b, WEFT_ACT_NONE));
    CHECK_ERROR(c, WEFT_E_SHAPE, "group_norm: gamma is (3) f32, expected (4) for the input (1, 2, 4) f32");
    CHECK(!weft_group_norm(c, g, 2, 1e-5, g, b, WEFT_ACT_NONE));
    CHECK_ERROR(c, WEFT_E_SHAPE, "(4) f32 is not (N, H, W, C) or (N, T, C)");
    CHECK(!weft_layer_norm(c, x, 1e-5, g, weft_cast(c, b, WEFT_BF16)));
    CHECK_ERROR(c, WEFT_E_TYPE, "layer_norm: beta is bf16, input is f32");
    CHECK(!weft_layer_norm(c, weft_scalar(c, WEFT_F32, 1), 1e-5, NULL, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "a single value");
    CHECK(!weft_softmax(c, weft_scalar(c, WEFT_F32, 1), 1));
    CHECK_ERROR(c, WEFT_E_SHAPE, "softmax: a single value");
}

TEST_BOTH(reduce) {
    weft_tensor *x = counting(c, WEFT_F32, S(2, 3, 2));
    CHECK_TENSOR(c, weft_reduce(c, WEFT_REDUCE_SUM, x, 1), S(2, 2), 0, 6, 9, 24, 27);
    CHECK_TENSOR(c, weft_reduce(c, WEFT_REDUCE_MEAN, x, 0), S(3, 2), 0, 3, 4, 5, 6, 7, 8);
    CHECK_TENSOR(c, weft_reduce(c, WEFT_REDUCE_MAX, x, -1), S(2, 3), 0, 1, 3, 5, 7, 9, 11);
    CHECK_TENSOR(c, weft_reduce_all(c, WEFT_REDUCE_MIN, x), SCALAR, 0, 0);
    CHECK_TENSOR(c, weft_reduce_all(c, WEFT_REDUCE_MEAN, weft_permute(c, x, (const int[]){ 2, 0, 1 })), SCALAR, 0, 5.5);
    CHECK_TENSOR(c, weft_reduce_all(c, WEFT_REDUCE_SUM, weft_scalar(c, WEFT_F32, 4)), SCALAR, 0, 4);
    weft_tensor *none = weft_tensor_new(c, WEFT_F32, S(0, 2));
    CHECK_TENSOR(c, weft_reduce(c, WEFT_REDUCE_SUM, none, 0), S(2), 0, 0, 0);
    CHECK_TENSOR(c, weft_reduce(c, WEFT_REDUCE_MEAN, none, 0), S(2), 0, NAN, NAN);
    CHECK(!weft_reduce(c, WEFT_REDUCE_MAX, none, 0));
    CHECK_ERROR(c, WEFT_E_SHAPE, "reduce: the max of no values, input (0, 2) f32");
    CHECK(!weft_reduce(c, WEFT_REDUCE_SUM, x, 3));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "reduce: (2, 3, 2) f32 has no dimension 3");
    CHECK(!weft_reduce_all(c, (weft_reduce_op)4, x));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "4 is no reduction");
}

TEST_BOTH(concat) {
    weft_tensor *a = counting(c, WEFT_F32, S(2, 2)), *b = TENSOR(c, WEFT_F32, S(2, 1), 8, 9);
    CHECK_TENSOR(c, weft_concat2(c, 1, a, b), S(2, 3), 0, 0, 1, 8, 2, 3, 9);
    weft_tensor *turned = weft_permute(c, a, (const int[]){ 1, 0 });
    CHECK_TENSOR(c, weft_concat2(c, -2, a, turned), S(4, 2), 0, 0, 1, 2, 3, 0, 2, 1, 3);
    CHECK_TENSOR(c, weft_concat(c, 0, 1, &a), S(2, 2), 0, 0, 1, 2, 3);
    CHECK_TENSOR(c, weft_concat2(c, 1, weft_slice(c, a, 1, 0, 0), b), S(2, 1), 0, 8, 9);
    CHECK(!weft_concat2(c, 0, a, b));
    CHECK_ERROR(c, WEFT_E_SHAPE, "concat: part 2, (2, 1) f32, does not join (2, 2) f32 along dimension 0");
    CHECK(!weft_concat2(c, 1, a, weft_cast(c, b, WEFT_F16)));
    CHECK_ERROR(c, WEFT_E_TYPE, "part 2, (2, 1) f16");
    CHECK(!weft_concat(c, 0, 0, NULL));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "nothing to join");
    CHECK(!weft_concat2(c, 2, a, b));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "no dimension 2");
    CHECK(!weft_concat2(c, 0, weft_scalar(c, WEFT_F32, 1), weft_scalar(c, WEFT_F32, 1)));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "() f32 has no dimension 0");
    weft_shape_only(c, true);
    weft_tensor *huge = weft_tensor_new(c, WEFT_U8, S((int64_t)1 << 57));
    weft_tensor *many[64];
    for (int i = 0; i < 64; i++) many[i] = huge;
    CHECK(!weft_concat(c, 0, 64, many));
    weft_shape_only(c, false);
    CHECK_ERROR(c, WEFT_E_SHAPE, "too large");
}

TEST_BOTH(resample_and_pad) {
    weft_tensor *x = counting(c, WEFT_F32, S(1, 2, 2, 1));
    CHECK_TENSOR(c, weft_resample(c, x, WEFT_NEAREST, 4, 2), S(1, 4, 2, 1), 0, 0, 1, 0, 1, 2, 3, 2, 3);
    CHECK_TENSOR(c, weft_resample(c, x, WEFT_AREA, 1, 1), S(1, 1, 1, 1), 1e-6, 1.5);
    CHECK_TENSOR(c, weft_pad(c, x, WEFT_PAD_CONSTANT, 1, 0, 0, 1, 7), S(1, 3, 3, 1), 0, 7, 7, 7, 0, 1, 7, 2, 3, 7);
    CHECK_TENSOR(c, weft_pad(c, x, WEFT_PAD_CONSTANT, -1, 0, 1, -1, 7), S(1, 1, 2, 1), 0, 7, 2);
    CHECK_TENSOR(c, weft_pad(c, x, WEFT_PAD_REPLICATE, 0, 0, 1, 1, 0), S(1, 2, 4, 1), 0, 0, 0, 1, 1, 2, 2, 3, 3);
    CHECK_TENSOR(c, weft_pad(c, x, WEFT_PAD_REFLECT, 1, 1, 0, 0, 0), S(1, 4, 2, 1), 0, 2, 3, 0, 1, 2, 3, 0, 1);
    CHECK(!weft_resample(c, x, WEFT_NEAREST, 0, 4));
    CHECK_ERROR(c, WEFT_E_SHAPE, "resample: input (1, 2, 2, 1) f32 to 0×4");
    CHECK(!weft_resample(c, weft_slice(c, x, 1, 0, 0), WEFT_NEAREST, 4, 4));
    CHECK_ERROR(c, WEFT_E_SHAPE, "resample: input (1, 0, 2, 1) f32");
    CHECK(!weft_resample(c, x, (weft_resample_mode)50, 4, 4));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "50 is no mode");
    CHECK(!weft_resample(c, weft_reshape(c, x, S(4)), WEFT_NEAREST, 4, 4));
    CHECK_ERROR(c, WEFT_E_SHAPE, "(4) f32 is not (N, H, W, C)");
    CHECK(!weft_pad(c, x, WEFT_PAD_REFLECT, 2, 0, 0, 0, 0));
    CHECK_ERROR(c, WEFT_E_SHAPE, "pad: input (1, 2, 2, 1) f32 cannot be padded by 2, 0, 0, 0 (top, bottom, left, "
                "right) in mode reflect");
    CHECK(!weft_pad(c, x, WEFT_PAD_REPLICATE, -1, 0, 0, 0, 0));
    CHECK_ERROR(c, WEFT_E_SHAPE, "in mode replicate");
    CHECK(!weft_pad(c, x, WEFT_PAD_CONSTANT, -2, -1, 0, 0, 0));
    CHECK_ERROR(c, WEFT_E_SHAPE, "in mode constant");
    CHECK(!weft_pad(c, x, (weft_pad_mode)3, 0, 0, 0, 0, 0));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "3 is no mode");
}

TEST_BOTH(embeddings) {
    weft_tensor *table = counting(c, WEFT_F32, S(3, 2));
    weft_tensor *ids = TENSOR(c, WEFT_I32, S(2, 2), 2, 0, 1, 2);
    CHECK_TENSOR(c, weft_embedding(c, ids, table, WEFT_F32), S(2, 2, 2), 0, 4, 5, 0, 1, 2, 3, 4, 5);
    weft_tensor *turned = weft_permute(c, weft_cast(c, ids, WEFT_I64), (const int[]){ 1, 0 });
    weft_tensor *half = weft_embedding(c, turned, weft_cast(c, table, WEFT_F16), WEFT_F32);
    CHECK_TENSOR(c, half, S(2, 2, 2), 0, 4, 5, 2, 3, 0, 1, 4, 5);
    CHECK(!weft_embedding(c, weft_tensor_from(c, WEFT_I64, S(2), (const int64_t[]){ 1, 3 }), table, WEFT_F32));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "embedding: id 3 at place 1 is outside the table of 3 rows");
    CHECK(!weft_embedding(c, weft_tensor_from(c, WEFT_I64, S(1), &(int64_t){ -1 }), table, WEFT_F32));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "id -1 at place 0");
    CHECK(!weft_embedding(c, table, table, WEFT_F32));
    CHECK_ERROR(c, WEFT_E_TYPE, "ids (3, 2) f32 are not i64 or i32");
    CHECK(!weft_embedding(c, ids, weft_reshape(c, table, S(6)), WEFT_F32));
    CHECK_ERROR(c, WEFT_E_SHAPE, "table (6) f32 is not (rows, width)");
    CHECK(!weft_embedding(c, weft_reshape(c, ids, S(1, 1, 1, 1, 2, 2)), table, WEFT_F32));
    CHECK_ERROR(c, WEFT_E_SHAPE, "leave no dimension");
    CHECK(!weft_embedding(c, ids, table, (weft_dtype)12));
    CHECK_ERROR(c, WEFT_E_TYPE, "no kernel for ?");
    weft_tensor *t = TENSOR(c, WEFT_F32, S(2), 0, 3);
    double f = exp(-log(10000) / 2);
    CHECK_TENSOR(c, weft_timestep_embedding(c, t, 4, false, 0, 1, 10000), S(2, 4), 1e-6, 0, 0, 1, 1,
                 sin(3), sin(3 * f), cos(3), cos(3 * f));
    CHECK_TENSOR(c, weft_timestep_embedding(c, t, 5, true, 0, 2, 10000), S(2, 5), 1e-6, 1, 1, 0, 0, 0,
                 cos(6), cos(6 * f), sin(6), sin(6 * f), 0);
    CHECK(!weft_timestep_embedding(c, t, 4, false, 2, 1, 10000));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "timestep_embedding: width 4 with a frequency shift of 2 divides by 0");
    CHECK(!weft_timestep_embedding(c, t, -1, false, 0, 1, 10000));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "width -1");
    CHECK(!weft_timestep_embedding(c, t, 4, false, 0, 1, 0));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "longest period 0");
    CHECK(!weft_timestep_embedding(c, table, 4, false, 0, 1, 10000));
    CHECK_ERROR(c, WEFT_E_SHAPE, "t (3, 2) f32 is not (N)");
}

TEST_BOTH(casts) {
    weft_tensor *x = TENSOR(c, WEFT_F32, S(5), -1.75, 300.5, NAN, 1e30, 0.1);
    CHECK_TENSOR(c, weft_cast(c, x, WEFT_U8), S(5), 0, 0, 255, 0, 255, 0);
    CHECK_TENSOR(c, weft_cast(c, x, WEFT_I32), S(5), 0, -1, 300, 0, INT32_MAX, 0);
    CHECK_TENSOR(c, weft_cast(c, x, WEFT_BF16), S(5), 0, -1.75, 300, NAN, 0x1.94p99, 0x1.9ap-4);
    weft_tensor *turned = weft_permute(c, counting(c, WEFT_U8, S(2, 2)), (const int[]){ 1, 0 });
    CHECK_TENSOR(c, weft_cast(c, turned, WEFT_F16), S(2, 2), 0, 0, 2, 1, 3);
}

TEST(operands_of_another_context) {
    weft_ctx *c = open_device("reference"), *d = open_device("reference");
    weft_tensor *x = counting(c, WEFT_F32, S(2, 2)), *y = counting(d, WEFT_F32, S(2, 2));
    CHECK(!weft_add(c, x, y));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "add: operand 2 belongs to another context");
    CHECK(!weft_linear(c, x, x, NULL, WEFT_ACT_NONE, y));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "linear: residual belongs to another context");
    CLOSE(c);
    CLOSE(d);
}

TEST(null_operands_give_null_and_no_error) {
    weft_ctx *c = open_device("reference");
    weft_tensor *x = counting(c, WEFT_F32, S(2, 2));
    CHECK(!weft_add(c, x, NULL) && !weft_linear(c, NULL, x, NULL, WEFT_ACT_NONE, NULL) && !weft_softmax(c, NULL, 1));
    CHECK(!weft_conv2d(c, x, NULL, NULL, WEFT_CONV_SAME(1), NULL, NULL) && !weft_concat2(c, 0, x, NULL));
    CHECK(!weft_attention(c, x, x, NULL, 0, false) && !weft_embedding(c, NULL, x, WEFT_F32));
    CHECK(!weft_slice(c, NULL, 0, 0, 0) && !weft_permute(c, NULL, NULL) && !weft_cast(c, NULL, WEFT_F16));
    CHECK(weft_ok(c));
    CLOSE(c);
}

TEST_MAIN
