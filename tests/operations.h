/* One random call of every operation, the same for the same seed in every context: what tests compare between back
 * ends, numbers of threads, views and dense copies, shape-only and real runs. */
#ifndef WEFT_TEST_OPERATIONS_H
#define WEFT_TEST_OPERATIONS_H

#include "tests/tensors.h"

struct draw {
    uint64_t state;
    weft_dtype type;        /* of the activations */
    weft_dtype weights;
    bool dense;             /* operands that would be views are copied first */
    bool empty;             /* sizes may be 0 */
    void (*made)(void *user, weft_tensor *t);   /* sees each operand's memory before views of it are taken, or NULL */
    void *user;
};

/* A number from low to high. */
static int64_t pick(struct draw *d, int64_t low, int64_t high) {
    double u = (noise(&d->state) + 1) / 2;
    if (d->empty && low <= 1 && u > 0.8) return 0;
    return low + (int64_t)(u * (double)(high - low + 1));
}

/* An operand of this shape: dense, or a view of something larger, or with its dimensions in another order in memory. */
static weft_tensor *operand_of(weft_ctx *c, struct draw *d, weft_dtype type, int rank, const int64_t *shape) {
    int64_t made[WEFT_MAX_RANK], stored[WEFT_MAX_RANK] = { 0 };
    int order[WEFT_MAX_RANK], back[WEFT_MAX_RANK];
    int kind = (int)((noise(&d->state) + 1) * 2);
    uint64_t seed = d->state;
    for (int i = 0; i < rank; i++) made[i] = shape[i], order[i] = i;
    if (kind == 1 && rank) made[rank - 1] += 3;                     /* rows further apart */
    if (kind == 2 && rank) made[0] += 2;
    if (kind == 3)
        for (int i = rank - 1; i > 0; i--) {
            int j = (int)((noise(&d->state) + 1) / 2 * (i + 1)), t = order[i];
            order[i] = order[j];
            order[j] = t;
        }
    for (int i = 0; i < rank; i++) back[order[i]] = i;
    for (int i = 0; i < rank; i++) stored[i] = made[order[i]];
    weft_tensor *t = noisy(c, type, seed, rank, stored);
    if (d->made) d->made(d->user, t);
    t = weft_permute(c, t, back);
    if (kind == 1 && rank) t = weft_slice(c, t, rank - 1, 1, shape[rank - 1]);
    if (kind == 2 && rank) t = weft_slice(c, t, 0, 2, shape[0]);
    return d->dense ? weft_contiguous(c, t) : t;
}
#define OPERAND(...) operand_of(c, d, d->type, WEFT_SHAPE(__VA_ARGS__))
#define WEIGHT(...) operand_of(c, d, d->weights, WEFT_SHAPE(__VA_ARGS__))

static weft_tensor *call_linear(weft_ctx *c, struct draw *d) {
    int64_t b = pick(d, 1, 3), m = pick(d, 1, 40), k = pick(d, 1, 70), n = pick(d, 1, 70);
    weft_tensor *x = OPERAND(b, m, k), *w = WEIGHT(n, k), *bias = OPERAND(n), *r = OPERAND(b, m, n);
    weft_activation act = (weft_activation)(pick(d, 1, WEFT_ACT_COUNT) % WEFT_ACT_COUNT);
    return weft_linear(c, x, w, pick(d, 1, 2) == 1 ? bias : NULL, act, pick(d, 1, 2) == 1 ? r : NULL);
}

static weft_tensor *call_matmul(weft_ctx *c, struct draw *d) {
    int64_t b = pick(d, 1, 3), e = pick(d, 1, 2), m = pick(d, 1, 40), k = pick(d, 1, 50), n = pick(d, 1, 40);
    weft_tensor *a = OPERAND(b, e, m, k);
    return weft_matmul(c, a, OPERAND(b, e, k, n));
}

static weft_tensor *call_conv2d(weft_ctx *c, struct draw *d) {
    int64_t n = pick(d, 1, 2), h = pick(d, 4, 12), w = pick(d, 4, 12), in = pick(d, 1, 40), out = pick(d, 1, 40);
    int64_t kh = pick(d, 2, 3), kw = pick(d, 2, 3);
    weft_conv how = { .stride = (int)pick(d, 2, 3) - 1, .top = (int)pick(d, 2, 4) - 2, .bottom = (int)pick(d, 2, 4) - 2,
                      .left = (int)pick(d, 2, 4) - 2, .right = (int)pick(d, 2, 4) - 2 };
    weft_tensor *x = OPERAND(n, h, w, in), *weight = WEIGHT(out, in, kh, kw), *b = OPERAND(out), *row = OPERAND(n, out);
    int64_t oh = (h + how.top + how.bottom - kh) / how.stride + 1;
    int64_t ow = (w + how.left + how.right - kw) / how.stride + 1;
    weft_tensor *r = OPERAND(n, oh, ow, out);
    return weft_conv2d(c, x, weight, pick(d, 1, 2) == 1 ? b : NULL, how, pick(d, 1, 2) == 1 ? row : NULL,
                       pick(d, 1, 2) == 1 ? r : NULL);
}

static weft_tensor *call_conv_same(weft_ctx *c, struct draw *d) {       /* the shapes that Winograd takes */
    int64_t n = pick(d, 1, 2), h = pick(d, 8, 20), in = pick(d, 16, 48), out = pick(d, 16, 48);
    weft_tensor *x = OPERAND(n, h, h, in);
    return weft_conv2d(c, x, WEIGHT(out, in, 3, 3), NULL, WEFT_CONV_SAME(3), NULL, NULL);
}

static weft_tensor *call_attention(weft_ctx *c, struct draw *d) {
    int64_t b = pick(d, 1, 2), heads = pick(d, 1, 3), tq = pick(d, 1, 70), tk = pick(d, 1, 70), w = pick(d, 1, 40);
    weft_tensor *q = OPERAND(b, tq, heads, w), *k = OPERAND(b, tk, heads, w);
    return weft_attention(c, q, k, OPERAND(b, tk, heads, w), 0, pick(d, 1, 2) == 1);
}

static weft_tensor *call_group_norm(weft_ctx *c, struct draw *d) {
    int64_t n = pick(d, 1, 2), h = pick(d, 1, 9), w = pick(d, 1, 9), groups = pick(d, 2, 8), each = pick(d, 2, 7);
    weft_tensor *x = OPERAND(n, h, w, groups * each), *g = OPERAND(groups * each), *b = OPERAND(groups * each);
    bool scaled = pick(d, 1, 2) == 1;
    return weft_group_norm(c, x, (int)groups, 1e-5, scaled ? g : NULL, scaled ? b : NULL,
                           (weft_activation)(pick(d, 1, WEFT_ACT_COUNT) % WEFT_ACT_COUNT));
}

static weft_tensor *call_layer_norm(weft_ctx *c, struct draw *d) {
    int64_t n = pick(d, 1, 9), t = pick(d, 1, 9), w = pick(d, 2, 70);
    weft_tensor *x = OPERAND(n, t, w), *g = OPERAND(w);
    return weft_layer_norm(c, x, 1e-5, g, OPERAND(w));
}

static weft_tensor *call_softmax(weft_ctx *c, struct draw *d) {
    int64_t n = pick(d, 1, 9), w = pick(d, 1, 70);
    return weft_softmax(c, OPERAND(n, w), 2.5);
}

static weft_tensor *call_geglu(weft_ctx *c, struct draw *d) {
    int64_t n = pick(d, 1, 9), t = pick(d, 1, 9), w = pick(d, 1, 40);
    return weft_geglu(c, OPERAND(n, t, 2 * w));
}

static weft_tensor *call_unary(weft_ctx *c, struct draw *d) {
    weft_unary_op op = (weft_unary_op)(pick(d, 2, WEFT_UNARY_COUNT + 1) - 2);
    weft_tensor *x = OPERAND(pick(d, 1, 30), pick(d, 1, 50));
    if (op == WEFT_UNARY_LOG || op == WEFT_UNARY_SQRT) x = weft_affine(c, x, 1, 1.5);
    return weft_unary(c, op, x);
}

static weft_tensor *call_affine(weft_ctx *c, struct draw *d) {
    weft_tensor *x = OPERAND(pick(d, 1, 30), pick(d, 1, 50));
    return weft_clamp(c, weft_affine(c, x, 3, -0.25), -1, 2);
}

static weft_tensor *call_binary(weft_ctx *c, struct draw *d) {
    int64_t shape[2][WEFT_MAX_RANK], rank = pick(d, 2, 6), cut = pick(d, 2, rank) - 2;
    for (int i = 0; i < rank; i++) {
        int64_t size = pick(d, 1, 5), side = pick(d, 2, 5);
        shape[0][i] = side == 2 ? 1 : size;
        shape[1][i] = side == 3 ? 1 : size;
    }
    weft_tensor *a = operand_of(c, d, d->type, (int)rank, shape[0]);
    weft_tensor *b = operand_of(c, d, d->type, (int)(rank - cut), shape[1] + cut);
    weft_binary_op op = (weft_binary_op)(pick(d, 2, WEFT_BINARY_COUNT + 1) - 2);
    return op == WEFT_BINARY_DIV ? weft_div(c, a, weft_affine(c, b, 1, 3)) : weft_binary(c, op, a, b);
}

static weft_tensor *call_axpby(weft_ctx *c, struct draw *d) {
    int64_t n = pick(d, 1, 30), m = pick(d, 1, 50);
    weft_tensor *a = OPERAND(n, m);
    return weft_axpby(c, 0.75, a, -7.5, OPERAND(n, m));
}

static weft_tensor *call_reduce(weft_ctx *c, struct draw *d) {
    weft_tensor *x = OPERAND(pick(d, 2, 9), pick(d, 2, 30), pick(d, 2, 20));
    weft_reduce_op op = (weft_reduce_op)(pick(d, 2, WEFT_REDUCE_COUNT + 1) - 2);
    int64_t dim = pick(d, 2, 5) - 2;
    return dim == 3 ? weft_reduce_all(c, op, x) : weft_reduce(c, op, x, (int)dim);
}

static weft_tensor *call_concat(weft_ctx *c, struct draw *d) {
    int64_t shape[3] = { pick(d, 1, 4), pick(d, 1, 6), pick(d, 1, 8) };
    int dim = (int)pick(d, 2, 4) - 2, n = (int)pick(d, 2, 4);
    weft_tensor *part[4];
    for (int i = 0; i < n; i++) {
        shape[dim] = pick(d, 1, 5);
        part[i] = operand_of(c, d, d->type, 3, shape);
    }
    return weft_concat(c, dim - 3, n, part);
}

static weft_tensor *call_views(weft_ctx *c, struct draw *d) {
    int64_t n = pick(d, 1, 3), h = pick(d, 2, 6), w = pick(d, 2, 6), k = pick(d, 1, 4);
    weft_tensor *x = weft_to_nchw(c, OPERAND(n, h, w, k));
    x = weft_slice(c, x, 2, 1, h - 1);
    x = weft_broadcast(c, weft_reshape(c, x, WEFT_SHAPE(n, 1, k, (h - 1) * w)), WEFT_SHAPE(n, 2, k, (h - 1) * w));
    return weft_reshape(c, weft_permute(c, x, (const int[]){ 3, 1, 0, 2 }), WEFT_SHAPE((h - 1) * w * 2, n * k));
}

static weft_tensor *call_resample(weft_ctx *c, struct draw *d) {
    int64_t n = pick(d, 1, 2), h = pick(d, 2, 9), w = pick(d, 2, 9), k = pick(d, 1, 5);
    weft_tensor *x = OPERAND(n, h, w, k);
    weft_resample_mode mode = (weft_resample_mode)(pick(d, 2, WEFT_RESAMPLE_COUNT + 1) - 2);
    int64_t oh = pick(d, 2, 17), ow = pick(d, 2, 17);
    return weft_resample(c, x, mode, oh, ow);
}

static weft_tensor *call_pad(weft_ctx *c, struct draw *d) {
    weft_tensor *x = OPERAND(pick(d, 1, 2), pick(d, 4, 9), pick(d, 4, 9), pick(d, 1, 5));
    weft_pad_mode mode = (weft_pad_mode)(pick(d, 2, WEFT_PAD_COUNT + 1) - 2);
    int low = mode == WEFT_PAD_CONSTANT ? 2 : 0, pads[4];
    for (int i = 0; i < 4; i++) pads[i] = (int)pick(d, 2, 5 + low) - 2 - low;
    return weft_pad(c, x, mode, pads[0], pads[1], pads[2], pads[3], 0.5);
}

static weft_tensor *call_embedding(weft_ctx *c, struct draw *d) {
    int64_t rows = pick(d, 2, 20), n = pick(d, 1, 6), m = pick(d, 1, 6);
    weft_tensor *u = weft_affine(c, operand_of(c, d, d->type == WEFT_F64 ? WEFT_F64 : WEFT_F32, WEFT_SHAPE(n, m)), (double)rows / 2, (double)rows / 2);
    weft_tensor *ids = weft_cast(c, u, pick(d, 1, 2) == 1 ? WEFT_I64 : WEFT_I32);
    return weft_embedding(c, ids, WEIGHT(rows, pick(d, 1, 30)), d->type);
}

static weft_tensor *call_timestep(weft_ctx *c, struct draw *d) {
    weft_tensor *t = weft_affine(c, OPERAND(pick(d, 1, 5)), 2, 3);
    int64_t width = pick(d, 2, 40);
    return weft_timestep_embedding(c, t, width, pick(d, 1, 2) == 1, width > 3, 1, 10000);
}

static weft_tensor *call_cast(weft_ctx *c, struct draw *d) {
    weft_tensor *x = OPERAND(pick(d, 1, 9), pick(d, 1, 9), pick(d, 1, 9));
    return weft_cast(c, weft_cast(c, x, WEFT_BF16), d->type);
}

static const struct { const char *name; weft_tensor *(*call)(weft_ctx *c, struct draw *d); } operation[] = {
    { "linear", call_linear }, { "matmul", call_matmul }, { "conv2d", call_conv2d }, { "conv2d 3×3", call_conv_same },
    { "attention", call_attention }, { "group_norm", call_group_norm }, { "layer_norm", call_layer_norm },
    { "softmax", call_softmax }, { "geglu", call_geglu }, { "unary", call_unary }, { "affine", call_affine },
    { "binary", call_binary }, { "axpby", call_axpby }, { "reduce", call_reduce }, { "concat", call_concat },
    { "views", call_views }, { "resample", call_resample }, { "pad", call_pad }, { "embedding", call_embedding },
    { "timestep", call_timestep }, { "cast", call_cast },
};
enum { OPERATIONS = sizeof operation / sizeof *operation };

#endif
