-- Pictures from an unconditional diffusion model (a folder with a UNet2DModel or a Unet): noise, and the loop that takes it away. The loop is in ddpm.lua.
local weft = require "weft"
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local o = weft.args {
    "Draws pictures with an unconditional diffusion model, such as one from train_ddpm.lua or train_unconditional_lucidrains.lua.",
    { "models", "ddpm", "folder that has the model's folder" },
    { "model", "model", "name of the model's folder" },
    { "count", 16, "pictures", min = 1 },
    { "size", 32, "their side: what the model was trained on", min = 4 },
    { "steps", 1000, "", min = 1 },
    { "scheduler", "ddpm", "model: the one it was trained for", choices = { "model", "gaussian_diffusion", "ddpm", "ddim", "pndm", "unipc", "euler_discrete", "dpmsolver_multistep" } },
    { "eta", 0.0, "ddim, gaussian_diffusion: how much noise each step adds; 1: as ddpm" },
    { "seed", 0, "where the noise starts", seed = true },
    { "output", "samples.png", "file for all of them" },
}
weft.configure { models = { o.models } }
local model = weft.node.UNet2DLoader { model_path = o.model }
local pictures = require "ddpm".sample(model, o)
weft.save_image(weft.grid(pictures, math.ceil(math.sqrt(o.count))), o.output)
print(o.output)
