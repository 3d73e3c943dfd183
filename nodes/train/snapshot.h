/* Checkpoints of a training run: folders FOLDER/checkpoint-N, N being how many steps were taken.
 *
 * A checkpoint is filled under a temporary name, synced and renamed: whenever the program is killed, it is there whole
 * or not at all. Its manifest, checkpoint.json, lists every file with its length,
 *     {"format": "weft-training-checkpoint", "step": N, "files": {"optimizer.safetensors": 1234, …}}
 * and a checkpoint whose files are not those (half copied, half removed) does not count. */
#ifndef WEFT_TRAIN_SNAPSHOT_H
#define WEFT_TRAIN_SNAPSHOT_H

#include "runtime/file.h"

typedef struct weft_snapshot {
    weft_folder_out out;            /* out.temporary: put the files there; folders in it are possible */
    char *folder, *path;
    int64_t step;
} weft_snapshot;

/* Makes `folder` where it is not there (not those above it) and begins a checkpoint. False with the error set. */
bool weft_snapshot_begin(weft_ctx *c, weft_snapshot *s, const char *folder, int64_t step) WEFT_MUST_CHECK;
/* Writes the manifest and gives the checkpoint its name, in place of one that has it. Then removes the oldest, complete
 * or not, until `keep` complete ones are left; 0: keeps all. Where a removal fails the rest stays. To be discarded
 * where it fails. */
weft_status weft_snapshot_commit(weft_ctx *c, weft_snapshot *s, int keep) WEFT_MUST_CHECK;
void weft_snapshot_discard(weft_snapshot *s);       /* after a commit, or on a zeroed one: frees */

/* The path of FOLDER/checkpoint-STEP, for weft_text_free(); NULL with the error set. */
char *weft_snapshot_path(weft_ctx *c, const char *folder, int64_t step);
/* Whether the checkpoint at this path is complete; the error, which names what is wrong, is set otherwise. */
bool weft_snapshot_check(weft_ctx *c, const char *path, int64_t *step);
/* The newest complete one's step; −1: there is none, or the error is set. Tells `ignored` (unless NULL) of each newer
 * one that is not complete, in one line. */
typedef void weft_snapshot_ignored_fn(void *user, const char *message);
int64_t weft_snapshot_latest(weft_ctx *c, const char *folder, weft_snapshot_ignored_fn *ignored, void *user);
/* Gives checkpoints of steps after `step` the name "checkpoint-N.old" (in place of one that has it), so that they are
 * not taken for this run's; how many, or −1 with the error set. */
int weft_snapshot_set_aside(weft_ctx *c, const char *folder, int64_t step);
/* Removes what killed programs left half written. To be called by the one program that writes there. */
void weft_snapshot_tidy(const char *folder);

#endif
