/* weft.so: the binding as a module for any Lua 5.4. */
#include "lua/bind.h"

LUAMOD_API int luaopen_weft(lua_State *L);
LUAMOD_API int luaopen_weft(lua_State *L) { return bind_module(L); }
