/* UNETLoader, CLIPLoader, VAELoader: one part of a model alone. ComfyUI's names, options and outputs. */
#include "nodes/loaders/loaders.h"

#include <string.h>

/* ---- UNETLoader ---------------------------------------------------------------------------------------------------------------------------- */

static const char *const weight_dtypes[] = { "default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2", NULL };
struct unet_loader { const char *unet_name; int weight_dtype; weft_model *model; };

static void unet_run(weft_ctx *c, void *self) {
    struct unet_loader *n = self;
    weft_checkpoint *k = weft_open_named(c, "diffusion_models", n->unet_name, WEFT_PART_UNET, WEFT_PART_UNET);
    if (k) n->model = weft_take_model(c, k);
    weft_checkpoint_free(k);
}

static void unet_sign(weft_ctx *c, const void *self, weft_sign_fn *add, void *user) {
    weft_sign_name(c, "diffusion_models", ((const struct unet_loader *)self)->unet_name, add, user);
}

const weft_node weft_node_UNETLoader = {
    .name = "UNETLoader", .title = "Load Diffusion Model", .category = "loaders",
    .summary = "Loads a UNet alone. weight_dtype is read for compatibility: weights keep the type they have in the file.", .size = sizeof(struct unet_loader),
    .inputs = (const weft_port[]){
        WEFT_FILE_IN(struct unet_loader, unet_name, "diffusion_models", "a .safetensors file in models/diffusion_models or models/unet"),
        { "weight_dtype", "COMBO", WEFT_PORT_CHOICE, WEFT_PORT_LATE, offsetof(struct unet_loader, weight_dtype), 0, 0, 0, 0, NULL, weight_dtypes, NULL, "for compatibility" }, { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct unet_loader, model, WEFT_PORT_OBJECT, "MODEL", "MODEL", "the UNet and how to sample with it"), { 0 } },
    .sign = unet_sign, .run = unet_run,
};

/* ---- CLIPLoader ---------------------------------------------------------------------------------------------------------------------------- */

static const char *const clip_types[] = { "stable_diffusion", "stable_cascade", "sd3", "stable_audio", "mochi", "ltxv", "pixart", "cosmos", "lumina2", "wan", "hidream",
                                          "chroma", "ace", "omnigen2", "qwen_image", "hunyuan_image", NULL };
static const char *const clip_devices[] = { "default", "cpu", NULL };
struct clip_loader { const char *clip_name; int type, device; weft_clip *clip; };

static void clip_check(weft_ctx *c, const void *self) {
    const struct clip_loader *n = self;
    if (n->type != 0) weft_fail(c, WEFT_E_ARGUMENT, "type %s: Weft reads text encoders of type stable_diffusion", clip_types[n->type]);
}

static void clip_run(weft_ctx *c, void *self) {
    struct clip_loader *n = self;
    weft_checkpoint *k = weft_open_named(c, "text_encoders", n->clip_name, WEFT_PART_TEXT, WEFT_PART_TEXT);
    if (k) n->clip = weft_take_clip(c, k);
    weft_checkpoint_free(k);
}

static void clip_sign(weft_ctx *c, const void *self, weft_sign_fn *add, void *user) {
    weft_sign_name(c, "text_encoders", ((const struct clip_loader *)self)->clip_name, add, user);
}

const weft_node weft_node_CLIPLoader = {
    .name = "CLIPLoader", .title = "Load CLIP", .category = "loaders", .summary = "Loads a text encoder alone.", .size = sizeof(struct clip_loader),
    .inputs = (const weft_port[]){
        WEFT_FILE_IN(struct clip_loader, clip_name, "text_encoders", "a .safetensors file in models/text_encoders or models/clip"),
        { "type", "COMBO", WEFT_PORT_CHOICE, WEFT_PORT_LATE, offsetof(struct clip_loader, type), 0, 0, 0, 0, NULL, clip_types, NULL, "the family of models it belongs to" },
        { "device", "COMBO", WEFT_PORT_CHOICE, WEFT_PORT_OPTIONAL, offsetof(struct clip_loader, device), 0, 0, 0, 0, NULL, clip_devices, NULL, "for compatibility" }, { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct clip_loader, clip, WEFT_PORT_OBJECT, "CLIP", "CLIP", "the tokenizer and text encoder"), { 0 } },
    .check = clip_check, .sign = clip_sign, .run = clip_run,
};

/* ---- VAELoader ----------------------------------------------------------------------------------------------------------------------------- */

struct vae_loader { const char *vae_name; weft_vae *vae; };

static void vae_run(weft_ctx *c, void *self) {
    struct vae_loader *n = self;
    weft_checkpoint *k = weft_open_named(c, "vae", n->vae_name, WEFT_PART_VAE, WEFT_PART_VAE);
    if (k) n->vae = weft_take_vae(c, k);
    weft_checkpoint_free(k);
}

static void vae_sign(weft_ctx *c, const void *self, weft_sign_fn *add, void *user) {
    weft_sign_name(c, "vae", ((const struct vae_loader *)self)->vae_name, add, user);
}

const weft_node weft_node_VAELoader = {
    .name = "VAELoader", .title = "Load VAE", .category = "loaders", .summary = "Loads an autoencoder alone.", .size = sizeof(struct vae_loader),
    .inputs = (const weft_port[]){ WEFT_FILE_IN(struct vae_loader, vae_name, "vae", "a .safetensors file in models/vae"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct vae_loader, vae, WEFT_PORT_OBJECT, "VAE", "VAE", "the autoencoder between pictures and latents"), { 0 } },
    .sign = vae_sign, .run = vae_run,
};
