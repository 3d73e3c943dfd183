-- Trains an AutoencoderKL: reconstruction (L1 + squares) and a little KL, so that each latent is one point with a little room around it.
local weft = require "weft"
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local o = weft.args {
    "Trains an autoencoder on pictures and saves it as a folder of diffusers.",
    { "data", nil, "folder of pictures; none: drawn shapes of 64x64" },
    { "output", "out", "folder for the model, logs, samples and checkpoints" },
    { "name", "vae", "name of the model's folder there" },
    { "from", nil, "name of an autoencoder there to go on from: only its decoder is trained, so its latents stay what they are" },
    { "latent_noise", 0.0, "up to so much noise on the latents, as a part of their spread: a decoder that forgives a UNet's small errors", min = 0 },
    { "size", 64, "side of the pictures of a folder", min = 8 },
    { "channels", "24,48,64", "block_out_channels; each after the first halves the side. Stable Diffusion's: 128,256,512,512" },
    { "layers", 1, "layers_per_block; Stable Diffusion's: 2", min = 1 },
    { "groups", 8, "norm_num_groups; Stable Diffusion's: 32" },
    { "batch", 8, "pictures at a time", min = 1 },
    { "accumulate", 1, "batches for each step", min = 1 },
    { "steps", 3000, "steps", min = 1 },
    { "lr", 1e-3, "learning rate; after a warm-up it falls as a cosine" },
    { "warmup", 100, "steps until the full learning rate" },
    { "kl", 1e-4, "weight of the KL term for each latent value" },
    { "recompute", false, "compute activations again for the gradient: less memory, more time" },
    { "checkpoint_every", 500, "steps between checkpoints" },
    { "resume", nil, "latest, or the number of a checkpoint's step" },
    { "validate_every", 500, "steps between pictures with their reconstructions" },
    { "dtype", "f32", "of the saved weights", choices = { "f16", "bf16", "f32" } },
    { "seed", 1, "of weights, pictures and noise", seed = true },
}
weft.configure { output = o.output, models = { o.output .. "/" .. (o.from or o.name) }, seed = o.seed }

local down, up = {}, {}
for _ in o.channels:gmatch("%d+") do down[#down + 1], up[#up + 1] = '"DownEncoderBlock2D"', '"UpDecoderBlock2D"' end
local vae = o.from and weft.node.VAELoader { vae_name = "diffusion_pytorch_model.safetensors" } or weft.node.VAEFromConfig { seed = o.seed,
    config = ([[{"block_out_channels": [%s], "down_block_types": [%s], "up_block_types": [%s], "layers_per_block": %d, "norm_num_groups": %d}]])
        :format(o.channels, table.concat(down, ","), table.concat(up, ","), o.layers, o.groups) }
weft.train(vae, o.from and "*decoder*" or "*")
weft.recompute(o.recompute)

-- Pictures without end, as weft.dataset gives them; n of them that are always the same.
local data, some
if o.data then
    local function set(batch, seed)
        return weft.dataset { folder = o.data, unit = true, size = o.size, random_flip = true, batch = batch, shuffle = true, seed = seed }
    end
    data = set(o.batch, o.seed)
    function some(n) return set(n, o.seed + 1):next().images end
else
    local shapes = require "shapes_data"
    local rng = shapes.rng(o.seed)
    data = { next = function() return { images = (shapes.batch(rng, o.batch)) } end, state = rng.state, restore = function(_, state) rng.restore(state) end }
    function some(n) return (shapes.batch(shapes.rng(o.seed + 98), n)) end
end

local run = weft.trainer {
    model = vae, data = data, max_steps = o.steps, accumulate = o.accumulate, seed = o.seed, clip = 1.0, optimizer = { kind = "adamw", weight_decay = 0 },
    lr = o.lr, schedule = "cosine", warmup = o.warmup, ema = { decay = 0.999 }, log_dir = o.output .. "/" .. o.name .. "_log", log_every = 10,
    metrics = { "reconstruction", "kl" }, checkpoint_every = o.checkpoint_every, checkpoint_limit = 2, resume = o.resume,
    step = function(batch)
        local x = batch.images
        local mean, logvar = weft.node.VAEMoments { vae = vae, pixels = x }
        local noise = (logvar * 0.5):exp() * weft.randn(mean.shape)
        if o.latent_noise > 0 then
            local spread = (mean:square():mean() - mean:mean():square()):sqrt():item()
            noise = noise + weft.randn(mean.shape) * weft.rand { mean.shape[1], 1, 1, 1 } * (o.latent_noise * spread)
        end
        local y = weft.node.VAEReconstruct { vae = vae, latent = mean + noise }
        local d = (y - x) * 2
        local reconstruction = d:abs():mean() + d:square():mean()
        local kl = (mean:square() + logvar:exp() - logvar - 1):mean() * 0.5
        return reconstruction + kl * o.kl, { reconstruction = reconstruction, kl = kl }
    end,
    validate_every = o.validate_every,
    validate = function()
        local x = some(8)
        local y = weft.node.VAEReconstruct { vae = vae, latent = (weft.node.VAEMoments { vae = vae, pixels = x }) }:clamp(0, 1)
        return { images = weft.concat({ x, y }, 1), psnr = -10 * math.log((y - x):square():mean():item(), 10) }
    end,
}
run:run()
if run.ema then run.ema:swap() end
-- The latents' spread tells the factor that makes it 1 for a UNet.
local latents = weft.no_grad(function() return (weft.node.VAEMoments { vae = vae, pixels = some(64) }) end)
print(("scaling_factor %.5f"):format(1 / (latents:square():mean() - latents:mean():square()):sqrt():item()))
weft.node.DiffusersSave { vae = vae, folder = o.name, dtype = o.dtype }
print(o.output .. "/" .. o.name)
