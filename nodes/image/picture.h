/* Picture files: PNG, JPEG and BMP in, PNG out. Pixels are rows of u8, channels interleaved. */
#ifndef WEFT_PICTURE_H
#define WEFT_PICTURE_H

#include "runtime/weft.h"

#define WEFT_PICTURE_SIDE 16384     /* pixels a side at the most */

/* The file as (H, W, channels) u8 with 1 to 4 channels as in the file (16 bits are cut to 8), turned as its EXIF
 * orientation says; in the innermost scope. NULL with an error that names the file. */
weft_tensor *weft_picture_load(weft_ctx *c, const char *path);
/* The same from a file's bytes; `name` stands for it in messages. */
weft_tensor *weft_picture_decode(weft_ctx *c, const char *name, const void *bytes, size_t size);

/* stb_image 2.27 writes past its tables where a JPEG's Huffman table (ITU-T T.81, B.2.4.2) counts more than 256 codes:
 * such files, for which this is false, must be kept from it. Walks the segments as stb_image does, those between scans
 * too; bytes past the end read as 0. */
bool weft_jpeg_is_safe(const void *bytes, size_t size);
/* A file's format ("PNG", "JPEG", "BMP", "WebP") and size as stored, from its head; false where it is none of these. */
typedef struct weft_picture_facts { const char *format; int width, height, channels; } weft_picture_facts;
bool weft_picture_info(const void *bytes, size_t size, weft_picture_facts *out);
/* Its height and width, so turned, from the file's beginning alone; false with an error that names the file. */
bool weft_picture_size(weft_ctx *c, const char *path, int64_t *height, int64_t *width);
/* Whether a file's name ends as those of pictures that are read do (".png", ".JPG"). */
bool weft_picture_is_name(const char *name);

/* (H, W, 1 to 4) u8 as the bytes of a PNG file, to be freed by free(); NULL with an error that begins with `name`. */
unsigned char *weft_picture_encode(weft_ctx *c, const char *name, weft_tensor *pixels, size_t *size);
/* The same of rows of pixels (png_write.c); NULL without memory. */
unsigned char *weft_png_write(const unsigned char *pixels, int64_t w, int64_t h, int64_t channels, size_t *size);
/* Writes (H, W, 1 to 4) u8 as PNG with texts (keyword, text, …, NULL; NULL: none). The file is complete or not there.
 * */
weft_status weft_picture_save(weft_ctx *c, const char *path, weft_tensor *pixels,
                              const char *const *texts) WEFT_MUST_CHECK;

/* A file as LoadImage gives it: *image (1, H, W, 3) f32 in [0, 1], *mask (1, H, W) 1 where it is transparent, (1, 64,
 * 64) zeros without transparency; in the innermost scope. False with the error set. */
bool weft_image_load(weft_ctx *c, const char *path, weft_tensor **image, weft_tensor **mask) WEFT_MUST_CHECK;
/* (H, W, 3 or 4) in [0, 1] as PNG, rounded as SaveImage does it, or u8 as it is; texts as above. */
weft_status weft_image_save(weft_ctx *c, const char *path, weft_tensor *image,
                            const char *const *texts) WEFT_MUST_CHECK;

#endif
