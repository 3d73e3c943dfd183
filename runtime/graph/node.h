/* Nodes: what a stage of a pipeline says of itself. One static descriptor is the only place where a node is described; checking,
 * defaults, Lua arguments, the help, the reference page, /object_info and the cache key all come from it.
 *
 *     struct cfg_mix { weft_tensor *cond, *uncond; double scale;  weft_tensor *prediction; };
 *     static void cfg_mix_run(weft_ctx *c, void *self) { struct cfg_mix *n = self; … n->prediction = …; }
 *     const weft_node weft_node_CFGMix = {
 *         .name = "CFGMix", .category = "sampling/steps", .summary = "Mixes …",
 *         .size = sizeof(struct cfg_mix),
 *         .inputs = (const weft_port[]){
 *             WEFT_TENSOR_IN(struct cfg_mix, cond, "conditional prediction"),
 *             WEFT_FLOAT_IN(struct cfg_mix, scale, 7.5, 0, 100, 0.1, "guidance scale"), {0} },
 *         .outputs = (const weft_port[]){ WEFT_TENSOR_OUT(struct cfg_mix, prediction, "guided prediction"), {0} },
 *         .run = cfg_mix_run,
 *     };
 *
 * run() finds its inputs as plain typed fields and leaves its outputs in fields; a failure is the context's error. The engine holds
 * the inputs for as long as run() takes; an output tensor is one of the current scope (the engine takes its own reference), an
 * output object is a reference handed over (also when run() fails), an output text is copied. Nodes are pure unless their flags say otherwise.
 */
#ifndef WEFT_NODE_H
#define WEFT_NODE_H

#include "runtime/params.h"

/* ---- objects: what travels along a link and is no tensor (a model, a conditioning, a latent with its mask) ------------------ */

typedef struct weft_object weft_object;
typedef struct weft_class {
    const char *type;                       /* the port type it goes with: "MODEL", "LATENT" */
    void (*free)(weft_object *o);           /* releases what it holds and itself */
    /* One line for people: "1 × 64 × 64 × 4 latent, masked"; returns buffer. May be NULL. */
    const char *(*describe)(const weft_object *o, char *buffer, size_t size);
    weft_tree *(*weights)(const weft_object *o);    /* its parameters, which may be trained in place; NULL: it has none */
} weft_class;
struct weft_object { const weft_class *class; int references; };    /* the first member of every object's struct */

weft_object *weft_object_ref(weft_object *o);       /* both take NULL */
void weft_object_unref(weft_object *o);

/* ---- ports ------------------------------------------------------------------------------------------------------------ */

typedef enum weft_port_kind {
    WEFT_PORT_INT = 1,      /* int64_t; with WEFT_PORT_U64 a uint64_t */
    WEFT_PORT_FLOAT,        /* double */
    WEFT_PORT_BOOL,         /* bool */
    WEFT_PORT_STRING,       /* const char *, UTF-8 */
    WEFT_PORT_CHOICE,       /* int: index into choices */
    WEFT_PORT_FILE,         /* const char *: a name from a folder of models or pictures; `folder` says which */
    WEFT_PORT_TENSOR,       /* weft_tensor * */
    WEFT_PORT_OBJECT,       /* a struct that starts with weft_object */
    WEFT_PORT_ANY           /* weft_value: whatever comes (Reroute, Primitive) */
} weft_port_kind;

enum {
    WEFT_PORT_OPTIONAL = 1,     /* may be left out: the field is then NULL or the default */
    WEFT_PORT_LATE = 2,         /* required in ComfyUI, but files from before it was added lack it: filled with the default */
    WEFT_PORT_U64 = 4,          /* 0…2⁶⁴−1: seeds */
    WEFT_PORT_SEED = 8,         /* control_after_generate: the UI format keeps one more entry for it */
    WEFT_PORT_MULTILINE = 16,
    WEFT_PORT_LINK_ONLY = 32,   /* a plain value that the UI shows as a socket (forceInput) */
    WEFT_PORT_UPLOAD = 64       /* LoadImage: the UI format keeps one more entry for its button */
};

typedef struct weft_port {
    const char *name;           /* NULL ends the table */
    const char *type;           /* "INT", "FLOAT", "BOOLEAN", "STRING", "COMBO", "IMAGE", "MODEL", "TENSOR", "*"; unions: "A,B" */
    weft_port_kind kind;
    unsigned flags;
    size_t offset;              /* of the field in the node's struct */
    double initial, low, high, step;            /* INT, FLOAT, BOOL (initial) */
    const char *text;                           /* STRING: default; CHOICE: default (NULL: the first) */
    const char *const *choices;                 /* CHOICE: NULL-terminated */
    const char *folder;                         /* FILE: "checkpoints", "loras", "input" … */
    const char *help;
} weft_port;

#define WEFT_INT_IN(S, f, d, lo, hi, st, h)     { #f, "INT", WEFT_PORT_INT, 0, offsetof(S, f), d, lo, hi, st, NULL, NULL, NULL, h }
#define WEFT_SEED_IN(S, f, h)                   { #f, "INT", WEFT_PORT_INT, WEFT_PORT_U64 | WEFT_PORT_SEED, offsetof(S, f), 0, 0, 18446744073709551615.0, 1, NULL, NULL, NULL, h }
#define WEFT_FLOAT_IN(S, f, d, lo, hi, st, h)   { #f, "FLOAT", WEFT_PORT_FLOAT, 0, offsetof(S, f), d, lo, hi, st, NULL, NULL, NULL, h }
#define WEFT_BOOL_IN(S, f, d, h)                { #f, "BOOLEAN", WEFT_PORT_BOOL, 0, offsetof(S, f), d, 0, 1, 1, NULL, NULL, NULL, h }
#define WEFT_STRING_IN(S, f, d, h)              { #f, "STRING", WEFT_PORT_STRING, 0, offsetof(S, f), 0, 0, 0, 0, d, NULL, NULL, h }
#define WEFT_TEXT_IN(S, f, d, h)                { #f, "STRING", WEFT_PORT_STRING, WEFT_PORT_MULTILINE, offsetof(S, f), 0, 0, 0, 0, d, NULL, NULL, h }
#define WEFT_CHOICE_IN(S, f, c, d, h)           { #f, "COMBO", WEFT_PORT_CHOICE, 0, offsetof(S, f), 0, 0, 0, 0, d, c, NULL, h }
#define WEFT_FILE_IN(S, f, dir, h)              { #f, "COMBO", WEFT_PORT_FILE, 0, offsetof(S, f), 0, 0, 0, 0, NULL, NULL, dir, h }
#define WEFT_TENSOR_IN(S, f, h)                 { #f, "TENSOR", WEFT_PORT_TENSOR, 0, offsetof(S, f), 0, 0, 0, 0, NULL, NULL, NULL, h }
#define WEFT_IMAGE_IN(S, f, h)                  { #f, "IMAGE", WEFT_PORT_TENSOR, 0, offsetof(S, f), 0, 0, 0, 0, NULL, NULL, NULL, h }
#define WEFT_MASK_IN(S, f, h)                   { #f, "MASK", WEFT_PORT_TENSOR, 0, offsetof(S, f), 0, 0, 0, 0, NULL, NULL, NULL, h }
#define WEFT_OBJECT_IN(S, f, t, h)              { #f, t, WEFT_PORT_OBJECT, 0, offsetof(S, f), 0, 0, 0, 0, NULL, NULL, NULL, h }
/* As one of the above, with flags: WEFT_WITH(WEFT_PORT_OPTIONAL, WEFT_MASK_IN(…)) is not C; write the row out, or use these. */
#define WEFT_OPTIONAL_OBJECT_IN(S, f, t, h)     { #f, t, WEFT_PORT_OBJECT, WEFT_PORT_OPTIONAL, offsetof(S, f), 0, 0, 0, 0, NULL, NULL, NULL, h }
#define WEFT_OPTIONAL_TENSOR_IN(S, f, t, h)     { #f, t, WEFT_PORT_TENSOR, WEFT_PORT_OPTIONAL, offsetof(S, f), 0, 0, 0, 0, NULL, NULL, NULL, h }
#define WEFT_ANY_IN(S, f, t, h)                 { #f, t, WEFT_PORT_ANY, 0, offsetof(S, f), 0, 0, 0, 0, NULL, NULL, NULL, h }

/* Outputs carry ComfyUI's names, which are no C names: name and field apart. */
#define WEFT_TENSOR_OUT(S, f, h)                { #f, "TENSOR", WEFT_PORT_TENSOR, 0, offsetof(S, f), 0, 0, 0, 0, NULL, NULL, NULL, h }
#define WEFT_OUT(S, f, kind, name, type, h)     { name, type, kind, 0, offsetof(S, f), 0, 0, 0, 0, NULL, NULL, NULL, h }

/* ---- nodes ------------------------------------------------------------------------------------------------------------ */

enum {
    WEFT_NODE_OUTPUT = 1,       /* is run for its own sake (SaveImage) */
    WEFT_NODE_VOLATILE = 2,     /* never taken from the cache */
    WEFT_NODE_VIRTUAL = 4,      /* read, never run (Note) */
    WEFT_NODE_DEPRECATED = 8,
    WEFT_NODE_EXPERIMENTAL = 16,
    WEFT_NODE_EDITOR = 32,      /* ComfyUI's editor has it of its own: not in /object_info */
    WEFT_NODE_BESIDE = 64       /* puts new weights beside those that come in: these may be trained without its running again */
};

typedef struct weft_node {
    const char *name;           /* class_type: ComfyUI's where it has the node */
    const char *title;          /* what an editor shows; NULL: the name */
    const char *category, *summary;
    size_t size;                /* of its struct */
    const weft_port *inputs, *outputs;      /* NULL: none */
    unsigned flags;
    /* Further checks of literal inputs, before anything runs: a fault is told by weft_fail(). NULL: none. Linked fields are zero. */
    void (*check)(weft_ctx *c, const void *self);
    /* Adds to the signature what the inputs do not say (a file's size and time): bytes are hashed. NULL: nothing. */
    void (*sign)(weft_ctx *c, const void *self, void (*add)(void *user, const void *bytes, size_t n), void *user);
    void (*run)(weft_ctx *c, void *self);
    void *user;                 /* the maker's own, for run(), sign() and check(): weft_run_info_of(c)->node->user. NULL: nothing */
} weft_node;

/* A value on its way: what a port holds, by kind. */
typedef struct weft_value {
    weft_port_kind kind;        /* 0: none. A CHOICE travels as a STRING, a FILE too. */
    const char *type;           /* the port type */
    union { int64_t i; uint64_t u; double f; bool b; char *s; weft_tensor *tensor; weft_object *object; };
} weft_value;
/* Copies (strings) or takes references; 0 without memory. */
bool weft_value_copy(weft_value *to, const weft_value *from);
void weft_value_clear(weft_value *v);

const weft_port *weft_port_find(const weft_port *ports, const char *name);     /* NULL where there is none */
int weft_port_count(const weft_port *ports);
/* Stores a value in the node's struct; the field borrows from the value. A CHOICE must be one of the port's (−1 is stored otherwise). */
void weft_port_store(const weft_port *port, void *self, const weft_value *v);
/* An output as it stands in the struct, borrowed. */
void weft_port_take(const weft_port *port, void *self, weft_value *v);

/* ---- the registry ------------------------------------------------------------------------------------------------------- */

typedef struct weft_registry weft_registry;
weft_registry *weft_registry_new(void);                 /* NULL without memory */
void weft_registry_free(weft_registry *r);
/* Lists the NULL-terminated descriptors; a name that is there already, or a port without a name, is refused with false. */
bool weft_registry_add(weft_registry *r, const weft_node *const *nodes);
const weft_node *weft_registry_find(const weft_registry *r, const char *name);
const weft_node *weft_registry_at(const weft_registry *r, int i);      /* in order of name; NULL past the end */
/* The nearest known name within a few edits, or NULL. */
const char *weft_registry_nearest(const weft_registry *r, const char *name);

/* Whether a value of type `from` fits a port of type `to`: equal, "*", or overlapping comma lists. */
bool weft_type_fits(const char *from, const char *to);

#endif
