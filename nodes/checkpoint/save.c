/* Writing a checkpoint as a folder of diffusers; see checkpoint.h.
 *
 *   model_index.json    unet/ text_encoder/ vae/: config.json and weights    tokenizer/    scheduler/
 *
 * Weights are one file, or shards and their index, as save_pretrained(max_shard_size = "10GB") of diffusers and transformers
 * writes them; what that text may be: huggingface_hub, parse_size_to_int, and in older versions convert_file_size_to_int,
 * which has the units of 1024 too.
 */
#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "nodes/checkpoint/config_json.h"
#include "nodes/checkpoint/parts.h"
#include "runtime/file.h"

/* "folder/sub", made; NULL with the error set. */
static char *make_folder(weft_ctx *c, const char *folder, const char *sub) {
    char *path = weft_ok(c) ? weft_path_join(c, folder, sub) : NULL;
    if (!path || !mkdir(path, 0777) || errno == EEXIST) return path;
    weft_fail(c, WEFT_E_FILE, "%s: cannot be made: %s", path, strerror(errno));
    weft_text_free(path);
    return NULL;
}

/* Writes a text and frees it; NULL stands for no memory. */
static void save_text(weft_ctx *c, const char *folder, const char *name, char *text) {
    char *path = weft_ok(c) ? weft_path_join(c, folder, name) : NULL;
    if (!text) weft_fail(c, WEFT_E_MEMORY, "%s: no memory for %s", folder, name);
    else if (path && !weft_file_save(c, path, text, strlen(text))) { /* the context tells */ }
    weft_text_free(path);
    free(text);
}

static char *config_of(const weft_checkpoint *k, weft_part part, int latent_size) {
    if (part == WEFT_NAMES_UNET) return weft_unet_config_json(&k->unet_config, latent_size);
    if (part == WEFT_NAMES_VAE) return weft_vae_config_json(&k->vae_config, latent_size << (k->vae_config.blocks - 1));
    bool known = k->tokenizer != NULL;
    return weft_clip_text_config_json(&k->text_config, known ? weft_tokenizer_bos(k->tokenizer) : 49406,
                                      known ? weft_tokenizer_pad(k->tokenizer) : k->text_config.eos);
}

static void save_part(weft_ctx *c, const weft_checkpoint *k, weft_part part, const char *folder,
                      const weft_save_options *o) {
    weft_tree *tree = part == WEFT_NAMES_TEXT ? k->text : part == WEFT_NAMES_UNET ? k->unet : k->vae;
    const weft_part_row *row = &weft_part_rows[part];
    char *own = tree ? make_folder(c, folder, row->folder) : NULL;
    const char *prefix = part == WEFT_NAMES_TEXT ? "text_model." : "";
    if (!own) return;
    save_text(c, own, "config.json", config_of(k, part, o->latent_size));
    if (weft_tree_write_folder(c, tree, prefix, own, row->stem, o->type, o->max_shard)) { /* told */ }
    weft_text_free(own);
}

/* "part": [library, class]; two NULLs: diffusers is told that there is none. The index is lost without memory. */
static cJSON *with_class(cJSON *index, const char *part, const char *library, const char *class_name) {
    cJSON *pair = index ? cJSON_CreateArray() : NULL, *items[2] = { NULL };
    bool ok = pair != NULL;
    for (int i = 0; i < 2 && ok; i++) {
        const char *text = i ? class_name : library;
        items[i] = text ? cJSON_CreateString(text) : cJSON_CreateNull();
        ok = items[i] && cJSON_AddItemToArray(pair, items[i]);
    }
    if (ok && cJSON_AddItemToObject(index, part, pair)) return index;
    cJSON_Delete(pair);
    cJSON_Delete(index);
    return NULL;
}

/* The library that has a UNet's or a scheduler's class. */
static const char *library_of(const char *class_name) {
    bool lucidrains = !strcmp(class_name, "Unet") || !strcmp(class_name, "GaussianDiffusion");
    return lucidrains ? "denoising_diffusion_pytorch" : "diffusers";
}

/* What diffusers' StableDiffusionPipeline, or for a UNet2DModel its DDPMPipeline, is made of; a part that is not here is
 * left out, and diffusers asks for it then. A Unet is no part of diffusers: its index is for Weft and for people. */
static char *index_json(const weft_checkpoint *k) {
    cJSON *index = cJSON_CreateObject();
    const bool pixels = k->unet && !k->unet_config.context;
    const char *unet = weft_unet_class(&k->unet_config), *scheduler = weft_scheduler_class(&k->scheduler);
    if (index && !cJSON_AddStringToObject(index, "_class_name", !pixels ? "StableDiffusionPipeline" :
                                          k->unet_config.rms.stages ? "GaussianDiffusion" : "DDPMPipeline")) {
        cJSON_Delete(index);
        index = NULL;
    }
    if (!pixels) index = with_class(index, "feature_extractor", NULL, NULL);
    if (!pixels) index = with_class(index, "safety_checker", NULL, NULL);
    if (k->unet) index = with_class(index, "scheduler", library_of(scheduler), scheduler);
    if (k->text) index = with_class(index, "text_encoder", "transformers", "CLIPTextModel");
    if (k->tokenizer) index = with_class(index, "tokenizer", "transformers", "CLIPTokenizer");
    if (k->unet) index = with_class(index, "unet", library_of(unet), unet);
    if (k->vae) index = with_class(index, "vae", "diffusers", "AutoencoderKL");
    bool whole = index && (pixels || cJSON_AddBoolToObject(index, "requires_safety_checker", false));
    char *text = whole ? cJSON_Print(index) : NULL;
    cJSON_Delete(index);
    return text;
}

bool weft_shard_size_read(const char *text, int64_t *bytes) {
    static const struct { const char *name; double bytes; } units[] = {
        { "KB", 1e3 }, { "MB", 1e6 }, { "GB", 1e9 }, { "TB", 1e12 },
        { "KiB", 0x1p10 }, { "MiB", 0x1p20 }, { "GiB", 0x1p30 }, { "TiB", 0x1p40 },
    };
    char *unit;
    while (isspace((unsigned char)*text)) text++;
    double value = strtod(text, &unit);
    if (unit != text + strspn(text, "0123456789.")) return false;      /* a sign, "nan", 0x10, 1e3 */
    while (isspace((unsigned char)*unit)) unit++;
    size_t length = strlen(unit);
    while (length && isspace((unsigned char)unit[length - 1])) length--;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strlen(units[i].name) != length || strncasecmp(units[i].name, unit, length)) continue;
        value *= units[i].bytes;
        if (!(value >= 1 && value < 0x1p63)) return false;
        *bytes = (int64_t)value;
        return true;
    }
    return false;
}

weft_status weft_checkpoint_save(weft_ctx *c, const weft_checkpoint *k, const char *folder,
                                 const weft_save_options *o) {
    weft_folder_out out;
    if (!weft_folder_create(c, &out, folder)) return weft_error(c);
    for (weft_part part = 0; part < WEFT_NAMES_PARTS && weft_ok(c); part++)
        save_part(c, k, part, out.temporary, o);
    char *own = k->tokenizer ? make_folder(c, out.temporary, "tokenizer") : NULL;
    if (own && weft_tokenizer_save(c, k->tokenizer, own, k->text_config.positions)) { /* told */ }
    weft_text_free(own);
    own = k->unet ? make_folder(c, out.temporary, "scheduler") : NULL;
    if (own) save_text(c, own, "scheduler_config.json", weft_scheduler_config_json(&k->scheduler));
    weft_text_free(own);
    if (weft_ok(c)) save_text(c, out.temporary, "model_index.json", index_json(k));
    if (weft_ok(c) && weft_folder_commit(c, &out)) return WEFT_OK;
    weft_folder_discard(&out);
    return weft_error(c);
}
