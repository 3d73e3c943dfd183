/* Models of given shapes with weights from a seed; see checkpoint.h. */
#include <stdlib.h>
#include <string.h>

#include "nodes/checkpoint/parts.h"

struct preset {
    const char *name;
    weft_family family;
    const weft_clip_text_config *text;
    const weft_unet_config *unet;
    const weft_vae_config *vae;
    weft_prediction prediction;
};

/* Stable Diffusion 1.5's build with a tenth of its widths. */
static const weft_clip_text_config tiny_text = {
    .vocabulary = 49408, .width = 64, .inner = 256, .layers = 2, .spread = 1, .heads = 1, .positions = 77,
    .act = WEFT_ACT_QUICK_GELU,
    .norm_eps = 1e-5, .eos = 49407,
};
static const weft_unet_config tiny_unet = {
    .in_channels = 4, .out_channels = 4, .blocks = 4, .channels = { 32, 64, 96, 96 }, .layers = { 2, 2, 2, 2 },
    .down_attention = { true, true, true, false }, .up_attention = { false, true, true, true },
    .mid = WEFT_UNET_MID_ATTENTION,
    .heads = { 8, 8, 8, 8 }, .depth = { 1, 1, 1, 1 }, .context = 64, .norm_groups = 32, .norm_eps = 1e-5,
    .downsample_padding = 1,
    .conv_in_kernel = 3, .conv_out_kernel = 3, .flip_sin_to_cos = true,
};
static const weft_vae_config tiny_vae = {
    .in_channels = 3, .out_channels = 3, .latent_channels = 4, .blocks = 4, .channels = { 32, 64, 96, 96 },
    .layers = 2, .norm_groups = 32,
    .mid_attention = true, .quant_conv = true, .post_quant_conv = true, .scaling_factor = 0.18215,
};

static const struct preset presets[] = {
    { "sd15", WEFT_FAMILY_SD1, &weft_clip_text_l14, &weft_unet_sd15, &weft_vae_sd, WEFT_PREDICTION_EPSILON },
    { "sd15-inpaint", WEFT_FAMILY_SD1, &weft_clip_text_l14, &weft_unet_sd15_inpaint, &weft_vae_sd,
      WEFT_PREDICTION_EPSILON },
    { "sd21", WEFT_FAMILY_SD2, &weft_clip_text_h14, &weft_unet_sd21, &weft_vae_sd, WEFT_PREDICTION_V },
    { "tiny", WEFT_FAMILY_SD1, &tiny_text, &tiny_unet, &tiny_vae, WEFT_PREDICTION_EPSILON },
};
enum { PRESETS = sizeof presets / sizeof *presets };

static const struct preset *find(weft_ctx *c, const char *name) {
    char all[128] = "";
    for (int i = 0; i < PRESETS; i++) {
        if (!strcmp(presets[i].name, name)) return &presets[i];
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", i ? ", " : "", presets[i].name);
    }
    weft_fail(c, WEFT_E_ARGUMENT, "checkpoint: there is no preset \"%.60s\"; there are %s", name, all);
    return NULL;
}

static weft_tree *make_tree(weft_ctx *c, weft_part part, weft_dtype type, uint64_t seed) {
    weft_tree *t = weft_tree_new(c, weft_part_rows[part].folder);
    if (!t) return NULL;
    weft_tree_make(t, type, seed);
    weft_tree_set_frozen(t, true);
    return t;
}

weft_checkpoint *weft_checkpoint_make(weft_ctx *c, const char *preset, weft_dtype type, uint64_t seed) {
    const struct preset *p = weft_ok(c) ? find(c, preset) : NULL;
    if (p && type != WEFT_F32 && type != WEFT_F16 && type != WEFT_BF16 && type != WEFT_F64)
        weft_fail(c, WEFT_E_TYPE, "checkpoint: weights are f32, f16, bf16 or f64, not %s", weft_dtype_name(type));
    if (!p || !weft_ok(c)) return NULL;
    weft_checkpoint *k = calloc(1, sizeof *k);
    if (k) k->path = strdup(p->name);
    if (!k || !k->path) {
        weft_fail(c, WEFT_E_MEMORY, "checkpoint: no memory");
        weft_checkpoint_free(k);
        return NULL;
    }
    k->family = p->family;
    k->text_config = *p->text;
    k->unet_config = *p->unet;
    k->vae_config = *p->vae;
    k->inpaint = p->unet->in_channels == 9;
    k->scheduler = weft_scheduler_config_sd(p->prediction);
    snprintf(k->why, sizeof k->why, "%s: made from seed %llu", weft_family_name(p->family), (unsigned long long)seed);
    k->text = make_tree(c, WEFT_NAMES_TEXT, type, seed);
    k->unet = make_tree(c, WEFT_NAMES_UNET, type, seed);
    k->vae = make_tree(c, WEFT_NAMES_VAE, type, seed);
    k->parts = WEFT_PARTS_ALL;
    if (weft_ok(c) && weft_tokenizer_has_builtin()) {
        k->tokenizer = weft_tokenizer_open_builtin(c);
        if (k->tokenizer && k->family == WEFT_FAMILY_SD2 && weft_tokenizer_set_pad(c, k->tokenizer, 0)) goto fail;
    }
    if (weft_ok(c) && weft_parts_check(c, k) == WEFT_OK) return k;
fail:
    weft_checkpoint_free(k);
    return NULL;
}
