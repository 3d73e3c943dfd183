/* Vectors of doubles, VD of them, for the sums that must not lose digits: read from floats, added up in a fixed order. */
#ifndef WEFT_SIMD_DOUBLE_H
#define WEFT_SIMD_DOUBLE_H

#include "kernels/cpu/simd.h"

#define VD (VL / 2)

typedef double vd __attribute__((vector_size(VD * 8)));

/* VD floats, widened. */
INLINE vd vd_from_f32(const float *p) {
    typedef float vh __attribute__((vector_size(VD * 4), aligned(4), may_alias));
    return __builtin_convertvector(*(const vh *)p, vd);
}
INLINE void vd_store(double *p, vd v) { memcpy(p, &v, sizeof v); }
INLINE vd vd_load(const double *p) {
    vd v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE double vd_sum(vd v) {
#if VD == 8
    typedef double vh __attribute__((vector_size(32)));
    const vh h = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
    return (h[0] + h[2]) + (h[1] + h[3]);
#elif VD == 4
    return (v[0] + v[2]) + (v[1] + v[3]);
#else
    return v[0] + v[1];
#endif
}

#endif
