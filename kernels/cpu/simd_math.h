/* Elementary functions on vectors, for the activations and softmax: exp, sigmoid, tanh, gelu and its relatives.
 *
 * Each reduces its argument to a short interval and evaluates a polynomial there. The coefficients are our own: a Remez
 * exchange in 40 digits on the relative error of the function named beside them, rounded to float. Error over all
 * floats: exp 1 ulp, sigmoid, silu and tanh 2, gelu 7 (9 beyond −5); quick_gelu and gelu_tanh pass the rounding of
 * their exponent on, which is 9 and 28 at −5. Results below 2⁻¹²⁶ lose digits gradually for exp; the others are zero
 * where exp overflows, below about 1e-37. NaN goes through; the products x·σ(x) and x·Φ(x) are NaN at −∞ and +∞ at
 * +∞, as in PyTorch.
 */
#ifndef WEFT_SIMD_MATH_H
#define WEFT_SIMD_MATH_H

#include "kernels/cpu/simd.h"

INLINE vf vf_abs(vf x) { return (vf)((vi)x & 0x7fffffff); }
INLINE vf vf_copysign(vf size, vf sign) { return (vf)(((vi)size & 0x7fffffff) | ((vi)sign & INT32_MIN)); }

INLINE vf vf_sqrt(vf x) {
#if VL == 16
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif VL == 8
    return (vf)_mm256_sqrt_ps((__m256)x);
#else
    float t[VL];
    vf_store(t, x);
    for (int i = 0; i < VL; i++) t[i] = sqrtf(t[i]);
    return vf_load(t);
#endif
}

/* The nearest whole number, for |x| < 2²². */
INLINE vf vf_round(vf x) {
#if VL == 16
    return (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif VL == 8
    return (vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    return (x + 0x1.8p23f) - 0x1.8p23f;
#endif
}

/* x·2ⁿ for whole n, −150 ≤ n ≤ 130. */
INLINE vf vf_scale2(vf x, vf n) {
#if VL == 16
    return (vf)_mm512_scalef_ps((__m512)x, (__m512)n);
#else
    vi e = (vi)((vu)(n + 0x1.8p23f) - 0x4b400000u), half = e >> 1;      /* in two factors, so that both are normal */
    return x * (vf)((vu)(half + 127) << 23) * (vf)((vu)(e - half + 127) << 23);
#endif
}

/* exp(x + low), where low is a small correction to x. */
INLINE vf vf_exp_sum(vf x, vf low) {
    x = vf_min(vf_set(89), vf_max(vf_set(-104), x));                    /* to 0 and ∞; in this order NaN stays */
    vf n = vf_round(x * 0x1.715476p0f);                                 /* log₂e */
    vf r = ((x - n * 0x1.62e4p-1f) + n * -0x1.7f7d1cp-20f) + low;       /* ln 2, its first 15 bits and the rest */
    /* (eʳ − 1 − r)/r² on ±½ln 2, 3e-9 */
    vf q = r * 0.00138145405f + 0.00836874510f;
    q = q * r + 0.0416683908f;
    q = q * r + 0.166665204f;
    q = q * r + 0.499999934f;
    return vf_scale2((q * (r * r) + r) + 1, n);
}
INLINE vf vf_exp(vf x) { return vf_exp_sum(x, (vf){ 0 }); }

INLINE vf vf_sigmoid(vf x) { return 1 / (1 + vf_exp(-x)); }

INLINE vf vf_silu(vf x) { return x / (1 + vf_exp(-x)); }

INLINE vf vf_quick_gelu(vf x) { return x / (1 + vf_exp(x * -1.702f)); }

/* ½x·(1 + tanh u) = x·σ(2u), u = √(2/π)·(x + 0.044715x³) */
INLINE vf vf_gelu_tanh(vf x) {
    const float k = 1.5957691216f;                                      /* 2√(2/π) */
    return x / (1 + vf_exp(-(x * (x * x * (0.044715f * k) + k))));
}

INLINE vf vf_tanh(vf x) {
    vf a = vf_abs(x), z = x * x;
    /* (tanh a/a − 1)/a² in a² up to 0.625², 5e-9 */
    vf p = z * -0.00570498693f + 0.0206390874f;
    p = p * z + -0.0537397152f;
    p = p * z + 0.133314422f;
    p = p * z + -0.333332819f;
    vf large = 1 - 2 / (vf_exp(a + a) + 1);
    return vf_select(a < 0.625f, p * z * x + x, vf_copysign(large, x));
}

/* Φ(x) = ½·(1 + erf(x/√2)) and √(2π) times its slope, exp(−x²/2).  For a = |x|: Φ(−a) = exp(−a²/2)·t·P(t), t = 1/(1 + 0.3a);
 * Φ(a) = 1 − Φ(−a), so small values keep their relative accuracy. a² goes in two parts: its rounding would count 100-fold in the
 * tail. */
INLINE vf vf_normal(vf x, vf *bell) {
    vf a = vf_min(vf_set(15), vf_abs(x));                               /* Φ(−15) is below the smallest float */
    vf t = 1 / (1 + 0.3f * a);
    /* exp(a²/2)·Φ(−a)/t in t for 0 ≤ a ≤ 15, 4e-9 */
    vf p = t * -0.0206286438f + 0.112464700f;
    p = p * t + -0.228284576f;
    p = p * t + 0.191883018f;
    p = p * t + -0.0795089459f;
    p = p * t + 0.0962048137f;
    p = p * t + 0.0783722569f;
    p = p * t + 0.110239341f;
    p = p * t + 0.119571318f;
    p = p * t + 0.119686717f;
    vf head = (vf)((vi)a & (int32_t)0xfffff000);
    *bell = vf_exp_sum(head * head * -0.5f, (a - head) * (a + head) * -0.5f);
    vf tail = p * t * *bell;
    return vf_select(x < 0, tail, 1 - tail);
}

INLINE vf vf_gelu(vf x) {
    vf bell;
    return x * vf_normal(x, &bell);
}

/* The activations that products and norms apply to what they are about to store. */
INLINE vf vf_activate(weft_activation act, vf x) {
    switch (act) {
    case WEFT_ACT_SILU: return vf_silu(x);
    case WEFT_ACT_GELU: return vf_gelu(x);
    case WEFT_ACT_QUICK_GELU: return vf_quick_gelu(x);
    case WEFT_ACT_GELU_TANH: return vf_gelu_tanh(x);
    case WEFT_ACT_RELU: return vf_select(x < 0, (vf){ 0 }, x);
    default: return x;
    }
}

/* ---- slopes --------------------------------------------------------------------------------------------- */

/* σ(x) and its slope σ(x)·σ(−x), which 1 − σ(x) would make coarse for large x. */
INLINE vf vf_sigmoid_and_slope(vf x, vf *slope) {
    const vf e = vf_exp(-vf_abs(x)), d = 1 / (1 + e);
    *slope = e * d * d;
    return vf_select(x < 0, e * d, d);
}

INLINE vf vf_sigmoid_slope(vf x) {
    vf slope;
    vf_sigmoid_and_slope(x, &slope);
    return slope;
}

INLINE vf vf_tanh_slope(vf x) { return 4 * vf_sigmoid_slope(x + x); }

/* Of x·σ(kx). */
INLINE vf vf_swish_slope(vf x, const float k) {
    vf slope;
    const vf s = vf_sigmoid_and_slope(k == 1 ? x : x * k, &slope);
    return s + x * slope * k;
}

/* Φ(x) + x·φ(x) */
INLINE vf vf_gelu_slope(vf x) {
    vf bell;
    const vf cdf = vf_normal(x, &bell);
    return cdf + x * bell * 0.398942280f;
}

/* Of x·σ(2u): as in vf_gelu_tanh. */
INLINE vf vf_gelu_tanh_slope(vf x) {
    const float k = 1.5957691216f;
    vf square = x * x, slope;
    const vf s = vf_sigmoid_and_slope(x * (square * (0.044715f * k) + k), &slope);
    return s + x * slope * (square * (3 * 0.044715f * k) + k);
}

INLINE vf vf_activate_slope(weft_activation act, vf x) {
    switch (act) {
    case WEFT_ACT_SILU: return vf_swish_slope(x, 1);
    case WEFT_ACT_GELU: return vf_gelu_slope(x);
    case WEFT_ACT_QUICK_GELU: return vf_swish_slope(x, 1.702f);
    case WEFT_ACT_GELU_TANH: return vf_gelu_tanh_slope(x);
    case WEFT_ACT_RELU: return vf_select(x <= 0, (vf){ 0 }, vf_set(1));
    default: return vf_set(1);
    }
}

#endif
