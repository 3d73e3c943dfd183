/* Resampling, naively: every mode is a list of weighted source positions for each output row and each output column.
 *
 * The PyTorch modes follow ATen's UpSample kernels: source = scale·(i + ½) − ½ with scale = in/out, worked out in f32
 * unless the pictures are f64 (the weights of a non-integer ratio are only as good as that, so an f32 result has to
 * start from the same positions); both directions at once.  The PIL modes follow Pillow's Resample.c: the filter is
 * stretched by the ratio when shrinking, weights in double; one direction, then the other, with the picture between
 * rounded to the type's own precision; a direction whose size stays is left alone.  u8: 22-bit fixed-point weights.
 */
#include "kernels/ref/ref.h"

/* The weights of one output position: source first + i has weight w[i]. */
struct taps { int64_t first, count; double *w; };

static double bilinear(double x) { return fabs(x) < 1 ? 1 - fabs(x) : 0; }

/* Keys' cubic convolution. */
static double cubic(double x, double a) {
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double sinc(double x) { return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x); }

static double pil_filter(weft_resample_mode mode, double x) {
    if (mode == WEFT_PIL_BILINEAR) return bilinear(x);
    if (mode == WEFT_PIL_BICUBIC) return cubic(x, -0.5);
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static double pil_support(weft_resample_mode mode) {
    return mode == WEFT_PIL_BILINEAR ? 1 : mode == WEFT_PIL_BICUBIC ? 2 : 3;
}

static bool is_pil(weft_resample_mode mode) { return mode >= WEFT_PIL_BILINEAR; }

/* The most source positions that one output position can need. */
static int64_t most_taps(weft_resample_mode mode, int64_t in, int64_t out) {
    double stretch = in > out ? (double)in / (double)out : 1;
    if (is_pil(mode)) return 2 * (int64_t)ceil(pil_support(mode) * stretch) + 1;
    return mode == WEFT_AREA ? in / out + 2 : 4;
}

static void pil_taps(weft_resample_mode mode, int64_t in, int64_t out, int64_t i, struct taps *t) {
    double scale = (double)in / (double)out, stretch = scale < 1 ? 1 : scale;
    double support = pil_support(mode) * stretch, centre = ((double)i + 0.5) * scale, total = 0;
    int64_t first = (int64_t)(centre - support + 0.5), end = (int64_t)(centre + support + 0.5);
    t->first = first < 0 ? 0 : first;
    t->count = (end > in ? in : end) - t->first;
    for (int64_t k = 0; k < t->count; k++)
        total += t->w[k] = pil_filter(mode, ((double)(k + t->first) - centre + 0.5) * (1 / stretch));
    for (int64_t k = 0; k < t->count; k++)
        if (total != 0) t->w[k] /= total;
}

/* Rounds to f32 unless the pictures are f64; a product rounded so cannot be fused with what follows. */
static double round_as(weft_dtype type, double v) { return type == WEFT_F64 ? v : (double)(float)v; }

static void area_taps(int64_t in, int64_t out, int64_t i, struct taps *t) {
    t->first = i * in / out;
    t->count = ((i + 1) * in + out - 1) / out - t->first;
    for (int64_t k = 0; k < t->count; k++) t->w[k] = 1 / (double)t->count;
}

static void torch_taps(weft_resample_mode mode, weft_dtype type, int64_t in, int64_t out, int64_t i, struct taps *t) {
    double scale = round_as(type, (double)in / (double)out);
    if (mode == WEFT_NEAREST || mode == WEFT_NEAREST_EXACT) {
        double at = floor(round_as(type, scale * ((double)i + (mode == WEFT_NEAREST_EXACT ? 0.5 : 0))));
        *t = (struct taps){ at < (double)in ? (int64_t)at : in - 1, 1, t->w };
        t->w[0] = 1;
        return;
    }
    double at = round_as(type, round_as(type, scale * ((double)i + 0.5)) - 0.5);
    if (mode == WEFT_BILINEAR && at < 0) at = 0;
    int64_t whole = (int64_t)floor(at) < in - 1 ? (int64_t)floor(at) : in - 1;
    double part = at - (double)whole > 1 ? 1 : at - (double)whole;
    int reach = mode == WEFT_BILINEAR ? 0 : 1;
    int64_t low = whole - reach < 0 ? 0 : whole - reach, high = whole + 1 + reach < in ? whole + 1 + reach : in - 1;
    *t = (struct taps){ low, high - low + 1, t->w };
    memset(t->w, 0, (size_t)t->count * sizeof *t->w);
    for (int k = -reach; k <= 1 + reach; k++) {             /* positions beyond the edge count for the edge */
        int64_t from = whole + k < low ? low : whole + k > high ? high : whole + k;
        t->w[from - low] += reach ? cubic(part - k, -0.75) : bilinear(part - k);
    }
}

/* The taps of all output positions of one direction, in one block; NULL without memory. */
static struct taps *all_taps(const weft_env *env, weft_resample_mode mode, weft_dtype type, int64_t in, int64_t out, size_t *bytes) {
    int64_t most = most_taps(mode, in, out);
    *bytes = (size_t)out * (sizeof(struct taps) + (size_t)most * sizeof(double));
    struct taps *t = env->alloc(env->owner, *bytes);
    double *w = t ? (double *)(t + out) : NULL;
    for (int64_t i = 0; t && i < out; i++) {
        t[i].w = w + i * most;
        if (is_pil(mode)) pil_taps(mode, in, out, i, &t[i]);
        else if (mode == WEFT_AREA) area_taps(in, out, i, &t[i]);
        else torch_taps(mode, type, in, out, i, &t[i]);
    }
    return t;
}

static void torch_resample(const weft_resample_args *a, const struct taps *rows, const struct taps *columns) {
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
                     const struct taps *t) {
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < out * inner; i++) {
            const struct taps *here = &t[i / inner];
            int64_t first = (o * in + here->first) * inner + i % inner, fixed = 1 << 21;
            double sum = 0;
            for (int64_t k = 0; k < here->count; k++) {
                double v = ref_get(type, x, first + k * inner);
                sum += v * here->w[k];
                fixed += (int64_t)v * (int64_t)(here->w[k] * (1 << 22) + (here->w[k] < 0 ? -0.5 : 0.5));
            }
            ref_put(type, y, o * out * inner + i, type == WEFT_U8 ? (double)(fixed >> 22) : sum);
        }
}

/* Pillow 13 takes the rows first where that leaves far fewer of them; older ones always the columns. */
static bool rows_first(const weft_resample_args *a) { return a->h > a->oh && a->h - a->oh > 2 * (a->w - a->ow); }

static int pil_resample(const weft_env *env, const weft_resample_args *a, const struct taps *rows,
                        const struct taps *columns) {
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
    if (!ref_takes(is_pil(a->mode) ? REF_FLOATS | REF_BIT(WEFT_U8) : REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if (a->n * a->c * a->oh * a->ow == 0) return WEFT_K_OK;
    if (a->h < 1 || a->w < 1) return WEFT_K_NO_CASE;
    size_t row_bytes, column_bytes;
    int status = WEFT_K_NO_MEMORY;
    struct taps *rows = all_taps(env, a->mode, a->type, a->h, a->oh, &row_bytes);
    struct taps *columns = rows ? all_taps(env, a->mode, a->type, a->w, a->ow, &column_bytes) : NULL;
    if (columns) {
        status = WEFT_K_OK;
        if (is_pil(a->mode)) status = pil_resample(env, a, rows, columns);
        else torch_resample(a, rows, columns);
        env->release(env->owner, columns, column_bytes);
    }
    if (rows) env->release(env->owner, rows, row_bytes);
    return status;
}

/* Every output's gradient to the pixels it was made of, in double: `sum` holds one picture. */
static void give_back(const weft_resample_grad_args *a, int64_t n, const struct taps *rows, const struct taps *columns, double *sum) {
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
    struct taps *rows = sum ? all_taps(env, a->mode, a->type, a->h, a->oh, &row_bytes) : NULL;
    struct taps *columns = rows ? all_taps(env, a->mode, a->type, a->w, a->ow, &column_bytes) : NULL;
    if (columns) {
        status = WEFT_K_OK;
        for (int64_t n = 0; n < a->n; n++) give_back(a, n, rows, columns, sum);
        env->release(env->owner, columns, column_bytes);
    }
    if (rows) env->release(env->owner, rows, row_bytes);
    if (sum) env->release(env->owner, sum, bytes);
    return status;
}
