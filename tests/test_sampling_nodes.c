/* KSampler and its guide on the tiny model, against loops written out here over the UNet itself. */
#include "nodes/loaders/loaders.h"
#include "nodes/sampling/guide.h"
#include "nodes/sampling/sampling.h"
#include "tests/tensors.h"

/* f32 in another order, noise levels in f32, and guidance that multiplies the UNet's error (1e-6 to 1e-5) by twice the
 * scale; 3e-5 was seen. A wrong timestep, level or weight is off by 1e-3 and more. */
#define SAME 2e-4

struct bench {
    weft_ctx *c;
    weft_registry *registry;
    weft_model *model;
    weft_conditioning *positive, *negative;
};

static weft_tensor *text(weft_ctx *c, uint64_t seed, int64_t tokens) {
    return noisy(c, WEFT_F32, seed, WEFT_SHAPE(1, tokens, 64));
}

static weft_cond plain_cond(weft_tensor *context) {
    return (weft_cond){ .context = context, .strength = 1, .mask_strength = 1, .end_percent = 1 };
}

static bool open_bench(struct bench *b, int threads) {
    *b = (struct bench){ .c = weft_ctx_new(&(weft_options){ .threads = threads }) };
    b->registry = weft_nodes_registry(b->c);
    weft_checkpoint *k = weft_checkpoint_make(b->c, "tiny", WEFT_F32, 7);
    if (k) b->model = weft_take_model(b->c, k);
    weft_checkpoint_free(k);
    weft_cond p = plain_cond(text(b->c, 1, 77)), n = plain_cond(text(b->c, 2, 77));
    b->positive = weft_conditioning_new(b->c, 1, &p);
    b->negative = weft_conditioning_new(b->c, 1, &n);
    if (!weft_ok(b->c)) TEST_FAIL("%s", weft_message(b->c));
    return weft_ok(b->c);
}

static void close_bench(struct bench *b) {
    if (b->model) weft_object_unref(&b->model->object);
    if (b->positive) weft_object_unref(&b->positive->object);
    if (b->negative) weft_object_unref(&b->negative->object);
    weft_registry_free(b->registry);
    CLOSE(b->c);
}

static weft_value object(const char *type, void *o) {
    return (weft_value){ .kind = WEFT_PORT_OBJECT, .type = type, .object = o };
}
static weft_value number(double v) { return (weft_value){ .kind = WEFT_PORT_FLOAT, .type = "FLOAT", .f = v }; }
static weft_value whole(int64_t v) { return (weft_value){ .kind = WEFT_PORT_INT, .type = "INT", .i = v }; }
static weft_value word(const char *s) {
    return (weft_value){ .kind = WEFT_PORT_STRING, .type = "STRING", .s = (char *)(uintptr_t)s };
}

struct settings {
    int64_t steps;
    double cfg, denoise;
    const char *sampler, *scheduler;
};

/* KSampler at seed 42; the latent's numbers, malloc'd (NULL with the error set). */
static double *ksample(struct bench *b, weft_latent *latent, struct settings s) {
    const char *names[] = { "model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative",
                            "latent_image", "denoise" };
    weft_value values[] = { object("MODEL", b->model), whole(42), whole(s.steps), number(s.cfg), word(s.sampler),
                            word(s.scheduler), object("CONDITIONING", b->positive),
                            object("CONDITIONING", b->negative), object("LATENT", latent), number(s.denoise) };
    weft_value out = { 0 };
    if (weft_node_call(b->c, b->registry, NULL, "KSampler", names, values, 10, &out)) return NULL;
    double *v = values_of(b->c, ((weft_latent *)out.object)->samples);
    weft_value_clear(&out);
    return v;
}

/* KSamplerAdvanced at seed 42 on the euler method and normal schedule, as a latent. */
static weft_latent *advanced(struct bench *b, weft_latent *latent, bool add, int64_t first, int64_t end, bool leave) {
    const char *names[] = { "model", "add_noise", "noise_seed", "steps", "cfg", "sampler_name", "scheduler",
                            "positive", "negative", "latent_image", "start_at_step", "end_at_step",
                            "return_with_leftover_noise" };
    weft_value values[] = { object("MODEL", b->model), word(add ? "enable" : "disable"), whole(42), whole(4),
                            number(5), word("euler"), word("normal"), object("CONDITIONING", b->positive),
                            object("CONDITIONING", b->negative), object("LATENT", latent), whole(first), whole(end),
                            word(leave ? "enable" : "disable") };
    weft_value out = { 0 };
    if (weft_node_call(b->c, b->registry, NULL, "KSamplerAdvanced", names, values, 13, &out))
        TEST_FAIL("%s", weft_message(b->c));
    return (weft_latent *)out.object;
}

static weft_latent *latent_of(weft_ctx *c, weft_tensor *samples) {
    return weft_latent_new(c, &(weft_latent){ .samples = samples, .downscale = 8 });
}

static weft_latent *empty_latent(weft_ctx *c, int64_t n, int64_t h, int64_t w) {
    return latent_of(c, weft_full(c, WEFT_F32, WEFT_SHAPE(n, h, w, 4), 0));
}

/* ε of the UNet, one text at a time, at a timestep that the caller knows. */
static weft_tensor *epsilon(struct bench *b, weft_tensor *x, double sigma, float t, weft_tensor *context) {
    weft_ctx *c = b->c;
    int64_t n = weft_dim(x, 0);
    context = weft_contiguous(c, weft_broadcast(c, context, WEFT_SHAPE(n, weft_dim(context, 1), 64)));
    weft_unet_inputs in = { .sample = weft_affine(c, x, 1 / sqrt(sigma * sigma + 1), 0),
                            .timesteps = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1), &t), .context = context };
    return weft_unet2d_condition(c, weft_root(b->model->weights->tree), &b->model->config, &in);
}

static void check_same(const double *got, const double *want, int64_t n, double tolerance, int line) {
    double sum = 0, off = 0;
    for (int64_t i = 0; got && want && i < n; i++) {
        sum += want[i] * want[i];
        off = fmax(off, fabs(got[i] - want[i]));
    }
    double rms = sqrt(sum / (double)n);
    if (!got || !want || !(off <= tolerance * rms)) TEST_FAIL("line %d: off by %g of an rms of %g", line, off, rms);
}

static void all_levels(double *levels) {
    double a = 1;
    for (int i = 0; i < 1000; i++) {
        double root = sqrt(0.00085) + i / 999.0 * (sqrt(0.012) - sqrt(0.00085));
        a *= 1 - root * root;
        levels[i] = sqrt((1 - a) / a);
    }
}

/* The normal schedule in three steps: timesteps 999, 499.5, 0. √ of neighbours' product is σ between two timesteps. */
static void three_levels(double *sigma, float *t) {
    double levels[1000];
    all_levels(levels);
    sigma[0] = levels[999];
    sigma[1] = sqrt(levels[499] * levels[500]);
    sigma[2] = levels[0];
    sigma[3] = 0;
    t[0] = 999;
    t[1] = NAN;         /* half-way: rounding decides; the test takes either */
    t[2] = 0;
}

/* Euler in three steps by hand; half: the timestep of the middle level. */
static double *by_hand(struct bench *b, double cfg, float half) {
    weft_ctx *c = b->c;
    double sigma[4];
    float t[3];
    three_levels(sigma, t);
    t[1] = half;
    weft_rng *rng = weft_rng_new(c, WEFT_RNG_CPU, 42);
    weft_tensor *x = weft_to_nhwc(c, weft_randn(c, rng, WEFT_F32, WEFT_SHAPE(2, 4, 8, 6)));
    weft_rng_free(rng);
    x = weft_affine(c, x, sqrt(1 + sigma[0] * sigma[0]), 0);
    for (int i = 0; i < 3; i++) {
        weft_tensor *p = epsilon(b, x, sigma[i], t[i], b->positive->items[0].context);
        weft_tensor *n = epsilon(b, x, sigma[i], t[i], b->negative->items[0].context);
        weft_tensor *e = weft_axpby(c, cfg, p, 1 - cfg, n);
        x = weft_axpby(c, 1, x, sigma[i + 1] - sigma[i], e);
    }
    return values_of(c, weft_affine(c, x, 1 / 0.18215, 0));
}

TEST(ksampler_is_the_loop_by_hand) {
    struct bench b;
    if (!open_bench(&b, 2)) return;
    weft_latent *latent = empty_latent(b.c, 2, 8, 6);
    for (int i = 0; i < 2; i++) {
        double cfg = i ? 1 : 6.5;
        double *got = ksample(&b, latent, (struct settings){ 3, cfg, 1, "euler", "normal" });
        double *low = by_hand(&b, cfg, 499), *high = by_hand(&b, cfg, 500);
        double off_low = 0, off_high = 0;
        for (int k = 0; got && low && high && k < 2 * 8 * 6 * 4; k++) {
            off_low = fmax(off_low, fabs(got[k] - low[k]));
            off_high = fmax(off_high, fabs(got[k] - high[k]));
        }
        check_same(got, off_low < off_high ? low : high, 2 * 8 * 6 * 4, SAME, __LINE__);
        free(got);
        free(low);
        free(high);
    }
    weft_object_unref(&latent->object);
    close_bench(&b);
}

static weft_tensor *noise_at(weft_ctx *c, uint64_t seed) {
    weft_rng *rng = weft_rng_new(c, WEFT_RNG_CPU, seed);
    weft_tensor *x = weft_to_nhwc(c, weft_randn(c, rng, WEFT_F32, WEFT_SHAPE(1, 4, 8, 8)));
    weft_rng_free(rng);
    return x;
}

TEST(fresh_noise_is_of_the_next_seed) {
    struct bench b;
    double levels[1000];
    if (!open_bench(&b, 2)) return;
    all_levels(levels);
    weft_ctx *c = b.c;
    weft_tensor *text = b.positive->items[0].context;
    double top = levels[999], half = levels[499];
    weft_latent *latent = empty_latent(c, 1, 8, 8);
    double *got = ksample(&b, latent, (struct settings){ 2, 1, 1, "lcm", "simple" });
    weft_tensor *x = weft_affine(c, noise_at(c, 42), sqrt(1 + top * top), 0);
    x = weft_axpby(c, 1, x, -top, epsilon(&b, x, top, 999, text));
    x = weft_axpby(c, 1, x, half, noise_at(c, 43));
    x = weft_axpby(c, 1, x, -half, epsilon(&b, x, half, 499, text));
    double *want = values_of(c, weft_affine(c, x, 1 / 0.18215, 0));
    check_same(got, want, 256, SAME, __LINE__);
    free(got);
    free(want);
    weft_object_unref(&latent->object);
    close_bench(&b);
}

TEST(threads_do_not_change_a_byte) {
    double *first = NULL;
    for (int threads = 1; threads <= 3; threads += 2) {
        struct bench b;
        if (!open_bench(&b, threads)) return;
        weft_latent *latent = empty_latent(b.c, 1, 9, 7);
        double *v = ksample(&b, latent, (struct settings){ 2, 7, 1, "euler_ancestral", "karras" });
        REQUIRE(v);
        if (first) CHECK(!memcmp(first, v, 9 * 7 * 4 * sizeof *v));
        else first = v;
        if (first != v) free(v);
        weft_object_unref(&latent->object);
        close_bench(&b);
    }
    free(first);
}

TEST(every_method_ends_in_finite_numbers) {
    struct bench b;
    if (!open_bench(&b, 2)) return;
    weft_latent *latent = empty_latent(b.c, 1, 8, 8);
    for (int i = 0; weft_method_names[i]; i++)
        for (int64_t steps = 1; steps <= 4; steps += 3) {
            double *v = ksample(&b, latent, (struct settings){ steps, 3, 1, weft_method_names[i], "normal" });
            bool fine = v != NULL;
            for (int k = 0; v && k < 256; k++) fine = fine && isfinite(v[k]) && fabs(v[k]) < 1e4;
            if (!fine) TEST_FAIL("%s in %d steps: %s", weft_method_names[i], (int)steps, weft_message(b.c));
            free(v);
        }
    weft_object_unref(&latent->object);
    close_bench(&b);
}

TEST(two_halves_are_the_whole) {
    struct bench b;
    if (!open_bench(&b, 2)) return;
    weft_latent *latent = empty_latent(b.c, 1, 8, 8);
    weft_latent *all = advanced(&b, latent, true, 0, 10000, false), *half = advanced(&b, latent, true, 0, 2, true);
    REQUIRE(all && half);
    weft_latent *rest = advanced(&b, half, false, 2, 10000, false);
    REQUIRE(rest);
    double *got = values_of(b.c, rest->samples), *want = values_of(b.c, all->samples);
    check_same(got, want, 256, SAME, __LINE__);
    free(got);
    free(want);
    weft_object_unref(&all->object);
    weft_object_unref(&half->object);
    weft_object_unref(&rest->object);
    /* a start behind the end, and no denoising: the latent as it was */
    weft_latent *picture = latent_of(b.c, noisy(b.c, WEFT_F32, 3, WEFT_SHAPE(1, 8, 8, 4)));
    want = values_of(b.c, picture->samples);
    weft_latent *same = advanced(&b, picture, true, 3, 2, false);
    REQUIRE(same);
    got = values_of(b.c, same->samples);
    check_same(got, want, 256, 0, __LINE__);
    free(got);
    got = ksample(&b, picture, (struct settings){ 5, 3, 0, "euler", "normal" });
    check_same(got, want, 256, 0, __LINE__);
    free(got);
    free(want);
    weft_object_unref(&same->object);
    weft_object_unref(&picture->object);
    weft_object_unref(&latent->object);
    close_bench(&b);
}

TEST(a_mask_keeps_what_it_does_not_cover) {
    struct bench b;
    if (!open_bench(&b, 2)) return;
    weft_tensor *mask = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 8, 8), 0);
    float *m = weft_data(mask);
    for (int i = 0; i < 64; i++) m[i] = i % 8 < 4;
    weft_tensor *samples = noisy(b.c, WEFT_F32, 3, WEFT_SHAPE(2, 8, 8, 4));
    weft_latent *picture = weft_latent_new(b.c, &(weft_latent){ .samples = samples, .noise_mask = mask });
    double *want = values_of(b.c, samples);
    double *got = ksample(&b, picture, (struct settings){ 3, 3, 0.6, "euler", "karras" });
    REQUIRE(got && want);
    int changed = 0;
    for (int i = 0; i < 2 * 256; i++) {
        if (i / 4 % 8 < 4) changed += fabs(got[i] - want[i]) > 1e-3;
        else CHECK_NEAR(got[i], want[i], 1e-6);     /* scaled and scaled back */
    }
    CHECK(changed > 250);
    free(got);
    free(want);
    weft_object_unref(&picture->object);
    close_bench(&b);
}

TEST(batch_index_picks_an_images_noise) {
    struct bench b;
    if (!open_bench(&b, 2)) return;
    weft_latent *three = empty_latent(b.c, 3, 8, 8);
    int64_t index[2] = { 2, 0 };
    weft_tensor *zeros = weft_full(b.c, WEFT_F32, WEFT_SHAPE(2, 8, 8, 4), 0);
    weft_latent *two = weft_latent_new(b.c, &(weft_latent){ .samples = zeros, .batch_index = index });
    struct settings s = { 2, 4, 1, "euler", "simple" };
    double *all = ksample(&b, three, s), *some = ksample(&b, two, s);
    REQUIRE(all && some);
    check_same(some, all + 512, 256, SAME, __LINE__);
    check_same(some + 256, all, 256, SAME, __LINE__);
    free(all);
    free(some);
    weft_object_unref(&three->object);
    weft_object_unref(&two->object);
    close_bench(&b);
}

static bool stop_at_two(void *user, const char *what, int64_t done, int64_t total) {
    int *calls = user;
    if (strcmp(what, "sample")) return true;
    if (total == 4) ++*calls;
    return done < 2;
}

TEST(progress_and_cancelling) {
    struct bench b;
    if (!open_bench(&b, 2)) return;
    weft_latent *latent = empty_latent(b.c, 1, 8, 8);
    int calls = 0;
    weft_set_progress(b.c, stop_at_two, &calls);
    CHECK(!ksample(&b, latent, (struct settings){ 4, 1, 1, "heun", "normal" }));
    CHECK_STR(weft_status_name(weft_error(b.c)), weft_status_name(WEFT_E_CANCELLED));
    CHECK_EQ(calls, 3);     /* 0, 1, 2 of 4: two evaluations of heun are one step */
    weft_clear(b.c);
    weft_object_unref(&latent->object);
    close_bench(&b);
}

TEST(short_memory_is_an_error_and_leaks_nothing) {
    struct bench b;
    if (!open_bench(&b, 1)) return;
    weft_latent *latent = empty_latent(b.c, 1, 8, 8);
    struct settings s = { 2, 4, 1, "dpm_2_ancestral", "karras" };
    free(ksample(&b, latent, s));       /* packs the weights */
    REQUIRE(weft_ok(b.c));
    weft_memory_trim(b.c);
    size_t live = weft_memory_live(b.c);
    int failed = 0;
    for (size_t more = 0; more < 60000; more += 3001) {
        weft_set_memory_limit(b.c, live + more);
        double *v = ksample(&b, latent, s);
        if (!v) {
            failed++;
            CHECK_STR(weft_status_name(weft_error(b.c)), weft_status_name(WEFT_E_MEMORY));
            weft_clear(b.c);
        }
        free(v);
        weft_memory_trim(b.c);
    }
    CHECK(failed > 5);
    weft_set_memory_limit(b.c, 0);
    weft_object_unref(&latent->object);
    close_bench(&b);
}

TEST(latents_of_other_shapes_are_refused) {
    struct bench b;
    if (!open_bench(&b, 1)) return;
    weft_latent *latent = latent_of(b.c, weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 8, 8, 16), 0));
    CHECK(!ksample(&b, latent, (struct settings){ 1, 1, 1, "euler", "normal" }));
    CHECK_ERROR(b.c, WEFT_E_SHAPE, "latent_image: the model takes latents (N, h, w, 4)");
    weft_object_unref(&latent->object);
    close_bench(&b);
}

TEST_MAIN
