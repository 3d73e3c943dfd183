/* Convolutions. Directly they are a product whose rows are found through pointers (gemm.h): for each filter position a pointer
 * to the input pixel under it, or to a row of zeros outside the picture. winograd.c takes the 3×3 ones where it is faster. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/table.h"
#include "kernels/cpu/winograd.h"

struct windows {
    const weft_conv2d_args *a;
    const float *zeros;
};

static void window_rows(const void *how, int64_t first, int64_t count, const float **out) {
    const struct windows *s = how;
    const weft_conv2d_args *a = s->a;
    const float *x = a->x;
    int64_t ox = first % a->ow, oy = first / a->ow % a->oh, image = first / a->ow / a->oh;
    for (int64_t i = 0; i < count; i++) {
        const int64_t top = oy * a->stride - a->pad_top, left = ox * a->stride - a->pad_left;
        for (int ky = 0, tap = 0; ky < a->kh; ky++)
            for (int kx = 0; kx < a->kw; kx++, tap++) {
                const int64_t y = top + ky, c = left + kx;
                const bool inside = y >= 0 && y < a->h && c >= 0 && c < a->w;
                out[tap * count + i] = inside ? x + ((image * a->h + y) * a->w + c) * a->c : s->zeros;
            }
        if (++ox < a->ow) continue;
        ox = 0;
        if (++oy < a->oh) continue;
        oy = 0;
        image++;
    }
}

static int direct(const weft_env *env, const weft_conv2d_args *a) {
    const size_t bytes = (size_t)MAX(1, a->c) * sizeof(float);
    float *zeros = env->alloc(env->owner, bytes);
    if (!zeros) return WEFT_K_NO_MEMORY;
    memset(zeros, 0, bytes);
    const struct windows how = { a, zeros };
    int status = ISA_NAME(weft_product)(env, &(struct product){
        .m = a->n * a->oh * a->ow, .n = a->o, .taps = (int64_t)a->kh * a->kw, .k = a->c, .wtype = a->wtype, .w = a->weight,
        .rows = window_rows, .how = &how,
        .finish = { .bias = a->bias, .added = a->row, .added_rows = a->oh * a->ow, .residual = a->residual, .ldr = a->o,
                    .y = a->y, .ldy = a->o } });
    env->release(env->owner, zeros, bytes);
    return status;
}

int ISA_NAME(conv2d)(const weft_env *env, const weft_conv2d_args *a) {
    if (a->type != WEFT_F32 || (a->wtype != WEFT_F32 && a->wtype != WEFT_F16 && a->wtype != WEFT_BF16)) return WEFT_K_NO_TYPE;
    if (a->stride < 1 || a->kh < 1 || a->kw < 1) return WEFT_K_NO_CASE;
    if (a->n <= 0 || a->oh <= 0 || a->ow <= 0 || a->o <= 0) return WEFT_K_OK;
    const int m = ISA_NAME(weft_winograd_choice)(env, a);
    int status = m ? ISA_NAME(weft_winograd)(env, a, m) : WEFT_K_NO_MEMORY;
    return status == WEFT_K_NO_MEMORY ? direct(env, a) : status;
}
