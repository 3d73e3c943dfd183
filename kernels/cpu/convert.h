/* Rows of elements from one type to another: what copy, fill, pad and embedding share. */
#ifndef WEFT_CONVERT_H
#define WEFT_CONVERT_H

#include "kernels/cpu/simd.h"

/* n contiguous elements; the types must be valid. Rounds once, to nearest; to an integer as weft_copy_args says, and
 * a wider integer saturates in a narrower one. */
void ISA_NAME(convert_row)(weft_dtype to, void *dst, weft_dtype from, const void *src, int64_t n);

/* `value` as one element of a type, at dst. */
INLINE void convert_value(weft_dtype to, void *dst, double value) { ISA_NAME(convert_row)(to, dst, WEFT_F64, &value, 1); }

typedef uint16_t any16 __attribute__((may_alias));
typedef uint32_t any32 __attribute__((may_alias));
typedef uint64_t any64 __attribute__((may_alias));

/* n elements of `size` bytes each, all equal to the one at `one`. */
INLINE void fill_row(void *dst, const void *one, size_t size, int64_t n) {
    uint64_t bits = 0;
    memcpy(&bits, one, size);
    switch (size) {
    case 1: memset(dst, (int)bits, (size_t)n); break;
    case 2: for (int64_t i = 0; i < n; i++) ((any16 *)dst)[i] = (uint16_t)bits; break;
    case 4: for (int64_t i = 0; i < n; i++) ((any32 *)dst)[i] = (uint32_t)bits; break;
    default: for (int64_t i = 0; i < n; i++) ((any64 *)dst)[i] = bits; break;
    }
}

INLINE bool is_type(weft_dtype t) { return (unsigned)t < WEFT_DTYPE_COUNT; }

#endif
