/* See pixels.h. Scaling follows ComfyUI's common_upscale(): torch.nn.functional.interpolate for the plain methods,
 * Pillow for lanczos. */
#include "nodes/image/pixels.h"

#include <math.h>
#include <stdlib.h>

bool weft_want_image(weft_ctx *c, const weft_tensor *t, const char *input) {
    char shape[96];
    if (!weft_ok(c)) return false;
    if (weft_rank(t) == 4 && weft_count(t) > 0) return true;
    weft_fail(c, WEFT_E_SHAPE, "%s: expected (N, H, W, channels), found %s", input,
              weft_describe(t, shape, sizeof shape));
    return false;
}

weft_tensor *weft_want_mask(weft_ctx *c, weft_tensor *t, const char *input) {
    char shape[96];
    if (!weft_ok(c)) return NULL;
    if ((weft_rank(t) != 2 && weft_rank(t) != 3) || weft_count(t) < 1) {
        weft_fail(c, WEFT_E_SHAPE, "%s: expected a mask (N, H, W), found %s", input,
                  weft_describe(t, shape, sizeof shape));
        return NULL;
    }
    if (weft_rank(t) == 2) t = weft_reshape(c, t, WEFT_SHAPE(1, weft_dim(t, 0), weft_dim(t, 1)));
    return weft_contiguous(c, weft_cast(c, t, WEFT_F32));
}

float *weft_pixels_new(weft_ctx *c, int64_t count) {
    float *p = weft_ok(c) && count >= 0 ? calloc((size_t)count + 1, sizeof *p) : NULL;
    if (!p) weft_fail(c, WEFT_E_MEMORY, "out of memory for %lld values", (long long)count);
    return p;
}

float *weft_pixels_read(weft_ctx *c, weft_tensor *t) {
    t = weft_cast(c, t, WEFT_F32);
    float *p = t ? weft_pixels_new(c, weft_count(t)) : NULL;
    if (p && !weft_read(c, t, p, sizeof *p * (size_t)weft_count(t))) return p;
    free(p);
    return NULL;
}

weft_tensor *weft_pixels_tensor(weft_ctx *c, float *pixels, int rank, const int64_t *shape) {
    weft_tensor *t = pixels ? weft_tensor_from(c, WEFT_F32, rank, shape, pixels) : NULL;
    free(pixels);
    return t;
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */

weft_tensor *weft_batch_repeat(weft_ctx *c, weft_tensor *t, int64_t amount) {
    int rank = weft_rank(t);
    int64_t shape[WEFT_MAX_RANK], dense[WEFT_MAX_RANK];
    if (!weft_ok(c) || amount == 1) return t;
    if (rank < 1 || rank >= WEFT_MAX_RANK || amount < 1) {
        weft_fail(c, WEFT_E_INTERNAL, "a batch of rank %d, %lld times", rank, (long long)amount);
        return NULL;
    }
    shape[0] = amount;
    for (int i = 0; i < rank; i++) shape[i + 1] = dense[i] = weft_dim(t, i);
    dense[0] *= amount;
    return weft_reshape(c, weft_contiguous(c, weft_broadcast(c, t, rank + 1, shape)), rank, dense);
}

weft_tensor *weft_batch_fit(weft_ctx *c, weft_tensor *t, int64_t count) {
    int64_t n = weft_dim(t, 0);
    if (!weft_ok(c) || n == count) return t;
    if (n < 1) {
        weft_fail(c, WEFT_E_SHAPE, "an empty batch where %lld are wanted", (long long)count);
        return NULL;
    }
    if (n < count) t = weft_batch_repeat(c, t, (count + n - 1) / n);
    return weft_contiguous(c, weft_slice(c, t, 0, 0, count));
}

/* ---- scaling ----------------------------------------------------------------------------------------------------- */

/* What is cut off each end of `side` where the picture is too long that way: half of side − side·ratio. */
static int64_t margin(int64_t side, double ratio) {
    return ratio < 1 ? (int64_t)rint(((double)side - (double)side * ratio) / 2) : 0;
}

static weft_tensor *cut_to_ratio(weft_ctx *c, weft_tensor *x, int64_t height, int64_t width) {
    int64_t h = weft_dim(x, 1), w = weft_dim(x, 2);
    double old = (double)w / (double)h, new = (double)width / (double)height;
    int64_t left = margin(w, new / old), top = margin(h, old / new);
    return weft_slice(c, weft_slice(c, x, 1, top, h - 2 * top), 2, left, w - 2 * left);
}

/* 255·x cut to whole numbers, resized, and divided again. */
static weft_tensor *lanczos(weft_ctx *c, weft_tensor *x, int64_t height, int64_t width) {
    x = weft_cast(c, weft_clamp(c, weft_affine(c, x, 255, 0), 0, 255), WEFT_U8);
    x = weft_cast(c, weft_resample(c, x, WEFT_PIL_LANCZOS, height, width), WEFT_F32);
    return weft_div(c, x, weft_scalar(c, WEFT_F32, 255));
}

weft_tensor *weft_upscale_to(weft_ctx *c, weft_tensor *x, weft_upscale how, int64_t height, int64_t width,
                             bool center) {
    static const weft_resample_mode modes[] = { WEFT_NEAREST_EXACT, WEFT_BILINEAR, WEFT_AREA, WEFT_BICUBIC };
    if (!weft_ok(c)) return NULL;
    if (height < 1 || width < 1) {
        weft_fail(c, WEFT_E_ARGUMENT, "scaling to %lld × %lld: no pixel is left", (long long)width, (long long)height);
        return NULL;
    }
    if (center) x = cut_to_ratio(c, x, height, width);
    x = weft_contiguous(c, weft_cast(c, x, WEFT_F32));
    if (how == WEFT_UP_LANCZOS) return lanczos(c, x, height, width);
    if (how == WEFT_UP_BISLERP) return weft_bislerp(c, x, height, width);
    return weft_resample(c, x, modes[how], height, width);
}

int64_t weft_scaled_side(weft_ctx *c, int64_t side, double by) {
    double scaled = rint((double)side * by);
    if (scaled >= 1 && scaled < 0x1p31) return (int64_t)scaled;
    weft_fail(c, WEFT_E_ARGUMENT, "scale_by %g makes %.0f of %lld", by, scaled, (long long)side);
    return 0;
}
