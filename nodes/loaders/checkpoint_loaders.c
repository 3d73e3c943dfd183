/* CheckpointLoaderSimple, CheckpointLoader, DiffusersLoader: a whole model from a single file or a folder of diffusers.
 * ComfyUI's names and outputs. */
#include "nodes/loaders/loaders.h"

struct checkpoint_loader { const char *name, *config; weft_model *model; weft_clip *clip; weft_vae *vae; };

static void load(weft_ctx *c, struct checkpoint_loader *n, const char *folder) {
    weft_checkpoint *k = weft_open_named(c, folder, n->name, WEFT_PARTS_ALL, WEFT_PARTS_ALL);
    if (!k) return;
    n->model = weft_take_model(c, k);
    n->clip = weft_take_clip(c, k);
    n->vae = weft_take_vae(c, k);
    weft_checkpoint_free(k);
}

static void checkpoint_run(weft_ctx *c, void *self) { load(c, self, "checkpoints"); }
static void diffusers_run(weft_ctx *c, void *self) { load(c, self, "diffusers"); }

static void checkpoint_sign(weft_ctx *c, const void *self, weft_sign_fn *add, void *user) {
    weft_sign_name(c, "checkpoints", ((const struct checkpoint_loader *)self)->name, add, user);
}

static void diffusers_sign(weft_ctx *c, const void *self, weft_sign_fn *add, void *user) {
    weft_sign_name(c, "diffusers", ((const struct checkpoint_loader *)self)->name, add, user);
}

static const weft_port outputs[] = {
    WEFT_OUT(struct checkpoint_loader, model, WEFT_PORT_OBJECT, "MODEL", "MODEL", "the UNet and how to sample with it"),
    WEFT_OUT(struct checkpoint_loader, clip, WEFT_PORT_OBJECT, "CLIP", "CLIP", "the tokenizer and text encoder"),
    WEFT_OUT(struct checkpoint_loader, vae, WEFT_PORT_OBJECT, "VAE", "VAE",
             "the autoencoder between pictures and latents"),
    { 0 }
};

#define CHECKPOINT_IN \
    { \
        "ckpt_name", "COMBO", WEFT_PORT_FILE, 0, offsetof(struct checkpoint_loader, name), 0, 0, 0, 0, NULL, NULL, \
            "checkpoints", "a .safetensors file in models/checkpoints" \
    }

const weft_node weft_node_CheckpointLoaderSimple = {
    .name = "CheckpointLoaderSimple",
    .title = "Load Checkpoint",
    .category = "loaders",
    .summary = "Loads a model from a single file: UNet, text encoder and autoencoder.",
    .size = sizeof(struct checkpoint_loader),
    .inputs = (const weft_port[]){ CHECKPOINT_IN, { 0 } },
    .outputs = outputs,
    .sign = checkpoint_sign,
    .run = checkpoint_run,
};

/* The class of old workflows. Their configurations (.yaml) say what the weights say too. */
const weft_node weft_node_CheckpointLoader = {
    .name = "CheckpointLoader",
    .title = "Load Checkpoint With Config",
    .category = "advanced/loaders",
    .flags = WEFT_NODE_DEPRECATED,
    .summary = "As CheckpointLoaderSimple; the configuration's name is read and not used.",
    .size = sizeof(struct checkpoint_loader),
    .inputs =
        (const weft_port[]){ { "config_name", "STRING", WEFT_PORT_STRING, WEFT_PORT_LATE,
                               offsetof(struct checkpoint_loader, config), 0, 0, 0, 0, "", NULL, NULL, "not used" },
                             CHECKPOINT_IN,
                             { 0 } },
    .outputs = outputs,
    .sign = checkpoint_sign,
    .run = checkpoint_run,
};

const weft_node weft_node_DiffusersLoader = {
    .name = "DiffusersLoader",
    .category = "loaders",
    .summary = "Loads a model from a folder as diffusers writes it.",
    .size = sizeof(struct checkpoint_loader),
    .inputs =
        (const weft_port[]){ { "model_path", "COMBO", WEFT_PORT_FILE, 0, offsetof(struct checkpoint_loader, name), 0, 0,
                               0, 0, NULL, NULL, "diffusers", "a folder with a model_index.json in models/diffusers" },
                             { 0 } },
    .outputs = outputs,
    .sign = diffusers_sign,
    .run = diffusers_run,
};

/* ---- UNet2DLoader: Weft's own ------------------------------------------------------------------------------------- */

static void unet_run(weft_ctx *c, void *self) {
    struct checkpoint_loader *n = self;
    weft_checkpoint *k = weft_open_named(c, "diffusers", n->name, WEFT_PART_UNET, WEFT_PART_UNET);
    if (k) n->model = weft_take_model(c, k);
    weft_checkpoint_free(k);
}

const weft_node weft_node_UNet2DLoader = {
    .name = "UNet2DLoader", .category = "loaders",
    .summary = "Loads the UNet and the scheduler of a folder of diffusers: models without a text (UNet2DModel, Unet) "
               "have no more.",
    .size = sizeof(struct checkpoint_loader),
    .inputs = (const weft_port[]){ { "model_path", "COMBO", WEFT_PORT_FILE, 0, offsetof(struct checkpoint_loader, name), 0, 0, 0, 0, NULL, NULL, "diffusers",
                                     "a folder with a model_index.json in models/diffusers" }, { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct checkpoint_loader, model, WEFT_PORT_OBJECT, "MODEL", "MODEL", "the UNet and how to sample with it"), { 0 } },
    .sign = diffusers_sign, .run = unet_run,
};
