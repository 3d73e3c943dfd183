/* Nodes of ComfyUI's editor that stand in graph files: Reroute, which gives out what it is given, and Note and
 * MarkdownNote, which are for people alone and never run. (The editor's PrimitiveNode exists in the UI format only;
 * reading turns it into values.)
 */
#include "nodes/values.h"

struct reroute { weft_value value, out; };
struct note { const char *text; };

static void reroute_run(weft_ctx *c, void *self) {
    struct reroute *n = self;
    (void)c;
    n->out = n->value;
}

const weft_node weft_node_Reroute = {
    .name = "Reroute", .category = "utils", .flags = WEFT_NODE_EDITOR, .size = sizeof(struct reroute),
    .summary = "Gives out what it is given: a bend in a link. In a file its input may have any name.",
    .inputs = (const weft_port[]){ WEFT_ANY_IN(struct reroute, value, "*", "anything"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct reroute, out, WEFT_PORT_ANY, "*", "*", "the same"), { 0 } },
    .run = reroute_run,
};

#define NOTE(node, shown, doc) \
    const weft_node weft_node_##node = { \
        .name = #node, \
        .title = shown, \
        .category = "utils", \
        .flags = WEFT_NODE_EDITOR | WEFT_NODE_VIRTUAL, \
        .size = sizeof(struct note), \
        .summary = doc, \
        .inputs = (const weft_port[]){ { "text", "STRING", WEFT_PORT_STRING, WEFT_PORT_MULTILINE | WEFT_PORT_LATE, \
                                         offsetof(struct note, text), 0, 0, 0, 0, "", NULL, NULL, "the text" }, \
                                       { 0 } } \
    }

NOTE(Note, "Note", "A remark for people; it does nothing.");
NOTE(MarkdownNote, "Markdown Note", "A remark for people, in Markdown; it does nothing.");
