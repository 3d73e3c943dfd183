/* What the files of the data sets share. Texts and lists are malloc'd. */
#ifndef WEFT_DATASET_INTERNAL_H
#define WEFT_DATASET_INTERNAL_H

#include <pthread.h>
#include "nodes/data/dataset.h"

/* ---- what there is (listing.c, captions.c, buckets.c) ------------------------------------------------------------ */

typedef struct data_item {
    char *path;                 /* below the folder; NULL: the picture is in memory */
    char *caption;
    int64_t repeats;
    int bucket;
    bool told;                  /* that it is broken */
} data_item;

typedef struct data_list { data_item *items; int64_t count, room; } data_list;

/* Tells that something is left out, or in strict makes it the error. False where the work must stop. */
bool data_leave_out(weft_ctx *c, weft_dataset *d, const char *format, ...) WEFT_PRINTF(3, 4);
/* The same for the error that c has, if it is one of a file and not of this machine: it is cleared. */
bool data_leave_out_fault(weft_ctx *c, weft_dataset *d);
bool data_no_memory(weft_ctx *c);       /* sets the error; false */

/* Fills d->list from the folder; false with the error set. */
bool data_list_folder(weft_ctx *c, weft_dataset *d);

/* A file below the folder; the array is in the order of the paths' bytes. */
typedef struct data_file {
    char *path, *caption;
    enum { DATA_PICTURE, DATA_TEXT, DATA_METADATA, DATA_FOREIGN } kind;
} data_file;
typedef struct data_files { data_file *at; int64_t count, room; } data_files;
data_file *data_files_find(const data_files *f, const char *path);
/* Gives the pictures the captions that the metadata files have for them; false with the error set. */
bool data_read_metadata(weft_ctx *c, weft_dataset *d, const data_files *files);

/* Fills d->buckets from the options; false with the error set. */
bool data_make_buckets(weft_ctx *c, weft_dataset *d);
/* The bucket whose ratio is nearest to width/height. */
int data_choose_bucket(const weft_dataset *d, int64_t height, int64_t width);

/* ---- chance (order.c) -------------------------------------------------------------------------------------------- */

/* What a draw is for: each purpose has numbers of its own. */
typedef enum data_purpose { DATA_ORDER, DATA_BATCHES, DATA_CROP, DATA_FLIP, DATA_JITTER, DATA_DROPOUT, DATA_TAGS,
                            DATA_TEMPLATE } data_purpose;
typedef struct data_draw {
    uint64_t seed, index, epoch;
    data_purpose purpose;
    uint32_t word[4];
    int block, left;
} data_draw;
data_draw data_draw_for(uint64_t seed, uint64_t epoch, uint64_t index, data_purpose purpose);
uint64_t data_below(data_draw *r, uint64_t n);      /* 0 ≤ … < n */
double data_uniform(data_draw *r);                  /* [0, 1), a multiple of 2⁻³² */

/* The batches of one epoch: a batch is `count` samples of sorted[] from `from` on. */
typedef struct data_cut { int bucket; int64_t from, count; } data_cut;
typedef struct data_plan {
    int64_t epoch;
    bool made;
    uint32_t *order, *sorted;
    int64_t *begin;
    data_cut *cuts;
} data_plan;
bool data_plan_new(weft_dataset *d);                /* room for it, and d->batches; false without memory */
void data_plan_make(weft_dataset *d, int64_t epoch);
data_cut data_plan_cut(const weft_dataset *d, int64_t position);
void data_plan_free(data_plan *p);

/* ---- what is made of a sample (transform.c, captions.c) ---------------------------------------------------------- */

/* How a picture of h × w is scaled and where width × height are cut from it. */
typedef struct data_frame { int64_t h, w, top, left; } data_frame;
data_frame data_frame_for(int64_t h, int64_t w, int64_t height, int64_t width);     /* the middle */
/* Colour jitter on n pixels in [0, 1]; factor and order are of brightness 0, contrast 1, saturation 2. */
void data_jitter(float *x, int64_t n, int channels, const double factor[3], const int order[3]);
/* Reads and transforms the sample's picture to out; false with lane's error. */
bool data_picture(weft_ctx *lane, const weft_dataset *d, int64_t epoch, uint32_t sample, float *out);
/* The sample's caption for this epoch, malloc'd; NULL without memory. */
char *data_caption(const weft_dataset *d, int64_t epoch, uint32_t sample);

/* ---- threads (queue.c) ------------------------------------------------------------------------------------------- */

/* One batch on its way. The threads write what belongs to their item alone; the rest is guarded by the lock. */
typedef struct data_slot {
    int64_t epoch, position, count;
    int bucket;
    bool last;
    int64_t next, remaining;    /* the item to be given to a thread next; those not done */
    uint32_t *samples;
    float *pixels;
    char **captions;            /* NULL: the item is left out */
    weft_status *status;
    char **message;
} data_slot;

struct weft_dataset {
    weft_dataset_options o;     /* its texts and lists are the data set's own */
    data_list list;
    uint32_t *samples;          /* the item of each sample */
    int64_t length, batches;
    weft_bucket *buckets;       /* without buckets, one: the size */
    int bucket_count;
    weft_dtype memory_type;     /* of pictures in memory */
    int64_t memory_shape[4];
    void *memory;
    uint64_t signature;
    int64_t left_out;

    data_plan plan;
    int64_t epoch, position;    /* of the batch that the caller gets next */
    int64_t plan_position;      /* of the batch that the next free slot gets, in plan.epoch */
    int64_t *indices;           /* of the batch that the caller has */
    char **captions;
    int64_t caption_count;

    /* Batches are numbered as they are planned; batch n is in slot n % depth. */
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    data_slot *slots;
    int64_t head, tail, hand;   /* to be delivered; to be planned; the first that may have items for a thread */
    int running;                /* items that threads work on */
    bool stop;
    weft_ctx **lanes;           /* one for each thread; without threads one, for the caller */
    pthread_t *threads;
    int lane_count, thread_count;
    weft_data_stats stats;
};

weft_ctx *data_quiet(weft_dataset *d);  /* a context of the data set's own, before the threads run */
bool data_queue_start(weft_ctx *c, weft_dataset *d);
void data_queue_stop(weft_dataset *d);  /* waits for the threads and frees what the queue has */
void data_queue_flush(weft_dataset *d); /* empties it: nothing planned, nothing running */
void data_queue_fill(weft_dataset *d);  /* plans batches into the free slots */
data_slot *data_queue_wait(weft_dataset *d);    /* the next batch, whole */
void data_queue_release(weft_dataset *d);       /* gives its slot back */

#endif
