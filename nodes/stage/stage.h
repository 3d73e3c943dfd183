/* What the stage nodes share: rows that the macros of node.h have no name for, and timesteps. */
#ifndef WEFT_STAGE_H
#define WEFT_STAGE_H

#include "nodes/sampling/scheduler.h"

#define WEFT_OPTIONAL_FLOAT_IN(S, f, d, lo, hi, st, h) \
    { #f, "FLOAT", WEFT_PORT_FLOAT, WEFT_PORT_OPTIONAL, offsetof(S, f), d, lo, hi, st, NULL, NULL, NULL, h }
#define WEFT_OPTIONAL_INT_IN(S, f, d, lo, hi, st, h) \
    { #f, "INT", WEFT_PORT_INT, WEFT_PORT_OPTIONAL, offsetof(S, f), d, lo, hi, st, NULL, NULL, NULL, h }
#define WEFT_OPTIONAL_CHOICE_IN(S, f, c, d, h) \
    { #f, "COMBO", WEFT_PORT_CHOICE, WEFT_PORT_OPTIONAL, offsetof(S, f), 0, 0, 0, 0, d, c, NULL, h }
#define WEFT_OPTIONAL_TEXT_IN(S, f, d, h) \
    { #f, "STRING", WEFT_PORT_STRING, WEFT_PORT_OPTIONAL | WEFT_PORT_MULTILINE, offsetof(S, f), 0, 0, 0, 0, d, NULL, \
      NULL, h }
#define WEFT_OPTIONAL_SEED_IN(S, f, h) \
    { #f, "INT", WEFT_PORT_INT, WEFT_PORT_U64 | WEFT_PORT_SEED | WEFT_PORT_OPTIONAL, offsetof(S, f), 0, 0, \
      18446744073709551615.0, 1, NULL, NULL, NULL, h }

/* Whether a step lies within a scheduler's evaluations (with `end`: or is the end behind them); the error says so. */
bool weft_want_step(weft_ctx *c, const weft_scheduler *s, int64_t step, bool end);

/* Training: α and σ, each (N, 1, 1, …) of x's rank and type, at whole timesteps (a tensor of one for all images or of
 * N, any type of number), in the scheduler's units. False with the error set. */
bool weft_training_levels(weft_ctx *c, const weft_scheduler *s, weft_tensor *timesteps, weft_tensor *x,
                          weft_tensor **alpha, weft_tensor **sigma);
/* The same timesteps as plain numbers, checked; malloc'd, *count of them. NULL with the error set. */
double *weft_training_timesteps(weft_ctx *c, const weft_scheduler *s, weft_tensor *timesteps, int64_t images,
                                int64_t *count);

#endif
