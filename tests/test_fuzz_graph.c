/* The graph fuzzer on a fixed series of mutations (tests/fuzz/fuzz.h). */
#include "tests/fuzz/fuzz_graph.c"
#include "tests/test.h"

static struct fuzz_corpus corpus;

static const char *const words[] = { "\"class_type\":",
                                     "\"inputs\":",
                                     "{",
                                     "}",
                                     "[",
                                     "]",
                                     ",",
                                     ":",
                                     "\"",
                                     "null",
                                     "true",
                                     "-1",
                                     "0",
                                     "1e9",
                                     "18446744073709551616",
                                     "[\"1\",0]",
                                     "[\"3\",-1]",
                                     "\"nodes\":[",
                                     "\"links\":[",
                                     "\"widgets_values\":[",
                                     "\"type\":\"Reroute\",",
                                     "\"type\":\"PrimitiveNode\",",
                                     "\"mode\":4,",
                                     "\"mode\":2,",
                                     "\"link\":3,",
                                     "[3,1,0,2,0,\"*\"],",
                                     "\"id\":1,",
                                     "\"id\":-10,",
                                     "\"origin_id\":-20,",
                                     "\"definitions\":{\"subgraphs\":[",
                                     "\"extra\":{\"groupNodes\":{",
                                     "workflow/G",
                                     "\"KSampler\"",
                                     "\"LoadImage\"",
                                     "\"__value__\":",
                                     "\"prompt\":",
                                     "\"widget\":{\"name\":\"seed\"}" };

TEST(mutated_graphs) {
    fuzz_load(&corpus, WEFT_SOURCE_DIR "/tests/fuzz/corpus/graph");
    CHECK(corpus.count > 5);
    if (corpus.count) CHECK(fuzz_run(&corpus, fuzz_graph, NULL, words, sizeof words / sizeof *words, 20000, 5) > 1000);
}

TEST_MAIN
