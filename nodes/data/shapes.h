/* Pictures of plain coloured shapes with soft edges: for small data sets whose captions are exactly true. */
#ifndef WEFT_SHAPES_H
#define WEFT_SHAPES_H

#include "runtime/weft.h"

/* S(name): "circle", … */
#define WEFT_FIGURES(S) S(circle) S(square) S(triangle) S(star) S(diamond) S(cross)
typedef enum weft_figure_kind {
#define S(name) WEFT_FIGURE_##name,
    WEFT_FIGURES(S)
#undef S
    WEFT_FIGURE_COUNT
} weft_figure_kind;
const char *weft_figure_name(weft_figure_kind kind);      /* NULL past the end */

typedef struct weft_figure {
    weft_figure_kind kind;
    double x, y;                /* the middle, in pixels from the upper left corner */
    double radius;              /* the shape fills about the circle of this radius */
    double angle;               /* radians, clockwise */
    float color[3];             /* red, green, blue in [0, 1] */
} weft_figure;

typedef struct weft_scene {
    float from[3], to[3];       /* the background's colours, mixed along the direction `angle` (0: rightwards) */
    double angle;
    const weft_figure *shapes;   /* painted one over the other */
    int count;
} weft_scene;

#define WEFT_SHAPES_SIDE 4096   /* pixels a side at the most */

/* (n, height, width, 3) u8, in the innermost scope; NULL with the error set. */
weft_tensor *weft_draw_shapes(weft_ctx *c, int64_t n, const weft_scene *scenes, int64_t height, int64_t width);

#endif
