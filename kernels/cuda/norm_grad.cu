/* Gradients of group norm (with its activation) and layer norm. With x̂ = (x − mean)·rstd and
 * dz = dy·act′(x̂·gamma + beta):
 *
 *   dbeta = Σ dz, dgamma = Σ dz·x̂ over images and pixels (rows);
 *   dx = rstd·(dz·gamma − its mean over the group − x̂·(mean of dz·gamma·x̂ over the group)).
 *
 * The two sums of each channel over a chunk of pixels are worked out by slabs.cuh; from them come dbeta and dgamma and,
 * with gamma, the two means of each group. Those of a layer norm's row its team finds itself.
 */
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/slabs.cuh"

/* PACK: channels of a thread, whatever the type: with more, what belongs to them would take too many registers.
 * TILE: pixels that it reads before it uses them. */
enum { PACK = 4, TILE = 2 };

/* Σ dz and Σ dz·x̂ of a channel over some pixels; the means of dz·gamma and dz·gamma·x̂ over a group. */
struct sums { float dz, dzx; };

/* What the kernels of one call read. */
template <typename T> struct inputs { const T *x, *gamma, *beta, *mean, *rstd, *dy; };

/* What a thread's channels share over an image: z = (x − mean)·scale + shift. */
template <int N> struct channels { float mean[N], rstd[N], scale[N], shift[N]; };

template <int N, typename T>
static __device__ __forceinline__ channels<N> channels_of(const slabs &s, const inputs<T> &in, int64_t image,
                                                          int64_t groups, int64_t first) {
    channels<N> c;
    const uint32_t width = (uint32_t)(s.c / groups);
    load_channels<N>(c.scale, in.gamma, first, 1);
    load_channels<N>(c.shift, in.beta, first, 0);
#pragma unroll
    for (int k = 0; k < N; k++) {
        const int64_t group = image * groups + (uint32_t)(first + k) / width;
        c.mean[k] = to_float(in.mean[group]);
        c.rstd[k] = to_float(in.rstd[group]);
        c.scale[k] *= c.rstd[k];
    }
    return c;
}

/* ---- sums over pixels --------------------------------------------------------------------------------------- */

/* ROWS: a layer norm, whose mean and rstd are a pixel's own. groups: of the norm; the slabs know none. */
template <bool ROWS, int N, typename T>
static __global__ void __launch_bounds__(BLOCK)
sums_kernel(slabs s, int64_t groups, weft_activation act, inputs<T> in, sums *parts) {
    __shared__ float slots[2 * N * BLOCK];
    const int t = (int)threadIdx.x, w = t % s.wide, row = t / s.wide;
    for (int64_t item = blockIdx.x; item < slabs_items(s); item += gridDim.x) {
        const place p = place_of(s, item);
        const int64_t first = p.first + w * N, begin = p.image * s.pixels * s.c + first;
        const bool there = row < s.high && w * N < p.channels;
        channels<N> c = {};
        float sum[2 * N] = {};
        if (there && !ROWS) c = channels_of<N>(s, in, p.image, groups, first);
        for (int64_t i = p.from + row; there && i < p.end; i += TILE * s.high) {
            pack<T, N> x[TILE], dy[TILE];
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                if (i + j * s.high >= p.end) break;
                x[j] = load_pack<T, N>(in.x + begin + (i + j * s.high) * s.c);
                dy[j] = load_pack<T, N>(in.dy + begin + (i + j * s.high) * s.c);
            }
            float part[2 * N] = {};
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                if (i + j * s.high >= p.end) break;
                const float mean = ROWS ? to_float(in.mean[i + j * s.high]) : 0,
                            rstd = ROWS ? to_float(in.rstd[i + j * s.high]) : 0;
                float z[N], dz[N];
#pragma unroll
                for (int k = 0; k < N; k++) {
                    z[k] = (to_float(x[j].v[k]) - c.mean[k]) * c.scale[k] + c.shift[k];
                    dz[k] = to_float(dy[j].v[k]);
                }
                if (!ROWS) multiply_slopes(act, z, dz);
#pragma unroll
                for (int k = 0; k < N; k++) {
                    part[k] += dz[k];
                    part[N + k] +=
                        dz[k] * (to_float(x[j].v[k]) - (ROWS ? mean : c.mean[k])) * (ROWS ? rstd : c.rstd[k]);
                }
            }
#pragma unroll
            for (int k = 0; k < 2 * N; k++) sum[k] += part[k];
        }
        join_rows(plus(), sum, 2 * N, slots, s.wide, s.high);
        if (there && row == 0)
#pragma unroll
            for (int k = 0; k < N; k++)
                parts[(p.image * s.chunks + p.chunk) * s.c + first + k] = sums{ sum[k], sum[N + k] };
    }
}

/* Where a channel's two sums go. */
template <typename T> struct put_sums {
    T *dbeta, *dgamma;
    __device__ __forceinline__ void operator()(int64_t i, double v) const {
        T *to = i % 2 ? dgamma : dbeta;
        if (to) to[i / 2] = from_float<T>((float)v);
    }
};

/* The sums of s.chunks chunks of each image into *parts, of *bytes; and over all of them into dgamma and dbeta, where
 * wanted. */
template <bool ROWS, typename T>
static int channel_sums(const weft_env *env, const char *who, slabs *cut, int64_t groups, weft_activation act,
                        const inputs<T> &in, void *dgamma, void *dbeta, sums **parts, size_t *bytes) {
    const bool packs = is_wide(in.x) && is_wide(in.dy) && cut->c % PACK == 0;
    slabs s = slabs_of(cut->n, cut->pixels, cut->c, cut->c, packs ? PACK : 1);
    s = *cut = slabs_cut(s, 4 * cuda_queue_of(env)->processors, 4 * TILE, INT64_MAX);
    *bytes = (size_t)(s.n * s.chunks * s.c) * sizeof(sums);
    *parts = (sums *)env->alloc(env->owner, *bytes);
    if (!*parts) return WEFT_K_NO_MEMORY;
    const int status = packs ? launch(env, who, grid_of(slabs_items(s)), slabs_threads(s), 0,
                                      sums_kernel<ROWS, PACK, T>, s, groups, act, in, *parts)
                             : launch(env, who, grid_of(slabs_items(s)), slabs_threads(s), 0, sums_kernel<ROWS, 1, T>,
                                      s, groups, act, in, *parts);
    if (status || (!dgamma && !dbeta)) return status;
    return reduce_dense<float>(env, who, 1, s.n * s.chunks, 2 * s.c, *parts, sum_of(),
                               put_sums<T>{ (T *)dbeta, (T *)dgamma });
}

/* Sums over nothing. */
static int zeros(const weft_env *env, const char *who, weft_dtype type, int64_t n, void *dgamma, void *dbeta) {
    const cuda_queue *q = cuda_queue_of(env);
    const size_t bytes = (size_t)n * weft_dtype_size(type);
    int status = n > 0 ? cuda_enter(q) : WEFT_K_OK;
    if (n > 0 && !status && dgamma) status = cuda_asked(q, cudaMemsetAsync(dgamma, 0, bytes, q->stream), who);
    if (n > 0 && !status && dbeta) status = cuda_asked(q, cudaMemsetAsync(dbeta, 0, bytes, q->stream), who);
    return status;
}

/* ---- group norm --------------------------------------------------------------------------------------------- */

/* The means of dz·gamma and dz·gamma·x̂ over each group; a warp has a group. s is the sums' cut. */
template <typename T>
static __global__ void __launch_bounds__(BLOCK)
means_kernel(slabs s, int64_t groups, const T *gamma, const sums *parts, sums *means) {
    const int64_t width = s.c / groups;
    for (int64_t group = grid_first() / WARP; group < s.n * groups; group += grid_step() / WARP) {
        const int64_t first = group % groups * width, image = group / groups;
        double dz = 0, dzx = 0;
        for (int64_t e = threadIdx.x % WARP; e < s.chunks * width; e += WARP) {
            const int64_t channel = first + e % width;
            const sums part = parts[(image * s.chunks + e / width) * s.c + channel];
            const float g = gamma ? to_float(gamma[channel]) : 1;
            dz += part.dz * g;
            dzx += part.dzx * g;
        }
        const double count = (double)s.pixels * (double)width;
        dz = warp_sum(dz);
        dzx = warp_sum(dzx);
        if (threadIdx.x % WARP == 0) means[group] = sums{ (float)(dz / count), (float)(dzx / count) };
    }
}

/* dx = dz·scale − (x − mean)·slope − level, with what follows for a channel from its group's means. */
template <int N, typename T>
static __global__ void __launch_bounds__(BLOCK)
dx_kernel(slabs s, int64_t groups, weft_activation act, inputs<T> in, const sums *means, T *dx) {
    const int t = (int)threadIdx.x, w = t % s.wide, row = t / s.wide;
    for (int64_t item = blockIdx.x; item < slabs_items(s); item += gridDim.x) {
        const place p = place_of(s, item);
        const int64_t first = p.first + w * N, begin = p.image * s.pixels * s.c + first;
        if (row >= s.high || w * N >= p.channels) continue;
        const channels<N> c = channels_of<N>(s, in, p.image, groups, first);
        const uint32_t width = (uint32_t)(s.c / groups);
        float level[N], slope[N];
#pragma unroll
        for (int k = 0; k < N; k++) {
            const sums mean = means[p.image * groups + (uint32_t)(first + k) / width];
            level[k] = c.rstd[k] * mean.dz;
            slope[k] = c.rstd[k] * c.rstd[k] * mean.dzx;
        }
        for (int64_t i = p.from + row; i < p.end; i += TILE * s.high) {
            pack<T, N> x[TILE], dy[TILE];
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                if (i + j * s.high >= p.end) break;
                x[j] = load_pack<T, N>(in.x + begin + (i + j * s.high) * s.c);
                dy[j] = load_pack<T, N>(in.dy + begin + (i + j * s.high) * s.c);
            }
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                if (i + j * s.high >= p.end) break;
                float z[N], dz[N];
#pragma unroll
                for (int k = 0; k < N; k++) {
                    z[k] = (to_float(x[j].v[k]) - c.mean[k]) * c.scale[k] + c.shift[k];
                    dz[k] = to_float(dy[j].v[k]);
                }
                multiply_slopes(act, z, dz);
#pragma unroll
                for (int k = 0; k < N; k++)
                    dy[j].v[k] =
                        from_float<T>(dz[k] * c.scale[k] - (to_float(x[j].v[k]) - c.mean[k]) * slope[k] - level[k]);
                store_pack<T, N>(dx + begin + (i + j * s.high) * s.c, dy[j]);
            }
        }
    }
}

/* s: the cut of the sums. */
template <typename T>
static int group_dx(const weft_env *env, const weft_group_norm_grad_args *a, const slabs &s, const inputs<T> &in,
                    const sums *parts) {
    const bool packs = is_wide(in.x) && is_wide(in.dy) && is_wide(a->dx) && a->c % PACK == 0;
    const size_t bytes = (size_t)(a->n * a->groups) * sizeof(sums);
    sums *means = (sums *)env->alloc(env->owner, bytes);
    if (!means) return WEFT_K_NO_MEMORY;
    int status = launch(env, "group_norm_grad", grid_for(env, a->n * a->groups * WARP), BLOCK, 0, means_kernel<T>, s,
                        a->groups, in.gamma, parts, means);
    const slabs cut = slabs_cut(slabs_of(a->n, a->pixels, a->c, a->c, packs ? PACK : 1),
                                8 * cuda_queue_of(env)->processors, 2 * TILE, INT64_MAX);
    const unsigned grid = grid_of(slabs_items(cut)), block = (unsigned)slabs_threads(cut);
    if (!status && packs)
        status = launch(env, "group_norm_grad", grid, block, 0, dx_kernel<PACK, T>, cut, a->groups, a->act, in,
                        (const sums *)means, (T *)a->dx);
    else if (!status)
        status = launch(env, "group_norm_grad", grid, block, 0, dx_kernel<1, T>, cut, a->groups, a->act, in,
                        (const sums *)means, (T *)a->dx);
    env->release(env->owner, means, bytes);
    return status;
}

template <typename T> static int group_norm_grad(const weft_env *env, const weft_group_norm_grad_args *a) {
    const inputs<T> in = { (const T *)a->x, (const T *)a->gamma, (const T *)a->beta,
                           (const T *)a->mean, (const T *)a->rstd, (const T *)a->dy };
    slabs s = {};
    sums *parts = NULL;
    size_t bytes = 0;
    s.n = a->n;
    s.pixels = a->pixels;
    s.c = a->c;
    int status =
        channel_sums<false>(env, "group_norm_grad", &s, a->groups, a->act, in, a->dgamma, a->dbeta, &parts, &bytes);
    if (!status && a->dx) status = group_dx(env, a, s, in, parts);
    if (parts) env->release(env->owner, parts, bytes);
    return status;
}

int weft_cuda_group_norm_grad(const weft_env *env, const weft_group_norm_grad_args *a) {
    if (a->groups < 1 || a->c % a->groups || (unsigned)a->act >= WEFT_ACT_COUNT) return WEFT_K_NO_CASE;
    if (a->n * a->pixels * a->c < 1) return zeros(env, "group_norm_grad", a->type, a->c, a->dgamma, a->dbeta);
    if (a->c > INT32_MAX) return WEFT_K_NO_CASE;
#define DO(T) return group_norm_grad<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}

/* ---- layer norm --------------------------------------------------------------------------------------------- */

template <int N, typename T>
static __global__ void __launch_bounds__(LARGEST_TEAM) row_kernel(int64_t rows, int64_t packs, inputs<T> in, T *dx) {
    const float count = (float)(packs * N);
    for (int64_t row = first_row(); row < rows; row += row_step()) {
        const int64_t begin = row * packs * N;
        const float mean = to_float(in.mean[row]), rstd = to_float(in.rstd[row]);
        float dz = 0, dzx = 0;
        for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
            const pack<T, N> x = load_pack<T, N>(in.x + begin + i * N), dy = load_pack<T, N>(in.dy + begin + i * N);
            pack<T, N> g;
            if (in.gamma) g = load_pack<T, N>(in.gamma + i * N);
#pragma unroll
            for (int k = 0; k < N; k++) {
                const float d = to_float(dy.v[k]) * (in.gamma ? to_float(g.v[k]) : 1);
                dz += d;
                dzx += d * (to_float(x.v[k]) - mean);
            }
        }
        const float level = team_sum(dz) / count, slope = rstd * rstd * (team_sum(dzx) / count);
        for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
            const pack<T, N> x = load_pack<T, N>(in.x + begin + i * N);
            pack<T, N> dy = load_pack<T, N>(in.dy + begin + i * N), g;
            if (in.gamma) g = load_pack<T, N>(in.gamma + i * N);
#pragma unroll
            for (int k = 0; k < N; k++) {
                const float d = to_float(dy.v[k]) * (in.gamma ? to_float(g.v[k]) : 1);
                dy.v[k] = from_float<T>(rstd * (d - level - (to_float(x.v[k]) - mean) * slope));
            }
            store_pack<T, N>(dx + begin + i * N, dy);
        }
    }
}

template <typename T> static int layer_norm_grad(const weft_env *env, const weft_layer_norm_grad_args *a) {
    constexpr int N = wide<T>();
    const inputs<T> in = { (const T *)a->x, (const T *)a->gamma, NULL,
                           (const T *)a->mean, (const T *)a->rstd, (const T *)a->dy };
    int status = WEFT_K_OK;
    if (a->dgamma || a->dbeta) {                /* first: dx may be dy */
        slabs s = {};
        sums *parts = NULL;
        size_t bytes = 0;
        s.n = 1;
        s.pixels = a->rows;
        s.c = a->c;
        status =
            channel_sums<true>(env, "layer_norm_grad", &s, 1, WEFT_ACT_NONE, in, a->dgamma, a->dbeta, &parts, &bytes);
        if (parts) env->release(env->owner, parts, bytes);
    }
    if (status || !a->dx) return status;
    if (a->c % N == 0 && is_wide(in.x) && is_wide(in.dy) && is_wide(a->dx) && is_wide(in.gamma)) {
        const teams t = teams_of(env, a->rows, a->c / N);
        return launch(env, "layer_norm_grad", t.grid, t.block, 0, row_kernel<N, T>, a->rows, a->c / N, in, (T *)a->dx);
    }
    const teams t = teams_of(env, a->rows, a->c);
    return launch(env, "layer_norm_grad", t.grid, t.block, 0, row_kernel<1, T>, a->rows, a->c, in, (T *)a->dx);
}

int weft_cuda_layer_norm_grad(const weft_env *env, const weft_layer_norm_grad_args *a) {
    if (a->rows * a->c < 1) return zeros(env, "layer_norm_grad", a->type, a->c, a->dgamma, a->dbeta);
#define DO(T) return layer_norm_grad<T>(env, a)
    EACH_FLOAT(a->type, DO)
#undef DO
}
