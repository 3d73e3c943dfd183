/* What there is once in a Lua state: weft.configure(), weft.progress(), weft.memory(), weft.clock(),
 * weft.terminal(). */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "lua/bind.h"
#include "runtime/nearest.h"

static const char anchor_key, progress_key;

/* ---- configure --------------------------------------------------------------------------------------------------- */

static const char *const settings[] = { "device", "dtype",  "threads", "memory", "precision", "models",
                                        "input",  "output", "temp",    "seed",   NULL };

static void check_names(lua_State *L) {
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        weft_nearest near = { .name = name };
        int i = 0;
        for (; settings[i] && strcmp(settings[i], name); i++) weft_nearest_try(&near, settings[i]);
        if (settings[i]) continue;
        name = luaL_tolstring(L, -2, NULL);
        bind_error(L, WEFT_E_ARGUMENT, NULL, "configure has no setting %s%s", name, bind_near(L, near.best));
    }
}

static const char *text_setting(lua_State *L, const char *name) {
    int type = lua_getfield(L, 1, name);
    if (type != LUA_TNIL && type != LUA_TSTRING)
        bind_error(L, WEFT_E_ARGUMENT, name, "configure: %s: a text is wanted, not %s", name, bind_kind(L, -1));
    return type == LUA_TNIL ? NULL : lua_tostring(L, -1);       /* the table keeps it */
}

static int threads_setting(lua_State *L, int otherwise) {
    int whole = 1;
    if (lua_getfield(L, 1, "threads") == LUA_TNIL) return otherwise;
    lua_Integer n = lua_tointegerx(L, -1, &whole);
    if (!whole || n < 0 || n > 1024)
        bind_error(L, WEFT_E_ARGUMENT, "threads",
                   "configure: threads: 1 to 1024, or 0 for one each core, is wanted, not %s", bind_kind(L, -1));
    return (int)n;
}

static size_t memory_setting(lua_State *L, size_t otherwise) {
    int type = lua_getfield(L, 1, "memory");
    size_t bytes = 0;
    if (type == LUA_TNIL) return otherwise;
    if (type == LUA_TNUMBER && lua_tonumber(L, -1) >= 0 && lua_tonumber(L, -1) < 0x1p62)
        return (size_t)lua_tonumber(L, -1);
    if (type != LUA_TSTRING || !cli_size(lua_tostring(L, -1), &bytes))
        bind_error(L, WEFT_E_ARGUMENT, "memory",
                   "configure: memory: bytes, or a text such as \"4G\", is wanted, not %s", bind_kind(L, -1));
    return bytes;
}

static int precision_setting(lua_State *L, int otherwise) {
    const char *given = text_setting(L, "precision");
    if (!given) return otherwise;
    for (int i = 0; session_precisions[i]; i++)
        if (!strcmp(session_precisions[i], given)) return i;
    return bind_error(L, WEFT_E_ARGUMENT, "precision", "configure: precision: fast or exact is wanted, not %s", given);
}

/* The folders with those of the table changed; `anchor` keeps what they point at. */
static weft_folders folders_setting(lua_State *L, weft_folders f, int anchor) {
    const char *const names[] = { "input", "output", "temp" };
    const char **const fields[] = { &f.input, &f.output, &f.temp };
    for (int i = 0; i < 3; i++) {
        const char *s = text_setting(L, names[i]);
        if (s) *fields[i] = s;
        if (s) lua_setfield(L, anchor, names[i]);
    }
    int type = lua_getfield(L, 1, "models"), at = lua_gettop(L);
    if (type == LUA_TNIL) return f;
    size_t n = type == LUA_TTABLE ? lua_rawlen(L, at) : 1;
    const char **models = bind_scratch(L, (n + 1) * sizeof *models);
    lua_newtable(L);            /* keeps the texts */
    for (size_t i = 0; i < n; i++) {
        if (type == LUA_TTABLE) lua_rawgeti(L, at, (lua_Integer)i + 1);
        else lua_pushvalue(L, at);
        if (lua_type(L, -1) != LUA_TSTRING)
            bind_error(L, WEFT_E_ARGUMENT, "models",
                       "configure: models: a folder or a list of folders is wanted, not %s", bind_kind(L, -1));
        models[i] = lua_tostring(L, -1);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, anchor, "model names");
    lua_setfield(L, anchor, "models");
    f.models = models;
    return f;
}

static const char *device_of(const bind_state *b) {
    const char *device = b->session.device ? b->session.device : getenv("WEFT_DEVICE");
    return device && *device ? device : "cpu";
}

/* A device is chosen once: tensors belong to it. */
static const char *device_setting(lua_State *L, const bind_state *b, int anchor) {
    const char *device = text_setting(L, "device");
    if (device && b->session.c && strcmp(device, device_of(b)))
        bind_error(L, WEFT_E_ARGUMENT, "device", "configure: device: it is in use; choose it before anything else");
    if (device) lua_setfield(L, anchor, "device");
    return device ? device : b->session.device;
}

static const char *dtype_setting(lua_State *L, const bind_state *b, int anchor) {
    const char *dtype = text_setting(L, "dtype");
    if (dtype && strcmp(dtype, "f32") && strcmp(dtype, "f16") && strcmp(dtype, "bf16"))
        bind_error(L, WEFT_E_ARGUMENT, "dtype", "configure: dtype: f32, f16 or bf16 is wanted, not %s", dtype);
    if (dtype) lua_setfield(L, anchor, "dtype");
    return dtype ? dtype : b->session.dtype;
}

/* A new table with what the settings so far point at. */
static int anchor_copy(lua_State *L) {
    lua_newtable(L);
    int anchor = lua_gettop(L);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &anchor_key) == LUA_TTABLE)
        for (lua_pushnil(L); lua_next(L, anchor + 1); lua_pop(L, 1)) {
            lua_pushvalue(L, -2);
            lua_pushvalue(L, -2);
            lua_settable(L, anchor);
        }
    lua_settop(L, anchor);
    return anchor;
}

/* weft.configure{…}: all settings are read before one takes effect. */
static int configure(lua_State *L) {
    bind_state *b = bind_of(L);
    session *s = &b->session;
    if (!lua_istable(L, 1))
        return bind_error(L, WEFT_E_ARGUMENT, NULL,
                          "configure: a table {threads=, memory=, models= …} is wanted, not %s", bind_kind(L, 1));
    luaL_checkstack(L, 40, "configure");
    if (b->sink) return bind_error(L, WEFT_E_ARGUMENT, NULL, "configure: a graph is running");
    check_names(L);
    int threads = threads_setting(L, s->threads), precision = precision_setting(L, s->precision);
    size_t memory = memory_setting(L, s->memory);
    bool seeded = lua_getfield(L, 1, "seed") != LUA_TNIL;
    uint64_t seed = seeded ? bind_seed_at(L, -1, "configure", "seed") : b->seed;
    int anchor = anchor_copy(L);
    const char *device = device_setting(L, b, anchor), *dtype = dtype_setting(L, b, anchor);
    weft_folders folders = folders_setting(L, s->folders, anchor);
    lua_pushvalue(L, anchor);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &anchor_key);
    /* What the runner keeps comes from the old folders, in the old precision; otherwise trained models may be in it. */
    if (memcmp(&folders, &s->folders, sizeof folders) || precision != s->precision) {
        weft_runner_free(b->runner);
        b->runner = NULL;
    }
    s->folders = folders;
    s->device = device;
    s->dtype = dtype;
    s->threads = threads;
    s->precision = precision;
    s->memory = memory;
    b->seed = seed;
    if (seeded && b->rng) weft_rng_seed(b->rng, seed);
    if (!s->c) return 0;
    weft_set_threads(s->c, threads);
    weft_set_precision(s->c, (weft_precision)precision);
    weft_set_compute_type(s->c, dtype);
    weft_set_memory_limit(s->c, memory);
    return weft_ok(s->c) ? 0 : bind_throw(L, b);
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

struct told { const char *what; int64_t done, total; bool go_on; };

static int tell(lua_State *L) {
    struct told *t = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &progress_key);
    lua_pushstring(L, t->what);
    lua_pushinteger(L, t->done);
    lua_pushinteger(L, t->total);
    lua_call(L, 3, 1);
    t->go_on = lua_isnil(L, -1) || lua_toboolean(L, -1);
    return 0;
}

static bool on_progress(void *user, const char *what, int64_t done, int64_t total) {
    bind_state *b = user;
    struct told t = { what, done, total, true };
    if (!b->L) return true;
    return bind_protected(b, tell, &t) && t.go_on;
}

/* weft.progress(function(what, done, total)), which may return false to stop the work; nil: nobody is told. */
static int progress(lua_State *L) {
    bind_state *b = bind_open(L);
    bool none = !lua_toboolean(L, 1);
    if (!none && !lua_isfunction(L, 1) && !luaL_getmetafield(L, 1, "__call"))
        return bind_error(L, WEFT_E_ARGUMENT, NULL, "progress: a function is wanted, not %s", bind_kind(L, 1));
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &progress_key);
    weft_set_progress(b->session.c, none ? NULL : on_progress, b);
    return 0;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static int memory(lua_State *L) {
    weft_ctx *c = bind_open(L)->session.c;
    const char *const names[] = { "live", "held", "peak", "limit" };
    const size_t values[] = { weft_memory_live(c), weft_memory_held(c), weft_memory_peak(c), weft_memory_limit(c) };
    lua_createtable(L, 0, 4);
    for (int i = 0; i < 4; i++) {
        lua_pushinteger(L, (lua_Integer)values[i]);
        lua_setfield(L, -2, names[i]);
    }
    return 1;
}

/* ---- for bars ---------------------------------------------------------------------------------------------------- */

/* Seconds since some moment, as a clock on the wall counts them. */
static int wall_clock(lua_State *L) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    lua_pushnumber(L, (double)t.tv_sec + 1e-9 * (double)t.tv_nsec);
    return 1;
}

static int terminal(lua_State *L) {
    lua_pushboolean(L, isatty(STDERR_FILENO));
    return 1;
}

void bind_add_session(lua_State *L) {
    static const luaL_Reg functions[] = { { "configure", configure }, { "progress", progress }, { "memory", memory },
                                          { "clock", wall_clock },    { "terminal", terminal }, { NULL, NULL } };
    luaL_setfuncs(L, functions, 0);
}
