/* The tokenizer against what transformers' CLIPTokenizer gave (tests/golden/make_tokenizer.py), against hostile texts
 * and broken files. */
#include "tests/test.h"

#include <sys/stat.h>
#include <time.h>

#include "nodes/text/normalize.h"
#include "nodes/text/tokenizer.h"
#include "runtime/file.h"
#include "runtime/json.h"

#define CASES WEFT_SOURCE_DIR "/tests/golden/tokenizer_cases.json"
#define VOCABULARY WEFT_SOURCE_DIR "/../shared/data/clip_bpe_simple_vocab_16e6.txt.gz"
#define FRAME 12

static weft_ctx *new_context(void) {
    return weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1 });
}

/* ---- folders to read ---------------------------------------------------------------------------------------- */

static const char *const names[] = {
    "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "text",
};

/* Makes a folder of its own; its name stays good until the next call. */
static const char *new_folder(void) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/weft-tokenizer-XXXXXX");
    return mkdtemp(path);
}

static void put(const char *folder, const char *name, const char *content) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(content, 1, strlen(content), f) != strlen(content) || fclose(f))
        TEST_FAIL("%s cannot be written", path);
}

static void drop_folder(const char *folder) {
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static const cJSON *at(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static cJSON *read_cases(weft_ctx *c) {
    cJSON *cases = weft_json_read(c, CASES, 1 << 22, 0);
    if (!cases) TEST_FAIL("%s", weft_message(c));
    return cases;
}

/* The files of a case in a new folder. */
static const char *put_files(const cJSON *cases, const char *name) {
    const cJSON *plain = at(at(at(cases, "folders"), "plain"), "files"), *file;
    const cJSON *files = at(at(at(cases, "folders"), name), "files");
    const char *folder = new_folder();
    if (!folder) return NULL;
    if (!at(files, "tokenizer.json") && !at(files, "vocab.json"))
        cJSON_ArrayForEach(file, plain) put(folder, file->string, file->valuestring);
    cJSON_ArrayForEach(file, files) put(folder, file->string, file->valuestring);
    return folder;
}

static weft_tokenizer *open_case(weft_ctx *c, const cJSON *cases, const char *name) {
    const char *folder = put_files(cases, name);
    if (!folder) return NULL;
    weft_tokenizer *t = weft_tokenizer_open_folder(c, folder);
    if (!t) TEST_FAIL("%s: %s", name, weft_message(c));
    drop_folder(folder);
    return t;
}

/* Bytes of hexadecimal digits, ended by 0; to be freed. */
static char *unhex(const char *digits, size_t *size) {
    *size = strlen(digits) / 2;
    char *out = calloc(*size + 1, 1);
    for (size_t i = 0; out && i < *size; i++) {
        unsigned byte = 0;
        sscanf(digits + 2 * i, "%2x", &byte);
        out[i] = (char)byte;
    }
    return out;
}

/* ---- golden files ------------------------------------------------------------------------------------------- */

static bool same_ids(const cJSON *want, const int32_t *ids, int64_t count) {
    const cJSON *id = want->child;
    for (int64_t i = 0; i < count; i++, id = id->next)
        if (!id || id->valueint != ids[i]) return false;
    return !id;
}

static void check_ids(const char *name, int text, const cJSON *want, const int32_t *ids, int64_t count) {
    if (same_ids(want, ids, count)) return;
    char got[400] = "", *json = cJSON_PrintUnformatted(want);
    for (int64_t i = 0, n = 0; i < count && n < 380; i++) n += snprintf(got + n, sizeof got - (size_t)n, "%d,", ids[i]);
    TEST_FAIL("%s, text %d: ids are %s expected %s", name, text, got, json);
    free(json);
}

/* All texts of a case; plain: where the case has no ids of its own. */
static void check_texts(weft_ctx *c, const weft_tokenizer *t, const char *name, const cJSON *texts, const cJSON *ids,
                        const cJSON *plain) {
    const cJSON *text, *want = ids->child, *usual = plain->child;
    int number = 0;
    CHECK_EQ(cJSON_GetArraySize(texts), cJSON_GetArraySize(ids));
    cJSON_ArrayForEach(text, texts) {
        size_t size;
        weft_ids got = { 0 };
        char *bytes = unhex(text->valuestring, &size);
        CHECK_EQ(weft_tokenizer_encode(c, t, bytes, size, &got), WEFT_OK);
        check_ids(name, number++, cJSON_IsNull(want) ? usual : want, got.at, got.count);
        weft_ids_free(&got);
        free(bytes);
        want = want->next;
        usual = usual->next;
        if (!want || !usual) break;
    }
    if (number < 50) TEST_FAIL("%s: only %d texts", name, number);
}

TEST(ids_of_every_folder) {
    weft_ctx *c = new_context();
    cJSON *cases = read_cases(c);
    REQUIRE(cases);
    const cJSON *plain = at(at(at(cases, "folders"), "plain"), "ids"), *entry;
    int folders = 0;
    cJSON_ArrayForEach(entry, at(cases, "folders")) {
        weft_tokenizer *t = open_case(c, cases, entry->string);
        if (t) check_texts(c, t, entry->string, at(cases, at(entry, "words")->valuestring), at(entry, "ids"), plain);
        weft_tokenizer_free(t);
        folders++;
    }
    CHECK(folders >= 10);
    cJSON_Delete(cases);
    weft_ctx_free(c);
}

/* OpenAI's text gives the same as the folder: merges.txt is such a text. */
TEST(ids_from_text) {
    weft_ctx *c = new_context();
    cJSON *cases = read_cases(c);
    REQUIRE(cases);
    const cJSON *plain = at(at(cases, "folders"), "plain");
    const char *merges = at(at(plain, "files"), "merges.txt")->valuestring;
    weft_tokenizer *t = weft_tokenizer_parse_text(c, "text", merges, strlen(merges));
    REQUIRE(t);
    check_texts(c, t, "text", at(cases, "texts"), at(plain, "ids"), at(plain, "ids"));
    CHECK_EQ(weft_tokenizer_size(t), 814);
    CHECK_EQ(weft_tokenizer_bos(t), 812);
    CHECK_EQ(weft_tokenizer_eos(t), 813);
    CHECK_EQ(weft_tokenizer_pad(t), 813);
    CHECK_STR(weft_tokenizer_token(t, 0), "!");
    CHECK_STR(weft_tokenizer_token(t, 813), "<|endoftext|>");
    CHECK(!weft_tokenizer_token(t, 814) && !weft_tokenizer_token(t, -1));
    weft_tokenizer_free(t);
    cJSON_Delete(cases);
    weft_ctx_free(c);
}

TEST(frames) {
    weft_ctx *c = new_context();
    cJSON *cases = read_cases(c);
    REQUIRE(cases);
    const char *const with[] = { "plain", "pad", "new" };
    for (int k = 0; k < 3; k++) {
        weft_tokenizer *t = open_case(c, cases, with[k]);
        const cJSON *text, *want = at(at(at(cases, "folders"), with[k]), "framed")->child;
        int number = 0;
        REQUIRE(t);
        cJSON_ArrayForEach(text, at(cases, "texts")) {
            size_t size;
            weft_ids ids = { 0 };
            int32_t framed[FRAME];
            char *bytes = unhex(text->valuestring, &size);
            CHECK_EQ(weft_tokenizer_encode(c, t, bytes, size, &ids), WEFT_OK);
            int64_t over = weft_tokenizer_frame(t, ids.at, ids.count, framed, FRAME);
            CHECK_EQ(over, ids.count > FRAME - 2 ? ids.count - (FRAME - 2) : 0);
            check_ids(with[k], number++, want, framed, FRAME);
            weft_ids_free(&ids);
            free(bytes);
            want = want->next;
        }
        CHECK(number > 50);
        weft_tokenizer_free(t);
    }
    cJSON_Delete(cases);
    weft_ctx_free(c);
}

TEST(texts_as_a_tensor) {
    weft_ctx *c = new_context();
    cJSON *cases = read_cases(c);
    REQUIRE(cases);
    weft_tokenizer *t = open_case(c, cases, "plain");
    weft_scope s = weft_scope_named(c, "test");
    int64_t over = -1;
    const char *const texts[] = { "a photo", "a photo of a cat, a photo of a cat" };
    weft_tensor *ids = weft_tokenizer_texts(c, t, 2, texts, 5, &over);
    int32_t got[10];
    REQUIRE(ids);
    CHECK_EQ(weft_type(ids), WEFT_I32);
    CHECK(weft_rank(ids) == 2 && weft_dim(ids, 0) == 2 && weft_dim(ids, 1) == 5);
    CHECK(over > 5);
    REQUIRE(!weft_read(c, ids, got, sizeof got));
    CHECK(got[0] == 812 && got[3] == 813 && got[4] == 813);
    CHECK(got[5] == 812 && got[6] == got[1] && got[7] == got[2] && got[9] == 813);
    CHECK(!weft_tokenizer_texts(c, t, 1, (const char *const[]){ "a" }, 1, NULL));
    weft_clear(c);
    CHECK(!weft_tokenizer_texts(c, t, 1, (const char *const[]){ "ab\xff" }, 77, NULL));
    CHECK_HAS(weft_message(c), "0xFF at offset 2");
    weft_clear(c);
    CHECK_EQ(weft_tokenizer_set_pad(c, t, 0), WEFT_OK);
    CHECK_EQ(weft_tokenizer_pad(t), 0);
    CHECK_EQ(weft_tokenizer_set_pad(c, t, 99999), WEFT_E_ARGUMENT);
    weft_clear(c);
    weft_scope_end(c, s, NULL);
    weft_tokenizer_free(t);
    cJSON_Delete(cases);
    weft_ctx_free(c);
}

TEST(decoded) {
    weft_ctx *c = new_context();
    cJSON *cases = read_cases(c);
    REQUIRE(cases);
    weft_tokenizer *t = open_case(c, cases, "plain");
    const cJSON *plain = at(at(cases, "folders"), "plain"), *list, *want = at(plain, "decoded")->child;
    int number = 0;
    REQUIRE(t);
    cJSON_ArrayForEach(list, at(plain, "ids")) {
        weft_ids ids = { 0 };
        const cJSON *id;
        size_t size = 0, want_size;
        int n = cJSON_GetArraySize(list), i = 0;
        ids.at = calloc((size_t)n + 1, sizeof *ids.at);
        cJSON_ArrayForEach(id, list) ids.at[i++] = id->valueint;
        char *text = weft_tokenizer_decode(c, t, ids.at, n, &size), *expected = unhex(want->valuestring, &want_size);
        if (!text || size != want_size || memcmp(text, expected, size))
            TEST_FAIL("text %d: \"%s\", expected \"%s\"", number, text, expected);
        free(text);
        free(expected);
        weft_ids_free(&ids);
        want = want->next;
        number++;
    }
    CHECK(number > 50);
    /* Half a character, and an id that is nobody's. */
    char *text = weft_tokenizer_decode(c, t, (const int32_t[]){ 160, 7777, 0 }, 3, NULL);
    CHECK_STR(text, "\xEF\xBF\xBD!");
    free(text);
    weft_tokenizer_free(t);
    cJSON_Delete(cases);
    weft_ctx_free(c);
}

/* The vocabulary of the models, where it is at hand: from the file, and what was built in. */
TEST(ids_of_the_real_vocabulary) {
    weft_ctx *c = new_context();
    cJSON *cases = read_cases(c);
    REQUIRE(cases);
    weft_tokenizer *t[2] = { weft_tokenizer_has_builtin() ? weft_tokenizer_open_builtin(c) : NULL, NULL };
    CHECK(weft_ok(c));
    if (access(VOCABULARY, R_OK) == 0) {
        const char *folder = new_folder();
        char command[1024], path[256];
        REQUIRE(folder);
        snprintf(path, sizeof path, "%s/text", folder);
        snprintf(command, sizeof command, "gzip -dc '%s' > '%s'", VOCABULARY, path);
        CHECK_EQ(system(command), 0);
        t[1] = weft_tokenizer_open_text(c, path);
        if (!t[1]) TEST_FAIL("%s", weft_message(c));
        drop_folder(folder);
    }
    for (int k = 0; k < 2; k++) {
        if (!t[k]) continue;
        check_texts(c, t[k], k ? "text" : "built in", at(cases, "texts"), at(cases, "real"), at(cases, "real"));
        CHECK_EQ(weft_tokenizer_size(t[k]), 49408);
        CHECK(weft_tokenizer_bos(t[k]) == 49406 && weft_tokenizer_eos(t[k]) == 49407 &&
              weft_tokenizer_pad(t[k]) == 49407);
        weft_tokenizer_free(t[k]);
    }
    if (!t[0] && !t[1]) printf("    the vocabulary of the models is not here: its ids are not checked\n");
    cJSON_Delete(cases);
    weft_ctx_free(c);
}

TEST(without_a_built_in_vocabulary) {
    weft_ctx *c = new_context();
    if (weft_tokenizer_has_builtin()) return weft_ctx_free(c);
    CHECK(!weft_tokenizer_open_builtin(c));
    CHECK_HAS(weft_message(c), "sh examples/setup_vocabulary.sh");
    weft_ctx_free(c);
}

/* ---- hostile texts ------------------------------------------------------------------------------------------ */

/* A processor's seconds. */
static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

TEST(invalid_utf8) {
    weft_ctx *c = new_context();
    cJSON *cases = read_cases(c);
    REQUIRE(cases);
    weft_tokenizer *t = open_case(c, cases, "plain");
    REQUIRE(t);
    static const struct { const char *text; int offset; } bad[] = {
        { "\xff", 0 },
        { "ab\x80", 2 },
        { "a\xC0\x80", 1 },
        { "é\xC3", 2 },
        { "\xED\xA0\x80", 0 },
        { "xy\xF4\x90\x80\x80", 2 },
        { "\xE2\x82", 0 },
        { "\xF8\x88\x80\x80\x80", 0 },
        { "ok \xE2\x28\xA1", 3 },
        { "\xE0\x80\xAF", 0 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char what[64];
        weft_ids ids = { 0 };
        CHECK_EQ(weft_tokenizer_encode(c, t, "one", 3, &ids), WEFT_OK);
        int64_t before = ids.count;
        CHECK_EQ(weft_tokenizer_encode(c, t, bad[i].text, strlen(bad[i].text), &ids), WEFT_E_ARGUMENT);
        snprintf(what, sizeof what, "offset %d", bad[i].offset);
        CHECK_HAS(weft_message(c), what);
        CHECK_EQ(ids.count, before);
        weft_clear(c);
        weft_ids_free(&ids);
    }
    weft_tokenizer_free(t);
    cJSON_Delete(cases);
    weft_ctx_free(c);
}

/* A megabyte of what could make a tokenizer slow: one word, no word, marks that all have to be sorted, special tokens.
 * Each takes less than half a second in a release; the bound leaves room for sanitizers and busy machines, and
 * quadratic work is minutes. */
TEST(long_texts) {
    weft_ctx *c = new_context();
    cJSON *cases = read_cases(c);
    REQUIRE(cases);
    weft_tokenizer *t = open_case(c, cases, "new");
    REQUIRE(t);
    static const char *const parts[] = {
        "a", "ab", "the", " ", "\n\xC2\xA0", "!", "'", "1", "a\xCC\x81\xCC\xA3", "\xCC\x81\xCC\xA3",
        "\xE0\xA2\x98\xCC\xA3", "<|endoftext|>",
        "<|EndOfText|>", "<", "<|startoftext|", "\xF0\x9F\x98\x80", "word ", "\xEA\xB0\x81", "\xC4\xB0",
    };
    size_t size = 1 << 20;
    char *text = malloc(size);
    REQUIRE(text);
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        size_t n = strlen(parts[k]), used = 0;
        for (; used + n <= size; used += n) memcpy(text + used, parts[k], n);
        weft_ids ids = { 0 };
        double start = seconds();
        CHECK_EQ(weft_tokenizer_encode(c, t, text, used, &ids), WEFT_OK);
        double took = seconds() - start;
        if (took > 20) TEST_FAIL("\"%s\" repeated to a megabyte took %.1f s", parts[k], took);
        CHECK(ids.count > 0 || parts[k][0] <= ' ');
        weft_ids_free(&ids);
    }
    weft_ids ids = { 0 };
    CHECK_EQ(weft_tokenizer_encode(c, t, text, WEFT_TEXT_LIMIT + 1, &ids), WEFT_E_ARGUMENT);
    free(text);
    weft_tokenizer_free(t);
    cJSON_Delete(cases);
    weft_ctx_free(c);
}

static uint64_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* Random bytes, and random pieces that are UTF-8, for two seconds: ids or an error that names a byte, and every id is a
 * token. */
TEST(random_texts) {
    static const char *const pieces[] = {
        "a", "B", "the", " ", "\t", "'s", "'", "12", "\xC2\xBD", "!", "<|endoftext|>", "<|StartOfText|>", "<|", "|>",
        "\xCC\x81", "\xCC\xA3", "\xE2\x80\x8D",
        "\xF0\x9F\x91\xA9", "\xE6\x97\xA5", "\xD7\xA9", "\xC4\xB0", "\xE0\xA2\x98", "</w>", "\xEF\xBF\xBF",
        "\xF4\x8F\xBF\xBF", "\x7F", "\xC2\x85",
    };
    weft_ctx *c = new_context();
    cJSON *cases = read_cases(c);
    REQUIRE(cases);
    weft_tokenizer *t = open_case(c, cases, "unknown");
    REQUIRE(t);
    uint64_t state = 1;
    int64_t good = 0, refused = 0;
    for (double stop = seconds() + 2; seconds() < stop;) {
        char text[2048];
        size_t size = 0, wanted = next_random(&state) % 300;
        bool raw = next_random(&state) % 4 == 0;
        while (size < wanted) {
            const char *piece = pieces[next_random(&state) % (sizeof pieces / sizeof *pieces)];
            if (raw && next_random(&state) % 8 == 0) text[size++] = (char)next_random(&state);
            else {
                memcpy(text + size, piece, strlen(piece));
                size += strlen(piece);
            }
        }
        weft_ids ids = { 0 };
        if (weft_tokenizer_encode(c, t, text, size, &ids)) {
            CHECK(weft_utf8_fault(text, size) >= 0);
            CHECK_HAS(weft_message(c), "offset");
            weft_clear(c);
            refused++;
        } else {
            CHECK(weft_utf8_fault(text, size) < 0 && ids.count <= 2 * (int64_t)size);
            for (int64_t i = 0; i < ids.count; i++) CHECK(weft_tokenizer_token(t, ids.at[i]));
            char *back = weft_tokenizer_decode(c, t, ids.at, ids.count, NULL);
            CHECK(back && weft_utf8_fault(back, strlen(back)) < 0);
            free(back);
            good++;
        }
        weft_ids_free(&ids);
        if (test_failures) break;
    }
    CHECK(good > 100 && refused > 10);
    weft_tokenizer_free(t);
    cJSON_Delete(cases);
    weft_ctx_free(c);
}

/* ---- broken files ------------------------------------------------------------------------------------------- */

static void refuse_text(const char *text, size_t size, const char *what) {
    weft_ctx *c = new_context();
    weft_tokenizer *t = weft_tokenizer_parse_text(c, "vocab.txt", text, size);
    if (t) TEST_FAIL("taken: %s", text);
    else CHECK_HAS(weft_message(c), what);
    weft_tokenizer_free(t);
    weft_ctx_free(c);
}

TEST(broken_text) {
    static const struct { const char *text, *what; } bad[] = {
        { "", "vocab.txt:1: expected the title" },
        { "a b\n", "vocab.txt:1: expected the title" },
        { "#version: 0.2\n", "no merges" },
        { "#version: 0.2\na b\nab\n", "vocab.txt:3: expected two tokens" },
        { "#version: 0.2\na b c\n", "vocab.txt:2: expected two tokens" },
        { "#version: 0.2\na b\n\nc d\n", "vocab.txt:3: expected two tokens" },
        { "#version: 0.2\na b\na b\n", "vocab.txt:3: the token that this merge" },
        { "#version: 0.2\nab c\n", "vocab.txt:2: the vocabulary has no token \"ab\"" },
        { "#version: 0.2\na \n", "vocab.txt:2: expected two tokens" },
        { "\x1f\x8b\x08", "gzip -dk vocab.txt" },
        { "#version: 0.2\n<|endoftext| >\n", "vocab.txt: a merge makes a special token" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refuse_text(bad[i].text, strlen(bad[i].text), bad[i].what);
    refuse_text("#version: 0.2\na \0\n", 18, "vocab.txt:2: expected two tokens");
    char line[2000] = "#version: 0.2\n";
    memset(line + 14, 'a', 1900);
    line[900] = ' ';
    refuse_text(line, 1914, "vocab.txt:2: expected two tokens");
}

/* A folder with these files: the error's message has `what` in it. NULL: no such file. */
static void refuse_folder(const char *vocab, const char *merges, const char *whole, const char *config,
                          const char *what) {
    weft_ctx *c = new_context();
    const char *folder = new_folder();
    REQUIRE(folder);
    if (vocab) put(folder, "vocab.json", vocab);
    if (merges) put(folder, "merges.txt", merges);
    if (whole) put(folder, "tokenizer.json", whole);
    if (config) put(folder, "tokenizer_config.json", config);
    weft_tokenizer *t = weft_tokenizer_open_folder(c, folder);
    if (t) TEST_FAIL("taken where \"%s\" was expected", what);
    else CHECK_HAS(weft_message(c), what);
    weft_tokenizer_free(t);
    drop_folder(folder);
    weft_ctx_free(c);
}

#define SMALL "{\"a\":0,\"b\":1,\"ab\":2,\"<|startoftext|>\":3,\"<|endoftext|>\":4}"

TEST(broken_folders) {
    refuse_folder(NULL, NULL, NULL, NULL, "neither tokenizer.json nor vocab.json");
    refuse_folder(SMALL, NULL, NULL, NULL, "merges.txt");
    refuse_folder("[1]", "#version\n", NULL, NULL, "vocab.json: expected an object");
    refuse_folder("{}", "#version\n", NULL, NULL, "vocab.json: expected an object of tokens");
    refuse_folder("{\"a\":", "#version\n", NULL, NULL, "vocab.json:1:");
    refuse_folder("{\"a\":0,\"b\":0}", "#version\n", NULL, NULL, "vocab.json: two tokens have the id 0");
    refuse_folder("{\"a\":-1}", "#version\n", NULL, NULL, "vocab.json: token \"a\": expected an id");
    refuse_folder("{\"a\":1e9}", "#version\n", NULL, NULL, "vocab.json: token \"a\": expected an id");
    refuse_folder("{\"a\":\"0\"}", "#version\n", NULL, NULL, "vocab.json: token \"a\": expected an id");
    refuse_folder(SMALL, "#version\na b\na\n", NULL, NULL, "merges.txt:3: expected two tokens");
    refuse_folder(SMALL, "#version\na b b\n", NULL, NULL, "merges.txt:2: expected two tokens");
    refuse_folder(SMALL, "#version\na c\n", NULL, NULL,
                  "merges.txt:2: merge \"a c\": the vocabulary has no token \"c\"");
    refuse_folder(SMALL, "#version\nb a\n", NULL, NULL,
                  "merges.txt:2: merge \"b a\": the vocabulary has no token \"ba\"");
    refuse_folder(NULL, NULL, "{}", NULL, "tokenizer.json: there is no \"model\"");
    refuse_folder(NULL, NULL, "{\"model\":{\"type\":\"Unigram\"}}", NULL, "tokenizer.json: model.type");
    refuse_folder(NULL, NULL, "{\"model\":{\"type\":\"BPE\",\"vocab\":" SMALL "}}", NULL, "model.end_of_word_suffix");
    refuse_folder(NULL, NULL, "{\"model\":{\"end_of_word_suffix\":\"</w>\",\"vocab\":" SMALL "}}", NULL,
                  "model.merges: expected a list");
    refuse_folder(NULL, NULL, "{\"model\":{\"end_of_word_suffix\":\"</w>\",\"vocab\":" SMALL ",\"merges\":[[\"a\"]]}}",
                  NULL, "model.merges: place 1");
    refuse_folder(SMALL, "#version\na b\n", NULL, "{\"pad_token\":3}",
                  "tokenizer_config.json: pad_token: expected a token");
    refuse_folder(SMALL, "#version\na b\n", NULL, "{\"eos_token\":\"\"}", "eos_token or pad_token is empty");
    refuse_folder(SMALL, "#version\na b\n", NULL, "{\"added_tokens_decoder\":[]}",
                  "added_tokens_decoder: expected an object");
    refuse_folder(SMALL, "#version\na b\n", NULL, "{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}",
                  "\"x\" is no id");
    refuse_folder(SMALL, "#version\na b\n", NULL, "{\"added_tokens_decoder\":{\"1\":{\"content\":\"y\"}}}",
                  "token \"y\" has id 1, which \"b\" has already");
    refuse_folder(SMALL, "#version\na b\n", NULL,
                  "{\"added_tokens_decoder\":{\"9\":{\"content\":\"y\",\"single_word\":true}}}", "single_word");
}

TEST_MAIN
