/* How blocks share out pictures (n, pixels, c) whose channels come in groups: what the group norms' kernels have in
 * common.
 *
 * A block has a slab of channels — whole groups, or a part of one that is too wide — and a chunk of an image's pixels.
 * Its threads lie `wide` packs of channels side by side and `high` pixels one behind the other, so a thread keeps its
 * channels: what belongs to them stays in registers, and a block's loads are one stretch of memory where the slab has
 * all channels.
 */
#ifndef WEFT_CUDA_SLABS_CUH
#define WEFT_CUDA_SLABS_CUH

#include "kernels/cuda/reduce.cuh"

typedef struct slabs {
    int64_t n, pixels, c, groups, width;    /* width: channels of a group */
    int64_t slab, across;                   /* channels of a slab; slabs side by side */
    int64_t parts;                          /* slabs that have one group together; 1: a slab has whole groups */
    int wide, high;
    int64_t chunk, chunks;                  /* pixels of a chunk; chunks of an image */
} slabs;

/* What one block has. */
typedef struct place {
    int64_t image, slab, chunk;
    int64_t first, channels;                /* of the slab */
    int64_t from, end;                      /* pixels */
} place;

enum { SLAB_PACKS = 128 };

static inline int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }

/* Whether packs of n channels of x can be had: they may lie across groups, but not across slabs. */
static inline bool slabs_fit(int64_t c, int64_t groups, int n) {
    const int64_t width = c / groups;
    return c % n == 0 && (width % n == 0 || width * n / common_divisor(width, n) <= SLAB_PACKS * n);
}

/* Without chunks yet. n: elements of a pack. */
static inline slabs slabs_of(int64_t images, int64_t pixels, int64_t c, int64_t groups, int n) {
    slabs s = { images, pixels, c, groups, c / groups, 0, 0, 1, 1, 1, pixels, 1 };
    const int64_t most = SLAB_PACKS * n, unit = s.width * n / common_divisor(s.width, n), units = div_up(c, unit);
    if (unit <= most) {
        s.slab = div_up(units, div_up(units, most / unit)) * unit;
        s.across = div_up(c, s.slab);
    } else {
        s.parts = div_up(s.width, most);
        s.slab = div_up(div_up(s.width, s.parts), n) * n;
        s.parts = div_up(s.width, s.slab);
        s.across = groups * s.parts;
    }
    s.wide = (int)(least(s.slab, c) / n);
    s.high = (int)least(BLOCK / s.wide, pixels);
    return s;
}

/* Cuts the pixels so that there are about this many blocks, of at least `rows` pixels a thread, and at most `most`
 * chunks. */
static inline slabs slabs_cut(slabs s, int64_t blocks, int rows, int64_t most) {
    const int64_t chunks = least(div_up(blocks, s.n * s.across), div_up(s.pixels, (int64_t)s.high * rows));
    s.chunk = div_up(s.pixels, least(chunks, most));
    s.chunks = div_up(s.pixels, s.chunk);
    return s;
}

static inline int slabs_threads(const slabs &s) { return (s.wide * s.high + WARP - 1) / WARP * WARP; }

static __host__ __device__ __forceinline__ int64_t slabs_items(const slabs &s) { return s.n * s.across * s.chunks; }

static __device__ __forceinline__ place place_of(const slabs &s, int64_t item) {
    place p;
    p.image = item / (s.across * s.chunks);
    p.slab = item / s.chunks % s.across;
    p.chunk = item % s.chunks;
    p.from = p.chunk * s.chunk;
    p.end = p.from + s.chunk < s.pixels ? p.from + s.chunk : s.pixels;
    const int64_t begin = s.parts == 1 ? 0 : p.slab / s.parts * s.width,
                  inside = s.parts == 1 ? p.slab * s.slab : p.slab % s.parts * s.slab;
    const int64_t left = (s.parts == 1 ? s.c : s.width) - inside;
    p.first = begin + inside;
    p.channels = left < s.slab ? left : s.slab;
    return p;
}

/* The group of a channel, both of which fit 32 bits: those divide faster. */
static __device__ __forceinline__ int64_t group_of(const slabs &s, int64_t channel) {
    return (uint32_t)channel / (uint32_t)s.width;
}

/* What N neighbouring channels have of p, or `none` where there is no p: at once, where they lie on a pack's bytes. */
template <int N, typename T>
static __device__ __forceinline__ void load_channels(float (&v)[N], const T *p, int64_t first, float none) {
    if (p && (size_t)(p + first) % (N * sizeof(T)) == 0) {
        const pack<T, N> x = load_pack<T, N>(p + first);
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = to_float(x.v[k]);
        return;
    }
#pragma unroll
    for (int k = 0; k < N; k++) v[k] = p ? to_float(p[first + k]) : none;
}

/* Pixels that the threads of row `row` have in a chunk. */
static __device__ __forceinline__ int rows_of(const slabs &s, const place &p, int row) {
    return (int)((p.end - p.from - row + s.high - 1) / s.high);
}

#endif
