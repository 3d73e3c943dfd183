-- Pictures and safetensors. arg[1]: an empty folder.
package.path = (arg[0]:match "^.*/" or "./") .. "?.lua;" .. package.path
local check, weft = require "check", require "weft"
local top = arg[1] .. "/"

-- pictures: 255·x cut to whole numbers, as ComfyUI saves
local x = weft.tensor({ 0, 0.5, 1, 0.1, 0.999, 2, -1, 1 / 255, 0.25, 3 / 255, 0, 1 }, { shape = { 2, 2, 3 } })
weft.save_image(x, top .. "a.png")
local image, mask = weft.load_image(top .. "a.png")
check.shape(image, 1, 2, 2, 3)
check.values(image * 255, { 0, 127, 255, 25, 254, 255, 0, 1, 63, 3, 0, 255 }, 1e-4)
check.shape(mask, 1, 64, 64)
check.is(mask:max():item(), 0.0)
weft.save_image(weft.concat({ image, weft.full({ 1, 2, 2, 1 }, 0.25) }, 4), top .. "alpha.png")
local _, half = weft.load_image(top .. "alpha.png")
check.shape(half, 1, 2, 2)
check.near(half[1][1][1], 1 - 63 / 255, 1e-6)
check.throws("one picture", weft.save_image, weft.zeros(2, 4, 4, 3), top .. "b.png")
check.is(check.throws("none.png", weft.load_image, top .. "none.png").status, "file")
check.is(check.throws("nowhere", weft.save_image, x, top .. "nowhere/x.png").status, "file")
check.throws("a text is wanted", weft.load_image, 3)
check.throws("zero byte", weft.load_image, "a\0b")
check.throws("a graph is wanted", weft.save_image, x, top .. "b.png", { graph = 1 })

-- a graph goes along
local g = weft.graph.new()
g:add("EmptyImage", { width = 16 })
weft.save_image(x, top .. "g.png", { graph = g })
check.is(weft.graph.load(top .. "g.png"):json(), g:json())

-- tensors of all types, and texts
local tensors = {
    a = weft.tensor { { 1, 2 }, { 3, 4 } }, ["b.weight"] = weft.tensor({ math.maxinteger }, { dtype = "i64" }),
    c = weft.tensor({ 0.5, 1.5 }, { dtype = "bf16" }), scalar = weft.tensor(3), none = weft.zeros(0, 3),
    view = weft.tensor({ { 1, 2 }, { 3, 4 } }):permute(2, 1),
}
weft.save_tensors(top .. "t.safetensors", tensors, { format = "pt", note = "é" })
local back, texts = weft.load_tensors(top .. "t.safetensors")
for name, t in pairs(tensors) do
    check.is(back[name].dtype, t.dtype)
    check.shape(back[name], table.unpack(t.shape))
    check.values(back[name], check.flat { t:tolist() })
end
check.values(back.view, { 1, 3, 2, 4 })
check.is(texts.format, "pt")
check.is(texts.note, "é")
-- the same bytes each time, whatever Lua's order of keys
local function bytes(name)
    local f <close> = assert(io.open(top .. name, "rb"))
    return f:read "a"
end
local metadata = {}
for i = 1, 20 do metadata["key" .. i] = "value" .. i end
weft.save_tensors(top .. "1", tensors, metadata)
local reversed = {}
for i = 20, 1, -1 do reversed["key" .. i] = "value" .. i end
weft.save_tensors(top .. "2", tensors, reversed)
check.ok(bytes "1" == bytes "2")

-- a mapped file stays readable as long as a tensor of it lives
local one = weft.load_tensors(top .. "t.safetensors").a
back, texts = nil, nil
collectgarbage()
os.remove(top .. "t.safetensors")
check.values(one, { 1, 2, 3, 4 })

local f <close> = assert(io.open(top .. "bad.safetensors", "wb"))
f:write "12345678{}"
f:flush()
check.ok(check.throws("bad.safetensors", weft.load_tensors, top .. "bad.safetensors").status == "format")
check.throws("a tensor is wanted", weft.save_tensors, top .. "x", { a = 1 })
check.throws("names are texts", weft.save_tensors, top .. "x", { weft.zeros(1) })
check.throws("metadata", weft.save_tensors, top .. "x", {}, { a = 1 })
check.throws("{name = tensor}", weft.save_tensors, top .. "x", weft.zeros(1))
check.done()
