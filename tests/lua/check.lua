-- What the scripts here share: checks that go on after a failure and count it. A script ends with check.done().
--     weft SCRIPT.lua FOLDER      FOLDER: an empty one, for files
local check = { failures = 0, count = 0 }

local function place()
    local info = debug.getinfo(3, "Sl")
    return info.short_src:match "[^/]*$" .. ":" .. info.currentline
end

local function fail(where, ...)
    check.failures = check.failures + 1
    print("FAIL " .. where .. ": " .. string.format(...))
end

function check.is(got, want)
    check.count = check.count + 1
    if got ~= want or math.type(got) ~= math.type(want) then
        fail(place(), "%s, expected %s", tostring(got), tostring(want))
    end
end

function check.ok(value, what)
    check.count = check.count + 1
    if not value then fail(place(), "%s", what or "not so") end
end

-- |got − want| ≤ tolerance; NaN fails.
function check.near(got, want, tolerance)
    check.count = check.count + 1
    if not (math.abs(got - want) <= (tolerance or 0)) then
        fail(place(), "%.9g, expected %.9g ± %g", got, want, tolerance or 0)
    end
end

local function flat(list, into)
    for _, v in ipairs(list) do
        if type(v) == "table" then flat(v, into) else into[#into + 1] = v end
    end
    return into
end
check.flat = function(list) return flat(list, {}) end

-- A tensor (or nested list) has these values in order, and this shape where the list is nested as the tensor is.
function check.values(got, want, tolerance)
    check.count = check.count + 1
    if type(got) ~= "table" then got = got:tolist() end
    if type(got) ~= "table" then got = { got } end
    local g, w = flat(got, {}), flat(want, {})
    if #g ~= #w then return fail(place(), "%d values, expected %d", #g, #w) end
    for i = 1, #w do
        if not (math.abs(g[i] - w[i]) <= (tolerance or 0)) then
            return fail(place(), "value %d is %.9g, expected %.9g ± %g", i, g[i], w[i], tolerance or 0)
        end
    end
end

function check.shape(t, ...)
    check.count = check.count + 1
    local got, want = table.concat(t.shape, ","), table.concat({ ... }, ",")
    if got ~= want then fail(place(), "shape %s, expected %s", got, want) end
end

-- f(…) throws an error whose message has `part`; gives the error.
function check.throws(part, f, ...)
    check.count = check.count + 1
    local worked, e = pcall(f, ...)
    if worked then
        fail(place(), "nothing was thrown, expected: %s", part)
        return {}
    end
    if not tostring(e):find(part, 1, true) then fail(place(), "thrown: %s, expected: %s", tostring(e), part) end
    return type(e) == "table" and e or {}
end

function check.done()
    print(check.failures == 0 and "ok " .. check.count or check.failures .. " of " .. check.count .. " failed")
    os.exit(check.failures == 0 and check.count > 0, true)
end

return check
