/* LoRA files: names in all styles, layers by the formula written out, what is refused, and writing: what is written is
 * what diffusers wrote and reads. */
#include "nodes/lora/lora.h"
#include "tests/failing_malloc.h"
#include "tests/lora_bed.h"

/* ---- names --------------------------------------------------------------------------------------------------------- */

static bool is_layer(const char *name, char place[256]) {
    size_t n = strlen(name);
    if (n < 7 || strcmp(name + n - 7, ".weight")) return false;
    snprintf(place, 256, "%.*s", (int)(n - 7), name);
    return true;
}

static void check_back(const char *name, const char *place, weft_lora_part part, weft_lora_role role) {
    char flat[WEFT_LORA_NAME], want[WEFT_LORA_NAME];
    weft_lora_key key = weft_lora_key_read(name);
    CHECK(weft_lora_flat(place, want));
    if (key.part != part || key.role != role || !weft_lora_key_place(name, &key, flat) || strcmp(flat, want))
        TEST_FAIL("%s: part %d, role %d, place %s; expected %d, %d, %s", name, (int)key.part, (int)key.role, flat,
                  (int)part, (int)role, want);
}

/* Every layer of the full models, through the names that are written and back. */
TEST(names_go_there_and_back) {
    static const char *const families[] = { "sd1", "sd2" };
    weft_ctx *c = weft_ctx_new(NULL);
    weft_safetensors *golden = weft_st_open(c, GOLDEN);
    REQUIRE(golden);
    for (int i = 0; i < 4; i++) {
        struct rows rows = { 0 };
        weft_lora_part part = i & 1 ? WEFT_LORA_TEXT : WEFT_LORA_UNET;
        add_rows(&rows, golden, families[i / 2], i & 1 ? TEXT : UNET, 3);
        CHECK(rows.count > 10 || i == 2);
        for (int k = 0; k < rows.count; k++) {
            char place[256], name[300];
            if (!is_layer(rows.at[k].name, place)) continue;
            for (int role = 0; role < WEFT_LORA_ROLES; role++)
                for (int style = 0; style < 2; style++)
                    if (weft_lora_name((weft_lora_style)style, part, place, (weft_lora_role)role, name, sizeof name))
                        check_back(name, place, part, (weft_lora_role)role);
                    else CHECK(style == WEFT_LORA_DIFFUSERS && role > WEFT_LORA_UP);
        }
        free(rows.at);
    }
    weft_st_close(golden);
    weft_ctx_free(c);
}

/* LDM's names, against those that the checkpoint's golden script made. */
TEST(names_of_ldm) {
    weft_ctx *c = weft_ctx_new(NULL);
    weft_safetensors *golden = weft_st_open(c, GOLDEN);
    struct rows rows = { 0 };
    int layers = 0;
    REQUIRE(golden);
    add_rows(&rows, golden, "sd1", UNET, 3);
    for (int k = 0; k < rows.count; k++) {
        char place[256], ldm[256], got[WEFT_LORA_NAME] = "";
        if (!is_layer(rows.at[k].name, place) || !is_layer(rows.at[k].ldm, ldm)) continue;
        bool found = weft_lora_ldm_place(&weft_unet_sd15, place, got);
        if (!found || strcmp(got, ldm + strlen("model.diffusion_model.")))
            TEST_FAIL("%s: \"%s\", expected \"%s\"", place, got, ldm);
        layers++;
    }
    CHECK(layers > 300);
    char out[WEFT_LORA_NAME];
    static const char *const none[] = { "", "down_blocks.4.resnets.0.conv1", "down_blocks.0.resnets.0.conv3", "x",
                                        "up_blocks.-1.resnets.0.conv1", "mid_block", "down_blocks.0", "up_blocks.9.x" };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) CHECK(!weft_lora_ldm_place(&weft_unet_sd15, none[i], out));
    free(rows.at);
    weft_st_close(golden);
    weft_ctx_free(c);
}

#define ATTN "down_blocks_0_attentions_0_transformer_blocks_0_attn1_"
#define DOTTED "down_blocks.0.attentions.0.transformer_blocks.0.attn1."
TEST(names_of_others) {
    static const struct { const char *name, *flat; weft_lora_part part; weft_lora_role role; } names[] = {
        { "unet." DOTTED "to_q.lora_A.weight", ATTN "to_q", WEFT_LORA_UNET, WEFT_LORA_DOWN },
        { "unet." DOTTED "to_out.0.lora_B.default.weight", ATTN "to_out_0", WEFT_LORA_UNET, WEFT_LORA_UP },
        { "unet." DOTTED "to_q.lora.down.weight", ATTN "to_q", WEFT_LORA_UNET, WEFT_LORA_DOWN },
        { "unet." DOTTED "processor.to_out_lora.up.weight", ATTN "to_out_0", WEFT_LORA_UNET, WEFT_LORA_UP },
        { DOTTED "processor.to_k_lora.down.weight", ATTN "to_k", WEFT_LORA_UNET, WEFT_LORA_DOWN },
        { "base_model.model." DOTTED "to_v.lora_A.weight", ATTN "to_v", WEFT_LORA_UNET, WEFT_LORA_DOWN },
        { "unet.base_model.model." DOTTED "to_v.lora_A.weight", ATTN "to_v", WEFT_LORA_UNET, WEFT_LORA_DOWN },
        { "diffusion_model.input_blocks.1.1.proj_in.lora_up.weight", "input_blocks_1_1_proj_in", WEFT_LORA_UNET,
          WEFT_LORA_UP },
        { "lycoris_" ATTN "to_q.diff_b", ATTN "to_q", WEFT_LORA_UNET, WEFT_LORA_BIAS_DIFF },
        { "lora_unet_down_blocks_0_resnets_0_norm1.w_norm", "down_blocks_0_resnets_0_norm1", WEFT_LORA_UNET,
          WEFT_LORA_DIFF },
        { "lora_te1_text_model_encoder_layers_3_mlp_fc1.alpha", "encoder_layers_3_mlp_fc1", WEFT_LORA_TEXT,
          WEFT_LORA_ALPHA },
        { "text_encoder.text_model.encoder.layers.3.self_attn.q_proj.lora_linear_layer.down.weight",
          "encoder_layers_3_self_attn_q_proj", WEFT_LORA_TEXT, WEFT_LORA_DOWN },
        { "text_encoder.encoder.layers.3.self_attn.out_proj.lora_B.weight", "encoder_layers_3_self_attn_out_proj",
          WEFT_LORA_TEXT, WEFT_LORA_UP },
        { "text_encoder.text_model.encoder.layers.3.self_attn.to_out_lora.up.weight",
          "encoder_layers_3_self_attn_out_proj", WEFT_LORA_TEXT, WEFT_LORA_UP },
        { "text_encoder_2.text_model.encoder.layers.3.mlp.fc1.lora_A.weight", "text_model_encoder_layers_3_mlp_fc1",
          WEFT_LORA_FOREIGN, WEFT_LORA_DOWN },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_back(names[i].name, names[i].flat, names[i].part, names[i].role);
    static const struct { const char *name, *kind; } refused[] = {
        { "lora_unet_x.hada_w1_a", "LoHa" }, { "lora_unet_x.lokr_w2", "LoKr" }, { "lora_unet_x.dora_scale", "DoRA" },
        { "unet.x.lora_magnitude_vector.weight", "DoRA" }, { "lora_unet_x.oft_blocks", "OFT" },
        { "unet.x.lora_B.bias", "LoRA with biases" },
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        weft_lora_key key = weft_lora_key_read(refused[i].name);
        CHECK_EQ(key.role, WEFT_LORA_REFUSED);
        CHECK_STR(key.refused, refused[i].kind);
    }
    static const char *const unknown[] = { "", "weight", ".alpha", "alpha", "model.x.weight", "lora_unet_.alpha" };
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        CHECK_EQ(weft_lora_key_read(unknown[i]).role, WEFT_LORA_UNKNOWN);
    char longest[700], place[WEFT_LORA_NAME];
    memset(longest, 'x', sizeof longest);
    strcpy(longest + 600, ".alpha");
    weft_lora_key key = weft_lora_key_read(longest);
    CHECK(key.role == WEFT_LORA_ALPHA && !weft_lora_key_place(longest, &key, place) && !weft_lora_flat(longest, place));
}

/* ---- the formula ----------------------------------------------------------------------------------------------------- */

/* A file of tensors by name. */
struct file { weft_ctx *c; weft_st_item items[16]; int n; };

static float *values_of(weft_ctx *c, weft_tensor *t) {
    weft_scope s = weft_scope_named(c, "values");
    float *values = malloc(sizeof *values * (size_t)(weft_count(t) + 1));
    weft_tensor *f = weft_cast(c, t, WEFT_F32);
    if (!f || weft_read(c, f, values, sizeof *values * (size_t)weft_count(t))) TEST_FAIL("%s", weft_message(c));
    weft_scope_end(c, s, NULL);
    return values;
}

/* Random-looking numbers of about 1. */
static weft_tensor *add(struct file *f, const char *name, weft_dtype type, int rank, const int64_t *shape) {
    weft_tensor *t = weft_cast(f->c, golden_input(f->c, name, 7, rank, shape), type);
    f->items[f->n++] = (weft_st_item){ name, t, type };
    return t;
}
#define ADD(f, name, ...) add(f, name, WEFT_F16, WEFT_SHAPE(__VA_ARGS__))

static void add_alpha(struct file *f, const char *name, double alpha) {
    f->items[f->n++] = (weft_st_item){ name, weft_scalar(f->c, WEFT_F32, alpha), WEFT_F32 };
}

static weft_lora *write_open(struct file *f, const char *path, const char *const *metadata) {
    if (weft_st_write(f->c, path, f->items, f->n, metadata)) TEST_FAIL("%s", weft_message(f->c));
    return weft_lora_open(f->c, path);
}

static weft_tree *small_tree(weft_ctx *c) {
    weft_tree *t = weft_tree_new(c, "unet");
    static const struct { const char *name; int rank; int64_t shape[4]; } weights[] = {
        { "conv_in.weight", 4, { 4, 3, 3, 3 } }, { "conv_in.bias", 1, { 4 } }, { "mid_block.to_out.0.weight", 2, { 4, 5 } },
        { "conv_norm_out.weight", 1, { 6 } }, { "conv_norm_out.bias", 1, { 6 } }, { "conv_out.weight", 4, { 4, 3, 3, 3 } },
    };
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (weft_tree_add(c, t, weights[i].name,
                          golden_input(c, weights[i].name, 7, weights[i].rank, weights[i].shape))) break;
    return t;
}

/* The changed weight minus the plain one, against `want`; up to 4·3·3·3 values. f32 sums of values of about 1. */
static void check_change(weft_ctx *c, weft_tree *base, weft_tree *over, const char *name, int rank,
                         const int64_t *shape, const double *want) {
    weft_tensor *w = weft_param(c, weft_root(over), name, (weft_init){ 0 }, rank, shape);
    weft_tensor *plain = weft_param(c, weft_root(base), name, (weft_init){ 0 }, rank, shape);
    if (!w || !plain) {
        TEST_FAIL("%s: %s", name, weft_message(c));
        return;
    }
    float *got = values_of(c, w), *from = values_of(c, plain);
    for (int64_t i = 0; i < weft_count(w); i++)
        if (fabs((double)got[i] - from[i] - want[i]) > 2e-6)
            TEST_FAIL("%s[%d]: changed by %.9g, expected %.9g", name, (int)i, (double)(got[i] - from[i]), want[i]);
    free(got);
    free(from);
}

TEST(layers_by_the_formula) {
    const char *folder = new_folder(), *path = in(folder, "x.safetensors");
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    weft_scope s = weft_scope_named(c, "test");
    weft_tree *base = small_tree(c), *over = weft_tree_overlay(c, base);
    struct file f = { .c = c };
    enum { R = 2, J = 3 };
    float *down = values_of(c, ADD(&f, "lora_unet_conv_in.lora_down.weight", R, 3, 3, 3));
    float *up = values_of(c, ADD(&f, "lora_unet_conv_in.lora_up.weight", 4, R, 1, 1));
    add_alpha(&f, "lora_unet_conv_in.alpha", 1);
    float *tucker_down = values_of(c, ADD(&f, "lora_unet_conv_out.lora_down.weight", J, 3, 1, 1));
    float *mid = values_of(c, ADD(&f, "lora_unet_conv_out.lora_mid.weight", R, J, 3, 3));
    float *tucker_up = values_of(c, ADD(&f, "lora_unet_conv_out.lora_up.weight", 4, R, 1, 1));
    float *norm = values_of(c, ADD(&f, "lora_unet_conv_norm_out.w_norm", 6));
    float *norm_bias = values_of(c, ADD(&f, "lora_unet_conv_norm_out.b_norm", 6));
    float *diff = values_of(c, ADD(&f, "unet.mid_block.to_out.0.diff", 4, 5));
    float *bias = values_of(c, ADD(&f, "unet.conv_in.diff_b", 4));
    weft_lora *lora = write_open(&f, path, NULL);
    REQUIRE(lora);
    CHECK(!weft_lora_apply(c, lora, WEFT_LORA_UNET, base, NULL, over, 0.7));
    weft_lora_report(c, lora, 1u << WEFT_LORA_UNET);
    weft_lora_close(lora);                      /* what was applied stays */
    CHECK(weft_ok(c));
    double want[108], tucker[108], small[20];
    for (int o = 0; o < 4; o++)
        for (int i = 0; i < 3; i++)
            for (int k = 0; k < 9; k++) {
                double *a = &want[(o * 3 + i) * 9 + k], *b = &tucker[(o * 3 + i) * 9 + k];
                *a = *b = 0;
                for (int r = 0; r < R; r++) {
                    *a += 0.7 * (1.0 / R) * up[o * R + r] * down[(r * 3 + i) * 9 + k];
                    /* without an alpha: the scale is 1 */
                    for (int j = 0; j < J; j++)
                        *b += 0.7 * tucker_up[o * R + r] * mid[(r * J + j) * 9 + k] * tucker_down[j * 3 + i];
                }
            }
    check_change(c, base, over, "conv_in.weight", WEFT_SHAPE(4, 3, 3, 3), want);
    check_change(c, base, over, "conv_out.weight", WEFT_SHAPE(4, 3, 3, 3), tucker);
    for (int i = 0; i < 6; i++) small[i] = 0.7 * norm[i];
    check_change(c, base, over, "conv_norm_out.weight", WEFT_SHAPE(6), small);
    for (int i = 0; i < 6; i++) small[i] = 0.7 * norm_bias[i];
    check_change(c, base, over, "conv_norm_out.bias", WEFT_SHAPE(6), small);
    for (int i = 0; i < 20; i++) small[i] = 0.7 * diff[i];
    check_change(c, base, over, "mid_block.to_out.0.weight", WEFT_SHAPE(4, 5), small);
    for (int i = 0; i < 4; i++) small[i] = 0.7 * bias[i];
    check_change(c, base, over, "conv_in.bias", WEFT_SHAPE(4), small);
    float *all[] = { down, up, tucker_down, mid, tucker_up, norm, norm_bias, diff, bias };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    weft_scope_end(c, s, NULL);
    weft_tree_free(over);
    weft_tree_free(base);
    CHECK_EQ(weft_memory_live(c), 0);
    weft_ctx_free(c);
    drop_folder(folder);
}

/* diffusers says the alpha in the metadata of its files: PEFT's LoraConfig. */
TEST(alpha_of_metadata) {
    static const struct { const char *json; double scale; } cases[] = {
        { "{\"unet.r\": 2, \"unet.lora_alpha\": 6}", 3 }, { "{\"text_encoder.lora_alpha\": 6}", 1 },
        { "{\"unet.lora_alpha\": 6, \"unet.use_rslora\": true}", 4.242640687 },
        { "{\"unet.lora_alpha\": 6, \"unet.alpha_pattern\": {\"out.0\": 9, \"to_out.0\": 4}}", 2 },
        { "{\"unet.lora_alpha\": 6, \"unet.alpha_pattern\": {\"^to_out.0\": 4}}", 3 },
        { "{\"unet.lora_alpha\": 6, \"unet.alpha_pattern\": {\"^mid_block.to_out.0\": 5}}", 2.5 },
        { "{}", 1 }, { "[1]", 1 },
    };
    const char *folder = new_folder(), *path = in(folder, "x.safetensors");
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weft_scope s = weft_scope_named(c, "test");
        weft_tree *base = small_tree(c), *over = weft_tree_overlay(c, base);
        struct file f = { .c = c };
        ADD(&f, "unet.mid_block.to_out.0.lora_A.weight", 2, 5);
        ADD(&f, "unet.mid_block.to_out.0.lora_B.weight", 4, 2);
        weft_lora *lora = write_open(&f, path, (const char *[]){ "lora_adapter_metadata", cases[i].json, NULL });
        CHECK(lora && !weft_lora_adapt(c, lora, WEFT_LORA_UNET, base, NULL, over));
        weft_adapter a = { 0 };
        CHECK(weft_tree_adapter(over, 0, &a) && !weft_tree_adapter(over, 1, &a));
        CHECK_NEAR(a.scale, cases[i].scale, 1e-8);
        weft_lora_close(lora);
        weft_scope_end(c, s, NULL);
        weft_tree_free(over);
        weft_tree_free(base);
    }
    weft_ctx_free(c);
    drop_folder(folder);
}

/* ---- what is refused --------------------------------------------------------------------------------------------------- */

TEST(bad_files) {
    static const struct { const char *name[3]; int rank; int64_t shape[4]; weft_dtype type; const char *message; } bad[] = {
        { { "lora_unet_conv_in.lora_down.weight" }, 2, { 2, 3 }, WEFT_F32, "there is no up that goes with this down" },
        { { "lora_unet_conv_in.lora_up.weight" }, 2, { 2, 3 }, WEFT_F32, "there is no down that goes with this up" },
        { { "lora_unet_conv_in.lora_mid.weight" }, 4, { 2, 3, 1, 1 }, WEFT_F32, "there is no down that goes with this mid" },
        { { "lora_unet_conv_in.lora_down.weight" }, 3, { 2, 3, 1 }, WEFT_F32, "has neither 2 nor 4 dimensions" },
        { { "lora_unet_conv_in.lora_mid.weight" }, 3, { 2, 3, 1 }, WEFT_F32, "has not 4 dimensions" },
        { { "lora_unet_conv_in.lora_down.weight" }, 2, { 0, 3 }, WEFT_F32, "is empty" },
        { { "lora_unet_conv_in.lora_down.weight" }, 2, { 2, 3 }, WEFT_I32, "is of type i32, expected f32, f16 or bf16" },
        { { "unet.x.lora_A.weight", "unet.x.lora_A.default.weight", "unet.x.lora_B.weight" }, 2, { 2, 2 }, WEFT_F32,
          "stands there under a second name too" },
        { { "lora_unet_conv_in.hada_w1_a" }, 2, { 2, 3 }, WEFT_F32, "is a LoHa (lora_unet_conv_in.hada_w1_a), which Weft" },
        { { "x" }, 2, { 2, 3 }, WEFT_F32, "is no LoRA: none of its tensors has a name of one" },
    };
    const char *folder = new_folder(), *path = in(folder, "x.safetensors");
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weft_scope s = weft_scope_named(c, "test");
        struct file f = { .c = c };
        for (int k = 0; k < 3 && bad[i].name[k]; k++) add(&f, bad[i].name[k], bad[i].type, bad[i].rank, bad[i].shape);
        CHECK(!write_open(&f, path, NULL));
        CHECK_HAS(weft_message(c), path);
        CHECK_HAS(weft_message(c), bad[i].message);
        weft_clear(c);
        weft_scope_end(c, s, NULL);
    }
    weft_scope s = weft_scope_named(c, "test");
    weft_tree *base = small_tree(c), *over = weft_tree_overlay(c, base);
    for (int i = 0; i < 4; i++) {       /* faults that show only when it is applied */
        static const char *const messages[] = { "lora_unet_conv_in.alpha: is no number", "is not one element",
            "lora_unet_conv_in.lora_mid.weight: (2, 7, 3, 3) f16 does not go with a down of (2, 3, 3, 3) f16",
            "(4, 3, 1, 1) f16 times (2, 3, 3, 3) f16 does not fit the weight (4, 3, 3, 3) f32" };
        struct file f = { .c = c };
        ADD(&f, "lora_unet_conv_in.lora_down.weight", 2, 3, 3, 3);
        ADD(&f, "lora_unet_conv_in.lora_up.weight", 4, i == 3 ? 3 : 2, 1, 1);
        if (i == 0) add_alpha(&f, "lora_unet_conv_in.alpha", NAN);
        if (i == 1) ADD(&f, "lora_unet_conv_in.alpha", 2);
        if (i == 2) ADD(&f, "lora_unet_conv_in.lora_mid.weight", 2, 7, 3, 3);
        weft_lora *lora = write_open(&f, path, NULL);
        CHECK(lora && weft_lora_apply(c, lora, WEFT_LORA_UNET, base, NULL, over, 1) != WEFT_OK);
        CHECK_HAS(weft_message(c), messages[i]);
        CHECK_HAS(weft_message(c), "x.safetensors: ");
        weft_clear(c);
        weft_lora_close(lora);
    }
    put_text(folder, "x.ckpt", "PK\3\4 and so on");
    CHECK(!weft_lora_open(c, in(folder, "x.ckpt")));
    CHECK_HAS(weft_message(c), "is a pickle of PyTorch");
    weft_clear(c);
    struct file f = { .c = c };
    ADD(&f, "unet.mid_block.to_out.0.lora_A.weight", 2, 5);
    CHECK(!write_open(&f, path, (const char *[]){ "lora_adapter_metadata", "{\"a\": ", NULL }));
    CHECK(!weft_ok(c));
    weft_clear(c);
    weft_scope_end(c, s, NULL);
    weft_tree_free(over);
    weft_tree_free(base);
    weft_ctx_free(c);
    drop_folder(folder);
}

/* ---- writing --------------------------------------------------------------------------------------------------------------- */

/* Whether two files have the same names, shapes and bytes (alphas: values). */
static void check_same(weft_ctx *c, const char *path, const char *want_path) {
    weft_safetensors *got = weft_st_open(c, path), *want = weft_st_open(c, want_path);
    REQUIRE(got && want);
    CHECK_EQ(weft_st_count(got), weft_st_count(want));
    for (int64_t i = 0; i < weft_st_count(want); i++) {
        const weft_st_entry *w = weft_st_at(want, i), *g = weft_st_find(got, w->name);
        if (!g || g->rank != w->rank || memcmp(g->shape, w->shape, sizeof *g->shape * (size_t)g->rank)) {
            TEST_FAIL("%s is missing or misshapen", w->name);
            continue;
        }
        weft_scope s = weft_scope_named(c, "compare");
        bool same = g->rank ? g->bytes == w->bytes && !memcmp(g->data, w->data, g->bytes)
                            : weft_item(c, weft_st_tensor(c, got, g)) == weft_item(c, weft_st_tensor(c, want, w));
        if (!same) TEST_FAIL("%s differs", w->name);
        weft_scope_end(c, s, NULL);
    }
    weft_st_close(got);
    weft_st_close(want);
}

static bool adapters(weft_ctx *c, const char *path, const weft_checkpoint *k, weft_tree *trees[2]) {
    weft_lora *lora = weft_lora_open(c, path);
    weft_tree *base[2] = { k->unet, k->text };
    for (int part = 0; part < 2; part++) {
        trees[part] = weft_tree_overlay(c, base[part]);
        if (!lora || weft_lora_adapt(c, lora, (weft_lora_part)part, base[part], &k->unet_config, trees[part])) break;
    }
    if (weft_ok(c)) weft_lora_report(c, lora, 3);
    weft_lora_close(lora);
    return weft_ok(c);
}

/* The golden files, which diffusers reads, as adapters and back. */
TEST(written_files_are_those_that_were_read) {
    static const struct { const char *golden; weft_lora_style style; } files[] = {
        { KOHYA, WEFT_LORA_KOHYA }, { DIFFUSERS, WEFT_LORA_DIFFUSERS } };
    const char *folder = new_folder(), *path = in(folder, "x.safetensors"), *tiny = in(folder, "tiny.safetensors");
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    REQUIRE(write_file(c, tiny, (struct file_options){ .family = "sd1", .type = WEFT_F32, .layout = LAYOUT_LDM,
                                                       .parts = WEFT_PART_UNET | WEFT_PART_TEXT }));
    weft_checkpoint *k = weft_checkpoint_open(c, tiny, WEFT_PART_UNET | WEFT_PART_TEXT, 0);
    REQUIRE(k);
    for (int i = 0; i < 2; i++) {
        weft_tree *trees[2] = { 0 }, *back[2] = { 0 };
        CHECK(adapters(c, files[i].golden, k, trees));
        CHECK(!weft_lora_write_trees(c, path, files[i].style, (const weft_tree *const *)trees, WEFT_F16, NULL));
        check_same(c, path, files[i].golden);
        /* In the other style: the same scale·up·down, wherever the scale is. */
        CHECK(!weft_lora_write_trees(c, path, (weft_lora_style)!files[i].style, (const weft_tree *const *)trees,
                                     WEFT_F32, NULL));
        CHECK(adapters(c, path, k, back));
        weft_adapter a, b;
        int64_t n = 0;
        for (int part = 0; part < 2; part++)
            for (int64_t j = 0; weft_tree_adapter(trees[part], j, &a); j++, n++) {
                int64_t at = 0;
                while (weft_tree_adapter(back[part], at, &b) && strcmp(a.place, b.place)) at++;
                REQUIRE(!strcmp(a.place, b.place));
                float *one = values_of(c, a.up), *other = values_of(c, b.up);
                for (int64_t e = 0; e < weft_count(a.up); e++)
                    if (fabs(one[e] * a.scale - other[e] * b.scale) > 1e-6) TEST_FAIL("%s differs", a.place);
                free(one);
                free(other);
            }
        CHECK(n > 20);
        for (int part = 0; part < 2; part++) {
            weft_tree_free(trees[part]);
            weft_tree_free(back[part]);
        }
    }
    weft_scope s = weft_scope_named(c, "test");
    weft_lora_layer bad = { WEFT_LORA_UNET, "conv_in", weft_full(c, WEFT_F32, WEFT_SHAPE(2, 3), 1),
                            weft_full(c, WEFT_F32, WEFT_SHAPE(3, 3), 1), 1 };
    CHECK(weft_lora_write(c, path, WEFT_LORA_KOHYA, &bad, 1, WEFT_F16, NULL) != WEFT_OK);
    CHECK_HAS(weft_message(c), "conv_in: (2, 3) f32 and (3, 3) f32 are no pair of a LoRA");
    weft_clear(c);
    weft_scope_end(c, s, NULL);
    weft_checkpoint_free(k);
    weft_ctx_free(c);
    drop_folder(folder);
}

#ifdef FAILING_MALLOC
TEST(without_memory) {
    const char *folder = new_folder(), *path = in(folder, "x.safetensors"), *out = in(folder, "y.safetensors");
    weft_ctx *c = weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1 });
    weft_scope s = weft_scope_named(c, "test");
    weft_tree *base = small_tree(c);
    struct file f = { .c = c };
    ADD(&f, "lora_unet_conv_in.lora_down.weight", 2, 3, 3, 3);
    ADD(&f, "lora_unet_conv_in.lora_up.weight", 4, 2, 1, 1);
    ADD(&f, "unet.mid_block.to_out.0.lora_A.weight", 2, 5);
    ADD(&f, "unet.mid_block.to_out.0.lora_B.weight", 4, 2);
    weft_lora_close(write_open(&f, path, (const char *[]){ "lora_adapter_metadata", "{\"unet.lora_alpha\": 6}", NULL }));
    REQUIRE(weft_ok(c));
    for (long n = 0; !test_failures; n++) {
        refused = false;
        countdown = n;
        weft_lora *lora = weft_lora_open(c, path);
        weft_tree *over = lora ? weft_tree_overlay(c, base) : NULL, *trees[2] = { over, NULL };
        bool ok = over && !weft_lora_apply(c, lora, WEFT_LORA_UNET, base, &weft_unet_sd15, over, 1) &&
                  !weft_lora_adapt(c, lora, WEFT_LORA_UNET, base, NULL, over);
        if (ok) weft_lora_report(c, lora, 1);
        ok = ok && weft_param(c, weft_root(over), "conv_in.weight", (weft_init){ 0 }, WEFT_SHAPE(4, 3, 3, 3)) &&
             !weft_lora_write_trees(c, out, WEFT_LORA_KOHYA, (const weft_tree *const *)trees, WEFT_F16, NULL);
        countdown = -1;
        if (!refused && !ok) TEST_FAIL("failed although no allocation did: %s", weft_message(c));
        if (!ok && weft_ok(c)) TEST_FAIL("failure %ld: no result and no error", n);
        weft_tree_free(over);
        weft_lora_close(lora);
        weft_clear(c);
        if (!refused) {
            CHECK(n > 30);
            break;
        }
    }
    weft_scope_end(c, s, NULL);
    weft_tree_free(base);
    CHECK_EQ(weft_memory_live(c), 0);
    weft_ctx_free(c);
    drop_folder(folder);
}
#endif

TEST_MAIN
