/* An open LoRA file from inside. */
#ifndef WEFT_LORA_INTERNAL_H
#define WEFT_LORA_INTERNAL_H

#include "nodes/checkpoint/source.h"
#include "nodes/lora/lora.h"

typedef struct lora_layer {
    const char *name;           /* of one of its tensors, of which key.layer bytes are its own */
    weft_lora_key key;
    const weft_st_entry *of[WEFT_LORA_ROLES];
    bool used;
} lora_layer;

struct weft_lora {
    weft_source source;         /* one file */
    const char *name;           /* the file's, without its folder */
    lora_layer *layers;         /* by name */
    int64_t count;
    struct cJSON *metadata;     /* "lora_adapter_metadata", or NULL */
};

/* The scale of a layer: alpha/rank, or as the file's metadata has it. NaN with the error set. */
double lora_scale(weft_ctx *c, const weft_lora *lora, const lora_layer *layer);

#endif
