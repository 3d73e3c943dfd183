/* Named tensors that a training run keeps beside the weights (an optimiser's moments, averages): one list, written to a
 * safetensors file and read back to the bit. */
#ifndef WEFT_TRAIN_STATE_H
#define WEFT_TRAIN_STATE_H

#include "runtime/params.h"
#include "runtime/update.h"

#define WEFT_STATE_NAME 500         /* bytes of a parameter's name */

typedef struct weft_state {
    weft_ctx *ctx;
    weft_st_item *items;        /* names of its own; tensors are the caller's and must outlive it */
    int64_t count, room;
} weft_state;

/* Adds a tensor under a name given as for printf; false with the error set. t NULL: nothing is added. */
bool weft_state_add(weft_state *s, weft_tensor *t, const char *format, ...) WEFT_PRINTF(3, 4);
void weft_state_free(weft_state *s);        /* the list, not the tensors */

/* metadata: NULL or key, value, …, NULL; read expects the file to have the same. */
weft_status weft_state_write(weft_state *s, const char *path, const char *const *metadata) WEFT_MUST_CHECK;
/* Every item must be there with its type and shape, and nothing else; nothing is changed before all of it is checked.
 * */
weft_status weft_state_read(weft_state *s, const char *path, const char *const *metadata) WEFT_MUST_CHECK;

/* A tensor of zeros, or a copy of t, with one reference and in no scope; NULL with the error set. */
weft_tensor *weft_state_zeros(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape) WEFT_MUST_CHECK;
weft_tensor *weft_state_copy(weft_ctx *c, weft_dtype type, weft_tensor *t) WEFT_MUST_CHECK;
/* The type in which a parameter's state is kept: f64 for f64, f32 for all others. */
static inline weft_dtype weft_state_type(const weft_tensor *t) { return weft_type(t) == WEFT_F64 ? WEFT_F64 :
                                                                 WEFT_F32; }

/* Room for one more in an array of `each` bytes; false with the error set. */
bool weft_state_grow(weft_ctx *c, void **array, int64_t count, int64_t *room, size_t each);
/* A copy of a text, to be freed by free(). */
char *weft_state_text(weft_ctx *c, const char *text);

#endif
