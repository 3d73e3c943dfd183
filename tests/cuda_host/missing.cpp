/* The emulated library's table: CUDA's own, and where it has no kernel yet the CPU's for f32 and the naive one for other types, run on
 * the device's memory. So whole models run on the emulated device. Kernel tests take CUDA's own table alone.
 */
#include <cstdio>
#include <cstdlib>
#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "tests/cuda_host/cuda_runtime.h"

extern "C" {
extern const weft_cuda_contents weft_cuda_own;
extern const weft_cuda_contents weft_cuda_library;
}

static void *scratch(void *, size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64 + 64); }
static void release(void *, void *p, size_t) { free(p); }

/* Every argument struct begins with its type (of the activations, the weights, the source). */
static const weft_kernels *host_for(weft_dtype type) {
    return type == WEFT_F32 ? weft_kernels_cpu() : weft_kernels_reference();
}

/* In its turn; the runtime has checked the arguments, so what a kernel refuses then is a failure of the device. */
template <typename A>
static int run(int (*kernel)(const weft_env *, const A *), const weft_env *env, const A *a) {
    const cudaStream_t stream = cuda_queue_of(env)->stream;
    const A own = *a;
    weft_env host = *env;
    host.alloc = scratch;
    host.release = release;
    host.stream = nullptr;
    host.cancel = nullptr;
    return cuda_asked(cuda_queue_of(env), fake_enqueue(stream, [=] {
        const int status = kernel(&host, &own);
        if (status == WEFT_K_OK) return;
        fprintf(stderr, "emulated CUDA: a kernel of the host answered %d\n", status);
        fake_fail(stream);
    }), "a kernel of the host");
}

#define K(name) \
    static int missing_##name(const weft_env *env, const weft_##name##_args *a) { \
        return run(host_for(*(const weft_dtype *)a)->name, env, a); \
    }
WEFT_KERNEL_LIST(K)
#undef K

static size_t missing_pack_bytes(const weft_pack_args *a) { return host_for(a->type)->pack_bytes(a); }

static const weft_kernels *table() {
    static weft_kernels all;
    if (all.name) return &all;
    const weft_kernels *naive = weft_kernels_reference();
    all = *weft_cuda_own.table();
    if (!all.types[WEFT_KERNEL_pack]) all.pack_bytes = missing_pack_bytes;
#define K(id) \
    if (!all.types[WEFT_KERNEL_##id]) { \
        all.id = missing_##id; \
        all.types[WEFT_KERNEL_##id] = naive->types[WEFT_KERNEL_##id]; \
    }
    WEFT_KERNEL_LIST(K)
#undef K
    return &all;
}

extern "C" __attribute__((visibility("default")))
const weft_cuda_contents weft_cuda_library = { WEFT_CUDA_ABI, WEFT_VERSION, table };
