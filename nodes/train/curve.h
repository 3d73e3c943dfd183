/* Pictures of a training run: a curve of numbers over steps, and samples side by side. */
#ifndef WEFT_TRAIN_CURVE_H
#define WEFT_TRAIN_CURVE_H

#include "runtime/weft.h"

/* A curve with axes, each value faint and their moving average bold, as (540, 900, 3) u8. The values' axis is
 * logarithmic where they are positive and span more than a factor of 30. What is not finite is left out. */
weft_tensor *weft_curve(weft_ctx *c, const char *title, int64_t n, const double *steps, const double *values);
/* The same of a column of a CSV log (csv_log.h), as a PNG file. */
weft_status weft_curve_save(weft_ctx *c, const char *csv, const char *column, const char *path) WEFT_MUST_CHECK;

/* Pictures (N, H, W, C) of floats in 0…1 or of u8, tiled as torchvision's make_grid does it: `columns` in a row,
 * `padding` pixels of `value` around each; one channel becomes three; a single picture is given without a frame. (H, W,
 * 3 or 4) u8; floats are rounded. NULL with the error set. */
weft_tensor *weft_grid(weft_ctx *c, weft_tensor *pictures, int64_t columns, int64_t padding, double value);

#endif
