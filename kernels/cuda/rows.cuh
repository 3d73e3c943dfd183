/* Kernels that go over rows several times (sum, deviations, result), one team of threads a row: a warp, eight of which
 * make a block, or, for a long row, a block. Each thread has the same packs every time, every blockDim.x-th from
 * threadIdx.x on, which its cache still holds the next time; so a result may also be written where the row was read.
 */
#ifndef WEFT_CUDA_ROWS_CUH
#define WEFT_CUDA_ROWS_CUH

#include "kernels/cuda/sums.cuh"

enum { LARGEST_TEAM = 512 };

typedef struct teams { dim3 grid, block; } teams;

static inline teams teams_of(const weft_env *env, int64_t rows, int64_t packs) {
    const int64_t each = div_up(packs, 4);      /* four packs a thread, if it may be */
    const int64_t warps = least(div_up(each, WARP), LARGEST_TEAM / WARP);
    const unsigned team = (unsigned)warps * WARP, together = warps == 1 ? BLOCK / WARP : 1;
    const int64_t most = (int64_t)cuda_queue_of(env)->processors * (2048 / (team * together));
    return teams{ dim3((unsigned)least(div_up(rows, together), most)), dim3(team, together) };
}

static __device__ __forceinline__ int64_t first_row() { return (int64_t)blockIdx.x * blockDim.y + threadIdx.y; }
static __device__ __forceinline__ int64_t row_step() { return (int64_t)gridDim.x * blockDim.y; }

#endif
