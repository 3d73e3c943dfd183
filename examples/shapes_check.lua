-- Looks at a picture of coloured shapes and says what is on it: for judging models that were trained on examples/shapes_data.lua.
--
--     local check = dofile "examples/shapes_check.lua"
--     local right, why = check.check(image, spec, shapes)        -- image: (H, W, 3) or (1, H, W, 3) in [0, 1]; shapes: what shapes_data.lua returns
--     local seen = check.describe(image, shapes)                 -- {background =, objects = {{color =, kind =, x =, y =, radius =, fit =}, …}}
--
-- `weft shapes_check.lua --count 1000` tries it on drawings: their own captions are accepted, wrong ones are not.
--
-- A spec lists the objects in the order of the caption, {{color =, kind =}, …}, with relation = "above", place = "top", count = 3, size = "small", background =
-- "gray"
-- where the caption says so.
--
-- How it looks: the background is a plane fitted to the picture's rim. A pixel p that is no background lies on the line from the background b to a colour c
-- of the palette: p = b + t·(c − b), t its coverage; the colour with the least distance from its line is the pixel's. Pixels with t ≥ 3/4 grow together into
-- objects, those with less around them are their soft edge. An object's area and middle then give, for each kind of shape, where that kind would have to lie
-- to look so; the kind that covers the same pixels (Σ min / Σ max of the coverages) best is the object's.

local weft = require "weft"
local M = {}

M.least_area = 12           -- pixels: less is noise
M.least_fit = 0.72          -- of the shape with the object's own pixels
M.most_stray = 0.02         -- of all pixels: what is neither background nor a part of an object

-- ---- the background ----------------------------------------------------------------------------------------------------------------------------------------

-- Solves the symmetric 3 × 3 system a·x = b.
local function solve(a, b)
    for i = 1, 3 do
        for j = i + 1, 3 do
            local f = a[j][i] / a[i][i]
            for k = i, 3 do a[j][k] = a[j][k] - f * a[i][k] end
            b[j] = b[j] - f * b[i]
        end
    end
    local x = {}
    for i = 3, 1, -1 do
        local v = b[i]
        for k = i + 1, 3 do v = v - a[i][k] * x[k] end
        x[i] = v / a[i][i]
    end
    return x
end

-- Planes {constant, by x, by y} for red, green and blue through the rim of three pixels, what lies far from them left out in the next round; and the mean
-- square of the distances of the rest: the noise.
local function background(p, h, w)
    local planes, noise, count
    for round = 1, 4 do
        noise, count = 0, 0
        local sums, sides = { { 1e-9, 0, 0 }, { 0, 1e-9, 0 }, { 0, 0, 1e-9 } }, { { 0, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 } }
        local far = round < 3 and 0.5 or 0.25
        for y = 0, h - 1 do
            local rim = y < 3 or y >= h - 3
            for x = 0, w - 1 do
                if rim or x < 3 or x >= w - 3 then
                    local at, v, off = (y * w + x) * 3, { 1, x / w - 0.5, y / h - 0.5 }, 0
                    for k = 1, 3 do
                        if planes then off = off + (planes[k][1] + planes[k][2] * v[2] + planes[k][3] * v[3] - p[at + k]) ^ 2 end
                    end
                    if off < far * far then
                        noise, count = noise + off, count + 1
                        for i = 1, 3 do
                            for j = 1, 3 do sums[i][j] = sums[i][j] + v[i] * v[j] end
                            for k = 1, 3 do sides[k][i] = sides[k][i] + v[i] * p[at + k] end
                        end
                    end
                end
            end
        end
        planes = {}
        for k = 1, 3 do
            planes[k] = solve({ { table.unpack(sums[1]) }, { table.unpack(sums[2]) }, { table.unpack(sums[3]) } }, sides[k])
        end
    end
    return planes, noise / math.max(count, 1)
end

local function distance(a, b) return math.sqrt((a[1] - b[1]) ^ 2 + (a[2] - b[2]) ^ 2 + (a[3] - b[3]) ^ 2) end

-- The name in a table of colours nearest to a colour, and how far it is.
local function nearest(colors, names, color)
    local best, least
    for _, name in ipairs(names) do
        local d = distance(colors[name], color)
        if not least or d < least then best, least = name, d end
    end
    return best, least
end

-- ---- objects -------------------------------------------------------------------------------------------------------------------------------------------------

-- For each pixel its colour's place among names (0: background) and its coverage.
local function label(p, h, w, planes, noise, shapes)
    local which, cover, least_off = {}, {}, math.max(0.012, 6 * noise)
    for y = 0, h - 1 do
        for x = 0, w - 1 do
            local i = y * w + x + 1
            local at, u, v = (i - 1) * 3, x / w - 0.5, y / h - 0.5
            local b1 = planes[1][1] + planes[1][2] * u + planes[1][3] * v
            local b2 = planes[2][1] + planes[2][2] * u + planes[2][3] * v
            local b3 = planes[3][1] + planes[3][2] * u + planes[3][3] * v
            local d1, d2, d3 = p[at + 1] - b1, p[at + 2] - b2, p[at + 3] - b3
            which[i], cover[i] = 0, 0
            if d1 * d1 + d2 * d2 + d3 * d3 > least_off then
                local least = 1e9
                for n, name in ipairs(shapes.color_names) do
                    local c = shapes.colors[name]
                    local e1, e2, e3 = c[1] - b1, c[2] - b2, c[3] - b3
                    local length = e1 * e1 + e2 * e2 + e3 * e3
                    local t = math.min(math.max((d1 * e1 + d2 * e2 + d3 * e3) / length, 0), 1)
                    local off = (d1 - t * e1) ^ 2 + (d2 - t * e2) ^ 2 + (d3 - t * e3) ^ 2
                    if off < least then least, which[i], cover[i] = off, n, t end
                end
            end
        end
    end
    return which, cover
end

-- The pixels that hang together with pixel `first`, all of its colour and with coverage of at least 3/4.
local function flood(first, which, cover, owner, number, h, w)
    local pixels, at = { first }, 1
    owner[first] = number
    while pixels[at] do
        local i = pixels[at]
        local x, y = (i - 1) % w, (i - 1) // w
        for dy = -1, 1 do
            for dx = -1, 1 do
                local nx, ny = x + dx, y + dy
                local j = ny * w + nx + 1
                if nx >= 0 and nx < w and ny >= 0 and ny < h and not owner[j] and which[j] == which[first] and cover[j] >= 0.75 then
                    owner[j] = number
                    pixels[#pixels + 1] = j
                end
            end
        end
        at = at + 1
    end
    return pixels
end

-- Adds the soft edge: pixels beside the object with less coverage, of whatever colour (where edges meet, mixtures look like a third one).
local function soften(pixels, cover, owner, number, h, w)
    for k = 1, #pixels do
        local x, y = (pixels[k] - 1) % w, (pixels[k] - 1) // w
        for dy = -1, 1 do
            for dx = -1, 1 do
                local nx, ny = x + dx, y + dy
                local j = ny * w + nx + 1
                if nx >= 0 and nx < w and ny >= 0 and ny < h and not owner[j] and cover[j] > 0 then
                    owner[j] = number
                    pixels[#pixels + 1] = j
                end
            end
        end
    end
end

local function moments(pixels, cover, w)
    local area, sx, sy = 0, 0, 0
    for _, i in ipairs(pixels) do
        local t = cover[i]
        area, sx, sy = area + t, sx + t * ((i - 1) % w + 0.5), sy + t * ((i - 1) // w + 0.5)
    end
    return area, sx / area, sy / area
end

-- Each kind's area and middle at radius 1, measured once from a drawing.
local measured = {}
local function measure(kind)
    if not measured[kind] then
        local drawing = weft.draw_shapes { { background = { 0, 0, 0 }, { kind = kind, x = 128, y = 128, radius = 80, color = { 1, 1, 1 } } }, width = 256, height = 256 }
        local p, area, sy = drawing:reshape { 256 * 256 * 3 }:tolist(), 0, 0
        for i = 1, #p, 3 do area, sy = area + p[i], sy + p[i] * (((i - 1) // 3) // 256 + 0.5) end
        measured[kind] = { area = area / 255 / 80 ^ 2, low = (sy / area - 128) / 80 }
    end
    return measured[kind]
end

-- The kind that looks most like the object, and how much: 1 where every pixel is the same.
local function classify(object, pixels, cover, shapes, h, w)
    local scenes, area, x, y = {}, object.area, object.x, object.y
    for n, kind in ipairs(shapes.kinds) do
        local m = measure(kind)
        local radius = math.sqrt(area / m.area)
        scenes[n] = { background = { 0, 0, 0 }, { kind = kind, x = x, y = y - m.low * radius, radius = radius, color = { 1, 1, 1 } } }
        scenes[n].radius = radius
    end
    scenes.width, scenes.height = w, h
    local drawn, own = weft.draw_shapes(scenes):reshape { #shapes.kinds, h * w * 3 }:tolist(), {}
    for _, i in ipairs(pixels) do own[i] = cover[i] end
    for n, kind in ipairs(shapes.kinds) do
        local both, either, d = 0, 0, drawn[n]
        for i = 1, h * w do
            local a, b = d[3 * i] / 255, own[i] or 0
            if a > b then both, either = both + b, either + a else both, either = both + a, either + b end
        end
        if not object.fit or both / either > object.fit then object.kind, object.fit, object.radius = kind, both / either, scenes[n].radius end
    end
end

-- The share of pixels that are neither background nor an object's: those with more such ones beside them than not, so that noise does not count.
local function stray(cover, owner, h, w)
    local n = 0
    local function loose(x, y) return not owner[y * w + x + 1] and cover[y * w + x + 1] > 0.3 and 1 or 0 end
    for y = 1, h - 2 do
        for x = 1, w - 2 do
            if loose(x, y) + loose(x - 1, y) + loose(x + 1, y) + loose(x, y - 1) + loose(x, y + 1) > 3 then n = n + 1 end
        end
    end
    return n / (h * w)
end

function M.describe(image, shapes)
    local shape = image.shape
    local h, w = shape[#shape - 2], shape[#shape - 1]
    local p = image:reshape { h * w * 3 }:tolist()
    local planes, noise = background(p, h, w)
    local which, cover = label(p, h, w, planes, noise, shapes)
    local seen, owner, lists = { objects = {}, height = h, width = w }, {}, {}
    for i = 1, h * w do
        if which[i] > 0 and cover[i] >= 0.75 and not owner[i] then
            local pixels = flood(i, which, cover, owner, #lists + 1, h, w)
            lists[#lists + 1] = pixels
        end
    end
    for n, pixels in ipairs(lists) do
        if #pixels >= M.least_area then soften(pixels, cover, owner, n, h, w) end
    end
    for _, pixels in ipairs(lists) do
        if #pixels >= M.least_area then
            local object = { color = shapes.color_names[which[pixels[1]]] }
            object.area, object.x, object.y = moments(pixels, cover, w)
            classify(object, pixels, cover, shapes, h, w)
            seen.objects[#seen.objects + 1] = object
        else
            for _, i in ipairs(pixels) do owner[i] = nil end
        end
    end
    seen.stray = stray(cover, owner, h, w)
    seen.background = nearest(shapes.backgrounds, shapes.background_names, { planes[1][1], planes[2][1], planes[3][1] })
    return seen
end

-- ---- judging -------------------------------------------------------------------------------------------------------------------------------------------------

-- Whether a stands so to b: clearly more along that direction than across it.
local function stands(a, b, relation)
    local dx, dy = b.x - a.x, b.y - a.y
    if relation == "below" or relation == "right of" then dx, dy = -dx, -dy end
    if relation == "left of" or relation == "right of" then dx, dy = dy, dx end
    return dy > 3 and dy > math.abs(dx)
end

-- Whether a's middle is in the third of a picture w × h that the place names, give or take an eighth.
local function placed(a, place, h, w)
    local across = place == "left" or place == "right"
    local at = across and a.x / w or a.y / h
    if place == "bottom" or place == "right" then at = 1 - at end
    return at < 1 / 3 + 1 / 8
end

local function named(o) return o.color .. " " .. o.kind end

-- Whether these objects are the wanted ones, whatever their order; where not, why.
local function match(objects, wanted)
    local left, found = { table.unpack(objects) }, {}
    for n, want in ipairs(wanted) do
        for i, o in ipairs(left) do
            if o.color == want.color and o.kind == want.kind then
                found[n] = table.remove(left, i)
                break
            end
        end
        if not found[n] then
            local names = {}
            for i, o in ipairs(objects) do names[i] = named(o) end
            return nil, "there is no " .. named(want) .. " among: " .. table.concat(names, ", ")
        end
    end
    if #left > 0 then return nil, "there is also a " .. named(left[1]) end
    return found
end

-- Whether what was seen is what the spec says; where not, why.
function M.judge(seen, spec, shapes)
    local wanted = {}
    for i = 1, spec.count or #spec do wanted[i] = spec[i] or spec[1] end
    local found, why = match(seen.objects, wanted)
    if not found then return false, why end
    for _, o in ipairs(found) do
        if o.fit < M.least_fit then return false, ("the %s is misshapen: fit %.2f"):format(named(o), o.fit) end
    end
    if seen.stray > M.most_stray then return false, ("%.1f %% of the picture is neither background nor an object"):format(100 * seen.stray) end
    if spec.relation and not stands(found[1], found[2], spec.relation) then
        return false, ("the %s at (%.0f, %.0f) is not %s the %s at (%.0f, %.0f)"):format(named(found[1]), found[1].x, found[1].y, spec.relation,
            named(found[2]), found[2].x, found[2].y)
    end
    if spec.place and not placed(found[1], spec.place, seen.height, seen.width) then
        return false, ("the %s at (%.0f, %.0f) is not %s"):format(named(found[1]), found[1].x, found[1].y, shapes.places[spec.place])
    end
    local small, large = shapes.sizes and shapes.sizes.small, shapes.sizes and shapes.sizes.large
    for _, o in ipairs(found) do
        if spec.size == "small" and o.radius > small[2] * 1.15 then return false, ("the %s is not small: radius %.1f"):format(named(o), o.radius) end
        if spec.size == "large" and o.radius < large[1] / 1.15 then return false, ("the %s is not large: radius %.1f"):format(named(o), o.radius) end
    end
    if spec.background and seen.background ~= spec.background then return false, "the background is " .. seen.background .. ", not " .. spec.background end
    return true
end

function M.check(image, spec, shapes) return M.judge(M.describe(image, shapes), spec, shapes) end

-- ---- itself --------------------------------------------------------------------------------------------------------------------------------------------------

-- All specs that differ from a right one in one thing.
function M.wrong(spec, shapes)
    local list = {}
    local function add(change)
        local copy = { relation = spec.relation, count = spec.count, size = spec.size, place = spec.place, background = spec.background }
        for i, o in ipairs(spec) do copy[i] = { color = o.color, kind = o.kind } end
        change(copy)
        list[#list + 1] = copy
    end
    for i, o in ipairs(spec) do
        for _, color in ipairs(shapes.color_names) do
            if color ~= o.color then add(function(c) c[i].color = color end) end
        end
        for _, kind in ipairs(shapes.kinds) do
            if kind ~= o.kind then add(function(c) c[i].kind = kind end) end
        end
    end
    if spec.relation then
        for _, relation in ipairs(shapes.relations) do
            if relation ~= spec.relation then add(function(c) c.relation = relation end) end
        end
        add(function(c) c[1], c[2] = c[2], c[1] end)
        add(function(c) c[1].color, c[2].color = c[2].color, c[1].color end)
    end
    if spec.place then
        local opposite = { top = "bottom", bottom = "top", left = "right", right = "left" }
        add(function(c) c.place = opposite[spec.place] end)
    end
    if spec.count then
        add(function(c) c.count = c.count + 1 end)
        add(function(c) c.count = c.count - 1 end)
    end
    if spec.size == "small" or spec.size == "large" then add(function(c) c.size = spec.size == "small" and "large" or "small" end) end
    for _, name in ipairs(shapes.background_names) do
        if name ~= spec.background then add(function(c) c.background = name end) end
    end
    return list
end

-- Right and wrong captions of n drawings, with noise of this deviation: how many of each were accepted, of how many.
function M.try(shapes, seed, n, noise)
    local images, captions, specs = shapes.batch(shapes.rng(seed), n)
    local right, wrong, tried = 0, 0, 0
    if noise > 0 then images = (images + weft.randn(images.shape, { seed = seed }) * noise):clamp(0, 1) end
    for i = 1, n do
        local seen = M.describe(images[i], shapes)
        local accepted, why = M.judge(seen, specs[i], shapes)
        if accepted then right = right + 1 else print(captions[i] .. ": " .. why) end
        for _, spec in ipairs(M.wrong(specs[i], shapes)) do
            tried = tried + 1
            if M.judge(seen, spec, shapes) then wrong = wrong + 1 end
        end
    end
    return right, wrong, tried
end

if arg and (arg[0] or ""):match("shapes_check%.lua$") then
    package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
    local o = weft.args {
        "Tries the judge of drawn shapes on drawings: their own captions must be accepted, wrong ones not.",
        { "count", 500, "drawings", min = 1 },
        { "seed", 1, "of the drawings" },
        { "rich", false, "more colours, kinds and backgrounds" },
        { "noise", 0.0, "standard deviation of noise on the pixels", min = 0, max = 1 },
    }
    local shapes = require "shapes_data"
    if o.rich then shapes.enrich() end
    local right, wrong, tried = M.try(shapes, o.seed, o.count, o.noise)
    print(("accepted: %d of %d right captions, %d of %d wrong ones"):format(right, o.count, wrong, tried))
    os.exit(right >= 0.99 * o.count and wrong <= 0.005 * tried)
end

return M
