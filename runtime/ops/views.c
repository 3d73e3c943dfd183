/* Views: reshape, slice, permute, broadcast. The result shares the storage; only reshape copies, and only what is not
 * dense. */
#include "runtime/ops/gradient.h"

static void reshape_backward(weft_ctx *c, const weft_entry *e) {
    const struct tape_slot *s = &c->tape->slot[e->operand[0]];
    weft_give(c, e, 0, weft_reshape(c, e->dy, s->rank, s->shape));
}

struct cut { int dim; int64_t start; };

/* dy goes into its place in a tensor of zeros, or is added there to what other slices gave. */
static void slice_backward(weft_ctx *c, const weft_entry *e) {
    const struct cut *at = e->args;
    bool adds;
    weft_tensor *dy = e->dy, *dx = weft_gradient_begin(c, e, 0, dy->type, &adds);
    if (!dx) return;
    weft_fill_args fill = { .type = dx->type, .n = weft_count(dx), .dst = weft_raw(dx) };
    if (!adds) WEFT_OP_RUN(c, &weft_op_full, fill, fill);
    const int64_t offset = weft_count(dy) ? at->start * dx->stride[at->dim] : 0;
    if (adds) dy = weft_add(c, dy, weft_tensor_view(c, dx, offset, dy->rank, dy->shape, dx->stride));
    if (dy) weft_copy_into(c, e->op, dy, dx, offset);
    weft_gradient_end(c, e, 0, dx);
}

static void permute_backward(weft_ctx *c, const weft_entry *e) {
    const int *order = e->args;
    int back[WEFT_MAX_RANK];
    for (int i = 0; i < e->dy->rank; i++) back[order[i]] = i;
    weft_give(c, e, 0, weft_permute(c, e->dy, back));
}

static void broadcast_backward(weft_ctx *c, const weft_entry *e) { weft_give_sum(c, e, 0, e->dy); }

const weft_op weft_op_reshape = { "reshape", WEFT_KERNEL_copy, reshape_backward };
const weft_op weft_op_slice = { "slice", WEFT_KERNEL_copy, slice_backward };
const weft_op weft_op_permute = { "permute", WEFT_KERNEL_copy, permute_backward };
const weft_op weft_op_broadcast = { "broadcast", WEFT_KERNEL_copy, broadcast_backward };

/* The wanted shape with its −1 worked out for `count` elements; false where there is none. */
static bool work_out(int rank, const int64_t *wanted, int64_t count, int64_t *shape) {
    int64_t n;
    int open = -1;
    if (rank < 0 || rank > WEFT_MAX_RANK) return false;
    for (int i = 0; i < rank; i++) {
        shape[i] = wanted[i];
        if (wanted[i] != -1) continue;
        if (open >= 0) return false;
        open = i;
        shape[i] = 1;
    }
    if (!weft_shape_count(rank, shape, &n)) return false;
    if (open < 0) return n == count;
    if (n == 0 || count % n) return false;
    shape[open] = count / n;
    return weft_shape_count(rank, shape, &n);
}

weft_tensor *weft_reshape(weft_ctx *c, weft_tensor *t, int rank, const int64_t *shape) {
    const weft_op *op = &weft_op_reshape;
    int64_t out[WEFT_MAX_RANK], stride[WEFT_MAX_RANK];
    if (!WEFT_OP_BEGIN(c, op, t)) return NULL;
    if (!work_out(rank, shape, weft_count(t), out))
        return weft_op_fail(c, op, WEFT_E_SHAPE, "%s does not go into %s", DESCRIBE(t), SHAPE_TEXT(rank, shape));
    if (!(t = weft_op_dense(c, op, t))) return NULL;
    weft_dense_strides(rank, out, stride);
    weft_tensor *y = weft_tensor_view(c, t, 0, rank, out, stride);
    weft_op_note(c, op, y, NULL, 0, WEFT_TENSORS(t), 0, NULL);
    return weft_op_end(c, op, y);
}

weft_tensor *weft_slice(weft_ctx *c, weft_tensor *t, int dim, int64_t start, int64_t length) {
    const weft_op *op = &weft_op_slice;
    int64_t shape[WEFT_MAX_RANK];
    if (!WEFT_OP_BEGIN(c, op, t) || !weft_op_dim(c, op, t, &dim)) return NULL;
    if (start < 0 || length < 0 || start > t->shape[dim] || length > t->shape[dim] - start)
        return weft_op_fail(c, op, WEFT_E_SHAPE, "%" PRId64 " from %" PRId64 " on is outside dimension %d of %s",
                            length, start, dim, DESCRIBE(t));
    if (!(t = weft_plain(c, op->name, t))) return NULL;
    for (int i = 0; i < t->rank; i++) shape[i] = t->shape[i];
    shape[dim] = length;
    int64_t offset = length ? start * t->stride[dim] : 0;       /* an empty view points nowhere past the end */
    weft_tensor *y = weft_tensor_view(c, t, offset, t->rank, shape, t->stride);
    struct cut cut = { dim, start };
    weft_op_note(c, op, y, &cut, sizeof cut, WEFT_TENSORS(t), 0, NULL);
    return weft_op_end(c, op, y);
}

weft_tensor *weft_permute(weft_ctx *c, weft_tensor *t, const int *order) {
    const weft_op *op = &weft_op_permute;
    int64_t shape[WEFT_MAX_RANK], stride[WEFT_MAX_RANK];
    unsigned seen = 0;
    if (!WEFT_OP_BEGIN(c, op, t)) return NULL;
    for (int i = 0; i < t->rank; i++) {
        if (order[i] < 0 || order[i] >= t->rank || seen >> order[i] & 1)
            return weft_op_fail(c, op, WEFT_E_ARGUMENT, "dimension %d at place %d; the order names each of the %d "
                                "dimensions of %s once", order[i], i, t->rank, DESCRIBE(t));
        seen |= 1u << order[i];
    }
    if (!(t = weft_plain(c, op->name, t))) return NULL;
    for (int i = 0; i < t->rank; i++) {
        shape[i] = t->shape[order[i]];
        stride[i] = t->stride[order[i]];
    }
    weft_tensor *y = weft_tensor_view(c, t, 0, t->rank, shape, stride);
    weft_op_note(c, op, y, order, (size_t)t->rank * sizeof *order, WEFT_TENSORS(t), 0, NULL);
    return weft_op_end(c, op, y);
}

weft_tensor *weft_broadcast(weft_ctx *c, weft_tensor *t, int rank, const int64_t *shape) {
    const weft_op *op = &weft_op_broadcast;
    int64_t stride[WEFT_MAX_RANK], count;
    if (!WEFT_OP_BEGIN(c, op, t)) return NULL;
    bool fits = rank >= t->rank && weft_shape_count(rank, shape, &count);
    for (int i = 0; fits && i < rank; i++) {
        int from = i - (rank - t->rank);
        stride[i] = from < 0 || t->shape[from] == 1 ? 0 : t->stride[from];
        fits = from < 0 || t->shape[from] == 1 || t->shape[from] == shape[i];
    }
    if (!fits)
        return weft_op_fail(c, op, WEFT_E_SHAPE, "%s does not spread to %s", DESCRIBE(t), SHAPE_TEXT(rank, shape));
    if (!(t = weft_plain(c, op->name, t))) return NULL;
    weft_tensor *y = weft_tensor_view(c, t, 0, rank, shape, stride);
    weft_op_note(c, op, y, NULL, 0, WEFT_TENSORS(t), 0, NULL);
    return weft_op_end(c, op, y);
}
