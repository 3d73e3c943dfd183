/* The tape from inside.
 *
 * A slot stands for one tensor on the tape: its shape and type, and its gradient while that is gathered. A tensor
 * knows its slot by number; the number holds in one generation, from the tape's begin or the last weft_backward() to
 * the next.
 */
#ifndef WEFT_AUTOGRAD_INTERNAL_H
#define WEFT_AUTOGRAD_INTERNAL_H

#include "runtime/autograd.h"
#include "runtime/internal.h"

struct tape_slot {
    weft_tensor *grad;          /* so far; a leaf's is with the leaf */
    weft_tensor *leaf;
    bool gone;                  /* of an earlier generation */
    weft_dtype type;
    int rank;
    int64_t shape[WEFT_MAX_RANK];
};

struct tape_kept { weft_tensor *t; uint64_t version; };

/* One noted operation. All arrays lie behind the struct. */
struct weft_tape_entry {
    const weft_op *op;
    weft_params place;          /* of the scope it ran in, for messages */
    int results, operands, kept;
    uint32_t *result, *operand; /* slots; 0: wants no gradient */
    struct tape_kept *keep;
    void *args;
    weft_tensor *dy;            /* the first result's gradient, while the rule runs */
};

struct weft_tape {
    struct weft_tape_entry **entry;
    uint32_t count, room;
    struct tape_slot *slot;     /* 0 is none */
    uint32_t slots, slot_room;
    bool sketch;                /* inside weft_recompute(): nothing is noted, */
    bool touched;               /* and this tells whether something would have been */
};

/* t's slot in this generation, made if need be; 0 where it requires no gradient, or with the error set. */
uint32_t tape_slot_of(weft_ctx *c, weft_tensor *t);
/* A new slot for t, a tensor that an operation made. */
uint32_t tape_slot_new(weft_ctx *c, weft_tensor *t);
/* A new entry, at the tape's end, with `args` copied and what is kept referenced; slots are for the caller to fill. */
struct weft_tape_entry *tape_entry(weft_ctx *c, const weft_op *op, const void *args, size_t args_size, int results,
                                   int operands, int kept, weft_tensor *const *keep);
/* Adds g, a tensor of the slot's shape, to its gradient. Keeps a reference where it can. */
void tape_add(weft_ctx *c, uint32_t slot, weft_tensor *g);
/* A dense copy that is nobody else's. */
weft_tensor *weft_own_copy(weft_ctx *c, weft_tensor *g);
/* Whether nobody else reads the tensor's memory, so that it may be written over. */
bool weft_is_sole(const weft_tensor *t);
/* Runs and drops the newest entry. */
void tape_play(weft_ctx *c);

#endif
