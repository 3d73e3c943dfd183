/* Names of the tensors in LoRA files: kohya's, diffusers' (PEFT's and the two before it), ComfyUI's and LyCORIS'.
 *
 *   lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight, .lora_up.weight, .lora_mid.weight, .alpha
 *   lora_te_text_model_encoder_layers_0_self_attn_q_proj.…         (lora_te1_ in files for several text encoders)
 *   unet.down_blocks.0.attentions.0.proj_in.lora_A.weight, lora_B; .lora.down.weight, .lora.up.weight
 *   unet.….attn1.processor.to_q_lora.down.weight; text_encoder.text_model.….q_proj.lora_linear_layer.down.weight
 *   ….diff, .diff_b, .w_norm, .b_norm: whole differences of weight and bias
 *
 * kohya's names have one sign for the dot and the underscore, so places are compared in that flat form.
 * Facts: kohya-ss/sd-scripts networks/lora.py; diffusers, state_dict_utils.py and lora_conversion_utils.py; ComfyUI,
 * comfy/lora.py; KohakuBlueleaf/LyCORIS.
 */
#ifndef WEFT_LORA_NAMES_H
#define WEFT_LORA_NAMES_H

#include "nodes/unet/unet2d_condition.h"

#define WEFT_LORA_NAME 512      /* bytes of a place, with the zero */

typedef enum weft_lora_part {
    WEFT_LORA_UNET, WEFT_LORA_TEXT,
    WEFT_LORA_PARTS,
    WEFT_LORA_FOREIGN = WEFT_LORA_PARTS     /* of a model that Weft does not have: a second text encoder, a transformer */
} weft_lora_part;

typedef enum weft_lora_role {
    WEFT_LORA_DOWN, WEFT_LORA_UP, WEFT_LORA_MID, WEFT_LORA_ALPHA, WEFT_LORA_DIFF, WEFT_LORA_BIAS_DIFF,
    WEFT_LORA_ROLES,
    WEFT_LORA_REFUSED = WEFT_LORA_ROLES,    /* a kind of change that Weft does not do */
    WEFT_LORA_UNKNOWN                       /* no name of a LoRA */
} weft_lora_role;

typedef struct weft_lora_key {
    weft_lora_part part;
    weft_lora_role role;
    size_t layer;               /* bytes at the name's start that all tensors of one layer share */
    const char *refused;        /* WEFT_LORA_REFUSED: "LoHa", … */
} weft_lora_key;

/* What a name of a file says. */
weft_lora_key weft_lora_key_read(const char *name);
/* The layer's place in flat form: '_' for each '.'; of LDM's or diffusers' names. False where it is too long. */
bool weft_lora_key_place(const char *name, const weft_lora_key *key, char out[WEFT_LORA_NAME]);
/* A place of the model ("down_blocks.0.attentions.0.proj_in", "encoder.layers.0.mlp.fc1") in flat form. */
bool weft_lora_flat(const char *place, char out[WEFT_LORA_NAME]);
/* LDM's name of a layer of the UNet ("input_blocks.1.1.proj_in"); false where it has none. */
bool weft_lora_ldm_place(const weft_unet_config *config, const char *place, char out[WEFT_LORA_NAME]);

typedef enum weft_lora_style {
    WEFT_LORA_KOHYA,            /* lora_unet_PLACE.lora_down.weight … and .alpha */
    WEFT_LORA_DIFFUSERS         /* unet.PLACE.lora_A.weight …, which has no alpha: up carries alpha/rank */
} weft_lora_style;
/* The name of a tensor in a file; false where it is too long, or the style has none for the role. */
bool weft_lora_name(weft_lora_style style, weft_lora_part part, const char *place, weft_lora_role role, char *out,
                    size_t size);

#endif
