/* weft.sandbox(code[, env[, {memory = , instructions = }]]): runs Lua that somebody else wrote (it came with a
 * graph) and returns what it returns.
 *
 * It runs in a Lua state of its own, whose allocator refuses what goes beyond the limit and whose hook counts
 * instructions. It has no files, processes, packages, bytecode, coroutines or metatables (lib/sandbox_globals.lua).
 * Nothing is shared: env, whose fields are its globals, goes in as a copy and results come out as copies; plain
 * values only (nil, true and false, numbers, text, and tables of these). */
#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include "lua/bind.h"

static const char inner_key;      /* set in the registry of inner states */
enum { DEPTH = 32, STRIDE = 1000 /* instructions between two counts */ };

typedef struct cage {
    lua_State *outer, *inner;
    const char *code;
    size_t size, used, most;
    lua_Integer instructions;   /* that are left */
    int env;                    /* its place on the outer stack; 0: none */
} cage;

static void *allocate(void *user, void *p, size_t before, size_t bytes) {
    cage *k = user;
    if (!p) before = 0;
    if (!bytes) {
        free(p);
        k->used -= before;
        return NULL;
    }
    if (bytes > before && bytes - before > k->most - k->used) return NULL;
    void *q = realloc(p, bytes);
    if (q) k->used = k->used - before + bytes;
    return q;
}

/* Once the limit is reached every instruction fails, so that pcall() cannot hold it up. */
static void count(lua_State *L, lua_Debug *ar) {
    void *user;
    (void)ar;
    lua_getallocf(L, &user);
    cage *k = user;
    if (k->instructions > STRIDE) {
        k->instructions -= STRIDE;
        return;
    }
    k->instructions = 0;
    lua_sethook(L, count, LUA_MASKCOUNT, 1);
    luaL_error(L, "the limit of instructions is reached");
}

/* Throws in the state that is copied to: a text in the inner one, an error of the binding's in the outer one. */
static int refuse(lua_State *to, const char *why, const char *type) {
    lua_rawgetp(to, LUA_REGISTRYINDEX, &inner_key);
    if (lua_toboolean(to, -1)) return luaL_error(to, why, type);
    return bind_error(to, WEFT_E_ARGUMENT, NULL, why, type);
}

/* Copies the value at idx of one state to the top of another; throws in `to`. */
static void copy(lua_State *to, lua_State *from, int idx, int depth) {
    size_t size;
    luaL_checkstack(to, 4, "sandbox");
    if (!lua_checkstack(from, 4) || depth > DEPTH) refuse(to, "sandbox: tables too deep, or in themselves%s", "");
    switch (lua_type(from, idx)) {
    case LUA_TNIL: case LUA_TNONE: lua_pushnil(to); break;
    case LUA_TBOOLEAN: lua_pushboolean(to, lua_toboolean(from, idx)); break;
    case LUA_TNUMBER:
        if (lua_isinteger(from, idx)) lua_pushinteger(to, lua_tointeger(from, idx));
        else lua_pushnumber(to, lua_tonumber(from, idx));
        break;
    case LUA_TSTRING: {
        const char *s = lua_tolstring(from, idx, &size);
        lua_pushlstring(to, s, size);
        break;
    }
    case LUA_TTABLE:
        lua_newtable(to);
        idx = lua_absindex(from, idx);
        for (lua_pushnil(from); lua_next(from, idx); lua_pop(from, 1)) {
            copy(to, from, -2, depth + 1);
            copy(to, from, -1, depth + 1);
            lua_rawset(to, -3);
        }
        break;
    default: refuse(to, "only plain values go into a sandbox and come out of it, not a %s", luaL_typename(from, idx));
    }
}

/* In the inner state, protected: builds the globals, runs the code, and leaves its results on the stack. */
static int inside(lua_State *L) {
    static const luaL_Reg libraries[] = { { "_G", luaopen_base },       { "table", luaopen_table },
                                          { "string", luaopen_string }, { "math", luaopen_math },
                                          { "utf8", luaopen_utf8 },     { NULL, NULL } };
    cage *k = lua_touserdata(L, 1);
    const bind_source *s = bind_source_find("sandbox_globals");
    lua_pushboolean(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &inner_key);
    lua_settop(L, 0);
    for (const luaL_Reg *l = libraries; l->name; l++) luaL_requiref(L, l->name, l->func, 1);
    lua_settop(L, 0);
    if (luaL_loadbufferx(L, s->first, (size_t)(s->end - s->first), "=sandbox", "t")) return lua_error(L);
    lua_call(L, 0, 1);                              /* 1: the globals */
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_getfield(L, 1, "string");
    lua_setfield(L, -2, "__index");                 /* ("x"):rep() is the bounded one too */
    lua_settop(L, 1);
    if (k->env)
        for (lua_pushnil(k->outer); lua_next(k->outer, k->env); lua_pop(k->outer, 1)) {
            copy(L, k->outer, -2, 0);
            copy(L, k->outer, -1, 0);
            lua_rawset(L, 1);
        }
    if (luaL_loadbufferx(L, k->code, k->size, "=sandbox", "t")) return lua_error(L);
    lua_pushvalue(L, 1);
    if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
    lua_replace(L, 1);
    lua_settop(L, 1);
    lua_sethook(L, count, LUA_MASKCOUNT, STRIDE);
    lua_call(L, 0, LUA_MULTRET);
    return lua_gettop(L);
}

static void close_cage(void *p) {
    cage *k = p;
    if (k->inner) lua_close(k->inner);
    free(k);
}

static size_t memory_option(lua_State *L) {
    size_t bytes = 64 << 20;
    if (!lua_istable(L, 3) || lua_getfield(L, 3, "memory") == LUA_TNIL) return bytes;
    if (lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 0) return (size_t)lua_tointeger(L, -1);
    if (lua_type(L, -1) != LUA_TSTRING || !cli_size(lua_tostring(L, -1), &bytes))
        bind_error(L, WEFT_E_ARGUMENT, "memory", "sandbox: memory: bytes, or a text such as \"64M\", is wanted, not %s",
                   bind_kind(L, -1));
    return bytes;
}

static lua_Integer instructions_option(lua_State *L) {
    int whole = 1;
    if (!lua_istable(L, 3) || lua_getfield(L, 3, "instructions") == LUA_TNIL) return 100000000;
    lua_Integer n = lua_tointegerx(L, -1, &whole);
    if (!whole || n < 1)
        bind_error(L, WEFT_E_ARGUMENT, "instructions",
                   "sandbox: instructions: a whole number from 1 on is wanted, not %s", bind_kind(L, -1));
    return n;
}

static int sandbox(lua_State *L) {
    if (lua_type(L, 1) != LUA_TSTRING)
        return bind_error(L, WEFT_E_ARGUMENT, "code", "sandbox: code: a text is wanted, not %s", bind_kind(L, 1));
    lua_settop(L, 3);
    if (!lua_isnil(L, 2) && !lua_istable(L, 2))
        return bind_error(L, WEFT_E_ARGUMENT, "env", "sandbox: env: a table is wanted, not %s", bind_kind(L, 2));
    if (!lua_isnil(L, 3) && !lua_istable(L, 3))
        return bind_error(L, WEFT_E_ARGUMENT, NULL, "sandbox: a table {memory=, instructions=} is wanted, not %s",
                          bind_kind(L, 3));
    size_t memory = memory_option(L);
    lua_Integer instructions = instructions_option(L);
    bind_held *held = bind_hold(L, close_cage);
    cage *k = held->p = calloc(1, sizeof *k);
    if (!k) return bind_error(L, WEFT_E_MEMORY, NULL, "sandbox: no memory");
    *k = (cage){ .outer = L, .most = memory, .instructions = instructions, .env = lua_istable(L, 2) ? 2 : 0 };
    k->code = lua_tolstring(L, 1, &k->size);
    luaL_checkstack(L, 2 * DEPTH + 10, "sandbox");
    int top = lua_gettop(L);
    lua_State *in = k->inner = lua_newstate(allocate, k);
    if (!in) return bind_error(L, WEFT_E_MEMORY, "memory", "sandbox: %I bytes are too few", (LUAI_UACINT)memory);
    lua_pushcfunction(in, inside);
    lua_pushlightuserdata(in, k);
    int failed = lua_pcall(in, 1, LUA_MULTRET, 0);
    lua_settop(L, top);
    lua_sethook(in, NULL, 0, 0);
    if (failed == LUA_ERRMEM)
        return bind_error(L, WEFT_E_MEMORY, NULL, "sandbox: the limit of memory, %I bytes, is reached",
                          (LUAI_UACINT)memory);
    if (failed)
        return bind_error(L, WEFT_E_ARGUMENT, NULL, "%s",
                          lua_type(in, -1) == LUA_TSTRING ? lua_tostring(in, -1) : "sandbox: an error that is no text");
    int results = lua_gettop(in);
    luaL_checkstack(L, results + DEPTH, "sandbox");
    for (int i = 1; i <= results; i++) copy(L, in, i, 0);
    close_cage(k);              /* now, not when Lua next collects */
    held->p = NULL;
    return results;
}

void bind_add_sandbox(lua_State *L) {
    lua_pushcfunction(L, sandbox);
    lua_setfield(L, -2, "sandbox");
}
