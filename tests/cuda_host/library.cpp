/* What the emulated library gives out: the table under the name that the program looks for. The sources of kernels/cuda
 * give it another one here, so that a test may be linked with them and open the library too.
 */
#include "kernels/cuda/library.h"

extern "C" {
extern const weft_cuda_contents weft_cuda_own;
extern const weft_cuda_contents weft_cuda_library;
}

static const weft_kernels *table() { return weft_cuda_own.table(); }

extern "C" __attribute__((visibility("default")))
const weft_cuda_contents weft_cuda_library = { WEFT_CUDA_ABI, WEFT_VERSION, table };
