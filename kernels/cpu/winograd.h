/* 3×3 convolutions of stride 1 with fewer multiplications: see winograd.c. */
#ifndef WEFT_WINOGRAD_H
#define WEFT_WINOGRAD_H

#include "kernels/cpu/simd.h"

/* Outputs along a tile's side that are worth it: 4 or 2; 0: the direct way is faster, or nothing else is possible. */
int ISA_NAME(weft_winograd_choice)(const weft_env *env, const weft_conv2d_args *a);

/* The convolution by tiles of m×m outputs. WEFT_K_NO_MEMORY, with nothing done, when not even its least scratch can be had. */
int ISA_NAME(weft_winograd)(const weft_env *env, const weft_conv2d_args *a, int m);

/* The same for the gradient by the weights; the sums over tiles replace those over windows. */
int ISA_NAME(weft_winograd_grad_choice)(const weft_env *env, const weft_conv2d_grad_weight_args *a);
int ISA_NAME(weft_winograd_grad)(const weft_env *env, const weft_conv2d_grad_weight_args *a, int m);

#endif
