/* What the nodes on pictures, masks and latents share: checks of shapes, pixels on the host, and scaling by ComfyUI's
 * methods. */
#ifndef WEFT_PIXELS_H
#define WEFT_PIXELS_H

#include "runtime/weft.h"

/* Whether t is (N, H, W, C) with at least one of each; the error names the input otherwise. */
bool weft_want_image(weft_ctx *c, const weft_tensor *t, const char *input);
/* A mask (N, H, W) or (H, W) as dense (N, H, W) f32; NULL with an error that names the input. */
weft_tensor *weft_want_mask(weft_ctx *c, weft_tensor *t, const char *input);

/* The elements as f32 in dense order, malloc'd (never NULL for no elements); NULL with the error set. */
float *weft_pixels_read(weft_ctx *c, weft_tensor *t);
/* Zeros, malloc'd; NULL with the error set. */
float *weft_pixels_new(weft_ctx *c, int64_t count);
/* The pixels as an f32 tensor of the innermost scope. Frees them, also where it fails; NULL where they are NULL. */
weft_tensor *weft_pixels_tensor(weft_ctx *c, float *pixels, int rank, const int64_t *shape);

/* The n things of a batch repeated until there are `count`, or the first `count`: what ComfyUI does to masks for a
 * batch. */
weft_tensor *weft_batch_fit(weft_ctx *c, weft_tensor *t, int64_t count);
/* The whole batch `amount` times. */
weft_tensor *weft_batch_repeat(weft_ctx *c, weft_tensor *t, int64_t amount);

typedef enum weft_upscale { WEFT_UP_NEAREST, WEFT_UP_BILINEAR, WEFT_UP_AREA, WEFT_UP_BICUBIC, WEFT_UP_LANCZOS,
                            WEFT_UP_BISLERP } weft_upscale;
/* (N, h, w, C) to (N, height, width, C). center: what would change the ratio of the sides is cut off evenly first.
 * Lanczos goes through 8 bits as Pillow does it; bislerp turns a latent's vectors instead of mixing them. */
weft_tensor *weft_upscale_to(weft_ctx *c, weft_tensor *x, weft_upscale how, int64_t height, int64_t width, bool center);
/* side·by rounded half to even, as Python rounds; 0 with the error set where nothing would be left. */
int64_t weft_scaled_side(weft_ctx *c, int64_t side, double by);

/* Bislerp: first along rows, then along columns, each new vector lies on the arc between its neighbours (sphere of
 * their direction, length mixed linearly), at the places bilinear scaling would look. */
weft_tensor *weft_bislerp(weft_ctx *c, weft_tensor *x, int64_t height, int64_t width);

#endif
