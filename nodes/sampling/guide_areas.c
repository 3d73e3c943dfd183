/* Where each text counts: areas, masks and their weights. See guide.h; behaviour: ComfyUI. */
#include "nodes/sampling/guide_internal.h"

#include <math.h>
#include <stdlib.h>

weft_tensor *weft_to_batch(weft_ctx *c, weft_tensor *t, int64_t n) {
    int64_t have = weft_dim(t, 0);
    if (have == n || !t) return t;
    if (have < 1) {
        weft_fail(c, WEFT_E_SHAPE, "an empty batch where %lld are wanted", (long long)n);
        return NULL;
    }
    weft_scope s = weft_scope_named(c, "batch");
    weft_tensor *all = t;
    while (weft_ok(c) && weft_dim(all, 0) < n) all = weft_concat2(c, 0, all, all);
    return weft_scope_end(c, s, weft_contiguous(c, weft_slice(c, all, 0, 0, n)));
}

weft_tensor *weft_fit_mask(weft_ctx *c, weft_tensor *mask, weft_tensor *latent, const char *what) {
    char shape[96];
    if (weft_rank(mask) != 3 || !weft_count(mask)) {
        weft_fail(c, WEFT_E_SHAPE, "%s: masks are (N, height, width), not %s", what,
                  weft_describe(mask, shape, sizeof shape));
        return NULL;
    }
    mask = weft_reshape(c, weft_cast(c, mask, WEFT_F32),
                        WEFT_SHAPE(weft_dim(mask, 0), weft_dim(mask, 1), weft_dim(mask, 2), 1));
    mask = weft_resample(c, mask, WEFT_BILINEAR, weft_dim(latent, 1), weft_dim(latent, 2));
    return weft_to_batch(c, mask, weft_dim(latent, 0));
}

/* The smallest rectangle around what is not 0, 8 pixels a side at least; 8 × 8 in the corner where all is. */
static void bounds(const float *m, int64_t n, int64_t h, int64_t w, weft_guided *g) {
    int64_t left = w, right = -1, top = h, bottom = -1;
    for (int64_t i = 0; i < n * h * w; i++) {
        int64_t x = i % w, y = i / w % h;
        if (m[i] == 0) continue;
        if (x < left) left = x;
        if (x > right) right = x;
        if (y < top) top = y;
        if (y > bottom) bottom = y;
    }
    g->x = right < 0 ? 0 : left;
    g->y = right < 0 ? 0 : top;
    g->w = right - left + 1 > 8 ? right - left + 1 : 8;
    g->h = bottom - top + 1 > 8 ? bottom - top + 1 : 8;
}

/* Cut to the picture; false with the error set where nothing is left. */
static bool clip(weft_ctx *c, weft_guided *g, int64_t h, int64_t w) {
    if (g->w > w - g->x) g->w = w - g->x;
    if (g->h > h - g->y) g->h = h - g->y;
    g->whole = g->w == w && g->h == h;
    if (g->x >= 0 && g->y >= 0 && g->w > 0 && g->h > 0) return true;
    weft_fail(c, WEFT_E_ARGUMENT, "conditioning: its area at %lld, %lld lies outside of the latent of %lld × %lld",
              (long long)g->x, (long long)g->y, (long long)w, (long long)h);
    return false;
}

/* The factor of place i of `length` where the near and far edge are inside the picture. */
static double ramp(int64_t i, int64_t length, bool near, bool far) {
    int64_t rise = length / 4 < 8 ? length / 4 : 8;
    double f = 1;
    if (near && i < rise) f *= (double)(i + 1) / (double)rise;
    if (far && length - 1 - i < rise) f *= (double)(length - i) / (double)rise;
    return f;
}

/* mask: N pictures of H × W, or NULL; fills n·h·w weights of the item's area. */
static void fill_weights(const weft_guided *g, const weft_cond *k, const float *mask, int64_t n, int64_t H, int64_t W,
                         float *out) {
    bool edges = !mask && (k->has_area || !g->whole);
    for (int64_t b = 0; b < n; b++)
        for (int64_t y = 0; y < g->h; y++)
            for (int64_t x = 0; x < g->w; x++) {
                double v = k->strength;
                if (mask) v *= mask[(b * H + g->y + y) * W + g->x + x] * k->mask_strength;
                if (edges) v *= ramp(y, g->h, g->y > 0, g->y + g->h < H) * ramp(x, g->w, g->x > 0, g->x + g->w < W);
                *out++ = (float)v;
            }
}

bool weft_guided_place(weft_ctx *c, const weft_cond *k, weft_tensor *latent, weft_guided *g) {
    int64_t n = weft_dim(latent, 0), h = weft_dim(latent, 1), w = weft_dim(latent, 2);
    g->x = k->has_area ? k->area_x : 0;
    g->y = k->has_area ? k->area_y : 0;
    g->w = k->has_area ? k->area_width : w;
    g->h = k->has_area ? k->area_height : h;
    float *mask = NULL, *weights = NULL;
    if (k->mask) {
        weft_tensor *fitted = weft_fit_mask(c, k->mask, latent, "conditioning");
        size_t bytes = (size_t)(n * h * w) * sizeof *mask;
        if (fitted && !(mask = malloc(bytes))) weft_fail(c, WEFT_E_MEMORY, "conditioning: out of memory for its mask");
        if (!fitted || !mask || weft_read(c, fitted, mask, bytes)) goto out;
        if (k->mask_bounds) bounds(mask, n, h, w, g);
    }
    if (!clip(c, g, h, w) || (g->whole && !mask && k->strength == 1)) goto out;
    weights = malloc((size_t)(n * g->h * g->w) * sizeof *weights);
    if (!weights) {
        weft_fail(c, WEFT_E_MEMORY, "conditioning: out of memory for its weights");
        goto out;
    }
    fill_weights(g, k, mask, n, h, w, weights);
    g->weight = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(n, g->h, g->w, 1), weights);
out:
    free(mask);
    free(weights);
    return weft_ok(c);
}
