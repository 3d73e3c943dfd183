/* Dataset, DatasetBatch: a folder of captioned pictures, and one of its batches, for graphs that train. Which pictures
 * a batch has, and how they are cut, follows from the data set's inputs and the batch's number alone (dataset.h).
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "nodes/data/dataset.h"
#include "nodes/loaders/loaders.h"
#include "nodes/stage/stage.h"

/* "DATASET". Its queue of batches made ahead moves; what it gives does not depend on that. */
typedef struct data_object { weft_object object; weft_dataset *d; } data_object;

static void data_free(weft_object *o) {
    weft_dataset_close(((data_object *)o)->d);
    free(o);
}

static const char *data_describe(const weft_object *o, char *buffer, size_t size) {
    const weft_dataset *d = ((const data_object *)o)->d;
    snprintf(buffer, size, "data set of %lld samples in %lld batches", (long long)weft_dataset_length(d),
             (long long)weft_dataset_batches(d));
    return buffer;
}

static const weft_class data_class = { .type = "DATASET", .free = data_free, .describe = data_describe };

/* ---- Dataset ---------------------------------------------------------------------------------------------------- */

struct dataset {
    const char *folder;
    int64_t size, batch_size, threads;
    uint64_t seed;
    bool shuffle, center_crop, random_flip, repeats;
    double caption_dropout;
    data_object *out;
};

static void dataset_run(weft_ctx *c, void *self) {
    struct dataset *n = self;
    char *path = weft_folders_find(c, weft_run_info_of(c)->folders, "datasets", n->folder);
    weft_dataset_options o = weft_dataset_defaults();
    o.folder = path;
    o.repeats = n->repeats;
    o.width = o.height = n->size;
    o.random_crop = !n->center_crop;
    o.flip = n->random_flip ? 0.5 : 0;
    o.unit = true;
    o.caption_dropout = n->caption_dropout;
    o.batch = n->batch_size;
    o.shuffle = n->shuffle;
    o.seed = n->seed;
    o.threads = (int)n->threads;
    weft_dataset *d = path ? weft_dataset_open(c, &o) : NULL;
    data_object *object = d ? malloc(sizeof *object) : NULL;
    free(path);
    if (object) *(n->out = object) = (data_object){ { &data_class, 1 }, d };
    else {
        weft_fail(c, WEFT_E_MEMORY, "DATASET: out of memory");
        weft_dataset_close(d);
    }
}

/* The folder itself, not all that is in it: a data set is listed when it is opened, and signed at every step. */
static void dataset_sign(weft_ctx *c, const void *self, weft_sign_fn *add, void *user) {
    struct stat s;
    char *path = weft_folders_find(c, weft_run_info_of(c)->folders, "datasets", ((const struct dataset *)self)->folder);
    if (path && !stat(path, &s)) {
        const int64_t facts[] = { s.st_mtim.tv_sec, s.st_mtim.tv_nsec, (int64_t)s.st_ino };
        add(user, facts, sizeof facts);
    }
    free(path);
}

const weft_node weft_node_Dataset = {
    .name = "Dataset", .category = "training/data", .size = sizeof(struct dataset),
    .summary = "A folder of pictures with captions: a text file beside each, metadata.jsonl, or their names.",
    .inputs = (const weft_port[]){
        WEFT_FILE_IN(struct dataset, folder, "datasets", "a folder in the input folder, with all below it"),
        WEFT_INT_IN(struct dataset, size, 512, 8, 16384, 8, "side of the pictures: each is scaled and cut to it"),
        WEFT_INT_IN(struct dataset, batch_size, 1, 1, 4096, 1, "pictures in a batch"),
        WEFT_BOOL_IN(struct dataset, shuffle, true, "another order in each epoch"),
        WEFT_SEED_IN(struct dataset, seed, "of the order and of all chance"),
        WEFT_BOOL_IN(struct dataset, center_crop, true, "cut from the middle, not anywhere"),
        WEFT_BOOL_IN(struct dataset, random_flip, false, "mirror half of the pictures"),
        WEFT_FLOAT_IN(struct dataset, caption_dropout, 0, 0, 1, 0.01,
                      "share of empty captions, so that guidance works"),
        WEFT_BOOL_IN(struct dataset, repeats, false, "folders named N_name count N times"),
        WEFT_OPTIONAL_INT_IN(struct dataset, threads, 2, 0, 64, 1, "that make batches ahead; 0: none"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct dataset, out, WEFT_PORT_OBJECT, "DATASET", "DATASET",
                                             "the data set"), { 0 } },
    .sign = dataset_sign, .run = dataset_run,
};

/* ---- DatasetBatch ------------------------------------------------------------------------------------------------ */

struct batch {
    data_object *dataset;
    int64_t batch;
    weft_tensor *images;
    weft_texts *captions;
    int64_t epoch;
};

static void batch_run(weft_ctx *c, void *self) {
    struct batch *n = self;
    weft_dataset *d = n->dataset->d;
    const int64_t all = weft_dataset_batches(d), epoch = n->batch / all, position = n->batch % all;
    weft_data_state state = weft_dataset_state(d);
    weft_data_batch b;
    if (state.epoch != epoch || state.position != position) {
        state.epoch = epoch;
        state.position = position;
        if (weft_dataset_restore(c, d, &state)) return;
    }
    if (weft_dataset_next(c, d, &b)) return;
    n->images = b.images;
    n->captions = weft_texts_new(c, (int)b.count, b.captions);
    n->epoch = b.epoch;
}

const weft_node weft_node_DatasetBatch = {
    .name = "DatasetBatch", .category = "training/data", .size = sizeof(struct batch),
    .summary = "One batch of a data set. Batches count on through the epochs; the next one is made ahead.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct batch, dataset, "DATASET", "the data set"),
        WEFT_INT_IN(struct batch, batch, 0, 0, 1000000000000, 1, "which one, from 0"), { 0 } },
    .outputs = (const weft_port[]){
        WEFT_OUT(struct batch, images, WEFT_PORT_TENSOR, "images", "IMAGE", "(N, size, size, 3) in [0, 1]"),
        WEFT_OUT(struct batch, captions, WEFT_PORT_OBJECT, "captions", "TEXTS", "N texts, for Tokenize"),
        WEFT_OUT(struct batch, epoch, WEFT_PORT_INT, "epoch", "INT", "from 0"), { 0 } },
    .run = batch_run,
};
