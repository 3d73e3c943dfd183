/* The gradient of attention without the matrix between (FlashAttention, Dao et al. 2022, algorithm 4): tiles of scores are computed
 * again from q, k and lse.
 *
 * Scores stand as in attention.c, a lane for a query: for a block of keys sᵀ = k·qᵀ, p = 2^(s − lse), dpᵀ = v·doutᵀ,
 * ds = p·(dp − delta) with delta = Σ dout·o, then dqᵀ += kᵀ·dsᵀ, dv += pᵀ·dout, dk += dsᵀ·q. Keys are cut into chunks whose dk and dv
 * gather in the thread's scratch while all queries pass by; dq is the sum of its chunks' parts, in their order. A chunk's
 * size follows from d alone. Where there are too few heads for the threads, chunks go side by side, each with a dq of its own
 * until the end: the same sums.
 */
#include <omp.h>
#include "kernels/cpu/attention.h"
#include "kernels/cpu/threads.h"

enum {
    CHUNK_BYTES = 1 << 20,      /* of a chunk's dk and dv */
    LEAST_CHUNK = 256, MOST_CHUNK = 1024,
    LANES = QV * VL             /* queries of a full block */
};

struct job {
    const weft_attention_grad_args *a;
    int64_t width;              /* d in whole vectors */
    int64_t chunk, chunks;
    int64_t blocks;             /* of queries */
    size_t sums;                /* floats of one head's dqᵀ, [block][d][LANES] */
    size_t work;                /* floats of a thread's arrays */
};

/* A thread's arrays, and the block of queries and chunk of keys at hand. */
struct state {
    float *qt, *dot;            /* [d][lanes]: q times scale·log₂e, dout; turned over */
    float *q, *dout;            /* [lane][width] */
    float *p, *ds;              /* [key of a block][lanes] */
    float *dk, *dv;             /* [key of the chunk][width] */
    float *dqt;                 /* [d][LANES], this chunk's part */
    float lse[LANES], delta[LANES];
    int64_t queries, seen;      /* seen: as in attention.c, of the block's first query */
};

static struct state state_of(const struct job *j, float *work) {
    struct state s = { .qt = work };
    s.dot = s.qt + j->a->d * LANES;
    s.q = s.dot + j->a->d * LANES;
    s.dout = s.q + j->width * LANES;
    s.p = s.dout + j->width * LANES;
    s.ds = s.p + KEYS * LANES;
    s.dk = s.ds + KEYS * LANES;
    s.dv = s.dk + j->chunk * j->width;
    s.dqt = s.dv + j->chunk * j->width;
    return s;
}

static size_t work_floats(const struct job *j) {
    return (size_t)(3 * j->a->d * LANES + 2 * j->width * LANES + 2 * KEYS * LANES + 2 * j->chunk * j->width);
}

/* ---- products ----------------------------------------------------------------------------------------------- */

/* c(rows of keys × nv vectors) += s(rows × queries)·b(queries × nv vectors) */
INLINE void key_tile(const int rows, const int nv, int64_t queries, const float *s, int64_t lds, const float *b, int64_t ld, float *c) {
    vf acc[MR][QV] = { 0 };
    for (int64_t i = 0; i < queries; i++) {
        vf w[QV];
        UNROLL
        for (int v = 0; v < nv; v++) w[v] = vf_load(b + i * ld + v * VL);
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
            for (int v = 0; v < nv; v++) acc[r][v] += w[v] * s[r * lds + i];
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int v = 0; v < nv; v++) vf_store(c + r * ld + v * VL, vf_load(c + r * ld + v * VL) + acc[r][v]);
}

INLINE void key_columns(const int nv, int64_t keys, int64_t queries, const float *s, int64_t lds, const float *b, int64_t ld, float *c) {
#define TILE(rows) key_tile(rows, nv, queries, s + row * lds, lds, b, ld, c + row * ld)
    ALL_ROWS(keys, TILE);
#undef TILE
}

/* dk or dv of one block of keys: `width` columns. */
static __attribute__((noinline)) void add_keys(int64_t keys, int64_t queries, const float *s, int64_t lds, const float *b, int64_t width, float *c) {
    int64_t left = width / VL;
    while (left > 0) {
        /* four vectors go as two and two, not as three and one */
        const int64_t n = left == QV + 1 ? (QV + 1) / 2 : MIN(left, QV);
        if (n == 1) key_columns(1, keys, queries, s, lds, b, width, c);
        else if (n == 2) key_columns(2, keys, queries, s, lds, b, width, c);
#if QV > 2
        else key_columns(3, keys, queries, s, lds, b, width, c);
#endif
        b += n * VL;
        c += n * VL;
        left -= n;
    }
}

/* From scores and dp, in `s->ds`, to p and ds. */
INLINE void weigh(const int nv, struct state *s, int64_t first, int64_t keys) {
    const bool mask = first + keys > s->seen;
    UNROLL
    for (int u = 0; u < nv; u++) {
        const vf lse = vf_load(s->lse + u * VL), delta = vf_load(s->delta + u * VL);
        const vi limit = mask ? keys_seen(s->seen + u * VL - first) : (vi){ 0 };
        for (int32_t i = 0; i < keys; i++) {
            float *at_p = s->p + (i * nv + u) * VL, *at_ds = s->ds + (i * nv + u) * VL;
            vf p = exp2_negative(vf_load(at_p) - lse), ds = p * (vf_load(at_ds) - delta);
            if (mask) {
                p = vf_select(limit > i, p, (vf){ 0 });
                ds = vf_select(limit > i, ds, (vf){ 0 });
            }
            vf_store(at_p, p);
            vf_store(at_ds, ds);
        }
    }
}

/* A block of queries against the keys from `from` to `end`, the chunk's first being `base`. */
INLINE void run_keys(const int nv, const weft_attention_grad_args *a, struct state *s, int64_t width, const float *k, const float *v,
                     int64_t base, int64_t from, int64_t end) {
    for (int64_t first = from; first < end; first += KEYS) {
        const int64_t keys = MIN(KEYS, end - first), ldk = a->k_token, ldv = a->v_token;
        const float *bk = k + first * ldk, *bv = v + first * ldv;
#define TILE(rows) \
        prefetch_rows(bk + MIN(row + rows, keys - rows) * ldk, ldk, rows, a->d); \
        prefetch_rows(bv + row * ldv, ldv, rows, a->d); \
        score_tile(rows, nv, a->d, s->qt, bk + row * ldk, ldk, s->p + row * nv * VL); \
        score_tile(rows, nv, a->d, s->dot, bv + row * ldv, ldv, s->ds + row * nv * VL)
        ALL_ROWS(keys, TILE);
#undef TILE
        weigh(nv, s, first, keys);
        if (a->dv) add_keys(keys, s->queries, s->p, nv * VL, s->dout, width, s->dv + (first - base) * width);
        if (a->dk) add_keys(keys, s->queries, s->ds, nv * VL, s->q, width, s->dk + (first - base) * width);
#define TILE(rows) value_tile(rows, nv, keys, s->ds, bk + row, ldk, NULL, s->dqt + row * nv * VL)
        if (a->dq) ALL_ROWS(a->d, TILE);
#undef TILE
    }
}

/* One function a width: the compiler then allots registers to each on its own. */
#define WIDTH(nv) \
    static __attribute__((noinline)) void run_keys_##nv(const weft_attention_grad_args *a, struct state *s, int64_t width, const float *k, \
                                                        const float *v, int64_t base, int64_t from, int64_t end) { \
        run_keys(nv, a, s, width, k, v, base, from, end); \
    }
WIDTH(1)
WIDTH(2)
#if QV > 2
WIDTH(3)
#endif
#undef WIDTH

/* ---- a block of queries ------------------------------------------------------------------------------------- */

/* Rows one behind the other, zeros after their d values. */
static void copy_rows(const float *from, int64_t ld, int64_t rows, int64_t d, int64_t width, float *to) {
    for (int64_t r = 0; r < rows; r++) {
        memset(to + r * width + width - VL, 0, VL * sizeof(float));
        memcpy(to + r * width, from + r * ld, (size_t)d * sizeof(float));
    }
}

static float dot(const float *x, const float *y, int64_t n) {
    vf sum = { 0 };
    int64_t i = 0;
    for (; i + VL <= n; i += VL) sum += vf_load(x + i) * vf_load(y + i);
    if (i < n) sum += vf_load_n(x + i, n - i) * vf_load_n(y + i, n - i);
    return vf_sum(sum);
}

/* Block `block` of a head's queries against chunk `chunk` of its keys; its part of dq goes to, or is added to, `sums`. */
static void run_block(const struct job *j, struct state *s, int64_t item, int64_t block, int64_t chunk, bool add, float *sums) {
    const weft_attention_grad_args *a = j->a;
    const int64_t batch = item / a->heads, head = item % a->heads;
    const int64_t vectors = (a->tq + VL - 1) / VL, first = block * vectors / j->blocks, nv = (block + 1) * vectors / j->blocks - first;
    const int64_t query = first * VL, base = chunk * j->chunk;
    const float *q = (const float *)a->q + batch * a->q_batch + head * a->q_head + query * a->q_token;
    const int64_t at_o = batch * a->o_batch + head * a->o_head + query * a->o_token;
    const float *dout = (const float *)a->dout + at_o, *o = (const float *)a->o + at_o;
    const float *lse = (const float *)a->lse + item * a->tq + query;
    const float *k = (const float *)a->k + batch * a->k_batch + head * a->k_head;
    const float *v = (const float *)a->v + batch * a->v_batch + head * a->v_head;
    s->queries = MIN(nv * VL, a->tq - query);
    s->seen = a->causal ? query + a->tk - a->tq + 1 : a->tk;
    const int64_t last = a->causal ? MIN(a->tk, s->seen + s->queries - 1) : a->tk, end = MIN(last, base + j->chunk);
    memset(s->dqt, 0, (size_t)(a->d * nv * VL) * sizeof(float));
    if (base < end) {
        for (int64_t i = 0; i < LANES; i++) {
            s->lse[i] = i < s->queries ? lse[i] * (float)LOG2_E : 0;
            s->delta[i] = i < s->queries ? dot(dout + i * a->o_token, o + i * a->o_token, a->d) : 0;
        }
        pack_rows(q, a->q_token, s->queries, a->d, (int)nv, (float)(a->scale * LOG2_E), s->qt);
        pack_rows(dout, a->o_token, s->queries, a->d, (int)nv, 1, s->dot);
        copy_rows(q, a->q_token, s->queries, a->d, j->width, s->q);
        copy_rows(dout, a->o_token, s->queries, a->d, j->width, s->dout);
        if (nv == 1) run_keys_1(a, s, j->width, k, v, base, base, end);
        else if (nv == 2) run_keys_2(a, s, j->width, k, v, base, base, end);
#if QV > 2
        else run_keys_3(a, s, j->width, k, v, base, base, end);
#endif
    }
    float *to = sums + block * a->d * LANES;
    for (int64_t i = 0; i < a->d * nv * VL; i += VL) vf_store(to + i, add ? vf_load(to + i) + vf_load(s->dqt + i) : vf_load(s->dqt + i));
}

/* ---- results ------------------------------------------------------------------------------------------------ */

static void store_keys(const struct job *j, const float *from, int64_t count, float factor, float *to, int64_t ld) {
    for (int64_t r = 0; r < count; r++)
        for (int64_t c = 0; c < j->a->d; c += VL) {
            const int64_t n = MIN(VL, j->a->d - c);
            const vf v = vf_load(from + r * j->width + c) * factor;
            if (n == VL) vf_store(to + r * ld + c, v);
            else vf_store_n(to + r * ld + c, v, n);
        }
}

/* Chunk `chunk` of one head's keys with all of its queries. */
static void run_chunk(const weft_env *env, const struct job *j, int64_t item, int64_t chunk, bool add, float *work, float *sums) {
    const weft_attention_grad_args *a = j->a;
    const int64_t base = chunk * j->chunk, count = MIN(j->chunk, a->tk - base), batch = item / a->heads, head = item % a->heads;
    struct state s = state_of(j, work);
    memset(s.dk, 0, (size_t)(2 * j->chunk * j->width) * sizeof(float));
    for (int64_t block = 0; block < j->blocks; block++) {
        if (cancelled(env)) return;
        run_block(j, &s, item, block, chunk, add, sums);
    }
    if (a->dk)
        store_keys(j, s.dk, count, (float)a->scale,
                   (float *)a->dk + batch * a->dk_batch + head * a->dk_head + base * a->dk_token, a->dk_token);
    if (a->dv) store_keys(j, s.dv, count, 1, (float *)a->dv + batch * a->dv_batch + head * a->dv_head + base * a->dv_token, a->dv_token);
}

/* One block of a head's dq: the chunks' parts, `parts` of them j->sums apart, added up and turned over. */
static void store_queries(const struct job *j, int64_t item, int64_t block, int64_t parts, const float *sums) {
    const weft_attention_grad_args *a = j->a;
    const int64_t vectors = (a->tq + VL - 1) / VL, first = block * vectors / j->blocks, nv = (block + 1) * vectors / j->blocks - first;
    const float *from = sums + block * a->d * LANES;
    float *dq = (float *)a->dq + item / a->heads * a->dq_batch + item % a->heads * a->dq_head + first * VL * a->dq_token;
    for (int64_t u = 0; u < nv; u++)
        for (int64_t c = 0; c < a->d; c += VL) {
            const int64_t rows = MIN(VL, a->tq - (first + u) * VL), columns = MIN(VL, a->d - c);
            vf t[VL];
            for (int64_t r = 0; r < VL; r++) {
                t[r] = (vf){ 0 };
                if (r >= columns) continue;
                t[r] = vf_load(from + ((c + r) * nv + u) * VL);
                for (int64_t p = 1; p < parts; p++) t[r] += vf_load(from + (size_t)p * j->sums + ((c + r) * nv + u) * VL);
            }
            vf_transpose(t);
            for (int64_t r = 0; r < rows; r++) {
                float *to = dq + (u * VL + r) * a->dq_token + c;
                if (columns == VL) vf_store(to, t[r] * (float)a->scale);
                else vf_store_n(to, t[r] * (float)a->scale, columns);
            }
        }
}

/* ---- the work ----------------------------------------------------------------------------------------------- */

/* Heads side by side, each one's chunks one after the other. */
static void run_heads(const weft_env *env, const struct job *j, int threads, float *scratch) {
    const weft_attention_grad_args *a = j->a;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t item = 0; item < a->batch * a->heads; item++) {
        float *work = scratch + (size_t)omp_get_thread_num() * (j->work + j->sums), *sums = work + j->work;
        for (int64_t chunk = 0; chunk < j->chunks && !cancelled(env); chunk++) run_chunk(env, j, item, chunk, chunk > 0, work, sums);
        for (int64_t block = 0; block < j->blocks && a->dq && !cancelled(env); block++) store_queries(j, item, block, 1, sums);
    }
}

/* One head after the other, its chunks side by side. */
static void run_chunks(const weft_env *env, const struct job *j, int threads, float *scratch) {
    const weft_attention_grad_args *a = j->a;
    float *sums = scratch + (size_t)threads * j->work;
#pragma omp parallel num_threads(threads)
    for (int64_t item = 0; item < a->batch * a->heads; item++) {
#pragma omp for schedule(dynamic)
        for (int64_t chunk = 0; chunk < j->chunks; chunk++)
            if (!cancelled(env))
                run_chunk(env, j, item, chunk, false, scratch + (size_t)omp_get_thread_num() * j->work, sums + (size_t)chunk * j->sums);
#pragma omp for schedule(static)
        for (int64_t block = 0; block < (a->dq ? j->blocks : 0); block++)
            if (!cancelled(env)) store_queries(j, item, block, j->chunks, sums);
    }
}

/* Without keys nothing depends on q. */
static void zero_queries(const weft_attention_grad_args *a) {
    for (int64_t item = 0; item < a->batch * a->heads; item++)
        for (int64_t i = 0; i < a->tq; i++)
            memset((float *)a->dq + item / a->heads * a->dq_batch + item % a->heads * a->dq_head + i * a->dq_token, 0,
                   (size_t)a->d * sizeof(float));
}

int ISA_NAME(attention_grad)(const weft_env *env, const weft_attention_grad_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const int64_t heads = a->batch * a->heads;
    if (heads <= 0 || a->d <= 0) return WEFT_K_OK;
    if (a->tk <= 0) {
        if (a->dq) zero_queries(a);
        return WEFT_K_OK;
    }
    struct job j = { .a = a, .width = (a->d + VL - 1) / VL * VL, .blocks = ((a->tq + VL - 1) / VL + QV - 1) / QV };
    j.chunk = MAX(LEAST_CHUNK, MIN(MOST_CHUNK, CHUNK_BYTES / (2 * j.width * (int64_t)sizeof(float)))) / KEYS * KEYS;
    j.chunks = (a->tk + j.chunk - 1) / j.chunk;
    j.chunk = MIN(j.chunk, a->tk);
    j.sums = (size_t)(j.blocks * a->d * LANES);
    j.work = work_floats(&j);
    int threads = threads_for(env, (double)heads * (double)(a->tq + 1) * (double)a->tk * (double)a->d / 2);
    const size_t apart = ((size_t)MIN(threads, j.chunks) * j.work + (size_t)j.chunks * j.sums) * sizeof(float);
    const bool by_chunks = heads < 3 * threads && j.chunks > 1 && apart <= env->scratch_hint;
    float *scratch = by_chunks ? env->alloc(env->owner, apart) : NULL;
    if (scratch) {
        run_chunks(env, &j, (int)MIN(threads, j.chunks), scratch);
        env->release(env->owner, scratch, apart);
    } else {
        threads = (int)MIN(threads, heads);
        const size_t bytes = (size_t)threads * (j.work + j.sums) * sizeof(float);
        if (!(scratch = env->alloc(env->owner, bytes))) return WEFT_K_NO_MEMORY;
        run_heads(env, &j, threads, scratch);
        env->release(env->owner, scratch, bytes);
    }
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}
