/* linear: y = act(x·Wᵀ + b) + residual.  x: (…, k); w: (n, k) or (n, k, 1, 1); b: (n); y, residual: (…, n). */
#include "runtime/ops/gradient.h"

static void linear_backward(weft_ctx *c, const weft_entry *e);

const weft_op weft_op_linear = { "linear", WEFT_KERNEL_gemm, linear_backward };

/* x as rows of k contiguous values, *stride apart; copied where it is not so already. */
static weft_tensor *rows_of(weft_ctx *c, weft_tensor *x, int64_t *stride) {
    const int last = x->rank - 1;
    const int64_t k = x->shape[last];
    if (!(x = weft_plain(c, weft_op_linear.name, x))) return NULL;
    bool rows = (k == 1 || x->stride[last] == 1) && weft_collapses(x, 0, last, stride);
    if (rows && weft_count(x) == k) *stride = k;        /* one row */
    if (rows && *stride >= k) return x;
    *stride = k;
    return weft_op_dense(c, &weft_op_linear, x);
}

/* Whether x and w go together; the error is set where not. */
static bool check(weft_ctx *c, const weft_tensor *x, const weft_tensor *w) {
    const weft_op *op = &weft_op_linear;
    if (w->rank != 2 && !(w->rank == 4 && w->shape[2] == 1 && w->shape[3] == 1))
        weft_op_fail(c, op, WEFT_E_SHAPE, "weight %s is not (n, k) or (n, k, 1, 1)", DESCRIBE(w));
    else if (x->rank < 1 || x->shape[x->rank - 1] != w->shape[1])
        weft_op_fail(c, op, WEFT_E_SHAPE, "input %s has %" PRId64 " features, weight %s takes %" PRId64, DESCRIBE(x),
                     weft_dim(x, -1), DESCRIBE(w), w->shape[1]);
    return weft_op_takes(c, op, x->type) && weft_weight_takes(c, op, w);
}

/* ---- the gradient: operands x, w, b, residual; kept x where w wants one, w where x does -------------------------- */

/* dx = dy·W: a product with the weight turned over, on top of what dx holds. */
static void backward_x(weft_ctx *c, const weft_entry *e, const weft_tensor *dy, int64_t ldy) {
    const weft_gemm_args *f = e->args;
    weft_tensor *w = weft_kept(e, 1);
    bool adds;
    weft_tensor *dx = weft_gradient_begin(c, e, 0, f->type, &adds);
    weft_storage *packed = dx ? weft_weight_pack_back(c, e->op, w, f->wtype) : NULL;
    if (!packed) return;
    weft_gemm_args a = { .type = f->type, .wtype = f->wtype, .m = f->m, .n = f->k, .k = f->n, .x = weft_raw(dy),
                         .ldx = ldy, .w = packed->data, .residual = adds ? weft_raw(dx) : NULL, .ldr = f->k,
                         .y = weft_raw(dx), .ldy = f->k };
    c->flops += 2.0 * (double)a.m * (double)a.n * (double)a.k;
    WEFT_OP_RUN(c, e->op, gemm, a);
    weft_storage_drop(packed);
    weft_gradient_end(c, e, 0, dx);
}

/* dW = dyᵀ·x. */
static void backward_w(weft_ctx *c, const weft_entry *e, const weft_tensor *dy, int64_t ldy) {
    const weft_gemm_args *f = e->args;
    bool adds;
    weft_tensor *dw = weft_gradient_begin(c, e, 1, f->type, &adds);
    if (!dw || !weft_op_takes(c, &weft_op_matmul, f->type)) return;
    weft_matmul_args a = { .type = f->type, .batch = 1, .m = f->n, .n = f->k, .k = f->m, .a = weft_raw(dy), .a_row = 1,
                           .a_col = ldy, .b = weft_raw(weft_kept(e, 0)), .b_row = f->ldx, .b_col = 1,
                           .c = weft_raw(dw), .ldc = f->k, .alpha = 1, .accumulate = adds };
    c->flops += 2.0 * (double)a.m * (double)a.n * (double)a.k;
    WEFT_OP_RUN(c, e->op, matmul, a);
    weft_gradient_end(c, e, 1, dw);
}

static void linear_backward(weft_ctx *c, const weft_entry *e) {
    int64_t ldy = 0;
    weft_tensor *dy = rows_of(c, e->dy, &ldy);
    if (!dy) return;
    if (weft_wants(e, 0)) backward_x(c, e, dy, ldy);
    if (weft_wants(e, 1)) backward_w(c, e, dy, ldy);
    weft_give_sum(c, e, 2, dy);
    weft_give(c, e, 3, e->dy);
}

/* For the gradient an activation needs what went into it, and is then an operation of its own. */
static weft_tensor *in_parts(weft_ctx *c, weft_tensor *x, weft_tensor *w, weft_tensor *b, weft_activation act,
                             weft_tensor *residual) {
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor *y = weft_activate(c, act, weft_linear(c, x, w, b, WEFT_ACT_NONE, NULL));
    return weft_scope_end(c, s, residual ? weft_add(c, y, residual) : y);
}

weft_tensor *weft_linear(weft_ctx *c, weft_tensor *x, weft_tensor *w, weft_tensor *b, weft_activation act,
                         weft_tensor *residual) {
    const weft_op *op = &weft_op_linear;
    int64_t shape[WEFT_MAX_RANK], m = 1, stride;
    if (!WEFT_OP_BEGIN(c, op, x, w) || !check(c, x, w)) return NULL;
    if ((unsigned)act >= WEFT_ACT_COUNT) return weft_op_fail(c, op, WEFT_E_ARGUMENT, "%d is no activation", (int)act);
    for (int i = 0; i < x->rank - 1; i++) m *= shape[i] = x->shape[i];
    const int64_t n = shape[x->rank - 1] = w->shape[0], k = w->shape[1];
    if (!weft_op_optional(c, op, x, "bias", &b, 1, &n)) return NULL;
    if (!weft_op_optional(c, op, x, "residual", &residual, x->rank, shape)) return NULL;
    if (act && weft_records(c, WEFT_TENSORS(x, w, b))) return in_parts(c, x, w, b, act, residual);
    weft_tensor *y = weft_tensor_make(c, op->name, x->type, x->rank, shape);
    if (!y || c->shape_only) return weft_op_end(c, op, y);
    if (!(x = rows_of(c, x, &stride))) return NULL;
    const weft_dtype wtype = weft_weight_type(c, w, x->type);
    weft_storage *packed = weft_weight_pack(c, op, w, wtype);
    if (!packed) return NULL;
    weft_gemm_args a = {
        .type = x->type, .wtype = wtype, .m = m, .n = n, .k = k, .x = weft_raw(x), .ldx = stride, .w = packed->data,
        .bias = weft_raw(b), .residual = weft_raw(residual), .ldr = n, .act = act, .y = weft_raw(y), .ldy = n,
    };
    c->flops += 2.0 * (double)a.m * (double)a.n * (double)a.k;
    WEFT_OP_RUN(c, op, gemm, a);
    weft_storage_drop(packed);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(x, w, b, residual),
                 WEFT_TENSORS(weft_requires_grad(w) ? x : NULL, weft_requires_grad(x) ? w : NULL));
    return weft_op_end(c, op, y);
}
