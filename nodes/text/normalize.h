/* What CLIP's tokenizer does to a text before it cuts it into words: NFC, white space to single spaces, lower case.
 *
 * Equal, for every character, to tokenizers 0.23: NFC(), Replace(\s+ → " "), Lowercase(). Lower case is character by
 * character (a capital sigma is σ anywhere) and comes after NFC, which is not done again. NFC: Unicode Annex 15.
 */
#ifndef WEFT_TEXT_NORMALIZE_H
#define WEFT_TEXT_NORMALIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Bytes and characters that normalizing works in, kept from one text to the next. Start from {0}. */
typedef struct weft_normal {
    char *text;             /* the result, UTF-8, not ended by 0 */
    size_t size;
    size_t text_room;
    int32_t *points;
    size_t points_room;
} weft_normal;
void weft_normal_free(weft_normal *n);

/* Where the first byte that is not part of well-formed UTF-8 stands; −1: there is none. */
ssize_t weft_utf8_fault(const char *text, size_t bytes);

/* Normalizes well-formed UTF-8 into n->text. False without memory. The time is linear but for a sort of each run of
 * combining marks. */
bool weft_normalize(weft_normal *n, const char *text, size_t bytes);

#endif
