-- What the scripts for unconditional models share: pictures to train on, and the denoising loop.
local weft = require "weft"
local M = {}

-- Batches {images = (batch, size, size, 3) in [-1, 1]} for weft.trainer: of the folder o.data, or of drawn shapes. o: data, size, batch, seed; more: further
-- options for weft.dataset.
function M.data(o, more)
    if not o.data then
        local shapes = require "shapes_data"
        return function(number)
            local images = shapes.batch(shapes.rng(o.seed * 1000003 + number), o.batch)
            return { images = weft.resample(images, o.size, o.size, { mode = "area" }) * 2 - 1 }
        end
    end
    local options = { folder = o.data, size = o.size, random_flip = true, batch = o.batch, shuffle = true, seed = o.seed }
    for name, value in pairs(more or {}) do options[name] = value end
    return weft.dataset(options)
end

-- o: count, size, steps, scheduler, eta, seed. → pictures (count, size, size, 3) in [0, 1]. A model with self-conditioning sees what the last step took for the picture.
function M.sample(model, o)
    local scheduler, timesteps, _, _, start = weft.node.Scheduler { model = model, scheduler = o.scheduler, steps = o.steps, eta = o.eta or 0 }
    local noise, state = weft.node.Noise { like = weft.zeros { o.count, o.size, o.size, 3 }, seed = o.seed }
    local x, estimate = noise * start, nil
    for i, timestep in weft.progress_bar.each("sample", timesteps:tolist()) do
        local scope <close> = weft.scope()
        local scaled = weft.node.ScaleModelInput { scheduler = scheduler, step = i - 1, sample = x }
        local prediction = weft.node.UNetStep { model = model, sample = scaled, timestep = timestep, self_cond = estimate }
        local next, clean, after = weft.node.SchedulerStep { scheduler = scheduler, step = i - 1, prediction = prediction, sample = x, state = state }
        x, estimate, state = scope:keep(next), scope:keep(clean), scope:keep(after)
    end
    return (x * 0.5 + 0.5):clamp(0, 1)
end

return M
