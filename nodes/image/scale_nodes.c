/* ImageScale, ImageScaleBy: pictures to another size. ComfyUI's names, methods and rounding. */
#include "nodes/image/pixels.h"
#include "nodes/values.h"

#include <math.h>

static const char *const methods[] = { "nearest-exact", "bilinear", "area", "bicubic", "lanczos", NULL };
static const char *const crops[] = { "disabled", "center", NULL };

/* ---- ImageScale -------------------------------------------------------------------------------------------------- */

struct image_scale { weft_tensor *image; int upscale_method, crop; int64_t width, height; weft_tensor *out; };

/* The side that keeps the ratio: 0 stands for it. */
static int64_t following(int64_t side, int64_t other, int64_t other_wanted) {
    return (int64_t)fmax(1, rint((double)side * (double)other_wanted / (double)other));
}

static void image_scale_run(weft_ctx *c, void *self) {
    struct image_scale *n = self;
    int64_t width = n->width, height = n->height;
    if (!weft_want_image(c, n->image, "image")) return;
    if (!width && !height) {
        n->out = n->image;
        return;
    }
    if (!width) width = following(weft_dim(n->image, 2), weft_dim(n->image, 1), height);
    else if (!height) height = following(weft_dim(n->image, 1), weft_dim(n->image, 2), width);
    n->out = weft_upscale_to(c, n->image, (weft_upscale)n->upscale_method, height, width, n->crop == 1);
}

const weft_node weft_node_ImageScale = {
    .name = "ImageScale", .title = "Upscale Image", .category = "image/upscaling",
    .summary = "Scales pictures to a size in pixels.", .size = sizeof(struct image_scale),
    .inputs = (const weft_port[]){
        WEFT_IMAGE_IN(struct image_scale, image, "the pictures"),
        WEFT_CHOICE_IN(struct image_scale, upscale_method, methods, NULL,
                       "how pixels are mixed; lanczos works on 8 bits"),
        WEFT_INT_IN(struct image_scale, width, 512, 0, 16384, 1, "pixels; 0 keeps the ratio of the sides"),
        WEFT_INT_IN(struct image_scale, height, 512, 0, 16384, 1, "pixels; 0 keeps the ratio of the sides"),
        WEFT_CHOICE_IN(struct image_scale, crop, crops, NULL, "center: the ratio is kept, what stands over is cut off"),
        { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct image_scale, out, WEFT_PORT_TENSOR, "IMAGE", "IMAGE",
                                             "the scaled pictures"), { 0 } },
    .run = image_scale_run,
};

/* ---- ImageScaleBy ------------------------------------------------------------------------------------------------ */

struct image_scale_by { weft_tensor *image; int upscale_method; double scale_by; weft_tensor *out; };

static void image_scale_by_run(weft_ctx *c, void *self) {
    struct image_scale_by *n = self;
    if (!weft_want_image(c, n->image, "image")) return;
    int64_t width = weft_scaled_side(c, weft_dim(n->image, 2), n->scale_by);
    int64_t height = weft_scaled_side(c, weft_dim(n->image, 1), n->scale_by);
    if (width && height) n->out = weft_upscale_to(c, n->image, (weft_upscale)n->upscale_method, height, width, false);
}

const weft_node weft_node_ImageScaleBy = {
    .name = "ImageScaleBy", .title = "Upscale Image By", .category = "image/upscaling",
    .summary = "Scales pictures by a factor.", .size = sizeof(struct image_scale_by),
    .inputs = (const weft_port[]){
        WEFT_IMAGE_IN(struct image_scale_by, image, "the pictures"),
        WEFT_CHOICE_IN(struct image_scale_by, upscale_method, methods, NULL,
                       "how pixels are mixed; lanczos works on 8 bits"),
        WEFT_FLOAT_IN(struct image_scale_by, scale_by, 1, 0.01, 8, 0.01, "factor of both sides"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct image_scale_by, out, WEFT_PORT_TENSOR, "IMAGE", "IMAGE",
                                             "the scaled pictures"), { 0 } },
    .run = image_scale_by_run,
};
