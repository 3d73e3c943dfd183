/* Stands in for CUDA's header of this name: the device language for the CPU. A kernel is a plain function, run once for
 * every thread of every block; threads of a block wait for one another where the kernel says so (threads.cpp).
 *
 * Known: threadIdx and the like, __shared__, __syncthreads, __syncwarp, shuffles and votes of whole or partial warps,
 * atomics, the intrinsics below. What is missing is added here when a kernel needs it.
 */
#ifndef FAKE_CUDA_RUNTIME_H
#define FAKE_CUDA_RUNTIME_H

#include <cmath>
#include <cstring>
#include <functional>
#include "cuda_runtime_api.h"

#define __host__
#define __device__
#define __global__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static       /* the blocks run one after another */
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) double2 { double x, y; };
static inline float2 make_float2(float x, float y) { return { x, y }; }
static inline float4 make_float4(float x, float y, float z, float w) { return { x, y, z, w }; }
static inline int2 make_int2(int x, int y) { return { x, y }; }
static inline int4 make_int4(int x, int y, int z, int w) { return { x, y, z, w }; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return { x, y }; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return { x, y, z, w }; }

/* ---- threads.cpp -------------------------------------------------------------------------------------------- */

extern uint3 threadIdx, blockIdx;               /* of the thread that runs */
extern dim3 blockDim, gridDim;
#define warpSize 32

void __syncthreads();
int __syncthreads_or(int v);
int __syncthreads_and(int v);
int __syncthreads_count(int v);
void __syncwarp(unsigned mask = 0xffffffffu);
/* Every lane of the mask gives 8 bytes and gets all 32 lanes' (others': as they were); a lane's number is its thread's
 * mod 32. */
const uint64_t *fake_exchange(unsigned mask, uint64_t mine);
unsigned fake_lane();
void *fake_shared_memory();
/* copies.cpp: some of the running thread's copies into shared memory, which may happen at any time. */
void fake_copies_land();
template <typename T> static T *shared_memory() { return static_cast<T *>(fake_shared_memory()); }
/* Runs a kernel over a grid, now. */
void fake_run(const std::function<void()> &kernel, const void *function, dim3 grid, dim3 block, size_t shared);
/* Puts work into a stream's queue. */
cudaError_t fake_enqueue(cudaStream_t stream, std::function<void()> work);
/* For such work: it takes so many milliseconds longer, by the events' clock. Else work takes one. */
void fake_spend(int ms);
/* Whether the device is of compute capability 7.5. */
bool fake_is_turing();

/* ---- launches ----------------------------------------------------------------------------------------------- */

struct cudaLaunchAttribute { int id; };
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
    cudaLaunchAttribute *attrs = nullptr;
    unsigned numAttrs = 0;
};
cudaError_t fake_check_launch(const cudaLaunchConfig_t &c, const void *function);

template <typename... P, typename... A>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...), A &&...arguments) {
    const cudaLaunchConfig_t c = *config;
    cudaError_t status = fake_check_launch(c, (const void *)kernel);
    if (status != cudaSuccess) return status;
    auto bound = [](void (*k)(P...), P... values) {
        return std::function<void()>([=] { k(values...); });
    }(kernel, (P)arguments...);
    return fake_enqueue(c.stream,
                        [=] { fake_run(bound, (const void *)kernel, c.gridDim, c.blockDim, c.dynamicSmemBytes); });
}

template <typename... P>
static inline cudaError_t cudaFuncSetAttribute(void (*f)(P...), cudaFuncAttribute attribute, int value) {
    return cudaFuncSetAttribute((const void *)f, attribute, value);
}

/* ---- warps -------------------------------------------------------------------------------------------------- */

template <typename T> static inline uint64_t fake_bits(T v) {
    static_assert(sizeof(T) <= 8, "shuffles take up to 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &v, sizeof v);
    return bits;
}
template <typename T> static inline T fake_value(uint64_t bits) {
    T v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}
template <typename T> static inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32) {
    const unsigned first = fake_lane() / width * width;
    return fake_value<T>(fake_exchange(mask, fake_bits(v))[first + (unsigned)lane % width]);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32) {
    const unsigned me = fake_lane(), from = me ^ (unsigned)lanes;
    const uint64_t *all = fake_exchange(mask, fake_bits(v));
    return from / width == me / width ? fake_value<T>(all[from]) : v;
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    const unsigned me = fake_lane(), from = me + by;
    const uint64_t *all = fake_exchange(mask, fake_bits(v));
    return from / width == me / width ? fake_value<T>(all[from]) : v;
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
    const unsigned me = fake_lane();
    const uint64_t *all = fake_exchange(mask, fake_bits(v));
    return me % width >= by ? fake_value<T>(all[me - by]) : v;
}
static inline unsigned __ballot_sync(unsigned mask, int v) {
    const uint64_t *all = fake_exchange(mask, v != 0);
    unsigned votes = 0;
    for (int i = 0; i < 32; i++) votes |= (mask >> i & 1) && all[i] ? 1u << i : 0;
    return votes;
}
static inline int __any_sync(unsigned mask, int v) { return __ballot_sync(mask, v) != 0; }
static inline int __all_sync(unsigned mask, int v) { return __ballot_sync(mask, v) == mask; }

/* ---- atomics: the threads run one at a time ------------------------------------------------------------------- */

template <typename T> static inline T atomicAdd(T *p, T v) { T old = *p; *p = old + v; return old; }
template <typename T> static inline T atomicSub(T *p, T v) { T old = *p; *p = old - v; return old; }
template <typename T> static inline T atomicMax(T *p, T v) { T old = *p; if (v > old) *p = v; return old; }
template <typename T> static inline T atomicMin(T *p, T v) { T old = *p; if (v < old) *p = v; return old; }
template <typename T> static inline T atomicOr(T *p, T v) { T old = *p; *p = old | v; return old; }
template <typename T> static inline T atomicExch(T *p, T v) { T old = *p; *p = v; return old; }
template <typename T> static inline T atomicCAS(T *p, T expected, T v) {
    T old = *p;
    if (old == expected) *p = v;
    return old;
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

/* ---- functions and intrinsics ------------------------------------------------------------------------------- */

/* The device's functions are off by up to so many units in the last place (CUDA C++ Programming Guide, "Mathematical
 * Functions"); these too, up or down as the result's bits fall. Zeros, ones and what is not finite are exact. */
static inline float fake_off(float v, int ulps) {
    const unsigned bits = fake_value<unsigned>(fake_bits(v));
    if ((bits & 0x7fffffff) <= (unsigned)ulps || fabsf(v) == 1 || (bits & 0x7f800000) == 0x7f800000) return v;
    return fake_value<float>(fake_bits(bits + (bits * 2654435761u >> 16) % (2u * ulps + 1) - ulps));
}
static inline float fake_expf(float v) { return fake_off(expf(v), 2); }
static inline float fake_logf(float v) { return fake_off(logf(v), 1); }
static inline float fake_erfcf(float v) { return fake_off(erfcf(v), 4); }
static inline float fake_tanhf(float v) { return fake_off(tanhf(v), 2); }
static inline float fake_sinf(float v) { return fake_off(sinf(v), 2); }
static inline float fake_cosf(float v) { return fake_off(cosf(v), 2); }
#define expf fake_expf
#define logf fake_logf
#define erfcf fake_erfcf
#define tanhf fake_tanhf
#define sinf fake_sinf
#define cosf fake_cosf

template <typename T> static inline T __ldg(const T *p) { return *p; }
static inline int __float_as_int(float v) { return fake_value<int>(fake_bits(v)); }
static inline unsigned __float_as_uint(float v) { return fake_value<unsigned>(fake_bits(v)); }
static inline float __int_as_float(int v) { return fake_value<float>(fake_bits(v)); }
static inline float __uint_as_float(unsigned v) { return fake_value<float>(fake_bits(v)); }
static inline float rsqrtf(float v) { return 1 / sqrtf(v); }
static inline double rsqrt(double v) { return 1 / sqrt(v); }
#define __sincosf(v, s, c) sincosf(v, s, c)
#define __expf(v) expf(v)       /* the C library has such names too */
#define __logf(v) logf(v)
#define __sinf(v) sinf(v)
#define __cosf(v) cosf(v)
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float v) { return sqrtf(v); }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline float normcdff(float v) { return 0.5f * erfcf(-v * 0.707106781f); }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline void __trap() { __builtin_trap(); }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline long min(long a, long b) { return a < b ? a : b; }
static inline long max(long a, long b) { return a > b ? a : b; }
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

#endif
