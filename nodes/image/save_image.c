/* SaveImage, PreviewImage: pictures to PNG files, with the graph that made them in the texts "prompt" and "workflow".
 * ComfyUI's names of files (prefix_00001_.png, counting on from what is there), its tokens in prefixes, and its
 * rounding (255·x cut to whole numbers).
 */
#include "nodes/image/picture.h"
#include "nodes/values.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct save_image { weft_tensor *images; const char *filename_prefix; };

/* ---- names ------------------------------------------------------------------------------------------------------- */

/* The value of a %token%; false for one that is none. */
static bool token(const char *name, size_t n, const struct tm *t, int64_t w, int64_t h, int64_t batch, char out[32]) {
    static const char *const times[][2] = { { "year", "%Y" }, { "month", "%m" }, { "day", "%d" }, { "hour", "%H" },
                                            { "minute", "%M" }, { "second", "%S" } };
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        if (strlen(times[i][0]) == n && !memcmp(times[i][0], name, n)) return strftime(out, 32, times[i][1], t) > 0;
    long long v = -1;
    if (n == 5 && !memcmp(name, "width", 5)) v = w;
    else if (n == 6 && !memcmp(name, "height", 6)) v = h;
    else if (n == 9 && !memcmp(name, "batch_num", 9)) v = batch;
    if (v >= 0) snprintf(out, 32, "%lld", v);
    return v >= 0;
}

/* Drops empty parts and "." from a path, in place: "a//./b/" is "a/b". */
static void tidy(char *path) {
    char *to = path;
    for (char *part = path, *next; part; part = next) {
        size_t n = strcspn(part, "/");
        next = part[n] ? part + n + 1 : NULL;
        if (!n || (n == 1 && *part == '.')) continue;
        if (to > path) *to++ = '/';
        memmove(to, part, n);
        to += n;
    }
    *to = 0;
}

/* The prefix with its tokens filled in and "\" read as "/"; false where it is too long or leads out of the folder. */
static bool expand(weft_ctx *c, const char *prefix, int64_t w, int64_t h, int64_t batch, char out[PATH_MAX]) {
    time_t now = time(NULL);
    struct tm t;
    localtime_r(&now, &t);
    size_t used = 0;
    for (const char *p = prefix; *p && used < PATH_MAX - 40;) {
        const char *end = *p == '%' ? strchr(p + 1, '%') : NULL;
        char value[32];
        if (end && token(p + 1, (size_t)(end - p - 1), &t, w, h, batch, value)) {
            used += (size_t)snprintf(out + used, PATH_MAX - used, "%s", value);
            p = end + 1;
        } else {
            out[used++] = *p == '\\' ? '/' : *p;
            p++;
        }
    }
    out[used] = 0;
    bool inside = out[0] != '/' && used < PATH_MAX - 40;
    for (const char *part = out; part && inside; part = strchr(part, '/')) {
        part += *part == '/';
        if (!strncmp(part, "..", 2) && (!part[2] || part[2] == '/')) inside = false;
    }
    if (inside) tidy(out);
    else weft_fail(c, WEFT_E_ARGUMENT, "filename_prefix \"%.100s\": a name inside the output folder is wanted", prefix);
    return inside;
}

/* Creates the folders that a path needs. */
static bool make_folders(weft_ctx *c, char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int failed = mkdir(path, 0777) && errno != EEXIST;
        if (failed) weft_fail(c, WEFT_E_FILE, "%s: the folder cannot be made (%s)", path, strerror(errno));
        *slash = '/';
        if (failed) return false;
    }
    return true;
}

/* The number behind the highest that files of this prefix have: "prefix_00012_.png" → 13. `path` is folder/prefix. */
static long next_number(const char *path) {
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash + 1;
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    size_t n = strlen(name);
    long highest = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char *end;
        if (strncmp(e->d_name, name, n) || e->d_name[n] != '_') continue;
        long v = strtol(e->d_name + n + 1, &end, 10);
        if (*end == '_' && v > highest && v < 1000000000) highest = v;
    }
    if (d) closedir(d);
    return highest + 1;
}

/* ---- saving ------------------------------------------------------------------------------------------------------ */

weft_status weft_image_save(weft_ctx *c, const char *path, weft_tensor *image, const char *const *texts) {
    if (weft_type(image) != WEFT_U8)
        image = weft_cast(c, weft_clamp(c, weft_affine(c, image, 255, 0), 0, 255), WEFT_U8);
    return weft_picture_save(c, path, image, texts);
}

/* *number: the last picture's of this batch, 0 for the first; numbers never fall within a batch, even where %batch_num%
 * parts the names. */
static bool save_one(weft_ctx *c, weft_tensor *image, const char *folder, const char *kind, const char *name,
                     long *number) {
    const weft_run_info *info = weft_run_info_of(c);
    char stem[PATH_MAX - 32], path[PATH_MAX];
    if (snprintf(stem, sizeof stem, "%s/%s", folder, name) >= (int)sizeof stem)
        return !weft_fail(c, WEFT_E_ARGUMENT, "filename_prefix: too long a name");
    if (!make_folders(c, stem)) return false;
    long next = next_number(stem);
    *number = next > *number ? next : *number + 1;
    snprintf(path, sizeof path, "%s_%05ld_.png", stem, *number);
    const char *texts[5] = { NULL };
    int n = 0;
    if (info->prompt_json) { texts[n++] = "prompt"; texts[n++] = info->prompt_json; }
    if (info->workflow_json) { texts[n++] = "workflow"; texts[n++] = info->workflow_json; }
    if (weft_image_save(c, path, image, texts)) return false;
    if (info->wrote) info->wrote(info->user, "images", path + strlen(folder) + 1, kind);
    return true;
}

static void save(weft_ctx *c, weft_tensor *images, const char *prefix, const char *folder, const char *kind) {
    if (weft_rank(images) != 4) {
        char shape[96];
        weft_fail(c, WEFT_E_SHAPE, "images: pictures (N, H, W, 3) are saved, not %s",
                  weft_describe(images, shape, sizeof shape));
        return;
    }
    if (!folder) {
        weft_fail(c, WEFT_E_FILE, "no %s folder was given", kind);
        return;
    }
    int64_t h = weft_dim(images, 1), w = weft_dim(images, 2), channels = weft_dim(images, 3);
    long number = 0;
    for (int64_t i = 0; i < weft_dim(images, 0); i++) {
        char name[PATH_MAX];
        weft_scope s = weft_scope_named(c, prefix);
        weft_tensor *one = weft_reshape(c, weft_slice(c, images, 0, i, 1), WEFT_SHAPE(h, w, channels));
        bool saved = expand(c, prefix, w, h, i, name) && save_one(c, one, folder, kind, name, &number);
        weft_scope_end(c, s, NULL);
        if (!saved) return;
    }
}

static void save_image_run(weft_ctx *c, void *self) {
    struct save_image *n = self;
    const weft_folders *folders = weft_run_info_of(c)->folders;
    save(c, n->images, n->filename_prefix, folders ? folders->output : NULL, "output");
}

static void preview_image_run(weft_ctx *c, void *self) {
    struct save_image *n = self;
    const weft_folders *folders = weft_run_info_of(c)->folders;
    save(c, n->images, "preview", folders ? folders->temp : NULL, "temp");
}

const weft_node weft_node_SaveImage = {
    .name = "SaveImage", .title = "Save Image", .category = "image", .flags = WEFT_NODE_OUTPUT,
    .summary = "Saves pictures as PNG in the output folder; each carries the graph that made it.",
    .size = sizeof(struct save_image),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct save_image, images, "the pictures"),
                                   WEFT_STRING_IN(struct save_image, filename_prefix, "ComfyUI",
                                                  "start of the names; may hold subfolders and %year%"), { 0 } },
    .run = save_image_run,
};

const weft_node weft_node_PreviewImage = {
    .name = "PreviewImage", .title = "Preview Image", .category = "image", .flags = WEFT_NODE_OUTPUT,
    .summary = "Saves pictures as PNG in the folder for temporary files.", .size = sizeof(struct save_image),
    .inputs = (const weft_port[]){ WEFT_IMAGE_IN(struct save_image, images, "the pictures"), { 0 } },
    .run = preview_image_run,
};
