/* Vectors for the CPU kernels: one source, several instruction sets.
 *
 * Every kernels/cpu/ file but cpu.c is compiled once for each instruction set (WEFT_ISA); the compiler's vector types stand
 * for a register of it: VL floats. a*b + c contracts to a fused multiply-add where the set has one.
 */
#ifndef WEFT_SIMD_H
#define WEFT_SIMD_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "kernels/kernels.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#define VL 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define VL 8
#else
#define VL 4
#endif

#define WEFT_GLUE2(a, b) a##_##b
#define WEFT_GLUE(a, b) WEFT_GLUE2(a, b)
/* A name of this instruction set's own: ISA_NAME(gemm) is gemm_avx2. */
#define ISA_NAME(name) WEFT_GLUE(name, WEFT_ISA)

#define INLINE static inline __attribute__((always_inline, unused))
/* Before a loop of few, constant rounds over accumulators: without it they go through memory. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));        /* also what a comparison of vf gives: 0 or −1 */
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef float vf_unaligned __attribute__((vector_size(VL * 4), aligned(4), may_alias));

INLINE vf vf_load(const float *p) { return *(const vf_unaligned *)p; }
INLINE void vf_store(float *p, vf v) { *(vf_unaligned *)p = v; }
INLINE vf vf_set(float x) { return x - (vf){ 0 }; }      /* not 0 + x: that is an addition, −0 + 0 being 0 */

/* The first n < VL floats, zeros behind; and the other way. */
INLINE vf vf_load_n(const float *p, int64_t n) {
#if VL == 16
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    float t[VL] = { 0 };
    memcpy(t, p, (size_t)n * 4);
    return vf_load(t);
#endif
}
INLINE void vf_store_n(float *p, vf v, int64_t n) {
#if VL == 16
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
    float t[VL];
    vf_store(t, v);
    memcpy(p, t, (size_t)n * 4);
#endif
}

INLINE vf vf_select(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }

/* As the C expression: b where a is NaN. */
INLINE vf vf_max(vf a, vf b) {
#if VL == 16
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif VL == 8
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vf_select(a > b, a, b);
#endif
}
INLINE vf vf_min(vf a, vf b) {
#if VL == 16
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif VL == 8
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vf_select(a < b, a, b);
#endif
}

/* Sums and maxima over the lanes, in a fixed order (halves added to halves). */
INLINE float vf_sum(vf v) {
    float t[VL];
    vf_store(t, v);
    for (int w = VL / 2; w; w /= 2)
        for (int i = 0; i < w; i++) t[i] += t[i + w];
    return t[0];
}
INLINE float vf_hmax(vf v) {
    float t[VL];
    vf_store(t, v);
    for (int w = VL / 2; w; w /= 2)
        for (int i = 0; i < w; i++) t[i] = MAX(t[i], t[i + w]);
    return t[0];
}

/* ---- 16-bit floats -------------------------------------------------------------------------------------- */

/* IEEE binary16 → binary32, exactly, subnormals, infinities and NaN included. */
INLINE float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu, bits;
    float f;
    if (rest >= 0x7c00u) bits = sign | 0x7f800000u | ((rest & 0x3ffu) << 13);
    else if (rest >= 0x400u) bits = sign | ((rest << 13) + 0x38000000u);
    else {
        f = (float)rest * 0x1p-24f;
        memcpy(&bits, &f, 4);
        bits |= sign;
    }
    memcpy(&f, &bits, 4);
    return f;
}

/* Rounds to nearest, ties to even; overflow gives infinity. */
INLINE uint16_t f32_to_f16(float f) {
    uint32_t x;
    memcpy(&x, &f, 4);
    uint32_t sign = (x >> 16) & 0x8000u;
    x &= 0x7fffffffu;
    if (x > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((x >> 13) & 0x3ffu));
    if (x >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (x < 0x38800000u) {      /* subnormal: adding ½ lets the hardware round at 2⁻²⁴ */
        float a;
        memcpy(&a, &x, 4);
        a += 0.5f;
        memcpy(&x, &a, 4);
        return (uint16_t)(sign | (x - 0x3f000000u));
    }
    return (uint16_t)(sign | ((x - 0x38000000u + 0xfffu + ((x >> 13) & 1u)) >> 13));
}

INLINE float bf16_to_f32(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

INLINE uint16_t f32_to_bf16(float f) {
    uint32_t x;
    memcpy(&x, &f, 4);
    if ((x & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((x >> 16) | 0x40u);
    return (uint16_t)((x + 0x7fffu + ((x >> 16) & 1u)) >> 16);
}

/* VL values widened. */
INLINE vf vf_from_bf16(const uint16_t *p) {
    typedef uint16_t vh __attribute__((vector_size(VL * 2)));
    vh h;
    memcpy(&h, p, sizeof h);
    return (vf)(__builtin_convertvector(h, vu) << 16);
}
INLINE vf vf_from_f16(const uint16_t *p) {
#if VL == 16
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif VL == 8
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
    float t[VL];
    for (int i = 0; i < VL; i++) t[i] = f16_to_f32(p[i]);
    return vf_load(t);
#endif
}

#endif
