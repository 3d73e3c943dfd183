/* What the tests of training share: tensors of a golden file, folders for files. */
#ifndef WEFT_TEST_TRAIN_BED_H
#define WEFT_TEST_TRAIN_BED_H

#include <dirent.h>
#include <sys/stat.h>
#include "tests/tensors.h"

/* A golden tensor, in the innermost scope; where it is not there, NULL, and a failure unless `may_lack`. */
__attribute__((unused)) static weft_tensor *golden(weft_ctx *c, weft_safetensors *f, bool may_lack, const char *format,
                                                   ...) {
    char name[80];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    const weft_st_entry *e = f ? weft_st_find(f, name) : NULL;
    if (!e && !may_lack) TEST_FAIL("the golden file has no %s; %s", name, weft_message(c));
    return e ? weft_st_tensor(c, f, e) : NULL;
}

/* got and want (any types) have the same count, and the rms of their difference is within tolerance of want's rms. */
__attribute__((unused)) static void check_near(weft_ctx *c, const char *what, weft_tensor *got, weft_tensor *want,
                                               double tolerance) {
    double *a = values_of(c, got), *b = values_of(c, want), sum = 0, norm = 0;
    if (!a || !b || weft_count(got) != weft_count(want)) TEST_FAIL("%s: nothing to compare; %s", what, weft_message(c));
    else {
        for (int64_t i = 0; i < weft_count(got); i++) {
            sum += (a[i] - b[i]) * (a[i] - b[i]);
            norm += b[i] * b[i];
        }
        if (!(sqrt(sum) <= tolerance * sqrt(norm)))
            TEST_FAIL("%s: off by %.3g of its rms, allowed %.3g", what, sqrt(sum / norm), tolerance);
    }
    free(a);
    free(b);
}

/* A new folder, and its end with all in it. */
__attribute__((unused)) static const char *folder_new(void) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/weft-train-XXXXXX");
    return mkdtemp(path) ? path : "";
}
__attribute__((unused)) static void folder_drop(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char inside[600];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(inside, sizeof inside, "%s/%s", path, e->d_name);
        if (unlink(inside)) folder_drop(inside);
    }
    if (d) closedir(d);
    rmdir(path);
}
/* "folder/name", in one of eight places used in turn. */
__attribute__((unused)) static const char *in(const char *folder, const char *name) {
    static char paths[8][600];
    static int next;
    char text[600], *path = paths[next++ % 8];
    snprintf(text, sizeof text, "%s/%s", folder, name);
    return strcpy(path, text);
}

#endif
