/* Tensors: making, describing, reading and writing; views; borrowed memory; parameters and their packed form. */
#include "tests/tensors.h"

TEST(types_and_shapes_are_checked) {
    weft_ctx *c = open_device("reference");
    CHECK(!weft_tensor_new(c, (weft_dtype)9, WEFT_SHAPE(1)));
    CHECK_ERROR(c, WEFT_E_TYPE, "9 is no element type");
    CHECK(!weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(3, -1)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "(3, -1) has a negative size or is too large");
    CHECK(!weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1, 1, 1, 1, 1, 1, 1)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "rank 7");
    CHECK(!weft_tensor_new(c, WEFT_F32, -1, NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "rank -1");
    CHECK(!weft_tensor_new(c, WEFT_U8, WEFT_SHAPE(INT64_MAX, INT64_MAX)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "too large");
    CHECK(!weft_tensor_new(c, WEFT_U8, WEFT_SHAPE((int64_t)1 << 32, (int64_t)1 << 32)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "too large");
    const int64_t large = (int64_t)1 << 40;
    CHECK(!weft_tensor_new(c, WEFT_U8, WEFT_SHAPE(0, large, large)));       /* its strides overflow */
    CHECK_ERROR(c, WEFT_E_SHAPE, "too large");
    CLOSE(c);
}

TEST(describes) {
    weft_ctx *c = open_device("reference");
    char text[256], tiny[8];
    CHECK_STR(weft_describe(weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(2, 64, 64, 320)), text, sizeof text),
              "(2, 64, 64, 320) f32");
    CHECK_STR(weft_describe(weft_tensor_new(c, WEFT_U8, WEFT_SHAPE(5)), text, sizeof text), "(5) u8");
    CHECK_STR(weft_describe(weft_scalar(c, WEFT_BF16, 1), text, sizeof text), "() bf16");
    CHECK_STR(weft_describe(NULL, text, sizeof text), "(none)");
    CHECK_STR(weft_describe(weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(2, 64, 64, 320)), tiny, sizeof tiny), "(2, 64,");
    CLOSE(c);
}

TEST(accessors) {
    weft_ctx *c = open_device("reference");
    weft_tensor *t = weft_tensor_new(c, WEFT_I32, WEFT_SHAPE(2, 3, 4));
    CHECK_EQ(weft_type(t), WEFT_I32);
    CHECK_EQ(weft_rank(t), 3);
    CHECK_EQ(weft_dim(t, 1), 3);
    CHECK_EQ(weft_dim(t, -1), 4);
    CHECK_EQ(weft_dim(t, 3), 0);
    CHECK_EQ(weft_dim(t, -4), 0);
    CHECK_EQ(weft_dim(NULL, 0), 0);
    CHECK_EQ(weft_count(t), 24);
    CHECK_EQ(weft_count(NULL), 0);
    CHECK_EQ(weft_shape(t)[2], 4);
    CHECK_EQ(weft_strides(t)[0], 12);
    CHECK(weft_is_dense(t) && !weft_is_dense(NULL));
    CHECK(!weft_data(NULL));
    CLOSE(c);
}

TEST(from_copies_and_reads_back) {
    weft_ctx *c = open_device("reference");
    int64_t data[6] = { 1, -2, INT64_MAX, 4, 5, INT64_MIN }, back[6] = { 0 };
    weft_tensor *t = weft_tensor_from(c, WEFT_I64, WEFT_SHAPE(2, 3), data);
    data[0] = 99;
    CHECK_EQ(weft_read(c, t, back, sizeof back), WEFT_OK);
    CHECK(back[0] == 1 && back[2] == INT64_MAX && back[5] == INT64_MIN);
    CHECK_EQ(weft_read(c, t, back, 40), WEFT_E_ARGUMENT);
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "reading 40 bytes, and (2, 3) i64 has 48");
    CHECK_EQ(weft_write(c, t, data, sizeof data), WEFT_OK);
    CHECK_EQ(((int64_t *)weft_data(t))[0], 99);
    CHECK_EQ(weft_write(c, t, data, 1), WEFT_E_ARGUMENT);
    weft_clear(c);
    CHECK_EQ(weft_read(c, NULL, back, 0), WEFT_E_ARGUMENT);
    weft_clear(c);
    CLOSE(c);
}

TEST(reads_and_writes_through_strides) {
    weft_ctx *c = open_device("reference");
    weft_tensor *t = counting(c, WEFT_F32, WEFT_SHAPE(2, 3));
    weft_tensor *turned = weft_permute(c, t, (const int[]){ 1, 0 });
    CHECK(!weft_data(turned));
    float back[6];
    REQUIRE(weft_read(c, turned, back, sizeof back) == WEFT_OK);
    CHECK(back[0] == 0 && back[1] == 3 && back[2] == 1 && back[5] == 5);
    const float new[6] = { 10, 11, 12, 13, 14, 15 };
    REQUIRE(weft_write(c, turned, new, sizeof new) == WEFT_OK);
    CHECK_TENSOR(c, t, WEFT_SHAPE(2, 3), 0, 10, 12, 14, 11, 13, 15);
    weft_tensor *column = weft_slice(c, t, 1, 1, 1);
    REQUIRE(weft_write(c, column, (const float[]){ -1, -2 }, 8) == WEFT_OK);
    CHECK_TENSOR(c, t, WEFT_SHAPE(2, 3), 0, 10, -1, 14, 11, -2, 15);
    CLOSE(c);
}

TEST(item) {
    weft_ctx *c = open_device("reference");
    CHECK_EQ(weft_item(c, weft_scalar(c, WEFT_F64, 2.5)) * 2, 5);
    CHECK_EQ(weft_item(c, weft_full(c, WEFT_F16, WEFT_SHAPE(1, 1), 7)), 7);
    CHECK_EQ(weft_item(c, weft_tensor_from(c, WEFT_I64, WEFT_SHAPE(1), &(int64_t){ -3 })), -3);
    CHECK_EQ(weft_item(c, weft_slice(c, counting(c, WEFT_F32, WEFT_SHAPE(5)), 0, 4, 1)), 4);
    CHECK_EQ(weft_item(c, weft_full(c, WEFT_F32, WEFT_SHAPE(2), 1)), 0);
    CHECK_ERROR(c, WEFT_E_SHAPE, "(2) f32: it is not one element");
    CHECK_EQ(weft_item(c, NULL), 0);
    CHECK_ERROR(c, WEFT_E_SHAPE, "(none)");
    CLOSE(c);
}

TEST(full_of_every_type) {
    static const weft_dtype type[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64, WEFT_I64, WEFT_I32, WEFT_U8 };
    for (int d = 0; d < 2; d++) {
        weft_ctx *c = open_device(d ? "cpu" : "reference");
        for (int i = 0; i < 7; i++)
            CHECK_TENSOR(c, weft_full(c, type[i], WEFT_SHAPE(2, 2), 3), WEFT_SHAPE(2, 2), 0, 3, 3, 3, 3);
        CLOSE(c);
    }
}

static int released;
static void release(void *user) { *(int *)user += 1; }

TEST(borrowed_memory_is_released_once_nothing_refers_to_it) {
    weft_ctx *c = open_device("reference");
    static float data[] = { 1, 2, 3, 4 };
    weft_scope s = weft_scope_named(c, "s");
    weft_tensor *t = weft_tensor_borrow(c, WEFT_F32, WEFT_SHAPE(2, 2), data, release, &released);
    CHECK(weft_data(t) == data);
    CHECK_EQ(weft_memory_live(c), 0);
    weft_tensor *row = weft_ref(weft_slice(c, t, 0, 1, 1));
    CHECK_EQ(weft_write(c, t, data, sizeof data), WEFT_E_ARGUMENT);
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "writing to (2, 2) f32, which is borrowed");
    weft_scope_end(c, s, NULL);
    CHECK_EQ(released, 0);
    CHECK_EQ(((float *)weft_data(row))[1], 4);
    weft_unref(row);
    CHECK_EQ(released, 1);
    CLOSE(c);
}

TEST(borrowing_releases_where_it_fails) {
    weft_ctx *c = open_device("reference");
    static float data[4];
    CHECK(!weft_tensor_borrow(c, WEFT_F32, WEFT_SHAPE(-1), data, release, &released));
    CHECK_EQ(released, 1);
    CHECK(!weft_tensor_borrow(c, WEFT_F32, WEFT_SHAPE(4), data, release, &released));       /* still that error */
    CHECK_EQ(released, 2);
    weft_clear(c);
    CLOSE(c);
}

TEST(borrowed_memory_at_an_odd_address_is_copied) {
    weft_ctx *c = open_device("reference");
    _Alignas(8) static char data[1 + 2 * sizeof(float)];
    const float values[2] = { 1.5f, -2 };
    memcpy(data + 1, values, sizeof values);
    weft_tensor *t = weft_tensor_borrow(c, WEFT_F32, WEFT_SHAPE(2), data + 1, release, &released);
    CHECK_EQ(released, 1);
    CHECK_TENSOR(c, t, WEFT_SHAPE(2), 0, 1.5, -2);
    CLOSE(c);
}

TEST(borrowed_memory_stays_readable_in_a_shape_only_run) {
    weft_ctx *c = open_device("reference");
    static float data[] = { 1, 2 };
    weft_shape_only(c, true);
    weft_tensor *t = weft_tensor_borrow(c, WEFT_F32, WEFT_SHAPE(2), data, NULL, NULL);
    weft_shape_only(c, false);
    CHECK_TENSOR(c, t, WEFT_SHAPE(2), 0, 1, 2);
    CLOSE(c);
}

TEST(values_are_read_and_written_in_a_shape_only_run) {
    weft_ctx *c = open_device("reference");
    weft_tensor *t = counting(c, WEFT_F32, WEFT_SHAPE(2, 2));
    weft_tensor *turned = weft_permute(c, t, (const int[]){ 1, 0 });
    float back[4] = { 0 };
    weft_shape_only(c, true);
    CHECK_EQ(weft_item(c, weft_slice(c, weft_slice(c, t, 0, 1, 1), 1, 1, 1)), 3);
    CHECK_EQ(weft_read(c, turned, back, sizeof back), WEFT_OK);
    CHECK(back[1] == 2 && back[2] == 1);
    CHECK_EQ(weft_write(c, turned, (const float[]){ 5, 6, 7, 8 }, 16), WEFT_OK);
    CHECK(weft_is_shape_only(c));
    weft_shape_only(c, false);
    CHECK_TENSOR(c, t, WEFT_SHAPE(2, 2), 0, 5, 7, 6, 8);
    _Alignas(8) static char data[1 + sizeof(float)];
    weft_shape_only(c, true);
    weft_tensor *odd = weft_tensor_borrow(c, WEFT_F32, WEFT_SHAPE(1), data + 1, NULL, NULL);
    weft_shape_only(c, false);
    CHECK_TENSOR(c, odd, WEFT_SHAPE(1), 0, 0);
    CLOSE(c);
}

TEST(reshape) {
    weft_ctx *c = open_device("reference");
    weft_tensor *t = counting(c, WEFT_F32, WEFT_SHAPE(2, 3, 4));
    weft_tensor *v = weft_reshape(c, t, WEFT_SHAPE(6, -1));
    CHECK(weft_data(v) == weft_data(t));
    CHECK_EQ(weft_dim(v, 1), 4);
    CHECK_EQ(weft_rank(weft_reshape(c, weft_scalar(c, WEFT_F32, 1), WEFT_SHAPE(1, 1, 1, 1, 1, 1))), 6);
    CHECK_EQ(weft_rank(weft_reshape(c, weft_full(c, WEFT_F32, WEFT_SHAPE(1, 1), 1), 0, NULL)), 0);
    weft_tensor *turned = weft_permute(c, counting(c, WEFT_F32, WEFT_SHAPE(2, 2)), (const int[]){ 1, 0 });
    CHECK_TENSOR(c, weft_reshape(c, turned, WEFT_SHAPE(4)), WEFT_SHAPE(4), 0, 0, 2, 1, 3);
    CHECK_EQ(weft_count(weft_reshape(c, weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(0, 3)), WEFT_SHAPE(-1, 3))), 0);
    CHECK(!weft_reshape(c, t, WEFT_SHAPE(5, -1)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "reshape: (2, 3, 4) f32 does not go into (5, -1)");
    CHECK(!weft_reshape(c, t, WEFT_SHAPE(-1, -1)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "(-1, -1)");
    CHECK(!weft_reshape(c, t, WEFT_SHAPE(25)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "(25)");
    CHECK(!weft_reshape(c, t, WEFT_SHAPE(-2, -12)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "(-2, -12)");
    CHECK(!weft_reshape(c, weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(0)), WEFT_SHAPE(-1, 0)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "(-1, 0)");
    CHECK(!weft_reshape(c, t, WEFT_SHAPE(1, 1, 1, 1, 1, 1, 24)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "does not go");
    CHECK(!weft_reshape(c, NULL, WEFT_SHAPE(1)));
    CHECK(weft_ok(c));
    CLOSE(c);
}

TEST(slice) {
    weft_ctx *c = open_device("reference");
    weft_tensor *t = counting(c, WEFT_F32, WEFT_SHAPE(2, 3));
    CHECK_TENSOR(c, weft_slice(c, t, -1, 1, 2), WEFT_SHAPE(2, 2), 0, 1, 2, 4, 5);
    weft_tensor *row = weft_slice(c, t, 0, 1, 1);
    CHECK(weft_is_dense(row) && weft_data(row) == (float *)weft_data(t) + 3);
    CHECK_TENSOR(c, weft_slice(c, weft_slice(c, t, 1, 1, 2), 1, 1, 1), WEFT_SHAPE(2, 1), 0, 2, 5);
    CHECK_EQ(weft_count(weft_slice(c, t, 1, 3, 0)), 0);
    CHECK(!weft_slice(c, t, 1, 2, 2));
    CHECK_ERROR(c, WEFT_E_SHAPE, "slice: 2 from 2 on is outside dimension 1 of (2, 3) f32");
    CHECK(!weft_slice(c, t, 1, -1, 1));
    CHECK_ERROR(c, WEFT_E_SHAPE, "1 from -1 on");
    CHECK(!weft_slice(c, t, 1, 1, INT64_MAX));
    CHECK_ERROR(c, WEFT_E_SHAPE, "outside");
    CHECK(!weft_slice(c, t, 2, 0, 1));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "(2, 3) f32 has no dimension 2");
    CHECK(!weft_slice(c, t, -3, 0, 1));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "no dimension -3");
    CLOSE(c);
}

TEST(permute_and_broadcast) {
    weft_ctx *c = open_device("reference");
    weft_tensor *t = counting(c, WEFT_F32, WEFT_SHAPE(1, 2, 3));
    CHECK_TENSOR(c, weft_permute(c, t, (const int[]){ 2, 0, 1 }), WEFT_SHAPE(3, 1, 2), 0, 0, 3, 1, 4, 2, 5);
    CHECK(!weft_permute(c, t, (const int[]){ 0, 1, 1 }));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "permute: dimension 1 at place 2");
    CHECK(!weft_permute(c, t, (const int[]){ 0, 3, 1 }));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "dimension 3 at place 1");
    weft_tensor *pair = counting(c, WEFT_F32, WEFT_SHAPE(2, 1));
    weft_tensor *wide = weft_broadcast(c, pair, WEFT_SHAPE(2, 2, 3));
    CHECK_TENSOR(c, wide, WEFT_SHAPE(2, 2, 3), 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1);
    CHECK(!weft_is_dense(wide));
    CHECK_TENSOR(c, weft_contiguous(c, wide), WEFT_SHAPE(2, 2, 3), 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1);
    CHECK_TENSOR(c, weft_broadcast(c, weft_scalar(c, WEFT_F32, 4), WEFT_SHAPE(2)), WEFT_SHAPE(2), 0, 4, 4);
    CHECK_EQ(weft_count(weft_broadcast(c, pair, WEFT_SHAPE(2, 0))), 0);
    CHECK(!weft_broadcast(c, pair, WEFT_SHAPE(3, 1)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "broadcast: (2, 1) f32 does not spread to (3, 1)");
    CHECK(!weft_broadcast(c, pair, WEFT_SHAPE(2)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "does not spread");
    CHECK(!weft_broadcast(c, pair, WEFT_SHAPE((int64_t)1 << 40, (int64_t)1 << 40, 2, 1)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "does not spread");
    CLOSE(c);
}

TEST(layouts) {
    weft_ctx *c = open_device("reference");
    weft_tensor *nchw = counting(c, WEFT_F32, WEFT_SHAPE(1, 2, 1, 3));
    weft_tensor *nhwc = weft_to_nhwc(c, nchw);
    CHECK(weft_is_dense(nhwc));
    CHECK_TENSOR(c, nhwc, WEFT_SHAPE(1, 1, 3, 2), 0, 0, 3, 1, 4, 2, 5);
    CHECK_TENSOR(c, weft_to_nchw(c, nhwc), WEFT_SHAPE(1, 2, 1, 3), 0, 0, 1, 2, 3, 4, 5);
    CHECK(!weft_to_nhwc(c, weft_reshape(c, nchw, WEFT_SHAPE(6))));
    CHECK_ERROR(c, WEFT_E_SHAPE, "(6) f32 is not (N, C, H, W)");
    CLOSE(c);
}

TEST(contiguous_and_cast_give_their_argument_where_nothing_is_to_do) {
    weft_ctx *c = open_device("reference");
    weft_tensor *t = counting(c, WEFT_F32, WEFT_SHAPE(2, 3));
    CHECK(weft_contiguous(c, t) == t);
    CHECK(weft_cast(c, t, WEFT_F32) == t);
    CHECK(!weft_cast(c, t, (weft_dtype)17));
    CHECK_EQ(weft_error(c), WEFT_E_TYPE);
    weft_clear(c);
    CLOSE(c);
}

/* ---- parameters -------------------------------------------------------------------------------------------------- */

static int packings;
static void packed(void *user) {
    CHECK(user == &packings);
    packings++;
}

TEST(a_parameter_is_packed_once) {
    weft_ctx *c = open_device("reference");
    weft_tensor *w = noisy(c, WEFT_F32, 1, WEFT_SHAPE(5, 3)), *x = noisy(c, WEFT_F32, 2, WEFT_SHAPE(2, 3));
    weft_tensor *want = weft_linear(c, x, w, NULL, WEFT_ACT_NONE, NULL);
    weft_tensor_mark_parameter(w, false, packed, &packings);
    double *expected = values_of(c, want);
    for (int i = 0; i < 3; i++)
        check_tensor(__LINE__, c, weft_linear(c, x, w, NULL, WEFT_ACT_NONE, NULL), WEFT_SHAPE(2, 5), 0, expected);
    CHECK_EQ(packings, 1);
    CHECK(weft_data(w));
    weft_tensor *column = weft_slice(c, w, 1, 0, 1);            /* writing any view of it makes the packed form stale */
    CHECK_EQ(weft_write(c, column, (const float[]){ 0, 0, 0, 0, 0 }, 20), WEFT_OK);
    weft_tensor *y = weft_linear(c, x, w, NULL, WEFT_ACT_NONE, NULL);
    CHECK_EQ(packings, 2);
    weft_tensor *again = weft_linear(c, x, weft_contiguous(c, w), NULL, WEFT_ACT_NONE, NULL);
    weft_tensor *apart = weft_unary(c, WEFT_UNARY_ABS, weft_subtract(c, y, again));
    CHECK_EQ(weft_item(c, weft_reduce_all(c, WEFT_REDUCE_MAX, apart)), 0);
    CHECK(((float *)weft_data(y))[0] != expected[0]);
    free(expected);
    CLOSE(c);
}

static void frozen_on(const char *device, weft_dtype type) {
    weft_ctx *c = open_device(device);
    weft_scope s = weft_scope_named(c, "s");
    weft_tensor *w = weft_ref(noisy(c, type, 1, WEFT_SHAPE(24, 20, 3, 3)));
    double *plain = values_of(c, w);
    weft_scope_end(c, s, NULL);
    s = weft_scope_named(c, "s");
    weft_tensor *x = noisy(c, WEFT_F32, 2, WEFT_SHAPE(1, 5, 5, 20));
    double *want = values_of(c, weft_conv2d(c, x, w, NULL, WEFT_CONV_SAME(3), NULL, NULL));
    weft_tensor_mark_parameter(w, true, NULL, NULL);
    size_t before = weft_memory_live(c);
    for (int i = 0; i < 2; i++) {
        weft_scope inner = weft_scope_named(c, "s");
        weft_tensor *y = weft_conv2d(c, x, w, NULL, WEFT_CONV_SAME(3), NULL, NULL);
        check_tensor(__LINE__, c, y, WEFT_SHAPE(1, 5, 5, 24), 0, want);
        weft_scope_end(c, inner, NULL);
    }
    CHECK(!weft_data(w));
    weft_pack_args how = { .type = type, .n = 24, .taps = 9, .k = 20 };
    size_t form = weft_backend(c)->pack_bytes(&how);
    CHECK(weft_memory_live(c) <= before - 24 * 20 * 9 * weft_dtype_size(type) + form + form / 32 + 64);
    check_tensor(__LINE__, c, w, WEFT_SHAPE(24, 20, 3, 3), 0, plain);                                   /* unpacked */
    weft_tensor *part = weft_slice(c, w, 0, 23, 1);
    check_tensor(__LINE__, c, part, WEFT_SHAPE(1, 20, 3, 3), 0, plain + 23 * 180);
    CHECK_EQ(weft_write(c, w, plain, 24 * 20 * 9 * weft_dtype_size(type)), WEFT_E_ARGUMENT);
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "has no data");
    weft_scope_end(c, s, NULL);
    weft_unref(w);
    free(plain);
    free(want);
    CLOSE(c);
}

TEST(a_frozen_parameter_gives_its_plain_form_back) {
    frozen_on("reference", WEFT_F32);
    frozen_on("reference", WEFT_F16);
    frozen_on("cpu", WEFT_F32);
    frozen_on("cpu", WEFT_F16);
    frozen_on("cpu", WEFT_BF16);
}

TEST(a_frozen_view_is_packed_from_a_dense_copy) {
    weft_ctx *c = open_device("reference");
    weft_tensor *w = weft_permute(c, noisy(c, WEFT_F32, 1, WEFT_SHAPE(3, 5)), (const int[]){ 1, 0 });
    weft_tensor *x = noisy(c, WEFT_F32, 2, WEFT_SHAPE(2, 3));
    double *plain = values_of(c, w), *want = values_of(c, weft_linear(c, x, w, NULL, WEFT_ACT_NONE, NULL));
    weft_tensor_mark_parameter(w, true, NULL, NULL);
    for (int i = 0; i < 2; i++)
        check_tensor(__LINE__, c, weft_linear(c, x, w, NULL, WEFT_ACT_NONE, NULL), WEFT_SHAPE(2, 5), 0, want);
    check_tensor(__LINE__, c, w, WEFT_SHAPE(5, 3), 0, plain);
    free(plain);
    free(want);
    CLOSE(c);
}

TEST(a_borrowed_parameter_keeps_its_mapping) {
    weft_ctx *c = open_device("reference");
    static float data[6] = { 1, 2, 3, 4, 5, 6 };
    weft_tensor *w = weft_tensor_borrow(c, WEFT_F32, WEFT_SHAPE(2, 3), data, NULL, NULL);
    weft_tensor_mark_parameter(w, true, packed, &packings);
    weft_tensor *x = weft_full(c, WEFT_F32, WEFT_SHAPE(1, 3), 1);
    for (int i = 0; i < 2; i++)
        CHECK_TENSOR(c, weft_linear(c, x, w, NULL, WEFT_ACT_NONE, NULL), WEFT_SHAPE(1, 2), 0, 6, 15);
    CHECK_EQ(packings, 1);
    CHECK(weft_data(w) == data);
    CLOSE(c);
}

TEST(operations_list) {
    int count;
    const weft_op *const *ops = weft_ops(&count);
    CHECK(count > 40);
    for (int i = 0; i < count; i++) {
        CHECK(ops[i]->name && (unsigned)ops[i]->kernel < WEFT_KERNEL_COUNT);
        for (int j = 0; j < i; j++) CHECK(strcmp(ops[i]->name, ops[j]->name) != 0);
    }
}

TEST_MAIN
