-- Graphs: building, editing, checking, running, the cache. arg[1]: a folder with models/checkpoints/tiny.safetensors;
-- arg[2]: graphs/txt2img.json.
package.path = (arg[0]:match "^.*/" or "./") .. "?.lua;" .. package.path
local check, weft = require "check", require "weft"
local top = arg[1]
weft.configure { threads = 1, models = top .. "/models", input = top .. "/input", output = top .. "/output",
    temp = top .. "/temp" }

-- by hand
local g = weft.graph.new()
local empty = g:add("EmptyImage", { width = 16, height = 8, color = 255 })
local scaled = g:add("ImageScale", { image = { empty, "IMAGE" }, width = 8, height = 4, upscale_method = "area" },
    "scaled")
local save = g:add("SaveImage", { images = { scaled }, filename_prefix = "by_hand" })
check.is(empty, "1")
check.is(scaled, "scaled")
check.is(save, "2")
check.is(g:get(empty, "batch_size"), 1)
check.is(g:get(empty, "width"), 16)
check.is(g:get(scaled, "upscale_method"), "area")
check.is(table.concat(g:get(scaled, "image"), " "), "1 0")
local seen = {}
for id, class in g:nodes() do seen[#seen + 1] = id .. "=" .. class end
check.is(table.concat(seen, " "), "1=EmptyImage scaled=ImageScale 2=SaveImage")
check.is(#g:check(), 0)
check.is(g:json(), '{"1":{"class_type":"EmptyImage","inputs":{"width":16,"height":8,"color":255,"batch_size":1}},' ..
    '"scaled":{"class_type":"ImageScale","inputs":{"image":["1",0],"upscale_method":"area","width":8,"height":4,"crop":"disabled"}},' ..
    '"2":{"class_type":"SaveImage","inputs":{"images":["scaled",0],"filename_prefix":"by_hand"}}}')

local events = {}
local r = g:run { event = function(what, id, class, file, seconds)
    events[#events + 1] = what .. " " .. id
    if what == "done" then check.is(math.type(seconds), "float") end
    if what == "wrote" then check.is(class, "SaveImage") end
end }
check.is(table.concat(events, ", "), "start 1, done 1, start scaled, done scaled, start 2, wrote 2, done 2")
check.is(r.ran, 3)
check.is(#r.files, 1)
check.is(r.files[1], top .. "/output/by_hand_00001_.png")
check.values(r:output(scaled)[1][1][1], { 0, 0, 1 })
check.shape(r:output("scaled", "IMAGE"), 1, 4, 8, 3)
check.throws("gave no such output", r.output, r, save)
check.throws("ImageScale has no output IMAG; did you mean IMAGE?", r.output, r, scaled, "IMAG")
check.throws("no such output", r.output, r, scaled, 1)
check.values(weft.load_image(r.files[1]), check.flat(r:output(scaled):tolist()))

-- what a picture carries is the graph
check.is(weft.graph.load(r.files[1]):json(), g:json())
g:save(top .. "/saved.json")
check.is(weft.graph.load(top .. "/saved.json"):json(), g:json())
check.is(weft.graph.parse(g:json(true)):json(), g:json())

-- only what changed runs; outputs always do
check.is(g:run().ran, 1)
g:set(scaled, "width", 4)
local second = g:run { targets = scaled }
check.is(second.ran, 1)
check.is(#second.files, 0)
check.shape(second:output(scaled), 1, 4, 4, 3)
check.throws("another graph was run since", r.output, r, scaled)
check.is(g:run({ targets = { scaled, empty } }).ran, 0)

-- two graphs may take turns; what two runs in a row did not use is gone
local turn = weft.graph.new()
local other = turn:add("EmptyImage", { width = 4, height = 4 })
check.is(g:run({ targets = scaled }).ran, 0)
for _ = 1, 3 do
    turn:run { targets = other }
    check.is(g:run({ targets = scaled }).ran, 0)
end
turn:run { targets = other }
turn:run { targets = other }
check.is(g:run({ targets = scaled }).ran, 2)

-- editing
g:link(scaled, "width", g:add("PrimitiveInt", { value = 3 }))
check.shape(g:run({ targets = scaled }):output(scaled), 1, 4, 3, 3)
g:set(scaled, "image", nil)
check.is(g:get(scaled, "image"), nil)
local faults = g:check()
check.is(#faults, 1)
check.is(faults[1].type, "required_input_missing")
check.is(faults[1].node, "scaled")
check.is(faults[1].class, "ImageScale")
check.is(faults[1].input, "image")
check.ok(faults[1].details:find "image")
g:set(scaled, "height", -1)
local e = check.throws("faults more", g.run, g)
check.is(#e.faults, 2)
check.is(e.node, "scaled")
check.is(check.throws("missing", g.run, g, { targets = scaled }).node, "scaled")
g:remove(scaled)
check.is(g:get(save, "images")[1], "scaled")
check.is(check.throws("not in the graph", g.run, g).type, "bad_linked_input")
g:set("2", "images", { 1, 0 })
check.is(g:run().ran, 1)

-- seeds keep their 64 bits
local s = weft.graph.new()
local k = s:add("KSampler", { seed = "18446744073709551615" })
check.is(s:get(k, "seed"), -1)
check.ok(s:json():find('"seed":18446744073709551615', 1, true), s:json())
s:set(k, "seed", (1 << 53) + 1)
check.ok(s:json():find('"seed":9007199254740993', 1, true))

-- mistakes
check.throws("ImageScale has no input widht; did you mean width?", g.add, g, "ImageScale", { widht = 1 })
check.throws("did you mean ImageScale?", g.add, g, "ImageScal")
check.throws("takes a link {id, output} to IMAGE", g.add, g, "ImageScale", { image = weft.zeros(2) })
check.throws("whole number", g.set, g, "1", "width", 1.5)
check.is(check.throws("no node 9", g.set, g, 9, "width", 1).node, "9")
check.throws("no node 9", g.remove, g, 9)
check.throws("already", g.add, g, "EmptyImage", {}, "1")
check.throws("has no output X", g.link, g, "2", "images", "1", "X")
check.throws("no option target; did you mean targets?", g.run, g, { target = 1 })
check.throws("there is no node 7", g.run, g, { targets = 7 })
check.throws("boo", g.run, g, { event = function() error "boo" end })
check.throws("graph:1:2", weft.graph.parse, "{")
check.is(check.throws("nothing.json", weft.graph.load, top .. "/nothing.json").status, "file")
check.is(check.throws("nowhere", g.save, g, top .. "/nowhere/x.json").status, "file")
check.throws("a graph is wanted", g.run, weft.zeros(1))
check.is(g:run().ran, 1)

-- a class in Lua inside a graph, cached as any other; it may run graphs itself
local calls = 0
weft.register {
    name = "Twice", inputs = { { name = "image", type = "IMAGE" }, { name = "times", type = "FLOAT", default = 2 } },
        outputs = { { name = "IMAGE", type = "IMAGE" } },
    run = function(inputs)
        calls = calls + 1
        local inner = weft.graph.new()
        local id = inner:add("PrimitiveFloat", { value = inputs.times })
        return inputs.image * inner:run({ targets = id }):output(id)
    end,
}
local t = weft.graph.new()
local picture = t:add("EmptyImage", { width = 4, height = 4, color = 0x202020 })
local twice = t:add("Twice", { image = { picture } })
check.near(t:run({ targets = twice }):output(twice)[1][1][1][1], 64 / 255, 1e-6)
check.is(t:run({ targets = twice }).ran, 0)
check.is(calls, 1)
t:set(twice, "times", 3)
check.near(t:run({ targets = twice }):output(twice)[1][1][1][1], 96 / 255, 1e-6)
check.is(calls, 2)

-- the tiny Stable Diffusion: a new seed runs the sampler and what follows, and neither loader nor text encoder
local d = weft.graph.load(arg[2])
local ids = {}
for id, class in d:nodes() do ids[class] = id end
d:set(ids.CheckpointLoaderSimple, "ckpt_name", "tiny.safetensors")
d:set(ids.EmptyLatentImage, "width", 64)
d:set(ids.EmptyLatentImage, "height", 64)
d:set(ids.KSampler, "steps", 2)
local function classes(run)
    local names = {}
    local result = d:run { event = function(what, _, class) if what == "start" then names[#names + 1] = class end end }
    check.is(result.ran, #names)
    table.sort(names)
    return table.concat(names, " "), result
end
local steps = 0
weft.progress(function(what, done, total)
    if what == "sample" then
        steps = math.max(steps, done)
        check.is(total, 2)
    end
end)
local all, run = classes()
check.is(all, "CLIPTextEncode CLIPTextEncode CheckpointLoaderSimple EmptyLatentImage KSampler SaveImage VAEDecode")
check.is(steps, 2)
local first = run:output(ids.VAEDecode)
check.is(run:output(ids.CheckpointLoaderSimple).type, "MODEL")
d:set(ids.KSampler, "seed", 12345)
local again, other = classes()
check.is(again, "KSampler SaveImage VAEDecode")
check.ok((first - other:output(ids.VAEDecode)):abs():max():item() > 0.01, "another seed, another picture")

-- … and the same nodes called by hand draw the same picture
local model, clip, vae = weft.node.CheckpointLoaderSimple { ckpt_name = "tiny.safetensors" }
local function encode(input)
    return weft.node.CLIPTextEncode { clip = clip, text = d:get(d:get(ids.KSampler, input)[1], "text") }
end
local latent = weft.node.KSampler {
    model = model, seed = 12345, steps = 2, cfg = d:get(ids.KSampler, "cfg"),
        sampler_name = d:get(ids.KSampler, "sampler_name"), scheduler = d:get(ids.KSampler, "scheduler"),
    positive = encode "positive", negative = encode "negative",
        latent_image = weft.node.EmptyLatentImage { width = 64, height = 64 },
}
check.is((weft.node.VAEDecode { samples = latent, vae = vae } - other:output(ids.VAEDecode)):abs():max():item(), 0.0)
check.is(check.throws("did you mean", weft.node.CheckpointLoaderSimple, { ckpt_name = "tiny.safetensor" }).class,
    "CheckpointLoaderSimple")

-- progress may stop the work, and may fail
weft.progress(function(what) return what ~= "sample" end)
d:set(ids.KSampler, "seed", 1)
check.is(check.throws("cancelled", d.run, d).status, "cancelled")
weft.progress(function() error "no bar" end)
check.throws("no bar", d.run, d)
weft.progress()
check.is(d:run().ran, 3)
check.throws("function", weft.progress, 3)
check.done()
