/* A Stable Diffusion model from its files: tokenizer, text encoder, UNet, autoencoder, scheduler settings, in one call.
 *
 * A path is
 *   a folder of diffusers    model_index.json and tokenizer/, text_encoder/, unet/, vae/, scheduler/; weights in one
 *                            file or in shards, `.fp16.` variants where there is no plain one; or one such part
 *   a single .safetensors    of the original code (LDM: "model.diffusion_model.input_blocks.…"), whole or one part of
 *                            it; or of one part under diffusers' names, with the config.json beside it if there is one
 * What has no config.json gets its configuration from the names and shapes of its tensors. Pickles (.ckpt, .pt, .bin)
 * are refused. Every part is checked against its model before anything is returned: all that is missing or misshapen in
 * all parts is one error.
 */
#ifndef WEFT_CHECKPOINT_H
#define WEFT_CHECKPOINT_H

#include "nodes/checkpoint/scheduler_config.h"
#include "nodes/text/clip_text.h"
#include "nodes/text/tokenizer.h"
#include "nodes/unet/unet2d_condition.h"
#include "nodes/vae/autoencoder_kl.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Parts of a checkpoint; sets of them are sums. */
enum {
    WEFT_PART_TEXT = 1,         /* tokenizer and text encoder */
    WEFT_PART_UNET = 2,
    WEFT_PART_VAE = 4,
    WEFT_PARTS_ALL = 7
};
#define WEFT_PART_COUNT 3

typedef enum weft_family {
    WEFT_FAMILY_UNKNOWN,        /* a part that does not tell: an autoencoder, say */
    WEFT_FAMILY_SD1,
    WEFT_FAMILY_SD2,
    WEFT_FAMILY_COUNT
} weft_family;

/* "Stable Diffusion 1", … */
const char *weft_family_name(weft_family f);

/* What was opened. The fields of a part that was not asked for, or is not there, are NULL and zero. Whoever wants to
 * keep a tree or the tokenizer beyond the checkpoint takes it out and puts NULL in its place. */
typedef struct weft_checkpoint {
    char *path;
    weft_family family;
    bool single_file, ldm_names;        /* how it was stored */
    bool inpaint;                       /* the UNet takes mask and masked picture too: 9 channels */
    char why[256];                      /* one line for people: what it was taken for, and by what */
    unsigned parts;                     /* the parts that are here */

    /* also NULL where neither the model nor the build has one; weft_tokenizer_open_builtin() then tells */
    weft_tokenizer *tokenizer;
    weft_tree *text;
    weft_clip_text_config text_config;
    weft_tree *unet;
    weft_unet_config unet_config;
    weft_tree *vae;
    weft_vae_config vae_config;
    weft_scheduler_config scheduler;    /* with the prediction type; there is always one */

    /* Tensors in the files that no model takes. */
    int64_t ema;                        /* copies by moving average ("model_ema.…") */
    int64_t buffers;                    /* follow from the settings ("alphas_cumprod"), or serve training only */
    int64_t unknown;                    /* all others, named in: */
    char **unknown_names;               /* `unknown` names as in the files; owned */
} weft_checkpoint;

/* Opens the parts in `want` and `need`; a part in `need` that is not there is an error, one in `want` alone is left
 * out. NULL with the error set. Weights are read when they are first used: opening reads headers. Reports
 * weft_progress("load", part, parts). */
weft_checkpoint *weft_checkpoint_open(weft_ctx *c, const char *path, unsigned need, unsigned want);

/* A model of the shapes of a preset, with weights made from the seed, stored as `type`: "sd15", "sd15-inpaint", "sd21",
 * or "tiny" (sd15's build, 20 MB in f32). All weights are made at once. */
weft_checkpoint *weft_checkpoint_make(weft_ctx *c, const char *preset, weft_dtype type, uint64_t seed);

typedef struct weft_save_options {
    weft_dtype type;            /* of the weights */
    int latent_size;            /* the side of the latents that the model is for; 0: not said */
    int64_t max_shard;          /* bytes of tensors: a part with more is written in shards of at most that many */
} weft_save_options;

/* Writes the parts that are here (trees that are not NULL) as a folder of diffusers; the folder is there whole or as it was
 * before. */
weft_status weft_checkpoint_save(weft_ctx *c, const weft_checkpoint *k, const char *folder,
                                 const weft_save_options *o) WEFT_MUST_CHECK;

/* "10GB", "500 MB", "3MiB", "1.5gb" to bytes: false where it is no such text, or less than 1 byte. */
bool weft_shard_size_read(const char *text, int64_t *bytes);

void weft_checkpoint_free(weft_checkpoint *k);      /* takes NULL */

#ifdef __cplusplus
}
#endif
#endif
