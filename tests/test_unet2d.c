/* UNet2DModel against diffusers (make_unet2d.py), its configuration there and back, and its folders: diffusers' own, old
 * names of attention, all files in one folder; from the loader to UNetStep. */
#include "nodes/checkpoint/config_json.h"
#include "nodes/checkpoint/derive.h"
#include "tests/checkpoint_files.h"
#include "tests/node_bed.h"

#define ANSWERS WEFT_SOURCE_DIR "/tests/golden/unet2d.safetensors"

static const char *const names[] = { "ddpm", "heads", "resnets", "none" };

/* The configuration of a golden model. */
static bool config_of(weft_ctx *c, const weft_safetensors *golden, const char *name, weft_unet_config *config) {
    char key[32];
    snprintf(key, sizeof key, "config.%s", name);
    const char *text = weft_st_metadata(golden, key);
    bool ok = text && !weft_unet_config_parse(c, key, text, strlen(text), config);
    if (!ok) TEST_FAIL("%s: %s", name, weft_message(c));
    return ok;
}

/* Distance from the golden answer, of its rms; infinite where it cannot be told. */
static double off(weft_ctx *c, const weft_safetensors *golden, const char *key, weft_tensor *got) {
    const weft_st_entry *e = weft_st_find(golden, key);
    if (!e || !got || weft_rank(got) != e->rank || memcmp(weft_shape(got), e->shape, (size_t)e->rank * sizeof *e->shape))
        return INFINITY;
    float *values = malloc(e->bytes);
    double d = weft_read(c, weft_cast(c, got, WEFT_F32), values, e->bytes)
                   ? INFINITY : test_compare_f32(values, e->data, weft_count(got)).max;
    free(values);
    return d;
}

static weft_unet_inputs inputs(weft_ctx *c, const weft_safetensors *golden, const weft_unet_config *config,
                               const char *name, int k, weft_dtype type) {
    char key[64];
    snprintf(key, sizeof key, "%s.%d.timesteps", name, k);
    const weft_st_entry *times = weft_st_find(golden, key);
    snprintf(key, sizeof key, "%s.%d.sample", name, k);
    weft_tensor *sample = golden_input(c, key, 6, WEFT_SHAPE(times->shape[0], config->in_channels, k ? 16 : 8, k ? 4 : 8));
    return (weft_unet_inputs){ .sample = weft_cast(c, weft_to_nhwc(c, sample), type),
                               .timesteps = weft_tensor_from(c, WEFT_F32, 1, times->shape, times->data) };
}

TEST(answers_are_those_of_diffusers) {
    /* Largest difference, as a part of the answers' rms: f64 has the sinusoids' f32; f32 some 50 roundings of 6e-8. */
    static const struct { const char *device; weft_dtype type; double tolerance; } kinds[] = {
        { "reference", WEFT_F64, 1e-5 }, { "cpu", WEFT_F32, 2e-5 } };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            weft_ctx *c = weft_ctx_new(&(weft_options){ .device = test_device(kinds[i].device), .threads = 1,
                                                        .precision = WEFT_PRECISION_EXACT });
            weft_safetensors *golden = weft_st_open(c, ANSWERS);
            weft_unet_config config;
            REQUIRE(golden && config_of(c, golden, names[n], &config));
            CHECK(config.pixel_attention && weft_family_of(&config) == WEFT_FAMILY_UNKNOWN);
            weft_tree *tree = golden_tree(c, "unet", weft_unet_walk, &config, WEFT_F32);
            REQUIRE(tree);
            char key[64];
            snprintf(key, sizeof key, "tensors.%s", names[n]);
            CHECK_EQ(weft_tree_count(tree), atoi(weft_st_metadata(golden, key)));
            for (int k = 0; k < 2; k++) {
                weft_scope s = weft_scope_named(c, "case");
                weft_unet_inputs in = inputs(c, golden, &config, names[n], k, kinds[i].type);
                weft_tensor *y = weft_unet2d_condition(c, weft_root(tree), &config, &in);
                snprintf(key, sizeof key, "%s.%d.out", names[n], k);
                double d = off(c, golden, key, y);
                if (!(d <= kinds[i].tolerance)) TEST_FAIL("%s on %s: %g: %s", key, kinds[i].device, d, weft_message(c));
                in.context = weft_full(c, kinds[i].type, WEFT_SHAPE(1, 77, 768), 0);
                CHECK(!weft_unet2d_condition(c, weft_root(tree), &config, &in));
                CHECK_HAS(weft_message(c), "takes no text");
                weft_clear(c);
                weft_scope_end(c, s, NULL);
            }
            weft_tree_free(tree);
            weft_st_close(golden);
            CHECK_EQ(weft_memory_live(c), 0);
            weft_ctx_free(c);
        }
}

TEST(configurations_there_and_back) {
    weft_ctx *c = weft_ctx_new(NULL);
    weft_safetensors *golden = weft_st_open(c, ANSWERS);
    REQUIRE(golden);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        weft_unet_config config = { 0 }, back = { 0 };
        REQUIRE(config_of(c, golden, names[n], &config));
        char *json = weft_unet_config_json(&config, 0);
        REQUIRE(json && !weft_unet_config_parse(c, "back", json, strlen(json), &back));
        char *again = weft_unet_config_json(&back, 0);
        CHECK_STR(again, json);
        CHECK_HAS(json, "\"UNet2DModel\"");
        free(json);
        free(again);
    }
    weft_unet_config config = { 0 };
    CHECK(!weft_unet_config_parse(c, "x", "{\"_class_name\": \"UNet2DModel\"}", 30, &config));
    CHECK(config.channels[0] == 224 && config.head_width == 8 && config.down_attention[1] && !config.down_attention[0] &&
          config.in_channels == 3 && config.mid == WEFT_UNET_MID_ATTENTION && !config.context);
#define CLASS "{\"_class_name\": \"UNet2DModel\", "
    static const struct { const char *text, *message; } bad[] = {
        { CLASS "\"time_embedding_type\": \"fourier\"}", "x: time_embedding_type: fourier is not supported" },
        { CLASS "\"downsample_type\": \"resnet\"}", "x: downsample_type: resnet is not supported" },
        { CLASS "\"num_class_embeds\": 10}", "x: num_class_embeds: 10 is not supported" },
        { CLASS "\"resnet_time_scale_shift\": \"scale_shift\"}", "resnet_time_scale_shift" },
        { CLASS "\"down_block_types\": [\"SkipDownBlock2D\"]}", "down_block_types" },
        { CLASS "\"block_out_channels\": [32, 64]}", "down_block_types: 4 types, but block_out_channels has 2" },
        { CLASS "\"attention_head_dim\": 9}", "attention_head_dim: 9 does not divide block_out_channels" },
        { CLASS "\"attention_head_dim\": 0}", "attention_head_dim" },
        { CLASS "\"attn_norm_num_groups\": 5}", "attn_norm_num_groups: 5 does not divide block_out_channels 896" },
        { CLASS "\"norm_num_groups\": 64}", "norm_num_groups: 64 does not divide" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        config = (weft_unet_config){ .blocks = 77 };
        CHECK(weft_unet_config_parse(c, "x", bad[i].text, strlen(bad[i].text), &config) != WEFT_OK);
        CHECK_HAS(weft_message(c), bad[i].message);
        CHECK_EQ(config.blocks, 77);
        weft_clear(c);
    }
    config = weft_unet2d_default;
    config.layers[2] = 3;
    CHECK(weft_unet_config_check(c, "x", &config) != WEFT_OK);
    CHECK_HAS(weft_message(c), "x: UNet2DModel has nothing of the kind");
    weft_clear(c);
    config = weft_unet_sd15;
    config.mid = WEFT_UNET_MID_RESNETS;
    CHECK(weft_unet_config_check(c, "x", &config) != WEFT_OK);
    weft_st_close(golden);
    weft_ctx_free(c);
}

/* ---- folders ------------------------------------------------------------------------------------------------------- */

static void rename_old(char *name) {
    static const char *const pairs[][2] = { { ".to_q.", ".query." }, { ".to_k.", ".key." }, { ".to_v.", ".value." },
                                            { ".to_out.0.", ".proj_attn." } };
    for (int i = 0; i < 4; i++) replace(name, 256, pairs[i][0], pairs[i][1]);
}

/* The golden weights of a model as a file, under today's names of attention or the old ones. */
static void write_weights(weft_ctx *c, const weft_unet_config *config, const char *path, bool old) {
    static char keys[512][256];
    weft_st_item items[512];
    weft_tree *tree = golden_tree(c, "unet", weft_unet_walk, (void *)config, WEFT_F32);
    weft_scope s = weft_scope_named(c, "write");
    int n = 0;
    for (const char *name; (name = weft_tree_name(c, tree, n)); n++) {
        snprintf(keys[n], sizeof keys[n], "%s", name);
        if (old) rename_old(keys[n]);
        items[n] = (weft_st_item){ keys[n], weft_tree_plain(c, tree, n, &name), WEFT_F32 };
    }
    if (weft_st_write(c, path, items, n, NULL)) TEST_FAIL("%s", weft_message(c));
    weft_scope_end(c, s, NULL);
    weft_tree_free(tree);
}

/* UNetStep on a loaded model gives the golden answer. */
static void check_step(struct bed *b, const weft_safetensors *golden, weft_model *m) {
    weft_value out[2] = { 0 };
    weft_scope s = weft_scope_named(b->c, "step");
    weft_unet_inputs in = inputs(b->c, golden, &m->config, "ddpm", 0, WEFT_F32);
    CHECK(!CALL(b, "UNetStep", out, IN_OBJECT("model", m), IN_TENSOR("sample", in.sample), IN_FLOAT("timestep", 999)));
    CHECK(off(b->c, golden, "ddpm.0.out", out[0].tensor) < 1e-3);      /* Winograd, and f16 where it was saved so */
    CHECK_STR(weft_message(b->c), "");
    weft_value_clear(&out[0]);
    weft_value_clear(&out[1]);
    weft_scope_end(b->c, s, NULL);
}

TEST(folders_of_pipelines) {
    static const char *const layouts[] = { "whole", "flat", "old" };
    static const char index[] = "{\"_class_name\": \"DDPMPipeline\", \"unet\": [\"diffusers\", \"UNet2DModel\"], "
                                "\"scheduler\": [\"diffusers\", \"DDPMScheduler\"]}";
    static const char scheduler[] = "{\"_class_name\": \"DDPMScheduler\", \"beta_schedule\": \"squaredcos_cap_v2\", "
                                    "\"num_train_timesteps\": 500}";
    const char *folder = new_folder();
    static char models[64];
    const char *roots[] = { models, NULL };
    snprintf(models, sizeof models, "%s", folder);
    struct bed b = bed_new("cpu");
    b.folders = (weft_folders){ .models = roots, .input = models, .output = models, .temp = models };
    weft_safetensors *golden = weft_st_open(b.c, ANSWERS);
    weft_unet_config config;
    REQUIRE(golden && config_of(b.c, golden, "ddpm", &config));
    char *json = weft_unet_config_json(&config, 8);
    mkdir(in(folder, "diffusers"), 0755);
    mkdir(in(folder, "diffusion_models"), 0755);
    for (int i = 0; i < 3; i++) {
        char path[128];
        bool flat = i == 1;
#define IN_MODEL(...) (snprintf(path, sizeof path, __VA_ARGS__), path)
        mkdir(in(folder, IN_MODEL("diffusers/%s", layouts[i])), 0755);
        mkdir(in(folder, IN_MODEL("diffusers/%s/%s", layouts[i], flat ? "pictures" : "unet")), 0755);
        mkdir(in(folder, IN_MODEL("diffusers/%s/%s", layouts[i], flat ? "more" : "scheduler")), 0755);
        put_text(folder, IN_MODEL("diffusers/%s/model_index.json", layouts[i]), index);
        put_text(folder, IN_MODEL("diffusers/%s/%sconfig.json", layouts[i], flat ? "" : "unet/"), json);
        if (i != 2) put_text(folder, IN_MODEL("diffusers/%s/%sscheduler_config.json", layouts[i], flat ? "" : "scheduler/"),
                             scheduler);
        write_weights(b.c, &config, in(folder, IN_MODEL("diffusers/%s/%sdiffusion_pytorch_model.safetensors", layouts[i],
                                                        flat ? "" : "unet/")), i > 0);
        weft_value out[1] = { 0 };
        CHECK(!CALL(&b, "UNet2DLoader", out, IN_TEXT("model_path", layouts[i])));
        CHECK_STR(weft_message(b.c), "");
        weft_model *m = (weft_model *)out[0].object;
        REQUIRE(m);
        CHECK(m->config.pixel_attention && m->latent_scale == 1 && m->family == WEFT_FAMILY_UNKNOWN);
        CHECK_STR(m->scheduler.class_name, "DDPMScheduler");
        CHECK_STR(m->scheduler.beta_schedule, i < 2 ? "squaredcos_cap_v2" : "linear");     /* DDPM's own without a file */
        check_step(&b, golden, m);
        /* Saved and loaded again; a pipeline that diffusers knows. */
        weft_value none[1] = { 0 }, again[1] = { 0 };
        b.folders.output = in(folder, "diffusers");
        CHECK(!CALL(&b, "DiffusersSave", none, IN_OBJECT("model", m), IN_TEXT("folder", "saved")));
        CHECK(!CALL(&b, "UNet2DLoader", again, IN_TEXT("model_path", "saved")));
        CHECK_STR(weft_message(b.c), "");
        if (again[0].object) check_step(&b, golden, (weft_model *)again[0].object);
        weft_value_clear(&again[0]);
        weft_value_clear(&out[0]);
    }
    /* Names alone do not tell heads: without its configuration it is no model. */
    write_weights(b.c, &config, in(folder, "diffusion_models/x.safetensors"), false);
    CALL_FAILS(&b, "is a UNet2DModel; its config.json is needed beside it", "UNETLoader", IN_TEXT("unet_name", "x.safetensors"));
    put_text(folder, "diffusion_models/config.json", json);
    weft_value out[1] = { 0 };
    CHECK(!CALL(&b, "UNETLoader", out, IN_TEXT("unet_name", "x.safetensors")));
    if (out[0].object) check_step(&b, golden, (weft_model *)out[0].object);
    weft_value_clear(&out[0]);
    free(json);
    weft_st_close(golden);
    bed_free(&b);
    drop_folder(folder);
}

TEST(new_models) {
    struct bed b = bed_new("cpu");
    weft_value out[1] = { 0 };
    CHECK(!CALL(&b, "UNetFromConfig", out, IN_TEXT("config", "{\"_class_name\": \"UNet2DModel\", \"block_out_channels\": [8], "
                "\"norm_num_groups\": 4, \"down_block_types\": [\"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\"]}"),
                IN_INT("seed", 3)));
    CHECK_STR(weft_message(b.c), "");
    weft_model *m = (weft_model *)out[0].object;
    CHECK(m && m->config.pixel_attention && m->latent_scale == 1);
    if (m) CHECK_STR(m->scheduler.beta_schedule, "linear");
    weft_value_clear(&out[0]);
    bed_free(&b);
}

TEST_MAIN
