/* Opening a data set, taking batches, and the cache, when memory ends: each allocation of the process fails in turn. */
#include "nodes/data/cache.h"
#include "tests/data_bed.h"
#include "tests/failing_malloc.h"

#ifdef FAILING_MALLOC

/* The back end that keeps nothing for the next time, so that allocations can be counted. */
static weft_ctx *memory_bed(void) {
    weft_ctx_free(data_bed());
    return weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1 });
}

/* A folder with captions of each kind, repeats and buckets. */
static weft_dataset_options furnish(weft_ctx *c) {
    put_picture(c, "2_a/1.png", 20, 9, 1, 2, 3);
    put_picture(c, "2_a/2.png", 12, 13, 1, 2, 3);
    put_picture(c, "b/3.png", 8, 20, 1, 2, 3);
    put_text("2_a/1.txt", "one, two, three");
    put_text("b/metadata.jsonl", "{\"file_name\": \"3.png\", \"text\": \"a caption\"}\n");
    weft_dataset_options o = weft_dataset_defaults();
    o.folder = data_root;
    o.repeats = o.shuffle = o.shuffle_tags = true;
    o.bucket_base = 16;
    o.bucket_step = 8;
    o.batch = 2;
    o.threads = 0;
    static const char *const templates[] = { "a photo of {}" };
    o.templates = templates;
    o.template_count = 1;
    return o;
}

/* Opens the data set and takes three batches. */
static bool use_dataset(weft_ctx *c, const void *user) {
    weft_dataset *d = weft_dataset_open(c, user);
    for (int i = 0; d && i < 3; i++) {
        weft_data_batch b;
        weft_scope s = weft_scope_named(c, "batch");
        bool good = !weft_dataset_next(c, d, &b) && b.count && b.images;
        weft_scope_end(c, s, NULL);
        if (!good) break;
    }
    weft_dataset_close(d);
    return weft_ok(c);
}

static bool use_cache(weft_ctx *c, const void *user) {
    (void)user;
    weft_scope s = weft_scope_named(c, "test");
    weft_cache *k = weft_cache_open(c, data_path("cache"));
    weft_tensor *t = weft_full(c, WEFT_F32, WEFT_SHAPE(3), 1), *got;
    weft_hash key = { 1, 2 };
    bool done = k && !weft_cache_put(c, k, key, &(weft_st_item){ "x", t, WEFT_F32 }, 1) &&
        weft_cache_get(c, k, key, (const char *const[]){ "x" }, 1, &got);
    weft_scope_end(c, s, NULL);
    weft_cache_close(k);
    return done;
}

static void all_failures(weft_ctx *c, bool (*attempt)(weft_ctx *c, const void *user), const void *user, int least) {
    CHECK(attempt(c, user));        /* what is made once is made */
    weft_memory_trim(c);
    for (long n = 0; !test_failures; n++) {
        long before = live;
        refused = false;
        countdown = n;
        bool worked = attempt(c, user);
        countdown = -1;
        bool done = !refused;
        if (done && !worked) TEST_FAIL("failed although no allocation did: %s", weft_message(c));
        if (!worked && weft_error(c) != WEFT_E_MEMORY)
            TEST_FAIL("failure %ld: %s: %s", n, weft_status_name(weft_error(c)), weft_message(c));
        weft_clear(c);
        weft_memory_trim(c);
        if (live != before) TEST_FAIL("failure %ld: %ld allocations leaked", n, live - before);
        CHECK_EQ(weft_memory_live(c), 0);
        if (!done) continue;
        CHECK(n > least);
        break;
    }
}

TEST(data_set) {
    weft_ctx *c = memory_bed();
    weft_dataset_options o = furnish(c);
    all_failures(c, use_dataset, &o, 100);
    o.strict = true;
    all_failures(c, use_dataset, &o, 100);
    data_bed_free(c);
}

TEST(data_set_in_memory) {
    weft_ctx *c = memory_bed(), *owner = weft_ctx_new(NULL);
    weft_dataset_options o = weft_dataset_defaults();
    o.images = pictures(owner, 5, 6, 6);
    o.width = o.height = 4;
    o.threads = 0;
    all_failures(c, use_dataset, &o, 20);
    weft_ctx_free(owner);
    data_bed_free(c);
}

TEST(cache) {
    weft_ctx *c = memory_bed();
    all_failures(c, use_cache, NULL, 10);
    data_bed_free(c);
}

#else
TEST(needs_a_malloc_of_its_own) { printf("this build's malloc cannot be replaced\n"); }
#endif
TEST_MAIN
