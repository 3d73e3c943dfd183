/* The UI format to API format, as ComfyUI's editor does it when a graph is queued: widgets become literals in the order
 * of the class's inputs, links are followed through reroutes, primitives, bypassed nodes and subgraphs, muted nodes are
 * left out.
 *
 * What a link comes to is either an output of a node that is emitted, a literal (a primitive's, or a promoted
 * widget's), or nothing.
 */
#include "runtime/graph/ui.h"
#include "runtime/internal.h"
#include "runtime/json.h"

#include <string.h>

/* A chain of reroutes that goes round ends after HOPS; what a step takes besides looking for the node, in list entries. */
enum { HOPS = 10000, STEP = 50 };

typedef struct source {
    enum { SOURCE_NONE, SOURCE_OUTPUT, SOURCE_LITERAL } kind;
    char id[240];
    int slot;
    const cJSON *literal;
} source;

/* ---- parts of nodes ---------------------------------------------------------------------------------------------- */

static bool is_type(const cJSON *node, const char *type) { return !strcmp(ui_text(node, "type"), type); }
static bool is_primitive(const cJSON *node) { return is_type(node, "PrimitiveNode"); }
static bool is_note(const cJSON *node) { return is_type(node, "Note") || is_type(node, "MarkdownNote"); }

static const cJSON *item_at(ui *u, const cJSON *list, int i) {
    const cJSON *item = list && i >= 0 ? list->child : NULL;
    int k = 0;
    for (; item && k < i; k++) item = item->next;
    ui_spend(u, k);
    return item;
}

static const cJSON *input_at(ui *u, const cJSON *node, int slot) {
    return item_at(u, cJSON_GetObjectItemCaseSensitive(node, "inputs"), slot);
}

/* The link that ends in an input; false where none does. */
static bool link_of(const cJSON *input, double *link) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(input, "link");
    if (cJSON_IsNumber(v)) *link = v->valuedouble;
    return cJSON_IsNumber(v);
}

/* The type of an output; "*" where the file does not say. */
static const char *output_type(ui *u, const cJSON *node, int slot) {
    const char *type = ui_text(item_at(u, cJSON_GetObjectItemCaseSensitive(node, "outputs"), slot), "type");
    return *type ? type : "*";
}

/* The input that a bypassed node passes on: the same slot where its type fits, else the first of exactly the type, else
 * the first that fits. */
static const cJSON *bypass_input(ui *u, const cJSON *node, int slot) {
    const char *type = output_type(u, node, slot);
    const cJSON *same = input_at(u, node, slot), *list = cJSON_GetObjectItemCaseSensitive(node, "inputs"), *fits = NULL;
    if (!strcmp(type, "*")) return same ? same : input_at(u, node, 0);
    if (same && weft_type_fits(ui_text(same, "type"), type)) return same;
    for (const cJSON *in = list ? list->child : NULL; in && ui_spend(u, 2); in = in->next) {
        if (!strcmp(ui_text(in, "type"), type)) return in;
        if (!fits && weft_type_fits(ui_text(in, "type"), type)) fits = in;
    }
    return fits;
}

static const cJSON *widget_value(ui *u, const cJSON *node, int i) {
    const cJSON *values = cJSON_GetObjectItemCaseSensitive(node, "widgets_values");
    return cJSON_IsArray(values) ? item_at(u, values, i) : NULL;
}

/* What an instance's own widgets say for its input `slot`: promoted widgets keep their values in the order of inputs
 * that have one. */
static const cJSON *promoted_value(ui *u, const cJSON *instance, int slot) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(instance, "inputs");
    int widgets = 0, i = 0;
    for (const cJSON *in = list ? list->child : NULL; in && ui_spend(u, 1); in = in->next, i++) {
        bool widget = cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(in, "widget"));
        if (i == slot) return widget ? widget_value(u, instance, widgets) : NULL;
        widgets += widget;
    }
    return NULL;
}

/* ---- following links --------------------------------------------------------------------------------------------- */

/* One step: from `link` in *s to its source, or to the next link (true: go on with *s and *link). */
static bool step(ui *u, ui_scope **s, double *link, source *out) {
    const ui_link *l = ui_find_link(*s, *link);
    if (!l || !ui_spend(u, (*s)->node_count + STEP)) return false;
    if (!strcmp(l->from, "-10") && (*s)->parent) {
        const cJSON *instance = (*s)->instance;
        if (link_of(input_at(u, instance, l->from_slot), link)) {
            *s = (*s)->parent;
            return true;
        }
        out->literal = (*s)->group ? NULL : promoted_value(u, instance, l->from_slot);
        if (out->literal && !cJSON_IsNull(out->literal)) out->kind = SOURCE_LITERAL;
        return false;
    }
    int i = ui_find_node(*s, l->from);
    if (i < 0) return false;
    const cJSON *node = (*s)->nodes[i];
    if (ui_mode(node) == UI_MUTED) return false;
    if (ui_mode(node) == UI_BYPASSED) return link_of(bypass_input(u, node, l->from_slot), link);
    if (is_type(node, "Reroute")) return link_of(input_at(u, node, 0), link);
    if (is_primitive(node)) {
        out->literal = widget_value(u, node, (*s)->widget_base ? (*s)->widget_base[i] : 0);
        if (out->literal) out->kind = SOURCE_LITERAL;
        return false;
    }
    ui_scope *child = (*s)->children[i];
    if (!child) {
        snprintf(out->id, sizeof out->id, "%s%s", (*s)->prefix, (*s)->ids[i]);
        out->slot = l->from_slot;
        out->kind = SOURCE_OUTPUT;
        return false;
    }
    if (!ui_spend(u, child->link_count)) return false;
    for (int k = 0; k < child->link_count; k++)
        if (!strcmp(child->links[k].to, "-20") && child->links[k].to_slot == l->from_slot) {
            *link = child->links[k].id;
            *s = child;
            return true;
        }
    return false;
}

static source follow(ui *u, ui_scope *s, double link) {
    source out = { .kind = SOURCE_NONE };
    for (int hops = 0; hops < HOPS; hops++)
        if (!step(u, &s, &link, &out)) return out;
    return (source){ .kind = SOURCE_NONE };
}

/* ---- emitting ---------------------------------------------------------------------------------------------------- */

/* How much a copy of a value takes. */
static int64_t weight_of(const cJSON *value) {
    int64_t weight = 1 + (cJSON_IsString(value) ? (int64_t)strlen(value->valuestring) : 0);
    for (const cJSON *v = value->child; v; v = v->next) weight += weight_of(v);
    return weight;
}

/* A value may go to many inputs, each of which gets a copy. */
static weft_status set_literal(ui *u, weft_gnode *n, const char *name, const cJSON *value) {
    if (!value || cJSON_IsNull(value)) return weft_error(u->c);
    if (!ui_spend(u, weight_of(value))) return weft_error(u->c);
    return weft_gnode_set(u->c, n, name, cJSON_Duplicate(value, 1));
}

static weft_status emit_widgets(ui *u, weft_gnode *n, const cJSON *node, const ui_scope *s, int index) {
    const cJSON *from = s->widget_base ? s->instance : node,
                *values = cJSON_GetObjectItemCaseSensitive(from, "widgets_values");
    bool named = cJSON_IsObject(values);
    int at = s->widget_base ? s->widget_base[index] : 0;
    if (named) ui_spend(u, cJSON_GetArraySize(values));
    for (const weft_port *p = n->node ? n->node->inputs : NULL; p && p->name; p++) {
        if (!ui_is_widget(p)) continue;
        const cJSON *value = named ? cJSON_GetObjectItemCaseSensitive(values, p->name) : widget_value(u, from, at);
        at += ui_widget_span(p, named ? NULL : value);
        if (set_literal(u, n, p->name, value)) return weft_error(u->c);
    }
    return weft_error(u->c);
}

/* Sets an input to what a link comes to. */
static weft_status set_link(ui *u, weft_gnode *n, const char *name, ui_scope *s, double link) {
    source from = follow(u, s, link);
    if (from.kind == SOURCE_OUTPUT) return weft_gnode_link(u->c, n, name, from.id, from.slot);
    if (from.kind == SOURCE_LITERAL) return set_literal(u, n, name, from.literal);
    return weft_error(u->c);
}

/* The input that a slot means where the node's own list does not reach: the class's inputs that are no widgets, in
 * order. */
static const weft_port *port_of_slot(const weft_node *n, int slot) {
    for (const weft_port *p = n ? n->inputs : NULL; p && p->name; p++)
        if (!ui_is_widget(p) && slot-- == 0) return p;
    return NULL;
}

/* The links that end in a node at its slot `first` or beyond, found among all of them: for nodes of groups, and for
 * slots that the node does not list. */
static weft_status emit_found_links(ui *u, weft_gnode *n, const cJSON *inputs, ui_scope *s, int index, int first) {
    if (!ui_spend(u, s->link_count)) return weft_error(u->c);
    for (int i = 0; i < s->link_count; i++) {
        const ui_link *l = &s->links[i];
        if (l->to_slot < first || strcmp(l->to, s->ids[index])) continue;
        const char *name = ui_text(item_at(u, inputs, l->to_slot), "name");
        const weft_port *p = *name ? NULL : port_of_slot(n->node, l->to_slot);
        if ((*name || p) && set_link(u, n, *name ? name : p->name, s, l->id)) return weft_error(u->c);
    }
    return weft_error(u->c);
}

static weft_status emit_links(ui *u, weft_gnode *n, const cJSON *node, ui_scope *s, int index) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(node, "inputs");
    double link = 0;
    int listed = 0;
    if (s->group) return emit_found_links(u, n, list, s, index, 0);
    for (const cJSON *in = list ? list->child : NULL; in; in = in->next, listed++) {
        const char *name = ui_text(in, "name");
        if (*name && link_of(in, &link) && set_link(u, n, name, s, link)) return weft_error(u->c);
    }
    return port_of_slot(n->node, listed) ? emit_found_links(u, n, list, s, index, listed) : weft_error(u->c);
}

static weft_status emit_scope(ui *u, ui_scope *s);

static weft_status emit_node(ui *u, ui_scope *s, int i) {
    const cJSON *node = s->nodes[i];
    int mode = ui_mode(node);
    if (mode == UI_MUTED || mode == UI_BYPASSED || is_note(node) || is_primitive(node) || is_type(node, "Reroute"))
        return WEFT_OK;
    if (s->children[i]) return emit_scope(u, s->children[i]);
    char id[240];
    const char *type = ui_text(node, "type"), *title = ui_text(node, "title");
    if (!*type) return WEFT_OK;
    snprintf(id, sizeof id, "%s%s", s->prefix, s->ids[i]);
    if (weft_graph_find(u->g, id)) return weft_fail(u->c, WEFT_E_FORMAT, "%s: two nodes have the id %s", u->file, id);
    weft_gnode *n = weft_graph_put(u->c, u->g, id, type);
    if (!n || emit_widgets(u, n, node, s, i) || emit_links(u, n, node, s, i)) return weft_error(u->c);
    if (weft_graph_fill(u->c, u->g, id)) return weft_error(u->c);   /* widgets_values may be too short, or not there */
    if (*title && !(n->title = weft_text_copy(title, strlen(title)))) return weft_graph_no_memory(u->c);
    return WEFT_OK;
}

static weft_status emit_scope(ui *u, ui_scope *s) {
    for (int i = 0; i < s->node_count; i++)
        if (emit_node(u, s, i)) return weft_error(u->c);
    return WEFT_OK;
}

/* Links to nodes that were not emitted (muted ones) are dropped; the check then tells of what is missing. */
static void drop_loose_links(ui *u) {
    for (int i = 0; i < u->g->count; i++) {
        weft_gnode *n = &u->g->nodes[i];
        for (int k = n->input_count - 1; k >= 0; k--) {
            weft_gin *in = &n->inputs[k];
            if (in->kind == WEFT_INPUT_LINK && !weft_graph_find(u->g, in->from))
                weft_graph_clear_input(u->c, u->g, n->id, in->name);
        }
    }
}

weft_status weft_graph_from_ui(weft_ctx *c, weft_graph *g, const char *file, const cJSON *root) {
    ui u = { .c = c, .g = g, .file = file, .root = root };
    ui_scope *top = ui_scope_new(&u, NULL, NULL, root, "", false, 0);
    if (top && !emit_scope(&u, top)) drop_loose_links(&u);
    ui_scope_free(top);
    return weft_error(c);
}
