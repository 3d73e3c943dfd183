/* `weft bench`: whole training steps, and what optimisers do at full size.
 *
 * A step is what a training loop does: the model forwards, the mean square of prediction − noise backwards, all gradients
 * clipped to a norm of 1, AdamW, and moving averages by diffusers' rule. tests/bench/training.py has the same steps in
 * PyTorch.
 */
#include <stdlib.h>
#include "lua/bench.h"
#include "nodes/text/clip_text.h"
#include "nodes/train/ema.h"
#include "nodes/train/optim.h"

struct bench_training {
    weft_unet_config unet;
    weft_clip_text_config text;
    weft_tree *base;                /* of a LoRA: the tree below s->tree */
    weft_optim *optim;
    weft_ema *ema;
    int64_t count;
    weft_tensor **params, **grads;  /* what s->tree trains, borrowed */
    bool owns_grads;
};

void bench_training_free(struct bench_training *t) {
    if (!t) return;
    weft_optim_free(t->optim);
    weft_ema_free(t->ema);
    weft_tree_free(t->base);
    for (int64_t i = 0; t->owns_grads && i < t->count; i++) weft_unref(t->grads[i]);
    free(t->params);
    free(t->grads);
    free(t);
}

/* ---- a step -------------------------------------------------------------------------------------------------- */

static struct bench_training *training_new(weft_ctx *c, bench_state *s) {
    s->training = calloc(1, sizeof *s->training);
    if (!s->training) weft_fail(c, WEFT_E_MEMORY, "out of memory");
    return s->training;
}

/* All that s->tree trains. */
static void list_params(weft_ctx *c, bench_state *s) {
    struct bench_training *t = s->training;
    const int64_t most = s->tree ? weft_tree_count(s->tree) : 0;
    t->params = calloc((size_t)most + 1, sizeof *t->params);
    t->grads = calloc((size_t)most + 1, sizeof *t->grads);
    if (!t->params || !t->grads) weft_fail(c, WEFT_E_MEMORY, "out of memory");
    while (weft_ok(c) && (t->params[t->count] = weft_tree_trainable(s->tree, t->count, NULL))) t->count++;
}

static void make_optimiser(weft_ctx *c, bench_state *s) {
    struct bench_training *t = s->training;
    char name[32];
    const weft_optim_options options = weft_optim_defaults(WEFT_OPTIM_ADAMW);
    t->optim = weft_optim_new(c, &options);
    for (int64_t i = 0; weft_ok(c) && i < t->count; i++) {
        snprintf(name, sizeof name, "%lld", (long long)i);
        if (weft_optim_add(t->optim, 0, name, t->params[i])) break;
    }
}

static void make_averages(weft_ctx *c, bench_state *s) {
    struct bench_training *t = s->training;
    const weft_ema_options options = weft_ema_defaults(WEFT_EMA_DIFFUSERS);
    t->ema = weft_ema_new(c, &options);
    for (int64_t i = 0; weft_ok(c) && i < t->count; i++)
        if (weft_ema_add(t->ema, "weight", t->params[i])) break;        /* names matter to files alone */
}

/* Clipping, the optimiser, the averages, and no gradients any more. */
static void finish_step(weft_ctx *c, bench_state *s) {
    struct bench_training *t = s->training;
    for (int64_t i = 0; i < t->count; i++) t->grads[i] = weft_grad(t->params[i]);
    if (weft_clip_grad_norm(c, t->count, t->grads, 1, false, NULL)) return;
    if (weft_optim_step(t->optim, t->grads)) return;
    if (t->ema && weft_ema_step(t->ema)) return;
    weft_tree_zero_grad(s->tree);
}

/* The gradients of the mean square of x − s->in[3]. */
static void descend(weft_ctx *c, bench_state *s, weft_tensor *x) {
    weft_tensor *d = weft_subtract(c, x, s->in[3]);
    weft_tensor *loss = weft_reduce_all(c, WEFT_REDUCE_MEAN, weft_mul(c, d, d));
    if (weft_backward(c, loss, NULL)) { /* told */ }
}

static void unet_step(weft_ctx *c, bench_state *s) {
    const weft_unet_inputs in = { .sample = s->in[0], .timesteps = s->in[1], .context = s->in[2] };
    if (weft_tape_begin(c)) return;
    descend(c, s, weft_unet2d_condition(c, weft_root(s->tree), &s->training->unet, &in));
    weft_tape_end(c);
    finish_step(c, s);
}

/* A UNet's weights and inputs: n pictures of `side` pixels, one timestep each, 77 tokens. */
static void make_unet(weft_ctx *c, bench_state *s, const weft_unet_config *config, int64_t n, int64_t side,
                      weft_dtype type) {
    struct bench_training *t = training_new(c, s);
    if (!t) return;
    t->unet = *config;
    if (s->o->batch) n = s->o->batch;
    bench_make_tree(c, s, "unet", weft_unet_walk, &t->unet, type);
    s->in[0] = bench_noise(c, s, WEFT_SHAPE(n, side, side, config->in_channels));
    s->in[1] = weft_ref(weft_full(c, WEFT_F32, WEFT_SHAPE(n), 500));
    if (!config->pixel_attention) s->in[2] = bench_noise(c, s, WEFT_SHAPE(n, 77, config->context));
    s->in[3] = bench_noise(c, s, WEFT_SHAPE(n, side, side, config->out_channels));
}

static void train_all(weft_ctx *c, bench_state *s) {
    if (!weft_ok(c) || weft_tree_train(c, s->tree, NULL, true)) return;
    list_params(c, s);
    make_optimiser(c, s);
    make_averages(c, s);
}

/* ---- the models ---------------------------------------------------------------------------------------------- */

/* The UNet2DModel of diffusers' tutorial on unconditional training: 114 million weights. */
static void ddpm_setup(weft_ctx *c, bench_state *s) {
    const weft_unet_config config = {
        .pixel_attention = true, .in_channels = 3, .out_channels = 3, .blocks = 6,
        .channels = { 128, 128, 256, 256, 512, 512 }, .layers = { 2, 2, 2, 2, 2, 2 }, .down_attention = { [4] = true },
        .up_attention = { [1] = true }, .mid = WEFT_UNET_MID_ATTENTION, .head_width = 8, .norm_groups = 32,
        .norm_eps = 1e-5, .downsample_padding = 1, .conv_in_kernel = 3, .conv_out_kernel = 3, .flip_sin_to_cos = true,
    };
    make_unet(c, s, &config, 4, s->o->size ? s->o->size : 64, WEFT_F32);
    train_all(c, s);
}

/* The UNet of examples/models/shapes. */
static void shapes_setup(weft_ctx *c, bench_state *s) {
    const weft_unet_config config = {
        .in_channels = 4, .out_channels = 4, .blocks = 3, .channels = { 64, 96, 112 }, .layers = { 1, 1, 1 },
        .down_attention = { true, true, false }, .up_attention = { false, true, true }, .mid = WEFT_UNET_MID_ATTENTION,
        .heads = { 4, 4, 4 }, .depth = { 1, 1, 1 }, .context = 96, .norm_groups = 16, .norm_eps = 1e-5,
        .downsample_padding = 1, .conv_in_kernel = 3, .conv_out_kernel = 3, .flip_sin_to_cos = true,
    };
    make_unet(c, s, &config, 16, s->o->size ? s->o->size / 4 : 16, WEFT_F32);
    train_all(c, s);
}

/* Its text encoder. */
static void text_setup(weft_ctx *c, bench_state *s) {
    struct bench_training *t = training_new(c, s);
    if (!t) return;
    t->text = (weft_clip_text_config){ .vocabulary = 616, .width = 96, .inner = 384, .layers = 3, .spread = 1, .heads = 4, .positions = 77,
                                       .act = WEFT_ACT_QUICK_GELU, .norm_eps = 1e-5, .eos = 615 };
    const int64_t n = s->o->batch ? s->o->batch : 16;
    bench_make_tree(c, s, "text_encoder", weft_clip_text_walk, &t->text, WEFT_F32);
    s->in[0] = weft_ref(weft_randint(c, s->rng, 0, 614, WEFT_SHAPE(n, 77)));
    s->in[3] = bench_noise(c, s, WEFT_SHAPE(n, 77, t->text.width));
    train_all(c, s);
}

static void text_step(weft_ctx *c, bench_state *s) {
    weft_clip_text_outputs out = { 0 };
    const weft_clip_text_inputs in = { .ids = s->in[0], .type = WEFT_F32, .layer = -1, .final_norm = true };
    if (weft_tape_begin(c)) return;
    if (!weft_clip_text(c, weft_root(s->tree), &s->training->text, &in, &out)) descend(c, s, out.hidden);
    weft_tape_end(c);
    finish_step(c, s);
}

/* Adapters of rank 4 beside the attention's layers of Stable Diffusion 1.5's UNet, whose weights, frozen, have the type
 * that --dtype asks for. As most do it, without averages. */
static void lora_setup(weft_ctx *c, bench_state *s) {
    static const char *const targets[] = { "to_q", "to_k", "to_v", "to_out.0", NULL };
    make_unet(c, s, &weft_unet_sd15, 1, s->o->size ? s->o->size / 8 : 32, bench_dtype(s));
    if (!weft_ok(c)) return;
    s->training->base = s->tree;
    s->tree = weft_tree_overlay(c, s->tree);
    if (!s->tree || weft_tree_make_adapters(c, s->tree, targets, 4, 4, WEFT_F32, 1)) return;
    if (weft_tree_train(c, s->tree, NULL, true)) return;
    list_params(c, s);
    make_optimiser(c, s);
    weft_set_recompute(c, true);
}

#define AGAIN(name) static void name##_again_setup(weft_ctx *c, bench_state *s) { name##_setup(c, s); weft_set_recompute(c, true); }
AGAIN(ddpm)
AGAIN(shapes)
#undef AGAIN

/* ---- an optimiser's parts at full size: the 859 million weights of Stable Diffusion 1.5's UNet ---------------------- */

static bool make_weights(weft_ctx *c, bench_state *s) {
    if (!training_new(c, s)) return false;
    bench_make_tree(c, s, "unet", weft_unet_walk, &weft_unet_sd15, WEFT_F32);
    return weft_ok(c) && weft_tree_train(c, s->tree, NULL, true) == WEFT_OK;
}

/* With gradients that are all 1e-3: what they are does not matter to the time. */
static void adamw_setup(weft_ctx *c, bench_state *s) {
    if (!make_weights(c, s)) return;
    struct bench_training *t = s->training;
    list_params(c, s);
    make_optimiser(c, s);
    t->owns_grads = true;
    for (int64_t i = 0; weft_ok(c) && i < t->count; i++) {
        weft_scope scope = weft_scope_named(c, "gradients");
        t->grads[i] = weft_ref(weft_full(c, WEFT_F32, weft_rank(t->params[i]), weft_shape(t->params[i]), 1e-3));
        weft_scope_end(c, scope, NULL);
    }
}

static void adamw_run(weft_ctx *c, bench_state *s) {
    (void)c;
    if (weft_optim_step(s->training->optim, s->training->grads)) { /* told */ }
}

static void ema_setup(weft_ctx *c, bench_state *s) {
    if (!make_weights(c, s)) return;
    list_params(c, s);
    make_averages(c, s);
}

static void ema_run(weft_ctx *c, bench_state *s) {
    (void)c;
    if (weft_ema_step(s->training->ema)) { /* told */ }
}

/* The weights stand for gradients. */
static void clip_setup(weft_ctx *c, bench_state *s) {
    if (make_weights(c, s)) list_params(c, s);
}

static void clip_run(weft_ctx *c, bench_state *s) {
    if (weft_clip_grad_norm(c, s->training->count, s->training->params, 1, false, NULL)) { /* told */ }
}

const bench bench_trainings[] = {
    { "train-ddpm", "a step of diffusers' tutorial UNet2DModel, batch 4, 64×64 pixels", .setup = ddpm_setup, .run = unet_step },
    { "train-ddpm-again", "the same, blocks run again instead of kept", .setup = ddpm_again_setup, .run = unet_step },
    { "train-shapes", "a step of the UNet of examples/models/shapes, batch 16", .setup = shapes_setup, .run = unet_step },
    { "train-shapes-again", "the same, blocks run again", .setup = shapes_again_setup, .run = unet_step },
    { "train-shapes-text", "a step of its text encoder, batch 16", .setup = text_setup, .run = text_step },
    { "train-lora", "a LoRA step of rank 4 on SD 1.5's UNet, 32×32 latents, blocks run again", .setup = lora_setup, .run = unet_step },
    { "adamw", "AdamW over 859 million weights (14 GB)", .setup = adamw_setup, .run = adamw_run },
    { "ema", "moving averages of 859 million weights (7 GB)", .setup = ema_setup, .run = ema_run },
    { "clip", "the norm and clipping of 859 million gradients (3.5 GB)", .setup = clip_setup, .run = clip_run },
    { 0 },
};
