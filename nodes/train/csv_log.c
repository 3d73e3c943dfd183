/* A log of numbers as CSV; see csv_log.h. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nodes/train/csv_log.h"
#include "runtime/file.h"

struct weft_csv_log {
    weft_ctx *ctx;
    char *path;
    int fd, columns;
};

enum { FILE_LIMIT = 1 << 30, LINE = 4096 };

static weft_status no_memory(weft_ctx *c) { return weft_fail(c, WEFT_E_MEMORY, "no memory for a log"); }

/* The head line, with its line end; false where it is too long. */
static bool head_line(int n, const char *const *columns, char *out) {
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        used += (size_t)snprintf(out + used, LINE - used, "%s%c", columns[i], i + 1 < n ? ',' : '\n');
        if (used >= LINE) return false;
    }
    return true;
}

/* Where the lines that stay end. */
static size_t keep(const char *text, size_t size, int64_t after_step) {
    const char *line = memchr(text, '\n', size);
    while (line && ++line < text + size) {
        const char *end = memchr(line, '\n', size - (size_t)(line - text));
        char *behind;
        long long step = strtoll(line, &behind, 10);
        if (!end || behind == line || *behind != ',' || step > after_step) return (size_t)(line - text);
        line = end;
    }
    return size;
}

/* How much of the file stays, or −1 with the error set. */
static int64_t old_part(weft_ctx *c, const char *path, const char *head, int64_t after_step) {
    struct stat s;
    size_t size;
    if (after_step <= 0 || stat(path, &s) || s.st_size == 0) return 0;
    char *text = weft_file_read(c, path, FILE_LIMIT, &size);
    if (!text) return -1;
    int64_t stays = -1;
    if (size < strlen(head) || memcmp(text, head, strlen(head)))
        weft_fail(c, WEFT_E_FORMAT, "%s: has other columns than %.*s; move it away, or log to another folder", path,
                  (int)strlen(head) - 1, head);
    else stays = (int64_t)keep(text, size, after_step);
    weft_text_free(text);
    return stays;
}

static bool put(weft_csv_log *log, const char *text) {
    const size_t n = strlen(text);
    if (write(log->fd, text, n) == (ssize_t)n) return true;
    weft_fail(log->ctx, WEFT_E_FILE, "%s: cannot be written: %s", log->path, strerror(errno));
    return false;
}

weft_csv_log *weft_csv_log_open(weft_ctx *c, const char *path, int n, const char *const *columns, int64_t after_step) {
    char head[LINE];
    weft_csv_log *log = weft_ok(c) ? calloc(1, sizeof *log) : NULL;
    if (!log) {
        if (weft_ok(c)) no_memory(c);
        return NULL;
    }
    *log = (weft_csv_log){ .ctx = c, .path = strdup(path), .fd = -1, .columns = n };
    if (!log->path) no_memory(c);
    else if (!head_line(n, columns, head)) weft_fail(c, WEFT_E_ARGUMENT, "%s: the columns' names are too long", path);
    const int64_t stays = weft_ok(c) ? old_part(c, path, head, after_step) : -1;
    if (stays >= 0) {
        log->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
        struct stat s;
        if (log->fd < 0 || fstat(log->fd, &s) || (S_ISREG(s.st_mode) && ftruncate(log->fd, stays)))
            weft_fail(c, WEFT_E_FILE, "%s: cannot be written: %s", path, strerror(errno));
        else if (stays == 0) put(log, head);
    }
    if (weft_ok(c)) return log;
    weft_csv_log_close(log);
    return NULL;
}

weft_status weft_csv_log_row(weft_csv_log *log, int64_t step, const double *values) {
    char line[LINE];
    size_t used = (size_t)snprintf(line, sizeof line, "%lld", (long long)step);
    for (int i = 0; i + 1 < log->columns && used < sizeof line; i++)
        if (isnan(values[i])) used += (size_t)snprintf(line + used, sizeof line - used, ",");
        else used += (size_t)snprintf(line + used, sizeof line - used, ",%.9g", values[i]);
    if (used + 2 > sizeof line) return weft_fail(log->ctx, WEFT_E_ARGUMENT, "%s: too many columns", log->path);
    memcpy(line + used, "\n", 2);
    put(log, line);
    return weft_error(log->ctx);
}

void weft_csv_log_close(weft_csv_log *log) {
    if (!log) return;
    if (log->fd >= 0) close(log->fd);
    free(log->path);
    free(log);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* The number of the column in the head line, 0 for none (the first is the steps'). */
static int column_of(const char *text, const char *column) {
    const size_t n = strlen(column);
    int at = 0;
    for (const char *p = text; *p && *p != '\n'; p++)
        if (*p == ',') {
            at++;
            if (!strncmp(p + 1, column, n) && (p[1 + n] == ',' || p[1 + n] == '\n')) return at;
        }
    return 0;
}

bool weft_csv_log_read(weft_ctx *c, const char *path, const char *column, int64_t *n, double **steps, double **values) {
    size_t size;
    char *text = weft_ok(c) ? weft_file_read(c, path, FILE_LIMIT, &size) : NULL;
    if (!text) return false;
    const int at = column_of(text, column);
    int64_t lines = 0;
    for (const char *p = text; (p = strchr(p, '\n')); p++) lines++;
    *n = 0;
    *steps = malloc((size_t)(lines + 1) * sizeof **steps);
    *values = malloc((size_t)(lines + 1) * sizeof **values);
    if (!at) weft_fail(c, WEFT_E_ARGUMENT, "%s: has no column %s", path, column);
    else if (!*steps || !*values) no_memory(c);
    for (char *line = weft_ok(c) ? strchr(text, '\n') : NULL; line && line[1]; line = strchr(line + 1, '\n')) {
        char *p = line, *end;
        double step = strtod(line + 1, &end);
        for (int i = 0; p && i < at; i++) p = strpbrk(p + 1, ",\n");
        if (!p || *p != ',' || end == line + 1) continue;
        double value = strtod(p + 1, &end);
        if (end == p + 1 || p[1] == '\n' || !isfinite(step)) continue;
        (*steps)[*n] = step;
        (*values)[(*n)++] = value;
    }
    weft_text_free(text);
    if (weft_ok(c)) return true;
    free(*steps);
    free(*values);
    return false;
}
