/* Writing LoRA files; see lora.h. diffusers' names have no alpha, and readers of such files differ in where else they
 * look for one: up carries alpha/rank there, so that all of them see the same W′. */
#include "nodes/lora/lora.h"

#include <stdlib.h>
#include <string.h>

enum { TENSORS = 3 };       /* of a layer: down, up, alpha */

typedef struct writing { weft_st_item *items; char (*names)[WEFT_LORA_NAME + 64]; int64_t count; } writing;

static void put(weft_ctx *c, writing *w, weft_lora_style style, const weft_lora_layer *l, weft_lora_role role,
                weft_tensor *t, weft_dtype type) {
    if (!t) return;
    if (!weft_lora_name(style, l->part, l->place, role, w->names[w->count], sizeof *w->names)) {
        weft_fail(c, WEFT_E_ARGUMENT, "%.200s: no name for it in a LoRA file", l->place);
        return;
    }
    w->items[w->count] = (weft_st_item){ w->names[w->count], t, type };
    w->count++;
}

static void put_layer(weft_ctx *c, writing *w, weft_lora_style style, const weft_lora_layer *l, weft_dtype type) {
    int64_t rank = weft_dim(l->down, 0);
    if (!l->down || !l->up || rank < 1 || weft_dim(l->up, 1) != rank) {
        char down[96], up[96];
        weft_fail(c, WEFT_E_SHAPE, "%.200s: %s and %s are no pair of a LoRA", l->place,
                  weft_describe(l->down, down, sizeof down), weft_describe(l->up, up, sizeof up));
        return;
    }
    weft_tensor *up = l->up;
    if (style == WEFT_LORA_DIFFUSERS && l->alpha != (double)rank)
        up = weft_affine(c, weft_cast(c, up, WEFT_F32), l->alpha / (double)rank, 0);
    put(c, w, style, l, WEFT_LORA_DOWN, l->down, type);
    put(c, w, style, l, WEFT_LORA_UP, up, type);
    if (style == WEFT_LORA_KOHYA) put(c, w, style, l, WEFT_LORA_ALPHA, weft_scalar(c, WEFT_F32, l->alpha), type);
}

weft_status weft_lora_write(weft_ctx *c, const char *path, weft_lora_style style, const weft_lora_layer *layers,
                            int64_t count, weft_dtype type, const char *const *metadata) {
    static const char *const plain[] = { "format", "pt", NULL };
    if (!weft_ok(c)) return weft_error(c);
    size_t room = TENSORS * (size_t)count + 1;
    writing w = { calloc(room, sizeof *w.items), calloc(room, sizeof *w.names), 0 };
    weft_scope s = weft_scope_named(c, path);
    if (!w.items || !w.names) weft_fail(c, WEFT_E_MEMORY, "no memory for the names");
    for (int64_t i = 0; i < count && weft_ok(c); i++) put_layer(c, &w, style, &layers[i], type);
    if (weft_ok(c) && weft_st_write(c, path, w.items, w.count, metadata ? metadata : plain)) w.count = 0;
    weft_scope_end(c, s, NULL);
    free(w.items);
    free(w.names);
    return weft_error(c);
}

weft_status weft_lora_write_trees(weft_ctx *c, const char *path, weft_lora_style style,
                                  const weft_tree *const trees[WEFT_LORA_PARTS], weft_dtype type,
                                  const char *const *metadata) {
    int64_t count = 0;
    weft_adapter a;
    for (int part = 0; part < WEFT_LORA_PARTS; part++)
        for (int64_t i = 0; trees[part] && weft_tree_adapter(trees[part], i, &a); i++) count++;
    weft_lora_layer *layers = calloc((size_t)count + 1, sizeof *layers);
    if (!layers) return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the names", path);
    count = 0;
    for (int part = 0; part < WEFT_LORA_PARTS; part++)
        for (int64_t i = 0; trees[part] && weft_tree_adapter(trees[part], i, &a); i++)
            layers[count++] = (weft_lora_layer){ (weft_lora_part)part, a.place, a.down, a.up,
                                                 a.scale * (double)weft_dim(a.down, 0) };
    weft_status status = weft_lora_write(c, path, style, layers, count, type, metadata);
    free(layers);
    return status;
}
