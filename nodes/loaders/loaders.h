/* What the loader nodes share. */
#ifndef WEFT_LOADERS_H
#define WEFT_LOADERS_H

#include "nodes/values.h"

typedef void weft_sign_fn(void *user, const void *bytes, size_t n);

/* Signs a file, or what a folder's files are, by path, size and time: an exchanged checkpoint is loaded again. */
void weft_sign_path(const char *path, weft_sign_fn *add, void *user);
/* The same for a name in a graph; a name that leads nowhere adds nothing (the check has told of it). */
void weft_sign_name(weft_ctx *c, const char *folder, const char *name, weft_sign_fn *add, void *user);

/* Opens the file or folder that a name in a graph stands for. NULL with the error set. */
weft_checkpoint *weft_open_named(weft_ctx *c, const char *folder, const char *name, unsigned need, unsigned want);
/* Objects that take a part out of an open checkpoint (its field is then NULL). NULL with the error set. */
weft_model *weft_take_model(weft_ctx *c, weft_checkpoint *k);
weft_clip *weft_take_clip(weft_ctx *c, weft_checkpoint *k);
weft_vae *weft_take_vae(weft_ctx *c, weft_checkpoint *k);
/* The tokenizer_holder of a weft_clip. Takes the tokenizer over (frees it where it fails); NULL with the error set. */
weft_object *weft_tokenizer_hold(weft_ctx *c, weft_tokenizer *t);

#endif
