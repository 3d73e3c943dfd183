/* What moves, converts or makes values, naively: copy, fill, pad, embedding, timestep embedding; gradients of pad and embedding. */
#include "kernels/philox.h"
#include "kernels/ref/ref.h"

/* The same type goes over bit by bit: a double would not hold all of an i64. */
static void convert(const weft_copy_args *a, int64_t to, int64_t from) {
    if (a->src_type == a->dst_type) ref_move(a->dst_type, a->dst, to, a->src, from);
    else ref_put(a->dst_type, a->dst, to, ref_get(a->src_type, a->src, from));
}

int weft_ref_copy(const weft_env *env, const weft_copy_args *a) {
    (void)env;
    if (!ref_takes(REF_ALL, a->src_type) || !ref_takes(REF_ALL, a->dst_type)) return WEFT_K_NO_TYPE;
    if (a->rank < 0 || a->rank > WEFT_MAX_RANK) return WEFT_K_NO_CASE;
    int64_t count = 1;
    for (int d = 0; d < a->rank; d++) count *= a->shape[d];
    for (int64_t i = 0; i < count; i++) {
        int64_t rest = i, to = 0, from = 0;
        for (int d = a->rank - 1; d >= 0; d--) {
            to += rest % a->shape[d] * a->dst_stride[d];
            from += rest % a->shape[d] * a->src_stride[d];
            rest /= a->shape[d];
        }
        convert(a, to, from);
    }
    return WEFT_K_OK;
}

int weft_ref_fill(const weft_env *env, const weft_fill_args *a) {
    (void)env;
    if (!ref_takes(REF_ALL, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t i = 0; i < a->n; i++) ref_put(a->type, a->dst, i, a->value);
    return WEFT_K_OK;
}

/* The source position of a padded one; −1: outside, where the constant goes. */
static int64_t padded(weft_pad_mode mode, int64_t i, int64_t size) {
    if (i >= 0 && i < size) return i;
    if (mode == WEFT_PAD_REPLICATE) return i < 0 ? 0 : size - 1;
    if (mode == WEFT_PAD_REFLECT) return i < 0 ? -i : 2 * (size - 1) - i;
    return -1;
}

/* Whether the mode can fill these pads beside `size` values: replicating needs one, reflecting more than it fills. */
static bool fits(weft_pad_mode mode, int64_t size, int64_t before, int64_t after) {
    if (size + before + after < 0) return false;
    if (mode == WEFT_PAD_CONSTANT) return true;
    if (before < 0 || after < 0) return false;
    if (before + after == 0) return true;
    return mode == WEFT_PAD_REPLICATE ? size > 0 : before < size && after < size;
}

int weft_ref_pad(const weft_env *env, const weft_pad_args *a) {
    (void)env;
    if (!ref_takes(REF_ALL, a->type)) return WEFT_K_NO_TYPE;
    if ((unsigned)a->mode >= WEFT_PAD_COUNT) return WEFT_K_NO_CASE;
    if (!fits(a->mode, a->h, a->top, a->bottom) || !fits(a->mode, a->w, a->left, a->right)) return WEFT_K_NO_CASE;
    int64_t oh = a->h + a->top + a->bottom, ow = a->w + a->left + a->right, at = 0;
    for (int64_t n = 0; n < a->n; n++)
        for (int64_t oy = 0; oy < oh; oy++)
            for (int64_t ox = 0; ox < ow; ox++) {
                int64_t y = padded(a->mode, oy - a->top, a->h), x = padded(a->mode, ox - a->left, a->w);
                for (int64_t c = 0; c < a->c; c++, at++) {
                    if (y < 0 || x < 0) ref_put(a->type, a->y, at, a->value);
                    else ref_move(a->type, a->y, at, a->x, ((n * a->h + y) * a->w + x) * a->c + c);
                }
            }
    return WEFT_K_OK;
}

/* Sums in double, one picture at a time. */
int weft_ref_pad_grad(const weft_env *env, const weft_pad_grad_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if ((unsigned)a->mode >= WEFT_PAD_COUNT) return WEFT_K_NO_CASE;
    if (!fits(a->mode, a->h, a->top, a->bottom) || !fits(a->mode, a->w, a->left, a->right)) return WEFT_K_NO_CASE;
    const int64_t oh = a->h + a->top + a->bottom, ow = a->w + a->left + a->right, size = a->h * a->w * a->c;
    if (a->n * size == 0) return WEFT_K_OK;
    const size_t bytes = (size_t)size * sizeof(double);
    double *sum = env->alloc(env->owner, bytes);
    if (!sum) return WEFT_K_NO_MEMORY;
    for (int64_t n = 0; n < a->n; n++) {
        memset(sum, 0, bytes);
        for (int64_t at = 0; at < oh * ow; at++) {
            int64_t y = padded(a->mode, at / ow - a->top, a->h), x = padded(a->mode, at % ow - a->left, a->w);
            for (int64_t c = 0; c < a->c && y >= 0 && x >= 0; c++)
                sum[(y * a->w + x) * a->c + c] += ref_get(a->type, a->dy, (n * oh * ow + at) * a->c + c);
        }
        for (int64_t i = 0; i < size; i++) ref_put(a->type, a->dx, n * size + i, sum[i]);
    }
    env->release(env->owner, sum, bytes);
    return WEFT_K_OK;
}

static int64_t id_at(weft_dtype type, const void *ids, int64_t i) {
    return type == WEFT_I64 ? ((const int64_t *)ids)[i] : ((const int32_t *)ids)[i];
}

int weft_ref_embedding(const weft_env *env, const weft_embedding_args *a) {
    (void)env;
    if (!ref_takes(REF_FLOATS, a->type) || !ref_takes(REF_FLOATS, a->table_type) || !ref_takes(REF_IDS, a->id_type))
        return WEFT_K_NO_TYPE;
    for (int64_t i = 0; i < a->n; i++) {
        int64_t id = id_at(a->id_type, a->ids, i);
        if (id < 0 || id >= a->rows) return WEFT_K_NO_CASE;
        for (int64_t c = 0; c < a->c; c++)
            ref_put(a->type, a->y, i * a->c + c, ref_get(a->table_type, a->table, id * a->c + c));
    }
    return WEFT_K_OK;
}

/* One row of the table after the other, in double. */
int weft_ref_embedding_grad(const weft_env *env, const weft_embedding_grad_args *a) {
    if (!ref_takes(REF_FLOATS, a->type) || !ref_takes(REF_IDS, a->id_type)) return WEFT_K_NO_TYPE;
    if (a->rows * a->c == 0) return WEFT_K_OK;
    for (int64_t i = 0; i < a->n; i++)
        if (id_at(a->id_type, a->ids, i) < 0 || id_at(a->id_type, a->ids, i) >= a->rows) return WEFT_K_NO_CASE;
    for (int64_t row = 0; row < a->rows; row++) {
        if (ref_cancelled(env)) return WEFT_K_CANCELLED;
        for (int64_t c = 0; c < a->c; c++) {
            double sum = a->accumulate ? ref_get(a->type, a->dtable, row * a->c + c) : 0;
            for (int64_t i = 0; i < a->n; i++)
                if (id_at(a->id_type, a->ids, i) == row) sum += ref_get(a->type, a->dy, i * a->c + c);
            ref_put(a->type, a->dtable, row * a->c + c, sum);
        }
    }
    return WEFT_K_OK;
}

/* Rounds like an f32 operation unless the embedding is f64: through double, which no compiler fuses away. */
static double step(weft_dtype type, double v) { return type == WEFT_F64 ? v : (double)(float)v; }

int weft_ref_timestep(const weft_env *env, const weft_timestep_args *a) {
    (void)env;
    const weft_dtype t = a->type;
    const int64_t half = a->dim / 2;
    if (!ref_takes(REF_FLOATS, t)) return WEFT_K_NO_TYPE;
    for (int64_t i = 0; i < a->n; i++) {
        for (int64_t j = 0; j < half; j++) {
            double exponent = step(t, step(t, -log(a->max_period)) * (double)j);
            double f = step(t, exp(step(t, exponent / step(t, (double)half - a->shift))));
            double angle = step(t, step(t, a->scale) * step(t, ref_get(t, a->t, i) * f));
            ref_put(t, a->y, i * a->dim + (a->flip ? half + j : j), sin(angle));
            ref_put(t, a->y, i * a->dim + (a->flip ? j : half + j), cos(angle));
        }
        if (a->dim % 2) ref_put(t, a->y, i * a->dim + a->dim - 1, 0);
    }
    return WEFT_K_OK;
}

/* Number `part` of a block's four. u and v are floats as on a GPU, the rest is double. */
static float philox_f32(const uint32_t x[4], int part, bool uniform) {
    const int first = uniform ? part : part / 2 * 2;
    const float u = fmaf((float)x[first], 0x1p-32f, 0x1p-33f);
    if (uniform) return u == 1 ? 0 : u;
    const float v = fmaf((float)x[first + 1], PHILOX_TWO_PI, PHILOX_TWO_PI / 2);
    return (float)(sqrt(-2 * log(u)) * (part % 2 ? cos(v) : sin(v)));
}

/* 53 bits of two words, as cuRAND mixes them: the number is (z + ½)·2⁻⁵³. */
static uint64_t mix53(const uint32_t x[2]) { return (uint64_t)x[0] ^ (uint64_t)x[1] << 21; }

/* Number `part` of a block's two. */
static double philox_f64(const uint32_t x[4], int part, bool uniform) {
    const double u = fma((double)mix53(x + (uniform ? 2 * part : 0)), 0x1p-53, 0x1p-54);
    if (uniform) return u == 1 ? 0 : u;
    const double angle = 3.14159265358979323846 * fma((double)mix53(x + 2), 0x1p-52, 0x1p-53);
    return sqrt(-2 * log(u)) * (part ? cos(angle) : sin(angle));
}

int weft_ref_philox(const weft_env *env, const weft_philox_args *a) {
    (void)env;
    if (a->type != WEFT_F32 && a->type != WEFT_F64) return WEFT_K_NO_TYPE;
    const int parts = a->type == WEFT_F32 ? 4 : 2;
    for (int64_t i = 0; i < a->n; i++) {
        const int64_t row = i / a->threads;
        const int part = (int)(row % parts);
        uint32_t x[4];
        philox_words(a->seed, a->counter + (uint64_t)(row / parts), (uint64_t)(i % a->threads), x);
        if (a->type == WEFT_F32) ((float *)a->y)[i] = philox_f32(x, part, a->uniform);
        else ((double *)a->y)[i] = philox_f64(x, part, a->uniform);
    }
    return WEFT_K_OK;
}
