-- Trains an unconditional diffusion model (DDPM, arXiv:2006.11239) on pictures, as diffusers' tutorial does. Without --data it draws shapes for itself.
local weft = require "weft"
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local o = weft.args {
    "Trains a UNet2DModel on a folder of pictures. The tutorial's own size: --size 128 --channels 128,128,256,256,512,512 --attention 5 --batch 16",
    { "data", nil, "folder of pictures; none: drawn shapes" },
    { "output", "ddpm", "folder for the model, logs, samples and checkpoints" },
    { "size", 32, "side of the pictures", min = 8 },
    { "channels", "32,64,64", "block_out_channels; each after the first halves the side" },
    { "attention", 3, "the block that has attention over pixels; 0: none" },
    { "layers", 2, "layers_per_block", min = 1 },
    { "groups", 16, "norm_num_groups; the tutorial's is 32" },
    { "batch", 16, "pictures at a time", min = 1 },
    { "accumulate", 1, "batches for each step", min = 1 },
    { "steps", 2000, "steps", min = 1 },
    { "lr", 1e-4, "learning rate" },
    { "warmup", 500, "steps until the full learning rate; cosine after that" },
    { "prediction", "epsilon", "what the model says", choices = { "epsilon", "v_prediction", "sample" } },
    { "ema", true, "sample and save with the average of the weights" },
    { "recompute", false, "compute activations again for the gradient: less memory, more time" },
    { "checkpoint_every", 500, "steps between checkpoints" },
    { "resume", nil, "latest, or the number of a checkpoint's step" },
    { "validate_every", 500, "steps between samples" },
    { "seed", 0, "", seed = true },
}
weft.configure { output = o.output }

local down, up, n = {}, {}, 0
for _ in o.channels:gmatch("%d+") do
    n = n + 1
    down[n] = n == o.attention and '"AttnDownBlock2D"' or '"DownBlock2D"'
    table.insert(up, 1, n == o.attention and '"AttnUpBlock2D"' or '"UpBlock2D"')
end
local model = weft.node.UNetFromConfig { seed = o.seed, config = ([[{"_class_name": "UNet2DModel", "sample_size": %d, "layers_per_block": %d,
    "block_out_channels": [%s], "down_block_types": [%s], "up_block_types": [%s], "norm_num_groups": %d}]]):format(o.size, o.layers, o.channels,
    table.concat(down, ","), table.concat(up, ","), o.groups),
    scheduler = ([[{"_class_name": "DDPMScheduler", "prediction_type": "%s"}]]):format(o.prediction) }
weft.train(model)
weft.recompute(o.recompute)
local noise_levels = weft.node.Scheduler { model = model, scheduler = "ddpm", steps = 1000 }

local run = weft.trainer {
    model = model, data = require "ddpm".data(o), max_steps = o.steps, accumulate = o.accumulate, seed = o.seed, clip = 1.0, optimizer = "adamw", lr = o.lr,
    schedule = "cosine", warmup = o.warmup, ema = o.ema, log_dir = o.output .. "/log", checkpoint_every = o.checkpoint_every, checkpoint_limit = 3,
    resume = o.resume,
    step = function(batch, run)
        local clean = batch.images
        local noise = weft.randn(clean.shape, { generator = run.rng })
        local times = weft.randint(0, 1000, { clean.shape[1] }, { dtype = "i64", generator = run.rng })
        local noisy = weft.node.AddNoise { scheduler = noise_levels, samples = clean, noise = noise, timesteps = times }
        local predicted = weft.node.UNetStep { model = model, sample = noisy, timesteps = times }
        return (weft.node.Loss { prediction = predicted, scheduler = noise_levels, clean = clean, noise = noise, timesteps = times })
    end,
    validate_every = o.validate_every,
    validate = function() return require "ddpm".sample(model, { count = 16, size = o.size, steps = 50, scheduler = "ddim", seed = o.seed }) end,
}
run:run()
if run.ema then run.ema:swap() end
weft.node.DiffusersSave { model = model, folder = "model", dtype = "f32" }
print(o.output .. "/model")
