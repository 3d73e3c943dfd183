/* Overlays: a tree over another, and weights changed by low-rank products, W′ = W + Σ scale·up·down (LoRA,
 * arXiv:2106.09685), or by whole differences. The tree below stays as it is; of W′ there is one, made when it is first
 * asked for, however many deltas it has. */
#include "runtime/autograd.h"
#include "runtime/params_internal.h"
#include "runtime/safetensors_internal.h"

weft_tree *weft_tree_overlay(weft_ctx *c, weft_tree *below) {
    weft_tree *t = weft_tree_new(c, below->name);
    if (t) t->below = below;
    return t;
}

weft_params param_owner(weft_params at) {
    for (; at.tree; at = (weft_params){ at.tree->below, at.tree->nodes[at.node].base })
        if (at.tree->nodes[at.node].tensor) return at;
    return at;
}

/* ---- making W′ ------------------------------------------------------------------------------------------ */

/* t as a matrix (first size, all others) of `type`. */
static weft_tensor *matrix(weft_ctx *c, weft_tensor *t, weft_dtype type) {
    t = weft_cast(c, weft_plain(c, "merge", t), type);
    return t ? weft_reshape(c, t, WEFT_SHAPE(weft_dim(t, 0), weft_count(t) / weft_dim(t, 0))) : NULL;
}

static weft_tensor *sum_of(weft_ctx *c, const struct param_delta *deltas, weft_tensor *below) {
    weft_dtype type = weft_type(below) == WEFT_F64 ? WEFT_F64 : WEFT_F32;
    weft_tensor *sum = matrix(c, below, type);
    for (const struct param_delta *d = deltas; d; d = d->next) {
        weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
        weft_tensor *term = matrix(c, d->up, type);
        if (d->down) term = weft_matmul(c, term, matrix(c, d->down, type));
        term = weft_reshape(c, term, weft_rank(sum), weft_shape(sum));
        sum = weft_scope_end(c, s, weft_axpby(c, 1, sum, d->scale, term));
        weft_storage_leave(d->up->storage);
        if (d->down) weft_storage_leave(d->down->storage);
    }
    return weft_reshape(c, weft_cast(c, sum, weft_type(below)), weft_rank(below), weft_shape(below));
}

weft_tensor *param_merge(weft_ctx *c, weft_tree *t, uint32_t node, weft_tensor *below) {
    weft_scope s = weft_scope_begin(c, (weft_params){ t, node });
    weft_no_grad(c, true);
    weft_tensor *sum = sum_of(c, t->nodes[node].deltas, below);
    weft_no_grad(c, false);
    if (sum) param_put(t, node, sum, NULL);
    weft_scope_end(c, s, NULL);
    weft_storage_leave(below->storage);
    weft_params owner = param_owner((weft_params){ t->below, t->nodes[node].base });
    const struct param_pin *pin = owner.tree ? owner.tree->nodes[owner.node].pin : NULL;
    if (pin) weft_st_drop_pages(pin->file, pin->entry);
    return weft_ok(c) ? t->nodes[node].tensor : NULL;
}

/* ---- deltas --------------------------------------------------------------------------------------------- */

void param_drop_deltas(struct param_node *node) {
    while (node->deltas) {
        struct param_delta *d = node->deltas;
        node->deltas = d->next;
        weft_unref(d->up);
        weft_unref(d->down);
        weft_host_free(d);
    }
}

static bool append(weft_ctx *c, weft_tree *t, uint32_t node, const weft_delta *delta) {
    struct param_delta **last = &t->nodes[node].deltas, *d = weft_host_alloc(sizeof *d);
    if (!d) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory for a change of a parameter", t->name);
        return false;
    }
    while (*last) last = &(*last)->next;
    *last = d;
    c->weights_changed++;
    *d = (struct param_delta){ NULL, weft_ref(delta->up), weft_ref(delta->down), delta->scale };
    return true;
}

/* Whether up·down, or up alone, has as many rows and columns as w. */
static bool fits(const weft_tensor *w, const weft_tensor *up, const weft_tensor *down) {
    if (weft_rank(up) < 1 || weft_rank(w) < 1 || weft_count(w) == 0 || weft_dim(up, 0) != weft_dim(w, 0)) return false;
    if (!down) return weft_count(up) == weft_count(w);
    int64_t rank = weft_dim(down, 0), rows = weft_dim(w, 0);
    return weft_rank(down) >= 1 && rank > 0 && weft_count(up) == rows * rank &&
        weft_count(down) / rank == weft_count(w) / rows && weft_count(down) == rank * (weft_count(w) / rows);
}

weft_params param_changed(
    weft_ctx *c, weft_tree *t, const char *name, const weft_tensor *up, const weft_tensor *down) {
    char shown[ST_SHOWN];
    uint32_t node = weft_ok(c) && t->below ? param_place(t, 0, name) : PARAM_NOWHERE;
    if (!t->below) weft_fail(c, WEFT_E_ARGUMENT, "%s: there is no tree below to change", t->name);
    if (node == PARAM_NOWHERE) return (weft_params){ 0 };
    weft_params owner = param_owner((weft_params){ t->below, t->nodes[node].base });
    if (!owner.tree) {
        weft_fail(c, WEFT_E_PARAMS, "%s.%s: there is no such parameter to change", t->name, st_show(name, shown));
        return owner;
    }
    const weft_tensor *w = owner.tree->nodes[owner.node].tensor;
    if (fits(w, up, down)) return (weft_params){ t, node };
    weft_fail(c, WEFT_E_SHAPE, "%s.%s: %s%s%s does not fit the weight %s", t->name, st_show(name, shown), DESCRIBE(up),
        down ? " times " : "", down ? DESCRIBE(down) : "", DESCRIBE(w));
    return (weft_params){ 0 };
}

weft_status weft_tree_add_delta(weft_ctx *c, weft_tree *t, const char *name, const weft_delta *delta) {
    if (weft_ok(c) && !delta->up) weft_fail(c, WEFT_E_ARGUMENT, "%s.%s: a change without a tensor", t->name, name);
    weft_params at = weft_ok(c) ? param_changed(c, t, name, delta->up, delta->down) : (weft_params){ 0 };
    if (at.tree && t->nodes[at.node].tensor)
        return weft_fail(c, WEFT_E_ARGUMENT, "%s.%s: was used already, and can be changed no more", t->name, name);
    if (at.tree && append(c, t, at.node, delta) && !t->frozen) weft_tree_set_frozen(t, true);
    return weft_error(c);
}

bool weft_tree_is_deltas(const weft_tree *t) {
    if (!t->below) return false;
    for (uint32_t i = 0; i < t->node_count; i++)
        if (t->nodes[i].tensor && !t->nodes[i].deltas) return false;
    return true;
}

weft_status weft_tree_copy_deltas(weft_ctx *c, weft_tree *t, const weft_tree *from) {
    char path[PARAM_ROOM];
    for (uint32_t i = 0; i < from->node_count && weft_ok(c); i++) {
        for (const struct param_delta *d = from->nodes[i].deltas; d; d = d->next) {
            weft_delta one = { d->up, d->down, d->scale };
            if (weft_tree_add_delta(c, t, param_path(from, i, path, sizeof path), &one)) break;
        }
    }
    return weft_error(c);
}
