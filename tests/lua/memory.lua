-- Who owns a tensor, and when it goes: scopes, <close>, garbage, a limit that garbage alone would break.
package.path = (arg[0]:match "^.*/" or "./") .. "?.lua;" .. package.path
local check, weft = require "check", require "weft"
local function live() return weft.memory().live end
weft.configure { threads = 1 }
collectgarbage()
check.is(live(), 0)

local kilo = 4096       -- bytes of 1024 numbers
do
    local outer, kept
    do
        local s <close> = weft.scope()
        local a = weft.ones(1024)
        outer = a + 1
        kept = s:keep(a * 3)
        check.is(live(), 3 * kilo)
    end
    check.is(live(), kilo)
    check.is(kept[1], 3.0)
    check.throws("freed by the end of its scope", function() return outer + 1 end)
    check.is(tostring(outer), "tensor (freed)")
    check.throws("freed", function() return outer.shape end)
end
collectgarbage()
check.is(live(), 0)

-- scopes in scopes: what is kept belongs to the one outside; ending one ends those inside
local a, b, c
do
    local s <close> = weft.scope()
    do
        local t <close> = weft.scope()
        a = t:keep(weft.ones(1024))
        b, c = t:keep(weft.ones(1024), weft.ones(1024))
        s:keep(c)
    end
    check.is(a[1], 1.0)
    local inner = weft.scope()
    weft.ones(1024)
    check.is(live(), 4 * kilo)
    s:close()
    check.is(live(), kilo)
    inner:close()
    s:close()
end
check.is(c[1], 1.0)
check.throws("freed", function() return a[1] end)
check.throws("freed", function() return b[1] end)
c = nil
collectgarbage()
check.is(live(), 0)

-- an error closes them on its way
check.throws("boo", function()
    local s <close> = weft.scope()
    local t = weft.ones(1024)
    check.is(live(), kilo)
    error "boo"
end)
check.is(live(), 0)

-- a scope that nobody ended frees nothing while its tensors are in use
local orphan
do
    weft.scope()
    orphan = weft.ones(1024)
end
collectgarbage()
check.is(orphan[1], 1.0)
orphan = nil
collectgarbage()
check.is(live(), 0)

do
    local t <close> = weft.ones(1024)
    check.is(live(), kilo)
end
check.is(live(), 0)

-- views share memory; an operation that has nothing to do gives the same
do
    local t <close> = weft.ones(1024)
    local v <close> = t:reshape(32, 32)
    local same <close> = t:to "f32"
    check.is(live(), kilo)
    t:slice(1, 1, 4)
    check.is(v[1][1] + same[1], 2.0)
end
collectgarbage()
check.is(live(), 0)

-- objects
do
    local s <close> = weft.scope()
    local latent = weft.node.EmptyLatentImage { width = 64, height = 64 }
    check.is(live(), 8 * 8 * 4 * 4)
end
check.is(live(), 0)

-- garbage of 64 times the limit: Lua sees a few bytes of each tensor only
weft.configure { memory = "16M" }
check.is(weft.memory().limit, 16 << 20)
local most = 0
for _ = 1, 1024 do
    local t = weft.ones(256, 1024)
    most = math.max(most, live())
end
check.ok(most <= 16 << 20, "peak " .. most)
-- … and what fits, with garbage away, is had at the first try
for _ = 1, 8 do local big = weft.ones(3 << 20) end
local e = check.throws("limit", function()
    local t = {}
    for i = 1, 64 do t[i] = weft.ones(256, 1024) end
end)
check.is(e.status, "memory")
check.is(weft.ones(4)[4], 1.0)
weft.configure { memory = 0 }
-- without a limit garbage does not pile up either
most = 0
for _ = 1, 1000 do
    local t = weft.ones(256, 1024)
    most = math.max(most, live())
end
check.ok(most < 200 << 20, "peak " .. most)

-- settings: all or none
local before = weft.memory().limit
check.throws("precision", weft.configure, { memory = "1G", precision = "sloppy" })
check.is(weft.memory().limit, before)
check.is(check.throws("did you mean threads?", weft.configure, { thread = 1 }).status, "argument")
check.throws("memory", weft.configure, { memory = "much" })
check.throws("threads", weft.configure, { threads = 0.5 })
check.throws("models", weft.configure, { models = { "a", 1 } })
check.throws("in use", weft.configure, { device = "reference" })
check.throws("table", weft.configure, 1)
weft.configure { device = "cpu", precision = "exact", threads = 2, models = { "a", "b" }, input = "i" }
check.done()
