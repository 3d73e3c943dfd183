/* Work that is done again and again on inputs of the same shapes: a model's evaluation in a sampling loop. A device that can
 * (kernels.h: record_begin) records it the second time, and is asked for all of it at once from then on: on a GPU the
 * thousand calls of an evaluation cost more than they compute where pictures are small.
 */
#ifndef WEFT_RECORD_H
#define WEFT_RECORD_H

#include "runtime/hash.h"
#include "runtime/params.h"

enum { WEFT_RECORD_INPUTS = 8 };

typedef struct weft_recordable {
    /* The result from the inputs, in the innermost scope; NULL with the error set. It reads no tensor's values, and no tensors but
     * the inputs and the tree's weights. An input may be NULL. */
    weft_tensor *(*run)(weft_ctx *c, weft_tensor *const *in, void *user);
    void *user;
    const weft_tree *tree;
    weft_hash what;             /* of all else that decides what it does */
} weft_recordable;

/* What run() gives of n inputs. Nothing is recorded on a CPU, with a tape, or where weights of the tree may be trained. Done plainly
 * once more where a weight has changed, or where memory was short and the recording was given up for it. */
weft_tensor *weft_recorded(weft_ctx *c, const weft_recordable *r, int n, weft_tensor *const *in);

#endif
