/* The module itself, its state, errors, and calls from the runtime into Lua: see bind.h. */
#include "lua/bind.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char state_key, error_key;

/* ---- errors ------------------------------------------------------------------------------------------------------ */

/* Position and message. */
static int error_text(lua_State *L) {
    static const char *const keys[] = { "where", "message" };
    for (int i = 0; i < 2; i++) {
        if (lua_getfield(L, 1, keys[i]) == LUA_TSTRING) continue;
        lua_pop(L, 1);
        lua_pushliteral(L, "");
    }
    lua_concat(L, 2);
    return 1;
}

static int error_concat(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    luaL_tolstring(L, 2, NULL);
    lua_concat(L, 2);
    return 1;
}

static void set_text(lua_State *L, const char *key, const char *text) {
    if (!text || !*text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

/* What an error is about, apart from its message; "" where unknown. */
typedef struct bind_blame { char type[40], node[64], class_name[64], input[64]; } bind_blame;

static void blame_from(bind_blame *blame, weft_fault f) {
    snprintf(blame->type, sizeof blame->type, "%s", f.type ? f.type : "");
    snprintf(blame->node, sizeof blame->node, "%s", f.node ? f.node : "");
    snprintf(blame->class_name, sizeof blame->class_name, "%s", f.class_name ? f.class_name : "");
    snprintf(blame->input, sizeof blame->input, "%s", f.input ? f.input : "");
}

/* Makes an error of the message on top of the stack, in its place. */
static void make_error(lua_State *L, weft_status status, const bind_blame *blame) {
    lua_createtable(L, 0, 8);
    lua_insert(L, -2);
    lua_setfield(L, -2, "message");
    set_text(L, "status", weft_status_name(status));
    set_text(L, "input", blame->input);
    set_text(L, "node", blame->node);
    set_text(L, "class", blame->class_name);
    set_text(L, "type", blame->type);
    luaL_where(L, 1);
    lua_setfield(L, -2, "where");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &error_key);
    lua_setmetatable(L, -2);
}

void bind_push_error(lua_State *L, bind_state *b) {
    weft_ctx *c = b->session.c;
    char message[2048];
    weft_status status = weft_error(c);
    bind_blame blame;
    blame_from(&blame, weft_graph_blame(c));
    snprintf(message, sizeof message, "%s", weft_message(c));
    weft_clear(c);
    lua_pushstring(L, message);
    make_error(L, status, &blame);
}

int bind_throw(lua_State *L, bind_state *b) {
    bind_push_error(L, b);
    return lua_error(L);
}

/* Throws with the message on top of the stack. */
static int throw(lua_State *L, weft_status status, weft_fault about) {
    bind_blame blame;
    blame_from(&blame, about);
    make_error(L, status, &blame);
    return lua_error(L);
}

int bind_error_about(lua_State *L, weft_status status, weft_fault about, const char *format, ...) {
    va_list args;
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    return throw(L, status, about);
}

int bind_error(lua_State *L, weft_status status, const char *input, const char *format, ...) {
    va_list args;
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    return throw(L, status, (weft_fault){ .input = input });
}

const char *bind_near(lua_State *L, const char *best) {
    return best ? lua_pushfstring(L, "; did you mean %s?", best) : "";
}

const char *bind_kind(lua_State *L, int idx) {
    const bind_box *box = luaL_testudata(L, idx, BIND_OBJECT);
    if (box)
        return box->object ? lua_pushfstring(L, "a %s", box->object->class->type)
                           : "an object that its scope has freed";
    if (luaL_testudata(L, idx, BIND_TENSOR)) return "a tensor";
    if (lua_isnoneornil(L, idx)) return "nothing";
    if (lua_type(L, idx) == LUA_TSTRING) return lua_pushfstring(L, "the text \"%s\"", lua_tostring(L, idx));
    if (lua_type(L, idx) == LUA_TNUMBER || lua_type(L, idx) == LUA_TBOOLEAN) return luaL_tolstring(L, idx, NULL);
    return lua_pushfstring(L, "a %s", luaL_typename(L, idx));
}

/* ---- calls from the runtime -------------------------------------------------------------------------------------- */

/* The message handler: makes what was thrown the context's error, while Lua still protects us. */
static int note_error(lua_State *L) {
    bind_state *b = bind_of(L);
    weft_status status = WEFT_E_ARGUMENT;
    if (lua_istable(L, 1) && lua_getfield(L, 1, "status") == LUA_TSTRING)
        for (int i = 1; i < WEFT_STATUS_COUNT; i++)
            if (!strcmp(weft_status_name(i), lua_tostring(L, -1))) status = i;
    weft_fail(b->session.c, status, "%s", luaL_tolstring(L, 1, NULL));
    return 1;
}

bool bind_protected(bind_state *b, lua_CFunction run, void *user) {
    lua_State *L = b->L;
    weft_ctx *c = b->session.c;
    if (!L || !lua_checkstack(L, 2 * LUA_MINSTACK))
        return !weft_fail(c, WEFT_E_MEMORY, "no memory for a call into Lua");
    int top = lua_gettop(L);
    lua_pushcfunction(L, note_error);
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, user);
    int failed = lua_pcall(L, 1, 0, top + 1);
    lua_settop(L, top);
    if (failed && weft_ok(c)) weft_fail(c, WEFT_E_MEMORY, "Lua has no memory");
    return !failed;
}

/* ---- the state --------------------------------------------------------------------------------------------------- */

bind_state *bind_of(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
    bind_state *b = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return b;
}

/* Everything that hung on the context is gone: Lua finalises in the opposite order of making, and this was the
 * first. */
static int state_gc(lua_State *L) {
    bind_state *b = lua_touserdata(L, 1);
    weft_runner_free(b->runner);
    weft_rng_free(b->rng);
    session_stop(&b->session);
    *b = (bind_state){ 0 };
    return 0;
}

/* Under a Lua of another program: its warning system (warn("@on")). */
static void on_warning(void *user, const char *text) {
    bind_state *b = user;
    if (!b->L) return;
    lua_warning(b->L, "weft: ", 1);
    lua_warning(b->L, text, 0);
}

bind_state *bind_open(lua_State *L) {
    bind_state *b = bind_of(L);
    if (b->session.c) return b;
    if (session_start(&b->session)) {
        if (b->program) session_progress(b->session.c);
        else weft_set_warn(b->session.c, on_warning, b);
        return b;
    }
    char message[512] = "no memory for a context";
    weft_status status = WEFT_E_MEMORY;
    if (b->session.c) {
        status = weft_error(b->session.c);
        snprintf(message, sizeof message, "%s", weft_message(b->session.c));
    }
    session_stop(&b->session);
    bind_error(L, status, NULL, "%s", message);
    return NULL;
}

void *bind_scratch(lua_State *L, size_t bytes) {
    void *p = lua_newuserdatauv(L, bytes ? bytes : 1, 0);
    memset(p, 0, bytes);
    return p;
}

#define HELD "weft.held"

int bind_held_gc(lua_State *L) {
    bind_held *h = lua_touserdata(L, 1);
    if (h->p) h->release(h->p);
    h->p = NULL;
    return 0;
}

bind_held *bind_hold(lua_State *L, void (*release)(void *p)) {
    bind_held *h = bind_scratch(L, sizeof *h);
    h->release = release;
    if (luaL_newmetatable(L, HELD)) {
        lua_pushcfunction(L, bind_held_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return h;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

void bind_weigh(lua_State *L, bind_state *b) {
    size_t live = weft_memory_live(b->session.c), limit = weft_memory_limit(b->session.c),
           step = b->base / 4 > 64 << 20 ? b->base / 4 : 64 << 20;
    if (limit && step > limit / 16) step = limit / 16;
    if (live < b->base) b->base = live;
    if (live < b->base + step) return;
    lua_gc(L, LUA_GCCOLLECT, 0);
    b->base = weft_memory_live(b->session.c);
}

bool bind_retry(lua_State *L, bind_state *b) {
    weft_ctx *c = b->session.c;
    if (weft_error(c) != WEFT_E_MEMORY) return false;
    size_t live = weft_memory_live(c);
    lua_gc(L, LUA_GCCOLLECT, 0);
    b->base = weft_memory_live(c);
    if (b->base >= live) return false;
    weft_clear(c);
    return true;
}

int bind_result(lua_State *L, bind_state *b, bind_compute *fn, const void *arguments) {
    weft_ctx *c = b->session.c;
    bind_box *box = bind_box_new(L, b, BIND_TENSOR);
    lua_State *outer = bind_enter(b, L);
    do {
        weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
        weft_tensor *t = weft_ok(c) ? fn(b, arguments) : NULL;
        if (!t && weft_ok(c)) weft_fail(c, WEFT_E_INTERNAL, "an operation gave nothing");
        if (weft_ok(c)) box->tensor = weft_ref(t);
        weft_scope_end(c, s, NULL);
    } while (!weft_ok(c) && bind_retry(L, b));
    bind_leave(b, outer);
    if (!weft_ok(c)) return bind_throw(L, b);
    bind_weigh(L, b);
    return 1;
}

/* ---- the module -------------------------------------------------------------------------------------------------- */

static void make_state(lua_State *L) {
    static const luaL_Reg error_methods[] = { { "__tostring", error_text },
                                              { "__concat", error_concat },
                                              { NULL, NULL } };
    luaL_newlib(L, error_methods);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &error_key);
    bind_state *b = bind_scratch(L, sizeof *b);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, state_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);
}

int bind_module(lua_State *L) {
    if (!bind_of(L)) make_state(L);
    lua_newtable(L);
    lua_pushliteral(L, WEFT_VERSION);
    lua_setfield(L, -2, "version");
#define B(name) bind_add_##name(L);
    BIND_PARTS(B)
#undef B
    return 1;
}
