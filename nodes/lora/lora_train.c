/* LoraCreate, LoraCreateText, LoraSave: new adapters beside a model's layers, to be trained, and a file of them. arXiv:2106.09685. */
#include "nodes/loaders/loaders.h"
#include "nodes/lora/lora.h"

#include <stdlib.h>
#include <string.h>

enum { TARGETS = 64 };

/* ---- LoraCreate, LoraCreateText ---------------------------------------------------------------------------------------- */

struct lora_create {
    weft_model *model;
    weft_clip *clip;
    int64_t rank;
    double alpha;
    const char *targets;
    uint64_t seed;
    weft_model *model_out;
    weft_clip *clip_out;
};

/* "to_q, to_k" → its parts, in one copy of the text (free it); NULL with the error set. */
static char *split(weft_ctx *c, const char *text, const char *list[TARGETS + 1]) {
    char *copy = strdup(text), *at = copy, *save = NULL;
    int n = 0;
    if (!copy) weft_fail(c, WEFT_E_MEMORY, "targets: out of memory");
    for (char *part; copy && (part = strtok_r(at, ", \t\n", &save)); at = NULL) {
        if (n < TARGETS) list[n++] = part;
        else weft_fail(c, WEFT_E_ARGUMENT, "targets: more than %d names", TARGETS);
    }
    list[n] = NULL;
    if (copy && !n) weft_fail(c, WEFT_E_ARGUMENT, "targets: no layer is named");
    if (weft_ok(c)) return copy;
    free(copy);
    return NULL;
}

/* An overlay with adapters over weights: a new reference, NULL with the error set. */
static weft_weights *adapted(weft_ctx *c, weft_weights *weights, const struct lora_create *n) {
    const char *list[TARGETS + 1];
    char *copy = split(c, n->targets, list);
    weft_tree *tree = copy ? weft_tree_overlay(c, weights->tree) : NULL;
    double alpha = n->alpha > 0 ? n->alpha : (double)n->rank;
    if (tree && weft_tree_make_adapters(c, tree, list, (int)n->rank, alpha, WEFT_F32, n->seed)) { /* told below */ }
    free(copy);
    if (weft_ok(c) && tree) return weft_weights_new(c, tree, weights);
    weft_tree_free(tree);
    return NULL;
}

static void create_run(weft_ctx *c, void *self) {
    struct lora_create *n = self;
    weft_model fields = *n->model;
    fields.weights = adapted(c, n->model->weights, n);
    if (fields.weights) n->model_out = weft_model_new(c, &fields);
    if (fields.weights) weft_object_unref(&fields.weights->object);
}

static void create_text_run(weft_ctx *c, void *self) {
    struct lora_create *n = self;
    weft_clip fields = *n->clip;
    fields.weights = adapted(c, n->clip->weights, n);
    if (fields.weights) n->clip_out = weft_clip_new(c, &fields);
    if (fields.weights) weft_object_unref(&fields.weights->object);
}

#define SHAPE_IN(usual) \
    WEFT_INT_IN(struct lora_create, rank, 4, 1, 1024, 1, "numbers between down and up"), \
    WEFT_FLOAT_IN(struct lora_create, alpha, 0, 0, 4096, 0.1, "the change counts alpha/rank; 0: rank"), \
    WEFT_STRING_IN(struct lora_create, targets, usual, "layers that get an adapter: ends of their names"), \
    WEFT_SEED_IN(struct lora_create, seed, "of the down weights")

const weft_node weft_node_LoraCreate = {
    .name = "LoraCreate", .category = "training/models", .flags = WEFT_NODE_BESIDE, .size = sizeof(struct lora_create),
    .summary = "New low-rank adapters beside the layers of a UNet, to be trained; until then they change nothing.",
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct lora_create, model, "MODEL", "the model, which stays as it is"),
                                   SHAPE_IN("to_q, to_k, to_v, to_out.0"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct lora_create, model_out, WEFT_PORT_OBJECT, "MODEL", "MODEL",
                                             "the model with adapters"), { 0 } },
    .run = create_run,
};

const weft_node weft_node_LoraCreateText = {
    .name = "LoraCreateText", .category = "training/models", .flags = WEFT_NODE_BESIDE, .size = sizeof(struct lora_create),
    .summary = "New low-rank adapters beside the layers of a text encoder, to be trained; until then they change nothing.",
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct lora_create, clip, "CLIP", "the text encoder, which stays as it is"),
                                   SHAPE_IN("q_proj, k_proj, v_proj, out_proj"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct lora_create, clip_out, WEFT_PORT_OBJECT, "CLIP", "CLIP",
                                             "the text encoder with adapters"), { 0 } },
    .run = create_text_run,
};

/* ---- LoraSave -------------------------------------------------------------------------------------------------------- */

static const char *const styles[] = { "kohya", "diffusers", NULL };
static const char *const dtypes[] = { "f32", "f16", "bf16", NULL };
static const weft_dtype dtype_of[] = { WEFT_F32, WEFT_F16, WEFT_BF16 };

struct lora_save { weft_model *model; weft_clip *clip; const char *filename; int style, dtype; };

static void save_run(weft_ctx *c, void *self) {
    struct lora_save *n = self;
    const weft_run_info *info = weft_run_info_of(c);
    const weft_tree *trees[WEFT_LORA_PARTS] = {
        [WEFT_LORA_UNET] = n->model ? n->model->weights->tree : NULL,
        [WEFT_LORA_TEXT] = n->clip ? n->clip->weights->tree : NULL,
    };
    static const weft_lora_style style_of[] = { WEFT_LORA_KOHYA, WEFT_LORA_DIFFUSERS };
    weft_adapter first;
    bool any = false;
    for (int i = 0; i < WEFT_LORA_PARTS; i++) any = any || (trees[i] && weft_tree_adapter(trees[i], 0, &first));
    if (!any) weft_fail(c, WEFT_E_ARGUMENT, "neither model nor clip has adapters; LoraCreate makes them");
    char *path = weft_ok(c) ? weft_folders_place(c, info->folders, "output", n->filename) : NULL;
    if (path && weft_lora_write_trees(c, path, style_of[n->style], trees, dtype_of[n->dtype], NULL) == WEFT_OK && info->wrote)
        info->wrote(info->user, "loras", n->filename, "output");
    free(path);
}

const weft_node weft_node_LoraSave = {
    .name = "LoraSave", .category = "training/models", .flags = WEFT_NODE_OUTPUT, .size = sizeof(struct lora_save),
    .summary = "Saves trained adapters as a LoRA file in the output folder.",
    .inputs = (const weft_port[]){
        WEFT_OPTIONAL_OBJECT_IN(struct lora_save, model, "MODEL", "with adapters"),
        WEFT_OPTIONAL_OBJECT_IN(struct lora_save, clip, "CLIP", "with adapters"),
        WEFT_STRING_IN(struct lora_save, filename, "lora.safetensors", "name of the file"),
        WEFT_CHOICE_IN(struct lora_save, style, styles, "kohya", "whose names: ComfyUI reads both, diffusers too"),
        WEFT_CHOICE_IN(struct lora_save, dtype, dtypes, "f16", "of the weights"), { 0 } },
    .run = save_run,
};
