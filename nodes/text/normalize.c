/* NFC by utf8proc, except for the ordering of combining marks: utf8proc's takes quadratic time where a hostile text has
 * a long run of them. See normalize.h.
 */
#include "nodes/text/normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Capitals of Unicode 16 and 17, which utf8proc 2.8 does not know yet: first to last, and how far down the small ones
 * are. */
static const struct { int32_t first, last, step; } young_capitals[] = {
    { 0x1C89, 0x1C89, 1 }, { 0xA7CB, 0xA7CB, 0x264 - 0xA7CB }, { 0xA7CC, 0xA7CC, 1 }, { 0xA7CE, 0xA7CE, 1 },
    { 0xA7D2, 0xA7D2, 1 }, { 0xA7D4, 0xA7D4, 1 }, { 0xA7DA, 0xA7DA, 1 }, { 0xA7DC, 0xA7DC, 0x19B - 0xA7DC },
    { 0x10D50, 0x10D65, 0x20 }, { 0x16EA0, 0x16EB8, 0x1B },
};

/* Combining marks of Unicode 10 to 15. The original's NFC is older and leaves them where they are: nothing moves past
 * them, nothing composes across them. */
static const int32_t young_marks[][2] = {
    { 0x7FD, 0x7FD }, { 0x898, 0x89F }, { 0x8CA, 0x8D3 }, { 0x9FE, 0x9FE }, { 0xC3C, 0xC3C }, { 0xD3B, 0xD3C },
    { 0xEBA, 0xEBA },
    { 0x1715, 0x1715 }, { 0x1ABF, 0x1ACE }, { 0x1DF6, 0x1DFA }, { 0xA82C, 0xA82C }, { 0x10D24, 0x10D27 },
    { 0x10EAB, 0x10EAC },
    { 0x10EFD, 0x10EFF }, { 0x10F46, 0x10F50 }, { 0x10F82, 0x10F85 }, { 0x11070, 0x11070 }, { 0x1133B, 0x1133B },
    { 0x1145E, 0x1145E }, { 0x11839, 0x1183A }, { 0x1193D, 0x1193E }, { 0x11943, 0x11943 }, { 0x119E0, 0x119E0 },
    { 0x11A34, 0x11A34 }, { 0x11A47, 0x11A47 }, { 0x11A99, 0x11A99 }, { 0x11D42, 0x11D42 }, { 0x11D44, 0x11D45 },
    { 0x11D97, 0x11D97 }, { 0x11F41, 0x11F42 }, { 0x16FF0, 0x16FF1 }, { 0x1E08F, 0x1E08F }, { 0x1E130, 0x1E136 },
    { 0x1E2AE, 0x1E2AE }, { 0x1E2EC, 0x1E2EF }, { 0x1E4EC, 0x1E4EF },
};

void weft_normal_free(weft_normal *n) {
    free(n->text);
    free(n->points);
    *n = (weft_normal){ 0 };
}

ssize_t weft_utf8_fault(const char *text, size_t bytes) {
    utf8proc_int32_t point;
    for (size_t at = 0; at < bytes;) {
        if ((unsigned char)text[at] < 0x80) { at++; continue; }
        ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + at, (ssize_t)(bytes - at), &point);
        if (n <= 0) return (ssize_t)at;
        at += (size_t)n;
    }
    return -1;
}

/* White space as Unicode's property has it. */
static bool is_space(int32_t point) {
    if (point < 0x80) return point == ' ' || (point >= 9 && point <= 13);
    if (point == 0x85) return true;
    utf8proc_category_t kind = utf8proc_category(point);
    return kind == UTF8PROC_CATEGORY_ZS || kind == UTF8PROC_CATEGORY_ZL || kind == UTF8PROC_CATEGORY_ZP;
}

static int32_t lower(int32_t point) {
    if (point < 0x80) return point >= 'A' && point <= 'Z' ? point + 32 : point;
    for (size_t i = 0; i < sizeof young_capitals / sizeof *young_capitals; i++)
        if (point >= young_capitals[i].first && point <= young_capitals[i].last) return point + young_capitals[i].step;
    return utf8proc_tolower(point);
}

static int mark_class(int32_t point) {
    return utf8proc_get_property(point)->combining_class;
}

static bool is_young_mark(int32_t point) {
    if (!mark_class(point)) return false;
    for (size_t i = 0; i < sizeof young_marks / sizeof *young_marks; i++)
        if (point >= young_marks[i][0] && point <= young_marks[i][1]) return true;
    return false;
}

/* A character's combining class with its place, so that a plain sort keeps the order of equals. */
static int mark_order(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Sorts each run of combining marks by their classes. False without memory. */
static bool order_marks(int32_t *point, size_t count) {
    for (size_t i = 0; i < count;) {
        size_t first = i;
        bool ordered = true;
        int before = 0, kind = 0;
        for (; i < count && (kind = mark_class(point[i])) != 0; i++) {
            ordered = ordered && kind >= before;
            before = kind;
        }
        size_t n = i - first;
        if (!ordered) {
            /* The class above, the place in the run below it: 8 and 32 bits; the characters follow by the place. */
            uint64_t *key = malloc(n * (sizeof *key + sizeof *point));
            if (!key) return false;
            int32_t *copy = (int32_t *)(key + n);
            for (size_t j = 0; j < n; j++) {
                copy[j] = point[first + j];
                key[j] = (uint64_t)mark_class(copy[j]) << 32 | j;
            }
            qsort(key, n, sizeof *key, mark_order);
            for (size_t j = 0; j < n; j++) point[first + j] = copy[key[j] & UINT32_MAX];
            free(key);
        }
        if (i == first) i++;
    }
    return true;
}

/* Decodes into n->points, canonically decomposed. The number of characters; −1 without memory. */
static ssize_t decompose(weft_normal *n, const char *text, size_t bytes) {
    size_t count = 0;
    utf8proc_int32_t point;
    int boundary = 0;
    for (size_t at = 0; at < bytes;) {
        /* No character has more than four in its decomposition. */
        if (n->points_room - count < 8) {
            size_t room = n->points_room ? 2 * n->points_room : bytes + 64;
            int32_t *grown = realloc(n->points, room * sizeof *grown);
            if (!grown) return -1;
            n->points = grown;
            n->points_room = room;
        }
        ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text + at, (ssize_t)(bytes - at), &point);
        if (used <= 0) return -1;
        at += (size_t)used;
        ssize_t made = utf8proc_decompose_char(point, n->points + count, (ssize_t)(n->points_room - count),
                                               UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
        if (made < 0 || (size_t)made > n->points_room - count) return -1;
        count += (size_t)made;
    }
    return (ssize_t)count;
}

/* Orders and composes decomposed characters in place. How many are left; −1 without memory. */
static ssize_t compose(int32_t *point, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count;) {
        size_t n = 0;
        while (i + n < count && !is_young_mark(point[i + n])) n++;
        if (n) {
            if (!order_marks(point + i, n)) return -1;
            ssize_t left = utf8proc_normalize_utf32(point + i, (ssize_t)n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
            if (left < 0) return -1;
            memmove(point + kept, point + i, (size_t)left * sizeof *point);
            kept += (size_t)left;
            i += n;
        }
        while (i < count && is_young_mark(point[i])) point[kept++] = point[i++];
    }
    return (ssize_t)kept;
}

bool weft_normalize(weft_normal *n, const char *text, size_t bytes) {
    n->size = 0;
    ssize_t count = decompose(n, text, bytes);
    if (count > 0) count = compose(n->points, (size_t)count);
    if (count < 0) return false;

    /* Four bytes a character, and one of them may become two: İ is i and a dot above. */
    size_t room = 4 * (size_t)count + 4;
    if (room > n->text_room) {
        char *grown = realloc(n->text, room);
        if (!grown) return false;
        n->text = grown;
        n->text_room = room;
    }
    utf8proc_uint8_t *out = (utf8proc_uint8_t *)n->text;
    bool space = false;
    for (ssize_t i = 0; i < count; i++) {
        int32_t point = n->points[i];
        if (is_space(point)) {
            if (!space) *out++ = ' ';
            space = true;
            continue;
        }
        space = false;
        out += utf8proc_encode_char(lower(point), out);
        if (point == 0x130) out += utf8proc_encode_char(0x307, out);
    }
    n->size = (size_t)(out - (utf8proc_uint8_t *)n->text);
    return true;
}
