/* Writing a tree to a file: an overlay as what its model is, deltas and adapters merged into the weights below. */
#include <string.h>
#include "runtime/params_internal.h"

/* prefix + name in the next free bytes of `names`; returns it. */
static const char *file_name(char **names, const char *prefix, const char *name) {
    char *start = *names;
    *names = stpcpy(stpcpy(start, prefix), name) + 1;
    return start;
}

/* The tensor that is written for a node of t, which `changes` (NULL: none) may change. NULL with the error set. */
static weft_tensor *changed(weft_ctx *c, weft_tree *changes, const struct param_listed *l, weft_tensor *plain) {
    uint32_t node = changes ? param_find(changes, 0, l->name) : 0;
    if (!node || !changes->nodes[node].deltas) return plain;
    return param_merge(c, changes, node, plain);
}

static void write_tree(
    weft_ctx *c, weft_tree *t, weft_tree *changes, const char *prefix, const char *path, weft_dtype type) {
    size_t bytes = 1;
    if (!weft_ok(c) || !param_list(t)) return;
    for (int64_t i = 0; i < t->count; i++) bytes += strlen(prefix) + strlen(t->list[i].name) + 1;
    weft_st_item *items = weft_host_alloc(((size_t)t->count + 1) * sizeof *items);
    char *names = weft_host_alloc(bytes), *free_name = names;
    if (!items || !names) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the header", path);
        goto out;
    }
    for (int64_t i = 0; i < t->count; i++) {
        const struct param_node *node = &t->nodes[t->list[i].node];
        if (node->pin && node->pin->entry->foreign) {
            weft_fail(c, WEFT_E_TYPE, "%s: %s is %s, which Weft cannot write", path, t->list[i].name,
                node->pin->entry->foreign);
            goto out;
        }
        weft_dtype own = weft_type(node->tensor);
        bool real = own == WEFT_F32 || own == WEFT_F16 || own == WEFT_BF16 || own == WEFT_F64;
        const char *name = file_name(&free_name, prefix, t->list[i].name);
        items[i] = (weft_st_item){ name, changed(c, changes, &t->list[i], node->tensor), real ? type : own };
        if (!weft_ok(c)) goto out;
    }
    /* Other programs (transformers) refuse files that do not say whose layout they have. */
    if (weft_st_write(c, path, items, t->count, (const char *const[]){ "format", "pt", NULL })) goto out;
out:
    weft_host_free(names);
    weft_host_free(items);
}

/* All deltas and adapters of the overlays from the lowest up to t. */
static void gather(weft_ctx *c, weft_tree *to, const weft_tree *t) {
    if (!t->below) return;
    gather(c, to, t->below);
    if (!weft_tree_copy_deltas(c, to, t) && weft_tree_merge_adapters(c, to, t)) return;
}

weft_status weft_tree_write(weft_ctx *c, weft_tree *t, const char *prefix, const char *path, weft_dtype type) {
    weft_tree *root = t;
    while (root->below) root = root->below;
    weft_tree *changes = t->below ? weft_tree_overlay(c, root) : NULL;
    if (changes) gather(c, changes, t);
    write_tree(c, root, changes, prefix, path, type);
    weft_tree_free(changes);
    return weft_error(c);
}
