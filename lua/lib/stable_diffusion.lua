-- What scripts that train or take apart a Stable Diffusion have in common; each function is a few nodes.
--
--     local sd = weft.stable_diffusion
--     local m = sd.load("shapes")                        -- {model, clip, vae, scheduler}: a folder of diffusers, or a file of checkpoints
--     local latents = sd.encode(m, images, rng)          -- pictures in [0, 1] to latents in the model's units
--     local context = sd.context(m, captions)            -- texts to (N, tokens, width)
--     local loss = sd.loss(m, { latents = latents, context = context, rng = rng, snr_gamma = 5 })
--     local pictures = sd.sample(m, { prompts = { "a cat" }, steps = 25, guidance = 7.5, seed = 1, width = 512, height = 512 })

local weft = require "weft"
local sd = {}

function sd.load(name)
    local m = {}
    if name:match "%.safetensors$" then m.model, m.clip, m.vae = weft.node.CheckpointLoaderSimple { ckpt_name = name }
    else m.model, m.clip, m.vae = weft.node.DiffusersLoader { model_path = name } end
    return sd.with(m, m.model)
end

-- The same with another MODEL or CLIP in its place: one with adapters, say.
function sd.with(m, model, clip)
    local changed = { model = model, clip = clip or m.clip, vae = m.vae }
    changed.scheduler = weft.node.Scheduler { model = model }
    return changed
end

-- A draw from the autoencoder's distribution; rng nil: its mean.
function sd.encode(m, images, rng)
    local mean, logvar = weft.node.VAEMoments { vae = m.vae, pixels = images }
    local noise = rng and weft.randn(mean.shape, { generator = rng }) or nil
    return (weft.node.VAESample { mean = mean, logvar = logvar, noise = noise, model = m.model })
end

function sd.ids(m, texts)
    local rows = {}
    for i, text in ipairs(texts) do rows[i] = (weft.node.Tokenize { clip = m.clip, text = text }) end
    return weft.concat(rows, 1)
end

function sd.context(m, texts)
    return (weft.node.TextEncode { clip = m.clip, ids = sd.ids(m, texts) })
end

-- Timesteps of n images: each as often as any other, or, std > 0, 1000·sigmoid(mean + std·z), z normal: more in the middle (arXiv:2403.03206, 3.1).
function sd.timesteps(n, rng, mean, std)
    if (std or 0) == 0 then return weft.randint(0, 1000, { n }, { dtype = "i64", generator = rng }) end
    local z = weft.randn({ n }, { generator = rng }) * std + mean
    return (z:sigmoid() * 1000):clamp(0, 999):to "i64"
end

-- o: latents (clean), context, rng; timestep_mean, timestep_std (see sd.timesteps); noise_offset, input_perturbation, snr_gamma, loss ("mse", "l1",
-- "huber", "smooth_l1"), delta: as diffusers' train_text_to_image has them. → the loss, each image's loss
function sd.loss(m, o)
    local n, shape = o.latents.shape[1], o.latents.shape
    local function normal(of) return weft.randn(of, { generator = o.rng }) end
    local noise = normal(shape)
    if (o.noise_offset or 0) > 0 then noise = noise + normal { n, 1, 1, shape[4] } * o.noise_offset end
    local times = sd.timesteps(n, o.rng, o.timestep_mean, o.timestep_std)
    local added = (o.input_perturbation or 0) > 0 and noise + normal(shape) * o.input_perturbation or noise
    local noisy = weft.node.AddNoise { scheduler = m.scheduler, samples = o.latents, noise = added, timesteps = times }
    local predicted = weft.node.UNetStep { model = m.model, sample = noisy, timesteps = times, context = o.context }
    local loss, losses = weft.node.Loss { prediction = predicted, scheduler = m.scheduler, clean = o.latents, noise = noise, timesteps = times,
        loss = o.loss or "mse", delta = o.delta or 1, weighting = (o.snr_gamma or 0) > 0 and "min_snr" or "none", gamma = o.snr_gamma or 5 }
    return loss, losses
end

-- o: prompts, negative, steps, guidance, seed, width, height, scheduler ("ddim" …). → pictures (N, height, width, 3) in [0, 1]
function sd.sample(m, o)
    local n, guidance = #o.prompts, o.guidance or 7.5
    local context, empty = sd.context(m, o.prompts), sd.context(m, { o.negative or "" })
    local scheduler, times, _, _, start = weft.node.Scheduler { model = m.model, scheduler = o.scheduler or "ddim", steps = o.steps or 25 }
    local blank = weft.node.VAEMoments { vae = m.vae, pixels = weft.zeros { 1, o.height or 512, o.width or 512, 3 } }
    local noise, state = weft.node.Noise { like = blank:broadcast { n, blank.shape[2], blank.shape[3], blank.shape[4] }, seed = o.seed or 0 }
    local x = noise * start
    for i, t in ipairs(times:tolist()) do
        local scope <close> = weft.scope()
        local scaled = weft.node.ScaleModelInput { scheduler = scheduler, step = i - 1, sample = x }
        local cond, uncond = weft.node.UNetStep { model = m.model, sample = scaled, timestep = t, context = context, uncond_context = empty }
        local guided = weft.node.CFGMix { cond = cond, uncond = uncond, scale = guidance }
        local after, _, kept = weft.node.SchedulerStep { scheduler = scheduler, step = i - 1, prediction = guided, sample = x, state = state }
        x, state = scope:keep(after), scope:keep(kept)
    end
    local latent = weft.node.TensorToLatent { tensor = x, model = m.model }
    return (weft.node.VAEDecode { samples = latent, vae = m.vae })
end

return sd
