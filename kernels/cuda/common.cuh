/* What every CUDA kernel file begins with: element types, wide loads, grids and launches.
 *
 * A kernel file is C++ as C as it can be: templates over the element type, no classes, no library. It is compiled by
 * nvcc for weft_cuda.so, and as plain C++ for the tests, which run every thread of a block on the CPU
 * (tests/cuda_host). So it holds to what both know: launches go through launch(), shared memory of a size chosen at the
 * launch through shared_memory<T>().
 *
 * Arithmetic is in f32 whatever the 16-bit type, rounded once at the end.
 */
#ifndef WEFT_CUDA_COMMON_CUH
#define WEFT_CUDA_COMMON_CUH

#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>
#include "kernels/cuda/device.h"

typedef __half f16;
typedef __nv_bfloat16 bf16;

/* ---- one element -------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ float to_float(float v) { return v; }
static __device__ __forceinline__ float to_float(f16 v) { return __half2float(v); }
static __device__ __forceinline__ float to_float(bf16 v) { return __bfloat162float(v); }

template <typename T> static __device__ __forceinline__ T from_float(float v);
template <> __device__ __forceinline__ float from_float<float>(float v) { return v; }
template <> __device__ __forceinline__ f16 from_float<f16>(float v) { return __float2half_rn(v); }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float v) { return __float2bfloat16_rn(v); }

/* ---- several at once ---------------------------------------------------------------------------------------- */

/* N elements that one instruction loads where their bytes are 16 (or 8, 4, 2) and the address is a multiple of that. */
template <typename T, int N> struct alignas(sizeof(T) * N) pack { T v[N]; };

template <typename T, int N> static __device__ __forceinline__ pack<T, N> load_pack(const T *p) {
    return *reinterpret_cast<const pack<T, N> *>(p);
}
template <typename T, int N> static __device__ __forceinline__ void store_pack(T *p, const pack<T, N> &v) {
    *reinterpret_cast<pack<T, N> *>(p) = v;
}

/* Elements in 16 bytes. */
template <typename T> constexpr int wide() { return 16 / (int)sizeof(T); }

static inline bool is_wide(const void *p) { return (size_t)p % 16 == 0; }

/* ---- launches ----------------------------------------------------------------------------------------------- */

enum { BLOCK = 256 };       /* threads of a block, where a kernel has no reason for another number */

static inline int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* A grid of one dimension for this many items, each a block's, in a loop that steps by the grid. */
static inline unsigned grid_of(int64_t items) { return (unsigned)least(items, INT32_MAX); }

/* Blocks for a loop over n items in steps of the whole grid: enough to fill the device, no more than there is work. */
static inline unsigned grid_for(const weft_env *env, int64_t n, int block = BLOCK) {
    const int64_t blocks = (n + block - 1) / block, most = (int64_t)cuda_queue_of(env)->processors * (2048 / block);
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

/* The loop's first item and its step, inside a kernel. */
static __device__ __forceinline__ int64_t grid_first() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }
static __device__ __forceinline__ int64_t grid_step() { return (int64_t)gridDim.x * blockDim.x; }

/* Puts a kernel into the environment's queue; `who` names it in messages, `shared` is the bytes of shared_memory(). */
template <typename... P, typename... A>
static inline int launch(const weft_env *env, const char *who, dim3 grid, dim3 block, size_t shared,
                         void (*kernel)(P...), A &&...args) {
    const cuda_queue *q = cuda_queue_of(env);
    const int status = cuda_enter(q);
    if (status) return status;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = q->stream;
    return cuda_asked(q, cudaLaunchKernelEx(&config, kernel, (A &&)args...), who);
}

/* Shared memory of the size given at the launch. More than 48 KiB must be allowed for the kernel first
 * (cudaFuncSetAttribute). */
#ifdef __CUDACC__
template <typename T> static __device__ __forceinline__ T *shared_memory() {
    extern __shared__ __align__(16) unsigned char weft_shared[];
    return reinterpret_cast<T *>(weft_shared);
}
#endif

/* ---- types -------------------------------------------------------------------------------------------------- */

/* Calls DO(T) with the element type of a floating-point weft_dtype; leaves the function with WEFT_K_NO_TYPE for
 * another. */
#define EACH_FLOAT(type, DO) \
    switch (type) { \
    case WEFT_F32: DO(float); break; \
    case WEFT_F16: DO(f16); break; \
    case WEFT_BF16: DO(bf16); break; \
    default: return WEFT_K_NO_TYPE; \
    }

#endif
