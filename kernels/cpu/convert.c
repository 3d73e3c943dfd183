/* Rows of elements from one type to another: a function for every pair, f32 ↔ f16 and bf16 in vectors. */
#include "kernels/cpu/convert.h"

/* v as a float, its last bit odd unless v is one: whatever rounds that to 16 bits has rounded v only once. */
INLINE float to_odd(double v) {
    float f = (float)v;
    if ((double)f == v || isnan(v)) return f;
    if (isinf(f)) return copysignf(0x1.fffffep127f, f);
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (!(bits & 1)) bits += fabs((double)f) < fabs(v) ? 1 : -1u;
    memcpy(&f, &bits, 4);
    return f;
}

INLINE int64_t to_int(double v, double low, double high, int64_t least, int64_t most) {
    return isnan(v) ? 0 : v <= low ? least : v >= high ? most : (int64_t)v;
}

/* The C type an element is held in, what it reads as, and how a value becomes one. */
typedef float c_f32;
typedef uint16_t c_f16;
typedef uint16_t c_bf16;
typedef double c_f64;
typedef int64_t c_i64;
typedef int32_t c_i32;
typedef uint8_t c_u8;
#define FROM_f32(x) (x)
#define FROM_f16(x) f16_to_f32(x)
#define FROM_bf16(x) bf16_to_f32(x)
#define FROM_f64(x) (x)
#define FROM_i64(x) (x)
#define FROM_i32(x) (x)
#define FROM_u8(x) (x)
#define NARROW(v) _Generic((v), float: (float)(v), default: to_odd((double)(v)))
#define TO_f32(v) ((float)(v))
#define TO_f16(v) f32_to_f16(NARROW(v))
#define TO_bf16(v) f32_to_bf16(NARROW(v))
#define TO_f64(v) ((double)(v))
#define TO_i64(v) to_int((double)(v), -0x1p63, 0x1p63, INT64_MIN, INT64_MAX)
#define TO_i32(v) (int32_t)to_int((double)(v), INT32_MIN, INT32_MAX, INT32_MIN, INT32_MAX)
#define TO_u8(v) (uint8_t)to_int((double)(v), 0, 255, 0, 255)

#define PAIR(from, to) \
    static void row_##from##_##to(const void *src, void *dst, int64_t n) { \
        const c_##from *s = src; \
        c_##to *d = dst; \
        for (int64_t i = 0; i < n; i++) d[i] = TO_##to(FROM_##from(s[i])); \
    }
#define TYPES(P, x) P(x, f32) P(x, f16) P(x, bf16) P(x, f64) P(x, i64) P(x, i32) P(x, u8)
TYPES(PAIR, f32)
TYPES(PAIR, f16)
TYPES(PAIR, bf16)
TYPES(PAIR, f64)
TYPES(PAIR, i64)
TYPES(PAIR, i32)
TYPES(PAIR, u8)

/* n in whole vectors; the pairs above do the rest. */
static int64_t widen(const uint16_t *s, float *d, int64_t n, bool bf16) {
    int64_t i = 0;
    for (; i + VL <= n; i += VL) vf_store(d + i, bf16 ? vf_from_bf16(s + i) : vf_from_f16(s + i));
    return i;
}

static int64_t narrow_f16(const float *s, uint16_t *d, int64_t n) {
    int64_t i = 0;
#if VL == 16
    for (; i + VL <= n; i += VL)
        _mm256_storeu_si256((__m256i *)(d + i), _mm512_cvtps_ph((__m512)vf_load(s + i), _MM_FROUND_TO_NEAREST_INT));
#elif VL == 8
    for (; i + VL <= n; i += VL)
        _mm_storeu_si128((__m128i *)(d + i), _mm256_cvtps_ph((__m256)vf_load(s + i), _MM_FROUND_TO_NEAREST_INT));
#else
    (void)s, (void)d, (void)n;
#endif
    return i;
}

static int64_t narrow_bf16(const float *s, uint16_t *d, int64_t n) {
    typedef uint16_t vh __attribute__((vector_size(VL * 2)));
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        vf v = vf_load(s + i);
        vu x = (vu)v, rounded = (x + 0x7fffu + (x >> 16 & 1u)) >> 16, nan = x >> 16 | 0x40u;
        vh h = __builtin_convertvector((vu)vf_select(v == v, (vf)rounded, (vf)nan), vh);
        memcpy(d + i, &h, sizeof h);
    }
    return i;
}

void ISA_NAME(convert_row)(weft_dtype to, void *dst, weft_dtype from, const void *src, int64_t n) {
#define ENTRY(from, to) row_##from##_##to,
    static void (*const pair[WEFT_DTYPE_COUNT][WEFT_DTYPE_COUNT])(const void *, void *, int64_t) = {
        { TYPES(ENTRY, f32) }, { TYPES(ENTRY, f16) }, { TYPES(ENTRY, bf16) }, { TYPES(ENTRY, f64) },
        { TYPES(ENTRY, i64) }, { TYPES(ENTRY, i32) }, { TYPES(ENTRY, u8) },
    };
    const size_t from_size = weft_dtype_size(from), to_size = weft_dtype_size(to);
    int64_t done = 0;
    if (from == to) {
        memcpy(dst, src, (size_t)n * to_size);
        return;
    }
    if (to == WEFT_F32 && (from == WEFT_F16 || from == WEFT_BF16)) done = widen(src, dst, n, from == WEFT_BF16);
    else if (from == WEFT_F32 && to == WEFT_F16) done = narrow_f16(src, dst, n);
    else if (from == WEFT_F32 && to == WEFT_BF16) done = narrow_bf16(src, dst, n);
    pair[from][to]((const char *)src + (size_t)done * from_size, (char *)dst + (size_t)done * to_size, n - done);
}
