/* LoadImage: a picture from the input folder, and its transparency as a mask. ComfyUI's: the mask is 1 − alpha, 64 × 64
 * zeros without one. LoadImageMask: one channel of a picture as a mask; alpha again as 1 − alpha, zeros of the
 * picture's size without one. */
#include "nodes/image/picture.h"
#include "nodes/loaders/loaders.h"

#include <stdlib.h>

enum { ALPHA, RED };
static const char *const channels_of[] = { "alpha", "red", "green", "blue", NULL };
struct load_image { const char *image; int channel; weft_tensor *out, *mask; };

/* (1, H, W, channels) f32 in [0, 1]. Divided, not multiplied: 255·(v/255) is v again, so that saving gives back what
 * was loaded. */
static weft_tensor *to_unit(weft_ctx *c, weft_tensor *pixels) {
    weft_tensor *x = weft_div(c, weft_cast(c, pixels, WEFT_F32), weft_scalar(c, WEFT_F32, 255));
    return weft_reshape(c, x, WEFT_SHAPE(1, weft_dim(pixels, 0), weft_dim(pixels, 1), weft_dim(pixels, 2)));
}

bool weft_image_load(weft_ctx *c, const char *path, weft_tensor **image, weft_tensor **mask) {
    weft_tensor *pixels = weft_picture_load(c, path), *x = pixels ? to_unit(c, pixels) : NULL;
    if (!x) return false;
    int64_t channels = weft_dim(x, 3), h = weft_dim(x, 1), w = weft_dim(x, 2);
    weft_tensor *first = weft_slice(c, x, 3, 0, channels < 3 ? 1 : 3);
    *image = weft_contiguous(c, channels < 3 ? weft_broadcast(c, first, WEFT_SHAPE(1, h, w, 3)) : first);
    if (channels == 2 || channels == 4)
        *mask = weft_affine(c, weft_reshape(c, weft_slice(c, x, 3, channels - 1, 1), WEFT_SHAPE(1, h, w)), -1, 1);
    else *mask = weft_full(c, WEFT_F32, WEFT_SHAPE(1, 64, 64), 0);
    return weft_ok(c);
}

/* The path of the picture that a name stands for, to be freed; NULL with the error set. */
static char *find(weft_ctx *c, const char *name) {
    const weft_folders *folders = weft_run_info_of(c)->folders;
    if (!folders) {
        weft_fail(c, WEFT_E_FILE, "no input folder was given");
        return NULL;
    }
    return weft_folders_find(c, folders, "input", name);
}

static void load_image_run(weft_ctx *c, void *self) {
    struct load_image *n = self;
    char *path = find(c, n->image);
    if (path && !weft_image_load(c, path, &n->out, &n->mask)) n->out = NULL;
    free(path);
}

static void load_image_mask_run(weft_ctx *c, void *self) {
    struct load_image *n = self;
    char *path = find(c, n->image);
    weft_tensor *pixels = path ? weft_picture_load(c, path) : NULL, *x = pixels ? to_unit(c, pixels) : NULL;
    free(path);
    if (!x) return;
    int64_t channels = weft_dim(x, 3), h = weft_dim(x, 1), w = weft_dim(x, 2);
    if (n->channel == ALPHA && channels != 2 && channels != 4) {
        n->mask = weft_full(c, WEFT_F32, WEFT_SHAPE(1, h, w), 0);
        return;
    }
    int64_t channel = n->channel == ALPHA ? channels - 1 : channels < 3 ? 0 : n->channel - RED;
    n->mask = weft_reshape(c, weft_contiguous(c, weft_slice(c, x, 3, channel, 1)), WEFT_SHAPE(1, h, w));
    if (n->channel == ALPHA) n->mask = weft_affine(c, n->mask, -1, 1);
}

static void load_image_sign(weft_ctx *c, const void *self, weft_sign_fn *add, void *user) {
    if (weft_run_info_of(c)->folders) weft_sign_name(c, "input", ((const struct load_image *)self)->image, add, user);
}

#define PICTURE_IN { "image", "COMBO", WEFT_PORT_FILE, WEFT_PORT_UPLOAD, offsetof(struct load_image, image), 0, 0, 0, \
                     0, NULL, NULL, "input", \
                     "a PNG, JPEG or BMP file in the input folder" }

const weft_node weft_node_LoadImage = {
    .name = "LoadImage", .title = "Load Image", .category = "image",
    .summary = "Loads a picture from the input folder.", .size = sizeof(struct load_image),
    .inputs = (const weft_port[]){ PICTURE_IN, { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct load_image, out, WEFT_PORT_TENSOR, "IMAGE", "IMAGE", "the picture"),
                                    WEFT_OUT(struct load_image, mask, WEFT_PORT_TENSOR, "MASK", "MASK",
                                             "1 where it is transparent"), { 0 } },
    .sign = load_image_sign, .run = load_image_run,
};

const weft_node weft_node_LoadImageMask = {
    .name = "LoadImageMask", .title = "Load Image (as Mask)", .category = "mask",
    .summary = "Loads one channel of a picture as a mask.",
    .size = sizeof(struct load_image),
    .inputs = (const weft_port[]){ PICTURE_IN, WEFT_CHOICE_IN(struct load_image, channel, channels_of, NULL,
                                                              "which channel; alpha: 1 where it is transparent"),
                                   { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct load_image, mask, WEFT_PORT_TENSOR, "MASK", "MASK", "the mask"),
                               { 0 } },
    .sign = load_image_sign, .run = load_image_mask_run,
};
