/* Scaling of latents by spherical interpolation; ComfyUI's "bislerp". For neighbours a, b with unit directions â, b̂
 * and the part r of the way between them,
 *
 *   y = (|a|(1−r) + |b|r) · (sin((1−r)ω)·â + sin(rω)·b̂) / sin ω,    cos ω = â·b̂
 *
 * and y = a where they point the same way (cos ω > 1 − 10⁻⁵), the plain mixture where they point apart (cos ω < 10⁻⁵ −
 * 1).
 */
#include "nodes/image/pixels.h"

#include <math.h>
#include <stdlib.h>

/* Values of a vector lie next to each other. */
static void slerp(const float *a, const float *b, double r, int64_t channels, float *y) {
    double aa = 0, bb = 0, ab = 0;
    for (int64_t i = 0; i < channels; i++) {
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
        ab += (double)a[i] * b[i];
    }
    double na = sqrt(aa), nb = sqrt(bb), cosine = na > 0 && nb > 0 ? ab / (na * nb) : 0, wa = 1 - r, wb = r;
    if (cosine > 1 - 1e-5) wa = 1, wb = 0;
    else if (cosine >= 1e-5 - 1) {
        double omega = acos(cosine), length = (na * (1 - r) + nb * r) / sin(omega);
        wa = na > 0 ? sin((1 - r) * omega) * length / na : 0;
        wb = nb > 0 ? sin(r * omega) * length / nb : 0;
    }
    for (int64_t i = 0; i < channels; i++) y[i] = (float)(wa * a[i] + wb * b[i]);
}

/* x: (outer, length, inner, channels) → y: (outer, wanted, inner, channels). */
static void stretch(const float *x, int64_t outer, int64_t length, int64_t inner, int64_t channels, int64_t wanted,
                    float *y) {
    float scale = (float)length / (float)wanted;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < wanted; i++) {
            float place = fmaxf(scale * ((float)i + 0.5f) - 0.5f, 0);
            int64_t first = (int64_t)place < length ? (int64_t)place : length - 1;
            int64_t second = first + 1 < length ? first + 1 : first;
            double r = first == second ? 0 : place - (float)first;
            for (int64_t k = 0; k < inner; k++)
                slerp(x + ((o * length + first) * inner + k) * channels,
                      x + ((o * length + second) * inner + k) * channels, r,
                      channels, y + ((o * wanted + i) * inner + k) * channels);
        }
}

weft_tensor *weft_bislerp(weft_ctx *c, weft_tensor *x, int64_t height, int64_t width) {
    int64_t n = weft_dim(x, 0), h = weft_dim(x, 1), w = weft_dim(x, 2), channels = weft_dim(x, 3);
    float *in = weft_pixels_read(c, x), *rows = weft_pixels_new(c, n * h * width * channels);
    float *out = weft_pixels_new(c, n * height * width * channels);
    if (in && rows && out) {
        stretch(in, n * h, w, 1, channels, width, rows);
        stretch(rows, n, h, width, channels, height, out);
    }
    bool whole = in && rows && out;
    free(in);
    free(rows);
    if (whole) return weft_pixels_tensor(c, out, WEFT_SHAPE(n, height, width, channels));
    free(out);
    return NULL;
}
