/* The RMS Unet against denoising_diffusion_pytorch (tests/golden/make_unet_rms.py), on tiny models. */
#include "nodes/unet/unet_rms.h"
#include "tests/golden_weights.h"
#include "tests/host_data.h"
#include "tests/test.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/unet_rms.safetensors"

/* Largest difference allowed, as a part of the output's range. The expected values are good to 6e-8 and float32's rounding
 * gathers to some 5e-7 over these depths; ten times that is for other instruction sets and orders of sums. */
#define EXACT 5e-6
#define FAST 5e-5       /* with Winograd F(4×4) */

struct model {
    weft_ctx *c;
    weft_safetensors *golden;
    weft_unet_rms_config config;
    weft_tree *tree;
    const char *name;
};

static bool open_model(struct model *m, weft_ctx *c, const char *name, weft_dtype type) {
    char key[32];
    *m = (struct model){ .c = c, .name = name };
    snprintf(key, sizeof key, "config.%s", name);
    m->golden = weft_st_open(c, GOLDEN);
    const char *text = m->golden ? weft_st_metadata(m->golden, key) : NULL;
    if (text && weft_unet_rms_config_parse(c, key, text, strlen(text), &m->config) == WEFT_OK)
        m->tree = golden_tree(c, "unet", weft_unet_rms_walk, &m->config, type);
    if (!m->tree) TEST_FAIL("%s: %s", name, weft_message(c));
    return m->tree != NULL;
}

static void close_model(struct model *m) {
    weft_tree_free(m->tree);
    weft_st_close(m->golden);
    CHECK_EQ(weft_memory_live(m->c), 0);
    weft_ctx_free(m->c);
}

static const weft_st_entry *entry(struct model *m, int k, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "%s.%d.%s", m->name, k, what);
    return weft_st_find(m->golden, name);
}

static weft_tensor *input(struct model *m, int k, const char *what, const weft_st_entry *out) {
    char name[64];
    snprintf(name, sizeof name, "%s.%d.%s", m->name, k, what);
    int64_t n = out->shape[0], h = out->shape[1], w = out->shape[2];
    return weft_to_nhwc(m->c, golden_input(m->c, name, 6, WEFT_SHAPE(n, m->config.channels, h, w)));
}

static weft_tensor *evaluate(struct model *m, int k, weft_dtype type) {
    const weft_st_entry *out = entry(m, k, "out"), *times = entry(m, k, "timesteps");
    weft_tensor *sample = weft_cast(m->c, input(m, k, "sample", out), type);
    weft_tensor *t = weft_cast(m->c, weft_tensor_from(m->c, WEFT_F32, 1, times->shape, times->data), type);
    bool estimate = m->config.self_condition && k == 0;
    return weft_unet_rms(m->c, weft_root(m->tree), &m->config, sample, t,
                         estimate ? weft_cast(m->c, input(m, k, "estimate", out), type) : NULL);
}

static double off(weft_ctx *c, weft_tensor *t, const weft_st_entry *e) {
    if (!t || weft_rank(t) != e->rank || memcmp(weft_shape(t), e->shape, (size_t)e->rank * sizeof *e->shape)) return INFINITY;
    size_t n = e->bytes / sizeof(float);
    float *got = malloc(e->bytes);
    const float *want = e->data;
    double low = want[0], high = want[0], most = 0;
    weft_scope s = weft_scope_named(c, "off");
    if (!got || weft_read(c, weft_cast(c, t, WEFT_F32), got, e->bytes)) most = INFINITY;
    for (size_t i = 0; i < n && most < INFINITY; i++) {
        double d = fabs((double)got[i] - want[i]);
        most = d <= most ? most : isnan(d) ? INFINITY : d;
        low = want[i] < low ? want[i] : low;
        high = want[i] > high ? want[i] : high;
    }
    weft_scope_end(c, s, NULL);
    free(got);
    return most / (high - low);
}

static void all_cases(const char *name, weft_ctx *c, weft_dtype weights, weft_dtype type, double tolerance) {
    struct model m;
    if (!open_model(&m, c, name, weights)) return;
    int k = 0;
    for (; entry(&m, k, "out"); k++) {
        weft_scope s = weft_scope_named(c, "case");
        double d = off(c, evaluate(&m, k, type), entry(&m, k, "out"));
        printf("    %s.%d %.2g\n", name, k, d);
        if (!(d <= tolerance))
            TEST_FAIL("%s.%d: off by %.3g of the range; allowed %.3g. %s", name, k, d, tolerance, weft_message(c));
        weft_scope_end(c, s, NULL);
    }
    CHECK(k > 0);
    close_model(&m);
}

static const char *const models[] = { "plain", "self", "one", "learned", "random" };
enum { MODELS = sizeof models / sizeof *models };

/* A tree that makes its weights has those of the original's state dict, names and shapes. */
TEST(state_dict) {
    for (int i = 0; i < MODELS; i++) {
        struct model m;
        weft_ctx *c = weft_ctx_new(NULL);
        char key[32];
        if (!open_model(&m, c, models[i], WEFT_F32)) return;
        snprintf(key, sizeof key, "shapes.%s", models[i]);
        const char *want = weft_st_metadata(m.golden, key);
        for (int64_t k = 0; want && k < weft_tree_count(m.tree); k++) {
            char line[160];
            const char *name;
            weft_scope s = weft_scope_named(c, "shapes");
            weft_tensor *t = weft_tree_plain(c, m.tree, k, &name);
            int n = snprintf(line, sizeof line, "%s [", name);
            for (int d = 0; d < weft_rank(t); d++)
                n += snprintf(line + n, sizeof line - (size_t)n, "%s%lld", d ? ", " : "", (long long)weft_dim(t, d));
            n += snprintf(line + n, sizeof line - (size_t)n, "]\n");
            if (!strncmp(want, line, (size_t)n)) want += n;
            else TEST_FAIL("%s: %.60s, not %s", models[i], want, line);
            weft_scope_end(c, s, NULL);
        }
        CHECK(want && !*want);
        close_model(&m);
    }
}

static weft_ctx *context(const char *device, weft_precision precision) {
    return weft_ctx_new(&(weft_options){ .device = test_device(device), .threads = 2, .precision = precision });
}

TEST(exact) {
    for (int i = 0; i < MODELS; i++) all_cases(models[i], context("cpu", WEFT_PRECISION_EXACT), WEFT_F32, WEFT_F32, EXACT);
}

TEST(fast_and_half_weights) {
    for (int i = 0; i < MODELS; i++) all_cases(models[i], context("cpu", WEFT_PRECISION_FAST), WEFT_F16, WEFT_F32, FAST);
}

TEST(reference) {
    /* Double throughout: only the expected values' own rounding to float32 is left. */
    for (int i = 0; i < MODELS; i++)
        all_cases(models[i], context("reference", WEFT_PRECISION_EXACT), WEFT_F64, WEFT_F64, 2e-7);
}

static void refused(struct model *m, weft_tensor *sample, weft_tensor *t, weft_tensor *cond, const char *word) {
    CHECK(!weft_unet_rms(m->c, weft_root(m->tree), &m->config, sample, t, cond));
    CHECK(strstr(weft_message(m->c), word));
    weft_clear(m->c);
}

TEST(refuses) {
    struct model m;
    weft_ctx *c = context("cpu", WEFT_PRECISION_EXACT);
    if (!open_model(&m, c, "plain", WEFT_F32)) return;
    weft_scope s = weft_scope_named(c, "refuses");
    weft_tensor *t = weft_full(c, WEFT_F32, WEFT_SHAPE(1), 5), *two = weft_full(c, WEFT_F32, WEFT_SHAPE(2), 5);
    weft_tensor *x = weft_full(c, WEFT_F32, WEFT_SHAPE(1, 8, 8, 3), 0);
    refused(&m, weft_full(c, WEFT_F32, WEFT_SHAPE(1, 8, 8, 4), 0), t, NULL, "(N, H, W, 3)");
    refused(&m, weft_full(c, WEFT_F32, WEFT_SHAPE(1, 6, 8, 3), 0), t, NULL, "multiples of 4");
    refused(&m, x, two, NULL, "timesteps");
    refused(&m, x, t, x, "self_condition");
    weft_scope_end(c, s, NULL);
    close_model(&m);
}

static void bad_config(const char *text, const char *word) {
    weft_ctx *c = context("cpu", WEFT_PRECISION_EXACT);
    weft_unet_rms_config config = weft_unet_rms_default;
    CHECK(weft_unet_rms_config_parse(c, "config.json", text, strlen(text), &config) != WEFT_OK);
    if (!strstr(weft_message(c), word)) TEST_FAIL("%s: \"%s\" says nothing of %s", text, weft_message(c), word);
    weft_ctx_free(c);
}

TEST(bad_configs) {
    bad_config("{\"dim\": 0}", "dim");
    bad_config("{\"dim\": 7}", "even");
    bad_config("{\"dim_mults\": [1, 2, 0]}", "dim_mults");
    bad_config("{\"dim_mults\": [1, 2], \"full_attn\": [true]}", "full_attn");
    bad_config("{\"dim_mults\": [1, 2], \"full_attn\": [true, 1]}", "full_attn");
    bad_config("{\"learned_variance\": true}", "learned_variance");
    bad_config("{\"sinusoidal_pos_emb_theta\": 0}", "theta");
}

TEST_MAIN
