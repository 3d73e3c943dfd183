/* ImageInvert, ImageBatch, ImageCrop, ImagePadForOutpaint, EmptyImage. ComfyUI's names, defaults and ranges. */
#include "nodes/image/pixels.h"
#include "nodes/values.h"


#define IMAGE_OUT(S, h) (const weft_port[]){ WEFT_OUT(S, out, WEFT_PORT_TENSOR, "IMAGE", "IMAGE", h), { 0 } }

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- ImageInvert ------------------------------------------------------------------------------------------------- */

struct image_invert { weft_tensor *image, *out; };

static void image_invert_run(weft_ctx *c, void *self) {
    struct image_invert *n = self;
    if (weft_want_image(c, n->image, "image")) n->out = weft_affine(c, n->image, -1, 1);
}

const weft_node weft_node_ImageInvert = {
    .name = "ImageInvert", .title = "Invert Image", .category = "image", .summary = "Turns light to dark: 1 − x.",
    .size = sizeof(struct image_invert),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct image_invert, image, "the pictures"), { 0 } },
    .outputs = IMAGE_OUT(struct image_invert, "the inverted pictures"), .run = image_invert_run,
};

/* ---- ImageBatch -------------------------------------------------------------------------------------------------- */

struct image_batch { weft_tensor *image1, *image2, *out; };

/* One more channel of ones (opaque) for the pictures that lack it. */
static weft_tensor *widen(weft_ctx *c, weft_tensor *x, int64_t channels) {
    if (weft_dim(x, 3) >= channels) return x;
    int64_t more = channels - weft_dim(x, 3);
    return weft_concat2(c, 3, x, weft_full(c, weft_type(x),
                                           WEFT_SHAPE(weft_dim(x, 0), weft_dim(x, 1), weft_dim(x, 2), more), 1));
}

static void image_batch_run(weft_ctx *c, void *self) {
    struct image_batch *n = self;
    if (!weft_want_image(c, n->image1, "image1") || !weft_want_image(c, n->image2, "image2")) return;
    int64_t c1 = weft_dim(n->image1, 3), c2 = weft_dim(n->image2, 3), channels = c1 > c2 ? c1 : c2;
    weft_tensor *a = widen(c, n->image1, channels), *b = widen(c, n->image2, channels);
    int64_t h = weft_dim(a, 1), w = weft_dim(a, 2);
    if (weft_ok(c) && (weft_dim(b, 1) != h || weft_dim(b, 2) != w))
        b = weft_upscale_to(c, b, WEFT_UP_BILINEAR, h, w, true);
    n->out = weft_concat2(c, 0, a, b);
}

const weft_node weft_node_ImageBatch = {
    .name = "ImageBatch", .title = "Batch Images", .category = "image",
    .summary = "Puts pictures behind each other in one batch; the second ones are scaled to the first ones' size.",
    .size = sizeof(struct image_batch),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct image_batch, image1, "the first pictures"),
                                   WEFT_IMAGE_IN(struct image_batch, image2, "the pictures behind them"), { 0 } },
    .outputs = IMAGE_OUT(struct image_batch, "all pictures"), .run = image_batch_run,
};

/* ---- ImageCrop --------------------------------------------------------------------------------------------------- */

struct image_crop { weft_tensor *image; int64_t width, height, x, y; weft_tensor *out; };

static void image_crop_run(weft_ctx *c, void *self) {
    struct image_crop *n = self;
    if (!weft_want_image(c, n->image, "image")) return;
    int64_t h = weft_dim(n->image, 1), w = weft_dim(n->image, 2), x = least(n->x, w - 1), y = least(n->y, h - 1);
    weft_tensor *cut = weft_slice(c, n->image, 1, y, least(n->height, h - y));
    n->out = weft_contiguous(c, weft_slice(c, cut, 2, x, least(n->width, w - x)));
}

const weft_node weft_node_ImageCrop = {
    .name = "ImageCrop", .title = "Image Crop", .category = "image/transform",
    .summary = "Cuts a part out of pictures.",
    .size = sizeof(struct image_crop),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct image_crop, image, "the pictures"),
                               WEFT_INT_IN(struct image_crop, width, 512, 1, 16384, 1,
                                               "pixels; less where the picture ends"),
                               WEFT_INT_IN(struct image_crop, height, 512, 1, 16384, 1,
                                               "pixels; less where the picture ends"),
                               WEFT_INT_IN(struct image_crop, x, 0, 0, 16384, 1, "the left edge"),
                               WEFT_INT_IN(struct image_crop, y, 0, 0, 16384, 1, "the upper edge"), { 0 } },
    .outputs = IMAGE_OUT(struct image_crop, "the part"), .run = image_crop_run,
};

/* ---- ImagePadForOutpaint ----------------------------------------------------------------------------------------- */

struct image_pad { weft_tensor *image; int64_t left, top, right, bottom, feathering; weft_tensor *out, *mask; };

/* How much of pixel (y, x) of the old picture (h, w) is redrawn: ((feathering − d)/feathering)², d the distance to the
 * nearest edge behind which something is added. */
static float redrawn(const struct image_pad *n, int64_t y, int64_t x, int64_t h, int64_t w) {
    int64_t d = least(least(n->top ? y : h, n->bottom ? h - y : h), least(n->left ? x : w, n->right ? w - x : w));
    if (d >= n->feathering) return 0;
    double v = (double)(n->feathering - d) / (double)n->feathering;
    return (float)(v * v);
}

static void image_pad_run(weft_ctx *c, void *self) {
    struct image_pad *n = self;
    if (!weft_want_image(c, n->image, "image")) return;
    int64_t h = weft_dim(n->image, 1), w = weft_dim(n->image, 2), oh = h + n->top + n->bottom,
        ow = w + n->left + n->right;
    float *mask = weft_pixels_new(c, oh * ow);
    bool feather = n->feathering > 0 && 2 * n->feathering < h && 2 * n->feathering < w;
    for (int64_t y = 0; mask && y < oh; y++)
        for (int64_t x = 0; x < ow; x++) {
            bool old = y >= n->top && y < n->top + h && x >= n->left && x < n->left + w;
            mask[y * ow + x] = !old ? 1 : feather ? redrawn(n, y - n->top, x - n->left, h, w) : 0;
        }
    n->mask = weft_pixels_tensor(c, mask, WEFT_SHAPE(1, oh, ow));
    n->out = weft_pad(c, n->image, WEFT_PAD_CONSTANT, (int)n->top, (int)n->bottom, (int)n->left, (int)n->right, 0.5);
}

const weft_node weft_node_ImagePadForOutpaint = {
    .name = "ImagePadForOutpaint", .title = "Pad Image for Outpainting", .category = "image",
    .summary = "Adds grey on the sides of pictures, and gives a mask of what is to be drawn there.",
    .size = sizeof(struct image_pad),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct image_pad, image, "the pictures"),
                               WEFT_INT_IN(struct image_pad, left, 0, 0, 16384, 8, "pixels added on the left"),
                               WEFT_INT_IN(struct image_pad, top, 0, 0, 16384, 8, "pixels added above"),
                               WEFT_INT_IN(struct image_pad, right, 0, 0, 16384, 8, "pixels added on the right"),
                               WEFT_INT_IN(struct image_pad, bottom, 0, 0, 16384, 8, "pixels added below"),
                               WEFT_INT_IN(struct image_pad, feathering, 40, 0, 16384, 1,
                                               "over how many pixels the mask fades"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct image_pad, out, WEFT_PORT_TENSOR, "IMAGE", "IMAGE",
                                             "the larger pictures"),
                                    WEFT_OUT(struct image_pad, mask, WEFT_PORT_TENSOR, "MASK", "MASK",
                                             "1 where it is to be drawn"), { 0 } },
    .run = image_pad_run,
};

/* ---- EmptyImage -------------------------------------------------------------------------------------------------- */

struct empty_image { int64_t width, height, batch_size, color; weft_tensor *out; };

static void empty_image_run(weft_ctx *c, void *self) {
    struct empty_image *n = self;
    float rgb[3];
    for (int i = 0; i < 3; i++) rgb[i] = (float)((double)(n->color >> (16 - 8 * i) & 255) / 255);
    weft_tensor *pixel = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1, 1, 1, 3), rgb);
    n->out = weft_contiguous(c, weft_broadcast(c, pixel, WEFT_SHAPE(n->batch_size, n->height, n->width, 3)));
}

const weft_node weft_node_EmptyImage = {
    .name = "EmptyImage", .category = "image", .summary = "Pictures of one colour.", .size = sizeof(struct empty_image),
    .inputs = (const weft_port[]){ WEFT_INT_IN(struct empty_image, width, 512, 1, 16384, 1, "pixels"),
                               WEFT_INT_IN(struct empty_image, height, 512, 1, 16384, 1, "pixels"),
                               WEFT_INT_IN(struct empty_image, batch_size, 1, 1, 4096, 1, "how many pictures"),
                               WEFT_INT_IN(struct empty_image, color, 0, 0, 16777215, 1,
                                               "65536·red + 256·green + blue"), { 0 } },
    .outputs = IMAGE_OUT(struct empty_image, "the pictures"), .run = empty_image_run,
};
