/* What the files of `weft bench` share: a benchmark, and what it holds while it runs. */
#ifndef WEFT_BENCH_H
#define WEFT_BENCH_H

#include "nodes/unet/unet2d_condition.h"
#include "runtime/autograd.h"

typedef struct bench_options {
    int threads, runs, precision, dtype, batch, size;
    bool json;
    const char *device;
} bench_options;

struct bench_training;

/* What a benchmark holds between runs. */
typedef struct bench_state {
    const bench_options *o;
    weft_rng *rng;
    weft_tree *tree;
    weft_tensor *in[6];
    struct bench_training *training;        /* of a training step; bench_training_free() */
    const struct op_case *op;
} bench_state;

typedef struct bench {
    const char *name, *summary;
    void (*setup)(weft_ctx *c, bench_state *s);
    void (*run)(weft_ctx *c, bench_state *s);               /* models; */
    weft_tensor *(*op)(weft_ctx *c, bench_state *s);        /* or an operation, on each of the cases */
    const struct op_case *cases;
    bool gradients;                                         /* of everything that goes into the operation, by a random seed */
    int steps;                                              /* evaluations in a run; 0: one */
    bool large;                                             /* by itself on a GPU only: a CPU takes minutes for it */
} bench;

/* Normal values of a shape, by the benchmark's generator: a reference of the caller's. */
weft_tensor *bench_noise(weft_ctx *c, bench_state *s, int rank, const int64_t *shape);
/* A frozen tree of weights from a seed, of `type`; it becomes s->tree. */
void bench_make_tree(weft_ctx *c, bench_state *s, const char *name, weft_walk_fn *walk, const void *config,
                     weft_dtype type);
/* The type that --dtype asks for. */
weft_dtype bench_dtype(const bench_state *s);

/* Training steps, in bench_train.c; a NULL name ends them. */
extern const bench bench_trainings[];
void bench_training_free(struct bench_training *t);     /* takes NULL */

#endif
