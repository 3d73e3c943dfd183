/* Objects of diffusion graphs: making, copying references, freeing. See values.h. */
#include "nodes/values.h"

#include <stdlib.h>
#include <string.h>

/* A new object of `size` bytes that starts as a copy of `fields`; NULL with the error set. */
static void *object_new(weft_ctx *c, const weft_class *class, const void *fields, size_t size) {
    weft_object *o = weft_ok(c) ? malloc(size) : NULL;
    if (!o) {
        weft_fail(c, WEFT_E_MEMORY, "%s: out of memory", class->type);
        return NULL;
    }
    memcpy(o, fields, size);
    *o = (weft_object){ class, 1 };
    return o;
}

/* ---- weights ------------------------------------------------------------------------------------------------------------------------------ */

static void weights_free(weft_object *o) {
    weft_weights *w = (weft_weights *)o;
    weft_tree_free(w->tree);
    if (w->below) weft_object_unref(&w->below->object);
    free(w);
}

weft_weights *weft_weights_new(weft_ctx *c, weft_tree *tree, weft_weights *below) {
    weft_weights *w = object_new(c, &weft_class_weights, &(weft_weights){ .tree = tree, .below = below }, sizeof *w);
    if (!w) weft_tree_free(tree);
    else if (below) weft_object_ref(&below->object);
    return w;
}

static void weights_unref(weft_weights *w) {
    if (w) weft_object_unref(&w->object);
}

static void weights_ref(weft_weights *w) {
    if (w) weft_object_ref(&w->object);
}

/* ---- models ------------------------------------------------------------------------------------------------------------------------------- */

static void model_free(weft_object *o) {
    weft_model *m = (weft_model *)o;
    weights_unref(m->weights);
    weft_scheduler_config_free(&m->scheduler);
    free(m);
}

static const char *model_describe(const weft_object *o, char *buffer, size_t size) {
    const weft_model *m = (const weft_model *)o;
    snprintf(buffer, size, "%s UNet, %d channels, predicts %s", weft_family_name(m->family), m->config.in_channels, weft_prediction_name(m->prediction));
    return buffer;
}

weft_model *weft_model_new(weft_ctx *c, const weft_model *fields) {
    weft_model *m = object_new(c, &weft_class_model, fields, sizeof *m);
    if (!m) return NULL;
    weights_ref(m->weights);
    if (weft_scheduler_config_copy(c, &fields->scheduler, &m->scheduler) == WEFT_OK) return m;
    weft_object_unref(&m->object);
    return NULL;
}

static void clip_free(weft_object *o) {
    weft_clip *k = (weft_clip *)o;
    weights_unref(k->weights);
    weft_object_unref(k->tokenizer_holder);
    free(k);
}

static const char *clip_describe(const weft_object *o, char *buffer, size_t size) {
    const weft_clip *k = (const weft_clip *)o;
    snprintf(buffer, size, "%s text encoder, %d layers of %d, layer %d", weft_family_name(k->family), k->config.layers, k->config.width, k->layer);
    return buffer;
}

weft_clip *weft_clip_new(weft_ctx *c, const weft_clip *fields) {
    weft_clip *k = object_new(c, &weft_class_clip, fields, sizeof *k);
    if (!k) return NULL;
    weights_ref(k->weights);
    weft_object_ref(k->tokenizer_holder);
    return k;
}

static void vae_free(weft_object *o) {
    weights_unref(((weft_vae *)o)->weights);
    free(o);
}

static const char *vae_describe(const weft_object *o, char *buffer, size_t size) {
    const weft_vae *v = (const weft_vae *)o;
    snprintf(buffer, size, "autoencoder, %d latent channels, scale %g", v->config.latent_channels, v->config.scaling_factor);
    return buffer;
}

weft_vae *weft_vae_new(weft_ctx *c, const weft_vae *fields) {
    weft_vae *v = object_new(c, &weft_class_vae, fields, sizeof *v);
    if (v) weights_ref(v->weights);
    return v;
}

/* ---- latents, conditionings ------------------------------------------------------------------------------------------------------------------ */

static void latent_free(weft_object *o) {
    weft_latent *l = (weft_latent *)o;
    weft_unref(l->samples);
    weft_unref(l->noise_mask);
    free(l->batch_index);
    free(l);
}

static const char *latent_describe(const weft_object *o, char *buffer, size_t size) {
    const weft_latent *l = (const weft_latent *)o;
    char shape[96];
    snprintf(buffer, size, "latent %s%s", weft_describe(l->samples, shape, sizeof shape), l->noise_mask ? ", masked" : "");
    return buffer;
}

weft_latent *weft_latent_new(weft_ctx *c, const weft_latent *fields) {
    weft_latent *l = object_new(c, &weft_class_latent, fields, sizeof *l);
    if (!l) return NULL;
    weft_ref(l->samples);
    weft_ref(l->noise_mask);
    if (!fields->batch_index) return l;
    size_t bytes = sizeof(int64_t) * (size_t)weft_dim(l->samples, 0);
    l->batch_index = malloc(bytes + 1);
    if (l->batch_index) {
        memcpy(l->batch_index, fields->batch_index, bytes);
        return l;
    }
    weft_fail(c, WEFT_E_MEMORY, "LATENT: out of memory");
    weft_object_unref(&l->object);
    return NULL;
}

static void conditioning_free(weft_object *o) {
    weft_conditioning *k = (weft_conditioning *)o;
    for (int i = 0; i < k->count; i++) {
        weft_unref(k->items[i].context);
        weft_unref(k->items[i].pooled);
        weft_unref(k->items[i].mask);
        weft_unref(k->items[i].concat_latent);
    }
    free(k->items);
    free(k);
}

static const char *conditioning_describe(const weft_object *o, char *buffer, size_t size) {
    const weft_conditioning *k = (const weft_conditioning *)o;
    char shape[96];
    snprintf(buffer, size, "conditioning of %d: %s%s", k->count, k->count ? weft_describe(k->items[0].context, shape, sizeof shape) : "nothing",
             k->count > 1 ? " …" : "");
    return buffer;
}

weft_conditioning *weft_conditioning_new(weft_ctx *c, int count, const weft_cond *items) {
    weft_conditioning *k = object_new(c, &weft_class_conditioning, &(weft_conditioning){ 0 }, sizeof *k);
    if (!k) return NULL;
    k->items = calloc((size_t)count + 1, sizeof *k->items);
    if (!k->items) {
        weft_fail(c, WEFT_E_MEMORY, "CONDITIONING: out of memory");
        weft_object_unref(&k->object);
        return NULL;
    }
    k->count = count;
    for (int i = 0; i < count; i++) {
        k->items[i] = items[i];
        weft_ref(items[i].context);
        weft_ref(items[i].pooled);
        weft_ref(items[i].mask);
        weft_ref(items[i].concat_latent);
    }
    return k;
}

/* ---- texts --------------------------------------------------------------------------------------------------------- */

static void texts_free(weft_object *o) {
    weft_texts *t = (weft_texts *)o;
    for (int i = 0; i < t->count; i++) free(t->items[i]);
    free(t->items);
    free(t);
}

static const char *texts_describe(const weft_object *o, char *buffer, size_t size) {
    const weft_texts *t = (const weft_texts *)o;
    snprintf(buffer, size, "%d texts: %.*s%s", t->count, 200, t->count ? t->items[0] : "", t->count > 1 ? " …" : "");
    return buffer;
}

weft_texts *weft_texts_new(weft_ctx *c, int count, const char *const *items) {
    weft_texts *t = object_new(c, &weft_class_texts, &(weft_texts){ 0 }, sizeof *t);
    bool ok = t && (t->items = calloc((size_t)count + 1, sizeof *t->items));
    for (; ok && t->count < count; t->count++)
        if (!(ok = (t->items[t->count] = strdup(items[t->count])))) break;
    if (ok || !t) return t;
    weft_fail(c, WEFT_E_MEMORY, "TEXTS: out of memory");
    weft_object_unref(&t->object);
    return NULL;
}

/* ---- classes ------------------------------------------------------------------------------------------------------- */

static weft_tree *model_weights(const weft_object *o) { return ((const weft_model *)o)->weights->tree; }
static weft_tree *clip_weights(const weft_object *o) { return ((const weft_clip *)o)->weights->tree; }
static weft_tree *vae_weights(const weft_object *o) { return ((const weft_vae *)o)->weights->tree; }

const weft_class weft_class_weights = { .type = "WEIGHTS", .free = weights_free },
                 weft_class_model = { "MODEL", model_free, model_describe, model_weights },
                 weft_class_clip = { "CLIP", clip_free, clip_describe, clip_weights },
                 weft_class_vae = { "VAE", vae_free, vae_describe, vae_weights },
                 weft_class_latent = { .type = "LATENT", .free = latent_free, .describe = latent_describe },
                 weft_class_conditioning = { .type = "CONDITIONING", .free = conditioning_free,
                                             .describe = conditioning_describe },
                 weft_class_texts = { .type = "TEXTS", .free = texts_free, .describe = texts_describe };
