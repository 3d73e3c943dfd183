/* Node classes as functions: weft.node.KSampler{model = m, seed = 1, …} returns the class's outputs in order. One
 * caller for all classes: what a class takes and gives is read from its descriptor. */
#include <string.h>
#include "lua/bind.h"
#include "runtime/nearest.h"

/* ---- values ------------------------------------------------------------------------------------------------------ */

#define VALUES "weft.values"
typedef struct values { int n; weft_value v[]; } values;

static void clear(values *v) {
    for (int i = 0; i < v->n; i++) weft_value_clear(&v->v[i]);
}

static int values_gc(lua_State *L) {
    clear(lua_touserdata(L, 1));
    return 0;
}

weft_value *bind_values_new(lua_State *L, int n) {
    values *v = bind_scratch(L, sizeof *v + (size_t)n * sizeof *v->v);
    v->n = n;
    luaL_setmetatable(L, VALUES);
    return v->v;
}

void bind_values_clear(lua_State *L, int idx) { clear(lua_touserdata(L, idx)); }

static int unfit(lua_State *L, int idx, const weft_port *p, weft_fault about, const char *wanted) {
    about.type = "invalid_input_type";
    about.input = p->name;
    return bind_error_about(L, WEFT_E_ARGUMENT, about, "%s: %s %s takes %s, not %s", about.class_name,
                            about.details ? about.details : "input", p->name, wanted, bind_kind(L, idx));
}

/* Any Lua value that has a kind of its own. */
static weft_value plain_value(lua_State *L, int idx) {
    const bind_box *box;
    switch (lua_type(L, idx)) {
    case LUA_TBOOLEAN: return (weft_value){ .kind = WEFT_PORT_BOOL, .type = "BOOLEAN", .b = lua_toboolean(L, idx) };
    case LUA_TSTRING:
        return (weft_value){ .kind = WEFT_PORT_STRING, .type = "STRING", .s = (char *)(uintptr_t)lua_tostring(L, idx) };
    case LUA_TNUMBER:
        if (lua_isinteger(L, idx))
            return (weft_value){ .kind = WEFT_PORT_INT, .type = "INT", .i = lua_tointeger(L, idx) };
        return (weft_value){ .kind = WEFT_PORT_FLOAT, .type = "FLOAT", .f = lua_tonumber(L, idx) };
    default: break;
    }
    weft_tensor *t = bind_tensor_try(L, idx);
    if (t) return (weft_value){ .kind = WEFT_PORT_TENSOR, .type = "TENSOR", .tensor = t };
    if ((box = luaL_testudata(L, idx, BIND_OBJECT)) && box->object)
        return (weft_value){ .kind = WEFT_PORT_OBJECT, .type = box->object->class->type, .object = box->object };
    return (weft_value){ 0 };
}

weft_value bind_value_at(lua_State *L, int idx, const weft_port *p, weft_fault about) {
    idx = lua_absindex(L, idx);
    weft_value v = plain_value(L, idx);
    int whole = 1;
    switch (p->kind) {
    case WEFT_PORT_INT:
        if (p->flags & WEFT_PORT_U64 && (lua_isinteger(L, idx) || v.kind == WEFT_PORT_STRING))
            return (weft_value){
                .kind = WEFT_PORT_INT, .type = "U64", .u = bind_seed_at(L, idx, about.class_name, p->name) };
        if (v.kind == WEFT_PORT_FLOAT)
            v = (weft_value){ .kind = WEFT_PORT_INT, .type = "INT", .i = lua_tointegerx(L, idx, &whole) };
        if (v.kind != WEFT_PORT_INT || !whole) unfit(L, idx, p, about, "a whole number");
        return v;
    case WEFT_PORT_FLOAT:
        if (v.kind != WEFT_PORT_INT && v.kind != WEFT_PORT_FLOAT) unfit(L, idx, p, about, "a number");
        return v;
    case WEFT_PORT_BOOL:
        if (v.kind != WEFT_PORT_BOOL) unfit(L, idx, p, about, "true or false");
        return v;
    case WEFT_PORT_STRING: case WEFT_PORT_CHOICE: case WEFT_PORT_FILE:
        if (v.kind == WEFT_PORT_STRING && strlen(v.s) != lua_rawlen(L, idx))
            unfit(L, idx, p, about, "text without zero bytes");
        if (v.kind != WEFT_PORT_STRING) unfit(L, idx, p, about, "text");
        return v;
    case WEFT_PORT_TENSOR:
        if (v.kind != WEFT_PORT_TENSOR) unfit(L, idx, p, about, "a tensor");
        v.type = p->type;
        return v;
    case WEFT_PORT_OBJECT:
        if (v.kind != WEFT_PORT_OBJECT || !weft_type_fits(v.type, p->type))
            unfit(L, idx, p, about, lua_pushfstring(L, "a %s", p->type));
        return v;
    case WEFT_PORT_ANY:
        if (!v.kind) unfit(L, idx, p, about, "a number, text, true or false, a tensor or an object");
        return v;
    }
    return v;
}

void bind_push_value(lua_State *L, bind_state *b, const weft_value *v) {
    switch (v->kind) {
    case WEFT_PORT_INT: lua_pushinteger(L, v->i); break;
    case WEFT_PORT_FLOAT: lua_pushnumber(L, v->f); break;
    case WEFT_PORT_BOOL: lua_pushboolean(L, v->b); break;
    case WEFT_PORT_STRING: case WEFT_PORT_CHOICE: case WEFT_PORT_FILE: lua_pushstring(L, v->s); break;
    case WEFT_PORT_TENSOR: bind_box_new(L, b, BIND_TENSOR)->tensor = weft_ref(v->tensor); break;
    case WEFT_PORT_OBJECT: bind_box_new(L, b, BIND_OBJECT)->object = weft_object_ref(v->object); break;
    default: lua_pushnil(L);
    }
}

/* ---- calling ----------------------------------------------------------------------------------------------------- */

/* The table's inputs as names and values; values borrow from the table at idx. Returns how many. */
static int read_inputs(lua_State *L, int idx, const weft_node *node, const char **names, weft_value *given) {
    int n = 0, unknown = 0;
    const weft_fault about = { .class_name = node->name };
    for (const weft_port *p = node->inputs; p && p->name; p++) {
        if (lua_getfield(L, idx, p->name) != LUA_TNIL) {
            names[n] = p->name;
            given[n++] = bind_value_at(L, -1, p, about);
        }
        lua_pop(L, 1);
    }
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) unknown++;
    if (unknown == n) return n;
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        weft_nearest near = { .name = name };
        const weft_port *p = node->inputs;
        for (; p && p->name && strcmp(p->name, name); p++) weft_nearest_try(&near, p->name);
        if (p && p->name) continue;
        name = luaL_tolstring(L, -2, NULL);
        bind_error_about(L, WEFT_E_ARGUMENT,
                         (weft_fault){ .class_name = node->name, .input = name, .type = "unknown_input" },
                         "%s has no input %s%s", node->name, name, bind_near(L, near.best));
    }
    return n;
}

/* Upvalue 1: the class's descriptor. */
static int call(lua_State *L) {
    const weft_node *node = lua_touserdata(L, lua_upvalueindex(1));
    bind_state *b = bind_open(L);
    weft_ctx *c = b->session.c;
    int inputs = weft_port_count(node->inputs), outputs = weft_port_count(node->outputs);
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    if (!lua_istable(L, 1))
        return bind_error(L, WEFT_E_ARGUMENT, NULL, "%s takes its inputs as a table {name = value}, not %s", node->name,
                          bind_kind(L, 1));
    luaL_checkstack(L, outputs + 10, node->name);
    const char **names = bind_scratch(L, (size_t)inputs * sizeof *names);
    weft_value *given = bind_scratch(L, (size_t)inputs * sizeof *given);
    int n = read_inputs(L, 1, node, names, given);
    weft_value *out = bind_values_new(L, outputs);
    int at = lua_gettop(L);
    lua_State *outer = bind_enter(b, L);
    while (weft_node_call(c, b->session.registry, &b->session.folders, node->name, names, given, n, out) &&
           !(node->flags & WEFT_NODE_OUTPUT) && bind_retry(L, b)) {}
    bind_leave(b, outer);
    if (!weft_ok(c)) return bind_throw(L, b);
    for (int i = 0; i < outputs; i++) bind_push_value(L, b, &out[i]);
    bind_values_clear(L, at);
    bind_weigh(L, b);
    return outputs;
}

/* weft.node.NAME: made when first asked for. */
static int class_index(lua_State *L) {
    weft_registry *r = bind_open(L)->session.registry;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_tolstring(L, 2, NULL);
    const weft_node *node = weft_registry_find(r, name);
    if (!node || !node->run)
        return bind_error_about(L, WEFT_E_ARGUMENT, (weft_fault){ .class_name = name, .type = "missing_node_type" },
                                "there is no class %s%s", name, bind_near(L, weft_registry_nearest(r, name)));
    lua_pushlightuserdata(L, (void *)(uintptr_t)node);
    lua_pushcclosure(L, call, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 1);
    return 1;
}

/* ---- telling of classes ------------------------------------------------------------------------------------------ */

static int node_names(lua_State *L) {
    weft_registry *r = bind_open(L)->session.registry;
    const weft_node *n;
    lua_newtable(L);
    for (int i = 0; (n = weft_registry_at(r, i)); i++) {
        lua_pushstring(L, n->name);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static void set_text(lua_State *L, const char *key, const char *text) {
    if (!text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_number(lua_State *L, const char *key, const weft_port *p, double v) {
    if (p->kind == WEFT_PORT_INT && v > -0x1p63 && v < 0x1p63) lua_pushinteger(L, (lua_Integer)v);
    else if (p->kind == WEFT_PORT_INT && p->flags & WEFT_PORT_U64)
        lua_pushinteger(L, -1); /* 2⁶⁴ − 1, in Lua's reading */
    else if (p->kind == WEFT_PORT_INT) lua_pushinteger(L, v > 0 ? LUA_MAXINTEGER : LUA_MININTEGER);
    else lua_pushnumber(L, v);
    lua_setfield(L, -2, key);
}

static void push_choices(lua_State *L, const char *const *names) {
    lua_newtable(L);
    for (int i = 0; names && names[i]; i++) {
        lua_pushstring(L, names[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "choices");
}

static void push_port(lua_State *L, const weft_port *p, bool input) {
    lua_newtable(L);
    set_text(L, "name", p->name);
    set_text(L, "type", p->type);
    set_text(L, "help", p->help);
    if (!input) return;
    if (p->kind == WEFT_PORT_INT || p->kind == WEFT_PORT_FLOAT) {
        set_number(L, "default", p, p->initial);
        set_number(L, "min", p, p->low);
        set_number(L, "max", p, p->high);
        if (p->step > 0) set_number(L, "step", p, p->step);
    } else if (p->kind == WEFT_PORT_BOOL) {
        lua_pushboolean(L, p->initial != 0);
        lua_setfield(L, -2, "default");
    } else if (p->kind == WEFT_PORT_CHOICE) {
        set_text(L, "default", p->text ? p->text : p->choices[0]);
        push_choices(L, p->choices);
    } else if (p->kind == WEFT_PORT_STRING) set_text(L, "default", p->text ? p->text : "");
    else if (p->kind == WEFT_PORT_FILE) set_text(L, "folder", p->folder);
    lua_pushboolean(L, (p->flags & WEFT_PORT_OPTIONAL) != 0);
    lua_setfield(L, -2, "optional");
}

/* weft.describe("KSampler"): its descriptor as a table. */
static int describe(lua_State *L) {
    weft_registry *r = bind_open(L)->session.registry;
    const char *name = luaL_tolstring(L, 1, NULL);
    const weft_node *n = weft_registry_find(r, name);
    if (!n)
        return bind_error(L, WEFT_E_ARGUMENT, NULL, "there is no class %s%s", name,
                          bind_near(L, weft_registry_nearest(r, name)));
    lua_newtable(L);
    set_text(L, "name", n->name);
    set_text(L, "title", n->title ? n->title : n->name);
    set_text(L, "category", n->category);
    set_text(L, "summary", n->summary);
    lua_pushboolean(L, (n->flags & WEFT_NODE_OUTPUT) != 0);
    lua_setfield(L, -2, "output");
    const weft_port *const tables[] = { n->inputs, n->outputs };
    const char *const keys[] = { "inputs", "outputs" };
    for (int t = 0; t < 2; t++) {
        lua_newtable(L);
        for (int i = 0; i < weft_port_count(tables[t]); i++) {
            push_port(L, &tables[t][i], t == 0);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, keys[t]);
    }
    return 1;
}

void bind_add_node(lua_State *L) {
    static const luaL_Reg functions[] = { { "nodes", node_names }, { "describe", describe }, { NULL, NULL } };
    luaL_newmetatable(L, VALUES);
    lua_pushcfunction(L, values_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, class_index);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "node");
}
