/* attention: o = softmax(scale·q·kᵀ)·v without the matrix between (FlashAttention-2, Dao 2023, arXiv:2307.08691):
 * blocks of keys pass by a block of queries, with a running maximum and sum ("online softmax", Milakov & Gimelshein
 * 2018).
 *
 * Tensor cores, for f16 and bf16: a warp holds 16·M queries, their q and their part of o in registers. Scores come out
 * of the first product laid out as the second one takes its weights, so they never leave the registers either. Of k and
 * v a block of keys each is in shared memory: v comes while k is multiplied, the next k while v is. Weights are rounded
 * to the type before the second product, sums are f32.
 *
 * A d of more than MOST_WIDTH does not fit: the same, but q and k pass by in slices of d, and each block makes CHUNK
 * columns of o, so scores are computed once for each chunk. f32, and bf16 on sm_75, are in attention_tiles.cu.
 */
#include "kernels/cuda/attention.cuh"

enum {
    KEYS = 64,
    MOST_WIDTH = 160,
    SLICE = 64, SLICE_KEYS = 32, CHUNK = 256    /* for more than that */
};

/* ---- softmax ------------------------------------------------------------------------------------------------ */

/* A lane's rows: g and g + 8 of each 16. Sums are the lane's own until the end. */
template <int M> struct running { float largest[M][2], total[M][2]; };

template <int M> static __device__ __forceinline__ void start(running<M> *r) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            r->largest[m][h] = -FLT_MAX;
            r->total[m][h] = 0;
        }
}

/* Among the four lanes that hold a row. */
static __device__ __forceinline__ float largest_of_row(float v) {
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}
static __device__ __forceinline__ float sum_of_row(float v) {
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

/* v in place of what a row does not see: all from its limit on. */
template <int M, int K>
static __device__ __forceinline__ void hide(float (&s)[M][K][4], const int (&limit)[M][2], float v) {
    const int column = lane_of() % 4 * 2;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int i = 0; i < 4 * K; i++)
            if (i / 4 * 8 + column + i % 2 >= limit[m][i / 2 % 2]) s[m][i / 4][i % 4] = v;
}

/* From scores to weights 2^(factor·(score − largest)), factor ≥ 0; what o held so far is shrunk to the new largest.
 * Where `masked`, row (m, h) sees only limit[m][h] of the keys. NaN and ∞ among the scores make their row NaN. */
template <int M, int K, int N>
static __device__ __forceinline__ void weigh(float (&s)[M][K][4], float factor, bool masked, const int (&limit)[M][2],
                                             running<M> *r, float (&o)[M][N][4]) {
    if (masked) hide(s, limit, -FLT_MAX);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float last = r->largest[m][h];
            float most = last;
#pragma unroll
            for (int i = 0; i < 2 * K; i++) most = fmaxf(most, s[m][i / 2][2 * h + i % 2]);
            most = largest_of_row(most);
            const float shrink = exp2_quick((last - most) * factor), shift = most * factor;
#pragma unroll
            for (int i = 0; i < 2 * K; i++) {
                float *v = &s[m][i / 2][2 * h + i % 2];
                *v = exp2_quick(fmaf(*v, factor, -shift));
            }
            r->largest[m][h] = most;
            r->total[m][h] *= shrink;
#pragma unroll
            for (int i = 0; i < 2 * N; i++) o[m][i / 2][2 * h + i % 2] *= shrink;
        }
    if (masked) hide(s, limit, 0);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int i = 0; i < 4 * K; i++) r->total[m][i / 2 % 2] += s[m][i / 4][i % 4];
}

/* ---- both kernels' ends ------------------------------------------------------------------------------------- */

/* A warp's first row of its block's. */
template <int M> static __device__ __forceinline__ int warp_row() { return 16 * M * warp_of(); }

/* How many of the keys from `first` on the lane's rows see. */
template <int M>
static __device__ __forceinline__ void limits(int (&limit)[M][2], const attention_shape &s, int64_t query,
                                              int64_t first) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            limit[m][h] = within(keys_seen(s, query + warp_row<M>() + 16 * m + 8 * h + lane_of() / 4) - first);
}

/* o/total to the block's rows of the result, through a tile of them all: of D columns from `column` on. A row that sees
 * no key gives zeros. */
template <typename T, int D, int M>
static __device__ __forceinline__ void finish(const attention_task &t, const attention_block &b, running<M> &r,
                                              const float (&o)[M][D / 8][4], T *tile, int column) {
    const int row = warp_row<M>(), g = lane_of() / 4;
    T *own = tile + row * (D + 8);
#pragma unroll
    for (int m = 0; m < M; m++) {
        float inverse[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int at = row + 16 * m + 8 * h + g;
            const bool none = keys_seen(t.shape, b.first + at) == 0;
            const float total = sum_of_row(r.total[m][h]);
            inverse[h] = none ? 0 : 1 / total;
            if (t.lse && at < b.rows && lane_of() % 4 == 0 && column == 0)
                put_lse<T>(t.lse, b.item * t.shape.tq + b.first + at, none,
                           (double)r.largest[m][h] * fabsf(t.shape.scale) * LOG2_E, total);
        }
        put_rows<D>(own + 16 * m * (D + 8), o[m], inverse);
    }
    __syncwarp();
    const int rows = min(16 * M, b.rows - row);
    if (rows > 0)
        store_tile<D>(own, rows_at<T>(t.o, t.shape, b.item, b.first + row) + column, t.o, rows, t.shape.d - column);
}

/* q as products take it. A negative scale is q's sign, so that the largest score is the largest weight. */
template <typename T>
static __device__ __forceinline__ void load_queries(uint32_t a[4], const T *tile, int ld, float scale) {
    load_factor(a, tile, ld);
    const uint32_t sign = scale < 0 ? 0x80008000u : 0;
#pragma unroll
    for (int i = 0; i < 4; i++) a[i] ^= sign;
}

/* ---- d of up to MOST_WIDTH ---------------------------------------------------------------------------------- */

template <typename T, int D, int M>
static __global__ void __launch_bounds__(MMA_THREADS) flash_kernel(const attention_task t) {
    if (!mma_type<T>::there) return __trap();
    constexpr int LD = D + 8, ROWS = 16 * M * WARPS;
    const attention_shape &sh = t.shape;
    const attention_block b = block_of(sh.tq, ROWS, sh.causal);
    const T *k = rows_at<T>(t.k, sh, b.item, 0), *v = rows_at<T>(t.v, sh, b.item, 0);
    const int64_t keys = keys_seen(sh, b.first + b.rows - 1), seen = keys_seen(sh, b.first);
    const float factor = (float)(fabsf(sh.scale) * LOG2_E);
    T *tile_k = shared_memory<T>(), *tile_v = tile_k + KEYS * LD, *tile_q = tile_k;

    load_tile<D, ROWS>(tile_q, rows_at<T>(t.q, sh, b.item, b.first), t.q, b.rows, sh.d);
    copies_end();
    copies_wait<0>();
    __syncthreads();
    uint32_t q[D / 16][M][4];
#pragma unroll
    for (int i = 0; i < D / 16 * M; i++)
        load_queries(q[i / M][i % M], tile_q + (warp_row<M>() + i % M * 16) * LD + i / M * 16, LD, sh.scale);
    __syncthreads();

    float o[M][D / 8][4] = {};
    running<M> r;
    start(&r);
    if (keys) load_tile<D, KEYS>(tile_k, k, t.k, within(keys), sh.d);
    copies_end();
    for (int64_t first = 0; first < keys; first += KEYS) {
        copies_wait<0>();
        __syncthreads();                        /* k is there, and nobody needs the last v any more */
        load_tile<D, KEYS>(tile_v, v + first * t.v.token, t.v, within(keys - first), sh.d);
        copies_end();
        float s[M][KEYS / 8][4] = {};
#pragma unroll
        for (int i = 0; i < D / 16; i++) add_by_rows<T>(s, q[i], tile_k + i * 16, LD);
        copies_wait<0>();
        __syncthreads();                        /* v is there, and nobody needs this k any more */
        const int64_t next = first + KEYS;
        if (next < keys) load_tile<D, KEYS>(tile_k, k + next * t.k.token, t.k, within(keys - next), sh.d);
        copies_end();
        int limit[M][2] = {};
        if (next > seen) limits(limit, sh, b.first, first);
        weigh(s, factor, next > seen, limit, &r, o);
        add_weighted<T>(o, s, tile_v, LD);
    }
    __syncthreads();
    finish<T, D>(t, b, r, o, tile_q, 0);
}

template <typename T, int D, int M> static int flash(const weft_env *env, const attention_task &t) {
    constexpr int ROWS = 16 * M * WARPS;
    static_assert(ROWS <= 2 * KEYS, "q goes through the tiles of k and v");
    const unsigned grid = attention_grid(t.shape, t.shape.tq, ROWS);
    if (!grid) return WEFT_K_NO_CASE;
    return launch(env, "attention", grid, MMA_THREADS, 2 * KEYS * (D + 8) * sizeof(T), flash_kernel<T, D, M>, t);
}

/* With twice 16 queries a warp, k and v are read half as often; with 16 there are more blocks, where processors would
 * be idle. The bytes are the same. */
template <typename T, int D> static int flash_narrow(const weft_env *env, const attention_task &t) {
    const int64_t blocks = t.shape.items * div_up(t.shape.tq, 32 * WARPS);
    return blocks < 2 * cuda_queue_of(env)->processors ? flash<T, D, 1>(env, t) : flash<T, D, 2>(env, t);
}

/* ---- wider -------------------------------------------------------------------------------------------------- */

/* A slice of the block's q and of SLICE_KEYS keys, one behind the other: there are two such pairs. */
template <typename T>
static __device__ __forceinline__ void load_slice(T *pair, const attention_task &t, const attention_block &b,
                                                  int64_t first, int64_t keys, int slice) {
    const int column = slice * SLICE, d = t.shape.d - column;
    load_tile<SLICE, 16 * WARPS>(pair, rows_at<T>(t.q, t.shape, b.item, b.first) + column, t.q, b.rows, d);
    load_tile<SLICE, SLICE_KEYS>(pair + 16 * WARPS * (SLICE + 8), rows_at<T>(t.k, t.shape, b.item, first) + column, t.k,
                                 within(keys - first), d);
    copies_end();
}

/* blockIdx.y is the chunk of columns. */
template <typename T> static __global__ void __launch_bounds__(MMA_THREADS) wide_kernel(const attention_task t) {
    if (!mma_type<T>::there) return __trap();
    constexpr int LD = SLICE + 8, PAIR = (16 * WARPS + SLICE_KEYS) * LD;
    const attention_shape &sh = t.shape;
    const attention_block b = block_of(sh.tq, 16 * WARPS, sh.causal);
    const int column = blockIdx.y * CHUNK, slices = (sh.d + SLICE - 1) / SLICE;
    const T *v = rows_at<T>(t.v, sh, b.item, 0) + column;
    const int64_t keys = keys_seen(sh, b.first + b.rows - 1), seen = keys_seen(sh, b.first);
    const float factor = (float)(fabsf(sh.scale) * LOG2_E);
    T *tile_v = shared_memory<T>(), *pairs = tile_v + SLICE_KEYS * (CHUNK + 8);

    float o[1][CHUNK / 8][4] = {};
    running<1> r;
    start(&r);
    for (int64_t first = 0; first < keys; first += SLICE_KEYS) {
        __syncthreads();                        /* nobody needs the last v any more */
        load_tile<CHUNK, SLICE_KEYS>(tile_v, v + first * t.v.token, t.v, within(keys - first), sh.d - column);
        load_slice(pairs, t, b, first, keys, 0);
        float s[1][SLICE_KEYS / 8][4] = {};
        for (int j = 0; j < slices; j++) {
            if (j + 1 < slices) load_slice(pairs + (j + 1) % 2 * PAIR, t, b, first, keys, j + 1);
            else copies_end();
            copies_wait<1>();
            __syncthreads();                    /* this slice is there; before the first, v too */
            const T *q = pairs + j % 2 * PAIR, *k = q + 16 * WARPS * LD;
#pragma unroll
            for (int i = 0; i < SLICE / 16; i++) {
                uint32_t a[1][4];
                load_queries(a[0], q + warp_row<1>() * LD + i * 16, LD, sh.scale);
                add_by_rows<T>(s, a, k + i * 16, LD);
            }
            __syncthreads();                    /* nobody needs it any more */
        }
        const bool masked = first + SLICE_KEYS > seen;
        int limit[1][2] = {};
        if (masked) limits(limit, sh, b.first, first);
        weigh(s, factor, masked, limit, &r, o);
        add_weighted<T>(o, s, tile_v, CHUNK + 8);
    }
    __syncthreads();
    finish<T, CHUNK>(t, b, r, o, tile_v, column);
}

template <typename T> static int wide_flash(const weft_env *env, const attention_task &t) {
    constexpr int ELEMENTS = SLICE_KEYS * (CHUNK + 8) + 2 * (16 * WARPS + SLICE_KEYS) * (SLICE + 8);
    static_assert(16 * WARPS * (CHUNK + 8) <= ELEMENTS, "the result goes through all of it");
    const unsigned grid = attention_grid(t.shape, t.shape.tq, 16 * WARPS);
    const int chunks = (t.shape.d + CHUNK - 1) / CHUNK;
    if (!grid || chunks > 65535) return WEFT_K_NO_CASE;
    return launch(env, "attention", dim3(grid, (unsigned)chunks), MMA_THREADS, ELEMENTS * sizeof(T), wide_kernel<T>, t);
}

/* ---- which one ---------------------------------------------------------------------------------------------- */

template <typename T> static int by_width(const weft_env *env, const attention_task &t) {
    const int d = t.shape.d;
    if (d > MOST_WIDTH) return wide_flash<T>(env, t);
    if (d > 128) return flash<T, MOST_WIDTH, 1>(env, t);
    if (d > 80) return flash<T, 128, 1>(env, t);
    if (d > 64) return flash_narrow<T, 80>(env, t);
    if (d > 48) return flash_narrow<T, 64>(env, t);
    return flash_narrow<T, 48>(env, t);
}

/* Always our own: cuDNN's operation for attention (9.13 and later) has no causal mask, and each of its engines compiles
 * itself for every new size at the first call, for 0.2 s and more, by a library besides (NVRTC). */
static int choose(const weft_env *env, weft_dtype type, const attention_task &t) {
    if (!multiplies(cuda_queue_of(env), type, wide_kernel<bf16>)) return attention_tiles(env, type, t);
    return type == WEFT_F16 ? by_width<f16>(env, t) : by_width<bf16>(env, t);
}

int weft_cuda_attention(const weft_env *env, const weft_attention_args *a) {
    if (a->type != WEFT_F32 && a->type != WEFT_F16 && a->type != WEFT_BF16) return WEFT_K_NO_TYPE;
    if (a->batch <= 0 || a->heads <= 0 || a->tq <= 0 || a->d <= 0) return WEFT_K_OK;
    if (a->d > INT32_MAX / 2 || a->batch > INT32_MAX / a->heads) return WEFT_K_NO_CASE;
    const attention_task t = {
        { a->batch * a->heads, a->heads, a->tq, a->tk, (int)a->d, a->causal != 0, (float)a->scale },
        attention_rows_of(a->q, a->q_batch, a->q_token, a->q_head, a->d, a->type),
        attention_rows_of(a->k, a->k_batch, a->k_token, a->k_head, a->d, a->type),
        attention_rows_of(a->v, a->v_batch, a->v_token, a->v_head, a->d, a->type),
        attention_rows_of(a->o, a->o_batch, a->o_token, a->o_head, a->d, a->type), a->lse
    };
    return choose(env, a->type, t);
}
