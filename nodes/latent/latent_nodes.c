/* EmptyLatentImage, VAEDecode, VAEEncode: where latents begin and end. ComfyUI's names, defaults and ranges. */
#include "nodes/values.h"

/* ---- EmptyLatentImage ------------------------------------------------------------------------------------------------------------------------ */

struct empty_latent { int64_t width, height, batch_size; weft_latent *latent; };

static void empty_latent_run(weft_ctx *c, void *self) {
    struct empty_latent *n = self;
    weft_tensor *zeros = weft_full(c, WEFT_F32, WEFT_SHAPE(n->batch_size, n->height / 8, n->width / 8, 4), 0);
    if (zeros) n->latent = weft_latent_new(c, &(weft_latent){ .samples = zeros, .downscale = 8 });
}

const weft_node weft_node_EmptyLatentImage = {
    .name = "EmptyLatentImage", .title = "Empty Latent Image", .category = "latent",
    .summary = "A latent of zeros, for drawing from noise alone.", .size = sizeof(struct empty_latent),
    .inputs = (const weft_port[]){ WEFT_INT_IN(struct empty_latent, width, 512, 16, 16384, 8, "the picture's width in pixels"),
                                   WEFT_INT_IN(struct empty_latent, height, 512, 16, 16384, 8, "the picture's height in pixels"),
                                   WEFT_INT_IN(struct empty_latent, batch_size, 1, 1, 4096, 1, "how many pictures"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct empty_latent, latent, WEFT_PORT_OBJECT, "LATENT", "LATENT", "the latent"), { 0 } },
    .run = empty_latent_run,
};

/* ---- VAEDecode --------------------------------------------------------------------------------------------------------------------------------- */

struct vae_decode { weft_latent *samples; weft_vae *vae; weft_tensor *image; };

/* [−1, 1] → [0, 1]. */
static weft_tensor *to_image(weft_ctx *c, weft_tensor *x) { return weft_clamp(c, weft_affine(c, x, 0.5, 0.5), 0, 1); }

static void vae_decode_run(weft_ctx *c, void *self) {
    struct vae_decode *n = self;
    weft_tree *t = n->vae->weights->tree;
    int64_t count = weft_dim(n->samples->samples, 0);
    weft_tensor *pictures[64];
    if (count > 64) {
        weft_fail(c, WEFT_E_ARGUMENT, "a batch of %lld latents; 64 are decoded at once at the most", (long long)count);
        return;
    }
    for (int64_t i = 0; i < count; i++) {       /* one at a time: a decoded picture's activations are large */
        weft_scope s = weft_scope_begin(c, weft_root(t));
        weft_tensor *one = weft_contiguous(c, weft_slice(c, n->samples->samples, 0, i, 1));
        pictures[i] = weft_scope_end(c, s, to_image(c, weft_vae_decode(c, weft_root(t), &n->vae->config, one)));
        if (!weft_progress(c, "decode", i + 1, count)) return;
    }
    n->image = count == 1 ? pictures[0] : weft_concat(c, 0, (int)count, pictures);
}

const weft_node weft_node_VAEDecode = {
    .name = "VAEDecode", .title = "VAE Decode", .category = "latent", .summary = "Turns latents into pictures.", .size = sizeof(struct vae_decode),
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct vae_decode, samples, "LATENT", "the latents"),
                                   WEFT_OBJECT_IN(struct vae_decode, vae, "VAE", "the autoencoder"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct vae_decode, image, WEFT_PORT_TENSOR, "IMAGE", "IMAGE", "the pictures"), { 0 } },
    .run = vae_decode_run,
};

/* ---- VAEEncode --------------------------------------------------------------------------------------------------------------------------------- */

struct vae_encode { weft_tensor *pixels; weft_vae *vae; weft_latent *latent; };

/* Cut to a multiple of 8, from the middle; the first three channels; [0, 1] → [−1, 1]. */
static weft_tensor *from_image(weft_ctx *c, weft_tensor *x) {
    int64_t h = weft_dim(x, 1) / 8 * 8, w = weft_dim(x, 2) / 8 * 8;
    x = weft_slice(c, x, 1, (weft_dim(x, 1) - h) / 2, h);
    x = weft_slice(c, x, 2, (weft_dim(x, 2) - w) / 2, w);
    x = weft_slice(c, x, 3, 0, 3);
    return weft_affine(c, weft_contiguous(c, x), 2, -1);
}

static void vae_encode_run(weft_ctx *c, void *self) {
    struct vae_encode *n = self;
    if (weft_rank(n->pixels) != 4 || weft_dim(n->pixels, 3) < 3 || weft_dim(n->pixels, 1) < 8 || weft_dim(n->pixels, 2) < 8) {
        char shape[96];
        weft_fail(c, WEFT_E_SHAPE, "pixels: pictures of 8 × 8 and more are encoded, not %s", weft_describe(n->pixels, shape, sizeof shape));
        return;
    }
    weft_params root = weft_root(n->vae->weights->tree);
    weft_vae_moments m = weft_vae_encode(c, root, &n->vae->config, from_image(c, n->pixels));
    if (m.mean) n->latent = weft_latent_new(c, &(weft_latent){ .samples = m.mean, .downscale = 8 });
}

const weft_node weft_node_VAEEncode = {
    .name = "VAEEncode", .title = "VAE Encode", .category = "latent", .summary = "Turns pictures into latents (the distribution's mean).", .size = sizeof(struct vae_encode),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct vae_encode, pixels, "the pictures"), WEFT_OBJECT_IN(struct vae_encode, vae, "VAE", "the autoencoder"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct vae_encode, latent, WEFT_PORT_OBJECT, "LATENT", "LATENT", "the latents"), { 0 } },
    .run = vae_encode_run,
};
