/* `weft bench`: times models and operations, so that anyone can check what docs/performance.md says.
 *
 * A benchmark has one warm-up (weights are packed, memory is found; on a GPU a second, in which the evaluation is recorded) and then
 * as many timed runs as asked; the median counts. Models have Stable Diffusion 1.5's shapes, or SDXL's, and weights made from a seed.
 * "gflops" counts multiplications and additions of the plain algorithm (a Winograd convolution can so pass the machine's peak);
 * "peak_bytes" is the most that tensors, packed weights and scratch held; "peak_resident_bytes" is the process's, by the system's account.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include "lua/bench.h"
#include "lua/cli.h"
#include "lua/commands.h"
#include "nodes/sampling/scheduler.h"
#include "nodes/text/clip_text.h"
#include "nodes/vae/autoencoder_kl.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* f32; on a GPU of the type that is asked for. */
weft_tensor *bench_noise(weft_ctx *c, bench_state *s, int rank, const int64_t *shape) {
    weft_tensor *t = weft_randn(c, s->rng, WEFT_F32, rank, shape);
    return weft_ref(weft_backend(c)->wait ? weft_cast(c, t, bench_dtype(s)) : t);
}

weft_dtype bench_dtype(const bench_state *s) {
    static const weft_dtype types[] = { WEFT_F32, WEFT_F16, WEFT_BF16 };
    return types[s->o->dtype];
}

void bench_make_tree(weft_ctx *c, bench_state *s, const char *name, weft_walk_fn *walk, const void *config,
                     weft_dtype type) {
    s->tree = weft_tree_new(c, name);
    if (!s->tree) return;
    weft_tree_make(s->tree, type, 0);
    weft_tree_set_frozen(s->tree, true);
    if (weft_tree_check(c, s->tree, walk, (void *)config, false)) return;
}

/* ---- models --------------------------------------------------------------------------------------------- */

static void unet_setup(weft_ctx *c, bench_state *s) {
    int64_t n = s->o->batch ? s->o->batch : 2, side = s->o->size ? s->o->size / 8 : 64;
    bench_make_tree(c, s, "unet", weft_unet_walk, &weft_unet_sd15, bench_dtype(s));
    s->in[0] = bench_noise(c, s, WEFT_SHAPE(n, side, side, 4));
    s->in[1] = weft_ref(weft_full(c, WEFT_F32, WEFT_SHAPE(n), 500));
    s->in[2] = bench_noise(c, s, WEFT_SHAPE(n, 77, 768));
}

static void unet_run(weft_ctx *c, bench_state *s) {
    weft_unet_predict(c, weft_root(s->tree), &weft_unet_sd15,
                      &(weft_unet_inputs){ .sample = s->in[0], .timesteps = s->in[1], .context = s->in[2] });
}

/* 1024×1024 pixels; sizes, crops and pooled text as SDXL takes them. */
static void sdxl_setup(weft_ctx *c, bench_state *s) {
    int64_t n = s->o->batch ? s->o->batch : 2, side = s->o->size ? s->o->size / 8 : 128;
    bench_make_tree(c, s, "unet", weft_unet_walk, &weft_unet_sdxl, bench_dtype(s));
    s->in[0] = bench_noise(c, s, WEFT_SHAPE(n, side, side, 4));
    s->in[1] = weft_ref(weft_full(c, WEFT_F32, WEFT_SHAPE(n), 500));
    s->in[2] = bench_noise(c, s, WEFT_SHAPE(n, 77, 2048));
    s->in[3] = bench_noise(c, s, WEFT_SHAPE(n, 1280));
    s->in[4] = weft_ref(weft_full(c, WEFT_F32, WEFT_SHAPE(n, 6), 8.0 * (double)side));
}

static void sdxl_run(weft_ctx *c, bench_state *s) {
    weft_unet_predict(c, weft_root(s->tree), &weft_unet_sdxl,
                      &(weft_unet_inputs){ .sample = s->in[0], .timesteps = s->in[1], .context = s->in[2], .text_embeds = s->in[3],
                                           .time_ids = s->in[4] });
}

/* A whole sampling: euler over SAMPLE_STEPS levels, both texts as one batch, guidance 7.5. */
enum { SAMPLE_STEPS = 20 };

static void sample_setup(weft_ctx *c, bench_state *s) {
    int64_t n = s->o->batch ? s->o->batch : 1, side = s->o->size ? s->o->size / 8 : 64;
    bench_make_tree(c, s, "unet", weft_unet_walk, &weft_unet_sd15, bench_dtype(s));
    s->in[0] = weft_ref(weft_randn(c, s->rng, WEFT_F32, WEFT_SHAPE(n, side, side, 4)));
    s->in[2] = bench_noise(c, s, WEFT_SHAPE(2 * n, 77, 768));
}

static weft_tensor *sample_step(weft_ctx *c, bench_state *s, const weft_scheduler *k, int i, weft_tensor *x, weft_sampler_state *state) {
    const float t = (float)k->levels[i].timestep;
    const int64_t n = weft_dim(x, 0);
    weft_tensor *seen = weft_affine(c, x, k->levels[i].input, 0);
    weft_tensor *both = weft_unet_predict(c, weft_root(s->tree), &weft_unet_sd15,
                                          &(weft_unet_inputs){ .sample = weft_concat2(c, 0, seen, seen), .context = s->in[2],
                                                               .timesteps = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1), &t) });
    weft_tensor *out = weft_cfg_mix(c, weft_slice(c, both, 0, 0, n), weft_slice(c, both, 0, n, n), 7.5);
    return weft_scheduler_step(c, k, i, x, out, WEFT_PREDICTION_EPSILON, state, NULL);
}

static void sample_run(weft_ctx *c, bench_state *s) {
    const weft_scheduler_kind *const *kind = weft_scheduler_kinds;
    while (strcmp((*kind)->name, "euler_discrete")) kind++;
    weft_scheduler_config config = weft_scheduler_config_sd(WEFT_PREDICTION_EPSILON);
    weft_scheduler *k = weft_scheduler_new(c, *kind, &config, 0, SAMPLE_STEPS);
    weft_scheduler_config_free(&config);
    weft_sampler_state state;
    if (!k || !weft_sampler_state_begin(c, k, 0, &state)) return;
    weft_tensor *x = weft_ref(weft_scheduler_add_noise(c, k, 0, NULL, s->in[0]));
    for (int i = 0; i < k->count && weft_ok(c); i++) {
        weft_scope step = weft_scope_named(c, "step");
        weft_tensor *next = weft_ref(sample_step(c, s, k, i, x, &state));
        weft_scope_end(c, step, NULL);
        weft_unref(x);
        x = next;
    }
    weft_unref(x);
    weft_sampler_state_end(&state);
    weft_object_unref(&k->object);
}

/* Half of Stable Diffusion 1.5's UNet in width: 138 million weights, all of them trained. */
static weft_unet_config half_unet(void) {
    weft_unet_config config = weft_unet_sd15;
    for (int i = 0; i < config.blocks; i++) config.channels[i] = i < 2 ? 128 << i : 512;
    return config;
}

static void train_setup(weft_ctx *c, bench_state *s) {
    weft_unet_config config = half_unet();
    int64_t n = s->o->batch ? s->o->batch : 2, side = s->o->size ? s->o->size / 8 : 64;
    bench_make_tree(c, s, "unet", weft_unet_walk, &config, bench_dtype(s));
    s->in[0] = bench_noise(c, s, WEFT_SHAPE(n, side, side, 4));
    s->in[1] = weft_ref(weft_full(c, WEFT_F32, WEFT_SHAPE(n), 500));
    s->in[2] = bench_noise(c, s, WEFT_SHAPE(n, 77, 768));
    s->in[3] = bench_noise(c, s, WEFT_SHAPE(n, side, side, 4));
    if (s->tree && weft_tree_train(c, s->tree, NULL, true)) return;
}

static void again_setup(weft_ctx *c, bench_state *s) {
    train_setup(c, s);
    weft_set_recompute(c, true);
}

/* The gradients of the mean square of prediction − noise, without the optimiser's step. */
static void train_run(weft_ctx *c, bench_state *s) {
    weft_unet_config config = half_unet();
    weft_unet_inputs in = { .sample = s->in[0], .timesteps = s->in[1], .context = s->in[2] };
    weft_tree_zero_grad(s->tree);
    if (weft_tape_begin(c)) return;
    weft_tensor *d = weft_subtract(c, weft_unet2d_condition(c, weft_root(s->tree), &config, &in), s->in[3]);
    weft_tensor *loss = weft_reduce_all(c, WEFT_REDUCE_MEAN, weft_mul(c, d, d));
    if (weft_backward(c, loss, NULL)) { /* told */ }
    weft_tape_end(c);
}

static void text_setup(weft_ctx *c, bench_state *s) {
    int64_t n = s->o->batch ? s->o->batch : 2;
    bench_make_tree(c, s, "text_encoder", weft_clip_text_walk, &weft_clip_text_l14, bench_dtype(s));
    s->in[0] = weft_ref(weft_randint(c, s->rng, 0, 49000, WEFT_SHAPE(n, 77)));
}

static void text_run(weft_ctx *c, bench_state *s) {
    weft_clip_text_outputs out;
    if (weft_clip_text(c, weft_root(s->tree), &weft_clip_text_l14,
                       &(weft_clip_text_inputs){ .ids = s->in[0], .type = WEFT_F32, .layer = -1, .final_norm = true }, &out)) return;
}

static void decode_setup(weft_ctx *c, bench_state *s) {
    int64_t n = s->o->batch ? s->o->batch : 1, side = s->o->size ? s->o->size / 8 : 64;
    bench_make_tree(c, s, "vae", weft_vae_walk_decoder, &weft_vae_sd, bench_dtype(s));
    s->in[0] = bench_noise(c, s, WEFT_SHAPE(n, side, side, 4));
}

static void decode_run(weft_ctx *c, bench_state *s) { weft_vae_decode(c, weft_root(s->tree), &weft_vae_sd, s->in[0]); }

static void encode_setup(weft_ctx *c, bench_state *s) {
    int64_t n = s->o->batch ? s->o->batch : 1, side = s->o->size ? s->o->size : 512;
    bench_make_tree(c, s, "vae", weft_vae_walk_encoder, &weft_vae_sd, bench_dtype(s));
    s->in[0] = bench_noise(c, s, WEFT_SHAPE(n, side, side, 3));
}

static void encode_run(weft_ctx *c, bench_state *s) { weft_vae_encode(c, weft_root(s->tree), &weft_vae_sd, s->in[0]); }

/* ---- operations: the shapes that an SD 1.5 UNet and its decoder spend their time in -------------------------------------- */

typedef struct op_case { int64_t a, b, c, d, e; } op_case;

static void gemm_setup(weft_ctx *c, bench_state *s) {       /* rows, inputs, outputs */
    s->in[0] = bench_noise(c, s, WEFT_SHAPE(s->op->a, s->op->b));
    s->in[1] = bench_noise(c, s, WEFT_SHAPE(s->op->c, s->op->b));
}
static weft_tensor *gemm_op(weft_ctx *c, bench_state *s) { return weft_linear(c, s->in[0], s->in[1], NULL, WEFT_ACT_NONE, NULL); }

static void conv_setup(weft_ctx *c, bench_state *s) {       /* images, side, inputs, outputs */
    s->in[0] = bench_noise(c, s, WEFT_SHAPE(s->op->a, s->op->b, s->op->b, s->op->c));
    s->in[1] = bench_noise(c, s, WEFT_SHAPE(s->op->d, s->op->c, 3, 3));
}
static weft_tensor *conv_op(weft_ctx *c, bench_state *s) { return weft_conv2d(c, s->in[0], s->in[1], NULL, WEFT_CONV_SAME(3), NULL, NULL); }

static void attention_setup(weft_ctx *c, bench_state *s) {  /* images, queries, keys, heads, width */
    s->in[0] = bench_noise(c, s, WEFT_SHAPE(s->op->a, s->op->b, s->op->d, s->op->e));
    s->in[1] = bench_noise(c, s, WEFT_SHAPE(s->op->a, s->op->c, s->op->d, s->op->e));
    s->in[2] = bench_noise(c, s, WEFT_SHAPE(s->op->a, s->op->c, s->op->d, s->op->e));
}
static weft_tensor *attention_op(weft_ctx *c, bench_state *s) { return weft_attention(c, s->in[0], s->in[1], s->in[2], 0, false); }

static void norm_setup(weft_ctx *c, bench_state *s) {       /* images, side, channels */
    s->in[0] = bench_noise(c, s, WEFT_SHAPE(s->op->a, s->op->b, s->op->b, s->op->c));
    s->in[1] = bench_noise(c, s, WEFT_SHAPE(s->op->c));
    s->in[2] = bench_noise(c, s, WEFT_SHAPE(s->op->c));
}
static weft_tensor *norm_op(weft_ctx *c, bench_state *s) { return weft_group_norm(c, s->in[0], 32, 1e-5, s->in[1], s->in[2], WEFT_ACT_SILU); }

static const op_case gemm_cases[] = { { 8192, 320, 320, 0, 0 }, { 8192, 320, 2560, 0, 0 }, { 8192, 1280, 320, 0, 0 }, { 2048, 640, 5120, 0, 0 },
                                      { 512, 1280, 10240, 0, 0 }, { 154, 768, 768, 0, 0 }, { 2048, 2048, 2048, 0, 0 }, { 0 } };
static const op_case conv_cases[] = { { 2, 64, 320, 320, 0 }, { 2, 32, 640, 640, 0 }, { 2, 16, 1280, 1280, 0 }, { 2, 8, 1280, 1280, 0 }, { 2, 16, 2560, 1280, 0 },
                                      { 2, 64, 960, 320, 0 }, { 1, 64, 512, 512, 0 }, { 1, 128, 512, 512, 0 }, { 1, 256, 256, 256, 0 }, { 1, 512, 128, 128, 0 }, { 0 } };
static const op_case attention_cases[] = { { 2, 4096, 4096, 8, 40 }, { 2, 1024, 1024, 8, 80 }, { 2, 256, 256, 8, 160 }, { 2, 64, 64, 8, 160 }, { 2, 4096, 77, 8, 40 },
                                           { 1, 4096, 4096, 1, 512 }, { 0 } };
static const op_case norm_cases[] = { { 2, 64, 320, 0, 0 }, { 2, 32, 640, 0, 0 }, { 1, 512, 128, 0, 0 }, { 0 } };


/* What a training step of a small UNet on pixels, and one of SD 1.5's, spend their time in. */
static const op_case gemm_grad_cases[] = { { 4096, 320, 320, 0, 0 }, { 4096, 320, 2560, 0, 0 }, { 4096, 1280, 320, 0, 0 }, { 1024, 640, 5120, 0, 0 },
                                           { 256, 1280, 1280, 0, 0 }, { 77, 768, 320, 0, 0 }, { 16384, 128, 128, 0, 0 }, { 0 } };
static const op_case conv_grad_cases[] = { { 16, 16, 64, 64, 0 }, { 16, 16, 128, 128, 0 }, { 16, 16, 256, 256, 0 }, { 4, 64, 128, 128, 0 }, { 1, 64, 320, 320, 0 },
                                           { 1, 32, 640, 640, 0 }, { 1, 16, 1280, 1280, 0 }, { 0 } };
static const op_case attention_grad_cases[] = { { 1, 4096, 4096, 8, 40 }, { 1, 1024, 1024, 8, 80 }, { 4, 256, 256, 8, 40 }, { 4, 256, 256, 8, 80 },
                                                { 1, 4096, 77, 8, 40 }, { 0 } };
static const op_case norm_grad_cases[] = { { 16, 16, 128, 0, 0 }, { 4, 64, 128, 0, 0 }, { 1, 64, 320, 0, 0 }, { 1, 32, 640, 0, 0 }, { 0 } };

static const bench operations[] = {
    { "sd15-unet", "one UNet evaluation, batch 2, 64×64 latents, 77 tokens", .setup = unet_setup, .run = unet_run },
    { "sd15-sample", "20 steps of euler with guidance, 64×64 latents", .setup = sample_setup, .run = sample_run, .steps = SAMPLE_STEPS,
      .large = true },
    { "sdxl-unet", "SDXL's UNet, batch 2, 128×128 latents", .setup = sdxl_setup, .run = sdxl_run, .large = true },
    { "sd15-text", "the text encoder, batch 2, 77 tokens", .setup = text_setup, .run = text_run },
    { "vae-decode", "latent 64×64 to picture 512×512", .setup = decode_setup, .run = decode_run },
    { "vae-encode", "picture 512×512 to latent 64×64", .setup = encode_setup, .run = encode_run },
    { "train-unet", "gradients of a UNet of half the width, batch 2, 64×64 latents", .setup = train_setup, .run = train_run },
    { "train-again", "the same, blocks run again instead of kept", .setup = again_setup, .run = train_run },
    { "gemm", "linear layers: rows, inputs, outputs", .setup = gemm_setup, .op = gemm_op, .cases = gemm_cases },
    { "conv", "3×3 convolutions: images, side, inputs, outputs", .setup = conv_setup, .op = conv_op, .cases = conv_cases },
    { "attention", "attention: images, queries, keys, heads, width", .setup = attention_setup, .op = attention_op, .cases = attention_cases },
    { "norm", "GroupNorm + SiLU: images, side, channels", .setup = norm_setup, .op = norm_op, .cases = norm_cases },
    { "gemm-grad", "linear layers and their gradients", .setup = gemm_setup, .op = gemm_op, .cases = gemm_grad_cases, .gradients = true },
    { "conv-grad", "3×3 convolutions and their gradients", .setup = conv_setup, .op = conv_op, .cases = conv_grad_cases, .gradients = true },
    { "attn-grad", "attention and its gradients", .setup = attention_setup, .op = attention_op, .cases = attention_grad_cases, .gradients = true },
    { "norm-grad", "GroupNorm + SiLU and their gradients", .setup = norm_setup, .op = norm_op, .cases = norm_grad_cases, .gradients = true },
};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

/* The i-th of all; NULL past the end. */
static const bench *bench_at(int i) {
    if (i < OPERATIONS) return &operations[i];
    const bench *b = &bench_trainings[i - OPERATIONS];
    return b->name ? b : NULL;
}

/* ---- running -------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

/* What one benchmark on one shape gave; of several shapes: the sums, and the largest memory. */
typedef struct bench_result { double seconds, flops; size_t peak; int steps; } bench_result;

static void shape_text(const op_case *op, char *out, size_t size) {
    const int64_t v[] = { op->a, op->b, op->c, op->d, op->e };
    *out = 0;
    for (int i = 0; i < 5 && v[i]; i++) snprintf(out + strlen(out), size - strlen(out), "%s%lld", i ? ", " : "", (long long)v[i]);
}

static void print_line(const char *name, const op_case *op, const bench_result *r) {
    char shape[96] = "";
    if (op) shape_text(op, shape, sizeof shape);
    printf("%-18s %-26s %10.3f ms %9.2f it/s %9.1f GFLOP/s %9.1f MiB\n", name, shape, r->seconds * 1e3, r->steps / r->seconds,
           r->flops / r->seconds / 1e9, (double)r->peak / 0x1p20);
    fflush(stdout);
}

static void print_numbers(const bench_result *r) {
    printf("\"seconds\": %.6g, \"steps\": %d, \"gflops\": %.6g, \"peak_bytes\": %zu", r->seconds, r->steps, r->flops / r->seconds / 1e9, r->peak);
}

/* Once: the model, or the operation with, where wanted, its gradients. in[5] is the gradients' seed, made at the first run. */
static void run_once(weft_ctx *c, const bench *b, bench_state *s) {
    if (b->run) {
        b->run(c, s);
        return;
    }
    if (!b->gradients) {
        b->op(c, s);
        return;
    }
    for (int i = 0; i < 5; i++)
        if (s->in[i]) weft_zero_grad(s->in[i]);
    if (weft_tape_begin(c)) return;
    weft_tensor *y = b->op(c, s);
    if (y && !s->in[5]) {
        int64_t shape[WEFT_MAX_RANK];
        for (int d = 0; d < weft_rank(y); d++) shape[d] = weft_dim(y, d);
        s->in[5] = bench_noise(c, s, weft_rank(y), shape);
    }
    if (y && weft_backward(c, y, s->in[5])) { /* told */ }
    weft_tape_end(c);
}

static const char *const bench_types[] = { "f32", "f16", "bf16", NULL };
static bool is_gpu(const bench_options *o) { return !strncmp(o->device, "cuda", 4); }

/* The type where --dtype does not say: f32; on a GPU f16, bf16 for gradients, and f32 for weights that are trained, whose
 * activations are then bf16. */
static int default_dtype(const bench *b, const bench_options *o) {
    const bool trained = b->run == train_run || b < operations || b >= operations + OPERATIONS;
    return !is_gpu(o) || trained ? 0 : b->gradients ? 2 : 1;
}

/* One benchmark on one shape in a context of its own. */
static int measure(const bench *b, const op_case *op, const bench_options *given, bench_result *out) {
    bench_options own = *given;
    const bench_options *o = &own;
    const char *computed = is_gpu(o) && o->dtype >= 0 ? bench_types[o->dtype] : NULL;
    if (own.dtype < 0) own.dtype = default_dtype(b, o);
    weft_ctx *c = weft_ctx_new(&(weft_options){ .device = o->device, .threads = o->threads, .precision = (weft_precision)o->precision,
                                                .dtype = computed });
    if (!c) { fputs("weft bench: out of memory\n", stderr); return 1; }
    bench_state s = { .o = o, .op = op };
    double *seconds = calloc((size_t)o->runs, sizeof *seconds), flops = 0;
    weft_scope scope = weft_scope_named(c, b->name);
    s.rng = weft_rng_new(c, WEFT_RNG_CPU, 0);
    if (!seconds) weft_fail(c, WEFT_E_MEMORY, "out of memory");
    if (weft_ok(c)) b->setup(c, &s);
    for (int i = 0; b->gradients && i < 5; i++)
        if (s.in[i]) weft_set_requires_grad(s.in[i], true);
    for (int i = is_gpu(o) ? -2 : -1; i < o->runs && weft_ok(c); i++) {
        if (i == 0) weft_memory_reset_peak(c);
        weft_scope run = weft_scope_named(c, b->name);
        double before = weft_flops(c), start = now();
        run_once(c, b, &s);
        if (weft_wait(c)) break;
        if (i >= 0) seconds[i] = now() - start;
        flops = weft_flops(c) - before;
        weft_scope_end(c, run, NULL);
    }
    int status = weft_ok(c) ? 0 : 1;
    if (status) fprintf(stderr, "weft bench: %s\n", weft_message(c));
    else {
        qsort(seconds, (size_t)o->runs, sizeof *seconds, by_size);
        double median = o->runs % 2 ? seconds[o->runs / 2] : (seconds[o->runs / 2 - 1] + seconds[o->runs / 2]) / 2;
        *out = (bench_result){ median, flops, weft_memory_peak(c), b->steps ? b->steps : 1 };
    }
    weft_scope_end(c, scope, NULL);
    for (int i = 0; i < 6; i++) weft_unref(s.in[i]);
    weft_tree_free(s.tree);
    bench_training_free(s.training);
    weft_rng_free(s.rng);
    free(seconds);
    weft_ctx_free(c);
    return status;
}

/* All shapes of a benchmark. In JSON one object: the sums, and for operations each shape's own numbers in "cases". */
static int run_bench(const bench *b, const bench_options *o) {
    static const op_case none;
    const op_case *cases = b->cases;
    bench_result all = { 0 }, r = { 0 };
    if (o->json) printf("{\"name\": \"%s\", ", b->name);
    if (o->json && cases) fputs("\"cases\": [", stdout);
    for (const op_case *op = cases ? cases : &none; op == &none || op->a; op++) {
        if (measure(b, cases ? op : NULL, o, &r)) return 1;
        all = (bench_result){ all.seconds + r.seconds, all.flops + r.flops, r.peak > all.peak ? r.peak : all.peak, r.steps };
        if (!o->json) print_line(b->name, cases ? op : NULL, &r);
        else if (cases) {
            char shape[96];
            shape_text(op, shape, sizeof shape);
            printf("%s{\"shape\": [%s], ", op == cases ? "" : ", ", shape);
            print_numbers(&r);
            putchar('}');
        }
        if (op == &none) break;
    }
    if (!o->json) return 0;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    if (cases) fputs("], ", stdout);
    print_numbers(&all);
    printf(", \"peak_resident_bytes\": %zu}", (size_t)usage.ru_maxrss * 1024);
    return 0;
}

/* NULL after a message. */
static const bench *find_bench(const char *name) {
    const char *names[64], *near;
    int n = 0;
    for (const bench *b; n < 64 && (b = bench_at(n)); n++) {
        names[n] = b->name;
        if (!strcmp(name, b->name)) return b;
    }
    near = cli_nearest(name, names, n);
    fprintf(stderr, "weft bench: there is no benchmark \"%s\"%s%s%s\nSee: weft bench --help\n", name,
            near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return NULL;
}

int command_bench(int argc, char **argv) {
    static const char *const precisions[] = { "fast", "exact", NULL };
    const char *wish = getenv("WEFT_DEVICE");
    bench_options o = { .runs = 3, .device = wish && *wish ? wish : "cpu", .dtype = -1 };
    const cli_option options[] = {
        { "threads", CLI_INT, &o.threads, "N", "threads (default: one for each core)", 1, 1024, NULL },
        { "runs", CLI_INT, &o.runs, "N", "timed runs after one warm-up; the median counts (default 3)", 1, 1000, NULL },
        { "precision", CLI_CHOICE, &o.precision, "P", "fast (default) or exact", 0, 0, precisions },
        { "dtype", CLI_CHOICE, &o.dtype, "T", "type of the weights, and on a GPU of all: f32, f16, bf16 (default: f32; on a GPU f16, to train bf16)", 0, 0,
          bench_types },
        { "batch", CLI_INT, &o.batch, "N", "pictures at once, for models", 1, 64, NULL },
        { "size", CLI_INT, &o.size, "N", "the picture's side in pixels, for models (default 512)", 8, 8192, NULL },
        { "device", CLI_TEXT, &o.device, "NAME", "cpu (default, or what WEFT_DEVICE says), cuda, cuda:1 … or reference", 0, 0, NULL },
        { "json", CLI_FLAG, &o.json, NULL, "print JSON: one object a benchmark, in a list where there are several", 0, 0, NULL },
        { 0 } };
    char details[2048] = "Benchmarks (default: all of these; those with * on a GPU):";
    for (int i = 0; bench_at(i); i++)
        snprintf(details + strlen(details), sizeof details - strlen(details), "%s\n  %-18s %s%s",
                 i == OPERATIONS ? "\nTraining steps, when named:" : "", bench_at(i)->name, bench_at(i)->summary, bench_at(i)->large ? " *" : "");
    const cli_command command = { "bench", "[NAME …] [--threads N] [--json]", "Times models and operations on this machine.", details, options, 0, -1 };
    int count, parsed = cli_parse(&command, argc, argv, &count), status = 0;
    if (parsed != CLI_RUN) return parsed == CLI_HELP ? 0 : 1;
    const bench *chosen[64];
    int n = 0;
    for (int i = 0; i < count && n < 64; i++)
        if (!(chosen[n++] = find_bench(argv[i]))) return 1;
    for (int i = 0; i < OPERATIONS && !count; i++)
        if (!operations[i].large || is_gpu(&o)) chosen[n++] = &operations[i];
    if (o.json && n > 1) puts("[");
    for (int i = 0; i < n && !status; i++) {
        if (o.json && i) puts(",");
        status = run_bench(chosen[i], &o);
    }
    if (o.json) puts(n > 1 ? "\n]" : "");
    return status;
}
