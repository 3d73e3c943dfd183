/* Copy, pad, embedding, timestep embedding and resampling against the naive ones. */
#include "tests/kernel_cases.h"

static const weft_dtype floats[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };

/* n values of a type that every other type can tell apart, with a few special ones among them. */
static void *mixed_values(weft_dtype type, int64_t n) {
    static const double special[] = { 0, -0.0, 0.5, 1.5, -1.5, 255, 256, -1, 65504, 65520, 1e-7, -3e-8, 1e10, -1e10,
                                      9.3e18, INFINITY, -INFINITY, NAN, 2147483647, -2147483648.0 };
    void *p = buffer_new(bytes_of(type, n), 0, weft_dtype_size(type));
    for (int64_t i = 0; i < n; i++) {
        double one = special[random_u64() % (sizeof special / sizeof *special)];
        ref_put(type, p, i, random_u64() % 4 ? 100 * random_bell() : one);
    }
    return p;
}

/* The destination is the dimensions in the order `to`, dense; the source in the order `from`, with gaps. */
static void copy(weft_dtype src, weft_dtype dst, int rank, const int64_t *shape, const int *from, const int *to,
                 unsigned repeats, int64_t gap) {
    char what[96];
    weft_copy_args a = { .src_type = src, .dst_type = dst, .rank = rank };
    int64_t source = gap, count = 1;
    for (int i = rank - 1; i >= 0; i--) {
        a.shape[i] = shape[i];
        a.src_stride[from[i]] = repeats >> from[i] & 1 ? 0 : source;
        if (!(repeats >> from[i] & 1)) source *= shape[from[i]];
        a.dst_stride[to[i]] = count;
        count *= shape[to[i]];
    }
    a.src = mixed_values(src, source);
    struct kernel_case c = { .id = WEFT_KERNEL_copy, .args = &a, .out = &a.dst, .type = dst, .count = count };
    snprintf(what, sizeof what, "%s to %s, rank %d, repeats %x, gap %d", weft_dtype_name(src), weft_dtype_name(dst),
             rank, repeats, (int)gap);
    case_check(&c, what);
    buffers_free();
}

static const int in_order[] = { 0, 1, 2, 3, 4, 5 };

TEST(copy_converts) {
    static const int64_t shapes[][2] = { { 1, 0 }, { 1, 1 }, { 1, 7 }, { 1, 16 }, { 1, 1031 }, { 9, 35 } };
    for (weft_dtype src = 0; src < WEFT_DTYPE_COUNT; src++)
        for (weft_dtype dst = 0; dst < WEFT_DTYPE_COUNT; dst++)
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                for (int64_t gap = 1; gap <= 2; gap++)
                    if (fast_takes(WEFT_KERNEL_copy, src)) copy(src, dst, 2, shapes[i], in_order, in_order, 0, gap);
}

/* Every f32 from one f16 or bf16 to the next is many; a ladder of 2¹⁸ bit patterns has ties, subnormals and NaN of
 * every kind. */
TEST(copy_rounds) {
    const int64_t n = 1 << 18;
    uint32_t *x = buffer_new(bytes_of(WEFT_F32, n), 0, 0);
    for (int64_t i = 0; i < n; i++)
        x[i] = (uint32_t)i << 14 | (i % 3 == 0 ? 0 : i % 3 == 1 ? 0x1000 : (uint32_t)random_u64() & 0x3fff);
    for (int t = 1; t < 3; t++) {
        weft_copy_args a = { .src_type = WEFT_F32, .dst_type = floats[t], .rank = 1, .shape = { n },
                             .src_stride = { 1 }, .dst_stride = { 1 }, .src = x };
        struct kernel_case c = { .id = WEFT_KERNEL_copy, .args = &a, .out = &a.dst, .type = floats[t], .count = n };
        case_check(&c, weft_dtype_name(floats[t]));
    }
    buffers_free();
}

TEST(copy_permutes) {
    static const int64_t shapes[][4] = { { 2, 3, 5, 7 }, { 1, 17, 9, 16 }, { 33, 1, 4, 8 }, { 2, 64, 3, 5 } };
    static const int orders[][4] = { { 0, 1, 2, 3 }, { 0, 2, 3, 1 }, { 0, 3, 1, 2 }, { 3, 2, 1, 0 }, { 1, 0, 3, 2 },
                                     { 0, 2, 1, 3 } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
            for (size_t j = 0; j < sizeof orders / sizeof *orders; j++)
                for (int64_t gap = 1; gap <= 2; gap++) {
                    copy(WEFT_F32, WEFT_F32, 4, shapes[s], orders[i], orders[j], 0, gap);
                    copy(WEFT_F16, WEFT_F32, 4, shapes[s], orders[i], orders[j], (unsigned)(i + j), gap);
                    copy(WEFT_U8, WEFT_F32, 4, shapes[s], orders[i], orders[j], 0, gap);
                    copy(WEFT_I64, WEFT_I64, 4, shapes[s], orders[i], orders[j], 0, gap);
                    copy(WEFT_F32, WEFT_BF16, 4, shapes[s], orders[i], orders[j], (unsigned)j, gap);
                }
    static const int64_t big[] = { 2, 3, 2, 4, 3, 5 };
    static const int backwards[] = { 5, 4, 3, 2, 1, 0 };
    for (unsigned repeats = 0; repeats < 64; repeats += 3)
        copy(WEFT_F32, WEFT_F32, 6, big, backwards, in_order, repeats, 1);
    copy(WEFT_F32, WEFT_F32, 0, big, in_order, in_order, 0, 1);         /* one value */
}

/* A concatenation's part: the destination has rows of 20, of which 7 are written and the rest stay. */
TEST(copy_into_a_part) {
    for (int t = 0; t < 3; t++) {
        weft_copy_args a = { .src_type = floats[t], .dst_type = WEFT_F32, .rank = 3, .shape = { 3, 5, 7 },
                             .src_stride = { 35, 7, 1 }, .dst_stride = { 100, 20, 1 } };
        a.src = random_values(floats[t], 105, 0, 1);
        struct kernel_case c = { .id = WEFT_KERNEL_copy, .args = &a, .out = &a.dst, .type = WEFT_F32, .count = 300,
                                 .before = random_values(WEFT_F32, 300, 0, 1) };
        case_check(&c, "part of each row");
        a.src_stride[0] = -35;
        a.src_stride[2] = -1;
        a.src = (const char *)a.src + 76 * weft_dtype_size(floats[t]);
        case_check(&c, "backwards");
        buffers_free();
    }
    static const int64_t numbers[] = { INT64_MIN, INT64_MAX, (INT64_C(1) << 53) + 1, -(INT64_C(1) << 60) - 3, 5 };
    weft_copy_args a = { .src_type = WEFT_I64, .dst_type = WEFT_I64, .rank = 1, .shape = { 5 }, .src_stride = { 1 },
                         .dst_stride = { 1 }, .src = memcpy(buffer_new(sizeof numbers, 0, 0), numbers, sizeof numbers) };
    struct kernel_case c = { .id = WEFT_KERNEL_copy, .args = &a, .out = &a.dst, .type = WEFT_I64, .count = 5 };
    const int64_t *same = case_want(&c, "i64");
    CHECK(same && !memcmp(same, numbers, sizeof numbers));
    struct scratch s;
    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_FAST);
    int status;
    CHECK(!memcmp(case_run(&c, tested(), &env, &status), numbers, sizeof numbers));
    buffers_free();
}

/* Stretches out of rows and into longer rows, as slices and concatenation have them: in units of every size that a copy
 * may move at once. */
TEST(copy_of_stretches) {
    static const weft_dtype types[] = { WEFT_U8, WEFT_F16, WEFT_F32, WEFT_I64 };
    /* of a stretch, of a source's row, where the stretch begins, of a row of the result */
    static const int64_t forms[][4] = { { 40, 48, 8, 64 }, { 40, 48, 4, 64 }, { 16, 16, 0, 18 }, { 12, 20, 2, 28 },
                                        { 24, 33, 0, 24 }, { 32, 32, 0, 33 }, { 7, 9, 1, 11 }, { 1, 16, 0, 16 } };
    for (int t = 0; t < 4; t++)
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
            for (int repeats = 0; repeats < 2; repeats++) EACH_ALIGNMENT {
                const int64_t *v = forms[f];
                weft_copy_args a = { .src_type = types[t], .dst_type = types[t], .rank = 3, .shape = { 3, 5, v[0] },
                                     .src_stride = { repeats ? 0 : 5 * v[1], v[1], 1 },
                                     .dst_stride = { 5 * v[3], v[3], 1 } };
                char *x = random_values(types[t], 15 * v[1], 60, 30);
                a.src = x + v[2] * (int64_t)weft_dtype_size(types[t]);
                struct kernel_case c = { .id = WEFT_KERNEL_copy, .args = &a, .out = &a.dst, .type = types[t],
                                         .count = 15 * v[3], .before = random_values(types[t], 15 * v[3], 60, 30) };
                if (fast_takes(WEFT_KERNEL_copy, types[t])) case_check(&c, weft_dtype_name(types[t]));
                buffers_free();
            }
}

static void pad(weft_dtype type, weft_pad_mode mode, int64_t h, int64_t w, int64_t channels, int64_t top,
                int64_t bottom, int64_t left, int64_t right) {
    char what[128];
    if (!fast_takes(WEFT_KERNEL_pad, type)) return;
    EACH_ALIGNMENT {
        weft_pad_args a = { .type = type, .mode = mode, .n = 2, .h = h, .w = w, .c = channels, .top = top,
                            .bottom = bottom, .left = left, .right = right, .value = 0.75,
                            .x = random_values(type, 2 * h * w * channels, 0, 50) };
        struct kernel_case c = { .id = WEFT_KERNEL_pad, .args = &a, .out = &a.y, .type = type,
                                 .count = 2 * (h + top + bottom) * (w + left + right) * channels };
        snprintf(what, sizeof what, "mode %d (%d,%d,%d) t%d b%d l%d r%d %s", mode, (int)h, (int)w, (int)channels,
                 (int)top, (int)bottom, (int)left, (int)right, weft_dtype_name(type));
        case_check(&c, what);
        buffers_free();
    }
}

TEST(pad_all) {
    for (weft_dtype t = 0; t < WEFT_DTYPE_COUNT; t++)
        for (weft_pad_mode mode = 0; mode < WEFT_PAD_COUNT; mode++) {
            pad(t, mode, 5, 6, 3, 1, 2, 3, 0);
            pad(t, mode, 5, 6, 17, 4, 4, 5, 5);
            pad(t, mode, 1, 1, 4, 0, 0, 0, 0);
            pad(t, mode, 3, 4, 16, 2, 1, 0, 3);
        }
    pad(WEFT_F32, WEFT_PAD_REPLICATE, 1, 2, 3, 7, 9, 11, 1);
    for (int64_t top = -3; top <= 2; top++)
        for (int64_t right = -4; right <= 2; right++) pad(WEFT_F32, WEFT_PAD_CONSTANT, 5, 6, 2, top, 1, -1, right);
    pad(WEFT_F32, WEFT_PAD_CONSTANT, 5, 6, 2, -2, -3, 0, 0);        /* nothing is left */
    pad(WEFT_F32, WEFT_PAD_CONSTANT, 5, 6, 2, -9, 7, 0, 0);         /* nothing but the constant */
    pad(WEFT_F32, WEFT_PAD_CONSTANT, 0, 6, 2, 2, 1, 0, 0);
    pad(WEFT_F32, WEFT_PAD_CONSTANT, 5, 6, 0, 2, 1, 0, 0);
}

TEST(embedding_all) {
    for (int type = 0; type < 4; type++)
        for (int table = 0; table < 4; table++)
            for (int64_t c = 0; c < 40; c += 1 + c / 4)
                for (int wide = 0; wide < 2; wide++) EACH_ALIGNMENT {
                    if (!fast_takes(WEFT_KERNEL_embedding, floats[type])) continue;
                    if (!fast_takes(WEFT_KERNEL_embedding, floats[table])) continue;
                    weft_embedding_args a = { .type = floats[type], .table_type = floats[table],
                                              .id_type = wide ? WEFT_I64 : WEFT_I32, .n = 9, .rows = 13, .c = c,
                                              .table = random_values(floats[table], 13 * c, 0, 1) };
                    int64_t *ids = buffer_new(9 * 8, 0, 0);
                    for (int i = 0; i < 9; i++) ref_put(a.id_type, ids, i, i == 0 ? 12 : (double)random_int(0, 12));
                    a.ids = ids;
                    struct kernel_case k = { .id = WEFT_KERNEL_embedding, .args = &a, .out = &a.y,
                                             .type = floats[type], .count = 9 * c };
                    case_check(&k, "embedding");
                    buffers_free();
                }
}

TEST(timestep_all) {
    static const struct { int64_t dim; double period, shift, scale; int flip; } forms[] = {
        { 320, 10000, 0, 1, 1 }, { 256, 10000, 0, 1, 1 }, { 7, 10000, 1, 1, 0 }, { 64, 2000, 0.5, 1000, 0 },
        { 2, 10000, 0, 1, 1 }, { 1, 10000, 0, 1, 0 }, { 33, 100, 1, 2, 1 }, { 0, 10000, 0, 1, 0 },
    };
    static const double times[] = { 0, 1, 999, 0.5, 501.25, 3, 17 };
    for (int t = 0; t < 4; t++)
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
            if (!fast_takes(WEFT_KERNEL_timestep, floats[t])) continue;
            weft_timestep_args a = { .type = floats[t], .n = 7, .dim = forms[f].dim, .max_period = forms[f].period,
                                     .shift = forms[f].shift, .scale = forms[f].scale, .flip = forms[f].flip };
            void *time = buffer_new(bytes_of(floats[t], 7), 0, 0);
            for (int i = 0; i < 7; i++) ref_put(floats[t], time, i, times[i] / forms[f].scale);
            a.t = time;
            /* An exponential that is rounded the other way moves an angle near 1000 by 6e-5; few are so large. */
            struct kernel_case c = { .id = WEFT_KERNEL_timestep, .args = &a, .out = &a.y, .type = floats[t],
                                     .count = 7 * a.dim, .tolerance = 1e-5 };
            case_check(&c, "timestep");
            buffers_free();
        }
}

static void resample_once(weft_dtype type, weft_resample_mode mode, int64_t n, int64_t h, int64_t w, int64_t channels,
                          int64_t oh, int64_t ow) {
    char what[128];
    weft_resample_args a = { .type = type, .mode = mode, .n = n, .h = h, .w = w, .c = channels, .oh = oh, .ow = ow };
    void *x = random_values(type, n * h * w * channels, type == WEFT_U8 ? 128 : 0, type == WEFT_U8 ? 90 : 1);
    a.x = x;
    struct kernel_case c = { .id = WEFT_KERNEL_resample, .args = &a, .out = &a.y, .type = type,
                             .count = n * oh * ow * channels };
    /* f32 weights and sums of the lanczos taps of a strong reduction; a source position, where it is fused, 6e-8 of
     * the size. */
    double size = (double)(h > w ? h : w);
    c.tolerance = type == WEFT_U8 || mode <= WEFT_NEAREST_EXACT ? 0 : type == WEFT_F64 ? 1e-12
        : 5e-7 + (mode == WEFT_BILINEAR || mode == WEFT_BICUBIC ? 6e-8 * size : 0);
    /* The picture between two of Pillow's passes has 16 bits: a value may be rounded the other way, by half a step of
     * 2⁻¹⁰ or 2⁻⁷. */
    if (mode >= WEFT_PIL_BILINEAR && type == WEFT_F16) c.tolerance = 0x1p-12;
    if (mode >= WEFT_PIL_BILINEAR && type == WEFT_BF16) c.tolerance = 0x1p-9;
    snprintf(what, sizeof what, "mode %d (%d,%d,%d,%d) to (%d,%d) %s", mode, (int)n, (int)h, (int)w, (int)channels,
             (int)oh, (int)ow, weft_dtype_name(type));
    case_check(&c, what);
    buffers_free();
}

static void resample(weft_dtype type, weft_resample_mode mode, int64_t n, int64_t h, int64_t w, int64_t channels,
                     int64_t oh, int64_t ow) {
    if (!fast_takes(WEFT_KERNEL_resample, type)) return;
    EACH_ALIGNMENT resample_once(type, mode, n, h, w, channels, oh, ow);
}

TEST(resample_all) {
    static const int64_t sizes[][4] = { { 8, 8, 16, 16 }, { 5, 7, 3, 4 }, { 5, 7, 11, 13 }, { 1, 1, 4, 5 },
                                        { 9, 12, 1, 1 }, { 6, 6, 6, 6 }, { 6, 9, 6, 5 }, { 9, 6, 5, 6 },
                                        { 64, 3, 7, 100 }, { 17, 50, 51, 8 }, { 3, 4, 0, 5 } };
    static const int64_t channels[] = { 1, 3, 8, 17, 0 };
    for (weft_resample_mode mode = 0; mode < WEFT_RESAMPLE_COUNT; mode++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
                const int64_t *z = sizes[s];
                resample(WEFT_F32, mode, 1 + (int64_t)i % 3, z[0], z[1], channels[i], z[2], z[3]);
                if (i < 2) resample(WEFT_F64, mode, 1, z[0], z[1], channels[i], z[2], z[3]);
                if (s % 2) resample(i % 2 ? WEFT_F16 : WEFT_BF16, mode, 1, z[0], z[1], channels[i], z[2], z[3]);
                if (mode >= WEFT_PIL_BILINEAR)
                    resample(WEFT_U8, mode, 1 + (int64_t)i % 3, z[0], z[1], channels[i], z[2], z[3]);
            }
}

/* floor(i·scale) in f32 is not floor(i·in/out): every ratio up to here, as PyTorch picks. */
TEST(resample_nearest_ratios) {
    for (int64_t in = 1; in < 70; in += 3)
        for (int64_t out = 1; out < 150; out += 7)
            for (weft_resample_mode mode = WEFT_NEAREST; mode <= WEFT_NEAREST_EXACT; mode++)
                resample(WEFT_F32, mode, 1, in, 1, 1, out, 2);
}

/* Uniform numbers are exact. Normal ones lose two roundings in f32 for each of logarithm, root, sine and product; where a GPU makes
 * them, sine and cosine of up to 2π are off by up to 2⁻²¹ besides, which a radius of up to 6.7 carries. */
TEST(philox) {
    static const int64_t counts[] = { 1, 2, 3, 255, 257, 1023, 1025, 5003, 0 };
    static const struct { uint64_t seed, counter; int64_t threads; } grids[] = {
        { 0, 0, 256 }, { (UINT64_C(1) << 40) + 3, 7, 512 }, { UINT64_MAX, UINT64_C(0xffffffff), 256 }, { 42, UINT64_MAX, 1024 } };
    for (size_t g = 0; g < sizeof grids / sizeof *grids; g++)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (int uniform = 0; uniform < 2; uniform++) {
                weft_philox_args a = { .type = WEFT_F32, .uniform = uniform, .n = counts[i], .threads = grids[g].threads,
                                       .seed = grids[g].seed, .counter = grids[g].counter };
                struct kernel_case c = { .id = WEFT_KERNEL_philox, .args = &a, .out = &a.y, .type = WEFT_F32, .count = counts[i],
                                         .each = true, .tolerance = uniform ? 0 : 8 * 0x1p-24,
                                         .floor = uniform ? 0 : on_device() ? 7 * 0x1p-21 : 7 * 0x1p-23 };
                char what[96];
                snprintf(what, sizeof what, "%s, %d of grid %d", uniform ? "uniform" : "normal", (int)counts[i], (int)g);
                case_check(&c, what);
                buffers_free();
            }
}

KERNEL_TEST_MAIN
