-- A bar on the terminal, for weft.progress() and for loops of one's own; where standard error is no terminal, nothing
-- is written.
--
--     weft.progress(weft.progress_bar())
--     for i in weft.progress_bar.each("train", 1000) do … end
--     for i, name in weft.progress_bar.each("read", names) do … end

local weft = require "weft"

local width = 30

local function text(what, done, total, seconds, steps)
    local filled = total > 0 and width * done // total or 0
    local line = ("\r%-8s [%s%s] %d/%d"):format(what, ("#"):rep(filled), (" "):rep(width - filled), done, total)
    if steps > 0 then
        local each = seconds / steps
        line = line .. ("  %.3g s/step, %.0f s left "):format(each, each * (total - done))
    end
    return line
end

-- A function (what, done, total) that draws. out: something with a method write (default: standard error, where it is
-- a terminal).
local function new(out)
    out = out or weft.terminal() and io.stderr
    local last, first, start
    return function(what, done, total)
        if not out then return end
        if what ~= last then
            if last then out:write "\n" end
            last, first, start = what, done, weft.clock()
        end
        out:write(text(what, done, total, weft.clock() - start, done - first))
        if done >= total then
            out:write "\n"
            last = nil
        end
        if out.flush then out:flush() end
    end
end

-- Goes over 1 … n, or over a list, and tells on the way.
local function each(what, over, out)
    local list = type(over) == "table" and over or nil
    local total, bar = list and #list or over, new(out)
    return function(_, i)
        bar(what, i, total)
        if i < total then return i + 1, list and list[i + 1] end
    end, nil, 0
end

return setmetatable({ each = each }, { __call = function(_, out) return new(out) end })
