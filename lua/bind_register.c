/* Node classes written in Lua:
 *
 *     weft.register{ name = "Brighten", category = "image", summary = "Makes a picture brighter.",
 *         inputs = { {name = "image", type = "IMAGE"}, {name = "by", type = "FLOAT", default = 0.1, min = -1, max = 1}
 * }, outputs = { {name = "IMAGE", type = "IMAGE"} }, run = function(inputs) return (inputs.image + inputs.by):clamp(0,
 * 1) end }
 *
 * A class is a descriptor as any other, so graphs, checks, calls and the cache treat it alike; it is taken to be a
 * pure function of its inputs unless it says output = true or volatile = true. A port of a type that no class in C
 * has carries any Lua value, as an object whose field `value` it is. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lua/bind.h"

enum { PORTS = 64 };        /* inputs or outputs that a class may have */

typedef struct lua_node {
    weft_node node;
    bind_state *state;
    weft_class classes[PORTS];          /* of objects that hold Lua values, by output */
    weft_port inputs[PORTS + 1], outputs[PORTS + 1];
} lua_node;

/* The registry has, under the lua_node's address, {[1] = its userdata, run = function, and the texts that it points
 * at}. */

/* ---- Lua values as objects --------------------------------------------------------------------------------------- */

typedef struct lua_object { weft_object object; lua_State *main; int reference; } lua_object;

static void free_object(weft_object *o) {
    lua_object *v = (lua_object *)o;
    if (lua_checkstack(v->main, 4)) luaL_unref(v->main, LUA_REGISTRYINDEX, v->reference);
    free(v);
}

bool bind_push_object_value(lua_State *L, const weft_object *o) {
    if (o->class->free != free_object) return false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, ((const lua_object *)o)->reference);
    return true;
}

/* Holds the value on top of the stack, and pops it. */
static weft_object *new_object(lua_State *L, const weft_class *class) {
    bind_held *held = bind_hold(L, free);
    lua_object *v = held->p = calloc(1, sizeof *v);
    if (!v) bind_error(L, WEFT_E_MEMORY, NULL, "no memory for a value");
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    lua_pushvalue(L, -3);
    *v = (lua_object){ { class, 1 }, lua_tothread(L, -2), luaL_ref(L, LUA_REGISTRYINDEX) };
    held->p = NULL;
    lua_pop(L, 3);
    return &v->object;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

struct running { const lua_node *n; void *self; };

static void push_input(lua_State *L, const struct running *r, const weft_port *p) {
    weft_value v;
    if (p->kind == WEFT_PORT_CHOICE) {
        int choice = *(const int *)((const char *)r->self + p->offset);
        lua_pushstring(L, choice >= 0 ? p->choices[choice] : NULL);
        return;
    }
    weft_port_take(p, r->self, &v);
    if ((v.kind == WEFT_PORT_TENSOR && !v.tensor) || (v.kind == WEFT_PORT_OBJECT && !v.object)) lua_pushnil(L);
    else bind_push_value(L, r->n->state, &v);
}

/* The result at idx into its field: what it points at stays alive, as nothing runs in Lua between this and the
 * engine's copying it. */
static void take_output(lua_State *L, const struct running *r, int i, int idx) {
    const weft_port *p = &r->n->outputs[i];
    const weft_class *own = &r->n->classes[i];
    const bind_box *box = luaL_testudata(L, idx, BIND_OBJECT);
    weft_value v;
    if (own->type && !lua_isnil(L, idx) && !(box && box->object && weft_type_fits(box->object->class->type, p->type))) {
        lua_pushvalue(L, idx);
        v = (weft_value){ .kind = WEFT_PORT_OBJECT, .type = p->type, .object = new_object(L, own) };
    } else {
        v = bind_value_at(L, idx, p, (weft_fault){ .class_name = "run()", .details = "output" });
        if (v.kind == WEFT_PORT_OBJECT && p->kind == WEFT_PORT_OBJECT) weft_object_ref(v.object);
    }
    weft_port_store(p, r->self, &v);
}

static int run_in_lua(lua_State *L) {
    const struct running *r = lua_touserdata(L, 1);
    int outputs = weft_port_count(r->n->outputs);
    luaL_checkstack(L, outputs + 20, r->n->node.name);
    lua_rawgetp(L, LUA_REGISTRYINDEX, r->n);
    lua_getfield(L, -1, "run");
    lua_newtable(L);
    for (const weft_port *p = r->n->inputs; p->name; p++) {
        push_input(L, r, p);
        lua_setfield(L, -2, p->name);
    }
    lua_call(L, 1, outputs);
    for (int i = 0; i < outputs; i++) {
        int idx = lua_gettop(L) - outputs + 1 + i;
        if (lua_isnil(L, idx))
            bind_error(L, WEFT_E_ARGUMENT, NULL, "run() gave nothing for output %s", r->n->outputs[i].name);
        take_output(L, r, i, idx);
    }
    return 0;
}

static void run_node(weft_ctx *c, void *self) {
    const lua_node *n = weft_run_info_of(c)->node->user;
    bind_protected(n->state, run_in_lua, &(struct running){ n, self });
}

/* ---- the descriptor ---------------------------------------------------------------------------------------------- */

/* What is being registered: the argument is at 1, the anchor, which keeps texts, at 2. */
struct reading { lua_node *n; weft_registry *registry; const char *class_name; };

static int wrong(lua_State *L, const char *class_name, const char *what, const char *wanted) {
    return bind_error(L, WEFT_E_ARGUMENT, NULL, "register: %s: %s: %s", class_name, what, wanted);
}

/* The text of a field of the table at idx; kept by the anchor. NULL where there is none. */
static const char *text_field(lua_State *L, int idx, const char *key, const char *class_name) {
    int type = lua_getfield(L, idx, key);
    const char *s = type == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    if (type != LUA_TSTRING && type != LUA_TNIL) wrong(L, class_name, key, "a text is wanted");
    if (s && strlen(s) != lua_rawlen(L, -1)) wrong(L, class_name, key, "text without zero bytes is wanted");
    if (s) lua_rawseti(L, 2, (lua_Integer)lua_rawlen(L, 2) + 1);
    else lua_pop(L, 1);
    return s;
}

static double number_field(lua_State *L, int idx, const char *key, double otherwise, const char *class_name) {
    int type = lua_getfield(L, idx, key);
    double v = type == LUA_TNUMBER ? lua_tonumber(L, -1) : otherwise;
    if ((type != LUA_TNUMBER && type != LUA_TNIL) || !isfinite(v)) wrong(L, class_name, key, "a number is wanted");
    lua_pop(L, 1);
    return v;
}

static bool flag_field(lua_State *L, int idx, const char *key) {
    lua_getfield(L, idx, key);
    bool set = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return set;
}

static const char *const *choices_field(lua_State *L, int idx, const char *class_name) {
    if (lua_getfield(L, idx, "choices") != LUA_TTABLE || !lua_rawlen(L, -1))
        wrong(L, class_name, "choices", "a list of texts is wanted");
    size_t n = lua_rawlen(L, -1);
    const char **choices = bind_scratch(L, (n + 1) * sizeof *choices);
    lua_pushvalue(L, -1);
    lua_rawseti(L, 2, (lua_Integer)lua_rawlen(L, 2) + 1);
    for (size_t i = 0; i < n; i++) {
        if (lua_rawgeti(L, -2, (lua_Integer)i + 1) != LUA_TSTRING)
            wrong(L, class_name, "choices", "a list of texts is wanted");
        choices[i] = lua_tostring(L, -1);
        lua_rawseti(L, 2, (lua_Integer)lua_rawlen(L, 2) + 1);
    }
    lua_pop(L, 2);
    return choices;
}

/* How a class in C carries this type; 0 where none has it. For an output, any type that fits counts: what is taken
 * for a MODEL must be one. */
static weft_port_kind kind_in_c(const weft_registry *registry, const char *type, bool output) {
    const weft_node *n;
    for (int i = 0; (n = weft_registry_at(registry, i)); i++) {
        const weft_port *const tables[] = { n->inputs, n->outputs };
        for (int t = 0; t < 2 && n->run != run_node; t++)
            for (const weft_port *p = tables[t]; p && p->name; p++) {
                if (p->kind != WEFT_PORT_TENSOR && p->kind != WEFT_PORT_OBJECT) continue;
                if (output ? weft_type_fits(type, p->type) : !strcmp(type, p->type)) return p->kind;
            }
    }
    return 0;
}

static weft_port_kind kind_of(const struct reading *r, const weft_port *p, bool output) {
    static const struct { const char *type; weft_port_kind kind;
    } plain[] = { { "INT", WEFT_PORT_INT },       { "FLOAT", WEFT_PORT_FLOAT },  { "BOOLEAN", WEFT_PORT_BOOL },
                  { "STRING", WEFT_PORT_STRING }, { "COMBO", WEFT_PORT_CHOICE }, { "TENSOR", WEFT_PORT_TENSOR },
                  { "IMAGE", WEFT_PORT_TENSOR },  { "MASK", WEFT_PORT_TENSOR },  { "*", WEFT_PORT_ANY } };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!strcmp(plain[i].type, p->type)) return plain[i].kind;
    weft_port_kind kind = kind_in_c(r->registry, p->type, output);
    return kind ? kind : WEFT_PORT_OBJECT;
}

/* Range and default of a number, which start where the port is left blank. */
static void read_range(lua_State *L, const struct reading *r, int idx, weft_port *p) {
    const double most = p->kind == WEFT_PORT_INT ? 9223372036854774784.0 : 1e300; /* the largest double below 2⁶³ */
    if (p->kind == WEFT_PORT_INT && flag_field(L, idx, "seed")) {
        p->flags |= WEFT_PORT_U64 | WEFT_PORT_SEED;
        p->high = 18446744073709551615.0;
        return;
    }
    p->low = number_field(L, idx, "min", -most, r->class_name);
    p->high = number_field(L, idx, "max", most, r->class_name);
    p->step = number_field(L, idx, "step", p->kind == WEFT_PORT_INT ? 1 : 0.01, r->class_name);
    p->initial = number_field(L, idx, "default", p->low > 0 ? p->low : p->high < 0 ? p->high : 0, r->class_name);
    if (!(p->low <= p->initial && p->initial <= p->high) ||
        (p->kind == WEFT_PORT_INT && p->initial != trunc(p->initial)))
        wrong(L, r->class_name, p->name, "its default does not lie between min and max, or is no whole number");
}

static void read_input(lua_State *L, const struct reading *r, int idx, weft_port *p) {
    p->help = text_field(L, idx, "help", r->class_name);
    if (flag_field(L, idx, "optional")) p->flags |= WEFT_PORT_OPTIONAL;
    if (p->kind == WEFT_PORT_INT || p->kind == WEFT_PORT_FLOAT) read_range(L, r, idx, p);
    else if (p->kind == WEFT_PORT_BOOL) {
        p->high = 1;
        p->initial = flag_field(L, idx, "default");
    } else if (p->kind == WEFT_PORT_STRING) {
        const char *text = text_field(L, idx, "default", r->class_name);
        p->text = text ? text : "";
        if (flag_field(L, idx, "multiline")) p->flags |= WEFT_PORT_MULTILINE;
    } else if (p->kind == WEFT_PORT_CHOICE && (p->folder = text_field(L, idx, "folder", r->class_name)))
        p->kind = WEFT_PORT_FILE;
    else if (p->kind == WEFT_PORT_CHOICE) {
        bool there = false;
        p->choices = choices_field(L, idx, r->class_name);
        p->text = text_field(L, idx, "default", r->class_name);
        for (const char *const *c = p->choices; p->text && *c; c++) there |= !strcmp(*c, p->text);
        if (p->text && !there) wrong(L, r->class_name, p->name, "its default is none of its choices");
    }
}

/* The list `key` of the argument into ports, whose fields lie one behind the other from *offset on. */
static void read_ports(lua_State *L, const struct reading *r, const char *key, weft_port *ports, size_t *offset) {
    bool output = *key == 'o';
    int type = lua_getfield(L, 1, key), list = lua_gettop(L);
    if (type == LUA_TNIL) return;
    if (type != LUA_TTABLE || lua_rawlen(L, list) > PORTS)
        wrong(L, r->class_name, key, "a list of at most 64 is wanted");
    for (int i = 0; i < (int)lua_rawlen(L, list); i++) {
        weft_port *p = &ports[i];
        if (lua_rawgeti(L, list, i + 1) != LUA_TTABLE) wrong(L, r->class_name, key, "tables {name=, type=} are wanted");
        int idx = lua_gettop(L);
        const char *name = text_field(L, idx, "name", r->class_name);
        p->type = text_field(L, idx, "type", r->class_name);
        if (!name || !*name || !p->type || !*p->type) wrong(L, r->class_name, key, "each has a name and a type");
        if (weft_port_find(ports, name) && !output) wrong(L, r->class_name, name, "it is there twice");
        if (output && strchr(p->type, ',')) wrong(L, r->class_name, name, "an output has one type");
        p->name = name;
        p->kind = kind_of(r, p, output);
        if (output && p->kind == WEFT_PORT_OBJECT && !kind_in_c(r->registry, p->type, true))
            r->n->classes[i] = (weft_class){ .type = p->type, .free = free_object };
        p->offset = *offset;
        *offset += sizeof(weft_value);
        if (!output) read_input(L, r, idx, p);
        lua_settop(L, list);
    }
}

static int node_register(lua_State *L) {
    bind_state *b = bind_open(L);
    if (!lua_istable(L, 1))
        return bind_error(L, WEFT_E_ARGUMENT, NULL, "register: a table is wanted, not %s", bind_kind(L, 1));
    lua_settop(L, 1);
    lua_newtable(L);
    luaL_checkstack(L, 20, "register");
    const char *name = text_field(L, 1, "name", "?");
    if (!name || !*name) return wrong(L, "?", "name", "a class has a name");
    if (weft_registry_find(b->session.registry, name)) return wrong(L, name, "name", "there is such a class already");
    lua_node *n = bind_scratch(L, sizeof *n);
    lua_rawseti(L, 2, (lua_Integer)lua_rawlen(L, 2) + 1);
    struct reading r = { n, b->session.registry, name };
    size_t size = 0;
    read_ports(L, &r, "inputs", n->inputs, &size);
    read_ports(L, &r, "outputs", n->outputs, &size);
    n->state = b;
    n->node = (weft_node){ .name = name,
                           .title = text_field(L, 1, "title", name),
                           .category = text_field(L, 1, "category", name),
                           .summary = text_field(L, 1, "summary", name),
                           .size = size + 1,
                           .inputs = n->inputs,
                           .outputs = n->outputs,
                           .flags = (flag_field(L, 1, "output") ? WEFT_NODE_OUTPUT : 0u) |
                                    (flag_field(L, 1, "volatile") ? WEFT_NODE_VOLATILE : 0u),
                           .run = run_node,
                           .user = n };
    if (!n->node.category) n->node.category = "lua";
    if (!n->node.summary) n->node.summary = "";
    if (lua_getfield(L, 1, "run") != LUA_TFUNCTION) return wrong(L, name, "run", "a function is wanted");
    lua_setfield(L, 2, "run");
    lua_pushvalue(L, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, n);
    if (!weft_registry_add(b->session.registry, (const weft_node *const[]){ &n->node, NULL }))
        return bind_error(L, WEFT_E_MEMORY, NULL, "register: no memory");
    return 0;
}

void bind_add_register(lua_State *L) {
    lua_pushcfunction(L, node_register);
    lua_setfield(L, -2, "register");
}
