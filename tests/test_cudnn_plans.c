/* What cuDNN itself says of our graphs, without a GPU: since 9.8 it plans for a device by its properties alone. Every convolution of
 * SD 1.5, SDXL and their autoencoders must have a ready-made engine of its own, with bias and residual in it, on each kind of GPU.
 *
 * dnn.c is compiled into the test, its calls that name a handle turned into ones that name the device's properties.
 */
#include <cudnn_graph.h>
#include <stdarg.h>
#include "tests/test.h"

#if CUDNN_VERSION < 90800
int main(void) { return puts("cuDNN plans without a device from 9.8 on"), 77; }
#else

static cudnnBackendDescriptor_t properties;

static cudnnStatus_t own_create(cudnnHandle_t *handle) { return *handle = NULL, CUDNN_STATUS_SUCCESS; }
static cudnnStatus_t own_ignore(cudnnHandle_t handle) { return (void)handle, CUDNN_STATUS_SUCCESS; }
static cudnnStatus_t own_stream(cudnnHandle_t handle, cudaStream_t stream) { return (void)handle, (void)stream, CUDNN_STATUS_SUCCESS; }
static cudnnStatus_t own_set(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                             int64_t count, const void *values) {
    if (name == CUDNN_ATTR_OPERATIONGRAPH_HANDLE) return CUDNN_STATUS_SUCCESS;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_HANDLE)
        return cudnnBackendSetAttribute(p, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &properties);
    cudnnStatus_t status = cudnnBackendSetAttribute(p, name, type, count, values);
    if (status || name != CUDNN_ATTR_ENGINEHEUR_MODE) return status;
    return cudnnBackendSetAttribute(p, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &properties);
}
#define cudnnCreate own_create
#define cudnnDestroy own_ignore
#define cudnnSetStream own_stream
#define cudnnBackendSetAttribute own_set
#include "kernels/cuda/dnn.c"
#undef cudnnBackendSetAttribute

/* ---- what dnn.c and plans.c want of the rest ----------------------------------------------------------------------- */

static char failure[1024];
int cuda_fail(const char *what, const char *why, ...) {
    va_list list;
    const int used = snprintf(failure, sizeof failure, "%s: ", what);
    va_start(list, why);
    vsnprintf(failure + used, sizeof failure - (size_t)used, why, list);
    va_end(list);
    return WEFT_K_DEVICE;
}
int cuda_enter(const cuda_queue *q) { return (void)q, WEFT_K_OK; }
int cuda_asked(const cuda_queue *q, cudaError_t status, const char *what) { return (void)q, (void)status, (void)what, WEFT_K_OK; }
int weft_cuda_copy(const weft_env *env, const weft_copy_args *a) { return (void)env, (void)a, WEFT_K_NO_CASE; }
void cuda_blas_free(struct cuda_blas *b) { (void)b; }
bool cuda_tunes(const weft_env *env) { return (void)env, false; }
int cuda_fastest(const weft_env *env, const char *who, int count, cuda_trial *run, void *user, int *fastest) {
    return (void)env, (void)who, (void)count, (void)run, (void)user, *fastest = 0, WEFT_K_NO_CASE;
}

/* ---- devices and shapes -------------------------------------------------------------------------------------------- */

static const struct device { const char *name; int version, processors, shared, clock; double memory, cache; } devices[] = {
    { "Tesla T4", 750, 40, 64, 1590, 16e9, 4 }, { "NVIDIA A100", 800, 108, 163, 1410, 80e9, 40 },
    { "NVIDIA GeForce RTX 3090", 860, 82, 99, 1695, 24e9, 6 }, { "NVIDIA GeForce RTX 4090", 890, 128, 99, 2520, 24e9, 72 },
    { "NVIDIA H200", 900, 132, 227, 1980, 141e9, 60 }, { "NVIDIA B200", 1000, 148, 227, 1965, 180e9, 126 },
    { "NVIDIA GeForce RTX 5090", 1200, 170, 99, 2407, 32e9, 96 },
};
enum { DEVICES = sizeof devices / sizeof *devices };

static bool open_device(const struct device *d) {
    char json[1024];
    snprintf(json, sizeof json,
             "{\"deviceName\": \"%s\", \"cudaDeviceId\": 0, \"deviceVer\": %d, \"driverVer\": 13000, \"isTccDriver\": 0, \"pciDeviceId\": 0, "
             "\"l2CacheSize\": %.0f, \"maxCtasPerSM\": %d, \"maxRegistersPerSM\": 65536, \"regsPerBlock\": 65536, "
             "\"maxSharedMemoryPerBlock\": 49152, \"maxSharedMemoryPerBlockOptin\": %d, \"reservedSharedMemoryPerBlock\": 1024, "
             "\"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": %d, \"warpSize\": 32, \"multiProcessorCount\": %d, "
             "\"smClockRateKHz\": %d000, \"memClockRateKHz\": 3201000, \"supportCoopLaunch\": 1, \"totalGlobalMem\": %.0f, "
             "\"maxBlockSize\": [1024, 1024, 64], \"maxGridSize\": [2147483647, 65535, 65535]}",
             d->name, d->version, d->cache * 0x1p20, d->version == 750 ? 16 : 32, d->shared * 1024,
             d->version == 750 ? 1024 : d->version / 10 % 10 ? 1536 : 2048, d->processors, d->clock, d->memory);
    cudnnStatus_t status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &properties);
    if (!status)
        status = cudnnBackendSetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                          (int64_t)strlen(json) + 1, json);
    if (!status) status = cudnnBackendFinalize(properties);
    if (!status) return true;
    cudnnGetLastErrorString(json, sizeof json);
    TEST_FAIL("%s: %s: %s", d->name, cudnnGetErrorString(status), json);
    return false;
}

/* images, side, inputs, outputs, filter, stride; the side is the input's. */
static const struct shape { int64_t n, side, c, o; int filter, stride; } shapes[] = {
    { 2, 64, 4, 320, 3, 1 }, { 2, 64, 320, 320, 3, 1 }, { 2, 64, 320, 320, 3, 2 }, { 2, 32, 320, 640, 3, 1 }, { 2, 32, 640, 640, 3, 1 },
    { 2, 16, 640, 1280, 3, 1 }, { 2, 16, 1280, 1280, 3, 1 }, { 2, 8, 1280, 1280, 3, 1 }, { 2, 8, 2560, 1280, 3, 1 },
    { 2, 16, 2560, 1280, 3, 1 }, { 2, 32, 1920, 640, 3, 1 }, { 2, 64, 960, 320, 3, 1 }, { 2, 64, 320, 4, 3, 1 },
    { 2, 128, 320, 320, 3, 1 }, { 2, 64, 640, 640, 3, 1 }, { 2, 32, 1280, 1280, 3, 1 }, { 2, 128, 960, 320, 3, 1 },
    { 1, 64, 4, 512, 3, 1 }, { 1, 64, 512, 512, 3, 1 }, { 1, 128, 512, 512, 3, 1 }, { 1, 256, 512, 256, 3, 1 }, { 1, 256, 256, 256, 3, 1 },
    { 1, 512, 256, 128, 3, 1 }, { 1, 512, 128, 128, 3, 1 }, { 1, 512, 128, 3, 3, 1 }, { 1, 512, 3, 128, 3, 1 }, { 1, 1024, 128, 128, 3, 1 },
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const char aligned[256] __attribute__((aligned(256)));

static cuda_conv conv_of(const struct shape *s, cuda_conv_kind kind, weft_dtype type) {
    const int64_t out = (s->side + 2 - s->filter) / s->stride + 1;
    return (cuda_conv){ .kind = kind, .type = type, .n = s->n, .h = s->side, .w = s->side, .c = s->c, .o = s->o, .oh = out, .ow = out,
                        .kh = s->filter, .kw = s->filter, .stride = s->stride, .pad_top = 1, .pad_left = 1, .x = aligned, .weight = aligned,
                        .y = aligned };
}

/* What dnn.c answers for it; any but "has an engine" and "has none" is a failure. */
static int asked(const struct device *d, cuda_queue *q, weft_precision precision, const cuda_conv *c) {
    const weft_env env = { .threads = 1, .precision = precision, .scratch_hint = (size_t)256 << 20, .stream = q };
    const int status = cuda_dnn_can(&env, "conv2d", c);
    if (status && status != WEFT_K_NO_CASE) TEST_FAIL("%s: %s", d->name, failure);
    return status;
}

static void expect(const struct device *d, cuda_queue *q, weft_precision precision, const cuda_conv *c, int want) {
    const int status = asked(d, q, precision, c);
    if (status != want && (!status || status == WEFT_K_NO_CASE))
        TEST_FAIL("%s has %s engine for kind %d of %s%s, (%d,%d,%d,%d) to %d channels, stride %d%s%s", d->name, status ? "no" : "an", c->kind,
                  weft_dtype_name(c->type), precision == WEFT_PRECISION_EXACT ? ", exact" : "", (int)c->n, (int)c->h, (int)c->w, (int)c->c,
                  (int)c->o, c->stride, c->bias ? ", with bias" : "", c->residual ? " and residual" : "");
}

TEST(forward) {
    static const weft_dtype types[] = { WEFT_F16, WEFT_BF16, WEFT_F32 };
    for (const struct device *d = devices; d < devices + DEVICES && open_device(d); d++) {
        cuda_queue q = { .capability = d->version / 10 };
        for (int i = 0; i < SHAPES * 9; i++) {
            cuda_conv c = conv_of(&shapes[i / 9], CUDA_CONV_FORWARD, types[i / 3 % 3]);
            if (i % 3) c.bias = aligned;
            if (i % 3 == 2) c.residual = aligned;
            /* sm_75 has no bf16: that is for our own tiles. */
            expect(d, &q, WEFT_PRECISION_FAST, &c, d->version < 800 && c.type == WEFT_BF16 ? WEFT_K_NO_CASE : WEFT_K_OK);
            if (c.type == WEFT_F32) expect(d, &q, WEFT_PRECISION_EXACT, &c, WEFT_K_OK);
        }
        cuda_products_free(&q);
    }
}

TEST(gradients) {
    static const weft_dtype types[] = { WEFT_BF16, WEFT_F32 };
    for (const struct device *d = devices; d < devices + DEVICES && open_device(d); d++) {
        cuda_queue q = { .capability = d->version / 10 };
        for (int i = 0; i < SHAPES * 4; i++) {
            const cuda_conv c = conv_of(&shapes[i / 4], i % 2 ? CUDA_CONV_GRAD_WEIGHT : CUDA_CONV_GRAD_INPUT, types[i / 2 % 2]);
            expect(d, &q, WEFT_PRECISION_FAST, &c, d->version < 800 && c.type == WEFT_BF16 ? WEFT_K_NO_CASE : WEFT_K_OK);
        }
        cuda_products_free(&q);
    }
}

/* Odd channels, addresses that are a multiple of two bytes only, an autoencoder's padding on two sides: an engine or none, no error. */
TEST(odd_ones) {
    static const struct shape odd[] = { { 1, 5, 3, 7, 3, 1 }, { 3, 17, 9, 320, 3, 1 }, { 1, 33, 5, 1, 3, 2 }, { 2, 8, 11, 13, 5, 1 }, { 1, 1, 4, 4, 3, 1 } };
    for (const struct device *d = devices; d < devices + DEVICES && open_device(d); d++) {
        cuda_queue q = { .capability = d->version / 10 };
        for (int i = 0; i < 5 * 3 * 2; i++) {
            cuda_conv c = conv_of(&odd[i % 5], (cuda_conv_kind)(i / 5 % 3), WEFT_F16);
            if (i >= 15) c.x = aligned + 2;
            asked(d, &q, WEFT_PRECISION_FAST, &c);
        }
        cuda_conv c = conv_of(&shapes[18], CUDA_CONV_FORWARD, WEFT_F16);
        c.stride = 2;
        c.pad_top = c.pad_left = 0;
        c.oh = c.ow = c.h / 2;
        expect(d, &q, WEFT_PRECISION_FAST, &c, WEFT_K_OK);
        cuda_products_free(&q);
    }
}

TEST_MAIN
#endif
