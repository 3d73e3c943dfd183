/* Recorded work (runtime/record.h) on the emulated device, or a GPU: what is replayed is what is computed plainly, to the bit, and a
 * recording goes where a weight changes, memory is short or something in it cannot be recorded. */
#include "runtime/record.h"
#include "tests/tensors.h"

enum { ROWS = 3, WIDTH = 96 };

/* silu(x·wᵀ)·wᵀ + t, over and over; reads: also looks at a value, which no recording can do. */
struct work { weft_tree *tree; int rounds, calls; bool reads, cancels; };

static weft_tensor *run(weft_ctx *c, weft_tensor *const *in, void *user) {
    struct work *w = user;
    weft_tensor *x = in[0];
    w->calls++;
    for (int i = 0; i < w->rounds && x; i++) {
        weft_scope s = weft_scope_begin(c, weft_root(w->tree));
        x = weft_silu(c, weft_nn_linear(c, weft_root(w->tree), x, WIDTH, true));
        x = weft_scope_end(c, s, in[1] ? weft_add(c, x, in[1]) : x);
    }
    if (w->cancels) weft_cancel(c);
    if (w->reads) weft_item(c, weft_reduce_all(c, WEFT_REDUCE_MEAN, x));
    return x;
}

static weft_tensor *recorded(weft_ctx *c, struct work *w, weft_tensor *x, weft_tensor *t) {
    const weft_recordable r = { .run = run, .user = w, .tree = w->tree, .what = { (uint64_t)w->rounds, 0 } };
    return weft_recorded(c, &r, 2, (weft_tensor *const[]){ x, t });
}

static weft_ctx *open_work(struct work *w, const char *device) {
    weft_ctx *c = open_device(device);
    weft_scope s = weft_scope_named(c, "weights");
    *w = (struct work){ .tree = weft_tree_new(c, "net"), .rounds = 4 };
    weft_tensor *weight = weft_affine(c, noisy(c, WEFT_F32, 3, WEFT_SHAPE(WIDTH, WIDTH)), 0.1, 0);
    if (weft_tree_add(c, w->tree, "weight", weight) || weft_tree_add(c, w->tree, "bias", noisy(c, WEFT_F32, 4, WEFT_SHAPE(WIDTH))))
        TEST_FAIL("%s", weft_message(c));
    weft_tree_set_frozen(w->tree, true);
    weft_scope_end(c, s, NULL);
    return c;
}

static void close_work(weft_ctx *c, struct work *w) {
    CHECK_STR(weft_message(c), "");
    weft_tree_free(w->tree);
    CHECK_EQ(weft_memory_live(c), 0);
    weft_memory_trim(c);
    CHECK_EQ(weft_memory_held(c), 0);
    weft_ctx_free(c);
}

/* One time with inputs of its own; sees that it is what run() gives, and that run() was called so often for it. */
static void once(weft_ctx *c, struct work *w, uint64_t seed, int rows, bool two, int calls) {
    static float got[16 * WIDTH], want[16 * WIDTH];
    const size_t bytes = sizeof(float) * (size_t)rows * WIDTH;
    weft_scope s = weft_scope_named(c, "once");
    weft_tensor *x = noisy(c, WEFT_F32, seed, WEFT_SHAPE(rows, WIDTH));
    weft_tensor *t = two ? noisy(c, WEFT_F32, seed + 100, WEFT_SHAPE(1, WIDTH)) : NULL;
    const int before = w->calls;
    double flops = weft_flops(c);
    weft_tensor *y = recorded(c, w, x, t);
    CHECK_EQ(w->calls - before, calls);
    flops = weft_flops(c) - flops;
    CHECK_EQ(flops, 2.0 * w->rounds * rows * WIDTH * WIDTH);
    if (!y || weft_read(c, y, got, bytes)) TEST_FAIL("%s", weft_message(c));
    y = run(c, (weft_tensor *const[]){ x, t }, w);
    if (!y || weft_read(c, y, want, bytes)) TEST_FAIL("%s", weft_message(c));
    CHECK(!memcmp(got, want, bytes));
    weft_scope_end(c, s, NULL);
}

TEST(plainly_on_a_cpu) {
    struct work w;
    weft_ctx *c = open_work(&w, "cpu");
    for (int i = 0; i < 4; i++) once(c, &w, (uint64_t)i, ROWS, true, 1);
    close_work(c, &w);
}

#ifdef WEFT_CUDA_EMULATED

/* Plainly, then recorded, then neither: also where shapes take turns, and after a weight was changed. */
TEST(second_time) {
    struct work w;
    weft_ctx *c = open_work(&w, test_cuda());
    for (int i = 0; i < 5; i++) {
        once(c, &w, (uint64_t)i, ROWS, true, i < 2);
        once(c, &w, (uint64_t)i, ROWS + 4, true, i < 2);
        once(c, &w, (uint64_t)i, ROWS, false, i < 2);
    }
    weft_tree_set_frozen(w.tree, true);         /* it may have been another weight */
    for (int i = 0; i < 4; i++) once(c, &w, (uint64_t)i, ROWS, true, i < 2);
    w.rounds = 2;
    for (int i = 0; i < 4; i++) once(c, &w, (uint64_t)i, ROWS, true, i < 2);
    weft_tree_set_frozen(w.tree, false);        /* from now on weights may change without notice */
    for (int i = 0; i < 4; i++) once(c, &w, (uint64_t)i, ROWS, true, 1);
    close_work(c, &w);
}

/* Another tree at the same place in memory is another tree. */
TEST(trees_that_follow_one_another) {
    struct work w;
    weft_ctx *c = open_work(&w, test_cuda());
    for (int n = 0; n < 12; n++) {
        for (int i = 0; i < 3; i++) once(c, &w, (uint64_t)i, ROWS, true, i < 2);
        weft_tree_free(w.tree);
        w.tree = weft_tree_new(c, "net");
        weft_scope s = weft_scope_named(c, "weights");
        CHECK(!weft_tree_add(c, w.tree, "weight", weft_affine(c, noisy(c, WEFT_F32, 50 + (uint64_t)n, WEFT_SHAPE(WIDTH, WIDTH)), 0.1, 0)));
        CHECK(!weft_tree_add(c, w.tree, "bias", noisy(c, WEFT_F32, 70 + (uint64_t)n, WEFT_SHAPE(WIDTH))));
        weft_tree_set_frozen(w.tree, true);
        weft_scope_end(c, s, NULL);
    }
    close_work(c, &w);
}

/* Whose memory counts: live while it runs, cached while it rests, and given up when something else needs it. */
TEST(memory) {
    struct work w;
    weft_ctx *c = open_work(&w, test_cuda());
    once(c, &w, 1, 16, true, 1);
    const size_t live = weft_memory_live(c);
    weft_memory_reset_peak(c);
    once(c, &w, 2, 16, true, 1);
    CHECK_EQ(weft_memory_live(c), live);
    const size_t peak = weft_memory_peak(c);
    weft_memory_reset_peak(c);
    once(c, &w, 3, 16, true, 0);
    CHECK_EQ(weft_memory_live(c), live);
    CHECK(weft_memory_peak(c) > live && weft_memory_peak(c) <= peak);
    weft_memory_trim(c);
    CHECK_EQ(weft_memory_held(c), live);
    once(c, &w, 4, 16, true, 1);                /* recorded anew */
    once(c, &w, 5, 16, true, 0);
    for (size_t limit = peak; limit > live && !test_failures; limit -= 1024) {
        weft_set_memory_limit(c, limit);
        weft_memory_reset_peak(c);
        for (int i = 0; i < 4; i++) {
            weft_scope s = weft_scope_named(c, "limited");
            weft_tensor *x = weft_full(c, WEFT_F32, WEFT_SHAPE(16, WIDTH), 0.5), *t = weft_full(c, WEFT_F32, WEFT_SHAPE(1, WIDTH), 1);
            weft_tensor *y = recorded(c, &w, x, t);
            CHECK(y || weft_error(c) == WEFT_E_MEMORY);
            weft_scope_end(c, s, NULL);
            CHECK_EQ(weft_memory_live(c), live);
            if (!y) limit = live + 1024;
            weft_clear(c);
        }
        CHECK(weft_memory_peak(c) <= (limit > peak ? limit : peak));
    }
    weft_set_memory_limit(c, 0);
    once(c, &w, 6, 16, true, w.calls ? 1 : 0);
    close_work(c, &w);
}

/* Temporaries of 24 sizes, one after the other: of two each 18.8 MiB in all, 1.5 MiB at a time, and the sums 0.75. */
static weft_tensor *in_all_sizes(weft_ctx *c, weft_tensor *const *in, void *user) {
    (void)user;
    weft_tensor *sum = in[0];
    for (int i = 1; i <= 24 && sum; i++) {
        weft_scope s = weft_scope_named(c, "size");
        weft_tensor *t = weft_affine(c, weft_full(c, WEFT_F32, WEFT_SHAPE(i, 4096 * 2), 1), 2, 1);
        sum = weft_scope_end(c, s, weft_add(c, sum, weft_slice(c, t, 0, 0, 1)));
    }
    return sum;
}

/* What one temporary had another one of another size gets: a recording holds little more than was ever live in it. */
TEST(sizes_share_memory) {
    struct work w;
    weft_ctx *c = open_work(&w, test_cuda());
    const weft_recordable r = { .run = in_all_sizes, .tree = w.tree };
    size_t peak[4];
    for (int i = 0; i < 4; i++) {
        weft_scope s = weft_scope_named(c, "once");
        weft_tensor *x = weft_full(c, WEFT_F32, WEFT_SHAPE(1, 8192), 0.25), *none = NULL;
        const size_t live = weft_memory_live(c);
        weft_memory_reset_peak(c);
        weft_tensor *y = weft_recorded(c, &r, 2, (weft_tensor *const[]){ x, none });
        peak[i] = weft_memory_peak(c) - live;
        CHECK_NEAR(weft_item(c, weft_reduce_all(c, WEFT_REDUCE_MAX, y)), 0.25 + 24 * 3, 0);
        weft_scope_end(c, s, NULL);
    }
    CHECK(peak[0] < 2400 << 10);
    CHECK(peak[3] < 2 * peak[0]);       /* chunks of 1 MiB and more */
    CHECK_EQ(peak[2], peak[3]);
    close_work(c, &w);
}

/* What cannot be recorded is tried twice and then done plainly; so it is where graphs cannot be had, or are not wanted. */
TEST(what_cannot_be_recorded) {
    struct work w;
    weft_ctx *c = open_work(&w, test_cuda());
    w.reads = true;
    once(c, &w, 1, ROWS, true, 1);
    for (int i = 0; i < 2; i++) once(c, &w, 2, ROWS, true, 2);
    for (int i = 0; i < 2; i++) once(c, &w, 3, ROWS, true, 1);
    w.reads = false;
    if (!on_gpu()) {
        setenv("WEFT_FAKE_CUDA", "no graphs", 1);
        once(c, &w, 1, ROWS + 1, true, 1);
        for (int i = 0; i < 2; i++) once(c, &w, 2, ROWS + 1, true, 2);
        for (int i = 0; i < 2; i++) once(c, &w, 3, ROWS + 1, true, 1);
        unsetenv("WEFT_FAKE_CUDA");
    }
    setenv("WEFT_CUDA_GRAPHS", "0", 1);
    for (int i = 0; i < 3; i++) once(c, &w, 3, ROWS + 2, true, 1);
    unsetenv("WEFT_CUDA_GRAPHS");
    close_work(c, &w);
    setenv("WEFT_CUDA_SYNC", "1", 1);
    c = open_work(&w, test_cuda());
    for (int i = 0; i < 3; i++) once(c, &w, 3, ROWS, true, 1);
    close_work(c, &w);
    unsetenv("WEFT_CUDA_SYNC");
}

TEST(cancelled) {
    for (int when = 0; when < 3; when++) {
        struct work w;
        weft_ctx *c = open_work(&w, test_cuda());
        weft_tensor *x = noisy(c, WEFT_F32, 1, WEFT_SHAPE(ROWS, WIDTH));
        for (int i = 0; i < when; i++) CHECK(recorded(c, &w, x, NULL));
        if (when == 2) weft_cancel(c);
        else w.cancels = w.reads = true;
        CHECK(!recorded(c, &w, x, NULL));
        CHECK_ERROR(c, WEFT_E_CANCELLED, "cancelled");
        w.cancels = w.reads = false;
        CHECK(recorded(c, &w, x, NULL));
        weft_tree_free(w.tree);
        weft_ctx_free(c);
    }
}

#endif

TEST_MAIN
