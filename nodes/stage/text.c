/* Tokenize, TextEncode: a prompt to numbers of the vocabulary, those to the UNet's context, as diffusers does it:
 * as many tokens as the text encoder has positions (77 for all of Stable Diffusion's), no weights, what is too long is cut. ConditioningToTensor and TensorToConditioning lead to ComfyUI's nodes
 * and back.
 */
#include "nodes/values.h"

/* ---- Tokenize --------------------------------------------------------------------------------------------------- */

struct tokenize { weft_clip *clip; const char *text; weft_texts *texts; weft_tensor *ids; int64_t cut; };

static void tokenize_run(weft_ctx *c, void *self) {
    struct tokenize *n = self;
    int count = n->texts ? n->texts->count : 1;
    const char *const *texts = n->texts ? (const char *const *)n->texts->items : &n->text;
    if (!n->clip->tokenizer) weft_tokenizer_free(weft_tokenizer_open_builtin(c));      /* its error says what to do */
    else n->ids = weft_tokenizer_texts(c, n->clip->tokenizer, count, texts, n->clip->config.positions, &n->cut);
}

const weft_node weft_node_Tokenize = {
    .name = "Tokenize", .category = "stages/text", .size = sizeof(struct tokenize),
    .summary = "A text as numbers of the vocabulary, 77 for Stable Diffusion: start, tokens, end, padding. Weights mean nothing here.",
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct tokenize, clip, "CLIP", "whose tokenizer"),
                                   WEFT_TEXT_IN(struct tokenize, text, "", "the text"),
                                   WEFT_OPTIONAL_OBJECT_IN(struct tokenize, texts, "TEXTS",
                                                           "instead: a row for each of these"), { 0 } },
    .outputs = (const weft_port[]){
        WEFT_TENSOR_OUT(struct tokenize, ids, "(N, 77) numbers; N is 1 for a single text"),
        WEFT_OUT(struct tokenize, cut, WEFT_PORT_INT, "cut", "INT", "how many tokens did not fit"), { 0 } },
    .run = tokenize_run,
};

/* ---- TextEncode ------------------------------------------------------------------------------------------------- */

struct text_encode { weft_clip *clip; weft_tensor *ids, *context, *pooled; };

static void text_encode_run(weft_ctx *c, void *self) {
    struct text_encode *n = self;
    weft_clip_text_inputs in = { .ids = n->ids, .type = WEFT_F32, .layer = n->clip->layer, .final_norm = true,
                                 .pooled = true };
    weft_clip_text_outputs out;
    if (weft_clip_text(c, weft_root(n->clip->weights->tree), &n->clip->config, &in, &out)) return;
    n->context = out.hidden;
    n->pooled = out.pooled;
}

const weft_node weft_node_TextEncode = {
    .name = "TextEncode", .category = "stages/text",
    .summary = "Numbers of the vocabulary as the context that a UNet takes.",
    .size = sizeof(struct text_encode),
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct text_encode, clip, "CLIP", "the text encoder"),
                                   WEFT_TENSOR_IN(struct text_encode, ids, "(N, tokens) numbers"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_TENSOR_OUT(struct text_encode, context, "(N, tokens, width)"),
                                    WEFT_TENSOR_OUT(struct text_encode, pooled, "(N, width): the text as one vector"),
                                    { 0 } },
    .run = text_encode_run,
};

/* ---- to CONDITIONING and back ---------------------------------------------------------------------------------- */

struct to_conditioning { weft_tensor *context, *pooled; weft_conditioning *conditioning; };

static void to_conditioning_run(weft_ctx *c, void *self) {
    struct to_conditioning *n = self;
    char shape[96];
    weft_cond cond = { .context = n->context, .pooled = n->pooled, .strength = 1, .mask_strength = 1,
                       .end_percent = 1 };
    if (weft_rank(n->context) == 3) n->conditioning = weft_conditioning_new(c, 1, &cond);
    else weft_fail(c, WEFT_E_SHAPE, "context: expected (N, tokens, width), found %s",
                   weft_describe(n->context, shape, sizeof shape));
}

const weft_node weft_node_TensorToConditioning = {
    .name = "TensorToConditioning", .category = "stages/text", .size = sizeof(struct to_conditioning),
    .summary = "A context as a conditioning, for KSampler.",
    .inputs = (const weft_port[]){ WEFT_TENSOR_IN(struct to_conditioning, context, "(N, tokens, width)"),
                                   WEFT_OPTIONAL_TENSOR_IN(struct to_conditioning, pooled, "TENSOR",
                                                           "the text as one vector"),
                                   { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct to_conditioning, conditioning, WEFT_PORT_OBJECT, "CONDITIONING",
                                             "CONDITIONING", "the conditioning"), { 0 } },
    .run = to_conditioning_run,
};

struct from_conditioning { weft_conditioning *conditioning; weft_tensor *context, *pooled; };

static void from_conditioning_run(weft_ctx *c, void *self) {
    struct from_conditioning *n = self;
    const weft_cond *k = n->conditioning->items;
    if (n->conditioning->count != 1) {
        weft_fail(c, WEFT_E_ARGUMENT, "conditioning: %d texts side by side are no single context",
                  n->conditioning->count);
        return;
    }
    n->context = weft_reshape(c, k->context, weft_rank(k->context), weft_shape(k->context));
    n->pooled = k->pooled ? weft_reshape(c, k->pooled, weft_rank(k->pooled), weft_shape(k->pooled))
                          : weft_full(c, WEFT_F32, WEFT_SHAPE(weft_dim(k->context, 0), 0), 0);
}

const weft_node weft_node_ConditioningToTensor = {
    .name = "ConditioningToTensor", .category = "stages/text", .size = sizeof(struct from_conditioning),
    .summary = "The context of a conditioning (an encoded prompt), for UNetStep. Areas and masks stay behind.",
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct from_conditioning, conditioning, "CONDITIONING",
                                                  "of one text"), { 0 } },
    .outputs = (const weft_port[]){
        WEFT_TENSOR_OUT(struct from_conditioning, context, "(N, tokens, width)"),
        WEFT_TENSOR_OUT(struct from_conditioning, pooled, "(N, width), or (N, 0) where there is none"), { 0 } },
    .run = from_conditioning_run,
};
