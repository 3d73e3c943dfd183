/* Counted memory: classes, the cache, the limit, scratch; and random use beside a model of what must be live. */
#include "tests/tensors.h"

/* The system, watched: what is outside now, and whether the next request is refused. */
static struct { size_t bytes, most; int64_t blocks, calls; bool refuse, crooked; } sys;

static void *sys_alloc(void *user, size_t bytes) {
    CHECK(user == &sys);
    if (sys.refuse) return NULL;
    void *p = aligned_alloc(64, bytes + 64);
    if (!p) return NULL;
    memset(p, 0x55, bytes);
    sys.calls++;
    sys.blocks++;
    sys.bytes += bytes;
    if (sys.bytes > sys.most) sys.most = sys.bytes;
    return (char *)p + (sys.crooked ? 16 : 0);
}

static void sys_free(void *user, void *p, size_t bytes) {
    CHECK(user == &sys);
    sys.blocks--;
    sys.bytes -= bytes;
    free((char *)p - (uintptr_t)p % 64);
}

static weft_ctx *open_watched(size_t limit) {
    memset(&sys, 0, sizeof sys);
    return weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1, .memory_limit = limit,
                                         .os_alloc = sys_alloc, .os_free = sys_free, .os_user = &sys });
}

/* Every count agrees with the system's. */
#define CHECK_COUNTS(c) do { \
        CHECK_EQ(weft_memory_held(c), sys.bytes); \
        CHECK(weft_memory_live(c) <= weft_memory_held(c)); \
        CHECK(weft_memory_live(c) <= weft_memory_peak(c)); \
        if (weft_memory_limit(c)) CHECK(sys.most <= weft_memory_limit(c)); \
    } while (0)

static weft_tensor *bytes(weft_ctx *c, int64_t n) { return weft_tensor_new(c, WEFT_U8, WEFT_SHAPE(n)); }

TEST(classes_waste_little) {
    weft_ctx *c = open_watched(0);
    for (int64_t n = 0; n < 300000; n += n < 5000 ? 1 : 97) {
        weft_scope s = weft_scope_named(c, "s");
        weft_tensor *t = bytes(c, n);
        REQUIRE(t);
        int64_t live = (int64_t)weft_memory_live(c);
        int64_t most = n ? n + n / 32 + 63 : 64;        /* 1/32, and the 64 bytes of the smallest steps */
        if (live < n || live > most || live % 64 || (uintptr_t)weft_data(t) % 64)
            TEST_FAIL("%" PRId64 " bytes take %" PRId64, n, live);
        weft_scope_end(c, s, NULL);
    }
    CHECK_COUNTS(c);
    CLOSE(c);
    CHECK_EQ(sys.blocks, 0);
}

TEST(what_is_given_back_is_found_again) {
    weft_ctx *c = open_watched(0);
    for (int step = 0; step < 5; step++) {
        weft_scope s = weft_scope_named(c, "s");
        for (int i = 1; i <= 30; i++) bytes(c, i * 10007);
        weft_scope_end(c, s, NULL);
        CHECK_EQ(sys.calls, 30);
    }
    CHECK_EQ(weft_memory_live(c), 0);
    CHECK(weft_memory_held(c) > 0);
    CHECK_COUNTS(c);
    weft_memory_trim(c);
    CHECK_EQ(weft_memory_held(c), 0);
    CHECK_EQ(sys.blocks, 0);
    CLOSE(c);
}

TEST(peak_is_the_most_that_was_live) {
    weft_ctx *c = open_watched(0);
    weft_scope s = weft_scope_named(c, "s");
    bytes(c, 1024), bytes(c, 2048);
    CHECK_EQ(weft_memory_peak(c), 3072);
    weft_scope_end(c, s, NULL);
    bytes(c, 64);
    CHECK_EQ(weft_memory_peak(c), 3072);
    weft_memory_reset_peak(c);
    CHECK_EQ(weft_memory_peak(c), 64);
    CLOSE(c);
}

TEST(limit_is_exact) {
    weft_ctx *c = open_watched(8192);
    weft_scope s = weft_scope_named(c, "s");
    CHECK(bytes(c, 4096));
    CHECK(bytes(c, 4096));
    CHECK(!bytes(c, 1));
    CHECK_ERROR(c, WEFT_E_MEMORY, "new tensor: needs 64 bytes more than the 8.0 KiB in use, "
                "which is over the limit of 8.0 KiB");
    CHECK_EQ(weft_memory_live(c), 8192);
    weft_scope_end(c, s, NULL);
    CHECK(bytes(c, 8192));                          /* the two cached blocks make room for one of another size */
    CHECK_COUNTS(c);
    CHECK(!bytes(c, 8193));
    weft_clear(c);
    weft_set_memory_limit(c, 4096);
    CHECK(!bytes(c, 1));
    weft_clear(c);
    weft_set_memory_limit(c, 0);
    CHECK(bytes(c, 1 << 20));
    CHECK_EQ(weft_memory_held(c), sys.bytes);
    CLOSE(c);
}

TEST(lowering_the_limit_gives_the_cache_back) {
    weft_ctx *c = open_watched(0);
    weft_scope s = weft_scope_named(c, "s");
    for (int i = 0; i < 10; i++) bytes(c, 100000);
    weft_scope_end(c, s, NULL);
    CHECK(weft_memory_held(c) >= 1000000);
    weft_set_memory_limit(c, 300000);
    CHECK(weft_memory_held(c) <= 300000);
    CHECK_EQ(weft_memory_held(c), sys.bytes);
    CLOSE(c);
}

TEST(message_names_sizes) {
    weft_ctx *c = open_watched((size_t)2 << 30);
    CHECK(!weft_full(c, WEFT_F32, WEFT_SHAPE(1 << 30), 0));
    CHECK_ERROR(c, WEFT_E_MEMORY, "full: needs 4.0 GiB more than the 0 bytes in use, "
                "which is over the limit of 2.0 GiB: raise --memory");
    sys.refuse = true;
    CHECK(!weft_full(c, WEFT_F32, WEFT_SHAPE(1 << 18), 0));
    CHECK_ERROR(c, WEFT_E_MEMORY, "full: needs 1.0 MiB more than the 0 bytes in use, and the system has no more");
    weft_set_memory_limit(c, 0);
    CHECK(!weft_tensor_new(c, WEFT_F64, WEFT_SHAPE((int64_t)1 << 57)));
    CHECK_ERROR(c, WEFT_E_MEMORY, "needs 1.0 EiB");
    CLOSE(c);
}

TEST(the_cache_is_given_up_when_the_system_has_no_more) {
    weft_ctx *c = open_watched(0);
    weft_scope s = weft_scope_named(c, "s");
    bytes(c, 5000);
    weft_scope_end(c, s, NULL);
    sys.refuse = true;
    CHECK(bytes(c, 5000));                          /* from the cache */
    weft_scope_flush(c);
    CHECK(!bytes(c, 9000));
    CHECK_EQ(sys.blocks, 0);                        /* the cache went back before it gave up */
    CHECK_ERROR(c, WEFT_E_MEMORY, "the system has no more");
    CHECK_COUNTS(c);
    CLOSE(c);
}

TEST(crooked_memory_is_refused) {
    weft_ctx *c = open_watched(0);
    sys.crooked = true;
    CHECK(!bytes(c, 100));
    CHECK_EQ(weft_error(c), WEFT_E_MEMORY);
    CHECK_EQ(sys.blocks, 0);
    weft_clear(c);
    CLOSE(c);
}

TEST(the_cache_stays_within_its_bound) {
    weft_ctx *c = open_watched(0);
    const int64_t mib = 1 << 20;
    size_t most = 0;
    for (int i = 1; i <= 60; i++) {                 /* ever larger, nothing ever fits what is cached */
        weft_scope s = weft_scope_named(c, "s");
        bytes(c, i * 8 * mib);
        if (weft_memory_held(c) > most) most = weft_memory_held(c);
        weft_scope_end(c, s, NULL);
    }
    CHECK(most <= (size_t)(480 * mib / 4 * 5 + 64 * mib));
    CHECK_COUNTS(c);
    CLOSE(c);
}

TEST(scratch_is_counted) {
    weft_ctx *c = open_watched(10000);
    const weft_env *env = weft_env_now(c);
    void *a = env->alloc(env->owner, 1000), *b = env->alloc(env->owner, 3000);
    REQUIRE(a && b);
    CHECK((uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0);
    CHECK_EQ(weft_memory_live(c), 1024 + 3008);     /* 3000 in steps of 64 */
    CHECK(!env->alloc(env->owner, 8000));
    env->release(env->owner, a, 1000);
    env->release(env->owner, b, 3000);
    CHECK_EQ(weft_memory_live(c), 0);
    CHECK(weft_ok(c));
    CHECK_COUNTS(c);
    CLOSE(c);
}

TEST(scratch_hint_follows_the_limit) {
    weft_ctx *c = open_watched(0);
    CHECK_EQ(weft_env_now(c)->scratch_hint, (size_t)512 << 20);
    weft_set_memory_limit(c, 65536);
    CHECK_EQ(weft_env_now(c)->scratch_hint, 16384);
    bytes(c, 32768);
    CHECK_EQ(weft_env_now(c)->scratch_hint, 8192);
    bytes(c, 32768);
    CHECK_EQ(weft_env_now(c)->scratch_hint, 0);
    CLOSE(c);
}

/* What a size takes, worked out apart from memory.c: a multiple of 64, or of 1/32 of the power of two below it. */
static size_t taken(size_t n) {
    size_t step = 64;
    while (step * 64 < n) step *= 2;
    return n ? (n + step - 1) / step * step : step;
}

TEST(random_use_beside_a_model) {
    enum { HELD = 200, LIMIT = 3000000 };
    weft_ctx *c = open_watched(LIMIT);
    static struct { weft_tensor *t; size_t size; int64_t n; uint8_t mark; } held[HELD];
    size_t live = 0, peak = 0;
    uint64_t state = 7;
    int refused = 0;
    for (int i = 0; i < 100000; i++) {
        int at = (int)((noise(&state) + 1) / 2 * HELD);
        if (held[at].t) {
            const uint8_t *p = weft_data(held[at].t);
            for (int64_t j = 0; j < held[at].n; j += 1 + held[at].n / 16)
                if (p[j] != held[at].mark) TEST_FAIL("memory of two tensors overlaps");
            weft_unref(held[at].t);
            live -= held[at].size;
            held[at].t = NULL;
        } else {
            int64_t n = (int64_t)exp((noise(&state) + 1) * 6.2);        /* 1 … 240 000 */
            weft_scope s = weft_scope_named(c, "s");
            weft_tensor *t = bytes(c, n);
            CHECK_EQ(t == NULL, live + taken((size_t)n) > LIMIT);
            if (!t) {
                refused++;
                CHECK_EQ(weft_error(c), WEFT_E_MEMORY);
                weft_clear(c);
            } else {
                held[at].t = weft_ref(t);
                held[at].size = taken((size_t)n);
                held[at].n = n;
                held[at].mark = (uint8_t)i;
                memset(weft_data(t), held[at].mark, (size_t)n);
                live += held[at].size;
            }
            weft_scope_end(c, s, NULL);
        }
        if (live > peak) peak = live;
        CHECK_EQ(weft_memory_live(c), live);
        CHECK_EQ(weft_memory_peak(c), peak);
        CHECK_COUNTS(c);
        if (i % 9973 == 0) weft_memory_trim(c);
        if (test_failures) break;
    }
    CHECK(refused > 100);               /* the limit was in play */
    for (int i = 0; i < HELD; i++) weft_unref(held[i].t);
    CLOSE(c);
    CHECK_EQ(sys.blocks, 0);
    CHECK_EQ(sys.bytes, 0);
}

TEST_MAIN
