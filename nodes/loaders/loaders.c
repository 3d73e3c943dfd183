/* Models, text encoders and autoencoders out of open checkpoints; signatures of files. See loaders.h. */
#include "nodes/loaders/loaders.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- signatures ------------------------------------------------------------------------------------------------------------------------- */

static void sign_stat(const struct stat *s, weft_sign_fn *add, void *user) {
    const int64_t facts[] = { s->st_size, s->st_mtim.tv_sec, s->st_mtim.tv_nsec, (int64_t)s->st_ino };
    add(user, facts, sizeof facts);
}

static void sign_tree(const char *path, int depth, weft_sign_fn *add, void *user) {
    struct stat s;
    if (stat(path, &s)) return;
    if (!S_ISDIR(s.st_mode)) {
        sign_stat(&s, add, user);
        return;
    }
    struct dirent **names;
    int n = depth < 3 ? scandir(path, &names, NULL, alphasort) : 0;
    for (int i = 0; i < n; i++) {
        char below[PATH_MAX];
        if (names[i]->d_name[0] != '.' && snprintf(below, sizeof below, "%s/%s", path, names[i]->d_name) < (int)sizeof below) {
            add(user, names[i]->d_name, strlen(names[i]->d_name));
            sign_tree(below, depth + 1, add, user);
        }
        free(names[i]);
    }
    if (n > 0) free(names);
}

void weft_sign_path(const char *path, weft_sign_fn *add, void *user) {
    add(user, path, strlen(path));
    sign_tree(path, 0, add, user);
}

void weft_sign_name(weft_ctx *c, const char *folder, const char *name, weft_sign_fn *add, void *user) {
    char *path = weft_folders_find(c, weft_run_info_of(c)->folders, folder, name);
    if (path) weft_sign_path(path, add, user);
    free(path);
}

/* ---- parts of checkpoints ------------------------------------------------------------------------------------------------------------------ */

weft_checkpoint *weft_open_named(weft_ctx *c, const char *folder, const char *name, unsigned need, unsigned want) {
    char *path = weft_folders_find(c, weft_run_info_of(c)->folders, folder, name);
    weft_checkpoint *k = path ? weft_checkpoint_open(c, path, need, want) : NULL;
    free(path);
    return k;
}

weft_model *weft_take_model(weft_ctx *c, weft_checkpoint *k) {
    if (!weft_ok(c)) return NULL;
    weft_model fields = { .config = k->unet_config, .family = k->family, .prediction = k->scheduler.prediction_type, .scheduler = k->scheduler,
                          .zero_snr = k->scheduler.rescale_betas_zero_snr,
                          .latent_scale = k->vae ? k->vae_config.scaling_factor : weft_vae_sd.scaling_factor };
    if (!k->unet_config.context && !k->vae) fields.latent_scale = 1;     /* its latents are pictures */
    fields.weights = weft_weights_new(c, k->unet, NULL);
    k->unet = NULL;
    weft_model *m = fields.weights ? weft_model_new(c, &fields) : NULL;
    if (fields.weights) weft_object_unref(&fields.weights->object);
    return m;
}

/* A tokenizer with counted references: LoRAs and CLIPSetLastLayer share it. */
typedef struct tokenizer_holder { weft_object object; weft_tokenizer *tokenizer; } tokenizer_holder;

static void holder_free(weft_object *o) {
    weft_tokenizer_free(((tokenizer_holder *)o)->tokenizer);
    free(o);
}

static const weft_class holder_class = { .type = "TOKENIZER", .free = holder_free };

weft_object *weft_tokenizer_hold(weft_ctx *c, weft_tokenizer *t) {
    tokenizer_holder *holder = weft_ok(c) ? malloc(sizeof *holder) : NULL;
    if (!holder) {
        weft_fail(c, WEFT_E_MEMORY, "CLIP: out of memory");
        weft_tokenizer_free(t);
        return NULL;
    }
    *holder = (tokenizer_holder){ { &holder_class, 1 }, t };
    return &holder->object;
}

weft_clip *weft_take_clip(weft_ctx *c, weft_checkpoint *k) {
    if (!weft_ok(c)) return NULL;
    weft_clip fields = { .config = k->text_config, .family = k->family, .tokenizer = k->tokenizer, .layer = -1 };
    fields.tokenizer_holder = weft_tokenizer_hold(c, k->tokenizer);
    k->tokenizer = NULL;
    if (!fields.tokenizer_holder) return NULL;
    fields.weights = weft_weights_new(c, k->text, NULL);
    k->text = NULL;
    weft_clip *clip = fields.weights ? weft_clip_new(c, &fields) : NULL;
    if (fields.weights) weft_object_unref(&fields.weights->object);
    weft_object_unref(fields.tokenizer_holder);
    return clip;
}

weft_vae *weft_take_vae(weft_ctx *c, weft_checkpoint *k) {
    if (!weft_ok(c)) return NULL;
    weft_vae fields = { .config = k->vae_config, .weights = weft_weights_new(c, k->vae, NULL) };
    k->vae = NULL;
    weft_vae *v = fields.weights ? weft_vae_new(c, &fields) : NULL;
    if (fields.weights) weft_object_unref(&fields.weights->object);
    return v;
}
