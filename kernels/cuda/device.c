/* Opening a device, its memory, and its failures in words. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/device.h"
#include "kernels/cuda/products.h"

enum { LEAST_CAPABILITY = 75 };

static _Thread_local char failure[512];

/* ---- failures ----------------------------------------------------------------------------------------------- */

const char *cuda_last_error(void) { return failure; }

int cuda_fail(const char *what, const char *why, ...) {
    va_list list;
    int used = snprintf(failure, sizeof failure, "%s%s", what, *what ? ": " : "");
    va_start(list, why);
    if (used >= 0 && (size_t)used < sizeof failure) vsnprintf(failure + used, sizeof failure - (size_t)used, why, list);
    va_end(list);
    return WEFT_K_DEVICE;
}

/* Failures after which the device does nothing more for this process; they come from work that was asked for earlier.
 */
static bool is_late(cudaError_t status) {
    return status == cudaErrorIllegalAddress || status == cudaErrorLaunchFailure || status == cudaErrorMisalignedAddress
        || status == cudaErrorIllegalInstruction || status == cudaErrorAssert || status == cudaErrorHardwareStackError
        || status == cudaErrorLaunchTimeout;
}

int cuda_check(cudaError_t status, const char *what) {
    if (status == cudaSuccess) return WEFT_K_OK;
    cudaGetLastError();
    cuda_fail(what, "%s (%s)%s", cudaGetErrorString(status), cudaGetErrorName(status),
              is_late(status) && !getenv("WEFT_CUDA_SYNC")
                  ? "; it may come from an earlier kernel: WEFT_CUDA_SYNC=1 in the environment tells which"
                  : "");
    return status == cudaErrorMemoryAllocation ? WEFT_K_NO_MEMORY : WEFT_K_DEVICE;
}

int cuda_enter(const cuda_queue *q) { return cuda_check(cudaSetDevice(q->device), "cudaSetDevice"); }

int cuda_asked(const cuda_queue *q, cudaError_t status, const char *what) {
    if (status == cudaSuccess && q->sync) status = cudaStreamSynchronize(q->stream);
    return cuda_check(status, what);
}

/* ---- which devices there are -------------------------------------------------------------------------------- */

/* The number of devices, or 0 with the failure kept: no driver, one too old, no device. */
static int count_devices(void) {
    int count = 0, driver = 0;
    cudaError_t status = cudaDriverGetVersion(&driver);
    if (status == cudaSuccess && driver) status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) cudaGetLastError();
    if (!driver)
        cuda_fail("",
                  "there is no NVIDIA driver on this machine (or none that a container lets through): install one for "
                  "CUDA %d, or use "
                  "--device cpu",
                  CUDART_VERSION / 1000);
    else if (status == cudaErrorInsufficientDriver || driver / 1000 < CUDART_VERSION / 1000)
        cuda_fail("",
                  "the NVIDIA driver is too old: it offers CUDA %d.%d, and this Weft needs %d.0: update the driver, or "
                  "use --device cpu",
                  driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
    else if (status == cudaErrorNoDevice || (status == cudaSuccess && count < 1))
        cuda_fail("", "the NVIDIA driver sees no GPU%s: use --device cpu", getenv("CUDA_VISIBLE_DEVICES")
                  ? " (CUDA_VISIBLE_DEVICES says which it may see)" : "");
    else if (status != cudaSuccess)
        cuda_fail("", "the NVIDIA driver does not answer: %s (%s)", cudaGetErrorString(status),
                  cudaGetErrorName(status));
    else return count;
    return 0;
}

/* "cuda:0 NVIDIA H200, cuda:1 …" */
static void list_devices(int count, char *out, size_t size) {
    size_t used = 0;
    *out = '\0';
    for (int i = 0; i < count; i++) {
        struct cudaDeviceProp p;
        if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
        int n = snprintf(out + used, size - used, "%scuda:%d %s", used ? ", " : "", i, p.name);
        if (n < 0 || (size_t)n >= size - used) break;
        used += (size_t)n;
    }
}

const char *cuda_describe(void) {
    static _Thread_local char text[512];
    const int count = count_devices();
    if (count) list_devices(count, text, sizeof text);
    else snprintf(text, sizeof text, "no device");
    return text;
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static int check_device(int device, cuda_queue *q) {
    struct cudaDeviceProp p;
    int pools = 0, status;
    if ((status = cuda_check(cudaGetDeviceProperties(&p, device), "cudaGetDeviceProperties"))) return status;
    q->processors = p.multiProcessorCount;
    q->capability = 10 * p.major + p.minor;
    if (q->capability < LEAST_CAPABILITY)
        return cuda_fail(
            "",
            "cuda:%d, %s, is too old: its compute capability is %d.%d, and this Weft needs 7.5 or more: use another "
            "device, or --device cpu",
            device, p.name, p.major, p.minor);
    if ((status = cuda_check(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, device),
                             "cudaDeviceGetAttribute")))
        return status;
    if (!pools)
        return cuda_fail("", "cuda:%d, %s, has no memory pools: use another device, or --device cpu", device, p.name);
    cudaError_t probe = cuda_probe();
    if (probe == cudaErrorNoKernelImageForDevice || probe == cudaErrorInvalidDeviceFunction) {
        cudaGetLastError();
        return cuda_fail("", "this Weft was built without code for %s: build it with -DWEFT_CUDA_ARCHITECTURES=%d",
                         p.name, q->capability);
    }
    return cuda_check(probe, p.name);
}

static bool is_set(const char *name) {
    const char *value = getenv(name);
    return value && *value && strcmp(value, "0");
}

/* Memory that is freed stays in the device's pool, so that the next request costs no call of the driver's. */
static int keep_pool(int device) {
    cudaMemPool_t pool;
    uint64_t all = UINT64_MAX;
    int status = cuda_check(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
    if (status) return status;
    return cuda_check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "cudaMemPoolSetAttribute");
}

static int take_tickets(cuda_queue *q) {
    const size_t bytes = CUDA_TICKETS * sizeof *q->tickets;
    if (!(q->tickets = cuda_mem_alloc(q, bytes))) return WEFT_K_NO_MEMORY;
    return cuda_check(cudaMemsetAsync(q->tickets, 0, bytes, q->stream), "cudaMemsetAsync");
}

void *cuda_open(int device) {
    const int count = count_devices();
    char all[256];
    if (!count) return NULL;
    if (device < 0 || device >= count) {
        list_devices(count, all, sizeof all);
        cuda_fail("", "there is no device cuda:%d; there %s %s", device, count == 1 ? "is" : "are", all);
        return NULL;
    }
    cuda_queue *q = calloc(1, sizeof *q);
    if (!q) {
        cuda_fail("", "no memory");
        return NULL;
    }
    q->device = device;
    q->sync = is_set("WEFT_CUDA_SYNC");
    q->managed = is_set("WEFT_CUDA_MANAGED");
    if (cuda_enter(q) || check_device(device, q) || keep_pool(device)
        || cuda_check(cudaStreamCreateWithFlags(&q->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags")) {
        free(q);
        return NULL;
    }
    if (!take_tickets(q)) return q;
    cuda_close(q);
    return NULL;
}

/* Waits and gives the driver what the pool holds for nothing. */
static cudaError_t trim(const cuda_queue *q) {
    cudaMemPool_t pool;
    cudaError_t status = cudaStreamSynchronize(q->stream);
    if (status == cudaSuccess) status = cudaDeviceGetDefaultMemPool(&pool, q->device);
    return status == cudaSuccess ? cudaMemPoolTrimTo(pool, 0) : status;
}

void cuda_close(void *stream) {
    cuda_queue *q = stream;
    if (!q) return;
    if (!cuda_enter(q)) {
        cuda_mem_free(q, q->tickets, CUDA_TICKETS * sizeof *q->tickets);
        cuda_check(trim(q), "cudaMemPoolTrimTo");
        cuda_products_free(q);
        cuda_stages_free(q);
        for (int i = 0; i < 2; i++)
            if (q->mark[i]) cuda_check(cudaEventDestroy(q->mark[i]), "cudaEventDestroy");
        if (q->side) cuda_check(cudaStreamDestroy(q->side), "cudaStreamDestroy");
        cuda_check(cudaStreamDestroy(q->stream), "cudaStreamDestroy");
    }
    free(q);
}

int cuda_wait(const weft_env *env) {
    const cuda_queue *q = cuda_queue_of(env);
    const int status = cuda_enter(q);
    return status ? status : cuda_check(cudaStreamSynchronize(q->stream), "waiting");
}

/* The older mark is waited for, and then set anew. While work is recorded nothing is done that could be waited for. */
int cuda_pace(const weft_env *env) {
    cuda_queue *q = cuda_queue_of(env);
    cudaEvent_t *mark = &q->mark[q->marks];
    int status = cuda_enter(q);
    if (status || q->recording) return status;
    if (*mark) status = cuda_check(cudaEventSynchronize(*mark), "waiting");
    else status = cuda_check(cudaEventCreateWithFlags(mark, cudaEventDisableTiming), "cudaEventCreate");
    if (!status) status = cuda_check(cudaEventRecord(*mark, q->stream), "cudaEventRecord");
    q->marks ^= 1;
    return status;
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

void *cuda_mem_alloc(void *stream, size_t bytes) {
    cuda_queue *q = stream;
    void *p = NULL;
    if (cuda_enter(q)) return NULL;
    if (bytes > SIZE_MAX / 2) return NULL;
    if (!bytes) bytes = 1;
    if (q->managed)
        return cuda_check(cudaMallocManaged(&p, bytes, cudaMemAttachGlobal), "cudaMallocManaged") ? NULL : p;
    cudaError_t status = cudaMallocAsync(&p, bytes, q->recording ? q->side : q->stream);
    if (status == cudaErrorMemoryAllocation && !q->recording) {
        cudaGetLastError();
        status = trim(q);
        if (status == cudaSuccess) status = cudaMallocAsync(&p, bytes, q->stream);
    }
    return cuda_check(status, "cudaMallocAsync") ? NULL : p;
}

void cuda_mem_free(void *stream, void *p, size_t bytes) {
    cuda_queue *q = stream;
    (void)bytes;
    if (!p || cuda_enter(q)) return;
    if (q->managed) {
        cuda_check(cudaStreamSynchronize(q->stream), "cudaStreamSynchronize");
        cuda_check(cudaFree(p), "cudaFree");
    } else {
        cuda_check(cudaFreeAsync(p, q->stream), "cudaFreeAsync");
    }
}

void cuda_mem_info(void *stream, size_t *available, size_t *total) {
    cuda_queue *q = stream;
    *available = *total = 0;
    if (!cuda_enter(q)) cuda_check(cudaMemGetInfo(available, total), "cudaMemGetInfo");
}
