/* What the tests of the data sets share: a folder of their own, files in it, and batches as a checksum. */
#ifndef WEFT_TEST_DATA_BED_H
#define WEFT_TEST_DATA_BED_H

#include <dirent.h>
#include <sys/stat.h>

#include "nodes/data/dataset.h"
#include "nodes/image/picture.h"
#include "tests/host_data.h"
#include "tests/test.h"

#define UNUSED __attribute__((unused))

static char data_root[32];

UNUSED static const char *data_path(const char *name) {
    static char paths[4][512];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", data_root, name);
    return path;
}

UNUSED static weft_ctx *data_bed(void) {
    strcpy(data_root, "/tmp/weft-data-XXXXXX");
    if (!mkdtemp(data_root)) abort();
    return weft_ctx_new(&(weft_options){ .threads = 1 });
}

UNUSED static void data_remove(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char below[600];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        if (unlink(below)) data_remove(below);
    }
    if (d) closedir(d);
    rmdir(path);
}

UNUSED static void data_bed_free(weft_ctx *c) {
    CHECK_EQ(weft_memory_live(c), 0);
    weft_ctx_free(c);
    chmod(data_root, 0700);
    data_remove(data_root);
}

/* Writes a file, and the folders it is in. */
UNUSED static void put(const char *name, const void *bytes, size_t n) {
    char path[512];
    snprintf(path, sizeof path, "%s", data_path(name));
    for (char *slash = path + strlen(data_root); (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) TEST_FAIL("%s cannot be written", path);
}
UNUSED static void put_text(const char *name, const char *text) { put(name, text, strlen(text)); }

/* A picture of one colour. */
UNUSED static void put_picture(weft_ctx *c, const char *name, int64_t h, int64_t w, int red, int green, int blue) {
    put(name, "", 0);
    weft_scope s = weft_scope_named(c, "put");
    weft_tensor *t = weft_tensor_new(c, WEFT_U8, WEFT_SHAPE(h, w, 3));
    unsigned char *p = weft_data(t);
    const unsigned char color[] = { (unsigned char)red, (unsigned char)green, (unsigned char)blue };
    for (int64_t i = 0; i < h * w; i++, p += 3) memcpy(p, color, 3);
    if (weft_picture_save(c, data_path(name), t, NULL)) TEST_FAIL("%s", weft_message(c));
    weft_scope_end(c, s, NULL);
}

/* n pictures of h × w in memory, no two alike. */
UNUSED static weft_tensor *pictures(weft_ctx *c, int64_t n, int64_t h, int64_t w) {
    weft_tensor *t = weft_tensor_new(c, WEFT_U8, WEFT_SHAPE(n, h, w, 3));
    unsigned char *p = weft_data(t);
    uint64_t state = 1;
    for (int64_t i = 0; i < weft_count(t); i++) {
        state = state * 6364136223846793005u + 1;
        p[i] = (unsigned char)(state >> 56);
    }
    return t;
}

/* Takes the next batch and adds all of it to a hash; false after an error. */
UNUSED static bool batch_hash(weft_ctx *c, weft_dataset *d, weft_hash *h) {
    weft_data_batch b;
    weft_scope s = weft_scope_named(c, "batch");
    bool got = !weft_dataset_next(c, d, &b);
    if (got) {
        const uint64_t facts[] = { (uint64_t)b.count, (uint64_t)b.height, (uint64_t)b.width, (uint64_t)b.epoch,
                                   (uint64_t)b.position, b.last };
        weft_hash_bytes(h, facts, sizeof facts);
        weft_hash_bytes(h, host_data(b.images), (size_t)weft_count(b.images) * 4);
        weft_hash_bytes(h, b.indices, (size_t)b.count * sizeof *b.indices);
        for (int64_t i = 0; i < b.count; i++) weft_hash_text(h, b.captions[i]);
    }
    weft_scope_end(c, s, NULL);
    return got;
}

#endif
