/* copy: any strides to any strides, any type to any type.
 *
 * The dimensions may be walked in any order: they are sorted so that dst's smallest stride comes last, and joined.
 * Then a piece is rows that follow one another on both sides (memcpy, or one conversion a row), or a turned-over
 * rectangle, where src's neighbours are dst's rows (NCHW ↔ NHWC: in squares held in registers), or lies anyhow: line
 * by line.
 */
#include <stdlib.h>
#include "kernels/cpu/convert.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/transpose.h"
#include "kernels/cpu/walk.h"

#define PIECE 16384         /* elements of one piece */
#define LINE 512            /* elements that go through a buffer at once */
#define SQUARE 64           /* a turned-over piece is about SQUARE × SQUARE */

/* Elements move as unsigned integers of their size, whatever they are. */
#define EACH_SIZE(size, DO) switch (size) { \
    case 1: DO(uint8_t); break; \
    case 2: DO(any16); break; \
    case 4: DO(any32); break; \
    default: DO(any64); break; }

static void gather(void *dst, const void *src, int64_t stride, size_t size, int64_t n) {
#define DO(T) for (int64_t i = 0; i < n; i++) ((T *)dst)[i] = ((const T *)src)[i * stride]
    EACH_SIZE(size, DO)
#undef DO
}

static void scatter(void *dst, int64_t stride, const void *src, size_t size, int64_t n) {
#define DO(T) for (int64_t i = 0; i < n; i++) ((T *)dst)[i * stride] = ((const T *)src)[i]
    EACH_SIZE(size, DO)
#undef DO
}

/* dst(r, c) = src(c, r); ld in elements. */
static void turn(void *dst, int64_t ldd, const void *src, int64_t lds, size_t size, int64_t rows, int64_t columns) {
    int64_t r = 0;
    if (size == 4)
        for (; r + VL <= rows; r += VL) {
            int64_t c = 0;
            for (; c + VL <= columns; c += VL) {
                vf t[VL];
                UNROLL
                for (int i = 0; i < VL; i++) t[i] = vf_load((const float *)src + (c + i) * lds + r);
                vf_transpose(t);
                UNROLL
                for (int i = 0; i < VL; i++) vf_store((float *)dst + (r + i) * ldd + c, t[i]);
            }
            for (; c < columns; c++)
                for (int i = 0; i < VL; i++)
                    ((any32 *)dst)[(r + i) * ldd + c] = ((const any32 *)src)[c * lds + r + i];
        }
#define DO(T) \
    for (; r < rows; r++) \
        for (int64_t c = 0; c < columns; c++) ((T *)dst)[r * ldd + c] = ((const T *)src)[c * lds + r]
    EACH_SIZE(size, DO)
#undef DO
}

/* One row that lies anyhow. */
static void copy_line(const weft_copy_args *a, char *dst, int64_t d_stride, const char *src, int64_t s_stride,
                      int64_t n) {
    const size_t d_size = weft_dtype_size(a->dst_type), s_size = weft_dtype_size(a->src_type);
    uint64_t from[LINE], to[LINE];
    for (int64_t i = 0; i < n; i += LINE) {
        const int64_t count = MIN(LINE, n - i);
        gather(from, src + i * s_stride * (int64_t)s_size, s_stride, s_size, count);
        if (a->src_type != a->dst_type) ISA_NAME(convert_row)(a->dst_type, to, a->src_type, from, count);
        scatter(dst + i * d_stride * (int64_t)d_size, d_stride, a->src_type != a->dst_type ? to : from, d_size, count);
    }
}

/* Rows of dst are columns of src: `row` is src's stride of 1, `ldd` and `lds` the other two. */
static void turn_piece(const weft_copy_args *a, char *dst, int64_t ldd, const char *src, int64_t lds,
                       const struct piece *p) {
    const size_t d_size = weft_dtype_size(a->dst_type), s_size = weft_dtype_size(a->src_type);
    if (a->src_type == a->dst_type) {
        turn(dst, ldd, src, lds, d_size, p->rows, p->columns);
        return;
    }
    uint64_t line[LINE];
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; c < p->columns; c += LINE) {
            const int64_t count = MIN(LINE, p->columns - c);
            gather(line, src + (c * lds + r) * (int64_t)s_size, lds, s_size, count);
            ISA_NAME(convert_row)(a->dst_type, dst + (r * ldd + c) * (int64_t)d_size, a->src_type, line, count);
        }
}

static void copy_piece(const weft_copy_args *a, const struct walk *w, int64_t i) {
    const struct piece p = walk_piece(w, i);
    const int64_t d_size = (int64_t)weft_dtype_size(a->dst_type), s_size = (int64_t)weft_dtype_size(a->src_type);
    const int64_t *d = w->stride[0] + w->rank - 2, *s = w->stride[1] + w->rank - 2;      /* of rows, of columns */
    char *dst = (char *)a->dst + p.at[0] * d_size;
    const char *src = (const char *)a->src + p.at[1] * s_size;
    if (s[0] == 1 && d[1] == 1 && s[1] != 1) {
        turn_piece(a, dst, d[0], src, s[1], &p);
        return;
    }
    for (int64_t r = 0; r < p.rows; r++, dst += d[0] * d_size, src += s[0] * s_size) {
        if (d[1] == 1 && s[1] == 1) ISA_NAME(convert_row)(a->dst_type, dst, a->src_type, src, p.columns);
        else copy_line(a, dst, d[1], src, s[1], p.columns);
    }
}

static void swap_dims(struct walk *w, int d, int e) {
    int64_t t = w->shape[d];
    w->shape[d] = w->shape[e];
    w->shape[e] = t;
    for (int k = 0; k < 2; k++) {
        t = w->stride[k][d];
        w->stride[k][d] = w->stride[k][e];
        w->stride[k][e] = t;
    }
}

int ISA_NAME(copy)(const weft_env *env, const weft_copy_args *a) {
    if (!is_type(a->src_type) || !is_type(a->dst_type)) return WEFT_K_NO_TYPE;
    const int64_t count = walk_count(a->rank, a->shape);
    if (count < 0) return WEFT_K_NO_CASE;
    if (count == 0) return WEFT_K_OK;
    struct walk w = { .rank = a->rank };
    for (int d = 0; d < a->rank; d++) {
        w.shape[d] = a->shape[d];
        w.stride[0][d] = a->dst_stride[d];
        w.stride[1][d] = a->src_stride[d];
        for (int e = d; e > 0 && llabs(w.stride[0][e - 1]) < llabs(w.stride[0][e]); e--) swap_dims(&w, e - 1, e);
    }
    walk_simplify(&w);
    const int last = w.rank - 1;
    bool turned = false;
    for (int d = 0; w.stride[0][last] == 1 && w.stride[1][last] != 1 && d < last && !turned; d++)
        if (w.stride[1][d] == 1 && w.shape[d] > 1) {
            for (int e = d; e < last - 1; e++) swap_dims(&w, e, e + 1);
            turned = true;
        }
    if (turned) walk_cut(&w, MAX(SQUARE, SQUARE * SQUARE / w.shape[last - 1]), SQUARE * SQUARE);
    else walk_cut(&w, PIECE, PIECE);
#pragma omp parallel for num_threads(threads_for(env, (double)count))
    for (int64_t i = 0; i < w.pieces; i++) copy_piece(a, &w, i);
    return WEFT_K_OK;
}
