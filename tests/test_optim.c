/* Optimisers, clipping, loss scaling, moving averages and schedules against tests/golden/make_optim.py (torch.optim,
 * transformers, lion-pytorch, diffusers, ema-pytorch), step by step; their files; parameters that cannot be trained. */
#include <stdarg.h>
#include "nodes/train/ema.h"
#include "nodes/train/lr_schedule.h"
#include "nodes/train/optim.h"
#include "runtime/update.h"
#include "tests/train_bed.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/optim.safetensors"
enum { PARAMS = 5, STEPS = 6 };

/* The referee computes in float64. f64: some ten roundings a step, six steps; Adafactor's sums are in another order.
 * f32: the same with 6e-8 each, and a step's direction, where v is small, is less exact than the parameter itself. */
#define NEAR_F64 1e-13
#define NEAR_F32 5e-7

struct run { weft_optim_options options; const char *name; double lr, decay; };

/* The runs of the script, by name. */
static int all_runs(struct run *run) {
    int n = 0;
#define RUN(kind, text, rate, wd, ...) do { \
        run[n] = (struct run){ weft_optim_defaults(WEFT_OPTIM_##kind), text, rate, wd }; \
        weft_optim_options *o = &run[n++].options; \
        o->lr = rate, o->weight_decay = wd; \
        __VA_ARGS__; \
    } while (0)
    RUN(ADAMW, "adamw", 1e-2, 0.1, o->beta1 = 0.8, o->beta2 = 0.9, o->eps = 1e-6);
    RUN(ADAMW, "adamw_defaults", 1e-3, 1e-2, (void)o);
    RUN(ADAM, "adam", 1e-2, 0.1, o->beta1 = 0.8, o->beta2 = 0.9, o->eps = 1e-6);
    RUN(SGD, "sgd", 0.1, 0, (void)o);
    RUN(SGD, "sgd_momentum", 0.1, 0.05, o->momentum = 0.9, o->dampening = 0.2);
    RUN(SGD, "sgd_nesterov", 0.1, 0.05, o->momentum = 0.9, o->nesterov = true);
    RUN(LION, "lion", 1e-2, 0.1, o->beta1 = 0.8, o->beta2 = 0.9);
    RUN(ADAFACTOR, "adafactor", 0, 0, (void)o);
    RUN(ADAFACTOR, "adafactor_warmup", 0, 0.1, o->warmup_init = true, o->scale_parameter = false);
    RUN(ADAFACTOR, "adafactor_fixed", 1e-2, 0.1, o->relative_step = o->scale_parameter = false, o->beta1 = 0.9,
        o->clip = 0.5);
    RUN(ADAFACTOR, "adafactor_scaled", 1e-2, 0, o->relative_step = false, o->decay_rate = -0.5);
#undef RUN
    return n;
}
enum { RUNS = 11 };

/* A parameter of the file, as memory of its own. */
static weft_tensor *param_of(weft_ctx *c, weft_safetensors *f, int i, weft_dtype type) {
    weft_tensor *t = golden(c, f, false, "param.%d", i), *own = weft_tensor_new(c, type, weft_rank(t), weft_shape(t));
    if (weft_update_copy(c, own, t)) TEST_FAIL("%s", weft_message(c));
    return own;
}

/* The optimiser of a run over parameters of its own; the last two are a second group, as in the script. */
static weft_optim *optim_of(weft_ctx *c, weft_safetensors *f, const struct run *run, weft_dtype type) {
    weft_optim *o = weft_optim_new(c, &run->options);
    bool one = !strcmp(run->name, "adamw_defaults");
    int other = o && !one ? weft_optim_group(o, run->lr / 4, 0) : 0;
    for (int i = 0; o && i < PARAMS; i++) {
        char name[16];
        snprintf(name, sizeof name, "layer.%d", i);
        if (weft_optim_add(o, i < 3 ? 0 : other, name, param_of(c, f, i, type))) TEST_FAIL("%s", weft_message(c));
    }
    if (!o) TEST_FAIL("%s: %s", run->name, weft_message(c));
    return o;
}

static weft_status step(weft_ctx *c, weft_safetensors *f, weft_optim *o, int number, weft_dtype type) {
    weft_tensor *grads[PARAMS];
    for (int i = 0; i < PARAMS; i++) {
        grads[i] = golden(c, f, true, "grad.%d.%d", number, i);
        if (grads[i]) grads[i] = weft_cast(c, grads[i], type);
    }
    return weft_optim_step(o, grads);
}

static void check_run(const struct run *run, weft_dtype type) {
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    weft_optim *o = optim_of(c, f, run, type);
    for (int k = 0; k < STEPS && o; k++) {
        CHECK_EQ(step(c, f, o, k, type), WEFT_OK);
        for (int i = 0; i < PARAMS; i++) {
            char what[80];
            weft_tensor *want = weft_slice(c, golden(c, f, false, "optim.%s.%d", run->name, i), 0, k, 1);
            snprintf(what, sizeof what, "%s, %s, step %d, parameter %d", run->name, weft_dtype_name(type), k, i);
            check_near(c, what, weft_optim_param(o, i, NULL), want, type == WEFT_F64 ? NEAR_F64 : NEAR_F32);
        }
    }
    CHECK_STR(weft_message(c), "");
    weft_optim_free(o);
    weft_st_close(f);
    CLOSE(c);
}

TEST(steps_are_the_referees) {
    struct run run[RUNS];
    CHECK_EQ(all_runs(run), RUNS);
    const bool both = has_f64();
    for (int r = 0; r < RUNS; r++) {
        check_run(&run[r], WEFT_F32);
        if (both) check_run(&run[r], WEFT_F64);
    }
}

/* A schedule's factor multiplies every group's rate; names go both ways. */
TEST(rates_and_names) {
    weft_ctx *c = open_device("cpu");
    weft_optim_options options = weft_optim_defaults(WEFT_OPTIM_ADAMW);
    weft_optim *o = weft_optim_new(c, &options);
    CHECK_EQ(weft_optim_group(o, 0.5, 0), 1);
    weft_optim_set_factor(o, 0.25);
    CHECK_NEAR(weft_optim_lr(o, 0), 1e-3 / 4, 1e-18);
    CHECK_NEAR(weft_optim_lr(o, 1), 0.125, 0);
    for (int k = 0; k < WEFT_OPTIM_COUNT; k++) CHECK_EQ(weft_optim_of(weft_optim_name((weft_optim_kind)k)), k);
    CHECK_EQ(weft_optim_of("adagrad"), WEFT_OPTIM_COUNT);
    weft_optim_free(o);
    CLOSE(c);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static bool same_params(weft_ctx *c, weft_optim *a, weft_optim *b) {
    bool same = true;
    for (int i = 0; i < PARAMS && same; i++) {
        weft_tensor *x = weft_optim_param(a, i, NULL), *y = weft_optim_param(b, i, NULL);
        size_t bytes = (size_t)weft_count(x) * weft_dtype_size(weft_type(x));
        void *p = malloc(bytes), *q = malloc(bytes);
        same = !weft_read(c, x, p, bytes) && !weft_read(c, y, q, bytes) && !memcmp(p, q, bytes);
        free(p);
        free(q);
    }
    return same;
}

/* Three steps, saved, loaded by another optimiser over the same values, three more steps: the bytes of six in a row. */
TEST(state_goes_through_a_file) {
    static const weft_dtype types[] = { WEFT_F32, WEFT_BF16, WEFT_F64 };
    struct run run[RUNS];
    const char *folder = folder_new(), *path = in(folder, "optimizer.safetensors");
    all_runs(run);
    const int count = RUNS * (2 + has_f64());
    for (int k = 0; k < count; k++) {
        const struct run *r = &run[k % RUNS];
        const weft_dtype type = types[k / RUNS];
        weft_ctx *c = open_device("cpu");
        weft_safetensors *f = weft_st_open(c, GOLDEN);
        weft_optim *a = optim_of(c, f, r, type), *b = optim_of(c, f, r, type);
        for (int s = 0; s < 3; s++) CHECK_EQ(step(c, f, a, s, WEFT_F32), WEFT_OK);
        CHECK_EQ(weft_optim_save(a, path), WEFT_OK);
        for (int i = 0; i < PARAMS; i++)
            CHECK_EQ(weft_update_copy(c, weft_optim_param(b, i, NULL), weft_optim_param(a, i, NULL)), WEFT_OK);
        CHECK_EQ(weft_optim_load(b, path), WEFT_OK);
        for (int s = 3; s < STEPS; s++) {
            CHECK_EQ(step(c, f, a, s, WEFT_F32), WEFT_OK);
            CHECK_EQ(step(c, f, b, s, WEFT_F32), WEFT_OK);
        }
        if (!same_params(c, a, b)) TEST_FAIL("%s %s goes on otherwise", r->name, weft_dtype_name(type));
        CHECK_STR(weft_message(c), "");
        weft_optim_free(a);
        weft_optim_free(b);
        weft_st_close(f);
        CLOSE(c);
    }
    folder_drop(folder);
}

TEST(files_that_do_not_fit) {
    const char *folder = folder_new(), *path = in(folder, "optimizer.safetensors");
    weft_ctx *c = open_device("cpu");
    weft_optim_options adamw = weft_optim_defaults(WEFT_OPTIM_ADAMW), lion = weft_optim_defaults(WEFT_OPTIM_LION);
    weft_tensor *w = weft_full(c, WEFT_F32, WEFT_SHAPE(3, 2), 1), *v = weft_full(c, WEFT_F32, WEFT_SHAPE(2, 2), 1);
    weft_optim *a = weft_optim_new(c, &adamw), *b = weft_optim_new(c, &lion), *other = weft_optim_new(c, &adamw),
               *more = weft_optim_new(c, &adamw), *empty = weft_optim_new(c, &adamw);
    CHECK_EQ(weft_optim_add(a, 0, "w", w) | weft_optim_add(b, 0, "w", w) | weft_optim_add(other, 0, "w", v) |
             weft_optim_add(more, 0, "w", w) | weft_optim_add(more, 0, "bias", v), WEFT_OK);
    CHECK_EQ(weft_optim_save(a, path), WEFT_OK);
    CHECK(weft_optim_load(b, path));
    CHECK_ERROR(c, WEFT_E_FORMAT, "its optimizer is \"adamw\", expected \"lion\"");
    CHECK(weft_optim_load(other, path));
    CHECK_ERROR(c, WEFT_E_PARAMS, "state.w.exp_avg is 24 bytes of f32, expected (2, 2) f32");
    CHECK(weft_optim_load(more, path));
    CHECK_ERROR(c, WEFT_E_PARAMS, "state.bias.step is missing");
    CHECK(weft_optim_load(empty, path));
    CHECK_ERROR(c, WEFT_E_PARAMS, "which nothing here is called");
    CHECK(weft_optim_load(a, in(folder, "none")));
    CHECK_ERROR(c, WEFT_E_FILE, "none: cannot be opened");
    weft_optim *all[] = { a, b, other, more, empty };
    for (int i = 0; i < 5; i++) weft_optim_free(all[i]);
    folder_drop(folder);
    CLOSE(c);
}

TEST(what_cannot_be_trained) {
    weft_ctx *c = open_device("cpu");
    static const float file[4];
    weft_optim_options options = weft_optim_defaults(WEFT_OPTIM_ADAMW);
    weft_optim *o = weft_optim_new(c, &options);
    weft_tensor *w = weft_full(c, WEFT_F32, WEFT_SHAPE(4, 4), 1);
    CHECK(weft_optim_add(o, 0, "unet.w", weft_tensor_borrow(c, WEFT_F32, WEFT_SHAPE(4), file, NULL, NULL)));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "unet.w: (4) f32 is not to be written: it is a view on a file");
    CHECK(weft_optim_add(o, 0, "w", weft_permute(c, weft_full(c, WEFT_F32, WEFT_SHAPE(4, 5), 1), (const int[]){ 1,
            0 })));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "not dense");
    CHECK(weft_optim_add(o, 0, "ids", weft_full(c, WEFT_I64, WEFT_SHAPE(4), 1)));
    CHECK_ERROR(c, WEFT_E_TYPE, "ids: (4) i64 cannot be trained");
    CHECK(weft_optim_add(o, 2, "w", w));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "there is no group 2");
    CHECK_EQ(weft_optim_add(o, 0, "w", w), WEFT_OK);
    CHECK(weft_optim_add(o, 0, "w", w));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "two parameters of that name");
    weft_tensor *wrong = weft_full(c, WEFT_F32, WEFT_SHAPE(4, 3), 1);
    CHECK(weft_optim_step(o, &wrong));
    CHECK_ERROR(c, WEFT_E_SHAPE, "w: adam: the gradient is (4, 3) f32 for (4, 4) f32");
    weft_optim_free(o);
#define REFUSED(kind, field, value, text) do { \
        weft_optim_options bad = weft_optim_defaults(WEFT_OPTIM_##kind); \
        bad.field = value; \
        CHECK(!weft_optim_new(c, &bad)); \
        CHECK_ERROR(c, WEFT_E_ARGUMENT, text); \
    } while (0)
    REFUSED(ADAMW, lr, -1, "adamw: lr is -1, expected 0 or more");
    REFUSED(ADAM, beta2, 1, "adam: beta2 is 1, expected 0 or more, below 1");
    REFUSED(ADAM, eps, NAN, "adam: eps is nan");
    REFUSED(SGD, nesterov, true, "nesterov wants momentum");
    REFUSED(ADAFACTOR, lr, 1e-3, "leave lr out");
    REFUSED(ADAFACTOR, relative_step, false, "needs a learning rate");
    REFUSED(ADAFACTOR, clip, 0, "clip_threshold");
#undef REFUSED
    CLOSE(c);
}

/* A bf16 parameter is its f32 master rounded: a hundred steps too small for bf16 to see add up all the same. */
TEST(masters) {
    weft_ctx *c = open_device("cpu");
    weft_optim_options options = weft_optim_defaults(WEFT_OPTIM_SGD);
    weft_optim *o = weft_optim_new(c, &options);
    weft_tensor *w = weft_full(c, WEFT_BF16, WEFT_SHAPE(9), 1), *g = weft_full(c, WEFT_BF16, WEFT_SHAPE(9), 0.25);
    CHECK_EQ(weft_optim_add(o, 0, "w", w), WEFT_OK);
    for (int i = 0; i < 100; i++) CHECK_EQ(weft_optim_step(o, &g), WEFT_OK);
    for (int i = 0; i < 9; i++) {       /* 1 − 100·1e-3·0.25 = 0.975; bf16 below 1 steps by 2⁻⁸ */
        weft_tensor *one = weft_slice(c, w, 0, i, 1);
        CHECK_NEAR(weft_item(c, one), 0.975, 0x1p-9);
    }
    weft_optim_free(o);
    CLOSE(c);
}

/* ---- gradients --------------------------------------------------------------------------------------------------- */

static void read_grads(weft_ctx *c, weft_safetensors *f, int number, weft_dtype type, weft_tensor **grads) {
    for (int i = 0; i < PARAMS; i++) {
        weft_tensor *g = golden(c, f, true, "grad.%d.%d", number, i);
        grads[i] = g ? weft_tensor_new(c, type, weft_rank(g), weft_shape(g)) : NULL;
        if (g && weft_update_copy(c, grads[i], g)) TEST_FAIL("%s", weft_message(c));
    }
}

TEST(clipping) {
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    double *want = values_of(c, golden(c, f, false, "clip.norms")), norm;
    weft_tensor *g[PARAMS];
    for (int k = 0; k < STEPS; k++) {
        read_grads(c, f, k, WEFT_F32, g);
        CHECK_EQ(weft_grad_norm(c, PARAMS, g, &norm), WEFT_OK);
        CHECK_NEAR(norm, want[k], 1e-13 * want[k]);     /* the values are exact in f32, the sums are doubles */
    }
    for (int most = 1; most <= 100; most += 99) {
        read_grads(c, f, 0, WEFT_F32, g);
        CHECK_EQ(weft_clip_grad_norm(c, PARAMS, g, most, true, &norm), WEFT_OK);
        CHECK_NEAR(norm, want[0], 1e-13 * want[0]);
        for (int i = 0; i < PARAMS; i++)                /* one rounding to f32 */
            check_near(c, "clipped", g[i], golden(c, f, false, "clip.%d.%d", most, i), 6e-8);
    }
    read_grads(c, f, 0, WEFT_BF16, g);                  /* 8 bits, rounded twice */
    CHECK_EQ(weft_clip_grad_norm(c, PARAMS, g, 1, true, NULL), WEFT_OK);
    check_near(c, "clipped bf16", g[0], golden(c, f, false, "clip.1.0"), 0x1p-8);
    read_grads(c, f, 0, WEFT_F32, g);
    CHECK_EQ(weft_clip_grad_value(c, PARAMS, g, 0.3), WEFT_OK);
    for (int i = 0; i < PARAMS; i++) check_near(c, "values", g[i], golden(c, f, false, "value.%d", i), 6e-8);
    free(want);
    weft_st_close(f);
    CLOSE(c);
}

TEST(gradients_that_are_not_finite) {
    weft_ctx *c = open_device("cpu");
    weft_tensor *g[2] = { weft_full(c, WEFT_F32, WEFT_SHAPE(5), 2), weft_full(c, WEFT_F32, WEFT_SHAPE(3), INFINITY) };
    weft_loss_scale s = WEFT_LOSS_SCALE;
    double norm;
    bool finite = true;
    CHECK(weft_clip_grad_norm(c, 2, g, 1, true, &norm));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "norm is inf");
    CHECK_NEAR(weft_item(c, weft_slice(c, g[0], 0, 0, 1)), 2, 0);
    CHECK_EQ(weft_loss_unscale(c, &s, 2, g, &finite), WEFT_OK);
    CHECK(!finite);
    CHECK_EQ(weft_loss_unscale(c, &s, 1, g, &finite), WEFT_OK);
    CHECK(finite);
    CHECK_NEAR(weft_item(c, weft_slice(c, g[0], 0, 0, 1)), 2.0 / 65536 / 65536, 0);
    CHECK_EQ(weft_clip_grad_norm(c, 2, g, 1, false, &norm), WEFT_OK);       /* as torch: all of it is lost */
    CHECK(isnan(weft_item(c, weft_slice(c, g[1], 0, 0, 1))));
    CLOSE(c);
}

TEST(loss_scale) {
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    double *want = values_of(c, golden(c, f, false, "scale")), *good = values_of(c, golden(c, f, false,
            "scale.finite"));
    weft_loss_scale s = { .scale = 1024, .growth = 2, .backoff = 0.5, .interval = 3 };
    for (int i = 0; i < 16 && want && good; i++) {
        weft_loss_scale_update(&s, good[i] != 0);
        CHECK_NEAR(s.scale, want[i], 0);
    }
    s = (weft_loss_scale){ .scale = 0x1p127, .growth = 2, .backoff = 0.5, .interval = 1 };
    weft_loss_scale_update(&s, true);
    CHECK_NEAR(s.scale, 0x1p127, 0);        /* twice that is beyond a float */
    free(want);
    free(good);
    weft_st_close(f);
    CLOSE(c);
}

/* ---- moving averages --------------------------------------------------------------------------------------------- */

static void check_ema(const char *name, weft_ema_options options, weft_dtype type) {
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    weft_tensor *walk = golden(c, f, false, "walk"), *want = golden(c, f, false, "ema.%s", name);
    weft_tensor *p = weft_tensor_new(c, type, WEFT_SHAPE(1, 5));
    weft_ema *e = weft_ema_new(c, &options);
    CHECK_EQ(weft_update_copy(c, p, weft_slice(c, walk, 0, 0, 1)), WEFT_OK);
    CHECK_EQ(weft_ema_add(e, "w", p), WEFT_OK);
    for (int k = 0; k < 44; k++) {
        char what[64];
        snprintf(what, sizeof what, "%s, %s, step %d", name, weft_dtype_name(type), k);
        CHECK_EQ(weft_update_copy(c, p, weft_slice(c, walk, 0, k + 1, 1)), WEFT_OK);
        CHECK_EQ(weft_ema_step(e), WEFT_OK);
        /* 44 steps of a few roundings each; pow() and the referee's differ by one. */
        check_near(c, what, weft_ema_average(e, 0, NULL), weft_slice(c, want, 0, k, 1), type == WEFT_F64 ? 1e-14 :
                   1e-6);
    }
    CHECK_STR(weft_message(c), "");
    weft_ema_free(e);
    weft_st_close(f);
    CLOSE(c);
}

TEST(averages_are_the_referees) {
    const int count = 1 + has_f64();
    for (int t = 0; t < count; t++) {
        const weft_dtype type = t ? WEFT_F64 : WEFT_F32;
#define EMA(kind, name, ...) do { \
        weft_ema_options o = weft_ema_defaults(WEFT_EMA_##kind); \
        __VA_ARGS__; \
        check_ema(name, o, type); \
    } while (0)
        EMA(DIFFUSERS, "diffusers", (void)o);
        EMA(DIFFUSERS, "diffusers_warmup", o.decay = 0.8, o.use_warmup = true, o.power = 0.75, o.inv_gamma = 2,
            o.update_after_step = 4);
        EMA(DIFFUSERS, "diffusers_min", o.decay = 0.7, o.min_decay = 0.5, o.update_after_step = 3);
        EMA(LUCIDRAINS, "lucidrains", (void)o);
        EMA(LUCIDRAINS, "lucidrains_every", o.decay = 0.8, o.update_every = 3, o.update_after_step = 7);
        EMA(LUCIDRAINS, "lucidrains_min", o.decay = 0.9, o.update_every = 1, o.update_after_step = 2, o.min_decay = 0.6,
            o.power = 0.75, o.inv_gamma = 2);
#undef EMA
    }
}

/* Averages take the parameters' place and give it back to the bit; what would spoil them in between is refused. */
TEST(swapping) {
    static const weft_dtype types[] = { WEFT_F32, WEFT_BF16, WEFT_F64 };
    const int count = 2 + has_f64();
    for (int t = 0; t < count; t++) {
        weft_ctx *c = open_device("cpu");
        weft_ema_options options = weft_ema_defaults(WEFT_EMA_DIFFUSERS);
        weft_tensor *p = noisy(c, types[t], 3, WEFT_SHAPE(40)), *start = noisy(c, types[t], 3, WEFT_SHAPE(40));
        weft_tensor *moved = noisy(c, types[t], 4, WEFT_SHAPE(40));
        weft_ema *e = weft_ema_new(c, &options);
        CHECK_EQ(weft_ema_add(e, "w", p) | weft_update_copy(c, p, moved), WEFT_OK);
        CHECK_EQ(weft_ema_swap(e), WEFT_OK);
        CHECK(weft_ema_swapped(e));
        check_near(c, "swapped in", p, start, 0);
        CHECK(weft_ema_step(e));
        CHECK_ERROR(c, WEFT_E_ARGUMENT, "swap back first");
        CHECK(weft_ema_save(e, "/tmp/never"));
        CHECK_ERROR(c, WEFT_E_ARGUMENT, "swap back first");
        CHECK_EQ(weft_ema_swap(e), WEFT_OK);
        check_near(c, "swapped back", p, moved, 0);
        weft_ema_free(e);
        CLOSE(c);
    }
}

TEST(averages_go_through_a_file) {
    const char *folder = folder_new(), *path = in(folder, "ema.safetensors");
    weft_ctx *c = open_device("cpu");
    weft_ema_options options = weft_ema_defaults(WEFT_EMA_LUCIDRAINS);
    options.update_every = 2, options.update_after_step = 1;
    weft_tensor *p = noisy(c, WEFT_F32, 3, WEFT_SHAPE(40));
    weft_ema *a = weft_ema_new(c, &options), *b = weft_ema_new(c, &options);
    CHECK_EQ(weft_ema_add(a, "w", p) | weft_ema_add(b, "w", p), WEFT_OK);
    for (int k = 0; k < 10; k++) {
        if (k == 5) CHECK_EQ(weft_ema_save(a, path) | weft_ema_load(b, path), WEFT_OK);
        CHECK_EQ(weft_update_copy(c, p, noisy(c, WEFT_F32, (uint64_t)k, WEFT_SHAPE(40))), WEFT_OK);
        CHECK_EQ(weft_ema_step(a), WEFT_OK);
        if (k >= 5) CHECK_EQ(weft_ema_step(b), WEFT_OK);
    }
    check_near(c, "resumed", weft_ema_average(b, 0, NULL), weft_ema_average(a, 0, NULL), 0);
    CHECK(weft_ema_decay(a) > 0 && weft_ema_decay(a) == weft_ema_decay(b));
    options.update_every = 0;
    CHECK(!weft_ema_new(c, &options));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "update_every ≥ 1");
    weft_ema_free(a);
    weft_ema_free(b);
    folder_drop(folder);
    CLOSE(c);
}

/* ---- schedules --------------------------------------------------------------------------------------------------- */

TEST(schedules) {
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
#define LR(id, name, ...) do { \
        weft_lr_schedule s = weft_lr_defaults(WEFT_LR_##id); \
        __VA_ARGS__; \
        double *want = values_of(c, golden(c, f, false, "lr." name)); \
        for (int k = 0; want && k < 45; k++) { \
            double got = weft_lr_factor(&s, 0.5, k); \
            if (!(fabs(got - want[k]) <= 1e-15)) \
                TEST_FAIL("%s, step %d: %.17g, expected %.17g", name, k, got, want[k]); \
        } \
        free(want); \
    } while (0)     /* doubles on both sides, and the referee's went through a multiplication by 0.5 and back */
    LR(CONSTANT, "constant", (void)s);
    LR(CONSTANT_WITH_WARMUP, "constant_with_warmup", s.warmup = 6);
    LR(LINEAR, "linear", s.warmup = 5, s.total = 40);
    LR(LINEAR, "linear_cold", s.total = 30);
    LR(COSINE, "cosine", s.warmup = 5, s.total = 40);
    LR(COSINE_WITH_RESTARTS, "cosine_with_restarts", s.warmup = 4, s.total = 40, s.cycles = 3);
    LR(POLYNOMIAL, "polynomial", s.warmup = 5, s.total = 40, s.power = 2);
    LR(POLYNOMIAL, "polynomial_end", s.warmup = 3, s.total = 30, s.end = 0.01, s.power = 1.5);
    LR(PIECEWISE_CONSTANT, "piecewise_constant", CHECK(weft_lr_rules(c, &s, "1:10,0.1:20,0.01:30,0.005")));
    LR(PIECEWISE_CONSTANT, "piecewise_constant", CHECK(weft_lr_rules(c, &s, "0.01:30,7:10,0.1:20,1:10,0.005")));
#undef LR
    static const char *const bad[] = { "", "1:", "1:10", "1:10,", "x", "1:x,2", "1;2", "inf", "1:2,3:4,5 " };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weft_lr_schedule s = weft_lr_defaults(WEFT_LR_PIECEWISE_CONSTANT);
        if (weft_lr_rules(c, &s, bad[i])) TEST_FAIL("\"%s\" is taken for step rules", bad[i]);
        CHECK_ERROR(c, WEFT_E_ARGUMENT, "FACTOR:STEP");
    }
    for (int k = 0; k < WEFT_LR_COUNT; k++) CHECK_EQ(weft_lr_of(weft_lr_name((weft_lr_kind)k)), k);
    weft_st_close(f);
    CLOSE(c);
}

TEST_MAIN
