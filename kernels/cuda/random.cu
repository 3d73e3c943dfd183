/* Random numbers as PyTorch's CUDA generator makes them: see kernels/philox.h. A thread here makes a block of one of the
 * generator's threads; those of a warp write neighbours.
 *
 * Sine and cosine are the quick ones, as in cuRAND (curand_normal.h), so that the numbers are PyTorch's to the bit.
 */
#include "kernels/cuda/common.cuh"
#include "kernels/philox.h"

static __device__ __forceinline__ void box_muller(uint32_t x, uint32_t y, float out[2]) {
    const float u = fmaf((float)x, 2.3283064e-10f, 2.3283064e-10f / 2),
                v = fmaf((float)y, PHILOX_TWO_PI, PHILOX_TWO_PI / 2), radius = sqrtf(-2.0f * logf(u));
    __sincosf(v, &out[0], &out[1]);
    out[0] *= radius;
    out[1] *= radius;
}

/* cuRAND gives (0, 1]; PyTorch turns 1 into 0. */
static __device__ __forceinline__ float uniform(uint32_t x) {
    const float u = fmaf((float)x, 2.3283064e-10f, 2.3283064e-10f / 2);
    return u == 1 ? 0 : u;
}

static __global__ void __launch_bounds__(BLOCK)
philox_kernel(int64_t n, int64_t threads, int64_t blocks, uint64_t seed, uint64_t counter, bool is_uniform, float *y) {
    for (int64_t i = grid_first(); i < blocks * threads; i += grid_step()) {
        const int64_t b = i / threads, t = i - b * threads;
        uint32_t x[4];
        float z[4];
        philox_words(seed, counter + (uint64_t)b, (uint64_t)t, x);
        if (is_uniform) {
#pragma unroll
            for (int k = 0; k < 4; k++) z[k] = uniform(x[k]);
        } else {
            box_muller(x[0], x[1], z);
            box_muller(x[2], x[3], z + 2);
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int64_t at = t + threads * (4 * b + k);
            if (at < n) y[at] = z[k];
        }
    }
}

int weft_cuda_philox(const weft_env *env, const weft_philox_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (a->n < 1) return WEFT_K_OK;
    const int64_t blocks = (a->n - 1) / (4 * a->threads) + 1;
    return launch(env, "philox", grid_for(env, blocks * a->threads), BLOCK, 0, philox_kernel, a->n, a->threads, blocks,
                  a->seed, a->counter, a->uniform != 0, (float *)a->y);
}
