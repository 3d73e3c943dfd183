/* Packed weights: [⌈n/16⌉][taps][k][16], outputs side by side, zeros behind the last; in the source's type, and the same for
 * all instruction sets. A product reads a panel of 16 outputs from front to back. */
#include "kernels/cpu/microkernel.h"
#include "kernels/cpu/table.h"
#include "kernels/cpu/threads.h"

size_t ISA_NAME(pack_bytes)(const weft_pack_args *a) {
    size_t panels = (size_t)((a->n + PANEL - 1) / PANEL);
    return panels * (size_t)a->taps * (size_t)a->k * PANEL * weft_dtype_size(a->type);
}

/* The values of one tap and input, 2 or 4 bytes each: side by side in the panel, `stride` apart on the plain side. */
INLINE void move_lanes(const bool unpacking, const size_t size, void *packed, void *plain, int64_t stride, int64_t lanes) {
    for (int64_t l = 0; l < lanes; l++) {
        char *p = (char *)packed + l * (int64_t)size, *q = (char *)plain + l * stride * (int64_t)size;
        if (unpacking) memcpy(q, p, size);
        else memcpy(p, q, size);
    }
    if (!unpacking && lanes < PANEL) memset((char *)packed + (size_t)lanes * size, 0, (size_t)(PANEL - lanes) * size);
}

/* One panel, either way. The plain side is walked in the order in which it lies: taps inside the inputs where those lie
 * nearer to each other. */
INLINE void move_panel(const bool unpacking, const size_t size, const weft_pack_args *a, int64_t panel) {
    const int64_t first = panel * PANEL, lanes = MIN(PANEL, a->n - first), stride = a->stride_n, bytes = (int64_t)size;
    char *packed = unpacking ? (char *)a->src : a->dst, *plain = unpacking ? a->dst : (char *)a->src;
    packed += panel * a->taps * a->k * PANEL * bytes;
    plain += first * stride * bytes;
    const bool inside = a->taps > 1 && a->stride_tap < a->stride_k;
    const int64_t outer = inside ? a->k : a->taps, inner = inside ? a->taps : a->k;
    const int64_t plain_outer = inside ? a->stride_k : a->stride_tap, plain_inner = inside ? a->stride_tap : a->stride_k;
    const int64_t packed_outer = inside ? PANEL : a->k * PANEL, packed_inner = inside ? a->k * PANEL : PANEL;
    for (int64_t i = 0; i < outer; i++)
        for (int64_t j = 0; j < inner; j++) {
            char *p = packed + (i * packed_outer + j * packed_inner) * bytes;
            char *q = plain + (i * plain_outer + j * plain_inner) * bytes;
            if (lanes < PANEL) move_lanes(unpacking, size, p, q, stride, lanes);
            else if (stride == 1) move_lanes(unpacking, size, p, q, 1, PANEL);
            else move_lanes(unpacking, size, p, q, stride, PANEL);
        }
}

INLINE int move_all(const bool unpacking, const weft_env *env, const weft_pack_args *a) {
    if (a->type != WEFT_F32 && a->type != WEFT_F16 && a->type != WEFT_BF16) return WEFT_K_NO_TYPE;
    const int64_t panels = (a->n + PANEL - 1) / PANEL;
    if (panels <= 0 || a->taps <= 0 || a->k <= 0) return WEFT_K_OK;
    const int threads = threads_for(env, (double)a->n * (double)a->taps * (double)a->k);
    const bool wide = a->type == WEFT_F32;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < panels; i++) {
        if (cancelled(env)) continue;
        if (wide) move_panel(unpacking, 4, a, i);
        else move_panel(unpacking, 2, a, i);
    }
    return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
}

int ISA_NAME(pack)(const weft_env *env, const weft_pack_args *a) { return move_all(false, env, a); }
int ISA_NAME(unpack)(const weft_env *env, const weft_unpack_args *a) { return move_all(true, env, a); }
