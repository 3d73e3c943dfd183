/* Unary, affine, binary, axpby, geglu, fill and reduce against the naive ones. */
#include "tests/kernel_cases.h"

static const weft_dtype floats[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };
static const int64_t lengths[] = { 0, 1, 2, 7, 8, 15, 16, 17, 33, 64, 100, 1031 };
#define LENGTHS (int)(sizeof lengths / sizeof *lengths)

/* What an f32 result may be off by where it is near 0: the rounding of 1 + erf and 1 + tanh, times x; of an angle up
 * to 40, of the logarithm's argument; of quick_gelu's 1.702·x (6e-8·|1.702·x|·e^1.702x·|x| at most); a sigmoid below
 * the normal range, flushed. */
static double unary_floor(weft_unary_op op, double spread) {
    switch (op) {
    case WEFT_UNARY_GELU:
    case WEFT_UNARY_GELU_TANH: return 2e-7 * fmin(spread, 4);
    case WEFT_UNARY_SIN:
    case WEFT_UNARY_COS:
    case WEFT_UNARY_LOG: return 2e-7;
    case WEFT_UNARY_QUICK_GELU: return 2e-8;
    default: return 1.5e-36;
    }
}

static void unary(weft_dtype type, weft_unary_op op, int64_t n, double spread, bool in_place) {
    char what[96];
    if (!fast_takes(WEFT_KERNEL_unary, type)) return;
    random_state = (uint64_t)(n + op * 1009);
    double mean = op == WEFT_UNARY_LOG || op == WEFT_UNARY_SQRT ? 2 * spread : 0;
    weft_unary_args a = { .type = type, .op = op, .n = n, .x = random_values(type, n, mean, spread) };
    struct kernel_case c = { .id = WEFT_KERNEL_unary, .args = &a, .out = &a.y, .type = type, .count = n, .each = true };
    c.tolerance = 1e-6;         /* 16 roundings */
    c.floor = unary_floor(op, spread);
    if (in_place) { c.before = a.x; c.alias = &a.x; }
    snprintf(what, sizeof what, "op %d, %d of spread %g, %s", op, (int)n, spread, weft_dtype_name(type));
    case_check(&c, what);
    buffers_free();
}

TEST(unary_all) {
    for (weft_unary_op op = 0; op < WEFT_UNARY_COUNT; op++) {
        for (int i = 0; i < LENGTHS; i++) unary(WEFT_F32, op, lengths[i], 2, i % 2);
        for (double spread = 1e-6; spread < 50; spread *= 10) unary(WEFT_F32, op, 500, spread, false);
        for (int t = 0; t < 4; t++) unary(floats[t], op, 133, 3, t % 2);
    }
}

/* Every 2¹⁶-th f32, and every f16 and bf16: nothing goes wrong at the ends of a polynomial's range. */
TEST(unary_everywhere) {
    for (int t = 0; t < 3; t++)
        for (weft_unary_op op = 0; op < WEFT_UNARY_COUNT; op++) {
            if (!fast_takes(WEFT_KERNEL_unary, floats[t])) continue;
            weft_unary_args a = { .type = floats[t], .op = op, .n = 65536 };
            void *x = buffer_new(bytes_of(floats[t], a.n), 0, 0);
            for (uint32_t i = 0; i < 65536; i++) {
                uint32_t bits = i << 16 | (i * 40503u & 0xffff);
                float f;
                memcpy(&f, &bits, 4);
                /* beyond what a model asks */
                bool turns = (op == WEFT_UNARY_SIN || op == WEFT_UNARY_COS) && fabsf(f) > 1e4f;
                if (floats[t] == WEFT_F32) ((uint32_t *)x)[i] = turns ? 0 : bits;
                else if (floats[t] == WEFT_BF16) ((uint16_t *)x)[i] = turns ? 0 : (uint16_t)i;
                else ((uint16_t *)x)[i] = (uint16_t)i;
            }
            a.x = x;
            struct kernel_case c = { .id = WEFT_KERNEL_unary, .args = &a, .out = &a.y, .type = floats[t], .count = a.n,
                                     .each = true, .tolerance = 2e-6 };
            c.floor = unary_floor(op, 4);
            char what[64];
            snprintf(what, sizeof what, "op %d over all of %s", op, weft_dtype_name(floats[t]));
            case_check(&c, what);
            buffers_free();
        }
}

TEST(affine_all) {
    static const double forms[][4] = { { 1, 0, -INFINITY, INFINITY }, { 0.5, 0.5, 0, 1 }, { -3, 7, -1, 1 },
                                       { 127.5, 128, 0, 255 }, { 0, 2, -5, 5 }, { 1e-3, -1e3, -INFINITY, 0 } };
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < LENGTHS; i++)
            for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
                if (!fast_takes(WEFT_KERNEL_affine, floats[t])) continue;
                random_state = f + 10;
                weft_affine_args a = { .type = floats[t], .n = lengths[i], .scale = forms[f][0], .shift = forms[f][1],
                                       .low = forms[f][2], .high = forms[f][3] };
                a.x = random_values(floats[t], lengths[i], 0, 2);
                if (a.n > 3) ref_put(floats[t], (void *)a.x, 3, NAN);
                if (a.n > 1) ref_put(floats[t], (void *)a.x, 1, -INFINITY);
                /* A product and a sum, each rounded (or both at once): relative to the larger of the two. */
                struct kernel_case c = { .id = WEFT_KERNEL_affine, .args = &a, .out = &a.y, .type = floats[t],
                                         .count = a.n, .each = true, .tolerance = 1.3e-7,
                                         .floor = 1.3e-7 * (fabs(a.shift) + 8 * fabs(a.scale)) };
                if (f % 2) { c.before = a.x; c.alias = &a.x; }
                case_check(&c, "affine");
                buffers_free();
            }
}

TEST(axpby_all) {
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < LENGTHS; i++)
            for (int alias = 0; alias < 3; alias++) {
                if (!fast_takes(WEFT_KERNEL_axpby, floats[t])) continue;
                weft_axpby_args a = { .type = floats[t], .n = lengths[i], .alpha = 7.5, .beta = -6.5 };
                a.a = random_values(floats[t], lengths[i], 0, 1);
                a.b = random_values(floats[t], lengths[i], 0, 1);
                struct kernel_case c = { .id = WEFT_KERNEL_axpby, .args = &a, .out = &a.y, .type = floats[t],
                                         .count = a.n, .each = true, .tolerance = 1.3e-7, .floor = 1.3e-7 * 14 * 4 };
                if (alias) { c.alias = alias == 1 ? &a.a : &a.b; c.before = *c.alias; }
                case_check(&c, alias ? "axpby in place" : "axpby");
                buffers_free();
            }
}

TEST(geglu_all) {
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < LENGTHS; i++) {
            if (!fast_takes(WEFT_KERNEL_geglu, floats[t])) continue;
            weft_geglu_args a = { .type = floats[t], .rows = 1 + i % 4, .half = lengths[i],
                                  .x = random_values(floats[t], 2 * (1 + i % 4) * lengths[i], 0, 3) };
            struct kernel_case c = { .id = WEFT_KERNEL_geglu, .args = &a, .out = &a.y, .type = floats[t],
                                     .count = a.rows * a.half, .tolerance = 1e-6 };
            case_check(&c, "geglu");
            buffers_free();
        }
}

/* One operand or both repeated along some of the dimensions, in every way, in ranks 0 to 6; strides that skip. */
static void binary(weft_dtype type, weft_binary_op op, int rank, const int64_t *shape, unsigned a_repeats,
                   unsigned b_repeats, int64_t skip, int alias) {
    char what[96];
    if (!fast_takes(WEFT_KERNEL_binary, type)) return;
    weft_binary_args a = { .type = type, .op = op, .rank = rank };
    int64_t a_step = skip, b_step = 1, count = 1;
    for (int d = rank - 1; d >= 0; d--) {
        a.shape[d] = shape[d];
        a.a_stride[d] = a_repeats >> d & 1 ? 0 : a_step;
        a.b_stride[d] = b_repeats >> d & 1 ? 0 : b_step;
        if (a.a_stride[d]) a_step *= shape[d];
        if (a.b_stride[d]) b_step *= shape[d];
        count *= shape[d];
    }
    a.a = random_values(type, a_step, 3, 1);
    a.b = random_values(type, b_step, 5, 1);
    /* one rounding */
    struct kernel_case c = { .id = WEFT_KERNEL_binary, .args = &a, .out = &a.y, .type = type, .count = count,
                             .each = true, .tolerance = 1.3e-7 };
    if (alias && count) { c.alias = alias == 1 ? &a.a : &a.b; c.before = *c.alias; }
    snprintf(what, sizeof what, "op %d rank %d, repeats %x and %x, skip %d, alias %d, %s", op, rank, a_repeats,
             b_repeats, (int)skip, alias, weft_dtype_name(type));
    case_check(&c, what);
    buffers_free();
}

TEST(binary_broadcasts) {
    static const int64_t shapes[][6] = { { 2, 3, 5, 7, 2, 3 }, { 17, 1, 9, 20, 1, 2 }, { 33, 2, 1, 4, 3, 5 } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int rank = 0; rank <= 4; rank++)
            for (unsigned repeats = 0; repeats < 1u << (2 * rank); repeats++) {
                if (rank == 4 && (repeats % 5 || s)) continue;
                binary(WEFT_F32, (weft_binary_op)(repeats % WEFT_BINARY_COUNT), rank, shapes[s],
                       repeats & ((1u << rank) - 1), repeats >> rank, 1 + repeats % 2, 0);
            }
    for (unsigned repeats = 0; repeats < 64; repeats += 7)
        binary(WEFT_F32, WEFT_BINARY_SUB, 6, shapes[0], repeats, repeats ^ 63, 1, 0);
    static const int64_t long_rows[] = { 3, 1000 }, wide[] = { 500, 6 }, none[] = { 3, 0, 4 };
    for (unsigned repeats = 0; repeats < 16; repeats++) {
        binary(WEFT_F32, WEFT_BINARY_ADD, 2, long_rows, repeats & 3, repeats >> 2, 1, 0);
        binary(WEFT_F32, WEFT_BINARY_MUL, 2, wide, repeats & 3, repeats >> 2, 1, 0);
    }
    binary(WEFT_F32, WEFT_BINARY_ADD, 3, none, 0, 0, 1, 0);
}

TEST(binary_types_and_aliases) {
    static const int64_t shape[] = { 4, 5, 19 };
    for (int t = 0; t < 4; t++)
        for (weft_binary_op op = 0; op < WEFT_BINARY_COUNT; op++)
            for (int alias = 0; alias < 3; alias++) {
                binary(floats[t], op, 3, shape, 0, 0, 1, alias);
                binary(floats[t], op, 3, shape, alias == 1 ? 0 : 3, alias == 2 ? 0 : 5, 1, alias);
            }
}

/* Division by zero, infinities and NaN, as IEEE and PyTorch have them. */
TEST(binary_special) {
    static const float values[] = { 0, -0.0f, 1, -1, INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-40f };
    for (weft_binary_op op = 0; op < WEFT_BINARY_COUNT; op++) {
        float *v = buffer_new(sizeof values, 0, 0);
        memcpy(v, values, sizeof values);
        weft_binary_args a = { .type = WEFT_F32, .op = op, .rank = 2, .shape = { 10, 10 }, .a_stride = { 1, 0 },
                               .b_stride = { 0, 1 }, .a = v, .b = v };
        struct kernel_case c = { .id = WEFT_KERNEL_binary, .args = &a, .out = &a.y, .type = WEFT_F32, .count = 100,
                                 .each = true, .tolerance = 1.3e-7, .floor = 1.2e-38 };
        case_check(&c, "special values");
        buffers_free();
    }
}

static void reduce_once(weft_dtype type, weft_reduce_op op, int64_t outer, int64_t mid, int64_t inner, double mean) {
    char what[96];
    random_state = (uint64_t)(outer + mid * 1000003 + inner * 1009);
    weft_reduce_args a = { .type = type, .op = op, .outer = outer, .mid = mid, .inner = inner,
                           .x = random_values(type, outer * mid * inner, mean, 1) };
    /* pairwise, or in double */
    struct kernel_case c = { .id = WEFT_KERNEL_reduce, .args = &a, .out = &a.y, .type = type, .count = outer * inner,
                             .tolerance = 5e-7 };
    bool picks = op == WEFT_REDUCE_MAX || op == WEFT_REDUCE_MIN;
    if (picks) c.tolerance = 0;
    snprintf(what, sizeof what, "op %d (%d,%d,%d) %s", op, (int)outer, (int)mid, (int)inner, weft_dtype_name(type));
    case_check(&c, what);
    buffers_free();
}

static void reduce(weft_dtype type, weft_reduce_op op, int64_t outer, int64_t mid, int64_t inner, double mean) {
    if (!fast_takes(WEFT_KERNEL_reduce, type)) return;
    EACH_ALIGNMENT reduce_once(type, op, outer, mid, inner, mean);
}

TEST(reduce_all) {
    static const int64_t sizes[][3] = { { 1, 1, 1 }, { 3, 5, 7 }, { 1, 1000, 1 }, { 7, 33, 1 }, { 1, 17, 100 },
                                        { 2, 9, 16 }, { 5, 1, 5 }, { 0, 3, 3 }, { 3, 3, 0 }, { 40, 64, 3 }, { 600, 3, 3 },
                                        { 2, 3, 1100 }, { 1, 9000, 8 }, { 2, 40000, 1 } };
    for (weft_reduce_op op = 0; op < WEFT_REDUCE_COUNT; op++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int t = 0; t < 4; t++) reduce(floats[t], op, sizes[i][0], sizes[i][1], sizes[i][2], 0);
        reduce(WEFT_F32, op, 1, 300000, 1, 1);          /* a plain f32 sum would be off by 1e-5 or more */
        reduce(WEFT_F32, op, 1, 100000, 3, 1);
        reduce(WEFT_F32, op, 3, 70001, 1, 1000);
    }
    reduce(WEFT_F32, WEFT_REDUCE_SUM, 2, 0, 3, 0);
    reduce(WEFT_F32, WEFT_REDUCE_MEAN, 2, 0, 3, 0);
}

TEST(reduce_nan) {
    for (weft_reduce_op op = 0; op < WEFT_REDUCE_COUNT; op++)
        for (int64_t inner = 1; inner <= 20; inner += 19)
            for (int at = 0; at < 50; at += 7) {
                weft_reduce_args a = { .type = WEFT_F32, .op = op, .outer = 2, .mid = 50, .inner = inner,
                                       .x = random_values(WEFT_F32, 100 * inner, 0, 1) };
                ((float *)a.x)[at * inner] = NAN;
                struct kernel_case c = { .id = WEFT_KERNEL_reduce, .args = &a, .out = &a.y, .type = WEFT_F32,
                                         .count = 2 * inner, .tolerance = 5e-7 };
                case_check(&c, "a NaN among them");
                buffers_free();
            }
}

TEST(fill_all) {
    static const double values[] = { 0, 1, -2.5, 0.1, 1e300, INFINITY, NAN, 200.7 };
    for (weft_dtype t = 0; t < WEFT_DTYPE_COUNT; t++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++)
            for (int i = 0; i < LENGTHS; i++) {
                if (!fast_takes(WEFT_KERNEL_fill, t)) continue;
                weft_fill_args a = { .type = t, .n = lengths[i], .value = values[v] };
                struct kernel_case c = { .id = WEFT_KERNEL_fill, .args = &a, .out = &a.dst, .type = t, .count = a.n };
                case_check(&c, weft_dtype_name(t));
                buffers_free();
            }
}

KERNEL_TEST_MAIN
