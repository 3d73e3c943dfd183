/* Nodes on latents and conditionings, each alone: against PyTorch and diffusers (tests/golden/make_nodes.py) and values
 * worked out by hand. */
#include "runtime/safetensors.h"
#include "tests/golden_weights.h"
#include "tests/host_data.h"
#include "tests/node_bed.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/nodes.safetensors"
#define VAE_GOLDEN WEFT_SOURCE_DIR "/tests/golden/vae.safetensors"

/* Scaling positions are computed in f32 by PyTorch and here, in another order; bislerp's sines of small angles magnify
 * that a little. */
#define SCALED 2e-5
/* As in tests/test_vae.c: f32 against float64 through a tiny autoencoder, pictures in [0, 1] and latents of about 1. */
#define CODED 5e-5

static weft_tensor *golden(struct bed *b, weft_safetensors *f, const char *name) {
    const weft_st_entry *e = weft_st_find(f, name);
    if (!e) TEST_FAIL("%s is not in the golden file", name);
    return e ? weft_st_tensor(b->c, f, e) : NULL;
}

static void check_golden(struct bed *b, weft_safetensors *f, const char *name, weft_tensor *got, double tolerance) {
    weft_tensor *want = golden(b, f, name);
    if (want) check_tensor(b, name, got, weft_rank(want), weft_shape(want), host_data(want), tolerance);
}

static weft_latent *latent_of(struct bed *b, weft_tensor *samples, weft_tensor *mask, const int64_t *places) {
    return weft_latent_new(b->c, &(weft_latent){ .samples = samples, .noise_mask = mask,
                                                 .batch_index = (int64_t *)places, .downscale = 8 });
}

/* n latents of h × w, 1 channel: value 100·image + 10·row + column. */
static weft_tensor *numbered(struct bed *b, int n, int h, int w) {
    float *v = malloc(sizeof *v * (size_t)(n * h * w));
    for (int i = 0; i < n * h * w; i++) v[i] = (float)(i / (h * w) * 100 + i / w % h * 10 + i % w);
    weft_tensor *t = TENSOR(b, v, n, h, w, 1);
    free(v);
    return t;
}

#define LATENT(v) ((weft_latent *)(v).object)

/* ---- scaling, cutting, laying ------------------------------------------------------------------------------------ */

TEST(upscale) {
    static const char *const methods[] = { "nearest-exact", "bilinear", "area", "bicubic", "bislerp" };
    struct bed b = bed_new("cpu");
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    REQUIRE(f);
    static const int64_t places[] = { 4, 2 };
    weft_latent *l = latent_of(&b, golden(&b, f, "latent"), NULL, places);
    for (int m = 0; m < 5; m++) {
        char name[64];
        weft_value out = { 0 };
        for (int i = 0; i < 2; i++) {
            snprintf(name, sizeof name, "LatentUpscale.%s.%s", methods[m], i ? "center" : "disabled");
            CHECK_EQ(CALL(&b, "LatentUpscale", &out, IN_OBJECT("samples", l), IN_TEXT("upscale_method", methods[m]),
                          IN_INT("width", 64), IN_INT("height", 104),
                          IN_TEXT("crop", i ? "center" : "disabled")), WEFT_OK);
            check_golden(&b, f, name, LATENT(out)->samples, SCALED);
            CHECK_EQ(LATENT(out)->batch_index[0], 4);
            weft_value_clear(&out);
        }
        snprintf(name, sizeof name, "LatentUpscaleBy.%s", methods[m]);
        CHECK_EQ(CALL(&b, "LatentUpscaleBy", &out, IN_OBJECT("samples", l), IN_TEXT("upscale_method", methods[m])),
                 WEFT_OK);
        check_golden(&b, f, name, LATENT(out)->samples, SCALED);
        weft_value_clear(&out);
    }
    /* width, height → height, width */
    static const int sides[][4] = { { 0, 0, 6, 5 }, { 0, 128, 16, 13 }, { 160, 0, 24, 20 }, { 8, 8, 8, 8 } };
    for (int i = 0; i < 4; i++) {
        weft_value out = { 0 };
        CHECK_EQ(CALL(&b, "LatentUpscale", &out, IN_OBJECT("samples", l), IN_TEXT("upscale_method", "area"),
                      IN_INT("width", sides[i][0]),
                      IN_INT("height", sides[i][1])), WEFT_OK);
        CHECK_EQ(weft_dim(LATENT(out)->samples, 1), sides[i][2]);
        CHECK_EQ(weft_dim(LATENT(out)->samples, 2), sides[i][3]);
        weft_value_clear(&out);
    }
    weft_object_unref(&l->object);
    weft_st_close(f);
    bed_free(&b);
}

TEST(crop) {
    struct bed b = bed_new("cpu");
    weft_latent *l = latent_of(&b, numbered(&b, 1, 10, 12), NULL, NULL);
    weft_value out = { 0 };
    CHECK_EQ(CALL(&b, "LatentCrop", &out, IN_OBJECT("samples", l), IN_INT("width", 64), IN_INT("height", 512),
                  IN_INT("x", 16), IN_INT("y", 800)), WEFT_OK);
    weft_tensor *t = LATENT(out)->samples;
    CHECK_EQ(weft_dim(t, 1), 8);
    CHECK_EQ(weft_dim(t, 2), 8);
    CHECK_NEAR(((float *)host_data(t))[0], 22, 0);
    weft_value_clear(&out);
    weft_object_unref(&l->object);
    bed_free(&b);
}

TEST(composite) {
    struct bed b = bed_new("cpu");
    weft_latent *to = latent_of(&b, weft_full(b.c, WEFT_F32, WEFT_SHAPE(2, 3, 4, 1), 0), NULL, NULL);
    weft_latent *from = latent_of(&b, weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 2, 9, 1), 4), NULL, NULL);
    weft_value out = { 0 };
    static const float plain[] = { 0, 0, 0, 0, 0, 4, 4, 4, 0, 4, 4, 4, 0, 0, 0, 0, 0, 4, 4, 4, 0, 4, 4, 4 };
    CHECK_EQ(CALL(&b, "LatentComposite", &out, IN_OBJECT("samples_to", to), IN_OBJECT("samples_from", from),
                  IN_INT("x", 8), IN_INT("y", 8)), WEFT_OK);
    CHECK_TENSOR(&b, LATENT(out)->samples, plain, 0, 2, 3, 4, 1);
    weft_value_clear(&out);
    /* From above (2 rows, fading over 2) and from the left; the right and lower edges are the picture's and do not
     * fade. */
    static const float soft[] = { 0, 0, 0, 0, 0, 1, 2, 2, 0, 2, 4, 4 };
    CHECK_EQ(CALL(&b, "LatentComposite", &out, IN_OBJECT("samples_to", to), IN_OBJECT("samples_from", from),
                  IN_INT("x", 8), IN_INT("y", 8), IN_INT("feather", 16)), WEFT_OK);
    CHECK_TENSOR(&b, weft_contiguous(b.c, weft_slice(b.c, LATENT(out)->samples, 0, 1, 1)), soft, 1e-6, 1, 3, 4, 1);
    weft_value_clear(&out);
    CALL_FAILS(&b, "outside latents of 32 × 24 pixels", "LatentComposite", IN_OBJECT("samples_to", to),
               IN_OBJECT("samples_from", from), IN_INT("x", 32));
    weft_latent *wide = latent_of(&b, weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 2, 2, 4), 4), NULL, NULL);
    CALL_FAILS(&b, "does not go onto samples_to", "LatentComposite", IN_OBJECT("samples_to", to),
               IN_OBJECT("samples_from", wide));
    weft_object_unref(&to->object);
    weft_object_unref(&from->object);
    weft_object_unref(&wide->object);
    bed_free(&b);
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */

TEST(batches) {
    struct bed b = bed_new("cpu");
    static const float masks[] = { 0.25f, 0.5f, 0.75f }, rest[] = { 100, 200 }, rest_masks[] = { 0.5f, 0.75f };
    weft_latent *l = latent_of(&b, numbered(&b, 3, 1, 1), TENSOR(&b, masks, 3, 1, 1), NULL);
    weft_value out = { 0 }, again = { 0 };
    CHECK_EQ(CALL(&b, "LatentFromBatch", &out, IN_OBJECT("samples", l), IN_INT("batch_index", 1), IN_INT("length", 64)),
             WEFT_OK);
    CHECK_TENSOR(&b, LATENT(out)->samples, rest, 0, 2, 1, 1, 1);
    CHECK_TENSOR(&b, LATENT(out)->noise_mask, rest_masks, 0, 2, 1, 1);
    CHECK_EQ(LATENT(out)->batch_index[0], 1);
    CHECK_EQ(LATENT(out)->batch_index[1], 2);
    CHECK_EQ(CALL(&b, "RepeatLatentBatch", &again, IN_OBJECT("samples", LATENT(out)), IN_INT("amount", 2)), WEFT_OK);
    static const float twice[] = { 100, 200, 100, 200 }, twice_masks[] = { 0.5f, 0.75f, 0.5f, 0.75f };
    CHECK_TENSOR(&b, LATENT(again)->samples, twice, 0, 4, 1, 1, 1);
    CHECK_TENSOR(&b, LATENT(again)->noise_mask, twice_masks, 0, 4, 1, 1);
    for (int i = 0; i < 4; i++) CHECK_EQ(LATENT(again)->batch_index[i], i + 1);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "LatentFromBatch", &out, IN_OBJECT("samples", LATENT(again)), IN_INT("batch_index", 63),
                  IN_INT("length", 1)), WEFT_OK);
    CHECK_EQ(LATENT(out)->batch_index[0], 4);
    weft_value_clear(&out);
    weft_value_clear(&again);
    CHECK_EQ(CALL(&b, "RepeatLatentBatch", &out, IN_OBJECT("samples", l), IN_INT("amount", 1)), WEFT_OK);
    CHECK(!LATENT(out)->batch_index);
    weft_value_clear(&out);
    weft_object_unref(&l->object);
    bed_free(&b);
}

TEST(noise_masks) {
    struct bed b = bed_new("cpu");
    static const float m[] = { 0, 1 }, three[] = { 0, 1, 0 };
    weft_latent *l = latent_of(&b, numbered(&b, 3, 2, 2), NULL, NULL);
    weft_value out = { 0 };
    CHECK_EQ(CALL(&b, "SetLatentNoiseMask", &out, IN_OBJECT("samples", l), IN_TENSOR("mask", TENSOR(&b, m, 1, 2))),
             WEFT_OK);
    CHECK_TENSOR(&b, LATENT(out)->noise_mask, m, 0, 1, 1, 2);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "SetLatentNoiseMask", &out, IN_OBJECT("samples", l), IN_TENSOR("mask", TENSOR(&b, m, 2, 1, 1))),
             WEFT_OK);
    CHECK_TENSOR(&b, LATENT(out)->noise_mask, three, 0, 3, 1, 1);
    CHECK(!l->noise_mask);
    weft_value_clear(&out);
    weft_object_unref(&l->object);
    bed_free(&b);
}

/* ---- autoencoder ------------------------------------------------------------------------------------------------- */

static weft_vae *tiny_vae(struct bed *b) {
    weft_vae fields = { 0 };
    weft_safetensors *f = weft_st_open(b->c, VAE_GOLDEN);
    const char *text = f ? weft_st_metadata(f, "config.sd") : NULL;
    if (text && !weft_vae_config_parse(b->c, "config.sd", text, strlen(text), &fields.config))
        fields.weights = weft_weights_new(b->c, golden_tree(b->c, "vae", weft_vae_walk, &fields.config, WEFT_F32),
                                          NULL);
    weft_st_close(f);
    weft_vae *v = fields.weights ? weft_vae_new(b->c, &fields) : NULL;
    if (fields.weights) weft_object_unref(&fields.weights->object);
    if (!v) TEST_FAIL("%s", weft_message(b->c));
    return v;
}

TEST(decode_tiled) {
    struct bed b = bed_new("cpu");
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    weft_vae *v = tiny_vae(&b);
    REQUIRE(f && v);
    weft_set_precision(b.c, WEFT_PRECISION_EXACT);
    weft_latent *l = latent_of(&b, weft_to_nhwc(b.c, golden_input(b.c, "nodes.tiled", 6, WEFT_SHAPE(1, 4, 11, 9))),
                               NULL, NULL);
    weft_value out = { 0 }, whole = { 0 };
    /* an overlap of 64 is cut to a quarter of the tile */
    CHECK_EQ(CALL(&b, "VAEDecodeTiled", &out, IN_OBJECT("samples", l), IN_OBJECT("vae", v), IN_INT("tile_size", 64),
                  IN_INT("overlap", 64)), WEFT_OK);
    check_golden(&b, f, "VAEDecodeTiled", out.tensor, CODED);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "VAEDecode", &whole, IN_OBJECT("samples", l), IN_OBJECT("vae", v)), WEFT_OK);
    CHECK_EQ(CALL(&b, "VAEDecodeTiled", &out, IN_OBJECT("samples", l), IN_OBJECT("vae", v)), WEFT_OK);
    if (whole.tensor && out.tensor) check_tensor(&b, "one tile", out.tensor, weft_rank(whole.tensor),
                                                 weft_shape(whole.tensor), host_data(whole.tensor), 1e-6);
    weft_value_clear(&out);
    weft_value_clear(&whole);
    weft_object_unref(&l->object);
    weft_object_unref(&v->object);
    weft_st_close(f);
    bed_free(&b);
}

/* More pictures than any fixed number; each is the same as alone. */
TEST(decode_many) {
    struct bed b = bed_new("cpu");
    weft_vae *v = tiny_vae(&b);
    REQUIRE(v);
    weft_latent *l = latent_of(&b, weft_full(b.c, WEFT_F32, WEFT_SHAPE(70, 1, 1, 4), 0.5), NULL, NULL);
    weft_value out = { 0 };
    CHECK_EQ(CALL(&b, "VAEDecode", &out, IN_OBJECT("samples", l), IN_OBJECT("vae", v)), WEFT_OK);
    REQUIRE(out.tensor);
    CHECK_EQ(weft_dim(out.tensor, 0), 70);
    const float *p = host_data(out.tensor);
    CHECK(!memcmp(p, p + 69 * 8 * 8 * 3, sizeof *p * 8 * 8 * 3));
    weft_value_clear(&out);
    weft_latent *odd = latent_of(&b, numbered(&b, 1, 2, 2), NULL, NULL);
    CALL_FAILS(&b, "latents of 1 channels; the autoencoder takes 4", "VAEDecode", IN_OBJECT("samples", odd),
               IN_OBJECT("vae", v));
    CALL_FAILS(&b, "pictures of 8 × 8 and more", "VAEEncode",
               IN_TENSOR("pixels", weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 7, 9, 3), 0)), IN_OBJECT("vae", v));
    weft_object_unref(&odd->object);
    weft_object_unref(&l->object);
    weft_object_unref(&v->object);
    bed_free(&b);
}

TEST(encode_for_inpaint) {
    struct bed b = bed_new("cpu");
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    weft_vae *v = tiny_vae(&b);
    REQUIRE(f && v);
    weft_set_precision(b.c, WEFT_PRECISION_EXACT);
    static const int grow[] = { 0, 5, 6 };
    for (int i = 0; i < 3; i++) {
        char name[64];
        weft_value out = { 0 };
        CHECK_EQ(CALL(&b, "VAEEncodeForInpaint", &out, IN_TENSOR("pixels", golden(&b, f, "VAEEncodeForInpaint.pixels")),
                      IN_OBJECT("vae", v),
                      IN_TENSOR("mask", golden(&b, f, "VAEEncodeForInpaint.mask")), IN_INT("grow_mask_by", grow[i])),
                          WEFT_OK);
        REQUIRE(out.object);
        snprintf(name, sizeof name, "VAEEncodeForInpaint.noise_mask.%d", grow[i]);
        check_golden(&b, f, name, LATENT(out)->noise_mask, 0);
        check_golden(&b, f, "VAEEncodeForInpaint.samples", LATENT(out)->samples, CODED);
        weft_value_clear(&out);
    }
    weft_object_unref(&v->object);
    weft_st_close(f);
    bed_free(&b);
}

/* ---- conditionings ----------------------------------------------------------------------------------------------- */

#define COND(v) ((weft_conditioning *)(v).object)

static weft_conditioning *conditioning_of(struct bed *b, weft_tensor *context, weft_tensor *pooled) {
    return weft_conditioning_new(b->c, 1, &(weft_cond){ .context = context, .pooled = pooled, .strength = 1,
                                                        .mask_strength = 1, .end_percent = 1 });
}

TEST(conditionings_joined) {
    struct bed b = bed_new("cpu");
    static const float x[] = { 1, 2, 3, 4 }, y[] = { 5, 6 }, p[] = { 1, 0 }, q[] = { 3, 8 };
    weft_conditioning *one = conditioning_of(&b, TENSOR(&b, x, 1, 2, 2), TENSOR(&b, p, 1, 2)),
        *two = conditioning_of(&b, TENSOR(&b, y, 1, 1, 2), TENSOR(&b, q, 1, 2));
    weft_conditioning *odd = conditioning_of(&b, TENSOR(&b, x, 1, 1, 4), NULL);
    weft_value out = { 0 };
    CHECK_EQ(CALL(&b, "ConditioningCombine", &out, IN_OBJECT("conditioning_1", one), IN_OBJECT("conditioning_2", two)),
             WEFT_OK);
    CHECK_EQ(COND(out)->count, 2);
    CHECK(COND(out)->items[1].context == two->items[0].context);
    weft_value_clear(&out);
    static const float joined[] = { 1, 2, 3, 4, 5, 6 };
    CHECK_EQ(CALL(&b, "ConditioningConcat", &out, IN_OBJECT("conditioning_to", one),
                  IN_OBJECT("conditioning_from", two)), WEFT_OK);
    CHECK_TENSOR(&b, COND(out)->items[0].context, joined, 0, 1, 3, 2);
    CHECK(COND(out)->items[0].pooled == one->items[0].pooled);
    weft_value_clear(&out);
    static const float mixed[] = { 4, 5, 0.75f, 1 }, pooled[] = { 2.5f, 6 }, cut[] = { 2, 3 };
    CHECK_EQ(CALL(&b, "ConditioningAverage", &out, IN_OBJECT("conditioning_to", one),
                  IN_OBJECT("conditioning_from", two), IN_FLOAT("conditioning_to_strength", 0.25)), WEFT_OK);
    CHECK_TENSOR(&b, COND(out)->items[0].context, mixed, 1e-6, 1, 2, 2);
    CHECK_TENSOR(&b, COND(out)->items[0].pooled, pooled, 1e-6, 1, 2);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "ConditioningAverage", &out, IN_OBJECT("conditioning_to", two),
                  IN_OBJECT("conditioning_from", one), IN_FLOAT("conditioning_to_strength", 0.25)), WEFT_OK);
    CHECK_TENSOR(&b, COND(out)->items[0].context, cut, 1e-6, 1, 1, 2);
    weft_value_clear(&out);
    CALL_FAILS(&b, "do not go together", "ConditioningConcat", IN_OBJECT("conditioning_to", one),
               IN_OBJECT("conditioning_from", odd));
    CALL_FAILS(&b, "do not go together", "ConditioningAverage", IN_OBJECT("conditioning_to", one),
               IN_OBJECT("conditioning_from", odd));
    weft_object_unref(&one->object);
    weft_object_unref(&two->object);
    weft_object_unref(&odd->object);
    bed_free(&b);
}

TEST(conditionings_narrowed) {
    struct bed b = bed_new("cpu");
    static const float x[] = { 1, 2 }, zeros[] = { 0, 0 };
    weft_conditioning *k = conditioning_of(&b, TENSOR(&b, x, 1, 1, 2), TENSOR(&b, x, 1, 2));
    weft_value out = { 0 };
    CHECK_EQ(CALL(&b, "ConditioningSetTimestepRange", &out, IN_OBJECT("conditioning", k), IN_FLOAT("start", 0.25),
                  IN_FLOAT("end", 0.5)), WEFT_OK);
    CHECK_NEAR(COND(out)->items[0].start_percent, 0.25, 0);
    CHECK_NEAR(COND(out)->items[0].end_percent, 0.5, 0);
    CHECK_NEAR(k->items[0].end_percent, 1, 0);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "ConditioningSetArea", &out, IN_OBJECT("conditioning", k), IN_INT("width", 64),
                  IN_INT("height", 72), IN_INT("x", 80), IN_INT("y", 88),
                  IN_FLOAT("strength", 0.5)), WEFT_OK);
    const weft_cond *a = COND(out)->items;
    CHECK(a->has_area && a->area_width == 8 && a->area_height == 9 && a->area_x == 10 && a->area_y == 11);
    CHECK_NEAR(a->strength, 0.5, 0);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "ConditioningSetMask", &out, IN_OBJECT("conditioning", k), IN_TENSOR("mask", TENSOR(&b, x, 1, 2)),
                  IN_FLOAT("strength", 0.75),
                  IN_TEXT("set_cond_area", "mask bounds")), WEFT_OK);
    CHECK_TENSOR(&b, COND(out)->items[0].mask, x, 0, 1, 1, 2);
    CHECK_NEAR(COND(out)->items[0].mask_strength, 0.75, 0);
    CHECK(COND(out)->items[0].mask_bounds && !k->items[0].mask);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "ConditioningZeroOut", &out, IN_OBJECT("conditioning", k)), WEFT_OK);
    CHECK_TENSOR(&b, COND(out)->items[0].context, zeros, 0, 1, 1, 2);
    CHECK_TENSOR(&b, COND(out)->items[0].pooled, zeros, 0, 1, 2);
    weft_value_clear(&out);
    weft_object_unref(&k->object);
    bed_free(&b);
}

TEST_MAIN
