/* The UNet's config.json; see unet2d_condition.h. Defaults are those of diffusers' constructor (unet_2d_condition.py). */
#include <math.h>
#include <string.h>

#include "nodes/config.h"
#include "nodes/unet/transformer2d.h"
#include "nodes/unet/unet2d_config.h"

#define MAX_WIDTH 65536
#define MAX_KERNEL 15

/* What diffusers knows and Weft does not, by the value that turns it off. */
static const weft_config_rule rules[] = {
    { "_class_name", "UNet2DConditionModel" },
    { "act_fn", "silu|swish" },
    { "addition_embed_type", "text_time" },
    { "attention_type", "default" },
    { "class_embed_type", "null" },
    { "class_embeddings_concat", "false" },
    { "cross_attention_norm", "null" },
    { "dual_cross_attention", "false" },
    { "encoder_hid_dim", "null" },
    { "encoder_hid_dim_type", "null" },
    { "mid_block_only_cross_attention", "false" },
    { "mid_block_scale_factor", "1" },
    { "mid_block_type", "UNetMidBlock2DCrossAttn|UNetMidBlock2D" },
    { "num_class_embeds", "null" },
    { "only_cross_attention", "false" },
    { "resnet_out_scale_factor", "1" },
    { "resnet_skip_time_act", "false" },
    { "resnet_time_scale_shift", "default" },
    { "reverse_transformer_layers_per_block", "null" },
    { "time_embedding_act_fn", "null" },
    { "time_embedding_type", "positional" },
    { "timestep_post_act", "null" },
    { NULL, NULL }
};

static const char *const down_names[] = { "DownBlock2D", "CrossAttnDownBlock2D" };
static const char *const up_names[] = { "UpBlock2D", "CrossAttnUpBlock2D" };

/* Types of the blocks of one way; the way must have as many as block_out_channels has widths. */
static void read_types(const weft_json *j, const char *key, const char *const *names, int blocks, bool *attention) {
    int types[WEFT_UNET_MAX_BLOCKS];
    int n = weft_config_names(j, key, names, 2, types, WEFT_UNET_MAX_BLOCKS);
    for (int i = 0; i < n && i < blocks; i++) attention[i] = types[i] == 1;
    if (n != blocks && (n || blocks != 4))
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: %d types, but block_out_channels has %d", j->file, key, n ? n : 4, blocks);
}

/* Absent is the usual one, null is none. */
static weft_unet_mid read_mid(const weft_json *j) {
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(j->object, "mid_block_type"))) return WEFT_UNET_MID_NONE;
    const char *type = weft_json_text_of(j, "mid_block_type", "UNetMidBlock2DCrossAttn");
    return !strcmp(type, "UNetMidBlock2D") ? WEFT_UNET_MID_RESNET : WEFT_UNET_MID_ATTENTION;
}

static void read_blocks(const weft_json *j, weft_unet_config *config) {
    int64_t channels[WEFT_UNET_MAX_BLOCKS];
    int n = weft_json_ints(j, "block_out_channels", 1, MAX_WIDTH, channels, WEFT_UNET_MAX_BLOCKS);
    if (n) config->blocks = n;
    for (int i = 0; i < n; i++) config->channels[i] = (int)channels[i];
    n = config->blocks;
    read_types(j, "down_block_types", down_names, n, config->down_attention);
    read_types(j, "up_block_types", up_names, n, config->up_attention);
    config->mid = read_mid(j);
    weft_config_each(j, "layers_per_block", 1, WEFT_UNET_MAX_LAYERS, 2, n, config->layers);
    /* diffusers calls the number of heads attention_head_dim, for the sake of the files that exist. */
    const char *heads = weft_json_field(j, "num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
    weft_config_each(j, heads, 1, MAX_WIDTH, 8, n, config->heads);
    weft_config_each(j, "transformer_layers_per_block", 1, WEFT_TRANSFORMER_MAX_DEPTH, 1, n, config->depth);
    int context[WEFT_UNET_MAX_BLOCKS];
    weft_config_each(j, "cross_attention_dim", 1, MAX_WIDTH, 1280, n, context);
    config->context = context[0];
    for (int i = 1; i < n; i++)
        if (context[i] != context[0])
            weft_fail(j->ctx, WEFT_E_FORMAT, "%s: cross_attention_dim: blocks of different widths are not supported", j->file);
}

static void read_added(const weft_json *j, weft_unet_config *config) {
    config->addition_time_embed_dim = config->addition_input_dim = 0;
    if (!weft_json_field(j, "addition_embed_type")) return;
    if (!weft_json_need(j, "addition_time_embed_dim") || !weft_json_need(j, "projection_class_embeddings_input_dim")) return;
    config->addition_time_embed_dim = (int)weft_json_int(j, "addition_time_embed_dim", 1, MAX_WIDTH, 0);
    config->addition_input_dim = (int)weft_json_int(j, "projection_class_embeddings_input_dim", 1, MAX_WIDTH, 0);
}

static void read_config(const weft_json *j, void *out) {
    weft_unet_config *config = out, d = weft_unet_sd15;     /* equal to the constructor's defaults, but for the context */
    const cJSON *class_name = weft_json_field(j, "_class_name");
    const char *name = cJSON_IsString(class_name) ? class_name->valuestring : "";
    if (!strcmp(name, "UNet2DModel")) {
        weft_unet2d_config_from(j, config);
        return;
    }
    if (!strcmp(name, "Unet")) {
        weft_unet_rms_config_from(j, config);
        return;
    }
    if (weft_config_rules(j, rules)) return;
    read_blocks(j, &d);
    read_added(j, &d);
    d.in_channels = (int)weft_json_int(j, "in_channels", 1, MAX_WIDTH, d.in_channels);
    d.out_channels = (int)weft_json_int(j, "out_channels", 1, MAX_WIDTH, d.out_channels);
    d.linear_projection = weft_json_bool(j, "use_linear_projection", false);
    d.norm_groups = (int)weft_json_int(j, "norm_num_groups", 1, MAX_WIDTH, d.norm_groups);
    d.norm_eps = weft_json_double(j, "norm_eps", d.norm_eps);
    d.downsample_padding = (int)weft_json_int(j, "downsample_padding", 0, 1, 1);
    d.conv_in_kernel = (int)weft_json_int(j, "conv_in_kernel", 1, MAX_KERNEL, 3);
    d.conv_out_kernel = (int)weft_json_int(j, "conv_out_kernel", 1, MAX_KERNEL, 3);
    d.center_input_sample = weft_json_bool(j, "center_input_sample", false);
    d.flip_sin_to_cos = weft_json_bool(j, "flip_sin_to_cos", true);
    d.freq_shift = weft_json_double(j, "freq_shift", 0);
    d.time_embedding_dim = (int)weft_json_int(j, "time_embedding_dim", 0, MAX_WIDTH, 0);
    d.time_cond_proj_dim = (int)weft_json_int(j, "time_cond_proj_dim", 0, MAX_WIDTH, 0);
    if (weft_ok(j->ctx) && weft_unet_config_check(j->ctx, j->file, &d) == WEFT_OK) *config = d;
}

weft_status weft_unet_config_read(weft_ctx *c, const char *path, weft_unet_config *config) {
    return weft_config_read(c, path, read_config, config);
}

weft_status weft_unet_config_parse(weft_ctx *c, const char *name, const char *text, size_t size, weft_unet_config *config) {
    return weft_config_parse(c, name, text, size, read_config, config);
}

/* ---- checking ----------------------------------------------------------------------------------------------------- */

static bool check_pixel_attention(weft_ctx *c, const char *name, const weft_unet_config *config, int width, bool last) {
    int head = config->head_width, groups = last && config->mid_norm_groups ? config->mid_norm_groups : 1;
    if (head && width % head)
        weft_fail(c, WEFT_E_FORMAT, "%s: attention_head_dim: %d does not divide block_out_channels %d", name, head, width);
    else if (width % groups)
        weft_fail(c, WEFT_E_FORMAT, "%s: attn_norm_num_groups: %d does not divide block_out_channels %d", name, groups, width);
    return weft_ok(c);
}

static bool check_level(weft_ctx *c, const char *name, const weft_unet_config *config, int i) {
    int width = config->channels[i], heads = config->heads[i];
    bool last = i == config->blocks - 1;
    bool attention = config->down_attention[i] || config->up_attention[config->blocks - 1 - i] ||
                     (last && config->mid == WEFT_UNET_MID_ATTENTION);
    if (!weft_config_within(c, name, "block_out_channels", width, 1, MAX_WIDTH)) return false;
    if (!weft_config_within(c, name, "layers_per_block", config->layers[i], 1, WEFT_UNET_MAX_LAYERS)) return false;
    if (width % config->norm_groups) {
        weft_fail(c, WEFT_E_FORMAT, "%s: norm_num_groups: %d does not divide block_out_channels %d", name,
                  config->norm_groups, width);
        return false;
    }
    if (!attention) return true;
    if (config->pixel_attention) return check_pixel_attention(c, name, config, width, last);
    if (!weft_config_within(c, name, "attention_head_dim", heads, 1, MAX_WIDTH)) return false;
    if (!weft_config_within(c, name, "transformer_layers_per_block", config->depth[i], 1, WEFT_TRANSFORMER_MAX_DEPTH))
        return false;
    if (width % heads) {
        weft_fail(c, WEFT_E_FORMAT, "%s: attention_head_dim: %d heads do not divide block_out_channels %d", name, heads, width);
        return false;
    }
    return true;
}

weft_status weft_unet_config_check(weft_ctx *c, const char *name, const weft_unet_config *config) {
    const struct { const char *key; int value, low, high; } sizes[] = {
        { "block_out_channels", config->blocks, 1, WEFT_UNET_MAX_BLOCKS },
        { "norm_num_groups", config->norm_groups, 1, MAX_WIDTH },
        { "in_channels", config->in_channels, 1, MAX_WIDTH },
        { "out_channels", config->out_channels, 1, MAX_WIDTH },
        { "cross_attention_dim", config->context, config->pixel_attention ? 0 : 1, config->pixel_attention ? 0 : MAX_WIDTH },
        { "attention_head_dim", config->head_width, 0, MAX_WIDTH },
        { "attn_norm_num_groups", config->mid_norm_groups, 0, MAX_WIDTH },
        { "downsample_padding", config->downsample_padding, 0, 1 },
        { "time_embedding_dim", config->time_embedding_dim, 0, MAX_WIDTH },
        { "time_cond_proj_dim", config->time_cond_proj_dim, 0, MAX_WIDTH },
        { "addition_time_embed_dim", config->addition_time_embed_dim, 0, MAX_WIDTH },
        { "projection_class_embeddings_input_dim", config->addition_input_dim, 0, MAX_WIDTH },
        { "conv_in_kernel", config->conv_in_kernel, 1, MAX_KERNEL },
        { "conv_out_kernel", config->conv_out_kernel, 1, MAX_KERNEL },
    };
    if (config->rms.stages) return weft_unet_rms_config_check(c, name, &config->rms);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!weft_config_within(c, name, sizes[i].key, sizes[i].value, sizes[i].low, sizes[i].high)) return weft_error(c);
    for (int i = 0; i < config->blocks; i++)
        if (!check_level(c, name, config, i)) return weft_error(c);
    if (config->conv_in_kernel % 2 == 0 || config->conv_out_kernel % 2 == 0)
        return weft_fail(c, WEFT_E_FORMAT, "%s: conv_in_kernel, conv_out_kernel: only odd sizes are supported", name);
    if (!(config->norm_eps > 0) || !isfinite(config->norm_eps))
        return weft_fail(c, WEFT_E_FORMAT, "%s: norm_eps: %g; more than 0 is expected", name, config->norm_eps);
    if (!isfinite(config->freq_shift) || config->channels[0] / 2 - config->freq_shift < 1)
        return weft_fail(c, WEFT_E_FORMAT, "%s: freq_shift: %g; less than half of block_out_channels, %d, is expected", name,
                         config->freq_shift, config->channels[0] / 2);
    bool plain = config->mid != WEFT_UNET_MID_RESNETS && !config->head_width && !config->mid_norm_groups;
    bool pixels = config->mid != WEFT_UNET_MID_RESNET && config->conv_in_kernel == 3 && config->conv_out_kernel == 3;
    for (int i = 0; i < config->blocks; i++) pixels = pixels && config->layers[i] == config->layers[0];
    if (config->pixel_attention ? !pixels : !plain)
        return weft_fail(c, WEFT_E_FORMAT, "%s: %s has nothing of the kind in its middle block, layers_per_block or "
                         "kernels", name, config->pixel_attention ? "UNet2DModel" : "UNet2DConditionModel");
    if (!config->addition_input_dim != !config->addition_time_embed_dim ||
        (config->addition_input_dim && config->addition_input_dim <= config->addition_time_embed_dim))
        return weft_fail(c, WEFT_E_FORMAT, "%s: projection_class_embeddings_input_dim: %d, with addition_time_embed_dim %d, "
                         "leaves nothing for the text", name, config->addition_input_dim, config->addition_time_embed_dim);
    return WEFT_OK;
}
