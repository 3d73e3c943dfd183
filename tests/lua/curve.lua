-- Trains a UNet2DModel on data from a file, step by step as diffusers' tutorial on unconditional training does, for
-- test_loss_curve.c and tests/bench/loss_curve.py: MODELS MODEL DATA [THREADS]
-- MODELS/diffusers/MODEL has the model. DATA: images (n, C, H, W), noise (steps, batch, C, H, W), timesteps and order
-- (steps, batch; order counts from 0), and the texts lr, warmup, decay (of the averages).
-- Prints for each step its loss and its gradients' norm; then "average" and the averaged model's loss at the first step.
local weft = require "weft"
local models, name, file, threads = table.unpack(arg)
weft.configure { models = { models }, threads = tonumber(threads) or 0 }
local data, texts = weft.load_tensors(file)
local order = data.order:tolist()
local images = data.images:to_nhwc()

local model = weft.node.UNet2DLoader { model_path = name }
weft.train(model)
local opt = weft.optimizer { kind = "adamw", lr = tonumber(texts.lr), params = model }
local ema = weft.ema { params = model, decay = tonumber(texts.decay) }
local scheduler = weft.node.Scheduler { model = model, scheduler = "ddpm", steps = 1000 }

local function loss_of(step)
    local picks = {}
    for i, pick in ipairs(order[step]) do picks[i] = images:slice(1, pick + 1, 1) end
    local clean, noise, times = weft.concat(picks, 1), data.noise[step]:to_nhwc(), data.timesteps[step]
    local noisy = weft.node.AddNoise { scheduler = scheduler, samples = clean, noise = noise, timesteps = times }
    local predicted = weft.node.UNetStep { model = model, sample = noisy, timesteps = times }
    return (weft.node.Loss { prediction = predicted, scheduler = scheduler, clean = clean, noise = noise, timesteps = times })
end

for step = 1, #order do
    local scope <close> = weft.scope()
    local loss
    do
        local tape <close> = weft.tape()
        loss = tape:backward(loss_of(step))
    end
    local norm = opt:clip(1.0)
    opt:factor(weft.lr_factor("cosine", step - 1, { warmup = tonumber(texts.warmup), total = #order }))
    opt:step()
    opt:zero_grad()
    ema:step()
    print(("%d %.9g %.9g"):format(step, loss, norm))
    io.stdout:flush()
end
ema:swap()
print(("average %.9g"):format(loss_of(1):item()))
