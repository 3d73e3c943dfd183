/* What attention and its gradient share: tiles of scores with a lane for each query, MR keys (or values) × QV vectors of them. */
#ifndef WEFT_CPU_ATTENTION_H
#define WEFT_CPU_ATTENTION_H

#include "kernels/cpu/transpose.h"

#if VL == 16
#define MR 8
#define QV 3
#elif VL == 8
#define MR 4
#define QV 3
#else
#define MR 4
#define QV 2
#endif
#define KEYS 128            /* of one block */
#define LOG2_E 1.4426950408889634

/* s(rows × nv vectors) = k(rows × d)·qᵀ */
INLINE void score_tile(const int rows, const int nv, int64_t d, const float *qt, const float *k, int64_t ldk,
                       float *s) {
    vf acc[MR][QV] = { 0 };
    for (int64_t c = 0; c < d; c++) {
        vf q[QV];
        UNROLL
        for (int v = 0; v < nv; v++) q[v] = vf_load(qt + (c * nv + v) * VL);
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
            for (int v = 0; v < nv; v++) acc[r][v] += q[v] * k[r * ldk + c];
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int v = 0; v < nv; v++) vf_store(s + (r * nv + v) * VL, acc[r][v]);
}

/* oᵀ(rows × nv vectors) = oᵀ·shrink + vᵀ(rows × keys)·p; shrink NULL: 1 */
INLINE void value_tile(const int rows, const int nv, int64_t keys, const float *p, const float *v, int64_t ldv,
                       const float *shrink, float *ot) {
    vf acc[MR][QV] = { 0 };
    for (int64_t j = 0; j < keys; j++) {
        vf w[QV];
        UNROLL
        for (int u = 0; u < nv; u++) w[u] = vf_load(p + (j * nv + u) * VL);
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
            for (int u = 0; u < nv; u++) acc[r][u] += w[u] * v[j * ldv + r];
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int u = 0; u < nv; u++) {
            float *o = ot + (r * nv + u) * VL;
            vf_store(o, (shrink ? vf_load(o) * vf_load(shrink + u * VL) : vf_load(o)) + acc[r][u]);
        }
}

/* All rows of one product: tiles of MR, then what is left in halves. */
#define ALL_ROWS(total, TILE) do { \
        int64_t row = 0; \
        for (; row + MR <= (total); row += MR) { TILE(MR); } \
        if (MR > 4 && row + 4 <= (total)) { TILE(4); row += 4; } \
        if (row + 2 <= (total)) { TILE(2); row += 2; } \
        if (row < (total)) { TILE(1); } \
    } while (0)

/* 2^x for x ≤ 0; NaN goes through. 1e-7. */
INLINE vf exp2_negative(vf x) {
    x = vf_max(vf_set(-126), x);
    vf t = x + 0x1.8p23f, r = x - (t - 0x1.8p23f);
    vf p = r * 0.00132647269f + 0.00967151264f;         /* (2^r − 1)/r on ±½, by a Remez exchange */
    p = p * r + 0.0555073374f;
    p = p * r + 0.240222421f;
    p = p * r + 0.693146978f;
    p = p * r + 1;
    return (vf)((vu)p + ((vu)t << 23));
}

/* For masks: lane l sees the keys of a block whose number is below its value; lane 0 sees `first`, each next one more. */
INLINE vi keys_seen(int64_t first) {
    int32_t t[VL];
    for (int l = 0; l < VL; l++) t[l] = (int32_t)MAX(0, MIN(first + l, KEYS));
    vi v;
    memcpy(&v, t, sizeof v);
    return v;
}

/* Asks for rows ahead of their use: with a stride of a page or so the hardware does not guess them. */
INLINE void prefetch_rows(const float *p, int64_t ld, int64_t rows, int64_t d) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < d; c += 16) __builtin_prefetch(p + r * ld + c);
}

/* Rows of d values turned over and times `factor`: to[d][nv·VL], a lane for each row, zeros in the lanes without one. */
INLINE void pack_rows(const float *from, int64_t ld, int64_t count, int64_t d, int nv, float factor, float *to) {
    for (int u = 0; u < nv; u++)
        for (int64_t c = 0; c < d; c += VL) {
            const int64_t rows = MIN(VL, count - u * VL), columns = MIN(VL, d - c);
            vf t[VL];
            for (int r = 0; r < VL; r++) {
                const float *p = from + (u * VL + r) * ld + c;
                t[r] = r >= rows ? (vf){ 0 } : columns == VL ? vf_load(p) : vf_load_n(p, columns);
            }
            vf_transpose(t);
            for (int64_t r = 0; r < columns; r++) vf_store(to + ((c + r) * nv + u) * VL, t[r] * factor);
        }
}

#endif
