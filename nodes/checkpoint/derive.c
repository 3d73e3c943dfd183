/* Shapes to configurations; see derive.h. */
#include "nodes/checkpoint/derive.h"

#include <stdlib.h>
#include <string.h>

#define HEAD_WIDTH 64           /* channels of a head, of CLIP's text encoders and of Stable Diffusion 2 */
#define SD1_HEADS 8
#define SD1_CONTEXT 768
#define SD2_CONTEXT 1024
#define LARGEST (1 << 24)       /* no model has a dimension like that */

weft_status weft_shapes_add(weft_ctx *c, weft_shapes *s, const char *name, int rank, const int64_t *size) {
    if (s->count == s->room) {
        int64_t room = s->room ? 2 * s->room : 256;
        weft_tensor_shape *at = realloc(s->at, (size_t)room * sizeof *at);
        if (!at) return weft_fail(c, WEFT_E_MEMORY, "no memory for the names of %lld tensors", (long long)room);
        s->at = at;
        s->room = room;
    }
    weft_tensor_shape *t = &s->at[s->count++];
    *t = (weft_tensor_shape){ .rank = rank };
    snprintf(t->name, sizeof t->name, "%s", name);
    memcpy(t->size, size, (size_t)rank * sizeof *size);
    return WEFT_OK;
}

/* A matrix of the rows of q, k and v counts as three. */
static weft_status add_split(weft_ctx *c, weft_shapes *s, const weft_st_entry *e, char names[3][WEFT_NAME_MAX]) {
    int64_t size[WEFT_MAX_RANK];
    if (e->rank < 1) return WEFT_OK;
    memcpy(size, e->shape, (size_t)e->rank * sizeof *size);
    size[0] /= 3;
    for (int i = 0; i < 3; i++)
        if (weft_shapes_add(c, s, names[i], e->rank, size)) return weft_error(c);
    return WEFT_OK;
}

weft_status weft_shapes_add_file(weft_ctx *c, weft_shapes *s, const weft_safetensors *f, const weft_namer *n) {
    char name[WEFT_NAME_MAX], split[3][WEFT_NAME_MAX];
    size_t prefix = strlen(n->prefix);
    for (int64_t i = 0; i < weft_st_count(f); i++) {
        const weft_st_entry *e = weft_st_at(f, i);
        if (strncmp(e->name, n->prefix, prefix)) continue;
        if (weft_namer_split(n, e->name + prefix, split)) {
            if (add_split(c, s, e, split)) return weft_error(c);
        } else if (weft_namer_name(n, e->name + prefix, name, sizeof name)) {
            if (weft_shapes_add(c, s, name, e->rank, e->shape)) return weft_error(c);
        }
    }
    return WEFT_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const weft_tensor_shape *)a)->name, ((const weft_tensor_shape *)b)->name);
}

void weft_shapes_sort(weft_shapes *s) {
    if (s->count) qsort(s->at, (size_t)s->count, sizeof *s->at, by_name);
}

const weft_tensor_shape *weft_shapes_find(const weft_shapes *s, const char *name) {
    int64_t low = 0, high = s->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int order = strcmp(s->at[middle].name, name);
        if (!order) return &s->at[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

void weft_shapes_free(weft_shapes *s) {
    free(s->at);
    *s = (weft_shapes){ 0 };
}

/* ---- asking ----------------------------------------------------------------------------------------------------- */

/* A dimension of the named tensor; 0 where it is not there, has not so many, or is out of all proportion. */
static int dim_of(const weft_shapes *s, const char *name, int dim) {
    const weft_tensor_shape *t = weft_shapes_find(s, name);
    return t && dim < t->rank && t->size[dim] > 0 && t->size[dim] < LARGEST ? (int)t->size[dim] : 0;
}

static int first_of(int a, int b) {
    return a ? a : b;
}

/* Channels that a block gives, by one or another tensor of its resnets. */
static int block_width(const weft_shapes *s, const char *block, int i) {
    static const char *const tensors[] = { "resnets.0.conv1.weight", "resnets.0.conv2.weight",
                                           "resnets.0.norm2.weight", "resnets.1.conv1.weight" };
    char name[WEFT_NAME_MAX];
    int width = 0;
    for (int k = 0; k < 4 && !width; k++) {
        snprintf(name, sizeof name, "%s.%d.%s", block, i, tensors[k]);
        width = dim_of(s, name, 0);
    }
    return width;
}

static bool ends_in(const char *name, const char *end) {
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && !strcmp(name + length - tail, end);
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

/* "block.i.kind.j.rest": true where the name is so; *k: the number of a transformer block, −1 where there is none. */
static bool in_block(const char *name, const char *block, const char *kind, int *i, int *j, int *k) {
    char pattern[96];
    int end = 0;
    *k = -1;
    snprintf(pattern, sizeof pattern, "%s.%%d.%s.%%d.%%n", block, kind);
    if (sscanf(name, pattern, i, j, &end) != 2 || !end) return false;
    if (sscanf(name + end, "transformer_blocks.%d.", k) != 1) *k = -1;
    return true;
}

/* ---- UNet ------------------------------------------------------------------------------------------------------- */

/* What one pass over the names tells. */
struct unet_names {
    int blocks;
    int layers[WEFT_UNET_MAX_BLOCKS], depth[WEFT_UNET_MAX_BLOCKS], up_depth[WEFT_UNET_MAX_BLOCKS];
    bool down_attention[WEFT_UNET_MAX_BLOCKS], up_attention[WEFT_UNET_MAX_BLOCKS];
    bool mid, mid_attention, linear, too_many;
    int context;
};

static void unet_name(struct unet_names *u, const weft_tensor_shape *t) {
    int i, j, k;
    const char *name = t->name;
    if (in_block(name, "down_blocks", "resnets", &i, &j, &k) ||
        in_block(name, "down_blocks", "attentions", &i, &j, &k)) {
        if (i >= WEFT_UNET_MAX_BLOCKS || j >= WEFT_UNET_MAX_LAYERS) { u->too_many = true; return; }
        u->blocks = larger(u->blocks, i + 1);
        u->layers[i] = larger(u->layers[i], j + 1);
        u->depth[i] = larger(u->depth[i], k + 1);
        if (strstr(name, ".attentions.")) u->down_attention[i] = true;
    } else if (in_block(name, "up_blocks", "attentions", &i, &j, &k)) {
        if (i >= WEFT_UNET_MAX_BLOCKS) { u->too_many = true; return; }
        u->up_attention[i] = true;
        u->up_depth[i] = larger(u->up_depth[i], k + 1);
    } else if (!strncmp(name, "mid_block.", 10)) {
        u->mid = true;
        if (!strncmp(name, "mid_block.attentions.", 21)) u->mid_attention = true;
    }
    if (ends_in(name, ".attn2.to_k.weight") && t->rank == 2 && !u->context && t->size[1] < LARGEST)
        u->context = (int)t->size[1];
    if (ends_in(name, ".proj_in.weight")) u->linear = t->rank == 2;
}

weft_family weft_family_of(const weft_unet_config *u) {
    if (!u->context) return WEFT_FAMILY_UNKNOWN;
    bool second = u->context == SD2_CONTEXT || (u->context != SD1_CONTEXT && u->linear_projection);
    return second ? WEFT_FAMILY_SD2 : WEFT_FAMILY_SD1;
}

weft_status weft_derive_unet(weft_ctx *c, const char *file, const weft_shapes *s, weft_unet_config *config) {
    struct unet_names u = { 0 };
    *config = weft_unet_sd15;
    for (int64_t i = 0; i < s->count; i++) unet_name(&u, &s->at[i]);
    if (dim_of(s, "init_conv.weight", 0))
        return weft_fail(c, WEFT_E_FORMAT,
                         "%s: the UNet in it is a Unet of denoising-diffusion-pytorch; a config.json with its "
                         "constructor's arguments is needed beside it: {\"_class_name\": \"Unet\", \"dim\": 64, …}",
                         file);
    if (u.too_many || !u.blocks)
        return weft_fail(c, WEFT_E_FORMAT, "%s: the UNet in it has %s", file,
                         u.too_many ? "more blocks or layers than any that Weft knows" : "no down_blocks");
    if (dim_of(s, "mid_block.attentions.0.group_norm.weight", 0))
        return weft_fail(c, WEFT_E_FORMAT, "%s: the UNet in it is a UNet2DModel; its config.json is needed beside it", file);
    if (dim_of(s, "add_embedding.linear_1.weight", 0))
        return weft_fail(c, WEFT_E_FORMAT,
                         "%s: the UNet in it is one of Stable Diffusion XL, which Weft does not read yet", file);
    if (!u.context)
        return weft_fail(c, WEFT_E_FORMAT, "%s: the UNet in it has no cross attention, so takes no text", file);
    config->context = u.context;
    config->linear_projection = u.linear;
    weft_family family = weft_family_of(config);
    config->in_channels = first_of(dim_of(s, "conv_in.weight", 1), config->in_channels);
    config->out_channels = first_of(dim_of(s, "conv_out.weight", 0), config->out_channels);
    config->conv_in_kernel = first_of(dim_of(s, "conv_in.weight", 2), 3);
    config->conv_out_kernel = first_of(dim_of(s, "conv_out.weight", 2), 3);
    config->blocks = u.blocks;
    for (int i = 0; i < u.blocks; i++) {
        int up = u.blocks - 1 - i;
        config->channels[i] = first_of(block_width(s, "down_blocks", i),
                                       first_of(block_width(s, "up_blocks", up), config->channels[i > 0 ? i - 1 : 0]));
        config->layers[i] = first_of(u.layers[i], 1);
        config->down_attention[i] = u.down_attention[i];
        config->up_attention[i] = u.up_attention[i];
        config->depth[i] = first_of(larger(u.depth[i], u.up_depth[up]), 1);
        config->heads[i] = family == WEFT_FAMILY_SD1 ? SD1_HEADS : larger(config->channels[i] / HEAD_WIDTH, 1);
    }
    config->mid = u.mid_attention ? WEFT_UNET_MID_ATTENTION : u.mid ? WEFT_UNET_MID_RESNET : WEFT_UNET_MID_NONE;
    config->time_embedding_dim = dim_of(s, "time_embedding.linear_1.weight", 0);
    config->time_cond_proj_dim = dim_of(s, "time_embedding.cond_proj.weight", 1);
    return weft_unet_config_check(c, file, config);
}

/* ---- autoencoder ------------------------------------------------------------------------------------------------ */

weft_status weft_derive_vae(weft_ctx *c, const char *file, const weft_shapes *s, weft_vae_config *config) {
    int blocks = 0, down_layers = 0, up_layers = 0, i, j, k;
    bool attention = false, too_many = false;
    *config = weft_vae_sd;
    for (int64_t n = 0; n < s->count; n++) {
        const char *name = s->at[n].name;
        bool down = in_block(name, "encoder.down_blocks", "resnets", &i, &j, &k);
        bool up = !down && in_block(name, "decoder.up_blocks", "resnets", &i, &j, &k);
        if (strstr(name, "mid_block.attentions.")) attention = true;
        if (!down && !up) continue;
        if (i >= WEFT_VAE_MAX_BLOCKS) { too_many = true; continue; }
        blocks = larger(blocks, i + 1);
        if (down) down_layers = larger(down_layers, j + 1);
        else up_layers = larger(up_layers, j + 1);
    }
    if (too_many || !blocks)
        return weft_fail(c, WEFT_E_FORMAT, "%s: the autoencoder in it has %s", file,
                         too_many ? "more blocks than any that Weft knows" : "no blocks");
    config->blocks = blocks;
    config->layers = first_of(down_layers, up_layers - 1);
    for (i = 0; i < blocks; i++)
        config->channels[i] = first_of(block_width(s, "encoder.down_blocks", i),
                                       first_of(block_width(s, "decoder.up_blocks", blocks - 1 - i), 32));
    config->in_channels = first_of(dim_of(s, "encoder.conv_in.weight", 1), 3);
    config->out_channels = first_of(dim_of(s, "decoder.conv_out.weight", 0), 3);
    config->latent_channels = first_of(dim_of(s, "decoder.conv_in.weight", 1),
                                       dim_of(s, "encoder.conv_out.weight", 0) / 2);
    config->mid_attention = attention;
    config->quant_conv = dim_of(s, "quant_conv.weight", 0) > 0;
    config->post_quant_conv = dim_of(s, "post_quant_conv.weight", 0) > 0;
    if (config->latent_channels != weft_vae_sd.latent_channels)
        return weft_fail(c, WEFT_E_FORMAT,
                         "%s: the autoencoder in it has latents of %d channels; Stable Diffusion 1 and 2 have 4",
                         file, config->latent_channels);
    return weft_vae_config_check(c, file, config);
}

/* ---- text encoder ----------------------------------------------------------------------------------------------- */

weft_status weft_derive_text(weft_ctx *c, const char *file, const weft_shapes *s, weft_naming naming,
                             weft_clip_text_config *config) {
    int layers = 0, i;
    *config = naming == WEFT_NAMING_OPEN_CLIP ? weft_clip_text_h14 : weft_clip_text_l14;
    for (int64_t n = 0; n < s->count; n++)
        if (sscanf(s->at[n].name, "encoder.layers.%d.", &i) == 1) layers = larger(layers, i + 1);
    config->layers = layers;
    config->vocabulary = first_of(dim_of(s, "embeddings.token_embedding.weight", 0), config->vocabulary);
    config->positions = first_of(dim_of(s, "embeddings.position_embedding.weight", 0), config->positions);
    config->width = first_of(dim_of(s, "embeddings.token_embedding.weight", 1),
                             first_of(dim_of(s, "final_layer_norm.weight", 0), config->width));
    config->inner = first_of(dim_of(s, "encoder.layers.0.mlp.fc1.weight", 0), 4 * config->width);
    config->heads = larger(config->width / HEAD_WIDTH, 1);
    config->projection = 0;
    /* Stable Diffusion 2 and what follows it have OpenCLIP's encoders, under whatever names. */
    if (config->width > SD1_CONTEXT) config->act = WEFT_ACT_GELU;
    return weft_clip_text_config_check(c, file, config);
}
