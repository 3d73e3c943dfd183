-- Trains a small Stable Diffusion from nothing: its own tokenizer, a text encoder and a UNet together, on pictures of shapes that it draws for itself,
-- in the latents of an autoencoder from train_vae.lua.
local weft = require "weft"
local sd = weft.stable_diffusion
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local o = weft.args {
    "Trains a small text-to-image model on drawn shapes and saves it as a folder of diffusers.",
    { "output", "out", "folder for the model, logs, samples and checkpoints; the autoencoder is in it" },
    { "vae", "vae", "name of the autoencoder's folder there" },
    { "name", "shapes", "name of the model's folder there" },
    { "channels", "64,96,112", "the UNet's block_out_channels" },
    { "width", 96, "of the text encoder" },
    { "pool", 32768, "pictures that are drawn and encoded, once", min = 1 },
    { "batch", 32, "pictures a step", min = 1 },
    { "steps", 12000, "steps", min = 1 },
    { "lr", 1e-3, "learning rate; after a warm-up it falls as a cosine" },
    { "timestep_mean", -0.5, "of the timesteps' logits, which are normal" },
    { "timestep_std", 1.3, "their spread; 0: every timestep as often" },
    { "dropout", 0.1, "share of captions that are left empty, for guidance" },
    { "validate_every", 1000, "steps between drawings of the 40 held-out pairs" },
    { "checkpoint_every", 500, "steps between checkpoints" },
    { "resume", nil, "latest, or the number of a checkpoint's step" },
    { "threads", 0, "threads; 0: one for each core" },
    { "seed", 1, "of weights, pictures and noise", seed = true },
}
weft.make_folder(o.output .. "/tokenizers/shapes")
weft.configure { output = o.output, models = { o.output, o.output .. "/" .. o.vae }, seed = o.seed, threads = o.threads }
local shapes, score = require "shapes_data", require "shapes_score"
local words = require "shapes_tokenizer".write(o.output .. "/tokenizers/shapes", shapes.words())
local vae = weft.node.VAELoader { vae_name = "diffusion_pytorch_model.safetensors" }
local clip = weft.node.CLIPFromConfig { tokenizer = "shapes", seed = o.seed, config = ([[{"vocab_size": %d, "eos_token_id": %d, "hidden_size": %d,
    "intermediate_size": %d, "num_hidden_layers": 3, "num_attention_heads": 4}]]):format(words, words - 1, o.width, 4 * o.width) }

-- The pool: every picture's latent as a row, and its caption.
local rows, captions = {}, {}
for i in weft.progress_bar.each("pool", math.ceil(o.pool / 64)) do
    local scope <close> = weft.scope()
    local pictures, texts = shapes.batch(shapes.rng(o.seed * 1000003 + i), math.min(64, o.pool - 64 * (i - 1)))
    local mean = weft.node.VAEMoments { vae = vae, pixels = pictures }
    rows[i] = scope:keep(mean:reshape { #texts, -1 })
    table.move(texts, 1, #texts, #captions + 1, captions)
end
local latents = weft.concat(rows, 1)
local scale = 1 / (latents:square():mean() - latents:mean():square()):sqrt():item()
rows, latents = nil, latents * scale

local unet = weft.node.UNetFromConfig { seed = o.seed + 1, latent_scale = scale, config = ([[{"block_out_channels": [%s], "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "norm_num_groups": 16, "cross_attention_dim": %d, "attention_head_dim": 4}]]):format(o.channels, o.width),
    scheduler = [[{"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "prediction_type": "v_prediction", "clip_sample": false, "set_alpha_to_one": false, "steps_offset": 1}]] }
weft.train(unet)
weft.train(clip)
local m = sd.with({ vae = vae }, unet, clip)

local function batch(number)
    local r, rows, texts = shapes.rng(o.seed * 7919 + number), {}, {}
    for i = 1, o.batch do
        rows[i] = r.below(o.pool)
        texts[i] = r.uniform(0, 1) < o.dropout and "" or captions[rows[i] + 1]
    end
    return { latents = weft.embedding(weft.tensor(rows, { dtype = "i64" }), latents):reshape { o.batch, 16, 16, 4 }, texts = texts }
end

local run = weft.trainer {
    model = { unet, clip }, data = batch, max_steps = o.steps, seed = o.seed, clip = 1.0, optimizer = "adamw", lr = o.lr, schedule = "cosine",
    warmup = 200, ema = { decay = 0.999 }, log_dir = o.output .. "/log", log_every = 10, checkpoint_every = o.checkpoint_every,
    checkpoint_limit = 2, resume = o.resume, validate_every = o.validate_every,
    step = function(b, run)
        return (sd.loss(m, { latents = b.latents, context = sd.context(m, b.texts), rng = run.rng, timestep_mean = o.timestep_mean,
            timestep_std = o.timestep_std }))
    end,
    validate = function() return score(m, { seed = o.seed }) end,
}
run:run()
if run.ema then run.ema:swap() end
weft.node.DiffusersSave { model = unet, clip = clip, vae = vae, folder = o.name, dtype = "f16", latent_size = 16 }
print(o.output .. "/" .. o.name)
