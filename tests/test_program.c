/* The program as its users meet it: what it does with bad graphs, bad pictures and bad folders, how it is interrupted,
 * what it shows on a terminal, and what `weft inspect` tells. */
#include "tests/model_folders.h"
#include "tests/run_program.h"

#include <dirent.h>
#include <zlib.h>

#define GRAPH \
    "{\"1\": {\"class_type\": \"EmptyImage\", \"inputs\": {\"width\": 32, \"height\": 16, \"batch_size\": 1, " \
    "\"color\": 255}},\n" \
    " \"2\": {\"class_type\": \"SaveImage\", \"inputs\": {\"images\": [\"1\", 0], \"filename_prefix\": \"x\"}}}\n"

/* How many entries a folder has whose names contain a part. */
static int entries(const char *folder, const char *part) {
    int count = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) count += e->d_name[0] != '.' && strstr(e->d_name, part) != NULL;
    if (d) closedir(d);
    return count;
}

/* GRAPH with a piece replaced, as g.json. */
static void put_graph(const char *folder, const char *piece, const char *with) {
    char text[2048] = GRAPH;
    char *at = strstr(text, piece), rest[2048];
    if (!at) {
        TEST_FAIL("no \"%s\" in the graph", piece);
        return;
    }
    snprintf(rest, sizeof rest, "%s", at + strlen(piece));
    snprintf(at, sizeof text - (size_t)(at - text), "%s%s", with, rest);
    put_text(folder, "g.json", text);
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

TEST(runs_and_tells_where) {
    const char *top = new_folder();
    put_text(top, "g.json", GRAPH);
    struct run *r = WEFT(top, "run", "g.json");
    CHECK_EQ(r->status, 0);
    CHECK_STR(r->out, "output/x_00001_.png\n");
    CHECK_STR(r->err, "");
    r = WEFT(top, "run", "output/x_00001_.png", "--output", "other/deep", "--set", "2.filename_prefix=sub/y", "--json");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->out, "{\"event\": \"start\", \"node\": \"1\", \"class\": \"EmptyImage\"}\n");
    CHECK_HAS(r->out, "{\"event\": \"wrote\", \"node\": \"2\", \"class\": \"SaveImage\", \"file\": "
                      "\"other/deep/sub/y_00001_.png\"}\n");
    CHECK_HAS(r->out, "{\"event\": \"done\", \"node\": \"2\", \"class\": \"SaveImage\", \"seconds\": ");
    CHECK(!access(in(top, "other/deep/sub/y_00001_.png"), R_OK));
    drop_folder(top);
}

TEST(faults_in_graphs) {
    static const struct { const char *piece, *with, *parts[3];
    } cases[] = {
        { "EmptyImage",
          "EmtpyImage",
          { "g.json: node 1 (EmtpyImage)", "there is no class EmtpyImage", "did you mean EmptyImage?" } },
        { "\"width\": 32, ", "", { "g.json: node 1 (EmptyImage)", "input width", "missing" } },
        { "32", "\"wide\"", { "node 1 (EmptyImage): input width", "expected a whole number", "found a string" } },
        { "[\"1\", 0]", "3", { "node 2 (SaveImage): input images", "IMAGE", "found a number" } },
        { "[\"1\", 0]", "[\"1\", 1]", { "node 2 (SaveImage): input images", "output 1 of node 1", "which has 1" } },
        { "[\"1\", 0]", "[\"9\", 0]", { "node 2 (SaveImage): input images", "node 9", "not in the graph" } },
        { "32", "0", { "node 1 (EmptyImage): input width", "0 is below the least allowed", "1" } },
        { "32", "100000", { "node 1 (EmptyImage): input width", "100000 is above the most allowed", "16384" } },
        { "32", "1e99", { "node 1 (EmptyImage): input width", "above the most allowed", "16384" } },
        { "\"width\": 32", "\"width\": [\"2\", 0]", { "node", "(SaveImage)", "which has 0" } },
        { "\"2\": {", "\"1\": {", { "g.json:2:2:", "name", "already" } },
        { "32,", "32,,", { "g.json:1:", "", "" } },
        { "\"class_type\": \"SaveImage\"", "\"class\": 5", { "g.json: node 2", "class_type", "" } },
        { "SaveImage", "ImageInvert", { "g.json: the graph has no output node", "", "" } },
    };
    const char *top = new_folder();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_graph(top, cases[i].piece, cases[i].with);
        REFUSES(WEFT(top, "run", "g.json"), cases[i].parts[0], cases[i].parts[1], cases[i].parts[2]);
        REFUSES(WEFT(top, "check", "g.json"), cases[i].parts[0], cases[i].parts[1], cases[i].parts[2]);
    }
    put_text(top, "g.json",
             "{\"1\":{\"class_type\":\"ImageInvert\",\"inputs\":{\"image\":[\"2\",0]}},\"2\":{\"class_type\":"
             "\"ImageInvert\",\"inputs\":{\"image\":[\"1\",0]}},"
             "\"3\":{\"class_type\":\"SaveImage\",\"inputs\":{\"images\":[\"2\",0],\"filename_prefix\":\"x\"}}}");
    REFUSES(WEFT(top, "run", "g.json"), "g.json: node 2 (ImageInvert)",
            "2 (ImageInvert) needs 1 (ImageInvert) needs 2");
    CHECK_EQ(entries(top, "output"), 0);
    struct run *r = WEFT(top, "run", "g.json", "--json");
    CHECK_EQ(r->status, 1);
    CHECK_HAS(r->out, "{\"event\": \"error\", \"node\": \"2\", \"class\": \"ImageInvert\", \"type\": "
                      "\"dependency_cycle\", \"message\": ");
    drop_folder(top);
}

TEST(faults_in_options) {
    const char *top = new_folder();
    put_text(top, "g.json", GRAPH);
    REFUSES(WEFT(top, "run", "g.json", "--ouput", "x"), "there is no option --ouput", "did you mean --output?",
            "weft run --help");
    REFUSES(WEFT(top, "run", "g.json", "--threads", "0"), "--threads", "from 1");
    REFUSES(WEFT(top, "run", "g.json", "--memory", "much"), "--memory", "4G");
    REFUSES(WEFT(top, "run", "g.json", "--device", "abacus"), "abacus");
    REFUSES(WEFT(top, "run", "g.json", "--set", "1.widht=3"), "node 1 (EmptyImage)", "widht", "did you mean width?");
    REFUSES(WEFT(top, "run", "g.json", "--set", "7.width=3"), "no node 7");
    REFUSES(WEFT(top, "run", "g.json", "--set", "width=3"), "NODE.INPUT=VALUE");
    REFUSES(WEFT(top, "run", "g.json", "--set", "1.width=abc"), "node 1 (EmptyImage)", "input width", "\"abc\"");
    REFUSES(WEFT(top, "run", "none.json"), "none.json", "No such file");
    REFUSES(WEFT(top, "run"), "weft run");
    REFUSES(WEFT(top, "rnu", "g.json"), "did you mean \"run\"?");
    drop_folder(top);
}

/* 100 MB are refused by their size, 10 MB of values by their number, a text of 20 MB is read; depth costs no stack. The
 * limits of time are for what never ends: all of it takes a second where nothing else runs. */
TEST(large_and_deep_files) {
    const char *top = new_folder();
    FILE *f = fopen(in(top, "large.json"), "wb");
    REQUIRE(f);
    static char block[1 << 20];
    memset(block, '1', sizeof block);
    for (size_t i = 1; i < sizeof block; i += 2) block[i] = ',';
    fputs("{\"1\":{\"class_type\":\"Note\",\"inputs\":{\"a\":[", f);
    for (int i = 0; i < 10; i++) fwrite(block, 1, sizeof block, f);
    fputs("1]}}}", f);
    fclose(f);
    struct run *r = WEFT(top, "run", "large.json");
    REFUSES(r, "large.json", "too many");
    CHECK(r->seconds < 30);
    CHECK(!truncate(in(top, "large.json"), 100000000));
    r = WEFT(top, "run", "large.json");
    REFUSES(r, "large.json", "a graph of 95 MB; the limit is 64 MB");
    CHECK(r->seconds < 10);
    f = fopen(in(top, "text.json"), "wb");
    REQUIRE(f);
    fputs("{\"1\":{\"class_type\":\"Note\",\"inputs\":{\"text\":\"", f);
    for (int i = 0; i < 20; i++) fwrite(block, 1, sizeof block, f);
    fputs("\"}}}", f);
    fclose(f);
    r = WEFT(top, "run", "text.json");
    REFUSES(r, "text.json: the graph has no output node");
    CHECK(r->seconds < 30);
    char *deep = malloc(60001);
    for (int i = 0; i < 10000; i++) memcpy(deep + 5 * i, "{\"1\":", 5);
    memset(deep + 50000, '}', 10000);
    deep[60000] = 0;
    put_text(top, "deep.json", deep);
    REFUSES(WEFT(top, "run", "deep.json"), "deep.json:1:", "inside each other");
    memset(deep, '[', 10000);
    deep[10000] = 0;
    put_text(top, "deep.json", deep);
    REFUSES(WEFT(top, "check", "deep.json"), "deep.json:1:", "inside each other");
    free(deep);
    drop_folder(top);
}

/* `count` pieces of text, each printed with its number and the one before, as a file. */
static void put_many(const char *folder, const char *name, const char *start, const char *piece, int count,
                     const char *end) {
    FILE *f = fopen(in(folder, name), "wb");
    if (f) fputs(start, f);
    for (int i = 1; f && i <= count; i++) fprintf(f, piece, i, i - 1);
    if (!f || fputs(end, f) < 0 || fclose(f)) TEST_FAIL("%s cannot be written", name);
}

/* Files of a few MB that would take hours if anything in them were looked for one by one. The limit is the alarm of
 * run_start(). */
TEST(graphs_made_to_take_long) {
    const char *top = new_folder();
    put_many(top, "unknown.json", "{", "\"%d\":{\"class_type\":\"Nothing%d\"},", 100000,
             "\"x\":{\"class_type\":\"Note\"}}");
    REFUSES(WEFT(top, "check", "unknown.json"), "there is no class Nothing0", "and more: these were the first 500");
    struct run *r = WEFT(top, "inspect", "unknown.json");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->out, "  100001\n");
    CHECK_HAS(r->out, "    others      99501\n");
    put_many(top, "inputs.json", "{\"1\":{\"class_type\":\"Note\",\"inputs\":{", "\"a%d\":%d,", 100000, "\"b\":1}}}");
    REFUSES(WEFT(top, "check", "inputs.json"), "node 1 (Note): more than 512 inputs");
    put_many(top, "chain.json", "{\"0\":{\"class_type\":\"EmptyImage\"},",
             "\"%d\":{\"class_type\":\"Reroute\",\"inputs\":{\"\":[\"%d\",0]}},", 100000,
             "\"x\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"100000\",0]}}}");
    REFUSES(WEFT(top, "check", "chain.json"), "node 0 (EmptyImage): input width (INT) is missing");
    put_many(
        top, "links.json",
        "{\"nodes\":[{\"id\":0,\"type\":\"Reroute\",\"inputs\":[{\"link\":1}]},{\"id\":1,\"type\":\"A\",\"inputs\":[",
        "{\"name\":\"a%d\",\"link\":1,\"b\":%d},", 100000, "{}]}],\"links\":[[1,0,0,0,0,\"*\"]]}");
    REFUSES(WEFT(top, "check", "links.json"), "links.json", "too many links");
    drop_folder(top);
}

/* ---- pictures, folders, memory ----------------------------------------------------------------------------------- */

static void big_endian(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> (24 - 8 * i));
}

/* A PNG of this size that has nothing but its head. */
static void put_head(const char *folder, const char *name, uint32_t width, uint32_t height) {
    unsigned char b[8 + 25] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R' };
    big_endian(b + 16, width);
    big_endian(b + 20, height);
    b[24] = 8;
    b[25] = 2;
    big_endian(b + 29, (uint32_t)crc32(0, b + 12, 17));
    FILE *f = fopen(in(folder, name), "wb");
    if (!f || fwrite(b, sizeof b, 1, f) != 1 || fclose(f)) TEST_FAIL("%s cannot be written", name);
}

#define LOAD "{\"1\": {\"class_type\": \"LoadImage\", \"inputs\": {\"image\": \"a.png\"}}, " \
             "\"2\": {\"class_type\": \"SaveImage\", \"inputs\": {\"images\": [\"1\", 0], \"filename_prefix\": \"x\"}}}"

TEST(bad_pictures) {
    const char *top = new_folder();
    mkdir(in(top, "input"), 0755);
    put_text(top, "g.json", LOAD);
    REFUSES(WEFT(top, "run", "g.json"), "g.json: node 1 (LoadImage)", "a.png");
    put_text(top, "input/a.png", "no picture at all");
    REFUSES(WEFT(top, "run", "g.json"), "node 1 (LoadImage)", "input/a.png", "not a PNG, JPEG or BMP");
    put_head(top, "input/a.png", 100000, 1);
    REFUSES(WEFT(top, "run", "g.json"), "node 1 (LoadImage)", "input/a.png", "100000 × 1", "16384");
    put_head(top, "input/a.png", 16384, 16384);
    REFUSES(WEFT(top, "run", "g.json"), "node 1 (LoadImage)", "input/a.png", "16384 × 16384");
    put_head(top, "input/a.png", 100, 100);
    REFUSES(WEFT(top, "run", "g.json"), "node 1 (LoadImage)", "input/a.png", "broken");
    REFUSES(WEFT(top, "run", "input/a.png"), "input/a.png", "carries no graph");
    REFUSES(WEFT(top, "run", "g.json", "--set", "1.image=../g.json"), "node 1 (LoadImage)", "../g.json",
            "out of the folder");
    REFUSES(WEFT(top, "run", "g.json", "--set", "1.image=/etc/passwd"), "node 1 (LoadImage)", "/etc/passwd");
    CHECK_EQ(entries(top, "output"), 0);
    drop_folder(top);
}

TEST(output_that_cannot_be_written) {
    const char *top = new_folder();
    put_text(top, "g.json", GRAPH);
    put_text(top, "taken", "a file");
    REFUSES(WEFT(top, "run", "g.json", "--output", "taken"), "node 2 (SaveImage)", "taken/x_00001_.png",
            "cannot be written");
    REFUSES(WEFT(top, "run", "g.json", "--output", "taken/sub"), "node 2 (SaveImage)", "taken/sub", "cannot be made");
    REFUSES(WEFT(top, "run", "g.json", "--output", "/proc/nowhere"), "node 2 (SaveImage)", "/proc/nowhere");
    REFUSES(WEFT(top, "run", "g.json", "--set", "2.filename_prefix=../x"), "node 2 (SaveImage)", "filename_prefix",
            "inside the output folder");
    drop_folder(top);
}

TEST(too_little_memory) {
    const char *top = new_folder();
    put_graph(top, "32", "4096");
    REFUSES(WEFT(top, "run", "g.json", "--memory", "64K"), "node 1 (EmptyImage)", "over the limit of 64.0 KiB",
            "--memory");
    CHECK_EQ(entries(top, "output"), 0);
    drop_folder(top);
}

/* ---- a tiny model ------------------------------------------------------------------------------------------------ */

#define TINY \
    "run", WEFT_SOURCE_DIR "/graphs/txt2img.json", "--threads", "1", "--set", "4.ckpt_name=tiny.safetensors", "--set", \
        "5.width=64", "--set", "5.height=64"

/* Interrupted while it samples: status 130, and nothing is left behind, neither a picture nor a part of one. */
TEST(control_c) {
    weft_ctx *c = weft_ctx_new(NULL);
    const char *top = new_model_folders(c);
    REQUIRE(top);
    int ends[2];
    REQUIRE(!pipe(ends));
    pid_t child = run_start(top, (const char *const[]){ TINY, "--set", "3.steps=10000", "--json", NULL }, ends[1], -1);
    close(ends[1]);
    FILE *events = fdopen(ends[0], "r");
    char line[1024] = "", last[1024] = "", err[4096];
    while (fgets(line, sizeof line, events) && !strstr(line, "\"what\": \"sample\", \"step\": 3")) {}
    double start = run_clock();
    CHECK_HAS(line, "\"what\": \"sample\"");
    kill(child, SIGINT);
    while (fgets(line, sizeof line, events)) memcpy(last, line, sizeof last);
    CHECK_EQ(run_wait(child), 130);
    CHECK(run_clock() - start < 20);
    CHECK_HAS(last, "{\"event\": \"error\", \"node\": \"3\", \"class\": \"KSampler\", \"type\": \"interrupted\"");
    run_read(top, "err.txt", err, sizeof err);
    CHECK_STR(err, "interrupted\n");
    CHECK_EQ(entries(in(top, "output"), ""), 0);
    fclose(events);
    drop_folder(top);
    weft_ctx_free(c);
}

/* On a terminal the steps and their time are shown as they pass; into a file nothing is. */
TEST(progress_on_a_terminal) {
    weft_ctx *c = weft_ctx_new(NULL);
    const char *top = new_model_folders(c);
    REQUIRE(top);
    struct run *r = WEFT(top, TINY, "--set", "3.steps=4");
    CHECK_EQ(r->status, 0);
    CHECK_STR(r->out, "output/txt2img_00001_.png\n");
    CHECK_STR(r->err, "");
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    REQUIRE(terminal >= 0 && !grantpt(terminal) && !unlockpt(terminal));
    int inside = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    REQUIRE(inside >= 0);
    pid_t child = run_start(top, (const char *const[]){ TINY, "--set", "3.steps=4", NULL }, -1, inside);
    close(inside);
    static char seen[1 << 16];
    size_t n = 0;
    for (ssize_t k; n + 1 < sizeof seen && (k = read(terminal, seen + n, sizeof seen - 1 - n)) > 0;) n += (size_t)k;
    CHECK_EQ(run_wait(child), 0);
    CHECK_HAS(seen, "\rload ");
    CHECK_HAS(seen, "\rsample   [                              ] 0/4");
    CHECK_HAS(seen, "\rsample   [###############               ] 2/4  ");
    CHECK_HAS(seen, "s/step");
    CHECK_HAS(seen, "4/4");
    close(terminal);
    drop_folder(top);
    weft_ctx_free(c);
}

/* ---- inspect ----------------------------------------------------------------------------------------------------- */

static void check_models(weft_ctx *c, const char *top) {
    struct run *r = WEFT(top, "inspect", "models/checkpoints/tiny.safetensors");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->out, "kind        safetensors\n");
    CHECK_HAS(r->out, "family      Stable Diffusion 1\n");
    CHECK_HAS(r->out, "UNet          4 to 4 channels");
    CHECK_HAS(r->out, "\n    model.diffusion_model                  686       5.7 M  10.8 MiB  f16\n");
    CHECK_HAS(r->out, "types       f16\n");
    mkdir(in(top, "folder"), 0755);
    REQUIRE(write_folder(c, in(top, "folder"),
                         (struct file_options){ .family = "sd2", .parts = WEFT_PARTS_ALL, .type = WEFT_F32 }));
    r = WEFT(top, "inspect", "folder");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->out, "kind       folder of diffusers\n");
    CHECK_HAS(r->out, "family     Stable Diffusion 2\n");
    CHECK_HAS(r->out, "autoencoder   4 latent channels");
    r = WEFT(top, "inspect", WEFT_SOURCE_DIR "/examples/models/shapes/unet/diffusion_pytorch_model.safetensors.index.json");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->out, "kind        index of shards\n");
    CHECK_HAS(r->out, "shards      3\n");
    CHECK_HAS(r->out, "UNet  4 to 4 channels, 3 resolutions of 64 to 112, context 96\n");
    CHECK_HAS(r->out, "tensors     326\n");
    put_text(top, "folder/x.safetensors.index.json", "{\"weight_map\": {\"a\": \"gone.safetensors\"}}");
    REFUSES(WEFT(top, "inspect", "folder/x.safetensors.index.json"), "folder/gone.safetensors", "No such file");
    weft_scope s = weft_scope_named(c, "lora");
    weft_st_item items[] = {
        { "lora_unet_mid_block_attn1_to_q.lora_down.weight", weft_full(c, WEFT_F32, WEFT_SHAPE(8, 32), 1), WEFT_F16 },
        { "lora_unet_mid_block_attn1_to_q.lora_up.weight", weft_full(c, WEFT_F32, WEFT_SHAPE(32, 8), 1), WEFT_F16 },
        { "lora_te_text_model_mlp_fc1.lora_down.weight", weft_full(c, WEFT_F32, WEFT_SHAPE(4, 64), 1), WEFT_F16 },
        { "lora_te_text_model_mlp_fc1.lora_up.weight", weft_full(c, WEFT_F32, WEFT_SHAPE(64, 4), 1), WEFT_F16 }
    };
    const char *const metadata[] = { "ss_network_dim", "8", "title", "a\x1b[31m\nb", NULL };
    CHECK_EQ(weft_st_write(c, in(top, "lora.safetensors"), items, 4, metadata), WEFT_OK);
    weft_scope_end(c, s, NULL);
    r = WEFT(top, "inspect", "lora.safetensors");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->out, "taken for         a LoRA\n");
    CHECK_HAS(r->out, "    4  1\n    8  1\n");
    CHECK_HAS(r->out, "    text_encoder    1\n    unet_attention  1\n");
    CHECK_HAS(r->out, "    title           a [31m b\n");      /* nothing that a terminal would obey */
    CHECK_HAS(r->out, "    lora_unet  ");
}

TEST(inspects_everything) {
    weft_ctx *c = weft_ctx_new(NULL);
    const char *top = new_model_folders(c);
    REQUIRE(top);
    check_models(c, top);
    CHECK_EQ(WEFT(top, TINY, "--set", "3.steps=1", "--set", "3.seed=18446744073709551615")->status, 0);
    struct run *r = WEFT(top, "inspect", "output/txt2img_00001_.png");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->out, "output/txt2img_00001_.png\n  kind      picture\n");
    CHECK_HAS(r->out, "width     64\n");
    CHECK_HAS(r->out, "carries   prompt\n");
    CHECK_HAS(r->out, "18446744073709551615");
    CHECK_HAS(r->out, "checkpoints  tiny.safetensors  yes\n");
    CHECK_HAS(r->out, "6     positive  a lighthouse");
    CHECK_HAS(r->out, "outputs   9 (SaveImage)\n");
    put_text(top, "w.json",
             "{\"nodes\":[{\"id\":1,\"type\":\"Unheard "
             "Of\"},{\"id\":2,\"type\":\"CheckpointLoaderSimple\",\"widgets_values\":[\"none.safetensors\"]}],"
             "\"links\":[]}");
    r = WEFT(top, "inspect", "--json", "w.json");
    CHECK_EQ(r->status, 0);
    CHECK_HAS(r->out, "{\"file\":\"w.json\",\"kind\":\"graph\",\"form\":\"UI\",\"nodes\":2,");
    CHECK_HAS(r->out, "\"unknown_classes\":[\"Unheard Of\"]");
    CHECK_HAS(r->out, "\"name\":\"none.safetensors\",\"is_there\":false");
    put_text(top, "README", "just words");
    r = WEFT(top, "inspect", "README", "nowhere", "w.json");
    REFUSES(r, "README", "nowhere", "No such file");
    CHECK_HAS(r->out, "w.json\n  kind ");      /* the rest is told all the same */
    drop_folder(top);
    weft_ctx_free(c);
}

TEST_MAIN
