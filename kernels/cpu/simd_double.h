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
    double t[VD];
    vd_store(t, v);
    for (int w = VD / 2; w; w /= 2)
        for (int i = 0; i < w; i++) t[i] += t[i + w];
    return t[0];
}

#endif
