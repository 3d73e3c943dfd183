/* Stage nodes: chains of them are KSampler, bit for bit; what each does alone. */
#include "nodes/loaders/loaders.h"
#include "nodes/sampling/scheduler.h"
#include "runtime/autograd.h"
#include "tests/host_data.h"
#include "tests/node_bed.h"

struct chain {
    struct bed b;
    weft_model *model;
    weft_clip *clip;
    weft_tensor *positive, *negative;
};

static bool open_chain(struct chain *k) {
    k->b = bed_new("cpu");
    weft_checkpoint *p = weft_checkpoint_make(k->b.c, "tiny", WEFT_F32, 7);
    k->model = p ? weft_take_model(k->b.c, p) : NULL;
    k->clip = p ? weft_take_clip(k->b.c, p) : NULL;
    weft_checkpoint_free(p);
    weft_rng *rng = weft_rng_new(k->b.c, WEFT_RNG_CPU, 3);
    k->positive = weft_randn(k->b.c, rng, WEFT_F32, WEFT_SHAPE(1, 77, 64));
    k->negative = weft_randn(k->b.c, rng, WEFT_F32, WEFT_SHAPE(1, 77, 64));
    weft_rng_free(rng);
    if (!weft_ok(k->b.c)) TEST_FAIL("%s", weft_message(k->b.c));
    return weft_ok(k->b.c);
}

static void close_chain(struct chain *k) {
    if (k->model) weft_object_unref(&k->model->object);
    if (k->clip) weft_object_unref(&k->clip->object);
    bed_free(&k->b);
}

static void drop(weft_value *v, int n) {
    for (int i = 0; i < n; i++) weft_value_clear(&v[i]);
}

#define IN_ANY(n, v) (struct in){ n, v }
#define LIVE(k) CHECK_STR(weft_message((k)->b.c), "")

/* Scales, asks the model with both texts, mixes, steps: x and state are replaced. */
static void step(struct chain *k, weft_value scheduler, int64_t i, double cfg, uint64_t seed, weft_value *x,
                 weft_value *state) {
    weft_value scaled[3] = { 0 }, said[2] = { 0 }, mixed = { 0 }, next[3] = { 0 };
    struct bed *b = &k->b;
    CALL(b, "ScaleModelInput", scaled, IN_ANY("scheduler", scheduler), IN_ANY("sample", *x), IN_INT("step", i));
    CALL(b, "UNetStep", said, IN_OBJECT("model", k->model), IN_ANY("sample", scaled[0]), IN_ANY("timestep", scaled[1]),
         IN_TENSOR("context", k->positive), IN_TENSOR("uncond_context", k->negative));
    CALL(b, "CFGMix", &mixed, IN_ANY("cond", said[0]), IN_ANY("uncond", said[1]), IN_FLOAT("scale", cfg));
    if (state->object)
        CALL(b, "SchedulerStep", next, IN_ANY("scheduler", scheduler), IN_INT("step", i), IN_ANY("prediction", mixed),
             IN_ANY("sample", *x), IN_ANY("state", *state));
    else CALL(b, "SchedulerStep", next, IN_ANY("scheduler", scheduler), IN_INT("step", i), IN_ANY("prediction", mixed),
              IN_ANY("sample", *x), IN_INT("seed", (int64_t)seed));
    LIVE(k);
    weft_value_clear(x);
    weft_value_clear(state);
    *x = next[0];
    *state = next[2];
    weft_value_clear(&next[1]);
    drop(scaled, 3);
    drop(said, 2);
    weft_value_clear(&mixed);
}

static weft_tensor *by_stages(struct chain *k, weft_latent *latent, const char *sampler, double cfg, double denoise) {
    weft_value tables[6] = { 0 }, noise[2] = { 0 }, clean = { 0 }, x = { 0 }, state = { 0 }, end = { 0 };
    struct bed *b = &k->b;
    CALL(b, "KScheduler", tables, IN_OBJECT("model", k->model), IN_TEXT("sampler_name", sampler),
         IN_TEXT("scheduler", "karras"), IN_INT("steps", 4), IN_FLOAT("denoise", denoise));
    CALL(b, "Noise", noise, IN_INT("seed", 42), IN_OBJECT("latent", latent));
    CALL(b, "LatentToTensor", &clean, IN_OBJECT("samples", latent), IN_OBJECT("model", k->model));
    CALL(b, "AddNoise", &x, IN_ANY("scheduler", tables[0]), IN_ANY("noise", noise[0]), IN_ANY("samples", clean));
    for (int64_t i = 0; weft_ok(b->c) && i < tables[5].i; i++) step(k, tables[0], i, cfg, 42, &x, &state);
    CALL(b, "TensorToLatent", &end, IN_ANY("tensor", x), IN_OBJECT("model", k->model));
    LIVE(k);
    weft_tensor *out = end.object ? weft_contiguous(b->c, ((weft_latent *)end.object)->samples) : NULL;
    if (out) out = weft_affine(b->c, out, 1, 0);
    drop(tables, 6);
    drop(noise, 2);
    weft_value_clear(&clean);
    weft_value_clear(&x);
    weft_value_clear(&state);
    weft_value_clear(&end);
    return out;
}

static weft_tensor *by_ksampler(struct chain *k, weft_latent *latent, const char *sampler, double cfg, double denoise) {
    weft_value texts[2] = { 0 }, out = { 0 };
    struct bed *b = &k->b;
    CALL(b, "TensorToConditioning", &texts[0], IN_TENSOR("context", k->positive));
    CALL(b, "TensorToConditioning", &texts[1], IN_TENSOR("context", k->negative));
    CALL(b, "KSampler", &out, IN_OBJECT("model", k->model), IN_INT("seed", 42), IN_INT("steps", 4),
         IN_FLOAT("cfg", cfg), IN_TEXT("sampler_name", sampler), IN_TEXT("scheduler", "karras"),
         IN_ANY("positive", texts[0]),
         IN_ANY("negative", texts[1]), IN_OBJECT("latent_image", latent), IN_FLOAT("denoise", denoise));
    LIVE(k);
    weft_tensor *t = out.object ? weft_affine(b->c, ((weft_latent *)out.object)->samples, 1, 0) : NULL;
    drop(texts, 2);
    weft_value_clear(&out);
    return t;
}

TEST(stages_are_ksampler) {
    static const struct { const char *sampler; double cfg, denoise; } cases[] = {
        { "euler", 6.5, 1 }, { "euler", 3, 0.5 }, { "heun", 2, 1 }, { "dpmpp_2m", 6.5, 1 }, { "uni_pc", 4, 1 },
        { "lms", 5, 0.7 }, { "euler_ancestral", 6.5, 1 }, { "dpmpp_2m_sde", 5, 1 }, { "dpmpp_sde", 5, 1 } };
    struct chain k;
    if (!open_chain(&k)) return;
    weft_ctx *c = k.b.c;
    weft_rng *rng = weft_rng_new(c, WEFT_RNG_CPU, 9);
    weft_latent *latent = weft_latent_new(c, &(weft_latent){
        .samples = weft_randn(c, rng, WEFT_F32, WEFT_SHAPE(2, 8, 6, 4)), .downscale = 8 });
    weft_rng_free(rng);
    const size_t stride = emulated_device() ? 8 : 1;           /* that takes a minute for all of them */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i += stride) {
        weft_tensor *a = by_stages(&k, latent, cases[i].sampler, cases[i].cfg, cases[i].denoise);
        weft_tensor *b = by_ksampler(&k, latent, cases[i].sampler, cases[i].cfg, cases[i].denoise);
        if (!a || !b || memcmp(host_data(a), host_data(b), 2 * 8 * 6 * 4 * sizeof(float)))
            TEST_FAIL("%s: the chain is not KSampler", cases[i].sampler);
    }
    weft_object_unref(&latent->object);
    close_chain(&k);
}

/* ---- the parts alone ------------------------------------------------------------------------------------------- */

static weft_value scheduler_of(struct bed *b, const char *name, const char *config) {
    weft_value tables[6] = { 0 };
    if (CALL(b, "Scheduler", tables, IN_TEXT("scheduler", name), IN_INT("steps", 5), IN_TEXT("config", config)))
        TEST_FAIL("%s", weft_message(b->c));
    drop(tables + 1, 5);
    return tables[0];
}

/* Noise equals torch.randn of the seed in NCHW order; the state behind it goes on with the generator. */
TEST(noise_is_a_generators) {
    struct bed b = bed_new("cpu");
    weft_ctx *c = b.c;
    weft_rng *rng = weft_rng_new(c, WEFT_RNG_CPU, 12345678901ull);
    weft_tensor *first = weft_to_nhwc(c, weft_randn(c, rng, WEFT_F32, WEFT_SHAPE(2, 4, 5, 3)));
    weft_tensor *second = weft_to_nhwc(c, weft_randn(c, rng, WEFT_F32, WEFT_SHAPE(2, 4, 5, 3)));
    weft_rng_free(rng);
    weft_value noise[2] = { 0 }, next[3] = { 0 }, s = scheduler_of(&b, "ddpm", "{\"clip_sample\": false}");
    CHECK_EQ(CALL(&b, "Noise", noise, IN_INT("seed", 12345678901), IN_INT("width", 24), IN_INT("height", 40),
                  IN_INT("batch_size", 2)), WEFT_OK);
    CHECK_TENSOR(&b, noise[0].tensor, (float *)host_data(first), 0, 2, 5, 3, 4);
    weft_tensor *zero = weft_affine(c, first, 0, 0);
    CHECK_EQ(CALL(&b, "SchedulerStep", next, IN_ANY("scheduler", s), IN_INT("step", 0), IN_TENSOR("prediction", zero),
                  IN_TENSOR("sample", zero), IN_ANY("state", noise[1])), WEFT_OK);
    /* what comes out is the noise alone, scaled */
    float *got = host_data(next[0].tensor), *drawn = host_data(second);
    for (int i = 0; got && i < 120; i++) CHECK_NEAR(got[i] / drawn[i], got[0] / drawn[0], 1e-5);
    drop(noise, 2);
    drop(next, 3);
    drop(&s, 1);
    bed_free(&b);
}

/* A step is a function: the same state twice gives the same bytes, also where it draws noise. */
TEST(a_step_leaves_its_state_as_it_was) {
    struct bed b = bed_new("cpu");
    weft_ctx *c = b.c;
    weft_value s = scheduler_of(&b, "dpmsolver_multistep", "{\"algorithm_type\": \"sde-dpmsolver++\"}"),
        first[3] = { 0 };
    weft_value a[3] = { 0 }, again[3] = { 0 };
    weft_tensor *x = weft_full(c, WEFT_F32, WEFT_SHAPE(1, 4, 4, 4), 0.5), *said = weft_affine(c, x, 0.3, 0);
    CALL(&b, "SchedulerStep", first, IN_ANY("scheduler", s), IN_INT("step", 0), IN_TENSOR("prediction", said),
         IN_TENSOR("sample", x), IN_INT("seed", 5));
    for (int i = 0; i < 2; i++)
        CALL(&b, "SchedulerStep", i ? again : a, IN_ANY("scheduler", s), IN_INT("step", 1), IN_TENSOR("prediction",
                                                                                                      said),
             IN_ANY("sample", first[0]), IN_ANY("state", first[2]));
    CHECK_STR(weft_message(c), "");
    CHECK_TENSOR(&b, again[0].tensor, (float *)host_data(a[0].tensor), 0, 1, 4, 4, 4);
    CHECK(memcmp(host_data(a[0].tensor), host_data(first[0].tensor), 64 * sizeof(float)));
    drop(first, 3);
    drop(a, 3);
    drop(again, 3);
    drop(&s, 1);
    bed_free(&b);
}

/* Half the way by one scheduler, the rest by another, in other units: a model that knows the picture comes to it. */
TEST(one_scheduler_hands_over_to_another) {
    struct bed b = bed_new("cpu");
    weft_ctx *c = b.c;
    weft_value s[2] = { scheduler_of(&b, "euler_discrete", "{\"prediction_type\": \"sample\"}"),
                        scheduler_of(&b, "unipc", "{\"prediction_type\": \"sample\"}") }, over[2] = { 0 };
    weft_tensor *clean = weft_full(c, WEFT_F32, WEFT_SHAPE(1, 3, 3, 4), 0.25), *noise = weft_affine(c, clean, 0, 1);
    weft_value x = { 0 }, state = { 0 };
    CALL(&b, "AddNoise", &x, IN_ANY("scheduler", s[0]), IN_TENSOR("noise", noise), IN_TENSOR("samples", clean));
    for (int at = 0, which = 0; weft_ok(c) && at < 5; at++) {
        weft_value next[3] = { 0 };
        if (!which && at == 2) {
            CALL(&b, "SchedulerHandOver", over, IN_ANY("scheduler", s[0]), IN_INT("step", 2), IN_ANY("sample", x),
                 IN_ANY("to", s[1]));
            const weft_noise_level *from = &((weft_scheduler *)s[0].object)->levels[2];
            const weft_noise_level *to = &((weft_scheduler *)s[1].object)->levels[over[1].i];
            CHECK_NEAR(weft_item(c, weft_reduce_all(c, WEFT_REDUCE_MEAN, over[0].tensor)),
                       (0.25 + from->sigma) * to->alpha, 1e-5);
            drop(&x, 1);
            x = over[0];
            at = (int)over[1].i;
            which = 1;
        }
        if (state.object)       /* the other's state is of no use, and no hindrance */
            CALL(&b, "SchedulerStep", next, IN_ANY("scheduler", s[which]), IN_INT("step", at),
                 IN_TENSOR("prediction", clean), IN_ANY("sample", x), IN_ANY("state", state));
        else CALL(&b, "SchedulerStep", next, IN_ANY("scheduler", s[which]), IN_INT("step", at),
                  IN_TENSOR("prediction", clean), IN_ANY("sample", x));
        drop(&x, 1);
        drop(&state, 1);
        x = next[0];
        state = next[2];
        drop(&next[1], 1);
    }
    CHECK_STR(weft_message(c), "");
    float want[36];
    for (int i = 0; i < 36; i++) want[i] = 0.25f;
    CHECK_TENSOR(&b, x.tensor, want, 1e-5, 1, 3, 3, 4);
    drop(&x, 1);
    drop(&state, 1);
    drop(s, 2);
    bed_free(&b);
}

/* rescale 1 gives the mix cond's spread, image by image. */
TEST(rescaled_guidance) {
    struct bed b = bed_new("cpu");
    const float cond[] = { 1, 3, 1, 3, 2, 2, 2, 6 }, uncond[] = { 0, 0, 1, 1, 1, 1, 1, 1 };
    weft_value mix = { 0 };
    CHECK_EQ(CALL(&b, "CFGMix", &mix, IN_TENSOR("cond", TENSOR(&b, cond, 2, 4)), IN_TENSOR("uncond", TENSOR(&b, uncond,
                                                                                                            2, 4)),
                  IN_FLOAT("scale", 3), IN_FLOAT("rescale", 1)), WEFT_OK);
    float want[8];
    for (int i = 0; i < 2; i++) {
        double spread[2];
        for (int k = 0; k < 2; k++) {
            double mean = 0, square = 0;
            for (int j = 4 * i; j < 4 * i + 4; j++) mean += (k ? 3 * cond[j] - 2 * uncond[j] : cond[j]) / 4;
            for (int j = 4 * i; j < 4 * i + 4; j++)
                square += pow((k ? 3 * cond[j] - 2 * uncond[j] : cond[j]) - mean, 2);
            spread[k] = sqrt(square);
        }
        for (int j = 4 * i; j < 4 * i + 4; j++)
            want[j] = (float)((3 * cond[j] - 2 * uncond[j]) * spread[0] / spread[1]);
    }
    CHECK_TENSOR(&b, mix.tensor, want, 1e-5, 2, 4);
    drop(&mix, 1);
    bed_free(&b);
}

/* ---- gradients --------------------------------------------------------------------------------------------------- */

/* The loss of a chain that starts from x: noised at timesteps, guided with rescaling, two steps of a scheduler. */
static weft_tensor *chained(struct bed *b, weft_value scheduler, weft_tensor *x, weft_tensor *noise, int kind) {
    static const char *const losses[] = { "mse", "l1", "huber", "smooth_l1" }, *const targets[] = {
        "epsilon", "v_prediction", "sample" };
    weft_value noised = { 0 }, mixed = { 0 }, first[3] = { 0 }, next[3] = { 0 }, loss[3] = { 0 };
    weft_tensor *t = weft_tensor_from(b->c, WEFT_I64, WEFT_SHAPE(2), (const int64_t[]){ 150, 700 });
    CALL(b, "AddNoise", &noised, IN_ANY("scheduler", scheduler), IN_TENSOR("noise", noise), IN_TENSOR("samples", x),
         IN_TENSOR("timesteps", t));
    CALL(b, "CFGMix", &mixed, IN_ANY("cond", noised), IN_TENSOR("uncond", noise), IN_FLOAT("scale", 2),
         IN_FLOAT("rescale", 0.5));
    CALL(b, "SchedulerStep", first, IN_ANY("scheduler", scheduler), IN_INT("step", 0), IN_ANY("prediction", mixed),
         IN_TENSOR("sample", noise));
    CALL(b, "SchedulerStep", next, IN_ANY("scheduler", scheduler), IN_INT("step", 1), IN_ANY("prediction", mixed),
         IN_ANY("sample", first[0]), IN_ANY("state", first[2]));
    CALL(b, "Loss", loss, IN_ANY("prediction", next[0]), IN_ANY("scheduler", scheduler), IN_TENSOR("clean", x),
         IN_TENSOR("noise", noise), IN_TENSOR("timesteps", t), IN_TEXT("loss", losses[kind % 4]),
         IN_TEXT("target", targets[kind % 3]), IN_FLOAT("delta", 0.3), IN_TEXT("weighting", "min_snr"));
    weft_tensor *out = loss[0].tensor ? weft_reshape(b->c, loss[0].tensor, WEFT_SHAPE(1)) : NULL;
    drop(&noised, 1);
    drop(&mixed, 1);
    drop(first, 3);
    drop(next, 3);
    drop(loss, 3);
    return out;
}

/* f64: (L(x + h·v) − L(x − h·v))/2h with h = 1e-6 is good to 1e-9 of the slope, where no |d| crosses 0 or δ. */
TEST(gradients_go_through) {
    static const char *const kinds[] = { "ddim", "unipc", "dpmsolver_multistep", "pndm", "euler_discrete", "ddpm",
                                         "gaussian_diffusion" };
    struct bed b = bed_new("reference");
    weft_ctx *c = b.c;
    enum { N = 2 * 2 * 3 * 4 };
    double at[N], way[N];
    for (int i = 0; i < N; i++) at[i] = sin(1.7 * i + 0.3), way[i] = cos(2.9 * i);
    weft_tensor *still = weft_tensor_from(c, WEFT_F64, WEFT_SHAPE(2, 2, 3, 4), at);
    weft_tensor *noise = weft_tensor_from(c, WEFT_F64, WEFT_SHAPE(2, 2, 3, 4), way);
    for (int k = 0; k < 14; k++) {
        double slope = 0, moved[2], h = 1e-6;
        weft_value s = scheduler_of(&b, kinds[k % 7], "{\"skip_prk_steps\": true, \"clip_sample\": false, "
                                    "\"timestep_spacing\": \"trailing\"}");
        for (int side = 0; side < 2; side++) {
            double x[N];
            for (int i = 0; i < N; i++) x[i] = at[i] + (side ? -h : h) * way[i];
            weft_tensor *t = weft_tensor_from(c, WEFT_F64, WEFT_SHAPE(2, 2, 3, 4), x);
            moved[side] = weft_item(c, chained(&b, s, t, noise, k));
        }
        weft_tensor *leaf = weft_affine(c, still, 1, 0);
        CHECK_EQ(weft_tape_begin(c), WEFT_OK);
        weft_set_requires_grad(leaf, true);
        weft_tensor *loss = chained(&b, s, leaf, noise, k);
        CHECK_EQ(weft_backward(c, loss, NULL), WEFT_OK);
        const double *g = host_data(weft_grad(leaf));
        for (int i = 0; g && i < N; i++) slope += g[i] * way[i];
        weft_tape_end(c);
        double want = (moved[0] - moved[1]) / (2 * h);
        if (!g || !(fabs(slope - want) <= 1e-6 * fmax(fabs(want), 1e-3)))
            TEST_FAIL("%s: slope %g, expected %g; %s", kinds[k % 7], slope, want, weft_message(c));
        drop(&s, 1);
    }
    bed_free(&b);
}

/* ---- faults ---------------------------------------------------------------------------------------------------- */

#define NO_SCHEDULER(b, part, ...) CALL_FAILS(b, part, "Scheduler", IN_INT("steps", 5), __VA_ARGS__)

TEST(schedulers_that_cannot_be) {
    struct bed b = bed_new("cpu");
    NO_SCHEDULER(&b, "link one", IN_TEXT("scheduler", "model"));
    NO_SCHEDULER(&b, "did you mean \"solver_order\"", IN_TEXT("scheduler", "unipc"),
                 IN_TEXT("config", "{\"solver_ordr\": 3}"));
    NO_SCHEDULER(&b, "solver_order", IN_TEXT("scheduler", "unipc"), IN_TEXT("config", "{\"solver_order\": 4}"));
    NO_SCHEDULER(&b, "config:1:2", IN_TEXT("scheduler", "ddim"), IN_TEXT("config", "{"));
    NO_SCHEDULER(&b, "expected an object", IN_TEXT("scheduler", "ddim"), IN_TEXT("config", "[1]"));
    NO_SCHEDULER(&b, "5 steps where the model was trained in 3", IN_TEXT("scheduler", "ddim"),
                 IN_INT("num_train_timesteps", 3));
    NO_SCHEDULER(&b, "smaller steps_offset", IN_TEXT("scheduler", "ddim"),
                 IN_TEXT("config", "{\"steps_offset\": 500}"));
    NO_SCHEDULER(&b, "not sample", IN_TEXT("scheduler", "pndm"), IN_TEXT("prediction_type", "sample"));
    NO_SCHEDULER(&b, "fixed_small and fixed_large", IN_TEXT("scheduler", "ddpm"),
                 IN_TEXT("config", "{\"variance_type\": \"learned\"}"));
    NO_SCHEDULER(&b, "sigma_min, not zero", IN_TEXT("scheduler", "dpmsolver_multistep"),
                 IN_TEXT("config", "{\"algorithm_type\": \"dpmsolver\"}"));
    bed_free(&b);
}

/* A training of one step is no use, but no crash. */
TEST(the_shortest_training) {
    struct bed b = bed_new("cpu");
    for (int i = 0; weft_scheduler_kinds[i]; i++)
        for (int karras = 0; karras < 2; karras++) {
            weft_value tables[6] = { 0 };
            if (CALL(&b, "Scheduler", tables, IN_TEXT("scheduler", weft_scheduler_kinds[i]->name), IN_INT("steps", 1),
                     IN_INT("num_train_timesteps", 1), IN_TEXT("sigmas", karras ? "karras" : "plain"),
                     IN_TEXT("config", "{\"rescale_betas_zero_snr\": true, \"skip_prk_steps\": true}")) == WEFT_OK)
                CHECK_EQ(tables[5].i, 1);
            drop(tables, 6);
            weft_clear(b.c);
        }
    bed_free(&b);
}

TEST(steps_that_cannot_be) {
    struct bed b = bed_new("cpu");
    weft_ctx *c = b.c;
    weft_value s = scheduler_of(&b, "pndm", "{\"skip_prk_steps\": true}"), first[3] = { 0 };
    weft_tensor *x = weft_full(c, WEFT_F32, WEFT_SHAPE(1, 2, 2, 4), 1), *flat = weft_full(c, WEFT_F32, WEFT_SHAPE(3),
                                                                                          1);
    CALL_FAILS(&b, "6 evaluations, 0…5", "SchedulerStep", IN_ANY("scheduler", s), IN_INT("step", 6),
               IN_TENSOR("prediction", x), IN_TENSOR("sample", x));
    CALL_FAILS(&b, "wants the state of step 0", "SchedulerStep", IN_ANY("scheduler", s), IN_INT("step", 1),
               IN_TENSOR("prediction", x), IN_TENSOR("sample", x));
    CALL(&b, "SchedulerStep", first, IN_ANY("scheduler", s), IN_INT("step", 0), IN_TENSOR("prediction", x),
         IN_TENSOR("sample", x));
    CALL_FAILS(&b, "a state for step 1, but this is step 3", "SchedulerStep", IN_ANY("scheduler", s), IN_INT("step", 3),
               IN_TENSOR("prediction", x), IN_TENSOR("sample", x), IN_ANY("state", first[2]));
    CALL_FAILS(&b, "0…5", "ScaleModelInput", IN_ANY("scheduler", s), IN_TENSOR("sample", x), IN_INT("step", 6));
    CALL_FAILS(&b, "like: expected (N", "Noise", IN_INT("seed", 1), IN_TENSOR("like", flat));
    CALL_FAILS(&b, "1000 is none", "AddNoise", IN_ANY("scheduler", s), IN_TENSOR("noise", x), IN_TENSOR("samples", x),
               IN_TENSOR("timesteps", weft_full(c, WEFT_F32, WEFT_SHAPE(1), 1000)));
    CALL_FAILS(&b, "3 of them for 1 images", "AddNoise", IN_ANY("scheduler", s), IN_TENSOR("noise", x),
               IN_TENSOR("samples", x), IN_TENSOR("timesteps", flat));
    CALL_FAILS(&b, "no samples", "AddNoise", IN_ANY("scheduler", s), IN_TENSOR("noise", x), IN_TENSOR("timesteps",
                                                                                                      flat));
    CALL_FAILS(&b, "single number", "Loss", IN_TENSOR("prediction", weft_scalar(c, WEFT_F32, 1)), IN_ANY("scheduler",
                                                                                                         s),
               IN_TENSOR("clean", x), IN_TENSOR("noise", x), IN_TENSOR("timesteps", flat));
    CALL_FAILS(&b, "tensor: expected", "TensorToLatent", IN_TENSOR("tensor", flat));
    CALL_FAILS(&b, "context: expected", "TensorToConditioning", IN_TENSOR("context", flat));
    drop(first, 3);
    drop(&s, 1);
    bed_free(&b);
}

TEST(models_that_do_not_fit) {
    struct chain k;
    if (!open_chain(&k)) return;
    weft_tensor *x = weft_full(k.b.c, WEFT_F32, WEFT_SHAPE(1, 4, 4, 4), 1), *flat = weft_full(k.b.c, WEFT_F32,
                                                                                              WEFT_SHAPE(3), 1);
    CALL_FAILS(&k.b, "sample: expected", "UNetStep", IN_OBJECT("model", k.model), IN_TENSOR("sample", flat),
               IN_TENSOR("context", k.positive));
    CALL_FAILS(&k.b, "uncond_context: expected", "UNetStep", IN_OBJECT("model", k.model), IN_TENSOR("sample", x),
               IN_TENSOR("context", k.positive), IN_TENSOR("uncond_context", flat));
    CALL_FAILS(&k.b, "", "UNetStep", IN_OBJECT("model", k.model), IN_TENSOR("sample", x), IN_TENSOR("context",
                                                                                                    k.positive),
               IN_TENSOR("timesteps", flat));
    CALL_FAILS(&k.b, "", "TextEncode", IN_OBJECT("clip", k.clip), IN_TENSOR("ids", x));
    close_chain(&k);
}

TEST_MAIN
