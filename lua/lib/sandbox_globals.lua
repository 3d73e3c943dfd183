-- The globals that code in weft.sandbox() sees: Lua's without files, processes, code, coroutines or metatables. What
-- could run long inside one call in C, where no instructions are counted, has bounds of its own.

local most_items, most_steps = 1 << 20, 1 << 27

local function pick(from, names)
    local t = {}
    for name in names:gmatch("%S+") do t[name] = from[name] end
    return t
end

local globals = pick(_G,
    "assert error ipairs next pairs pcall rawequal rawget rawlen rawset select tonumber tostring type _VERSION")
globals.math = pick(math, "abs acos asin atan ceil cos deg exp floor fmod huge log max maxinteger min mininteger modf "
    .. "pi rad sin sqrt tan tointeger type ult")
globals.utf8 = pick(utf8, "char charpattern codepoint codes len offset")
globals.string = pick(string, "byte char format len lower reverse sub upper")
globals.table = pick(table, "pack")

local rep, find, gmatch = string.rep, string.find, string.gmatch      -- ("x"):find() will be the bounded one

function globals.string.rep(s, n, separator)
    if n * (#s + #(separator or "") + 1) > most_steps then error("rep: too long for a sandbox", 2) end
    return rep(s, n, separator)
end

-- An upper bound of a pattern's steps: each quantifier may try every length at every place.
local function steps(s, pattern)
    local n = #s + 1.0                   -- a float: it may grow beyond all integers
    local total = find(pattern, "^%^") and 1.0 or n
    for _ in gmatch(pattern, "[*+%-]") do total = total * n end
    for _ in gmatch(pattern, "%?") do total = total * 2 end
    for _ in gmatch(pattern, "%%[b%d]") do total = total * n end
    return total
end

for _, name in ipairs { "find", "match", "gmatch", "gsub" } do
    local f = string[name]
    globals.string[name] = function(s, pattern, ...)
        s, pattern = tostring(s), tostring(pattern)
        local plain = name == "find" and select(2, ...)
        if (plain and (#s + 1) * (#pattern + 1) or steps(s, pattern)) > most_steps then
            error(name .. ": the pattern may take too long for a sandbox", 2)
        end
        return f(s, pattern, ...)
    end
end

for _, name in ipairs { "concat", "insert", "remove", "sort", "unpack" } do
    local f = table[name]
    globals.table[name] = function(t, ...)
        if type(t) == "table" and #t > most_items then error(name .. ": too many items for a sandbox", 2) end
        return f(t, ...)
    end
end

function globals.table.move(a, from, to, at, b)
    if to - from > most_items or to - from < 0 and to > from then error("move: too many items for a sandbox", 2) end
    return table.move(a, from, to, at, b or a)
end

globals._G = globals
return globals
