/* What a training run writes: logs, pictures of them, checkpoints; for lua/lib/trainer.lua and loops of one's own.
 *
 *     local log = weft.csv_log("run/log.csv", {"step", "loss", "lr"}, 0)      log:row(1, {0.5, 1e-4})
 *     local events = weft.event_log("run", 0)                                 events:scalar("loss", 1, 0.5)
 *     weft.curve("run/log.csv", "loss", "run/loss.png")
 *     weft.save_image(weft.grid(pictures, 4), "samples.png")
 *     weft.snapshot.save("run", 100, 3, function(folder) opt:save(folder .. "/optimizer.safetensors") end)
 *     local path, step, ignored = weft.snapshot.latest("run")
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lua/bind.h"
#include "nodes/train/csv_log.h"
#include "nodes/train/curve.h"
#include "nodes/train/event_log.h"
#include "nodes/train/snapshot.h"

#define CSV_LOG "weft.csv_log"
#define EVENT_LOG "weft.event_log"
#define SNAPSHOT "weft.snapshot"
enum { COLUMNS = 64 };

/* ---- CSV ----------------------------------------------------------------------------------------------------------
 * */

typedef struct csv { weft_csv_log *log; int columns; } csv;

/* weft.csv_log(path, columns[, after_step]) */
static int csv_new(lua_State *L) {
    bind_state *b = bind_open(L);
    const char *path = luaL_checkstring(L, 1), *columns[COLUMNS];
    luaL_checktype(L, 2, LUA_TTABLE);
    const int64_t after = luaL_optinteger(L, 3, 0);
    const int n = (int)lua_rawlen(L, 2);
    lua_settop(L, 2);
    if (n < 2 || n > COLUMNS) return bind_error(L, WEFT_E_ARGUMENT, "columns", "csv_log: 2 to %d columns are possible",
                                                COLUMNS);
    luaL_checkstack(L, n + 8, "columns");
    for (int i = 0; i < n; i++) {
        if (lua_rawgeti(L, 2, i + 1) != LUA_TSTRING || strpbrk(lua_tostring(L, -1), ",\n\r"))
            return bind_error(L, WEFT_E_ARGUMENT, "columns",
                              "csv_log: a column's name is a text without commas and lines");
        columns[i] = lua_tostring(L, -1);
    }
    csv *l = bind_scratch(L, sizeof *l);
    luaL_setmetatable(L, CSV_LOG);
    l->columns = n;
    l->log = weft_csv_log_open(b->session.c, path, n, columns, after);
    return l->log ? 1 : bind_throw(L, b);
}

static int csv_close(lua_State *L) {
    csv *l = luaL_checkudata(L, 1, CSV_LOG);
    weft_csv_log_close(l->log);
    l->log = NULL;
    return 0;
}

/* log:row(step, {value, …}); what is nothing is left empty. */
static int csv_row(lua_State *L) {
    csv *l = luaL_checkudata(L, 1, CSV_LOG);
    double values[COLUMNS];
    const lua_Integer step = luaL_checkinteger(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    if (!l->log) return bind_error(L, WEFT_E_ARGUMENT, NULL, "this log is closed");
    for (int i = 0; i + 1 < l->columns; i++) {
        lua_rawgeti(L, 3, i + 1);
        values[i] = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : NAN;
        lua_pop(L, 1);
    }
    return weft_csv_log_row(l->log, step, values) ? bind_throw(L, bind_of(L)) : 0;
}

/* ---- events -------------------------------------------------------------------------------------------------------
 * */

/* weft.event_log(folder[, after_step]) */
static int events_new(lua_State *L) {
    bind_state *b = bind_open(L);
    const char *folder = luaL_checkstring(L, 1);
    const int64_t after = luaL_optinteger(L, 2, 0);
    weft_event_log **l = bind_scratch(L, sizeof *l);
    luaL_setmetatable(L, EVENT_LOG);
    *l = weft_event_log_open(b->session.c, folder, after);
    return *l ? 1 : bind_throw(L, b);
}

static int events_close(lua_State *L) {
    weft_event_log **l = luaL_checkudata(L, 1, EVENT_LOG);
    weft_event_log_close(*l);
    *l = NULL;
    return 0;
}

static weft_event_log *events_at(lua_State *L) {
    weft_event_log **l = luaL_checkudata(L, 1, EVENT_LOG);
    if (!*l) bind_error(L, WEFT_E_ARGUMENT, NULL, "this log is closed");
    return *l;
}

static int events_scalar(lua_State *L) {
    weft_event_log *l = events_at(L);
    const char *tag = luaL_checkstring(L, 2);
    const lua_Integer step = luaL_checkinteger(L, 3);
    return weft_event_log_scalar(l, tag, step, luaL_checknumber(L, 4)) ? bind_throw(L, bind_of(L)) : 0;
}

/* events:image(tag, step, pixels): (H, W, C) u8, as weft.grid() gives it */
static int events_image(lua_State *L) {
    weft_event_log *l = events_at(L);
    const char *tag = luaL_checkstring(L, 2);
    const lua_Integer step = luaL_checkinteger(L, 3);
    weft_tensor *pixels = bind_tensor_at(L, 4, "image", "pixels");
    return weft_event_log_image(l, tag, step, pixels) ? bind_throw(L, bind_of(L)) : 0;
}

static int events_path(lua_State *L) {
    lua_pushstring(L, weft_event_log_path(events_at(L)));
    return 1;
}

/* ---- pictures -----------------------------------------------------------------------------------------------------
 * */

/* weft.curve(csv, column, png) */
static int curve(lua_State *L) {
    bind_state *b = bind_open(L);
    const char *csv_path = luaL_checkstring(L, 1), *column = luaL_checkstring(L, 2), *png = luaL_checkstring(L, 3);
    return weft_curve_save(b->session.c, csv_path, column, png) ? bind_throw(L, b) : 0;
}

struct grid { weft_tensor *pictures; int64_t columns, padding; double value; };

static weft_tensor *make_grid(bind_state *b, const void *arguments) {
    const struct grid *g = arguments;
    return weft_grid(b->session.c, g->pictures, g->columns, g->padding, g->value);
}

/* weft.grid(pictures[, columns[, padding[, value]]]) → (H, W, 3 or 4) u8 */
static int grid(lua_State *L) {
    struct grid g = { bind_tensor_at(L, 1, "grid", "pictures"), luaL_optinteger(L, 2, 8), luaL_optinteger(L, 3, 2),
                      luaL_optnumber(L, 4, 0) };
    return bind_result(L, bind_open(L), make_grid, &g);
}

/* ---- checkpoints --------------------------------------------------------------------------------------------------
 * */

static int snapshot_gc(lua_State *L) {
    weft_snapshot_discard(lua_touserdata(L, 1));
    return 0;
}

/* weft.snapshot.save(folder, step, keep, fill): fill(path) puts files into the checkpoint; → the checkpoint's path */
static int snapshot_save(lua_State *L) {
    bind_state *b = bind_open(L);
    const char *folder = luaL_checkstring(L, 1);
    const lua_Integer step = luaL_checkinteger(L, 2), keep = luaL_checkinteger(L, 3);
    luaL_checktype(L, 4, LUA_TFUNCTION);
    if (keep < 0 || keep > 1000000) return bind_error(L, WEFT_E_ARGUMENT, "keep", "save: 0 (all) or more are kept");
    weft_snapshot *s = bind_scratch(L, sizeof *s);
    luaL_setmetatable(L, SNAPSHOT);
    if (!weft_snapshot_begin(b->session.c, s, folder, step)) return bind_throw(L, b);
    lua_pushvalue(L, 4);
    lua_pushstring(L, s->out.temporary);
    lua_call(L, 1, 0);          /* where it throws, the half of a checkpoint goes with s */
    if (weft_snapshot_commit(b->session.c, s, (int)keep)) return bind_throw(L, b);
    lua_pushstring(L, s->path);
    weft_snapshot_discard(s);
    return 1;
}

struct heard { bool full; size_t size; char text[8192]; };

static void hear(void *user, const char *message) {
    struct heard *h = user;
    const int n = snprintf(h->text + h->size, sizeof h->text - h->size, "%s\n", message);
    h->full = h->full || n >= (int)(sizeof h->text - h->size);
    if (!h->full) h->size += (size_t)n;
}

static int push_path(lua_State *L, bind_state *b, const char *folder, int64_t step) {
    bind_held *path = bind_hold(L, (void (*)(void *))weft_text_free);
    path->p = weft_snapshot_path(b->session.c, folder, step);
    if (!path->p) return bind_throw(L, b);
    lua_pushstring(L, path->p);
    return 1;
}

/* weft.snapshot.latest(folder) → path, step, messages about newer ones that are not whole; path and step nothing: there
 * is none */
static int snapshot_latest(lua_State *L) {
    bind_state *b = bind_open(L);
    const char *folder = luaL_checkstring(L, 1);
    struct heard *h = bind_scratch(L, sizeof *h);
    const int64_t step = weft_snapshot_latest(b->session.c, folder, hear, h);
    if (!weft_ok(b->session.c)) return bind_throw(L, b);
    if (step < 0) lua_pushnil(L), lua_pushnil(L);
    else push_path(L, b, folder, step), lua_pushinteger(L, step);
    lua_pushlstring(L, h->text, h->size);
    return 3;
}

/* weft.snapshot.check(folder, step) → its path; an error says what is wrong with it */
static int snapshot_check(lua_State *L) {
    bind_state *b = bind_open(L);
    const char *folder = luaL_checkstring(L, 1);
    int64_t found;
    push_path(L, b, folder, luaL_checkinteger(L, 2));
    return weft_snapshot_check(b->session.c, lua_tostring(L, -1), &found) ? 1 : bind_throw(L, b);
}

/* weft.snapshot.set_aside(folder, step): what came after the step → how many */
static int snapshot_set_aside(lua_State *L) {
    bind_state *b = bind_open(L);
    const int n = weft_snapshot_set_aside(b->session.c, luaL_checkstring(L, 1), luaL_checkinteger(L, 2));
    if (n < 0) return bind_throw(L, b);
    lua_pushinteger(L, n);
    return 1;
}

static int snapshot_tidy(lua_State *L) {
    weft_snapshot_tidy(luaL_checkstring(L, 1));
    return 0;
}

/* ---- around a run -------------------------------------------------------------------------------------------------
 * */

/* weft.make_folder(path): with those above it; one that is there is left as it is */
static int make_folder(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    char *copy = strcpy(bind_scratch(L, strlen(path) + 2), path);
    struct stat s;
    for (char *p = copy + (*copy == '/'); *copy; p++) {
        const char kept = *p;
        if (kept && kept != '/') continue;
        *p = 0;
        if (mkdir(copy, 0777) && errno != EEXIST)
            return bind_error(L, WEFT_E_FILE, "path", "make_folder: %s: %s", copy, strerror(errno));
        *p = kept;
        if (!kept) break;
    }
    if (!stat(path, &s) && S_ISDIR(s.st_mode)) return 0;
    return bind_error(L, WEFT_E_FILE, "path", "make_folder: %s is no folder", path);
}

/* weft.write_file(path, bytes): whole or not at all */
static int write_file(lua_State *L) {
    bind_state *b = bind_open(L);
    size_t size;
    const char *path = luaL_checkstring(L, 1), *bytes = luaL_checklstring(L, 2, &size);
    return weft_file_save(b->session.c, path, bytes, size) ? 0 : bind_throw(L, b);
}

/* weft.random_state() → the default generator's state, or nothing where nobody has drawn from it;
 * weft.random_state(state) */
static int random_state(lua_State *L) {
    bind_state *b = bind_open(L);
    size_t size = 0;
    if (lua_isnoneornil(L, 1)) {
        if (!b->rng) return 0;
        weft_rng_save(b->rng, NULL, &size);
        void *bytes = bind_scratch(L, size);
        if (!weft_rng_save(b->rng, bytes, &size)) return bind_error(L, WEFT_E_INTERNAL, NULL,
                                                                    "random_state: it cannot be saved");
        lua_pushlstring(L, bytes, size);
        return 1;
    }
    const char *state = luaL_checklstring(L, 1, &size);
    if (!b->rng && !(b->rng = weft_rng_new(b->session.c, WEFT_RNG_CPU, b->seed))) return bind_throw(L, b);
    if (!weft_rng_load(b->rng, state, size)) return bind_error(L, WEFT_E_FORMAT, NULL,
                                                               "random_state: this is no state of a generator");
    return 0;
}

/* weft.interrupts(mode): what Ctrl-C does from now on in the weft program. "stop": it ends the script (as ever);
 * "cancel": what the runtime does now fails, and the script goes on; "note": nothing. → whether there was one; the
 * script is then to end itself, and the program's exit status is 130 in any case. A second Ctrl-C ends the program. */
static int interrupts(lua_State *L) {
    static const char *const modes[] = { "stop", "cancel", "note", NULL };
    bind_state *b = bind_open(L);
    b->interrupts = luaL_checkoption(L, 1, "stop", modes);
    if (b->interrupted) weft_clear(b->session.c);       /* lowers the flag of cancelling */
    lua_pushboolean(L, b->interrupted);
    return 1;
}

void bind_add_logs(lua_State *L) {
    static const luaL_Reg functions[] = {
        { "csv_log", csv_new }, { "event_log", events_new }, { "curve", curve }, { "grid", grid }, { "make_folder",
                make_folder }, { "write_file", write_file },
        { "random_state", random_state }, { "interrupts", interrupts }, { NULL, NULL } };
    static const luaL_Reg csvs[] = { { "row", csv_row }, { "close", csv_close }, { "__close", csv_close }, { "__gc",
            csv_close },
                                     { NULL, NULL } };
    static const luaL_Reg events[] = { { "scalar", events_scalar }, { "image", events_image }, { "path", events_path },
                                       { "close", events_close }, { "__close", events_close }, { "__gc", events_close },
                                       { NULL, NULL } };
    static const luaL_Reg snapshots[] = { { "save", snapshot_save }, { "latest", snapshot_latest }, { "check",
            snapshot_check },
                                          { "set_aside", snapshot_set_aside }, { "tidy", snapshot_tidy }, { NULL,
                                                  NULL } };
    bind_add_class(L, CSV_LOG, csvs);
    bind_add_class(L, EVENT_LOG, events);
    luaL_newmetatable(L, SNAPSHOT);
    lua_pushcfunction(L, snapshot_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
    luaL_newlib(L, snapshots);
    lua_setfield(L, -2, "snapshot");
}
