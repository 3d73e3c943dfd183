-- Sampling from an unconditional model: the denoising loop, for sample_ddpm.lua and train_ddpm.lua.
local weft = require "weft"
local M = {}

-- o: count, size, steps, scheduler, eta, seed. → pictures (count, size, size, 3) in [0, 1]
function M.sample(model, o)
    local scheduler, timesteps, _, _, start = weft.node.Scheduler { model = model, scheduler = o.scheduler, steps = o.steps, eta = o.eta or 0 }
    local noise, state = weft.node.Noise { like = weft.zeros { o.count, o.size, o.size, 3 }, seed = o.seed }
    local x = noise * start
    for i, timestep in weft.progress_bar.each("sample", timesteps:tolist()) do
        local scope <close> = weft.scope()
        local scaled = weft.node.ScaleModelInput { scheduler = scheduler, step = i - 1, sample = x }
        local prediction = weft.node.UNetStep { model = model, sample = scaled, timestep = timestep }
        local next, _, after = weft.node.SchedulerStep { scheduler = scheduler, step = i - 1, prediction = prediction, sample = x, state = state }
        x, state = scope:keep(next), scope:keep(after)
    end
    return (x * 0.5 + 0.5):clamp(0, 1)
end

return M
