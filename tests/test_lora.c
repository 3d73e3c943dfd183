/* LoRA nodes on the tiny Stable Diffusion 1: what the models answer against diffusers (make_lora.py), stacks, what is
 * shared, what is told. */
#include "nodes/lora/lora.h"
#include "runtime/autograd.h"
#include "tests/host_data.h"
#include "tests/lora_bed.h"

#define ANSWERS WEFT_SOURCE_DIR "/tests/golden/lora.safetensors"

enum { UNET_VALUES = 2 * 8 * 8 * 4, TEXT_VALUES = 5 * 128 };
struct answer { float unet[UNET_VALUES], text[TEXT_VALUES]; };

static bool ask_unet(struct bed *b, const weft_model *m, float *out) {
    weft_ctx *c = b->c;
    weft_tensor *sample = weft_to_nhwc(c, golden_input(c, "lora.sample", 6, WEFT_SHAPE(2, 4, 8, 8)));
    weft_unet_inputs in = { .sample = sample, .context = golden_input(c, "lora.context", 6, WEFT_SHAPE(2, 9, 128)),
                            .timesteps = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(2), (float[]){ 981, 20 }) };
    weft_tensor *y = weft_unet2d_condition(c, weft_root(m->weights->tree), &m->config, &in);
    return y && !weft_read(c, y, out, UNET_VALUES * sizeof *out);
}

static bool ask_text(struct bed *b, const weft_clip *k, float *out) {
    static const int tokens[] = { 0, 1, 2, 7, 76 };
    static float all[77 * 128];
    weft_ctx *c = b->c;
    int32_t ids[77];
    for (int i = 0; i < 77; i++) ids[i] = i == 0 ? 49406 : i < 13 ? 320 + 37 * i : 49407;
    weft_clip_text_inputs text = { .ids = weft_tensor_from(c, WEFT_I32, WEFT_SHAPE(1, 77), ids), .type = WEFT_F32,
                                   .layer = -1, .final_norm = true };
    weft_clip_text_outputs states;
    if (weft_clip_text(c, weft_root(k->weights->tree), &k->config, &text, &states) ||
        weft_read(c, states.hidden, all, sizeof all)) return false;
    for (int i = 0; i < 5; i++) memcpy(out + 128 * i, all + 128 * tokens[i], 128 * sizeof *out);
    return true;
}

static bool ask(struct bed *b, const weft_value *model, const weft_value *clip, struct answer *a) {
    weft_scope s = weft_scope_named(b->c, "ask");
    bool ok = ask_unet(b, MODEL_OF(*model), a->unet) && ask_text(b, CLIP_OF(*clip), a->text);
    weft_scope_end(b->c, s, NULL);
    if (!ok) TEST_FAIL("%s", weft_message(b->c));
    return ok;
}

/* LoraLoader over what `at` holds, in its place. */
static bool add(struct bed *b, weft_value at[2], const char *name, double model, double clip) {
    weft_value out[2] = { 0 };
    bool ok = CALL(b, "LoraLoader", out, IN_OBJECT("model", MODEL_OF(at[0])), IN_OBJECT("clip", CLIP_OF(at[1])),
                   IN_TEXT("lora_name", name), IN_FLOAT("strength_model", model), IN_FLOAT("strength_clip", clip)) ==
              WEFT_OK;
    if (!ok) TEST_FAIL("%s", weft_message(b->c));
    for (int i = 0; i < 2 && ok; i++) {
        weft_value_clear(&at[i]);
        at[i] = out[i];
    }
    return ok;
}

static void check_answer(const char *name, const struct answer *got, double tolerance) {
    weft_ctx *c = weft_ctx_new(NULL);
    weft_safetensors *golden = weft_st_open(c, ANSWERS);
    const struct { const char *part; const float *values; int64_t n; } parts[] = {
        { "unet", got->unet, UNET_VALUES }, { "text", got->text, TEXT_VALUES } };
    for (int i = 0; i < 2; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s.%s", name, parts[i].part);
        const weft_st_entry *e = golden ? weft_st_find(golden, key) : NULL;
        if (!e || e->bytes != (size_t)parts[i].n * sizeof(float)) {
            TEST_FAIL("%s is not in the golden file", key);
            continue;
        }
        const float *want = e->data;
        struct test_distance d = test_compare_f32(parts[i].values, want, parts[i].n);
        if (!(d.rms <= tolerance && d.max <= 20 * tolerance))
            TEST_FAIL("%s: rms %.3g, largest %.3g; allowed %.3g", key, d.rms, d.max, tolerance);
    }
    weft_st_close(golden);
    weft_ctx_free(c);
}

static const struct { const char *name; double a, b; } cases[] = {
    { "plain", 0, 0 }, { "a1", 1, 0 }, { "a0.5", 0.5, 0 }, { "a-0.7", -0.7, 0 }, { "b1", 0, 1 }, { "ab", 0.8, 0.6 },
};

/* f32: the models' own tolerance against float64 (test_unet.c, test_clip_text.c). f16: the weights of the checkpoint are
 * f16 numbers, but W′ is rounded to f16, 2⁻¹² of it rms, as ComfyUI rounds it; through a model that came to 5e-4. */
static const struct { const char *device; weft_dtype type; double tolerance; } kinds[] = {
    { "cpu", WEFT_F32, 2e-5 }, { "cpu", WEFT_F16, 2e-3 },
};

TEST(answers_are_those_of_diffusers) {
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const char *folder;
        struct bed b = lora_bed(kinds[k].device, kinds[k].type, &folder);
        static struct answer before, got;
        weft_value base[3] = { 0 };
        REQUIRE(load_tiny(&b, base) && ask(&b, &base[0], &base[1], &before));
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            weft_value at[2] = { 0 };
            for (int j = 0; j < 2; j++) weft_value_copy(&at[j], &base[j]);
            if (cases[i].a != 0) CHECK(add(&b, at, "a.safetensors", cases[i].a, cases[i].a));
            if (cases[i].b != 0) CHECK(add(&b, at, "b.safetensors", cases[i].b, cases[i].b));
            if (ask(&b, &at[0], &at[1], &got)) check_answer(cases[i].name, &got, kinds[k].tolerance);
            for (int j = 0; j < 2; j++) weft_value_clear(&at[j]);
        }
        /* The models themselves are what they were. */
        CHECK(ask(&b, &base[0], &base[1], &got) && !memcmp(&got, &before, sizeof got));
        for (int j = 0; j < 3; j++) weft_value_clear(&base[j]);
        bed_free(&b);
        drop_folder(folder);
    }
}

/* Of a stack there is one W′, and none of what it goes over; all else is the model's own. */
TEST(memory_is_what_is_changed) {
    const char *folder;
    struct bed b = lora_bed("cpu", WEFT_F32, &folder);
    static struct answer got;
    weft_value base[3] = { 0 }, at[2] = { 0 }, once[2] = { 0 };
    REQUIRE(load_tiny(&b, base) && ask(&b, &base[0], &base[1], &got));
    for (int j = 0; j < 2; j++) weft_value_copy(&at[j], &base[j]);
    size_t plain = weft_memory_live(b.c);
    CHECK(add(&b, at, "a.safetensors", 1, 1));
    CHECK(weft_memory_live(b.c) == plain);              /* nothing is made before it is used */
    for (int j = 0; j < 2; j++) weft_value_copy(&once[j], &at[j]);
    CHECK(ask(&b, &once[0], &once[1], &got));
    size_t one = weft_memory_live(b.c) - plain;
    for (int j = 0; j < 2; j++) weft_value_clear(&once[j]);
    CHECK(one > 0 && one < plain / 2);
    CHECK(add(&b, at, "a.safetensors", 1, 1) && add(&b, at, "a.safetensors", -1.5, 1));
    CHECK(weft_memory_live(b.c) == plain);              /* the first went with its objects */
    CHECK(ask(&b, &at[0], &at[1], &got));
    CHECK_EQ(weft_memory_live(b.c) - plain, one);
    weft_params over = weft_root(MODEL_OF(at[0])->weights->tree), root = weft_root(MODEL_OF(base[0])->weights->tree);
    static const char *const names[] = { "up_blocks.0.resnets.0.conv1.weight", "conv_in.weight" };
    for (int i = 0; i < 2; i++) {
        weft_tensor *mine = weft_param(b.c, over, names[i], (weft_init){ 0 }, 4,
                                       i ? (const int64_t[]){ 32, 4, 3, 3 } : (const int64_t[]){ 96, 192, 3, 3 });
        weft_tensor *theirs = weft_param(b.c, root, names[i], (weft_init){ 0 }, 4,
                                         i ? (const int64_t[]){ 32, 4, 3, 3 } : (const int64_t[]){ 96, 192, 3, 3 });
        CHECK(mine && theirs && (mine == theirs) == (i == 0));
    }
    for (int j = 0; j < 2; j++) weft_value_clear(&at[j]);
    CHECK(weft_memory_live(b.c) == plain);
    for (int j = 0; j < 3; j++) weft_value_clear(&base[j]);
    bed_free(&b);
    drop_folder(folder);
}

static char warned[1024];
static void on_warning(void *user, const char *text) {
    (void)user;
    snprintf(warned, sizeof warned, "%s", text);
}

TEST(strengths_and_parts) {
    const char *folder;
    struct bed b = lora_bed("cpu", WEFT_F32, &folder);
    weft_value base[3] = { 0 }, out[2] = { 0 };
    REQUIRE(load_tiny(&b, base));
    weft_set_warn(b.c, on_warning, NULL);
    /* 0: the inputs as they are, and the file is not even looked at */
    CHECK(!CALL(&b, "LoraLoader", out, IN_OBJECT("model", MODEL_OF(base[0])), IN_OBJECT("clip", CLIP_OF(base[1])),
                IN_TEXT("lora_name", "a.safetensors"), IN_FLOAT("strength_model", 0), IN_FLOAT("strength_clip", 0)));
    CHECK(out[0].object == base[0].object && out[1].object == base[1].object);
    for (int j = 0; j < 2; j++) weft_value_clear(&out[j]);
    CHECK(!CALL(&b, "LoraLoader", out, IN_OBJECT("model", MODEL_OF(base[0])), IN_OBJECT("clip", CLIP_OF(base[1])),
                IN_TEXT("lora_name", "a.safetensors"), IN_FLOAT("strength_model", 2), IN_FLOAT("strength_clip", 0)));
    CHECK(out[0].object != base[0].object && out[1].object == base[1].object);
    for (int j = 0; j < 2; j++) weft_value_clear(&out[j]);
    CHECK(!CALL(&b, "LoraLoaderModelOnly", out, IN_OBJECT("model", MODEL_OF(base[0])),
                IN_TEXT("lora_name", "b.safetensors"), IN_FLOAT("strength_model", -100)));
    CHECK(out[0].object != base[0].object);
    weft_value_clear(&out[0]);
    CHECK_STR(warned, "");
    CALL_FAILS(&b, "strength_model", "LoraLoaderModelOnly", IN_OBJECT("model", MODEL_OF(base[0])),
               IN_TEXT("lora_name", "b.safetensors"), IN_FLOAT("strength_model", 101));
    CALL_FAILS(&b, "c.safetensors", "LoraLoaderModelOnly", IN_OBJECT("model", MODEL_OF(base[0])),
               IN_TEXT("lora_name", "c.safetensors"), IN_FLOAT("strength_model", 1));
    for (int j = 0; j < 3; j++) weft_value_clear(&base[j]);
    bed_free(&b);
    drop_folder(folder);
}

/* ---- files that fit in part or not at all -------------------------------------------------------------------------- */

struct piece { const char *name; int rank; int64_t shape[4]; };

static void write_pieces(weft_ctx *c, const char *path, const struct piece *pieces, int n) {
    weft_st_item items[8];
    weft_scope s = weft_scope_named(c, "pieces");
    for (int i = 0; i < n; i++)
        items[i] = (weft_st_item){ pieces[i].name, weft_full(c, WEFT_F16, pieces[i].rank, pieces[i].shape, 0.5), WEFT_F16 };
    if (weft_st_write(c, path, items, n, NULL)) TEST_FAIL("%s", weft_message(c));
    weft_scope_end(c, s, NULL);
}

#define PAIR(layer, rank, in, out) { layer ".lora_down.weight", 2, { rank, in } }, { layer ".lora_up.weight", 2, { out, rank } }
#define TO_K "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"

TEST(what_does_not_fit_is_told) {
    static const struct { struct piece pieces[6]; int n; const char *error, *warning; } files[] = {
        { { PAIR(TO_K, 2, 128, 32), PAIR("lora_unet_output_blocks_9_9_proj_in", 2, 8, 8), PAIR("lora_te2_x", 2, 8, 8) }, 6,
          NULL, "x.safetensors: 2 of 3 layers match nothing in this model: lora_te2_x, "
                "lora_unet_output_blocks_9_9_proj_in; the file seems to be for Stable Diffusion XL" },
        { { PAIR(TO_K, 2, 768, 32) }, 2, "x.safetensors: unet.\"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
          ".weight\": (32, 2) f16 times (2, 768) f16 does not fit the weight (32, 128) f32; the file seems to be for "
          "Stable Diffusion 1", NULL },
        { { PAIR("lora_te2_text_model_encoder_layers_0_mlp_fc1", 2, 8, 8) }, 2, "x.safetensors: none of its layers is one "
          "of this model (lora_te2_text_model_encoder_layers_0_mlp_fc1); the file seems to be for Stable Diffusion XL",
          NULL },
        { { PAIR("transformer.single_transformer_blocks.0.attn.to_q", 2, 8, 8) }, 2, "the file seems to be for Flux", NULL },
        { { { "model.diffusion_model.out.2.bias", 1, { 4 } } }, 1, "is no LoRA: none of its tensors has a name of one",
          NULL },
        { { { "emb_params", 2, { 4, 128 } } }, 1, "it looks like an embedding (textual inversion)", NULL },
    };
    const char *folder;
    struct bed b = lora_bed("cpu", WEFT_F32, &folder);
    weft_value base[3] = { 0 };
    REQUIRE(load_tiny(&b, base));
    weft_set_warn(b.c, on_warning, NULL);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        weft_value out[1] = { 0 };
        write_pieces(b.c, in(folder, "models/loras/x.safetensors"), files[i].pieces, files[i].n);
        *warned = 0;
        CALL(&b, "LoraLoaderModelOnly", out, IN_OBJECT("model", MODEL_OF(base[0])),
             IN_TEXT("lora_name", "x.safetensors"), IN_FLOAT("strength_model", 1));
        CHECK_STR(warned, files[i].warning ? files[i].warning : "");
        if (files[i].error) CHECK_HAS(weft_message(b.c), files[i].error);
        else CHECK_STR(weft_message(b.c), "");
        weft_clear(b.c);
        weft_value_clear(&out[0]);
    }
    for (int j = 0; j < 3; j++) weft_value_clear(&base[j]);
    bed_free(&b);
    drop_folder(folder);
}

/* ---- a new one, trained ---------------------------------------------------------------------------------------------- */

/* One step down the gradient of the answers' mean square, as far as every value of B moves. */
static void train(struct bed *b, weft_tree *tree, const weft_model *m, const weft_clip *k) {
    weft_ctx *c = b->c;
    weft_scope s = weft_scope_named(c, "train");
    CHECK(!weft_tree_train(c, tree, NULL, true) && !weft_tape_begin(c));
    weft_tensor *y = NULL;
    if (m) {
        weft_unet_inputs in = {
            .sample = weft_to_nhwc(c, golden_input(c, "lora.sample", 6, WEFT_SHAPE(2, 4, 8, 8))),
            .context = golden_input(c, "lora.context", 6, WEFT_SHAPE(2, 9, 128)),
            .timesteps = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(2), (float[]){ 981, 20 }) };
        y = weft_unet2d_condition(c, weft_root(tree), &m->config, &in);
    } else {
        weft_clip_text_outputs out;
        weft_clip_text_inputs in = { .ids = weft_tensor_from(c, WEFT_I32, WEFT_SHAPE(1, 3), (int32_t[]){ 49406, 5, 49407 }),
                                     .type = WEFT_F32, .layer = -1 };
        if (!weft_clip_text(c, weft_root(tree), &k->config, &in, &out)) y = out.hidden;
    }
    CHECK(!weft_backward(c, weft_reduce_all(c, WEFT_REDUCE_MEAN, weft_unary(c, WEFT_UNARY_SQUARE, y)), NULL));
    weft_tape_end(c);
    CHECK_STR(weft_message(c), "");
    const char *name;
    weft_tensor *t;
    for (int64_t i = 0; (t = weft_tree_trainable(tree, i, &name)); i++) {
        if (!strstr(name, "lora_B")) continue;
        weft_tensor *g = weft_grad(t), *size = g ? weft_reduce_all(c, WEFT_REDUCE_MAX, weft_unary(c, WEFT_UNARY_ABS, g)) : NULL;
        double most = size ? weft_item(c, size) : 0;
        CHECK(most > 0);
        weft_tensor *step = most > 0 ? weft_affine(c, g, -0.2 / most, 0) : NULL;
        CHECK(step && !weft_write(c, t, host_data(step), (size_t)weft_count(t) * sizeof(float)));
    }
    CHECK(!weft_tree_train(c, tree, NULL, false));
    weft_scope_end(c, s, NULL);
}

static bool ask_again(struct bed *b, const weft_value *model, const weft_value *clip, const struct answer *want,
                      const char *how) {
    static struct answer got;
    if (!ask(b, model, clip, &got)) return false;
    /* Merged and not merged, in f32 */
    double unet = test_compare_f32(got.unet, want->unet, UNET_VALUES).max;
    double text = test_compare_f32(got.text, want->text, TEXT_VALUES).max;
    if (!(unet < 2e-4 && text < 2e-4)) TEST_FAIL("%s: off by %g (UNet), %g (text)", how, unet, text);
    return true;
}

TEST(a_new_one_is_trained_saved_and_loaded) {
    static const char *const styles[] = { "kohya", "diffusers" };
    const char *folder;
    struct bed b = lora_bed("cpu", WEFT_F32, &folder);
    static char output[128], diffusers[128];
    static struct answer plain, trained;
    weft_value base[3] = { 0 }, at[2] = { 0 };
    snprintf(output, sizeof output, "%s", in(folder, "models/loras"));
    REQUIRE(load_tiny(&b, base) && ask(&b, &base[0], &base[1], &plain));
    CALL_FAILS(&b, "no layer is called to_x", "LoraCreate", IN_OBJECT("model", MODEL_OF(base[0])),
               IN_TEXT("targets", "to_x"));
    CALL_FAILS(&b, "no layer is named", "LoraCreate", IN_OBJECT("model", MODEL_OF(base[0])), IN_TEXT("targets", " ,"));
    CHECK(!CALL(&b, "LoraCreate", &at[0], IN_OBJECT("model", MODEL_OF(base[0])), IN_INT("rank", 3), IN_FLOAT("alpha", 2),
                IN_TEXT("targets", "to_q, to_out.0 conv1 ff.net.0.proj")));
    CHECK(!CALL(&b, "LoraCreateText", &at[1], IN_OBJECT("clip", CLIP_OF(base[1])), IN_INT("rank", 3)));
    CHECK_STR(weft_message(b.c), "");
    REQUIRE(at[0].object && at[1].object && ask(&b, &at[0], &at[1], &trained));
    CHECK(test_compare_f32(trained.unet, plain.unet, UNET_VALUES).max < 1e-6);      /* changes nothing as yet */
    train(&b, MODEL_OF(at[0])->weights->tree, MODEL_OF(at[0]), NULL);
    train(&b, CLIP_OF(at[1])->weights->tree, NULL, CLIP_OF(at[1]));
    REQUIRE(ask(&b, &at[0], &at[1], &trained));
    CHECK(test_compare_f32(trained.unet, plain.unet, UNET_VALUES).rms > 0.01);
    CHECK(test_compare_f32(trained.text, plain.text, TEXT_VALUES).rms > 0.01);
    b.folders.output = output;
    for (int i = 0; i < 2; i++) {
        weft_value none[1] = { 0 }, loaded[2] = { 0 };
        char name[64];
        snprintf(name, sizeof name, "%s.safetensors", styles[i]);
        CHECK(!CALL(&b, "LoraSave", none, IN_OBJECT("model", MODEL_OF(at[0])), IN_OBJECT("clip", CLIP_OF(at[1])),
                    IN_TEXT("filename", name), IN_TEXT("style", styles[i]), IN_TEXT("dtype", "f32")));
        CHECK_STR(weft_message(b.c), "");
        for (int j = 0; j < 2; j++) weft_value_copy(&loaded[j], &base[j]);
        CHECK(add(&b, loaded, name, 1, 1) && ask_again(&b, &loaded[0], &loaded[1], &trained, styles[i]));
        for (int j = 0; j < 2; j++) weft_value_clear(&loaded[j]);
    }
    CALL_FAILS(&b, "neither model nor clip has adapters", "LoraSave", IN_OBJECT("model", MODEL_OF(base[0])));
    /* A model over which adapters and another LoRA lie, saved whole */
    weft_value none[1] = { 0 }, loaded[3] = { 0 };
    CHECK(add(&b, at, "a.safetensors", 0.5, 0.5) && ask(&b, &at[0], &at[1], &trained));
    snprintf(diffusers, sizeof diffusers, "%s", in(folder, "models/diffusers"));
    mkdir(diffusers, 0755);
    b.folders.output = diffusers;
    CHECK(!CALL(&b, "DiffusersSave", none, IN_OBJECT("model", MODEL_OF(at[0])), IN_OBJECT("clip", CLIP_OF(at[1])),
                IN_OBJECT("vae", (weft_vae *)base[2].object), IN_TEXT("folder", "whole"), IN_TEXT("dtype", "f32")));
    CHECK_STR(weft_message(b.c), "");
    CHECK(!CALL(&b, "DiffusersLoader", loaded, IN_TEXT("model_path", "whole")));
    CHECK_STR(weft_message(b.c), "");
    CHECK(loaded[0].object && ask_again(&b, &loaded[0], &loaded[1], &trained, "whole"));
    for (int j = 0; j < 3; j++) weft_value_clear(&loaded[j]);
    for (int j = 0; j < 2; j++) weft_value_clear(&at[j]);
    for (int j = 0; j < 3; j++) weft_value_clear(&base[j]);
    bed_free(&b);
    drop_folder(folder);
}

TEST_MAIN
