/* The autoencoder against diffusers (tests/golden/make_vae.py), on tiny models, and the conversion to pixels and back. */
#include "nodes/vae/autoencoder_kl.h"
#include "tests/golden_weights.h"
#include "tests/host_data.h"
#include "tests/test.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/vae.safetensors"

/* Largest difference allowed, as a part of the output's range; see tests/test_unet.c. Up to 1.6e-6 was seen, where the
 * smallest picture is one to four pixels and a group of a norm has four values. */
#define EXACT 1e-5
#define FAST 5e-5

struct model {
    weft_ctx *c;
    weft_safetensors *golden;
    weft_vae_config config;
    weft_tree *tree;
    char name[16];
};

static weft_ctx *context(const char *device, int threads, weft_precision precision) {
    return weft_ctx_new(&(weft_options){ .device = test_device(device), .threads = threads, .precision = precision });
}

static bool open_model(struct model *m, weft_ctx *c, const char *name, weft_dtype type) {
    char key[32];
    *m = (struct model){ .c = c };
    snprintf(m->name, sizeof m->name, "%s", name);
    snprintf(key, sizeof key, "config.%s", name);
    m->golden = weft_st_open(c, GOLDEN);
    const char *text = m->golden ? weft_st_metadata(m->golden, key) : NULL;
    if (text && weft_vae_config_parse(c, key, text, strlen(text), &m->config) == WEFT_OK)
        m->tree = golden_tree(c, "vae", weft_vae_walk, &m->config, type);
    if (!m->tree) TEST_FAIL("%s: %s", name, weft_message(c));
    return m->tree != NULL;
}

/* Also sees that nothing leaked. */
static void close_model(struct model *m) {
    weft_tree_free(m->tree);
    weft_st_close(m->golden);
    CHECK_EQ(weft_memory_live(m->c), 0);
    weft_ctx_free(m->c);
}

/* Entry "MODEL.way.k.what"; NULL where there is none. */
static const weft_st_entry *entry(struct model *m, const char *way, int k, const char *what) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s.%d.%s", m->name, way, k, what);
    return weft_st_find(m->golden, name);
}

static weft_tensor *input(struct model *m, const char *way, int k, const char *what, int exponent, int rank,
                          const int64_t *nchw) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s.%d.%s", m->name, way, k, what);
    return weft_to_nhwc(m->c, golden_input(m->c, name, exponent, rank, nchw));
}

/* The largest difference over the range of what is expected. */
static void check(struct model *m, const char *what, int k, weft_tensor *t, const weft_st_entry *e, double tolerance) {
    weft_ctx *c = m->c;
    if (!t || weft_rank(t) != e->rank || memcmp(weft_shape(t), e->shape, (size_t)e->rank * sizeof *e->shape)) {
        char text[96] = "";
        if (t) weft_describe(t, text, sizeof text);
        TEST_FAIL("%s.%d: %s is %s. %s", m->name, k, what, t ? text : "nothing", weft_message(c));
        return;
    }
    float *got = malloc(e->bytes);
    const float *want = e->data;
    double low = want[0], high = want[0], most = 0;
    weft_scope s = weft_scope_named(c, "check");
    if (!got || weft_read(c, weft_cast(c, t, WEFT_F32), got, e->bytes)) most = INFINITY;
    for (size_t i = 0; i < e->bytes / sizeof(float) && most < INFINITY; i++) {
        double d = fabs((double)got[i] - want[i]);
        most = d <= most ? most : isnan(d) ? INFINITY : d;
        low = want[i] < low ? want[i] : low;
        high = want[i] > high ? want[i] : high;
    }
    weft_scope_end(c, s, NULL);
    free(got);
    most /= high - low;
    printf("    %s.%d %s %.2g\n", m->name, k, what, most);
    if (!(most <= tolerance))
        TEST_FAIL("%s.%d: %s is off by %.3g of the range; allowed %.3g", m->name, k, what, most, tolerance);
}

static void encode_case(struct model *m, int k, double tolerance) {
    const weft_st_entry *mean = entry(m, "encode", k, "mean");
    int64_t size[2], n = mean->shape[0];
    memcpy(size, entry(m, "encode", k, "size")->data, sizeof size);
    weft_scope s = weft_scope_named(m->c, "case");
    weft_tensor *image = input(m, "encode", k, "image", 7, WEFT_SHAPE(n, m->config.in_channels, size[0], size[1]));
    weft_vae_moments moments = weft_vae_encode(m->c, weft_root(m->tree), &m->config, image);
    check(m, "mean", k, moments.mean, mean, tolerance);
    check(m, "logvar", k, moments.logvar, entry(m, "encode", k, "logvar"), tolerance);
    weft_tensor *noise = input(m, "encode", k, "noise", 6, WEFT_SHAPE(n, mean->shape[3], mean->shape[1], mean->shape[2]));
    check(m, "sample", k, weft_vae_sample(m->c, moments, noise), entry(m, "encode", k, "sample"), tolerance);
    weft_scope_end(m->c, s, NULL);
}

static void decode_case(struct model *m, int k, double tolerance) {
    const weft_st_entry *out = entry(m, "decode", k, "out");
    int factor = 1 << (m->config.blocks - 1);
    weft_scope s = weft_scope_named(m->c, "case");
    int64_t shape[4] = { out->shape[0], m->config.latent_channels, out->shape[1] / factor, out->shape[2] / factor };
    weft_tensor *latent = input(m, "decode", k, "latent", 6, 4, shape);
    check(m, "decoded", k, weft_vae_decode(m->c, weft_root(m->tree), &m->config, latent), out, tolerance);
    weft_scope_end(m->c, s, NULL);
}

static void all_cases(const char *name, weft_ctx *c, weft_dtype type, double tolerance) {
    struct model m;
    int cases = 0;
    if (!open_model(&m, c, name, type)) return;
    for (int k = 0; entry(&m, "encode", k, "mean"); k++, cases++) encode_case(&m, k, tolerance);
    for (int k = 0; entry(&m, "decode", k, "out"); k++, cases++) decode_case(&m, k, tolerance);
    CHECK(cases >= 2);
    close_model(&m);
}

TEST(exact) {
    all_cases("sd", context("cpu", 2, WEFT_PRECISION_EXACT), WEFT_F32, EXACT);
    all_cases("odd", context("cpu", 2, WEFT_PRECISION_EXACT), WEFT_F32, EXACT);
}

TEST(fast) {
    all_cases("sd", context("cpu", 2, WEFT_PRECISION_FAST), WEFT_F32, FAST);
    all_cases("odd", context("cpu", 2, WEFT_PRECISION_FAST), WEFT_F32, FAST);
}

/* f16 and bf16 hold these weights exactly, so nothing may be lost. */
TEST(half_weights) {
    all_cases("sd", context("cpu", 1, WEFT_PRECISION_EXACT), WEFT_F16, EXACT);
    all_cases("odd", context("cpu", 1, WEFT_PRECISION_EXACT), WEFT_BF16, EXACT);
}

TEST(reference) {
    all_cases("odd", context("reference", 2, WEFT_PRECISION_EXACT), WEFT_F32, EXACT);
}

TEST(tensor_count) {
    static const char *const models[] = { "sd", "odd" };
    for (int i = 0; i < 2; i++) {
        struct model m;
        char key[32];
        if (!open_model(&m, context("cpu", 1, WEFT_PRECISION_EXACT), models[i], WEFT_F32)) continue;
        snprintf(key, sizeof key, "tensors.%s", models[i]);
        const char *count = weft_st_metadata(m.golden, key);
        CHECK(count && atoll(count) == weft_tree_count(m.tree));
        close_model(&m);
    }
}

/* ---- properties ------------------------------------------------------------------------------------------------------ */

/* Biases of the last layer that push logvar past both ends. */
TEST(logvar_is_clamped) {
    struct model m;
    if (!open_model(&m, context("cpu", 1, WEFT_PRECISION_EXACT), "sd", WEFT_F32)) return;
    weft_scope s = weft_scope_named(m.c, "case");
    const char *name = "";
    for (int64_t i = 0; i < weft_tree_count(m.tree); i++) {
        weft_tensor *t = weft_tree_plain(m.c, m.tree, i, &name);
        float bias[8] = { 0, 0, 0, 0, 100, -100, 15, -25 };
        if (!strcmp(name, "quant_conv.bias")) CHECK(weft_write(m.c, t, bias, sizeof bias) == WEFT_OK);
    }
    weft_tensor *image = input(&m, "encode", 0, "image", 7, WEFT_SHAPE(1, 3, 16, 16));
    weft_vae_moments moments = weft_vae_encode(m.c, weft_root(m.tree), &m.config, image);
    float logvar[2 * 2][4];
    REQUIRE(weft_read(m.c, moments.logvar, logvar, sizeof logvar) == WEFT_OK);
    for (int i = 0; i < 4; i++) {
        CHECK(logvar[i][0] == 20 && logvar[i][1] == -30);
        CHECK(logvar[i][2] > 13 && logvar[i][2] < 17 && logvar[i][3] > -27 && logvar[i][3] < -23);
    }
    weft_scope_end(m.c, s, NULL);
    close_model(&m);
}

/* scale and unscale undo each other; the numbers are diffusers' formulas. */
TEST(scaling) {
    weft_ctx *c = context("cpu", 1, WEFT_PRECISION_EXACT);
    weft_vae_config config = weft_vae_sd;
    config.scaling_factor = 0.3611;
    config.shift_factor = 0.1159;
    weft_scope s = weft_scope_named(c, "case");
    weft_tensor *x = weft_full(c, WEFT_F32, WEFT_SHAPE(1), 2);
    CHECK_NEAR(weft_item(c, weft_vae_scale(c, &config, x)), (2 - 0.1159) * 0.3611, 1e-6);
    CHECK_NEAR(weft_item(c, weft_vae_unscale(c, &config, x)), 2 / 0.3611 + 0.1159, 1e-5);
    CHECK_NEAR(weft_item(c, weft_vae_scale(c, &weft_vae_sd, x)), 2 * 0.18215, 1e-6);
    weft_scope_end(c, s, NULL);
    CHECK_EQ(weft_memory_live(c), 0);
    weft_ctx_free(c);
}

TEST(pixels) {
    weft_ctx *c = context("cpu", 1, WEFT_PRECISION_FAST);
    weft_safetensors *golden = weft_st_open(c, GOLDEN);
    REQUIRE(golden);
    weft_scope s = weft_scope_named(c, "case");
    const weft_st_entry *x = weft_st_find(golden, "pixels.x"), *u8 = weft_st_find(golden, "pixels.u8");
    const weft_st_entry *back = weft_st_find(golden, "pixels.back");
    unsigned char got[1024], ramp[256];
    REQUIRE(u8->bytes <= sizeof got);
    weft_tensor *y = weft_vae_to_pixels(c, weft_st_tensor(c, golden, x));
    CHECK(weft_type(y) == WEFT_U8 && weft_rank(y) == 4);
    REQUIRE(weft_read(c, y, got, u8->bytes) == WEFT_OK);
    for (size_t i = 0; i < u8->bytes; i++)
        if (got[i] != ((const unsigned char *)u8->data)[i])
            TEST_FAIL("%.9g gives %d, expected %d", ((const float *)x->data)[i], got[i], ((const unsigned char *)u8->data)[i]);

    for (int i = 0; i < 256; i++) ramp[i] = (unsigned char)i;
    y = weft_vae_from_pixels(c, weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(1, 256, 1, 1), ramp));
    float values[256];
    REQUIRE(weft_read(c, y, values, sizeof values) == WEFT_OK);
    CHECK(!memcmp(values, back->data, sizeof values));
    REQUIRE(weft_read(c, weft_vae_to_pixels(c, y), got, 256) == WEFT_OK);
    CHECK(!memcmp(got, ramp, 256));
    weft_scope_end(c, s, NULL);
    weft_st_close(golden);
    weft_ctx_free(c);
}

/* A decoder holds few activations at a time: at the full resolution the input of a resnet, it normed, and what comes of that.
 * The peak without the weights, in activations as large as the largest (the last but one width at the full resolution). On
 * the reference back end, whose kernels take next to no scratch. */
TEST(decode_memory) {
    struct model m;
    if (!open_model(&m, context("reference", 2, WEFT_PRECISION_EXACT), "sd", WEFT_F32)) return;
    for (int run = 0; run < 2; run++) {
        weft_scope s = weft_scope_named(m.c, "case");
        weft_tensor *latent = weft_full(m.c, WEFT_F32, WEFT_SHAPE(1, 8, 8, 4), 0.5);
        size_t before = weft_memory_live(m.c), largest = sizeof(float) * 64 * 64 * 32;
        weft_memory_reset_peak(m.c);
        CHECK(weft_vae_decode(m.c, weft_root(m.tree), &m.config, latent) != NULL);
        double peak = (double)(weft_memory_peak(m.c) - before) / (double)largest;
        printf("    peak %.2f\n", peak);
        if (run == 1 && !(peak <= 3)) TEST_FAIL("the decoder held %.2f of its largest activations", peak);
        weft_scope_end(m.c, s, NULL);
    }
    close_model(&m);
}

static void expect(weft_ctx *c, weft_status status, const char *part) {
    CHECK_EQ(weft_error(c), status);
    CHECK_HAS(weft_message(c), part);
    weft_clear(c);
}

TEST(wrong_inputs) {
    struct model m;
    if (!open_model(&m, context("cpu", 1, WEFT_PRECISION_EXACT), "sd", WEFT_F32)) return;
    weft_ctx *c = m.c;
    weft_params root = weft_root(m.tree);
    weft_scope s = weft_scope_named(c, "case");
    CHECK(weft_vae_decode(c, root, &m.config, NULL) == NULL);
    expect(c, WEFT_E_ARGUMENT, "no latent");
    CHECK(weft_vae_decode(c, root, &m.config, weft_full(c, WEFT_F32, WEFT_SHAPE(1, 4, 4, 3), 0)) == NULL);
    expect(c, WEFT_E_SHAPE, "(N, H, W, 4)");
    CHECK(weft_vae_encode(c, root, &m.config, weft_full(c, WEFT_F32, WEFT_SHAPE(1, 16, 16, 4), 0)).mean == NULL);
    expect(c, WEFT_E_SHAPE, "(N, H, W, 3)");
    CHECK(weft_vae_encode(c, root, &m.config, weft_full(c, WEFT_F32, WEFT_SHAPE(1, 16, 7, 3), 0)).logvar == NULL);
    expect(c, WEFT_E_SHAPE, "7×16 pixels; 8×8 is the least");
    weft_scope_end(c, s, NULL);
    close_model(&m);
}

/* ---- config.json ------------------------------------------------------------------------------------------------------ */

TEST(configs) {
    static const char *const cases[][2] = {
        { "[]", "expected an object" },
        { "{\"_class_name\": \"AutoencoderTiny\"}", "_class_name: AutoencoderTiny is not supported" },
        { "{\"act_fn\": \"relu\"}", "act_fn" },
        { "{\"down_block_types\": [\"AttnDownEncoderBlock2D\"]}", "down_block_types: AttnDownEncoderBlock2D" },
        { "{\"block_out_channels\": [32, 64]}", "down_block_types: 1 types, but block_out_channels has 2" },
        { "{\"block_out_channels\": [33]}", "norm_num_groups: 32 does not divide block_out_channels 33" },
        { "{\"layers_per_block\": 1000}", "layers_per_block" },
        { "{\"latents_mean\": [0.1]}", "latents_mean" },
        { "{\"scaling_factor\": 0}", "scaling_factor" },
        { "{\"shift_factor\": 1e999}", "too large" },
        { "{\"latent_channels\": -4}", "latent_channels" },
    };
    static const char sd[] =
        "{\"_class_name\": \"AutoencoderKL\", \"block_out_channels\": [128, 256, 512, 512], \"down_block_types\": "
        "[\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"], \"layers_per_block\": 2, "
        "\"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}";
    weft_ctx *c = context("cpu", 1, WEFT_PRECISION_EXACT);
    weft_vae_config config = { .blocks = 77 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(weft_vae_config_parse(c, "config.json", cases[i][0], strlen(cases[i][0]), &config) == WEFT_E_FORMAT);
        CHECK_HAS(weft_message(c), "config.json");
        CHECK_HAS(weft_message(c), cases[i][1]);
        CHECK_EQ(config.blocks, 77);
        weft_clear(c);
    }
    REQUIRE(weft_vae_config_parse(c, "config.json", sd, strlen(sd), &config) == WEFT_OK);
    const weft_vae_config *want = &weft_vae_sd;
    CHECK(config.blocks == want->blocks && !memcmp(config.channels, want->channels, sizeof config.channels));
    CHECK(config.layers == want->layers && config.norm_groups == want->norm_groups);
    CHECK(config.latent_channels == want->latent_channels);
    CHECK(config.in_channels == want->in_channels && config.out_channels == want->out_channels);
    CHECK(config.mid_attention && config.quant_conv && config.post_quant_conv);
    CHECK(config.scaling_factor == want->scaling_factor && config.shift_factor == want->shift_factor);
    weft_ctx_free(c);
}

TEST_MAIN
