/* Training by graphs: the nodes of data and chance, what weights that are trained in place mean for what a runner keeps
 * (tests/lua/train_graph.lua), and what the program prints. */
#include "nodes/sampling/scheduler.h"
#include "runtime/rng.h"
#include "tests/data_bed.h"
#include "tests/failing_malloc.h"
#include "tests/node_bed.h"
#include "tests/run_program.h"

#define EXAMPLES WEFT_SOURCE_DIR "/examples"
#define IN_ANY(n, v) (struct in){ n, v }

static struct bed data_nodes_bed(void) {
    static const char *const models[] = { EXAMPLES "/models", NULL };
    struct bed b = bed_new("cpu");
    b.folders = (weft_folders){ .models = models, .input = EXAMPLES };
    return b;
}

static void drop(weft_value *v, int n) {
    for (int i = 0; i < n; i++) weft_value_clear(&v[i]);
}

/* ---- Dataset, DatasetBatch -------------------------------------------------------------------------------------- */

#define OPEN(b, out, ...) \
    CALL(b, "Dataset", out, IN_TEXT("folder", "pictures"), IN_INT("size", 16), IN_INT("batch_size", 3), \
         IN_BOOL("random_flip", true), IN_INT("seed", 5), __VA_ARGS__)

/* A batch as text: its epoch, its captions, a sum over its pictures. */
static const char *seen(struct bed *b, weft_value dataset, int64_t number, char *out, size_t size) {
    weft_value v[3] = { 0 };
    if (CALL(b, "DatasetBatch", v, IN_ANY("dataset", dataset), IN_INT("batch", number)))
        TEST_FAIL("%s", weft_message(b->c));
    const weft_texts *captions = (const weft_texts *)v[1].object;
    size_t used = (size_t)snprintf(out, size, "%lld", (long long)v[2].i);
    for (int i = 0; captions && i < captions->count; i++)
        used += (size_t)snprintf(out + used, size - used, " | %s", captions->items[i]);
    if (captions) CHECK_EQ(weft_dim(v[0].tensor, 0), captions->count);
    snprintf(out + used, size - used, " %.9g", weft_item(b->c, weft_reduce_all(b->c, WEFT_REDUCE_SUM, v[0].tensor)));
    drop(v, 3);
    return out;
}

TEST(a_batch_follows_from_its_number) {
    struct bed b = data_nodes_bed();
    weft_value one[1] = { 0 }, other[1] = { 0 };
    char a[14][600], text[600];
    REQUIRE(!OPEN(&b, one, IN_BOOL("shuffle", true)) && !OPEN(&b, other, IN_INT("threads", 0)));
    for (int i = 0; i < 14; i++) seen(&b, one[0], i, a[i], sizeof a[i]);
    for (int i = 13; i >= 0; i--) CHECK_STR(seen(&b, other[0], i, text, sizeof text), a[i]);
    CHECK_STR(seen(&b, one[0], 3, text, sizeof text), a[3]);
    for (int i = 0; i < 14; i++) CHECK_EQ(atoi(a[i]), i / 6);       /* 16 pictures are 6 batches, the last of one */
    CHECK(!strchr(strchr(a[5], '|') + 1, '|') && strchr(strchr(a[4], '|') + 1, '|'));
    CHECK(strcmp(strchr(a[0], '|'), strchr(a[6], '|')));            /* another order in the next epoch */
    CHECK_STR(seen(&b, one[0], 999999999999, text, 13), "166666666666");
    drop(one, 1);
    drop(other, 1);
    CALL_FAILS(&b, "there is no \"picture\" in " EXAMPLES "; did you mean \"pictures\"?", "Dataset",
               IN_TEXT("folder", "picture"));
    CALL_FAILS(&b, "leads out of the folder", "Dataset", IN_TEXT("folder", "../docs"));
    CALL_FAILS(&b, "there is no \"ddpm.lua\"", "Dataset", IN_TEXT("folder", "ddpm.lua"));     /* a file */
    bed_free(&b);
}

/* ---- chance ------------------------------------------------------------------------------------------------------ */

TEST(timesteps_and_samples) {
    struct bed b = data_nodes_bed();
    weft_ctx *c = b.c;
    weft_value s[6] = { 0 }, noise[2] = { 0 }, drawn[2] = { 0 }, again[2] = { 0 }, z[1] = { 0 };
    weft_tensor *like = weft_full(c, WEFT_F32, WEFT_SHAPE(5, 3, 2, 4), 0);
    CHECK(!CALL(&b, "Scheduler", s, IN_TEXT("scheduler", "ddpm"), IN_INT("num_train_timesteps", 300)));
    CHECK(!CALL(&b, "Noise", noise, IN_INT("seed", 7), IN_TENSOR("like", like)));
    CHECK(!CALL(&b, "RandomTimesteps", drawn, IN_ANY("scheduler", s[0]), IN_TENSOR("like", like),
                IN_ANY("state", noise[1])));
    CHECK(!CALL(&b, "RandomTimesteps", again, IN_ANY("scheduler", s[0]), IN_TENSOR("like", like), IN_INT("seed", 7)));
    /* one generator for both, in this order; by its seed alone, from the start */
    weft_rng *rng = weft_rng_new(c, WEFT_RNG_CPU, 7);
    int64_t want[5], got[5];
    for (int k = 0; k < 2; k++) {
        if (!k) weft_randn(c, rng, WEFT_F32, WEFT_SHAPE(5, 4, 3, 2));
        else weft_rng_seed(rng, 7);
        CHECK(!weft_read(c, weft_randint(c, rng, 0, 300, WEFT_SHAPE(5)), want, sizeof want));
        CHECK(!weft_read(c, (k ? again : drawn)[0].tensor, got, sizeof got));
        for (int i = 0; i < 5; i++) CHECK_EQ(got[i], want[i]);
    }
    weft_rng_free(rng);
    /* mean + exp(logvar/2)·noise, not scaled without a model; the mean itself without noise */
    const float mean[] = { 1, 2 }, logvar[] = { 0, 2 }, normal[] = { 3, -1 }, want_z[] = { 4, 2 - 2.7182818f };
    weft_tensor *m = TENSOR(&b, mean, 1, 1, 1, 2), *v = TENSOR(&b, logvar, 1, 1, 1, 2);
    weft_tensor *e = TENSOR(&b, normal, 1, 1, 1, 2);
    CHECK(!CALL(&b, "VAESample", z, IN_TENSOR("mean", m), IN_TENSOR("logvar", v), IN_TENSOR("noise", e)));
    CHECK_TENSOR(&b, z[0].tensor, want_z, 1e-6, 1, 1, 1, 2);
    drop(z, 1);
    CHECK(!CALL(&b, "VAESample", z, IN_TENSOR("mean", m), IN_TENSOR("logvar", v)));
    CHECK_TENSOR(&b, z[0].tensor, mean, 0, 1, 1, 1, 2);
    CALL_FAILS(&b, "expected a batch", "RandomTimesteps", IN_ANY("scheduler", s[0]),
               IN_TENSOR("like", weft_scalar(c, WEFT_F32, 1)));
    drop(s, 6);
    drop(noise, 2);
    drop(drawn, 2);
    drop(again, 2);
    drop(z, 1);
    bed_free(&b);
}

#ifdef FAILING_MALLOC
/* Every allocation of a batch fails in turn; nothing is lost when the data set is closed. */
TEST(batches_without_memory) {
    if (leaves_out("failing memory, which the driver would not have either")) return;
    struct bed b = data_nodes_bed();
    weft_value set[1] = { 0 };
    long before = 0, n = 0;
    for (int round = 0; round < 2; round++) {           /* what is made once is made in the first */
        weft_scope s = weft_scope_named(b.c, "test");
        weft_memory_trim(b.c);
        before = live;
        REQUIRE(!OPEN(&b, set, IN_INT("threads", 0)));
        for (n = 0, refused = true; refused && !test_failures; n++) {
            weft_value v[3] = { 0 };
            refused = false;
            countdown = n;
            weft_status status = CALL(&b, "DatasetBatch", v, IN_ANY("dataset", set[0]), IN_INT("batch", n % 2));
            countdown = -1;
            if (status && !refused) TEST_FAIL("failed although no allocation did: %s", weft_message(b.c));
            if (!status && !v[1].object) TEST_FAIL("failure %ld: no captions and no error", n);
            drop(v, 3);
            weft_clear(b.c);
        }
        drop(set, 1);
        weft_scope_end(b.c, s, NULL);
        weft_memory_trim(b.c);
    }
    CHECK(n > 15);
    CHECK_EQ(live, before);
    bed_free(&b);
}
#endif

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

TEST(graphs_under_a_tape) {
    weft_ctx *c = data_bed();
    struct run *r = WEFT(data_root, WEFT_SOURCE_DIR "/tests/lua/train_graph.lua", WEFT_SOURCE_DIR);
    if (r->status || strncmp(r->out, "ok ", 3)) TEST_FAIL("status %d: %s%s", r->status, r->out, r->err);
    data_bed_free(c);
}

TEST(what_a_graph_tells) {
    static const char text[] = "{\"1\": {\"class_type\": \"PreviewAny\", \"inputs\": {\"source\": [\"2\", 0]}},"
                               " \"2\": {\"class_type\": \"%s\", \"inputs\": {%s}}}";
    static const char *const cases[][3] = {
        { "EmptyImage", "\"width\": 8, \"height\": 16, \"batch_size\": 1, \"color\": 0", "(1, 16, 8, 3) f32\n" },
        { "PrimitiveString", "\"value\": \"a \\\"b\\\"\"", "a \"b\"\n" },
        { "PrimitiveFloat", "\"value\": 2.5", "2.5\n" },
        { "PrimitiveBoolean", "\"value\": true", "true\n" }, { "PrimitiveInt", "\"value\": 7", "7\n" },
        { "DiffusersLoader", "\"model_path\": \"shapes\"", "UNet, 4 channels, predicts v_prediction\n" },
    };
    weft_ctx *c = data_bed();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char graph[500];
        put("graph.json", graph, (size_t)snprintf(graph, sizeof graph, text, cases[i][0], cases[i][1]));
        struct run *r = WEFT(data_root, "run", "graph.json", "--models", EXAMPLES "/models");
        CHECK_STR(r->err, "");
        CHECK_HAS(r->out, cases[i][2]);
    }
    struct run *r = WEFT(data_root, "run", WEFT_SOURCE_DIR "/graphs/train_ddpm.json", "--input", EXAMPLES, "--set",
                         "3.batch_size=2", "--json");
    CHECK_HAS(r->out, "{\"event\": \"told\", \"node\": \"11\", \"class\": \"PreviewAny\", \"text\": \"1.");
    data_bed_free(c);
}

TEST_MAIN
