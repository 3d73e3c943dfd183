/* Renaming by tables; see ldm_names.h.
 *
 * A rule's `from` is matched at a name's start; <n> in it stands for a number, <i> and <o> for one of input_blocks and
 * output_blocks, <u> for a level of the autoencoder's decoder, which LDM counts from the smallest resolution's end. In
 * `to` they come back as <n> (in the order of reading), <b> and <l> (block and layer). What follows is matched by the
 * `inner` rules, and must otherwise be "weight" or "bias"; a `from` that ends in no dot is a whole name. The first rule
 * that fits counts. Names of diffusers are held against the right column, so that what the models cannot use is known
 * as such.
 */
#include "nodes/checkpoint/ldm_names.h"

#include <string.h>

struct rule { const char *from, *to; const struct rule *inner; };

static const struct rule ldm_resnet[] = {
    { "in_layers.0.", "norm1.", NULL },
    { "in_layers.2.", "conv1.", NULL },
    { "emb_layers.1.", "time_emb_proj.", NULL },
    { "out_layers.0.", "norm2.", NULL },
    { "out_layers.3.", "conv2.", NULL },
    { "skip_connection.", "conv_shortcut.", NULL },
    { NULL, NULL, NULL },
};

#define SAME(name) { name, name, NULL }
static const struct rule transformer[] = {
    SAME("norm."), SAME("proj_in."), SAME("proj_out."),
    SAME("transformer_blocks.<n>.norm1."), SAME("transformer_blocks.<n>.norm2."), SAME("transformer_blocks.<n>.norm3."),
    SAME("transformer_blocks.<n>.attn1.to_q."), SAME("transformer_blocks.<n>.attn1.to_k."),
    SAME("transformer_blocks.<n>.attn1.to_v."), SAME("transformer_blocks.<n>.attn1.to_out.0."),
    SAME("transformer_blocks.<n>.attn2.to_q."), SAME("transformer_blocks.<n>.attn2.to_k."),
    SAME("transformer_blocks.<n>.attn2.to_v."), SAME("transformer_blocks.<n>.attn2.to_out.0."),
    SAME("transformer_blocks.<n>.ff.net.0.proj."), SAME("transformer_blocks.<n>.ff.net.2."),
    { NULL, NULL, NULL },
};

static const struct rule ldm_unet[] = {
    { "time_embed.0.", "time_embedding.linear_1.", NULL },
    { "time_embed.2.", "time_embedding.linear_2.", NULL },
    { "time_embed.cond_proj.", "time_embedding.cond_proj.", NULL },
    { "label_emb.0.0.", "add_embedding.linear_1.", NULL },
    { "label_emb.0.2.", "add_embedding.linear_2.", NULL },
    { "input_blocks.0.0.", "conv_in.", NULL },
    { "input_blocks.<i>.0.op.", "down_blocks.<b>.downsamplers.0.conv.", NULL },
    { "input_blocks.<i>.0.", "down_blocks.<b>.resnets.<l>.", ldm_resnet },
    { "input_blocks.<i>.1.", "down_blocks.<b>.attentions.<l>.", transformer },
    { "middle_block.0.", "mid_block.resnets.0.", ldm_resnet },
    { "middle_block.1.", "mid_block.attentions.0.", transformer },
    { "middle_block.2.", "mid_block.resnets.1.", ldm_resnet },
    { "output_blocks.<o>.0.", "up_blocks.<b>.resnets.<l>.", ldm_resnet },
    { "output_blocks.<o>.1.conv.", "up_blocks.<b>.upsamplers.0.conv.", NULL },
    { "output_blocks.<o>.2.conv.", "up_blocks.<b>.upsamplers.0.conv.", NULL },
    { "output_blocks.<o>.1.", "up_blocks.<b>.attentions.<l>.", transformer },
    { "out.0.", "conv_norm_out.", NULL },
    { "out.2.", "conv_out.", NULL },
    { NULL, NULL, NULL },
};

static const struct rule ldm_vae_resnet[] = {
    SAME("norm1."), SAME("conv1."), SAME("norm2."), SAME("conv2."),
    { "nin_shortcut.", "conv_shortcut.", NULL },
    { NULL, NULL, NULL },
};

static const struct rule ldm_vae_attention[] = {
    { "norm.", "group_norm.", NULL },
    { "q.", "to_q.", NULL },
    { "k.", "to_k.", NULL },
    { "v.", "to_v.", NULL },
    { "proj_out.", "to_out.0.", NULL },
    { NULL, NULL, NULL },
};

static const struct rule ldm_vae_half[] = {
    SAME("conv_in."), SAME("conv_out."),
    { "norm_out.", "conv_norm_out.", NULL },
    { "mid.block_1.", "mid_block.resnets.0.", ldm_vae_resnet },
    { "mid.attn_1.", "mid_block.attentions.0.", ldm_vae_attention },
    { "mid.block_2.", "mid_block.resnets.1.", ldm_vae_resnet },
    { "down.<n>.block.<n>.", "down_blocks.<n>.resnets.<n>.", ldm_vae_resnet },
    { "down.<n>.downsample.conv.", "down_blocks.<n>.downsamplers.0.conv.", NULL },
    { "up.<u>.block.<n>.", "up_blocks.<n>.resnets.<n>.", ldm_vae_resnet },
    { "up.<u>.upsample.conv.", "up_blocks.<n>.upsamplers.0.conv.", NULL },
    { NULL, NULL, NULL },
};

static const struct rule ldm_vae[] = {
    { "encoder.", "encoder.", ldm_vae_half },
    { "decoder.", "decoder.", ldm_vae_half },
    SAME("quant_conv."), SAME("post_quant_conv."),
    { NULL, NULL, NULL },
};

/* Attention of the autoencoder in diffusers before 0.18. */
static const struct rule old_attention[] = {
    { "query.", "to_q.", NULL },
    { "key.", "to_k.", NULL },
    { "value.", "to_v.", NULL },
    { "proj_attn.", "to_out.0.", NULL },
    { NULL, NULL, NULL },
};
static const struct rule old_vae[] = {
    { "encoder.mid_block.attentions.0.", "encoder.mid_block.attentions.0.", old_attention },
    { "decoder.mid_block.attentions.0.", "decoder.mid_block.attentions.0.", old_attention },
    { NULL, NULL, NULL },
};

/* A UNet2DModel's attention over pixels, in diffusers' names of today and before 0.18. */
static const struct rule pixel_attention[] = {
    SAME("group_norm."), SAME("to_q."), SAME("to_k."), SAME("to_v."), SAME("to_out.0."),
    { "query.", "to_q.", NULL },
    { "key.", "to_k.", NULL },
    { "value.", "to_v.", NULL },
    { "proj_attn.", "to_out.0.", NULL },
    { NULL, NULL, NULL },
};
static const struct rule pixel_unet[] = {
    { "down_blocks.<n>.attentions.<n>.", "down_blocks.<n>.attentions.<n>.", pixel_attention },
    { "mid_block.attentions.0.", "mid_block.attentions.0.", pixel_attention },
    { "up_blocks.<n>.attentions.<n>.", "up_blocks.<n>.attentions.<n>.", pixel_attention },
    { NULL, NULL, NULL },
};

static const struct rule clip_layer[] = {
    SAME("layer_norm1."), SAME("layer_norm2."), SAME("mlp.fc1."), SAME("mlp.fc2."),
    SAME("self_attn.q_proj."), SAME("self_attn.k_proj."), SAME("self_attn.v_proj."), SAME("self_attn.out_proj."),
    { NULL, NULL, NULL },
};
static const struct rule clip_text[] = {
    SAME("embeddings.token_embedding."), SAME("embeddings.position_embedding."), SAME("final_layer_norm."),
    SAME("text_projection."),
    { "encoder.layers.<n>.", "encoder.layers.<n>.", clip_layer },
    { NULL, NULL, NULL },
};

static const struct rule open_clip_layer[] = {
    { "ln_1.", "layer_norm1.", NULL },
    { "ln_2.", "layer_norm2.", NULL },
    { "mlp.c_fc.", "mlp.fc1.", NULL },
    { "mlp.c_proj.", "mlp.fc2.", NULL },
    { "attn.out_proj.", "self_attn.out_proj.", NULL },
    { NULL, NULL, NULL },
};
static const struct rule open_clip[] = {
    { "token_embedding.", "embeddings.token_embedding.", NULL },
    { "positional_embedding", "embeddings.position_embedding.weight", NULL },
    { "transformer.resblocks.<n>.", "encoder.layers.<n>.", open_clip_layer },
    { "ln_final.", "final_layer_norm.", NULL },
    { NULL, NULL, NULL },
};

/* ---- matching --------------------------------------------------------------------------------------------- */

struct match {
    const weft_namer *namer;
    int number[4];              /* of <n> and <u>, in the order of reading */
    int numbers, given;         /* read so far, written so far */
    weft_ldm_place place;
};

/* A number of at most four digits, without zeros in front: a name that only looks like another is none. */
static bool take_number(const char **p, int *value) {
    const char *s = *p;
    int v = 0, digits = 0;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (++digits > 4) return false;
        v = 10 * v + (*s - '0');
    }
    if (!digits || (digits > 1 && **p == '0')) return false;
    *p = s;
    *value = v;
    return true;
}

static bool take_place(struct match *m, const weft_ldm_place *table, int i) {
    if (i >= WEFT_LDM_MAX_BLOCKS || table[i].block < 0) return false;
    m->place = table[i];
    return true;
}

/* The pattern at *p; moves *p behind it. */
static bool take_pattern(struct match *m, const char *pattern, const char **p) {
    const char *s = *p;
    while (*pattern) {
        int value;
        if (*pattern != '<') {
            if (*s++ != *pattern++) return false;
            continue;
        }
        if (!take_number(&s, &value)) return false;
        if (pattern[1] == 'i' && !take_place(m, m->namer->down, value)) return false;
        if (pattern[1] == 'o' && !take_place(m, m->namer->up, value)) return false;
        if (pattern[1] == 'u' && (value = m->namer->levels - 1 - value) < 0) return false;
        if ((pattern[1] == 'n' || pattern[1] == 'u') && m->numbers < 4) m->number[m->numbers++] = value;
        pattern += 3;
    }
    *p = s;
    return true;
}

/* Appends a pattern with the numbers filled in; false where there is no room. */
static bool put_pattern(struct match *m, const char *pattern, char *out, size_t size) {
    size_t at = strlen(out);
    while (*pattern) {
        if (*pattern != '<') {
            if (at + 1 >= size) return false;
            out[at++] = *pattern++;
            out[at] = 0;
            continue;
        }
        int value = pattern[1] == 'b' ? m->place.block : pattern[1] == 'l' ? m->place.layer : m->number[m->given++];
        int length = snprintf(out + at, size - at, "%d", value);
        if (length < 0 || (size_t)length >= size - at) return false;
        at += (size_t)length;
        pattern += 3;
    }
    return true;
}

static bool is_leaf(const char *name) {
    return !strcmp(name, "weight") || !strcmp(name, "bias");
}

/* Appends the name's other form to out. */
static bool translate(const struct rule *rules, struct match m, const char *name, char *out, size_t size) {
    size_t start = strlen(out);
    for (const struct rule *r = rules; r->from; r++) {
        struct match trial = m;
        const char *rest = name;
        bool whole = r->from[strlen(r->from) - 1] != '.';
        out[start] = 0;
        if (!take_pattern(&trial, r->from, &rest) || !put_pattern(&trial, r->to, out, size)) continue;
        if (r->inner) {
            if (translate(r->inner, trial, rest, out, size)) return true;
            continue;
        }
        if (whole ? *rest == 0 : is_leaf(rest) && put_pattern(&trial, rest, out, size)) return true;
    }
    out[start] = 0;
    return false;
}

/* Whether the right column has the name. */
static bool is_known(const struct rule *rules, const char *name) {
    for (const struct rule *r = rules; r->from; r++) {
        struct match m = { 0 };
        const char *rest = name;
        if (!take_pattern(&m, r->to, &rest)) continue;
        if (r->inner ? is_known(r->inner, rest) : *rest == 0 || is_leaf(rest)) return true;
    }
    return false;
}

static bool put(const char *name, char *out, size_t size) {
    size_t length = strlen(name);
    if (length >= size) return false;
    memcpy(out, name, length + 1);
    return true;
}

bool weft_namer_name(const weft_namer *n, const char *name, char *out, size_t size) {
    struct match m = { .namer = n };
    const struct rule *rules;
    if (!size) return false;
    out[0] = 0;
    switch (n->naming) {
    case WEFT_NAMING_LDM: return translate(n->part == WEFT_NAMES_UNET ? ldm_unet : ldm_vae, m, name, out, size);
    case WEFT_NAMING_OPEN_CLIP: {
        char last[64];
        snprintf(last, sizeof last, "transformer.resblocks.%d.", n->layers - 1);
        return strncmp(name, last, strlen(last)) && translate(open_clip, m, name, out, size);
    }
    case WEFT_NAMING_DIFFUSERS:
        if (n->part == WEFT_NAMES_VAE && translate(old_vae, m, name, out, size)) return true;
        if (n->part == WEFT_NAMES_UNET && translate(pixel_unet, m, name, out, size)) return true;
        rules = n->part == WEFT_NAMES_UNET ? ldm_unet : n->part == WEFT_NAMES_VAE ? ldm_vae : clip_text;
        return is_known(rules, name) && put(name, out, size);
    case WEFT_NAMING_RMS: return put(name, out, size);
    default: return false;
    }
}

bool weft_namer_rename(void *user, const weft_st_entry *entry, char *out, size_t size) {
    const weft_namer *n = user;
    size_t length = n->prefix ? strlen(n->prefix) : 0;
    if (n->naming == WEFT_NAMING_NONE || strncmp(entry->name, n->prefix, length)) return false;
    return weft_namer_name(n, entry->name + length, out, size);
}

bool weft_namer_split(const weft_namer *n, const char *name, char out[3][WEFT_NAME_MAX]) {
    static const char *const part[] = { "q", "k", "v" };
    struct match m = { .namer = n };
    if (n->naming != WEFT_NAMING_OPEN_CLIP || !take_pattern(&m, "transformer.resblocks.<n>.attn.in_proj_", &name))
        return false;
    if (!is_leaf(name) || m.number[0] >= n->layers - 1) return false;
    for (int i = 0; i < 3; i++)
        snprintf(out[i], WEFT_NAME_MAX, "encoder.layers.%d.self_attn.%s_proj.%s", m.number[0], part[i], name);
    return true;
}

/* ---- finding the part ----------------------------------------------------------------------------------------- */

/* A way in which a part may be named: the prefixes, and names of which one at least is there. */
struct way { weft_naming naming; const char *prefixes[6], *probes[5]; };

static const struct way ways[WEFT_NAMES_PARTS][3] = {
    [WEFT_NAMES_TEXT] = {
        { WEFT_NAMING_DIFFUSERS,
          { "cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.", "text_encoder.text_model.",
            "text_encoder.", "text_model.", "" },
          { "embeddings.token_embedding.weight", "encoder.layers.0.self_attn.q_proj.weight",
            "encoder.layers.0.mlp.fc1.weight", "final_layer_norm.weight" } },
        { WEFT_NAMING_OPEN_CLIP, { "cond_stage_model.model.", "" },
          { "transformer.resblocks.0.attn.in_proj_weight", "transformer.resblocks.0.mlp.c_fc.weight",
            "transformer.resblocks.1.ln_1.weight" } },
    },
    [WEFT_NAMES_UNET] = {
        { WEFT_NAMING_LDM, { "model.diffusion_model.", "diffusion_model.", "" },
          { "input_blocks.0.0.weight", "time_embed.0.weight", "input_blocks.1.0.in_layers.2.weight", "out.2.weight" } },
        { WEFT_NAMING_DIFFUSERS, { "unet.", "" },
          { "time_embedding.linear_1.weight", "down_blocks.0.resnets.0.time_emb_proj.weight",
            "conv_norm_out.weight" } },
        { WEFT_NAMING_RMS, { "ema_model.model.", "model.", "" },
          { "init_conv.weight", "mid_attn.mem_kv", "final_conv.weight" } },
    },
    [WEFT_NAMES_VAE] = {
        { WEFT_NAMING_LDM, { "first_stage_model.", "vae.", "" },
          { "decoder.mid.block_1.norm1.weight", "decoder.mid.block_2.conv1.weight", "decoder.norm_out.weight",
            "encoder.mid.block_1.norm1.weight", "encoder.norm_out.weight" } },
        { WEFT_NAMING_DIFFUSERS, { "vae.", "first_stage_model.", "" },
          { "decoder.mid_block.resnets.0.norm1.weight", "decoder.mid_block.resnets.1.conv1.weight",
            "decoder.conv_norm_out.weight", "encoder.mid_block.resnets.0.norm1.weight",
            "encoder.conv_norm_out.weight" } },
    },
};

static bool has_with(weft_name_list names, const char *prefix, const char *name) {
    char full[WEFT_NAME_MAX];
    int length = snprintf(full, sizeof full, "%s%s", prefix, name);
    return length > 0 && (size_t)length < sizeof full && names.has(names.user, full);
}

static bool find_way(weft_name_list names, weft_namer *n) {
    for (int w = 0; w < 3; w++) {
        const struct way *way = &ways[n->part][w];
        for (int i = 0; i < 6 && way->prefixes[i]; i++)
            for (int j = 0; j < 5 && way->probes[j]; j++)
                if (has_with(names, way->prefixes[i], way->probes[j])) {
                    n->naming = way->naming;
                    n->prefix = way->prefixes[i];
                    return true;
                }
    }
    return false;
}

/* What the names tell of the sequence: which input blocks shrink, which output blocks grow. */
struct sequence {
    bool input[WEFT_LDM_MAX_BLOCKS], op[WEFT_LDM_MAX_BLOCKS];
    bool output[WEFT_LDM_MAX_BLOCKS], grows[WEFT_LDM_MAX_BLOCKS];
};

static bool take_index(const char **p, const char *pattern, int *i) {
    struct match m = { 0 };
    const char *s = *p;
    if (!take_pattern(&m, pattern, &s) || m.number[0] >= WEFT_LDM_MAX_BLOCKS) return false;
    *i = m.number[0];
    *p = s;
    return true;
}

static void look_at(weft_namer *n, struct sequence *q, const char *name) {
    int i;
    if (n->part == WEFT_NAMES_TEXT) {
        if (take_index(&name, "transformer.resblocks.<n>.", &i) && i >= n->layers) n->layers = i + 1;
    } else if (n->part == WEFT_NAMES_VAE) {
        if (take_index(&name, "decoder.up.<n>.", &i) && i >= n->levels) n->levels = i + 1;
    } else if (take_index(&name, "input_blocks.<n>.", &i)) {
        q->input[i] = true;
        if (!strncmp(name, "0.op.", 5)) q->op[i] = true;
    } else if (take_index(&name, "output_blocks.<n>.", &i)) {
        q->output[i] = true;
        if (!strncmp(name, "1.conv.", 7) || !strncmp(name, "2.conv.", 7)) q->grows[i] = true;
    }
}

static void place_blocks(weft_namer *n, const struct sequence *q) {
    int16_t block = 0, layer = 0;
    int last_in = -1, last_out = -1;
    for (int i = 0; i < WEFT_LDM_MAX_BLOCKS; i++) {
        if (q->input[i]) last_in = i;
        if (q->output[i]) last_out = i;
    }
    for (int i = 1; i <= last_in; i++) {
        n->down[i] = (weft_ldm_place){ block, layer++ };
        if (!q->op[i]) continue;
        block++;
        layer = 0;
    }
    block = layer = 0;
    for (int i = 0; i <= last_out; i++) {
        n->up[i] = (weft_ldm_place){ block, layer++ };
        if (!q->grows[i]) continue;
        block++;
        layer = 0;
    }
}

weft_namer weft_namer_make(weft_name_list names, weft_part part) {
    weft_namer n = { .part = part, .prefix = "" };
    struct sequence q = { 0 };
    for (int i = 0; i < WEFT_LDM_MAX_BLOCKS; i++) n.down[i] = n.up[i] = (weft_ldm_place){ -1, -1 };
    if (!find_way(names, &n) || n.naming == WEFT_NAMING_DIFFUSERS || n.naming == WEFT_NAMING_RMS) return n;
    size_t length = strlen(n.prefix);
    const char *name;
    for (int64_t i = 0; (name = names.at(names.user, i)); i++)
        if (!strncmp(name, n.prefix, length)) look_at(&n, &q, name + length);
    if (part == WEFT_NAMES_UNET) place_blocks(&n, &q);
    return n;
}
