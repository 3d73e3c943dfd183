/* Data sets from folders: where captions come from, repeats, and everything that can be wrong with files. */
#include <fcntl.h>
#include <time.h>

#include "tests/data_bed.h"

/* What was told, one after the other. */
static char told[8192];
static int notices;
static void hear(void *user, const char *message) {
    (void)user;
    notices++;
    snprintf(told + strlen(told), sizeof told - strlen(told), "%s\n", message);
}

static weft_dataset_options plain(weft_ctx *c) {
    weft_dataset_options o = weft_dataset_defaults();
    weft_set_warn(c, hear, NULL);
    o.folder = data_root;
    o.width = o.height = 4;
    told[0] = 0;
    notices = 0;
    return o;
}

/* Opening fails with a message that has the text. */
static void refuses(weft_ctx *c, const weft_dataset_options *o, const char *text) {
    weft_dataset *d = weft_dataset_open(c, o);
    CHECK(!d);
    CHECK_HAS(weft_message(c), text);
    weft_clear(c);
    weft_dataset_close(d);
}

/* ---- what is found ----------------------------------------------------------------------------------------------- */

TEST(files_come_in_the_order_of_their_paths_bytes) {
    weft_ctx *c = data_bed();
    static const char *const names[] = { "B.png", "a/z.png", "a.png", "a-b.png", "é.png", "a/b/c.PNG", "10.png",
                                         "9.png", ".hidden.png", ".folder/x.png", "a/note.md" };
    static const char *const order[] = { "10.png", "9.png", "B.png", "a-b.png", "a.png", "a/b/c.PNG", "a/z.png",
                                         "é.png" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) put_picture(c, names[i], 4, 4, 0, 0, 0);
    CHECK(!symlink("..", data_path("a/back")));         /* a folder inside itself */
    CHECK(!symlink("nowhere", data_path("a/dangling")));
    CHECK(!mkfifo(data_path("pipe.png"), 0600));        /* would wait for ever */
    weft_dataset_options o = plain(c);
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    CHECK_EQ(weft_dataset_length(d), 8);
    for (int i = 0; i < 8; i++) CHECK_STR(weft_dataset_file(d, i), order[i]);
    CHECK_STR(told, "");
    weft_dataset_close(d);
    data_bed_free(c);
}

TEST(captions_of_each_kind) {
    weft_ctx *c = data_bed();
    static const char *const names[] = { "a name.png", "b.png", "c.png", "sub/d.png", "sub/e.png", "x.y.png" };
    static const char *const captions[] = { "a name", "two  lines here", "from metadata", "nested, \"quoted\"", "",
                                            "stem" };
    for (int i = 0; i < 6; i++) put_picture(c, names[i], 4, 4, 0, 0, 0);
    put_text("b.txt", "\xef\xbb\xbf  two \nlines here\r\n\n");
    put_text("c.txt", "not this");
    put_text("x.y.txt", "stem");
    put_text("sub/e.txt", "");
    put_text("metadata.jsonl", "{\"file_name\": \"c.png\", \"text\": \" from metadata \", \"more\": [1]}\r\n\n");
    put_text("sub/metadata.jsonl", "{\"file_name\": \"./d.png\", \"text\": \"nested, \\\"quoted\\\"\"}");
    weft_dataset_options o = plain(c);
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    CHECK_EQ(weft_dataset_length(d), 6);
    for (int i = 0; i < 6; i++) {
        CHECK_STR(weft_dataset_file(d, i), names[i]);
        CHECK_STR(weft_dataset_caption(d, i), captions[i]);
    }
    CHECK_STR(told, "");
    weft_dataset_close(d);
    data_bed_free(c);
}

TEST(folders_repeat_as_kohyas_do) {
    weft_ctx *c = data_bed();
    static const char *const names[] = { "3_sks dog/1.png", "3_sks dog/deep/2.png", "12_/no.png", "5_cat/a.png",
                                         "plain/b.png", "top.png", "0_none/c.png" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) put_picture(c, names[i], 4, 4, 0, 0, 0);
    put_text("5_cat/a.txt", "a cat");
    weft_dataset_options o = plain(c);
    o.repeats = true;
    o.batch = 100;
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    CHECK_HAS(told, "0_none/c.png: the folder asks for 0 repeats");
    CHECK_EQ(weft_dataset_length(d), 3 + 3 + 5 + 1 + 1 + 1);
    int count[3] = { 0 };
    for (int i = 0; i < 14; i++) {
        const char *caption = weft_dataset_caption(d, i);
        count[0] += !strcmp(caption, "sks dog");
        count[1] += !strcmp(caption, "a cat");
        count[2] += !strcmp(caption, "no");
    }
    CHECK_EQ(count[0], 6);
    CHECK_EQ(count[1], 5);
    CHECK_EQ(count[2], 1);          /* "12_" has no name: an ordinary folder */
    weft_dataset_close(d);
    o.repeats = false;
    d = weft_dataset_open(c, &o);
    REQUIRE(d);
    CHECK_EQ(weft_dataset_length(d), 7);
    weft_dataset_close(d);
    data_remove(data_path("0_none"));
    put_picture(c, "99999999999_x/c.png", 4, 4, 0, 0, 0);
    o.repeats = o.strict = true;
    refuses(c, &o, "99999999999_x/c.png: the folder asks for more than 1000000 repeats");
    data_bed_free(c);
}

/* ---- what is wrong ----------------------------------------------------------------------------------------------- */

TEST(nothing_to_read) {
    weft_ctx *c = data_bed();
    weft_dataset_options o = plain(c);
    refuses(c, &o, "there is no picture in it that can be used");
    put_text("a.webp", "RIFF");
    put_text("b.gif", "GIF89a");
    refuses(c, &o, "there is no picture");
    CHECK_HAS(told, "2 pictures of kinds that are not read, such as a.webp");
    o.strict = true;
    refuses(c, &o, "2 pictures of kinds that are not read");
    o.folder = data_path("a.webp");
    refuses(c, &o, "cannot be read as a folder of pictures: Not a directory");
    data_bed_free(c);
}

/* One fault at a time: told and left out, and the error in strict. */
#define LEAVES_OUT(make, message, left) do { \
        weft_ctx *c = data_bed(); \
        put_picture(c, "good.png", 4, 4, 255, 255, 255); \
        make; \
        weft_dataset_options o = plain(c); \
        weft_dataset *d = weft_dataset_open(c, &o); \
        if (!d) TEST_FAIL("%s", weft_message(c)); \
        CHECK_EQ(weft_dataset_length(d), left); \
        CHECK_HAS(told, message); \
        CHECK_EQ(notices, 1); \
        CHECK_EQ(weft_dataset_stats(d).left_out, 1); \
        weft_dataset_close(d); \
        o.strict = true; \
        refuses(c, &o, message); \
        data_bed_free(c); \
    } while (0)

static void put_large(const char *name, off_t size) {
    int fd = open(data_path(name), O_CREAT | O_WRONLY, 0600);
    if (fd < 0 || ftruncate(fd, size) || close(fd)) TEST_FAIL("%s cannot be written", name);
}

/* The same for a caption file of these bytes, and for a second line of metadata. */
#define CAPTION(make, message) LEAVES_OUT((put_picture(c, "bad.png", 4, 4, 0, 0, 0), make), message, 1)
#define METADATA(text, message) \
    LEAVES_OUT(put_text("metadata.jsonl", "{\"file_name\": \"good.png\", \"text\": \"x\"}\n" text), message, 1)

TEST(captions_that_cannot_be_used) {
    CAPTION(put_text("bad.txt", "caf\xe9"), "/bad.txt: the caption is no UTF-8");
    CAPTION(put("bad.txt", "a\0b", 3), "/bad.txt: the caption is no UTF-8");
    CAPTION(put_large("bad.txt", 100 << 20), "bad.txt: has 104857600 bytes; at most 1048576 are read");
    LEAVES_OUT(put_picture(c, "caf\xe9.png", 4, 4, 0, 0, 0), "the name is no UTF-8 text", 1);
    METADATA("{\"file_name\": \"good.png\", \"text\": \"y\"}", "/metadata.jsonl:2: \"good.png\" has a caption already");
    METADATA("\n\n{\"file_name\": \"lost.png\", \"text\": \"y\"}", "/metadata.jsonl:4: \"lost.png\" is not there");
    METADATA("{\"file_name\": \"metadata.jsonl\", \"text\": \"y\"}", "jsonl:2: \"metadata.jsonl\" is no picture");
    METADATA("{\"file_name\": \"../good.png\", \"text\": \"y\"}", "jsonl:2: \"../good.png\" leads out of the folder");
    METADATA("{\"file_name\": \"/etc/passwd\", \"text\": \"y\"}", "jsonl:2: \"/etc/passwd\" leads out of the folder");
    METADATA("{\"file_name\": \"good.png\"}",
             "jsonl:2: expected {\"file_name\": \"…\", \"text\": \"…\"}, found nothing as text");
    METADATA("[\"good.png\"]", "found nothing as file_name");
    METADATA("{\"file_name\": \"good.png\", \"text\": \"\xe9\"}", "/metadata.jsonl:2:");
    METADATA("{\"file_name\": \"good.png\",\n", "/metadata.jsonl:2:");
}

TEST(a_long_line_of_metadata) {
    weft_ctx *c = data_bed();
    size_t n = 3 << 20;
    char *text = malloc(n);
    memset(text, 'x', n);
    memcpy(text, "\n{\"file_name\": \"", 16);
    put_picture(c, "good.png", 4, 4, 0, 0, 0);
    put("metadata.jsonl", text, n);
    free(text);
    weft_dataset_options o = plain(c);
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    CHECK_HAS(told, "metadata.jsonl:2: a line of 3145727 bytes; at most 2097152");
    weft_dataset_close(d);
    data_bed_free(c);
}

TEST(folders_that_cannot_be_used) {
    weft_ctx *c = data_bed();
    char deep[400] = "";
    for (int i = 0; i < 40; i++) strcat(deep, "d/");
    strcat(deep, "x.png");
    put_picture(c, deep, 4, 4, 0, 0, 0);
    put_picture(c, "good.png", 4, 4, 0, 0, 0);
    weft_dataset_options o = plain(c);
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    CHECK_EQ(weft_dataset_length(d), 1);
    CHECK_HAS(told, "too many folders inside each other");
    weft_dataset_close(d);
    data_bed_free(c);
}

/* Runs n batches; the pictures that came, or −1 after an error. */
static int64_t run_batches(weft_ctx *c, weft_dataset *d, int n) {
    int64_t count = 0;
    for (int i = 0; i < n; i++) {
        weft_data_batch b;
        weft_scope s = weft_scope_named(c, "batch");
        if (weft_dataset_next(c, d, &b)) count = INT64_MIN / 2;
        count += b.count;
        CHECK(!b.images || weft_dim(b.images, 0) == b.count);
        weft_scope_end(c, s, NULL);
    }
    return count < 0 ? -1 : count;
}

/* The pictures of the first two epochs. A batch of which nothing can be read does not come at all. */
static int64_t two_epochs(weft_ctx *c, weft_dataset *d) {
    int64_t count = 0;
    for (weft_data_batch b = { 0 }; b.epoch < 2; count += b.epoch < 2 ? b.count : 0) {
        weft_scope s = weft_scope_named(c, "batch");
        if (weft_dataset_next(c, d, &b)) return -1;
        weft_scope_end(c, s, NULL);
    }
    return count;
}

TEST(broken_pictures_are_named_and_left_out) {
    weft_ctx *c = data_bed();
    for (int i = 0; i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.png", i);
        put_picture(c, name, 5, 5, 0, 0, 0);
    }
    put_text("1.png", "no picture");
    put_text("3.png", "");
    CHECK(!truncate(data_path("4.png"), 60));
    put_picture(c, "narrow.png", 1, 3000, 0, 0, 0);
    put_picture(c, "one pixel.png", 1, 1, 9, 9, 9);
    for (int buckets = 0; buckets < 2; buckets++)
        for (int threads = 0; threads < 3; threads++) {
            weft_dataset_options o = plain(c);
            o.threads = threads;
            o.batch = 4;
            o.bucket_base = buckets ? 16 : 0;
            o.bucket_step = 8;
            weft_dataset *d = weft_dataset_open(c, &o);
            REQUIRE(d);
            CHECK_EQ(weft_dataset_length(d), buckets ? 6 : 8);          /* buckets look at every file's sides */
            CHECK_EQ(two_epochs(c, d), 8);
            CHECK_EQ(notices, 4);                                       /* once a file */
            CHECK_HAS(told, "/1.png: not a PNG, JPEG or BMP picture");
            CHECK_HAS(told, "/3.png: not a PNG");
            CHECK_HAS(told, "/4.png: the picture is broken");
            CHECK_HAS(told, "/narrow.png: a picture of 3000 × 1 is too long and narrow");
            CHECK(weft_dataset_stats(d).left_out >= (buckets ? 2 + 4 : 8));      /* each time */
            weft_dataset_close(d);
            o.strict = true;
            if (buckets) {
                refuses(c, &o, "/1.png: not a PNG");
                continue;
            }
            d = weft_dataset_open(c, &o);
            REQUIRE(d);
            CHECK_EQ(run_batches(c, d, 1), -1);
            CHECK_HAS(weft_message(c), "/1.png: not a PNG, JPEG or BMP picture");
            weft_clear(c);
            weft_dataset_close(d);
        }
    data_bed_free(c);
}

TEST(no_picture_can_be_read) {
    weft_ctx *c = data_bed();
    put_text("1.png", "no picture");
    put_text("2.png", "nor this");
    weft_dataset_options o = plain(c);
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    CHECK_EQ(run_batches(c, d, 1), -1);
    CHECK_HAS(weft_message(c), "not one picture can be read");
    weft_clear(c);
    weft_dataset_close(d);
    data_bed_free(c);
}

TEST(files_that_go_away) {
    weft_ctx *c = data_bed();
    for (int i = 0; i < 3; i++) put_picture(c, (const char *const[]){ "a.png", "b.png", "c.png" }[i], 4, 4, 0, 0, 0);
    weft_dataset_options o = plain(c);
    o.threads = 0;
    o.batch = 3;
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    unlink(data_path("b.png"));
    CHECK_EQ(run_batches(c, d, 1), 2);
    CHECK_HAS(told, "b.png: cannot be opened: No such file");
    weft_dataset_close(d);
    data_bed_free(c);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

TEST(stopping_at_any_time) {
    weft_ctx *c = data_bed();
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.png", i);
        put_picture(c, name, 60, 60, i, 0, 0);
    }
    weft_dataset_options o = plain(c);
    o.batch = 3;
    for (int i = 0; i < 60; i++) {
        o.threads = i % 5;
        o.depth = 1 + i % 4;
        weft_dataset *d = weft_dataset_open(c, &o);
        REQUIRE(d);
        int batches = i % 7;
        if (run_batches(c, d, batches) < 3 * batches - 10) TEST_FAIL("%s", weft_message(c));
        nanosleep(&(struct timespec){ 0, (i * 37 % 11) * 100000 }, NULL);
        weft_dataset_close(d);
    }
    weft_dataset_close(NULL);
    data_bed_free(c);
}

TEST(batches_are_made_ahead) {
    weft_ctx *c = data_bed();
    for (int i = 0; i < 8; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.png", i);
        put_picture(c, name, 40, 40, i, 0, 0);
    }
    weft_dataset_options o = plain(c);
    o.batch = 2;
    o.depth = 3;
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    for (int i = 0; i < 6; i++) {
        /* A step that takes longer than a batch: up to two seconds where the machine is busy. */
        for (int wait = 0; wait < 2000 && weft_dataset_stats(d).ready < 3; wait++)
            nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
        CHECK_EQ(weft_dataset_stats(d).ready, 3);
        CHECK_EQ(run_batches(c, d, 1), 2);
    }
    weft_data_stats stats = weft_dataset_stats(d);
    CHECK_EQ(stats.batches, 6);
    CHECK_EQ(stats.stalls, 0);
    CHECK_NEAR(stats.waited, 0, 0);
    CHECK(stats.busy > 0);
    weft_dataset_close(d);
    o.threads = 0;
    d = weft_dataset_open(c, &o);
    REQUIRE(d);
    run_batches(c, d, 2);
    CHECK_EQ(weft_dataset_stats(d).stalls, 2);
    CHECK(weft_dataset_stats(d).waited > 0);
    weft_dataset_close(d);
    data_bed_free(c);
}

TEST_MAIN
