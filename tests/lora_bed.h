/* The tiny Stable Diffusion 1 of checkpoint_files.h in a folder of models, for tests of what changes it. */
#ifndef WEFT_TEST_LORA_BED_H
#define WEFT_TEST_LORA_BED_H

#include "tests/checkpoint_files.h"
#include "tests/node_bed.h"

#define KOHYA WEFT_SOURCE_DIR "/tests/golden/lora_kohya.safetensors"
#define DIFFUSERS WEFT_SOURCE_DIR "/tests/golden/lora_diffusers.safetensors"

/* A bed with models/checkpoints/tiny.safetensors, and models/loras/a.safetensors and b.safetensors, the golden ones. */
__attribute__((unused)) static struct bed lora_bed(const char *device, weft_dtype type, const char **folder) {
    static char models[128];
    static const char *const roots[] = { models, NULL };
    struct bed b = bed_new(device);
    *folder = new_folder();
    snprintf(models, sizeof models, "%s/models", *folder);
    static const char *const below[] = { "models", "models/checkpoints", "models/loras", "models/embeddings" };
    for (int i = 0; i < 4; i++) mkdir(in(*folder, below[i]), 0755);
    b.folders = (weft_folders){ .models = roots, .input = models, .output = models, .temp = models };
    write_file(b.c, in(*folder, "models/checkpoints/tiny.safetensors"),
               (struct file_options){ .family = "sd1", .parts = WEFT_PARTS_ALL, .type = type });
    if (symlink(KOHYA, in(*folder, "models/loras/a.safetensors")) ||
        symlink(DIFFUSERS, in(*folder, "models/loras/b.safetensors"))) TEST_FAIL("no links");
    return b;
}

/* CheckpointLoaderSimple's outputs; weft_value_clear() each. */
__attribute__((unused)) static bool load_tiny(struct bed *b, weft_value out[3]) {
    bool ok = CALL(b, "CheckpointLoaderSimple", out, IN_TEXT("ckpt_name", "tiny.safetensors")) == WEFT_OK;
    if (!ok) TEST_FAIL("%s", weft_message(b->c));
    return ok;
}

#define MODEL_OF(v) ((weft_model *)(v).object)
#define CLIP_OF(v) ((weft_clip *)(v).object)

#endif
