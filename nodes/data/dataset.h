/* Data sets for training: captioned pictures in batches, decoded ahead by threads of their own.
 *
 * A folder is read with all below it (names that begin with a dot are left out), in the order of the bytes of the
 * relative paths. A picture's caption is, whichever comes first: its line in the metadata.jsonl of its folder or of one
 * above ({"file_name": …, "text": …}, Hugging Face's ImageFolder); the text file beside it (NAME.txt); with `repeats`
 * the name of its first folder; its own name without the ending.
 *
 * What an epoch looks like is a function of (seed, epoch), and every random decision about a sample one of (seed,
 * epoch, sample): neither the number of threads nor where a run was interrupted changes a byte. A sample is a picture;
 * with repeats, one of its repetitions.
 *
 * What cannot be used (a broken picture, a caption that is no UTF-8) is told by weft_warn() and left out: a batch then
 * has fewer pictures. `strict` makes it an error.
 */
#ifndef WEFT_DATASET_H
#define WEFT_DATASET_H

#include "runtime/hash.h"

typedef struct weft_dataset weft_dataset;

typedef struct weft_bucket { int64_t width, height; } weft_bucket;

typedef struct weft_dataset_options {
    const char *folder;
    bool repeats;                   /* first-level folders "N_name" count N times, as kohya's scripts have it */
    /* Or, without a folder, pictures in memory, which are copied: (N,H,W,1 or 3) u8, or f32 in [0, 1], and N captions
     * (NULL: all empty). */
    weft_tensor *images;
    const char *const *captions;

    /* Each picture is scaled so that it just covers width × height, then cut to it. */
    int64_t width, height;
    weft_resample_mode resize;      /* one of the WEFT_PIL modes, on u8: as Pillow scales */
    bool random_crop;               /* else the middle, as torchvision's CenterCrop finds it */
    double flip;                    /* probability of mirroring left and right */
    double brightness, contrast, saturation;    /* each factor is drawn from [max(0, 1 − v), 1 + v]; 0: left alone */
    int channels;                   /* 3, or 1: luma as Pillow's "L" */
    bool unit;                      /* values in [0, 1]; else [−1, 1] */

    /* Aspect ratio buckets: sizes with at most base² pixels and sides that are multiples of `step` from `least` to
     * `most`, or those listed; each picture goes to the one nearest in ratio, each batch is of one. width and height
     * then mean nothing. base 0 and no list: no buckets. */
    int64_t bucket_base, bucket_step, bucket_least, bucket_most;        /* least, most 0: half and twice the base */
    const weft_bucket *buckets;
    int bucket_count;

    /* Captions, in this order: tags, template, dropout. */
    double caption_dropout;         /* probability of the empty caption */
    bool shuffle_tags;              /* comma-separated tags behind the first keep_tags, in random order */
    int64_t keep_tags;
    const char *const *templates;   /* one of them is drawn; its "{}" stands for the caption. NULL: none */
    int template_count;

    int64_t batch;
    bool shuffle, drop_last;
    uint64_t seed;
    int threads;                    /* 0: batches are made when they are asked for */
    int depth;                      /* batches made ahead, ≥1 */
    bool strict;
} weft_dataset_options;

/* Batches of 1, in order, 3 channels in [−1, 1], Lanczos, bucket step 64, 2 threads, 4 batches ahead. */
weft_dataset_options weft_dataset_defaults(void);

/* NULL with the error set. Everything in the options is copied. */
weft_dataset *weft_dataset_open(weft_ctx *c, const weft_dataset_options *o);
/* Stops the threads, wherever they are, and waits for them. Takes NULL. */
void weft_dataset_close(weft_dataset *d);

typedef struct weft_data_batch {
    weft_tensor *images;            /* (count, height, width, channels) f32, in the innermost scope */
    int64_t count, height, width;
    const char *const *captions;    /* valid until the next call */
    const int64_t *indices;         /* samples, from 0; likewise */
    int64_t epoch, position;        /* from 0; of the batch in its epoch */
    bool last;                      /* the epoch ends with it (or with what cannot be read behind it) */
} weft_data_batch;
/* The next batch, without end: epochs follow each other. Waits for it. Where there is no memory for the tensor, the
 * same batch comes once there is. */
weft_status weft_dataset_next(weft_ctx *c, weft_dataset *d, weft_data_batch *batch) WEFT_MUST_CHECK;

int64_t weft_dataset_length(const weft_dataset *d);     /* samples in an epoch */
int64_t weft_dataset_batches(const weft_dataset *d);    /* batches in an epoch */
/* A sample's caption as it was read, its file (NULL: it is from memory), and its bucket; NULL or zeros out of range. */
const char *weft_dataset_caption(const weft_dataset *d, int64_t sample);
const char *weft_dataset_file(const weft_dataset *d, int64_t sample);
weft_bucket weft_dataset_size(const weft_dataset *d, int64_t sample);
/* Adds to `key` the bytes of the sample's picture and how it is scaled and cut: for caches of what is made of it. */
weft_status weft_dataset_sign(weft_ctx *c, weft_dataset *d, int64_t sample, weft_hash *key) WEFT_MUST_CHECK;

/* Where it stands: the batch that comes next. `signature` tells whether it belongs to this data set. */
typedef struct weft_data_state { uint64_t seed, signature; int64_t epoch, position; } weft_data_state;
weft_data_state weft_dataset_state(const weft_dataset *d);
/* Goes there; an error where the state is of other pictures or of other batches. */
weft_status weft_dataset_restore(weft_ctx *c, weft_dataset *d, const weft_data_state *state) WEFT_MUST_CHECK;

typedef struct weft_data_stats {
    int64_t batches;                /* delivered */
    int64_t stalls;                 /* of them, those that were not ready when they were asked for */
    double waited;                  /* seconds that the caller waited for them in all */
    double busy;                    /* seconds of reading and scaling, all threads together */
    int64_t left_out;               /* pictures and captions that could not be used, since opening */
    int ready, depth;               /* batches that are whole now, of so many */
} weft_data_stats;
weft_data_stats weft_dataset_stats(weft_dataset *d);

#endif
