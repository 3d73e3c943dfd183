/* Normal numbers of torch.Generator("cpu"), by Box and Muller: r = √(−2·ln u₁), θ = 2π·u₂, giving r·cos θ and r·sin
 * θ.
 *
 * For 16 numbers or more the uniforms are drawn first; then, in blocks of 16, the j-th (1 − it is u₁) pairs with the
 * (j+8)-th. A rest is not filled in: the last 16 are drawn anew. Fewer numbers come one at a time in double, the
 * sine kept for the next.
 *
 * In float, PyTorch on x86 (its AVX2 path, which AVX-512 machines take as well) computes ln, sin and cos by the
 * polynomials of Moshier's Cephes library (logf, sinf, cosf), each product that is added to something fused. Here
 * the same is spelled out one number at a time with fmaf(), so it gives the same bits on every machine; what
 * PyTorch's compiler made of the two places where either product could be fused was found by comparison. In double
 * PyTorch calls the C library, and so does this file.
 */
#include <math.h>
#include <string.h>
#include "runtime/rng_internal.h"

/* No products may be fused but those that fmaf() names. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#define PI 3.14159265358979323846

/* ln x for normal x > 0. x = 2^e·m with m in [√½, √2); ln m by a polynomial in m − 1; ln 2 in two parts. */
static float cephes_log(float x) {
    static const float p[] = {
        7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
        -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f
    };
    uint32_t bits;
    memcpy(&bits, &x, 4);
    float e = (float)((int)(bits >> 23) - 126);
    bits = (bits & 0x007fffffu) | 0x3f000000u;
    float m;
    memcpy(&m, &bits, 4);
    float f = m - 1;
    if (m < 0.707106781186547524f) {
        e -= 1;
        f += m;
    }
    float z = f * f;
    float y = p[0];
    for (int i = 1; i < 9; i++) y = fmaf(y, f, p[i]);
    y = fmaf(y * f, z, e * -2.12194440e-4f);
    y = fmaf(z, -0.5f, y);
    return fmaf(e, 0.693359375f, f + y);
}

/* sin x and cos x for 0 ≤ x < 8192: x less the nearest even multiple j of π/4, π/4 in three parts, then a polynomial
 * for each. */
static void cephes_sincos(float x, float *sine, float *cosine) {
    int j = ((int)(x * 1.27323954473516f) + 1) & ~1;
    float k = (float)j;
    x = fmaf(k, -0.78515625f, x);
    x = fmaf(k, -2.4187564849853515625e-4f, x);
    x = fmaf(k, -3.77489497744594108e-8f, x);
    float z = x * x;
    float c = fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f);
    c = fmaf(c, z, 4.166664568298827e-2f) * z;
    c = fmaf(c, z, z * -0.5f) + 1;
    float s = fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f);
    s = fmaf(s, z, -1.6666654611e-1f) * z;
    s = fmaf(s, x, x);
    float sin_x = j & 2 ? c : s, cos_x = j & 2 ? s : c;
    *sine = j & 4 ? -sin_x : sin_x;
    *cosine = (j + 2) & 4 ? -cos_x : cos_x;
}

/* Adding 0 turns −0 into 0, as PyTorch's "· std + mean" does. */
void rng_box_muller(float u1, float u2, float *cosine, float *sine) {
    float radius = sqrtf(-2 * cephes_log(u1));
    float s, c;
    cephes_sincos((float)(2 * PI) * u2, &s, &c);
    *cosine = radius * c + 0.0f;
    *sine = radius * s + 0.0f;
}

/* Sixteen uniforms become sixteen normals. */
static void block_f32(float *d) {
    for (int j = 0; j < 8; j++) rng_box_muller(1 - d[j], d[j + 8], d + j, d + j + 8);
}

static void block_f64(double *d) {
    for (int j = 0; j < 8; j++) {
        double radius = sqrt(-2 * log(1 - d[j])), theta = 2 * PI * d[j + 8];
        d[j] = radius * cos(theta) + 0.0;
        d[j + 8] = radius * sin(theta) + 0.0;
    }
}

/* The next one of a pair. */
static double single(weft_rng *r) {
    if (r->has_normal) {
        r->has_normal = false;
        return r->normal + 0.0;
    }
    double u1 = rng_mt_f64(r), u2 = rng_mt_f64(r);
    double radius = sqrt(-2 * log1p(-u2)), theta = 2 * PI * u1;
    r->normal = radius * sin(theta);
    r->has_normal = true;
    return radius * cos(theta) + 0.0;
}

void rng_mt_randn_f32(weft_rng *r, float *dst, int64_t n) {
    if (n < 16) {
        for (int64_t i = 0; i < n; i++) dst[i] = (float)single(r);
        return;
    }
    for (int64_t i = 0; i < n; i++) dst[i] = rng_mt_f32(r);
    for (int64_t i = 0; i + 16 <= n; i += 16) block_f32(dst + i);
    if (n % 16) {
        for (int64_t i = n - 16; i < n; i++) dst[i] = rng_mt_f32(r);
        block_f32(dst + n - 16);
    }
}

void rng_mt_randn_f64(weft_rng *r, double *dst, int64_t n) {
    if (n < 16) {
        for (int64_t i = 0; i < n; i++) dst[i] = single(r);
        return;
    }
    for (int64_t i = 0; i < n; i++) dst[i] = rng_mt_f64(r);
    for (int64_t i = 0; i + 16 <= n; i += 16) block_f64(dst + i);
    if (n % 16) {
        for (int64_t i = n - 16; i < n; i++) dst[i] = rng_mt_f64(r);
        block_f64(dst + n - 16);
    }
}
