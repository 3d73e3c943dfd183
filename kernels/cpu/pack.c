/* Packed weights: [⌈n/16⌉][taps][k][16], outputs side by side, zeros behind the last; in the source's type, and the same for
 * all instruction sets. A product reads a panel of 16 outputs from front to back. */
#include "kernels/cpu/microkernel.h"
#include "kernels/cpu/table.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/transpose.h"

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

/* Squares of 8×8 turned over, in vectors of 16 bytes: as in transpose.h, but of 16 bits each. */
typedef uint16_t v8 __attribute__((vector_size(16)));

INLINE void turn_8(v8 r[8]) {
    UNROLL
    for (int round = 0; round < 3; round++) {
        v8 t[8];
        UNROLL
        for (int i = 0; i < 4; i++) {
            t[2 * i] = __builtin_shufflevector(r[i], r[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            t[2 * i + 1] = __builtin_shufflevector(r[i], r[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        memcpy(r, t, sizeof t);
    }
}

/* A square of a full panel: rows `stride` apart, columns to places of their own. */
INLINE void turn_square(const size_t size, const char *from, int64_t stride, char *const *to) {
    if (size == 2) {
        v8 r[8];
        UNROLL
        for (int i = 0; i < 8; i++) memcpy(&r[i], from + i * stride, sizeof r[i]);
        turn_8(r);
        UNROLL
        for (int i = 0; i < 8; i++) memcpy(to[i], &r[i], sizeof r[i]);
        return;
    }
    vf r[VL];
    UNROLL
    for (int i = 0; i < VL; i++) r[i] = vf_load((const float *)(from + i * stride));
    vf_transpose(r);
    UNROLL
    for (int i = 0; i < VL; i++) vf_store((float *)to[i], r[i]);
}

/* Packs a full panel from rows of taps·k values without gaps, as files have them: value j is tap j % taps of input j / taps.
 * Returns how many j are done: all but the last few. */
INLINE int64_t pack_dense(const size_t size, const weft_pack_args *a, const char *plain, char *packed) {
    const int64_t bytes = (int64_t)size, width = size == 2 ? 8 : VL, all = a->taps * a->k;
    int64_t tap = 0, k = 0, j = 0;
    for (; j + width <= all; j += width) {
        char *to[16];
        for (int64_t i = 0; i < width; i++) {
            to[i] = packed + (tap * a->k + k) * PANEL * bytes;
            if (++tap == a->taps) tap = 0, k++;
        }
        for (int64_t lane = 0; lane < PANEL; lane += width) {
            turn_square(size, plain + (lane * a->stride_n + j) * bytes, a->stride_n * bytes, to);
            for (int64_t i = 0; i < width; i++) to[i] += width * bytes;
        }
    }
    return j;
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
    const bool dense = a->stride_tap == 1 ? a->stride_k == a->taps : a->taps == 1 && a->stride_k == 1;
    int64_t done = 0;
    if (!unpacking && lanes == PANEL && dense) done = pack_dense(size, a, plain, packed);
    for (int64_t i = done / inner; i < outer; i++)
        for (int64_t j = i == done / inner ? done % inner : 0; j < inner; j++) {
            char *p = packed + (i * packed_outer + j * packed_inner) * bytes;
            char *q = plain + (i * plain_outer + j * plain_inner) * bytes;
            if (lanes < PANEL) move_lanes(unpacking, size, p, q, stride, lanes);
            else if (stride == 1) move_lanes(unpacking, size, p, q, 1, PANEL);
            else move_lanes(unpacking, size, p, q, stride, PANEL);
        }
}

/* Panels of a weight whose outputs lie together, as where the parts of inputs and outputs are exchanged for a gradient: one panel
 * alone would read little at each of k places far apart, so several go side by side. */
enum { TOGETHER = 4 };

/* A full panel's taps of one k, which lie together, to places `apart` floats from each other. */
INLINE void turn_taps(const float *from, int64_t taps, float *to, int64_t apart) {
    for (int64_t lane = 0; lane < PANEL; lane += VL)
        for (int64_t tap = 0; tap < taps; tap += VL) {
            const int64_t n = MIN(VL, taps - tap);
            vf r[VL];
            UNROLL
            for (int64_t i = 0; i < VL; i++) {
                const float *p = from + (lane + i) * taps + tap;
                r[i] = p + VL <= from + PANEL * taps ? vf_load(p) : vf_load_n(p, n);
            }
            vf_transpose(r);
            for (int64_t i = 0; i < n; i++) vf_store(to + (tap + i) * apart + lane, r[i]);
        }
}

INLINE void pack_across(const size_t size, const weft_pack_args *a, int64_t first) {
    const int64_t panels = MIN(TOGETHER, (a->n + PANEL - 1) / PANEL - first), bytes = (int64_t)size, all = a->taps * PANEL * bytes;
    /* Where an output's taps begin: with the last where they run backwards. */
    const int64_t low = MIN(0, (a->taps - 1) * a->stride_tap);
    for (int64_t k = 0; k < a->k; k++) {
        const char *from = (const char *)a->src + (first * PANEL * a->stride_n + k * a->stride_k) * bytes;
        for (int64_t i = 0; k + 1 < a->k && i < panels * all; i += 64) __builtin_prefetch(from + (a->stride_k + low) * bytes + i);
        for (int64_t p = 0; p < panels; p++) {
            const int64_t lanes = MIN(PANEL, a->n - (first + p) * PANEL);
            if (size == 4 && a->taps > 2 && lanes == PANEL) {
                const int64_t apart = a->stride_tap * a->k * PANEL;
                float *to = (float *)a->dst + (((first + p) * a->taps + (apart < 0 ? a->taps - 1 : 0)) * a->k + k) * PANEL;
                const float *plain = (const float *)(from + low * bytes) + p * PANEL * a->stride_n;
                if (a->taps == 9) turn_taps(plain, 9, to, apart);
                else turn_taps(plain, a->taps, to, apart);
                continue;
            }
            for (int64_t tap = 0; tap < a->taps; tap++) {
                char *to = (char *)a->dst + (((first + p) * a->taps + tap) * a->k + k) * PANEL * bytes;
                char *plain = (char *)from + (p * PANEL * a->stride_n + tap * a->stride_tap) * bytes;
                if (lanes < PANEL) move_lanes(false, size, to, plain, a->stride_n, lanes);
                else if (a->stride_n == 1) memcpy(to, plain, PANEL * size);
                else if (a->stride_n == 9) move_lanes(false, size, to, plain, 9, PANEL);
                else move_lanes(false, size, to, plain, a->stride_n, PANEL);
            }
        }
    }
}

INLINE int move_all(const bool unpacking, const weft_env *env, const weft_pack_args *a) {
    if (a->type != WEFT_F32 && a->type != WEFT_F16 && a->type != WEFT_BF16) return WEFT_K_NO_TYPE;
    const int64_t panels = (a->n + PANEL - 1) / PANEL;
    if (panels <= 0 || a->taps <= 0 || a->k <= 0) return WEFT_K_OK;
    const int threads = threads_for(env, (double)a->n * (double)a->taps * (double)a->k);
    const bool wide = a->type == WEFT_F32;
    if (!unpacking && a->stride_n == a->taps && (a->taps == 1 || a->stride_tap == 1 || a->stride_tap == -1)) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t i = 0; i < panels; i += TOGETHER) {
            if (cancelled(env)) continue;
            if (wide) pack_across(4, a, i);
            else pack_across(2, a, i);
        }
        return cancelled(env) ? WEFT_K_CANCELLED : WEFT_K_OK;
    }
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
