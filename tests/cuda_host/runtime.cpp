/* The driver and the device of the emulation: streams whose work is done late, and memory that the host cannot touch.
 *
 * The device's memory is one range of addresses without access, opened while queued work runs: whoever reads a tensor
 * of the device's as if it were the host's gets a fault. Work is queued and done when somebody waits, so that a copy
 * that is read too early, or a piece of locked memory that is used again too soon, gives wrong bytes. Fresh and freed
 * memory is filled with 0xff: NaN.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sys/mman.h>
#include <vector>
#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

struct fake_stream {
    std::deque<std::function<void()>> work;
    fake_graph *captured;               /* gets the work instead; NULL: nothing is captured */
};
struct fake_graph {
    std::vector<std::function<void()>> work;
    bool broken;
};
struct fake_event { cudaStream_t stream; std::shared_ptr<float> ms; };
struct fake_pool {};

namespace {

enum : size_t { GAP = 256, MOST_QUEUED = 512, RANGE = (size_t)64 << 30 };

std::recursive_mutex lock;
typedef std::lock_guard<std::recursive_mutex> guard;
char *range;                            /* of the device's addresses */
int key = -1;                           /* of that range; −1: none */
size_t high;                            /* how much of it was ever used */
std::map<char *, size_t> used;          /* the blocks: where, how many bytes */
size_t used_bytes;
std::map<void *, size_t> locked, managed;
std::set<fake_stream *> streams;
std::map<const void *, int> shared_allowed;
thread_local cudaError_t last;

cudaError_t say(cudaError_t status) {
    if (status != cudaSuccess) last = status;
    return status;
}

bool mode(const char *name) {
    const char *value = getenv("WEFT_FAKE_CUDA");
    return value && !strcmp(value, name);
}

size_t total_bytes() {
    const char *value = getenv("WEFT_FAKE_CUDA_MEMORY");
    return value ? strtoull(value, nullptr, 10) : (size_t)2 << 30;
}

/* Access to the device's memory, for the thread that has the lock. A protection key changes it in a few cycles; where the
 * processor has none, mprotect() walks through all of its pages. */
void gate(bool open) {
    if (key >= 0) {
        if (pkey_set(key, open ? 0 : PKEY_DISABLE_ACCESS)) abort();
    } else if (high && mprotect(range, (high + 4095) / 4096 * 4096, open ? PROT_READ | PROT_WRITE : PROT_NONE)) {
        abort();
    }
}

float clock_ms;                         /* of the work that was done */

void drain(fake_stream *s) {
    if (s->work.empty()) return;
    gate(true);
    while (!s->work.empty()) {
        std::function<void()> work = std::move(s->work.front());
        s->work.pop_front();
        clock_ms++;
        work();
    }
    gate(false);
}

/* What a stream cannot do while it is captured. Taking and giving back memory it could: the memory would be the graph's, which is
 * not what Weft wants. */
bool breaks_capture(fake_stream *s) {
    if (s && s->captured) s->captured->broken = true;
    return s && s->captured;
}

bool is_in(const std::map<void *, size_t> &list, const void *p) {
    auto i = list.upper_bound((void *)p);
    if (i == list.begin()) return false;
    --i;
    return (const char *)p < (char *)i->first + i->second;
}

bool on_device(const void *p) { return range && (char *)p >= range && (char *)p < range + RANGE; }

/* The first gap that is large enough. */
char *place(size_t bytes) {
    if (!range) {
        void *p = mmap(nullptr, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return nullptr;
        range = (char *)p;
        key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
        if (key >= 0 && pkey_mprotect(range, RANGE, PROT_READ | PROT_WRITE, key)) key = -1;
    }
    const size_t size = (bytes + GAP - 1) / GAP * GAP + GAP;
    char *at = range + GAP;
    for (auto &b : used) {
        if ((size_t)(b.first - at) >= size) break;
        at = b.first + (b.second + GAP - 1) / GAP * GAP + GAP;
    }
    if (at + size > range + RANGE) return nullptr;
    if ((size_t)(at + size - range) > high) high = (size_t)(at + size - range);
    return at;
}

} // namespace

/* ---- devices ------------------------------------------------------------------------------------------------ */

cudaError_t cudaDriverGetVersion(int *version) {
    *version = mode("no driver") ? 0 : mode("old driver") ? 12040 : 13000;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 0;
    if (mode("no driver") || mode("old driver")) return say(cudaErrorInsufficientDriver);
    if (mode("no device")) return say(cudaErrorNoDevice);
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    if (device) return say(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    strcpy(p->name, "emulated device");
    p->major = mode("old device") ? 6 : mode("turing") ? 7 : 8;
    p->minor = mode("old device") ? 1 : mode("turing") ? 5 : 6;
    const char *processors = getenv("WEFT_FAKE_CUDA_PROCESSORS");
    p->multiProcessorCount = processors ? atoi(processors) : 2;
    p->totalGlobalMem = total_bytes();
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 99 << 10 : 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device ? say(cudaErrorInvalidDevice) : cudaSuccess; }

cudaError_t cudaGetLastError(void) {
    const cudaError_t status = last;
    last = cudaSuccess;
    return status;
}

const char *cudaGetErrorName(cudaError_t status) {
    return status == cudaErrorMemoryAllocation     ? "cudaErrorMemoryAllocation"
           : status == cudaErrorNoDevice           ? "cudaErrorNoDevice"
           : status == cudaErrorInsufficientDriver ? "cudaErrorInsufficientDriver"
           : status == cudaErrorIllegalAddress     ? "cudaErrorIllegalAddress"
                                                   : "cudaErrorOther";
}
const char *cudaGetErrorString(cudaError_t status) {
    return status == cudaErrorMemoryAllocation ? "out of memory"
           : status == cudaErrorNoDevice       ? "no CUDA-capable device is detected"
           : status == cudaErrorIllegalAddress ? "an illegal memory access was encountered"
                                               : "an error of the emulation";
}

/* ---- streams ------------------------------------------------------------------------------------------------ */

cudaError_t fake_enqueue(cudaStream_t stream, std::function<void()> work) {
    guard g(lock);
    if (!stream) return say(cudaErrorInvalidValue);
    if (stream->captured) {
        stream->captured->work.push_back(std::move(work));
        return cudaSuccess;
    }
    stream->work.push_back(std::move(work));
    if (stream->work.size() >= MOST_QUEUED) drain(stream);
    return cudaSuccess;
}

void fake_spend(int ms) { clock_ms += (float)ms; }
bool fake_is_turing() {
    static const bool is = mode("turing");
    return is;
}

cudaError_t fake_check_launch(const cudaLaunchConfig_t &c, const void *function) {
    const uint64_t threads = (uint64_t)c.blockDim.x * c.blockDim.y * c.blockDim.z;
    const bool grid = c.gridDim.x && c.gridDim.x < 1u << 31 && c.gridDim.y && c.gridDim.y < 65536 && c.gridDim.z
                      && c.gridDim.z < 65536;
    guard g(lock);
    auto allowed = shared_allowed.find(function);
    const size_t most = allowed == shared_allowed.end() ? 48 << 10 : (size_t)allowed->second;
    if (!grid || !threads || threads > 1024 || c.blockDim.z > 64) return say(cudaErrorInvalidConfiguration);
    return c.dynamicSmemBytes > most ? say(cudaErrorInvalidValue) : cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute, int value) {
    guard g(lock);
    if (value > 99 << 10) return say(cudaErrorInvalidValue);
    shared_allowed[function] = value;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *) {
    a->maxThreadsPerBlock = 1024;
    a->ptxVersion = 86;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    guard g(lock);
    *stream = new fake_stream{ {}, nullptr };
    streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    cudaStreamSynchronize(stream);
    guard g(lock);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    guard g(lock);
    if (breaks_capture(stream)) return say(cudaErrorStreamCaptureUnsupported);
    drain(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    guard g(lock);
    if (breaks_capture(stream)) return say(cudaErrorStreamCaptureUnsupported);
    stream->captured = new fake_graph{ {}, false };
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    guard g(lock);
    *graph = stream->captured;
    stream->captured = nullptr;
    if (!*graph) return say(cudaErrorInvalidValue);
    if (!(*graph)->broken) return cudaSuccess;
    delete *graph;
    *graph = nullptr;
    return say(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned long long) {
    *ready = new fake_graph(*graph);
    return mode("no graphs") ? (delete *ready, *ready = nullptr, say(cudaErrorMemoryAllocation)) : cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream) {
    for (auto &work : ready->work) fake_enqueue(stream, work);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) { return cudaGraphDestroy(ready); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = new fake_event{ nullptr, std::make_shared<float>(0.f) };
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const std::shared_ptr<float> ms = event->ms;
    event->stream = stream;
    return fake_enqueue(stream, [=] { *ms = clock_ms; });
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    if (!start->stream || !end->stream) return say(cudaErrorInvalidValue);
    *ms = *end->ms - *start->ms;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return event->stream ? cudaStreamSynchronize(event->stream) : cudaSuccess;
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int) {
    static fake_pool one;
    *pool = &one;
    return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, enum cudaMemPoolAttr, void *) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t stream) {
    guard g(lock);
    if (!stream || !bytes) return say(cudaErrorInvalidValue);
    if (breaks_capture(stream)) return say(cudaErrorStreamCaptureUnsupported);
    for (fake_stream *other : streams)  /* whose work may still use what was given back to it */
        if (other != stream) drain(other);
    if (bytes > total_bytes() || used_bytes > total_bytes() - bytes) return say(cudaErrorMemoryAllocation);
    char *at = place(bytes);
    if (!at) return say(cudaErrorMemoryAllocation);
    used[at] = bytes;
    used_bytes += bytes;
    *p = at;
    return fake_enqueue(stream, [=] {
        ASAN_UNPOISON_MEMORY_REGION(at, bytes);
        memset(at, 0xff, bytes);
    });
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream) {
    guard g(lock);
    if (breaks_capture(stream)) return say(cudaErrorStreamCaptureUnsupported);
    auto i = used.find((char *)p);
    if (i == used.end()) return say(cudaErrorInvalidValue);
    char *at = i->first;
    const size_t bytes = i->second;
    used_bytes -= bytes;
    used.erase(i);
    return fake_enqueue(stream, [=] {
        memset(at, 0xff, bytes);
        ASAN_POISON_MEMORY_REGION(at, bytes);
    });
}

cudaError_t cudaMallocManaged(void **p, size_t bytes, unsigned) {
    guard g(lock);
    *p = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*p) return say(cudaErrorMemoryAllocation);
    managed[*p] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    guard g(lock);
    if (!managed.erase(p)) return say(cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes) {
    guard g(lock);
    *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!*p) return say(cudaErrorMemoryAllocation);
    locked[*p] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) {
    guard g(lock);
    if (!locked.erase(p)) return say(cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    guard g(lock);
    *total = total_bytes();
    *available = *total > used_bytes ? *total - used_bytes : 0;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
    guard g(lock);
    memset(a, 0, sizeof *a);
    a->type = on_device(p)        ? cudaMemoryTypeDevice
              : is_in(managed, p) ? cudaMemoryTypeManaged
              : is_in(locked, p)  ? cudaMemoryTypeHost
                                  : cudaMemoryTypeUnregistered;
    return cudaSuccess;
}

/* Pageable memory is read before the call returns, as the driver does; locked memory when its turn comes. */
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    guard g(lock);
    const bool to = on_device(dst), from = on_device(src);
    if ((kind == cudaMemcpyHostToDevice && (from || !to)) || (kind == cudaMemcpyDeviceToHost && (to || !from))
        || (kind == cudaMemcpyDeviceToDevice && (!to || !from))) return say(cudaErrorInvalidValue);
    if (((!from && !is_in(locked, src)) || (!to && !is_in(locked, dst))) && breaks_capture(stream))
        return say(cudaErrorStreamCaptureUnsupported);
    if (!from && !is_in(locked, src)) {
        std::string held((const char *)src, bytes);
        return fake_enqueue(stream, [=] { memcpy(dst, held.data(), bytes); });
    }
    cudaError_t status = fake_enqueue(stream, [=] { memmove(dst, src, bytes); });
    if (!to && !is_in(locked, dst)) drain(stream);
    return status;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream) {
    return fake_enqueue(stream, [=] { memset(dst, value, bytes); });
}
