/* The configuration of the RMS Unet; see unet_rms.h. The defaults are those of the constructor. */
#include <math.h>

#include "nodes/config.h"
#include "nodes/unet/unet2d_config.h"

#define MAX_WIDTH 65536
#define MAX_MULT 64

const weft_unet_rms_config weft_unet_rms_default = {
    .dim = 64, .channels = 3, .theta = 10000, .stages = 4, .dim_mults = { 1, 2, 4, 8 }, .heads = { 4, 4, 4, 4 },
    .head_dim = { 32, 32, 32, 32 }, .full_attention = { [3] = true },
};

/* What the class knows and Weft does not, by the value that turns it off. */
static const weft_config_rule rules[] = {
    { "_class_name", "Unet" },
    { "learned_variance", "false" },
    { "dropout", "0" },
    { NULL, NULL }
};

static void read_full_attention(const weft_json *j, weft_unet_rms_config *config) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(j->object, "full_attn");
    for (int i = 0; i < config->stages; i++) config->full_attention[i] = i == config->stages - 1;
    if (!list || cJSON_IsNull(list)) return;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != config->stages) {
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: full_attn: a list of %d true or false, one for each of dim_mults, is expected",
                  j->file, config->stages);
        return;
    }
    for (int i = 0; i < config->stages; i++) {
        const cJSON *item = cJSON_GetArrayItem(list, i);
        if (!cJSON_IsBool(item)) {
            weft_fail(j->ctx, WEFT_E_FORMAT, "%s: full_attn: entry %d is neither true nor false", j->file, i + 1);
            return;
        }
        config->full_attention[i] = cJSON_IsTrue(item);
    }
}

static void read_config(const weft_json *j, void *out) {
    weft_unet_rms_config *config = out, d = weft_unet_rms_default;
    int64_t mults[WEFT_UNET_RMS_MAX_STAGES];
    if (weft_config_rules(j, rules)) return;
    d.dim = (int)weft_json_int(j, "dim", 1, MAX_WIDTH, d.dim);
    d.init_dim = (int)weft_json_int(j, "init_dim", 0, MAX_WIDTH, 0);
    d.channels = (int)weft_json_int(j, "channels", 1, MAX_WIDTH, d.channels);
    d.out_dim = (int)weft_json_int(j, "out_dim", 0, MAX_WIDTH, 0);
    d.self_condition = weft_json_bool(j, "self_condition", false);
    d.theta = weft_json_double(j, "sinusoidal_pos_emb_theta", d.theta);
    d.random_fourier = weft_json_bool(j, "random_fourier_features", false);
    if (weft_json_bool(j, "learned_sinusoidal_cond", false) || d.random_fourier)
        d.fourier_dim = (int)weft_json_int(j, "learned_sinusoidal_dim", 2, MAX_WIDTH, 16);
    int n = weft_json_ints(j, "dim_mults", 1, MAX_MULT, mults, WEFT_UNET_RMS_MAX_STAGES);
    if (n) d.stages = n;
    for (int i = 0; i < n; i++) d.dim_mults[i] = (int)mults[i];
    weft_config_each(j, "attn_heads", 1, MAX_WIDTH, 4, d.stages, d.heads);
    weft_config_each(j, "attn_dim_head", 1, MAX_WIDTH, 32, d.stages, d.head_dim);
    read_full_attention(j, &d);
    if (weft_ok(j->ctx) && weft_unet_rms_config_check(j->ctx, j->file, &d) == WEFT_OK) *config = d;
}

void weft_unet_rms_config_from(const weft_json *j, weft_unet_config *config) {
    weft_unet_rms_config d = weft_unet_rms_default;
    read_config(j, &d);
    if (!weft_ok(j->ctx)) return;
    *config = (weft_unet_config){ .in_channels = d.channels, .out_channels = d.out_dim ? d.out_dim : d.channels,
                                  .blocks = d.stages, .rms = d };
    for (int i = 0; i < d.stages; i++) config->channels[i] = d.dim * d.dim_mults[i];
}

weft_status weft_unet_rms_config_read(weft_ctx *c, const char *path, weft_unet_rms_config *config) {
    return weft_config_read(c, path, read_config, config);
}

weft_status weft_unet_rms_config_parse(weft_ctx *c, const char *name, const char *text, size_t size,
                                       weft_unet_rms_config *config) {
    return weft_config_parse(c, name, text, size, read_config, config);
}

weft_status weft_unet_rms_config_check(weft_ctx *c, const char *name, const weft_unet_rms_config *config) {
    const struct { const char *key; int value, low, high; } sizes[] = {
        { "dim", config->dim, 4, MAX_WIDTH },       /* half of it, less one, divides the embedding's exponent */
        { "init_dim", config->init_dim, 0, MAX_WIDTH },
        { "channels", config->channels, 1, MAX_WIDTH },
        { "out_dim", config->out_dim, 0, MAX_WIDTH },
        { "learned_sinusoidal_dim", config->fourier_dim, 0, MAX_WIDTH },
        { "dim_mults", config->stages, 1, WEFT_UNET_RMS_MAX_STAGES },
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!weft_config_within(c, name, sizes[i].key, sizes[i].value, sizes[i].low, sizes[i].high)) return weft_error(c);
    for (int i = 0; i < config->stages; i++) {
        if (!weft_config_within(c, name, "dim_mults", config->dim_mults[i], 1, MAX_MULT) ||
            !weft_config_within(c, name, "attn_heads", config->heads[i], 1, 1024) ||
            !weft_config_within(c, name, "attn_dim_head", config->head_dim[i], 1, 1024)) return weft_error(c);
    }
    if (!config->fourier_dim && config->dim % 2)
        return weft_fail(c, WEFT_E_FORMAT, "%s: dim: %d; the sinusoids of the time want an even number", name, config->dim);
    if (config->fourier_dim % 2)
        return weft_fail(c, WEFT_E_FORMAT, "%s: learned_sinusoidal_dim: %d; an even number is expected", name,
                         config->fourier_dim);
    if (!(config->theta > 0) || !isfinite(config->theta))
        return weft_fail(c, WEFT_E_FORMAT, "%s: sinusoidal_pos_emb_theta: %g; more than 0 is expected", name, config->theta);
    return WEFT_OK;
}
