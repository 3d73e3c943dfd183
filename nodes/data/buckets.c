/* Aspect ratio buckets (NovelAI's, as kohya's scripts lay them out): for each width from `least` to `most` in steps,
 * the largest multiple of the step as height with width·height ≤ base², and the same turned; and the square. A picture
 * goes to the bucket whose width/height differs least from its own; of equals to the first in the order of (width,
 * height).
 */
#include "nodes/data/dataset_internal.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_SIDE = 16384, MOST_BUCKETS = 4096 };

static int bucket_order(const void *a, const void *b) {
    const weft_bucket *x = a, *y = b;
    if (x->width != y->width) return x->width < y->width ? -1 : 1;
    return (x->height > y->height) - (x->height < y->height);
}

static bool side_is_good(int64_t side) { return side >= 1 && side <= MOST_SIDE; }

static void add(weft_dataset *d, int64_t width, int64_t height) {
    for (int i = 0; i < d->bucket_count; i++)
        if (d->buckets[i].width == width && d->buckets[i].height == height) return;
    d->buckets[d->bucket_count++] = (weft_bucket){ width, height };
}

static void make_list(weft_dataset *d) {
    const weft_dataset_options *o = &d->o;
    const int64_t base = o->bucket_base, step = o->bucket_step, area = base * base;
    add(d, base / step * step, base / step * step);
    for (int64_t width = o->bucket_least; width <= o->bucket_most; width += step) {
        int64_t height = area / width / step * step;
        if (height > o->bucket_most) height = o->bucket_most;
        if (height < o->bucket_least) continue;
        add(d, width, height);
        add(d, height, width);
    }
    qsort(d->buckets, (size_t)d->bucket_count, sizeof *d->buckets, bucket_order);
}

/* Fills in what the options leave open; false with the error set. */
static bool check(weft_ctx *c, weft_dataset_options *o) {
    if (!o->bucket_least) o->bucket_least = o->bucket_base / 2 / o->bucket_step * o->bucket_step;
    if (!o->bucket_most) o->bucket_most = o->bucket_base * 2 / o->bucket_step * o->bucket_step;
    const bool good = side_is_good(o->bucket_base) && o->bucket_least >= o->bucket_step &&
        o->bucket_most <= MOST_SIDE && o->bucket_least <= o->bucket_base && o->bucket_base <= o->bucket_most &&
        o->bucket_least % o->bucket_step == 0 && o->bucket_most % o->bucket_step == 0 &&
        (o->bucket_most - o->bucket_least) / o->bucket_step < MOST_BUCKETS / 2;
    if (!good)
        weft_fail(c, WEFT_E_ARGUMENT, "data set: buckets of base %lld, step %lld, sides %lld to %lld: the sides are "
                  "multiples of the step around the base, at most %d", (long long)o->bucket_base,
                  (long long)o->bucket_step, (long long)o->bucket_least, (long long)o->bucket_most, MOST_SIDE);
    return good;
}

bool data_make_buckets(weft_ctx *c, weft_dataset *d) {
    weft_dataset_options *o = &d->o;
    if (o->bucket_step < 1 || o->bucket_count < 0 || o->bucket_count > MOST_BUCKETS) {
        weft_fail(c, WEFT_E_ARGUMENT, "data set: a bucket step of %lld and %d buckets; a step is at least 1, and there "
                  "are at most %d", (long long)o->bucket_step, o->bucket_count, MOST_BUCKETS);
        return false;
    }
    if (!o->bucket_count && o->bucket_base && !check(c, o)) return false;
    if (!(d->buckets = calloc(MOST_BUCKETS + 4, sizeof *d->buckets))) return data_no_memory(c);
    if (o->bucket_count)
        for (int i = 0; i < o->bucket_count; i++) add(d, o->buckets[i].width, o->buckets[i].height);
    else if (o->bucket_base) make_list(d);
    else add(d, o->width, o->height);
    for (int i = 0; i < d->bucket_count; i++)
        if (!side_is_good(d->buckets[i].width) || !side_is_good(d->buckets[i].height)) {
            weft_fail(c, WEFT_E_ARGUMENT, "data set: pictures of %lld × %lld; a side is 1 to %d",
                      (long long)d->buckets[i].width, (long long)d->buckets[i].height, MOST_SIDE);
            return false;
        }
    return true;
}

int data_choose_bucket(const weft_dataset *d, int64_t height, int64_t width) {
    double ratio = (double)width / (double)height, least = INFINITY;
    int best = 0;
    for (int i = 0; i < d->bucket_count; i++) {
        double off = fabs((double)d->buckets[i].width / (double)d->buckets[i].height - ratio);
        if (off < least) best = i, least = off;
    }
    return best;
}
