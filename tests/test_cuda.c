/* --device cuda where something is missing: each case is a message that says what and what to do, and CPU work goes on.
 * On the emulated device (tests/cuda_host): a context, copies both ways, operations, and memory that ends.
 */
#include "tests/model_folders.h"
#include "tests/run_program.h"
#include "tests/tensors.h"

#define GRAPH \
    "{\"1\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": 32, \"height\": 16, \"batch_size\": 1, " \
    "\"color\": 255}},\n" \
    " \"2\": {\"class_type\": \"SaveImage\", \"inputs\": {\"images\": [\"1\", 0], \"filename_prefix\": \"x\"}}}\n"

/* ---- the library ------------------------------------------------------------------------------------------------- */

TEST(library_missing_or_wrong) {
    const char *top = new_folder();
    put_text(top, "g.json", GRAPH);
    put_text(top, "text.so", "no library");
    setenv("WEFT_CUDA_LIBRARY", "no/such.so", 1);
    REFUSES(WEFT(top, "run", "g.json", "--device", "cuda"),
            "weft run: cuda: WEFT_CUDA_LIBRARY: there is no file no/such.so");
    setenv("WEFT_CUDA_LIBRARY", in(top, "text.so"), 1);
    REFUSES(WEFT(top, "run", "g.json", "--device", "cuda:0"), "weft run: cuda:0: the CUDA back end cannot be loaded",
            "text.so", "cuBLAS");
    setenv("WEFT_CUDA_LIBRARY", "/proc/self/exe", 1);
    REFUSES(WEFT(top, "run", "g.json", "--device", "cuda"), "weft run: cuda: ");
    setenv("WEFT_DEVICE", "cuda", 1);
    REFUSES(WEFT(top, "run", "g.json"), "weft run: cuda: ");
    struct run *r = WEFT(top, "run", "g.json", "--device", "cpu");
    CHECK_EQ(r->status, 0);
    CHECK_STR(r->err, "");
    r = WEFT(top, "kernels");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->out, "cuda: the CUDA back end cannot be loaded");
    drop_folder(top);
}

TEST(devices_by_name) {
    static const char *const wrong[] = { "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cudax", "gpu", "cuda:99999" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        weft_ctx *c = open_device(wrong[i]);
        CHECK_STR(weft_status_name(weft_error(c)), "device");
        CHECK_HAS(weft_message(c), wrong[i]);
        CHECK_HAS(weft_message(c), "there are \"cpu\", \"reference\" and \"cuda\"");
        weft_ctx_free(c);
    }
}

/* ---- the emulated device ----------------------------------------------------------------------------------------- */

#ifdef WEFT_CUDA_EMULATED

TEST(driver_and_device_missing) {
    static const char *const cases[][4] = {
        { "no driver", "cuda", "there is no NVIDIA driver", "--device cpu" },
        { "old driver", "cuda", "the NVIDIA driver is too old: it offers CUDA 12.4", "needs 13.0" },
        { "no device", "cuda", "sees no GPU", "--device cpu" },
        { "old device", "cuda", "compute capability is 6.1", "7.5" },
        { "", "cuda:1", "there is no device cuda:1; there is cuda:0 emulated device", "" },
    };
    const char *top = new_folder();
    put_text(top, "g.json", GRAPH);
    setenv("WEFT_CUDA_LIBRARY", WEFT_CUDA_EMULATED, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("WEFT_FAKE_CUDA", cases[i][0], 1);
        REFUSES(WEFT(top, "run", "g.json", "--device", cases[i][1]), "weft run: cuda", cases[i][2], cases[i][3]);
        struct run *r = WEFT(top, "kernels");       /* what the library has, it tells without a device */
        CHECK_EQ(r->status, 0);
        CHECK_HAS(r->out, "\ncuda (");
    }
    drop_folder(top);
}

static weft_ctx *open_emulated(const char *memory) {
    setenv("WEFT_CUDA_LIBRARY", WEFT_CUDA_EMULATED, 1);
    if (memory) setenv("WEFT_FAKE_CUDA_MEMORY", memory, 1);
    return open_device("cuda");
}

/* Products of every kind on the device, whose memory the host cannot touch and whose work is done late, as on the CPU. In
 * exact precision: sums of at most 64 terms of order one. */
static void products(weft_ctx *c, float *got) {
    const weft_tensor *results[4];
    float v[1200];
    for (int i = 0; i < 1200; i++) v[i] = (float)((i * 7919 + 13) % 211 - 105) / 100;
    weft_tensor *x = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(2, 6, 5, 7), v);
    weft_tensor *w = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(8, 7, 3, 3), v + 300);
    weft_tensor *b = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(8), v + 900), *row = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(2, 8), v + 1000);
    weft_tensor *half = weft_cast(c, weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(8, 7), v + 500), WEFT_F16);
    results[0] = weft_conv2d(c, x, w, b, WEFT_CONV_SAME(3), NULL, NULL);
    results[1] = weft_conv2d(c, x, w, b, WEFT_CONV_SAME(3), row, (weft_tensor *)results[0]);
    results[2] = weft_linear(c, x, half, b, WEFT_ACT_SILU, (weft_tensor *)results[1]);
    results[3] = weft_matmul(c, weft_reshape(c, x, WEFT_SHAPE(2, 30, 7)), weft_reshape(c, x, WEFT_SHAPE(2, 7, 30)));
    const int64_t count[] = { 480, 480, 480, 1800 };
    for (int i = 0; i < 4; got += count[i++]) CHECK_EQ(weft_read(c, (weft_tensor *)results[i], got, (size_t)count[i] * 4), WEFT_OK);
}

TEST(products_on_the_device) {
    static float want[3240], got[3240];
    weft_ctx *c = open_device("cpu");
    weft_set_precision(c, WEFT_PRECISION_EXACT);
    products(c, want);
    CLOSE(c);
    c = open_emulated(NULL);
    weft_set_precision(c, WEFT_PRECISION_EXACT);
    products(c, got);
    for (int i = 0; i < 3240; i++) CHECK_NEAR(got[i], want[i], 2e-5);
    CLOSE(c);
}

/* Asked for, the libraries' algorithms are timed at the first call and the fastest stays; of the emulated ones it is the last. */
TEST(plans_are_timed) {
    static float want[3240], got[3240];
    static char told[1 << 16];
    weft_ctx *c = open_device("cpu");
    weft_set_precision(c, WEFT_PRECISION_EXACT);
    products(c, want);
    CLOSE(c);
    const char *top = new_folder();
    const int before = dup(2), file = open(in(top, "told"), O_CREAT | O_RDWR, 0600);
    REQUIRE(before >= 0 && file >= 0);
    setenv("WEFT_CUDA_TUNE", "1", 1);
    setenv("WEFT_CUDA_PLANS", "1", 1);
    dup2(file, 2);
    c = open_emulated(NULL);
    for (int i = 0; i < 2; i++) {
        weft_set_precision(c, i ? WEFT_PRECISION_EXACT : WEFT_PRECISION_FAST);
        products(c, got);
        products(c, got);
    }
    dup2(before, 2);
    run_read(top, "told", told, sizeof told);
    for (int i = 0; i < 3240; i++) CHECK_NEAR(got[i], want[i], 2e-5);
    int timed = 0;
    for (const char *at = told; (at = strstr(at, "timed for ")); at++) timed++;
    CHECK_HAS(told, "timed for matmul: 6.2000 1.2000 ms: number 2\n");
    CHECK_HAS(told, "timed for conv2d: 8.2000 4.2000 1.2000 ms: number 3\n");      /* fast */
    CHECK_EQ(timed, 6);         /* matmul and linear in both precisions; convolutions in the fast one, where they have a choice */
    CLOSE(c);
    drop_folder(top);
}

/* cuBLASLt and cuDNN that do not start, or fail: the message names the operation, the library and the shape. */
TEST(libraries_missing_or_failing) {
    static const char *const cases[][3] = {
        { "no cublas", "linear",
          "cuBLASLt cannot be started: an error of the emulation (CUBLAS_STATUS_NOT_INITIALIZED)" },
        { "no cudnn", "conv2d",
          "cannot be started: CUDNN_STATUS_NOT_INITIALIZED: the emulation has none; all of cuDNN 9 must be" },
        { "no products", "linear",
          "gemm: cuBLASLt says an error of the emulation (CUBLAS_STATUS_EXECUTION_FAILED) to compute a "
          "product, for 1 × (2×3×4) of f32" },
        { "no products", "conv2d",
          "conv2d: cuDNN says CUDNN_STATUS_EXECUTION_FAILED to compute a convolution, for (1,5,6,4) with 3×3 "
          "filters to (5,6,3), stride 1, of f32: the emulation fails" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("WEFT_FAKE_CUDA", cases[i][0], 1);
        weft_ctx *c = open_emulated(NULL);
        REQUIRE(weft_ok(c));
        if (!strcmp(cases[i][1], "linear"))
            weft_linear(c, weft_full(c, WEFT_F32, WEFT_SHAPE(2, 4), 1), weft_full(c, WEFT_F32, WEFT_SHAPE(3, 4), 1),
                        NULL, WEFT_ACT_NONE, NULL);
        else
            weft_conv2d(c, weft_full(c, WEFT_F32, WEFT_SHAPE(1, 5, 6, 4), 1),
                        weft_full(c, WEFT_F32, WEFT_SHAPE(3, 4, 3, 3), 1), NULL, WEFT_CONV_SAME(3), NULL, NULL);
        CHECK_STR(weft_status_name(weft_error(c)), "device");
        CHECK_HAS(weft_message(c), cases[i][1]);
        CHECK_HAS(weft_message(c), cases[i][2]);
        weft_ctx_free(c);
    }
    unsetenv("WEFT_FAKE_CUDA");
}

TEST(copies_and_operations) {
    weft_ctx *c = open_emulated(NULL);
    REQUIRE(weft_ok(c));
    CHECK_STR(weft_backend(c)->name, "cuda");
    const float v[] = { 1, -2, 3, 0.5f, 0, 7 };
    float got[6] = { 0 };
    weft_tensor *t = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(2, 3), v);
    CHECK(!weft_data(t));
    weft_tensor *y = weft_add(c, weft_affine(c, t, 2, 1),
                              weft_permute(c, weft_full(c, WEFT_F32, WEFT_SHAPE(3, 2), 0.5), (const int[]){ 1, 0 }));
    CHECK_EQ(weft_read(c, y, got, sizeof got), WEFT_OK);
    for (int i = 0; i < 6; i++) CHECK_NEAR(got[i], 2 * v[i] + 1.5, 0);
    CHECK_EQ(weft_write(c, t, got, sizeof got), WEFT_OK);
    CHECK_NEAR(weft_item(c, weft_slice(c, weft_reshape(c, t, WEFT_SHAPE(6)), 0, 5, 1)), 15.5, 0);
    CLOSE(c);
}

/* Longer than a piece of locked memory, by a few bytes, at odd places. */
TEST(copies_in_pieces) {
    weft_ctx *c = open_emulated(NULL);
    const int64_t n = 3 * (8 << 20) + 12345;
    unsigned char *bytes = malloc((size_t)n), *back = malloc((size_t)n);
    REQUIRE(bytes && back && weft_ok(c));
    for (int64_t i = 0; i < n; i++) bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    weft_tensor *t = weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(n), bytes);
    CHECK_EQ(weft_read(c, t, back, (size_t)n), WEFT_OK);
    CHECK(!memcmp(bytes, back, (size_t)n));
    weft_tensor *part = weft_slice(c, t, 0, 17, n - 40);
    CHECK_EQ(weft_write(c, part, bytes, (size_t)(n - 40)), WEFT_OK);
    CHECK_EQ(weft_read(c, part, back, (size_t)(n - 40)), WEFT_OK);
    CHECK(!memcmp(bytes, back, (size_t)(n - 40)));
    free(bytes);
    free(back);
    CLOSE(c);
}

TEST(memory_ends) {
    weft_ctx *c = open_emulated("1000000");
    REQUIRE(weft_ok(c));
    weft_tensor *t = weft_full(c, WEFT_F32, WEFT_SHAPE(100000), 1);
    CHECK(t && !weft_full(c, WEFT_F32, WEFT_SHAPE(200000), 1));
    CHECK_HAS(
        weft_message(c),
        "full: needs 784.0 KiB more than the 392.0 KiB in use, and of the device's 976.6 KiB only 580.6 KiB are free");
    CHECK_ERROR(c, WEFT_E_MEMORY, "smaller");
    weft_set_memory_limit(c, 500000);
    CHECK(!weft_full(c, WEFT_F32, WEFT_SHAPE(30000), 1));
    CHECK_ERROR(c, WEFT_E_MEMORY, "over the limit of");
    weft_set_memory_limit(c, 0);
    /* what the cache holds in other sizes makes room */
    for (int i = 0; i < 30; i++) {
        weft_scope s = weft_scope_named(c, "s");
        CHECK(weft_full(c, WEFT_F32, WEFT_SHAPE(100000 + 1500 * i), 1));
        weft_scope_end(c, s, NULL);
    }
    CLOSE(c);
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

enum { LAYERS = 8, WIDTH = 256 };

/* A file of LAYERS square weights, f32, and the context's x through all of them, `times` over; NULL with the error set. */
static float *walk(weft_ctx *c, const char *file, weft_dtype type, int times) {
    float *values = malloc(2 * WIDTH * sizeof *values);
    weft_tree *t = weft_tree_new(c, "net");
    weft_scope s = weft_scope_named(c, "walk");
    weft_tensor *x = weft_cast(c, noisy(c, WEFT_F32, 5, WEFT_SHAPE(2, WIDTH)), type);
    if (!t || weft_tree_add_file(c, t, file, NULL, NULL)) x = NULL;
    if (t) weft_tree_set_frozen(t, true);
    for (int i = 0; i < times * LAYERS && x; i++) {
        weft_scope one = weft_scope_named(c, "layer");
        x = weft_scope_end(c, one, weft_nn_linear(c, weft_sub_at(weft_root(t), "layers", i % LAYERS), x, WIDTH, false));
    }
    if (!values || !x || weft_read(c, weft_cast(c, x, WEFT_F32), values, 2 * WIDTH * sizeof *values)) {
        free(values);
        values = NULL;
    }
    weft_scope_end(c, s, NULL);
    weft_tree_free(t);
    return values;
}

static const char *layers_file(const char *top) {
    const char *file = in(top, "net.safetensors");
    weft_ctx *c = open_device("reference");
    weft_st_item items[LAYERS];
    char names[LAYERS][32];
    for (int i = 0; i < LAYERS; i++) {
        snprintf(names[i], sizeof names[i], "layers.%d.weight", i);
        weft_tensor *w = weft_affine(c, noisy(c, WEFT_F32, 10 + (uint64_t)i, WEFT_SHAPE(WIDTH, WIDTH)), 0.1, 0);
        items[i] = (weft_st_item){ .name = names[i], .tensor = w, .type = WEFT_F32 };
    }
    CHECK_EQ(weft_st_write(c, file, items, LAYERS, NULL), WEFT_OK);
    CLOSE(c);
    return file;
}

/* Two MiB of weights under a limit of one: they are copied again and again, and nothing else changes. */
TEST(weights_beyond_the_memory) {
    const char *top = new_folder(), *file = layers_file(top);
    weft_ctx *c = open_emulated(NULL);
    REQUIRE(weft_ok(c) && !weft_set_compute_type(c, "f32"));
    float *want = walk(c, file, WEFT_F32, 3);
    REQUIRE(want);
    CHECK(weft_memory_peak(c) > 2 << 20);
    CHECK_EQ(weft_memory_live(c), 0);
    for (size_t limit = 1 << 20; limit >= 700 << 10; limit -= 60 << 10) {
        weft_memory_trim(c);
        weft_memory_reset_peak(c);
        weft_set_memory_limit(c, limit);
        float *got = walk(c, file, WEFT_F32, 3);
        if (!got) TEST_FAIL("%zu bytes: %s", limit, weft_message(c));
        CHECK(!got || !memcmp(got, want, 2 * WIDTH * sizeof *want));
        CHECK(weft_memory_peak(c) <= limit);
        free(got);
    }
    weft_set_memory_limit(c, 300 << 10);        /* not even one and what it is made of */
    CHECK(!walk(c, file, WEFT_F32, 1));
    CHECK_ERROR(c, WEFT_E_MEMORY, "over the limit of 300.0 KiB");
    free(want);
    CLOSE(c);
    drop_folder(top);
}

/* On a device a weight of f32 is packed in the type of the activations: half the memory, and what f16 gives. */
TEST(weights_in_the_computed_type) {
    const char *top = new_folder(), *file = layers_file(top);
    weft_ctx *c = open_emulated(NULL);
    REQUIRE(weft_ok(c));
    float *exact = walk(c, file, WEFT_F32, 1);
    const size_t peak = weft_memory_peak(c);
    weft_memory_reset_peak(c);
    float *half = walk(c, file, WEFT_F16, 1);
    REQUIRE(exact && half);
    CHECK(weft_memory_peak(c) < peak - (800 << 10));
    struct test_distance d = test_compare_f32(half, exact, 2 * WIDTH);
    CHECK(d.rms > 0 && d.rms < 5e-3);           /* 8 layers, 2⁻¹¹ each for weights and activations */
    CHECK_EQ(weft_compute_type(c), WEFT_F16);
    CHECK(!weft_set_compute_type(c, "bf16"));
    CHECK_EQ(weft_compute_type(c), WEFT_BF16);
    CHECK(weft_set_compute_type(c, "f8") == WEFT_E_TYPE);
    CHECK_ERROR(c, WEFT_E_TYPE, "f32, f16 or bf16");
    free(exact);
    free(half);
    CLOSE(c);
    c = open_device("cpu");
    CHECK(weft_set_compute_type(c, "f16") == WEFT_E_TYPE);
    CHECK_ERROR(c, WEFT_E_TYPE, "the cpu back end does not compute in f16: use f32");
    CLOSE(c);
    drop_folder(top);
}

#endif

TEST_MAIN
