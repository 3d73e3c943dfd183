/* See tiles.h. The places of tiles and the weights at their edges are ComfyUI's (tiled_scale): with overlaps of f
 * output pixels, row t of a tile has the weight (t+1)/f, from either end, and likewise columns; the sum is divided by
 * the sum of weights. */
#include "nodes/latent/tiles.h"
#include "nodes/image/pixels.h"

#include <stdlib.h>

typedef struct division {
    const weft_vae *vae;
    weft_tensor *latent;
    int64_t ratio, h, w, channels;      /* of the latent: h, w; of the output: channels */
    float *sum, *weight;                /* (ratio·h, ratio·w, channels), (ratio·h, ratio·w) */
} division;

static float edge(int64_t i, int64_t size, int64_t fade) {
    float v = 1;
    if (fade >= size) return v;
    if (i < fade) v *= (float)((double)(i + 1) / (double)fade);
    if (size - 1 - i < fade) v *= (float)((double)(size - i) / (double)fade);
    return v;
}

static void add_tile(division *d, const float *p, int64_t y0, int64_t x0, int64_t h, int64_t w, int64_t fade) {
    int64_t width = d->ratio * d->w;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            float v = edge(y, h, fade) * edge(x, w, fade);
            int64_t at = (y0 + y) * width + x0 + x;
            d->weight[at] += v;
            for (int64_t k = 0; k < d->channels; k++) d->sum[at * d->channels + k] += v * p[(y * w + x) * d->channels +
                k];
        }
}

static bool decode_tile(weft_ctx *c, division *d, int64_t y, int64_t x, int64_t h, int64_t w, int64_t overlap) {
    weft_scope s = weft_scope_named(c, "tile");
    weft_tensor *t = weft_contiguous(c, weft_slice(c, weft_slice(c, d->latent, 1, y, h), 2, x, w));
    t = weft_vae_decode(c, weft_root(d->vae->weights->tree), &d->vae->config, t);
    float *p = t ? weft_pixels_read(c, t) : NULL;
    if (p) add_tile(d, p, d->ratio * y, d->ratio * x, d->ratio * h, d->ratio * w, d->ratio * overlap);
    free(p);
    weft_scope_end(c, s, NULL);
    return p != NULL;
}

/* How many tiles a side of `size` takes. */
static int64_t tiles_of(int64_t size, int64_t tile, int64_t overlap) {
    return size > tile ? (size - overlap + tile - overlap - 1) / (tile - overlap) : 1;
}

/* Adds one division's picture to out. */
static bool divide(weft_ctx *c, division *d, int64_t th, int64_t tw, int64_t overlap, float *out) {
    int64_t pixels = d->ratio * d->h * d->ratio * d->w, rows = tiles_of(d->h, th, overlap),
        columns = tiles_of(d->w, tw, overlap);
    bool whole = th >= d->h && tw >= d->w;
    d->sum = weft_pixels_new(c, pixels * d->channels);
    d->weight = weft_pixels_new(c, pixels);
    bool good = d->sum && d->weight;
    for (int64_t i = 0; good && i < rows * columns; i++) {
        int64_t y = i / columns * (th - overlap), x = i % columns * (tw - overlap);
        int64_t h = d->h - y < th ? d->h - y : th, w = d->w - x < tw ? d->w - x : tw;
        good = decode_tile(c, d, y, x, h, w, whole ? 0 : overlap) && weft_progress(c, "tiles", i + 1, rows * columns);
    }
    for (int64_t i = 0; good && i < pixels * d->channels; i++) out[i] += d->sum[i] / d->weight[i / d->channels];
    free(d->sum);
    free(d->weight);
    return good;
}

weft_tensor *weft_decode_tiled(weft_ctx *c, const weft_vae *v, weft_tensor *latent, int64_t tile, int64_t overlap) {
    if (!weft_ok(c)) return NULL;
    division d = { .vae = v, .latent = latent, .ratio = (int64_t)1 << (v->config.blocks - 1), .h = weft_dim(latent, 1),
                   .w = weft_dim(latent, 2),
                   .channels = v->config.out_channels };
    int64_t h = d.ratio * d.h, w = d.ratio * d.w;
    float *out = weft_pixels_new(c, h * w * d.channels);
    bool good = out && divide(c, &d, 2 * tile, tile / 2, overlap, out) &&
        divide(c, &d, tile / 2, 2 * tile, overlap, out) &&
                divide(c, &d, tile, tile, overlap, out);
    if (good) return weft_affine(c, weft_pixels_tensor(c, out, WEFT_SHAPE(1, h, w, d.channels)), 1.0 / 3, 0);
    free(out);
    return NULL;
}
