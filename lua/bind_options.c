/* Options as a table's fields: bind_only(), bind_number() and their kin. See bind.h. */
#include <string.h>
#include "lua/bind.h"
#include "runtime/nearest.h"

void bind_only(lua_State *L, int idx, const char *who, const char *const *names) {
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        weft_nearest near = { .name = key };
        int i = 0;
        for (; names[i] && strcmp(names[i], key); i++) weft_nearest_try(&near, names[i]);
        if (!names[i]) bind_error(L, WEFT_E_ARGUMENT, key, "%s: there is no option %s%s", who, key, bind_near(L, near.best));
    }
}

double bind_number(lua_State *L, int idx, const char *who, const char *key, double otherwise) {
    double v = otherwise;
    if (lua_getfield(L, idx, key) != LUA_TNIL) {
        int ok;
        v = lua_tonumberx(L, -1, &ok);
        if (!ok) bind_error(L, WEFT_E_ARGUMENT, key, "%s: %s: a number is wanted, not %s", who, key, bind_kind(L, -1));
    }
    lua_pop(L, 1);
    return v;
}

int64_t bind_whole(lua_State *L, int idx, const char *who, const char *key, int64_t otherwise) {
    int64_t v = otherwise;
    if (lua_getfield(L, idx, key) != LUA_TNIL) {
        int ok;
        v = lua_tointegerx(L, -1, &ok);
        if (!ok) bind_error(L, WEFT_E_ARGUMENT, key, "%s: %s: a whole number is wanted, not %s", who, key, bind_kind(L, -1));
    }
    lua_pop(L, 1);
    return v;
}

bool bind_flag(lua_State *L, int idx, const char *key, bool otherwise) {
    bool v = lua_getfield(L, idx, key) == LUA_TNIL ? otherwise : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return v;
}

const char *bind_text(lua_State *L, int idx, const char *who, const char *key, const char *otherwise) {
    int type = lua_getfield(L, idx, key);
    if (type != LUA_TNIL && type != LUA_TSTRING) bind_error(L, WEFT_E_ARGUMENT, key, "%s: %s: a text is wanted, not %s", who, key, bind_kind(L, -1));
    const char *v = type == LUA_TNIL ? otherwise : lua_tostring(L, -1);
    lua_pop(L, 1);
    return v;
}
