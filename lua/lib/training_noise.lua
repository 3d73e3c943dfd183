-- Noise for a step of training, the same numbers as PyTorch's generator gives on the CPU:
--
--     local noise, mixed = weft.training_noise(latents, { generator = run.rng, offset = 0.1, perturbation = 0.1 })
--     local noisy = weft.node.AddNoise { scheduler = s, samples = latents, noise = mixed, timesteps = t }
--     local loss = weft.node.Loss { …, noise = noise, timesteps = t }
--
-- latents: (N, height, width, channels), or that as a list. offset: so much of one more number for each channel of each image, which teaches
-- a model dark and bright pictures (noise offset). perturbation: so much more noise in what the model sees only (input perturbation,
-- arXiv:2301.11706); without it `mixed` is `noise`. The draws come in diffusers' order.

local weft = require "weft"

local known = { generator = true, seed = true, offset = true, perturbation = true }

return function(like, options)
    options = options or {}
    for name in pairs(options) do
        if not known[name] then error("training_noise: there is no option " .. tostring(name), 2) end
    end
    local shape = type(like) == "table" and like or like.shape
    if #shape ~= 4 then error("training_noise: (N, height, width, channels) is wanted", 2) end
    local n, h, w, c = table.unpack(shape)
    local generator = options.generator or options.seed and weft.generator(options.seed) or nil
    local function draw(height, width) return weft.randn(n, c, height, width, { generator = generator }):to_nhwc() end
    local noise = draw(h, w)
    if (options.offset or 0) ~= 0 then noise = noise + options.offset * draw(1, 1) end
    if (options.perturbation or 0) == 0 then return noise, noise end
    return noise, noise + options.perturbation * draw(h, w)
end
