/* GaussianDiffusion against denoising_diffusion_pytorch (tests/golden/make_gaussian_diffusion.py): tables, losses and
 * their gradients, whole samplings; its Unet as a MODEL that is made, saved and loaded. */
#include <cjson/cJSON.h>
#include <stdarg.h>

#include "nodes/checkpoint/config_json.h"
#include "nodes/sampling/scheduler.h"
#include "runtime/autograd.h"
#include "tests/checkpoint_files.h"
#include "tests/golden_weights.h"
#include "tests/node_bed.h"

#define ANSWERS WEFT_SOURCE_DIR "/tests/golden/gaussian_diffusion.safetensors"
#define CLASS "\"_class_name\": \"GaussianDiffusion\""

/* The tables are f32 there, half a unit in the last place of numbers worked out in f64 as here. */
#define TABLE 1e-7
/* f32 through a Unet of some thirty layers, of each value and of the gradient's rms: 1e-7 and 8e-7 here, where Winograd
 * is off; some ten times that is for other instruction sets and orders of sums. */
#define LOSS 2e-6
#define GRADIENT 1e-5
/* A sampling: the Unet's error at each step, and √(1 − ᾱ) of ᾱ in f32 there, near 1 at the end: up to 4e-7 of the
 * rms. */
#define SAMPLE 5e-6

struct model { struct bed b; weft_safetensors *golden; weft_model *model; };

static const weft_st_entry *find(struct model *m, const char *format, ...) {
    char name[96];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    const weft_st_entry *e = m->golden ? weft_st_find(m->golden, name) : NULL;
    if (!e) TEST_FAIL("the golden file has no %s", name);
    return e;
}

static weft_tensor *golden(struct model *m, const char *name) {
    const weft_st_entry *e = find(m, "%s", name);
    return e ? weft_st_tensor(m->b.c, m->golden, e) : NULL;
}

static weft_scheduler_config scheduler_config(struct model *m, const char *text) {
    weft_scheduler_config k = { 0 };
    if (weft_scheduler_config_parse(m->b.c, "scheduler", text, strlen(text), &k)) TEST_FAIL("%s", weft_message(m->b.c));
    return k;
}

/* The tiny Unet with golden weights and these settings of its noise. */
static struct model open_model(bool self, const char *scheduler) {
    struct model m = { .b = { .c = weft_ctx_new(&(weft_options){ .threads = 1, .device = "cpu",
                                                                 .precision = WEFT_PRECISION_EXACT }) } };
    weft_ctx *c = m.b.c;
    m.b.r = weft_nodes_registry(c);
    m.b.scope = weft_scope_named(c, "test");
    m.golden = weft_st_open(c, ANSWERS);
    const char *found = m.golden ? weft_st_metadata(m.golden, self ? "unet.self" : "unet") : NULL;
    char text[256];
    snprintf(text, sizeof text, "{\"_class_name\": \"Unet\", %s", found ? found + 1 : "}");
    weft_model fields = { .latent_scale = 1 };
    if (weft_unet_config_parse(c, "unet", text, strlen(text), &fields.config) == WEFT_OK) {
        fields.scheduler = scheduler_config(&m, scheduler);
        fields.prediction = fields.scheduler.prediction_type;
        fields.weights = weft_weights_new(c, golden_tree(c, "unet", weft_unet_walk, &fields.config, WEFT_F32), NULL);
        m.model = weft_model_new(c, &fields);
        weft_scheduler_config_free(&fields.scheduler);
        if (fields.weights) weft_object_unref(&fields.weights->object);
    }
    if (!m.model) TEST_FAIL("%s", weft_message(c));
    return m;
}

static void close_model(struct model *m) {
    if (m->model) weft_object_unref(&m->model->object);
    weft_st_close(m->golden);
    bed_free(&m->b);
}

/* ---- tables ---------------------------------------------------------------------------------------------------- */

static weft_scheduler *scheduler_of(struct model *m, const char *text, int steps, double eta) {
    weft_scheduler_config k = scheduler_config(m, text);
    const weft_scheduler_kind *const *kind = weft_scheduler_kinds;
    while (*kind && strcmp((*kind)->class_name, "GaussianDiffusion")) kind++;
    weft_scheduler *s = *kind ? weft_scheduler_new(m->b.c, *kind, &k, eta, steps) : NULL;
    if (!s) TEST_FAIL("%s: %s", text, weft_message(m->b.c));
    weft_scheduler_config_free(&k);
    return s;
}

TEST(tables) {
    static const struct { const char *schedule; int steps; } cases[] = {
        { "linear", 1000 }, { "linear", 64 }, { "cosine", 1000 }, { "cosine", 30 }, { "sigmoid", 1000 },
        { "sigmoid", 30 } };
    struct model m = open_model(false, "{" CLASS "}");
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char text[160];
        snprintf(text, sizeof text, "{" CLASS ", \"timesteps\": %d, \"beta_schedule\": \"%s\"}", cases[k].steps,
                 cases[k].schedule);
        weft_scheduler *s = scheduler_of(&m, text, 5, 0);
        const weft_st_entry *e = find(&m, "table.%s.%d", cases[k].schedule, cases[k].steps);
        REQUIRE(s && e && e->shape[0] == cases[k].steps);
        const float *want = e->data;
        int i = 0;
        while (i < cases[k].steps && fabs(s->alphas_cumprod[i] - want[i]) <= TABLE * want[i]) i++;
        if (i < cases[k].steps)
            TEST_FAIL("%s of %d: entry %d is %.9g, not %.9g", cases[k].schedule, cases[k].steps, i,
                      s->alphas_cumprod[i], want[i]);
        weft_object_unref(&s->object);
    }
    close_model(&m);
}

TEST(timesteps_of_fewer_steps) {
    static const int cases[][2] = { { 1000, 250 }, { 1000, 7 }, { 1000, 3 }, { 1000, 150 }, { 1000, 999 }, { 30, 11 },
                                    { 17, 5 } };
    struct model m = open_model(false, "{" CLASS "}");
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char text[96];
        snprintf(text, sizeof text, "{" CLASS ", \"timesteps\": %d}", cases[k][0]);
        weft_scheduler *s = scheduler_of(&m, text, cases[k][1], 0);
        const weft_st_entry *e = find(&m, "times.%d.%d", cases[k][0], cases[k][1]);
        REQUIRE(s && e);
        const int32_t *want = e->data;
        CHECK_EQ(s->count, e->shape[0]);
        for (int i = 0; i < s->count; i++) CHECK_EQ(s->levels[i].timestep, want[i]);
        weft_object_unref(&s->object);
    }
    close_model(&m);
}

/* ---- losses ---------------------------------------------------------------------------------------------------- */

#define SCHEDULER(v) { "scheduler", v }

/* What the model predicts for the noisy samples; with `self`, after an estimate that no gradient goes through. */
static void predict(struct model *m, weft_value scheduler, bool self, weft_value *prediction) {
    weft_value noisy = { 0 }, estimate = { 0 }, first[2] = { 0 }, said[2] = { 0 };
    struct bed *b = &m->b;
    weft_tensor *times = golden(m, "timesteps");
    CALL(b, "AddNoise", &noisy, SCHEDULER(scheduler), IN_TENSOR("noise", golden(m, "noise")),
         IN_TENSOR("samples", golden(m, "clean")), IN_TENSOR("timesteps", times));
    if (self) {
        CALL(b, "UNetStep", first, IN_OBJECT("model", m->model), { "sample", noisy }, IN_TENSOR("timesteps", times));
        CALL(b, "Denoised", &estimate, SCHEDULER(scheduler), { "prediction", first[0] }, { "sample", noisy },
             IN_TENSOR("timesteps", times));
        CALL(b, "UNetStep", said, IN_OBJECT("model", m->model), { "sample", noisy }, IN_TENSOR("timesteps", times),
             { "self_cond", estimate });
    } else CALL(b, "UNetStep", said, IN_OBJECT("model", m->model), { "sample", noisy }, IN_TENSOR("timesteps", times));
    *prediction = said[0];
    weft_value_clear(&said[1]);
    weft_value_clear(&noisy);
    weft_value_clear(&estimate);
    for (int i = 0; i < 2; i++) weft_value_clear(&first[i]);
}

static void check_gradients(struct model *m, const char *objective, bool self) {
    static const char *const names[] = { "final_conv.bias", "downs.0.0.block1.norm.g" };
    const char *name;
    weft_tensor *t;
    for (int k = 0; k < 2; k++) {
        const weft_st_entry *want = find(m, "grad.%s%s.%s", objective, self ? ".self" : "", names[k]);
        for (int64_t i = 0; want && (t = weft_tree_trainable(m->model->weights->tree, i, &name)); i++) {
            float got[16];
            if (strcmp(name, names[k])) continue;
            CHECK_EQ(weft_read(m->b.c, weft_grad(t), got, want->bytes), WEFT_OK);
            struct test_distance d = test_compare_f32(got, want->data, (int64_t)(want->bytes / sizeof(float)));
            if (!(d.rms <= GRADIENT)) TEST_FAIL("%s: off by %.3g", want->name, d.rms);
        }
    }
}

static void check_loss(struct model *m, const char *objective, bool self, bool min_snr) {
    weft_value tables[6] = { 0 }, prediction = { 0 }, loss[3] = { 0 };
    struct bed *b = &m->b;
    weft_tree *tree = m->model->weights->tree;
    float got[6];
    weft_scope scope = weft_scope_named(b->c, "loss");
    CALL(b, "Scheduler", tables, IN_OBJECT("model", m->model), IN_INT("steps", 10));
    CHECK_EQ(weft_tape_begin(b->c), WEFT_OK);
    predict(m, tables[0], self, &prediction);
    CALL(b, "Loss", loss, { "prediction", prediction }, SCHEDULER(tables[0]), IN_TENSOR("clean", golden(m, "clean")),
         IN_TENSOR("noise", golden(m, "noise")), IN_TENSOR("timesteps", golden(m, "timesteps")),
         IN_TEXT("weighting", min_snr ? "min_snr" : "snr"));
    const weft_st_entry *want = find(m, "loss.%s.%s%s", objective, min_snr ? "min_snr" : "plain", self ? ".self" : "");
    if (loss[1].tensor && want && weft_read(b->c, loss[1].tensor, got, sizeof got) == WEFT_OK) {
        const float *w = want->data;
        for (int i = 0; i < 6; i++)
            if (!(fabs(got[i] - w[i]) <= LOSS * w[i]))
                TEST_FAIL("%s: image %d has %.9g, not %.9g", want->name, i, got[i], w[i]);
    } else TEST_FAIL("%s: %s", objective, weft_message(b->c));
    CHECK_EQ(weft_backward(b->c, loss[0].tensor, NULL), WEFT_OK);
    weft_tape_end(b->c);
    if (!min_snr) check_gradients(m, objective, self);
    weft_tree_zero_grad(tree);
    for (int i = 0; i < 6; i++) weft_value_clear(&tables[i]);
    for (int i = 0; i < 3; i++) weft_value_clear(&loss[i]);
    weft_value_clear(&prediction);
    weft_scope_end(b->c, scope, NULL);
}

static void check_losses(bool self) {
    static const char *const objectives[] = { "pred_noise", "pred_x0", "pred_v" };
    for (int k = 0; k < 3; k++) {
        char text[96];
        snprintf(text, sizeof text, "{" CLASS ", \"objective\": \"%s\"}", objectives[k]);
        struct model m = open_model(self, text);
        CHECK_EQ(weft_tree_train(m.b.c, m.model->weights->tree, NULL, true), WEFT_OK);
        for (int min_snr = 0; min_snr < 2; min_snr++) check_loss(&m, objectives[k], self, min_snr);
        close_model(&m);
    }
}

TEST(losses) { check_losses(false); }
TEST(losses_conditioned_on_an_estimate) { check_losses(true); }

TEST(noise_matched_to_samples) {
    struct model m = open_model(false, "{" CLASS "}");
    struct bed *b = &m.b;
    weft_value out = { 0 };
    weft_tensor *noise = golden(&m, "match.noise"), *samples = golden(&m, "match.samples");
    CHECK_EQ(CALL(b, "MatchNoise", &out, IN_TENSOR("samples", samples), IN_TENSOR("noise", noise)), WEFT_OK);
    const weft_st_entry *order = find(&m, "match.order");
    const int64_t *want = order->data, each = weft_count(noise) / 13;
    const float *all = host_data(noise), *got = out.tensor ? host_data(out.tensor) : NULL;
    for (int i = 0; got && i < 13; i++)
        if (memcmp(got + i * each, all + want[i] * each, (size_t)each * sizeof *all))
            TEST_FAIL("sample %d is not given noise %d", i, (int)want[i]);
    CHECK(got);
    weft_value_clear(&out);
    weft_tensor *other = weft_full(b->c, WEFT_F32, WEFT_SHAPE(13, 8, 8, 2), 0);
    weft_tensor *wild = weft_full(b->c, WEFT_F32, WEFT_SHAPE(2, 1), NAN);
    CALL_FAILS(b, "two batches of one shape", "MatchNoise", IN_TENSOR("samples", samples), IN_TENSOR("noise", other));
    CALL_FAILS(b, "not finite", "MatchNoise", IN_TENSOR("samples", wild), IN_TENSOR("noise", wild));
    close_model(&m);
}

/* ---- sampling -------------------------------------------------------------------------------------------------- */

static bool near(struct model *m, weft_tensor *x, const float *want, const char *name, int step) {
    float got[2 * 8 * 8 * 3];
    if (!x || weft_count(x) != 2 * 8 * 8 * 3 || weft_read(m->b.c, x, got, sizeof got)) {
        TEST_FAIL("%s, step %d: %s", name, step, weft_message(m->b.c));
        return false;
    }
    struct test_distance d = test_compare_f32(got, want, 2 * 8 * 8 * 3);
    if (d.rms <= SAMPLE && d.max <= 10 * SAMPLE) return true;
    TEST_FAIL("%s, step %d: off by %.3g rms, %.3g at the most", name, step, d.rms, d.max);
    return false;
}

/* The loop that a graph or a script runs, with the nodes. */
static void sample(struct model *m, const char *name, int steps, double eta) {
    struct bed *b = &m->b;
    const weft_st_entry *e = find(m, "sample.%s.x", name);
    weft_value tables[6] = { 0 }, noise[2] = { 0 }, estimate = { 0 };
    CALL(b, "Scheduler", tables, IN_OBJECT("model", m->model), IN_INT("steps", steps), IN_FLOAT("eta", eta));
    CALL(b, "Noise", noise, IN_INT("seed", 11),
         IN_TENSOR("like", weft_full(b->c, WEFT_F32, WEFT_SHAPE(2, 8, 8, 3), 0)));
    weft_value x = noise[0], state = noise[1];
    REQUIRE(e && tables[0].object && e->shape[0] == steps + 1);
    for (int i = 0; near(m, x.tensor, (const float *)e->data + 384 * i, name, i) && i < steps; i++) {
        weft_value said[2] = { 0 }, next[3] = { 0 };
        double t = ((weft_scheduler *)tables[0].object)->levels[i].timestep;
        if (estimate.tensor)
            CALL(b, "UNetStep", said, IN_OBJECT("model", m->model), { "sample", x }, IN_FLOAT("timestep", t),
                 { "self_cond", estimate });
        else CALL(b, "UNetStep", said, IN_OBJECT("model", m->model), { "sample", x }, IN_FLOAT("timestep", t));
        CALL(b, "SchedulerStep", next, SCHEDULER(tables[0]), IN_INT("step", i), { "prediction", said[0] },
             { "sample", x }, { "state", state });
        weft_value_clear(&x);
        weft_value_clear(&state);
        weft_value_clear(&estimate);
        for (int k = 0; k < 2; k++) weft_value_clear(&said[k]);
        x = next[0];
        estimate = next[1];
        state = next[2];
    }
    weft_value_clear(&x);
    weft_value_clear(&state);
    weft_value_clear(&estimate);
    for (int i = 0; i < 6; i++) weft_value_clear(&tables[i]);
}

static void sample_all(const char *prefix) {
    static const char *const names[] = { "ddim_v", "ddim_noise", "ddim_x0", "ddim_self", "ddim_odd",
                                         "ddpm_v", "ddpm_noise", "ddpm_x0", "ddpm_self" };
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        if (strncmp(names[k], prefix, strlen(prefix))) continue;
        struct model first = open_model(false, "{" CLASS "}");
        const weft_st_entry *e = find(&first, "sample.%s.case", names[k]);
        cJSON *o = e ? cJSON_ParseWithLength(e->data, e->bytes) : NULL;
        char *config = cJSON_PrintUnformatted(cJSON_GetObjectItem(o, "config"));
        close_model(&first);
        REQUIRE(o && config);
        struct model m = open_model(cJSON_IsTrue(cJSON_GetObjectItem(o, "self")), config);
        if (m.model)
            sample(&m, names[k], cJSON_GetObjectItem(o, "steps")->valueint, cJSON_GetObjectItem(o, "eta")->valuedouble);
        close_model(&m);
        cJSON_free(config);
        cJSON_Delete(o);
    }
}

TEST(ddim) { sample_all("ddim"); }
TEST(ddpm) { sample_all("ddpm"); }

/* Another scheduler takes the model over, with its betas and what it predicts: DDPM in all steps is the same. */
TEST(other_schedulers_take_over) {
    struct model m = open_model(false, "{" CLASS ", \"timesteps\": 8}");
    weft_value a[6] = { 0 }, b[6] = { 0 };
    CALL(&m.b, "Scheduler", a, IN_OBJECT("model", m.model), IN_INT("steps", 8));
    CALL(&m.b, "Scheduler", b, IN_OBJECT("model", m.model), IN_INT("steps", 8), IN_TEXT("scheduler", "ddpm"));
    REQUIRE(a[0].object && b[0].object);
    weft_scheduler *s = (weft_scheduler *)a[0].object, *other = (weft_scheduler *)b[0].object;
    CHECK_EQ(other->config.prediction_type, WEFT_PREDICTION_V);
    CHECK(other->config.clip_sample);
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(other->levels[i].timestep, s->levels[i].timestep);
        CHECK_NEAR(other->levels[i].alpha / s->levels[i].alpha, 1, 2e-5);       /* f32 there: 1 − 0.999 at the last */
    }
    for (int i = 0; i < 6; i++) weft_value_clear(&a[i]), weft_value_clear(&b[i]);
    close_model(&m);
}

/* ---- the Unet as a MODEL --------------------------------------------------------------------------------------- */

#define UNET "{\"_class_name\": \"Unet\", \"dim\": 8, \"init_dim\": 6, \"dim_mults\": [1, 2, 1], \"channels\": 2, " \
             "\"self_condition\": true, \"attn_heads\": [1, 2, 1], \"attn_dim_head\": 4, " \
             "\"full_attn\": [false, true, false], "

/* Made, saved and loaded: the same prediction, bit for bit, with and without an estimate. */
static void round_trip(struct bed *b, const char *more) {
    char text[512];
    weft_value made = { 0 }, none = { 0 }, loaded = { 0 }, said[2][2] = { 0 };
    snprintf(text, sizeof text, UNET "%s}", more);
    CHECK_EQ(CALL(b, "UNetFromConfig", &made, IN_TEXT("config", text), IN_INT("seed", 5), IN_TEXT("scheduler", "{" CLASS
                  ", \"timesteps\": 40, \"objective\": \"pred_x0\", \"beta_schedule\": \"linear\"}")), WEFT_OK);
    CHECK_STR(weft_message(b->c), "");
    REQUIRE(made.object);
    CHECK_EQ(CALL(b, "DiffusersSave", &none, { "model", made }, IN_TEXT("folder", "diffusers/u"),
                  IN_TEXT("dtype", "f32")), WEFT_OK);
    CHECK_EQ(CALL(b, "UNet2DLoader", &loaded, IN_TEXT("model_path", "u")), WEFT_OK);
    CHECK_STR(weft_message(b->c), "");
    REQUIRE(loaded.object);
    weft_model *m = (weft_model *)loaded.object, *first = (weft_model *)made.object;
    CHECK(!memcmp(&m->config.rms, &first->config.rms, sizeof m->config.rms));
    CHECK_EQ(m->prediction, WEFT_PREDICTION_SAMPLE);
    CHECK_EQ(m->scheduler.num_train_timesteps, 40);
    CHECK_NEAR(m->scheduler.beta_end, 0.5, 1e-12);
    CHECK_EQ(m->latent_scale, 1);
    weft_tensor *x = weft_to_nhwc(b->c, golden_input(b->c, "x", 6, WEFT_SHAPE(2, 2, 8, 4)));
    for (int estimate = 0; estimate < 2; estimate++) {
        weft_tensor *of = weft_affine(b->c, x, estimate * 0.5, 0);
        for (int k = 0; k < 2; k++)
            CALL(b, "UNetStep", said[k], { "model", k ? loaded : made }, IN_TENSOR("sample", x),
                 IN_FLOAT("timestep", 7), IN_TENSOR("self_cond", of));
        REQUIRE(said[0][0].tensor && said[1][0].tensor);
        CHECK(!memcmp(host_data(said[0][0].tensor), host_data(said[1][0].tensor), 128 * sizeof(float)));
        for (int i = 0; i < 4; i++) weft_value_clear(&said[i / 2][i % 2]);
    }
    weft_value_clear(&made);
    weft_value_clear(&loaded);
}

TEST(made_saved_and_loaded) {
    const char *folder = new_folder(), *roots[] = { folder, NULL };
    struct bed b = bed_new("cpu");
    REQUIRE(folder);
    mkdir(in(folder, "diffusers"), 0755);
    b.folders = (weft_folders){ .models = roots, .input = folder, .output = folder, .temp = folder };
    round_trip(&b, "\"out_dim\": 2");
    round_trip(&b, "\"learned_sinusoidal_cond\": true, \"learned_sinusoidal_dim\": 6");
    round_trip(&b, "\"random_fourier_features\": true, \"sinusoidal_pos_emb_theta\": 500");
    bed_free(&b);
    drop_folder(folder);
}

/* A state dict of GaussianDiffusion in one file: tables beside the model, whose names begin with "model.". */
TEST(a_state_dict_is_loaded) {
    const char *folder = new_folder(), *roots[] = { folder, NULL };
    struct model m = open_model(false, "{" CLASS "}");
    struct bed *b = &m.b;
    REQUIRE(folder && m.model);
    mkdir(in(folder, "diffusion_models"), 0755);
    b->folders = (weft_folders){ .models = roots, .input = folder, .output = folder, .temp = folder };
    weft_tree *tree = m.model->weights->tree;
    CHECK_EQ(weft_tree_write(b->c, tree, "model.", in(folder, "diffusion_models/x.safetensors"), WEFT_F32), WEFT_OK);
    CALL_FAILS(b, "a config.json with its constructor's arguments is needed beside it", "UNETLoader",
               IN_TEXT("unet_name", "x.safetensors"));
    char *config = weft_unet_config_json(&m.model->config, 0);
    put_text(folder, "diffusion_models/config.json", config);
    free(config);
    weft_value out = { 0 };
    CHECK_EQ(CALL(b, "UNETLoader", &out, IN_TEXT("unet_name", "x.safetensors")), WEFT_OK);
    CHECK_STR(weft_message(b->c), "");
    if (out.object) CHECK_EQ(weft_tree_count(((weft_model *)out.object)->weights->tree), weft_tree_count(tree));
    weft_value_clear(&out);
    close_model(&m);
    drop_folder(folder);
}

/* Random features are not trained, learned ones are. */
TEST(frequencies_of_the_time) {
    for (int random = 0; random < 2; random++) {
        struct bed b = bed_new("cpu");
        char text[512];
        const char *name;
        weft_value made = { 0 }, said[2] = { 0 };
        weft_tensor *t;
        snprintf(text, sizeof text, UNET "\"%s\": true}",
                 random ? "random_fourier_features" : "learned_sinusoidal_cond");
        CHECK_EQ(CALL(&b, "UNetFromConfig", &made, IN_TEXT("config", text)), WEFT_OK);
        REQUIRE(made.object);
        weft_tree *tree = ((weft_model *)made.object)->weights->tree;
        CHECK_EQ(weft_tree_train(b.c, tree, "time_mlp.*", true), WEFT_OK);
        CHECK_EQ(weft_tape_begin(b.c), WEFT_OK);
        weft_tensor *x = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 4, 4, 2), 1);
        CALL(&b, "UNetStep", said, { "model", made }, IN_TENSOR("sample", x), IN_FLOAT("timestep", 0.3));
        CHECK_EQ(weft_backward(b.c, weft_reduce_all(b.c, WEFT_REDUCE_SUM, said[0].tensor), NULL), WEFT_OK);
        weft_tape_end(b.c);
        int64_t found = 0;
        for (int64_t i = 0; (t = weft_tree_trainable(tree, i, &name)); i++) {
            bool frequencies = !strcmp(name, "time_mlp.0.weights");
            found += frequencies;
            CHECK((weft_grad(t) != NULL) == !(frequencies && random));
        }
        CHECK_EQ(found, 1);
        weft_tree_zero_grad(tree);
        for (int i = 0; i < 2; i++) weft_value_clear(&said[i]);
        weft_value_clear(&made);
        bed_free(&b);
    }
}

/* ---- faults ---------------------------------------------------------------------------------------------------- */

#define BAD(b, part, settings) \
    CALL_FAILS(b, part, "UNetFromConfig", IN_TEXT("config", UNET "\"out_dim\": 2}"), \
               IN_TEXT("scheduler", "{" CLASS ", " settings "}"))

TEST(refuses) {
    struct bed b = bed_new("cpu");
    BAD(&b, "did you mean \"objective\"", "\"objectiv\": \"pred_v\"");
    BAD(&b, "pred_noise, pred_x0 or pred_v", "\"objective\": \"v_prediction\"");
    BAD(&b, "linear, cosine or sigmoid", "\"beta_schedule\": \"scaled_linear\"");
    BAD(&b, "must be below 1", "\"beta_schedule\": \"linear\", \"timesteps\": 20");
    BAD(&b, "node Scheduler's steps", "\"sampling_timesteps\": 250");
    BAD(&b, "weighting", "\"min_snr_loss_weight\": true");
    BAD(&b, "no argument \"betas\"", "\"betas\": 3");
    CALL_FAILS(&b, "learned_sinusoidal_dim", "UNetFromConfig",
               IN_TEXT("config", UNET "\"learned_sinusoidal_cond\": true, \"learned_sinusoidal_dim\": 5}"));
    weft_value made = { 0 };
    CHECK_EQ(CALL(&b, "UNetFromConfig", &made, IN_TEXT("config", UNET "\"image_size\": 4}"), IN_TEXT("scheduler", "{"
                  CLASS ", \"image_size\": 4, \"immiscible\": false, \"schedule_fn_kwargs\": {}}")), WEFT_OK);
    REQUIRE(made.object);
    weft_tensor *x = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 4, 4, 2), 0);
    weft_tensor *odd = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 6, 4, 2), 0);
    weft_tensor *text = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 3, 8), 0);
    CALL_FAILS(&b, "takes no text", "UNetStep", { "model", made }, IN_TENSOR("sample", x), IN_TENSOR("context", text));
    CALL_FAILS(&b, "multiples of 4", "UNetStep", { "model", made }, IN_TENSOR("sample", odd));
    CALL_FAILS(&b, "expected (N, height, width, 3)", "TensorToImage", IN_TENSOR("tensor", x));
    weft_value_clear(&made);
    bed_free(&b);
}

TEST_MAIN
