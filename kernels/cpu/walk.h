/* Walks through arrays by strides: the dimensions in as few as will do, then cut into pieces of rows × columns.
 *
 * Dimensions of one are dropped, and two that lie one behind the other in every operand become one. What is left has
 * at least two; the last is the columns, the one before the rows, and a piece is a rectangle of those two.
 */
#ifndef WEFT_WALK_H
#define WEFT_WALK_H

#include "kernels/cpu/simd.h"

#define WALK_OPERANDS 3

struct walk {
    int rank;
    int64_t shape[WEFT_MAX_RANK + 2], stride[WALK_OPERANDS][WEFT_MAX_RANK + 2];
    int64_t rows, columns;              /* of one piece, at most */
    int64_t pieces;
};

struct piece { int64_t at[WALK_OPERANDS], rows, columns; };

/* How many elements the shape has; < 0 where it is no shape. */
INLINE int64_t walk_count(int rank, const int64_t *shape) {
    int64_t n = 1;
    if (rank < 0 || rank > WEFT_MAX_RANK) return -1;
    for (int d = 0; d < rank; d++) {
        if (shape[d] < 0) return -1;
        n *= shape[d];
    }
    return n;
}

INLINE void walk_simplify(struct walk *w) {
    int n = 0;
    for (int d = 0; d < w->rank; d++) {
        const int64_t size = w->shape[d];
        bool join = n > 0;
        if (size == 1) continue;
        for (int k = 0; k < WALK_OPERANDS; k++) join = join && w->stride[k][n - 1] == w->stride[k][d] * size;
        if (join) w->shape[n - 1] *= size;
        else w->shape[n++] = size;
        for (int k = 0; k < WALK_OPERANDS; k++) w->stride[k][n - 1] = w->stride[k][d];
    }
    while (n < 2) {                     /* a new first dimension, of one */
        for (int d = n; d > 0; d--) {
            w->shape[d] = w->shape[d - 1];
            for (int k = 0; k < WALK_OPERANDS; k++) w->stride[k][d] = w->stride[k][d - 1];
        }
        w->shape[0] = 1;
        for (int k = 0; k < WALK_OPERANDS; k++) w->stride[k][0] = n ? 0 : 1;
        n++;
    }
    w->rank = n;
}

/* Pieces of at most `columns` columns and about `size` elements. */
INLINE void walk_cut(struct walk *w, int64_t columns, int64_t size) {
    const int64_t c = w->shape[w->rank - 1], r = w->shape[w->rank - 2];
    w->columns = MIN(c, columns);
    w->rows = MIN(r, MAX(1, size / w->columns));
    w->pieces = (c + w->columns - 1) / w->columns * ((r + w->rows - 1) / w->rows);
    for (int d = 0; d < w->rank - 2; d++) w->pieces *= w->shape[d];
}

INLINE struct piece walk_piece(const struct walk *w, int64_t i) {
    const int last = w->rank - 1;
    const int64_t across = (w->shape[last] + w->columns - 1) / w->columns;
    const int64_t down = (w->shape[last - 1] + w->rows - 1) / w->rows;
    const int64_t column = i % across * w->columns, row = i / across % down * w->rows;
    struct piece p = { .rows = MIN(w->rows, w->shape[last - 1] - row), .columns = MIN(w->columns, w->shape[last] - column) };
    for (int k = 0; k < WALK_OPERANDS; k++) p.at[k] = column * w->stride[k][last] + row * w->stride[k][last - 1];
    i /= across * down;
    for (int d = last - 2; d >= 0; i /= w->shape[d--])
        for (int k = 0; k < WALK_OPERANDS; k++) p.at[k] += i % w->shape[d] * w->stride[k][d];
    return p;
}

#endif
