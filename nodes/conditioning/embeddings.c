/* Files of textual inversion; see embeddings.h. Facts: ComfyUI, sd1_clip.py load_embed(). */
#include "nodes/conditioning/embeddings.h"

#include <stdlib.h>
#include <string.h>

#include "nodes/checkpoint/source.h"
#include "runtime/autograd.h"

#define VECTORS 1000        /* more are no embedding */

/* ---- finding --------------------------------------------------------------------------------------------------------- */

/* Whether a listed file is what the name means: all of it, or (behind slash) its last part, with this ending. */
static bool is_meant(const char *file, const char *name, const char *ending, bool below) {
    const char *slash = below ? strrchr(file, '/') : NULL;
    if (below && !slash) return false;
    if (slash) file = slash + 1;
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (file[i] != (name[i] == '\\' ? '/' : name[i])) return false;
    return !strcmp(file + n, ending);
}

char *weft_embedding_find(weft_ctx *c, const weft_folders *folders, const char *name) {
    static const char *const endings[] = { "", ".safetensors", ".pt", ".bin" };
    char *path = NULL;
    const char **files = folders && weft_ok(c) ? weft_folders_list(folders, "embeddings") : NULL, *found = NULL;
    if (folders && !files) weft_fail(c, WEFT_E_MEMORY, "embedding %.200s: no memory for the names of files", name);
    for (int below = 0; below < 2; below++)
        for (int k = 0; k < 4; k++)
            for (int i = 0; files && files[i] && !found; i++)
                if (is_meant(files[i], name, endings[k], below)) found = files[i];
    if (found) path = weft_folders_find(c, folders, "embeddings", found);
    free(files);
    return path;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

static const weft_st_entry *vectors_of(const weft_safetensors *file, weft_family family, int64_t width) {
    static const char automatic[] = "string_to_param.";
    const weft_st_entry *e = weft_st_find(file, family == WEFT_FAMILY_SD2 ? "clip_h" : "clip_l");
    if (!e) e = weft_st_find(file, "emb_params");
    for (int64_t i = 0; !e && i < weft_st_count(file); i++)
        if (!strncmp(weft_st_at(file, i)->name, automatic, sizeof automatic - 1)) e = weft_st_at(file, i);
    for (int64_t i = 0; !e && i < weft_st_count(file); i++) {
        const weft_st_entry *one = weft_st_at(file, i);
        if ((one->rank == 1 || one->rank == 2) && one->shape[one->rank - 1] == width) e = one;
    }
    return e ? e : weft_st_at(file, 0);
}

/* Whether the entry is vectors of this width; the error is set where not. */
static bool check(weft_ctx *c, weft_safetensors *file, const weft_st_entry *e, int64_t width) {
    static const struct { int64_t width; const char *model; } models[] = {
        { 768, " (Stable Diffusion 1)" }, { 1024, " (Stable Diffusion 2)" }, { 1280, " (Stable Diffusion XL)" } };
    const char *model = "";
    bool real = e && !e->foreign && (e->type == WEFT_F32 || e->type == WEFT_F16 || e->type == WEFT_BF16);
    int64_t own = e && e->rank ? e->shape[e->rank - 1] : 0;
    if (!real || e->rank < 1 || e->rank > 2 || own < 1 || e->shape[0] < 1 || (e->rank == 2 && e->shape[0] > VECTORS)) {
        char found[96];
        weft_fail(c, WEFT_E_FORMAT, "is no embedding of a text encoder: vectors (n, %lld) of f32, f16 or bf16 are wanted, "
                  "not %s", (long long)width, weft_describe(e ? weft_st_tensor(c, file, e) : NULL, found, sizeof found));
        return false;
    }
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (own == models[i].width) model = models[i].model;
    if (own != width)
        weft_fail(c, WEFT_E_SHAPE, "its vectors have %lld numbers%s, those of this text encoder %lld", (long long)own,
                  model, (long long)width);
    return own == width;
}

weft_tensor *weft_embedding_read(weft_ctx *c, const char *path, weft_family family, int64_t width) {
    weft_source source = { 0 };
    weft_tensor *vectors = NULL;
    if (!weft_source_open_file(c, &source, path)) {
        weft_scope s = weft_scope_named(c, path);
        const weft_st_entry *e = vectors_of(source.files[0], family, width);
        if (check(c, source.files[0], e, width)) {
            vectors = weft_cast(c, weft_st_tensor(c, source.files[0], e), WEFT_F32);
            vectors = weft_reshape(c, vectors, WEFT_SHAPE(-1, width));
            if (weft_ok(c) && !weft_is_finite(c, vectors) && weft_ok(c))
                weft_fail(c, WEFT_E_FORMAT, "its vectors are not all finite numbers");
        }
        vectors = weft_scope_end(c, s, vectors);
    }
    weft_source_close(&source);
    return vectors;
}
