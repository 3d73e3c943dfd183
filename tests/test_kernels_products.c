/* Packing, gemm and matmul against the naive ones. */
#include "tests/kernel_products.h"

static const weft_dtype floats[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };

/* unpack(pack(w)) is w, through the strides of an OIHW file, of its transpose, and of taps in reverse. */
TEST(packing_goes_both_ways) {
    static const int64_t sizes[][3] = { { 1, 1, 1 }, { 17, 1, 33 }, { 64, 1, 64 }, { 5, 9, 7 }, { 33, 9, 20 },
                                        { 3, 4, 5 }, { 16, 9, 3 }, { 0, 1, 5 }, { 5, 1, 0 }, { 40, 25, 2 } };
    const weft_kernels *k = tested();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int t = 0; t < 4; t++)
            for (int way = 0; way < 3; way++) {
                if (!fast_takes(WEFT_KERNEL_pack, floats[t])) continue;
                int64_t n = sizes[i][0], taps = sizes[i][1], in = sizes[i][2], count = n * taps * in;
                const void *plain = random_values(floats[t], count, 0, 1);
                weft_pack_args a = { .type = floats[t], .n = n, .taps = taps, .k = in, .stride_n = taps * in,
                                     .stride_tap = 1, .stride_k = taps, .src = plain };
                if (way == 1) { a.stride_n = taps; a.stride_k = n * taps; }
                if (way == 2 && count) {
                    a.stride_tap = -1;
                    a.src = (const char *)plain + (size_t)(taps - 1) * weft_dtype_size(floats[t]);
                }
                struct scratch s;
                weft_env env = kernel_env(&s, 1 + way, WEFT_PRECISION_FAST);
                size_t bytes = k->pack_bytes(&a);
                uintptr_t room = (uintptr_t)buffer_new(bytes + 192, 0, 0);
                unsigned char *packed = (unsigned char *)((room + 127) & ~(uintptr_t)63);
                memset(packed - 64, 0xa5, bytes + 128);
                a.dst = packed;
                REQUIRE(k->pack(&env, &a) == WEFT_K_OK);
                CHECK(guard_holds(packed, bytes));
                void *back = buffer_new(bytes_of(floats[t], count), GUARD, 0);
                const void *source = a.src;
                a.src = packed;
                a.dst = (char *)back + ((const char *)source - (const char *)plain);
                REQUIRE(k->unpack(&env, &a) == WEFT_K_OK);
                CHECK(guard_holds(back, bytes_of(floats[t], count)));
                if (memcmp(back, plain, bytes_of(floats[t], count)))
                    TEST_FAIL("(%" PRId64 ", %" PRId64 ", %" PRId64 ") %s, way %d: not the same after packing", n,
                              taps, in, weft_dtype_name(floats[t]), way);
                buffers_free();
            }
}

static void gemm(weft_dtype type, weft_dtype wtype, int64_t m, int64_t n, int64_t k, int has, weft_activation act) {
    weft_gemm_args a;
    char what[128];
    if (!fast_takes(WEFT_KERNEL_gemm, type)) return;
    random_state = (uint64_t)(m * 1000003 + n * 1009 + k);
    struct kernel_case c = gemm_case(&a, type, wtype, m, n, k, has, act);
    snprintf(what, sizeof what, "%" PRId64 "×%" PRId64 "×%" PRId64 " %s weights %s, has %d, act %d", m, n, k,
             weft_dtype_name(type), weft_dtype_name(wtype), has, act);
    const void *want = case_want(&c, what);
    for (int i = 0; i < 2 && want; i++) {
        c.hint = -i;
        c.precision = i ? WEFT_PRECISION_EXACT : WEFT_PRECISION_FAST;
        case_check_against(&c, want, what);
    }
    buffers_free();
}

TEST(gemm_sizes) {
    static const int64_t sizes[] = { 1, 2, 3, 5, 6, 7, 8, 13, 16, 17, 31, 48, 65 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++)
            for (int64_t k = 1; k < 40; k += 11)
                gemm(WEFT_F32, WEFT_F32, sizes[i], sizes[j], k, (int)(i + j) % 16, WEFT_ACT_NONE);
}

TEST(gemm_long_sums) {
    gemm(WEFT_F32, WEFT_F32, 5, 33, 5120, HAS_BIAS, WEFT_ACT_NONE);
    gemm(WEFT_F32, WEFT_F32, 77, 40, 768, HAS_BIAS | HAS_RESIDUAL, WEFT_ACT_NONE);
    gemm(WEFT_F32, WEFT_F16, 19, 50, 3000, 0, WEFT_ACT_NONE);
    gemm(WEFT_F32, WEFT_BF16, 257, 130, 321, HAS_BIAS, WEFT_ACT_NONE);
    gemm(WEFT_F32, WEFT_F32, 1, 1000, 320, HAS_BIAS, WEFT_ACT_SILU);
    gemm(WEFT_F32, WEFT_F32, 1030, 9, 40, 0, WEFT_ACT_NONE);
}

TEST(gemm_types_and_tails) {
    for (int t = 0; t < 4; t++)
        for (int w = 0; w < 4; w++)
            for (int has = 0; has < 16; has++) {
                if ((floats[t] == WEFT_F64) != (floats[w] == WEFT_F64)) continue;     /* f64 goes with its like alone */
                for (values_off = 0; values_off < 2; values_off++)
                    gemm(floats[t], floats[w], 7, 37, 29, has & ~HAS_ROW, (weft_activation)(has % WEFT_ACT_COUNT));
                values_off = 1;
            }
    for (weft_activation act = 0; act < WEFT_ACT_COUNT; act++)
        gemm(WEFT_F32, WEFT_F32, 13, 50, 20, HAS_BIAS | RESIDUAL_IS_Y, act);
    /* Aligned, and all of it a multiple of eight. */
    values_off = 0;
    for (int t = 0; t < 3; t++)
        for (weft_activation act = 0; act < WEFT_ACT_COUNT; act++)
            gemm(floats[t], floats[t], 16, 40, 24, act % 2 ? HAS_BIAS : HAS_RESIDUAL, act);
    values_off = 1;
}

TEST(gemm_of_nothing) {
    gemm(WEFT_F32, WEFT_F32, 0, 5, 5, HAS_BIAS, WEFT_ACT_NONE);
    gemm(WEFT_F32, WEFT_F32, 5, 0, 5, 0, WEFT_ACT_NONE);
    /* an empty sum: act(bias) + residual */
    gemm(WEFT_F32, WEFT_F32, 3, 5, 0, HAS_BIAS | HAS_RESIDUAL, WEFT_ACT_GELU);
    gemm(WEFT_F32, WEFT_F16, 3, 20, 0, 0, WEFT_ACT_NONE);
}

/* What one row holds does not reach another: NaN and infinities stay in theirs. */
TEST(gemm_keeps_rows_apart) {
    const int64_t m = 9, n = 21, k = 18;
    weft_gemm_args a;
    struct kernel_case c = gemm_case(&a, WEFT_F32, WEFT_F32, m, n, k, 0, WEFT_ACT_NONE);
    ((float *)a.x)[4 * a.ldx + 3] = NAN;
    ((float *)a.x)[6 * a.ldx] = INFINITY;
    case_check(&c, "a row of NaN, a row of infinities");
    buffers_free();
}

/* Activations behind a product far out: large sums of both signs, infinities, NaN. */
TEST(gemm_activations_far_out) {
    static const float far[] = { 0, -0.0f, 1e4f, -1e4f, 100, -100, 20, -20, -87, 3e38f, -3e38f, INFINITY, -INFINITY,
                                 NAN, 1e-40f };
    const int64_t n = sizeof far / sizeof *far;
    for (weft_activation act = 0; act < WEFT_ACT_COUNT; act++) {
        weft_gemm_args a;
        struct kernel_case c = gemm_case(&a, WEFT_F32, WEFT_F32, 3, n, 4, 0, act);
        a.bias = buffer_new(sizeof far, 0, 0);
        memcpy((void *)a.bias, far, sizeof far);
        memset((void *)a.x, 0, (size_t)(3 * a.ldx) * sizeof(float));
        c.each = true;
        c.tolerance = 2e-6;
        c.floor = act == WEFT_ACT_QUICK_GELU ? 2e-8 : 1.5e-36;         /* as in test_kernels_pointwise.c */
        case_check(&c, "far out");
        buffers_free();
    }
}

/* 16-bit weights of every kind: subnormal, the largest, infinite, NaN. */
TEST(gemm_special_weights) {
    static const uint16_t f16[] = { 0, 1, 0x3ff, 0x400, 0x8001, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x3c00,
                                    0x83ff };
    for (weft_dtype type = WEFT_F16; type <= WEFT_BF16; type++) {
        weft_gemm_args a;
        struct kernel_case c = gemm_case(&a, WEFT_F32, type, 2, 37, 1, 0, WEFT_ACT_NONE);
        uint16_t *w = buffer_new(37 * 2, 0, 2);
        for (int i = 0; i < 37; i++) w[i] = f16[i % 13];
        c.plain.src = w;
        ((float *)a.x)[0] = 1;
        ((float *)a.x)[a.ldx] = -0.5f;
        c.each = true;                          /* one product each: the weight itself, or its half */
        c.floor = 0;
        c.tolerance = 1e-7;
        case_check(&c, weft_dtype_name(type));
        buffers_free();
    }
}

/* layout: 1 a by columns, 2 b by columns, 4 one b for all, 8 a and b with a gap behind every element. */
static void matmul(weft_dtype type, int64_t batch, int64_t m, int64_t n, int64_t k, int layout, int accumulate,
                   double alpha) {
    char what[128];
    if (!fast_takes(WEFT_KERNEL_matmul, type)) return;
    random_state = (uint64_t)(batch + m * 1000003 + n * 1009 + k);
    const int64_t step = layout & 8 ? 2 : 1;
    weft_matmul_args a = { .type = type, .batch = batch, .m = m, .n = n, .k = k, .alpha = alpha,
                           .accumulate = accumulate, .a_batch = step * m * k, .a_row = step * (layout & 1 ? 1 : k),
                           .a_col = step * (layout & 1 ? m : 1), .b_batch = layout & 4 ? 0 : step * n * k,
                           .b_row = step * (layout & 2 ? 1 : n), .b_col = step * (layout & 2 ? k : 1),
                           .c_batch = m * (n + 2), .ldc = n + 2 };
    a.a = random_values(type, step * batch * m * k, 0, 1);
    a.b = random_values(type, step * batch * n * k, 0, 1);
    struct kernel_case c = { .id = WEFT_KERNEL_matmul, .args = &a, .out = &a.c, .type = type,
                             .count = batch * m * (n + 2), .tolerance = sum_tolerance(k),
                             .terms = fabs(alpha) * sqrt((double)k) };
    c.before = random_values(type, c.count, 0, 1);
    snprintf(what, sizeof what, "%" PRId64 "×(%" PRId64 "×%" PRId64 "×%" PRId64 ") %s, layout %d, accumulate %d",
             batch, m, n, k, weft_dtype_name(type), layout, accumulate);
    const void *want = case_want(&c, what);
    for (int p = 0; p < 2 && want; p++) {
        c.precision = p ? WEFT_PRECISION_EXACT : WEFT_PRECISION_FAST;
        case_check_against(&c, want, what);
    }
    buffers_free();
}

TEST(matmul_layouts) {
    for (int layout = 0; layout < 16; layout++)
        for (int t = 0; t < 4; t++) {
            values_off = t & 1;
            matmul(floats[t], 3, 7, 19, 11, layout, t & 1, 0.7);
            matmul(floats[t], 1, 1, 1, 1, layout, 1, 1);
            values_off = ~t & 1;
            matmul(floats[t], 2, 33, 18, 40, layout, 0, -1);
        }
    values_off = 1;
    for (int layout = 0; layout < 4; layout++) {
        matmul(WEFT_F32, 1, 64, 320, 700, layout, 1, 1);
        matmul(WEFT_F32, 1, 3, 5, 3001, layout, 0, 0.125);
        matmul(WEFT_F32, 1, 300, 17, 33, layout, 0, 1);
        matmul(WEFT_F32, 2, 4, 3, 0, layout, layout & 1, 1);
        matmul(WEFT_F32, 0, 4, 3, 2, layout, 0, 1);
        matmul(WEFT_F32, 2, 0, 3, 2, layout, 0, 1);
    }
}

KERNEL_TEST_MAIN
