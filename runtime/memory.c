/* Memory of tensors, packed weights and scratch: counted to the byte, limited, and cached.
 *
 * A size is rounded up to its class: multiples of 64 bytes up to 2 KiB, then 32 classes an octave (at most 1/32 is
 * wasted). What is given back stays in the cache and serves the next request of the same class and no other, so what is
 * live at a point of a run depends on that run alone, and a request fails if and only if live + its class > limit: the
 * cache can always be given up. A step of a model asks for the same sizes as the one before and finds them all; fresh
 * memory is dear, for the system clears every page of it.
 *
 * When fresh memory is needed, the oldest of the cache goes first where live + cached would come over the limit, or
 * over a bound: a quarter more than was ever live, or 64 MiB over what is live now.
 */
#include "runtime/internal.h"

enum { SMALL = 2048, SMALL_STEP = 64, STEPS = 32, SMALL_BITS = 11, MAX_BITS = 47, ALIGNMENT = 64 };
_Static_assert(SMALL == 1 << SMALL_BITS && SMALL == SMALL_STEP * STEPS, "the small classes meet those of the octaves");
_Static_assert(WEFT_CLASSES > STEPS * (1 + MAX_BITS - SMALL_BITS), "every class has its number");

static const size_t cache_floor = (size_t)64 << 20;

/* ---- classes ----------------------------------------------------------------------------------------------------- */

/* The class of a size and its number; false for more than 128 TiB. */
static bool class_of(size_t bytes, size_t *size, int *number) {
    if (bytes <= SMALL) {
        size_t n = bytes ? (bytes + SMALL_STEP - 1) / SMALL_STEP : 1;
        *size = n * SMALL_STEP;
        *number = (int)n;
        return true;
    }
    if (bytes > (size_t)1 << MAX_BITS) return false;
    int octave = 63 - __builtin_clzll((unsigned long long)bytes - 1);       /* 2^octave < bytes ≤ 2^(octave + 1) */
    size_t step = ((size_t)1 << octave) / STEPS, n = (bytes + step - 1) / step;
    *size = n * step;
    *number = STEPS * (octave - SMALL_BITS + 1) + (int)n - STEPS;
    return true;
}

/* ---- the system -------------------------------------------------------------------------------------------------- */

static void *kernels_alloc(void *user, size_t bytes) { return ((const weft_kernels *)user)->mem_alloc(bytes); }

static void kernels_free(void *user, void *p, size_t bytes) { ((const weft_kernels *)user)->mem_free(p, bytes); }

void weft_memory_init(weft_memory *m, const weft_kernels *kernels, const weft_options *options) {
    if (options && options->os_alloc && options->os_free) {
        m->os_alloc = options->os_alloc;
        m->os_free = options->os_free;
        m->os_user = options->os_user;
    } else {
        m->os_alloc = kernels_alloc;
        m->os_free = kernels_free;
        m->os_user = (void *)kernels;
    }
    m->limit = options ? options->memory_limit : 0;
}

static void destroy(weft_memory *m, weft_block *b) {
    m->os_free(m->os_user, b->data, b->size);
    weft_host_free(b);
}

/* A fresh block; NULL when the system has none. */
static weft_block *create(weft_memory *m, size_t size) {
    weft_block *b = weft_host_alloc(sizeof *b);
    if (!b) return NULL;
    b->size = size;
    b->data = m->os_alloc(m->os_user, size);
    if (b->data && (uintptr_t)b->data % ALIGNMENT == 0) return b;
    if (b->data) m->os_free(m->os_user, b->data, size);
    weft_host_free(b);
    return NULL;
}

/* ---- the cache --------------------------------------------------------------------------------------------------- */

static void cache_put(weft_memory *m, weft_block *b, int class) {
    b->previous = NULL;
    b->next = m->classes[class];
    if (b->next) b->next->previous = b;
    m->classes[class] = b;
    b->newer = NULL;
    b->older = m->newest;
    if (b->older) b->older->newer = b;
    else m->oldest = b;
    m->newest = b;
    m->cached += b->size;
}

static void cache_remove(weft_memory *m, weft_block *b, int class) {
    if (b->previous) b->previous->next = b->next;
    else m->classes[class] = b->next;
    if (b->next) b->next->previous = b->previous;
    if (b->newer) b->newer->older = b->older;
    else m->newest = b->older;
    if (b->older) b->older->newer = b->newer;
    else m->oldest = b->newer;
    m->cached -= b->size;
}

/* Gives the oldest blocks back until the cache holds no more than this. */
static void shrink(weft_memory *m, size_t cached) {
    while (m->cached > cached) {
        weft_block *b = m->oldest;
        size_t size;
        int class;
        class_of(b->size, &size, &class);
        cache_remove(m, b, class);
        destroy(m, b);
    }
}

/* Room for `size` fresh bytes under the limit and the bound. The caller has checked live + size against the limit. */
static void make_room(weft_memory *m, size_t size) {
    size_t live = m->live + size, high = live > m->high ? live : m->high;
    size_t most = high + high / 4 - live;
    if (most < cache_floor) most = cache_floor;
    if (m->limit && most > m->limit - live) most = m->limit - live;
    shrink(m, most);
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

static weft_block *refuse(weft_memory *m, size_t bytes, bool by_limit) {
    m->refused = bytes;
    m->refused_by_limit = by_limit;
    return NULL;
}

weft_block *weft_block_take(weft_memory *m, size_t bytes) {
    size_t size;
    int class;
    if (!class_of(bytes, &size, &class)) return refuse(m, bytes, m->limit != 0);
    if (m->limit && (m->live > m->limit || size > m->limit - m->live)) return refuse(m, size, true);
    weft_block *b = m->classes[class];
    if (b) cache_remove(m, b, class);
    else {
        make_room(m, size);
        b = create(m, size);
        if (!b && m->cached) {
            shrink(m, 0);
            b = create(m, size);
        }
        if (!b) return refuse(m, size, false);
    }
    b->next = b->previous = b->newer = b->older = NULL;
    m->live += size;
    if (m->live > m->peak) m->peak = m->live;
    if (m->live > m->high) m->high = m->live;
    return b;
}

void weft_block_give(weft_memory *m, weft_block *b) {
    if (!b) return;
    size_t size;
    int class;
    class_of(b->size, &size, &class);
    m->live -= b->size;
    cache_put(m, b, class);
    if (m->limit && m->live + m->cached > m->limit) shrink(m, m->live < m->limit ? m->limit - m->live : 0);
}

/* ---- scratch of kernels ------------------------------------------------------------------------------------------ */

void *weft_scratch_alloc(void *owner, size_t bytes) {
    weft_memory *m = owner;
    weft_block *b = weft_block_take(m, bytes);
    if (!b) return NULL;
    b->next = m->scratch;
    if (b->next) b->next->previous = b;
    m->scratch = b;
    return b->data;
}

void weft_scratch_release(void *owner, void *p, size_t bytes) {
    weft_memory *m = owner;
    (void)bytes;
    for (weft_block *b = m->scratch; b; b = b->next) {
        if (b->data != p) continue;
        if (b->previous) b->previous->next = b->next;
        else m->scratch = b->next;
        if (b->next) b->next->previous = b->previous;
        weft_block_give(m, b);
        return;
    }
}

/* ---- what the caller sees ---------------------------------------------------------------------------------------- */

const char *weft_bytes_text(size_t bytes, char out[32]) {
    static const char *const unit[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double v = (double)bytes;
    int u = 0;
    while (v >= 1023.95 && u < 6) v /= 1024, u++;
    snprintf(out, 32, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
    return out;
}

weft_status weft_memory_fail(weft_ctx *c, const char *who) {
    const weft_memory *m = &c->memory;
    char need[32], live[32], limit[32];
    weft_bytes_text(m->refused, need);
    weft_bytes_text(m->live, live);
    weft_bytes_text(m->limit, limit);
    if (m->refused_by_limit)
        return weft_fail(c, WEFT_E_MEMORY, "%s: needs %s more than the %s in use, which is over the limit of %s: "
                         "raise --memory, or use a smaller picture or batch", who, need, live, limit);
    return weft_fail(c, WEFT_E_MEMORY, "%s: needs %s more than the %s in use, and the system has no more: "
                     "use a smaller picture or batch", who, need, live);
}

size_t weft_memory_live(const weft_ctx *c) { return c->memory.live; }

size_t weft_memory_held(const weft_ctx *c) { return c->memory.live + c->memory.cached; }

size_t weft_memory_peak(const weft_ctx *c) { return c->memory.peak; }

void weft_memory_reset_peak(weft_ctx *c) { c->memory.peak = c->memory.live; }

void weft_memory_trim(weft_ctx *c) {
    shrink(&c->memory, 0);
    c->memory.high = c->memory.live;
}

size_t weft_memory_limit(const weft_ctx *c) { return c->memory.limit; }

void weft_set_memory_limit(weft_ctx *c, size_t bytes) {
    weft_memory *m = &c->memory;
    m->limit = bytes;
    if (bytes) shrink(m, m->live < bytes ? bytes - m->live : 0);
}
