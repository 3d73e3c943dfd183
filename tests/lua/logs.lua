-- JSON, logs and noise for training from Lua: GOLDEN (losses.safetensors); FOLDER is where this runs.
local weft = require "weft"
local golden = arg[1]

local function same(a, b) assert(a == b, ("%s, expected %s"):format(tostring(a), tostring(b))) end
local function fails(part, f, ...)
    local ok, why = pcall(f, ...)
    assert(not ok and tostring(why):find(part, 1, true), ("%s, expected an error with %s"):format(tostring(why), part))
end

-- JSON
same(weft.to_json { b = { 1, 2.5, true }, a = "ä\n\"", [ "" ] = {} }, '{"":[],"a":"ä\\n\\"","b":[1,2.5,true]}')
same(weft.to_json(math.maxinteger), "9223372036854775807")
same(weft.from_json "9223372036854775807", math.maxinteger)
same(weft.from_json(weft.to_json(0.1 + 0.2)), 0.1 + 0.2)
local back = weft.from_json '{"x": [1, null, {"y": false}], "z": 1e3}'
same(back.x[1], 1)
same(back.x[3].y, false)
same(math.type(back.z), "integer")
local loop = {}
loop[1] = loop
fails("too deep", weft.to_json, loop)
fails("JSON has no", weft.to_json, { 0 / 0 })
fails("JSON has no inf", weft.to_json, { 1 / 0 })
fails("JSON has no a function", weft.to_json, { print })
fails("keys are texts", weft.to_json, { [2] = 1 })
fails("not UTF-8", weft.to_json, "\xff")
fails("not UTF-8", weft.to_json, "a\0b")
fails("JSON:1:", weft.from_json, "[1,]")
fails("a text is wanted, not nothing", weft.from_json)

-- Logs
local log = weft.csv_log("log.csv", { "step", "loss", "lr" }, 0)
log:row(1, { 0.5, 1e-3 })
log:row(2, { nil, 2 })
log:close()
fails("closed", log.row, log, 3, { 1, 2 })
same(io.open("log.csv"):read "a", "step,loss,lr\n1,0.5,0.001\n2,,2\n")
fails("2 to 64 columns", weft.csv_log, "x.csv", { "step" })
fails("without commas", weft.csv_log, "x.csv", { "step", "a,b" })
local events = weft.event_log(".")
events:scalar("loss", 1, 0.5)
events:image("picture", 1, weft.grid(weft.full({ 3, 4, 5, 3 }, 0.5)))
fails("a picture to be saved", events.image, events, "x", 1, weft.zeros(2, 2, 3))
assert(events:path():find "tfevents")
events:close()
weft.curve("log.csv", "loss", "loss.png")
same(weft.load_image "loss.png".shape[3], 900)
local grid = weft.grid(weft.zeros(5, 4, 6, 1), 2, 1, 1)
same(table.concat(grid.shape, " "), "16 15 3")
weft.save_image(grid, "grid.png")
same(weft.load_image "grid.png"[1][1][1][1], 1)

-- Checkpoints and files
weft.make_folder "a/b//c/"
weft.make_folder "a/b"
fails("is no folder", weft.make_folder, "log.csv")
local w = weft.tensor { 1, 2, 3 }:requires_grad(true)
local path = weft.snapshot.save("a/b", 7, 1, function(folder) weft.save_parameters({ w = w }, folder .. "/w.safetensors") end)
same(path, "a/b/checkpoint-7")
fails("stop here", weft.snapshot.save, "a/b", 8, 1, function() error "stop here" end)
local latest, step, ignored = weft.snapshot.latest "a/b"
same(latest, path)
same(step, 7)
same(ignored, "")
same(weft.snapshot.check("a/b", 7), path)
fails("checkpoint-9", weft.snapshot.check, "a/b", 9)
local v = weft.tensor { 0, 0, 0 }:requires_grad(true)
weft.load_parameters({ w = v }, path .. "/w.safetensors")
same(table.concat(v:tolist(), " "), "1.0 2.0 3.0")
fails("x is missing", weft.load_parameters, { x = v }, path .. "/w.safetensors")
os.remove(path .. "/w.safetensors")
same(weft.snapshot.latest "a/b", nil)
assert(select(3, weft.snapshot.latest "a/b"):find "w.safetensors is missing")

-- Generators
weft.configure { seed = 5 }
local first = weft.randn(4)
local state = weft.random_state()
local second = weft.randn(4):tolist()[1]
weft.random_state(state)
same(weft.randn(4):tolist()[1], second)
fails("no state of a generator", weft.random_state, "x")
same(weft.interrupts "note", false)
same(weft.interrupts "stop", false)

-- Noise
local want = weft.load_tensors(golden)
local noise, mixed = weft.training_noise({ 2, 4, 5, 3 }, { seed = 4, offset = 0.1, perturbation = 0.2 })
for name, t in pairs { ["drawn.noise"] = noise, ["drawn.mixed"] = mixed } do
    local off = (t - want[name]):abs():max():item()
    assert(off < 1e-6, name .. ": off by " .. off)      -- randn to its last bits, and one rounding of a sum
end
local plain, also = weft.training_noise(noise, { seed = 4 })
same(plain, also)
fails("no option ofset", weft.training_noise, noise, { ofset = 1 })
print "ok logs"
