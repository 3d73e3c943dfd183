/* reduce: sum, mean, max or min over one dimension, or over all. An empty sum is 0, an empty mean NaN; max and min need
 * a value. */
#include "runtime/ops/ops.h"

const weft_op weft_op_reduce = { "reduce", WEFT_KERNEL_reduce, NULL };

static bool check(weft_ctx *c, weft_reduce_op which, const weft_tensor *x, int64_t mid) {
    const weft_op *op = &weft_op_reduce;
    if ((unsigned)which >= WEFT_REDUCE_COUNT) weft_op_fail(c, op, WEFT_E_ARGUMENT, "%d is no reduction", (int)which);
    else if ((which == WEFT_REDUCE_MAX || which == WEFT_REDUCE_MIN) && mid < 1)
        weft_op_fail(c, op, WEFT_E_SHAPE, "the %s of no values, input %s", which == WEFT_REDUCE_MAX ? "max" : "min",
                     DESCRIBE(x));
    return weft_op_takes(c, op, x->type);
}

static weft_tensor *reduce(weft_ctx *c, weft_reduce_op which, weft_tensor *x, weft_reduce_args a, int rank,
                           const int64_t *shape) {
    const weft_op *op = &weft_op_reduce;
    if (!check(c, which, x, a.mid) || !(x = weft_op_dense(c, op, x))) return NULL;
    weft_tensor *y = weft_tensor_make(c, op->name, x->type, rank, shape);
    if (!y) return NULL;
    a.type = x->type;
    a.op = which;
    a.x = weft_raw(x);
    a.y = weft_raw(y);
    WEFT_OP_RUN(c, op, reduce, a);
    return weft_op_end(c, op, y);
}

weft_tensor *weft_reduce(weft_ctx *c, weft_reduce_op which, weft_tensor *x, int dim) {
    weft_reduce_args a = { .outer = 1, .inner = 1 };
    int64_t shape[WEFT_MAX_RANK];
    int rank = 0;
    if (!WEFT_OP_BEGIN(c, &weft_op_reduce, x) || !weft_op_dim(c, &weft_op_reduce, x, &dim)) return NULL;
    for (int i = 0; i < x->rank; i++) {
        if (i < dim) a.outer *= x->shape[i];
        else if (i > dim) a.inner *= x->shape[i];
        else a.mid = x->shape[i];
        if (i != dim) shape[rank++] = x->shape[i];
    }
    return reduce(c, which, x, a, rank, shape);
}

weft_tensor *weft_reduce_all(weft_ctx *c, weft_reduce_op which, weft_tensor *x) {
    if (!WEFT_OP_BEGIN(c, &weft_op_reduce, x)) return NULL;
    weft_reduce_args a = { .outer = 1, .mid = weft_count(x), .inner = 1 };
    return reduce(c, which, x, a, 0, NULL);
}
