/* copy: any strides to any strides, any type to any type; fill.
 *
 * The dimensions are sorted so that dst's smallest stride comes last, and joined. Then the copy is one stretch on both
 * sides (of packs), or turned over, where src's neighbours are dst's rows (NCHW ↔ NHWC: by squares in shared memory),
 * or lies anyhow: element by element, or, where both sides are stretches (slices, concatenation) and the type stays, by
 * units of up to 16 bytes.
 */
#include <stdlib.h>
#include "kernels/cuda/lines.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/strided.cuh"
#include "kernels/ref/ref.h"

/* ---- conversion --------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ int64_t to_integer(double v, double low, double high, int64_t least, int64_t most) {
    return v != v ? 0 : v <= low ? least : v >= high ? most : (int64_t)v;
}

/* Elements of one type, moved bit by bit whatever they are. */
template <typename T> struct moved {
    typedef T from, to;
    static __device__ __forceinline__ T convert(T v) { return v; }
};

/* Among the types that models compute in. */
template <typename S, typename D> struct converted {
    typedef S from;
    typedef D to;
    static __device__ __forceinline__ D convert(S v) { return from_float<D>(to_float(v)); }
};

/* Any two types: through double, rounded once. */
static __device__ __forceinline__ double read_any(weft_dtype type, const void *p, int64_t i) {
    switch (type) {
    case WEFT_F32: return ((const float *)p)[i];
    case WEFT_F16: return to_float(((const f16 *)p)[i]);
    case WEFT_BF16: return to_float(((const bf16 *)p)[i]);
    case WEFT_F64: return ((const double *)p)[i];
    case WEFT_I64: return (double)((const int64_t *)p)[i];
    case WEFT_I32: return ((const int32_t *)p)[i];
    default: return ((const uint8_t *)p)[i];
    }
}
static __device__ __forceinline__ void write_any(weft_dtype type, void *p, int64_t i, double v) {
    switch (type) {
    case WEFT_F32: ((float *)p)[i] = (float)v; break;
    case WEFT_F16: ((f16 *)p)[i] = __double2half(v); break;
    case WEFT_BF16: ((bf16 *)p)[i] = __double2bfloat16(v); break;
    case WEFT_F64: ((double *)p)[i] = v; break;
    case WEFT_I64: ((int64_t *)p)[i] = to_integer(v, -0x1p63, 0x1p63, INT64_MIN, INT64_MAX); break;
    case WEFT_I32: ((int32_t *)p)[i] = (int32_t)to_integer(v, INT32_MIN, INT32_MAX, INT32_MIN, INT32_MAX); break;
    default: ((uint8_t *)p)[i] = (uint8_t)to_integer(v, 0, 255, 0, 255); break;
    }
}

/* ---- kernels ------------------------------------------------------------------------------------------------ */

/* One stretch. */
template <int N, typename C>
static __global__ void __launch_bounds__(BLOCK)
    row_kernel(int64_t n, const typename C::from *src, typename C::to *dst) {
    for (int64_t i = grid_first(); i < n / N; i += grid_step()) {
        const pack<typename C::from, N> v = load_pack<typename C::from, N>(src + i * N);
        pack<typename C::to, N> w;
#pragma unroll
        for (int k = 0; k < N; k++) w.v[k] = C::convert(v.v[k]);
        store_pack<typename C::to, N>(dst + i * N, w);
    }
    for (int64_t i = n / N * N + grid_first(); N > 1 && i < n; i += grid_step()) dst[i] = C::convert(src[i]);
}

/* Anyhow; stride[0] is dst's. */
template <typename I, typename C>
static __global__ void __launch_bounds__(BLOCK)
    strided_kernel(strided s, const typename C::from *src, typename C::to *dst) {
    for (int64_t i = grid_first(); i < s.count; i += grid_step()) {
        int64_t to, from;
        strided_at<I>(s, i, &to, &from);
        dst[to] = C::convert(src[from]);
    }
}

static __global__ void __launch_bounds__(BLOCK)
any_kernel(strided s, weft_dtype src_type, weft_dtype dst_type, const void *src, void *dst) {
    for (int64_t i = grid_first(); i < s.count; i += grid_step()) {
        int64_t to, from;
        strided_at<int64_t>(s, i, &to, &from);
        write_any(dst_type, dst, to, read_any(src_type, src, from));
    }
}

/* The last two dimensions: dst(r, c) with c contiguous, src(r, c) with r contiguous. A block of 32 × 8 threads moves
 * squares of 32 × 32; the odd width keeps a column of a square in different banks. The dimensions before them are
 * counted by blockIdx.z. */
enum { SQUARE = 32, SQUARE_ROWS = 8 };

template <typename C>
static __global__ void __launch_bounds__(SQUARE *SQUARE_ROWS)
    turn_kernel(strided outer, int64_t rows, int64_t columns, int64_t ldd, int64_t lds, const typename C::from *src,
                typename C::to *dst) {
    __shared__ typename C::from square[SQUARE][SQUARE + 1];
    const int64_t r0 = (int64_t)blockIdx.y * SQUARE, c0 = (int64_t)blockIdx.x * SQUARE;
    for (int64_t image = blockIdx.z; image < outer.count; image += gridDim.z) {
        int64_t to, from;
        strided_at<int64_t>(outer, image, &to, &from);
        for (int j = threadIdx.y; j < SQUARE; j += SQUARE_ROWS)
            if (c0 + j < columns && r0 + threadIdx.x < rows)
                square[j][threadIdx.x] = src[from + (c0 + j) * lds + r0 + threadIdx.x];
        __syncthreads();
        for (int j = threadIdx.y; j < SQUARE; j += SQUARE_ROWS)
            if (r0 + j < rows && c0 + threadIdx.x < columns)
                dst[to + (r0 + j) * ldd + c0 + threadIdx.x] = C::convert(square[threadIdx.x][j]);
        __syncthreads();
    }
}

/* ---- which one ---------------------------------------------------------------------------------------------- */

/* For squares, the dimension that is contiguous in src comes before the last; false where there is none. */
static bool turns(strided *s) {
    const int last = s->rank - 1;
    if (s->stride[0][last] != 1 || s->stride[1][last] == 1 || s->shape[last] < 8) return false;
    for (int d = 0; d < last; d++) {
        if (s->stride[1][d] != 1 || s->shape[d] < 8) continue;
        for (int e = d; e < last - 1; e++) strided_swap(s, e, e + 1);
        return (s->shape[last - 1] + SQUARE - 1) / SQUARE < 65536;
    }
    return false;
}

template <typename C>
static int turn(const weft_env *env, const strided &s, const typename C::from *src, typename C::to *dst) {
    const int last = s.rank - 1;
    const int64_t rows = s.shape[last - 1], columns = s.shape[last];
    strided outer = s;
    outer.rank = last - 1;
    outer.count = s.count / rows / columns;
    strided_simplify(&outer);
    const dim3 grid((unsigned)((columns + SQUARE - 1) / SQUARE), (unsigned)((rows + SQUARE - 1) / SQUARE),
                    (unsigned)(outer.count < 65535 ? outer.count : 65535));
    return launch(env, "copy", grid, dim3(SQUARE, SQUARE_ROWS), 0, turn_kernel<C>, outer, rows, columns,
                  s.stride[0][last - 1], s.stride[1][last], src, dst);
}

/* Elements of a pack: 16 bytes of the wider type. */
template <typename C> constexpr int copy_pack() {
    return 16
           / (int)(sizeof(typename C::from) > sizeof(typename C::to) ? sizeof(typename C::from)
                                                                     : sizeof(typename C::to));
}

template <typename C> static int run(const weft_env *env, const weft_copy_args *a, strided s) {
    const typename C::from *src = (const typename C::from *)a->src;
    typename C::to *dst = (typename C::to *)a->dst;
    constexpr int N = copy_pack<C>();
    if (s.rank == 1 && s.stride[0][0] == 1 && s.stride[1][0] == 1) {
        if (is_wide(src) && is_wide(dst))
            return launch(env, "copy", grid_for(env, (s.count + N - 1) / N), BLOCK, 0, row_kernel<N, C>, s.count, src,
                          dst);
        return launch(env, "copy", grid_for(env, s.count), BLOCK, 0, row_kernel<1, C>, s.count, src, dst);
    }
    if constexpr (sizeof(typename C::from) <= 8)        /* a larger unit is never turned over */
        if (turns(&s)) return turn<C>(env, s, src, dst);
    const unsigned grid = grid_for(env, s.count);
    if (strided_is_small(s)) return launch(env, "copy", grid, BLOCK, 0, strided_kernel<uint32_t, C>, s, src, dst);
    return launch(env, "copy", grid, BLOCK, 0, strided_kernel<int64_t, C>, s, src, dst);
}

/* Bytes that a copy of such elements can move at once: more than an element's where whole stretches of them lie on
 * multiples of that, on both sides. s counts them then. */
static int take_units(strided *s, int size, const weft_copy_args *a) {
    const int last = s->rank - 1;
    if (last == 0 || s->stride[0][last] != 1 || s->stride[1][last] != 1) return size;
    int unit = unit_of((size_t)(s->shape[last] * size), a->src, a->dst);
    for (int d = 0; d < last; d++)
        while (s->stride[0][d] * size % unit || s->stride[1][d] * size % unit) unit /= 2;
    if (unit <= size) return size;
    s->shape[last] /= unit / size;
    s->count /= unit / size;
    for (int d = 0; d < last; d++)
        for (int k = 0; k < 2; k++) s->stride[k][d] /= unit / size;
    return unit;
}

int weft_cuda_copy(const weft_env *env, const weft_copy_args *a) {
    if (!weft_dtype_size(a->src_type) || !weft_dtype_size(a->dst_type)) return WEFT_K_NO_TYPE;
    strided s = strided_of(a->rank, a->shape, a->dst_stride, a->src_stride);
    if (s.count < 0) return WEFT_K_NO_CASE;
    if (s.count == 0) return WEFT_K_OK;
    for (int d = 0; d < s.rank; d++)
        for (int e = d; e > 0 && llabs(s.stride[0][e - 1]) < llabs(s.stride[0][e]); e--) strided_swap(&s, e - 1, e);
    strided_simplify(&s);
    if (a->src_type == a->dst_type) {
        const int unit = take_units(&s, (int)weft_dtype_size(a->src_type), a);
#define DO(U) return run<moved<U>>(env, a, s)
        EACH_UNIT(unit, DO)
#undef DO
    }
    switch (a->src_type * WEFT_DTYPE_COUNT + a->dst_type) {
#define PAIR(S, s_type, D, d_type) case s_type * WEFT_DTYPE_COUNT + d_type: return run<converted<S, D>>(env, a, s)
    PAIR(float, WEFT_F32, f16, WEFT_F16);
    PAIR(float, WEFT_F32, bf16, WEFT_BF16);
    PAIR(f16, WEFT_F16, float, WEFT_F32);
    PAIR(f16, WEFT_F16, bf16, WEFT_BF16);
    PAIR(bf16, WEFT_BF16, float, WEFT_F32);
    PAIR(bf16, WEFT_BF16, f16, WEFT_F16);
#undef PAIR
    default:
        return launch(env, "copy", grid_for(env, s.count), BLOCK, 0, any_kernel, s, a->src_type, a->dst_type, a->src,
                      a->dst);
    }
}

/* ---- fill --------------------------------------------------------------------------------------------------- */

template <typename T> static __global__ void __launch_bounds__(BLOCK) fill_kernel(int64_t n, T value, T *dst) {
    for (int64_t i = grid_first(); i < n; i += grid_step()) dst[i] = value;
}

int weft_cuda_fill(const weft_env *env, const weft_fill_args *a) {
    const size_t size = weft_dtype_size(a->type);
    union { uint8_t b; uint16_t h; uint32_t w; uint64_t d; } one = { .d = 0 };
    if (!size) return WEFT_K_NO_TYPE;
    if (a->n < 1) return WEFT_K_OK;
    ref_put(a->type, &one, 0, a->value);
    if (size == 1 || !one.d) {
        const cuda_queue *q = cuda_queue_of(env);
        const int status = cuda_enter(q);
        return status ? status : cuda_asked(q, cudaMemsetAsync(a->dst, one.b, (size_t)a->n * size, q->stream), "fill");
    }
    const unsigned grid = grid_for(env, a->n);
    switch (size) {
    case 2: return launch(env, "fill", grid, BLOCK, 0, fill_kernel<uint16_t>, a->n, one.h, (uint16_t *)a->dst);
    case 4: return launch(env, "fill", grid, BLOCK, 0, fill_kernel<uint32_t>, a->n, one.w, (uint32_t *)a->dst);
    default: return launch(env, "fill", grid, BLOCK, 0, fill_kernel<uint64_t>, a->n, one.d, (uint64_t *)a->dst);
    }
}
