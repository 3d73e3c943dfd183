/* JSON files as a cJSON tree, read strictly: what a fault message says is "file:line:column: what is wrong".
 *
 * Stricter than cJSON's own reader: RFC 8259 to the letter, UTF-8 checked, no key twice in an object, bounded depth,
 * nothing behind the value. Numbers are doubles; a whole number that a double may not hold keeps its digits
 * (weft_json_u64, weft_json_i64).
 */
#ifndef WEFT_JSON_H
#define WEFT_JSON_H

#include <cjson/cJSON.h>
#include "runtime/weft.h"

#define WEFT_JSON_DEPTH 100             /* objects and lists inside each other */
#define WEFT_JSON_VALUES 4000000        /* values in one text: about 300 MB of tree */

enum {
    WEFT_JSON_NAN = 1       /* takes NaN, Infinity and -Infinity, as Python writes them */
};

/* The tree, to be freed by cJSON_Delete(); NULL with the error set. `file` names the text in messages. */
cJSON *weft_json_parse(weft_ctx *c, const char *file, const char *text, size_t size, int flags);
/* The same from one line of a file of JSON Lines: `line`, from 1, is what messages say. */
cJSON *weft_json_parse_line(weft_ctx *c, const char *file, size_t line, const char *text, size_t size);
/* The same from a file of at most `limit` bytes. */
cJSON *weft_json_read(weft_ctx *c, const char *path, size_t limit, int flags);

/* Exactly this whole number ("12", "1e3", "2.0"); false for another kind of value, a fraction, or one out of range. */
bool weft_json_i64(const cJSON *value, int64_t *out);
bool weft_json_u64(const cJSON *value, uint64_t *out);
/* "a string", "a list", …, for messages. */
const char *weft_json_kind(const cJSON *value);

/* ---- settings: the fields of an object, for config.json and the like ---------------------------------------- */

typedef struct weft_json {
    weft_ctx *ctx;
    const char *file;           /* for messages */
    const cJSON *object;
} weft_json;

/* Each returns the field's value, or `fallback` where it is absent or null. A field of another kind or out of range
 * sets the error, "FILE: KEY: expected …, found …", and gives the fallback. */
int64_t weft_json_int(const weft_json *j, const char *key, int64_t low, int64_t high, int64_t fallback);
double weft_json_double(const weft_json *j, const char *key, double fallback);
bool weft_json_bool(const weft_json *j, const char *key, bool fallback);
const char *weft_json_text_of(const weft_json *j, const char *key, const char *fallback);
/* A list of 1 to `room` whole numbers, or a single one as a list of one, to out. Returns how many; 0 where absent or
 * wrong. */
int weft_json_ints(const weft_json *j, const char *key, int64_t low, int64_t high, int64_t *out, int room);
/* The field, or NULL where it is absent or null. */
const cJSON *weft_json_field(const weft_json *j, const char *key);
/* The same; absent is an error that names it. */
const cJSON *weft_json_need(const weft_json *j, const char *key);

#endif
