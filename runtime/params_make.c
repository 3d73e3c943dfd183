/* Fresh weights. Element i of the tensor `name` comes from z = splitmix64(key + (⌊i/2⌋ + 1)·0x9E3779B97F4A7C15), its
 * low half for even i and its high half for odd; key = splitmix64(seed + fnv1a64(name)). So a value depends on seed,
 * name and place alone, and any number of threads makes the same bytes. splitmix64: Steele, Lea, Flood 2014. FNV-1a:
 * Fowler, Noll, Vo.
 */
#include <math.h>
#include "runtime/params_internal.h"
#include "runtime/rng_internal.h"

#define GOLDEN 0x9e3779b97f4a7c15u
#define CHUNK 65536         /* elements a thread makes at a time; even */

static uint64_t splitmix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t name_key(uint64_t seed, const char *name) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return splitmix(seed + h);
}

/* 2k + 1 − 2²³ for k of 23 bits: symmetric about 0, and exact in float. */
static float centred(uint32_t half) { return (float)((int32_t)(half >> 8 | 1) - (1 << 23)); }

static void fill_uniform(float *dst, int64_t from, int64_t to, uint64_t key, float bound) {
    float scale = bound * 0x1p-23f;
    int64_t i = from;
    for (; i + 2 <= to; i += 2) {
        uint64_t z = splitmix(key + ((uint64_t)i / 2 + 1) * GOLDEN);
        dst[i] = centred((uint32_t)z) * scale;
        dst[i + 1] = centred((uint32_t)(z >> 32)) * scale;
    }
    if (i < to) dst[i] = centred((uint32_t)splitmix(key + ((uint64_t)i / 2 + 1) * GOLDEN)) * scale;
}

static void fill_normal(float *dst, int64_t from, int64_t to, uint64_t key, float std) {
    for (int64_t i = from; i < to; i += 2) {
        uint64_t z = splitmix(key + ((uint64_t)i / 2 + 1) * GOLDEN);
        float a, b;
        rng_box_muller((float)(((uint32_t)z >> 8) + 1) * 0x1p-24f, (float)(uint32_t)(z >> 40) * 0x1p-24f, &a, &b);
        dst[i] = a * std;
        if (i + 1 < to) dst[i + 1] = b * std;
    }
}

static void fill(float *dst, int64_t n, uint64_t key, weft_init init, int threads) {
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
    float size = (float)(init.kind == WEFT_INIT_NORMAL ? init.std : init.fan_in > 0 ? 1 / sqrt(init.fan_in) : 0);
#pragma omp parallel for schedule(static) num_threads(threads) if (chunks > 1)
    for (int64_t i = 0; i < chunks; i++) {
        int64_t from = i * CHUNK, to = from + CHUNK < n ? from + CHUNK : n;
        if (init.kind == WEFT_INIT_NORMAL) fill_normal(dst, from, to, key, size);
        else fill_uniform(dst, from, to, key, size);
    }
}

weft_tensor *param_fill(
    weft_ctx *c, weft_dtype type, uint64_t seed, const char *name, weft_init init, int rank, const int64_t *shape) {
    if (init.kind == WEFT_INIT_ZEROS || init.kind == WEFT_INIT_ONES)
        return weft_full(c, type, rank, shape, init.kind == WEFT_INIT_ONES);
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor *t = weft_tensor_new(c, WEFT_F32, rank, shape);
    int64_t n = weft_count(t);
    size_t bytes = (size_t)n * sizeof(float);
    float *values = t ? weft_data(t) : NULL;
    if (values) {
        fill(values, n, name_key(seed, name), init, weft_threads(c));
    } else if (t && n) {        /* a device's: through the host */
        values = weft_host_alloc(bytes);
        if (values) fill(values, n, name_key(seed, name), init, weft_threads(c));
        else weft_fail(c, WEFT_E_MEMORY, "no memory for %zu bytes of weights", bytes);
        if (values && weft_write(c, t, values, bytes)) t = NULL;
        weft_host_free(values);
    }
    return weft_scope_end(c, s, weft_cast(c, t, type));
}
