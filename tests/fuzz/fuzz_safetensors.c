/* Any bytes as a safetensors file: opened, and if that works, walked and read to the last byte. */
#include "runtime/safetensors.h"
#include "tests/fuzz/fuzz.h"

static void check_entry(weft_ctx *c, weft_safetensors *f, const weft_st_entry *e, const uint8_t *data, size_t size) {
    const uint8_t *begin = e->data;
    MUST(begin >= data + 8 && e->bytes <= size && begin + e->bytes <= data + size);
    MUST(e->rank >= 0 && e->rank <= WEFT_MAX_RANK && weft_dtype_size(e->type));
    size_t count = 1;
    for (int i = 0; i < e->rank; i++) {
        MUST(e->shape[i] >= 0);
        count *= (size_t)e->shape[i];
    }
    MUST(count * weft_dtype_size(e->type) == e->bytes);
    MUST(weft_st_find(f, e->name) == e);
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < e->bytes; i++) sum ^= begin[i];
    (void)sum;
    weft_scope s = weft_scope_named(c, "fuzz");
    weft_tensor *t = weft_st_tensor(c, f, e);
    MUST(t || weft_error(c) == WEFT_E_SHAPE);       /* a size next to a 0 may be larger than tensors take */
    weft_scope_end(c, s, NULL);
    weft_clear(c);
}

FUZZ(fuzz_safetensors) {
    static weft_ctx *c;     /* one for all inputs */
    if (!c) c = weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1 });
    if (!c) return;
    weft_safetensors *f = weft_st_open_memory(c, "fuzz", data, size);
    MUST(!f == !weft_ok(c));
    MUST(f || (weft_error(c) == WEFT_E_FORMAT && !strchr(weft_message(c), '\n')));
    if (f) {
        size_t bytes = 0;
        const char *key, *value;
        for (int64_t i = 0; i < weft_st_count(f); i++) {
            check_entry(c, f, weft_st_at(f, i), data, size);
            bytes += weft_st_at(f, i)->bytes;
        }
        MUST(bytes <= size - 8);
        for (int64_t i = 0; weft_st_metadata_at(f, i, &key, &value); i++) MUST(weft_st_metadata(f, key) == value);
    }
    weft_st_close(f);
    weft_clear(c);
    MUST(weft_memory_live(c) == 0);
}
