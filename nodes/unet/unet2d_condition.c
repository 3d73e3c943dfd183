/* Way down, middle, way up; see unet2d_condition.h.
 *
 *   conv_in → down_blocks: layers of (resnet[, transformer]), every output kept as a skip, then a downsampling, kept
 *   too
 *   → mid_block → up_blocks: one layer more, each on the concatenation with the newest skip, then an upsampling to the
 *   size of the next skip → conv_norm_out, SiLU, conv_out.
 */
#include "nodes/unet/unet2d_condition.h"

#include <inttypes.h>

#include "nodes/blocks.h"
#include "runtime/autograd.h"
#include "nodes/unet/transformer2d.h"

#define MAX_SKIPS (1 + WEFT_UNET_MAX_BLOCKS * (WEFT_UNET_MAX_LAYERS + 1))

/* One evaluation. The skips are held by references of their own, so that each can go as soon as it is used. */
struct pass {
    const weft_unet_config *config;
    const weft_unet_inputs *in;
    weft_norm norm;
    weft_tensor *time;          /* SiLU of the time embedding, (N, E) */
    weft_tensor *skip[MAX_SKIPS];
    int skips;
    int blocks_done;
};

static void skip_push(struct pass *u, weft_tensor *t) {
    u->skip[u->skips++] = weft_ref(t);
}

/* The newest skip, which the caller lets go. */
static weft_tensor *skip_pop(struct pass *u) {
    return u->skip[--u->skips];
}

static int level_width(const struct pass *u, int level) {
    return u->config->channels[level];
}

/* Attention over the pixels, or a transformer with the text. */
static weft_tensor *attend(weft_ctx *c, struct pass *u, weft_params p, int level, weft_tensor *x, weft_norm norm) {
    const weft_unet_config *config = u->config;
    int width = level_width(u, level);
    if (config->pixel_attention)
        return weft_block_pixel_attention(c, p, x, config->head_width ? width / config->head_width : 1, norm);
    weft_transformer how = {
        .heads = config->heads[level], .depth = config->depth[level], .norm_groups = config->norm_groups,
        .linear_projection = config->linear_projection,
    };
    return weft_transformer2d(c, p, &how, x, u->in->context);
}

/* The i-th layer of a block: a resnet and, where the block has them, a transformer. skip (or NULL) joins x first. */
static weft_tensor *layer(weft_ctx *c, struct pass *u, weft_params p, int i, int level, bool attention,
                          weft_tensor *x, weft_tensor *skip) {
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    x = weft_block_resnet(c, weft_sub_at(p, "resnets", i), x, skip, level_width(u, level), u->norm, u->time);
    if (attention) x = attend(c, u, weft_sub_at(p, "attentions", i), level, x, u->norm);
    return weft_scope_end(c, s, x);
}

static weft_tensor *down_block(weft_ctx *c, struct pass *u, weft_params p, int level, weft_tensor *x) {
    const weft_unet_config *config = u->config;
    bool last = level == config->blocks - 1;
    weft_scope s = weft_scope_begin(c, p);
    weft_chain chain = weft_chain_begin(c, config->layers[level] + !last);
    for (int i = 0; i < config->layers[level]; i++) {
        x = weft_chain_next(c, &chain, layer(c, u, p, i, level, config->down_attention[level], x, NULL));
        skip_push(u, x);
    }
    if (!last) {
        int64_t width = level_width(u, level);
        x = weft_block_downsample(c, weft_sub(p, "downsamplers.0"), x, width, config->downsample_padding);
        x = weft_chain_next(c, &chain, x);
        skip_push(u, x);
    }
    return weft_scope_end(c, s, x);
}

static weft_tensor *mid_block(weft_ctx *c, struct pass *u, weft_params p, weft_tensor *x) {
    const weft_unet_config *config = u->config;
    int level = config->blocks - 1;
    if (config->mid == WEFT_UNET_MID_NONE) return x;
    weft_norm norm = { config->mid_norm_groups ? config->mid_norm_groups : config->norm_groups, config->norm_eps };
    weft_scope s = weft_scope_begin(c, p);
    x = layer(c, u, p, 0, level, false, x, NULL);
    if (config->mid == WEFT_UNET_MID_ATTENTION) x = attend(c, u, weft_sub(p, "attentions.0"), level, x, norm);
    if (config->mid != WEFT_UNET_MID_RESNET) x = layer(c, u, p, 1, level, false, x, NULL);
    return weft_scope_end(c, s, x);
}

/* The i-th block on the way up, at the resolution that block blocks − 1 − i had on the way down. */
static weft_tensor *up_block(weft_ctx *c, struct pass *u, weft_params p, int i, weft_tensor *x) {
    const weft_unet_config *config = u->config;
    int level = config->blocks - 1 - i, layers = config->layers[level] + 1;
    weft_scope s = weft_scope_begin(c, p);
    weft_chain chain = weft_chain_begin(c, 2 * layers + (level > 0));
    for (int j = 0; j < layers; j++) {
        /* Joined here x and the skip can go before the layer runs; where it will run again, they stay instead. */
        weft_tensor *skip = skip_pop(u);
        const bool join = !weft_recomputes(c);
        x = weft_chain_next(c, &chain, join ? weft_concat2(c, -1, x, skip) : x);
        if (join) weft_unref(skip);
        x = layer(c, u, p, j, level, config->up_attention[i], x, join ? NULL : skip);
        x = weft_chain_next(c, &chain, x);
        if (!join) weft_unref(skip);
    }
    if (level > 0) {
        weft_tensor *next = u->skip[u->skips - 1];
        int64_t h = weft_dim(next, 1), w = weft_dim(next, 2);
        x = weft_block_upsample(c, weft_sub(p, "upsamplers.0"), x, level_width(u, level), h, w);
        x = weft_chain_next(c, &chain, x);
    }
    return weft_scope_end(c, s, x);
}

/* t (N) → (N, width) of `type`; in f32 at least up to there, whatever the activations are. */
static weft_tensor *sinusoids(weft_ctx *c, const weft_unet_config *config, weft_tensor *t, int64_t width,
                              weft_dtype type) {
    t = weft_cast(c, t, type == WEFT_F64 ? WEFT_F64 : WEFT_F32);
    t = weft_timestep_embedding(c, t, width, config->flip_sin_to_cos, config->freq_shift, 1, 10000);
    return weft_cast(c, t, type);
}

/* SDXL's sizes and pooled text, through their own two layers, added to emb. */
static weft_tensor *added_embedding(weft_ctx *c, weft_params p, const struct pass *u, weft_tensor *emb,
                                    int64_t width) {
    const weft_unet_config *config = u->config;
    weft_dtype type = weft_type(u->in->sample);
    int64_t n = weft_dim(u->in->time_ids, 0), ids = weft_dim(u->in->time_ids, 1);
    int64_t each = config->addition_time_embed_dim;
    weft_tensor *t = weft_reshape(c, u->in->time_ids, WEFT_SHAPE(n * ids));
    t = weft_reshape(c, sinusoids(c, config, t, each, type), WEFT_SHAPE(n, ids * each));
    t = weft_concat2(c, -1, u->in->text_embeds, t);
    return weft_block_embedding_mlp(c, weft_sub(p, "add_embedding"), t, width, emb);
}

/* SiLU of the embedding of time and what rides on it: every resnet takes it so, hence once for all. */
static weft_tensor *time_embedding(weft_ctx *c, weft_params root, const struct pass *u) {
    weft_params p = weft_sub(root, "time_embedding");
    const weft_unet_config *config = u->config;
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor *condition = u->in->timestep_cond;
    int64_t n = weft_dim(u->in->sample, 0), first = config->channels[0];
    int64_t width = config->time_embedding_dim ? config->time_embedding_dim : 4 * first;
    weft_tensor *t = weft_contiguous(c, weft_broadcast(c, u->in->timesteps, WEFT_SHAPE(n)));
    t = sinusoids(c, config, t, first, weft_type(u->in->sample));
    if (condition) t = weft_nn_linear_act(c, weft_sub(p, "cond_proj"), condition, first, false, WEFT_ACT_NONE, t);
    t = weft_block_embedding_mlp(c, p, t, width, NULL);
    if (config->addition_input_dim) t = added_embedding(c, root, u, t, width);
    return weft_scope_end(c, s, weft_silu(c, t));
}

static weft_status check_matrix(weft_ctx *c, const char *name, const weft_tensor *t, int64_t n, int64_t width) {
    char text[96], columns[24] = "…";
    if (t && weft_rank(t) == 2 && weft_dim(t, 0) == n && (width < 0 || weft_dim(t, 1) == width)) return WEFT_OK;
    if (!t) return weft_fail(c, WEFT_E_ARGUMENT, "unet: this model needs %s", name);
    if (width >= 0) snprintf(columns, sizeof columns, "%" PRId64, width);
    weft_describe(t, text, sizeof text);
    return weft_fail(c, WEFT_E_SHAPE, "unet: %s is %s; expected (%" PRId64 ", %s)", name, text, n, columns);
}

static weft_status check_added(weft_ctx *c, const weft_unet_config *config, const weft_unet_inputs *in, int64_t n) {
    if (in->timestep_cond && !config->time_cond_proj_dim)
        return weft_fail(c, WEFT_E_ARGUMENT, "unet: timestep_cond is given, but this model has no time_cond_proj_dim");
    if (in->timestep_cond && check_matrix(c, "timestep_cond", in->timestep_cond, n, config->time_cond_proj_dim))
        return weft_error(c);
    if (!config->addition_input_dim) {
        if (!in->text_embeds && !in->time_ids) return WEFT_OK;
        return weft_fail(c, WEFT_E_ARGUMENT,
                         "unet: text_embeds or time_ids are given, but this model has no addition_embed_type");
    }
    if (check_matrix(c, "text_embeds", in->text_embeds, n, -1)) return weft_error(c);
    if (check_matrix(c, "time_ids", in->time_ids, n, -1)) return weft_error(c);
    int64_t pooled = weft_dim(in->text_embeds, 1), ids = weft_dim(in->time_ids, 1);
    int64_t each = config->addition_time_embed_dim;
    if (pooled + ids * each == config->addition_input_dim) return WEFT_OK;
    return weft_fail(c, WEFT_E_SHAPE, "unet: text_embeds has %" PRId64 " values and time_ids %" PRId64 " of %" PRId64
                     " each, together %" PRId64 "; the model takes %d", pooled, ids, each, pooled + ids * each,
                     config->addition_input_dim);
}

static weft_status check_inputs(weft_ctx *c, const weft_unet_config *config, const weft_unet_inputs *in) {
    char text[96];
    if (weft_unet_config_check(c, "unet", config)) return weft_error(c);
    const weft_tensor *x = in->sample, *t = in->timesteps, *y = in->context;
    if (!x || !t || (!y && !config->pixel_attention))
        return weft_fail(c, WEFT_E_ARGUMENT, "unet: sample, timesteps and context are needed");
    if (y && config->pixel_attention)
        return weft_fail(c, WEFT_E_ARGUMENT, "unet: a context is given, but this model (UNet2DModel) takes no text");
    int64_t n = weft_dim(x, 0);
    if (weft_rank(x) != 4 || weft_dim(x, 3) != config->in_channels || weft_dim(x, 1) < 1 || weft_dim(x, 2) < 1)
        return weft_fail(c, WEFT_E_SHAPE, "unet: the sample is %s; expected (N, H, W, %d)",
                         weft_describe(x, text, sizeof text), config->in_channels);
    if (weft_rank(t) != 1 || (weft_dim(t, 0) != n && weft_dim(t, 0) != 1))
        return weft_fail(c, WEFT_E_SHAPE, "unet: the timesteps are %s; expected (%" PRId64 ") or (1)",
                         weft_describe(t, text, sizeof text), n);
    if (y && (weft_rank(y) != 3 || weft_dim(y, 0) != n || weft_dim(y, 2) != config->context))
        return weft_fail(c, WEFT_E_SHAPE, "unet: the context is %s; expected (%" PRId64 ", tokens, %d)",
                         weft_describe(y, text, sizeof text), n, config->context);
    return check_added(c, config, in, n);
}

/* After each block: tells who watches. */
static weft_tensor *tell(weft_ctx *c, struct pass *u, const char *place, int i, weft_tensor *x) {
    char name[32];
    if (u->in->observe && x) {
        snprintf(name, sizeof name, i < 0 ? "%s" : "%s.%d", place, i);
        u->in->observe(u->in->observe_user, name, x);
    }
    if (!weft_ok(c) || !weft_progress(c, "unet", ++u->blocks_done, 2 * (int64_t)u->config->blocks + 2)) return NULL;
    return x;
}

/* The inputs in the type that the model computes in; times stay as they are. */
static weft_unet_inputs to_compute(weft_ctx *c, const weft_unet_inputs *in) {
    weft_unet_inputs own = *in;
    weft_tensor **const given[] = { &own.sample, &own.context, &own.text_embeds, &own.timestep_cond };
    for (int i = 0; i < 4; i++)
        if (*given[i]) *given[i] = weft_to_compute(c, *given[i]);
    return own;
}

weft_tensor *weft_unet2d_condition(weft_ctx *c, weft_params p, const weft_unet_config *config,
                                   const weft_unet_inputs *given) {
    if (!weft_ok(c) || check_inputs(c, config, given)) return NULL;
    weft_scope s = weft_scope_begin(c, p);
    const weft_unet_inputs own = to_compute(c, given), *in = &own;
    struct pass u = { .config = config, .in = in, .norm = { config->norm_groups, config->norm_eps } };
    u.time = time_embedding(c, p, &u);
    weft_chain chain = weft_chain_begin(c, 2 * config->blocks + 4);
    weft_tensor *x = config->center_input_sample ? weft_affine(c, in->sample, 2, -1) : in->sample;
    x = weft_block_conv(c, weft_sub(p, "conv_in"), x, config->channels[0], config->conv_in_kernel);
    x = tell(c, &u, "conv_in", -1, weft_chain_next(c, &chain, x));
    skip_push(&u, x);
    for (int i = 0; i < config->blocks; i++) {
        x = down_block(c, &u, weft_sub_at(p, "down_blocks", i), i, x);
        x = tell(c, &u, "down_blocks", i, weft_chain_next(c, &chain, x));
    }
    x = mid_block(c, &u, weft_sub(p, "mid_block"), x);
    x = tell(c, &u, "mid_block", -1, weft_chain_next(c, &chain, x));
    for (int i = 0; i < config->blocks; i++) {
        x = up_block(c, &u, weft_sub_at(p, "up_blocks", i), i, x);
        x = tell(c, &u, "up_blocks", i, weft_chain_next(c, &chain, x));
    }
    x = weft_chain_next(c, &chain, weft_block_norm_silu(c, weft_sub(p, "conv_norm_out"), x, u.norm));
    x = weft_block_conv(c, weft_sub(p, "conv_out"), x, config->out_channels, config->conv_out_kernel);
    x = weft_chain_next(c, &chain, x);
    return weft_scope_end(c, s, x ? weft_cast(c, x, weft_type(given->sample)) : NULL);
}
