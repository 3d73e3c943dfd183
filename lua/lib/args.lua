-- Options for scripts, from a table:
--
--     local o = weft.args {
--         "Makes a picture from a text.",
--         { "prompt", "a cat on a sofa", "what the picture shows" },
--         { "steps", 20, "sampling steps", min = 1, max = 1000 },
--         { "sampler", "euler", "how to sample", choices = { "euler", "heun" } },
--         { "seed", 0, "where the noise starts", seed = true },
--         { "keep", false, "keep the latent too" },
--         { "model", nil, "a checkpoint", required = true },
--     }
--     print(o.prompt, o.steps, o[1])       -- o[1] …: what is no option
--
-- The default's type is the option's: text, whole number (20), number (7.5) or flag (--keep, --no-keep). `--help`
-- prints a help made of the table.

local weft = require "weft"

local function kind(option)
    local default = option[2]
    if option.seed then return "seed" end
    if type(default) == "boolean" then return "flag" end
    if math.type(default) == "integer" then return "whole number" end
    if type(default) == "number" then return "number" end
    return "text"
end

local function help(spec, script)
    local lines = { "Usage: weft " .. script .. " [OPTION …]" .. (spec.arguments and " " .. spec.arguments or ""), "" }
    if spec[1] and type(spec[1]) == "string" then
        lines[#lines + 1] = spec[1]
        lines[#lines + 1] = ""
    end
    lines[#lines + 1] = "Options:"
    for _, o in ipairs(spec) do
        if type(o) == "table" then
            local left, default = "--" .. o[1], o[2]
            local value = o.choices and "NAME" or kind(o) == "text" and "TEXT" or "N"
            if kind(o) ~= "flag" then left = left .. " " .. value end
            local notes = {}
            if o.choices then notes[1] = table.concat(o.choices, ", ") end
            if o.min or o.max then notes[#notes + 1] = (o.min or "…") .. " to " .. (o.max or "…") end
            if o.required then notes[#notes + 1] = "needed" end
            if default and default ~= "" then notes[#notes + 1] = "default " .. tostring(default) end
            local more = #notes > 0 and " (" .. table.concat(notes, "; ") .. ")" or ""
            lines[#lines + 1] = ("  %-22s %s%s"):format(left, o[3] or "", more)
        end
    end
    lines[#lines + 1] = ("  %-22s %s"):format("--help", "this text")
    return table.concat(lines, "\n")
end

-- The value that a text stands for, or nil and what is wanted.
local function read(option, text)
    local k = kind(option)
    local value = text
    if k == "whole number" then value = math.tointeger(tonumber(text)) end
    if k == "number" then value = tonumber(text) end
    if k == "seed" then
        value = math.tointeger(tonumber(text)) or (text:match "^%d+$" and #text <= 20 and text or nil)
        k = "whole number"
    end
    if value == nil or value ~= value then return nil, "a " .. k .. " is wanted, not " .. text end
    if (option.min and value < option.min) or (option.max and value > option.max) then
        return nil, text .. " is not within " .. (option.min or "…") .. " to " .. (option.max or "…")
    end
    if option.choices then
        for _, choice in ipairs(option.choices) do
            if choice == value then return value end
        end
        local near = weft.nearest(value, option.choices)
        near = near and "; did you mean " .. near .. "?" or ""
        return nil, "there is no " .. text .. near .. " (choices: " .. table.concat(option.choices, ", ") .. ")"
    end
    return value
end

local function parse(spec, given)
    local options, names, values = {}, { "help" }, {}
    for _, o in ipairs(spec) do
        if type(o) == "table" then
            options[o[1]] = o
            names[#names + 1] = o[1]
            values[o[1]] = o[2]
        end
    end
    local i, plain = 1, false
    while given[i] ~= nil do
        local text = given[i]
        local name, value = text:match "^%-%-([^=]+)=(.*)$"
        if not name then name = text:match "^%-%-(.+)$" end
        if text == "--" and not plain then
            plain = true
        elseif plain or not name then
            values[#values + 1] = text
        elseif name == "help" then
            return nil
        else
            local off = name:match "^no%-(.+)$"
            local option, negated = options[name], false
            if not option and off and options[off] and kind(options[off]) == "flag" then
                option, negated = options[off], true
            end
            if not option then
                local near = weft.nearest(name, names)
                return false, "there is no option --" .. name .. (near and "; did you mean --" .. near .. "?" or "")
            end
            if kind(option) == "flag" then
                if value then return false, "--" .. name .. " takes no value" end
                values[option[1]] = not negated
            else
                if not value then
                    i = i + 1
                    value = given[i]
                end
                if value == nil then return false, "--" .. name .. " takes a value" end
                local v, wrong = read(option, value)
                if v == nil then return false, "--" .. name .. ": " .. wrong end
                values[option[1]] = v
            end
        end
        i = i + 1
    end
    for _, o in ipairs(spec) do
        if type(o) == "table" and o.required and values[o[1]] == nil then return false, "--" .. o[1] .. " is needed" end
    end
    return values
end

-- The options' values; ends the program after --help or a mistake. given: the arguments (default: the program's).
return function(spec, given)
    given = given or arg or {}
    local script = given[0] or "SCRIPT.lua"
    local values, wrong = parse(spec, given)
    if values then return values end
    if values == nil then
        print(help(spec, script))
        os.exit(0, true)
    end
    io.stderr:write(script, ": ", wrong, "\nSee: weft ", script, " --help\n")
    os.exit(1, true)
end
