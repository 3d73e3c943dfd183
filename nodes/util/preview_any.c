/* PreviewAny: shows a value to whoever runs the graph. ComfyUI's name and input; what is shown is our own: numbers and
 * texts as they are, of the rest what it is. */
#include "nodes/values.h"

struct preview_any { weft_value source; };

static const char *shown(weft_ctx *c, const weft_value *v, char *out, size_t size) {
    switch (v->kind) {
    case WEFT_PORT_STRING: case WEFT_PORT_CHOICE: case WEFT_PORT_FILE: return v->s;
    case WEFT_PORT_INT: snprintf(out, size, "%lld", (long long)v->i); return out;
    case WEFT_PORT_FLOAT: snprintf(out, size, "%.9g", v->f); return out;
    case WEFT_PORT_BOOL: return v->b ? "true" : "false";
    case WEFT_PORT_TENSOR:
        if (weft_count(v->tensor) != 1) return weft_describe(v->tensor, out, size);
        snprintf(out, size, "%.9g", weft_item(c, v->tensor));
        return out;
    default: break;
    }
    const weft_object *o = v->kind == WEFT_PORT_OBJECT ? v->object : NULL;
    return !o ? "nothing" : o->class->describe ? o->class->describe(o, out, size) : o->class->type;
}

static void preview_any_run(weft_ctx *c, void *self) {
    const struct preview_any *n = self;
    const weft_run_info *info = weft_run_info_of(c);
    char text[256];
    const char *words = shown(c, &n->source, text, sizeof text);
    if (weft_ok(c) && info->told) info->told(info->user, words);
}

const weft_node weft_node_PreviewAny = {
    .name = "PreviewAny", .title = "Preview Any", .category = "utils", .flags = WEFT_NODE_OUTPUT,
    .summary = "Shows a value: a number or text as it is, of other things what they are.",
    .size = sizeof(struct preview_any),
    .inputs = (const weft_port[]){ WEFT_ANY_IN(struct preview_any, source, "*", "what is shown"), { 0 } },
    .run = preview_any_run,
};
