/* From a picture file to a row of a batch: grey or RGB, scaled to cover, cut, mirrored, coloured, normalised.
 *
 * Covering: the side that would be too short gets the wanted length, the other floor(wanted·long/short), which for a
 * square is torchvision's Resize(size). The middle: offsets (h − height)/2 rounded half to even, torchvision's
 * CenterCrop. Colours: torchvision's adjust_brightness, adjust_contrast and adjust_saturation on floats in [0, 1],
 * x ← clamp(f·x + (1 − f)·y, 0, 1) with y = 0, the mean of the picture's grey, or each pixel's grey, where grey =
 * 0.2989 R + 0.587 G + 0.114 B; in random order, as ColorJitter.
 */
#include "nodes/data/dataset_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/image/picture.h"
#include "runtime/file.h"

enum { MOST_LOST = 64 };            /* a picture of which less than 1/64 would be kept is not used */
static const size_t most_held = (size_t)64 << 20;

/* ---- scaling and cutting ----------------------------------------------------------------------------------------- */

static int64_t middle(int64_t left_over) { return left_over / 2 + (left_over % 4 == 3); }

data_frame data_frame_for(int64_t h, int64_t w, int64_t height, int64_t width) {
    bool wide = w * height >= h * width;
    data_frame f = { .h = wide ? height : h * width / w, .w = wide ? w * height / h : width };
    f.top = middle(f.h - height);
    f.left = middle(f.w - width);
    return f;
}

/* (h, w, any) u8 as (1, h, w, channels): alpha is dropped, grey repeated; grey of colours as Pillow's "L". */
static weft_tensor *with_channels(weft_ctx *c, weft_tensor *t, int channels) {
    int64_t h = weft_dim(t, 0), w = weft_dim(t, 1), from = weft_dim(t, 2);
    if (!t || from == channels) return weft_reshape(c, t, WEFT_SHAPE(1, h, w, channels));
    weft_tensor *y = weft_tensor_new(c, WEFT_U8, WEFT_SHAPE(1, h, w, channels));
    const uint8_t *src = weft_data(t);
    uint8_t *dst = weft_data(y);
    for (int64_t i = 0; dst && i < h * w; i++, src += from, dst += channels) {
        if (channels == 3) for (int k = 0; k < 3; k++) dst[k] = src[from < 3 ? 0 : k];
        else if (from < 3) *dst = *src;
        else *dst = (uint8_t)((src[0] * 19595 + src[1] * 38470 + src[2] * 7471 + 32768) >> 16);
    }
    return y;
}

/* The sample's picture as (1, h, w, channels) u8 or f32; NULL with lane's error. */
static weft_tensor *load(weft_ctx *lane, const weft_dataset *d, uint32_t sample) {
    if (d->memory) {
        const int64_t *s = d->memory_shape;
        const size_t bytes = (size_t)(s[1] * s[2] * s[3]) * weft_dtype_size(d->memory_type);
        const void *data = (const char *)d->memory + sample * bytes;
        return weft_tensor_borrow(lane, d->memory_type, WEFT_SHAPE(1, s[1], s[2], s[3]), data, NULL, NULL);
    }
    char *path = weft_path_join(lane, d->o.folder, weft_dataset_file(d, sample));
    weft_tensor *t = path ? with_channels(lane, weft_picture_load(lane, path), d->o.channels) : NULL;
    weft_text_free(path);
    return t;
}

/* The picture so scaled that it covers height × width; *f: where they are cut from. NULL with lane's error. */
static weft_tensor *scaled(weft_ctx *lane, const weft_dataset *d, uint32_t sample, weft_bucket size, data_frame *f) {
    weft_tensor *x = load(lane, d, sample);
    int64_t h = weft_dim(x, 1), w = weft_dim(x, 2);
    if (!x) return NULL;
    *f = data_frame_for(h, w, size.height, size.width);
    if (f->h * f->w > MOST_LOST * size.height * size.width) {
        bool file = !d->memory;
        weft_fail(lane, WEFT_E_FORMAT, "%s%s%s: a picture of %lld × %lld is too long and narrow to be cut to %lld × "
                  "%lld", file ? d->o.folder : "data set", file ? "/" : "", file ? weft_dataset_file(d, sample) : "",
                  (long long)w, (long long)h, (long long)size.width, (long long)size.height);
        return NULL;
    }
    return f->h == h && f->w == w ? x : weft_resample(lane, x, d->o.resize, f->h, f->w);
}

/* n pixels of a row in [0, 1], from the last to the first where mirrored. */
static void to_unit(const void *src, weft_dtype type, int64_t n, int64_t channels, bool mirrored, float *out) {
    const uint8_t *bytes = src;
    const float *floats = src;
    for (int64_t j = 0; j < n; j++)
        for (int64_t k = 0, at = (mirrored ? n - 1 - j : j) * channels; k < channels; k++, at++) {
            float v = type == WEFT_U8 ? (float)bytes[at] / 255.0f : floats[at];
            *out++ = v < 0 ? 0 : v > 1 ? 1 : v;
        }
}

/* Cuts the size out of x, mirrored where asked for. */
static void cut(weft_tensor *x, const data_frame *f, weft_bucket size, bool mirrored, float *out) {
    const int64_t channels = weft_dim(x, 3);
    const size_t value = weft_dtype_size(weft_type(x));
    const char *data = weft_data(x);
    for (int64_t i = 0; i < size.height; i++, out += size.width * channels)
        to_unit(data + (size_t)(((f->top + i) * f->w + f->left) * channels) * value, weft_type(x), size.width, channels,
                mirrored, out);
}

/* ---- colours ----------------------------------------------------------------------------------------------------- */

static double grey(const float *x, int channels) {
    return channels == 1 ? x[0] : 0.2989 * x[0] + 0.587 * x[1] + 0.114 * x[2];
}

static float mixed(double factor, float x, double y) {
    double v = factor * x + (1 - factor) * y;
    return (float)(v < 0 ? 0 : v > 1 ? 1 : v);
}

void data_jitter(float *x, int64_t n, int channels, const double factor[3], const int order[3]) {
    for (int step = 0; step < 3; step++) {
        const double f = factor[order[step]];
        double mean = 0;
        if (f == 1) continue;
        for (int64_t i = 0; order[step] == 1 && i < n; i++) mean += grey(x + i * channels, channels);
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++) {
            float *p = x + i * channels;
            const double y = order[step] == 2 ? grey(p, channels) : mean;
            for (int k = 0; k < channels; k++) p[k] = mixed(f, p[k], y);
        }
    }
}

static void draw_jitter(const weft_dataset *d, int64_t epoch, uint32_t sample, float *x, int64_t n) {
    const double strength[3] = { d->o.brightness, d->o.contrast, d->o.saturation };
    data_draw r = data_draw_for(d->o.seed, (uint64_t)epoch, sample, DATA_JITTER);
    double factor[3];
    int order[3] = { 0, 1, 2 };
    for (int i = 0; i < 3; i++) {
        double low = strength[i] < 1 ? 1 - strength[i] : 0;
        factor[i] = low + data_uniform(&r) * (1 + strength[i] - low);
    }
    for (int i = 2; i > 0; i--) {
        int j = (int)data_below(&r, (uint64_t)i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    data_jitter(x, n, d->o.channels, factor, order);
}

/* ---- a sample ---------------------------------------------------------------------------------------------------- */

static bool make(weft_ctx *lane, const weft_dataset *d, int64_t epoch, uint32_t sample, float *out) {
    const weft_dataset_options *o = &d->o;
    const weft_bucket size = weft_dataset_size(d, sample);
    const int64_t n = size.height * size.width;
    data_frame f;
    weft_tensor *x = scaled(lane, d, sample, size, &f);
    if (!x) return false;
    if (o->random_crop) {
        data_draw r = data_draw_for(o->seed, (uint64_t)epoch, sample, DATA_CROP);
        f.top = (int64_t)data_below(&r, (uint64_t)(f.h - size.height) + 1);
        f.left = (int64_t)data_below(&r, (uint64_t)(f.w - size.width) + 1);
    }
    data_draw r = data_draw_for(o->seed, (uint64_t)epoch, sample, DATA_FLIP);
    cut(x, &f, size, data_uniform(&r) < o->flip, out);
    if (o->brightness > 0 || o->contrast > 0 || o->saturation > 0) draw_jitter(d, epoch, sample, out, n);
    for (int64_t i = 0; !o->unit && i < n * o->channels; i++) out[i] = (out[i] - 0.5f) / 0.5f;
    return true;
}

bool data_picture(weft_ctx *lane, const weft_dataset *d, int64_t epoch, uint32_t sample, float *out) {
    weft_scope s = weft_scope_begin(lane, (weft_params){ 0 });
    bool made = make(lane, d, epoch, sample, out);
    weft_scope_end(lane, s, NULL);
    if (weft_memory_held(lane) > most_held) weft_memory_trim(lane);     /* one huge picture is not remembered */
    return made;
}
