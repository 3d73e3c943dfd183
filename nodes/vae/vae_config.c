/* The autoencoder's config.json; see autoencoder_kl.h. Defaults are those of diffusers' constructor (autoencoder_kl.py). */
#include <math.h>

#include "nodes/config.h"
#include "nodes/vae/autoencoder_kl.h"

#define MAX_WIDTH 65536
#define MAX_LAYERS 16

const weft_vae_config weft_vae_sd = {
    .in_channels = 3, .out_channels = 3, .latent_channels = 4, .blocks = 4, .channels = { 128, 256, 512, 512 },
    .layers = 2, .norm_groups = 32, .mid_attention = true, .quant_conv = true, .post_quant_conv = true,
    .scaling_factor = 0.18215,
};

const weft_vae_config weft_vae_sdxl = {
    .in_channels = 3, .out_channels = 3, .latent_channels = 4, .blocks = 4, .channels = { 128, 256, 512, 512 },
    .layers = 2, .norm_groups = 32, .mid_attention = true, .quant_conv = true, .post_quant_conv = true,
    .scaling_factor = 0.13025,
};

/* What diffusers knows and Weft does not, by the value that turns it off. */
static const weft_config_rule rules[] = {
    { "_class_name", "AutoencoderKL" },
    { "act_fn", "silu|swish" },
    { "down_block_types", "DownEncoderBlock2D" },
    { "up_block_types", "UpDecoderBlock2D" },
    { "latents_mean", "null" },
    { "latents_std", "null" },
    { NULL, NULL }
};

/* A list of as many types as there are blocks; the types themselves are checked by the rules. */
static void read_types(const weft_json *j, const char *key, int blocks) {
    const cJSON *field = weft_json_field(j, key);
    int n = field ? cJSON_GetArraySize(field) : 1;
    if (n != blocks)
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: %d types, but block_out_channels has %d", j->file, key, n, blocks);
}

static void read_config(const weft_json *j, void *out) {
    weft_vae_config d = { 0 };
    int64_t channels[WEFT_VAE_MAX_BLOCKS] = { 64 };
    if (weft_config_rules(j, rules)) return;
    d.blocks = weft_json_ints(j, "block_out_channels", 1, MAX_WIDTH, channels, WEFT_VAE_MAX_BLOCKS);
    if (!d.blocks) d.blocks = 1;
    for (int i = 0; i < d.blocks; i++) d.channels[i] = (int)channels[i];
    read_types(j, "down_block_types", d.blocks);
    read_types(j, "up_block_types", d.blocks);
    d.in_channels = (int)weft_json_int(j, "in_channels", 1, MAX_WIDTH, 3);
    d.out_channels = (int)weft_json_int(j, "out_channels", 1, MAX_WIDTH, 3);
    d.latent_channels = (int)weft_json_int(j, "latent_channels", 1, MAX_WIDTH, 4);
    d.layers = (int)weft_json_int(j, "layers_per_block", 1, MAX_LAYERS, 1);
    d.norm_groups = (int)weft_json_int(j, "norm_num_groups", 1, MAX_WIDTH, 32);
    d.mid_attention = weft_json_bool(j, "mid_block_add_attention", true);
    d.quant_conv = weft_json_bool(j, "use_quant_conv", true);
    d.post_quant_conv = weft_json_bool(j, "use_post_quant_conv", true);
    d.scaling_factor = weft_json_double(j, "scaling_factor", 0.18215);
    d.shift_factor = weft_json_double(j, "shift_factor", 0);
    if (weft_ok(j->ctx) && weft_vae_config_check(j->ctx, j->file, &d) == WEFT_OK) *(weft_vae_config *)out = d;
}

weft_status weft_vae_config_read(weft_ctx *c, const char *path, weft_vae_config *config) {
    return weft_config_read(c, path, read_config, config);
}

weft_status weft_vae_config_parse(weft_ctx *c, const char *name, const char *text, size_t size, weft_vae_config *config) {
    return weft_config_parse(c, name, text, size, read_config, config);
}

/* ---- checking ----------------------------------------------------------------------------------------------------- */

weft_status weft_vae_config_check(weft_ctx *c, const char *name, const weft_vae_config *config) {
    const struct { const char *key; int value, high; } sizes[] = {
        { "block_out_channels", config->blocks, WEFT_VAE_MAX_BLOCKS },
        { "norm_num_groups", config->norm_groups, MAX_WIDTH },
        { "layers_per_block", config->layers, MAX_LAYERS },
        { "in_channels", config->in_channels, MAX_WIDTH },
        { "out_channels", config->out_channels, MAX_WIDTH },
        { "latent_channels", config->latent_channels, MAX_WIDTH },
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!weft_config_within(c, name, sizes[i].key, sizes[i].value, 1, sizes[i].high)) return weft_error(c);
    for (int i = 0; i < config->blocks; i++) {
        if (!weft_config_within(c, name, "block_out_channels", config->channels[i], 1, MAX_WIDTH)) return weft_error(c);
        if (config->channels[i] % config->norm_groups)
            return weft_fail(c, WEFT_E_FORMAT, "%s: norm_num_groups: %d does not divide block_out_channels %d", name,
                             config->norm_groups, config->channels[i]);
    }
    if (!(config->scaling_factor > 0) || !isfinite(config->scaling_factor))
        return weft_fail(c, WEFT_E_FORMAT, "%s: scaling_factor: %g; more than 0 is expected", name, config->scaling_factor);
    if (!isfinite(config->shift_factor))
        return weft_fail(c, WEFT_E_FORMAT, "%s: shift_factor: a number is expected", name);
    return WEFT_OK;
}
