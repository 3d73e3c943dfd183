/* The kernels of one instruction set, and the table that cpu.c takes them from.
 *
 * Every kernels/cpu/ file is compiled once for each set and defines its kernels as ISA_NAME(gemm) and so on; this declares
 * them all. Each takes f32 activations (copy, fill, pad and the like: the types in table.c); f64 never arrives here.
 */
#ifndef WEFT_CPU_TABLE_H
#define WEFT_CPU_TABLE_H

#include "kernels/cpu/simd.h"

#define K(name) int ISA_NAME(name)(const weft_env *env, const weft_##name##_args *a);
WEFT_KERNEL_LIST(K)
#undef K
size_t ISA_NAME(pack_bytes)(const weft_pack_args *a);

extern const weft_kernels ISA_NAME(weft_cpu_table);

#endif
