/* Loss: how far a prediction is from what the model should have said.
 *
 *   target      ε: the noise     v: α·noise − σ·clean     sample: clean        (α, σ of the training at each timestep)
 *   each value  mse d²     l1 |d|     huber |d| < δ: d²/2, else δ·(|d| − δ/2)     smooth_l1: huber/δ
 *   each image  the mean over its values, times its weight; the loss is the mean over images
 *   weights     with s = (α/σ)²:    snr        ε: 1               v: s/(s + 1)             sample: s
 *                                   min_snr    ε: min(s, γ)/s     v: min(s, γ)/(s + 1)     sample: min(s, γ)
 *     r = min(s, 1000)              debiased   ε: 1/√r            v: 1/(r + 1)             sample: √r
 *   prior       the batch's second half are pictures of the class (DreamBooth): the loss is the mean over the first
 *   half
 *               plus prior_weight times the plain mean over the second
 *
 * min_snr: Hang et al., arXiv:2303.09556. debiased: Yu et al., arXiv:2310.08442, with sd-scripts' bound and its v.
 * Everything is made of operations with gradients; only weights and levels, which depend on timesteps alone, are plain
 * numbers.
 */
#include <math.h>
#include <stdlib.h>

#include "nodes/stage/stage.h"

struct loss {
    weft_tensor *prediction;
    weft_scheduler *scheduler;
    weft_tensor *clean, *noise, *timesteps;
    int target, loss, weighting;
    double delta, gamma, prior_weight;
    weft_tensor *mean, *losses, *wanted;
};

enum { MSE, L1, HUBER, SMOOTH_L1 };
enum { NO_WEIGHTS, SNR, MIN_SNR, DEBIASED };
static const char *const targets[] = { "model", "epsilon", "v_prediction", "sample", NULL };
static const char *const losses[] = { "mse", "l1", "huber", "smooth_l1", NULL };
static const char *const weightings[] = { "none", "snr", "min_snr", "debiased", NULL };

static weft_prediction target_of(const struct loss *n) {
    return n->target ? (weft_prediction)(n->target - 1) : n->scheduler->config.prediction_type;
}

static weft_tensor *wanted_of(weft_ctx *c, const struct loss *n) {
    weft_tensor *alpha, *sigma;
    weft_prediction type = target_of(n);
    if (type == WEFT_PREDICTION_EPSILON) return n->noise;
    if (type == WEFT_PREDICTION_SAMPLE) return n->clean;
    if (!weft_training_levels(c, n->scheduler, n->timesteps, n->clean, &alpha, &sigma)) return NULL;
    weft_tensor *v = weft_subtract(c, weft_mul(c, n->noise, alpha), weft_mul(c, n->clean, sigma));
    if (!n->scheduler->kind->exploding) return v;
    weft_tensor *one = weft_add(c, weft_mul(c, alpha, alpha), weft_mul(c, sigma, sigma));   /* to α² + σ² = 1 */
    return weft_div(c, v, weft_unary(c, WEFT_UNARY_SQRT, one));
}

static weft_tensor *distance(weft_ctx *c, const struct loss *n, weft_tensor *wanted) {
    weft_tensor *d = weft_axpby(c, 1, n->prediction, -1, wanted);
    if (n->loss == MSE) return weft_unary(c, WEFT_UNARY_SQUARE, d);
    weft_tensor *size = weft_unary(c, WEFT_UNARY_ABS, d);
    if (n->loss == L1) return size;
    /* with m = min(|d|, δ): m·(|d| − m/2) is both branches */
    weft_tensor *m = weft_clamp(c, size, 0, n->delta);
    weft_tensor *huber = weft_mul(c, m, weft_axpby(c, 1, size, -0.5, m));
    return n->loss == HUBER ? huber : weft_affine(c, huber, 1 / n->delta, 0);
}

static double debiased(weft_prediction target, double s) {
    const double r = fmin(s, 1000);
    switch (target) {
    case WEFT_PREDICTION_SAMPLE: return sqrt(r);
    case WEFT_PREDICTION_V: return 1 / (r + 1);
    default: return 1 / sqrt(r);
    }
}

static double weight_of(const struct loss *n, double bar) {
    double s = bar / (1 - bar);
    if (n->weighting == DEBIASED) return debiased(target_of(n), s);
    double kept = n->weighting == MIN_SNR ? fmin(s, n->gamma) : s;
    switch (target_of(n)) {
    case WEFT_PREDICTION_SAMPLE: return kept;
    case WEFT_PREDICTION_V: return kept / (s + 1);
    default: return s > 0 ? kept / s : 1;       /* its limit */
    }
}

/* (N), or NULL where no weights are wanted. */
static weft_tensor *weights_of(weft_ctx *c, const struct loss *n) {
    int64_t count;
    if (n->weighting == NO_WEIGHTS) return NULL;
    double *t = weft_training_timesteps(c, n->scheduler, n->timesteps, weft_dim(n->prediction, 0), &count);
    for (int64_t i = 0; t && i < count; i++) t[i] = weight_of(n, n->scheduler->alphas_cumprod[(int)t[i]]);
    weft_tensor *w = t ? weft_tensor_from(c, WEFT_F64, WEFT_SHAPE(count), t) : NULL;
    if (n->prior_weight > 0) {
        const int64_t half = weft_dim(n->prediction, 0) / 2;
        if (count > 1) w = weft_slice(c, w, 0, 0, half);
        else w = weft_broadcast(c, w, WEFT_SHAPE(half));
        w = weft_concat2(c, 0, w, weft_full(c, WEFT_F64, WEFT_SHAPE(half), 1));
    }
    free(t);
    return weft_cast(c, w, weft_type(n->prediction));
}

/* The means of both halves. */
static weft_tensor *with_prior(weft_ctx *c, const struct loss *n, weft_tensor *each) {
    each = weft_reduce(c, WEFT_REDUCE_MEAN, weft_reshape(c, each, WEFT_SHAPE(2, -1)), 1);
    const double shares[] = { 1, n->prior_weight };
    weft_tensor *s = weft_cast(c, weft_tensor_from(c, WEFT_F64, WEFT_SHAPE(2), shares), weft_type(each));
    return weft_reduce_all(c, WEFT_REDUCE_SUM, weft_mul(c, each, s));
}

static void loss_run(weft_ctx *c, void *self) {
    struct loss *n = self;
    const int64_t images = weft_dim(n->prediction, 0);
    if (weft_rank(n->prediction) < 1) {
        weft_fail(c, WEFT_E_SHAPE, "prediction: expected a batch, found a single number");
        return;
    }
    if (n->prior_weight > 0 && (images < 2 || images % 2)) {
        weft_fail(c, WEFT_E_SHAPE, "prior_weight: the batch's halves are expected, found %lld images",
                  (long long)images);
        return;
    }
    weft_tensor *wanted = wanted_of(c, n), *each = distance(c, n, wanted);
    each = weft_reshape(c, each, WEFT_SHAPE(weft_dim(n->prediction, 0), -1));
    each = weft_reduce(c, WEFT_REDUCE_MEAN, each, 1);
    weft_tensor *weights = weights_of(c, n);
    if (weights) each = weft_mul(c, each, weights);
    n->mean = n->prior_weight > 0 ? with_prior(c, n, each) : weft_reduce_all(c, WEFT_REDUCE_MEAN, each);
    n->losses = each;
    n->wanted = wanted;
}

const weft_node weft_node_Loss = {
    .name = "Loss", .category = "stages/training", .size = sizeof(struct loss),
    .summary = "How far predictions are from what the model should have said of noisy samples.",
    .inputs = (const weft_port[]){
        WEFT_TENSOR_IN(struct loss, prediction, "what the model said"),
        WEFT_OBJECT_IN(struct loss, scheduler, "SCHEDULER", "the noise's"),
        WEFT_TENSOR_IN(struct loss, clean, "the samples without noise"),
        WEFT_TENSOR_IN(struct loss, noise, "the noise that was added"),
        WEFT_TENSOR_IN(struct loss, timesteps, "at which timesteps"),
        WEFT_OPTIONAL_CHOICE_IN(struct loss, target, targets, NULL,
                                "what it should say; model: what the scheduler takes"),
        WEFT_OPTIONAL_CHOICE_IN(struct loss, loss, losses, NULL, "of each value's difference"),
        WEFT_OPTIONAL_FLOAT_IN(struct loss, delta, 1, 1e-6, 1000, 0.01, "huber, smooth_l1: where squares end"),
        WEFT_OPTIONAL_CHOICE_IN(struct loss, weighting, weightings, NULL, "of each image, by its signal to noise"),
        WEFT_OPTIONAL_FLOAT_IN(struct loss, gamma, 5, 0, 1000, 0.1, "min_snr: the bound"),
        WEFT_OPTIONAL_FLOAT_IN(struct loss, prior_weight, 0, 0, 1000, 0.1,
                               "prior preservation: the share of the batch's second half; 0: it is like the first"),
        { 0 } },
    .outputs = (const weft_port[]){
        WEFT_OUT(struct loss, mean, WEFT_PORT_TENSOR, "loss", "TENSOR", "the mean, a single number"),
        WEFT_OUT(struct loss, losses, WEFT_PORT_TENSOR, "losses", "TENSOR", "each image's"),
        WEFT_OUT(struct loss, wanted, WEFT_PORT_TENSOR, "target", "TENSOR", "what it should have said"), { 0 } },
    .run = loss_run,
};
