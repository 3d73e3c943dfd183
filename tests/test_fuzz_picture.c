/* The picture fuzzer on a fixed series of mutations (tests/fuzz/fuzz.h). */
#include "tests/fuzz/fuzz_picture.c"
#include "tests/test.h"

static struct fuzz_corpus corpus;

static const char *const words[] = { "IHDR",       "IDAT",        "PLTE",
                                     "tRNS",       "IEND",        "eXIf",
                                     "tEXtprompt", "zTXtprompt",  "iTXtworkflow",
                                     "EXIF",       "VP8X",        "VP8L",
                                     "Exif",       "II*",         "MM",
                                     "prompt:{}",  "workflow:{}", "\xff\xd8",
                                     "\xff\xc0",   "\xff\xc2",    "\xff\xc4",
                                     "\xff\xda",   "\xff\xdb",    "\xff\xd9",
                                     "\xff\xe1",   "BM",          "\xff\xff\xff\xff",
                                     "\x7f\xff" };

TEST(mutated_pictures) {
    fuzz_load(&corpus, WEFT_SOURCE_DIR "/tests/fuzz/corpus/picture");
    CHECK(corpus.count > 5);
    if (corpus.count)
        CHECK(fuzz_run(&corpus, fuzz_picture, NULL, words, sizeof words / sizeof *words, 20000, 5) > 1000);
}

TEST_MAIN
