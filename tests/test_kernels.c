/* The kernel table itself, packing, gemm and matmul. */
#include "tests/kernel_products.h"

static const weft_dtype floats[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };

TEST(table_is_full) {
    const weft_kernels *tables[] = { weft_kernels_reference(), weft_kernels_cpu() };
    for (int t = 0; t < 2; t++) {
        const weft_kernels *k = tables[t];
        CHECK_STR(k->name, t ? "cpu" : "reference");
        CHECK(k->describe() && *k->describe());
        CHECK(k->mem_alloc && k->mem_free && k->mem_copy && k->pack_bytes);
#define K(name) CHECK(k->name); CHECK(ref_takes(k->types[WEFT_KERNEL_##name], WEFT_F32));
        WEFT_KERNEL_LIST(K)
#undef K
#define K(name) CHECK(ref_takes(k->types[WEFT_KERNEL_##name], WEFT_F64));
        WEFT_KERNEL_LIST(K)
#undef K
        unsigned char *p = k->mem_alloc(NULL, 100);
        CHECK(p && (uintptr_t)p % 64 == 0);
        CHECK_EQ(k->mem_copy(NULL, p, "weft", 5), WEFT_K_OK);
        CHECK_STR((char *)p, "weft");
        k->mem_free(NULL, p, 100);
        CHECK(!k->mem_alloc(NULL, SIZE_MAX));
    }
#define K(name) CHECK_STR(weft_kernel_names[WEFT_KERNEL_##name], #name);
    WEFT_KERNEL_LIST(K)
#undef K
}

/* A kernel whose table lacks a type answers NO_TYPE for it, and one that has it does not. Sizes are 0: nothing else
 * is done. */
TEST(types_are_as_the_table_says) {
    const weft_kernels *k = weft_kernels_cpu();
    struct scratch s;
    weft_env env = kernel_env(&s, 2, WEFT_PRECISION_FAST);
    for (weft_dtype t = 0; t < WEFT_DTYPE_COUNT; t++) {
        int got[WEFT_KERNEL_COUNT];
#define RUN(id, ...) got[WEFT_KERNEL_##id] = k->id(&env, &(weft_##id##_args){ __VA_ARGS__ })
        RUN(pack, .type = t); RUN(unpack, .type = t);
        RUN(gemm, .type = t, .wtype = t == WEFT_F64 ? t : WEFT_F32); RUN(matmul, .type = t);
        RUN(conv2d, .type = t, .wtype = t == WEFT_F64 ? t : WEFT_F32, .kh = 1, .kw = 1, .stride = 1);
        RUN(attention, .type = t);
        RUN(group_norm, .type = t, .groups = 1); RUN(layer_norm, .type = t); RUN(softmax, .type = t);
        RUN(unary, .type = t); RUN(affine, .type = t); RUN(binary, .type = t, .rank = 1); RUN(axpby, .type = t);
        RUN(geglu, .type = t);
        RUN(copy, .src_type = t, .rank = 1); RUN(fill, .type = t); RUN(reduce, .type = t);
        RUN(resample, .type = t, .mode = WEFT_PIL_BICUBIC); RUN(pad, .type = t);
        RUN(embedding, .type = t, .table_type = WEFT_F32, .id_type = WEFT_I64);
        RUN(timestep, .type = t, .dim = 2, .max_period = 100);
        RUN(conv2d_grad_input, .type = t, .wtype = t == WEFT_F64 ? t : WEFT_F32, .kh = 1, .kw = 1, .stride = 1);
        RUN(conv2d_grad_weight, .type = t, .kh = 1, .kw = 1, .stride = 1); RUN(attention_grad, .type = t);
        RUN(group_norm_grad, .type = t, .groups = 1); RUN(layer_norm_grad, .type = t); RUN(softmax_grad, .type = t);
        RUN(unary_grad, .type = t); RUN(affine_grad, .type = t); RUN(geglu_grad, .type = t); RUN(reduce_grad, .type = t);
        RUN(resample_grad, .type = t); RUN(pad_grad, .type = t); RUN(embedding_grad, .type = t, .id_type = WEFT_I64);
        double sum;
        RUN(sum_squares, .type = t, .y = &sum); RUN(lerp, .type = t);
        RUN(adam, .type = t); RUN(sgd, .type = t); RUN(lion, .type = t);
        RUN(adafactor_moments, .type = t); RUN(adafactor_size, .type = t, .squares = &sum);
        RUN(adafactor_apply, .type = t, .squares = &sum);
#undef RUN
        for (int id = 0; id < WEFT_KERNEL_COUNT; id++) {
            int want = k->types[id] >> t & 1 ? WEFT_K_OK : WEFT_K_NO_TYPE;
            if (got[id] != want)
                TEST_FAIL("%s of nothing in %s: status %d, the table says %d", weft_kernel_names[id],
                          weft_dtype_name(t), got[id], want);
        }
    }
}

TEST(unknown_options_are_refused) {
    const weft_kernels *tables[] = { weft_kernels_reference(), weft_kernels_cpu() };
    static float x[64], y[64];
    struct scratch s;
    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_FAST);
    for (int t = 0; t < 2; t++) {
        const weft_kernels *k = tables[t];
#define REFUSES(id, ...) \
    CHECK_EQ(k->id(&env, &(weft_##id##_args){ .type = WEFT_F32, .x = x, .y = y, __VA_ARGS__ }), WEFT_K_NO_CASE)
        REFUSES(gemm, .wtype = WEFT_F32, .m = 1, .n = 1, .k = 1, .ldx = 1, .ldy = 1, .w = x, .act = WEFT_ACT_COUNT);
        REFUSES(conv2d, .wtype = WEFT_F32, .n = 1, .h = 1, .w = 1, .c = 1, .o = 1, .oh = 1, .ow = 1, .kh = 1, .kw = 1,
                .stride = 0, .weight = x);
        REFUSES(conv2d, .wtype = WEFT_F32, .n = 1, .h = 1, .w = 1, .c = 1, .o = 1, .oh = 1, .ow = 1, .kh = 0, .kw = 1,
                .stride = 1, .weight = x);
        REFUSES(group_norm, .n = 1, .pixels = 1, .c = 4, .groups = 3);
        REFUSES(group_norm, .n = 1, .pixels = 1, .c = 4, .groups = 0);
        REFUSES(group_norm, .n = 1, .pixels = 1, .c = 4, .groups = 2, .act = (weft_activation)99);
        REFUSES(unary, .n = 1, .op = WEFT_UNARY_COUNT);
        REFUSES(reduce, .outer = 1, .mid = 1, .inner = 1, .op = WEFT_REDUCE_COUNT);
        REFUSES(reduce, .outer = 1, .mid = 0, .inner = 1, .op = WEFT_REDUCE_MAX);
        REFUSES(reduce, .outer = 1, .mid = 0, .inner = 1, .op = WEFT_REDUCE_MIN);
        REFUSES(resample, .n = 1, .h = 1, .w = 1, .c = 1, .oh = 1, .ow = 1, .mode = WEFT_RESAMPLE_COUNT);
        REFUSES(pad, .n = 1, .h = 2, .w = 2, .c = 1, .mode = WEFT_PAD_COUNT);
        REFUSES(pad, .n = 1, .h = 2, .w = 2, .c = 1, .top = -3, .mode = WEFT_PAD_CONSTANT);
        REFUSES(pad, .n = 1, .h = 2, .w = 2, .c = 1, .top = 2, .mode = WEFT_PAD_REFLECT);
        REFUSES(pad, .n = 1, .h = 2, .w = 2, .c = 1, .left = -1, .mode = WEFT_PAD_REPLICATE);
#undef REFUSES
        CHECK_EQ(k->binary(&env, &(weft_binary_args){ .type = WEFT_F32, .op = WEFT_BINARY_COUNT, .rank = 1,
                                                      .shape = { 1 }, .a = x, .b = x, .y = y }), WEFT_K_NO_CASE);
        CHECK_EQ(k->binary(&env, &(weft_binary_args){ .type = WEFT_F32, .rank = WEFT_MAX_RANK + 1, .a = x, .b = x,
                                                      .y = y }), WEFT_K_NO_CASE);
        CHECK_EQ(k->copy(&env, &(weft_copy_args){ .rank = -1, .src = x, .dst = y }), WEFT_K_NO_CASE);
        CHECK_EQ(k->resample(&env, &(weft_resample_args){ .type = WEFT_U8, .mode = WEFT_BILINEAR, .n = 1, .h = 1,
                                                          .w = 1, .c = 1, .oh = 1, .ow = 1, .x = x, .y = y }),
                 WEFT_K_NO_TYPE);
    }
    CHECK_EQ(s.live, 0);
}

/* unpack(pack(w)) is w, through the strides of an OIHW file, of its transpose, and of taps in reverse. */
TEST(packing_goes_both_ways) {
    static const int64_t sizes[][3] = { { 1, 1, 1 }, { 17, 1, 33 }, { 64, 1, 64 }, { 5, 9, 7 }, { 33, 9, 20 },
                                        { 3, 4, 5 }, { 16, 9, 3 }, { 0, 1, 5 }, { 5, 1, 0 }, { 40, 25, 2 } };
    const weft_kernels *k = weft_kernels_cpu();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int t = 0; t < 4; t++)
            for (int way = 0; way < 3; way++) {
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
                gemm(floats[t], floats[w], 7, 37, 29, has & ~HAS_ROW, (weft_activation)(has % WEFT_ACT_COUNT));
            }
    for (weft_activation act = 0; act < WEFT_ACT_COUNT; act++)
        gemm(WEFT_F32, WEFT_F32, 13, 50, 20, HAS_BIAS | RESIDUAL_IS_Y, act);
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
        a.bias = far;
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

static void matmul(weft_dtype type, int64_t batch, int64_t m, int64_t n, int64_t k, int layout, int accumulate,
                   double alpha) {
    char what[128];
    if (!fast_takes(WEFT_KERNEL_matmul, type)) return;
    random_state = (uint64_t)(batch + m * 1000003 + n * 1009 + k);
    weft_matmul_args a = { .type = type, .batch = batch, .m = m, .n = n, .k = k, .alpha = alpha,
                           .accumulate = accumulate, .a_batch = m * k, .a_row = layout & 1 ? 1 : k,
                           .a_col = layout & 1 ? m : 1, .b_batch = layout & 4 ? 0 : n * k,
                           .b_row = layout & 2 ? 1 : n, .b_col = layout & 2 ? k : 1, .c_batch = m * (n + 2),
                           .ldc = n + 2 };
    a.a = random_values(type, batch * m * k, 0, 1);
    a.b = random_values(type, batch * n * k, 0, 1);
    struct kernel_case c = { .id = WEFT_KERNEL_matmul, .args = &a, .out = &a.c, .type = type,
                             .count = batch * m * (n + 2), .tolerance = sum_tolerance(k),
                             .terms = fabs(alpha) * sqrt((double)k) };
    c.before = random_values(type, c.count, 0, 1);
    snprintf(what, sizeof what, "%" PRId64 "×(%" PRId64 "×%" PRId64 "×%" PRId64 ") %s, layout %d, accumulate %d",
             batch, m, n, k, weft_dtype_name(type), layout, accumulate);
    case_check(&c, what);
    buffers_free();
}

TEST(matmul_layouts) {
    for (int layout = 0; layout < 8; layout++)
        for (int t = 0; t < 4; t++) {
            matmul(floats[t], 3, 7, 19, 11, layout, t & 1, 0.7);
            matmul(floats[t], 1, 1, 1, 1, layout, 1, 1);
            matmul(floats[t], 2, 33, 18, 40, layout, 0, -1);
        }
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
