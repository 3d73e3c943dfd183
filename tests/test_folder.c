/* Folders that are there whole or not at all: runtime/folder.c. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/file.h"
#include "tests/test.h"

static char root[64];

static const char *in_root(const char *name) {
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", root, name);
    return p;
}

/* Files and folders in a folder; −1: it is not there. */
static int entries(const char *path) {
    DIR *d = opendir(path);
    if (!d) return -1;
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static bool holds(weft_ctx *c, const char *path, const char *text) {
    size_t size = 0;
    char *read = weft_file_read(c, path, 100, &size);
    bool same = read && size == strlen(text) && !memcmp(read, text, size);
    free(read);
    return same;
}

static void put(weft_ctx *c, const weft_folder_out *out, const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", out->temporary, name);
    CHECK(weft_file_save(c, path, text, strlen(text)));
}

static weft_ctx *begin(void) {
    strcpy(root, "/tmp/weft-folder-XXXXXX");
    CHECK(mkdtemp(root));
    return weft_ctx_new(NULL);
}

static void end(weft_ctx *c) {
    CHECK(weft_folder_remove(root));
    CHECK_EQ(entries(root), -1);
    weft_ctx_free(c);
}

TEST(is_there_after_the_commit_alone) {
    weft_ctx *c = begin();
    weft_folder_out out;
    CHECK(weft_folder_create(c, &out, in_root("a")));
    put(c, &out, "f", "one");
    CHECK_EQ(entries(in_root("a")), -1);
    CHECK(weft_folder_commit(c, &out));
    CHECK(holds(c, in_root("a/f"), "one"));
    CHECK_EQ(entries(root), 1);             /* nothing temporary is left */
    weft_folder_discard(&out);
    CHECK(holds(c, in_root("a/f"), "one"));
    end(c);
}

TEST(a_discarded_one_leaves_the_old) {
    weft_ctx *c = begin();
    weft_folder_out out;
    CHECK(weft_folder_create(c, &out, in_root("a")));
    put(c, &out, "f", "one");
    CHECK(weft_folder_commit(c, &out));
    CHECK(weft_folder_create(c, &out, in_root("a/")));
    put(c, &out, "f", "two");
    put(c, &out, "g", "more");
    weft_folder_discard(&out);
    CHECK(holds(c, in_root("a/f"), "one"));
    CHECK_EQ(entries(in_root("a")), 1);
    CHECK_EQ(entries(root), 1);
    end(c);
}

TEST(the_new_takes_the_place_of_the_old) {
    weft_ctx *c = begin();
    weft_folder_out out;
    for (int round = 0; round < 2; round++) {
        CHECK(weft_folder_create(c, &out, in_root("a")));
        put(c, &out, round ? "new" : "old", round ? "2" : "1");
        CHECK(weft_folder_commit(c, &out));
    }
    CHECK_EQ(entries(in_root("a")), 1);
    CHECK(holds(c, in_root("a/new"), "2"));
    CHECK_EQ(entries(root), 1);
    end(c);
}

TEST(removing_does_not_follow_links) {
    weft_ctx *c = begin();
    CHECK(!mkdir(in_root("keep"), 0777) && weft_file_save(c, in_root("keep/f"), "x", 1));
    CHECK(!mkdir(in_root("gone"), 0777) && !symlink(in_root("keep"), in_root("gone/link")));
    CHECK(weft_folder_remove(in_root("gone")));
    CHECK(holds(c, in_root("keep/f"), "x"));
    end(c);
}

TEST(refuses) {
    weft_ctx *c = begin();
    weft_folder_out out;
    CHECK(weft_file_save(c, in_root("file"), "x", 1));
    CHECK(!weft_folder_create(c, &out, in_root("file")));
    CHECK(strstr(weft_message(c), "is no folder"));
    weft_clear(c);
    CHECK(!weft_folder_create(c, &out, in_root("missing/a")));
    CHECK(strstr(weft_message(c), "missing/a: cannot be written"));
    weft_clear(c);
    CHECK(!weft_folder_create(c, &out, ""));
    weft_clear(c);
    end(c);
}

TEST_MAIN
