/* Writing safetensors files, one tensor after the other, byte for byte as the reference library
 * (huggingface/safetensors) writes them: wider types first, then by name; the header's JSON without spaces, padded
 * by spaces to a multiple of 8.
 */
#include <stdlib.h>
#include <string.h>
#include "runtime/file.h"
#include "runtime/internal.h"
#include "runtime/json_text.h"
#include "runtime/safetensors_internal.h"

struct text {
    char *bytes;
    size_t size, room;
    bool failed;        /* no memory */
};

static void put(struct text *t, const char *s, size_t n) {
    if (t->size + n > t->room && !t->failed) {
        size_t room = 2 * (t->size + n) + 256;
        char *grown = weft_host_resize(t->bytes, room);
        if (grown) {
            t->bytes = grown;
            t->room = room;
        } else {
            t->failed = true;
        }
    }
    if (t->failed) return;
    memcpy(t->bytes + t->size, s, n);
    t->size += n;
}

static void put_text(struct text *t, const char *s) { put(t, s, strlen(s)); }

static void put_number(struct text *t, long long v) {
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", v);
    put_text(t, digits);
}

static void put_string(struct text *t, const char *s) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    put(t, "\"", 1);
    for (; *s; s++) {
        const char *at = strchr(from, *s);
        char escape[8] = { '\\', at ? to[at - from] : 0, 0 };
        if (!at && (unsigned char)*s < 0x20) snprintf(escape, sizeof escape, "\\u%04x", (unsigned char)*s);
        if (at || (unsigned char)*s < 0x20) put_text(t, escape);
        else put(t, s, 1);
    }
    put(t, "\"", 1);
}

/* The reference's order of types, and their names. */
static const struct { weft_dtype type; const char *name; } order[] = {
    { WEFT_I64, "I64" }, { WEFT_F64, "F64" }, { WEFT_F32, "F32" }, { WEFT_I32, "I32" }, { WEFT_BF16, "BF16" },
    { WEFT_F16, "F16" }, { WEFT_U8, "U8" }
};

static int place_of(weft_dtype type) {
    int i = 0;
    while (order[i].type != type) i++;
    return i;
}

static int in_file_order(const void *a, const void *b) {
    const weft_st_item *x = *(const weft_st_item *const *)a, *y = *(const weft_st_item *const *)b;
    int by_type = place_of(x->type) - place_of(y->type);
    return by_type ? by_type : strcmp(x->name, y->name);
}

static int in_name_order(const void *a, const void *b) {
    return strcmp((*(const weft_st_item *const *)a)->name, (*(const weft_st_item *const *)b)->name);
}

static bool argument_fault(weft_ctx *c, const char *path, const char *name, const char *what) {
    char shown[ST_SHOWN];
    weft_fail(c, WEFT_E_ARGUMENT, "%s: %s: %s", path, st_show(name, shown), what);
    return false;
}

static bool check_metadata(weft_ctx *c, const char *path, const char *const *metadata) {
    for (int i = 0; metadata && metadata[i]; i += 2) {
        if (!metadata[i + 1]) return argument_fault(c, path, metadata[i], "a metadata key without a value");
        if (!weft_json_is_utf8(metadata[i]) || !weft_json_is_utf8(metadata[i + 1]))
            return argument_fault(c, path, metadata[i], "metadata that is not UTF-8");
        for (int k = 0; k < i; k += 2)
            if (!strcmp(metadata[k], metadata[i]))
                return argument_fault(c, path, metadata[i], "a metadata key that is there twice");
    }
    return true;
}

/* Names are UTF-8 and differ, tensors and types are there. Leaves `sorted` in the file's order. */
static bool check_items(weft_ctx *c, const char *path, const weft_st_item **sorted, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const weft_st_item *item = sorted[i];
        if (!item->tensor || !weft_dtype_size(item->type))
            return argument_fault(c, path, item->name, "a tensor or type that is none");
        if (!weft_json_is_utf8(item->name)) return argument_fault(c, path, item->name, "a name that is not UTF-8");
        if (!strcmp(item->name, "__metadata__"))
            return argument_fault(c, path, item->name, "a name that the format keeps for itself");
    }
    qsort(sorted, (size_t)n, sizeof *sorted, in_name_order);
    for (int64_t i = 1; i < n; i++)
        if (!strcmp(sorted[i - 1]->name, sorted[i]->name))
            return argument_fault(c, path, sorted[i]->name, "a name that is there twice");
    qsort(sorted, (size_t)n, sizeof *sorted, in_file_order);
    return true;
}

static void put_header(struct text *t, const weft_st_item *const *sorted, int64_t n, const char *const *metadata) {
    bool first = true;
    long long at = 0;
    put(t, "\0\0\0\0\0\0\0\0{", 9);
    if (metadata && metadata[0]) {
        put_text(t, "\"__metadata__\":{");
        for (int i = 0; metadata[i]; i += 2) {
            if (i) put(t, ",", 1);
            put_string(t, metadata[i]);
            put(t, ":", 1);
            put_string(t, metadata[i + 1]);
        }
        put(t, "}", 1);
        first = false;
    }
    for (int64_t i = 0; i < n; i++, first = false) {
        const weft_st_item *item = sorted[i];
        if (!first) put(t, ",", 1);
        put_string(t, item->name);
        put_text(t, ":{\"dtype\":\"");
        put_text(t, order[place_of(item->type)].name);
        put_text(t, "\",\"shape\":[");
        for (int d = 0; d < weft_rank(item->tensor); d++) {
            if (d) put(t, ",", 1);
            put_number(t, weft_dim(item->tensor, d));
        }
        put_text(t, "],\"data_offsets\":[");
        put_number(t, at);
        at += (long long)weft_count(item->tensor) * (long long)weft_dtype_size(item->type);
        put(t, ",", 1);
        put_number(t, at);
        put_text(t, "]}");
    }
    put(t, "}", 1);
    while (t->size % 8 && !t->failed) put(t, " ", 1);
    for (int i = 0; i < 8 && !t->failed; i++) t->bytes[i] = (char)((t->size - 8) >> 8 * i);
}

static bool write_tensor(weft_ctx *c, weft_file_out *out, const weft_st_item *item) {
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor *t = weft_plain(c, "write", item->tensor);
    t = t ? weft_contiguous(c, weft_cast(c, t, item->type)) : NULL;
    size_t bytes = (size_t)weft_count(item->tensor) * weft_dtype_size(item->type);
    if (t && bytes) {
        const void *data = weft_data(t);
        void *copy = data ? NULL : weft_host_alloc(bytes);
        if (!data && !copy) weft_fail(c, WEFT_E_MEMORY, "%s: no memory for %zu bytes", out->path, bytes);
        else if (!copy || weft_read(c, t, copy, bytes) == WEFT_OK)
            t = weft_file_write(c, out, copy ? copy : data, bytes) ? t : NULL;
        weft_host_free(copy);
    }
    weft_scope_end(c, s, NULL);
    weft_storage_leave(item->tensor->storage);
    return weft_ok(c);
}

weft_status weft_st_write(
    weft_ctx *c, const char *path, const weft_st_item *items, int64_t n, const char *const *metadata) {
    weft_file_out out = { .fd = -1 };
    struct text header = { 0 };
    const weft_st_item **sorted = NULL;
    if (!weft_ok(c)) return weft_error(c);
    sorted = n >= 0 ? weft_host_alloc(((size_t)n + 1) * sizeof *sorted) : NULL;
    if (!sorted) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the header", path);
        goto out;
    }
    for (int64_t i = 0; i < n; i++) sorted[i] = &items[i];
    if (!check_metadata(c, path, metadata) || !check_items(c, path, sorted, n)) goto out;
    put_header(&header, sorted, n, metadata);
    if (header.failed) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the header", path);
        goto out;
    }
    if (header.size - 8 > ST_HEADER_MOST) {
        weft_fail(c, WEFT_E_ARGUMENT, "%s: the names need a header of %zu bytes; the format allows 100 MB", path,
            header.size - 8);
        goto out;
    }
    if (!weft_file_create(c, &out, path) || !weft_file_write(c, &out, header.bytes, header.size)) goto out;
    for (int64_t i = 0; i < n; i++)
        if (!write_tensor(c, &out, sorted[i])) goto out;
    if (!weft_file_commit(c, &out)) goto out;
out:
    weft_file_discard(&out);
    weft_host_free(header.bytes);
    weft_host_free(sorted);
    return weft_error(c);
}
