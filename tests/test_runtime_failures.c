/* Memory that fails: a small network of every operation is run with the first allocation refused, then the second, and
 * so on, until one run gets all it asks for. Each failure is a clean error, and nothing stays behind. */
#include "tests/host_memory.h"
#include "tests/operations.h"

static weft_ctx *open_failing(const char *device) {
    return weft_ctx_new(&(weft_options){ .device = device, .threads = 2, .os_alloc = host_os_alloc,
                                         .os_free = host_os_free });
}

/* Two blocks that share their weights, which stay packed, one plain beside it and one frozen. */
static weft_tensor *layers(weft_ctx *c, weft_tensor *x) {
    weft_scope s = weft_scope_named(c, "layers");
    struct draw draw = { .state = 5, .type = WEFT_F32, .weights = WEFT_F16 }, *d = &draw;
    weft_tensor *w = WEIGHT(16, 16), *k = WEIGHT(16, 16, 3, 3);
    if (w) weft_tensor_mark_parameter(w, false, NULL, NULL);
    if (k) weft_tensor_mark_parameter(k, true, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        weft_scope block = weft_scope_named(c, "block");
        weft_tensor *h = weft_linear(c, weft_silu(c, x), w, NULL, WEFT_ACT_GELU, x);
        h = weft_conv2d(c, h, k, NULL, WEFT_CONV_SAME(3), NULL, x);
        x = weft_scope_end(c, block, weft_group_norm(c, h, 4, 1e-5, NULL, NULL, WEFT_ACT_SILU));
    }
    if (x && weft_write(c, w, weft_data(weft_full(c, WEFT_F16, WEFT_SHAPE(16, 16), 0)), 512) != WEFT_OK) x = NULL;
    weft_tensor *first = weft_slice(c, weft_reshape(c, weft_cast(c, k, WEFT_F32), WEFT_SHAPE(-1)), 0, 0, 1);
    x = weft_add(c, weft_linear(c, x, w, NULL, WEFT_ACT_NONE, NULL), first);
    return weft_scope_end(c, s, x);
}

static bool network(weft_ctx *c) {
    for (int i = 0; i < OPERATIONS && weft_ok(c); i++) {
        weft_scope s = weft_scope_named(c, operation[i].name);
        struct draw d = { .state = (uint64_t)i + 3, .type = WEFT_F32, .weights = WEFT_F32 };
        weft_tensor *y = operation[i].call(c, &d);
        double value = weft_item(c, weft_reduce_all(c, WEFT_REDUCE_MEAN, y));
        if (weft_ok(c) && !isfinite(value)) TEST_FAIL("%s gives %g", operation[i].name, value);
        weft_scope_end(c, s, NULL);
    }
    weft_scope s = weft_scope_named(c, "all");
    weft_tensor *x = layers(c, noisy(c, WEFT_F32, 1, WEFT_SHAPE(1, 6, 6, 16)));
    weft_scope_end(c, s, NULL);
    return x != NULL;
}

static void refuse_each(const char *device) {
    long attempts = 0;
    FOR_EACH_FAILURE {
        weft_ctx *c = open_failing(device);
        attempts++;
        bool worked = c && network(c);
        if (c && !worked && weft_error(c) != WEFT_E_MEMORY) TEST_FAIL("attempt %ld: %s", attempts, weft_message(c));
        if (c && weft_memory_live(c)) TEST_FAIL("attempt %ld leaves %zu bytes live", attempts, weft_memory_live(c));
        if (c && !worked && attempts % 10 == 0) {           /* the context is as good as new */
            host_countdown = -1;
            weft_clear(c);
            if (!network(c)) TEST_FAIL("after attempt %ld: %s", attempts, weft_message(c));
        }
        ATTEMPT_WORKED(worked);
        weft_ctx_free(c);
        if (host_live) TEST_FAIL("attempt %ld leaves %ld allocations", attempts, host_live);
        if (test_failures) break;
    }
    CHECK(attempts > 300);
}
TEST(every_allocation_may_fail_reference) { refuse_each("reference"); }
TEST(every_allocation_may_fail_cpu) { refuse_each("cpu"); }

/* The same with the CPU's own memory, where large blocks are parts of chunks, and only small structs fail. */
TEST(every_struct_may_fail) {
    long attempts = 0;
    FOR_EACH_FAILURE {
        weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1, .memory_limit = 16 << 20 });
        bool worked = c != NULL;
        attempts++;
        for (int i = 0; i < 12 && worked; i++) {
            weft_scope s = weft_scope_named(c, "s");
            weft_tensor *x = weft_full(c, WEFT_F32, WEFT_SHAPE(1 + i % 5, 70000), i);
            weft_tensor *y = weft_silu(c, x), *z = weft_scope_keep(c, s, weft_concat2(c, 0, x, y));
            worked = weft_scope_end(c, s, NULL) == NULL && z;
            if (i % 4 == 3) weft_scope_flush(c);
        }
        if (c && !worked && weft_error(c) != WEFT_E_MEMORY) TEST_FAIL("attempt %ld: %s", attempts, weft_message(c));
        if (c) weft_scope_flush(c);
        CHECK_EQ(c ? weft_memory_live(c) : 0, 0);
        ATTEMPT_WORKED(worked);
        weft_ctx_free(c);
        CHECK_EQ(host_live, 0);
        if (test_failures) break;
    }
    CHECK(attempts > 60);
}

TEST(every_limit_is_clean) {
    weft_ctx *c = open_failing("cpu");
    REQUIRE(network(c));
    size_t peak = weft_memory_peak(c);
    weft_memory_trim(c);
    for (size_t limit = 64; limit <= peak; limit += limit / 5 < 64 ? 64 : limit / 5 / 64 * 64) {
        weft_set_memory_limit(c, limit);
        weft_memory_reset_peak(c);
        if (network(c)) CHECK(weft_memory_peak(c) <= limit);
        else CHECK_EQ(weft_error(c), WEFT_E_MEMORY);
        CHECK(weft_memory_held(c) <= limit);
        CHECK_EQ(weft_memory_live(c), 0);
        weft_clear(c);
    }
    weft_set_memory_limit(c, peak);
    CHECK(network(c));
    weft_ctx_free(c);
    CHECK_EQ(host_live, 0);
}

TEST(the_same_run_needs_the_same_memory) {
    weft_ctx *c = open_failing("cpu");
    REQUIRE(network(c));
    size_t peak = weft_memory_peak(c);
    for (int i = 0; i < 3; i++) {
        weft_memory_reset_peak(c);
        REQUIRE(network(c));
        CHECK_EQ(weft_memory_peak(c), peak);
    }
    weft_ctx_free(c);
}

static void gone(void *user) { ++*(int *)user; }

TEST(borrowing_without_memory_releases) {
    static float data[4];
    FOR_EACH_FAILURE {
        int released = 0;
        weft_ctx *c = open_failing("cpu");
        weft_tensor *t = c ? weft_tensor_borrow(c, WEFT_F32, WEFT_SHAPE(4), data, gone, &released) : NULL;
        CHECK_EQ(released, c && !t);
        ATTEMPT_WORKED(t);
        weft_ctx_free(c);
        CHECK_EQ(released, c != NULL);
    }
    CHECK_EQ(host_live, 0);
}

TEST_MAIN
