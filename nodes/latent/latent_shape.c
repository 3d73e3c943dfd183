/* LatentUpscale, LatentUpscaleBy, LatentCrop, LatentComposite. ComfyUI's names and rounding; sizes are in pixels of the
 * picture. */
#include "nodes/image/pixels.h"
#include "nodes/values.h"

#include <math.h>
#include <stdlib.h>

#define LATENT_OUT(S) (const weft_port[]){ WEFT_OUT(S, out, WEFT_PORT_OBJECT, "LATENT", "LATENT", "the new latents"), \
                                           { 0 } }

static const char *const methods[] = { "nearest-exact", "bilinear", "area", "bicubic", "bislerp", NULL };
static const char *const crops[] = { "disabled", "center", NULL };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* The same latents with other samples. */
static weft_latent *with_samples(weft_ctx *c, const weft_latent *from, weft_tensor *samples) {
    weft_latent l = *from;
    l.samples = samples;
    return samples ? weft_latent_new(c, &l) : NULL;
}

static weft_upscale method_of(int choice) { return choice == 4 ? WEFT_UP_BISLERP : (weft_upscale)choice; }

/* ---- LatentUpscale, LatentUpscaleBy ------------------------------------------------------------------------------ */

struct upscale { weft_latent *samples; int upscale_method, crop; int64_t width, height; weft_latent *out; };

/* The side that keeps the ratio: 0 stands for it. */
static int64_t following(int64_t side, int64_t other, int64_t other_wanted) {
    return most(64, (int64_t)rint((double)side * (double)other_wanted / (double)other));
}

static void upscale_run(weft_ctx *c, void *self) {
    struct upscale *n = self;
    weft_tensor *x = n->samples->samples;
    if (!weft_want_image(c, x, "samples")) return;
    if (!n->width && !n->height) {
        n->out = with_samples(c, n->samples, x);
        return;
    }
    int64_t width = most(64, n->width), height = most(64, n->height);
    if (!n->width) width = following(weft_dim(x, 2), weft_dim(x, 1), height);
    else if (!n->height) height = following(weft_dim(x, 1), weft_dim(x, 2), width);
    n->out = with_samples(c, n->samples, weft_upscale_to(c, x, method_of(n->upscale_method), height / 8, width / 8,
                                                         n->crop == 1));
}

const weft_node weft_node_LatentUpscale = {
    .name = "LatentUpscale", .title = "Upscale Latent", .category = "latent",
    .summary = "Scales latents to a size in pixels.",
    .size = sizeof(struct upscale),
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct upscale, samples, "LATENT", "the latents"),
        WEFT_CHOICE_IN(struct upscale, upscale_method, methods, NULL, "how values are mixed"),
        WEFT_INT_IN(struct upscale, width, 512, 0, 16384, 8, "pixels; 0 keeps the ratio of the sides"),
        WEFT_INT_IN(struct upscale, height, 512, 0, 16384, 8, "pixels; 0 keeps the ratio of the sides"),
        WEFT_CHOICE_IN(struct upscale, crop, crops, NULL, "center: the ratio is kept, what stands over is cut off"),
        { 0 } },
    .outputs = LATENT_OUT(struct upscale), .run = upscale_run,
};

struct upscale_by { weft_latent *samples; int upscale_method; double scale_by; weft_latent *out; };

static void upscale_by_run(weft_ctx *c, void *self) {
    struct upscale_by *n = self;
    weft_tensor *x = n->samples->samples;
    if (!weft_want_image(c, x, "samples")) return;
    int64_t width = weft_scaled_side(c, weft_dim(x, 2), n->scale_by);
    int64_t height = weft_scaled_side(c, weft_dim(x, 1), n->scale_by);
    if (!width || !height) return;
    n->out = with_samples(c, n->samples, weft_upscale_to(c, x, method_of(n->upscale_method), height, width, false));
}

const weft_node weft_node_LatentUpscaleBy = {
    .name = "LatentUpscaleBy", .title = "Upscale Latent By", .category = "latent",
    .summary = "Scales latents by a factor.",
    .size = sizeof(struct upscale_by),
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct upscale_by, samples, "LATENT", "the latents"),
        WEFT_CHOICE_IN(struct upscale_by, upscale_method, methods, NULL, "how values are mixed"),
        WEFT_FLOAT_IN(struct upscale_by, scale_by, 1.5, 0.01, 8, 0.01, "factor of both sides"), { 0 } },
    .outputs = LATENT_OUT(struct upscale_by), .run = upscale_by_run,
};

/* ---- LatentCrop -------------------------------------------------------------------------------------------------- */

struct crop { weft_latent *samples; int64_t width, height, x, y; weft_latent *out; };

/* The edge is moved back so far that at least 64 pixels remain, where there are as many. */
static void crop_run(weft_ctx *c, void *self) {
    struct crop *n = self;
    weft_tensor *s = n->samples->samples;
    if (!weft_want_image(c, s, "samples")) return;
    int64_t h = weft_dim(s, 1), w = weft_dim(s, 2), x = most(0, least(n->x / 8, w - 8)),
        y = most(0, least(n->y / 8, h - 8));
    s = weft_slice(c, s, 1, y, least(n->height / 8, h - y));
    n->out = with_samples(c, n->samples, weft_contiguous(c, weft_slice(c, s, 2, x, least(n->width / 8, w - x))));
}

const weft_node weft_node_LatentCrop = {
    .name = "LatentCrop", .title = "Crop Latent", .category = "latent/transform",
    .summary = "Cuts a part out of latents.",
    .size = sizeof(struct crop),
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct crop, samples, "LATENT", "the latents"),
                               WEFT_INT_IN(struct crop, width, 512, 64, 16384, 8, "pixels; less where they end"),
                               WEFT_INT_IN(struct crop, height, 512, 64, 16384, 8, "pixels; less where they end"),
                               WEFT_INT_IN(struct crop, x, 0, 0, 16384, 8, "the left edge"),
                               WEFT_INT_IN(struct crop, y, 0, 0, 16384, 8, "the upper edge"), { 0 } },
    .outputs = LATENT_OUT(struct crop), .run = crop_run,
};

/* ---- LatentComposite --------------------------------------------------------------------------------------------- */

struct composite { weft_latent *samples_to, *samples_from; int64_t x, y, feather; weft_latent *out; };

/* The weight of the i-th of `size` places that fades over `feather` places where an edge is not the picture's. */
static float weight(int64_t i, int64_t size, int64_t feather, bool before, bool after) {
    float v = 1;
    if (before && i < feather) v *= (float)(1.0 / (double)feather * (double)(i + 1));
    if (after && size - 1 - i < feather) v *= (float)(1.0 / (double)feather * (double)(size - i));
    return v;
}

static void lay(const struct composite *n, float *to, const int64_t *a, const float *from, const int64_t *b) {
    int64_t x0 = n->x / 8, y0 = n->y / 8, f = n->feather / 8, h = least(b[1], a[1] - y0), w = least(b[2], a[2] - x0),
        channels = a[3];
    for (int64_t i = 0; i < a[0]; i++)
        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < w; x++) {
                float v = weight(y, h, f, y0 > 0, y0 + h < a[1]) * weight(x, w, f, x0 > 0, x0 + w < a[2]);
                float *t = to + ((i * a[1] + y0 + y) * a[2] + x0 + x) * channels;
                const float *s = from + (((b[0] == 1 ? 0 : i) * b[1] + y) * b[2] + x) * channels;
                for (int64_t k = 0; k < channels; k++) t[k] = s[k] * v + t[k] * (1 - v);
            }
}

static void composite_run(weft_ctx *c, void *self) {
    struct composite *n = self;
    weft_tensor *a = n->samples_to->samples, *b = n->samples_from->samples;
    if (!weft_want_image(c, a, "samples_to") || !weft_want_image(c, b, "samples_from")) return;
    if ((weft_dim(b, 0) != 1 && weft_dim(b, 0) != weft_dim(a, 0)) || weft_dim(a, 3) != weft_dim(b, 3)) {
        char one[96], other[96];
        weft_fail(c, WEFT_E_SHAPE,
                  "samples_from %s does not go onto samples_to %s: one or as many, of as many channels",
                  weft_describe(b, other, sizeof other), weft_describe(a, one, sizeof one));
        return;
    }
    if (n->x / 8 >= weft_dim(a, 2) || n->y / 8 >= weft_dim(a, 1)) {
        weft_fail(c, WEFT_E_ARGUMENT, "x %lld, y %lld lies outside latents of %lld × %lld pixels", (long long)n->x,
                  (long long)n->y,
                  8 * (long long)weft_dim(a, 2), 8 * (long long)weft_dim(a, 1));
        return;
    }
    float *to = weft_pixels_read(c, a), *from = weft_pixels_read(c, b);
    if (to && from) lay(n, to, weft_shape(a), from, weft_shape(b));
    free(from);
    n->out = with_samples(c, n->samples_to, weft_pixels_tensor(c, to, weft_rank(a), weft_shape(a)));
}

const weft_node weft_node_LatentComposite = {
    .name = "LatentComposite", .title = "Latent Composite", .category = "latent",
    .summary = "Lays latents on others, with soft edges.",
    .size = sizeof(struct composite),
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct composite, samples_to, "LATENT", "the latents below"),
                                   WEFT_OBJECT_IN(struct composite, samples_from, "LATENT", "the latents laid on them"),
                               WEFT_INT_IN(struct composite, x, 0, 0, 16384, 8, "where their left edge comes"),
                               WEFT_INT_IN(struct composite, y, 0, 0, 16384, 8, "where their upper edge comes"),
                               WEFT_INT_IN(struct composite, feather, 0, 0, 16384, 8,
                                               "over how many pixels an edge inside fades"), { 0 } },
    .outputs = LATENT_OUT(struct composite), .run = composite_run,
};
