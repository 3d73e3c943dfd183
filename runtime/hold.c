/* The memory of recorded work: see weft_hold in internal.h.
 *
 * What a recording computes in stays its own for as long as it is there, so it had better be little. Small blocks are whole and found
 * again by their size; large ones are parts of chunks, found by best fit, divided and joined again. Chunks grow with what is held.
 *
 * No memory can be given back while work is recorded: what a request cannot be met from is had anew, and nothing is given up for it.
 */
#include "runtime/internal.h"

static const size_t least_chunk = (size_t)1 << 20, most_chunk = (size_t)16 << 20;

static void add_free(weft_memory *m, weft_hold *h, weft_block *b) {
    weft_list_add(&h->free, b);
    b->state = WEFT_BLOCK_CACHED;
    h->free_bytes += b->size;
    m->cached += b->size;
}

static void take_free(weft_memory *m, weft_hold *h, weft_block *b) {
    weft_list_remove(&h->free, b);
    b->state = WEFT_BLOCK_LIVE;
    h->free_bytes -= b->size;
    m->cached -= b->size;
}

/* ---- taking ------------------------------------------------------------------------------------------------------ */

/* A chunk of this size, all of it free; NULL where limit or system have no room for it. */
static weft_block *add_chunk(weft_memory *m, weft_hold *h, size_t size) {
    if (m->limit && (size > m->limit || m->live + m->cached > m->limit - size)) return NULL;
    weft_block *part = weft_host_alloc(sizeof *part), *whole = part ? weft_block_create(m, size) : NULL;
    if (!whole) return weft_host_free(part), NULL;
    *part = (weft_block){ .data = whole->data, .size = size, .hold = h };
    weft_list_add(&h->wholes, whole);
    h->bytes += size;
    add_free(m, h, part);
    return part;
}

static weft_block *grow(weft_memory *m, weft_hold *h, size_t size) {
    size_t wish = h->bytes < least_chunk ? least_chunk : h->bytes > most_chunk ? most_chunk : h->bytes / WEFT_PAGE * WEFT_PAGE;
    weft_block *b = size >= WEFT_LARGE && wish > size ? add_chunk(m, h, wish) : NULL;
    return b ? b : add_chunk(m, h, size);
}

weft_block *weft_hold_take(weft_memory *m, size_t size) {
    weft_hold *h = m->hold;
    weft_block *best = NULL, *rest;
    for (weft_block *b = h->free; b; b = b->next)
        if ((b->size == size || (size >= WEFT_LARGE && b->size > size)) && (!best || b->size < best->size)) best = b;
    if (!best && !(best = grow(m, h, size))) return NULL;
    if (best->size > size) {
        if (!(rest = weft_host_alloc(sizeof *rest))) return NULL;
        take_free(m, h, best);
        *rest = (weft_block){ .data = best->data + size, .size = best->size - size, .hold = h, .left = best, .right = best->right };
        if (rest->right) rest->right->left = rest;
        best->right = rest;
        best->size = size;
        add_free(m, h, rest);
    } else {
        take_free(m, h, best);
    }
    return best;
}

/* ---- giving ------------------------------------------------------------------------------------------------------ */

/* b and its right neighbour, which is free, are one; b is not in the list. */
static void absorb_right(weft_memory *m, weft_hold *h, weft_block *b) {
    weft_block *r = b->right;
    take_free(m, h, r);
    b->size += r->size;
    b->right = r->right;
    if (b->right) b->right->left = b;
    weft_host_free(r);
}

void weft_hold_give(weft_memory *m, weft_block *b) {
    weft_hold *h = m->hold;
    weft_block *left = b->left;
    if (b->right && b->right->state == WEFT_BLOCK_CACHED) absorb_right(m, h, b);
    add_free(m, h, b);
    if (!left || left->state != WEFT_BLOCK_CACHED) return;
    take_free(m, h, left);
    absorb_right(m, h, left);
    add_free(m, h, left);
}

/* ---- open, at rest, in use --------------------------------------------------------------------------------------- */

void weft_hold_open(weft_memory *m, weft_hold *h) {
    const size_t lent = h->bytes - h->free_bytes;
    m->live += lent;
    m->cached -= lent;
    m->hold = h;
}

void weft_hold_rest(weft_memory *m, weft_hold *h) {
    const size_t lent = h->bytes - (m->hold == h ? h->free_bytes : 0);
    m->live -= lent;
    m->cached += lent;
    if (m->hold == h) m->hold = NULL;
}

void weft_hold_use(weft_memory *m, weft_hold *h) {
    m->live += h->bytes;
    m->cached -= h->bytes;
    if (m->live > m->peak) m->peak = m->live;
    if (m->live > m->high) m->high = m->live;
}

void weft_hold_end(weft_memory *m, weft_hold *h) {
    for (weft_block *b; (b = h->free);) {
        take_free(m, h, b);
        weft_host_free(b);
    }
    for (weft_block *whole; (whole = h->wholes);) {
        weft_list_remove(&h->wholes, whole);
        weft_block_cache(m, whole);
    }
    if (m->hold == h) m->hold = NULL;
    *h = (weft_hold){ 0 };
}
