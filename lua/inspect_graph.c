/* What is in a graph: its nodes by class, who samples with what, the texts, the files it asks for, the outputs. All by
 * the ports' descriptions, so that every class is covered: a sampler is what has a seed, a text is a port of several
 * lines. */
#include "lua/inspect.h"

#include <stdlib.h>
#include <string.h>

/* Nodes on the way to a text; classes listed by name; nodes of a graph in which the way to each text is followed. */
enum { HOPS = 100, CLASSES = 500, FOLLOWED = 2000 };

/* *listed: how many names there are so far; more than CLASSES are counted together. */
static void count_class(cJSON *classes, const char *name, int *listed) {
    if (*listed >= CLASSES && !cJSON_GetObjectItemCaseSensitive(classes, name)) name = "others";
    cJSON *n = cJSON_GetObjectItemCaseSensitive(classes, name);
    if (!n) ++*listed;
    if (n) cJSON_SetNumberValue(n, n->valuedouble + 1);
    else cJSON_AddNumberToObject(classes, name, 1);
}

static bool lists(const cJSON *list, const char *text) {
    for (const cJSON *v = list ? list->child : NULL; v; v = v->next)
        if (cJSON_IsString(v) && !strcmp(v->valuestring, text)) return true;
    return false;
}

static cJSON *value_json(const weft_value *v) {
    switch (v->kind) {
    case WEFT_PORT_STRING: return cJSON_CreateString(v->s);
    case WEFT_PORT_BOOL: return cJSON_CreateBool(v->b);
    case WEFT_PORT_FLOAT: return cJSON_CreateNumber(v->f);
    case WEFT_PORT_INT: {       /* seeds have more digits than a double */
        char digits[24];
        if (v->type && !strcmp(v->type, "U64")) snprintf(digits, sizeof digits, "%llu", (unsigned long long)v->u);
        else snprintf(digits, sizeof digits, "%lld", (long long)v->i);
        return cJSON_CreateRaw(digits);
    }
    default: return cJSON_CreateNull();
    }
}

/* ---- texts ------------------------------------------------------------------------------------------------------- */

static const weft_port *text_port(const weft_node *n) {
    for (const weft_port *p = n ? n->inputs : NULL; p && p->name; p++)
        if (p->kind == WEFT_PORT_STRING && (p->flags & WEFT_PORT_MULTILINE)) return p;
    return NULL;
}

/* Whether this node's conditioning comes from `text`: up the first conditioning that each node on the way takes. */
static bool comes_from(session *s, const weft_graph *g, const char *id, const char *text) {
    for (int hops = 0; id && hops < HOPS; hops++) {
        if (!strcmp(id, text)) return true;
        const char *class_name = weft_graph_class(g, id), *from = NULL;
        const weft_node *n = class_name ? weft_registry_find(s->registry, class_name) : NULL;
        const weft_port *p = n ? n->inputs : NULL;
        weft_value v;
        int slot;
        for (; p && p->name && !from; p++)
            if (!weft_type_fits("CONDITIONING", p->type) || weft_graph_input(g, id, p->name, &v, &from, &slot) != 2)
                from = NULL;
        id = from;
    }
    return false;
}

/* "positive" or "negative", as the samplers use it; NULL where none does. */
static const char *role_of(session *s, const weft_graph *g, const char *text) {
    static const char *const roles[] = { "positive", "negative" };
    const char *id, *from;
    weft_value v;
    int slot;
    for (int role = 0; role < 2; role++)
        for (int i = 0; (id = weft_graph_id(g, i)); i++)
            if (weft_graph_input(g, id, roles[role], &v, &from, &slot) == 2 && comes_from(s, g, from, text))
                return roles[role];
    return NULL;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

/* Its literal numbers and choices, the seed first: what one wants to know to draw it again. */
static void sampler_facts(const weft_graph *g, const char *id, const weft_node *n, cJSON *out) {
    const char *from;
    weft_value v;
    int slot;
    bool seeded = false;
    for (const weft_port *p = n->inputs; p && p->name; p++) seeded = seeded || (p->flags & WEFT_PORT_SEED);
    if (!seeded) return;
    cJSON *row = inspect_row(inspect_list(out, "samplers"));
    cJSON_AddStringToObject(row, "node", id);
    cJSON_AddStringToObject(row, "class", n->name);
    for (const weft_port *p = n->inputs; p && p->name; p++)
        if (weft_graph_input(g, id, p->name, &v, &from, &slot) == 1 && p->kind != WEFT_PORT_STRING)
            cJSON_AddItemToObject(row, p->flags & WEFT_PORT_SEED ? "seed" : p->name, value_json(&v));
}

static void file_facts(session *s, const weft_graph *g, const char *id, const weft_node *n, cJSON *out) {
    const char *from;
    weft_value v;
    int slot;
    for (const weft_port *p = n->inputs; p && p->name; p++) {
        if (p->kind != WEFT_PORT_FILE || weft_graph_input(g, id, p->name, &v, &from, &slot) != 1 ||
            v.kind != WEFT_PORT_STRING)
            continue;
        char *path = weft_folders_find(s->c, &s->folders, p->folder, v.s);
        weft_clear(s->c);
        cJSON *row = inspect_row(inspect_list(out, "files"));
        cJSON_AddStringToObject(row, "node", id);
        cJSON_AddStringToObject(row, "class", n->name);
        cJSON_AddStringToObject(row, "folder", p->folder);
        cJSON_AddStringToObject(row, "name", v.s);
        cJSON_AddBoolToObject(row, "is_there", path != NULL);
        free(path);
    }
}

static void node_facts(session *s, const weft_graph *g, const char *id, const weft_node *n, bool follow, cJSON *out) {
    const char *from;
    weft_value v;
    int slot;
    const weft_port *text = n->flags & WEFT_NODE_EDITOR ? NULL : text_port(n);
    sampler_facts(g, id, n, out);
    file_facts(s, g, id, n, out);
    if (text && weft_graph_input(g, id, text->name, &v, &from, &slot) == 1 && v.kind == WEFT_PORT_STRING) {
        const char *role = follow ? role_of(s, g, id) : NULL;
        cJSON *row = inspect_row(inspect_list(out, "texts"));
        cJSON_AddStringToObject(row, "node", id);
        cJSON_AddStringToObject(row, "as", role ? role : "");
        cJSON_AddStringToObject(row, "text", v.s);
    }
    if (n->flags & WEFT_NODE_OUTPUT) {
        char name[320];
        snprintf(name, sizeof name, "%s (%s)", id, n->name);
        cJSON_AddItemToArray(inspect_list(out, "outputs"), cJSON_CreateString(name));
    }
}

bool inspect_graph_file(session *s, const char *path, cJSON *out) {
    weft_graph *g = weft_graph_read(s->c, s->registry, path);
    if (!g) return false;
    const char *id;
    int count = 0, listed = 0;
    while (weft_graph_id(g, count)) count++;
    if (!cJSON_GetObjectItemCaseSensitive(out, "kind")) {
        cJSON_AddStringToObject(out, "kind", "graph");
        cJSON_AddStringToObject(out, "form", weft_graph_workflow(g) ? "UI" : "API");
    }
    cJSON_AddNumberToObject(out, "nodes", count);
    cJSON *classes = cJSON_AddObjectToObject(out, "classes"), *missing = cJSON_AddArrayToObject(out, "unknown_classes");
    for (int i = 0; (id = weft_graph_id(g, i)); i++) {
        const char *name = weft_graph_class(g, id);
        const weft_node *n = weft_registry_find(s->registry, name);
        count_class(classes, name, &listed);
        if (n) node_facts(s, g, id, n, count <= FOLLOWED, out);
        else if (listed < CLASSES && !lists(missing, name)) cJSON_AddItemToArray(missing, cJSON_CreateString(name));
    }
    weft_graph_free(g);
    return true;
}
