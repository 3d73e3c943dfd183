/* Decoding latents tile by tile. */
#ifndef WEFT_TILES_H
#define WEFT_TILES_H

#include "nodes/values.h"

/* (1, h, w, channels) f32 → (1, ratio·h, ratio·w, 3), not clamped: the mean of three divisions into tiles (half as wide
 * and twice as high, the other way round, square), in each of which tiles fade into their neighbours over `overlap`.
 * tile ≥ 4·overlap, in latent pixels. */
weft_tensor *weft_decode_tiled(weft_ctx *c, const weft_vae *v, weft_tensor *latent, int64_t tile, int64_t overlap);

#endif
