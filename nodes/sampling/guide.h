/* The guide: what a sampler takes for the clean picture at a noise level.
 *
 *   the model sees x/√(σ² + 1) and the timestep whose level is nearest to σ; what it predicts becomes x₀:
 *     ε:  x − σ·ε          v:  x/(σ² + 1) − v·σ/√(σ² + 1)          sample:  as it is
 *   several texts of one side are averaged, weighted by strength, mask and area (edges rise over 8 latent pixels)
 *   guidance is on x₀ (or, the same but for rounding, on the prediction):  negative + cfg·(positive − negative);  cfg 1
 *   leaves the negative side out
 *   a noise mask keeps what it does not cover: noised again before, clean after
 *
 * Behaviour: ComfyUI. Rescaled guidance: Lin et al., arXiv:2305.08891.
 */
#ifndef WEFT_GUIDE_H
#define WEFT_GUIDE_H

#include "nodes/sampling/schedule.h"
#include "nodes/values.h"

/* A text as the guide evaluates it. */
typedef struct weft_guided {
    weft_tensor *context;           /* (N, T, D) f32 */
    weft_tensor *weight;            /* (N, h, w, 1) over its area; NULL: 1 everywhere */
    weft_tensor *concat;            /* (N, H, W, k) behind the latent's channels, or NULL */
    bool negative, whole;           /* whole: the area is the picture */
    int64_t x, y, w, h;             /* its area in latent pixels */
    double first, last;             /* the levels it counts at: last ≤ σ ≤ first */
} weft_guided;

typedef struct weft_guide {
    const weft_model *model;        /* the caller's */
    weft_sigma_table table;
    double cfg;
    weft_guided *items;
    int count;
    weft_tensor *latent, *noise, *mask;     /* mask (N, h, w, 1), or all NULL */
} weft_guide;

/* Prepares sampling of latents like `latent` ((N, h, w, channels) f32, scaled). negative is not looked at where cfg is
 * 1. mask: (1 or N, H, W) or NULL; noise, like latent, is what a mask's outside is noised with. The tensors that are
 * made belong to the innermost scope, and those that are given must live as long. False with the error set; then
 * nothing is to be freed. */
bool weft_guide_make(weft_ctx *c, const weft_model *m, const weft_conditioning *positive,
                     const weft_conditioning *negative, double cfg, weft_tensor *latent, weft_tensor *noise,
                     weft_tensor *mask, weft_guide *out);
void weft_guide_free(weft_guide *g);
/* x₀ at level sigma > 0, in the innermost scope. */
weft_tensor *weft_guide_denoise(weft_ctx *c, const weft_guide *g, weft_tensor *x, double sigma);

/* A model's noise table. False with the error set. */
bool weft_model_sigmas(weft_ctx *c, const weft_model *m, weft_sigma_table *out);
/* t's first dimension made n: cut, or repeated from the start. */
weft_tensor *weft_to_batch(weft_ctx *c, weft_tensor *t, int64_t n);

#endif
