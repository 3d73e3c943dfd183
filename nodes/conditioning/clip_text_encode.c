/* CLIPTextEncode, CLIPSetLastLayer: prompts to conditionings. ComfyUI's names; weights as in sd1_clip.py:
 *
 *   z = z_empty + (z − z_empty)·w        for each token, z_empty the encoding of an empty prompt
 *
 * Chunks are encoded as one batch and laid one behind the other along the tokens.
 */
#include "nodes/conditioning/embeddings.h"
#include "nodes/conditioning/prompt.h"
#include "nodes/loaders/loaders.h"

#include <stdlib.h>

/* ---- CLIPTextEncode ---------------------------------------------------------------------------------------------- */

struct clip_text_encode { const char *text; weft_clip *clip; weft_conditioning *conditioning; };

/* The ids of a prompt's chunks, and of an empty prompt behind them where weights want it. */
static weft_tensor *ids_tensor(weft_ctx *c, const weft_tokenizer *t, const weft_prompt *p) {
    weft_tensor *ids = weft_tensor_from(c, WEFT_I32, WEFT_SHAPE(p->chunks, p->length), p->ids);
    if (!p->weighted) return ids;
    return weft_concat2(c, 0, ids, weft_tokenizer_texts(c, t, 1, (const char *const[]){ "" }, p->length, NULL));
}

static weft_tensor *apply_weights(weft_ctx *c, weft_tensor *z, const weft_prompt *p) {
    if (!p->weighted) return z;
    weft_tensor *empty = weft_slice(c, z, 0, p->chunks, 1), *text = weft_slice(c, z, 0, 0, p->chunks);
    weft_tensor *w = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(p->chunks, p->length, 1), p->weights);
    return weft_add(c, weft_mul(c, weft_subtract(c, text, empty), w), empty);
}

static void encode(weft_ctx *c, struct clip_text_encode *n, const weft_prompt *p) {
    const weft_clip *k = n->clip;
    weft_clip_text_inputs in = { .ids = ids_tensor(c, k->tokenizer, p), .vectors = p->vectors,
                                 .type = WEFT_F32, .layer = k->layer,
                                 .final_norm = true, .pooled = true };
    weft_clip_text_outputs out;
    if (weft_clip_text(c, weft_root(k->weights->tree), &k->config, &in, &out)) return;
    weft_tensor *z = apply_weights(c, out.hidden, p);
    z = weft_reshape(c, z, WEFT_SHAPE(1, (int64_t)p->chunks * p->length, k->config.width));
    weft_cond cond = { .context = z, .pooled = weft_contiguous(c, weft_slice(c, out.pooled, 0, 0, 1)), .strength = 1,
                       .mask_strength = 1, .end_percent = 1 };
    if (weft_ok(c)) n->conditioning = weft_conditioning_new(c, 1, &cond);
}

static weft_tensor *find_embedding(weft_ctx *c, void *user, const char *name) {
    const weft_clip *k = user;
    char *path = weft_embedding_find(c, weft_run_info_of(c)->folders, name);
    weft_tensor *vectors = path ? weft_embedding_read(c, path, k->family, k->config.width) : NULL;
    free(path);
    return vectors;
}

static void clip_text_encode_run(weft_ctx *c, void *self) {
    struct clip_text_encode *n = self;
    weft_prompt p;
    if (!n->clip->tokenizer) {
        weft_tokenizer_free(weft_tokenizer_open_builtin(c));    /* its error says what to do */
        return;
    }
    const weft_clip_text_config *config = &n->clip->config;
    weft_prompt_embeddings embeddings = { find_embedding, n->clip, config->vocabulary + config->added };
    if (!weft_prompt_read(c, n->clip->tokenizer, n->clip->config.positions, &embeddings, n->text, &p)) return;
    encode(c, n, &p);
    weft_prompt_free(&p);
}

/* An embedding's file is a part of what the prompt says. */
struct signing { weft_ctx *c; weft_sign_fn *add; void *user; };

static void sign_embedding(void *user, const char *name) {
    struct signing *s = user;
    char *path = weft_embedding_find(s->c, weft_run_info_of(s->c)->folders, name);
    if (path) weft_sign_path(path, s->add, s->user);
    free(path);
}

static void clip_text_encode_sign(weft_ctx *c, const void *self, weft_sign_fn *add, void *user) {
    const struct clip_text_encode *n = self;
    if (n->text) weft_prompt_names(n->text, sign_embedding, &(struct signing){ c, add, user });
}

const weft_node weft_node_CLIPTextEncode = {
    .name = "CLIPTextEncode", .title = "CLIP Text Encode (Prompt)", .category = "conditioning",
    .summary = "Encodes a prompt. (word:1.2) weights a part, (word) by 1.1; embedding:name stands for a file of "
               "models/embeddings; long prompts go in chunks of 75 tokens.",
    .size = sizeof(struct clip_text_encode),
    .inputs = (const weft_port[]){ WEFT_TEXT_IN(struct clip_text_encode, text, "", "what the picture shows"),
                                   WEFT_OBJECT_IN(struct clip_text_encode, clip, "CLIP", "the text encoder"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct clip_text_encode, conditioning, WEFT_PORT_OBJECT, "CONDITIONING",
                                             "CONDITIONING", "the encoded prompt"), { 0 } },
    .sign = clip_text_encode_sign, .run = clip_text_encode_run,
};

/* ---- CLIPSetLastLayer -------------------------------------------------------------------------------------------- */

struct clip_set_last_layer { weft_clip *clip; int64_t stop_at_clip_layer; weft_clip *out; };

static void clip_set_last_layer_run(weft_ctx *c, void *self) {
    struct clip_set_last_layer *n = self;
    weft_clip fields = *n->clip;
    if (-n->stop_at_clip_layer > fields.config.layers)
        weft_fail(c, WEFT_E_ARGUMENT, "stop_at_clip_layer %lld: the text encoder has %d layers",
                  (long long)n->stop_at_clip_layer, fields.config.layers);
    fields.layer = (int)n->stop_at_clip_layer;
    n->out = weft_clip_new(c, &fields);
}

const weft_node weft_node_CLIPSetLastLayer = {
    .name = "CLIPSetLastLayer", .title = "CLIP Set Last Layer", .category = "conditioning",
    .summary = "Takes an earlier layer of the text encoder: −2 is what is called clip skip 2.",
    .size = sizeof(struct clip_set_last_layer),
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct clip_set_last_layer, clip, "CLIP", "the text encoder"),
                               WEFT_INT_IN(struct clip_set_last_layer, stop_at_clip_layer, -1, -24, -1, 1,
                                               "the layer, from the last"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct clip_set_last_layer, out, WEFT_PORT_OBJECT, "CLIP", "CLIP",
                                             "the same encoder with another last layer"), { 0 } },
    .run = clip_set_last_layer_run,
};
