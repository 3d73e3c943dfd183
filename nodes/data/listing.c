/* The pictures below a folder and their captions. See dataset.h. */
#include "nodes/data/dataset_internal.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "nodes/image/picture.h"
#include "runtime/file.h"
#include "runtime/json_text.h"

enum { DEPTH = 32, CAPTION_LIMIT = 1 << 20, MOST_REPEATS = 1000000 };

/* ---- leaving out ------------------------------------------------------------------------------------------------- */

bool data_no_memory(weft_ctx *c) {
    weft_fail(c, WEFT_E_MEMORY, "data set: out of memory");
    return false;
}

static bool left_out(weft_ctx *c, weft_dataset *d, weft_status code, const char *message) {
    if (d->o.strict) {
        weft_fail(c, code, "%s", message);
        return false;
    }
    d->left_out++;
    weft_warn(c, "%s", message);
    return weft_ok(c);
}

bool data_leave_out(weft_ctx *c, weft_dataset *d, const char *format, ...) {
    char message[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    return left_out(c, d, WEFT_E_FORMAT, message);
}

bool data_leave_out_fault(weft_ctx *c, weft_dataset *d) {
    weft_ctx *quiet = data_quiet(d);
    weft_status code = weft_error(quiet);
    bool on = code == WEFT_E_FILE || code == WEFT_E_FORMAT;
    if (on) on = left_out(c, d, code, weft_message(quiet));
    else weft_fail(c, code, "%s", weft_message(quiet));
    weft_clear(quiet);
    return on;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

struct ancestor { const struct ancestor *above; dev_t device; ino_t inode; };

struct walk { weft_ctx *c; weft_dataset *d; data_files *files; };

static int kind_of(const char *name) {
    static const char *const foreign[] = { ".webp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".jxl" };
    const char *ending = strrchr(name, '.');
    if (weft_picture_is_name(name)) return DATA_PICTURE;
    if (ending && !strcmp(ending, ".txt")) return DATA_TEXT;
    if (!strcmp(name, "metadata.jsonl")) return DATA_METADATA;
    for (size_t i = 0; ending && i < sizeof foreign / sizeof *foreign; i++)
        if (!strcasecmp(ending, foreign[i])) return DATA_FOREIGN;
    return -1;
}

static bool add_file(struct walk *w, const char *path, int kind) {
    data_files *f = w->files;
    if (f->count == f->room) {
        int64_t room = f->room ? 2 * f->room : 256;
        data_file *grown = realloc(f->at, (size_t)room * sizeof *grown);
        if (!grown) return data_no_memory(w->c);
        f->at = grown;
        f->room = room;
    }
    char *copy = strdup(path);
    if (!copy) return data_no_memory(w->c);
    f->at[f->count++] = (data_file){ .path = copy, .kind = kind };
    return true;
}

static bool walk(struct walk *w, const char *below, int depth, const struct ancestor *above);

/* One name in the folder `below` (relative; "" is the root). */
static bool visit(struct walk *w, const char *below, const char *name, int depth, const struct ancestor *above) {
    char path[PATH_MAX], full[PATH_MAX];
    struct stat s;
    if (*name == '.') return true;
    int n = snprintf(path, sizeof path, "%s%s%s", below, *below ? "/" : "", name);
    int m = snprintf(full, sizeof full, "%s/%s", w->d->o.folder, path);
    if (n >= (int)sizeof path || m >= (int)sizeof full)
        return data_leave_out(w->c, w->d, "%s/%s: a path in it is too long", w->d->o.folder, below);
    int kind = kind_of(name);
    if (stat(full, &s)) return kind < 0 || data_leave_out(w->c, w->d, "%s: %s", full, strerror(errno));
    if (S_ISREG(s.st_mode)) return kind < 0 || add_file(w, path, kind);
    if (!S_ISDIR(s.st_mode)) return true;
    for (const struct ancestor *a = above; a; a = a->above)
        if (a->device == s.st_dev && a->inode == s.st_ino) return true;     /* a link back to where we came from */
    return walk(w, path, depth + 1, &(struct ancestor){ above, s.st_dev, s.st_ino });
}

static bool walk(struct walk *w, const char *below, int depth, const struct ancestor *above) {
    char full[PATH_MAX];
    const char *folder = w->d->o.folder;
    if (snprintf(full, sizeof full, "%s%s%s", folder, *below ? "/" : "", below) >= (int)sizeof full || depth > DEPTH)
        return data_leave_out(w->c, w->d, "%s/%s: too many folders inside each other", folder, below);
    DIR *dir = opendir(full);
    if (!dir && errno == ENOMEM) return data_no_memory(w->c);
    if (!dir && *below) return data_leave_out(w->c, w->d, "%s: cannot be read: %s", full, strerror(errno));
    if (!dir) {
        weft_fail(w->c, WEFT_E_FILE, "%s: cannot be read as a folder of pictures: %s", full, strerror(errno));
        return false;
    }
    bool on = true;
    for (struct dirent *e; on && (e = readdir(dir));) on = visit(w, below, e->d_name, depth, above);
    closedir(dir);
    return on;
}

static int file_order(const void *a, const void *b) {
    return strcmp(((const data_file *)a)->path, ((const data_file *)b)->path);
}

data_file *data_files_find(const data_files *f, const char *path) {
    if (!f->count) return NULL;
    return bsearch(&(data_file){ .path = (char *)path }, f->at, (size_t)f->count, sizeof *f->at, file_order);
}

static void free_files(data_files *f) {
    for (int64_t i = 0; i < f->count; i++) {
        free(f->at[i].path);
        free(f->at[i].caption);
    }
    free(f->at);
}

/* ---- captions ---------------------------------------------------------------------------------------------------- */

/* Cuts white space off both ends and turns line breaks to spaces, in place. */
static void tidy(char *s) {
    size_t n = strlen(s), skip = strncmp(s, "\xef\xbb\xbf", 3) ? 0 : 3;
    skip += strspn(s + skip, " \t\r\n");
    while (n > skip && strchr(" \t\r\n", s[n - 1])) n--;
    memmove(s, s + skip, n - skip);
    s[n - skip] = 0;
    for (; *s; s++)
        if (*s == '\n' || *s == '\r' || *s == '\t') *s = ' ';
}

/* The caption file's text for free(); NULL where it is of no use: *on then says whether the work goes on. */
static char *caption_file(weft_ctx *c, weft_dataset *d, const char *below, bool *on) {
    weft_ctx *quiet = data_quiet(d);
    size_t size;
    char *path = weft_path_join(quiet, d->o.folder, below), *copy = NULL;
    char *text = path ? weft_file_read(quiet, path, CAPTION_LIMIT, &size) : NULL;
    if (!text) *on = data_leave_out_fault(c, d);
    else if (strlen(text) != size || !weft_json_is_utf8(text))
        *on = data_leave_out(c, d, "%s: the caption is no UTF-8 text", path);
    else if (!(copy = strdup(text))) *on = data_no_memory(c);
    weft_text_free(text);
    weft_text_free(path);
    return copy;
}

/* "12_name/…": 12 and the name's bytes; 1 where the path does not begin so. */
static int64_t repeats_of(const char *path, const char **name, size_t *length) {
    size_t digits = strspn(path, "0123456789");
    const char *slash = strchr(path, '/');
    *length = 0;
    if (!slash || !digits || path[digits] != '_' || path + digits + 1 >= slash) return 1;
    *name = path + digits + 1;
    *length = (size_t)(slash - *name);
    return digits > 7 ? MOST_REPEATS + 1 : strtoll(path, NULL, 10);
}

/* The caption of a picture, malloc'd; NULL as caption_file(). */
static char *caption_of(weft_ctx *c, weft_dataset *d, const data_files *files, data_file *f, bool *on) {
    char text[PATH_MAX], *caption = f->caption;
    const char *name = NULL, *slash = strrchr(f->path, '/');
    size_t stem = (size_t)(strrchr(f->path, '.') - f->path), start = slash ? (size_t)(slash + 1 - f->path) : 0, length;
    f->caption = NULL;
    if (caption) return caption;
    snprintf(text, sizeof text, "%.*s.txt", (int)stem, f->path);
    const data_file *beside = data_files_find(files, text);
    if (beside) return caption_file(c, d, beside->path, on);
    if (d->o.repeats) repeats_of(f->path, &name, &length);
    snprintf(text, sizeof text, "%.*s", name ? (int)length : (int)(stem - start), name ? name : f->path + start);
    if (!weft_json_is_utf8(text)) *on = data_leave_out(c, d, "%s/%s: the name is no UTF-8 text", d->o.folder, f->path);
    else if (!(caption = strdup(text))) *on = data_no_memory(c);
    return caption;
}

/* ---- the list ---------------------------------------------------------------------------------------------------- */

/* Takes the picture into the list, unless it is left out. */
static bool add_picture(weft_ctx *c, weft_dataset *d, const data_files *files, data_file *f) {
    const char *name;
    size_t length;
    bool on = true;
    data_item *item = &d->list.items[d->list.count];
    int64_t h = 0, w = 0;
    *item = (data_item){ .repeats = d->o.repeats ? repeats_of(f->path, &name, &length) : 1 };
    if (item->repeats > MOST_REPEATS || !item->repeats)
        return data_leave_out(c, d, "%s/%s: the folder asks for %s repeats", d->o.folder, f->path,
                              item->repeats ? "more than 1000000" : "0");
    if (d->bucket_count > 1) {
        weft_ctx *quiet = data_quiet(d);
        char *path = weft_path_join(quiet, d->o.folder, f->path);
        bool known = path && weft_picture_size(quiet, path, &h, &w);
        weft_text_free(path);
        if (!known) return data_leave_out_fault(c, d);
        item->bucket = data_choose_bucket(d, h, w);
    }
    if (!(item->caption = caption_of(c, d, files, f, &on))) return on;
    tidy(item->caption);
    d->list.count++;
    return (item->path = strdup(f->path)) || data_no_memory(c);
}

/* One line for all files of kinds that are not read. */
static bool tell_foreign(weft_ctx *c, weft_dataset *d, const data_files *files) {
    const char *first = NULL;
    int64_t count = 0;
    for (int64_t i = 0; i < files->count; i++)
        if (files->at[i].kind == DATA_FOREIGN && !count++) first = files->at[i].path;
    if (!count) return true;
    return data_leave_out(c, d, "%s: %lld pictures of kinds that are not read, such as %s; PNG, JPEG and BMP are",
                          d->o.folder, (long long)count, first);
}

bool data_list_folder(weft_ctx *c, weft_dataset *d) {
    data_files files = { 0 };
    struct stat s;
    struct walk w = { c, d, &files };
    struct ancestor root = { 0 };
    if (!stat(d->o.folder, &s)) root = (struct ancestor){ NULL, s.st_dev, s.st_ino };
    bool on = walk(&w, "", 0, &root);
    if (on && files.count) qsort(files.at, (size_t)files.count, sizeof *files.at, file_order);
    on = on && tell_foreign(c, d, &files) && data_read_metadata(c, d, &files);
    d->list.items = on ? calloc((size_t)files.count + 1, sizeof *d->list.items) : NULL;
    if (on && !d->list.items) on = data_no_memory(c);
    for (int64_t i = 0; on && i < files.count; i++) {
        if (files.at[i].kind == DATA_PICTURE) on = add_picture(c, d, &files, &files.at[i]);
        if (on && i % 64 == 0) on = weft_progress(c, "data set", i, files.count);
    }
    free_files(&files);
    if (on && !d->list.count)
        weft_fail(c, WEFT_E_FILE, "%s: there is no picture in it that can be used (PNG, JPEG or BMP)", d->o.folder);
    return on && d->list.count;
}
