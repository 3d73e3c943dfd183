/* The emulated library's table: CUDA's own, and the naive kernels where it has none yet, run on the device's memory. So
 * whole models run on the emulated device. Kernel tests take CUDA's own table alone.
 */
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

template <typename A> static int run(int (*kernel)(const weft_env *, const A *), const weft_env *env, const A *a) {
    weft_env host = *env;
    host.alloc = scratch;
    host.release = release;
    host.stream = nullptr;
    return fake_run_now(cuda_queue_of(env)->stream, [&] { return kernel(&host, a); });
}

#define K(name) \
    static int missing_##name(const weft_env *env, const weft_##name##_args *a) { \
        return run(weft_kernels_reference()->name, env, a); \
    }
WEFT_KERNEL_LIST(K)
#undef K

static const weft_kernels *table() {
    static weft_kernels all;
    if (all.name) return &all;
    const weft_kernels *naive = weft_kernels_reference();
    all = *weft_cuda_own.table();
    if (!all.types[WEFT_KERNEL_pack]) all.pack_bytes = naive->pack_bytes;
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
