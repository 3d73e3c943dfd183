/* Conditionings joined, mixed and narrowed to a part of the picture or of the sampling. ComfyUI's names, defaults and
 * ranges. */
#include "nodes/image/pixels.h"
#include "nodes/values.h"

#include <stdlib.h>
#include <string.h>

#define CONDITIONING_IN(S, f, h) WEFT_OBJECT_IN(S, f, "CONDITIONING", h)
#define CONDITIONING_OUT(S) \
    (const weft_port[]){ WEFT_OUT(S, out, WEFT_PORT_OBJECT, "CONDITIONING", "CONDITIONING", "the new conditioning"), \
                         { 0 } }

/* A conditioning whose texts are those of `from`, each changed by `change`. NULL with the error set. */
static weft_conditioning *changed(weft_ctx *c, const weft_conditioning *from,
                                  void (*change)(weft_ctx *c, const void *node, weft_cond *k), const void *node) {
    weft_cond *items = calloc((size_t)from->count + 1, sizeof *items);
    if (!items) weft_fail(c, WEFT_E_MEMORY, "CONDITIONING: out of memory");
    for (int i = 0; items && i < from->count && weft_ok(c); i++) {
        items[i] = from->items[i];
        change(c, node, &items[i]);
    }
    weft_conditioning *out = items && weft_ok(c) ? weft_conditioning_new(c, from->count, items) : NULL;
    free(items);
    return out;
}

/* The first text of a conditioning; NULL with the error set where there is none. */
static const weft_cond *first_of(weft_ctx *c, const weft_conditioning *k, const char *input) {
    if (k->count) return &k->items[0];
    weft_fail(c, WEFT_E_ARGUMENT, "%s: an empty conditioning", input);
    return NULL;
}

/* ---- ConditioningCombine ----------------------------------------------------------------------------------------- */

struct combine { weft_conditioning *conditioning_1, *conditioning_2, *out; };

static void combine_run(weft_ctx *c, void *self) {
    struct combine *n = self;
    int a = n->conditioning_1->count, b = n->conditioning_2->count;
    weft_cond *items = calloc((size_t)a + (size_t)b + 1, sizeof *items);
    if (!items) {
        weft_fail(c, WEFT_E_MEMORY, "CONDITIONING: out of memory");
        return;
    }
    memcpy(items, n->conditioning_1->items, sizeof *items * (size_t)a);
    memcpy(items + a, n->conditioning_2->items, sizeof *items * (size_t)b);
    n->out = weft_conditioning_new(c, a + b, items);
    free(items);
}

const weft_node weft_node_ConditioningCombine = {
    .name = "ConditioningCombine", .title = "Conditioning (Combine)", .category = "conditioning",
    .summary = "Both conditionings side by side: their predictions are averaged.", .size = sizeof(struct combine),
    .inputs = (const weft_port[]){ CONDITIONING_IN(struct combine, conditioning_1, "one"),
                                   CONDITIONING_IN(struct combine, conditioning_2, "the other"), { 0 } },
    .outputs = CONDITIONING_OUT(struct combine), .run = combine_run,
};

/* ---- ConditioningConcat ------------------------------------------------------------------------------------------ */

struct concat { weft_conditioning *conditioning_to, *conditioning_from, *out; };

/* Two contexts as one batch size: a single one is repeated for the other's batch. */
static bool same_batch(weft_ctx *c, weft_tensor **a, weft_tensor **b) {
    if (weft_dim(*a, 0) == 1) *a = weft_batch_repeat(c, *a, weft_dim(*b, 0));
    else if (weft_dim(*b, 0) == 1) *b = weft_batch_repeat(c, *b, weft_dim(*a, 0));
    if (!weft_ok(c)) return false;
    if (weft_dim(*a, 0) == weft_dim(*b, 0) && weft_dim(*a, -1) == weft_dim(*b, -1)) return true;
    char one[96], other[96];
    weft_fail(c, WEFT_E_SHAPE, "conditionings %s and %s do not go together: are they of different models?",
              weft_describe(*a, one, sizeof one),
              weft_describe(*b, other, sizeof other));
    return false;
}

static void concat_one(weft_ctx *c, const void *node, weft_cond *k) {
    const struct concat *n = node;
    weft_tensor *a = k->context, *b = n->conditioning_from->items[0].context;
    k->context = same_batch(c, &a, &b) ? weft_concat2(c, 1, a, b) : NULL;
}

static void concat_run(weft_ctx *c, void *self) {
    struct concat *n = self;
    if (first_of(c, n->conditioning_from, "conditioning_from")) n->out = changed(c, n->conditioning_to, concat_one, n);
}

const weft_node weft_node_ConditioningConcat = {
    .name = "ConditioningConcat", .title = "Conditioning (Concat)", .category = "conditioning",
    .summary = "The second text behind the first, as if it were one long prompt.", .size = sizeof(struct concat),
    .inputs = (const weft_port[]){ CONDITIONING_IN(struct concat, conditioning_to,
                                                   "each of these texts is made longer"),
                                   CONDITIONING_IN(struct concat, conditioning_from, "its first text is put behind"),
                               { 0 } },
    .outputs = CONDITIONING_OUT(struct concat), .run = concat_run,
};

/* ---- ConditioningAverage ----------------------------------------------------------------------------------------- */

struct average { weft_conditioning *conditioning_to,
                 *conditioning_from; double conditioning_to_strength; weft_conditioning *out; };

/* As many tokens as wanted: cut, or zeros behind. */
static weft_tensor *fit_tokens(weft_ctx *c, weft_tensor *t, int64_t tokens) {
    int64_t there = weft_dim(t, 1);
    if (there > tokens) return weft_contiguous(c, weft_slice(c, t, 1, 0, tokens));
    if (there == tokens) return t;
    return weft_concat2(c, 1, t, weft_full(c, weft_type(t), WEFT_SHAPE(weft_dim(t, 0), tokens - there, weft_dim(t, 2)),
                                           0));
}

static void average_one(weft_ctx *c, const void *node, weft_cond *k) {
    const struct average *n = node;
    const weft_cond *from = &n->conditioning_from->items[0];
    double s = n->conditioning_to_strength;
    weft_tensor *a = k->context, *b = fit_tokens(c, from->context, weft_dim(k->context, 1));
    k->context = same_batch(c, &a, &b) ? weft_axpby(c, s, a, 1 - s, b) : NULL;
    if (!from->pooled) return;
    a = k->pooled ? k->pooled : from->pooled;
    b = from->pooled;
    k->pooled = same_batch(c, &a, &b) ? weft_axpby(c, s, a, 1 - s, b) : NULL;
}

static void average_run(weft_ctx *c, void *self) {
    struct average *n = self;
    if (first_of(c, n->conditioning_from, "conditioning_from")) n->out = changed(c, n->conditioning_to, average_one, n);
}

const weft_node weft_node_ConditioningAverage = {
    .name = "ConditioningAverage", .category = "conditioning", .summary = "Mixes the encodings of two prompts.",
    .size = sizeof(struct average),
    .inputs = (const weft_port[]){ CONDITIONING_IN(struct average, conditioning_to, "each of these texts is mixed"),
                                   CONDITIONING_IN(struct average, conditioning_from,
                                                   "with the first text of this one"),
                                   WEFT_FLOAT_IN(struct average, conditioning_to_strength, 1, 0, 1, 0.01,
                                                 "how much of conditioning_to"), { 0 } },
    .outputs = CONDITIONING_OUT(struct average), .run = average_run,
};

/* ---- ConditioningSetTimestepRange -------------------------------------------------------------------------------- */

struct range { weft_conditioning *conditioning; double start, end; weft_conditioning *out; };

static void range_one(weft_ctx *c, const void *node, weft_cond *k) {
    (void)c;
    k->start_percent = ((const struct range *)node)->start;
    k->end_percent = ((const struct range *)node)->end;
}

static void range_run(weft_ctx *c, void *self) {
    struct range *n = self;
    n->out = changed(c, n->conditioning, range_one, n);
}

const weft_node weft_node_ConditioningSetTimestepRange = {
    .name = "ConditioningSetTimestepRange", .category = "advanced/conditioning",
    .summary = "Lets a conditioning count for a part of the sampling only.",
    .size = sizeof(struct range),
    .inputs = (const weft_port[]){ CONDITIONING_IN(struct range, conditioning, "the conditioning"),
                                   WEFT_FLOAT_IN(struct range, start, 0, 0, 1, 0.001, "from here: 0 is the start"),
                                   WEFT_FLOAT_IN(struct range, end, 1, 0, 1, 0.001, "to here: 1 is the end"), { 0 } },
    .outputs = CONDITIONING_OUT(struct range), .run = range_run,
};

/* ---- ConditioningSetArea ----------------------------------------------------------------------------------------- */

struct area { weft_conditioning *conditioning; int64_t width, height, x, y; double strength; weft_conditioning *out; };

static void area_one(weft_ctx *c, const void *node, weft_cond *k) {
    const struct area *n = node;
    (void)c;
    k->has_area = true;
    k->area_x = n->x / 8;
    k->area_y = n->y / 8;
    k->area_width = n->width / 8;
    k->area_height = n->height / 8;
    k->strength = n->strength;
    k->mask_bounds = false;
}

static void area_run(weft_ctx *c, void *self) {
    struct area *n = self;
    n->out = changed(c, n->conditioning, area_one, n);
}

const weft_node weft_node_ConditioningSetArea = {
    .name = "ConditioningSetArea", .title = "Conditioning (Set Area)", .category = "conditioning",
    .summary = "Lets a conditioning count in a rectangle of the picture only.", .size = sizeof(struct area),
    .inputs = (const weft_port[]){ CONDITIONING_IN(struct area, conditioning, "the conditioning"),
                               WEFT_INT_IN(struct area, width, 64, 64, 16384, 8, "pixels"),
                                       WEFT_INT_IN(struct area, height, 64, 64, 16384, 8, "pixels"),
                               WEFT_INT_IN(struct area, x, 0, 0, 16384, 8, "the left edge"),
                                       WEFT_INT_IN(struct area, y, 0, 0, 16384, 8, "the upper edge"),
                                   WEFT_FLOAT_IN(struct area, strength, 1, 0, 10, 0.01,
                                                 "weight against other conditionings"), { 0 } },
    .outputs = CONDITIONING_OUT(struct area), .run = area_run,
};

/* ---- ConditioningSetMask ----------------------------------------------------------------------------------------- */

struct set_mask {
    weft_conditioning *conditioning;
    weft_tensor *mask;
    double strength;
    int set_cond_area;
    weft_conditioning *out;
};
static const char *const areas[] = { "default", "mask bounds", NULL };

static void set_mask_one(weft_ctx *c, const void *node, weft_cond *k) {
    const struct set_mask *n = node;
    (void)c;
    k->mask = n->mask;
    k->mask_strength = n->strength;
    k->mask_bounds = n->set_cond_area == 1;
}

static void set_mask_run(weft_ctx *c, void *self) {
    struct set_mask *n = self;
    n->mask = weft_want_mask(c, n->mask, "mask");
    if (n->mask) n->out = changed(c, n->conditioning, set_mask_one, n);
}

const weft_node weft_node_ConditioningSetMask = {
    .name = "ConditioningSetMask", .title = "Conditioning (Set Mask)", .category = "conditioning",
    .summary = "Lets a conditioning count where a mask is.", .size = sizeof(struct set_mask),
    .inputs = (const weft_port[]){ CONDITIONING_IN(struct set_mask, conditioning, "the conditioning"),
                                   WEFT_MASK_IN(struct set_mask, mask, "where"),
                                   WEFT_FLOAT_IN(struct set_mask, strength, 1, 0, 10, 0.01,
                                                 "weight against other conditionings"),
                                   WEFT_CHOICE_IN(struct set_mask, set_cond_area, areas, NULL,
                                                  "mask bounds: only the mask's rectangle is computed"), { 0 } },
    .outputs = CONDITIONING_OUT(struct set_mask), .run = set_mask_run,
};

/* ---- ConditioningZeroOut ----------------------------------------------------------------------------------------- */

struct zero_out { weft_conditioning *conditioning, *out; };

static weft_tensor *zeros_like(weft_ctx *c, weft_tensor *t) {
    return t ? weft_full(c, weft_type(t), weft_rank(t), weft_shape(t), 0) : NULL;
}

static void zero_out_one(weft_ctx *c, const void *node, weft_cond *k) {
    (void)node;
    k->context = zeros_like(c, k->context);
    k->pooled = zeros_like(c, k->pooled);
}

static void zero_out_run(weft_ctx *c, void *self) {
    struct zero_out *n = self;
    n->out = changed(c, n->conditioning, zero_out_one, n);
}

const weft_node weft_node_ConditioningZeroOut = {
    .name = "ConditioningZeroOut", .category = "advanced/conditioning",
    .summary = "A conditioning of zeros, of the same shape.", .size = sizeof(struct zero_out),
    .inputs = (const weft_port[]){ CONDITIONING_IN(struct zero_out, conditioning, "the conditioning"), { 0 } },
    .outputs = CONDITIONING_OUT(struct zero_out), .run = zero_out_run,
};
