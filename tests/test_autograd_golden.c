/* Gradients of operations against PyTorch's (tests/golden/make_gradients.py), on both back ends and in f64. */
#include "runtime/autograd.h"
#include "tests/golden_weights.h"
#include "tests/tensors.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/gradients.safetensors"

/* Difference allowed, as a part of the gradient's rms, the largest single one 20 times that. The expected values are
 * good to 6e-8; f32 sums of some hundred terms are off by 1e-6 at most, f64 by nothing more. */
#define F32_NEAR 2e-6
#define F64_NEAR 1e-7

enum { MOST = 5 };
typedef weft_tensor *call_fn(weft_ctx *c, weft_tensor **in);

#define CALL(name, expression) static weft_tensor *name(weft_ctx *c, weft_tensor **in) { return expression; }
CALL(silu, weft_silu(c, in[0]))
CALL(gelu, weft_gelu(c, in[0]))
CALL(gelu_tanh, weft_unary(c, WEFT_UNARY_GELU_TANH, in[0]))
CALL(quick_gelu, weft_quick_gelu(c, in[0]))
CALL(relu, weft_unary(c, WEFT_UNARY_RELU, in[0]))
CALL(absolute, weft_unary(c, WEFT_UNARY_ABS, in[0]))
CALL(clamp, weft_clamp(c, in[0], -1, 0.5))
CALL(geglu, weft_geglu(c, in[0]))
CALL(add, weft_add(c, in[0], in[1]))
CALL(mul, weft_mul(c, in[0], in[1]))
CALL(divide, weft_div(c, in[0], weft_affine(c, in[1], 1, 3)))
CALL(maximum, weft_binary(c, WEFT_BINARY_MAX, in[0], in[1]))
CALL(minimum, weft_binary(c, WEFT_BINARY_MIN, in[0], in[1]))
CALL(reduce_max, weft_reduce(c, WEFT_REDUCE_MAX, in[0], 1))
CALL(reduce_min, weft_reduce(c, WEFT_REDUCE_MIN, in[0], 1))
CALL(mean, weft_reduce(c, WEFT_REDUCE_MEAN, in[0], 1))
CALL(linear, weft_linear(c, in[0], in[1], in[2], WEFT_ACT_NONE, in[3]))
CALL(matmul, weft_matmul(c, in[0], in[1]))
CALL(conv2d, weft_conv2d(c, in[0], in[1], in[2], WEFT_CONV_SAME(3), in[3], in[4]))
CALL(conv2d_half, weft_conv2d(c, in[0], in[1], in[2], ((weft_conv){ 2, 0, 1, 0, 1 }), in[3], in[4]))
CALL(attention, weft_attention(c, in[0], in[1], in[2], 0, false))
CALL(attention_causal, weft_attention(c, in[0], in[1], in[2], 0, true))
CALL(group_norm, weft_group_norm(c, in[0], 3, 1e-5, in[1], in[2], WEFT_ACT_NONE))
CALL(group_norm_silu, weft_group_norm(c, in[0], 2, 1e-5, in[1], in[2], WEFT_ACT_SILU))
CALL(layer_norm, weft_layer_norm(c, in[0], 1e-5, in[1], in[2]))
CALL(softmax, weft_softmax(c, in[0], 2.5))
static weft_tensor *ids(weft_ctx *c) {
    return weft_tensor_from(c, WEFT_I64, WEFT_SHAPE(2, 3), (int64_t[]){ 3, 0, 3, 1, 3, 6 });
}
CALL(embedding, weft_embedding(c, ids(c), in[0], weft_type(in[0])))
CALL(nearest, weft_resample(c, in[0], WEFT_NEAREST, 7, 5))
CALL(nearest_exact, weft_resample(c, in[0], WEFT_NEAREST_EXACT, 5, 9))
CALL(bilinear, weft_resample(c, in[0], WEFT_BILINEAR, 7, 5))
CALL(bicubic, weft_resample(c, in[0], WEFT_BICUBIC, 7, 5))
CALL(area, weft_resample(c, in[0], WEFT_AREA, 3, 4))
CALL(pad, weft_pad(c, in[0], WEFT_PAD_CONSTANT, 1, -1, 2, 0, 0))
CALL(pad_reflect, weft_pad(c, in[0], WEFT_PAD_REFLECT, 2, 1, 3, 0, 0))
CALL(pad_replicate, weft_pad(c, in[0], WEFT_PAD_REPLICATE, 2, 1, 3, 0, 0))

static const struct { const char *name; call_fn *call; bool ties; } cases[] = {
    { "silu", silu, false }, { "gelu", gelu, false }, { "gelu_tanh", gelu_tanh, false },
    { "quick_gelu", quick_gelu, false }, { "relu", relu, true }, { "abs", absolute, true }, { "clamp", clamp, true },
    { "geglu", geglu, false }, { "add", add, false }, { "mul", mul, false }, { "div", divide, false },
    { "max", maximum, true }, { "min", minimum, true }, { "reduce_max", reduce_max, true },
    { "reduce_min", reduce_min, true }, { "mean", mean, false }, { "linear", linear, false },
    { "matmul", matmul, false }, { "conv2d", conv2d, false }, { "conv2d_half", conv2d_half, false },
    { "attention", attention, false }, { "attention_causal", attention_causal, false },
    { "group_norm", group_norm, false }, { "group_norm_silu", group_norm_silu, false },
    { "layer_norm", layer_norm, false }, { "softmax", softmax, false }, { "embedding", embedding, false },
    { "nearest", nearest, false }, { "nearest_exact", nearest_exact, false }, { "bilinear", bilinear, false },
    { "bicubic", bicubic, false }, { "area", area, false }, { "pad", pad, false },
    { "pad_reflect", pad_reflect, false },
    { "pad_replicate", pad_replicate, false },
};
enum { CASES = sizeof cases / sizeof *cases };

/* Values of the golden scripts; for ties rounded to quarters, half to even. */
static weft_tensor *given(weft_ctx *c, const char *name, int exponent, bool ties, weft_dtype type, int rank,
                          const int64_t *shape) {
    weft_tensor *t = golden_input(c, name, exponent, rank, shape);
    float *x = weft_data(t);
    for (int64_t i = 0; ties && x && i < weft_count(t); i++) x[i] = rintf(4 * x[i]) / 4;
    return weft_cast(c, t, type);
}

static void compare(weft_ctx *c, const char *name, weft_tensor *leaf, const weft_st_entry *want, double tolerance) {
    weft_scope s = weft_scope_named(c, "compare");
    weft_tensor *g = weft_cast(c, weft_grad(leaf), WEFT_F32);
    float *got = malloc(want->bytes);
    bool same = g && got && weft_read(c, g, got, want->bytes) == WEFT_OK;
    struct test_distance d = { INFINITY, INFINITY };
    if (same) d = test_compare_f32(got, want->data, weft_count(g));
    if (!(d.rms <= tolerance && d.max <= 20 * tolerance))
        TEST_FAIL("%s (%s): rms %.3g, largest %.3g; allowed %.3g. %s", name, weft_backend(c)->name, d.rms, d.max,
                  tolerance, weft_message(c));
    free(got);
    weft_scope_end(c, s, NULL);
}

static void one(weft_ctx *c, weft_safetensors *golden, int which, weft_dtype type) {
    const double tolerance = type == WEFT_F64 ? F64_NEAR : F32_NEAR;
    const weft_st_entry *want[MOST] = { 0 };
    weft_tensor *in[MOST] = { 0 };
    char name[64];
    weft_scope s = weft_scope_named(c, cases[which].name);
    CHECK(!weft_tape_begin(c));
    for (int i = 0; i < MOST; i++) {
        snprintf(name, sizeof name, "op.%s.%d", cases[which].name, i);
        if (!(want[i] = weft_st_find(golden, name))) break;
        in[i] = given(c, name, 6, cases[which].ties, type, want[i]->rank, want[i]->shape);
        weft_set_requires_grad(in[i], true);
    }
    if (!want[0]) TEST_FAIL("%s is not in the golden file", cases[which].name);
    weft_tensor *y = cases[which].call(c, in);
    snprintf(name, sizeof name, "op.%s.r", cases[which].name);
    weft_tensor *r = y ? given(c, name, 7, false, type, weft_rank(y), weft_shape(y)) : NULL;
    if (!y || weft_backward(c, y, r)) TEST_FAIL("%s: %s", cases[which].name, weft_message(c));
    for (int i = 0; i < MOST && want[i]; i++) compare(c, cases[which].name, in[i], want[i], tolerance);
    weft_tape_end(c);
    weft_scope_end(c, s, NULL);
}

static void all(const char *device, weft_dtype type) {
    weft_ctx *c = open_device(device);
    weft_safetensors *golden = weft_st_open(c, GOLDEN);
    REQUIRE(golden);
    for (int i = 0; i < CASES; i++) one(c, golden, i, type);
    weft_st_close(golden);
    CLOSE(c);
}

TEST(cpu) { all("cpu", WEFT_F32); }
TEST(reference) { all("reference", WEFT_F32); }
TEST(double_precision) { all("reference", WEFT_F64); }

TEST_MAIN
