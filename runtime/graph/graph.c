/* Graphs in memory: nodes by id, their inputs as literals or links; editing, walking, and writing in API format. See
 * graph.h. */
#include "runtime/graph/graph_internal.h"
#include "runtime/internal.h"
#include "runtime/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

weft_status weft_graph_no_memory(weft_ctx *c) { return weft_fail(c, WEFT_E_MEMORY, "graph: out of memory"); }

/* ---- nodes by id ------------------------------------------------------------------------------------------------- */

static uint32_t hash(const char *text) {
    uint32_t h = 2166136261u;       /* FNV-1a */
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 16777619u;
    return h;
}

/* The table's place of an id: where it stands, or the free one where it belongs. */
static int *slot_of(const weft_graph *g, const char *id) {
    uint32_t mask = (uint32_t)g->table_size - 1;
    for (uint32_t i = hash(id) & mask;; i = (i + 1) & mask)
        if (!g->table[i] || !strcmp(g->nodes[g->table[i] - 1].id, id)) return &g->table[i];
}

static void fill_table(weft_graph *g) {
    memset(g->table, 0, sizeof *g->table * (size_t)g->table_size);
    for (int i = 0; i < g->count; i++) *slot_of(g, g->nodes[i].id) = i + 1;
}

weft_gnode *weft_graph_find(const weft_graph *g, const char *id) {
    if (!g->table_size || !id) return NULL;
    int i = *slot_of(g, id);
    return i ? &g->nodes[i - 1] : NULL;
}

/* Room for one node more, and a table at most half full. */
static bool grow(weft_graph *g) {
    if (g->count < g->room) return true;
    int room = g->room ? 2 * g->room : 32;
    weft_gnode *nodes = weft_host_resize(g->nodes, sizeof *nodes * (size_t)room);
    if (!nodes) return false;
    g->nodes = nodes;
    int *table = weft_host_alloc(sizeof *table * 2 * (size_t)room);
    if (!table) return false;
    weft_host_free(g->table);
    g->table = table;
    g->table_size = 2 * room;
    g->room = room;
    fill_table(g);
    return true;
}

static void free_input(weft_gin *in) {
    weft_host_free(in->name);
    weft_host_free(in->from);
    cJSON_Delete(in->literal);
}

static void free_node(weft_gnode *n) {
    for (int i = 0; i < n->input_count; i++) free_input(&n->inputs[i]);
    weft_host_free(n->inputs);
    weft_host_free(n->id);
    weft_host_free(n->class_name);
    weft_host_free(n->title);
}

weft_gnode *weft_graph_put(weft_ctx *c, weft_graph *g, const char *id, const char *class_name) {
    if (weft_graph_find(g, id)) {
        weft_fail(c, WEFT_E_ARGUMENT, "graph: there is a node %s already", id);
        return NULL;
    }
    weft_gnode n = { .id = weft_text_copy(id, strlen(id)), .class_name = weft_text_copy(class_name, strlen(class_name)),
                     .node = weft_registry_find(g->registry, class_name) };
    if (!n.id || !n.class_name || !grow(g)) {
        free_node(&n);
        weft_graph_no_memory(c);
        return NULL;
    }
    g->nodes[g->count++] = n;
    *slot_of(g, id) = g->count;
    return &g->nodes[g->count - 1];
}

/* ---- inputs ------------------------------------------------------------------------------------------------------ */

weft_gin *weft_gnode_input(const weft_gnode *n, const char *name) {
    for (int i = 0; i < n->input_count; i++)
        if (!strcmp(n->inputs[i].name, name)) return &n->inputs[i];
    return NULL;
}

/* The input of that name, emptied, or a new one; NULL without memory. */
static weft_gin *fresh_input(weft_gnode *n, const char *name) {
    weft_gin *in = weft_gnode_input(n, name);
    if (in) {
        cJSON_Delete(in->literal);
        weft_host_free(in->from);
        in->literal = NULL;
        in->from = NULL;
        return in;
    }
    char *copy = weft_text_copy(name, strlen(name));
    weft_gin *grown = copy ? weft_host_resize(n->inputs, sizeof *grown * (size_t)(n->input_count + 1)) : NULL;
    if (!grown) {
        weft_host_free(copy);
        return NULL;
    }
    n->inputs = grown;
    in = &n->inputs[n->input_count++];
    *in = (weft_gin){ .name = copy };
    return in;
}

static void drop_input(weft_gnode *n, weft_gin *in) {
    free_input(in);
    *in = n->inputs[n->input_count - 1];
    n->input_count--;
}

/* Inputs are looked up one by one, so their number is bounded. */
static bool has_room(weft_ctx *c, const weft_gnode *n) {
    if (n->input_count >= WEFT_INPUTS)
        weft_fail(c, WEFT_E_FORMAT, "node %s (%s): more than %d inputs", n->id, n->class_name, WEFT_INPUTS);
    return weft_ok(c);
}

weft_status weft_gnode_set(weft_ctx *c, weft_gnode *n, const char *name, cJSON *literal) {
    weft_gin *in = literal && has_room(c, n) ? fresh_input(n, name) : NULL;
    if (!in) {
        cJSON_Delete(literal);
        return weft_ok(c) ? weft_graph_no_memory(c) : weft_error(c);
    }
    in->kind = WEFT_INPUT_LITERAL;
    in->literal = literal;
    return WEFT_OK;
}

weft_status weft_gnode_link(weft_ctx *c, weft_gnode *n, const char *name, const char *from, int slot) {
    char *copy = weft_text_copy(from, strlen(from));        /* first: `from` may stand in the input itself */
    weft_gin *in = copy && has_room(c, n) ? fresh_input(n, name) : NULL;
    if (!in) {
        weft_host_free(copy);
        return weft_ok(c) ? weft_graph_no_memory(c) : weft_error(c);
    }
    in->kind = WEFT_INPUT_LINK;
    in->from = copy;
    in->slot = slot;
    return WEFT_OK;
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

weft_graph *weft_graph_new(weft_ctx *c, const weft_registry *r) {
    if (!weft_ok(c)) return NULL;
    weft_graph *g = weft_host_alloc(sizeof *g);
    if (g) g->registry = r;
    else weft_graph_no_memory(c);
    return g;
}

void weft_graph_free(weft_graph *g) {
    if (!g) return;
    for (int i = 0; i < g->count; i++) free_node(&g->nodes[i]);
    weft_host_free(g->nodes);
    weft_host_free(g->table);
    weft_host_free(g->workflow);
    weft_host_free(g);
}

const char *weft_graph_workflow(const weft_graph *g) { return g->workflow; }

/* The node of an id, or NULL with an error that names it. */
static weft_gnode *need(weft_ctx *c, const weft_graph *g, const char *id) {
    if (!weft_ok(c)) return NULL;
    weft_gnode *n = weft_graph_find(g, id);
    if (!n) weft_fail(c, WEFT_E_ARGUMENT, "graph: there is no node %s", id);
    return n;
}

const char *weft_graph_add(weft_ctx *c, weft_graph *g, const char *id, const char *class_name) {
    char number[16];
    if (!weft_ok(c)) return NULL;
    if (!id) {
        int highest = 0;
        for (int i = 0; i < g->count; i++) {
            char *end;
            long v = strtol(g->nodes[i].id, &end, 10);
            if (!*end && v > highest && v < 1000000000) highest = (int)v;
        }
        snprintf(number, sizeof number, "%d", highest + 1);
        id = number;
    }
    weft_gnode *n = weft_graph_put(c, g, id, class_name);
    return n ? n->id : NULL;
}

weft_status weft_graph_remove(weft_ctx *c, weft_graph *g, const char *id) {
    weft_gnode *n = need(c, g, id);
    if (!n) return weft_error(c);
    free_node(n);
    memmove(n, n + 1, sizeof *n * (size_t)(g->nodes + g->count - n - 1));
    g->count--;
    fill_table(g);
    return WEFT_OK;
}

static cJSON *whole_number(int64_t i, uint64_t u, bool is_unsigned) {
    char digits[24];
    cJSON *n = cJSON_CreateNumber(is_unsigned ? (double)u : (double)i);
    if (!n || (is_unsigned ? u < 1000000000000000u : i > -1000000000000000 && i < 1000000000000000)) return n;
    if (is_unsigned) snprintf(digits, sizeof digits, "%" PRIu64, u);
    else snprintf(digits, sizeof digits, "%" PRId64, i);
    n->valuestring = cJSON_malloc(strlen(digits) + 1);      /* where json.h keeps a number's digits */
    if (!n->valuestring) {
        cJSON_Delete(n);
        return NULL;
    }
    strcpy(n->valuestring, digits);
    return n;
}

weft_status weft_graph_set(weft_ctx *c, weft_graph *g, const char *id, const char *input, const weft_value *v) {
    weft_gnode *n = need(c, g, id);
    if (!n) return weft_error(c);
    cJSON *literal = NULL;
    switch (v->kind) {
    case WEFT_PORT_INT: literal = whole_number(v->i, v->u, v->type && !strcmp(v->type, "U64")); break;
    case WEFT_PORT_FLOAT: literal = cJSON_CreateNumber(v->f); break;
    case WEFT_PORT_BOOL: literal = cJSON_CreateBool(v->b); break;
    case WEFT_PORT_STRING: case WEFT_PORT_CHOICE: case WEFT_PORT_FILE: literal = cJSON_CreateString(v->s); break;
    default:
        return weft_fail(c, WEFT_E_ARGUMENT, "node %s (%s): input %s: only a number, text or true and false can be set",
                         id, n->class_name, input);
    }
    return weft_gnode_set(c, n, input, literal);
}

weft_status weft_graph_fill(weft_ctx *c, weft_graph *g, const char *id) {
    weft_gnode *n = need(c, g, id);
    for (const weft_port *p = n && n->node ? n->node->inputs : NULL; p && p->name && weft_ok(c); p++) {
        weft_value v;
        if (weft_gnode_input(n, p->name) || p->flags & (WEFT_PORT_OPTIONAL | WEFT_PORT_LINK_ONLY)) continue;
        if (weft_port_initial(p, &v)) weft_graph_set(c, g, id, p->name, &v);
        else if (p->kind == WEFT_PORT_STRING || p->kind == WEFT_PORT_CHOICE) weft_graph_no_memory(c);
        weft_value_clear(&v);
    }
    return weft_error(c);
}

weft_status weft_graph_set_text(weft_ctx *c, weft_graph *g, const char *id, const char *input, const char *text) {
    weft_gnode *n = need(c, g, id);
    if (!n) return weft_error(c);
    const weft_port *p = n->node ? weft_port_find(n->node->inputs, input) : NULL;
    if (n->node && !p) {
        weft_nearest near = { .name = input };
        for (const weft_port *q = n->node->inputs; q && q->name; q++) weft_nearest_try(&near, q->name);
        return weft_fail(c, WEFT_E_ARGUMENT, "node %s (%s) has no input %s%s%s%s", id, n->class_name, input,
                         near.best ? "; did you mean " : "", near.best ? near.best : "", near.best ? "?" : "");
    }
    bool plain = !p || p->kind == WEFT_PORT_STRING || p->kind == WEFT_PORT_CHOICE || p->kind == WEFT_PORT_FILE;
    if (plain) return weft_gnode_set(c, n, input, cJSON_CreateString(text));
    cJSON *literal = weft_json_parse(c, input, text, strlen(text), 0);
    if (!literal) {
        weft_clear(c);
        return weft_fail(c, WEFT_E_ARGUMENT, "node %s (%s): input %s takes %s, not \"%s\"", id, n->class_name, input,
                         p->type, text);
    }
    return weft_gnode_set(c, n, input, literal);
}

weft_status weft_graph_link(weft_ctx *c, weft_graph *g, const char *id, const char *input, const char *from, int slot) {
    weft_gnode *n = need(c, g, id);
    return n ? weft_gnode_link(c, n, input, from, slot) : weft_error(c);
}

weft_status weft_graph_clear_input(weft_ctx *c, weft_graph *g, const char *id, const char *input) {
    weft_gnode *n = need(c, g, id);
    if (!n) return weft_error(c);
    weft_gin *in = weft_gnode_input(n, input);
    if (in) drop_input(n, in);
    return WEFT_OK;
}

/* ---- walking ----------------------------------------------------------------------------------------------------- */

const char *weft_graph_id(const weft_graph *g, int i) { return i >= 0 && i < g->count ? g->nodes[i].id : NULL; }

const char *weft_graph_class(const weft_graph *g, const char *id) {
    const weft_gnode *n = weft_graph_find(g, id);
    return n ? n->class_name : NULL;
}

const char *weft_graph_title(const weft_graph *g, const char *id) {
    const weft_gnode *n = weft_graph_find(g, id);
    return n ? n->title : NULL;
}

int weft_graph_input(const weft_graph *g, const char *id, const char *input, weft_value *v, const char **from,
                     int *slot) {
    const weft_gnode *n = weft_graph_find(g, id);
    const weft_gin *in = n ? weft_gnode_input(n, input) : NULL;
    if (!in) return 0;
    if (in->kind == WEFT_INPUT_LINK) {
        *from = in->from;
        *slot = in->slot;
        return 2;
    }
    const cJSON *l = in->literal;
    *v = (weft_value){ 0 };
    if (cJSON_IsBool(l)) *v = (weft_value){ .kind = WEFT_PORT_BOOL, .type = "BOOLEAN", .b = cJSON_IsTrue(l) };
    else if (cJSON_IsString(l)) *v = (weft_value){ .kind = WEFT_PORT_STRING, .type = "STRING", .s = l->valuestring };
    else if (weft_json_i64(l, &v->i)) { v->kind = WEFT_PORT_INT; v->type = "INT"; }
    else if (weft_json_u64(l, &v->u)) { v->kind = WEFT_PORT_INT; v->type = "U64"; }
    else if (cJSON_IsNumber(l)) *v = (weft_value){ .kind = WEFT_PORT_FLOAT, .type = "FLOAT", .f = l->valuedouble };
    return 1;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* The least digits that give the double again. cJSON takes fewer: for it numbers that differ in the last bit are equal.
 */
static bool keep_digits(cJSON *number) {
    char text[40];
    if (!isfinite(number->valuedouble)) return true;        /* printed as null */
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number->valuedouble);
        if (strtod(text, NULL) == number->valuedouble) break;
    }
    for (char *p = text; *p; p++)
        if (*p == ',') *p = '.';        /* a host's locale */
    number->valuestring = cJSON_malloc(strlen(text) + 1);
    if (!number->valuestring) return false;
    strcpy(number->valuestring, text);
    return true;
}

/* Numbers as raw text: the digits that the file had where they were kept, those of the double otherwise. */
static bool make_exact(cJSON *value) {
    if (cJSON_IsNumber(value)) {
        if (!value->valuestring && !keep_digits(value)) return false;
        if (value->valuestring) value->type = cJSON_Raw;
    }
    for (cJSON *child = value->child; child; child = child->next)
        if (!make_exact(child)) return false;
    return true;
}

static cJSON *printable(const cJSON *value) {
    cJSON *copy = cJSON_Duplicate(value, 1);
    if (!copy || make_exact(copy)) return copy;
    cJSON_Delete(copy);
    return NULL;
}

static cJSON *link_json(const weft_gin *in) {
    cJSON *list = cJSON_CreateArray(), *from = cJSON_CreateString(in->from), *slot = cJSON_CreateNumber(in->slot);
    if (list && from && slot) {
        cJSON_AddItemToArray(list, from);
        cJSON_AddItemToArray(list, slot);
        return list;
    }
    cJSON_Delete(list);
    cJSON_Delete(from);
    cJSON_Delete(slot);
    return NULL;
}

static bool add_node(cJSON *root, const weft_gnode *n) {
    cJSON *node = cJSON_AddObjectToObject(root, n->id);
    if (!node || !cJSON_AddStringToObject(node, "class_type", n->class_name)) return false;
    cJSON *inputs = cJSON_AddObjectToObject(node, "inputs");
    if (!inputs) return false;
    for (int i = 0; i < n->input_count; i++) {
        const weft_gin *in = &n->inputs[i];
        cJSON *value = in->kind == WEFT_INPUT_LINK ? link_json(in) : printable(in->literal);
        if (!value) return false;
        if (!cJSON_AddItemToObject(inputs, in->name, value)) {
            cJSON_Delete(value);
            return false;
        }
    }
    if (!n->title) return true;
    cJSON *meta = cJSON_AddObjectToObject(node, "_meta");
    return meta && cJSON_AddStringToObject(meta, "title", n->title);
}

char *weft_graph_json(const weft_graph *g, bool pretty) {
    cJSON *root = cJSON_CreateObject();
    bool whole = root != NULL;
    for (int i = 0; whole && i < g->count; i++) whole = add_node(root, &g->nodes[i]);
    char *text = !whole ? NULL : pretty ? cJSON_Print(root) : cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}
