/* matmul: (…, m, k)·(…, k, n) → (…, m, n), the outer sizes equal. Rows and columns are read through their strides. */
#include "runtime/ops/gradient.h"

/* The last two dimensions in the other order. */
static weft_tensor *turned(weft_ctx *c, weft_tensor *t) {
    int order[WEFT_MAX_RANK];
    if (!t) return NULL;
    for (int i = 0; i < t->rank; i++) order[i] = i;
    order[t->rank - 2] = t->rank - 1;
    order[t->rank - 1] = t->rank - 2;
    return weft_permute(c, t, order);
}

/* da = dy·bᵀ, db = aᵀ·dy. */
static void matmul_backward(weft_ctx *c, const weft_entry *e) {
    if (weft_wants(e, 0)) weft_give(c, e, 0, weft_matmul(c, e->dy, turned(c, weft_kept(e, 1))));
    if (weft_wants(e, 1)) weft_give(c, e, 1, weft_matmul(c, turned(c, weft_kept(e, 0)), e->dy));
}

const weft_op weft_op_matmul = { "matmul", WEFT_KERNEL_matmul, matmul_backward };

static bool check(weft_ctx *c, const weft_tensor *a, const weft_tensor *b) {
    const weft_op *op = &weft_op_matmul;
    const int r = a->rank;
    bool fits = r >= 2 && b->rank == r && a->shape[r - 1] == b->shape[r - 2];
    for (int i = 0; fits && i < r - 2; i++) fits = a->shape[i] == b->shape[i];
    if (!fits) {
        weft_op_fail(c, op, WEFT_E_SHAPE, "%s and %s do not go together as (…, m, k) and (…, k, n)", DESCRIBE(a),
                     DESCRIBE(b));
        return false;
    }
    return weft_op_same_type(c, op, a, "the second operand", b) && weft_op_takes(c, op, a->type);
}

/* t with its outer dimensions one stride apart; copied where they are not. */
static weft_tensor *batched(weft_ctx *c, weft_tensor *t, int64_t *stride) {
    t = weft_plain(c, weft_op_matmul.name, t);
    if (!t || weft_collapses(t, 0, t->rank - 2, stride)) return t;
    t = weft_op_dense(c, &weft_op_matmul, t);
    if (t) weft_collapses(t, 0, t->rank - 2, stride);
    return t;
}

weft_tensor *weft_matmul(weft_ctx *c, weft_tensor *a, weft_tensor *b) {
    const weft_op *op = &weft_op_matmul;
    int64_t shape[WEFT_MAX_RANK], batch = 1, a_batch = 0, b_batch = 0;
    if (!WEFT_OP_BEGIN(c, op, a, b) || !check(c, a, b)) return NULL;
    const int row = a->rank - 2, column = a->rank - 1;
    for (int i = 0; i < row; i++) batch *= shape[i] = a->shape[i];
    const int64_t m = shape[row] = a->shape[row], n = shape[column] = b->shape[column], k = a->shape[column];
    weft_tensor *y = weft_tensor_make(c, op->name, a->type, a->rank, shape);
    if (!y || c->shape_only) return weft_op_end(c, op, y);
    if (!(a = batched(c, a, &a_batch)) || !(b = batched(c, b, &b_batch))) return NULL;
    weft_matmul_args arguments = {
        .type = a->type, .batch = batch, .m = m, .n = n, .k = k,
        .a = weft_raw(a), .a_batch = a_batch, .a_row = a->stride[row], .a_col = a->stride[column],
        .b = weft_raw(b), .b_batch = b_batch, .b_row = b->stride[row], .b_col = b->stride[column],
        .c = weft_raw(y), .c_batch = m * n, .ldc = n, .alpha = 1,
    };
    c->flops += 2.0 * (double)(arguments.batch * arguments.m) * (double)arguments.n * (double)arguments.k;
    WEFT_OP_RUN(c, op, matmul, arguments);
    weft_op_note(c, op, y, NULL, 0, WEFT_TENSORS(a, b),
                 WEFT_TENSORS(weft_requires_grad(b) ? a : NULL, weft_requires_grad(a) ? b : NULL));
    return weft_op_end(c, op, y);
}
