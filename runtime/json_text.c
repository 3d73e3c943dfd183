/* The lexical level of JSON (RFC 8259), strict: each fault is found at its byte. */
#include <stdint.h>
#include <string.h>
#include "runtime/json_text.h"

bool weft_json_fault(weft_json_text *t, const char *fault) {
    if (!t->fault) t->fault = fault;
    return false;
}

int weft_json_peek(weft_json_text *t) {
    while (t->pos < t->size) {
        char ch = t->text[t->pos];
        if (ch != ' ' && ch != '\n' && ch != '\t' && ch != '\r') return (unsigned char)ch;
        t->pos++;
    }
    return -1;
}

bool weft_json_take(weft_json_text *t, char byte) {
    if (weft_json_peek(t) != (unsigned char)byte) return false;
    t->pos++;
    return true;
}

size_t weft_json_string_room(const weft_json_text *t) {
    size_t i = t->pos + 1;
    while (i < t->size && t->text[i] != '"') i += t->text[i] == '\\' ? 2 : 1;
    return (i < t->size ? i : t->size) - t->pos - 1;
}

/* Bytes of the UTF-8 character at p, with `left` bytes there; 0 where it is none (overlong forms, surrogates and
 * numbers past U+10FFFF are none). The Unicode Standard, table 3-7. */
static size_t utf8_length(const unsigned char *p, size_t left) {
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    if (!n || left < n) return 0;
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return n;
}

bool weft_json_is_utf8(const char *s) {
    size_t left = strlen(s);
    while (left) {
        size_t n = utf8_length((const unsigned char *)s, left);
        if (!n) return false;
        s += n;
        left -= n;
    }
    return true;
}

void weft_text_tidy(char *s) {
    size_t n = strlen(s), back = 0;
    for (unsigned char *p = (unsigned char *)s; *p; p++) {
        if (p[0] < 0x20 || p[0] == 0x7f) p[0] = ' ';
        else if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) p[0] = p[1] = ' ';
    }
    while (back < 3 && back < n && ((unsigned char)s[n - 1 - back] & 0xc0) == 0x80) back++;     /* what follows a first byte */
    if (back == n) return;
    unsigned char first = (unsigned char)s[n - 1 - back];
    size_t wanted = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : 0;
    if (back < wanted) s[n - 1 - back] = 0;
}

static size_t utf8_put(char *out, uint32_t u) {
    if (u < 0x80) {
        out[0] = (char)u;
        return 1;
    }
    size_t n = u < 0x800 ? 2 : u < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i; i--, u >>= 6) out[i] = (char)(0x80 | (u & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | u);
    return n;
}

/* Four hexadecimal digits at pos; −1 where there are not. */
static int32_t hex4(const weft_json_text *t, size_t pos) {
    int32_t u = 0;
    if (t->size - pos < 4) return -1;
    for (size_t i = pos; i < pos + 4; i++) {
        char ch = t->text[i];
        static const char hex[] = "0123456789abcdefABCDEF";
        const char *at = ch ? strchr(hex, ch) : NULL;
        if (!at) return -1;
        u = u << 4 | (int32_t)(at - hex < 16 ? at - hex : at - hex - 6);
    }
    return u;
}

/* Behind "\u": the character, of one escape or a pair; 0 with a fault. */
static uint32_t unicode_escape(weft_json_text *t) {
    int32_t u = hex4(t, t->pos);
    if (u < 0) return weft_json_fault(t, "\\u without four hexadecimal digits");
    if (u == 0) return weft_json_fault(t, "\\u0000 in a string");
    t->pos += 4;
    if (u < 0xd800 || u > 0xdfff) return (uint32_t)u;
    bool pair = u < 0xdc00 && t->size - t->pos >= 6 && t->text[t->pos] == '\\' && t->text[t->pos + 1] == 'u';
    int32_t second = pair ? hex4(t, t->pos + 2) : -1;
    if (second < 0xdc00 || second > 0xdfff) return weft_json_fault(t, "half of a surrogate pair");
    t->pos += 6;
    return 0x10000u + ((uint32_t)(u - 0xd800) << 10) + (uint32_t)(second - 0xdc00);
}

/* Behind a backslash. Returns the bytes put; 0 with a fault. */
static size_t escape(weft_json_text *t, char *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char ch = t->pos < t->size ? t->text[t->pos] : 0;
    if (ch == 'u') {
        t->pos++;
        uint32_t u = unicode_escape(t);
        return u ? utf8_put(out, u) : 0;
    }
    const char *at = ch ? strchr(from, ch) : NULL;
    if (!at) return weft_json_fault(t, "an unknown escape in a string");
    t->pos++;
    *out = to[at - from];
    return 1;
}

bool weft_json_string(weft_json_text *t, char *out, size_t *length) {
    char *start = out;
    t->pos++;
    while (t->pos < t->size) {
        unsigned char ch = (unsigned char)t->text[t->pos];
        if (ch == '"') {
            t->pos++;
            *out = 0;
            *length = (size_t)(out - start);
            return true;
        }
        if (ch == '\\') {
            t->pos++;
            size_t n = escape(t, out);
            if (!n) return false;
            out += n;
            continue;
        }
        if (ch < 0x20) return weft_json_fault(t, "a control character in a string");
        size_t n = utf8_length((const unsigned char *)t->text + t->pos, t->size - t->pos);
        if (!n) return weft_json_fault(t, "bytes that are not UTF-8");
        memcpy(out, t->text + t->pos, n);
        out += n;
        t->pos += n;
    }
    return weft_json_fault(t, "a string that does not end");
}

static size_t digits(weft_json_text *t) {
    size_t start = t->pos;
    while (t->pos < t->size && t->text[t->pos] >= '0' && t->text[t->pos] <= '9') t->pos++;
    return t->pos - start;
}

static bool next_is(const weft_json_text *t, const char *set) {
    return t->pos < t->size && t->text[t->pos] && strchr(set, t->text[t->pos]);
}

bool weft_json_number(weft_json_text *t, size_t *start, size_t *length, bool *whole) {
    *start = t->pos;
    *whole = true;
    if (next_is(t, "-")) t->pos++;
    bool zero = next_is(t, "0");
    size_t n = digits(t);
    if (!n) return weft_json_fault(t, "expected a digit");
    if (zero && n > 1) return weft_json_fault(t, "a number that begins with 0");
    if (next_is(t, ".")) {
        *whole = false;
        t->pos++;
        if (!digits(t)) return weft_json_fault(t, "expected a digit after the point");
    }
    if (next_is(t, "eE")) {
        *whole = false;
        t->pos++;
        if (next_is(t, "+-")) t->pos++;
        if (!digits(t)) return weft_json_fault(t, "expected a digit in the exponent");
    }
    *length = t->pos - *start;
    return true;
}

void weft_json_where(const char *text, size_t pos, size_t *line, size_t *column) {
    *line = *column = 1;
    for (size_t i = 0; i < pos; i++) {
        if (text[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)text[i] & 0xc0) != 0x80) {
            ++*column;
        }
    }
}
