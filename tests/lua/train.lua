-- A small training run, for test_trainer.c: FOLDER CASE [RESUME]. It uses everything that a run may depend on.
local weft = require "weft"
local folder, case, resume = arg[1], arg[2], arg[3]
local w = weft.tensor({ 0.1, -0.2, 0.3 }):requires_grad(true)
local b = weft.tensor({ 0.5 }):requires_grad(true)

-- Batches in an order of its own that it can go back to.
local data = { generator = weft.generator(7), taken = 0 }
function data:next()
    self.taken = self.taken + 1
    return { images = weft.randn(6, 3, { generator = self.generator }), taken = self.taken }
end
function data:state() return { generator = self.generator:state(), taken = self.taken } end
function data:restore(state)
    self.generator:restore(state.generator)
    self.taken = state.taken
end

local function step(batch, run)
    local x = batch.images
    local noise = weft.randn(6, { generator = run.rng }) + 0.1 * weft.rand(6) + 0.01 * math.random()
    local d = (x * w):sum(-1) + b - (x * weft.tensor { 1, -2, 3 }):sum(-1) - 0.1 * noise
    local loss = (d * d):mean()
    if case == "nan" and run.step == 4 then loss = loss + (w - 100):log():sum(-1) end
    if case == "nan_gradient" and run.step == 4 then loss = loss + ((w - w):abs():sqrt() * 0):sum(-1) end
    if case == "hang" and run.step == 4 then
        io.stdout:write "waiting\n"
        io.stdout:flush()
        for _ = 1, 1e9 do d = d * 1 end
    end
    return loss, { taken = batch.taken }
end

local run = weft.trainer {
    model = { w = w, b = b }, data = data, step = step, seed = 3,
    optimizer = { kind = "adamw", weight_decay = 0.01 }, lr = 0.05, schedule = "cosine", warmup = 5, max_steps = 24,
    accumulate = 2, clip = 5, ema = { decay = 0.9 }, log_dir = folder, metrics = { "taken" },
    checkpoint_every = 3, checkpoint_limit = 2, resume = tonumber(resume) or resume,
    save = function(path) weft.write_file(path .. "/more.txt", "more") end,
    validate_every = 12, validate = function(run)
        return { images = weft.rand(5, 4, 6, 3, { generator = run.rng }), distance = (w - weft.tensor { 1, -2, 3 }):abs():sum(-1) }
    end,
}
run:run()
print(("ok %.9g %.9g"):format(run.last and run.last.loss or -1, w:tolist()[1]))
