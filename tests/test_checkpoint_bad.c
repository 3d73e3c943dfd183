/* Checkpoints that are none, or broken, or of another model: every one gives an error that says what is wrong, and
 * leaks nothing. */
#include "nodes/checkpoint/checkpoint.h"
#include "tests/checkpoint_files.h"

static weft_ctx *context(void) {
    return weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1 });
}

/* Opening fails with this code and these words; nothing stays. */
static void expect(weft_ctx *c, const char *path, unsigned need, weft_status status, const char *const *words) {
    weft_checkpoint *k = weft_checkpoint_open(c, path, need, need ? 0 : WEFT_PARTS_ALL);
    if (k) TEST_FAIL("%s was opened: %s", path, k->why);
    CHECK_STR(weft_status_name(weft_error(c)), weft_status_name(status));
    for (; *words; words++) CHECK_HAS(weft_message(c), *words);
    CHECK(!strchr(weft_message(c), '\n'));
    weft_checkpoint_free(k);
    weft_clear(c);
    CHECK_EQ(weft_memory_live(c), 0);
}
#define EXPECT(c, path, need, status, ...) expect(c, path, need, status, (const char *const[]){ __VA_ARGS__, NULL })

/* ---- files that are something else ------------------------------------------------------------------------------ */

/* A file of one small f32 tensor of this name. */
static void write_one(weft_ctx *c, const char *path, const char *name, int rank, const int64_t *shape) {
    weft_scope s = weft_scope_named(c, "write");
    weft_st_item item = { name, weft_full(c, WEFT_F32, rank, shape, 1), WEFT_F32 };
    if (weft_st_write(c, path, &item, 1, NULL)) TEST_FAIL("%s", weft_message(c));
    weft_scope_end(c, s, NULL);
}

TEST(other_kinds) {
    static const char *const kinds[][2] = {
        { "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "a LoRA" },
        { "unet.down_blocks.0.attentions.0.to_q.lora_A.weight", "a LoRA" },
        { "text_model.encoder.layers.0.self_attn.to_q_lora.down.weight", "a LoRA" },
        { "emb_params", "an embedding" }, { "clip_g", "an embedding" },
        { "control_model.input_blocks.0.0.weight", "a ControlNet" },
        { "controlnet_cond_embedding.conv_in.weight", "a ControlNet" },
        { "conditioner.embedders.1.model.ln_final.weight", "Stable Diffusion XL" },
        { "model.diffusion_model.label_emb.0.0.weight", "Stable Diffusion XL" },
        { "add_embedding.linear_1.weight", "Stable Diffusion XL" },
        { "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3" },
        { "double_blocks.0.img_attn.qkv.weight", "Flux" },
        { "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "a motion module" },
        { "image_proj.proj.weight", "an IP-Adapter" },
        { "vision_model.post_layernorm.weight", "a CLIP vision encoder" },
        { "body.0.rdb1.conv1.weight", "an upscaler" }, { "some.tensor", "holds no text encoder, UNet or autoencoder" },
    };
    weft_ctx *c = context();
    const char *folder = new_folder();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/x.safetensors", folder);
        write_one(c, path, kinds[i][0], WEFT_SHAPE(2, 3));
        EXPECT(c, path, 0, WEFT_E_FORMAT, path, kinds[i][1]);
    }
    drop_folder(folder);
    weft_ctx_free(c);
}

TEST(part_for_whole) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    char path[128];
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    REQUIRE(write_file(c, path, (struct file_options){ .family = "sd1", .parts = WEFT_PART_VAE,
                                                       .layout = LAYOUT_LDM | LAYOUT_NO_PREFIX, .type = WEFT_F16 }));
    EXPECT(c, path, WEFT_PARTS_ALL, WEFT_E_FORMAT, "lacks what is needed: text encoder, UNet", "it holds: autoencoder");
    EXPECT(c, path, WEFT_PART_UNET, WEFT_E_FORMAT, "it holds: autoencoder");
    drop_folder(folder);
    weft_ctx_free(c);
}

static void put_bytes(const char *path, const void *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, size, f) == size && !fclose(f));
}

TEST(pickles_and_others) {
    static const struct { const char *name, *bytes; size_t size; const char *word; } files[] = {
        { "a.ckpt", "PK\3\4aaaaaaaaaaaaaaaa", 20, "convert it to .safetensors" },
        { "a.pt", "\x80\2}q\0.aaaaaaaaaaaaa", 20, "convert it to .safetensors" },
        { "a.bin", "", 0, "convert it to .safetensors" },
        { "a.safetensors", "PK\3\4aaaaaaaaaaaaaaaa", 20, "is a pickle" },
        { "b.safetensors", "\x80\2}q\0.aaaaaaaaaaaaa", 20, "is a pickle" },
        { "c.gguf", "GGUF\3\0\0\0aaaaaaaaaaaa", 20, "is a GGUF file" },
        { "d.safetensors", "", 0, "d.safetensors" },
        { "e.safetensors", "<!DOCTYPE html><html>", 21, "e.safetensors" },
        { "f.safetensors", "\x02\0\0\0\0\0\0\0{}", 10, "holds no" },
    };
    weft_ctx *c = context();
    const char *folder = new_folder();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        put_bytes(path, files[i].bytes, files[i].size);
        EXPECT(c, path, 0, WEFT_E_FORMAT, files[i].word);
    }
    EXPECT(c, "/nowhere/at/all.safetensors", 0, WEFT_E_FILE, "/nowhere/at/all.safetensors");
    EXPECT(c, "/dev/null", 0, WEFT_E_FILE, "/dev/null");
    CHECK(!mkfifo(in(folder, "pipe.safetensors"), 0600));
    EXPECT(c, in(folder, "pipe.safetensors"), 0, WEFT_E_FILE, "pipe.safetensors");
    drop_folder(folder);
    weft_ctx_free(c);
}

TEST(wrong_arguments) {
    weft_ctx *c = context();
    EXPECT(c, NULL, 1, WEFT_E_ARGUMENT, "a path and a set of parts are needed");
    EXPECT(c, "x", 8, WEFT_E_ARGUMENT, "a path and a set of parts are needed");
    CHECK(!weft_checkpoint_open(c, "x", 0, 0));
    weft_clear(c);
    weft_checkpoint_free(NULL);
    weft_scheduler_config_free(NULL);
    weft_ctx_free(c);
}

/* ---- weights that do not fit ------------------------------------------------------------------------------------ */

TEST(lacking_and_misshapen) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    struct file_options o = { .family = "sd1", .parts = WEFT_PARTS_ALL, .layout = LAYOUT_LDM, .type = WEFT_F16,
                              .without = "resnets.1.norm1.bias" };
    char path[128];
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    REQUIRE(write_file(c, path, o));
    EXPECT(c, path, WEFT_PARTS_ALL, WEFT_E_PARAMS, path,
           "unet: parameters do not fit: 9 missing: down_blocks.0.resnets.1.norm1.bias",
           "vae: parameters do not fit: 10 missing");
    /* All parts tell: of the text encoder one, of the UNet one. */
    o.without = "layers.1.mlp.fc1.weight";
    o.misshape = "mid_block.resnets.0.conv1.bias";
    REQUIRE(write_file(c, path, o));
    EXPECT(c, path, WEFT_PARTS_ALL, WEFT_E_PARAMS,
           "text_encoder: parameters do not fit: 1 missing: encoder.layers.1.mlp.fc1.weight",
           "unet: parameters do not fit: 1 misshapen: mid_block.resnets.0.conv1.bias has the shape (97), "
           "expected (96)");
    /* Also the tensors that the configuration is taken from. */
    static const char *const told_by[] = { "conv_in.weight", "down_blocks.1.resnets.0.conv1.weight",
                                           "time_embedding.linear_1.weight", "conv_out.weight",
                                           "downsamplers.0.conv", "upsamplers.0.conv", "token_embedding.weight" };
    for (size_t i = 0; i < sizeof told_by / sizeof *told_by; i++) {
        o.without = told_by[i];
        o.misshape = NULL;
        REQUIRE(write_file(c, path, o));
        EXPECT(c, path, WEFT_PARTS_ALL, WEFT_E_PARAMS, told_by[i]);
    }
    drop_folder(folder);
    weft_ctx_free(c);
}

TEST(parts_of_two_models) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    REQUIRE(write_folder(c, folder, (struct file_options){ .family = "sd1", .parts = WEFT_PARTS_ALL,
                                                           .type = WEFT_F16 }));
    REQUIRE(write_folder(c, folder, (struct file_options){ .family = "sd2", .parts = WEFT_PART_UNET,
                                                           .type = WEFT_F16 }));
    EXPECT(c, folder, WEFT_PARTS_ALL, WEFT_E_FORMAT, "do not go together", "takes texts of width 64", "gives 128");
    drop_folder(folder);
    weft_ctx_free(c);
}

/* ---- folders ---------------------------------------------------------------------------------------------------- */

TEST(broken_folders) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    EXPECT(c, folder, 0, WEFT_E_FILE,
           "no model here; looked for model_index.json, config.json, text_encoder/, unet/, vae/");
    put_text(folder, "config.json", "{\"_class_name\": \"UNet3DConditionModel\"}");
    EXPECT(c, folder, 0, WEFT_E_FORMAT, "UNet3DConditionModel", "UNet2DConditionModel");
    put_text(folder, "config.json", "{\"_class_name\": \"UNet2DConditionModel\"}");
    EXPECT(c, folder, 0, WEFT_E_FILE,
           "diffusion_pytorch_model.safetensors, diffusion_pytorch_model.safetensors.index.json, "
           "diffusion_pytorch_model.fp16.safetensors");
    EXPECT(c, folder, WEFT_PARTS_ALL, WEFT_E_FORMAT,
           "is the folder of the UNet alone; also needed: text encoder, autoencoder");
    EXPECT(c, folder, WEFT_PART_VAE, WEFT_E_FORMAT, "is the folder of the UNet alone");
    put_text(folder, "diffusion_pytorch_model.bin", "\x80\2}q");
    EXPECT(c, folder, 0, WEFT_E_FORMAT, "diffusion_pytorch_model.bin", "is a pickle");
    put_text(folder, "diffusion_pytorch_model.safetensors", "no");
    EXPECT(c, folder, 0, WEFT_E_FORMAT, "diffusion_pytorch_model.safetensors");
    write_one(c, in(folder, "diffusion_pytorch_model.safetensors"), "x.lora_A.weight", WEFT_SHAPE(1));
    EXPECT(c, folder, 0, WEFT_E_FORMAT, "holds no UNet; looks like a LoRA");
    drop_folder(folder);
    weft_ctx_free(c);
}

TEST(broken_indices) {
    static const char *const bad[][2] = {
        { "{}", "weight_map" }, { "{\"weight_map\": {}}", "weight_map" },
        { "{\"weight_map\": {\"a\": 1}}", "weight_map" },
        { "{\"weight_map\": {\"a\": \"../x.safetensors\"}}", "in the same folder" },
        { "{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "in the same folder" },
        { "{\"weight_map\": {\"a\": \"gone.safetensors\"}}", "gone.safetensors" }, { "[", ":1:" }, { "", "index.json" },
    };
    weft_ctx *c = context();
    const char *folder = new_folder();
    put_text(folder, "config.json", "{\"_class_name\": \"UNet2DConditionModel\"}");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text(folder, "diffusion_pytorch_model.safetensors.index.json", bad[i][0]);
        weft_status status = i == 5 ? WEFT_E_FILE : WEFT_E_FORMAT;
        EXPECT(c, folder, 0, status, bad[i][1]);
    }
    drop_folder(folder);
    weft_ctx_free(c);
}

TEST(other_pipelines) {
    static const char *const bad[][2] = {
        { "{\"_class_name\": \"StableDiffusionXLPipeline\"}", "Stable Diffusion XL, which Weft does not read yet" },
        { "{\"_class_name\": \"Own\", \"text_encoder_2\": [\"transformers\", \"CLIPTextModelWithProjection\"]}",
          "two text encoders" },
        { "{\"_class_name\": \"FluxPipeline\"}", "Flux" },
        { "{\"_class_name\": \"Own\", \"transformer\": [\"a\", \"b\"]}", "transformer" },
        { "{\"_class_name\": \"StableDiffusion3Pipeline\"}", "Stable Diffusion 3" }, { "[1]", "expected an object" },
        { "{\"_class_name\": 3}", "_class_name" },
    };
    weft_ctx *c = context();
    const char *folder = new_folder();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text(folder, "model_index.json", bad[i][0]);
        EXPECT(c, folder, 0, WEFT_E_FORMAT, "model_index.json", bad[i][1]);
    }
    /* A pipeline without text: the part that is needed is not there. */
    put_text(folder, "model_index.json",
             "{\"_class_name\": \"DDPMPipeline\", \"unet\": [\"diffusers\", \"UNet3DConditionModel\"]}");
    mkdir(in(folder, "unet"), 0755);
    EXPECT(c, folder, WEFT_PARTS_ALL, WEFT_E_FILE, "lacks the text encoder, autoencoder; looked for");
    put_text(folder, "unet/config.json", "{\"_class_name\": \"UNet3DConditionModel\"}");
    write_one(c, in(folder, "unet/diffusion_pytorch_model.safetensors"), "time_embedding.linear_1.weight",
              WEFT_SHAPE(2, 2));
    EXPECT(c, folder, WEFT_PART_UNET, WEFT_E_FORMAT, "unet/config.json: _class_name: UNet3DConditionModel is not supported");
    drop_folder(folder);
    weft_ctx_free(c);
}

TEST(broken_configs) {
    static const struct { const char *file, *text, *word; } bad[] = {
        { "unet/config.json", "{\"block_out_channels\": [32, \"a\"]}", "block_out_channels" },
        { "unet/config.json", "{\"block_out_channels\": [33, 64, 96, 96]}", "norm_num_groups" },
        { "unet/config.json", "", "unet/config.json" },
        { "unet/config.json",
          "{\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 8, "
          "\"projection_class_embeddings_input_dim\": 72}", "XL" },
        { "vae/config.json", "{\"latent_channels\": -1}", "latent_channels" },
        { "text_encoder/config.json", "{\"hidden_size\": 1e99}", "hidden_size" },
        { "scheduler/scheduler_config.json", "{\"beta_start\": 2}", "scheduler_config.json: beta_start" },
        { "tokenizer/vocab.json", "{\"a\": \"b\"}", "tokenizer/" },
    };
    weft_ctx *c = context();
    const char *folder = new_folder();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char dir[128];
        REQUIRE(write_folder(c, folder, (struct file_options){ .family = "sd2", .parts = WEFT_PARTS_ALL,
                                                               .type = WEFT_F16 }));
        snprintf(dir, sizeof dir, "%s/%.*s", folder, (int)strcspn(bad[i].file, "/"), bad[i].file);
        mkdir(dir, 0755);
        put_text(folder, bad[i].file, bad[i].text);
        weft_checkpoint *k = weft_checkpoint_open(c, folder, WEFT_PARTS_ALL, 0);
        CHECK(!k);
        CHECK_HAS(weft_message(c), bad[i].word);
        weft_checkpoint_free(k);
        weft_clear(c);
        unlink(in(folder, bad[i].file));
    }
    CHECK_EQ(weft_memory_live(c), 0);
    drop_folder(folder);
    weft_ctx_free(c);
}

TEST(folder_without_config) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    REQUIRE(write_folder(c, folder, (struct file_options){ .family = "sd2", .parts = WEFT_PART_UNET,
                                                           .type = WEFT_F16 }));
    unlink(in(folder, "unet/config.json"));
    EXPECT(c, folder, WEFT_PART_UNET, WEFT_E_FILE, "unet: config.json is missing");
    drop_folder(folder);
    weft_ctx_free(c);
}

/* ---- files cut and scribbled on --------------------------------------------------------------------------------- */

/* The header of a small checkpoint, damaged at one place after another: an error or another model, never a crash. */
TEST(damaged_headers) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    char path[128];
    struct stat st;
    uint64_t state = 7;
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    REQUIRE(write_file(c, path, (struct file_options){ .family = "sd2", .parts = WEFT_PART_UNET, .layout = LAYOUT_LDM,
                                                       .type = WEFT_F16 }));
    REQUIRE(!stat(path, &st));
    char *bytes = malloc((size_t)st.st_size);
    FILE *f = fopen(path, "rb");
    REQUIRE(bytes && f && fread(bytes, 1, (size_t)st.st_size, f) == (size_t)st.st_size && !fclose(f));
    uint64_t header;
    memcpy(&header, bytes, sizeof header);
    int opened = 0;
    for (int i = 0; i < 300; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t at = 8 + (size_t)((state >> 33) % header);
        /* A digit stays one: names and shapes then change, and the JSON stays whole. */
        char old = bytes[at], byte = old >= '0' && old <= '9' ? (char)('0' + (state >> 20) % 10) : (char)(state >> 25);
        if (i % 2 && !(old >= '0' && old <= '9')) continue;
        bytes[at] = byte;
        f = fopen(path, "r+b");
        REQUIRE(f && !fseek(f, (long)at, SEEK_SET) && fputc((unsigned char)byte, f) != EOF && !fclose(f));
        weft_checkpoint *k = weft_checkpoint_open(c, path, WEFT_PART_UNET, 0);
        opened += k != NULL;
        CHECK(k || weft_message(c)[0]);
        weft_checkpoint_free(k);
        weft_clear(c);
        bytes[at] = old;
        f = fopen(path, "r+b");
        REQUIRE(f && !fseek(f, (long)at, SEEK_SET) && fputc((unsigned char)old, f) != EOF && !fclose(f));
    }
    CHECK(opened < 100);
    CHECK(!truncate(path, st.st_size - 1));
    EXPECT(c, path, 0, WEFT_E_FORMAT, path);
    CHECK_EQ(weft_memory_live(c), 0);
    free(bytes);
    drop_folder(folder);
    weft_ctx_free(c);
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

/* Opening takes none of the counted memory; the first use then meets the limit. */
TEST(memory_limit) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    char path[128];
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    REQUIRE(write_file(c, path, (struct file_options){ .family = "sd1", .parts = WEFT_PART_VAE, .layout = LAYOUT_LDM,
                                                       .type = WEFT_F16 }));
    weft_memory_trim(c);
    weft_set_memory_limit(c, 100000);
    weft_checkpoint *k = weft_checkpoint_open(c, path, WEFT_PART_VAE, 0);
    if (!k) { TEST_FAIL("%s", weft_message(c)); return; }
    weft_scope s = weft_scope_named(c, "case");
    CHECK(!weft_vae_decode(c, weft_root(k->vae), &k->vae_config, weft_full(c, WEFT_F32, WEFT_SHAPE(1, 4, 4, 4), 0)));
    CHECK_EQ(weft_error(c), WEFT_E_MEMORY);
    weft_scope_end(c, s, NULL);
    weft_clear(c);
    weft_checkpoint_free(k);
    CHECK_EQ(weft_memory_live(c), 0);
    drop_folder(folder);
    weft_ctx_free(c);
}

static bool stop_at_once(void *user, const char *what, int64_t done, int64_t total) {
    CHECK_STR(what, "load");
    CHECK(done >= 1 && done <= total);
    return --*(int *)user > 0;
}

TEST(cancel) {
    weft_ctx *c = context();
    const char *folder = new_folder();
    char path[128];
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    REQUIRE(write_file(c, path, (struct file_options){ .family = "sd2", .parts = WEFT_PARTS_ALL, .layout = LAYOUT_LDM,
                                                       .type = WEFT_F16 }));
    for (int stop = 1; stop <= 3; stop++) {
        int left = stop;
        weft_set_progress(c, stop_at_once, &left);
        CHECK(!weft_checkpoint_open(c, path, WEFT_PARTS_ALL, 0));
        CHECK_EQ(weft_error(c), WEFT_E_CANCELLED);
        weft_set_progress(c, NULL, NULL);
        weft_clear(c);
    }
    CHECK_EQ(weft_memory_live(c), 0);
    drop_folder(folder);
    weft_ctx_free(c);
}

TEST_MAIN
