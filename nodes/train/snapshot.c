/* Checkpoints of a training run; see snapshot.h. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "nodes/train/snapshot.h"
#include "runtime/json.h"

#define FORMAT "weft-training-checkpoint"
#define MANIFEST "checkpoint.json"
#define PREFIX "checkpoint-"
enum { DEPTH = 4, MANIFEST_LIMIT = 1 << 24 };

static bool no_memory(weft_ctx *c) {
    weft_fail(c, WEFT_E_MEMORY, "no memory for a checkpoint");
    return false;
}

/* ---- the manifest ------------------------------------------------------------------------------------------------ */

/* Adds the files below root/below ("" or "name/"), but for the manifest. False with the error set. */
static bool list_files(weft_ctx *c, const char *root, const char *below, int depth, cJSON *files) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", root, below);
    DIR *d = opendir(path);
    bool ok = d != NULL;
    if (!d) weft_fail(c, WEFT_E_FILE, "%s: %s", path, strerror(errno));
    for (struct dirent *e; ok && (e = readdir(d));) {
        char name[NAME_MAX * 2];
        struct stat s;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || (!*below && !strcmp(e->d_name, MANIFEST))) continue;
        const int n = snprintf(name, sizeof name, "%s%s", below, e->d_name);
        const int m = snprintf(path, sizeof path, "%s/%s", root, name);
        if (n >= (int)sizeof name || m >= (int)sizeof path || stat(path, &s)) {
            weft_fail(c, WEFT_E_FILE, "%s: cannot be listed", path);
            ok = false;
        } else if (S_ISDIR(s.st_mode) && depth < DEPTH) {
            strcat(name, "/");
            ok = list_files(c, root, name, depth + 1, files);
        } else if (!cJSON_AddNumberToObject(files, name, (double)s.st_size)) ok = no_memory(c);
    }
    if (d) closedir(d);
    return ok;
}

static bool write_manifest(weft_ctx *c, const weft_snapshot *s) {
    cJSON *manifest = cJSON_CreateObject(), *files = cJSON_CreateObject();
    char *text = NULL, *path = weft_path_join(c, s->out.temporary, MANIFEST);
    bool ok = manifest && files && cJSON_AddStringToObject(manifest, "format", FORMAT) &&
              cJSON_AddNumberToObject(manifest, "step", (double)s->step);
    if (!ok || !cJSON_AddItemToObject(manifest, "files", files)) {
        cJSON_Delete(files);
        ok = no_memory(c);
    }
    ok = ok && path && list_files(c, s->out.temporary, "", 0, files);
    if (ok && !(text = cJSON_Print(manifest))) ok = no_memory(c);
    ok = ok && weft_file_save(c, path, text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(manifest);
    weft_text_free(path);
    return ok;
}

/* Whether all that the manifest lists is there. */
static bool files_are_there(weft_ctx *c, const char *root, const cJSON *files) {
    const cJSON *f;
    cJSON_ArrayForEach(f, files) {
        char path[PATH_MAX];
        struct stat s;
        int64_t size;
        if (!weft_json_i64(f, &size) || strstr(f->string, "..") || f->string[0] == '/')
            weft_fail(c, WEFT_E_FORMAT, "%s: its " MANIFEST " has no length for %s", root, f->string);
        else if (snprintf(path, sizeof path, "%s/%s", root, f->string) >= (int)sizeof path || stat(path, &s))
            weft_fail(c, WEFT_E_FORMAT, "%s: %s is missing", root, f->string);
        else if (s.st_size != size)
            weft_fail(c, WEFT_E_FORMAT, "%s: %s has %lld bytes, expected %lld", root, f->string, (long long)s.st_size,
                      (long long)size);
        if (!weft_ok(c)) return false;
    }
    return true;
}

bool weft_snapshot_check(weft_ctx *c, const char *path, int64_t *step) {
    char *name = weft_ok(c) ? weft_path_join(c, path, MANIFEST) : NULL;
    cJSON *manifest = name ? weft_json_read(c, name, MANIFEST_LIMIT, 0) : NULL;
    if (manifest) {
        const cJSON *format = cJSON_GetObjectItemCaseSensitive(manifest, "format");
        const cJSON *files = cJSON_GetObjectItemCaseSensitive(manifest, "files");
        const bool ours = cJSON_IsString(format) && !strcmp(format->valuestring, FORMAT) && cJSON_IsObject(files) &&
                          weft_json_i64(cJSON_GetObjectItemCaseSensitive(manifest, "step"), step);
        if (!ours) weft_fail(c, WEFT_E_FORMAT, "%s: is no checkpoint of a training run", name);
        else files_are_there(c, path, files);
    }
    cJSON_Delete(manifest);
    weft_text_free(name);
    return weft_ok(c);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

/* The number in a name "checkpoint-N"; −1 for another name. */
static int64_t number_of(const char *name) {
    const size_t n = sizeof PREFIX - 1;
    char *end;
    if (strncmp(name, PREFIX, n) || name[n] < '0' || name[n] > '9') return -1;
    errno = 0;
    const long long number = strtoll(name + n, &end, 10);
    return *end || errno ? -1 : number;
}

static int falling(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The numbers in the folder, the greatest first, malloc'd; an empty list where there is no folder. NULL without memory.
 * */
static int64_t *numbers_in(weft_ctx *c, const char *folder, int *count) {
    int room = 64;
    *count = 0;
    DIR *d = opendir(folder);
    if (!d && errno != ENOENT) {
        weft_fail(c, WEFT_E_FILE, "%s: %s", folder, strerror(errno));
        return NULL;
    }
    int64_t *list = malloc((size_t)room * sizeof *list);
    for (struct dirent *e; list && d && (e = readdir(d));) {
        const int64_t n = number_of(e->d_name);
        if (n < 0) continue;
        if (*count == room) {
            int64_t *more = realloc(list, (size_t)(room *= 2) * sizeof *list);
            if (!more) free(list);
            list = more;
            if (!list) break;
        }
        list[(*count)++] = n;
    }
    if (d) closedir(d);
    if (!list) no_memory(c);
    else qsort(list, (size_t)*count, sizeof *list, falling);
    return list;
}

char *weft_snapshot_path(weft_ctx *c, const char *folder, int64_t step) {
    char name[48];
    snprintf(name, sizeof name, PREFIX "%lld", (long long)step);
    return weft_path_join(c, folder, name);
}

/* Whether FOLDER/checkpoint-STEP is complete; the error is cleared, after `ignored` was told. */
static bool is_complete(weft_ctx *c, const char *folder, int64_t step, weft_snapshot_ignored_fn *ignored, void *user) {
    char text[1024];
    int64_t found = -1;
    char *path = weft_snapshot_path(c, folder, step);
    const bool whole = path && weft_snapshot_check(c, path, &found);
    if (whole && found != step) weft_fail(c, WEFT_E_FORMAT, "%s: says that it is of step %lld", path, (long long)found);
    weft_text_free(path);
    if (weft_ok(c)) return true;
    if (weft_error(c) == WEFT_E_MEMORY || weft_error(c) == WEFT_E_CANCELLED) return false;
    snprintf(text, sizeof text, "%s; not taken for a checkpoint", weft_message(c));
    weft_clear(c);
    if (ignored) ignored(user, text);
    return false;
}

int64_t weft_snapshot_latest(weft_ctx *c, const char *folder, weft_snapshot_ignored_fn *ignored, void *user) {
    int count;
    int64_t latest = -1, *list = weft_ok(c) ? numbers_in(c, folder, &count) : NULL;
    for (int i = 0; list && i < count && latest < 0 && weft_ok(c); i++)
        if (is_complete(c, folder, list[i], ignored, user)) latest = list[i];
    free(list);
    return latest;
}

/* ---- removing ---------------------------------------------------------------------------------------------------- */

/* Takes the name away first: a removal that is interrupted leaves nothing that looks like a checkpoint. */
static bool remove_one(weft_ctx *c, const char *folder, int64_t step) {
    char away[PATH_MAX];
    char *path = weft_snapshot_path(c, folder, step);
    const bool fits = path && snprintf(away, sizeof away, "%s/.removed-%lld", folder,
                                       (long long)step) < (int)sizeof away;
    if (fits) weft_folder_remove(away);         /* what an interrupted removal left */
    const bool gone = fits && rename(path, away) == 0 && weft_folder_remove(away);
    weft_text_free(path);
    return gone;
}

static void remove_oldest(weft_ctx *c, const char *folder, int keep) {
    int count, complete = 0;
    int64_t *list = numbers_in(c, folder, &count);
    for (int i = 0; list && i < count && weft_ok(c); i++) {
        if (complete < keep) complete += is_complete(c, folder, list[i], NULL, NULL);
        else if (!remove_one(c, folder, list[i])) break;
    }
    free(list);
}

int weft_snapshot_set_aside(weft_ctx *c, const char *folder, int64_t step) {
    int count, moved = 0;
    int64_t *list = weft_ok(c) ? numbers_in(c, folder, &count) : NULL;
    for (int i = 0; list && i < count && list[i] > step && weft_ok(c); i++) {
        char aside[PATH_MAX];
        char *path = weft_snapshot_path(c, folder, list[i]);
        if (path && snprintf(aside, sizeof aside, "%s.old", path) < (int)sizeof aside) weft_folder_remove(aside);
        if (path && rename(path, aside))
            weft_fail(c, WEFT_E_FILE, "%s: cannot be renamed: %s", path, strerror(errno));
        moved++;
        weft_text_free(path);
    }
    free(list);
    return weft_ok(c) ? moved : -1;
}

void weft_snapshot_tidy(const char *folder) {
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[PATH_MAX];
        const char *end = strrchr(e->d_name, '.');
        const bool half = !strncmp(e->d_name, ".weft-", 6) && end && !strcmp(end, ".tmp");
        if (!half && strncmp(e->d_name, ".removed-", 9)) continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path) weft_folder_remove(path);
    }
    if (d) closedir(d);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

bool weft_snapshot_begin(weft_ctx *c, weft_snapshot *s, const char *folder, int64_t step) {
    *s = (weft_snapshot){ .step = step };
    if (!weft_ok(c)) return false;
    if (mkdir(folder, 0777) && errno != EEXIST) {
        weft_fail(c, WEFT_E_FILE, "%s: cannot be made: %s", folder, strerror(errno));
        return false;
    }
    s->folder = strdup(folder);
    if (!s->folder) no_memory(c);
    s->path = s->folder ? weft_snapshot_path(c, folder, step) : NULL;
    if (s->path && weft_folder_create(c, &s->out, s->path)) return true;
    weft_snapshot_discard(s);
    return false;
}

weft_status weft_snapshot_commit(weft_ctx *c, weft_snapshot *s, int keep) {
    if (!weft_ok(c) || !write_manifest(c, s) || !weft_folder_commit(c, &s->out)) return weft_error(c);
    if (keep > 0) remove_oldest(c, s->folder, keep);
    return weft_error(c);
}

void weft_snapshot_discard(weft_snapshot *s) {
    weft_folder_discard(&s->out);
    weft_text_free(s->path);
    free(s->folder);
    *s = (weft_snapshot){ .step = s->step };
}
