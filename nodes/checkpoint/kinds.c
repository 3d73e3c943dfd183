/* One row a mark; see kinds.h. */
#include "nodes/checkpoint/kinds.h"

#include <string.h>

enum place { START, INSIDE, WHOLE };

struct mark { enum place where; const char *text; bool final; const char *kind; };

static const struct mark marks[] = {
    { START, "conditioner.embedders.1.", true, "a checkpoint of Stable Diffusion XL, which Weft does not read yet" },
    { START, "conditioner.embedders.0.", true,
      "a checkpoint of Stable Diffusion XL (refiner), which Weft does not read yet" },
    { INSIDE, "diffusion_model.label_emb.", true,
      "a UNet of Stable Diffusion XL (or another with more inputs than text), which Weft does not read yet" },
    { START, "label_emb.", true,
      "a UNet of Stable Diffusion XL (or another with more inputs than text), which Weft does not read yet" },
    { START, "add_embedding.linear_", true,
      "a UNet of Stable Diffusion XL (or another with more inputs than text), which Weft does not read yet" },
    { START, "control_model.", true, "a ControlNet" },
    { START, "zero_convs.", true, "a ControlNet" },
    { START, "input_hint_block.", true, "a ControlNet" },
    { START, "controlnet_cond_embedding.", true, "a ControlNet" },
    { INSIDE, ".lora_down.", false, "a LoRA" },
    { INSIDE, ".lora_A.", false, "a LoRA" },
    { INSIDE, ".lora.down.", false, "a LoRA" },
    { INSIDE, "_lora.down.", false, "a LoRA" },
    { START, "lora_unet_", false, "a LoRA" },
    { START, "lora_te", false, "a LoRA" },
    { INSIDE, ".hada_w1_", false, "a LoRA (LoHa)" },
    { INSIDE, ".lokr_w1", false, "a LoRA (LoKr)" },
    { WHOLE, "emb_params", false, "an embedding (textual inversion)" },
    { START, "string_to_param.", false, "an embedding (textual inversion)" },
    { WHOLE, "clip_l", false, "an embedding (textual inversion) of Stable Diffusion XL" },
    { WHOLE, "clip_g", false, "an embedding (textual inversion) of Stable Diffusion XL" },
    { INSIDE, "motion_modules.", false, "a motion module of AnimateDiff" },
    { START, "image_proj.", false, "an IP-Adapter" },
    { START, "ip_adapter.", false, "an IP-Adapter" },
    { START, "adapter.body.", false, "a T2I-Adapter" },
    { INSIDE, "joint_blocks.0.", false, "Stable Diffusion 3, which Weft does not read" },
    { INSIDE, "double_blocks.0.", false, "Flux or one of its kind, which Weft does not read" },
    { INSIDE, "double_layers.0.", false, "AuraFlow, which Weft does not read" },
    { INSIDE, "SelfAttention.relative_attention_bias.", false, "a T5 text encoder, which Weft does not read" },
    { INSIDE, "vision_model.", false, "a CLIP vision encoder" },
    { INSIDE, "RDB1.conv1.", false, "an upscaler (ESRGAN)" },
    { INSIDE, "rdb1.conv1.", false, "an upscaler (ESRGAN)" },
    { START, "taesd_", false, "a small autoencoder (TAESD)" },
    { START, "effnet_mapper.", false, "Stable Cascade, which Weft does not read" },
    { START, "clip_txt_mapper.", false, "Stable Cascade, which Weft does not read" },
};
enum { MARKS = sizeof marks / sizeof *marks };

static bool shows(const struct mark *m, const char *name) {
    switch (m->where) {
    case START: return !strncmp(name, m->text, strlen(m->text));
    case WHOLE: return !strcmp(name, m->text);
    default: return strstr(name, m->text) != NULL;
    }
}

const char *weft_kind_of(weft_name_list names, bool *final) {
    int best = MARKS;       /* the first row that any name shows */
    const char *name;
    for (int64_t i = 0; best && (name = names.at(names.user, i)); i++)
        for (int k = 0; k < best; k++)
            if (shows(&marks[k], name)) best = k;
    *final = best < MARKS && marks[best].final;
    return best < MARKS ? marks[best].kind : NULL;
}
