/* Building the scopes of a UI file: links of both versions (tuples and objects), subgraphs, and the older group nodes,
 * which are turned into the same form. Files in the wild are careless: whatever has not the form it should have is
 * passed over, and what is left decides. */
#include "runtime/graph/ui.h"
#include "runtime/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

bool ui_spend(ui *u, int64_t entries) {
    u->work += entries;
    if (u->work > UI_WORK) weft_fail(u->c, WEFT_E_FORMAT, "%s: too many links for so many nodes", u->file);
    return weft_ok(u->c);
}

const char *ui_text(const cJSON *object, const char *key) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

int ui_mode(const cJSON *node) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(node, "mode");
    return cJSON_IsNumber(v) ? v->valueint : UI_ALWAYS;
}

/* An id as text: a number or a string. */
static bool id_text(const cJSON *v, char out[40]) {
    if (cJSON_IsString(v)) return (size_t)snprintf(out, 40, "%s", v->valuestring) < 40;
    if (!cJSON_IsNumber(v)) return false;
    snprintf(out, 40, "%.0f", v->valuedouble);
    return true;
}

static int whole(const cJSON *v) {
    return cJSON_IsNumber(v) && v->valuedouble >= INT_MIN && v->valuedouble <= INT_MAX ? (int)v->valuedouble : -1;
}

/* ---- links ------------------------------------------------------------------------------------------------------- */

static bool read_link(const cJSON *v, ui_link *out) {
    const cJSON *part[5] = { NULL };
    if (cJSON_IsArray(v)) {
        int i = 0;
        for (const cJSON *e = v->child; e && i < 5; e = e->next) part[i++] = e;
    } else if (cJSON_IsObject(v)) {
        static const char *const keys[] = { "id", "origin_id", "origin_slot", "target_id", "target_slot" };
        for (int i = 0; i < 5; i++) part[i] = cJSON_GetObjectItemCaseSensitive(v, keys[i]);
    }
    if (!cJSON_IsNumber(part[0]) || !id_text(part[1], out->from) || !id_text(part[3], out->to)) return false;
    out->id = part[0]->valuedouble;
    out->from_slot = whole(part[2]);
    out->to_slot = whole(part[4]);
    return true;
}

static int by_id(const void *a, const void *b) {
    double x = ((const ui_link *)a)->id, y = ((const ui_link *)b)->id;
    return (x > y) - (x < y);
}

static int by_id_and_place(const void *a, const void *b) {
    int order = by_id(a, b);
    return order ? order : ((const ui_link *)a)->place - ((const ui_link *)b)->place;
}

/* Of links with the same id the last one read counts, as in the editor. */
static void sort_links(ui_scope *s) {
    qsort(s->links, (size_t)s->link_count, sizeof *s->links, by_id_and_place);
    int kept = 0;
    for (int i = 0; i < s->link_count; i++) {
        if (kept && s->links[kept - 1].id == s->links[i].id) kept--;
        s->links[kept++] = s->links[i];
    }
    s->link_count = kept;
}

static bool read_links(ui *u, ui_scope *s) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(s->definition, "links");
    int room = cJSON_GetArraySize(list) + 1;
    u->links += room;
    if (u->links > UI_LINKS)
        return weft_fail(u->c, WEFT_E_FORMAT, "%s: more than %d links", u->file, UI_LINKS), false;
    s->links = weft_host_alloc(sizeof *s->links * (size_t)room);
    if (!s->links) return weft_graph_no_memory(u->c), false;
    for (const cJSON *v = list ? list->child : NULL; v; v = v->next) {
        s->links[s->link_count].place = s->link_count;
        s->link_count += read_link(v, &s->links[s->link_count]);
    }
    sort_links(s);
    return true;
}

const ui_link *ui_find_link(const ui_scope *s, double id) {
    ui_link key = { .id = id };
    return s->link_count ? bsearch(&key, s->links, (size_t)s->link_count, sizeof key, by_id) : NULL;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

int ui_find_node(const ui_scope *s, const char *id) {
    for (int i = 0; i < s->node_count; i++)
        if (!strcmp(s->ids[i], id)) return i;
    return -1;
}

static bool read_nodes(ui *u, ui_scope *s) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(s->definition, "nodes");
    size_t room = (size_t)cJSON_GetArraySize(list) + 1;
    if (room > UI_NODES || (u->nodes += (int)room) > UI_NODES)
        return weft_fail(u->c, WEFT_E_FORMAT, "%s: more than %d nodes", u->file, UI_NODES), false;
    s->nodes = weft_host_alloc(sizeof *s->nodes * room);
    s->ids = weft_host_alloc(sizeof *s->ids * room);
    s->children = weft_host_alloc(sizeof *s->children * room);
    if (!s->nodes || !s->ids || !s->children) return weft_graph_no_memory(u->c), false;
    int index = 0;
    for (const cJSON *v = list ? list->child : NULL; v; v = v->next, index++) {
        char id[40];
        if (s->group) snprintf(id, sizeof id, "%d", index);
        else if (!cJSON_IsObject(v) || !id_text(cJSON_GetObjectItemCaseSensitive(v, "id"), id)) continue;
        if (cJSON_GetArraySize(v) > UI_FIELDS)
            return weft_fail(u->c, WEFT_E_FORMAT, "%s: node %s: more than %d fields", u->file, id, UI_FIELDS), false;
        memcpy(s->ids[s->node_count], id, sizeof id);
        s->nodes[s->node_count++] = v;
    }
    return true;
}

/* ---- widgets ----------------------------------------------------------------------------------------------------- */

bool ui_is_widget(const weft_port *p) {
    return !(p->flags & WEFT_PORT_LINK_ONLY) &&
           (p->kind == WEFT_PORT_INT || p->kind == WEFT_PORT_FLOAT || p->kind == WEFT_PORT_BOOL ||
            p->kind == WEFT_PORT_STRING || p->kind == WEFT_PORT_CHOICE || p->kind == WEFT_PORT_FILE);
}

bool ui_is_control(const cJSON *v) {
    static const char *const words[] = { "fixed", "increment", "decrement", "randomize" };
    if (cJSON_IsBool(v)) return true;
    for (size_t i = 0; cJSON_IsString(v) && i < sizeof words / sizeof *words; i++)
        if (!strcmp(v->valuestring, words[i])) return true;
    return false;
}

int ui_widget_span(const weft_port *p, const cJSON *value) {
    bool control = value && (p->flags & WEFT_PORT_SEED) && ui_is_control(value->next);
    bool upload = value && (p->flags & WEFT_PORT_UPLOAD) && cJSON_IsString(value->next);
    return 1 + (control || upload);
}

/* ---- group nodes: extra.groupNodes[NAME] = {nodes, links: [from, slot, to, slot, id, type], external: [[…, slot,
 * type]]} ---- */

/* The form of a definition with numbered links, and with links from UI_INPUT_NODE and to UI_OUTPUT_NODE. */
typedef struct grouping { ui *u; ui_scope *s; int room; } grouping;

static bool group_link(grouping *k, const char *from, int from_slot, const char *to, int to_slot) {
    ui_scope *s = k->s;
    if (s->link_count == k->room) {
        k->room = k->room ? 2 * k->room : 32;
        ui_link *grown = weft_host_resize(s->links, sizeof *grown * (size_t)k->room);
        if (!grown) return weft_graph_no_memory(k->u->c), false;
        s->links = grown;
    }
    ui_link *l = &s->links[s->link_count];
    *l = (ui_link){ .id = s->link_count, .from_slot = from_slot, .to_slot = to_slot };
    snprintf(l->from, sizeof l->from, "%s", from);
    snprintf(l->to, sizeof l->to, "%s", to);
    s->link_count++;
    return true;
}

/* The link inside the group that ends at (node, slot) or starts there; −1: none. */
static int inner_link(const ui_scope *s, bool ends, const char *id, int slot) {
    for (int i = 0; i < s->link_count; i++) {
        const ui_link *l = &s->links[i];
        if (ends ? l->to_slot == slot && !strcmp(l->to, id) : l->from_slot == slot && !strcmp(l->from, id)) return i;
    }
    return -1;
}

static bool is_external(const cJSON *external, int node, int slot) {
    for (const cJSON *e = external ? external->child : NULL; e; e = e->next) {
        const cJSON *index = cJSON_GetObjectItemCaseSensitive(e->child, "index");
        if (cJSON_IsArray(e) && whole(index) == node && whole(e->child->next) == slot) return true;
    }
    return false;
}

static bool group_links(ui *u, ui_scope *s) {
    grouping k = { u, s, 0 };
    const cJSON *links = cJSON_GetObjectItemCaseSensitive(s->definition, "links"),
                *external = cJSON_GetObjectItemCaseSensitive(s->definition, "external");
    char id[16], minus[16];
    for (const cJSON *l = links ? links->child : NULL; l; l = l->next) {
        const cJSON *from = cJSON_GetArrayItem(l, 0), *to = cJSON_GetArrayItem(l, 2);
        if (!cJSON_IsNumber(from) || !cJSON_IsNumber(to)) continue;     /* from outside: an input, below */
        snprintf(id, sizeof id, "%d", whole(from));
        snprintf(minus, sizeof minus, "%d", whole(to));
        if (!group_link(&k, id, whole(cJSON_GetArrayItem(l, 1)), minus, whole(cJSON_GetArrayItem(l, 3)))) return false;
    }
    int inputs = 0, outputs = 0, inner = s->link_count;
    for (int n = 0; n < s->node_count; n++) {
        int slot = 0;
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(s->nodes[n], "inputs");
        for (const cJSON *in = list ? list->child : NULL; in; in = in->next, slot++) {
            if (!ui_spend(u, s->link_count)) return false;
            if (inner_link(s, true, s->ids[n], slot) >= 0) continue;
            snprintf(minus, sizeof minus, "%d", UI_INPUT_NODE);
            if (!group_link(&k, minus, inputs++, s->ids[n], slot)) return false;
        }
        slot = 0;
        list = cJSON_GetObjectItemCaseSensitive(s->nodes[n], "outputs");
        for (const cJSON *out = list ? list->child : NULL; out; out = out->next, slot++) {
            if (!ui_spend(u, s->link_count + cJSON_GetArraySize(external))) return false;
            int used = inner_link(s, false, s->ids[n], slot);
            if (used >= 0 && used < inner && !is_external(external, n, slot)) continue;
            snprintf(minus, sizeof minus, "%d", UI_OUTPUT_NODE);
            if (!group_link(&k, s->ids[n], slot, minus, outputs++)) return false;
        }
    }
    return true;
}

/* The instance has one list of values for all its nodes, one behind the other. */
static bool group_widgets(ui *u, ui_scope *s) {
    const cJSON *values = cJSON_GetObjectItemCaseSensitive(s->instance, "widgets_values");
    s->widget_base = weft_host_alloc(sizeof *s->widget_base * ((size_t)s->node_count + 1));
    if (!s->widget_base) return weft_graph_no_memory(u->c), false;
    int at = 0;
    for (int n = 0; n < s->node_count; n++) {
        s->widget_base[n] = at;
        const weft_node *node = weft_registry_find(u->g->registry, ui_text(s->nodes[n], "type"));
        const cJSON *own = cJSON_GetObjectItemCaseSensitive(s->nodes[n], "widgets_values");
        if (!ui_spend(u, at + 16)) return false;
        if (!node) at += cJSON_GetArraySize(own);
        for (const weft_port *p = node ? node->inputs : NULL; p && p->name; p++)
            if (ui_is_widget(p)) at += ui_widget_span(p, cJSON_GetArrayItem(values, at));
    }
    return true;
}

/* ---- scopes ------------------------------------------------------------------------------------------------------ */

/* The definition that a node's type names: a subgraph's id, or "workflow/NAME" ("workflow>NAME"). */
static const cJSON *definition_of(ui *u, const cJSON *node, bool *group) {
    const char *type = ui_text(node, "type");
    const cJSON *definitions = cJSON_GetObjectItemCaseSensitive(u->root, "definitions");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(definitions, "subgraphs");
    *group = false;
    for (const cJSON *d = list ? list->child : NULL; d && ui_spend(u, 1); d = d->next)
        if (*type && !strcmp(ui_text(d, "id"), type)) return d;
    if (strncmp(type, "workflow/", 9) && strncmp(type, "workflow>", 9)) return NULL;
    const cJSON *extra = cJSON_GetObjectItemCaseSensitive(u->root, "extra");
    const cJSON *groups = cJSON_GetObjectItemCaseSensitive(extra, "groupNodes");
    *group = true;
    if (!ui_spend(u, cJSON_GetArraySize(groups))) return NULL;
    const cJSON *d = cJSON_GetObjectItemCaseSensitive(groups, type + 9);
    return cJSON_IsObject(d) ? d : NULL;
}

static bool open_children(ui *u, ui_scope *s, int depth) {
    char prefix[200];
    for (int i = 0; i < s->node_count; i++) {
        bool group;
        const cJSON *d = definition_of(u, s->nodes[i], &group);
        if (!weft_ok(u->c)) return false;
        if (!d) continue;
        if (depth >= UI_DEPTH)
            return weft_fail(u->c, WEFT_E_FORMAT, "%s: subgraphs more than %d deep inside each other", u->file,
                             UI_DEPTH),
                   false;
        if ((size_t)snprintf(prefix, sizeof prefix, "%s%s:", s->prefix, s->ids[i]) >= sizeof prefix)
            return weft_fail(u->c, WEFT_E_FORMAT, "%s: node %s%s: ids too long", u->file, s->prefix, s->ids[i]), false;
        if (!(s->children[i] = ui_scope_new(u, s, s->nodes[i], d, prefix, group, depth + 1))) return false;
    }
    return true;
}

ui_scope *ui_scope_new(ui *u, ui_scope *parent, const cJSON *instance, const cJSON *definition, const char *prefix,
                       bool group, int depth) {
    ui_scope *s = weft_host_alloc(sizeof *s);
    if (!s) {
        weft_graph_no_memory(u->c);
        return NULL;
    }
    *s = (ui_scope){ .parent = parent,
                     .instance = instance,
                     .definition = definition,
                     .group = group,
                     .prefix = weft_text_copy(prefix, strlen(prefix)) };
    if (!s->prefix) weft_graph_no_memory(u->c);
    bool whole_scope = s->prefix && read_nodes(u, s) &&
                       (group ? group_links(u, s) && group_widgets(u, s) : read_links(u, s)) &&
                       open_children(u, s, depth);
    if (whole_scope) return s;
    ui_scope_free(s);
    return NULL;
}

void ui_scope_free(ui_scope *s) {
    if (!s) return;
    for (int i = 0; s->children && i < s->node_count; i++) ui_scope_free(s->children[i]);
    weft_host_free(s->children);
    weft_host_free(s->prefix);
    weft_host_free(s->links);
    weft_host_free(s->nodes);
    weft_host_free(s->ids);
    weft_host_free(s->widget_base);
    weft_host_free(s);
}
