/* Element by element: unary functions, scale·x + shift, clamp, geglu (x₁·gelu(x₂) of the last dimension's halves);
 * binary functions with NumPy's broadcasting, alpha·a + beta·b. */
#include <math.h>
#include "runtime/ops/gradient.h"

static void unary_backward(weft_ctx *c, const weft_entry *e);
static void affine_backward(weft_ctx *c, const weft_entry *e);
static void geglu_backward(weft_ctx *c, const weft_entry *e);
static void binary_backward(weft_ctx *c, const weft_entry *e);
static void axpby_backward(weft_ctx *c, const weft_entry *e);

#define U(id, text) [WEFT_UNARY_##id] = { text, WEFT_KERNEL_unary, unary_backward }
const weft_op weft_op_unary[WEFT_UNARY_COUNT] = {
    U(SILU, "silu"), U(GELU, "gelu"), U(QUICK_GELU, "quick_gelu"), U(GELU_TANH, "gelu_tanh"), U(RELU, "relu"),
    U(SIGMOID, "sigmoid"), U(TANH, "tanh"), U(EXP, "exp"), U(LOG, "log"), U(SQRT, "sqrt"), U(ABS, "abs"),
    U(SQUARE, "square"), U(SIN, "sin"), U(COS, "cos"),
};
#undef U
#define B(id, text) [WEFT_BINARY_##id] = { text, WEFT_KERNEL_binary, binary_backward }
const weft_op weft_op_binary[WEFT_BINARY_COUNT] = {
    B(ADD, "add"), B(SUB, "subtract"), B(MUL, "mul"), B(DIV, "div"), B(MIN, "min"), B(MAX, "max"),
};
#undef B
const weft_op weft_op_axpby = { "axpby", WEFT_KERNEL_axpby, axpby_backward };
const weft_op weft_op_affine = { "affine", WEFT_KERNEL_affine, affine_backward };
const weft_op weft_op_clamp = { "clamp", WEFT_KERNEL_affine, affine_backward };
const weft_op weft_op_geglu = { "geglu", WEFT_KERNEL_geglu, geglu_backward };

/* ---- one operand ------------------------------------------------------------------------------------------------- */

static void unary_backward(weft_ctx *c, const weft_entry *e) {
    const weft_unary_args *f = e->args;
    weft_tensor *dy = weft_dense_dy(c, e), *dx = dy ? weft_gradient_new(c, e, 0, dy) : NULL;
    if (!dx) return;
    weft_unary_grad_args a = { .type = f->type, .op = f->op, .n = f->n, .x = weft_raw(weft_kept(e, 0)),
                               .dy = weft_raw(dy), .dx = weft_raw(dx) };
    WEFT_GRADIENT_RUN(c, e, unary_grad, a);
    weft_give(c, e, 0, dx);
}

weft_tensor *weft_unary(weft_ctx *c, weft_unary_op which, weft_tensor *x) {
    if ((unsigned)which >= WEFT_UNARY_COUNT) {
        weft_fail(c, WEFT_E_ARGUMENT, "%d is no unary operation", (int)which);
        return NULL;
    }
    const weft_op *op = &weft_op_unary[which];
    weft_tensor *y = WEFT_OP_BEGIN(c, op, x) ? weft_op_like(c, op, &x) : NULL;
    if (!y) return NULL;
    weft_unary_args a = { .type = x->type, .op = which, .n = weft_count(x), .x = weft_raw(x), .y = weft_raw(y) };
    WEFT_OP_RUN(c, op, unary, a);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(x), WEFT_TENSORS(x));
    return weft_op_end(c, op, y);
}

weft_tensor *weft_activate(weft_ctx *c, weft_activation act, weft_tensor *x) {
    static const weft_unary_op unary[WEFT_ACT_COUNT] = {
        [WEFT_ACT_SILU] = WEFT_UNARY_SILU, [WEFT_ACT_GELU] = WEFT_UNARY_GELU,
        [WEFT_ACT_QUICK_GELU] = WEFT_UNARY_QUICK_GELU, [WEFT_ACT_GELU_TANH] = WEFT_UNARY_GELU_TANH,
        [WEFT_ACT_RELU] = WEFT_UNARY_RELU,
    };
    return act == WEFT_ACT_NONE ? x : weft_unary(c, unary[act], x);
}

/* scale·dy within the bounds. */
static void affine_backward(weft_ctx *c, const weft_entry *e) {
    const weft_affine_args *f = e->args;
    weft_tensor *dy = weft_dense_dy(c, e), *dx = dy ? weft_gradient_new(c, e, 0, dy) : NULL;
    if (!dx) return;
    weft_affine_grad_args a = { .type = f->type, .n = f->n, .scale = f->scale, .shift = f->shift, .low = f->low,
                                .high = f->high, .x = weft_raw(weft_kept(e, 0)), .dy = weft_raw(dy),
                                .dx = weft_raw(dx) };
    WEFT_GRADIENT_RUN(c, e, affine_grad, a);
    weft_give(c, e, 0, dx);
}

static weft_tensor *affine(weft_ctx *c, const weft_op *op, weft_tensor *x, weft_affine_args a) {
    weft_tensor *y = WEFT_OP_BEGIN(c, op, x) ? weft_op_like(c, op, &x) : NULL;
    if (!y) return NULL;
    a.type = x->type;
    a.n = weft_count(x);
    a.x = weft_raw(x);
    a.y = weft_raw(y);
    WEFT_OP_RUN(c, op, affine, a);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(x), WEFT_TENSORS(op == &weft_op_clamp ? x : NULL));
    return weft_op_end(c, op, y);
}

weft_tensor *weft_affine(weft_ctx *c, weft_tensor *x, double scale, double shift) {
    weft_affine_args a = { .scale = scale, .shift = shift, .low = -INFINITY, .high = INFINITY };
    return affine(c, &weft_op_affine, x, a);
}

weft_tensor *weft_clamp(weft_ctx *c, weft_tensor *x, double low, double high) {
    const weft_op *op = &weft_op_clamp;
    if (!(low <= high)) return weft_op_fail(c, op, WEFT_E_ARGUMENT, "nothing lies from %g to %g", low, high);
    return affine(c, op, x, (weft_affine_args){ .scale = 1, .low = low, .high = high });
}

static void geglu_backward(weft_ctx *c, const weft_entry *e) {
    const weft_geglu_args *f = e->args;
    weft_tensor *dy = weft_dense_dy(c, e), *dx = dy ? weft_gradient_new(c, e, 0, NULL) : NULL;
    if (!dx) return;
    weft_geglu_grad_args a = { .type = f->type, .rows = f->rows, .half = f->half, .x = weft_raw(weft_kept(e, 0)),
                               .dy = weft_raw(dy), .dx = weft_raw(dx) };
    WEFT_GRADIENT_RUN(c, e, geglu_grad, a);
    weft_give(c, e, 0, dx);
}

weft_tensor *weft_geglu(weft_ctx *c, weft_tensor *x) {
    const weft_op *op = &weft_op_geglu;
    int64_t shape[WEFT_MAX_RANK], rows = 1;
    if (!WEFT_OP_BEGIN(c, op, x)) return NULL;
    const int last = x->rank - 1;
    if (last < 0 || x->shape[last] % 2)
        return weft_op_fail(c, op, WEFT_E_SHAPE, "input %s does not halve along its last dimension", DESCRIBE(x));
    if (!weft_op_takes(c, op, x->type) || !(x = weft_op_dense(c, op, x))) return NULL;
    for (int i = 0; i < last; i++) rows *= shape[i] = x->shape[i];
    shape[last] = x->shape[last] / 2;
    weft_tensor *y = weft_tensor_make(c, op->name, x->type, x->rank, shape);
    if (!y) return NULL;
    weft_geglu_args a = { .type = x->type, .rows = rows, .half = shape[last], .x = weft_raw(x), .y = weft_raw(y) };
    WEFT_OP_RUN(c, op, geglu, a);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(x), WEFT_TENSORS(x));
    return weft_op_end(c, op, y);
}

/* ---- two operands ------------------------------------------------------------------------------------------------ */

/* The shape to which a and b broadcast, and their strides over it (0 where repeated); false where there is none. */
static bool spread(const weft_tensor *a, const weft_tensor *b, weft_binary_args *out) {
    const weft_tensor *operand[2] = { a, b };
    int64_t *stride[2] = { out->a_stride, out->b_stride };
    out->rank = a->rank > b->rank ? a->rank : b->rank;
    for (int i = 0; i < out->rank; i++) {
        out->shape[i] = 1;
        for (int j = 0; j < 2; j++) {
            int from = i - (out->rank - operand[j]->rank);
            int64_t size = from < 0 ? 1 : operand[j]->shape[from];
            stride[j][i] = size == 1 ? 0 : operand[j]->stride[from];
            if (size == 1) continue;
            if (out->shape[i] != 1 && out->shape[i] != size) return false;
            out->shape[i] = size;
        }
    }
    return true;
}

/* Kept: a and b where the other's gradient reads them, for a quotient also y. */
static void note_binary(weft_ctx *c, const weft_op *op, const weft_binary_args *args, weft_tensor *a, weft_tensor *b,
                        weft_tensor *y) {
    const bool da = weft_requires_grad(a), db = weft_requires_grad(b);
    const weft_binary_op which = args->op;
    const bool both = which == WEFT_BINARY_MIN || which == WEFT_BINARY_MAX;
    const bool times = which == WEFT_BINARY_MUL, divides = which == WEFT_BINARY_DIV;
    const bool keeps_a = both || (times && db), keeps_b = both || divides || (times && da);
    weft_op_note(c, op, y, &which, sizeof which, WEFT_TENSORS(a, b),
                 WEFT_TENSORS(keeps_a ? a : NULL, keeps_b ? b : NULL, divides && db ? y : NULL));
}

/* d min and d max: dy to the operand that is the result, half to each where they are equal; ½·dy ± ½·dy·sign(a − b). */
static void extreme_backward(weft_ctx *c, const weft_entry *e, double sign) {
    weft_tensor *d = weft_subtract(c, weft_kept(e, 0), weft_kept(e, 1)), *dy = weft_dense_dy(c, e);
    weft_tensor *side = d ? weft_tensor_make(c, e->op->name, d->type, d->rank, d->shape) : NULL;
    if (!side || !dy) return;
    weft_unary_grad_args a = { .type = d->type, .op = WEFT_UNARY_ABS, .n = weft_count(d), .x = weft_raw(d),
                               .dy = weft_raw(dy), .dx = weft_raw(side) };
    WEFT_GRADIENT_RUN(c, e, unary_grad, a);
    if (weft_wants(e, 0)) weft_give_sum(c, e, 0, weft_axpby(c, 0.5, dy, 0.5 * sign, side));
    if (weft_wants(e, 1)) weft_give_sum(c, e, 1, weft_axpby(c, 0.5, dy, -0.5 * sign, side));
}

static void binary_backward(weft_ctx *c, const weft_entry *e) {
    weft_tensor *dy = e->dy, *a = weft_kept(e, 0), *b = weft_kept(e, 1), *y = weft_kept(e, 2);
    switch (*(const weft_binary_op *)e->args) {
    case WEFT_BINARY_ADD:
        weft_give_sum(c, e, 0, dy);
        weft_give_sum(c, e, 1, dy);
        break;
    case WEFT_BINARY_SUB:
        weft_give_sum(c, e, 0, dy);
        if (weft_wants(e, 1)) weft_give_sum(c, e, 1, weft_affine(c, dy, -1, 0));
        break;
    case WEFT_BINARY_MUL:
        if (weft_wants(e, 0)) weft_give_sum(c, e, 0, weft_mul(c, dy, b));
        if (weft_wants(e, 1)) weft_give_sum(c, e, 1, weft_mul(c, dy, a));
        break;
    case WEFT_BINARY_DIV:       /* da = dy/b; db = −dy/b·y */
        dy = weft_div(c, dy, b);
        weft_give_sum(c, e, 0, dy);
        if (weft_wants(e, 1)) weft_give_sum(c, e, 1, weft_affine(c, weft_mul(c, dy, y), -1, 0));
        break;
    case WEFT_BINARY_MIN: extreme_backward(c, e, -1); break;
    default: extreme_backward(c, e, 1);
    }
}

static weft_tensor *scaled(weft_ctx *c, weft_tensor *dy, double by) { return by == 1 ? dy : weft_affine(c, dy, by, 0); }

static void axpby_backward(weft_ctx *c, const weft_entry *e) {
    const weft_axpby_args *f = e->args;
    if (weft_wants(e, 0)) weft_give(c, e, 0, scaled(c, e->dy, f->alpha));
    if (weft_wants(e, 1)) weft_give(c, e, 1, scaled(c, e->dy, f->beta));
}

weft_tensor *weft_binary(weft_ctx *c, weft_binary_op which, weft_tensor *a, weft_tensor *b) {
    if ((unsigned)which >= WEFT_BINARY_COUNT) {
        weft_fail(c, WEFT_E_ARGUMENT, "%d is no binary operation", (int)which);
        return NULL;
    }
    const weft_op *op = &weft_op_binary[which];
    weft_binary_args args = { .op = which };
    if (!WEFT_OP_BEGIN(c, op, a, b) || !weft_op_same_type(c, op, a, "the second operand", b)) return NULL;
    if (!weft_op_takes(c, op, a->type)) return NULL;
    if (!(a = weft_plain(c, op->name, a)) || !(b = weft_plain(c, op->name, b))) return NULL;
    if (!spread(a, b, &args))
        return weft_op_fail(c, op, WEFT_E_SHAPE, "%s and %s do not go together: sizes are equal or 1", DESCRIBE(a),
                            DESCRIBE(b));
    weft_tensor *y = weft_tensor_make(c, op->name, a->type, args.rank, args.shape);
    if (!y) return NULL;
    args.type = a->type;
    args.a = weft_raw(a);
    args.b = weft_raw(b);
    args.y = weft_raw(y);
    WEFT_OP_RUN(c, op, binary, args);
    note_binary(c, op, &args, a, b, y);
    return weft_op_end(c, op, y);
}

weft_tensor *weft_axpby(weft_ctx *c, double alpha, weft_tensor *a, double beta, weft_tensor *b) {
    const weft_op *op = &weft_op_axpby;
    if (!WEFT_OP_BEGIN(c, op, a, b)) return NULL;
    if (!weft_op_optional(c, op, a, "the second operand", &b, a->rank, a->shape)) return NULL;
    weft_tensor *y = weft_op_like(c, op, &a);
    if (!y) return NULL;
    weft_axpby_args args = { .type = a->type, .n = weft_count(a), .alpha = alpha, .beta = beta, .a = weft_raw(a),
                             .b = weft_raw(b), .y = weft_raw(y) };
    WEFT_OP_RUN(c, op, axpby, args);
    weft_op_note(c, op, y, &args, sizeof args, WEFT_TENSORS(a, b), 0, NULL);
    return weft_op_end(c, op, y);
}
