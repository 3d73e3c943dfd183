/* A LoRA's layers over a model's: places found, deltas and adapters added, what matches nothing told. See lora.h. */
#include "nodes/lora/lora_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- places of a model ------------------------------------------------------------------------------------------- */

/* All places of a tree that have a weight or bias, by their flat names, those of LDM too. */
typedef struct place { const char *flat, *name; } place;
typedef struct places { place *at; int64_t count; char *text; } places;

static int by_flat(const void *a, const void *b) {
    return strcmp(((const place *)a)->flat, ((const place *)b)->flat);
}

static void places_free(places *p) {
    free(p->at);
    free(p->text);
}

/* Copies a text behind those before. */
static const char *keep(char **text, const char *what) {
    char *at = *text;
    *text = stpcpy(at, what) + 1;
    return at;
}

static bool places_read(weft_ctx *c, weft_tree *tree, const weft_unet_config *unet, places *p) {
    enum { LDM_MORE = 32 };             /* bytes by which LDM's names are longer, at most, and zeros */
    int64_t n = weft_tree_count(tree);
    size_t room = 1;
    const char *name;
    for (int64_t i = 0; (name = weft_tree_name(c, tree, i)); i++) room += 3 * (strlen(name) + LDM_MORE);
    *p = (places){ calloc(2 * (size_t)n + 1, sizeof *p->at), 0, weft_ok(c) ? malloc(room) : NULL };
    if (!p->at || !p->text) {
        weft_fail(c, WEFT_E_MEMORY, "no memory for the names of layers");
        places_free(p);
        return false;
    }
    char *text = p->text;
    const char *last = "";
    for (int64_t i = 0; (name = weft_tree_name(c, tree, i)); i++) {
        char own[WEFT_LORA_NAME], flat[WEFT_LORA_NAME];
        const char *dot = strrchr(name, '.');
        if (!dot || (size_t)(dot - name) >= sizeof own) continue;
        snprintf(own, sizeof own, "%.*s", (int)(dot - name), name);
        if (!strcmp(own, last) || !weft_lora_flat(own, flat)) continue;
        last = keep(&text, own);
        p->at[p->count++] = (place){ keep(&text, flat), last };
        if (!unet || !weft_lora_ldm_place(unet, own, flat) || strlen(flat) > strlen(own) + LDM_MORE - 2) continue;
        weft_lora_flat(flat, flat);
        p->at[p->count++] = (place){ keep(&text, flat), last };
    }
    qsort(p->at, (size_t)p->count, sizeof *p->at, by_flat);
    return true;
}

/* The model's name of a layer's place, or NULL. */
static const char *places_find(const places *p, const lora_layer *l) {
    char flat[WEFT_LORA_NAME];
    if (!weft_lora_key_place(l->name, &l->key, flat)) return NULL;
    const place *at = bsearch(&(place){ .flat = flat }, p->at, (size_t)p->count, sizeof *p->at, by_flat);
    return at ? at->name : NULL;
}

/* ---- what a file is for ------------------------------------------------------------------------------------------ */

/* Widths of text that the UNets' cross-attention takes. */
static const char *by_width(int64_t width) {
    return width == 768 ? "Stable Diffusion 1" : width == 1024 ? "Stable Diffusion 2"
         : width == 2048 ? "Stable Diffusion XL" : NULL;
}

const char *weft_lora_made_for(const weft_lora *lora) {
    static const struct { const char *sign, *model; } signs[] = {
        { "lora_te2_", "Stable Diffusion XL" }, { "text_encoder_2.", "Stable Diffusion XL" },
        { "input_blocks_4_1_transformer_blocks_1_", "Stable Diffusion XL" },
        { "down_blocks_1_attentions_0_transformer_blocks_1_", "Stable Diffusion XL" },
        { "down_blocks.1.attentions.0.transformer_blocks.1.", "Stable Diffusion XL" },
        { "double_blocks", "Flux" }, { "single_transformer_blocks", "Flux" }, { "joint_blocks", "Stable Diffusion 3" },
        { "lora_prior_", "Stable Cascade" }, { "transformer.", "a transformer, not a UNet" },
    };
    for (size_t k = 0; k < sizeof signs / sizeof *signs; k++)
        for (int64_t i = 0; i < lora->count; i++)
            if (strstr(lora->layers[i].name, signs[k].sign)) return signs[k].model;
    for (int64_t i = 0; i < lora->count; i++) {
        const weft_st_entry *down = lora->layers[i].of[WEFT_LORA_DOWN];
        const char *to_k = strstr(lora->layers[i].name, "attn2");
        if (down && to_k && (strstr(to_k, "to_k") || strstr(to_k, "to_v")) && by_width(down->shape[1]))
            return by_width(down->shape[1]);
    }
    return NULL;
}

/* ---- applying ---------------------------------------------------------------------------------------------------- */

static weft_tensor *tensor(weft_ctx *c, const weft_lora *lora, const lora_layer *l, weft_lora_role role) {
    return l->of[role] ? weft_st_tensor(c, lora->source.files[0], l->of[role]) : NULL;
}

/* Down with mid folded in: D(r, c, y, x) = Σ_j mid(r, j, y, x)·down(j, c). */
static weft_tensor *folded(weft_ctx *c, const weft_st_entry *name, weft_tensor *mid, weft_tensor *down) {
    int64_t r = weft_dim(mid, 0), j = weft_dim(mid, 1), h = weft_dim(mid, 2), w = weft_dim(mid, 3);
    if (!mid || !down) return NULL;
    int64_t in = weft_count(down) / weft_dim(down, 0);
    if (weft_dim(down, 0) != j || weft_dim(down, 1) != in) {
        char one[96], other[96];
        weft_fail(c, WEFT_E_SHAPE, "%.200s: %s does not go with a down of %s", name->name,
                  weft_describe(mid, one, sizeof one), weft_describe(down, other, sizeof other));
        return NULL;
    }
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    mid = weft_permute(c, weft_cast(c, mid, WEFT_F32), (const int[]){ 0, 2, 3, 1 });
    mid = weft_reshape(c, mid, WEFT_SHAPE(r * h * w, j));
    down = weft_reshape(c, weft_cast(c, down, WEFT_F32), WEFT_SHAPE(j, in));
    weft_tensor *all = weft_reshape(c, weft_matmul(c, mid, down), WEFT_SHAPE(r, h, w, in));
    all = weft_contiguous(c, weft_permute(c, all, (const int[]){ 0, 3, 1, 2 }));
    return weft_scope_end(c, s, all);
}

/* What tells of a shape that does not fit names the model that the file seems to be for. */
static void explain(weft_ctx *c, const weft_lora *lora) {
    char message[1024];
    const char *model = weft_lora_made_for(lora);
    if (weft_error(c) != WEFT_E_SHAPE || !model) return;
    snprintf(message, sizeof message, "%.900s", weft_message(c));
    weft_clear(c);
    weft_fail(c, WEFT_E_SHAPE, "%s; the file seems to be for %s", message, model);
}

typedef struct applying { weft_tree *overlay; double strength; bool adapters; } applying;

static void apply_layer(weft_ctx *c, const weft_lora *lora, const lora_layer *l, const char *at, const applying *how) {
    char name[WEFT_LORA_NAME + 16];
    weft_tensor *down = tensor(c, lora, l, WEFT_LORA_DOWN), *up = tensor(c, lora, l, WEFT_LORA_UP);
    weft_tensor *mid = tensor(c, lora, l, WEFT_LORA_MID), *diff = tensor(c, lora, l, WEFT_LORA_DIFF);
    weft_tensor *bias = tensor(c, lora, l, WEFT_LORA_BIAS_DIFF);
    double scale = down ? lora_scale(c, lora, l) : 0;
    if (how->adapters) {
        if (mid || diff || bias)
            weft_fail(c, WEFT_E_ARGUMENT, "%.200s: only plain LoRA can be trained on", l->name);
        else if (down && !weft_tree_add_adapter(c, how->overlay, &(weft_adapter){ at, down, up, scale })) return;
        return;
    }
    if (mid) down = folded(c, l->of[WEFT_LORA_MID], mid, down);
    snprintf(name, sizeof name, "%s.weight", at);
    if (down && weft_tree_add_delta(c, how->overlay, name, &(weft_delta){ up, down, how->strength * scale })) return;
    if (diff && weft_tree_add_delta(c, how->overlay, name, &(weft_delta){ diff, NULL, how->strength })) return;
    snprintf(name, sizeof name, "%s.bias", at);
    if (bias && weft_tree_add_delta(c, how->overlay, name, &(weft_delta){ bias, NULL, how->strength })) return;
}

static weft_status apply(weft_ctx *c, weft_lora *lora, weft_lora_part part, weft_tree *base,
                         const weft_unet_config *unet, const applying *how) {
    places p;
    if (!weft_ok(c) || !places_read(c, base, unet, &p)) return weft_error(c);
    weft_scope s = weft_scope_named(c, lora->name);
    for (int64_t i = 0; i < lora->count && weft_ok(c); i++) {
        lora_layer *l = &lora->layers[i];
        const char *at = l->key.part == part ? places_find(&p, l) : NULL;
        if (!at) continue;
        weft_scope one = weft_scope_begin(c, (weft_params){ 0 });
        apply_layer(c, lora, l, at, how);
        weft_scope_end(c, one, NULL);
        l->used = true;
    }
    weft_scope_end(c, s, NULL);
    explain(c, lora);
    places_free(&p);
    return weft_error(c);
}

weft_status weft_lora_apply(weft_ctx *c, weft_lora *lora, weft_lora_part part, weft_tree *base,
                            const weft_unet_config *unet, weft_tree *overlay, double strength) {
    return apply(c, lora, part, base, unet, &(applying){ overlay, strength, false });
}

weft_status weft_lora_adapt(weft_ctx *c, weft_lora *lora, weft_lora_part part, weft_tree *base,
                            const weft_unet_config *unet, weft_tree *overlay) {
    return apply(c, lora, part, base, unet, &(applying){ overlay, 1, true });
}

void weft_lora_report(weft_ctx *c, const weft_lora *lora, unsigned parts) {
    enum { SHOWN = 5 };
    char names[5 * 200] = "";
    size_t used = 0;
    int64_t matched = 0, lost = 0;
    if (!weft_ok(c)) return;
    for (int64_t i = 0; i < lora->count; i++) {
        const lora_layer *l = &lora->layers[i];
        matched += l->used;
        if (l->used || !((parts | 1u << WEFT_LORA_FOREIGN) >> l->key.part & 1) || ++lost > SHOWN) continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%.*s", used ? ", " : "",
                                 (int)(l->key.layer < 150 ? l->key.layer : 150), l->name);
    }
    const char *model = weft_lora_made_for(lora), *more = lost > SHOWN ? ", …" : "";
    const char *seems = model ? "; the file seems to be for " : "";
    if (!matched && lost)
        weft_fail(c, WEFT_E_FORMAT, "%s: none of its layers is one of this model (%s%s)%s%s", lora->name, names, more,
                  seems, model ? model : "");
    else if (lost)
        weft_warn(c, "%s: %lld of %lld layers match nothing in this model: %s%s%s%s", lora->name, (long long)lost,
                  (long long)lora->count, names, more, seems, model ? model : "");
}

weft_weights *weft_lora_over(weft_ctx *c, weft_lora *lora, weft_lora_part part, weft_weights *weights,
                             const weft_unet_config *unet, double strength) {
    if (!weft_ok(c)) return NULL;
    weft_weights *below = weights, *root = weights;
    const weft_tree *before = NULL;
    if (weights->below && weft_tree_is_deltas(weights->tree)) {
        before = weights->tree;
        below = weights->below;
    }
    while (root->below) root = root->below;
    weft_tree *tree = weft_tree_overlay(c, below->tree);
    if (tree && (!before || !weft_tree_copy_deltas(c, tree, before)) &&
        !weft_lora_apply(c, lora, part, root->tree, unet, tree, strength)) return weft_weights_new(c, tree, below);
    weft_tree_free(tree);
    return NULL;
}
