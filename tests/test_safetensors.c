/* safetensors: files of the reference library read and written byte for byte, and every way in which a file can be
 * wrong. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <dirent.h>
#include <signal.h>
#include <time.h>
#include "runtime/safetensors.h"
#include "tests/test.h"
#include "tests/host_memory.h"

#define PLAIN WEFT_SOURCE_DIR "/tests/golden/st_plain.safetensors"
#define FOREIGN WEFT_SOURCE_DIR "/tests/golden/st_foreign.safetensors"
#define ODD_NAME "quote\"back\\slash/tab\tline\nbell\x07\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80\x7f"
#define NOTE "a \"note\"\nof two lines, \xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80"

static weft_ctx *context(void) {
    return weft_ctx_new(&(weft_options){ .threads = 1, .os_alloc = host_os_alloc, .os_free = host_os_free });
}

static void end(weft_ctx *c) {
    CHECK_EQ(weft_memory_live(c), 0);
    weft_ctx_free(c);
    CHECK_EQ(host_live, 0);
}

/* ---- what is right ---------------------------------------------------------------------------------------- */

/* −1, −¾, −½, … as the script has them. */
static void check_ramp(
    weft_ctx *c, weft_safetensors *f, const char *name, weft_dtype type, int rank, const int64_t *shape) {
    const weft_st_entry *e = weft_st_find(f, name);
    double got[16];
    if (!e || e->type != type || e->rank != rank || memcmp(e->shape, shape, sizeof *shape * (size_t)rank) ||
        e->foreign) {
        TEST_FAIL("%s is not there, or not as it should be", name);
        return;
    }
    weft_scope s = weft_scope_named(c, name);
    weft_tensor *t = weft_st_tensor(c, f, e), *wide = weft_cast(c, t, WEFT_F64);
    if (wide && weft_read(c, wide, got, sizeof *got * (size_t)weft_count(t)) == WEFT_OK)
        for (int64_t i = 0; i < weft_count(t); i++) CHECK(got[i] == (double)i * 0.25 - 1);
    else TEST_FAIL("%s: %s", name, weft_message(c));
    weft_scope_end(c, s, NULL);
}

TEST(reads_the_reference_librarys_file) {
    weft_ctx *c = context();
    weft_safetensors *f = weft_st_open(c, PLAIN);
    if (!f) TEST_FAIL("%s", weft_message(c));
    REQUIRE(f);
    CHECK_EQ(weft_st_count(f), 12);
    CHECK_STR(weft_st_path(f), PLAIN);
    check_ramp(c, f, "f32", WEFT_F32, WEFT_SHAPE(2, 3));
    check_ramp(c, f, "f16", WEFT_F16, WEFT_SHAPE(5));
    check_ramp(c, f, "bf16", WEFT_BF16, WEFT_SHAPE(1, 3, 1));
    check_ramp(c, f, "f64", WEFT_F64, WEFT_SHAPE(2));
    check_ramp(c, f, "scalar", WEFT_F32, 0, (const int64_t[]){ 0 });
    check_ramp(c, f, "six", WEFT_F16, WEFT_SHAPE(1, 2, 1, 2, 1, 2));
    check_ramp(c, f, ODD_NAME, WEFT_F32, WEFT_SHAPE(1));
    const weft_st_entry *e = weft_st_find(f, "i64");
    REQUIRE(e && e->bytes == 16);
    CHECK(((const int64_t *)e->data)[0] == INT64_MIN && ((const int64_t *)e->data)[1] == INT64_MAX);
    e = weft_st_find(f, "empty");
    CHECK(e && e->bytes == 0 && e->rank == 2 && e->shape[0] == 0 && e->shape[1] == 4);
    e = weft_st_find(f, "empty too");
    CHECK(e && e->type == WEFT_U8 && e->rank == 3 && e->bytes == 0);
    CHECK(!weft_st_find(f, "f3") && !weft_st_find(f, "") && !weft_st_at(f, -1) && !weft_st_at(f, 12));
    for (int i = 1; i < 12; i++)
        CHECK((const char *)weft_st_at(f, i)->data ==
            (const char *)weft_st_at(f, i - 1)->data + weft_st_at(f, i - 1)->bytes);
    const char *key, *value;
    CHECK_STR(weft_st_metadata(f, "note"), NOTE);
    CHECK(!weft_st_metadata(f, "format"));
    CHECK(weft_st_metadata_at(f, 0, &key, &value) && !strcmp(key, "note") && !weft_st_metadata_at(f, 1, &key, &value));
    weft_st_close(f);
    end(c);
}

TEST(lists_foreign_types_as_bytes) {
    static const struct { const char *name, *type; int64_t bytes; } want[] = {
        { "bool", "BOOL", 3 }, { "i8", "I8", 2 }, { "i16", "I16", 6 }, { "u16", "U16", 4 },
        { "u32", "U32", 4 }, { "u64", "U64", 8 }, { "f8a", "F8_E4M3", 3 }, { "f8b", "F8_E5M2", 2 },
        { "c64", "C64", 8 }
    };
    weft_ctx *c = context();
    weft_safetensors *f = weft_st_open(c, FOREIGN);
    REQUIRE(f);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const weft_st_entry *e = weft_st_find(f, want[i].name);
        if (!e || e->type != WEFT_U8 || e->rank != 1 || e->shape[0] != want[i].bytes || !e->foreign ||
            strcmp(e->foreign, want[i].type))
            TEST_FAIL("%s is not listed as it should be", want[i].name);
    }
    check_ramp(c, f, "f32", WEFT_F32, WEFT_SHAPE(3));
    weft_st_close(f);
    end(c);
}

TEST(a_tensor_keeps_the_mapping) {
    weft_ctx *c = context();
    weft_scope s = weft_scope_named(c, "test");
    weft_safetensors *f = weft_st_open(c, PLAIN);
    REQUIRE(f);
    const weft_st_entry *e = weft_st_find(f, "f32");
    weft_tensor *t = weft_st_tensor(c, f, e);
    REQUIRE(t);
    CHECK(weft_data(t) == e->data);
    CHECK_EQ(weft_memory_live(c), 0);
    weft_st_drop_pages(f, e);
    weft_st_close(f);
    CHECK(((const float *)weft_data(t))[1] == -0.75f);
    weft_scope_end(c, s, NULL);
    end(c);
}

/* ---- what is wrong ------------------------------------------------------------------------------------------ */

static size_t image(unsigned char *out, const char *header, size_t data) {
    size_t n = strlen(header);
    for (int i = 0; i < 8; i++) out[i] = (unsigned char)(n >> 8 * i);
    memcpy(out + 8, header, n);
    memset(out + 8 + n, 0, data);
    return 8 + n + data;
}

/* This header and so many bytes of data open, or fail with a message that has this part; `want` NULL: they open. */
static void check_header(const char *header, size_t data, const char *want) {
    weft_ctx *c = context();
    unsigned char bytes[4096];
    size_t size = image(bytes, header, data);
    unsigned char *exact = malloc(size);        /* so that reading past the end is seen */
    if (!exact) return;
    memcpy(exact, bytes, size);
    weft_safetensors *f = weft_st_open_memory(c, "x.safetensors", exact, size);
    if (!want && !f) TEST_FAIL("%s: %s", header, weft_message(c));
    if (want) {
        CHECK(!f);
        CHECK_EQ(weft_error(c), WEFT_E_FORMAT);
        CHECK_HAS(weft_message(c), "x.safetensors: ");
        CHECK_HAS(weft_message(c), want);
        CHECK(!strchr(weft_message(c), '\n'));
    }
    weft_st_close(f);
    free(exact);
    end(c);
}

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

TEST(accepts_odd_but_right_headers) {
    check_header("{}", 0, NULL);
    check_header("{}     \n ", 0, NULL);
    check_header("{ \"a\" : { \"shape\" : [ 2 ] , \"data_offsets\" : [ 0 , 8 ] , \"dtype\" : \"F32\" } }", 8, NULL);
    check_header("{\"__metadata__\":{}}", 0, NULL);
    check_header(
        "{\"b\":" T("U8", "[3]", "[2,5]") ",\"__metadata__\":{\"k\":\"v\"},\"a\":" T("F16", "[1]", "[0,2]") "}", 5,
        NULL);
    check_header("{\"\":" T("F32", "[]", "[0,4]") "}", 4, NULL);
    check_header(
        "{\"a\":" T("F32", "[0]", "[0,0]") ",\"b\":" T("F32", "[9,0]", "[4,4]") ",\"c\":" T("F32", "[]", "[0,4]") "}",
        4, NULL);
    check_header("{\"a\":" T("F4", "[4]", "[0,2]") "}", 2, NULL);
    check_header("{\"a\":" T("F6_E2M3", "[4]", "[0,3]") "}", 3, NULL);
    check_header("{\"a\":" T("F32", "[1,1,1,1,1,2]", "[0,8]") "}", 8, NULL);
}

TEST(refuses_wrong_tensors) {
    check_header(
        "{\"a\":" T("F32", "[2]", "[0,4]") "}", 4, "tensor \"a\": shape and type need 8 bytes, data_offsets give 4");
    check_header("{\"a\":" T("F33", "[2]", "[0,8]") "}", 8, "tensor \"a\": unknown type \"F33\"");
    check_header(
        "{\"a\":" T("F32", "[2]", "[0,16]") "}", 8, "tensor \"a\": data ends at byte 16, the file has 8 bytes of data");
    check_header("{\"a\":" T("F32", "[2]", "[8,0]") "}", 8, "tensor \"a\": data_offsets end before they begin");
    check_header("{\"a\":" T("F32", "[2]", "[0]") "}", 8, "tensor \"a\": data_offsets is not a list of two");
    check_header("{\"a\":" T("F32", "[2]", "[0,4,8]") "}", 8, "a list that is too long");
    check_header("{\"a\":" T("F32", "[2]", "[-8,0]") "}", 8, "a negative number");
    check_header("{\"a\":" T("F32", "[2]", "[0,8.0]") "}", 8, "a number that is not whole");
    check_header("{\"a\":" T("F32", "[2]", "[0,8e0]") "}", 8, "a number that is not whole");
    check_header("{\"a\":" T("F32", "[9223372036854775808]", "[0,8]") "}", 8, "a number of more than 63 bits");
    check_header("{\"a\":" T("F32", "[9223372036854775807]", "[0,8]") "}", 8, "tensor \"a\": shape is too large");
    check_header("{\"a\":" T("U8", "[4294967296,4294967296]", "[0,0]") "}", 0, "tensor \"a\": shape is too large");
    check_header("{\"a\":" T("U8", "[4611686018427387904,4,0]", "[0,0]") "}", 0, "tensor \"a\": shape is too large");
    check_header("{\"a\":" T("U8", "[0,4611686018427387904,4]", "[0,0]") "}", 0, "tensor \"a\": shape is too large");
    check_header("{\"a\":" T("F4", "[3]", "[0,1]") "}", 1, "need 2 bytes, data_offsets give 1");
    check_header("{\"a\":" T("F4", "[3]", "[0,2]") "}", 2, "need 2 bytes, data_offsets give 2");       /* 12 bits */
    check_header("{\"a\":" T("F32", "[1,1,1,1,1,1,1]", "[0,4]") "}", 4, "tensor \"a\": has more than 6 dimensions");
    check_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "tensor \"a\": lacks dtype, shape or data_offsets");
    check_header("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
        "tensor \"a\": has a field twice");
    check_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4,
        "tensor \"a\": has a field that is neither");
    check_header("{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[4,8]") "}", 8,
        "tensor \"a\": stands in the header twice");
    check_header("{\"a\":" T("F32", "[1]", "[0,4]") ",\"\\u0061\":" T("F32", "[1]", "[4,8]") "}", 8,
        "tensor \"a\": stands in the header twice");
    check_header("{\"a\\nb\":" T("F33", "[1]", "[0,4]") "}", 4, "tensor \"a?b\"");
}

TEST(refuses_data_that_is_not_laid_out) {
    check_header("{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[1]", "[4,8]") "}", 8,
        "tensor \"b\": data overlaps that of \"a\"");
    check_header("{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[0,4]") "}", 8, "data overlaps that of");
    check_header("{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[8,12]") "}", 12,
        "tensor \"b\": there is a gap before its data");
    check_header("{\"a\":" T("F32", "[1]", "[4,8]") "}", 8, "tensor \"a\": there is a gap before its data");
    check_header("{\"a\":" T("F32", "[1]", "[0,4]") "}", 5, "has 5 bytes of data, its tensors take 4");
    check_header("{}", 1, "has 1 bytes of data, its tensors take 0");
    check_header(
        "{\"e\":" T("F32", "[0]", "[2,2]") ",\"a\":" T("F32", "[1]", "[0,4]") "}", 4, "tensor \"e\": data overlaps");
}

TEST(refuses_headers_that_are_no_json) {
    check_header("", 0, "header, byte 0: expected '{'");
    check_header(" {}", 0, "header, byte 0: expected '{'");
    check_header("[]", 0, "header, byte 0: expected '{'");
    check_header("{", 0, "header, byte 1: expected a string");
    check_header("{}{}", 0, "expected nothing behind the header's object");
    check_header("{\"a\":" T("F32", "[1]", "[0,4]") ",}", 4, "expected a string");
    check_header("{\"a\" " T("F32", "[1]", "[0,4]") "}", 4, "expected ':'");
    check_header("{\"a\":" T("F32", "[1:2]", "[0,4]") "}", 4, "expected ',' or ']'");
    check_header("{\"a\":[]}", 4, "expected an object");
    check_header("{\"a\":{}}", 4, "expected a string");
    check_header("{\"a\":" T("F32", "1", "[0,4]") "}", 4, "expected a list");
    check_header("{\"a\":" T("F32", "[\"1\"]", "[0,4]") "}", 4, "expected a digit");
    check_header("{\"a\":" T("F32", "[01]", "[0,4]") "}", 4, "a number that begins with 0");
    check_header("{\"\xff\":" T("F32", "[1]", "[0,4]") "}", 4, "bytes that are not UTF-8");
    check_header("{\"a\\u0000\":" T("F32", "[1]", "[0,4]") "}", 4, "\\u0000 in a string");
    check_header("{\"__metadata__\":{\"a\":1}}", 0, "expected a string");
    check_header("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "__metadata__ has the key \"a\" twice");
    check_header("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ twice");
    check_header("{\"__metadata__\":{\"a\":\"b", 0, "a string that does not end");
}

static void check_bytes(const void *bytes, size_t size, const char *want) {
    weft_ctx *c = context();
    CHECK(!weft_st_open_memory(c, "x.safetensors", bytes, size));
    CHECK_HAS(weft_message(c), want);
    end(c);
}

TEST(refuses_headers_of_impossible_length) {
    check_bytes("", 0, "is empty");
    check_bytes("\x02\0\0\0\0\0\0", 7, "is cut short");
    check_bytes("\x02\0\0\0\0\0\0\0{", 9, "not all there");
    check_bytes("\x00\xe1\xf5\x05\0\0\0\0{}", 10, "a header of 100000000 bytes, in a file of 10, is not all there");
    check_bytes("\x01\xe1\xf5\x05\0\0\0\0{}", 10, "is more than 100 MB");
    check_bytes("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "a header of 18446744073709551615 bytes");
    check_bytes("\xf8\xff\xff\xff\xff\xff\xff\xff{}", 10, "is more than 100 MB");
}

/* Every way to cut the reference file short, and every change of a byte of its header: an error or a file, never a
 * crash. */
TEST(survives_every_cut_and_change) {
    weft_ctx *c = context();
    FILE *in = fopen(PLAIN, "rb");
    unsigned char whole[2048];
    size_t size = in ? fread(whole, 1, sizeof whole, in) : 0;
    if (in) fclose(in);
    REQUIRE(size > 100 && size < sizeof whole);
    for (size_t cut = 0; cut < size; cut++) {
        unsigned char *part = malloc(cut + !cut);
        REQUIRE(part);
        memcpy(part, whole, cut);
        CHECK(!weft_st_open_memory(c, "cut", part, cut));
        weft_clear(c);
        free(part);
    }
    static const unsigned char change[] = { 0, '"', '\\', '{', '}', '[', ']', ',', ':', '-', '9', 0x80, 0xff };
    for (size_t at = 0; at < size; at++) {
        unsigned char kept = whole[at];
        for (size_t k = 0; k < sizeof change; k++) {
            whole[at] = change[k];
            weft_st_close(weft_st_open_memory(c, "changed", whole, size));
            weft_clear(c);
        }
        whole[at] = kept;
    }
    end(c);
}

/* Headers near 100 MB with all kinds of content take a moment, not minutes: nothing in reading them is quadratic. */
static void check_big(const char *what, const char *head, const char *item, const char *tail, bool opens) {
    weft_ctx *c = context();
    size_t room = 99 * 1000 * 1000, length = strlen(item), n = strlen(head);
    char *text = malloc(room + 8);
    REQUIRE(text);
    memcpy(text + 8, head, n);
    for (; n < room - 4096; n += length) memcpy(text + 8 + n, item, length);
    n += (size_t)sprintf(text + 8 + n, "%s", tail);
    for (int i = 0; i < 8; i++) text[i] = (char)(n >> 8 * i);
    struct timespec a, b;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    weft_safetensors *f = weft_st_open_memory(c, what, text, n + 8);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    if (!f == opens) TEST_FAIL("%s: %s", what, weft_message(c));
    /* One second or less in a release build; a quadratic search among a million names would take hours. */
    if (seconds > 30) TEST_FAIL("%s took %.1f s", what, seconds);
    weft_st_close(f);
    free(text);
    end(c);
}

TEST(big_headers_are_read_in_linear_time) {
    check_big("spaces", "{", " ", "}", true);
    check_big("deep", "{\"a\":", "[", "", false);
    check_big("one long name", "{\"", "a", "\":" T("U8", "[0]", "[0,0]") "}", true);
    check_big("escapes", "{\"", "\\u00e9\\\\", "\":" T("U8", "[0]", "[0,0]") "}", true);
    check_big("an open string", "{\"", "a", "", false);
    check_big("zeros", "{\"a\":{\"shape\":[", "0", "]}}", false);
    check_big("a long list", "{\"a\":{\"shape\":[", "0,", "0]}}", false);
}

static void check_many(bool same_names) {
    weft_ctx *c = context();
    size_t room = 99 * 1000 * 1000, n = 1;
    char *text = malloc(room + 8);
    REQUIRE(text);
    text[8] = '{';
    for (int i = 0; n < room - 200; i++)
        n += (size_t)sprintf(text + 8 + n, "%s\"%d\":" T("U8", "[0]", "[0,0]"), i ? "," : "", same_names ? 7 : i);
    text[8 + n++] = '}';
    for (int i = 0; i < 8; i++) text[i] = (char)(n >> 8 * i);
    weft_safetensors *f = weft_st_open_memory(c, "many", text, n + 8);
    CHECK(!f == same_names);
    if (f) CHECK(weft_st_count(f) > 1500000 && weft_st_find(f, "1000000"));
    weft_st_close(f);
    free(text);
    end(c);
}

TEST(a_million_tensors) {
    check_many(false);
    check_many(true);
}

TEST(only_regular_files_are_opened) {
    weft_ctx *c = context();
    char folder[] = "/tmp/weft-st-XXXXXX", path[64];
    REQUIRE(mkdtemp(folder));
#define REFUSED(p, message) \
    do { \
        CHECK(!weft_st_open(c, p)); \
        CHECK_EQ(weft_error(c), WEFT_E_FILE); \
        CHECK_HAS(weft_message(c), p); \
        CHECK_HAS(weft_message(c), message); \
        weft_clear(c); \
    } while (0)
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    REFUSED(path, "No such file");
    REFUSED(folder, "is a folder, expected a file");
    REFUSED("/dev/zero", "is a device");
    REQUIRE(!mkfifo(path, 0600));
    REFUSED(path, "is a pipe");
#undef REFUSED
    unlink(path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    REQUIRE(fd >= 0);
    CHECK(!weft_st_open(c, path));
    CHECK_HAS(weft_message(c), "is empty");
    weft_clear(c);
    /* A large sparse file is mapped, not read. */
    unsigned char bytes[200];
    size_t size = image(bytes, "{\"a\":" T("F32", "[4294967296]", "[0,17179869184]") "}", 0);
    CHECK(write(fd, bytes, size) == (ssize_t)size && !ftruncate(fd, (off_t)size + 17179869184));
    close(fd);
    weft_safetensors *f = weft_st_open(c, path);
    if (!f) TEST_FAIL("%s", weft_message(c));
    else CHECK(weft_st_at(f, 0)->bytes == (size_t)17179869184);
    weft_st_close(f);
    unlink(path);
    rmdir(folder);
    end(c);
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

/* The tensors of st_plain.safetensors again, from f32 where they are floats. Returns how many. */
static int plain_items(weft_ctx *c, weft_st_item items[12]) {
    static const struct { const char *name; weft_dtype type; int rank; int64_t shape[6]; } real[] = {
        { "f32", WEFT_F32, 2, { 2, 3 } }, { "f16", WEFT_F16, 1, { 5 } }, { "bf16", WEFT_BF16, 3, { 1, 3, 1 } },
        { "f64", WEFT_F64, 1, { 2 } }, { "scalar", WEFT_F32, 0, { 0 } }, { "six", WEFT_F16, 6, { 1, 2, 1, 2, 1, 2 } },
        { "empty", WEFT_F32, 2, { 0, 4 } }, { ODD_NAME, WEFT_F32, 1, { 1 } }
    };
    int n = 0;
    float ramp[8];
    for (int i = 0; i < 8; i++) ramp[i] = (float)i * 0.25f - 1;
    for (size_t i = 0; i < sizeof real / sizeof *real; i++)
        items[n++] = (weft_st_item){ real[i].name, weft_tensor_from(c, WEFT_F32, real[i].rank, real[i].shape, ramp),
            real[i].type };
    items[n++] = (weft_st_item){ "i64",
        weft_tensor_from(c, WEFT_I64, WEFT_SHAPE(2, 1), (const int64_t[]){ INT64_MIN, INT64_MAX }), WEFT_I64 };
    items[n++] =
        (weft_st_item){ "i32", weft_tensor_from(c, WEFT_I32, WEFT_SHAPE(2), (const int32_t[]){ -1, 7 }), WEFT_I32 };
    items[n++] = (weft_st_item){ "u8", weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(3), "\x00\x7f\xff"), WEFT_U8 };
    items[n++] = (weft_st_item){ "empty too", weft_tensor_new(c, WEFT_U8, WEFT_SHAPE(3, 0, 2)), WEFT_U8 };
    return n;
}

static const char *const note[] = { "note", NOTE, NULL };

static bool same_files(const char *a, const char *b) {
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    int x = 0, y = f && g ? 0 : 1;
    while (x == y && x != EOF) {
        x = fgetc(f);
        y = fgetc(g);
    }
    if (f) fclose(f);
    if (g) fclose(g);
    return x == y;
}

static int files_in(const char *folder) {
    DIR *d = opendir(folder);
    int n = -2;     /* . and .. */
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

TEST(writes_the_reference_librarys_bytes) {
    weft_ctx *c = context();
    char folder[] = "/tmp/weft-st-XXXXXX", path[64];
    weft_st_item items[12];
    REQUIRE(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    weft_scope s = weft_scope_named(c, "test");
    int n = plain_items(c, items);
    for (int again = 0; again < 2; again++) {       /* the second time over the first file */
        if (weft_st_write(c, path, items, n, note)) TEST_FAIL("%s", weft_message(c));
        CHECK(same_files(path, PLAIN));
        CHECK_EQ(files_in(folder), 1);
    }
    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    CHECK(!stat(path, &st) && (st.st_mode & 0777) == (0666 & ~mask));
    CHECK(weft_st_write(c, path, NULL, 0, NULL) == WEFT_OK);
    weft_safetensors *f = weft_st_open(c, path);
    CHECK(f && weft_st_count(f) == 0);
    weft_st_close(f);
    weft_scope_end(c, s, NULL);
    unlink(path);
    rmdir(folder);
    end(c);
}

TEST(writes_views_as_they_are_seen) {
    weft_ctx *c = context();
    char folder[] = "/tmp/weft-st-XXXXXX", path[64];
    REQUIRE(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    weft_scope s = weft_scope_named(c, "test");
    static const float v[] = { 1, 2, 3, 4, 5, 6 };
    weft_tensor *t = weft_permute(c, weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(2, 3), v), (const int[]){ 1, 0 });
    weft_safetensors *f = NULL;
    for (int i = 0; i < 8; i++) {       /* whatever the header's length, the data begin at a multiple of 8 */
        CHECK(weft_st_write(c, path, &(weft_st_item){ &"eightfold"[i], t, WEFT_F32 }, 1, NULL) == WEFT_OK);
        weft_st_close(f);
        f = weft_st_open(c, path);
        REQUIRE(f);
        CHECK((uintptr_t)weft_st_at(f, 0)->data % 8 == 0);
    }
    CHECK(weft_st_at(f, 0)->shape[0] == 3 && !memcmp(weft_st_at(f, 0)->data, (const float[]){ 1, 4, 2, 5, 3, 6 }, 24));
    weft_st_close(f);
    weft_scope_end(c, s, NULL);
    unlink(path);
    rmdir(folder);
    end(c);
}

static void check_unwritable(
    weft_ctx *c, const char *path, const weft_st_item *items, int n, const char *const *metadata, const char *want) {
    CHECK(weft_st_write(c, path, items, n, metadata) != WEFT_OK);
    CHECK_HAS(weft_message(c), want);
    CHECK_HAS(weft_message(c), path);
    weft_clear(c);
}

TEST(a_failed_write_leaves_nothing) {
    weft_ctx *c = context();
    char folder[] = "/tmp/weft-st-XXXXXX", path[64], sub[80];
    REQUIRE(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    snprintf(sub, sizeof sub, "%s/none/x.safetensors", folder);
    weft_scope s = weft_scope_named(c, "test");
    weft_tensor *t = weft_full(c, WEFT_F32, WEFT_SHAPE(100000), 1);
    const weft_st_item one[] = { { "a", t, WEFT_F32 } };
    check_unwritable(c, path,
        (const weft_st_item[]){ { "a", t, WEFT_F32 }, { "b", t, WEFT_F32 }, { "a", t, WEFT_F16 } }, 3, NULL,
        "a name that is there twice");
    check_unwritable(c, path, (const weft_st_item[]){ { "\xff", t, WEFT_F32 } }, 1, NULL, "not UTF-8");
    check_unwritable(c, path, (const weft_st_item[]){ { "__metadata__", t, WEFT_F32 } }, 1, NULL, "keeps for itself");
    check_unwritable(
        c, path, (const weft_st_item[]){ { "a", NULL, WEFT_F32 } }, 1, NULL, "a tensor or type that is none");
    check_unwritable(
        c, path, one, 1, (const char *const[]){ "k", "1", "k", "2", NULL }, "a metadata key that is there twice");
    check_unwritable(c, sub, one, 1, NULL, "No such file");
    check_unwritable(c, folder, one, 1, NULL, "is a folder, and is not written over");
    check_unwritable(c, "/dev/null", one, 1, NULL, "is a device, and is not written over");
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = { 200000, RLIM_INFINITY };
    CHECK(!setrlimit(RLIMIT_FSIZE, &limit));        /* as a full disk: the write stops in the middle */
    check_unwritable(c, path, one, 1, NULL, "cannot be written: File too large");
    CHECK_EQ(files_in(folder), 0);
    weft_scope_end(c, s, NULL);
    rmdir(folder);
    end(c);
}

/* ---- failing memory --------------------------------------------------------------------------------------------- */

TEST(failing_memory_is_an_error) {
    weft_ctx *c = context();
    long before = host_live;
    FOR_EACH_FAILURE {
        weft_scope s = weft_scope_named(c, "test");
        weft_safetensors *f = weft_st_open(c, PLAIN);
        weft_tensor *t = f ? weft_st_tensor(c, f, weft_st_find(f, "f32")) : NULL;
        ATTEMPT_WORKED(t != NULL);
        if (!t) CHECK_EQ(weft_error(c), WEFT_E_MEMORY);
        weft_st_close(f);
        weft_scope_end(c, s, NULL);
        weft_clear(c);
    }
    CHECK(host_live <= before + 2);     /* the context's lists of scopes and tensors */
    end(c);
}

TEST(failing_memory_while_writing) {
    weft_ctx *c = context();
    char folder[] = "/tmp/weft-st-XXXXXX", path[64];
    weft_st_item items[12];
    REQUIRE(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    weft_scope s = weft_scope_named(c, "test");
    int n = plain_items(c, items);
    FOR_EACH_FAILURE {
        weft_memory_trim(c);
        weft_status status = weft_st_write(c, path, items, n, note);
        ATTEMPT_WORKED(status == WEFT_OK);
        if (status) CHECK_EQ(status, WEFT_E_MEMORY);
        CHECK_EQ(files_in(folder), status == WEFT_OK);
        weft_clear(c);
        unlink(path);
    }
    weft_scope_end(c, s, NULL);
    rmdir(folder);
    end(c);
}

TEST_MAIN
