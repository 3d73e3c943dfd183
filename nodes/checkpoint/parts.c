/* Text encoder, UNet, autoencoder: what differs between them, in one place; see parts.h. */
#include "nodes/checkpoint/parts.h"

#include <stdlib.h>
#include <string.h>

#include "nodes/checkpoint/derive.h"

const weft_part_row weft_part_rows[WEFT_NAMES_PARTS] = {
    [WEFT_NAMES_TEXT] = { "text encoder", "text_encoder", "model" },
    [WEFT_NAMES_UNET] = { "UNet", "unet", "diffusion_pytorch_model" },
    [WEFT_NAMES_VAE] = { "autoencoder", "vae", "diffusion_pytorch_model" },
};

const char *weft_parts_text(unsigned parts, char *out, size_t size) {
    out[0] = 0;
    for (int part = 0; part < WEFT_NAMES_PARTS; part++) {
        size_t at = strlen(out);
        if (parts >> part & 1) snprintf(out + at, size - at, "%s%s", at ? ", " : "", weft_part_rows[part].title);
    }
    return out;
}

static weft_tree **tree_of(weft_checkpoint *k, weft_part part) {
    return part == WEFT_NAMES_TEXT ? &k->text : part == WEFT_NAMES_UNET ? &k->unet : &k->vae;
}

/* ---- loading ---------------------------------------------------------------------------------------------------- */

static weft_status read_config(weft_ctx *c, weft_checkpoint *k, weft_part part, const char *path) {
    if (part == WEFT_NAMES_TEXT) return weft_clip_text_config_read(c, path, &k->text_config);
    if (part == WEFT_NAMES_VAE) return weft_vae_config_read(c, path, &k->vae_config);
    if (weft_unet_config_read(c, path, &k->unet_config)) return weft_error(c);
    if (k->unet_config.addition_input_dim)
        return weft_fail(c, WEFT_E_FORMAT, "%s: is a UNet of Stable Diffusion XL, which Weft does not read yet", path);
    k->family = weft_family_of(&k->unet_config);
    return WEFT_OK;
}

static weft_status derive_config(weft_ctx *c, weft_checkpoint *k, const weft_source *s, const weft_namer *n,
                                 const char *label) {
    weft_shapes shapes = { 0 };
    for (int i = 0; i < s->count; i++)
        if (weft_shapes_add_file(c, &shapes, s->files[i], n)) goto out;
    weft_shapes_sort(&shapes);
    if (n->part == WEFT_NAMES_TEXT && weft_derive_text(c, label, &shapes, n->naming, &k->text_config)) goto out;
    if (n->part == WEFT_NAMES_VAE && weft_derive_vae(c, label, &shapes, &k->vae_config)) goto out;
    if (n->part == WEFT_NAMES_UNET && weft_derive_unet(c, label, &shapes, &k->unet_config) == WEFT_OK)
        k->family = weft_family_of(&k->unet_config);
out:
    weft_shapes_free(&shapes);
    return weft_error(c);
}

/* OpenCLIP's matrices of q, k and v rows as three each: views, no copy. */
static weft_status add_split(weft_ctx *c, weft_tree *tree, weft_safetensors *f, const weft_namer *n) {
    char names[3][WEFT_NAME_MAX];
    size_t prefix = strlen(n->prefix);
    for (int64_t i = 0; i < weft_st_count(f) && weft_ok(c); i++) {
        const weft_st_entry *e = weft_st_at(f, i);
        if (strncmp(e->name, n->prefix, prefix) || !weft_namer_split(n, e->name + prefix, names) || e->rank < 1)
            continue;
        weft_scope scope = weft_scope_named(c, "load");
        weft_tensor *all = weft_st_tensor(c, f, e);
        int64_t rows = e->shape[0] / 3;
        for (int part = 0; part < 3 && all; part++) {
            weft_tensor *rows_of = weft_slice(c, all, 0, part * rows, rows);
            if (!rows_of || weft_tree_add(c, tree, names[part], rows_of)) break;
        }
        weft_scope_end(c, scope, NULL);
    }
    return weft_error(c);
}

weft_status weft_part_load(weft_ctx *c, weft_checkpoint *k, const weft_source *s, const weft_namer *n,
                           const char *config, const char *label) {
    weft_tree **tree = tree_of(k, n->part);
    if (config ? read_config(c, k, n->part, config) : derive_config(c, k, s, n, label)) return weft_error(c);
    *tree = weft_tree_new(c, weft_part_rows[n->part].folder);
    for (int i = 0; *tree && i < s->count; i++) {
        if (weft_tree_add_file(c, *tree, weft_st_path(s->files[i]), weft_namer_rename, (void *)n)) break;
        if (n->naming == WEFT_NAMING_OPEN_CLIP && add_split(c, *tree, s->files[i], n)) break;
    }
    if (weft_ok(c)) k->parts |= 1u << n->part;
    return weft_error(c);
}

void weft_part_free(weft_checkpoint *k, weft_part part) {
    weft_tree **tree = tree_of(k, part);
    weft_tree_free(*tree);
    *tree = NULL;
    k->parts &= ~(1u << part);
}

/* ---- what nobody takes ------------------------------------------------------------------------------------------ */

static bool starts_with(const char *name, const char *start) {
    return !strncmp(name, start, strlen(start));
}

/* Tables and training state of the original code; the projections of CLIP that pictures are compared by. */
static bool is_buffer(const char *name) {
    static const char *const starts[] = { "alphas_cumprod", "betas", "log_one_minus_alphas_cumprod", "posterior_",
                                          "sqrt_", "lvlb_weights", "first_stage_model.loss.", "loss.", "global_step",
                                          "loss_weight", "ema_model.", "online_model.",
                                          "logvar", "denoiser.sigmas" };
    static const char *const ends[] = { "position_ids", "logit_scale", "text_projection", "text_projection.weight",
                                        "attn_mask", "scale_factor" };
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (starts_with(name, starts[i])) return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (length >= strlen(ends[i]) && !strcmp(name + length - strlen(ends[i]), ends[i])) return true;
    return false;
}

/* Whether a namer takes the entry; *unused: it is of the part, but the model never runs it (OpenCLIP's last layer). */
static bool is_taken(const weft_namer *n, const weft_st_entry *e, bool *unused) {
    char name[WEFT_NAME_MAX], split[3][WEFT_NAME_MAX];
    if (n->naming == WEFT_NAMING_NONE || !starts_with(e->name, n->prefix)) return false;
    const char *rest = e->name + strlen(n->prefix);
    if (n->naming == WEFT_NAMING_OPEN_CLIP) {
        snprintf(name, sizeof name, "transformer.resblocks.%d.", n->layers - 1);
        if (starts_with(rest, name)) *unused = true;
    }
    return weft_namer_name(n, rest, name, sizeof name) || weft_namer_split(n, rest, split);
}

static weft_status note_unknown(weft_ctx *c, weft_checkpoint *k, const char *name) {
    if ((k->unknown & (k->unknown - 1)) == 0) {     /* room doubles at the powers of two */
        size_t room = k->unknown ? 2 * (size_t)k->unknown : 1;
        char **names = realloc(k->unknown_names, room * sizeof *names);
        if (!names) return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the names of unknown tensors", k->path);
        k->unknown_names = names;
    }
    char *copy = strdup(name);
    if (!copy) return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the names of unknown tensors", k->path);
    k->unknown_names[k->unknown++] = copy;
    return WEFT_OK;
}

weft_status weft_parts_count_rest(weft_ctx *c, weft_checkpoint *k, const weft_source *s, const weft_namer *namers,
                                  int n) {
    for (int f = 0; f < s->count; f++) {
        for (int64_t i = 0; i < weft_st_count(s->files[f]); i++) {
            const weft_st_entry *e = weft_st_at(s->files[f], i);
            bool taken = false, unused = false;
            for (int part = 0; part < n && !taken; part++) taken = is_taken(&namers[part], e, &unused);
            if (taken) continue;
            if (starts_with(e->name, "model_ema.")) k->ema++;
            else if (unused || is_buffer(e->name)) k->buffers++;
            else if (note_unknown(c, k, e->name)) return weft_error(c);
        }
    }
    return WEFT_OK;
}

/* ---- checking --------------------------------------------------------------------------------------------------- */

static weft_status check_part(weft_ctx *c, weft_checkpoint *k, weft_part part) {
    switch (part) {
    case WEFT_NAMES_TEXT: return weft_tree_check(c, k->text, weft_clip_text_walk, &k->text_config, false);
    case WEFT_NAMES_UNET: return weft_tree_check(c, k->unet, weft_unet_walk, &k->unet_config, false);
    default: return weft_tree_check(c, k->vae, weft_vae_walk, &k->vae_config, false);
    }
}

/* Whether the parts can work with each other. */
static weft_status check_fit(weft_ctx *c, const weft_checkpoint *k) {
    const weft_unet_config *u = &k->unet_config;
    if (!k->unet) return WEFT_OK;
    if (k->text && k->text_config.width != u->context)
        return weft_fail(c, WEFT_E_FORMAT,
                         "%s: the parts do not go together: the UNet takes texts of width %d, the encoder gives %d",
                         k->path, u->context, k->text_config.width);
    if (k->vae && k->vae_config.latent_channels != u->out_channels)
        return weft_fail(c, WEFT_E_FORMAT,
                         "%s: the parts do not go together: the UNet gives %d channels, the autoencoder takes %d",
                         k->path, u->out_channels, k->vae_config.latent_channels);
    return WEFT_OK;
}

weft_status weft_parts_check(weft_ctx *c, weft_checkpoint *k) {
    char all[1600] = "";
    weft_status first = WEFT_OK;
    int parts = 0;
    for (int part = 0; part < WEFT_NAMES_PARTS; part++) parts += *tree_of(k, part) != NULL;
    for (int part = 0; part < WEFT_NAMES_PARTS && weft_ok(c); part++) {
        if (!*tree_of(k, part) || check_part(c, k, part) == WEFT_OK) continue;
        if (weft_error(c) != WEFT_E_PARAMS) return weft_error(c);
        size_t at = strlen(all), room = sizeof all / (size_t)parts;
        const char *message = weft_message(c);
        int length = snprintf(all + at, room, "%s%s", at ? "; " : "", message);
        if (length >= (int)room) memcpy(all + at + room - 4, "…", 4);
        first = weft_error(c);
        weft_clear(c);
    }
    if (first) return weft_fail(c, first, "%s: %s", k->path, all);
    return weft_ok(c) ? check_fit(c, k) : weft_error(c);
}
