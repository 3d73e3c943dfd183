/* What the attention kernels share: their operands, which keys a query sees, and tiles for tensor cores.
 *
 * An item is one head of one image. A tile in shared memory is rows of D values, a multiple of 16, that lie D + 8 apart:
 * an odd number of 16-byte units, so that eight rows at one column, which is what one step of ldmatrix reads, are in
 * different banks.
 */
#ifndef WEFT_CUDA_ATTENTION_CUH
#define WEFT_CUDA_ATTENTION_CUH

#include <float.h>
#include "kernels/cuda/mma.cuh"

#define LOG2_E 1.44269504088896341
#define LN_2 0.693147180559945309

/* One operand's rows of d values. */
typedef struct attention_rows {
    void *p;                            /* only results are written */
    int64_t batch, token, head;         /* strides in elements */
    bool wide;                          /* every row is whole 16-byte units, on multiples of 16 bytes */
} attention_rows;

typedef struct attention_shape {
    int64_t items, heads, tq, tk;
    int d;
    bool causal;
    float scale;
} attention_shape;

typedef struct attention_task {
    attention_shape shape;
    attention_rows q, k, v, o;
    void *lse;
} attention_task;

/* For each query, what its scores (in base 2) lose so that 2ˢ is its weight, and Σ dout·o. */
typedef struct attention_stats { float lse, delta; } attention_stats;

typedef struct attention_grad_task {
    attention_shape shape;
    attention_rows q, k, v, o, dout, dq, dk, dv;
    const void *lse;
    attention_stats *stats;             /* items × stats_rows() */
} attention_grad_task;

/* Of an item's rows of stats; those behind its queries have an infinite lse: weights of 0. */
static __host__ __device__ inline int64_t stats_rows(const attention_shape &s) { return (s.tq + 63) / 64 * 64; }

/* attention_tiles.cu: any type, any d, without tensor cores. */
int attention_tiles(const weft_env *env, weft_dtype type, const attention_task &t);
int attention_grad_tiles(const weft_env *env, weft_dtype type, const attention_grad_task &t);

/* ---- the host's part ---------------------------------------------------------------------------------------- */

static inline attention_rows attention_rows_of(const void *p, int64_t batch, int64_t token, int64_t head, int64_t d,
                                               weft_dtype type) {
    const int64_t unit = 16 / (int64_t)weft_dtype_size(type);
    return { (void *)p, batch, token, head,
             is_wide(p) && batch % unit == 0 && token % unit == 0 && head % unit == 0 && d % unit == 0 };
}

/* Blocks of `rows` rows each for all items; 0: more than a grid takes. */
static inline unsigned attention_grid(const attention_shape &s, int64_t tokens, int rows) {
    const int64_t blocks = (tokens + rows - 1) / rows;
    return blocks > INT32_MAX / s.items ? 0 : (unsigned)(blocks * s.items);
}

/* ---- where a block is --------------------------------------------------------------------------------------- */

/* An item's rows from one on, `rows` of them or as many as are left. */
typedef struct attention_block {
    int64_t item, first;
    int rows;
} attention_block;

/* Of blockIdx.x; `backwards`: the item's last rows first, where they have the most to do. */
static __device__ __forceinline__ attention_block block_of(int64_t tokens, int rows, bool backwards) {
    const unsigned blocks = (unsigned)((tokens + rows - 1) / rows), at = blockIdx.x % blocks;
    const int64_t first = (int64_t)(backwards ? blocks - 1 - at : at) * rows;
    return { blockIdx.x / blocks, first, (int)min((int64_t)rows, tokens - first) };
}

template <typename T>
static __device__ __forceinline__ T *rows_at(const attention_rows &r, const attention_shape &s, int64_t item,
                                             int64_t token) {
    const unsigned heads = (unsigned)s.heads, batch = (unsigned)item / heads;
    return (T *)r.p + batch * r.batch + ((unsigned)item - batch * heads) * r.head + token * r.token;
}

/* How many keys query i sees: those before. */
static __device__ __forceinline__ int64_t keys_seen(const attention_shape &s, int64_t i) {
    const int64_t all = s.causal ? i + s.tk - s.tq + 1 : s.tk;
    return all < 0 ? 0 : all < s.tk ? all : s.tk;
}

/* A count among the rows of a tile. */
static __device__ __forceinline__ int within(int64_t v) { return v < 0 ? 0 : v > 4096 ? 4096 : (int)v; }

/* lse is f32 beside f32 and f64 beside any other type. */
template <typename T>
static __device__ __forceinline__ void put_lse(void *lse, int64_t at, bool none, double largest, float total) {
    const double v = none ? -(double)INFINITY : (largest + log2((double)total)) * LN_2;
    if (sizeof(T) == sizeof(float)) ((float *)lse)[at] = (float)v;
    else ((double *)lse)[at] = v;
}

/* ---- tiles -------------------------------------------------------------------------------------------------- */

enum { WARPS = 4, MMA_THREADS = 32 * WARPS };

static __device__ __forceinline__ int lane_of() { return threadIdx.x % 32; }
static __device__ __forceinline__ int warp_of() { return threadIdx.x / 32; }

/* `rows` rows of d values into a tile of ROWS × D, zeros around them; by all threads, through copies_end(). */
template <int D, int ROWS, typename T>
static __device__ __forceinline__ void load_tile(T *tile, const T *from, const attention_rows &r, int rows, int d) {
    for (int i = threadIdx.x; i < ROWS * (D / 8); i += MMA_THREADS) {
        const int row = i / (D / 8), column = i % (D / 8) * 8;
        const T *at = from + row * r.token + column;
        T *to = tile + row * (D + 8) + column;
        if (r.wide) {
            const bool there = row < rows && column < d;
            copy_16(to, there ? at : from, there);
            continue;
        }
        pack<T, 8> v;
#pragma unroll
        for (int k = 0; k < 8; k++) v.v[k] = row < rows && column + k < d ? at[k] : from_float<T>(0);
        store_pack(to, v);
    }
}

/* The first `rows` rows of a tile to where they belong; by one warp. */
template <int D, typename T>
static __device__ __forceinline__ void store_tile(const T *tile, T *to, const attention_rows &r, int rows, int d) {
    for (int i = lane_of(); i < rows * (D / 8); i += 32) {
        const int row = i / (D / 8), column = i % (D / 8) * 8;
        const pack<T, 8> v = load_pack<T, 8>(tile + row * (D + 8) + column);
        T *at = to + row * r.token + column;
        if (r.wide) {
            if (column < d) store_pack(at, v);
            continue;
        }
#pragma unroll
        for (int k = 0; k < 8; k++)
            if (column + k < d) at[k] = v.v[k];
    }
}

/* A product's 16 rows, each times its factor, into a tile of the warp's own. */
template <int D, typename T>
static __device__ __forceinline__ void put_rows(T *tile, const float (*c)[4], const float factor[2]) {
    const int g = lane_of() / 4, t = lane_of() % 4;
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            store_pack<T, 2>(tile + (g + 8 * h) * (D + 8) + n * 8 + 2 * t,
                             { { from_float<T>(c[n][2 * h] * factor[h]),
                                 from_float<T>(c[n][2 * h + 1] * factor[h]) } });
}

/* ---- products ----------------------------------------------------------------------------------------------- */

/* 16 rows and 16 columns of a tile as an a. */
template <typename T> static __device__ __forceinline__ void load_factor(uint32_t a[4], const T *tile, int ld) {
    load_matrices(a, tile + lane_of() % 16 * ld + lane_of() / 16 * 8);
}

/* c(16M × 8N) += a(16M × 16)·bᵀ, b: 8N rows of a tile, 16 columns. */
template <typename T, int M, int N>
static __device__ __forceinline__ void add_by_rows(float (&c)[M][N][4], const uint32_t (&a)[M][4], const T *b, int ld) {
    const T *at = b + (lane_of() % 8 + lane_of() / 16 * 8) * ld + lane_of() / 8 % 2 * 8;
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        uint32_t f[4];
        load_matrices(f, at + n * 8 * ld);
#pragma unroll
        for (int m = 0; m < M; m++) {
            multiply<T>(c[m][n], a[m], f);
            multiply<T>(c[m][n + 1], a[m], f + 2);
        }
    }
}

/* c(16M × 8N) += a(16M × 16)·b, b: 16 rows of a tile, 8N columns. */
template <typename T, int M, int N>
static __device__ __forceinline__ void add_by_columns(float (&c)[M][N][4], const uint32_t (&a)[M][4], const T *b,
                                                      int ld) {
    const T *at = b + lane_of() % 16 * ld + lane_of() / 16 * 8;
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        uint32_t f[4];
        load_matrices_turned(f, at + n * 8);
#pragma unroll
        for (int m = 0; m < M; m++) {
            multiply<T>(c[m][n], a[m], f);
            multiply<T>(c[m][n + 1], a[m], f + 2);
        }
    }
}

/* c += w·b with the weights of 8K rows of b, rounded to T as they go. */
template <typename T, int M, int N, int K>
static __device__ __forceinline__ void add_weighted(float (&c)[M][N][4], const float (&w)[M][K][4], const T *b,
                                                    int ld) {
#pragma unroll
    for (int k = 0; k < K; k += 2) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) as_factor<T>(a[m], w[m][k], w[m][k + 1]);
        add_by_columns<T>(c, a, b + k * 8 * ld, ld);
    }
}

#endif
