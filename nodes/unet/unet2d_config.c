/* The config.json of diffusers' UNet2DModel: a UNet without a text, that attends to its own pixels; see
 * unet2d_condition.h. Defaults are those of its constructor (unet_2d.py). */
#include "nodes/config.h"
#include "nodes/unet/unet2d_config.h"

#define MAX_WIDTH 65536

static const weft_config_rule rules[] = {
    { "_class_name", "UNet2DModel" },
    { "act_fn", "silu|swish" },
    { "class_embed_type", "null" },
    { "downsample_type", "conv" },
    { "mid_block_scale_factor", "1" },
    { "mid_block_type", "UNetMidBlock2D" },
    { "num_class_embeds", "null" },
    { "resnet_time_scale_shift", "default" },
    { "time_embedding_type", "positional" },
    { "upsample_type", "conv" },
    { NULL, NULL }
};

const weft_unet_config weft_unet2d_default = {
    .pixel_attention = true, .in_channels = 3, .out_channels = 3, .blocks = 4, .channels = { 224, 448, 672, 896 },
    .layers = { 2, 2, 2, 2 }, .down_attention = { false, true, true, true }, .up_attention = { true, true, true, false },
    .mid = WEFT_UNET_MID_ATTENTION, .head_width = 8, .norm_groups = 32, .norm_eps = 1e-5, .downsample_padding = 1,
    .conv_in_kernel = 3, .conv_out_kernel = 3, .flip_sin_to_cos = true,
};

static void read_types(const weft_json *j, const char *key, const char *const *names, int blocks, bool *attention) {
    int types[WEFT_UNET_MAX_BLOCKS];
    int n = weft_config_names(j, key, names, 2, types, WEFT_UNET_MAX_BLOCKS);
    for (int i = 0; i < n && i < blocks; i++) attention[i] = types[i] == 1;
    if (n != blocks && (n || blocks != 4))
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: %d types, but block_out_channels has %d", j->file, key, n ? n : 4, blocks);
}

/* null is one head as wide as the block; absent is 8. */
static int read_head_width(const weft_json *j) {
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(j->object, "attention_head_dim"))) return 0;
    return (int)weft_json_int(j, "attention_head_dim", 1, MAX_WIDTH, weft_unet2d_default.head_width);
}

void weft_unet2d_config_from(const weft_json *j, weft_unet_config *config) {
    static const char *const down[] = { "DownBlock2D", "AttnDownBlock2D" }, *const up[] = { "UpBlock2D", "AttnUpBlock2D" };
    weft_unet_config d = weft_unet2d_default;
    int64_t channels[WEFT_UNET_MAX_BLOCKS];
    if (weft_config_rules(j, rules)) return;
    int n = weft_json_ints(j, "block_out_channels", 1, MAX_WIDTH, channels, WEFT_UNET_MAX_BLOCKS);
    if (n) d.blocks = n;
    for (int i = 0; i < n; i++) d.channels[i] = (int)channels[i];
    read_types(j, "down_block_types", down, d.blocks, d.down_attention);
    read_types(j, "up_block_types", up, d.blocks, d.up_attention);
    int layers = (int)weft_json_int(j, "layers_per_block", 1, WEFT_UNET_MAX_LAYERS, 2);
    for (int i = 0; i < d.blocks; i++) d.layers[i] = layers;
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(j->object, "mid_block_type"))) d.mid = WEFT_UNET_MID_NONE;
    else if (!weft_json_bool(j, "add_attention", true)) d.mid = WEFT_UNET_MID_RESNETS;
    d.head_width = read_head_width(j);
    d.in_channels = (int)weft_json_int(j, "in_channels", 1, MAX_WIDTH, d.in_channels);
    d.out_channels = (int)weft_json_int(j, "out_channels", 1, MAX_WIDTH, d.out_channels);
    d.norm_groups = (int)weft_json_int(j, "norm_num_groups", 1, MAX_WIDTH, d.norm_groups);
    d.mid_norm_groups = (int)weft_json_int(j, "attn_norm_num_groups", 1, MAX_WIDTH, 0);
    d.norm_eps = weft_json_double(j, "norm_eps", d.norm_eps);
    d.downsample_padding = (int)weft_json_int(j, "downsample_padding", 0, 1, 1);
    d.center_input_sample = weft_json_bool(j, "center_input_sample", false);
    d.flip_sin_to_cos = weft_json_bool(j, "flip_sin_to_cos", true);
    d.freq_shift = weft_json_double(j, "freq_shift", 0);
    d.time_embedding_dim = (int)weft_json_int(j, "time_embedding_dim", 0, MAX_WIDTH, 0);
    if (weft_ok(j->ctx) && weft_unet_config_check(j->ctx, j->file, &d) == WEFT_OK) *config = d;
}
