-- Trains denoising-diffusion-pytorch's (lucidrains) Unet under its GaussianDiffusion on pictures, with the defaults of its Trainer. Without --data it draws shapes
-- for itself. The pictures are between -1 and 1, as auto_normalize makes them there.
local weft = require "weft"
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local o = weft.args {
    "Trains an unconditional model as denoising-diffusion-pytorch does. The size of its README: --size 128 --dim 64 --mults 1,2,4,8 --batch 32 --accumulate 2 "
        .. "--lr 8e-5 --steps 700000 --sampling_steps 250",
    { "data", nil, "folder of pictures; none: drawn shapes" },
    { "output", "lucidrains", "folder for the model, logs, samples and checkpoints" },
    { "size", 32, "side of the pictures, which all of the mults but the last halve", min = 4 },
    { "dim", 24, "width of the Unet's first stage; its README has 64", min = 4 },
    { "mults", "1,2,4", "dim_mults: widths of the stages, in dim" },
    { "self_condition", false, "the Unet sees an earlier estimate of the picture, too" },
    { "objective", "pred_v", "what the Unet says", choices = { "pred_noise", "pred_x0", "pred_v" } },
    { "beta_schedule", "sigmoid", "how noise grows with the timestep", choices = { "linear", "cosine", "sigmoid" } },
    { "timesteps", 1000, "of the training", min = 1 },
    { "sampling_steps", 50, "fewer than timesteps: DDIM; as many (the original's default): DDPM", min = 1 },
    { "eta", 0.0, "DDIM: how much noise each step adds", min = 0, max = 1 },
    { "min_snr_gamma", 0.0, "min_snr_loss_weight with this bound, usually 5; 0: no bound", min = 0 },
    { "offset_noise", 0.0, "offset_noise_strength: share of noise that is one for a whole picture", min = 0 },
    { "immiscible", false, "deal a batch's noise out to the pictures that are near to it" },
    { "batch", 16, "pictures at a time", min = 1 },
    { "accumulate", 1, "batches for each step", min = 1 },
    { "steps", 3000, "steps; the original's default is 100000", min = 1 },
    { "lr", 1e-4, "learning rate" },
    { "ema_decay", 0.995, "of the average of the weights, which samples are drawn with", min = 0, max = 1 },
    { "every", 1000, "steps between samples, and between checkpoints", min = 1 },
    { "samples", 25, "pictures in a sample", min = 1 },
    { "recompute", false, "compute activations again for the gradient: less memory, more time" },
    { "resume", nil, "latest, or the number of a checkpoint's step" },
    { "seed", 0, "", seed = true },
}
weft.configure { output = o.output }
local model = weft.node.UNetFromConfig { seed = o.seed,
    config = ([[{"_class_name": "Unet", "dim": %d, "dim_mults": [%s], "self_condition": %s}]]):format(o.dim, o.mults, o.self_condition),
    scheduler = ([[{"_class_name": "GaussianDiffusion", "timesteps": %d, "objective": "%s", "beta_schedule": "%s"}]])
        :format(o.timesteps, o.objective, o.beta_schedule) }
weft.train(model)
weft.recompute(o.recompute)
local scheduler = weft.node.Scheduler { model = model, steps = o.sampling_steps }

local run = weft.trainer {
    model = model, data = require "ddpm".data(o, { resize = "bilinear" }), max_steps = o.steps, accumulate = o.accumulate, seed = o.seed, clip = 1.0, lr = o.lr,
    optimizer = { kind = "adam", beta1 = 0.9, beta2 = 0.99 }, ema = { rule = "lucidrains", decay = o.ema_decay, update_every = 10 },
    log_dir = o.output .. "/log", checkpoint_every = o.every, checkpoint_limit = 3, resume = o.resume,
    step = function(batch, run)
        local clean = batch.images
        local noise = weft.training_noise(clean, { generator = run.rng, offset = o.offset_noise })
        if o.immiscible then noise = weft.node.MatchNoise { samples = clean, noise = noise } end
        local times = weft.randint(0, o.timesteps, { clean.shape[1] }, { dtype = "i64", generator = run.rng })
        local noisy = weft.node.AddNoise { scheduler = scheduler, samples = clean, noise = noise, timesteps = times }
        local function predict(estimate) return (weft.node.UNetStep { model = model, sample = noisy, timesteps = times, self_cond = estimate }) end
        local estimate = o.self_condition and math.random() < 0.5 and weft.no_grad(function()       -- half of the time, as in the paper
            return (weft.node.Denoised { scheduler = scheduler, prediction = predict(), sample = noisy, timesteps = times })
        end) or nil
        return (weft.node.Loss { prediction = predict(estimate), scheduler = scheduler, clean = clean, noise = noise, timesteps = times,
            weighting = o.min_snr_gamma > 0 and "min_snr" or "snr", gamma = o.min_snr_gamma })
    end,
    validate_every = o.every,
    validate = function()
        return require "ddpm".sample(model, { count = o.samples, size = o.size, steps = o.sampling_steps, eta = o.eta, scheduler = "model", seed = o.seed })
    end,
}
run:run()
run.ema:swap()
weft.node.DiffusersSave { model = model, folder = "model", dtype = "f32" }
print(o.output .. "/model")
