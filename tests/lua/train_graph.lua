-- Training by graphs: what a graph computes under a tape is what its nodes give one by one, and what is kept between runs is kept rightly.
-- arg[1]: the top of the sources, with graphs/ and examples/
package.path = (arg[0]:match "^.*/" or "./") .. "?.lua;" .. package.path
local check, weft = require "check", require "weft"
local top = arg[1]
weft.configure { threads = 1, models = top .. "/examples/models", input = top .. "/examples" }

local function same(a, b) return table.concat(a.shape, " ") == table.concat(b.shape, " ") and (a - b):abs():max():item() == 0 end

local function load(name, folder)
    local g = weft.graph.load(("%s/graphs/%s.json"):format(top, name))
    if folder then
        g:remove(1)
        g:add("DiffusersLoader", { model_path = folder }, 1)
        g:set(3, "size", 32)
    end
    g:set(3, "batch_size", 2)
    return g
end

-- The graph's outputs, and the classes that ran for them, sorted.
local function run(g, ...)
    local ran = {}
    local r = g:run { targets = { ... }, event = function(what, _, class) if what == "start" then ran[#ran + 1] = class end end }
    table.sort(ran)
    return r, table.concat(ran, " ")
end

-- The gradients that the loss of a step leaves, by name, copied; they are zero again.
local function gradients(of, step)
    local grads = {}
    do
        local tape <close> = weft.tape()
        local loss = step()
        grads.loss = loss * 1
        tape:backward(loss)
    end
    for i, p in ipairs(weft.parameters(of)) do
        grads[("%d %s"):format(i, p.name)] = p.tensor:grad() and p.tensor:grad() * 1 or nil
        p.tensor:zero_grad()
    end
    return grads
end

local function check_same_gradients(a, b, least)
    local n = 0
    for name, t in pairs(a) do
        n = n + 1
        check.ok(b[name] and same(t, b[name]), name .. " differs")
    end
    for name in pairs(b) do check.ok(a[name], name .. " is missing") end
    check.ok(n > least, n .. " gradients")
end

-- ---- the same loss and gradients as the nodes one by one, to the bit ----------------------------------------------------

do      -- a model of pixels
    local g = load "train_ddpm"
    g:set(1, "config", [[{"_class_name": "UNet2DModel", "sample_size": 16, "layers_per_block": 1, "block_out_channels": [16, 32],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 8}]])
    g:set(3, "size", 16)
    local model = run(g, 1):output(1)
    weft.train(model)
    local function by_graph() return g:run({ targets = 10 }):output(10) end
    local N = weft.node
    local function by_hand()
        local scheduler = N.Scheduler { model = model, scheduler = "ddpm" }
        local data = N.Dataset { folder = "pictures", size = 16, batch_size = 2, random_flip = true }
        local clean = N.ImageToTensor { image = (N.DatasetBatch { dataset = data, batch = g:get(4, "batch") }) }
        local noise, state = N.Noise { seed = g:get(6, "seed"), like = clean }
        local times = N.RandomTimesteps { scheduler = scheduler, like = clean, state = state }
        local noisy = N.AddNoise { scheduler = scheduler, samples = clean, noise = noise, timesteps = times }
        local said = N.UNetStep { model = model, sample = noisy, timesteps = times }
        return (N.Loss { prediction = said, scheduler = scheduler, clean = clean, noise = noise, timesteps = times })
    end
    local hand = gradients(model, by_hand)
    check_same_gradients(gradients(model, by_graph), hand, 30)
    check_same_gradients(gradients(model, by_graph), hand, 30)          -- again: nothing of the first pass is in the way

    -- three steps either way: the weights change, and are the same in the end
    local opt = weft.optimizer { kind = "adamw", lr = 1e-3, params = model }
    local start = weft.parameters(model)[1].tensor * 1
    local function steps(of)
        local losses = {}
        for k = 1, 3 do
            g:set(4, "batch", k)
            g:set(6, "seed", 10 + k)
            local tape <close> = weft.tape()
            losses[k] = tape:backward(of())
            opt:step()
            opt:zero_grad()
        end
        return losses
    end
    local kept, moments = os.tmpname(), os.tmpname()
    weft.save_parameters(model, kept)
    opt:save(moments)
    local a = steps(by_graph)
    local trained = weft.parameters(model)[1].tensor * 1
    check.ok(not same(trained, start), "the weights change")
    weft.load_parameters(model, kept)
    opt:load(moments)
    local b = steps(by_hand)
    check.ok(same(weft.parameters(model)[1].tensor, trained), "the same weights after three steps")
    for k = 1, 3 do check.is(a[k], b[k]) end
    os.remove(kept)
    os.remove(moments)
end

-- ---- what runs again -------------------------------------------------------------------------------------------------

local g = load("finetune_sd", "shapes")
local r, ran = run(g, 14)
check.is(ran, "AddNoise Dataset DatasetBatch DiffusersLoader Loss Noise Noise RandomTimesteps Scheduler TextEncode Tokenize UNetStep VAEMoments VAESample")
local model, clip, vae = r:output(1), r:output(1, "CLIP"), r:output(1, "VAE")
local before = r:output(14):item()
check.is(select(2, run(g, 14)), "")                 -- untrained, all of it is kept

weft.train(model, "*attn2*")
local function step() return g:run({ targets = 14 }):output(14) end
local first = gradients(model, step)
check.is(first.loss:item(), before)
check_same_gradients(gradients(model, step), first, 30)
-- under another tape what depends on the trained weights runs again; encoding the same pictures and captions does not
do
    local tape <close> = weft.tape()
    r, ran = run(g, 14)
    check.is(ran, "AddNoise Loss Noise RandomTimesteps Scheduler UNetStep VAESample")
    r, ran = run(g, 14)
    check.is(ran, "")                               -- under the same one it is noted already
    tape:backward(r:output(14))
    weft.optimizer({ params = model }):zero_grad()
end

-- without a tape: kept while the weights stay, run again once they change, by whatever changes them
check.is((weft.no_grad(function() return run(g, 14):output(14):item() end)), before)
check.is(select(2, run(g, 14)), "")
local opt = weft.optimizer { kind = "sgd", lr = 0.1, params = model }
local average = weft.ema { params = model, decay = 0.5 }
do
    local tape <close> = weft.tape()
    tape:backward(step())
    opt:step()
    opt:zero_grad()
end
r, ran = run(g, 14)
check.ok(ran:find "UNetStep" and not ran:find "VAEMoments" and not ran:find "TextEncode", ran)
local after = r:output(14):item()
check.ok(after ~= before, "a step changes the loss")
average:swap()                                      -- what it was made of: the weights before that step
check.is(run(g, 14):output(14):item(), before)
average:swap()
check.is(run(g, 14):output(14):item(), after)

-- other graphs in between do not lose the trained model
local other = weft.graph.new()
local small = other:add("EmptyImage", { width = 8, height = 8 })
for _ = 1, 3 do
    run(other, small)
    other:set(small, "width", other:get(small, "width") + 1)
end
r, ran = run(g, 14)
check.ok(not ran:find "DiffusersLoader", ran)
check.is(r:output(14):item(), after)
check.is(#weft.parameters(r:output(1)), #weft.parameters(model))

-- frozen again, and trained further: never what was computed before
weft.freeze(model)
check.is(run(g, 14):output(14):item(), after)
check.is(select(2, run(g, 14)), "")

-- the text encoder trained too: the same as the nodes one by one
weft.train(clip)
weft.train(model, "*attn2*")
local both = gradients({ model, clip }, step)
check.is(both.loss:item(), after)
check_same_gradients(both, gradients({ model, clip }, function()
    local N = weft.node
    local scheduler = N.Scheduler { model = model, scheduler = "ddpm" }
    local data = N.Dataset { folder = "pictures", size = 32, batch_size = 2, random_flip = true, caption_dropout = 0.1 }
    local images, captions = N.DatasetBatch { dataset = data }
    local context = N.TextEncode { clip = clip, ids = (N.Tokenize { clip = clip, texts = captions }) }
    local mean, logvar = N.VAEMoments { vae = vae, pixels = images }
    local clean = N.VAESample { mean = mean, logvar = logvar, noise = (N.Noise { seed = 1, like = mean }), model = model }
    local noise, state = N.Noise { seed = 0, like = clean }
    local times = N.RandomTimesteps { scheduler = scheduler, like = clean, state = state }
    local noisy = N.AddNoise { scheduler = scheduler, samples = clean, noise = noise, timesteps = times }
    local said = N.UNetStep { model = model, sample = noisy, timesteps = times, context = context }
    return (N.Loss { prediction = said, scheduler = scheduler, clean = clean, noise = noise, timesteps = times })
end), 80)
do
    local tape <close> = weft.tape()
    r, ran = run(g, 14)
    check.ok(ran:find "TextEncode" and ran:find "UNetStep" and not ran:find "VAEMoments", ran)
    tape:backward(r:output(14))
end
weft.freeze(clip)

-- ---- adapters are made once, also beside weights that are trained ----------------------------------------------------

g = load("finetune_sd", "shapes")
g:set(13, "model", { g:add("LoraCreate", { model = { 1 }, rank = 2 }, "lora"), 0 })
local lora = run(g, "lora"):output "lora"
weft.train(lora)
opt = weft.optimizer { kind = "sgd", lr = 1, params = lora }
local losses = {}
for k = 1, 3 do
    local tape <close> = weft.tape()
    losses[k] = tape:backward(step())
    opt:step()
    opt:zero_grad()
end
check.is(losses[1], after)                          -- up starts at 0
check.ok(losses[2] ~= losses[1] and losses[3] ~= losses[2])
check.done()
