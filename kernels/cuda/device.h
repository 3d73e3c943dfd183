/* A queue on a device: what every CUDA source gets from weft_env.stream; and how failures are told.
 *
 * Everything that a context asks of its device goes through one stream, so what was asked first is done first, and
 * memory that was given back can be used again at once. Failures of a kernel that runs show up late, at the next call
 * that waits: WEFT_CUDA_SYNC=1 in the environment makes every call wait, so that the message names the kernel.
 */
#ifndef WEFT_CUDA_DEVICE_H
#define WEFT_CUDA_DEVICE_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Locked host memory that copies go through: the device reads and writes it by itself. */
typedef struct cuda_stage {
    void *data;                 /* NULL: not taken yet */
    size_t used;                /* bytes from its start that copies since the last wait go through */
    cudaEvent_t done;           /* recorded behind the last of them */
} cuda_stage;

/* Counters by which a kernel's blocks find out which of them is the last (sums.cuh): zero between two kernels. */
enum { CUDA_TICKETS = 1024 };

typedef struct cuda_queue {
    int device;
    cudaStream_t stream;
    unsigned *tickets;          /* CUDA_TICKETS of them, in the device's memory */
    int processors;             /* multiprocessors, for the sizes of grids */
    int capability;             /* 75, 80, … */
    bool sync;                  /* WEFT_CUDA_SYNC */
    bool managed;               /* WEFT_CUDA_MANAGED: memory that the host may touch too, for tests */
    bool recording;             /* graph.c */
    cudaStream_t side;          /* where memory is asked for meanwhile; NULL: not yet */
    cudaEvent_t mark[2];        /* cuda_pace()'s last two; NULL: not yet */
    int marks;                  /* which of them is older */
    cuda_stage stage[2];
    int turn;                   /* the one that is being filled */
    struct cuda_products *products;     /* cuBLASLt's and cuDNN's part; NULL until it is needed */
} cuda_queue;

static inline cuda_queue *cuda_queue_of(const weft_env *env) { return (cuda_queue *)env->stream; }

/* Keeps "what: why" for last_error() and returns WEFT_K_DEVICE. */
int cuda_fail(const char *what, const char *why, ...) __attribute__((format(printf, 2, 3)));
/* WEFT_K_OK; or WEFT_K_NO_MEMORY or WEFT_K_DEVICE, with the failure kept and the runtime's own record of it cleared. */
int cuda_check(cudaError_t status, const char *what);
/* Makes the queue's device the calling thread's: at the head of whatever calls CUDA. */
int cuda_enter(const cuda_queue *q);
/* After work was put into the queue: waits for it under WEFT_CUDA_SYNC. */
int cuda_asked(const cuda_queue *q, cudaError_t status, const char *what);

/* device.c */
void *cuda_open(int device);
void cuda_close(void *stream);
void *cuda_mem_alloc(void *stream, size_t bytes);
void cuda_mem_free(void *stream, void *p, size_t bytes);
int cuda_wait(const weft_env *env);
int cuda_pace(const weft_env *env);
void cuda_mem_info(void *stream, size_t *available, size_t *total);
const char *cuda_describe(void);
const char *cuda_last_error(void);
/* graph.c */
int cuda_record_begin(const weft_env *env);
int cuda_record_end(const weft_env *env, void **recording);
int cuda_replay(const weft_env *env, void *recording);
void cuda_record_free(void *stream, void *recording);
/* transfer.c */
int cuda_mem_copy(const weft_env *env, void *dst, const void *src, size_t bytes);
void cuda_stages_free(cuda_queue *q);
/* elementwise.cu: whether the library has code for this device. */
cudaError_t cuda_probe(void);

/* One for each row of the table: weft_cuda_gemm() and so on. */
#define K(name) int weft_cuda_##name(const weft_env *env, const weft_##name##_args *a);
WEFT_KERNEL_LIST(K)
#undef K
size_t weft_cuda_pack_bytes(const weft_pack_args *a);

#ifdef __cplusplus
}
#endif
#endif
