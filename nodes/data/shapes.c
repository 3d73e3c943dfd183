/* See shapes.h. A pixel is covered by clamp(½ − d, 0, 1), d the signed distance of its centre from the shape's edge in
 * pixels (negative inside). A polygon's distance is the least to its sides; inside is where a ray crosses an odd number
 * of them. */
#include "nodes/data/shapes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_POINTS = 12 };

/* Corners for radius 1, clockwise from the top; a circle has none. */
struct outline { int points; double at[MOST_POINTS][2]; };
static const struct outline outlines[WEFT_FIGURE_COUNT] = {
    [WEFT_FIGURE_square] = { 4, { { -0.9, -0.9 }, { 0.9, -0.9 }, { 0.9, 0.9 }, { -0.9, 0.9 } } },
    [WEFT_FIGURE_triangle] = { 3, { { 0, -0.95 }, { 1.05, 0.87 }, { -1.05, 0.87 } } },
    /* five points at radius 1.1, five between at 0.48: sine and cosine of multiples of 36° */
    [WEFT_FIGURE_star] = { 10, { { 0, -1.1 }, { 0.2821, -0.3883 }, { 1.0462, -0.3399 }, { 0.4565, 0.1483 },
                                { 0.6466, 0.8899 }, { 0, 0.48 }, { -0.6466, 0.8899 }, { -0.4565, 0.1483 },
                                { -1.0462, -0.3399 }, { -0.2821, -0.3883 } } },
    [WEFT_FIGURE_diamond] = { 4, { { 0, -1.15 }, { 0.75, 0 }, { 0, 1.15 }, { -0.75, 0 } } },
    [WEFT_FIGURE_cross] = { 12, { { -0.34, -1 }, { 0.34, -1 }, { 0.34, -0.34 }, { 1, -0.34 }, { 1, 0.34 },
                                  { 0.34, 0.34 }, { 0.34, 1 }, { -0.34, 1 }, { -0.34, 0.34 }, { -1, 0.34 },
                                  { -1, -0.34 }, { -0.34, -0.34 } } },
};

const char *weft_figure_name(weft_figure_kind kind) {
    static const char *const names[] = {
#define S(name) #name,
        WEFT_FIGURES(S)
#undef S
    };
    return (unsigned)kind < WEFT_FIGURE_COUNT ? names[kind] : NULL;
}

/* Signed distance of (x, y) from the outline of radius 1. */
static double distance(const struct outline *o, double x, double y) {
    if (!o->points) return hypot(x, y) - 1;
    double least = INFINITY;
    bool inside = false;
    for (int i = 0, j = o->points - 1; i < o->points; j = i++) {
        const double *a = o->at[i], *b = o->at[j];
        double ex = b[0] - a[0], ey = b[1] - a[1], px = x - a[0], py = y - a[1];
        double t = (px * ex + py * ey) / (ex * ex + ey * ey);
        t = t < 0 ? 0 : t > 1 ? 1 : t;
        double dx = px - t * ex, dy = py - t * ey, d = dx * dx + dy * dy;
        if (d < least) least = d;
        if ((a[1] > y) != (b[1] > y) && px < ex * py / ey) inside = !inside;
    }
    return inside ? -sqrt(least) : sqrt(least);
}

static uint8_t byte_of(double v) { return (uint8_t)(v <= 0 ? 0 : v >= 1 ? 255 : v * 255 + 0.5); }

static void paint_background(const weft_scene *s, int64_t h, int64_t w, uint8_t *out) {
    double cx = cos(s->angle), cy = sin(s->angle), length = fabs(cx) * (double)w + fabs(cy) * (double)h;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            double along = ((double)x + 0.5 - (double)w / 2) * cx + ((double)y + 0.5 - (double)h / 2) * cy;
            double t = along / length + 0.5;
            for (int k = 0; k < 3; k++) *out++ = byte_of(s->from[k] + t * (s->to[k] - s->from[k]));
        }
}

/* A pixel's range that a length around the middle can reach, within 0 … side. */
static void reach(double middle, double length, int64_t side, int64_t *from, int64_t *to) {
    double low = floor(middle - length), high = ceil(middle + length);
    *from = low < 0 ? 0 : low > (double)side ? side : (int64_t)low;
    *to = high < 0 ? 0 : high > (double)side ? side : (int64_t)high;
}

static void paint_shape(const weft_figure *s, int64_t h, int64_t w, uint8_t *out) {
    const struct outline *o = &outlines[s->kind];
    double cosine = cos(s->angle), sine = sin(s->angle);
    int64_t x0, x1, y0, y1;
    reach(s->x, 1.45 * s->radius + 1, w, &x0, &x1);     /* the triangle's corners are the farthest */
    reach(s->y, 1.45 * s->radius + 1, h, &y0, &y1);
    for (int64_t y = y0; y < y1; y++)
        for (int64_t x = x0; x < x1; x++) {
            double px = ((double)x + 0.5 - s->x) / s->radius, py = ((double)y + 0.5 - s->y) / s->radius;
            double cover = 0.5 - s->radius * distance(o, cosine * px + sine * py, cosine * py - sine * px);
            if (cover <= 0) continue;
            uint8_t *p = out + (y * w + x) * 3;
            if (cover > 1) cover = 1;
            for (int k = 0; k < 3; k++) p[k] = byte_of(p[k] / 255.0 + cover * (s->color[k] - p[k] / 255.0));
        }
}

static bool check(weft_ctx *c, int64_t picture, const weft_scene *s) {
    bool good = isfinite(s->angle);
    for (int k = 0; k < 3; k++) good = good && isfinite(s->from[k]) && isfinite(s->to[k]);
    for (int i = 0; good && i < s->count; i++) {
        const weft_figure *p = &s->shapes[i];
        good = (unsigned)p->kind < WEFT_FIGURE_COUNT && isfinite(p->x) && isfinite(p->y) && isfinite(p->angle) &&
            p->radius > 0 && p->radius <= WEFT_SHAPES_SIDE && isfinite(p->color[0] + p->color[1] + p->color[2]);
        if (!good)
            weft_fail(c, WEFT_E_ARGUMENT, "draw_shapes: picture %lld, shape %d: its kind is not known, or a number is "
                      "not finite, or the radius not within 0 … %d", (long long)picture, i + 1, WEFT_SHAPES_SIDE);
    }
    if (!good)
        weft_fail(c, WEFT_E_ARGUMENT, "draw_shapes: picture %lld: the background has a number that is not finite",
                  (long long)picture);
    return good;
}

weft_tensor *weft_draw_shapes(weft_ctx *c, int64_t n, const weft_scene *scenes, int64_t height, int64_t width) {
    if (!weft_ok(c)) return NULL;
    if (n < 1 || n > 1 << 24 || height < 1 || width < 1 || height > WEFT_SHAPES_SIDE || width > WEFT_SHAPES_SIDE) {
        weft_fail(c, WEFT_E_ARGUMENT, "draw_shapes: %lld pictures of %lld × %lld; a side is 1 to %d", (long long)n,
                  (long long)width, (long long)height, WEFT_SHAPES_SIDE);
        return NULL;
    }
    const size_t picture = (size_t)(height * width) * 3;
    uint8_t *pixels = malloc((size_t)n * picture);
    if (!pixels) weft_fail(c, WEFT_E_MEMORY, "draw_shapes: no memory for %lld pictures", (long long)n);
    for (int64_t i = 0; pixels && i < n && check(c, i + 1, &scenes[i]); i++) {
        uint8_t *out = pixels + (size_t)i * picture;
        paint_background(&scenes[i], height, width, out);
        for (int k = 0; k < scenes[i].count; k++) paint_shape(&scenes[i].shapes[k], height, width, out);
    }
    weft_tensor *t = NULL;
    if (pixels && weft_ok(c)) t = weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(n, height, width, 3), pixels);
    free(pixels);
    return t;
}
