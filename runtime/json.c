/* Builds the cJSON tree from text (the lexical part is json_text.c), and the typed look-ups with their messages.
 *
 * cJSON keeps numbers as doubles only. A whole number of more than 15 digits keeps its text in `valuestring`, which
 * cJSON leaves unused for numbers, copies with the node and frees with it.
 */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/file.h"
#include "runtime/internal.h"
#include "runtime/json.h"
#include "runtime/json_text.h"

#define NUMBER_LENGTH 400       /* characters; a double needs 17 */
#define EXACT_DIGITS 15
#define NO_MEMORY "no memory for the values"

struct key { const char *name; size_t pos; };

struct parser {
    weft_json_text t;
    int flags;
    int64_t values;
    struct key *keys;           /* of the objects that are open, innermost last */
    size_t key_count, key_room;
    size_t lines_before;        /* in the file that the text is from */
    locale_t locale;            /* "C": numbers have a point, whatever the program's language */
};

static cJSON *parse_value(struct parser *p, int depth);

static void *fault(struct parser *p, const char *what) {
    weft_json_fault(&p->t, what);
    return NULL;
}

static char *parse_string(struct parser *p) {
    char *s = cJSON_malloc(weft_json_string_room(&p->t) + 1);
    size_t length;
    if (!s) return fault(p, NO_MEMORY);
    if (weft_json_string(&p->t, s, &length)) return s;
    cJSON_free(s);
    return NULL;
}

static cJSON *parse_number(struct parser *p) {
    size_t start, length;
    bool whole;
    char text[NUMBER_LENGTH + 1];
    if (!weft_json_number(&p->t, &start, &length, &whole)) return NULL;
    if (length > NUMBER_LENGTH) return fault(p, "a number of more than 400 characters");
    memcpy(text, p->t.text + start, length);
    text[length] = 0;
    double value = strtod_l(text, NULL, p->locale);
    if (isinf(value)) return fault(p, "a number too large for a double");
    cJSON *node = cJSON_CreateNumber(value);
    if (!node) return fault(p, NO_MEMORY);
    if (!whole || length <= EXACT_DIGITS) return node;
    node->valuestring = cJSON_malloc(length + 1);
    if (node->valuestring) {
        memcpy(node->valuestring, text, length + 1);
        return node;
    }
    cJSON_Delete(node);
    return fault(p, NO_MEMORY);
}

static cJSON *parse_word(struct parser *p) {
    static const char *const words[] = { "true", "false", "null", "NaN", "Infinity", "-Infinity" };
    int count = p->flags & WEFT_JSON_NAN ? 6 : 3;
    for (int i = 0; i < count; i++) {
        size_t n = strlen(words[i]);
        if (p->t.size - p->t.pos < n || memcmp(p->t.text + p->t.pos, words[i], n)) continue;
        p->t.pos += n;
        static const double number[] = { NAN, INFINITY, -INFINITY };
        cJSON *node = i > 2 ? cJSON_CreateNumber(number[i - 3]) : i < 2 ? cJSON_CreateBool(!i) : cJSON_CreateNull();
        return node ? node : fault(p, NO_MEMORY);
    }
    return fault(p, "expected a value");
}

static bool remember_key(struct parser *p, const char *name, size_t pos) {
    if (p->key_count == p->key_room) {
        size_t room = p->key_room ? 2 * p->key_room : 64;
        struct key *keys = weft_host_resize(p->keys, room * sizeof *keys);
        if (!keys) return weft_json_fault(&p->t, NO_MEMORY);
        p->keys = keys;
        p->key_room = room;
    }
    p->keys[p->key_count++] = (struct key){ name, pos };
    return true;
}

static int by_name(const void *a, const void *b) {
    const struct key *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->pos < y->pos ? -1 : x->pos > y->pos;
}

/* At an object's end: a name that it has twice is a fault, at the second. */
static bool keys_differ(struct parser *p, size_t first) {
    if (p->key_count > first + 1) qsort(p->keys + first, p->key_count - first, sizeof *p->keys, by_name);
    for (size_t i = first + 1; i < p->key_count; i++) {
        if (strcmp(p->keys[i - 1].name, p->keys[i].name)) continue;
        p->t.pos = p->keys[i].pos;
        return weft_json_fault(&p->t, "a name that the object has already");
    }
    p->key_count = first;
    return true;
}

/* One member of an object, or one item of a list, appended to `into`. */
static bool parse_item(struct parser *p, cJSON *into, bool object, int depth) {
    char *name = NULL;
    if (object) {
        if (weft_json_peek(&p->t) != '"') return weft_json_fault(&p->t, "expected a name in quotes");
        size_t pos = p->t.pos;
        name = parse_string(p);
        if (!name) return false;
        if (!weft_json_take(&p->t, ':')) weft_json_fault(&p->t, "expected ':'");
        else remember_key(p, name, pos);
    }
    cJSON *value = p->t.fault ? NULL : parse_value(p, depth);
    if (!value) {
        cJSON_free(name);
        return false;
    }
    value->string = name;
    cJSON_AddItemToArray(into, value);
    return true;
}

static cJSON *parse_container(struct parser *p, bool object, int depth) {
    size_t first = p->key_count;
    char end = object ? '}' : ']';
    if (depth >= WEFT_JSON_DEPTH) return fault(p, "too many objects and lists inside each other");
    cJSON *node = object ? cJSON_CreateObject() : cJSON_CreateArray();
    if (!node) return fault(p, NO_MEMORY);
    p->t.pos++;
    if (!weft_json_take(&p->t, end)) {
        do {
            if (!parse_item(p, node, object, depth + 1)) goto fail;
        } while (weft_json_take(&p->t, ','));
        if (!weft_json_take(&p->t, end)) {
            weft_json_fault(&p->t, object ? "expected ',' or '}'" : "expected ',' or ']'");
            goto fail;
        }
    }
    if (!object || keys_differ(p, first)) return node;
fail:
    cJSON_Delete(node);
    return NULL;
}

static cJSON *parse_value(struct parser *p, int depth) {
    int ch = weft_json_peek(&p->t);
    if (++p->values > WEFT_JSON_VALUES) return fault(p, "too many values");
    if (ch == '{' || ch == '[') return parse_container(p, ch == '{', depth);
    if ((ch >= '0' && ch <= '9') || (ch == '-' && !(p->t.pos + 1 < p->t.size && p->t.text[p->t.pos + 1] == 'I')))
        return parse_number(p);
    if (ch != '"') return parse_word(p);
    char *s = parse_string(p);
    if (!s) return NULL;
    cJSON *node = cJSON_CreateNull();
    if (!node) {
        cJSON_free(s);
        return fault(p, NO_MEMORY);
    }
    node->type = cJSON_String;
    node->valuestring = s;
    return node;
}

static void report(weft_ctx *c, const char *file, const struct parser *p) {
    const weft_json_text *t = &p->t;
    size_t line, column;
    if (!strcmp(t->fault, NO_MEMORY)) {
        weft_fail(c, WEFT_E_MEMORY, "%s: %s", file, t->fault);
        return;
    }
    weft_json_where(t->text, t->pos, &line, &column);
    line += p->lines_before;
    char found[32] = "the end";
    unsigned char ch = t->pos < t->size ? (unsigned char)t->text[t->pos] : 0;
    if (t->pos < t->size) snprintf(found, sizeof found, ch > ' ' && ch < 0x7f ? "'%c'" : "byte 0x%02x", ch);
    bool expected = !strncmp(t->fault, "expected", 8);
    weft_fail(c, WEFT_E_FORMAT, "%s:%zu:%zu: %s%s%s", file, line, column, t->fault, expected ? ", found " : "",
        expected ? found : "");
}

static cJSON *parse_text(weft_ctx *c, const char *file, size_t lines_before, const char *text, size_t size, int flags) {
    struct parser p = { .t = { .text = text, .size = size }, .flags = flags, .lines_before = lines_before };
    if (size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) p.t.pos = 3;     /* some editors put a byte order mark */
    p.locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    cJSON *root = p.locale ? parse_value(&p, 0) : fault(&p, NO_MEMORY);
    if (root && weft_json_peek(&p.t) != -1) {
        cJSON_Delete(root);
        root = fault(&p, "expected nothing behind the value");
    }
    if (!root) report(c, file, &p);
    weft_host_free(p.keys);
    if (p.locale) freelocale(p.locale);
    return root;
}

cJSON *weft_json_parse(weft_ctx *c, const char *file, const char *text, size_t size, int flags) {
    return parse_text(c, file, 0, text, size, flags);
}

cJSON *weft_json_parse_line(weft_ctx *c, const char *file, size_t line, const char *text, size_t size) {
    return parse_text(c, file, line - 1, text, size, 0);
}

cJSON *weft_json_read(weft_ctx *c, const char *path, size_t limit, int flags) {
    size_t size;
    char *text = weft_file_read(c, path, limit, &size);
    if (!text) return NULL;
    cJSON *root = weft_json_parse(c, path, text, size, flags);
    weft_text_free(text);
    return root;
}

/* ---- values --------------------------------------------------------------------------------------------- */

const char *weft_json_kind(const cJSON *value) {
    if (!value) return "nothing";
    switch (value->type & 0xff) {
    case cJSON_False: return "false";
    case cJSON_True: return "true";
    case cJSON_NULL: return "null";
    case cJSON_Number: return "a number";
    case cJSON_String: return "a string";
    case cJSON_Array: return "a list";
    default: return "an object";
    }
}

bool weft_json_u64(const cJSON *value, uint64_t *out) {
    if (!cJSON_IsNumber(value)) return false;
    if (value->valuestring) {
        if (*value->valuestring == '-') return false;
        errno = 0;
        unsigned long long u = strtoull(value->valuestring, NULL, 10);
        *out = u;
        return errno == 0;
    }
    double d = value->valuedouble;
    if (!(d >= 0 && d <= 0x1p53 && d == floor(d))) return false;
    *out = (uint64_t)d;
    return true;
}

bool weft_json_i64(const cJSON *value, int64_t *out) {
    if (!cJSON_IsNumber(value)) return false;
    if (value->valuestring) {
        errno = 0;
        long long i = strtoll(value->valuestring, NULL, 10);
        *out = i;
        return errno == 0;
    }
    double d = value->valuedouble;
    if (!(d >= -0x1p53 && d <= 0x1p53 && d == floor(d))) return false;
    *out = (int64_t)d;
    return true;
}

/* ---- settings ------------------------------------------------------------------------------------------- */

const cJSON *weft_json_field(const weft_json *j, const char *key) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(j->object, key);
    return cJSON_IsNull(value) ? NULL : value;
}

const cJSON *weft_json_need(const weft_json *j, const char *key) {
    const cJSON *value = weft_json_field(j, key);
    if (!value) weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s is missing", j->file, key);
    return value;
}

/* What stands there, for a message: a number as itself, other values by kind. */
static void wrong(const weft_json *j, const char *key, const char *expected, const cJSON *value) {
    char number[32];
    if (cJSON_IsNumber(value)) snprintf(number, sizeof number, "%.17g", value->valuedouble);
    weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: expected %s, found %s", j->file, key, expected,
        cJSON_IsNumber(value) ? number : weft_json_kind(value));
}

static void wrong_int(
    const weft_json *j, const char *key, const char *expected, int64_t low, int64_t high, const cJSON *value) {
    char text[120];
    snprintf(text, sizeof text, "%s from %lld to %lld", expected, (long long)low, (long long)high);
    wrong(j, key, text, value);
}

int64_t weft_json_int(const weft_json *j, const char *key, int64_t low, int64_t high, int64_t fallback) {
    const cJSON *value = weft_json_field(j, key);
    int64_t i;
    if (!value) return fallback;
    if (weft_json_i64(value, &i) && i >= low && i <= high) return i;
    wrong_int(j, key, "a whole number", low, high, value);
    return fallback;
}

double weft_json_double(const weft_json *j, const char *key, double fallback) {
    const cJSON *value = weft_json_field(j, key);
    if (!value) return fallback;
    if (cJSON_IsNumber(value)) return value->valuedouble;
    wrong(j, key, "a number", value);
    return fallback;
}

bool weft_json_bool(const weft_json *j, const char *key, bool fallback) {
    const cJSON *value = weft_json_field(j, key);
    if (!value) return fallback;
    if (cJSON_IsBool(value)) return cJSON_IsTrue(value);
    wrong(j, key, "true or false", value);
    return fallback;
}

const char *weft_json_text_of(const weft_json *j, const char *key, const char *fallback) {
    const cJSON *value = weft_json_field(j, key);
    if (!value) return fallback;
    if (cJSON_IsString(value)) return value->valuestring;
    wrong(j, key, "a string", value);
    return fallback;
}

int weft_json_ints(const weft_json *j, const char *key, int64_t low, int64_t high, int64_t *out, int room) {
    const cJSON *value = weft_json_field(j, key);
    if (!value) return 0;
    int64_t i;
    if (weft_json_i64(value, &i) && i >= low && i <= high && room > 0) {
        *out = i;
        return 1;
    }
    const cJSON *item = cJSON_IsArray(value) ? value->child : value;
    int n = 0;
    for (; cJSON_IsArray(value) && item; item = item->next) {
        if (n == room) {
            weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: expected a list of at most %d", j->file, key, room);
            return 0;
        }
        if (!weft_json_i64(item, &i) || i < low || i > high) break;
        out[n++] = i;
    }
    if (cJSON_IsArray(value) && !item && n) return n;
    wrong_int(j, key, cJSON_IsArray(value) ? "a list of whole numbers" : "a whole number or a list of them,", low, high,
        item ? item : value);
    return 0;
}
