/* Names, configurations from shapes, scheduler settings: what is known of a checkpoint before any weight is read,
 * against diffusers' converters (tests/golden/make_checkpoint.py). */
#include "nodes/checkpoint/derive.h"
#include "nodes/checkpoint/kinds.h"
#include "runtime/json.h"
#include "tests/checkpoint_files.h"

static weft_ctx *context(void) {
    return weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1 });
}

/* ---- lists of names --------------------------------------------------------------------------------------------- */

struct listed { const struct rows *rows; bool ldm; };

static const char *listed_at(const void *user, int64_t i) {
    const struct listed *l = user;
    if (i >= l->rows->count) return NULL;
    return l->ldm ? l->rows->at[i].ldm : l->rows->at[i].name;
}

static bool listed_has(const void *user, const char *name) {
    const char *other;
    for (int64_t i = 0; (other = listed_at(user, i)); i++)
        if (!strcmp(other, name)) return true;
    return false;
}

static struct rows rows_of(weft_ctx *c, const char *family, int part, int column) {
    struct rows rows = { 0 };
    weft_safetensors *golden = weft_st_open(c, GOLDEN);
    if (!golden) TEST_FAIL("%s", weft_message(c));
    else add_rows(&rows, golden, family, part, column);
    weft_st_close(golden);
    return rows;
}

static void check_names(weft_ctx *c, const char *family, int part, int column, int expected) {
    struct rows rows = rows_of(c, family, part, column);
    struct listed list = { &rows, true };
    weft_namer n = weft_namer_make((weft_name_list){ listed_has, listed_at, &list }, (weft_part)part);
    weft_naming text = !strcmp(family, "sd2") ? WEFT_NAMING_OPEN_CLIP : WEFT_NAMING_DIFFUSERS;
    CHECK_EQ(n.naming, part == TEXT ? text : WEFT_NAMING_LDM);
    CHECK_EQ(rows.count, expected);
    n.layers++;         /* of OpenCLIP the list has no layer too much */
    for (int i = 0; i < rows.count; i++) {
        char out[WEFT_NAME_MAX] = "";
        if (strstr(rows.at[i].ldm, ".in_proj_")) continue;
        if (!weft_namer_name(&n, rows.at[i].ldm + strlen(n.prefix), out, sizeof out))
            TEST_FAIL("%s has no name", rows.at[i].ldm);
        else CHECK_STR(out, rows.at[i].name);
    }
    /* diffusers' own names are known as they are. */
    list.ldm = false;
    n = weft_namer_make((weft_name_list){ listed_has, listed_at, &list }, (weft_part)part);
    CHECK_EQ(n.naming, WEFT_NAMING_DIFFUSERS);
    CHECK_STR(n.prefix, "");
    for (int i = 0; i < rows.count; i++) {
        char out[WEFT_NAME_MAX] = "";
        CHECK(weft_namer_name(&n, rows.at[i].name, out, sizeof out));
        CHECK_STR(out, rows.at[i].name);
    }
    free(rows.at);
}

TEST(names) {
    weft_ctx *c = context();
    check_names(c, "sd1", UNET, 3, 686);
    check_names(c, "sd1", VAE, 3, 248);
    check_names(c, "sd1", TEXT, 2, 4 + 16 * 3);
    check_names(c, "sd2", UNET, 2, 208);
    check_names(c, "sd2", TEXT, 2, 4 + 16 * 2);
    weft_ctx_free(c);
}

/* What only looks like a name is none: of two names for one thing, a file could have both. */
TEST(names_that_are_none) {
    weft_ctx *c = context();
    static const char *const none[] = {
        "input_blocks.01.0.in_layers.0.weight", "input_blocks.1.0.in_layers.0.weigh",
        "input_blocks.1.0.in_layers.0.weight.x",
        "input_blocks.1.0.in_layers.0", "input_blocks.-1.0.in_layers.0.weight",
        "input_blocks.99999999999.0.in_layers.0.weight",
        "input_blocks.127.0.in_layers.0.weight", "input_blocks.128.0.in_layers.0.weight", "input_blocks.",
        "input_blocks.1", "", ".", "weight",
        "output_blocks.0.3.conv.weight", "middle_block.3.in_layers.0.weight",
        "input_blocks.1.1.transformer_blocks..norm1.weight",
        "time_embed.0.", "time_embed.0.bias2",
    };
    struct rows rows = rows_of(c, "sd1", UNET, 2);
    struct listed list = { &rows, true };
    weft_namer n = weft_namer_make((weft_name_list){ listed_has, listed_at, &list }, WEFT_NAMES_UNET);
    char out[WEFT_NAME_MAX];
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        if (weft_namer_name(&n, none[i], out, sizeof out)) TEST_FAIL("\"%s\" became \"%s\"", none[i], out);
    /* Room is minded to the byte. */
    CHECK(!weft_namer_name(&n, "out.0.bias", out, strlen("conv_norm_out.bias")));
    CHECK(weft_namer_name(&n, "out.0.bias", out, strlen("conv_norm_out.bias") + 1));
    CHECK_STR(out, "conv_norm_out.bias");
    CHECK(!weft_namer_name(&n, "out.0.bias", out, 0));
    free(rows.at);
    weft_ctx_free(c);
}

/* ---- configurations --------------------------------------------------------------------------------------------- */

static weft_shapes shapes_of(weft_ctx *c, const struct rows *rows) {
    weft_shapes s = { 0 };
    for (int i = rows->count - 1; i >= 0; i--)
        CHECK(weft_shapes_add(c, &s, rows->at[i].name, rows->at[i].rank, rows->at[i].shape) == WEFT_OK);
    weft_shapes_sort(&s);
    return s;
}

static void check_unet(weft_ctx *c, const char *family, int column, const weft_unet_config *want) {
    weft_unet_config got, expected = *want;
    struct rows rows = rows_of(c, family, UNET, column);
    weft_shapes s = shapes_of(c, &rows);
    CHECK(weft_derive_unet(c, "x", &s, &got) == WEFT_OK);
    CHECK_STR(weft_message(c), "");
    CHECK_EQ(got.time_embedding_dim, 4 * want->channels[0]);
    expected.time_embedding_dim = got.time_embedding_dim;
    CHECK_EQ(got.in_channels, expected.in_channels);
    CHECK_EQ(got.out_channels, expected.out_channels);
    CHECK_EQ(got.blocks, expected.blocks);
    for (int i = 0; i < got.blocks; i++) {
        CHECK_EQ(got.channels[i], expected.channels[i]);
        CHECK_EQ(got.layers[i], expected.layers[i]);
        CHECK_EQ(got.down_attention[i], expected.down_attention[i]);
        CHECK_EQ(got.up_attention[i], expected.up_attention[i]);
        if (got.down_attention[i]) CHECK_EQ(got.heads[i], expected.heads[i]);
        CHECK_EQ(got.depth[i], expected.depth[i]);
    }
    CHECK_EQ(got.mid, expected.mid);
    CHECK_EQ(got.context, expected.context);
    CHECK_EQ(got.linear_projection, expected.linear_projection);
    CHECK_EQ(got.norm_groups, expected.norm_groups);
    CHECK_EQ(got.conv_in_kernel, expected.conv_in_kernel);
    CHECK_EQ(got.conv_out_kernel, expected.conv_out_kernel);
    weft_shapes_free(&s);
    free(rows.at);
}

/* The config.json that diffusers writes for a model, read as its own. */
static weft_unet_config unet_config(weft_ctx *c, const char *key) {
    weft_unet_config config = { 0 };
    weft_safetensors *golden = weft_st_open(c, GOLDEN);
    const char *text = weft_st_metadata(golden, key);
    if (!text || weft_unet_config_parse(c, key, text, strlen(text), &config)) TEST_FAIL("%s: %s", key, weft_message(c));
    weft_st_close(golden);
    return config;
}

TEST(unet_from_shapes) {
    weft_ctx *c = context();
    check_unet(c, "sd1", 3, &weft_unet_sd15);
    check_unet(c, "sd1", 4, &weft_unet_sd21);
    weft_unet_config tiny1 = unet_config(c, "config.sd1.unet"), tiny2 = unet_config(c, "config.sd2.unet");
    check_unet(c, "sd1", 2, &tiny1);
    check_unet(c, "sd2", 2, &tiny2);
    CHECK_EQ(weft_family_of(&weft_unet_sd15), WEFT_FAMILY_SD1);
    CHECK_EQ(weft_family_of(&weft_unet_sd15_inpaint), WEFT_FAMILY_SD1);
    CHECK_EQ(weft_family_of(&weft_unet_sd21), WEFT_FAMILY_SD2);
    weft_ctx_free(c);
}

static void check_vae(weft_ctx *c, int column, const weft_vae_config *want) {
    weft_vae_config got;
    struct rows rows = rows_of(c, "sd1", VAE, column);
    weft_shapes s = shapes_of(c, &rows);
    CHECK(weft_derive_vae(c, "x", &s, &got) == WEFT_OK);
    CHECK_STR(weft_message(c), "");
    CHECK_EQ(got.blocks, want->blocks);
    for (int i = 0; i < got.blocks; i++) CHECK_EQ(got.channels[i], want->channels[i]);
    CHECK_EQ(got.layers, want->layers);
    CHECK_EQ(got.in_channels, want->in_channels);
    CHECK_EQ(got.out_channels, want->out_channels);
    CHECK_EQ(got.latent_channels, want->latent_channels);
    CHECK_EQ(got.norm_groups, want->norm_groups);
    CHECK(got.mid_attention && got.quant_conv && got.post_quant_conv);
    CHECK_NEAR(got.scaling_factor, 0.18215, 0);
    weft_shapes_free(&s);
    free(rows.at);
}

TEST(autoencoder_from_shapes) {
    weft_ctx *c = context();
    weft_vae_config tiny = weft_vae_sd;
    memcpy(tiny.channels, (const int[]){ 32, 32, 64, 64 }, 4 * sizeof(int));
    check_vae(c, 3, &weft_vae_sd);
    check_vae(c, 2, &tiny);
    weft_ctx_free(c);
}

static void check_text(weft_ctx *c, const char *family, int column, const weft_clip_text_config *want) {
    weft_clip_text_config got;
    struct rows rows = rows_of(c, family, TEXT, column);
    weft_shapes s = shapes_of(c, &rows);
    CHECK(weft_derive_text(c, "x", &s, !strcmp(family, "sd2") ? WEFT_NAMING_OPEN_CLIP : WEFT_NAMING_DIFFUSERS,
                           &got) == WEFT_OK);
    CHECK_EQ(got.vocabulary, want->vocabulary);
    CHECK_EQ(got.width, want->width);
    CHECK_EQ(got.inner, want->inner);
    CHECK_EQ(got.layers, want->layers);
    CHECK_EQ(got.heads, want->heads);
    CHECK_EQ(got.positions, want->positions);
    CHECK_EQ(got.act, want->act);
    CHECK_EQ(got.projection, 0);
    weft_shapes_free(&s);
    free(rows.at);
}

TEST(text_encoder_from_shapes) {
    weft_ctx *c = context();
    weft_clip_text_config tiny1 = weft_clip_text_l14, tiny2 = weft_clip_text_h14;
    tiny1.width = 128, tiny1.inner = 320, tiny1.layers = 3, tiny1.heads = 2;
    tiny2.width = 64, tiny2.inner = 192, tiny2.layers = 2, tiny2.heads = 1;
    check_text(c, "sd1", 3, &weft_clip_text_l14);
    check_text(c, "sd2", 3, &weft_clip_text_h14);
    check_text(c, "sd1", 2, &tiny1);
    check_text(c, "sd2", 2, &tiny2);
    weft_ctx_free(c);
}

/* Shapes and names of no model at all. */
TEST(nonsense_shapes) {
    weft_ctx *c = context();
    static const struct { const char *name; int rank; int64_t shape[4]; const char *message; } cases[] = {
        { "time_embedding.linear_1.weight", 2, { 4, 4 }, "no down_blocks" },
        { "down_blocks.99.resnets.0.conv1.weight", 4, { 32, 32, 3, 3 }, "more blocks" },
        { "down_blocks.0.resnets.9999.conv1.weight", 4, { 32, 32, 3, 3 }, "more blocks or layers" },
        { "down_blocks.0.resnets.0.conv1.weight", 4, { 32, 32, 3, 3 }, "no cross attention" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weft_shapes s = { 0 };
        weft_unet_config config;
        CHECK(weft_shapes_add(c, &s, cases[i].name, cases[i].rank, cases[i].shape) == WEFT_OK);
        weft_shapes_sort(&s);
        CHECK(weft_derive_unet(c, "x.safetensors", &s, &config) == WEFT_E_FORMAT);
        CHECK_HAS(weft_message(c), "x.safetensors: ");
        CHECK_HAS(weft_message(c), cases[i].message);
        weft_clear(c);
        weft_shapes_free(&s);
    }
    weft_shapes s = { 0 };
    weft_unet_config config;
    const char *k = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight";
    CHECK(weft_shapes_add(c, &s, k, 2, (const int64_t[]){ 32, INT64_MAX / 2 }) == WEFT_OK);
    CHECK(weft_shapes_add(c, &s, "down_blocks.0.resnets.0.conv1.weight", 4,
                          (const int64_t[]){ INT64_C(1) << 40, 1, 1, 1 }) == WEFT_OK);
    weft_shapes_sort(&s);
    CHECK(weft_derive_unet(c, "x", &s, &config) != WEFT_OK);
    weft_clear(c);
    weft_shapes_free(&s);
    weft_ctx_free(c);
}

/* ---- scheduler settings ----------------------------------------------------------------------------------------- */

TEST(scheduler_defaults) {
    weft_ctx *c = context();
    weft_safetensors *golden = weft_st_open(c, GOLDEN);
    const char *key, *text;
    int seen = 0;
    for (int64_t i = 0; weft_st_metadata_at(golden, i, &key, &text); i++) {
        char json[128];
        weft_scheduler_config s;
        if (strncmp(key, "scheduler.", 10)) continue;
        snprintf(json, sizeof json, "{\"_class_name\": \"%s\"}", key + 10);
        if (weft_scheduler_config_parse(c, key, json, strlen(json), &s)) { TEST_FAIL("%s", weft_message(c)); break; }
        cJSON *want = weft_json_parse(c, key, text, strlen(text), 0);
        weft_json j = { c, key, want };
        CHECK_EQ(weft_json_int(&j, "num_train_timesteps", 0, 100000, s.num_train_timesteps), s.num_train_timesteps);
        CHECK_NEAR(weft_json_double(&j, "beta_start", s.beta_start), s.beta_start, 0);
        CHECK_NEAR(weft_json_double(&j, "beta_end", s.beta_end), s.beta_end, 0);
        CHECK_STR(weft_json_text_of(&j, "beta_schedule", s.beta_schedule), s.beta_schedule);
        CHECK_STR(weft_json_text_of(&j, "prediction_type", "epsilon"), weft_prediction_name(s.prediction_type));
        CHECK_STR(weft_json_text_of(&j, "timestep_spacing", s.timestep_spacing), s.timestep_spacing);
        CHECK_EQ(weft_json_int(&j, "steps_offset", 0, 10, s.steps_offset), s.steps_offset);
        CHECK_EQ(weft_json_bool(&j, "set_alpha_to_one", s.set_alpha_to_one), s.set_alpha_to_one);
        CHECK_EQ(weft_json_bool(&j, "clip_sample", s.clip_sample), s.clip_sample);
        CHECK_NEAR(weft_json_double(&j, "clip_sample_range", s.clip_sample_range), s.clip_sample_range, 0);
        CHECK_NEAR(weft_json_double(&j, "dynamic_thresholding_ratio", s.dynamic_thresholding_ratio),
                   s.dynamic_thresholding_ratio, 0);
        CHECK_NEAR(weft_json_double(&j, "sample_max_value", s.sample_max_value), s.sample_max_value, 0);
        CHECK_STR(weft_json_text_of(&j, "variance_type", s.variance_type), s.variance_type);
        CHECK_EQ(weft_json_bool(&j, "skip_prk_steps", s.skip_prk_steps), s.skip_prk_steps);
        CHECK_STR(s.class_name, key + 10);
        CHECK_STR(s.json, json);
        cJSON_Delete(want);
        weft_scheduler_config_free(&s);
        seen++;
    }
    CHECK(seen >= 14);
    CHECK_STR(weft_message(c), "");
    weft_st_close(golden);
    weft_ctx_free(c);
}

TEST(scheduler_file) {
    weft_ctx *c = context();
    weft_scheduler_config s;
    /* Stable Diffusion 1.5's, with a key of another class and one infinity as Python writes it. */
    const char *json =
        "{\"_class_name\": \"PNDMScheduler\", \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", "
        "\"beta_start\": 0.00085, \"clip_sample\": false, \"num_train_timesteps\": 1000, "
        "\"set_alpha_to_one\": false, \"skip_prk_steps\": true, \"steps_offset\": 1, \"trained_betas\": null, "
        "\"lambda_min_clipped\": -Infinity}";
    CHECK(weft_scheduler_config_parse(c, "x", json, strlen(json), &s) == WEFT_OK);
    weft_scheduler_config sd = weft_scheduler_config_sd(WEFT_PREDICTION_EPSILON);
    CHECK_STR(s.class_name, sd.class_name);
    CHECK_NEAR(s.beta_start, sd.beta_start, 0);
    CHECK_NEAR(s.beta_end, sd.beta_end, 0);
    CHECK_STR(s.beta_schedule, sd.beta_schedule);
    CHECK_STR(s.timestep_spacing, sd.timestep_spacing);
    CHECK_EQ(s.steps_offset, sd.steps_offset);
    CHECK_EQ(s.skip_prk_steps, sd.skip_prk_steps);
    CHECK_EQ(s.clip_sample, sd.clip_sample);
    CHECK_EQ(s.set_alpha_to_one, sd.set_alpha_to_one);
    weft_scheduler_config_free(&s);
    json = "{\"num_train_timesteps\": 3, \"trained_betas\": [0.1, 0.2, 0.5], \"prediction_type\": \"v_prediction\"}";
    CHECK(weft_scheduler_config_parse(c, "x", json, strlen(json), &s) == WEFT_OK);
    CHECK_NEAR(s.trained_betas[2], 0.5, 0);
    CHECK_EQ(s.prediction_type, WEFT_PREDICTION_V);
    weft_scheduler_config_free(&s);
    weft_ctx_free(c);
}

TEST(scheduler_nonsense) {
    weft_ctx *c = context();
    static const char *const bad[][2] = {
        { "[]", "expected an object" }, { "{", "x:1:" }, { "{\"beta_start\": 0}", "beta_start" },
            { "{\"beta_start\": \"a\"}", "beta_start" },
        { "{\"beta_end\": 1e300}", "beta_end" }, { "{\"beta_end\": NaN}", "beta_end" },
            { "{\"num_train_timesteps\": 0}", "num_train_timesteps" },
        { "{\"num_train_timesteps\": 1e9}", "num_train_timesteps" },
            { "{\"beta_schedule\": \"cosine\"}", "beta_schedule: cosine" },
        { "{\"prediction_type\": \"flow\"}", "prediction_type" }, { "{\"timestep_spacing\": 7}", "timestep_spacing" },
        { "{\"trained_betas\": [1]}", "trained_betas: expected a list of 1000" },
        { "{\"num_train_timesteps\": 1, \"trained_betas\": [2]}", "trained_betas: expected numbers" },
        { "{\"num_train_timesteps\": 1, \"trained_betas\": \"x\"}", "trained_betas" },
            { "{\"steps_offset\": -1}", "steps_offset" },
        { "{\"clip_sample\": 1}", "clip_sample" }, { "{\"_class_name\": 5}", "_class_name" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weft_scheduler_config s;
        CHECK(weft_scheduler_config_parse(c, "x", bad[i][0], strlen(bad[i][0]), &s) == WEFT_E_FORMAT);
        CHECK_HAS(weft_message(c), bad[i][1]);
        CHECK(!s.json && !s.trained_betas);
        weft_clear(c);
    }
    weft_ctx_free(c);
}

TEST_MAIN
