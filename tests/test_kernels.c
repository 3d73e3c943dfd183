/* The kernel table itself: that it is full, its types, what it refuses. */
#include "tests/kernel_cases.h"

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
        RUN(timestep, .type = t, .dim = 2, .max_period = 100); RUN(philox, .type = t, .threads = 256);
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

KERNEL_TEST_MAIN
