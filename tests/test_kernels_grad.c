/* Gradients of norms, of what goes element by element, of pictures and tables against the naive ones. */
#include "tests/kernel_cases.h"

static const weft_dtype floats[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };

/* The case once for each result that a kernel gives: the others beside it, or, where `alone`, not wanted. */
static void check_each(struct kernel_case c, void **const *out, const int64_t *count, int n, bool alone, const char *what) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n; k++) *out[k] = alone ? NULL : buffer_new(bytes_of(c.type, count[k]), 0, 0);
        c.out = out[i];
        c.count = count[i];
        case_check(&c, what);
    }
}

/* ---- norms ---------------------------------------------------------------------------------------------- */

/* As the forward, x − mean is good to 6e-8·|mean|/spread of the spread; then products with dy. */
static double norm_tolerance(double mean, double spread) { return 2e-6 + 3e-7 * fabs(mean) / spread; }

enum { NO_GAMMA = 1, NO_BETA = 2, IN_PLACE = 4, ALONE = 8 };

static void group_norm_once(weft_dtype type, int64_t n, int64_t pixels, int64_t channels, int64_t groups, double mean,
                            double spread, weft_activation act, int how) {
    char what[160];
    random_state = (uint64_t)(n + pixels * 1000003 + channels * 1009 + groups);
    const int64_t count = n * pixels * channels;
    struct scratch s;
    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_EXACT);
    weft_group_norm_args f = { .type = type, .n = n, .pixels = pixels, .c = channels, .groups = groups, .eps = 1e-5,
                               .x = random_values(type, count, mean, spread), .y = random_values(type, count, 0, 1),
                               .mean = random_values(type, n * groups, 0, 1), .rstd = random_values(type, n * groups, 0, 1) };
    weft_kernels_reference()->group_norm(&env, &f);
    weft_group_norm_grad_args a = { .type = type, .n = n, .pixels = pixels, .c = channels, .groups = groups, .act = act, .x = f.x,
                                    .mean = f.mean, .rstd = f.rstd, .dy = random_values(type, count, 0, 1) };
    if (!(how & NO_GAMMA)) a.gamma = random_values(type, channels, 1, 0.5);
    if (!(how & NO_BETA)) a.beta = random_values(type, channels, 0, 1);
    struct kernel_case c = { .id = WEFT_KERNEL_group_norm_grad, .args = &a, .type = type, .tolerance = norm_tolerance(mean, spread) };
    snprintf(what, sizeof what, "(%d,%d,%d) in %d groups, mean %g spread %g, act %d, how %d, %s", (int)n, (int)pixels, (int)channels,
             (int)groups, mean, spread, act, how, weft_dtype_name(type));
    /* Few values in a group: they may lie near each other, and dx is what is left of a difference. */
    c.terms = (pixels * channels / groups < 8 ? 10 : 0.3) * fmin(1 / spread, 1);
    if (how & IN_PLACE) {
        c.before = a.dy;
        c.alias = &a.dy;
        c.out = &a.dx;
        c.count = count;
        case_check(&c, what);
        a.dy = c.before;
        c.before = c.alias = NULL;
    }
    check_each(c, (void **[]){ &a.dx, &a.dgamma, &a.dbeta }, (int64_t[]){ count, channels, channels }, 3, how & ALONE, what);
    buffers_free();
}

static void group_norm(weft_dtype type, int64_t n, int64_t pixels, int64_t channels, int64_t groups, double mean,
                       double spread, weft_activation act, int how) {
    if (!fast_takes(WEFT_KERNEL_group_norm_grad, type)) return;
    EACH_ALIGNMENT group_norm_once(type, n, pixels, channels, groups, mean, spread, act, how);
}

TEST(group_norm_grad_sizes) {
    static const int64_t widths[] = { 1, 2, 3, 5, 8, 10, 16, 17, 40 };
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int64_t groups = 1; groups <= 33; groups += 1 + groups)
            for (int64_t pixels = 2; pixels < 80; pixels = pixels * 3 + 1)
                group_norm(WEFT_F32, 1 + (int64_t)i % 3, pixels, groups * widths[i], groups, 0.3, 1,
                           (weft_activation)((i + (size_t)pixels) % WEFT_ACT_COUNT), (int)((i * 3 + (size_t)groups) % 16));
    group_norm(WEFT_F32, 2, 4096, 64, 32, 0, 1, WEFT_ACT_SILU, IN_PLACE);
    group_norm(WEFT_F32, 1, 64, 1280, 32, 0, 1, WEFT_ACT_SILU, 0);
    group_norm(WEFT_F32, 1, 30000, 6, 2, 0, 1, WEFT_ACT_NONE, 0);
    group_norm(WEFT_F32, 2, 300, 32, 4, 100, 1, WEFT_ACT_NONE, 0);
    group_norm(WEFT_F32, 1, 77, 24, 3, -5, 0.1, WEFT_ACT_SILU, 0);
    group_norm(WEFT_F32, 0, 5, 8, 2, 0, 1, WEFT_ACT_NONE, 0);
    group_norm(WEFT_F32, 2, 0, 8, 2, 0, 1, WEFT_ACT_SILU, 0);
}

TEST(group_norm_grad_types) {
    for (int t = 0; t < 4; t++)
        for (int how = 0; how < 16; how++)
            group_norm(floats[t], 2, 35, 24, 4, 0.5, 1, (weft_activation)(how % WEFT_ACT_COUNT), how);
    for (int t = 1; t < 3; t++) group_norm(floats[t], 2, 300, 40, 4, 0.5, 1, WEFT_ACT_SILU, IN_PLACE);
}

static void layer_norm_once(weft_dtype type, int64_t rows, int64_t channels, double mean, double spread, int how) {
    char what[160];
    random_state = (uint64_t)(rows * 1000003 + channels);
    const int64_t count = rows * channels;
    struct scratch s;
    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_EXACT);
    weft_layer_norm_args f = { .type = type, .rows = rows, .c = channels, .eps = 1e-5, .x = random_values(type, count, mean, spread),
                               .y = random_values(type, count, 0, 1), .mean = random_values(type, rows, 0, 1),
                               .rstd = random_values(type, rows, 0, 1) };
    weft_kernels_reference()->layer_norm(&env, &f);
    weft_layer_norm_grad_args a = { .type = type, .rows = rows, .c = channels, .x = f.x, .mean = f.mean, .rstd = f.rstd,
                                    .dy = random_values(type, count, 0, 1) };
    if (!(how & NO_GAMMA)) a.gamma = random_values(type, channels, 1, 0.5);
    struct kernel_case c = { .id = WEFT_KERNEL_layer_norm_grad, .args = &a, .type = type, .tolerance = norm_tolerance(mean, spread) };
    snprintf(what, sizeof what, "(%d,%d) mean %g spread %g, how %d, %s", (int)rows, (int)channels, mean, spread, how, weft_dtype_name(type));
    c.terms = 0.3 * fmin(1 / spread, 1);
    check_each(c, (void **[]){ &a.dx, &a.dgamma, &a.dbeta }, (int64_t[]){ count, channels, channels }, 3, how & ALONE, what);
    buffers_free();
}

static void layer_norm(weft_dtype type, int64_t rows, int64_t channels, double mean, double spread, int how) {
    if (!fast_takes(WEFT_KERNEL_layer_norm_grad, type)) return;
    EACH_ALIGNMENT layer_norm_once(type, rows, channels, mean, spread, how);
}

TEST(layer_norm_grad_all) {
    for (int64_t channels = 2; channels < 70; channels++) layer_norm(WEFT_F32, 1 + channels % 5, channels, 0.2, 1, (int)channels % 16);
    for (int t = 0; t < 4; t++)
        for (int how = 0; how < 16; how += 3) layer_norm(floats[t], 7, how % 2 ? 48 : 45, 0.5, 1, how);
    layer_norm(WEFT_F32, 77, 768, 0, 1, 0);
    layer_norm(WEFT_F32, 300, 40, 0, 1, 0);
    layer_norm(WEFT_F32, 3, 1280, 100, 1, 0);
    layer_norm(WEFT_F32, 3, 10000, -1, 0.1, 0);
    layer_norm(WEFT_F32, 0, 8, 0, 1, 0);
    layer_norm(WEFT_F32, 3, 0, 0, 1, NO_GAMMA);
    layer_norm(WEFT_F32, 1000, 3, 0, 1, 0);
}

/* ---- element by element --------------------------------------------------------------------------------- */

/* in_place: dx is dy. */
static void check(struct kernel_case c, const void **dy, bool in_place, const char *what) {
    if (in_place) {
        c.before = *dy;
        c.alias = dy;
    }
    case_check(&c, what);
    buffers_free();
}

static void softmax_once(weft_dtype type, int64_t rows, int64_t channels, bool in_place) {
    char what[80];
    random_state = (uint64_t)(rows * 1000003 + channels);
    weft_softmax_grad_args a = { .type = type, .rows = rows, .c = channels, .scale = 0.7, .y = random_values(type, rows * channels, 0.1, 0.03),
                                 .dy = random_values(type, rows * channels, 0, 1) };
    struct kernel_case c = { .id = WEFT_KERNEL_softmax_grad, .args = &a, .out = &a.dx, .type = type, .count = rows * channels,
                             .tolerance = 1e-6, .terms = 0.05 };
    snprintf(what, sizeof what, "(%d,%d) %s", (int)rows, (int)channels, weft_dtype_name(type));
    check(c, &a.dy, in_place, what);
}

static void softmax(weft_dtype type, int64_t rows, int64_t channels, bool in_place) {
    if (!fast_takes(WEFT_KERNEL_softmax_grad, type)) return;
    EACH_ALIGNMENT softmax_once(type, rows, channels, in_place);
}

TEST(softmax_grad_all) {
    for (int64_t channels = 1; channels < 70; channels++) softmax(WEFT_F32, 1 + channels % 4, channels, channels % 3 == 0);
    for (int t = 0; t < 4; t++) softmax(floats[t], 5, 77, t % 2);
    for (int t = 1; t < 3; t++) softmax(floats[t], 5, 80, t % 2);
    softmax(WEFT_F32, 3, 5000, false);
    softmax(WEFT_F32, 300, 300, true);
    softmax(WEFT_F32, 0, 10, false);
    softmax(WEFT_F32, 4, 0, false);
}

/* Slopes are good to a few roundings of their size (1), each for itself; those that grow, of their own. */
TEST(unary_grad_all) {
    for (weft_unary_op op = 0; op < WEFT_UNARY_COUNT; op++)
        for (int t = 0; t < 4; t++)
            for (int i = 0; i < 3; i++) {
                const int64_t n = i == 2 ? 30000 : (int64_t)op * 5 + t + i * 17;
                char what[80];
                if (!fast_takes(WEFT_KERNEL_unary_grad, floats[t])) continue;
                weft_unary_grad_args a = { .type = floats[t], .op = op, .n = n, .x = random_values(floats[t], n, 0, 4),
                                           .dy = random_values(floats[t], n, 0, 1) };
                for (int64_t k = 0; k < n; k++)
                    if (op == WEFT_UNARY_LOG || op == WEFT_UNARY_SQRT)
                        ref_put(floats[t], (void *)a.x, k, fabs(ref_get(floats[t], a.x, k)) + 1e-3);
                struct kernel_case c = { .id = WEFT_KERNEL_unary_grad, .args = &a, .out = &a.dx, .type = floats[t], .count = n,
                                         .each = true, .tolerance = 1e-6, .floor = 1e-6 };
                snprintf(what, sizeof what, "op %d, %d values of %s", op, (int)n, weft_dtype_name(floats[t]));
                check(c, &a.dy, i == 1, what);
            }
}

/* Where x is far out, at a corner or no number. */
TEST(unary_grad_special) {
    static const float values[] = { 0, -0.0f, 1e-30f, -1e-30f, 20, -20, 87, -87, 90, -90, 1000, -1000 };
    for (weft_unary_op op = 0; op < WEFT_UNARY_COUNT; op++) {
        const int64_t n = sizeof values / sizeof *values;
        float *x = memcpy(buffer_new(sizeof values, 0, 0), values, sizeof values);
        if (op == WEFT_UNARY_SQRT || op == WEFT_UNARY_LOG)
            for (int64_t i = 0; i < n; i++) x[i] = fabsf(x[i]);
        weft_unary_grad_args a = { .type = WEFT_F32, .op = op, .n = n, .x = x, .dy = random_values(WEFT_F32, n, 1, 0) };
        struct kernel_case c = { .id = WEFT_KERNEL_unary_grad, .args = &a, .out = &a.dx, .type = WEFT_F32, .count = n, .each = true,
                                 .tolerance = 2e-6, .floor = 1e-6 };
        char what[40];
        snprintf(what, sizeof what, "special values, op %d", op);
        check(c, &a.dy, false, what);
    }
}

TEST(affine_grad_all) {
    for (int t = 0; t < 4; t++)
        for (int64_t n = 0; n < 70; n += 1 + n / 3)
            for (int clamps = 0; clamps < 4; clamps++) {
                if (!fast_takes(WEFT_KERNEL_affine_grad, floats[t])) continue;
                weft_affine_grad_args a = { .type = floats[t], .n = n, .scale = 0.5, .shift = 0.25, .low = clamps & 1 ? -0.5 : -INFINITY,
                                            .high = clamps & 2 ? 0.75 : INFINITY, .dy = random_values(floats[t], n, 0, 1) };
                if (clamps) {
                    a.x = random_values(floats[t], n, 0, 2);
                    for (int64_t i = 0; i < n; i += 5) ref_put(floats[t], (void *)a.x, i, i % 2 ? 1 : i % 3 ? -1.5 : NAN);     /* the bounds */
                }
                check((struct kernel_case){ .id = WEFT_KERNEL_affine_grad, .args = &a, .out = &a.dx, .type = floats[t], .count = n,
                                            .each = true, .tolerance = 1e-7, .floor = 1e-30 }, &a.dy, n % 2, "affine");
            }
}

TEST(geglu_grad_all) {
    for (int t = 0; t < 4; t++)
        for (int64_t half = 0; half < 70; half += 1 + half / 4) {
            const int64_t rows = 1 + half % 5;
            if (!fast_takes(WEFT_KERNEL_geglu_grad, floats[t])) continue;
            weft_geglu_grad_args a = { .type = floats[t], .rows = rows, .half = half, .x = random_values(floats[t], rows * 2 * half, 0, 2),
                                       .dy = random_values(floats[t], rows * half, 0, 1) };
            check((struct kernel_case){ .id = WEFT_KERNEL_geglu_grad, .args = &a, .out = &a.dx, .type = floats[t],
                                        .count = rows * 2 * half, .each = true, .tolerance = 1e-6, .floor = 2e-6 }, &a.dy, false, "geglu");
        }
}

TEST(reduce_grad_all) {
    static const int64_t sizes[][3] = { { 1, 1, 1 }, { 3, 5, 1 }, { 2, 7, 3 }, { 1, 100, 17 }, { 4, 9, 33 }, { 1, 3000, 1 }, { 2, 2, 64 },
                                        { 0, 4, 4 }, { 3, 0, 5 }, { 3, 4, 0 }, { 40, 50, 30 } };
    for (weft_reduce_op op = 0; op < WEFT_REDUCE_COUNT; op++)
        for (int t = 0; t < 4; t++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) EACH_ALIGNMENT {
                const int64_t outer = sizes[i][0], mid = sizes[i][1], inner = sizes[i][2], n = outer * mid * inner;
                const bool picks = op == WEFT_REDUCE_MAX || op == WEFT_REDUCE_MIN;
                if (!fast_takes(WEFT_KERNEL_reduce_grad, floats[t]) || (picks && !mid)) continue;
                weft_reduce_grad_args a = { .type = floats[t], .op = op, .outer = outer, .mid = mid, .inner = inner,
                                            .dy = random_values(floats[t], outer * inner, 0, 1) };
                if (picks) {
                    weft_reduce_args f = { .type = floats[t], .op = op, .outer = outer, .mid = mid, .inner = inner };
                    f.x = a.x = random_values(floats[t], n, 0, 1);
                    for (int64_t k = 0; k < n; k++) ref_put(floats[t], (void *)a.x, k, round(2 * ref_get(floats[t], a.x, k)));   /* ties */
                    a.y = f.y = buffer_new(bytes_of(floats[t], outer * inner), 0, 0);
                    weft_kernels_reference()->reduce(NULL, &f);
                }
                check((struct kernel_case){ .id = WEFT_KERNEL_reduce_grad, .args = &a, .out = &a.dx, .type = floats[t], .count = n,
                                            .each = true, .tolerance = 1.3e-7, .floor = 1e-30 }, &a.dy, false, "reduce");
            }
}

/* ---- pictures, tables ----------------------------------------------------------------------------------- */

TEST(resample_grad_all) {
    static const int64_t sizes[][5] = { { 1, 4, 5, 7, 3 }, { 2, 3, 4, 6, 8 }, { 1, 7, 6, 3, 6 }, { 3, 5, 1, 5, 4 }, { 1, 16, 16, 32, 32 },
                                        { 1, 1, 1, 9, 7 }, { 2, 20, 33, 7, 50 }, { 0, 4, 4, 8, 8 }, { 1, 4, 4, 0, 8 }, { 1, 60, 3, 1, 2 } };
    static const int64_t channels[] = { 1, 3, 16, 19, 40 };
    for (weft_resample_mode mode = 0; mode < WEFT_RESAMPLE_COUNT; mode++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int t = 0; t < 4; t++) EACH_ALIGNMENT {
                const int64_t n = sizes[i][0], h = sizes[i][1], w = sizes[i][2], oh = sizes[i][3], ow = sizes[i][4], c = channels[(i + mode) % 5];
                char what[80];
                if (!fast_takes(WEFT_KERNEL_resample_grad, floats[t]) || (t && i > 2)) continue;
                weft_resample_grad_args a = { .type = floats[t], .mode = mode, .n = n, .h = h, .w = w, .c = c, .oh = oh, .ow = ow,
                                              .dy = random_values(floats[t], n * oh * ow * c, 0, 1) };
                /* Weights, sums and the line between both directions in f32; positions of up to 60 as in the forward's test. */
                struct kernel_case k = { .id = WEFT_KERNEL_resample_grad, .args = &a, .out = &a.dx, .type = floats[t],
                                         .count = n * h * w * c, .tolerance = floats[t] == WEFT_F64 ? 1e-12 : 4e-6, .terms = 0.1 };
                snprintf(what, sizeof what, "mode %d (%d,%d,%d,%d) to (%d,%d) %s", mode, (int)n, (int)h, (int)w, (int)c, (int)oh, (int)ow,
                         weft_dtype_name(floats[t]));
                case_check(&k, what);
                buffers_free();
            }
}

TEST(pad_grad_all) {
    static const int64_t pads[][4] = { { 1, 2, 2, 1 }, { 3, 0, 0, 4 }, { 0, 0, 0, 0 }, { 4, 4, 5, 5 }, { -1, 2, 1, -2 }, { -2, -3, -2, -1 } };
    for (weft_pad_mode mode = 0; mode < WEFT_PAD_COUNT; mode++)
        for (size_t i = 0; i < sizeof pads / sizeof *pads - 2 * (mode != WEFT_PAD_CONSTANT); i++)
            for (int64_t c = 0; c < 41; c = c * 3 + 1)
                for (int t = 0; t < 4; t++) EACH_ALIGNMENT {
                    const int64_t n = 1 + c % 3, h = 5, w = 6, *p = pads[i];
                    if (!fast_takes(WEFT_KERNEL_pad_grad, floats[t])) continue;
                    weft_pad_grad_args a = { .type = floats[t], .mode = mode, .n = n, .h = h, .w = w, .c = c, .top = p[0], .bottom = p[1],
                                             .left = p[2], .right = p[3],
                                             .dy = random_values(floats[t], n * (h + p[0] + p[1]) * (w + p[2] + p[3]) * c, 0, 1) };
                    check((struct kernel_case){ .id = WEFT_KERNEL_pad_grad, .args = &a, .out = &a.dx, .type = floats[t],
                                                .count = n * h * w * c, .tolerance = 3e-7 }, &a.dy, false, "pad");
                }
}

TEST(embedding_grad_all) {
    for (int t = 0; t < 4; t++)
        for (int64_t c = 0; c < 400; c = c * 3 + 1)
            for (int i = 0; i < 4; i++) EACH_ALIGNMENT {
                const int64_t n = i * (c == 1 ? 200 : 20), rows = 1 + c % 9;
                if (!fast_takes(WEFT_KERNEL_embedding_grad, floats[t])) continue;
                weft_embedding_grad_args a = { .type = floats[t], .id_type = i % 2 ? WEFT_I32 : WEFT_I64, .n = n, .rows = rows, .c = c,
                                               .accumulate = i / 2, .dy = random_values(floats[t], n * c, 0, 1) };
                int64_t *ids = buffer_new((size_t)n * 8, 0, 0);
                for (int64_t k = 0; k < n; k++) {
                    if (i % 2) ((int32_t *)ids)[k] = (int32_t)random_int(0, rows - 1);
                    else ids[k] = random_int(0, rows - 1);
                }
                a.ids = ids;
                struct kernel_case k = { .id = WEFT_KERNEL_embedding_grad, .args = &a, .out = &a.dtable, .type = floats[t],
                                         .count = rows * c, .tolerance = 5e-7, .terms = 1 };
                if (a.accumulate) k.before = random_values(floats[t], rows * c, 0, 1);
                case_check(&k, "embedding");
#ifndef WEFT_TEST_CUDA                  /* a device's ids are the runtime's to check */
                if (n && c) {
                    struct scratch s;
                    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_EXACT);
                    memset(ids, 0xff, 8);           /* an id of −1 */
                    a.dtable = buffer_new(bytes_of(floats[t], rows * c), 0, 0);
                    CHECK_EQ(tested()->embedding_grad(&env, &a), WEFT_K_NO_CASE);
                }
#endif
                buffers_free();
            }
}

KERNEL_TEST_MAIN
