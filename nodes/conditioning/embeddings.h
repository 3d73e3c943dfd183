/* Textual inversion (arXiv:2208.01618): files of vectors that stand in a prompt in the place of tokens, "embedding:name".
 *
 * Read are safetensors files with "clip_l" or "clip_h" (by text encoder), "emb_params" or "string_to_param.*"
 * (automatic1111), or one tensor named after its token (diffusers' learned_embeds.safetensors): (n, width), or (width).
 */
#ifndef WEFT_EMBEDDINGS_H
#define WEFT_EMBEDDINGS_H

#include "nodes/values.h"

/* The path of the embedding that a prompt calls by its name: below models/embeddings as it stands, with ".safetensors",
 * ".pt" or ".bin" behind it, or in a subfolder. NULL: there is none, or the error is set. To be freed by free(). */
char *weft_embedding_find(weft_ctx *c, const weft_folders *folders, const char *name);
/* Its vectors for a text encoder: (n, width) f32 in the innermost scope. NULL with the error set: pickles, vectors of
 * another width. */
weft_tensor *weft_embedding_read(weft_ctx *c, const char *path, weft_family family, int64_t width);

#endif
