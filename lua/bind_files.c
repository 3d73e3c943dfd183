/* Files as tensors: weft.load_image(), weft.save_image(), weft.load_tensors(), weft.save_tensors(). Paths are the
 * script's own, not names in a folder. */
#include <stdlib.h>
#include <string.h>
#include "lua/bind.h"
#include "nodes/image/picture.h"
#include "runtime/safetensors.h"

static const char *path_at(lua_State *L, int idx, const char *who) {
    if (lua_type(L, idx) != LUA_TSTRING)
        bind_error(L, WEFT_E_ARGUMENT, "path", "%s: path: a text is wanted, not %s", who, bind_kind(L, idx));
    if (strlen(lua_tostring(L, idx)) != lua_rawlen(L, idx))
        bind_error(L, WEFT_E_ARGUMENT, "path", "%s: path: it has a zero byte", who);
    return lua_tostring(L, idx);
}

/* ---- pictures ---------------------------------------------------------------------------------------------------- */

/* weft.load_image(path) → picture (1, H, W, 3) in [0, 1], mask (1, H, W) */
static int load_image(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_ctx *c = b->session.c;
    const char *path = path_at(L, 1, "load_image");
    bind_box *image = bind_box_new(L, b, BIND_TENSOR), *mask = bind_box_new(L, b, BIND_TENSOR);
    do {
        weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
        weft_tensor *x = NULL, *m = NULL;
        if (weft_image_load(c, path, &x, &m)) {
            image->tensor = weft_ref(x);
            mask->tensor = weft_ref(m);
        }
        weft_scope_end(c, s, NULL);
    } while (!weft_ok(c) && bind_retry(L, b));
    bind_weigh(L, b);
    return weft_ok(c) ? 2 : bind_throw(L, b);
}

/* weft.save_image(picture, path[, {graph = g}]): (H, W, C) or (1, H, W, C) with 3 or 4 channels, in [0, 1]; the file
 * then carries the graph. */
static int save_image(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_ctx *c = b->session.c;
    weft_tensor *t = bind_tensor_at(L, 1, "save_image", "picture");
    const char *path = path_at(L, 2, "save_image"), *texts[5] = { NULL };
    int rank = weft_rank(t), n = 0;
    lua_settop(L, 3);
    if (rank != 3 && !(rank == 4 && weft_dim(t, 0) == 1))
        return bind_error(L, WEFT_E_SHAPE, "picture",
                          "save_image: one picture (1, H, W, 3) is saved at a time; t[i] is one of a batch");
    if (lua_istable(L, 3) && lua_getfield(L, 3, "graph") != LUA_TNIL) {
        const weft_graph *g = bind_graph_try(L, -1);
        if (!g)
            return bind_error(L, WEFT_E_ARGUMENT, "graph", "save_image: graph: a graph is wanted, not %s",
                              bind_kind(L, -1));
        bind_held *json = bind_hold(L, free);
        if (!(json->p = weft_graph_json(g, false)))
            return bind_error(L, WEFT_E_MEMORY, NULL, "save_image: no memory for the graph's text");
        texts[n++] = "prompt";
        texts[n++] = json->p;
        if (weft_graph_workflow(g)) {
            texts[n++] = "workflow";
            texts[n++] = weft_graph_workflow(g);
        }
    }
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_status status = weft_image_save(c, path, rank == 3 ? t : weft_reshape(c, t, 3, weft_shape(t) + 1), texts);
    weft_scope_end(c, s, NULL);
    return status ? bind_throw(L, b) : 0;
}

/* ---- safetensors ------------------------------------------------------------------------------------------------- */

static void close_file(void *f) { weft_st_close(f); }

/* weft.load_tensors(path) → {name = tensor}, {key = text}. The tensors are views on the mapped file. */
static int load_tensors(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_ctx *c = b->session.c;
    const char *path = path_at(L, 1, "load_tensors"), *key, *value;
    bind_held *file = bind_hold(L, close_file);
    weft_safetensors *f = file->p = weft_st_open(c, path);
    if (!f) return bind_throw(L, b);
    lua_newtable(L);
    for (int64_t i = 0; i < weft_st_count(f); i++) {
        const weft_st_entry *e = weft_st_at(f, i);
        bind_box *box = bind_box_new(L, b, BIND_TENSOR);
        weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
        box->tensor = weft_ref(weft_st_tensor(c, f, e));
        weft_scope_end(c, s, NULL);
        if (!weft_ok(c)) return bind_throw(L, b);
        lua_setfield(L, -2, e->name);
    }
    lua_newtable(L);
    for (int64_t i = 0; weft_st_metadata_at(f, i, &key, &value); i++) {
        lua_pushstring(L, value);
        lua_setfield(L, -2, key);
    }
    weft_st_close(f);           /* each tensor holds the file */
    file->p = NULL;
    return 2;
}

static int by_key(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* weft.save_tensors(path, {name = tensor}[, {key = text}]) */
static int save_tensors(lua_State *L) {
    bind_state *b = bind_open(L);
    const char *path = path_at(L, 1, "save_tensors");
    int64_t n = 0, texts = 0, i = 0;
    lua_settop(L, 3);
    if (!lua_istable(L, 2))
        return bind_error(L, WEFT_E_ARGUMENT, "tensors", "save_tensors: a table {name = tensor} is wanted, not %s",
                          bind_kind(L, 2));
    if (!lua_isnil(L, 3) && !lua_istable(L, 3))
        return bind_error(L, WEFT_E_ARGUMENT, "metadata", "save_tensors: metadata: a table is wanted, not %s",
                          bind_kind(L, 3));
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) n++;
    for (lua_pushnil(L); lua_istable(L, 3) && lua_next(L, 3); lua_pop(L, 1)) texts++;
    weft_st_item *items = bind_scratch(L, (size_t)n * sizeof *items);
    const char **metadata = bind_scratch(L, (size_t)(2 * texts + 1) * sizeof *metadata);
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            return bind_error(L, WEFT_E_ARGUMENT, "tensors", "save_tensors: names are texts, not %s", bind_kind(L, -2));
        const char *name = lua_tostring(L, -2);
        weft_tensor *t = bind_tensor_at(L, -1, "save_tensors", name);
        items[i++] = (weft_st_item){ name, t, weft_type(t) };
    }
    i = 0;
    for (lua_pushnil(L); lua_istable(L, 3) && lua_next(L, 3); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            return bind_error(L, WEFT_E_ARGUMENT, "metadata", "save_tensors: metadata: names and values are texts");
        metadata[i++] = lua_tostring(L, -2);
        metadata[i++] = lua_tostring(L, -1);
    }
    qsort(metadata, (size_t)texts, 2 * sizeof *metadata, by_key);       /* Lua's order of keys is another each time */
    return weft_st_write(b->session.c, path, items, n, texts ? metadata : NULL) ? bind_throw(L, b) : 0;
}

void bind_add_files(lua_State *L) {
    static const luaL_Reg functions[] = { { "load_image", load_image },
                                          { "save_image", save_image },
                                          { "load_tensors", load_tensors },
                                          { "save_tensors", save_tensors },
                                          { NULL, NULL } };
    luaL_setfuncs(L, functions, 0);
}
