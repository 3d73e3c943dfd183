/* Where the weights of a part are: one safetensors file, or the shards of a folder. */
#ifndef WEFT_SOURCE_H
#define WEFT_SOURCE_H

#include "nodes/checkpoint/ldm_names.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Start from {0}. */
typedef struct weft_source {
    weft_safetensors **files;
    int count;
} weft_source;

/* One file. Pickles and other formats are refused with what to do. */
weft_status weft_source_open_file(weft_ctx *c, weft_source *s, const char *path) WEFT_MUST_CHECK;
/* The weights of a folder of diffusers: stem.safetensors, its shards by stem.safetensors.index.json, or one of its
 * variants; the first that is there. Otherwise the error tells all the names looked for. */
weft_status weft_source_open_folder(weft_ctx *c, weft_source *s, const char *folder, const char *stem) WEFT_MUST_CHECK;
/* All shards that an index in this folder names: {"weight_map": {"tensor": "file", …}}. */
weft_status weft_source_open_shards(weft_ctx *c, weft_source *s, const char *folder, const char *index) WEFT_MUST_CHECK;
void weft_source_close(weft_source *s);     /* takes an empty one */

/* All names of all files. */
weft_name_list weft_source_names(const weft_source *s);
/* The i-th tensor of all files, in the order of files and data; NULL past the end. */
const weft_st_entry *weft_source_at(const weft_source *s, int64_t i);
/* The entry, and in *file the file that has it; NULL where there is none. */
const weft_st_entry *weft_source_find(const weft_source *s, const char *name, weft_safetensors **file);

/* Whether there is a file or folder at folder/name (name NULL: at folder). */
bool weft_path_has_file(const char *folder, const char *name);
bool weft_path_has_folder(const char *folder, const char *name);

#ifdef __cplusplus
}
#endif
#endif
