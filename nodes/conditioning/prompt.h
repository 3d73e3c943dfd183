/* Weighted prompts as ComfyUI reads them: "a (red:1.3) cat ((very)) \(tm\)" to chunks of tokens with a weight each. */
#ifndef WEFT_PROMPT_H
#define WEFT_PROMPT_H

#include "nodes/text/tokenizer.h"

/* Chunks of WEFT_CLIP_LENGTH tokens: start, up to 75, end, padding. */
typedef struct weft_prompt {
    int chunks;
    int32_t *ids;               /* chunks × WEFT_CLIP_LENGTH */
    float *weights;
    bool weighted;              /* one of them is not 1 */
} weft_prompt;

/* Parses and tokenizes; at least one chunk. False with the error set (no UTF-8, out of memory, an embedding that is
 * asked for). */
bool weft_prompt_read(weft_ctx *c, const weft_tokenizer *t, const char *text, weft_prompt *out);
void weft_prompt_free(weft_prompt *p);

#endif
