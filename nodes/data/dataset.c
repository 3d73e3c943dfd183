/* Opening a data set, its batches, its state. See dataset.h; the parts are listing.c, order.c, transform.c, queue.c. */
#include "nodes/data/dataset_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"

enum { MOST_SAMPLES = 1 << 30, MOST_BATCH = 1 << 16, MOST_THREADS = 256, MOST_DEPTH = 1024 };

weft_dataset_options weft_dataset_defaults(void) {
    return (weft_dataset_options){ .resize = WEFT_PIL_LANCZOS, .channels = 3, .bucket_step = 64, .batch = 1,
                                   .threads = 2, .depth = 4 };
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

static bool is_probability(double p) { return p >= 0 && p <= 1; }
static bool is_strength(double v) { return v >= 0 && v <= 100; }

static bool check_options(weft_ctx *c, const weft_dataset_options *o) {
    const char *wrong =
        !o->folder == !o->images ? "either a folder or pictures in memory are wanted" :
        o->repeats && !o->folder ? "repeats are of folders" :
        o->channels != 3 && o->channels != 1 ? "channels are 3 or 1" :
        o->resize < WEFT_PIL_BILINEAR || o->resize > WEFT_PIL_LANCZOS ?
            "pictures are scaled by bilinear, bicubic or lanczos" :
        !is_probability(o->flip) || !is_probability(o->caption_dropout) ? "a probability is 0 to 1" :
        !is_strength(o->brightness) || !is_strength(o->contrast) || !is_strength(o->saturation) ?
            "brightness, contrast and saturation are 0 to 100" :
        o->batch < 1 || o->batch > MOST_BATCH ? "a batch has 1 to 65536 pictures" :
        o->threads < 0 || o->threads > MOST_THREADS ? "there are 0 to 256 threads" :
        o->depth < 1 || o->depth > MOST_DEPTH ? "1 to 1024 batches are made ahead" :
        o->keep_tags < 0 ? "keep_tags is 0 or more" : NULL;
    for (int i = 0; i < o->template_count && !wrong; i++)
        if (!strstr(o->templates[i], "{}")) wrong = "a template has no {} for the caption";
    if (wrong) weft_fail(c, WEFT_E_ARGUMENT, "data set: %s", wrong);
    return !wrong;
}

static void *copy_of(const void *data, size_t bytes) {
    void *copy = malloc(bytes + 1);
    if (copy && bytes) memcpy(copy, data, bytes);
    return copy;
}

static bool copy_options(weft_ctx *c, weft_dataset *d, const weft_dataset_options *o) {
    d->o = *o;
    d->o.images = NULL;
    d->o.captions = NULL;
    d->o.folder = o->folder ? strdup(o->folder) : NULL;
    d->o.buckets = copy_of(o->buckets, (size_t)(o->bucket_count > 0 ? o->bucket_count : 0) * sizeof *o->buckets);
    d->o.template_count = 0;
    d->o.templates = calloc((size_t)o->template_count + 1, sizeof *o->templates);
    if (!d->o.buckets || !d->o.templates || !d->o.folder != !o->folder) return data_no_memory(c);
    for (; d->o.template_count < o->template_count; d->o.template_count++) {
        char *text = strdup(o->templates[d->o.template_count]);
        if (!text) return data_no_memory(c);
        ((const char **)d->o.templates)[d->o.template_count] = text;
    }
    return true;
}

/* ---- what there is ----------------------------------------------------------------------------------------------- */

weft_ctx *data_quiet(weft_dataset *d) { return d->lanes[0]; }

/* The tensor's pictures and their captions become the data set's own. */
static bool list_memory(weft_ctx *c, weft_dataset *d, const weft_dataset_options *o) {
    weft_tensor *x = o->images;
    const int64_t n = weft_dim(x, 0), h = weft_dim(x, 1), w = weft_dim(x, 2);
    const weft_dtype type = weft_type(x);
    char text[128];
    if (weft_rank(x) != 4 || n < 1 || n > MOST_SAMPLES || h < 1 || w < 1 || h > 16384 || w > 16384 ||
        weft_dim(x, 3) != o->channels || (type != WEFT_U8 && type != WEFT_F32)) {
        weft_fail(c, WEFT_E_SHAPE, "data set: pictures in memory are (number, height, width, %d) u8 or f32, not %s",
                  o->channels, weft_describe(x, text, sizeof text));
        return false;
    }
    const size_t bytes = (size_t)weft_count(x) * weft_dtype_size(type);
    d->memory = malloc(bytes);
    d->list.items = calloc((size_t)n, sizeof *d->list.items);
    if (!d->memory || !d->list.items) return data_no_memory(c);
    if (weft_read(c, x, d->memory, bytes)) return false;
    d->memory_type = type;
    memcpy(d->memory_shape, weft_shape(x), sizeof d->memory_shape);
    int bucket = data_choose_bucket(d, h, w);
    for (; d->list.count < n; d->list.count++) {
        char *caption = strdup(o->captions ? o->captions[d->list.count] : "");
        if (!caption) return data_no_memory(c);
        d->list.items[d->list.count] = (data_item){ .caption = caption, .repeats = 1, .bucket = bucket };
    }
    return true;
}

/* One entry for each repetition of each picture. */
static bool make_samples(weft_ctx *c, weft_dataset *d) {
    for (int64_t i = 0; i < d->list.count && d->length <= MOST_SAMPLES; i++) d->length += d->list.items[i].repeats;
    if (d->length > MOST_SAMPLES) {
        weft_fail(c, WEFT_E_ARGUMENT, "data set: more than %d samples with all repeats", MOST_SAMPLES);
        return false;
    }
    int64_t n = 0;
    d->samples = calloc((size_t)d->length, sizeof *d->samples);
    for (int64_t i = 0; d->samples && i < d->list.count; i++)
        for (int64_t k = 0; k < d->list.items[i].repeats; k++) d->samples[n++] = (uint32_t)i;
    if (!d->samples || !data_plan_new(d)) return data_no_memory(c);
    if (!d->batches)
        weft_fail(c, WEFT_E_ARGUMENT, "data set: %lld samples make no whole batch of %lld, and drop_last leaves the "
                  "rest", (long long)d->length, (long long)d->o.batch);
    return d->batches;
}

/* Over all that the order of the batches follows from, but the seed. */
static uint64_t signature_of(const weft_dataset *d) {
    weft_hash h = { 0, 0 };
    const uint64_t facts[] = { (uint64_t)d->length, (uint64_t)d->o.batch, d->o.shuffle, d->o.drop_last };
    weft_hash_bytes(&h, facts, sizeof facts);
    weft_hash_bytes(&h, d->buckets, (size_t)d->bucket_count * sizeof *d->buckets);
    for (int64_t i = 0; i < d->list.count; i++) {
        const data_item *item = &d->list.items[i];
        weft_hash_text(&h, item->path ? item->path : "");
        weft_hash_word(&h, (uint64_t)item->repeats);
        weft_hash_word(&h, (uint64_t)item->bucket);
    }
    return h.a ^ h.b;
}

/* ---- birth and end ----------------------------------------------------------------------------------------------- */

static bool make_lanes(weft_ctx *c, weft_dataset *d) {
    int n = d->o.threads ? d->o.threads : 1;
    d->lanes = calloc((size_t)n, sizeof *d->lanes);
    if (!d->lanes) return data_no_memory(c);
    for (; d->lane_count < n; d->lane_count++) {
        weft_ctx *lane = weft_ctx_new(&(weft_options){ .device = "cpu", .threads = 1 });
        if (!lane) return data_no_memory(c);
        d->lanes[d->lane_count] = lane;
    }
    return true;
}

static bool open_parts(weft_ctx *c, weft_dataset *d, const weft_dataset_options *o) {
    if (!copy_options(c, d, o) || !make_lanes(c, d) || !data_make_buckets(c, d)) return false;
    if (!(o->folder ? data_list_folder(c, d) : list_memory(c, d, o)) || !make_samples(c, d)) return false;
    d->signature = signature_of(d);
    d->indices = calloc((size_t)d->o.batch, sizeof *d->indices);
    d->captions = calloc((size_t)d->o.batch, sizeof *d->captions);
    if (!o->threads) d->o.depth = 1;        /* nothing is made ahead */
    return d->indices && d->captions ? data_queue_start(c, d) : data_no_memory(c);
}

weft_dataset *weft_dataset_open(weft_ctx *c, const weft_dataset_options *o) {
    if (!weft_ok(c) || !check_options(c, o)) return NULL;
    weft_dataset *d = calloc(1, sizeof *d);
    if (!d) {
        data_no_memory(c);
        return NULL;
    }
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->work, NULL);
    pthread_cond_init(&d->done, NULL);
    if (open_parts(c, d, o)) return d;
    weft_dataset_close(d);
    return NULL;
}

static void drop_captions(weft_dataset *d) {
    for (int64_t i = 0; i < d->caption_count; i++) free(d->captions[i]);
    d->caption_count = 0;
}

void weft_dataset_close(weft_dataset *d) {
    if (!d) return;
    data_queue_stop(d);
    for (int i = 0; i < d->lane_count; i++) weft_ctx_free(d->lanes[i]);
    for (int64_t i = 0; i < d->list.count; i++) {
        free(d->list.items[i].path);
        free(d->list.items[i].caption);
    }
    for (int i = 0; i < d->o.template_count; i++) free((void *)d->o.templates[i]);
    drop_captions(d);
    data_plan_free(&d->plan);
    free(d->list.items);
    free(d->samples);
    free(d->buckets);
    free(d->memory);
    free(d->indices);
    free(d->captions);
    free(d->lanes);
    free((void *)d->o.folder);
    free((void *)d->o.buckets);
    free((void *)d->o.templates);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->work);
    pthread_cond_destroy(&d->done);
    free(d);
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */

/* What a thread could not do with item k: told once a picture and left out, or the error. */
static bool take_fault(weft_ctx *c, weft_dataset *d, const data_slot *s, int64_t k) {
    data_item *item = &d->list.items[d->samples[s->samples[k]]];
    const weft_status code = s->status[k];
    const char *message = s->message[k] ? s->message[k] : "data set: out of memory";
    if (d->o.strict || (code != WEFT_E_FILE && code != WEFT_E_FORMAT)) {
        weft_fail(c, code, "%s", message);
        return false;
    }
    d->left_out++;
    if (!item->told) weft_warn(c, "%s", message);
    item->told = true;
    return weft_ok(c);
}

/* Moves the slot's good items together; false, with the error set, where one is none to be left out. */
static bool sift(weft_ctx *c, weft_dataset *d, data_slot *s) {
    const weft_bucket size = d->buckets[s->bucket];
    const int64_t pixels = size.height * size.width * d->o.channels;
    int64_t good = 0;
    bool on = true;
    for (int64_t k = 0; k < s->count; k++) {
        if (s->status[k] != WEFT_OK) {
            on = on && take_fault(c, d, s, k);
            free(s->message[k]);
            s->message[k] = NULL;
            continue;
        }
        s->samples[good] = s->samples[k];
        s->captions[good] = s->captions[k];
        s->status[good] = WEFT_OK;
        if (good++ == k) continue;
        s->captions[k] = NULL;
        memcpy(s->pixels + (good - 1) * pixels, s->pixels + k * pixels, (size_t)pixels * sizeof *s->pixels);
    }
    s->count = good;
    return on;
}

/* The slot as the caller's batch. Where memory is short nothing has happened: the caller may try again. */
static bool deliver(weft_ctx *c, weft_dataset *d, data_slot *s, weft_data_batch *out) {
    const weft_bucket size = d->buckets[s->bucket];
    weft_tensor *images = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(s->count, size.height, size.width, d->o.channels),
                                           s->pixels);
    if (!images) return false;
    drop_captions(d);
    d->caption_count = s->count;
    for (int64_t k = 0; k < s->count; k++) {
        d->indices[k] = s->samples[k];
        d->captions[k] = s->captions[k];
        s->captions[k] = NULL;
    }
    *out = (weft_data_batch){ .images = images, .count = s->count, .height = size.height, .width = size.width,
                              .captions = (const char *const *)d->captions, .indices = d->indices, .epoch = s->epoch,
                              .position = s->position, .last = s->last };
    return true;
}

/* The batch that the caller gets next is the one behind. */
static void advance(weft_dataset *d, bool last) {
    data_queue_release(d);
    d->position = last ? 0 : d->position + 1;
    d->epoch += last;
}

weft_status weft_dataset_next(weft_ctx *c, weft_dataset *d, weft_data_batch *batch) {
    *batch = (weft_data_batch){ 0 };
    for (int64_t empty = 0; weft_ok(c) && !batch->count; empty++) {
        if (empty == d->batches)
            return weft_fail(c, WEFT_E_FILE, "%s: not one picture can be read", d->o.folder ? d->o.folder : "data set");
        data_queue_fill(d);
        data_slot *s = data_queue_wait(d);
        const bool whole = sift(c, d, s);
        if (whole && s->count && !deliver(c, d, s, batch)) break;
        advance(d, s->last);
    }
    if (d->thread_count) data_queue_fill(d);
    return weft_error(c);
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

int64_t weft_dataset_length(const weft_dataset *d) { return d->length; }
int64_t weft_dataset_batches(const weft_dataset *d) { return d->batches; }

static const data_item *item_of(const weft_dataset *d, int64_t sample) {
    return sample >= 0 && sample < d->length ? &d->list.items[d->samples[sample]] : NULL;
}

const char *weft_dataset_caption(const weft_dataset *d, int64_t sample) {
    const data_item *item = item_of(d, sample);
    return item ? item->caption : NULL;
}

const char *weft_dataset_file(const weft_dataset *d, int64_t sample) {
    const data_item *item = item_of(d, sample);
    return item ? item->path : NULL;
}

weft_bucket weft_dataset_size(const weft_dataset *d, int64_t sample) {
    const data_item *item = item_of(d, sample);
    return item ? d->buckets[item->bucket] : (weft_bucket){ 0, 0 };
}

weft_status weft_dataset_sign(weft_ctx *c, weft_dataset *d, int64_t sample, weft_hash *key) {
    if (!weft_ok(c)) return weft_error(c);
    const data_item *item = item_of(d, sample);
    if (!item)
        return weft_fail(c, WEFT_E_ARGUMENT, "data set: there is no sample %" PRId64 " of %" PRId64, sample, d->length);
    const weft_bucket size = d->buckets[item->bucket];
    const uint64_t how[] = { (uint64_t)size.width, (uint64_t)size.height, d->o.resize, (uint64_t)d->o.channels,
                             d->o.unit };
    weft_hash_bytes(key, how, sizeof how);
    if (d->memory) {
        const int64_t *s = d->memory_shape;
        const size_t bytes = (size_t)(s[1] * s[2] * s[3]) * weft_dtype_size(d->memory_type);
        weft_hash_word(key, d->memory_type);
        weft_hash_bytes(key, s + 1, 3 * sizeof *s);
        weft_hash_bytes(key, (const char *)d->memory + d->samples[sample] * bytes, bytes);
        return WEFT_OK;
    }
    size_t size_of_file;
    char *path = weft_path_join(c, d->o.folder, item->path);
    char *bytes = path ? weft_file_read(c, path, SIZE_MAX / 4, &size_of_file) : NULL;
    if (bytes) weft_hash_bytes(key, bytes, size_of_file);
    weft_text_free(bytes);
    weft_text_free(path);
    return weft_error(c);
}

weft_data_state weft_dataset_state(const weft_dataset *d) {
    return (weft_data_state){ d->o.seed, d->signature, d->epoch, d->position };
}

weft_status weft_dataset_restore(weft_ctx *c, weft_dataset *d, const weft_data_state *state) {
    if (!weft_ok(c)) return weft_error(c);
    if (state->signature != d->signature)
        return weft_fail(c, WEFT_E_ARGUMENT, "data set: the state is of another data set: other pictures, other sizes, "
                         "another batch size or order");
    if (state->epoch < 0 || state->epoch >= (int64_t)1 << 40 || state->position < 0 || state->position >= d->batches)
        return weft_fail(c, WEFT_E_ARGUMENT, "data set: a state at batch %" PRId64 " of epoch %" PRId64 "; an epoch "
                         "has %" PRId64 " batches", state->position, state->epoch, d->batches);
    data_queue_flush(d);
    d->o.seed = state->seed;
    d->plan.made = false;
    data_plan_make(d, state->epoch);
    d->epoch = state->epoch;
    d->position = d->plan_position = state->position;
    if (d->thread_count) data_queue_fill(d);
    return WEFT_OK;
}
