/* The header of a safetensors file, in one pass over its text:
 *     {"__metadata__": {"key": "value", …}, "name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}, …}
 * Offsets count from the header's end. A header may have 100 MB, so there is no tree: strings are decoded into one
 * block, and names and extents are checked by sorting.
 */
#include <stdlib.h>
#include <string.h>
#include "runtime/internal.h"
#include "runtime/json_text.h"
#include "runtime/safetensors_internal.h"

struct header {
    weft_ctx *c;
    weft_safetensors *f;
    weft_json_text t;
    const unsigned char *data;
    size_t data_size;
};

/* Types of the format (safetensors/src/tensor.rs). type −1: Weft has none of it. */
struct file_type { const char *name; int bits, type; };
static const struct file_type file_types[] = {
    { "F32", 32, WEFT_F32 }, { "F16", 16, WEFT_F16 }, { "BF16", 16, WEFT_BF16 }, { "F64", 64, WEFT_F64 },
    { "I64", 64, WEFT_I64 }, { "I32", 32, WEFT_I32 }, { "U8", 8, WEFT_U8 },
    { "BOOL", 8, -1 }, { "I8", 8, -1 }, { "I16", 16, -1 }, { "U16", 16, -1 }, { "U32", 32, -1 }, { "U64", 64, -1 },
    { "F8_E5M2", 8, -1 }, { "F8_E4M3", 8, -1 }, { "F8_E8M0", 8, -1 }, { "F8_E5M2FNUZ", 8, -1 },
    { "F8_E4M3FNUZ", 8, -1 }, { "F4", 4, -1 }, { "F6_E2M3", 6, -1 }, { "F6_E3M2", 6, -1 }, { "C64", 64, -1 }
};

const char *st_show(const char *name, char out[ST_SHOWN]) {
    size_t n = 0;
    out[n++] = '"';
    while (*name && (n < 100 || ((unsigned char)*name & 0xc0) == 0x80)) {
        unsigned char ch = (unsigned char)*name++;
        out[n++] = ch < 0x20 || ch == 0x7f ? '?' : (char)ch;
    }
    strcpy(out + n, *name ? "…\"" : "\"");
    return out;
}

static bool format_fault(struct header *h, const char *tensor, const char *what) {
    char shown[ST_SHOWN];
    weft_fail(h->c, WEFT_E_FORMAT, "%s: tensor %s: %s", h->f->path, st_show(tensor, shown), what);
    return false;
}

static bool no_memory(struct header *h) {
    weft_fail(h->c, WEFT_E_MEMORY, "%s: no memory for the header", h->f->path);
    return false;
}

/* A string into the common block, which has room for all of the header's. */
static const char *take_string(struct header *h) {
    size_t length;
    char *out = h->f->strings + h->f->strings_used;
    if (weft_json_peek(&h->t) != '"') {
        weft_json_fault(&h->t, "expected a string");
        return NULL;
    }
    if (!weft_json_string(&h->t, out, &length)) return NULL;
    h->f->strings_used += length + 1;
    return out;
}

/* A string that is one of a few known ones; longer ones are cut. */
static bool take_word(struct header *h, char word[32]) {
    size_t used = h->f->strings_used;
    const char *s = take_string(h);
    if (!s) return false;
    snprintf(word, 32, "%.31s", s);
    h->f->strings_used = used;
    return true;
}

/* A whole number 0…2⁶³−1. */
static bool take_size(struct header *h, int64_t *out) {
    size_t start, length;
    bool whole;
    if (weft_json_peek(&h->t) == '-') return weft_json_fault(&h->t, "a negative number");
    if (!weft_json_number(&h->t, &start, &length, &whole)) return false;
    h->t.pos = start;
    if (!whole) return weft_json_fault(&h->t, "a number that is not whole");
    int64_t v = 0;
    for (size_t i = start; i < start + length; i++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, h->t.text[i] - '0', &v))
            return weft_json_fault(&h->t, "a number of more than 63 bits");
    h->t.pos = start + length;
    *out = v;
    return true;
}

static bool expect(struct header *h, char byte, const char *fault) {
    return weft_json_take(&h->t, byte) || weft_json_fault(&h->t, fault);
}

static const char too_long[] = "a list that is too long";

/* Numbers of a list to out. Returns how many there are, at most `room`; −1 with a fault. */
static int take_list(struct header *h, int64_t *out, int room) {
    int n = 0;
    if (!expect(h, '[', "expected a list")) return -1;
    if (weft_json_take(&h->t, ']')) return 0;
    do {
        if (n == room) {
            weft_json_fault(&h->t, too_long);
            return -1;
        }
        if (!take_size(h, out + n)) return -1;
        n++;
    } while (weft_json_take(&h->t, ','));
    return expect(h, ']', "expected ',' or ']'") ? n : -1;
}

enum { HAS_TYPE = 1, HAS_SHAPE = 2, HAS_OFFSETS = 4 };
static const char *const field_names[] = { "dtype", "shape", "data_offsets" };

struct fields {
    unsigned has;
    char type[32];
    int rank;
    int64_t shape[WEFT_MAX_RANK], offsets[2];
};

/* The fields of a tensor: each once. */
static bool take_fields(struct header *h, const char *name, struct fields *e) {
    e->has = 0;
    if (!expect(h, '{', "expected an object")) return false;
    do {
        char word[32];
        if (!take_word(h, word) || !expect(h, ':', "expected ':'")) return false;
        unsigned field = 0;
        for (unsigned i = 0; i < 3; i++)
            if (!strcmp(word, field_names[i])) field = 1u << i;
        if (!field) return format_fault(h, name, "has a field that is neither dtype, shape nor data_offsets");
        if (e->has & field) return format_fault(h, name, "has a field twice");
        e->has |= field;
        if (field == HAS_TYPE) {
            if (!take_word(h, e->type)) return false;
        } else if (field == HAS_SHAPE) {
            e->rank = take_list(h, e->shape, WEFT_MAX_RANK);
            if (e->rank < 0) return h->t.fault == too_long && format_fault(h, name, "has more than 6 dimensions");
        } else {
            int n = take_list(h, e->offsets, 2);
            if (n < 0) return false;
            if (n != 2) return format_fault(h, name, "data_offsets is not a list of two");
        }
    } while (weft_json_take(&h->t, ','));
    if (!expect(h, '}', "expected ',' or '}'")) return false;
    return e->has == (HAS_TYPE | HAS_SHAPE | HAS_OFFSETS) ||
        format_fault(h, name, "lacks dtype, shape or data_offsets");
}

/* Checks type, shape and extent of one tensor against each other. */
static bool check_fields(struct header *h, const char *name, const struct fields *e, weft_st_entry *out) {
    const struct file_type *type = NULL;
    char text[160];
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++)
        if (!strcmp(e->type, file_types[i].name)) type = &file_types[i];
    if (!type) {
        char shown[ST_SHOWN];
        snprintf(text, sizeof text, "unknown type %s", st_show(e->type, shown));
        return format_fault(h, name, text);
    }
    /* Sizes beside a 0 are counted as well, so that no later product of them overflows. */
    int64_t product = type->bits, count = 1;
    for (int i = 0; i < e->rank; i++) {
        if (__builtin_mul_overflow(product, e->shape[i] ? e->shape[i] : 1, &product))
            return format_fault(h, name, "shape is too large");
        count *= e->shape[i];
    }
    if (e->offsets[0] > e->offsets[1]) return format_fault(h, name, "data_offsets end before they begin");
    if ((uint64_t)e->offsets[1] > h->data_size) {
        snprintf(text, sizeof text, "data ends at byte %lld, the file has %zu bytes of data", (long long)e->offsets[1],
            h->data_size);
        return format_fault(h, name, text);
    }
    int64_t bits = count * type->bits, bytes = e->offsets[1] - e->offsets[0];
    if (bits % 8 || bits / 8 != bytes) {
        snprintf(text, sizeof text, "shape and type need %lld bytes, data_offsets give %lld",
            (long long)((bits + 7) / 8), (long long)bytes);
        return format_fault(h, name, text);
    }
    *out = (weft_st_entry){ .name = name, .data = h->data + e->offsets[0], .bytes = (size_t)bytes };
    if (type->type >= 0) {
        out->type = (weft_dtype)type->type;
        out->rank = e->rank;
        memcpy(out->shape, e->shape, sizeof out->shape[0] * (size_t)e->rank);
    } else {
        out->type = WEFT_U8;
        out->rank = 1;
        out->shape[0] = bytes;
        out->foreign = type->name;
    }
    return true;
}

static bool take_tensor(struct header *h, const char *name) {
    weft_safetensors *f = h->f;
    struct fields e;
    if (f->count == f->room) {
        int64_t room = f->room ? 2 * f->room : 64;
        weft_st_entry *grown = weft_host_resize(f->entries, (size_t)room * sizeof *grown);
        if (!grown) return no_memory(h);
        f->entries = grown;
        f->room = room;
    }
    if (!take_fields(h, name, &e) || !check_fields(h, name, &e, &f->entries[f->count])) return false;
    f->count++;
    return true;
}

static bool take_metadata(struct header *h) {
    weft_safetensors *f = h->f;
    if (!expect(h, '{', "expected an object")) return false;
    if (weft_json_take(&h->t, '}')) return true;
    do {
        if (f->pair_count == f->pair_room) {
            int64_t room = f->pair_room ? 2 * f->pair_room : 16;
            struct st_pair *grown = weft_host_resize(f->pairs, (size_t)room * sizeof *grown);
            if (!grown) return no_memory(h);
            f->pairs = grown;
            f->pair_room = room;
        }
        struct st_pair *pair = &f->pairs[f->pair_count];
        pair->key = take_string(h);
        if (!pair->key || !expect(h, ':', "expected ':'")) return false;
        pair->value = take_string(h);
        if (!pair->value) return false;
        f->pair_count++;
    } while (weft_json_take(&h->t, ','));
    return expect(h, '}', "expected ',' or '}'");
}

static bool take_header(struct header *h) {
    bool metadata = false;
    if (h->t.size == 0 || h->t.text[0] != '{') return weft_json_fault(&h->t, "expected '{'");
    h->t.pos = 1;
    if (!weft_json_take(&h->t, '}')) {
        do {
            const char *name = take_string(h);
            if (!name || !expect(h, ':', "expected ':'")) return false;
            bool first = !metadata;
            if (strcmp(name, "__metadata__")) {
                if (!take_tensor(h, name)) return false;
                continue;
            }
            metadata = true;
            if (!first) return weft_json_fault(&h->t, "__metadata__ twice");
            if (!take_metadata(h)) return false;
        } while (weft_json_take(&h->t, ','));
        if (!expect(h, '}', "expected ',' or '}'")) return false;
    }
    return weft_json_peek(&h->t) == -1 || weft_json_fault(&h->t, "expected nothing behind the header's object");
}

static int by_place(const void *a, const void *b) {
    const weft_st_entry *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const weft_st_entry *const *)a)->name, (*(const weft_st_entry *const *)b)->name);
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const struct st_pair *)a)->key, ((const struct st_pair *)b)->key);
}

/* The extents lie one behind the other and fill the data. */
static bool check_places(struct header *h) {
    weft_safetensors *f = h->f;
    const unsigned char *end = h->data;
    char text[ST_SHOWN + 64], shown[ST_SHOWN];
    if (f->count) qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_place);
    for (int64_t i = 0; i < f->count; i++) {
        const weft_st_entry *e = &f->entries[i];
        if ((const unsigned char *)e->data < end) {
            snprintf(text, sizeof text, "data overlaps that of %s", st_show(f->entries[i - 1].name, shown));
            return format_fault(h, e->name, text);
        }
        if ((const unsigned char *)e->data > end) return format_fault(h, e->name, "there is a gap before its data");
        end += e->bytes;
    }
    size_t used = (size_t)(end - h->data);
    if (used == h->data_size) return true;
    weft_fail(h->c, WEFT_E_FORMAT, "%s: has %zu bytes of data, its tensors take %zu", f->path, h->data_size, used);
    return false;
}

static bool index_names(struct header *h) {
    weft_safetensors *f = h->f;
    f->by_name = weft_host_alloc((size_t)(f->count + 1) * sizeof *f->by_name);
    if (!f->by_name) return no_memory(h);
    for (int64_t i = 0; i < f->count; i++) f->by_name[i] = &f->entries[i];
    qsort(f->by_name, (size_t)f->count, sizeof *f->by_name, by_name);
    for (int64_t i = 1; i < f->count; i++)
        if (!strcmp(f->by_name[i - 1]->name, f->by_name[i]->name))
            return format_fault(h, f->by_name[i]->name, "stands in the header twice");
    if (f->pair_count) qsort(f->pairs, (size_t)f->pair_count, sizeof *f->pairs, by_key);
    for (int64_t i = 1; i < f->pair_count; i++) {
        char shown[ST_SHOWN];
        if (strcmp(f->pairs[i - 1].key, f->pairs[i].key)) continue;
        weft_fail(
            h->c, WEFT_E_FORMAT, "%s: __metadata__ has the key %s twice", f->path, st_show(f->pairs[i].key, shown));
        return false;
    }
    return true;
}

bool st_read_header(weft_ctx *c, weft_safetensors *f) {
    if (f->size < 8) {
        weft_fail(c, WEFT_E_FORMAT, "%s: %s; a safetensors file has at least 8 bytes", f->path,
            f->size ? "is cut short" : "is empty");
        return false;
    }
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | f->bytes[i];
    if (length > ST_HEADER_MOST || length > f->size - 8) {
        weft_fail(c, WEFT_E_FORMAT,
            "%s: a header of %llu bytes, in a file of %zu, is %s: no safetensors file, or cut short", f->path,
            (unsigned long long)length, f->size, length > ST_HEADER_MOST ? "more than 100 MB" : "not all there");
        return false;
    }
    struct header h = { .c = c, .f = f, .t = { .text = (const char *)f->bytes + 8, .size = (size_t)length } };
    h.data = f->bytes + 8 + length;
    h.data_size = f->size - 8 - (size_t)length;
    f->strings = weft_host_alloc((size_t)length + 1);
    if (!f->strings) return no_memory(&h);
    if (!take_header(&h)) {
        /* A fault of a tensor's is reported already. */
        if (h.t.fault) weft_fail(c, WEFT_E_FORMAT, "%s: header, byte %zu: %s", f->path, h.t.pos, h.t.fault);
        return false;
    }
    return check_places(&h) && index_names(&h);
}
