/* metadata.jsonl (Hugging Face's ImageFolder): a line a picture, {"file_name": "a/1.png", "text": "a caption"}, the
 * file relative to the metadata's own folder. Other fields are left alone. */
#include "nodes/data/dataset_internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/json.h"

enum { METADATA_LIMIT = 1 << 30, LINE_LIMIT = 1 << 21 };

struct reading {
    weft_ctx *c;
    weft_dataset *d;
    const data_files *files;
    const data_file *self;
    char *path;                 /* of the metadata file, for messages */
    size_t line;
};

/* Whether a name stays in its folder: no root, no "..". */
static bool stays_inside(const char *name) {
    if (*name == '/') return false;
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (!strncmp(part, "..", 2) && (!part[2] || part[2] == '/')) return false;
    }
    return true;
}

static bool take_entry(struct reading *r, const cJSON *entry) {
    char path[PATH_MAX];
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(entry, "file_name");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(entry, "text");
    const char *slash = strrchr(r->self->path, '/');
    int folder = slash ? (int)(slash + 1 - r->self->path) : 0;
    if (!cJSON_IsString(name) || !cJSON_IsString(text))
        return data_leave_out(r->c, r->d, "%s:%zu: expected {\"file_name\": \"…\", \"text\": \"…\"}, found %s as %s",
                              r->path, r->line, weft_json_kind(cJSON_IsString(name) ? text : name),
                              cJSON_IsString(name) ? "text" : "file_name");
    const char *below = name->valuestring;
    while (!strncmp(below, "./", 2)) below += 2;
    if (!stays_inside(below))
        return data_leave_out(r->c, r->d, "%s:%zu: \"%s\" leads out of the folder", r->path, r->line, below);
    bool fits = snprintf(path, sizeof path, "%.*s%s", folder, r->self->path, below) < (int)sizeof path;
    data_file *file = fits ? data_files_find(r->files, path) : NULL;
    if (!file || file->kind != DATA_PICTURE)
        return data_leave_out(r->c, r->d, "%s:%zu: \"%s\" %s", r->path, r->line, below,
                              file ? "is no picture that can be read" : "is not there");
    if (file->caption)
        return data_leave_out(r->c, r->d, "%s:%zu: \"%s\" has a caption already", r->path, r->line, below);
    file->caption = strdup(text->valuestring);
    return file->caption || data_no_memory(r->c);
}

static bool take_line(struct reading *r, const char *text, size_t size) {
    size_t blank = 0;
    while (blank < size && strchr(" \t\r", text[blank]) && text[blank]) blank++;
    if (blank == size) return true;
    if (size > LINE_LIMIT)
        return data_leave_out(r->c, r->d, "%s:%zu: a line of %zu bytes; at most %d are read", r->path, r->line, size,
                              LINE_LIMIT);
    cJSON *entry = weft_json_parse_line(data_quiet(r->d), r->path, r->line, text, size);
    if (!entry) return data_leave_out_fault(r->c, r->d);
    bool on = take_entry(r, entry);
    cJSON_Delete(entry);
    return on;
}

static bool read_file(struct reading *r) {
    weft_ctx *quiet = data_quiet(r->d);
    size_t size;
    r->path = weft_path_join(quiet, r->d->o.folder, r->self->path);
    char *text = r->path ? weft_file_read(quiet, r->path, METADATA_LIMIT, &size) : NULL;
    bool on = text || data_leave_out_fault(r->c, r->d);
    r->line = 0;
    for (size_t at = 0; on && text && at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        r->line++;
        on = take_line(r, text + at, length);
        at += length + 1;
    }
    weft_text_free(text);
    weft_text_free(r->path);
    return on;
}

bool data_read_metadata(weft_ctx *c, weft_dataset *d, const data_files *files) {
    bool on = true;
    for (int64_t i = 0; on && i < files->count; i++) {
        struct reading r = { .c = c, .d = d, .files = files, .self = &files->at[i] };
        if (r.self->kind == DATA_METADATA) on = read_file(&r);
    }
    return on;
}
