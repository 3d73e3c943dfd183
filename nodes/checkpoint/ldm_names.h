/* Names of tensors: from those of the original code (LDM, OpenCLIP) and of older diffusers to those that the models
 * read.
 *
 * A namer stands for one part of one file. It is made from the file's names (which tell how the blocks follow each
 * other) and is then used entry by entry, as a weft_rename_fn. It refers to nothing but itself and copies by
 * assignment. Facts: CompVis/latent-diffusion openaimodel.py and model.py, mlfoundations/open_clip, diffusers' scripts.
 */
#ifndef WEFT_LDM_NAMES_H
#define WEFT_LDM_NAMES_H

#include "runtime/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_NAME_MAX 256           /* bytes of a name that a namer gives, with the zero */
#define WEFT_LDM_MAX_BLOCKS 128     /* input_blocks, output_blocks; more are not named */

typedef enum weft_naming {
    WEFT_NAMING_NONE,               /* the part is not in the file */
    WEFT_NAMING_LDM,                /* UNet and autoencoder of the original code */
    WEFT_NAMING_DIFFUSERS,          /* of diffusers and transformers */
    WEFT_NAMING_OPEN_CLIP,          /* text encoder */
    WEFT_NAMING_RMS                 /* UNet: denoising-diffusion-pytorch's Unet, whose names are the model's */
} weft_naming;

typedef enum weft_part { WEFT_NAMES_TEXT, WEFT_NAMES_UNET, WEFT_NAMES_VAE, WEFT_NAMES_PARTS } weft_part;

/* Where an LDM index of input_blocks or output_blocks ends up. */
typedef struct weft_ldm_place { int16_t block, layer; } weft_ldm_place;

typedef struct weft_namer {
    weft_part part;
    weft_naming naming;
    const char *prefix;             /* in the file, before all names of the part; static storage */
    int levels;                     /* LDM autoencoder: resolutions of the decoder, whose `up` counts from the last */
    /* OpenCLIP: layers in the file; the last is left out, as Stable Diffusion 2 never uses it */
    int layers;
    weft_ldm_place down[WEFT_LDM_MAX_BLOCKS], up[WEFT_LDM_MAX_BLOCKS];
} weft_namer;

/* Names from wherever: has(user, name) and at(user, i), NULL past the end. */
typedef struct weft_name_list {
    bool (*has)(const void *user, const char *name);
    const char *(*at)(const void *user, int64_t i);
    const void *user;
} weft_name_list;

/* Looks for the part among the names, under all prefixes and namings; naming says whether it was found. */
weft_namer weft_namer_make(weft_name_list names, weft_part part);

/* A name without the part's prefix → the model's; false where it is none of the part, or too long. */
bool weft_namer_name(const weft_namer *n, const char *name, char *out, size_t size);
/* The weft_rename_fn; user is a const weft_namer. */
bool weft_namer_rename(void *user, const weft_st_entry *entry, char *out, size_t size);

/* OpenCLIP keeps the rows of q, k and v in one matrix: for such a name, writes the three names in the order of the
 * rows. */
bool weft_namer_split(const weft_namer *n, const char *name, char out[3][WEFT_NAME_MAX]);

#ifdef __cplusplus
}
#endif
#endif
