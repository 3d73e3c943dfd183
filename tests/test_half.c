/* The small model's picture in 16 bits on a device, against the CPU's in f32: six steps of euler with guidance, the same graph. */
#include "nodes/image/picture.h"
#include "tests/model_folders.h"
#include "tests/run_program.h"
#include "tests/tensors.h"

#define MODELS WEFT_SOURCE_DIR "/examples/models"
#define GRAPH WEFT_SOURCE_DIR "/graphs/shapes.json"

/* The graph's picture on a device in a type, drawn into a folder of the type's name. */
static weft_tensor *drawn(weft_ctx *c, const char *top, const char *device, const char *type) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s/shapes_00001_.png", top, type);
    struct run *r = WEFT(top, "run", GRAPH, "--models", MODELS, "--output", type, "--set", "5.steps=6", "--device", device, "--dtype", type);
    if (r->status) TEST_FAIL("%s %s: %s", device, type, r->err);
    return weft_cast(c, weft_picture_load(c, path), WEFT_F32);
}

/* 30 dB: no difference that an eye finds. */
TEST(picture_in_each_type) {
    static const char *const types[] = { "f16", "bf16" };
    const char *top = new_folder();
    weft_ctx *c = open_device("cpu");
    weft_tensor *want = drawn(c, top, "cpu", "f32");
    REQUIRE(want);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        weft_tensor *got = drawn(c, top, test_cuda(), types[i]);
        if (!got) { TEST_FAIL("%s", weft_message(c)); break; }
        weft_tensor *d = weft_subtract(c, got, want);
        const double error = weft_item(c, weft_reduce_all(c, WEFT_REDUCE_MEAN, weft_mul(c, d, d))), psnr = 20 * log10(255) - 10 * log10(error);
        printf("    %s: %.1f dB\n", types[i], psnr);
        CHECK(psnr >= 30);
        CHECK(error > 0);       /* it was computed in another type */
    }
    CLOSE(c);
    drop_folder(top);
}

TEST_MAIN
