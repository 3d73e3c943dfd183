/* Convolutions and their gradients by cuDNN's graphs (its C interface of descriptors), NHWC.
 *
 * A graph is one convolution, or a convolution with the residual and then the bias added in f32 before the rounding:
 * the one order that cuDNN has ready-made engines for on every device. Engines are taken in the order of cuDNN's own
 * heuristic; left out are those that give other bytes the next time, that sum in 16 bits, and that compile themselves
 * at the first call; where the precision is exact, also TF32 and Winograd. What was found is kept by shape, types and
 * alignments.
 */
#include <cudnn_graph.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "kernels/cuda/products.h"

struct cuda_dnn { cudnnHandle_t handle; cuda_plans plans; };

/* A plan, and all that it was made of: cuDNN does not say what of it a plan still needs. */
enum { MOST_PARTS = 24 };
typedef struct dnn_plan {
    bool usable;
    int count;                  /* of ways to do it, the heuristic's best first */
    bool timed;                 /* the first one is the fastest */
    struct { cudnnBackendDescriptor_t plan, config; size_t workspace; } way[CUDA_MOST_TRIALS];
    cudnnBackendDescriptor_t part[MOST_PARTS];
    int parts;
} dnn_plan;

enum { UID_X = 1, UID_W, UID_Y, UID_BIAS, UID_RESIDUAL, UID_CONVOLVED, UID_WITH_RESIDUAL };

/* ---- failures ----------------------------------------------------------------------------------------------- */

static int failed(const char *who, cudnnStatus_t status, const char *what, const cuda_conv *c) {
    char why[256] = "";
    cudnnGetLastErrorString(why, sizeof why);
    cuda_fail(who,
              "cuDNN says %s to %s, for (%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ") with %d×%d filters to "
              "(%" PRId64 ",%" PRId64 ",%" PRId64 "), stride %d, of %s%s%s",
              cudnnGetErrorString(status), what, c->n, c->h, c->w, c->c, c->kh, c->kw, c->oh, c->ow, c->o, c->stride,
              weft_dtype_name(c->type), *why ? ": " : "", why);
    return status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
                   || status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED
               ? WEFT_K_NO_MEMORY
               : WEFT_K_DEVICE;
}

/* Nothing that does this, which is no failure: from 3000 on, CUDNN_STATUS_NOT_SUPPORTED and its kinds. */
static bool declines(cudnnStatus_t status) { return status / 1000 == 3; }

/* ---- the handle --------------------------------------------------------------------------------------------- */

static void drop_way(const dnn_plan *p, int i) {
    cudnnBackendDestroyDescriptor(p->way[i].plan);
    cudnnBackendDestroyDescriptor(p->way[i].config);
}

static void drop(void *plan) {
    dnn_plan *p = plan;
    while (p->count) drop_way(p, --p->count);
    while (p->parts) cudnnBackendDestroyDescriptor(p->part[--p->parts]);
    free(p);
}

static int start(struct cuda_dnn *d, cudaStream_t stream) {
    char why[256] = "";
    cudnnStatus_t status = cudnnCreate(&d->handle);
    if (status == CUDNN_STATUS_SUCCESS) {
        if ((status = cudnnSetStream(d->handle, stream)) == CUDNN_STATUS_SUCCESS) return WEFT_K_OK;
        cudnnDestroy(d->handle);
    }
    cudnnGetLastErrorString(why, sizeof why);
    return cuda_fail("",
                     "cuDNN %zu cannot be started: %s%s%s; all of cuDNN 9 must be installed where the system finds it",
                     cudnnGetVersion(), cudnnGetErrorString(status), *why ? ": " : "", why);
}

static int dnn_of(const weft_env *env, struct cuda_dnn **dnn) {
    struct cuda_products *all;
    int status = cuda_products_of(env, &all);
    if (status) return status;
    if (!all->dnn) {
        struct cuda_dnn *d = calloc(1, sizeof *d);
        if (!d) return cuda_fail("", "no memory"), WEFT_K_NO_MEMORY;
        if ((status = start(d, cuda_queue_of(env)->stream))) return free(d), status;
        d->plans.drop = drop;
        all->dnn = d;
    }
    *dnn = all->dnn;
    return WEFT_K_OK;
}

void cuda_dnn_free(struct cuda_dnn *d) {
    if (!d) return;
    cuda_plans_free(&d->plans);
    cudnnDestroy(d->handle);
    free(d);
}

/* ---- descriptors: the first status that is no success stays, and what follows does nothing -------------------- */

typedef struct build { cudnnStatus_t status; dnn_plan *plan; } build;
typedef cudnnBackendDescriptor_t part;

static part make(build *b, cudnnBackendDescriptorType_t type) {
    part p = NULL;
    if (!b->status) b->status = cudnnBackendCreateDescriptor(type, &p);
    if (!b->status) b->plan->part[b->plan->parts++] = p;
    return p;
}

static void set(build *b, part p, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                const void *values) {
    if (!b->status) b->status = cudnnBackendSetAttribute(p, name, type, count, values);
}

static void set_part(build *b, part p, cudnnBackendAttributeName_t name, part value) {
    set(b, p, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void finish(build *b, part p) {
    if (!b->status) b->status = cudnnBackendFinalize(p);
}

static cudnnDataType_t type_of(weft_dtype t) {
    return t == WEFT_F16 ? CUDNN_DATA_HALF : t == WEFT_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

static int alignment(const void *p) { return cuda_alignment(p, 64); }

/* (n,h,w,c) in memory, which cuDNN counts as n, c, h, w. One that is only between two operations is f32 and has no
 * address. */
static part tensor(build *b, int64_t uid, weft_dtype type, const void *address, bool between, int64_t n, int64_t h,
                   int64_t w, int64_t c) {
    const int64_t sizes[] = { n, c, h, w }, strides[] = { h * w * c, 1, w * c, c },
                  bytes = between ? 16 : alignment(address);
    const cudnnDataType_t element = between ? CUDNN_DATA_FLOAT : type_of(type);
    part t = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &element);
    set(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, sizes);
    set(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &bytes);
    set(b, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &between);
    finish(b, t);
    return t;
}

/* What must be padded behind the last row so that there are `out` windows: cuDNN wants it said, and rounds down as we
 * do. */
static int64_t pad_behind(int64_t out, int stride, int filter, int64_t in, int before) {
    const int64_t pad = (out - 1) * stride + filter - in - before;
    return pad > 0 ? pad : 0;
}

static part windows(build *b, const cuda_conv *c) {
    const int64_t rank = 2, dilation[] = { 1, 1 }, stride[] = { c->stride, c->stride },
                  before[] = { c->pad_top, c->pad_left };
    const int64_t behind[] = { pad_behind(c->oh, c->stride, c->kh, c->h, c->pad_top),
                               pad_behind(c->ow, c->stride, c->kw, c->w, c->pad_left) };
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    part p = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(b, p, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    set(b, p, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, p, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &rank);
    set(b, p, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(b, p, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(b, p, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    set(b, p, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, behind);
    finish(b, p);
    return p;
}

/* y = x + z */
static part addition(build *b, part x, part z, part y) {
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    part how = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR), p;
    set(b, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    finish(b, how);
    p = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_part(b, p, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_part(b, p, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    set_part(b, p, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, z);
    set_part(b, p, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finish(b, p);
    return p;
}

/* The names of the three kinds' attributes. */
static const struct operation {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, how, alpha, beta;
} operations[] = {
    [CUDA_CONV_FORWARD] = {
        CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
    [CUDA_CONV_GRAD_INPUT] = {
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA },
    [CUDA_CONV_GRAD_WEIGHT] = {
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA },
};

static part graph_of(build *b, cudnnHandle_t handle, const cuda_conv *c) {
    const struct operation *kind = &operations[c->kind];
    const float alpha = 1, beta = 0;
    part ops[3], y = tensor(b, UID_Y, c->type, c->y, false, c->n, c->oh, c->ow, c->o), sum = y;
    int count = 0;
    if (c->bias) sum = tensor(b, UID_CONVOLVED, c->type, NULL, true, c->n, c->oh, c->ow, c->o);
    part op = ops[count++] = make(b, kind->type);
    set_part(b, op, kind->x, tensor(b, UID_X, c->type, c->x, false, c->n, c->h, c->w, c->c));
    set_part(b, op, kind->w, tensor(b, UID_W, c->type, c->weight, false, c->o, c->kh, c->kw, c->c));
    set_part(b, op, kind->y, sum);
    set_part(b, op, kind->how, windows(b, c));
    set(b, op, kind->alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    set(b, op, kind->beta, CUDNN_TYPE_FLOAT, 1, &beta);
    finish(b, op);
    if (c->residual) {
        part z = tensor(b, UID_RESIDUAL, c->type, c->residual, false, c->n, c->oh, c->ow, c->o);
        part both = tensor(b, UID_WITH_RESIDUAL, c->type, NULL, true, c->n, c->oh, c->ow, c->o);
        ops[count++] = addition(b, sum, z, both);
        sum = both;
    }
    if (c->bias) ops[count++] = addition(b, sum, tensor(b, UID_BIAS, c->type, c->bias, false, 1, 1, 1, c->o), y);
    part graph = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, ops);
    finish(b, graph);
    return graph;
}

/* ---- engines ------------------------------------------------------------------------------------------------ */

static bool refuses(const weft_env *env, const cuda_conv *c, cudnnBackendNumericalNote_t note) {
    const bool exact = env->precision == WEFT_PRECISION_EXACT;
    switch (note) {
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC: case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
    case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION: case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13: return true;
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: return exact && c->type == WEFT_F32;
    case CUDNN_NUMERICAL_NOTE_FFT: case CUDNN_NUMERICAL_NOTE_WINOGRAD: case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6: return exact;
    default: return false;
    }
}

/* What its notes say; true also where they cannot be read. */
static bool is_refused(const weft_env *env, const cuda_conv *c, part config) {
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendBehaviorNote_t behaviour[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t n = 0;
    part engine;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine)) return true;
    bool refused =
        cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine)
        || cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                    CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, notes);
    for (int64_t i = 0; i < n && !refused; i++) refused = refuses(env, c, notes[i]);
    refused = refused || cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                                  CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &n, behaviour);
    for (int64_t i = 0; i < n && !refused; i++) refused = behaviour[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    cudnnBackendDestroyDescriptor(engine);
    return refused;
}

/* Adds the engine to the plan's ways, which then own `config`; false where it cannot be had, or wants more scratch than
 * there is. */
static bool try_engine(const weft_env *env, cudnnHandle_t handle, part config, dnn_plan *plan) {
    int64_t bytes = 0, n = 0;
    build b = { 0, plan };
    part way = NULL;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &way)) return false;
    set(&b, way, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    set(&b, way, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    finish(&b, way);
    if (!b.status)
        b.status = cudnnBackendGetAttribute(way, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                            &bytes);
    if (b.status || bytes < 0 || (size_t)bytes > cuda_workspace_most(env)) {
        cudnnBackendDestroyDescriptor(way);
        return false;
    }
    plan->way[plan->count].plan = way;
    plan->way[plan->count].config = config;
    plan->way[plan->count++].workspace = (size_t)bytes;
    return plan->usable = true;
}

/* The engines of one heuristic, best first, until as many as are wanted will do. */
enum { MOST_ENGINES = 64 };
static void search(const weft_env *env, build *b, cudnnHandle_t handle, const cuda_conv *c, part graph,
                   cudnnBackendHeurMode_t mode) {
    const int most = cuda_tunes(env) ? CUDA_MOST_TRIALS : 1;
    part found[MOST_ENGINES], engines = make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    int64_t count = 0, room = 0;
    set_part(b, engines, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(b, engines, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    finish(b, engines);
    if (b->status) return;
    while (room < MOST_ENGINES && !b->status) {
        b->status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &found[room]);
        if (!b->status) room++;
    }
    if (!b->status)
        b->status = cudnnBackendGetAttribute(engines, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                             room, &count, found);
    for (int64_t i = 0; i < count && i < room && !b->status && b->plan->count < most; i++)
        if (!is_refused(env, c, found[i]) && try_engine(env, handle, found[i], b->plan)) found[i] = NULL;
    for (int64_t i = 0; i < room; i++)
        if (found[i]) cudnnBackendDestroyDescriptor(found[i]);
}

/* ---- plans -------------------------------------------------------------------------------------------------- */

/* Pads of fewer rows than the filter has, windows that end in the picture: the rest is left to our own tiles. */
static bool is_plain(int64_t in, int64_t out, int filter, int stride, int pad) {
    const int64_t behind = (out - 1) * stride + filter - in - pad;
    return in > 0 && out > 0 && filter > 0 && stride > 0 && pad >= 0 && pad < filter && behind < filter
           && -behind < stride;
}

static cuda_plan_key key_of(const weft_env *env, const cuda_conv *c) {
    cuda_plan_key key = { .count = 0 };
    const int64_t all[] = { c->kind, c->type, env->precision, c->n, c->h, c->w, c->c, c->o, c->oh, c->ow, c->kh, c->kw,
                            c->stride, c->pad_top, c->pad_left, alignment(c->x), alignment(c->weight), alignment(c->y),
                            c->bias ? alignment(c->bias) : 0, c->residual ? alignment(c->residual) : 0,
                            (int64_t)cuda_workspace_most(env) };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cuda_key_add(&key, all[i]);
    return key;
}

static int plan_of(const weft_env *env, struct cuda_dnn *d, const char *who, const cuda_conv *c, dnn_plan **plan) {
    const cuda_plan_key key = key_of(env, c);
    static const cudnnBackendHeurMode_t modes[] = { CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK };
    char what[64];
    if ((*plan = cuda_plan_find(&d->plans, &key))) return WEFT_K_OK;
    if (!(*plan = calloc(1, sizeof **plan))) return cuda_fail("", "no memory"), WEFT_K_NO_MEMORY;
    build b = { 0, *plan };
    part graph = graph_of(&b, d->handle, c);
    for (int i = 0; i < 2 && !(*plan)->usable && !b.status; i++) {
        search(env, &b, d->handle, c, graph, modes[i]);
        if (declines(b.status)) b.status = CUDNN_STATUS_SUCCESS;        /* this heuristic; the other may know one */
    }
    if (b.status && !declines(b.status)) {
        drop(*plan);
        return failed(who, b.status, "plan a convolution", c);
    }
    cuda_plan_keep(&d->plans, &key, *plan);
    snprintf(what, sizeof what, (*plan)->usable ? "cuDNN, %zu bytes of workspace" : "cuDNN has nothing",
             (*plan)->usable ? (*plan)->way[0].workspace : 0);
    cuda_plan_tell(who, &key, what);
    return WEFT_K_OK;
}

static int find(const weft_env *env, const char *who, const cuda_conv *c, struct cuda_dnn **d, dnn_plan **plan) {
    if (c->n < 1 || c->c < 1 || c->o < 1 || !is_plain(c->h, c->oh, c->kh, c->stride, c->pad_top)
        || !is_plain(c->w, c->ow, c->kw, c->stride, c->pad_left)) return WEFT_K_NO_CASE;
    int status = dnn_of(env, d);
    if (!status) status = plan_of(env, *d, who, c, plan);
    return status || (*plan)->usable ? status : WEFT_K_NO_CASE;
}

/* ---- execution ---------------------------------------------------------------------------------------------- */

static cudnnStatus_t execute(struct cuda_dnn *d, part plan, const cuda_conv *c, void *workspace) {
    const void *addresses[] = { c->x, c->weight, c->y, c->bias, c->residual };
    const int64_t uids[] = { UID_X, UID_W, UID_Y, UID_BIAS, UID_RESIDUAL }, count = c->residual ? 5 : c->bias ? 4 : 3;
    part pack = NULL;
    build b = { cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack), NULL };
    if (b.status) return b.status;
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, addresses);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finish(&b, pack);
    if (!b.status) b.status = cudnnBackendExecute(d->handle, plan, pack);
    cudnnBackendDestroyDescriptor(pack);
    return b.status;
}

int cuda_dnn_can(const weft_env *env, const char *who, const cuda_conv *c) {
    struct cuda_dnn *d;
    dnn_plan *plan;
    return find(env, who, c, &d, &plan);
}

typedef struct call {
    const weft_env *env;
    const char *who;
    struct cuda_dnn *dnn;
    dnn_plan *plan;
    const cuda_conv *conv;
} call;

/* The plan's i-th way. */
static int convolve(void *user, int i) {
    const call *c = user;
    cuda_scratch work;
    int status = cuda_scratch_new(c->env, c->plan->way[i].workspace, &work);
    if (status) return status;
    const cudnnStatus_t done = execute(c->dnn, c->plan->way[i].plan, c->conv, work.p);
    status = cuda_asked(cuda_queue_of(c->env), cudaSuccess, c->who);
    cuda_scratch_free(c->env, &work);
    if (declines(done)) return WEFT_K_NO_CASE;
    return done ? failed(c->who, done, "compute a convolution", c->conv) : status;
}

/* Keeps the fastest way. */
static int tune(call *c) {
    dnn_plan *plan = c->plan;
    int best = 0;
    if (plan->timed || plan->count < 2 || !cuda_tunes(c->env)) return WEFT_K_OK;
    const int status = cuda_fastest(c->env, c->who, plan->count, convolve, c, &best);
    for (int i = 0; i < plan->count; i++)
        if (i != best) drop_way(plan, i);
    plan->way[0] = plan->way[best];
    plan->count = 1;
    plan->timed = true;
    return status;
}

int cuda_dnn_conv(const weft_env *env, const char *who, const cuda_conv *conv) {
    call c = { .env = env, .who = who, .conv = conv };
    int status = find(env, who, conv, &c.dnn, &c.plan);
    if (status || (status = tune(&c))) return status;
    status = convolve(&c, 0);
    if (status == WEFT_K_NO_CASE) c.plan->usable = false;
    return status;
}
