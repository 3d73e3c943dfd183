/* The optimisers' kernels: the fast ones against the naive ones over several steps, the same bytes for any number of
 * threads, nothing written beside the arrays, scratch refused. */
#include "tests/kernel_cases.h"

/* The arrays of one parameter: `kept` are changed in place, in the order param, first and second state. */
enum { KEPT = 4 };
struct arrays { weft_dtype type; int64_t n, count[KEPT]; void *grad, *kept[KEPT]; double *sum; };

static struct arrays arrays_new(weft_dtype type, int64_t n, const int64_t *count, int64_t skip) {
    struct arrays a = { .type = type, .n = n, .sum = buffer_new(2 * sizeof(double), 0, 0) };
    a.grad = random_values(type, n, 0, 0.5);
    if (skip && n) ref_put(type, a.grad, n / 2, 0);
    for (int k = 0; k < KEPT; k++) {
        const size_t bytes = bytes_of(type, a.count[k] = count[k]);
        a.kept[k] = buffer_new(bytes, GUARD, (size_t)values_off * weft_dtype_size(type));
        memset(a.kept[k], 0, bytes);
    }
    for (int64_t i = 0; i < count[0]; i++) ref_put(type, a.kept[0], i, random_bell());
    return a;
}

/* The same content in arrays of its own. */
static struct arrays arrays_copy(const struct arrays *from) {
    struct arrays a = *from;
    for (int k = 0; k < KEPT; k++) {
        const size_t bytes = bytes_of(a.type, a.count[k]);
        a.kept[k] = buffer_new(bytes, GUARD, (size_t)values_off * weft_dtype_size(a.type));
        memcpy(a.kept[k], from->kept[k], bytes);
    }
    return a;
}

/* One update of everything; `variant` chooses among a kernel's options. Returns the kernel's status. */
typedef int update_fn(const weft_kernels *k, const weft_env *env, struct arrays *a, int variant, int step);

static int update_adam(const weft_kernels *k, const weft_env *env, struct arrays *a, int variant, int step) {
    return k->adam(env, &(weft_adam_args){
        .type = a->type, .n = a->n, .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = variant & 2 ? 0 : 0.1, .correct1 = 1 - pow(0.9, step), .correct2 = 1 - pow(0.95, step),
        .decoupled = variant & 1, .grad = a->grad, .param = a->kept[0], .m = a->kept[1], .v = a->kept[2] });
}

static int update_sgd(const weft_kernels *k, const weft_env *env, struct arrays *a, int variant, int step) {
    return k->sgd(env, &(weft_sgd_args){
        .type = a->type, .n = a->n, .lr = 0.03, .momentum = 0.8, .dampening = variant == 2 ? 0.3 : 0,
        .weight_decay = 0.02, .nesterov = variant == 1, .first = step == 1, .grad = a->grad, .param = a->kept[0],
        .m = variant == 3 ? NULL : a->kept[1] });
}

static int update_lion(const weft_kernels *k, const weft_env *env, struct arrays *a, int variant, int step) {
    (void)step;
    return k->lion(env, &(weft_lion_args){ .type = a->type, .n = a->n, .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99,
        .weight_decay = variant ? 0.1 : 0, .grad = a->grad, .param = a->kept[0], .m = a->kept[1] });
}

static int update_lerp(const weft_kernels *k, const weft_env *env, struct arrays *a, int variant, int step) {
    (void)step;
    return k->lerp(env, &(weft_lerp_args){ .type = a->type, .n = a->n, .t = variant ? 0.25 : 1e-4, .a = a->kept[0],
                                           .b = a->grad, .y = a->kept[0] });
}

static int64_t matrix[3];       /* batch, rows, cols of the Adafactor cases */

static int update_adafactor(const weft_kernels *k, const weft_env *env, struct arrays *a, int variant, int step) {
    weft_sum_squares_args squares = { .type = a->type, .n = a->n, .x = a->kept[0], .y = &a->sum[0] };
    weft_adafactor_args f = { .type = a->type, .batch = matrix[0], .rows = matrix[1], .cols = matrix[2], .eps = 1e-30,
        .decay = 1 - pow(step, -0.8), .lr = 0.01, .least = 1e-3, .clip = variant & 2 ? 0.5 : 1, .beta1 = 0.9,
        .weight_decay = variant & 4 ? 0.05 : 0, .grad = a->grad, .row = variant & 1 ? a->kept[3] : NULL,
        .col = a->kept[2], .param = a->kept[0], .m = variant & 4 ? a->kept[1] : NULL, .squares = &a->sum[1],
        .param_squares = variant & 2 ? &a->sum[0] : NULL };
    int status = k->sum_squares(env, &squares);
    if (!status) status = k->adafactor_moments(env, &f);
    if (!status) status = k->adafactor_size(env, &f);
    if (!status) status = k->adafactor_apply(env, &f);
    return status;
}

/* Three steps on the naive kernels and on the fast ones with 1, 2 and 3 threads. f32: each operation rounds, a handful
 * of them one after the other, and three steps; 2e-6 of the array's rms. f64 goes to the same code on both. */
static void check_update(update_fn *update, int variant, const struct arrays *start, const char *what) {
    struct arrays want = arrays_copy(start), first = { 0 };
    struct scratch s;
    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_FAST);
    for (int step = 1; step <= 3; step++)
        CHECK_EQ(update(weft_kernels_reference(), &env, &want, variant, step), WEFT_K_OK);
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        struct arrays got = arrays_copy(start);
        env = kernel_env(&s, threads, WEFT_PRECISION_FAST);
        for (int step = 1; step <= 3; step++)
            CHECK_EQ(update(tested(), &env, &got, variant, step), WEFT_K_OK);
        CHECK_EQ(s.live, 0);
        CHECK(!s.foreign);
        for (int k = 0; k < KEPT; k++) {
            const size_t bytes = bytes_of(got.type, got.count[k]);
            struct kernel_case near = { .type = got.type, .count = got.count[k], .tolerance = 2e-6 };
            int64_t at;
            if (!guard_holds(got.kept[k], bytes)) TEST_FAIL("%s, variant %d: wrote beside array %d", what, variant, k);
            if (threads > 1 && memcmp(got.kept[k], first.kept[k], bytes))
                TEST_FAIL("%s, variant %d: array %d has other bytes with %d threads", what, variant, k, threads);
            const double error = case_error(&near, got.kept[k], want.kept[k], &at);
            if (!(error <= 1)) TEST_FAIL("%s, variant %d: array %d is %.3g times too far", what, variant, k, error);
        }
        if (threads == 1) first = got;
    }
}

static const int64_t sizes[] = { 0, 1, 3, 7, 8, 15, 17, 33, 1000, 8191, 8193, 40001 };

static void check_flat(update_fn *update, int variants, const char *what) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int variant = 0; variant < variants; variant++)
            for (int t = 0; t < 2; t++) EACH_ALIGNMENT {
                const int64_t n = sizes[i];
                if (!fast_takes(WEFT_KERNEL_adam, t ? WEFT_F64 : WEFT_F32)) continue;
                struct arrays a = arrays_new(t ? WEFT_F64 : WEFT_F32, n, (int64_t[KEPT]){ n, n, n, 0 }, 1);
                check_update(update, variant, &a, what);
                buffers_free();
            }
}

TEST(adam) { check_flat(update_adam, 4, "adam"); }
TEST(sgd) { check_flat(update_sgd, 4, "sgd"); }
TEST(lion) { check_flat(update_lion, 2, "lion"); }
TEST(lerp) { check_flat(update_lerp, 2, "lerp"); }

TEST(adafactor) {
    static const int64_t shapes[][3] = { { 1, 1, 1 }, { 1, 1, 17 }, { 1, 9, 1 }, { 1, 33, 40 }, { 12, 3, 3 },
                                         { 700, 3, 3 }, { 70, 1, 1 }, { 3, 130, 129 }, { 1, 5, 9001 }, { 1, 9001, 5 },
                                         { 2, 0, 4 }, { 1, 300, 301 } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int variant = 0; variant < 8; variant++)
            for (int t = 0; t < 2; t++) EACH_ALIGNMENT {
                if (!fast_takes(WEFT_KERNEL_adafactor_apply, t ? WEFT_F64 : WEFT_F32)) continue;
                memcpy(matrix, shapes[i], sizeof matrix);
                const int64_t rows = matrix[0] * matrix[1], n = rows * matrix[2], columns = matrix[0] * matrix[2];
                const int64_t kept[KEPT] = { n, n, variant & 1 ? columns : n, rows };
                char what[80];
                struct arrays a = arrays_new(t ? WEFT_F64 : WEFT_F32, n, kept, 0);
                snprintf(what, sizeof what, "adafactor (%d, %d, %d)", (int)matrix[0], (int)matrix[1], (int)matrix[2]);
                check_update(update_adafactor, variant, &a, what);
                buffers_free();
            }
}

/* A gradient of zeros makes no NaN, as dividing by its root mean square would. */
TEST(adafactor_takes_zeros) {
    matrix[0] = 1, matrix[1] = 5, matrix[2] = 7;
    for (int variant = 0; variant < 2; variant++) {
        struct arrays a = arrays_new(WEFT_F32, 35, (int64_t[KEPT]){ 35, 35, 35, 5 }, 0), before = arrays_copy(&a);
        struct scratch s;
        weft_env env = kernel_env(&s, 1, WEFT_PRECISION_FAST);
        memset(a.grad, 0, 35 * 4);
        CHECK_EQ(update_adafactor(tested(), &env, &a, variant, 1), WEFT_K_OK);
        CHECK(!memcmp(a.kept[0], before.kept[0], 35 * 4));
        buffers_free();
    }
}

/* A moving average of equal values stays to the bit, however often. */
TEST(lerp_does_not_drift) {
    float *a = random_values(WEFT_F32, 1000, 0, 1), *b = buffer_new(4000, 0, 0);
    struct scratch s;
    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_FAST);
    memcpy(b, a, 4000);
    for (int i = 0; i < 50; i++)
        tested()->lerp(&env, &(weft_lerp_args){ .type = WEFT_F32, .n = 1000, .t = 1e-4, .a = a, .b = b,
                                                          .y = a });
    CHECK(!memcmp(a, b, 4000));
    buffers_free();
}

/* Sums of squares, in double: good to the last bits, and infinite or NaN where a value is. */
TEST(sum_squares) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) EACH_ALIGNMENT {
        const int64_t n = sizes[i];
        float *x = random_values(WEFT_F32, n, 0.5, 1);
        double want, *got = buffer_new(MOST_THREADS * sizeof *got, 0, 0);
        struct scratch s;
        for (int threads = 1; threads <= MOST_THREADS; threads++) {
            weft_env env = kernel_env(&s, threads, WEFT_PRECISION_FAST);
            weft_sum_squares_args a = { .type = WEFT_F32, .n = n, .x = x, .y = &want };
            CHECK_EQ(weft_kernels_reference()->sum_squares(&env, &a), WEFT_K_OK);
            a.y = &got[threads - 1];
            CHECK_EQ(tested()->sum_squares(&env, &a), WEFT_K_OK);
            CHECK_NEAR(got[threads - 1], want, 1e-13 * want);       /* two orders of adding up some 10⁵ doubles */
            CHECK(got[threads - 1] == got[0]);
            CHECK_EQ(s.live, 0);
        }
        buffers_free();
    }
    float *odd = random_values(WEFT_F32, 20, 0, 0);
    double *sum = buffer_new(sizeof *sum, 0, 0);
    struct scratch s;
    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_FAST);
    odd[18] = 3e38f;
    tested()->sum_squares(&env, &(weft_sum_squares_args){ .type = WEFT_F32, .n = 20, .x = odd, .y = sum });
    CHECK_NEAR(*sum, 9e76, 1e70);
    odd[19] = NAN;
    tested()->sum_squares(&env, &(weft_sum_squares_args){ .type = WEFT_F32, .n = 20, .x = odd, .y = sum });
    CHECK(isnan(*sum));
    buffers_free();
}

/* NaN in a gradient reaches the parameter: it must not pass unseen. */
TEST(nan_goes_through) {
    update_fn *const updates[] = { update_adam, update_sgd, update_lion, update_lerp, update_adafactor };
    matrix[0] = 1, matrix[1] = 4, matrix[2] = 5;
    for (int k = 0; k < 5; k++) {
        struct arrays a = arrays_new(WEFT_F32, 20, (int64_t[KEPT]){ 20, 20, 20, 4 }, 0);
        struct scratch s;
        weft_env env = kernel_env(&s, 1, WEFT_PRECISION_FAST);
        ((float *)a.grad)[19] = NAN;
        CHECK_EQ(updates[k](tested(), &env, &a, 1, 1), WEFT_K_OK);
        CHECK(isnan(((float *)a.kept[0])[19]));
        buffers_free();
    }
}

/* Each request for scratch refused in turn: told, nothing kept. */
TEST(scratch_refused) {
    matrix[0] = 3, matrix[1] = 40, matrix[2] = 50;
    for (int64_t fail_at = 0; fail_at < 20; fail_at++) {
        struct arrays a = arrays_new(WEFT_F32, 6000, (int64_t[KEPT]){ 6000, 6000, 150, 120 }, 0);
        struct scratch s;
        weft_env env = kernel_env(&s, 2, WEFT_PRECISION_FAST);
        s.fail_at = fail_at;
        const int status = update_adafactor(tested(), &env, &a, 1, 1);
        CHECK_EQ(s.live, 0);
        buffers_free();
        if (s.calls <= fail_at) {
            CHECK_EQ(status, WEFT_K_OK);
            /* CUDA's sums of so few need none but the means of rows, twice. */
            CHECK(fail_at > (MOST_THREADS > 1 ? 2 : 1));
            return;
        }
        CHECK_EQ(status, WEFT_K_NO_MEMORY);
    }
    TEST_FAIL("more requests than can be");
}

KERNEL_TEST_MAIN
