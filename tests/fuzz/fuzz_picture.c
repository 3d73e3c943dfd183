/* Any bytes as a picture: what it says of itself, the texts that it carries, and its pixels. */
#include "nodes/image/picture.h"
#include "runtime/graph/picture_text.h"
#include "tests/fuzz/fuzz.h"

enum { MOST_PIXELS = 1 << 20 };     /* more is slow, and nothing new */

static void check_texts(weft_ctx *c, const uint8_t *data, size_t size) {
    weft_picture_text text = { 0 };
    bool read = weft_picture_read_text(c, "fuzz", data, size, &text);
    MUST(read == weft_ok(c));
    MUST(read || (weft_error(c) == WEFT_E_FORMAT && !strchr(weft_message(c), '\n') && !text.prompt && !text.workflow));
    MUST(!text.prompt || strlen(text.prompt) <= (size_t)64 << 20);
    free(text.prompt);
    free(text.workflow);
    weft_clear(c);
}

static void check_pixels(weft_ctx *c, const uint8_t *data, size_t size, const weft_picture_facts *facts) {
    weft_scope s = weft_scope_named(c, "fuzz");
    weft_tensor *t = weft_picture_decode(c, "fuzz", data, size);
    MUST(!t == !weft_ok(c));
    MUST(t || (weft_error(c) == WEFT_E_FORMAT && !strchr(weft_message(c), '\n')));
    MUST(!t || weft_dim(t, 0) * weft_dim(t, 1) == (int64_t)facts->width * facts->height);
    weft_scope_end(c, s, NULL);
    weft_clear(c);
}

FUZZ(fuzz_picture) {
    static weft_ctx *c;     /* one for all inputs */
    if (!c) c = weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1 });
    if (!c) return;
    weft_picture_facts facts;
    bool known = weft_picture_info(data, size, &facts);
    MUST(!known || facts.format);
    check_texts(c, data, size);
    if (!known || (int64_t)facts.width * facts.height <= MOST_PIXELS) check_pixels(c, data, size, &facts);
    MUST(weft_memory_live(c) == 0);
}
