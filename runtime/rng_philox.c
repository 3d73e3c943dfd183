/* Random numbers of torch.Generator("cuda"): Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1,
 * 2, 3", SC 2011) as PyTorch lays it out over a grid of threads of 256 a block.
 *
 * Thread t of G draws blocks of four 32-bit numbers: key = seed, counter = (offset/4 + number of the block, t), both
 * 64 bits wide. A block gives `unroll` elements (4, or 2 of 64 bits); component i of a thread's b-th block is
 * element t + G·(unroll·b + i). After a call the offset has grown by 4 for each block of a thread. G is the element
 * count rounded up to 256, or the GPU's full load if that is less.
 *
 * Uniforms and integers equal the GPU's to the bit. Normals do not quite: for float the GPU takes sine and cosine
 * from a fast approximation (absolute error up to about 4e-7); here they are exact to rounding.
 */
#include <math.h>
#include "runtime/rng_internal.h"

#define TWO_PI_2POW_M32 (2.3283064e-10f * 6.2831855f)       /* float product, as cuRAND has it */

void weft_philox(uint64_t seed, uint64_t counter, uint64_t sequence, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)sequence,
             c3 = (uint32_t)(sequence >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Threads that draw for n > 0 elements. */
static int64_t grid_threads(const weft_rng *r, int64_t n) {
    int64_t most = (int64_t)r->multiprocessors * (r->threads_each / 256), need = (n - 1) / 256 + 1;
    return 256 * (need < most ? need : most);
}

/* Where the next number of four words x goes to: dst[element] for each component. */
typedef void emit_fn(const uint32_t x[4], void *dst, const int64_t *element, int count, const void *how);

static void draw(weft_rng *r, int64_t n, int unroll, emit_fn *emit, void *dst, const void *how) {
    if (n <= 0) return;
    int64_t threads = grid_threads(r, n), blocks = (n - 1) / (threads * unroll) + 1;
    for (int64_t b = 0; b < blocks; b++) {
        for (int64_t t = 0; t < threads; t++) {
            int64_t element[4];
            int count = 0;
            for (int i = 0; i < unroll; i++) {
                int64_t at = t + threads * (unroll * b + i);
                if (at < n) element[count++] = at;
            }
            if (!count) break;
            uint32_t x[4];
            weft_philox(r->seed, r->offset / 4 + (uint64_t)b, (uint64_t)t, x);
            emit(x, dst, element, count, how);
        }
    }
    r->offset += 4 * (uint64_t)blocks;
}

static void box_muller_f32(uint32_t x, uint32_t y, float out[2]) {
    float u = fmaf((float)x, 0x1p-32f, 0x1p-33f), v = fmaf((float)y, TWO_PI_2POW_M32, TWO_PI_2POW_M32 / 2);
    float radius = sqrtf(-2 * logf(u));
    out[0] = radius * sinf(v);
    out[1] = radius * cosf(v);
}

static void emit_randn_f32(const uint32_t x[4], void *dst, const int64_t *element, int count, const void *how) {
    (void)how;
    float z[4];
    box_muller_f32(x[0], x[1], z);
    if (count > 2) box_muller_f32(x[2], x[3], z + 2);
    for (int i = 0; i < count; i++) ((float *)dst)[element[i]] = z[i];
}

/* 53 bits of two words, as cuRAND mixes them: the number is (z + ½)·2⁻⁵³. */
static uint64_t mix53(uint32_t x, uint32_t y) { return (uint64_t)x ^ (uint64_t)y << 21; }

static void emit_randn_f64(const uint32_t x[4], void *dst, const int64_t *element, int count, const void *how) {
    (void)how;
    double u = fma((double)mix53(x[0], x[1]), 0x1p-53, 0x1p-54), v = fma((double)mix53(x[2], x[3]), 0x1p-52, 0x1p-53);
    double radius = sqrt(-2 * log(u)), angle = 3.14159265358979323846 * v;
    double z[2] = { radius * sin(angle), radius * cos(angle) };
    for (int i = 0; i < count; i++) ((double *)dst)[element[i]] = z[i];
}

/* cuRAND gives (0, 1]; PyTorch turns 1 into 0. */
static void emit_rand_f32(const uint32_t x[4], void *dst, const int64_t *element, int count, const void *how) {
    (void)how;
    for (int i = 0; i < count; i++) {
        float u = fmaf((float)x[i], 0x1p-32f, 0x1p-33f);
        ((float *)dst)[element[i]] = u == 1 ? 0 : u;
    }
}

static void emit_rand_f64(const uint32_t x[4], void *dst, const int64_t *element, int count, const void *how) {
    (void)how;
    for (int i = 0; i < count; i++) {
        double u = fma((double)mix53(x[2 * i], x[2 * i + 1]), 0x1p-53, 0x1p-54);
        ((double *)dst)[element[i]] = u == 1 ? 0 : u;
    }
}

struct range { uint64_t low, size; };

static void emit_randint_32(const uint32_t x[4], void *dst, const int64_t *element, int count, const void *how) {
    const struct range *range = how;
    for (int i = 0; i < count; i++) ((int64_t *)dst)[element[i]] = (int64_t)(range->low + x[i] % range->size);
}

static void emit_randint_64(const uint32_t x[4], void *dst, const int64_t *element, int count, const void *how) {
    const struct range *range = how;
    for (int i = 0; i < count; i++) {
        uint64_t v = (uint64_t)x[2 * i] << 32 | x[2 * i + 1];
        ((int64_t *)dst)[element[i]] = (int64_t)(range->low + v % range->size);
    }
}

void rng_philox_randn_f32(weft_rng *r, float *dst, int64_t n) { draw(r, n, 4, emit_randn_f32, dst, NULL); }
void rng_philox_randn_f64(weft_rng *r, double *dst, int64_t n) { draw(r, n, 2, emit_randn_f64, dst, NULL); }
void rng_philox_rand_f32(weft_rng *r, float *dst, int64_t n) { draw(r, n, 4, emit_rand_f32, dst, NULL); }
void rng_philox_rand_f64(weft_rng *r, double *dst, int64_t n) { draw(r, n, 2, emit_rand_f64, dst, NULL); }

void rng_philox_randint(weft_rng *r, int64_t *dst, int64_t n, int64_t low, uint64_t size) {
    struct range range = { (uint64_t)low, size };
    bool wide = size >= (uint64_t)1 << 28;
    draw(r, n, wide ? 2 : 4, wide ? emit_randint_64 : emit_randint_32, dst, &range);
}
