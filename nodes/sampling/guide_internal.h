/* What the guide's two files share. */
#ifndef WEFT_GUIDE_INTERNAL_H
#define WEFT_GUIDE_INTERNAL_H

#include "nodes/sampling/guide.h"
#include "nodes/sampling/scheduler.h"

/* A mask (1 or N, H, W) as (N, h, w, 1) of the latent's size; `what` stands in messages. NULL with the error set. */
weft_tensor *weft_fit_mask(weft_ctx *c, weft_tensor *mask, weft_tensor *latent, const char *what);
/* Fills an item's area and weight. False with the error set. */
bool weft_guided_place(weft_ctx *c, const weft_cond *k, weft_tensor *latent, weft_guided *g);

#endif
