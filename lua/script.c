/* `weft SCRIPT.lua …`: runs a Lua program, as `lua SCRIPT.lua …` does, with require "weft" built in. An error prints
 * one line (with --traceback also where it came from) and gives exit status 1; Ctrl-C gives 130. */
#include <lualib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "lua/bind.h"
#include "lua/commands.h"

static lua_State *running;
static bind_state *state;
static volatile sig_atomic_t stopped;

static void stop_hook(lua_State *L, lua_Debug *ar) {
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    bind_error(L, WEFT_E_CANCELLED, NULL, "interrupted");
}

/* Stops both: what the runtime does, between two operations, and Lua, before its next instruction, unless
 * weft.interrupts() wants it otherwise. A script that catches all errors catches this one too; a second Ctrl-C ends the
 * program. */
static void on_interrupt(int signal_number) {
    stopped = 1;
    signal(signal_number, SIG_DFL);
    const int how = state ? state->interrupts : BIND_STOP;
    if (state) state->interrupted = 1;
    if (how != BIND_NOTE && state && state->session.c) weft_cancel(state->session.c);
    if (how == BIND_STOP) lua_sethook(running, stop_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static int on_error(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    if (lua_toboolean(L, lua_upvalueindex(1))) luaL_traceback(L, L, lua_tostring(L, -1), 1);
    return 1;
}

/* The table `arg`, and the arguments on the stack; at: the script's place in argv. */
static int push_arguments(lua_State *L, int argc, char **argv, int at) {
    lua_createtable(L, argc, argc);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - at);
    }
    lua_setglobal(L, "arg");
    luaL_checkstack(L, argc + 8, "arguments");
    for (int i = at + 1; i < argc; i++) lua_pushstring(L, argv[i]);
    return argc - at - 1;
}

struct command_line { int argc; char **argv; int at; const char *code; bool traceback; };

static int run(lua_State *L) {
    const struct command_line *k = lua_touserdata(L, 1);
    luaL_openlibs(L);
    luaL_requiref(L, "weft", bind_module, k->code != NULL);
    state = bind_of(L);
    state->program = true;
    lua_settop(L, 0);
    lua_pushboolean(L, k->traceback);
    lua_pushcclosure(L, on_error, 1);
    const char *file = !k->code && strcmp(k->argv[k->at], "-") ? k->argv[k->at] : NULL;
    int failed = k->code ? luaL_loadbuffer(L, k->code, strlen(k->code), "=(command line)") : luaL_loadfile(L, file);
    if (!failed) failed = lua_pcall(L, push_arguments(L, k->argc, k->argv, k->at), 0, 1);
    session_end_bar();
    if (failed && !stopped) fprintf(stderr, "weft: %s\n", luaL_tolstring(L, -1, NULL));
    lua_pushboolean(L, !failed);
    return 1;
}

static bool is_script(const char *name) {
    size_t n = strlen(name);
    return !strcmp(name, "-") || (n > 4 && !strcmp(name + n - 4, ".lua"));
}

int run_script(int argc, char **argv) {
    struct command_line k = { .argc = argc, .argv = argv, .at = 1 };
    if (k.at < argc && !strcmp(argv[k.at], "--traceback")) k.traceback = true, k.at++;
    if (k.at < argc && !strcmp(argv[k.at], "-e")) k.code = argv[++k.at];
    else if (k.at >= argc || !is_script(argv[k.at])) return -1;
    if (k.at >= argc) {
        fputs("weft: -e takes Lua code\n", stderr);
        return 1;
    }
    lua_State *L = running = luaL_newstate();
    bool whole = false;
    if (L) {
        signal(SIGINT, on_interrupt);
        lua_pushcfunction(L, run);
        lua_pushlightuserdata(L, &k);
        if (lua_pcall(L, 1, 1, 0)) fprintf(stderr, "weft: %s\n", lua_tostring(L, -1));
        else whole = lua_toboolean(L, -1);
        signal(SIGINT, SIG_DFL);
        lua_close(L);
    } else fputs("weft: out of memory\n", stderr);
    if (stopped) fputs("interrupted\n", stderr);
    return stopped ? 130 : whole ? 0 : 1;
}
