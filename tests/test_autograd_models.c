/* Gradients of whole models against diffusers' and transformers' (tests/golden/make_gradients.py), on tiny models:
 * of every parameter and input, kept and run again; and what must not change them: threads, checkpointing, an
 * earlier pass. */
#include "nodes/text/clip_text.h"
#include "nodes/unet/unet2d_condition.h"
#include "nodes/unet/unet_rms.h"
#include "nodes/vae/autoencoder_kl.h"
#include "runtime/autograd.h"
#include "runtime/internal.h"
#include "tests/golden_weights.h"
#include "tests/host_data.h"
#include "tests/test.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/gradients.safetensors"

/* Differences allowed, of the norm as a part of it, of elements as a part of their rms. f64: the expected values are
 * good to 6e-8 and the sinusoids of the time to 2e-7. f32: a gradient comes through some hundred operations; where
 * the smallest picture has two pixels, a norm's group of four values amplifies what is off. 1e-5 and less was seen. */
#define F64_NEAR 2e-6
#define F32_NEAR 5e-5

enum { SAMPLES = 24, ROW = 2 + SAMPLES, INPUTS = 2 };

struct model {
    weft_ctx *c;
    weft_safetensors *golden;
    weft_tree *tree;
    weft_dtype type;
    char key[32];
    weft_unet_config unet;
    weft_clip_text_config text;
    weft_vae_config vae;
    const char *input_name[INPUTS];
    weft_tensor *input[INPUTS];         /* NCHW leaves */
};

static const weft_st_entry *entry(const struct model *m, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", m->key, what);
    return weft_st_find(m->golden, name);
}

static bool open_model(struct model *m, weft_ctx *c, const char *key, weft_dtype type) {
    char config[64];
    *m = (struct model){ .c = c, .type = type };
    snprintf(m->key, sizeof m->key, "%s", key);
    snprintf(config, sizeof config, "config.%s", key);
    m->golden = weft_st_open(c, GOLDEN);
    const char *text = m->golden ? weft_st_metadata(m->golden, config) : NULL;
    if (!text) TEST_FAIL("%s is not in the golden file. %s", key, weft_message(c));
    else if (*key == 'u' && !weft_unet_config_parse(c, config, text, strlen(text), &m->unet))
        m->tree = golden_tree(c, "unet", weft_unet_walk, &m->unet, type);
    else if (*key == 't' && !weft_clip_text_config_parse(c, config, text, strlen(text), &m->text))
        m->tree = golden_tree(c, "text", weft_clip_text_walk, &m->text, type);
    else if (*key == 'v' && !weft_vae_config_parse(c, config, text, strlen(text), &m->vae))
        m->tree = golden_tree(c, "vae", weft_vae_walk, &m->vae, type);
    if (!m->tree || weft_tree_train(c, m->tree, NULL, true)) TEST_FAIL("%s: %s", key, weft_message(c));
    return m->tree && weft_ok(c);
}

/* Also sees that nothing leaked. */
static void close_model(struct model *m) {
    if (!weft_ok(m->c)) TEST_FAIL("%s: %s", m->key, weft_message(m->c));
    weft_tree_free(m->tree);
    weft_st_close(m->golden);
    CHECK_EQ(weft_memory_live(m->c), 0);
    weft_ctx_free(m->c);
}

static weft_tensor *given(struct model *m, const char *what, int exponent, int rank, const int64_t *shape) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", m->key, what);
    return weft_cast(m->c, golden_input(m->c, name, exponent, rank, shape), m->type);
}

static weft_tensor *leaf(struct model *m, int i, const char *what, int exponent, int rank, const int64_t *shape) {
    m->input_name[i] = what;
    m->input[i] = given(m, what, exponent, rank, shape);
    weft_set_requires_grad(m->input[i], true);
    return m->input[i];
}

/* Σ y·values("KEY.r…") */
static weft_tensor *loss_of(struct model *m, const char *what, weft_tensor *y) {
    if (!y) return NULL;
    return weft_reduce_all(m->c, WEFT_REDUCE_SUM, weft_mul(m->c, y, given(m, what, 6, weft_rank(y), weft_shape(y))));
}

/* ---- the models' losses, as the golden script has them ----------------------------------------------------------- */

static weft_tensor *unet_loss(struct model *m, int64_t n, int64_t h, int64_t w, int64_t tokens) {
    weft_ctx *c = m->c;
    const float times[] = { 1, 2, 3 };
    weft_unet_inputs in = {
        .sample = weft_to_nhwc(c, leaf(m, 0, "sample", 6, WEFT_SHAPE(n, m->unet.in_channels, h, w))),
        .timesteps = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(n), times),
        .context = leaf(m, 1, "context", 6, WEFT_SHAPE(n, tokens, m->unet.context)),
    };
    if (m->unet.addition_input_dim) {
        in.text_embeds = given(m, "text_embeds", 6, WEFT_SHAPE(n, 24));
        in.time_ids = weft_unary(c, WEFT_UNARY_ABS, given(m, "time_ids", 7, WEFT_SHAPE(n, 6)));
    }
    return loss_of(m, "r0", weft_to_nchw(c, weft_unet2d_condition(c, weft_root(m->tree), &m->unet, &in)));
}

static weft_tensor *text_loss(struct model *m) {
    const weft_st_entry *ids = entry(m, "ids");
    weft_clip_text_inputs in = {
        .ids = weft_tensor_from(m->c, WEFT_I64, 2, ids->shape, ids->data), .type = m->type, .layer = -1,
        .final_norm = true, .pooled = true,
    };
    weft_clip_text_outputs out;
    if (weft_clip_text(m->c, weft_root(m->tree), &m->text, &in, &out)) return NULL;
    return weft_add(m->c, loss_of(m, "r0", out.hidden), loss_of(m, "r1", out.pooled));
}

static weft_tensor *vae_loss(struct model *m, int64_t n, int64_t h, int64_t w) {
    weft_ctx *c = m->c;
    weft_params root = weft_root(m->tree);
    weft_tensor *x = weft_to_nhwc(c, leaf(m, 0, "image", 7, WEFT_SHAPE(n, m->vae.in_channels, h, w)));
    weft_vae_moments p = weft_vae_encode(c, root, &m->vae, x);
    weft_tensor *mean = weft_to_nchw(c, p.mean);
    if (!mean) return NULL;
    weft_tensor *noise = weft_to_nhwc(c, given(m, "noise", 6, 4, weft_shape(mean)));
    weft_tensor *y = weft_vae_decode(c, root, &m->vae, weft_vae_sample(c, p, noise));
    weft_tensor *loss = weft_add(c, loss_of(m, "r0", weft_to_nchw(c, y)), loss_of(m, "r1", mean));
    return weft_add(c, loss, loss_of(m, "r2", weft_to_nchw(c, p.logvar)));
}

static weft_tensor *model_loss(struct model *m) {
    if (!strcmp(m->key, "unet.sd1")) return unet_loss(m, 3, 16, 8, 5);
    if (!strcmp(m->key, "unet.sdxl")) return unet_loss(m, 1, 8, 12, 3);
    if (!strcmp(m->key, "unet.mid")) return unet_loss(m, 3, 6, 10, 2);
    if (!strcmp(m->key, "vae.sd")) return vae_loss(m, 3, 16, 24);
    if (!strcmp(m->key, "vae.odd")) return vae_loss(m, 1, 9, 14);
    return text_loss(m);
}

/* One forward and backward pass; what it made, but for the gradients and the inputs, is gone. */
static bool step(struct model *m) {
    weft_tensor *loss = NULL;
    if (weft_tape_begin(m->c) == WEFT_OK) loss = model_loss(m);
    if (!loss || weft_backward(m->c, loss, NULL)) TEST_FAIL("%s: %s", m->key, weft_message(m->c));
    weft_tape_end(m->c);
    return weft_ok(m->c);
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

static double worst, largest;           /* difference; norm of a gradient */

/* Some gradients are 0, as that of a bias of keys: softmax does not see it. What rounding leaves of it is measured
 * by the model's largest gradient. */
static double scale_of(const float *row) { return row[0] > 1e-9 * largest ? row[0] : largest; }

static void compare(struct model *m, const char *name, weft_tensor *t, const float *want, double tolerance) {
    const int64_t n = weft_count(t);
    const double scale = scale_of(want);
    weft_scope s = weft_scope_named(m->c, name);
    double *g = malloc((size_t)n * sizeof *g), norm = 0, product = 0, most = 0;
    char text[160];
    snprintf(text, sizeof text, "%s.probe", name);
    const uint64_t seed = golden_seed(text);
    weft_tensor *f64 = weft_cast(m->c, weft_grad(t), WEFT_F64);
    if (!f64 || weft_read(m->c, f64, g, (size_t)n * sizeof *g)) {
        TEST_FAIL("%s: %s has no gradient. %s", m->key, name, weft_message(m->c));
        memset(g, 0, (size_t)n * sizeof *g);
    }
    for (int64_t i = 0; i < n; i++) {
        norm += g[i] * g[i];
        product += g[i] * golden_byte(seed, i) / 128;
    }
    norm = sqrt(norm);
    /* The probe's elements are 0.58 in the rms, so the product is about that part of the norm. */
    most = fmax(fabs(norm - want[0]), fabs(product - want[1])) / scale;
    for (int i = 0; i < SAMPLES; i++) {
        double d = fabs(g[i * n / SAMPLES] - want[2 + i]) / (scale / sqrt((double)n));
        most = fmax(most, d / 5);       /* a single element may be off by more than the rms is */
        if (isnan(d)) most = INFINITY;
    }
    worst = fmax(worst, most);
    if (!(most <= tolerance))
        TEST_FAIL("%s: the gradient of %s is off by %.3g; allowed %.3g", m->key, name, most, tolerance);
    free(g);
    weft_scope_end(m->c, s, NULL);
}

static void check_model(struct model *m, double tolerance) {
    const weft_st_entry *rows = entry(m, "parameters"), *inputs = entry(m, "inputs");
    const char *name = NULL;
    int64_t i = 0;
    worst = largest = 0;
    for (i = 0; i < rows->shape[0]; i++) largest = fmax(largest, ((const float *)rows->data)[i * ROW]);
    i = 0;
    for (weft_tensor *t; (t = weft_tree_trainable(m->tree, i, &name)); i++)
        if (i < rows->shape[0]) compare(m, name, t, (const float *)rows->data + i * ROW, tolerance);
    CHECK_EQ(i, rows->shape[0]);
    for (i = 0; inputs && i < inputs->shape[0]; i++)
        compare(m, m->input_name[i], m->input[i], (const float *)inputs->data + i * ROW, tolerance);
    printf("    %s %s %s: %.2g\n", m->key, weft_backend(m->c)->name, weft_dtype_name(m->type), worst);
}

static void whole(const char *key, const char *device, weft_dtype type, bool again) {
    struct model m;
    weft_ctx *c = weft_ctx_new(&(weft_options){ .device = test_device(device), .threads = 2, .precision = WEFT_PRECISION_EXACT });
    if (!open_model(&m, c, key, type)) return;
    weft_set_recompute(c, again);
    weft_scope s = weft_scope_named(c, "step");
    if (step(&m)) check_model(&m, type == WEFT_F64 ? F64_NEAR : F32_NEAR);
    weft_scope_end(c, s, NULL);
    close_model(&m);
}

static const char *const keys[] = {
    "unet.sd1", "unet.sdxl", "unet.mid", "text.quick", "text.gelu", "vae.sd", "vae.odd",
};
enum { KEYS = sizeof keys / sizeof *keys };

TEST(kept) {
    for (int i = 0; i < KEYS; i++) whole(keys[i], "cpu", WEFT_F32, false);
}

TEST(run_again) {
    for (int i = 0; i < KEYS; i++) whole(keys[i], "cpu", WEFT_F32, true);
}

TEST(double_precision) {
    whole("unet.mid", "reference", WEFT_F64, false);
    whole("unet.sdxl", "reference", WEFT_F64, false);
    whole("text.gelu", "reference", WEFT_F64, true);
    whole("vae.odd", "reference", WEFT_F64, true);
}

/* ---- a model that neither library has: by differences ---------------------------------------------------------------- */

static double direction(uint64_t seed, int64_t i) { return golden_byte(seed, i) / 128.0; }

/* All parameters of the tree a step along their direction. */
static void move(weft_tree *tree, double by) {
    const char *name;
    for (int64_t i = 0; weft_tree_trainable(tree, i, &name); i++) {
        weft_tensor *t = weft_tree_trainable(tree, i, NULL);
        double *x = weft_data(t);
        for (int64_t k = 0; k < weft_count(t); k++) x[k] += by * direction(golden_seed(name), k);
        weft_tensor_changed(t);
    }
}

static weft_tensor *rms_loss(weft_ctx *c, weft_tree *tree, const weft_unet_rms_config *config) {
    const float times[] = { 3, 41 };
    weft_tensor *x = weft_cast(c, golden_input(c, "rms.x", 6, WEFT_SHAPE(2, 4, 6, 3)), WEFT_F64);
    weft_tensor *t = weft_cast(c, weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(2), times), WEFT_F64);
    weft_tensor *y = weft_unet_rms(c, weft_root(tree), config, x, t, NULL);
    return weft_reduce_all(c, WEFT_REDUCE_SUM, weft_mul(c, y, x));
}

static double rms_value(weft_ctx *c, weft_tree *tree, const weft_unet_rms_config *config) {
    weft_scope s = weft_scope_named(c, "value");
    double value = weft_item(c, rms_loss(c, tree, config));
    weft_scope_end(c, s, NULL);
    return value;
}

/* The slope along one direction of all parameters; its error is that of test_autograd.c's differences. */
TEST(rms) {
    const double step = 1e-6;
    weft_unet_rms_config config = weft_unet_rms_default;
    config.dim = 8;
    config.stages = 2;
    config.full_attention[1] = true;
    for (int i = 0; i < 2; i++) config.heads[i] = config.head_dim[i] = 2;
    weft_ctx *c = weft_ctx_new(&(weft_options){ .device = "reference" });
    weft_tree *tree = golden_tree(c, "unet", weft_unet_rms_walk, &config, WEFT_F64);
    REQUIRE(tree && !weft_tree_train(c, tree, NULL, true));
    move(tree, step);
    double up = rms_value(c, tree, &config);
    move(tree, -2 * step);
    double want = (up - rms_value(c, tree, &config)) / (2 * step);
    move(tree, step);
    for (int again = 0; again < 2; again++) {
        double slope = 0;
        const char *name;
        weft_scope s = weft_scope_named(c, "step");
        weft_set_recompute(c, again);
        weft_tree_zero_grad(tree);
        CHECK(!weft_tape_begin(c) && !weft_backward(c, rms_loss(c, tree, &config), NULL));
        weft_tape_end(c);
        for (int64_t i = 0; weft_tree_trainable(tree, i, &name); i++) {
            weft_tensor *g = weft_grad(weft_tree_trainable(tree, i, NULL));
            const double *x = host_data(g);
            if (!x) TEST_FAIL("%s has no gradient", name);
            for (int64_t k = 0; x && k < weft_count(g); k++) slope += x[k] * direction(golden_seed(name), k);
        }
        CHECK_NEAR(slope, want, 1e-6 * fabs(want));
        weft_scope_end(c, s, NULL);
    }
    CHECK_STR(weft_message(c), "");
    weft_tree_free(tree);
    weft_ctx_free(c);
}

/* ---- what must not change a byte --------------------------------------------------------------------------------- */

/* All gradients of a step one behind the other, malloc'd; *bytes their size. */
static char *gradients_of(struct model *m, size_t *bytes) {
    char *all = NULL;
    *bytes = 0;
    for (int64_t i = 0;; i++) {
        weft_tensor *t = weft_tree_trainable(m->tree, i, NULL);
        const size_t n = (size_t)weft_count(t) * sizeof(float);
        if (!t) return all;
        all = realloc(all, *bytes + n);
        if (!all || !weft_grad(t) || weft_read(m->c, weft_grad(t), all + *bytes, n)) return all;
        *bytes += n;
    }
}

static char *step_bytes(const char *key, int threads, bool again, int steps, size_t *bytes) {
    struct model m;
    char *all = NULL;
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = threads });
    if (!open_model(&m, c, key, WEFT_F32)) return NULL;
    weft_set_recompute(c, again);
    const size_t parameters = weft_memory_live(c);
    for (int i = 0; i < steps; i++) {
        weft_scope s = weft_scope_named(c, "step");
        weft_tree_zero_grad(m.tree);
        CHECK(step(&m));
        weft_scope_end(c, s, NULL);
    }
    all = gradients_of(&m, bytes);
    weft_tree_zero_grad(m.tree);
    CHECK_EQ(weft_memory_live(c), parameters);
    close_model(&m);
    return all;
}

/* One thread and kept is the measure; then with more, run again, and a second step after a first. */
TEST(bytes) {
    static const char *const checked[] = { "unet.sdxl", "text.quick", "vae.odd" };
    for (int i = 0; i < 3; i++) {
        size_t size, other;
        char *first = step_bytes(checked[i], 1, false, 1, &size);
        for (int k = 0; k < 3; k++) {
            char *next = step_bytes(checked[i], k == 0 ? 3 : 1, k == 1, k == 2 ? 2 : 1, &other);
            CHECK(first && next && size == other && size > 0 && !memcmp(first, next, size));
            free(next);
        }
        free(first);
    }
}

/* Two passes of half the loss each are the pass of the whole: sums of halves are exact. */
TEST(passes_add_up) {
    struct model m;
    if (!open_model(&m, weft_ctx_new(&(weft_options){ .threads = 1 }), "text.quick", WEFT_F32)) return;
    weft_ctx *c = m.c;
    size_t size, other;
    char *once = NULL, *twice = NULL;
    for (int passes = 1; passes <= 2; passes++) {
        weft_scope s = weft_scope_named(c, "passes");
        weft_tree_zero_grad(m.tree);
        CHECK(!weft_tape_begin(c));
        for (int i = 0; i < passes; i++)
            CHECK(!weft_backward(c, weft_affine(c, model_loss(&m), 1.0 / passes, 0), NULL));
        weft_tape_end(c);
        if (passes == 1) once = gradients_of(&m, &size);
        else twice = gradients_of(&m, &other);
        weft_scope_end(c, s, NULL);
    }
    struct test_distance d = { INFINITY, INFINITY };
    if (once && twice && size == other)
        d = test_compare_f32((float *)twice, (float *)once, (int64_t)(size / sizeof(float)));
    CHECK_NEAR(d.rms, 0, 1e-6);         /* sums of products that run on from what is there round elsewhere */
    free(once);
    free(twice);
    weft_tree_zero_grad(m.tree);
    close_model(&m);
}

TEST_MAIN
