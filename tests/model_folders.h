/* Folders to run graphs in: models/checkpoints/tiny.safetensors (the tiny model of checkpoint_files.h), input/, output/
 * and temp/, in a folder of the running case's own. */
#ifndef WEFT_TEST_MODEL_FOLDERS_H
#define WEFT_TEST_MODEL_FOLDERS_H

#include "tests/checkpoint_files.h"

/* The folder, as new_folder()'s; NULL on failure. drop_folder() removes it. */
__attribute__((unused)) static const char *new_model_folders(weft_ctx *c) {
    static const char *const folders[] = {
        "models", "models/checkpoints", "models/loras", "models/vae", "input", "output", "temp"
    };
    const char *top = new_folder();
    for (size_t i = 0; top && i < sizeof folders / sizeof *folders; i++) mkdir(in(top, folders[i]), 0755);
    struct file_options o = { .family = "sd1", .parts = WEFT_PARTS_ALL, .layout = LAYOUT_LDM, .type = WEFT_F16 };
    return top && write_file(c, in(top, "models/checkpoints/tiny.safetensors"), o) ? top : NULL;
}

#endif
