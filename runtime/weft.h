/* Weft's runtime: context, scopes, tensors, operations. It knows nothing of diffusion.
 *
 * Errors: a context keeps the first error (sticky). Operations return NULL once it has one, or when given NULL, so
 * model code is written without checks; edges (a node's run, a sampler step, a public call) return the code.
 * Lifetimes: what an operation returns belongs to the innermost open scope; weft_scope_end() keeps one and drops the
 * rest. weft_ref()/weft_unref() hold a tensor beyond its scope.
 * Threads: one context belongs to one thread at a time; weft_cancel() alone may be called from anywhere.
 */
#ifndef WEFT_H
#define WEFT_H

#include <stdbool.h>
#include <stdio.h>
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_MUST_CHECK __attribute__((warn_unused_result))
#define WEFT_PRINTF(f, a) __attribute__((format(printf, f, a)))

typedef struct weft_ctx weft_ctx;
typedef struct weft_tensor weft_tensor;
typedef struct weft_tree weft_tree;
typedef struct weft_rng weft_rng;
struct weft_tape_entry;

typedef enum weft_status {
    WEFT_OK = 0,
    WEFT_E_ARGUMENT,    /* a value outside what is allowed */
    WEFT_E_SHAPE,       /* shapes that do not go together */
    WEFT_E_TYPE,        /* element types that do not go together, or no kernel for one */
    WEFT_E_MEMORY,      /* the memory limit, or the machine's end */
    WEFT_E_FILE,        /* a file that cannot be opened, read or written */
    WEFT_E_FORMAT,      /* a file whose content is not what it should be */
    WEFT_E_PARAMS,      /* weights missing, misshapen or left over */
    WEFT_E_DEVICE,      /* the device failed, or is not there */
    WEFT_E_CANCELLED,
    WEFT_E_INTERNAL,    /* a bug of ours */
    WEFT_STATUS_COUNT
} weft_status;

const char *weft_status_name(weft_status s);    /* "shape", "memory", … */

/* ---- context -------------------------------------------------------------------------------------------- */

typedef struct weft_options {
    const char *device;         /* "cpu", "cuda", "cuda:1", "reference"; NULL: the environment's WEFT_DEVICE, or "cpu" */
    int threads;                /* 0: one for each core this process may use */
    const char *dtype;          /* "f32", "f16", "bf16": see weft_compute_type(); NULL: the environment's WEFT_DTYPE, or the device's choice */
    weft_precision precision;
    size_t memory_limit;        /* bytes; 0: none. Tensors, packed weights and scratch count; mapped files do not. */
    /* Tests: memory that fails on demand, 64-byte aligned. NULL: the back end's own. */
    void *(*os_alloc)(void *user, size_t bytes);
    void (*os_free)(void *user, void *p, size_t bytes);
    void *os_user;
} weft_options;

/* NULL only where not even the context can be allocated; any other fault (an unknown device) is its sticky error. */
weft_ctx *weft_ctx_new(const weft_options *options);
/* Everything of the context must have been released; weft_memory_live() tells. Takes NULL. */
void weft_ctx_free(weft_ctx *c);

bool weft_ok(const weft_ctx *c);
weft_status weft_error(const weft_ctx *c);
/* One line: "unet.down_blocks.0.resnets.1.conv1: conv2d: …". "" without an error. Valid until the error is cleared. */
const char *weft_message(const weft_ctx *c);
/* Records an error unless there is one already; the open scopes' path is put before it. Returns the sticky code. */
weft_status weft_fail(weft_ctx *c, weft_status code, const char *format, ...) WEFT_PRINTF(3, 4);
/* Forgets the error (a scope closed by the failing code is closed already: nothing leaks by it). */
void weft_clear(weft_ctx *c);

int weft_threads(const weft_ctx *c);
weft_status weft_set_threads(weft_ctx *c, int threads);     /* 1…1024; 0: one for each core */
weft_precision weft_precision_of(const weft_ctx *c);
void weft_set_precision(weft_ctx *c, weft_precision p);
const weft_kernels *weft_backend(const weft_ctx *c);

/* What models compute in where their inputs are f32: the option's type; without one, f32 on a CPU, and on a GPU f16, or bf16
 * while a tape is open (its range is f32's: small gradients do not vanish). */
weft_dtype weft_compute_type(const weft_ctx *c);
weft_status weft_set_compute_type(weft_ctx *c, const char *dtype);     /* as the option */
/* At a model's door: x of f32 in that type; any other x itself. */
weft_tensor *weft_to_compute(weft_ctx *c, weft_tensor *x);

/* Waits until a device has done what it was asked, so that a failure of its is told now; on a CPU it is done already. */
weft_status weft_wait(weft_ctx *c);

/* Multiplications and additions that linear, matmul, conv2d and attention have done so far, as the plain algorithms count them; also
 * counted where only shapes run: a model's cost can so be told before it runs. */
double weft_flops(const weft_ctx *c);

/* Asks the running work to stop: safe in signal handlers and other threads. The next operation fails with
 * WEFT_E_CANCELLED; weft_clear() lowers the flag. */
void weft_cancel(weft_ctx *c);

/* Long work reports here: what ("unet", "load"), done of total steps. The callback returns false to cancel. */
typedef bool weft_progress_fn(void *user, const char *what, int64_t done, int64_t total);
void weft_set_progress(weft_ctx *c, weft_progress_fn *fn, void *user);
/* Tells the callback; false, with the error set, when the work is to stop. On a device it first waits until what was asked before the
 * last report but one is done. */
bool weft_progress(weft_ctx *c, const char *what, int64_t done, int64_t total);

/* What a user should know of though the work goes on (keys of a file that match nothing): one line each. Without a
 * callback nobody hears of it. */
typedef void weft_warn_fn(void *user, const char *text);
void weft_set_warn(weft_ctx *c, weft_warn_fn *fn, void *user);
void weft_warn(weft_ctx *c, const char *format, ...) WEFT_PRINTF(2, 3);

/* ---- memory --------------------------------------------------------------------------------------------- */

size_t weft_memory_live(const weft_ctx *c);     /* bytes that tensors, packed weights and scratch hold now */
size_t weft_memory_held(const weft_ctx *c);     /* live, and what the cache keeps for the next one; never over the limit */
size_t weft_memory_peak(const weft_ctx *c);     /* the most that was ever live, since the last reset */
void weft_memory_reset_peak(weft_ctx *c);
void weft_memory_trim(weft_ctx *c);             /* gives the cache back */
size_t weft_memory_limit(const weft_ctx *c);
void weft_set_memory_limit(weft_ctx *c, size_t bytes);

/* ---- scopes --------------------------------------------------------------------------------------------- */

/* A place in a tree of parameters (params.h); {0} is nowhere. Small: passed by value. */
typedef struct weft_params {
    weft_tree *tree;
    uint32_t node;
} weft_params;

typedef struct weft_scope { uint32_t depth; } weft_scope;

/* Opens a scope; `p` names it in error messages ({0}: no name). */
weft_scope weft_scope_begin(weft_ctx *c, weft_params p);
/* Opens a scope with a plain name, which must outlive it. */
weft_scope weft_scope_named(weft_ctx *c, const char *name);
/* Closes the scope (and any opened inside and left open) and drops what belongs to it, except `keep` (may be NULL),
 * which moves to the scope outside. Returns keep, or NULL once the context has an error. */
weft_tensor *weft_scope_end(weft_ctx *c, weft_scope s, weft_tensor *keep);
/* Moves a tensor of the innermost scope one scope out, for functions with more than one result; then weft_scope_end(c, s, NULL). */
weft_tensor *weft_scope_keep(weft_ctx *c, weft_scope s, weft_tensor *t);

/* ---- tensors -------------------------------------------------------------------------------------------- */

/* Creates a tensor of undefined content in the innermost scope. rank 0…WEFT_MAX_RANK, sizes ≥0. */
weft_tensor *weft_tensor_new(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape);
#define WEFT_SHAPE(...) (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[]){ __VA_ARGS__ }
/* e.g. weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(n, h, w, 4)) */

/* The same, holding a copy of dense host data of the same type. */
weft_tensor *weft_tensor_from(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape, const void *data);
/* A view on memory of the caller's (a mapped file), which is never written; `release(user)` is called when nothing refers to it any
 * more, or at once where it fails. Holds its data in a shape-only context too. */
weft_tensor *weft_tensor_borrow(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape, const void *data,
                                void (*release)(void *user), void *user);
weft_tensor *weft_full(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape, double value);
weft_tensor *weft_scalar(weft_ctx *c, weft_dtype type, double value);       /* rank 0 */

/* One more owner; returns t. The tensor then lives until as many weft_unref() and its scope's end. Both take NULL. */
weft_tensor *weft_ref(weft_tensor *t);
void weft_unref(weft_tensor *t);

weft_dtype weft_type(const weft_tensor *t);
int weft_rank(const weft_tensor *t);
int64_t weft_dim(const weft_tensor *t, int i);          /* i < 0 counts from the end; 0 for NULL or out of range */
const int64_t *weft_shape(const weft_tensor *t);
const int64_t *weft_strides(const weft_tensor *t);      /* in elements */
int64_t weft_count(const weft_tensor *t);               /* elements */
bool weft_is_dense(const weft_tensor *t);
/* "(2, 64, 64, 320) f32", in a buffer of the caller's; returns it. */
const char *weft_describe(const weft_tensor *t, char *buffer, size_t size);

/* Host memory of a dense tensor on a CPU back end; NULL on a device, for a view that is not dense, in a shape-only
 * context (below). Reading and writing through weft_read()/weft_write() works everywhere. */
void *weft_data(weft_tensor *t);
weft_status weft_read(weft_ctx *c, const weft_tensor *t, void *dst, size_t bytes) WEFT_MUST_CHECK;   /* dense order */
weft_status weft_write(weft_ctx *c, weft_tensor *t, const void *src, size_t bytes) WEFT_MUST_CHECK;
double weft_item(weft_ctx *c, const weft_tensor *t);    /* the value of a one-element tensor; 0 on error */

/* Shape-only running: while on, operations check and give shapes but compute nothing and take no memory. A model
 * function run so under a tree tells all that is missing or misshapen (params.h). Calls nest. */
void weft_shape_only(weft_ctx *c, bool on);
bool weft_is_shape_only(const weft_ctx *c);

/* ---- views: no copy, the storage is shared -------------------------------------------------------------- */

weft_tensor *weft_reshape(weft_ctx *c, weft_tensor *t, int rank, const int64_t *shape);   /* copies what is not dense; one −1 is worked out */
weft_tensor *weft_slice(weft_ctx *c, weft_tensor *t, int dim, int64_t start, int64_t length);
weft_tensor *weft_permute(weft_ctx *c, weft_tensor *t, const int *order);                  /* order: rank numbers */
weft_tensor *weft_broadcast(weft_ctx *c, weft_tensor *t, int rank, const int64_t *shape);  /* NumPy's rule */

/* ---- operations ----------------------------------------------------------------------------------------- */

weft_tensor *weft_contiguous(weft_ctx *c, weft_tensor *t);                  /* t itself where dense already */
weft_tensor *weft_cast(weft_ctx *c, weft_tensor *t, weft_dtype type);       /* t itself where of that type already */
weft_tensor *weft_to_nhwc(weft_ctx *c, weft_tensor *t);                     /* (N,C,H,W) → dense (N,H,W,C) */
weft_tensor *weft_to_nchw(weft_ctx *c, weft_tensor *t);
weft_tensor *weft_concat(weft_ctx *c, int dim, int n, weft_tensor *const *parts);   /* dim < 0 counts from the end */
weft_tensor *weft_concat2(weft_ctx *c, int dim, weft_tensor *a, weft_tensor *b);

/* a and b broadcast against each other by NumPy's rule; same type. */
weft_tensor *weft_binary(weft_ctx *c, weft_binary_op op, weft_tensor *a, weft_tensor *b);
static inline weft_tensor *weft_add(weft_ctx *c, weft_tensor *a, weft_tensor *b) { return weft_binary(c, WEFT_BINARY_ADD, a, b); }
static inline weft_tensor *weft_subtract(weft_ctx *c, weft_tensor *a, weft_tensor *b) { return weft_binary(c, WEFT_BINARY_SUB, a, b); }
static inline weft_tensor *weft_mul(weft_ctx *c, weft_tensor *a, weft_tensor *b) { return weft_binary(c, WEFT_BINARY_MUL, a, b); }
static inline weft_tensor *weft_div(weft_ctx *c, weft_tensor *a, weft_tensor *b) { return weft_binary(c, WEFT_BINARY_DIV, a, b); }
weft_tensor *weft_axpby(weft_ctx *c, double alpha, weft_tensor *a, double beta, weft_tensor *b);   /* alpha·a + beta·b, same shape */

weft_tensor *weft_unary(weft_ctx *c, weft_unary_op op, weft_tensor *x);
static inline weft_tensor *weft_silu(weft_ctx *c, weft_tensor *x) { return weft_unary(c, WEFT_UNARY_SILU, x); }
static inline weft_tensor *weft_gelu(weft_ctx *c, weft_tensor *x) { return weft_unary(c, WEFT_UNARY_GELU, x); }
static inline weft_tensor *weft_quick_gelu(weft_ctx *c, weft_tensor *x) { return weft_unary(c, WEFT_UNARY_QUICK_GELU, x); }
static inline weft_tensor *weft_exp(weft_ctx *c, weft_tensor *x) { return weft_unary(c, WEFT_UNARY_EXP, x); }
weft_tensor *weft_affine(weft_ctx *c, weft_tensor *x, double scale, double shift);      /* scale·x + shift */
weft_tensor *weft_clamp(weft_ctx *c, weft_tensor *x, double low, double high);

/* y = act(x·Wᵀ + b) + residual. x: (…, k); w: (n, k), or (n, k, 1, 1); b: (n) or NULL; residual: like y, or NULL. */
weft_tensor *weft_linear(weft_ctx *c, weft_tensor *x, weft_tensor *w, weft_tensor *b, weft_activation act, weft_tensor *residual);
/* (…, m, k)·(…, k, n); the outer sizes are equal. */
weft_tensor *weft_matmul(weft_ctx *c, weft_tensor *a, weft_tensor *b);

/* How a convolution walks: stride, zero padding on each side. Even sizes and negative pads are allowed. */
typedef struct weft_conv { int stride, top, bottom, left, right; } weft_conv;
#define WEFT_CONV_SAME(k) ((weft_conv){ 1, (k) / 2, (k) / 2, (k) / 2, (k) / 2 })
/* x: (N,H,W,C); w: (O,C,kh,kw); b: (O) or NULL; row: (N,O), added to every pixel of an image, or NULL; residual: like y, or NULL. */
weft_tensor *weft_conv2d(weft_ctx *c, weft_tensor *x, weft_tensor *w, weft_tensor *b, weft_conv how, weft_tensor *row, weft_tensor *residual);

/* q: (B,Tq,heads,d), k, v: (B,Tk,heads,d) → (B,Tq,heads,d). scale 0: 1/√d. Strided views are read in place. */
weft_tensor *weft_attention(weft_ctx *c, weft_tensor *q, weft_tensor *k, weft_tensor *v, double scale, bool causal);

/* x: (N,H,W,C) or (N,T,C); gamma, beta: (C) or both NULL. act is applied in the same pass. */
weft_tensor *weft_group_norm(weft_ctx *c, weft_tensor *x, int groups, double eps, weft_tensor *gamma, weft_tensor *beta, weft_activation act);
weft_tensor *weft_layer_norm(weft_ctx *c, weft_tensor *x, double eps, weft_tensor *gamma, weft_tensor *beta);
weft_tensor *weft_softmax(weft_ctx *c, weft_tensor *x, double scale);      /* over the last dimension */
weft_tensor *weft_geglu(weft_ctx *c, weft_tensor *x);                      /* (…, 2n) → (…, n): x₁·gelu(x₂) */

weft_tensor *weft_reduce(weft_ctx *c, weft_reduce_op op, weft_tensor *x, int dim);     /* drops the dimension */
weft_tensor *weft_reduce_all(weft_ctx *c, weft_reduce_op op, weft_tensor *x);          /* rank 0 */

/* x: (N,H,W,C) → (N,oh,ow,C). */
weft_tensor *weft_resample(weft_ctx *c, weft_tensor *x, weft_resample_mode mode, int64_t oh, int64_t ow);
weft_tensor *weft_pad(weft_ctx *c, weft_tensor *x, weft_pad_mode mode, int top, int bottom, int left, int right, double value);

/* ids: i64 or i32, any shape; table: (rows, n) → (ids' shape, n) of `type`. */
weft_tensor *weft_embedding(weft_ctx *c, weft_tensor *ids, weft_tensor *table, weft_dtype type);
/* t: (N) → (N, dim) sinusoids; see weft_timestep_args. */
weft_tensor *weft_timestep_embedding(weft_ctx *c, weft_tensor *t, int64_t dim, bool flip_sin_to_cos, double freq_shift, double scale, double max_period);

/* One row an operation: its name, the kernel it needs, and its gradient. `weft kernels` and error messages read it. */
typedef struct weft_op {
    const char *name;
    enum weft_kernel_id kernel;
    /* The gradient's rule; NULL: not differentiable, and asking for it is an error that names the operation. */
    void (*backward)(weft_ctx *c, const struct weft_tape_entry *entry);
} weft_op;
const weft_op *const *weft_ops(int *count);

#ifdef __cplusplus
}
#endif
#endif
