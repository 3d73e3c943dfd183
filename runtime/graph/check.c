/* Checking a graph before anything runs: every fault, not the first alone, under ComfyUI's names for them. */
#include "runtime/graph/graph_internal.h"
#include "runtime/internal.h"
#include "runtime/json_text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { DETAILS = 1024, FAULTS = 500, HOPS = 1000 };     /* of a message; told at most; reroutes in a row */

/* ComfyUI's words for each type of fault. */
static const char *message_of(const char *type) {
    static const char *const words[][2] = {
        { "required_input_missing", "Required input is missing" },
        { "bad_linked_input", "Bad linked input" },
        { "return_type_mismatch", "Return type mismatch between linked nodes" },
        { "invalid_input_type", "Failed to convert an input value" },
        { "value_smaller_than_min", "Value smaller than the minimum" },
        { "value_bigger_than_max", "Value bigger than the maximum" },
        { "value_not_in_list", "Value not in list" },
        { "custom_validation_failed", "Custom validation failed for node" },
        { "exception_during_validation", "Exception when validating node" },
        { "dependency_cycle", "Dependency cycle" },
        { "missing_node_type", "Node type not found" },
        { "prompt_no_outputs", "Prompt has no outputs" },
        { "invalid_prompt", "Invalid prompt" },
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(words[i][0], type)) return words[i][1];
    return type;
}

struct checking {
    weft_ctx *c;
    const weft_graph *g;
    const weft_folders *folders;
    weft_faults *faults;
};

static bool goes_on(const struct checking *k) { return weft_ok(k->c) && k->faults->count < FAULTS; }

/* Notes a fault; the list owns copies of the texts, all in one block that starts with the details. */
static void note(struct checking *k, const char *type, const weft_gnode *n, const char *input, const char *format, ...)
    WEFT_PRINTF(5, 6);
static void note(struct checking *k, const char *type, const weft_gnode *n, const char *input, const char *format,
                 ...) {
    char details[DETAILS];
    va_list args;
    va_start(args, format);
    vsnprintf(details, sizeof details, format, args);
    va_end(args);
    weft_text_tidy(details);
    const char *texts[] = { details, n ? n->id : "", n ? n->class_name : "", input ? input : "" };
    size_t room = 0;
    for (int i = 0; i < 4; i++) room += strlen(texts[i]) + 1;
    char *block = weft_host_alloc(room), *at = block;
    weft_fault *grown =
        block ? weft_host_resize(k->faults->items, sizeof *grown * (size_t)(k->faults->count + 1)) : NULL;
    if (!grown) {
        weft_host_free(block);
        weft_graph_no_memory(k->c);
        return;
    }
    const char *copies[4];
    for (int i = 0; i < 4; i++) {
        copies[i] = strcpy(at, texts[i]);
        at += strlen(texts[i]) + 1;
    }
    k->faults->items = grown;
    grown[k->faults->count++] = (weft_fault){ .type = type,
                                              .message = message_of(type),
                                              .details = copies[0],
                                              .node = n ? copies[1] : NULL,
                                              .class_name = n ? copies[2] : NULL,
                                              .input = input ? copies[3] : NULL };
}

void weft_faults_free(weft_faults *faults) {
    for (int i = 0; i < faults->count; i++) weft_host_free((void *)faults->items[i].details);
    weft_host_free(faults->items);
    *faults = (weft_faults){ 0 };
}

/* ---- what an error is about -------------------------------------------------------------------------------------- */

static void copy_text(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from ? from : ""); }

bool weft_graph_fault(weft_ctx *c, const char *type, const char *node, const char *class_name, const char *input,
                      const char *format, ...) {
    char text[DETAILS];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!weft_ok(c)) return false;
    copy_text(c->blame.type, sizeof c->blame.type, type);
    copy_text(c->blame.input, sizeof c->blame.input, input);
    weft_graph_blame_node(c, node, class_name);
    weft_fail(c, WEFT_E_ARGUMENT, "%s", text);
    return false;
}

void weft_graph_blame_node(weft_ctx *c, const char *node, const char *class_name) {
    if (*c->blame.class_name) return;
    copy_text(c->blame.node, sizeof c->blame.node, node);
    copy_text(c->blame.class_name, sizeof c->blame.class_name, class_name);
}

weft_fault weft_graph_blame(const weft_ctx *c) {
    const weft_blame *b = &c->blame;
    return (weft_fault){ .type = *b->type ? b->type : NULL,
                         .node = *b->node ? b->node : NULL,
                         .class_name = *b->class_name ? b->class_name : NULL,
                         .input = *b->input ? b->input : NULL,
                         .message = weft_message(c),
                         .details = weft_message(c) };
}

/* ---- one node ---------------------------------------------------------------------------------------------------- */

int weft_port_resolve(const weft_port *p, const weft_gnode *n, weft_gin **in, weft_value *v, const char **fault,
                      char *text, size_t size) {
    *in = weft_gnode_input(n, p->name);
    if (*in && (*in)->kind == WEFT_INPUT_LINK) return 2;
    if (*in) return weft_literal_read(p, (*in)->literal, v, fault, text, size) ? 1 : -1;
    if ((p->flags & (WEFT_PORT_OPTIONAL | WEFT_PORT_LATE)) && weft_port_initial(p, v)) return 1;
    if (p->flags & WEFT_PORT_OPTIONAL) return 0;
    *fault = "required_input_missing";
    snprintf(text, size, "input %s (%s) is missing", p->name, p->type);
    return -1;
}

/* The type that a node's output gives. What passes on what it is given (Reroute) gives what its input links to; "*"
 * where that is not known. */
static const char *type_given(const weft_graph *g, const weft_gnode *n, int slot) {
    for (int hops = 0; hops < HOPS; hops++) {
        if (!n || !n->node || slot < 0 || slot >= weft_port_count(n->node->outputs)) return "*";
        if (!weft_node_passes_on(n->node)) return n->node->outputs[slot].type;
        const weft_gin *in = weft_gnode_input(n, n->node->inputs[0].name);
        if (!in || in->kind != WEFT_INPUT_LINK) return "*";
        n = weft_graph_find(g, in->from);
        slot = in->slot;
    }
    return "*";
}

static void check_link(struct checking *k, const weft_gnode *n, const weft_port *p, const weft_gin *in) {
    const weft_gnode *source = weft_graph_find(k->g, in->from);
    if (!source) {
        note(k, "bad_linked_input", n, p->name, "input %s links to node %s, which is not in the graph", p->name,
             in->from);
        return;
    }
    if (!source->node) return;      /* told at the unknown class itself */
    int count = weft_port_count(source->node->outputs);
    if (in->slot < 0 || in->slot >= count) {
        note(k, "bad_linked_input", n, p->name, "input %s links to output %d of node %s (%s), which has %d", p->name,
             in->slot, source->id, source->class_name, count);
        return;
    }
    const char *given = strcmp(p->type, "*") ? type_given(k->g, source, in->slot) : "*";
    if (!weft_type_fits(given, p->type))
        note(k, "return_type_mismatch", n, p->name, "input %s takes %s, but output %d of node %s (%s) gives %s",
             p->name, p->type, in->slot, source->id, source->class_name, given);
}

static void check_file(struct checking *k, const weft_gnode *n, const weft_port *p, const char *name) {
    char *path = weft_folders_find(k->c, k->folders, p->folder, name);
    if (!path && weft_error(k->c) != WEFT_E_MEMORY) {
        note(k, "value_not_in_list", n, p->name, "%s", weft_message(k->c));
        weft_clear(k->c);
    }
    weft_host_free(path);
}

/* The node's own check, on a struct in which links are empty. */
static void check_custom(struct checking *k, const weft_gnode *n, void *self) {
    weft_run_info info = { .registry = k->g->registry,
                           .folders = k->folders,
                           .node = n->node,
                           .node_id = n->id,
                           .class_name = n->class_name };
    k->c->run_info = &info;
    n->node->check(k->c, self);
    k->c->run_info = NULL;
    if (weft_ok(k->c) || weft_error(k->c) == WEFT_E_MEMORY || weft_error(k->c) == WEFT_E_CANCELLED) return;
    note(k, "custom_validation_failed", n, NULL, "%s", weft_message(k->c));
    weft_clear(k->c);
}

static void check_node(struct checking *k, const weft_gnode *n) {
    int count = weft_port_count(n->node->inputs), before = k->faults->count;
    weft_value *values = weft_host_alloc(sizeof *values * (size_t)(count + 1));
    void *self = weft_host_alloc(n->node->size + 1);
    if (!values || !self) weft_graph_no_memory(k->c);
    for (int i = 0; values && self && i < count && weft_ok(k->c); i++) {
        const weft_port *p = &n->node->inputs[i];
        const char *fault;
        char text[DETAILS - 128];
        weft_gin *in;
        int found = weft_port_resolve(p, n, &in, &values[i], &fault, text, sizeof text);
        if (found == 2) check_link(k, n, p, in);
        else if (found == 1) {
            if (p->kind == WEFT_PORT_FILE && k->folders) check_file(k, n, p, values[i].s);
            weft_port_store(p, self, &values[i]);
        } else if (found < 0 && !strcmp(fault, "required_input_missing")) note(k, fault, n, p->name, "%s", text);
        else if (found < 0) note(k, fault, n, p->name, "input %s: %s", p->name, text);
    }
    if (weft_ok(k->c) && n->node->check && k->faults->count == before) check_custom(k, n, self);
    for (int i = 0; values && i < count; i++) weft_value_clear(&values[i]);
    weft_host_free(values);
    weft_host_free(self);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void note_cycle(struct checking *k, const weft_plan *plan) {
    char text[DETAILS - 128];
    size_t used = 0;
    for (int i = 0; i < plan->cycle_count && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s (%s) needs ", k->g->nodes[plan->cycle[i]].id,
                                 k->g->nodes[plan->cycle[i]].class_name);
    const weft_gnode *first = &k->g->nodes[plan->cycle[0]];
    note(k, "dependency_cycle", first, NULL, "the nodes need each other: %s%s", text, first->id);
}

static void note_unknown(struct checking *k, const weft_gnode *n) {
    const char *near = weft_registry_nearest(k->g->registry, n->class_name);
    if (near) note(k, "missing_node_type", n, NULL, "there is no class %s; did you mean %s?", n->class_name, near);
    else note(k, "missing_node_type", n, NULL, "there is no class %s", n->class_name);
}

weft_status weft_graph_check(weft_ctx *c, const weft_graph *g, const weft_folders *f, weft_faults *faults) {
    return weft_graph_check_for(c, g, NULL, f, faults);
}

/* What an unknown class would be is not known: where nothing takes anything from it, it may be an output. */
static void note_unknown_outputs(struct checking *k) {
    const weft_graph *g = k->g;
    bool *taken = weft_host_alloc(sizeof *taken * ((size_t)g->count + 1));
    if (!taken) weft_graph_no_memory(k->c);
    for (int i = 0; taken && i < g->count; i++)
        for (int j = 0; j < g->nodes[i].input_count; j++) {
            const weft_gin *in = &g->nodes[i].inputs[j];
            const weft_gnode *source = in->kind == WEFT_INPUT_LINK ? weft_graph_find(g, in->from) : NULL;
            if (source) taken[source - g->nodes] = true;
        }
    for (int i = 0; taken && i < g->count && goes_on(k); i++)
        if (!g->nodes[i].node && !taken[i]) note_unknown(k, &g->nodes[i]);
    weft_host_free(taken);
}

weft_status weft_graph_check_for(weft_ctx *c, const weft_graph *g, const char *const *targets, const weft_folders *f,
                                 weft_faults *faults) {
    struct checking k = { c, g, f, faults };
    weft_plan plan;
    *faults = (weft_faults){ 0 };
    if (!weft_ok(c) || !weft_plan_make(c, g, targets, &plan)) return weft_error(c);
    if (plan.cycle_count) note_cycle(&k, &plan);
    for (int i = 0; i < plan.count && goes_on(&k); i++) {
        const weft_gnode *n = &g->nodes[plan.order[i]];
        if (n->node) check_node(&k, n);
        else note_unknown(&k, n);
    }
    if (!targets) note_unknown_outputs(&k);
    if (!plan.count && !faults->count && weft_ok(c))
        note(&k, "prompt_no_outputs", NULL, NULL, "%s",
             g->count ? "the graph has no output node (SaveImage, PreviewImage …)" : "the graph is empty");
    if (!goes_on(&k) && weft_ok(c)) note(&k, "invalid_prompt", NULL, NULL, "and more: these were the first %d", FAULTS);
    weft_plan_free(&plan);
    return weft_error(c);
}

/* ---- as JSON ----------------------------------------------------------------------------------------------------- */

static cJSON *fault_json(const weft_fault *f) {
    cJSON *e = cJSON_CreateObject(), *extra;
    bool whole =
        e && cJSON_AddStringToObject(e, "type", f->type) && cJSON_AddStringToObject(e, "message", f->message) &&
        cJSON_AddStringToObject(e, "details", f->details) && (extra = cJSON_AddObjectToObject(e, "extra_info")) &&
        (!f->input || cJSON_AddStringToObject(extra, "input_name", f->input));
    if (whole) return e;
    cJSON_Delete(e);
    return NULL;
}

static bool add_fault(cJSON *node_errors, const weft_fault *f) {
    cJSON *node = cJSON_GetObjectItemCaseSensitive(node_errors, f->node), *list, *e;
    if (!node) {
        node = cJSON_AddObjectToObject(node_errors, f->node);
        if (!node || !cJSON_AddArrayToObject(node, "errors") || !cJSON_AddArrayToObject(node, "dependent_outputs") ||
            !cJSON_AddStringToObject(node, "class_type", f->class_name)) return false;
    }
    list = cJSON_GetObjectItemCaseSensitive(node, "errors");
    return (e = fault_json(f)) && cJSON_AddItemToArray(list, e);
}

char *weft_faults_json(const weft_faults *faults) {
    cJSON *root = cJSON_CreateObject(), *nodes = NULL, *error = NULL;
    static const weft_fault many = { .type = "prompt_outputs_failed_validation",
                                     .message = "Prompt outputs failed validation",
                                     .details = "" };
    const weft_fault *top = faults->count && !faults->items[0].node ? &faults->items[0] : &many;
    bool whole = root != NULL;
    if (whole && faults->count) {
        error = fault_json(top);
        whole = error && cJSON_AddItemToObject(root, "error", error);
        if (!whole) cJSON_Delete(error);
    }
    if (whole) whole = (nodes = cJSON_AddObjectToObject(root, "node_errors")) != NULL;
    for (int i = 0; whole && i < faults->count; i++)
        if (faults->items[i].node) whole = add_fault(nodes, &faults->items[i]);
    char *text = whole ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    return text;
}
