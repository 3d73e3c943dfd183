/* Counted memory: sizes, the cache, the limit, scratch; and random use beside a model of what must be live. Watched
 * contexts take their memory from here block by block, the others divide the CPU's. */
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

TEST(sizes_waste_little) {
    weft_ctx *c = open_watched(0);
    for (int64_t n = 0; n < 300000; n += n < 5000 ? 1 : 97) {
        weft_scope s = weft_scope_named(c, "s");
        weft_tensor *t = bytes(c, n);
        REQUIRE(t);
        int64_t live = (int64_t)weft_memory_live(c);
        int64_t most = n == 0 ? 64 : n + (n < 65536 ? 63 : 4095);       /* lines of the cache, pages */
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

/* What a size takes. */
static size_t taken(size_t n) {
    size_t step = n < 65536 ? 64 : 4096;
    return n ? (n + step - 1) / step * step : step;
}

/* The free parts in the chunks hold together, and what is cached is what they and the whole blocks sum up to. */
static void check_parts(weft_ctx *c) {
    const weft_memory *m = &c->memory;
    size_t cached = 0, free_parts = 0;
    for (const weft_block *b = m->oldest; b; b = b->newer) cached += b->size;
    for (const weft_block *b = m->parts; b; b = b->next) {
        CHECK(b->state != WEFT_BLOCK_LIVE && b->size);
        CHECK(b->size % WEFT_PAGE == 0 && (uintptr_t)b->data % WEFT_PAGE == 0);
        CHECK(!b->right || (b->right->left == b && b->right->data == b->data + b->size && b->right->state != b->state));
        CHECK(!b->left || (b->left->right == b && b->left->state != b->state));
        if (b->state == WEFT_BLOCK_CACHED) cached += b->size;
        free_parts += b->size;
    }
    CHECK_EQ(m->cached, cached);
    CHECK(free_parts <= m->reserved);
    CHECK(!m->limit || m->live + m->cached <= m->limit);
}

enum { HELD = 200 };
struct held { weft_tensor *t; size_t size; int64_t n; uint8_t mark; };

/* Frees the tensor, after a look whether its bytes are still its own. */
static size_t give_back(struct held *h) {
    const uint8_t *p = weft_data(h->t);
    for (int64_t j = 0; j < h->n; j += 1 + h->n / 16)
        if (p[j] != h->mark) TEST_FAIL("memory of two tensors overlaps");
    if (h->n && p[h->n - 1] != h->mark) TEST_FAIL("memory of two tensors overlaps");
    weft_unref(h->t);
    h->t = NULL;
    return h->size;
}

static bool take(weft_ctx *c, struct held *h, int64_t n, uint8_t mark) {
    weft_scope s = weft_scope_named(c, "s");
    weft_tensor *t = weft_ref(bytes(c, n));
    weft_scope_end(c, s, NULL);
    if (!t) {
        CHECK_EQ(weft_error(c), WEFT_E_MEMORY);
        weft_clear(c);
        return false;
    }
    *h = (struct held){ t, taken((size_t)n), n, mark };
    memset(weft_data(t), mark, (size_t)n);
    return true;
}

/* Sizes up to `largest`, evenly spread over their logarithm. A request fails if and only if it goes over the limit. */
static void random_use(weft_ctx *c, int steps, double largest) {
    static struct held held[HELD];
    size_t live = 0, peak = 0;
    uint64_t state = 7;
    int refused = 0;
    for (int i = 0; i < steps && !test_failures; i++) {
        struct held *h = &held[(int)((noise(&state) + 1) / 2 * HELD)];
        int64_t n = (int64_t)exp((noise(&state) + 1) / 2 * log(largest));
        if (h->t) live -= give_back(h);
        else {
            bool fits = live + taken((size_t)n) <= weft_memory_limit(c), got = take(c, h, n, (uint8_t)i);
            CHECK_EQ(got, fits);
            if (got) live += h->size;
            refused += !got;
        }
        if (live > peak) peak = live;
        CHECK_EQ(weft_memory_live(c), live);
        CHECK_EQ(weft_memory_peak(c), peak);
        check_parts(c);
        if (i % 9973 == 9972) weft_memory_trim(c);
    }
    CHECK(refused > steps / 1000);              /* the limit was in play */
    for (int i = 0; i < HELD; i++)
        if (held[i].t) give_back(&held[i]);
}

TEST(random_use_of_whole_blocks) {
    weft_ctx *c = open_watched(1500000);
    random_use(c, 100000, 240000);
    CHECK_COUNTS(c);
    CLOSE(c);
    CHECK_EQ(sys.blocks, 0);
    CHECK_EQ(sys.bytes, 0);
}

TEST(random_use_of_parts) {
    static const char *const device[] = { "cpu", "reference" };
    for (int i = 0; i < 2; i++) {
        weft_ctx *c = weft_ctx_new(&(weft_options){ .device = device[i], .threads = 1, .memory_limit = 60000000 });
        random_use(c, 20000, 8e6);
        weft_memory_trim(c);
        CHECK_EQ(weft_memory_held(c), 0);
        CHECK_EQ(c->memory.reserved, 0);
        CLOSE(c);
    }
}

/* NULL in a sanitizer's build, where all blocks are whole. */
static weft_ctx *open_dividing(void) {
    weft_ctx *c = open_device("cpu");
    if (c->memory.divides) return c;
    weft_ctx_free(c);
    return NULL;
}

TEST(parts_are_divided_and_joined) {
    weft_ctx *c = open_dividing();
    const int64_t mib = 1 << 20;
    if (!c) return;
    for (int step = 0; step < 3; step++) {      /* one large, then eight small in its place, then one large again */
        weft_scope s = weft_scope_named(c, "s");
        weft_tensor *t = bytes(c, 80 * mib);
        CHECK(t);
        weft_scope_end(c, s, NULL);
        s = weft_scope_named(c, "s");
        for (int i = 0; i < 8; i++) CHECK(bytes(c, 10 * mib));
        weft_scope_end(c, s, NULL);
        CHECK_EQ(weft_memory_held(c), 80 * mib);
        check_parts(c);
    }
    weft_scope s = weft_scope_named(c, "s");
    CHECK(bytes(c, 90 * mib));                  /* grows what is cached */
    CHECK_EQ(weft_memory_held(c), 90 * mib);
    weft_scope_end(c, s, NULL);
    CLOSE(c);
}

static int64_t resident(void) {
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1) pages = -1;
    if (f) fclose(f);
    return pages < 0 ? -1 : pages * sysconf(_SC_PAGESIZE);
}

TEST(what_is_given_back_is_not_resident) {
    weft_ctx *c = open_dividing();
    const int64_t mib = 1 << 20;
    if (!c) return;
    static struct held held[20];
    int64_t before = resident();
    for (int i = 0; i < 20; i++) REQUIRE(take(c, &held[i], 10 * mib, (uint8_t)i));
    CHECK(resident() - before >= 190 * mib);
    for (int i = 0; i < 20; i += 2) give_back(&held[i]);
    weft_memory_trim(c);                        /* every second one, with what is live on both sides */
    CHECK_EQ(weft_memory_held(c), 100 * mib);
    CHECK(resident() - before <= 100 * mib + 24 * mib);         /* pages of 2 MiB may stay at both ends of each */
    for (int i = 1; i < 20; i += 2) give_back(&held[i]);
    CLOSE(c);
}

TEST(a_tight_limit_is_reached_with_fragments) {
    weft_ctx *c = open_device("cpu");
    const int64_t mib = 1 << 20;
    static struct held held[40];
    weft_set_memory_limit(c, 40 * mib);
    for (int i = 0; i < 40; i++) REQUIRE(take(c, &held[i], mib, (uint8_t)i));
    CHECK(!bytes(c, 1));
    weft_clear(c);
    for (int i = 0; i < 40; i += 2) give_back(&held[i]);
    CHECK(bytes(c, 20 * mib));                  /* no hole is so large, but the holes' pages can go elsewhere */
    CHECK_EQ(weft_memory_held(c), 40 * mib);
    check_parts(c);
    for (int i = 1; i < 40; i += 2) give_back(&held[i]);
    CLOSE(c);
}

TEST_MAIN
