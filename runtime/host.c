/* Small structs of the runtime come from here. Alone in its file, so that a test's own three functions take their place
 * when it is linked: that is how failing allocations are tried. */
#include <stdlib.h>
#include "runtime/internal.h"

void *weft_host_alloc(size_t bytes) { return calloc(1, bytes ? bytes : 1); }

void *weft_host_resize(void *p, size_t bytes) { return realloc(p, bytes ? bytes : 1); }

void weft_host_free(void *p) { free(p); }
