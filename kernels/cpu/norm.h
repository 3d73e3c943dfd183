/* What group norm and its gradient share. */
#ifndef WEFT_CPU_NORM_H
#define WEFT_CPU_NORM_H

#include "kernels/cpu/simd.h"

/* Whether threads go through one image after the other with all passes, so that the second finds it in the cache. Otherwise
 * there are too few images, and each pass is shared out. Nothing is summed in another order for it. */
INLINE bool norm_by_images(int64_t images, int threads) { return images % threads == 0 || images >= 4 * threads; }

#endif
