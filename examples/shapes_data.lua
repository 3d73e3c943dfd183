-- Pictures of coloured shapes with captions that are exactly true: `weft shapes_data.lua --out FOLDER --count 1000` writes a folder of PNGs with
-- metadata.jsonl; other scripts take batches from it: local shapes = dofile(".../shapes_data.lua"); images, captions, specs = shapes.batch(rng, n).
-- What `shapes.held_out` names never appears: a model that draws it has learned to compose. More can be reserved: shapes.reserve "purple star, red circle".
local weft = require "weft"
local M = {}

M.colors = { red = { .86, .16, .16 }, green = { .16, .66, .24 }, blue = { .16, .31, .86 }, yellow = { .95, .82, .16 }, purple = { .58, .2, .7 }, orange = { .96, .55, .12 } }
M.color_names = { "red", "green", "blue", "yellow", "purple", "orange" }
M.kinds = { "circle", "square", "triangle", "star" }
M.relations = { "above", "below", "left of", "right of" }
M.backgrounds = { white = { .96, .96, .96 }, black = { .08, .08, .08 }, gray = { .5, .5, .5 } }
M.background_names = { "white", "black", "gray" }
M.numbers = { [2] = "two", [3] = "three" }
M.sizes = { small = { 5.5, 7.5 }, large = { 15, 20 } }

-- Random numbers of the data alone, so that a seed and a place give the same picture on any machine: splitmix64.
function M.rng(seed)
    local state = seed
    local function next64()
        state = state + 0x9E3779B97F4A7C15
        local z = state
        z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
        z = (z ~ (z >> 27)) * 0x94D049BB133111EB
        return z ~ (z >> 31)
    end
    local r = {}
    function r.uniform(low, high) return low + (high - low) * (next64() >> 11) * 2.0 ^ -53 end
    function r.state() return state end
    function r.restore(kept) state = kept end
    function r.below(n) return (next64() >> 1) % n end
    function r.pick(list) return list[1 + r.below(#list)] end
    return r
end

local function plural(kind) return kind .. (kind:match "s$" and "es" or "s") end
local function a(word) return (word:match("^[aeiou]") and "an " or "a ") .. word end
-- Where in the picture: the middle of what stands there is in that third of it.
M.places = { top = "at the top", bottom = "at the bottom", left = "on the left", right = "on the right" }
M.place_names = { "top", "bottom", "left", "right" }
local places_of = { above = { "top", "bottom" }, below = { "bottom", "top" }, ["left of"] = { "left", "right" }, ["right of"] = { "right", "left" } }

local function thing(o) return a(o.color) .. " " .. o.kind end
-- The same pair said by places: "a red circle at the top and a blue square at the bottom".
local function placed_caption(p)
    local places = places_of[p.relation]
    return ("%s %s and %s %s"):format(thing(p[1]), M.places[places[1]], thing(p[2]), M.places[places[2]])
end
function M.pair_caption(p) return ("%s %s %s %s %s"):format(a(p[1].color), p[1].kind, p.relation, a(p[2].color), p[2].kind) end
local function shape(kind, color, x, y, radius) return { kind = kind, x = x, y = y, radius = radius, color = M.colors[color] } end
local function inside(v, r) return math.min(math.max(v, 1.15 * r + 1), 63 - 1.15 * r) end

-- 40 pairs that training never sees, drawn once from a fixed seed.
M.held_out, M.held_list = {}, {}
do
    local r = M.rng(20240607)
    while #M.held_list < 40 do
        local p = { { color = r.pick(M.color_names), kind = r.pick(M.kinds) }, { color = r.pick(M.color_names), kind = r.pick(M.kinds) }, relation = r.pick(M.relations) }
        local caption = M.pair_caption(p)
        if p[1].color ~= p[2].color and not M.held_out[caption] then
            M.held_out[caption], M.held_list[#M.held_list + 1] = true, p
        end
    end
end

-- Objects that training never sees, by "color kind".
M.reserved = {}
local function among(list, name)
    for _, v in ipairs(list) do
        if v == name then return true end
    end
end
function M.reserve(text)
    for name in text:gmatch "[^,]+" do
        local color, kind = name:match "^%s*(%a+) (%a+)%s*$"
        if not among(M.color_names, color) or not among(M.kinds, kind) then
            error("what is reserved is a color and a kind, such as purple star; not " .. name, 0)
        end
        M.reserved[color .. " " .. kind] = true
    end
end

-- White and black shapes, two kinds more, colored and graded backgrounds. To be called before anything is drawn.
function M.enrich()
    local function add(colors, names, more)
        for _, m in ipairs(more) do
            colors[m[1]] = { m[2], m[3], m[4] }
            names[#names + 1] = m[1]
        end
    end
    add(M.colors, M.color_names, { { "white", .97, .97, .97 }, { "black", .05, .05, .05 } })
    add(M.backgrounds, M.background_names, { { "pink", .95, .74, .79 }, { "tan", .8, .7, .54 } })
    table.move({ "diamond", "cross" }, 1, 2, #M.kinds + 1, M.kinds)
    M.graded = true
end

-- From pictures that differ in nothing but what is to be learned to everything. A model that begins with everything learns colors, kinds and backgrounds, and
-- hardly ever which of two shapes is where: that is a small part of the loss, and all that no caption tells (sizes, exact places) hides it.
-- steady: no such thing; single, placed, several: shares of single shapes, of these with a place, of two or three of the same.
M.lessons = {
    { steady = true, colors = 2, kinds = 1, single = 1, placed = 1 },
    { steady = true, colors = 2, kinds = 1, single = 0.2, placed = 1, relations = { "above", "left of" } },
    { steady = true, colors = 2, kinds = 1, single = 0.2, placed = 1 },
    { steady = true, single = 0.2, placed = 1 },
    { single = 0.23, placed = 0.75, several = 0.12, backgrounds = true },
}

local avoided           -- the background of the picture that is being made: no shape is of its color
local function object(r, lesson)
    local function among_first(list, n) return list[1 + r.below(math.min(n or #list, #list))] end
    local color, kind
    repeat
        color, kind = among_first(M.color_names, lesson.colors), among_first(M.kinds, lesson.kinds)
    until color ~= avoided and not M.reserved[color .. " " .. kind]
    return { color = color, kind = kind }
end

-- Instead of random numbers the middle of where they are from: pictures that only differ in what the caption says.
local steady_rng = { uniform = function(low, high) return (low + high) / 2 end }

-- Two shapes side by side or one above the other; the first is the subject.
function M.draw_pair(r, p, scene, steady)
    if steady then r = steady_rng end
    local r1, r2 = r.uniform(8.5, 11.5), r.uniform(8.5, 11.5)
    local apart, off, cx, cy = r1 + r2 + r.uniform(4, 9), r.uniform(-8, 8), 32 + r.uniform(-3, 3), 32 + r.uniform(-3, 3)
    local sign = (p.relation == "above" or p.relation == "left of") and -1 or 1
    local dx, dy = off, sign * apart
    if p.relation:match("of$") then dx, dy = dy, dx end
    scene[1] = shape(p[1].kind, p[1].color, inside(cx + dx / 2, r1), inside(cy + dy / 2, r1), r1)
    scene[2] = shape(p[2].kind, p[2].color, inside(cx - dx / 2, r2), inside(cy - dy / 2, r2), r2)
end

local function pair(r, scene, lesson)
    local p
    repeat
        p = { object(r, lesson), object(r, lesson), relation = r.pick(lesson.relations or M.relations) }
    until p[1].color ~= p[2].color and not M.held_out[M.pair_caption(p)]
    M.draw_pair(r, p, scene, lesson.steady)
    return (r.uniform(0, 1) < 0.4 and placed_caption or M.pair_caption)(p), p
end

local function single(r, scene, lesson)
    local o, size = object(r, lesson), lesson.placed == 1 and "" or r.pick { "small", "large", "" }
    local range, place = M.sizes[size] or { 9.5, 13 }, size ~= "large" and r.uniform(0, 1) < lesson.placed and r.pick(M.place_names) or nil
    if lesson.steady then r = steady_rng end
    local radius = r.uniform(range[1], range[2])
    local x, y = r.uniform(0, 64), r.uniform(0, 64)
    if place == "top" or place == "left" then y = r.uniform(0, 64 / 3)
    elseif place then y = r.uniform(128 / 3, 64) end
    if place == "left" or place == "right" then x, y = y, x end
    scene[1] = shape(o.kind, o.color, inside(x, radius), inside(y, radius), radius)
    return a((size ~= "" and size .. " " or "") .. o.color) .. " " .. o.kind .. (place and " " .. M.places[place] or ""), { o, size = size, place = place }
end

local function several(r, scene, lesson)
    local o, n = object(r, lesson), r.pick { 2, 3 }
    while #scene < n do
        local x, y, free = r.uniform(11, 53), r.uniform(11, 53), true
        for _, s in ipairs(scene) do free = free and (s.x - x) ^ 2 + (s.y - y) ^ 2 > 21 ^ 2 end
        if free then scene[#scene + 1] = shape(o.kind, o.color, x, y, r.uniform(7, 8.5))
        elseif r.uniform(0, 1) < 0.02 then for i = 1, #scene do scene[i] = nil end end
    end
    return ("%s %s %s"):format(M.numbers[n], o.color, plural(o.kind)), { o, count = n }
end

-- One picture: its scene for weft.draw_shapes, its caption, and what it shows. lesson: of M.lessons; nil: the last. The background is white where the caption
-- does not name it.
function M.sample(r, lesson)
    lesson = lesson or M.lessons[#M.lessons]
    local what, named = r.uniform(0, 1), lesson.backgrounds and r.uniform(0, 1) < 0.5
    local name = named and r.pick(M.background_names) or M.background_names[1]
    local scene, several_from = { background = M.backgrounds[name] }, 1 - (lesson.several or 0)
    avoided = name
    local caption, spec = (what < lesson.single and single or what < several_from and pair or several)(r, scene, lesson)
    if M.graded and r.uniform(0, 1) < 0.3 then          -- towards a lighter or darker shade of itself
        local shade, to = r.uniform(-0.16, 0.16), {}
        for k = 1, 3 do to[k] = math.min(math.max(scene.background[k] + shade, 0), 1) end
        scene.to, scene.angle = to, r.uniform(0, 2 * math.pi)
    end
    spec.background = name
    if named then caption = caption .. " on a " .. name .. " background" end
    return scene, caption, spec
end

-- All words of the captions.
function M.words()
    local list = { "a", "an", "and", "at", "on", "of", "the", "above", "below", "top", "bottom", "left", "right", "background" }
    for _, names in ipairs { M.color_names, M.kinds, M.background_names, { "small", "large", "two", "three" } } do table.move(names, 1, #names, #list + 1, list) end
    for _, kind in ipairs(M.kinds) do list[#list + 1] = plural(kind) end
    return list
end

-- n pictures as (n, 64, 64, 3) f32 in [0, 1], captions, specs.
function M.batch(r, n, lesson)
    local scenes, captions, specs = {}, {}, {}
    for i = 1, n do scenes[i], captions[i], specs[i] = M.sample(r, lesson) end
    return weft.draw_shapes(scenes):to("f32") * (1 / 255), captions, specs
end

-- Writes n pictures with captions as a folder that weft.dataset reads. each(i) → scene, caption
local function write(folder, n, each)
    local made = os.execute("mkdir -p '" .. folder:gsub("'", "'\\''") .. "'")
    local metadata = made and assert(io.open(folder .. "/metadata.jsonl", "w"))
    if not made then error(folder .. " cannot be made", 0) end
    for i = 1, n do
        local scope <close> = weft.scope()
        local scene, caption = each(i)
        weft.save_image(weft.draw_shapes { scene }:to("f32") * (1 / 255), ("%s/%06d.png"):format(folder, i))
        assert(metadata:write(('{"file_name": "%06d.png", "text": "%s"}\n'):format(i, caption)))
    end
    assert(metadata:close())
end

if arg and (arg[0] or ""):match("shapes_data%.lua$") then
    local o = weft.args {
        "Draws captioned pictures of coloured shapes.",
        { "out", nil, "folder for the pictures and metadata.jsonl", required = true },
        { "count", 1000, "pictures", min = 1 },
        { "seed", 1, "of the pictures" },
        { "holdout", "", "objects that never appear, such as: purple star, red circle" },
        { "held", false, "draw the pairs that training never sees instead, one after the other" },
        { "rich", false, "more colours, kinds and backgrounds" },
    }
    if o.rich then M.enrich() end
    M.reserve(o.holdout)
    local r = M.rng(o.seed)
    write(o.out, o.count, function(i)
        if not o.held then return M.sample(r) end
        local p, scene = M.held_list[1 + (i - 1) % #M.held_list], { background = M.backgrounds[r.pick(M.background_names)] }
        M.draw_pair(r, p, scene)
        return scene, M.pair_caption(p)
    end)
end

return M
