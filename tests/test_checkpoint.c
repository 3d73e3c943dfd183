/* Checkpoints from prompt to picture, in every way of storing them, against diffusers and transformers
 * (tests/golden/make_checkpoint.py). The weights are the same whatever the file, so the results must be. */
#include "nodes/checkpoint/checkpoint.h"
#include "tests/checkpoint_files.h"

/* Of the rms. The results are good to 6e-8 of a value; sums in another order than PyTorch's double, and products in
 * blocks, allow this over a few dozen layers (see test_unet.c). */
#define TEXT_TOLERANCE 2e-6
#define MODEL_TOLERANCE 4e-6

enum { PROMPTS = 3, WATCHED = 5 };
static const int watched[WATCHED] = { 0, 1, 2, 7, 76 };

static weft_ctx *context(void) {
    return weft_ctx_new(&(weft_options){ .threads = 1, .precision = WEFT_PRECISION_EXACT });
}

struct run { weft_ctx *c; weft_checkpoint *k; weft_safetensors *golden; const char *family; };

static const weft_st_entry *entry(const struct run *r, const char *format, int i) {
    char part[64], name[96];
    snprintf(part, sizeof part, format, i);
    snprintf(name, sizeof name, "%s.%s", r->family, part);
    const weft_st_entry *e = weft_st_find(r->golden, name);
    if (!e) e = weft_st_find(r->golden, part);
    return e;
}

/* t's values hold against the entry's. */
static void compare(const struct run *r, const char *what, weft_tensor *t, const weft_st_entry *e, double tolerance) {
    size_t n = e ? e->bytes / sizeof(float) : 0;
    if (!t || !e || weft_count(t) != (int64_t)n) {
        TEST_FAIL("%s: %s; %s", what, t ? "another size" : "no result", weft_message(r->c));
        return;
    }
    float *got = malloc(e->bytes);
    CHECK(weft_read(r->c, t, got, e->bytes) == WEFT_OK);
    struct test_distance d = test_compare_f32(got, e->data, (int64_t)n);
    if (!(d.rms <= tolerance && d.max <= 20 * tolerance))
        TEST_FAIL("%s: rms %.3g, largest %.3g; allowed %.3g", what, d.rms, d.max, tolerance);
    free(got);
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

/* What the tokenizer of the checkpoint gives, or where the build has no vocabulary, what transformers' gave. */
static weft_tensor *prompt_ids(const struct run *r) {
    const weft_st_entry *want = weft_st_find(r->golden, "ids");
    const int64_t *id = want->data;
    int32_t given[PROMPTS * 77];
    int32_t pad = !strcmp(r->family, "sd2") ? 0 : 49407;
    const char *prompts[PROMPTS];
    for (int i = 0; i < PROMPTS; i++) {
        char key[16];
        bool ended = false;
        snprintf(key, sizeof key, "prompt.%d", i);
        prompts[i] = weft_st_metadata(r->golden, key);
        for (int j = 77 * i; j < 77 * (i + 1); j++) {
            given[j] = ended ? pad : (int32_t)id[j];
            ended |= id[j] == 49407;
        }
    }
    if (r->k->tokenizer) {
        weft_tensor *ids = weft_tokenizer_texts(r->c, r->k->tokenizer, PROMPTS, prompts, 77, NULL);
        int32_t got[PROMPTS * 77];
        CHECK(ids && weft_read(r->c, ids, got, sizeof got) == WEFT_OK);
        CHECK(!memcmp(got, given, sizeof got));
    } else CHECK(!weft_tokenizer_has_builtin());
    return weft_tensor_from(r->c, WEFT_I32, WEFT_SHAPE(PROMPTS, 77), given);
}

/* The watched tokens of a state (PROMPTS, 77, width). */
static weft_tensor *some_tokens(weft_ctx *c, weft_tensor *state) {
    weft_tensor *part[WATCHED];
    for (int i = 0; i < WATCHED; i++) part[i] = weft_slice(c, state, 1, watched[i], 1);
    return weft_concat(c, 1, WATCHED, part);
}

static void look(void *user, int layer, weft_tensor *state) {
    const struct run *r = user;
    weft_scope s = weft_scope_named(r->c, "look");
    char what[32];
    snprintf(what, sizeof what, "text state %d", layer);
    compare(r, what, some_tokens(r->c, state), entry(r, "text.%d", layer), TEXT_TOLERANCE);
    weft_scope_end(r->c, s, NULL);
}

static weft_tensor *run_text(struct run *r) {
    weft_clip_text_outputs out = { NULL, NULL };
    weft_clip_text_inputs in = {
        .ids = prompt_ids(r), .type = WEFT_F32, .layer = -1, .final_norm = true, .observe = look, .observe_user = r,
    };
    CHECK(weft_clip_text(r->c, weft_root(r->k->text), &r->k->text_config, &in, &out) == WEFT_OK);
    compare(r, "text", some_tokens(r->c, out.hidden), entry(r, "text.final", 0), TEXT_TOLERANCE);
    return out.hidden;
}

/* ---- pictures --------------------------------------------------------------------------------------------------- */

static weft_tensor *given(const struct run *r, const char *part, const char *what, int i, int exponent, int rank,
                          const int64_t *shape) {
    char name[64];
    snprintf(name, sizeof name, "%s.%d.%s", part, i, what);
    return golden_input(r->c, name, exponent, rank, shape);
}

static void run_unet(struct run *r, weft_tensor *context) {
    char part[32];
    snprintf(part, sizeof part, "%s.unet", r->family);
    int i = 0;
    for (; entry(r, "unet.%d.out", i); i++) {
        const weft_st_entry *out = entry(r, "unet.%d.out", i), *times = entry(r, "unet.%d.timesteps", i);
        weft_scope s = weft_scope_named(r->c, "case");
        int64_t n = out->shape[0];
        weft_unet_inputs in = {
            .sample = weft_to_nhwc(r->c, given(r, part, "sample", i, 6,
                                               WEFT_SHAPE(n, 4, out->shape[1], out->shape[2]))),
            .timesteps = weft_tensor_from(r->c, WEFT_F32, 1, times->shape, times->data),
            .context = weft_contiguous(r->c, weft_slice(r->c, context, 0, 0, n)),
        };
        compare(r, "unet", weft_unet2d_condition(r->c, weft_root(r->k->unet), &r->k->unet_config, &in), out,
                MODEL_TOLERANCE);
        weft_scope_end(r->c, s, NULL);
    }
    CHECK(i > 0);
}

static void run_vae(struct run *r) {
    weft_ctx *c = r->c;
    weft_params root = weft_root(r->k->vae);
    for (int i = 0; i < 2; i++) {
        const weft_st_entry *mean = entry(r, "vae.%d.mean", i);
        weft_scope s = weft_scope_named(c, "case");
        int64_t n = mean->shape[0], h = mean->shape[1], w = mean->shape[2];
        weft_tensor *image = weft_to_nhwc(c, given(r, "vae", "image", i, 7, WEFT_SHAPE(n, 3, 8 * h, 8 * w)));
        weft_vae_moments m = weft_vae_encode(c, root, &r->k->vae_config, image);
        compare(r, "mean", m.mean, mean, MODEL_TOLERANCE);
        compare(r, "logvar", m.logvar, entry(r, "vae.%d.logvar", i), MODEL_TOLERANCE);
        weft_tensor *latent = weft_to_nhwc(c, given(r, "vae", "latent", i, 6, WEFT_SHAPE(n, 4, h, w)));
        compare(r, "decoded", weft_vae_decode(c, root, &r->k->vae_config, latent), entry(r, "vae.%d.decoded", i),
                MODEL_TOLERANCE);
        weft_scope_end(c, s, NULL);
    }
}

/* Opens what is at `path` and runs all that is wanted; ends with nothing held. */
static void run_all(weft_ctx *c, const char *path, const char *family, unsigned parts,
                    void (*see)(const weft_checkpoint *k)) {
    struct run r = { .c = c, .family = family, .golden = weft_st_open(c, GOLDEN) };
    r.k = weft_checkpoint_open(c, path, parts, 0);
    if (!r.k) TEST_FAIL("%s: %s", path, weft_message(c));
    else {
        weft_scope s = weft_scope_named(c, "run");
        CHECK_EQ(r.k->parts, parts);
        weft_tensor *text = parts & WEFT_PART_TEXT ? run_text(&r) : NULL;
        if (text && (parts & WEFT_PART_UNET)) run_unet(&r, text);
        if (parts & WEFT_PART_VAE) run_vae(&r);
        if (see) see(r.k);
        weft_scope_end(c, s, NULL);
    }
    CHECK_STR(weft_message(c), "");
    weft_checkpoint_free(r.k);
    weft_st_close(r.golden);
    CHECK_EQ(weft_memory_live(c), 0);
}

static void single_file(struct file_options o, void (*see)(const weft_checkpoint *k)) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (write_file(c, path, o)) run_all(c, path, o.family, o.parts, see);
    drop_folder(folder);
    weft_ctx_free(c);
}

/* ---- Stable Diffusion 1, single files --------------------------------------------------------------------------- */

static void see_plain(const weft_checkpoint *k) {
    CHECK_EQ(k->family, WEFT_FAMILY_SD1);
    CHECK(k->single_file && k->ldm_names && !k->inpaint);
    CHECK_EQ(k->ema, 0);
    CHECK_EQ(k->buffers, 0);
    CHECK_EQ(k->unknown, 0);
    CHECK_STR(k->why,
              "Stable Diffusion 1 (single file, LDM names): text encoder, UNet, autoencoder; context of 128, "
              "convolutions as projections; epsilon, as nothing says otherwise");
    CHECK_STR(k->scheduler.beta_schedule, "scaled_linear");
    CHECK_EQ(k->scheduler.prediction_type, WEFT_PREDICTION_EPSILON);
    CHECK_EQ(k->text_config.heads, 2);
    CHECK_EQ(k->unet_config.heads[0], 8);
}

TEST(ldm_f32) {
    single_file((struct file_options){ .family = "sd1", .parts = WEFT_PARTS_ALL, .layout = LAYOUT_LDM,
                                       .type = WEFT_F32 }, see_plain);
}

static void see_extras(const weft_checkpoint *k) {
    CHECK_EQ(k->ema, 686);
    CHECK_EQ(k->buffers, 3);
    CHECK_EQ(k->unknown, 2);
    CHECK_STR(k->unknown_names[0], "model.diffusion_model.input_blocks.1.0.in_layers.9.weight");
    CHECK_STR(k->unknown_names[1], "strange.thing");
    CHECK_HAS(k->why, "left out: 686 EMA copies, 2 unknown tensors");
}

TEST(ldm_f16_with_extras) {
    int layout = LAYOUT_LDM | LAYOUT_EMA | LAYOUT_BUFFERS | LAYOUT_UNKNOWN;
    single_file((struct file_options){ .family = "sd1", .parts = WEFT_PARTS_ALL, .layout = layout, .type = WEFT_F16 },
                see_extras);
}

TEST(ldm_bf16_without_text_model) {
    int layout = LAYOUT_LDM | LAYOUT_NO_TEXT_MODEL;
    single_file((struct file_options){ .family = "sd1", .parts = WEFT_PARTS_ALL, .layout = layout,
                                       .type = WEFT_BF16 }, NULL);
}

static void see_v(const weft_checkpoint *k) {
    CHECK_EQ(k->scheduler.prediction_type, WEFT_PREDICTION_V);
    CHECK_HAS(k->why, "v_prediction, by its metadata");
}

TEST(prediction_by_metadata) {
    static const char *const metadata[] = { "modelspec.prediction_type", "v", NULL };
    single_file((struct file_options){ .family = "sd1", .parts = WEFT_PARTS_ALL, .layout = LAYOUT_LDM,
                                       .type = WEFT_F16, .metadata = metadata }, see_v);
}

static void see_diffusers(const weft_checkpoint *k) {
    CHECK(k->single_file && !k->ldm_names);
    CHECK_EQ(k->unknown, 0);
}

TEST(diffusers_names_in_one_file) {
    single_file((struct file_options){ .family = "sd1", .parts = WEFT_PARTS_ALL, .type = WEFT_F16 }, see_diffusers);
}

/* A checkpoint without its autoencoder: what is wanted but not needed is left out. */
TEST(without_autoencoder) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    struct file_options o = { .family = "sd1", .parts = WEFT_PART_TEXT | WEFT_PART_UNET, .layout = LAYOUT_LDM,
                              .type = WEFT_F16 };
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    REQUIRE(write_file(c, path, o));
    weft_checkpoint *k = weft_checkpoint_open(c, path, WEFT_PART_UNET, WEFT_PARTS_ALL);
    REQUIRE(k != NULL);
    CHECK_EQ(k->parts, WEFT_PART_TEXT | WEFT_PART_UNET);
    CHECK(k->text && k->unet && !k->vae);
    /* A tree taken out outlives the checkpoint. */
    weft_tree *unet = k->unet;
    k->unet = NULL;
    weft_checkpoint_free(k);
    CHECK_EQ(weft_tree_count(unet), 686);
    weft_tree_free(unet);
    CHECK(!weft_checkpoint_open(c, path, WEFT_PARTS_ALL, 0));
    CHECK_HAS(weft_message(c), "lacks what is needed: autoencoder; it holds: text encoder, UNet");
    weft_clear(c);
    drop_folder(folder);
    CHECK_EQ(weft_memory_live(c), 0);
    weft_ctx_free(c);
}

/* ---- parts alone ------------------------------------------------------------------------------------------------ */

TEST(autoencoder_alone) {
    struct file_options o = { .family = "sd1", .parts = WEFT_PART_VAE, .type = WEFT_F32 };
    static const int layouts[] = { LAYOUT_LDM, LAYOUT_LDM | LAYOUT_NO_PREFIX, 0, LAYOUT_OLD_VAE };
    for (int i = 0; i < 4; i++) {
        o.layout = layouts[i];
        single_file(o, NULL);
    }
}

TEST(text_encoder_alone) {
    struct file_options o = { .family = "sd1", .parts = WEFT_PART_TEXT, .type = WEFT_F16 };
    static const int layouts[] = { LAYOUT_LDM, LAYOUT_LDM | LAYOUT_NO_PREFIX, 0, LAYOUT_TEXT_MODEL };
    for (int i = 0; i < 4; i++) {
        o.layout = layouts[i];
        single_file(o, NULL);
    }
}

static int tensors_of_unet;
static void see_unet(const weft_checkpoint *k) {
    tensors_of_unet = (int)weft_tree_count(k->unet);
    CHECK(!k->text && !k->vae && !k->tokenizer);
}

TEST(unet_alone) {
    struct file_options o = { .family = "sd1", .parts = WEFT_PART_UNET, .type = WEFT_BF16 };
    static const int layouts[] = { LAYOUT_LDM, LAYOUT_LDM | LAYOUT_NO_PREFIX, 0 };
    for (int i = 0; i < 3; i++) {
        o.layout = layouts[i];
        tensors_of_unet = 0;
        single_file(o, see_unet);
        CHECK_EQ(tensors_of_unet, 686);
    }
}

/* ---- Stable Diffusion 2 ----------------------------------------------------------------------------------------- */

static void see_sd2(const weft_checkpoint *k) {
    CHECK_EQ(k->family, WEFT_FAMILY_SD2);
    CHECK_EQ(k->text_config.layers, 2);
    CHECK_EQ(k->text_config.act, WEFT_ACT_GELU);
    CHECK_EQ(k->unet_config.heads[0], 1);
    CHECK(k->unet_config.linear_projection);
    CHECK_EQ(k->scheduler.prediction_type, WEFT_PREDICTION_EPSILON);
    CHECK_EQ(k->buffers, 2);        /* OpenCLIP's last layer */
    CHECK_EQ(k->unknown, 0);
}

TEST(sd2_open_clip) {
    struct file_options o = { .family = "sd2", .parts = WEFT_PARTS_ALL, .layout = LAYOUT_LDM, .type = WEFT_F32 };
    single_file(o, see_sd2);
    o.type = WEFT_F16;
    single_file(o, see_sd2);
}

static void expect_v(weft_ctx *c, const char *path) {
    weft_checkpoint *k = weft_checkpoint_open(c, path, WEFT_PART_UNET, 0);
    if (!k) { TEST_FAIL("%s", weft_message(c)); return; }
    CHECK_EQ(k->scheduler.prediction_type, WEFT_PREDICTION_V);
    CHECK_STR(k->scheduler.class_name, "DDIMScheduler");
    CHECK_HAS(k->why, "v_prediction, by the spread of its last norm's bias");
    weft_checkpoint_free(k);
}

/* The models that predict v have a wider last norm. */
TEST(sd2_v_by_spread) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    struct file_options o = { .family = "sd2", .parts = WEFT_PART_UNET, .layout = LAYOUT_LDM, .type = WEFT_F16,
                              .v_bias = 1.5 };
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    REQUIRE(write_file(c, path, o));
    expect_v(c, path);
    o.layout = 0;
    REQUIRE(write_folder(c, folder, o));
    expect_v(c, folder);
    expect_v(c, in(folder, "unet"));
    CHECK_EQ(weft_memory_live(c), 0);
    drop_folder(folder);
    weft_ctx_free(c);
}

/* ---- folders of diffusers --------------------------------------------------------------------------------------- */

static void see_folder(const weft_checkpoint *k) {
    CHECK(!k->single_file && !k->ldm_names);
    CHECK_EQ(k->unknown, 0);
    CHECK_HAS(k->why, "folder of diffusers");
    CHECK_HAS(k->why, "by its scheduler_config.json");
    CHECK_EQ(k->scheduler.steps_offset, 3);
    CHECK_STR(k->scheduler.class_name, "DDIMScheduler");
}

static void add_scheduler(const char *folder) {
    mkdir(in(folder, "scheduler"), 0755);
    put_text(folder, "scheduler/scheduler_config.json", "{\"_class_name\": \"DDIMScheduler\", \"steps_offset\": 3}");
}

TEST(folder) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    struct file_options o = { .family = "sd1", .parts = WEFT_PARTS_ALL, .type = WEFT_F32,
                              .layout = LAYOUT_OLD_VAE | LAYOUT_TEXT_MODEL };
    REQUIRE(write_folder(c, folder, o));
    add_scheduler(folder);
    run_all(c, folder, "sd1", WEFT_PARTS_ALL, see_folder);
    drop_folder(folder);
    weft_ctx_free(c);
}

TEST(folder_sd2) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    REQUIRE(write_folder(c, folder, (struct file_options){ .family = "sd2", .parts = WEFT_PARTS_ALL,
                                                           .type = WEFT_F16 }));
    add_scheduler(folder);
    run_all(c, folder, "sd2", WEFT_PARTS_ALL, see_folder);
    drop_folder(folder);
    weft_ctx_free(c);
}

/* Shards, variants, one part of the folder alone. */
TEST(folder_variants) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    struct file_options o = { .family = "sd1", .parts = WEFT_PARTS_ALL, .type = WEFT_F16 };
    REQUIRE(write_folder(c, folder, o));
    add_scheduler(folder);
    o.parts = WEFT_PART_UNET;
    o.shards = 2;
    CHECK(!unlink(in(folder, "unet/diffusion_pytorch_model.safetensors")));
    REQUIRE(write_file(c, in(folder, "unet/one.safetensors"), o));
    o.shard = 1;
    REQUIRE(write_file(c, in(folder, "unet/two.safetensors"), o));
    put_text(folder, "unet/diffusion_pytorch_model.safetensors.index.json",
             "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\"a\": \"one.safetensors\", "
             "\"b\": \"two.safetensors\", \"c\": \"one.safetensors\"}}");
    CHECK(!rename(in(folder, "vae/diffusion_pytorch_model.safetensors"),
                  in(folder, "vae/diffusion_pytorch_model.fp16.safetensors")));
    CHECK(!rename(in(folder, "text_encoder/model.safetensors"), in(folder, "text_encoder/model.fp16.safetensors")));
    run_all(c, folder, "sd1", WEFT_PARTS_ALL, see_folder);
    CHECK(!rename(in(folder, "unet/diffusion_pytorch_model.safetensors.index.json"),
                  in(folder, "unet/diffusion_pytorch_model.safetensors.index.fp16.json")));
    run_all(c, folder, "sd1", WEFT_PARTS_ALL, see_folder);
    run_all(c, in(folder, "vae"), "sd1", WEFT_PART_VAE, NULL);
    run_all(c, in(folder, "unet"), "sd1", WEFT_PART_UNET, see_folder);
    run_all(c, in(folder, "text_encoder"), "sd1", WEFT_PART_TEXT, NULL);
    drop_folder(folder);
    weft_ctx_free(c);
}

/* ---- the tokenizer of a folder ---------------------------------------------------------------------------------- */

static int put_letter(char *out, int code) {
    if (code < 0x80) return (int)(out[0] = (char)code, 1);
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

/* A vocabulary of the 256 letters, the same ended, `more` made up tokens, start and end; no merges. */
static void put_vocabulary(const char *folder, int more) {
    static char text[1 << 20];
    int at = sprintf(text, "{"), id = 0, next = 256;
    for (int ended = 0; ended < 2; ended++, next = 256)
        for (int byte = 0; byte < 256; byte++) {
            bool plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
            int code = plain ? byte : next++;
            at += sprintf(text + at, "\"%s", code == '"' || code == '\\' ? "\\" : "");
            at += put_letter(text + at, code);
            at += sprintf(text + at, "%s\": %d, ", ended ? "</w>" : "", id++);
        }
    for (int i = 0; i < more; i++) at += sprintf(text + at, "\"!%d!\": %d, ", i, id++);
    sprintf(text + at, "\"<|startoftext|>\": %d, \"<|endoftext|>\": %d}", id, id + 1);
    put_text(folder, "vocab.json", text);
    put_text(folder, "merges.txt", "#version: 0.2\n");
}

/* The model's own comes before the build's; it must not know more tokens than the text encoder. */
TEST(tokenizer_of_a_folder) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    char sub[128];
    REQUIRE(write_folder(c, folder, (struct file_options){ .family = "sd1", .parts = WEFT_PART_TEXT,
                                                           .type = WEFT_F16 }));
    snprintf(sub, sizeof sub, "%s/tokenizer", folder);
    mkdir(sub, 0755);
    put_vocabulary(sub, 10);
    for (int i = 0; i < 2; i++) {
        weft_checkpoint *k = weft_checkpoint_open(c, i ? in(folder, "text_encoder") : folder, WEFT_PART_TEXT, 0);
        if (!k) { TEST_FAIL("%s", weft_message(c)); break; }
        CHECK_EQ(weft_tokenizer_size(k->tokenizer), 524);
        weft_checkpoint_free(k);
    }
    put_vocabulary(sub, 49408 - 513);
    CHECK(!weft_checkpoint_open(c, folder, WEFT_PART_TEXT, 0));
    CHECK_HAS(weft_message(c), "the tokenizer has 49409 tokens, the text encoder takes 49408");
    weft_clear(c);
    CHECK_EQ(weft_memory_live(c), 0);
    drop_folder(folder);
    weft_ctx_free(c);
}

/* ---- the config.json beside a file ------------------------------------------------------------------------------ */

static void see_factor(const weft_checkpoint *k) {
    CHECK_NEAR(k->vae_config.scaling_factor, 0.5, 0);
}

TEST(config_beside_a_file) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    struct file_options o = { .family = "sd1", .parts = WEFT_PART_VAE, .type = WEFT_F32 };
    const char *down = "\"DownEncoderBlock2D\"", *up = "\"UpDecoderBlock2D\"";
    char path[128], config[1024];
    snprintf(path, sizeof path, "%s/vae.safetensors", folder);
    REQUIRE(write_file(c, path, o));
    snprintf(config, sizeof config,
             "{\"_class_name\": \"AutoencoderKL\", \"block_out_channels\": [32, 32, 64, 64], \"layers_per_block\": 2, "
                                    "\"latent_channels\": 4, \"scaling_factor\": 0.5, "
             "\"down_block_types\": [%s, %s, %s, %s], \"up_block_types\": [%s, %s, %s, %s]}", down, down, down, down, up, up, up, up);
    put_text(folder, "config.json", config);
    run_all(c, path, "sd1", WEFT_PART_VAE, see_factor);
    /* One of another class is somebody else's. */
    put_text(folder, "config.json", "{\"_class_name\": \"UNet2DConditionModel\"}");
    run_all(c, path, "sd1", WEFT_PART_VAE, NULL);
    drop_folder(folder);
    weft_ctx_free(c);
}

/* ---- models from a seed ----------------------------------------------------------------------------------------- */

TEST(made) {
    weft_ctx *c = context();
    weft_checkpoint *k = weft_checkpoint_make(c, "tiny", WEFT_F16, 5);
    if (!k) { TEST_FAIL("%s", weft_message(c)); return; }
    weft_scope s = weft_scope_named(c, "case");
    CHECK_EQ(k->parts, WEFT_PARTS_ALL);
    CHECK_EQ(weft_tree_count(k->unet), 686);
    weft_unet_inputs in = {
        .sample = weft_full(c, WEFT_F32, WEFT_SHAPE(1, 8, 8, 4), 0.5),
        .timesteps = weft_full(c, WEFT_F32, WEFT_SHAPE(1), 500),
        .context = weft_full(c, WEFT_F32, WEFT_SHAPE(1, 77, 64), 0.1),
    };
    weft_tensor *y = weft_unet2d_condition(c, weft_root(k->unet), &k->unet_config, &in);
    CHECK(y && weft_count(y) == 256);
    weft_scope_end(c, s, NULL);
    weft_checkpoint_free(k);
    CHECK(!weft_checkpoint_make(c, "huge", WEFT_F32, 1));
    CHECK_HAS(weft_message(c), "there is no preset \"huge\"; there are sd15, sd15-inpaint, sd21, tiny");
    weft_clear(c);
    CHECK(!weft_checkpoint_make(c, "tiny", WEFT_I64, 1));
    CHECK_EQ(weft_error(c), WEFT_E_TYPE);
    weft_clear(c);
    CHECK_EQ(weft_memory_live(c), 0);
    weft_ctx_free(c);
}

TEST_MAIN
