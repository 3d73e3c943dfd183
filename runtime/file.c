/* Whole files in and out. Writing goes to a temporary name in the same folder, is synced, then renamed: a reader
 * sees the old file or the new one, and a full disk leaves nothing behind. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "runtime/file.h"
#include "runtime/internal.h"

static const char *kind(mode_t mode) {
    if (S_ISDIR(mode)) return "a folder";
    if (S_ISFIFO(mode)) return "a pipe";
    if (S_ISSOCK(mode)) return "a socket";
    return "a device";
}

int weft_file_open(weft_ctx *c, const char *path, size_t *size) {
    /* Without O_NONBLOCK the opening of a pipe would wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        weft_fail(c, WEFT_E_FILE, "%s: cannot be opened: %s", path, strerror(errno));
        return -1;
    }
    struct stat s;
    if (fstat(fd, &s)) weft_fail(c, WEFT_E_FILE, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(s.st_mode)) weft_fail(c, WEFT_E_FILE, "%s: is %s, expected a file", path, kind(s.st_mode));
    else if ((uintmax_t)s.st_size > SIZE_MAX / 2) weft_fail(c, WEFT_E_FILE, "%s: is too large for this machine", path);
    else {
        *size = (size_t)s.st_size;
        return fd;
    }
    close(fd);
    return -1;
}

char *weft_file_read(weft_ctx *c, const char *path, size_t limit, size_t *size) {
    size_t length;
    int fd = weft_file_open(c, path, &length);
    if (fd < 0) return NULL;
    char *text = NULL;
    if (length > limit) {
        weft_fail(c, WEFT_E_FORMAT, "%s: has %zu bytes; at most %zu are read", path, length, limit);
        goto fail;
    }
    text = weft_host_alloc(length + 1);
    if (!text) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory for %zu bytes", path, length);
        goto fail;
    }
    size_t got = 0;
    while (got < length) {
        ssize_t n = read(fd, text + got, length - got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            weft_fail(c, WEFT_E_FILE, "%s: cannot be read: %s", path, strerror(errno));
            goto fail;
        }
        if (n == 0) break;      /* it was cut while being read */
        got += (size_t)n;
    }
    close(fd);
    text[got] = 0;
    *size = got;
    return text;
fail:
    close(fd);
    weft_host_free(text);
    return NULL;
}

void weft_text_free(char *text) { weft_host_free(text); }

char *weft_path_join(weft_ctx *c, const char *folder, const char *name) {
    size_t length = strlen(folder);
    const char *slash = length && folder[length - 1] != '/' ? "/" : "";
    size_t room = length + strlen(name) + 2;
    char *path = weft_host_alloc(room);
    if (path) snprintf(path, room, "%s%s%s", folder, slash, name);
    else weft_fail(c, WEFT_E_MEMORY, "no memory for a path");
    return path;
}

bool weft_path_is_plain(const char *name) {
    return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

/* The folder part of a path, with its slash; "" for none. */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

bool weft_file_create(weft_ctx *c, weft_file_out *out, const char *path) {
    static _Atomic unsigned serial;
    *out = (weft_file_out){ .path = path, .fd = -1 };
    struct stat s;
    if (!stat(path, &s) && !S_ISREG(s.st_mode)) {
        weft_fail(c, WEFT_E_FILE, "%s: is %s, and is not written over", path, kind(s.st_mode));
        return false;
    }
    size_t folder = folder_length(path), room = folder + 48;
    char *name = weft_host_alloc(room);
    if (!name) {
        weft_fail(c, WEFT_E_MEMORY, "no memory for a path");
        return false;
    }
    for (int tries = 0; tries < 100; tries++) {
        snprintf(name, room, "%.*s.weft-%ld-%u.tmp", (int)folder, path, (long)getpid(), atomic_fetch_add(&serial, 1));
        out->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (out->fd >= 0 || errno != EEXIST) break;
    }
    if (out->fd < 0) {
        weft_fail(c, WEFT_E_FILE, "%s: cannot be written: %s", path, strerror(errno));
        weft_host_free(name);
        return false;
    }
    out->temporary = name;
    return true;
}

bool weft_file_write(weft_ctx *c, weft_file_out *out, const void *data, size_t bytes) {
    const char *p = data;
    while (bytes) {
        ssize_t n = write(out->fd, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            weft_fail(c, WEFT_E_FILE, "%s: cannot be written: %s", out->path, strerror(errno));
            return false;
        }
        p += n;
        bytes -= (size_t)n;
    }
    return true;
}

/* So that the new name survives a power cut; a file system that cannot is no error. */
static void sync_folder(char *path) {
    path[folder_length(path)] = 0;
    int fd = open(*path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

bool weft_file_commit(weft_ctx *c, weft_file_out *out) {
    bool ok = fsync(out->fd) == 0;
    ok = close(out->fd) == 0 && ok;
    out->fd = -1;
    if (!ok || rename(out->temporary, out->path)) {
        weft_fail(c, WEFT_E_FILE, "%s: cannot be written: %s", out->path, strerror(errno));
        return false;
    }
    sync_folder(out->temporary);
    weft_host_free(out->temporary);
    out->temporary = NULL;
    return true;
}

void weft_file_discard(weft_file_out *out) {
    if (!out->temporary) return;
    if (out->fd >= 0) close(out->fd);
    unlink(out->temporary);
    weft_host_free(out->temporary);
    *out = (weft_file_out){ .fd = -1 };
}

bool weft_file_save(weft_ctx *c, const char *path, const void *data, size_t bytes) {
    weft_file_out out = { .fd = -1 };
    bool ok = weft_file_create(c, &out, path) && weft_file_write(c, &out, data, bytes) && weft_file_commit(c, &out);
    weft_file_discard(&out);
    return ok;
}
