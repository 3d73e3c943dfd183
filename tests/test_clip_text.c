/* The text encoder against transformers (tests/golden/make_clip_text.py), on tiny models of each kind. */
#include "nodes/text/clip_text.h"
#include "tests/golden_weights.h"
#include "tests/host_data.h"
#include "tests/test.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/clip_text.safetensors"

/* Allowed differences, as a part of the expected values' rms; the largest single one may be 20 times that. The expected
 * values are good to 6e-8. A step of f32 rounds by 6e-8, and some forty of them lie behind each other: 1.5e-7
 * (reference) to 4e-7 (cpu) was seen; five times that is for other instruction sets. Weights in 16 bits are the same
 * numbers, so they change nothing. */
#define EXACT 2e-6
/* Activations in f16 round by 2^-11 a step, bf16 by 2^-8: 1e-3 and 8e-3 were seen. */
#define HALF 4e-3
#define BRAIN 3e-2

struct model {
    weft_ctx *c;
    weft_safetensors *golden;
    weft_clip_text_config config;
    weft_tree *tree;
    const char *name;
};

static bool open_model(struct model *m, const char *device, const char *name, weft_dtype type) {
    char key[32];
    *m = (struct model){ .c = weft_ctx_new(&(weft_options){ .device = test_device(device), .threads = 2 }), .name = name };
    snprintf(key, sizeof key, "config.%s", name);
    m->golden = weft_st_open(m->c, GOLDEN);
    const char *text = m->golden ? weft_st_metadata(m->golden, key) : NULL;
    if (text && weft_clip_text_config_parse(m->c, key, text, strlen(text), &m->config) == WEFT_OK)
        m->tree = golden_tree(m->c, "text", weft_clip_text_walk, &m->config, type);
    if (!m->tree) TEST_FAIL("%s: %s", name, weft_message(m->c));
    return m->tree != NULL;
}

/* Also sees that nothing leaked. */
static void close_model(struct model *m) {
    if (!weft_ok(m->c)) TEST_FAIL("%s: %s", m->name, weft_message(m->c));
    weft_tree_free(m->tree);
    weft_st_close(m->golden);
    CHECK_EQ(weft_memory_live(m->c), 0);
    weft_ctx_free(m->c);
}

/* Entry "MODEL.k.what" of the golden file; NULL where there is none. */
static const weft_st_entry *entry(const struct model *m, int k, const char *what) {
    char name[96];
    snprintf(name, sizeof name, "%s.%d.%s", m->name, k, what);
    return weft_st_find(m->golden, name);
}

/* Compares a tensor of any type with "MODEL.k.what". */
static void compare(struct model *m, int k, const char *what, weft_tensor *got, double tolerance) {
    const weft_st_entry *want = entry(m, k, what);
    weft_scope s = weft_scope_named(m->c, "compare");
    weft_tensor *f32 = weft_cast(m->c, got, WEFT_F32);
    float *values = malloc(want ? want->bytes : 1);
    bool same = want && f32 && values && weft_rank(f32) == want->rank;
    for (int i = 0; same && i < want->rank; i++) same = weft_dim(f32, i) == want->shape[i];
    if (!same) {
        const char *why = !want ? "not in the golden file" : f32 ? "another shape" : weft_message(m->c);
        TEST_FAIL("%s.%d.%s: %s", m->name, k, what, why);
    } else if (weft_read(m->c, f32, values, want->bytes) == WEFT_OK) {
        struct test_distance d = test_compare_f32(values, want->data, weft_count(f32));
        if (!(d.rms <= tolerance && d.max <= 20 * tolerance))
            TEST_FAIL("%s.%d.%s: rms %.3g, largest %.3g; allowed %.3g", m->name, k, what, d.rms, d.max, tolerance);
    }
    free(values);
    weft_scope_end(m->c, s, NULL);
}

struct watch { struct model *m; double tolerance; int seen; };

static void see(void *user, int layer, weft_tensor *state) {
    struct watch *w = user;
    char what[32];
    snprintf(what, sizeof what, "state.%d", layer);
    compare(w->m, 0, what, state, w->tolerance);
    w->seen++;
}

/* All cases of a model: last, pooled, the state before the last; of the first case each state. */
static void check_model(const char *device, const char *name, weft_dtype weights, weft_dtype type, double tolerance) {
    struct model m;
    if (!open_model(&m, device, name, weights)) return close_model(&m);
    weft_ctx *c = m.c;
    int cases = 0;
    for (int k = 0; weft_ok(c) && entry(&m, k, "ids"); k++, cases++) {
        const weft_st_entry *e = entry(&m, k, "ids");
        weft_scope s = weft_scope_named(c, "case");
        struct watch w = { &m, tolerance, 0 };
        weft_clip_text_outputs out;
        weft_tensor *ids = weft_tensor_from(c, WEFT_I64, e->rank, e->shape, e->data);
        weft_clip_text_inputs in = { .ids = ids, .type = type, .layer = -1, .final_norm = true, .pooled = true };
        if (k == 0) in.observe = see, in.observe_user = &w;
        CHECK_EQ(weft_clip_text(c, weft_root(m.tree), &m.config, &in, &out), WEFT_OK);
        compare(&m, k, "last", out.hidden, tolerance);
        compare(&m, k, "pooled", out.pooled, tolerance);
        CHECK(k || w.seen == m.config.layers + 1);
        ids = weft_cast(c, ids, WEFT_I32);
        in = (weft_clip_text_inputs){ .ids = ids, .type = type, .layer = -2, .final_norm = true };
        CHECK_EQ(weft_clip_text(c, weft_root(m.tree), &m.config, &in, &out), WEFT_OK);
        compare(&m, k, "skip", out.hidden, tolerance);
        CHECK(!out.pooled);
        weft_scope_end(c, s, NULL);
    }
    CHECK(cases > 0);
    close_model(&m);
}

static const char *const models[] = { "quick", "gelu", "tanh" };

static void check_all(const char *device, weft_dtype weights, weft_dtype type, double tolerance) {
    for (int i = 0; i < 3; i++) check_model(device, models[i], weights, type, tolerance);
}

TEST(reference_f32) { check_all("reference", WEFT_F32, WEFT_F32, EXACT); }
TEST(cpu_f32) { check_all("cpu", WEFT_F32, WEFT_F32, EXACT); }
TEST(cpu_weights_in_16_bits) {
    check_all("cpu", WEFT_F16, WEFT_F32, EXACT);
    check_all("cpu", WEFT_BF16, WEFT_F32, EXACT);
}
TEST(reference_activations_in_16_bits) {
    check_all("reference", WEFT_F16, WEFT_F16, HALF);
    check_all("reference", WEFT_BF16, WEFT_BF16, BRAIN);
}
/* In f64 only the golden file's own rounding is left. */
TEST(reference_f64) { check_all("reference", WEFT_F64, WEFT_F64, 1e-7); }

/* A state that is asked for is the one that is observed, with and without the pooled text, and the norm is the model's
 * own. */
TEST(chosen_layer) {
    struct model m;
    REQUIRE(open_model(&m, "reference", "gelu", WEFT_F32));
    weft_ctx *c = m.c;
    const weft_st_entry *e = entry(&m, 0, "ids");
    for (int layer = -5; layer <= 4; layer++)
        for (int pooled = 0; pooled < 2; pooled++) {
            weft_scope s = weft_scope_named(c, "case");
            char what[32];
            weft_clip_text_outputs out;
            weft_clip_text_inputs in = {
                .ids = weft_tensor_from(c, WEFT_I64, e->rank, e->shape, e->data), .type = WEFT_F32,
                .layer = layer, .pooled = pooled,
            };
            CHECK_EQ(weft_clip_text(c, weft_root(m.tree), &m.config, &in, &out), WEFT_OK);
            snprintf(what, sizeof what, "state.%d", layer < 0 ? layer + 5 : layer);
            compare(&m, 0, what, out.hidden, EXACT);
            if (pooled) compare(&m, 0, "pooled", out.pooled, EXACT);
            weft_scope_end(c, s, NULL);
        }
    close_model(&m);
}

/* A text's result does not depend on its neighbours in the batch, to the byte. */
TEST(batch_changes_nothing) {
    struct model m;
    REQUIRE(open_model(&m, "cpu", "gelu", WEFT_F32));
    weft_ctx *c = m.c;
    const weft_st_entry *e = entry(&m, 0, "ids");
    weft_scope s = weft_scope_named(c, "case");
    weft_tensor *ids = weft_tensor_from(c, WEFT_I64, e->rank, e->shape, e->data);
    weft_clip_text_outputs all, one;
    weft_clip_text_inputs in = { .ids = ids, .type = WEFT_F32, .layer = -1, .final_norm = true, .pooled = true };
    REQUIRE(weft_clip_text(c, weft_root(m.tree), &m.config, &in, &all) == WEFT_OK);
    for (int i = 0; i < 3; i++) {
        in.ids = weft_slice(c, ids, 0, i, 1);
        REQUIRE(weft_clip_text(c, weft_root(m.tree), &m.config, &in, &one) == WEFT_OK);
        const float *a = host_data(one.hidden), *b = host_data(all.hidden);
        int64_t n = weft_count(one.hidden);
        CHECK(!memcmp(a, b + i * n, (size_t)n * sizeof *a));
    }
    weft_scope_end(c, s, NULL);
    close_model(&m);
}

/* A check finds all parameters, no more and no fewer, and a making tree makes them. */
TEST(walk) {
    for (int i = 0; i < 3; i++) {
        struct model m;
        char key[32];
        REQUIRE(open_model(&m, "reference", models[i], WEFT_F32));
        CHECK_EQ(weft_tree_check(m.c, m.tree, weft_clip_text_walk, &m.config, true), WEFT_OK);
        snprintf(key, sizeof key, "tensors.%s", models[i]);
        CHECK_EQ(weft_tree_count(m.tree), atoi(weft_st_metadata(m.golden, key)));
        close_model(&m);
    }
}

TEST(missing_weights) {
    struct model m;
    REQUIRE(open_model(&m, "reference", "tanh", WEFT_F32));
    m.config.layers = 2;
    CHECK_EQ(weft_tree_check(m.c, m.tree, weft_clip_text_walk, &m.config, true), WEFT_E_PARAMS);
    CHECK_HAS(weft_message(m.c), "encoder.layers.1.self_attn.q_proj");
    weft_clear(m.c);
    close_model(&m);
}

/* ---- what is refused ------------------------------------------------------------------------------------------ */

static void refuse(struct model *m, weft_clip_text_inputs in, weft_status code, const char *what) {
    weft_clip_text_outputs out;
    CHECK_EQ(weft_clip_text(m->c, weft_root(m->tree), &m->config, &in, &out), code);
    CHECK_HAS(weft_message(m->c), what);
    CHECK(!out.hidden && !out.pooled);
    weft_clear(m->c);
}

TEST(bad_inputs) {
    struct model m;
    REQUIRE(open_model(&m, "reference", "tanh", WEFT_F32));
    weft_ctx *c = m.c;
    weft_scope s = weft_scope_named(c, "case");
    weft_tensor *good = weft_tensor_from(c, WEFT_I32, WEFT_SHAPE(1, 2), (int32_t[]){ 1, 2 });
    refuse(&m, (weft_clip_text_inputs){ 0 }, WEFT_E_ARGUMENT, "ids are needed");
    refuse(&m, (weft_clip_text_inputs){ .ids = weft_tensor_new(c, WEFT_I32, WEFT_SHAPE(2)) }, WEFT_E_SHAPE,
           "expected (B, T)");
    refuse(&m, (weft_clip_text_inputs){ .ids = weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1, 2)) }, WEFT_E_SHAPE,
           "expected (B, T)");
    refuse(&m, (weft_clip_text_inputs){ .ids = weft_tensor_new(c, WEFT_I32, WEFT_SHAPE(1, 10)) }, WEFT_E_SHAPE,
           "10 tokens; this model takes 1 to 9");
    refuse(&m, (weft_clip_text_inputs){ .ids = weft_tensor_new(c, WEFT_I32, WEFT_SHAPE(1, 0)) }, WEFT_E_SHAPE,
           "0 tokens");
    refuse(&m, (weft_clip_text_inputs){ .ids = good, .layer = 2 }, WEFT_E_ARGUMENT, "layer 2");
    refuse(&m, (weft_clip_text_inputs){ .ids = good, .layer = -3 }, WEFT_E_ARGUMENT, "layer -3");
    weft_tensor *high = weft_tensor_from(c, WEFT_I32, WEFT_SHAPE(1, 2), (int32_t[]){ 1, 50 });
    refuse(&m, (weft_clip_text_inputs){ .ids = high }, WEFT_E_ARGUMENT, "id 50");
    weft_scope_end(c, s, NULL);
    close_model(&m);
}

TEST(config_json) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .device = "reference" });
    weft_clip_text_config got = { 0 };
    static const char sdxl[] =
        "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"hidden_act\": \"gelu\", \"hidden_size\": 1280, "
        "\"intermediate_size\": 5120, \"layer_norm_eps\": 1e-05, \"max_position_embeddings\": 77, "
        "\"model_type\": \"clip_text_model\", \"num_attention_heads\": 20, \"num_hidden_layers\": 32, "
        "\"projection_dim\": 1280, \"vocab_size\": 49408, \"eos_token_id\": 49407, \"torch_dtype\": \"float16\"}";
    CHECK_EQ(weft_clip_text_config_parse(c, "config.json", sdxl, sizeof sdxl - 1, &got), WEFT_OK);
    CHECK(!memcmp(&got, &weft_clip_text_bigg14, sizeof got));
    static const char whole[] =
        "{\"model_type\": \"clip\", \"text_config\": {\"hidden_size\": 768, \"num_attention_heads\": 12, "
        "\"intermediate_size\": 3072}}";
    CHECK_EQ(weft_clip_text_config_parse(c, "config.json", whole, sizeof whole - 1, &got), WEFT_OK);
    CHECK(!memcmp(&got, &weft_clip_text_l14, sizeof got));
    static const struct { const char *text, *what; } bad[] = {
        { "[]", "config.json" },
        { "{\"hidden_size\": 100}", "config.json: num_attention_heads: 8 heads do not divide hidden_size 100" },
        { "{\"hidden_size\": -768}", "config.json: hidden_size" },
        { "{\"hidden_size\": 1e12}", "config.json: hidden_size" },
        { "{\"num_attention_heads\": 0}", "config.json: num_attention_heads" },
        { "{\"num_hidden_layers\": 1000000}", "config.json: num_hidden_layers" },
        { "{\"hidden_size\": \"768\"}", "config.json: hidden_size" },
        { "{\"hidden_act\": \"swish\"}", "config.json: hidden_act" },
        { "{\"layer_norm_eps\": -1}", "config.json: layer_norm_eps" },
        { "{\"layer_norm_eps\": 0}", "config.json: layer_norm_eps" },
        { "{\"initializer_factor\": -1}", "config.json: initializer_factor: -1" },
        { "{\"vocab_size\": 0}", "config.json: vocab_size" },
        { "{\"max_position_embeddings\": 1.5}", "config.json: max_position_embeddings" },
        { "{\"eos_token_id\": -1}", "config.json: eos_token_id" },
        { "{\"model_type\": \"t5\"}", "config.json: model_type" },
        { "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"projection_dim\": 0}",
          "config.json: projection_dim" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weft_clip_text_config before = got;
        CHECK(weft_clip_text_config_parse(c, "config.json", bad[i].text, strlen(bad[i].text), &got) != WEFT_OK);
        CHECK_HAS(weft_message(c), bad[i].what);
        CHECK(!memcmp(&before, &got, sizeof got));
        weft_clear(c);
    }
    const weft_clip_text_config *const known[] = { &weft_clip_text_l14, &weft_clip_text_h14, &weft_clip_text_bigg14 };
    for (int i = 0; i < 3; i++) CHECK_EQ(weft_clip_text_config_check(c, "known", known[i]), WEFT_OK);
    weft_ctx_free(c);
}

TEST_MAIN
