/* Samples side by side; see curve.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "nodes/image/pixels.h"
#include "nodes/train/curve.h"

enum { MOST = 65535 };      /* pixels a side of a PNG file, as weft_picture_save() writes them */

/* in: (N, h, w, from) of numbers that `scale` brings to 0…1; out: (high, wide, channels). */
struct tiles { int64_t n, h, w, from, channels, columns, frame, high, wide; float scale; };

static unsigned char byte_of(float v) { return (unsigned char)fminf(fmaxf(v * 255 + 0.5f, 0), 255); }

static void lay(const struct tiles *t, const float *in, unsigned char *out) {
    for (int64_t i = 0; i < t->n; i++)
        for (int64_t y = 0; y < t->h; y++) {
            const int64_t row = i / t->columns * (t->h + t->frame) + t->frame + y;
            unsigned char *to = out + (row * t->wide + i % t->columns * (t->w + t->frame) + t->frame) * t->channels;
            for (int64_t x = 0; x < t->w; x++, in += t->from, to += t->channels)
                for (int64_t k = 0; k < t->channels; k++) to[k] = byte_of(in[k % t->from] * t->scale);
        }
}

weft_tensor *weft_grid(weft_ctx *c, weft_tensor *pictures, int64_t columns, int64_t padding, double value) {
    if (!weft_want_image(c, pictures, "pictures")) return NULL;
    struct tiles t = { .n = weft_dim(pictures, 0), .h = weft_dim(pictures, 1), .w = weft_dim(pictures, 2),
                       .from = weft_dim(pictures, 3), .scale = weft_type(pictures) == WEFT_U8 ? 1 / 255.0f : 1 };
    t.channels = t.from == 1 ? 3 : t.from;
    t.frame = t.n == 1 ? 0 : padding;
    t.columns = columns < t.n ? columns : t.n;
    if (columns < 1 || padding < 0 || padding > MOST || (t.channels != 3 && t.channels != 4)) {
        weft_fail(c, WEFT_E_ARGUMENT,
                  "a grid has one column or more, no negative padding, pictures of 1, 3 or 4 channels");
        return NULL;
    }
    t.high = (t.n + t.columns - 1) / t.columns * (t.h + t.frame) + t.frame;
    t.wide = t.columns * (t.w + t.frame) + t.frame;
    if (t.high > MOST || t.wide > MOST) {
        weft_fail(c, WEFT_E_SHAPE, "a grid of %lld pictures would be %lld by %lld pixels; %d a side are possible",
                  (long long)t.n, (long long)t.wide, (long long)t.high, MOST);
        return NULL;
    }
    const size_t bytes = (size_t)(t.high * t.wide * t.channels);
    float *in = weft_pixels_read(c, pictures);
    unsigned char *out = in ? malloc(bytes) : NULL;
    weft_tensor *grid = NULL;
    if (in && !out) weft_fail(c, WEFT_E_MEMORY, "no memory for a grid of pictures");
    if (out) {
        memset(out, byte_of((float)value), bytes);
        lay(&t, in, out);
        grid = weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(t.high, t.wide, t.channels), out);
    }
    free(in);
    free(out);
    return grid;
}
