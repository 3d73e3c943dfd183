-- The part of the module that is written in Lua: options, bars. And the sandbox.
package.path = (arg[0]:match "^.*/" or "./") .. "?.lua;" .. package.path
local check, weft = require "check", require "weft"

check.ok(weft.version:match "^%d+%.%d+%.%d+$")
check.is(weft.nearest("stpes", { "seed", "steps" }), "steps")
check.is(weft.nearest("xyz", { "seed", "steps" }), nil)
check.is(require "weft.args", weft.args)

-- options. Where a script is wrong, weft.args ends the program: os.exit and print stand in here
local spec = {
    "Does nothing.", arguments = "FILE …",
    { "prompt", "a cat", "what is shown" }, { "steps", 20, "steps", min = 1, max = 100 }, { "scale", 7.5, "scale" },
        { "keep", false, "keep it" }, { "bar", true, "show a bar" },
    { "method", "euler", "how", choices = { "euler", "heun" } }, { "seed", 0, "seed", seed = true },
        { "model", nil, "a file" },
}
local function parse(...) return weft.args(spec, { [0] = "s.lua", ... }) end
local o = parse("--steps=5", "in.png", "--scale", "2", "--keep", "--no-bar", "--method", "heun", "--seed",
    "18446744073709551615", "--model=a=b", "--", "--x")
check.is(o.prompt, "a cat")
check.is(o.steps, 5)
check.is(o.scale, 2)
check.is(o.keep, true)
check.is(o.bar, false)
check.is(o.method, "heun")
check.is(o.seed, "18446744073709551615")
check.is(o.model, "a=b")
check.is(o[1], "in.png")
check.is(o[2], "--x")
check.is(parse().seed, 0)
check.is(parse("--seed", "-1").seed, -1)
check.is(parse("--prompt", "--odd").prompt, "--odd")

local exit, write, printed = os.exit, io.stderr, nil
local function ending(...)
    local status
    local real_print = print
    os.exit = function(code) status = code error "exit" end
    io.stderr = { write = function(_, ...) printed = table.concat { ... } end }
    print = function(text) printed = text end
    pcall(parse, ...)
    os.exit, io.stderr, print = exit, write, real_print
    return status, printed
end
local function refuses(part, ...)
    local status, text = ending(...)
    check.is(status, 1)
    check.ok(text:find(part, 1, true), text)
end
refuses("did you mean --steps?", "--step", "5")
refuses("--steps: a whole number is wanted, not 5.5", "--steps", "5.5")
refuses("--steps: 0 is not within 1 to 100", "--steps", "0")
refuses("--scale: a number is wanted", "--scale", "nan?")
refuses("--keep takes no value", "--keep=1")
refuses("--steps takes a value", "--steps")
refuses("did you mean heun?", "--method", "huen")
refuses("there is no option --no-steps", "--no-steps")
refuses("whole number is wanted", "--seed", "123456789012345678901")
local status, text = ending("--help")
check.is(status, 0)
for _, part in ipairs { "Usage: weft s.lua [OPTION …] FILE …", "Does nothing.", "--steps N", "1 to 100; default 20",
    "--keep ", "euler, heun; default euler", "--help" } do
    check.ok(text:find(part, 1, true), text)
end
spec[#spec + 1] = { "out", nil, "result", required = true }
refuses("--out is needed")

-- bars
local shown = {}
local out = { write = function(_, s) shown[#shown + 1] = s end }
local sum = 0
for i, name in weft.progress_bar.each("read", { "a", "b" }, out) do
    check.is(name, ({ "a", "b" })[i])
    sum = sum + i
end
check.is(sum, 3)
local line = table.concat(shown)
check.ok(line:find "\rread     %[%s+%] 0/2\r" and line:find "2/2.*\n$", line)
for _ in weft.progress_bar.each("none", 0, out) do check.ok(false) end
local bar = weft.progress_bar(setmetatable({}, { __index = out }))
shown = {}
bar("sample", 0, 2)
bar("decode", 0, 1)
check.is(shown[2], "\n")

-- the sandbox: what goes in and comes out
local function same(code, want, ...) check.values({ weft.sandbox(code, ...) }, want) end
same("return a + b, #list, list[2].x", { 3.5, 2, 7 }, { a = 1, b = 2.5, list = { 1, { x = 7 } } })
check.is(weft.sandbox("x = 1 return x, _G.x, nil"), 1)
check.is(weft.sandbox("return {y = {'z'}}").y[1], "z")
check.is(weft.sandbox("return ('ab'):rep(2, '-'):upper(), (' k=v '):match '(%w+)=(%w+)'"), "AB-AB")
check.is(weft.sandbox("local t = {3, 1, 2} table.sort(t) table.insert(t, 4) return table.concat(t, ',')"), "1,2,3,4")
check.is(weft.sandbox("return select('#', pcall(error, 'x'))"), 2)
local shared = { n = 1 }
weft.sandbox("t.n = 2", { t = shared })
check.is(shared.n, 1)

-- what it has not
for _, name in ipairs { "io", "os", "package", "debug", "require", "load", "loadfile", "dofile", "loadstring",
    "setmetatable", "getmetatable", "coroutine", "collectgarbage",
                        "print", "weft", "arg", "string.dump", "string.pack", "math.random", "utf8.x" } do
    check.is(weft.sandbox("return " .. name), nil)
end
check.is(weft.sandbox "local ok = pcall(function() return ('x').dump(function() end) end) return ok", false)
local function caught(part, code, limits, env)
    local e = check.throws(part, weft.sandbox, code, env, limits)
    check.ok(e.status == "argument" or e.status == "memory")
    return e
end
caught("binary chunk", string.dump(function() end))
caught("near '='", "x = = 1")
caught("sandbox:1: boo", "error 'boo'")
caught("no text", "error {}")
caught("not a function", "return print or function() end")
caught("not a function", "return 1", nil, { f = print })
caught("not a userdata", "return 1", nil, { t = weft.zeros(1) })
caught("in themselves", "local t = {} t[1] = t return t")
local loop = {}
loop[1] = loop
caught("in themselves", "return 1", nil, { loop = loop })

-- limits hold, whatever it catches
local few = { instructions = 100000 }
caught("limit of instructions", "while true do end", few)
caught("limit of instructions", "while true do pcall(function() while true do end end) end", few)
caught("limit of instructions", "local function f() pcall(f) while true do end end f()", few)
check.is(caught("limit of memory", "local s = 'x' while true do s = s .. s end", { memory = "1M" }).status, "memory")
check.is(caught("limit of memory", "local t = {} for i = 1, 1e9 do t[i] = i end", { memory = 1 << 20 }).status,
    "memory")
caught("too few", "return 1", { memory = 100 })
caught("too long", "return ('x'):rep(1e9)")
caught("too long", "return (''):rep(1e15)")
caught("too long", "return ('a'):rep(30000):find('.-.-.-.-b')")
caught("too long", "return string.gsub(('a'):rep(30000), '.-.-.-b', '')")
caught("too long", "return (('a'):rep(1e5)):find(('a'):rep(5e4) .. 'b', 1, true)")
caught("too many items", "table.move({}, 1, math.maxinteger - 1, 2)")
caught("too many items", "table.move({}, math.mininteger, math.maxinteger, 2)")
caught("stack overflow", "local function f() return f() + 1 end return f()", { memory = "256M" })
check.throws("memory", weft.sandbox, "return 1", nil, { memory = "lots" })
check.throws("instructions", weft.sandbox, "return 1", nil, { instructions = 0 })
check.throws("a text is wanted", weft.sandbox, print)
check.done()
