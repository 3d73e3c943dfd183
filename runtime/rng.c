/* Random generators: the state, raw draws, uniforms, integers, permutations, and all of it as tensors.
 *
 * MT19937 is Matsumoto and Nishimura's, "Mersenne Twister" (ACM TOMACS 8, 1998), seeded by their init_genrand. How
 * draws become numbers is PyTorch's (aten/src/ATen/core/DistributionsHelper.h and native/cpu): an integer range
 * below 2²⁸ takes one 32-bit draw modulo the range, a larger one 64 bits.
 */
#include <string.h>
#include "runtime/internal.h"
#include "runtime/rng_internal.h"

#define WIDE_RANGE ((uint64_t)1 << 28)
#define LONG_PERMUTATION (UINT32_MAX / 20)      /* from here on torch.randperm draws 64 bits an element, inside out */

weft_rng *weft_rng_new(weft_ctx *c, weft_rng_kind kind, uint64_t seed) {
    weft_rng *r = weft_host_alloc(sizeof *r);
    if (!r) {
        weft_fail(c, WEFT_E_MEMORY, "no memory for a random generator");
        return NULL;
    }
    r->kind = kind;
    weft_rng_set_grid(r, 108, 2048);
    weft_rng_seed(r, seed);
    return r;
}

void weft_rng_free(weft_rng *r) { weft_host_free(r); }

void weft_rng_seed(weft_rng *r, uint64_t seed) {
    r->seed = seed;
    r->offset = 0;
    r->has_normal = false;
    r->normal = 0;
    r->word[0] = (uint32_t)seed;
    for (uint32_t j = 1; j < RNG_MT_WORDS; j++)
        r->word[j] = 1812433253u * (r->word[j - 1] ^ r->word[j - 1] >> 30) + j;
    r->next = RNG_MT_WORDS;
}

void weft_rng_set_grid(weft_rng *r, int multiprocessors, int threads_each) {
    r->multiprocessors = multiprocessors < 1 ? 1 : multiprocessors;
    r->threads_each = threads_each < 256 ? 256 : threads_each;
}

/* ---- raw draws ------------------------------------------------------------------------------------------ */

static uint32_t twist(uint32_t far, uint32_t here, uint32_t next) {
    uint32_t y = (here & 0x80000000u) | (next & 0x7fffffffu);
    return far ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
}

static void renew(weft_rng *r) {
    uint32_t *w = r->word;
    int i = 0;
    for (; i < RNG_MT_WORDS - 397; i++) w[i] = twist(w[i + 397], w[i], w[i + 1]);
    for (; i < RNG_MT_WORDS - 1; i++) w[i] = twist(w[i + 397 - RNG_MT_WORDS], w[i], w[i + 1]);
    w[i] = twist(w[396], w[i], w[0]);
    r->next = 0;
}

uint32_t weft_rng_u32(weft_rng *r) {
    if (r->kind != WEFT_RNG_CPU) return 0;
    if (r->next >= RNG_MT_WORDS) renew(r);
    uint32_t y = r->word[r->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

uint64_t weft_rng_u64(weft_rng *r) {
    uint64_t high = weft_rng_u32(r);
    return high << 32 | weft_rng_u32(r);
}

/* ---- numbers -------------------------------------------------------------------------------------------- */

/* The kernel takes every case of both types. */
static void philox(weft_rng *r, weft_dtype type, bool uniform, void *dst, int64_t n) {
    const weft_env env = { .threads = 1 };
    const weft_philox_args a = rng_philox_reals(r, type, uniform, dst, n);
    weft_kernels_cpu()->philox(&env, &a);
}

void weft_rng_randn_f32(weft_rng *r, float *dst, int64_t n) {
    if (r->kind == WEFT_RNG_CUDA) philox(r, WEFT_F32, false, dst, n);
    else rng_mt_randn_f32(r, dst, n);
}

void weft_rng_randn_f64(weft_rng *r, double *dst, int64_t n) {
    if (r->kind == WEFT_RNG_CUDA) philox(r, WEFT_F64, false, dst, n);
    else rng_mt_randn_f64(r, dst, n);
}

void weft_rng_rand_f32(weft_rng *r, float *dst, int64_t n) {
    if (r->kind == WEFT_RNG_CUDA) philox(r, WEFT_F32, true, dst, n);
    else for (int64_t i = 0; i < n; i++) dst[i] = rng_mt_f32(r);
}

void weft_rng_rand_f64(weft_rng *r, double *dst, int64_t n) {
    if (r->kind == WEFT_RNG_CUDA) philox(r, WEFT_F64, true, dst, n);
    else for (int64_t i = 0; i < n; i++) dst[i] = rng_mt_f64(r);
}

void weft_rng_randint(weft_rng *r, int64_t *dst, int64_t n, int64_t low, int64_t high) {
    uint64_t range = low < high ? (uint64_t)high - (uint64_t)low : 1;
    if (r->kind == WEFT_RNG_CUDA) {
        rng_philox_randint(r, dst, n, low, range);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint64_t draw = range >= WIDE_RANGE ? weft_rng_u64(r) : weft_rng_u32(r);
        dst[i] = (int64_t)((uint64_t)low + draw % range);
    }
}

void weft_rng_randperm(weft_rng *r, int64_t *dst, int64_t n) {
    if (n >= LONG_PERMUTATION && r->kind == WEFT_RNG_CPU) {
        for (int64_t i = 0; i < n; i++) {
            int64_t z = (int64_t)(weft_rng_u64(r) % (uint64_t)(i + 1));
            dst[i] = i;
            dst[i] = dst[z];
            dst[z] = i;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) dst[i] = i;
    if (r->kind != WEFT_RNG_CPU) return;
    for (int64_t i = 0; i < n - 1; i++) {
        int64_t z = i + weft_rng_u32(r) % (n - i), kept = dst[i];
        dst[i] = dst[z];
        dst[z] = kept;
    }
}

/* ---- the state as bytes: "WRNG", version, kind, then little-endian fields -------------------------------- */

#define STATE_VERSION 1u
#define STATE_BYTES (4 * 3 + 8 * 2 + 4 * 4 + 8 + 4 * RNG_MT_WORDS)

static uint8_t *put32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) *p++ = (uint8_t)(v >> 8 * i);
    return p;
}
static uint8_t *put64(uint8_t *p, uint64_t v) { return put32(put32(p, (uint32_t)v), (uint32_t)(v >> 32)); }

static uint32_t get32(const uint8_t **p) {
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) v |= (uint32_t)*(*p)++ << 8 * i;
    return v;
}
static uint64_t get64(const uint8_t **p) {
    uint64_t low = get32(p);
    return low | (uint64_t)get32(p) << 32;
}

bool weft_rng_save(const weft_rng *r, void *state, size_t *size) {
    bool fits = *size >= STATE_BYTES;
    *size = STATE_BYTES;
    if (!fits) return false;
    uint8_t *p = state;
    memcpy(p, "WRNG", 4);
    p = put32(put32(p + 4, STATE_VERSION), (uint32_t)r->kind);
    p = put64(put64(p, r->seed), r->offset);
    p = put32(put32(p, (uint32_t)r->multiprocessors), (uint32_t)r->threads_each);
    p = put32(put32(p, r->next), r->has_normal);
    uint64_t normal;
    memcpy(&normal, &r->normal, 8);
    p = put64(p, normal);
    for (int i = 0; i < RNG_MT_WORDS; i++) p = put32(p, r->word[i]);
    return true;
}

bool weft_rng_load(weft_rng *r, const void *state, size_t size) {
    const uint8_t *p = state;
    if (size != STATE_BYTES || memcmp(p, "WRNG", 4)) return false;
    p += 4;
    if (get32(&p) != STATE_VERSION || get32(&p) != (uint32_t)r->kind) return false;
    weft_rng read = { .kind = r->kind };
    read.seed = get64(&p);
    read.offset = get64(&p);
    uint32_t multiprocessors = get32(&p), threads_each = get32(&p);
    read.next = get32(&p);
    uint32_t has_normal = get32(&p);
    uint64_t normal = get64(&p);
    if (multiprocessors < 1 || multiprocessors > INT32_MAX || threads_each < 256 || threads_each > INT32_MAX)
        return false;
    if (read.next > RNG_MT_WORDS || has_normal > 1) return false;
    weft_rng_set_grid(&read, (int)multiprocessors, (int)threads_each);
    read.has_normal = has_normal;
    memcpy(&read.normal, &normal, 8);
    for (int i = 0; i < RNG_MT_WORDS; i++) read.word[i] = get32(&p);
    *r = read;
    return true;
}

/* ---- tensors -------------------------------------------------------------------------------------------- */

enum what { RANDN, RAND, RANDINT, RANDPERM };

static void fill(weft_rng *r, enum what what, weft_dtype type, void *dst, int64_t n, int64_t low, int64_t high) {
    if (what == RANDPERM) weft_rng_randperm(r, dst, n);
    else if (what == RANDINT) weft_rng_randint(r, dst, n, low, high);
    else if (what == RANDN && type == WEFT_F32) weft_rng_randn_f32(r, dst, n);
    else if (what == RANDN) weft_rng_randn_f64(r, dst, n);
    else if (type == WEFT_F32) weft_rng_rand_f32(r, dst, n);
    else weft_rng_rand_f64(r, dst, n);
}

const weft_op weft_op_random = { "random", WEFT_KERNEL_philox, NULL };

/* A device's tensor is filled through memory of the host's, but for what the device draws itself. A shape-only run draws nothing. */
static weft_tensor *make(weft_ctx *c, weft_rng *r, enum what what, weft_dtype type, int rank, const int64_t *shape,
    int64_t low, int64_t high) {
    if (!r) {
        weft_fail(c, WEFT_E_ARGUMENT, "random numbers without a generator");
        return NULL;
    }
    weft_tensor *t = weft_tensor_new(c, type, rank, shape);
    if (!t || weft_is_shape_only(c) || weft_count(t) == 0) return t;
    if (r->kind == WEFT_RNG_CUDA && (what == RANDN || what == RAND) && c->kernels->types[WEFT_KERNEL_philox] >> type & 1) {
        const weft_philox_args a = rng_philox_reals(r, type, what == RAND, weft_raw(t), weft_count(t));
        weft_op_status(c, &weft_op_random, type, c->kernels->philox(weft_env_now(c), &a));
        return weft_ok(c) ? t : NULL;
    }
    void *data = weft_data(t);
    if (data) {
        fill(r, what, type, data, weft_count(t), low, high);
        return t;
    }
    size_t bytes = (size_t)weft_count(t) * weft_dtype_size(type);
    data = weft_host_alloc(bytes);
    if (!data) {
        weft_fail(c, WEFT_E_MEMORY, "no memory for %zu bytes of random numbers", bytes);
        return NULL;
    }
    fill(r, what, type, data, weft_count(t), low, high);
    weft_status status = weft_write(c, t, data, bytes);
    weft_host_free(data);
    return status == WEFT_OK ? t : NULL;
}

static bool real(weft_ctx *c, const char *what, weft_dtype type) {
    if (type == WEFT_F32 || type == WEFT_F64) return true;
    weft_fail(c, WEFT_E_TYPE, "%s: numbers are drawn as f32 or f64, not %s; cast them afterwards", what,
        weft_dtype_name(type));
    return false;
}

weft_tensor *weft_randn(weft_ctx *c, weft_rng *r, weft_dtype type, int rank, const int64_t *shape) {
    return real(c, "randn", type) ? make(c, r, RANDN, type, rank, shape, 0, 0) : NULL;
}

weft_tensor *weft_rand(weft_ctx *c, weft_rng *r, weft_dtype type, int rank, const int64_t *shape) {
    return real(c, "rand", type) ? make(c, r, RAND, type, rank, shape, 0, 0) : NULL;
}

weft_tensor *weft_randint(weft_ctx *c, weft_rng *r, int64_t low, int64_t high, int rank, const int64_t *shape) {
    if (low >= high) {
        weft_fail(
            c, WEFT_E_ARGUMENT, "randint: low (%lld) must be less than high (%lld)", (long long)low, (long long)high);
        return NULL;
    }
    return make(c, r, RANDINT, WEFT_I64, rank, shape, low, high);
}

weft_tensor *weft_randperm(weft_ctx *c, weft_rng *r, int64_t n) {
    if (n < 0 || (r && r->kind != WEFT_RNG_CPU)) {
        weft_fail(c, WEFT_E_ARGUMENT,
            n < 0 ? "randperm: the length is negative"
                  : "randperm: PyTorch's permutation on a GPU is not imitated; take a cpu generator");
        return NULL;
    }
    return make(c, r, RANDPERM, WEFT_I64, 1, &n, 0, 0);
}
