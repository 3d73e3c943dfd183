/* The configuration of a model that comes without config.json, from the names and shapes of its tensors.
 *
 * What shapes do not tell is what all models of the family share: 32 groups, eps 1e-5, 8 heads (Stable Diffusion 1) or
 * heads of 64 channels (2 and CLIP), the autoencoder's factor 0.18215. Where a tensor is missing, another one answers;
 * a model put together from what was found then names what is not there.
 */
#ifndef WEFT_DERIVE_H
#define WEFT_DERIVE_H

#include "nodes/checkpoint/checkpoint.h"
#include "nodes/checkpoint/ldm_names.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weft_tensor_shape {
    char name[WEFT_NAME_MAX];       /* the model's name */
    int rank;
    int64_t size[WEFT_MAX_RANK];
} weft_tensor_shape;

/* Start from {0}. */
typedef struct weft_shapes { weft_tensor_shape *at; int64_t count, room; } weft_shapes;

/* Renames a file's entries and adds those that belong to the part. */
weft_status weft_shapes_add_file(weft_ctx *c, weft_shapes *s, const weft_safetensors *f,
                                 const weft_namer *n) WEFT_MUST_CHECK;
weft_status weft_shapes_add(weft_ctx *c, weft_shapes *s, const char *name, int rank,
                            const int64_t *size) WEFT_MUST_CHECK;
/* Before the first search. */
void weft_shapes_sort(weft_shapes *s);
const weft_tensor_shape *weft_shapes_find(const weft_shapes *s, const char *name);
void weft_shapes_free(weft_shapes *s);

/* Stable Diffusion 2 has OpenCLIP's text width of 1024, and linear projections; a UNet of another width goes by the
 * latter. */
weft_family weft_family_of(const weft_unet_config *config);

/* Each fails where what was found fits no model that Weft has; `file` stands in messages. */
weft_status weft_derive_unet(weft_ctx *c, const char *file, const weft_shapes *s,
                             weft_unet_config *config) WEFT_MUST_CHECK;
weft_status weft_derive_vae(weft_ctx *c, const char *file, const weft_shapes *s,
                            weft_vae_config *config) WEFT_MUST_CHECK;
weft_status weft_derive_text(weft_ctx *c, const char *file, const weft_shapes *s, weft_naming naming,
                             weft_clip_text_config *config) WEFT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
