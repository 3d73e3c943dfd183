/* Stands in for CUDA's header of this name: the upper half of an f32, rounded as the device rounds. */
#ifndef FAKE_CUDA_BF16_H
#define FAKE_CUDA_BF16_H

#include "cuda_runtime.h"
#include "kernels/ref/ref.h"

struct alignas(2) __nv_bfloat16 { unsigned short x; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };

static inline float __bfloat162float(__nv_bfloat16 h) { return __uint_as_float((unsigned)h.x << 16); }
static inline __nv_bfloat16 __float2bfloat16_rn(float v) {
    const unsigned bits = __float_as_uint(v);
    if (v != v) return { 0x7fff };              /* as the device's conversion gives it */
    return { (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16) };
}
static inline __nv_bfloat16 __float2bfloat16(float v) { return __float2bfloat16_rn(v); }
static inline __nv_bfloat16 __double2bfloat16(double v) { return { ref_to_bf16(v) }; }
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
    return { __float2bfloat16_rn(a), __float2bfloat16_rn(b) };
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v) { return { __bfloat162float(v.x), __bfloat162float(v.y) }; }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.x; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) { return { v }; }

#endif
