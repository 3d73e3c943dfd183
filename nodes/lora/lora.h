/* LoRA files: what they change in a model, read and written.
 *
 *   W′ = W + strength·(alpha/rank)·up·down        (arXiv:2106.09685)
 *   W′ = W + strength·diff                        and the same for a bias
 *
 * down is (rank, in) or (rank, in, kh, kw); up (out, rank) or (out, rank, 1, 1); a third factor mid (rank, rank, kh, kw)
 * stands between 1×1 down and up (LoCon's Tucker form). Without an alpha it is the rank, unless the file's
 * "lora_adapter_metadata" (diffusers) says otherwise.
 */
#ifndef WEFT_LORA_H
#define WEFT_LORA_H

#include "nodes/lora/lora_names.h"
#include "nodes/values.h"

typedef struct weft_lora weft_lora;

/* Opens a .safetensors file; NULL with the error set: a file that is no LoRA, a pickle, a kind Weft does not do, a
 * layer that lacks half of its tensors. */
weft_lora *weft_lora_open(weft_ctx *c, const char *path);
void weft_lora_close(weft_lora *lora);      /* takes NULL; what was applied stays */

/* Adds to the overlay what the file changes in a part, times strength. base: the whole tree below, whose layers' places
 * are looked for; unet: the UNet's configuration, for LDM's names. Shapes that do not fit are an error that says what
 * model the file seems to be for. */
weft_status weft_lora_apply(weft_ctx *c, weft_lora *lora, weft_lora_part part, weft_tree *base,
                            const weft_unet_config *unet, weft_tree *overlay, double strength) WEFT_MUST_CHECK;
/* The same as low-rank adapters beside the layers, to train on: scale alpha/rank. A difference or a mid is an error. */
weft_status weft_lora_adapt(weft_ctx *c, weft_lora *lora, weft_lora_part part, weft_tree *base,
                            const weft_unet_config *unet, weft_tree *overlay) WEFT_MUST_CHECK;
/* Once all is applied: warns of layers of these parts (a sum of 1 << part) that match nothing, and of those of no model
 * Weft has; sets the error where nothing at all matched. */
void weft_lora_report(weft_ctx *c, const weft_lora *lora, unsigned parts);
/* "Stable Diffusion XL", …: the model that a file seems to be made for, or NULL. */
const char *weft_lora_made_for(const weft_lora *lora);

/* The weights of a model with a part of the file over them: a new reference, NULL with the error set. What changes the
 * weights have already is added to, so that each weight is made once. */
weft_weights *weft_lora_over(weft_ctx *c, weft_lora *lora, weft_lora_part part, weft_weights *weights,
                             const weft_unet_config *unet, double strength);

/* A layer's change, for writing. */
typedef struct weft_lora_layer {
    weft_lora_part part;
    const char *place;          /* the layer's name in the model */
    weft_tensor *down, *up;
    double alpha;
} weft_lora_layer;
/* Writes a file that kohya's tools, diffusers, PEFT and ComfyUI read, tensors stored as `type`. metadata: NULL or key,
 * value, …, NULL. */
weft_status weft_lora_write(weft_ctx *c, const char *path, weft_lora_style style, const weft_lora_layer *layers,
                            int64_t count, weft_dtype type, const char *const *metadata) WEFT_MUST_CHECK;
/* The same for the adapters of a tree of each part (NULL: none). */
weft_status weft_lora_write_trees(weft_ctx *c, const char *path, weft_lora_style style,
                                  const weft_tree *const trees[WEFT_LORA_PARTS], weft_dtype type,
                                  const char *const *metadata) WEFT_MUST_CHECK;

#endif
