/* Allocations that fail on demand, all of the process's, the C library's own too: a test that includes this replaces
 * malloc and its kin. Under a sanitizer, which has its own, FAILING_MALLOC is not defined.
 *
 *     refused = false; countdown = n;     the allocation behind the next n fails; then …
 *     countdown = -1;                     … none any more
 */
#ifndef WEFT_FAILING_MALLOC_H
#define WEFT_FAILING_MALLOC_H

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#if !defined(__SANITIZE_ADDRESS__) && defined(__GLIBC__)
#define FAILING_MALLOC 1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#undef FAILING_MALLOC
#endif
#endif

#ifdef FAILING_MALLOC
/* glibc's own functions under other names; ours take their place in the whole process. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static long countdown = -1;     /* allocations until one fails; −1: none will */
static bool refused;
static long live;

static bool refuse(void) {
    if (countdown < 0) return false;
    if (countdown-- > 0) return false;
    refused = true;
    errno = ENOMEM;
    return true;
}

static void *counted(void *p) {
    live += p != NULL;
    return p;
}

void *malloc(size_t n) { return refuse() ? NULL : counted(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return refuse() ? NULL : counted(__libc_calloc(n, size)); }
void *aligned_alloc(size_t alignment, size_t n) { return refuse() ? NULL : counted(__libc_memalign(alignment, n)); }
int posix_memalign(void **p, size_t alignment, size_t n) {
    *p = aligned_alloc(alignment, n);
    return *p ? 0 : ENOMEM;
}
/* OpenMP's, which ends the process where it gets none: it never fails. */
void *memalign(size_t alignment, size_t n) { return counted(__libc_memalign(alignment, n)); }
void free(void *p) {
    live -= p != NULL;
    __libc_free(p);
}
void *realloc(void *p, size_t n) {
    void *q = refuse() ? NULL : __libc_realloc(p, n);
    live += q && !p;
    return q;
}
#endif

#endif
