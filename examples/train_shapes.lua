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
    { "pool", 32768, "pictures that are drawn and encoded, once", min = 512 },
    { "batch", 16, "pictures a step", min = 1 },
    { "steps", 11000, "steps", min = 1 },
    { "lessons", "250,400,800,1500", "steps of the first lessons, which are easier; see shapes_data.lua" },
    { "review", 0.4, "share of the lesson before in the last one, so that it is not forgotten", min = 0, max = 1 },
    { "lr", 1e-3, "learning rate; after a warm-up it falls as a cosine" },
    { "timestep_mean", 2.0, "of the timesteps' logits, which are normal, at first: what stands where is decided where there is most noise" },
    { "timestep_last", 0.0, "what it has become at the end" },
    { "timestep_std", 1.0, "their spread; 0: every timestep as often" },
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
    "intermediate_size": %d, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 20,
    "initializer_factor": 20}]]):format(words, words - 1, o.width, 4 * o.width) }

-- The pool: every picture's latent as a row, and its caption. Of each lesson but the last it has an eighth.
local ends, rows, captions, first, last, blocks = { 0 }, {}, {}, {}, {}, math.ceil(o.pool / 64)
for length in o.lessons:gmatch "%d+" do ends[#ends + 1] = ends[#ends] + tonumber(length) end
if #ends > #shapes.lessons then error(("lessons: at most %d numbers, for the last goes on to the end"):format(#shapes.lessons - 1), 0) end
for i in weft.progress_bar.each("pool", blocks) do
    local scope <close> = weft.scope()
    local lesson = math.min(1 + 8 * (i - 1) // blocks, #shapes.lessons)
    first[lesson], last[lesson] = first[lesson] or #captions, #captions + 63
    local pictures, texts = shapes.batch(shapes.rng(o.seed * 1000003 + i), 64, shapes.lessons[lesson])
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
    scheduler = [[{"_class_name": "DDIMScheduler", "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02,
    "prediction_type": "v_prediction", "clip_sample": false, "set_alpha_to_one": false, "steps_offset": 1}]] }
weft.train(unet)
weft.train(clip)
local m = sd.with({ vae = vae }, unet, clip)

local function batch(number)
    local r, rows, texts = shapes.rng(o.seed * 7919 + number), {}, {}
    local lesson = #ends
    while number <= ends[lesson] do lesson = lesson - 1 end
    for i = 1, o.batch do
        local lesson = lesson == #shapes.lessons and r.uniform(0, 1) < o.review and lesson - 1 or lesson
        rows[i] = first[lesson] + r.below(last[lesson] - first[lesson] + 1)
        texts[i] = r.uniform(0, 1) < o.dropout and "" or captions[rows[i] + 1]
    end
    return { latents = weft.embedding(weft.tensor(rows, { dtype = "i64" }), latents):reshape { o.batch, 16, 16, 4 }, texts = texts }
end

local run = weft.trainer {
    model = { unet, clip }, data = batch, max_steps = o.steps, seed = o.seed, clip = 1.0, optimizer = "adamw", lr = o.lr, schedule = "cosine",
    warmup = 200, ema = { decay = 0.999 }, log_dir = o.output .. "/log", log_every = 10, checkpoint_every = o.checkpoint_every,
    checkpoint_limit = 2, resume = o.resume, validate_every = o.validate_every,
    step = function(b, run)
        return (sd.loss(m, { latents = b.latents, context = sd.context(m, b.texts), rng = run.rng, timestep_std = o.timestep_std,
            timestep_mean = o.timestep_mean + (o.timestep_last - o.timestep_mean) * run.step / o.steps }))
    end,
    validate = function() return score(m, { seed = o.seed }) end,
}
run:run()
if run.ema then run.ema:swap() end
weft.node.DiffusersSave { model = unet, clip = clip, vae = vae, folder = o.name, dtype = "f16", latent_size = 16, max_shard_size = "3MB" }
print(o.output .. "/" .. o.name)
