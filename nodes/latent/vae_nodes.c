/* VAEDecode, VAEDecodeTiled, VAEEncode, VAEEncodeForInpaint: between latents and pictures. ComfyUI's names, defaults
 * and ranges. */
#include "nodes/image/pixels.h"
#include "nodes/latent/tiles.h"
#include "nodes/values.h"

#include <math.h>
#include <stdlib.h>

#define VAE_IN(S) WEFT_OBJECT_IN(S, vae, "VAE", "the autoencoder")
#define IMAGE_OUT(S) (const weft_port[]){ WEFT_OUT(S, out, WEFT_PORT_TENSOR, "IMAGE", "IMAGE", "the pictures"), { 0 } }
#define LATENT_OUT(S) (const weft_port[]){ WEFT_OUT(S, out, WEFT_PORT_OBJECT, "LATENT", "LATENT", "the latents"), \
                                           { 0 } }

/* Pixels a latent's side. */
static int64_t ratio_of(const weft_vae *v) { return (int64_t)1 << (v->config.blocks - 1); }

/* Whether these are latents that the autoencoder takes. */
static bool want_latent(weft_ctx *c, const weft_latent *l, const weft_vae *v) {
    if (!weft_want_image(c, l->samples, "samples")) return false;
    if (weft_dim(l->samples, 3) == v->config.latent_channels) return true;
    weft_fail(c, WEFT_E_SHAPE, "samples: latents of %lld channels; the autoencoder takes %d",
              (long long)weft_dim(l->samples, 3), v->config.latent_channels);
    return false;
}

/* ---- VAEDecode, VAEDecodeTiled ----------------------------------------------------------------------------------- */

struct decode {
    weft_latent *samples;
    weft_vae *vae;
    int64_t tile_size, overlap, temporal_size, temporal_overlap;
    weft_tensor *out;
};
typedef weft_tensor *decoding(weft_ctx *c, const struct decode *n, weft_tensor *one);

static weft_tensor *decode_whole(weft_ctx *c, const struct decode *n, weft_tensor *one) {
    return weft_vae_decode(c, weft_root(n->vae->weights->tree), &n->vae->config, one);
}

static weft_tensor *decode_tiled(weft_ctx *c, const struct decode *n, weft_tensor *one) {
    int64_t ratio = ratio_of(n->vae), overlap = n->tile_size < 4 * n->overlap ? n->tile_size / 4 : n->overlap;
    return weft_decode_tiled(c, n->vae, one, n->tile_size / ratio, overlap / ratio);
}

/* One latent at a time, as a decoded picture's activations are large; [−1, 1] → [0, 1]. */
static void decode_each(weft_ctx *c, struct decode *n, decoding *decode) {
    if (!want_latent(c, n->samples, n->vae)) return;
    int64_t count = weft_dim(n->samples->samples, 0);
    weft_tensor **pictures = calloc((size_t)count, sizeof *pictures);
    if (!pictures) weft_fail(c, WEFT_E_MEMORY, "out of memory for %lld pictures", (long long)count);
    for (int64_t i = 0; pictures && i < count && weft_ok(c); i++) {
        weft_scope s = weft_scope_begin(c, weft_root(n->vae->weights->tree));
        weft_tensor *one = weft_contiguous(c, weft_cast(c, weft_slice(c, n->samples->samples, 0, i, 1), WEFT_F32));
        pictures[i] = weft_scope_end(c, s, weft_clamp(c, weft_affine(c, decode(c, n, one), 0.5, 0.5), 0, 1));
        weft_progress(c, "decode", i + 1, count);
    }
    if (weft_ok(c)) n->out = count == 1 ? pictures[0] : weft_concat(c, 0, (int)count, pictures);
    free(pictures);
}

static void decode_run(weft_ctx *c, void *self) { decode_each(c, self, decode_whole); }
static void decode_tiled_run(weft_ctx *c, void *self) { decode_each(c, self, decode_tiled); }

const weft_node weft_node_VAEDecode = {
    .name = "VAEDecode", .title = "VAE Decode", .category = "latent", .summary = "Turns latents into pictures.",
    .size = sizeof(struct decode),
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct decode, samples, "LATENT", "the latents"),
                                   VAE_IN(struct decode), { 0 } },
    .outputs = IMAGE_OUT(struct decode), .run = decode_run,
};

#define LATE_INT(f, d, low, st, h) { #f, "INT", WEFT_PORT_INT, WEFT_PORT_LATE, offsetof(struct decode, f), d, low, \
                                     4096, st, NULL, NULL, NULL, h }

const weft_node weft_node_VAEDecodeTiled = {
    .name = "VAEDecodeTiled", .title = "VAE Decode (Tiled)", .category = "_for_testing",
    .summary = "Turns latents into pictures tile by tile, which takes less memory.", .size = sizeof(struct decode),
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct decode, samples, "LATENT", "the latents"),
                                   VAE_IN(struct decode),
                               WEFT_INT_IN(struct decode, tile_size, 512, 64, 4096, 32, "pixels a tile's side"),
                                   LATE_INT(overlap, 64, 0, 32, "pixels that neighbours share"),
                                   LATE_INT(temporal_size, 64, 8, 4, "for films: not used"),
                                   LATE_INT(temporal_overlap, 8, 4, 4, "for films: not used"), { 0 } },
    .outputs = IMAGE_OUT(struct decode), .run = decode_tiled_run,
};

/* ---- VAEEncode --------------------------------------------------------------------------------------------------- */

struct encode { weft_tensor *pixels; weft_vae *vae; weft_tensor *mask; int64_t grow_mask_by; weft_latent *out; };

/* Cut to a multiple of `ratio`, from the middle: rows and columns are dimensions 1 and 2. */
static weft_tensor *cut_even(weft_ctx *c, weft_tensor *x, int64_t ratio) {
    for (int i = 1; i <= 2; i++) {
        int64_t over = weft_dim(x, i) % ratio;
        x = weft_slice(c, x, i, over / 2, weft_dim(x, i) - over);
    }
    return weft_contiguous(c, x);
}

static bool want_pixels(weft_ctx *c, const struct encode *n) {
    int64_t ratio = ratio_of(n->vae);
    char shape[96];
    if (!weft_want_image(c, n->pixels, "pixels")) return false;
    if (weft_dim(n->pixels, 3) >= 3 && weft_dim(n->pixels, 1) >= ratio && weft_dim(n->pixels, 2) >= ratio) return true;
    weft_fail(c, WEFT_E_SHAPE, "pixels: pictures of %lld × %lld and more are encoded, not %s", (long long)ratio,
              (long long)ratio,
              weft_describe(n->pixels, shape, sizeof shape));
    return false;
}

/* Pictures in [0, 1], one at a time, to the distribution's mean; noise_mask may be NULL. */
static weft_latent *encode(weft_ctx *c, const weft_vae *v, weft_tensor *x, weft_tensor *noise_mask) {
    int64_t count = weft_dim(x, 0);
    weft_tensor **means = calloc((size_t)count + 1, sizeof *means), *all = NULL;
    if (!means) weft_fail(c, WEFT_E_MEMORY, "out of memory for %lld pictures", (long long)count);
    for (int64_t i = 0; means && i < count && weft_ok(c); i++) {
        weft_scope s = weft_scope_begin(c, weft_root(v->weights->tree));
        weft_tensor *one = weft_affine(c, weft_contiguous(c, weft_slice(c, x, 0, i, 1)), 2, -1);
        means[i] = weft_scope_end(c, s, weft_vae_encode(c, weft_root(v->weights->tree), &v->config, one).mean);
        weft_progress(c, "encode", i + 1, count);
    }
    if (weft_ok(c)) all = count == 1 ? means[0] : weft_concat(c, 0, (int)count, means);
    free(means);
    return all ? weft_latent_new(c, &(weft_latent){ .samples = all, .noise_mask = noise_mask,
                                                    .downscale = (double)ratio_of(v) }) : NULL;
}

static void encode_run(weft_ctx *c, void *self) {
    struct encode *n = self;
    if (!want_pixels(c, n)) return;
    weft_tensor *x = cut_even(c, weft_slice(c, weft_cast(c, n->pixels, WEFT_F32), 3, 0, 3), ratio_of(n->vae));
    if (x) n->out = encode(c, n->vae, x, NULL);
}

const weft_node weft_node_VAEEncode = {
    .name = "VAEEncode", .title = "VAE Encode", .category = "latent",
    .summary = "Turns pictures into latents (the distribution's mean).",
    .size = sizeof(struct encode),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct encode, pixels, "the pictures"), VAE_IN(struct encode), { 0 } },
    .outputs = LATENT_OUT(struct encode), .run = encode_run,
};

/* ---- VAEEncodeForInpaint ----------------------------------------------------------------------------------------- */

/* 1 where a mask (count, h, w) is 1 within a square of `size` around: size/2 before, the rest behind. */
static float *widened(weft_ctx *c, const float *m, int64_t count, int64_t h, int64_t w, int64_t size) {
    float *rows = weft_pixels_new(c, count * h * w), *out = weft_pixels_new(c, count * h * w);
    int64_t before = size / 2, after = size - 1 - before;
    for (int64_t i = 0; rows && out && i < count * h * w; i++)
        for (int64_t x = i % w - before; x <= i % w + after; x++)
            if (x >= 0 && x < w && m[i - i % w + x] > 0) rows[i] = 1;
    for (int64_t i = 0; rows && out && i < count * h * w; i++)
        for (int64_t y = i / w % h - before; y <= i / w % h + after; y++)
            if (y >= 0 && y < h && rows[i + (y - i / w % h) * w] > 0) out[i] = 1;
    free(rows);
    return out;
}

/* Grey where the mask rounds to 1, so that nothing of what was there shines through; the noise mask reaches
 * grow_mask_by further. */
static void encode_inpaint_run(weft_ctx *c, void *self) {
    struct encode *n = self;
    weft_tensor *m = want_pixels(c, n) ? weft_want_mask(c, n->mask, "mask") : NULL;
    if (!m) return;
    int64_t ratio = ratio_of(n->vae), pictures = weft_dim(n->pixels, 0), count = weft_dim(m, 0);
    m = weft_reshape(c, m, WEFT_SHAPE(count, weft_dim(m, 1), weft_dim(m, 2), 1));
    m = cut_even(c, weft_resample(c, m, WEFT_BILINEAR, weft_dim(n->pixels, 1), weft_dim(n->pixels, 2)), ratio);
    weft_tensor *x = cut_even(c, weft_slice(c, weft_cast(c, n->pixels, WEFT_F32), 3, 0, 3), ratio);
    if (count > 1 && count != pictures) m = weft_batch_fit(c, m, pictures), count = pictures;
    float *p = m ? weft_pixels_read(c, m) : NULL;
    if (!p || !x) {
        free(p);
        return;
    }
    int64_t h = weft_dim(m, 1), w = weft_dim(m, 2);
    for (int64_t i = 0; i < count * h * w; i++) p[i] = rintf(p[i]);
    float *grown = widened(c, p, count, h, w, n->grow_mask_by ? n->grow_mask_by : 1);
    weft_tensor *keep = weft_affine(c, weft_pixels_tensor(c, p, WEFT_SHAPE(count, h, w, 1)), -1, 1);
    x = weft_affine(c, weft_mul(c, weft_affine(c, x, 1, -0.5), keep), 1, 0.5);
    weft_tensor *noise_mask = weft_pixels_tensor(c, grown, WEFT_SHAPE(count, h, w));
    if (x && noise_mask) n->out = encode(c, n->vae, x, noise_mask);
}

const weft_node weft_node_VAEEncodeForInpaint = {
    .name = "VAEEncodeForInpaint", .title = "VAE Encode (for Inpainting)", .category = "latent/inpaint",
    .summary = "Turns pictures into latents with what the mask marks taken out, to be redrawn.",
    .size = sizeof(struct encode),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct encode, pixels, "the pictures"), VAE_IN(struct encode),
                                   WEFT_MASK_IN(struct encode, mask, "1: is redrawn"),
                                   { "grow_mask_by", "INT", WEFT_PORT_INT, WEFT_PORT_LATE,
                                     offsetof(struct encode, grow_mask_by), 6, 0, 64, 1, NULL, NULL, NULL,
                                     "how much wider the noise mask is, in pixels" }, { 0 } },
    .outputs = LATENT_OUT(struct encode), .run = encode_inpaint_run,
};
