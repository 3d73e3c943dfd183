/* What a file is that is no model Weft can use, by the names of its tensors. */
#ifndef WEFT_KINDS_H
#define WEFT_KINDS_H

#include "nodes/checkpoint/ldm_names.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "a LoRA", "a checkpoint of Stable Diffusion XL", …; NULL where nothing tells. *final: it is that even though parts of
 * it look like parts of a Stable Diffusion 1 or 2. */
const char *weft_kind_of(weft_name_list names, bool *final);

#ifdef __cplusplus
}
#endif
#endif
