/* A whole training run against diffusers' (tests/golden/make_curve.py): twenty steps of a tiny UNet2DModel with AdamW,
 * clipping, a cosine schedule with warm-up and moving averages, by the program and a script as users write them. */
#include "runtime/safetensors.h"
#include "tests/run_program.h"
#include "tests/tensors.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/curve"

/* Relative. What is expected was computed in f64. A loss in f32 is good to some 1e-7 at the first step, and every step
 * after it trains on weights that the roundings before it moved; 1.2e-7 was seen (norms: 4e-7), and a step left out,
 * or a wrong factor of the schedule, is off by 1e-3 and more. */
#define LOSS_NEAR 2e-6
#define NORM_NEAR 1e-5

static double golden(weft_safetensors *f, const char *name, int i) {
    const weft_st_entry *e = weft_st_find(f, name);
    double value = NAN;
    if (e && (size_t)(i + 1) * sizeof value <= e->bytes)
        memcpy(&value, (const char *)e->data + (size_t)i * sizeof value, sizeof value);
    return value;
}

static void check_value(const char *what, int step, double got, double want, double near) {
    if (!(fabs(got / want - 1) <= near))
        TEST_FAIL("%s of step %d: %.9g, expected %.9g: off by %.2g, allowed %.2g", what, step, got, want,
                  got / want - 1, near);
}

static void compare(const char *threads) {
    struct run *r = WEFT("/tmp", WEFT_SOURCE_DIR "/tests/lua/curve.lua", GOLDEN, "tiny", GOLDEN "/data.safetensors",
                         threads);
    if (r->status) TEST_FAIL("status %d: %s", r->status, r->err);
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN "/data.safetensors");
    REQUIRE(f);
    const char *line = r->out;
    double loss, norm;
    int step, steps = 0, length;
    for (; sscanf(line, "%d %lf %lf\n%n", &step, &loss, &norm, &length) == 3; line += length) {
        CHECK_EQ(step, ++steps);
        check_value("the loss", step, loss, golden(f, "loss", step - 1), LOSS_NEAR);
        check_value("the norm", step, norm, golden(f, "norm", step - 1), NORM_NEAR);
    }
    CHECK_EQ(steps, 20);
    CHECK_EQ(sscanf(line, "average %lf", &loss), 1);
    check_value("the averaged model's loss", steps, loss, golden(f, "average", 0), LOSS_NEAR);
    weft_st_close(f);
    CLOSE(c);
}

TEST(one_thread) { compare("1"); }
TEST(two_threads) { compare("2"); }

TEST_MAIN
