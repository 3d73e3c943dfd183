/* y = op(a, b) with operands repeated by strides. After walk.h has joined the dimensions, the columns of an operand
 * follow one another, or are one value, or (rarely) lie apart and are gathered first. min and max are NaN where an
 * operand is.
 */
#include "kernels/cpu/threads.h"
#include "kernels/cpu/walk.h"

#define COLUMNS 4096

INLINE vf binary(const weft_binary_op op, vf a, vf b) {
    switch (op) {
    case WEFT_BINARY_ADD: return a + b;
    case WEFT_BINARY_SUB: return a - b;
    case WEFT_BINARY_MUL: return a * b;
    case WEFT_BINARY_DIV: return a / b;
    case WEFT_BINARY_MIN: return vf_select((a < b) | (a != a), a, b);
    default: return vf_select((a > b) | (a != a), a, b);
    }
}

/* Strides are 1 or 0. */
INLINE void binary_row(const weft_binary_op op, const int a_stride, const int b_stride, const float *a, const float *b,
                       float *y, int64_t n) {
    const vf a0 = vf_set(*a), b0 = vf_set(*b);
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vf_store(y + i, binary(op, a_stride ? vf_load(a + i) : a0, b_stride ? vf_load(b + i) : b0));
    if (i < n) {
        vf p = a_stride ? vf_load_n(a + i, n - i) : a0, q = b_stride ? vf_load_n(b + i, n - i) : b0;
        vf_store_n(y + i, binary(op, p, q), n - i);
    }
}

static void run_row(weft_binary_op op, int64_t a_stride, int64_t b_stride, const float *a, const float *b, float *y,
                    int64_t n) {
    float a_line[COLUMNS], b_line[COLUMNS];
    if (a_stride != 0 && a_stride != 1) {
        for (int64_t i = 0; i < n; i++) a_line[i] = a[i * a_stride];
        a = a_line;
    }
    if (b_stride != 0 && b_stride != 1) {
        for (int64_t i = 0; i < n; i++) b_line[i] = b[i * b_stride];
        b = b_line;
    }
#define STRIDES(op) \
    if (!a_stride && !b_stride) binary_row(op, 0, 0, a, b, y, n); \
    else if (!a_stride) binary_row(op, 0, 1, a, b, y, n); \
    else if (!b_stride) binary_row(op, 1, 0, a, b, y, n); \
    else binary_row(op, 1, 1, a, b, y, n); \
    break
    switch (op) {
    case WEFT_BINARY_ADD: STRIDES(WEFT_BINARY_ADD);
    case WEFT_BINARY_SUB: STRIDES(WEFT_BINARY_SUB);
    case WEFT_BINARY_MUL: STRIDES(WEFT_BINARY_MUL);
    case WEFT_BINARY_DIV: STRIDES(WEFT_BINARY_DIV);
    case WEFT_BINARY_MIN: STRIDES(WEFT_BINARY_MIN);
    default: STRIDES(WEFT_BINARY_MAX);
    }
#undef STRIDES
}

int ISA_NAME(binary)(const weft_env *env, const weft_binary_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const int64_t count = walk_count(a->rank, a->shape);
    if (count < 0 || (unsigned)a->op >= WEFT_BINARY_COUNT) return WEFT_K_NO_CASE;
    if (count == 0) return WEFT_K_OK;
    struct walk w = { .rank = a->rank };
    int64_t dense = 1;
    for (int d = a->rank - 1; d >= 0; dense *= a->shape[d--]) {
        w.shape[d] = a->shape[d];
        w.stride[0][d] = dense;
        w.stride[1][d] = a->a_stride[d];
        w.stride[2][d] = a->b_stride[d];
    }
    walk_simplify(&w);
    walk_cut(&w, COLUMNS, 4 * COLUMNS);
    const int64_t *y = w.stride[0] + w.rank - 2, *p = w.stride[1] + w.rank - 2, *q = w.stride[2] + w.rank - 2;
#pragma omp parallel for num_threads(threads_for(env, (double)count))
    for (int64_t i = 0; i < w.pieces; i++) {
        const struct piece at = walk_piece(&w, i);
        for (int64_t r = 0; r < at.rows; r++)
            run_row(a->op, p[1], q[1], (const float *)a->a + at.at[1] + r * p[0],
                    (const float *)a->b + at.at[2] + r * q[0], (float *)a->y + at.at[0] + r * y[0], at.columns);
    }
    return WEFT_K_OK;
}
