/* The optimisers' updates in one pass over their arrays, and the sums that they need; formulas in kernels.h. f32 alone.
 *
 * Sums run in double, in an order that the sizes alone decide (reduce.cuh). Adafactor, which needs sums of its own
 * direction before it may use it, works it out twice rather than keep it; its learning rate comes from sums that only
 * the device knows.
 */
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/reduce.cuh"

/* ---- one array after the other ------------------------------------------------------------------------------ */

/* f(g, p, m, v) changes what it is given; m and v may be NULL, and are then neither read nor written. */
template <int N, typename F>
static __global__ void __launch_bounds__(BLOCK)
update_kernel(int64_t n, F f, const float *grad, float *param, float *first, float *second) {
    for (int64_t i = grid_first(); i < n; i += grid_step()) {
        const pack<float, N> g = load_pack<float, N>(grad + i * N);
        pack<float, N> p = load_pack<float, N>(param + i * N), m = {}, v = {};
        if (first) m = load_pack<float, N>(first + i * N);
        if (second) v = load_pack<float, N>(second + i * N);
#pragma unroll
        for (int k = 0; k < N; k++) f(g.v[k], p.v[k], m.v[k], v.v[k]);
        store_pack<float, N>(param + i * N, p);
        if (first) store_pack<float, N>(first + i * N, m);
        if (second) store_pack<float, N>(second + i * N, v);
    }
}

template <typename F>
static int update(const weft_env *env, const char *who, weft_dtype type, int64_t n, const F &f, const void *grad,
                  void *param, void *first, void *second) {
    constexpr int N = 4;
    const bool aligned = is_wide(grad) && is_wide(param) && is_wide(first) && is_wide(second);
    const int64_t packs = aligned ? n / N : 0, rest = n - packs * N;
    const float *g = (const float *)grad;
    float *p = (float *)param, *m = (float *)first, *v = (float *)second;
    int status = WEFT_K_OK;
    if (type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (packs) status = launch(env, who, grid_for(env, packs), BLOCK, 0, update_kernel<N, F>, packs, f, g, p, m, v);
    if (status || rest < 1) return status;
    const int64_t at = packs * N;
    return launch(env, who, grid_for(env, rest), BLOCK, 0, update_kernel<1, F>, rest, f, g + at, p + at, m ? m + at : m,
                  v ? v + at : v);
}

struct adam_of {
    float shrink, decay, left1, beta2, left2, step, root2, eps;
    __device__ __forceinline__ void operator()(float g, float &p, float &m, float &v) const {
        g += decay * p;
        m += left1 * (g - m);
        v = beta2 * v + left2 * g * g;
        p = p * shrink - step * (m / (sqrtf(v) / root2 + eps));
    }
};

int weft_cuda_adam(const weft_env *env, const weft_adam_args *a) {
    const adam_of f = { (float)(a->decoupled ? 1 - a->lr * a->weight_decay : 1),
                        (float)(a->decoupled ? 0 : a->weight_decay), (float)(1 - a->beta1), (float)a->beta2,
                        (float)(1 - a->beta2), (float)(a->lr / a->correct1), (float)sqrt(a->correct2), (float)a->eps };
    return update(env, "adam", a->type, a->n, f, a->grad, a->param, a->m, a->v);
}

struct sgd_of {
    float decay, lr, momentum, take;
    bool nesterov, first, keeps;
    __device__ __forceinline__ void operator()(float g, float &p, float &m, float &) const {
        g += decay * p;
        if (keeps) {
            m = first ? g : momentum * m + take * g;
            g = nesterov ? g + momentum * m : m;
        }
        p -= lr * g;
    }
};

int weft_cuda_sgd(const weft_env *env, const weft_sgd_args *a) {
    const sgd_of f = { (float)a->weight_decay, (float)a->lr, (float)a->momentum, (float)(1 - a->dampening),
                       a->nesterov != 0, a->first != 0, a->m != NULL };
    return update(env, "sgd", a->type, a->n, f, a->grad, a->param, a->m, NULL);
}

struct lion_of {
    float shrink, lr, beta1, left1, beta2, left2;
    __device__ __forceinline__ void operator()(float g, float &p, float &m, float &) const {
        const float u = beta1 * m + left1 * g;
        const float sign = u > 0 ? 1 : u < 0 ? -1 : u;          /* NaN of NaN, so that a broken gradient shows */
        p = p * shrink - lr * sign;
        m = beta2 * m + left2 * g;
    }
};

int weft_cuda_lion(const weft_env *env, const weft_lion_args *a) {
    const lion_of f = { (float)(1 - a->lr * a->weight_decay), (float)a->lr, (float)a->beta1, (float)(1 - a->beta1),
                        (float)a->beta2, (float)(1 - a->beta2) };
    return update(env, "lion", a->type, a->n, f, a->grad, a->param, a->m, NULL);
}

/* ---- sums --------------------------------------------------------------------------------------------------- */

/* The sum, divided. */
struct put_double {
    double *y, divide;
    __device__ __forceinline__ void operator()(int64_t i, double v) const { y[i] = v / divide; }
};

int weft_cuda_sum_squares(const weft_env *env, const weft_sum_squares_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    return reduce_dense<float>(env, "sum_squares", 1, a->n, 1, a->x, squares_of(), put_double{ a->y, 1 });
}

/* ---- Adafactor ---------------------------------------------------------------------------------------------- */

/* A moving average goes toward the mean of squares. */
struct move_of {
    float *average;
    double decay, eps, count;
    __device__ __forceinline__ void operator()(int64_t i, double v) const {
        average[i] = (float)(decay * average[i] + (1 - decay) * (v / count + eps));
    }
};

struct moment_of {
    float decay, left, eps;
    __device__ __forceinline__ float operator()(float col, float g) const { return decay * col + left * (g * g + eps); }
};

int weft_cuda_adafactor_moments(const weft_env *env, const weft_adafactor_moments_args *a) {
    const char *who = "adafactor_moments";
    const int64_t n = a->batch * a->rows * a->cols;
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (n < 1) return WEFT_K_OK;
    if (!a->row)
        return map<float>(env, who, n, moment_of{ (float)a->decay, (float)(1 - a->decay), (float)a->eps }, a->col,
                          a->col, a->grad);
    const int status = reduce_dense<float>(env, who, a->batch * a->rows, a->cols, 1, a->grad, squares_of(),
                                           move_of{ (float *)a->row, a->decay, a->eps, (double)a->cols });
    if (status) return status;
    return reduce_dense<float>(env, who, a->batch, a->rows, a->cols, a->grad, squares_of(),
                               move_of{ (float *)a->col, a->decay, a->eps, (double)a->rows });
}

/* Where an element's direction comes from; means: of each batch's rows. row NULL: not factored. */
struct direction {
    const float *grad, *row, *col;
    const double *means;
    int64_t rows, cols;
    __device__ __forceinline__ float at(int64_t i) const {
        if (!row) return grad[i] / sqrtf(col[i]);
        const int64_t r = i / cols, batch = r / rows;
        return grad[i] * (1 / sqrtf(row[r] / (float)means[batch]) / sqrtf(col[batch * cols + (i - r * cols)]));
    }
    __device__ __forceinline__ pack<float, 1> operator()(int64_t i) const { return pack<float, 1>{ { at(i) } }; }
};

/* The direction of a call; its means in scratch, to be released, or NULL where it has none. */
static int direction_begin(const weft_env *env, const char *who, const weft_adafactor_args *a, direction *d) {
    *d = direction{ (const float *)a->grad, (const float *)a->row, (const float *)a->col, NULL, a->rows, a->cols };
    if (!a->row) return WEFT_K_OK;
    double *means = (double *)env->alloc(env->owner, (size_t)a->batch * sizeof *means);
    if (!means) return WEFT_K_NO_MEMORY;
    d->means = means;
    return reduce_dense<float>(env, who, a->batch, a->rows, 1, a->row, sum_of(), put_double{ means, (double)a->rows });
}

static void direction_end(const weft_env *env, const weft_adafactor_args *a, const direction *d) {
    if (d->means) env->release(env->owner, (void *)d->means, (size_t)a->batch * sizeof *d->means);
}

int weft_cuda_adafactor_size(const weft_env *env, const weft_adafactor_size_args *a) {
    const char *who = "adafactor_size";
    const int64_t n = a->batch * a->rows * a->cols;
    direction d = {};
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    int status = n > 0 ? direction_begin(env, who, a, &d) : WEFT_K_OK;
    if (!status)
        status = reduce_by<1>(env, who, reduction_of(env, 1, n > 0 ? n : 0, 1, false), d, squares_of(),
                              put_double{ a->squares, 1 });
    direction_end(env, a, &d);
    return status;
}

struct apply_of {
    double lr, least, clip, count, weight_decay;
    float beta1, left1;
    const double *squares, *param_squares;
};

static __global__ void __launch_bounds__(BLOCK)
apply_kernel(int64_t n, apply_of f, direction d, float *param, float *m) {
    double lr = f.lr;
    if (f.param_squares) lr *= fmax(f.least, sqrt(*f.param_squares / f.count));
    const double over = sqrt(*f.squares / f.count) / f.clip;
    const float scale = (float)(over > 1 || over != over ? lr / over : lr), decay = (float)(f.weight_decay * lr);
    for (int64_t i = grid_first(); i < n; i += grid_step()) {
        const float p = param[i];
        float u = scale * d.at(i);
        if (m) m[i] = u = f.beta1 * m[i] + f.left1 * u;
        param[i] = p - decay * p - u;
    }
}

int weft_cuda_adafactor_apply(const weft_env *env, const weft_adafactor_apply_args *a) {
    const char *who = "adafactor_apply";
    const int64_t n = a->batch * a->rows * a->cols;
    const apply_of f = { a->lr, a->least, a->clip, (double)n, a->weight_decay, (float)a->beta1, (float)(1 - a->beta1),
                         a->squares, a->param_squares };
    direction d = {};
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    if (n < 1) return WEFT_K_OK;
    int status = direction_begin(env, who, a, &d);
    if (!status)
        status = launch(env, who, grid_for(env, n), BLOCK, 0, apply_kernel, n, f, d, (float *)a->param, (float *)a->m);
    direction_end(env, a, &d);
    return status;
}
