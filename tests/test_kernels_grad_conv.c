/* Gradients of convolutions against the naive ones: sizes, pads, strides, filters, types, scratch that runs out. */
#include "tests/kernel_products.h"

static const weft_dtype floats[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };

/* hint: as in kernel_case; both ways of computing. */
static void check(struct conv_shape s, weft_dtype type, weft_dtype wtype, int accumulate, int64_t hint) {
    values_off = (int)(s.w % 2);
    random_state = (uint64_t)(s.n + s.h * 1000003 + s.w * 10007 + s.c * 101 + s.o * 13 + s.kh);
    for (int p = 0; p < 2; p++) {
        weft_conv2d_grad_input_args input;
        weft_conv2d_grad_weight_args weight;
        char what[200];
        snprintf(what, sizeof what, "(%d,%d,%d,%d)→%d %d×%d stride %d pads t%d b%d l%d r%d %s, weights %s, accumulate %d, hint %d, %s",
                 (int)s.n, (int)s.h, (int)s.w, (int)s.c, (int)s.o, s.kh, s.kw, s.stride, s.top, s.bottom, s.left, s.right,
                 weft_dtype_name(type), weft_dtype_name(wtype), accumulate, (int)hint, p ? "exact" : "fast");
        struct kernel_case c = conv_grad_weight_case(&weight, type, s, accumulate, p ? WEFT_PRECISION_EXACT : WEFT_PRECISION_FAST);
        c.hint = hint;
        if (fast_takes(c.id, type)) case_check(&c, what);
        c = conv_grad_input_case(&input, type, wtype, s, p ? WEFT_PRECISION_EXACT : WEFT_PRECISION_FAST);
        c.hint = hint;
        if (fast_takes(c.id, type)) case_check(&c, what);
        buffers_free();
    }
}

static void three(int64_t n, int64_t h, int64_t w, int64_t c, int64_t o, int stride) {
    check((struct conv_shape){ n, h, w, c, o, 3, 3, stride, 1, 1, 1, 1 }, WEFT_F32, WEFT_F32, (int)(h + c) % 2, 0);
}

TEST(conv_grad_channels) {
    static const int64_t channels[] = { 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 48, 67 };
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
        for (size_t j = 0; j < sizeof channels / sizeof *channels; j += 1 + i % 3)
            three(1 + (int64_t)(i + j) % 3, 5 + (int64_t)j % 4, 4 + (int64_t)i % 5, channels[i], channels[j], 1 + (int)(i + j) % 2);
}

TEST(conv_grad_sides) {
    for (int64_t h = 1; h < 20; h += 1 + h / 6)
        for (int64_t w = 1; w < 20; w += 1 + w / 5) three(1 + (h + w) % 3, h, w, 18, 21, 1 + (int)(h * w) % 2);
    three(1, 2, 700, 5, 17, 1);         /* lines longer than a chain of additions */
    three(1, 3, 1100, 2, 3, 2);
    three(1, 65, 64, 16, 8, 1);         /* more lines than a block */
    three(3, 16, 16, 64, 64, 1);
    three(1, 65, 67, 17, 16, 1);        /* tiles longer than a chain */
}

TEST(conv_grad_filters) {
    for (int kh = 1; kh <= 6; kh++)
        for (int kw = 1; kw <= 7; kw++)
            for (int stride = 1; stride <= 3; stride++)
                check((struct conv_shape){ 2, 9, 10, 19, 13, kh, kw, stride, kh / 2, kh / 2, kw / 2, (kw - 1) / 2 }, WEFT_F32, WEFT_F32,
                      stride % 2, 0);
    check((struct conv_shape){ 2, 7, 5, 100, 33, 1, 1, 1, 0, 0, 0, 0 }, WEFT_F32, WEFT_F32, 0, 0);
    check((struct conv_shape){ 1, 16, 16, 3, 8, 16, 16, 16, 0, 0, 0, 0 }, WEFT_F32, WEFT_F32, 0, 0);     /* patches */
}

/* Pads of one side, larger than the filter, and crops; rows and columns that no window reads. */
TEST(conv_grad_pads) {
    for (int top = -2; top <= 4; top++)
        for (int left = -2; left <= 4; left++)
            for (int stride = 1; stride <= 3; stride++)
                check((struct conv_shape){ 1, 8, 9, 17, 5, 3, 3, stride, top, left % 2, left, top % 3 }, WEFT_F32, WEFT_F32, 0, 0);
    for (int stride = 1; stride <= 3; stride++)
        check((struct conv_shape){ 2, 8, 9, 5, 6, 2, 4, stride, 3, 0, 5, 1 }, WEFT_F32, WEFT_F32, stride % 2, 0);
    check((struct conv_shape){ 2, 8, 8, 4, 4, 1, 1, 3, 0, 0, 0, 0 }, WEFT_F32, WEFT_F32, 0, 0);
    check((struct conv_shape){ 2, 16, 16, 20, 24, 3, 3, 2, 0, 1, 0, 1 }, WEFT_F32, WEFT_F32, 1, 0);       /* the downsampler's */
}

TEST(conv_grad_types) {
    for (int t = 0; t < 4; t++)
        for (int u = 0; u < (t == 3 ? 4 : 3); u++) {
            for (int odd = 0; odd < 2; odd++) {
                const struct conv_shape s = { 2, 6, 8 - odd, 18, 20, 3, 3, 1 + (t + u) % 2, 1, 1, 1, 1 };
                check(s, floats[t], floats[u], u % 2, 0);
            }
        }
}

/* Other ways taken for want of scratch. */
TEST(conv_grad_scratch) {
    static const int64_t hints[] = { -1, 1000, 20000, 100000, 400000 };
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        check((struct conv_shape){ 3, 12, 13, 24, 35, 3, 3, 1, 1, 1, 1, 1 }, WEFT_F32, WEFT_F32, 1, hints[i]);
        check((struct conv_shape){ 3, 12, 13, 24, 35, 3, 3, 2, 0, 1, 0, 1 }, WEFT_F32, WEFT_F32, 0, hints[i]);
        check((struct conv_shape){ 3, 12, 13, 24, 35, 1, 1, 1, 0, 0, 0, 0 }, WEFT_F32, WEFT_F32, 0, hints[i]);
    }
    for (int64_t hint = 700000; hint < 2000000; hint += 200000)         /* several blocks of tiles */
        check((struct conv_shape){ 1, 65, 67, 18, 20, 3, 3, 1, 1, 1, 1, 1 }, WEFT_F32, WEFT_F32, 1, hint);
}

TEST(conv_grad_of_nothing) {
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        check((struct conv_shape){ 0, 5, 5, 8, 8, 3, 3, 1, 1, 1, 1, 1 }, WEFT_F32, WEFT_F32, accumulate, 0);
        check((struct conv_shape){ 1, 5, 5, 0, 8, 3, 3, 1, 1, 1, 1, 1 }, WEFT_F32, WEFT_F32, accumulate, 0);
        check((struct conv_shape){ 1, 5, 5, 8, 0, 3, 3, 1, 1, 1, 1, 1 }, WEFT_F32, WEFT_F32, accumulate, 0);
        check((struct conv_shape){ 1, 5, 5, 8, 0, 3, 3, 2, 1, 1, 1, 1 }, WEFT_F32, WEFT_F32, accumulate, 0);
        check((struct conv_shape){ 1, 2, 5, 8, 4, 3, 3, 1, 0, 0, 1, 1 }, WEFT_F32, WEFT_F32, accumulate, 0);     /* no window */
        check((struct conv_shape){ 1, 1, 5, 8, 4, 3, 3, 2, 0, 0, 1, 1 }, WEFT_F32, WEFT_F32, accumulate, 0);
    }
}

KERNEL_TEST_MAIN
