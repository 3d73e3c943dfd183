/* What the program and weft_cuda.so must agree on before one calls the other. */
#ifndef WEFT_CUDA_LIBRARY_H
#define WEFT_CUDA_LIBRARY_H

#include "kernels/kernels.h"

/* A number that two builds have in common only where their tables and the kernels' arguments are laid out alike. */
enum {
    WEFT_CUDA_ABI = 1000000 + 64 * sizeof(weft_kernels) + sizeof(weft_env)
#define K(name) + (2 * WEFT_KERNEL_##name + 1) * sizeof(weft_##name##_args)
        WEFT_KERNEL_LIST(K)
#undef K
};

/* weft_cuda.so has one of these, called weft_cuda_library. The two first members never move. */
typedef struct weft_cuda_contents {
    uint64_t abi;
    const char *version;                        /* of Weft, "0.1.0" */
    const weft_kernels *(*table)(void);
} weft_cuda_contents;

#endif
