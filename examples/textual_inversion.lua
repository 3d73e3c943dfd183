-- Textual inversion (arXiv:2208.01618): teaches a Stable Diffusion a new word for the subject or the style of a few pictures. Only the word's vectors change.
local weft = require "weft"
local sd = weft.stable_diffusion
local o = weft.args {
    "Learns a new token from a few pictures and saves it as learned_embeds.safetensors, for Weft, ComfyUI and diffusers.",
    { "model", nil, "a folder of diffusers or a .safetensors file, in one of the models folders", required = true },
    { "models", "models", "folder with diffusers/ and checkpoints/" },
    { "data", nil, "folder of pictures", required = true },
    { "placeholder_token", nil, "the new word, such as <my-cat>", required = true },
    { "initializer_token", nil, "a word of one token that means about the same: cat", required = true },
    { "num_vectors", 1, "tokens that the new word takes the place of", min = 1 },
    { "learnable_property", "object", "what the pictures have in common", choices = { "object", "style" } },
    { "output", "inversion", "folder for the file, logs, samples and checkpoints" },
    { "resolution", 512, "side of the pictures", min = 8 },
    { "center_crop", false, "crop from the middle, not anywhere" },
    { "random_flip", true, "mirror half of the pictures" },
    { "batch", 1, "pictures at a time", min = 1 },
    { "accumulate", 1, "batches for each step", min = 1 },
    { "steps", 5000, "steps; 0: by epochs", min = 0 },
    { "epochs", 100, "times that all pictures are seen, each as often as --repeats says", min = 1 },
    { "repeats", 100, "how often a picture counts in an epoch", min = 1 },
    { "lr", 1e-4, "learning rate" },
    { "scale_lr", false, "times the pictures in a step" },
    { "schedule", "constant", "of the learning rate", choices = { "constant", "linear", "cosine", "cosine_with_restarts", "polynomial" } },
    { "warmup", 500, "steps until the full learning rate", min = 0 },
    { "recompute", true, "compute activations again for the gradient: less memory, more time" },
    { "checkpoint_every", 500, "steps between checkpoints; each has its learned_embeds.safetensors" },
    { "checkpoint_limit", 3, "checkpoints that are kept" },
    { "resume", nil, "latest, or the number of a checkpoint's step" },
    { "prompt", nil, "what to draw while training; it has the new word in it" },
    { "validate_every", 100, "steps between drawings" },
    { "guidance", 7.5, "guidance scale of the drawings" },
    { "seed", 0, "", seed = true },
}
local templates = ({
    object = { "%s", "a picture of %s", "a photograph that shows %s", "%s, seen from near by", "%s in the middle of the picture", "one %s and nothing else",
               "a bright picture of %s", "a dark picture of %s", "a sharp photograph of %s", "a small %s, photographed", "the %s I have", "what %s looks like" },
    style = { "in the style of %s", "a picture in the style of %s", "a painting as %s would paint it", "a drawing, %s", "a landscape in the style of %s",
              "a portrait by %s", "the colours of %s", "a scene as %s sees it", "a sketch in the manner of %s", "a large work by %s" },
})[o.learnable_property]
weft.configure { models = { o.models }, output = o.output }
local base = sd.load(o.model)
local clip = weft.node.EmbeddingCreate { clip = base.clip, token = o.placeholder_token, initializer = o.initializer_token, vectors = o.num_vectors }
weft.train(clip)
weft.recompute(o.recompute)
local m, learned = sd.with(base, base.model, clip), weft.parameters(clip)[1].tensor
local data <close> = weft.dataset { folder = o.data, unit = true, size = o.resolution, resize = "bicubic", center_crop = o.center_crop,
    random_flip = o.random_flip, batch = o.batch, shuffle = true, seed = o.seed }
local each = o.batch * o.accumulate                 -- pictures in a step
local function save(folder) weft.save_tensors(folder .. "/learned_embeds.safetensors", { [o.placeholder_token] = learned }, { format = "pt" }) end

weft.trainer {
    model = clip, data = data, accumulate = o.accumulate, seed = o.seed, optimizer = "adamw", lr = o.scale_lr and o.lr * each or o.lr,
    max_steps = o.steps > 0 and o.steps or o.epochs * math.ceil(#data * o.repeats / each), schedule = o.schedule, warmup = o.warmup,
    log_dir = o.output .. "/log", checkpoint_every = o.checkpoint_every, checkpoint_limit = o.checkpoint_limit, resume = o.resume, save = save,
    step = function(batch, run)
        local captions = {}
        for i, k in ipairs(weft.randint(1, #templates + 1, { batch.size }, { generator = run.rng }):tolist()) do
            captions[i] = templates[k]:format(o.placeholder_token)
        end
        local latents = weft.no_grad(sd.encode, m, batch.images, run.rng)
        return (sd.loss(m, { latents = latents, context = sd.context(m, captions), rng = run.rng }))
    end,
    validate_every = o.prompt and o.validate_every or 0,
    validate = function()
        return sd.sample(m, { prompts = { o.prompt }, guidance = o.guidance, seed = o.seed, width = o.resolution, height = o.resolution })
    end,
}:run()
save(o.output)
print(o.output .. "/learned_embeds.safetensors")
