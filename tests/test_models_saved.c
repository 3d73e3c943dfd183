/* New models from configurations, and models saved as diffusers' folders: what is read back is what was saved. */
#include <stdlib.h>
#include <string.h>

#include "nodes/checkpoint/config_json.h"
#include "runtime/autograd.h"
#include "runtime/file.h"
#include "tests/node_bed.h"

#define UNET "{\"block_out_channels\": [16, 32], \"down_block_types\": [\"CrossAttnDownBlock2D\", \"DownBlock2D\"], " \
             "\"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\"], \"norm_num_groups\": 8, \"cross_attention_dim\": 24, " \
             "\"attention_head_dim\": [2, 4], \"layers_per_block\": [1, 2]}"
#define SCHEDULER "{\"_class_name\": \"DDPMScheduler\", \"beta_schedule\": \"squaredcos_cap_v2\", \"prediction_type\": \"v_prediction\", " \
                  "\"num_train_timesteps\": 500, \"variance_type\": \"fixed_large\"}"
#define TEXT "{\"vocab_size\": 516, \"hidden_size\": 24, \"intermediate_size\": 40, \"num_hidden_layers\": 2, " \
             "\"num_attention_heads\": 3, \"max_position_embeddings\": 20, \"eos_token_id\": 515}"
#define VAE "{\"block_out_channels\": [8, 16], \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"], " \
            "\"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"], \"norm_num_groups\": 4}"

struct models { struct bed b; char root[64]; const char *roots[2]; char output[80]; weft_value model, clip, vae; };

static const char *below(const struct models *m, const char *name) {
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", m->root, name);
    return p;
}

/* A vocabulary of the 256 letters twice, two merges and the specials: models/tokenizers/small. */
static void write_tokenizer(struct models *m) {
    char command[1024];
    snprintf(command, sizeof command, "mkdir -p %s/models/tokenizers/small %s/output", m->root, m->root);
    CHECK_EQ(system(command), 0);
    FILE *f = fopen(below(m, "models/tokenizers/small/merges.txt"), "w");
    CHECK(f && fputs("#version: 0.2\nb l\nu e</w>\n", f) >= 0 && fclose(f) == 0);
    f = fopen(below(m, "models/tokenizers/small/vocab.json"), "w");
    CHECK(f != NULL);
    fputc('{', f);
    for (int i = 0; i < 512; i++) {
        int letter = i % 256, code = letter >= 33 && letter < 127 ? letter : 256 + letter;     /* any texts serve */
        if (letter == 34 || letter == 92) fprintf(f, "\"\\%c%s\": %d, ", letter, i < 256 ? "" : "</w>", i);
        else if (code < 128) fprintf(f, "\"%c%s\": %d, ", code, i < 256 ? "" : "</w>", i);
        else fprintf(f, "\"\\u%04x%s\": %d, ", code, i < 256 ? "" : "</w>", i);
    }
    fputs("\"bl\": 512, \"ue</w>\": 513, \"<|startoftext|>\": 514, \"<|endoftext|>\": 515}", f);
    CHECK_EQ(fclose(f), 0);
}

static struct models models_new(void) {
    struct models m = { .root = "/tmp/weft-models-XXXXXX" };
    m.b = bed_new("cpu");
    CHECK(mkdtemp(m.root));
    write_tokenizer(&m);
    return m;
}

static void make_all(struct models *m) {
    snprintf(m->output, sizeof m->output, "%s/output", m->root);
    m->roots[0] = strdup(below(m, "models"));
    m->b.folders = (weft_folders){ .models = m->roots, .output = m->output };
    CHECK_EQ(CALL(&m->b, "UNetFromConfig", &m->model, IN_TEXT("config", UNET), IN_TEXT("scheduler", SCHEDULER), IN_INT("seed", 1),
                  IN_FLOAT("latent_scale", 0.75)), WEFT_OK);
    CHECK_EQ(CALL(&m->b, "CLIPFromConfig", &m->clip, IN_TEXT("config", TEXT), IN_TEXT("tokenizer", "small"), IN_INT("seed", 2)), WEFT_OK);
    CHECK_EQ(CALL(&m->b, "VAEFromConfig", &m->vae, IN_TEXT("config", VAE), IN_INT("seed", 3)), WEFT_OK);
    if (!weft_ok(m->b.c)) TEST_FAIL("%s", weft_message(m->b.c));
}

static void models_free(struct models *m) {
    weft_value_clear(&m->model);
    weft_value_clear(&m->clip);
    weft_value_clear(&m->vae);
    free((char *)m->roots[0]);
    CHECK(weft_folder_remove(m->root));
    bed_free(&m->b);
}

static weft_model *model_of(const weft_value *v) { return (weft_model *)v->object; }

/* Names, shapes and values of two trees, the second read from f32 or f16 files. */
static void same_trees(weft_ctx *c, weft_tree *want, weft_tree *got, double tolerance) {
    CHECK_EQ(weft_tree_count(want), weft_tree_count(got));
    for (int64_t i = 0; i < weft_tree_count(want); i++) {
        const char *name, *other;
        weft_scope s = weft_scope_named(c, "compare");
        weft_tensor *a = weft_tree_plain(c, want, i, &name), *b = weft_cast(c, weft_tree_plain(c, got, i, &other), WEFT_F32);
        CHECK(!strcmp(name, other));
        weft_tensor *d = weft_reduce_all(c, WEFT_REDUCE_MAX, weft_unary(c, WEFT_UNARY_ABS, weft_subtract(c, a, b)));
        double most = weft_item(c, d);
        if (!(most <= tolerance)) TEST_FAIL("%s: off by %g", name, most);
        weft_scope_end(c, s, NULL);
    }
}

static void same_text(const char *want, const char *got) {
    if (!want || !got || strcmp(want, got)) TEST_FAIL("configurations differ:\n%s\n%s", want, got);
    free((char *)want);
    free((char *)got);
}

static void round_trip(const char *dtype, double tolerance) {
    struct models m = models_new();
    make_all(&m);
    weft_ctx *c = m.b.c;
    weft_value none[1] = { 0 };
    CHECK_EQ(CALL(&m.b, "DiffusersSave", none, IN_OBJECT("model", model_of(&m.model)), IN_OBJECT("clip", (weft_clip *)m.clip.object),
                  IN_OBJECT("vae", (weft_vae *)m.vae.object), IN_TEXT("folder", "a/tiny"), IN_TEXT("dtype", dtype), IN_INT("latent_size", 8)), WEFT_OK);
    weft_checkpoint *k = weft_checkpoint_open(c, below(&m, "output/a/tiny"), WEFT_PARTS_ALL, WEFT_PARTS_ALL);
    if (!k) TEST_FAIL("%s", weft_message(c));
    weft_model *u = model_of(&m.model);
    weft_clip *t = (weft_clip *)m.clip.object;
    weft_vae *v = (weft_vae *)m.vae.object;
    if (k) {
        same_trees(c, u->weights->tree, k->unet, tolerance);
        same_trees(c, t->weights->tree, k->text, tolerance);
        same_trees(c, v->weights->tree, k->vae, tolerance);
        same_text(weft_unet_config_json(&u->config, 0), weft_unet_config_json(&k->unet_config, 0));
        same_text(weft_clip_text_config_json(&t->config, 514, 515), weft_clip_text_config_json(&k->text_config, 514, 515));
        v->config.scaling_factor = 0.75;        /* the model's latent_scale is what is saved */
        same_text(weft_vae_config_json(&v->config, 0), weft_vae_config_json(&k->vae_config, 0));
        same_text(weft_scheduler_config_json(&u->scheduler), weft_scheduler_config_json(&k->scheduler));
        CHECK_EQ(k->scheduler.num_train_timesteps, 500);
        CHECK_EQ(k->scheduler.prediction_type, WEFT_PREDICTION_V);
        const char *text = "blue <|endoftext|> é";
        weft_ids want = { 0 }, got = { 0 };
        CHECK(!weft_tokenizer_encode(c, t->tokenizer, text, strlen(text), &want) && !weft_tokenizer_encode(c, k->tokenizer, text, strlen(text), &got));
        CHECK(want.count == got.count && want.count >= 4 && !memcmp(want.at, got.at, (size_t)want.count * sizeof *want.at));
        CHECK_EQ(want.at[0], 512);              /* "bl" "ue</w>": the merges came along */
        weft_ids_free(&want);
        weft_ids_free(&got);
    }
    weft_checkpoint_free(k);
    models_free(&m);
}

TEST(what_is_saved_is_read_back) { round_trip("f32", 0); }
TEST(in_halves) { round_trip("f16", 5e-4); }        /* f16 rounds to 2⁻¹¹ of values that are at most 1 */

TEST(the_same_seed_makes_the_same_weights) {
    struct models m = models_new();
    make_all(&m);
    weft_value again[1] = { 0 }, other[1] = { 0 };
    CHECK_EQ(CALL(&m.b, "VAEFromConfig", again, IN_TEXT("config", VAE), IN_INT("seed", 3)), WEFT_OK);
    CHECK_EQ(CALL(&m.b, "VAEFromConfig", other, IN_TEXT("config", VAE), IN_INT("seed", 4)), WEFT_OK);
    weft_tree *a = ((weft_vae *)m.vae.object)->weights->tree, *b = ((weft_vae *)other->object)->weights->tree;
    same_trees(m.b.c, a, ((weft_vae *)again->object)->weights->tree, 0);
    const char *name;
    weft_tensor *x = weft_tree_plain(m.b.c, a, 0, &name), *y = weft_tree_plain(m.b.c, b, 0, &name);
    CHECK(weft_item(m.b.c, weft_reduce_all(m.b.c, WEFT_REDUCE_MAX, weft_subtract(m.b.c, x, y))) != 0);
    weft_value_clear(again);
    weft_value_clear(other);
    models_free(&m);
}

/* The two halves against the walk through VAEEncode and VAEDecode's own functions, and with a gradient. */
TEST(the_autoencoder_in_steps) {
    struct models m = models_new();
    make_all(&m);
    weft_ctx *c = m.b.c;
    weft_vae *v = (weft_vae *)m.vae.object;
    weft_scope s = weft_scope_named(c, "steps");
    weft_tensor *pixels = weft_full(c, WEFT_F32, WEFT_SHAPE(2, 8, 4, 3), 0.25);
    weft_value out[2] = { 0 }, back[1] = { 0 };
    CHECK_EQ(weft_tree_train(c, v->weights->tree, "encoder.conv_in.*", true), WEFT_OK);
    CHECK_EQ(weft_tape_begin(c), WEFT_OK);
    CHECK_EQ(CALL(&m.b, "VAEMoments", out, IN_OBJECT("vae", v), IN_TENSOR("pixels", pixels)), WEFT_OK);
    CHECK_EQ(CALL(&m.b, "VAEReconstruct", back, IN_OBJECT("vae", v), IN_TENSOR("latent", out[0].tensor)), WEFT_OK);
    CHECK_EQ(weft_backward(c, weft_reduce_all(c, WEFT_REDUCE_SUM, back->tensor), NULL), WEFT_OK);
    weft_tape_end(c);
    CHECK(weft_grad(weft_tree_trainable(v->weights->tree, 0, NULL)) != NULL);
    weft_vae_moments direct = weft_vae_encode(c, weft_root(v->weights->tree), &v->config, weft_affine(c, pixels, 2, -1));
    weft_tensor *d = weft_subtract(c, out[1].tensor, direct.logvar);
    CHECK_EQ(weft_item(c, weft_reduce_all(c, WEFT_REDUCE_MAX, weft_unary(c, WEFT_UNARY_ABS, d))), 0);
    CHECK(weft_dim(back->tensor, 1) == 8 && weft_dim(back->tensor, 2) == 4 && weft_dim(back->tensor, 3) == 3);
    weft_tree_zero_grad(v->weights->tree);
    for (int i = 0; i < 2; i++) weft_value_clear(&out[i]);
    weft_value_clear(back);
    weft_scope_end(c, s, NULL);
    models_free(&m);
}

TEST(refuses) {
    struct models m = models_new();
    make_all(&m);
    CALL_FAILS(&m.b, "block_out_channels", "UNetFromConfig", IN_TEXT("config", "{\"block_out_channels\": [0]}"), IN_TEXT("scheduler", ""));
    CALL_FAILS(&m.b, "scheduler", "UNetFromConfig", IN_TEXT("config", UNET), IN_TEXT("scheduler", "{\"num_train_timesteps\": -1}"));
    CALL_FAILS(&m.b, "the tokenizer has 516", "CLIPFromConfig", IN_TEXT("config", "{\"vocab_size\": 500}"), IN_TEXT("tokenizer", "small"));
    CALL_FAILS(&m.b, "the tokenizer's is 515", "CLIPFromConfig", IN_TEXT("config", "{\"vocab_size\": 600}"), IN_TEXT("tokenizer", "small"));
    CALL_FAILS(&m.b, "did you mean \"small\"", "CLIPFromConfig", IN_TEXT("config", TEXT), IN_TEXT("tokenizer", "smal"));
    CALL_FAILS(&m.b, "nothing to save", "DiffusersSave", IN_TEXT("folder", "x"));
    CALL_FAILS(&m.b, "leads out of the folder", "DiffusersSave", IN_OBJECT("vae", (weft_vae *)m.vae.object), IN_TEXT("folder", "../x"));
    CALL_FAILS(&m.b, "expected (N, height, width, 4)", "VAEReconstruct", IN_OBJECT("vae", (weft_vae *)m.vae.object),
               IN_TENSOR("latent", weft_full(m.b.c, WEFT_F32, WEFT_SHAPE(1, 2, 2, 3), 0)));
    models_free(&m);
}

TEST_MAIN
