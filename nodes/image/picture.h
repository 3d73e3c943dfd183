/* Picture files: PNG, JPEG and BMP in, PNG out. Pixels are rows of u8, channels interleaved. */
#ifndef WEFT_PICTURE_H
#define WEFT_PICTURE_H

#include "runtime/weft.h"

#define WEFT_PICTURE_SIDE 16384     /* pixels a side at the most */

/* The file as (H, W, channels) u8 with 1 to 4 channels as in the file (16 bits are cut to 8), turned as its EXIF
 * orientation says; in the innermost scope. NULL with an error that names the file. */
weft_tensor *weft_picture_load(weft_ctx *c, const char *path);

/* Writes (H, W, 3 or 4) u8 as PNG with texts (keyword, text, …, NULL; NULL: none). The file is complete or not there.
 * */
weft_status weft_picture_save(weft_ctx *c, const char *path, weft_tensor *pixels,
                              const char *const *texts) WEFT_MUST_CHECK;

#endif
