/* The JSON fuzzer on a fixed series of mutations (tests/fuzz/fuzz.h), for some seconds. */
#include "tests/test.h"
#include "tests/fuzz/fuzz_json.c"

static struct fuzz_corpus corpus;

static const char *const words[] = { "\"a\":", "\"a\":1,", "[", "]", "{", "}", ",", ":", "\"", "\\", "\\u",
    "\\ud83d\\ude00", "\\u0000", "\\n", "null", "true", "false", "NaN", "Infinity", "-Infinity", "-", "0", "1e",
    "1e999", "1.5", "18446744073709551616", "\xef\xbb\xbf", "\xe6\xbc\xa2", "\xff", "\n", "[[[[[[[[[[[[[[[[",
    "]]]]]]]]]]]]]]]]" };

TEST(mutated_texts) {
    fuzz_load(&corpus, WEFT_SOURCE_DIR "/tests/fuzz/corpus/json");
    CHECK(corpus.count > 3);
    if (corpus.count) CHECK(fuzz_run(&corpus, fuzz_json, NULL, words, sizeof words / sizeof *words, 400000, 3) > 1000);
}

TEST_MAIN
