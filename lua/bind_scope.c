/* Boxes (tensors and objects as Lua values) and scopes.
 *
 * A box owns one reference. Lua's collector frees it in the end; weft.scope() frees all that was made since, at a
 * known moment:
 *
 *     local s <close> = weft.scope()
 *     result = s:keep(a + b)       -- lives on in the scope outside, or until it is collected
 *
 * Open scopes form a stack; ending one ends those that were opened inside it. A box is in the list of the scope that
 * was innermost when it was made. */
#include <string.h>
#include "lua/bind.h"

#define SCOPE "weft.scope"

typedef struct bind_scope {
    struct bind_scope *outer;
    bind_box *boxes;
    bool open;
} bind_scope;

/* ---- boxes ------------------------------------------------------------------------------------------------------- */

static void unlink_box(bind_box *box) {
    if (!box->link) return;
    *box->link = box->next;
    if (box->next) box->next->link = box->link;
    box->link = NULL;
    box->next = NULL;
}

static void link_box(bind_box *box, bind_scope *s) {
    unlink_box(box);
    if (!s) return;
    box->next = s->boxes;
    box->link = &s->boxes;
    if (s->boxes) s->boxes->link = &box->next;
    s->boxes = box;
}

void bind_box_free(bind_box *box) {
    unlink_box(box);
    weft_unref(box->tensor);
    weft_object_unref(box->object);
    box->tensor = NULL;
    box->object = NULL;
}

bind_box *bind_box_new(lua_State *L, bind_state *b, const char *kind) {
    bind_box *box = bind_scratch(L, sizeof *box);
    luaL_setmetatable(L, kind);
    link_box(box, b->scope);
    return box;
}

static int box_gc(lua_State *L) {
    bind_box_free(lua_touserdata(L, 1));
    return 0;
}

static bind_box *box_at(lua_State *L, int idx) {
    bind_box *box = luaL_testudata(L, idx, BIND_TENSOR);
    return box ? box : luaL_testudata(L, idx, BIND_OBJECT);
}

weft_tensor *bind_tensor_try(lua_State *L, int idx) {
    bind_box *box = luaL_testudata(L, idx, BIND_TENSOR);
    if (box && !box->tensor)
        bind_error(L, WEFT_E_ARGUMENT, NULL,
                   "this tensor was freed by the end of its scope; scope:keep() lets one live on");
    return box ? box->tensor : NULL;
}

weft_object *bind_object_try(lua_State *L, int idx) {
    bind_box *box = luaL_testudata(L, idx, BIND_OBJECT);
    if (box && !box->object)
        bind_error(L, WEFT_E_ARGUMENT, NULL,
                   "this object was freed by the end of its scope; scope:keep() lets one live on");
    return box ? box->object : NULL;
}

weft_tensor *bind_tensor_at(lua_State *L, int idx, const char *who, const char *name) {
    weft_tensor *t = bind_tensor_try(L, idx);
    if (!t) bind_error(L, WEFT_E_ARGUMENT, name, "%s: %s: a tensor is wanted, not %s", who, name, bind_kind(L, idx));
    return t;
}

static int object_tostring(lua_State *L) {
    bind_box *box = lua_touserdata(L, 1);
    char text[512] = "";
    if (!box->object) {
        lua_pushliteral(L, "object (freed)");
        return 1;
    }
    const weft_class *class = box->object->class;
    if (class->describe) lua_pushfstring(L, "%s: %s", class->type, class->describe(box->object, text, sizeof text));
    else lua_pushstring(L, class->type);
    return 1;
}

static int object_index(lua_State *L) {
    bind_box *box = lua_touserdata(L, 1);
    const char *name = lua_tostring(L, 2);
    if (name && box->object && !strcmp(name, "type")) lua_pushstring(L, box->object->class->type);
    else if (!name || !box->object || strcmp(name, "value") || !bind_push_object_value(L, box->object)) lua_pushnil(L);
    return 1;
}

/* ---- scopes ------------------------------------------------------------------------------------------------------ */

static void end_scope(bind_state *b, bind_scope *s) {
    while (s->open && b->scope) {
        bind_scope *inner = b->scope;
        while (inner->boxes) bind_box_free(inner->boxes);
        inner->open = false;
        b->scope = inner->outer;
    }
}

static int scope_end(lua_State *L) {
    end_scope(bind_of(L), luaL_checkudata(L, 1, SCOPE));
    return 0;
}

/* A scope that nobody closed and nobody can close any more: what it holds goes to the one outside. */
static int scope_gc(lua_State *L) {
    bind_state *b = bind_of(L);
    bind_scope *s = lua_touserdata(L, 1), **at = &b->scope;
    if (!s->open) return 0;
    while (*at != s) at = &(*at)->outer;
    *at = s->outer;
    while (s->boxes) link_box(s->boxes, s->outer);
    s->open = false;
    return 0;
}

static int scope_keep(lua_State *L) {
    bind_scope *s = luaL_checkudata(L, 1, SCOPE);
    for (int i = 2; i <= lua_gettop(L); i++) {
        bind_box *box = box_at(L, i);
        if (!box || (!box->tensor && !box->object))
            return bind_error(L, WEFT_E_ARGUMENT, NULL, "keep: a tensor or an object is wanted, not %s",
                              bind_kind(L, i));
        link_box(box, s->open ? s->outer : NULL);
    }
    return lua_gettop(L) - 1;
}

static int scope_new(lua_State *L) {
    bind_state *b = bind_open(L);
    bind_scope *s = bind_scratch(L, sizeof *s);
    luaL_setmetatable(L, SCOPE);
    s->outer = b->scope;
    s->open = true;
    b->scope = s;
    return 1;
}

void bind_add_scope(lua_State *L) {
    static const luaL_Reg scope[] = {
        { "keep", scope_keep }, { "close", scope_end }, { "__close", scope_end }, { "__gc", scope_gc }, { NULL, NULL }
    };
    static const luaL_Reg tensor[] = { { "__gc", box_gc }, { "__close", box_gc }, { NULL, NULL } };
    static const luaL_Reg object[] = { { "__gc", box_gc },
                                       { "__close", box_gc },
                                       { "__tostring", object_tostring },
                                       { "__index", object_index },
                                       { NULL, NULL } };
    luaL_newmetatable(L, SCOPE);
    luaL_setfuncs(L, scope, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_newmetatable(L, BIND_TENSOR);      /* bind_tensor.c and bind_operations.c add to it */
    luaL_setfuncs(L, tensor, 0);
    luaL_newmetatable(L, BIND_OBJECT);
    luaL_setfuncs(L, object, 0);
    lua_pop(L, 3);
    lua_pushcfunction(L, scope_new);
    lua_setfield(L, -2, "scope");
}
