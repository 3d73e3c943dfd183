/* The optimisers' updates in one pass over their arrays: bound by memory, so each array is read and written once. Sums
 * run in double over pieces of a fixed size, whose results are added up in order. Adafactor, which needs sums of its
 * own direction before it may use it, works it out twice rather than keep it. */
#include "kernels/cpu/simd_double.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/threads.h"

#define PIECE 8192          /* elements of one work item */

/* VL elements at i, or what is left of n. */
#define LOAD(p) (rest < VL ? vf_load_n((const float *)(p) + i, rest) : vf_load((const float *)(p) + i))
#define STORE(p, v) (rest < VL ? vf_store_n((float *)(p) + i, (v), rest) : vf_store((float *)(p) + i, (v)))
/* Runs the block behind it for each vector of the n elements. */
#define FOR_VECTORS(from, n) for (int64_t i = (from), rest = (n); rest > 0; i += VL, rest -= VL)

/* ---- sums ---------------------------------------------------------------------------------------------------- */

INLINE vd add_squares(vd sum, vf x) {
    float t[VL];
    vf_store(t, x);
    const vd low = vd_from_f32(t), high = vd_from_f32(t + VD);
    return sum + (low * low + high * high);
}

static double sum_squares(const float *x, int64_t n) {
    vd sum[2] = { { 0 } };
    FOR_VECTORS(0, n) sum[i / VL % 2] = add_squares(sum[i / VL % 2], LOAD(x));
    return vd_sum(sum[0] + sum[1]);
}

/* Room for `n` doubles; NULL: refused. */
static double *sums_new(const weft_env *env, int64_t n) { return env->alloc(env->owner, (size_t)n * sizeof(double)); }

static double sums_add(const weft_env *env, double *sums, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += sums[i];
    env->release(env->owner, sums, (size_t)n * sizeof *sums);
    return sum;
}

int ISA_NAME(sum_squares)(const weft_env *env, const weft_sum_squares_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const int64_t pieces = (a->n + PIECE - 1) / PIECE;
    double *sums = pieces ? sums_new(env, pieces) : NULL;
    *a->y = 0;
    if (!sums) return pieces ? WEFT_K_NO_MEMORY : WEFT_K_OK;
#pragma omp parallel for num_threads(threads_for(env, (double)a->n))
    for (int64_t k = 0; k < pieces; k++)
        sums[k] = sum_squares((const float *)a->x + k * PIECE, MIN(PIECE, a->n - k * PIECE));
    *a->y = sums_add(env, sums, pieces);
    return WEFT_K_OK;
}

/* ---- element by element -------------------------------------------------------------------------------------- */

int ISA_NAME(lerp)(const weft_env *env, const weft_lerp_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const vf t = vf_set((float)a->t);
#pragma omp parallel for num_threads(threads_for(env, (double)a->n))
    for (int64_t from = 0; from < a->n; from += PIECE)
        FOR_VECTORS(from, MIN(PIECE, a->n - from)) {
            const vf x = LOAD(a->a);
            STORE(a->y, x + t * (LOAD(a->b) - x));
        }
    return WEFT_K_OK;
}

int ISA_NAME(adam)(const weft_env *env, const weft_adam_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const vf shrink = vf_set((float)(a->decoupled ? 1 - a->lr * a->weight_decay : 1));
    const vf decay = vf_set((float)(a->decoupled ? 0 : a->weight_decay));
    const vf left1 = vf_set((float)(1 - a->beta1)), left2 = vf_set((float)(1 - a->beta2));
    const vf beta2 = vf_set((float)a->beta2), eps = vf_set((float)a->eps);
    const vf step = vf_set((float)(a->lr / a->correct1)), root2 = vf_set((float)sqrt(a->correct2));
#pragma omp parallel for num_threads(threads_for(env, 8.0 * (double)a->n))
    for (int64_t from = 0; from < a->n; from += PIECE)
        FOR_VECTORS(from, MIN(PIECE, a->n - from)) {
            vf p = LOAD(a->param), m = LOAD(a->m);
            const vf g = LOAD(a->grad) + decay * p;
            m += left1 * (g - m);
            const vf v = beta2 * LOAD(a->v) + left2 * g * g;
            p = p * shrink - step * (m / (vf_sqrt(v) / root2 + eps));
            STORE(a->m, m);
            STORE(a->v, v);
            STORE(a->param, p);
        }
    return WEFT_K_OK;
}

int ISA_NAME(sgd)(const weft_env *env, const weft_sgd_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const vf decay = vf_set((float)a->weight_decay), lr = vf_set((float)a->lr), momentum = vf_set((float)a->momentum);
    const vf take = vf_set((float)(1 - a->dampening));
#pragma omp parallel for num_threads(threads_for(env, 4.0 * (double)a->n))
    for (int64_t from = 0; from < a->n; from += PIECE)
        FOR_VECTORS(from, MIN(PIECE, a->n - from)) {
            const vf p = LOAD(a->param);
            vf g = LOAD(a->grad) + decay * p;
            if (a->m) {
                const vf m = a->first ? g : momentum * LOAD(a->m) + take * g;
                STORE(a->m, m);
                g = a->nesterov ? g + momentum * m : m;
            }
            STORE(a->param, p - lr * g);
        }
    return WEFT_K_OK;
}

int ISA_NAME(lion)(const weft_env *env, const weft_lion_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const vf shrink = vf_set((float)(1 - a->lr * a->weight_decay)), lr = vf_set((float)a->lr);
    const vf beta1 = vf_set((float)a->beta1), left1 = vf_set((float)(1 - a->beta1));
    const vf beta2 = vf_set((float)a->beta2), left2 = vf_set((float)(1 - a->beta2));
#pragma omp parallel for num_threads(threads_for(env, 5.0 * (double)a->n))
    for (int64_t from = 0; from < a->n; from += PIECE)
        FOR_VECTORS(from, MIN(PIECE, a->n - from)) {
            const vf g = LOAD(a->grad), m = LOAD(a->m), u = beta1 * m + left1 * g;
            const vf sign = vf_select((u > 0) | (u < 0), vf_copysign(vf_set(1), u), u);     /* 0 of 0, NaN of NaN */
            STORE(a->param, LOAD(a->param) * shrink - lr * sign);
            STORE(a->m, beta2 * m + left2 * g);
        }
    return WEFT_K_OK;
}

/* ---- Adafactor: moments -------------------------------------------------------------------------------------- */

#define WIDE 4              /* vectors side by side */
#define BLOCK (WIDE * VD)   /* columns of one work item */

INLINE void move(const weft_adafactor_args *a, float *average, double mean) {
    *average = (float)(a->decay * *average + (1 - a->decay) * (mean + a->eps));
}

static void moments_whole(const weft_env *env, const weft_adafactor_args *a, int64_t n) {
    const vf decay = vf_set((float)a->decay), left = vf_set((float)(1 - a->decay)), eps = vf_set((float)a->eps);
#pragma omp parallel for num_threads(threads_for(env, 3.0 * (double)n))
    for (int64_t from = 0; from < n; from += PIECE)
        FOR_VECTORS(from, MIN(PIECE, n - from)) {
            const vf g = LOAD(a->grad);
            STORE(a->col, decay * LOAD(a->col) + left * (g * g + eps));
        }
}

/* The column averages of up to BLOCK columns of one matrix. */
static void moments_columns(const weft_adafactor_args *a, const float *g, int64_t columns, float *col) {
    const double rows = (double)a->rows;
    if (columns == BLOCK) {
        vd sum[WIDE] = { 0 };
        for (int64_t r = 0; r < a->rows; r++)
            UNROLL
            for (int k = 0; k < WIDE; k++) {
                const vd x = vd_from_f32(g + r * a->cols + k * VD);
                sum[k] += x * x;
            }
        for (int c = 0; c < BLOCK; c++) move(a, col + c, sum[c / VD][c % VD] / rows);
        return;
    }
    for (int64_t c = 0; c < columns; c++) {
        double sum = 0;
        for (int64_t r = 0; r < a->rows; r++) {
            const double x = g[r * a->cols + c];
            sum += x * x;
        }
        move(a, col + c, sum / rows);
    }
}

int ISA_NAME(adafactor_moments)(const weft_env *env, const weft_adafactor_moments_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const int64_t rows = a->batch * a->rows, n = rows * a->cols, blocks = (a->cols + BLOCK - 1) / BLOCK;
    const float *grad = a->grad;
    if (!n) return WEFT_K_OK;
    if (!a->row) {
        moments_whole(env, a, n);
        return WEFT_K_OK;
    }
    const int threads = threads_for(env, (double)n);
#pragma omp parallel for num_threads(threads)
    for (int64_t r = 0; r < rows; r++)
        move(a, (float *)a->row + r, sum_squares(grad + r * a->cols, a->cols) / (double)a->cols);
#pragma omp parallel for num_threads(threads)
    for (int64_t k = 0; k < a->batch * blocks; k++) {
        const int64_t b = k / blocks, c = k % blocks * BLOCK;
        moments_columns(a, grad + b * a->rows * a->cols + c, MIN(BLOCK, a->cols - c),
                        (float *)a->col + b * a->cols + c);
    }
    return WEFT_K_OK;
}

/* ---- Adafactor: direction ------------------------------------------------------------------------------------ */

/* How the elements are cut: pieces of whole rows, or, where not factored, of one row that holds all. */
struct cut { int64_t rows, cols, each, pieces; double *means; };

/* A row's part of the second moment: 1/√(row / the mean of the batch's). */
INLINE float row_factor(const weft_adafactor_args *a, const struct cut *cut, int64_t row) {
    return a->row ? (float)(1 / sqrt(((const float *)a->row)[row] / cut->means[row / a->rows])) : 1;
}

/* False without memory. */
static bool cut_begin(const weft_env *env, const weft_adafactor_args *a, struct cut *cut) {
    const int64_t n = a->batch * a->rows * a->cols;
    *cut = (struct cut){ .rows = a->batch * a->rows, .cols = a->cols };
    if (!a->row) cut->cols = PIECE, cut->rows = (n + PIECE - 1) / PIECE;     /* the last one is shorter */
    cut->each = MAX(1, PIECE / cut->cols);
    cut->pieces = (cut->rows + cut->each - 1) / cut->each;
    if (!a->row) return true;
    cut->means = sums_new(env, a->batch);
    if (!cut->means) return false;
#pragma omp parallel for num_threads(threads_for(env, (double)cut->rows))
    for (int64_t b = 0; b < a->batch; b++) {
        double sum = 0;
        for (int64_t r = 0; r < a->rows; r++) sum += ((const float *)a->row)[b * a->rows + r];
        cut->means[b] = sum / (double)a->rows;
    }
    return true;
}

static void cut_end(const weft_env *env, const weft_adafactor_args *a, struct cut *cut) {
    if (cut->means) env->release(env->owner, cut->means, (size_t)a->batch * sizeof(double));
}

INLINE vf direction(vf g, vf factor, vf col) { return g * (factor * (1 / vf_sqrt(col))); }

/* A row of the cut: where it starts, its columns' averages, how long it is. */
struct line { int64_t from, n; const float *col; vf factor; };

INLINE struct line line_at(const weft_adafactor_args *a, const struct cut *cut, int64_t row) {
    struct line l = { .from = row * cut->cols, .n = cut->cols, .factor = vf_set(row_factor(a, cut, row)) };
    if (a->row) l.col = (const float *)a->col + row / a->rows * a->cols;
    else l.col = (const float *)a->col + l.from, l.n = MIN(l.n, a->batch * a->rows * a->cols - l.from);
    return l;
}

/* A last vector reads zeros behind the row's end; 0·(1/√0) would be NaN, so its columns are made 1. */
INLINE vf load_columns(const float *col, int64_t at, int64_t rest) {
    if (rest >= VL) return vf_load(col + at);
    const vf v = vf_load_n(col + at, rest);
    float t[VL];
    vf_store(t, v);
    for (int64_t k = rest; k < VL; k++) t[k] = 1;
    return vf_load(t);
}

int ISA_NAME(adafactor_size)(const weft_env *env, const weft_adafactor_size_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const int64_t n = a->batch * a->rows * a->cols;
    struct cut cut;
    *a->squares = 0;
    if (!n) return WEFT_K_OK;
    double *sums = cut_begin(env, a, &cut) ? sums_new(env, cut.pieces) : NULL;
    if (!sums) {
        cut_end(env, a, &cut);
        return WEFT_K_NO_MEMORY;
    }
#pragma omp parallel for num_threads(threads_for(env, 4.0 * (double)n))
    for (int64_t k = 0; k < cut.pieces; k++) {
        vd sum = { 0 };
        for (int64_t row = k * cut.each; row < MIN((k + 1) * cut.each, cut.rows); row++) {
            const struct line l = line_at(a, &cut, row);
            FOR_VECTORS(l.from, l.n)
                sum = add_squares(sum, direction(LOAD(a->grad), l.factor, load_columns(l.col, i - l.from, rest)));
        }
        sums[k] = vd_sum(sum);
    }
    *a->squares = sums_add(env, sums, cut.pieces);
    cut_end(env, a, &cut);
    return WEFT_K_OK;
}

int ISA_NAME(adafactor_apply)(const weft_env *env, const weft_adafactor_apply_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const int64_t n = a->batch * a->rows * a->cols;
    struct cut cut;
    if (!n) return WEFT_K_OK;
    if (!cut_begin(env, a, &cut)) return WEFT_K_NO_MEMORY;
    double lr = a->lr;
    if (a->param_squares) lr *= fmax(a->least, sqrt(*a->param_squares / (double)n));
    const double over = sqrt(*a->squares / (double)n) / a->clip;
    const vf scale = vf_set((float)(over > 1 || isnan(over) ? lr / over : lr));
    const vf decay = vf_set((float)(a->weight_decay * lr));
    const vf beta1 = vf_set((float)a->beta1), left1 = vf_set((float)(1 - a->beta1));
#pragma omp parallel for num_threads(threads_for(env, 6.0 * (double)n))
    for (int64_t k = 0; k < cut.pieces; k++)
        for (int64_t row = k * cut.each; row < MIN((k + 1) * cut.each, cut.rows); row++) {
            const struct line l = line_at(a, &cut, row);
            FOR_VECTORS(l.from, l.n) {
                vf p = LOAD(a->param);
                vf u = scale * direction(LOAD(a->grad), l.factor, load_columns(l.col, i - l.from, rest));
                if (a->m) {
                    u = beta1 * LOAD(a->m) + left1 * u;
                    STORE(a->m, u);
                }
                p -= decay * p;
                STORE(a->param, p - u);
            }
        }
    cut_end(env, a, &cut);
    return WEFT_K_OK;
}
