/* Activations and their slopes, for one f32; the same functions as in kernels/ref/elementwise.c and grad_pointwise.c.
 */
#ifndef WEFT_CUDA_MATH_CUH
#define WEFT_CUDA_MATH_CUH

#include "kernels/cuda/common.cuh"

#define SQRT_HALF 0.707106781f
#define TWO_SQRT_TWO_OVER_PI 1.59576912f
#define ONE_OVER_SQRT_TWO_PI 0.398942280f

static __device__ __forceinline__ float sigmoid(float v) { return 1 / (1 + expf(-v)); }

/* Φ(v); by erfc, which keeps its digits where 1 + erf loses them. */
static __device__ __forceinline__ float normal(float v) { return 0.5f * erfcf(-v * SQRT_HALF); }
static __device__ __forceinline__ float normal_slope(float v) { return expf(-0.5f * v * v) * ONE_OVER_SQRT_TWO_PI; }

static __device__ __forceinline__ float gelu(float v) { return v * normal(v); }
static __device__ __forceinline__ float gelu_slope(float v) { return normal(v) + v * normal_slope(v); }

/* σ(v) and its slope σ(v)·σ(−v), which 1 − σ(v) would make coarse for large v. */
static __device__ __forceinline__ float sigmoid_and_slope(float v, float *slope) {
    const float e = expf(-fabsf(v)), d = 1 / (1 + e);
    *slope = e * d * d;
    return v < 0 ? e * d : d;
}

/* d/dv of v·σ(kv) */
static __device__ __forceinline__ float swish_slope(float v, float k) {
    float slope;
    const float s = sigmoid_and_slope(k * v, &slope);
    return s + v * slope * k;
}

/* ½v·(1 + tanh u), u = √(2/π)·(v + 0.044715v³), which is v·σ(2u): no digits are lost where tanh is near −1. */
static __device__ __forceinline__ float gelu_tanh(float v) {
    return v * sigmoid(v * (v * v * (0.044715f * TWO_SQRT_TWO_OVER_PI) + TWO_SQRT_TWO_OVER_PI));
}
static __device__ __forceinline__ float gelu_tanh_slope(float v) {
    v = v > 12 ? 12 : v < -12 ? -12 : v;        /* beyond, it is 1 or 0 to the bit, and v² may overflow */
    float slope;
    const float square = v * v,
                s = sigmoid_and_slope(v * (square * (0.044715f * TWO_SQRT_TWO_OVER_PI) + TWO_SQRT_TWO_OVER_PI), &slope);
    return s + v * slope * (TWO_SQRT_TWO_OVER_PI + square * (3 * 0.044715f * TWO_SQRT_TWO_OVER_PI));
}

static __device__ __forceinline__ float activate(weft_activation act, float v) {
    switch (act) {
    case WEFT_ACT_SILU: return v * sigmoid(v);
    case WEFT_ACT_GELU: return gelu(v);
    case WEFT_ACT_QUICK_GELU: return v * sigmoid(1.702f * v);
    case WEFT_ACT_GELU_TANH: return gelu_tanh(v);
    case WEFT_ACT_RELU: return v < 0 ? 0 : v;
    default: return v;
    }
}

/* Several at once. Norms are followed by SiLU or nothing; the others are one piece of code for all kernels that may be
 * asked for them. */
[[maybe_unused]] static __device__ __noinline__ float activate_rare(weft_activation act, float v) {
    return activate(act, v);
}

template <int N> static __device__ __forceinline__ void activate_all(weft_activation act, float (&v)[N]) {
    if (act == WEFT_ACT_NONE) return;
#pragma unroll
    for (int k = 0; k < N; k++) v[k] = act == WEFT_ACT_SILU ? activate(WEFT_ACT_SILU, v[k]) : activate_rare(act, v[k]);
}

static __device__ __forceinline__ float activate_slope(weft_activation act, float v) {
    switch (act) {
    case WEFT_ACT_SILU: return swish_slope(v, 1);
    case WEFT_ACT_GELU: return gelu_slope(v);
    case WEFT_ACT_QUICK_GELU: return swish_slope(v, 1.702f);
    case WEFT_ACT_GELU_TANH: return gelu_tanh_slope(v);
    case WEFT_ACT_RELU: return v <= 0 ? 0 : 1;
    default: return 1;
    }
}

[[maybe_unused]] static __device__ __noinline__ float slope_rare(weft_activation act, float v) {
    return activate_slope(act, v);
}

/* d *= the slope at v. */
template <int N>
static __device__ __forceinline__ void multiply_slopes(weft_activation act, const float (&v)[N], float (&d)[N]) {
    if (act == WEFT_ACT_NONE) return;
#pragma unroll
    for (int k = 0; k < N; k++)
        d[k] *= act == WEFT_ACT_SILU ? activate_slope(WEFT_ACT_SILU, v[k]) : slope_rare(act, v[k]);
}

#endif
