/* Picture files: read by stb_image, written by png_write.c; text chunks (W3C PNG, 11.3.3) are put between the header and
 * the data, as tEXt where the text is ASCII and as iTXt (UTF-8) otherwise, which is what Pillow and so ComfyUI write.
 * See picture.h. */
#include "nodes/image/picture.h"

#include <stb/stb_image.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <zlib.h>
#include "runtime/file.h"

extern _Thread_local bool stb_no_memory;        /* stb.c: an allocation was refused */

enum { FILE_LIMIT = 256 << 20 };
static const int64_t pixel_limit = (int64_t)128 << 20;

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static unsigned word(const unsigned char *p, bool motorola) {
    return motorola ? (unsigned)p[0] << 8 | p[1] : (unsigned)p[1] << 8 | p[0];
}

/* The orientation (1…8) in an EXIF block that starts with its byte order; 1 where it has none. */
static int tiff_orientation(const unsigned char *b, size_t n) {
    if (n < 8 || (memcmp(b, "II*\0", 4) && memcmp(b, "MM\0*", 4))) return 1;
    bool motorola = b[0] == 'M';
    size_t at = motorola ? (size_t)word(b + 4, true) << 16 | word(b + 6, true)
                         : (size_t)word(b + 6, false) << 16 | word(b + 4, false);
    if (at > n - 2) return 1;
    unsigned count = word(b + at, motorola);
    for (at += 2; count && n - at >= 12; count--, at += 12) {
        if (word(b + at, motorola) != 0x0112) continue;
        unsigned v = word(b + at + 8, motorola);
        return v >= 1 && v <= 8 ? (int)v : 1;
    }
    return 1;
}

/* In a PNG's eXIf chunk. */
static int png_orientation(const unsigned char *b, size_t n) {
    for (size_t at = 8; n - at >= 12;) {
        size_t length = (size_t)word(b + at, true) << 16 | word(b + at + 2, true);
        if (length > n - at - 12 || !memcmp(b + at + 4, "IEND", 4)) break;
        if (!memcmp(b + at + 4, "eXIf", 4)) return tiff_orientation(b + at + 8, length);
        at += 12 + length;
    }
    return 1;
}

/* Of a JPEG or PNG; other formats lie as they are. */
static int orientation(const unsigned char *b, size_t n) {
    if (n >= 8 && !memcmp(b, "\x89PNG\r\n\x1a\n", 8)) return png_orientation(b, n);
    if (n < 4 || b[0] != 0xff || b[1] != 0xd8) return 1;
    for (size_t at = 2; n - at >= 4 && b[at] == 0xff && b[at + 1] != 0xda;) {
        size_t length = (size_t)word(b + at + 2, true);
        if (length < 2 || length > n - at - 2) break;
        if (b[at + 1] == 0xe1 && length >= 16 && !memcmp(b + at + 4, "Exif\0\0", 6))
            return tiff_orientation(b + at + 10, length - 8);
        at += 2 + length;
    }
    return 1;
}

/* Pixels turned upright: source (h, w) to (oh, ow), where 5…8 swap the sides. */
static void turn(const unsigned char *in, int64_t h, int64_t w, int64_t channels, int how, unsigned char *out) {
    int64_t oh = how >= 5 ? w : h, ow = how >= 5 ? h : w;
    for (int64_t y = 0; y < oh; y++)
        for (int64_t x = 0; x < ow; x++) {
            /* row and column of the source before mirroring */
            int64_t a = how >= 5 ? x : y, b = how >= 5 ? y : x;
            bool flip_row = how == 3 || how == 4 || how == 6 || how == 7;
            bool flip_column = how == 2 || how == 3 || how == 7 || how == 8;
            if (flip_row) a = h - 1 - a;
            if (flip_column) b = w - 1 - b;
            memcpy(out + (y * ow + x) * channels, in + (a * w + b) * channels, (size_t)channels);
        }
}

static weft_tensor *to_tensor(weft_ctx *c, const unsigned char *pixels, int64_t h, int64_t w, int64_t channels,
                              int how) {
    if (how == 1) return weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(h, w, channels), pixels);
    size_t bytes = (size_t)(h * w * channels);
    unsigned char *turned = malloc(bytes);
    if (!turned) {
        weft_fail(c, WEFT_E_MEMORY, "picture: out of memory");
        return NULL;
    }
    turn(pixels, h, w, channels, how, turned);
    weft_tensor *t = how >= 5 ? weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(w, h, channels), turned)
        : weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(h, w, channels), turned);
    free(turned);
    return t;
}

/* What stb_image refused to do, as the error. */
static void refused(weft_ctx *c, const char *name, const char *what) {
    if (stb_no_memory) weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the picture", name);
    else weft_fail(c, WEFT_E_FORMAT, "%s: %s (%s)", name, what, stbi_failure_reason());
}

/* What the file says of its sides, before turning; false with the error set where it is none that is read. */
static bool read_info(weft_ctx *c, const char *name, const unsigned char *b, size_t size, int *w, int *h) {
    int channels;
    stb_no_memory = false;
    if (!weft_jpeg_is_safe(b, size)) weft_fail(c, WEFT_E_FORMAT, "%s: the picture is broken (bad Huffman table)", name);
    else if (!stbi_info_from_memory(b, (int)size, w, h, &channels))
        refused(c, name, "not a PNG, JPEG or BMP picture that can be read");
    else if (*w < 1 || *h < 1 || *w > WEFT_PICTURE_SIDE || *h > WEFT_PICTURE_SIDE || (int64_t)*w * *h > pixel_limit)
        weft_fail(c, WEFT_E_FORMAT, "%s: a picture of %d × %d pixels; up to %d a side and %lld in all are read", name,
                  *w, *h, WEFT_PICTURE_SIDE, (long long)pixel_limit);
    return weft_ok(c);
}

weft_tensor *weft_picture_decode(weft_ctx *c, const char *name, const void *bytes, size_t size) {
    const unsigned char *b = bytes;
    int w = 0, h = 0, channels, told_w, told_h;
    weft_tensor *t = NULL;
    if (!weft_ok(c)) return NULL;
    if (size > FILE_LIMIT)
        weft_fail(c, WEFT_E_FORMAT, "%s: a picture file of %zu MB; up to %d MB are read", name, size >> 20,
                  FILE_LIMIT >> 20);
    else if (read_info(c, name, b, size, &told_w, &told_h)) {
        unsigned char *pixels = stbi_load_from_memory(b, (int)size, &w, &h, &channels, 0);
        if (!pixels) refused(c, name, "the picture is broken");
        else if (w != told_w || h != told_h)
            weft_fail(c, WEFT_E_FORMAT, "%s: the picture is broken (it has two sizes)", name);
        else t = to_tensor(c, pixels, h, w, channels, orientation(b, size));
        stbi_image_free(pixels);
    }
    return t;
}

weft_tensor *weft_picture_load(weft_ctx *c, const char *path) {
    size_t size;
    char *bytes = weft_file_read(c, path, FILE_LIMIT, &size);
    weft_tensor *t = bytes ? weft_picture_decode(c, path, bytes, size) : NULL;
    weft_text_free(bytes);
    return t;
}

bool weft_picture_is_name(const char *name) {
    static const char *const endings[] = { ".png", ".jpg", ".jpeg", ".bmp" };
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t k = strlen(endings[i]);
        if (n > k && !strcasecmp(name + n - k, endings[i])) return true;
    }
    return false;
}

/* The first `most` bytes of a file for free(), fewer where it ends; *size: how many. NULL with the error set. */
static unsigned char *read_beginning(weft_ctx *c, const char *path, size_t most, size_t *size) {
    size_t length;
    int fd = weft_file_open(c, path, &length);
    if (fd < 0) return NULL;
    if (length > most) length = most;
    unsigned char *b = malloc(length + 1);
    if (!b) weft_fail(c, WEFT_E_MEMORY, "%s: out of memory", path);
    *size = 0;
    for (ssize_t n; b && *size < length && (n = read(fd, b + *size, length - *size)) > 0;) *size += (size_t)n;
    close(fd);
    return b;
}

bool weft_picture_size(weft_ctx *c, const char *path, int64_t *height, int64_t *width) {
    enum { BEGINNING = 256 << 10 };         /* sides and orientation lie in it but for odd files: those are read on */
    size_t size = 0;
    int w, h;
    weft_picture_facts facts;
    unsigned char *b = read_beginning(c, path, BEGINNING, &size);
    if (b && size == BEGINNING && !weft_picture_info(b, size, &facts)) {
        free(b);
        b = read_beginning(c, path, FILE_LIMIT, &size);
    }
    if (b && read_info(c, path, b, size, &w, &h)) {
        bool swapped = orientation(b, size) >= 5;
        *height = swapped ? w : h;
        *width = swapped ? h : w;
    }
    free(b);
    return weft_ok(c);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static void big(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> (24 - 8 * i));
}

static bool write_chunk(weft_ctx *c, weft_file_out *f, const char *type, const unsigned char *data, size_t n) {
    unsigned char head[8], tail[4];
    big(head, (uint32_t)n);
    memcpy(head + 4, type, 4);
    big(tail, (uint32_t)crc32(crc32(0, head + 4, 4), data, (uInt)n));
    return weft_file_write(c, f, head, 8) && weft_file_write(c, f, data, n) && weft_file_write(c, f, tail, 4);
}

static bool write_text(weft_ctx *c, weft_file_out *f, const char *key, const char *text) {
    size_t k = strlen(key) + 1, n = strlen(text), skip = 0;
    bool ascii = true;
    for (size_t i = 0; i < n; i++) ascii = ascii && (unsigned char)text[i] < 128;
    if (!ascii) skip = 4;       /* not packed, no method, no language, no translated key */
    unsigned char *data = n < (size_t)1 << 30 ? calloc(1, k + skip + n + 1) : NULL;
    if (!data) {
        weft_fail(c, WEFT_E_MEMORY, "picture: out of memory");
        return false;
    }
    memcpy(data, key, k);
    memcpy(data + k + skip, text, n);
    bool whole = write_chunk(c, f, ascii ? "tEXt" : "iTXt", data, k + skip + n);
    free(data);
    return whole;
}

unsigned char *weft_picture_encode(weft_ctx *c, const char *name, weft_tensor *pixels, size_t *size) {
    if (!weft_ok(c)) return NULL;
    int64_t h = weft_dim(pixels, 0), w = weft_dim(pixels, 1), channels = weft_dim(pixels, 2);
    if (weft_rank(pixels) != 3 || weft_type(pixels) != WEFT_U8 || channels < 1 || channels > 4 || h < 1 || w < 1 ||
        h > 65535 || w > 65535) {
        weft_fail(c, WEFT_E_SHAPE, "%s: a picture to be saved is (height, width, 1 to 4) u8", name);
        return NULL;
    }
    size_t bytes = (size_t)(h * w * channels);
    unsigned char *plain = malloc(bytes), *png = NULL;
    if (plain && weft_read(c, pixels, plain, bytes) == WEFT_OK) png = weft_png_write(plain, w, h, channels, size);
    if (!png && weft_ok(c)) weft_fail(c, WEFT_E_MEMORY, "%s: out of memory", name);
    free(plain);
    return png;
}

weft_status weft_picture_save(weft_ctx *c, const char *path, weft_tensor *pixels, const char *const *texts) {
    enum { HEAD = 8 + 25 };     /* signature and IHDR */
    size_t length;
    unsigned char *png = weft_picture_encode(c, path, pixels, &length);
    weft_file_out f = { 0 };
    bool whole = png && weft_file_create(c, &f, path) && weft_file_write(c, &f, png, HEAD);
    for (; whole && texts && *texts; texts += 2) whole = write_text(c, &f, texts[0], texts[1]);
    whole = whole && weft_file_write(c, &f, png + HEAD, length - HEAD) && weft_file_commit(c, &f);
    weft_file_discard(&f);
    free(png);
    return weft_error(c);
}
