/* The runtime's small allocations (runtime/host.c), counted, and failing on demand: a test that includes this
 * replaces them. Whole memory of tensors fails by the same count through host_os_alloc(), for weft_options.os_alloc.
 *
 *     FOR_EACH_FAILURE { … one attempt …; ATTEMPT_WORKED(weft_ok(c)); }
 *
 * runs the attempt with the first allocation failing, then the second, and so on, until it works with none failing. */
#ifndef WEFT_HOST_MEMORY_H
#define WEFT_HOST_MEMORY_H

#include <stdlib.h>
#include "runtime/internal.h"

static long host_countdown = -1;        /* allocations until one fails; −1: none will */
static long host_live;                  /* allocations not yet freed */
static bool host_failed;                /* one was refused since the attempt began */

static bool host_refuses(void) {
    if (host_countdown < 0) return false;
    if (host_countdown-- > 0) return false;
    host_failed = true;
    return true;
}

void *weft_host_alloc(size_t bytes) {
    void *p = host_refuses() ? NULL : calloc(1, bytes ? bytes : 1);
    host_live += p != NULL;
    return p;
}

void *weft_host_resize(void *p, size_t bytes) {
    void *q = host_refuses() ? NULL : realloc(p, bytes ? bytes : 1);
    host_live += q && !p;
    return q;
}

void weft_host_free(void *p) {
    host_live -= p != NULL;
    free(p);
}

static inline void *host_os_alloc(void *user, size_t bytes) {
    (void)user;
    return host_refuses() ? NULL : aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static inline void host_os_free(void *user, void *p, size_t bytes) {
    (void)user;
    (void)bytes;
    free(p);
}

#define FOR_EACH_FAILURE \
    for (long host_attempt = 0; \
         host_attempt >= 0 && host_attempt < 100000 && (host_countdown = host_attempt, host_failed = false, true); \
         host_attempt = host_failed ? host_attempt + 1 : -1)
/* An attempt in which an allocation was refused may fail, or work all the same where it can do without; one in which
 * none was must work. */
#define ATTEMPT_WORKED(worked) do { \
        host_countdown = -1; \
        if (!host_failed && !(worked)) TEST_FAIL("failed although no allocation did"); \
    } while (0)

#endif
