/* Any of the UNets behind one call: UNet2DConditionModel and UNet2DModel (unet2d_condition.c), and the Unet of
 * unet_rms.c. */
#include "nodes/unet/unet2d_condition.h"
#include "runtime/record.h"

static weft_tensor *rms(weft_ctx *c, weft_params p, const weft_unet_config *config, const weft_unet_inputs *in) {
    weft_tensor *t = in->timesteps;
    if (in->context || in->text_embeds || in->time_ids || in->timestep_cond) {
        weft_fail(c, WEFT_E_ARGUMENT, "unet: a context is given, but this model (Unet) takes no text");
        return NULL;
    }
    if (weft_rank(t) == 1 && weft_dim(t, 0) == 1) t = weft_broadcast(c, t, WEFT_SHAPE(weft_dim(in->sample, 0)));
    t = weft_contiguous(c, weft_cast(c, t, weft_type(in->sample)));
    return weft_unet_rms(c, p, &config->rms, in->sample, t, in->self_cond);
}

static weft_tensor *predict(weft_ctx *c, weft_params p, const weft_unet_config *config, const weft_unet_inputs *in) {
    if (config->rms.stages) return rms(c, p, config, in);
    if (!in->self_cond) return weft_unet2d_condition(c, p, config, in);
    weft_fail(c, WEFT_E_ARGUMENT, "unet: an estimate to condition on, but this model has no self_condition");
    return NULL;
}

struct call { weft_params p; const weft_unet_config *config; };

static weft_tensor *run(weft_ctx *c, weft_tensor *const *in, void *user) {
    const struct call *call = user;
    return predict(c, call->p, call->config,
                   &(weft_unet_inputs){ .sample = in[0], .timesteps = in[1], .context = in[2], .text_embeds = in[3],
                                        .time_ids = in[4], .timestep_cond = in[5], .self_cond = in[6] });
}

weft_tensor *weft_unet_predict(weft_ctx *c, weft_params p, const weft_unet_config *config, const weft_unet_inputs *in) {
    if (in->observe || !in->sample || !in->timesteps) return predict(c, p, config, in);
    struct call call = { p, config };
    weft_recordable r = { .run = run, .user = &call, .tree = p.tree };
    weft_hash_bytes(&r.what, config, sizeof *config);
    weft_hash_word(&r.what, p.node);
    return weft_recorded(c, &r, 7,
                         (weft_tensor *const[]){ in->sample, in->timesteps, in->context, in->text_embeds, in->time_ids,
                                                 in->timestep_cond, in->self_cond });
}

/* On a small square and one timestep. The split of the added inputs does not matter to the shapes of the weights. */
void weft_unet_walk(weft_ctx *c, weft_params root, void *user) {
    const weft_unet_config *config = user;
    if (weft_unet_config_check(c, "unet", config)) return;
    if (config->rms.stages) {
        weft_unet_rms_walk(c, root, (void *)&config->rms);
        return;
    }
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    int64_t size = (int64_t)1 << config->blocks, each = config->addition_time_embed_dim;
    int64_t ids = each && config->addition_input_dim > 6 * each ? 6 : 1;
    weft_unet_inputs in = {
        .sample = weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1, size, size, config->in_channels)),
        .timesteps = weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1)),
    };
    if (config->context) in.context = weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1, 77, config->context));
    if (config->addition_input_dim) {
        in.text_embeds = weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1, config->addition_input_dim - ids * each));
        in.time_ids = weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1, ids));
    }
    if (config->time_cond_proj_dim)
        in.timestep_cond = weft_tensor_new(c, WEFT_F32, WEFT_SHAPE(1, config->time_cond_proj_dim));
    weft_unet2d_condition(c, root, config, &in);
    weft_scope_end(c, s, NULL);
}
