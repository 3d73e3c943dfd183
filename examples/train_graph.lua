-- Trains by a graph: the graph is one step, from the pictures to the loss (graphs/train_ddpm.json, graphs/finetune_sd.json, or one of your own); this is the loop.
local weft = require "weft"
local o = weft.args {
    "Trains the model of a graph that ends in a Loss. What it says of the data, the noise and the loss is changed in the graph, or by --set.",
    { "graph", nil, "a graph with DatasetBatch, Noise, UNetStep and Loss", required = true },
    { "model", nil, "in the place of the graph's: a folder of diffusers or a .safetensors file, in one of the models folders" },
    { "set", nil, "changes before training: ID.INPUT=VALUE, more of them with ; between" },
    { "models", "models", "folder with diffusers/ and checkpoints/" },
    { "input", "input", "folder with the graph's folder of pictures" },
    { "output", "trained", "folder for the model, logs and checkpoints" },
    { "train_text_encoder", false, "train the text encoder too" },
    { "accumulate", 1, "batches for each step", min = 1 },
    { "steps", 1000, "steps", min = 1 },
    { "lr", 1e-5, "learning rate" },
    { "schedule", "constant", "of the learning rate", choices = { "constant", "linear", "cosine", "cosine_with_restarts", "polynomial" } },
    { "warmup", 0, "steps until the full learning rate" },
    { "recompute", false, "compute activations again for the gradient: less memory, more time" },
    { "ema", true, "save with the average of the weights" },
    { "checkpoint_every", 500, "steps between checkpoints" },
    { "resume", nil, "latest, or the number of a checkpoint's step" },
    { "seed", 0, "of the noise", seed = true },
}
weft.configure { models = { o.models }, input = o.input, output = o.output }
local g = weft.graph.load(o.graph)
local nodes = {}                                    -- ids by class
for id, class in g:nodes() do
    nodes[class] = nodes[class] or {}
    table.insert(nodes[class], id)
end
local function only(class)
    if not nodes[class] then error(("%s: there is no %s in it"):format(o.graph, class), 0) end
    return nodes[class][1]
end
if o.model then                                     -- another loader under the same id: what links to it stays as it is
    local id, file = g:get(only "UNetStep", "model")[1], o.model:match "%.safetensors$"
    g:remove(id)
    g:add(file and "CheckpointLoaderSimple" or "DiffusersLoader", { [file and "ckpt_name" or "model_path"] = o.model }, id)
end
for id, input, value in (o.set or ""):gmatch "([^;]+)%.([%w_]+)=([^;]*)" do
    local kind = type(g:get(id, input))
    g:set(id, input, kind == "number" and tonumber(value) or kind == "string" and value or value == "true")
end
local batch, loss = only "DatasetBatch", only "Loss"
-- What comes into these inputs, all by one run.
local links, targets = {}, {}
for class, input in pairs { UNetStep = "model", TextEncode = "clip", VAEMoments = "vae" } do
    links[input] = nodes[class] and g:get(nodes[class][1], input)
    targets[#targets + 1] = links[input] and links[input][1]
end
local first = g:run { targets = targets }
local function coming(input) return links[input] and first:output(table.unpack(links[input])) end
local model, clip, vae = coming "model", coming "clip", coming "vae"

weft.train(model)
if o.train_text_encoder then weft.train(clip or only "TextEncode") end
weft.recompute(o.recompute)

local run = weft.trainer {
    model = o.train_text_encoder and { model, clip } or model, max_steps = o.steps, accumulate = o.accumulate, seed = o.seed, clip = 1.0,
    optimizer = "adamw", lr = o.lr, schedule = o.schedule, warmup = o.warmup, ema = o.ema, log_dir = o.output .. "/log",
    checkpoint_every = o.checkpoint_every, checkpoint_limit = 3, resume = o.resume,
    data = function(number)
        g:set(batch, "batch", number - 1)
        return { images = g:run({ targets = batch }):output(batch) }
    end,
    step = function(_, run)
        for _, id in ipairs(nodes.Noise) do
            g:set(id, "seed", weft.randint(0, 1 << 53, 1, { generator = run.rng }):item())
        end
        return g:run({ targets = loss }):output(loss)
    end,
}
run:run()
if run.ema then run.ema:swap() end
weft.node.DiffusersSave { model = model, clip = clip, vae = vae, folder = "model", dtype = "f32" }
print(o.output .. "/model")
