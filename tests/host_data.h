/* A tensor's values where the host can read them, also those on a device. */
#ifndef WEFT_TEST_HOST_DATA_H
#define WEFT_TEST_HOST_DATA_H

#include "runtime/internal.h"
#include "tests/test.h"

/* weft_data(), or a copy that lives as long as the test. NULL for NULL, and with the context's error set. */
__attribute__((unused)) static void *host_data(weft_tensor *t) {
    static struct copy { struct copy *next; char bytes[]; } *copies;
    void *data = weft_data(t);
    if (data || !t) return data;
    const size_t bytes = (size_t)weft_count(t) * weft_dtype_size(weft_type(t));
    struct copy *copy = malloc(sizeof *copy + bytes);
    if (!copy || weft_read(t->ctx, t, copy->bytes, bytes)) {
        free(copy);
        return NULL;
    }
    copy->next = copies;
    copies = copy;
    return copy->bytes;
}

/* The device of a test that asks for this one: the tests of the CPU also run on the emulated GPU (CMakeLists.txt). */
__attribute__((unused)) static const char *test_device(const char *device) {
    const char *other = getenv("WEFT_TEST_ON");
    return other && !strcmp(device, "cpu") ? other : device;
}

/* Whether a test of the CPU runs on a device; says what it leaves out there. */
__attribute__((unused)) static bool leaves_out(const char *what) {
    const bool device = getenv("WEFT_TEST_ON") != NULL;
    if (device) printf("    left out on a device: %s\n", what);
    return device;
}
__attribute__((unused)) static bool has_f64(void) { return !leaves_out("f64, for which it has no kernels"); }

/* Whether a test of the CPU runs on the emulated device (CMakeLists.txt). */
__attribute__((unused)) static bool emulated_device(void) { return getenv("WEFT_TEST_ON") && getenv("WEFT_FAKE_CUDA"); }

/* Whether a test runs on a GPU (tests/on_gpu.c). */
__attribute__((unused)) static bool on_gpu(void) { return getenv("WEFT_DEVICE") != NULL; }

#ifdef WEFT_CUDA_EMULATED
/* "cuda", which is the emulated device but on a GPU. */
__attribute__((unused)) static const char *test_cuda(void) {
    if (!on_gpu()) setenv("WEFT_CUDA_LIBRARY", WEFT_CUDA_EMULATED, 1);
    return "cuda";
}
#endif

#endif
