/* What `weft inspect` finds out about files: facts are added to a cJSON object. Functions that answer a bool give false
 * with the context's error set. cJSON's functions take NULL; where memory is short, a fact is missing. */
#ifndef WEFT_INSPECT_H
#define WEFT_INSPECT_H

#include <cjson/cJSON.h>
#include "lua/session.h"

bool inspect_picture(session *s, const char *path, cJSON *out);
bool inspect_graph_file(session *s, const char *path, cJSON *out);
/* A .safetensors file. */
bool inspect_weights(session *s, const char *path, cJSON *out);
/* What names the shards of a model: "….safetensors.index.json". */
bool inspect_shards(session *s, const char *path, cJSON *out);
/* A folder of diffusers. */
bool inspect_model_folder(session *s, const char *path, cJSON *out);

/* The list of this name, made where it is not there yet, and a new object at a list's end. */
cJSON *inspect_list(cJSON *out, const char *name);
cJSON *inspect_row(cJSON *list);

#endif
