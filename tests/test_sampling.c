/* Noise tables, schedules and methods against tests/golden/make_sampling.py (k-diffusion; formulas in float64). */
#include "nodes/sampling/brownian.h"
#include "nodes/sampling/sampling.h"
#include "tests/host_data.h"
#include "tests/tensors.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/sampling.safetensors"

/* ᾱ is a product of 1000 doubles on both sides: f32 rounding is what remains, and (1 − ᾱ) cancels a little. */
#define TABLE 1e-6
/* exp(), tan() and pow() in f32 on both sides, off by a digit in some places: 1e-7, and what tan() makes of that. */
#define LEVELS 2e-6
/* f32 sums against f64: x rounds to 6e-8 of itself, and where few steps come down from σ = 14.6 what remains is 40 to
 * 100 times smaller than what is cancelled. 6e-6 was seen in one to three steps, 1e-6 in eight. */
#define STEPS 1e-5

static weft_tensor *golden(weft_ctx *c, weft_safetensors *f, const char *name) {
    const weft_st_entry *e = f ? weft_st_find(f, name) : NULL;
    if (!e) TEST_FAIL("the golden file has no %s; %s", name, weft_message(c));
    return e ? weft_st_tensor(c, f, e) : NULL;
}

static int index_of(const char *const *names, const char *name) {
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], name)) return i;
    TEST_FAIL("there is no %s", name);
    return 0;
}

static bool make_table(weft_ctx *c, const char *kind, weft_sigma_table *t) {
    weft_scheduler_config k = weft_scheduler_config_sd(WEFT_PREDICTION_EPSILON);
    bool zero = !strcmp(kind, "zero_snr");
    if (!strcmp(kind, "linear")) {
        k.beta_start = 0.0001;
        k.beta_end = 0.02;
    }
    snprintf(k.beta_schedule, sizeof k.beta_schedule, "%s", zero ? "scaled_linear" : kind);
    if (weft_sigma_table_make(c, &k, zero, t)) return true;
    TEST_FAIL("%s", weft_message(c));
    return false;
}

TEST(noise_tables) {
    static const char *const kinds[] = { "scaled_linear", "linear", "squaredcos_cap_v2", "zero_snr" };
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    for (int k = 0; k < 4; k++) {
        char name[48];
        snprintf(name, sizeof name, "table.%s", kinds[k]);
        double *want = values_of(c, golden(c, f, name));
        weft_sigma_table t;
        if (!want || !make_table(c, kinds[k], &t)) return;
        CHECK_EQ(t.count, 1000);
        for (int i = 0; i < 1000; i++) {
            CHECK_NEAR(t.sigmas[i], want[i], TABLE * want[i]);
            CHECK_EQ(weft_timestep_of(&t, want[i]), i);
        }
        free(want);
        weft_sigma_table_free(&t);
    }
    weft_st_close(f);
    CLOSE(c);
}

TEST(levels_between_timesteps) {
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    weft_sigma_table t;
    double *want = values_of(c, golden(c, f, "percent"));
    if (!want || !make_table(c, "scaled_linear", &t)) return;
    for (int i = 1; i < 10; i++) CHECK_NEAR(weft_sigma_of_percent(&t, i / 10.0), want[i - 1], LEVELS * want[i - 1]);
    CHECK(weft_sigma_of_percent(&t, 0) > 1e8);
    CHECK_NEAR(weft_sigma_of_percent(&t, 1), 0, 0);
    /* the published ends */
    CHECK_NEAR(t.sigmas[999], 14.614641, 2e-6);
    CHECK_NEAR(t.sigmas[0], 0.0291672, 1e-7);
    /* nearest in ln σ, and clamped */
    CHECK_EQ(weft_timestep_of(&t, t.sigmas[500] * 1.0001), 500);
    CHECK_EQ(weft_timestep_of(&t, 1000), 999);
    CHECK_EQ(weft_timestep_of(&t, 0), 0);
    CHECK_NEAR(weft_sigma_at(&t, 2000), t.sigmas[999], 1e-5);
    free(want);
    weft_sigma_table_free(&t);
    weft_st_close(f);
    CLOSE(c);
}

static void check_levels(weft_ctx *c, weft_safetensors *f, const char *name, double *got, int count) {
    weft_tensor *t = golden(c, f, name);
    double *want = values_of(c, t);
    if (got && want && count == weft_dim(t, 0)) {
        for (int i = 0; i < count; i++)
            if (!(fabs(got[i] - want[i]) <= LEVELS * want[i]))
                TEST_FAIL("%s: level %d is %.9g, expected %.9g", name, i, got[i], want[i]);
    } else {
        TEST_FAIL("%s: %d levels, expected %d; %s", name, count, (int)weft_dim(t, 0), weft_message(c));
    }
    free(want);
    free(got);
}

TEST(schedules) {
    static const int steps[] = { 1, 2, 3, 7, 20, 30, 999 };
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    weft_sigma_table t;
    if (!f || !make_table(c, "scaled_linear", &t)) return;
    for (int s = 0; weft_schedule_names[s]; s++)
        for (int i = 0; i < 7; i++) {
            char name[64];
            int count = 0;
            if (steps[i] == 999 && strcmp(weft_schedule_names[s], "beta")) continue;
            snprintf(name, sizeof name, "schedule.%s.%d", weft_schedule_names[s], steps[i]);
            double *got = weft_schedule_make(c, &t, s, steps[i], &count);
            check_levels(c, f, name, got, count);
        }
    int count = 0;
    CHECK(!weft_schedule_make(c, &t, 0, 0, &count));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "a schedule of 0 steps");
    weft_sigma_table_free(&t);
    weft_st_close(f);
    CLOSE(c);
}

TEST(ksamplers_levels) {
    static const struct { const char *method; int steps, percent; } cases[] = {
        { "euler", 5, 100 }, { "euler", 5, 60 }, { "euler", 3, 33 }, { "euler", 1, 100 },
        { "dpm_2", 5, 100 }, { "dpm_2", 5, 60 }, { "dpm_2", 3, 33 }, { "dpm_2", 1, 100 },
        { "uni_pc", 5, 100 }, { "uni_pc", 5, 60 }, { "uni_pc", 3, 33 }, { "uni_pc", 1, 100 } };
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    weft_sigma_table t;
    if (!f || !make_table(c, "scaled_linear", &t)) return;
    int normal = index_of(weft_schedule_names, "normal"), count;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[64];
        const weft_method *m = weft_methods[index_of(weft_method_names, cases[i].method)];
        snprintf(name, sizeof name, "levels.%s.%d.%d", m->name, cases[i].steps, cases[i].percent);
        double *got = weft_sampling_levels(c, &t, m, normal, cases[i].steps, cases[i].percent / 100.0, &count);
        check_levels(c, f, name, got, count);
    }
    free(weft_sampling_levels(c, &t, weft_methods[0], normal, 5, 0, &count));
    CHECK_EQ(count, 0);
    CHECK(!weft_sampling_levels(c, &t, weft_methods[0], normal, 10000, 1e-9, &count));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "is a schedule of 1e+13 steps");
    weft_sigma_table_free(&t);
    weft_st_close(f);
    CLOSE(c);
}

/* ---- methods -------------------------------------------------------------------------------------------- */

/* x₀ = x·a/(σ² + a) + b·tanh(x), a = 0.7, b = 0.1 */
static weft_tensor *toy(weft_ctx *c, weft_tensor *x, double sigma) {
    return weft_axpby(c, 0.7 / (sigma * sigma + 0.7), x, 0.1, weft_unary(c, WEFT_UNARY_TANH, x));
}

/* Compares x with picture `at` of `want`. */
static void check_x(weft_ctx *c, weft_tensor *x, const float *want, const char *name, int at) {
    float got[72];
    if (!want || !x || weft_read(c, x, got, sizeof got) != WEFT_OK) {
        TEST_FAIL("%s: %s", name, weft_message(c));
        return;
    }
    struct test_distance d = test_compare_f32(got, want + 72 * at, 72);
    if (!(d.rms <= STEPS && d.max <= 5 * STEPS))
        TEST_FAIL("%s, step %d: off by %.3g rms, %.3g at the most", name, at + 1, d.rms, d.max);
}

/* A method over levels[0…count − 1]; each: every step is compared, otherwise the end. */
static void run_method(weft_ctx *c, weft_safetensors *f, const weft_method *m, const double *levels, int count,
                       const char *name, bool each) {
    weft_sampling_plan p;
    weft_sampler_state state = { .rng = weft_rng_new(c, WEFT_RNG_CPU, 11), .seed = 11 };
    weft_scope s = weft_scope_named(c, "run");
    weft_tensor *x = golden(c, f, "start"), *want = golden(c, f, name);
    if (weft_sampling_plan_make(c, m, levels, count, &p)) {
        CHECK_EQ(p.steps, count - 1);
        for (int i = 0; i < p.count; i++) {
            x = m->step(c, &p, i, x, toy(c, x, weft_level(&p, i)), &state);
            bool whole = i + 1 == p.count || p.evaluations[i + 1].stage == 0;
            if (whole && (each || i + 1 == p.count))
                check_x(c, x, host_data(want), name, each ? p.evaluations[i].step : 0);
        }
        weft_sampling_plan_free(&p);
    }
    weft_scope_end(c, s, NULL);
    weft_sampler_state_clear(&state);
    weft_rng_free(state.rng);
}

TEST(methods_step_by_step) {
    static const int steps[] = { 1, 2, 3, 8 };
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    weft_sigma_table t;
    if (!f || !make_table(c, "scaled_linear", &t)) return;
    for (int k = 0; weft_methods[k]; k++) {
        CHECK_STR(weft_methods[k]->name, weft_method_names[k]);
        for (int i = 0; i < 4; i++) {
            char name[64];
            int count = 0;
            double *levels = weft_schedule_make(c, &t, index_of(weft_schedule_names, "karras"), steps[i], &count);
            char stem[40];      /* the names with _gpu mean the same here */
            snprintf(stem, sizeof stem, "%s", weft_methods[k]->name);
            if (strstr(stem, "_gpu")) *strstr(stem, "_gpu") = 0;
            snprintf(name, sizeof name, "%s.x.%d", stem, steps[i]);
            run_method(c, f, weft_methods[k], levels, count, name, true);
            snprintf(name, sizeof name, "%s.cut", stem);
            if (steps[i] == 8) run_method(c, f, weft_methods[k], levels, 5, name, false);
            free(levels);
        }
    }
    weft_sigma_table_free(&t);
    weft_st_close(f);
    CLOSE(c);
}

/* ---- noise from a Brownian tree ------------------------------------------------------------------------- */

TEST(seed_sequences) {
    static const struct { uint64_t seed, place; int depth; } keys[] = {
        { 0, 0, -1 }, { (UINT64_C(1) << 63) + 5, 0, 0 }, { 11, 3, 2 }, { 7, (UINT64_C(1) << 33) + 1, 34 } };
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    weft_tensor *t = golden(c, f, "seeds");
    const int64_t *want = host_data(t);
    for (int i = 0; want && i < 16; i++)
        CHECK_EQ(weft_seed_sequence(keys[i / 4].seed, keys[i / 4].place, keys[i / 4].depth, i % 4), want[i]);
    weft_st_close(f);
    CLOSE(c);
}

/* About 20 halvings in f32, of sizes up to 14: 1e-6, over the root of a short way. */
#define PATH 2e-5

TEST(brownian_increments) {
    static const double ways[5][2] = { { 14.6, 9 }, { 9, 8.999 }, { 1.234567, 0.03 }, { 0.5, 0.7 }, { 14.6, 0.03 } };
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    weft_tensor *t = golden(c, f, "brownian"), *x = weft_full(c, WEFT_F32, WEFT_SHAPE(2, 3, 3, 4), 0);
    const float *want = host_data(t);
    for (int i = 0; want && i < 5; i++) {
        float got[72];
        weft_tensor *w = weft_brownian_noise(c, x, (UINT64_C(1) << 40) + 7, 0.03f, 14.6f, ways[i][0], ways[i][1]);
        CHECK_EQ(weft_read(c, w, got, sizeof got), WEFT_OK);
        struct test_distance d = test_compare_f32(got, want + 72 * i, 72);
        double allowed = PATH * (i == 1 ? 20 : 1);
        if (!(d.max <= allowed)) TEST_FAIL("way %d: off by %.3g rms, %.3g at the most", i, d.rms, d.max);
    }
    weft_st_close(f);
    CLOSE(c);
}

TEST(first_noise) {
    weft_ctx *c = open_device("cpu");
    weft_sigma_table t;
    if (!make_table(c, "scaled_linear", &t)) return;
    double top = t.sigmas[999];
    CHECK_NEAR(weft_first_noise(&t, top), sqrt(1 + top * top), 1e-12);
    CHECK_NEAR(weft_first_noise(&t, 2.5), 2.5, 0);
    weft_sigma_table_free(&t);
    CLOSE(c);
}

TEST_MAIN
