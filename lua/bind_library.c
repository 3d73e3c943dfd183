/* The part of the module that is written in Lua: lua/lib/NAME.lua, built into the program, is weft.NAME and require
 * "weft.NAME"; loaded on first use. */
#include <string.h>
#include "lua/bind.h"
#include "runtime/nearest.h"

const bind_source *bind_source_find(const char *name) {
    for (const bind_source *s = bind_sources; s->name; s++)
        if (!strcmp(s->name, name)) return s;
    return NULL;
}

/* What require "weft.NAME" calls, with the name. */
static int open_source(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    const bind_source *s = bind_source_find(strncmp(name, "weft.", 5) ? name : name + 5);
    if (!s) return bind_error(L, WEFT_E_ARGUMENT, NULL, "there is no %s", name);
    lua_pushfstring(L, "=%s", name);
    if (luaL_loadbufferx(L, s->first, (size_t)(s->end - s->first), lua_tostring(L, -1), "t")) return lua_error(L);
    lua_call(L, 0, 1);
    return 1;
}

/* A name that the module lacks: a part written in Lua, or a mistake. */
static int module_index(lua_State *L) {
    const char *name = luaL_tolstring(L, 2, NULL);
    if (bind_source_find(name)) {
        luaL_requiref(L, lua_pushfstring(L, "weft.%s", name), open_source, 0);
        lua_pushvalue(L, 2);
        lua_pushvalue(L, -2);
        lua_rawset(L, 1);
        return 1;
    }
    weft_nearest near = { .name = name };
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING) weft_nearest_try(&near, lua_tostring(L, -2));
    for (const bind_source *s = bind_sources; s->name; s++) weft_nearest_try(&near, s->name);
    return bind_error(L, WEFT_E_ARGUMENT, NULL, "there is no weft.%s%s", name, bind_near(L, near.best));
}

/* weft.nearest(name, names): the nearest within a few edits, or nil. */
static int nearest(lua_State *L) {
    if (lua_type(L, 1) != LUA_TSTRING || !lua_istable(L, 2))
        return bind_error(L, WEFT_E_ARGUMENT, NULL, "nearest takes a text and a list of texts");
    weft_nearest near = { .name = lua_tostring(L, 1) };
    for (lua_Integer i = 1; lua_rawgeti(L, 2, i) == LUA_TSTRING; i++, lua_pop(L, 1))
        weft_nearest_try(&near, lua_tostring(L, -1));
    lua_pushstring(L, near.best);
    return 1;
}

void bind_add_library(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    for (const bind_source *s = bind_sources; s->name; s++) {
        lua_pushfstring(L, "weft.%s", s->name);
        lua_pushcfunction(L, open_source);
        lua_settable(L, -3);
    }
    lua_pop(L, 1);
    lua_pushcfunction(L, nearest);
    lua_setfield(L, -2, "nearest");
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, module_index);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}
