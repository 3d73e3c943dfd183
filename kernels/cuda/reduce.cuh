/* y(outer, inner) = the join over mid of x(outer, mid, inner), for any way to read, to join and to store.
 *
 * A block has tiles of `wide` packs of columns side by side, `high` rows at once, `deep` outers one behind the other,
 * and goes down mid in steps of `high`. Where there are too few such blocks to fill the device, mid is cut into chunks;
 * the last of a tile's blocks joins what they found. One contiguous row (inner = 1) is read as rows of one pack, whose
 * values are joined at the end.
 *
 *   read:   pack<float, N> operator()(int64_t i), N values of x from element i on
 *   join:   typedef … sum; sum none(); sum one(float); sum four(float, float, float, float); sum join(sum, sum)
 *   store:  void operator()(int64_t i, sum v), element i of y
 */
#ifndef WEFT_CUDA_REDUCE_CUH
#define WEFT_CUDA_REDUCE_CUH

#include "kernels/cuda/sums.cuh"

typedef struct reduction {
    int64_t outer, mid, inner;              /* inner counts packs; joined: mid counts them, and inner is 1 */
    bool joined;
    int wide, high, deep;
    int64_t across, tiles;                  /* tiles side by side; all */
    int64_t chunk, chunks;                  /* rows of a chunk; chunks of a tile: more than one only where deep is 1 */
} reduction;

static inline reduction reduction_of(const weft_env *env, int64_t outer, int64_t mid, int64_t inner, bool joined) {
    enum { WIDEST = 64, ROWS = 8 };         /* packs; rows that a thread should have at least */
    reduction s = { outer, mid, inner, joined, 1, 1, 1, 1, 1, mid, 1 };
    const int64_t wanted = 4 * (int64_t)cuda_queue_of(env)->processors;
    s.across = div_up(inner, WIDEST);
    s.wide = (int)div_up(inner, s.across);
    const int64_t most = BLOCK / s.wide, wish = div_up(mid, ROWS);
    s.high = (int)(wish < 1 ? 1 : least(wish, most));
    s.deep = BLOCK / (s.wide * s.high);
    s.deep = (int)least(s.deep, outer);
    s.tiles = s.across * div_up(outer, s.deep);
    if (mid > 0 && s.deep == 1 && 2 * s.tiles < wanted) {
        const int64_t chunks = div_up(wanted, s.tiles), longest = div_up(mid, (int64_t)s.high * ROWS);
        s.chunk = div_up(mid, least(chunks, longest));
        s.chunks = div_up(mid, s.chunk);
    }
    return s;
}

/* A thread's rows of a chunk: every high-th one from `from` on, four at a time. */
template <int N, typename L, typename F>
static __device__ __forceinline__ void reduce_rows(const L &read, const F &f, typename F::sum (&v)[N], int64_t at,
                                                   int64_t from, int64_t end, int high, int64_t step) {
    int64_t i = from;
    for (; i + 3 * high < end; i += 4 * high) {
        pack<float, N> x[4];
#pragma unroll
        for (int j = 0; j < 4; j++) x[j] = read(at + (i + j * high) * step);
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = f.join(v[k], f.four(x[0].v[k], x[1].v[k], x[2].v[k], x[3].v[k]));
    }
    for (; i < end; i += high) {
        const pack<float, N> x = read(at + i * step);
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = f.join(v[k], f.one(x.v[k]));
    }
}

template <int N, typename L, typename F, typename E>
static __global__ void __launch_bounds__(BLOCK)
reduce_kernel(reduction s, L read, F f, E store, typename F::sum *parts, unsigned *tickets) {
    typedef typename F::sum sum;
    __shared__ sum slots[N * BLOCK];
    const int t = (int)threadIdx.x, w = t % s.wide, row = t / s.wide % s.high, d = t / (s.wide * s.high),
              n = s.joined ? 1 : N;
    for (int64_t item = blockIdx.x; item < s.tiles * s.chunks; item += gridDim.x) {
        const int64_t tile = item / s.chunks, chunk = item % s.chunks;
        const int64_t outer = tile / s.across * s.deep + d, column = tile % s.across * s.wide + w;
        const bool there = d < s.deep && outer < s.outer && column < s.inner;
        const int64_t end = (chunk + 1) * s.chunk < s.mid ? (chunk + 1) * s.chunk : s.mid,
                      to = (outer * s.inner + column) * n;
        sum v[N];
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = f.none();
        if (there)
            reduce_rows<N>(read, f, v, (outer * s.mid * s.inner + column) * N, chunk * s.chunk + row, end, s.high,
                           s.inner * N);
        if (s.joined) {
#pragma unroll
            for (int k = N / 2; k; k /= 2)
#pragma unroll
                for (int i = 0; i < k; i++) v[i] = f.join(v[i], v[i + k]);
        }
        join_rows(f, v, n, slots, s.wide, s.high);
        if (s.chunks > 1) {
            sum *part = parts + (tile * s.chunks * s.wide + w) * n;
            if (there && row == 0)
                for (int k = 0; k < n; k++) part[chunk * s.wide * n + k] = v[k];
            if (!is_last_block(tickets + tile, (unsigned)s.chunks)) continue;
#pragma unroll
            for (int k = 0; k < N; k++) {
                v[k] = f.none();
                for (int64_t i = row; there && k < n && i < s.chunks; i += s.high)
                    v[k] = f.join(v[k], part[i * s.wide * n + k]);
            }
            join_rows(f, v, n, slots, s.wide, s.high);
        }
#pragma unroll
        for (int k = 0; k < N; k++)
            if (k < n && there && row == 0) store(to + k, v[k]);
    }
}

template <int N, typename L, typename F, typename E>
static int reduce_by(const weft_env *env, const char *who, const reduction &s, const L &read, const F &f,
                     const E &store) {
    typedef typename F::sum sum;
    const int threads = (s.wide * s.high * s.deep + WARP - 1) / WARP * WARP;
    const int64_t items = s.tiles * s.chunks;
    const size_t bytes = s.chunks > 1 ? (size_t)(items * s.wide * N) * sizeof(sum) : 0;
    sum *parts = bytes ? (sum *)env->alloc(env->owner, bytes) : NULL;
    if (bytes && !parts) return WEFT_K_NO_MEMORY;
    const int status = launch(env, who, grid_of(items), threads, 0, reduce_kernel<N, L, F, E>, s, read, f, store,
                              parts, cuda_queue_of(env)->tickets);
    if (bytes) env->release(env->owner, parts, bytes);
    return status;
}

/* ---- ways to read and to join ------------------------------------------------------------------------------- */

template <int N, typename T> static __device__ __forceinline__ pack<float, N> floats_of(const pack<T, N> &v) {
    pack<float, N> f;
#pragma unroll
    for (int k = 0; k < N; k++) f.v[k] = to_float(v.v[k]);
    return f;
}

template <int N, typename T> struct dense {
    const T *x;
    __device__ __forceinline__ pack<float, N> operator()(int64_t i) const { return floats_of(load_pack<T, N>(x + i)); }
};

/* Four neighbours pairwise in f32, the rest in double: consumer GPUs have one unit for doubles to 64 for floats. */
struct sum_of : plus {
    typedef double sum;
    __device__ __forceinline__ double none() const { return 0; }
    __device__ __forceinline__ double one(float v) const { return v; }
    __device__ __forceinline__ double four(float a, float b, float c, float d) const { return (a + b) + (c + d); }
};

struct squares_of : plus {
    typedef double sum;
    __device__ __forceinline__ double none() const { return 0; }
    __device__ __forceinline__ double one(float v) const { return (double)v * v; }
    __device__ __forceinline__ double four(float a, float b, float c, float d) const {
        return (one(a) + one(b)) + (one(c) + one(d));
    }
};

/* Over (outer, mid, inner) dense elements of type T, by packs where addresses and sizes allow them. */
template <typename T, typename F, typename E>
static int reduce_dense(const weft_env *env, const char *who, int64_t outer, int64_t mid, int64_t inner, const void *x,
                        const F &f, const E &store) {
    constexpr int N = wide<T>();
    const T *p = (const T *)x;
    if (outer * inner < 1) return WEFT_K_OK;
    if (is_wide(x) && inner == 1 && mid % N == 0)
        return reduce_by<N>(env, who, reduction_of(env, outer, mid / N, 1, true), dense<N, T>{ p }, f, store);
    if (is_wide(x) && inner % N == 0)
        return reduce_by<N>(env, who, reduction_of(env, outer, mid, inner / N, false), dense<N, T>{ p }, f, store);
    return reduce_by<1>(env, who, reduction_of(env, outer, mid, inner, false), dense<1, T>{ p }, f, store);
}

#endif
