# The Lua library (lua/lib/NAME.lua) as a part of the binding: the assembler reads the files, so that no program is needed to turn them into C.
file(GLOB library_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/lua/lib/*.lua)
set(library_parts "")
set(library_rows "")
foreach(file ${library_files})
  get_filename_component(name ${file} NAME_WE)
  string(APPEND library_parts "PART(${name}, \"${file}\")\n")
  string(APPEND library_rows "    { \"${name}\", library_${name}_first, library_${name}_end },\n")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/lua_library.c @ONLY CONTENT [[
/* Made by lua/library.cmake. */
#include "lua/bind.h"

#define PART(name, file) \
    __asm__(".pushsection .rodata\nlibrary_" #name "_first:\n.incbin \"" file "\"\nlibrary_" #name "_end:\n.byte 0\n.popsection\n"); \
    extern const char library_##name##_first[], library_##name##_end[];
@library_parts@
const bind_source bind_sources[] = {
@library_rows@    { NULL, NULL, NULL },
};
]])
set_source_files_properties(${CMAKE_BINARY_DIR}/lua_library.c PROPERTIES OBJECT_DEPENDS "${library_files}")
