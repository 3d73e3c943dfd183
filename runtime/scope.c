/* Scopes: a stack of frames over one stack of tensors. A frame begins at a height of the tensors' stack; what lies
 * above belongs to it or to frames inside it, and a tensor on the stack is one reference. */
#include <string.h>
#include "runtime/internal.h"

/* Room for one more in an array; false with the error set. */
static bool grow(weft_ctx *c, void **array, uint32_t count, uint32_t *room, size_t each) {
    if (count < *room) return true;
    uint32_t wanted = *room ? *room * 2 : 64;
    void *p = count < UINT32_MAX / 2 ? weft_host_resize(*array, wanted * each) : NULL;
    if (!p) {
        weft_fail(c, WEFT_E_MEMORY, "no memory for the list of tensors in use");
        return false;
    }
    *array = p;
    *room = wanted;
    return true;
}

static weft_scope begin(weft_ctx *c, weft_params place, const char *name) {
    weft_scope s = { c->frame_count };      /* where there is no memory for the frame, closing it closes nothing */
    if (grow(c, (void **)&c->frames, c->frame_count, &c->frame_room, sizeof *c->frames))
        c->frames[c->frame_count++] = (weft_frame){ c->owned_count, place, name };
    return s;
}

weft_scope weft_scope_begin(weft_ctx *c, weft_params p) { return begin(c, p, NULL); }

weft_scope weft_scope_named(weft_ctx *c, const char *name) { return begin(c, (weft_params){ 0 }, name); }

weft_tensor *weft_scope_own(weft_ctx *c, weft_tensor *t) {
    if (!t) return NULL;
    if (!grow(c, (void **)&c->owned, c->owned_count, &c->owned_room, sizeof *c->owned)) {
        weft_unref(t);
        return NULL;
    }
    return c->owned[c->owned_count++] = t;
}

/* Drops the tensors from this height on, the newest first, except one reference to `keep`; that then lies there. */
static void drop(weft_ctx *c, uint32_t first, weft_tensor *keep) {
    bool kept = false;
    while (c->owned_count > first) {
        weft_tensor *t = c->owned[--c->owned_count];
        if (t == keep && !kept) kept = true;
        else weft_unref(t);
    }
    if (kept) c->owned[c->owned_count++] = keep;
}

weft_tensor *weft_scope_end(weft_ctx *c, weft_scope s, weft_tensor *keep) {
    if (!weft_ok(c)) keep = NULL;
    if (s.depth < c->frame_count) {
        uint32_t first = c->frames[s.depth].first;
        c->frame_count = s.depth;
        drop(c, first, keep);
    }
    return keep;
}

weft_tensor *weft_scope_keep(weft_ctx *c, weft_scope s, weft_tensor *t) {
    if (!weft_ok(c)) return NULL;
    if (!t || s.depth >= c->frame_count) return t;
    uint32_t first = c->frames[s.depth].first, i = c->owned_count;
    while (i > first && c->owned[i - 1] != t) i--;
    if (i == first) return t;           /* not of this scope: it lives on anyway */
    i--;
    memmove(c->owned + first + 1, c->owned + first, (i - first) * sizeof *c->owned);
    c->owned[first] = t;
    for (uint32_t f = s.depth; f < c->frame_count; f++)
        if (c->frames[f].first <= i) c->frames[f].first++;
    return t;
}

void weft_scope_flush(weft_ctx *c) {
    c->frame_count = 0;
    drop(c, 0, NULL);
}
