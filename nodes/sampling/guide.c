/* Evaluating the model for a sampler: batches of texts, predictions to x₀, guidance, noise masks. See guide.h. */
#include "nodes/sampling/guide_internal.h"

#include <math.h>
#include <stdlib.h>

/* ---- preparing ------------------------------------------------------------------------------------------ */

bool weft_model_sigmas(weft_ctx *c, const weft_model *m, weft_sigma_table *out) {
    return weft_sigma_table_make(c, &m->scheduler, m->zero_snr, out);
}

/* What an inpainting model sees behind the latent, where the conditioning says nothing: the mask and the source, or
 * a mask of ones and the latent of plain grey. */
static weft_tensor *default_concat(weft_ctx *c, const weft_guide *g, weft_tensor *latent) {
    static const float grey[4] = { 0.8223f, -0.6876f, 0.6364f, 0.1380f };
    int64_t n = weft_dim(latent, 0), h = weft_dim(latent, 1), w = weft_dim(latent, 2);
    if (!g->mask) {
        weft_tensor *one = weft_full(c, WEFT_F32, WEFT_SHAPE(n, h, w, 1), 1);
        weft_tensor *plain = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1, 1, 1, 4), grey);
        plain = weft_contiguous(c, weft_broadcast(c, plain, WEFT_SHAPE(n, h, w, 4)));
        return weft_concat2(c, 3, one, plain);
    }
    size_t bytes = (size_t)(n * h * w) * sizeof(float);
    float *m = malloc(bytes);
    if (!m) weft_fail(c, WEFT_E_MEMORY, "inpainting: out of memory for the mask");
    weft_tensor *whole = NULL;
    if (m && weft_read(c, g->mask, m, bytes) == WEFT_OK) {
        for (int64_t i = 0; i < n * h * w; i++) m[i] = rintf(m[i]);
        whole = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(n, h, w, 1), m);
    }
    free(m);
    return weft_concat2(c, 3, whole, latent);
}

static weft_tensor *concat_of(weft_ctx *c, const weft_guide *g, const weft_cond *k, weft_tensor *latent) {
    int64_t extra = g->model->config.in_channels - weft_dim(latent, 3);
    if (!extra) return NULL;
    if (!k->concat_latent && extra == 5 && weft_dim(latent, 3) == 4) return default_concat(c, g, latent);
    weft_tensor *t = k->concat_latent;
    char shape[96];
    if (!t || weft_rank(t) != 4 || weft_dim(t, 3) != extra) {
        weft_fail(c, WEFT_E_SHAPE, "conditioning: the model wants %lld channels behind the latent's, not %s",
                  (long long)extra, t ? weft_describe(t, shape, sizeof shape) : "none");
        return NULL;
    }
    t = weft_resample(c, weft_cast(c, t, WEFT_F32), WEFT_BILINEAR, weft_dim(latent, 1), weft_dim(latent, 2));
    return weft_to_batch(c, t, weft_dim(latent, 0));
}

static bool add_item(weft_ctx *c, weft_guide *g, const weft_cond *k, weft_tensor *context, bool negative,
                     weft_tensor *latent) {
    weft_guided *item = &g->items[g->count++];
    *item = (weft_guided){ .negative = negative, .first = weft_sigma_of_percent(&g->table, k->start_percent),
                           .last = weft_sigma_of_percent(&g->table, k->end_percent) };
    char shape[96];
    if (weft_rank(context) != 3) {
        weft_fail(c, WEFT_E_SHAPE, "conditioning: a text is (N, tokens, width), not %s",
                  weft_describe(context, shape, sizeof shape));
        return false;
    }
    item->context = weft_to_batch(c, weft_contiguous(c, weft_cast(c, context, WEFT_F32)), weft_dim(latent, 0));
    item->concat = concat_of(c, g, k, latent);
    return weft_ok(c) && weft_guided_place(c, k, latent, item);
}

static bool inside(const weft_cond *a, const weft_cond *b) {
    return a->area_x >= b->area_x && a->area_y >= b->area_y &&
           a->area_x + a->area_width <= b->area_x + b->area_width &&
           a->area_y + a->area_height <= b->area_y + b->area_height;
}

/* The text of `others` that stands against k, which has an area: the smallest area around k's, or one without. NULL:
 * there is none, or it has k's area already. */
static const weft_cond *against(const weft_conditioning *others, const weft_cond *k) {
    const weft_cond *best = NULL;
    for (int i = 0; i < others->count; i++) {
        const weft_cond *o = &others->items[i];
        if (!o->has_area) {
            if (!best) best = o;
        } else if (inside(k, o)) {
            if (!best || !best->has_area || best->area_width * best->area_height > o->area_width * o->area_height)
                best = o;
        }
    }
    return best && best->has_area && inside(best, k) ? NULL : best;
}

/* A side's texts, and for each area of the other side a text to stand against it there. */
static bool add_side(weft_ctx *c, weft_guide *g, const weft_conditioning *side, const weft_conditioning *other,
                     bool negative, weft_tensor *latent) {
    for (int i = 0; i < side->count; i++)
        if (!add_item(c, g, &side->items[i], side->items[i].context, negative, latent)) return false;
    for (int i = 0; i < other->count; i++) {
        const weft_cond *k = &other->items[i], *text = k->has_area ? against(side, k) : NULL;
        if (text && !add_item(c, g, k, text->context, negative, latent)) return false;
    }
    return true;
}

bool weft_guide_make(weft_ctx *c, const weft_model *m, const weft_conditioning *positive,
                     const weft_conditioning *negative, double cfg, weft_tensor *latent, weft_tensor *noise,
                     weft_tensor *mask, weft_guide *out) {
    *out = (weft_guide){ .model = m, .cfg = cfg };
    if (!weft_ok(c) || !weft_model_sigmas(c, m, &out->table)) return false;
    out->items = calloc(2 * ((size_t)positive->count + (size_t)negative->count) + 1, sizeof *out->items);
    if (!out->items) weft_fail(c, WEFT_E_MEMORY, "out of memory for %d texts", positive->count + negative->count);
    if (mask) {
        out->mask = weft_fit_mask(c, mask, latent, "noise_mask");
        out->latent = latent;
        out->noise = noise;
    }
    bool guided = fabs(cfg - 1) > 1e-9 * fmax(1, fabs(cfg));
    if (weft_ok(c) && add_side(c, out, positive, negative, false, latent) &&
        (!guided || add_side(c, out, negative, positive, true, latent)))
        return true;
    weft_guide_free(out);
    return false;
}

void weft_guide_free(weft_guide *g) {
    weft_sigma_table_free(&g->table);
    free(g->items);
    *g = (weft_guide){ 0 };
}

/* ---- evaluating ----------------------------------------------------------------------------------------- */

/* Sums of weighted predictions and of weights, a side each. */
struct sums { weft_tensor *value[2], *weight[2]; };

static weft_tensor *cut(weft_ctx *c, weft_tensor *t, const weft_guided *g) {
    if (g->whole) return t;
    return weft_contiguous(c, weft_slice(c, weft_slice(c, t, 1, g->y, g->h), 2, g->x, g->w));
}

/* Over the whole picture, with zeros around its area. */
static weft_tensor *spread(weft_ctx *c, weft_tensor *t, const weft_guided *g, weft_tensor *x) {
    if (g->whole) return t;
    int64_t right = weft_dim(x, 2) - g->x - g->w, bottom = weft_dim(x, 1) - g->y - g->h;
    return weft_pad(c, t, WEFT_PAD_CONSTANT, (int)g->y, (int)bottom, (int)g->x, (int)right, 0);
}

static weft_tensor *to_denoised(weft_ctx *c, const weft_guide *g, weft_tensor *x, weft_tensor *out, double sigma) {
    return weft_to_denoised(c, g->model->prediction, &(weft_noise_level){ .alpha = 1, .sigma = sigma }, x, out);
}

/* The model's prediction (raw), or its x₀, of the items in `group`, one batch behind the other. */
static weft_tensor *evaluate(weft_ctx *c, const weft_guide *g, const int *group, int n, weft_tensor *x, double sigma,
                             bool raw) {
    weft_scope s = weft_scope_named(c, "model");
    weft_tensor *plain = NULL, *input = NULL, *context = NULL;
    float t = (float)weft_timestep_of(&g->table, sigma);
    for (int i = 0; i < n; i++) {
        const weft_guided *item = &g->items[group[i]];
        weft_tensor *part = cut(c, x, item), *scaled = weft_affine(c, part, 1 / sqrt(sigma * sigma + 1), 0);
        if (item->concat) scaled = weft_concat2(c, 3, scaled, cut(c, item->concat, item));
        plain = i ? weft_concat2(c, 0, plain, part) : part;
        input = i ? weft_concat2(c, 0, input, scaled) : scaled;
        context = i ? weft_concat2(c, 0, context, item->context) : item->context;
    }
    weft_unet_inputs in = { .sample = input, .timesteps = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1), &t),
                            .context = context };
    weft_tensor *out = NULL;
    if (weft_ok(c)) out = weft_unet_predict(c, weft_root(g->model->weights->tree), &g->model->config, &in);
    return weft_scope_end(c, s, raw ? out : to_denoised(c, g, plain, out, sigma));
}

static void collect(weft_ctx *c, const weft_guided *item, weft_tensor *x, weft_tensor *denoised, struct sums *s) {
    bool side = item->negative;
    weft_tensor *weight = item->weight;
    if (!weight) weight = weft_full(c, WEFT_F32, WEFT_SHAPE(weft_dim(x, 0), item->h, item->w, 1), 1);
    weft_tensor *value = spread(c, item->weight ? weft_mul(c, denoised, weight) : denoised, item, x);
    weight = spread(c, weight, item, x);
    s->value[side] = s->value[side] ? weft_add(c, s->value[side], value) : value;
    s->weight[side] = s->weight[side] ? weft_add(c, s->weight[side], weight) : weight;
}

static bool counts(const weft_guided *g, double sigma) { return sigma <= g->first && sigma >= g->last; }

/* Evaluates what counts at this level; texts of one length and size go as one batch. */
static void evaluate_all(weft_ctx *c, const weft_guide *g, weft_tensor *x, double sigma, bool raw, struct sums *s) {
    int *group = malloc(((size_t)g->count + 1) * sizeof *group);
    bool *done = calloc((size_t)g->count + 1, sizeof *done);
    int64_t images = weft_dim(x, 0);
    if (!group || !done) weft_fail(c, WEFT_E_MEMORY, "out of memory for %d texts", g->count);
    for (int i = 0; weft_ok(c) && i < g->count; i++) {
        const weft_guided *a = &g->items[i];
        int n = 0;
        if (done[i] || !counts(a, sigma)) continue;
        for (int j = i; j < g->count; j++) {
            const weft_guided *b = &g->items[j];
            bool alike = a->h == b->h && a->w == b->w && weft_dim(a->context, 1) == weft_dim(b->context, 1);
            if (alike && !done[j] && counts(b, sigma)) group[n++] = j;
        }
        weft_tensor *all = evaluate(c, g, group, n, x, sigma, raw);
        for (int j = 0; j < n; j++) {
            weft_tensor *one = n > 1 ? weft_contiguous(c, weft_slice(c, all, 0, j * images, images)) : all;
            collect(c, &g->items[group[j]], x, one, s);
            done[group[j]] = true;
        }
    }
    free(group);
    free(done);
}

/* How many texts a side has at this level; *plain: each over the whole picture with weight 1. */
static int active_on(const weft_guide *g, bool side, double sigma, bool *plain) {
    int active = 0;
    *plain = true;
    for (int i = 0; i < g->count; i++)
        if (g->items[i].negative == side && counts(&g->items[i], sigma)) {
            active++;
            *plain = *plain && g->items[i].whole && !g->items[i].weight;
        }
    return active;
}

/* A side's mean; a place that no text covers is 0, as is a side without any. */
static weft_tensor *side_mean(weft_ctx *c, const weft_guide *g, const struct sums *s, bool side, weft_tensor *x,
                              double sigma) {
    bool plain;
    int active = active_on(g, side, sigma, &plain);
    if (!active) return weft_affine(c, x, 0, 0);
    if (active == 1 && plain) return s->value[side];
    return weft_div(c, s->value[side], weft_affine(c, s->weight[side], 1, 1e-37));
}

/* ---- guidance ------------------------------------------------------------------------------------------- */

/* Each image's standard deviation, (N, 1, 1, 1). */
static weft_tensor *spread_of(weft_ctx *c, weft_tensor *t) {
    const int64_t n = weft_dim(t, 0);
    weft_tensor *rows = weft_reshape(c, weft_contiguous(c, t), WEFT_SHAPE(n, weft_count(t) / (n ? n : 1)));
    weft_tensor *mean = weft_reshape(c, weft_reduce(c, WEFT_REDUCE_MEAN, rows, 1), WEFT_SHAPE(n, 1));
    weft_tensor *square = weft_unary(c, WEFT_UNARY_SQUARE, weft_subtract(c, rows, mean));
    weft_tensor *deviation = weft_unary(c, WEFT_UNARY_SQRT, weft_reduce(c, WEFT_REDUCE_MEAN, square, 1));
    return weft_reshape(c, deviation, WEFT_SHAPE(n, 1, 1, 1));
}

/* In units of v, guidance must not change the prediction's spread, image by image: a share `rescale` of the result is
 * scaled to the positive side's. */
static weft_tensor *rescaled(weft_ctx *c, weft_tensor *x, weft_tensor *positive, weft_tensor *mixed, double sigma,
                             double rescale) {
    double s = sigma * sigma + 1, unit = sqrt(s) / sigma;
    weft_tensor *vp = weft_axpby(c, unit / s, x, -unit, positive), *vm = weft_axpby(c, unit / s, x, -unit, mixed);
    weft_tensor *factor = weft_affine(c, weft_div(c, spread_of(c, vp), spread_of(c, vm)), rescale, 1 - rescale);
    return weft_axpby(c, 1 / s, x, -1 / unit, weft_mul(c, vm, factor));
}

/* One text a side over the whole picture is the usual case: guidance is then on the prediction, which is the same up to
 * rounding, and is what the nodes UNetStep, CFGMix and SchedulerStep do, bit for bit. */
static weft_tensor *guided(weft_ctx *c, const weft_guide *g, weft_tensor *x, double sigma) {
    struct sums sums = { { NULL, NULL }, { NULL, NULL } };
    bool alone = fabs(g->cfg - 1) <= 1e-9 * fmax(1, fabs(g->cfg)), raw, other = true;
    bool one = active_on(g, false, sigma, &raw) == 1 && (alone || active_on(g, true, sigma, &other) == 1);
    raw = one && raw && (alone || other) && g->model->cfg_rescale == 0;
    evaluate_all(c, g, x, sigma, raw, &sums);
    if (!weft_ok(c)) return NULL;
    weft_tensor *positive = side_mean(c, g, &sums, false, x, sigma);
    weft_tensor *mixed = alone ? positive : weft_cfg_mix(c, positive, side_mean(c, g, &sums, true, x, sigma), g->cfg);
    if (raw) return to_denoised(c, g, x, mixed, sigma);
    if (alone) return positive;
    return g->model->cfg_rescale != 0 ? rescaled(c, x, positive, mixed, sigma, g->model->cfg_rescale) : mixed;
}

/* a·mask + b·(1 − mask) */
static weft_tensor *blend(weft_ctx *c, weft_tensor *a, weft_tensor *b, weft_tensor *mask) {
    return weft_add(c, weft_mul(c, a, mask), weft_mul(c, b, weft_affine(c, mask, -1, 1)));
}

weft_tensor *weft_guide_denoise(weft_ctx *c, const weft_guide *g, weft_tensor *x, double sigma) {
    weft_scope s = weft_scope_named(c, "guide");
    if (g->mask) x = blend(c, x, weft_axpby(c, 1, g->latent, sigma, g->noise), g->mask);
    weft_tensor *out = guided(c, g, x, sigma);
    return weft_scope_end(c, s, g->mask ? blend(c, out, g->latent, g->mask) : out);
}
