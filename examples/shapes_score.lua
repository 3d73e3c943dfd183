-- How many of the 40 pairs that training never saw does the small model draw rightly? Looks at the pixels: colours, shapes, which is where.
local weft = require "weft"
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local o = weft.args {
    "Draws the 40 held-out pairs of shapes and counts how many are right.",
    { "models", (arg[0]:match("^(.*/)") or "./") .. "models", "folder that has the model" },
    { "model", "shapes", "name of the model" },
    { "steps", 25, "", min = 1 },
    { "guidance", 4.0, "" },
    { "scheduler", "ddim", "", choices = { "ddpm", "ddim", "pndm", "unipc", "euler_discrete", "dpmsolver_multistep" } },
    { "seed", 1, "", seed = true },
    { "output", nil, "file for a picture of all 40, row by row" },
}
weft.configure { models = { o.models } }
local sd, shapes, check = weft.stable_diffusion, require "shapes_data", require "shapes_check"
local m = sd.load(o.model)
local right, pictures = 0, {}
for first = 1, #shapes.held_list, 8 do
    local prompts = {}
    for i = first, first + 7 do prompts[#prompts + 1] = shapes.pair_caption(shapes.held_list[i]) end
    local drawn = sd.sample(m, { prompts = prompts, steps = o.steps, guidance = o.guidance, scheduler = o.scheduler, seed = o.seed + first, width = 64, height = 64 })
    for i, prompt in ipairs(prompts) do
        local ok, why = check.check(drawn:slice(1, i, 1), shapes.held_list[first + i - 1], shapes)
        right = right + (ok and 1 or 0)
        print(("%-3s %s%s"):format(ok and "yes" or "no", prompt, ok and "" or ": " .. tostring(why)))
    end
    pictures[#pictures + 1] = drawn
end
print(("%d of %d"):format(right, #shapes.held_list))
if o.output then weft.save_image(weft.grid(weft.concat(pictures, 1), 8), o.output) end
