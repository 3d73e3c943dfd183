/* Training a tree: which parameters are leaves, and what their gradients are. */
#include <fnmatch.h>
#include "runtime/autograd_internal.h"
#include "runtime/params_internal.h"

static bool trains(const struct param_node *node) { return node->tensor && node->trained; }

/* The plain form, f32 or f64, in memory of the context's own; NULL with the error set. */
static weft_tensor *own_form(weft_ctx *c, weft_tensor *t, const char *name) {
    const weft_dtype type = t->type == WEFT_F64 ? WEFT_F64 : WEFT_F32;
    if (t->storage && t->storage->block && t->type == type) return t;
    weft_tensor *plain = weft_plain(c, name, t);
    if (!plain || plain->type != type) return weft_cast(c, plain, type);
    return plain != t ? plain : weft_own_copy(c, plain);
}

static void train(weft_ctx *c, weft_tree *t, const struct param_listed *at) {
    struct param_node *node = &t->nodes[at->node];
    weft_scope s = weft_scope_begin(c, (weft_params){ t, at->node });
    weft_tensor *own = own_form(c, node->tensor, at->name);
    if (own && own != node->tensor) {
        weft_unref(node->tensor);
        node->tensor = weft_ref(own);
    }
    weft_scope_end(c, s, NULL);
    if (!weft_ok(c)) return;
    weft_unref(node->cast);
    node->cast = NULL;
    node->trained = t->was_trained = true;
    param_mark(t, at->node);
}

static uint64_t writes(const struct param_node *node) {
    return trains(node) && node->tensor->storage ? node->tensor->storage->version : 0;
}

static void freeze(weft_tree *t, uint32_t at) {
    t->settled += writes(&t->nodes[at]);
    t->nodes[at].trained = false;
    weft_set_requires_grad(t->nodes[at].tensor, false);
    param_mark(t, at);
}

/* Whether the tensor is of a kind that can be trained: not the integers that some files carry along. */
static bool can_train(const struct param_node *node) {
    weft_dtype type = weft_type(node->tensor);
    bool real = type == WEFT_F32 || type == WEFT_F64 || type == WEFT_F16 || type == WEFT_BF16;
    return real && !(node->pin && node->pin->entry->foreign);
}

weft_status weft_tree_train(weft_ctx *c, weft_tree *t, const char *pattern, bool on) {
    int64_t matches = 0;
    if (!weft_ok(c) || !param_list(t)) return weft_error(c);
    const int depth = c->shape_only;
    c->shape_only = 0;
    weft_no_grad(c, true);
    for (int64_t i = 0; i < t->count && weft_ok(c); i++) {
        const struct param_listed *at = &t->list[i];
        if (!can_train(&t->nodes[at->node]) || (pattern && fnmatch(pattern, at->name, 0))) continue;
        matches++;
        if (on) train(c, t, at);
        else freeze(t, at->node);
    }
    weft_no_grad(c, false);
    c->shape_only = depth;
    if (weft_ok(c) && !matches)
        weft_fail(c, WEFT_E_PARAMS, "%s: no parameter of the tree's %" PRId64 " matches \"%s\"", t->name, t->count,
            pattern ? pattern : "*");
    return weft_error(c);
}

weft_tensor *weft_tree_trainable(weft_tree *t, int64_t i, const char **name) {
    if (i < 0 || !param_list(t)) return NULL;
    for (int64_t at = 0; at < t->count; at++) {
        const struct param_node *node = &t->nodes[t->list[at].node];
        if (!trains(node) || i--) continue;
        if (name) *name = t->list[at].name;
        return node->tensor;
    }
    return NULL;
}

uint64_t weft_tree_version(const weft_tree *t, bool *trains_now) {
    uint64_t version = t->was_trained + t->settled;
    bool below = false, own = false;
    for (uint32_t i = 0; t->was_trained && i < t->node_count; i++) {
        version += writes(&t->nodes[i]);
        own = own || trains(&t->nodes[i]);
    }
    if (t->below) version += weft_tree_version(t->below, &below);
    if (trains_now) *trains_now = own || below;
    return version;
}

bool weft_tree_was_trained(const weft_tree *t) { return t->was_trained; }

void weft_tree_zero_grad(weft_tree *t) {
    for (uint32_t i = 0; i < t->node_count; i++) weft_zero_grad(t->nodes[i].tensor);
}

const char *weft_tree_not_finite(weft_ctx *c, weft_tree *t) {
    if (!weft_ok(c) || !param_list(t)) return NULL;
    for (int64_t i = 0; i < t->count; i++) {
        weft_tensor *grad = weft_grad(t->nodes[t->list[i].node].tensor);
        if (grad && !weft_is_finite(c, grad) && weft_ok(c)) return t->list[i].name;
    }
    return NULL;
}
