/* Activation checkpointing: of a part of a model the tape keeps the inputs alone, and runs it again for the gradient.
 * T. Chen et al. 2016, arXiv:1604.06174. */
#include <string.h>
#include "runtime/autograd_internal.h"

struct part {
    weft_recompute_fn *fn;
    char user[] __attribute__((aligned(16)));
};

/* Runs the part on views that have the inputs' slots: what it notes then leads to the inputs themselves. */
static void run_again(weft_ctx *c, const struct weft_tape_entry *e, weft_tensor **in, weft_tensor **out) {
    const struct part *part = e->args;
    for (int i = 0; i < e->operands; i++) {
        weft_tensor *t = e->keep[i].t;
        in[i] = t ? weft_tensor_view(c, t, 0, t->rank, t->shape, t->stride) : NULL;
        if (!in[i] || !e->operand[i]) continue;
        in[i]->slot = e->operand[i];
        in[i]->generation = c->generation;
    }
    if (!weft_ok(c)) return;
    const int no_grad = c->no_grad;
    c->no_grad = 0;
    part->fn(c, part->user, in, out);
    c->no_grad = no_grad;
}

/* Moves what the results' gradients are to the results of the second run. */
static void seed(weft_ctx *c, struct weft_tape_entry *e, weft_tensor **out) {
    for (int i = 0; i < e->results; i++) {
        struct tape_slot *s = &c->tape->slot[e->result[i]];
        weft_tensor *g = i ? s->grad : e->dy;
        if (i) s->grad = NULL;
        else e->dy = NULL;
        uint32_t slot = weft_ok(c) && g ? tape_slot_of(c, out[i]) : 0;
        if (slot) tape_add(c, slot, g);
        weft_unref(g);
    }
}

static void recompute_backward(weft_ctx *c, const struct weft_tape_entry *entry) {
    struct weft_tape_entry *e = (struct weft_tape_entry *)entry;
    const uint32_t mark = c->tape->count;
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor **t = weft_host_alloc((size_t)(e->operands + e->results) * sizeof *t);
    if (!t) weft_fail(c, WEFT_E_MEMORY, "recompute: no memory");
    else {
        run_again(c, e, t, t + e->operands);
        seed(c, e, t + e->operands);
    }
    weft_host_free(t);
    weft_scope_end(c, s, NULL);
    while (c->tape->count > mark) tape_play(c);
}

static const weft_op op_recompute = { "recompute", WEFT_KERNEL_copy, recompute_backward };

/* A result that has a history of its own, as an input passed through has, becomes a view: it gets a slot of the
 * part's. */
static void note(weft_ctx *c, weft_recompute_fn *fn, const void *user, size_t user_size, int inputs,
                 weft_tensor *const *in, int outputs, weft_tensor **out) {
    const size_t size = sizeof(struct part) + user_size;
    struct part *part = weft_host_alloc(size);
    if (!part) {
        weft_fail(c, WEFT_E_MEMORY, "recompute: no memory for the tape");
        return;
    }
    part->fn = fn;
    if (user_size) memcpy(part->user, user, user_size);
    struct weft_tape_entry *e = tape_entry(c, &op_recompute, part, size, outputs, inputs, inputs, in);
    weft_host_free(part);
    for (int i = 0; e && i < inputs; i++) e->operand[i] = tape_slot_of(c, in[i]);
    for (int i = 0; e && i < outputs && weft_ok(c); i++) {
        weft_tensor *y = out[i];
        if (!y) continue;
        if (weft_requires_grad(y)) out[i] = y = weft_tensor_view(c, y, 0, y->rank, y->shape, y->stride);
        if (y) e->result[i] = tape_slot_new(c, y);
    }
}

void weft_set_recompute(weft_ctx *c, bool on) { c->recompute = on; }

bool weft_recomputes(const weft_ctx *c) { return c->recompute && weft_recording(c); }

weft_status weft_recompute(weft_ctx *c, weft_recompute_fn *fn, const void *user, size_t user_size, int inputs,
                           weft_tensor *const *in, int outputs, weft_tensor **out) {
    for (int i = 0; i < outputs; i++) out[i] = NULL;
    if (!weft_ok(c)) return weft_error(c);
    const bool records = weft_recomputes(c);
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    if (records) c->tape->sketch = true;
    if (records) c->tape->touched = false;
    fn(c, user, in, out);
    if (records) c->tape->sketch = false;
    for (int i = 0; records && i < inputs; i++) c->tape->touched = c->tape->touched || weft_requires_grad(in[i]);
    if (records && c->tape->touched && weft_ok(c)) note(c, fn, user, user_size, inputs, in, outputs, out);
    for (int i = 0; i < outputs; i++) out[i] = weft_scope_keep(c, s, out[i]);
    weft_scope_end(c, s, NULL);
    for (int i = 0; i < outputs; i++)
        if (!weft_ok(c)) out[i] = NULL;
    return weft_error(c);
}
