/* The cache of tensors on disk: what comes back, keys, broken entries. */
#include "nodes/data/cache.h"
#include "tests/data_bed.h"
#include "tests/host_data.h"

static weft_hash key_of(const char *text) {
    weft_hash k = { 0, 0 };
    weft_hash_text(&k, text);
    return k;
}

static char entry[512];
static const char *entry_path(weft_hash key) {
    char hex[33];
    weft_hash_hex(key, hex);
    snprintf(entry, sizeof entry, "%s/a/b/%.2s/%s.safetensors", data_root, hex, hex);
    return entry;
}

static weft_status store(weft_ctx *c, weft_cache *k, weft_hash key, float first) {
    weft_scope s = weft_scope_named(c, "store");
    weft_tensor *x = weft_full(c, WEFT_F32, WEFT_SHAPE(2, 3), first), *y = weft_full(c, WEFT_F32, WEFT_SHAPE(4), 0.5);
    weft_st_item items[] = { { "latent", x, WEFT_F32 }, { "pooled", y, WEFT_F16 } };
    weft_status status = weft_cache_put(c, k, key, items, 2);
    weft_scope_end(c, s, NULL);
    return status;
}

/* Whether the entry is there with this first value. */
static bool has(weft_ctx *c, weft_cache *k, weft_hash key, float first) {
    static const char *const names[] = { "pooled", "latent" };
    weft_tensor *t[2];
    weft_scope s = weft_scope_named(c, "has");
    bool there = weft_cache_get(c, k, key, names, 2, t);
    CHECK(weft_ok(c));
    if (there) {
        CHECK_EQ(weft_type(t[0]), WEFT_F16);
        CHECK_EQ(weft_rank(t[1]), 2);
        there = ((float *)host_data(t[1]))[5] == first;
    }
    weft_scope_end(c, s, NULL);
    return there;
}

TEST(what_is_put_comes_back) {
    weft_ctx *c = data_bed();
    weft_cache *k = weft_cache_open(c, data_path("a/b"));
    REQUIRE(k);
    CHECK(!has(c, k, key_of("x"), 1));
    CHECK_EQ(store(c, k, key_of("x"), 1), WEFT_OK);
    CHECK_EQ(store(c, k, key_of("y"), 2), WEFT_OK);
    CHECK(has(c, k, key_of("x"), 1));
    CHECK(has(c, k, key_of("y"), 2));
    CHECK(!has(c, k, key_of("z"), 1));
    CHECK_EQ(store(c, k, key_of("x"), 3), WEFT_OK);     /* written over */
    weft_cache_close(k);
    k = weft_cache_open(c, data_path("a/b"));           /* another process */
    CHECK(has(c, k, key_of("x"), 3));
    weft_tensor *t;
    CHECK(!weft_cache_get(c, k, key_of("x"), (const char *const[]){ "other" }, 1, &t));
    CHECK(weft_ok(c));
    weft_cache_stats stats = weft_cache_stats_of(k);
    CHECK_EQ(stats.found, 1);
    CHECK_EQ(stats.missing, 1);
    weft_cache_close(k);
    data_bed_free(c);
}

TEST(keys_are_of_content) {
    weft_hash a = { 0, 0 }, b = { 0, 0 };
    weft_hash_text(&a, "ab");
    weft_hash_text(&a, "c");
    weft_hash_text(&b, "a");
    weft_hash_text(&b, "bc");
    CHECK(!weft_hash_equal(a, b));
    char hex[33];
    CHECK_EQ(strlen(weft_hash_hex(a, hex)), 32);
}

TEST(broken_entries_count_as_missing) {
    weft_ctx *c = data_bed();
    weft_cache *k = weft_cache_open(c, data_path("a/b"));
    weft_hash x = key_of("x"), y = key_of("y");
    struct stat s;
    REQUIRE(k && !store(c, k, x, 1) && !store(c, k, y, 2));
    REQUIRE(!stat(entry_path(x), &s));
    int rejected = 0;
    for (off_t size = s.st_size - 1; size >= 0; size -= 1 + size / 20) {        /* cut short anywhere */
        CHECK(!truncate(entry_path(x), size));
        CHECK(!has(c, k, x, 1));
        rejected++;
        CHECK_EQ(store(c, k, x, 1), WEFT_OK);
        CHECK(has(c, k, x, 1));
    }
    for (off_t at = 0; at < s.st_size; at += 7) {       /* one bit is another */
        FILE *f = fopen(entry_path(x), "r+b");
        REQUIRE(f && !fseek(f, at, SEEK_SET));
        int byte = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(byte ^ 4, f);
        fclose(f);
        /* A change may leave the same JSON values only in the name of a key of the metadata, never here. */
        if (has(c, k, x, 1)) TEST_FAIL("byte %ld is another and nothing is noticed", (long)at);
        rejected++;
        CHECK_EQ(store(c, k, x, 1), WEFT_OK);
    }
    CHECK_EQ(weft_cache_stats_of(k).broken, rejected);
    char other[512];
    snprintf(other, sizeof other, "%s", entry_path(y));
    CHECK(!rename(entry_path(x), other));               /* another's entry under this name */
    CHECK(!has(c, k, y, 1));
    weft_cache_close(k);
    data_bed_free(c);
}

TEST(folders_that_cannot_be_made) {
    weft_ctx *c = data_bed();
    put_text("file", "x");
    CHECK(!weft_cache_open(c, data_path("file")));
    CHECK_HAS(weft_message(c), "/file: the cache's folder cannot be made: Not a directory");
    weft_clear(c);
    CHECK(!weft_cache_open(c, data_path("file/below")));
    CHECK_HAS(weft_message(c), "cannot be made");
    weft_clear(c);
    CHECK(!weft_cache_open(c, ""));
    weft_clear(c);
    weft_cache *k = weft_cache_open(c, data_path("a/b"));
    char hex[33], name[64];
    weft_hash_hex(key_of("x"), hex);
    snprintf(name, sizeof name, "a/b/%.2s", hex);
    put_text(name, "in the way");
    CHECK(store(c, k, key_of("x"), 1) != WEFT_OK);
    CHECK_HAS(weft_message(c), "Not a directory");
    weft_clear(c);
    CHECK(!has(c, k, key_of("x"), 1));
    weft_cache_close(k);
    data_bed_free(c);
}

TEST_MAIN
