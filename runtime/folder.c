/* Writing a folder so that it is complete or not there: see file.h. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/internal.h"

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *where) {
    (void)s;
    (void)kind;
    (void)where;
    return remove(path);
}

bool weft_folder_remove(const char *path) { return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0; }

static bool fail(weft_ctx *c, const char *path) {
    weft_fail(c, WEFT_E_FILE, "%s: cannot be written: %s", path, strerror(errno));
    return false;
}

bool weft_folder_create(weft_ctx *c, weft_folder_out *out, const char *path) {
    static _Atomic unsigned serial;
    *out = (weft_folder_out){ .path = path };
    struct stat s;
    size_t length = strlen(path), room = length + 48;
    while (length && path[length - 1] == '/') length--;
    if (!weft_ok(c)) return false;
    if (!length || (!stat(path, &s) && !S_ISDIR(s.st_mode))) {
        weft_fail(c, WEFT_E_FILE, "%s: is no folder, and is not written over", *path ? path : "\"\"");
        return false;
    }
    size_t above = length;
    while (above && path[above - 1] != '/') above--;
    char *name = weft_host_alloc(room);
    if (!name) {
        weft_fail(c, WEFT_E_MEMORY, "no memory for a path");
        return false;
    }
    int made = -1;
    for (int tries = 0; tries < 100 && made; tries++) {
        snprintf(name, room, "%.*s.weft-%ld-%u.tmp", (int)above, path, (long)getpid(), atomic_fetch_add(&serial, 1));
        made = mkdir(name, 0777);
        if (made && errno != EEXIST) break;
    }
    if (made) {
        fail(c, path);
        weft_host_free(name);
        return false;
    }
    out->temporary = name;
    return true;
}

/* So that names survive a power cut; a file system that cannot is no error. */
static void sync_folder(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

bool weft_folder_commit(weft_ctx *c, weft_folder_out *out) {
    struct stat s;
    sync_folder(out->temporary);
    if (stat(out->path, &s)) {
        if (rename(out->temporary, out->path)) return fail(c, out->path);
    } else {
        if (renameat2(AT_FDCWD, out->temporary, AT_FDCWD, out->path, RENAME_EXCHANGE)) return fail(c, out->path);
        weft_folder_remove(out->temporary);         /* what stood there before */
    }
    sync_folder(out->path);
    weft_host_free(out->temporary);
    out->temporary = NULL;
    return true;
}

void weft_folder_discard(weft_folder_out *out) {
    if (!out->temporary) return;
    weft_folder_remove(out->temporary);
    weft_host_free(out->temporary);
    out->temporary = NULL;
}
