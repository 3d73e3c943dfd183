/* Attention against the naive one: sizes, causal masks, gaps between tokens, sharp softmaxes, types. */
#include "tests/kernel_products.h"

static const weft_dtype floats[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };

static void attention_at(weft_dtype type, int64_t batch, int64_t heads, int64_t tq, int64_t tk, int64_t d, int causal,
                         double sharp, int64_t gap) {
    weft_attention_args a;
    char what[160];
    random_state = (uint64_t)(batch * 3 + heads * 31 + tq * 1000003 + tk * 10007 + d * 101);
    struct kernel_case c = attention_case(&a, type, batch, heads, tq, tk, d, causal, sharp, gap);
    snprintf(what, sizeof what, "%d×%d heads, %d queries, %d keys, d %d, causal %d, sharp %g, gap %d, off %d, %s", (int)batch,
             (int)heads, (int)tq, (int)tk, (int)d, causal, sharp,
             (int)gap, values_off, weft_dtype_name(type));
    const void *want = case_want(&c, what);
    for (int i = 0; i < HINTS && want; i++) {
        c.hint = -i;
        case_check_against(&c, want, what);
    }
    buffers_free();
}

/* Rows of whole 16-byte units also as an allocator gives them: they may be read in these. */
static void attention(weft_dtype type, int64_t batch, int64_t heads, int64_t tq, int64_t tk, int64_t d, int causal,
                      double sharp, int64_t gap) {
    if (!fast_takes(WEFT_KERNEL_attention, type)) return;
    const bool wide = weft_dtype_size(type) == 2 && d % 8 == 0 && gap % 8 == 0;
    EACH_ALIGNMENT
        if (wide || values_off) attention_at(type, batch, heads, tq, tk, d, causal, sharp, gap);
}

TEST(attention_sizes) {
    static const int64_t tokens[] = { 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 77, 130 };
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        for (size_t j = 0; j < sizeof tokens / sizeof *tokens; j++)
            attention(WEFT_F32, 1 + (int64_t)(i + j) % 3, 1 + (int64_t)i % 3, tokens[i], tokens[j],
                      1 + (int64_t)(i * 5 + j * 3) % 20, 0, 1, (int64_t)(i + j) % 2 * 5);
}

TEST(attention_widths) {
    for (int64_t d = 1; d <= 50; d++) attention(WEFT_F32, 1, 2, 5, 19, d, d % 2, 1, 0);
    attention(WEFT_F32, 1, 2, 20, 40, 64, 0, 1, 0);
    attention(WEFT_F32, 1, 1, 20, 40, 80, 0, 1, 3);
    attention(WEFT_F32, 2, 1, 9, 33, 128, 1, 1, 0);
    attention(WEFT_F32, 1, 2, 17, 20, 160, 0, 1, 0);
    attention(WEFT_F32, 1, 1, 10, 20, 512, 0, 1, 0);     /* the autoencoder's single head */
    attention(WEFT_F32, 1, 1, 3, 5, 1031, 0, 1, 0);
}

/* Fewer keys than queries: the first rows see none and give zeros. */
TEST(attention_causal) {
    static const int64_t tokens[] = { 1, 2, 5, 8, 16, 17, 33, 77, 129 };
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        for (size_t j = 0; j < sizeof tokens / sizeof *tokens; j++)
            attention(WEFT_F32, 1, 2, tokens[i], tokens[j], 9, 1, 1, 0);
    attention(WEFT_F32, 1, 3, 77, 77, 64, 1, 2, 0);
    attention(WEFT_F32, 1, 1, 300, 300, 16, 1, 2, 0);
}

TEST(attention_long) {
    attention(WEFT_F32, 1, 1, 70, 1025, 40, 0, 1, 0);
    attention(WEFT_F32, 1, 1, shorter(1025), 77, 40, 0, 1, 0);
    attention(WEFT_F32, 1, 2, shorter(500), 501, 8, 0, 3, 0);
}

/* Scores up to several hundred: the largest has to be taken off before the exponential, block by block. */
TEST(attention_sharp) {
    for (double sharp = 10; sharp <= 1000; sharp *= 10) {
        attention(WEFT_F32, 1, 2, 19, 150, 16, 0, sharp, 0);
        attention(WEFT_F32, 1, 1, 40, 40, 33, 1, sharp, 0);
    }
}

/* Scores that rise, fall and jump along the keys, so that the running largest changes in every block, or never. */
TEST(attention_running_largest) {
    for (int slope = -2; slope <= 2; slope++) {
        weft_attention_args a;
        struct kernel_case c = attention_case(&a, WEFT_F32, 1, 1, 9, 200, 8, 0, 1, 0);
        float *q = (float *)a.q, *k = (float *)a.k;
        for (int i = 0; i < 9; i++)
            for (int x = 0; x < 8; x++) q[i * 8 + x] = x == 0 ? 1 : 0;
        for (int j = 0; j < 200; j++) k[j * 8] = (float)(slope == 2 ? (j == 150 ? 3000 : -3000) : slope * j * 3);
        c.tolerance = 1e-5;     /* scores of about 200 to 1000, in f32, and an exponential of their differences */
        case_check(&c, "scores in a slope");
        buffers_free();
    }
}

TEST(attention_types) {
    for (int t = 0; t < 4; t++) {
        attention(floats[t], 2, 3, 21, 35, 16, 0, 1, 0);
        attention(floats[t], 1, 2, 21, 21, 13, 1, 2, 3);
        attention(floats[t], 1, 1, 1, 77, 40, 0, 1, 0);
    }
}

/* 16-bit values, whose products tensor cores make: heads of every width that has a kernel and of some between, tokens
 * around the sizes of blocks, with and without room between rows. */
TEST(attention_half_widths) {
    static const int64_t widths[] = { 1, 8, 40, 48, 49, 64, 72, 80, 96, 128, 130, 160, 161, 256, 264, 512 };
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        attention(floats[1 + i % 2], 1, 2, 20, 35, widths[i], i % 3 == 2, 1, i % 4 == 1 ? 8 : i % 4 == 2 ? 3 : 0);
        attention(floats[2 - i % 2], 1, 1, 3, 66, widths[i], 0, 1, 0);
    }
}
TEST(attention_half_sizes) {
    static const int64_t tokens[] = { 1, 65, 131 };
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        for (size_t j = 0; j < sizeof tokens / sizeof *tokens; j++)
            attention(floats[1 + (i + j) % 2], 1 + (int64_t)(i + j) % 3, 1, tokens[i], tokens[j], i % 3 ? 40 : 88,
                      j % 3 == 1, 1, 0);
    for (int causal = 0; causal < 2; causal++) {
        attention(floats[1 + causal], 1, 1, 200, 150, 64, causal, 1, 8);
        attention(floats[2 - causal], 1, 1, 70, 100, 200, causal, 1, 0);
        attention(floats[2 - causal], 1, 1, 77, 77, 64, causal, 2, 0);
        attention(floats[1 + causal], 1, 1, 100, 170, 160, causal, 1, 5);
        /* enough of them that a warp takes more queries */
        attention(floats[1 + causal], 2, 2, 131, 70, 80, causal, 1, 0);
        attention(floats[2 - causal], 1, 4, 100, 130, 64, causal, 1, 3);
    }
}

/* Keys and values are the second and third third of the rows whose first third are the queries. */
static void of_one_tensor(weft_dtype type, int64_t d) {
    const int64_t batch = 3, heads = 2, tokens = 77, row = 3 * heads * d;
    const int64_t part = heads * d * (int64_t)weft_dtype_size(type);
    weft_attention_args a;
    if (!fast_takes(WEFT_KERNEL_attention, type)) return;
    struct kernel_case c = attention_case(&a, type, batch, heads, tokens, tokens, d, d == 64, 1, 0);
    a.q_token = a.k_token = a.v_token = row;
    a.q_batch = a.k_batch = a.v_batch = tokens * row;
    a.q = random_values(type, batch * tokens * row, 0, 1);
    a.k = (const char *)a.q + part;
    a.v = (const char *)a.q + 2 * part;
    case_check(&c, "one tensor");
    buffers_free();
}
TEST(attention_of_one_tensor) {
    for (int t = 0; t < 3; t++)
        EACH_ALIGNMENT {
            of_one_tensor(floats[t], 39);
            of_one_tensor(floats[t], 40);
            of_one_tensor(floats[t], 64);
        }
}

/* Heads before tokens (B,heads,T,d); keys and values shared by all heads and by the batch. */
TEST(attention_strides) {
    const int64_t batch = 2, heads = 3, tq = 18, tk = 20, d = 11;
    weft_attention_args a;
    struct kernel_case c = attention_case(&a, WEFT_F32, batch, heads, tq, tk, d, 0, 1, 0);
    a.q_token = a.o_token = d;
    a.q_head = a.o_head = tq * d;
    a.k_token = d;
    a.k_head = tk * d;
    case_check(&c, "heads before tokens");
    a.k_head = a.v_head = 0;
    a.k_batch = a.v_batch = 0;
    case_check(&c, "keys and values shared");
    buffers_free();
}

/* Infinities and NaN where a model that went wrong has them: they come out where PyTorch has them, and nowhere else. */
TEST(attention_special) {
    for (int t = 0; t < 3; t++)
        for (int where = 0; where < 6; where++) {
            if (!fast_takes(WEFT_KERNEL_attention, floats[t])) continue;
            weft_attention_args a;
            struct kernel_case c = attention_case(&a, floats[t], 1, 2, 21, 150, 8, 0, 1, 0);
            void *q = (void *)a.q, *k = (void *)a.k, *v = (void *)a.v;
            if (where == 0) ref_put(floats[t], q, 3 * 16 + 2, NAN);
            if (where == 1) ref_put(floats[t], k, 140 * 16 + 5, NAN);
            if (where == 2) ref_put(floats[t], v, 7 * 16 + 5, NAN);
            if (where == 3) ref_put(floats[t], v, 7 * 16 + 5, INFINITY);
            if (where == 4) ref_put(floats[t], q, 20 * 16, INFINITY);
            if (where == 5) a.scale = 0;
            case_check(&c, "special values");
            a.scale = -a.scale;
            case_check(&c, "special values, negative scale");
            buffers_free();
        }
}

TEST(attention_of_nothing) {
    attention(WEFT_F32, 0, 2, 5, 5, 8, 0, 1, 0);
    attention(WEFT_F32, 1, 2, 0, 5, 8, 0, 1, 0);
    attention(WEFT_F32, 1, 2, 5, 0, 8, 0, 1, 0);         /* no key at all: zeros */
    attention(WEFT_F32, 1, 2, 5, 0, 8, 1, 1, 0);
}

KERNEL_TEST_MAIN
