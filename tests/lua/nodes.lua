-- Node classes as functions, and classes written in Lua.
package.path = (arg[0]:match "^.*/" or "./") .. "?.lua;" .. package.path
local check, weft = require "check", require "weft"
local node = weft.node
weft.configure { threads = 1 }

-- every kind of value goes in and comes out
check.is(node.PrimitiveInt { value = -5 }, -5)
check.is(node.PrimitiveInt { value = 2.0 }, 2)
check.is(node.PrimitiveFloat { value = 0.1 }, 0.1)
check.is(node.PrimitiveFloat { value = 2 }, 2.0)
check.is(node.PrimitiveBoolean { value = true }, true)
check.is(node.PrimitiveString { value = "é\n" }, "é\n")
check.is(node.PrimitiveString {}, "")
check.is(node.PrimitiveString(), "")
local image = node.EmptyImage { width = 16, height = 8, color = 0xff8000 }
check.shape(image, 1, 8, 16, 3)
check.values(image[1][1][1], { 1, 128 / 255, 0 }, 1e-7)
check.values(node.ImageInvert { image = image }[1][1][1], { 0, 1 - 128 / 255, 1 }, 1e-7)
local latent = node.EmptyLatentImage { width = 64, height = 32, batch_size = 2 }
check.is(latent.type, "LATENT")
check.ok(tostring(latent):find "^LATENT: .*4, 8, 4", tostring(latent))
check.is(node.RepeatLatentBatch { samples = latent, amount = 2 }.type, "LATENT")

-- mistakes: the message names class and input, the fields take it apart
local function refuses(part, fields, class, inputs)
    local e = check.throws(part, node[class], inputs)
    check.is(e.status, "argument")
    check.is(e.class, class)
    for k, v in pairs(fields) do check.is(e[k], v) end
end
refuses("EmptyImage has no input widht; did you mean width?", { input = "widht", type = "unknown_input" },
    "EmptyImage", { widht = 3 })
refuses("has no input 1", {}, "EmptyImage", { 3 })
refuses("input width: 0 is below the least allowed, 1", { input = "width", type = "value_smaller_than_min" },
    "EmptyImage", { width = 0 })
refuses("is above the most allowed", { input = "width", type = "value_bigger_than_max" }, "EmptyImage",
    { width = 1 << 40 })
refuses("takes a whole number, not 1.5", { input = "width", type = "invalid_input_type" }, "EmptyImage",
    { width = 1.5 })
refuses("takes a whole number, not the text \"8\"", { input = "width" }, "EmptyImage", { width = "8" })
refuses("not finite", { input = "value" }, "PrimitiveFloat", { value = 0 / 0 })
refuses("takes a number", { input = "value" }, "PrimitiveFloat", { value = true })
refuses("takes true or false", { input = "value" }, "PrimitiveBoolean", { value = 1 })
refuses("takes text", { input = "value" }, "PrimitiveString", { value = 1 })
refuses("zero bytes", { input = "value" }, "PrimitiveString", { value = "a\0b" })
refuses("input image (IMAGE) is missing", { input = "image", type = "required_input_missing" }, "ImageInvert", {})
refuses("takes a tensor, not a LATENT", { input = "image" }, "ImageInvert", { image = latent })
refuses("takes a LATENT, not a tensor", { input = "samples" }, "RepeatLatentBatch", { samples = image })
refuses("there is no \"arae\"; did you mean \"area\"?", { input = "upscale_method", type = "value_not_in_list" },
    "ImageScale", { image = image, upscale_method = "arae" })
check.throws("did you mean EmptyImage?", function() return node.EmptyImag end)
check.throws("a table {name = value}", node.EmptyImage, 3)
check.is(check.throws("ImageCrop", node.ImageCrop, { image = weft.zeros(2) }).class, "ImageCrop")
check.is(node.PrimitiveInt { value = 1 }, 1)

-- describing
local names = {}
for _, name in ipairs(weft.nodes()) do names[name] = true end
check.ok(names.KSampler and names.SaveImage)
local d = weft.describe "KSampler"
check.is(d.name, "KSampler")
check.is(d.output, false)
check.is(weft.describe("SaveImage").output, true)
local by_name = {}
for _, p in ipairs(d.inputs) do by_name[p.name] = p end
check.is(by_name.steps.default, 20)
check.is(by_name.steps.min, 1)
check.is(by_name.cfg.type, "FLOAT")
check.is(by_name.seed.max, -1)
check.is(by_name.model.type, "MODEL")
check.is(by_name.sampler_name.choices[1], "euler")
check.is(d.outputs[1].type, "LATENT")
check.throws("did you mean KSampler?", weft.describe, "KSamplr")

-- a class in Lua
local calls = 0
weft.register {
    name = "Brighten", category = "test", summary = "Brighter.",
    inputs = { { name = "image", type = "IMAGE" }, { name = "by", type = "FLOAT", default = 0.5, min = -1, max = 1 },
               { name = "mode", type = "COMBO", choices = { "a", "b" }, default = "b" },
                   { name = "mask", type = "MASK", optional = true },
               { name = "seed", type = "INT", seed = true }, { name = "text", type = "STRING", default = "t" },
                   { name = "flag", type = "BOOLEAN", default = true } },
    outputs = { { name = "IMAGE", type = "IMAGE" }, { name = "note", type = "STRING" },
        { name = "thing", type = "THING" }, { name = "seed", type = "INT" } },
    run = function(inputs)
        calls = calls + 1
        return (inputs.image + inputs.by):clamp(0, 1),
            inputs.mode .. inputs.text .. tostring(inputs.flag) .. tostring(inputs.mask), { by = inputs.by },
            inputs.seed
    end,
}
weft.register {
    name = "UseThing", inputs = { { name = "thing", type = "THING" } }, outputs = { { name = "by", type = "FLOAT" } },
    run = function(inputs) return inputs.thing.value.by end,
}
local bright, note, thing, seed = node.Brighten { image = image, by = 0.25, seed = "18446744073709551615" }
check.values(bright[1][1][1], { 1, 128 / 255 + 0.25, 0.25 }, 1e-6)
check.is(note, "bttruenil")
check.is(thing.type, "THING")
check.is(thing.value.by, 0.25)
check.is(seed, -1)
check.is(node.UseThing { thing = thing }, 0.25)
check.is(weft.describe("Brighten").inputs[2].max, 1.0)
refuses("2 is above the most allowed, 1", { input = "by" }, "Brighten", { image = image, by = 2 })

weft.register {
    name = "Fail", inputs = { { name = "how", type = "INT", min = 0, max = 9 } },
        outputs = { { name = "n", type = "INT" } },
    run = function(inputs)
        if inputs.how == 1 then error "one" end
        if inputs.how == 2 then return weft.zeros(2) + weft.zeros(3) end
        if inputs.how == 3 then return "x" end
        if inputs.how == 4 then return nil end
        if inputs.how == 5 then return node.Fail { how = 1 } end
        if inputs.how == 6 then return pcall(node.Fail, { how = 1 }) and 1 or 6 end
        if inputs.how == 7 then error(setmetatable({}, { __tostring = function() error "no text" end })) end
        if inputs.how == 8 then coroutine.yield() end
        return inputs.how
    end,
}
check.throws("nodes.lua:", node.Fail, { how = 1 })
check.is(check.throws("one", node.Fail, { how = 1 }).class, "Fail")
check.is(check.throws("do not go together", node.Fail, { how = 2 }).status, "shape")
check.throws("output n takes a whole number, not the text", node.Fail, { how = 3 })
check.throws("gave nothing for output n", node.Fail, { how = 4 })
check.throws("one", node.Fail, { how = 5 })
check.is(node.Fail { how = 6 }, 6)
check.ok(not pcall(node.Fail, { how = 7 }))
check.throws("yield", coroutine.wrap(node.Fail), { how = 8 })
check.is(coroutine.wrap(function() return node.Fail { how = 9 } end)(), 9)

-- what is no class
local function no_class(part, spec) check.throws(part, weft.register, spec) end
local function run() end
no_class("there is such a class", { name = "KSampler", run = run })
no_class("there is such a class", { name = "Fail", run = run })
no_class("a class has a name", { run = run })
no_class("a function is wanted", { name = "X" })
no_class("each has a name and a type", { name = "X", run = run, inputs = { { name = "a" } } })
no_class("twice", { name = "X", run = run, inputs = { { name = "a", type = "INT" }, { name = "a", type = "INT" } } })
no_class("between min and max", { name = "X", run = run,
    inputs = { { name = "a", type = "INT", min = 1, default = 0 } } })
no_class("none of its choices", { name = "X", run = run,
    inputs = { { name = "a", type = "COMBO", choices = { "b" }, default = "c" } } })
no_class("list of texts", { name = "X", run = run, inputs = { { name = "a", type = "COMBO" } } })
no_class("an output has one type", { name = "X", run = run, outputs = { { name = "a", type = "THING,MODEL" } } })
check.ok(not pcall(weft.describe, "X"), "a refused class is not there")
-- a Lua value cannot pass for a model, which C would read as one
for i, type in ipairs { "MODEL", " MODEL", "VAE " } do
    weft.register { name = "Forge" .. i, outputs = { { name = "m", type = type } }, run = function() return {} end }
    check.throws("takes", node["Forge" .. i], {})
end
check.done()
