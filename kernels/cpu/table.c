/* The table of one instruction set's kernels; see table.h. Memory and names are cpu.c's. */
#include "kernels/cpu/table.h"

#define BIT(t) (1u << (t))
#define F32 BIT(WEFT_F32)
#define WEIGHTS (F32 | BIT(WEFT_F16) | BIT(WEFT_BF16))
#define ALL ((1u << WEFT_DTYPE_COUNT) - 1)

const weft_kernels ISA_NAME(weft_cpu_table) = {
    .pack_bytes = ISA_NAME(pack_bytes),
#define K(name) .name = ISA_NAME(name),
    WEFT_KERNEL_LIST(K)
#undef K
    .types = {
        WEIGHTS, WEIGHTS, F32, F32, F32, F32,                   /* pack … attention */
        F32, F32, F32,                                          /* norms, softmax */
        F32, F32, F32, F32, F32, ALL, ALL, F32,                 /* unary … reduce */
        F32 | BIT(WEFT_U8), ALL, ALL, F32, F32,                 /* resample … philox */
#define K(name) F32,
        WEFT_GRADIENT_KERNELS(K)
#undef K
#define K(name) F32,
        WEFT_UPDATE_KERNELS(K)
#undef K
    },
};
_Static_assert(WEFT_KERNEL_philox == 21, "a new forward kernel needs its types above, in the order of the list");
