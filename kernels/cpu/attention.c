/* o = softmax(scale·q·kᵀ)·v without the matrix between: blocks of keys with a running maximum and sum ("online
 * softmax", Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022).
 *
 * Everything is held transposed, a lane for a query. A work item is one head and up to QV·VL queries: their qᵀ (d
 * rows, times scale·log₂e) is packed once. For each block of keys sᵀ = k·qᵀ, maxima and sums run down the columns
 * without ever crossing lanes, p = 2^(s − max), and oᵀ = oᵀ·2^(old max − max) + vᵀ·p. k and v are read where they
 * lie, one value broadcast at a time. Both products go through tiles of MR rows × QV vectors that fill the
 * registers. Sums over keys are cut at the blocks, which keeps their rounding error small.
 */
#include <omp.h>
#include "kernels/cpu/attention.h"
#include "kernels/cpu/threads.h"

/* One item: the queries' packed qᵀ, a block's scores, and the result so far, in rows of nv vectors. */
struct item {
    const float *q, *k, *v;
    float *o, *lse;             /* lse may be NULL */
    int64_t queries, keys;      /* keys: all that any of the queries sees */
    int64_t seen;               /* causal: the first query sees so many keys (or < 1), each next one more; else tk */
    float *qt, *s, *ot;
    float max[QV * VL], sum[QV * VL], shrink[QV * VL];
};

/* From a block's scores to its weights; keeps the running maximum and sum, and sets what the old result shrinks by. */
INLINE void softmax_block(const int nv, struct item *it, int64_t first, int64_t keys) {
    const bool mask = first + keys > it->seen;
    UNROLL
    for (int u = 0; u < nv; u++) {
        float *s = it->s + u * VL;
        vi limit = mask ? keys_seen(it->seen + u * VL - first) : (vi){ 0 };
        vf old = vf_load(it->max + u * VL), max = old, sum = { 0 };
        if (mask)
            for (int32_t j = 0; j < keys; j++)
                vf_store(s + j * nv * VL, vf_select(limit > j, vf_load(s + j * nv * VL), vf_set(-0x1.fffffep127f)));
        for (int64_t j = 0; j < keys; j++) max = vf_max(vf_load(s + j * nv * VL), max);
        for (int32_t j = 0; j < keys; j++) {
            vf p = exp2_negative(vf_load(s + j * nv * VL) - max);
            if (mask) p = vf_select(limit > j, p, (vf){ 0 });
            sum += p;
            vf_store(s + j * nv * VL, p);
        }
        vf shrink = exp2_negative(old - max);
        vf_store(it->shrink + u * VL, shrink);
        vf_store(it->sum + u * VL, vf_load(it->sum + u * VL) * shrink + sum);
        vf_store(it->max + u * VL, max);
    }
}

INLINE void run_blocks(const int nv, const weft_attention_args *a, struct item *it) {
    for (int64_t first = 0; first < it->keys; first += KEYS) {
        const int64_t keys = MIN(KEYS, it->keys - first), ldk = a->k_token, ldv = a->v_token;
        const float *k = it->k + first * ldk, *v = it->v + first * ldv;
#define TILE(rows) \
        prefetch_rows(v + row * ldv, ldv, rows, a->d); \
        prefetch_rows(k + MIN(row + rows, keys - rows) * ldk, ldk, rows, a->d); \
        score_tile(rows, nv, a->d, it->qt, k + row * ldk, ldk, it->s + row * nv * VL)
        ALL_ROWS(keys, TILE);
#undef TILE
        softmax_block(nv, it, first, keys);
#define TILE(rows) value_tile(rows, nv, keys, it->s, v + row, ldv, it->shrink, it->ot + row * nv * VL)
        ALL_ROWS(a->d, TILE);
#undef TILE
    }
}

/* One function a width: the compiler then allots registers to each on its own. */
#define WIDTH(nv) \
    static __attribute__((noinline)) void run_blocks_##nv(const weft_attention_args *a, struct item *it) { \
        run_blocks(nv, a, it); \
    }
WIDTH(1)
WIDTH(2)
#if QV > 2
WIDTH(3)
#endif
#undef WIDTH

/* oᵀ/sum to the output's rows; a query that saw no key gives zeros. */
static void store_result(const weft_attention_args *a, const struct item *it, int nv) {
    for (int u = 0; u < nv; u++) {
        vf sum = vf_load(it->sum + u * VL), inverse = vf_select(sum == 0, (vf){ 0 }, 1 / sum);
        for (int64_t c = 0; c < a->d; c += VL) {
            const int64_t rows = MIN(VL, it->queries - u * VL), columns = MIN(VL, a->d - c);
            vf t[VL];
            for (int64_t r = 0; r < VL; r++)
                t[r] = r < columns ? vf_load(it->ot + ((c + r) * nv + u) * VL) * inverse : (vf){ 0 };
            vf_transpose(t);
            for (int64_t r = 0; r < rows; r++) {
                float *o = it->o + (u * VL + r) * a->o_token + c;
                if (columns == VL) vf_store(o, t[r]);
                else vf_store_n(o, t[r], columns);
            }
        }
    }
}

/* ln Σ exp(score) of each query; the running values are in base 2. */
static void store_lse(const struct item *it) {
    for (int64_t i = 0; i < it->queries; i++)
        it->lse[i] = it->sum[i] == 0 ? -INFINITY : (float)(((double)it->max[i] + log2((double)it->sum[i])) * M_LN2);
}

/* Item `i` of the batch·heads·blocks; a head's `vectors` of queries are dealt out evenly to its blocks. */
static void run_item(const weft_attention_args *a, int64_t i, int64_t blocks, float *scratch) {
    const int64_t block = i % blocks, head = i / blocks % a->heads, batch = i / blocks / a->heads;
    const int64_t vectors = (a->tq + VL - 1) / VL, first = block * vectors / blocks, query = first * VL;
    const int64_t nv = (block + 1) * vectors / blocks - first;
    struct item it = {
        .q = (const float *)a->q + batch * a->q_batch + head * a->q_head + query * a->q_token,
        .k = (const float *)a->k + batch * a->k_batch + head * a->k_head,
        .v = (const float *)a->v + batch * a->v_batch + head * a->v_head,
        .o = (float *)a->o + batch * a->o_batch + head * a->o_head + query * a->o_token,
        .queries = MIN(nv * VL, a->tq - query), .keys = a->tk, .seen = a->tk,
        .s = scratch, .qt = scratch + KEYS * QV * VL, .ot = scratch + (KEYS + a->d) * QV * VL,
    };
    if (a->lse) it.lse = (float *)a->lse + (batch * a->heads + head) * a->tq + query;
    if (a->causal) {
        it.seen = query + a->tk - a->tq + 1;
        it.keys = MAX(0, MIN(a->tk, it.seen + it.queries - 1));
    }
    for (int l = 0; l < QV * VL; l++) it.max[l] = -INFINITY;
    memset(it.ot, 0, (size_t)(a->d * nv * VL) * sizeof(float));
    pack_rows(it.q, a->q_token, it.queries, a->d, (int)nv, (float)(a->scale * LOG2_E), it.qt);
    if (nv == 1) run_blocks_1(a, &it);
    else if (nv == 2) run_blocks_2(a, &it);
#if QV > 2
    else run_blocks_3(a, &it);
#endif
    store_result(a, &it, (int)nv);
    if (it.lse) store_lse(&it);
}

int ISA_NAME(attention)(const weft_env *env, const weft_attention_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const int64_t blocks = ((a->tq + VL - 1) / VL + QV - 1) / QV, items = a->batch * a->heads * blocks;
    if (items <= 0 || a->d <= 0) return WEFT_K_OK;
    int threads = threads_for(env, (double)items * QV * VL * (double)(a->tk + 16) * (double)a->d / 4);
    threads = (int)MIN(threads, items);
    const size_t each = (size_t)(KEYS + 2 * a->d) * QV * VL, bytes = each * sizeof(float) * (size_t)threads;
    float *scratch = env->alloc(env->owner, bytes);
    if (!scratch) return WEFT_K_NO_MEMORY;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < items; i++)
        if (!cancelled(env)) run_item(a, i, blocks, scratch + (size_t)omp_get_thread_num() * each);
    env->release(env->owner, scratch, bytes);
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}
