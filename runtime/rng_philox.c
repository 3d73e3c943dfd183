/* Random numbers of torch.Generator("cuda"): Philox4x32-10 as PyTorch lays it out over a grid of threads of 256 a block
 * (kernels/philox.h). Integers are made here, reals by the kernel `philox`.
 *
 * G, the grid's threads, is the element count rounded up to 256, or the GPU's full load if that is less. After a call the offset has
 * grown by 4 for each block of a thread.
 *
 * Uniforms and integers equal the GPU's to the bit, and so do normals that a GPU makes. Those that the CPU makes do not quite: for
 * float the GPU takes sine and cosine from a fast approximation (absolute error up to about 4e-7); here they are exact to rounding.
 */
#include "kernels/philox.h"
#include "runtime/rng_internal.h"

void weft_philox(uint64_t seed, uint64_t counter, uint64_t sequence, uint32_t out[4]) {
    philox_words(seed, counter, sequence, out);
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

weft_philox_args rng_philox_reals(weft_rng *r, weft_dtype type, bool uniform, void *dst, int64_t n) {
    const int64_t threads = n > 0 ? grid_threads(r, n) : 1, each = type == WEFT_F64 ? 2 : 4;
    const weft_philox_args a = { .type = type, .uniform = uniform, .n = n, .threads = threads, .seed = r->seed, .counter = r->offset / 4,
                                 .y = dst };
    if (n > 0) r->offset += 4 * (uint64_t)((n - 1) / (each * threads) + 1);
    return a;
}

void rng_philox_randint(weft_rng *r, int64_t *dst, int64_t n, int64_t low, uint64_t size) {
    struct range range = { (uint64_t)low, size };
    bool wide = size >= (uint64_t)1 << 28;
    draw(r, n, wide ? 2 : 4, wide ? emit_randint_64 : emit_randint_32, dst, &range);
}
