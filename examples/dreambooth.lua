-- DreamBooth (arXiv:2208.12242): teaches a Stable Diffusion one subject from a few pictures of it, and keeps what it knew of its class by pictures of its own.
local weft = require "weft"
local sd = weft.stable_diffusion
local o = weft.args {
    "Fine-tunes a Stable Diffusion on a few pictures of one subject.",
    { "model", nil, "a folder of diffusers or a .safetensors file, in one of the models folders", required = true },
    { "models", "models", "folder with diffusers/ and checkpoints/" },
    { "instance_data", nil, "folder with pictures of the subject", required = true },
    { "instance_prompt", nil, "what they show, with a rare word for the subject: a photo of sks dog", required = true },
    { "class_data", nil, "folder for pictures of the class: prior preservation; those that are missing are drawn first" },
    { "class_prompt", nil, "what they show: a photo of a dog" },
    { "class_images", 100, "how many of them", min = 1 },
    { "prior_weight", 1.0, "how much they count" },
    { "output", "dreambooth", "folder for the model, logs, samples and checkpoints" },
    { "resolution", 512, "side of the pictures", min = 8 },
    { "batch", 1, "pictures of the subject at a time, and as many of the class", min = 1 },
    { "accumulate", 1, "batches for each step", min = 1 },
    { "steps", 400, "steps", min = 1 },
    { "lr", 5e-6, "learning rate" },
    { "train_text_encoder", false, "train the text encoder too" },
    { "recompute", false, "compute activations again for the gradient: less memory, more time" },
    { "guidance", 7.5, "guidance scale of what is drawn" },
    { "checkpoint_every", 200, "steps between checkpoints" },
    { "resume", nil, "latest, or the number of a checkpoint's step" },
    { "prompt", nil, "what to draw while training" },
    { "validate_every", 100, "steps between drawings" },
    { "dtype", "f16", "of the saved weights", choices = { "f16", "bf16", "f32" } },
    { "seed", 0, "", seed = true },
}
weft.configure { models = { o.models }, output = o.output }
local m = sd.load(o.model)
local function draw(prompt, seed)
    return sd.sample(m, { prompts = { prompt }, guidance = o.guidance, seed = seed, width = o.resolution, height = o.resolution })
end
local function pictures(folder)
    return weft.dataset { folder = folder, unit = true, size = o.resolution, batch = o.batch, shuffle = true, seed = o.seed }
end

local class
if o.class_data then
    if not o.class_prompt then error("--class_data wants a --class_prompt", 0) end
    weft.make_folder(o.class_data)
    for i in weft.progress_bar.each("class", o.class_images) do
        local path = ("%s/class_%04d.png"):format(o.class_data, i)
        local file = io.open(path)
        if file then file:close() else weft.save_image(draw(o.class_prompt, o.seed + i), path) end
    end
    class = pictures(o.class_data)
end

weft.train(m.model)
if o.train_text_encoder then weft.train(m.clip) end
weft.recompute(o.recompute)
-- Both sets as one, so that a run that is resumed goes on in both.
local own, data = pictures(o.instance_data), {}
function data.next()
    local batch = own:next()
    batch.class = class and class:next().images
    return batch
end
function data.state() return { own = own:state(), class = class and class:state() or nil } end
function data.restore(_, state)
    own:restore(state.own)
    if class then class:restore(state.class) end
end

local run = weft.trainer {
    model = o.train_text_encoder and { m.model, m.clip } or m.model, data = data, max_steps = o.steps, accumulate = o.accumulate,
    seed = o.seed, clip = 1.0, optimizer = "adamw", lr = o.lr, log_dir = o.output .. "/log", checkpoint_every = o.checkpoint_every,
    checkpoint_limit = 2, resume = o.resume,
    step = function(batch, run)
        local function loss(images, prompt)
            local latents = weft.no_grad(sd.encode, m, images, run.rng)
            local prompts = {}
            for i = 1, images.shape[1] do prompts[i] = prompt end
            return (sd.loss(m, { latents = latents, context = sd.context(m, prompts), rng = run.rng }))
        end
        local subject = loss(batch.images, o.instance_prompt)
        return batch.class and subject + loss(batch.class, o.class_prompt) * o.prior_weight or subject
    end,
    validate_every = o.prompt and o.validate_every or 0,
    validate = function() return draw(o.prompt, o.seed) end,
}
run:run()
weft.node.DiffusersSave { model = m.model, clip = m.clip, vae = m.vae, folder = "model", dtype = o.dtype }
print(o.output .. "/model")
