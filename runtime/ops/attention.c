/* attention: softmax(scale·q·kᵀ)·v for each head.  q: (B,Tq,heads,d); k, v: (B,Tk,heads,d) → (B,Tq,heads,d).
 * Views are read through their strides as long as the d values of a head lie side by side. */
#include <math.h>
#include "runtime/ops/gradient.h"

/* Operands q, k, v; kept q, k, v, y, and the logarithms of the rows' sums. */
static void attention_backward(weft_ctx *c, const weft_entry *e) {
    const weft_attention_args *f = e->args;
    weft_tensor *dy = weft_dense_dy(c, e), *d[3];
    for (int i = 0; i < 3; i++) d[i] = dy && weft_wants(e, i) ? weft_gradient_new(c, e, i, NULL) : NULL;
    if (!weft_ok(c)) return;
    weft_attention_grad_args a = {
        .type = f->type, .batch = f->batch, .heads = f->heads, .tq = f->tq, .tk = f->tk, .d = f->d,
        .q = weft_raw(weft_kept(e, 0)), .q_batch = f->q_batch, .q_token = f->q_token, .q_head = f->q_head,
        .k = weft_raw(weft_kept(e, 1)), .k_batch = f->k_batch, .k_token = f->k_token, .k_head = f->k_head,
        .v = weft_raw(weft_kept(e, 2)), .v_batch = f->v_batch, .v_token = f->v_token, .v_head = f->v_head,
        .o = weft_raw(weft_kept(e, 3)), .dout = weft_raw(dy), .o_batch = f->o_batch, .o_token = f->o_token,
        .o_head = f->o_head, .lse = weft_raw(weft_kept(e, 4)), .scale = f->scale, .causal = f->causal,
    };
    void **to[3] = { &a.dq, &a.dk, &a.dv };
    int64_t *stride[3][3] = { { &a.dq_batch, &a.dq_token, &a.dq_head }, { &a.dk_batch, &a.dk_token, &a.dk_head },
                              { &a.dv_batch, &a.dv_token, &a.dv_head } };
    for (int i = 0; i < 3; i++) {
        *to[i] = weft_raw(d[i]);
        for (int j = 0; d[i] && j < 3; j++) *stride[i][j] = d[i]->stride[j];
    }
    c->flops += 10.0 * (double)(a.batch * a.heads) * (double)a.tq * (double)a.tk * (double)a.d;
    WEFT_GRADIENT_RUN(c, e, attention_grad, a);
    for (int i = 0; i < 3; i++) weft_give(c, e, i, d[i]);
}

const weft_op weft_op_attention = { "attention", WEFT_KERNEL_attention, attention_backward };

static bool check(weft_ctx *c, const weft_tensor *q, const weft_tensor *k, const weft_tensor *v) {
    const weft_op *op = &weft_op_attention;
    bool fits = q->rank == 4 && k->rank == 4 && v->rank == 4;
    for (int i = 0; fits && i < 4; i++) fits = k->shape[i] == v->shape[i] && (i == 1 || q->shape[i] == k->shape[i]);
    if (!fits) {
        weft_op_fail(c, op, WEFT_E_SHAPE, "q %s, k %s, v %s do not go together as (B, Tq, heads, d) and twice "
                     "(B, Tk, heads, d)", DESCRIBE(q), DESCRIBE(k), DESCRIBE(v));
        return false;
    }
    return weft_op_same_type(c, op, q, "k", k) && weft_op_same_type(c, op, q, "v", v) && weft_op_takes(c, op, q->type);
}

static weft_tensor *readable(weft_ctx *c, weft_tensor *t) {
    t = weft_plain(c, weft_op_attention.name, t);
    return !t || t->stride[3] == 1 || t->shape[3] == 1 ? t : weft_op_dense(c, &weft_op_attention, t);
}

weft_tensor *weft_attention(weft_ctx *c, weft_tensor *q, weft_tensor *k, weft_tensor *v, double scale, bool causal) {
    const weft_op *op = &weft_op_attention;
    if (!WEFT_OP_BEGIN(c, op, q, k, v) || !check(c, q, k, v)) return NULL;
    if (!isfinite(scale)) return weft_op_fail(c, op, WEFT_E_ARGUMENT, "scale %g", scale);
    weft_tensor *y = weft_tensor_make(c, op->name, q->type, 4, q->shape);
    if (!y || c->shape_only) return weft_op_end(c, op, y);
    if (!(q = readable(c, q)) || !(k = readable(c, k)) || !(v = readable(c, v))) return NULL;
    weft_tensor *lse = NULL;
    if (weft_records(c, WEFT_TENSORS(q, k, v))) {
        weft_dtype type = q->type == WEFT_F32 ? WEFT_F32 : WEFT_F64;
        lse = weft_tensor_make(c, op->name, type, WEFT_SHAPE(q->shape[0], q->shape[2], q->shape[1]));
        if (!lse) return NULL;
    }
    const int64_t d = q->shape[3];
    weft_attention_args a = {
        .type = q->type, .batch = q->shape[0], .heads = q->shape[2], .tq = q->shape[1], .tk = k->shape[1], .d = d,
        .q = weft_raw(q), .q_batch = q->stride[0], .q_token = q->stride[1], .q_head = q->stride[2],
        .k = weft_raw(k), .k_batch = k->stride[0], .k_token = k->stride[1], .k_head = k->stride[2],
        .v = weft_raw(v), .v_batch = v->stride[0], .v_token = v->stride[1], .v_head = v->stride[2],
        .o = weft_raw(y), .o_batch = y->stride[0], .o_token = y->stride[1], .o_head = y->stride[2],
        .lse = weft_raw(lse), .scale = scale != 0 ? scale : d > 0 ? 1 / sqrt((double)d) : 1, .causal = causal,
    };
    c->flops += 4.0 * (double)(a.batch * a.heads) * (double)a.tq * (double)a.tk * (double)a.d;
    WEFT_OP_RUN(c, op, attention, a);
    weft_op_note(c, op, y, &a, sizeof a, WEFT_TENSORS(q, k, v), WEFT_TENSORS(q, k, v, y, lse));
    return weft_op_end(c, op, y);
}
