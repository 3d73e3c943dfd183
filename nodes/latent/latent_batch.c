/* LatentFromBatch, RepeatLatentBatch, SetLatentNoiseMask. ComfyUI's names and rules for masks and places in the batch.
 * */
#include "nodes/image/pixels.h"
#include "nodes/values.h"

#include <stdlib.h>

#define LATENT_OUT(S) (const weft_port[]){ WEFT_OUT(S, out, WEFT_PORT_OBJECT, "LATENT", "LATENT", "the new latents"), \
                                           { 0 } }

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- LatentFromBatch --------------------------------------------------------------------------------------------- */

struct from_batch { weft_latent *samples; int64_t batch_index, length; weft_latent *out; };

static void from_batch_run(weft_ctx *c, void *self) {
    struct from_batch *n = self;
    weft_latent l = *n->samples;
    if (!weft_want_image(c, l.samples, "samples")) return;
    int64_t count = weft_dim(l.samples, 0), first = least(n->batch_index, count - 1),
        length = least(n->length, count - first);
    int64_t *places = malloc(sizeof *places * (size_t)length);
    if (!places) {
        weft_fail(c, WEFT_E_MEMORY, "LATENT: out of memory");
        return;
    }
    for (int64_t i = 0; i < length; i++) places[i] = n->samples->batch_index ? n->samples->batch_index[first + i]
        : first + i;
    l.samples = weft_contiguous(c, weft_slice(c, l.samples, 0, first, length));
    l.batch_index = places;
    if (l.noise_mask && weft_dim(l.noise_mask, 0) > 1)
        l.noise_mask = weft_contiguous(c, weft_slice(c, weft_batch_fit(c, l.noise_mask, count), 0, first, length));
    if (weft_ok(c)) n->out = weft_latent_new(c, &l);
    free(places);
}

const weft_node weft_node_LatentFromBatch = {
    .name = "LatentFromBatch", .title = "Latent From Batch", .category = "latent/batch",
    .summary = "Some latents of a batch; they keep the noise they would have had in it.",
    .size = sizeof(struct from_batch),
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct from_batch, samples, "LATENT", "the batch"),
                               WEFT_INT_IN(struct from_batch, batch_index, 0, 0, 63, 1, "the first"),
                               WEFT_INT_IN(struct from_batch, length, 1, 1, 64, 1, "how many"), { 0 } },
    .outputs = LATENT_OUT(struct from_batch), .run = from_batch_run,
};

/* ---- RepeatLatentBatch ------------------------------------------------------------------------------------------- */

struct repeat_batch { weft_latent *samples; int64_t amount; weft_latent *out; };

/* Each repetition's places lie behind all those of the one before. */
static int64_t *repeat_places(weft_ctx *c, const int64_t *places, int64_t count, int64_t amount) {
    int64_t low = places[0], high = places[0], *all = malloc(sizeof *all * (size_t)(count * amount));
    if (!all) weft_fail(c, WEFT_E_MEMORY, "LATENT: out of memory");
    for (int64_t i = 1; i < count; i++) {
        if (places[i] < low) low = places[i];
        if (places[i] > high) high = places[i];
    }
    for (int64_t i = 0; all && i < count * amount; i++) all[i] = places[i % count] + i / count * (high - low + 1);
    return all;
}

static void repeat_batch_run(weft_ctx *c, void *self) {
    struct repeat_batch *n = self;
    weft_latent l = *n->samples;
    if (!weft_want_image(c, l.samples, "samples")) return;
    int64_t count = weft_dim(l.samples, 0);
    if (l.batch_index) l.batch_index = repeat_places(c, l.batch_index, count, n->amount);
    if (l.noise_mask && weft_dim(l.noise_mask, 0) > 1)
        l.noise_mask = weft_batch_repeat(c, weft_batch_fit(c, l.noise_mask, count), n->amount);
    l.samples = weft_batch_repeat(c, l.samples, n->amount);
    if (weft_ok(c)) n->out = weft_latent_new(c, &l);
    free(n->samples->batch_index ? l.batch_index : NULL);
}

const weft_node weft_node_RepeatLatentBatch = {
    .name = "RepeatLatentBatch", .title = "Repeat Latent Batch", .category = "latent/batch",
    .summary = "A batch of latents several times.",
    .size = sizeof(struct repeat_batch),
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct repeat_batch, samples, "LATENT", "the batch"),
                               WEFT_INT_IN(struct repeat_batch, amount, 1, 1, 64, 1, "how many times"), { 0 } },
    .outputs = LATENT_OUT(struct repeat_batch), .run = repeat_batch_run,
};

/* ---- SetLatentNoiseMask ------------------------------------------------------------------------------------------ */

struct noise_mask { weft_latent *samples; weft_tensor *mask; weft_latent *out; };

static void noise_mask_run(weft_ctx *c, void *self) {
    struct noise_mask *n = self;
    weft_latent l = *n->samples;
    l.noise_mask = weft_want_mask(c, n->mask, "mask");
    if (l.noise_mask && weft_dim(l.noise_mask, 0) > 1) l.noise_mask = weft_batch_fit(c, l.noise_mask,
        weft_dim(l.samples, 0));
    if (weft_ok(c)) n->out = weft_latent_new(c, &l);
}

const weft_node weft_node_SetLatentNoiseMask = {
    .name = "SetLatentNoiseMask", .title = "Set Latent Noise Mask", .category = "latent/inpaint",
    .summary = "Only where the mask is 1 the latents are redrawn.", .size = sizeof(struct noise_mask),
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct noise_mask, samples, "LATENT", "the latents"),
                                   WEFT_MASK_IN(struct noise_mask, mask, "1: is redrawn; any size"), { 0 } },
    .outputs = LATENT_OUT(struct noise_mask), .run = noise_mask_run,
};
