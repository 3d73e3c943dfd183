/* The table of weft_cuda.so, and the one name that it gives out. */
#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"

#define BIT(t) (1u << (t))
#define F32 BIT(WEFT_F32)
#define FLOATS (F32 | BIT(WEFT_F16) | BIT(WEFT_BF16))
#define ALL (BIT(WEFT_DTYPE_COUNT) - 1)

static const weft_kernels table = {
    .name = "cuda", .describe = cuda_describe, .last_error = cuda_last_error,
    .open = cuda_open, .close = cuda_close,
    .mem_alloc = cuda_mem_alloc, .mem_free = cuda_mem_free, .mem_copy = cuda_mem_copy,
    .wait = cuda_wait, .pace = cuda_pace, .record_begin = cuda_record_begin, .record_end = cuda_record_end,
    .replay = cuda_replay, .record_free = cuda_record_free, .mem_info = cuda_mem_info,
    .pack_bytes = weft_cuda_pack_bytes,
#define K(name) .name = weft_cuda_##name,
    WEFT_KERNEL_LIST(K)
#undef K
    .types = {
        [WEFT_KERNEL_pack] = FLOATS, [WEFT_KERNEL_unpack] = FLOATS,
        [WEFT_KERNEL_gemm] = FLOATS, [WEFT_KERNEL_matmul] = FLOATS,
        [WEFT_KERNEL_conv2d] = FLOATS,
        [WEFT_KERNEL_attention] = FLOATS,
        [WEFT_KERNEL_group_norm] = FLOATS, [WEFT_KERNEL_layer_norm] = FLOATS,
        [WEFT_KERNEL_softmax] = FLOATS,
        [WEFT_KERNEL_unary] = FLOATS, [WEFT_KERNEL_affine] = FLOATS, [WEFT_KERNEL_binary] = FLOATS,
        [WEFT_KERNEL_axpby] = FLOATS, [WEFT_KERNEL_geglu] = FLOATS, [WEFT_KERNEL_copy] = ALL, [WEFT_KERNEL_fill] = ALL,
        [WEFT_KERNEL_reduce] = FLOATS,
        [WEFT_KERNEL_resample] = FLOATS | BIT(WEFT_U8),
        [WEFT_KERNEL_pad] = ALL,
        [WEFT_KERNEL_embedding] = FLOATS,
        [WEFT_KERNEL_timestep] = FLOATS,
        [WEFT_KERNEL_philox] = F32,
        [WEFT_KERNEL_conv2d_grad_input] = FLOATS, [WEFT_KERNEL_conv2d_grad_weight] = FLOATS,
        [WEFT_KERNEL_attention_grad] = FLOATS,
        [WEFT_KERNEL_group_norm_grad] = FLOATS, [WEFT_KERNEL_layer_norm_grad] = FLOATS,
        [WEFT_KERNEL_softmax_grad] = FLOATS,
        [WEFT_KERNEL_unary_grad] = FLOATS, [WEFT_KERNEL_affine_grad] = FLOATS, [WEFT_KERNEL_geglu_grad] = FLOATS,
        [WEFT_KERNEL_reduce_grad] = FLOATS,
        [WEFT_KERNEL_resample_grad] = FLOATS,
        [WEFT_KERNEL_pad_grad] = FLOATS,
        [WEFT_KERNEL_embedding_grad] = FLOATS,
        [WEFT_KERNEL_sum_squares] = F32,
        [WEFT_KERNEL_lerp] = FLOATS,
        [WEFT_KERNEL_adam] = F32, [WEFT_KERNEL_sgd] = F32, [WEFT_KERNEL_lion] = F32,
        [WEFT_KERNEL_adafactor_moments] = F32, [WEFT_KERNEL_adafactor_size] = F32,
        [WEFT_KERNEL_adafactor_apply] = F32,
    },
};

static const weft_kernels *give(void) { return &table; }

__attribute__((visibility("default")))
const weft_cuda_contents weft_cuda_library = { WEFT_CUDA_ABI, WEFT_VERSION, give };
