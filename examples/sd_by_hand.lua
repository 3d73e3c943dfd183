-- Stable Diffusion taken apart: text to numbers, numbers to context, noise to latents step by step, latents to a picture. Every line is a node; change any of them.
local weft = require "weft"
local o = weft.args {
    "Draws a picture with the single parts of a Stable Diffusion.",
    { "model", nil, "a .safetensors file in models/checkpoints, or a folder in models/diffusers", required = true },
    { "models", "models", "folder with checkpoints/ and diffusers/" },
    { "prompt", "a lighthouse at the edge of the sea", "what the picture shows" },
    { "negative", "", "what it must not show" },
    { "width", 512, "", min = 8 },
    { "height", 512, "", min = 8 },
    { "steps", 20, "", min = 1 },
    { "scheduler", "pndm", "", choices = { "ddpm", "ddim", "pndm", "unipc", "euler_discrete", "dpmsolver_multistep" } },
    { "guidance", 7.5, "how far the text pulls" },
    { "seed", 0, "where the noise starts", seed = true },
    { "output", "picture.png", "file for the picture" },
}
weft.configure { models = { o.models } }

local load = o.model:match "%.safetensors$" and function() return weft.node.CheckpointLoaderSimple { ckpt_name = o.model } end
    or function() return weft.node.DiffusersLoader { model_path = o.model } end
local model, clip, vae = load()

-- 1. text → token numbers → context vectors
local function encode(text)
    local ids, cut = weft.node.Tokenize { clip = clip, text = text }
    if cut > 0 then io.stderr:write(("%d tokens did not fit and are left out\n"):format(cut)) end
    return (weft.node.TextEncode { clip = clip, ids = ids })
end
local context, uncond_context = encode(o.prompt), encode(o.negative)

-- 2. the noise levels to walk down, and pure noise to start from (of the size that the autoencoder makes of such a picture)
local scheduler, timesteps, _, _, first_sigma = weft.node.Scheduler { model = model, scheduler = o.scheduler, steps = o.steps }
local blank = weft.node.VAEMoments { vae = vae, pixels = weft.zeros { 1, o.height, o.width, 3 } }
local noise, state = weft.node.Noise { like = blank, seed = o.seed }
local x = noise * first_sigma

-- 3. the denoising loop
for i, timestep in weft.progress_bar.each("sample", timesteps:tolist()) do
    local scope <close> = weft.scope()      -- frees what this step made
    local scaled = weft.node.ScaleModelInput { scheduler = scheduler, step = i - 1, sample = x }
    local cond, uncond = weft.node.UNetStep { model = model, sample = scaled, timestep = timestep, context = context, uncond_context = uncond_context }
    local prediction = weft.node.CFGMix { cond = cond, uncond = uncond, scale = o.guidance }
    local next, _, after = weft.node.SchedulerStep { scheduler = scheduler, step = i - 1, prediction = prediction, sample = x, state = state }
    x, state = scope:keep(next), scope:keep(after)
end

-- 4. latents → picture
local latent = weft.node.TensorToLatent { tensor = x, model = model }
weft.save_image(weft.node.VAEDecode { samples = latent, vae = vae }, o.output)
print(o.output)
