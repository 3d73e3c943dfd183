/* The safetensors fuzzer on a fixed series of mutations (tests/fuzz/fuzz.h), for some seconds. */
#include "tests/test.h"
#include "tests/fuzz/fuzz_safetensors.c"

static struct fuzz_corpus corpus;

static const char *const words[] = { "\"__metadata__\":{\"a\":\"b\"},",
    "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},",
    "\"dtype\":", "\"shape\":", "\"data_offsets\":", "\"F16\"", "\"F4\"", "\"BOOL\"", "[0,0]", "[9223372036854775807]",
    "18446744073709551616", "-1", "1.5", "\\u0000", "\\ud83d", "\"", "{", "}", "[", "]", ",", ":", "0", "\xff" };

/* Three times in four the header's length is made right: what stands behind it matters more. */
static void fix(uint64_t *state, uint8_t *bytes, size_t size) {
    size_t end = size;
    if (size < 8 || fuzz_draw(state, 4) == 0) return;
    for (size_t i = size; i > 8; i--)
        if (bytes[i - 1] == '}') {
            end = i;
            break;
        }
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((end - 8) >> 8 * i);
}

TEST(mutated_files) {
    fuzz_load(&corpus, WEFT_SOURCE_DIR "/tests/fuzz/corpus/safetensors");
    CHECK(corpus.count > 5);
    if (corpus.count)
        CHECK(fuzz_run(&corpus, fuzz_safetensors, fix, words, sizeof words / sizeof *words, 400000, 5) > 1000);
}

TEST_MAIN
