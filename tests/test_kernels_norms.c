/* Group norm, layer norm and softmax against the naive ones. */
#include "tests/kernel_cases.h"

static const weft_dtype floats[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };

/* In f32, x − mean is good to 6e-8·|mean|/spread of the spread, and mean itself to about twice that; the rest to
 * 1e-6. */
static double norm_tolerance(double mean, double spread) { return 1e-6 + 2e-7 * fabs(mean) / spread; }

enum { NO_AFFINE = 1, IN_PLACE = 2, STATISTICS = 4 };

/* Mean and rstd, which a kernel gives beside its output, as outputs of their own. */
static void check_statistics(const struct kernel_case *y, void **mean, void **rstd, int64_t n, double spread,
                             const char *what) {
    void **slots[] = { mean, rstd };
    struct kernel_case c = *y;
    void *plain = buffer_new(bytes_of(y->type, y->count), 0, 0);
    c.count = n;
    c.before = NULL;
    c.each = true;
    *y->out = plain;
    c.alias = NULL;
    for (int i = 0; i < 2; i++) {
        *mean = *rstd = NULL;
        c.out = slots[i];
        c.tolerance = y->tolerance;
        c.floor = i ? 0 : spread * y->tolerance;
        case_check(&c, what);
    }
    *mean = *rstd = NULL;
}

static void group_norm_once(weft_dtype type, int64_t n, int64_t pixels, int64_t channels, int64_t groups, double mean,
                            double spread, double eps, weft_activation act, int how) {
    char what[160];
    random_state = (uint64_t)(n + pixels * 1000003 + channels * 1009 + groups);
    int64_t count = n * pixels * channels;
    weft_group_norm_args a = { .type = type, .n = n, .pixels = pixels, .c = channels, .groups = groups, .eps = eps,
                               .act = act, .x = random_values(type, count, mean, spread) };
    if (!(how & NO_AFFINE)) {
        a.gamma = random_values(type, channels, 1, 0.5);
        a.beta = random_values(type, channels, 0, 1);
    }
    struct kernel_case c = { .id = WEFT_KERNEL_group_norm, .args = &a, .out = &a.y, .type = type, .count = count,
                             .tolerance = norm_tolerance(mean, spread) };
    snprintf(what, sizeof what, "(%d,%d,%d) in %d groups, mean %g spread %g, act %d, how %d, %s", (int)n, (int)pixels,
             (int)channels, (int)groups, mean, spread, act, how, weft_dtype_name(type));
    if (how & STATISTICS) check_statistics(&c, &a.mean, &a.rstd, n * groups, spread, what);
    if (how & IN_PLACE) { c.before = a.x; c.alias = &a.x; }
    case_check(&c, what);
    buffers_free();
}

static void group_norm(weft_dtype type, int64_t n, int64_t pixels, int64_t channels, int64_t groups, double mean,
                       double spread, double eps, weft_activation act, int how) {
    if (!fast_takes(WEFT_KERNEL_group_norm, type)) return;
    EACH_ALIGNMENT group_norm_once(type, n, pixels, channels, groups, mean, spread, eps, act, how);
}

TEST(group_norm_sizes) {
    static const int64_t widths[] = { 1, 2, 3, 4, 5, 8, 10, 16, 17, 20, 40 };
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int64_t groups = 1; groups <= 33; groups += 1 + groups / 2)
            for (int64_t pixels = 2; pixels < 80; pixels = pixels * 3 + 1)
                group_norm(WEFT_F32, 1 + (int64_t)i % 3, pixels, groups * widths[i], groups, 0.3, 1, 1e-5,
                           (weft_activation)((i + (size_t)pixels) % WEFT_ACT_COUNT), (int)((i + (size_t)groups) % 8));
    group_norm(WEFT_F32, 2, 4096, 64, 32, 0, 1, 1e-6, WEFT_ACT_SILU, IN_PLACE);
    group_norm(WEFT_F32, 1, 64, 1280, 32, 0, 1, 1e-5, WEFT_ACT_SILU, STATISTICS);
    group_norm(WEFT_F32, 1, 30000, 6, 2, 0, 1, 1e-5, WEFT_ACT_NONE, STATISTICS);
}

/* E(x²) − E(x)² in f32 would give noise here. */
TEST(group_norm_offset) {
    group_norm(WEFT_F32, 2, 300, 32, 4, 1000, 1, 1e-6, WEFT_ACT_NONE, STATISTICS);
    group_norm(WEFT_F32, 1, 5000, 8, 2, -300, 0.1, 1e-6, WEFT_ACT_SILU, STATISTICS);
    group_norm(WEFT_F32, 1, 77, 24, 3, 50, 0.01, 1e-12, WEFT_ACT_NONE, 0);
    group_norm(WEFT_F32, 1, 77, 24, 3, 0, 1e-4, 1e-5, WEFT_ACT_NONE, 0);          /* eps above the variance */
    group_norm(WEFT_F32, 1, 77, 24, 3, 0, 1e15, 1e-5, WEFT_ACT_NONE, 0);          /* squares of 1e30 */
}

TEST(group_norm_types) {
    for (int t = 0; t < 4; t++)
        for (int how = 0; how < 8; how++) {
            group_norm(floats[t], 2, 35, 24, 4, 0.5, 1, 1e-5, how & 1 ? WEFT_ACT_SILU : WEFT_ACT_NONE, how);
            group_norm(floats[t], 1, 9, 7, 1, 0, 2, 1e-6, WEFT_ACT_GELU, how);
        }
    /* More than a block of CUDA's threads has at once: groups side by side, and too wide ones. */
    for (int t = 0; t < 3; t++) {
        group_norm(floats[t], 2, 700, 80, 8, 2, 1, 1e-5, WEFT_ACT_SILU, STATISTICS);
        group_norm(floats[t], 1, 20, 2208, 2, -1, 1, 1e-5, WEFT_ACT_NONE, IN_PLACE);
        group_norm(floats[t], 1, 20, 2202, 2, -1, 1, 1e-5, WEFT_ACT_RELU, NO_AFFINE);
        group_norm(floats[t], 3, 901, 21, 3, 0, 1, 1e-5, WEFT_ACT_QUICK_GELU, IN_PLACE | STATISTICS);
        group_norm(floats[t], 1, 2600, 32, 32, 0, 1, 1e-5, WEFT_ACT_SILU, 0);
        group_norm(floats[t], 2, 2600, 12, 12, 0, 1, 1e-5, WEFT_ACT_NONE, STATISTICS);
        group_norm(floats[t], 1, 2600, 130, 130, 1, 1, 1e-5, WEFT_ACT_NONE, STATISTICS);    /* more than are joined at once */
    }
}

TEST(norms_of_nothing) {
    group_norm(WEFT_F32, 0, 5, 8, 2, 0, 1, 1e-5, WEFT_ACT_NONE, 0);
    group_norm(WEFT_F32, 2, 0, 8, 2, 0, 1, 1e-5, WEFT_ACT_NONE, 0);
    group_norm(WEFT_F32, 1, 1, 4, 4, 3, 1, 1e-5, WEFT_ACT_NONE, STATISTICS);      /* one value a group: variance 0 */
}

/* The same value everywhere: variance exactly 0, the result exactly beta. */
TEST(group_norm_constant) {
    for (int i = 0; i < 2; i++) {
        weft_group_norm_args a = { .type = WEFT_F32, .n = 1, .pixels = 100, .c = 12, .groups = 3, .eps = 1e-6,
                                   .x = random_values(WEFT_F32, 1200, i ? 1234.5 : 0.1, 0),
                                   .beta = random_values(WEFT_F32, 12, 0, 1) };
        struct kernel_case c = { .id = WEFT_KERNEL_group_norm, .args = &a, .out = &a.y, .type = WEFT_F32,
                                 .count = 1200, .tolerance = i ? 0.2 : 2e-5 };
        /* rstd is 1000: a mean that is off by its last bit (6e-8·1234, 6e-8·0.1) shows as a thousand times that. */
        case_check(&c, "a constant picture");
        buffers_free();
    }
}

static void layer_norm_once(weft_dtype type, int64_t rows, int64_t channels, double mean, double spread, int how) {
    char what[160];
    random_state = (uint64_t)(rows * 1000003 + channels);
    weft_layer_norm_args a = { .type = type, .rows = rows, .c = channels, .eps = 1e-5,
                               .x = random_values(type, rows * channels, mean, spread) };
    if (!(how & NO_AFFINE)) {
        a.gamma = random_values(type, channels, 1, 0.5);
        a.beta = random_values(type, channels, 0, 1);
    }
    struct kernel_case c = { .id = WEFT_KERNEL_layer_norm, .args = &a, .out = &a.y, .type = type,
                             .count = rows * channels, .tolerance = norm_tolerance(mean, spread) };
    snprintf(what, sizeof what, "(%d,%d) mean %g spread %g, how %d, %s", (int)rows, (int)channels, mean, spread, how,
             weft_dtype_name(type));
    if (how & STATISTICS) check_statistics(&c, &a.mean, &a.rstd, rows, spread, what);
    if (how & IN_PLACE) { c.before = a.x; c.alias = &a.x; }
    case_check(&c, what);
    buffers_free();
}

static void layer_norm(weft_dtype type, int64_t rows, int64_t channels, double mean, double spread, int how) {
    if (!fast_takes(WEFT_KERNEL_layer_norm, type)) return;
    EACH_ALIGNMENT layer_norm_once(type, rows, channels, mean, spread, how);
}

TEST(layer_norm_all) {
    for (int64_t channels = 2; channels < 70; channels++)
        layer_norm(WEFT_F32, 1 + channels % 5, channels, 0.2, 1, (int)channels % 8);
    for (int t = 0; t < 4; t++)
        for (int how = 0; how < 8; how++) layer_norm(floats[t], 7, how % 2 ? 48 : 45, 0.5, 1, how);
    for (int t = 1; t < 3; t++) layer_norm(floats[t], 9, 1280, 1, 1, STATISTICS);
    layer_norm(WEFT_F32, 77, 768, 0, 1, STATISTICS);
    layer_norm(WEFT_F32, 3, 1280, 1000, 1, STATISTICS);
    layer_norm(WEFT_F32, 3, 10000, -20, 0.01, 0);
    layer_norm(WEFT_F32, 5, 1, 3, 1, 0);
    layer_norm(WEFT_F32, 0, 8, 0, 1, 0);
    layer_norm(WEFT_F32, 3, 0, 0, 1, NO_AFFINE);
    layer_norm(WEFT_F32, 1000, 3, 0, 1, IN_PLACE);
}

/* NaN and infinities stay in their group or row. */
TEST(norms_special) {
    for (int i = 0; i < 3; i++) {
        float *x = random_values(WEFT_F32, 2 * 50 * 24, 0, 1);
        x[i == 0 ? 0 : 24 * 30 + 5] = i == 1 ? NAN : INFINITY;
        weft_group_norm_args g = { .type = WEFT_F32, .n = 2, .pixels = 50, .c = 24, .groups = 4, .eps = 1e-5, .x = x };
        struct kernel_case c = { .id = WEFT_KERNEL_group_norm, .args = &g, .out = &g.y, .type = WEFT_F32,
                                 .count = 2400, .tolerance = 1e-6 };
        case_check(&c, "special values");
        weft_layer_norm_args l = { .type = WEFT_F32, .rows = 100, .c = 24, .eps = 1e-5, .x = x };
        c.id = WEFT_KERNEL_layer_norm;
        c.args = &l;
        c.out = &l.y;
        case_check(&c, "special values");
        buffers_free();
    }
}

static void softmax_once(weft_dtype type, int64_t rows, int64_t channels, double spread, double scale, bool in_place) {
    char what[160];
    random_state = (uint64_t)(rows * 1000003 + channels);
    weft_softmax_args a = { .type = type, .rows = rows, .c = channels, .scale = scale,
                            .x = random_values(type, rows * channels, 0, spread) };
    /* scale·x in f32 is off by 6e-8 of its size, up to four times spread·scale, and the exponential by as much of
     * itself. */
    struct kernel_case c = { .id = WEFT_KERNEL_softmax, .args = &a, .out = &a.y, .type = type,
                             .count = rows * channels, .tolerance = 5e-7 + 3e-7 * spread * fabs(scale) };
    if (in_place) { c.before = a.x; c.alias = &a.x; }
    snprintf(what, sizeof what, "(%d,%d) spread %g scale %g %s", (int)rows, (int)channels, spread, scale,
             weft_dtype_name(type));
    case_check(&c, what);
    buffers_free();
}

static void softmax(weft_dtype type, int64_t rows, int64_t channels, double spread, double scale, bool in_place) {
    if (!fast_takes(WEFT_KERNEL_softmax, type)) return;
    EACH_ALIGNMENT softmax_once(type, rows, channels, spread, scale, in_place);
}

TEST(softmax_all) {
    for (int64_t channels = 1; channels < 70; channels++)
        softmax(WEFT_F32, 1 + channels % 4, channels, 3, channels % 2 ? 1 : -0.4, channels % 3 == 0);
    for (int t = 0; t < 4; t++) softmax(floats[t], 5, 77, 4, 0.7, t % 2);
    for (int t = 1; t < 3; t++) softmax(floats[t], 11, 80, 4, -0.7, t % 2);
    softmax(WEFT_F16, 2, 6000, 3, 1, true);
    softmax(WEFT_F32, 3, 5000, 1, 1, false);
    softmax(WEFT_F32, 3, 100, 300, 1, false);
    softmax(WEFT_F32, 3, 100, 300, -1, false);
    softmax(WEFT_F32, 3, 100, 1e30, 1, false);          /* one value has all of it */
    softmax(WEFT_F32, 3, 100, 1, 0, false);             /* all the same */
    softmax(WEFT_F32, 0, 10, 1, 1, false);
    softmax(WEFT_F32, 4, 0, 1, 1, false);
    float *x = random_values(WEFT_F32, 4 * 37, 0, 1);
    x[3] = -INFINITY;
    x[37 + 5] = NAN;
    for (int i = 0; i < 37; i++) x[2 * 37 + i] = -INFINITY;
    x[3 * 37 + 36] = INFINITY;
    weft_softmax_args a = { .type = WEFT_F32, .rows = 4, .c = 37, .scale = 1, .x = x };
    struct kernel_case c = { .id = WEFT_KERNEL_softmax, .args = &a, .out = &a.y, .type = WEFT_F32, .count = 4 * 37,
                             .tolerance = 1e-6 };
    case_check(&c, "infinities and NaN, as PyTorch has them");
    buffers_free();
}

KERNEL_TEST_MAIN
