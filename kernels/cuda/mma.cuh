/* What tensor cores take and give, a warp at a time: small products, the loads that lay matrices out for them, and
 * copies into shared memory that run beside the computing. Source: NVIDIA's PTX ISA: mma.m16n8k16, mma.m16n8k8,
 * ldmatrix, cp.async. For a compiler that knows no PTX the same functions are in tests/cuda_host/matrix.h.
 *
 * With g = lane / 4 and t = lane % 4, a lane holds, of 16-bit values two to a register:
 *   a (16 × 16)    a[0] (g, 2t…), a[1] (g + 8, 2t…), a[2] (g, 8 + 2t…), a[3] (g + 8, 8 + 2t…)
 *   b (16 × 8)     b[0] (2t…, g), b[1] (8 + 2t…, g): two values of one column
 *   c (16 × 8)     f32: c[0], c[1] (g, 2t…), c[2], c[3] (g + 8, 2t…)
 * so two neighbouring c are, rounded and packed, one a.
 *
 * sm_75 multiplies f16 only, eight deep, and copies through registers.
 */
#ifndef WEFT_CUDA_MMA_CUH
#define WEFT_CUDA_MMA_CUH

#include <string.h>
#include "kernels/cuda/common.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define ONLY_F16_MMA 1
#else
#define ONLY_F16_MMA 0
#endif

/* Whether the architecture that is compiled for multiplies T. */
template <typename T> struct mma_type { enum { there = 0 }; };
template <> struct mma_type<f16> { enum { there = 1 }; };
template <> struct mma_type<bf16> { enum { there = !ONLY_F16_MMA }; };

/* Whether the device does, with the code that is there for it: what was built for sm_75 alone runs on later ones too, by
 * way of its PTX. */
template <typename... P>
static inline bool multiplies(const cuda_queue *q, weft_dtype type, void (*kernel)(P...)) {
    if (type != WEFT_BF16) return type == WEFT_F16;
    cudaFuncAttributes a;
    if (q->capability < 80 || cuda_enter(q)) return false;
    return cudaFuncGetAttributes(&a, (const void *)kernel) != cudaSuccess || a.ptxVersion >= 80 || a.ptxVersion == 0;
}

#ifdef __CUDACC__

/* ---- products: c += a·b ------------------------------------------------------------------------------------- */

template <typename T>
static __device__ __forceinline__ void multiply_16(float c[4], const uint32_t a[4], const uint32_t b[2]);

#if !ONLY_F16_MMA
#define MULTIPLY_16(T, name) \
    template <> __device__ __forceinline__ void multiply_16<T>(float c[4], const uint32_t a[4], const uint32_t b[2]) { \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 " \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); \
    }
MULTIPLY_16(f16, "f16")
MULTIPLY_16(bf16, "bf16")
#undef MULTIPLY_16
#endif

/* Half as deep: a[0], a[1] and b[0] of the above. */
static __device__ __forceinline__ void multiply_8(float c[4], uint32_t a0, uint32_t a1, uint32_t b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(b));
}

/* ---- loads -------------------------------------------------------------------------------------------------- */

/* Four 8 × 8 matrices: lanes 8i to 8i + 7 point to the rows of matrix i, 16 bytes each, on a multiple of 16 bytes; r[i] is
 * (g, 2t…) of matrix i. Turned over: (2t…, g). */
template <typename T> static __device__ __forceinline__ void load_matrices(uint32_t r[4], const T *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}
template <typename T> static __device__ __forceinline__ void load_matrices_turned(uint32_t r[4], const T *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* ---- copies ------------------------------------------------------------------------------------------------- */

/* 16 bytes into shared memory, both sides on a multiple of 16 bytes; zeros where they are not `there`, and `from` is
 * then not read. Done, for the thread that asked, after copies_wait(); for the others after a barrier behind that. */
static __device__ __forceinline__ void copy_16(void *to, const void *from, bool there) {
#if ONLY_F16_MMA
    *(uint4 *)to = there ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
                 : "memory");
#endif
}

/* Ends a group of copies. */
static __device__ __forceinline__ void copies_end() {
#if !ONLY_F16_MMA
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Until no more than the last `left` groups are under way. */
template <int left> static __device__ __forceinline__ void copies_wait() {
#if !ONLY_F16_MMA
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
#endif
}

/* 2ˣ, off by up to 2⁻²² of it; 0 where that is less than the smallest normal number. */
static __device__ __forceinline__ float exp2_quick(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#else
#include <matrix.h>
#endif

/* Whether products are eight deep; the emulation decides that when it runs. */
#ifndef EIGHT_DEEP
#define EIGHT_DEEP ONLY_F16_MMA
#endif

/* c(16 × 8) += a(16 × 16)·b(16 × 8) */
template <typename T>
static __device__ __forceinline__ void multiply(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    if (EIGHT_DEEP) {
        multiply_8(c, a[0], a[1], b[0]);
        multiply_8(c, a[2], a[3], b[1]);
        return;
    }
#if !ONLY_F16_MMA
    multiply_16<T>(c, a, b);
#endif
}

/* Two values in a register, the first in its lower half. */
static __device__ __forceinline__ uint32_t bits_of(__half2 v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}
static __device__ __forceinline__ uint32_t bits_of(__nv_bfloat162 v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}
template <typename T> static __device__ __forceinline__ uint32_t two(float a, float b);
template <> __device__ __forceinline__ uint32_t two<f16>(float a, float b) { return bits_of(__floats2half2_rn(a, b)); }
template <> __device__ __forceinline__ uint32_t two<bf16>(float a, float b) {
    return bits_of(__floats2bfloat162_rn(a, b));
}

/* c and its right neighbour, rounded, as an a. */
template <typename T>
static __device__ __forceinline__ void as_factor(uint32_t a[4], const float left[4], const float right[4]) {
    a[0] = two<T>(left[0], left[1]);
    a[1] = two<T>(left[2], left[3]);
    a[2] = two<T>(right[0], right[1]);
    a[3] = two<T>(right[2], right[3]);
}

#endif
