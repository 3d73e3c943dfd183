/* The gradient of attention without the matrix between (FlashAttention-2, Dao 2023, arXiv:2307.08691): blocks of scores
 * are computed again from q, k and lse.
 *
 * With s = scale·log₂e·q·kᵀ: p = 2^(s − lse), dp = dout·vᵀ, ds = p·(dp − delta) with delta = Σ dout·o; dv = pᵀ·dout,
 * dk = scale·dsᵀ·q, dq = scale·ds·k. First lse in base 2 and delta of all queries. Then a block of keys goes through all
 * queries for dk and dv, and a block of queries through all keys for dq: scores are computed twice, and no sum is split,
 * so the bytes are always the same. Both are one kernel: a block has rows of its own (k and v, or q and dout), the
 * others (q and dout, or k and v) pass by.
 *
 * Tensor cores, for f16 and bf16 and d of up to MOST_WIDTH: a warp holds 16 of its block's rows of the results. pᵀ and
 * dsᵀ (or ds) come out of the first products laid out as the second ones take them, rounded to the type in between. f16
 * loses a ds of less than 2⁻²⁴: losses are scaled for that. Anything else is in attention_tiles.cu.
 */
#include "kernels/cuda/attention.cuh"

enum { OWN = 16 * WARPS, MOST_WIDTH = 160 };

/* ---- lse and delta ------------------------------------------------------------------------------------------ */

/* A warp for a row. Where no key is seen, lse is −∞ and becomes ∞: weights of 0. */
template <typename T> static __global__ void __launch_bounds__(BLOCK) stats_kernel(const attention_grad_task t) {
    const int64_t rows = stats_rows(t.shape), all = t.shape.items * rows;
    for (int64_t i = grid_first() / 32; i < all; i += grid_step() / 32) {
        const int64_t item = i / rows, query = i - item * rows;
        float delta = 0, lse = INFINITY;
        if (query < t.shape.tq) {
            const T *o = rows_at<T>(t.o, t.shape, item, query), *dout = rows_at<T>(t.dout, t.shape, item, query);
            for (int c = lane_of(); c < t.shape.d; c += 32) delta = fmaf(to_float(dout[c]), to_float(o[c]), delta);
            const int64_t at = item * t.shape.tq + query;
            const double v = sizeof(T) == sizeof(float) ? ((const float *)t.lse)[at] : ((const double *)t.lse)[at];
            if (v != -(double)INFINITY) lse = (float)(v * LOG2_E);
        }
#pragma unroll
        for (int by = 16; by; by /= 2) delta += __shfl_xor_sync(0xffffffffu, delta, by);
        if (lane_of() == 0) t.stats[i] = { lse, delta };
    }
}

template <typename T> static int gather_stats(const weft_env *env, const attention_grad_task &t) {
    const int64_t threads = t.shape.items * stats_rows(t.shape) * 32;
    return launch(env, "attention_grad", grid_for(env, threads), BLOCK, 0, stats_kernel<T>, t);
}

/* ---- tensor cores ------------------------------------------------------------------------------------------- */

/* Which of a lane's values are visible: of the keys before a bound, or of the queries from one on. */
template <bool OF_KEYS> struct bounds { int at[2]; };

template <bool OF_KEYS>
static __device__ __forceinline__ bounds<OF_KEYS> bounds_of(const attention_shape &s, int64_t own, int64_t first) {
    bounds<OF_KEYS> b;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int64_t row = own + 16 * warp_of() + 8 * h + lane_of() / 4;
        b.at[h] = within((OF_KEYS ? row + s.tq - s.tk : keys_seen(s, row)) - first);
    }
    return b;
}

/* From scores and dp to p and ds. Rows are the block's own; stats are of the queries from `first` on: of columns, or
 * rows. */
template <bool OF_KEYS, int K>
static __device__ __forceinline__ void weigh(float (&s)[1][K][4], float (&dp)[1][K][4], float factor,
                                             const attention_stats *first, bool masked, const bounds<OF_KEYS> &b) {
    const int g = lane_of() / 4, column = lane_of() % 4 * 2;
    attention_stats at[2] = { first[OF_KEYS ? 0 : g], first[OF_KEYS ? 0 : g + 8] };
#pragma unroll
    for (int n = 0; n < K; n++) {
        if (OF_KEYS) {
            const float4 both = *(const float4 *)(first + n * 8 + column);
            at[0] = { both.x, both.y };
            at[1] = { both.z, both.w };
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const attention_stats &mine = at[OF_KEYS ? i % 2 : i / 2];
            float p = exp2_quick(fmaf(s[0][n][i], factor, -mine.lse)), ds = p * (dp[0][n][i] - mine.delta);
            const bool before = n * 8 + column + i % 2 < b.at[i / 2];
            if (masked && before == OF_KEYS) p = ds = 0;
            s[0][n][i] = p;
            dp[0][n][i] = ds;
        }
    }
}

/* c(16 × 8K) += own·otherᵀ: the warp's 16 rows of one tile, all rows of another. */
template <typename T, int D, int K>
static __device__ __forceinline__ void add_scores(float (&c)[1][K][4], const T *own, const T *other) {
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        uint32_t a[1][4];
        load_factor(a[0], own + 16 * warp_of() * (D + 8) + i * 16, D + 8);
        add_by_rows<T>(c, a, other + i * 16, D + 8);
    }
}

/* A warp's 16 rows of a result, through a tile whose rows it alone needs. */
template <typename T, int D>
static __device__ __forceinline__ void finish(const attention_rows &to, const attention_shape &s,
                                              const attention_block &b, const float (&c)[1][D / 8][4], float factor,
                                              T *tile) {
    const int row = 16 * warp_of(), rows = min(16, b.rows - row);
    const float factors[2] = { factor, factor };
    if (!to.p) return;
    __syncwarp();
    put_rows<D>(tile + row * (D + 8), c[0], factors);
    __syncwarp();
    if (rows > 0) store_tile<D>(tile + row * (D + 8), rows_at<T>(to, s, b.item, b.first + row), to, rows, s.d);
}

/* What passes by is there in halves, each loaded as soon as its last product is done: other1 while other0 is multiplied
 * and the other way round. Results: own0's from ds·other0, own1's from p·other1 (keys only). */
template <typename T, int D, bool OF_KEYS>
static __global__ void __launch_bounds__(MMA_THREADS) grad_kernel(const attention_grad_task t) {
    if (!mma_type<T>::there) return __trap();
    constexpr int LD = D + 8, OTHERS = D <= 80 ? 64 : 32;
    const attention_shape &sh = t.shape;
    const attention_block b = block_of(OF_KEYS ? sh.tk : sh.tq, OWN, sh.causal && !OF_KEYS);
    const attention_rows &rows0 = OF_KEYS ? t.q : t.k, &rows1 = OF_KEYS ? t.dout : t.v;
    const T *from0 = rows_at<T>(rows0, sh, b.item, 0), *from1 = rows_at<T>(rows1, sh, b.item, 0);
    T *own0 = shared_memory<T>(), *own1 = own0 + OWN * LD, *other0 = own1 + OWN * LD, *other1 = other0 + OTHERS * LD;
    const attention_stats *stats = t.stats + b.item * stats_rows(sh);
    const float factor = (float)(sh.scale * LOG2_E);
    /* of the others, those that any row sees; and whether a block's last row does not see one of these */
    const int64_t unseen = sh.causal ? b.first + sh.tq - sh.tk : 0;
    const int64_t begin = !OF_KEYS || unseen < 0 ? 0 : unseen / OTHERS * OTHERS;
    const int64_t end = OF_KEYS ? sh.tq : keys_seen(sh, b.first + b.rows - 1), seen = keys_seen(sh, b.first);

    const attention_rows &mine0 = OF_KEYS ? t.k : t.q, &mine1 = OF_KEYS ? t.v : t.dout;
    load_tile<D, OWN>(own0, rows_at<T>(mine0, sh, b.item, b.first), mine0, b.rows, sh.d);
    load_tile<D, OWN>(own1, rows_at<T>(mine1, sh, b.item, b.first), mine1, b.rows, sh.d);
#define LOAD(half, at) \
    load_tile<D, OTHERS>(other##half, from##half + (at) * rows##half.token, rows##half, within(end - (at)), sh.d)
    if (begin < end) LOAD(1, begin);
    copies_end();
    if (begin < end) LOAD(0, begin);
    copies_end();
    float c0[1][D / 8][4] = {}, c1[1][D / 8][4] = {};
    for (int64_t first = begin; first < end; first += OTHERS) {
        const int64_t next = first + OTHERS;
        float s[1][OTHERS / 8][4] = {}, dp[1][OTHERS / 8][4] = {};
        copies_wait<1>();
        __syncthreads();                        /* other1 is there, and own0 and own1 */
        add_scores<T, D>(dp, own1, other1);
        copies_wait<0>();
        __syncthreads();                        /* other0 is there */
        add_scores<T, D>(s, own0, other0);
        const bool masked = OF_KEYS ? sh.causal && b.first + OWN + sh.tq - sh.tk > first + 1 : next > seen;
        weigh<OF_KEYS>(s, dp, factor, stats + (OF_KEYS ? first : b.first + 16 * warp_of()), masked,
                       bounds_of<OF_KEYS>(sh, b.first, first));
        if (OF_KEYS) add_weighted<T>(c1, s, other1, LD);
        __syncthreads();                        /* nobody needs other1 any more */
        if (next < end) LOAD(1, next);
        copies_end();
        add_weighted<T>(c0, dp, other0, LD);
        __syncthreads();                        /* nor other0 */
        if (next < end) LOAD(0, next);
        copies_end();
    }
#undef LOAD
    copies_wait<0>();
    __syncthreads();
    finish<T, D>(OF_KEYS ? t.dk : t.dq, sh, b, c0, sh.scale, own0);
    if (OF_KEYS) finish<T, D>(t.dv, sh, b, c1, 1, own1);
}

template <typename T, int D, bool OF_KEYS> static int grad_of(const weft_env *env, const attention_grad_task &t) {
    constexpr size_t bytes = 2 * (OWN + (D <= 80 ? 64 : 32)) * (D + 8) * sizeof(T);
    static_assert(bytes <= 64 << 10, "sm_75 has no more");
    const int64_t tokens = OF_KEYS ? t.shape.tk : t.shape.tq;
    if (tokens <= 0 || !(OF_KEYS ? t.dk.p || t.dv.p : t.dq.p != NULL)) return WEFT_K_OK;
    const unsigned grid = attention_grid(t.shape, tokens, OWN);
    if (!grid) return WEFT_K_NO_CASE;
    int status = cuda_enter(cuda_queue_of(env));
    if (!status && bytes > 48 << 10)
        status = cuda_check(cudaFuncSetAttribute(grad_kernel<T, D, OF_KEYS>,
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
                            "attention_grad");
    return status ? status : launch(env, "attention_grad", grid, MMA_THREADS, bytes, grad_kernel<T, D, OF_KEYS>, t);
}

template <typename T, int D> static int both(const weft_env *env, const attention_grad_task &t) {
    const int status = grad_of<T, D, true>(env, t);
    return status ? status : grad_of<T, D, false>(env, t);
}

/* ---- which one ---------------------------------------------------------------------------------------------- */

template <typename T> static int by_width(const weft_env *env, const attention_grad_task &t) {
    const int d = t.shape.d;
    if (d > 128) return both<T, MOST_WIDTH>(env, t);
    if (d > 80) return both<T, 128>(env, t);
    if (d > 64) return both<T, 80>(env, t);
    if (d > 48) return both<T, 64>(env, t);
    return both<T, 48>(env, t);
}

static int choose(const weft_env *env, weft_dtype type, const attention_grad_task &t) {
    const bool fits = t.shape.d <= MOST_WIDTH && multiplies(cuda_queue_of(env), type, grad_kernel<bf16, 48, true>);
    if (!fits) return attention_grad_tiles(env, type, t);
    return type == WEFT_F16 ? by_width<f16>(env, t) : by_width<bf16>(env, t);
}

static attention_grad_task task_of(const weft_attention_grad_args *a) {
#define ROWS(p, of) attention_rows_of(a->p, a->of##_batch, a->of##_token, a->of##_head, a->d, a->type)
    return { { a->batch * a->heads, a->heads, a->tq, a->tk, (int)a->d, a->causal != 0, (float)a->scale },
             ROWS(q, q), ROWS(k, k), ROWS(v, v), ROWS(o, o), ROWS(dout, o), ROWS(dq, dq), ROWS(dk, dk), ROWS(dv, dv),
             a->lse, NULL };
#undef ROWS
}

int weft_cuda_attention_grad(const weft_env *env, const weft_attention_grad_args *a) {
    if (a->type != WEFT_F32 && a->type != WEFT_F16 && a->type != WEFT_BF16) return WEFT_K_NO_TYPE;
    if (a->batch <= 0 || a->heads <= 0 || a->d <= 0 || (a->tq <= 0 && a->tk <= 0)) return WEFT_K_OK;
    if (a->d > INT32_MAX / 2 || a->batch > INT32_MAX / a->heads) return WEFT_K_NO_CASE;
    attention_grad_task t = task_of(a);
    if (a->tq <= 0) return choose(env, a->type, t);         /* zeros for dk and dv; no query has stats */
    const size_t bytes = (size_t)(t.shape.items * stats_rows(t.shape)) * sizeof(attention_stats);
    if (!(t.stats = (attention_stats *)env->alloc(env->owner, bytes))) return WEFT_K_NO_MEMORY;
    int status;
#define DO(T) status = gather_stats<T>(env, t)
    switch (a->type) {
    case WEFT_F32: DO(float); break;
    case WEFT_F16: DO(f16); break;
    default: DO(bf16); break;
    }
#undef DO
    if (!status) status = choose(env, a->type, t);
    env->release(env->owner, t.stats, bytes);
    return status;
}
