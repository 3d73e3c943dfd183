/* UNetStep, CFGMix: one evaluation of the model, and guidance on what it predicts. */
#include <stdlib.h>

#include "nodes/sampling/guide.h"
#include "nodes/stage/stage.h"

/* ---- UNetStep -------------------------------------------------------------------------------------------------- */

struct unet_step {
    weft_model *model;
    weft_tensor *sample;
    double timestep;
    weft_tensor *timesteps, *context, *uncond_context, *concat, *self_cond;
    weft_tensor *prediction, *uncond;
};

static weft_tensor *text(weft_ctx *c, const struct unet_step *n, weft_tensor *t, const char *input) {
    char shape[96];
    if (!t) return NULL;
    if (weft_rank(t) == 3)
        return weft_to_batch(c, weft_contiguous(c, weft_cast(c, t, weft_type(n->sample))), weft_dim(n->sample, 0));
    weft_fail(c, WEFT_E_SHAPE, "%s: expected (N, tokens, width), found %s", input,
              weft_describe(t, shape, sizeof shape));
    return NULL;
}

/* Timesteps for `times` batches: one for all, or one an image. */
static weft_tensor *timesteps_of(weft_ctx *c, const struct unet_step *n, int times) {
    float one = (float)n->timestep;
    if (!n->timesteps) return weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1), &one);
    weft_tensor *t = weft_reshape(c, n->timesteps, WEFT_SHAPE(weft_count(n->timesteps)));
    if (weft_type(n->timesteps) != WEFT_F64) t = weft_cast(c, t, WEFT_F32);
    return times > 1 && weft_dim(t, 0) > 1 ? weft_concat2(c, 0, t, t) : t;
}

static weft_tensor *predict(weft_ctx *c, const struct unet_step *n, weft_tensor *sample, weft_tensor *context,
                            int times) {
    if (times > 1) sample = weft_concat2(c, 0, sample, sample);
    weft_unet_inputs in = { .sample = sample, .timesteps = timesteps_of(c, n, times), .context = context };
    if (n->self_cond && n->model->config.rms.self_condition)
        in.self_cond = weft_to_batch(c, n->self_cond, weft_dim(sample, 0));
    if (!weft_ok(c)) return NULL;
    return weft_unet_predict(c, weft_root(n->model->weights->tree), &n->model->config, &in);
}

static void unet_step_run(weft_ctx *c, void *self) {
    struct unet_step *n = self;
    char shape[96];
    if (weft_rank(n->sample) != 4) {
        weft_fail(c, WEFT_E_SHAPE, "sample: expected (N, height, width, channels), found %s",
                  weft_describe(n->sample, shape, sizeof shape));
        return;
    }
    weft_tensor *sample = n->sample, *context = text(c, n, n->context, "context"), *other = NULL;
    if (n->concat) sample = weft_concat2(c, 3, sample, weft_to_batch(c, n->concat, weft_dim(sample, 0)));
    if (n->uncond_context) other = text(c, n, n->uncond_context, "uncond_context");
    if (other && !context) weft_fail(c, WEFT_E_ARGUMENT, "uncond_context: there is no context that it goes with");
    if (!weft_ok(c)) return;
    int64_t images = weft_dim(sample, 0);
    if (!other || weft_dim(other, 1) != weft_dim(context, 1)) {
        n->prediction = predict(c, n, sample, context, 1);
        n->uncond = other ? predict(c, n, sample, other, 1) : n->prediction;
        return;
    }
    weft_tensor *both = predict(c, n, sample, weft_concat2(c, 0, context, other), 2);
    n->prediction = weft_contiguous(c, weft_slice(c, both, 0, 0, images));
    n->uncond = weft_contiguous(c, weft_slice(c, both, 0, images, images));
}

const weft_node weft_node_UNetStep = {
    .name = "UNetStep", .category = "stages/sampling", .size = sizeof(struct unet_step),
    .summary = "One evaluation of the UNet: what it predicts for noisy samples, with one text, or two as one batch.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct unet_step, model, "MODEL", "the model"),
        WEFT_TENSOR_IN(struct unet_step, sample, "(N, height, width, channels), scaled for the model"),
        WEFT_OPTIONAL_FLOAT_IN(struct unet_step, timestep, 0, 0, 1000000, 1, "the timestep of all images"),
        WEFT_OPTIONAL_TENSOR_IN(struct unet_step, timesteps, "TENSOR", "instead: one for each image"),
        WEFT_OPTIONAL_TENSOR_IN(struct unet_step, context, "TENSOR",
                                "(1 or N, tokens, width): the text; none for a UNet2DModel or Unet"),
        WEFT_OPTIONAL_TENSOR_IN(struct unet_step, uncond_context, "TENSOR", "a second text, for guidance"),
        WEFT_OPTIONAL_TENSOR_IN(struct unet_step, concat, "TENSOR",
                                "(1 or N, height, width, k): inpainting models' other channels"),
        WEFT_OPTIONAL_TENSOR_IN(struct unet_step, self_cond, "TENSOR",
                                "an earlier estimate of the picture, for a Unet with self_condition; others leave it"),
        { 0 } },
    .outputs = (const weft_port[]){
        WEFT_TENSOR_OUT(struct unet_step, prediction, "what the model predicts for context"),
        WEFT_TENSOR_OUT(struct unet_step, uncond, "for uncond_context; the same as prediction without one"), { 0 } },
    .run = unet_step_run,
};

/* ---- CFGMix ---------------------------------------------------------------------------------------------------- */

struct cfg_mix { weft_tensor *cond, *uncond; double scale, rescale; weft_tensor *prediction; };

/* Each image's spread around its mean, (N, 1, …). */
static weft_tensor *spread(weft_ctx *c, weft_tensor *t) {
    int64_t n = weft_dim(t, 0), ones[WEFT_MAX_RANK];
    for (int i = 0; i < weft_rank(t); i++) ones[i] = i ? 1 : n;
    weft_tensor *flat = weft_reshape(c, t, WEFT_SHAPE(n, -1));
    weft_tensor *mean = weft_reshape(c, weft_reduce(c, WEFT_REDUCE_MEAN, flat, 1), WEFT_SHAPE(n, 1));
    weft_tensor *square = weft_unary(c, WEFT_UNARY_SQUARE, weft_subtract(c, flat, mean));
    weft_tensor *root = weft_unary(c, WEFT_UNARY_SQRT, weft_reduce(c, WEFT_REDUCE_MEAN, square, 1));
    return weft_reshape(c, root, weft_rank(t), ones);
}

static void cfg_mix_run(weft_ctx *c, void *self) {
    struct cfg_mix *n = self;
    weft_tensor *mixed = weft_cfg_mix(c, n->cond, n->uncond, n->scale);
    if (n->rescale > 0 && weft_rank(n->cond) > 0) {
        weft_tensor *factor = weft_div(c, spread(c, n->cond), spread(c, mixed));
        mixed = weft_mul(c, mixed, weft_affine(c, factor, n->rescale, 1 - n->rescale));
    }
    n->prediction = mixed;
}

const weft_node weft_node_CFGMix = {
    .name = "CFGMix", .category = "stages/sampling", .size = sizeof(struct cfg_mix),
    .summary = "Classifier-free guidance: uncond + scale·(cond − uncond).",
    .inputs = (const weft_port[]){
        WEFT_TENSOR_IN(struct cfg_mix, cond, "the prediction with the text"),
        WEFT_TENSOR_IN(struct cfg_mix, uncond, "the prediction without it"),
        WEFT_FLOAT_IN(struct cfg_mix, scale, 7.5, -100, 100, 0.1, "how far the text pulls; 1: cond itself"),
        WEFT_OPTIONAL_FLOAT_IN(struct cfg_mix, rescale, 0, 0, 1, 0.01,
                               "how far each image's spread goes back to cond's"),
        { 0 } },
    .outputs = (const weft_port[]){ WEFT_TENSOR_OUT(struct cfg_mix, prediction, "the guided prediction"), { 0 } },
    .run = cfg_mix_run,
};
