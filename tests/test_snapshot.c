/* Checkpoints of a training run: there whole or not at all, found by number, the oldest removed, whatever kills the
 * program. */
#include <signal.h>
#include <stdarg.h>
#include <time.h>
#include "nodes/train/snapshot.h"
#include "tests/train_bed.h"

static void put(weft_ctx *c, const char *folder, const char *name, int64_t value, int copies) {
    char text[64];
    FILE *f = fopen(in(folder, name), "w");
    snprintf(text, sizeof text, "%lld\n", (long long)value);
    for (int i = 0; f && i < copies; i++) fputs(text, f);
    if (!f || fclose(f)) TEST_FAIL("cannot write %s; %s", name, weft_message(c));
}

/* A checkpoint of three files, one in a folder, all of which tell the step. */
static bool save(weft_ctx *c, const char *folder, int64_t step, int keep) {
    weft_snapshot s;
    bool ok = weft_snapshot_begin(c, &s, folder, step);
    if (ok) {
        put(c, s.out.temporary, "a", step, 1);
        put(c, s.out.temporary, "b", step, 500);
        mkdir(in(s.out.temporary, "model"), 0777);
        put(c, s.out.temporary, "model/c", step, 20);
        ok = weft_snapshot_commit(c, &s, keep) == WEFT_OK;
    }
    weft_snapshot_discard(&s);
    return ok;
}

static char said[2000];
static void hear(void *user, const char *message) {
    (void)user;
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", message);
}

static bool there(const char *folder, const char *name) { return access(in(folder, name), F_OK) == 0; }

TEST(newest_is_found_oldest_goes) {
    char folder[100];
    const char *root = folder_new();
    snprintf(folder, sizeof folder, "%s/run", root);
    weft_ctx *c = open_device("cpu");
    int64_t step;
    CHECK_EQ(weft_snapshot_latest(c, folder, hear, NULL), -1);
    CHECK(save(c, folder, 9, 3) && save(c, folder, 10, 3) && save(c, folder, 100, 3));
    CHECK_EQ(weft_snapshot_latest(c, folder, hear, NULL), 100);         /* by number, not by name */
    CHECK(there(folder, "checkpoint-9"));
    CHECK(save(c, folder, 101, 3));
    CHECK(!there(folder, "checkpoint-9") && there(folder, "checkpoint-10"));
    CHECK(save(c, folder, 101, 1));                                     /* the same once more takes its place */
    CHECK(!there(folder, "checkpoint-100") && !there(folder, "checkpoint-10"));
    CHECK(save(c, folder, 102, 0) && save(c, folder, 103, 0));
    CHECK(there(folder, "checkpoint-101") && there(folder, "checkpoint-102/model/c"));
    CHECK(weft_snapshot_check(c, in(folder, "checkpoint-102"), &step));
    CHECK_EQ(step, 102);
    CHECK_STR(said, "");
    CHECK_STR(weft_message(c), "");
    CHECK_EQ(weft_snapshot_set_aside(c, folder, 101), 2);
    CHECK_EQ(weft_snapshot_latest(c, folder, hear, NULL), 101);
    CHECK(there(folder, "checkpoint-103.old/a"));
    CHECK(save(c, folder, 103, 0));
    CHECK_EQ(weft_snapshot_set_aside(c, folder, 101), 1);
    CHECK(!there(folder, "checkpoint-103"));
    folder_drop(root);
    CLOSE(c);
}

TEST(incomplete_ones_are_ignored) {
    const char *folder = folder_new();
    weft_ctx *c = open_device("cpu");
    for (int i = 1; i <= 8; i++) CHECK(save(c, folder, i, 0));
    unlink(in(folder, "checkpoint-8/model/c"));
    put(c, folder, "checkpoint-7/b", 7, 499);
    put(c, folder, "checkpoint-6/checkpoint.json", 6, 1);
    unlink(in(folder, "checkpoint-5/checkpoint.json"));
    rename(in(folder, "checkpoint-1"), in(folder, "checkpoint-4x"));
    folder_drop(in(folder, "checkpoint-4"));
    rename(in(folder, "checkpoint-3"), in(folder, "checkpoint-4"));
    mkdir(in(folder, "checkpoint-99999999999999999999"), 0777);
    mkdir(in(folder, "checkpoint-"), 0777);
    CHECK_EQ(weft_snapshot_latest(c, folder, hear, NULL), 2);
    CHECK_HAS(said, "checkpoint-8: model/c is missing; not taken for a checkpoint");
    CHECK_HAS(said, "checkpoint-7: b has 998 bytes, expected 1000");
    CHECK_HAS(said, "checkpoint-6/checkpoint.json: is no checkpoint of a training run");
    CHECK_HAS(said, "checkpoint-5/checkpoint.json: cannot be opened");
    CHECK_HAS(said, "checkpoint-4: says that it is of step 3");
    CHECK(weft_ok(c));
    CHECK(save(c, folder, 9, 2));       /* two complete ones stay, 9 and 2, and what is newer than the second */
    CHECK(there(folder, "checkpoint-2") && there(folder, "checkpoint-7") && !there(folder, "checkpoint-1"));
    CHECK(save(c, folder, 10, 2));
    CHECK(!there(folder, "checkpoint-2") && !there(folder, "checkpoint-8") && there(folder, "checkpoint-9"));
    folder_drop(folder);
    CLOSE(c);
}

TEST(places_that_do_not_fit) {
    const char *folder = folder_new();
    weft_ctx *c = open_device("cpu");
    weft_snapshot s;
    put(c, folder, "file", 1, 1);
    CHECK(!weft_snapshot_begin(c, &s, in(folder, "file"), 1));
    CHECK(!weft_ok(c));
    weft_clear(c);
    CHECK(!weft_snapshot_begin(c, &s, in(folder, "none/none"), 1));
    CHECK_ERROR(c, WEFT_E_FILE, "cannot be made: No such file");
    put(c, folder, "checkpoint-1", 1, 1);
    CHECK(!weft_snapshot_begin(c, &s, folder, 1));
    CHECK_ERROR(c, WEFT_E_FILE, "is no folder, and is not written over");
    weft_snapshot_discard(&s);
    folder_drop(folder);
    CLOSE(c);
}

/* The step that every file of a checkpoint tells; −1 where they differ. */
static int64_t told(const char *folder, int64_t step) {
    static const char *const names[] = { "a", "b", "model/c" };
    static const int lines[] = { 1, 500, 20 };
    char path[600], line[64];
    for (int k = 0; k < 3; k++) {
        snprintf(path, sizeof path, "%s/checkpoint-%lld/%s", folder, (long long)step, names[k]);
        FILE *f = fopen(path, "r");
        int n = 0;
        while (f && fgets(line, sizeof line, f)) {
            if (atoll(line) != step) step = -1;
            n++;
        }
        if (f) fclose(f);
        if (n != lines[k]) step = -1;
    }
    return step;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A program that saves without end is killed 30 times at random moments, each within the time of about three savings:
 * what is found then is whole, and never older than what was found before; what is half written is tidied away. */
TEST(killed_at_any_moment) {
    const char *folder = folder_new();
    weft_ctx *c = open_device("cpu");
    int64_t last = 4;
    double each = now();
    for (int64_t step = 0; step <= last; step++) CHECK(save(c, folder, step, 2));
    each = (now() - each) / 5;
    uint64_t random = 77;
    for (int round = 0; round < 30 && !test_failures; round++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            for (int64_t step = last + 1;; step++)
                if (!save(c, folder, step, 2)) _exit(1);
        }
        const double wait = fmin(0.9, (noise(&random) + 1) * 1.5 * each);
        nanosleep(&(struct timespec){ 0, (long)(wait * 1e9) }, NULL);
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        CHECK(WIFSIGNALED(status));
        weft_snapshot_tidy(folder);
        int64_t latest = weft_snapshot_latest(c, folder, hear, NULL);
        CHECK(latest >= last);
        CHECK_EQ(told(folder, latest), latest);
        last = latest;
    }
    CHECK(last > 8);           /* or nothing was tested */
    CHECK_STR(said, "");
    CHECK(save(c, folder, last + 1, 2));
    DIR *d = opendir(folder);
    int entries = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        entries += e->d_name[0] != '.';
        CHECK(strncmp(e->d_name, ".weft", 5) && strncmp(e->d_name, ".removed", 8));
    }
    closedir(d);
    CHECK_EQ(entries, 2);       /* all that killed programs did not come to remove is gone too */
    folder_drop(folder);
    CLOSE(c);
}

TEST_MAIN
