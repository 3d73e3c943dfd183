/* A curve of numbers over steps as a picture; see curve.h. Drawn at twice its size and halved, which smooths edges. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "nodes/image/picture.h"
#include "nodes/train/csv_log.h"
#include "nodes/train/curve.h"

enum { W = 1800, H = 1080, LEFT = 190, RIGHT = 40, TOP = 100, BOTTOM = 90, GLYPH = 4 };

struct canvas { unsigned char *pixels; };
static const unsigned char ink[3] = { 60, 60, 60 }, grid_ink[3] = { 228, 228, 228 }, raw_ink[3] = { 178, 204, 235 },
                           line_ink[3] = { 24, 90, 170 };

/* ---- strokes ----------------------------------------------------------------------------------------------------- */

static void fill(struct canvas *a, int x, int y, int w, int h, const unsigned char *colour) {
    for (int j = y < 0 ? 0 : y; j < y + h && j < H; j++)
        for (int i = x < 0 ? 0 : x; i < x + w && i < W; i++) memcpy(a->pixels + ((size_t)j * W + (size_t)i) * 3, colour,
                                                                    3);
}

/* A straight line of square dots; both ends lie in the picture. */
static void stroke(struct canvas *a, double x0, double y0, double x1, double y1, int width,
                   const unsigned char *colour) {
    const int n = (int)fmax(fabs(x1 - x0), fabs(y1 - y0)) + 1;
    for (int i = 0; i <= n; i++) {
        const double t = (double)i / n;
        fill(a, (int)lround(x0 + t * (x1 - x0)) - width / 2, (int)lround(y0 + t * (y1 - y0)) - width / 2, width, width,
             colour);
    }
}

/* ---- letters ----------------------------------------------------------------------------------------------------- */

/* 5 columns by 8 rows, the first row in the lowest five bits, its left column the highest of them. */
static const struct { char letter; uint64_t rows; } font[] = {
    { '0', 0x03a39ace2e }, { '1', 0x0388421184 }, { '2', 0x07e083062e }, { '3', 0x03a213062e },
    { '4', 0x0085f928c2 }, { '5', 0x03a210fa1f }, { '6', 0x03a31f4106 }, { '7', 0x021082083f },
    { '8', 0x03a317462e }, { '9', 0x030417c62e }, { 'a', 0x03e2f0b800 }, { 'b', 0x07a318fa10 },
    { 'c', 0x03a1083800 }, { 'd', 0x03e318bc21 }, { 'e', 0x03a1f8b800 }, { 'f', 0x0210847906 },
    { 'g', 0x705f18bc00 }, { 'h', 0x046318fa10 }, { 'i', 0x0388423004 }, { 'j', 0x6484211802 },
    { 'k', 0x04a98a4a10 }, { 'l', 0x038842108c }, { 'm', 0x056b5ae800 }, { 'n', 0x046318f800 },
    { 'o', 0x03a318b800 }, { 'p', 0x843d18f800 }, { 'q', 0x085f18bc00 }, { 'r', 0x04210cd800 },
    { 's', 0x0782e83c00 }, { 't', 0x0190847908 }, { 'u', 0x036718c400 }, { 'v', 0x011518c400 },
    { 'w', 0x02ab5ac400 }, { 'x', 0x0454454400 }, { 'y', 0x705f18c400 }, { 'z', 0x07d0417c00 },
    { '.', 0x018c000000 }, { '-', 0x0000070000 }, { '+', 0x00084f9080 }, { '_', 0xf800000000 },
    { '/', 0x0410820841 }, { ':', 0x000c6018c0 }, { '(', 0x0088842082 }, { ')', 0x0208210888 },
    { '%', 0x04d6820b59 }, { '=', 0x0001f07c00 },
};

static void draw_letter(struct canvas *a, int x, int y, char letter) {
    for (size_t k = 0; k < sizeof font / sizeof *font; k++)
        for (int j = 0; font[k].letter == letter && j < 8; j++)
            for (int i = 0; i < 5; i++)
                if (font[k].rows >> (5 * j + 4 - i) & 1) fill(a, x + i * GLYPH, y + j * GLYPH, GLYPH, GLYPH, ink);
}

static int text_width(const char *text) { return (int)strlen(text) * 6 * GLYPH; }

/* Letters are small ones; what the font lacks is left blank. */
static void draw_text(struct canvas *a, int x, int y, const char *text) {
    for (; *text; text++, x += 6 * GLYPH) draw_letter(a, x, y, *text >= 'A' && *text <= 'Z' ? (char)(*text + 32) :
                                                      *text);
}

/* ---- axes -------------------------------------------------------------------------------------------------------- */

struct axis { double low, high, step; bool logarithmic; };      /* logarithmic: of log10 of the values */

/* The place of a value between 0 and 1. */
static double place(const struct axis *a, double v) {
    if (a->logarithmic) v = log10(v);
    return (v - a->low) / (a->high - a->low);
}
static double x_of(const struct axis *a, double v) { return LEFT + place(a, v) * (W - LEFT - RIGHT); }
static double y_of(const struct axis *a, double v) { return H - BOTTOM - place(a, v) * (H - TOP - BOTTOM); }

/* About `count` steps of 1, 2 or 5 times a power of ten. */
static double nice_step(double span, int count) {
    const double rough = span / count, power = pow(10, floor(log10(rough))), rest = rough / power;
    return (rest <= 1 ? 1 : rest <= 2 ? 2 : rest <= 5 ? 5 : 10) * power;
}

/* An axis over the values, its ends on ticks where `round`. */
static struct axis axis_of(int64_t n, const double *v, bool may_be_logarithmic, bool round) {
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(v[i])) low = fmin(low, v[i]), high = fmax(high, v[i]);
    if (!(low <= high)) low = 0, high = 1;
    struct axis a = { low, high, 1, may_be_logarithmic && low > 0 && high > 30 * low };
    if (a.logarithmic) {
        a.low = log10(low);
        a.high = log10(high);
        return a;
    }
    if (!(a.high - a.low > 1e-12 * fabs(a.high))) a.low -= fabs(low) * 0.1 + 1e-9, a.high += fabs(high) * 0.1 + 1e-9;
    a.step = nice_step(a.high - a.low, 6);
    if (round) a.low = floor(a.low / a.step) * a.step, a.high = ceil(a.high / a.step) * a.step;
    return a;
}

static void tick(struct canvas *c, const struct axis *a, bool vertical, double v) {
    char text[32];
    const double at = place(a, v);
    if (at < -1e-9 || at > 1 + 1e-9) return;
    snprintf(text, sizeof text, "%.6g", fabs(v) < 1e-9 * a->step && !a->logarithmic ? 0.0 : v);
    if (vertical) {
        const int y = (int)lround(y_of(a, v));
        fill(c, LEFT, y, W - LEFT - RIGHT, 2, grid_ink);
        draw_text(c, LEFT - 16 - text_width(text), y - 3 * GLYPH, text);
    } else {
        const int x = (int)lround(x_of(a, v));
        fill(c, x, TOP, 2, H - TOP - BOTTOM, grid_ink);
        draw_text(c, x - text_width(text) / 2, H - BOTTOM + 20, text);
    }
}

static void draw_axis(struct canvas *c, const struct axis *a, bool vertical) {
    if (!a->logarithmic)
        for (double k = ceil(a->low / a->step - 1e-9); k * a->step <= a->high + 1e-9 * a->step; k++)
            tick(c, a, vertical, k * a->step);
    else
        for (double k = floor(a->low); k <= a->high; k++)
            for (int m = 1; m < 10; m = m == 1 ? 2 : m == 2 ? 5 : 10) tick(c, a, vertical, m * pow(10, k));
}

/* ---- the curve --------------------------------------------------------------------------------------------------- */

static void draw_line(struct canvas *c, const struct axis *x, const struct axis *y, int64_t n, const double *steps,
                      const double *v, int width, const unsigned char *colour) {
    int64_t last = -1;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(v[i]) || (y->logarithmic && v[i] <= 0)) continue;
        const int64_t from = last < 0 ? i : last;
        stroke(c, x_of(x, steps[from]), y_of(y, v[from]), x_of(x, steps[i]), y_of(y, v[i]), width, colour);
        last = i;
    }
}

/* A moving average over about a fortieth of the run, without the pull of its start. */
static void smooth(int64_t n, const double *v, double *out) {
    const double keep = 1 - 2 / (fmax(1, (double)n / 40) + 1);
    double average = 0, weight = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(v[i])) average = keep * average + (1 - keep) * v[i], weight = keep * weight + 1 - keep;
        out[i] = isfinite(v[i]) ? average / weight : v[i];
    }
}

static void halve(const struct canvas *c, unsigned char *out) {
    for (int j = 0; j < H / 2; j++)
        for (int i = 0; i < W / 2 * 3; i++) {
            const unsigned char *p = c->pixels + ((size_t)j * 2 * W + (size_t)(i / 3 * 2)) * 3 + i % 3;
            out[(size_t)j * (W / 2) * 3 + (size_t)i] = (unsigned char)((p[0] + p[3] + p[W * 3] + p[W * 3 + 3] + 2) / 4);
        }
}

weft_tensor *weft_curve(weft_ctx *c, const char *title, int64_t n, const double *steps, const double *values) {
    if (!weft_ok(c)) return NULL;
    struct canvas a = { malloc((size_t)W * H * 3) };
    unsigned char *small = malloc((size_t)W * H / 4 * 3);
    double *mean = malloc((size_t)n * sizeof *mean + 1);
    weft_tensor *picture = NULL;
    if (!a.pixels || !small || !mean) weft_fail(c, WEFT_E_MEMORY, "no memory for a curve");
    else {
        char behind[64];
        const struct axis x = axis_of(n, steps, false, false), y = axis_of(n, values, true, true);
        memset(a.pixels, 255, (size_t)W * H * 3);
        smooth(n, values, mean);
        draw_axis(&a, &x, false);
        draw_axis(&a, &y, true);
        fill(&a, LEFT, TOP, 2, H - TOP - BOTTOM, ink);
        fill(&a, LEFT, H - BOTTOM, W - LEFT - RIGHT, 2, ink);
        draw_line(&a, &x, &y, n, steps, values, 2, raw_ink);
        draw_line(&a, &x, &y, n, steps, mean, 5, line_ink);
        draw_text(&a, LEFT, 36, title);
        if (n) {
            snprintf(behind, sizeof behind, "%.4g at %.0f", mean[n - 1], steps[n - 1]);
            draw_text(&a, W - RIGHT - text_width(behind), 36, behind);
        }
        halve(&a, small);
        picture = weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(H / 2, W / 2, 3), small);
    }
    free(a.pixels);
    free(small);
    free(mean);
    return picture;
}

weft_status weft_curve_save(weft_ctx *c, const char *csv, const char *column, const char *path) {
    int64_t n;
    double *steps, *values;
    if (!weft_csv_log_read(c, csv, column, &n, &steps, &values)) return weft_error(c);
    weft_scope s = weft_scope_named(c, NULL);
    weft_tensor *picture = weft_curve(c, column, n, steps, values);
    weft_status status = picture ? weft_picture_save(c, path, picture, NULL) : weft_error(c);
    weft_scope_end(c, s, NULL);
    free(steps);
    free(values);
    return status;
}
