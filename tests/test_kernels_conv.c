/* Convolutions against the naive ones: sizes, strides, pads, types, both precisions, what is added behind. */
#include "tests/kernel_products.h"

/* In both precisions, with plenty of scratch for speed, with little and with none. */
static void conv(weft_dtype type, weft_dtype wtype, struct conv_shape s, int has) {
    weft_conv2d_args a;
    char what[192];
    if (!fast_takes(WEFT_KERNEL_conv2d, type)) return;
    random_state = (uint64_t)(s.n * 7 + s.h * 1000003 + s.w * 10007 + s.c * 101 + s.o);
    values_off = (int)(s.w % 2);
    struct kernel_case c = conv_case(&a, type, wtype, s, has, WEFT_PRECISION_EXACT);
    const void *want = case_want(&c, "conv2d");
    for (int i = 0; i < 6 && want; i++) {
        if (MOST_THREADS == 1 && i / 2 == 1) continue;      /* little scratch is none to CUDA's kernels */
        c.precision = i & 1 ? WEFT_PRECISION_EXACT : WEFT_PRECISION_FAST;
        c.tolerance = conv_tolerance(s, c.precision);
        c.hint = i < 2 ? 0 : i < 4 ? 1 << 18 : -1;
        snprintf(what, sizeof what,
                 "(%d,%d,%d,%d)→%d %d×%d stride %d pads t%d b%d l%d r%d %s weights %s, has %d, %s, hint %d",
                 (int)s.n, (int)s.h, (int)s.w, (int)s.c, (int)s.o, s.kh, s.kw, s.stride, s.top, s.bottom, s.left,
                 s.right, weft_dtype_name(type), weft_dtype_name(wtype), has, i & 1 ? "exact" : "fast",
                 (int)c.hint);
        case_check_against(&c, want, what);
    }
    buffers_free();
}

#define SAME3(n, h, w, c, o) (struct conv_shape){ n, h, w, c, o, 3, 3, 1, 1, 1, 1, 1 }

/* Every size of picture from 1 to 9: tiles of Winograd and of the direct kernel end at each place. */
TEST(conv_small_pictures) {
    for (int64_t h = 1; h <= 9; h++)
        for (int64_t w = 1; w <= 9; w++)
            conv(WEFT_F32, WEFT_F32, SAME3(1 + (h + w) % 3, h, w, 1 + (h * 7 + w) % 9, 1 + (h + w * 5) % 19),
                 (int)(h * 9 + w) % 16);
}

/* The same with channels enough for Winograd's tiles, which end in the picture or beyond its edge. */
TEST(conv_tiles) {
    for (int64_t h = 1; h <= 9; h++)
        for (int64_t w = 1; w <= 10; w++)
            conv(WEFT_F32, w % 3 ? WEFT_F32 : WEFT_F16, SAME3(1 + (h + w) % 3, h, w, 16 + (h * 7 + w) % 20,
                                                              1 + (h * 11 + w * 5) % 40),
                 (int)(h * 10 + w) % 16);
}

TEST(conv_channels) {
    static const int64_t sizes[] = { 1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 48, 65 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j += 1 + i % 2)
            conv(WEFT_F32, WEFT_F32, SAME3(1, 6, 5, sizes[i], sizes[j]), (int)(i * 13 + j) % 16);
}

TEST(conv_kernel_sizes_and_strides) {
    for (int k = 1; k <= 5; k++)
        for (int stride = 1; stride <= 3; stride++)
            for (int pad = 0; pad <= k / 2; pad++)
                conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 2, 9, 11, 5, 18, k, k, stride, pad, pad, pad, pad },
                     (k + stride + pad) % 16);
    conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 1, 9, 11, 6, 7, 1, 3, 1, 0, 0, 1, 1 }, HAS_BIAS);
    conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 1, 9, 11, 6, 7, 3, 1, 1, 1, 1, 0, 0 }, HAS_BIAS);
    conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 1, 12, 11, 6, 7, 5, 2, 2, 1, 2, 0, 1 }, HAS_BIAS | HAS_ROW);
    /* a picture cut into patches */
    conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 1, 32, 32, 3, 20, 16, 16, 16, 0, 0, 0, 0 }, HAS_BIAS);
}

/* Diffusers' down-sampling pads right and bottom only; pads may be larger than the kernel, or negative, or unequal. */
TEST(conv_pads) {
    static const int pads[][4] = { { 0, 1, 0, 1 }, { 1, 0, 1, 0 }, { 2, 2, 2, 2 }, { 0, 0, 0, 0 }, { -1, 1, 0, 1 },
                                   { -2, -1, -1, -2 }, { 5, 0, 0, 5 }, { 1, 2, 0, 3 }, { 0, 0, 1, 1 }, { 1, 1, 0, 0 },
                                   { 2, 0, -1, 3 } };
    for (size_t i = 0; i < sizeof pads / sizeof *pads; i++)
        for (int stride = 1; stride <= 2; stride++) {
            const int *p = pads[i];
            conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 2, 8, 9, 10, 17, 3, 3, stride, p[0], p[1], p[2], p[3] },
                 (int)i);
        }
    conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 2, 8, 9, 5, 6, 2, 4, 1, 3, 0, 5, 1 }, HAS_BIAS);
    conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 2, 8, 9, 5, 6, 4, 2, 2, -1, 4, 3, -2 }, HAS_ROW);
}

TEST(conv_types) {
    static const weft_dtype floats[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };
    for (int t = 0; t < 4; t++)
        for (int w = 0; w < 4; w++) {
            if ((floats[t] == WEFT_F64) != (floats[w] == WEFT_F64)) continue;         /* f64 goes with its like alone */
            conv(floats[t], floats[w], SAME3(2, 7, 10, 20, 19), HAS_BIAS | HAS_ROW | HAS_RESIDUAL);
            conv(floats[t], floats[w], SAME3(1, 6, 5, 17, 9), HAS_BIAS);
            conv(floats[t], floats[w], SAME3(1, 5, 8, 16, 24), HAS_BIAS | HAS_RESIDUAL);
            conv(floats[t], floats[w], (struct conv_shape){ 1, 9, 8, 12, 33, 3, 3, 2, 0, 1, 0, 1 }, HAS_BIAS);
            conv(floats[t], floats[w], (struct conv_shape){ 2, 5, 5, 21, 34, 1, 1, 1, 0, 0, 0, 0 },
                 HAS_BIAS | RESIDUAL_IS_Y);
        }
}

/* What may be added behind, in all its combinations. */
TEST(conv_additions) {
    for (int has = 0; has < 16; has++) {
        conv(WEFT_F32, WEFT_F32, SAME3(3, 9, 10, 16, 37), has);
        conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 3, 4, 5, 16, 37, 1, 1, 1, 0, 0, 0, 0 }, has);
        conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 3, 8, 9, 16, 37, 3, 3, 2, 1, 1, 1, 1 }, has);
    }
}

/* Sizes that models have, cut short: many channels on few pixels, few on many, a latent's 4, a picture's 3. */
TEST(conv_model_sizes) {
    conv(WEFT_F32, WEFT_F32, SAME3(2, 8, 8, 320, 96), HAS_BIAS | HAS_ROW);
    conv(WEFT_F32, WEFT_F16, SAME3(1, 4, 4, 1000, 40), HAS_BIAS | HAS_RESIDUAL);
    conv(WEFT_F32, WEFT_F32, SAME3(1, 40, 36, 4, 64), HAS_BIAS);
    conv(WEFT_F32, WEFT_F32, SAME3(1, 33, 35, 64, 3), HAS_BIAS);
    conv(WEFT_F32, WEFT_F32, SAME3(1, 23, 21, 64, 64), HAS_BIAS | RESIDUAL_IS_Y);
    conv(WEFT_F32, WEFT_BF16, (struct conv_shape){ 1, 17, 17, 96, 64, 3, 3, 2, 0, 1, 0, 1 }, HAS_BIAS);
    conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 2, 16, 16, 192, 64, 1, 1, 1, 0, 0, 0, 0 }, HAS_BIAS);
    conv(WEFT_F32, WEFT_F32, SAME3(1, 3, 131, 8, 24), HAS_BIAS);
    conv(WEFT_F32, WEFT_F32, SAME3(1, 131, 2, 8, 24), HAS_BIAS);
}

/* A mean far above the spread: what Winograd loses is relative to the mean, and so is the result. */
TEST(conv_offset_and_scale) {
    static const struct { double mean, spread; } nasty[] = { { 100, 1 }, { 0, 1e-6 }, { 0, 1e6 }, { -30, 0.1 } };
    for (size_t i = 0; i < sizeof nasty / sizeof *nasty; i++)
        for (int p = 0; p < 2; p++) {
            weft_conv2d_args a;
            random_state = i + 1;
            struct kernel_case c = conv_case(&a, WEFT_F32, WEFT_F32, SAME3(1, 13, 14, 48, 33), 0, (weft_precision)p);
            a.x = random_values(WEFT_F32, 13 * 14 * 48, nasty[i].mean, nasty[i].spread);
            c.terms = 0;
            case_check(&c, "an offset or a scale");
            buffers_free();
        }
}

/* One value that is not finite reaches the outputs whose window holds it, and at most those of the same tile. */
TEST(conv_nan_stays_near) {
    for (int p = 0; p < 2; p++) {
        weft_conv2d_args a;
        struct kernel_case c = conv_case(&a, WEFT_F32, WEFT_F32, SAME3(2, 20, 20, 24, 17), 0, (weft_precision)p);
        ((float *)a.x)[(10 * 20 + 10) * 24 + 3] = NAN;
        struct scratch s;
        weft_env env = kernel_env(&s, 2, (weft_precision)p);
        int status;
        const float *y = case_run(&c, tested(), &env, &status);
        CHECK_EQ(status, WEFT_K_OK);
        for (int64_t i = 0; i < c.count; i++) {
            int64_t n = i / (400 * 17), row = i / (20 * 17) % 20, column = i / 17 % 20;
            int64_t apart = llabs(row - 10) > llabs(column - 10) ? llabs(row - 10) : llabs(column - 10);
            bool inside = n == 0 && apart <= 1, far = n == 1 || apart > 6;
            if ((inside && !isnan(y[i])) || (far && isnan(y[i]))) {
                TEST_FAIL("precision %d: element %" PRId64 " is %g", p, i, y[i]);
                break;
            }
        }
        buffers_free();
    }
}

TEST(conv_of_nothing) {
    conv(WEFT_F32, WEFT_F32, SAME3(0, 5, 5, 3, 4), HAS_BIAS);
    conv(WEFT_F32, WEFT_F32, SAME3(1, 5, 5, 3, 0), 0);
    /* empty sums: what is added is left */
    conv(WEFT_F32, WEFT_F32, SAME3(2, 5, 5, 0, 4), HAS_BIAS | HAS_ROW | HAS_RESIDUAL);
    conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 1, 2, 5, 3, 4, 3, 3, 1, 0, 0, 1, 1 }, HAS_BIAS);    /* oh = 0 */
    /* nothing but padding */
    conv(WEFT_F32, WEFT_F32, (struct conv_shape){ 1, 0, 0, 3, 4, 3, 3, 1, 2, 2, 2, 2 }, HAS_BIAS);
}

KERNEL_TEST_MAIN
