/* Embeddings: rows of a table by number, and their gradient; the sinusoids of a timestep.
 *
 * The runtime has checked the ids. One that is not in the table nevertheless reads zeros and gives no gradient: looking
 * at them here would mean to wait for the device.
 */
#include "kernels/cuda/lines.cuh"

static __device__ __forceinline__ int64_t id_at(weft_dtype type, const void *ids, int64_t i) {
    return type == WEFT_I64 ? ((const int64_t *)ids)[i] : ((const int32_t *)ids)[i];
}

/* ---- rows of a table ---------------------------------------------------------------------------------------- */

/* c counts packs. */
template <int N, typename S, typename D>
static __global__ void __launch_bounds__(BLOCK)
embedding_kernel(weft_dtype id_type, int64_t n, int64_t rows, int64_t c, const void *ids, const S *table, D *y) {
    for (int64_t line = line_first(); line < n; line += line_step()) {
        const int64_t id = id_at(id_type, ids, line);
        for (int64_t i = grid_first(); i < c; i += grid_step()) {
            pack<S, N> v;
            pack<D, N> r;
            if (id >= 0 && id < rows) v = load_pack<S, N>(table + (id * c + i) * N);
#pragma unroll
            for (int k = 0; k < N; k++) r.v[k] = from_float<D>(id >= 0 && id < rows ? to_float(v.v[k]) : 0);
            store_pack<D, N>(y + (line * c + i) * N, r);
        }
    }
}

template <typename S, typename D> static int embedding(const weft_env *env, const weft_embedding_args *a) {
    constexpr int N = 16 / (int)(sizeof(S) > sizeof(D) ? sizeof(S) : sizeof(D));
    const bool packs = a->c % N == 0 && is_wide(a->table) && is_wide(a->y);
    const int64_t c = packs ? a->c / N : a->c;
    const lines l = lines_of(a->n, c);
    if (packs)
        return launch(env, "embedding", l.grid, l.block, 0, embedding_kernel<N, S, D>, a->id_type, a->n, a->rows, c,
                      a->ids, (const S *)a->table, (D *)a->y);
    return launch(env, "embedding", l.grid, l.block, 0, embedding_kernel<1, S, D>, a->id_type, a->n, a->rows, c, a->ids,
                  (const S *)a->table, (D *)a->y);
}

template <typename D> static int embedding_to(const weft_env *env, const weft_embedding_args *a) {
#define DO(S) return embedding<S, D>(env, a)
    EACH_FLOAT(a->table_type, DO)
#undef DO
}

int weft_cuda_embedding(const weft_env *env, const weft_embedding_args *a) {
    if (a->id_type != WEFT_I64 && a->id_type != WEFT_I32) return WEFT_K_NO_TYPE;
    if (a->n * a->c < 1) return WEFT_K_OK;
#define DO(D) return embedding_to<D>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* ---- gradient ----------------------------------------------------------------------------------------------- */

/* Whether ids(i) comes for the first time at i; all of the block's threads get it. The nearest earlier ones are looked
 * at first: most repetitions are runs of the same token. */
static __device__ __forceinline__ bool is_first(weft_dtype type, const void *ids, int64_t i, int64_t id) {
    for (int64_t end = i; end > 0; end -= BLOCK) {
        const int64_t j = end - 1 - threadIdx.x;
        if (__syncthreads_or(j >= 0 && id_at(type, ids, j) == id)) return false;
    }
    return true;
}

/* A block has the row of the table that ids(i) names, if no earlier one names it, and BLOCK packs of its columns
 * (blockIdx.y). It goes over all later ids, BLOCK at a time: their threads mark those that are equal, and each adds up
 * its columns in the order of the marks. n·n comparisons, which for the some thousands of tokens of a batch are less
 * than one matrix product. */
template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK)
embedding_grad_kernel(weft_dtype type, int64_t n, int64_t rows, int64_t c, bool accumulate, const void *ids,
                      const T *dy, T *dtable) {
    __shared__ unsigned marks[BLOCK / 32];
    for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
        const int64_t id = id_at(type, ids, i), column = (int64_t)blockIdx.y * BLOCK + threadIdx.x;
        if (id < 0 || id >= rows || !is_first(type, ids, i, id)) continue;
        T *to = dtable + (id * c + column) * N;
        double sum[N] = {};
        if (accumulate && column < c)
#pragma unroll
            for (int k = 0; k < N; k++) sum[k] = to_float(to[k]);
        for (int64_t begin = i; begin < n; begin += BLOCK) {
            const int64_t j = begin + threadIdx.x;
            const unsigned mark = __ballot_sync(0xffffffffu, j < n && id_at(type, ids, j) == id);
            __syncthreads();                    /* the last marks have been read */
            if (threadIdx.x % 32 == 0) marks[threadIdx.x / 32] = mark;
            __syncthreads();
            for (int w = 0; w < BLOCK / 32; w++)
                for (unsigned left = column < c ? marks[w] : 0; left; left &= left - 1) {
                    const pack<T, N> v =
                        load_pack<T, N>(dy + ((begin + w * 32 + __ffs((int)left) - 1) * c + column) * N);
#pragma unroll
                    for (int k = 0; k < N; k++) sum[k] += to_float(v.v[k]);
                }
        }
        if (column < c)
#pragma unroll
            for (int k = 0; k < N; k++) to[k] = from_float<T>((float)sum[k]);
    }
}

template <int N, typename T> static int embedding_grad(const weft_env *env, const weft_embedding_grad_args *a) {
    const int64_t c = a->c / N, tiles = div_up(c, BLOCK);
    if (tiles > 65535) return WEFT_K_NO_CASE;
    return launch(env, "embedding_grad", dim3(grid_of(a->n), (unsigned)tiles), BLOCK, 0, embedding_grad_kernel<N, T>,
                  a->id_type, a->n, a->rows, c, a->accumulate != 0, a->ids, (const T *)a->dy, (T *)a->dtable);
}

int weft_cuda_embedding_grad(const weft_env *env, const weft_embedding_grad_args *a) {
    const cuda_queue *q = cuda_queue_of(env);
    const size_t size = weft_dtype_size(a->type);
    if ((a->id_type != WEFT_I64 && a->id_type != WEFT_I32) || a->type > WEFT_BF16) return WEFT_K_NO_TYPE;
    if (a->rows * a->c < 1) return WEFT_K_OK;
    int status = cuda_enter(q);
    if (!status && !a->accumulate)
        status =
            cuda_asked(q, cudaMemsetAsync(a->dtable, 0, (size_t)(a->rows * a->c) * size, q->stream), "embedding_grad");
    if (status || a->n < 1) return status;
#define DO(T) \
    return a->c % wide<T>() == 0 && is_wide(a->dy) && is_wide(a->dtable) ? embedding_grad<wide<T>(), T>(env, a) \
                                                                         : embedding_grad<1, T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* ---- timesteps ---------------------------------------------------------------------------------------------- */

/* Every step rounds to float as PyTorch's do: an angle near 1000 shows each of them in its fifth digit. The exponential
 * and the sinusoids are worked out in double, so that they are the nearest float. */
template <typename T>
static __global__ void __launch_bounds__(BLOCK)
timestep_kernel(int64_t n, int64_t dim, float rate, float width, float scale, bool flip, const T *t, T *y) {
    const int64_t half = dim / 2;
    for (int64_t line = line_first(); line < n; line += line_step()) {
        T *row = y + line * dim;
        for (int64_t j = grid_first(); j < half + dim % 2; j += grid_step()) {
            if (j == half) {
                row[dim - 1] = from_float<T>(0);
                continue;
            }
            const float f = (float)exp((double)__fdiv_rn(__fmul_rn(rate, (float)j), width)),
                        angle = __fmul_rn(scale, __fmul_rn(to_float(t[line]), f));
            row[flip ? half + j : j] = from_float<T>((float)sin((double)angle));
            row[flip ? j : half + j] = from_float<T>((float)cos((double)angle));
        }
    }
}

template <typename T> static int timestep(const weft_env *env, const weft_timestep_args *a) {
    const lines l = lines_of(a->n, a->dim / 2 + a->dim % 2);
    return launch(env, "timestep", l.grid, l.block, 0, timestep_kernel<T>, a->n, a->dim, (float)-log(a->max_period),
                  (float)((double)(a->dim / 2) - a->shift), (float)a->scale, a->flip != 0, (const T *)a->t, (T *)a->y);
}

int weft_cuda_timestep(const weft_env *env, const weft_timestep_args *a) {
    if (a->n * a->dim < 1) return WEFT_K_OK;
#define DO(T) return timestep<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}
