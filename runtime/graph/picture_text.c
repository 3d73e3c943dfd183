/* The texts that a picture carries: PNG chunks tEXt, zTXt and iTXt (W3C PNG 3rd edition, 11.3.3), and the EXIF of WebP
 * and JPEG, where tags of the first directory hold "prompt:{…}" and "workflow:{…}".
 *
 * Files in the wild have wrong checksums on their text chunks, UTF-8 in tEXt, and text behind the picture's data: all
 * of that is read.
 */
#include "runtime/graph/graph_internal.h"
#include "runtime/internal.h"

#include <string.h>
#include <zlib.h>

enum { TEXT_LIMIT = 64 << 20 };     /* of one text, unpacked */

static const unsigned char png_head[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };

static bool is_png(const unsigned char *b, size_t n) { return n >= 8 && !memcmp(b, png_head, 8); }
static bool is_webp(const unsigned char *b, size_t n) {
    return n >= 12 && !memcmp(b, "RIFF", 4) && !memcmp(b + 8, "WEBP", 4);
}
static bool is_jpeg(const unsigned char *b, size_t n) { return n >= 3 && b[0] == 0xff && b[1] == 0xd8 && b[2] == 0xff; }

bool weft_picture_is(const void *bytes, size_t size) {
    return is_png(bytes, size) || is_webp(bytes, size) || is_jpeg(bytes, size);
}

static uint32_t big(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static uint32_t little(const unsigned char *p) {
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/* Where a text of this key goes; NULL for keys that are not ours, and for a second text of the same key. */
static char **place_of(weft_picture_text *out, const char *key, size_t length) {
    char **place = length == 6 && !memcmp(key, "prompt", 6)     ? &out->prompt
                   : length == 8 && !memcmp(key, "workflow", 8) ? &out->workflow
                                                                : NULL;
    return place && !*place ? place : NULL;
}

static bool keep_plain(weft_ctx *c, char **place, const unsigned char *text, size_t n) {
    while (n && !text[n - 1]) n--;      /* EXIF texts end in a NUL */
    *place = weft_text_copy((const char *)text, n);
    return *place || (weft_graph_no_memory(c), false);
}

/* zlib's format; the room doubles until the text fits or is over the limit. */
static bool keep_packed(weft_ctx *c, const char *file, char **place, const unsigned char *packed, size_t n) {
    z_stream z = { .next_in = (unsigned char *)packed, .avail_in = (uInt)n };
    size_t room = 4 * n + 1024, used = 0;
    char *text = NULL;
    int status = inflateInit(&z);
    while (status == Z_OK && room <= TEXT_LIMIT) {
        char *grown = weft_host_resize(text, room + 1);
        if (!grown) { status = Z_MEM_ERROR; break; }
        text = grown;
        z.next_out = (unsigned char *)text + used;
        z.avail_out = (uInt)(room - used);
        status = inflate(&z, Z_NO_FLUSH);
        used = room - z.avail_out;
        if (status == Z_BUF_ERROR && z.avail_out == 0) status = Z_OK;
        if (!z.avail_out) room *= 2;
    }
    inflateEnd(&z);
    if (status == Z_STREAM_END) {
        text[used] = 0;
        *place = text;
        return true;
    }
    weft_host_free(text);
    if (status == Z_MEM_ERROR) weft_graph_no_memory(c);
    else weft_fail(c, WEFT_E_FORMAT, "%s: a packed text chunk is broken, or over %d MB", file, TEXT_LIMIT >> 20);
    return false;
}

/* ---- PNG --------------------------------------------------------------------------------------------------------- */

static bool png_text(weft_ctx *c, const char *file, const unsigned char *type, const unsigned char *data, size_t n,
                     weft_picture_text *out) {
    const unsigned char *end = memchr(data, 0, n);
    char **place = end ? place_of(out, (const char *)data, (size_t)(end - data)) : NULL;
    if (!place) return true;
    const unsigned char *p = end + 1, *stop = data + n;
    if (!memcmp(type, "tEXt", 4)) return keep_plain(c, place, p, (size_t)(stop - p));
    if (!memcmp(type, "zTXt", 4)) return p == stop || keep_packed(c, file, place, p + 1, (size_t)(stop - p - 1));
    if (stop - p < 2) return true;
    bool packed = p[0] != 0;
    p += 2;
    for (int i = 0; i < 2; i++) {       /* language, translated key */
        end = memchr(p, 0, (size_t)(stop - p));
        if (!end) return true;
        p = end + 1;
    }
    return packed ? keep_packed(c, file, place, p, (size_t)(stop - p)) : keep_plain(c, place, p, (size_t)(stop - p));
}

static bool read_png(weft_ctx *c, const char *file, const unsigned char *b, size_t n, weft_picture_text *out) {
    for (size_t at = 8; n - at >= 12;) {
        size_t length = big(b + at);
        const unsigned char *type = b + at + 4;
        if (length > n - at - 12) break;        /* cut off: what was found so far counts */
        bool text = !memcmp(type, "tEXt", 4) || !memcmp(type, "zTXt", 4) || !memcmp(type, "iTXt", 4);
        if (text && !png_text(c, file, type, type + 4, length, out)) return false;
        at += length + 12;
    }
    return true;
}

/* ---- EXIF -------------------------------------------------------------------------------------------------------- */

/* The first directory's texts: "prompt:…" and "workflow:…". */
static bool read_tiff(weft_ctx *c, const unsigned char *b, size_t n, weft_picture_text *out) {
    if (n < 8 || (memcmp(b, "II*\0", 4) && memcmp(b, "MM\0*", 4))) return true;
    bool motorola = b[0] == 'M';
    size_t at = motorola ? big(b + 4) : little(b + 4);
    if (at > n - 2) return true;
    size_t count = motorola ? (size_t)b[at] << 8 | b[at + 1] : (size_t)b[at + 1] << 8 | b[at];
    for (at += 2; count && n - at >= 12; count--, at += 12) {
        unsigned type = motorola ? b[at + 3] : b[at + 2];
        size_t length = motorola ? big(b + at + 4) : little(b + at + 4),
               where = motorola ? big(b + at + 8) : little(b + at + 8);
        if (type != 2 || length <= 4 || where > n || length > n - where) continue;
        const unsigned char *text = b + where, *colon = memchr(text, ':', length);
        char **place = colon ? place_of(out, (const char *)text, (size_t)(colon - text)) : NULL;
        if (place && !keep_plain(c, place, colon + 1, length - (size_t)(colon - text) - 1)) return false;
    }
    return true;
}

static bool read_exif(weft_ctx *c, const unsigned char *b, size_t n, weft_picture_text *out) {
    bool headed = n >= 6 && !memcmp(b, "Exif\0\0", 6);
    return headed ? read_tiff(c, b + 6, n - 6, out) : read_tiff(c, b, n, out);
}

static bool read_webp(weft_ctx *c, const unsigned char *b, size_t n, weft_picture_text *out) {
    for (size_t at = 12; n - at >= 8;) {
        size_t length = little(b + at + 4);
        if (length > n - at - 8) break;
        if (!memcmp(b + at, "EXIF", 4) && !read_exif(c, b + at + 8, length, out)) return false;
        length += length & 1;
        if (length > n - at - 8) break;
        at += 8 + length;
    }
    return true;
}

static bool read_jpeg(weft_ctx *c, const unsigned char *b, size_t n, weft_picture_text *out) {
    for (size_t at = 2; n - at >= 4 && b[at] == 0xff && b[at + 1] != 0xda;) {
        size_t length = (size_t)b[at + 2] << 8 | b[at + 3];
        if (length < 2 || length > n - at - 2) break;
        if (b[at + 1] == 0xe1 && !read_exif(c, b + at + 4, length - 2, out)) return false;
        at += 2 + length;
    }
    return true;
}

bool weft_picture_read_text(weft_ctx *c, const char *file, const void *bytes, size_t size, weft_picture_text *out) {
    bool whole = is_png(bytes, size)    ? read_png(c, file, bytes, size, out)
                 : is_webp(bytes, size) ? read_webp(c, bytes, size, out)
                 : is_jpeg(bytes, size)
                     ? read_jpeg(c, bytes, size, out)
                     : (weft_fail(c, WEFT_E_FORMAT, "%s: not a PNG, WebP or JPEG picture", file), false);
    if (whole) return true;
    weft_host_free(out->prompt);
    weft_host_free(out->workflow);
    *out = (weft_picture_text){ 0 };
    return false;
}
