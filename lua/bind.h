/* The Lua binding from inside: what its files (bind_*.c) share.
 *
 * Lua's errors jump over C frames. So a function of the binding has three parts: it reads its arguments and makes
 * the boxes and tables for its results (both may throw; nothing is held), then calls the runtime (which never
 * throws), then either returns or throws what went wrong (nothing is held again). What must outlive a call into Lua
 * lies in a box, a scratch or a bind_values, which Lua's collector frees in any case. Functions that Weft calls back
 * (progress, events, nodes written in Lua) go through bind_protected(): nothing jumps over the runtime. */
#ifndef WEFT_BIND_H
#define WEFT_BIND_H

#include <lauxlib.h>
#include <lua.h>
#include "lua/session.h"
#include "runtime/rng.h"

/* The parts of the module: B(name) stands for bind_add_name() in lua/bind_name.c, which adds to the module, the
 * table on top of the stack. */
#define BIND_PARTS(B) \
    B(scope) B(tensor) B(operations) B(session) B(node) B(graph) B(register) B(train) B(data) B(json) B(logs) \
    B(shapes) B(files) B(sandbox) B(library)

#define B(name) void bind_add_##name(lua_State *L);
BIND_PARTS(B)
#undef B

/* What require "weft" calls: makes the module's table. */
int bind_module(lua_State *L);

/* ---- the state: one for each Lua state --------------------------------------------------------------------------- */

enum { BIND_STOP, BIND_CANCEL, BIND_NOTE };

typedef struct bind_state {
    session session;            /* made on first use by bind_open() */
    bool program;               /* runs in the weft program: shows progress */
    lua_State *L;               /* the thread that is inside the runtime, for callbacks; NULL: none */
    weft_rng *rng;              /* the default generator; made on first use */
    uint64_t seed;              /* of it */
    struct bind_scope *scope;   /* the innermost open one */
    weft_runner *runner;        /* keeps results from one run of a graph to the next; made on first use */
    int64_t runs, last_run;     /* runs so far; the last that was the runner's */
    struct sink *sink;          /* of the run that goes on; NULL: none does (bind_graph.c) */
    bool tells_events;          /* it wants to be told of events */
    volatile int interrupts;    /* what Ctrl-C does: BIND_STOP …; weft.interrupts() */
    volatile int interrupted;   /* one came */
    size_t base;                /* the fewest bytes that were live since the last collection */
} bind_state;

bind_state *bind_of(lua_State *L);
/* The same with context, registry and folders; throws where they cannot be made. */
bind_state *bind_open(lua_State *L);

/* Around calls of the runtime that may call back. */
static inline lua_State *bind_enter(bind_state *b, lua_State *L) {
    lua_State *outer = b->L;
    b->L = L;
    return outer;
}
static inline void bind_leave(bind_state *b, lua_State *outer) { b->L = outer; }

/* ---- errors: tables {status=, message=, where=, node=, class=, input=, type=} ------------------------------------ */

/* Throws the context's error and clears it. */
int bind_throw(lua_State *L, bind_state *b);
/* The same without throwing: pushes the table. */
void bind_push_error(lua_State *L, bind_state *b);
/* Throws an error of the binding's own; format as lua_pushfstring(). input: the argument it is about, or NULL. */
int bind_error(lua_State *L, weft_status status, const char *input, const char *format, ...);
/* The same about a node's input; about: type, node, class_name, input, each may be NULL. */
int bind_error_about(lua_State *L, weft_status status, weft_fault about, const char *format, ...);
/* "; did you mean NAME?" or "", for a message; left on the stack. */
const char *bind_near(lua_State *L, const char *best);
/* What the value at idx is, for a message: "nil", "a tensor", "a MODEL"; left on the stack. */
const char *bind_kind(lua_State *L, int idx);

/* Calls the function `run(L, user)` under a protected call, from inside the runtime; what it throws becomes the
 * context's error. */
bool bind_protected(bind_state *b, lua_CFunction run, void *user);

/* ---- boxes: tensors and objects as Lua values -------------------------------------------------------------------- */

#define BIND_TENSOR "weft.tensor"
#define BIND_OBJECT "weft.object"

typedef struct bind_box {
    weft_tensor *tensor;
    weft_object *object;                /* one of both; neither: it was freed */
    struct bind_box *next, **link;      /* in the list of its scope */
} bind_box;

/* A new empty box on the stack, in the innermost scope. */
bind_box *bind_box_new(lua_State *L, bind_state *b, const char *kind);
void bind_box_free(bind_box *box);
/* The tensor at idx; throws where there is none. who: the function, name: the argument. */
weft_tensor *bind_tensor_at(lua_State *L, int idx, const char *who, const char *name);
/* The same, NULL where it is no tensor at all. */
weft_tensor *bind_tensor_try(lua_State *L, int idx);
weft_rng *bind_rng_try(lua_State *L, int idx);
/* The object at idx; NULL where it is none. */
weft_object *bind_object_try(lua_State *L, int idx);

/* Runs fn in a scope of its own and pushes its tensor; where memory is short, Lua's garbage goes first. Returns 1 or
 * throws. */
typedef weft_tensor *bind_compute(bind_state *b, const void *arguments);
int bind_result(lua_State *L, bind_state *b, bind_compute *fn, const void *arguments);
/* To be called where tensors were made: collects Lua's garbage once much memory may hang on it. */
void bind_weigh(lua_State *L, bind_state *b);
/* Collects Lua's garbage where the context has run out of memory, and clears that error where it helped: try again
 * then. */
bool bind_retry(lua_State *L, bind_state *b);

/* Bytes on the stack that Lua frees; zeroed. */
void *bind_scratch(lua_State *L, size_t bytes);
/* A pointer on the stack, NULL at first, that Lua releases unless it is NULL. */
typedef struct bind_held { void *p; void (*release)(void *p); } bind_held;
bind_held *bind_hold(lua_State *L, void (*release)(void *p));
int bind_held_gc(lua_State *L);         /* __gc, for a metatable of one's own */
/* A metatable of this name whose methods are also its __index. */
void bind_add_class(lua_State *L, const char *name, const luaL_Reg *methods);
weft_graph *bind_graph_try(lua_State *L, int idx);      /* NULL where it is none */

/* ---- the part in Lua: lua/lib/NAME.lua (CMake makes the table) --------------------------------------------------- */

typedef struct bind_source { const char *name, *first, *end; } bind_source;
extern const bind_source bind_sources[];                /* up to one without a name */
const bind_source *bind_source_find(const char *name);  /* NULL where there is none */

/* ---- values: what goes into ports and comes out ------------------------------------------------------------------ */

/* n empty values on the stack; Lua clears them in the end, bind_values_clear() at once. */
weft_value *bind_values_new(lua_State *L, int n);
void bind_values_clear(lua_State *L, int idx);
/* The Lua value at idx as one for a port (texts are borrowed); about: class, node and input for the error that it
 * throws where it does not suit; its details: what the port is, where it is not an input. */
weft_value bind_value_at(lua_State *L, int idx, const weft_port *port, weft_fault about);
/* Pushes a value: a number, text, or a box with a reference of its own. */
void bind_push_value(lua_State *L, bind_state *b, const weft_value *v);

/* The Lua value that an object holds; false, with nothing pushed, where it is of another kind. */
bool bind_push_object_value(lua_State *L, const weft_object *o);

/* ---- options: the fields of the table at idx (not from the top of the stack); who: the function ------------------ */

/* Throws where it has a key that is none of names (NULL-terminated). A list's places are keys too. */
void bind_only(lua_State *L, int idx, const char *who, const char *const *names);
double bind_number(lua_State *L, int idx, const char *who, const char *key, double otherwise);
int64_t bind_whole(lua_State *L, int idx, const char *who, const char *key, int64_t otherwise);
bool bind_flag(lua_State *L, int idx, const char *key, bool otherwise);
/* The table keeps it. */
const char *bind_text(lua_State *L, int idx, const char *who, const char *key, const char *otherwise);

/* ---- arguments --------------------------------------------------------------------------------------------------- */

/* Whole numbers from the table at idx, to out (room for WEFT_MAX_RANK); how many. */
int bind_shape_at(lua_State *L, int idx, const char *who, const char *name, int64_t *out);
weft_dtype bind_dtype_at(lua_State *L, int idx, const char *who, const char *name);
void bind_push_shape(lua_State *L, const weft_tensor *t);
/* A seed: an integer, read as unsigned, or decimal digits. */
uint64_t bind_seed_at(lua_State *L, int idx, const char *who, const char *name);

#endif
