/* LatentToTensor, TensorToLatent: between the latents of VAEEncode and VAEDecode and the samples that a model's steps
 * take, which are scaled: × 0.18215 for Stable Diffusion 1 and 2. ImageToTensor, TensorToImage: the same for models of
 * pixels, whose samples are pictures from −1 to 1. */
#include "nodes/values.h"

struct latent_to_tensor { weft_latent *samples; weft_model *model; weft_tensor *tensor; };

static void latent_to_tensor_run(weft_ctx *c, void *self) {
    struct latent_to_tensor *n = self;
    weft_tensor *t = weft_contiguous(c, weft_cast(c, n->samples->samples, WEFT_F32));
    n->tensor = weft_affine(c, t, n->model ? n->model->latent_scale : 1, 0);
}

const weft_node weft_node_LatentToTensor = {
    .name = "LatentToTensor", .category = "stages/latent", .summary = "Latents as a tensor, in the model's units.",
    .size = sizeof(struct latent_to_tensor),
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct latent_to_tensor, samples, "LATENT", "the latents"),
        WEFT_OPTIONAL_OBJECT_IN(struct latent_to_tensor, model, "MODEL", "whose units; none: as they are"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_TENSOR_OUT(struct latent_to_tensor, tensor, "(N, height, width, channels)"),
                                    { 0 } },
    .run = latent_to_tensor_run,
};

struct tensor_to_latent { weft_tensor *tensor; weft_model *model; weft_latent *samples; };

static void tensor_to_latent_run(weft_ctx *c, void *self) {
    struct tensor_to_latent *n = self;
    char shape[96];
    if (weft_rank(n->tensor) != 4 || !weft_count(n->tensor)) {
        weft_fail(c, WEFT_E_SHAPE, "tensor: expected (N, height, width, channels), found %s",
                  weft_describe(n->tensor, shape, sizeof shape));
        return;
    }
    weft_tensor *t = weft_affine(c, n->tensor, n->model ? 1 / n->model->latent_scale : 1, 0);
    n->samples = weft_latent_new(c, &(weft_latent){ .samples = weft_cast(c, t, WEFT_F32), .downscale = 8 });
}

const weft_node weft_node_TensorToLatent = {
    .name = "TensorToLatent", .category = "stages/latent",
    .summary = "A tensor in the model's units as latents, for VAEDecode.",
    .size = sizeof(struct tensor_to_latent),
    .inputs = (const weft_port[]){
        WEFT_TENSOR_IN(struct tensor_to_latent, tensor, "(N, height, width, channels)"),
        WEFT_OPTIONAL_OBJECT_IN(struct tensor_to_latent, model, "MODEL", "whose units; none: as they are"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct tensor_to_latent, samples, WEFT_PORT_OBJECT, "LATENT", "LATENT",
                                             "the latents"), { 0 } },
    .run = tensor_to_latent_run,
};

struct image_to_tensor { weft_tensor *image, *tensor; };

static void image_to_tensor_run(weft_ctx *c, void *self) {
    struct image_to_tensor *n = self;
    n->tensor = weft_affine(c, n->image, 2, -1);
}

const weft_node weft_node_ImageToTensor = {
    .name = "ImageToTensor", .category = "stages/latent",
    .summary = "Pictures as the samples that a model of pixels (UNet2DModel, Unet) takes: 2x - 1.",
    .size = sizeof(struct image_to_tensor),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct image_to_tensor, image, "pictures in [0, 1]"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_TENSOR_OUT(struct image_to_tensor, tensor, "the same in [-1, 1]"), { 0 } },
    .run = image_to_tensor_run,
};

struct tensor_to_image { weft_tensor *tensor, *image; };

static void tensor_to_image_run(weft_ctx *c, void *self) {
    struct tensor_to_image *n = self;
    char shape[96];
    if (weft_rank(n->tensor) == 4 && weft_dim(n->tensor, 3) == 3)
        n->image = weft_clamp(c, weft_affine(c, weft_cast(c, n->tensor, WEFT_F32), 0.5, 0.5), 0, 1);
    else weft_fail(c, WEFT_E_SHAPE, "tensor: expected (N, height, width, 3), found %s",
                   weft_describe(n->tensor, shape, sizeof shape));
}

const weft_node weft_node_TensorToImage = {
    .name = "TensorToImage", .category = "stages/latent",
    .summary = "Samples of a model of pixels (UNet2DModel, Unet) as pictures: (x + 1)/2, held within [0, 1].",
    .size = sizeof(struct tensor_to_image),
    .inputs = (const weft_port[]){ WEFT_TENSOR_IN(struct tensor_to_image, tensor, "(N, height, width, 3)"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct tensor_to_image, image, WEFT_PORT_TENSOR, "IMAGE", "IMAGE",
                                             "the pictures"), { 0 } },
    .run = tensor_to_image_run,
};
