/* PrimitiveInt, PrimitiveFloat, PrimitiveString, PrimitiveStringMultiline, PrimitiveBoolean: one value to be linked to
 * several inputs. */
#include "nodes/values.h"

#define LARGEST 9223372036854775807.0

/* A node with one input, value, of a C type and a port's, which it gives out. */
#define PRIMITIVE(node, ctype, kind, type, flags, low, high, step, text, doc) \
    struct node { ctype value; ctype out; }; \
    static void node##_run(weft_ctx *c, void *self) { \
        struct node *n = self; \
        (void)c; \
        n->out = n->value; \
    } \
    const weft_node weft_node_##node = { \
        .name = #node, .category = "utils/primitive", .summary = doc, .size = sizeof(struct node), \
        .inputs = (const weft_port[]){ { "value", type, kind, flags, offsetof(struct node, value), 0, low, high, step, \
                                         text, NULL, NULL, "the value" }, { 0 } }, \
        .outputs = (const weft_port[]){ WEFT_OUT(struct node, out, kind, type, type, "the value"), { 0 } }, \
        .run = node##_run, \
    }

PRIMITIVE(PrimitiveInt, int64_t, WEFT_PORT_INT, "INT", WEFT_PORT_SEED, -LARGEST, LARGEST, 1, NULL, "A whole number.");
PRIMITIVE(PrimitiveFloat, double, WEFT_PORT_FLOAT, "FLOAT", 0, -LARGEST, LARGEST, 0.1, NULL, "A number.");
PRIMITIVE(PrimitiveString, const char *, WEFT_PORT_STRING, "STRING", 0, 0, 0, 0, "", "A text.");
PRIMITIVE(PrimitiveStringMultiline, const char *, WEFT_PORT_STRING, "STRING", WEFT_PORT_MULTILINE, 0, 0, 0, "",
          "A text of several lines.");
PRIMITIVE(PrimitiveBoolean, bool, WEFT_PORT_BOOL, "BOOLEAN", 0, 0, 1, 1, NULL, "True or false.");
