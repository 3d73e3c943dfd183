/* Asking a tree for a parameter: found and checked, made, or noted as missing. */
#include <string.h>
#include "runtime/autograd.h"
#include "runtime/params_internal.h"

static bool is_real(weft_dtype type) {
    return type == WEFT_F32 || type == WEFT_F16 || type == WEFT_BF16 || type == WEFT_F64;
}

/* A fault of a parameter: noted in a check, which goes on with a tensor that fits; otherwise the error. */
static weft_tensor *fault(weft_ctx *c, weft_tree *t, uint32_t node, enum param_fault kind, const char *details,
    int rank, const int64_t *shape) {
    static const weft_status status[PARAM_FAULTS] = { WEFT_E_PARAMS, WEFT_E_PARAMS, WEFT_E_TYPE, WEFT_E_PARAMS };
    char path[PARAM_ROOM], file[256] = "";
    if (t->report) {
        param_note(t, node, kind, details);
        return weft_tensor_new(c, WEFT_F32, rank, shape);
    }
    const struct param_pin *pin = t->nodes[node].pin;
    if (pin) snprintf(file, sizeof file, " (%.200s)", weft_st_path(pin->file));
    weft_params p = { t, node };
    weft_fail(c, status[kind], "parameter %s%s%s%s", weft_params_name(p, path, sizeof path),
        kind == PARAM_MISSING ? " is missing" : "", details, file);
    return NULL;
}

static weft_tensor *make(weft_ctx *c, weft_tree *t, uint32_t node, weft_init init, int rank, const int64_t *shape) {
    char path[PARAM_ROOM];
    if (!is_real(t->make_type)) {
        weft_fail(c, WEFT_E_TYPE, "%s: weights cannot be made as %s", t->name, weft_dtype_name(t->make_type));
        return NULL;
    }
    /* Also where a check runs shape-only: it makes everything. */
    int depth = c->shape_only;
    c->shape_only = 0;
    weft_scope s = weft_scope_begin(c, (weft_params){ t, node });
    weft_tensor *tensor =
        param_fill(c, t->make_type, t->make_seed, param_path(t, node, path, sizeof path), init, rank, shape);
    if (tensor) param_put(t, node, tensor, NULL);
    weft_scope_end(c, s, NULL);
    c->shape_only = depth;
    return tensor;
}

static bool same_shape(const weft_tensor *t, int rank, const int64_t *shape) {
    if (weft_rank(t) != rank) return false;
    for (int i = 0; i < rank; i++)
        if (weft_dim(t, i) != shape[i]) return false;
    return true;
}

/* (n, k) for (n, k, 1, 1) or the other way: a matrix and a 1×1 convolution are the same. */
static bool same_matrix(const weft_tensor *t, int rank, const int64_t *shape) {
    int own = weft_rank(t);
    if (own + rank != 6 || (rank != 2 && rank != 4)) return false;
    for (int i = 0; i < 4; i++)
        if ((i < own ? weft_dim(t, i) : 1) != (i < rank ? shape[i] : 1)) return false;
    return true;
}

/* The tree keeps the tensor in the form that is asked for. */
static bool reshape(weft_ctx *c, weft_tree *t, uint32_t node, int rank, const int64_t *shape) {
    int depth = c->shape_only;
    c->shape_only = 0;
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_no_grad(c, true);      /* the view is to be the leaf */
    weft_tensor *plain = weft_plain(c, "reshape", t->nodes[node].tensor);
    weft_tensor *view = weft_reshape(c, plain, rank, shape);
    if (view) {
        weft_unref(t->nodes[node].tensor);
        t->nodes[node].tensor = weft_ref(view);
        c->weights_changed++;
        param_mark(t, node);
        weft_storage_leave(view->storage);
    }
    weft_no_grad(c, false);
    weft_scope_end(c, s, NULL);
    c->shape_only = depth;
    return view != NULL;
}

/* The tensor of the place *at, which becomes the place in the trees below that has it. */
static weft_tensor *get(weft_ctx *c, weft_params *at, weft_init init, int rank, const int64_t *shape) {
    char details[2 * WEFT_TEXT + 64], has[WEFT_TEXT], wants[WEFT_TEXT];
    weft_tree *t = at->tree;
    uint32_t node = at->node;
    weft_tensor *tensor = t->nodes[node].tensor;
    if (!tensor && t->below) {
        *at = (weft_params){ t->below, t->nodes[node].base };
        tensor = get(c, at, init, rank, shape);
        if (!tensor || !t->nodes[node].deltas || weft_is_shape_only(c)) return tensor;
        *at = (weft_params){ t, node };
        return param_merge(c, t, node, tensor);
    }
    if (!tensor && t->making) tensor = make(c, t, node, init, rank, shape);
    else if (!tensor) return fault(c, t, node, PARAM_MISSING, "", rank, shape);
    if (!tensor) return NULL;
    t->nodes[node].asked = true;
    const char *foreign = t->nodes[node].pin ? t->nodes[node].pin->entry->foreign : NULL;
    if (foreign || !is_real(weft_type(tensor))) {
        snprintf(details, sizeof details, " is of type %s, expected f32, f16 or bf16",
            foreign ? foreign : weft_dtype_name(weft_type(tensor)));
        return fault(c, t, node, PARAM_UNTYPED, details, rank, shape);
    }
    if (same_shape(tensor, rank, shape)) return tensor;
    if (same_matrix(tensor, rank, shape)) return reshape(c, t, node, rank, shape) ? t->nodes[node].tensor : NULL;
    weft_shape_text(weft_rank(tensor), weft_shape(tensor), has, sizeof has);
    weft_shape_text(rank, shape, wants, sizeof wants);
    snprintf(details, sizeof details, " has the shape %s, expected %s", has, wants);
    return fault(c, t, node, PARAM_MISSHAPEN, details, rank, shape);
}

/* The place `name` below p; {0} with the error set. */
static weft_params place_of(weft_ctx *c, weft_params p, const char *name) {
    if (!weft_ok(c)) return (weft_params){ 0 };
    if (!p.tree) {
        weft_fail(c, WEFT_E_ARGUMENT, "parameter %s: there is no tree to find it in", name);
        return (weft_params){ 0 };
    }
    uint32_t node = param_place(p.tree, p.node, name);
    return node == PARAM_NOWHERE ? (weft_params){ 0 } : (weft_params){ p.tree, node };
}

weft_tensor *weft_param(weft_ctx *c, weft_params p, const char *name, weft_init init, int rank, const int64_t *shape) {
    weft_params at = place_of(c, p, name);
    return at.tree ? get(c, &at, init, rank, shape) : NULL;
}

weft_tensor *param_vector(weft_ctx *c, weft_params p, const char *name, weft_init init, int64_t n, weft_dtype type) {
    weft_params at = place_of(c, p, name);
    weft_tensor *t = at.tree ? get(c, &at, init, 1, &n) : NULL;
    if (!t || weft_type(t) == type) return t;
    struct param_node *node = &at.tree->nodes[at.node];
    if (node->cast && weft_type(node->cast) == type) return node->cast;
    weft_tensor *cast = weft_cast(c, t, type);
    if (cast && at.tree->frozen && !node->trained && !weft_is_shape_only(c) && !c->memory.hold) {
        c->weights_changed++;
        weft_unref(node->cast);
        node->cast = weft_ref(cast);
    }
    return cast;
}
