/* The trainer: a run that is killed at random moments, again and again, goes on to the same numbers, to the bit;
 * Ctrl-C; numbers that are not finite; options. */
#include <stdarg.h>

#include "tests/run_program.h"
#include "tests/train_bed.h"

#define SCRIPT WEFT_SOURCE_DIR "/tests/lua/train.lua"

static bool same_files(const char *folder, const char *a, const char *b) {
    static char x[1 << 20], y[1 << 20];
    size_t n = 0, m = 0;
    FILE *f = fopen(in(folder, a), "rb"), *g = fopen(in(folder, b), "rb");
    if (f) n = fread(x, 1, sizeof x, f), fclose(f);
    if (g) m = fread(y, 1, sizeof y, g), fclose(g);
    return n && n == m && !memcmp(x, y, n);
}

/* What a whole run leaves is the same in both folders. */
static void check_same(const char *root, const char *other) {
    static const char *const names[] = { "log.csv", "loss.png", "samples/step-24.png",
                                         "checkpoint-24/model.safetensors",
                                         "checkpoint-24/optimizer.safetensors", "checkpoint-24/ema.safetensors",
                                         "checkpoint-24/state.json", "checkpoint-24/more.txt" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char a[100], b[100];
        snprintf(a, sizeof a, "whole/%s", names[i]);
        snprintf(b, sizeof b, "%s/%s", other, names[i]);
        if (!same_files(root, a, b)) TEST_FAIL("%s differs", b);
    }
}

static bool there(const char *folder, const char *name) { return access(in(folder, name), F_OK) == 0; }

static void wait_seconds(double seconds) {
    struct timespec t = { (time_t)seconds, (long)((seconds - floor(seconds)) * 1e9) };
    nanosleep(&t, NULL);
}

/* How many steps the run has logged. */
static int steps_in(const char *root) {
    char text[8000];
    int lines = 0;
    run_read(in(root, "cut"), "log.csv", text, sizeof text);
    for (const char *p = text; (p = strchr(p, '\n')); p++) lines++;
    return lines - 1;
}

/* Each round ends at a random moment after one to six steps more than the round before. */
TEST(killed_at_random_moments) {
    const char *root = folder_new();
    uint64_t random = 5;
    struct run *r = WEFT(root, SCRIPT, "whole", "plain");
    if (r->status || strncmp(r->out, "ok ", 3)) TEST_FAIL("status %d: %s%s", r->status, r->out, r->err);
    const double each = r->seconds / 24;
    int kills = 0, status = -1;
    for (int round = 0; round < 40 && status != 0 && !test_failures; round++) {
        const int until = (round ? steps_in(root) : 0) + 1 + (int)((noise(&random) + 1) * 3);
        pid_t child = run_start(root, (const char *const[]){ SCRIPT, "cut", "plain", "latest", NULL }, -1, -1);
        while (steps_in(root) < until && waitpid(child, &status, WNOHANG) == 0) wait_seconds(0.002);
        wait_seconds((noise(&random) + 1) * each);
        kill(child, SIGKILL);
        const int ended = run_wait(child);
        status = ended >= 0 ? ended : WIFEXITED(status) ? WEXITSTATUS(status) : -1;     /* it had ended by itself */
        kills += status == 128 + SIGKILL;
        if (status && status != 128 + SIGKILL) {
            char err[4000];
            run_read(root, "err.txt", err, sizeof err);
            TEST_FAIL("status %d: %s", status, err);
        }
    }
    CHECK_EQ(status, 0);
    CHECK(kills >= 3);          /* or nothing was tested */
    check_same(root, "cut");
    CHECK(!there(root, "cut/checkpoint-18") && there(root, "cut/checkpoint-21"));
    folder_drop(root);
}

/* Ctrl-C in the middle of a step that hangs: a checkpoint of the last whole step, status 130; resumed, all is as if
 * nothing had been. */
TEST(interrupted) {
    const char *root = folder_new();
    char out[200] = "";
    struct run *r = WEFT(root, SCRIPT, "whole", "plain");
    CHECK_EQ(r->status, 0);
    pid_t child = run_start(root, (const char *const[]){ SCRIPT, "stopped", "hang", NULL }, -1, -1);
    for (int i = 0; i < 1000 && !strstr(out, "waiting"); i++) {
        wait_seconds(0.01);
        run_read(root, "out.txt", out, sizeof out);
    }
    CHECK_HAS(out, "waiting");
    kill(child, SIGINT);
    CHECK_EQ(run_wait(child), 130);
    char err[4000];
    run_read(root, "err.txt", err, sizeof err);
    CHECK_HAS(err, "stopped after step 4; a checkpoint is saved");
    CHECK(there(root, "stopped/checkpoint-4/state.json"));
    r = WEFT(root, SCRIPT, "stopped", "plain", "latest");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->err, "resumed from stopped/checkpoint-4");
    check_same(root, "stopped");
    folder_drop(root);
}

TEST(numbers_that_are_not_finite) {
    const char *root = folder_new();
    REFUSES(WEFT(root, SCRIPT, "a", "nan"), "trainer: step 5: the loss is ", "nan", "the first: ", "log");
    CHECK(there(root, "a/checkpoint-3") && !there(root, "a/checkpoint-5"));
    REFUSES(WEFT(root, SCRIPT, "b", "nan_gradient"), "trainer: step 5: the gradient of w is not finite", "the first: ",
            "sqrt");
    folder_drop(root);
}

TEST(folders_and_options) {
    const char *root = folder_new();
    CHECK_EQ(WEFT(root, SCRIPT, "whole", "plain", "latest")->status, 0);        /* nothing there yet: from the start */
    REFUSES(WEFT(root, SCRIPT, "whole", "plain"),
            "whole has checkpoints of an earlier run: resume = \"latest\" goes on");
    struct run *r = WEFT(root, SCRIPT, "whole", "plain", "latest");             /* nothing is left to do */
    CHECK_HAS(r->out, "ok -1");
    REFUSES(WEFT(root, SCRIPT, "whole", "plain", "17"), "checkpoint-17");
    REFUSES(WEFT(root, SCRIPT, "whole", "plain", "soon"), "\"latest\" or the number of a step is wanted, not soon");
    r = WEFT(root, SCRIPT, "whole", "plain", "21");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->err, "later checkpoints are set aside");
    CHECK(there(root, "whole/checkpoint-24.old") && same_files(root, "whole/checkpoint-24/model.safetensors",
                                                                "whole/checkpoint-24.old/model.safetensors"));
#define WRONG(text, options) REFUSES(WEFT(root, "-e", "local weft = require 'weft' local m = weft.tensor{1}:requires_grad(true) " \
        "local function f() end weft.trainer{" options "}"), text)
    WRONG("there is no option max_step; did you mean max_steps?", "max_step = 3");
    WRONG("data is missing", "model = m, step = f, max_steps = 1");
    WRONG("accumulate: a whole number from 1 on is wanted",
          "model = m, data = f, step = f, max_steps = 1, accumulate = 1.5");
    WRONG("checkpoints need a log_dir", "model = m, data = f, step = f, max_steps = 1, checkpoint_every = 1");
    WRONG("validate_every is given, but no validate",
          "model = m, data = f, step = f, max_steps = 1, validate_every = 1");
    WRONG("adamw, adam, sgd, lion or adafactor is wanted",
          "model = m, data = f, step = f, max_steps = 1, optimizer = 'adamx'");
    WRONG("no trained weights", "model = {}, data = f, step = f, max_steps = 1");
#undef WRONG
    folder_drop(root);
}

TEST(pieces_from_lua) {
    const char *root = folder_new();
    struct run *r = WEFT(root, WEFT_SOURCE_DIR "/tests/lua/logs.lua",
                         WEFT_SOURCE_DIR "/tests/golden/losses.safetensors");
    if (r->status || strncmp(r->out, "ok ", 3)) TEST_FAIL("status %d: %s%s", r->status, r->out, r->err);
    folder_drop(root);
}

TEST_MAIN
