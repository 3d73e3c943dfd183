/* Random numbers equal to PyTorch's, bit for bit where PyTorch's own are reproducible.
 *
 * "cpu": MT19937 as in torch.Generator("cpu"), with both of randn's paths (vectorised Box–Muller in blocks of 16 for
 * 16 elements or more, pairwise in double below). "cuda": Philox4x32-10 counters as torch's CUDA generator lays them
 * out over a grid.  Numbers are drawn in dense NCHW order: give the shape in the outside order, then weft_to_nhwc().
 */
#ifndef WEFT_RNG_H
#define WEFT_RNG_H

#include "runtime/weft.h"

typedef enum weft_rng_kind { WEFT_RNG_CPU, WEFT_RNG_CUDA } weft_rng_kind;

/* Seeds are 64 bits; MT19937 takes the low 32, as PyTorch does. NULL without memory, with the error set. */
weft_rng *weft_rng_new(weft_ctx *c, weft_rng_kind kind, uint64_t seed);
void weft_rng_free(weft_rng *r);                    /* takes NULL */
void weft_rng_seed(weft_rng *r, uint64_t seed);     /* manual_seed: also drops a cached normal and resets the offset */

/* The whole state as bytes, for resuming a run: *size in: room, out: used. false where room is short (size is then
 * what is needed). */
bool weft_rng_save(const weft_rng *r, void *state, size_t *size);
bool weft_rng_load(weft_rng *r, const void *state, size_t size);    /* false for bytes that are no state of this kind */

uint32_t weft_rng_u32(weft_rng *r);     /* the next raw draw (WEFT_RNG_CPU only; 0 otherwise) */
uint64_t weft_rng_u64(weft_rng *r);     /* first draw high */

/* torch.randn / rand / randint(low, high) / randperm(n) on plain memory. low < high. */
void weft_rng_randn_f32(weft_rng *r, float *dst, int64_t n);
void weft_rng_randn_f64(weft_rng *r, double *dst, int64_t n);
void weft_rng_rand_f32(weft_rng *r, float *dst, int64_t n);
void weft_rng_rand_f64(weft_rng *r, double *dst, int64_t n);
void weft_rng_randint(weft_rng *r, int64_t *dst, int64_t n, int64_t low, int64_t high);
void weft_rng_randperm(weft_rng *r, int64_t *dst, int64_t n);

/* For WEFT_RNG_CUDA: multiprocessors and threads a multiprocessor of the GPU to imitate (from about 200 000 elements
 * on, PyTorch's numbers depend on it). Default: 108 × 2048 (A100). */
void weft_rng_set_grid(weft_rng *r, int multiprocessors, int threads_each);

/* One block of Philox4x32-10: four numbers that depend on the arguments alone, for draws that must come out the same in
 * whatever order, and on whatever thread, they are made. */
void weft_philox(uint64_t seed, uint64_t counter, uint64_t sequence, uint32_t out[4]);

/* The same as tensors of f32 or f64 (randn, rand) or i64, in the innermost scope. */
weft_tensor *weft_randn(weft_ctx *c, weft_rng *r, weft_dtype type, int rank, const int64_t *shape);
weft_tensor *weft_rand(weft_ctx *c, weft_rng *r, weft_dtype type, int rank, const int64_t *shape);
weft_tensor *weft_randint(weft_ctx *c, weft_rng *r, int64_t low, int64_t high, int rank, const int64_t *shape);
weft_tensor *weft_randperm(weft_ctx *c, weft_rng *r, int64_t n);

#endif
