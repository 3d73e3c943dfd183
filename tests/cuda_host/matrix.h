/* Stands in for the PTX of kernels/cuda/mma.cuh, lane by lane: what each holds is laid out as there.
 *
 * The lanes of a warp meet once in every product or load, so all of them must call it. A copy into shared memory happens
 * where it is asked for, or a few of the thread's barriers later, or as late as it may, at the wait, by chance: so a missing
 * wait shows, and so does a barrier missing before the copy.
 *
 * With WEFT_FAKE_CUDA=turing in the environment it is sm_75 that is stood in for: products are eight deep, and copies happen
 * at once.
 */
#ifndef FAKE_MATRIX_H
#define FAKE_MATRIX_H

#include <cfloat>
#include <cstdio>
#include <cstdlib>
#include "cuda_bf16.h"
#include "cuda_fp16.h"

static inline float fake_half_of(uint32_t two, int which, __half) {
    return __half2float({ (unsigned short)(two >> 16 * which) });
}
static inline float fake_half_of(uint32_t two, int which, __nv_bfloat16) {
    return __bfloat162float({ (unsigned short)(two >> 16 * which) });
}

#define EIGHT_DEEP fake_is_turing()

/* What a lane gives the others: kept until all have read it, which they have when it comes here the time after next. */
struct fake_factors { float a[8], b[4]; };

/* Products of 16-bit values are exact in f32; their sum is cut off, not rounded, as tensor cores do. halves: 1 or 2, 8 deep
 * each. */
template <typename T> static inline void fake_multiply(float c[4], const uint32_t *a, const uint32_t *b, int halves) {
    static fake_factors kept[2][32];
    static unsigned turn[32];
    const unsigned lane = fake_lane(), g = lane / 4, t = lane % 4;
    fake_factors *mine = &kept[turn[lane]++ % 2][lane];
    for (int i = 0; i < 4 * halves; i++) mine->a[i] = fake_half_of(a[i / 2], i % 2, T());
    for (int i = 0; i < 2 * halves; i++) mine->b[i] = fake_half_of(b[i / 2], i % 2, T());
    const uint64_t *all = fake_exchange(0xffffffffu, (uint64_t)(uintptr_t)mine);
    for (int i = 0; i < 4; i++) {
        double sum = c[i];
        for (int k = 0; k < 8 * halves; k++) {
            const fake_factors *row = (const fake_factors *)(uintptr_t)all[g * 4 + k % 8 / 2];
            const fake_factors *column = (const fake_factors *)(uintptr_t)all[(2 * t + i % 2) * 4 + k % 8 / 2];
            sum += (double)row->a[(i / 2 + k / 8 * 2) * 2 + k % 2] * column->b[k / 8 * 2 + k % 2];
        }
        const float nearest = (float)sum;
        c[i] = fabs(nearest) > fabs(sum) ? nextafterf(nearest, 0) : nearest;
    }
}

template <typename T> static inline void multiply_16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    fake_multiply<T>(c, a, b, 2);
}
/* Of f16 alone: what is asked for bf16 there is wrong. */
static inline void multiply_8(float c[4], uint32_t a0, uint32_t a1, uint32_t b) {
    const uint32_t a[2] = { a0, a1 };
    fake_multiply<__half>(c, a, &b, 1);
}

static inline void fake_check_16(const void *p, const char *who) {
    if ((uintptr_t)p % 16 == 0) return;
    fprintf(stderr, "emulated CUDA: %s at an address that is no multiple of 16 bytes\n", who);
    abort();
}

template <typename T> static inline void load_matrices(uint32_t r[4], const T *row) {
    fake_check_16(row, "ldmatrix");
    const uint64_t *rows = fake_exchange(0xffffffffu, (uint64_t)(uintptr_t)row);
    for (unsigned i = 0; i < 4; i++)
        memcpy(&r[i], (const char *)(uintptr_t)rows[8 * i + fake_lane() / 4] + 4 * (fake_lane() % 4), 4);
}
template <typename T> static inline void load_matrices_turned(uint32_t r[4], const T *row) {
    fake_check_16(row, "ldmatrix");
    const uint64_t *rows = fake_exchange(0xffffffffu, (uint64_t)(uintptr_t)row);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 2; k++)
            memcpy((char *)&r[i] + 2 * k,
                   (const char *)(uintptr_t)rows[8 * i + 2 * (fake_lane() % 4) + k] + 2 * (fake_lane() / 4), 2);
}

/* copies.cpp: of the thread that runs. */
void copy_16(void *to, const void *from, bool there);
void copies_end();
void fake_copies_wait(unsigned left);
template <int left> static inline void copies_wait() { fake_copies_wait(left); }

static inline float exp2_quick(float x) {
    const float y = fake_off(exp2f(x), 2);
    return y < FLT_MIN ? 0 : y;
}

#endif
