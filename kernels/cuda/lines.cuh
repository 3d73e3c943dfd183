/* Kernels over `count` lines of `length` items each: a thread goes over items of lines, so that an item's line costs no
 * division. Blocks are as wide as the lines, up to BLOCK, and have as many lines as fit.
 */
#ifndef WEFT_CUDA_LINES_CUH
#define WEFT_CUDA_LINES_CUH

#include "kernels/cuda/common.cuh"

typedef struct lines { dim3 grid, block; } lines;

static inline lines lines_of(int64_t count, int64_t length) {
    unsigned width = 1;
    while (width < BLOCK && width < length) width *= 2;
    const unsigned height = BLOCK / width;
    return lines{ dim3(grid_of(div_up(length, width)), (unsigned)least(div_up(count, height), 65535)),
                  dim3(width, height) };
}

/* The loops' first items and steps, inside a kernel. */
static __device__ __forceinline__ int64_t line_first() { return (int64_t)blockIdx.y * blockDim.y + threadIdx.y; }
static __device__ __forceinline__ int64_t line_step() { return (int64_t)gridDim.y * blockDim.y; }

/* Items of a line are counted in 32 bits, which divide faster; a length that they cannot hold is refused. */
static inline bool line_fits(int64_t length) { return length <= INT32_MAX; }

/* The largest of 16, 8, 4, 2 and 1 bytes that all of a pixel, and both addresses, are multiples of: what copies move at
 * once. */
static inline int unit_of(size_t pixel, const void *x, const void *y) {
    int unit = 16;
    while (pixel % unit || (size_t)x % unit || (size_t)y % unit) unit /= 2;
    return unit;
}

/* Calls DO(U) with a type of unit_of()'s size. */
#define EACH_UNIT(unit, DO) \
    switch (unit) { \
    case 16: DO(uint4); break; \
    case 8: DO(uint64_t); break; \
    case 4: DO(uint32_t); break; \
    case 2: DO(uint16_t); break; \
    default: DO(uint8_t); break; \
    }

#endif
