/* The binding where memory runs out: each allocation of a script in turn is refused, Lua's and the runtime's.
 * Whatever then happens is an error, nothing is lost, and the same state goes on working. */
#include <lualib.h>
#include "lua/bind.h"
#include "tests/failing_malloc.h"
#include "tests/test.h"

/* Lua's allocations from `refuse_at` on, counted; each is asked for twice, the second time after a collection. −1:
 * none is refused. */
static long asked, refuse_at = -1;
static bool lua_refused;

static void *allocate(void *user, void *p, size_t before, size_t bytes) {
    (void)user;
    (void)before;
    if (!bytes) {
        free(p);
        return NULL;
    }
    if (refuse_at >= 0 && (!p || bytes > before) && (asked++ == refuse_at || asked == refuse_at + 2)) {
        lua_refused = true;
        return NULL;
    }
    return realloc(p, bytes);
}

/* A bit of everything; errors that it catches are its own. */
static const char script[] =
    "local weft = require 'weft'\n"
    "local t = weft.tensor{{1, 2}, {3, 4}}\n"
    "local u = (t + 1):reshape(4):tolist()\n"
    "local s = tostring(t) .. t.shape[1] .. #t\n"
    "do local s <close> = weft.scope() local v = s:keep(t * t) end\n"
    "local noise = weft.randn({3}, {seed = 1})\n"
    "local image = weft.node.EmptyImage{width = 4, height = 4}\n"
    "local text = weft.node.PrimitiveString{value = 'abc'}\n"
    "local latent = weft.node.EmptyLatentImage{width = 64, height = 64}\n"
    "pcall(weft.node.EmptyImage, {widht = 4})\n"
    "local name = 'Twice' .. count\n"
    "weft.register{name = name, inputs = {{name = 'image', type = 'IMAGE'}, {name = 'how', type = 'COMBO', choices = "
    "{'a', 'b'}}},\n"
    "              outputs = {{name = 'IMAGE', type = 'IMAGE'}, {name = 'it', type = 'THING'}},\n"
    "              run = function(i) return i.image * 2, {i.how} end}\n"
    "local g = weft.graph.new()\n"
    "local a = g:add('EmptyImage', {width = 4, height = 4, color = 255})\n"
    "local b = g:add(name, {image = {a, 'IMAGE'}})\n"
    "local r = g:run{targets = b, event = function() end}\n"
    "local out = r:output(b)\n"
    "local thing = r:output(b, 'it')\n"
    "local copy = weft.graph.parse(g:json(true))\n"
    "local faults = g:check()\n"
    "local x = weft.sandbox('return {n + 1}', {n = 1})\n"
    "weft.progress(function() end)\n"
    "weft.configure{memory = '1G', input = 'i', models = {'a', 'b'}}\n"
    "return weft.memory().live, weft.describe('KSampler'), weft.nodes()\n";

static int prepare(lua_State *L) {
    luaL_openlibs(L);
    luaL_requiref(L, "weft", bind_module, 1);
    return luaL_dostring(L, "weft.configure{threads = 1} weft.node.PrimitiveInt{value = 1}") ? lua_error(L) : 0;
}

/* Runs the script, in a fresh state, while something is refused (or nothing); afterwards the state must still work.
 * Whether it came to its end. */
static bool attempt(long number, long *countdown_of_malloc) {
    lua_State *L = lua_newstate(allocate, NULL);
    lua_pushcfunction(L, prepare);
    if (lua_pcall(L, 0, 0, 0)) {
        TEST_FAIL("preparing: %s", lua_tostring(L, -1));
        return false;
    }
    lua_pushinteger(L, number);
    lua_setglobal(L, "count");
    asked = 0;
    lua_refused = false;
    if (countdown_of_malloc) *countdown_of_malloc = number;
    else refuse_at = number;
    bool whole = !luaL_dostring(L, script);
    refuse_at = -1;
    if (countdown_of_malloc) *countdown_of_malloc = -1;
    if (!whole) {
        const char *message = luaL_tolstring(L, -1, NULL);
        bool told = lua_istable(L, -2) && lua_getfield(L, -2, "status") == LUA_TSTRING &&
                    !strcmp(lua_tostring(L, -1), "memory");
        bool stack = strstr(message, "stack overflow");         /* what Lua calls a stack that it cannot enlarge */
        if (!told && !stack && !strstr(message, "memory")) TEST_FAIL("allocation %ld: %s", number, message);
    }
    lua_settop(L, 0);
    if (luaL_dostring(L, "collectgarbage() weft.progress() return weft.node.PrimitiveInt{value = 3}, weft.tensor{1, "
                         "2}:sum():item()"))
        TEST_FAIL("allocation %ld: nothing works behind it: %s", number, luaL_tolstring(L, -1, NULL));
    else if (lua_tointeger(L, -2) != 3 || lua_tonumber(L, -1) != 3)
        TEST_FAIL("allocation %ld: wrong results behind it", number);
    lua_close(L);
    return whole;
}

TEST(lua_has_no_memory) {
    bool whole = false;
    for (long n = 0; n < 100000 && (n == 0 || lua_refused) && !test_failures; n++) whole = attempt(n, NULL);
    CHECK(whole && !lua_refused);
}

#ifdef FAILING_MALLOC
TEST(the_runtime_has_no_memory) {
    bool whole = false;
    attempt(0, NULL);
    attempt(1 << 30, &countdown);           /* what stays for good is there now */
    long before = live;
    refused = true;
    for (long n = 0; n < 100000 && refused && !test_failures; n++) {
        refused = false;
        whole = attempt(n, &countdown);
        if (live != before) TEST_FAIL("allocation %ld: %ld blocks are lost", n, live - before);
    }
    CHECK(whole && !refused);
}
#endif

TEST_MAIN
