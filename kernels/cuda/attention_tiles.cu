/* attention and its gradient without tensor cores: f32, whatever d; and of 16-bit values what tensor cores do not take
 * (bf16 on sm_75, gradients of wide heads). The method is that of attention.cu and attention_grad.cu.
 *
 * All is f32. 256 threads hold 64 × 64 scores, 4 × 4 each: thread (y, x) has rows 4y… and columns 4x…. Scores are summed
 * over slices of d that pass through shared memory; weights go there to meet the rows that they weigh. A block makes
 * 64·N columns of its results; where d is more, others make the rest and compute the scores again.
 */
#include "kernels/cuda/attention.cuh"

enum {
    TILE = 64,
    THREADS = 256,
    LD = TILE + 4,              /* of tiles turned over: 16-byte loads, and writes without bank conflicts */
    DEPTH = 32,                 /* of a slice of d */
    STEP = 16,                  /* rows that are weighed at once */
    MOST_N = 4
};

/* Shared memory: slices of d of both sides, or STEP rows; and weights, [other row][own row]. */
enum { WORK = STEP * TILE * MOST_N > 2 * DEPTH * LD ? STEP * TILE * MOST_N : 2 * DEPTH * LD };
typedef struct tiles { float *work, *weights; } tiles;
#define DECLARE_TILES(name) \
    __shared__ __align__(16) float shared_work[WORK]; \
    __shared__ __align__(16) float shared_weights[TILE * LD]; \
    const tiles name = { shared_work, shared_weights }

/* Rows of one operand, from a block's first on, as many as there are. */
template <typename T> struct some_rows { const T *p; int64_t token; int rows; };

template <typename T>
static __device__ __forceinline__ some_rows<T> some_of(const attention_rows &r, const attention_shape &s, int64_t item,
                                                       int64_t first, int64_t end) {
    const int64_t left = end - first;
    return { rows_at<T>(r, s, item, first), r.token, (int)min(left, (int64_t)TILE) };
}

/* ---- products ----------------------------------------------------------------------------------------------- */

/* TILE rows of DEPTH columns, to[column][row]; 8 columns of 4 rows a warp, so that reads are whole sectors. */
template <typename T>
static __device__ __forceinline__ void load_turned(float *to, const some_rows<T> &from, int column, int d) {
    for (int i = threadIdx.x; i < TILE * DEPTH; i += THREADS) {
        const int c = i % 8 + i / 32 % 4 * 8, r = i / 8 % 4 + i / 128 * 4;
        if (column + c < d) to[c * LD + r] = r < from.rows ? to_float(from.p[r * from.token + column + c]) : 0;
    }
}

/* STEP rows from `row` on, 64·N columns. */
template <int N, typename T>
static __device__ __forceinline__ void load_rows(float *to, const some_rows<T> &from, int row, int column, int d) {
    for (int i = threadIdx.x; i < STEP * TILE * N; i += THREADS) {
        const int c = i % (TILE * N), r = row + i / (TILE * N);
        if (column + c < d) to[i] = r < from.rows ? to_float(from.p[r * from.token + column + c]) : 0;
    }
}

/* c(64 × 64N) += a(depth × 64)ᵀ·b(depth × 64N); the first `rows` rows and `columns` columns at least. */
template <int N>
static __device__ __forceinline__ void add_product(float (&c)[N][4][4], const float *a, const float *b, int ldb,
                                                   int depth, int rows, int columns) {
    const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
    if (row >= rows || column >= columns) return;
    a += row;
    b += column;
#pragma unroll 4
    for (int k = 0; k < depth; k++) {
        const pack<float, 4> u = load_pack<float, 4>(a + k * LD);
#pragma unroll
        for (int n = 0; n < N; n++) {
            const pack<float, 4> v = load_pack<float, 4>(b + k * ldb + n * TILE);
#pragma unroll
            for (int i = 0; i < 16; i++) c[n][i / 4][i % 4] = fmaf(u.v[i / 4], v.v[i % 4], c[n][i / 4][i % 4]);
        }
    }
}

/* s = own·otherᵀ over all of d. */
template <typename T>
static __device__ __forceinline__ void make_scores(float (&s)[1][4][4], const some_rows<T> &own,
                                                   const some_rows<T> &other, int d, const tiles &t) {
#pragma unroll
    for (int i = 0; i < 16; i++) s[0][i / 4][i % 4] = 0;
    for (int c = 0; c < d; c += DEPTH) {
        load_turned(t.work, own, c, d);
        load_turned(t.work + DEPTH * LD, other, c, d);
        __syncthreads();
        add_product(s, t.work, t.work + DEPTH * LD, LD, min((int)DEPTH, d - c), own.rows, other.rows);
        __syncthreads();
    }
}

/* c += s·other: own rows, columns from `column` on. */
template <int N, typename T>
static __device__ __forceinline__ void add_weighted(float (&c)[N][4][4], const float (&s)[1][4][4], int rows,
                                                    const some_rows<T> &other, int column, int d, const tiles &t) {
    float *to = t.weights + threadIdx.x % 16 * 4 * LD + threadIdx.x / 16 * 4;
#pragma unroll
    for (int x = 0; x < 4; x++)
        store_pack<float, 4>(to + x * LD, { { s[0][0][x], s[0][1][x], s[0][2][x], s[0][3][x] } });
    for (int k = 0; k < other.rows; k += STEP) {
        load_rows<N>(t.work, other, k, column, d);
        __syncthreads();
        add_product(c, t.weights + k * LD, t.work, TILE * N, STEP, rows, d - column);
        __syncthreads();
    }
}

/* c·factor to rows of a result. */
template <int N, typename T>
static __device__ __forceinline__ void put(const float (&c)[N][4][4], const float (&factor)[4],
                                           const attention_rows &to, const attention_shape &s, const attention_block &b,
                                           int column) {
    const int row = threadIdx.x / 16 * 4, x = column + threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (row + i >= b.rows) break;
        T *at = rows_at<T>(to, s, b.item, b.first + row + i);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int k = 0; k < 4; k++)
                if (x + n * TILE + k < s.d) at[x + n * TILE + k] = from_float<T>(c[n][i][k] * factor[i]);
    }
}

/* ---- forward ------------------------------------------------------------------------------------------------ */

/* Rows of the 16 threads that share them. */
typedef struct running { float largest[4], total[4]; } running;

/* From scores in base 2 to weights; what the rows of c held is shrunk to the new largest. limit: keys that a row
 * sees. */
template <int N>
static __device__ __forceinline__ void weigh(float (&s)[1][4][4], const int (&limit)[4], running *r,
                                             float (&c)[N][4][4]) {
    const int column = threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float most = r->largest[i];
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (column + k < limit[i]) most = fmaxf(most, s[0][i][k]);
#pragma unroll
        for (int by = 8; by; by /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, by));
        const float shrink = exp2_quick(r->largest[i] - most);
        float total = 0;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            s[0][i][k] = column + k < limit[i] ? exp2_quick(s[0][i][k] - most) : 0;
            total += s[0][i][k];
        }
        r->largest[i] = most;
        r->total[i] = r->total[i] * shrink + total;
#pragma unroll
        for (int k = 0; k < 4 * N; k++) c[k / 4][i][k % 4] *= shrink;
    }
}

template <typename T, int N> static __global__ void __launch_bounds__(THREADS) forward_kernel(const attention_task t) {
    DECLARE_TILES(tile);
    const attention_shape &sh = t.shape;
    const attention_block b = block_of(sh.tq, TILE, sh.causal);
    const int column = blockIdx.y * TILE * N, row = threadIdx.x / 16 * 4;
    const int64_t keys = keys_seen(sh, b.first + b.rows - 1);
    const some_rows<T> q = some_of<T>(t.q, sh, b.item, b.first, sh.tq);
    const float factor = (float)(sh.scale * LOG2_E);
    float o[N][4][4] = {};
    running r = { { -FLT_MAX, -FLT_MAX, -FLT_MAX, -FLT_MAX }, { 0 } };
    for (int64_t first = 0; first < keys; first += TILE) {
        float s[1][4][4];
        int limit[4];
        make_scores(s, q, some_of<T>(t.k, sh, b.item, first, keys), sh.d, tile);
#pragma unroll
        for (int i = 0; i < 16; i++) s[0][i / 4][i % 4] *= factor;
#pragma unroll
        for (int i = 0; i < 4; i++) limit[i] = within(keys_seen(sh, b.first + row + i) - first);
        weigh(s, limit, &r, o);
        add_weighted(o, s, b.rows, some_of<T>(t.v, sh, b.item, first, keys), column, sh.d, tile);
    }
    float inverse[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int by = 8; by; by /= 2) r.total[i] += __shfl_xor_sync(0xffffffffu, r.total[i], by);
        const int64_t query = b.first + row + i;
        const bool none = keys_seen(sh, query) == 0;
        inverse[i] = none ? 0 : 1 / r.total[i];
        if (t.lse && row + i < b.rows && column == 0 && threadIdx.x % 16 == 0)
            put_lse<T>(t.lse, b.item * sh.tq + query, none, r.largest[i], r.total[i]);
    }
    put<N, T>(o, inverse, t.o, sh, b, column);
}

/* ---- gradient ----------------------------------------------------------------------------------------------- */

/* From scores and dp to p and ds; `first` is the first of the others. */
template <bool OF_KEYS>
static __device__ __forceinline__ void weigh_grad(float (&s)[1][4][4], float (&dp)[1][4][4],
                                                  const attention_grad_task &t, const attention_block &b,
                                                  int64_t first) {
    const int64_t own = b.first + threadIdx.x / 16 * 4, other = first + threadIdx.x % 16 * 4;
    const attention_stats *stats = t.stats + b.item * stats_rows(t.shape);
    const float factor = (float)(t.shape.scale * LOG2_E);
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const int64_t query = OF_KEYS ? other + i % 4 : own + i / 4, key = OF_KEYS ? own + i / 4 : other + i % 4;
        const attention_stats at = stats[query];
        float *v = &s[0][i / 4][i % 4], *w = &dp[0][i / 4][i % 4];
        const bool visible = key < keys_seen(t.shape, query);
        *v = visible ? exp2_quick(fmaf(*v, factor, -at.lse)) : 0;
        *w = visible ? *v * (*w - at.delta) : 0;
    }
}

/* As in attention_grad.cu: own0's results from ds·other0, own1's from p·other1 (keys only). */
template <typename T, int N, bool OF_KEYS>
static __global__ void __launch_bounds__(THREADS) grad_kernel(const attention_grad_task t) {
    DECLARE_TILES(tile);
    const attention_shape &sh = t.shape;
    const attention_block b = block_of(OF_KEYS ? sh.tk : sh.tq, TILE, sh.causal && !OF_KEYS);
    const int64_t own_end = OF_KEYS ? sh.tk : sh.tq, unseen = sh.causal ? b.first + sh.tq - sh.tk : 0;
    const int64_t begin = !OF_KEYS || unseen < 0 ? 0 : unseen / TILE * TILE;
    const int64_t end = OF_KEYS ? sh.tq : keys_seen(sh, b.first + b.rows - 1);
    const int column = blockIdx.y * TILE * N;
    const some_rows<T> own0 = some_of<T>(OF_KEYS ? t.k : t.q, sh, b.item, b.first, own_end);
    const some_rows<T> own1 = some_of<T>(OF_KEYS ? t.v : t.dout, sh, b.item, b.first, own_end);
    float c0[N][4][4] = {}, c1[N][4][4] = {};
    for (int64_t first = begin; first < end; first += TILE) {
        const some_rows<T> other0 = some_of<T>(OF_KEYS ? t.q : t.k, sh, b.item, first, end);
        const some_rows<T> other1 = some_of<T>(OF_KEYS ? t.dout : t.v, sh, b.item, first, end);
        float s[1][4][4], dp[1][4][4];
        make_scores(s, own0, other0, sh.d, tile);
        make_scores(dp, own1, other1, sh.d, tile);
        weigh_grad<OF_KEYS>(s, dp, t, b, first);
        if (OF_KEYS) add_weighted(c1, s, b.rows, other1, column, sh.d, tile);
        add_weighted(c0, dp, b.rows, other0, column, sh.d, tile);
    }
    const float scale[4] = { sh.scale, sh.scale, sh.scale, sh.scale }, plain[4] = { 1, 1, 1, 1 };
    const attention_rows &to0 = OF_KEYS ? t.dk : t.dq;
    if (to0.p) put<N, T>(c0, scale, to0, sh, b, column);
    if (OF_KEYS && t.dv.p) put<N, T>(c1, plain, t.dv, sh, b, column);
}

/* ---- launches ----------------------------------------------------------------------------------------------- */

/* For `tokens` rows of each item and all columns. */
template <int N, typename A>
static int launch_tiles(const weft_env *env, const char *who, int64_t tokens, const A &t, void (*kernel)(const A)) {
    if (tokens <= 0) return WEFT_K_OK;
    const unsigned grid = attention_grid(t.shape, tokens, TILE);
    const int64_t chunks = (t.shape.d + TILE * N - 1) / (TILE * N);
    if (!grid || chunks > 65535) return WEFT_K_NO_CASE;
    return launch(env, who, dim3(grid, (unsigned)chunks), THREADS, 0, kernel, t);
}

template <typename T, int N> static int grads(const weft_env *env, const attention_grad_task &t) {
    const char *who = "attention_grad";
    int status = WEFT_K_OK;
    if (t.dk.p || t.dv.p) status = launch_tiles<N>(env, who, t.shape.tk, t, grad_kernel<T, N, true>);
    if (!status && t.dq.p) status = launch_tiles<N>(env, who, t.shape.tq, t, grad_kernel<T, N, false>);
    return status;
}

template <typename T, int N> static int forward(const weft_env *env, const attention_task &t) {
    return launch_tiles<N>(env, "attention", t.shape.tq, t, forward_kernel<T, N>);
}

int attention_tiles(const weft_env *env, weft_dtype type, const attention_task &t) {
    const int d = t.shape.d;
    if (type == WEFT_F16) return WEFT_K_NO_TYPE;            /* tensor cores take it everywhere */
    if (type == WEFT_BF16) return forward<bf16, MOST_N>(env, t);
    if (d > 2 * TILE) return forward<float, MOST_N>(env, t);
    return d > TILE ? forward<float, 2>(env, t) : forward<float, 1>(env, t);
}

int attention_grad_tiles(const weft_env *env, weft_dtype type, const attention_grad_task &t) {
    const int d = t.shape.d;
    if (type == WEFT_F16) return grads<f16, MOST_N>(env, t);
    if (type == WEFT_BF16) return grads<bf16, MOST_N>(env, t);
    if (d > 2 * TILE) return grads<float, MOST_N>(env, t);
    return d > TILE ? grads<float, 2>(env, t) : grads<float, 1>(env, t);
}
