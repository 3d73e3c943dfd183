/* EmbeddingCreate: a new token for a text encoder, whose vectors are all there is to train (textual inversion,
 * arXiv:2208.01618).
 *
 *   E′ = [E; V]     E the token embeddings, which stay as they are; V the new token's n vectors, each at first the row
 *                   of E of an initializing token. In a text, the token is these n in a row.
 */
#include "nodes/loaders/loaders.h"

#include <stdlib.h>
#include <string.h>

struct embedding_create {
    weft_clip *clip;
    const char *token, *initializer;
    int64_t vectors;
    weft_clip *out;
};

/* The id of the one token that a text is; −1 with the error set. */
static int32_t single_token(weft_ctx *c, const weft_tokenizer *t, const char *text) {
    weft_ids ids = { 0 };
    int32_t id = -1;
    if (weft_tokenizer_encode(c, t, text, strlen(text), &ids) == WEFT_OK) {
        if (ids.count == 1) id = ids.at[0];
        else weft_fail(c, WEFT_E_ARGUMENT, "initializer \"%.200s\": one token is wanted; this is %lld", text,
                       (long long)ids.count);
    }
    weft_ids_free(&ids);
    return id;
}

/* (count, width) f32: the row of an id, again and again. */
static weft_tensor *rows_of(weft_ctx *c, const weft_clip *k, int32_t id, int64_t count) {
    weft_params words = weft_sub(weft_root(k->weights->tree), "embeddings.token_embedding");
    weft_tensor *ids = weft_broadcast(c, weft_tensor_from(c, WEFT_I32, WEFT_SHAPE(1), &id), WEFT_SHAPE(count));
    return weft_nn_embedding(c, words, weft_contiguous(c, ids), k->config.vocabulary, k->config.width, 0, WEFT_F32);
}

/* An overlay that has the vectors: a new reference, NULL with the error set. */
static weft_weights *with_vectors(weft_ctx *c, const weft_clip *k, weft_tensor *vectors) {
    weft_tree *tree = weft_ok(c) ? weft_tree_overlay(c, k->weights->tree) : NULL;
    if (tree && weft_tree_add(c, tree, "embeddings.token_embedding.added", vectors) == WEFT_OK)
        return weft_weights_new(c, tree, k->weights);
    weft_tree_free(tree);
    return NULL;
}

static void embedding_create_run(weft_ctx *c, void *self) {
    struct embedding_create *n = self;
    weft_clip fields = *n->clip;
    const int32_t first = fields.config.vocabulary;
    if (!fields.tokenizer) weft_tokenizer_free(weft_tokenizer_open_builtin(c));         /* its error says what to do */
    else if (fields.config.added) weft_fail(c, WEFT_E_ARGUMENT, "clip: it has a new token already");
    int32_t id = weft_ok(c) ? single_token(c, fields.tokenizer, n->initializer) : -1;
    weft_tokenizer *t = id < 0 ? NULL : weft_tokenizer_extend(c, fields.tokenizer, n->token, first, (int32_t)n->vectors);
    fields.tokenizer = t;
    fields.tokenizer_holder = t ? weft_tokenizer_hold(c, t) : NULL;
    fields.weights = t ? with_vectors(c, n->clip, rows_of(c, n->clip, id, n->vectors)) : NULL;
    fields.config.added = (int)n->vectors;
    if (fields.weights && fields.tokenizer_holder) n->out = weft_clip_new(c, &fields);
    if (fields.weights) weft_object_unref(&fields.weights->object);
    weft_object_unref(fields.tokenizer_holder);
}

const weft_node weft_node_EmbeddingCreate = {
    .name = "EmbeddingCreate", .category = "training/models", .flags = WEFT_NODE_BESIDE,
    .size = sizeof(struct embedding_create),
    .summary = "A new token for a text encoder (textual inversion): its vectors are to be trained, nothing else is.",
    .inputs = (const weft_port[]){
        WEFT_OBJECT_IN(struct embedding_create, clip, "CLIP", "the text encoder, which stays as it is"),
        WEFT_STRING_IN(struct embedding_create, token, "<new>", "how the token is written in texts"),
        WEFT_STRING_IN(struct embedding_create, initializer, "", "a token that means about the same: where training starts"),
        WEFT_INT_IN(struct embedding_create, vectors, 1, 1, 75, 1, "how many tokens' place it takes"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct embedding_create, out, WEFT_PORT_OBJECT, "CLIP", "CLIP",
                                             "the text encoder and tokenizer with the token"), { 0 } },
    .run = embedding_create_run,
};
