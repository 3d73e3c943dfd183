/* Data sets and the cache of tensors.
 *
 *     local data <close> = weft.dataset{folder = "pictures", size = 64, batch = 16, shuffle = true, seed = 1, caption_dropout = 0.1}
 *     for batch in data:epoch() do … batch.images, batch.captions … end       -- or data:next(), without end
 *
 *     local cache = weft.tensor_cache("cache")
 *     local key = data:key(i, "sd15 vae")                                     -- of sample i's picture, how it is cut, and the text
 *     local latent = cache:get(key, "latent")                                 -- nil where it is not there; then cache:put(key, {latent = …})
 *
 * Samples, epochs and places count from 1.
 */
#include <stdlib.h>
#include <string.h>
#include "lua/bind.h"
#include "nodes/data/cache.h"
#include "nodes/data/dataset.h"

#define DATASET "weft.dataset"
#define CACHE "weft.tensor_cache"
static const char who[] = "dataset";

typedef struct data_box { weft_dataset *d; } data_box;

/* ---- options ---------------------------------------------------------------------------------------------------------------------------------------------- */

static const char *const names[] = { "folder", "repeats", "images", "captions", "size", "resize", "center_crop", "random_flip", "brightness", "contrast",
                                     "saturation", "channels", "unit", "buckets", "caption_dropout", "shuffle_tags", "keep_tags", "template", "batch",
                                     "shuffle", "drop_last", "seed", "threads", "depth", "strict", NULL };

static int small(int64_t v) { return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int)v; }

/* A side, or {width, height}, on top of the stack. */
static weft_bucket size_at(lua_State *L, const char *key) {
    int64_t v[WEFT_MAX_RANK] = { 0 };
    int whole, n = lua_istable(L, -1) ? bind_shape_at(L, lua_gettop(L), who, key, v) : 0;
    if (!lua_istable(L, -1)) {
        v[0] = v[1] = lua_tointegerx(L, -1, &whole);
        n = whole ? 2 : 0;
    }
    if (n != 2) bind_error(L, WEFT_E_ARGUMENT, key, "%s: %s: a whole number or {width, height} is wanted, not %s", who, key, bind_kind(L, -1));
    return (weft_bucket){ v[0], v[1] };
}

/* buckets = {base =, step =, least =, most =}, or a list of sizes. The list's memory stays on the stack. */
static void read_buckets(lua_State *L, weft_dataset_options *o) {
    static const char *const fields[] = { "base", "step", "least", "most", NULL };
    if (lua_getfield(L, 1, "buckets") == LUA_TNIL) return;
    if (!lua_istable(L, -1)) bind_error(L, WEFT_E_ARGUMENT, "buckets", "%s: buckets: {base = , step = } or a list of {width, height} is wanted, not %s", who, bind_kind(L, -1));
    int idx = lua_gettop(L), n = (int)lua_rawlen(L, idx);
    weft_bucket *list = bind_scratch(L, (size_t)(n + 1) * sizeof *list);
    for (int i = 0; i < n; i++, lua_pop(L, 1)) {
        lua_rawgeti(L, idx, i + 1);
        list[i] = size_at(L, "buckets");
    }
    o->buckets = list;
    o->bucket_count = n;
    if (n) return;
    bind_only(L, idx, "dataset: buckets", fields);
    o->bucket_base = bind_whole(L, idx, who, "base", o->width);
    o->bucket_step = bind_whole(L, idx, who, "step", o->bucket_step);
    o->bucket_least = bind_whole(L, idx, who, "least", 0);
    o->bucket_most = bind_whole(L, idx, who, "most", 0);
    if (!o->bucket_base) bind_error(L, WEFT_E_ARGUMENT, "base", "%s: buckets have no base", who);
}

/* A text or a list of texts in this field: how many, to *list, in memory that stays on the stack. */
static int read_texts(lua_State *L, const char *key, const char *const **list) {
    int type = lua_getfield(L, 1, key), idx = lua_gettop(L), n = type == LUA_TTABLE ? (int)lua_rawlen(L, idx) : type != LUA_TNIL;
    const char **texts = bind_scratch(L, (size_t)(n + 1) * sizeof *texts);
    for (int i = 0; i < n; i++, lua_pop(L, 1)) {
        if (type == LUA_TTABLE) lua_rawgeti(L, idx, i + 1);
        else lua_pushvalue(L, idx);
        if (lua_type(L, -1) != LUA_TSTRING) bind_error(L, WEFT_E_ARGUMENT, key, "%s: %s: text %d: a text is wanted, not %s", who, key, i + 1, bind_kind(L, -1));
        texts[i] = lua_tostring(L, -1);
    }
    *list = texts;
    return n;
}

static void read_source(lua_State *L, weft_dataset_options *o) {
    o->folder = bind_text(L, 1, who, "folder", NULL);
    o->repeats = bind_flag(L, 1, "repeats", false);
    if (lua_getfield(L, 1, "images") != LUA_TNIL) o->images = bind_tensor_at(L, -1, who, "images");
    int n = read_texts(L, "captions", &o->captions);
    if (!n) o->captions = NULL;
    else if (o->folder) bind_error(L, WEFT_E_ARGUMENT, "captions", "%s: captions go with images; a folder has its own", who);
    else if (n != weft_dim(o->images, 0)) bind_error(L, WEFT_E_ARGUMENT, "captions", "%s: %d captions for %d images", who, n, small(weft_dim(o->images, 0)));
}

static void read_picture(lua_State *L, weft_dataset_options *o) {
    static const char *const modes[] = { "bilinear", "bicubic", "lanczos" };
    if (lua_getfield(L, 1, "size") != LUA_TNIL) {
        weft_bucket size = size_at(L, "size");
        o->width = size.width;
        o->height = size.height;
    }
    lua_pop(L, 1);
    const char *mode = bind_text(L, 1, who, "resize", "lanczos");
    int i = 0;
    while (i < 3 && strcmp(modes[i], mode)) i++;
    if (i == 3) bind_error(L, WEFT_E_ARGUMENT, "resize", "%s: resize: bilinear, bicubic or lanczos is wanted, not \"%s\"", who, mode);
    o->resize = WEFT_PIL_BILINEAR + i;
    o->random_crop = !bind_flag(L, 1, "center_crop", true);
    lua_getfield(L, 1, "random_flip");
    o->flip = lua_isboolean(L, -1) ? 0.5 * lua_toboolean(L, -1) : bind_number(L, 1, who, "random_flip", 0);
    lua_pop(L, 1);
    o->brightness = bind_number(L, 1, who, "brightness", 0);
    o->contrast = bind_number(L, 1, who, "contrast", 0);
    o->saturation = bind_number(L, 1, who, "saturation", 0);
    o->channels = small(bind_whole(L, 1, who, "channels", o->channels));
    o->unit = bind_flag(L, 1, "unit", false);
}

/* The options in the table at 1. What they point to stays on the stack. */
static weft_dataset_options options_at(lua_State *L) {
    weft_dataset_options o = weft_dataset_defaults();
    if (!lua_istable(L, 1)) bind_error(L, WEFT_E_ARGUMENT, NULL, "dataset: a table of options is wanted, not %s", bind_kind(L, 1));
    bind_only(L, 1, who, names);
    read_source(L, &o);
    read_picture(L, &o);
    read_buckets(L, &o);
    o.caption_dropout = bind_number(L, 1, who, "caption_dropout", 0);
    o.shuffle_tags = bind_flag(L, 1, "shuffle_tags", false);
    o.keep_tags = bind_whole(L, 1, who, "keep_tags", 0);
    o.template_count = read_texts(L, "template", &o.templates);
    o.batch = bind_whole(L, 1, who, "batch", o.batch);
    o.shuffle = bind_flag(L, 1, "shuffle", false);
    o.drop_last = bind_flag(L, 1, "drop_last", false);
    if (lua_getfield(L, 1, "seed") != LUA_TNIL) o.seed = bind_seed_at(L, -1, who, "seed");
    o.threads = small(bind_whole(L, 1, who, "threads", o.threads));
    o.depth = small(bind_whole(L, 1, who, "depth", o.depth));
    o.strict = bind_flag(L, 1, "strict", false);
    return o;
}

/* ---- the data set ----------------------------------------------------------------------------------------------------------------------------------------- */

static weft_dataset *dataset_at(lua_State *L) {
    data_box *box = luaL_checkudata(L, 1, DATASET);
    if (!box->d) bind_error(L, WEFT_E_ARGUMENT, NULL, "this data set is closed");
    return box->d;
}

static int dataset_new(lua_State *L) {
    bind_state *b = bind_open(L);
    lua_settop(L, 1);
    luaL_checkstack(L, 64, who);
    weft_dataset_options o = options_at(L);
    data_box *box = bind_scratch(L, sizeof *box);
    luaL_setmetatable(L, DATASET);
    lua_State *outer = bind_enter(b, L);
    box->d = weft_dataset_open(b->session.c, &o);
    bind_leave(b, outer);
    return box->d ? 1 : bind_throw(L, b);
}

static int dataset_close(lua_State *L) {
    data_box *box = luaL_checkudata(L, 1, DATASET);
    weft_dataset_close(box->d);
    box->d = NULL;
    return 0;
}

static void set_whole(lua_State *L, const char *key, int64_t v) {
    lua_pushinteger(L, v);
    lua_setfield(L, -2, key);
}

static void push_batch(lua_State *L, const weft_data_batch *batch, int images) {
    lua_createtable(L, 0, 10);
    lua_pushvalue(L, images);
    lua_setfield(L, -2, "images");
    lua_createtable(L, (int)batch->count, 0);
    lua_createtable(L, (int)batch->count, 0);
    for (int64_t i = 0; i < batch->count; i++) {
        lua_pushstring(L, batch->captions[i]);
        lua_rawseti(L, -3, i + 1);
        lua_pushinteger(L, batch->indices[i] + 1);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -3, "indices");
    lua_setfield(L, -2, "captions");
    set_whole(L, "size", batch->count);
    set_whole(L, "width", batch->width);
    set_whole(L, "height", batch->height);
    set_whole(L, "epoch", batch->epoch + 1);
    set_whole(L, "position", batch->position + 1);
    lua_pushboolean(L, batch->last);
    lua_setfield(L, -2, "last");
}

/* data:next() → {images =, captions =, indices =, size =, width =, height =, epoch =, position =, last =} */
static int dataset_next(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_ctx *c = b->session.c;
    weft_dataset *d = dataset_at(L);
    weft_data_batch batch;
    bind_box *box = bind_box_new(L, b, BIND_TENSOR);
    int images = lua_gettop(L);
    lua_State *outer = bind_enter(b, L);
    do {
        weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
        if (!weft_dataset_next(c, d, &batch)) box->tensor = weft_ref(batch.images);
        weft_scope_end(c, s, NULL);
    } while (!weft_ok(c) && bind_retry(L, b));
    bind_leave(b, outer);
    if (!weft_ok(c)) return bind_throw(L, b);
    bind_weigh(L, b);
    push_batch(L, &batch, images);
    return 1;
}

/* Upvalues: the data set, and whether its epoch has ended. */
static int epoch_next(lua_State *L) {
    if (lua_toboolean(L, lua_upvalueindex(2))) return 0;
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    dataset_next(L);
    lua_getfield(L, -1, "last");
    lua_replace(L, lua_upvalueindex(2));
    return 1;
}

/* for batch in data:epoch() do: what is left of the epoch */
static int dataset_epoch(lua_State *L) {
    dataset_at(L);
    lua_settop(L, 1);
    lua_pushboolean(L, 0);
    lua_pushcclosure(L, epoch_next, 2);
    return 1;
}

/* data:state() → whole numbers: where the next batch is */
static int dataset_state(lua_State *L) {
    weft_data_state s = weft_dataset_state(dataset_at(L));
    lua_createtable(L, 0, 4);
    set_whole(L, "seed", (int64_t)s.seed);
    set_whole(L, "signature", (int64_t)s.signature);
    set_whole(L, "epoch", s.epoch + 1);
    set_whole(L, "position", s.position + 1);
    return 1;
}

static int dataset_restore(lua_State *L) {
    static const char *const fields[] = { "seed", "signature", "epoch", "position" };
    bind_state *b = bind_open(L);
    weft_dataset *d = dataset_at(L);
    int64_t v[4];
    luaL_checktype(L, 2, LUA_TTABLE);
    for (int i = 0; i < 4; i++) {
        if (lua_getfield(L, 2, fields[i]) == LUA_TNIL) return bind_error(L, WEFT_E_ARGUMENT, fields[i], "restore: the state has no %s", fields[i]);
        v[i] = bind_whole(L, 2, "restore", fields[i], 0);
    }
    weft_data_state s = { (uint64_t)v[0], (uint64_t)v[1], v[2] < 1 ? -1 : v[2] - 1, v[3] < 1 ? -1 : v[3] - 1 };
    return weft_dataset_restore(b->session.c, d, &s) ? bind_throw(L, b) : 0;
}

static int dataset_stats(lua_State *L) {
    weft_data_stats s = weft_dataset_stats(dataset_at(L));
    lua_createtable(L, 0, 8);
    set_whole(L, "batches", s.batches);
    set_whole(L, "stalls", s.stalls);
    set_whole(L, "left_out", s.left_out);
    set_whole(L, "ready", s.ready);
    set_whole(L, "depth", s.depth);
    lua_pushnumber(L, s.waited);
    lua_setfield(L, -2, "waited");
    lua_pushnumber(L, s.busy);
    lua_setfield(L, -2, "busy");
    return 1;
}

/* The sample that argument 2 names, from 0. */
static int64_t sample_at(lua_State *L, const weft_dataset *d, const char *function) {
    int whole;
    lua_Integer i = lua_tointegerx(L, 2, &whole);
    if (!whole || i < 1 || i > weft_dataset_length(d))
        bind_error(L, WEFT_E_ARGUMENT, "sample", "%s: a sample from 1 to %I is wanted, not %s", function, (LUAI_UACINT)weft_dataset_length(d), bind_kind(L, 2));
    return i - 1;
}

static int dataset_caption(lua_State *L) {
    weft_dataset *d = dataset_at(L);
    lua_pushstring(L, weft_dataset_caption(d, sample_at(L, d, "caption")));
    return 1;
}

static int dataset_file(lua_State *L) {
    weft_dataset *d = dataset_at(L);
    lua_pushstring(L, weft_dataset_file(d, sample_at(L, d, "file")));
    return 1;
}

/* data:key(i[, text …]) → a text for the cache */
static int dataset_key(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_dataset *d = dataset_at(L);
    weft_hash key = { 0, 0 };
    char hex[33];
    int64_t sample = sample_at(L, d, "key");
    for (int i = 3, n = lua_gettop(L); i <= n; i++) weft_hash_text(&key, luaL_checkstring(L, i));
    if (weft_dataset_sign(b->session.c, d, sample, &key)) return bind_throw(L, b);
    lua_pushstring(L, weft_hash_hex(key, hex));
    return 1;
}

static int dataset_len(lua_State *L) {
    lua_pushinteger(L, weft_dataset_length(dataset_at(L)));
    return 1;
}

/* Upvalue 1: the methods. */
static int dataset_index(lua_State *L) {
    const char *name = luaL_checkstring(L, 2);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    if (!strcmp(name, "length")) lua_pushinteger(L, weft_dataset_length(dataset_at(L)));
    else if (!strcmp(name, "batches")) lua_pushinteger(L, weft_dataset_batches(dataset_at(L)));
    else return bind_error(L, WEFT_E_ARGUMENT, NULL, "a data set has no %s", name);
    return 1;
}

/* ---- the cache -------------------------------------------------------------------------------------------------------------------------------------------- */

typedef struct cache_box { weft_cache *k; } cache_box;

static weft_cache *cache_at(lua_State *L) {
    cache_box *box = luaL_checkudata(L, 1, CACHE);
    if (!box->k) bind_error(L, WEFT_E_ARGUMENT, NULL, "this cache is closed");
    return box->k;
}

static int cache_new(lua_State *L) {
    bind_state *b = bind_open(L);
    const char *folder = luaL_checkstring(L, 1);
    cache_box *box = bind_scratch(L, sizeof *box);
    luaL_setmetatable(L, CACHE);
    box->k = weft_cache_open(b->session.c, folder);
    return box->k ? 1 : bind_throw(L, b);
}

static int cache_close(lua_State *L) {
    cache_box *box = luaL_checkudata(L, 1, CACHE);
    weft_cache_close(box->k);
    box->k = NULL;
    return 0;
}

static weft_hash key_at(lua_State *L) {
    weft_hash key = { 0, 0 };
    size_t n;
    const char *text = luaL_checklstring(L, 2, &n);
    weft_hash_bytes(&key, text, n);
    return key;
}

/* cache:get(key, name, …) → a tensor for each name, or nil */
static int cache_get(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_ctx *c = b->session.c;
    weft_cache *k = cache_at(L);
    weft_hash key = key_at(L);
    int n = lua_gettop(L) - 2;
    luaL_checkstack(L, n + 4, "get");
    const char **wanted = bind_scratch(L, (size_t)(n + 1) * sizeof *wanted);
    bind_box **boxes = bind_scratch(L, (size_t)(n + 1) * sizeof *boxes);
    weft_tensor **t = bind_scratch(L, (size_t)(n + 1) * sizeof *t);
    for (int i = 0; i < n; i++) wanted[i] = luaL_checkstring(L, 3 + i);
    for (int i = 0; i < n; i++) boxes[i] = bind_box_new(L, b, BIND_TENSOR);
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    bool there = weft_cache_get(c, k, key, wanted, n, t);
    for (int i = 0; there && i < n; i++) boxes[i]->tensor = weft_ref(t[i]);
    weft_scope_end(c, s, NULL);
    if (!weft_ok(c)) return bind_throw(L, b);
    if (there) return n;
    lua_pushnil(L);
    return 1;
}

/* cache:put(key, {name = tensor}) */
static int cache_put(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_cache *k = cache_at(L);
    weft_hash key = key_at(L);
    int n = 0, i = 0;
    luaL_checktype(L, 3, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) n++;
    weft_st_item *items = bind_scratch(L, (size_t)(n + 1) * sizeof *items);
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1), i++) {
        if (lua_type(L, -2) != LUA_TSTRING) return bind_error(L, WEFT_E_ARGUMENT, NULL, "put: names are texts, not %s", bind_kind(L, -2));
        items[i].name = lua_tostring(L, -2);
        items[i].tensor = bind_tensor_at(L, -1, "put", items[i].name);
        items[i].type = weft_type(items[i].tensor);
    }
    return weft_cache_put(b->session.c, k, key, items, n) ? bind_throw(L, b) : 0;
}

static int cache_stats(lua_State *L) {
    weft_cache_stats s = weft_cache_stats_of(cache_at(L));
    lua_createtable(L, 0, 4);
    set_whole(L, "found", s.found);
    set_whole(L, "missing", s.missing);
    set_whole(L, "broken", s.broken);
    set_whole(L, "written", s.written);
    return 1;
}

/* ---- all of it ---------------------------------------------------------------------------------------------------------------------------------------------- */

void bind_add_data(lua_State *L) {
    static const luaL_Reg functions[] = { { "dataset", dataset_new }, { "tensor_cache", cache_new }, { NULL, NULL } };
    static const luaL_Reg meta[] = { { "__gc", dataset_close }, { "__close", dataset_close }, { "__len", dataset_len }, { NULL, NULL } };
    static const luaL_Reg methods[] = { { "next", dataset_next }, { "epoch", dataset_epoch }, { "state", dataset_state }, { "restore", dataset_restore },
                                        { "stats", dataset_stats }, { "caption", dataset_caption }, { "file", dataset_file }, { "key", dataset_key },
                                        { "close", dataset_close }, { NULL, NULL } };
    static const luaL_Reg cache[] = { { "get", cache_get }, { "put", cache_put }, { "stats", cache_stats }, { "close", cache_close }, { "__gc", cache_close },
                                      { "__close", cache_close }, { NULL, NULL } };
    luaL_setfuncs(L, functions, 0);
    luaL_newmetatable(L, DATASET);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_pushcclosure(L, dataset_index, 1);
    lua_setfield(L, -2, "__index");
    luaL_newmetatable(L, CACHE);
    luaL_setfuncs(L, cache, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 2);
}
