-- Trains a small Stable Diffusion from nothing: its own tokenizer, a text encoder and a UNet together, on pictures of shapes that it draws for itself, in the latents of
-- an autoencoder from train_vae.lua.
local weft = require "weft"
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local o = weft.args {
    "Trains a small text-to-image model on drawn shapes and saves it as a folder of diffusers.",
    { "output", "out", "folder for the result; the autoencoder is in it" },
    { "vae", "vae", "name of the autoencoder's folder there" },
    { "name", "shapes", "name of the model's folder there" },
    { "from", nil, "name of a model there to go on from; none: new weights" },
    { "channels", "64,96,112", "the UNet's block_out_channels" },
    { "width", 96, "of the text encoder" },
    { "pool", 24576, "pictures that are drawn and encoded, once", min = 1 },
    { "batch", 32, "pictures a step", min = 1 },
    { "steps", 6000, "steps", min = 1 },
    { "lr", 1e-3, "learning rate" },
    { "dropout", 0.1, "share of captions that are left empty, for guidance" },
    { "every", 500, "steps between samples and saves", min = 1 },
    { "threads", 0, "threads; 0: one for each core" },
    { "seed", 1, "of weights, pictures and noise", seed = true },
}
local tokens = o.output .. "/tokenizers/shapes"
weft.make_folder(tokens)
weft.configure { output = o.output, models = { o.output, o.output .. "/" .. o.vae }, seed = o.seed, threads = o.threads }
local shapes = require "shapes_data"
local vocabulary = require "shapes_tokenizer".write(tokens, shapes.words())

local vae = weft.node.VAELoader { vae_name = "diffusion_pytorch_model.safetensors" }
local unet, clip
if o.from then unet, clip = weft.node.DiffusersLoader { model_path = o.from } end
clip = clip or weft.node.CLIPFromConfig { tokenizer = "shapes", seed = o.seed, config = ([[{"vocab_size": %d, "eos_token_id": %d, "hidden_size": %d, "intermediate_size": %d,
    "num_hidden_layers": 3, "num_attention_heads": 4}]]):format(vocabulary, vocabulary - 1, o.width, 4 * o.width) }

local function ids_of(text) return (weft.node.Tokenize { clip = clip, text = text }) end

-- The pool: latents (n, 16·16·4) and tokens (n + 1, 77) as rows to pick from; the last caption is the empty one.
local rows, captions = {}, {}
for i = 1, o.pool, 64 do
    local scope <close> = weft.scope()
    local pictures, texts = shapes.batch(shapes.rng(o.seed * 1000003 + i), math.min(64, o.pool - i + 1))
    local mean = weft.node.VAEMoments { vae = vae, pixels = pictures }
    rows[#rows + 1] = scope:keep(mean:reshape { #texts, -1 })
    for k, text in ipairs(texts) do texts[k] = ids_of(text):to("f32") end
    captions[#captions + 1] = scope:keep(weft.concat(texts, 1))
end
captions[#captions + 1] = ids_of(""):to("f32")
local latents, ids = weft.concat(rows, 1), weft.concat(captions, 1)
rows, captions = nil, nil
local scale = 1 / (latents:square():mean() - latents:mean():square()):sqrt():item()
latents = latents * scale
print(("%d pictures, %d tokens, scaling_factor %.5f"):format(o.pool, vocabulary, scale))

unet = unet or weft.node.UNetFromConfig { seed = o.seed + 1, latent_scale = scale, config = ([[{"block_out_channels": [%s], "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "norm_num_groups": 16, "cross_attention_dim": %d, "attention_head_dim": 4}]]):format(o.channels, o.width),
    scheduler = [[{"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "v_prediction",
    "clip_sample": false, "set_alpha_to_one": false, "steps_offset": 1}]] }
weft.train(unet)
weft.train(clip)
local opt = weft.optimizer { kind = "adamw", lr = o.lr, params = { unet, clip } }
local ema = weft.ema { params = { unet, clip }, decay = 0.999 }
local noise_levels = weft.node.Scheduler { model = unet, scheduler = "ddim" }
local _, weights = opt:count()
print(("%.2f million weights to train"):format(weights / 1e6))

-- 16 held-out prompts as one picture.
local function sample(path)
    local scope <close> = weft.scope()
    local texts = {}
    for i = 1, 16 do texts[i] = ids_of(shapes.pair_caption(shapes.held_list[i])) end
    local context, empty = weft.node.TextEncode { clip = clip, ids = weft.concat(texts, 1) }, weft.node.TextEncode { clip = clip, ids = ids_of("") }
    local scheduler, times, _, _, start = weft.node.Scheduler { model = unet, scheduler = "ddim", steps = 25 }
    local x, state = weft.randn({ 16, 16, 16, 4 }, { seed = 7 }) * start, nil
    for step, t in ipairs(times:tolist()) do
        local inner <close> = weft.scope()
        local cond, uncond = weft.node.UNetStep { model = unet, sample = x, timestep = t, context = context, uncond_context = empty }
        local guided = weft.node.CFGMix { cond = cond, uncond = uncond, scale = 4 }
        local next, _, after = weft.node.SchedulerStep { scheduler = scheduler, step = step - 1, prediction = guided, sample = x, state = state }
        x, state = inner:keep(next), inner:keep(after)
    end
    local y = weft.node.VAEReconstruct { vae = vae, latent = x * (1 / scale) }:clamp(0, 1)
    weft.save_image(y:reshape { 4, 4, 64, 64, 3 }:permute(1, 3, 2, 4, 5):reshape { 1, 256, 256, 3 }, path)
end

local started, mean_loss = weft.clock(), nil
for step = 1, o.steps do
    local scope <close> = weft.scope()
    local pick, lost = weft.randint(0, o.pool, { o.batch }, { dtype = "f32" }), weft.rand { o.batch }
    local kept = weft.affine(lost, -1, o.dropout):relu() * 1e9     -- more than 0 where the caption is dropped
    local which = weft.minimum(pick + kept, weft.full({ o.batch }, o.pool)):to("i64")
    local clean = weft.embedding(pick:to("i64"), latents):reshape { o.batch, 16, 16, 4 }
    local noise, times = weft.randn(clean.shape), weft.randint(0, 1000, { o.batch }, { dtype = "i64" })
    do
        local tape <close> = weft.tape()
        local context = weft.node.TextEncode { clip = clip, ids = weft.embedding(which, ids):to("i32") }
        local noisy = weft.node.AddNoise { scheduler = noise_levels, samples = clean, noise = noise, timesteps = times }
        local predicted = weft.node.UNetStep { model = unet, sample = noisy, timesteps = times, context = context }
        local loss = tape:backward((weft.node.Loss { prediction = predicted, scheduler = noise_levels, clean = clean, noise = noise, timesteps = times,
            weighting = "min_snr" }))
        mean_loss = mean_loss and mean_loss + 0.01 * (loss - mean_loss) or loss
    end
    opt:clip(1.0)
    opt:factor(weft.lr_factor("cosine", step - 1, { warmup = 200, total = o.steps }))
    opt:step()
    opt:zero_grad()
    ema:step()
    if step % 100 == 0 then
        print(("step %d/%d  loss %.4f  %.3f s/step"):format(step, o.steps, mean_loss, (weft.clock() - started) / step))
        io.stdout:flush()
    end
    if step % o.every == 0 or step == o.steps then
        ema:swap()
        weft.node.DiffusersSave { model = unet, clip = clip, vae = vae, folder = o.name, dtype = "f16", latent_size = 16 }
        sample(("%s/%s_%05d.png"):format(o.output, o.name, step))
        ema:swap()
    end
end
