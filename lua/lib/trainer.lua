-- A training run: steps, logs, checkpoints, resuming to the bit.
--
--     weft.train(unet)
--     local run = weft.trainer {
--         model = unet,                        -- whose trained weights are changed: an object, a tensor, or a list (see weft.parameters)
--         data = data,                         -- data:next() gives a batch; data:state() and data:restore(state) let it resume.
--                                              -- Or a function of the batch's number, 1 … steps · accumulate
--         step = function(batch, run)          -- the loss, and, if wanted, {name = number} to be logged
--             local noise = weft.randn(shape, { generator = run.rng })
--             return loss
--         end,
--         optimizer = "adamw",                 -- a kind, a table for weft.optimizer, or an optimizer
--         lr = 1e-4, schedule = "cosine", warmup = 500,   -- schedule: a kind, a table for weft.lr_factor with kind, or a function of the step
--         max_steps = 10000, accumulate = 4, clip = 1.0, seed = 0,
--         ema = true,                          -- or a table for weft.ema
--         log_dir = "runs/first", log_every = 10, metrics = { "names of numbers for the CSV file" },
--         checkpoint_every = 500, checkpoint_limit = 3, resume = "latest",    -- or the number of a step
--         save = function(folder, run) … end,  -- puts more into each checkpoint
--         validate_every = 500, validate = function(run) return pictures end, -- (N, H, W, 3), or {images = pictures, name = number}
--     }
--     run:run()
--
-- One step is `accumulate` batches, the mean of whose losses is what counts; then clipping, the optimizer, the average. What step and
-- validate make is freed when they return; run:keep(t) lets a tensor live on. validate runs with the average in the model's place, without
-- gradients, and its random numbers do not change the training's.
--
-- log_dir: log.csv (step, loss, lr, grad_norm, metrics), TensorBoard's events, loss.png, samples/step-N.png, checkpoint-N/ with
-- model.safetensors (the trained weights), optimizer.safetensors, ema.safetensors, state.json. A run that is killed at any moment and resumed
-- gives the same numbers as one that was not: so does everything drawn from run.rng, from weft's default generator and from math.random.
-- Ctrl-C saves a checkpoint of the last whole step and ends the program with status 130.

local weft = require "weft"

local Run = {}
Run.__index = Run

local defaults = {
    model = false, data = false, step = false, optimizer = "adamw", lr = false, schedule = "constant", warmup = 0, max_steps = false,
    accumulate = 1, clip = false, seed = 0, ema = false, log_dir = false, log_every = 1, metrics = {}, checkpoint_every = 0,
    checkpoint_limit = 0, resume = false, save = false, validate_every = 0, validate = false, quiet = false,
}

local function fail(...) error("trainer: " .. string.format(...), 0) end

-- ---- options ----------------------------------------------------------------------------------------------------------------

local function whole(o, name, least)
    o[name] = math.tointeger(o[name])
    if not o[name] or o[name] < least then fail("%s: a whole number from %d on is wanted", name, least) end
end

local function read_options(given)
    local o, names = {}, {}
    for name, value in pairs(defaults) do
        o[name] = value
        names[#names + 1] = name
    end
    table.sort(names)
    for name, value in pairs(given) do
        if defaults[name] == nil then
            local near = weft.nearest(tostring(name), names)
            fail("there is no option %s%s", tostring(name), near and "; did you mean " .. near .. "?" or "")
        end
        o[name] = value
    end
    for _, name in ipairs { "model", "data", "step", "max_steps" } do
        if not o[name] then fail("%s is missing", name) end
    end
    for name, least in pairs { max_steps = 1, accumulate = 1, warmup = 0, log_every = 1, checkpoint_every = 0, checkpoint_limit = 0,
                               validate_every = 0 } do
        whole(o, name, least)
    end
    if type(o.step) ~= "function" then fail("step: a function is wanted") end
    if o.validate_every > 0 and not o.validate then fail("validate_every is given, but no validate") end
    if not o.log_dir and (o.checkpoint_every > 0 or o.resume) then fail("checkpoints need a log_dir") end
    return o
end

-- What the learning rate is multiplied by after so many steps.
local function make_schedule(o)
    if type(o.schedule) == "function" then return o.schedule end
    local settings, kind = { warmup = o.warmup, total = o.max_steps }, o.schedule
    if type(o.schedule) == "table" then
        for name, value in pairs(o.schedule) do
            if name == "kind" then kind = value else settings[name] = value end
        end
        kind = kind ~= o.schedule and kind or fail "schedule: it has no kind"
    elseif kind == "constant" and o.warmup > 0 then kind = "constant_with_warmup" end
    return function(step, lr)
        settings.lr = lr
        return weft.lr_factor(kind, step, settings)
    end
end

local function make_optimizer(o)
    if type(o.optimizer) == "userdata" then return o.optimizer end
    local settings = { params = o.model }
    if type(o.optimizer) == "string" then settings.kind = o.optimizer
    else for name, value in pairs(o.optimizer) do settings[name] = value end end
    if o.lr then settings.lr = o.lr end
    return weft.optimizer(settings)
end

local function make_ema(o)
    if not o.ema then return nil end
    local settings = { params = o.model }
    if type(o.ema) == "table" then for name, value in pairs(o.ema) do settings[name] = value end end
    return weft.ema(settings)
end

-- ---- states -----------------------------------------------------------------------------------------------------------------

-- A value for JSON, in which texts may be any bytes: {hex = "…"}.
local function pack(value)
    if type(value) == "string" and value:find "[^\32-\126]" then
        return { hex = value:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end) }
    end
    if type(value) ~= "table" then return value end
    local out = {}
    for k, v in pairs(value) do out[k] = pack(v) end
    return out
end

local function unpack(value)
    if type(value) ~= "table" then return value end
    if type(value.hex) == "string" and next(value) == "hex" and next(value, "hex") == nil then
        return (value.hex:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end))
    end
    local out = {}
    for k, v in pairs(value) do out[k] = unpack(v) end
    return out
end

-- Everything that decides what comes next, but for weights and moments.
function Run:remember()
    local data = self.options.data
    return { step = self.step, images = self.images, rng = self.rng:state(), random = weft.random_state(),
             data = type(data) ~= "function" and data.state and data:state() or nil }
end

function Run:recall_random(state)
    self.rng:restore(state.rng)
    if state.random then weft.random_state(state.random) end
end

-- ---- one step ---------------------------------------------------------------------------------------------------------------

local function images_of(batch)
    if type(batch) == "userdata" then return batch.shape and batch.shape[1] or 1 end
    if type(batch) ~= "table" then return 1 end
    local t = batch.images or batch.latents or batch[1]
    return type(t) == "userdata" and t.shape and t.shape[1] or #batch > 0 and #batch or 1
end

local function finite(x) return x == x and x > -math.huge and x < math.huge end

function Run:next_batch(number)
    local data = self.options.data
    local batch
    if type(data) == "function" then batch = data(number) else batch = data:next() end
    if batch == nil then fail("step %d: data has no batch", self.step + 1) end
    return batch
end

-- Runs a batch once more, watched, and tells where the first number that is not finite came up.
function Run:find_fault(batch, state)
    self:recall_random(state)
    weft.watch_finite(true)
    local _, why = pcall(function()
        local tape <close> = weft.tape()
        tape:backward((self.options.step(batch, self)))
    end)
    weft.watch_finite(false)
    self.optimizer:zero_grad()
    return why and "the first: " .. tostring(why) or "repeated, it does not come up again"
end

-- One batch's share of the gradients.
function Run:add_batch(k, sums)
    local o = self.options
    local scope <close> = weft.scope()
    self.scope = scope
    local batch = self:next_batch(self.step * o.accumulate + k)
    local before = { rng = self.rng:state(), random = weft.random_state() }
    local value, metrics
    do
        local tape <close> = weft.tape()
        local loss
        loss, metrics = o.step(batch, self)
        if type(loss) ~= "userdata" then fail("step %d: step gave no loss", self.step + 1) end
        value = tape:backward(loss, 1 / o.accumulate)
    end
    if not finite(value) then fail("step %d: the loss is %s; %s", self.step + 1, value, self:find_fault(batch, before)) end
    sums.loss = sums.loss + value
    sums.images = sums.images + images_of(batch)
    for name, number in pairs(metrics or {}) do
        if type(number) == "userdata" then number = number:item() end
        sums.metrics[name] = (sums.metrics[name] or 0) + number
    end
    -- A loss may be finite and its gradients not: looked at once for the whole step, in find_fault's reach while there is one batch.
    if k == o.accumulate then
        sums.norm = self.optimizer:norm()
        if not finite(sums.norm) then
            local name = self.optimizer:not_finite()
            fail("step %d: the gradient of %s is not finite (the loss is %.6g); %s", self.step + 1, name or "the sum", value,
                 self:find_fault(batch, before))
        end
        if o.clip then self.optimizer:clip(o.clip) end
    end
end

-- The gradients of a step, with nothing changed yet.
function Run:gradients()
    local sums = { loss = 0, images = 0, metrics = {} }
    math.randomseed(self.options.seed, self.step)
    for k = 1, self.options.accumulate do self:add_batch(k, sums) end
    local n = self.options.accumulate
    sums.loss = sums.loss / n
    for name, number in pairs(sums.metrics) do sums.metrics[name] = number / n end
    return sums
end

function Run:update(sums)
    local lr = self.base_lr
    self.optimizer:factor(self.schedule(self.step, lr))
    sums.lr = self.optimizer:lr()
    self.optimizer:step()
    self.optimizer:zero_grad()
    if self.ema then self.ema:step() end
    self.step = self.step + 1
    self.images = self.images + sums.images
end

-- ---- telling ----------------------------------------------------------------------------------------------------------------

local function duration(seconds)
    seconds = math.floor(seconds + 0.5)
    if seconds >= 3600 then return ("%d:%02d:%02d"):format(seconds // 3600, seconds // 60 % 60, seconds % 60) end
    return ("%d:%02d"):format(seconds // 60, seconds % 60)
end

function Run:say(...)
    if self.options.quiet then return end
    if self.bar_shown then io.stderr:write "\n" end
    self.bar_shown = false
    io.stderr:write(string.format(...), "\n")
end

function Run:show(sums)
    local o = self.options
    local terminal = weft.terminal()
    local every = terminal and 1 or math.max(1, o.max_steps // 20)
    if o.quiet or (self.step % every ~= 0 and self.step < o.max_steps) then return end
    local steps, width = self.step - self.first_step, 20
    local each = self.seconds / math.max(1, steps)
    local filled = width * self.step // o.max_steps
    local line = ("train [%s%s] %d/%d  loss %.4g  lr %.3g  %.3g images/s  %s left"):format(("#"):rep(filled), (" "):rep(width - filled),
        self.step, o.max_steps, sums.loss, sums.lr, self.session_images / math.max(self.seconds, 1e-9), duration(each * (o.max_steps - self.step)))
    io.stderr:write(terminal and "\r" or "", line, terminal and "\27[K" or "\n")
    io.stderr:flush()
    self.bar_shown = terminal
end

function Run:log(sums)
    self:show(sums)
    if not self.csv or (self.step % self.options.log_every ~= 0 and self.step < self.options.max_steps) then return end
    local row = { sums.loss, sums.lr, sums.norm }
    for i, name in ipairs(self.options.metrics) do row[3 + i] = sums.metrics[name] or 0 / 0 end
    self.csv:row(self.step, row)
    self.events:scalar("train/loss", self.step, sums.loss)
    self.events:scalar("train/lr", self.step, sums.lr)
    self.events:scalar("train/grad_norm", self.step, sums.norm)
    self.events:scalar("train/images_per_second", self.step, self.session_images / math.max(self.seconds, 1e-9))
    for name, number in pairs(sums.metrics) do self.events:scalar("train/" .. name, self.step, number) end
end

-- ---- checkpoints ------------------------------------------------------------------------------------------------------------

function Run:draw()
    local folder = self.options.log_dir
    if folder and self.step > 0 then weft.curve(folder .. "/log.csv", "loss", folder .. "/loss.png") end
end

function Run:checkpoint(state)
    local o = self.options
    if not o.log_dir then return end
    state = state or self:remember()
    local path = weft.snapshot.save(o.log_dir, self.step, o.checkpoint_limit, function(folder)
        weft.save_parameters(o.model, folder .. "/model.safetensors")
        self.optimizer:save(folder .. "/optimizer.safetensors")
        if self.ema then self.ema:save(folder .. "/ema.safetensors") end
        if o.save then o.save(folder, self) end
        weft.write_file(folder .. "/state.json", weft.to_json(pack(state), true) .. "\n")
    end)
    self.saved = self.step
    self:draw()
    return path
end

function Run:restore(path)
    local o = self.options
    local file = assert(io.open(path .. "/state.json", "rb"))
    local state = unpack(weft.from_json(file:read "a"))
    file:close()
    weft.load_parameters(o.model, path .. "/model.safetensors")
    self.optimizer:load(path .. "/optimizer.safetensors")
    if self.ema then self.ema:load(path .. "/ema.safetensors") end
    self:recall_random(state)
    if type(o.data) ~= "function" and o.data.restore and state.data ~= nil then o.data:restore(state.data) end
    self.step, self.images, self.saved = state.step, state.images, state.step
    self:say("resumed from %s", path)
end

-- Where the run begins: anew, or behind a checkpoint.
function Run:open()
    local o = self.options
    if not o.log_dir then return end
    weft.make_folder(o.log_dir)
    weft.snapshot.tidy(o.log_dir)
    local path, step, ignored = weft.snapshot.latest(o.log_dir)
    if ignored ~= "" then self:say("%s", (ignored:gsub("\n$", ""))) end
    if path and not o.resume then
        fail('%s has checkpoints of an earlier run: resume = "latest" goes on from them; or give another log_dir', o.log_dir)
    end
    if o.resume and o.resume ~= "latest" then
        step = math.tointeger(o.resume) or math.tointeger(tostring(o.resume):match "^checkpoint%-(%d+)$")
        if not step then fail('resume: "latest" or the number of a step is wanted, not %s', tostring(o.resume)) end
        path = weft.snapshot.check(o.log_dir, step)
        if weft.snapshot.set_aside(o.log_dir, step) > 0 then self:say("later checkpoints are set aside as checkpoint-N.old") end
    end
    if path then self:restore(path) end
    local columns = { "step", "loss", "lr", "grad_norm" }
    for _, name in ipairs(o.metrics) do columns[#columns + 1] = name end
    self.csv = weft.csv_log(o.log_dir .. "/log.csv", columns, self.step)
    self.events = weft.event_log(o.log_dir, self.step)
end

-- ---- validation -------------------------------------------------------------------------------------------------------------

function Run:show_pictures(pictures)
    local columns = math.ceil(math.sqrt(pictures.shape[1]))
    local grid = weft.grid(pictures, columns)
    if self.events then
        weft.make_folder(self.options.log_dir .. "/samples")
        weft.save_image(grid, ("%s/samples/step-%d.png"):format(self.options.log_dir, self.step))
        self.events:image("validation/samples", self.step, grid)
    end
end

function Run:validate()
    local before = self:remember()
    if self.ema then self.ema:swap() end
    weft.interrupts "cancel"
    local ok, why = pcall(function()
        local scope <close> = weft.scope()
        self.scope = scope
        local result = weft.no_grad(self.options.validate, self)
        if type(result) == "userdata" then result = { images = result } end
        for name, value in pairs(result or {}) do
            if name == "images" then self:show_pictures(value)
            else
                if type(value) == "userdata" then value = value:item() end
                self:say("step %d: %s %.6g", self.step, name, value)
                if self.events then self.events:scalar("validation/" .. name, self.step, value) end
            end
        end
    end)
    local stop = weft.interrupts "note"
    if self.ema then self.ema:swap() end
    self:recall_random(before)
    if stop then self:stop(before) end
    if not ok then error(why, 0) end
end

-- ---- the run ----------------------------------------------------------------------------------------------------------------

function Run:stop(state)
    self.optimizer:zero_grad()
    if self.saved ~= self.step then self:checkpoint(state) end
    self:say("stopped after step %d%s", self.step, self.options.log_dir and "; a checkpoint is saved" or "")
    error("interrupted", 0)
end

function Run:loop()
    local o = self.options
    local started = weft.clock()
    while self.step < o.max_steps do
        local before = self:remember()
        if weft.interrupts "cancel" then self:stop(before) end
        local ok, sums = pcall(self.gradients, self)
        if weft.interrupts "note" then self:stop(before) end
        if not ok then
            self.optimizer:zero_grad()
            error(sums, 0)
        end
        self:update(sums)
        self.session_images = self.session_images + sums.images
        self.seconds = weft.clock() - started
        self:log(sums)
        if o.validate_every > 0 and self.step % o.validate_every == 0 then
            local paused = weft.clock()
            self:validate()
            started = started + weft.clock() - paused
        end
        if o.checkpoint_every > 0 and self.step % o.checkpoint_every == 0 then self:checkpoint() end
        self.last = sums
    end
    if self.saved ~= self.step then self:checkpoint() else self:draw() end
end

function Run:keep(...) return self.scope:keep(...) end

-- → the last step's {loss =, lr =, norm =, metrics =}; nothing where there was nothing left to do
function Run:run()
    self.first_step, self.session_images, self.seconds = self.step, 0, 0
    weft.interrupts "note"
    local ok, why = pcall(self.loop, self)
    if self.bar_shown then io.stderr:write "\n" end
    self.bar_shown = false
    weft.interrupts "stop"
    if not ok then error(why, 0) end
    return self.last
end

return function(given)
    local self = setmetatable({ options = read_options(given), step = 0, images = 0 }, Run)
    local o = self.options
    weft.configure { seed = o.seed }
    self.rng = weft.generator(o.seed)
    self.optimizer = make_optimizer(o)
    if self.optimizer:count() == 0 then fail "the model has no trained weights; weft.train(model) makes all of them so" end
    self.base_lr = self.optimizer:lr()
    self.schedule = make_schedule(o)
    self.ema = make_ema(o)
    self:open()
    return self
end
