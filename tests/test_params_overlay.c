/* Overlays: what is changed, what is shared, how W′ is rounded; adapters beside layers against the same adapters merged
 * into the weights. */
#include "tests/host_data.h"
#include "tests/host_memory.h"
#include "tests/tensors.h"

#define NO_INIT ((weft_init){ .kind = WEFT_INIT_ZEROS })

static weft_ctx *context(const char *device) {
    return weft_ctx_new(&(weft_options){ .device = device, .threads = 1, .precision = WEFT_PRECISION_EXACT,
                                         .os_alloc = host_os_alloc, .os_free = host_os_free });
}

static void end(weft_ctx *c) {
    CLOSE(c);
    CHECK_EQ(host_live, 0);
}

static weft_tree *tree_of(weft_ctx *c, weft_dtype type) {
    weft_tree *t = weft_tree_new(c, "net");
    weft_scope s = weft_scope_named(c, "tree");
    static const struct { const char *name; int rank; int64_t shape[4]; } weights[] = {
        { "a.linear.weight", 2, { 3, 5 } }, { "a.linear.bias", 1, { 3 } }, { "b.to_out.0.weight", 2, { 4, 3 } },
        { "a.conv.weight", 4, { 4, 5, 3, 3 } }, { "a.conv.bias", 1, { 4 } }, { "a.point.weight", 2, { 4, 5 } },
        { "a.point.bias", 1, { 4 } }, { "a.norm.weight", 1, { 5 } },
    };
    for (size_t i = 0; t && i < sizeof weights / sizeof *weights; i++)
        if (weft_tree_add(c, t, weights[i].name, noisy(c, type, i + 1, weights[i].rank, weights[i].shape))) break;
    weft_scope_end(c, s, NULL);
    return t;
}

static weft_tensor *weight(weft_ctx *c, weft_tree *t) {
    return weft_param(c, weft_root(t), "a.linear.weight", NO_INIT, WEFT_SHAPE(3, 5));
}

TEST(unchanged_weights_are_shared) {
    weft_ctx *c = context("cpu");
    weft_tree *base = tree_of(c, WEFT_F32), *over = weft_tree_overlay(c, base);
    weft_scope s = weft_scope_named(c, "test");
    CHECK(weft_has(weft_root(over), "a.linear.weight") && weft_has(weft_sub(weft_root(over), "a"), "conv"));
    CHECK(!weft_has(weft_root(over), "a.other") && !weft_has(weft_sub(weft_root(over), "c"), "weight"));
    CHECK(weight(c, over) == weight(c, base));
    CHECK_EQ(weft_tree_count(over), 0);
    weft_tensor *x = noisy(c, WEFT_F32, 9, WEFT_SHAPE(2, 5));
    CHECK(weft_nn_linear(c, weft_sub(weft_root(over), "a.linear"), x, 3, true) != NULL);
    CHECK(weight(c, base)->packed != NULL);             /* by the overlay's use of it */
    CHECK(!weft_param(c, weft_root(over), "a.linear.other", NO_INIT, WEFT_SHAPE(1)));
    CHECK_ERROR(c, WEFT_E_PARAMS, "net.a.linear.other is missing");
    weft_scope_end(c, s, NULL);
    weft_tree_free(over);
    weft_tree_free(base);
    end(c);
}

/* W + Σ scale·up·down in double; up (3, r), down (r, 5). */
static void by_hand(weft_ctx *c, weft_tensor *w, weft_tensor *up, weft_tensor *down, double scale, double *out) {
    double *a = values_of(c, w), *u = values_of(c, up), *d = values_of(c, down);
    int64_t r = weft_dim(up, 1);
    for (int i = 0; i < 15; i++) {
        double sum = 0;
        for (int64_t k = 0; k < r; k++) sum += u[i / 5 * r + k] * d[k * 5 + i % 5];
        out[i] = a[i] + scale * sum;
    }
    free(a);
    free(u);
    free(d);
}

/* One rounding to the weight's type, from f32 sums: half a unit in the last place, of values below 4. */
static const struct { weft_dtype type; double tolerance; } types[] = {
    { WEFT_F64, 1e-15 }, { WEFT_F32, 1e-6 }, { WEFT_F16, 0x1p-10 + 1e-6 }, { WEFT_BF16, 0x1p-7 + 1e-6 },
};

TEST(deltas_are_added) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        weft_dtype type = types[i].type;
        weft_ctx *c = context(type == WEFT_F64 ? "reference" : "cpu");
        weft_tree *base = tree_of(c, type), *over = weft_tree_overlay(c, base), *second = weft_tree_overlay(c, base);
        weft_scope s = weft_scope_named(c, "test");
        weft_tensor *up = noisy(c, WEFT_F16, 20, WEFT_SHAPE(3, 2)), *down = noisy(c, WEFT_F32, 21, WEFT_SHAPE(2, 5));
        weft_tensor *up4 = noisy(c, WEFT_F32, 22, WEFT_SHAPE(3, 1, 1, 1));
        weft_tensor *down4 = noisy(c, WEFT_F32, 23, WEFT_SHAPE(1, 5, 1, 1)), *x;
        x = noisy(c, type == WEFT_F64 ? WEFT_F64 : WEFT_F32, 24, WEFT_SHAPE(2, 5));
        weft_tensor *whole = noisy(c, WEFT_F32, 25, WEFT_SHAPE(3));
        double want[15], twice[15];
        by_hand(c, weight(c, base), up, down, 0.7, want);
        by_hand(c, weft_tensor_from(c, WEFT_F64, WEFT_SHAPE(3, 5), want), weft_reshape(c, up4, WEFT_SHAPE(3, 1)),
                weft_reshape(c, down4, WEFT_SHAPE(1, 5)), -0.3, twice);
        CHECK(!weft_tree_add_delta(c, over, "a.linear.weight", &(weft_delta){ up, down, 0.7 }));
        CHECK(!weft_tree_add_delta(c, over, "a.linear.bias", &(weft_delta){ whole, NULL, 2 }));
        check_tensor(__LINE__, c, weight(c, over), WEFT_SHAPE(3, 5), types[i].tolerance, want);
        CHECK_EQ(weft_type(weight(c, over)), type);
        double *bias = values_of(c, weft_param(c, weft_root(base), "a.linear.bias", NO_INIT, WEFT_SHAPE(3)));
        double *more = values_of(c, whole);
        for (int k = 0; k < 3; k++) bias[k] += 2 * more[k];
        check_tensor(__LINE__, c, weft_param(c, weft_root(over), "a.linear.bias", NO_INIT, WEFT_SHAPE(3)),
                     WEFT_SHAPE(3), types[i].tolerance, bias);
        /* A stack: one W′ from the base, rounded once. It does not look at the first overlay any more. */
        CHECK(!weft_tree_copy_deltas(c, second, over));
        CHECK(!weft_tree_add_delta(c, second, "a.linear.weight", &(weft_delta){ up4, down4, -0.3 }));
        weft_tree_free(over);
        CHECK(weft_nn_linear(c, weft_sub(weft_root(second), "a.linear"), x, 3, true) != NULL);
        check_tensor(__LINE__, c, weight(c, second), WEFT_SHAPE(3, 5), types[i].tolerance, twice);
        double *kept = values_of(c, weight(c, base)), *same = values_of(c, noisy(c, type, 1, WEFT_SHAPE(3, 5)));
        CHECK(!memcmp(kept, same, 15 * sizeof *kept));
        CHECK(weft_tree_add_delta(c, second, "a.norm.weight", &(weft_delta){ down4, NULL, 1 }) != WEFT_OK);
        CHECK_ERROR(c, WEFT_E_SHAPE, "does not fit the weight (5)");
        free(bias);
        free(more);
        free(kept);
        free(same);
        weft_scope_end(c, s, NULL);
        weft_tree_free(second);
        weft_tree_free(base);
        end(c);
    }
}

TEST(wrong_changes_are_refused) {
    weft_ctx *c = context("cpu");
    weft_tree *base = tree_of(c, WEFT_F32), *over = weft_tree_overlay(c, base);
    weft_scope s = weft_scope_named(c, "test");
    weft_tensor *up = noisy(c, WEFT_F32, 1, WEFT_SHAPE(3, 2)), *down = noisy(c, WEFT_F32, 2, WEFT_SHAPE(2, 4));
    weft_tensor *none = noisy(c, WEFT_F32, 1, WEFT_SHAPE(3, 0)), *empty = noisy(c, WEFT_F32, 2, WEFT_SHAPE(0, 5));
    weft_tensor *scalar = weft_scalar(c, WEFT_F32, 1), *good = noisy(c, WEFT_F32, 2, WEFT_SHAPE(2, 5));
    const struct { weft_tree *t; const char *name; weft_delta d; const char *message; } bad[] = {
        { over, "a.linear.weight", { up, down, 1 },
          "net.\"a.linear.weight\": (3, 2) f32 times (2, 4) f32 does not fit the weight (3, 5) f32" },
        { over, "a.linear.weight", { down, up, 1 }, "does not fit" },
        { over, "a.linear.weight", { none, empty, 1 }, "does not fit" },
        { over, "a.linear.weight", { scalar, good, 1 }, "does not fit" },
        { over, "a.linear.weight", { up, scalar, 1 }, "does not fit" },
        { over, "a.linear.weight", { up, NULL, 1 }, "(3, 2) f32 does not fit the weight" },
        { over, "a.linear.weight", { NULL, up, 1 }, "a change without a tensor" },
        { over, "a.linear", { up, good, 1 }, "there is no such parameter to change" },
        { over, "a.linear.we\night", { up, good, 1 }, "\"a.linear.we?ight\": there is no such parameter to change" },
        { base, "a.linear.weight", { up, good, 1 }, "there is no tree below to change" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weft_adapter a = { "a.linear", bad[i].d.down, bad[i].d.up, 1 };
        CHECK(weft_tree_add_delta(c, bad[i].t, bad[i].name, &bad[i].d) != WEFT_OK);
        CHECK_HAS(weft_message(c), bad[i].message);
        weft_clear(c);
        if (i >= 7) continue;
        CHECK(weft_tree_add_adapter(c, over, &a) != WEFT_OK);
        weft_clear(c);
    }
    CHECK(!weft_tree_add_delta(c, over, "a.linear.weight", &(weft_delta){ up, good, 1 }));
    CHECK(weight(c, over) != NULL);
    CHECK(weft_tree_add_delta(c, over, "a.linear.weight", &(weft_delta){ up, good, 1 }) != WEFT_OK);
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "was used already");
    CHECK(weft_tree_make_adapters(c, over, (const char *const[]){ "linear", "near", NULL }, 2, 2, WEFT_F32, 1));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "net: no layer is called near");
    CHECK(weft_tree_make_adapters(c, over, (const char *const[]){ "conv", NULL }, 0, 1, WEFT_F32, 1));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "adapters of rank 0");
    weft_scope_end(c, s, NULL);
    weft_tree_free(over);
    weft_tree_free(base);
    end(c);
}

TEST(new_adapters) {
    weft_ctx *c = context("cpu");
    weft_tree *base = tree_of(c, WEFT_F16), *over = weft_tree_overlay(c, base);
    static const char *const targets[] = { "to_out.0", "conv", "a.conv", "linear", NULL };
    static const char *const places[] = { "b.to_out.0", "a.conv", "a.linear" };
    CHECK(!weft_tree_make_adapters(c, over, targets, 2, 1, WEFT_F32, 7));
    CHECK_EQ(weft_tree_count(over), 6);
    weft_adapter a;
    for (int i = 0; i < 3; i++) {
        REQUIRE(weft_tree_adapter(over, i, &a));
        CHECK_STR(a.place, places[i]);
        CHECK_NEAR(a.scale, 0.5, 0);
        CHECK_EQ(weft_dim(a.down, 0), 2);
        CHECK_EQ(weft_dim(a.up, 1), 2);
        double k = (double)(weft_count(a.down) / 2), largest = 0, *down = values_of(c, a.down);
        double *up = values_of(c, a.up);
        for (int64_t j = 0; j < weft_count(a.down); j++) largest = fmax(largest, fabs(down[j]));
        for (int64_t j = 0; j < weft_count(a.up); j++) CHECK(up[j] == 0);
        CHECK(largest <= 1 / sqrt(k) && largest > 0.5 / sqrt(k));
        free(down);
        free(up);
    }
    CHECK(!weft_tree_adapter(over, 3, &a) && !weft_tree_adapter(over, -1, &a));
    CHECK_EQ(weft_rank(weft_param(c, weft_root(over), "a.conv.lora_A.weight", NO_INIT, WEFT_SHAPE(2, 5, 3, 3))), 4);
    weft_tree_free(over);
    weft_tree_free(base);
    end(c);
}

/* All kinds of layers on one input. */
static void layers(weft_ctx *c, weft_tree *t, weft_dtype type, weft_tensor *out[5]) {
    weft_params a = weft_sub(weft_root(t), "a");
    weft_tensor *x = noisy(c, type, 31, WEFT_SHAPE(2, 4, 5, 5)), *r = noisy(c, type, 32, WEFT_SHAPE(2, 4, 5, 3));
    weft_tensor *row = noisy(c, type, 33, WEFT_SHAPE(2, 4)), *r4 = noisy(c, type, 34, WEFT_SHAPE(2, 4, 5, 4));
    out[0] = weft_nn_linear_act(c, weft_sub(a, "linear"), x, 3, true, WEFT_ACT_NONE, r);
    out[1] = weft_nn_linear_act(c, weft_sub(a, "linear"), x, 3, true, WEFT_ACT_QUICK_GELU, r);
    out[2] = weft_nn_conv2d_add(c, weft_sub(a, "conv"), x, 4, 3, WEFT_CONV_SAME(3), row, r4);
    out[3] = weft_nn_conv2d(c, weft_sub(a, "conv"), x, 4, 3, (weft_conv){ 2, 0, 1, 0, 1 });
    out[4] = weft_nn_conv2d(c, weft_sub(a, "point"), x, 4, 1, WEFT_CONV_SAME(1));
}

/* A second overlay with adapters of its own stands over the first: both count. */
TEST(adapters_do_what_merging_does) {
    /* f16: W′ is rounded once more than W and the adapter are, by 2⁻¹¹ of values near 1, in sums of up to 45 of them */
    static const struct { const char *device; weft_dtype weights, type; double tolerance; } cases[] = {
        { "reference", WEFT_F64, WEFT_F64, 1e-14 }, { "cpu", WEFT_F32, WEFT_F32, 2e-6 },
        { "cpu", WEFT_F16, WEFT_F32, 1e-3 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weft_ctx *c = context(cases[i].device);
        weft_tree *base = tree_of(c, cases[i].weights), *first = weft_tree_overlay(c, base);
        weft_tree *second = weft_tree_overlay(c, first), *merged = weft_tree_overlay(c, base);
        static const char *const targets[] = { "a.linear", "conv", "point", NULL };
        weft_dtype type = cases[i].type;
        weft_scope s = weft_scope_named(c, "test");
        weft_tensor *plain[5], *beside[5], *inside[5];
        CHECK(!weft_tree_make_adapters(c, first, targets, 2, 1.5, type, 3));
        layers(c, base, type, plain);
        layers(c, first, type, beside);
        for (int k = 0; k < 5; k++) {           /* up is 0 as yet */
            double *got = values_of(c, beside[k]), *want = values_of(c, plain[k]);
            for (int64_t j = 0; j < weft_count(plain[k]); j++) CHECK_NEAR(got[j], want[j], 1e-6);
            free(got);
            free(want);
        }
        weft_adapter a;
        for (int64_t k = 0; weft_tree_adapter(first, k, &a); k++) {
            weft_tensor *up = noisy(c, type, 40 + (uint64_t)k, weft_rank(a.up), weft_shape(a.up));
            size_t bytes = (size_t)weft_count(up) * weft_dtype_size(type);
            CHECK(!weft_write(c, a.up, host_data(up), bytes));
        }
        a = (weft_adapter){ "a.linear", noisy(c, type, 50, WEFT_SHAPE(1, 5)), noisy(c, type, 51, WEFT_SHAPE(3, 1)),
                            -0.5 };
        CHECK(!weft_tree_add_adapter(c, second, &a));
        CHECK(!weft_tree_merge_adapters(c, merged, first) && !weft_tree_merge_adapters(c, merged, second));
        layers(c, second, type, beside);
        layers(c, merged, type, inside);
        for (int k = 0; k < 5; k++) {
            double *got = values_of(c, beside[k]), *want = values_of(c, inside[k]), *old = values_of(c, plain[k]);
            double far = 0;
            REQUIRE(got && want && old);
            for (int64_t j = 0; j < weft_count(plain[k]); j++) {
                CHECK_NEAR(got[j], want[j], cases[i].tolerance * 4);
                far = fmax(far, fabs(got[j] - old[j]));
            }
            CHECK(far > 0.1);
            free(got);
            free(want);
            free(old);
        }
        weft_scope_end(c, s, NULL);
        weft_tree_free(merged);
        weft_tree_free(second);
        weft_tree_free(first);
        weft_tree_free(base);
        end(c);
    }
}

TEST(without_memory) {
    FOR_EACH_FAILURE {
        weft_ctx *c = context("cpu");
        if (!c) { ATTEMPT_WORKED(false); continue; }
        weft_tree *base = tree_of(c, WEFT_F32), *over = base && weft_ok(c) ? weft_tree_overlay(c, base) : NULL;
        weft_scope s = weft_scope_named(c, "test");
        bool ok = over != NULL;
        weft_tensor *up = noisy(c, WEFT_F32, 1, WEFT_SHAPE(3, 2)), *down = noisy(c, WEFT_F32, 2, WEFT_SHAPE(2, 5));
        weft_tensor *x = noisy(c, WEFT_F32, 3, WEFT_SHAPE(2, 4, 5, 5));
        ok = ok && !weft_tree_add_delta(c, over, "a.linear.weight", &(weft_delta){ up, down, 1 }) &&
             !weft_tree_make_adapters(c, over, (const char *const[]){ "linear", NULL }, 2, 1, WEFT_F32, 3) &&
             weft_nn_linear(c, weft_sub(weft_root(over), "a.linear"), x, 3, true);
        CHECK(ok || !weft_ok(c) || host_failed);
        ATTEMPT_WORKED(ok);
        weft_scope_end(c, s, NULL);
        weft_tree_free(over);
        weft_tree_free(base);
        end(c);
    }
}

TEST_MAIN
