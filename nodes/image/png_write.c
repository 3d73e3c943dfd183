/* Pixels as a PNG file (W3C PNG, third edition): 8 bits a channel, each row under the filter whose differences are
 * least in sum, packed by zlib. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "nodes/image/picture.h"

enum { FILTERS = 5, PACKING = 6 };

/* The neighbour that is nearest to left + above − corner. */
static int paeth(int left, int above, int corner) {
    const int p = left + above - corner, a = abs(p - left), b = abs(p - above), c = abs(p - corner);
    return a <= b && a <= c ? left : b <= c ? above : corner;
}

/* A row's differences to what the filter foretells from the pixel to the left (`step` bytes away) and the row above
 * (NULL: zeros); their sum, each as the smaller of it and 256 minus it. */
static long filter_row(int filter, const unsigned char *row, const unsigned char *above, size_t n, size_t step,
                       unsigned char *out) {
    long sum = 0;
/* The loop once for each filter, so that none works out what another needs. */
#define ROW(guess) \
    for (size_t i = 0; i < n; i++) { \
        const int left = i < step ? 0 : row[i - step], up = above ? above[i] : 0; \
        const int corner = i < step || !above ? 0 : above[i - step]; \
        (void)left, (void)up, (void)corner; \
        out[i] = (unsigned char)(row[i] - (guess)); \
        sum += out[i] < 128 ? out[i] : 256 - out[i]; \
    } \
    break
    switch (filter) {
    case 0: ROW(0);
    case 1: ROW(left);
    case 2: ROW(up);
    case 3: ROW((left + up) / 2);
    default: ROW(paeth(left, up, corner));
    }
#undef ROW
    return sum;
}

/* All rows, each behind its filter's number; `trial` has room for one. */
static void filter_all(const unsigned char *pixels, size_t rows, size_t n, size_t step, unsigned char *trial,
                       unsigned char *out) {
    for (size_t y = 0; y < rows; y++, out += n + 1) {
        const unsigned char *row = pixels + y * n, *above = y ? row - n : NULL;
        long least = LONG_MAX;
        for (int f = 0; f < FILTERS; f++) {
            const long sum = filter_row(f, row, above, n, step, trial);
            if (sum >= least) continue;
            least = sum;
            out[0] = (unsigned char)f;
            memcpy(out + 1, trial, n);
        }
    }
}

static void put_big(unsigned char *p, size_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> (24 - 8 * i));
}

/* A chunk whose n bytes of data lie at p + 8 already; where it ends. */
static unsigned char *close_chunk(unsigned char *p, const char *type, size_t n) {
    put_big(p, n);
    memcpy(p + 4, type, 4);
    put_big(p + 8 + n, crc32(0, p + 4, (uInt)(n + 4)));
    return p + 12 + n;
}

unsigned char *weft_png_write(const unsigned char *pixels, int64_t w, int64_t h, int64_t channels, size_t *size) {
    static const unsigned char signature[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' }, colours[5] = { 0, 0, 4,
            2, 6 };
    const size_t n = (size_t)(w * channels), plain = (n + 1) * (size_t)h;
    uLongf packed = compressBound(plain);
    unsigned char *filtered = plain < UINT_MAX ? malloc(plain) : NULL, *trial = malloc(n + 1);
    unsigned char *file = filtered && trial ? malloc(packed + 100) : NULL, *p = file;
    if (file) {
        filter_all(pixels, (size_t)h, n, (size_t)channels, trial, filtered);
        memcpy(p, signature, 8);
        p += 8;
        put_big(p + 8, (size_t)w);
        put_big(p + 12, (size_t)h);
        memcpy(p + 16, (const unsigned char[]){ 8, colours[channels], 0, 0, 0 }, 5);
        p = close_chunk(p, "IHDR", 13);
        if (compress2(p + 8, &packed, filtered, plain, PACKING) == Z_OK) {
            p = close_chunk(close_chunk(p, "IDAT", packed), "IEND", 0);
            *size = (size_t)(p - file);
        } else {
            free(file);
            file = NULL;
        }
    }
    free(filtered);
    free(trial);
    return file;
}
