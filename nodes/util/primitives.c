/* PrimitiveInt, PrimitiveFloat, PrimitiveString, PrimitiveStringMultiline, PrimitiveBoolean: one value to be linked to several inputs. */
#include "nodes/values.h"

struct integer { int64_t value, out; };
struct number { double value, out; };
struct text { const char *value, *out; };
struct boolean { bool value, out; };

static void integer_run(weft_ctx *c, void *self) { (void)c; ((struct integer *)self)->out = ((struct integer *)self)->value; }
static void number_run(weft_ctx *c, void *self) { (void)c; ((struct number *)self)->out = ((struct number *)self)->value; }
static void text_run(weft_ctx *c, void *self) { (void)c; ((struct text *)self)->out = ((struct text *)self)->value; }
static void boolean_run(weft_ctx *c, void *self) { (void)c; ((struct boolean *)self)->out = ((struct boolean *)self)->value; }

#define LARGEST 9223372036854775807.0
#define PRIMITIVE(S, kind, type, called, doc, run_it, port) { \
    .name = called, .category = "utils/primitive", .summary = doc, .size = sizeof(struct S), \
    .inputs = (const weft_port[]){ port, { 0 } }, \
    .outputs = (const weft_port[]){ WEFT_OUT(struct S, out, kind, type, type, "the value"), { 0 } }, .run = run_it }
#define PORT(...) { __VA_ARGS__ }

const weft_node weft_node_PrimitiveInt = PRIMITIVE(integer, WEFT_PORT_INT, "INT", "PrimitiveInt", "A whole number.", integer_run,
    PORT("value", "INT", WEFT_PORT_INT, WEFT_PORT_SEED, offsetof(struct integer, value), 0, -LARGEST, LARGEST, 1, NULL, NULL, NULL, "the number"));
const weft_node weft_node_PrimitiveFloat = PRIMITIVE(number, WEFT_PORT_FLOAT, "FLOAT", "PrimitiveFloat", "A number.", number_run,
    PORT("value", "FLOAT", WEFT_PORT_FLOAT, 0, offsetof(struct number, value), 0, -LARGEST, LARGEST, 0.1, NULL, NULL, NULL, "the number"));
const weft_node weft_node_PrimitiveString = PRIMITIVE(text, WEFT_PORT_STRING, "STRING", "PrimitiveString", "A text.", text_run,
    PORT("value", "STRING", WEFT_PORT_STRING, 0, offsetof(struct text, value), 0, 0, 0, 0, "", NULL, NULL, "the text"));
const weft_node weft_node_PrimitiveStringMultiline = PRIMITIVE(text, WEFT_PORT_STRING, "STRING", "PrimitiveStringMultiline", "A text of several lines.", text_run,
    PORT("value", "STRING", WEFT_PORT_STRING, WEFT_PORT_MULTILINE, offsetof(struct text, value), 0, 0, 0, 0, "", NULL, NULL, "the text"));
const weft_node weft_node_PrimitiveBoolean = PRIMITIVE(boolean, WEFT_PORT_BOOL, "BOOLEAN", "PrimitiveBoolean", "True or false.", boolean_run,
    PORT("value", "BOOLEAN", WEFT_PORT_BOOL, 0, offsetof(struct boolean, value), 0, 0, 1, 1, NULL, NULL, NULL, "the value"));
