/* Nodes on pictures and masks, each alone: against PyTorch and Pillow (tests/golden/make_nodes.py) and against values
 * worked out by hand. */
#include "runtime/safetensors.h"
#include "tests/host_data.h"
#include "tests/node_bed.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/nodes.safetensors"

/* Scaling positions are computed in f32 by PyTorch and here, in another order; values up to 1, weights of bicubic up to
 * 1.4. */
#define SCALED 1e-5
/* One rounding of products and quotients near 1. */
#define ROUNDED 2e-7

static weft_tensor *golden(struct bed *b, weft_safetensors *f, const char *name) {
    const weft_st_entry *e = weft_st_find(f, name);
    if (!e) TEST_FAIL("%s is not in the golden file", name);
    return e ? weft_st_tensor(b->c, f, e) : NULL;
}

static void check_golden(struct bed *b, weft_safetensors *f, const char *name, const weft_value *got,
                         double tolerance) {
    weft_tensor *want = golden(b, f, name);
    if (want) check_tensor(b, name, got->tensor, weft_rank(want), weft_shape(want), host_data(want), tolerance);
}

static const char *const methods[] = { "nearest-exact", "bilinear", "area", "bicubic", "lanczos" };

static void scales(const char *device) {
    struct bed b = bed_new(device);
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    REQUIRE(f);
    weft_tensor *image = golden(&b, f, "image");
    for (int m = 0; m < 5; m++) {
        char name[64];
        weft_value out = { 0 };
        for (int i = 0; i < 4; i++) {
            int h = i < 2 ? 9 : 3, w = i < 2 ? 4 : 11;
            const char *crop = i % 2 ? "center" : "disabled";
            snprintf(name, sizeof name, "ImageScale.%s.%dx%d.%s", methods[m], h, w, crop);
            CHECK_EQ(CALL(&b, "ImageScale", &out, IN_TENSOR("image", image), IN_TEXT("upscale_method", methods[m]),
                          IN_INT("width", w), IN_INT("height", h),
                          IN_TEXT("crop", crop)), WEFT_OK);
            check_golden(&b, f, name, &out, SCALED);
            weft_value_clear(&out);
        }
        snprintf(name, sizeof name, "ImageScaleBy.%s", methods[m]);
        CHECK_EQ(CALL(&b, "ImageScaleBy", &out, IN_TENSOR("image", image), IN_TEXT("upscale_method", methods[m]),
                      IN_FLOAT("scale_by", 1.7)), WEFT_OK);
        check_golden(&b, f, name, &out, SCALED);
        weft_value_clear(&out);
    }
    weft_st_close(f);
    bed_free(&b);
}
TEST(scale_on_the_cpu) { scales("cpu"); }
TEST(scale_by_reference) { scales("reference"); }

TEST(scale_keeps_the_ratio) {
    struct bed b = bed_new("cpu");
    weft_tensor *image = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 5, 7, 3), 0.5);
    /* width, height → height, width */
    static const int sides[][4] = { { 0, 0, 5, 7 }, { 0, 10, 10, 14 }, { 3, 0, 2, 3 }, { 1, 0, 1, 1 } };
    for (int i = 0; i < 4; i++) {
        weft_value out = { 0 };
        CHECK_EQ(CALL(&b, "ImageScale", &out, IN_TENSOR("image", image), IN_TEXT("upscale_method", "area"),
                      IN_INT("width", sides[i][0]),
                      IN_INT("height", sides[i][1])), WEFT_OK);
        CHECK_EQ(weft_dim(out.tensor, 1), sides[i][2]);
        CHECK_EQ(weft_dim(out.tensor, 2), sides[i][3]);
        weft_value_clear(&out);
    }
    CALL_FAILS(&b, "scale_by 0.01", "ImageScaleBy", IN_TENSOR("image", image), IN_FLOAT("scale_by", 0.01));
    CALL_FAILS(&b, "image: expected (N, H, W, channels)", "ImageScale",
               IN_TENSOR("image", weft_scalar(b.c, WEFT_F32, 1)));
    bed_free(&b);
}

/* What comes from 8 bits goes back to the same 8 bits through lanczos of the same size. */
TEST(lanczos_is_exact_in_place) {
    struct bed b = bed_new("cpu");
    float v[256], out_v[256];
    for (int i = 0; i < 256; i++) v[i] = (float)i / 255;
    weft_value out = { 0 };
    CHECK_EQ(CALL(&b, "ImageScaleBy", &out, IN_TENSOR("image", TENSOR(&b, v, 1, 16, 16, 1)),
                  IN_TEXT("upscale_method", "lanczos"), IN_FLOAT("scale_by", 1)), WEFT_OK);
    REQUIRE(!weft_read(b.c, out.tensor, out_v, sizeof out_v));
    CHECK(!memcmp(v, out_v, sizeof v));
    weft_value_clear(&out);
    bed_free(&b);
}

/* ---- pictures ---------------------------------------------------------------------------------------------------- */

TEST(invert_batch_crop) {
    struct bed b = bed_new("cpu");
    static const float v[] = { 0, 0.25f, 1, 0.5f, 0.75f, 0.125f }, inverted[] = { 1, 0.75f, 0, 0.5f, 0.25f, 0.875f };
    weft_tensor *image = TENSOR(&b, v, 1, 1, 2, 3);
    weft_value out = { 0 };
    CHECK_EQ(CALL(&b, "ImageInvert", &out, IN_TENSOR("image", image)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, inverted, 0, 1, 1, 2, 3);
    weft_value_clear(&out);

    static const float both[] = { 0, 0.25f, 1, 0.5f, 0.75f, 0.125f, 1, 1, 1, 1, 1, 1 };
    weft_tensor *white = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 4, 8, 3), 1);
    CHECK_EQ(CALL(&b, "ImageBatch", &out, IN_TENSOR("image1", image), IN_TENSOR("image2", white)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, both, ROUNDED, 2, 1, 2, 3);
    weft_value_clear(&out);
    static const float opaque[] = { 0.5f, 0.5f, 0.5f, 0.5f, 0, 0.25f, 1, 1 };
    CHECK_EQ(CALL(&b, "ImageBatch", &out, IN_TENSOR("image1", weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 1, 1, 4), 0.5)),
                  IN_TENSOR("image2", TENSOR(&b, v, 1, 1, 1, 3))), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, opaque, 0, 2, 1, 1, 4);
    weft_value_clear(&out);

    float grid[3 * 4];
    for (int i = 0; i < 12; i++) grid[i] = (float)i;
    weft_tensor *g = TENSOR(&b, grid, 1, 3, 4, 1);
    static const float part[] = { 5, 6, 9, 10 }, corner[] = { 11 };
    CHECK_EQ(CALL(&b, "ImageCrop", &out, IN_TENSOR("image", g), IN_INT("width", 2), IN_INT("height", 2), IN_INT("x", 1),
                  IN_INT("y", 1)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, part, 0, 1, 2, 2, 1);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "ImageCrop", &out, IN_TENSOR("image", g), IN_INT("width", 9), IN_INT("height", 9),
                  IN_INT("x", 900), IN_INT("y", 900)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, corner, 0, 1, 1, 1, 1);
    weft_value_clear(&out);
    bed_free(&b);
}

TEST(empty_image_has_its_colour) {
    struct bed b = bed_new("cpu");
    static const float want[] = { 1, 128 / 255.f, 0, 1, 128 / 255.f, 0, 1, 128 / 255.f, 0, 1, 128 / 255.f, 0 };
    weft_value out = { 0 };
    CHECK_EQ(CALL(&b, "EmptyImage", &out, IN_INT("width", 2), IN_INT("height", 1), IN_INT("batch_size", 2),
                  IN_INT("color", 0xff8000)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, want, 0, 2, 1, 2, 3);
    weft_value_clear(&out);
    bed_free(&b);
}

TEST(pad_for_outpaint) {
    struct bed b = bed_new("cpu");
    weft_value out[2] = { 0 };
    weft_tensor *image = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 5, 5, 1), 1);
    CHECK_EQ(CALL(&b, "ImagePadForOutpaint", out, IN_TENSOR("image", image), IN_INT("left", 1), IN_INT("top", 0),
                  IN_INT("right", 0), IN_INT("bottom", 1),
                  IN_INT("feathering", 2)), WEFT_OK);
    /* d is the distance to the left edge and, from 1, to the lower one: ((2 − d)/2)². */
    static const float q = 0.25f, grey = 0.5f;
    const float mask[] = { 1, 1, q, 0, 0, 0,  1, 1, q, 0, 0, 0,  1, 1, q, 0, 0, 0,  1, 1, q, 0, 0, 0,  1, 1, q, q, q, q,
                           1, 1, 1, 1, 1, 1 };
    const float pixels[] = { grey, 1, 1, 1, 1, 1,  grey, 1, 1, 1, 1, 1,  grey, 1, 1, 1, 1, 1,  grey, 1, 1, 1, 1, 1,
                             grey, 1, 1, 1, 1, 1,
                             grey, grey, grey, grey, grey, grey };
    CHECK_TENSOR(&b, out[0].tensor, pixels, 0, 1, 6, 6, 1);
    CHECK_TENSOR(&b, out[1].tensor, mask, 0, 1, 6, 6);
    weft_value_clear(&out[0]);
    weft_value_clear(&out[1]);
    static const float hard[] = { 1, 0, 0, 0, 0, 0 };      /* feathering that does not fit is none */
    CHECK_EQ(CALL(&b, "ImagePadForOutpaint", out, IN_TENSOR("image", image), IN_INT("left", 1),
                  IN_INT("feathering", 3)), WEFT_OK);
    CHECK_TENSOR(&b, weft_contiguous(b.c, weft_slice(b.c, out[1].tensor, 1, 0, 1)), hard, 0, 1, 1, 6);
    weft_value_clear(&out[0]);
    weft_value_clear(&out[1]);
    bed_free(&b);
}

/* ---- masks ------------------------------------------------------------------------------------------------------- */

TEST(masks_and_images) {
    struct bed b = bed_new("cpu");
    static const float m[] = { 0, 0.25f, 0.5f, 1 }, image[] = { 0, 0, 0, 0.25f, 0.25f, 0.25f, 0.5f, 0.5f, 0.5f, 1, 1,
                                                                1 };
    weft_tensor *mask = TENSOR(&b, m, 1, 2, 2);
    weft_value out = { 0 };
    CHECK_EQ(CALL(&b, "MaskToImage", &out, IN_TENSOR("mask", mask)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, image, 0, 1, 2, 2, 3);
    weft_value_clear(&out);
    static const float rgba[] = { 1, 2, 3, 4, 5, 6, 7, 8 }, blue[] = { 3, 7 };
    CHECK_EQ(CALL(&b, "ImageToMask", &out, IN_TENSOR("image", TENSOR(&b, rgba, 1, 1, 2, 4)),
                  IN_TEXT("channel", "blue")), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, blue, 0, 1, 1, 2);
    weft_value_clear(&out);
    CALL_FAILS(&b, "channel alpha: the picture has 3 channels", "ImageToMask",
               IN_TENSOR("image", TENSOR(&b, image, 1, 2, 2, 3)), IN_TEXT("channel", "alpha"));
    static const float solid[] = { 0.5f, 0.5f }, inverted[] = { 1, 0.75f, 0.5f, 0 }, above[] = { 0, 0, 0, 1 },
        cut[] = { 0.25f, 1 };
    CHECK_EQ(CALL(&b, "SolidMask", &out, IN_FLOAT("value", 0.5), IN_INT("width", 2), IN_INT("height", 1)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, solid, 0, 1, 1, 2);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "InvertMask", &out, IN_TENSOR("mask", TENSOR(&b, m, 2, 2))), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, inverted, 0, 1, 2, 2);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "ThresholdMask", &out, IN_TENSOR("mask", mask), IN_FLOAT("value", 0.5)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, above, 0, 1, 2, 2);
    weft_value_clear(&out);
    CHECK_EQ(CALL(&b, "CropMask", &out, IN_TENSOR("mask", mask), IN_INT("x", 1), IN_INT("width", 1)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, cut, 0, 1, 2, 1);
    weft_value_clear(&out);
    CALL_FAILS(&b, "outside a mask of 2 × 2", "CropMask", IN_TENSOR("mask", mask), IN_INT("x", 2));
    CALL_FAILS(&b, "mask: expected a mask", "InvertMask", IN_TENSOR("mask", TENSOR(&b, rgba, 1, 1, 2, 4)));
    bed_free(&b);
}

TEST(masks_on_masks) {
    static const struct { const char *operation; float want[4]; } cases[] = {
        { "multiply", { 0.5f, 0.5f, 1, 0.75f * 0.25f } }, { "add", { 0.5f, 0.5f, 1, 1 } },
            { "subtract", { 0.5f, 0.5f, 1, 0.5f } },
        { "and", { 0.5f, 0.5f, 1, 0 } }, { "or", { 0.5f, 0.5f, 1, 1 } }, { "xor", { 0.5f, 0.5f, 1, 1 } } };
    static const float d[] = { 0.5f, 0.5f, 1, 0.75f }, s[] = { 0.25f, 9, 9, 9 };
    struct bed b = bed_new("cpu");
    weft_value out = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_EQ(CALL(&b, "MaskComposite", &out, IN_TENSOR("destination", TENSOR(&b, d, 1, 2, 2)),
                      IN_TENSOR("source", TENSOR(&b, s, 1, 2, 2)), IN_INT("x", 1),
                      IN_INT("y", 1), IN_TEXT("operation", cases[i].operation)), WEFT_OK);
        check_tensor(&b, cases[i].operation, out.tensor, WEFT_SHAPE(1, 2, 2), cases[i].want, 0);
        weft_value_clear(&out);
    }
    CHECK_EQ(CALL(&b, "MaskComposite", &out, IN_TENSOR("destination", TENSOR(&b, d, 1, 2, 2)),
                  IN_TENSOR("source", TENSOR(&b, s, 1, 2, 2)), IN_INT("x", 90)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, d, 0, 1, 2, 2);
    weft_value_clear(&out);
    CALL_FAILS(&b, "2 source masks for 1", "MaskComposite", IN_TENSOR("destination", TENSOR(&b, d, 1, 2, 2)),
               IN_TENSOR("source", TENSOR(&b, s, 2, 1, 2)));
    bed_free(&b);
}

TEST(soft_edges) {
    struct bed b = bed_new("cpu");
    weft_value out = { 0 };
    weft_tensor *ones = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 2, 5), 1);
    /* over 2 pixels from the left, over 4 from the right */
    static const float right[] = { 0.5f, 1, 0.75f, 0.5f, 0.25f,  0.5f, 1, 0.75f, 0.5f, 0.25f };
    CHECK_EQ(CALL(&b, "FeatherMask", &out, IN_TENSOR("mask", ones), IN_INT("left", 2), IN_INT("right", 4)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, right, ROUNDED, 1, 2, 5);
    weft_value_clear(&out);
    static const float top[] = { 0.25f, 0.5f, 0.5f, 0.5f, 0.5f,  0.5f, 1, 1, 1, 1 };
    CHECK_EQ(CALL(&b, "FeatherMask", &out, IN_TENSOR("mask", ones), IN_INT("left", 2), IN_INT("top", 2)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, top, ROUNDED, 1, 2, 5);
    weft_value_clear(&out);
    static const float bottom[] = { 1, 0.5f };              /* more than there is fades over all */
    CHECK_EQ(CALL(&b, "FeatherMask", &out, IN_TENSOR("mask", weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 2, 1), 1)),
                  IN_INT("bottom", 90)), WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, bottom, ROUNDED, 1, 2, 1);
    weft_value_clear(&out);
    bed_free(&b);
}

TEST(grow_and_shrink) {
    struct bed b = bed_new("cpu");
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    REQUIRE(f);
    weft_tensor *mask = golden(&b, f, "mask");
    static const int steps[] = { 1, 3, -2 };
    for (int i = 0; i < 6; i++) {
        char name[64];
        weft_value out = { 0 };
        snprintf(name, sizeof name, "GrowMask.%s.%d", i % 2 ? "square" : "tapered", steps[i / 2]);
        CHECK_EQ(CALL(&b, "GrowMask", &out, IN_TENSOR("mask", mask), IN_INT("expand", steps[i / 2]),
                      IN_BOOL("tapered_corners", i % 2 == 0)), WEFT_OK);
        check_golden(&b, f, name, &out, 0);
        weft_value_clear(&out);
    }
    weft_value out = { 0 };             /* as far as it goes, and no longer */
    static const float point[9] = { [4] = 1 }, all[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    CHECK_EQ(CALL(&b, "GrowMask", &out, IN_TENSOR("mask", TENSOR(&b, point, 1, 3, 3)), IN_INT("expand", 16384)),
             WEFT_OK);
    CHECK_TENSOR(&b, out.tensor, all, 0, 1, 3, 3);
    weft_value_clear(&out);
    weft_st_close(f);
    bed_free(&b);
}

/* ---- primitives -------------------------------------------------------------------------------------------------- */

TEST(primitives) {
    struct bed b = bed_new("cpu");
    weft_value out = { 0 };
    CHECK_EQ(CALL(&b, "PrimitiveInt", &out, IN_INT("value", -7)), WEFT_OK);
    CHECK_EQ(out.i, -7);
    CHECK_EQ(CALL(&b, "PrimitiveFloat", &out, IN_FLOAT("value", 1e-3)), WEFT_OK);
    CHECK_NEAR(out.f, 1e-3, 0);
    CHECK_EQ(CALL(&b, "PrimitiveBoolean", &out, IN_BOOL("value", true)), WEFT_OK);
    CHECK(out.b);
    static const char *const texts[] = { "PrimitiveString", "PrimitiveStringMultiline" };
    for (int i = 0; i < 2; i++) {
        weft_value text = { 0 };
        CHECK_EQ(CALL(&b, texts[i], &text, IN_TEXT("value", "two\nlines")), WEFT_OK);
        CHECK_STR(text.s, "two\nlines");
        CHECK_STR(text.type, "STRING");
        weft_value_clear(&text);
    }
    bed_free(&b);
}

TEST_MAIN
