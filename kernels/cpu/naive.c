/* The gradients that have no fast kernel yet: the reference's, for the types that the table names. */
#include "kernels/cpu/table.h"

#define NAIVE_KERNELS(K) \
    K(group_norm_grad) K(layer_norm_grad) K(softmax_grad) K(unary_grad) K(affine_grad) \
    K(geglu_grad) K(reduce_grad) K(resample_grad) K(pad_grad) K(embedding_grad)

#define K(name) \
    int ISA_NAME(name)(const weft_env *env, const weft_##name##_args *a) { \
        return a->type == WEFT_F32 ? weft_kernels_reference()->name(env, a) : WEFT_K_NO_TYPE; \
    }
NAIVE_KERNELS(K)
#undef K
