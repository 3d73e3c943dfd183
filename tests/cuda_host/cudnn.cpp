/* cuDNN's graphs for the emulation: descriptors that are checked as the real one's documentation says (types, counts,
 * what is missing, what is not finished, shapes), a heuristic that offers engines of every kind that a caller should
 * leave out before those that it should take, and an execution that is naive. It knows the graphs that the real one has
 * ready-made engines for: a convolution or one of its gradients; a convolution, perhaps a residual, and a bias. 16-bit
 * tensors at odd addresses it does not take, so that the callers' other way runs.
 */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include "convolutions.h"

struct fake_dnn { cudaStream_t stream; };

namespace {

thread_local std::string last_error;

cudnnStatus_t say(cudnnStatus_t status, const char *why) {
    last_error = why;
    return status;
}

bool failing(const char *how) {
    const char *mode = getenv("WEFT_FAKE_CUDA");
    return mode && !strcmp(mode, how);
}

/* ---- descriptors -------------------------------------------------------------------------------------------- */

struct attribute { int type; int64_t count; std::string bytes; };

struct descriptor {
    int kind;
    bool finished = false;
    std::map<int, attribute> has;
    int engine = -1;                            /* of an engine and its configuration */
    descriptor *graph = nullptr;
};

/* Those that were made and not destroyed. */
std::set<const void *> alive;
std::mutex lock;

bool is_alive(const void *d) {
    std::lock_guard<std::mutex> g(lock);
    return alive.count(d) != 0;
}
descriptor *of(void *d) { return static_cast<descriptor *>(d); }

struct rule { int kind, name, type; int64_t least, most; bool needed; };

#define OPERATION(type, name, value) \
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_##type##_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_##name, value, 1, 1, true }
#define CONV(type, name) OPERATION(type, name, CUDNN_TYPE_BACKEND_DESCRIPTOR)
#define FACTOR(type, name) OPERATION(type, name, CUDNN_TYPE_FLOAT)
#define RULE(kind, name, type, least, most, needed) \
    { CUDNN_BACKEND_##kind##_DESCRIPTOR, CUDNN_ATTR_##name, CUDNN_TYPE_##type, least, most, needed }
const rule rules[] = {
    RULE(TENSOR, TENSOR_UNIQUE_ID, INT64, 1, 1, true),
    RULE(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, 1, 1, true),
    RULE(TENSOR, TENSOR_DIMENSIONS, INT64, 1, 8, true),
    RULE(TENSOR, TENSOR_STRIDES, INT64, 1, 8, true),
    RULE(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, 1, 1, true),
    RULE(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, 1, 1, false),
    RULE(CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, 1, true),
    RULE(CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, 1, true),
    RULE(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, INT64, 1, 1, true),
    RULE(CONVOLUTION, CONVOLUTION_DILATIONS, INT64, 2, 2, true),
    RULE(CONVOLUTION, CONVOLUTION_FILTER_STRIDES, INT64, 2, 2, true),
    RULE(CONVOLUTION, CONVOLUTION_PRE_PADDINGS, INT64, 2, 2, true),
    RULE(CONVOLUTION, CONVOLUTION_POST_PADDINGS, INT64, 2, 2, true),
    RULE(POINTWISE, POINTWISE_MODE, POINTWISE_MODE, 1, 1, true),
    RULE(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, 1, 1, true),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, BACKEND_DESCRIPTOR, 1, 1, true),
    CONV(FORWARD, FORWARD_X),
    CONV(FORWARD, FORWARD_W),
    CONV(FORWARD, FORWARD_Y),
    CONV(FORWARD, FORWARD_CONV_DESC),
    FACTOR(FORWARD, FORWARD_ALPHA),
    FACTOR(FORWARD, FORWARD_BETA),
    CONV(BACKWARD_DATA, BWD_DATA_DX),
    CONV(BACKWARD_DATA, BWD_DATA_W),
    CONV(BACKWARD_DATA, BWD_DATA_DY),
    CONV(BACKWARD_DATA, BWD_DATA_CONV_DESC),
    FACTOR(BACKWARD_DATA, BWD_DATA_ALPHA),
    FACTOR(BACKWARD_DATA, BWD_DATA_BETA),
    CONV(BACKWARD_FILTER, BWD_FILTER_X),
    CONV(BACKWARD_FILTER, BWD_FILTER_DW),
    CONV(BACKWARD_FILTER, BWD_FILTER_DY),
    CONV(BACKWARD_FILTER, BWD_FILTER_CONV_DESC),
    FACTOR(BACKWARD_FILTER, BWD_FILTER_ALPHA),
    FACTOR(BACKWARD_FILTER, BWD_FILTER_BETA),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, 1, 1, true),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 1, 8, true),
    RULE(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, 1, 1, true),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, 1, 1, true),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, BACKEND_DESCRIPTOR, 1, 1, true),
    RULE(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, 1, 16, true),
    RULE(VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, 1, 16, true),
    RULE(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, 1, true),
};

size_t size_of(int type) {
    return type == CUDNN_TYPE_BOOLEAN ? 1
           : type == CUDNN_TYPE_HANDLE || type == CUDNN_TYPE_INT64 || type == CUDNN_TYPE_VOID_PTR
                   || type == CUDNN_TYPE_BACKEND_DESCRIPTOR
               ? 8
               : 4;
}

template <typename T> T value(const descriptor *d, int name, size_t i = 0) {
    T v;
    memcpy(&v, d->has.at(name).bytes.data() + i * sizeof v, sizeof v);
    return v;
}
descriptor *part(const descriptor *d, int name, size_t i = 0) { return of(value<void *>(d, name, i)); }

bool is_virtual(const descriptor *t) {
    return t->has.count(CUDNN_ATTR_TENSOR_IS_VIRTUAL) && value<bool>(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
}

/* ---- what a graph says -------------------------------------------------------------------------------------- */

tensor read_tensor(const descriptor *t) {
    const int type = value<int>(t, CUDNN_ATTR_TENSOR_DATA_TYPE);
    tensor r = { type == CUDNN_DATA_HALF ? FAKE_F16 : type == CUDNN_DATA_BFLOAT16 ? FAKE_BF16 : FAKE_F32,
                 value<int64_t>(t, CUDNN_ATTR_TENSOR_UNIQUE_ID), {}, {},
                 value<int64_t>(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT), is_virtual(t) };
    for (int i = 0; i < 4; i++) {
        r.size[i] = value<int64_t>(t, CUDNN_ATTR_TENSOR_DIMENSIONS, i);
        r.stride[i] = value<int64_t>(t, CUDNN_ATTR_TENSOR_STRIDES, i);
    }
    return r;
}

void names_of(int kind, int *name) {
    static const int forward[] = { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA };
    static const int data[] = { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA };
    static const int filter[] = { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA };
    memcpy(name, kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ? forward
           : kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? data : filter, sizeof forward);
}

bool same_size(const tensor &a, const tensor &b) { return std::equal(a.size, a.size + 4, b.size); }

/* Reads one convolution. */
cudnnStatus_t read_conv(const descriptor *op, graph *g) {
    int name[6];
    g->kind = op->kind;
    names_of(op->kind, name);
    g->x = read_tensor(part(op, name[0]));
    g->w = read_tensor(part(op, name[1]));
    g->y = read_tensor(part(op, name[2]));
    if (value<float>(op, name[4]) != 1 || value<float>(op, name[5]) != 0)
        return say(CUDNN_STATUS_NOT_SUPPORTED, "alpha or beta");
    const descriptor *how = part(op, name[3]);
    for (int i = 0; i < 2; i++) {
        g->stride[i] = value<int64_t>(how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i);
        g->before[i] = value<int64_t>(how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i);
        g->behind[i] = value<int64_t>(how, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i);
        const int64_t room = g->x.size[2 + i] + g->before[i] + g->behind[i] - g->w.size[2 + i];
        if (room < 0 || room / g->stride[i] + 1 != g->y.size[2 + i])
            return say(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "output's sides");
    }
    if (g->x.size[1] != g->w.size[1] || g->y.size[1] != g->w.size[0] || g->x.size[0] != g->y.size[0])
        return say(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "channels or images");
    return CUDNN_STATUS_SUCCESS;
}

/* The pattern. What it knows none of it says as the real one does: by a heuristic without results (*known). */
cudnnStatus_t read_graph(const descriptor *d, graph *g, bool *known) {
    const int64_t ops = d->has.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).count;
    *known = false;
    *g = graph();
    const descriptor *first = part(d, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    if (first->kind == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) return CUDNN_STATUS_SUCCESS;
    const cudnnStatus_t status = read_conv(first, g);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    g->out = g->y;
    for (int64_t i = 1; i < ops; i++) {
        const descriptor *op = part(d, CUDNN_ATTR_OPERATIONGRAPH_OPS, (size_t)i);
        if (op->kind != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) return CUDNN_STATUS_SUCCESS;
        const tensor x = read_tensor(part(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC)),
                     b = read_tensor(part(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
        const tensor y = read_tensor(part(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
        if (x.uid != g->out.uid || !x.between || !same_size(x, y))
            return say(CUDNN_STATUS_BAD_PARAM, "operations do not follow");
        for (int k = 0; k < 4; k++)
            if (b.size[k] != x.size[k] && b.size[k] != 1)
                return say(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "operand of an addition");
        const bool is_bias = b.size[0] == 1 && b.size[2] == 1 && b.size[3] == 1 && i == ops - 1;
        if (!is_bias && (i != 1 || ops != 3 || !same_size(b, y))) return CUDNN_STATUS_SUCCESS;
        (is_bias ? g->bias : g->residual) = b;
        (is_bias ? g->has_bias : g->has_residual) = true;
        g->out = y;
    }
    if (g->out.between) return say(CUDNN_STATUS_BAD_PARAM, "the graph's result has no address");
    *known =
        (ops == 1 || g->has_bias) && (ops == 1 || g->kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    const tensor all[] = { g->x, g->w, g->out, g->residual, g->bias };
    for (int i = 0; i < (g->has_residual ? 5 : 3); i++)
        *known = *known && all[i].type == g->x.type && !all[i].between && all[i].stride[1] == 1 && all[i].align >= 4;
    if (g->has_bias) *known = *known && g->bias.type == g->x.type && g->bias.align >= 4;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- finishing ---------------------------------------------------------------------------------------------- */

cudnnStatus_t check_tensor(const descriptor *d) {
    if (d->has.at(CUDNN_ATTR_TENSOR_DIMENSIONS).count != 4 || d->has.at(CUDNN_ATTR_TENSOR_STRIDES).count != 4)
        return say(CUDNN_STATUS_BAD_PARAM, "rank");
    const tensor t = read_tensor(d);
    for (int i = 0; i < 4; i++)
        if (t.size[i] < 1 || t.stride[i] < 1) return say(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND, "sizes and strides");
    if (t.align < (int64_t)fake_size(t.type) || t.align & (t.align - 1))
        return say(CUDNN_STATUS_BAD_PARAM, "alignment");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_windows(const descriptor *d) {
    if (value<int64_t>(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) != 2)
        return say(CUDNN_STATUS_BAD_PARAM, "spatial dimensions");
    for (int i = 0; i < 2; i++)
        if (value<int64_t>(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, i) != 1
            || value<int64_t>(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i) < 1
            || value<int64_t>(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i) < 0
            || value<int64_t>(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i) < 0)
            return say(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND, "dilations, strides or pads");
    return CUDNN_STATUS_SUCCESS;
}

/* No two tensors of a number, but one that two operations share. */
cudnnStatus_t check_uids(const descriptor *d) {
    std::map<int64_t, const descriptor *> seen;
    for (int64_t i = 0; i < d->has.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).count; i++)
        for (const auto &a : part(d, CUDNN_ATTR_OPERATIONGRAPH_OPS, (size_t)i)->has) {
            if (a.second.type != CUDNN_TYPE_BACKEND_DESCRIPTOR) continue;
            const descriptor *t = part(part(d, CUDNN_ATTR_OPERATIONGRAPH_OPS, (size_t)i), a.first);
            if (t->kind != CUDNN_BACKEND_TENSOR_DESCRIPTOR) continue;
            auto at = seen.emplace(value<int64_t>(t, CUDNN_ATTR_TENSOR_UNIQUE_ID), t);
            if (!at.second && at.first->second != t)
                return say(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "tensors of one number");
        }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_graph(const descriptor *d) {
    graph g;
    bool known;
    const cudnnStatus_t status = check_uids(d);
    return status == CUDNN_STATUS_SUCCESS ? read_graph(d, &g, &known) : status;
}

/* ---- engines ------------------------------------------------------------------------------------------------ */

enum engine { COMPILES, OTHER_BYTES, SUMS_SHORT, TENSOR_CORES, WINOGRAD, GREEDY, GOOD, SLOW };

std::vector<int> notes_of(int engine, const graph &g) {
    switch (engine) {
    case OTHER_BYTES: return { CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC };
    case SUMS_SHORT: return { CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION };
    case TENSOR_CORES: return { CUDNN_NUMERICAL_NOTE_TENSOR_CORE };
    case WINOGRAD: return { CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 };
    case SLOW: return { CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP };
    default: return g.x.type == FAKE_F32 ? std::vector<int>() : std::vector<int>{ CUDNN_NUMERICAL_NOTE_TENSOR_CORE };
    }
}

int64_t workspace_of(int engine) { return engine == GREEDY ? (int64_t)1 << 40 : engine == SLOW ? 0 : 131; }

/* The heuristic's answers: traps first. Winograd's is no engine for every filter, which shows when its plan is made. */
std::vector<int> offers(const graph &g, int mode) {
    if (mode == CUDNN_HEUR_MODE_FALLBACK) return { SLOW };
    if (g.w.size[2] == 5) return {};            /* the fallback's turn */
    return { COMPILES, OTHER_BYTES, SUMS_SHORT, GREEDY, TENSOR_CORES, WINOGRAD, GOOD };
}

/* ---- execution ---------------------------------------------------------------------------------------------- */

/* An engine that should have been left out ends the test. */
void run(const graph &g, const addresses &a, int engine) {
    if (engine < TENSOR_CORES || engine == GREEDY) {
        fprintf(stderr, "cuDNN's engine %d must not be used\n", engine);
        abort();
    }
    convolve(g, a, engine == TENSOR_CORES && g.x.type == FAKE_F32);
}

/* What a plan was made of must still be there. */
bool all_alive(const descriptor *d) {
    if (!is_alive(d)) return false;
    for (const auto &a : d->has) {
        if (a.second.type != CUDNN_TYPE_BACKEND_DESCRIPTOR) continue;
        for (int64_t i = 0; i < a.second.count; i++)
            if (!all_alive(part(d, a.first, (size_t)i))) return false;
    }
    return !d->graph || all_alive(d->graph);
}

/* The address of a tensor in a pack, which must be as aligned as was said. */
cudnnStatus_t find(const descriptor *pack, const tensor &t, const void **p) {
    const int64_t count = pack->has.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).count;
    for (int64_t i = 0; i < count; i++) {
        if (value<int64_t>(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, (size_t)i) != t.uid) continue;
        *p = value<const void *>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, (size_t)i);
        if (!*p) return say(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a tensor without an address");
        if (!fake_aligned(*p, (size_t)t.align)) return say(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "an address");
        return CUDNN_STATUS_SUCCESS;
    }
    return say(CUDNN_STATUS_BAD_PARAM, "a tensor that the pack does not have");
}

} // namespace

/* ---- the library -------------------------------------------------------------------------------------------- */

size_t cudnnGetVersion(void) { return 90000; }
const char *cudnnGetErrorString(cudnnStatus_t status) {
    return status == CUDNN_STATUS_NOT_INITIALIZED    ? "CUDNN_STATUS_NOT_INITIALIZED"
           : status == CUDNN_STATUS_EXECUTION_FAILED ? "CUDNN_STATUS_EXECUTION_FAILED"
           : status / 1000 == 2                      ? "CUDNN_STATUS_BAD_PARAM"
                                                     : "CUDNN_STATUS_OTHER";
}
void cudnnGetLastErrorString(char *message, size_t size) {
    snprintf(message, size, "%s", last_error.c_str());
    last_error.clear();
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    if (failing("no cudnn")) return say(CUDNN_STATUS_NOT_INITIALIZED, "the emulation has none");
    *handle = new fake_dnn{ nullptr };
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d) {
    descriptor *fresh = new descriptor;
    fresh->kind = type;
    std::lock_guard<std::mutex> g(lock);
    alive.insert(*d = fresh);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d) {
    std::lock_guard<std::mutex> g(lock);
    if (!alive.erase(d)) return say(CUDNN_STATUS_BAD_PARAM, "destroyed twice");
    delete of(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    descriptor *d = of(p);
    if (!is_alive(d) || !values) return say(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no descriptor or no values");
    if (d->finished) return say(CUDNN_STATUS_NOT_INITIALIZED, "set after it was finished");
    for (const rule &r : rules) {
        if (r.kind != d->kind || r.name != name) continue;
        if (r.type != type) return say(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute's type");
        if (count < r.least || count > r.most) return say(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND, "attribute's count");
        d->has[name] = { type, count, std::string((const char *)values, (size_t)count * size_of(type)) };
        for (int64_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < count; i++) {
            const descriptor *v = part(d, name, (size_t)i);
            if (!is_alive(v)) return say(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a descriptor");
            if (!v->finished && v->kind != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)
                return say(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a descriptor");
        }
        return CUDNN_STATUS_SUCCESS;
    }
    return say(CUDNN_STATUS_NOT_SUPPORTED, "no such attribute");
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t p) {
    descriptor *d = of(p);
    if (!is_alive(d) || d->finished) return say(CUDNN_STATUS_BAD_PARAM, "finished twice");
    for (const rule &r : rules)
        if (r.kind == d->kind && r.needed && !d->has.count(r.name))
            return say(CUDNN_STATUS_BAD_PARAM, "an attribute is missing");
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    if (d->kind == CUDNN_BACKEND_TENSOR_DESCRIPTOR) status = check_tensor(d);
    if (d->kind == CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR) status = check_windows(d);
    if (d->kind == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) status = check_graph(d);
    if (d->kind == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR
        && d->has.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).count
               != d->has.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).count)
        status = say(CUDNN_STATUS_BAD_PARAM, "numbers and addresses");
    if (d->kind == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR
        && part(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->engine == WINOGRAD) {
        graph g;
        bool known;
        read_graph(part(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->graph, &g, &known);
        if (g.w.size[2] != 3 || g.w.size[3] != 3 || g.stride[0] != 1)
            status = say(CUDNN_STATUS_NOT_SUPPORTED, "filter");
    }
    d->finished = status == CUDNN_STATUS_SUCCESS;
    return status;
}

/* Fills the caller's descriptors, as the real one does. */
static cudnnStatus_t give_engines(const descriptor *d, int64_t most, int64_t *count, void **values) {
    const descriptor *from = part(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    graph g;
    bool known;
    read_graph(from, &g, &known);
    const std::vector<int> all = known ? offers(g, value<int>(d, CUDNN_ATTR_ENGINEHEUR_MODE)) : std::vector<int>();
    *count = (int64_t)all.size();
    for (int64_t i = 0; i < most && i < *count; i++) {
        descriptor *config = of(values[i]);
        if (!config || config->kind != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)
            return say(CUDNN_STATUS_BAD_PARAM, "no room for an engine");
        config->engine = all[(size_t)i];
        config->graph = (descriptor *)from;
        config->finished = true;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t most, int64_t *count, void *values) {
    const descriptor *d = of(p);
    if (!is_alive(d) || !d->finished)
        return say(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "asked of what is not finished");
    graph g;
    bool known;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: return give_engines(d, most, count, (void **)values);
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        *(int64_t *)values = workspace_of(part(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->engine);
        *count = 1;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINECFG_ENGINE: {
        descriptor *engine = of(*(void **)values);
        engine->engine = d->engine;
        engine->graph = d->graph;
        engine->finished = true;
        *count = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: {
        read_graph(d->graph, &g, &known);
        const std::vector<int> notes = notes_of(d->engine, g);
        *count = (int64_t)notes.size();
        for (int64_t i = 0; i < most && i < *count; i++) ((int *)values)[i] = notes[(size_t)i];
        return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
        *count = d->engine == COMPILES;
        if (*count && most) *(int *)values = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
        return CUDNN_STATUS_SUCCESS;
    default: return say(CUDNN_STATUS_NOT_SUPPORTED, "no such attribute");
    }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
    addresses a = {};
    graph g;
    bool known;
    if (failing("no products")) return say(CUDNN_STATUS_EXECUTION_FAILED, "the emulation fails");
    if (!all_alive(of(plan)) || !of(pack)->finished)
        return say(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a plan whose parts are gone");
    const descriptor *config = part(of(plan), CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const int engine = config->engine;
    cudnnStatus_t status = read_graph(config->graph, &g, &known);
    if (status == CUDNN_STATUS_SUCCESS) status = find(of(pack), g.x, &a.x);
    if (status == CUDNN_STATUS_SUCCESS) status = find(of(pack), g.w, &a.w);
    if (status == CUDNN_STATUS_SUCCESS) status = find(of(pack), g.out, &a.out);
    if (status == CUDNN_STATUS_SUCCESS && g.has_residual) status = find(of(pack), g.residual, &a.residual);
    if (status == CUDNN_STATUS_SUCCESS && g.has_bias) status = find(of(pack), g.bias, &a.bias);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    if (g.has_residual && a.residual == a.out) return say(CUDNN_STATUS_NOT_SUPPORTED, "a residual in place");
    void *workspace = value<void *>(of(pack), CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    const size_t bytes = (size_t)workspace_of(engine);
    if (bytes && !workspace) return say(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no workspace");
    fake_enqueue(handle->stream, [=] {
        fake_spend(engine == TENSOR_CORES ? 7 : engine == GOOD ? 0 : 3);
        if (bytes && engine != GREEDY) memset(workspace, 0xff, bytes);
        run(g, a, engine);
    });
    return CUDNN_STATUS_SUCCESS;
}
