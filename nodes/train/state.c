/* Named tensors in files and out of them; see state.h. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "nodes/train/state.h"

bool weft_state_grow(weft_ctx *c, void **array, int64_t count, int64_t *room, size_t each) {
    if (count < *room) return true;
    const int64_t wanted = *room ? *room * 2 : 16;
    void *p = realloc(*array, (size_t)wanted * each);
    if (!p) {
        weft_fail(c, WEFT_E_MEMORY, "no memory for a list of training state");
        return false;
    }
    *array = p;
    *room = wanted;
    return true;
}

char *weft_state_text(weft_ctx *c, const char *text) {
    const size_t size = strlen(text) + 1;
    char *copy = calloc(1, size);
    if (copy) memcpy(copy, text, size);
    else weft_fail(c, WEFT_E_MEMORY, "no memory for a name");
    return copy;
}

/* ---- the list ---------------------------------------------------------------------------------------------------- */

bool weft_state_add(weft_state *s, weft_tensor *t, const char *format, ...) {
    char name[WEFT_STATE_NAME + 100];
    if (!t || !weft_ok(s->ctx)) return weft_ok(s->ctx);
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    if (!weft_state_grow(s->ctx, (void **)&s->items, s->count, &s->room, sizeof *s->items)) return false;
    char *copy = weft_state_text(s->ctx, name);
    if (!copy) return false;
    s->items[s->count++] = (weft_st_item){ copy, t, weft_type(t) };
    return true;
}

void weft_state_free(weft_state *s) {
    for (int64_t i = 0; i < s->count; i++) free((char *)s->items[i].name);
    free(s->items);
    s->items = NULL;
    s->count = s->room = 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

weft_status weft_state_write(weft_state *s, const char *path, const char *const *metadata) {
    return weft_ok(s->ctx) ? weft_st_write(s->ctx, path, s->items, s->count, metadata) : weft_error(s->ctx);
}

static bool fits(weft_ctx *c, const char *path, const weft_st_item *item, const weft_st_entry *e) {
    const weft_tensor *t = item->tensor;
    char text[160];
    bool same = e && !e->foreign && e->type == weft_type(t) && e->rank == weft_rank(t);
    for (int i = 0; same && i < e->rank; i++) same = e->shape[i] == weft_dim(t, i);
    if (!e) weft_fail(c, WEFT_E_PARAMS, "%s: %s is missing", path, item->name);
    else if (!same)
        weft_fail(c, WEFT_E_PARAMS, "%s: %s is %zu bytes of %s, expected %s", path, item->name, e->bytes,
                  e->foreign ? e->foreign : weft_dtype_name(e->type), weft_describe(t, text, sizeof text));
    return same;
}

static bool listed(const weft_state *s, const char *name) {
    for (int64_t i = 0; i < s->count; i++)
        if (!strcmp(s->items[i].name, name)) return true;
    return false;
}

/* Whether the file has what the list has, and no more. */
static bool matches(weft_state *s, weft_safetensors *f, const char *path, const char *const *metadata) {
    for (int i = 0; metadata && metadata[i]; i += 2) {
        const char *value = weft_st_metadata(f, metadata[i]);
        if (value && !strcmp(value, metadata[i + 1])) continue;
        weft_fail(s->ctx, WEFT_E_FORMAT, "%s: its %s is \"%s\", expected \"%s\"", path, metadata[i], value ? value : "",
                  metadata[i + 1]);
        return false;
    }
    for (int64_t i = 0; i < s->count; i++)
        if (!fits(s->ctx, path, &s->items[i], weft_st_find(f, s->items[i].name))) return false;
    if (weft_st_count(f) == s->count) return true;
    for (int64_t i = 0; i < weft_st_count(f); i++)
        if (!listed(s, weft_st_at(f, i)->name)) {
            weft_fail(s->ctx, WEFT_E_PARAMS, "%s: has %s, which nothing here is called", path, weft_st_at(f, i)->name);
            break;
        }
    return false;
}

weft_status weft_state_read(weft_state *s, const char *path, const char *const *metadata) {
    weft_ctx *c = s->ctx;
    weft_safetensors *f = weft_ok(c) ? weft_st_open(c, path) : NULL;
    if (f && matches(s, f, path, metadata))
        for (int64_t i = 0; i < s->count && weft_ok(c); i++) {
            weft_scope scope = weft_scope_named(c, NULL);
            weft_tensor *from = weft_st_tensor(c, f, weft_st_find(f, s->items[i].name));
            if (from && weft_update_copy(c, s->items[i].tensor, from) == WEFT_OK)
                weft_st_drop_pages(f, weft_st_find(f, s->items[i].name));
            weft_scope_end(c, scope, NULL);
        }
    weft_st_close(f);
    return weft_error(c);
}

/* ---- tensors that outlive a scope -------------------------------------------------------------------------------- */

weft_tensor *weft_state_zeros(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape) {
    weft_scope s = weft_scope_named(c, NULL);
    weft_tensor *t = weft_ref(weft_full(c, type, rank, shape, 0));
    weft_scope_end(c, s, NULL);
    return t;
}

weft_tensor *weft_state_copy(weft_ctx *c, weft_dtype type, weft_tensor *t) {
    weft_scope s = weft_scope_named(c, NULL);
    weft_tensor *copy = weft_ref(weft_tensor_new(c, type, weft_rank(t), weft_shape(t)));
    if (copy && weft_update_copy(c, copy, t)) {
        weft_unref(copy);
        copy = NULL;
    }
    weft_scope_end(c, s, NULL);
    return copy;
}
