/* Changes of tensors in place; see update.h. They go to their kernels without weft_op_begin() and weft_op_end(): they
 * are neither recorded nor cancelled. */
#include <math.h>
#include "runtime/ops/ops.h"
#include "runtime/update.h"

const weft_op weft_op_sum_squares = { .name = "sum_squares", .kernel = WEFT_KERNEL_sum_squares };
const weft_op weft_op_lerp = { .name = "lerp", .kernel = WEFT_KERNEL_lerp };
const weft_op weft_op_adam = { .name = "adam", .kernel = WEFT_KERNEL_adam };
const weft_op weft_op_sgd = { .name = "sgd", .kernel = WEFT_KERNEL_sgd };
const weft_op weft_op_lion = { .name = "lion", .kernel = WEFT_KERNEL_lion };
const weft_op weft_op_adafactor = { .name = "adafactor", .kernel = WEFT_KERNEL_adafactor_apply };

bool weft_update_allowed(weft_ctx *c, const char *name, const weft_tensor *t) {
    if (!weft_ok(c)) return false;
    if (!t) weft_fail(c, WEFT_E_ARGUMENT, "%s: there is no tensor to change", name);
    else if (t->ctx != c) weft_fail(c, WEFT_E_ARGUMENT, "%s: %s belongs to another context", name, DESCRIBE(t));
    else if (!t->storage || !t->storage->block)
        weft_fail(c, WEFT_E_ARGUMENT, "%s: %s is not to be written: it is %s", name, DESCRIBE(t),
                  t->storage ? "a view on a file" : t->packed ? "a frozen weight" : "a shape without data");
    else if (!weft_is_dense(t)) weft_fail(c, WEFT_E_ARGUMENT, "%s: %s is a view that is not dense", name, DESCRIBE(t));
    return weft_ok(c);
}

static bool same_shape(weft_ctx *c, const weft_op *op, const weft_tensor *a, const char *what, const weft_tensor *b) {
    bool same = b && a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) same = a->shape[i] == b->shape[i];
    if (!same) weft_op_fail(c, op, WEFT_E_SHAPE, "%s is %s for %s", what, DESCRIBE(b), DESCRIBE(a));
    return same;
}

/* Whether t may be changed and has this type; `like`: and this tensor's shape, NULL: any. */
static bool takes(weft_ctx *c, const weft_op *op, const weft_tensor *t, const char *what, weft_dtype type,
                  const weft_tensor *like) {
    if (!weft_update_allowed(c, op->name, t) || !weft_op_takes(c, op, type)) return false;
    if (t->type != type) {
        weft_op_fail(c, op, WEFT_E_TYPE, "%s is %s, expected %s", what, DESCRIBE(t), weft_dtype_name(type));
        return false;
    }
    return !like || same_shape(c, op, like, what, t);
}

/* t as dense elements of this type, in the innermost scope where it is not that already. */
static weft_tensor *as_type(weft_ctx *c, const weft_op *op, weft_tensor *t, weft_dtype type) {
    if (t->type == type) return weft_op_dense(c, op, t);
    weft_tensor *y = weft_tensor_make(c, op->name, type, t->rank, t->shape);
    return y && weft_copy_into(c, op, t, y, 0) ? y : NULL;
}

/* The gradient for param, converted; NULL with the error set. */
static weft_tensor *gradient(weft_ctx *c, const weft_op *op, const weft_tensor *param, weft_tensor *grad) {
    return same_shape(c, op, param, "the gradient", grad) ? as_type(c, op, grad, param->type) : NULL;
}

weft_status weft_update_adam(weft_ctx *c, weft_adam_args how, weft_tensor *param, weft_tensor *grad, weft_tensor *m,
                             weft_tensor *v) {
    const weft_op *op = &weft_op_adam;
    const weft_dtype type = weft_type(param);
    if (!takes(c, op, param, "the parameter", type, NULL) || !takes(c, op, m, "the first moment", type, param) ||
        !takes(c, op, v, "the second moment", type, param)) return weft_error(c);
    weft_scope s = weft_scope_named(c, NULL);
    if ((grad = gradient(c, op, param, grad))) {
        how.type = type;
        how.n = weft_count(param);
        how.grad = weft_raw(grad);
        how.param = weft_raw(param);
        how.m = weft_raw(m);
        how.v = weft_raw(v);
        WEFT_OP_RUN(c, op, adam, how);
        weft_tensor_changed(param);
    }
    weft_scope_end(c, s, NULL);
    return weft_error(c);
}

weft_status weft_update_sgd(weft_ctx *c, weft_sgd_args how, weft_tensor *param, weft_tensor *grad, weft_tensor *m) {
    const weft_op *op = &weft_op_sgd;
    const weft_dtype type = weft_type(param);
    if (!takes(c, op, param, "the parameter", type, NULL)) return weft_error(c);
    if (m && !takes(c, op, m, "the momentum", type, param)) return weft_error(c);
    weft_scope s = weft_scope_named(c, NULL);
    if ((grad = gradient(c, op, param, grad))) {
        how.type = type;
        how.n = weft_count(param);
        how.grad = weft_raw(grad);
        how.param = weft_raw(param);
        how.m = weft_raw(m);
        WEFT_OP_RUN(c, op, sgd, how);
        weft_tensor_changed(param);
    }
    weft_scope_end(c, s, NULL);
    return weft_error(c);
}

weft_status weft_update_lion(weft_ctx *c, weft_lion_args how, weft_tensor *param, weft_tensor *grad, weft_tensor *m) {
    const weft_op *op = &weft_op_lion;
    const weft_dtype type = weft_type(param);
    if (!takes(c, op, param, "the parameter", type, NULL) || !takes(c, op, m, "the momentum", type, param))
        return weft_error(c);
    weft_scope s = weft_scope_named(c, NULL);
    if ((grad = gradient(c, op, param, grad))) {
        how.type = type;
        how.n = weft_count(param);
        how.grad = weft_raw(grad);
        how.param = weft_raw(param);
        how.m = weft_raw(m);
        WEFT_OP_RUN(c, op, lion, how);
        weft_tensor_changed(param);
    }
    weft_scope_end(c, s, NULL);
    return weft_error(c);
}

/* ---- Adafactor --------------------------------------------------------------------------------------------------- */

/* Sizes from the parameter's shape, checked against the averages'. */
static bool factors(weft_ctx *c, weft_adafactor_args *how, const weft_tensor *param, const weft_tensor *row,
                    const weft_tensor *col) {
    const weft_op *op = &weft_op_adafactor;
    const int rank = param->rank;
    how->batch = how->rows = 1;
    how->cols = weft_count(param);
    if (!row) return takes(c, op, col, "the second moment", param->type, param);
    if (rank < 2) {
        weft_op_fail(c, op, WEFT_E_SHAPE, "%s has no rows and columns", DESCRIBE(param));
        return false;
    }
    how->rows = param->shape[rank - 2];
    how->cols = param->shape[rank - 1];
    for (int i = 0; i < rank - 2; i++) how->batch *= param->shape[i];
    weft_tensor want_row = *param, want_col = *param;
    want_row.rank = want_col.rank = rank - 1;
    want_col.shape[rank - 2] = how->cols;
    return takes(c, op, row, "the rows' average", param->type, &want_row) &&
           takes(c, op, col, "the columns' average", param->type, &want_col);
}

weft_status weft_update_adafactor(weft_ctx *c, weft_adafactor_args how, bool relative, weft_tensor *param,
                                  weft_tensor *grad,
                                  weft_tensor *row, weft_tensor *col, weft_tensor *m) {
    const weft_op *op = &weft_op_adafactor;
    const weft_dtype type = weft_type(param);
    if (!takes(c, op, param, "the parameter", type, NULL) || !factors(c, &how, param, row, col)) return weft_error(c);
    if (m && !takes(c, op, m, "the first moment", type, param)) return weft_error(c);
    weft_scope s = weft_scope_named(c, NULL);
    weft_tensor *sums = weft_tensor_make(c, op->name, WEFT_F64, WEFT_SHAPE(2));
    if (sums && (grad = gradient(c, op, param, grad)) && !c->shape_only) {
        double *squares = weft_raw(sums);
        how.type = type;
        how.grad = weft_raw(grad);
        how.param = weft_raw(param);
        how.row = weft_raw(row);
        how.col = weft_raw(col);
        how.m = weft_raw(m);
        how.squares = squares;
        if (relative) {
            how.param_squares = squares + 1;
            weft_sum_squares_args a = { .type = type, .n = weft_count(param), .x = how.param, .y = squares + 1 };
            WEFT_OP_RUN(c, op, sum_squares, a);
        }
        if (weft_ok(c)) WEFT_OP_RUN(c, op, adafactor_moments, how);
        if (weft_ok(c)) WEFT_OP_RUN(c, op, adafactor_size, how);
        if (weft_ok(c)) WEFT_OP_RUN(c, op, adafactor_apply, how);
        weft_tensor_changed(param);
    }
    weft_scope_end(c, s, NULL);
    return weft_error(c);
}

/* ---- averages, copies, scaling ------------------------------------------------------------------------------------
 * */

weft_status weft_update_lerp(weft_ctx *c, weft_tensor *t, weft_tensor *to, double amount) {
    const weft_op *op = &weft_op_lerp;
    if (!takes(c, op, t, "the average", weft_type(t), NULL) || !same_shape(c, op, t, "the new value", to))
        return weft_error(c);
    weft_scope s = weft_scope_named(c, NULL);
    if ((to = as_type(c, op, to, t->type))) {
        weft_lerp_args a = { .type = t->type, .n = weft_count(t), .t = amount, .a = weft_raw(t), .b = weft_raw(to),
                             .y = weft_raw(t) };
        WEFT_OP_RUN(c, op, lerp, a);
        weft_tensor_changed(t);
    }
    weft_scope_end(c, s, NULL);
    return weft_error(c);
}

weft_status weft_update_copy(weft_ctx *c, weft_tensor *t, weft_tensor *from) {
    const weft_op *op = &weft_op_write;
    if (!weft_update_allowed(c, op->name, t) || !same_shape(c, op, t, "the source", from)) return weft_error(c);
    weft_scope s = weft_scope_named(c, NULL);
    weft_copy_into(c, op, from, t, 0);
    weft_tensor_changed(t);
    weft_scope_end(c, s, NULL);
    return weft_error(c);
}

weft_status weft_update_scale(weft_ctx *c, weft_tensor *t, double scale, double low, double high) {
    const weft_op *op = &weft_op_affine;
    if (!weft_update_allowed(c, op->name, t)) return weft_error(c);
    weft_scope s = weft_scope_named(c, NULL);
    const bool direct = c->kernels->types[WEFT_KERNEL_affine] >> t->type & 1;
    weft_tensor *y = direct ? t : as_type(c, op, t, WEFT_F32);
    if (y) {
        weft_affine_args a = { .type = y->type, .n = weft_count(y), .scale = scale, .low = low, .high = high,
                               .x = weft_raw(y), .y = weft_raw(y) };
        WEFT_OP_RUN(c, op, affine, a);
        if (weft_ok(c) && y != t) weft_copy_into(c, op, y, t, 0);
        weft_tensor_changed(t);
    }
    weft_scope_end(c, s, NULL);
    return weft_error(c);
}

weft_status weft_sum_squares(weft_ctx *c, int64_t n, weft_tensor *const *tensors, double *sums) {
    const weft_op *op = &weft_op_sum_squares;
    for (int64_t i = 0; i < n; i++) sums[i] = 0;
    if (!weft_ok(c)) return weft_error(c);
    weft_scope s = weft_scope_named(c, NULL);
    weft_tensor *all = weft_full(c, WEFT_F64, WEFT_SHAPE(n), 0);
    for (int64_t i = 0; i < n && all && weft_ok(c); i++) {
        if (!tensors[i]) continue;
        weft_scope one = weft_scope_named(c, NULL);
        const weft_dtype type = tensors[i]->type == WEFT_F64 ? WEFT_F64 : WEFT_F32;
        weft_tensor *x = as_type(c, op, tensors[i], type);
        if (x) {
            weft_sum_squares_args a = { .type = type, .n = weft_count(x), .x = weft_raw(x),
                                        .y = (double *)weft_raw(all) + i };
            WEFT_OP_RUN(c, op, sum_squares, a);
        }
        weft_scope_end(c, one, NULL);
    }
    weft_status status = weft_error(c);
    if (all && !status && !c->shape_only) status = weft_read(c, all, sums, (size_t)n * sizeof *sums);
    weft_scope_end(c, s, NULL);
    return status;
}
