/* Graphs: weft.graph.load(path), .parse(text), .new(); editing, checking, writing and running them. The runner and
 * its cache belong to the Lua state, so a graph that is run again runs only what has changed.
 *
 * Ids are texts (whole numbers are taken as such). A link is {id, output}: the output's number as in the file, from
 * 0 on, or its name. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "lua/bind.h"
#include "runtime/file.h"
#include "runtime/nearest.h"

#define GRAPH "weft.graph"
#define RUN "weft.run"

typedef struct run_box {
    int64_t number;             /* of the run, among all of the state's */
    weft_runner *own;           /* of a run inside another; NULL: the state's */
} run_box;

/* ---- arguments --------------------------------------------------------------------------------------------------- */

weft_graph *bind_graph_try(lua_State *L, int idx) {
    bind_held *g = luaL_testudata(L, idx, GRAPH);
    return g ? g->p : NULL;
}

static weft_graph *graph_at(lua_State *L, const char *who) {
    weft_graph *g = bind_graph_try(L, 1);
    if (!g) bind_error(L, WEFT_E_ARGUMENT, NULL, "%s: a graph is wanted, not %s", who, bind_kind(L, 1));
    return g;
}

static const char *text_at(lua_State *L, int idx, const char *who, const char *name) {
    bool text = lua_type(L, idx) == LUA_TSTRING || lua_isinteger(L, idx);
    if (!text) bind_error(L, WEFT_E_ARGUMENT, name, "%s: %s: a text is wanted, not %s", who, name, bind_kind(L, idx));
    return lua_tostring(L, idx);
}

/* The place of an output that a number or a name stands for; class_name may be unknown. */
static int slot_at(lua_State *L, bind_state *b, int idx, const char *class_name) {
    const weft_node *n = class_name ? weft_registry_find(b->session.registry, class_name) : NULL;
    int whole;
    lua_Integer slot = lua_tointegerx(L, idx, &whole);
    if (lua_isnoneornil(L, idx)) return 0;
    if (lua_type(L, idx) == LUA_TNUMBER && whole && slot >= 0 && slot < 1000) return (int)slot;
    const char *name = lua_type(L, idx) == LUA_TSTRING ? lua_tostring(L, idx) : NULL;
    weft_nearest near = { .name = name };
    for (int i = 0; name && n && i < weft_port_count(n->outputs); i++) {
        if (!strcmp(n->outputs[i].name, name)) return i;
        weft_nearest_try(&near, n->outputs[i].name);
    }
    return bind_error(L, WEFT_E_ARGUMENT, NULL, "%s has no output %s%s", n ? n->name : "a node",
                      name ? name : bind_kind(L, idx), bind_near(L, near.best));
}

/* Throws unless the class has the input; NULL where the class is not known. */
static const weft_port *port_of(lua_State *L, bind_state *b, const char *class_name, const char *id,
                                const char *input) {
    const weft_node *n = weft_registry_find(b->session.registry, class_name);
    weft_nearest near = { .name = input };
    if (!n) return NULL;
    for (const weft_port *p = n->inputs; p && p->name; p++) {
        if (!strcmp(p->name, input)) return p;
        weft_nearest_try(&near, p->name);
    }
    bind_error_about(L, WEFT_E_ARGUMENT,
                     (weft_fault){ .type = "unknown_input", .node = id, .class_name = class_name, .input = input },
                     "%s has no input %s%s", class_name, input, bind_near(L, near.best));
    return NULL;
}

/* ---- inputs ------------------------------------------------------------------------------------------------------ */

/* What is to stand in an input: nothing (nil), a link (a table), or a literal. */
struct wanted { const char *from; int slot; weft_value literal; };

/* Reads the value at idx (absolute; it stays on the stack, and so does what it borrows from). Throws where the port
 * does not take it. */
static struct wanted read_input(lua_State *L, bind_state *b, weft_graph *g, int idx, const char *class_name,
                                const char *id, const char *input) {
    struct wanted w = { 0 };
    const weft_port *p = port_of(L, b, class_name, id, input);
    static const weft_port any = { .name = "value", .type = "*", .kind = WEFT_PORT_ANY };
    const weft_fault about = { .node = id, .class_name = class_name, .input = input };
    if (lua_isnil(L, idx)) return w;
    if (lua_istable(L, idx)) {
        luaL_checkstack(L, 4, "link");
        lua_rawgeti(L, idx, 1);
        w.from = text_at(L, lua_gettop(L), "link", "id");
        lua_rawgeti(L, idx, 2);
        w.slot = slot_at(L, b, lua_gettop(L), weft_graph_class(g, w.from));
        return w;
    }
    if (p && (p->kind == WEFT_PORT_TENSOR || p->kind == WEFT_PORT_OBJECT))
        bind_error_about(L, WEFT_E_ARGUMENT, about, "%s: input %s takes a link {id, output} to %s, not %s", class_name,
                         input, p->type, bind_kind(L, idx));
    w.literal = bind_value_at(L, idx, p ? p : &any, about);
    if (w.literal.kind == WEFT_PORT_TENSOR || w.literal.kind == WEFT_PORT_OBJECT)
        bind_error_about(L, WEFT_E_ARGUMENT, about,
                         "%s: input %s: only numbers, text, true and false are written in a graph, not %s", class_name,
                         input, bind_kind(L, idx));
    return w;
}

static void write_input(weft_ctx *c, weft_graph *g, const char *id, const char *input, const struct wanted *w) {
    weft_status status = w->from           ? weft_graph_link(c, g, id, input, w->from, w->slot)
                         : w->literal.kind ? weft_graph_set(c, g, id, input, &w->literal)
                                           : weft_graph_clear_input(c, g, id, input);
    (void)status;       /* the context keeps it */
}

/* g:add(class[, inputs[, id]]) → id. All inputs are looked at before the node is added; those that are not given get
 * their defaults. */
static int graph_add(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_ctx *c = b->session.c;
    weft_graph *g = graph_at(L, "add");
    const char *class_name = text_at(L, 2, "add", "class"),
               *id = lua_isnoneornil(L, 4) ? NULL : text_at(L, 4, "add", "id");
    lua_settop(L, 4);
    const weft_node *n = weft_registry_find(b->session.registry, class_name);
    if (!n)
        return bind_error_about(
            L, WEFT_E_ARGUMENT, (weft_fault){ .type = "missing_node_type", .class_name = class_name },
            "there is no class %s%s", class_name, bind_near(L, weft_registry_nearest(b->session.registry, class_name)));
    if (!lua_isnoneornil(L, 3) && !lua_istable(L, 3))
        return bind_error(L, WEFT_E_ARGUMENT, "inputs", "add: inputs: a table is wanted, not %s", bind_kind(L, 3));
    for (lua_pushnil(L); lua_istable(L, 3) && lua_next(L, 3); lua_settop(L, 5)) {
        if (lua_type(L, 5) != LUA_TSTRING)
            return bind_error(L, WEFT_E_ARGUMENT, "inputs", "add: inputs: names are texts, not %s", bind_kind(L, 5));
        read_input(L, b, g, 6, class_name, id, lua_tostring(L, 5));
    }
    lua_settop(L, 4);
    if (!(id = weft_graph_add(c, g, id, class_name))) return bind_throw(L, b);
    lua_pushstring(L, id);
    for (const weft_port *p = n->inputs; p && p->name && lua_istable(L, 3); p++, lua_settop(L, 5)) {
        if (lua_getfield(L, 3, p->name) == LUA_TNIL) continue;
        struct wanted w = read_input(L, b, g, 6, class_name, id, p->name);
        write_input(c, g, id, p->name, &w);
    }
    return weft_graph_fill(c, g, id) ? bind_throw(L, b) : 1;
}

/* The class of a node that must be there. */
static const char *class_at(lua_State *L, const weft_graph *g, const char *id) {
    const char *class_name = weft_graph_class(g, id);
    if (!class_name) bind_error_about(L, WEFT_E_ARGUMENT, (weft_fault){ .node = id }, "the graph has no node %s", id);
    return class_name;
}

/* g:set(id, input, value): a literal, a link {id, output}, or nil, which empties it. */
static int graph_set(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_graph *g = graph_at(L, "set");
    const char *id = text_at(L, 2, "set", "id"), *class_name = class_at(L, g, id),
               *input = text_at(L, 3, "set", "input");
    lua_settop(L, 4);
    struct wanted w = read_input(L, b, g, 4, class_name, id, input);
    write_input(b->session.c, g, id, input, &w);
    return weft_ok(b->session.c) ? 0 : bind_throw(L, b);
}

/* g:link(id, input, from[, output]) */
static int graph_link(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_graph *g = graph_at(L, "link");
    const char *id = text_at(L, 2, "link", "id"), *class_name = class_at(L, g, id),
               *input = text_at(L, 3, "link", "input"), *from = text_at(L, 4, "link", "from");
    port_of(L, b, class_name, id, input);
    return weft_graph_link(b->session.c, g, id, input, from, slot_at(L, b, 5, weft_graph_class(g, from)))
               ? bind_throw(L, b)
               : 0;
}

/* g:get(id, input) → a literal, a link {id, output}, or nil. */
static int graph_get(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_graph *g = graph_at(L, "get");
    const char *id = text_at(L, 2, "get", "id"), *class_name = class_at(L, g, id),
               *input = text_at(L, 3, "get", "input"), *from;
    weft_value v = { 0 };
    int slot, found = weft_graph_input(g, id, input, &v, &from, &slot);
    if (!found) port_of(L, b, class_name, id, input);
    if (found == 2) {
        lua_createtable(L, 2, 0);
        lua_pushstring(L, from);
        lua_rawseti(L, -2, 1);
        lua_pushinteger(L, slot);
        lua_rawseti(L, -2, 2);
    } else bind_push_value(L, b, &v);
    return 1;
}

static int graph_remove(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_graph *g = graph_at(L, "remove");
    return weft_graph_remove(b->session.c, g, text_at(L, 2, "remove", "id")) ? bind_throw(L, b) : 0;
}

static int next_node(lua_State *L) {
    weft_graph *g = graph_at(L, "nodes");
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(1));
    const char *id = weft_graph_id(g, (int)i);
    lua_pushinteger(L, i + 1);
    lua_replace(L, lua_upvalueindex(1));
    lua_pushstring(L, id);
    lua_pushstring(L, id ? weft_graph_class(g, id) : NULL);
    lua_pushstring(L, id ? weft_graph_title(g, id) : NULL);
    return 3;
}

/* for id, class, title in g:nodes() */
static int graph_nodes(lua_State *L) {
    graph_at(L, "nodes");
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, next_node, 1);
    lua_pushvalue(L, 1);
    return 2;
}

/* ---- reading and writing ----------------------------------------------------------------------------------------- */

static void free_graph(void *p) { weft_graph_free(p); }

static bind_held *new_graph(lua_State *L) {
    bind_held *box = bind_hold(L, free_graph);
    luaL_setmetatable(L, GRAPH);
    return box;
}

static int load(lua_State *L) {
    bind_state *b = bind_open(L);
    const char *path = text_at(L, 1, "load", "path");
    bind_held *box = new_graph(L);
    box->p = weft_graph_read(b->session.c, b->session.registry, path);
    return box->p ? 1 : bind_throw(L, b);
}

/* weft.graph.parse(text[, name for messages]) */
static int parse(lua_State *L) {
    bind_state *b = bind_open(L);
    size_t size;
    text_at(L, 1, "parse", "text");
    const char *text = lua_tolstring(L, 1, &size),
               *name = lua_isnoneornil(L, 2) ? "graph" : text_at(L, 2, "parse", "name");
    bind_held *box = new_graph(L);
    box->p = weft_graph_parse(b->session.c, b->session.registry, name, text, size);
    return box->p ? 1 : bind_throw(L, b);
}

static int new(lua_State *L) {
    bind_state *b = bind_open(L);
    bind_held *box = new_graph(L);
    box->p = weft_graph_new(b->session.c, b->session.registry);
    return box->p ? 1 : bind_throw(L, b);
}

/* The graph as text in API format, held on the stack. */
static const char *json_of(lua_State *L, bind_state *b, const weft_graph *g, bool pretty) {
    bind_held *text = bind_hold(L, free);
    text->p = weft_graph_json(g, pretty);
    if (text->p) return text->p;
    weft_fail(b->session.c, WEFT_E_MEMORY, "no memory for the graph's text");
    bind_throw(L, b);
    return NULL;
}

/* g:json([pretty]) */
static int graph_json(lua_State *L) {
    lua_pushstring(L, json_of(L, bind_open(L), graph_at(L, "json"), lua_toboolean(L, 2)));
    return 1;
}

static int graph_save(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_ctx *c = b->session.c;
    const char *path = text_at(L, 2, "save", "path"), *text = json_of(L, b, graph_at(L, "save"), true);
    weft_file_out out = { 0 };
    bool saved = weft_file_create(c, &out, path) && weft_file_write(c, &out, text, strlen(text)) &&
                 weft_file_write(c, &out, "\n", 1) && weft_file_commit(c, &out);
    weft_file_discard(&out);
    return saved ? 0 : bind_throw(L, b);
}

/* ---- checking ---------------------------------------------------------------------------------------------------- */

static void push_faults(lua_State *L, const weft_faults *faults) {
    static const char *const keys[] = { "type", "node", "class", "input", "message", "details" };
    lua_createtable(L, faults->count, 0);
    for (int i = 0; i < faults->count; i++) {
        const weft_fault *f = &faults->items[i];
        const char *const texts[] = { f->type, f->node, f->class_name, f->input, f->message, f->details };
        lua_createtable(L, 0, 6);
        for (int k = 0; k < 6; k++) {
            lua_pushstring(L, texts[k]);
            lua_setfield(L, -2, keys[k]);
        }
        lua_rawseti(L, -2, i + 1);
    }
}

static void free_faults(void *p) {
    weft_faults_free(p);
    free(p);
}

/* g:check([files]) → all faults; files false: whether models and pictures are there is not looked at. */
static int graph_check(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_graph *g = graph_at(L, "check");
    bool files = lua_isnoneornil(L, 2) || lua_toboolean(L, 2);
    bind_held *box = bind_hold(L, free_faults);
    if (!(box->p = calloc(1, sizeof(weft_faults)))) return bind_error(L, WEFT_E_MEMORY, NULL, "no memory for a check");
    lua_State *outer = bind_enter(b, L);
    weft_status status = weft_graph_check(b->session.c, g, files ? &b->session.folders : NULL, box->p);
    bind_leave(b, outer);
    if (status) return bind_throw(L, b);
    push_faults(L, box->p);
    return 1;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Where events go: the registry has, under the sink's address, a table {files = {…}, event = function or nil}. */
struct sink { bind_state *b; };
struct happening { struct sink *sink; const char *what, *node, *class_name, *text; double seconds; };

static int tell(lua_State *L) {
    const struct happening *h = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, h->sink);
    if (!strcmp(h->what, "wrote")) {
        lua_getfield(L, -1, "files");
        lua_pushstring(L, h->text);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        lua_pop(L, 1);
    }
    if (lua_getfield(L, -1, "event") == LUA_TNIL) return 0;
    lua_pushstring(L, h->what);
    lua_pushstring(L, h->node);
    lua_pushstring(L, h->class_name);
    lua_pushstring(L, h->text);
    if (strcmp(h->what, "done")) lua_pushnil(L);
    else lua_pushnumber(L, h->seconds);
    lua_call(L, 5, 0);
    return 0;
}

static void on_event(void *user, const char *what, const char *node, const char *class_name, const char *text,
                     double seconds) {
    struct sink *sink = user;
    struct happening h = { sink, what, node, class_name, text, seconds };
    if (text || sink->b->tells_events) bind_protected(sink->b, tell, &h);
}

/* What the state's runner tells goes to the run that goes on. */
static void on_event_of_state(void *user, const char *what, const char *node, const char *class_name, const char *text,
                              double seconds) {
    bind_state *b = user;
    if (b->sink) on_event(b->sink, what, node, class_name, text, seconds);
}

static const char **read_targets(lua_State *L, int idx) {
    bool list = lua_istable(L, idx);
    size_t n = list ? lua_rawlen(L, idx) : 1;
    const char **targets = bind_scratch(L, (n + 1) * sizeof *targets);
    lua_createtable(L, (int)n, 0);          /* keeps the texts */
    for (size_t i = 0; i < n; i++) {
        if (list) lua_rawgeti(L, idx, (lua_Integer)i + 1);
        else lua_pushvalue(L, idx);
        targets[i] = text_at(L, lua_gettop(L), "run", "targets");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return targets;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Throws the run's error, with all the faults where the check found some. */
static int throw_run(lua_State *L, bind_state *b, const weft_runner *runner) {
    if (weft_error(b->session.c) == WEFT_E_MEMORY || !weft_runner_faults(runner)->count) return bind_throw(L, b);
    bind_push_error(L, b);
    push_faults(L, weft_runner_faults(runner));
    lua_setfield(L, -2, "faults");
    return lua_error(L);
}

/* The options' targets (NULL: all outputs) and event function; leaves what they need on the stack below the sink's
 * table, which is on top. */
static const char *const *read_options(lua_State *L, bool *events) {
    const char *const *targets = NULL;
    if (!lua_isnoneornil(L, 2) && !lua_istable(L, 2))
        bind_error(L, WEFT_E_ARGUMENT, NULL, "run: a table {targets=, event=} is wanted, not %s", bind_kind(L, 2));
    lua_settop(L, 2);
    *events = false;
    if (lua_istable(L, 2)) {
        for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
            const char *name = luaL_tolstring(L, -2, NULL);
            weft_nearest near = { .name = name };
            weft_nearest_try(&near, "targets");
            weft_nearest_try(&near, "event");
            if (strcmp(name, "targets") && strcmp(name, "event"))
                bind_error(L, WEFT_E_ARGUMENT, NULL, "run has no option %s%s", name, bind_near(L, near.best));
            lua_pop(L, 1);
        }
        if (lua_getfield(L, 2, "targets") != LUA_TNIL) targets = read_targets(L, lua_gettop(L));
        *events = lua_getfield(L, 2, "event") != LUA_TNIL;
    } else lua_pushnil(L);
    int event = lua_gettop(L);
    lua_createtable(L, 0, 4);
    lua_createtable(L, 0, 0);
    lua_setfield(L, -2, "files");
    lua_pushvalue(L, event);
    lua_setfield(L, -2, "event");
    return targets;
}

/* g:run{targets = ids, event = function(what, node, class, text, seconds)} → the run. Inside another run (from a
 * node written in Lua) it has a runner of its own, which lives as long as the result. */
static int graph_run(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_ctx *c = b->session.c;
    weft_graph *g = graph_at(L, "run");
    bool events;
    luaL_checkstack(L, 20, "run");
    const char *const *targets = read_options(L, &events);
    int table = lua_gettop(L);
    struct sink sink = { b }, *outer_sink = b->sink;
    run_box *box = lua_newuserdatauv(L, sizeof *box, 2);
    *box = (run_box){ .number = ++b->runs };
    luaL_setmetatable(L, RUN);
    lua_pushvalue(L, table);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 2);
    weft_runner **runner = outer_sink ? &box->own : &b->runner;
    if (!*runner)
        *runner = weft_runner_new(
            c, b->session.registry,
            &(weft_runner_options){ .folders = b->session.folders, .event = on_event_of_state, .user = b });
    if (!*runner) return bind_throw(L, b);
    lua_pushvalue(L, table);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &sink);
    lua_State *outer = bind_enter(b, L);
    bool outer_tells = b->tells_events;
    double start = now();
    b->sink = &sink;
    b->tells_events = events;
    weft_status status = weft_runner_run(
        *runner, g, targets); /* it makes room by itself, and what was saved must not be saved twice */
    b->sink = outer_sink;
    b->tells_events = outer_tells;
    bind_leave(b, outer);
    if (!outer_sink) b->last_run = box->number;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &sink);
    if (status) return throw_run(L, b, *runner);
    bind_weigh(L, b);
    lua_pushnumber(L, now() - start);
    lua_setfield(L, table, "seconds");
    lua_pushinteger(L, weft_runner_ran(*runner));
    lua_setfield(L, table, "ran");
    lua_pushnil(L);
    lua_setfield(L, table, "event");
    return 1;
}

/* r:output(id[, output]) → the value; until the next run. */
static int run_output(lua_State *L) {
    bind_state *b = bind_open(L);
    run_box *box = luaL_testudata(L, 1, RUN);
    if (!box) return bind_error(L, WEFT_E_ARGUMENT, NULL, "output: a run is wanted, not %s", bind_kind(L, 1));
    lua_settop(L, 3);
    const char *id = text_at(L, 2, "output", "id");
    if (!box->own && (box->number != b->last_run || !b->runner))
        return bind_error(L, WEFT_E_ARGUMENT, NULL,
                          "output: another graph was run since; take outputs before the next run");
    lua_getiuservalue(L, 1, 2);
    const weft_graph *g = bind_graph_try(L, -1);
    const weft_value *v = weft_runner_output(box->own ? box->own : b->runner, id,
                                             slot_at(L, b, 3, g ? weft_graph_class(g, id) : NULL));
    if (!v)
        return bind_error_about(L, WEFT_E_ARGUMENT, (weft_fault){ .node = id },
                                "output: node %s gave no such output in this run", id);
    bind_push_value(L, b, v);
    return 1;
}

static int run_index(lua_State *L) {
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (!strcmp(name, "output")) lua_pushcfunction(L, run_output);
    else {
        lua_getiuservalue(L, 1, 1);
        lua_pushvalue(L, 2);
        lua_rawget(L, -2);
    }
    return 1;
}

static int run_gc(lua_State *L) {
    run_box *box = lua_touserdata(L, 1);
    weft_runner_free(box->own);
    box->own = NULL;
    return 0;
}

void bind_add_graph(lua_State *L) {
    static const luaL_Reg functions[] = { { "load", load }, { "parse", parse }, { "new", new }, { NULL, NULL } };
    static const luaL_Reg methods[] = {
        { "add", graph_add },       { "set", graph_set },     { "link", graph_link }, { "get", graph_get },
        { "remove", graph_remove }, { "nodes", graph_nodes }, { "json", graph_json }, { "save", graph_save },
        { "check", graph_check },   { "run", graph_run },     { NULL, NULL }
    };
    static const luaL_Reg run[] = { { "__index", run_index }, { "__gc", run_gc }, { NULL, NULL } };
    luaL_newmetatable(L, GRAPH);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, bind_held_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, RUN);
    luaL_setfuncs(L, run, 0);
    lua_pop(L, 2);
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "graph");
}
