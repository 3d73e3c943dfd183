/* The gradient of a convolution by its input: with the weights' taps in reverse order and the channels' parts exchanged it is a
 * convolution of stride 1 over dy, in which, where the forward's stride was s, dy's pixels lie s apart with zeros between.
 */
#include "kernels/cpu/threads.h"

/* dy with zeros between its pixels: ((oh − 1)·s + 1, (ow − 1)·s + 1) of them. */
static void insert_zeros(const weft_env *env, const weft_conv2d_grad_input_args *a, float *to) {
    const int64_t s = a->stride, h = (a->oh - 1) * s + 1, w = (a->ow - 1) * s + 1;
#pragma omp parallel for num_threads(threads_for(env, (double)a->n * (double)h * (double)w * (double)a->o))
    for (int64_t line = 0; line < a->n * h; line++) {
        float *row = to + line * w * a->o;
        memset(row, 0, (size_t)(w * a->o) * sizeof(float));
        if (line % h % s) continue;
        const float *from = (const float *)a->dy + (line / h * a->oh + line % h / s) * a->ow * a->o;
        for (int64_t x = 0; x < a->ow; x++) memcpy(row + x * s * a->o, from + x * a->o, (size_t)a->o * sizeof(float));
    }
}

int ISA_NAME(conv2d_grad_input)(const weft_env *env, const weft_conv2d_grad_input_args *a) {
    if (a->type != WEFT_F32 || (a->wtype != WEFT_F32 && a->wtype != WEFT_F16 && a->wtype != WEFT_BF16)) return WEFT_K_NO_TYPE;
    if (a->stride < 1 || a->kh < 1 || a->kw < 1) return WEFT_K_NO_CASE;
    if (a->n <= 0 || a->h <= 0 || a->w <= 0 || a->c <= 0) return WEFT_K_OK;
    weft_conv2d_args conv = {
        .type = a->type, .wtype = a->wtype, .n = a->n, .h = a->oh, .w = a->ow, .c = a->o, .o = a->c, .oh = a->h, .ow = a->w,
        .kh = a->kh, .kw = a->kw, .stride = 1, .pad_top = a->kh - 1 - a->pad_top, .pad_left = a->kw - 1 - a->pad_left,
        .x = a->dy, .weight = a->weight, .y = a->dx };
    if (a->stride == 1 || a->oh * a->ow * a->o == 0) return ISA_NAME(conv2d)(env, &conv);
    conv.h = (a->oh - 1) * a->stride + 1;
    conv.w = (a->ow - 1) * a->stride + 1;
    const size_t bytes = (size_t)(a->n * conv.h * conv.w * a->o) * sizeof(float);
    float *spread = env->alloc(env->owner, bytes);
    if (!spread) return WEFT_K_NO_MEMORY;
    insert_zeros(env, a, spread);
    conv.x = spread;
    int status = ISA_NAME(conv2d)(env, &conv);
    env->release(env->owner, spread, bytes);
    return status;
}
