/* The queue of batches: a ring of slots, filled by threads item by item, emptied in order.
 *
 * The caller's thread alone plans (which samples are in which slot) and delivers; a thread takes the next item of the
 * first batch that still has one, works on it in a context of its own without the lock, and counts it off. Without
 * threads the caller works the items off when it wants the batch.
 */
#include "nodes/data/dataset_internal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static data_slot *slot_at(weft_dataset *d, int64_t number) { return &d->slots[number % d->o.depth]; }

/* ---- items ------------------------------------------------------------------------------------------------------- */

/* Item k of the slot: pixels and caption, or what was wrong. */
static void work_off(weft_dataset *d, weft_ctx *lane, data_slot *s, int64_t k) {
    const weft_bucket size = d->buckets[s->bucket];
    float *out = s->pixels + k * size.height * size.width * d->o.channels;
    if (data_picture(lane, d, s->epoch, s->samples[k], out)) {
        s->captions[k] = data_caption(d, s->epoch, s->samples[k]);
        s->status[k] = s->captions[k] ? WEFT_OK : WEFT_E_MEMORY;
        return;
    }
    s->status[k] = weft_error(lane);
    s->message[k] = strdup(weft_message(lane));
    weft_clear(lane);
}

/* The next item for a thread; false: there is none now. With the lock. */
static bool take_item(weft_dataset *d, data_slot **s, int64_t *k) {
    for (; d->hand < d->tail; d->hand++) {
        *s = slot_at(d, d->hand);
        if ((*s)->next < (*s)->count) {
            *k = (*s)->next++;
            d->running++;
            return true;
        }
    }
    return false;
}

struct worker { weft_dataset *d; weft_ctx *lane; };

static void *run_worker(void *user) {
    struct worker w = *(struct worker *)user;
    weft_dataset *d = w.d;
    data_slot *s;
    int64_t k;
    free(user);
    pthread_mutex_lock(&d->lock);
    while (!d->stop) {
        if (!take_item(d, &s, &k)) {
            pthread_cond_wait(&d->work, &d->lock);
            continue;
        }
        pthread_mutex_unlock(&d->lock);
        double start = now();
        work_off(d, w.lane, s, k);
        double took = now() - start;
        pthread_mutex_lock(&d->lock);
        d->stats.busy += took;
        d->running--;
        if (!--s->remaining || !d->running) pthread_cond_signal(&d->done);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

/* ---- slots ------------------------------------------------------------------------------------------------------- */

static void empty_slot(data_slot *s) {
    for (int64_t k = 0; k < s->count; k++) {
        free(s->captions[k]);
        free(s->message[k]);
        s->captions[k] = s->message[k] = NULL;
    }
    s->count = 0;
}

static void plan_slot(weft_dataset *d, data_slot *s) {
    data_cut cut = data_plan_cut(d, d->plan_position);
    s->epoch = d->plan.epoch;
    s->position = d->plan_position;
    s->bucket = cut.bucket;
    s->last = d->plan_position + 1 == d->batches;
    s->count = s->remaining = cut.count;
    s->next = 0;
    memcpy(s->samples, d->plan.sorted + cut.from, (size_t)cut.count * sizeof *s->samples);
    if (++d->plan_position < d->batches) return;
    data_plan_make(d, d->plan.epoch + 1);
    d->plan_position = 0;
}

void data_queue_fill(weft_dataset *d) {
    /* The threads know of a slot once tail has passed it, so it is written without the lock. */
    while (d->tail - d->head < d->o.depth) {
        plan_slot(d, slot_at(d, d->tail));
        pthread_mutex_lock(&d->lock);
        d->tail++;
        pthread_cond_broadcast(&d->work);
        pthread_mutex_unlock(&d->lock);
    }
}

data_slot *data_queue_wait(weft_dataset *d) {
    data_slot *s = slot_at(d, d->head);
    double start = now();
    bool ready = true;
    for (; !d->thread_count && s->remaining; ready = false) work_off(d, d->lanes[0], s, --s->remaining);
    pthread_mutex_lock(&d->lock);
    for (; s->remaining; ready = false) pthread_cond_wait(&d->done, &d->lock);
    if (!d->thread_count) d->stats.busy += now() - start;
    if (!ready) {
        d->stats.stalls++;
        d->stats.waited += now() - start;
    }
    pthread_mutex_unlock(&d->lock);
    return s;
}

void data_queue_release(weft_dataset *d) {
    empty_slot(slot_at(d, d->head));
    pthread_mutex_lock(&d->lock);
    if (d->hand == d->head) d->hand++;
    d->head++;
    d->stats.batches++;
    pthread_mutex_unlock(&d->lock);
}

/* Nothing more is given out, and what is out has come back. */
static void quiesce(weft_dataset *d) {
    pthread_mutex_lock(&d->lock);
    d->hand = d->tail;
    while (d->running) pthread_cond_wait(&d->done, &d->lock);
    pthread_mutex_unlock(&d->lock);
}

void data_queue_flush(weft_dataset *d) {
    quiesce(d);
    for (int64_t n = d->head; n < d->tail; n++) empty_slot(slot_at(d, n));
    d->head = d->tail;
}

weft_data_stats weft_dataset_stats(weft_dataset *d) {
    pthread_mutex_lock(&d->lock);
    weft_data_stats s = d->stats;
    for (int64_t n = d->head; n < d->tail; n++) s.ready += !slot_at(d, n)->remaining;
    pthread_mutex_unlock(&d->lock);
    s.left_out = d->left_out;
    s.depth = d->o.depth;
    return s;
}

/* ---- birth and end ----------------------------------------------------------------------------------------------- */

static bool new_slot(weft_dataset *d, data_slot *s, size_t pixels) {
    const size_t batch = (size_t)d->o.batch;
    s->samples = calloc(batch, sizeof *s->samples);
    s->captions = calloc(batch, sizeof *s->captions);
    s->status = calloc(batch, sizeof *s->status);
    s->message = calloc(batch, sizeof *s->message);
    s->pixels = calloc(batch * pixels, sizeof *s->pixels);
    return s->samples && s->captions && s->status && s->message && s->pixels;
}

static bool start_thread(weft_ctx *c, weft_dataset *d) {
    struct worker *w = malloc(sizeof *w);
    if (!w) return data_no_memory(c);
    *w = (struct worker){ d, d->lanes[d->thread_count] };
    int fault = pthread_create(&d->threads[d->thread_count], NULL, run_worker, w);
    if (!fault) {
        d->thread_count++;
        return true;
    }
    free(w);
    weft_fail(c, WEFT_E_MEMORY, "data set: a thread cannot be started: %s", strerror(fault));
    return false;
}

bool data_queue_start(weft_ctx *c, weft_dataset *d) {
    size_t pixels = 0;
    for (int b = 0; b < d->bucket_count; b++) {
        size_t n = (size_t)(d->buckets[b].width * d->buckets[b].height * d->o.channels);
        if (n > pixels) pixels = n;
    }
    d->slots = calloc((size_t)d->o.depth, sizeof *d->slots);
    d->threads = calloc((size_t)d->o.threads + 1, sizeof *d->threads);
    if (!d->slots || !d->threads) return data_no_memory(c);
    for (int i = 0; i < d->o.depth; i++)
        if (!new_slot(d, &d->slots[i], pixels)) return data_no_memory(c);
    data_plan_make(d, 0);
    data_queue_fill(d);
    /* The process's signals are for its first thread. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = true;
    while (started && d->thread_count < d->o.threads) started = start_thread(c, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

void data_queue_stop(weft_dataset *d) {
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_broadcast(&d->work);
    pthread_mutex_unlock(&d->lock);
    for (int i = 0; i < d->lane_count; i++) weft_cancel(d->lanes[i]);
    for (int i = 0; i < d->thread_count; i++) pthread_join(d->threads[i], NULL);
    for (int64_t i = 0; d->slots && i < d->o.depth; i++) {
        data_slot *s = &d->slots[i];
        if (s->captions && s->message) empty_slot(s);
        free(s->samples);
        free(s->pixels);
        free(s->captions);
        free(s->status);
        free(s->message);
    }
    free(d->slots);
    free(d->threads);
}
