-- How many of the 40 pairs that training never saw does the small model draw rightly? Looks at the pixels: colours, shapes, which is where.
-- `weft shapes_score.lua` tells of each; other scripts: local score = require "shapes_score"; score(m, {seed = 1}) → {right = 38, swapped = 1, images = …};
-- swapped: right but for which of the two is where.
local weft = require "weft"
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local sd, shapes, check = weft.stable_diffusion, require "shapes_data", require "shapes_check"

local opposite = { above = "below", below = "above", ["left of"] = "right of", ["right of"] = "left of" }

-- m: of weft.stable_diffusion; o: count, seed, steps, guidance, scheduler; each(ok, prompt, why) is called for every picture.
local function score(m, o, each)
    local right, swapped, pictures, count = 0, 0, {}, o.count or #shapes.held_list
    for first = 1, count, 8 do
        local prompts = {}
        for i = first, math.min(first + 7, count) do prompts[#prompts + 1] = shapes.pair_caption(shapes.held_list[i]) end
        local drawn = sd.sample(m, { prompts = prompts, steps = o.steps or 25, guidance = o.guidance or 2, scheduler = o.scheduler or "ddim",
            seed = (o.seed or 1) + first, width = 64, height = 64 })
        for i, prompt in ipairs(prompts) do
            local spec, seen = shapes.held_list[first + i - 1], check.describe(drawn:slice(1, i, 1), shapes)
            local ok, why = check.judge(seen, spec, shapes)
            if ok then right = right + 1
            elseif check.judge(seen, { spec[1], spec[2], relation = opposite[spec.relation] }, shapes) then swapped = swapped + 1 end
            if each then each(ok, prompt, why) end
        end
        pictures[#pictures + 1] = drawn
    end
    return { right = right, swapped = swapped, images = weft.concat(pictures, 1) }
end

if (arg[0] or ""):match "shapes_score%.lua$" then
    local o = weft.args {
        "Draws the 40 held-out pairs of shapes and counts how many are right.",
        { "models", (arg[0]:match("^(.*/)") or "./") .. "models", "folder that has the model" },
        { "model", "shapes", "name of the model" },
        { "count", #shapes.held_list, "how many of the pairs", min = 1, max = #shapes.held_list },
        { "steps", 25, "", min = 1 },
        { "guidance", 2.0, "" },
        { "scheduler", "ddim", "", choices = { "ddpm", "ddim", "pndm", "unipc", "euler_discrete", "dpmsolver_multistep" } },
        { "seed", 1, "", seed = true },
        { "output", nil, "file for a picture of all 40, row by row" },
    }
    weft.configure { models = { o.models } }
    local result = score(sd.load(o.model), o, function(ok, prompt, why)
        print(("%-3s %s%s"):format(ok and "yes" or "no", prompt, ok and "" or ": " .. tostring(why)))
    end)
    print(("%d of %d; %d more with the two in each other's place"):format(result.right, o.count, result.swapped))
    if o.output then weft.save_image(weft.grid(result.images, 8), o.output) end
end

return score
