/* weft.draw_shapes{ scene, … , width = 64, height = 64 } → (n, height, width, 3) u8: pictures of coloured shapes with soft edges.
 *
 *     scene = { background = {r, g, b}, to = {r, g, b}, angle = 0,         -- to: the other end of a gradient
 *               { kind = "circle", x = 20, y = 30, radius = 9, angle = 0, color = {1, 0, 0} }, … }
 *
 * Colours are in [0, 1], places and radii in pixels from the upper left corner, angles in radians. weft.shapes lists the kinds.
 */
#include <string.h>
#include "lua/bind.h"
#include "nodes/data/shapes.h"

static const char who[] = "draw_shapes";

static double number(lua_State *L, int idx, const char *key, const double *otherwise) {
    int ok = 1, type = lua_getfield(L, idx, key);
    double v = type == LUA_TNIL && otherwise ? *otherwise : lua_tonumberx(L, -1, &ok);
    if (!ok) bind_error(L, WEFT_E_ARGUMENT, key, "%s: %s: a number is wanted, not %s", who, key, bind_kind(L, -1));
    lua_pop(L, 1);
    return v;
}

static bool color(lua_State *L, int idx, const char *key, float *out) {
    int type = lua_getfield(L, idx, key), ok = type == LUA_TTABLE && lua_rawlen(L, -1) == 3;
    for (int i = 0; ok && i < 3; i++) {
        lua_rawgeti(L, -1, i + 1);
        out[i] = (float)lua_tonumberx(L, -1, &ok);
        lua_pop(L, 1);
    }
    if (type != LUA_TNIL && !ok) bind_error(L, WEFT_E_ARGUMENT, key, "%s: %s: three numbers are wanted", who, key);
    lua_pop(L, 1);
    return type != LUA_TNIL;
}

static weft_figure figure(lua_State *L, int idx) {
    static const double upright = 0;
    weft_figure f = { .kind = WEFT_FIGURE_COUNT };
    if (!lua_istable(L, idx)) bind_error(L, WEFT_E_ARGUMENT, NULL, "%s: a shape is a table, not %s", who, bind_kind(L, idx));
    lua_getfield(L, idx, "kind");
    const char *name = lua_tostring(L, -1);
    for (int k = 0; name && k < WEFT_FIGURE_COUNT; k++)
        if (!strcmp(weft_figure_name(k), name)) f.kind = k;
    if (f.kind == WEFT_FIGURE_COUNT) bind_error(L, WEFT_E_ARGUMENT, "kind", "%s: kind: one of weft.shapes is wanted, not %s", who, luaL_tolstring(L, -1, NULL));
    lua_pop(L, 1);
    f.x = number(L, idx, "x", NULL);
    f.y = number(L, idx, "y", NULL);
    f.radius = number(L, idx, "radius", NULL);
    f.angle = number(L, idx, "angle", &upright);
    if (!color(L, idx, "color", f.color)) bind_error(L, WEFT_E_ARGUMENT, "color", "%s: a shape has no color", who);
    return f;
}

/* The scene at the top of the stack; its figures lie in a scratch that the caller keeps on the stack. */
static weft_scene scene(lua_State *L, weft_figure *figures) {
    static const double right = 0;
    int idx = lua_gettop(L);
    weft_scene s = { .angle = number(L, idx, "angle", &right), .shapes = figures, .count = (int)lua_rawlen(L, idx) };
    if (!color(L, idx, "background", s.from)) bind_error(L, WEFT_E_ARGUMENT, "background", "%s: a scene has no background", who);
    memcpy(s.to, s.from, sizeof s.to);
    color(L, idx, "to", s.to);
    for (int i = 0; i < s.count; i++) {
        lua_rawgeti(L, idx, i + 1);
        figures[i] = figure(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    return s;
}

struct drawing { int64_t n, height, width; const weft_scene *scenes; };

static weft_tensor *draw(bind_state *b, const void *arguments) {
    const struct drawing *d = arguments;
    return weft_draw_shapes(b->session.c, d->n, d->scenes, d->height, d->width);
}

static int draw_shapes(lua_State *L) {
    static const double usual = 64;
    bind_state *b = bind_open(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct drawing d = { .n = (int64_t)lua_rawlen(L, 1), .height = (int64_t)number(L, 1, "height", &usual), .width = (int64_t)number(L, 1, "width", &usual) };
    size_t shapes = 0;
    for (int64_t i = 0; i < d.n; i++) {
        if (lua_rawgeti(L, 1, i + 1) != LUA_TTABLE) return bind_error(L, WEFT_E_ARGUMENT, NULL, "%s: a scene is a table, not %s", who, bind_kind(L, -1));
        shapes += lua_rawlen(L, -1);
        lua_pop(L, 1);
    }
    weft_scene *scenes = bind_scratch(L, (size_t)(d.n + 1) * sizeof *scenes);
    weft_figure *figures = bind_scratch(L, (shapes + 1) * sizeof *figures);
    for (int64_t i = 0; i < d.n; i++) {
        lua_rawgeti(L, 1, i + 1);
        scenes[i] = scene(L, figures);
        figures += scenes[i].count;
        lua_pop(L, 1);
    }
    d.scenes = scenes;
    return bind_result(L, b, draw, &d);
}

void bind_add_shapes(lua_State *L) {
    lua_pushcfunction(L, draw_shapes);
    lua_setfield(L, -2, "draw_shapes");
    lua_newtable(L);
    for (int k = 0; k < WEFT_FIGURE_COUNT; k++) {
        lua_pushstring(L, weft_figure_name(k));
        lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "shapes");
}
