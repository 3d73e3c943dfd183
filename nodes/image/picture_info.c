/* What a picture file says of itself before its pixels are read: format, size, channels. See picture.h. WebP (RFC 9649)
 * is not decoded by Weft, but its files carry graphs, so its size is read here: "VP8X" holds both sides less 1 in 24
 * bits, "VP8L" in 14 bits behind the byte 0x2f, "VP8 " in 14 bits behind the start code 9d 01 2a.
 */
#include "nodes/image/picture.h"

#include <limits.h>
#include <stb/stb_image.h>
#include <string.h>

bool weft_jpeg_is_safe(const void *bytes, size_t n) {
    const unsigned char *b = bytes;
    if (n < 3 || b[0] != 0xff)
        return true; /* no JPEG; the byte 0xff may be repeated in front of every marker, the first too */
    for (size_t at = 0; at < n;) {
        while (at < n && b[at] != 0xff) at++;
        while (at < n && b[at] == 0xff) at++;
        if (n - at < 3) return true;
        unsigned marker = b[at];
        if (marker == 0xd9) return true;
        if (marker < 0xc0 || (marker >= 0xd0 && marker <= 0xd8)) continue;      /* no length behind it */
        size_t length = ((size_t)b[at + 1] << 8 | b[at + 2]), end = at + 1 + length;
        for (size_t table = at + 3; marker == 0xc4 && table < end;) {
            size_t codes = 0;
            for (size_t i = table + 1; i < table + 17 && i < n; i++) codes += b[i];
            if (codes > 256) return false;
            table += 17 + codes;
        }
        at = length < 2 ? at + 1 : end;
    }
    return true;
}

static bool webp_info(const unsigned char *b, size_t n, weft_picture_facts *out) {
    if (n < 30 || memcmp(b, "RIFF", 4) || memcmp(b + 8, "WEBP", 4)) return false;
    const unsigned char *p = b + 20;        /* the first chunk's data */
    out->format = "WebP";
    out->channels = 3;
    if (!memcmp(b + 12, "VP8X", 4)) {
        out->width = 1 + (p[4] | p[5] << 8 | p[6] << 16);
        out->height = 1 + (p[7] | p[8] << 8 | p[9] << 16);
        if (p[0] & 0x10) out->channels = 4;
    } else if (!memcmp(b + 12, "VP8L", 4) && p[0] == 0x2f) {
        uint32_t bits = (uint32_t)p[1] | (uint32_t)p[2] << 8 | (uint32_t)p[3] << 16 | (uint32_t)p[4] << 24;
        out->width = 1 + (int)(bits & 0x3fff);
        out->height = 1 + (int)(bits >> 14 & 0x3fff);
        if (bits >> 28 & 1) out->channels = 4;
    } else if (!memcmp(b + 12, "VP8 ", 4) && p[3] == 0x9d && p[4] == 0x01 && p[5] == 0x2a) {
        out->width = (p[6] | p[7] << 8) & 0x3fff;
        out->height = (p[8] | p[9] << 8) & 0x3fff;
    } else return false;
    return true;
}

bool weft_picture_info(const void *bytes, size_t size, weft_picture_facts *out) {
    const unsigned char *b = bytes;
    *out = (weft_picture_facts){ 0 };
    if (webp_info(b, size, out)) return true;
    if (size < 3 || size > INT_MAX || !weft_jpeg_is_safe(bytes, size) ||
        !stbi_info_from_memory(b, (int)size, &out->width, &out->height, &out->channels))
        return false;
    out->format = b[0] == 0x89 ? "PNG" : b[0] == 'B' ? "BMP" : "JPEG";
    return true;
}
