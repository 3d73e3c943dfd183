/* Chance and order. Every draw is a block of Philox4x32-10 whose counter says what it is for: key = the seed, counter =
 * index (of a sample, or a place in the permutation), sequence = epoch · 2²⁴ + purpose · 2²⁰ + number of the block.
 * Nothing is carried from one draw to another, so the order in which they are made plays no part.
 *
 * The permutation of an epoch is Fisher and Yates's. With buckets, each fills its batches in that order, and the
 * batches are then put in a random order of their own.
 */
#include "nodes/data/dataset_internal.h"

#include <stdlib.h>
#include <string.h>
#include "runtime/rng.h"

data_draw data_draw_for(uint64_t seed, uint64_t epoch, uint64_t index, data_purpose purpose) {
    return (data_draw){ .seed = seed, .index = index, .epoch = epoch, .purpose = purpose };
}

static uint32_t word(data_draw *r) {
    if (!r->left) {
        uint64_t sequence = r->epoch << 24 | (uint64_t)r->purpose << 20 | (uint64_t)(r->block++ & 0xfffff);
        weft_philox(r->seed, r->index, sequence, r->word);
        r->left = 4;
    }
    return r->word[4 - r->left--];
}

uint64_t data_below(data_draw *r, uint64_t n) {
    uint64_t high = word(r), low = word(r);
    return (uint64_t)((unsigned __int128)(high << 32 | low) * n >> 64);
}

double data_uniform(data_draw *r) { return word(r) * 0x1p-32; }

/* ---- an epoch ---------------------------------------------------------------------------------------------------- */

static int bucket_of(const weft_dataset *d, uint32_t sample) {
    return d->list.count ? d->list.items[d->samples[sample]].bucket : 0;
}

/* Batches that n samples of one bucket make. */
static int64_t batches_of(const weft_dataset *d, int64_t n) {
    return d->o.drop_last ? n / d->o.batch : (n + d->o.batch - 1) / d->o.batch;
}

bool data_plan_new(weft_dataset *d) {
    data_plan *p = &d->plan;
    const size_t n = (size_t)d->length + 1;
    p->begin = calloc((size_t)d->bucket_count + 1, sizeof *p->begin);
    p->order = calloc(n, sizeof *p->order);
    p->sorted = calloc(n, sizeof *p->sorted);
    if (!p->begin || !p->order || !p->sorted) return false;
    for (int64_t i = 0; i < d->length; i++) p->begin[bucket_of(d, (uint32_t)i)]++;
    d->batches = 0;
    for (int b = 0; b < d->bucket_count; b++) d->batches += batches_of(d, p->begin[b]);
    p->cuts = calloc((size_t)d->batches + 1, sizeof *p->cuts);
    return p->cuts;
}

void data_plan_free(data_plan *p) {
    free(p->begin);
    free(p->order);
    free(p->sorted);
    free(p->cuts);
    *p = (data_plan){ 0 };
}

/* 0 … n − 1 in random order. */
static void permute(const weft_dataset *d, int64_t epoch, data_purpose purpose, uint32_t *order, int64_t n) {
    for (int64_t i = 0; i < n; i++) order[i] = (uint32_t)i;
    for (int64_t i = n - 1; i > 0 && d->o.shuffle; i--) {
        data_draw r = data_draw_for(d->o.seed, (uint64_t)epoch, (uint64_t)i, purpose);
        int64_t j = (int64_t)data_below(&r, (uint64_t)i + 1);
        uint32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

/* The samples bucket by bucket, each bucket in the order of p->order; begin[b] is where bucket b begins. */
static void sort_by_bucket(const weft_dataset *d, data_plan *p) {
    int64_t *begin = p->begin;
    memset(begin, 0, (size_t)(d->bucket_count + 1) * sizeof *begin);
    for (int64_t i = 0; i < d->length; i++) begin[bucket_of(d, p->order[i]) + 1]++;
    for (int b = 0; b < d->bucket_count; b++) begin[b + 1] += begin[b];
    for (int64_t i = 0; i < d->length; i++) p->sorted[begin[bucket_of(d, p->order[i])]++] = p->order[i];
    for (int b = d->bucket_count; b > 0; b--) begin[b] = begin[b - 1];
    begin[0] = 0;
}

void data_plan_make(weft_dataset *d, int64_t epoch) {
    data_plan *p = &d->plan;
    int64_t n = 0;
    if (p->made && p->epoch == epoch) return;
    permute(d, epoch, DATA_ORDER, p->order, d->length);
    sort_by_bucket(d, p);
    for (int b = 0; b < d->bucket_count; b++) {
        const int64_t end = p->begin[b + 1];
        for (int64_t at = p->begin[b], left = batches_of(d, end - at); left; left--, at += d->o.batch)
            p->cuts[n++] = (data_cut){ b, at, end - at < d->o.batch ? end - at : d->o.batch };
    }
    /* From now on `order` is that of the batches. */
    if (d->bucket_count > 1) permute(d, epoch, DATA_BATCHES, p->order, n);
    else for (int64_t i = 0; i < n; i++) p->order[i] = (uint32_t)i;
    p->epoch = epoch;
    p->made = true;
}

data_cut data_plan_cut(const weft_dataset *d, int64_t position) { return d->plan.cuts[d->plan.order[position]]; }
