-- Trains a LoRA for a Stable Diffusion on pictures with captions, and saves it for Weft, ComfyUI, kohya's tools and diffusers. arXiv:2106.09685
local weft = require "weft"
local sd = weft.stable_diffusion
local o = weft.args {
    "Trains a LoRA on a folder of pictures with captions.",
    { "model", nil, "a folder of diffusers or a .safetensors file, in one of the models folders", required = true },
    { "models", "models", "folder with diffusers/ and checkpoints/" },
    { "data", nil, "folder of pictures with captions; folders named N_name are repeated N times", required = true },
    { "output", "lora", "folder for the LoRA, logs, samples and checkpoints" },
    { "rank", 4, "", min = 1 },
    { "alpha", 0.0, "0: the rank" },
    { "targets", "to_q, to_k, to_v, to_out.0", "the UNet's layers that get an adapter: ends of their names" },
    { "train_text_encoder", false, "adapters for the text encoder too" },
    { "resolution", 512, "side of the pictures", min = 8 },
    { "random_flip", false, "mirror half of the pictures" },
    { "batch", 1, "pictures at a time", min = 1 },
    { "accumulate", 1, "batches for each step", min = 1 },
    { "steps", 1000, "steps", min = 1 },
    { "lr", 1e-4, "learning rate" },
    { "schedule", "constant", "of the learning rate", choices = { "constant", "linear", "cosine", "cosine_with_restarts", "polynomial" } },
    { "warmup", 0, "steps until the full learning rate" },
    { "snr_gamma", 0.0, "min-SNR weighting; 5 is usual, 0: none" },
    { "noise_offset", 0.0, "noise that is the same all over a picture" },
    { "recompute", true, "compute activations again for the gradient: less memory, more time" },
    { "style", "kohya", "names in the file", choices = { "kohya", "diffusers" } },
    { "checkpoint_every", 500, "steps between checkpoints" },
    { "resume", nil, "latest, or the number of a checkpoint's step" },
    { "prompt", nil, "what to draw while training" },
    { "validate_every", 100, "steps between drawings" },
    { "guidance", 7.5, "guidance scale of the drawings" },
    { "seed", 0, "", seed = true },
}
weft.configure { models = { o.models }, output = o.output }
local base = sd.load(o.model)
local model = weft.node.LoraCreate { model = base.model, rank = o.rank, alpha = o.alpha, targets = o.targets, seed = o.seed }
local clip = o.train_text_encoder and weft.node.LoraCreateText { clip = base.clip, rank = o.rank, alpha = o.alpha, seed = o.seed + 1 } or nil
local m = sd.with(base, model, clip)
weft.train(model)
if clip then weft.train(clip) end
weft.recompute(o.recompute)
local data <close> = weft.dataset { folder = o.data, unit = true, size = o.resolution, random_flip = o.random_flip, batch = o.batch, shuffle = true, seed = o.seed, repeats = true }

local run = weft.trainer {
    model = clip and { model, clip } or model, data = data, max_steps = o.steps, accumulate = o.accumulate, seed = o.seed, clip = 1.0,
    optimizer = "adamw", lr = o.lr, schedule = o.schedule, warmup = o.warmup, log_dir = o.output .. "/log",
    checkpoint_every = o.checkpoint_every, checkpoint_limit = 3, resume = o.resume,
    step = function(batch, run)
        local latents = weft.no_grad(sd.encode, m, batch.images, run.rng)
        return (sd.loss(m, { latents = latents, context = sd.context(m, batch.captions), rng = run.rng, snr_gamma = o.snr_gamma, noise_offset = o.noise_offset }))
    end,
    validate_every = o.prompt and o.validate_every or 0,
    validate = function()
        return sd.sample(m, { prompts = { o.prompt }, guidance = o.guidance, seed = o.seed, width = o.resolution, height = o.resolution })
    end,
}
run:run()
weft.node.LoraSave { model = model, clip = clip, filename = "lora.safetensors", style = o.style }
print(o.output .. "/lora.safetensors")
