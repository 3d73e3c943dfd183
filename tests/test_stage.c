/* Stage nodes: chains of them are KSampler, bit for bit; what each does alone. */
#include "nodes/loaders/loaders.h"
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
        { "lms", 5, 0.7 }, { "euler_ancestral", 6.5, 1 } };
    struct chain k;
    if (!open_chain(&k)) return;
    weft_ctx *c = k.b.c;
    weft_rng *rng = weft_rng_new(c, WEFT_RNG_CPU, 9);
    weft_latent *latent = weft_latent_new(c, &(weft_latent){
        .samples = weft_randn(c, rng, WEFT_F32, WEFT_SHAPE(2, 8, 6, 4)), .downscale = 8 });
    weft_rng_free(rng);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weft_tensor *a = by_stages(&k, latent, cases[i].sampler, cases[i].cfg, cases[i].denoise);
        weft_tensor *b = by_ksampler(&k, latent, cases[i].sampler, cases[i].cfg, cases[i].denoise);
        if (!a || !b || memcmp(weft_data(a), weft_data(b), 2 * 8 * 6 * 4 * sizeof(float)))
            TEST_FAIL("%s: the chain is not KSampler", cases[i].sampler);
    }
    weft_object_unref(&latent->object);
    close_chain(&k);
}

TEST_MAIN
