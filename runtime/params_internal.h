/* What the files of the parameters share: the tree from inside. */
#ifndef WEFT_PARAMS_INTERNAL_H
#define WEFT_PARAMS_INTERNAL_H

#include "runtime/internal.h"

#define PARAM_NAME_MOST 500             /* bytes of a full name */
#define PARAM_ROOM 768                  /* room for a full name with the tree's in front */
#define PARAM_STEM 200                  /* bytes of a stem of files of weights */
#define PARAM_NOWHERE UINT32_MAX        /* a place that could not be made: no memory, and the error is set */

/* Where a tensor lies in a file. */
struct param_pin { weft_safetensors *file; const weft_st_entry *entry; };

/* A file the tree has read, and a pin for each of its tensors. */
struct param_source {
    struct param_source *next;
    weft_safetensors *file;
    struct param_pin pins[];
};

/* A change of a parameter below. */
struct param_delta { struct param_delta *next; weft_tensor *up, *down; double scale; };

/* An adapter of a layer below; down and up are nodes. */
struct param_adapter { struct param_adapter *next; uint32_t down, up; double scale; char place[]; };

struct param_node {
    uint32_t parent;
    uint32_t base;              /* of an overlay: the same place in the tree below */
    uint32_t name;              /* its last part: an offset into weft_tree.text */
    uint32_t length;
    bool filled;                /* a tensor here or below */
    bool asked;                 /* weft_param() gave it, since the last check began */
    bool noted;                 /* it is in the check's report already */
    bool trained;               /* a leaf of gradients; its plain form stays */
    weft_tensor *tensor;
    weft_tensor *cast;          /* a small vector in the type of the activations that used it last */
    struct param_pin *pin;      /* NULL: not of a file */
    struct param_delta *deltas; /* of an overlay: the tensor will be the one below, changed by these in turn */
    const struct param_adapter *adapter;    /* of an overlay: of the layer here; NULL: it has none */
};

struct param_listed { const char *name; uint32_t node; };

struct param_report;

struct weft_tree {
    weft_ctx *ctx;
    char *name;
    weft_tree *below;           /* of an overlay; NULL: the tree stands for itself */
    struct param_node *nodes;   /* 0 is the root */
    uint32_t node_count, node_room;
    char *text;                 /* the parts of names, each with a 0 */
    size_t text_size, text_room;
    uint32_t *table;            /* hash table of nodes by parent and part; 0: free */
    size_t table_size;          /* a power of two, at least twice node_count */
    uint64_t key;               /* of the hash: not to be guessed, so that no file can make all its names collide */
    int64_t count;              /* nodes with a tensor */
    bool making, frozen;
    bool was_trained;           /* some of its own parameters were leaves of gradients once */
    uint64_t settled;           /* writes to those that were trained and are frozen again */
    weft_dtype make_type;
    uint64_t make_seed;
    struct param_source *sources;
    struct param_listed *list;  /* the tensors by full name, made when asked for */
    char *list_text;
    struct param_adapter *adapters;     /* in the order in which they were added */
    struct param_report *report;        /* NULL: no check is running */
};

/* The node of a dotted name below `node`; 0 where there is none. */
uint32_t param_find(const weft_tree *t, uint32_t node, const char *name);
/* The same, made where there is none; PARAM_NOWHERE with the error set. */
uint32_t param_place(weft_tree *t, uint32_t node, const char *name);
/* The place that has the tensor `at` stands for: at itself or one below it; {0}: none has. A delta counts as one. */
weft_params param_owner(weft_params at);
/* The full name without the tree's; returns out. */
const char *param_path(const weft_tree *t, uint32_t node, char *out, size_t size);
/* Puts a tensor at a node that has none; the tree takes a reference. */
void param_put(weft_tree *t, uint32_t node, weft_tensor *tensor, struct param_pin *pin);
/* The same by full name, with its checks; false with the error set. */
bool param_add(weft_tree *t, const char *name, weft_tensor *tensor, struct param_pin *pin);
/* Tells the operations how to treat the node's tensor. */
void param_mark(weft_tree *t, uint32_t node);
/* t->list: false with the error set. */
bool param_list(weft_tree *t);

/* A tensor of this shape whose values depend on seed and name alone, in the innermost scope. */
weft_tensor *param_fill(
    weft_ctx *c, weft_dtype type, uint64_t seed, const char *name, weft_init init, int rank, const int64_t *shape);

/* Makes the tensor of a node with deltas from the one below, and puts it there; NULL with the error set. */
weft_tensor *param_merge(weft_ctx *c, weft_tree *t, uint32_t node, weft_tensor *below);
void param_drop_deltas(struct param_node *node);
/* A place of t whose parameter below may be changed by up·down; {0} with the error set, as where they do not fit it. */
weft_params param_changed(
    weft_ctx *c, weft_tree *t, const char *name, const weft_tensor *up, const weft_tensor *down);

enum param_fault { PARAM_MISSING, PARAM_MISSHAPEN, PARAM_UNTYPED, PARAM_UNUSED, PARAM_FAULTS };
/* Notes a fault of the place in the running check. */
void param_note(weft_tree *t, uint32_t node, enum param_fault fault, const char *details);

/* weft_param() for a small vector, converted to `type` (once, if the tree is frozen). */
weft_tensor *param_vector(weft_ctx *c, weft_params p, const char *name, weft_init init, int64_t n, weft_dtype type);

#endif
