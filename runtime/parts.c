/* Large blocks of host memory: parts of chunks, found by best fit, divided and joined again.
 *
 * A chunk is a range of addresses that the system backs with pages only where they are touched. Its parts lie side by
 * side: live, cached (free, with pages) or bare (free, without); free neighbours of one kind are joined. So tensors of
 * one size leave room for tensors of another, what is held stays close to what is live, and free pages can always be
 * given back (madvise), wherever they lie: fragments waste addresses, not memory.
 */
#include <sys/mman.h>
#include "runtime/internal.h"

typedef struct weft_chunk {
    void *base;                 /* as the back end gave it; the parts begin at the next page */
    size_t size;
} weft_chunk;

static const size_t least_chunk = (size_t)64 << 20, most_chunk = (size_t)4 << 30;

/* ---- chunks ------------------------------------------------------------------------------------------------------ */

static bool add_chunk(weft_memory *m, size_t size) {
    weft_chunk *chunk = weft_host_alloc(sizeof *chunk);
    weft_block *b = weft_host_alloc(sizeof *b);
    void *base = chunk && b ? m->os_alloc(m->os_user, size + WEFT_PAGE) : NULL;
    if (!base) {
        weft_host_free(chunk);
        weft_host_free(b);
        return false;
    }
    *chunk = (weft_chunk){ base, size + WEFT_PAGE };
    uintptr_t first = ((uintptr_t)base + WEFT_PAGE - 1) / WEFT_PAGE * WEFT_PAGE;
    *b = (weft_block){ .data = (char *)first, .size = size, .state = WEFT_BLOCK_BARE, .chunk = chunk };
    weft_list_add(&m->parts, b);
    m->reserved += size;
    return true;
}

/* A chunk is twice what is asked for, and as large as all before it, so that there are few. */
bool weft_part_reserve(weft_memory *m, size_t size) {
    size_t wish = m->reserved > 2 * size ? m->reserved : 2 * size;
    if (wish < least_chunk) wish = least_chunk;
    if (wish > most_chunk) wish = most_chunk;
    return (wish > size && add_chunk(m, wish)) || add_chunk(m, size);
}

/* Gives the chunk of a free part back where nothing else of it is in use. */
static void remove_if_bare(weft_memory *m, weft_block *b) {
    if (b->left || b->right || b->state != WEFT_BLOCK_BARE) return;
    weft_list_remove(&m->parts, b);
    m->reserved -= b->size;
    m->os_free(m->os_user, b->chunk->base, b->chunk->size);
    weft_host_free(b->chunk);
    weft_host_free(b);
}

/* ---- dividing and joining ---------------------------------------------------------------------------------------- */

/* Cuts a free part; `rest`, a struct not in use, becomes what lies right of `size`. */
static void divide(weft_memory *m, weft_block *b, size_t size, weft_block *rest) {
    *rest = *b;
    rest->data += size;
    rest->size -= size;
    rest->left = b;
    if (rest->right) rest->right->left = rest;
    b->right = rest;
    b->size = size;
    weft_list_add(&m->parts, rest);
}

/* Makes b one with its free neighbour to the right. */
static void absorb_right(weft_memory *m, weft_block *b) {
    weft_block *r = b->right;
    b->size += r->size;
    b->right = r->right;
    if (b->right) b->right->left = b;
    weft_list_remove(&m->parts, r);
    weft_host_free(r);
}

/* Joins a free part with neighbours of its kind; returns what it is then part of. */
static weft_block *join(weft_memory *m, weft_block *b) {
    if (b->right && b->right->state == b->state) absorb_right(m, b);
    if (!b->left || b->left->state != b->state) return b;
    b = b->left;
    b->stamp = b->right->stamp;
    absorb_right(m, b);
    return b;
}

/* ---- finding ----------------------------------------------------------------------------------------------------- */

/* What a part of this size would reuse if it began where b does, and the room that it would cut; false where it would
 * run into a live one. */
static bool fits(const weft_block *b, size_t size, size_t *reused, size_t *room) {
    *reused = *room = 0;
    for (; b && b->state != WEFT_BLOCK_LIVE && *room < size; b = b->right) {
        size_t here = b->size < size - *room ? b->size : size - *room;
        if (b->state == WEFT_BLOCK_CACHED) *reused += here;
        *room += b->size;
    }
    return *room >= size;
}

bool weft_part_find(weft_memory *m, size_t size, weft_place *place) {
    size_t reused, room, least = 0;
    bool found = false;
    for (weft_block *b = m->parts; b; b = b->next) {
        if (!fits(b, size, &reused, &room)) continue;
        if (found && (reused < place->reused || (reused == place->reused && room >= least))) continue;
        *place = (weft_place){ b, reused };
        least = room;
        found = true;
    }
    return found;
}

/* ---- taking and giving ------------------------------------------------------------------------------------------- */

weft_block *weft_part_take(weft_memory *m, const weft_place *place, size_t size) {
    weft_block *b = place->first, *rest = weft_host_alloc(sizeof *rest);
    if (!rest) {
        remove_if_bare(m, b);
        return NULL;
    }
    while (b->size < size) {
        if (b->right->size > size - b->size) {
            divide(m, b->right, size - b->size, rest);
            rest = NULL;
        }
        absorb_right(m, b);
    }
    if (b->size > size) {
        divide(m, b, size, rest);
        rest = NULL;                        /* one cut at most, here or above */
    }
    weft_host_free(rest);
    weft_list_remove(&m->parts, b);
    b->state = WEFT_BLOCK_LIVE;
    m->cached -= place->reused;
    return b;
}

void weft_part_give(weft_memory *m, weft_block *b) {
    b->state = WEFT_BLOCK_CACHED;
    b->stamp = ++m->clock;
    m->cached += b->size;
    weft_list_add(&m->parts, b);
    join(m, b);
}

weft_block *weft_part_oldest(const weft_memory *m) {
    weft_block *oldest = NULL;
    for (weft_block *b = m->parts; b; b = b->next)
        if (b->state == WEFT_BLOCK_CACHED && (!oldest || b->stamp < oldest->stamp)) oldest = b;
    return oldest;
}

void weft_part_drop(weft_memory *m, weft_block *b, size_t bytes) {
    bytes = bytes < b->size ? (bytes + WEFT_PAGE - 1) / WEFT_PAGE * WEFT_PAGE : b->size;
    weft_block *rest = bytes < b->size ? weft_host_alloc(sizeof *rest) : NULL;
    if (rest) {                             /* without memory for it, all of b goes */
        divide(m, b, b->size - bytes, rest);
        b = rest;
    }
    madvise(b->data, b->size, MADV_DONTNEED);
    m->cached -= b->size;
    b->state = WEFT_BLOCK_BARE;
    b = join(m, b);
    remove_if_bare(m, b);
}
