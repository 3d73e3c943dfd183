/* EmptyLatentImage: where drawing from noise begins. ComfyUI's name, defaults and ranges. */
#include "nodes/values.h"

struct empty_latent { int64_t width, height, batch_size; weft_latent *latent; };

static void empty_latent_run(weft_ctx *c, void *self) {
    struct empty_latent *n = self;
    weft_tensor *zeros = weft_full(c, WEFT_F32, WEFT_SHAPE(n->batch_size, n->height / 8, n->width / 8, 4), 0);
    if (zeros) n->latent = weft_latent_new(c, &(weft_latent){ .samples = zeros, .downscale = 8 });
}

const weft_node weft_node_EmptyLatentImage = {
    .name = "EmptyLatentImage", .title = "Empty Latent Image", .category = "latent",
    .summary = "A latent of zeros, for drawing from noise alone.", .size = sizeof(struct empty_latent),
    .inputs = (const weft_port[]){ WEFT_INT_IN(struct empty_latent, width, 512, 16, 16384, 8,
                                               "the picture's width in pixels"),
                               WEFT_INT_IN(struct empty_latent, height, 512, 16, 16384, 8,
                                               "the picture's height in pixels"),
                               WEFT_INT_IN(struct empty_latent, batch_size, 1, 1, 4096, 1, "how many pictures"),
                               { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct empty_latent, latent, WEFT_PORT_OBJECT, "LATENT", "LATENT",
                                             "the latent"), { 0 } },
    .run = empty_latent_run,
};
