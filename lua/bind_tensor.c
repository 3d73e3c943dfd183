/* Tensors from Lua's numbers and back: weft.tensor(), t:item(), t:tolist(), tostring(t), t[i], #t, t.shape;
 * generators of random numbers. Arithmetic is in bind_operations.c. */
#include <math.h>
#include <string.h>
#include "lua/bind.h"
#include "runtime/nearest.h"

#define GENERATOR "weft.generator"
enum { SHOWN = 8 };     /* values that tostring() shows */

static bool is_whole(weft_dtype type) { return type == WEFT_I64 || type == WEFT_I32 || type == WEFT_U8; }

/* ---- arguments --------------------------------------------------------------------------------------------------- */

int bind_shape_at(lua_State *L, int idx, const char *who, const char *name, int64_t *out) {
    size_t n = lua_rawlen(L, idx);
    if (n > WEFT_MAX_RANK)
        bind_error(L, WEFT_E_SHAPE, name, "%s: %s has %d numbers; %d are possible", who, name, (int)n, WEFT_MAX_RANK);
    for (size_t i = 0; i < n; i++) {
        int whole;
        lua_rawgeti(L, idx, (lua_Integer)i + 1);
        out[i] = lua_tointegerx(L, -1, &whole);
        if (!whole)
            bind_error(L, WEFT_E_ARGUMENT, name, "%s: %s: whole numbers are wanted, not %s", who, name,
                       bind_kind(L, -1));
        lua_pop(L, 1);
    }
    return (int)n;
}

weft_dtype bind_dtype_at(lua_State *L, int idx, const char *who, const char *name) {
    const char *given = lua_type(L, idx) == LUA_TSTRING ? lua_tostring(L, idx) : NULL;
    for (int i = 0; given && i < WEFT_DTYPE_COUNT; i++)
        if (!strcmp(weft_dtype_name(i), given)) return i;
    bind_error(L, WEFT_E_TYPE, name, "%s: %s: f32, f16, bf16, f64, i64, i32 or u8 is wanted, not %s", who, name,
               bind_kind(L, idx));
    return 0;
}

void bind_push_shape(lua_State *L, const weft_tensor *t) {
    lua_createtable(L, weft_rank(t), 0);
    for (int i = 0; i < weft_rank(t); i++) {
        lua_pushinteger(L, weft_dim(t, i));
        lua_rawseti(L, -2, i + 1);
    }
}

uint64_t bind_seed_at(lua_State *L, int idx, const char *who, const char *name) {
    int whole = 0;
    uint64_t v = 0;
    if (lua_type(L, idx) == LUA_TNUMBER) v = (uint64_t)lua_tointegerx(L, idx, &whole);
    else if (lua_type(L, idx) == LUA_TSTRING) {
        const char *s = lua_tostring(L, idx);
        whole = *s != 0;
        for (; *s && whole; s++) {
            unsigned digit = (unsigned)*s - '0';
            whole = digit < 10 && !__builtin_mul_overflow(v, 10u, &v) && !__builtin_add_overflow(v, digit, &v);
        }
    }
    if (!whole)
        bind_error(L, WEFT_E_ARGUMENT, name, "%s: %s: a whole number of 64 bits is wanted, not %s", who, name,
                   bind_kind(L, idx));
    return v;
}

/* ---- from Lua ---------------------------------------------------------------------------------------------------- */

/* A tensor to be: numbers in dense order, as f64 or i64. */
struct numbers {
    const void *values;
    weft_dtype from, to;
    int rank;
    int64_t shape[WEFT_MAX_RANK];
};

static weft_tensor *make(bind_state *b, const void *arguments) {
    const struct numbers *n = arguments;
    weft_ctx *c = b->session.c;
    return weft_cast(c, weft_tensor_from(c, n->from, n->rank, n->shape, n->values), n->to);
}

static void read_number(lua_State *L, const struct numbers *n, void *values, int64_t i) {
    int whole = 1;
    if (lua_type(L, -1) != LUA_TNUMBER)
        bind_error(L, WEFT_E_ARGUMENT, NULL, "tensor: value %I: a number is wanted, not %s", (LUAI_UACINT)(i + 1),
                   bind_kind(L, -1));
    if (n->from == WEFT_F64) ((double *)values)[i] = lua_tonumber(L, -1);
    else ((int64_t *)values)[i] = lua_tointegerx(L, -1, &whole);
    int64_t v = is_whole(n->to) ? ((int64_t *)values)[i] : 0;
    if (whole && ((n->to == WEFT_U8 && (v < 0 || v > 255)) || (n->to == WEFT_I32 && (v < INT32_MIN || v > INT32_MAX))))
        whole = 0;
    if (!whole)
        bind_error(L, WEFT_E_ARGUMENT, NULL, "tensor: value %I: %s does not fit %s", (LUAI_UACINT)(i + 1),
                   bind_kind(L, -1), weft_dtype_name(n->to));
}

/* Reads the table on top of the stack, whose place in the nesting is `depth`; *next: the values so far. */
static void read_nested(lua_State *L, const struct numbers *n, void *values, int depth, int64_t *next) {
    if (!lua_istable(L, -1) || (int64_t)lua_rawlen(L, -1) != n->shape[depth])
        bind_error(L, WEFT_E_SHAPE, NULL, "tensor: the tables are uneven: behind %I values a list of %I is wanted",
                   (LUAI_UACINT)*next, (LUAI_UACINT)n->shape[depth]);
    for (int64_t i = 0; i < n->shape[depth]; i++) {
        lua_rawgeti(L, -1, i + 1);
        if (depth + 1 < n->rank) read_nested(L, n, values, depth + 1, next);
        else read_number(L, n, values, (*next)++);
        lua_pop(L, 1);
    }
}

/* The sizes of a nested table, by its first elements. */
static void nested_shape(lua_State *L, struct numbers *n) {
    int top = lua_gettop(L);
    lua_pushvalue(L, 1);
    for (n->rank = 0; lua_istable(L, -1); n->rank++) {
        if (n->rank == WEFT_MAX_RANK)
            bind_error(L, WEFT_E_SHAPE, NULL, "tensor: more than %d dimensions", WEFT_MAX_RANK);
        n->shape[n->rank] = (int64_t)lua_rawlen(L, -1);
        lua_rawgeti(L, -1, 1);
    }
    lua_settop(L, top);
}

/* weft.tensor(numbers[, {shape=, dtype=}]): numbers is a number, a list, or lists in lists. */
static int tensor_new(lua_State *L) {
    struct numbers n = { .to = WEFT_F32 };
    int64_t given[WEFT_MAX_RANK], count, next = 0;
    int given_rank = -1;
    bind_state *b = bind_open(L);
    lua_settop(L, 2);
    if (lua_istable(L, 2)) {
        if (lua_getfield(L, 2, "dtype") != LUA_TNIL) n.to = bind_dtype_at(L, -1, "tensor", "dtype");
        if (lua_getfield(L, 2, "shape") == LUA_TTABLE)
            given_rank = bind_shape_at(L, lua_gettop(L), "tensor", "shape", given);
        lua_settop(L, 2);
    } else if (!lua_isnil(L, 2))
        bind_error(L, WEFT_E_ARGUMENT, NULL, "tensor: the second argument is a table {shape=, dtype=}, not %s",
                   bind_kind(L, 2));
    nested_shape(L, &n);
    if (!n.rank && lua_type(L, 1) != LUA_TNUMBER)
        bind_error(L, WEFT_E_ARGUMENT, NULL, "tensor: numbers are wanted, not %s", bind_kind(L, 1));
    n.from = is_whole(n.to) ? WEFT_I64 : WEFT_F64;
    count = 1;
    for (int i = 0; i < n.rank; i++)
        if (__builtin_mul_overflow(count, n.shape[i], &count) || count > (int64_t)1 << 40)
            bind_error(L, WEFT_E_SHAPE, NULL, "tensor: too many values");
    void *values = bind_scratch(L, (size_t)count * 8);
    n.values = values;
    lua_pushvalue(L, 1);
    if (n.rank) read_nested(L, &n, values, 0, &next);
    else read_number(L, &n, values, 0);
    if (given_rank >= 0) {
        int64_t wanted = 1;
        for (int i = 0; i < given_rank; i++)
            if (given[i] < 0 || __builtin_mul_overflow(wanted, given[i], &wanted)) wanted = -1, given_rank = i;
        if (wanted != count)
            bind_error(L, WEFT_E_SHAPE, "shape", "tensor: %I values do not fill the shape", (LUAI_UACINT)count);
        n.rank = given_rank;
        memcpy(n.shape, given, sizeof given);
    }
    return bind_result(L, b, make, &n);
}

/* ---- to Lua ------------------------------------------------------------------------------------------------------ */

/* The first `count` values in dense order, as f64 or i64, in scratch on the stack. */
static void *read_values(lua_State *L, bind_state *b, weft_tensor *t, int64_t count) {
    weft_ctx *c = b->session.c;
    weft_dtype as = is_whole(weft_type(t)) ? WEFT_I64 : WEFT_F64;
    void *values = bind_scratch(L, (size_t)count * 8);
    do {
        weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
        weft_tensor *flat = count < weft_count(t) ? weft_slice(c, weft_reshape(c, t, WEFT_SHAPE(-1)), 0, 0, count) : t;
        if (weft_read(c, weft_cast(c, flat, as), values, (size_t)count * 8)) { /* thrown below */ }
        weft_scope_end(c, s, NULL);
    } while (!weft_ok(c) && bind_retry(L, b));
    if (!weft_ok(c)) bind_throw(L, b);
    return values;
}

static void push_value(lua_State *L, weft_dtype type, const void *values, int64_t i) {
    if (is_whole(type)) lua_pushinteger(L, ((const int64_t *)values)[i]);
    else lua_pushnumber(L, ((const double *)values)[i]);
}

static int tensor_item(lua_State *L) {
    weft_tensor *t = bind_tensor_at(L, 1, "item", "tensor");
    if (weft_count(t) != 1)
        return bind_error(L, WEFT_E_SHAPE, NULL, "item: a tensor with one value is wanted; this one has %I",
                          (LUAI_UACINT)weft_count(t));
    push_value(L, weft_type(t), read_values(L, bind_open(L), t, 1), 0);
    return 1;
}

static void push_nested(lua_State *L, const weft_tensor *t, const void *values, int dim, int64_t *next) {
    luaL_checkstack(L, 4, "tolist");
    lua_createtable(L, weft_dim(t, dim) < INT32_MAX ? (int)weft_dim(t, dim) : 0, 0);
    for (int64_t i = 0; i < weft_dim(t, dim); i++) {
        if (dim + 1 < weft_rank(t)) push_nested(L, t, values, dim + 1, next);
        else push_value(L, weft_type(t), values, (*next)++);
        lua_rawseti(L, -2, i + 1);
    }
}

static int tensor_tolist(lua_State *L) {
    weft_tensor *t = bind_tensor_at(L, 1, "tolist", "tensor");
    if (!weft_rank(t)) return tensor_item(L);
    int64_t next = 0;
    push_nested(L, t, read_values(L, bind_open(L), t, weft_count(t)), 0, &next);
    return 1;
}

static int tensor_tostring(lua_State *L) {
    bind_box *box = lua_touserdata(L, 1);
    char text[96];
    if (!box->tensor) {
        lua_pushliteral(L, "tensor (freed)");
        return 1;
    }
    weft_tensor *t = box->tensor;
    int64_t n = weft_count(t) < SHOWN ? weft_count(t) : SHOWN;
    const void *values = read_values(L, bind_open(L), t, n);
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    luaL_addstring(&buffer, "tensor ");
    luaL_addstring(&buffer, weft_describe(t, text, sizeof text));
    for (int64_t i = 0; i < n; i++) {
        if (is_whole(weft_type(t)))
            snprintf(text, sizeof text, "%s%lld", i ? ", " : ": ", (long long)((const int64_t *)values)[i]);
        else snprintf(text, sizeof text, "%s%.6g", i ? ", " : ": ", ((const double *)values)[i]);
        luaL_addstring(&buffer, text);
    }
    if (n < weft_count(t)) luaL_addstring(&buffer, ", …");
    luaL_pushresult(&buffer);
    return 1;
}

/* ---- fields and elements ----------------------------------------------------------------------------------------- */

struct element { weft_tensor *t; int64_t i; };

/* The i-th along the first dimension, without that dimension. */
static weft_tensor *element(bind_state *b, const void *arguments) {
    const struct element *e = arguments;
    weft_ctx *c = b->session.c;
    return weft_reshape(c, weft_slice(c, e->t, 0, e->i, 1), weft_rank(e->t) - 1, weft_shape(e->t) + 1);
}

static int tensor_at(lua_State *L, weft_tensor *t) {
    struct element e = { t, lua_tointeger(L, 2) - 1 };
    if (!weft_rank(t) || e.i < 0 || e.i >= weft_dim(t, 0)) {
        lua_pushnil(L);         /* as a list: ipairs() ends there */
        return 1;
    }
    bind_result(L, bind_open(L), element, &e);
    if (weft_rank(t) > 1) return 1;
    lua_replace(L, 1);
    int got = tensor_item(L);
    bind_box_free(lua_touserdata(L, 1));
    return got;
}

/* Upvalue 1: the methods. */
static int tensor_index(lua_State *L) {
    weft_tensor *t = bind_tensor_at(L, 1, "index", "tensor");
    if (lua_isinteger(L, 2)) return tensor_at(L, t);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (lua_pushvalue(L, 2), lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    if (!strcmp(name, "shape")) bind_push_shape(L, t);
    else if (!strcmp(name, "dtype")) lua_pushstring(L, weft_dtype_name(weft_type(t)));
    else if (!strcmp(name, "rank")) lua_pushinteger(L, weft_rank(t));
    else if (!strcmp(name, "count")) lua_pushinteger(L, weft_count(t));
    else {
        weft_nearest near = { .name = name };
        for (lua_pushnil(L); lua_next(L, lua_upvalueindex(1)); lua_pop(L, 1))
            if (lua_type(L, -2) == LUA_TSTRING) weft_nearest_try(&near, lua_tostring(L, -2));
        return bind_error(L, WEFT_E_ARGUMENT, NULL, "a tensor has no %s%s", luaL_tolstring(L, 2, NULL),
                          bind_near(L, near.best));
    }
    return 1;
}

static int tensor_len(lua_State *L) {
    lua_pushinteger(L, weft_dim(bind_tensor_at(L, 1, "length", "tensor"), 0));
    return 1;
}

/* ---- generators -------------------------------------------------------------------------------------------------- */

weft_rng *bind_rng_try(lua_State *L, int idx) {
    weft_rng **r = luaL_testudata(L, idx, GENERATOR);
    return r ? *r : NULL;
}

static weft_rng *rng_at(lua_State *L, const char *who) {
    weft_rng *r = bind_rng_try(L, 1);
    if (!r) bind_error(L, WEFT_E_ARGUMENT, NULL, "%s: a generator is wanted, not %s", who, bind_kind(L, 1));
    return r;
}

/* weft.generator([seed[, "cpu" or "cuda"]]) */
static int generator_new(lua_State *L) {
    static const char *const kinds[] = { "cpu", "cuda" };
    bind_state *b = bind_open(L);
    uint64_t seed = lua_isnoneornil(L, 1) ? 0 : bind_seed_at(L, 1, "generator", "seed");
    const char *kind = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : kinds[0];
    weft_rng_kind which = !strcmp(kind, kinds[1]) ? WEFT_RNG_CUDA : WEFT_RNG_CPU;
    if (strcmp(kind, kinds[which]))
        return bind_error(L, WEFT_E_ARGUMENT, "kind", "generator: \"cpu\" or \"cuda\" is wanted, not \"%s\"", kind);
    weft_rng **r = bind_scratch(L, sizeof *r);
    luaL_setmetatable(L, GENERATOR);
    *r = weft_rng_new(b->session.c, which, seed);
    return *r ? 1 : bind_throw(L, b);
}

static int generator_gc(lua_State *L) {
    weft_rng **r = lua_touserdata(L, 1);
    weft_rng_free(*r);
    *r = NULL;
    return 0;
}

static int generator_seed(lua_State *L) {
    weft_rng_seed(rng_at(L, "seed"), bind_seed_at(L, 2, "seed", "seed"));
    return 0;
}

/* The state as a string, and back: a run that goes on where it stopped. */
static int generator_state(lua_State *L) {
    weft_rng *r = rng_at(L, "state");
    size_t size = 0;
    weft_rng_save(r, NULL, &size);
    void *bytes = bind_scratch(L, size);
    if (!weft_rng_save(r, bytes, &size)) return bind_error(L, WEFT_E_INTERNAL, NULL, "state: it cannot be saved");
    lua_pushlstring(L, bytes, size);
    return 1;
}

static int generator_restore(lua_State *L) {
    size_t size = 0;
    weft_rng *r = rng_at(L, "restore");
    const char *bytes = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &size) : NULL;
    if (!bytes || !weft_rng_load(r, bytes, size))
        return bind_error(L, WEFT_E_FORMAT, NULL, "restore: this is no state of such a generator");
    return 0;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

void bind_add_tensor(lua_State *L) {
    static const luaL_Reg functions[] = { { "tensor", tensor_new }, { "generator", generator_new }, { NULL, NULL } };
    static const luaL_Reg methods[] = { { "item", tensor_item }, { "tolist", tensor_tolist }, { NULL, NULL } };
    static const luaL_Reg generator[] = { { "seed", generator_seed },
                                          { "state", generator_state },
                                          { "restore", generator_restore },
                                          { "__gc", generator_gc },
                                          { NULL, NULL } };
    luaL_setfuncs(L, functions, 0);
    luaL_newmetatable(L, GENERATOR);
    luaL_setfuncs(L, generator, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_newmetatable(L, BIND_TENSOR);
    lua_pushcfunction(L, tensor_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, tensor_len);
    lua_setfield(L, -2, "__len");
    luaL_newlib(L, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods");         /* for bind_operations.c */
    lua_pushcclosure(L, tensor_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 2);
}
