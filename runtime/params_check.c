/* Checking a tree against a model: the model function runs shape-only, and what it asks for in vain is gathered into
 * one message. */
#include <string.h>
#include "runtime/params_internal.h"

#define SHOWN 20            /* names of each kind */
#define MESSAGE 1700        /* bytes; the context's message has room for somewhat more */

struct findings {
    int count, used;
    char text[4096];        /* the first ones, each with a 0 */
};

struct param_report { struct findings of[PARAM_FAULTS]; };

void param_note(weft_tree *t, uint32_t node, enum param_fault fault, const char *details) {
    struct findings *f = &t->report->of[fault];
    char path[PARAM_ROOM];
    if (t->nodes[node].noted) return;
    t->nodes[node].noted = true;
    f->count++;
    size_t room = sizeof f->text - (size_t)f->used;
    int n = snprintf(f->text + f->used, room, "%s%s", param_path(t, node, path, sizeof path), details);
    if ((size_t)n < room) f->used += n + 1;
}

/* Appends the findings of one kind, within `most` bytes in all. */
static size_t describe(const struct findings *f, const char *what, char *out, size_t used, size_t most) {
    static const char more[] = ", … and 1234567890 more";
    used += (size_t)snprintf(out + used, most - used, "%s%d %s: ", used ? "; " : "", f->count, what);
    int shown = 0;
    for (const char *name = f->text; name < f->text + f->used && shown < SHOWN; name += strlen(name) + 1, shown++) {
        if (used + strlen(name) + sizeof more > most) break;
        used += (size_t)snprintf(out + used, most - used, "%s%s", shown ? ", " : "", name);
    }
    if (shown < f->count)
        used += (size_t)snprintf(out + used, most - used, "%s… and %d more", shown ? ", " : "", f->count - shown);
    return used;
}

static void report(weft_ctx *c, const weft_tree *t, const struct param_report *r) {
    static const char *const what[PARAM_FAULTS] = { "missing", "misshapen", "of no usable type", "not used" };
    char text[MESSAGE + 1] = "";
    size_t used = 0;
    int kinds = 0;
    for (int i = 0; i < PARAM_FAULTS; i++) kinds += r->of[i].count > 0;
    if (!kinds) return;
    for (int i = 0; i < PARAM_FAULTS; i++) {
        if (!r->of[i].count) continue;
        used = describe(&r->of[i], what[i], text, used, used + (MESSAGE - used) / (size_t)kinds);
        kinds--;
    }
    weft_fail(c, WEFT_E_PARAMS, "%s: parameters do not fit: %s", t->name, text);
}

static void note_unused(weft_tree *t) {
    if (!param_list(t)) return;
    for (int64_t i = 0; i < t->count; i++)
        if (!t->nodes[t->list[i].node].asked) param_note(t, t->list[i].node, PARAM_UNUSED, "");
}

weft_status weft_tree_check(weft_ctx *c, weft_tree *t, weft_walk_fn *walk, void *user, bool all_used) {
    if (!weft_ok(c)) return weft_error(c);
    struct param_report *r = weft_host_alloc(sizeof *r);
    if (!r) return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the check", t->name);
    for (uint32_t i = 0; i < t->node_count; i++) t->nodes[i].asked = t->nodes[i].noted = false;
    t->report = r;
    weft_shape_only(c, true);
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    walk(c, weft_root(t), user);
    weft_scope_end(c, s, NULL);
    weft_shape_only(c, false);
    if (all_used && weft_ok(c)) note_unused(t);
    if (weft_ok(c)) report(c, t, r);
    t->report = NULL;
    weft_host_free(r);
    return weft_error(c);
}
