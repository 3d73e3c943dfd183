/* Drawn shapes: their areas and middles against geometry, soft edges, backgrounds, bad numbers. */
#include "nodes/data/shapes.h"
#include "tests/test.h"

enum { SIDE = 64 };

/* White on black: how much is covered, and where its middle lies. */
struct seen { double area, x, y, soft; };
static struct seen look(weft_ctx *c, weft_figure f) {
    struct seen s = { 0 };
    weft_scope scope = weft_scope_named(c, "look");
    for (int k = 0; k < 3; k++) f.color[k] = 1;
    weft_tensor *t = weft_draw_shapes(c, 1, &(weft_scene){ .shapes = &f, .count = 1 }, SIDE, SIDE);
    const unsigned char *p = weft_data(t);
    for (int i = 0; p && i < SIDE * SIDE; i++) {
        double v = p[3 * i] / 255.0;
        s.area += v;
        s.x += v * (i % SIDE + 0.5);
        s.y += v * (i / SIDE + 0.5);
        s.soft += v > 0 && v < 1;
    }
    s.x /= s.area;
    s.y /= s.area;
    weft_scope_end(c, scope, NULL);
    return s;
}

TEST(areas_and_middles) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    const double pi = 3.14159265358979323846, tenth = sin(pi / 5);
    /* areas at radius 1; how far below its middle the triangle's centre of mass is */
    const double area[WEFT_FIGURE_COUNT] = { pi, 1.8 * 1.8, 1.05 * 1.82, 5 * 1.1 * 0.48 * tenth, 2 * 1.15 * 0.75,
                                             4 * 0.34 * (2 - 0.34) };
    const double low[WEFT_FIGURE_COUNT] = { [WEFT_FIGURE_triangle] = 0.87 - 1.82 / 3 };
    for (int kind = 0; kind < WEFT_FIGURE_COUNT; kind++)
        for (int i = 0; i < 12; i++) {
            double radius = 6 + 1.5 * i, angle = 0.5 * i, x = 31 + 0.3 * i, y = 33 - 0.2 * i;
            struct seen s = look(c, (weft_figure){ .kind = kind, .x = x, .y = y, .radius = radius, .angle = angle });
            /* The distance ramp is exact along straight edges; corners and curvature cost up to a third of a pixel. */
            CHECK_NEAR(s.area, area[kind] * radius * radius, 0.02 * radius * radius + 3);
            CHECK_NEAR(s.x, x - low[kind] * radius * sin(angle), 0.1);
            CHECK_NEAR(s.y, y + low[kind] * radius * cos(angle), 0.1);
            CHECK(i % 6 == 0 || s.soft > 2 * radius);
        }
    weft_ctx_free(c);
}

TEST(shapes_lie_over_each_other_and_may_stick_out) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    weft_scope scope = weft_scope_named(c, "test");
    const weft_figure figures[] = { { WEFT_FIGURE_square, 10, 10, 8, 0, { 1, 0, 0 } },
                                    { WEFT_FIGURE_circle, 10, 10, 4, 0, { 0, 0, 1 } },
                                    { WEFT_FIGURE_star, -3, 70, 20, 1, { 0, 1, 0 } },
                                    { WEFT_FIGURE_cross, 1e300, -1e300, 5, 0, { 1, 1, 1 } } };
    const weft_scene scenes[2] = { { .from = { 0, 0.5, 1 }, .to = { 1, 0.5, 0 }, .shapes = figures, .count = 4 },
                                   { .from = { 0, 0, 0 }, .to = { 1, 1, 1 }, .angle = 1.57079632679 } };
    weft_tensor *t = weft_draw_shapes(c, 2, scenes, 64, 48);
    REQUIRE(t && weft_dim(t, 0) == 2 && weft_dim(t, 1) == 64 && weft_dim(t, 2) == 48 && weft_dim(t, 3) == 3);
    const unsigned char *p = weft_data(t);
#define AT(n, y, x) (p + (((n) * 64 + (y)) * 48 + (x)) * 3)
    CHECK(AT(0, 10, 10)[2] == 255 && AT(0, 10, 10)[0] == 0);
    CHECK(AT(0, 4, 4)[0] == 255 && AT(0, 4, 4)[2] == 0);
    CHECK(AT(0, 63, 0)[1] == 255);
    CHECK_NEAR(AT(0, 30, 0)[0], 0.5 / 48 * 255, 1);       /* left: the first colour; a pixel's centre is half in */
    CHECK_NEAR(AT(0, 30, 47)[0], 47.5 / 48 * 255, 1);
    CHECK_NEAR(AT(0, 30, 24)[1], 128, 1);
    CHECK_NEAR(AT(1, 0, 20)[0], 0.5 / 64 * 255, 1);       /* downwards */
    CHECK_NEAR(AT(1, 63, 20)[2], 63.5 / 64 * 255, 1);
    weft_scope_end(c, scope, NULL);
    weft_ctx_free(c);
}

static void refuses(weft_ctx *c, weft_scene s, int64_t n, int64_t side, const char *text) {
    CHECK(!weft_draw_shapes(c, n, &s, side, side));
    CHECK_HAS(weft_message(c), text);
    weft_clear(c);
}

TEST(bad_numbers) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    const weft_figure unknown = { .kind = WEFT_FIGURE_COUNT, .radius = 1 }, flat = { .radius = 0 },
                      nowhere = { .radius = 1, .x = NAN }, huge = { .radius = 1e9 };
    refuses(c, (weft_scene){ .shapes = &unknown, .count = 1 }, 1, 8, "picture 1, shape 1: its kind is not known");
    refuses(c, (weft_scene){ .shapes = &flat, .count = 1 }, 1, 8, "radius not within");
    refuses(c, (weft_scene){ .shapes = &nowhere, .count = 1 }, 1, 8, "not finite");
    refuses(c, (weft_scene){ .shapes = &huge, .count = 1 }, 1, 8, "radius not within");
    refuses(c, (weft_scene){ .angle = INFINITY }, 1, 8, "the background");
    refuses(c, (weft_scene){ .count = 0 }, 0, 8, "0 pictures");
    refuses(c, (weft_scene){ .count = 0 }, 1, 5000, "a side is 1 to 4096");
    CHECK_STR(weft_figure_name(WEFT_FIGURE_star), "star");
    CHECK(!weft_figure_name(WEFT_FIGURE_COUNT));
    weft_ctx_free(c);
}

TEST_MAIN
