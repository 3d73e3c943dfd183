/* Resampling, naively: every mode is a list of weighted source positions for each output row and each output column
 * (taps.h).
 *
 * The PyTorch modes take both directions at once; the PIL modes one, then the other, with the picture between rounded to
 * the type's own precision; a direction whose size stays is left alone.  u8: 22-bit fixed-point weights.
 */
#include "kernels/ref/taps.h"

/* The taps of all output positions of one direction, in one block; NULL without memory. */
static struct ref_taps *all_taps(const weft_env *env, weft_resample_mode mode, weft_dtype type, int64_t in, int64_t out,
                                 size_t *bytes) {
    int64_t most = ref_most_taps(mode, in, out);
    *bytes = (size_t)out * (sizeof(struct ref_taps) + (size_t)most * sizeof(double));
    struct ref_taps *t = env->alloc(env->owner, *bytes);
    double *w = t ? (double *)(t + out) : NULL;
    for (int64_t i = 0; t && i < out; i++) {
        t[i].w = w + i * most;
        ref_taps_of(mode, type, in, out, i, &t[i]);
    }
    return t;
}

static void torch_resample(const weft_resample_args *a, const struct ref_taps *rows, const struct ref_taps *columns) {
    int64_t at = 0;
    for (int64_t n = 0; n < a->n; n++)
        for (int64_t y = 0; y < a->oh; y++)
            for (int64_t x = 0; x < a->ow; x++)
                for (int64_t c = 0; c < a->c; c++, at++) {
                    double sum = 0;
                    for (int64_t j = 0; j < rows[y].count; j++)
                        for (int64_t i = 0; i < columns[x].count; i++) {
                            int64_t pixel = (n * a->h + rows[y].first + j) * a->w + columns[x].first + i;
                            sum += rows[y].w[j] * columns[x].w[i] * ref_get(a->type, a->x, pixel * a->c + c);
                        }
                    ref_put(a->type, a->y, at, sum);
                }
}

/* One direction of a PIL mode: `inner` values follow one another between two positions of it. */
static void pil_pass(weft_dtype type, const void *x, void *y, int64_t outer, int64_t in, int64_t out, int64_t inner,
                     const struct ref_taps *t) {
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < out * inner; i++) {
            const struct ref_taps *here = &t[i / inner];
            int64_t first = (o * in + here->first) * inner + i % inner, fixed = 1 << 21;
            double sum = 0;
            for (int64_t k = 0; k < here->count; k++) {
                double v = ref_get(type, x, first + k * inner);
                sum += v * here->w[k];
                fixed += (int64_t)v * ref_fixed(here->w[k]);
            }
            ref_put(type, y, o * out * inner + i, type == WEFT_U8 ? (double)(fixed >> 22) : sum);
        }
}

/* Pillow 13 takes the rows first where that leaves far fewer of them; older ones always the columns. */
static bool rows_first(const weft_resample_args *a) { return a->h > a->oh && a->h - a->oh > 2 * (a->w - a->ow); }

static int pil_resample(const weft_env *env, const weft_resample_args *a, const struct ref_taps *rows,
                        const struct ref_taps *columns) {
    size_t bytes = (size_t)(a->n * (rows_first(a) ? a->oh * a->w : a->h * a->ow) * a->c) * weft_dtype_size(a->type);
    if (a->ow == a->w && a->oh == a->h) memcpy(a->y, a->x, bytes);
    else if (a->ow == a->w) pil_pass(a->type, a->x, a->y, a->n, a->h, a->oh, a->ow * a->c, rows);
    else if (a->oh == a->h) pil_pass(a->type, a->x, a->y, a->n * a->h, a->w, a->ow, a->c, columns);
    else {
        void *between = env->alloc(env->owner, bytes);
        if (!between) return WEFT_K_NO_MEMORY;
        if (rows_first(a)) {
            pil_pass(a->type, a->x, between, a->n, a->h, a->oh, a->w * a->c, rows);
            pil_pass(a->type, between, a->y, a->n * a->oh, a->w, a->ow, a->c, columns);
        } else {
            pil_pass(a->type, a->x, between, a->n * a->h, a->w, a->ow, a->c, columns);
            pil_pass(a->type, between, a->y, a->n, a->h, a->oh, a->ow * a->c, rows);
        }
        env->release(env->owner, between, bytes);
    }
    return WEFT_K_OK;
}

int weft_ref_resample(const weft_env *env, const weft_resample_args *a) {
    if ((unsigned)a->mode >= WEFT_RESAMPLE_COUNT) return WEFT_K_NO_CASE;
    if (!ref_takes(ref_is_pil(a->mode) ? REF_FLOATS | REF_BIT(WEFT_U8) : REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if (a->n * a->c * a->oh * a->ow == 0) return WEFT_K_OK;
    if (a->h < 1 || a->w < 1) return WEFT_K_NO_CASE;
    size_t row_bytes, column_bytes;
    int status = WEFT_K_NO_MEMORY;
    struct ref_taps *rows = all_taps(env, a->mode, a->type, a->h, a->oh, &row_bytes);
    struct ref_taps *columns = rows ? all_taps(env, a->mode, a->type, a->w, a->ow, &column_bytes) : NULL;
    if (columns) {
        status = WEFT_K_OK;
        if (ref_is_pil(a->mode)) status = pil_resample(env, a, rows, columns);
        else torch_resample(a, rows, columns);
        env->release(env->owner, columns, column_bytes);
    }
    if (rows) env->release(env->owner, rows, row_bytes);
    return status;
}

/* Every output's gradient to the pixels it was made of, in double: `sum` holds one picture. */
static void give_back(const weft_resample_grad_args *a, int64_t n, const struct ref_taps *rows, const struct ref_taps *columns,
                      double *sum) {
    memset(sum, 0, (size_t)(a->h * a->w * a->c) * sizeof *sum);
    for (int64_t at = 0; at < a->oh * a->ow * a->c; at++) {
        const int64_t c = at % a->c, x = at / a->c % a->ow, y = at / a->c / a->ow;
        const double dy = ref_get(a->type, a->dy, n * a->oh * a->ow * a->c + at);
        for (int64_t j = 0; j < rows[y].count; j++)
            for (int64_t i = 0; i < columns[x].count; i++)
                sum[((rows[y].first + j) * a->w + columns[x].first + i) * a->c + c] += rows[y].w[j] * columns[x].w[i] * dy;
    }
    for (int64_t i = 0; i < a->h * a->w * a->c; i++) ref_put(a->type, a->dx, n * a->h * a->w * a->c + i, sum[i]);
}

int weft_ref_resample_grad(const weft_env *env, const weft_resample_grad_args *a) {
    if ((unsigned)a->mode >= WEFT_RESAMPLE_COUNT) return WEFT_K_NO_CASE;
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if (a->n * a->c * a->h * a->w == 0) return WEFT_K_OK;
    if (a->oh * a->ow == 0) {
        for (int64_t i = 0; i < a->n * a->c * a->h * a->w; i++) ref_put(a->type, a->dx, i, 0);
        return WEFT_K_OK;
    }
    size_t row_bytes, column_bytes, bytes = (size_t)(a->h * a->w * a->c) * sizeof(double);
    int status = WEFT_K_NO_MEMORY;
    double *sum = env->alloc(env->owner, bytes);
    struct ref_taps *rows = sum ? all_taps(env, a->mode, a->type, a->h, a->oh, &row_bytes) : NULL;
    struct ref_taps *columns = rows ? all_taps(env, a->mode, a->type, a->w, a->ow, &column_bytes) : NULL;
    if (columns) {
        status = WEFT_K_OK;
        for (int64_t n = 0; n < a->n; n++) give_back(a, n, rows, columns, sum);
        env->release(env->owner, columns, column_bytes);
    }
    if (rows) env->release(env->owner, rows, row_bytes);
    if (sum) env->release(env->owner, sum, bytes);
    return status;
}
