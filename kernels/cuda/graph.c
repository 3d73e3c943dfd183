/* Work that is recorded once and asked for again at once: CUDA graphs, by stream capture.
 *
 * A graph's kernels have the addresses that they were recorded with: whoever records keeps all of that memory. Fresh memory
 * is asked for on a second stream meanwhile, for a stream that is captured would make the allocation a part of the graph; it
 * is waited for at the end. Kernels are recorded when they have run before: their code is loaded, their plans are made.
 *
 * WEFT_CUDA_GRAPHS=0 in the environment records nothing; nor does WEFT_CUDA_SYNC, which waits behind every kernel.
 */
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/device.h"

static bool is_wanted(const cuda_queue *q) {
    const char *value = getenv("WEFT_CUDA_GRAPHS");
    return !q->sync && !(value && !strcmp(value, "0"));
}

int cuda_record_begin(const weft_env *env) {
    cuda_queue *q = cuda_queue_of(env);
    if (!is_wanted(q)) return WEFT_K_NO_CASE;
    int status = cuda_enter(q);
    if (!status && !q->side)
        status = cuda_check(cudaStreamCreateWithFlags(&q->side, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    /* Then the other stream can have what was freed on this one. */
    if (!status) status = cuda_check(cudaStreamSynchronize(q->stream), "waiting");
    if (!status)
        status = cuda_check(cudaStreamBeginCapture(q->stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
    q->recording = !status;
    return status;
}

int cuda_record_end(const weft_env *env, void **recording) {
    cuda_queue *q = cuda_queue_of(env);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    *recording = NULL;
    q->recording = false;
    int status = cuda_check(cudaStreamEndCapture(q->stream, &graph), "cudaStreamEndCapture"),
        memory = cuda_check(cudaStreamSynchronize(q->side), "cudaStreamSynchronize");
    if (!status) status = memory;
    if (!status && !graph) status = cuda_fail("cudaStreamEndCapture", "nothing was recorded");
    if (!status) status = cuda_check(cudaGraphInstantiate(&ready, graph, 0), "cudaGraphInstantiate");
    if (graph) cuda_check(cudaGraphDestroy(graph), "cudaGraphDestroy");
    *recording = ready;
    return status;
}

int cuda_replay(const weft_env *env, void *recording) {
    const cuda_queue *q = cuda_queue_of(env);
    const int status = cuda_enter(q);
    return status ? status : cuda_asked(q, cudaGraphLaunch(recording, q->stream), "a recorded evaluation");
}

void cuda_record_free(void *stream, void *recording) {
    const cuda_queue *q = stream;
    if (cuda_enter(q)) return;
    cuda_check(cudaStreamSynchronize(q->stream), "cudaStreamSynchronize");      /* it may run */
    cuda_check(cudaGraphExecDestroy(recording), "cudaGraphExecDestroy");
}
