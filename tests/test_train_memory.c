/* Optimisers, averages, logs and checkpoints when memory ends: every allocation of the process fails in turn, the C
 * library's own too. */
#include <stdarg.h>

#include "nodes/train/csv_log.h"
#include "nodes/train/curve.h"
#include "nodes/train/ema.h"
#include "nodes/train/event_log.h"
#include "nodes/train/optim.h"
#include "nodes/train/snapshot.h"
#include "nodes/train/state.h"
#include "runtime/update.h"
#include "tests/failing_malloc.h"
#include "tests/train_bed.h"

#ifdef FAILING_MALLOC
static const char *folder;

/* A piece of work; false, with the error set, where it failed. */
typedef bool work(weft_ctx *c);

/* Does the work with the first allocation failing, then the second, and so on, until none is left to fail. */
static void all_failures(const char *what, work *run, long least) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .device = "cpu", .threads = 1 });
    folder = folder_new();
    if (!run(c)) TEST_FAIL("%s: %s", what, weft_message(c));       /* what is made once is made */
    weft_memory_trim(c);
    long n = 0;
    for (;; n++) {
        const long before = live;
        refused = false;
        countdown = n;
        const bool whole = run(c);
        countdown = -1;
        if (whole != weft_ok(c)) TEST_FAIL("%s, failure %ld: %d, but \"%s\"", what, n, whole, weft_message(c));
        if (!whole && !refused) TEST_FAIL("%s: failed although no allocation did: %s", what, weft_message(c));
        weft_clear(c);
        weft_memory_trim(c);
        if (live != before) TEST_FAIL("%s, failure %ld: %ld allocations leaked", what, n, live - before);
        CHECK_EQ(weft_memory_live(c), 0);
        if (!refused || test_failures) break;
    }
    if (n < least) TEST_FAIL("%s: only %ld allocations", what, n);
    folder_drop(folder);
    weft_ctx_free(c);
}

enum { N = 3 };

static bool optimiser(weft_ctx *c, weft_optim_kind kind) {
    weft_scope s = weft_scope_named(c, "test");
    weft_optim_options options = weft_optim_defaults(kind);
    options.momentum = kind == WEFT_OPTIM_SGD ? 0.9 : 0;
    weft_optim *o = weft_optim_new(c, &options);
    weft_tensor *g[N] = { 0 };
    char path[200];
    snprintf(path, sizeof path, "%s/optimizer.safetensors", folder);
    bool ok = o && weft_optim_group(o, 0, 0.5) == 1;
    for (int i = 0; ok && i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "layer.%d", i);
        weft_tensor *w = weft_full(c, i == 1 ? WEFT_BF16 : WEFT_F32, WEFT_SHAPE(5, 7), 1);
        g[i] = weft_full(c, WEFT_F32, WEFT_SHAPE(5, 7), 0.5);
        ok = w && g[i] && weft_optim_add(o, i > 0, name, w) == WEFT_OK;
    }
    ok = ok && weft_clip_grad_norm(c, N, g, 1, true, NULL) == WEFT_OK && weft_optim_step(o, g) == WEFT_OK;
    ok = ok && weft_optim_save(o, path) == WEFT_OK && weft_optim_load(o, path) == WEFT_OK;
    weft_optim_free(o);
    weft_scope_end(c, s, NULL);
    return ok;
}
static bool adamw(weft_ctx *c) { return optimiser(c, WEFT_OPTIM_ADAMW); }
static bool sgd(weft_ctx *c) { return optimiser(c, WEFT_OPTIM_SGD); }
static bool adafactor(weft_ctx *c) { return optimiser(c, WEFT_OPTIM_ADAFACTOR); }

TEST(optimisers) {
    all_failures("adamw", adamw, 50);
    all_failures("sgd", sgd, 50);
    all_failures("adafactor", adafactor, 50);
}

static bool averages(weft_ctx *c) {
    weft_scope s = weft_scope_named(c, "test");
    weft_ema_options options = weft_ema_defaults(WEFT_EMA_DIFFUSERS);
    weft_ema *e = weft_ema_new(c, &options);
    weft_tensor *w = weft_full(c, WEFT_F32, WEFT_SHAPE(9), 2), *v = weft_full(c, WEFT_F16, WEFT_SHAPE(9), 3);
    char path[200];
    snprintf(path, sizeof path, "%s/ema.safetensors", folder);
    bool ok = e && weft_ema_add(e, "w", w) == WEFT_OK && weft_ema_add(e, "v", v) == WEFT_OK;
    for (int i = 0; ok && i < 3; i++) ok = weft_ema_step(e) == WEFT_OK;
    ok = ok && weft_update_scale(c, w, 2, -INFINITY, INFINITY) == WEFT_OK;
    const bool swapped = ok && weft_ema_swap(e) == WEFT_OK;
    if (ok && !swapped) {           /* nothing was exchanged */
        const long left = countdown;
        countdown = -1;
        weft_clear(c);
        CHECK(!weft_ema_swapped(e));
        CHECK_NEAR(weft_item(c, weft_slice(c, w, 0, 0, 1)), 4, 0);
        weft_fail(c, WEFT_E_MEMORY, "no memory");
        countdown = left;
    }
    ok = swapped && weft_ema_swap(e) == WEFT_OK && weft_ema_save(e, path) == WEFT_OK && weft_ema_load(e,
            path) == WEFT_OK;
    weft_ema_free(e);
    weft_scope_end(c, s, NULL);
    return ok;
}

TEST(moving_averages) { all_failures("ema", averages, 30); }

static bool logs(weft_ctx *c) {
    static const char *const columns[] = { "step", "loss" };
    char csv[200], png[200];
    snprintf(csv, sizeof csv, "%s/log.csv", folder);
    snprintf(png, sizeof png, "%s/loss.png", folder);
    weft_scope s = weft_scope_named(c, "test");
    weft_csv_log *log = weft_csv_log_open(c, csv, 2, columns, 1);
    bool ok = log && weft_csv_log_row(log, 2, &(double){ 0.5 }) == WEFT_OK;
    weft_csv_log_close(log);
    ok = ok && weft_curve_save(c, csv, "loss", png) == WEFT_OK;
    weft_event_log *events = ok ? weft_event_log_open(c, folder, 1) : NULL;
    weft_tensor *pictures = weft_full(c, WEFT_F32, WEFT_SHAPE(3, 4, 5, 3), 0.5), *grid = weft_grid(c, pictures, 2, 1,
            0);
    ok = events && weft_event_log_scalar(events, "loss", 2, 0.5) == WEFT_OK && grid &&
         weft_event_log_image(events, "grid", 2, grid) == WEFT_OK;
    if (events) unlink(weft_event_log_path(events));
    weft_event_log_close(events);
    weft_scope_end(c, s, NULL);
    return ok;
}

TEST(logs_and_pictures) { all_failures("logs", logs, 25); }

static bool checkpoints(weft_ctx *c) {
    weft_snapshot snapshot;
    char path[300];
    static int64_t step;
    step++;
    bool ok = weft_snapshot_begin(c, &snapshot, folder, step);
    if (ok) {
        snprintf(path, sizeof path, "%s/file", snapshot.out.temporary);
        ok = weft_file_save(c, path, "text", 4) && weft_snapshot_commit(c, &snapshot, 1) == WEFT_OK;
    }
    weft_snapshot_discard(&snapshot);
    if (!ok) return false;
    const int64_t latest = weft_snapshot_latest(c, folder, NULL, NULL);
    if (weft_ok(c)) CHECK_EQ(latest, step);
    return weft_ok(c);
}

TEST(checkpoints_of_a_run) { all_failures("checkpoints", checkpoints, 20); }
#else
/* The sanitizer has its own malloc, which cannot be replaced. */
TEST(nothing_to_do) {
    CHECK(true);
}
#endif

TEST_MAIN
