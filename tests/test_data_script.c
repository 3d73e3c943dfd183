/* Data sets from Lua, and the examples that draw shapes and judge pictures of them: run as programs. */
#include "tests/data_bed.h"
#include "tests/run_program.h"

#define EXAMPLES WEFT_SOURCE_DIR "/examples/"

static struct run *script(const char *name, const char *text) {
    put_text(name, text);
    return run_program(data_root, (const char *const[]){ name, NULL });
}

TEST(lua_has_data_sets) {
    weft_ctx *c = data_bed();
    struct run *r = script("t.lua",
        "local weft = require 'weft'\n"
        "local images, captions = weft.rand({ 10, 6, 6, 3 }, { seed = 1 }), {}\n"
        "for i = 1, 10 do captions[i] = 'caption ' .. i end\n"
        "local o = { images = images, captions = captions, size = { 5, 4 }, batch = 4, shuffle = true, seed = 3,\n"
        "            random_flip = true, center_crop = false, template = { 'a {}', 'the {}' }, caption_dropout = 0.2 }\n"
        "local data <close> = weft.dataset(o)\n"
        "assert(#data == 10 and data.length == 10 and data.batches == 3)\n"
        "local seen, sizes = {}, {}\n"
        "for b in data:epoch() do\n"
        "    assert(b.epoch == 1 and #b.captions == b.size and b.width == 5 and b.height == 4)\n"
        "    assert(table.concat(b.images.shape, ' ') == b.size .. ' 4 5 3')\n"
        "    for k, i in ipairs(b.indices) do\n"
        "        seen[i] = (seen[i] or 0) + 1\n"
        "        assert(b.captions[k] == '' or b.captions[k]:match '^%a+ caption ' and b.captions[k]:match(i .. '$'))\n"
        "    end\n"
        "    sizes[#sizes + 1] = b.size\n"
        "end\n"
        "for i = 1, 10 do assert(seen[i] == 1) end\n"
        "assert(table.concat(sizes, ' ') == '4 4 2')\n"
        "local state = data:state()\n"
        "assert(state.epoch == 2 and state.position == 1 and state.seed == 3)\n"
        "local first = data:next()\n"
        "o.seed, o.threads = 77, 0\n"
        "local other <close> = weft.dataset(o)\n"
        "other:restore(state)\n"
        "local again = other:next()\n"
        "assert((first.images - again.images):abs():max():item() == 0)\n"
        "assert(table.concat(first.captions, '|') == table.concat(again.captions, '|'))\n"
        "assert(other:stats().stalls == 1 and data:caption(3) == 'caption 3' and data:file(3) == nil)\n"
        "local cache <close> = weft.tensor_cache 'cache'\n"
        "local key = data:key(2, 'model')\n"
        "assert(key ~= data:key(3, 'model') and key ~= data:key(2, 'other') and cache:get(key, 'x') == nil)\n"
        "cache:put(key, { x = weft.tensor { 1, 2 }, y = weft.tensor { 3 } })\n"
        "local y, x = cache:get(key, 'y', 'x')\n"
        "assert(y:item() == 3 and x[2] == 2 and cache:stats().found == 1)\n"
        "local function fails(part, ...)\n"
        "    local ok, e = pcall(...)\n"
        "    if ok or not tostring(e):find(part, 1, true) then error(part .. ' is not in: ' .. tostring(e)) end\n"
        "end\n"
        "fails('there is no option foldr; did you mean folder?', weft.dataset, { foldr = 'x' })\n"
        "fails('1 captions for 10 images', weft.dataset, { images = images, captions = { 'x' }, size = 4 })\n"
        "fails('size: a whole number or {width, height} is', weft.dataset, { images = images, size = 'x' })\n"
        "fails('resize: bilinear, bicubic or', weft.dataset, { images = images, size = 4, resize = 'box' })\n"
        "fails('buckets have no base', weft.dataset, { images = images, buckets = { step = 8 } })\n"
        "fails('a sample from 1 to 10 is wanted', data.caption, data, 11)\n"
        "fails('the state has no seed', data.restore, data, {})\n"
        "data:close()\n"
        "fails('closed', data.next, data)\n"
        "print 'done'\n");
    CHECK_EQ(r->status, 0);
    CHECK_STR(r->out, "done\n");
    CHECK_STR(r->err, "");
    data_bed_free(c);
}

TEST(left_out_pictures_are_warned_of) {
    weft_ctx *c = data_bed();
    put_picture(c, "p/a.png", 4, 4, 255, 0, 0);
    put_text("p/b.png", "no picture");
    struct run *r = script("t.lua", "local weft = require 'weft'\n"
                           "local d <close> = weft.dataset { folder = 'p', size = 4, batch = 2 }\n"
                           "for i = 1, 3 do assert(d:next().size == 1) end\n"
                           "assert(d:stats().left_out == 3)\n");
    CHECK_EQ(r->status, 0);
    CHECK_STR(r->err, "warning: p/b.png: not a PNG, JPEG or BMP picture that can be read (unknown image type)\n");
    data_bed_free(c);
}

TEST(drawn_folders_can_be_read) {
    weft_ctx *c = data_bed();
    const char *const draw[] = { EXAMPLES "shapes_data.lua", "--out", "shapes", "--count", "40", "--rich", "--holdout",
                                 "purple star,red circle", NULL };
    const char *const bad[] = { EXAMPLES "shapes_data.lua", "--out", "x", "--holdout", "star", NULL };
    struct run *r = run_program(data_root, draw);
    CHECK_EQ(r->status, 0);
    CHECK_STR(r->err, "");
    weft_dataset_options o = weft_dataset_defaults();
    o.folder = data_path("shapes");
    o.width = o.height = 64;
    o.strict = true;
    weft_dataset *d = weft_dataset_open(c, &o);
    REQUIRE(d);
    CHECK_EQ(weft_dataset_length(d), 40);
    for (int i = 0; i < 40; i++) {
        const char *caption = weft_dataset_caption(d, i);
        if (strstr(caption, "purple star") || strstr(caption, "red circle")) TEST_FAIL("%s: reserved", caption);
    }
    weft_dataset_close(d);
    r = run_program(data_root, bad);
    CHECK_EQ(r->status, 1);
    CHECK_HAS(r->err, "a color and a kind, such as purple star; not star");
    data_bed_free(c);
}

static void judge(const char *const *arguments) {
    struct run *r = run_program(data_root, arguments);
    if (r->status) TEST_FAIL("%s%s", r->out, r->err);
    CHECK_HAS(r->out, "accepted: ");
}

TEST(the_judge_of_shapes_knows_right_from_wrong) {
    weft_ctx *c = data_bed();
    judge((const char *const[]){ EXAMPLES "shapes_check.lua", "--count", "60", "--seed", "11", NULL });
    judge((const char *const[]){ EXAMPLES "shapes_check.lua", "--count", "40", "--rich", "--noise", "0.03", NULL });
    struct run *r = script("t.lua", "local weft = require 'weft'\n"
        "package.path = '" EXAMPLES "?.lua;' .. package.path\n"
        "local shapes, check = require 'shapes_data', require 'shapes_check'\n"
        "local spec = { { color = 'red', kind = 'circle' } }\n"
        "local function say(image) print((select(2, check.check(image, spec, shapes)))) end\n"
        "local function drawn(scene) return weft.draw_shapes { scene }:to 'f32' * (1 / 255) end\n"
        "local gray, red = { .5, .5, .5 }, shapes.colors.red\n"
        "local x = drawn { background = gray, { kind = 'circle', x = 32, y = 32, radius = 11, color = red } }\n"
        "say(x)\n"
        "say(drawn { background = gray })\n"
        "say(x:resample(64, 128, 'bilinear'):slice(3, 33, 64))\n"       /* twice as wide */
        "say(weft.rand({ 64, 64, 3 }, { seed = 4 }))\n");
    CHECK_EQ(r->status, 0);
    char *line = strtok(r->out, "\n");
    CHECK_STR(line, "nil");
    line = strtok(NULL, "\n");
    CHECK_STR(line, "there is no red circle among: ");
    for (int i = 0; i < 2; i++) {
        line = strtok(NULL, "\n");
        CHECK(line && strcmp(line, "nil"));
    }
    data_bed_free(c);
}

/* The small model's tokenizer has one token for each word; its token vectors are as far apart as is asked: deviation 0.02 × initializer_factor. */
TEST(words_of_shapes_are_tokens) {
    weft_ctx *c = data_bed();
    struct run *r = script("t.lua", "local weft = require 'weft'\n"
        "package.path = '" EXAMPLES "?.lua;' .. package.path\n"
        "local words = require 'shapes_data'.words()\n"
        "weft.make_folder 'm/tokenizers/shapes'\n"
        "weft.configure { models = { 'm' } }\n"
        "local n = require 'shapes_tokenizer'.write('m/tokenizers/shapes', words)\n"
        "local clip = weft.node.CLIPFromConfig { tokenizer = 'shapes', config = ('{\"vocab_size\": %d, \"eos_token_id\": %d, \"hidden_size\": 8, "
        "\"num_attention_heads\": 1, \"num_hidden_layers\": 1, \"initializer_factor\": 20}'):format(n, n - 1) }\n"
        "for _, word in ipairs(words) do\n"
        "    local ids = (weft.node.Tokenize { clip = clip, text = word }):tolist()[1]\n"
        "    if ids[1] ~= n - 2 or ids[3] ~= n - 1 then print(word, table.unpack(ids, 1, 8)) end\n"
        "end\n"
        "weft.train(clip)\n"
        "for _, p in ipairs(weft.parameters(clip)) do\n"
        "    if p.name:match 'token_embedding' then print(('%.1f'):format(p.tensor:square():mean():sqrt():item())) end\n"
        "end\n");
    if (r->status) TEST_FAIL("%s", r->err);
    CHECK_STR(r->out, "0.4\n");
    data_bed_free(c);
}

TEST_MAIN
