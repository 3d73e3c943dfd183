/* Sums and largest values over threads, always in the same order, so that equal input gives equal bytes: over a warp,
 * over a block, over the rows of a block's tile, over the blocks of a kernel.
 *
 * A function of many threads must be called by all of them: shuffles and barriers wait for every lane and every thread.
 */
#ifndef WEFT_CUDA_SUMS_CUH
#define WEFT_CUDA_SUMS_CUH

#include "kernels/cuda/common.cuh"

enum { WARP = 32 };
#define ALL_LANES 0xffffffffu

/* ---- threads ------------------------------------------------------------------------------------------------ */

template <typename V> static __device__ __forceinline__ V warp_sum(V v) {
#pragma unroll
    for (int k = WARP / 2; k; k /= 2) v += __shfl_xor_sync(ALL_LANES, v, k);
    return v;
}

/* NaN is passed over. */
static __device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int k = WARP / 2; k; k /= 2) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, k));
    return v;
}

/* Of a team: blockDim.x threads, a multiple of 32. A team of one warp is one of several in its block (threadIdx.y); a
 * larger one is the whole block. */
template <typename V> static __device__ __forceinline__ V team_sum(V v) {
    __shared__ V parts[WARP];
    v = warp_sum(v);
    if (blockDim.x == WARP) return v;
    __syncthreads();                            /* the last call's parts have been read */
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = v;
    __syncthreads();
    v = parts[0];
    for (unsigned i = 1; i < blockDim.x / WARP; i++) v += parts[i];
    return v;
}

static __device__ __forceinline__ float team_max(float v) {
    __shared__ float parts[WARP];
    v = warp_max(v);
    if (blockDim.x == WARP) return v;
    __syncthreads();
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = v;
    __syncthreads();
    v = parts[0];
    for (unsigned i = 1; i < blockDim.x / WARP; i++) v = fmaxf(v, parts[i]);
    return v;
}

/* Joins the n values that each of a tile's threads has with those of the threads below it; row 0 gets the result. A
 * block's threads are numbered along a tile's row first: thread t stands in row t/wide % high. slots: N·BLOCK. */
template <int N, typename V, typename F>
static __device__ __forceinline__ void join_rows(const F &f, V (&v)[N], int n, V *slots, int wide, int high) {
    const int row = (int)threadIdx.x / wide % high;
    if (high == 1) return;
    __syncthreads();                            /* the slots' last use is over */
#pragma unroll
    for (int k = 0; k < N; k++)
        if (k < n) slots[k * BLOCK + threadIdx.x] = v[k];
    for (int left = high; left > 1;) {
        const int half = (left + 1) / 2;
        __syncthreads();
        /* Threads behind the block's last tile have no partner: their row says so, or the block's end. */
        if (row < left - half && threadIdx.x + half * wide < blockDim.x) {
#pragma unroll
            for (int k = 0; k < N; k++)
                if (k < n)
                    slots[k * BLOCK + threadIdx.x] = v[k] = f.join(v[k], slots[k * BLOCK + threadIdx.x + half * wide]);
        }
        left = half;
    }
}

struct plus {
    template <typename V> __device__ __forceinline__ V join(V a, V b) const { return a + b; }
};

/* ---- blocks ------------------------------------------------------------------------------------------------- */

/* True in that of `blocks` blocks which comes last, and it then sees what all of them wrote before. ticket: one of the
 * queue's. */
static __device__ __forceinline__ bool is_last_block(unsigned *ticket, unsigned blocks) {
    __shared__ bool last;
    __syncthreads();                            /* all of this block's threads have written */
    if (threadIdx.x == 0) {
        __threadfence();                        /* … for others to see, before the ticket is taken */
        last = atomicAdd(ticket, 1u) == blocks - 1;
        if (last) *ticket = 0;                  /* for the next kernel */
        __threadfence();
    }
    __syncthreads();
    return last;
}

#endif
