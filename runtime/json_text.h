/* JSON as text (RFC 8259): strings, numbers, white space. For the tree (json.h) and for safetensors headers, which
 * are too long for one. */
#ifndef WEFT_JSON_TEXT_H
#define WEFT_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct weft_json_text {
    const char *text;
    size_t size, pos;
    const char *fault;      /* what is wrong at pos; NULL: nothing yet */
} weft_json_text;

/* The next byte that is no white space, without taking it; −1 at the end. */
int weft_json_peek(weft_json_text *t);
/* Takes this byte, after white space; false where there is another. */
bool weft_json_take(weft_json_text *t, char byte);
/* Records a fault unless there is one; always false. */
bool weft_json_fault(weft_json_text *t, const char *fault);

/* At an opening quote: an upper bound of the decoded string's bytes, without the closing 0. */
size_t weft_json_string_room(const weft_json_text *t);
/* At an opening quote: takes the string, decoded, to out with a 0 behind. False with a fault: not closed, control
 * characters, bad escapes, \u0000, half a surrogate pair, bytes that are not UTF-8. */
bool weft_json_string(weft_json_text *t, char *out, size_t *length);

/* Whether a string is UTF-8 throughout. */
bool weft_json_is_utf8(const char *s);

/* Makes a text that may quote anybody's file fit for one line of a terminal: control characters become spaces, and a
 * character that lost its last bytes at the text's end goes. */
void weft_text_tidy(char *s);

/* Takes a number; its text is text[*start], *length bytes. *whole: neither a fraction nor an exponent. */
bool weft_json_number(weft_json_text *t, size_t *start, size_t *length, bool *whole);

/* Line and column (in characters) of a byte, both from 1. */
void weft_json_where(const char *text, size_t pos, size_t *line, size_t *column);

#endif
