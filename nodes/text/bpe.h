/* Byte-pair encoding over the byte alphabet of GPT-2: a vocabulary, its merges, and words as numbers by them.
 *
 * Each byte of a word is one letter of the alphabet, the last one with "</w>" behind it. Then the two neighbours whose
 * merge has the lowest rank, and of equals the leftmost, become one token, until no neighbours have a merge.
 * Takes n log n. Sources: Sennrich et al. 2016 (arXiv:1508.07909); tokenizers 0.23, models/bpe.
 */
#ifndef WEFT_TEXT_BPE_H
#define WEFT_TEXT_BPE_H

#include "nodes/text/tokenizer.h"

#define WEFT_BPE_IDS 16000000       /* ids are below */

typedef struct weft_bpe weft_bpe;

/* Building: new, all tokens, index, all merges, finish. NULL without memory. */
weft_bpe *weft_bpe_new(void);
weft_bpe *weft_bpe_ref(weft_bpe *b);    /* one user more: each frees it */
void weft_bpe_free(weft_bpe *b);    /* takes NULL */
/* Texts are in the byte alphabet, UTF-8. `id` must be 0…WEFT_BPE_IDS − 1. False without memory. */
bool weft_bpe_add(weft_bpe *b, const char *text, size_t bytes, int32_t id);
/* Sorts the tokens. False without memory, or where a text or an id is there twice: *twice is then the id, of two the
 * higher. */
bool weft_bpe_index(weft_bpe *b, int32_t *twice);
/* The id of a token; −1 where there is none. */
int32_t weft_bpe_find(const weft_bpe *b, const char *text, size_t bytes);
/* The next merge, of a rank below all before it. False without memory. */
bool weft_bpe_merge(weft_bpe *b, int32_t left, int32_t right, int32_t id);
/* unknown: what stands for a byte that the vocabulary has not; −1: it is left out. False without memory. */
bool weft_bpe_finish(weft_bpe *b, int32_t unknown);

int32_t weft_bpe_size(const weft_bpe *b);                           /* one more than the highest id */
const char *weft_bpe_token(const weft_bpe *b, int32_t id);          /* NULL where there is none */

/* All merges in order of rank, the texts of both tokens. False without memory. */
bool weft_bpe_merges(const weft_bpe *b, void (*each)(void *user, const char *left, const char *right), void *user);

/* The alphabet: the letter of a byte, and the byte of a letter (−1: none has it). */
int32_t weft_bpe_letter(int byte);
int weft_bpe_byte(int32_t letter);
/* UTF-8 of a byte's letter to out (2 bytes at most); returns how many bytes. */
size_t weft_bpe_letter_text(int byte, char *out);

/* What encoding words works in. Start from {0}. */
typedef struct weft_bpe_work {
    struct weft_bpe_symbol *symbol;
    size_t symbol_room;
    struct weft_bpe_candidate *heap;
    size_t heap_count, heap_room;
} weft_bpe_work;
void weft_bpe_work_free(weft_bpe_work *w);

/* Appends an id; false without memory. */
bool weft_ids_push(weft_ids *ids, int32_t id);
/* Appends the tokens of a word, plain bytes. False without memory. */
bool weft_bpe_word(const weft_bpe *b, weft_bpe_work *w, const char *word, size_t bytes, weft_ids *ids);

#endif
