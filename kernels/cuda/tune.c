/* Choosing among a library's algorithms by the clock, where WEFT_CUDA_TUNE=1 in the environment asks for it: the
 * heuristics' best ones are run on the operands of the first call, which takes some milliseconds for each new shape.
 * Which is the fastest is not always the same, and two of them round differently: so a tuned run is not the same to the
 * bit from one process to the next.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/products.h"

enum { RUNS = 5 };

bool cuda_tunes(const weft_env *env) {
    const char *asked = getenv("WEFT_CUDA_TUNE");
    return asked && !strcmp(asked, "1") && !cuda_queue_of(env)->recording;
}

/* Milliseconds of RUNS runs behind one that does not count; INFINITY where it declines, or wants more memory than there
 * is, with which another may do. */
static int time_one(const cuda_queue *q, cudaEvent_t start, cudaEvent_t end, cuda_trial *run, void *user, int i,
                    float *ms) {
    int status = WEFT_K_OK;
    for (int k = 0; k <= RUNS && !status; k++) {
        if (k == 1) status = cuda_check(cudaEventRecord(start, q->stream), "cudaEventRecord");
        if (!status) status = run(user, i);
    }
    *ms = INFINITY;
    if (status == WEFT_K_NO_CASE || status == WEFT_K_NO_MEMORY) return WEFT_K_OK;
    if (!status) status = cuda_check(cudaEventRecord(end, q->stream), "cudaEventRecord");
    if (!status) status = cuda_check(cudaEventSynchronize(end), "timing");
    return status ? status : cuda_check(cudaEventElapsedTime(ms, start, end), "cudaEventElapsedTime");
}

static void tell(const char *who, int count, const float *ms, int fastest) {
    if (!cuda_plans_are_told()) return;
    fprintf(stderr, "timed for %s:", who);
    for (int i = 0; i < count; i++) fprintf(stderr, " %.4f", ms[i] / RUNS);
    fprintf(stderr, " ms: number %d\n", fastest + 1);
}

int cuda_fastest(const weft_env *env, const char *who, int count, cuda_trial *run, void *user, int *fastest) {
    const cuda_queue *q = cuda_queue_of(env);
    cudaEvent_t event[2] = { NULL, NULL };
    float ms[CUDA_MOST_TRIALS];
    int status = cuda_enter(q);
    for (int i = 0; i < 2 && !status; i++)
        status = cuda_check(cudaEventCreateWithFlags(&event[i], cudaEventDefault), "cudaEventCreate");
    *fastest = 0;
    for (int i = 0; i < count && !status; i++) {
        status = time_one(q, event[0], event[1], run, user, i, &ms[i]);
        if (!status && ms[i] < ms[*fastest]) *fastest = i;
    }
    if (!status) tell(who, count, ms, *fastest);
    for (int i = 0; i < 2; i++)
        if (event[i]) cudaEventDestroy(event[i]);
    return status;
}
