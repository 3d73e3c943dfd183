/* What the naive kernels share: one element read as a double, one written from a double, the lists of types.
 *
 * A value is rounded once, from double to the type it is stored in, to nearest and ties to even; a value beyond the
 * largest finite one becomes infinity. Integers take the truncated value, saturated; NaN becomes 0.
 */
#ifndef WEFT_REF_H
#define WEFT_REF_H

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "kernels/kernels.h"

#define REF_BIT(t) (1u << (t))
#define REF_FLOATS (REF_BIT(WEFT_F32) | REF_BIT(WEFT_F16) | REF_BIT(WEFT_BF16) | REF_BIT(WEFT_F64))
#define REF_IDS (REF_BIT(WEFT_I64) | REF_BIT(WEFT_I32))
#define REF_ALL ((1u << WEFT_DTYPE_COUNT) - 1)

/* For the checks at a kernel's head: is this type in the set? */
static inline bool ref_takes(uint32_t set, weft_dtype t) { return (unsigned)t < WEFT_DTYPE_COUNT && (set >> t & 1); }

static inline bool ref_cancelled(const weft_env *env) { return env->cancel && *env->cancel; }

/* IEEE binary16: 1 sign, 5 exponent (bias 15), 10 mantissa bits. */
static inline double ref_from_f16(uint16_t h) {
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h >> 15 ? -v : v;
}

static inline double ref_from_bf16(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* v on the grid of a type with `bits` significant bits and least magnitude 2^least; beyond `max`: infinity. */
static inline double ref_round(double v, int bits, int least, double max) {
    int e;
    if (!isfinite(v) || v == 0) return v;
    frexp(v, &e);                                   /* 2^(e−1) ≤ |v| < 2^e */
    int step = e - bits > least ? e - bits : least;
    double r = ldexp(nearbyint(ldexp(v, -step)), step);
    return fabs(r) > max ? copysign(INFINITY, v) : r;
}

static inline uint16_t ref_to_f16(double v) {
    double r = fabs(ref_round(v, 11, -24, 65504));
    uint16_t sign = signbit(v) ? 0x8000 : 0;
    if (isnan(r)) return sign | 0x7e00;
    if (isinf(r)) return sign | 0x7c00;
    if (r < 0x1p-14) return (uint16_t)(sign | (int)(r * 0x1p24));
    int e = ilogb(r);
    return (uint16_t)(sign | (e + 15) << 10 | ((int)ldexp(r, 10 - e) - 1024));
}

static inline uint16_t ref_to_bf16(double v) {
    float f = isnan(v) ? (float)copysign(NAN, v) : (float)ref_round(v, 8, -133, 0x1.fep127);
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (uint16_t)(bits >> 16);
}

static inline int64_t ref_to_int(double v, int64_t low, int64_t high) {
    if (isnan(v)) return 0;
    return v <= (double)low ? low : v >= (double)high ? high : (int64_t)v;
}

/* Element i of an array of type t. */
static inline double ref_get(weft_dtype t, const void *p, int64_t i) {
    switch (t) {
    case WEFT_F32: return ((const float *)p)[i];
    case WEFT_F16: return ref_from_f16(((const uint16_t *)p)[i]);
    case WEFT_BF16: return ref_from_bf16(((const uint16_t *)p)[i]);
    case WEFT_F64: return ((const double *)p)[i];
    case WEFT_I64: return (double)((const int64_t *)p)[i];
    case WEFT_I32: return ((const int32_t *)p)[i];
    case WEFT_U8: return ((const uint8_t *)p)[i];
    default: return NAN;
    }
}

static inline void ref_put(weft_dtype t, void *p, int64_t i, double v) {
    switch (t) {
    case WEFT_F32: ((float *)p)[i] = (float)v; break;
    case WEFT_F16: ((uint16_t *)p)[i] = ref_to_f16(v); break;
    case WEFT_BF16: ((uint16_t *)p)[i] = ref_to_bf16(v); break;
    case WEFT_F64: ((double *)p)[i] = v; break;
    case WEFT_I64: ((int64_t *)p)[i] = ref_to_int(v, INT64_MIN, INT64_MAX); break;
    case WEFT_I32: ((int32_t *)p)[i] = (int32_t)ref_to_int(v, INT32_MIN, INT32_MAX); break;
    case WEFT_U8: ((uint8_t *)p)[i] = (uint8_t)ref_to_int(v, 0, 255); break;
    default: break;
    }
}

/* Element i moved as it is, every bit of it. */
static inline void ref_move(weft_dtype t, void *dst, int64_t i, const void *src, int64_t j) {
    size_t size = weft_dtype_size(t);
    memcpy((char *)dst + i * (int64_t)size, (const char *)src + j * (int64_t)size, size);
}

/* elementwise.c: act(v), for the kernels that have one fused. */
double weft_ref_activate(weft_activation act, double v);

/* weft_ref_gemm and its like, one for each row of the table. */
#define K(name) int weft_ref_##name(const weft_env *env, const weft_##name##_args *a);
WEFT_KERNEL_LIST(K)
#undef K
size_t weft_ref_pack_bytes(const weft_pack_args *a);

#endif
