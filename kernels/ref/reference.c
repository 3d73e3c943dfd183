/* The naive back end's table: one function for each kernel, in its plainest form, in double, on one thread.
 *
 * It is the oracle of the kernel tests and computes what is done in f64. See kernels/kernels.h for what each kernel means.
 */
#include <stdlib.h>
#include "kernels/ref/ref.h"

#define F32_F64 (REF_BIT(WEFT_F32) | REF_BIT(WEFT_F64))

static const char *describe(void) { return "naive, in double"; }

static void *mem_alloc(void *stream, size_t bytes) {
    (void)stream;
    if (bytes > SIZE_MAX - 63) return NULL;
    return aligned_alloc(64, bytes ? (bytes + 63) / 64 * 64 : 64);
}

static void mem_free(void *stream, void *p, size_t bytes) {
    (void)stream;
    (void)bytes;
    free(p);
}

static int mem_copy(const weft_env *env, void *dst, const void *src, size_t bytes) {
    (void)env;
    if (bytes) memcpy(dst, src, bytes);
    return WEFT_K_OK;
}

static const weft_kernels reference = {
    .name = "reference", .describe = describe,
    .mem_alloc = mem_alloc, .mem_free = mem_free, .mem_copy = mem_copy,
    .pack_bytes = weft_ref_pack_bytes,
#define K(name) .name = weft_ref_##name,
    WEFT_KERNEL_LIST(K)
#undef K
    .types = {
        REF_FLOATS, REF_FLOATS, REF_FLOATS, REF_FLOATS, REF_FLOATS, REF_FLOATS,         /* pack … attention */
        REF_FLOATS, REF_FLOATS, REF_FLOATS,                                             /* norms, softmax */
        REF_FLOATS, REF_FLOATS, REF_FLOATS, REF_FLOATS, REF_FLOATS, REF_ALL, REF_ALL,
        REF_FLOATS,                                                                     /* unary … reduce */
        REF_FLOATS | REF_BIT(WEFT_U8), REF_ALL, REF_FLOATS, REF_FLOATS, F32_F64,        /* resample … philox */
#define K(name) REF_FLOATS,
        WEFT_GRADIENT_KERNELS(K)
#undef K
#define K(name) F32_F64,
        WEFT_UPDATE_KERNELS(K)
#undef K
    },
};
_Static_assert(WEFT_KERNEL_philox == 21, "a new forward kernel needs its types above, in the order of the list");

const weft_kernels *weft_kernels_reference(void) { return &reference; }
