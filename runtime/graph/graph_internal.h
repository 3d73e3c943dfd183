/* What the graph's own files share: a graph from inside. */
#ifndef WEFT_GRAPH_INTERNAL_H
#define WEFT_GRAPH_INTERNAL_H

#include <cjson/cJSON.h>
#include "runtime/graph/graph.h"
#include "runtime/graph/picture_text.h"
#include "runtime/nearest.h"

char *weft_text_copy(const char *text, size_t length);      /* NULL without memory; weft_host_free() */

typedef enum weft_input_kind { WEFT_INPUT_LITERAL = 1, WEFT_INPUT_LINK } weft_input_kind;

enum { WEFT_INPUTS = 512 };     /* of a node */

typedef struct weft_graph_input_ {
    char *name;
    weft_input_kind kind;
    cJSON *literal;             /* as it stands in the file */
    char *from;                 /* link: the id it comes from, and its slot */
    int slot;
} weft_gin;

typedef struct weft_gnode {
    char *id, *class_name, *title;
    const weft_node *node;      /* NULL: an unknown class */
    weft_gin *inputs;
    int input_count;
} weft_gnode;

struct weft_graph {
    const weft_registry *registry;
    weft_gnode *nodes;          /* in the file's order */
    int count, room;
    int *table;                 /* open hashing over ids: index + 1; 0 is free */
    int table_size;
    char *workflow;
};

weft_gnode *weft_graph_find(const weft_graph *g, const char *id);       /* NULL where there is none */
weft_gin *weft_gnode_input(const weft_gnode *n, const char *name);
/* Adds a node; NULL with the error set (no memory, an id that is there). The pointer is good until the next is added.
 */
weft_gnode *weft_graph_put(weft_ctx *c, weft_graph *g, const char *id, const char *class_name);
/* Sets an input, taking `literal` over (it is deleted on failure too). */
weft_status weft_gnode_set(weft_ctx *c, weft_gnode *n, const char *name, cJSON *literal);
weft_status weft_gnode_link(weft_ctx *c, weft_gnode *n, const char *name, const char *from, int slot);
weft_status weft_graph_no_memory(weft_ctx *c);

/* The folder of pictures of this kind ("input", "output", "temp"); NULL for other kinds and where it is not given. */
const char *weft_folders_path(const weft_folders *f, const char *kind);

/* The forms of a file. Each fills an empty graph from a tree. */
weft_status weft_graph_from_api(weft_ctx *c, weft_graph *g, const char *file, const cJSON *root);     /* read_api.c */
weft_status weft_graph_from_ui(weft_ctx *c, weft_graph *g, const char *file, const cJSON *root);      /* read_ui*.c */
bool weft_json_is_ui(const cJSON *root);

/* Reads a literal as a port wants it into *out (a value that owns its text), or says what is wrong (ComfyUI's fault
 * type in *fault, with the message in text). CHOICE and FILE give a STRING. */
bool weft_literal_read(const weft_port *port, const cJSON *literal, weft_value *out, const char **fault, char *text,
                       size_t size);
/* Whether a number or text is what the port allows (range, choices); what is wrong, as above. Its kind must suit the
 * port's. */
bool weft_value_check(const weft_port *port, const weft_value *v, const char **fault, char *text, size_t size);
/* weft_fail() that also notes what it is about, for weft_graph_blame(); any of the four may be NULL. Returns false. */
bool weft_graph_fault(weft_ctx *c, const char *type, const char *node, const char *class_name, const char *input,
                      const char *format, ...) WEFT_PRINTF(6, 7);
/* The node that fails, where the error does not name one yet. */
void weft_graph_blame_node(weft_ctx *c, const char *node, const char *class_name);
/* A port's default as a value; false where it has none (an object) or without memory. */
bool weft_port_initial(const weft_port *port, weft_value *out);
/* Whether a class gives out the one thing it is given, whatever that is (Reroute). Takes NULL. */
bool weft_node_passes_on(const weft_node *n);

/* The nodes that `targets` (NULL-terminated ids; NULL: all output nodes) need, each behind what it links to. */
typedef struct weft_plan {
    int *order, count;          /* indices of nodes */
    int *cycle, cycle_count;    /* the first cycle found: indices, each links to the next; 0: none */
} weft_plan;
bool weft_plan_make(weft_ctx *c, const weft_graph *g, const char *const *targets, weft_plan *plan);
void weft_plan_free(weft_plan *plan);

/* Fills in what a node's port gets from the graph itself: its literal, or its default. 1: a value in *v (to be
 * cleared); 2: a link, see *in; 0: nothing, which is well for an optional port; −1: a fault. */
int weft_port_resolve(const weft_port *port, const weft_gnode *n, weft_gin **in, weft_value *v, const char **fault,
                      char *text, size_t size);

/* weft_graph_check() of what `targets` need (as for a plan). */
weft_status weft_graph_check_for(weft_ctx *c, const weft_graph *g, const char *const *targets, const weft_folders *f,
                                 weft_faults *faults);

#endif
