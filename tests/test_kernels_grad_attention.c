/* The gradient of attention against the naive one: sizes, causal masks, gaps between tokens, sharp softmaxes, types; and lse. */
#include "tests/kernel_products.h"

static const weft_dtype floats[] = { WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64 };

/* Every second case of 16-bit values as an allocator gives them: rows of whole 16-byte units may be read in these. */
static void attention(weft_dtype type, int64_t batch, int64_t heads, int64_t tq, int64_t tk, int64_t d, int causal, double sharp,
                      int64_t gap) {
    if (!fast_takes(WEFT_KERNEL_attention_grad, type)) return;
    for (int which = 0; which < 3; which++) {
        weft_attention_grad_args a;
        char what[160];
        const bool alone = (tq + tk + which) % 3 == 0;
        random_state = (uint64_t)(batch * 3 + heads * 31 + tq * 1000003 + tk * 10007 + d * 101);
        values_off = weft_dtype_size(type) != 2 || (tq + tk + which) % 2 == 0;
        struct kernel_case c = attention_grad_case(&a, type, batch, heads, tq, tk, d, causal, sharp, gap, which, alone);
        snprintf(what, sizeof what, "%s: %d×%d heads, %d queries, %d keys, d %d, causal %d, sharp %g, gap %d, alone %d, %s",
                 which == 0 ? "dq" : which == 1 ? "dk" : "dv", (int)batch, (int)heads, (int)tq, (int)tk, (int)d, causal, sharp, (int)gap,
                 alone, weft_dtype_name(type));
        const void *want = case_want(&c, what);
        for (int i = 0; i < HINTS && want; i++) {
            c.hint = -i;
            case_check_against(&c, want, what);
        }
        buffers_free();
    }
    values_off = 1;
}

TEST(attention_grad_sizes) {
    static const int64_t tokens[] = { 1, 2, 3, 7, 8, 15, 16, 17, 33, 64, 77, 130 };
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        for (size_t j = 0; j < sizeof tokens / sizeof *tokens; j++)
            if (!emulated() || (i + j) % 3 == 0)
                attention(WEFT_F32, 1 + (int64_t)(i + j) % 3, 1 + (int64_t)i % 3, tokens[i], tokens[j],
                          1 + (int64_t)(i * 5 + j * 3) % 20, 0, 1, (int64_t)(i + j) % 2 * 5);
}

TEST(attention_grad_widths) {
    for (int64_t d = 1; d <= 50; d++) attention(WEFT_F32, 1, 2, 5, 19, d, d % 2, 1, 0);
    attention(WEFT_F32, 1, 2, 20, 40, 64, 0, 1, 0);
    attention(WEFT_F32, 1, 1, 20, 40, 80, 0, 1, 3);
    attention(WEFT_F32, 2, 1, 9, 33, 128, 1, 1, 0);
    attention(WEFT_F32, 1, 2, 17, 20, 160, 0, 1, 0);
    attention(WEFT_F32, 1, 1, 10, 20, 512, 0, 1, 0);
    attention(WEFT_F32, 1, 1, 3, 5, 1031, 0, 1, 0);
}

/* Fewer keys than queries: the first rows see none, and give nothing. */
TEST(attention_grad_causal) {
    static const int64_t tokens[] = { 1, 2, 5, 16, 17, 33, 77, 129 };
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        for (size_t j = 0; j < sizeof tokens / sizeof *tokens; j++) attention(WEFT_F32, 1, 2, tokens[i], tokens[j], 9, 1, 1, 0);
    attention(WEFT_F32, 1, 3, 77, 77, 64, 1, 2, 0);
    attention(WEFT_F32, 1, 1, 300, 300, 16, 1, 2, 0);
}

/* Several chunks of keys: one after the other where there is little scratch or there are many heads, else side by side. */
TEST(attention_grad_long) {
    attention(WEFT_F32, 1, 1, 70, shorter(2100), 40, 0, 1, 0);
    attention(WEFT_F32, 1, 1, shorter(1025), 77, 40, 0, 1, 0);
    attention(WEFT_F32, 2, 5, 30, shorter(1100), 33, 0, 1, 4);
    attention(WEFT_F32, 1, 1, 60, shorter(700), 300, 1, 1, 0);
    attention(WEFT_F32, 1, 2, shorter(1100), shorter(1100), 8, 1, 1, 0);
}

/* Scores up to several hundred: p is 0 or 1 but for few, and lse's rounding counts. */
TEST(attention_grad_sharp) {
    for (double sharp = 10; sharp <= 100; sharp *= 10) {
        attention(WEFT_F32, 1, 2, 19, 150, 16, 0, sharp, 0);
        attention(WEFT_F32, 1, 1, 40, 40, 33, 1, sharp, 0);
    }
}

TEST(attention_grad_types) {
    for (int t = 0; t < 4; t++) {
        attention(floats[t], 2, 3, 21, 35, 16, 0, 1, 0);
        attention(floats[t], 1, 2, 21, 21, 13, 1, 2, 3);
        attention(floats[t], 1, 1, 1, 77, 40, 0, 1, 0);
    }
}

/* As attention_half_widths and attention_half_sizes, for the forward. */
TEST(attention_grad_half_widths) {
    static const int64_t widths[] = { 1, 8, 40, 49, 64, 72, 96, 128, 130, 160, 161, 264 };
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        attention(floats[1 + i % 2], 1, 2, 20, 35, widths[i], i % 3 == 2, 1, i % 4 == 1 ? 8 : i % 4 == 2 ? 3 : 0);
}
TEST(attention_grad_half_sizes) {
    static const int64_t tokens[] = { 1, 131 };
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            attention(floats[1 + (i + j) % 2], 2, 1, tokens[i], tokens[j], i ? 40 : 88, j, 1, 0);
    attention(WEFT_BF16, 1, 1, 77, 64, 40, 1, 1, 0);
    attention(WEFT_F16, 1, 1, 64, 77, 72, 0, 1, 3);
    attention(WEFT_F16, 1, 1, 77, 77, 160, 1, 1, 0);
    attention(WEFT_F16, 1, 2, 140, 40, 40, 1, 1, 0);        /* a whole block of queries that see no key */
}

TEST(attention_grad_of_nothing) {
    attention(WEFT_F32, 0, 2, 5, 5, 8, 0, 1, 0);
    attention(WEFT_F32, 1, 2, 0, 5, 8, 0, 1, 0);
    attention(WEFT_F32, 1, 2, 5, 0, 8, 0, 1, 0);
    attention(WEFT_F32, 1, 2, 5, 0, 8, 1, 1, 0);
}

/* Heads before tokens; keys and values shared by all heads, whose gradients are each head's own. */
TEST(attention_grad_strides) {
    const int64_t batch = 2, heads = 3, tq = 18, tk = 20, d = 11;
    for (int which = 0; which < 3; which++) {
        weft_attention_grad_args a;
        struct kernel_case c = attention_grad_case(&a, WEFT_F32, batch, heads, tq, tk, d, 0, 1, 0, which, false);
        a.q_token = a.o_token = a.dq_token = d;
        a.q_head = a.o_head = a.dq_head = tq * d;
        a.k_token = a.dk_token = d;
        a.k_head = a.dk_head = tk * d;
        case_check(&c, "heads before tokens");
        a.k_head = a.v_head = a.k_batch = a.v_batch = 0;
        case_check(&c, "keys and values shared");
        buffers_free();
    }
}

/* lse beside o; a row without keys has −∞. It is f64 beside 16-bit values. */
TEST(attention_lse) {
    for (int t = 0; t < 3; t++)
        for (int causal = 0; causal < 2; causal++)
            for (int64_t tk = 0; tk < 200; tk = tk * 3 + 5) {
                if (!fast_takes(WEFT_KERNEL_attention, floats[t])) continue;
                weft_attention_args a;
                struct kernel_case c = attention_case(&a, floats[t], 2, 3, 37, tk, tk == 20 ? 170 : 9, causal, 3, 1);
                a.o = buffer_new(bytes_of(a.type, c.count), 0, 0);
                c.out = &a.lse;
                c.type = t ? WEFT_F64 : WEFT_F32;
                c.count = 2 * 3 * 37;
                c.before = NULL;
                c.each = true;
                c.tolerance = c.floor = 2e-6;       /* scores of up to 15 in f32 */
                case_check(&c, "lse");
                buffers_free();
            }
}

KERNEL_TEST_MAIN
