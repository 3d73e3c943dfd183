/* The tape: what operations note on it, and walking it backwards. See autograd.h; the rules are with their operations
 * in ops/.
 *
 * Reverse accumulation: for y = f(x), dL/dx += (∂f/∂x)ᵀ·dL/dy, from the last operation to the first. A. Griewank, A.
 * Walther, "Evaluating Derivatives", 2nd ed. 2008, chapter 3.
 */
#include <string.h>
#include "runtime/autograd_internal.h"
#include "runtime/ops/ops.h"

/* ---- slots --------------------------------------------------------------------------------------------------- */

static bool is_float(weft_dtype type) {
    return type == WEFT_F32 || type == WEFT_F64 || type == WEFT_F16 || type == WEFT_BF16;
}

uint32_t tape_slot_new(weft_ctx *c, weft_tensor *t) {
    struct weft_tape *tape = c->tape;
    if (tape->slots == tape->slot_room) {
        uint32_t room = tape->slot_room ? 2 * tape->slot_room : 256;
        struct tape_slot *slot = room < UINT32_MAX / 2 ? weft_host_resize(tape->slot, room * sizeof *slot) : NULL;
        if (!slot) {
            weft_fail(c, WEFT_E_MEMORY, "no memory for the tape");
            return 0;
        }
        tape->slot = slot;
        tape->slot_room = room;
        if (!tape->slots) slot[tape->slots++] = (struct tape_slot){ 0 };
    }
    struct tape_slot *s = &tape->slot[tape->slots];
    *s = (struct tape_slot){ .type = t->type, .rank = t->rank };
    memcpy(s->shape, t->shape, sizeof s->shape);
    t->slot = tape->slots++;
    t->generation = c->generation;
    return t->slot;
}

uint32_t tape_slot_of(weft_ctx *c, weft_tensor *t) {
    if (!weft_requires_grad(t)) return 0;
    if (t->generation == c->generation) return t->slot;
    uint32_t i = tape_slot_new(c, t);
    if (!i) return 0;
    if (t->requires_grad) c->tape->slot[i].leaf = weft_ref(t);
    else c->tape->slot[i].gone = true;
    return i;
}

/* ---- entries ------------------------------------------------------------------------------------------------- */

static uint64_t version_of(const weft_tensor *t) { return t && t->storage ? t->storage->version : 0; }

static size_t padded(size_t bytes) { return (bytes + 15) / 16 * 16; }

struct weft_tape_entry *tape_entry(weft_ctx *c, const weft_op *op, const void *args, size_t args_size, int results,
                                   int operands, int kept, weft_tensor *const *keep) {
    struct weft_tape *tape = c->tape;
    size_t head = padded(sizeof(struct weft_tape_entry));
    size_t slots = padded((size_t)(results + operands) * sizeof(uint32_t));
    size_t held = padded((size_t)kept * sizeof(struct tape_kept));
    struct weft_tape_entry *e = NULL;
    if (tape->count == tape->room) {
        uint32_t room = tape->room ? 2 * tape->room : 256;
        void *p = room < UINT32_MAX / 2 ? weft_host_resize(tape->entry, room * sizeof *tape->entry) : NULL;
        if (p) tape->entry = p;
        if (p) tape->room = room;
    }
    if (tape->count < tape->room) e = weft_host_alloc(head + slots + held + args_size);
    if (!e) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the tape", op->name);
        return NULL;
    }
    char *at = (char *)e + head;
    *e = (struct weft_tape_entry){ .op = op, .results = results, .operands = operands, .kept = kept };
    e->result = (uint32_t *)at;
    e->operand = e->result + results;
    e->keep = (struct tape_kept *)(at + slots);
    e->args = at + slots + held;
    if (args_size) memcpy(e->args, args, args_size);
    for (uint32_t i = c->frame_count; i-- && !e->place.tree;) e->place = c->frames[i].place;
    for (int i = 0; i < kept; i++)
        e->keep[i] = (struct tape_kept){ weft_ref(keep[i]), version_of(keep[i]) };
    tape->entry[tape->count++] = e;
    return e;
}

static void free_entry(struct weft_tape_entry *e) {
    for (int i = 0; i < e->kept; i++) weft_unref(e->keep[i].t);
    weft_unref(e->dy);
    weft_host_free(e);
}

bool weft_recording(const weft_ctx *c) { return c->tape && !c->no_grad && !c->shape_only && !c->tape->sketch; }

bool weft_records(const weft_ctx *c, int n, weft_tensor *const *operands) {
    if (!weft_recording(c)) return false;
    for (int i = 0; i < n; i++)
        if (weft_requires_grad(operands[i])) return true;
    return false;
}

void weft_op_note(weft_ctx *c, const weft_op *op, weft_tensor *y, const void *args, size_t args_size, int operands,
                  weft_tensor *const *operand, int kept, weft_tensor *const *keep) {
    bool needed = false;
    if (!c->tape || c->no_grad || c->shape_only || !weft_ok(c) || !y || !is_float(y->type)) return;
    for (int i = 0; i < operands; i++) needed = needed || weft_requires_grad(operand[i]);
    if (!needed) return;
    if (c->tape->sketch) {
        c->tape->touched = true;
        return;
    }
    struct weft_tape_entry *e = tape_entry(c, op, args, args_size, 1, operands, kept, keep);
    if (!e) return;
    for (int i = 0; i < operands; i++) e->operand[i] = tape_slot_of(c, operand[i]);
    e->result[0] = tape_slot_new(c, y);
}

/* Forgets all that was noted: tensors made so far have no history any more. */
static void reset(weft_ctx *c) {
    struct weft_tape *tape = c->tape;
    while (tape->count) free_entry(tape->entry[--tape->count]);
    for (uint32_t i = 1; i < tape->slots; i++) {
        weft_unref(tape->slot[i].grad);
        weft_unref(tape->slot[i].leaf);
    }
    tape->slots = tape->slots ? 1 : 0;
    c->generation++;
}

/* ---- adding gradients ---------------------------------------------------------------------------------------- */

bool weft_is_sole(const weft_tensor *t) {
    return t->refs == 1 && t->storage && t->storage->refs == 1 && t->storage->block && weft_is_dense(t);
}

/* to += g; to is dense. */
static void add_in_place(weft_ctx *c, weft_tensor *to, weft_tensor *g) {
    static const weft_op op = { "gradient", WEFT_KERNEL_binary, NULL };
    weft_binary_args a = { .type = to->type, .op = WEFT_BINARY_ADD, .rank = to->rank, .a = weft_raw(to),
                           .b = weft_raw(g), .y = weft_raw(to) };
    memcpy(a.shape, to->shape, sizeof a.shape);
    memcpy(a.a_stride, to->stride, sizeof a.a_stride);
    memcpy(a.b_stride, g->stride, sizeof a.b_stride);
    if (weft_op_takes(c, &op, to->type)) WEFT_OP_RUN(c, &op, binary, a);
}

weft_tensor *weft_own_copy(weft_ctx *c, weft_tensor *g) {
    weft_tensor *y = weft_tensor_make(c, "gradient", g->type, g->rank, g->shape);
    static const weft_op op = { "gradient", WEFT_KERNEL_copy, NULL };
    return y && weft_copy_into(c, &op, g, y, 0) ? y : NULL;
}

void tape_add(weft_ctx *c, uint32_t slot, weft_tensor *g) {
    struct tape_slot *s = &c->tape->slot[slot];
    weft_tensor **at = s->leaf ? &s->leaf->grad : &s->grad;
    if (!weft_ok(c) || !g) return;
    if (s->gone) {
        weft_fail(c, WEFT_E_ARGUMENT, "%s was computed before an earlier backward pass, which used its history up; "
                  "detach it, or add the losses before the pass", SHAPE_TEXT(s->rank, s->shape));
    } else if (!*at) {
        *at = weft_ref(!s->leaf || weft_is_sole(g) ? g : weft_own_copy(c, g));
    } else if (s->leaf || weft_is_sole(*at)) {
        add_in_place(c, *at, g);
        weft_tensor_changed(*at);
    } else {
        weft_tensor *sum = weft_add(c, *at, g);
        weft_unref(*at);
        *at = weft_ref(sum);
    }
}

/* ---- walking backwards ---------------------------------------------------------------------------------------- */

/* Whether what the rule reads is still what the operation read. */
static bool unchanged(weft_ctx *c, const struct weft_tape_entry *e) {
    for (int i = 0; i < e->kept; i++) {
        const weft_tensor *t = e->keep[i].t;
        if (!t || !t->storage || t->storage->version == e->keep[i].version) continue;
        weft_fail(c, WEFT_E_ARGUMENT, "%s: %s was written to after the operation used it; its gradient is lost",
                  e->op->name, DESCRIBE(t));
    }
    return weft_ok(c);
}

void tape_play(weft_ctx *c) {
    struct weft_tape *tape = c->tape;
    struct weft_tape_entry *e = tape->entry[--tape->count];
    bool reached = false;
    for (int i = 0; i < e->results; i++) reached = reached || tape->slot[e->result[i]].grad;
    e->dy = tape->slot[e->result[0]].grad;
    tape->slot[e->result[0]].grad = NULL;
    if (reached && weft_ok(c) && !weft_cancelled(c)) {
        weft_scope s = weft_scope_begin(c, e->place);
        if (!e->op->backward) weft_fail(c, WEFT_E_ARGUMENT, "%s has no gradient", e->op->name);
        else if (unchanged(c, e)) e->op->backward(c, e);
        weft_scope_end(c, s, NULL);
    }
    free_entry(e);
}

static weft_status check_loss(weft_ctx *c, const weft_tensor *loss, const weft_tensor *seed) {
    if (!c->tape) return weft_fail(c, WEFT_E_ARGUMENT, "backward: there is no tape");
    if (!loss || loss->ctx != c) return weft_fail(c, WEFT_E_ARGUMENT, "backward: there is no loss");
    if (!weft_requires_grad(loss))
        return weft_fail(c, WEFT_E_ARGUMENT, "backward: the loss %s depends on nothing that requires a gradient, "
                         "or was computed while nothing was recorded", DESCRIBE(loss));
    if (!seed && weft_count(loss) != 1)
        return weft_fail(c, WEFT_E_SHAPE, "backward: the loss %s is not one value; reduce it, or give a seed",
                         DESCRIBE(loss));
    bool fits = !seed || (seed->ctx == c && seed->type == loss->type && seed->rank == loss->rank);
    for (int i = 0; seed && fits && i < loss->rank; i++) fits = seed->shape[i] == loss->shape[i];
    if (!fits)
        weft_fail(c, WEFT_E_SHAPE, "backward: the seed is %s, the loss %s", DESCRIBE(seed), DESCRIBE(loss));
    return weft_error(c);
}

weft_status weft_backward(weft_ctx *c, weft_tensor *loss, weft_tensor *seed) {
    if (!weft_ok(c) || check_loss(c, loss, seed)) return weft_error(c);
    weft_no_grad(c, true);
    weft_scope s = weft_scope_named(c, "gradient");
    if (!seed) seed = weft_full(c, loss->type, loss->rank, loss->shape, 1);
    uint32_t slot = tape_slot_of(c, loss);
    if (slot) tape_add(c, slot, seed);
    weft_scope_end(c, s, NULL);
    s = weft_scope_named(c, "gradient");
    while (c->tape->count) tape_play(c);
    weft_scope_end(c, s, NULL);
    weft_no_grad(c, false);
    reset(c);
    return weft_error(c);
}

/* ---- the public rest ------------------------------------------------------------------------------------------ */

weft_status weft_tape_begin(weft_ctx *c) {
    if (!weft_ok(c)) return weft_error(c);
    if (c->tape) return weft_fail(c, WEFT_E_ARGUMENT, "there is a tape already");
    c->tape = weft_host_alloc(sizeof *c->tape);
    if (!c->tape) return weft_fail(c, WEFT_E_MEMORY, "no memory for the tape");
    c->generation++;
    return WEFT_OK;
}

void weft_tape_end(weft_ctx *c) {
    if (!c->tape) return;
    reset(c);
    weft_host_free(c->tape->entry);
    weft_host_free(c->tape->slot);
    weft_host_free(c->tape);
    c->tape = NULL;
}

void weft_no_grad(weft_ctx *c, bool on) {
    if (on) c->no_grad++;
    else if (c->no_grad) c->no_grad--;
}

void weft_set_requires_grad(weft_tensor *t, bool on) {
    if (!t) return;
    if (on && t->type != WEFT_F32 && t->type != WEFT_F64) {
        weft_fail(t->ctx, WEFT_E_TYPE, "%s cannot have a gradient: only f32 and f64 can", DESCRIBE(t));
        return;
    }
    if (t->requires_grad == on) return;
    t->requires_grad = on;
    t->slot = 0;
    t->generation = 0;
    if (!on) weft_zero_grad(t);
}

bool weft_requires_grad(const weft_tensor *t) { return t && (t->requires_grad || t->generation); }

weft_tensor *weft_grad(const weft_tensor *t) { return t ? t->grad : NULL; }

void weft_zero_grad(weft_tensor *t) {
    if (!t) return;
    weft_unref(t->grad);
    t->grad = NULL;
}

weft_tensor *weft_detach(weft_ctx *c, weft_tensor *t) {
    static const weft_op op = { "detach", WEFT_KERNEL_copy, NULL };
    if (!WEFT_OP_BEGIN(c, &op, t) || !(t = weft_plain(c, op.name, t))) return NULL;
    return weft_op_end(c, &op, weft_tensor_view(c, t, 0, t->rank, t->shape, t->stride));
}

/* ---- NaN and infinity ----------------------------------------------------------------------------------------- */

/* 0·x is 0 for every finite x, and NaN for the others. In f32 where there is no arithmetic in f64: what is f64 there was f32 before. */
bool weft_is_finite(weft_ctx *c, weft_tensor *t) {
    if (!weft_ok(c) || !t) return false;
    if (!is_float(t->type) || c->shape_only || !weft_count(t)) return true;
    int watch = c->watch_finite;
    c->watch_finite = 0;
    weft_no_grad(c, true);
    weft_scope s = weft_scope_named(c, "is finite");
    if (t->type != WEFT_F64 || !(c->kernels->types[WEFT_KERNEL_binary] >> WEFT_F64 & 1)) t = weft_cast(c, t, WEFT_F32);
    weft_tensor *zeros = weft_mul(c, t, weft_scalar(c, weft_type(t), 0));
    double sum = weft_item(c, weft_reduce_all(c, WEFT_REDUCE_SUM, zeros));
    weft_scope_end(c, s, NULL);
    weft_no_grad(c, false);
    c->watch_finite = watch;
    return weft_ok(c) && sum == 0;
}

void weft_watch_finite(weft_ctx *c, bool on) {
    if (on) c->watch_finite++;
    else if (c->watch_finite) c->watch_finite--;
}
