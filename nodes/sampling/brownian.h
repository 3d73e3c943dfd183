/* Noise from a Brownian tree: increments of one fixed path that is a function of seed and time alone, so a sampler that
 * takes other steps walks along the same path. The numbers are torchsde's BrownianTree's, as k-diffusion's noise
 * sampler uses it.
 *
 *   W over [low, high] is √(high − low)·randn; each half of an interval of width h, l and r wide:
 *   W_left = l/h·W + √(l·r/h)·randn,  W_right = W − W_left       times are rounded to 6 decimals
 *   the seeds of these draws: NumPy's SeedSequence of (seed, place in the row, depth), pools of 24 words
 *
 * Sources: Li et al., arXiv:2001.01328 (virtual Brownian tree); torchsde 0.2.6; O'Neill, "Developing a seed_seq
 * alternative" (2015).
 */
#ifndef WEFT_BROWNIAN_H
#define WEFT_BROWNIAN_H

#include "runtime/rng.h"

/* (W(to) − W(from))/√|to − from|, like x (N, h, w, channels), drawn in f32 and NCHW order; the path runs over
 * [low, high], times outside count as its ends. In the innermost scope; NULL with the error set. */
weft_tensor *weft_brownian_noise(weft_ctx *c, weft_tensor *x, uint64_t seed, double low, double high, double from,
                                 double to);

/* Word `at` of NumPy's SeedSequence(seed, spawn_key=(place, depth), pool_size=24).generate_state(); depth < 0: without
 * a spawn key. at < 24. */
uint32_t weft_seed_sequence(uint64_t seed, uint64_t place, int depth, int at);

#endif
