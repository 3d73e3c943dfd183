/* The guide's prediction at one level against the UNet itself and arithmetic written out here. */
#include "nodes/sampling/guide.h"
#include "tests/tensors.h"

/* The UNet in batches of another size (1e-6 to 1e-5, times twice the guidance scale of up to 5). */
#define SAME 2e-4
#define H 16
#define W 12
#define LEVEL 700       /* the timestep, and so the level, of every evaluation here */

struct bench {
    weft_ctx *c;
    weft_model *model;
    weft_tensor *x;             /* (1, H, W, 4) */
    double sigma;
};

static bool open_bench(struct bench *b, weft_prediction prediction, int channels) {
    static const weft_unet_config tiny = {
        .in_channels = 4, .out_channels = 4, .blocks = 2, .channels = { 32, 32 }, .layers = { 1, 1 },
        .down_attention = { true, false }, .up_attention = { false, true }, .mid = WEFT_UNET_MID_RESNET,
        .heads = { 4, 4 }, .depth = { 1, 1 }, .context = 16, .norm_groups = 8, .norm_eps = 1e-5,
        .downsample_padding = 1, .conv_in_kernel = 3, .conv_out_kernel = 3, .flip_sin_to_cos = true };
    *b = (struct bench){ .c = open_device("cpu") };
    weft_model fields = { .config = tiny, .family = WEFT_FAMILY_SD1, .prediction = prediction, .latent_scale = 0.18215,
                          .scheduler = weft_scheduler_config_sd(prediction) };
    fields.config.in_channels = channels;
    weft_tree *t = weft_tree_new(b->c, "unet");
    if (t) weft_tree_make(t, WEFT_F32, 3);
    if (t && weft_tree_check(b->c, t, weft_unet_walk, &fields.config, false)) TEST_FAIL("%s", weft_message(b->c));
    fields.weights = weft_weights_new(b->c, t, NULL);
    b->model = weft_model_new(b->c, &fields);
    if (fields.weights) weft_object_unref(&fields.weights->object);
    weft_sigma_table table;
    if (!b->model || !weft_model_sigmas(b->c, b->model, &table)) {
        TEST_FAIL("%s", weft_message(b->c));
        return false;
    }
    b->sigma = table.sigmas[LEVEL];
    weft_sigma_table_free(&table);
    b->x = weft_affine(b->c, noisy(b->c, WEFT_F32, 9, WEFT_SHAPE(1, H, W, 4)), 4, 0);
    return true;
}

static void close_bench(struct bench *b) {
    weft_object_unref(&b->model->object);
    CLOSE(b->c);
}

static weft_cond cond(struct bench *b, uint64_t seed, int64_t tokens) {
    return (weft_cond){ .context = noisy(b->c, WEFT_F32, seed, WEFT_SHAPE(1, tokens, 16)), .strength = 1,
                        .mask_strength = 1, .end_percent = 1 };
}

static weft_cond area(weft_cond k, int64_t x, int64_t y, int64_t w, int64_t h, double strength) {
    k.has_area = true;
    k.area_x = x;
    k.area_y = y;
    k.area_width = w;
    k.area_height = h;
    k.strength = strength;
    return k;
}

/* What the guide makes of these texts; malloc'd, NULL with the error set. */
static double *guide(struct bench *b, int np, const weft_cond *p, int nn, const weft_cond *n, double cfg,
                     weft_tensor *mask) {
    weft_conditioning *positive = weft_conditioning_new(b->c, np, p), *negative = weft_conditioning_new(b->c, nn, n);
    weft_guide g;
    double *out = NULL;
    weft_tensor *noise = noisy(b->c, WEFT_F32, 20, WEFT_SHAPE(1, H, W, 4));
    weft_tensor *latent = noisy(b->c, WEFT_F32, 21, WEFT_SHAPE(1, H, W, 4));
    if (weft_guide_make(b->c, b->model, positive, negative, cfg, latent, noise, mask, &g)) {
        out = values_of(b->c, weft_guide_denoise(b->c, &g, b->x, b->sigma));
        weft_guide_free(&g);
    }
    weft_object_unref(&positive->object);
    weft_object_unref(&negative->object);
    return out;
}

/* x₀ of one text in a window of x. */
static double *predict(struct bench *b, weft_tensor *x, const weft_cond *k, int64_t wx, int64_t wy, int64_t w, int64_t h,
                       weft_tensor *behind) {
    weft_ctx *c = b->c;
    double s = b->sigma * b->sigma + 1;
    float t = LEVEL;
    x = weft_contiguous(c, weft_slice(c, weft_slice(c, x, 1, wy, h), 2, wx, w));
    weft_tensor *scaled = weft_affine(c, x, 1 / sqrt(s), 0);
    if (behind) scaled = weft_concat2(c, 3, scaled, behind);
    weft_unet_inputs in = { .sample = scaled, .timesteps = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1), &t),
                            .context = k->context };
    weft_tensor *out = weft_unet2d_condition(c, weft_root(b->model->weights->tree), &b->model->config, &in);
    double *o = values_of(c, out), *v = values_of(c, x);
    for (int64_t i = 0; o && v && i < h * w * 4; i++) {
        if (b->model->prediction == WEFT_PREDICTION_V) v[i] = v[i] / s - o[i] * b->sigma / sqrt(s);
        else if (b->model->prediction == WEFT_PREDICTION_EPSILON) v[i] -= b->sigma * o[i];
        else v[i] = o[i];
    }
    free(o);
    return v;
}

static double *predict_all(struct bench *b, const weft_cond *k) { return predict(b, b->x, k, 0, 0, W, H, NULL); }

static void check_same(double *got, double *want, int line) {
    double sum = 0, off = 0;
    for (int i = 0; got && want && i < H * W * 4; i++) {
        sum += want[i] * want[i];
        off = fmax(off, fabs(got[i] - want[i]));
    }
    double rms = sqrt(sum / (H * W * 4));
    if (!got || !want || !(off <= SAME * rms)) TEST_FAIL("line %d: off by %g of an rms of %g", line, off, rms);
    free(got);
    free(want);
}

TEST(guidance_on_each_kind_of_prediction) {
    static const weft_prediction kinds[] = { WEFT_PREDICTION_EPSILON, WEFT_PREDICTION_V, WEFT_PREDICTION_SAMPLE };
    for (int k = 0; k < 3; k++)
        for (int tokens = 7; tokens <= 14; tokens += 7) {      /* of one length: one batch; of two: one after the other */
            struct bench b;
            if (!open_bench(&b, kinds[k], 4)) return;
            weft_cond p = cond(&b, 1, 7), n = cond(&b, 2, tokens);
            double *want = predict_all(&b, &p), *minus = predict_all(&b, &n);
            for (int i = 0; want && minus && i < H * W * 4; i++) want[i] = minus[i] + 5 * (want[i] - minus[i]);
            check_same(guide(&b, 1, &p, 1, &n, 5, NULL), want, __LINE__);
            check_same(guide(&b, 1, &p, 1, &n, 1, NULL), predict_all(&b, &p), __LINE__);
            check_same(guide(&b, 1, &p, 1, &n, 0, NULL), predict_all(&b, &n), __LINE__);
            free(minus);
            close_bench(&b);
        }
}

static bool count_runs(void *user, const char *what, int64_t done, int64_t total) {
    *(int *)user += !strcmp(what, "unet") && done == total;
    return true;
}

TEST(texts_of_one_length_are_one_batch) {
    struct bench b;
    if (!open_bench(&b, WEFT_PREDICTION_EPSILON, 4)) return;
    for (int tokens = 7; tokens <= 14; tokens += 7) {
        int runs = 0;
        weft_cond p = cond(&b, 1, 7), n = cond(&b, 2, tokens);
        weft_set_progress(b.c, count_runs, &runs);
        free(guide(&b, 1, &p, 1, &n, 5, NULL));
        CHECK_EQ(runs, tokens / 7);
        runs = 0;
        free(guide(&b, 1, &p, 1, &n, 1, NULL));
        CHECK_EQ(runs, 1);
    }
    close_bench(&b);
}

static double deviation(const double *v) {
    double mean = 0, sum = 0;
    for (int i = 0; i < H * W * 4; i++) mean += v[i] / (H * W * 4);
    for (int i = 0; i < H * W * 4; i++) sum += (v[i] - mean) * (v[i] - mean);
    return sqrt(sum);
}

TEST(a_models_own_betas_make_its_levels) {
    struct bench b;
    weft_sigma_table t;
    double betas[1000];
    if (!open_bench(&b, WEFT_PREDICTION_EPSILON, 4)) return;
    for (int i = 0; i < 1000; i++) betas[i] = 0.01;
    weft_model fields = *b.model;
    fields.scheduler.trained_betas = betas;
    weft_model *own = weft_model_new(b.c, &fields);
    betas[1] = 0.5;         /* the model has a copy */
    REQUIRE(own && weft_model_sigmas(b.c, own, &t));
    for (int i = 0; i < 1000; i += 111) {
        double kept = pow(0.99, i + 1), want = sqrt((1 - kept) / kept);
        CHECK_NEAR(t.sigmas[i], want, 1e-6 * want);     /* f32 */
    }
    weft_sigma_table_free(&t);
    weft_object_unref(&own->object);
    close_bench(&b);
}

TEST(rescaled_guidance_keeps_the_spread_of_v) {
    struct bench b;
    if (!open_bench(&b, WEFT_PREDICTION_V, 4)) return;
    b.model->cfg_rescale = 0.7;
    weft_cond p = cond(&b, 1, 7), n = cond(&b, 2, 7);
    double *x = values_of(b.c, b.x), *vp = predict_all(&b, &p), *vm = predict_all(&b, &n);
    double s = b.sigma * b.sigma + 1, unit = sqrt(s) / b.sigma;
    REQUIRE(x && vp && vm);
    for (int i = 0; i < H * W * 4; i++) {
        vp[i] = (x[i] / s - vp[i]) * unit;
        vm[i] = (x[i] / s - vm[i]) * unit;
        vm[i] += 5 * (vp[i] - vm[i]);
    }
    double ratio = deviation(vp) / deviation(vm);
    for (int i = 0; i < H * W * 4; i++) vm[i] = x[i] / s - vm[i] * (0.7 * ratio + 0.3) / unit;
    check_same(guide(&b, 1, &p, 1, &n, 5, NULL), vm, __LINE__);
    free(x);
    free(vp);
    close_bench(&b);
}

/* Of an area 8 × 8 in a corner, strength 2: it rises over 2 pixels at the two sides that are inside the picture. */
static double corner_weight(int x, int y, bool far) {
    if (x < 0 || y < 0 || x >= 8 || y >= 8) return 0;
    int edge = far ? 0 : 7;
    return 2 * (x == edge ? 0.5 : 1) * (y == edge ? 0.5 : 1);
}

static void check_area(struct bench *b, bool far) {
    int left = far ? W - 8 : 0, top = far ? H - 8 : 0;
    weft_cond p[2] = { cond(b, 1, 7), area(cond(b, 3, 7), left, top, 8, 8, 2) }, n = cond(b, 2, 7);
    double *want = predict_all(b, &p[0]), *inside = predict(b, b->x, &p[1], left, top, 8, 8, NULL);
    double *minus = predict_all(b, &n), *minus_inside = predict(b, b->x, &n, left, top, 8, 8, NULL);
    REQUIRE(want && inside && minus && minus_inside);
    for (int i = 0; i < H * W * 4; i++) {
        int x = i / 4 % W - left, y = i / 4 / W - top, j = (y * 8 + x) * 4 + i % 4;
        double w = corner_weight(x, y, far), plus = w > 0 ? (want[i] + w * inside[j]) / (1 + w) : want[i];
        double against = w > 0 ? (minus[i] + w * minus_inside[j]) / (1 + w) : minus[i];
        want[i] = against + 3 * (plus - against);
    }
    check_same(guide(b, 2, p, 1, &n, 3, NULL), want, __LINE__);
    free(inside);
    free(minus);
    free(minus_inside);
}

TEST(areas_are_weighted_and_both_sides_have_them) {
    struct bench b;
    if (!open_bench(&b, WEFT_PREDICTION_EPSILON, 4)) return;
    check_area(&b, false);
    check_area(&b, true);
    weft_cond n = cond(&b, 2, 7);
    /* what reaches over the edge is cut; what lies outside is an error */
    weft_cond far = area(n, 4, 0, 100, 100, 1), off = area(n, W, 0, 8, 8, 1);
    free(guide(&b, 1, &far, 1, &n, 1, NULL));
    CHECK(weft_ok(b.c));
    CHECK(!guide(&b, 1, &off, 1, &n, 1, NULL));
    CHECK_ERROR(b.c, WEFT_E_ARGUMENT, "lies outside of the latent of 12 × 16");
    close_bench(&b);
}

static weft_tensor *half_mask(weft_ctx *c, bool left) {
    float m[H * W];
    for (int i = 0; i < H * W; i++) m[i] = (i % W < W / 2) == left;
    return weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1, H, W), m);
}

TEST(masks_share_the_picture) {
    struct bench b;
    if (!open_bench(&b, WEFT_PREDICTION_EPSILON, 4)) return;
    weft_cond p[2] = { cond(&b, 1, 7), cond(&b, 3, 7) };
    p[0].mask = half_mask(b.c, true);
    p[1].mask = half_mask(b.c, false);
    p[1].mask_strength = 0.3;
    double *want = predict_all(&b, &p[0]), *right = predict_all(&b, &p[1]);
    for (int i = 0; want && right && i < H * W * 4; i++)
        if (i / 4 % W >= W / 2) want[i] = right[i];
    check_same(guide(&b, 2, p, 0, NULL, 1, NULL), want, __LINE__);
    /* with bounds the model sees the mask's rectangle alone: 8 pixels wide at least */
    p[0].mask_bounds = true;
    want = values_of(b.c, weft_full(b.c, WEFT_F64, WEFT_SHAPE(H, W, 4), 0));
    double *left = predict(&b, b.x, &p[0], 0, 0, 8, H, NULL);
    for (int i = 0; want && left && i < H * W * 4; i++)
        if (i / 4 % W < W / 2) want[i] = left[i / 4 / W * 32 + i % (W * 4)];
    check_same(guide(&b, 1, p, 0, NULL, 1, NULL), want, __LINE__);
    free(left);
    free(right);
    close_bench(&b);
}

TEST(texts_count_in_their_part_of_the_way) {
    struct bench b;
    if (!open_bench(&b, WEFT_PREDICTION_EPSILON, 4)) return;
    weft_cond p[2] = { cond(&b, 1, 7), cond(&b, 3, 7) };       /* timestep 700 is 0.2993 of the way */
    p[0].end_percent = 0.29;
    p[1].start_percent = 0.29;
    check_same(guide(&b, 2, p, 0, NULL, 1, NULL), predict_all(&b, &p[1]), __LINE__);
    p[0].end_percent = 0.31;
    p[1].start_percent = 0.31;
    check_same(guide(&b, 2, p, 0, NULL, 1, NULL), predict_all(&b, &p[0]), __LINE__);
    close_bench(&b);
}

TEST(a_noise_mask_blends_before_and_after) {
    struct bench b;
    if (!open_bench(&b, WEFT_PREDICTION_EPSILON, 4)) return;
    weft_cond p = cond(&b, 1, 7);
    double *x = values_of(b.c, b.x), *noise = values_of(b.c, noisy(b.c, WEFT_F32, 20, WEFT_SHAPE(1, H, W, 4)));
    double *latent = values_of(b.c, noisy(b.c, WEFT_F32, 21, WEFT_SHAPE(1, H, W, 4)));
    REQUIRE(x && noise && latent);
    for (int i = 0; i < H * W * 4; i++)
        if (i / 4 % W >= W / 2) x[i] = latent[i] + b.sigma * noise[i];
    weft_tensor *blended = weft_cast(b.c, weft_tensor_from(b.c, WEFT_F64, WEFT_SHAPE(1, H, W, 4), x), WEFT_F32);
    double *want = predict(&b, blended, &p, 0, 0, W, H, NULL);
    for (int i = 0; want && i < H * W * 4; i++)
        if (i / 4 % W >= W / 2) want[i] = latent[i];
    check_same(guide(&b, 1, &p, 0, NULL, 1, half_mask(b.c, true)), want, __LINE__);
    free(x);
    free(noise);
    free(latent);
    close_bench(&b);
}

TEST(inpainting_models_see_the_mask_and_the_source) {
    static const double grey[5] = { 1, 0.8223, -0.6876, 0.6364, 0.1380 };
    struct bench b;
    if (!open_bench(&b, WEFT_PREDICTION_EPSILON, 9)) return;
    weft_cond p = cond(&b, 1, 7);
    float v[H * W * 5];
    for (int i = 0; i < H * W * 5; i++) v[i] = (float)grey[i % 5];
    weft_tensor *behind = weft_tensor_from(b.c, WEFT_F32, WEFT_SHAPE(1, H, W, 5), v);
    check_same(guide(&b, 1, &p, 0, NULL, 1, NULL), predict(&b, b.x, &p, 0, 0, W, H, behind), __LINE__);
    p.concat_latent = noisy(b.c, WEFT_F32, 30, WEFT_SHAPE(1, H, W, 5));
    double *want = predict(&b, b.x, &p, 0, 0, W, H, p.concat_latent);
    check_same(guide(&b, 1, &p, 0, NULL, 1, NULL), want, __LINE__);
    p.concat_latent = noisy(b.c, WEFT_F32, 30, WEFT_SHAPE(1, H, W, 4));
    CHECK(!guide(&b, 1, &p, 0, NULL, 1, NULL));
    CHECK_ERROR(b.c, WEFT_E_SHAPE, "wants 5 channels behind the latent's");
    close_bench(&b);
}

TEST_MAIN
