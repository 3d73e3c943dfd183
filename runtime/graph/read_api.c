/* Reading graph files: which form it is, and the API format, {"ID": {"class_type": …, "inputs": {NAME: literal or
 * ["ID", slot]}}}.
 *
 * Files in the wild wrap it: {"prompt": …}, {"input": {"workflow": …}}, {"output": …, "workflow": …}. A literal list is
 * written
 * {"__value__": […]}. Sources: the format as ComfyUI writes and takes it.
 */
#include "runtime/file.h"
#include "runtime/graph/graph_internal.h"
#include "runtime/internal.h"
#include "runtime/json.h"

#include <limits.h>
#include <string.h>

enum { FILE_LIMIT = 256 << 20, TEXT_LIMIT = 64 << 20 };

/* ---- API format -------------------------------------------------------------------------------------------------- */

static bool is_link(const cJSON *v) {
    return cJSON_IsArray(v) && cJSON_GetArraySize(v) == 2 && cJSON_IsString(v->child) && cJSON_IsNumber(v->child->next);
}

static weft_status read_input(weft_ctx *c, weft_gnode *n, const cJSON *v) {
    if (is_link(v)) {
        double slot = v->child->next->valuedouble;
        bool whole = slot >= 0 && slot <= INT_MAX && slot == (int)slot;
        return weft_gnode_link(c, n, v->string, v->child->valuestring, whole ? (int)slot : -1);
    }
    const cJSON *wrapped = cJSON_IsObject(v) ? cJSON_GetObjectItemCaseSensitive(v, "__value__") : NULL;
    return weft_gnode_set(c, n, v->string, cJSON_Duplicate(wrapped ? wrapped : v, 1));
}

static weft_status read_node(weft_ctx *c, weft_graph *g, const char *file, const cJSON *v) {
    const cJSON *class_type = cJSON_GetObjectItemCaseSensitive(v, "class_type");
    const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(v, "inputs");
    if (!cJSON_IsObject(v))
        return weft_fail(c, WEFT_E_FORMAT, "%s: node %s: expected an object, found %s", file, v->string,
                         weft_json_kind(v));
    if (!cJSON_IsString(class_type))
        return weft_fail(c, WEFT_E_FORMAT, "%s: node %s has no class_type", file, v->string);
    if (inputs && !cJSON_IsObject(inputs))
        return weft_fail(c, WEFT_E_FORMAT, "%s: node %s: inputs: expected an object, found %s", file, v->string,
                         weft_json_kind(inputs));
    char name[256];
    const char *text = class_type->valuestring + strspn(class_type->valuestring, " ");
    size_t length = strlen(text);
    while (length && text[length - 1] == ' ') length--;
    if (length >= sizeof name)
        return weft_fail(c, WEFT_E_FORMAT, "%s: node %s: class_type is over %zu bytes long", file, v->string,
                         sizeof name - 1);
    memcpy(name, text, length);
    name[length] = 0;
    weft_gnode *n = weft_graph_put(c, g, v->string, name);
    if (!n) return weft_error(c);
    for (const cJSON *in = inputs ? inputs->child : NULL; in; in = in->next)
        if (read_input(c, n, in)) return weft_error(c);
    if (weft_node_passes_on(n->node) && n->input_count == 1) {      /* editors call it "", or anything */
        char *only = weft_text_copy(n->node->inputs[0].name, strlen(n->node->inputs[0].name));
        if (!only) return weft_graph_no_memory(c);
        weft_host_free(n->inputs[0].name);
        n->inputs[0].name = only;
    }
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(v, "_meta"),
                *title = cJSON_GetObjectItemCaseSensitive(meta, "title");
    if (cJSON_IsString(title) && !(n->title = weft_text_copy(title->valuestring, strlen(title->valuestring))))
        return weft_graph_no_memory(c);
    return WEFT_OK;
}

weft_status weft_graph_from_api(weft_ctx *c, weft_graph *g, const char *file, const cJSON *root) {
    if (!cJSON_IsObject(root))
        return weft_fail(c, WEFT_E_FORMAT, "%s: a graph is an object of nodes, this is %s", file, weft_json_kind(root));
    for (const cJSON *v = root->child; v; v = v->next) {
        if (v->string[0] == '_') continue;      /* "_meta" and the like */
        if (read_node(c, g, file, v)) return weft_error(c);
    }
    return WEFT_OK;
}

/* ---- which form -------------------------------------------------------------------------------------------------- */

bool weft_json_is_ui(const cJSON *root) {
    return cJSON_IsObject(root) && cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(root, "nodes"));
}

/* Whether it is an object of nodes: its first entry has a class_type. */
static bool is_api(const cJSON *root) {
    if (!cJSON_IsObject(root)) return false;
    for (const cJSON *v = root->child; v; v = v->next)
        if (cJSON_IsObject(v) && cJSON_GetObjectItemCaseSensitive(v, "class_type")) return true;
    return false;
}

/* The graph inside a wrapping; root itself where there is none. */
static const cJSON *unwrap(const cJSON *root) {
    static const char *const keys[] = { "prompt", "output", "workflow", "input" };
    for (int depth = 0; depth < 3 && !is_api(root) && !weft_json_is_ui(root); depth++) {
        const cJSON *inside = NULL;
        for (size_t i = 0; !inside && i < sizeof keys / sizeof *keys; i++) {
            const cJSON *v = cJSON_GetObjectItemCaseSensitive(root, keys[i]);
            if (cJSON_IsObject(v)) inside = v;
        }
        if (!inside) break;
        root = inside;
    }
    return root;
}

static weft_status fill(weft_ctx *c, weft_graph *g, const char *file, const char *text, size_t size) {
    cJSON *root = weft_json_parse(c, file, text, size, WEFT_JSON_NAN);
    if (!root) return weft_error(c);
    const cJSON *graph = unwrap(root);
    if (!weft_json_is_ui(graph)) weft_graph_from_api(c, g, file, graph);
    else if (!weft_graph_from_ui(c, g, file, graph) && !(g->workflow = weft_text_copy(text, size)))
        weft_graph_no_memory(c);
    cJSON_Delete(root);
    return weft_error(c);
}

static weft_graph *finish(weft_ctx *c, weft_graph *g) {
    if (weft_ok(c)) return g;
    weft_graph_free(g);
    return NULL;
}

weft_graph *weft_graph_parse(weft_ctx *c, const weft_registry *r, const char *name, const char *text, size_t size) {
    weft_graph *g = weft_graph_new(c, r);
    if (!g) return NULL;
    if (size > TEXT_LIMIT)
        weft_fail(c, WEFT_E_FORMAT, "%s: a graph of %zu MB; the limit is %d MB", name, size >> 20, TEXT_LIMIT >> 20);
    else fill(c, g, name, text, size);
    return finish(c, g);
}

/* A picture's graph: its "prompt" is what ran; where it has the "workflow" alone, that. */
static void fill_from_picture(weft_ctx *c, weft_graph *g, const char *path, const char *bytes, size_t size) {
    weft_picture_text t = { 0 };
    if (!weft_picture_read_text(c, path, bytes, size, &t)) return;
    if (!t.prompt && !t.workflow)
        weft_fail(c, WEFT_E_FORMAT, "%s: the picture carries no graph (no \"prompt\" and no \"workflow\" text)", path);
    else if (t.prompt) {
        fill(c, g, path, t.prompt, strlen(t.prompt));
        if (!g->workflow) {
            g->workflow = t.workflow;
            t.workflow = NULL;
        }
    } else fill(c, g, path, t.workflow, strlen(t.workflow));
    weft_host_free(t.prompt);
    weft_host_free(t.workflow);
}

weft_graph *weft_graph_read(weft_ctx *c, const weft_registry *r, const char *path) {
    size_t size;
    weft_graph *g = weft_graph_new(c, r);
    char *bytes = g ? weft_file_read(c, path, FILE_LIMIT, &size) : NULL;
    if (bytes && weft_picture_is(bytes, size)) fill_from_picture(c, g, path, bytes, size);
    else if (bytes && size > TEXT_LIMIT)
        weft_fail(c, WEFT_E_FORMAT, "%s: a graph of %zu MB; the limit is %d MB", path, size >> 20, TEXT_LIMIT >> 20);
    else if (bytes) fill(c, g, path, bytes, size);
    weft_host_free(bytes);
    return g ? finish(c, g) : NULL;
}
