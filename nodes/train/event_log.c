/* TensorBoard's event files; see event_log.h.
 *
 * A file is a row of TFRecords: u64 length, masked CRC-32C of those 8 bytes, the bytes, their masked CRC-32C;
 * little-endian. Each holds an Event in protocol buffers' wire format (a field is its number · 8 + kind as a varint,
 * then a varint (kind 0), 8 bytes (1), a length and bytes (2) or 4 bytes (5)):
 *   Event         1 wall_time double, 2 step int64, 3 file_version string, 5 Summary, 7 SessionLog
 *   Summary       1 repeated Value: 1 tag string, 2 simple_value float, 4 Image
 *   Image         1 height, 2 width, 3 colorspace (channels), 4 the PNG file's bytes
 *   SessionLog    1 status, 1 being START: readers forget steps from this one on
 * Source: tensorflow/core/util/event.proto, core/framework/summary.proto, core/lib/io/record_writer. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "nodes/image/picture.h"
#include "nodes/train/event_log.h"

struct weft_event_log {
    weft_ctx *ctx;
    char *path;
    int fd;
};

/* ---- checksums --------------------------------------------------------------------------------------------------- */

uint32_t weft_masked_crc32c(const void *bytes, size_t n) {
    uint32_t table[16], crc = ~0u;
    const unsigned char *p = bytes;
    for (uint32_t i = 0; i < 16; i++) {
        table[i] = i;
        for (int k = 0; k < 4; k++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0);
    }
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* ---- wire format ------------------------------------------------------------------------------------------------- */

/* Bytes being put together; full: memory failed. */
struct bytes { unsigned char *data; size_t size, room; bool full; };

static void put(struct bytes *b, const void *data, size_t n) {
    if (b->size + n > b->room && !b->full) {
        const size_t room = 2 * (b->size + n) + 64;
        unsigned char *p = realloc(b->data, room);
        b->full = !p;
        if (p) b->data = p, b->room = room;
    }
    if (b->full || !n) return;
    memcpy(b->data + b->size, data, n);
    b->size += n;
}

static void put_little(struct bytes *b, uint64_t v, int n) {
    unsigned char out[8];
    for (int i = 0; i < n; i++) out[i] = (unsigned char)(v >> 8 * i);
    put(b, out, (size_t)n);
}

static void put_varint(struct bytes *b, uint64_t v) {
    for (; v >= 128; v >>= 7) put_little(b, (v & 127) | 128, 1);
    put_little(b, v, 1);
}

enum { VARINT, FIXED64, BYTES, FIXED32 = 5 };
static void put_key(struct bytes *b, int field, int kind) { put_varint(b, (uint64_t)(field << 3 | kind)); }

static void put_bytes(struct bytes *b, int field, const void *data, size_t n) {
    put_key(b, field, BYTES);
    put_varint(b, n);
    put(b, data, n);
}

/* A message as a field of another; frees it. */
static void put_message(struct bytes *b, int field, struct bytes *inner) {
    put_bytes(b, field, inner->data, inner->size);
    b->full = b->full || inner->full;
    free(inner->data);
    *inner = (struct bytes){ 0 };
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static struct bytes event_begin(int64_t step) {
    struct bytes e = { 0 };
    struct timespec now;
    uint64_t bits;
    clock_gettime(CLOCK_REALTIME, &now);
    const double wall = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    memcpy(&bits, &wall, sizeof bits);
    put_key(&e, 1, FIXED64);
    put_little(&e, bits, 8);
    put_key(&e, 2, VARINT);
    put_varint(&e, (uint64_t)step);
    return e;
}

/* Frames the event, writes it and frees it. */
static weft_status event_end(weft_event_log *log, struct bytes *e) {
    struct bytes record = { 0 };
    weft_ctx *c = log->ctx;
    put_little(&record, e->size, 8);
    put_little(&record, weft_masked_crc32c(record.data, record.full ? 0 : 8), 4);
    put(&record, e->data, e->size);
    put_little(&record, weft_masked_crc32c(e->data, e->full ? 0 : e->size), 4);
    if (!weft_ok(c)) goto out;
    if (e->full || record.full) weft_fail(c, WEFT_E_MEMORY, "%s: no memory for an event", log->path);
    else if (write(log->fd, record.data, record.size) != (ssize_t)record.size)
        weft_fail(c, WEFT_E_FILE, "%s: cannot be written: %s", log->path, strerror(errno));
out:
    free(record.data);
    free(e->data);
    return weft_error(c);
}

static weft_status summary(weft_event_log *log, int64_t step, struct bytes *value) {
    struct bytes e = event_begin(step), all = { 0 };
    put_message(&all, 1, value);
    put_message(&e, 5, &all);
    return event_end(log, &e);
}

weft_status weft_event_log_scalar(weft_event_log *log, const char *tag, int64_t step, double number) {
    struct bytes value = { 0 };
    const float single = (float)number;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    put_bytes(&value, 1, tag, strlen(tag));
    put_key(&value, 2, FIXED32);
    put_little(&value, bits, 4);
    return summary(log, step, &value);
}

weft_status weft_event_log_image(weft_event_log *log, const char *tag, int64_t step, weft_tensor *pixels) {
    struct bytes value = { 0 }, image = { 0 };
    size_t size;
    unsigned char *png = weft_picture_encode(log->ctx, tag, pixels, &size);
    if (!png) return weft_error(log->ctx);
    for (int i = 0; i < 3; i++) {       /* height, width, channels */
        put_key(&image, i + 1, VARINT);
        put_varint(&image, (uint64_t)weft_dim(pixels, i));
    }
    put_bytes(&image, 4, png, size);
    free(png);
    put_bytes(&value, 1, tag, strlen(tag));
    put_message(&value, 4, &image);
    return summary(log, step, &value);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static bool open_new(weft_event_log *log, const char *folder) {
    const size_t room = strlen(folder) + 80;
    log->path = malloc(room);
    if (!log->path) return false;
    for (int tries = 0; tries < 100 && log->fd < 0; tries++) {
        snprintf(log->path, room, "%s/events.out.tfevents.%010lld.weft.%ld.%d", folder, (long long)time(NULL),
                 (long)getpid(), tries);
        log->fd = open(log->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (log->fd < 0 && errno != EEXIST) break;
    }
    if (log->fd < 0) weft_fail(log->ctx, WEFT_E_FILE, "%s: cannot be written: %s", log->path, strerror(errno));
    return log->fd >= 0;
}

weft_event_log *weft_event_log_open(weft_ctx *c, const char *folder, int64_t after_step) {
    static const char version[] = "brain.Event:2";
    weft_event_log *log = weft_ok(c) ? calloc(1, sizeof *log) : NULL;
    if (log) *log = (weft_event_log){ .ctx = c, .fd = -1 };
    if (log && open_new(log, folder)) {
        struct bytes e = event_begin(0);
        put_bytes(&e, 3, version, sizeof version - 1);
        weft_status status = event_end(log, &e);
        if (!status && after_step > 0) {
            struct bytes session = { 0 };
            e = event_begin(after_step + 1);
            put_key(&session, 1, VARINT);
            put_varint(&session, 1);
            put_message(&e, 7, &session);
            status = event_end(log, &e);
        }
        if (!status) return log;
    }
    if (weft_ok(c)) weft_fail(c, WEFT_E_MEMORY, "no memory for a log");
    weft_event_log_close(log);
    return NULL;
}

const char *weft_event_log_path(const weft_event_log *log) { return log->path; }

void weft_event_log_close(weft_event_log *log) {
    if (!log) return;
    if (log->fd >= 0) close(log->fd);
    free(log->path);
    free(log);
}
