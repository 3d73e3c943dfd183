/* The text encoder's config.json and the models that are known; see clip_text.h. Defaults: transformers,
 * configuration_clip.py. */
#include <math.h>
#include <string.h>

#include "nodes/config.h"
#include "nodes/text/clip_text.h"

#define MAX_WIDTH 65536
#define MAX_LAYERS 1000
#define MAX_VOCABULARY 16000000
#define MAX_ID 2147483647

const weft_clip_text_config weft_clip_text_l14 = {
    .vocabulary = 49408, .width = 768, .inner = 3072, .layers = 12, .heads = 12, .positions = 77,
    .act = WEFT_ACT_QUICK_GELU, .norm_eps = 1e-5, .spread = 1, .eos = 49407,
};
const weft_clip_text_config weft_clip_text_h14 = {
    .vocabulary = 49408, .width = 1024, .inner = 4096, .layers = 23, .heads = 16, .positions = 77, .act = WEFT_ACT_GELU,
    .norm_eps = 1e-5, .spread = 1, .eos = 49407,
};
const weft_clip_text_config weft_clip_text_bigg14 = {
    .vocabulary = 49408, .width = 1280, .inner = 5120, .layers = 32, .heads = 20, .positions = 77, .act = WEFT_ACT_GELU,
    .norm_eps = 1e-5, .spread = 1, .projection = 1280, .eos = 49407,
};

static const weft_config_rule rules[] = {
    { "hidden_act", "quick_gelu|gelu|gelu_new|gelu_pytorch_tanh" },
    { "model_type", "clip_text_model|clip" },
    { NULL, NULL }
};

static weft_activation read_activation(const weft_json *j) {
    const char *name = weft_json_text_of(j, "hidden_act", "quick_gelu");
    if (!strcmp(name, "quick_gelu")) return WEFT_ACT_QUICK_GELU;
    return !strcmp(name, "gelu") ? WEFT_ACT_GELU : WEFT_ACT_GELU_TANH;
}

static bool with_projection(const weft_json *j) {
    const cJSON *name;
    cJSON_ArrayForEach(name, weft_json_field(j, "architectures"))
        if (cJSON_IsString(name) && !strcmp(name->valuestring, "CLIPTextModelWithProjection")) return true;
    return false;
}

static int whole(const weft_json *j, const char *key, int64_t low, int64_t high, int64_t fallback) {
    return (int)weft_json_int(j, key, low, high, fallback);
}

static void read_config(const weft_json *j, void *out) {
    weft_clip_text_config d = { 0 };
    weft_json own = *j;
    /* The configuration of a whole CLIP has that of its text side inside. */
    const cJSON *inside = weft_json_field(j, "text_config");
    if (cJSON_IsObject(inside)) own.object = inside;
    j = &own;
    if (weft_config_rules(j, rules)) return;
    d.vocabulary = whole(j, "vocab_size", 1, MAX_VOCABULARY, 49408);
    d.width = whole(j, "hidden_size", 1, MAX_WIDTH, 512);
    d.inner = whole(j, "intermediate_size", 1, MAX_WIDTH, 2048);
    d.layers = whole(j, "num_hidden_layers", 0, MAX_LAYERS, 12);
    d.heads = whole(j, "num_attention_heads", 1, MAX_WIDTH, 8);
    d.positions = whole(j, "max_position_embeddings", 1, MAX_WIDTH, 77);
    d.act = read_activation(j);
    d.norm_eps = weft_json_double(j, "layer_norm_eps", 1e-5);
    d.spread = weft_json_double(j, "initializer_factor", 1);
    d.projection = with_projection(j) ? whole(j, "projection_dim", 1, MAX_WIDTH, 512) : 0;
    d.eos = whole(j, "eos_token_id", 0, MAX_ID, 49407);
    if (!weft_ok(j->ctx) || weft_clip_text_config_check(j->ctx, j->file, &d)) return;
    *(weft_clip_text_config *)out = d;
}

weft_status weft_clip_text_config_read(weft_ctx *c, const char *path, weft_clip_text_config *config) {
    return weft_config_read(c, path, read_config, config);
}

weft_status weft_clip_text_config_parse(weft_ctx *c, const char *name, const char *text, size_t size,
                                        weft_clip_text_config *config) {
    return weft_config_parse(c, name, text, size, read_config, config);
}

weft_status weft_clip_text_config_check(weft_ctx *c, const char *name, const weft_clip_text_config *config) {
    const struct { const char *key; int value, low, high; } sizes[] = {
        { "vocab_size", config->vocabulary, 1, MAX_VOCABULARY },
        { "hidden_size", config->width, 1, MAX_WIDTH },
        { "intermediate_size", config->inner, 1, MAX_WIDTH },
        { "num_hidden_layers", config->layers, 0, MAX_LAYERS },
        { "num_attention_heads", config->heads, 1, MAX_WIDTH },
        { "max_position_embeddings", config->positions, 1, MAX_WIDTH },
        { "projection_dim", config->projection, 0, MAX_WIDTH },
        { "eos_token_id", config->eos, 0, MAX_ID },
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bool within = weft_config_within(c, name, sizes[i].key, sizes[i].value, sizes[i].low, sizes[i].high);
        if (!within) return weft_error(c);
    }
    if (config->width % config->heads)
        return weft_fail(c, WEFT_E_FORMAT, "%s: num_attention_heads: %d heads do not divide hidden_size %d", name,
                         config->heads, config->width);
    if (!(config->norm_eps > 0 && config->norm_eps < 1))
        return weft_fail(c, WEFT_E_FORMAT, "%s: layer_norm_eps: %g is not between 0 and 1", name, config->norm_eps);
    if (!(config->spread >= 0 && config->spread <= 1000))
        return weft_fail(c, WEFT_E_FORMAT, "%s: initializer_factor: %g is not within 0 … 1000", name, config->spread);
    if ((unsigned)config->act >= WEFT_ACT_COUNT)
        return weft_fail(c, WEFT_E_FORMAT, "%s: hidden_act: no such function", name);
    return weft_error(c);
}
