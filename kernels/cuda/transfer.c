/* Copies between host and device, by way of two pieces of locked memory: while the device reads one, the host fills the
 * other.
 *
 * Copies to the device return when the source has been read, copies from it when all has arrived. Small locked pieces
 * keep the memory limit honest: they are host memory of a fixed size, whatever is copied.
 */
#include <string.h>
#include "kernels/cuda/device.h"

static const size_t stage_bytes = (size_t)8 << 20;

static int stage_ready(cuda_stage *s) {
    int status;
    if (!s->data) {
        if ((status = cuda_check(cudaMallocHost(&s->data, stage_bytes), "cudaMallocHost")))
            return s->data = NULL, status;
        if ((status = cuda_check(cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming), "cudaEventCreate"))) {
            cudaFreeHost(s->data);
            s->data = NULL;
            return status;
        }
    }
    if (!s->busy) return WEFT_K_OK;
    s->busy = false;
    return cuda_check(cudaEventSynchronize(s->done), "copy");
}

void cuda_stages_free(cuda_queue *q) {
    for (int i = 0; i < 2; i++) {
        if (!q->stage[i].data) continue;
        cuda_check(cudaEventDestroy(q->stage[i].done), "cudaEventDestroy");
        cuda_check(cudaFreeHost(q->stage[i].data), "cudaFreeHost");
        q->stage[i] = (cuda_stage){ 0 };
    }
}

/* Starts the copy of a piece between the device and a stage. */
static int start(cuda_queue *q, cuda_stage *s, void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind) {
    int status = cuda_check(cudaMemcpyAsync(dst, src, bytes, kind, q->stream), "copy");
    if (status) return status;
    s->busy = true;
    return cuda_asked(q, cudaEventRecord(s->done, q->stream), "copy");
}

static int to_device(cuda_queue *q, char *dst, const char *src, size_t bytes) {
    for (size_t at = 0, i = 0; at < bytes; at += stage_bytes, i++) {
        cuda_stage *s = &q->stage[i % 2];
        const size_t n = bytes - at < stage_bytes ? bytes - at : stage_bytes;
        int status = stage_ready(s);
        if (status) return status;
        memcpy(s->data, src + at, n);
        if ((status = start(q, s, dst + at, s->data, n, cudaMemcpyHostToDevice))) return status;
    }
    return WEFT_K_OK;
}

static int to_host(cuda_queue *q, char *dst, const char *src, size_t bytes) {
    const size_t pieces = (bytes + stage_bytes - 1) / stage_bytes;
    for (size_t i = 0; i <= pieces; i++) {      /* piece i starts, piece i − 1 is taken */
        const size_t at = i * stage_bytes, n = bytes - at < stage_bytes ? bytes - at : stage_bytes;
        int status;
        if (i < pieces
            && ((status = stage_ready(&q->stage[i % 2]))
                || (status = start(q, &q->stage[i % 2], q->stage[i % 2].data, src + at, n, cudaMemcpyDeviceToHost))))
            return status;
        if (i == 0) continue;
        cuda_stage *s = &q->stage[(i - 1) % 2];
        const size_t before = at - stage_bytes, m = bytes - before < stage_bytes ? bytes - before : stage_bytes;
        if ((status = stage_ready(s))) return status;
        memcpy(dst + before, s->data, m);
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
    if (to && from) return cuda_asked(q, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, q->stream), "copy");
    if (to) return to_device(q, dst, src, bytes);
    if (from) return to_host(q, dst, src, bytes);
    if ((status = cuda_check(cudaStreamSynchronize(q->stream), "copy"))) return status;     /* managed memory */
    memcpy(dst, src, bytes);
    return WEFT_K_OK;
}
