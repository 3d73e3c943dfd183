/* What the stand-ins of cuBLASLt and cuDNN compute with: elements of any type as f32, TF32's rounding, sums of
 * products. */
#ifndef FAKE_NUMBERS_H
#define FAKE_NUMBERS_H

#include <cstdlib>
#include <cstring>
#include <vector>
#include "cuda_bf16.h"
#include "cuda_fp16.h"

enum fake_type { FAKE_F32, FAKE_F16, FAKE_BF16 };
static inline size_t fake_size(fake_type t) { return t == FAKE_F32 ? 4 : 2; }

static inline float fake_get(fake_type t, const void *p, int64_t i) {
    return t == FAKE_F16    ? __half2float(((const __half *)p)[i])
           : t == FAKE_BF16 ? __bfloat162float(((const __nv_bfloat16 *)p)[i])
                            : ((const float *)p)[i];
}
static inline void fake_put(fake_type t, void *p, int64_t i, float v) {
    if (t == FAKE_F16) ((__half *)p)[i] = __float2half_rn(v);
    else if (t == FAKE_BF16) ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(v);
    else ((float *)p)[i] = v;
}

/* To 11 significant bits, half away from zero, as the device's conversion. Turing has no such type, and computes in f32. */
static inline float fake_tf32(float v) {
    if (fake_is_turing()) return v;
    const unsigned bits = __float_as_uint(v);
    return (bits & 0x7f800000) == 0x7f800000 ? v : __uint_as_float((bits + 0x1000) & ~0x1fffu);
}

/* In eight chains. */
static inline float fake_dot(const float *a, const float *b, int64_t n) {
    float sum[8] = {};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++) sum[i % 8] += a[i] * b[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static inline bool fake_aligned(const void *p, size_t bytes) { return (size_t)p % bytes == 0; }

#endif
