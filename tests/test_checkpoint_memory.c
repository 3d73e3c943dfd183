/* Opening a checkpoint when memory ends: every allocation of the process fails in turn, the C library's own too. */
#include "nodes/checkpoint/checkpoint.h"
#include "tests/checkpoint_files.h"
#include "tests/failing_malloc.h"

#ifdef FAILING_MALLOC
/* Opens `path` with the first allocation failing, then the second, and so on, until none is left to fail. */
static void all_failures(const char *path) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1 });
    weft_checkpoint_free(weft_checkpoint_open(c, path, WEFT_PARTS_ALL, 0));     /* what is made once is made */
    CHECK_STR(weft_message(c), "");
    weft_memory_trim(c);
    long step = 1, attempts = 0;
    for (long n = 0; !test_failures; n += step) {
        long before = live;
        refused = false;
        countdown = n;
        weft_checkpoint *k = weft_checkpoint_open(c, path, WEFT_PARTS_ALL, 0);
        countdown = -1;
        if (!refused && !k) TEST_FAIL("failed although no allocation did: %s", weft_message(c));
        if (!k && weft_ok(c)) TEST_FAIL("failure %ld: no result and no error", n);
        if (!k && !weft_message(c)[0]) TEST_FAIL("failure %ld: no message", n);
        /* Where memory is wanting for a shortcut, or only for a look at the folder, opening may work all the same. */
        bool wrong_code = !k && weft_error(c) != WEFT_E_MEMORY && weft_error(c) != WEFT_E_FILE &&
            !strstr(weft_message(c), "no memory");
        if (wrong_code) TEST_FAIL("failure %ld: %s: %s", n, weft_status_name(weft_error(c)), weft_message(c));
        bool done = !refused;
        weft_checkpoint_free(k);
        weft_clear(c);
        weft_memory_trim(c);
        if (live != before) TEST_FAIL("failure %ld: %ld allocations leaked", n, live - before);
        CHECK_EQ(weft_memory_live(c), 0);
        attempts++;
        if (done) break;
        /* Every one of the first, then fewer: there is one for each of the names. */
        if (n > 400) step = 1 + n / 150;
    }
    CHECK(attempts > 50);
    weft_ctx_free(c);
}

TEST(single_file) {
    weft_ctx *c = weft_ctx_new(NULL);
    const char *folder = new_folder();
    char path[128];
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    int layout = LAYOUT_LDM | LAYOUT_UNKNOWN;
    bool ok = write_file(c, path, (struct file_options){ .family = "sd2", .parts = WEFT_PARTS_ALL, .layout = layout,
                                                         .type = WEFT_F16 });
    weft_ctx_free(c);
    if (ok) all_failures(path);
    drop_folder(folder);
}

TEST(folder) {
    weft_ctx *c = weft_ctx_new(NULL);
    const char *folder = new_folder();
    bool ok = write_folder(c, folder, (struct file_options){ .family = "sd2", .parts = WEFT_PARTS_ALL,
                                                             .type = WEFT_F16 });
    mkdir(in(folder, "scheduler"), 0755);
    put_text(folder, "scheduler/scheduler_config.json", "{\"num_train_timesteps\": 2, \"trained_betas\": [0.1, 0.2]}");
    weft_ctx_free(c);
    if (ok) all_failures(folder);
    drop_folder(folder);
}
#else
/* The sanitizer has its own malloc, which cannot be replaced. */
TEST(nothing_to_do) {
    CHECK(true);
}
#endif

TEST_MAIN
