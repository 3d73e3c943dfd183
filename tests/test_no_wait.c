/* A sampling loop on a device waits for nothing: between its first step and its last, whatever the method, no value comes back to the
 * host and nobody asks for the queue's end. Counted by a back end that is the device's own but for three functions.
 */
#include "nodes/sampling/sampling.h"
#include "nodes/unet/unet2d_condition.h"
#include "tests/node_bed.h"

enum { STEPS = 3, MOST_BLOCKS = 4096 };

static weft_kernels counting_kernels;
static const weft_kernels *device;
static struct block { const char *p; size_t bytes; } blocks[MOST_BLOCKS];
static int waits, waits_at_first, waits_at_last, reports;

static void *counted_alloc(void *stream, size_t bytes) {
    void *p = device->mem_alloc(stream, bytes);
    for (int i = 0; i < MOST_BLOCKS && p; i++)
        if (!blocks[i].p) return blocks[i] = (struct block){ p, bytes }, p;
    return p;
}

static void counted_free(void *stream, void *p, size_t bytes) {
    for (int i = 0; i < MOST_BLOCKS; i++)
        if (blocks[i].p == p) blocks[i].p = NULL;
    device->mem_free(stream, p, bytes);
}

static bool is_device(const void *p) {
    for (int i = 0; i < MOST_BLOCKS; i++)
        if (blocks[i].p && (const char *)p >= blocks[i].p && (const char *)p < blocks[i].p + blocks[i].bytes) return true;
    return false;
}

static int counted_copy(const weft_env *env, void *dst, const void *src, size_t bytes) {
    waits += !is_device(dst);
    return device->mem_copy(env, dst, src, bytes);
}

static int counted_wait(const weft_env *env) {
    waits++;
    return device->wait(env);
}

static bool told(void *user, const char *what, int64_t done, int64_t total) {
    (void)user;
    if (strcmp(what, "sample")) return true;
    reports++;
    if (done == 1) waits_at_first = waits;
    if (done == total) waits_at_last = waits;
    return true;
}

/* The device's context with the counting back end in its place; memory that is had later goes through it. */
static struct bed open_counted(void) {
    struct bed b = bed_new(test_cuda());
    if (!weft_ok(b.c)) TEST_FAIL("%s", weft_message(b.c));
    device = b.c->kernels;
    counting_kernels = *device;
    counting_kernels.mem_alloc = counted_alloc;
    counting_kernels.mem_free = counted_free;
    counting_kernels.mem_copy = counted_copy;
    counting_kernels.wait = counted_wait;
    b.c->kernels = &counting_kernels;
    weft_set_progress(b.c, told, NULL);
    return b;
}

static weft_model *tiny_model(weft_ctx *c, double cfg_rescale) {
    weft_model fields = { .family = WEFT_FAMILY_SD1, .prediction = WEFT_PREDICTION_V, .latent_scale = 0.18215, .cfg_rescale = cfg_rescale,
                          .scheduler = weft_scheduler_config_sd(WEFT_PREDICTION_V),
                          .config = { .in_channels = 4, .out_channels = 4, .blocks = 2, .channels = { 32, 32 }, .layers = { 1, 1 },
                                      .down_attention = { true }, .up_attention = { false, true }, .mid = WEFT_UNET_MID_RESNET,
                                      .heads = { 4, 4 }, .depth = { 1, 1 }, .context = 16, .norm_groups = 8, .norm_eps = 1e-5,
                                      .downsample_padding = 1, .conv_in_kernel = 3, .conv_out_kernel = 3, .flip_sin_to_cos = true } };
    weft_tree *t = weft_tree_new(c, "unet");
    if (t) weft_tree_make(t, WEFT_F32, 3);
    if (t) weft_tree_set_frozen(t, true);
    if (t && weft_tree_check(c, t, weft_unet_walk, &fields.config, false)) TEST_FAIL("%s", weft_message(c));
    fields.weights = weft_weights_new(c, t, NULL);
    weft_model *model = weft_model_new(c, &fields);
    if (fields.weights) weft_object_unref(&fields.weights->object);
    return model;
}

static weft_value text(struct bed *b, uint64_t seed) {
    weft_value out = { 0 };
    weft_rng *rng = weft_rng_new(b->c, WEFT_RNG_CPU, seed);
    CALL(b, "TensorToConditioning", &out, IN_TENSOR("context", weft_randn(b->c, rng, WEFT_F32, WEFT_SHAPE(1, 7, 16))));
    weft_rng_free(rng);
    return out;
}

static void sample(struct bed *b, weft_model *model, const char *method) {
    weft_value positive = text(b, 1), negative = text(b, 2), out = { 0 };
    weft_latent *latent = weft_latent_new(b->c, &(weft_latent){ .samples = weft_full(b->c, WEFT_F32, WEFT_SHAPE(2, 4, 2, 4), 0), .downscale = 8 });
    reports = waits_at_first = 0;
    waits_at_last = -1;
    CALL(b, "KSampler", &out, IN_OBJECT("model", model), IN_INT("seed", 42), IN_INT("steps", STEPS), IN_FLOAT("cfg", 5),
         IN_TEXT("sampler_name", method), IN_TEXT("scheduler", "karras"), (struct in){ "positive", positive }, (struct in){ "negative", negative },
         IN_OBJECT("latent_image", latent), IN_FLOAT("denoise", 1));
    if (!weft_ok(b->c)) TEST_FAIL("%s: %s", method, weft_message(b->c));
    CHECK_EQ(reports, STEPS + 1);
    if (waits_at_last != waits_at_first) TEST_FAIL("%s waits %d times in %d steps", method, waits_at_last - waits_at_first, STEPS);
    weft_object_unref(&latent->object);
    weft_value_clear(&positive);
    weft_value_clear(&negative);
    weft_value_clear(&out);
}

/* Also that the counting counts: a value that is read is one. */
TEST(no_method_waits) {
    struct bed b = open_counted();
    weft_model *model = tiny_model(b.c, 0), *rescaled = tiny_model(b.c, 0.7);
    REQUIRE(model && rescaled);
    int count = 0;
    while (weft_method_names[count]) count++;
    for (int i = 0; i < count && !test_failures; i += on_gpu() ? 1 : 3)      /* an emulated device takes a second for each */
        sample(&b, model, weft_method_names[i]);
    sample(&b, rescaled, "euler");
    const int before = waits;
    CHECK(weft_item(b.c, weft_full(b.c, WEFT_F32, WEFT_SHAPE(1), 3)) == 3);
    CHECK_EQ(waits, before + 1);
    CHECK(!weft_wait(b.c));
    CHECK_EQ(waits, before + 2);
    weft_object_unref(&model->object);
    weft_object_unref(&rescaled->object);
    bed_free(&b);
}

TEST_MAIN
