/* Random numbers as PyTorch's CUDA generator makes them: see kernels/philox.h.
 *
 * A GPU takes sine and cosine from a quick approximation (off by up to about 4e-7); here they are the C library's.
 */
#include <math.h>
#include "kernels/cpu/threads.h"
#include "kernels/philox.h"

static void box_muller(uint32_t x, uint32_t y, float out[2]) {
    const float u = fmaf((float)x, 0x1p-32f, 0x1p-33f), v = fmaf((float)y, PHILOX_TWO_PI, PHILOX_TWO_PI / 2);
    const float radius = sqrtf(-2 * logf(u));
    out[0] = radius * sinf(v);
    out[1] = radius * cosf(v);
}

static void numbers(const uint32_t x[4], bool uniform, float out[4]) {
    if (!uniform) {
        box_muller(x[0], x[1], out);
        box_muller(x[2], x[3], out + 2);
        return;
    }
    for (int i = 0; i < 4; i++) {
        const float u = fmaf((float)x[i], 0x1p-32f, 0x1p-33f);
        out[i] = u == 1 ? 0 : u;
    }
}

/* A piece is a block of four words of each of the grid's threads. */
int ISA_NAME(philox)(const weft_env *env, const weft_philox_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    float *y = a->y;
    const int64_t blocks = a->n < 1 ? 0 : (a->n - 1) / (4 * a->threads) + 1, pieces = blocks * a->threads;
#pragma omp parallel for schedule(static) num_threads(threads_for(env, (double)a->n * 32))
    for (int64_t p = 0; p < pieces; p++) {
        const int64_t b = p / a->threads, t = p % a->threads;
        uint32_t x[4];
        float z[4];
        if (t + 4 * b * a->threads >= a->n) continue;
        philox_words(a->seed, a->counter + (uint64_t)b, (uint64_t)t, x);
        numbers(x, a->uniform, z);
        for (int i = 0; i < 4; i++) {
            const int64_t at = t + a->threads * (4 * b + i);
            if (at < a->n) y[at] = z[i];
        }
    }
    return WEFT_K_OK;
}
