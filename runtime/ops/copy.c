/* Copies: contiguous, cast, layouts, concat; and reading and writing tensors of any strides.
 *
 * All go through the copy kernel, which reads and writes through strides and converts between types.
 */
#include <string.h>
#include "runtime/ops/gradient.h"

/* Also a cast's: weft_give() converts. */
static void same_backward(weft_ctx *c, const weft_entry *e) { weft_give(c, e, 0, e->dy); }

/* Each part's piece of dy. */
static void concat_backward(weft_ctx *c, const weft_entry *e) {
    const int64_t *cut = e->args;       /* the dimension, then each part's size */
    int64_t start = 0;
    for (int i = 0; i < e->operands; i++) {
        if (weft_wants(e, i)) weft_give(c, e, i, weft_slice(c, e->dy, (int)cut[0], start, cut[i + 1]));
        start += cut[i + 1];
    }
}

static void note_concat(weft_ctx *c, weft_tensor *y, int dim, int n, weft_tensor *const *parts) {
    const size_t size = ((size_t)n + 1) * sizeof(int64_t);
    if (!y || !weft_records(c, n, parts)) return;
    int64_t *cut = weft_host_alloc(size);
    if (cut) cut[0] = dim;
    else weft_op_fail(c, &weft_op_concat, WEFT_E_MEMORY, "no memory for the tape");
    for (int i = 0; cut && i < n; i++) cut[i + 1] = parts[i]->shape[dim];
    weft_op_note(c, &weft_op_concat, y, cut, size, n, parts, 0, NULL);
    weft_host_free(cut);
}

const weft_op weft_op_read = { "read", WEFT_KERNEL_copy, NULL };
const weft_op weft_op_write = { "write", WEFT_KERNEL_copy, NULL };
const weft_op weft_op_contiguous = { "contiguous", WEFT_KERNEL_copy, same_backward };
const weft_op weft_op_cast = { "cast", WEFT_KERNEL_copy, same_backward };
const weft_op weft_op_concat = { "concat", WEFT_KERNEL_copy, concat_backward };

bool weft_copy_into(weft_ctx *c, const weft_op *op, weft_tensor *src, weft_tensor *dst, int64_t offset) {
    const weft_op copy = { op->name, WEFT_KERNEL_copy, NULL };
    if (!(src = weft_plain(c, op->name, src)) || !weft_op_takes(c, &copy, src->type)) return false;
    if (c->shape_only || !weft_count(src)) return true;
    weft_copy_args a = { .src_type = src->type, .dst_type = dst->type, .rank = src->rank, .src = weft_raw(src),
                         .dst = (char *)weft_raw(dst) + offset * (int64_t)weft_dtype_size(dst->type) };
    for (int i = 0; i < src->rank; i++) {
        a.shape[i] = src->shape[i];
        a.src_stride[i] = src->stride[i];
        a.dst_stride[i] = dst->stride[i];
    }
    weft_op_status(c, &copy, src->type, c->kernels->copy(weft_env_now(c), &a));
    return weft_ok(c);
}

/* A dense copy of this type. */
static weft_tensor *copied(weft_ctx *c, const weft_op *op, weft_tensor *t, weft_dtype type) {
    weft_tensor *y = weft_tensor_make(c, op->name, type, t->rank, t->shape);
    return y && weft_copy_into(c, op, t, y, 0) ? y : NULL;
}

/* The plain form of a frozen weight, from its packed one. */
static weft_tensor *unpacked(weft_ctx *c, const char *who, weft_tensor *t) {
    static const weft_op unpack = { "unpack", WEFT_KERNEL_unpack, NULL };
    weft_tensor *y = weft_tensor_make(c, who, t->packed->how.type, t->rank, t->shape);
    if (!y) return NULL;
    weft_pack_args a = t->packed->how;      /* a frozen weight was dense when it was packed (weft_weight_pack) */
    a.src = t->packed->form->data;
    a.dst = weft_raw(y);
    WEFT_OP_RUN(c, &unpack, unpack, a);
    return weft_ok(c) ? weft_cast(c, y, t->type) : NULL;
}

weft_tensor *weft_plain(weft_ctx *c, const char *who, weft_tensor *t) {
    if (c->shape_only) return t;
    if (t->storage) return weft_storage_bring(c, who, t->storage) ? t : NULL;
    if (t->packed) return unpacked(c, who, t);
    weft_fail(c, WEFT_E_ARGUMENT, "%s: %s was made in a shape-only run and has no data", who, DESCRIBE(t));
    return NULL;
}

weft_tensor *weft_op_dense(weft_ctx *c, const weft_op *op, weft_tensor *t) {
    if (!(t = weft_plain(c, op->name, t))) return NULL;
    if (weft_is_dense(t)) return t;
    weft_tensor *y = copied(c, op, t, t->type);
    weft_op_note(c, &weft_op_contiguous, y, NULL, 0, WEFT_TENSORS(t), 0, NULL);
    return y;
}

weft_tensor *weft_contiguous(weft_ctx *c, weft_tensor *t) {
    const weft_op *op = &weft_op_contiguous;
    if (!WEFT_OP_BEGIN(c, op, t)) return NULL;
    weft_tensor *y = weft_op_dense(c, op, t);
    return y == t ? t : weft_op_end(c, op, y);
}

weft_tensor *weft_cast(weft_ctx *c, weft_tensor *t, weft_dtype type) {
    const weft_op *op = &weft_op_cast;
    if (!WEFT_OP_BEGIN(c, op, t)) return NULL;
    if (t->type == type) return t;
    weft_tensor *y = copied(c, op, t, type);
    weft_op_note(c, op, y, NULL, 0, WEFT_TENSORS(t), 0, NULL);
    return weft_op_end(c, op, y);
}

static weft_tensor *layout(weft_ctx *c, weft_tensor *t, const char *from, const int *order) {
    if (!WEFT_OP_BEGIN(c, &weft_op_permute, t)) return NULL;
    if (t->rank == 4) return weft_contiguous(c, weft_permute(c, t, order));
    return weft_op_fail(c, &weft_op_permute, WEFT_E_SHAPE, "%s is not %s", DESCRIBE(t), from);
}

weft_tensor *weft_to_nhwc(weft_ctx *c, weft_tensor *t) {
    return layout(c, t, "(N, C, H, W)", (const int[]){ 0, 2, 3, 1 });
}

weft_tensor *weft_to_nchw(weft_ctx *c, weft_tensor *t) {
    return layout(c, t, "(N, H, W, C)", (const int[]){ 0, 3, 1, 2 });
}

/* Whether `part` can be joined to `first` along dim; the error is set where not. */
static bool joins(weft_ctx *c, const weft_tensor *first, const weft_tensor *part, int dim, int number) {
    bool fits = first->rank == part->rank && first->type == part->type;
    for (int i = 0; fits && i < first->rank; i++) fits = i == dim || first->shape[i] == part->shape[i];
    if (!fits)
        weft_op_fail(c, &weft_op_concat, first->type == part->type ? WEFT_E_SHAPE : WEFT_E_TYPE,
                     "part %d, %s, does not join %s along dimension %d", number, DESCRIBE(part), DESCRIBE(first), dim);
    return fits;
}

weft_tensor *weft_concat(weft_ctx *c, int dim, int n, weft_tensor *const *parts) {
    const weft_op *op = &weft_op_concat;
    int64_t shape[WEFT_MAX_RANK];
    if (n < 1) return weft_ok(c) ? weft_op_fail(c, op, WEFT_E_ARGUMENT, "there is nothing to join") : NULL;
    if (!weft_op_begin(c, op, n, (const weft_tensor *const *)parts) || !weft_op_dim(c, op, parts[0], &dim)) return NULL;
    memcpy(shape, parts[0]->shape, sizeof shape);
    for (int i = 1; i < n; i++) {
        if (!joins(c, parts[0], parts[i], dim, i + 1)) return NULL;
        shape[dim] += parts[i]->shape[dim];     /* each ≤ 2⁵⁷, and the first sum over that is refused below */
        if (shape[dim] > INT64_MAX / 4) break;
    }
    weft_tensor *y = weft_tensor_make(c, op->name, parts[0]->type, parts[0]->rank, shape);
    int64_t offset = 0;
    for (int i = 0; y && i < n; i++) {
        if (!weft_copy_into(c, op, parts[i], y, offset)) return NULL;
        offset += parts[i]->shape[dim] * y->stride[dim];
    }
    note_concat(c, y, dim, n, parts);
    return weft_op_end(c, op, y);
}

weft_tensor *weft_concat2(weft_ctx *c, int dim, weft_tensor *a, weft_tensor *b) {
    return weft_concat(c, dim, 2, (weft_tensor *const[]){ a, b });
}
