/* Memory of tensors, packed weights and scratch: counted to the byte, limited, and cached.
 *
 * A size is rounded up to 64 bytes, from 64 KiB on to pages. What is live at a point of a run is the sum of that, so it
 * depends on the run alone, and a request fails if and only if live + size > limit: the cache can always be given up. A
 * step of a model asks for the same as the one before and finds it in the cache; fresh memory is dear, for the system
 * clears every page of it.
 *
 * Large blocks are parts of chunks (parts.c). Small ones, and all where the memory is a device's or an option's, are
 * whole: they come from the back end one by one, and from the cache for requests of the same size.
 *
 * When fresh memory is needed, the oldest of the cache goes first where live + cached would come over the limit, or
 * over a bound: a quarter more than was ever live, or 64 MiB over what is live now. Recordings' memory (hold.c) goes last.
 */
#include <assert.h>
#include "runtime/internal.h"

enum { STEP = 64 };

static const size_t cache_floor = (size_t)64 << 20, most_bytes = (size_t)1 << 47;

/* A sanitizer watches the ends of whole blocks, not those of parts. */
#if defined(__SANITIZE_ADDRESS__)
#define WATCHED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED true
#endif
#endif
#ifndef WATCHED
#define WATCHED false
#endif

/* ---- lists ------------------------------------------------------------------------------------------------------- */

void weft_list_add(weft_block **list, weft_block *b) {
    b->previous = NULL;
    b->next = *list;
    if (b->next) b->next->previous = b;
    *list = b;
}

void weft_list_remove(weft_block **list, weft_block *b) {
    if (b->previous) b->previous->next = b->next;
    else *list = b->next;
    if (b->next) b->next->previous = b->previous;
    b->next = b->previous = NULL;
}

/* ---- the system -------------------------------------------------------------------------------------------------- */

static void *kernels_alloc(void *user, size_t bytes) {
    weft_ctx *c = user;
    return c->kernels->mem_alloc(c->env.stream, bytes);
}

static void kernels_free(void *user, void *p, size_t bytes) {
    weft_ctx *c = user;
    c->kernels->mem_free(c->env.stream, p, bytes);
}

void weft_memory_init(weft_ctx *c, const weft_options *options) {
    weft_memory *m = &c->memory;
    if (options && options->os_alloc && options->os_free) {
        m->os_alloc = options->os_alloc;
        m->os_free = options->os_free;
        m->os_user = options->os_user;
    } else {
        m->os_alloc = kernels_alloc;
        m->os_free = kernels_free;
        m->os_user = c;
        m->divides = weft_on_host(c) && !WATCHED;
    }
    m->limit = options ? options->memory_limit : 0;
}

static void destroy(weft_memory *m, weft_block *b) {
    m->os_free(m->os_user, b->data, b->size);
    weft_host_free(b);
}

/* A fresh whole block; NULL when the system has none. */
weft_block *weft_block_create(weft_memory *m, size_t size) {
    weft_block *b = weft_host_alloc(sizeof *b);
    if (!b) return NULL;
    b->size = size;
    b->data = m->os_alloc(m->os_user, size);
    if (b->data && (uintptr_t)b->data % STEP == 0) return b;
    if (b->data) m->os_free(m->os_user, b->data, size);
    weft_host_free(b);
    return NULL;
}

/* ---- the cache of whole blocks ----------------------------------------------------------------------------------- */

static weft_block **bucket(weft_memory *m, size_t size) { return &m->buckets[size / STEP % WEFT_BUCKETS]; }

void weft_block_cache(weft_memory *m, weft_block *b) {
    weft_list_add(bucket(m, b->size), b);
    b->state = WEFT_BLOCK_CACHED;
    b->stamp = ++m->clock;
    b->newer = NULL;
    b->older = m->newest;
    if (b->older) b->older->newer = b;
    else m->oldest = b;
    m->newest = b;
    m->cached += b->size;
}

static void cache_remove(weft_memory *m, weft_block *b) {
    weft_list_remove(bucket(m, b->size), b);
    b->state = WEFT_BLOCK_LIVE;
    if (b->newer) b->newer->older = b->older;
    else m->newest = b->older;
    if (b->older) b->older->newer = b->newer;
    else m->oldest = b->newer;
    m->cached -= b->size;
}

static weft_block *cache_take(weft_memory *m, size_t size) {
    weft_block *b = *bucket(m, size);
    while (b && b->size != size) b = b->next;
    if (b) cache_remove(m, b);
    return b;
}

/* ---- room -------------------------------------------------------------------------------------------------------- */

/* Gives the oldest of the cache back until it holds no more than this. */
static void shrink(weft_memory *m, size_t most) {
    while (m->cached > most) {
        weft_block *part = weft_part_oldest(m), *whole = m->oldest;
        if (!part && !whole) {
            if (!m->forget || !m->forget(m->relieve_user)) return;
        } else if (part && (!whole || part->stamp < whole->stamp)) {
            weft_part_drop(m, part, m->cached - most);
        } else {
            cache_remove(m, whole);
            destroy(m, whole);
        }
    }
}

void weft_memory_give_back(weft_memory *m) {
    bool (*forget)(void *user) = m->forget;
    m->forget = NULL;
    shrink(m, 0);
    m->forget = forget;
}

/* What the cache may hold once `size` more is live, by the limit and the bound. live + size is within the limit. */
static size_t most_cached(const weft_memory *m, size_t size) {
    size_t live = m->live + size, high = live > m->high ? live : m->high;
    size_t most = high + high / 4 - live;
    if (most < cache_floor) most = cache_floor;
    return m->limit && most > m->limit - live ? m->limit - live : most;
}

static weft_block *take_whole(weft_memory *m, size_t size) {
    weft_block *b = cache_take(m, size);
    if (b) return b;
    shrink(m, most_cached(m, size));
    b = weft_block_create(m, size);
    if (b || !m->cached) return b;
    shrink(m, 0);
    return weft_block_create(m, size);
}

/* Making room may take away what was found, so it is looked for again; the third time nothing more need go. */
static weft_block *take_part(weft_memory *m, size_t size) {
    const size_t most = most_cached(m, size);
    weft_place place;
    for (int i = 0; i < 3; i++) {
        while (!weft_part_find(m, size, &place)) {
            if (weft_part_reserve(m, size)) continue;
            if (!m->cached) return NULL;
            shrink(m, 0);
        }
        if (m->cached - place.reused <= most) return weft_part_take(m, &place, size);
        shrink(m, most + (i ? 0 : place.reused));
    }
    return NULL;
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

static weft_block *refuse(weft_memory *m, size_t bytes, bool by_limit) {
    m->refused = bytes;
    m->refused_by_limit = by_limit;
    return NULL;
}

/* Whether `size` more is over the limit, also when all that can be made again is given up. */
static bool over_limit(weft_memory *m, size_t size) {
    while (m->limit && (m->live > m->limit || size > m->limit - m->live))
        if (!m->relieve || !m->relieve(m->relieve_user)) return true;
    return false;
}

weft_block *weft_block_take(weft_memory *m, size_t bytes) {
    if (bytes > most_bytes) return refuse(m, bytes, m->limit != 0);
    const size_t step = bytes < WEFT_LARGE ? STEP : WEFT_PAGE, size = bytes ? (bytes + step - 1) / step * step : step;
    if (!m->hold && over_limit(m, size)) return refuse(m, size, true);
    weft_block *b = m->hold ? weft_hold_take(m, size) : m->divides && size >= WEFT_LARGE ? take_part(m, size) : take_whole(m, size);
    while (!b && !m->hold && m->relieve && m->relieve(m->relieve_user)) b = take_whole(m, size);
    if (!b) return refuse(m, size, false);
    m->live += size;
    if (m->live > m->peak) m->peak = m->live;
    if (m->live > m->high) m->high = m->live;
    return b;
}

void weft_block_give(weft_memory *m, weft_block *b) {
    if (!b) return;
    m->live -= b->size;
    if (b->hold) {
        assert(b->hold == m->hold);         /* a recording's tensors end before it does */
        weft_hold_give(m, b);
        return;
    }
    if (b->chunk) weft_part_give(m, b);
    else weft_block_cache(m, b);
    if (m->limit && !m->hold && m->live + m->cached > m->limit) shrink(m, m->live < m->limit ? m->limit - m->live : 0);
}

/* ---- scratch of kernels ------------------------------------------------------------------------------------------ */

void *weft_scratch_alloc(void *owner, size_t bytes) {
    weft_memory *m = owner;
    weft_block *b = weft_block_take(m, bytes);
    if (!b) return NULL;
    weft_list_add(&m->scratch, b);
    return b->data;
}

void weft_scratch_release(void *owner, void *p, size_t bytes) {
    weft_memory *m = owner;
    (void)bytes;
    for (weft_block *b = m->scratch; b; b = b->next) {
        if (b->data != p) continue;
        weft_list_remove(&m->scratch, b);
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
    if (weft_on_host(c) || !c->kernels)
        return weft_fail(c, WEFT_E_MEMORY, "%s: needs %s more than the %s in use, and the system has no more: "
                         "use a smaller picture or batch", who, need, live);
    char free_text[32], total_text[32];
    size_t available = 0, total = 0;
    c->kernels->mem_info(c->env.stream, &available, &total);
    return weft_fail(c, WEFT_E_MEMORY, "%s: needs %s more than the %s in use, and of the device's %s only %s are free: use a smaller "
                     "picture or batch, a smaller --dtype, or free the device of other programs", who, need, live,
                     weft_bytes_text(total, total_text), weft_bytes_text(available, free_text));
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
