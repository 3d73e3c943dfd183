/* Way down, middle, way up; see unet_rms.h.
 *
 *   init_conv 7×7 → downs: block1 (kept), block2, + attention (kept), half the size → mid_block1, + mid_attn, mid_block2
 *   → ups: block1 and block2, each on the concatenation with the newest kept one, + attention, twice the size
 *   → concatenation with init_conv's output → final_res_block → final_conv 1×1.
 *
 *   block       h = SiLU(rms(conv(x))·(scale + 1) + shift) by block1, where scale and shift come of the time; SiLU(rms(conv(h)))
 *               by block2; + x (through res_conv where the widths differ)
 *   rms(x)      x/max(‖x‖, 1e-12)·g·√C over a pixel's C channels
 *   time        t's sinusoids, [sin, cos] of t/θ^(k/(d/2 − 1)), or t and [sin, cos] of 2π·w·t with weights w; linear,
 *               GELU, linear
 *   attention   4 learned keys and values (mem_kv) stand before those of the pixels. Linear: q = softmax over a head's
 *               channels·d^−½, k = softmax over the positions; (q·(kᵀ·v)).
 */
#include "nodes/unet/unet_rms.h"

#include <inttypes.h>
#include <math.h>

#include "nodes/blocks.h"
#include "runtime/autograd.h"

#define MEMORY 4                /* num_mem_kv */
#define MAX_KEPT (2 * WEFT_UNET_RMS_MAX_STAGES)

static const weft_init normal = { .kind = WEFT_INIT_NORMAL, .std = 1 };

static int first_width(const weft_unet_rms_config *u) { return u->init_dim ? u->init_dim : u->dim; }

/* Width of what goes into stage i on the way down; what leaves it has that of i + 1. */
static int width_of(const weft_unet_rms_config *u, int i) {
    return i ? u->dim * u->dim_mults[i - 1] : first_width(u);
}

static weft_tensor *rms_norm(weft_ctx *c, weft_params p, weft_tensor *x) {
    weft_scope s = weft_scope_begin(c, p);
    int64_t n = weft_dim(x, 0), h = weft_dim(x, 1), w = weft_dim(x, 2), width = weft_dim(x, 3);
    weft_tensor *g = weft_param(c, p, "g", (weft_init){ .kind = WEFT_INIT_ONES }, WEFT_SHAPE(1, width, 1, 1));
    g = weft_cast(c, weft_reshape(c, g, WEFT_SHAPE(width)), weft_type(x));
    weft_tensor *length = weft_reduce(c, WEFT_REDUCE_SUM, weft_unary(c, WEFT_UNARY_SQUARE, x), 3);
    length = weft_unary(c, WEFT_UNARY_SQRT, weft_clamp(c, length, 1e-24, INFINITY));     /* so that 0 has a gradient */
    weft_tensor *y = weft_div(c, x, weft_reshape(c, length, WEFT_SHAPE(n, h, w, 1)));
    return weft_scope_end(c, s, weft_mul(c, y, weft_affine(c, g, sqrt((double)width), 0)));
}

/* time: scale and shift side by side, (N, 1, 1, 2·out), or NULL. */
static weft_tensor *block(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, weft_tensor *time) {
    weft_scope s = weft_scope_begin(c, p);
    x = rms_norm(c, weft_sub(p, "norm"), weft_block_conv(c, weft_sub(p, "proj"), x, out, 3));
    if (time) {
        weft_tensor *scale = weft_affine(c, weft_slice(c, time, 3, 0, out), 1, 1), *shift = weft_slice(c, time, 3, out, out);
        x = weft_add(c, weft_mul(c, x, scale), shift);
    }
    return weft_scope_end(c, s, weft_silu(c, x));
}

struct resnet { weft_params p; int64_t out; };

/* in: x, time. */
static void run_resnet(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **result) {
    const struct resnet *r = user;
    const int64_t out = r->out;
    weft_params p = r->p;
    weft_tensor *x = in[0], *time = in[1];
    weft_scope s = weft_scope_begin(c, p);
    weft_tensor *t = weft_nn_linear(c, weft_sub(p, "mlp.1"), time, 2 * out, true);
    t = weft_reshape(c, t, WEFT_SHAPE(weft_dim(time, 0), 1, 1, 2 * out));
    weft_tensor *h = block(c, weft_sub(p, "block1"), x, out, t);
    h = block(c, weft_sub(p, "block2"), h, out, NULL);
    if (weft_dim(x, 3) != out) x = weft_block_conv(c, weft_sub(p, "res_conv"), x, out, 1);
    *result = weft_scope_end(c, s, weft_add(c, h, x));
}

/* time: SiLU of the time embedding, (N, E). */
static weft_tensor *resnet(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out, weft_tensor *time) {
    struct resnet r = { p, out };
    weft_tensor *y;
    weft_recompute(c, run_resnet, &r, sizeof r, 2, (weft_tensor *const[]){ x, time }, 1, &y);
    return y;
}

/* The i-th third of qkv (N,T,3·heads·d) as (N,T,heads,d), a view. */
static weft_tensor *third(weft_ctx *c, weft_tensor *qkv, int i, int heads, int d) {
    weft_tensor *t = weft_slice(c, qkv, 2, (int64_t)i * heads * d, (int64_t)heads * d);
    return weft_reshape(c, t, WEFT_SHAPE(weft_dim(qkv, 0), weft_dim(qkv, 1), heads, d));
}

/* What the i-th of mem_kv (2,heads,a,b) holds, put into `order` of (1,heads,a,b), for each of n pictures. */
static weft_tensor *memory(weft_ctx *c, weft_tensor *mem, int i, int64_t n, const int *order, weft_dtype type) {
    weft_tensor *t = weft_permute(c, weft_cast(c, weft_slice(c, mem, 0, i, 1), type), order);
    return weft_broadcast(c, t, WEFT_SHAPE(n, weft_dim(t, 1), weft_dim(t, 2), weft_dim(t, 3)));
}

static weft_tensor *full_attention(weft_ctx *c, weft_params p, weft_tensor *qkv, int heads, int d) {
    int64_t n = weft_dim(qkv, 0), tokens = weft_dim(qkv, 1);
    static const int tokens_first[] = { 0, 2, 1, 3 };
    weft_tensor *mem = weft_param(c, p, "mem_kv", normal, WEFT_SHAPE(2, heads, MEMORY, d));
    weft_tensor *kv[2];
    for (int i = 0; i < 2; i++)
        kv[i] = weft_concat2(c, 1, memory(c, mem, i, n, tokens_first, weft_type(qkv)), third(c, qkv, 1 + i, heads, d));
    weft_tensor *y = weft_attention(c, third(c, qkv, 0, heads, d), kv[0], kv[1], 0, false);
    return weft_reshape(c, y, WEFT_SHAPE(n, tokens, heads * d));
}

static weft_tensor *linear_attention(weft_ctx *c, weft_params p, weft_tensor *qkv, int heads, int d) {
    static const int channels_last[] = { 0, 2, 3, 1 }, heads_first[] = { 0, 2, 1, 3 }, as_is[] = { 0, 1, 2, 3 };
    static const int transposed[] = { 0, 1, 3, 2 };
    int64_t n = weft_dim(qkv, 0), tokens = weft_dim(qkv, 1);
    weft_dtype type = weft_type(qkv);
    weft_tensor *mem = weft_param(c, p, "mem_kv", normal, WEFT_SHAPE(2, heads, d, MEMORY));
    weft_tensor *q = weft_permute(c, third(c, qkv, 0, heads, d), heads_first);                      /* (N,heads,T,d) */
    weft_tensor *k = weft_permute(c, third(c, qkv, 1, heads, d), channels_last);                    /* (N,heads,d,T) */
    weft_tensor *v = weft_permute(c, third(c, qkv, 2, heads, d), heads_first);
    k = weft_softmax(c, weft_concat2(c, 3, memory(c, mem, 0, n, as_is, type), k), 1);
    v = weft_concat2(c, 2, memory(c, mem, 1, n, transposed, type), v);
    q = weft_affine(c, weft_softmax(c, q, 1), 1 / sqrt(d), 0);
    weft_tensor *y = weft_matmul(c, q, weft_matmul(c, k, v));                                       /* (N,heads,T,d) */
    return weft_reshape(c, weft_permute(c, y, heads_first), WEFT_SHAPE(n, tokens, heads * d));
}

struct attention { weft_params p; int heads, d; bool full; };

static void run_attention(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **out) {
    const struct attention *a = user;
    const int heads = a->heads, d = a->d;
    const bool full = a->full;
    weft_params p = a->p;
    weft_tensor *x = in[0];
    weft_scope s = weft_scope_begin(c, p);
    int64_t n = weft_dim(x, 0), h = weft_dim(x, 1), w = weft_dim(x, 2), width = weft_dim(x, 3), inner = (int64_t)heads * d;
    weft_tensor *y = weft_reshape(c, rms_norm(c, weft_sub(p, "norm"), x), WEFT_SHAPE(n, h * w, width));
    weft_tensor *qkv = weft_nn_pointwise(c, weft_sub(p, "to_qkv"), y, 3 * inner, false);
    y = full ? full_attention(c, p, qkv, heads, d) : linear_attention(c, p, qkv, heads, d);
    y = weft_nn_pointwise(c, weft_sub(p, full ? "to_out" : "to_out.0"), y, width, true);
    y = weft_reshape(c, y, WEFT_SHAPE(n, h, w, width));
    if (!full) y = rms_norm(c, weft_sub(p, "to_out.1"), y);
    *out = weft_scope_end(c, s, weft_add(c, y, x));
}

/* x + attention(rms(x)) */
static weft_tensor *attention(weft_ctx *c, weft_params p, weft_tensor *x, int heads, int d, bool full) {
    struct attention a = { p, heads, d, full };
    weft_tensor *y;
    weft_recompute(c, run_attention, &a, sizeof a, 1, &x, 1, &y);
    return y;
}

/* The four pixels of every 2×2 square side by side, channel by channel, then 1×1. */
static weft_tensor *downsample(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out) {
    weft_scope s = weft_scope_begin(c, p);
    int64_t n = weft_dim(x, 0), h = weft_dim(x, 1) / 2, w = weft_dim(x, 2) / 2, width = weft_dim(x, 3);
    x = weft_reshape(c, x, WEFT_SHAPE(n, h, 2, w, 2, width));
    x = weft_reshape(c, weft_permute(c, x, (const int[]){ 0, 1, 3, 5, 2, 4 }), WEFT_SHAPE(n, h, w, 4 * width));
    return weft_scope_end(c, s, weft_block_conv(c, weft_sub(p, "1"), x, out, 1));
}

static weft_tensor *upsample(weft_ctx *c, weft_params p, weft_tensor *x, int64_t out) {
    weft_scope s = weft_scope_begin(c, p);
    x = weft_resample(c, x, WEFT_NEAREST, 2 * weft_dim(x, 1), 2 * weft_dim(x, 2));
    return weft_scope_end(c, s, weft_block_conv(c, weft_sub(p, "1"), x, out, 3));
}

/* What the way up will want, held by references of its own. */
struct kept { weft_tensor *items[MAX_KEPT]; int count; };

static void keep(struct kept *k, weft_tensor *x) { k->items[k->count++] = weft_ref(x); }

/* x and the newest kept one side by side. */
static weft_tensor *join(weft_ctx *c, struct kept *k, weft_tensor *x) {
    weft_tensor *newest = k->items[--k->count];
    x = weft_concat2(c, 3, x, newest);
    weft_unref(newest);
    return x;
}

static weft_tensor *down(weft_ctx *c, weft_params p, const weft_unet_rms_config *u, int i, weft_tensor *x, weft_tensor *time,
                         struct kept *k) {
    bool last = i == u->stages - 1;
    int width = width_of(u, i), out = width_of(u, i + 1);
    weft_scope s = weft_scope_begin(c, p);
    weft_chain chain = weft_chain_begin(c, 3);
    x = weft_chain_next(c, &chain, resnet(c, weft_sub(p, "0"), x, width, time));
    keep(k, x);
    x = weft_chain_next(c, &chain, resnet(c, weft_sub(p, "1"), x, width, time));
    x = weft_chain_next(c, &chain, attention(c, weft_sub(p, "2"), x, u->heads[i], u->head_dim[i], u->full_attention[i]));
    keep(k, x);
    x = last ? weft_block_conv(c, weft_sub(p, "3"), x, out, 3) : downsample(c, weft_sub(p, "3"), x, out);
    return weft_scope_end(c, s, x);
}

static weft_tensor *up(weft_ctx *c, weft_params p, const weft_unet_rms_config *u, int i, weft_tensor *x, weft_tensor *time,
                       struct kept *k) {
    int width = width_of(u, i + 1), out = width_of(u, i);
    weft_scope s = weft_scope_begin(c, p);
    weft_chain chain = weft_chain_begin(c, 3);
    x = weft_chain_next(c, &chain, resnet(c, weft_sub(p, "0"), join(c, k, x), width, time));
    x = weft_chain_next(c, &chain, resnet(c, weft_sub(p, "1"), join(c, k, x), width, time));
    x = weft_chain_next(c, &chain, attention(c, weft_sub(p, "2"), x, u->heads[i], u->head_dim[i], u->full_attention[i]));
    x = i == 0 ? weft_block_conv(c, weft_sub(p, "3"), x, out, 3) : upsample(c, weft_sub(p, "3"), x, out);
    return weft_scope_end(c, s, x);
}

/* Sinusoids of weights' frequencies behind the time itself, (N, 1 + fourier_dim); random ones are no leaves. */
static weft_tensor *fourier(weft_ctx *c, weft_params p, const weft_unet_rms_config *u, weft_tensor *timesteps) {
    int half = u->fourier_dim / 2;
    weft_tensor *w = weft_cast(c, weft_param(c, p, "weights", normal, WEFT_SHAPE(half)), weft_type(timesteps));
    if (u->random_fourier) w = weft_detach(c, w);
    weft_tensor *t = weft_reshape(c, timesteps, WEFT_SHAPE(-1, 1));
    weft_tensor *x = weft_affine(c, weft_mul(c, t, weft_reshape(c, w, WEFT_SHAPE(1, half))), 2 * M_PI, 0);
    x = weft_concat2(c, 1, weft_unary(c, WEFT_UNARY_SIN, x), weft_unary(c, WEFT_UNARY_COS, x));
    return weft_concat2(c, 1, t, x);
}

/* SiLU of the time embedding (N, 4·dim): every block takes it so, hence once for all. */
static weft_tensor *time_embedding(weft_ctx *c, weft_params p, const weft_unet_rms_config *u, weft_tensor *timesteps,
                                   weft_dtype type) {
    weft_scope s = weft_scope_begin(c, p);
    weft_tensor *t = u->fourier_dim ? fourier(c, weft_sub(p, "0"), u, timesteps)
                                    : weft_timestep_embedding(c, timesteps, u->dim, false, 1, 1, u->theta);
    t = weft_cast(c, t, type);
    t = weft_nn_linear_act(c, weft_sub(p, "1"), t, 4 * (int64_t)u->dim, true, WEFT_ACT_GELU, NULL);
    t = weft_nn_linear(c, weft_sub(p, "3"), t, 4 * (int64_t)u->dim, true);
    return weft_scope_end(c, s, weft_silu(c, t));
}

static bool check(weft_ctx *c, const weft_unet_rms_config *u, weft_tensor *sample, weft_tensor *timesteps, weft_tensor *cond) {
    char text[128], other[128];
    if (!weft_ok(c)) return false;
    int64_t n = weft_dim(sample, 0), each = (int64_t)1 << (u->stages - 1);
    weft_describe(sample, text, sizeof text);
    if (weft_rank(sample) != 4 || weft_dim(sample, 3) != u->channels)
        weft_fail(c, WEFT_E_SHAPE, "unet: sample is %s, expected (N, H, W, %d)", text, u->channels);
    else if (weft_dim(sample, 1) % each || weft_dim(sample, 2) % each || !weft_dim(sample, 1) || !weft_dim(sample, 2))
        weft_fail(c, WEFT_E_SHAPE, "unet: sample is %s; height and width must be multiples of %" PRId64, text, each);
    else if (weft_rank(timesteps) != 1 || weft_dim(timesteps, 0) != n || weft_type(timesteps) != weft_type(sample))
        weft_fail(c, WEFT_E_SHAPE, "unet: timesteps are %s, expected (%" PRId64 ") of the sample's type",
                  weft_describe(timesteps, other, sizeof other), n);
    else if (cond && !u->self_condition)
        weft_fail(c, WEFT_E_ARGUMENT, "unet: an estimate to condition on, but the model has self_condition off");
    return weft_ok(c);
}

weft_tensor *weft_unet_rms(weft_ctx *c, weft_params p, const weft_unet_rms_config *u, weft_tensor *sample,
                           weft_tensor *timesteps, weft_tensor *self_cond) {
    if (!check(c, u, sample, timesteps, self_cond)) return NULL;
    struct kept k = { .count = 0 };
    weft_scope s = weft_scope_begin(c, p);
    weft_tensor *x = weft_to_compute(c, sample);
    weft_tensor *time = time_embedding(c, weft_sub(p, "time_mlp"), u, timesteps, weft_type(x));
    if (u->self_condition) {
        if (self_cond) self_cond = weft_to_compute(c, self_cond);
        if (!self_cond) self_cond = weft_full(c, weft_type(x), 4, weft_shape(x), 0);
        x = weft_concat2(c, 3, self_cond, x);
    }
    weft_tensor *first = weft_block_conv(c, weft_sub(p, "init_conv"), x, first_width(u), 7);
    weft_chain chain = weft_chain_begin(c, 2 * u->stages + 3);
    const int last = u->stages - 1, middle = width_of(u, u->stages);
    x = first;
    for (int i = 0; i < u->stages; i++) x = weft_chain_next(c, &chain, down(c, weft_sub_at(p, "downs", i), u, i, x, time, &k));
    x = weft_chain_next(c, &chain, resnet(c, weft_sub(p, "mid_block1"), x, middle, time));
    x = weft_chain_next(c, &chain, attention(c, weft_sub(p, "mid_attn"), x, u->heads[last], u->head_dim[last], true));
    x = weft_chain_next(c, &chain, resnet(c, weft_sub(p, "mid_block2"), x, middle, time));
    for (int i = last; i >= 0; i--)
        x = weft_chain_next(c, &chain, up(c, weft_sub_at(p, "ups", last - i), u, i, x, time, &k));
    x = resnet(c, weft_sub(p, "final_res_block"), weft_concat2(c, 3, x, first), first_width(u), time);
    x = weft_block_conv(c, weft_sub(p, "final_conv"), x, u->out_dim ? u->out_dim : u->channels, 1);
    return weft_scope_end(c, s, x ? weft_cast(c, x, weft_type(sample)) : NULL);
}

void weft_unet_rms_walk(weft_ctx *c, weft_params root, void *user) {
    const weft_unet_rms_config *u = user;
    if (weft_unet_rms_config_check(c, "unet", u)) return;
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    int64_t size = (int64_t)1 << u->stages;
    weft_unet_rms(c, root, u, weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1, size, size, u->channels)),
                  weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1)), NULL);
    weft_scope_end(c, s, NULL);
}
