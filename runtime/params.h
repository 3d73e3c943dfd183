/* Parameters: a tree of named tensors, and the layers that use them.
 *
 * A model is a function of (context, parameters, inputs). weft_params is a place in a tree; names are the diffusers
 * names, so weft_sub(weft_sub(p, "down_blocks"), "0") is what the file calls "down_blocks.0". A tree is filled from
 * files, or makes its weights from a seed the first time that a model function, run shape-only, asks for them.
 *
 * A weight is packed for the back end when it is first used, once, in the type the file has; the mapping's pages are
 * then let go. Small vectors (bias, gamma, beta) are converted to the activations' type once.
 */
#ifndef WEFT_PARAMS_H
#define WEFT_PARAMS_H

#include "runtime/rng.h"
#include "runtime/safetensors.h"

/* ---- the tree ------------------------------------------------------------------------------------------- */

/* An empty tree; `name` ("unet") starts every path in messages. NULL with the error set. */
weft_tree *weft_tree_new(weft_ctx *c, const char *name);
void weft_tree_free(weft_tree *t);      /* takes NULL */

/* Maps a file's name of a tensor to the tree's: writes it to out (of size bytes) and returns true, or false to leave
 * it out. */
typedef bool weft_rename_fn(void *user, const weft_st_entry *entry, char *out, size_t size);
/* Adds a file's tensors; rename NULL: names as they are. A name that is there already is an error. */
weft_status weft_tree_add_file(
    weft_ctx *c, weft_tree *t, const char *path, weft_rename_fn *rename, void *user) WEFT_MUST_CHECK;
/* Adds `folder/stem.safetensors`, or the shards that `folder/stem.safetensors.index.json` names. Says all the names
 * it looked for. */
weft_status weft_tree_add_folder(weft_ctx *c, weft_tree *t, const char *folder, const char *stem) WEFT_MUST_CHECK;
/* Adds a tensor under a dotted name; the tree holds a reference. */
weft_status weft_tree_add(weft_ctx *c, weft_tree *t, const char *name, weft_tensor *tensor) WEFT_MUST_CHECK;

/* From now on the tree makes what it is asked for and does not have, of `type`, from a seed: a value depends on seed
 * and name alone. */
void weft_tree_make(weft_tree *t, weft_dtype type, uint64_t seed);

/* Runs `walk` (a model function on inputs of some shape) shape-only over the tree and reports by one error all that
 * is missing, misshapen or of a type that no kernel takes, and, where `all_used`, what nothing asked for. In a
 * making tree, makes it all. */
typedef void weft_walk_fn(weft_ctx *c, weft_params root, void *user);
weft_status weft_tree_check(weft_ctx *c, weft_tree *t, weft_walk_fn *walk, void *user, bool all_used) WEFT_MUST_CHECK;

/* Once packed, a weight's plain form is dropped (weft_tree_plain() unpacks it again): for sampling. On for trees of
 * files. */
void weft_tree_set_frozen(weft_tree *t, bool frozen);
/* The i-th tensor in plain form with its full name, in the order of names: for saving. NULL past the end. */
weft_tensor *weft_tree_plain(weft_ctx *c, weft_tree *t, int64_t i, const char **name);
/* Its name alone; NULL past the end, or with the error set. */
const char *weft_tree_name(weft_ctx *c, weft_tree *t, int64_t i);
int64_t weft_tree_count(const weft_tree *t);
/* prefix: what stands before every name in the file ("text_model."), or "". An overlay is written as the tree below with
 * its deltas and adapters merged into the weights. */
weft_status weft_tree_write(
    weft_ctx *c, weft_tree *t, const char *prefix, const char *path, weft_dtype type) WEFT_MUST_CHECK;
/* The same as what weft_tree_add_folder() reads: folder/stem.safetensors, or, where the tensors have more than `most` bytes,
 * shards of at most that many ("stem-00001-of-00003.safetensors"; a larger tensor has one to itself) and their index. What
 * was written before a failure stays, so the folder had better be a weft_folder_out's. */
weft_status weft_tree_write_folder(weft_ctx *c, weft_tree *t, const char *prefix, const char *folder, const char *stem,
    weft_dtype type, int64_t most) WEFT_MUST_CHECK;
#define WEFT_SHARDS_MOST 1000       /* of one model, written or read */

/* ---- places --------------------------------------------------------------------------------------------- */

weft_params weft_root(weft_tree *t);
/* A place below; it need not exist: what is asked for there is then missing. Dots may be inside the name. */
weft_params weft_sub(weft_params p, const char *name);
weft_params weft_sub_at(weft_params p, const char *name, int i);    /* name.i */
bool weft_has(weft_params p, const char *name);                     /* a tensor or place of that name */
/* The place's full dotted name with the tree's in front; returns out. */
const char *weft_params_name(weft_params p, char *out, size_t size);

/* How a making tree fills a tensor. fan_in: inputs of one output. */
typedef enum weft_init_kind {
    WEFT_INIT_ZEROS, WEFT_INIT_ONES,
    WEFT_INIT_FAN_IN,       /* uniform ±1/√fan_in: PyTorch's default for linear and convolution weights and biases */
    WEFT_INIT_NORMAL        /* normal · std */
} weft_init_kind;
typedef struct weft_init { weft_init_kind kind; double fan_in, std; } weft_init;

/* The parameter `name` below p, of this shape; (n, k, 1, 1) in the tree passes for (n, k), and the other way.
 * Missing, misshapen or of a type that is no float: noted in a check, an error otherwise. The tree owns it. */
weft_tensor *weft_param(weft_ctx *c, weft_params p, const char *name, weft_init init, int rank, const int64_t *shape);

/* ---- overlays: a tree that changes another one, which stays as it is ------------------------------------- */

/* A tree over `below` (of the same context), which must outlive it: what it has not itself is below's, packed forms
 * too. NULL with the error set. */
weft_tree *weft_tree_overlay(weft_ctx *c, weft_tree *below);

/* W′ = W + scale·up·down, as matrices (n, r) and (r, k) of any rank; down NULL: W + scale·up, up of W's size. */
typedef struct weft_delta { weft_tensor *up, *down; double scale; } weft_delta;
/* Changes a parameter that the trees below have; several deltas add up. W′ is made when it is first asked for: in f32
 * (f64 for f64), rounded once to the type of W. Shapes that do not go together are an error. */
weft_status weft_tree_add_delta(weft_ctx *c, weft_tree *t, const char *name, const weft_delta *delta) WEFT_MUST_CHECK;
/* Adds all deltas of another overlay over the same tree, so that a stack of changes makes each W′ once. */
weft_status weft_tree_copy_deltas(weft_ctx *c, weft_tree *t, const weft_tree *from) WEFT_MUST_CHECK;

/* Whether t is an overlay that has deltas alone, or nothing, so that copying them gives another one like it. */
bool weft_tree_is_deltas(const weft_tree *t);

/* Low-rank adapters, for training: y = layer(x) + scale·up(down(x)) beside a layer that keeps its weight. They are
 * the overlay's own tensors "PLACE.lora_A.weight" (down: (r, k) or (r, C, kh, kw)) and "PLACE.lora_B.weight" (up:
 * (n, r) or (n, r, 1, 1)). arXiv:2106.09685. */
typedef struct weft_adapter { const char *place; weft_tensor *down, *up; double scale; } weft_adapter;
/* Adds one to the layer at a place; shapes that do not fit its weight are an error. */
weft_status weft_tree_add_adapter(weft_ctx *c, weft_tree *t, const weft_adapter *adapter) WEFT_MUST_CHECK;
/* Adds new ones to all layers (linear or convolution) whose place is one of the NULL-terminated targets or ends in
 * ".target", as PEFT's target_modules: down uniform ±1/√k (Kaiming with a = √5), up 0, scale alpha/rank. A target that
 * no layer has is an error. */
weft_status weft_tree_make_adapters(weft_ctx *c, weft_tree *t, const char *const *targets, int rank, double alpha,
    weft_dtype type, uint64_t seed) WEFT_MUST_CHECK;
/* The i-th of the overlay's own, in the order in which they were added; false past the end. The tensors are the
 * tree's. */
bool weft_tree_adapter(const weft_tree *t, int64_t i, weft_adapter *adapter);
/* Adds the overlay's adapters to `to`, another overlay over the same tree, as deltas of the weights. Their tensors are
 * shared, so that W′ is made of what they hold when it is first asked for. */
weft_status weft_tree_merge_adapters(weft_ctx *c, weft_tree *to, const weft_tree *from) WEFT_MUST_CHECK;

/* ---- layers: the parameters "weight" and "bias" below p, applied -------------------------------------------- */

weft_tensor *weft_nn_linear(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, bool bias);
/* The same as a 1×1 convolution over the last dimension: the weight is (out, in, 1, 1). */
weft_tensor *weft_nn_pointwise(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, bool bias);
/* The same, with what is fused behind it. */
weft_tensor *weft_nn_linear_act(
    weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, bool bias, weft_activation act, weft_tensor *residual);
weft_tensor *weft_nn_conv2d(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int k, weft_conv how);
weft_tensor *weft_nn_conv2d_add(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, int k, weft_conv how,
    weft_tensor *row, weft_tensor *residual);
weft_tensor *weft_nn_group_norm(
    weft_ctx *c, weft_params p, weft_tensor *x, int groups, double eps, weft_activation act);
weft_tensor *weft_nn_layer_norm(weft_ctx *c, weft_params p, weft_tensor *x, double eps);
/* std: of new vectors. */
weft_tensor *weft_nn_embedding(
    weft_ctx *c, weft_params p, weft_tensor *ids, int64_t rows, int64_t width, double std, weft_dtype type);

#endif
