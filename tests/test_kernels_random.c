/* Random sizes and options against the naive kernels, a fixed number of them from a fixed seed; WEFT_TEST_SEED and
 * WEFT_TEST_ROUNDS (a factor) ask for others. A failing case's message has all that made it. */
#include "tests/kernel_products.h"

static const weft_dtype floats[] = { WEFT_F32, WEFT_F32, WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };

static int rounds(int n) {
    const char *factor = getenv("WEFT_TEST_ROUNDS");
    return factor ? n * atoi(factor) : n;
}

/* Each case starts from a seed of its own, which its message names. Half of them have aligned tensors. */
static uint64_t start(int kernel, int i) {
    values_off = i / 2 % 2;
    const char *seed = getenv("WEFT_TEST_SEED");
    uint64_t base = seed ? strtoull(seed, NULL, 10) : 1;
    random_state = base * UINT64_C(1000003) + (uint64_t)kernel * 100000007 + (uint64_t)i;
    return random_u64();
}

/* 1…most, small ones as likely as large ones; at times a power of two and its neighbours. */
static int64_t size(int64_t most) {
    double v = exp(random_unit() * log((double)most + 1));
    int64_t n = random_int(0, 2) ? (int64_t)v : ((int64_t)1 << random_int(0, 9)) + random_int(-1, 1);
    return n < 1 ? 1 : n > most ? most : n;
}

TEST(random_gemm) {
    for (int i = 0; i < rounds(250); i++) {
        start(1, i);
        weft_gemm_args a;
        char what[160];
        int64_t m = size(200), n = size(200), k = size(2000);
        if (m * n * k > 4000000) k = 1 + 4000000 / (m * n);
        weft_dtype type = floats[random_int(0, 2) ? 0 : random_int(0, 5)];
        weft_dtype wtype = type == WEFT_F64 ? type : floats[random_int(0, 4)];
        int has = (int)random_int(0, 15), act = (int)random_int(0, WEFT_ACT_COUNT - 1);
        if (!fast_takes(WEFT_KERNEL_gemm, type)) continue;
        struct kernel_case c = gemm_case(&a, type, wtype, m, n, k, has, (weft_activation)act);
        c.precision = i % 2 ? WEFT_PRECISION_EXACT : WEFT_PRECISION_FAST;
        c.hint = random_int(0, 3) == 0 ? -1 : random_int(0, 2) == 0 ? random_int(1, 1 << 20) : 0;
        snprintf(what, sizeof what, "round %d: m %d n %d k %d %s, weights %s, has %d, act %d", i, (int)m, (int)n,
                 (int)k, weft_dtype_name(type), weft_dtype_name(wtype), has, act);
        case_check(&c, what);
        buffers_free();
    }
}

TEST(random_conv2d) {
    for (int i = 0; i < rounds(300); i++) {
        start(2, i);
        weft_conv2d_args a;
        char what[200];
        bool three = random_int(0, 2) > 0;
        struct conv_shape s = { .n = size(3), .h = size(40), .w = size(40), .c = size(200), .o = size(100) };
        s.kh = three ? 3 : (int)random_int(1, 6);
        s.kw = three ? 3 : (int)random_int(1, 6);
        s.stride = three && random_int(0, 3) ? 1 : (int)random_int(1, 3);
        s.top = (int)random_int(-1, 3);
        s.bottom = (int)random_int(-1, 3);
        s.left = (int)random_int(-1, 3);
        s.right = (int)random_int(-1, 3);
        if (three && random_int(0, 1)) s.top = s.bottom = s.left = s.right = 1;
        while (s.h + s.top + s.bottom < s.kh) s.h++;
        while (s.w + s.left + s.right < s.kw) s.w++;
        while (s.n * s.h * s.w * s.c * s.o * s.kh * s.kw > 6000000 && (s.c > 1 || s.o > 1)) {
            s.c = (s.c + 1) / 2;
            s.o = (s.o + 1) / 2;
        }
        weft_dtype type = floats[random_int(0, 2) ? 0 : random_int(0, 5)];
        weft_dtype wtype = type == WEFT_F64 ? type : floats[random_int(0, 4)];
        int has = (int)random_int(0, 15), exact = (int)random_int(0, 1);
        if (!fast_takes(WEFT_KERNEL_conv2d, type)) continue;
        struct kernel_case c = conv_case(&a, type, wtype, s, has, exact ? WEFT_PRECISION_EXACT : WEFT_PRECISION_FAST);
        c.hint = random_int(0, 3) == 0 ? -1 : random_int(0, 2) == 0 ? random_int(1, 1 << 20) : 0;
        snprintf(what, sizeof what,
                 "round %d: (%d,%d,%d,%d)→%d %d×%d stride %d pads t%d b%d l%d r%d %s, weights %s, has %d, %s, hint %d",
                 i, (int)s.n, (int)s.h, (int)s.w, (int)s.c, (int)s.o, s.kh, s.kw, s.stride, s.top, s.bottom, s.left,
                 s.right, weft_dtype_name(type), weft_dtype_name(wtype), has, exact ? "exact" : "fast", (int)c.hint);
        case_check(&c, what);
        buffers_free();
    }
}

TEST(random_attention) {
    for (int i = 0; i < rounds(250); i++) {
        start(3, i);
        weft_attention_args a;
        char what[160];
        int64_t batch = size(3), heads = size(4), tq = size(300), tk = size(300), d = size(170);
        int64_t gap = random_int(0, 1) * random_int(0, 20);
        while (batch * heads * tq * tk * d > 1500000 && (tq > 1 || tk > 1)) { tq = (tq + 1) / 2; tk = (tk + 1) / 2; }
        weft_dtype type = floats[random_int(0, 2) ? 0 : random_int(0, 5)];
        int causal = (int)random_int(0, 1);
        double sharp = random_int(0, 2) ? 1 : exp(6 * random_unit());
        if (!fast_takes(WEFT_KERNEL_attention, type)) continue;
        struct kernel_case c = attention_case(&a, type, batch, heads, tq, tk, d, causal, sharp, gap);
        c.hint = random_int(0, 3) == 0 ? -1 : random_int(0, 2) == 0 ? random_int(1, 1 << 20) : 0;
        snprintf(what, sizeof what, "round %d: %d×%d heads, %d queries, %d keys, d %d, causal %d, sharp %g, gap %d %s",
                 i, (int)batch, (int)heads, (int)tq, (int)tk, (int)d, causal, sharp, (int)gap,
                 weft_dtype_name(type));
        case_check(&c, what);
        buffers_free();
    }
}

TEST(random_copy) {
    for (int i = 0; i < rounds(600); i++) {
        start(4, i);
        char what[160];
        int rank = (int)random_int(0, 6), from[6] = { 0, 1, 2, 3, 4, 5 };
        weft_copy_args a = { .src_type = (weft_dtype)random_int(0, WEFT_DTYPE_COUNT - 1),
                             .dst_type = (weft_dtype)random_int(0, WEFT_DTYPE_COUNT - 1), .rank = rank };
        if (!random_int(0, 2)) a.src_type = a.dst_type = WEFT_F32;
        int64_t count = 1, source = random_int(1, 2), before = 0;
        for (int d = 0; d < rank; d++) {
            int other = (int)random_int(d, rank - 1), t = from[d];
            from[d] = from[other];
            from[other] = t;
            a.shape[d] = size(rank > 3 ? 6 : 40);
        }
        for (int d = rank - 1; d >= 0; d--) {
            a.dst_stride[d] = count;
            count *= a.shape[d];
            if (random_int(0, 5) == 0) continue;            /* repeated: stride 0 */
            a.src_stride[from[d]] = source;
            source *= a.shape[from[d]];
            if (random_int(0, 5) == 0) {                    /* read backwards */
                before += a.src_stride[from[d]] * (a.shape[from[d]] - 1);
                a.src_stride[from[d]] = -a.src_stride[from[d]];
            }
        }
        if (!fast_takes(WEFT_KERNEL_copy, a.src_type)) continue;
        a.src = (const char *)random_values(a.src_type, source, 0, 300) + before * (int64_t)weft_dtype_size(a.src_type);
        struct kernel_case c = { .id = WEFT_KERNEL_copy, .args = &a, .out = &a.dst, .type = a.dst_type,
                                 .count = count };
        snprintf(what, sizeof what, "round %d: %s to %s, rank %d, %d values", i, weft_dtype_name(a.src_type),
                 weft_dtype_name(a.dst_type), rank, (int)count);
        case_check(&c, what);
        buffers_free();
    }
}

TEST(random_binary) {
    for (int i = 0; i < rounds(500); i++) {
        start(5, i);
        char what[128];
        weft_binary_args a = { .type = floats[random_int(0, 5)], .rank = (int)random_int(0, 6) };
        a.op = (weft_binary_op)random_int(0, WEFT_BINARY_COUNT - 1);
        int64_t count = 1, as = random_int(1, 2), bs = 1;
        for (int d = a.rank - 1; d >= 0; d--) {
            a.shape[d] = size(a.rank > 3 ? 6 : 50);
            count *= a.shape[d];
            if (random_int(0, 3)) { a.a_stride[d] = as; as *= a.shape[d]; }
            if (random_int(0, 3)) { a.b_stride[d] = bs; bs *= a.shape[d]; }
        }
        if (!fast_takes(WEFT_KERNEL_binary, a.type)) continue;
        a.a = random_values(a.type, as, 0, 1);
        a.b = random_values(a.type, bs, 5, 1);
        struct kernel_case c = { .id = WEFT_KERNEL_binary, .args = &a, .out = &a.y, .type = a.type, .count = count,
                                 .each = true, .tolerance = 1.3e-7 };
        snprintf(what, sizeof what, "round %d: op %d, rank %d, %d values of %s", i, a.op, a.rank, (int)count,
                 weft_dtype_name(a.type));
        case_check(&c, what);
        buffers_free();
    }
}

TEST(random_resample) {
    for (int i = 0; i < rounds(400); i++) {
        start(6, i);
        char what[128];
        weft_resample_args a = { .type = random_int(0, 4) ? WEFT_F32 : WEFT_F64,
                                 .mode = (weft_resample_mode)random_int(0, WEFT_RESAMPLE_COUNT - 1), .n = size(2),
                                 .h = size(60), .w = size(60),
                                 .c = size(9), .oh = size(60), .ow = size(60) };
        if (a.mode >= WEFT_PIL_BILINEAR && random_int(0, 1)) a.type = WEFT_U8;
        bool u8 = a.type == WEFT_U8;
        if (!fast_takes(WEFT_KERNEL_resample, a.type)) continue;
        a.x = random_values(a.type, a.n * a.h * a.w * a.c, u8 ? 128 : 0, u8 ? 80 : 1);
        struct kernel_case c = { .id = WEFT_KERNEL_resample, .args = &a, .out = &a.y, .type = a.type,
                                 .count = a.n * a.oh * a.ow * a.c };
        c.terms = 0.1;      /* a mean over many values is small */
        /* As in test_kernels_tables.c: f32 weights and sums, and source positions of up to 60. */
        c.tolerance = u8 || a.mode <= WEFT_NEAREST_EXACT ? 0 : a.type == WEFT_F64 ? 1e-12 : 4e-6;
        snprintf(what, sizeof what, "round %d: mode %d (%d,%d,%d,%d) to (%d,%d) %s", i, a.mode, (int)a.n, (int)a.h,
                 (int)a.w, (int)a.c, (int)a.oh, (int)a.ow, weft_dtype_name(a.type));
        case_check(&c, what);
        buffers_free();
    }
}

TEST(random_pad) {
    for (int i = 0; i < rounds(400); i++) {
        start(7, i);
        char what[128];
        weft_pad_args a = { .type = floats[random_int(0, 5)], .mode = (weft_pad_mode)random_int(0, WEFT_PAD_COUNT - 1),
                            .n = size(3), .h = size(20), .w = size(20), .c = size(40), .value = -1.5 };
        bool crops = a.mode == WEFT_PAD_CONSTANT, reflects = a.mode == WEFT_PAD_REFLECT;
        a.top = random_int(crops ? -a.h / 2 : 0, reflects ? a.h - 1 : 9);
        a.bottom = random_int(crops ? -a.h / 2 : 0, reflects ? a.h - 1 : 9);
        a.left = random_int(crops ? -a.w / 2 : 0, reflects ? a.w - 1 : 9);
        a.right = random_int(crops ? -a.w / 2 : 0, reflects ? a.w - 1 : 9);
        if (!fast_takes(WEFT_KERNEL_pad, a.type)) continue;
        a.x = random_values(a.type, a.n * a.h * a.w * a.c, 0, 1);
        struct kernel_case c = { .id = WEFT_KERNEL_pad, .args = &a, .out = &a.y, .type = a.type,
                                 .count = a.n * (a.h + a.top + a.bottom) * (a.w + a.left + a.right) * a.c };
        snprintf(what, sizeof what, "round %d: mode %d (%d,%d,%d,%d) t%d b%d l%d r%d %s", i, a.mode, (int)a.n,
                 (int)a.h, (int)a.w, (int)a.c, (int)a.top, (int)a.bottom, (int)a.left, (int)a.right,
                 weft_dtype_name(a.type));
        case_check(&c, what);
        buffers_free();
    }
}

TEST(random_norms) {
    for (int i = 0; i < rounds(200); i++) {
        start(8, i);
        char what[128];
        int64_t groups = size(32);
        weft_group_norm_args a = { .type = floats[random_int(0, 5)], .n = size(3), .pixels = size(500) + 1,
                                   .c = groups * size(40), .groups = groups, .eps = 1e-5,
                                   .act = (weft_activation)random_int(0, WEFT_ACT_COUNT - 1) };
        if (!fast_takes(WEFT_KERNEL_group_norm, a.type)) continue;
        double mean = random_int(0, 1) ? 0 : 100 * random_bell();
        a.x = random_values(a.type, a.n * a.pixels * a.c, mean, 1);
        a.gamma = random_values(a.type, a.c, 1, 1);
        a.beta = random_values(a.type, a.c, 0, 1);
        struct kernel_case c = { .id = WEFT_KERNEL_group_norm, .args = &a, .out = &a.y, .type = a.type,
                                 .count = a.n * a.pixels * a.c, .tolerance = 1e-6 + 2e-7 * fabs(mean), .terms = 1 };
        snprintf(what, sizeof what, "round %d: (%d,%d,%d), %d groups, mean %g, act %d, %s", i, (int)a.n, (int)a.pixels,
                 (int)a.c, (int)groups, mean, a.act, weft_dtype_name(a.type));
        case_check(&c, what);
        buffers_free();
    }
}

KERNEL_TEST_MAIN
