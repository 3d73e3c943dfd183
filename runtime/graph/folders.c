/* Names in a graph to paths on disk, and never out of the folders the user gave. See graph.h. */
#include "runtime/graph/graph_internal.h"
#include "runtime/internal.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH = 8, NAMES = 100000 };     /* subfolders inside each other, names listed */

/* ComfyUI's folders: a kind may have an older name besides. A folder of diffusers may also lie in the models folder itself. */
static const char *const *subfolders_of(const char *kind) {
    static const char *const texts[] = { "text_encoders", "clip", NULL },
                             *const unets[] = { "diffusion_models", "unet", NULL }, *const diffusers[] = { "diffusers", ".", NULL },
                             *const controls[] = { "controlnet", "t2i_adapter", NULL };
    static const char *const *const pairs[] = { texts, unets, diffusers, controls };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (!strcmp(pairs[i][0], kind)) return pairs[i];
    return NULL;
}

static bool is_picture_kind(const char *kind) {
    return !strcmp(kind, "input") || !strcmp(kind, "output") || !strcmp(kind, "temp");
}

/* "datasets": any folder below the input folder. */
static bool is_dataset_kind(const char *kind) { return !strcmp(kind, "datasets"); }

/* Other kinds whose things are folders: the file in one that says so. NULL for the rest. */
static const char *mark_of(const char *kind) {
    return !strcmp(kind, "diffusers") ? "model_index.json" : !strcmp(kind, "tokenizers") ? "merges.txt" : NULL;
}

const char *weft_folders_path(const weft_folders *f, const char *kind) {
    return !strcmp(kind, "input") || is_dataset_kind(kind) ? f->input
           : !strcmp(kind, "output") ? f->output
           : !strcmp(kind, "temp")   ? f->temp
                                     : NULL;
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

/* A name cleaned of outer spaces and backslashes, copied to out; false with why it cannot stand for a file below a
 * folder. */
static bool clean(const char *name, char *out, size_t room, const char **why) {
    name += strspn(name, " \t\r\n");
    size_t n = strlen(name);
    while (n && strchr(" \t\r\n", name[n - 1])) n--;
    *why = !n ? "is empty" : n >= room ? "is too long" : NULL;
    if (*why) return false;
    for (size_t i = 0; i < n; i++) out[i] = name[i] == '\\' ? '/' : name[i];
    out[n] = 0;
    if (out[0] == '/' || out[0] == '~' || (n > 1 && out[1] == ':'))
        *why = "is a path of its own; put the file into the folder and give its name";
    for (const char *part = out; part && !*why; part = strchr(part, '/')) {
        part += *part == '/';
        if (!strncmp(part, "..", 2) && (!part[2] || part[2] == '/')) *why = "leads out of the folder";
    }
    return !*why;
}

/* Cuts " [output]" and the like off a picture's name; the kind it names, or `kind`. */
static const char *annotated(char *name, const char *kind) {
    static const char *const kinds[] = { "input", "output", "temp" };
    size_t n = strlen(name);
    for (int i = 0; i < 3; i++) {
        size_t k = strlen(kinds[i]) + 2;
        if (n <= k || name[n - 1] != ']' || name[n - k] != '[' || memcmp(name + n - k + 1, kinds[i], k - 2)) continue;
        n -= k;
        while (n && name[n - 1] == ' ') n--;
        name[n] = 0;
        return kinds[i];
    }
    return kind;
}

/* ---- the folders of a kind --------------------------------------------------------------------------------------- */

/* Calls `visit` on each existing place where files of a kind may lie, until it answers true. */
static bool each_folder(const weft_folders *f, const char *kind, bool (*visit)(void *user, const char *folder),
                        void *user) {
    char path[PATH_MAX];
    if (is_picture_kind(kind) || is_dataset_kind(kind)) {
        const char *folder = weft_folders_path(f, kind);
        return folder && visit(user, folder);
    }
    const char *const alone[] = { kind, NULL }, *const *subs = subfolders_of(kind);
    for (const char *const *root = f->models; root && *root; root++)
        for (const char *const *sub = subs ? subs : alone; *sub; sub++)
            if (snprintf(path, sizeof path, "%s/%s", *root, *sub) < (int)sizeof path && visit(user, path)) return true;
    return false;
}

struct finding {
    const char *name;
    bool folder;                /* what is looked for is a folder */
    char *found;
    char looked[512];
};

static bool find_in(void *user, const char *folder) {
    struct finding *k = user;
    char path[PATH_MAX];
    struct stat s;
    size_t used = strlen(k->looked);
    snprintf(k->looked + used, sizeof k->looked - used, "%s%s", used ? ", " : "", folder);
    if (snprintf(path, sizeof path, "%s/%s", folder, k->name) >= (int)sizeof path || stat(path, &s)) return false;
    if (k->folder ? !S_ISDIR(s.st_mode) : !S_ISREG(s.st_mode)) return false;
    k->found = weft_text_copy(path, strlen(path));
    return true;
}

static void fail_missing(weft_ctx *c, const weft_folders *f, const char *kind, const struct finding *k) {
    weft_nearest near = { .name = k->name };
    const char **names = weft_folders_list(f, kind);
    for (int i = 0; names && names[i]; i++) weft_nearest_try(&near, names[i]);
    if (!k->looked[0]) weft_fail(c, WEFT_E_FILE, "there is no \"%s\": no folder for %s was given", k->name, kind);
    else if (near.best)
        weft_fail(c, WEFT_E_FILE, "there is no \"%s\" in %s; did you mean \"%s\"?", k->name, k->looked, near.best);
    else weft_fail(c, WEFT_E_FILE, "there is no \"%s\" in %s", k->name, k->looked);
    weft_host_free(names);
}

char *weft_folders_find(weft_ctx *c, const weft_folders *f, const char *kind, const char *name) {
    char cleaned[1024];
    const char *why;
    if (!weft_ok(c)) return NULL;
    if (!clean(name, cleaned, sizeof cleaned, &why)) {
        weft_fail(c, WEFT_E_FILE, "the name \"%.200s\" %s", name, why);
        return NULL;
    }
    if (is_picture_kind(kind)) kind = annotated(cleaned, kind);
    struct finding k = { .name = cleaned, .folder = mark_of(kind) || is_dataset_kind(kind) };
    bool there = each_folder(f, kind, find_in, &k);
    if (there && !k.found) weft_graph_no_memory(c);
    else if (!there) fail_missing(c, f, kind, &k);
    return k.found;
}

/* Creates the folders that a path needs above its last part. */
static bool make_above(weft_ctx *c, char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        bool failed = mkdir(path, 0777) && errno != EEXIST;
        if (failed) weft_fail(c, WEFT_E_FILE, "%s: the folder cannot be made (%s)", path, strerror(errno));
        *slash = '/';
        if (failed) return false;
    }
    return true;
}

char *weft_folders_place(weft_ctx *c, const weft_folders *f, const char *kind, const char *name) {
    char cleaned[1024], path[PATH_MAX];
    const char *why, *folder = f ? weft_folders_path(f, kind) : NULL;
    if (!weft_ok(c)) return NULL;
    if (!clean(name, cleaned, sizeof cleaned, &why)) weft_fail(c, WEFT_E_FILE, "the name \"%.200s\" %s", name, why);
    else if (!folder) weft_fail(c, WEFT_E_FILE, "no %s folder was given", kind);
    else if (snprintf(path, sizeof path, "%s/%s", folder, cleaned) >= (int)sizeof path)
        weft_fail(c, WEFT_E_FILE, "the name \"%.200s\" is too long", name);
    if (!weft_ok(c) || !make_above(c, path)) return NULL;
    char *out = weft_text_copy(path, strlen(path));
    if (!out) weft_graph_no_memory(c);
    return out;
}

/* ---- listing ----------------------------------------------------------------------------------------------------- */

struct listing {
    const char *kind;
    char **names;
    int count, room;
    bool failed;
};

static void list_add(struct listing *l, const char *name) {
    if (l->count == l->room) {
        int room = l->room ? 2 * l->room : 64;
        char **grown = weft_host_resize(l->names, sizeof *grown * (size_t)room);
        if (!grown) { l->failed = true; return; }
        l->names = grown;
        l->room = room;
    }
    char *copy = weft_text_copy(name, strlen(name));
    if (copy) l->names[l->count++] = copy;
    else l->failed = true;
}

static bool wanted(const char *kind, const char *name) {
    static const char *const models[] = { ".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin" };
    if (is_picture_kind(kind)) return true;
    if (is_dataset_kind(kind)) return false;
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        size_t k = strlen(models[i]);
        if (n > k && !strcmp(name + n - k, models[i])) return true;
    }
    return false;
}

static void list_folder(struct listing *l, const char *top, const char *below, int depth) {
    char path[PATH_MAX], name[PATH_MAX];
    struct stat s;
    if (snprintf(path, sizeof path, "%s%s%s", top, *below ? "/" : "", below) >= (int)sizeof path) return;
    DIR *d = opendir(path);
    for (struct dirent *e = d ? readdir(d) : NULL; e && !l->failed && l->count < NAMES; e = readdir(d)) {
        if (e->d_name[0] == '.') continue;
        if (snprintf(name, sizeof name, "%s%s%s", below, *below ? "/" : "", e->d_name) >= (int)sizeof name) continue;
        if (snprintf(path, sizeof path, "%s/%s", top, name) >= (int)sizeof path || stat(path, &s)) continue;
        if (S_ISREG(s.st_mode)) {
            const char *mark = mark_of(l->kind);
            if (mark ? *below && !strcmp(e->d_name, mark) : wanted(l->kind, name)) list_add(l, mark ? below : name);
        } else if (S_ISDIR(s.st_mode) && depth < DEPTH) {
            if (is_dataset_kind(l->kind)) list_add(l, name);
            list_folder(l, top, name, depth + 1);
        }
    }
    if (d) closedir(d);
}

static bool list_in(void *user, const char *folder) {
    list_folder(user, folder, "", 0);
    return false;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The list as one block: pointers, then the texts. */
static const char **in_one_block(const struct listing *l) {
    size_t bytes = sizeof(char *) * ((size_t)l->count + 1);
    for (int i = 0; i < l->count; i++) bytes += strlen(l->names[i]) + 1;
    const char **out = weft_host_alloc(bytes);
    char *at = out ? (char *)(out + l->count + 1) : NULL;
    int kept = 0;
    for (int i = 0; out && i < l->count; i++) {
        if (i && !strcmp(l->names[i], l->names[i - 1])) continue;      /* in two roots: the first is meant */
        out[kept++] = strcpy(at, l->names[i]);
        at += strlen(at) + 1;
    }
    return out;
}

const char **weft_folders_list(const weft_folders *f, const char *kind) {
    struct listing l = { .kind = kind };
    each_folder(f, kind, list_in, &l);
    if (l.count) qsort(l.names, (size_t)l.count, sizeof *l.names, by_name);
    const char **out = l.failed ? NULL : in_one_block(&l);
    for (int i = 0; i < l.count; i++) weft_host_free(l.names[i]);
    weft_host_free(l.names);
    return out;
}
