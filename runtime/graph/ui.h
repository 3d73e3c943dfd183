/* The UI format from inside: scopes of nodes and links, shared by ui_scope.c (building them) and read_ui.c (turning
 * them into a graph). */
#ifndef WEFT_UI_H
#define WEFT_UI_H

#include "runtime/graph/graph_internal.h"

enum { UI_INPUT_NODE = -10, UI_OUTPUT_NODE = -20, UI_DEPTH = 16, UI_NODES = 10000 };
enum { UI_LINKS = 1000000, UI_FIELDS = 1000, UI_WORK = 1000000000 };
enum { UI_ALWAYS = 0, UI_MUTED = 2, UI_BYPASSED = 4 };

typedef struct ui_link { double id; char from[40]; int from_slot; char to[40]; int to_slot, place; } ui_link;

/* The graph itself, a subgraph's definition as one of its instances stands for it, or a group node's. */
typedef struct ui_scope {
    struct ui_scope *parent;
    const cJSON *instance;          /* the node in the parent that stands for this scope; NULL at the top */
    const cJSON *definition;        /* has "nodes" */
    char *prefix;                   /* "12:" in front of ids; "" at the top */
    ui_link *links;                 /* sorted by id, each id once */
    int link_count;
    const cJSON **nodes;            /* objects only */
    char (*ids)[40];
    int node_count;
    struct ui_scope **children;     /* by node; NULL where it is no instance */
    int *widget_base; /* group nodes: where a node's values start in the instance's widgets_values; NULL elsewhere */
    bool group;
} ui_scope;

typedef struct ui {
    weft_ctx *c;
    weft_graph *g;
    const char *file;
    const cJSON *root;
    int nodes, links;               /* in all scopes together, bounded */
    int64_t work;                   /* list entries looked at so far, bounded: ui_spend() */
} ui;

/* NULL with the error set; freed with all its children. */
ui_scope *ui_scope_new(ui *u, ui_scope *parent, const cJSON *instance, const cJSON *definition, const char *prefix,
                       bool group, int depth);
void ui_scope_free(ui_scope *s);
/* Lists are searched one by one, which is quick for what an editor holds. Counts `entries` looked at; false with the
 * error set where a file makes it too many. */
bool ui_spend(ui *u, int64_t entries);
int ui_find_node(const ui_scope *s, const char *id);            /* −1: none */
const ui_link *ui_find_link(const ui_scope *s, double id);
const char *ui_text(const cJSON *object, const char *key);      /* "" where there is none */
int ui_mode(const cJSON *node);
bool ui_is_control(const cJSON *value); /* what follows a seed: "fixed", "randomize" …, or a boolean */
/* How many entries of widgets_values a node of this class takes, given what stands there (an array item, or NULL). */
int ui_widget_span(const weft_port *port, const cJSON *value);
bool ui_is_widget(const weft_port *port);

#endif
