/* The context: options, the sticky error and its path, scopes, cancelling, progress, shape-only. */
#include <sched.h>
#include "tests/tensors.h"

static weft_tensor *one(weft_ctx *c) { return weft_full(c, WEFT_F32, WEFT_SHAPE(16), 1); }

TEST(options) {
    weft_ctx *c = weft_ctx_new(NULL);
    REQUIRE(c && weft_ok(c));
    CHECK_STR(weft_backend(c)->name, "cpu");
    cpu_set_t set;
    REQUIRE(sched_getaffinity(0, sizeof set, &set) == 0);
    CHECK(weft_threads(c) >= 1 && weft_threads(c) <= CPU_COUNT(&set));
    CHECK_EQ(weft_precision_of(c), WEFT_PRECISION_FAST);
    CHECK_EQ(weft_memory_limit(c), 0);
    weft_set_precision(c, WEFT_PRECISION_EXACT);
    CHECK_EQ(weft_precision_of(c), WEFT_PRECISION_EXACT);
    CHECK_EQ(weft_set_threads(c, 3), WEFT_OK);
    CHECK_EQ(weft_threads(c), 3);
    CHECK_EQ(weft_set_threads(c, 1025), WEFT_E_ARGUMENT);
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "1025 threads");
    CHECK_EQ(weft_set_threads(c, -1), WEFT_E_ARGUMENT);
    weft_clear(c);
    CHECK_EQ(weft_threads(c), 3);
    CLOSE(c);
    weft_ctx_free(NULL);
}

TEST(unknown_device_stays_an_error) {
    weft_ctx *c = open_device("abacus");
    REQUIRE(c);
    CHECK_EQ(weft_error(c), WEFT_E_DEVICE);
    CHECK_HAS(weft_message(c), "\"abacus\"");
    CHECK_HAS(weft_message(c), "\"reference\"");
    weft_clear(c);
    CHECK_EQ(weft_error(c), WEFT_E_DEVICE);
    CHECK(!one(c));
    CHECK(!weft_linear(c, NULL, NULL, NULL, WEFT_ACT_NONE, NULL));
    weft_ctx_free(c);
}

TEST(bad_options) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = -2 });
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "-2 threads");
    weft_ctx_free(c);
    c = weft_ctx_new(&(weft_options){ .precision = (weft_precision)7 });
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "precision 7");
    weft_ctx_free(c);
}

TEST(first_error_wins) {
    weft_ctx *c = open_device("reference");
    CHECK_STR(weft_message(c), "");
    CHECK_EQ(weft_fail(c, WEFT_E_FILE, "%s: line\nbreak", "a.txt"), WEFT_E_FILE);
    CHECK_EQ(weft_fail(c, WEFT_E_SHAPE, "second"), WEFT_E_FILE);
    CHECK(!weft_ok(c));
    CHECK_STR(weft_message(c), "a.txt: line break");
    CHECK(!one(c));
    CHECK(!weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1), &(float){ 1 }));
    weft_clear(c);
    CHECK(weft_ok(c));
    CHECK_STR(weft_message(c), "");
    CHECK(one(c));
    CLOSE(c);
}

TEST(status_names) {
    CHECK_STR(weft_status_name(WEFT_OK), "ok");
    CHECK_STR(weft_status_name(WEFT_E_MEMORY), "memory");
    CHECK_STR(weft_status_name(WEFT_E_CANCELLED), "cancelled");
    CHECK_STR(weft_status_name(WEFT_E_INTERNAL), "internal");
    CHECK_STR(weft_status_name(WEFT_STATUS_COUNT), "?");
}

TEST(message_begins_with_the_path) {
    weft_ctx *c = open_device("reference");
    weft_tree *tree = weft_tree_new(c, "unet");
    REQUIRE(tree);
    weft_params p = weft_root(tree);
    weft_scope outer = weft_scope_named(c, "step 3");
    weft_scope_begin(c, p);
    weft_scope_begin(c, (weft_params){ 0 });
    weft_scope_begin(c, weft_sub_at(weft_sub(p, "down_blocks"), "resnets", 1));
    weft_fail(c, WEFT_E_SHAPE, "conv2d: %d", 7);
    CHECK_STR(weft_message(c), "step 3: unet.down_blocks.resnets.1: conv2d: 7");
    CHECK(!weft_scope_end(c, outer, NULL));
    weft_clear(c);
    weft_fail(c, WEFT_E_SHAPE, "x");
    CHECK_STR(weft_message(c), "x");
    weft_tree_free(tree);
    CLOSE(c);
}

TEST(long_messages_are_cut) {
    weft_ctx *c = open_device("reference");
    static char text[8192];
    memset(text, 'a', sizeof text - 1);
    for (int i = 0; i < 3; i++) weft_scope_named(c, text);
    weft_scope_named(c, "inner");
    weft_fail(c, WEFT_E_FILE, "%s", text);
    CHECK(strlen(weft_message(c)) > 500 && strlen(weft_message(c)) < 4096);
    CLOSE(c);
}

TEST(scope_keeps_one_and_drops_the_rest) {
    weft_ctx *c = open_device("reference");
    weft_scope outer = weft_scope_named(c, "outer");
    weft_scope s = weft_scope_named(c, "inner");
    weft_tensor *a = one(c);
    one(c);
    size_t two = weft_memory_live(c);
    weft_tensor *kept = weft_scope_end(c, s, a);
    CHECK(kept == a);
    CHECK_EQ(weft_memory_live(c), two / 2);
    CHECK_EQ(weft_item(c, weft_slice(c, kept, 0, 0, 1)), 1);
    CHECK(!weft_scope_end(c, outer, NULL));
    CHECK_EQ(weft_memory_live(c), 0);
    CLOSE(c);
}

TEST(scope_end_closes_what_was_left_open_inside) {
    weft_ctx *c = open_device("reference");
    weft_scope outer = weft_scope_named(c, "outer");
    one(c);
    weft_scope_named(c, "left open");
    weft_tensor *a = one(c);
    weft_scope_named(c, "left open too");
    one(c);
    weft_tensor *kept = weft_scope_end(c, outer, a);
    CHECK(kept == a);
    CHECK_EQ(weft_memory_live(c), 64);
    weft_fail(c, WEFT_E_SHAPE, "at the top");
    CHECK_STR(weft_message(c), "at the top");
    weft_clear(c);
    CLOSE(c);
}

TEST(scope_end_after_an_error_drops_all) {
    weft_ctx *c = open_device("reference");
    weft_scope s = weft_scope_named(c, "s");
    weft_tensor *a = one(c);
    weft_fail(c, WEFT_E_FILE, "no");
    CHECK(!weft_scope_end(c, s, a));
    CHECK_EQ(weft_memory_live(c), 0);
    weft_clear(c);
    CLOSE(c);
}

TEST(scope_end_twice_is_harmless) {
    weft_ctx *c = open_device("reference");
    weft_scope outer = weft_scope_named(c, "outer");
    weft_tensor *a = one(c);
    weft_scope s = weft_scope_named(c, "inner");
    weft_scope_end(c, s, NULL);
    weft_scope_end(c, s, NULL);
    CHECK_EQ(weft_memory_live(c), 64);
    CHECK(weft_scope_end(c, outer, a) == a);
    CLOSE(c);
}

TEST(keep_of_an_outer_tensor_stays_where_it_is) {
    weft_ctx *c = open_device("reference");
    weft_scope outer = weft_scope_named(c, "outer");
    weft_tensor *a = one(c);
    weft_scope s = weft_scope_named(c, "inner");
    CHECK(weft_scope_end(c, s, a) == a);        /* a function that returns its argument */
    CHECK_EQ(weft_memory_live(c), 64);
    weft_scope_end(c, outer, NULL);
    CHECK_EQ(weft_memory_live(c), 0);
    CLOSE(c);
}

TEST(keep_moves_several_results_out) {
    weft_ctx *c = open_device("reference");
    weft_scope outer = weft_scope_named(c, "outer");
    weft_tensor *before = one(c);
    weft_scope s = weft_scope_named(c, "inner");
    one(c);
    weft_tensor *a = one(c);
    weft_scope_named(c, "left open");
    one(c);
    weft_tensor *b = one(c);
    CHECK(weft_scope_keep(c, s, b) == b);
    CHECK(weft_scope_keep(c, s, a) == a);
    CHECK(weft_scope_keep(c, s, before) == before);
    CHECK(!weft_scope_keep(c, s, NULL));
    one(c);
    CHECK_EQ(weft_memory_live(c), 6 * 64);
    CHECK(!weft_scope_end(c, s, NULL));
    CHECK_EQ(weft_memory_live(c), 3 * 64);
    weft_tensor *all = weft_concat(c, 0, 3, (weft_tensor *const[]){ before, a, b });
    CHECK_EQ(weft_item(c, weft_reduce_all(c, WEFT_REDUCE_SUM, all)), 48);
    weft_scope_end(c, outer, NULL);
    CHECK_EQ(weft_memory_live(c), 0);
    CLOSE(c);
}

TEST(keep_moves_the_first_of_a_scope_out) {
    weft_ctx *c = open_device("reference");
    weft_scope outer = weft_scope_named(c, "outer");
    weft_scope s = weft_scope_named(c, "middle");
    weft_tensor *a = weft_full(c, WEFT_F32, WEFT_SHAPE(16), 2);
    weft_scope inner = weft_scope_named(c, "inner");
    weft_tensor *b = weft_full(c, WEFT_F32, WEFT_SHAPE(16), 3);
    weft_scope_keep(c, s, b);                   /* out of both */
    weft_scope_end(c, inner, NULL);
    CHECK_EQ(weft_memory_live(c), 128);
    CHECK_EQ(((float *)weft_data(a))[0], 2);
    weft_scope_keep(c, s, a);
    weft_scope_end(c, s, NULL);
    CHECK_EQ(weft_memory_live(c), 128);
    CHECK_EQ(((float *)weft_data(b))[15], 3);
    weft_scope_end(c, outer, NULL);
    CHECK_EQ(weft_memory_live(c), 0);
    CLOSE(c);
}

TEST(references_outlive_scopes) {
    weft_ctx *c = open_device("reference");
    weft_scope s = weft_scope_named(c, "s");
    weft_tensor *a = weft_ref(one(c));
    weft_tensor *view = weft_ref(weft_slice(c, a, 0, 2, 3));
    weft_scope_end(c, s, NULL);
    CHECK_EQ(weft_memory_live(c), 64);
    weft_unref(a);
    CHECK_EQ(weft_memory_live(c), 64);          /* the view holds the storage */
    CHECK_EQ(((float *)weft_data(view))[2], 1);
    weft_unref(view);
    CHECK_EQ(weft_memory_live(c), 0);
    weft_unref(NULL);
    CHECK(!weft_ref(NULL));
    CLOSE(c);
}

TEST(a_tensor_may_outlive_its_context) {
    weft_ctx *c = open_device("reference");
    weft_tensor *a = weft_ref(one(c));
    weft_ctx_free(c);
    CHECK_EQ(((float *)weft_data(a))[15], 1);
    weft_unref(a);
}

TEST(deep_nesting) {
    weft_ctx *c = open_device("reference");
    weft_scope first = weft_scope_named(c, "s");
    for (int i = 0; i < 5000; i++) {
        weft_scope_named(c, "s");
        one(c);
    }
    CHECK_EQ(weft_memory_live(c), 5000 * 64);
    weft_tensor *last = one(c);
    CHECK(weft_scope_end(c, first, last) == last);
    CHECK_EQ(weft_memory_live(c), 64);
    CLOSE(c);
}

TEST(cancel_stops_the_next_operation) {
    weft_ctx *c = open_device("reference");
    weft_tensor *a = one(c);
    weft_cancel(c);
    CHECK(weft_ok(c));
    CHECK(!weft_silu(c, a));
    CHECK_ERROR(c, WEFT_E_CANCELLED, "cancelled");
    CHECK(weft_silu(c, a));
    CLOSE(c);
}

static struct { int calls; int64_t done, total; int stop_at; char what[32]; } told;
static bool tell(void *user, const char *what, int64_t done, int64_t total) {
    CHECK(user == &told);
    told.calls++;
    told.done = done;
    told.total = total;
    snprintf(told.what, sizeof told.what, "%s", what);
    return done != told.stop_at;
}

TEST(progress_tells_and_cancels) {
    weft_ctx *c = open_device("reference");
    CHECK(weft_progress(c, "nobody listens", 0, 1));
    told.stop_at = 3;
    weft_set_progress(c, tell, &told);
    CHECK(weft_progress(c, "unet", 1, 20));
    CHECK_EQ(told.calls, 1);
    CHECK_EQ(told.total, 20);
    CHECK_STR(told.what, "unet");
    CHECK(!weft_progress(c, "unet", 3, 20));
    CHECK_EQ(weft_error(c), WEFT_E_CANCELLED);
    CHECK(!weft_progress(c, "unet", 4, 20));
    CHECK_EQ(told.calls, 2);
    weft_clear(c);
    weft_cancel(c);
    CHECK(!weft_progress(c, "unet", 4, 20));
    CHECK_ERROR(c, WEFT_E_CANCELLED, "cancelled");
    CLOSE(c);
}

TEST(shape_only_nests_and_takes_no_memory) {
    weft_ctx *c = open_device("reference");
    weft_shape_only(c, true);
    weft_shape_only(c, true);
    weft_tensor *a = weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1 << 20, 1 << 20));
    CHECK(a && !weft_data(a));
    CHECK_EQ(weft_count(a), (int64_t)1 << 40);
    weft_shape_only(c, false);
    CHECK(weft_is_shape_only(c));
    CHECK(weft_add(c, a, a));
    weft_shape_only(c, false);
    CHECK(!weft_is_shape_only(c));
    CHECK_EQ(weft_memory_peak(c), 0);
    CHECK(!weft_silu(c, a));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "silu: (1048576, 1048576) f32 was made in a shape-only run");
    CHECK(weft_read(c, a, NULL, (size_t)1 << 42) == WEFT_E_ARGUMENT);
    weft_clear(c);
    weft_shape_only(c, false);
    CHECK(!weft_is_shape_only(c));
    CLOSE(c);
}

TEST_MAIN
