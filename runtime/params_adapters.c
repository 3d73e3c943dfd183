/* Low-rank adapters beside layers: y = layer(x) + scale·up(down(x)), in an overlay over the layers' tree. The names and
 * the start (down Kaiming-uniform with a = √5, up 0) are PEFT's. arXiv:2106.09685. */
#include <string.h>
#include "runtime/params_internal.h"

#define RANK_MOST 4096

/* Puts one tensor of an adapter into the tree; its node, or PARAM_NOWHERE with the error set. */
static uint32_t put(weft_ctx *c, weft_tree *t, const char *place, const char *which, weft_tensor *tensor) {
    char name[PARAM_ROOM];
    if (snprintf(name, sizeof name, "%s.%s.weight", place, which) > PARAM_NAME_MOST)
        weft_fail(c, WEFT_E_PARAMS, "%s: a name of more than %d bytes", t->name, PARAM_NAME_MOST);
    else if (weft_tree_add(c, t, name, tensor) == WEFT_OK) return param_find(t, 0, name);
    return PARAM_NOWHERE;
}

weft_status weft_tree_add_adapter(weft_ctx *c, weft_tree *t, const weft_adapter *a) {
    char name[PARAM_ROOM];
    struct param_adapter *own = NULL, **last = &t->adapters;
    if (!weft_ok(c)) return weft_error(c);
    if (!a->down || !a->up)
        return weft_fail(c, WEFT_E_ARGUMENT, "%s.%s: an adapter without a tensor", t->name, a->place);
    snprintf(name, sizeof name, "%s.weight", a->place);
    weft_params at = param_changed(c, t, name, a->up, a->down);
    if (!at.tree) return weft_error(c);
    uint32_t place = t->nodes[at.node].parent;
    size_t length = strlen(a->place) + 1;
    own = weft_host_alloc(sizeof *own + length);
    if (!own) return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for an adapter", t->name);
    *own = (struct param_adapter){ NULL, 0, 0, a->scale };
    memcpy(own->place, a->place, length);
    own->down = put(c, t, a->place, "lora_A", a->down);
    own->up = weft_ok(c) ? put(c, t, a->place, "lora_B", a->up) : PARAM_NOWHERE;
    if (!weft_ok(c)) {
        weft_host_free(own);
        return weft_error(c);
    }
    while (*last) last = &(*last)->next;
    *last = own;
    t->nodes[place].adapter = own;
    return WEFT_OK;
}

/* ---- new ones ------------------------------------------------------------------------------------------- */

/* Whether the place is the target or ends in ".target". */
static bool is_target(const char *place, size_t n, const char *target) {
    size_t length = strlen(target);
    return n >= length && !memcmp(place + n - length, target, length) && (n == length || place[n - length - 1] == '.');
}

struct making { int rank; double alpha; weft_dtype type; uint64_t seed; };

static void make_one(weft_ctx *c, weft_tree *t, const char *place, const weft_tensor *w, const struct making *how) {
    char name[PARAM_ROOM];
    int64_t down[WEFT_MAX_RANK] = { how->rank }, up[WEFT_MAX_RANK] = { weft_dim(w, 0), how->rank, 1, 1 };
    for (int i = 1; i < weft_rank(w); i++) down[i] = weft_dim(w, i);
    weft_init init = { .kind = WEFT_INIT_FAN_IN, .fan_in = (double)(weft_count(w) / weft_dim(w, 0)) };
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    snprintf(name, sizeof name, "%.*s.lora_A.weight", PARAM_NAME_MOST, place);
    weft_adapter a = {
        .place = place, .scale = how->alpha / how->rank,
        .down = param_fill(c, how->type, how->seed, name, init, weft_rank(w), down),
        .up = weft_full(c, how->type, weft_rank(w), up, 0),
    };
    if (weft_ok(c) && weft_tree_add_adapter(c, t, &a)) a = (weft_adapter){ 0 };
    weft_scope_end(c, s, NULL);
}

/* Adapters for all layers of the tree `root` that a target names; returns how many it names. */
static int64_t make_all(
    weft_ctx *c, weft_tree *t, const weft_tree *root, const char *target, const struct making *how) {
    static const char ending[] = ".weight";
    const size_t more = sizeof ending - 1;
    char place[PARAM_ROOM];
    int64_t found = 0;
    for (int64_t i = 0; i < root->count && weft_ok(c); i++) {
        const weft_tensor *w = root->nodes[root->list[i].node].tensor;
        size_t n = strlen(root->list[i].name);
        if (n <= more || strcmp(root->list[i].name + n - more, ending)) continue;
        n -= more;
        if (!is_target(root->list[i].name, n, target) || (weft_rank(w) != 2 && weft_rank(w) != 4)) continue;
        snprintf(place, sizeof place, "%.*s", (int)n, root->list[i].name);
        found++;
        uint32_t node = param_find(t, 0, place);
        if (!node || !t->nodes[node].adapter) make_one(c, t, place, w, how);    /* otherwise an earlier target's */
    }
    return found;
}

weft_status weft_tree_make_adapters(weft_ctx *c, weft_tree *t, const char *const *targets, int rank, double alpha,
    weft_dtype type, uint64_t seed) {
    struct making how = { rank, alpha, type, seed };
    weft_tree *root = t;
    while (root->below) root = root->below;
    if (weft_ok(c) && (rank < 1 || rank > RANK_MOST))
        weft_fail(c, WEFT_E_ARGUMENT, "%s: adapters of rank %d; it is 1 to %d", t->name, rank, RANK_MOST);
    for (; *targets && weft_ok(c) && param_list(root); targets++)
        if (!make_all(c, t, root, *targets, &how) && weft_ok(c))
            weft_fail(c, WEFT_E_ARGUMENT, "%s: no layer is called %s", t->name, *targets);
    return weft_error(c);
}

/* ---- all of them ---------------------------------------------------------------------------------------- */

bool weft_tree_adapter(const weft_tree *t, int64_t i, weft_adapter *adapter) {
    const struct param_adapter *a = t->adapters;
    for (; a && i > 0; i--) a = a->next;
    if (!a || i < 0) return false;
    *adapter = (weft_adapter){ a->place, t->nodes[a->down].tensor, t->nodes[a->up].tensor, a->scale };
    return true;
}

weft_status weft_tree_merge_adapters(weft_ctx *c, weft_tree *to, const weft_tree *from) {
    char name[PARAM_ROOM];
    for (const struct param_adapter *a = from->adapters; a && weft_ok(c); a = a->next) {
        weft_delta d = { from->nodes[a->up].tensor, from->nodes[a->down].tensor, a->scale };
        snprintf(name, sizeof name, "%s.weight", a->place);
        if (weft_tree_add_delta(c, to, name, &d)) break;
    }
    return weft_error(c);
}
