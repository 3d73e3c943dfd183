/* What gradients' rules use. A rule gets its entry and hands every operand that wants one its gradient; nothing is
 * recorded while it runs, and what it makes in the innermost scope is dropped after it.
 */
#ifndef WEFT_GRADIENT_H
#define WEFT_GRADIENT_H

#include "runtime/autograd_internal.h"
#include "runtime/ops/ops.h"

typedef struct weft_tape_entry weft_entry;

static inline bool weft_wants(const weft_entry *e, int i) { return e->operand[i] != 0; }
static inline weft_tensor *weft_kept(const weft_entry *e, int i) { return e->keep[i].t; }

/* The gradient of operand i, of its shape, any strides; another type is converted. Nothing happens where it wants
 * none or g is NULL. */
void weft_give(weft_ctx *c, const weft_entry *e, int i, weft_tensor *g);
/* The same with g of a shape that the operand was broadcast to: summed. */
void weft_give_sum(weft_ctx *c, const weft_entry *e, int i, weft_tensor *g);
/* Dense memory of `type` for a kernel to write operand i's gradient to; where *adds it holds something to add to. Then
 * weft_gradient_end() must be called with it. NULL with the error set. */
weft_tensor *weft_gradient_begin(weft_ctx *c, const weft_entry *e, int i, weft_dtype type, bool *adds);
void weft_gradient_end(weft_ctx *c, const weft_entry *e, int i, weft_tensor *g);
/* An uninitialised tensor of operand i's shape; where `reuse` may be overwritten and has that shape: reuse itself. Then
 * weft_give() it. */
weft_tensor *weft_gradient_new(weft_ctx *c, const weft_entry *e, int i, weft_tensor *reuse);
/* e->dy made dense, and whether nobody else reads it: a kernel may write over it. */
weft_tensor *weft_dense_dy(weft_ctx *c, const weft_entry *e);

/* Calls a gradient's kernel. */
#define WEFT_GRADIENT_RUN(c, e, kernel, arguments) \
    do { \
        const weft_op gradient_op = { (e)->op->name, WEFT_KERNEL_##kernel, NULL }; \
        if (weft_op_takes((c), &gradient_op, (arguments).type)) WEFT_OP_RUN((c), &gradient_op, kernel, arguments); \
    } while (0)

#endif
