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
#include "kernels/cpu/threads.h"
#include "kernels/cpu/transpose.h"

#if VL == 16
#define MR 8
#define QV 3
#elif VL == 8
#define MR 4
#define QV 3
#else
#define MR 4
#define QV 2
#endif
#define KEYS 128            /* of one block */

/* One item: the queries' packed qᵀ, a block's scores, and the result so far, in rows of nv vectors. */
struct item {
    const float *q, *k, *v;
    float *o, *lse;             /* lse may be NULL */
    int64_t queries, keys;      /* keys: all that any of the queries sees */
    int64_t seen;               /* causal: the first query sees so many keys (or < 1), each next one more; else tk */
    float *qt, *s, *ot;
    float max[QV * VL], sum[QV * VL], shrink[QV * VL];
};

/* s(rows × nv vectors) = k(rows × d)·qᵀ */
INLINE void score_tile(const int rows, const int nv, int64_t d, const float *qt, const float *k, int64_t ldk,
                       float *s) {
    vf acc[MR][QV] = { 0 };
    for (int64_t c = 0; c < d; c++) {
        vf q[QV];
        UNROLL
        for (int v = 0; v < nv; v++) q[v] = vf_load(qt + (c * nv + v) * VL);
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
            for (int v = 0; v < nv; v++) acc[r][v] += q[v] * k[r * ldk + c];
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int v = 0; v < nv; v++) vf_store(s + (r * nv + v) * VL, acc[r][v]);
}

/* oᵀ(rows × nv vectors) = oᵀ·shrink + vᵀ(rows × keys)·p */
INLINE void value_tile(const int rows, const int nv, int64_t keys, const float *p, const float *v, int64_t ldv,
                       const float *shrink, float *ot) {
    vf acc[MR][QV] = { 0 };
    for (int64_t j = 0; j < keys; j++) {
        vf w[QV];
        UNROLL
        for (int u = 0; u < nv; u++) w[u] = vf_load(p + (j * nv + u) * VL);
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
            for (int u = 0; u < nv; u++) acc[r][u] += w[u] * v[j * ldv + r];
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int u = 0; u < nv; u++) {
            float *o = ot + (r * nv + u) * VL;
            vf_store(o, vf_load(o) * vf_load(shrink + u * VL) + acc[r][u]);
        }
}

/* All rows of one product: tiles of MR, then what is left in halves. */
#define ALL_ROWS(total, TILE) do { \
        int64_t row = 0; \
        for (; row + MR <= (total); row += MR) { TILE(MR); } \
        if (MR > 4 && row + 4 <= (total)) { TILE(4); row += 4; } \
        if (row + 2 <= (total)) { TILE(2); row += 2; } \
        if (row < (total)) { TILE(1); } \
    } while (0)

/* 2^x for x ≤ 0; NaN goes through. 1e-7. */
INLINE vf exp2_negative(vf x) {
    x = vf_max(vf_set(-126), x);
    vf t = x + 0x1.8p23f, r = x - (t - 0x1.8p23f);
    vf p = r * 0.00132647269f + 0.00967151264f;         /* (2^r − 1)/r on ±½, by a Remez exchange */
    p = p * r + 0.0555073374f;
    p = p * r + 0.240222421f;
    p = p * r + 0.693146978f;
    p = p * r + 1;
    return (vf)((vu)p + ((vu)t << 23));
}

/* The keys after `first` that a lane sees, for the mask: lane l of vector u sees key first + j when j < limit. */
INLINE vi limit_of(const struct item *it, int64_t first, int u) {
    int32_t t[VL];
    for (int l = 0; l < VL; l++) {
        int64_t n = it->seen + u * VL + l - first;
        t[l] = (int32_t)MAX(0, MIN(n, KEYS));
    }
    vi v;
    memcpy(&v, t, sizeof v);
    return v;
}

/* From a block's scores to its weights; keeps the running maximum and sum, and sets what the old result shrinks by. */
INLINE void softmax_block(const int nv, struct item *it, int64_t first, int64_t keys) {
    const bool mask = first + keys > it->seen;
    UNROLL
    for (int u = 0; u < nv; u++) {
        float *s = it->s + u * VL;
        vi limit = mask ? limit_of(it, first, u) : (vi){ 0 };
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

/* Asks for rows ahead of their use: with a stride of a page or so the hardware does not guess them. */
INLINE void prefetch_rows(const float *p, int64_t ld, int64_t rows, int64_t d) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < d; c += 16) __builtin_prefetch(p + r * ld + c);
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

/* qᵀ·factor, zeros in the lanes without a query. */
static void pack_queries(const weft_attention_args *a, const struct item *it, int nv, float factor) {
    for (int u = 0; u < nv; u++)
        for (int64_t c = 0; c < a->d; c += VL) {
            const int64_t rows = MIN(VL, it->queries - u * VL), columns = MIN(VL, a->d - c);
            vf t[VL];
            for (int r = 0; r < VL; r++) {
                const float *q = it->q + (u * VL + r) * a->q_token + c;
                t[r] = r >= rows ? (vf){ 0 } : columns == VL ? vf_load(q) : vf_load_n(q, columns);
            }
            vf_transpose(t);
            for (int64_t r = 0; r < columns; r++) vf_store(it->qt + ((c + r) * nv + u) * VL, t[r] * factor);
        }
}

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
    pack_queries(a, &it, (int)nv, (float)(a->scale * 1.4426950408889634));
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
