/* See config_json.h. Keys and their order: diffusers 0.42, transformers 5, denoising-diffusion-pytorch 2.3. */
#include "nodes/checkpoint/config_json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/checkpoint/gaussian_diffusion.h"

/* An object being written; NULL once memory ran out. */
typedef struct writer { cJSON *object; } writer;

static void put(writer *w, const char *key, cJSON *value) {
    if (w->object && value && cJSON_AddItemToObject(w->object, key, value)) return;
    cJSON_Delete(value);
    cJSON_Delete(w->object);
    w->object = NULL;
}
static void text(writer *w, const char *key, const char *value) { put(w, key, cJSON_CreateString(value)); }
static void number(writer *w, const char *key, double value) { put(w, key, cJSON_CreateNumber(value)); }
static void truth(writer *w, const char *key, bool value) { put(w, key, cJSON_CreateBool(value)); }
static void null(writer *w, const char *key) { put(w, key, cJSON_CreateNull()); }
static void numbers(writer *w, const char *key, const int *values, int n) { put(w, key, cJSON_CreateIntArray(values, n)); }
static void texts(writer *w, const char *key, const char *const *values, int n) {
    put(w, key, cJSON_CreateStringArray(values, n));
}
/* A number where all are equal, as files usually have it. */
static void number_or_numbers(writer *w, const char *key, const int *values, int n) {
    for (int i = 1; i < n; i++)
        if (values[i] != values[0]) {
            numbers(w, key, values, n);
            return;
        }
    number(w, key, values[0]);
}

static writer begin(const char *class_name) {
    writer w = { cJSON_CreateObject() };
    if (class_name) text(&w, "_class_name", class_name);
    return w;
}

static char *end(writer w) {
    char *printed = w.object ? cJSON_Print(w.object) : NULL;
    cJSON_Delete(w.object);
    return printed;
}

const char *weft_unet_class(const weft_unet_config *u) {
    if (u->rms.stages) return "Unet";
    return u->pixel_attention ? "UNet2DModel" : "UNet2DConditionModel";
}

const char *weft_unet_scheduler(const weft_unet_config *u) {
    if (u->rms.stages) return "GaussianDiffusion";
    return u->pixel_attention ? "DDPMScheduler" : NULL;
}

/* Unet(…): what is as the constructor has it by itself is left out. */
static char *unet_rms_json(const weft_unet_rms_config *u) {
    writer w = begin("Unet");
    bool usual = true;
    cJSON *full = cJSON_CreateArray();
    number(&w, "dim", u->dim);
    if (u->init_dim) number(&w, "init_dim", u->init_dim);
    if (u->out_dim) number(&w, "out_dim", u->out_dim);
    numbers(&w, "dim_mults", u->dim_mults, u->stages);
    number(&w, "channels", u->channels);
    truth(&w, "self_condition", u->self_condition);
    if (u->fourier_dim) {
        truth(&w, u->random_fourier ? "random_fourier_features" : "learned_sinusoidal_cond", true);
        number(&w, "learned_sinusoidal_dim", u->fourier_dim);
    }
    number(&w, "sinusoidal_pos_emb_theta", u->theta);
    number_or_numbers(&w, "attn_dim_head", u->head_dim, u->stages);
    number_or_numbers(&w, "attn_heads", u->heads, u->stages);
    for (int i = 0; full && i < u->stages; i++) {
        cJSON *one = cJSON_CreateBool(u->full_attention[i]);
        usual = usual && u->full_attention[i] == (i == u->stages - 1);
        if (!one || !cJSON_AddItemToArray(full, one)) {
            cJSON_Delete(full);
            full = NULL;
        }
    }
    if (usual && full) cJSON_Delete(full);
    else put(&w, "full_attn", full);
    return end(w);
}

/* What UNet2DModel does not share with the other. */
static void put_unet2d(writer *w, const weft_unet_config *u) {
    if (u->mid == WEFT_UNET_MID_NONE) null(w, "mid_block_type");
    else text(w, "mid_block_type", "UNetMidBlock2D");
    truth(w, "add_attention", u->mid == WEFT_UNET_MID_ATTENTION);
    number(w, "layers_per_block", u->layers[0]);
    if (u->head_width) number(w, "attention_head_dim", u->head_width);
    else null(w, "attention_head_dim");
    if (u->mid_norm_groups) number(w, "attn_norm_num_groups", u->mid_norm_groups);
}

static void put_condition(writer *w, const weft_unet_config *u) {
    if (u->mid == WEFT_UNET_MID_NONE) null(w, "mid_block_type");
    else text(w, "mid_block_type", u->mid == WEFT_UNET_MID_RESNET ? "UNetMidBlock2D" : "UNetMidBlock2DCrossAttn");
    number_or_numbers(w, "layers_per_block", u->layers, u->blocks);
    number(w, "cross_attention_dim", u->context);
    number_or_numbers(w, "transformer_layers_per_block", u->depth, u->blocks);
    number_or_numbers(w, "attention_head_dim", u->heads, u->blocks);
    truth(w, "use_linear_projection", u->linear_projection);
    number(w, "conv_in_kernel", u->conv_in_kernel);
    number(w, "conv_out_kernel", u->conv_out_kernel);
    if (u->time_cond_proj_dim) number(w, "time_cond_proj_dim", u->time_cond_proj_dim);
    if (!u->addition_input_dim) return;
    text(w, "addition_embed_type", "text_time");
    number(w, "addition_time_embed_dim", u->addition_time_embed_dim);
    number(w, "projection_class_embeddings_input_dim", u->addition_input_dim);
}

char *weft_unet_config_json(const weft_unet_config *u, int sample_size) {
    if (u->rms.stages) return unet_rms_json(&u->rms);
    const char *const down[] = { "DownBlock2D", u->pixel_attention ? "AttnDownBlock2D" : "CrossAttnDownBlock2D" };
    const char *const up[] = { "UpBlock2D", u->pixel_attention ? "AttnUpBlock2D" : "CrossAttnUpBlock2D" };
    const char *types[2][WEFT_UNET_MAX_BLOCKS];
    for (int i = 0; i < u->blocks; i++) {
        types[0][i] = down[u->down_attention[i]];
        types[1][i] = up[u->up_attention[i]];
    }
    writer w = begin(weft_unet_class(u));
    if (sample_size) number(&w, "sample_size", sample_size);
    number(&w, "in_channels", u->in_channels);
    number(&w, "out_channels", u->out_channels);
    truth(&w, "center_input_sample", u->center_input_sample);
    truth(&w, "flip_sin_to_cos", u->flip_sin_to_cos);
    number(&w, "freq_shift", u->freq_shift);
    texts(&w, "down_block_types", types[0], u->blocks);
    texts(&w, "up_block_types", types[1], u->blocks);
    numbers(&w, "block_out_channels", u->channels, u->blocks);
    number(&w, "downsample_padding", u->downsample_padding);
    text(&w, "act_fn", "silu");
    number(&w, "norm_num_groups", u->norm_groups);
    number(&w, "norm_eps", u->norm_eps);
    if (u->time_embedding_dim) number(&w, "time_embedding_dim", u->time_embedding_dim);
    if (u->pixel_attention) put_unet2d(&w, u);
    else put_condition(&w, u);
    return end(w);
}

char *weft_vae_config_json(const weft_vae_config *v, int sample_size) {
    const char *types[2][WEFT_VAE_MAX_BLOCKS];
    for (int i = 0; i < v->blocks; i++) {
        types[0][i] = "DownEncoderBlock2D";
        types[1][i] = "UpDecoderBlock2D";
    }
    writer w = begin("AutoencoderKL");
    if (sample_size) number(&w, "sample_size", sample_size);
    number(&w, "in_channels", v->in_channels);
    number(&w, "out_channels", v->out_channels);
    number(&w, "latent_channels", v->latent_channels);
    texts(&w, "down_block_types", types[0], v->blocks);
    texts(&w, "up_block_types", types[1], v->blocks);
    numbers(&w, "block_out_channels", v->channels, v->blocks);
    number(&w, "layers_per_block", v->layers);
    text(&w, "act_fn", "silu");
    number(&w, "norm_num_groups", v->norm_groups);
    number(&w, "scaling_factor", v->scaling_factor);
    if (v->shift_factor != 0) number(&w, "shift_factor", v->shift_factor);
    truth(&w, "mid_block_add_attention", v->mid_attention);
    truth(&w, "use_quant_conv", v->quant_conv);
    truth(&w, "use_post_quant_conv", v->post_quant_conv);
    return end(w);
}

char *weft_clip_text_config_json(const weft_clip_text_config *t, int bos, int pad) {
    const char *architecture = t->projection ? "CLIPTextModelWithProjection" : "CLIPTextModel";
    const char *act = t->act == WEFT_ACT_QUICK_GELU ? "quick_gelu" : t->act == WEFT_ACT_GELU ? "gelu" : "gelu_new";
    writer w = begin(NULL);
    texts(&w, "architectures", &architecture, 1);
    text(&w, "model_type", "clip_text_model");
    number(&w, "vocab_size", t->vocabulary);
    number(&w, "hidden_size", t->width);
    number(&w, "intermediate_size", t->inner);
    number(&w, "num_hidden_layers", t->layers);
    number(&w, "num_attention_heads", t->heads);
    number(&w, "max_position_embeddings", t->positions);
    text(&w, "hidden_act", act);
    number(&w, "layer_norm_eps", t->norm_eps);
    number(&w, "projection_dim", t->projection ? t->projection : t->width);
    number(&w, "bos_token_id", bos);
    number(&w, "eos_token_id", t->eos);
    number(&w, "pad_token_id", pad);
    return end(w);
}

const char *weft_scheduler_class(const weft_scheduler_config *s) {
    return s->class_name[0] ? s->class_name : "DDIMScheduler";
}

/* What is read back by weft_gaussian_diffusion_from(). */
static char *gaussian_diffusion_json(const weft_scheduler_config *s) {
    writer w = begin("GaussianDiffusion");
    number(&w, "timesteps", s->num_train_timesteps);
    text(&w, "objective", weft_gaussian_objective(s->prediction_type));
    text(&w, "beta_schedule", weft_gaussian_schedule(s->beta_schedule));
    return end(w);
}

char *weft_scheduler_config_json(const weft_scheduler_config *s) {
    const char *name = weft_scheduler_class(s);
    if (!strcmp(name, "GaussianDiffusion")) return gaussian_diffusion_json(s);
    writer w = begin(name);
    number(&w, "num_train_timesteps", s->num_train_timesteps);
    number(&w, "beta_start", s->beta_start);
    number(&w, "beta_end", s->beta_end);
    text(&w, "beta_schedule", s->beta_schedule);
    if (s->trained_betas) put(&w, "trained_betas", cJSON_CreateDoubleArray(s->trained_betas, s->num_train_timesteps));
    text(&w, "prediction_type", weft_prediction_name(s->prediction_type));
    text(&w, "timestep_spacing", s->timestep_spacing);
    number(&w, "steps_offset", s->steps_offset);
    truth(&w, "rescale_betas_zero_snr", s->rescale_betas_zero_snr);
    bool ddpm = !strcmp(name, "DDPMScheduler"), ddim = !strcmp(name, "DDIMScheduler"), pndm = !strcmp(name, "PNDMScheduler");
    if (ddpm || ddim) {
        truth(&w, "clip_sample", s->clip_sample);
        number(&w, "clip_sample_range", s->clip_sample_range);
    }
    if (ddpm && s->variance_type[0]) text(&w, "variance_type", s->variance_type);
    if (ddim || pndm) truth(&w, "set_alpha_to_one", s->set_alpha_to_one);
    if (pndm) truth(&w, "skip_prk_steps", s->skip_prk_steps);
    return end(w);
}
