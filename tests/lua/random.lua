-- Noise equals PyTorch's: tests/golden/rng.safetensors (arg[2]) holds torch's own numbers.
package.path = (arg[0]:match "^.*/" or "./") .. "?.lua;" .. package.path
local check, weft = require "check", require "weft"
local golden = weft.load_tensors(arg[2])

local function same(t, name) check.values(t, golden[name]:tolist()) end

same(weft.randn({ 20 }, { seed = 0 }), "randn.0.20")
same(weft.randn(4, { seed = 0 }), "randn.0.4")
same(weft.randn({ 1000 }, weft.generator(42)), "randn.42.1000")
same(weft.randn({ 500 }, { seed = 42, dtype = "f64" }), "randn64.42.500")
same(weft.randperm(10, { seed = 0 }), "randperm.0")
same(weft.randint(0, 1000, { 6 }, { seed = 0 }), "randint.0")

-- the state's own generator starts at 0; weft.configure{seed=} starts it anew
same(weft.randn(4), "randn.0.4")
check.ok(weft.randn(4)[1] ~= golden["randn.0.4"][1])
weft.configure { seed = 42 }
same(weft.randn(1000), "randn.42.1000")

-- a generator goes on, can be set back, and its state taken and restored
local g = weft.generator(7)
local first, state = weft.rand(5, g):tolist(), g:state()
local second = weft.rand(5, g):tolist()
check.ok(first[1] ~= second[1])
g:restore(state)
check.values(weft.rand(5, g), second)
g:seed(7)
check.values(weft.rand(5, g), first)
check.is(check.throws("no state", g.restore, g, "nonsense").status, "format")

-- seeds are 64 bits: MT19937 takes the low 32, Philox all
local function philox(seed) return weft.randn(4, weft.generator(seed, "cuda")):tolist() end
check.values(philox(-1), philox "18446744073709551615")
check.values(philox(math.mininteger), philox "9223372036854775808")
check.ok(philox(1)[1] ~= philox((1 << 32) + 1)[1], "Philox takes 64 bits")
check.values(weft.randn(4, { seed = 1 << 32 }), golden["randn.0.4"]:tolist())
for _, bad in ipairs { "18446744073709551616", "-1", "1.5", "", 1.5, true } do check.throws("64 bits", weft.generator,
    bad) end
check.throws("cpu", weft.generator, 0, "tpu")
check.throws("generator", weft.randn, { 2 }, 3)
check.is(weft.randn({ 2 }, { dtype = "f16", seed = 1 }).dtype, "f16")
check.done()
