/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and how PyTorch's CUDA generator lays its
 * numbers out over a grid of threads: for all back ends and for the runtime.
 *
 * Thread t of G draws blocks of four 32-bit words: key = seed, counter = (number of the block, t), both 64 bits wide. Component i of a
 * thread's b-th block is element t + G·(4b + i). A word x is the uniform number (x + ½)·2⁻³², 1 read as 0; two words are two normal
 * ones (Box–Muller): √(−2·ln u)·(sin v, cos v), with u of the first and v of the second, times 2π. Of 64-bit numbers a block gives two,
 * each from two words: element t + G·(2b + i).
 */
#ifndef WEFT_PHILOX_H
#define WEFT_PHILOX_H

#include <stdint.h>

#ifdef __CUDACC__
#define PHILOX_FUNCTION static __host__ __device__ __forceinline__
#else
#define PHILOX_FUNCTION static inline
#endif

#define PHILOX_TWO_PI (2.3283064e-10f * 6.2831855f)     /* 2π·2⁻³²: a float product, as cuRAND has it */

PHILOX_FUNCTION void philox_words(uint64_t seed, uint64_t counter, uint64_t sequence, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)sequence,
             c3 = (uint32_t)(sequence >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

#endif
