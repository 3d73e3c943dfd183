/* Files: reading one whole, and writing one, or a folder of them, so that it is complete or not there. */
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
/* All four at once: a file of this content. False with the error set. */
bool weft_file_save(weft_ctx *c, const char *path, const void *data, size_t bytes) WEFT_MUST_CHECK;

/* A folder being filled under a temporary name beside the place where it will stand, so that it is there whole or not at all. */
typedef struct weft_folder_out {
    const char *path;       /* the caller's; must outlive the writing */
    char *temporary;        /* put files here; NULL: nothing is being written */
} weft_folder_out;

/* Makes the temporary folder; the folder above must be there. False with the error set. */
bool weft_folder_create(weft_ctx *c, weft_folder_out *out, const char *path) WEFT_MUST_CHECK;
/* Gives it its name; a folder that has it already is exchanged in one step and then removed with all that is in it. False with the
 * error set: it must then be discarded. */
bool weft_folder_commit(weft_ctx *c, weft_folder_out *out) WEFT_MUST_CHECK;
void weft_folder_discard(weft_folder_out *out);     /* removes what was written; after a commit, or on a zeroed one: nothing */
/* Removes a folder and all that is in it; links are removed, not followed. False where something stays. */
bool weft_folder_remove(const char *path);

/* "folder/name", for weft_text_free(); NULL with the error set. */
char *weft_path_join(weft_ctx *c, const char *folder, const char *name);
void weft_text_free(char *text);       /* takes NULL */
/* A plain name of a file: not empty, no slash, not "." or "..". */
bool weft_path_is_plain(const char *name);

#endif
