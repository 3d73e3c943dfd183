/* Products by cuBLASLt.
 *
 * It knows matrices by columns. Rows of ours are its columns, so it is asked for dᵀ(n,m) = bᵀ·aᵀ: our b is its A, our a
 * its B. Algorithms are asked for once for a shape, with the addresses' alignments, and kept; sums are never split in a
 * way that rounds the parts to 16 bits. f32 is TF32 where the precision is fast.
 */
#include <cublasLt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "kernels/cuda/products.h"

struct cuda_blas { cublasLtHandle_t handle; cuda_plans plans; };

typedef struct blas_plan {
    bool usable;
    cublasLtMatmulDescOpaque_t how;
    cublasLtMatrixLayoutOpaque_t a, b, c, d;
    int count;                  /* of algorithms, the heuristic's best first */
    bool timed;                 /* the first one is the fastest */
    cublasLtMatmulAlgo_t algo[CUDA_MOST_TRIALS];
    size_t workspace[CUDA_MOST_TRIALS];
} blas_plan;

/* As much as NVIDIA recommends for Hopper, the most of its recommendations. */
static const size_t most_workspace = (size_t)32 << 20;

/* ---- failures ----------------------------------------------------------------------------------------------- */

static int failed(const char *who, cublasStatus_t status, const char *what, const cuda_product *p) {
    cuda_fail(who, "cuBLASLt says %s (%s) to %s, for %" PRId64 " × (%" PRId64 "×%" PRId64 "×%" PRId64 ") of %s",
              cublasLtGetStatusString(status), cublasLtGetStatusName(status), what, p->batch, p->m, p->n, p->k,
              weft_dtype_name(p->type));
    return status == CUBLAS_STATUS_ALLOC_FAILED ? WEFT_K_NO_MEMORY : WEFT_K_DEVICE;
}

/* It has nothing for this case, which is no failure. */
static bool declines(cublasStatus_t status) {
    return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_ARCH_MISMATCH;
}

/* ---- the handle --------------------------------------------------------------------------------------------- */

static void drop(void *plan) { free(plan); }

static int blas_of(const weft_env *env, struct cuda_blas **blas) {
    struct cuda_products *all;
    int status = cuda_products_of(env, &all);
    if (status) return status;
    if (!all->blas) {
        struct cuda_blas *b = calloc(1, sizeof *b);
        if (!b) return cuda_fail("", "no memory"), WEFT_K_NO_MEMORY;
        const cublasStatus_t made = cublasLtCreate(&b->handle);
        if (made != CUBLAS_STATUS_SUCCESS) {
            free(b);
            return cuda_fail("", "cuBLASLt cannot be started: %s (%s)", cublasLtGetStatusString(made),
                             cublasLtGetStatusName(made));
        }
        b->plans.drop = drop;
        all->blas = b;
    }
    *blas = all->blas;
    return WEFT_K_OK;
}

void cuda_blas_free(struct cuda_blas *b) {
    if (!b) return;
    cuda_plans_free(&b->plans);
    cublasLtDestroy(b->handle);
    free(b);
}

/* ---- what it is asked --------------------------------------------------------------------------------------- */

/* How one of its matrices lies: rows × columns with columns `ld` apart, perhaps turned over. */
typedef struct side { int64_t rows, columns, ld, batch; bool turned; } side;

static bool fits(int64_t v) { return v >= 0 && v <= INT32_MAX; }

/* A matrix of `rows` neighbours in memory; false where it is none. A dimension of one may have any stride. */
static bool lies(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride, side *s) {
    s->rows = rows;
    s->columns = columns;
    s->ld = columns > 1 ? column_stride : rows;
    return (rows == 1 || row_stride == 1) && s->ld >= rows;
}

/* An operand of ours, (outer, inner) with `inner` summed over, as one of its: (outer × inner), or turned over. */
static bool side_of(int64_t outer, int64_t inner, int64_t outer_stride, int64_t inner_stride, int64_t batch, side *s) {
    s->batch = batch;
    s->turned = lies(inner, outer, inner_stride, outer_stride, s);
    return batch >= 0 && (s->turned || lies(outer, inner, outer_stride, inner_stride, s));
}

typedef struct question {
    side a, b, c, d;            /* cuBLASLt's */
    int align_a, align_b, align_c, align_d;
    cublasLtEpilogue_t epilogue;
    size_t workspace;
} question;

/* Of every matrix of a batch. */
static int alignment(const void *p, weft_dtype type, int64_t batch) {
    const int first = cuda_alignment(p, 256),
              step = cuda_alignment((const void *)(batch * (int64_t)weft_dtype_size(type)), 256);
    return first < step ? first : step;
}

/* False where cuBLASLt cannot be asked. */
static bool ask(const weft_env *env, const cuda_product *p, question *q) {
    *q = (question){ .epilogue = p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT };
    if (!fits(p->batch) || !fits(p->m) || !fits(p->n) || !fits(p->k) || p->k < 1) return false;
    if (p->act == WEFT_ACT_GELU_TANH) q->epilogue = p->bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    else if (p->act != WEFT_ACT_NONE) return false;
    const int64_t many = p->batch > 1;
    const void *c = p->c ? p->c : p->d;
    const int64_t c_row = p->c ? p->c_row : p->d_row, c_batch = many * (p->c ? p->c_batch : p->d_batch);
    if (!side_of(p->n, p->k, p->b_col, p->b_row, many * p->b_batch, &q->a)
        || !side_of(p->m, p->k, p->a_row, p->a_col, many * p->a_batch, &q->b)
        || !lies(p->n, p->m, 1, p->d_row, &q->d) || !lies(p->n, p->m, 1, c_row, &q->c)) return false;
    q->b.turned = !q->b.turned;         /* its B is (k × m) */
    q->d.batch = many * p->d_batch;
    q->c.batch = c_batch;
    q->align_a = alignment(p->b, p->type, q->a.batch);
    q->align_b = alignment(p->a, p->type, q->b.batch);
    q->align_c = alignment(c, p->d_type, q->c.batch);
    q->align_d = alignment(p->d, p->d_type, q->d.batch);
    q->workspace = cuda_workspace_most(env);
    if (q->workspace > most_workspace) q->workspace = most_workspace;
    return true;
}

static cuda_plan_key key_of(const weft_env *env, const cuda_product *p, const question *q) {
    cuda_plan_key key = { .count = 0 };
    const int64_t shape[] = { p->type, p->d_type, env->precision, p->batch, p->m, p->n, p->k, q->epilogue, p->c != NULL,
                              p->c == p->d, cuda_alignment(p->bias, 256), (int64_t)q->workspace, q->align_a, q->align_b,
                              q->align_c, q->align_d };
    const side *sides[] = { &q->a, &q->b, &q->c, &q->d };
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) cuda_key_add(&key, shape[i]);
    for (int i = 0; i < 4; i++) {
        cuda_key_add(&key, sides[i]->ld * 2 + sides[i]->turned);
        cuda_key_add(&key, sides[i]->batch);
    }
    return key;
}

/* ---- plans -------------------------------------------------------------------------------------------------- */

static cudaDataType_t type_of(weft_dtype t) {
    return t == WEFT_F16 ? CUDA_R_16F : t == WEFT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasStatus_t set_layout(cublasLtMatrixLayout_t layout, weft_dtype type, const side *s, int64_t batch) {
    const int32_t count = (int32_t)batch;
    cublasStatus_t status =
        cublasLtMatrixLayoutInit(layout, type_of(type), (uint64_t)s->rows, (uint64_t)s->columns, s->ld);
    if (status || batch == 1) return status;
    if ((status = cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count)))
        return status;
    return cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &s->batch,
                                            sizeof s->batch);
}

static cublasStatus_t set_bias(blas_plan *plan, const void *bias) {
    if (!bias) return CUBLAS_STATUS_SUCCESS;
    return cublasLtMatmulDescSetAttribute(&plan->how, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
}

static cublasStatus_t describe(const weft_env *env, const cuda_product *p, const question *q, blas_plan *plan) {
    const bool fast = p->type == WEFT_F32 && env->precision == WEFT_PRECISION_FAST;
    const int32_t turn_a = q->a.turned ? CUBLAS_OP_T : CUBLAS_OP_N, turn_b = q->b.turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    const uint32_t epilogue = q->epilogue;
    cublasStatus_t status =
        cublasLtMatmulDescInit(&plan->how, fast ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!status)
        status = cublasLtMatmulDescSetAttribute(&plan->how, CUBLASLT_MATMUL_DESC_TRANSA, &turn_a, sizeof turn_a);
    if (!status)
        status = cublasLtMatmulDescSetAttribute(&plan->how, CUBLASLT_MATMUL_DESC_TRANSB, &turn_b, sizeof turn_b);
    if (!status)
        status = cublasLtMatmulDescSetAttribute(&plan->how, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (!status) status = set_bias(plan, p->bias);
    if (!status) status = set_layout(&plan->a, p->type, &q->a, p->batch);
    if (!status) status = set_layout(&plan->b, p->type, &q->b, p->batch);
    if (!status) status = set_layout(&plan->c, p->d_type, &q->c, p->batch);
    if (!status) status = set_layout(&plan->d, p->d_type, &q->d, p->batch);
    return status;
}

/* The heuristic's best, up to `most` of them. It looks at the addresses' alignments, and at the bias's own address. */
static cublasStatus_t choose(struct cuda_blas *b, const question *q, blas_plan *plan, int most) {
    cublasLtMatmulPreferenceOpaque_t wish;
    cublasLtMatmulHeuristicResult_t best[CUDA_MOST_TRIALS];
    const uint64_t workspace = q->workspace;
    const uint32_t split = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t align[] = { (uint32_t)q->align_a, (uint32_t)q->align_b, (uint32_t)q->align_c, (uint32_t)q->align_d };
    static const cublasLtMatmulPreferenceAttributes_t align_name[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES };
    int found = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceInit(&wish);
    if (!status)
        status = cublasLtMatmulPreferenceSetAttribute(&wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                      sizeof workspace);
    if (!status)
        status = cublasLtMatmulPreferenceSetAttribute(&wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &split,
                                                      sizeof split);
    for (int i = 0; i < 4 && !status; i++)
        status = cublasLtMatmulPreferenceSetAttribute(&wish, align_name[i], &align[i], sizeof align[i]);
    if (status) return status;
    status = cublasLtMatmulAlgoGetHeuristic(b->handle, &plan->how, &plan->a, &plan->b, &plan->c, &plan->d, &wish,
                                            CUDA_MOST_TRIALS, best, &found);
    for (int i = 0; i < found && !status && plan->count < most; i++) {
        if (best[i].state != CUBLAS_STATUS_SUCCESS || best[i].workspaceSize > q->workspace) continue;
        plan->algo[plan->count] = best[i].algo;
        plan->workspace[plan->count++] = best[i].workspaceSize;
    }
    plan->usable = plan->count > 0;
    return declines(status) ? CUBLAS_STATUS_SUCCESS : status;
}

static int plan_of(const weft_env *env, struct cuda_blas *b, const char *who, const cuda_product *p, const question *q,
                   blas_plan **plan) {
    const cuda_plan_key key = key_of(env, p, q);
    char what[64];
    if ((*plan = cuda_plan_find(&b->plans, &key))) return WEFT_K_OK;
    if (!(*plan = calloc(1, sizeof **plan))) return cuda_fail("", "no memory"), WEFT_K_NO_MEMORY;
    cublasStatus_t status = describe(env, p, q, *plan);
    if (!status) status = choose(b, q, *plan, cuda_tunes(env) ? CUDA_MOST_TRIALS : 1);
    if (status) {
        free(*plan);
        return failed(who, status, "plan a product", p);
    }
    cuda_plan_keep(&b->plans, &key, *plan);
    snprintf(what, sizeof what, (*plan)->usable ? "cuBLASLt, %zu bytes of workspace" : "cuBLASLt has nothing",
             (*plan)->workspace[0]);
    cuda_plan_tell(who, &key, what);
    return WEFT_K_OK;
}

/* ---- the product -------------------------------------------------------------------------------------------- */

typedef struct call {
    const weft_env *env;
    const char *who;
    struct cuda_blas *blas;
    blas_plan *plan;
    const cuda_product *p;
} call;

/* By the plan's i-th algorithm. */
static int multiply(void *user, int i) {
    const call *c = user;
    const cuda_queue *queue = cuda_queue_of(c->env);
    const cuda_product *p = c->p;
    blas_plan *plan = c->plan;
    const float alpha = (float)p->alpha, beta = p->c ? 1 : 0;
    cuda_scratch work;
    int status = cuda_scratch_new(c->env, plan->workspace[i], &work);
    if (status) return status;
    cublasStatus_t done = set_bias(plan, p->bias);
    if (!done)
        done = cublasLtMatmul(c->blas->handle, &plan->how, &alpha, p->b, &plan->a, p->a, &plan->b, &beta,
                              p->c ? p->c : p->d, &plan->c, p->d, &plan->d, &plan->algo[i], work.p, plan->workspace[i],
                              queue->stream);
    status = cuda_asked(queue, cudaSuccess, c->who);
    cuda_scratch_free(c->env, &work);
    if (declines(done)) return WEFT_K_NO_CASE;
    return done ? failed(c->who, done, "compute a product", p) : status;
}

/* Puts the fastest algorithm first. What is added to what was there cannot be done twice, and stays the heuristic's. */
static int tune(call *c) {
    blas_plan *plan = c->plan;
    int best = 0;
    if (plan->timed || plan->count < 2 || c->p->c == c->p->d || !cuda_tunes(c->env)) return WEFT_K_OK;
    const int status = cuda_fastest(c->env, c->who, plan->count, multiply, c, &best);
    plan->timed = true;
    plan->count = 1;
    plan->algo[0] = plan->algo[best];
    plan->workspace[0] = plan->workspace[best];
    return status;
}

int cuda_blas_product(const weft_env *env, const char *who, const cuda_product *p) {
    call c = { .env = env, .who = who, .p = p };
    question q;
    if (!ask(env, p, &q)) return WEFT_K_NO_CASE;
    int status = blas_of(env, &c.blas);
    if (!status) status = plan_of(env, c.blas, who, p, &q, &c.plan);
    if (status) return status;
    if (!c.plan->usable) return WEFT_K_NO_CASE;
    if ((status = tune(&c))) return status;
    status = multiply(&c, 0);
    if (status == WEFT_K_NO_CASE) c.plan->usable = false;
    return status;
}
