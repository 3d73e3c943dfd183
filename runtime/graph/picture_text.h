/* The JSON texts that a picture carries: PNG tEXt, zTXt and iTXt "prompt" and "workflow", and the same in the EXIF of
 * WebP and JPEG. */
#ifndef WEFT_PICTURE_TEXT_H
#define WEFT_PICTURE_TEXT_H

#include "runtime/weft.h"

/* malloc'd; NULL where there is none. */
typedef struct weft_picture_text { char *prompt, *workflow; } weft_picture_text;

/* Whether the bytes start as a PNG, WebP or JPEG does. */
bool weft_picture_is(const void *bytes, size_t size);
/* False with the error set where they are no such picture, or a packed text is broken; out is then empty. `file` names
 * them in messages. */
bool weft_picture_read_text(weft_ctx *c, const char *file, const void *bytes, size_t size, weft_picture_text *out);

#endif
