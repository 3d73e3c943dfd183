/* JSON: what is read, what is refused and with which words, whole numbers to 64 bits, settings, failing memory. */
#include <sys/stat.h>
#include "runtime/json.h"
#include "tests/test.h"
#include "tests/host_memory.h"

static weft_ctx *context(void) { return weft_ctx_new(&(weft_options){ .threads = 1 }); }

static cJSON *parse(weft_ctx *c, const char *text, int flags) {
    return weft_json_parse(c, "x.json", text, strlen(text), flags);
}

/* The tree printed again by cJSON, without spaces. */
static void check_same(const char *text, const char *want) {
    weft_ctx *c = context();
    cJSON *root = parse(c, text, 0);
    char *got = root ? cJSON_PrintUnformatted(root) : NULL;
    if (!root) TEST_FAIL("%s: %s", text, weft_message(c));
    else CHECK_STR(got, want);
    cJSON_free(got);
    cJSON_Delete(root);
    weft_ctx_free(c);
}

TEST(reads_json) {
    check_same(" {\"a\" : [ 1 , -2.5e1, true,false , null ] ,\"b\":{},\"c\":[]}\n",
        "{\"a\":[1,-25,true,false,null],\"b\":{},\"c\":[]}");
    check_same("0", "0");
    check_same("\"\"", "\"\"");
    check_same("\xef\xbb\xbf[]", "[]");
    check_same("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u6f22\\ud83d\\ude00\"",
        "\"\\\"\\\\/\\b\\f\\n\\r\\tA\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80\"");
    check_same("{\"\":1,\"a\":{\"a\":{\"a\":2}}}", "{\"\":1,\"a\":{\"a\":{\"a\":2}}}");
}

/* The message of a fault, whole. */
static void check_fault_of(const char *text, size_t size, const char *want) {
    weft_ctx *c = context();
    cJSON *root = weft_json_parse(c, "x.json", text, size, 0);
    CHECK(!root);
    CHECK_EQ(weft_error(c), WEFT_E_FORMAT);
    CHECK_STR(weft_message(c), want);
    cJSON_Delete(root);
    weft_ctx_free(c);
}
static void check_fault(const char *text, const char *want) { check_fault_of(text, strlen(text), want); }

TEST(names_the_place_of_a_fault) {
    check_fault("", "x.json:1:1: expected a value, found the end");
    check_fault("{\n  \"a\": 1,\n  b: 2}", "x.json:3:3: expected a name in quotes, found 'b'");
    /* columns are characters */
    check_fault("{\"\xc3\xa9\xe6\xbc\xa2\": x}", "x.json:1:8: expected a value, found 'x'");
    check_fault("[1, 2", "x.json:1:6: expected ',' or ']', found the end");
    check_fault("[1 2]", "x.json:1:4: expected ',' or ']', found '2'");
    check_fault("[1,]", "x.json:1:4: expected a value, found ']'");
    check_fault("{\"a\":1,}", "x.json:1:8: expected a name in quotes, found '}'");
    check_fault("{\"a\" 1}", "x.json:1:6: expected ':', found '1'");
    check_fault("{} []", "x.json:1:4: expected nothing behind the value, found '['");
    check_fault_of("[1]\0", 4, "x.json:1:4: expected nothing behind the value, found byte 0x00");
    check_fault_of("[\0]", 3, "x.json:1:2: expected a value, found byte 0x00");
    check_fault("{\"a\":1,\n\"b\":2,\n\"a\":3}", "x.json:3:1: a name that the object has already");
    check_fault("{\"a\":1,\"\\u0061\":3}", "x.json:1:8: a name that the object has already");
    check_fault("nul", "x.json:1:1: expected a value, found 'n'");
    check_fault("NaN", "x.json:1:1: expected a value, found 'N'");
    check_fault("-Infinity", "x.json:1:1: expected a value, found '-'");
}

TEST(refuses_what_is_not_json) {
    check_fault("01", "x.json:1:3: a number that begins with 0");
    check_fault("-", "x.json:1:2: expected a digit, found the end");
    check_fault("1.", "x.json:1:3: expected a digit after the point, found the end");
    check_fault("1e+", "x.json:1:4: expected a digit in the exponent, found the end");
    check_fault("+1", "x.json:1:1: expected a value, found '+'");
    check_fault(".5", "x.json:1:1: expected a value, found '.'");
    check_fault("1e999", "x.json:1:6: a number too large for a double");
    check_fault("'a'", "x.json:1:1: expected a value, found '''");
    check_fault("\"a", "x.json:1:3: a string that does not end");
    check_fault("\"a\\", "x.json:1:4: an unknown escape in a string");
    check_fault("\"a\nb\"", "x.json:1:3: a control character in a string");
    check_fault("\"\\x41\"", "x.json:1:3: an unknown escape in a string");
    check_fault("\"\\u12g4\"", "x.json:1:4: \\u without four hexadecimal digits");
    check_fault("\"\\u0000\"", "x.json:1:4: \\u0000 in a string");
    check_fault("\"\\ud800\"", "x.json:1:8: half of a surrogate pair");
    check_fault("\"\\udc00x\"", "x.json:1:8: half of a surrogate pair");
    check_fault("\"\\ud800\\u0041\"", "x.json:1:8: half of a surrogate pair");
    check_fault("\"\xff\"", "x.json:1:2: bytes that are not UTF-8");
    check_fault("\"\xc0\xaf\"", "x.json:1:2: bytes that are not UTF-8");            /* overlong */
    check_fault("\"\xed\xa0\x80\"", "x.json:1:2: bytes that are not UTF-8");        /* a surrogate */
    check_fault("\"\xf4\x90\x80\x80\"", "x.json:1:2: bytes that are not UTF-8");    /* past U+10FFFF */
    check_fault("\"\xe6\xbc", "x.json:1:2: bytes that are not UTF-8");
}

TEST(bounds_depth) {
    weft_ctx *c = context();
    char text[2 * WEFT_JSON_DEPTH + 3];
    for (int extra = 0; extra < 2; extra++) {
        int depth = WEFT_JSON_DEPTH + extra;
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        cJSON *root = weft_json_parse(c, "x.json", text, 2 * (size_t)depth, 0);
        CHECK(!root == !!extra);
        cJSON_Delete(root);
    }
    CHECK_STR(weft_message(c), "x.json:1:101: too many objects and lists inside each other");
    weft_ctx_free(c);
}

TEST(bounds_the_number_of_values) {
    weft_ctx *c = context();
    size_t n = 2 * (size_t)WEFT_JSON_VALUES + 2;
    char *text = malloc(n);
    REQUIRE(text);
    for (size_t i = 0; i < n; i++) text[i] = i % 2 ? '0' : ',';
    text[0] = '[';
    CHECK(!weft_json_parse(c, "x.json", text, n, 0));
    CHECK_HAS(weft_message(c), "too many values");
    free(text);
    weft_ctx_free(c);
}

TEST(nan_only_where_asked_for) {
    weft_ctx *c = context();
    cJSON *root = parse(c, "[NaN, Infinity, -Infinity, -1]", WEFT_JSON_NAN);
    REQUIRE(root);
    CHECK(isnan(cJSON_GetArrayItem(root, 0)->valuedouble));
    CHECK(cJSON_GetArrayItem(root, 1)->valuedouble == INFINITY);
    CHECK(cJSON_GetArrayItem(root, 2)->valuedouble == -INFINITY);
    CHECK(cJSON_GetArrayItem(root, 3)->valuedouble == -1);
    int64_t i;
    CHECK(!weft_json_i64(cJSON_GetArrayItem(root, 0), &i));
    CHECK(!weft_json_i64(cJSON_GetArrayItem(root, 1), &i));
    cJSON_Delete(root);
    weft_ctx_free(c);
}

TEST(whole_numbers_are_exact) {
    static const struct { const char *text; bool is_u64, is_i64; uint64_t u64; int64_t i64; } cases[] = {
        { "0", true, true, 0, 0 },
        { "-0", true, true, 0, 0 },
        /* 2⁵³ + 1, which no double is */
        { "9007199254740993", true, true, 9007199254740993u, 9007199254740993 },
        { "18446744073709551615", true, false, UINT64_MAX, 0 },
        { "18446744073709551616", false, false, 0, 0 },
        { "9223372036854775807", true, true, INT64_MAX, INT64_MAX },
        { "9223372036854775808", true, false, (uint64_t)INT64_MAX + 1, 0 },
        { "-9223372036854775808", false, true, 0, INT64_MIN },
        { "-9223372036854775809", false, false, 0, 0 },
        { "-1", false, true, 0, -1 },
        { "2.0", true, true, 2, 2 },
        { "1e3", true, true, 1000, 1000 },
        { "2.5", false, false, 0, 0 },
        { "1e300", false, false, 0, 0 },
        { "\"1\"", false, false, 0, 0 },
        { "true", false, false, 0, 0 },
    };
    weft_ctx *c = context();
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        cJSON *v = parse(c, cases[k].text, 0);
        uint64_t u = 0;
        int64_t i = 0;
        bool is_u64 = weft_json_u64(v, &u), is_i64 = weft_json_i64(v, &i);
        if (is_u64 != cases[k].is_u64 || is_i64 != cases[k].is_i64)
            TEST_FAIL("%s: taken for another kind", cases[k].text);
        if (is_u64) CHECK(u == cases[k].u64);
        if (is_i64) CHECK(i == cases[k].i64);
        cJSON *copy = cJSON_Duplicate(v, true);
        CHECK(weft_json_u64(copy, &u) == is_u64);       /* the digits go along */
        cJSON_Delete(copy);
        cJSON_Delete(v);
    }
    weft_ctx_free(c);
}

static weft_json settings(weft_ctx *c, const char *text) {
    return (weft_json){ c, "unet/config.json", parse(c, text, 0) };
}

TEST(settings_give_values_or_the_fallback) {
    weft_ctx *c = context();
    weft_json j =
        settings(c, "{\"n\": 8, \"x\": 0.5, \"b\": true, \"s\": \"text\", \"l\": [320, 640], \"none\": null}");
    int64_t list[4];
    REQUIRE(j.object);
    CHECK_EQ(weft_json_int(&j, "n", 0, 10, -1), 8);
    CHECK_EQ(weft_json_int(&j, "none", 0, 10, -1), -1);
    CHECK_EQ(weft_json_int(&j, "absent", 0, 10, -1), -1);
    CHECK(weft_json_double(&j, "x", 0) == 0.5);
    CHECK(weft_json_double(&j, "n", 0) == 8);
    CHECK(weft_json_bool(&j, "b", false));
    CHECK_STR(weft_json_text_of(&j, "s", NULL), "text");
    CHECK(!weft_json_text_of(&j, "none", NULL));
    CHECK_EQ(weft_json_ints(&j, "l", 1, 9999, list, 4), 2);
    CHECK(list[0] == 320 && list[1] == 640);
    CHECK_EQ(weft_json_ints(&j, "n", 1, 9999, list, 4), 1);
    CHECK_EQ(list[0], 8);
    CHECK_EQ(weft_json_ints(&j, "absent", 1, 9999, list, 4), 0);
    CHECK(weft_json_need(&j, "n") && weft_ok(c));
    CHECK(!weft_json_need(&j, "none"));
    CHECK_STR(weft_message(c), "unet/config.json: none is missing");
    cJSON_Delete((cJSON *)j.object);
    weft_ctx_free(c);
}

TEST(settings_of_another_kind_are_named) {
    weft_ctx *c = context();
    int64_t list[2];
    weft_json j = settings(c,
        "{\"n\": \"8\", \"big\": 11, \"half\": 2.5, \"b\": 1, \"s\": {}, \"l\": [1, \"2\"], \"long\": [1, 2, 3], "
        "\"e\": [], \"x\": []}");
    REQUIRE(j.object);
#define REFUSED(call, message) \
    do { \
        call; \
        CHECK_STR(weft_message(c), message); \
        CHECK_EQ(weft_error(c), WEFT_E_FORMAT); \
        weft_clear(c); \
    } while (0)
    REFUSED(CHECK_EQ(weft_json_int(&j, "n", 0, 10, 3), 3),
        "unet/config.json: n: expected a whole number from 0 to 10, found a string");
    REFUSED(
        weft_json_int(&j, "big", 0, 10, 3), "unet/config.json: big: expected a whole number from 0 to 10, found 11");
    REFUSED(
        weft_json_int(&j, "half", 0, 10, 3), "unet/config.json: half: expected a whole number from 0 to 10, found 2.5");
    REFUSED(weft_json_double(&j, "n", 0), "unet/config.json: n: expected a number, found a string");
    REFUSED(weft_json_bool(&j, "b", false), "unet/config.json: b: expected true or false, found 1");
    REFUSED(weft_json_text_of(&j, "s", NULL), "unet/config.json: s: expected a string, found an object");
    REFUSED(weft_json_ints(&j, "n", 0, 9, list, 2),
        "unet/config.json: n: expected a whole number or a list of them, from 0 to 9, found a string");
    REFUSED(weft_json_ints(&j, "l", 0, 9, list, 2),
        "unet/config.json: l: expected a list of whole numbers from 0 to 9, found a string");
    REFUSED(weft_json_ints(&j, "long", 0, 9, list, 2), "unet/config.json: long: expected a list of at most 2");
    REFUSED(CHECK_EQ(weft_json_ints(&j, "e", 0, 9, list, 2), 0),
        "unet/config.json: e: expected a list of whole numbers from 0 to 9, found a list");
#undef REFUSED
    cJSON_Delete((cJSON *)j.object);
    weft_ctx_free(c);
}

TEST(files) {
    weft_ctx *c = context();
    char folder[] = "/tmp/weft-json-XXXXXX", path[64];
    REQUIRE(mkdtemp(folder));
    CHECK(!weft_json_read(c, folder, 100, 0));
    CHECK_HAS(weft_message(c), "is a folder, expected a file");
    weft_clear(c);
    snprintf(path, sizeof path, "%s/a.json", folder);
    CHECK(!weft_json_read(c, path, 100, 0));
    CHECK_HAS(weft_message(c), "cannot be opened: No such file");
    weft_clear(c);
    CHECK(!mkfifo(path, 0600));
    CHECK(!weft_json_read(c, path, 100, 0));        /* and does not wait for a writer */
    CHECK_HAS(weft_message(c), "is a pipe");
    weft_clear(c);
    unlink(path);
    FILE *f = fopen(path, "w");
    REQUIRE(f);
    fputs("{\"a\": 1}", f);
    fclose(f);
    cJSON *root = weft_json_read(c, path, 8, 0);
    CHECK(root != NULL);
    cJSON_Delete(root);
    CHECK(!weft_json_read(c, path, 7, 0));
    CHECK_HAS(weft_message(c), "has 8 bytes; at most 7 are read");
    unlink(path);
    rmdir(folder);
    weft_ctx_free(c);
}

TEST(failing_memory_is_an_error) {
    cJSON_Hooks hooks = { weft_host_alloc, weft_host_free };
    cJSON_InitHooks(&hooks);
    weft_ctx *c = context();
    long before = host_live;
    static const char text[] =
        "{\"a\": [1, 12345678901234567890, \"s\", null], \"b\": {\"c\": true}, \"d\": \"\\u00e9\"}";
    FOR_EACH_FAILURE {
        cJSON *root = parse(c, text, 0);
        ATTEMPT_WORKED(root != NULL);
        if (!root) CHECK_EQ(weft_error(c), WEFT_E_MEMORY);
        cJSON_Delete(root);
        CHECK_EQ(host_live, before);
        weft_clear(c);
    }
    weft_ctx_free(c);
}

TEST_MAIN
