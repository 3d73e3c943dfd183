/* Every operation on random shapes and views: against the reference back end in f64; the same bytes from views as from
 * dense copies and from any number of threads; the same shapes when only shapes run; sizes of 0; cancelled midway. */
#include <pthread.h>
#include "tests/operations.h"

enum { ROUNDS = 60 };

static uint64_t seed_of(int op, int round) { return (uint64_t)(op * 1000 + round) * 0x9e3779b97f4a7c15u + 99; }

/* An operation's result as values; NULL after an error. */
struct result { double *values; int64_t n; char text[256]; weft_status status; };
static struct result run(weft_ctx *c, int op, struct draw d) {
    struct result r = { 0 };
    weft_scope s = weft_scope_named(c, operation[op].name);
    weft_tensor *y = operation[op].call(c, &d);
    weft_describe(y, r.text, sizeof r.text);
    r.n = weft_count(y);
    if (y && !weft_is_shape_only(c)) r.values = values_of(c, y);
    r.status = weft_error(c);
    weft_scope_end(c, s, NULL);
    return r;
}

/* Distance of the two in units of want's root mean square; what is infinite or NaN in one is so in the other. */
static double apart(const struct result *got, const struct result *want) {
    double sum = 0, norm = 0;
    for (int64_t i = 0; i < want->n; i++) {
        double g = got->values[i], w = want->values[i];
        if (g == w || (isnan(g) && isnan(w))) continue;
        sum += (g - w) * (g - w);
    }
    for (int64_t i = 0; i < want->n; i++) norm += isfinite(want->values[i]) ? want->values[i] * want->values[i] : 0;
    return want->n ? sqrt(sum / (norm > 0 ? norm : 1)) : 0;
}

/* What one operation in f32 may be off: the house's rule is 1e-5 of the output's rms, 1e-4 where Winograd F(4×4) is
 * allowed. */
static double allowed(weft_precision p) {
    return p == WEFT_PRECISION_FAST ? 1e-4 : 1e-5;
}

static void against_the_reference(weft_precision p, weft_dtype weights) {
    weft_ctx *cpu = weft_ctx_new(&(weft_options){ .device = "cpu", .threads = 1, .precision = p });
    weft_ctx *ref = open_device("reference");
    for (int op = 0; op < OPERATIONS; op++)
        for (int round = 0; round < ROUNDS; round++) {
            struct draw d = { .state = seed_of(op, round), .type = WEFT_F32, .weights = weights };
            struct result got = run(cpu, op, d);
            d.type = WEFT_F64;
            struct result want = run(ref, op, d);
            if (!got.values || !want.values || got.n != want.n)
                TEST_FAIL("%s, round %d: %s / %s: %s%s", operation[op].name, round, got.text, want.text,
                          weft_message(cpu), weft_message(ref));
            else if (!(apart(&got, &want) <= allowed(p)))
                TEST_FAIL("%s, round %d, %s: %.3g apart", operation[op].name, round, got.text, apart(&got, &want));
            free(got.values);
            free(want.values);
            weft_clear(cpu);
            weft_clear(ref);
        }
    CLOSE(cpu);
    CLOSE(ref);
}
TEST(cpu_agrees_with_the_reference_exact) { against_the_reference(WEFT_PRECISION_EXACT, WEFT_F32); }
TEST(cpu_agrees_with_the_reference_fast) { against_the_reference(WEFT_PRECISION_FAST, WEFT_F32); }
TEST(cpu_agrees_with_the_reference_f16_weights) { against_the_reference(WEFT_PRECISION_EXACT, WEFT_F16); }
TEST(cpu_agrees_with_the_reference_bf16_weights) { against_the_reference(WEFT_PRECISION_FAST, WEFT_BF16); }

/* Two runs that must give the same bytes. */
static void same_bytes(weft_ctx *a, weft_ctx *b, bool dense, const char *what) {
    for (int op = 0; op < OPERATIONS; op++)
        for (int round = 0; round < ROUNDS; round++) {
            struct draw d = { .state = seed_of(op, round), .type = WEFT_F32, .weights = WEFT_F32 };
            struct result x = run(a, op, d);
            d.dense = dense;
            struct result y = run(b, op, d);
            if (!x.values || !y.values || x.n != y.n || memcmp(x.values, y.values, (size_t)x.n * sizeof *x.values))
                TEST_FAIL("%s, round %d, %s: %s", operation[op].name, round, x.text, what);
            free(x.values);
            free(y.values);
        }
}

TEST(threads_change_no_byte) {
    weft_ctx *one = weft_ctx_new(&(weft_options){ .threads = 1 });
    for (int n = 2; n <= 5; n += 3) {
        weft_ctx *many = weft_ctx_new(&(weft_options){ .threads = n });
        same_bytes(one, many, false, "other bytes with more threads");
        CLOSE(many);
    }
    CLOSE(one);
}

TEST(views_give_what_dense_copies_give) {
    for (int i = 0; i < 2; i++) {
        weft_ctx *c = open_device(i ? "cpu" : "reference");
        same_bytes(c, c, true, "other bytes from dense copies of the views");
        CLOSE(c);
    }
}

TEST(shape_only_gives_the_same_shapes) {
    weft_ctx *c = open_device("cpu");
    for (int op = 0; op < OPERATIONS; op++)
        for (int round = 0; round < ROUNDS; round++) {
            struct draw d = { .state = seed_of(op, round), .type = WEFT_F32, .weights = WEFT_F16, .empty = round % 2 };
            struct result real = run(c, op, d);
            weft_status status = weft_error(c);
            weft_clear(c);
            weft_shape_only(c, true);
            size_t live = weft_memory_live(c);
            weft_memory_reset_peak(c);
            struct result shape = run(c, op, d);
            CHECK_EQ(weft_memory_peak(c), live);
            weft_shape_only(c, false);
            CHECK_STR(shape.text, real.text);
            CHECK_EQ(weft_error(c), status);
            weft_clear(c);
            free(real.values);
        }
    CLOSE(c);
}

TEST(sizes_of_zero) {
    weft_ctx *cpu = open_device("cpu"), *ref = open_device("reference");
    int empty = 0;
    for (int op = 0; op < OPERATIONS; op++)
        for (int round = 0; round < 4 * ROUNDS; round++) {
            struct draw d = { .state = seed_of(op, round), .type = WEFT_F32, .weights = WEFT_F32, .empty = true };
            struct result got = run(cpu, op, d), want = run(ref, op, d);
            empty += got.status == WEFT_OK && got.n == 0;
            if (got.status != want.status || strcmp(got.text, want.text) || got.status == WEFT_E_INTERNAL)
                TEST_FAIL("%s, round %d: %s / %s: %s%s", operation[op].name, round, got.text, want.text,
                          weft_message(cpu), weft_message(ref));
            else if (got.values && !(apart(&got, &want) <= allowed(WEFT_PRECISION_FAST)))
                TEST_FAIL("%s, round %d, %s: %.3g apart", operation[op].name, round, got.text, apart(&got, &want));
            free(got.values);
            free(want.values);
            weft_clear(cpu);
            weft_clear(ref);
        }
    CHECK(empty > 500);
    CLOSE(cpu);
    CLOSE(ref);
}

enum { SIDE = 300, REQUESTS = 16 };

/* Memory from the system, all NaN until it is written. Another thread cancels the context before the request behind the next
 * `left` is answered. */
struct giver { weft_ctx *c; int left, count; float *given[REQUESTS]; };

static void *cancel_it(void *c) {
    weft_cancel(c);
    return NULL;
}

static void *give(void *user, size_t bytes) {
    struct giver *g = user;
    pthread_t thread;
    if (g->left-- == 0) CHECK(pthread_create(&thread, NULL, cancel_it, g->c) == 0 && pthread_join(thread, NULL) == 0);
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (p) memset(p, 0xff, bytes);
    if (g->count < REQUESTS) g->given[g->count++] = p;
    return p;
}

static void take_back(void *user, void *p, size_t bytes) {
    (void)user;
    (void)bytes;
    free(p);
}

/* A product of matrices that is cancelled at its request `stage`; REQUESTS: at none. Tells how many requests it had, which of
 * them *result was for (set by the one that is not cancelled), and how many of the result's values it computed. */
static int cancel_at(const char *device, int stage, int *result, int *requests) {
    struct giver g = { .left = -1 };
    weft_ctx *c = g.c = weft_ctx_new(&(weft_options){ .device = device, .threads = 2, .os_alloc = give, .os_free = take_back,
                                                      .os_user = &g });
    weft_tensor *x = noisy(c, WEFT_F32, 1, WEFT_SHAPE(SIDE, SIDE));
    weft_tensor_mark_parameter(x, false, NULL, NULL);
    weft_memory_trim(c);
    g.left = stage;
    g.count = 0;
    weft_tensor *y = weft_linear(c, x, x, NULL, WEFT_ACT_NONE, NULL);
    *requests = g.count;
    if (stage == REQUESTS) for (int i = 0; i < g.count; i++) if (g.given[i] == weft_data(y)) *result = i;
    int computed = 0;
    if (*result < g.count) for (int i = 0; i < SIDE * SIDE; i++) computed += !isnan(g.given[*result][i]);
    CHECK_EQ(y != NULL, stage == REQUESTS);
    if (!y) CHECK_ERROR(c, WEFT_E_CANCELLED, "cancelled");
    CLOSE(c);
    return computed;
}

/* An operation asks for memory when it has begun, and so is cancelled here at each of its stages; at the last one its kernel
 * is all that is left to run, and has to stop and to say so. */
TEST(cancelling_stops_a_running_kernel) {
    static const char *const devices[] = { "reference", "cpu" };
    for (int i = 0; i < 2; i++) {
        int result = REQUESTS, all, requests;
        CHECK_EQ(cancel_at(devices[i], REQUESTS, &result, &all), SIDE * SIDE);
        REQUIRE(all < REQUESTS && result < all);
        for (int stage = 0; stage < all; stage++) CHECK(cancel_at(devices[i], stage, &result, &requests) < SIDE * SIDE);
        CHECK_EQ(requests, all);
    }
}

TEST_MAIN
