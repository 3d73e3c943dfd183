/* Where a tokenizer's tables come from: a folder, OpenAI's text, or the build. */
#ifndef WEFT_TEXT_VOCABULARY_H
#define WEFT_TEXT_VOCABULARY_H

#include "nodes/text/bpe.h"

#define WEFT_SPECIALS 1024      /* special and added tokens, at most */

/* A token that is cut out of a text whole. */
typedef struct weft_special {
    char *text;                 /* owned, ended by 0 */
    int32_t id, count;          /* the ids it stands for: count of them from id on */
    bool normalized;            /* looked for in the normalized text, in that form; otherwise in the text as it is */
    bool first_listed;          /* it is in a list of added tokens, which counts more than a setting like "pad_token" */
} weft_special;

typedef struct weft_vocabulary {
    weft_bpe *bpe;
    weft_special *special;
    int specials;
    int32_t bos, eos, pad;
} weft_vocabulary;

/* Each fills *v from zero; on an error *v is to be freed all the same. */
weft_status weft_vocabulary_from_folder(weft_ctx *c, weft_vocabulary *v, const char *folder) WEFT_MUST_CHECK;
weft_status weft_vocabulary_from_text(weft_ctx *c, weft_vocabulary *v, const char *name, const char *text,
                                      size_t size) WEFT_MUST_CHECK;
void weft_vocabulary_free(weft_vocabulary *v);

/* Adds a special token, or changes the one of this text; id −1: the vocabulary's, or else the next free one. `file` for
 * messages. */
weft_status weft_vocabulary_special(weft_ctx *c, weft_vocabulary *v, const char *file, const char *text, int32_t id,
                                    bool normalized, bool first_listed);
/* A copy of `from`, which shares its tokens and merges, with one special token more, for `count` ids from `first` on
 * (behind all others). The error is set where the text is a token already, or nothing. */
weft_status weft_vocabulary_extend(weft_ctx *c, weft_vocabulary *v, const weft_vocabulary *from, const char *text,
                                   int32_t first, int32_t count) WEFT_MUST_CHECK;
/* −1: no token has this text. */
int32_t weft_vocabulary_find(const weft_vocabulary *v, const char *text);

/* What a tokenizer was opened from; borrowed. */
const weft_vocabulary *weft_tokenizer_vocabulary(const weft_tokenizer *t);

/* OpenAI's text that was built in (builtin_vocabulary.c); NULL where none was. */
const char *weft_builtin_vocabulary(size_t *size);

#endif
