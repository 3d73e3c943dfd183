/* MaskToImage, ImageToMask, SolidMask, InvertMask, CropMask, ThresholdMask. ComfyUI's names, defaults and ranges. */
#include "nodes/image/pixels.h"
#include "nodes/values.h"

#define MASK_OUT(S, h) (const weft_port[]){ WEFT_OUT(S, out, WEFT_PORT_TENSOR, "MASK", "MASK", h), { 0 } }

/* ---- MaskToImage ------------------------------------------------------------------------------------------------- */

struct mask_to_image { weft_tensor *mask, *out; };

static void mask_to_image_run(weft_ctx *c, void *self) {
    struct mask_to_image *n = self;
    weft_tensor *m = weft_want_mask(c, n->mask, "mask");
    if (!m) return;
    int64_t count = weft_dim(m, 0), h = weft_dim(m, 1), w = weft_dim(m, 2);
    m = weft_broadcast(c, weft_reshape(c, m, WEFT_SHAPE(count, h, w, 1)), WEFT_SHAPE(count, h, w, 3));
    n->out = weft_contiguous(c, m);
}

const weft_node weft_node_MaskToImage = {
    .name = "MaskToImage", .title = "Convert Mask to Image", .category = "mask", .summary = "A mask as grey pictures.",
    .size = sizeof(struct mask_to_image),
    .inputs = (const weft_port[]){ WEFT_MASK_IN(struct mask_to_image, mask, "the mask"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct mask_to_image, out, WEFT_PORT_TENSOR, "IMAGE", "IMAGE",
                                             "grey pictures"), { 0 } },
    .run = mask_to_image_run,
};

/* ---- ImageToMask ------------------------------------------------------------------------------------------------- */

struct image_to_mask { weft_tensor *image; int channel; weft_tensor *out; };
static const char *const channels[] = { "red", "green", "blue", "alpha", NULL };

static void image_to_mask_run(weft_ctx *c, void *self) {
    struct image_to_mask *n = self;
    if (!weft_want_image(c, n->image, "image")) return;
    if (weft_dim(n->image, 3) <= n->channel) {
        weft_fail(c, WEFT_E_SHAPE, "channel %s: the picture has %lld channels", channels[n->channel],
                  (long long)weft_dim(n->image, 3));
        return;
    }
    weft_tensor *one = weft_slice(c, n->image, 3, n->channel, 1);
    n->out = weft_reshape(c, one, WEFT_SHAPE(weft_dim(n->image, 0), weft_dim(n->image, 1), weft_dim(n->image, 2)));
    n->out = weft_contiguous(c, n->out);
}

const weft_node weft_node_ImageToMask = {
    .name = "ImageToMask", .title = "Convert Image to Mask", .category = "mask",
    .summary = "One channel of pictures as a mask.",
    .size = sizeof(struct image_to_mask),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct image_to_mask, image, "the pictures"),
                                   WEFT_CHOICE_IN(struct image_to_mask, channel, channels, NULL, "which channel"),
                               { 0 } },
    .outputs = MASK_OUT(struct image_to_mask, "the mask"), .run = image_to_mask_run,
};

/* ---- SolidMask --------------------------------------------------------------------------------------------------- */

struct solid_mask { double value; int64_t width, height; weft_tensor *out; };

static void solid_mask_run(weft_ctx *c, void *self) {
    struct solid_mask *n = self;
    n->out = weft_full(c, WEFT_F32, WEFT_SHAPE(1, n->height, n->width), n->value);
}

const weft_node weft_node_SolidMask = {
    .name = "SolidMask", .category = "mask", .summary = "A mask of one value.", .size = sizeof(struct solid_mask),
    .inputs = (const weft_port[]){ WEFT_FLOAT_IN(struct solid_mask, value, 1, 0, 1, 0.01, "the value"),
                               WEFT_INT_IN(struct solid_mask, width, 512, 1, 16384, 1, "pixels"),
                               WEFT_INT_IN(struct solid_mask, height, 512, 1, 16384, 1, "pixels"), { 0 } },
    .outputs = MASK_OUT(struct solid_mask, "the mask"), .run = solid_mask_run,
};

/* ---- InvertMask -------------------------------------------------------------------------------------------------- */

struct invert_mask { weft_tensor *mask, *out; };

static void invert_mask_run(weft_ctx *c, void *self) {
    struct invert_mask *n = self;
    n->out = weft_affine(c, weft_want_mask(c, n->mask, "mask"), -1, 1);
}

const weft_node weft_node_InvertMask = {
    .name = "InvertMask", .category = "mask", .summary = "Turns a mask round: 1 − x.",
    .size = sizeof(struct invert_mask),
    .inputs = (const weft_port[]){ WEFT_MASK_IN(struct invert_mask, mask, "the mask"), { 0 } },
    .outputs = MASK_OUT(struct invert_mask, "the inverted mask"), .run = invert_mask_run,
};

/* ---- CropMask ---------------------------------------------------------------------------------------------------- */

struct crop_mask { weft_tensor *mask; int64_t x, y, width, height; weft_tensor *out; };

static void crop_mask_run(weft_ctx *c, void *self) {
    struct crop_mask *n = self;
    weft_tensor *m = weft_want_mask(c, n->mask, "mask");
    if (!m) return;
    int64_t h = weft_dim(m, 1), w = weft_dim(m, 2);
    if (n->x >= w || n->y >= h) {
        weft_fail(c, WEFT_E_ARGUMENT, "x %lld, y %lld lies outside a mask of %lld × %lld", (long long)n->x,
                  (long long)n->y, (long long)w, (long long)h);
        return;
    }
    m = weft_slice(c, m, 1, n->y, n->height < h - n->y ? n->height : h - n->y);
    n->out = weft_contiguous(c, weft_slice(c, m, 2, n->x, n->width < w - n->x ? n->width : w - n->x));
}

const weft_node weft_node_CropMask = {
    .name = "CropMask", .category = "mask", .summary = "Cuts a part out of a mask.", .size = sizeof(struct crop_mask),
    .inputs = (const weft_port[]){ WEFT_MASK_IN(struct crop_mask, mask, "the mask"),
                               WEFT_INT_IN(struct crop_mask, x, 0, 0, 16384, 1, "the left edge"),
                               WEFT_INT_IN(struct crop_mask, y, 0, 0, 16384, 1, "the upper edge"),
                               WEFT_INT_IN(struct crop_mask, width, 512, 1, 16384, 1,
                                               "pixels; less where the mask ends"),
                               WEFT_INT_IN(struct crop_mask, height, 512, 1, 16384, 1,
                                               "pixels; less where the mask ends"), { 0 } },
    .outputs = MASK_OUT(struct crop_mask, "the part"), .run = crop_mask_run,
};

/* ---- ThresholdMask ----------------------------------------------------------------------------------------------- */

struct threshold_mask { weft_tensor *mask; double value; weft_tensor *out; };

static void threshold_mask_run(weft_ctx *c, void *self) {
    struct threshold_mask *n = self;
    weft_tensor *m = weft_want_mask(c, n->mask, "mask");
    float *p = m ? weft_pixels_read(c, m) : NULL, limit = (float)n->value;
    for (int64_t i = 0; p && i < weft_count(m); i++) p[i] = p[i] > limit;
    if (p) n->out = weft_pixels_tensor(c, p, WEFT_SHAPE(weft_dim(m, 0), weft_dim(m, 1), weft_dim(m, 2)));
}

const weft_node weft_node_ThresholdMask = {
    .name = "ThresholdMask", .category = "mask", .summary = "1 where a mask is above a value, 0 elsewhere.",
    .size = sizeof(struct threshold_mask),
    .inputs = (const weft_port[]){ WEFT_MASK_IN(struct threshold_mask, mask, "the mask"),
                                   WEFT_FLOAT_IN(struct threshold_mask, value, 0.5, 0, 1, 0.01, "the value"), { 0 } },
    .outputs = MASK_OUT(struct threshold_mask, "zeros and ones"), .run = threshold_mask_run,
};
