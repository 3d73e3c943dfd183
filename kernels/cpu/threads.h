/* How a kernel's work is shared out.
 *
 * Work is cut into pieces whose size never depends on the number of threads, and no sum runs over two pieces: so the
 * number of threads never changes a byte. Waking the others costs some microseconds; small work stays on one thread.
 */
#ifndef WEFT_THREADS_H
#define WEFT_THREADS_H

#include "kernels/cpu/table.h"

/* Work, counted in simple steps on one float (a load, an addition, a store), that pays for one more thread. */
#define THREAD_WORK 16384

/* How many threads `work` such steps are worth: 1 … env->threads. */
INLINE int threads_for(const weft_env *env, double work) {
    double most = work / THREAD_WORK;
    return most < 2 || env->threads < 2 ? 1 : most < env->threads ? (int)most : env->threads;
}

INLINE bool cancelled(const weft_env *env) { return env->cancel && *env->cancel; }

#endif
