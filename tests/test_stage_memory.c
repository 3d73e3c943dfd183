/* Schedulers, their steps and losses when memory ends: every allocation of the process fails in turn. */
#include "nodes/sampling/brownian.h"
#include "nodes/sampling/scheduler.h"
#include "tests/failing_malloc.h"
#include "tests/node_bed.h"

#ifdef FAILING_MALLOC
#define IN_ANY(n, v) (struct in){ n, v }

static void drop(weft_value *v, int n) {
    for (int i = 0; i < n; i++) weft_value_clear(&v[i]);
}

static struct bed b;
static weft_tensor *x, *times;

/* A scheduler, noise, two steps, a loss, and what immiscible and self-conditioned training take more. */
static void run_kind(const char *name, const char *config) {
    weft_value tables[6] = { 0 }, noise[2] = { 0 }, first[3] = { 0 }, next[3] = { 0 }, loss[3] = { 0 }, more[2] = { 0 };
    if (CALL(&b, "Scheduler", tables, IN_TEXT("scheduler", name), IN_INT("steps", 4), IN_TEXT("config", config))) return;
    if (CALL(&b, "Noise", noise, IN_INT("seed", 1), IN_TENSOR("like", x)) == WEFT_OK &&
        CALL(&b, "SchedulerStep", first, IN_ANY("scheduler", tables[0]), IN_INT("step", 0), IN_TENSOR("prediction", x),
             IN_TENSOR("sample", x), IN_ANY("state", noise[1])) == WEFT_OK)
        CALL(&b, "SchedulerStep", next, IN_ANY("scheduler", tables[0]), IN_INT("step", 1), IN_TENSOR("prediction", x),
             IN_ANY("sample", first[0]), IN_ANY("state", first[2]));
    if (weft_ok(b.c))
        CALL(&b, "Loss", loss, IN_TENSOR("prediction", x), IN_ANY("scheduler", tables[0]), IN_TENSOR("clean", x),
             IN_TENSOR("noise", x), IN_TENSOR("timesteps", times), IN_TEXT("target", "v_prediction"),
             IN_TEXT("loss", "huber"), IN_TEXT("weighting", "min_snr"));
    if (weft_ok(b.c)) CALL(&b, "MatchNoise", &more[0], IN_TENSOR("samples", x), IN_ANY("noise", noise[0]));
    if (weft_ok(b.c))
        CALL(&b, "Denoised", &more[1], IN_ANY("scheduler", tables[0]), IN_TENSOR("prediction", x),
             IN_TENSOR("sample", x), IN_TENSOR("timesteps", times));
    drop(more, 2);
    drop(tables, 6);
    drop(noise, 2);
    drop(first, 3);
    drop(next, 3);
    drop(loss, 3);
}

static void run_path(const char *name, const char *config) {
    (void)name;
    (void)config;
    weft_scope s = weft_scope_named(b.c, "path");
    weft_brownian_noise(b.c, x, 7, 1, 1.001, 1.0002, 1.0006);
    weft_scope_end(b.c, s, NULL);
}

static void all_failures(void (*run)(const char *, const char *), const char *name, const char *config) {
    run(name, config);      /* what is made once is made */
    CHECK_STR(weft_message(b.c), "");
    weft_memory_trim(b.c);
    for (long n = 0; !test_failures; n++) {
        long before = live;     /* fewer is no leak: what is kept for the next time goes when memory ends */
        refused = false;
        countdown = n;
        run(name, config);
        countdown = -1;
        if (!refused && !weft_ok(b.c)) TEST_FAIL("failed although no allocation did: %s", weft_message(b.c));
        if (!weft_ok(b.c) && weft_error(b.c) != WEFT_E_MEMORY && !strstr(weft_message(b.c), "memory"))
            TEST_FAIL("%s, failure %ld: %s", name, n, weft_message(b.c));
        bool done = !refused;
        weft_clear(b.c);
        weft_memory_trim(b.c);
        if (live > before) TEST_FAIL("%s, failure %ld: %ld allocations leaked", name, n, live - before);
        if (done) break;
    }
}

TEST(every_allocation_may_fail) {
    static const char *const kinds[][2] = {
        { "ddpm", "{\"thresholding\": true}" }, { "ddim", "{}" }, { "pndm", "{}" }, { "unipc", "{\"solver_order\": 3}" },
        { "euler_discrete", "{\"use_karras_sigmas\": true}" }, { "gaussian_diffusion", "{}" },
        { "dpmsolver_multistep", "{\"algorithm_type\": \"sde-dpmsolver++\", \"use_karras_sigmas\": true}" },
        { "ddim", "{\"num_train_timesteps\": 4, \"trained_betas\": [0.1, 0.2, 0.3, 0.4]}" } };
    b = bed_new("cpu");
    x = weft_full(b.c, WEFT_F32, WEFT_SHAPE(2, 2, 2, 4), 0.5);
    times = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1), 1);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) all_failures(run_kind, kinds[i][0], kinds[i][1]);
    all_failures(run_path, "brownian", "");
    bed_free(&b);
}
#else
/* The sanitizer has its own malloc, which cannot be replaced. */
TEST(nothing_to_do) {
    CHECK(true);
}
#endif

TEST_MAIN
