/* What the runtime's own files share and nobody outside sees: the context, storage and tensors from inside, and the
 * few functions that every operation is made of.
 */
#ifndef WEFT_INTERNAL_H
#define WEFT_INTERNAL_H

#include <inttypes.h>
#include "runtime/params.h"

/* ---- host memory for small structs (host.c); a test that links its own functions makes them fail ----------------- */

void *weft_host_alloc(size_t bytes);                /* zeroed; NULL without memory */
void *weft_host_resize(void *p, size_t bytes);      /* NULL without memory, and p is as it was */
void weft_host_free(void *p);                       /* takes NULL */

/* ---- counted memory (memory.c, parts.c) -------------------------------------------------------------------------- */

enum { WEFT_BUCKETS = 1021 };       /* of cached blocks, by their size */

/* Memory that is live or free, either whole as the back end gave it, or a part of a larger chunk. A part is free in two
 * ways: cached (the system's pages are behind it) or bare (only addresses). */
typedef struct weft_block {
    char *data;
    size_t size;
    enum { WEFT_BLOCK_LIVE, WEFT_BLOCK_CACHED, WEFT_BLOCK_BARE } state;
    uint64_t stamp;                         /* when it came into the cache */
    struct weft_block *next, *previous;     /* whole, cached: its bucket; free part: all those; scratch: all that */
    struct weft_block *newer, *older;       /* whole, cached: by age */
    struct weft_block *left, *right;        /* part: its neighbours in the chunk */
    struct weft_chunk *chunk;               /* NULL: whole, or a hold's */
    const struct weft_hold *hold;           /* whose part it is; NULL: no hold's */
} weft_block;

/* The memory of recorded work (record.c): nobody else gets it while the recording is there. Open, while it is recorded,
 * it is what requests are met from; at rest, all of it counts as cached, for it can be given up; in use, all of it is live. */
typedef struct weft_hold {
    weft_block *wholes;                     /* as the back end gave them */
    weft_block *free;                       /* parts of them */
    size_t bytes, free_bytes;
} weft_hold;

typedef struct weft_memory {
    void *(*os_alloc)(void *user, size_t bytes);
    void (*os_free)(void *user, void *p, size_t bytes);
    void *os_user;
    bool divides;                           /* large blocks are parts of chunks */
    size_t limit, live, cached, peak;
    size_t high;                            /* the most that was live since the last trim: bounds the cache */
    size_t reserved;                        /* of all chunks */
    uint64_t clock;
    weft_block *buckets[WEFT_BUCKETS];
    weft_block *newest, *oldest;
    weft_block *parts;                      /* free ones */
    weft_block *scratch;                    /* what kernels hold */
    bool (*relieve)(void *user);            /* gives up what can be made again; false: there is nothing. NULL: none */
    bool (*forget)(void *user);             /* gives up a hold at rest; false: there is none. NULL: none */
    void *relieve_user;                     /* of both */
    weft_hold *hold;                        /* the open one, or NULL */
    size_t refused;                         /* the size that was last asked for in vain */
    bool refused_by_limit;
} weft_memory;

void weft_memory_init(weft_ctx *c, const weft_options *options);
void weft_list_add(weft_block **list, weft_block *b);
void weft_list_remove(weft_block **list, weft_block *b);
/* Where a part of this size, a multiple of WEFT_PAGE, would go with the least fresh memory; reused: the bytes of it
 * that the cache has. */
enum { WEFT_PAGE = 4096, WEFT_LARGE = 1 << 16 };
typedef struct weft_place { weft_block *first; size_t reused; } weft_place;
bool weft_part_find(weft_memory *m, size_t size, weft_place *place);
/* Adds a chunk with room for the size; false when the system has none. */
bool weft_part_reserve(weft_memory *m, size_t size);
/* Takes the place; NULL without memory for the list of parts. */
weft_block *weft_part_take(weft_memory *m, const weft_place *place, size_t size);
void weft_part_give(weft_memory *m, weft_block *b);             /* to the cache */
/* The part that is longest in the cache; NULL: none is. */
weft_block *weft_part_oldest(const weft_memory *m);
/* Gives about so many bytes of a cached part back to the system, or all of it. */
void weft_part_drop(weft_memory *m, weft_block *b, size_t bytes);

weft_block *weft_block_take(weft_memory *m, size_t bytes);      /* NULL: refused; weft_memory_fail() then tells */
void weft_block_give(weft_memory *m, weft_block *b);            /* to the cache; takes NULL */
weft_status weft_memory_fail(weft_ctx *c, const char *who);
weft_block *weft_block_create(weft_memory *m, size_t size);     /* a fresh whole one; NULL where the system has none */
void weft_block_cache(weft_memory *m, weft_block *b);           /* puts a whole one into the cache */
void weft_memory_give_back(weft_memory *m);                     /* the cache, but what holds have of it */

/* hold.c. A part of the open hold, and back to it. */
weft_block *weft_hold_take(weft_memory *m, size_t size);
void weft_hold_give(weft_memory *m, weft_block *b);
/* Opens a new hold, or one at rest again. */
void weft_hold_open(weft_memory *m, weft_hold *h);
/* Lays a hold to rest: the open one, or one in use. */
void weft_hold_rest(weft_memory *m, weft_hold *h);
void weft_hold_use(weft_memory *m, weft_hold *h);
/* Gives the chunks of an open hold, of which nobody has anything any more, to the cache. */
void weft_hold_end(weft_memory *m, weft_hold *h);
/* For weft_env: owner is the weft_memory. Called on the context's thread only. */
void *weft_scratch_alloc(void *owner, size_t bytes);
void weft_scratch_release(void *owner, void *p, size_t bytes);

/* ---- context (ctx.c) --------------------------------------------------------------------------------------------- */

typedef struct weft_frame {
    uint32_t first;             /* of its tensors in weft_ctx.owned */
    weft_params place;
    const char *name;           /* or NULL */
} weft_frame;

struct weft_run_info;
struct weft_tape;

/* What an error is about, where a graph or a node's call set it (runtime/graph); "" where unknown. */
typedef struct weft_blame { char type[40], node[64], class_name[64], input[64]; } weft_blame;

struct weft_ctx {
    const weft_kernels *kernels;        /* NULL: the device is unknown; the error then stays */
    int compute;                        /* a weft_dtype, or −1: chosen by the device */
    weft_env env;                       /* weft_env_now() gives it to a kernel */
    volatile int cancel;
    weft_memory memory;
    weft_status status;
    char message[2048];
    int shape_only;                     /* how deep; 0: off */
    weft_frame *frames;
    uint32_t frame_count, frame_room;
    weft_tensor **owned;                /* the scopes' tensors, outermost first; before frame 0: the context's */
    uint32_t owned_count, owned_room;
    weft_progress_fn *progress;
    void *progress_user;
    weft_warn_fn *warn;
    void *warn_user;
    double flops;                       /* see weft_flops() */
    weft_blame blame;                   /* of the error */
    const struct weft_run_info *run_info;   /* of the node that runs; runtime/graph */
    struct weft_tape *tape;             /* NULL: nothing is recorded */
    uint64_t generation;                /* of the tape; see autograd_internal.h */
    int no_grad, watch_finite;          /* how deep; 0: off */
    bool recompute;
    struct weft_packed *newest, *oldest;    /* on a device: packed weights that can be made again, by their last use */
    uint64_t packings, packed_ever;     /* uses of such weights; how many there were */
    struct weft_record *recordings;  /* record.c; the one that was used last first */
    uint64_t weights_changed;           /* grows whenever a frozen weight is another, or lies elsewhere */
    int64_t tensors;                    /* alive; a context that is freed before its last tensor goes with it */
    bool closed;
};

/* A tensor of the context's was released. */
void weft_ctx_tensor_gone(weft_ctx *c);
/* Whether weft_cancel() was called; the error is set then. */
bool weft_cancelled(weft_ctx *c);
/* Whether kernels read host memory: then weft_data() is not NULL. */
bool weft_on_host(const weft_ctx *c);
/* The environment for a kernel call made now. */
const weft_env *weft_env_now(weft_ctx *c);
/* "1.5 GiB" into out (of 32 bytes); returns it. */
const char *weft_bytes_text(size_t bytes, char out[32]);

/* ---- storage, tensors (tensor.c) --------------------------------------------------------------------------------- */

/* Memory of the context's own, or the caller's: that is read where it lies, or, where kernels cannot read it (`host`), copied to
 * the device when it is first needed (weft_plain()). */
typedef struct weft_storage {
    int64_t refs;
    weft_ctx *ctx;
    void *data;                         /* where kernels read it; NULL: not copied yet */
    weft_block *block;                  /* NULL: the caller's memory, not to be written */
    const void *host;                   /* the caller's memory that kernels cannot read, or NULL */
    size_t bytes;                       /* of host */
    weft_block *copy;                   /* what `data` is then */
    void (*release)(void *user);
    void *user;
    uint64_t version;                   /* grows with every weft_tensor_changed() */
} weft_storage;

/* A weight in the back end's form: how.n × how.taps × how.k. */
typedef struct weft_packed {
    weft_storage *form;
    weft_pack_args how;                 /* without src and dst; the strides are those of the plain tensor */
    uint64_t version;                   /* of the plain storage it was made from */
    struct weft_tensor *weight;         /* in the context's list: whose form it is; NULL: not in the list */
    struct weft_packed *newer, *older;
    uint64_t used;
} weft_packed;

struct weft_tensor {
    int64_t refs;
    weft_ctx *ctx;
    weft_storage *storage;              /* NULL: shape only, or a frozen weight of which only the packed form is left */
    int64_t offset;                     /* of the first element in the storage, in elements */
    weft_dtype type;
    int rank;
    int64_t shape[WEFT_MAX_RANK], stride[WEFT_MAX_RANK];
    bool parameter, frozen;
    bool requires_grad;                 /* a leaf */
    uint32_t slot;                      /* on the tape, in this generation; generation 0: has no history */
    uint64_t generation;
    weft_tensor *grad;                  /* a leaf's, or NULL */
    weft_packed *packed;                /* of a parameter, once it was used */
    bool was_packed;
    void (*on_packed)(void *user);
    void *on_packed_user;
};

/* New storage of the context's own, with one reference; `who` begins the error's message. NULL with the error set. */
weft_storage *weft_storage_new(weft_ctx *c, const char *who, size_t bytes);
void weft_storage_drop(weft_storage *s);            /* takes NULL */
/* Copies the caller's memory to the device where that is needed and not done yet; false with the error set. */
bool weft_storage_bring(weft_ctx *c, const char *who, weft_storage *s);
/* Gives that copy back: between operations, where a weight's plain form was needed once. */
void weft_storage_leave(weft_storage *s);           /* takes NULL */

/* weft_tensor_new() whose error begins with `who` (an operation's name). */
weft_tensor *weft_tensor_make(weft_ctx *c, const char *who, weft_dtype type, int rank, const int64_t *shape);
/* A tensor on t's storage (offset in elements from t's first), in the innermost scope. */
weft_tensor *weft_tensor_view(weft_ctx *c, weft_tensor *t, int64_t offset, int rank, const int64_t *shape,
                              const int64_t *stride);
/* Elements of a shape; false where it is negative, of a wrong rank, or so large that bytes or strides overflow. */
bool weft_shape_count(int rank, const int64_t *shape, int64_t *count);
/* "(2, 64, 64, 320)" into out; returns it. */
const char *weft_shape_text(int rank, const int64_t *shape, char *out, size_t size);
void weft_dense_strides(int rank, const int64_t *shape, int64_t *stride);

/* The first element, on whichever side kernels read; NULL for NULL and without storage. */
static inline void *weft_raw(const weft_tensor *t) {
    return t && t->storage ? (char *)t->storage->data + t->offset * (int64_t)weft_dtype_size(t->type) : NULL;
}

/* Makes t a parameter: the first linear or conv2d that uses it keeps its packed form for the next. Then on_packed(user)
 * is called (NULL: nobody), and where `frozen`, memory of the context's own under the plain form is given back:
 * weft_data() is NULL from then on and weft_read() unpacks. A borrowed plain form stays. */
void weft_tensor_mark_parameter(weft_tensor *t, bool frozen, void (*on_packed)(void *user), void *user);
/* The content was written (weft_write() calls it; who writes through weft_data() does so himself): packed forms made
 * before, also of other tensors on the same storage, are not used again. */
void weft_tensor_changed(weft_tensor *t);
/* t itself, or where only its packed form is left, a dense copy in the innermost scope. NULL with the error set. */
weft_tensor *weft_plain(weft_ctx *c, const char *who, weft_tensor *t);

/* ---- scopes (scope.c) -------------------------------------------------------------------------------------------- */

/* Gives the caller's reference to the innermost scope; returns t, or NULL (t is dropped then) with the error set. */
weft_tensor *weft_scope_own(weft_ctx *c, weft_tensor *t);
/* Drops everything in all scopes, also what belongs to the context itself. */
void weft_scope_flush(weft_ctx *c);

/* ---- operations (ops/) ------------------------------------------------------------------------------------------- */

/* A tensor or shape for a message; the text lives as long as the block around it. */
enum { WEFT_TEXT = 192 };
#define DESCRIBE(t) weft_describe((t), (char[WEFT_TEXT]){ 0 }, WEFT_TEXT)
#define SHAPE_TEXT(rank, shape) weft_shape_text((rank), (shape), (char[WEFT_TEXT]){ 0 }, WEFT_TEXT)

/* Whether an operation may run: no error, not cancelled, no operand NULL, all of this context. */
bool weft_op_begin(weft_ctx *c, const weft_op *op, int n, const weft_tensor *const *operands);
#define WEFT_OP_BEGIN(c, op, ...) \
    weft_op_begin((c), (op), (int)(sizeof((const weft_tensor *[]){ __VA_ARGS__ }) / sizeof(weft_tensor *)), \
                  (const weft_tensor *const[]){ __VA_ARGS__ })
/* weft_fail() with the operation's name in front; returns NULL. */
weft_tensor *weft_op_fail(weft_ctx *c, const weft_op *op, weft_status code, const char *format, ...) WEFT_PRINTF(4, 5);
/* Whether the back end has the operation's kernel for this type; the error is set where it has not. */
bool weft_op_takes(weft_ctx *c, const weft_op *op, weft_dtype type);
/* Whether b, an operand called `what`, has a's type; the error is set where it has not. */
bool weft_op_same_type(weft_ctx *c, const weft_op *op, const weft_tensor *a, const char *what, const weft_tensor *b);
/* For an operand that may be NULL (a bias, a residual), called `what`: checks that *t has x's type and this shape and
 * makes it dense. False with the error set. */
bool weft_op_optional(weft_ctx *c, const weft_op *op, const weft_tensor *x, const char *what, weft_tensor **t,
                      int rank, const int64_t *shape);
/* For operations whose result is like their input: makes *x dense, after checking that the kernel takes its type, and
 * gives a tensor of its type and shape. NULL with the error set. */
weft_tensor *weft_op_like(weft_ctx *c, const weft_op *op, weft_tensor **x);
/* Turns a kernel's status into the error. */
void weft_op_status(weft_ctx *c, const weft_op *op, weft_dtype type, int status);
/* Calls the operation's kernel unless only shapes run. */
#define WEFT_OP_RUN(c, op, kernel, arguments) \
    do { \
        if (!(c)->shape_only) \
            weft_op_status((c), (op), (arguments).type, (c)->kernels->kernel(weft_env_now(c), &(arguments))); \
    } while (0)
bool weft_recording(const weft_ctx *c);
/* Whether the tape would note an operation on these operands, NULLs among them. */
bool weft_records(const weft_ctx *c, int n, weft_tensor *const *operands);
/* Tensors for a call: their number, and an array that lives as long as the block around it. */
#define WEFT_TENSORS(...) \
    (int)(sizeof((weft_tensor *[]){ __VA_ARGS__ }) / sizeof(weft_tensor *)), (weft_tensor *const[]){ __VA_ARGS__ }
/* Notes on the tape, where one is open and an operand requires a gradient, that y came from these operands (NULLs among
 * them); its rule will find a copy of args and what is to be kept. */
void weft_op_note(weft_ctx *c, const weft_op *op, weft_tensor *y, const void *args, size_t args_size, int operands,
                  weft_tensor *const *operand, int kept, weft_tensor *const *keep);
/* The end of every operation: returns y, or NULL after an error. */
weft_tensor *weft_op_end(weft_ctx *c, const weft_op *op, weft_tensor *y);
/* Dense and with storage; for kernels that need rows one behind the other. */
weft_tensor *weft_op_dense(weft_ctx *c, const weft_op *op, weft_tensor *t);

/* Whether the back end packs weights of w's type; the error is set where not. */
bool weft_weight_takes(weft_ctx *c, const weft_op *op, const weft_tensor *w);
/* The type in which a weight of w's type is packed for activations of a type: its own; on a device, where products are of one
 * type, theirs. */
weft_dtype weft_weight_type(const weft_ctx *c, const weft_tensor *w, weft_dtype activations);
/* The packed form of a weight (n, k) or (n, k, kh, kw), of this type, with a reference for the caller to drop. A parameter's is
 * kept for the next call, unless a gradient is going to change it. */
weft_storage *weft_weight_pack(weft_ctx *c, const weft_op *op, weft_tensor *w, weft_dtype type);
/* The same turned over, for the gradient by the input: (k, n), the taps of a window in reverse order. Never kept. */
weft_storage *weft_weight_pack_back(weft_ctx *c, const weft_op *op, weft_tensor *w, weft_dtype type);
void weft_packed_free(weft_packed *p);      /* takes NULL */
/* For weft_memory.forget: gives up the recording that is longest unused. */
bool weft_record_forget(void *ctx);
void weft_records_free(weft_ctx *c);
/* For weft_memory.relieve: drops one packed weight that nothing uses now and whose plain form the host has. */
bool weft_packed_relieve(void *ctx);

#endif
