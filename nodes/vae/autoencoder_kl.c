/* Encoder and decoder; see autoencoder_kl.h.
 *
 *   encoder: conv_in → down_blocks (layers resnets, then a downsampling padded at the bottom and right) → mid_block
 *            → conv_norm_out, SiLU, conv_out → quant_conv: mean and logvar side by side
 *   decoder: post_quant_conv → conv_in → mid_block → up_blocks (layers + 1 resnets, then ×2)
 *            → conv_norm_out, SiLU, conv_out
 *   mid_block: resnet, attention of one head over all pixels, resnet.
 */
#include "nodes/vae/autoencoder_kl.h"

#include <inttypes.h>

#include "nodes/blocks.h"
#include "runtime/autograd.h"

#define NORM_EPS 1e-6

static weft_norm norm_of(const weft_vae_config *config) {
    return (weft_norm){ config->norm_groups, NORM_EPS };
}

static weft_tensor *resnet(weft_ctx *c, weft_params p, const weft_vae_config *config, int i, weft_tensor *x, int64_t out) {
    return weft_block_resnet(c, weft_sub_at(p, "resnets", i), x, NULL, out, norm_of(config), NULL);
}

static weft_tensor *mid_block(weft_ctx *c, weft_params p, const weft_vae_config *config, weft_tensor *x) {
    int64_t width = weft_dim(x, -1);
    weft_scope s = weft_scope_begin(c, p);
    weft_chain chain = weft_chain_begin(c, 2);
    x = weft_chain_next(c, &chain, resnet(c, p, config, 0, x, width));
    if (config->mid_attention) x = weft_block_pixel_attention(c, weft_sub(p, "attentions.0"), x, 1, norm_of(config));
    x = weft_chain_next(c, &chain, resnet(c, p, config, 1, x, width));
    return weft_scope_end(c, s, x);
}

static weft_tensor *down_block(weft_ctx *c, weft_params p, const weft_vae_config *config, int level, weft_tensor *x) {
    bool last = level == config->blocks - 1;
    int64_t width = config->channels[level];
    weft_scope s = weft_scope_begin(c, p);
    weft_chain chain = weft_chain_begin(c, config->layers + !last);
    for (int i = 0; i < config->layers; i++)
        x = weft_chain_next(c, &chain, resnet(c, p, config, i, x, width));
    if (!last) x = weft_chain_next(c, &chain, weft_block_downsample(c, weft_sub(p, "downsamplers.0"), x, width, 0));
    return weft_scope_end(c, s, x);
}

static weft_tensor *up_block(weft_ctx *c, weft_params p, const weft_vae_config *config, int level, weft_tensor *x) {
    int64_t width = config->channels[level];
    weft_scope s = weft_scope_begin(c, p);
    weft_chain chain = weft_chain_begin(c, config->layers + 1 + (level > 0));
    for (int i = 0; i <= config->layers; i++)
        x = weft_chain_next(c, &chain, resnet(c, p, config, i, x, width));
    if (level > 0) {
        int64_t h = 2 * weft_dim(x, 1), w = 2 * weft_dim(x, 2);
        x = weft_chain_next(c, &chain, weft_block_upsample(c, weft_sub(p, "upsamplers.0"), x, width, h, w));
    }
    return weft_scope_end(c, s, x);
}

/* conv_norm_out, SiLU, conv_out: the end of either. */
static weft_tensor *head(weft_ctx *c, weft_params p, const weft_vae_config *config, weft_tensor *x, int64_t out) {
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    x = weft_block_norm_silu(c, weft_sub(p, "conv_norm_out"), x, norm_of(config));
    return weft_scope_end(c, s, weft_block_conv(c, weft_sub(p, "conv_out"), x, out, 3));
}

/* (N, H, W, in_channels) → (N, h, w, 2·latent_channels). */
static weft_tensor *encoder(weft_ctx *c, weft_params p, const weft_vae_config *config, weft_tensor *x) {
    int64_t steps = config->blocks + 2;
    weft_scope s = weft_scope_begin(c, p);
    weft_chain chain = weft_chain_begin(c, config->blocks + 3);
    x = weft_chain_next(c, &chain, weft_block_conv(c, weft_sub(p, "conv_in"), x, config->channels[0], 3));
    for (int i = 0; i < config->blocks; i++) {
        x = weft_chain_next(c, &chain, down_block(c, weft_sub_at(p, "down_blocks", i), config, i, x));
        if (x && !weft_progress(c, "vae encode", i + 1, steps)) x = NULL;
    }
    x = weft_chain_next(c, &chain, mid_block(c, weft_sub(p, "mid_block"), config, x));
    if (x && !weft_progress(c, "vae encode", steps - 1, steps)) x = NULL;
    x = weft_chain_next(c, &chain, head(c, p, config, x, 2 * (int64_t)config->latent_channels));
    if (x && !weft_progress(c, "vae encode", steps, steps)) x = NULL;
    return weft_scope_end(c, s, x);
}

/* (N, h, w, latent_channels) → (N, H, W, out_channels). */
static weft_tensor *decoder(weft_ctx *c, weft_params p, const weft_vae_config *config, weft_tensor *x) {
    int last = config->blocks - 1;
    int64_t steps = config->blocks + 2;
    weft_scope s = weft_scope_begin(c, p);
    weft_chain chain = weft_chain_begin(c, config->blocks + 3);
    x = weft_chain_next(c, &chain, weft_block_conv(c, weft_sub(p, "conv_in"), x, config->channels[last], 3));
    x = weft_chain_next(c, &chain, mid_block(c, weft_sub(p, "mid_block"), config, x));
    if (x && !weft_progress(c, "vae decode", 1, steps)) x = NULL;
    for (int i = 0; i < config->blocks; i++) {
        x = weft_chain_next(c, &chain, up_block(c, weft_sub_at(p, "up_blocks", i), config, last - i, x));
        if (x && !weft_progress(c, "vae decode", i + 2, steps)) x = NULL;
    }
    x = weft_chain_next(c, &chain, head(c, p, config, x, config->out_channels));
    if (x && !weft_progress(c, "vae decode", steps, steps)) x = NULL;
    return weft_scope_end(c, s, x);
}

static weft_status check_picture(weft_ctx *c, const char *what, const weft_tensor *t, int channels) {
    char text[96];
    if (!t) return weft_fail(c, WEFT_E_ARGUMENT, "vae: no %s", what);
    if (weft_rank(t) == 4 && weft_dim(t, 3) == channels) return WEFT_OK;
    weft_describe(t, text, sizeof text);
    return weft_fail(c, WEFT_E_SHAPE, "vae: the %s is %s; expected (N, H, W, %d)", what, text, channels);
}

static weft_tensor *whole_encoder(weft_ctx *c, weft_params p, const weft_vae_config *config, weft_tensor *x) {
    x = encoder(c, weft_sub(p, "encoder"), config, x);
    return config->quant_conv ? weft_block_conv(c, weft_sub(p, "quant_conv"), x, 2 * config->latent_channels, 1) : x;
}

static weft_tensor *whole_decoder(weft_ctx *c, weft_params p, const weft_vae_config *config, weft_tensor *x) {
    if (config->post_quant_conv) x = weft_block_conv(c, weft_sub(p, "post_quant_conv"), x, config->latent_channels, 1);
    return decoder(c, weft_sub(p, "decoder"), config, x);
}

/* One half, in the type that models compute in. f16 ends at 65504, and the activations of some autoencoders (SDXL's) go
 * beyond: what is not finite is done once more in f32. */
static weft_tensor *run(weft_ctx *c, weft_params p, const weft_vae_config *config,
                        weft_tensor *(*half)(weft_ctx *, weft_params, const weft_vae_config *, weft_tensor *),
                        weft_tensor *x) {
    const weft_dtype type = weft_type(x);
    weft_scope s = weft_scope_begin(c, p);
    weft_tensor *in = weft_to_compute(c, x), *y = in ? half(c, p, config, in) : NULL;
    if (y && in != x && weft_type(in) == WEFT_F16 && !weft_is_finite(c, y)) y = half(c, p, config, x);
    return weft_scope_end(c, s, y ? weft_cast(c, y, type) : NULL);
}

weft_vae_moments weft_vae_encode(weft_ctx *c, weft_params p, const weft_vae_config *config, weft_tensor *image) {
    weft_vae_moments m = { NULL, NULL };
    if (!weft_ok(c) || weft_vae_config_check(c, "vae", config)) return m;
    if (check_picture(c, "picture", image, config->in_channels)) return m;
    int64_t least = (int64_t)1 << (config->blocks - 1);
    if (weft_dim(image, 1) < least || weft_dim(image, 2) < least) {
        weft_fail(c, WEFT_E_SHAPE, "vae: the picture is %" PRId64 "×%" PRId64 " pixels; %" PRId64 "×%" PRId64
                  " is the least", weft_dim(image, 2), weft_dim(image, 1), least, least);
        return m;
    }
    weft_scope s = weft_scope_begin(c, p);
    weft_tensor *both = run(c, p, config, whole_encoder, image);
    int64_t width = config->latent_channels;
    weft_tensor *mean = weft_contiguous(c, weft_slice(c, both, 3, 0, width));
    weft_tensor *logvar = weft_contiguous(c, weft_slice(c, both, 3, width, width));
    mean = weft_scope_keep(c, s, mean);
    logvar = weft_scope_keep(c, s, weft_clamp(c, logvar, -30, 20));
    weft_scope_end(c, s, NULL);
    if (weft_ok(c)) m = (weft_vae_moments){ mean, logvar };
    return m;
}

weft_tensor *weft_vae_sample(weft_ctx *c, weft_vae_moments m, weft_tensor *noise) {
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor *std = weft_exp(c, weft_affine(c, m.logvar, 0.5, 0));
    return weft_scope_end(c, s, weft_add(c, m.mean, weft_mul(c, std, noise)));
}

weft_tensor *weft_vae_decode(weft_ctx *c, weft_params p, const weft_vae_config *config, weft_tensor *latent) {
    if (!weft_ok(c) || weft_vae_config_check(c, "vae", config)) return NULL;
    if (check_picture(c, "latent", latent, config->latent_channels)) return NULL;
    return run(c, p, config, whole_decoder, latent);
}

weft_tensor *weft_vae_scale(weft_ctx *c, const weft_vae_config *config, weft_tensor *latent) {
    return weft_affine(c, latent, config->scaling_factor, -config->shift_factor * config->scaling_factor);
}

weft_tensor *weft_vae_unscale(weft_ctx *c, const weft_vae_config *config, weft_tensor *latent) {
    return weft_affine(c, latent, 1 / config->scaling_factor, config->shift_factor);
}

weft_tensor *weft_vae_to_pixels(weft_ctx *c, weft_tensor *image) {
    /* From 2²³ on f32 holds whole numbers only: adding it rounds half to even, as additions of IEEE 754 do. Each line is
     * an operation of its own because each one's rounding shows in the result. */
    const double whole = 8388608;
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor *y = weft_clamp(c, weft_affine(c, weft_cast(c, image, WEFT_F32), 0.5, 0.5), 0, 1);
    y = weft_affine(c, y, 255, 0);
    y = weft_affine(c, y, 1, whole);
    y = weft_affine(c, y, 1, -whole);
    return weft_scope_end(c, s, weft_cast(c, y, WEFT_U8));
}

weft_tensor *weft_vae_from_pixels(weft_ctx *c, weft_tensor *pixels) {
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    weft_tensor *x = weft_cast(c, pixels, WEFT_F32);
    x = weft_div(c, x, weft_scalar(c, WEFT_F32, 255));
    return weft_scope_end(c, s, weft_affine(c, x, 2, -1));
}

static void walk(weft_ctx *c, weft_params root, const weft_vae_config *config, bool encode) {
    if (weft_vae_config_check(c, "vae", config)) return;
    weft_scope s = weft_scope_begin(c, (weft_params){ 0 });
    int64_t size = (int64_t)1 << (config->blocks - 1), pixel[4] = { 1, size, size, config->in_channels };
    int64_t latent[4] = { 1, 1, 1, config->latent_channels };
    if (encode) weft_vae_encode(c, root, config, weft_tensor_new(c, WEFT_F32, 4, pixel));
    else weft_vae_decode(c, root, config, weft_tensor_new(c, WEFT_F32, 4, latent));
    weft_scope_end(c, s, NULL);
}

void weft_vae_walk_encoder(weft_ctx *c, weft_params root, void *user) {
    walk(c, root, user, true);
}

void weft_vae_walk_decoder(weft_ctx *c, weft_params root, void *user) {
    walk(c, root, user, false);
}

void weft_vae_walk(weft_ctx *c, weft_params root, void *user) {
    walk(c, root, user, true);
    walk(c, root, user, false);
}
