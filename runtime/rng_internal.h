/* What the files of the random numbers share: the generator's state and its raw draws. */
#ifndef WEFT_RNG_INTERNAL_H
#define WEFT_RNG_INTERNAL_H

#include "runtime/rng.h"

#define RNG_MT_WORDS 624

struct weft_rng {
    weft_rng_kind kind;
    uint64_t seed;
    /* CPU: MT19937. `next` is the word to hand out; RNG_MT_WORDS: the state must be renewed first. */
    uint32_t word[RNG_MT_WORDS];
    uint32_t next;
    bool has_normal;        /* the pair's second half, kept for the next draw of fewer than 16 normals */
    double normal;
    /* CUDA: 32-bit numbers used up by each thread's sequence, and the grid to imitate. */
    uint64_t offset;
    int multiprocessors, threads_each;
};

/* Uniform in [0, 1): torch takes the low 24 bits of one draw, the low 53 bits of two. */
static inline float rng_mt_f32(weft_rng *r) { return (float)(weft_rng_u32(r) & 0xffffffu) * 0x1p-24f; }
static inline double rng_mt_f64(weft_rng *r) { return (double)(weft_rng_u64(r) & 0x1fffffffffffffu) * 0x1p-53; }

/* Two normals of u1 in (0, 1] and u2 in [0, 1), the same bits on every machine. */
void rng_box_muller(float u1, float u2, float *cosine, float *sine);

void rng_mt_randn_f32(weft_rng *r, float *dst, int64_t n);
void rng_mt_randn_f64(weft_rng *r, double *dst, int64_t n);

/* What the kernel `philox` is asked for n numbers at dst; the generator goes on behind them. */
weft_philox_args rng_philox_reals(weft_rng *r, weft_dtype type, bool uniform, void *dst, int64_t n);
void rng_philox_randint(weft_rng *r, int64_t *dst, int64_t n, int64_t low, uint64_t range);

#endif
