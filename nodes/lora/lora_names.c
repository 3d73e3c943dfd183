/* Names by tables; see lora_names.h. */
#include "nodes/lora/lora_names.h"

#include <string.h>

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* In the order in which they are tried: an ending that contains another stands before it. */
static const struct { const char *text; weft_lora_role role; } endings[] = {
    { ".lora_down.weight", WEFT_LORA_DOWN }, { ".lora_up.weight", WEFT_LORA_UP }, { ".lora_mid.weight", WEFT_LORA_MID },
    { ".lora_linear_layer.down.weight", WEFT_LORA_DOWN }, { ".lora_linear_layer.up.weight", WEFT_LORA_UP },
    { "_lora.down.weight", WEFT_LORA_DOWN }, { "_lora.up.weight", WEFT_LORA_UP }, { "_lora.alpha", WEFT_LORA_ALPHA },
    { ".lora.down.weight", WEFT_LORA_DOWN }, { ".lora.up.weight", WEFT_LORA_UP }, { ".lora.alpha", WEFT_LORA_ALPHA },
    { ".lora_A.weight", WEFT_LORA_DOWN }, { ".lora_B.weight", WEFT_LORA_UP },
    { ".lora_A.default.weight", WEFT_LORA_DOWN }, { ".lora_B.default.weight", WEFT_LORA_UP },
    { ".alpha", WEFT_LORA_ALPHA }, { ".diff", WEFT_LORA_DIFF }, { ".diff_b", WEFT_LORA_BIAS_DIFF },
    { ".w_norm", WEFT_LORA_DIFF }, { ".b_norm", WEFT_LORA_BIAS_DIFF },
};

/* Signs of other kinds of changes. */
static const struct { const char *text, *kind; } refused[] = {
    { ".hada_w", "LoHa" }, { ".hada_t", "LoHa" }, { ".lokr_", "LoKr" }, { ".oft_", "OFT" }, { ".boft_", "BOFT" },
    { ".dora_scale", "DoRA" }, { ".lora_magnitude_vector", "DoRA" }, { ".a1.weight", "GLoRA" }, { ".on_input", "IA3" },
    { ".lora_B.bias", "LoRA with biases" }, { ".lora_up.bias", "LoRA with biases" }, { ".set_weight", "set weight" },
    { ".reshape_weight", "reshaped weight" },
};

/* Before the place; the text encoder's own root is below "text_model". */
static const struct { const char *text; weft_lora_part part; } prefixes[] = {
    { "lora_unet_", WEFT_LORA_UNET }, { "lora_te_text_model_", WEFT_LORA_TEXT },
    { "lora_te1_text_model_", WEFT_LORA_TEXT }, { "lora_te_", WEFT_LORA_TEXT }, { "lora_te1_", WEFT_LORA_TEXT },
    { "lora_te2_", WEFT_LORA_FOREIGN }, { "lora_te3_", WEFT_LORA_FOREIGN }, { "lora_transformer_", WEFT_LORA_FOREIGN },
    { "lora_prior_", WEFT_LORA_FOREIGN }, { "lycoris_text_model_", WEFT_LORA_TEXT }, { "lycoris_", WEFT_LORA_UNET },
    { "unet.base_model.model.", WEFT_LORA_UNET }, { "unet.", WEFT_LORA_UNET },
    { "text_encoder.text_model.", WEFT_LORA_TEXT }, { "text_encoder.base_model.model.text_model.", WEFT_LORA_TEXT },
    { "text_encoder.base_model.model.", WEFT_LORA_TEXT }, { "text_encoder.", WEFT_LORA_TEXT },
    { "text_encoder_2.", WEFT_LORA_FOREIGN }, { "text_encoder_3.", WEFT_LORA_FOREIGN },
    { "text_encoders.", WEFT_LORA_FOREIGN }, { "transformer.", WEFT_LORA_FOREIGN },
    { "base_model.model.text_model.", WEFT_LORA_TEXT }, { "base_model.model.", WEFT_LORA_UNET },
    { "diffusion_model.", WEFT_LORA_UNET }, { "text_model.", WEFT_LORA_TEXT }, { "", WEFT_LORA_UNET },
};

static size_t prefix_of(const char *name, weft_lora_part *part) {
    size_t i = 0;
    while (strncmp(name, prefixes[i].text, strlen(prefixes[i].text))) i++;
    *part = prefixes[i].part;
    return strlen(prefixes[i].text);
}

weft_lora_key weft_lora_key_read(const char *name) {
    weft_lora_key key = { .role = WEFT_LORA_UNKNOWN };
    size_t length = strlen(name), prefix = prefix_of(name, &key.part);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const char *sign = strstr(name, refused[i].text);
        if (sign) return (weft_lora_key){ key.part, WEFT_LORA_REFUSED, (size_t)(sign - name), refused[i].kind };
    }
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i].text);
        if (length <= prefix + n || strcmp(name + length - n, endings[i].text)) continue;
        key.role = endings[i].role;
        key.layer = length - n;
        return key;
    }
    return key;
}

/* Puts `to` in the place of the first `from`, or of one at the very end; there is room. */
static void replace(char *name, const char *from, const char *to, bool at_end) {
    size_t length = strlen(name), n = strlen(from), more = strlen(to);
    char *p = !at_end ? strstr(name, from) : length >= n && !strcmp(name + length - n, from) ? name + length - n : NULL;
    if (!p) return;
    memmove(p + more, p + n, strlen(p + n) + 1);
    memcpy(p, to, more);
}

bool weft_lora_key_place(const char *name, const weft_lora_key *key, char out[WEFT_LORA_NAME]) {
    enum { GROWS = 8 };         /* more than all the replacements below add */
    weft_lora_part part;
    size_t prefix = prefix_of(name, &part), n = key->layer > prefix ? key->layer - prefix : 0;
    if (n + GROWS >= WEFT_LORA_NAME) return false;
    memcpy(out, name + prefix, n);
    out[n] = 0;
    for (char *p = out; *p; p++)
        if (*p == '.') *p = '_';
    replace(out, "_processor_", "_", false);
    if (part == WEFT_LORA_TEXT) {       /* as diffusers wrote them before PEFT */
        replace(out, "_self_attn_to_out", "_self_attn_out_proj", true);
        replace(out, "_self_attn_to_q", "_self_attn_q_proj", true);
        replace(out, "_self_attn_to_k", "_self_attn_k_proj", true);
        replace(out, "_self_attn_to_v", "_self_attn_v_proj", true);
    }
    replace(out, "_to_out", "_to_out_0", true);
    return true;
}

bool weft_lora_flat(const char *place, char out[WEFT_LORA_NAME]) {
    size_t n = strlen(place);
    if (n >= WEFT_LORA_NAME) return false;
    for (size_t i = 0; i <= n; i++) out[i] = place[i] == '.' ? '_' : place[i];
    return true;
}

/* ---- LDM's names ------------------------------------------------------------------------------------------------- */

static const struct { const char *name, *ldm; } whole[] = {
    { "time_embedding.linear_1", "time_embed.0" }, { "time_embedding.linear_2", "time_embed.2" },
    { "time_embedding.cond_proj", "time_embed.cond_proj" }, { "conv_in", "input_blocks.0.0" },
    { "conv_norm_out", "out.0" }, { "conv_out", "out.2" },
};
static const struct { const char *name, *ldm; } resnet[] = {
    { "norm1", "in_layers.0" }, { "conv1", "in_layers.2" }, { "time_emb_proj", "emb_layers.1" },
    { "norm2", "out_layers.0" }, { "conv2", "out_layers.3" }, { "conv_shortcut", "skip_connection" },
};

static const char *resnet_name(const char *rest) {
    for (size_t i = 0; i < sizeof resnet / sizeof *resnet; i++)
        if (!strcmp(rest, resnet[i].name)) return resnet[i].ldm;
    return NULL;
}

/* What stands in a block of the way down or up: "resnets.LAYER.REST". first: the LDM number of its layer 0. */
static bool in_block(const char *way, int first, int layers, bool up, bool attention, const char *rest, char *out) {
    int layer, used = 0;
    if (sscanf(rest, "resnets.%d.%n", &layer, &used) == 1 && used) {
        const char *name = resnet_name(rest + used);
        return name && snprintf(out, WEFT_LORA_NAME, "%s.%d.0.%s", way, first + layer, name) > 0;
    }
    if (sscanf(rest, "attentions.%d.%n", &layer, &used) == 1 && used)
        return snprintf(out, WEFT_LORA_NAME, "%s.%d.1.%.400s", way, first + layer, rest + used) > 0;
    if (!up && !strcmp(rest, "downsamplers.0.conv"))
        return snprintf(out, WEFT_LORA_NAME, "%s.%d.0.op", way, first + layers) > 0;
    if (up && !strcmp(rest, "upsamplers.0.conv"))
        return snprintf(out, WEFT_LORA_NAME, "%s.%d.%d.conv", way, first + layers, attention ? 2 : 1) > 0;
    return false;
}

bool weft_lora_ldm_place(const weft_unet_config *config, const char *place, char out[WEFT_LORA_NAME]) {
    int n, used = 0, first = 1;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (!strcmp(place, whole[i].name)) return snprintf(out, WEFT_LORA_NAME, "%s", whole[i].ldm) > 0;
    if (sscanf(place, "mid_block.attentions.%d.%n", &n, &used) == 1 && used)
        return snprintf(out, WEFT_LORA_NAME, "middle_block.%d.%.400s", 2 * n + 1, place + used) > 0;
    if (sscanf(place, "mid_block.resnets.%d.%n", &n, &used) == 1 && used) {
        const char *name = resnet_name(place + used);
        return name && snprintf(out, WEFT_LORA_NAME, "middle_block.%d.%s", 2 * n, name) > 0;
    }
    if (sscanf(place, "down_blocks.%d.%n", &n, &used) == 1 && used && n >= 0 && n < config->blocks) {
        for (int i = 0; i < n; i++) first += config->layers[i] + 1;
        return in_block("input_blocks", first, config->layers[n], false, config->down_attention[n], place + used, out);
    }
    if (sscanf(place, "up_blocks.%d.%n", &n, &used) != 1 || !used || n < 0 || n >= config->blocks) return false;
    first = 0;
    for (int i = 0; i < n; i++) first += config->layers[config->blocks - 1 - i] + 1;
    return in_block("output_blocks", first, config->layers[config->blocks - 1 - n], true, config->up_attention[n],
                    place + used, out);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

bool weft_lora_name(weft_lora_style style, weft_lora_part part, const char *place, weft_lora_role role, char *out,
                    size_t size) {
    static const char *const starts[][WEFT_LORA_PARTS] = { { "lora_unet_", "lora_te_text_model_" },
                                                           { "unet.", "text_encoder.text_model." } };
    static const char *const ends[][WEFT_LORA_ROLES] = {
        { "lora_down.weight", "lora_up.weight", "lora_mid.weight", "alpha", "diff", "diff_b" },
        { "lora_A.weight", "lora_B.weight", NULL, NULL, NULL, NULL } };
    char flat[WEFT_LORA_NAME];
    if ((unsigned)part >= WEFT_LORA_PARTS || (unsigned)role >= WEFT_LORA_ROLES || !ends[style][role]) return false;
    if (!weft_lora_flat(place, flat)) return false;
    int n = snprintf(out, size, "%s%s.%s", starts[style][part], style == WEFT_LORA_KOHYA ? flat : place,
                     ends[style][role]);
    return n > 0 && (size_t)n < size;
}
