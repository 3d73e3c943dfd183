/* The one place where stb_image is compiled: formats are narrowed to what Weft takes from
 * strangers. Sizes are checked by weft_picture_decode(), which tells what they are. */
#include <stdbool.h>
#include <stdlib.h>
#include "nodes/image/picture.h"

/* stb_image does not always say that it was memory which it lacked. */
extern _Thread_local bool stb_no_memory;
_Thread_local bool stb_no_memory;

static void *noted(void *p) {
    if (!p) stb_no_memory = true;
    return p;
}
#define STBI_MALLOC(n) noted(malloc(n))
#define STBI_REALLOC(p, n) noted(realloc(p, n))
#define STBI_FREE(p) free(p)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
#pragma GCC diagnostic pop
