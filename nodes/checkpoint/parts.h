/* The parts of a checkpoint: loading one into its tree, checking them all. */
#ifndef WEFT_PARTS_H
#define WEFT_PARTS_H

#include "nodes/checkpoint/checkpoint.h"
#include "nodes/checkpoint/source.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Loops over parts run over weft_part; `1u << part` is its bit among WEFT_PART_…. */
typedef struct weft_part_row {
    const char *title;          /* for people */
    const char *folder;         /* in a folder of diffusers; also the tree's name */
    const char *stem;           /* of its files of weights */
} weft_part_row;
extern const weft_part_row weft_part_rows[WEFT_NAMES_PARTS];

/* "UNet, autoencoder" into out; returns it. */
const char *weft_parts_text(unsigned parts, char *out, size_t size);

/* Reads the configuration from `config` (a config.json), or derives it where that is NULL, and fills the part's tree.
 * `label` names the files in messages. The namer must have found the part. */
weft_status weft_part_load(weft_ctx *c, weft_checkpoint *k, const weft_source *s, const weft_namer *n,
                           const char *config, const char *label) WEFT_MUST_CHECK;

/* Counts the tensors of the source that none of the namers takes. */
weft_status weft_parts_count_rest(weft_ctx *c, weft_checkpoint *k, const weft_source *s, const weft_namer *namers,
                                  int n) WEFT_MUST_CHECK;

/* Runs every model that is there shape-only over its tree, and looks whether they go together; one error tells all that
 * is wrong. */
weft_status weft_parts_check(weft_ctx *c, weft_checkpoint *k) WEFT_MUST_CHECK;

/* Empties a part. */
void weft_part_free(weft_checkpoint *k, weft_part part);

#ifdef __cplusplus
}
#endif
#endif
