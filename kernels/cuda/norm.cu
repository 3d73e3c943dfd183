/* Group norm (with its activation) and layer norm: y = act((x − mean)/√(var + eps)·gamma + beta).
 *
 * Mean and deviations are worked out in f32 over x − base, base being the group's first value: x − base is exact for x
 * near it, so no digits are lost where the mean is far from zero. The variance is always a sum of squared distances
 * from a mean, never a difference of squares: first around the mean of a few neighbours, then joined by the distances
 * of those means (Chan, Golub, LeVeque 1979).
 *
 * A group that a block can have at once (a layer norm's row is one of a single pixel) takes one kernel. Others take
 * two: one for the sums, by slabs.cuh, whose last block of each image joins what the others found, and one for the
 * result.
 */
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/slabs.cuh"

/* ---- a group at once ---------------------------------------------------------------------------------------- */

/* Groups of `packs` packs, `per` of each pixel, which are c elements apart. */
typedef struct whole {
    int64_t rows, groups, pixels, c, packs, per;
    float eps;
    weft_activation act;
} whole;

struct in_a_group {
    int64_t packs, per, c;
    int n;
    __device__ __forceinline__ int64_t column(int64_t i) const {
        return packs == per ? i : (uint32_t)i % (uint32_t)per;
    }
    __device__ __forceinline__ int64_t operator()(int64_t i) const {
        return packs == per ? i * n : (uint32_t)i / (uint32_t)per * c + (uint32_t)i % (uint32_t)per * n;
    }
};

template <int N, typename T>
static __global__ void __launch_bounds__(LARGEST_TEAM)
whole_kernel(whole s, const T *x, const T *gamma, const T *beta, T *y, T *means, T *rstds) {
    const in_a_group at = { s.packs, s.per, s.c, N };
    const float count = (float)(s.packs * N);
    for (int64_t row = first_row(); row < s.rows; row += row_step()) {
        const int64_t channel = row % s.groups * s.per * N, begin = row / s.groups * s.pixels * s.c + channel;
        const T *from = x + begin;
        T *to = y + begin;
        const float base = to_float(*from);
        float sum = 0, square = 0;
        for (int64_t i = threadIdx.x; i < s.packs; i += blockDim.x) {
            const pack<T, N> v = load_pack<T, N>(from + at(i));
#pragma unroll
            for (int k = 0; k < N; k++) sum += to_float(v.v[k]) - base;
        }
        const float off = team_sum(sum) / count;
        for (int64_t i = threadIdx.x; i < s.packs; i += blockDim.x) {
            const pack<T, N> v = load_pack<T, N>(from + at(i));
#pragma unroll
            for (int k = 0; k < N; k++) {
                const float d = (to_float(v.v[k]) - base) - off;
                square += d * d;
            }
        }
        const float rstd = 1 / sqrtf(team_sum(square) / count + s.eps);
        for (int64_t i = threadIdx.x; i < s.packs; i += blockDim.x) {
            pack<T, N> v = load_pack<T, N>(from + at(i));
            const int64_t first = channel + at.column(i) * N;
            float z[N];
#pragma unroll
            for (int k = 0; k < N; k++) z[k] = ((to_float(v.v[k]) - base) - off) * rstd;
            if (gamma) {
                const pack<T, N> g = load_pack<T, N>(gamma + first);
#pragma unroll
                for (int k = 0; k < N; k++) z[k] *= to_float(g.v[k]);
            }
            if (beta) {
                const pack<T, N> b = load_pack<T, N>(beta + first);
#pragma unroll
                for (int k = 0; k < N; k++) z[k] += to_float(b.v[k]);
            }
            activate_all(s.act, z);
#pragma unroll
            for (int k = 0; k < N; k++) v.v[k] = from_float<T>(z[k]);
            store_pack<T, N>(to + at(i), v);
        }
        if (threadIdx.x == 0 && means) means[row] = from_float<T>(base + off);
        if (threadIdx.x == 0 && rstds) rstds[row] = from_float<T>(rstd);
    }
}

template <int N, typename T>
static int norm_whole(const weft_env *env, const char *who, const whole &s, const void *x, const void *gamma,
                      const void *beta, void *y, void *mean, void *rstd) {
    const teams t = teams_of(env, s.rows, s.packs);
    return launch(env, who, t.grid, t.block, 0, whole_kernel<N, T>, s, (const T *)x, (const T *)gamma, (const T *)beta,
                  (T *)y, (T *)mean, (T *)rstd);
}

template <typename T> static int layer_norm(const weft_env *env, const weft_layer_norm_args *a) {
    constexpr int N = wide<T>();
    const bool packs = a->c % N == 0 && is_wide(a->x) && is_wide(a->y) && is_wide(a->gamma) && is_wide(a->beta);
    const int64_t count = packs ? a->c / N : a->c;
    const whole s = { a->rows, 1, 1, a->c, count, count, (float)a->eps, WEFT_ACT_NONE };
    if (packs) return norm_whole<N, T>(env, "layer_norm", s, a->x, a->gamma, a->beta, a->y, a->mean, a->rstd);
    return norm_whole<1, T>(env, "layer_norm", s, a->x, a->gamma, a->beta, a->y, a->mean, a->rstd);
}

int weft_cuda_layer_norm(const weft_env *env, const weft_layer_norm_args *a) {
    if (a->rows * a->c < 1) return WEFT_K_OK;
#define DO(T) return layer_norm<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* ---- a large group's sums ----------------------------------------------------------------------------------- */

enum {
    TILE = 4,               /* pixels that a thread reads before it uses them */
    SLOTS = BLOCK + 1       /* of a channel in shared memory: a group's are in different banks */
};

/* Mean and sum of squared deviations of a thread's pixels, for each of N channels, over x − base. */
template <int N, typename T>
static __device__ __forceinline__ void thread_moments(const slabs &s, const T *x, const float (&base)[N], int64_t from,
                                                      int64_t end, float (&mean)[N], float (&square)[N]) {
    int count = 0;
#pragma unroll
    for (int k = 0; k < N; k++) mean[k] = square[k] = 0;
    for (int64_t i = from; i < end; i += TILE * s.high) {
        const int64_t left = (end - i + s.high - 1) / s.high;
        const int m = left < TILE ? (int)left : TILE;
        pack<T, N> v[TILE];
#pragma unroll
        for (int j = 0; j < TILE; j++) v[j] = load_pack<T, N>(x + (j < m ? i + j * s.high : i) * s.c);
        const float each = 1 / (float)m, part = (float)m / (float)(count + m), both = (float)count * part;
        count += m;
#pragma unroll
        for (int k = 0; k < N; k++) {
            float d[TILE], sum = 0, around = 0;
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                d[j] = to_float(v[j].v[k]) - base[k];
                sum += j < m ? d[j] : 0;
            }
            sum *= each;
#pragma unroll
            for (int j = 0; j < TILE; j++) around += j < m ? (d[j] - sum) * (d[j] - sum) : 0;
            const float off = sum - mean[k];
            mean[k] += off * part;
            square[k] += around + off * off * both;
        }
    }
}

/* What a block found of a group, and what is known of it in the end: y = (x − mean + rest)·rstd, mean rounded, rest
 * what that left out. */
struct alignas(8) found { float mean, square; };
struct alignas(16) known { float mean, rest, rstd; };

/* Joins the threads' moments, channel k of thread t at k·SLOTS + t, group by group; a warp has a group. */
template <int N>
static __device__ __forceinline__ void block_moments(const slabs &s, const place &p, const float *means,
                                                     const float *squares, found *parts) {
    const int width = (int)(s.parts == 1 ? s.width : p.channels), groups = (int)(p.channels / width),
              lane = threadIdx.x % WARP;
    const float count = (float)(p.end - p.from) * (float)width;
    for (int g = threadIdx.x / WARP; g < groups; g += blockDim.x / WARP) {
        float sum = 0, square = 0;
        for (int e = lane; e < s.high * width; e += WARP) {
            const int row = e / width, column = g * width + e % width,
                      at = column % N * SLOTS + row * s.wide + column / N;
            sum += (float)rows_of(s, p, row) * means[at];
        }
        const float mean = warp_sum(sum) / count;
        for (int e = lane; e < s.high * width; e += WARP) {
            const int row = e / width, column = g * width + e % width,
                      at = column % N * SLOTS + row * s.wide + column / N;
            const float d = means[at] - mean;
            square += squares[at] + (float)rows_of(s, p, row) * d * d;
        }
        square = warp_sum(square);
        const int64_t group = p.image * s.groups + p.first / s.width + g, part = s.parts == 1 ? 0 : p.slab % s.parts;
        if (lane == 0) parts[(group * s.chunks + p.chunk) * s.parts + part] = found{ mean, square };
    }
}

/* Values in one of a group's parts. */
static __device__ __forceinline__ double part_count(const slabs &s, int64_t i) {
    const int64_t chunk = s.parts == 1 ? i : i / s.parts, from = chunk * s.chunk,
                  left = s.width - (s.parts == 1 ? 0 : i % s.parts * s.slab);
    const int64_t pixels = from + s.chunk < s.pixels ? s.chunk : s.pixels - from;
    return (double)pixels * (double)(s.parts == 1 || left < s.slab ? left : s.slab);
}

/* Over `lanes` neighbours of a warp, a power of two of them. */
static __device__ __forceinline__ double lanes_sum(double v, int lanes) {
    for (int k = lanes / 2; k; k /= 2) v += __shfl_xor_sync(ALL_LANES, v, k);
    return v;
}

/* Joins what an image's blocks found. One block does it, and all wait for that: a group has as few lanes as let all
 * groups be joined at once. */
template <typename T>
static __device__ __forceinline__ void image_moments(const slabs &s, int64_t image, double eps, const T *x,
                                                     const found *parts, known *stats, T *means, T *rstds) {
    const int64_t n = s.chunks * s.parts;
    const double count = (double)s.pixels * (double)s.width;
    int lanes = WARP;
    while (lanes > 4 && s.groups * lanes > (int64_t)blockDim.x) lanes /= 2;
    const int lane = threadIdx.x % lanes, together = blockDim.x / lanes;
    for (int64_t first = 0; first < s.groups; first += together) {
        const int64_t g = first + threadIdx.x / lanes, group = image * s.groups + g, end = g < s.groups ? n : 0;
        double sum = 0, square = 0;
#pragma unroll 4
        for (int64_t i = lane; i < end; i += lanes) sum += part_count(s, i) * parts[group * n + i].mean;
        const double off = lanes_sum(sum, lanes) / count;
#pragma unroll 4
        for (int64_t i = lane; i < end; i += lanes) {
            const found f = parts[group * n + i];
            square += f.square + part_count(s, i) * (f.mean - off) * (f.mean - off);
        }
        square = lanes_sum(square, lanes);
        if (lane || g >= s.groups) continue;
        const double exact = to_float(x[image * s.pixels * s.c + g * s.width]) + off;
        const float mean = (float)exact, rstd = (float)(1 / sqrt(square / count + eps));
        stats[group] = known{ mean, (float)(mean - exact), rstd };
        if (means) means[group] = from_float<T>(mean);
        if (rstds) rstds[group] = from_float<T>(rstd);
    }
}

template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK)
moments_kernel(slabs s, double eps, const T *x, found *parts, known *stats, T *means, T *rstds, unsigned *tickets) {
    __shared__ float mean_slots[N * SLOTS], square_slots[N * SLOTS];
    const int t = (int)threadIdx.x, w = t % s.wide, row = t / s.wide;
    for (int64_t item = blockIdx.x; item < slabs_items(s); item += gridDim.x) {
        const place p = place_of(s, item);
        const T *image = x + p.image * s.pixels * s.c;
        if (row < s.high && w * N < p.channels) {
            float base[N], mean[N], square[N];
#pragma unroll
            for (int k = 0; k < N; k++) base[k] = to_float(image[group_of(s, p.first + w * N + k) * s.width]);
            thread_moments<N>(s, image + p.first + w * N, base, p.from + row, p.end, mean, square);
#pragma unroll
            for (int k = 0; k < N; k++) mean_slots[k * SLOTS + t] = mean[k], square_slots[k * SLOTS + t] = square[k];
        }
        __syncthreads();
        block_moments<N>(s, p, mean_slots, square_slots, parts);
        if (is_last_block(tickets + p.image, (unsigned)(s.across * s.chunks)))
            image_moments(s, p.image, eps, x, parts, stats, means, rstds);
    }
}

/* ---- and its result ----------------------------------------------------------------------------------------- */

template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK)
apply_kernel(slabs s, weft_activation act, const T *x, const T *gamma, const T *beta, const known *stats, T *y) {
    const int t = (int)threadIdx.x, w = t % s.wide, row = t / s.wide;
    for (int64_t item = blockIdx.x; item < slabs_items(s); item += gridDim.x) {
        const place p = place_of(s, item);
        const int64_t begin = p.image * s.pixels * s.c + p.first + w * N;
        if (row >= s.high || w * N >= p.channels) continue;
        float mean[N], scale[N], shift[N];
        load_channels<N>(scale, gamma, p.first + w * N, 1);
        load_channels<N>(shift, beta, p.first + w * N, 0);
#pragma unroll
        for (int k = 0; k < N; k++) {
            const known q = stats[p.image * s.groups + group_of(s, p.first + w * N + k)];
            mean[k] = q.mean;
            scale[k] *= q.rstd;
            shift[k] += q.rest * scale[k];
        }
        for (int64_t i = p.from + row; i < p.end; i += TILE * s.high) {
            pack<T, N> v[TILE];
#pragma unroll
            for (int j = 0; j < TILE; j++)
                if (i + j * s.high < p.end) v[j] = load_pack<T, N>(x + begin + (i + j * s.high) * s.c);
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                if (i + j * s.high >= p.end) break;
                float z[N];
#pragma unroll
                for (int k = 0; k < N; k++) z[k] = (to_float(v[j].v[k]) - mean[k]) * scale[k] + shift[k];
                activate_all(act, z);
#pragma unroll
                for (int k = 0; k < N; k++) v[j].v[k] = from_float<T>(z[k]);
                store_pack<T, N>(y + begin + (i + j * s.high) * s.c, v[j]);
            }
        }
    }
}

template <int N, typename T> static int norm_split(const weft_env *env, const weft_group_norm_args *a) {
    const int processors = cuda_queue_of(env)->processors;
    const int64_t together = least(a->n, CUDA_TICKETS);         /* images of a launch: each takes a ticket */
    slabs s = slabs_of(together, a->pixels, a->c, a->groups, N);
    const slabs sums = slabs_cut(s, 4 * processors, 2 * TILE, 256);
    s = slabs_cut(s, 8 * processors, TILE, INT64_MAX);
    const int64_t groups = together * a->groups;
    const size_t known_bytes = (size_t)groups * sizeof(known),
                 bytes = known_bytes + (size_t)(groups * sums.chunks * sums.parts) * sizeof(found);
    known *stats = (known *)env->alloc(env->owner, bytes);
    if (!stats) return WEFT_K_NO_MEMORY;
    int status = WEFT_K_OK;
    for (int64_t first = 0; first < a->n && !status; first += together) {
        const int64_t from = first * a->pixels * a->c, group = first * a->groups;
        slabs now = sums;
        const T *x = (const T *)a->x + from;
        s.n = now.n = least(a->n - first, together);
        status = launch(env, "group_norm", grid_of(slabs_items(now)), slabs_threads(now), 0, moments_kernel<N, T>, now,
                        a->eps, x, (found *)((char *)stats + known_bytes), stats, a->mean ? (T *)a->mean + group : NULL,
                        a->rstd ? (T *)a->rstd + group : NULL, cuda_queue_of(env)->tickets);
        if (!status)
            status = launch(env, "group_norm", grid_of(slabs_items(s)), slabs_threads(s), 0, apply_kernel<N, T>, s,
                            a->act, x, (const T *)a->gamma, (const T *)a->beta, (const known *)stats, (T *)a->y + from);
    }
    env->release(env->owner, stats, bytes);
    return status;
}

template <typename T> static int group_norm(const weft_env *env, const weft_group_norm_args *a) {
    enum { WHOLE = 5 * LARGEST_TEAM };              /* packs of a group that a block takes at once */
    constexpr int N = wide<T>();
    const int64_t width = a->c / a->groups, values = a->pixels * width;
    const bool aligned = is_wide(a->x) && is_wide(a->y),
               packs = aligned && width % N == 0 && is_wide(a->gamma) && is_wide(a->beta);
    const whole s = { a->n * a->groups, a->groups, a->pixels, a->c, packs ? values / N : values,
                      packs ? width / N : width, (float)a->eps, a->act };
    if (s.packs <= WHOLE && packs)
        return norm_whole<N, T>(env, "group_norm", s, a->x, a->gamma, a->beta, a->y, a->mean, a->rstd);
    if (s.packs <= WHOLE)
        return norm_whole<1, T>(env, "group_norm", s, a->x, a->gamma, a->beta, a->y, a->mean, a->rstd);
    return aligned && slabs_fit(a->c, a->groups, N) ? norm_split<N, T>(env, a) : norm_split<1, T>(env, a);
}

int weft_cuda_group_norm(const weft_env *env, const weft_group_norm_args *a) {
    if (a->groups < 1 || a->c % a->groups || (unsigned)a->act >= WEFT_ACT_COUNT) return WEFT_K_NO_CASE;
    if (a->n * a->pixels * a->c < 1) return WEFT_K_OK;
    if (a->c > INT32_MAX) return WEFT_K_NO_CASE;
#define DO(T) return group_norm<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}
