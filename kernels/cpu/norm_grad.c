/* Gradients of group norm (with its activation) and layer norm.
 *
 * With z = (x − mean)·scale + beta, scale = rstd·gamma, and dz = dy·act′(z): a first pass sums dz and dz·(x − mean) for each channel,
 * in float over STRETCH pixels or less, in double beyond; the second gives dx = dz·scale + (x − mean)·along + level, where along
 * and level are a group's: −rstd²·(mean of dz·gamma·x̂) and −rstd·(mean of dz·gamma).
 */
#include "kernels/cpu/norm.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/threads.h"

#define WIDE 2              /* vectors of channels that are summed side by side */
#define STRETCH 64          /* additions in float */
#define NEAR_IMAGE (1 << 20)    /* bytes of x and dx that stay in a core's own cache from one pass to the next */

/* ---- group norm ----------------------------------------------------------------------------------------- */

/* What the passes over one call share. A chunk is some pixels of one image: the unit of work, and of summation. */
struct group_norm {
    const weft_group_norm_grad_args *a;
    int64_t chunks, chunk;              /* of one image; pixels in one */
    double *sum, *product;              /* (n, chunks, c): of dz and dz·(x − mean) */
    float *mean, *scale, *along, *level;        /* (n, c) */
    float *beta;                        /* c */
    float *dz;                          /* where the first pass leaves dz for the second: dx, or NULL */
    const float *dy;                    /* what the second pass reads: dy, or dz */
};

INLINE vf load(const float *p, int64_t n) { return n >= VL ? vf_load(p) : vf_load_n(p, n); }
INLINE void store(float *p, vf v, int64_t n) {
    if (n >= VL) vf_store(p, v);
    else vf_store_n(p, v, n);
}

/* Sums over `pixels` for `wide` vectors of channels, of which the last may be short: `left` channels in all. */
INLINE void sum_channels(const weft_activation act, const int wide, const struct group_norm *g, const float *x, const float *dy, float *to,
                         int64_t channel, int64_t constants, int64_t pixels, int64_t left, double *sum, double *product) {
    const int64_t c = g->a->c;
    double s[WIDE * VL] = { 0 }, q[WIDE * VL] = { 0 };
    vf mean[WIDE], scale[WIDE], beta[WIDE];
    UNROLL
    for (int i = 0; i < wide; i++) {
        mean[i] = load(g->mean + constants + i * VL, left - i * VL);
        scale[i] = load(g->scale + constants + i * VL, left - i * VL);
        beta[i] = load(g->beta + channel + i * VL, left - i * VL);
    }
    for (int64_t from = 0; from < pixels; from += STRETCH) {
        vf some[WIDE] = { 0 }, products[WIDE] = { 0 };
        for (int64_t p = from; p < MIN(from + STRETCH, pixels); p++) {
            UNROLL
            for (int i = 0; i < wide; i++) {
                const vf d = load(x + p * c + i * VL, left - i * VL) - mean[i];
                vf dz = load(dy + p * c + i * VL, left - i * VL);
                if (act != WEFT_ACT_NONE) dz *= vf_activate_slope(act, d * scale[i] + beta[i]);
                if (act != WEFT_ACT_NONE && to) store(to + p * c + i * VL, dz, left - i * VL);
                some[i] += dz;
                products[i] += dz * d;
            }
        }
        UNROLL
        for (int i = 0; i < wide; i++)
            for (int l = 0; l < VL; l++) {
                s[i * VL + l] += (double)some[i][l];
                q[i * VL + l] += (double)products[i][l];
            }
    }
    memcpy(sum, s, (size_t)MIN(left, wide * VL) * sizeof(double));
    memcpy(product, q, (size_t)MIN(left, wide * VL) * sizeof(double));
}

INLINE void sum_chunk(const weft_activation act, const struct group_norm *g, int64_t item) {
    const int64_t c = g->a->c, image = item / g->chunks, start = item % g->chunks * g->chunk;
    const int64_t pixels = MIN(g->chunk, g->a->pixels - start), at = (image * g->a->pixels + start) * c;
    const float *x = (const float *)g->a->x + at, *dy = (const float *)g->a->dy + at;
    float *to = g->dz ? g->dz + at : NULL;
    double *sum = g->sum + item * c, *product = g->product + item * c;
    int64_t i = 0;
    for (; i + WIDE * VL <= c; i += WIDE * VL)
        sum_channels(act, WIDE, g, x + i, dy + i, to ? to + i : NULL, i, image * c + i, pixels, WIDE * VL, sum + i, product + i);
    for (; i < c; i += VL)
        sum_channels(act, 1, g, x + i, dy + i, to ? to + i : NULL, i, image * c + i, pixels, c - i, sum + i, product + i);
}

INLINE void apply_chunk(const weft_activation act, const struct group_norm *g, int64_t item) {
    const int64_t c = g->a->c, image = item / g->chunks, start = item % g->chunks * g->chunk;
    const int64_t pixels = MIN(g->chunk, g->a->pixels - start), at = (image * g->a->pixels + start) * c;
    const float *mean = g->mean + image * c, *scale = g->scale + image * c, *along = g->along + image * c, *level = g->level + image * c;
    for (int64_t p = 0; p < pixels; p++) {
        const float *x = (const float *)g->a->x + at + p * c, *dy = g->dy + at + p * c;
        float *dx = (float *)g->a->dx + at + p * c;
        for (int64_t i = 0; i < c; i += VL) {
            const int64_t n = c - i;
            const vf d = load(x + i, n) - load(mean + i, n), s = load(scale + i, n);
            vf dz = load(dy + i, n);
            if (act != WEFT_ACT_NONE) dz *= vf_activate_slope(act, d * s + load(g->beta + i, n));
            store(dx + i, dz * s + (d * load(along + i, n) + load(level + i, n)), n);
        }
    }
}

/* One function of each for every activation. */
#define PASS(act) \
    static void sum_##act(const struct group_norm *g, int64_t item) { sum_chunk(WEFT_ACT_##act, g, item); } \
    static void apply_##act(const struct group_norm *g, int64_t item) { apply_chunk(WEFT_ACT_##act, g, item); }
PASS(NONE)
PASS(SILU)
PASS(GELU)
PASS(QUICK_GELU)
PASS(GELU_TANH)
PASS(RELU)
#undef PASS
static const struct passes { void (*sum)(const struct group_norm *g, int64_t item), (*apply)(const struct group_norm *g, int64_t item); }
passes[WEFT_ACT_COUNT] = {
#define PASS(act) [WEFT_ACT_##act] = { sum_##act, apply_##act }
    PASS(NONE), PASS(SILU), PASS(GELU), PASS(QUICK_GELU), PASS(GELU_TANH), PASS(RELU),
#undef PASS
};

static void prepare(const struct group_norm *g) {
    const weft_group_norm_grad_args *a = g->a;
    const float *gamma = a->gamma, *beta = a->beta, *mean = a->mean, *rstd = a->rstd;
    const int64_t width = a->c / a->groups;
    for (int64_t group = 0, i = 0; group < a->n * a->groups; group++)
        for (int64_t k = group % a->groups * width, end = k + width; k < end; k++, i++) {
            g->mean[i] = mean[group];
            g->scale[i] = rstd[group] * (gamma ? gamma[k] : 1);
        }
    for (int64_t i = 0; i < a->c; i++) g->beta[i] = beta ? beta[i] : 0;
}

/* The chunks' sums to their channel's, in the first chunk's place; what the second pass needs of the group. */
static void finish_group(const struct group_norm *g, int64_t image, int64_t group) {
    const weft_group_norm_grad_args *a = g->a;
    const int64_t width = a->c / a->groups, from = group * width;
    const float *gamma = a->gamma;
    double *sum = g->sum + image * g->chunks * a->c, *product = g->product + image * g->chunks * a->c, all = 0, products = 0;
    for (int64_t i = from; i < from + width; i++) {
        for (int64_t k = 1; k < g->chunks; k++) {
            sum[i] += sum[k * a->c + i];
            product[i] += product[k * a->c + i];
        }
        all += sum[i] * (gamma ? gamma[i] : 1);
        products += product[i] * (gamma ? gamma[i] : 1);
    }
    const double rstd = ((const float *)a->rstd)[image * a->groups + group], count = (double)(a->pixels * width);
    for (int64_t i = from; i < from + width; i++) {
        g->along[image * a->c + i] = (float)(-rstd * rstd * rstd * products / count);
        g->level[image * a->c + i] = (float)(-rstd * all / count);
    }
}

static void store_channel(const struct group_norm *g, int64_t channel) {
    const weft_group_norm_grad_args *a = g->a;
    const int64_t group = channel / (a->c / a->groups);
    double dgamma = 0, dbeta = 0;
    for (int64_t n = 0; n < a->n; n++) {
        const int64_t at = n * g->chunks * a->c + channel;
        dgamma += g->product[at] * ((const float *)a->rstd)[n * a->groups + group];
        dbeta += g->sum[at];
    }
    if (a->dgamma) ((float *)a->dgamma)[channel] = (float)dgamma;
    if (a->dbeta) ((float *)a->dbeta)[channel] = (float)dbeta;
}

/* No pixel: nothing to sum. */
static void zero_channels(float *dgamma, float *dbeta, int64_t c) {
    if (dgamma) memset(dgamma, 0, (size_t)c * sizeof(float));
    if (dbeta) memset(dbeta, 0, (size_t)c * sizeof(float));
}

int ISA_NAME(group_norm_grad)(const weft_env *env, const weft_group_norm_grad_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (a->groups < 1 || a->c % a->groups || (unsigned)a->act >= WEFT_ACT_COUNT) return WEFT_K_NO_CASE;
    if (a->c == 0) return WEFT_K_OK;
    if (a->n * a->pixels == 0) {
        zero_channels(a->dgamma, a->dbeta, a->c);
        return WEFT_K_OK;
    }
    struct group_norm g = { .a = a, .chunk = MAX(STRETCH, 32768 / a->c) };
    g.chunks = (a->pixels + g.chunk - 1) / g.chunk;
    const int64_t items = a->n * g.chunks, constants = a->n * a->c;
    const size_t bytes = (size_t)(items * a->c) * 2 * sizeof(double) + (size_t)(constants * 4 + a->c) * sizeof(float);
    if (!(g.sum = env->alloc(env->owner, bytes))) return WEFT_K_NO_MEMORY;
    g.product = g.sum + items * a->c;
    g.mean = (float *)(g.product + items * a->c);
    g.scale = g.mean + constants;
    g.along = g.scale + constants;
    g.level = g.along + constants;
    g.beta = g.level + constants;
    prepare(&g);
    const int threads = threads_for(env, 4 * (double)a->n * (double)a->pixels * (double)a->c);
    const bool by_images = norm_by_images(a->n, threads);
    /* In the cache dz is kept rather than worked out twice; the two may differ in the last bit, so threads have no say in it. */
    if (a->act != WEFT_ACT_NONE && 2 * a->pixels * a->c * (int64_t)sizeof(float) <= NEAR_IMAGE) g.dz = a->dx;
    g.dy = g.dz ? g.dz : a->dy;
    const struct passes first = passes[a->act], second = passes[g.dz ? WEFT_ACT_NONE : a->act];
#pragma omp parallel num_threads(threads)
    if (by_images) {
#pragma omp for
        for (int64_t i = 0; i < a->n; i++) {
            if (cancelled(env)) continue;
            for (int64_t k = 0; k < g.chunks; k++) first.sum(&g, i * g.chunks + k);
            for (int64_t k = 0; k < a->groups; k++) finish_group(&g, i, k);
            for (int64_t k = 0; k < (a->dx ? g.chunks : 0); k++) second.apply(&g, i * g.chunks + k);
        }
#pragma omp for
        for (int64_t i = 0; i < a->c; i++) store_channel(&g, i);
    } else {
#pragma omp for
        for (int64_t i = 0; i < items; i++)
            if (!cancelled(env)) first.sum(&g, i);
#pragma omp for
        for (int64_t i = 0; i < a->n * a->groups; i++) finish_group(&g, i / a->groups, i % a->groups);
#pragma omp for nowait
        for (int64_t i = 0; i < a->c; i++) store_channel(&g, i);
#pragma omp for
        for (int64_t i = 0; i < (a->dx ? items : 0); i++)
            if (!cancelled(env)) second.apply(&g, i);
    }
    env->release(env->owner, g.sum, bytes);
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}

/* ---- layer norm ----------------------------------------------------------------------------------------- */

/* One row: dx, and what it adds to dgamma and dbeta, which may be NULL. */
INLINE void layer_row(const bool has_gamma, const weft_layer_norm_grad_args *a, int64_t row, float *dgamma, float *dbeta) {
    const float *x = (const float *)a->x + row * a->c, *dy = (const float *)a->dy + row * a->c, *gamma = a->gamma;
    const float mean = ((const float *)a->mean)[row], rstd = ((const float *)a->rstd)[row];
    double all = 0, products = 0;
    for (int64_t from = 0; from < a->c; from += STRETCH * VL) {
        vf sum = { 0 }, product = { 0 };
        for (int64_t i = from; i < MIN(from + STRETCH * VL, a->c); i += VL) {
            const int64_t n = a->c - i;
            vf dz = load(dy + i, n);
            const vf d = load(x + i, n) - mean;
            if (has_gamma) dz *= load(gamma + i, n);
            sum += dz;
            product += dz * d;
        }
        all += vf_sum(sum);
        products += vf_sum(product);
    }
    const float along = (float)(-(double)rstd * rstd * rstd * products / (double)a->c), level = (float)(-rstd * all / (double)a->c);
    for (int64_t i = 0; i < a->c; i += VL) {
        const int64_t n = a->c - i;
        const vf g = load(dy + i, n), d = load(x + i, n) - mean;
        if (dgamma) vf_store(dgamma + i, vf_load(dgamma + i) + g * (d * rstd));
        if (dbeta) vf_store(dbeta + i, vf_load(dbeta + i) + g);
        if (a->dx) store((float *)a->dx + row * a->c + i, (has_gamma ? g * load(gamma + i, n) : g) * rstd + (d * along + level), n);
    }
}

/* Sums over the rows of a chunk, in float; those of all chunks in double, one channel after the other. */
int ISA_NAME(layer_norm_grad)(const weft_env *env, const weft_layer_norm_grad_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (a->c == 0) return WEFT_K_OK;
    const int64_t width = (a->c + VL - 1) / VL * VL, chunks = (a->rows + STRETCH - 1) / STRETCH;
    const bool sums = a->dgamma || a->dbeta;
    const size_t bytes = sums ? (size_t)(chunks * 2 * width) * sizeof(float) + 1 : 0;
    const int threads = threads_for(env, 4 * (double)a->rows * (double)a->c);
    float *partial = sums ? env->alloc(env->owner, bytes) : NULL;
    if (sums && !partial) return WEFT_K_NO_MEMORY;
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < chunks; i++) {
        float *dgamma = sums ? partial + i * 2 * width : NULL, *dbeta = sums ? dgamma + width : NULL;
        if (cancelled(env)) continue;
        if (sums) memset(dgamma, 0, (size_t)(2 * width) * sizeof(float));
        for (int64_t row = i * STRETCH; row < MIN(a->rows, (i + 1) * STRETCH); row++) {
            if (a->gamma) layer_row(true, a, row, dgamma, dbeta);
            else layer_row(false, a, row, dgamma, dbeta);
        }
    }
#pragma omp parallel for num_threads(threads_for(env, sums ? (double)chunks * (double)a->c : 0))
    for (int64_t c = 0; c < (sums ? a->c : 0); c++) {
        double dgamma = 0, dbeta = 0;
        for (int64_t i = 0; i < chunks; i++) {
            dgamma += partial[i * 2 * width + c];
            dbeta += partial[(i * 2 + 1) * width + c];
        }
        if (a->dgamma) ((float *)a->dgamma)[c] = (float)dgamma;
        if (a->dbeta) ((float *)a->dbeta)[c] = (float)dbeta;
    }
    if (partial) env->release(env->owner, partial, bytes);
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}
