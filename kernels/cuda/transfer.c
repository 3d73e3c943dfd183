/* Copies between host and device, by way of two pieces of locked memory: while the device reads one, the host fills the other.
 * Small copies lie one behind the other in a piece, so that only every 8 MiB are waited for.
 *
 * Copies to the device return when the source has been read, copies from it when all has arrived.
 */
#include <string.h>
#include "kernels/cuda/device.h"

static const size_t stage_bytes = (size_t)8 << 20;

static int take(cuda_stage *s) {
    int status = cuda_check(cudaMallocHost(&s->data, stage_bytes), "cudaMallocHost");
    if (status) return s->data = NULL, status;
    if ((status = cuda_check(cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming), "cudaEventCreate"))) {
        cudaFreeHost(s->data);
        s->data = NULL;
    }
    return status;
}

void cuda_stages_free(cuda_queue *q) {
    for (int i = 0; i < 2; i++) {
        if (!q->stage[i].data) continue;
        cuda_check(cudaEventDestroy(q->stage[i].done), "cudaEventDestroy");
        cuda_check(cudaFreeHost(q->stage[i].data), "cudaFreeHost");
        q->stage[i] = (cuda_stage){ 0 };
    }
}

/* Room for a copy of so many bytes, at most stage_bytes: in the stage whose turn it is, or in the other once that is free. */
static int room(cuda_queue *q, size_t bytes, cuda_stage **stage, char **at) {
    cuda_stage *s = &q->stage[q->turn];
    int status;
    if (s->data && bytes > stage_bytes - s->used) {
        s = &q->stage[q->turn ^= 1];
        if (s->used && (status = cuda_check(cudaEventSynchronize(s->done), "copy"))) return status;
        s->used = 0;
    }
    if (!s->data && (status = take(s))) return status;
    *stage = s;
    *at = (char *)s->data + s->used;
    return WEFT_K_OK;
}

/* Starts the copy between the device and such room. */
static int start(cuda_queue *q, cuda_stage *s, void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind) {
    int status = cuda_check(cudaMemcpyAsync(dst, src, bytes, kind, q->stream), "copy");
    if (status) return status;
    s->used += (bytes + 63) / 64 * 64;
    return cuda_asked(q, cudaEventRecord(s->done, q->stream), "copy");
}

static size_t piece_of(size_t at, size_t bytes) { return bytes - at < stage_bytes ? bytes - at : stage_bytes; }

static int to_device(cuda_queue *q, char *dst, const char *src, size_t bytes) {
    for (size_t at = 0; at < bytes; at += stage_bytes) {
        const size_t n = piece_of(at, bytes);
        cuda_stage *s;
        char *staged;
        int status = room(q, n, &s, &staged);
        if (status) return status;
        memcpy(staged, src + at, n);
        if ((status = start(q, s, dst + at, staged, n, cudaMemcpyHostToDevice))) return status;
    }
    return WEFT_K_OK;
}

/* While one piece is taken out of its stage, the next is on its way to the other. */
static int to_host(cuda_queue *q, char *dst, const char *src, size_t bytes) {
    cuda_stage *s = NULL, *before = NULL;
    char *staged = NULL, *staged_before = NULL;
    int status;
    for (size_t at = 0; at < bytes + stage_bytes; at += stage_bytes) {
        before = s;
        staged_before = staged;
        if (at < bytes && ((status = room(q, piece_of(at, bytes), &s, &staged))
                           || (status = start(q, s, staged, src + at, piece_of(at, bytes), cudaMemcpyDeviceToHost))))
            return status;
        if (!before) continue;
        if ((status = cuda_check(cudaEventSynchronize(before->done), "copy"))) return status;
        memcpy(dst + at - stage_bytes, staged_before, piece_of(at - stage_bytes, bytes));
    }
    return WEFT_K_OK;
}

/* Which side a pointer is on the driver knows. */
static int on_device(const void *p, bool *device) {
    struct cudaPointerAttributes a;
    int status = cuda_check(cudaPointerGetAttributes(&a, p), "cudaPointerGetAttributes");
    *device = !status && a.type == cudaMemoryTypeDevice;
    return status;
}

int cuda_mem_copy(const weft_env *env, void *dst, const void *src, size_t bytes) {
    cuda_queue *q = cuda_queue_of(env);
    bool to = false, from = false;
    int status = cuda_enter(q);
    if (status || !bytes) return status;
    if ((status = on_device(dst, &to)) || (status = on_device(src, &from))) return status;
    if (q->recording && !(to && from)) return cuda_fail("copy", "between host and device, while work is recorded");
    if (to && from) return cuda_asked(q, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, q->stream), "copy");
    if (to) return to_device(q, dst, src, bytes);
    if (from) return to_host(q, dst, src, bytes);
    if ((status = cuda_check(cudaStreamSynchronize(q->stream), "copy"))) return status;     /* managed memory */
    memcpy(dst, src, bytes);
    return WEFT_K_OK;
}
