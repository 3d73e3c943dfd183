/* A square of VL×VL floats turned over in registers: log₂VL rounds, each interleaving the rows' first half with the second. */
#ifndef WEFT_TRANSPOSE_H
#define WEFT_TRANSPOSE_H

#include "kernels/cpu/simd.h"

INLINE vf vf_interleave_low(vf a, vf b) {
#if VL == 16
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif VL == 8
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}
INLINE vf vf_interleave_high(vf a, vf b) {
#if VL == 16
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif VL == 8
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

/* r[i][j] ↔ r[j][i] */
INLINE void vf_transpose(vf r[VL]) {
    vf t[VL];
    UNROLL
    for (int round = 1; round < VL; round *= 2) {
        UNROLL
        for (int i = 0; i < VL / 2; i++) {
            t[2 * i] = vf_interleave_low(r[i], r[i + VL / 2]);
            t[2 * i + 1] = vf_interleave_high(r[i], r[i + VL / 2]);
        }
        UNROLL
        for (int i = 0; i < VL; i++) r[i] = t[i];
    }
}

#endif
