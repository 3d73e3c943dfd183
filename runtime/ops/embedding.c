/* Rows of a table by number, and sinusoids of a time (formula: weft_timestep_args in kernels/kernels.h). */
#include <math.h>
#include "runtime/ops/gradient.h"

/* Operand: the table. Kept: ids. */
static void embedding_backward(weft_ctx *c, const weft_entry *e) {
    const weft_embedding_args *f = e->args;
    bool adds;
    weft_tensor *dy = weft_dense_dy(c, e), *table = dy ? weft_gradient_begin(c, e, 0, f->type, &adds) : NULL;
    if (!table) return;
    weft_embedding_grad_args a = { .type = f->type, .id_type = f->id_type, .n = f->n, .rows = f->rows, .c = f->c,
                                   .accumulate = adds, .ids = weft_raw(weft_kept(e, 0)), .dy = weft_raw(dy),
                                   .dtable = weft_raw(table) };
    WEFT_GRADIENT_RUN(c, e, embedding_grad, a);
    weft_gradient_end(c, e, 0, table);
}

const weft_op weft_op_embedding = { "embedding", WEFT_KERNEL_embedding, embedding_backward };
const weft_op weft_op_timestep_embedding = { "timestep_embedding", WEFT_KERNEL_timestep, NULL };

static bool check_embedding(weft_ctx *c, const weft_tensor *ids, const weft_tensor *table, weft_dtype type) {
    const weft_op *op = &weft_op_embedding;
    if (ids->type != WEFT_I64 && ids->type != WEFT_I32)
        weft_op_fail(c, op, WEFT_E_TYPE, "ids %s are not i64 or i32", DESCRIBE(ids));
    else if (ids->rank == WEFT_MAX_RANK)
        weft_op_fail(c, op, WEFT_E_SHAPE, "ids %s leave no dimension for the rows", DESCRIBE(ids));
    else if (table->rank != 2) weft_op_fail(c, op, WEFT_E_SHAPE, "table %s is not (rows, width)", DESCRIBE(table));
    return weft_op_takes(c, op, type) && weft_weight_takes(c, op, table);
}

/* Whether every id is a row of the table; the error names the first that is not. */
static bool ids_inside(weft_ctx *c, weft_tensor *ids, int64_t rows) {
    const weft_op *op = &weft_op_embedding;
    const int64_t n = weft_count(ids);
    const size_t bytes = (size_t)n * weft_dtype_size(ids->type);
    const void *data = weft_data(ids);
    void *copy = NULL;
    if (!data) {                /* on a device */
        if (!(copy = weft_host_alloc(bytes))) weft_op_fail(c, op, WEFT_E_MEMORY, "no memory for the ids");
        if (!copy || weft_read(c, ids, copy, bytes) != WEFT_OK) {
            weft_host_free(copy);
            return false;
        }
        data = copy;
    }
    for (int64_t i = 0; i < n && weft_ok(c); i++) {
        int64_t id = ids->type == WEFT_I64 ? ((const int64_t *)data)[i] : ((const int32_t *)data)[i];
        if (id < 0 || id >= rows)
            weft_op_fail(c, op, WEFT_E_ARGUMENT, "id %" PRId64 " at place %" PRId64 " is outside the table of %" PRId64
                         " rows", id, i, rows);
    }
    weft_host_free(copy);
    return weft_ok(c);
}

weft_tensor *weft_embedding(weft_ctx *c, weft_tensor *ids, weft_tensor *table, weft_dtype type) {
    const weft_op *op = &weft_op_embedding;
    int64_t shape[WEFT_MAX_RANK];
    if (!WEFT_OP_BEGIN(c, op, ids, table) || !check_embedding(c, ids, table, type)) return NULL;
    if (!(ids = weft_op_dense(c, op, ids)) || !(table = weft_op_dense(c, op, table))) return NULL;
    for (int i = 0; i < ids->rank; i++) shape[i] = ids->shape[i];
    shape[ids->rank] = table->shape[1];
    if (!c->shape_only && !ids_inside(c, ids, table->shape[0])) return NULL;
    weft_tensor *y = weft_tensor_make(c, op->name, type, ids->rank + 1, shape);
    if (!y) return NULL;
    weft_embedding_args a = { .type = type, .table_type = table->type, .id_type = ids->type, .n = weft_count(ids),
                              .rows = table->shape[0], .c = table->shape[1], .ids = weft_raw(ids),
                              .table = weft_raw(table), .y = weft_raw(y) };
    WEFT_OP_RUN(c, op, embedding, a);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(table), WEFT_TENSORS(ids));
    return weft_op_end(c, op, y);
}

weft_tensor *weft_timestep_embedding(weft_ctx *c, weft_tensor *t, int64_t dim, bool flip_sin_to_cos, double freq_shift,
                                     double scale, double max_period) {
    const weft_op *op = &weft_op_timestep_embedding;
    if (!WEFT_OP_BEGIN(c, op, t)) return NULL;
    if (t->rank != 1) return weft_op_fail(c, op, WEFT_E_SHAPE, "t %s is not (N)", DESCRIBE(t));
    if (dim < 0) return weft_op_fail(c, op, WEFT_E_ARGUMENT, "width %" PRId64 "; it is 0 or more", dim);
    if (dim > 1 && (double)(dim / 2) == freq_shift)
        return weft_op_fail(c, op, WEFT_E_ARGUMENT, "width %" PRId64 " with a frequency shift of %g divides by 0", dim,
                            freq_shift);
    if (!(max_period > 0)) return weft_op_fail(c, op, WEFT_E_ARGUMENT, "longest period %g; it is over 0", max_period);
    if (!weft_op_takes(c, op, t->type) || !(t = weft_op_dense(c, op, t))) return NULL;
    weft_tensor *y = weft_tensor_make(c, op->name, t->type, WEFT_SHAPE(t->shape[0], dim));
    if (!y) return NULL;
    weft_timestep_args a = { .type = t->type, .n = t->shape[0], .dim = dim, .max_period = max_period,
                             .shift = freq_shift, .scale = scale, .flip = flip_sin_to_cos,
                             .t = weft_raw(t), .y = weft_raw(y) };
    WEFT_OP_RUN(c, op, timestep, a);
    weft_op_note(c, op, y, NULL, 0, WEFT_TENSORS(t), 0, NULL);
    return weft_op_end(c, op, y);
}
