/* JSON as Lua values: weft.to_json(value[, indented]), weft.from_json(text).
 *
 * A table whose keys are 1 … n is a list, also an empty one; any other has texts as keys, which are written in order.
 * Whole numbers keep all their digits. null is read as nothing. What JSON cannot say (NaN, functions, bytes that are
 * not UTF-8, tables inside themselves) is an error. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lua/bind.h"
#include "runtime/json.h"
#include "runtime/json_text.h"

static void delete_tree(void *tree) { cJSON_Delete(tree); }

static cJSON *no_memory(lua_State *L) {
    bind_error(L, WEFT_E_MEMORY, NULL, "no memory for JSON");
    return NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------------------
 * */

static const char writer[] = "to_json";

static const char *text_of(lua_State *L, int idx) {
    const char *s = lua_tostring(L, idx);
    if (strlen(s) != lua_rawlen(L, idx) || !weft_json_is_utf8(s))
        bind_error(L, WEFT_E_ARGUMENT, NULL, "%s: a text is not UTF-8, or has a zero byte", writer);
    return s;
}

static void add_value(lua_State *L, cJSON *parent, const char *name, int depth);

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The table at the stack's top as an object; its texts stay alive in it. */
static void fill_object(lua_State *L, cJSON *object, int depth) {
    const int idx = lua_gettop(L);
    size_t n = 0;
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1), n++)
        if (lua_type(L, -2) != LUA_TSTRING)
            bind_error(L, WEFT_E_ARGUMENT, NULL, "%s: a table's keys are texts, or 1 to n", writer);
    const char **names = bind_scratch(L, (n + 1) * sizeof *names);
    n = 0;
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) names[n++] = text_of(L, -2);
    qsort(names, n, sizeof *names, by_text);
    for (size_t i = 0; i < n; i++) {
        lua_getfield(L, idx, names[i]);
        add_value(L, object, names[i], depth + 1);
        lua_pop(L, 1);
    }
    lua_settop(L, idx);
}

static cJSON *scalar(lua_State *L) {
    char digits[32];
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN: return cJSON_CreateBool(lua_toboolean(L, -1));
    case LUA_TSTRING: return cJSON_CreateString(text_of(L, -1));
    case LUA_TNUMBER:
        if (!lua_isinteger(L, -1) && !isfinite(lua_tonumber(L, -1)))
            bind_error(L, WEFT_E_ARGUMENT, NULL, "%s: JSON has no %s", writer, luaL_tolstring(L, -1, NULL));
        if (lua_isinteger(L, -1)) snprintf(digits, sizeof digits, "%lld", (long long)lua_tointeger(L, -1));
        else        /* as short as it stays the same double; cJSON itself stops at 15 digits */
            for (int n = 15; n <= 17; n++) {
                snprintf(digits, sizeof digits, "%.*g", n, lua_tonumber(L, -1));
                if (strtod(digits, NULL) == lua_tonumber(L, -1)) break;
            }
        return cJSON_CreateRaw(digits);
    default: bind_error(L, WEFT_E_ARGUMENT, NULL, "%s: JSON has no %s", writer, bind_kind(L, -1));
    }
    return NULL;
}

/* The value at the stack's top, put into its parent at once, so that the tree that Lua holds owns it. */
static void add_value(lua_State *L, cJSON *parent, const char *name, int depth) {
    const bool table = lua_istable(L, -1);
    size_t count = 0;
    if (depth > WEFT_JSON_DEPTH) bind_error(L, WEFT_E_ARGUMENT, NULL, "%s: tables lie in each other too deep", writer);
    luaL_checkstack(L, 8, writer);
    for (lua_pushnil(L); table && lua_next(L, -2); lua_pop(L, 1)) count++;
    if (!table) lua_pop(L, 1);
    const bool list = table && count == lua_rawlen(L, -1);
    cJSON *v = !table ? scalar(L) : list ? cJSON_CreateArray() : cJSON_CreateObject();
    const bool added = v && (name ? cJSON_AddItemToObject(parent, name, v) : cJSON_AddItemToArray(parent, v));
    if (!added) {
        cJSON_Delete(v);
        no_memory(L);
    }
    if (table && !list) fill_object(L, v, depth);
    for (size_t i = 1; list && i <= count; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i);
        add_value(L, v, NULL, depth + 1);
        lua_pop(L, 1);
    }
}

static int to_json(lua_State *L) {
    const bool indented = lua_toboolean(L, 2);
    lua_settop(L, 1);
    bind_held *tree = bind_hold(L, delete_tree), *text = bind_hold(L, free);
    if (!(tree->p = cJSON_CreateArray())) return no_memory(L) != NULL;
    lua_pushvalue(L, 1);
    add_value(L, tree->p, NULL, 1);
    const cJSON *value = cJSON_GetArrayItem(tree->p, 0);
    text->p = indented ? cJSON_Print(value) : cJSON_PrintUnformatted(value);
    if (!text->p) return no_memory(L) != NULL;
    lua_pushstring(L, text->p);
    return 1;
}

/* ---- reading ------------------------------------------------------------------------------------------------------
 * */

static void push_value(lua_State *L, const cJSON *v) {
    int64_t whole;
    luaL_checkstack(L, 4, "from_json");
    if (cJSON_IsBool(v)) lua_pushboolean(L, cJSON_IsTrue(v));
    else if (cJSON_IsString(v)) lua_pushstring(L, v->valuestring);
    else if (cJSON_IsNumber(v) && weft_json_i64(v, &whole)) lua_pushinteger(L, whole);
    else if (cJSON_IsNumber(v)) lua_pushnumber(L, v->valuedouble);
    else if (cJSON_IsArray(v) || cJSON_IsObject(v)) {
        lua_Integer i = 0;
        const cJSON *item;
        lua_newtable(L);
        cJSON_ArrayForEach(item, v) {
            push_value(L, item);
            if (cJSON_IsArray(v)) lua_rawseti(L, -2, ++i);
            else lua_setfield(L, -2, item->string);
        }
    } else lua_pushnil(L);
}

static int from_json(lua_State *L) {
    bind_state *b = bind_open(L);
    if (lua_type(L, 1) != LUA_TSTRING)
        return bind_error(L, WEFT_E_ARGUMENT, NULL, "from_json: a text is wanted, not %s", bind_kind(L, 1));
    size_t size;
    const char *text = lua_tolstring(L, 1, &size);
    bind_held *tree = bind_hold(L, delete_tree);
    if (!(tree->p = weft_json_parse(b->session.c, "JSON", text, size, 0))) return bind_throw(L, b);
    push_value(L, tree->p);
    return 1;
}

void bind_add_json(lua_State *L) {
    static const luaL_Reg functions[] = { { "to_json", to_json }, { "from_json", from_json }, { NULL, NULL } };
    luaL_setfuncs(L, functions, 0);
}
