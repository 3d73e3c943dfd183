/* reduce: sum, mean, max or min over one dimension, or over all. An empty sum is 0, an empty mean NaN; max and min need
 * a value. */
#include "runtime/ops/gradient.h"

struct note { weft_reduce_args args; int dim; };     /* dim −1: all */

/* dy shared by the values that are the extreme. */
static weft_tensor *extreme_gradient(weft_ctx *c, const weft_entry *e, const weft_reduce_args *f) {
    weft_tensor *dy = weft_dense_dy(c, e), *dx = dy ? weft_gradient_new(c, e, 0, NULL) : NULL;
    if (!dx) return NULL;
    weft_reduce_grad_args a = { .type = f->type, .op = f->op, .outer = f->outer, .mid = f->mid, .inner = f->inner,
                                .x = weft_raw(weft_kept(e, 0)), .y = weft_raw(weft_kept(e, 1)), .dy = weft_raw(dy),
                                .dx = weft_raw(dx) };
    WEFT_GRADIENT_RUN(c, e, reduce_grad, a);
    return dx;
}

/* A sum's gradient is dy for each summand: a view that repeats it. */
static weft_tensor *sum_gradient(weft_ctx *c, const weft_entry *e, const struct note *f) {
    const struct tape_slot *s = &c->tape->slot[e->operand[0]];
    int64_t shape[WEFT_MAX_RANK];
    weft_tensor *dy = e->dy;
    if (f->args.op == WEFT_REDUCE_MEAN && f->args.mid) dy = weft_affine(c, dy, 1 / (double)f->args.mid, 0);
    for (int i = 0; i < s->rank; i++) shape[i] = f->dim < 0 || i == f->dim ? 1 : s->shape[i];
    return weft_broadcast(c, weft_reshape(c, dy, s->rank, shape), s->rank, s->shape);
}

static void reduce_backward(weft_ctx *c, const weft_entry *e) {
    const struct note *f = e->args;
    const bool extreme = f->args.op == WEFT_REDUCE_MAX || f->args.op == WEFT_REDUCE_MIN;
    weft_give(c, e, 0, extreme ? extreme_gradient(c, e, &f->args) : sum_gradient(c, e, f));
}

const weft_op weft_op_reduce = { "reduce", WEFT_KERNEL_reduce, reduce_backward };

static bool check(weft_ctx *c, weft_reduce_op which, const weft_tensor *x, int64_t mid) {
    const weft_op *op = &weft_op_reduce;
    if ((unsigned)which >= WEFT_REDUCE_COUNT) weft_op_fail(c, op, WEFT_E_ARGUMENT, "%d is no reduction", (int)which);
    else if ((which == WEFT_REDUCE_MAX || which == WEFT_REDUCE_MIN) && mid < 1)
        weft_op_fail(c, op, WEFT_E_SHAPE, "the %s of no values, input %s", which == WEFT_REDUCE_MAX ? "max" : "min",
                     DESCRIBE(x));
    return weft_op_takes(c, op, x->type);
}

static weft_tensor *reduce(weft_ctx *c, weft_reduce_op which, weft_tensor *x, weft_reduce_args a, int dim,
                           int rank, const int64_t *shape) {
    const weft_op *op = &weft_op_reduce;
    if (!check(c, which, x, a.mid) || !(x = weft_op_dense(c, op, x))) return NULL;
    weft_tensor *y = weft_tensor_make(c, op->name, x->type, rank, shape);
    if (!y) return NULL;
    a.type = x->type;
    a.op = which;
    a.x = weft_raw(x);
    a.y = weft_raw(y);
    WEFT_OP_RUN(c, op, reduce, a);
    struct note note = { a, dim };
    const bool extreme = which == WEFT_REDUCE_MAX || which == WEFT_REDUCE_MIN;
    weft_op_note(c, op, y, &note, sizeof note, WEFT_TENSORS(x), WEFT_TENSORS(extreme ? x : NULL, extreme ? y : NULL));
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
    return reduce(c, which, x, a, dim, rank, shape);
}

weft_tensor *weft_reduce_all(weft_ctx *c, weft_reduce_op which, weft_tensor *x) {
    if (!WEFT_OP_BEGIN(c, &weft_op_reduce, x)) return NULL;
    weft_reduce_args a = { .outer = 1, .mid = weft_count(x), .inner = 1 };
    return reduce(c, which, x, a, -1, 0, NULL);
}
