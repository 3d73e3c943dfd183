/* cuBLASLt for the emulation: matrices by columns, computed naively. The checks are those of the real one's
 * documentation, and two of our own, which make the callers' other ways run: 16-bit matrices at odd addresses it does
 * not take, and an algorithm is good only for what it was chosen for.
 */
#include <cstdlib>
#include <cstring>
#include "cublasLt.h"
#include "numbers.h"

struct fake_blas { uint64_t made; };

namespace {

enum : uint64_t { MADE = 0x57656674 };

bool is_type(int t) { return t == CUDA_R_32F || t == CUDA_R_16F || t == CUDA_R_16BF; }
fake_type type_of(int t) { return t == CUDA_R_16F ? FAKE_F16 : t == CUDA_R_16BF ? FAKE_BF16 : FAKE_F32; }

/* Of the type that the attribute has. */
template <typename T> cublasStatus_t put(T *to, const void *value, size_t bytes) {
    if (!value || bytes != sizeof *to) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

bool same(const cublasLtMatrixLayoutOpaque_t &x, const cublasLtMatrixLayoutOpaque_t &y) {
    return x.type == y.type && x.rows == y.rows && x.columns == y.columns && x.ld == y.ld && x.batch == y.batch
           && x.stride == y.stride;
}

bool has_bias(const cublasLtMatmulDescOpaque_t &how) { return how.epilogue & CUBLASLT_EPILOGUE_BIAS; }

/* Whether the four layouts make a product. */
cublasStatus_t check(const cublasLtMatmulDescOpaque_t &how, const cublasLtMatrixLayoutOpaque_t *const *l) {
    if (how.made != MADE || how.scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
    for (int i = 0; i < 4; i++) {
        if (!l[i] || l[i]->made != MADE || !is_type(l[i]->type) || !l[i]->rows || !l[i]->columns)
            return CUBLAS_STATUS_INVALID_VALUE;
        if (l[i]->rows > INT32_MAX || l[i]->columns > INT32_MAX || l[i]->ld < (int64_t)l[i]->rows)
            return CUBLAS_STATUS_INVALID_VALUE;
        if (l[i]->batch != l[0]->batch) return CUBLAS_STATUS_INVALID_VALUE;
    }
    const uint64_t m = how.turn_a ? l[0]->columns : l[0]->rows, k = how.turn_a ? l[0]->rows : l[0]->columns;
    const uint64_t n = how.turn_b ? l[1]->rows : l[1]->columns, also_k = how.turn_b ? l[1]->columns : l[1]->rows;
    if (k != also_k || l[2]->rows != m || l[3]->rows != m || l[2]->columns != n || l[3]->columns != n)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (has_bias(how) && !how.bias) return CUBLAS_STATUS_INVALID_VALUE;
    if (l[0]->type != l[1]->type || l[2]->type != l[3]->type) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (l[3]->type != l[0]->type && l[3]->type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (how.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && l[0]->type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

/* op(X) with k innermost, in f32. */
std::vector<float> gather(const void *p, const cublasLtMatrixLayoutOpaque_t &l, bool k_is_rows, bool tf32) {
    const int64_t outer = (int64_t)(k_is_rows ? l.columns : l.rows), k = (int64_t)(k_is_rows ? l.rows : l.columns);
    std::vector<float> out((size_t)(outer * k));
    for (int64_t i = 0; i < outer; i++)
        for (int64_t j = 0; j < k; j++) {
            const float v = fake_get(type_of(l.type), p, k_is_rows ? i * l.ld + j : j * l.ld + i);
            out[(size_t)(i * k + j)] = tf32 ? fake_tf32(v) : v;
        }
    return out;
}

const char *at(const void *p, const cublasLtMatrixLayoutOpaque_t &l, int batch) {
    return (const char *)p + batch * l.stride * (int64_t)fake_size(type_of(l.type));
}

float gelu(float v) { return 0.5f * v * (1 + tanhf(0.797884561f * (v + 0.044715f * v * v * v))); }

void compute(const cublasLtMatmulAlgo_t &algo, float alpha, float beta, const void *a, const void *b, const void *c,
             void *d, const void *bias) {
    const cublasLtMatrixLayoutOpaque_t *l = algo.layout;
    const bool tf32 = algo.how.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const int64_t m = (int64_t)l[3].rows, n = (int64_t)l[3].columns,
                  k = (int64_t)(algo.how.turn_a ? l[0].rows : l[0].columns);
    const fake_type type = type_of(l[3].type);
    for (int batch = 0; batch < l[3].batch; batch++) {
        const std::vector<float> left = gather(at(a, l[0], batch), l[0], algo.how.turn_a, tf32);
        const std::vector<float> right = gather(at(b, l[1], batch), l[1], !algo.how.turn_b, tf32);
        const void *from = at(c, l[2], batch);
        void *to = (void *)at(d, l[3], batch);
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) {
                float v = alpha * fake_dot(&left[(size_t)(i * k)], &right[(size_t)(j * k)], k);
                if (beta != 0) v += beta * fake_get(type, from, j * l[2].ld + i);
                if (has_bias(algo.how)) v += fake_get(type, bias, i);
                if (algo.how.epilogue & CUBLASLT_EPILOGUE_GELU) v = gelu(v);
                fake_put(type, to, j * l[3].ld + i, v);
            }
    }
}

bool failing(const char *how) {
    const char *mode = getenv("WEFT_FAKE_CUDA");
    return mode && !strcmp(mode, how);
}

} // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    if (failing("no cublas")) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new fake_blas{ MADE };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusName(cublasStatus_t status) {
    return status == CUBLAS_STATUS_NOT_INITIALIZED ? "CUBLAS_STATUS_NOT_INITIALIZED"
         : status == CUBLAS_STATUS_EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED"
         : status == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_OTHER";
}
const char *cublasLtGetStatusString(cublasStatus_t) { return "an error of the emulation"; }

/* ---- descriptors -------------------------------------------------------------------------------------------- */

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType type, uint64_t rows,
                                        uint64_t columns, int64_t ld) {
    *layout = { MADE, type, rows, columns, ld, 1, 0 };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t name,
                                                const void *value, size_t bytes) {
    if (layout->made != MADE) return CUBLAS_STATUS_INVALID_VALUE;
    if (name == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) return put(&layout->batch, value, bytes);
    return put(&layout->stride, value, bytes);
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t how, cublasComputeType_t compute, cudaDataType_t scale) {
    *how = { MADE, compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t how, cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes) {
    if (how->made != MADE) return CUBLAS_STATUS_INVALID_VALUE;
    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return put(&how->turn_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return put(&how->turn_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return put(&how->epilogue, value, bytes);
    default: return put(&how->bias, value, bytes);
    }
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t wish) {
    *wish = { MADE, 0, CUBLASLT_REDUCTION_SCHEME_MASK, { 256, 256, 256, 256 } };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t wish,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                                    size_t bytes) {
    if (wish->made != MADE) return CUBLAS_STATUS_INVALID_VALUE;
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return put(&wish->workspace, value, bytes);
    if (name == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) return put(&wish->split, value, bytes);
    return put(&wish->align[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
}

/* ---- products ----------------------------------------------------------------------------------------------- */

/* The second best is the one to take: the best does not hold to the workspace, and says so by its state. The third is quicker. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t how,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wish, int most,
                                              cublasLtMatmulHeuristicResult_t *results, int *count) {
    const cublasLtMatrixLayoutOpaque_t *l[] = { a, b, c, d };
    *count = 0;
    if (!handle || handle->made != MADE || !wish || wish->made != MADE || most < 1) return CUBLAS_STATUS_INVALID_VALUE;
    const cublasStatus_t status = check(*how, l);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    /* it looks at the bias's address too; the kernels that add one load 16 bytes */
    if (has_bias(*how) && !fake_aligned(how->bias, 16)) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < 4; i++)
        if (wish->align[i] < 4) return CUBLAS_STATUS_NOT_SUPPORTED;
    cublasLtMatmulAlgo_t algo = { MADE, *how, { *a, *b, *c, *d },
                                  { wish->align[0], wish->align[1], wish->align[2], wish->align[3] }, 0, 5 };
    if (most > 1) results[(*count)++] = { algo, 0, CUBLAS_STATUS_NOT_SUPPORTED, 0 };
    algo.workspace = wish->workspace < 1000 ? 0 : 1000;
    results[(*count)++] = { algo, algo.workspace, CUBLAS_STATUS_SUCCESS, 1 };
    algo.workspace = 0;
    algo.ms = 0;
    if (*count < most) results[(*count)++] = { algo, 0, CUBLAS_STATUS_SUCCESS, 1 };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t how, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    const cublasLtMatrixLayoutOpaque_t *l[] = { a_layout, b_layout, c_layout, d_layout };
    const void *p[] = { a, b, c, d };
    if (!handle || handle->made != MADE || !algo || algo->made != MADE || !stream) return CUBLAS_STATUS_INVALID_VALUE;
    if (failing("no products")) return CUBLAS_STATUS_EXECUTION_FAILED;
    const cublasStatus_t status = check(*how, l);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    for (int i = 0; i < 4; i++)
        if (!same(*l[i], algo->layout[i]) || !p[i] || !fake_aligned(p[i], algo->align[i]))
            return CUBLAS_STATUS_INVALID_VALUE;
    if (how->compute != algo->how.compute || how->epilogue != algo->how.epilogue || how->turn_a != algo->how.turn_a
        || how->turn_b != algo->how.turn_b) return CUBLAS_STATUS_INVALID_VALUE;
    if (has_bias(*how) && !fake_aligned(how->bias, 16)) return CUBLAS_STATUS_INVALID_VALUE;
    if (c == d && !same(*c_layout, *d_layout)) return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes < algo->workspace || (algo->workspace && (!workspace || !fake_aligned(workspace, 256))))
        return CUBLAS_STATUS_INVALID_VALUE;
    const cublasLtMatmulAlgo_t what = *algo;
    const float alpha_now = *(const float *)alpha, beta_now = *(const float *)beta;
    const void *bias = how->bias;
    fake_enqueue(stream, [=] {
        fake_spend(what.ms);
        if (what.workspace) memset(workspace, 0xff, what.workspace);
        compute(what, alpha_now, beta_now, a, b, c, d, bias);
    });
    return CUBLAS_STATUS_SUCCESS;
}
