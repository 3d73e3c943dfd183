/* Weighted prompts: which tokens with which weights in which chunks. The vocabulary is that of the tokenizer's tests,
 * in which each small letter is a word; what is expected follows from ComfyUI's rules, worked out by hand. */
#include "nodes/conditioning/prompt.h"
#include "runtime/json.h"
#include "tests/test.h"

#define CASES WEFT_SOURCE_DIR "/tests/golden/tokenizer_cases.json"

static weft_tokenizer *open_tokenizer(weft_ctx *c) {
    static const char *const files[] = { "vocab.json", "merges.txt" };
    char folder[] = "/tmp/weft-prompt-XXXXXX", path[128];
    cJSON *cases = weft_json_read(c, CASES, 1 << 22, 0);
    const cJSON *plain = cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetObjectItem(cases, "folders"), "plain"),
                                             "files");
    if (!plain || !mkdtemp(folder)) abort();
    for (int i = 0; i < 2; i++) {
        const cJSON *text = cJSON_GetObjectItem(plain, files[i]);
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        FILE *f = cJSON_IsString(text) ? fopen(path, "wb") : NULL;
        if (!f || fputs(text->valuestring, f) < 0 || fclose(f)) abort();
    }
    weft_tokenizer *t = weft_tokenizer_open_folder(c, folder);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
    cJSON_Delete(cases);
    if (!t) TEST_FAIL("%s", weft_message(c));
    return t;
}

/* "a b*1.1 | c": tokens without their end-of-word mark, with weights other than 1; | stands between chunks. Also looks
 * at each chunk's frame: start, tokens, end, padding, all of weight 1. */
static void show(const weft_tokenizer *t, const weft_prompt *p, char *out, size_t size) {
    size_t used = 0;
    out[0] = 0;
    for (int k = 0; k < p->chunks; k++) {
        const int32_t *ids = p->ids + k * WEFT_CLIP_LENGTH;
        const float *w = p->weights + k * WEFT_CLIP_LENGTH;
        int i = 1;
        CHECK_EQ(ids[0], weft_tokenizer_bos(t));
        CHECK_NEAR(w[0], 1, 0);
        if (k) used += (size_t)snprintf(out + used, size - used, " |");
        for (; i < WEFT_CLIP_LENGTH && ids[i] != weft_tokenizer_eos(t); i++) {
            const char *token = weft_tokenizer_token(t, ids[i]);
            used += (size_t)snprintf(out + used, size - used, "%s%.*s", used ? " " : "", (int)strcspn(token, "<"),
                                     token);
            if (w[i] != 1) used += (size_t)snprintf(out + used, size - used, "*%.7g", (double)w[i]);
        }
        CHECK(i < WEFT_CLIP_LENGTH);
        for (; i < WEFT_CLIP_LENGTH; i++) {
            CHECK_NEAR(w[i], 1, 0);
            CHECK(ids[i] == weft_tokenizer_eos(t) || ids[i] == weft_tokenizer_pad(t));
        }
    }
}

static const struct { const char *text, *want; } cases[] = {
    { "", "" },
    { "a b c", "a b c" },
    { "a\nb\tc", "a b c" },
    { "(a)", "a*1.1" },
    { "((a))", "a*1.21" },
    { "(((a)))", "a*1.331" },
    { "(a:1.2)", "a*1.2" },
    { "(a:1.2) b", "a*1.2 b" },
    { "(a: 1.2 )", "a*1.2" },
    { "(a:.5)(b:2)c", "a*0.5 b*2 c" },
    { "((a:1.2))", "a*1.2" },                       /* set, not multiplied by what stands around */
    { "((a) b:2)", "a*2.2 b*2" },                   /* what stands inside is multiplied */
    { "(a (b:3) c:2)", "a*2 b*3 c*2" },
    { "(a:-1)", "a*-1" },
    { "(a:0)", "a*0" },
    { "(a:1e-1)", "a*0.1" },
    { "(a:b)", "a*1.1 :*1.1 b*1.1" },               /* no number: text */
    { "(a:)", "a*1.1 :*1.1" },
    { "(a: )", "a*1.1 :*1.1" },
    { "(a:2\n)", "a*2" },
    { "(:1.2)", ":*1.1 1*1.1 .*1.1 2*1.1" },         /* a colon at the start has nothing to weight */
    { "(a:0x2)", "a*1.1 :*1.1 0*1.1 x*1.1 2*1.1" }, /* C's hexadecimal is none of Python's */
    { "a:1.2", "a : 1 . 2" },
    { "\\(a\\)", "( a )" },
    { "(a \\(b\\):1.5)", "a*1.5 (*1.5 b*1.5 )*1.5" },
    { "\\a", "\\ a" },
    { "[a]", "[ a ]" },
    { "a (b", "a ( b" },                            /* unbalanced: text as it stands */
    { "a) b", "a ) b" },
    { "(a) b)", "a*1.1 b )" },
    { "((a) b", "( ( a ) b" },
    { ")(a", ") ( a" },
    { "()", "" },
    { "(())", "" },
    { "a()b", "a b" },
};

/* Tokens may be merged signs ("):"): they are compared without the blanks between. */
static bool same(const char *a, const char *b) {
    for (;; a++, b++) {
        while (*a == ' ') a++;
        while (*b == ' ') b++;
        if (*a != *b) return false;
        if (!*a) return true;
    }
}

TEST(weights) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    weft_tokenizer *t = open_tokenizer(c);
    REQUIRE(t);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        weft_prompt p;
        REQUIRE(weft_prompt_read(c, t, WEFT_CLIP_LENGTH, NULL, cases[i].text, &p));
        show(t, &p, text, sizeof text);
        if (!same(text, cases[i].want)) TEST_FAIL("\"%s\": \"%s\", expected \"%s\"", cases[i].text, text,
                                                  cases[i].want);
        CHECK_EQ(p.chunks, 1);
        CHECK_EQ(p.weighted, strchr(text, '*') != NULL);
        weft_prompt_free(&p);
    }
    weft_tokenizer_free(t);
    weft_ctx_free(c);
}

/* n times "a ", then the rest. */
static void many(char *out, int n, const char *rest) {
    for (int i = 0; i < n; i++) memcpy(out + 2 * i, "a ", 2);
    strcpy(out + 2 * n, rest);
}

TEST(chunks) {
    static const struct { int n; const char *rest; int chunks, first; } lengths[] = {
        { 75, "", 1, 75 }, { 76, "", 2, 75 }, { 150, "", 2, 75 }, { 151, "", 3, 75 },
        { 73, "(b c)", 1, 75 },
        { 73, "(b c d)", 2, 73 },                       /* a short run goes to the next chunk as a whole */
        { 73, "(b c d e f g h)", 2, 73 },
        { 73, "(b c d e f g h i)", 2, 75 },             /* one of 8 is cut */
    };
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    weft_tokenizer *t = open_tokenizer(c);
    REQUIRE(t);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char text[1024];
        weft_prompt p;
        many(text, lengths[i].n, lengths[i].rest);
        REQUIRE(weft_prompt_read(c, t, WEFT_CLIP_LENGTH, NULL, text, &p));
        CHECK_EQ(p.chunks, lengths[i].chunks);
        int first = 1;
        while (first < WEFT_CLIP_LENGTH && p.ids[first] != weft_tokenizer_eos(t)) first++;
        CHECK_EQ(first - 1, lengths[i].first);
        show(t, &p, text, sizeof text);
        weft_prompt_free(&p);
    }
    weft_tokenizer_free(t);
    weft_ctx_free(c);
}

/* A text encoder of other than 77 positions has chunks of its own length. */
TEST(short_chunks) {
    static const struct { int length, n, chunks; } cases[] = { { 20, 18, 1 }, { 20, 19, 2 }, { 3, 3, 3 }, { 100, 98, 1 } };
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    weft_tokenizer *t = open_tokenizer(c);
    REQUIRE(t);
    weft_prompt p;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int length = cases[i].length;
        char text[1024];
        many(text, cases[i].n, "");
        REQUIRE(weft_prompt_read(c, t, length, NULL, text, &p));
        CHECK_EQ(p.length, length);
        CHECK_EQ(p.chunks, cases[i].chunks);
        for (int k = 0; k < p.chunks; k++) CHECK_EQ(p.ids[k * length], weft_tokenizer_bos(t));
        CHECK_EQ(p.ids[p.chunks * length - 1], weft_tokenizer_eos(t));      /* the end, or padding, which is the same here */
        weft_prompt_free(&p);
    }
    CHECK(!weft_prompt_read(c, t, 2, NULL, "a", &p));
    CHECK_HAS(weft_message(c), "2 positions has no room");
    weft_tokenizer_free(t);
    weft_ctx_free(c);
}

TEST(bad_prompts) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    weft_tokenizer *t = open_tokenizer(c);
    REQUIRE(t);
    weft_prompt p;
    CHECK(weft_prompt_read(c, t, WEFT_CLIP_LENGTH, NULL, "embedding:b", &p) && !p.vectors);     /* without a folder it is text */
    weft_prompt_free(&p);
    CHECK(!weft_prompt_read(c, t, WEFT_CLIP_LENGTH, NULL, "(a \xff:2)", &p));
    CHECK_HAS(weft_message(c), "UTF-8");
    weft_clear(c);
    enum { DEEP = 20000 };
    char *deep = malloc(2 * DEEP + 2);                          /* parentheses without end do not take the stack */
    memset(deep, '(', DEEP);
    deep[DEEP] = 'a';
    memset(deep + DEEP + 1, ')', DEEP);
    deep[2 * DEEP + 1] = 0;
    CHECK(weft_prompt_read(c, t, WEFT_CLIP_LENGTH, NULL, deep, &p));
    weft_prompt_free(&p);
    deep[DEEP] = 0;
    CHECK(weft_prompt_read(c, t, WEFT_CLIP_LENGTH, NULL, deep, &p));
    weft_prompt_free(&p);
    free(deep);
    weft_tokenizer_free(t);
    weft_ctx_free(c);
}

TEST_MAIN
