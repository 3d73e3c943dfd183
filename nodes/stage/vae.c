/* VAEMoments, VAESample, VAEReconstruct: the autoencoder's two halves as training takes them, step by step and without clamping, so that gradients pass. */
#include "nodes/values.h"

static bool want_batch(weft_ctx *c, weft_tensor *t, const char *input, int channels) {
    char shape[96];
    if (weft_rank(t) == 4 && weft_dim(t, 3) == channels) return true;
    weft_fail(c, WEFT_E_SHAPE, "%s: expected (N, height, width, %d), found %s", input, channels, weft_describe(t, shape, sizeof shape));
    return false;
}

struct moments { weft_vae *vae; weft_tensor *pixels, *mean, *logvar; };

static void moments_run(weft_ctx *c, void *self) {
    struct moments *n = self;
    if (!want_batch(c, n->pixels, "pixels", n->vae->config.in_channels)) return;
    weft_vae_moments m = weft_vae_encode(c, weft_root(n->vae->weights->tree), &n->vae->config, weft_affine(c, n->pixels, 2, -1));
    n->mean = m.mean;
    n->logvar = m.logvar;
}

const weft_node weft_node_VAEMoments = {
    .name = "VAEMoments", .category = "stages/latent", .size = sizeof(struct moments),
    .summary = "What the autoencoder says of pictures: a normal distribution over latents. mean + exp(logvar/2)·noise is a sample of it.",
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct moments, vae, "VAE", "the autoencoder"),
                                   WEFT_IMAGE_IN(struct moments, pixels, "pictures in [0, 1]"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_TENSOR_OUT(struct moments, mean, "(N, h, w, channels), not scaled"),
                                    WEFT_TENSOR_OUT(struct moments, logvar, "like mean, within [-30, 20]"), { 0 } },
    .run = moments_run,
};

struct sample { weft_tensor *mean, *logvar, *noise; weft_model *model; weft_tensor *latent; };

static void sample_run(weft_ctx *c, void *self) {
    struct sample *n = self;
    weft_tensor *z = n->mean;
    if (n->noise) {
        weft_tensor *deviation = weft_unary(c, WEFT_UNARY_EXP, weft_affine(c, n->logvar, 0.5, 0));
        z = weft_add(c, z, weft_mul(c, deviation, n->noise));
    }
    n->latent = weft_affine(c, z, n->model ? n->model->latent_scale : 1, 0);
}

const weft_node weft_node_VAESample = {
    .name = "VAESample", .category = "stages/latent", .size = sizeof(struct sample),
    .summary = "A sample of the autoencoder's distribution, mean + exp(logvar/2)·noise, in a model's units.",
    .inputs = (const weft_port[]){
        WEFT_TENSOR_IN(struct sample, mean, "(N, h, w, channels), not scaled"),
        WEFT_TENSOR_IN(struct sample, logvar, "like mean"),
        WEFT_OPTIONAL_TENSOR_IN(struct sample, noise, "TENSOR", "normal numbers, like mean; none: the mean itself"),
        WEFT_OPTIONAL_OBJECT_IN(struct sample, model, "MODEL", "whose units; none: as they are"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_TENSOR_OUT(struct sample, latent, "(N, h, w, channels), clean samples"), { 0 } },
    .run = sample_run,
};

struct reconstruct { weft_vae *vae; weft_tensor *latent, *pixels; };

static void reconstruct_run(weft_ctx *c, void *self) {
    struct reconstruct *n = self;
    if (!want_batch(c, n->latent, "latent", n->vae->config.latent_channels)) return;
    n->pixels = weft_affine(c, weft_vae_decode(c, weft_root(n->vae->weights->tree), &n->vae->config, n->latent), 0.5, 0.5);
}

const weft_node weft_node_VAEReconstruct = {
    .name = "VAEReconstruct", .category = "stages/latent", .size = sizeof(struct reconstruct),
    .summary = "Latents back to pictures, the whole batch at once and not clamped to [0, 1].",
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct reconstruct, vae, "VAE", "the autoencoder"),
                                   WEFT_TENSOR_IN(struct reconstruct, latent, "(N, h, w, channels), not scaled"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct reconstruct, pixels, WEFT_PORT_TENSOR, "pixels", "IMAGE", "(N, H, W, 3), about [0, 1]"), { 0 } },
    .run = reconstruct_run,
};
