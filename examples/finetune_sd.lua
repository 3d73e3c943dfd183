-- Fine-tunes a Stable Diffusion on pictures with captions: what diffusers' train_text_to_image does, with its options.
local weft = require "weft"
local sd = weft.stable_diffusion
local o = weft.args {
    "Fine-tunes the UNet (and the text encoder) of a Stable Diffusion on a folder of pictures with captions.",
    { "model", nil, "a folder of diffusers or a .safetensors file, in one of the models folders", required = true },
    { "models", "models", "folder with diffusers/ and checkpoints/" },
    { "data", nil, "folder of pictures; captions in .txt files beside them, metadata.jsonl or the files' names", required = true },
    { "output", "finetuned", "folder for the model, logs, samples and checkpoints" },
    { "resolution", 512, "side of the pictures", min = 8 },
    { "center_crop", false, "crop from the middle, not anywhere" },
    { "random_flip", false, "mirror half of the pictures" },
    { "caption_dropout", 0.0, "share of captions left empty, so that guidance works" },
    { "batch", 1, "pictures at a time", min = 1 },
    { "accumulate", 1, "batches for each step", min = 1 },
    { "steps", 1000, "steps", min = 1 },
    { "lr", 1e-5, "learning rate" },
    { "schedule", "constant", "of the learning rate", choices = { "constant", "linear", "cosine", "cosine_with_restarts", "polynomial" } },
    { "warmup", 0, "steps until the full learning rate" },
    { "snr_gamma", 0.0, "min-SNR weighting; 5 is usual, 0: none" },
    { "noise_offset", 0.0, "noise that is the same all over a picture" },
    { "input_perturbation", 0.0, "more noise on the input than the target knows of; 0.1 is usual" },
    { "loss", "mse", "", choices = { "mse", "l1", "huber", "smooth_l1" } },
    { "train_text_encoder", false, "train the text encoder too" },
    { "recompute", false, "compute activations again for the gradient: less memory, more time" },
    { "ema", true, "sample and save with the average of the weights" },
    { "optimizer", "adamw", "", choices = { "adamw", "adam", "sgd", "lion", "adafactor" } },
    { "checkpoint_every", 500, "steps between checkpoints" },
    { "checkpoint_limit", 3, "checkpoints that are kept" },
    { "resume", nil, "latest, or the number of a checkpoint's step" },
    { "prompt", nil, "what to draw while training" },
    { "validate_every", 100, "steps between drawings" },
    { "guidance", 7.5, "guidance scale of the drawings" },
    { "dtype", "f16", "of the saved weights", choices = { "f16", "bf16", "f32" } },
    { "seed", 0, "", seed = true },
}
weft.configure { models = { o.models }, output = o.output }
local m = sd.load(o.model)
weft.train(m.model)
if o.train_text_encoder then weft.train(m.clip) end
weft.recompute(o.recompute)
local trained = o.train_text_encoder and { m.model, m.clip } or m.model
local data <close> = weft.dataset { folder = o.data, unit = true, size = o.resolution, center_crop = o.center_crop, random_flip = o.random_flip,
    caption_dropout = o.caption_dropout, batch = o.batch, shuffle = true, seed = o.seed }

local run = weft.trainer {
    model = trained, data = data, max_steps = o.steps, accumulate = o.accumulate, seed = o.seed, clip = 1.0,
    optimizer = o.optimizer, lr = o.lr, schedule = o.schedule, warmup = o.warmup, ema = o.ema, log_dir = o.output .. "/log",
    checkpoint_every = o.checkpoint_every, checkpoint_limit = o.checkpoint_limit, resume = o.resume,
    step = function(batch, run)
        local latents = weft.no_grad(sd.encode, m, batch.images, run.rng)
        return (sd.loss(m, { latents = latents, context = sd.context(m, batch.captions), rng = run.rng, snr_gamma = o.snr_gamma,
            noise_offset = o.noise_offset, input_perturbation = o.input_perturbation, loss = o.loss }))
    end,
    validate_every = o.prompt and o.validate_every or 0,
    validate = function()
        return sd.sample(m, { prompts = { o.prompt }, guidance = o.guidance, seed = o.seed, width = o.resolution, height = o.resolution })
    end,
}
run:run()
if run.ema then run.ema:swap() end
weft.node.DiffusersSave { model = m.model, clip = m.clip, vae = m.vae, folder = "model", dtype = o.dtype }
print(o.output .. "/model")
