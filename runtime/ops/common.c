/* What all operations are made of: checking operands, errors, calling a kernel, the end; and the list of them. */
#include <stdarg.h>
#include <string.h>
#include "runtime/autograd.h"
#include "runtime/ops/ops.h"

bool weft_op_begin(weft_ctx *c, const weft_op *op, int n, const weft_tensor *const *operands) {
    if (!weft_ok(c) || weft_cancelled(c)) return false;
    for (int i = 0; i < n; i++) {
        if (!operands[i]) return false;
        if (operands[i]->ctx == c) continue;
        weft_op_fail(c, op, WEFT_E_ARGUMENT, "operand %d belongs to another context", i + 1);
        return false;
    }
    return true;
}

weft_tensor *weft_op_fail(weft_ctx *c, const weft_op *op, weft_status code, const char *format, ...) {
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    weft_fail(c, code, "%s: %s", op->name, text);
    return NULL;
}

static bool has_kernel(const weft_ctx *c, const weft_op *op, weft_dtype type) {
    return (unsigned)type < WEFT_DTYPE_COUNT && c->kernels->types[op->kernel] >> type & 1;
}

/* Where there is one for the type alone, it is a weight's type that does not go with it. */
static void no_kernel(weft_ctx *c, const weft_op *op, weft_dtype type) {
    weft_op_fail(c, op, WEFT_E_TYPE, "the %s back end has no kernel for %s%s", c->kernels->name, weft_dtype_name(type),
                 has_kernel(c, op, type) ? " with the other operands' types" : "");
}

bool weft_op_takes(weft_ctx *c, const weft_op *op, weft_dtype type) {
    if (!weft_ok(c)) return false;
    if (!has_kernel(c, op, type)) no_kernel(c, op, type);
    return weft_ok(c);
}

bool weft_op_same_type(weft_ctx *c, const weft_op *op, const weft_tensor *a, const char *what, const weft_tensor *b) {
    if (a->type == b->type) return true;
    weft_op_fail(c, op, WEFT_E_TYPE, "%s is %s, input is %s; both must have the same type", what,
                 weft_dtype_name(b->type), weft_dtype_name(a->type));
    return false;
}

bool weft_op_optional(weft_ctx *c, const weft_op *op, const weft_tensor *x, const char *what, weft_tensor **t,
                      int rank, const int64_t *shape) {
    if (!*t) return true;
    if ((*t)->ctx != c) {
        weft_op_fail(c, op, WEFT_E_ARGUMENT, "%s belongs to another context", what);
        return false;
    }
    bool fits = (*t)->rank == rank;
    for (int i = 0; fits && i < rank; i++) fits = (*t)->shape[i] == shape[i];
    if (!fits) {
        weft_op_fail(c, op, WEFT_E_SHAPE, "%s is %s, expected %s for the input %s", what, DESCRIBE(*t),
                     SHAPE_TEXT(rank, shape), DESCRIBE(x));
        return false;
    }
    return weft_op_same_type(c, op, x, what, *t) && (*t = weft_op_dense(c, op, *t));
}

void weft_op_status(weft_ctx *c, const weft_op *op, weft_dtype type, int status) {
    const char *why;
    switch (status) {
    case WEFT_K_OK: break;
    case WEFT_K_NO_MEMORY: weft_memory_fail(c, op->name); break;
    case WEFT_K_NO_TYPE: no_kernel(c, op, type); break;
    case WEFT_K_CANCELLED: weft_fail(c, WEFT_E_CANCELLED, "cancelled"); break;
    case WEFT_K_DEVICE:
        why = c->kernels->last_error ? c->kernels->last_error() : NULL;
        weft_op_fail(c, op, WEFT_E_DEVICE, "%s: %s", c->kernels->name, why ? why : "the device failed");
        break;
    case WEFT_K_NO_CASE:
        weft_op_fail(c, op, WEFT_E_INTERNAL, "the %s back end refuses these sizes or options", c->kernels->name);
        break;
    default: weft_op_fail(c, op, WEFT_E_INTERNAL, "the %s back end answered %d", c->kernels->name, status);
    }
}

weft_tensor *weft_op_like(weft_ctx *c, const weft_op *op, weft_tensor **x) {
    if (!weft_op_takes(c, op, (*x)->type) || !(*x = weft_op_dense(c, op, *x))) return NULL;
    return weft_tensor_make(c, op->name, (*x)->type, (*x)->rank, (*x)->shape);
}

weft_tensor *weft_op_end(weft_ctx *c, const weft_op *op, weft_tensor *y) {
    if (c->watch_finite && y && weft_ok(c) && !weft_is_finite(c, y))
        weft_op_fail(c, op, WEFT_E_ARGUMENT, "the result, %s, is not finite", DESCRIBE(y));
    return weft_ok(c) ? y : NULL;
}

bool weft_op_dim(weft_ctx *c, const weft_op *op, const weft_tensor *t, int *dim) {
    if (*dim >= -t->rank && *dim < t->rank) {
        if (*dim < 0) *dim += t->rank;
        return true;
    }
    weft_op_fail(c, op, WEFT_E_ARGUMENT, "%s has no dimension %d", DESCRIBE(t), *dim);
    return false;
}

bool weft_collapses(const weft_tensor *t, int first, int last, int64_t *stride) {
    int64_t step = -1, want = 0;        /* want: the stride that the next dimension outward must have */
    for (int i = last - 1; i >= first; i--) {
        if (t->shape[i] == 1) continue;
        if (step < 0) step = t->stride[i];
        else if (t->stride[i] != want) return false;
        want = t->stride[i] * t->shape[i];
    }
    *stride = step < 0 ? 0 : step;
    return true;
}

const weft_op *const *weft_ops(int *count) {
    static const weft_op *const list[] = {
#define OP(name) &weft_op_##name,
        WEFT_OP_LIST(OP)
#undef OP
#define U(name) &weft_op_unary[WEFT_UNARY_##name],
        U(SILU) U(GELU) U(QUICK_GELU) U(GELU_TANH) U(RELU) U(SIGMOID) U(TANH) U(EXP) U(LOG) U(SQRT) U(ABS) U(SQUARE)
        U(SIN) U(COS)
#undef U
#define B(name) &weft_op_binary[WEFT_BINARY_##name],
        B(ADD) B(SUB) B(MUL) B(DIV) B(MIN) B(MAX)
#undef B
    };
    *count = (int)(sizeof list / sizeof *list);
    return list;
}
