/* Winograd's transforms for 3×3 filters (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2015):
 * y = Aᵀ·[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A with a tile d of (m+2)² inputs and m² outputs.
 *
 * m = 2, points 0, ±1, ∞:
 *     Bᵀ = 1  0 −1  0    G = 1   0   0    Aᵀ = 1 1  1  0
 *          0  1  1  0        ½   ½   ½         0 1 −1 −1
 *          0 −1  1  0        ½  −½   ½
 *          0  1  0 −1        0   0   1
 * m = 4, points 0, ±1, ±2, ∞:
 *     Bᵀ = 4  0 −5  0 1 0    G = ¼     0     0      Aᵀ = 1 1  1 1  1 0
 *          0 −4 −4  1 1 0       −⅙    −⅙    −⅙           0 1 −1 2 −2 0
 *          0  4 −4 −1 1 0       −⅙     ⅙    −⅙           0 1  1 4  4 0
 *          0 −2 −1  2 1 0       1/24   1/12  ⅙           0 1 −1 8 −8 1
 *          0  2 −1 −2 1 0       1/24  −1/12  ⅙
 *          0  4  0 −5 0 1       0      0     1
 */
#ifndef WEFT_WINOGRAD_TRANSFORM_H
#define WEFT_WINOGRAD_TRANSFORM_H

#include "kernels/cpu/simd.h"

#define MOST_POINTS 6       /* m + 2 */

/* As UNROLL, for a tile's 36. */
#ifdef __clang__
#define UNROLL_SQUARE UNROLL
#else
#define UNROLL_SQUARE _Pragma("GCC unroll 36")
#endif

/* One dimension of each, from and to elements `from` and `to` apart. */
INLINE void input_line(const int m, const vf *d, const int from, vf *r, const int to) {
    const vf d0 = d[0], d1 = d[from], d2 = d[2 * from], d3 = d[3 * from];
    if (m == 2) {
        r[0] = d0 - d2;
        r[to] = d1 + d2;
        r[2 * to] = d2 - d1;
        r[3 * to] = d1 - d3;
        return;
    }
    const vf d4 = d[4 * from], d5 = d[5 * from];
    const vf even = d4 - 4 * d2, odd = d3 - 4 * d1, even2 = d4 - d2, odd2 = d3 - d1;
    r[0] = 4 * d0 + (d4 - 5 * d2);
    r[to] = even + odd;
    r[2 * to] = even - odd;
    r[3 * to] = even2 + 2 * odd2;
    r[4 * to] = even2 - 2 * odd2;
    r[5 * to] = 4 * d1 + (d5 - 5 * d3);
}

INLINE void filter_line(const int m, const vf *g, const int from, vf *r, const int to) {
    const vf g0 = g[0], g1 = g[from], g2 = g[2 * from];
    if (m == 2) {
        const vf sum = 0.5f * (g0 + g2);
        r[0] = g0;
        r[to] = sum + 0.5f * g1;
        r[2 * to] = sum - 0.5f * g1;
        r[3 * to] = g2;
        return;
    }
    const vf sum = (g0 + g2) * (-1.0f / 6), sum2 = g0 * (1.0f / 24) + g2 * (1.0f / 6);
    r[0] = 0.25f * g0;
    r[to] = sum - g1 * (1.0f / 6);
    r[2 * to] = sum + g1 * (1.0f / 6);
    r[3 * to] = sum2 + g1 * (1.0f / 12);
    r[4 * to] = sum2 - g1 * (1.0f / 12);
    r[5 * to] = g2;
}

INLINE void output_line(const int m, const vf *v, const int from, vf *r, const int to) {
    const vf v0 = v[0], v1 = v[from], v2 = v[2 * from], v3 = v[3 * from], sum = v1 + v2, difference = v1 - v2;
    if (m == 2) {
        r[0] = v0 + sum;
        r[to] = difference - v3;
        return;
    }
    const vf v4 = v[4 * from], v5 = v[5 * from], sum2 = v3 + v4, difference2 = v3 - v4;
    r[0] = v0 + sum + sum2;
    r[to] = difference + 2 * difference2;
    r[2 * to] = sum + 4 * sum2;
    r[3 * to] = (difference + 8 * difference2) + v5;
}

/* For the gradient by the weights, dw = Gᵀ·[Σ over tiles of (A·dy·Aᵀ) ⊙ (Bᵀ·d·B)]·G: A, from m outputs' gradients to m + 2 points, … */
INLINE void spread_line(const int m, const vf *d, const int from, vf *r, const int to) {
    const vf d0 = d[0], d1 = d[from];
    if (m == 2) {
        r[0] = d0;
        r[to] = d0 + d1;
        r[2 * to] = d0 - d1;
        r[3 * to] = -d1;
        return;
    }
    const vf d2 = d[2 * from], d3 = d[3 * from], even = d0 + d2, odd = d1 + d3, even2 = d0 + 4 * d2, odd2 = 2 * d1 + 8 * d3;
    r[0] = d0;
    r[to] = even + odd;
    r[2 * to] = even - odd;
    r[3 * to] = even2 + odd2;
    r[4 * to] = even2 - odd2;
    r[5 * to] = d3;
}

/* … and Gᵀ, from m + 2 points to 3 taps. */
INLINE void collect_line(const int m, const vf *v, const int from, vf *r, const int to) {
    const vf v0 = v[0], sum = v[from] + v[2 * from], difference = v[2 * from] - v[from];
    if (m == 2) {
        const vf half = 0.5f * sum;
        r[0] = v0 + half;
        r[to] = -0.5f * difference;
        r[2 * to] = half + v[3 * from];
        return;
    }
    const vf sum2 = v[3 * from] + v[4 * from], difference2 = v[3 * from] - v[4 * from];
    r[0] = 0.25f * v0 - sum * (1.0f / 6) + sum2 * (1.0f / 24);
    r[to] = difference * (1.0f / 6) + difference2 * (1.0f / 12);
    r[2 * to] = (sum2 - sum) * (1.0f / 6) + v[5 * from];
}

/* d[(m+2)²], transformed in place: columns, then rows. */
INLINE void input_square(const int m, vf *d) {
    vf t[MOST_POINTS * MOST_POINTS];
    const int points = m + 2;
    UNROLL
    for (int i = 0; i < points; i++) input_line(m, d + i, points, t + i, points);
    UNROLL
    for (int i = 0; i < points; i++) input_line(m, t + i * points, 1, d + i * points, 1);
}

/* g[9] to r[(m+2)²] */
INLINE void filter_square(const int m, const vf *g, vf *r) {
    vf t[MOST_POINTS * 3];
    const int points = m + 2;
    UNROLL
    for (int i = 0; i < 3; i++) filter_line(m, g + i, 3, t + i, 3);
    UNROLL
    for (int i = 0; i < points; i++) filter_line(m, t + i * 3, 1, r + i * points, 1);
}

/* v[(m+2)²] to r[m²] */
INLINE void output_square(const int m, const vf *v, vf *r) {
    vf t[MOST_POINTS * MOST_POINTS];
    const int points = m + 2;
    UNROLL
    for (int i = 0; i < points; i++) output_line(m, v + i, points, t + i, points);
    UNROLL
    for (int i = 0; i < m; i++) output_line(m, t + i * points, 1, r + i * m, 1);
}

/* d[m²] to r[(m+2)²] */
INLINE void spread_square(const int m, const vf *d, vf *r) {
    vf t[MOST_POINTS * 4];
    const int points = m + 2;
    UNROLL
    for (int i = 0; i < m; i++) spread_line(m, d + i, m, t + i, m);
    UNROLL
    for (int i = 0; i < points; i++) spread_line(m, t + i * m, 1, r + i * points, 1);
}

/* v[(m+2)²] to r[9] */
INLINE void collect_square(const int m, const vf *v, vf *r) {
    vf t[3 * MOST_POINTS];
    const int points = m + 2;
    UNROLL
    for (int i = 0; i < points; i++) collect_line(m, v + i, points, t + i, points);
    UNROLL
    for (int i = 0; i < 3; i++) collect_line(m, t + i * points, 1, r + i * 3, 1);
}

#endif
