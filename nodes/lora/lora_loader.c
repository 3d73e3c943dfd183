/* LoraLoader, LoraLoaderModelOnly: ComfyUI's names, defaults and ranges. */
#include "nodes/loaders/loaders.h"
#include "nodes/lora/lora.h"

#include <stdlib.h>

struct lora_loader {
    weft_model *model;
    weft_clip *clip;
    const char *lora_name;
    double strength_model, strength_clip;
    weft_model *model_out;
    weft_clip *clip_out;
};

static void load_model(weft_ctx *c, weft_lora *lora, struct lora_loader *n) {
    weft_model fields = *n->model;
    fields.weights = weft_lora_over(c, lora, WEFT_LORA_UNET, n->model->weights, &n->model->config, n->strength_model);
    if (fields.weights) n->model_out = weft_model_new(c, &fields);
    if (fields.weights) weft_object_unref(&fields.weights->object);
}

static void load_clip(weft_ctx *c, weft_lora *lora, struct lora_loader *n) {
    weft_clip fields = *n->clip;
    fields.weights = weft_lora_over(c, lora, WEFT_LORA_TEXT, n->clip->weights, NULL, n->strength_clip);
    if (fields.weights) n->clip_out = weft_clip_new(c, &fields);
    if (fields.weights) weft_object_unref(&fields.weights->object);
}

/* A part of strength 0 is handed on as it is. */
static void lora_run(weft_ctx *c, void *self) {
    struct lora_loader *n = self;
    bool model = n->strength_model != 0, clip = n->clip && n->strength_clip != 0;
    char *path = model || clip ? weft_folders_find(c, weft_run_info_of(c)->folders, "loras", n->lora_name) : NULL;
    weft_lora *lora = path ? weft_lora_open(c, path) : NULL;
    if (lora && model) load_model(c, lora, n);
    if (lora && clip) load_clip(c, lora, n);
    if (lora) weft_lora_report(c, lora, (unsigned)model << WEFT_LORA_UNET | (unsigned)clip << WEFT_LORA_TEXT);
    weft_lora_close(lora);
    free(path);
    if (!model) n->model_out = (weft_model *)weft_object_ref(&n->model->object);
    if (!clip && n->clip) n->clip_out = (weft_clip *)weft_object_ref(&n->clip->object);
}

static void lora_sign(weft_ctx *c, const void *self, weft_sign_fn *add, void *user) {
    weft_sign_name(c, "loras", ((const struct lora_loader *)self)->lora_name, add, user);
}

#define STRENGTH(field, what) \
    WEFT_FLOAT_IN(struct lora_loader, field, 1, -100, 100, 0.01, "how strongly the " what " is changed; 0: not at all")
static const weft_port lora_inputs[] = {
    WEFT_OBJECT_IN(struct lora_loader, model, "MODEL", "the model to change"),
    WEFT_OBJECT_IN(struct lora_loader, clip, "CLIP", "the text encoder to change"),
    WEFT_FILE_IN(struct lora_loader, lora_name, "loras", "a .safetensors file in models/loras"),
    STRENGTH(strength_model, "UNet"), STRENGTH(strength_clip, "text encoder"), { 0 } };
static const weft_port model_inputs[] = {
    WEFT_OBJECT_IN(struct lora_loader, model, "MODEL", "the model to change"),
    WEFT_FILE_IN(struct lora_loader, lora_name, "loras", "a .safetensors file in models/loras"),
    STRENGTH(strength_model, "UNet"), { 0 } };

#define MODEL_OUT WEFT_OUT(struct lora_loader, model_out, WEFT_PORT_OBJECT, "MODEL", "MODEL", "the changed model")
const weft_node weft_node_LoraLoader = {
    .name = "LoraLoader", .title = "Load LoRA", .category = "loaders",
    .summary = "Changes a model and its text encoder by a LoRA. Several may follow each other.",
    .size = sizeof(struct lora_loader), .inputs = lora_inputs,
    .outputs = (const weft_port[]){ MODEL_OUT,
        WEFT_OUT(struct lora_loader, clip_out, WEFT_PORT_OBJECT, "CLIP", "CLIP", "the changed text encoder"), { 0 } },
    .sign = lora_sign, .run = lora_run,
};

const weft_node weft_node_LoraLoaderModelOnly = {
    .name = "LoraLoaderModelOnly", .title = "Load LoRA (Model)", .category = "loaders",
    .summary = "Changes a model by a LoRA, and leaves the text encoder.", .size = sizeof(struct lora_loader),
    .inputs = model_inputs, .outputs = (const weft_port[]){ MODEL_OUT, { 0 } }, .sign = lora_sign, .run = lora_run,
};
