/* Gradients in reverse mode.
 *
 * While a tape is open, every operation with an operand that requires a gradient is noted: what it was, the tensors
 * that its gradient's rule reads, and where the operands came from. weft_backward() walks the notes backwards, hands
 * each operand its share and lets go of a note as soon as it is used. Model code needs no change: what its scopes drop
 * and the rules need, the tape keeps.
 *
 * A leaf is a tensor marked by weft_set_requires_grad() or weft_tree_train(); its gradient, of its own shape and
 * type, stays with it and grows by every weft_backward(), until weft_zero_grad(). Where a tensor is used more than
 * once its shares are added in the reverse order of the uses: the same bytes for any number of threads.
 */
#ifndef WEFT_AUTOGRAD_H
#define WEFT_AUTOGRAD_H

#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the tape ------------------------------------------------------------------------------------------------- */

/* Recording on. One tape a context; a second one is an error. */
weft_status weft_tape_begin(weft_ctx *c) WEFT_MUST_CHECK;
/* Drops what the tape holds; recording off. The leaves' gradients stay. Does nothing where there is no tape. */
void weft_tape_end(weft_ctx *c);
/* Nothing is noted while on; calls nest. */
void weft_no_grad(weft_ctx *c, bool on);

/* Makes t a leaf, or none any more (its gradient is then forgotten). f32 and f64 only: anything else sets the error. */
void weft_set_requires_grad(weft_tensor *t, bool on);
/* Whether t is a leaf or was computed from one while that was noted. */
bool weft_requires_grad(const weft_tensor *t);
/* A leaf's gradient so far, dense, of t's shape and type; NULL: none came yet. Borrowed; the next weft_backward()
 * adds to it in place. */
weft_tensor *weft_grad(const weft_tensor *t);
/* Forgets a leaf's gradient and gives its memory back. */
void weft_zero_grad(weft_tensor *t);
/* t's values as a view that gradients do not flow through. */
weft_tensor *weft_detach(weft_ctx *c, weft_tensor *t);

/* Adds the gradient of `loss` to the leaves it was computed from. seed: the gradient of something else by `loss`, of
 * its shape and type; NULL: 1, and loss is then one element. Uses the tape up: what was computed before has no
 * history any more, and gradients that would flow into it are an error. After an error the leaves' gradients are
 * undefined; zero them. */
weft_status weft_backward(weft_ctx *c, weft_tensor *loss, weft_tensor *seed);

/* Activation checkpointing, off by default: while on, what model code runs by weft_recompute() keeps its inputs alone
 * and is run once more for the gradient. A third more time for a fraction of the memory. */
void weft_set_recompute(weft_ctx *c, bool on);
/* Whether it is on and something is recorded. */
bool weft_recomputes(const weft_ctx *c);
/* fn computes out[0…outputs) from in[0…inputs) and from parameters, in the innermost scope. While weft_recomputes() it
 * is run again by weft_backward() and must then do the same: `user` is copied (user_size bytes), and what it points to
 * must live until weft_backward() or weft_tape_end(). in: each may be NULL and is then passed on as such. out: filled
 * with tensors of the innermost scope, or NULLs with the error set. */
typedef void weft_recompute_fn(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **out);
weft_status weft_recompute(weft_ctx *c, weft_recompute_fn *fn, const void *user, size_t user_size, int inputs,
                           weft_tensor *const *in, int outputs, weft_tensor **out);

/* ---- trees ---------------------------------------------------------------------------------------------------- */

/* Makes the parameters leaves (on) or frozen ones (off) whose full name matches the pattern, in which * stands for
 * any text and ? for one character; NULL: all. A parameter that is trained is the context's own memory in plain
 * form: one of a file, or of which only the packed form was left, is copied, f16 and bf16 to f32. No match is an
 * error. */
weft_status weft_tree_train(weft_ctx *c, weft_tree *t, const char *pattern, bool on) WEFT_MUST_CHECK;
/* The i-th parameter that is trained, in the order of names; NULL past the end. name may be NULL. */
weft_tensor *weft_tree_trainable(weft_tree *t, int64_t i, const char **name);
void weft_tree_zero_grad(weft_tree *t);
/* What training did to the parameters of t and of the trees below it: 0 where they were never trained; else a number
 * that grows with each write to them. *trains_now (may be NULL): whether some of them are trained now. */
uint64_t weft_tree_version(const weft_tree *t, bool *trains_now);
/* Whether t's own parameters, without the trees below, were ever trained: made anew they would be others. */
bool weft_tree_was_trained(const weft_tree *t);

/* ---- watching for NaN and infinity ---------------------------------------------------------------------------- */

/* Whether every element is finite; true for integers. False on error too. */
bool weft_is_finite(weft_ctx *c, weft_tensor *t);
/* The name of the first parameter (in the order of names) whose gradient is not finite; NULL: all are. */
const char *weft_tree_not_finite(weft_ctx *c, weft_tree *t);
/* While on, an operation whose result, or a gradient's rule one of whose gradients, is not finite fails and names
 * itself. Slow: for finding a fault. Calls nest. */
void weft_watch_finite(weft_ctx *c, bool on);

#ifdef __cplusplus
}
#endif
#endif
