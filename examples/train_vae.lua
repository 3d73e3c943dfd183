-- Trains an AutoencoderKL: reconstruction (L1 + squares) and a little KL. Without --data it draws shapes for itself.
local weft = require "weft"
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local o = weft.args {
    "Trains an autoencoder on pictures and saves it as a folder of diffusers.",
    { "output", "out", "folder for the result and the samples" },
    { "name", "vae", "name of the model's folder in it" },
    { "channels", "24,48,64", "block_out_channels; each after the first halves the side" },
    { "groups", 8, "norm_num_groups" },
    { "batch", 8, "pictures a step", min = 1 },
    { "steps", 4000, "steps", min = 1 },
    { "lr", 1e-3, "learning rate" },
    { "kl", 2e-3, "weight of the KL term for each latent value" },
    { "seed", 1, "of weights, pictures and noise", seed = true },
}
weft.configure { output = o.output, seed = o.seed }
weft.make_folder(o.output)
local shapes = require "shapes_data"

local down, up = {}, {}
for _ in o.channels:gmatch("%d+") do down[#down + 1], up[#up + 1] = '"DownEncoderBlock2D"', '"UpDecoderBlock2D"' end
local vae = weft.node.VAEFromConfig { seed = o.seed, config = ([[{"block_out_channels": [%s], "down_block_types": [%s], "up_block_types": [%s],
    "layers_per_block": 1, "norm_num_groups": %d}]]):format(o.channels, table.concat(down, ","), table.concat(up, ","), o.groups) }
weft.train(vae)
local opt = weft.optimizer { kind = "adamw", lr = o.lr, weight_decay = 0, params = vae }
local ema = weft.ema { params = vae, decay = 0.999 }
local data, started, mean_loss = shapes.rng(o.seed), weft.clock(), nil

local function reconstruct(x)       -- what the latents' means lead back to
    local mean = weft.node.VAEMoments { vae = vae, pixels = x }
    return weft.node.VAEReconstruct { vae = vae, latent = mean }
end

for step = 1, o.steps do
    local scope <close> = weft.scope()
    local x = shapes.batch(data, o.batch)
    do
        local tape <close> = weft.tape()
        local mean, logvar = weft.node.VAEMoments { vae = vae, pixels = x }
        local y = weft.node.VAEReconstruct { vae = vae, latent = mean + (logvar * 0.5):exp() * weft.randn(mean.shape) }
        local d = (y - x) * 2
        local kl = (mean:square() + logvar:exp() - logvar - 1):mean() * 0.5
        local loss = tape:backward(d:abs():mean() + d:square():mean() + kl * o.kl)
        mean_loss = mean_loss and mean_loss + 0.02 * (loss - mean_loss) or loss
    end
    opt:clip(1.0)
    opt:factor(weft.lr_factor("cosine", step - 1, { warmup = 100, total = o.steps }))
    opt:step()
    opt:zero_grad()
    ema:step()
    if step % 100 == 0 then
        print(("step %d/%d  loss %.4f  %.3f s/step"):format(step, o.steps, mean_loss, (weft.clock() - started) / step))
        io.stdout:flush()
    end
    if step % 500 == 0 or step == o.steps then
        ema:swap()
        local some = shapes.batch(shapes.rng(99), 8)
        weft.save_image(weft.concat({ some, reconstruct(some) }, 2):reshape { 1, 8 * 128, 64, 3 }:clamp(0, 1), o.output .. "/" .. o.name .. ".png")
        -- the latents' spread tells the factor that makes it 1 for the UNet
        local many = weft.node.VAEMoments { vae = vae, pixels = (shapes.batch(shapes.rng(100), 64)) }
        local spread = (many:square():mean() - many:mean():square()):sqrt():item()
        print(("scaling_factor %.5f"):format(1 / spread))
        weft.node.DiffusersSave { vae = vae, folder = o.name, dtype = "f32" }
        ema:swap()
    end
end
