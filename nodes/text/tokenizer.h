/* CLIP's tokenizer: text to numbers of its vocabulary, the same as transformers' CLIPTokenizer gives.
 *
 *   text → special tokens cut out → NFC, white space to one space, lower case → words (letters; single digits; runs of
 *   other signs; 's 't 're 've 'm 'll 'd) → bytes in the 256-letter alphabet of GPT-2, the last with "</w>" → byte-pair
 *   merges → ids
 *
 * "<|startoftext|>" and "<|endoftext|>" inside a text become their own ids, as they do there.
 * Sources: OpenAI CLIP, simple_tokenizer.py; transformers 5, tokenization_clip.py and tokenization_utils_base.py;
 * tokenizers 0.23.
 * An open tokenizer is never changed by encoding: any number of threads may use it, each with its own
 * context.
 */
#ifndef WEFT_TOKENIZER_H
#define WEFT_TOKENIZER_H

#include "runtime/weft.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_CLIP_LENGTH 77                     /* tokens that Stable Diffusion's text encoders take: start, 75, end */
#define WEFT_TEXT_LIMIT ((size_t)16 << 20)      /* bytes of one text */

typedef struct weft_tokenizer weft_tokenizer;

/* Numbers of tokens; grows as needed. Start from {0}. */
typedef struct weft_ids {
    int32_t *at;
    int64_t count, room;
} weft_ids;
void weft_ids_free(weft_ids *ids);              /* and zeroes it, for the next use */

/* Opens a folder with vocab.json and merges.txt, or with a tokenizer.json; tokenizer_config.json,
 * special_tokens_map.json and added_tokens.json are read where they are there. NULL with the error set: the message
 * names the file, and the line or key. */
weft_tokenizer *weft_tokenizer_open_folder(weft_ctx *c, const char *folder);
/* Opens OpenAI's vocabulary, unpacked: a title line, then one merge a line, of which the first 48 894 count. */
weft_tokenizer *weft_tokenizer_open_text(weft_ctx *c, const char *path);
/* The same from memory; `name` stands for the file in messages. */
weft_tokenizer *weft_tokenizer_parse_text(weft_ctx *c, const char *name, const char *text, size_t size);
/* The vocabulary of all Stable Diffusion models, where the build has it; otherwise the error says how to get it. */
weft_tokenizer *weft_tokenizer_open_builtin(weft_ctx *c);
bool weft_tokenizer_has_builtin(void);
void weft_tokenizer_free(weft_tokenizer *t);    /* takes NULL */

/* A tokenizer like `t` that knows one token more: where `text` stands, it gives the `count` ids from `first` on, which
 * must lie behind its own. As transformers' added tokens: cut out of the normalized text, wherever it stands. NULL with
 * the error set. t may be freed before it. */
weft_tokenizer *weft_tokenizer_extend(weft_ctx *c, const weft_tokenizer *t, const char *text, int32_t first,
                                      int32_t count);

/* Writes vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json into a folder that is there, for
 * weft_tokenizer_open_folder() and transformers. length: the model's tokens, written as model_max_length. */
weft_status weft_tokenizer_save(weft_ctx *c, const weft_tokenizer *t, const char *folder, int length) WEFT_MUST_CHECK;

int32_t weft_tokenizer_bos(const weft_tokenizer *t);
int32_t weft_tokenizer_eos(const weft_tokenizer *t);
/* What fills the rest behind the end: the end token itself (49407) unless the folder says otherwise. Stable Diffusion 2
 * and the larger encoder of SDXL want 0. */
int32_t weft_tokenizer_pad(const weft_tokenizer *t);
weft_status weft_tokenizer_set_pad(weft_ctx *c, weft_tokenizer *t, int32_t pad);
/* One more than the highest id. */
int32_t weft_tokenizer_size(const weft_tokenizer *t);
/* A token as the vocabulary has it ("hel", "lo</w>", letters of the byte alphabet); NULL where no token has this id. */
const char *weft_tokenizer_token(const weft_tokenizer *t, int32_t id);

/* Appends the ids of a text: neither start nor end, any length. The text need not end in 0 and may hold zeros. An error
 * where it is not UTF-8 (the message tells the byte) or too long; *ids is then as it was. */
weft_status weft_tokenizer_encode(weft_ctx *c, const weft_tokenizer *t, const char *text, size_t bytes,
                                  weft_ids *ids) WEFT_MUST_CHECK;

/* Writes start, as many of the ids as fit, end, and pads, together `length` (≥ 2). Returns how many ids did not fit. */
int64_t weft_tokenizer_frame(const weft_tokenizer *t, const int32_t *ids, int64_t count, int32_t *out, int64_t length);

/* n texts, each ended by 0, encoded and framed: (n, length) i32, in the innermost scope. *cut, unless NULL: ids that
 * did not fit, of all texts. */
weft_tensor *weft_tokenizer_texts(weft_ctx *c, const weft_tokenizer *t, int n, const char *const *texts, int64_t length,
                                  int64_t *cut);

/* The text of ids, for looking at: words and signs parted by spaces, bytes that are no UTF-8 as U+FFFD, unknown ids
 * left out. malloc'd, ended by 0; NULL with the error set. */
char *weft_tokenizer_decode(weft_ctx *c, const weft_tokenizer *t, const int32_t *ids, int64_t count, size_t *size);

#ifdef __cplusplus
}
#endif
#endif
