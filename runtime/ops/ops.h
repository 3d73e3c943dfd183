/* The operations' descriptors, and what operations use of one another. */
#ifndef WEFT_OPS_H
#define WEFT_OPS_H

#include "runtime/internal.h"

/* Every operation but the unary and binary ones, which have a table each. */
#define WEFT_OP_LIST(OP) \
    OP(read) OP(write) OP(full) OP(reshape) OP(slice) OP(permute) OP(broadcast) OP(contiguous) OP(cast) OP(concat) \
    OP(axpby) OP(affine) OP(clamp) OP(geglu) \
    OP(linear) OP(matmul) OP(conv2d) OP(attention) \
    OP(group_norm) OP(layer_norm) OP(softmax) OP(reduce) \
    OP(resample) OP(pad) OP(embedding) OP(timestep_embedding) OP(random) \
    OP(sum_squares) OP(lerp) OP(adam) OP(sgd) OP(lion) OP(adafactor)

#define OP(name) extern const weft_op weft_op_##name;
WEFT_OP_LIST(OP)
#undef OP
extern const weft_op weft_op_unary[WEFT_UNARY_COUNT], weft_op_binary[WEFT_BINARY_COUNT];

/* Copies src, converting, over the part of dst of src's shape that begins `offset` elements behind dst's first.
 * False after an error. */
bool weft_copy_into(weft_ctx *c, const weft_op *op, weft_tensor *src, weft_tensor *dst, int64_t offset);

/* The unary operation that an activation is; x itself for WEFT_ACT_NONE. */
weft_tensor *weft_activate(weft_ctx *c, weft_activation act, weft_tensor *x);

/* A negative dimension counts from the end; false, with the error set, where there is none of that number. */
bool weft_op_dim(weft_ctx *c, const weft_op *op, const weft_tensor *t, int *dim);

/* Whether the dimensions [first, last) can be walked as one; *stride is then its stride, in elements. */
bool weft_collapses(const weft_tensor *t, int first, int last, int64_t *stride);

#endif
