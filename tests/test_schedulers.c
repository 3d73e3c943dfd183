/* Schedulers against diffusers, step by step: tests/golden/make_schedulers.py. */
#include <cjson/cJSON.h>

#include "nodes/sampling/scheduler.h"
#include "tests/host_data.h"
#include "tests/tensors.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/schedulers.safetensors"

/* Timesteps are the same numbers; Karras' fractions come from f32 logarithms there and here, off by 1e-7 of ln σ, which
 * is up to 1e-4 of a timestep where levels lie close. */
#define TIMES 2e-4
/* f32 throughout on diffusers' side, where √(1 − ᾱ), ln σ and e^h of f32 tables are off by up to 1e-5 in small σ; here
 * double. x is of size 1 in diffusers' units and 15 in Euler's. */
#define STEPS 3e-5

static weft_tensor *golden(weft_ctx *c, weft_safetensors *f, const char *key, const char *part) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", key, part);
    const weft_st_entry *e = weft_st_find(f, name);
    return e ? weft_st_tensor(c, f, e) : NULL;
}

/* The case's scheduler; NULL, with a failure told, where it cannot be made. */
static weft_scheduler *open_case(weft_ctx *c, weft_safetensors *f, const char *key) {
    weft_tensor *t = golden(c, f, key, "case");
    cJSON *o = cJSON_ParseWithLength(host_data(t), (size_t)weft_count(t));
    const char *class_name = cJSON_GetStringValue(cJSON_GetObjectItem(o, "class"));
    char *config = cJSON_PrintUnformatted(cJSON_GetObjectItem(o, "config"));
    weft_scheduler_config k;
    weft_scheduler *s = NULL;
    if (weft_scheduler_config_as(c, NULL, class_name, config, NULL, &k) == WEFT_OK) {
        for (int i = 0; weft_scheduler_kinds[i]; i++)
            if (!strcmp(weft_scheduler_kinds[i]->class_name, class_name))
                s = weft_scheduler_new(c, weft_scheduler_kinds[i], &k, cJSON_GetObjectItem(o, "eta")->valuedouble,
                                       cJSON_GetObjectItem(o, "steps")->valueint);
        weft_scheduler_config_free(&k);
    }
    if (!s) TEST_FAIL("%s: %s", key, weft_message(c));
    cJSON_free(config);
    cJSON_Delete(o);
    return s;
}

/* Whether `got` is `want`, images of 48 numbers; told otherwise. */
static bool same(weft_ctx *c, weft_tensor *got, const float *want, double tolerance, const char *key, int step) {
    float x[48];
    if (!want || !got || weft_read(c, got, x, sizeof x) != WEFT_OK) {
        TEST_FAIL("%s, step %d: %s", key, step, weft_message(c));
        return false;
    }
    struct test_distance d = test_compare_f32(x, want, 48);
    if (d.rms <= tolerance && d.max <= 5 * tolerance) return true;
    TEST_FAIL("%s, step %d: off by %.3g rms, %.3g at the most", key, step, d.rms, d.max);
    return false;
}

/* tanh((1/2 + t/2000)·x) + x/10 */
static weft_tensor *toy(weft_ctx *c, weft_tensor *x, double t) {
    weft_tensor *bent = weft_unary(c, WEFT_UNARY_TANH, weft_affine(c, x, 0.5 + t / 2000, 0));
    return weft_axpby(c, 1, bent, 0.1, x);
}

static void run_case(weft_ctx *c, weft_safetensors *f, const char *key) {
    weft_scope scope = weft_scope_named(c, "case");
    weft_scheduler *s = open_case(c, f, key);
    weft_tensor *want = golden(c, f, key, "x"), *times = golden(c, f, key, "timesteps");
    if (!s || !want || !times) return;
    CHECK_EQ(s->count, weft_dim(times, 0));
    const float *t = host_data(times), *scale = host_data(golden(c, f, key, "scale"));
    CHECK_NEAR(s->init_noise_sigma, scale[0], 1e-6 * scale[0]);
    weft_rng *rng = weft_rng_new(c, WEFT_RNG_CPU, 5);
    weft_sampler_state state = { .rng = rng };
    weft_tensor *noise = weft_to_nhwc(c, weft_randn(c, rng, WEFT_F32, WEFT_SHAPE(2, 2, 4, 3)));
    weft_tensor *x = weft_scheduler_add_noise(c, s, 0, NULL, noise), *noised = golden(c, f, key, "noised");
    if (noised)
        same(c, weft_scheduler_add_noise(c, s, 2, weft_full(c, WEFT_F32, WEFT_SHAPE(2, 4, 3, 2), 1), noise),
             host_data(noised), STEPS, key, -1);
    /* from σ = 4096 on, x + (σ' − σ)·(x − x₀)/σ loses there what is kept here by mixing x and x₀ */
    double tolerance = s->init_noise_sigma > 1000 ? 10 * STEPS : STEPS;
    for (int i = 0; i < s->count; i++) {
        const weft_noise_level *l = &s->levels[i];
        if (!(fabs(l->timestep - t[i]) <= TIMES)) TEST_FAIL("%s: timestep %d is %g, not %g", key, i, l->timestep, t[i]);
        weft_tensor *out = toy(c, weft_affine(c, x, l->input, 0), l->timestep);
        x = weft_scheduler_step(c, s, i, x, out, s->config.prediction_type, &state, NULL);
        if (!same(c, x, (float *)host_data(want) + 48 * i, tolerance, key, i)) break;
    }
    weft_sampler_state_end(&state);
    weft_object_unref(&s->object);
    weft_scope_end(c, scope, NULL);
}

static void run_class(const char *prefix) {
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    int ran = 0;
    for (int64_t i = 0; f && i < weft_st_count(f); i++) {
        const char *name = weft_st_at(f, i)->name, *end = strstr(name, ".case");
        if (strncmp(name, prefix, strlen(prefix)) || !end) continue;
        char key[64];
        snprintf(key, sizeof key, "%.*s", (int)(end - name), name);
        run_case(c, f, key);
        ran++;
    }
    CHECK(ran >= 5);
    weft_st_close(f);
    CLOSE(c);
}

TEST(ddpm) { run_class("ddpm."); }
TEST(ddim) { run_class("ddim."); }
TEST(pndm) { run_class("pndm."); }
TEST(unipc) { run_class("unipcmultistep."); }
TEST(euler_discrete) { run_class("eulerdiscrete."); }
TEST(dpmsolver_multistep) { run_class("dpmsolvermultistep."); }

TEST_MAIN
