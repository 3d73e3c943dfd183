/* Weighted prompts as ComfyUI reads them: "a (red:1.3) cat ((very)) \(tm\)" to chunks of tokens with a weight each. */
#ifndef WEFT_PROMPT_H
#define WEFT_PROMPT_H

#include "nodes/text/tokenizer.h"

/* Where the vectors of "embedding:name" come from: (n, width) in the innermost scope; NULL: there is none of that name,
 * and it is left out, or the error is set. */
typedef struct weft_prompt_embeddings {
    weft_tensor *(*find)(weft_ctx *c, void *user, const char *name);
    void *user;
    int32_t first;              /* the id of the first vector: behind all that the text encoder knows */
} weft_prompt_embeddings;

/* Chunks of `length` tokens: start, up to length − 2, end, padding. */
typedef struct weft_prompt {
    int chunks, length;
    int32_t *ids;               /* chunks × length; `first` and above: rows of vectors */
    float *weights;
    bool weighted;              /* one of them is not 1 */
    weft_tensor *vectors;       /* (n, width) of all embeddings, in the innermost scope; NULL: there are none */
} weft_prompt;

/* Parses and tokenizes; at least one chunk. length: the text encoder's positions (77 for all of Stable Diffusion's), at
 * least 3. embeddings NULL: "embedding:name" is text. False with the error set (no
 * UTF-8, out of memory, an embedding that cannot be read). */
bool weft_prompt_read(weft_ctx *c, const weft_tokenizer *t, int length, const weft_prompt_embeddings *embeddings,
                      const char *text, weft_prompt *out);
void weft_prompt_free(weft_prompt *p);

/* Calls `see` with each name that a prompt asks for as an embedding, and perhaps with others: for signatures. */
void weft_prompt_names(const char *text, void (*see)(void *user, const char *name), void *user);

#endif
