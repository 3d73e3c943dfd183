/* Embeddings, layers, pooling; see clip_text.h. */
#include "nodes/text/clip_text.h"

#include <inttypes.h>
#include <stdlib.h>

#include "runtime/autograd.h"

/* A tensor of the scope s that a caller may have: x itself belongs to somebody else. */
static weft_tensor *handed(weft_ctx *c, weft_tensor *x) {
    return x ? weft_reshape(c, x, weft_rank(x), weft_shape(x)) : NULL;
}

/* The ids on the host, as i64, to be freed by free(); NULL with the error set. */
static int64_t *ids_of(weft_ctx *c, weft_tensor *ids) {
    size_t n = (size_t)weft_count(ids);
    int64_t *wide = calloc(n + 1, sizeof *wide);
    void *values = calloc(n + 1, sizeof *wide);
    bool ok = wide && values;
    if (!ok) weft_fail(c, WEFT_E_MEMORY, "clip text: no memory for the ids");
    ok = ok && (weft_is_shape_only(c) || !weft_read(c, ids, values, n * weft_dtype_size(weft_type(ids))));
    for (size_t i = 0; ok && i < n; i++)
        wide[i] = weft_type(ids) == WEFT_I64 ? ((int64_t *)values)[i] : ((int32_t *)values)[i];
    free(values);
    if (ok) return wide;
    free(wide);
    return NULL;
}

static weft_tensor *token_vectors(
    weft_ctx *c, weft_params p, weft_tensor *ids, const weft_clip_text_config *config, weft_dtype type) {
    return weft_nn_embedding(c, p, ids, config->vocabulary, config->width, 0.02 * config->spread, type);
}

/* Vectors in the place of the ids behind the vocabulary: rows of the other tokens with the vectors behind them. */
static weft_tensor *with_vectors(weft_ctx *c, weft_params p, const weft_clip_text_config *config,
                                 const weft_clip_text_inputs *in, weft_tensor *vectors) {
    int64_t n = weft_count(in->ids), *rows = ids_of(c, in->ids), *words = rows ? calloc((size_t)n + 1, sizeof *words) : NULL;
    weft_tensor *x = NULL;
    if (rows && !words) weft_fail(c, WEFT_E_MEMORY, "clip text: no memory for the ids");
    for (int64_t i = 0; words && i < n; i++) {
        bool vector = rows[i] >= config->vocabulary;
        words[i] = vector ? 0 : rows[i];
        rows[i] = vector ? n + (rows[i] - config->vocabulary) : i;
    }
    if (words) {
        x = weft_tensor_from(c, WEFT_I64, WEFT_SHAPE(n), words);
        x = token_vectors(c, weft_sub(p, "token_embedding"), x, config, in->type);
        x = weft_concat2(c, 0, x, weft_cast(c, vectors, in->type));
        weft_tensor *places = weft_tensor_from(c, WEFT_I64, weft_rank(in->ids), weft_shape(in->ids), rows);
        x = weft_embedding(c, places, x, in->type);
    }
    free(rows);
    free(words);
    return x;
}

static weft_tensor *embeddings(weft_ctx *c, weft_params root, const weft_clip_text_config *config,
                               const weft_clip_text_inputs *in) {
    weft_params p = weft_sub(root, "embeddings"), words = weft_sub(p, "token_embedding");
    weft_dtype type = in->type;
    weft_tensor *ids = in->ids;
    weft_scope s = weft_scope_begin(c, p);
    weft_init init = { .kind = WEFT_INIT_NORMAL, .std = 0.01 * config->spread };
    weft_tensor *vectors = in->vectors;
    if (config->added) {
        weft_tensor *added = weft_param(c, words, "added", init, WEFT_SHAPE(config->added, config->width));
        vectors = vectors ? weft_concat2(c, 0, added, weft_cast(c, vectors, weft_type(added))) : added;
    }
    weft_tensor *x = vectors ? with_vectors(c, p, config, in, vectors)
                             : token_vectors(c, words, ids, config, type);
    weft_tensor *at = weft_param(c, weft_sub(p, "position_embedding"), "weight", init,
                                 WEFT_SHAPE(config->positions, config->width));
    at = weft_cast(c, weft_slice(c, at, 0, 0, weft_dim(ids, 1)), type);
    return weft_scope_end(c, s, weft_add(c, x, at));
}

/* out_proj of causal attention over x (B, T, width), + residual. */
static weft_tensor *attention(weft_ctx *c, weft_params p, weft_tensor *x, int heads, weft_tensor *residual) {
    static const char *const names[3] = { "q_proj", "k_proj", "v_proj" };
    weft_scope s = weft_scope_begin(c, p);
    int64_t n = weft_dim(x, 0), t = weft_dim(x, 1), width = weft_dim(x, 2);
    weft_tensor *qkv[3];
    for (int i = 0; i < 3; i++) {
        weft_tensor *y = weft_nn_linear(c, weft_sub(p, names[i]), x, width, true);
        qkv[i] = weft_reshape(c, y, WEFT_SHAPE(n, t, heads, width / heads));
    }
    weft_tensor *y = weft_attention(c, qkv[0], qkv[1], qkv[2], 0, true);
    y = weft_reshape(c, y, WEFT_SHAPE(n, t, width));
    y = weft_nn_linear_act(c, weft_sub(p, "out_proj"), y, width, true, WEFT_ACT_NONE, residual);
    return weft_scope_end(c, s, y);
}

struct layer { weft_params p; weft_clip_text_config config; };

static void run_layer(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **out) {
    const struct layer *l = user;
    const weft_clip_text_config *config = &l->config;
    weft_params p = l->p;
    weft_tensor *x = in[0];
    weft_scope s = weft_scope_begin(c, p);
    weft_params mlp = weft_sub(p, "mlp");
    weft_tensor *h = weft_nn_layer_norm(c, weft_sub(p, "layer_norm1"), x, config->norm_eps);
    x = attention(c, weft_sub(p, "self_attn"), h, config->heads, x);
    h = weft_nn_layer_norm(c, weft_sub(p, "layer_norm2"), x, config->norm_eps);
    h = weft_nn_linear_act(c, weft_sub(mlp, "fc1"), h, config->inner, true, config->act, NULL);
    h = weft_nn_linear_act(c, weft_sub(mlp, "fc2"), h, config->width, true, WEFT_ACT_NONE, x);
    out[0] = weft_scope_end(c, s, h);
}

static weft_tensor *layer(weft_ctx *c, weft_params p, const weft_clip_text_config *config, weft_tensor *x) {
    struct layer l = { p, *config };
    weft_tensor *y;
    weft_recompute(c, run_layer, &l, sizeof l, 1, &x, 1, &y);
    return y;
}

/* Where a text ends: the first `eos`, or place 0 where there is none; eos 2: the first of the highest id. */
static int64_t end_of(const int64_t *ids, int64_t count, const weft_clip_text_config *config) {
    int64_t best = 0, highest = INT64_MIN;
    for (int64_t i = 0; i < count; i++) {
        if (config->eos != 2 && ids[i] == config->eos) return i;
        if (config->eos == 2 && ids[i] > highest && ids[i] < config->vocabulary) {
            highest = ids[i];
            best = i;
        }
    }
    return best;
}

/* The numbers of the rows of (B·T, width) that are pooled: (B) i64. */
static weft_tensor *pooled_rows(weft_ctx *c, weft_tensor *ids, const weft_clip_text_config *config) {
    int64_t n = weft_dim(ids, 0), t = weft_dim(ids, 1);
    int64_t *values = ids_of(c, ids);
    if (!values) return NULL;
    for (int64_t i = 0; i < n; i++) values[i] = i * t + end_of(values + i * t, t, config);     /* i ≤ i·t: read before */
    weft_tensor *rows = weft_tensor_from(c, WEFT_I64, WEFT_SHAPE(n), values);
    free(values);
    return rows;
}

/* x: what leaves the last layer. A norm looks at one row alone, so only the rows that are pooled get it. */
static weft_tensor *pool(weft_ctx *c, weft_params p, const weft_clip_text_config *config, weft_tensor *ids,
                         weft_tensor *x) {
    weft_scope s = weft_scope_named(c, "pooled");
    weft_tensor *rows = weft_reshape(c, x, WEFT_SHAPE(-1, config->width));
    rows = weft_embedding(c, pooled_rows(c, ids, config), rows, weft_type(x));
    rows = weft_nn_layer_norm(c, weft_sub(p, "final_layer_norm"), rows, config->norm_eps);
    if (config->projection) rows = weft_nn_linear(c, weft_sub(p, "text_projection"), rows, config->projection, false);
    return weft_scope_end(c, s, rows);
}

static weft_status check_inputs(weft_ctx *c, const weft_clip_text_config *config, const weft_clip_text_inputs *in) {
    char text[96];
    if (weft_clip_text_config_check(c, "clip text", config)) return weft_error(c);
    const weft_tensor *ids = in->ids;
    if (!ids) return weft_fail(c, WEFT_E_ARGUMENT, "clip text: ids are needed");
    if (weft_rank(ids) != 2 || (weft_type(ids) != WEFT_I32 && weft_type(ids) != WEFT_I64))
        return weft_fail(c, WEFT_E_SHAPE, "clip text: the ids are %s; expected (B, T) i32 or i64",
                         weft_describe(ids, text, sizeof text));
    if (in->vectors && (weft_rank(in->vectors) != 2 || weft_dim(in->vectors, 1) != config->width))
        return weft_fail(c, WEFT_E_SHAPE, "clip text: the vectors are %s; expected (n, %d)",
                         weft_describe(in->vectors, text, sizeof text), config->width);
    if (weft_dim(ids, 1) < 1 || weft_dim(ids, 1) > config->positions)
        return weft_fail(c, WEFT_E_SHAPE, "clip text: %" PRId64 " tokens; this model takes 1 to %d", weft_dim(ids, 1),
                         config->positions);
    if (in->layer < -1 - config->layers || in->layer > config->layers)
        return weft_fail(c, WEFT_E_ARGUMENT,
                         "clip text: layer %d; this model has states 0 to %d, or -1 to %d from the end",
                         in->layer, config->layers, -1 - config->layers);
    return WEFT_OK;
}

weft_status weft_clip_text(weft_ctx *c, weft_params p, const weft_clip_text_config *config,
                           const weft_clip_text_inputs *given, weft_clip_text_outputs *out) {
    weft_clip_text_inputs own = *given, *in = &own;
    *out = (weft_clip_text_outputs){ 0 };
    if (own.type == WEFT_F32) own.type = weft_compute_type(c);
    if (!weft_ok(c) || check_inputs(c, config, in)) return weft_error(c);
    weft_scope s = weft_scope_begin(c, p);
    int wanted = in->layer < 0 ? config->layers + 1 + in->layer : in->layer;
    int last = in->pooled ? config->layers : wanted;
    /* States are held by references of their own, so that each can go when the next one is there. */
    weft_tensor *x = weft_ref(embeddings(c, p, config, in)), *hidden = NULL;
    for (int i = 0;; i++) {
        if (i == wanted) hidden = weft_ref(x);
        if (in->observe && x) in->observe(in->observe_user, i, x);
        if (i == last || !weft_ok(c)) break;
        weft_scope one = weft_scope_named(c, NULL);
        weft_tensor *next = weft_ref(layer(c, weft_sub_at(weft_sub(p, "encoder"), "layers", i), config, x));
        weft_scope_end(c, one, NULL);
        weft_unref(x);
        x = next;
        if (weft_ok(c)) weft_progress(c, "text", i + 1, last);
    }
    weft_tensor *pooled = in->pooled ? pool(c, p, config, in->ids, x) : NULL;
    weft_tensor *result = handed(c, hidden);
    if (in->final_norm) result = weft_nn_layer_norm(c, weft_sub(p, "final_layer_norm"), result, config->norm_eps);
    weft_unref(x);
    weft_unref(hidden);
    if (weft_ok(c) && result) result = weft_cast(c, result, given->type);
    if (weft_ok(c) && pooled) pooled = weft_cast(c, pooled, given->type);
    result = weft_scope_keep(c, s, result);
    pooled = weft_scope_keep(c, s, pooled);
    weft_scope_end(c, s, NULL);
    if (weft_ok(c)) *out = (weft_clip_text_outputs){ result, pooled };
    return weft_error(c);
}

void weft_clip_text_walk(weft_ctx *c, weft_params root, void *user) {
    const weft_clip_text_config *config = user;
    weft_clip_text_outputs out;
    if (weft_clip_text_config_check(c, "clip text", config)) return;
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_clip_text_inputs in = {
        .ids = weft_tensor_new(c, WEFT_I32, WEFT_SHAPE(1, config->positions)), .type = WEFT_F32, .layer = -1,
        .final_norm = true, .pooled = true,
    };
    (void)weft_clip_text(c, root, config, &in, &out);
    weft_scope_end(c, s, NULL);
}
