/* UNetFromConfig, CLIPFromConfig, VAEFromConfig: new models for training from scratch, with weights drawn from a seed. DiffusersSave: models as a
 * folder of diffusers. The configurations are the config.json texts of diffusers and transformers. */
#include "nodes/loaders/loaders.h"

#include <stdlib.h>
#include <string.h>
#include "nodes/checkpoint/config_json.h"
#include "nodes/checkpoint/derive.h"
#include "nodes/checkpoint/parts.h"

static const char *const dtypes[] = { "f32", "f16", "bf16", NULL };
static const weft_dtype dtype_of[] = { WEFT_F32, WEFT_F16, WEFT_BF16 };

#define CONFIG_IN(S) WEFT_TEXT_IN(S, config, "{}", "the content of a config.json: keys that are not there have the defaults that diffusers gives them")
#define SEED_IN(S) WEFT_SEED_IN(S, seed, "of the weights")

/* A tree that makes its weights, all of them made; NULL with the error set. */
static weft_tree *make_tree(weft_ctx *c, weft_part part, uint64_t seed, weft_walk_fn *walk, void *config) {
    weft_tree *t = weft_tree_new(c, weft_part_rows[part].folder);
    if (!t) return NULL;
    weft_tree_make(t, WEFT_F32, seed);
    if (weft_tree_check(c, t, walk, config, false) == WEFT_OK) return t;
    weft_tree_free(t);
    return NULL;
}

/* ---- UNetFromConfig ------------------------------------------------------------------------------------------------------------------- */

struct unet_from_config { const char *config, *scheduler; uint64_t seed; double latent_scale; weft_model *model; };

static void unet_run(weft_ctx *c, void *self) {
    struct unet_from_config *n = self;
    weft_checkpoint k = { .scheduler = weft_scheduler_config_sd(WEFT_PREDICTION_EPSILON) };
    if (weft_unet_config_parse(c, "config", n->config, strlen(n->config), &k.unet_config)) return;
    if (*n->scheduler && weft_scheduler_config_parse(c, "scheduler", n->scheduler, strlen(n->scheduler), &k.scheduler)) return;
    if (k.unet_config.addition_input_dim) weft_fail(c, WEFT_E_ARGUMENT, "config: addition_embed_type: models with more inputs than text are not trained yet");
    k.family = weft_family_of(&k.unet_config);
    k.vae_config.scaling_factor = n->latent_scale;
    const char *own = weft_unet_scheduler(&k.unet_config);
    if (own && !*n->scheduler && weft_scheduler_config_as(c, NULL, own, NULL, NULL, &k.scheduler)) return;
    k.unet = make_tree(c, WEFT_NAMES_UNET, n->seed, weft_unet_walk, &k.unet_config);
    n->model = k.unet ? weft_take_model(c, &k) : NULL;
    if (n->model) n->model->latent_scale = own ? 1 : n->latent_scale;
    weft_tree_free(k.unet);
    weft_scheduler_config_free(&k.scheduler);
}

const weft_node weft_node_UNetFromConfig = {
    .name = "UNetFromConfig", .category = "training/models",
    .summary = "A new UNet2DConditionModel, UNet2DModel or Unet (denoising-diffusion-pytorch's), by _class_name, with "
               "weights from a seed.", .size = sizeof(struct unet_from_config),
    .inputs = (const weft_port[]){
        CONFIG_IN(struct unet_from_config),
        WEFT_TEXT_IN(struct unet_from_config, scheduler, "",
                     "the content of a scheduler_config.json; empty: Stable Diffusion's, DDPM's for a UNet2DModel, "
                     "GaussianDiffusion's for a Unet"),
        SEED_IN(struct unet_from_config),
        WEFT_FLOAT_IN(struct unet_from_config, latent_scale, 0.18215, 1e-6, 1e6, 0.00001,
                      "the autoencoder's scaling_factor; not for a UNet2DModel or Unet"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct unet_from_config, model, WEFT_PORT_OBJECT, "MODEL", "MODEL", "the UNet and how to sample with it"), { 0 } },
    .run = unet_run,
};

/* ---- CLIPFromConfig ------------------------------------------------------------------------------------------------------------------- */

struct clip_from_config { const char *config, *tokenizer; uint64_t seed; weft_clip *clip; };

static weft_tokenizer *open_tokenizer(weft_ctx *c, const char *name) {
    if (!*name) return weft_tokenizer_open_builtin(c);
    char *path = weft_folders_find(c, weft_run_info_of(c)->folders, "tokenizers", name);
    weft_tokenizer *t = path ? weft_tokenizer_open_folder(c, path) : NULL;
    free(path);
    return t;
}

static void clip_run(weft_ctx *c, void *self) {
    struct clip_from_config *n = self;
    weft_checkpoint k = { .family = WEFT_FAMILY_SD1 };
    if (weft_clip_text_config_parse(c, "config", n->config, strlen(n->config), &k.text_config)) return;
    k.tokenizer = open_tokenizer(c, n->tokenizer);
    if (k.tokenizer && weft_tokenizer_size(k.tokenizer) > k.text_config.vocabulary)
        weft_fail(c, WEFT_E_ARGUMENT, "config: vocab_size: %d, but the tokenizer has %d tokens", k.text_config.vocabulary, weft_tokenizer_size(k.tokenizer));
    else if (k.tokenizer && weft_tokenizer_eos(k.tokenizer) != k.text_config.eos)
        weft_fail(c, WEFT_E_ARGUMENT, "config: eos_token_id: %d, but the tokenizer's is %d", k.text_config.eos, weft_tokenizer_eos(k.tokenizer));
    if (weft_ok(c)) k.text = make_tree(c, WEFT_NAMES_TEXT, n->seed, weft_clip_text_walk, &k.text_config);
    n->clip = k.text ? weft_take_clip(c, &k) : NULL;
    weft_tree_free(k.text);
    weft_tokenizer_free(k.tokenizer);
}

static void clip_sign(weft_ctx *c, const void *self, weft_sign_fn *add, void *user) {
    const struct clip_from_config *n = self;
    if (*n->tokenizer) weft_sign_name(c, "tokenizers", n->tokenizer, add, user);
}

const weft_node weft_node_CLIPFromConfig = {
    .name = "CLIPFromConfig", .category = "training/models", .summary = "A new CLIPTextModel with weights from a seed.", .size = sizeof(struct clip_from_config),
    .inputs = (const weft_port[]){
        CONFIG_IN(struct clip_from_config),
        WEFT_STRING_IN(struct clip_from_config, tokenizer, "", "a folder in models/tokenizers with vocab.json and merges.txt; empty: CLIP's own"),
        SEED_IN(struct clip_from_config), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct clip_from_config, clip, WEFT_PORT_OBJECT, "CLIP", "CLIP", "the tokenizer and text encoder"), { 0 } },
    .sign = clip_sign, .run = clip_run,
};

/* ---- VAEFromConfig -------------------------------------------------------------------------------------------------------------------- */

struct vae_from_config { const char *config; uint64_t seed; weft_vae *vae; };

static void vae_run(weft_ctx *c, void *self) {
    struct vae_from_config *n = self;
    weft_checkpoint k = { .parts = 0 };
    if (weft_vae_config_parse(c, "config", n->config, strlen(n->config), &k.vae_config)) return;
    k.vae = make_tree(c, WEFT_NAMES_VAE, n->seed, weft_vae_walk, &k.vae_config);
    n->vae = k.vae ? weft_take_vae(c, &k) : NULL;
    weft_tree_free(k.vae);
}

const weft_node weft_node_VAEFromConfig = {
    .name = "VAEFromConfig", .category = "training/models", .summary = "A new AutoencoderKL with weights from a seed.", .size = sizeof(struct vae_from_config),
    .inputs = (const weft_port[]){ CONFIG_IN(struct vae_from_config), SEED_IN(struct vae_from_config), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct vae_from_config, vae, WEFT_PORT_OBJECT, "VAE", "VAE", "the autoencoder"), { 0 } },
    .run = vae_run,
};

/* ---- DiffusersSave -------------------------------------------------------------------------------------------------------------------- */

struct diffusers_save { weft_model *model; weft_clip *clip; weft_vae *vae; const char *folder; int dtype; int64_t latent_size; const char *max_shard_size; };

/* 0 with the error set. */
static int64_t shard_bytes(weft_ctx *c, const char *text) {
    int64_t bytes = 0;
    if (!weft_shard_size_read(text, &bytes))
        weft_fail(c, WEFT_E_ARGUMENT, "max_shard_size: expected a size such as \"10GB\", \"500MB\" or \"3MiB\", found \"%.100s\"", text);
    return bytes;
}

static void save_check(weft_ctx *c, const void *self) {
    const struct diffusers_save *n = self;
    if (n->max_shard_size && !shard_bytes(c, n->max_shard_size)) { /* told */ }
}

static void save_run(weft_ctx *c, void *self) {
    struct diffusers_save *n = self;
    const weft_run_info *info = weft_run_info_of(c);
    char *path = weft_folders_place(c, info->folders, "output", n->folder);
    const weft_save_options o = { dtype_of[n->dtype], (int)n->latent_size, shard_bytes(c, n->max_shard_size) };
    weft_checkpoint k = { .parts = 0 };
    if (n->model) {
        k.unet = n->model->weights->tree;
        k.unet_config = n->model->config;
        k.scheduler = n->model->scheduler;
    }
    if (n->clip) {
        k.text = n->clip->weights->tree;
        k.text_config = n->clip->config;
        k.tokenizer = (weft_tokenizer *)n->clip->tokenizer;
    }
    if (n->vae) {
        k.vae = n->vae->weights->tree;
        k.vae_config = n->vae->config;
        if (n->model) k.vae_config.scaling_factor = n->model->latent_scale;
    }
    if (n->clip && n->clip->config.added)
        weft_fail(c, WEFT_E_ARGUMENT, "clip: it has new tokens, which are saved as a file of embeddings; a folder takes the text encoder they were made for");
    if (!n->model && !n->clip && !n->vae) weft_fail(c, WEFT_E_ARGUMENT, "neither model, clip nor vae: there is nothing to save");
    if (path && weft_ok(c) && weft_checkpoint_save(c, &k, path, &o) == WEFT_OK && info->wrote)
        info->wrote(info->user, "models", n->folder, "output");
    free(path);
}

const weft_node weft_node_DiffusersSave = {
    .name = "DiffusersSave", .category = "training/models", .flags = WEFT_NODE_OUTPUT, .size = sizeof(struct diffusers_save),
    .summary = "Saves models as a folder of diffusers in the output folder; a folder that is there already is replaced in one step.",
    .inputs = (const weft_port[]){
        WEFT_OPTIONAL_OBJECT_IN(struct diffusers_save, model, "MODEL", "the UNet, and its scheduler's settings"),
        WEFT_OPTIONAL_OBJECT_IN(struct diffusers_save, clip, "CLIP", "the text encoder and its tokenizer"),
        WEFT_OPTIONAL_OBJECT_IN(struct diffusers_save, vae, "VAE", "the autoencoder"),
        WEFT_STRING_IN(struct diffusers_save, folder, "model", "name of the folder"),
        WEFT_CHOICE_IN(struct diffusers_save, dtype, dtypes, "f16", "of the weights"),
        WEFT_INT_IN(struct diffusers_save, latent_size, 0, 0, 4096, 1, "the side of the latents the model is for; 0: not said"),
        { "max_shard_size", "STRING", WEFT_PORT_STRING, WEFT_PORT_OPTIONAL, offsetof(struct diffusers_save, max_shard_size), 0, 0, 0, 0, "10GB", NULL, NULL,
          "a part with more bytes of weights is written in files of at most that many: \"10GB\" (default), \"5MB\", \"3MiB\"" }, { 0 } },
    .check = save_check, .run = save_run,
};
