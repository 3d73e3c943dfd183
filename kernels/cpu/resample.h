/* What the resampling files share: for each position along one side of the result, which source positions it is made of. */
#ifndef WEFT_RESAMPLE_H
#define WEFT_RESAMPLE_H

#include "kernels/cpu/threads.h"

/* Position i: the sum over k < count[i] of w[i·most + k] times source position first[i] + k. */
struct taps {
    int64_t out, most;
    int64_t *first, *count;
    double *w;
    size_t bytes;
};

/* Room for `out` positions of up to `most` taps; false where there is no memory. */
INLINE bool taps_new(const weft_env *env, struct taps *t, int64_t out, int64_t most) {
    *t = (struct taps){ .out = out, .most = most, .bytes = (size_t)out * (size_t)(most + 2) * 8 };
    t->first = env->alloc(env->owner, t->bytes);
    if (!t->first) return false;
    t->count = t->first + out;
    t->w = (double *)(t->count + out);
    return true;
}
INLINE void taps_free(const weft_env *env, struct taps *t) {
    if (t->first) env->release(env->owner, t->first, t->bytes);
}

/* A PIL mode's taps for the call's type; false where there is no memory. */
bool ISA_NAME(weft_pil_taps)(const weft_env *env, const weft_resample_args *a, struct taps *t, int64_t in, int64_t out);

/* The PIL modes; sizes are ≥ 1 here. */
int ISA_NAME(resample_pil)(const weft_env *env, const weft_resample_args *a);

#endif
