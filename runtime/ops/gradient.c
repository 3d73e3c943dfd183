/* Handing operands their gradients: converting, summing what was broadcast, adding in place where nobody else looks. */
#include <string.h>
#include "runtime/ops/gradient.h"

static const struct tape_slot *slot_of(weft_ctx *c, const weft_entry *e, int i) {
    return &c->tape->slot[e->operand[i]];
}

void weft_give(weft_ctx *c, const weft_entry *e, int i, weft_tensor *g) {
    if (!weft_wants(e, i) || !g) return;
    const struct tape_slot *s = slot_of(c, e, i);
    bool fits = g->rank == s->rank;
    for (int d = 0; fits && d < g->rank; d++) fits = g->shape[d] == s->shape[d];
    if (!fits) {
        weft_op_fail(c, e->op, WEFT_E_INTERNAL, "the gradient of operand %d is %s, the operand %s", i + 1, DESCRIBE(g),
                     SHAPE_TEXT(s->rank, s->shape));
        return;
    }
    if (g == e->dy && s->leaf) g = weft_own_copy(c, g);     /* the rule may still read dy after the leaf is added to */
    if (c->watch_finite && !weft_is_finite(c, g))
        weft_op_fail(c, e->op, WEFT_E_ARGUMENT, "the gradient of operand %d, %s, is not finite", i + 1, DESCRIBE(g));
    tape_add(c, e->operand[i], weft_cast(c, g, s->type));
}

/* Sums the dimensions [first, last) of g, which stay as sizes of 1. */
static weft_tensor *sum_over(weft_ctx *c, weft_tensor *g, int first, int last) {
    int64_t shape[WEFT_MAX_RANK], part[3] = { 1, 1, 1 };
    for (int d = 0; d < g->rank; d++) {
        shape[d] = d >= first && d < last ? 1 : g->shape[d];
        part[d < first ? 0 : d < last ? 1 : 2] *= g->shape[d];
    }
    weft_tensor *sum = weft_reduce(c, WEFT_REDUCE_SUM, weft_reshape(c, g, 3, part), 1);
    return weft_reshape(c, sum, g->rank, shape);
}

void weft_give_sum(weft_ctx *c, const weft_entry *e, int i, weft_tensor *g) {
    if (!weft_wants(e, i) || !g) return;
    const struct tape_slot s = *slot_of(c, e, i);
    const int more = g->rank - s.rank;
    for (int d = 0; g && d < g->rank; d++) {
        int end = d;
        while (end < g->rank && g->shape[end] != 1 && (end < more || s.shape[end - more] == 1)) end++;
        if (end == d) continue;
        g = sum_over(c, g, d, end);
        d = end;
    }
    if (more) g = weft_reshape(c, g, s.rank, s.shape);
    weft_give(c, e, i, g);
}

weft_tensor *weft_gradient_begin(weft_ctx *c, const weft_entry *e, int i, weft_dtype type, bool *adds) {
    const struct tape_slot *s = slot_of(c, e, i);
    weft_tensor *at = s->leaf ? s->leaf->grad : s->grad;
    *adds = at && type == s->type && (s->leaf || weft_is_sole(at));
    return *adds ? at : weft_tensor_make(c, e->op->name, type, s->rank, s->shape);
}

void weft_gradient_end(weft_ctx *c, const weft_entry *e, int i, weft_tensor *g) {
    const struct tape_slot *s = slot_of(c, e, i);
    if (!g || !weft_ok(c)) return;
    if (g != (s->leaf ? s->leaf->grad : s->grad)) weft_give(c, e, i, g);
    else weft_tensor_changed(g);
}

weft_tensor *weft_gradient_new(weft_ctx *c, const weft_entry *e, int i, weft_tensor *reuse) {
    const struct tape_slot *s = slot_of(c, e, i);
    bool same = reuse && weft_is_sole(reuse) && reuse->type == s->type && reuse->rank == s->rank;
    for (int d = 0; same && d < s->rank; d++) same = reuse->shape[d] == s->shape[d];
    return same ? reuse : weft_tensor_make(c, e->op->name, s->type, s->rank, s->shape);
}

weft_tensor *weft_dense_dy(weft_ctx *c, const weft_entry *e) { return weft_op_dense(c, e->op, e->dy); }
