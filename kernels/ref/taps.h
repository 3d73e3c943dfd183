/* What a resampled picture is made of, in one direction: a list of weighted source positions for each output row or
 * column.
 *
 * The PyTorch modes follow ATen's UpSample kernels: source = scale·(i + ½) − ½ with scale = in/out, worked out in f32
 * unless the pictures are f64 (the weights of a non-integer ratio are only as good as that, so an f32 result has to
 * start from the same positions).  The PIL modes follow Pillow's Resample.c: the filter is stretched by the ratio when
 * shrinking, weights in double. C and C++ read this file: the CUDA back end makes its tables with it.
 */
#ifndef WEFT_REF_TAPS_H
#define WEFT_REF_TAPS_H

#include "kernels/ref/ref.h"

/* The weights of one output position: source first + i has weight w[i]. */
struct ref_taps { int64_t first, count; double *w; };

static inline double ref_bilinear(double x) { return fabs(x) < 1 ? 1 - fabs(x) : 0; }

/* Keys' cubic convolution. */
static inline double ref_cubic(double x, double a) {
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static inline double ref_sinc(double x) { return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x); }

static inline double ref_pil_filter(weft_resample_mode mode, double x) {
    if (mode == WEFT_PIL_BILINEAR) return ref_bilinear(x);
    if (mode == WEFT_PIL_BICUBIC) return ref_cubic(x, -0.5);
    return x >= -3 && x < 3 ? ref_sinc(x) * ref_sinc(x / 3) : 0;
}

static inline double ref_pil_support(weft_resample_mode mode) {
    return mode == WEFT_PIL_BILINEAR ? 1 : mode == WEFT_PIL_BICUBIC ? 2 : 3;
}

static inline bool ref_is_pil(weft_resample_mode mode) { return mode >= WEFT_PIL_BILINEAR; }

/* The most source positions that one output position can need. */
static inline int64_t ref_most_taps(weft_resample_mode mode, int64_t in, int64_t out) {
    double stretch = in > out ? (double)in / (double)out : 1;
    if (ref_is_pil(mode)) return 2 * (int64_t)ceil(ref_pil_support(mode) * stretch) + 1;
    return mode == WEFT_AREA ? in / out + 2 : 4;
}

static inline void ref_pil_taps(weft_resample_mode mode, int64_t in, int64_t out, int64_t i, struct ref_taps *t) {
    double scale = (double)in / (double)out, stretch = scale < 1 ? 1 : scale;
    double support = ref_pil_support(mode) * stretch, centre = ((double)i + 0.5) * scale, total = 0;
    int64_t first = (int64_t)(centre - support + 0.5), end = (int64_t)(centre + support + 0.5);
    t->first = first < 0 ? 0 : first;
    t->count = (end > in ? in : end) - t->first;
    for (int64_t k = 0; k < t->count; k++)
        total += t->w[k] = ref_pil_filter(mode, ((double)(k + t->first) - centre + 0.5) * (1 / stretch));
    for (int64_t k = 0; k < t->count; k++)
        if (total != 0) t->w[k] /= total;
}

/* A PIL weight as Pillow's 8-bit pictures have it: in steps of 2⁻²². */
static inline int64_t ref_fixed(double w) { return (int64_t)(w * (1 << 22) + (w < 0 ? -0.5 : 0.5)); }

/* Rounds to f32 unless the pictures are f64; a product rounded so cannot be fused with what follows. */
static inline double ref_round_as(weft_dtype type, double v) { return type == WEFT_F64 ? v : (double)(float)v; }

static inline void ref_area_taps(int64_t in, int64_t out, int64_t i, struct ref_taps *t) {
    t->first = i * in / out;
    t->count = ((i + 1) * in + out - 1) / out - t->first;
    for (int64_t k = 0; k < t->count; k++) t->w[k] = 1 / (double)t->count;
}

static inline void ref_torch_taps(weft_resample_mode mode, weft_dtype type, int64_t in, int64_t out, int64_t i,
                                  struct ref_taps *t) {
    double scale = ref_round_as(type, (double)in / (double)out);
    if (mode == WEFT_NEAREST || mode == WEFT_NEAREST_EXACT) {
        double at = floor(ref_round_as(type, scale * ((double)i + (mode == WEFT_NEAREST_EXACT ? 0.5 : 0))));
        t->first = at < (double)in ? (int64_t)at : in - 1;
        t->count = 1;
        t->w[0] = 1;
        return;
    }
    double at = ref_round_as(type, ref_round_as(type, scale * ((double)i + 0.5)) - 0.5);
    if (mode == WEFT_BILINEAR && at < 0) at = 0;
    int64_t whole = (int64_t)floor(at) < in - 1 ? (int64_t)floor(at) : in - 1;
    double part = at - (double)whole > 1 ? 1 : at - (double)whole;
    int reach = mode == WEFT_BILINEAR ? 0 : 1;
    int64_t low = whole - reach < 0 ? 0 : whole - reach, high = whole + 1 + reach < in ? whole + 1 + reach : in - 1;
    t->first = low;
    t->count = high - low + 1;
    memset(t->w, 0, (size_t)t->count * sizeof *t->w);
    for (int k = -reach; k <= 1 + reach; k++) {             /* positions beyond the edge count for the edge */
        int64_t from = whole + k < low ? low : whole + k > high ? high : whole + k;
        t->w[from - low] += reach ? ref_cubic(part - k, -0.75) : ref_bilinear(part - k);
    }
}

/* Of output position i; t->w has room for ref_most_taps(). */
static inline void ref_taps_of(weft_resample_mode mode, weft_dtype type, int64_t in, int64_t out, int64_t i,
                               struct ref_taps *t) {
    if (ref_is_pil(mode)) ref_pil_taps(mode, in, out, i, t);
    else if (mode == WEFT_AREA) ref_area_taps(in, out, i, t);
    else ref_torch_taps(mode, type, in, out, i, t);
}

#endif
