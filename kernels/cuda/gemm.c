/* pack and unpack, gemm, matmul.
 *
 * The packed form of weights is (n, taps, k), dense: cuBLASLt reads a linear layer's as it is (a transposed operand),
 * and cuDNN a convolution's (a filter in NHWC order).
 */
#include "kernels/cuda/products.h"

/* ---- packing ------------------------------------------------------------------------------------------------ */

static bool is_float(weft_dtype t) { return t == WEFT_F32 || t == WEFT_F16 || t == WEFT_BF16; }

size_t weft_cuda_pack_bytes(const weft_pack_args *a) {
    return (size_t)(a->n * a->taps * a->k) * weft_dtype_size(a->type);
}

int weft_cuda_pack(const weft_env *env, const weft_pack_args *a) {
    if (!is_float(a->type)) return WEFT_K_NO_TYPE;
    const weft_copy_args copy = { .src_type = a->type, .dst_type = a->type, .rank = 3, .shape = { a->n, a->taps, a->k },
                                  .src_stride = { a->stride_n, a->stride_tap, a->stride_k },
                                  .dst_stride = { a->taps * a->k, a->k, 1 }, .src = a->src, .dst = a->dst };
    return weft_cuda_copy(env, &copy);
}

int weft_cuda_unpack(const weft_env *env, const weft_pack_args *a) {
    if (!is_float(a->type)) return WEFT_K_NO_TYPE;
    const weft_copy_args copy = { .src_type = a->type, .dst_type = a->type, .rank = 3, .shape = { a->n, a->taps, a->k },
                                  .src_stride = { a->taps * a->k, a->k, 1 },
                                  .dst_stride = { a->stride_n, a->stride_tap, a->stride_k }, .src = a->src,
                                  .dst = a->dst };
    return weft_cuda_copy(env, &copy);
}

/* ---- products ----------------------------------------------------------------------------------------------- */

int cuda_product_run(const weft_env *env, const char *who, const cuda_product *p) {
    if (p->batch < 1 || p->m < 1 || p->n < 1) return WEFT_K_OK;
    const int status = cuda_blas_product(env, who, p);
    return status == WEFT_K_NO_CASE ? cuda_tile_product(env, who, p) : status;
}

/* cuBLASLt's gelu is the tanh one; how exactly it computes it, 16 bits do not show. */
static bool blas_activates(const weft_env *env, const weft_gemm_args *a) {
    if (a->act == WEFT_ACT_NONE) return true;
    return a->act == WEFT_ACT_GELU_TANH && !a->residual && a->type != WEFT_F32 && env->precision == WEFT_PRECISION_FAST;
}

/* The whole gemm as one product: bias and residual are added to the f32 sums before these are rounded. cuBLASLt wants
 * its bias on 16 bytes: a slice of a larger tensor may not be. */
static bool is_one_product(const weft_env *env, const weft_gemm_args *a, const void *row) {
    return !row && blas_activates(env, a) && cuda_alignment(a->bias, 16) == 16;
}

/* The product in f32, then the rest. Where y itself can hold the sums it does, else scratch. */
static int in_two_steps(const weft_env *env, const char *who, const weft_gemm_args *a, cuda_product p, const void *row,
                        int64_t rows_per_row) {
    cuda_scratch sums = { 0 };
    int status = WEFT_K_OK;
    if (a->type != WEFT_F32 || a->residual == a->y) {
        if ((status = cuda_scratch_new(env, (size_t)a->m * (size_t)a->n * sizeof(float), &sums))) return status;
        p.d = sums.p;
        p.d_row = a->n;
    }
    p.d_type = WEFT_F32;
    status = cuda_product_run(env, who, &p);
    const cuda_tail tail = { .type = a->type, .d_type = WEFT_F32, .m = a->m, .n = a->n, .d = p.d, .d_row = p.d_row,
                             .bias = a->bias, .row = row, .rows_per_row = rows_per_row, .residual = a->residual,
                             .residual_row = a->ldr, .act = a->act, .y = a->y, .y_row = a->ldy };
    if (!status) status = cuda_tail_run(env, who, &tail);
    cuda_scratch_free(env, &sums);
    return status;
}

/* Types that differ meet in f32. */
int cuda_linear(const weft_env *env, const char *who, const weft_gemm_args *a, const void *row, int64_t rows_per_row) {
    cuda_product p = { .type = a->type, .d_type = a->type, .batch = 1, .m = a->m, .n = a->n, .k = a->k, .alpha = 1,
                       .a = a->x, .a_row = a->ldx, .a_col = 1, .b = a->w, .b_row = 1, .b_col = a->k, .d = a->y,
                       .d_row = a->ldy };
    cuda_scratch x = { 0 }, w = { 0 };
    int status = WEFT_K_OK;
    if (a->type != a->wtype) {
        p.type = WEFT_F32;
        status = cuda_to_f32(env, a->type, a->m, a->k, &p.a_row, &p.a, &x);
        if (!status) status = cuda_to_f32(env, a->wtype, a->n, a->k, &p.b_col, &p.b, &w);
    }
    if (!status && p.type == a->type && is_one_product(env, a, row)) {
        p.bias = a->bias;
        p.c = a->residual;
        p.c_row = a->ldr;
        p.act = a->act;
        status = cuda_product_run(env, who, &p);
    } else if (!status) {
        status = in_two_steps(env, who, a, p, row, rows_per_row);
    }
    cuda_scratch_free(env, &w);
    cuda_scratch_free(env, &x);
    return status;
}

int weft_cuda_gemm(const weft_env *env, const weft_gemm_args *a) {
    if (!is_float(a->type) || !is_float(a->wtype)) return WEFT_K_NO_TYPE;
    if ((unsigned)a->act >= WEFT_ACT_COUNT) return WEFT_K_NO_CASE;
    if (a->m < 1 || a->n < 1) return WEFT_K_OK;
    return cuda_linear(env, "gemm", a, NULL, 1);
}

int weft_cuda_matmul(const weft_env *env, const weft_matmul_args *a) {
    if (!is_float(a->type)) return WEFT_K_NO_TYPE;
    const cuda_product p = { .type = a->type, .d_type = a->type, .batch = a->batch, .m = a->m, .n = a->n, .k = a->k,
                             .a = a->a, .a_batch = a->a_batch, .a_row = a->a_row, .a_col = a->a_col,
                             .b = a->b, .b_batch = a->b_batch, .b_row = a->b_row, .b_col = a->b_col,
                             .c = a->accumulate ? a->c : NULL, .c_batch = a->c_batch, .c_row = a->ldc,
                             .d = a->c, .d_batch = a->c_batch, .d_row = a->ldc, .alpha = a->alpha };
    return cuda_product_run(env, "matmul", &p);
}
