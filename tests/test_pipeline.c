/* Text to picture through stage nodes against diffusers' pipeline, KSampler under a mask against ComfyUI's rules
 * written out, AddNoise and Loss against PyTorch: tests/golden/make_pipeline.py. */
#include "nodes/loaders/loaders.h"
#include "tests/checkpoint_files.h"
#include "tests/host_data.h"
#include "tests/node_bed.h"

#define PIPELINE WEFT_SOURCE_DIR "/tests/golden/pipeline.safetensors"
#define IN_ANY(n, v) (struct in){ n, v }

/* Of the rms. A UNet in f32 is off by 1e-6, guidance of 5 multiplies that; 3e-6 was seen. One timestep away is 1e-2. */
#define LATENTS 2e-5
/* The decoder in f32 on such latents; 1/255 is 4e-3, 1e-6 was seen. */
#define PICTURE 1e-5
/* The three images' losses in f32: sums of 40 numbers. */
#define LOSSES 2e-6

static weft_tensor *golden(weft_ctx *c, weft_safetensors *f, const char *name) {
    const weft_st_entry *e = weft_st_find(f, name);
    if (!e) TEST_FAIL("the golden file has no %s", name);
    return e ? weft_st_tensor(c, f, e) : NULL;
}

/* got against numbers `at` images further on in want. */
static void compare(struct bed *b, const char *what, int at, weft_tensor *got, weft_tensor *want, double tolerance) {
    int64_t n = weft_count(got);
    float *v = malloc(sizeof *v * (size_t)n + 1);
    const float *w = host_data(want);
    if (!got || !w || weft_read(b->c, got, v, sizeof *v * (size_t)n) != WEFT_OK) TEST_FAIL("%s: %s", what,
                                                                                           weft_message(b->c));
    else {
        struct test_distance d = test_compare_f32(v, w + at * n, n);
        if (!(d.rms <= tolerance && d.max <= 20 * tolerance))
            TEST_FAIL("%s %d: off by %.3g rms, %.3g at the most", what, at, d.rms, d.max);
    }
    free(v);
}

static void drop(weft_value *v, int n) {
    for (int i = 0; i < n; i++) weft_value_clear(&v[i]);
}

/* ---- the pipeline ------------------------------------------------------------------------------------------------ */

struct pipeline {
    struct bed b;
    weft_safetensors *f;
    weft_model *model;
    weft_clip *clip;
    weft_vae *vae;
};

static bool open_pipeline(struct pipeline *p) {
    const char *folder = new_folder();
    p->b = bed_new("cpu");
    p->f = weft_st_open(p->b.c, PIPELINE);
    struct file_options o = { .family = "sd1", .parts = WEFT_PARTS_ALL, .type = WEFT_F32 };
    bool written = p->f && write_folder(p->b.c, folder, o);
    mkdir(in(folder, "scheduler"), 0755);
    put_text(folder, "scheduler/scheduler_config.json",
             "{\"_class_name\": \"PNDMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": "
             "\"scaled_linear\", \"skip_prk_steps\": true, \"steps_offset\": 1}");
    weft_checkpoint *k = written ? weft_checkpoint_open(p->b.c, folder, WEFT_PARTS_ALL, 0) : NULL;
    if (k) {
        p->model = weft_take_model(p->b.c, k);
        p->clip = weft_take_clip(p->b.c, k);
        p->vae = weft_take_vae(p->b.c, k);
    }
    weft_checkpoint_free(k);
    drop_folder(folder);
    if (!p->model || !p->clip || !p->vae) TEST_FAIL("%s", weft_message(p->b.c));
    return p->model && p->clip && p->vae;
}

static void close_pipeline(struct pipeline *p) {
    if (p->model) weft_object_unref(&p->model->object);
    if (p->clip) weft_object_unref(&p->clip->object);
    if (p->vae) weft_object_unref(&p->vae->object);
    weft_st_close(p->f);
    bed_free(&p->b);
}

/* Contexts (2, 77, 128) of both prompts, and (1, 77, 128) of none. */
static void encode(struct pipeline *p, weft_value *texts, weft_value *none) {
    struct bed *b = &p->b;
    weft_tensor *ids = weft_cast(b->c, golden(b->c, p->f, "ids"), WEFT_I32), *given = ids;
    for (int i = 0; p->clip->tokenizer && i < 3; i++) {
        char key[16];
        weft_value out[2] = { 0 };
        snprintf(key, sizeof key, "prompt.%d", i);
        CHECK_EQ(CALL(b, "Tokenize", out, IN_OBJECT("clip", p->clip), IN_TEXT("text", weft_st_metadata(p->f, key))),
                 WEFT_OK);
        CHECK_EQ(out[1].i, 0);
        CHECK(!memcmp(host_data(out[0].tensor), (int32_t *)host_data(given) + 77 * i, 77 * sizeof(int32_t)));
        drop(out, 2);
    }
    weft_value out[2] = { 0 };
    weft_tensor *prompts = weft_contiguous(b->c, weft_slice(b->c, ids, 0, 0, 2));
    weft_tensor *empty = weft_contiguous(b->c, weft_slice(b->c, ids, 0, 2, 1));
    CHECK_EQ(CALL(b, "TextEncode", out, IN_OBJECT("clip", p->clip), IN_TENSOR("ids", prompts)), WEFT_OK);
    *texts = out[0];
    weft_value_clear(&out[1]);
    CHECK_EQ(CALL(b, "TextEncode", out, IN_OBJECT("clip", p->clip), IN_TENSOR("ids", empty)), WEFT_OK);
    *none = out[0];
    weft_value_clear(&out[1]);
}

/* Scheduler steps from pure noise; x at the end, each step held against want. */
static weft_value sample(struct pipeline *p, const weft_value *tables, weft_value texts, weft_value none,
                         const char *name,
                         weft_tensor *want) {
    struct bed *b = &p->b;
    weft_value noise[2] = { 0 }, x = { 0 }, state = { 0 };
    CALL(b, "Noise", noise, IN_INT("seed", 7), IN_INT("width", 48), IN_INT("height", 64), IN_INT("batch_size", 2));
    CALL(b, "AddNoise", &x, IN_ANY("scheduler", tables[0]), IN_ANY("noise", noise[0]));
    state = noise[1];
    weft_value_clear(&noise[0]);
    CHECK_EQ(tables[5].i, weft_dim(want, 0));
    for (int i = 0; weft_ok(b->c) && i < tables[5].i; i++) {
        weft_value scaled[3] = { 0 }, said[2] = { 0 }, mixed = { 0 }, next[3] = { 0 };
        CALL(b, "ScaleModelInput", scaled, IN_ANY("scheduler", tables[0]), IN_ANY("sample", x), IN_INT("step", i));
        CALL(b, "UNetStep", said, IN_OBJECT("model", p->model), IN_ANY("sample", scaled[0]),
             IN_ANY("timestep", scaled[1]), IN_ANY("context", texts), IN_ANY("uncond_context", none));
        CALL(b, "CFGMix", &mixed, IN_ANY("cond", said[0]), IN_ANY("uncond", said[1]), IN_FLOAT("scale", 5));
        CALL(b, "SchedulerStep", next, IN_ANY("scheduler", tables[0]), IN_INT("step", i), IN_ANY("prediction", mixed),
             IN_ANY("sample", x), IN_ANY("state", state));
        drop(scaled, 3);
        drop(said, 2);
        drop(&mixed, 1);
        drop(&x, 1);
        drop(&state, 1);
        x = next[0];
        state = next[2];
        weft_value_clear(&next[1]);
        if (x.tensor) compare(b, name, i, x.tensor, want, LATENTS);
    }
    weft_value_clear(&state);
    return x;
}

static void run_pipeline(struct pipeline *p, const char *name, const char *scheduler, const char *sigmas) {
    struct bed *b = &p->b;
    char key[32];
    weft_value tables[6] = { 0 }, texts, none, x, latent = { 0 }, image = { 0 };
    encode(p, &texts, &none);
    CALL(b, "Scheduler", tables, IN_OBJECT("model", p->model), IN_TEXT("scheduler", scheduler), IN_INT("steps", 5),
         IN_TEXT("sigmas", sigmas));
    snprintf(key, sizeof key, "%s.x", name);
    x = sample(p, tables, texts, none, name, golden(b->c, p->f, key));
    CALL(b, "TensorToLatent", &latent, IN_ANY("tensor", x), IN_OBJECT("model", p->model));
    CALL(b, "VAEDecode", &image, IN_ANY("samples", latent), IN_OBJECT("vae", p->vae));
    snprintf(key, sizeof key, "%s.image", name);
    if (image.tensor) compare(b, key, 0, image.tensor, golden(b->c, p->f, key), PICTURE);
    CHECK_STR(weft_message(b->c), "");
    drop(tables, 6);
    drop(&texts, 1);
    drop(&none, 1);
    drop(&x, 1);
    drop(&latent, 1);
    drop(&image, 1);
}

TEST(text_to_picture) {
    struct pipeline p = { 0 };
    if (open_pipeline(&p)) {
        run_pipeline(&p, "pndm", "model", "model");
        run_pipeline(&p, "dpm", "dpmsolver_multistep", "karras");
    }
    close_pipeline(&p);
}

/* ---- masks ----------------------------------------------------------------------------------------------------- */

static weft_model *masked_model(weft_ctx *c, int channels) {
    weft_safetensors *names = weft_st_open(c, GOLDEN);
    const char *json = weft_st_metadata(names, "config.sd1.unet");
    weft_model m = { .latent_scale = 0.18215, .scheduler = weft_scheduler_config_sd(WEFT_PREDICTION_EPSILON) };
    if (weft_unet_config_parse(c, "unet", json, strlen(json), &m.config)) TEST_FAIL("%s", weft_message(c));
    m.config.in_channels = channels;
    weft_tree *tree = golden_tree(c, "unet", weft_unet_walk, &m.config, WEFT_F32);
    m.weights = tree ? weft_weights_new(c, tree, NULL) : NULL;
    weft_model *out = m.weights ? weft_model_new(c, &m) : NULL;
    if (m.weights) weft_object_unref(&m.weights->object);
    weft_st_close(names);
    return out;
}

static weft_conditioning *given_text(weft_ctx *c, const char *name) {
    weft_cond k = { .context = golden_input(c, name, 6, WEFT_SHAPE(1, 77, 128)), .strength = 1, .mask_strength = 1,
                    .end_percent = 1 };
    return weft_conditioning_new(c, 1, &k);
}

static void run_masked(int channels) {
    struct bed b = bed_new("cpu");
    weft_ctx *c = b.c;
    weft_safetensors *f = weft_st_open(c, PIPELINE);
    weft_model *model = masked_model(c, channels);
    weft_conditioning *positive = given_text(c, "mask.positive"), *negative = given_text(c, "mask.negative");
    weft_tensor *mask = weft_unary(c, WEFT_UNARY_ABS, golden_input(c, "mask.mask", 7, WEFT_SHAPE(1, 9, 6)));
    weft_latent *latent = weft_latent_new(c, &(weft_latent){ .downscale = 8,
        .samples = weft_to_nhwc(c, golden_input(c, "mask.latent", 6, WEFT_SHAPE(2, 4, 6, 4))) });
    weft_value masked = { 0 }, out = { 0 };
    char key[32];
    snprintf(key, sizeof key, "mask.%d.out", channels);
    if (model && latent) {
        CALL(&b, "SetLatentNoiseMask", &masked, IN_OBJECT("samples", latent), IN_TENSOR("mask", mask));
        CALL(&b, "KSampler", &out, IN_OBJECT("model", model), IN_INT("seed", 3), IN_INT("steps", 4), IN_FLOAT("cfg", 4),
             IN_TEXT("sampler_name", "euler"), IN_TEXT("scheduler", "normal"), IN_OBJECT("positive", positive),
             IN_OBJECT("negative", negative), IN_ANY("latent_image", masked), IN_FLOAT("denoise", 0.8));
    }
    if (out.object) compare(&b, key, 0, ((weft_latent *)out.object)->samples, golden(c, f, key), LATENTS);
    else TEST_FAIL("%s", weft_message(c));
    drop(&masked, 1);
    drop(&out, 1);
    if (model) weft_object_unref(&model->object);
    weft_object_unref(&positive->object);
    weft_object_unref(&negative->object);
    weft_object_unref(&latent->object);
    weft_st_close(f);
    bed_free(&b);
}

TEST(redrawn_under_a_mask) {
    run_masked(4);
    run_masked(9);
}

/* ---- training -------------------------------------------------------------------------------------------------- */

TEST(losses) {
    static const char *const targets[] = { "epsilon", "v_prediction", "sample" };
    static const char *const kinds[] = { "mse", "l1", "huber", "smooth_l1" };
    static const char *const weightings[] = { "none", "snr", "min_snr" };
    struct bed b = bed_new("cpu");
    weft_ctx *c = b.c;
    weft_safetensors *f = weft_st_open(c, PIPELINE);
    weft_tensor *given[3];
    for (int i = 0; i < 3; i++) {
        const char *name = (const char *[]){ "loss.clean", "loss.noise", "loss.said" }[i];
        given[i] = weft_affine(c, weft_to_nhwc(c, golden_input(c, name, 5, WEFT_SHAPE(3, 4, 5, 2))), 0.5, 0);
    }
    weft_tensor *t = weft_tensor_from(c, WEFT_I64, WEFT_SHAPE(3), (const int64_t[]){ 0, 417, 999 });
    weft_value tables[6] = { 0 }, noised = { 0 };
    CHECK_EQ(CALL(&b, "Scheduler", tables, IN_TEXT("scheduler", "ddpm"), IN_INT("steps", 10),
                  IN_TEXT("beta_schedule", "scaled_linear"), IN_FLOAT("beta_start", 0.00085), IN_FLOAT("beta_end",
                                                                                                       0.012)),
             WEFT_OK);
    CHECK_EQ(CALL(&b, "AddNoise", &noised, IN_ANY("scheduler", tables[0]), IN_TENSOR("noise", given[1]),
                  IN_TENSOR("samples", given[0]), IN_TENSOR("timesteps", t)), WEFT_OK);
    compare(&b, "noised", 0, noised.tensor, golden(c, f, "noised"), LOSSES);
    for (int i = 0; i < 36; i++) {
        char key[64];
        weft_value out[3] = { 0 };
        const char *target = targets[i / 12], *kind = kinds[i / 3 % 4], *weighting = weightings[i % 3];
        snprintf(key, sizeof key, "loss.%s.%s.%s", target, kind, weighting);
        CHECK_EQ(CALL(&b, "Loss", out, IN_TENSOR("prediction", given[2]), IN_ANY("scheduler", tables[0]),
                      IN_TENSOR("clean", given[0]), IN_TENSOR("noise", given[1]), IN_TENSOR("timesteps", t),
                      IN_TEXT("target", target), IN_TEXT("loss", kind), IN_FLOAT("delta", 0.7),
                      IN_TEXT("weighting", weighting)), WEFT_OK);
        weft_tensor *want = golden(c, f, key), *four[2] = { out[1].tensor, weft_reshape(c, out[0].tensor,
                                                                                        WEFT_SHAPE(1)) };
        compare(&b, key, 0, weft_concat(c, 0, 2, four), want, LOSSES);
        if (!i || i == 12 || i == 24)
            compare(&b, "target", 0, out[2].tensor,
                    i == 12 ? golden(c, f, "velocity") : given[i ? 0 : 1], LOSSES);
        drop(out, 3);
    }
    drop(tables, 6);
    drop(&noised, 1);
    weft_st_close(f);
    bed_free(&b);
}

TEST_MAIN
