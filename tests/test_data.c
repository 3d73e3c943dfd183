/* Data sets: order, resuming, threads, transforms, buckets, captions. References: torchvision and Pillow, kohya's rule
 * and a Philox of its own, all from tests/golden/make_data.py. */
#include "nodes/data/dataset_internal.h"
#include "runtime/safetensors.h"
#include "tests/data_bed.h"
#include "tests/host_data.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/data.safetensors"

static const char *const templates[] = { "a photo of {}", "{}", "the {} again" };
static const char *const tags[] = { "a, b,c ,d", "red, , round", "", "one", "x,y,z,w,v,u", "alpha, beta, gamma" };

/* All that chance decides, on pictures in memory: six captions in turn. */
static weft_dataset_options lively(weft_tensor *images, const char **captions) {
    weft_dataset_options o = weft_dataset_defaults();
    for (int64_t i = 0; i < weft_dim(images, 0); i++) captions[i] = tags[i % 6];
    o.images = images;
    o.captions = captions;
    o.width = 8;
    o.height = 6;
    o.random_crop = o.shuffle = o.shuffle_tags = true;
    o.flip = 0.5;
    o.brightness = o.contrast = o.saturation = 0.3;
    o.caption_dropout = 0.2;
    o.keep_tags = 1;
    o.templates = templates;
    o.template_count = 3;
    o.batch = 4;
    o.seed = 99;
    return o;
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

TEST(order_is_as_documented) {
    weft_ctx *c = data_bed();
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    weft_scope s = weft_scope_named(c, "test");
    static const struct { const char *name; uint64_t seed; int64_t epoch, n; } cases[] = {
        { "order.7.0", 7, 0, 50 }, { "order.7.3", 7, 3, 50 }, { "order.615.12345", UINT64_MAX, 12345, 9 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const weft_st_entry *e = weft_st_find(f, cases[i].name);
        REQUIRE(e && e->shape[0] == cases[i].n);
        weft_dataset_options o = weft_dataset_defaults();
        o.images = pictures(c, cases[i].n, 2, 2);
        o.width = o.height = 2;
        o.shuffle = true;
        o.batch = 3;
        weft_dataset *d = weft_dataset_open(c, &o);
        REQUIRE(d);
        weft_data_state state = weft_dataset_state(d);
        state.seed = cases[i].seed;
        state.epoch = cases[i].epoch;
        CHECK_EQ(weft_dataset_restore(c, d, &state), WEFT_OK);
        for (int64_t at = 0; at < cases[i].n;) {
            weft_data_batch b;
            REQUIRE(!weft_dataset_next(c, d, &b));
            CHECK_EQ(b.epoch, cases[i].epoch);
            CHECK_EQ(b.position, at / 3);
            for (int64_t k = 0; k < b.count; k++, at++) CHECK_EQ(b.indices[k], ((const int64_t *)e->data)[at]);
            CHECK_EQ(b.last, at == cases[i].n);
        }
        weft_dataset_close(d);
    }
    const weft_st_entry *e = weft_st_find(f, "uniform.7.2");
    for (int64_t i = 0; i < e->shape[0]; i++) {
        data_draw r = data_draw_for(7, 2, (uint64_t)i, DATA_FLIP);
        for (int k = 0; k < 3; k++) CHECK_NEAR(data_uniform(&r), ((const double *)e->data)[3 * i + k], 0);
    }
    weft_st_close(f);
    weft_scope_end(c, s, NULL);
    data_bed_free(c);
}

/* Runs an epoch and counts how often each sample comes. */
static void count_epoch(weft_ctx *c, weft_dataset *d, int *seen) {
    for (bool last = false; !last;) {
        weft_data_batch b;
        weft_scope s = weft_scope_named(c, "epoch");
        if (weft_dataset_next(c, d, &b)) {
            TEST_FAIL("%s", weft_message(c));
            return;
        }
        for (int64_t k = 0; k < b.count; k++) seen[b.indices[k]]++;
        last = b.last;
        weft_scope_end(c, s, NULL);
    }
}

TEST(an_epoch_has_every_sample_once) {
    weft_ctx *c = data_bed();
    weft_scope s = weft_scope_named(c, "test");
    for (int drop = 0; drop < 2; drop++) {
        int seen[23] = { 0 };
        weft_dataset_options o = weft_dataset_defaults();
        o.images = pictures(c, 23, 3, 3);
        o.width = o.height = 3;
        o.batch = 5;
        o.shuffle = true;
        o.drop_last = drop;
        weft_dataset *d = weft_dataset_open(c, &o);
        REQUIRE(d);
        CHECK_EQ(weft_dataset_length(d), 23);
        CHECK_EQ(weft_dataset_batches(d), drop ? 4 : 5);
        for (int epoch = 0; epoch < 4; epoch++) count_epoch(c, d, seen);
        int least = 4, total = 0;
        for (int i = 0; i < 23; i++) total += seen[i], least = seen[i] < least ? seen[i] : least;
        CHECK_EQ(total, drop ? 80 : 92);
        if (!drop) CHECK_EQ(least, 4);
        weft_dataset_close(d);
    }
    weft_scope_end(c, s, NULL);
    data_bed_free(c);
}

/* ---- the same bytes, however it is run --------------------------------------------------------------------------- */

enum { STEPS = 19 };        /* of 7 batches an epoch: into the third one */

TEST(threads_depth_and_interruptions_change_nothing) {
    weft_ctx *c = data_bed();
    weft_scope s = weft_scope_named(c, "test");
    const char *captions[25];
    weft_dataset_options o = lively(pictures(c, 25, 11, 10), captions);
    weft_hash want[STEPS] = { 0 };
    weft_data_state state[STEPS];
    o.threads = 0;
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    for (int i = 0; i < STEPS; i++) {
        state[i] = weft_dataset_state(d);
        CHECK(batch_hash(c, d, &want[i]));
        if (i) CHECK(!weft_hash_equal(want[i], want[i - 1]));
    }
    CHECK_EQ(state[STEPS - 1].epoch, 2);
    CHECK_EQ(state[STEPS - 1].position, 4);
    for (int run = 0; run < 12; run++) {
        o.threads = run % 4;
        o.depth = 1 + run % 5;
        weft_dataset *e = weft_dataset_open(c, &o);
        REQUIRE(e);
        for (int i = 0; i < STEPS; i++) {
            weft_hash got = { 0, 0 };
            if (run % 3 == 1 && i % 4 == 2) {       /* away and back */
                CHECK_EQ(weft_dataset_restore(c, e, &state[(7 * i + run) % STEPS]), WEFT_OK);
                CHECK(batch_hash(c, e, &(weft_hash){ 0, 0 }));
                CHECK_EQ(weft_dataset_restore(c, e, &state[i]), WEFT_OK);
            }
            if (run % 3 == 2 && i == 5) {           /* another process goes on */
                weft_data_state now = weft_dataset_state(e);
                weft_dataset_close(e);
                o.seed = 1;
                e = weft_dataset_open(c, &o);
                o.seed = 99;
                REQUIRE(e);
                CHECK_EQ(weft_dataset_restore(c, e, &now), WEFT_OK);
            }
            CHECK(batch_hash(c, e, &got));
            if (!weft_hash_equal(got, want[i])) TEST_FAIL("run %d: batch %d differs", run, i);
        }
        weft_dataset_close(e);
    }
    weft_dataset_close(d);
    weft_scope_end(c, s, NULL);
    data_bed_free(c);
}

TEST(a_batch_without_memory_comes_again) {
    weft_ctx *c = data_bed();
    weft_scope s = weft_scope_named(c, "test");
    const char *captions[9];
    weft_dataset_options o = lively(pictures(c, 9, 11, 10), captions);
    weft_dataset *d = weft_dataset_open(c, &o), *e = weft_dataset_open(c, &o);
    REQUIRE(d && e);
    for (int i = 0; i < 5; i++) {
        weft_hash want = { 0, 0 }, got = { 0, 0 };
        weft_set_memory_limit(c, weft_memory_live(c) + 256);
        CHECK(!batch_hash(c, d, &got));
        CHECK_EQ(weft_error(c), WEFT_E_MEMORY);
        weft_clear(c);
        weft_set_memory_limit(c, 0);
        CHECK(batch_hash(c, d, &got) && batch_hash(c, e, &want));
        CHECK(weft_hash_equal(got, want));
    }
    weft_dataset_close(d);
    weft_dataset_close(e);
    weft_scope_end(c, s, NULL);
    data_bed_free(c);
}

TEST(a_state_of_other_data_is_refused) {
    weft_ctx *c = data_bed();
    weft_scope s = weft_scope_named(c, "test");
    const char *captions[9];
    weft_dataset_options o = lively(pictures(c, 9, 11, 10), captions);
    weft_dataset *d = weft_dataset_open(c, &o);
    o.batch = 3;
    weft_dataset *e = weft_dataset_open(c, &o);
    REQUIRE(d && e);
    weft_data_state state = weft_dataset_state(d);
    CHECK(weft_dataset_restore(c, e, &state) != WEFT_OK);
    CHECK_HAS(weft_message(c), "another data set");
    weft_clear(c);
    state.position = 3;
    CHECK(weft_dataset_restore(c, d, &state) != WEFT_OK);
    CHECK_HAS(weft_message(c), "batch 3 of epoch 0; an epoch has 3 batches");
    weft_clear(c);
    weft_dataset_close(d);
    weft_dataset_close(e);
    weft_scope_end(c, s, NULL);
    data_bed_free(c);
}

/* ---- pictures ---------------------------------------------------------------------------------------------------- */

/* Opens the golden files with these options and compares the batch of each with "NAME.N". */
static void compare_with(weft_ctx *c, weft_safetensors *f, const char *name, weft_dataset_options o) {
    weft_scope s = weft_scope_named(c, "compare");
    o.folder = data_root;
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    for (int n = 0; n < 5; n++) {
        char key[32];
        weft_data_batch b;
        snprintf(key, sizeof key, "%s.%d", name, n);
        const weft_st_entry *e = weft_st_find(f, key);
        REQUIRE(e && !weft_dataset_next(c, d, &b));
        CHECK_EQ(weft_dim(b.images, 1), e->shape[0]);
        CHECK_EQ(weft_dim(b.images, 2), e->shape[1]);
        CHECK_EQ(weft_dim(b.images, 3), e->shape[2]);
        CHECK_EQ(weft_count(b.images) * 4, e->bytes);
        /* Pillow's bytes, divided and normalised by the same roundings: no difference at all. */
        if (memcmp(host_data(b.images), e->data, e->bytes)) TEST_FAIL("%s differs", key);
    }
    weft_dataset_close(d);
    weft_scope_end(c, s, NULL);
}

TEST(pictures_are_scaled_and_cut_as_torchvision_does) {
    weft_ctx *c = data_bed();
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    for (int n = 0; n < 5; n++) {
        char key[16], name[16];
        snprintf(key, sizeof key, "file.%d", n);
        snprintf(name, sizeof name, "%d.png", n);
        const weft_st_entry *e = weft_st_find(f, key);
        REQUIRE(e);
        put(name, e->data, e->bytes);
    }
    weft_dataset_options o = weft_dataset_defaults();
    o.width = o.height = 16;
    compare_with(c, f, "lanczos", o);
    o.resize = WEFT_PIL_BILINEAR;
    compare_with(c, f, "bilinear", o);
    o.resize = WEFT_PIL_BICUBIC;
    compare_with(c, f, "bicubic", o);
    o.resize = WEFT_PIL_LANCZOS;
    o.unit = true;
    o.channels = 1;
    compare_with(c, f, "luma", o);
    o.channels = 3;
    o.width = 20;
    o.height = 12;
    compare_with(c, f, "cover", o);
    weft_st_close(f);
    data_bed_free(c);
}

TEST(colours_are_torchvisions) {
    weft_ctx *c = data_bed();
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    const weft_st_entry *x = weft_st_find(f, "jitter.x");
    REQUIRE(x);
    for (int k = 0; k < 5; k++) {
        char key[32];
        float got[7 * 5 * 3];
        int order[3];
        snprintf(key, sizeof key, "jitter.%d", k);
        const weft_st_entry *want = weft_st_find(f, key);
        snprintf(key, sizeof key, "jitter.%d.factors", k);
        const double *factor = weft_st_find(f, key)->data;
        snprintf(key, sizeof key, "jitter.%d.order", k);
        for (int i = 0; i < 3; i++) order[i] = (int)((const int64_t *)weft_st_find(f, key)->data)[i];
        memcpy(got, x->data, sizeof got);
        data_jitter(got, 35, 3, factor, order);
        /* torchvision rounds every product to float, and its mean: a few units of 2⁻²⁴ each. */
        for (int i = 0; i < 105; i++) CHECK_NEAR(got[i], ((const float *)want->data)[i], 5e-7);
    }
    weft_st_close(f);
    data_bed_free(c);
}

TEST(mirroring_and_cropping_are_drawn) {
    weft_ctx *c = data_bed();
    weft_scope s = weft_scope_named(c, "test");
    unsigned char ramp[400][4][6];      /* a picture's value tells its column and row */
    for (int n = 0; n < 400; n++)
        for (int y = 0; y < 4; y++)
            for (int x = 0; x < 6; x++) ramp[n][y][x] = (unsigned char)(10 * y + x);
    weft_dataset_options o = weft_dataset_defaults();
    o.images = weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(400, 4, 6, 1), ramp);
    o.width = o.height = 4;
    o.channels = 1;
    o.random_crop = o.unit = true;
    o.flip = 0.25;
    o.batch = 400;
    weft_dataset *d = weft_dataset_open(c, &o);
    weft_data_batch b;
    REQUIRE(d && !weft_dataset_next(c, d, &b));
    int mirrored = 0, left[3] = { 0 };
    const float *p = host_data(b.images);
    for (int n = 0; n < 400; n++, p += 16) {
        int first = (int)lrintf(p[0] * 255), second = (int)lrintf(p[1] * 255), step = second - first;
        CHECK(step == 1 || step == -1);
        mirrored += step < 0;
        int start = step < 0 ? first - 3 : first;
        REQUIRE(start >= 0 && start < 3);
        left[start]++;
        for (int i = 0; i < 16; i++) CHECK_EQ(lrintf(p[i] * 255), i / 4 * 10 + first + step * (i % 4));
    }
    /* 400 draws: four standard deviations are 35 of 100, 38 of 133. */
    CHECK(mirrored > 65 && mirrored < 135);
    for (int i = 0; i < 3; i++) CHECK(left[i] > 95 && left[i] < 171);
    weft_dataset_close(d);
    weft_scope_end(c, s, NULL);
    data_bed_free(c);
}

TEST(floats_are_taken_as_they_are) {
    weft_ctx *c = data_bed();
    weft_scope s = weft_scope_named(c, "test");
    const float values[12] = { 0, 0.25f, 1, 0.123456f, 2, -1, 0.5f, 0.75f, 0.1f, 0.2f, 0.3f, 0.4f };
    weft_dataset_options o = weft_dataset_defaults();
    o.images = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1, 2, 2, 3), values);
    o.width = o.height = 2;
    weft_dataset *d = weft_dataset_open(c, &o);
    weft_data_batch b;
    REQUIRE(d && !weft_dataset_next(c, d, &b));
    const float *p = host_data(b.images);
    for (int i = 0; i < 12; i++) CHECK_NEAR(p[i], 2 * fmin(fmax(values[i], 0), 1) - 1, 1e-7);     /* one rounding */
    CHECK_STR(b.captions[0], "");
    weft_dataset_close(d);
    weft_scope_end(c, s, NULL);
    data_bed_free(c);
}

/* ---- buckets ----------------------------------------------------------------------------------------------------- */

TEST(buckets_are_kohyas) {
    weft_ctx *c = data_bed();
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    static const int64_t cases[][4] = { { 512, 64, 256, 1024 }, { 1024, 64, 512, 2048 }, { 64, 8, 32, 128 },
                                        { 100, 7, 49, 196 }, { 256, 32, 256, 256 } };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char name[64];
        weft_dataset d = { .o = weft_dataset_defaults() };
        d.o.bucket_base = cases[k][0];
        d.o.bucket_step = cases[k][1];
        if (k != 1 && k != 2) d.o.bucket_least = cases[k][2], d.o.bucket_most = cases[k][3];     /* else the defaults */
        CHECK(data_make_buckets(c, &d));
        snprintf(name, sizeof name, "buckets.%d.%d.%d.%d", (int)cases[k][0], (int)cases[k][1], (int)cases[k][2],
                 (int)cases[k][3]);
        const weft_st_entry *e = weft_st_find(f, name);
        REQUIRE(e && e->shape[0] == d.bucket_count);
        CHECK(!memcmp(e->data, d.buckets, e->bytes));
        memcpy(name, "choice.", 7);
        memmove(name + 7, name + 8, strlen(name + 7));
        e = weft_st_find(f, name);
        REQUIRE(e);
        const int64_t *p = e->data;
        for (int64_t i = 0; i < e->shape[0]; i++, p += 3) CHECK_EQ(data_choose_bucket(&d, p[1], p[0]), p[2]);
        free(d.buckets);
    }
    weft_dataset d = { .o = weft_dataset_defaults() };
    d.o.buckets = (const weft_bucket[]){ { 64, 32 }, { 96, 32 } };
    d.o.bucket_count = 2;
    CHECK(data_make_buckets(c, &d));
    CHECK_EQ(data_choose_bucket(&d, 2, 5), 0);      /* as far from both: the first, as NumPy's argmin */
    free(d.buckets);
    weft_st_close(f);
    data_bed_free(c);
}

TEST(a_batch_is_of_one_bucket) {
    weft_ctx *c = data_bed();
    static const int64_t sizes[][2] = { { 20, 20 }, { 30, 12 }, { 12, 30 }, { 40, 38 }, { 8, 21 } };
    for (int i = 0; i < 31; i++) {
        char name[32];
        snprintf(name, sizeof name, "%02d.png", i);
        put_picture(c, name, sizes[i % 5][0], sizes[i % 5][1], 8 * i, 0, 0);
    }
    weft_dataset_options o = weft_dataset_defaults();
    o.folder = data_root;
    o.bucket_base = 16;
    o.bucket_step = 4;
    o.batch = 4;
    o.shuffle = true;
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    CHECK_EQ(weft_dataset_batches(d), 4 + 2 + 3);       /* 13 of 16 × 16, 6 of 8 × 24, 12 of 24 × 8 */
    int seen[31] = { 0 }, changes = 0;
    int64_t before = 0;
    for (int i = 0; i < weft_dataset_batches(d); i++) {
        weft_data_batch b;
        weft_scope s = weft_scope_named(c, "batch");
        REQUIRE(!weft_dataset_next(c, d, &b));
        CHECK(b.width * b.height <= 256 && b.width % 4 == 0 && b.height % 4 == 0);
        for (int64_t k = 0; k < b.count; k++) {
            weft_bucket size = weft_dataset_size(d, b.indices[k]);
            seen[b.indices[k]]++;
            CHECK_EQ(size.width, b.width);
            CHECK_EQ(size.height, b.height);
            const float *p = (const float *)host_data(b.images) + k * b.height * b.width * 3;
            CHECK_NEAR(p[0], 8.0 * (double)b.indices[k] / 127.5 - 1, 1e-6);       /* the picture of that index */
        }
        changes += i && b.width != before;
        before = b.width;
        weft_scope_end(c, s, NULL);
    }
    for (int i = 0; i < 31; i++) CHECK_EQ(seen[i], 1);
    CHECK(changes > 3);                         /* the buckets do not come one after the other */
    weft_dataset_close(d);
    data_bed_free(c);
}

/* ---- captions ---------------------------------------------------------------------------------------------------- */

TEST(tags_change_places_behind_those_kept) {
    weft_ctx *c = data_bed();
    weft_scope s = weft_scope_named(c, "test");
    weft_dataset_options o = weft_dataset_defaults();
    o.images = pictures(c, 2, 1, 1);
    o.captions = (const char *const[]){ "keep me , a,b ,, c", "x" };
    o.width = o.height = 1;
    o.shuffle_tags = true;
    o.keep_tags = 1;
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    static const char *const orders[] = { "a, b, c", "a, c, b", "b, a, c", "b, c, a", "c, a, b", "c, b, a" };
    int seen[6] = { 0 };
    for (int i = 0; i < 1200; i++) {
        char *text = data_caption(d, i, 0), *other = data_caption(d, i, 1);
        int which = 0;
        CHECK(!strncmp(text, "keep me, ", 9));
        while (which < 6 && strcmp(text + 9, orders[which])) which++;
        REQUIRE(which < 6);
        seen[which]++;
        CHECK_STR(other, "x");
        free(text);
        free(other);
    }
    for (int i = 0; i < 6; i++) CHECK(seen[i] > 148 && seen[i] < 252);      /* 200 ± four standard deviations */
    weft_dataset_close(d);
    weft_scope_end(c, s, NULL);
    data_bed_free(c);
}

TEST(captions_are_dropped_and_put_into_templates) {
    weft_ctx *c = data_bed();
    weft_scope s = weft_scope_named(c, "test");
    weft_dataset_options o = weft_dataset_defaults();
    o.images = pictures(c, 1, 1, 1);
    o.captions = (const char *const[]){ "a {} dog" };
    o.width = o.height = 1;
    o.caption_dropout = 0.1;
    o.templates = (const char *const[]){ "a photo of {}", "{}, {}" };
    o.template_count = 2;
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    int dropped = 0, first = 0;
    for (int i = 0; i < 1000; i++) {
        char *text = data_caption(d, i, 0);
        if (!*text) dropped++;
        else if (!strcmp(text, "a photo of a {} dog")) first++;
        else CHECK_STR(text, "a {} dog, {}");
        free(text);
    }
    CHECK(dropped > 62 && dropped < 138);       /* 100 and 450, ± four standard deviations */
    CHECK(first > 387 && first < 513);
    weft_dataset_close(d);
    weft_scope_end(c, s, NULL);
    data_bed_free(c);
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

#define REFUSES(change, text) do { \
        weft_dataset_options o = good; \
        change; \
        CHECK(!weft_dataset_open(c, &o)); \
        CHECK_HAS(weft_message(c), text); \
        weft_clear(c); \
    } while (0)

TEST(bad_options_are_refused) {
    weft_ctx *c = data_bed();
    weft_scope s = weft_scope_named(c, "test");
    weft_dataset_options good = weft_dataset_defaults();
    good.images = pictures(c, 3, 4, 4);
    good.width = good.height = 4;
    REFUSES(o.images = NULL, "either a folder or pictures in memory");
    REFUSES(o.folder = "/tmp", "either a folder or pictures in memory");
    REFUSES(o.channels = 4, "channels are 3 or 1");
    REFUSES(o.channels = 1, "(number, height, width, 1) u8 or f32, not (3, 4, 4, 3) u8");
    REFUSES(o.resize = WEFT_BILINEAR, "bilinear, bicubic or lanczos");
    REFUSES(o.flip = 1.5, "a probability is 0 to 1");
    REFUSES(o.caption_dropout = NAN, "a probability is 0 to 1");
    REFUSES(o.contrast = -1, "brightness, contrast and saturation");
    REFUSES(o.batch = 0, "a batch has 1 to 65536");
    REFUSES(o.threads = -1, "0 to 256 threads");
    REFUSES(o.depth = 0, "1 to 1024 batches");
    REFUSES(o.width = 0, "0 × 4; a side is 1 to 16384");
    REFUSES(o.bucket_base = 100000, "base 100000");
    REFUSES((o.bucket_base = 64, o.bucket_step = 0), "a step is at least 1");
    REFUSES((o.bucket_base = 64, o.bucket_least = 128), "sides 128 to 128");
    REFUSES((o.batch = 4, o.drop_last = true), "3 samples make no whole batch of 4");
    REFUSES((o.templates = (const char *const[]){ "x" }, o.template_count = 1), "has no {}");
    REFUSES((o.images = NULL, o.folder = "/nonexistent/weft"), "/nonexistent/weft: cannot be read");
    weft_dataset *d = weft_dataset_open(c, &good);
    REQUIRE(d);
    CHECK(!weft_dataset_caption(d, 3));
    CHECK(!weft_dataset_caption(d, -1));
    weft_hash key = { 0, 0 }, other = { 0, 0 };
    CHECK_EQ(weft_dataset_sign(c, d, 0, &key), WEFT_OK);
    CHECK_EQ(weft_dataset_sign(c, d, 1, &other), WEFT_OK);
    CHECK(!weft_hash_equal(key, other));
    CHECK(weft_dataset_sign(c, d, 3, &key) != WEFT_OK);
    weft_clear(c);
    weft_dataset_close(d);
    weft_scope_end(c, s, NULL);
    data_bed_free(c);
}

TEST_MAIN
