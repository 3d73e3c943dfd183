/* What the runtime's tests share: contexts, tensors of known numbers, and their values as doubles. */
#ifndef WEFT_TEST_TENSORS_H
#define WEFT_TEST_TENSORS_H

#include "tests/host_data.h"

__attribute__((unused)) static weft_ctx *open_device(const char *device) {
    return weft_ctx_new(&(weft_options){ .device = test_device(device), .threads = 1 });
}

/* Ends a context and says whether all that it lent came back. */
#define CLOSE(c) do { \
        weft_scope_flush(c); \
        CHECK_EQ(weft_memory_live(c), 0); \
        weft_ctx_free(c); \
    } while (0)

/* An error of this code whose message contains the text; it is cleared. */
#define CHECK_ERROR(c, code, text) do { \
        CHECK_STR(weft_status_name(weft_error(c)), weft_status_name(code)); \
        CHECK_HAS(weft_message(c), text); \
        weft_clear(c); \
    } while (0)

/* Numbers in −1…1 that look random and depend on the seed alone (a 64-bit linear congruence, upper bits). */
__attribute__((unused)) static double noise(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(*state >> 11) * 0x1p-52 - 1;
}

/* Room for t's values on the host, and t with them: they get there on a device too. NULL without a tensor. */
static double *host_values(const weft_tensor *t) { return t && t->storage ? malloc((size_t)weft_count(t) * sizeof(double) + 1) : NULL; }
static weft_tensor *with_values(weft_ctx *c, weft_tensor *t, double *values) {
    if (values && weft_write(c, t, values, (size_t)weft_count(t) * sizeof *values)) t = NULL;
    free(values);
    return t;
}

/* A tensor of such numbers, each one that f32 holds. */
__attribute__((unused)) static weft_tensor *noisy(weft_ctx *c, weft_dtype type, uint64_t seed, int rank,
                                                  const int64_t *shape) {
    weft_tensor *t = weft_tensor_new(c, WEFT_F64, rank, shape);
    double *p = host_values(t);
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int64_t i = 0; p && i < weft_count(t); i++) p[i] = (float)noise(&state);
    return weft_cast(c, with_values(c, t, p), type);
}

/* A tensor of 0, 1, 2, … */
__attribute__((unused)) static weft_tensor *counting(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape) {
    weft_tensor *t = weft_tensor_new(c, WEFT_F64, rank, shape);
    double *p = host_values(t);
    for (int64_t i = 0; p && i < weft_count(t); i++) p[i] = (double)i;
    return weft_cast(c, with_values(c, t, p), type);
}

#define SCALAR 0, (const int64_t *)NULL         /* the shape of a single value */

/* A tensor of these values. */
#define TENSOR(c, type, shape, ...) tensor_of((c), (type), shape, (const double[]){ __VA_ARGS__ })
__attribute__((unused)) static weft_tensor *tensor_of(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape,
                                                      const double *values) {
    return weft_cast(c, weft_tensor_from(c, WEFT_F64, rank, shape, values), type);
}

/* All of t's values in dense order, malloc'd; NULL without a tensor. */
__attribute__((unused)) static double *values_of(weft_ctx *c, weft_tensor *t) {
    weft_scope s = weft_scope_named(c, "values");
    weft_tensor *f64 = weft_cast(c, t, WEFT_F64);
    size_t n = (size_t)weft_count(t);
    double *out = f64 ? malloc(n * sizeof *out + 1) : NULL;
    if (out && weft_read(c, f64, out, n * sizeof *out) != WEFT_OK) {
        free(out);
        out = NULL;
    }
    weft_scope_end(c, s, NULL);
    return out;
}

/* t's shape and values are these, each within the tolerance. */
#define CHECK_TENSOR(c, t, shape, tolerance, ...) \
    check_tensor(__LINE__, (c), (t), shape, (tolerance), (const double[]){ __VA_ARGS__ })
__attribute__((unused)) static void check_tensor(int line, weft_ctx *c, weft_tensor *t, int rank, const int64_t *shape,
                                                 double tolerance, const double *want) {
    char text[256];
    bool same = t && weft_rank(t) == rank;
    for (int i = 0; same && i < rank; i++) same = weft_dim(t, i) == shape[i];
    double *got = values_of(c, t);
    if (!same || !got)
        TEST_FAIL("line %d: the tensor is %s; %s", line, weft_describe(t, text, sizeof text), weft_message(c));
    else
        for (int64_t i = 0; i < weft_count(t); i++)
            if (!(fabs(got[i] - want[i]) <= tolerance) && !(isnan(got[i]) && isnan(want[i])) && got[i] != want[i])
                TEST_FAIL("line %d: element %" PRId64 " is %.9g, expected %.9g", line, i, got[i], want[i]);
    free(got);
}

#endif
