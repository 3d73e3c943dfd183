/* attention: softmax(scale·q·kᵀ)·v for each head.  q: (B,Tq,heads,d); k, v: (B,Tk,heads,d) → (B,Tq,heads,d).
 * Views are read through their strides as long as the d values of a head lie side by side. */
#include <math.h>
#include "runtime/ops/ops.h"

const weft_op weft_op_attention = { "attention", WEFT_KERNEL_attention, NULL };

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
    const int64_t d = q->shape[3];
    weft_attention_args a = {
        .type = q->type, .batch = q->shape[0], .heads = q->shape[2], .tq = q->shape[1], .tk = k->shape[1], .d = d,
        .q = weft_raw(q), .q_batch = q->stride[0], .q_token = q->stride[1], .q_head = q->stride[2],
        .k = weft_raw(k), .k_batch = k->stride[0], .k_token = k->stride[1], .k_head = k->stride[2],
        .v = weft_raw(v), .v_batch = v->stride[0], .v_token = v->stride[1], .v_head = v->stride[2],
        .o = weft_raw(y), .o_batch = y->stride[0], .o_token = y->stride[1], .o_head = y->stride[2],
        .scale = scale != 0 ? scale : d > 0 ? 1 / sqrt((double)d) : 1, .causal = causal,
    };
    c->flops += 4.0 * (double)(a.batch * a.heads) * (double)a.tq * (double)a.tk * (double)a.d;
    WEFT_OP_RUN(c, op, attention, a);
    return weft_op_end(c, op, y);
}
