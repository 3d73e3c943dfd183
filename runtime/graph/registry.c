/* Values, objects and the registry of node classes: see node.h. */
#include "runtime/graph/node.h"
#include "runtime/graph/graph_internal.h"
#include "runtime/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- objects, values --------------------------------------------------------------------------------------------- */

weft_object *weft_object_ref(weft_object *o) {
    if (o) o->references++;
    return o;
}

void weft_object_unref(weft_object *o) {
    if (o && --o->references == 0) o->class->free(o);
}

static bool holds_text(weft_port_kind kind) {
    return kind == WEFT_PORT_STRING || kind == WEFT_PORT_FILE || kind == WEFT_PORT_CHOICE || kind == WEFT_PORT_ANY;
}

char *weft_text_copy(const char *text, size_t length) {
    char *copy = weft_host_alloc(length + 1);
    if (copy) memcpy(copy, text, length);
    return copy;
}

bool weft_value_copy(weft_value *to, const weft_value *from) {
    weft_value v = *from;
    if (holds_text(v.kind) && v.s && !(v.s = weft_text_copy(v.s, strlen(v.s)))) return false;
    if (v.kind == WEFT_PORT_TENSOR) weft_ref(v.tensor);
    if (v.kind == WEFT_PORT_OBJECT) weft_object_ref(v.object);
    *to = v;
    return true;
}

void weft_value_clear(weft_value *v) {
    if (holds_text(v->kind)) weft_host_free(v->s);
    if (v->kind == WEFT_PORT_TENSOR) weft_unref(v->tensor);
    if (v->kind == WEFT_PORT_OBJECT) weft_object_unref(v->object);
    *v = (weft_value){ 0 };
}

/* ---- types ------------------------------------------------------------------------------------------------------- */

/* The next of a comma list from *list on, without spaces; false at its end. */
static bool next_type(const char **list, const char **start, size_t *length) {
    const char *p = *list + strspn(*list, " ,");
    if (!*p) return false;
    const char *end = p + strcspn(p, ",");
    *list = end;
    while (end > p && end[-1] == ' ') end--;
    *start = p;
    *length = (size_t)(end - p);
    return true;
}

bool weft_type_fits(const char *from, const char *to) {
    const char *a, *b;
    size_t a_length, b_length;
    for (const char *i = from; next_type(&i, &a, &a_length);)
        for (const char *j = to; next_type(&j, &b, &b_length);)
            if ((a_length == 1 && *a == '*') || (b_length == 1 && *b == '*') ||
                (a_length == b_length && !memcmp(a, b, a_length)))
                return true;
    return false;
}

/* ---- the registry ------------------------------------------------------------------------------------------------ */

struct weft_registry {
    const weft_node **nodes;    /* sorted by name */
    int count, room;
};

weft_registry *weft_registry_new(void) { return weft_host_alloc(sizeof(weft_registry)); }

void weft_registry_free(weft_registry *r) {
    if (!r) return;
    weft_host_free(r->nodes);
    weft_host_free(r);
}

/* Where `name` stands or belongs. */
static int place_of(const weft_registry *r, const char *name, bool *found) {
    int low = 0, high = r->count;
    *found = false;
    while (low < high) {
        int middle = (low + high) / 2, order = strcmp(name, r->nodes[middle]->name);
        if (!order) { *found = true; return middle; }
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return low;
}

static bool descriptor_is_whole(const weft_node *n) {
    if (!n->name || !n->summary || (!n->run && !(n->flags & WEFT_NODE_VIRTUAL))) return false;
    const weft_port *const tables[] = { n->inputs, n->outputs };
    for (int t = 0; t < 2; t++)
        for (const weft_port *p = tables[t]; p && p->name; p++)
            if (!p->type || !p->kind || p->offset >= n->size) return false;
    return true;
}

bool weft_registry_add(weft_registry *r, const weft_node *const *nodes) {
    for (; *nodes; nodes++) {
        bool found;
        if (!descriptor_is_whole(*nodes)) return false;
        int place = place_of(r, (*nodes)->name, &found);
        if (found) return false;
        if (r->count == r->room) {
            int room = r->room ? 2 * r->room : 128;
            const weft_node **grown = weft_host_resize(r->nodes, sizeof *grown * (size_t)room);
            if (!grown) return false;
            r->nodes = grown;
            r->room = room;
        }
        memmove(r->nodes + place + 1, r->nodes + place, sizeof *r->nodes * (size_t)(r->count - place));
        r->nodes[place] = *nodes;
        r->count++;
    }
    return true;
}

const weft_node *weft_registry_find(const weft_registry *r, const char *name) {
    bool found;
    int place = place_of(r, name, &found);
    return found ? r->nodes[place] : NULL;
}

const weft_node *weft_registry_at(const weft_registry *r, int i) { return i >= 0 && i < r->count ? r->nodes[i] : NULL; }

const char *weft_registry_nearest(const weft_registry *r, const char *name) {
    weft_nearest near = { .name = name };
    for (int i = 0; i < r->count; i++) weft_nearest_try(&near, r->nodes[i]->name);
    return near.best;
}
