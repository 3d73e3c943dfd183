/* Products and convolutions: cuBLASLt's and cuDNN's where they have an algorithm, our own tiles where they have none.
 *
 * Whoever asks gets WEFT_K_NO_CASE from a library that cannot do a case, and then asks for our own, which does every
 * one. What a library was found to do best is kept as a plan, by everything that it depends on; so is that it can do
 * nothing.
 */
#ifndef WEFT_CUDA_PRODUCTS_H
#define WEFT_CUDA_PRODUCTS_H

#include "kernels/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- products ----------------------------------------------------------------------------------------------- */

/* d(m,n) = act(alpha·a(m,k)·b(k,n) + c(m,n) + bias(n)), for each of `batch`. */
typedef struct cuda_product {
    weft_dtype type, d_type;            /* of a and b; of c, bias and d: `type` or f32 */
    int64_t batch, m, n, k;
    const void *a; int64_t a_batch, a_row, a_col;       /* strides in elements */
    const void *b; int64_t b_batch, b_row, b_col;
    const void *c; int64_t c_batch, c_row;              /* or NULL; may be d where the strides are d's */
    const void *bias;                                   /* or NULL */
    void *d;       int64_t d_batch, d_row;
    weft_activation act;
    double alpha;
} cuda_product;

/* `who` names the kernel in messages. */
int cuda_product_run(const weft_env *env, const char *who, const cuda_product *p);
int cuda_blas_product(const weft_env *env, const char *who, const cuda_product *p); /* blas.c; may be WEFT_K_NO_CASE */
int cuda_tile_product(const weft_env *env, const char *who, const cuda_product *p);     /* tiles.cu */

/* gemm with row(m/rows_per_row, n) added behind, or NULL. */
int cuda_linear(const weft_env *env, const char *who, const weft_gemm_args *a, const void *row, int64_t rows_per_row);

/* What is behind a product that a library could not add itself:
 * y(m,n) = act(d(m,n) + bias(n)) + row(m/rows_per_row, n) + residual(m,n). y may be d, or residual. */
typedef struct cuda_tail {
    weft_dtype type, d_type;            /* of all but d; of d: `type` or f32 */
    int64_t m, n;
    const void *d; int64_t d_row;
    const void *bias;                   /* or NULL, like row and residual */
    const void *row; int64_t rows_per_row;
    const void *residual; int64_t residual_row;
    weft_activation act;
    void *y; int64_t y_row;
} cuda_tail;
int cuda_tail_run(const weft_env *env, const char *who, const cuda_tail *t);            /* tail.cu */

/* ---- convolutions ------------------------------------------------------------------------------------------- */

/* A convolution of x(n,h,w,c) with w(o,kh,kw,c) to y(n,oh,ow,o), or a gradient of it: x or w is the result then, and
 * y's gradient stands in y's place. All of one type. */
typedef enum cuda_conv_kind { CUDA_CONV_FORWARD, CUDA_CONV_GRAD_INPUT, CUDA_CONV_GRAD_WEIGHT } cuda_conv_kind;
typedef struct cuda_conv {
    cuda_conv_kind kind;
    weft_dtype type;
    int64_t n, h, w, c, o, oh, ow;
    int kh, kw, stride, pad_top, pad_left;
    const void *x, *weight, *y;         /* the result is written through a cast */
    const void *bias, *residual;        /* forward: o; like y, and not y itself; or NULL. A residual needs a bias. */
} cuda_conv;

/* dnn.c. WEFT_K_NO_CASE where cuDNN has no engine; then nothing was done. */
int cuda_dnn_conv(const weft_env *env, const char *who, const cuda_conv *c);
/* Whether it has one; with only sizes and addresses' alignments given (NULL: aligned). */
int cuda_dnn_can(const weft_env *env, const char *who, const cuda_conv *c);

/* tiles.cu. forward: y = conv(x) + bias + row + residual; of weights as they are packed. */
int cuda_tile_conv(const weft_env *env, const char *who, const weft_conv2d_args *a);
int cuda_tile_conv_grad_input(const weft_env *env, const char *who, const weft_conv2d_grad_input_args *a);
int cuda_tile_conv_grad_weight(const weft_env *env, const char *who, const weft_conv2d_grad_weight_args *a);

/* ---- plans -------------------------------------------------------------------------------------------------- */

enum { CUDA_MOST_PLANS = 512, CUDA_KEY_NUMBERS = 32 };

/* Everything that a plan depends on. */
typedef struct cuda_plan_key { int64_t v[CUDA_KEY_NUMBERS]; int count; } cuda_plan_key;
void cuda_key_add(cuda_plan_key *key, int64_t v);

/* Up to CUDA_MOST_PLANS of them; the one that was used longest ago makes room. */
typedef struct cuda_plans {
    void (*drop)(void *plan);
    int count;
    uint64_t clock, hash[CUDA_MOST_PLANS], used[CUDA_MOST_PLANS];
    cuda_plan_key key[CUDA_MOST_PLANS];
    void *plan[CUDA_MOST_PLANS];
} cuda_plans;
void *cuda_plan_find(cuda_plans *p, const cuda_plan_key *key);                  /* NULL: there is none */
void cuda_plan_keep(cuda_plans *p, const cuda_plan_key *key, void *plan);
void cuda_plans_free(cuda_plans *p);
/* With WEFT_CUDA_PLANS=1 in the environment: tells a new plan on stderr, and what was timed. */
bool cuda_plans_are_told(void);
void cuda_plan_tell(const char *who, const cuda_plan_key *key, const char *what);

/* tune.c. How many algorithms of a library's a plan keeps to be timed. */
enum { CUDA_MOST_TRIALS = 8 };
/* Whether plans are to be timed now. */
bool cuda_tunes(const weft_env *env);
/* Asks for the work by way of algorithm i, from 0; WEFT_K_NO_CASE: that one cannot do it. */
typedef int cuda_trial(void *user, int i);
/* The one of `count` that is done first; `who` names the kernel where it is told. */
int cuda_fastest(const weft_env *env, const char *who, int count, cuda_trial *run, void *user, int *fastest);

/* The libraries' part of a queue, made when it is first needed. */
struct cuda_products {
    struct cuda_blas *blas;
    struct cuda_dnn *dnn;
};
int cuda_products_of(const weft_env *env, struct cuda_products **products);
void cuda_products_free(cuda_queue *q);
void cuda_blas_free(struct cuda_blas *b);
void cuda_dnn_free(struct cuda_dnn *d);

/* ---- scratch ------------------------------------------------------------------------------------------------ */

/* Scratch that is given back by cuda_scratch_free(); `p` on 256 bytes. A scratch of nothing is all zero. */
typedef struct cuda_scratch { void *p, *all; size_t bytes; } cuda_scratch;
int cuda_scratch_new(const weft_env *env, size_t bytes, cuda_scratch *s);
void cuda_scratch_free(const weft_env *env, cuda_scratch *s);
/* *x (rows of `columns`, `row` elements apart) becomes f32 in scratch, dense, unless it is f32. */
int cuda_to_f32(const weft_env *env, weft_dtype type, int64_t rows, int64_t columns, int64_t *row, const void **x,
                cuda_scratch *s);

/* What a library may take for itself: the hint, in steps of powers of two, so that plans do not change with every byte
 * of it. */
static inline size_t cuda_workspace_most(const weft_env *env) {
    size_t n = env->scratch_hint;
    while (n & (n - 1)) n &= n - 1;
    return n;
}

/* The largest power of two, up to `most`, that an address is a multiple of. */
static inline int cuda_alignment(const void *p, int most) {
    int n = 1;
    while (n < most && ((size_t)p & (size_t)n) == 0) n *= 2;
    return n;
}

#ifdef __cplusplus
}
#endif
#endif
