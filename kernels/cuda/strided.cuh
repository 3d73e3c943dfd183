/* Walks through arrays by strides: the dimensions in as few as will do, and an element's place from its number. */
#ifndef WEFT_CUDA_STRIDED_CUH
#define WEFT_CUDA_STRIDED_CUH

#include "kernels/cuda/common.cuh"

/* Two operands' strides over one shape; the last dimension runs fastest. */
typedef struct strided {
    int rank;
    int64_t count;
    int64_t shape[WEFT_MAX_RANK], stride[2][WEFT_MAX_RANK];
} strided;

/* Of a rank and shape that may be wrong: count < 0 then. */
static inline strided strided_of(int rank, const int64_t *shape, const int64_t *first, const int64_t *second) {
    strided s = { rank, 1, { 0 }, { { 0 } } };
    if (rank < 0 || rank > WEFT_MAX_RANK) s.count = -1;
    for (int d = 0; d < rank && s.count >= 0; d++) {
        s.shape[d] = shape[d];
        s.stride[0][d] = first[d];
        s.stride[1][d] = second[d];
        s.count = shape[d] < 0 ? -1 : s.count * shape[d];
    }
    return s;
}

static inline void strided_swap(strided *s, int d, int e) {
    strided t = *s;
    s->shape[d] = t.shape[e];
    s->shape[e] = t.shape[d];
    for (int k = 0; k < 2; k++) {
        s->stride[k][d] = t.stride[k][e];
        s->stride[k][e] = t.stride[k][d];
    }
}

/* Drops dimensions of one and joins those that lie one behind the other in both operands; at least one is left. */
static inline void strided_simplify(strided *s) {
    int n = 0;
    for (int d = 0; d < s->rank; d++) {
        const int64_t size = s->shape[d];
        if (size == 1) continue;
        if (n && s->stride[0][n - 1] == s->stride[0][d] * size && s->stride[1][n - 1] == s->stride[1][d] * size)
            s->shape[n - 1] *= size;
        else s->shape[n++] = size;
        for (int k = 0; k < 2; k++) s->stride[k][n - 1] = s->stride[k][d];
    }
    if (!n) s->shape[0] = s->stride[0][0] = s->stride[1][0] = 1;
    s->rank = n ? n : 1;
}

/* Where element i lies in both; I is the type to divide in: unsigned where all counts fit, which is several times
 * faster. */
template <typename I>
static __device__ __forceinline__ void strided_at(const strided &s, int64_t i, int64_t *first, int64_t *second) {
    I rest = (I)i;
    int64_t a = 0, b = 0;
    for (int d = s.rank - 1; d > 0; d--) {
        const I next = rest / (I)s.shape[d], at = rest - next * (I)s.shape[d];
        a += (int64_t)at * s.stride[0][d];
        b += (int64_t)at * s.stride[1][d];
        rest = next;
    }
    *first = a + (int64_t)rest * s.stride[0][0];
    *second = b + (int64_t)rest * s.stride[1][0];
}

static inline bool strided_is_small(const strided &s) { return s.count <= INT32_MAX; }

#endif
