/* MaskComposite, FeatherMask, GrowMask: masks laid on each other, with soft edges, wider or narrower. ComfyUI's names
 * and rules. */
#include "nodes/image/pixels.h"
#include "nodes/values.h"

#include <math.h>
#include <stdlib.h>

#define MASK_OUT(S, h) (const weft_port[]){ WEFT_OUT(S, out, WEFT_PORT_TENSOR, "MASK", "MASK", h), { 0 } }

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- MaskComposite ----------------------------------------------------------------------------------------------- */

struct mask_composite { weft_tensor *destination, *source; int64_t x, y; int operation; weft_tensor *out; };
enum { MULTIPLY, ADD, SUBTRACT, AND, OR, XOR };
static const char *const operations[] = { "multiply", "add", "subtract", "and", "or", "xor", NULL };

static float combine(int operation, float a, float b) {
    bool p = rintf(a) != 0, q = rintf(b) != 0;
    switch (operation) {
    case MULTIPLY: return a * b;
    case ADD: return a + b;
    case SUBTRACT: return a - b;
    case AND: return p && q;
    case OR: return p || q;
    default: return p != q;
    }
}

static void mask_composite_run(weft_ctx *c, void *self) {
    struct mask_composite *n = self;
    weft_tensor *to = weft_want_mask(c, n->destination, "destination"), *from = weft_want_mask(c, n->source, "source");
    if (!to || !from) return;
    int64_t count = weft_dim(to, 0), h = weft_dim(to, 1), w = weft_dim(to, 2), sh = weft_dim(from, 1),
        sw = weft_dim(from, 2);
    if (weft_dim(from, 0) != 1 && weft_dim(from, 0) != count) {
        weft_fail(c, WEFT_E_SHAPE, "%lld source masks for %lld: one, or as many, are wanted",
                  (long long)weft_dim(from, 0), (long long)count);
        return;
    }
    int64_t rows = least(sh, h - n->y), columns = least(sw, w - n->x), step = weft_dim(from, 0) == 1 ? 0 : sh * sw;
    float *d = weft_pixels_read(c, to), *s = weft_pixels_read(c, from);
    for (int64_t i = 0; d && s && i < count; i++)
        for (int64_t y = 0; y < rows; y++)
            for (int64_t x = 0; x < columns; x++) {
                float *at = d + (i * h + n->y + y) * w + n->x + x;
                *at = combine(n->operation, *at, s[i * step + y * sw + x]);
            }
    free(s);
    n->out = weft_clamp(c, weft_pixels_tensor(c, d, WEFT_SHAPE(count, h, w)), 0, 1);
}

const weft_node weft_node_MaskComposite = {
    .name = "MaskComposite", .category = "mask", .summary = "Lays one mask on another.",
    .size = sizeof(struct mask_composite),
    .inputs = (const weft_port[]){ WEFT_MASK_IN(struct mask_composite, destination, "the mask below"),
                                   WEFT_MASK_IN(struct mask_composite, source, "the mask laid on it"),
                               WEFT_INT_IN(struct mask_composite, x, 0, 0, 16384, 1, "where its left edge comes"),
                               WEFT_INT_IN(struct mask_composite, y, 0, 0, 16384, 1, "where its upper edge comes"),
                                   WEFT_CHOICE_IN(struct mask_composite, operation, operations, NULL,
                                                  "what is done where both are"), { 0 } },
    .outputs = MASK_OUT(struct mask_composite, "the mask of both"), .run = mask_composite_run,
};

/* ---- FeatherMask ------------------------------------------------------------------------------------------------- */

struct feather_mask { weft_tensor *mask; int64_t left, top, right, bottom; weft_tensor *out; };

/* The i-th of `size` pixels, between edges that fade over `before` and `after` pixels. */
static float faded(float v, int64_t i, int64_t size, int64_t before, int64_t after) {
    before = least(before, size);
    after = least(after, size);
    if (i < before) v *= (float)((double)(i + 1) / (double)before);
    if (size - 1 - i < after) v *= (float)((double)(size - i) / (double)after);
    return v;
}

static void feather_mask_run(weft_ctx *c, void *self) {
    struct feather_mask *n = self;
    weft_tensor *m = weft_want_mask(c, n->mask, "mask");
    float *p = m ? weft_pixels_read(c, m) : NULL;
    if (!p) return;
    int64_t count = weft_dim(m, 0), h = weft_dim(m, 1), w = weft_dim(m, 2);
    for (int64_t i = 0; i < count * h * w; i++) {
        p[i] = faded(p[i], i % w, w, n->left, n->right);
        p[i] = faded(p[i], i / w % h, h, n->top, n->bottom);
    }
    n->out = weft_pixels_tensor(c, p, WEFT_SHAPE(count, h, w));
}

const weft_node weft_node_FeatherMask = {
    .name = "FeatherMask", .category = "mask", .summary = "Lets a mask fade toward its edges.",
    .size = sizeof(struct feather_mask),
    .inputs = (const weft_port[]){ WEFT_MASK_IN(struct feather_mask, mask, "the mask"),
                               WEFT_INT_IN(struct feather_mask, left, 0, 0, 16384, 1, "over how many pixels"),
                               WEFT_INT_IN(struct feather_mask, top, 0, 0, 16384, 1, "over how many pixels"),
                               WEFT_INT_IN(struct feather_mask, right, 0, 0, 16384, 1, "over how many pixels"),
                               WEFT_INT_IN(struct feather_mask, bottom, 0, 0, 16384, 1, "over how many pixels"),
                               { 0 } },
    .outputs = MASK_OUT(struct feather_mask, "the soft mask"), .run = feather_mask_run,
};

/* ---- GrowMask ---------------------------------------------------------------------------------------------------- */

struct grow_mask { weft_tensor *mask; int64_t expand; bool tapered_corners; weft_tensor *out; };

/* The greatest value of a pixel's neighbours (without the corners: a cross) inside the mask. */
static float reach(const float *m, int64_t h, int64_t w, int64_t y, int64_t x, bool corners) {
    float v = m[y * w + x];
    for (int64_t dy = -1; dy <= 1; dy++)
        for (int64_t dx = -1; dx <= 1; dx++) {
            bool there = (corners || !dy || !dx) && y + dy >= 0 && y + dy < h && x + dx >= 0 && x + dx < w;
            if (there && m[(y + dy) * w + x + dx] > v) v = m[(y + dy) * w + x + dx];
        }
    return v;
}

/* One step of growing from a to b; false where nothing changed. */
static bool grow_once(const float *a, float *b, int64_t count, int64_t h, int64_t w, bool corners) {
    bool changed = false;
    for (int64_t i = 0; i < count; i++)
        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < w; x++) {
                int64_t at = (i * h + y) * w + x;
                b[at] = reach(a + i * h * w, h, w, y, x, corners);
                changed = changed || b[at] != a[at];
            }
    return changed;
}

/* Shrinking is growing what is outside: the mask is negated before and after. */
static void grow_mask_run(weft_ctx *c, void *self) {
    struct grow_mask *n = self;
    weft_tensor *m = weft_want_mask(c, n->mask, "mask");
    float *a = m ? weft_pixels_read(c, m) : NULL, *b = a ? weft_pixels_new(c, weft_count(m)) : NULL;
    int64_t steps = n->expand < 0 ? -n->expand : n->expand, count = weft_dim(m, 0), h = weft_dim(m, 1),
        w = weft_dim(m, 2);
    for (int64_t i = 0; b && n->expand < 0 && i < weft_count(m); i++) a[i] = -a[i];
    for (int64_t i = 0; b && i < steps && grow_once(a, b, count, h, w, !n->tapered_corners); i++) {
        float *t = a;
        a = b;
        b = t;
        if (!weft_progress(c, "grow", i + 1, steps)) break;
    }
    for (int64_t i = 0; b && n->expand < 0 && i < weft_count(m); i++) a[i] = -a[i];
    free(b);
    if (weft_ok(c)) n->out = weft_pixels_tensor(c, a, WEFT_SHAPE(count, h, w));
    else free(a);
}

const weft_node weft_node_GrowMask = {
    .name = "GrowMask", .title = "Grow Mask", .category = "mask",
    .summary = "Makes a mask wider (or, below 0, narrower) by pixels.",
    .size = sizeof(struct grow_mask),
    .inputs = (const weft_port[]){ WEFT_MASK_IN(struct grow_mask, mask, "the mask"),
                               WEFT_INT_IN(struct grow_mask, expand, 0, -16384, 16384, 1, "by how many pixels"),
                                   WEFT_BOOL_IN(struct grow_mask, tapered_corners, 1,
                                                "corners grow slanted, not square"), { 0 } },
    .outputs = MASK_OUT(struct grow_mask, "the mask"), .run = grow_mask_run,
};
