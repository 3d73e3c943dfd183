/* Stands in for CUDA's header of this name: IEEE binary16, rounded as the device rounds. */
#ifndef FAKE_CUDA_FP16_H
#define FAKE_CUDA_FP16_H

#include "cuda_runtime.h"
#include "kernels/ref/ref.h"

struct alignas(2) __half { unsigned short x; };
struct alignas(4) __half2 { __half x, y; };
typedef __half half;
typedef __half2 half2;

/* Every binary16 value, so that reading one costs a load; filled before main(). */
extern float fake_half_values[65536];
static inline float __half2float(__half h) { return fake_half_values[h.x]; }

/* To nearest, ties to even: the 13 bits that are cut off are added to so that they carry where they should. Subnormals
 * come out of the float's own addition. */
static inline __half __float2half_rn(float v) {
    unsigned bits = __float_as_uint(v), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return { (unsigned short)(sign | 0x7e00) };
    if (size >= 0x47800000) return { (unsigned short)(sign | 0x7c00) };                     /* 2¹⁶ and more */
    if (size < 0x38800000) {                                                                /* less than 2⁻¹⁴ */
        const float moved = __uint_as_float(size) + 0.5f;                                   /* steps of 2⁻²⁴ */
        return { (unsigned short)(sign | (__float_as_uint(moved) - 0x3f000000)) };
    }
    return { (unsigned short)(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13)) };
}
static inline __half __float2half(float v) { return __float2half_rn(v); }
static inline __half __double2half(double v) { return { ref_to_f16(v) }; }
static inline __half2 __floats2half2_rn(float a, float b) { return { __float2half_rn(a), __float2half_rn(b) }; }
static inline __half2 __float22half2_rn(float2 v) { return __floats2half2_rn(v.x, v.y); }
static inline float2 __half22float2(__half2 v) { return { __half2float(v.x), __half2float(v.y) }; }
static inline unsigned short __half_as_ushort(__half h) { return h.x; }
static inline __half __ushort_as_half(unsigned short v) { return { v }; }

#endif
