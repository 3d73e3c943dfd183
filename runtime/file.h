/* Files: reading one whole, and writing one so that it is complete or not there. */
#ifndef WEFT_FILE_H
#define WEFT_FILE_H

#include "runtime/weft.h"

/* Opens a regular file for reading; −1 with the error set (missing, a folder, a device, no permission). *size: its
 * length. */
int weft_file_open(weft_ctx *c, const char *path, size_t *size);
/* The whole file with a 0 behind it, for weft_text_free(); NULL with the error set, also where it has more than
 * `limit` bytes. */
char *weft_file_read(weft_ctx *c, const char *path, size_t limit, size_t *size);

/* A file being written under a temporary name in the folder where it will stand. */
typedef struct weft_file_out {
    const char *path;       /* the caller's; must outlive the writing */
    char *temporary;        /* NULL: nothing is being written */
    int fd;
} weft_file_out;

/* Each false with the error set; the file must then be discarded. */
bool weft_file_create(weft_ctx *c, weft_file_out *out, const char *path) WEFT_MUST_CHECK;
bool weft_file_write(weft_ctx *c, weft_file_out *out, const void *data, size_t bytes) WEFT_MUST_CHECK;
/* Syncs it and gives it its name, in place of what had it. */
bool weft_file_commit(weft_ctx *c, weft_file_out *out) WEFT_MUST_CHECK;
void weft_file_discard(weft_file_out *out);     /* after a commit, or on a zeroed one: nothing */

/* "folder/name", for weft_text_free(); NULL with the error set. */
char *weft_path_join(weft_ctx *c, const char *folder, const char *name);
void weft_text_free(char *text);       /* takes NULL */
/* A plain name of a file: not empty, no slash, not "." or "..". */
bool weft_path_is_plain(const char *name);

#endif
