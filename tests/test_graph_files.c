/* The graphs that come with Weft: each is whole, runs to its end on a tiny model, and obeys the laws that tie it to the
 * others. */
#include "nodes/image/picture.h"
#include "nodes/values.h"
#include "tests/model_folders.h"

#include <dirent.h>

#define GRAPHS WEFT_SOURCE_DIR "/graphs"
enum { SIDE = 64 };     /* of the pictures here; the files say 512 */

struct bed {
    weft_ctx *c;
    weft_registry *r;
    weft_runner *runner;
    const char *top;
    char folder[4][128];
    const char *models[3];
    weft_folders folders;
};

/* input/plain.png: SIDE × SIDE of all colours, and the same seen through half and opened all over: masks 0, 1 on the
 * left, and 1. */
static bool put_pictures(struct bed *b) {
    static unsigned char pixels[SIDE * SIDE * 4];
    static const char *const names[] = { "plain.png", "half.png", "open.png" };
    for (int k = 0; k < 3; k++) {
        int channels = k ? 4 : 3;
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) {
                unsigned char *p = pixels + (y * SIDE + x) * channels;
                p[0] = (unsigned char)(4 * x), p[1] = (unsigned char)(4 * y), p[2] = (unsigned char)(2 * (x + y));
                if (k) p[3] = k == 1 && x >= SIDE / 2 ? 255 : 0;
            }
        char path[256];
        snprintf(path, sizeof path, "%s/input/%s", b->top, names[k]);
        weft_scope s = weft_scope_named(b->c, "pictures");
        weft_tensor *t = weft_tensor_from(b->c, WEFT_U8, WEFT_SHAPE(SIDE, SIDE, channels), pixels);
        bool saved = !weft_picture_save(b->c, path, t, NULL);
        weft_scope_end(b->c, s, NULL);
        if (!saved) return false;
    }
    return true;
}

/* models/diffusers/model: a Unet that knows nothing. */
static bool put_unet(struct bed *b) {
    const char *const config[] = { "config" }, *const save[] = { "model", "folder" };
    const char *unet = "{\"_class_name\": \"Unet\", \"dim\": 8, \"dim_mults\": [1, 2], \"self_condition\": true}";
    const weft_folders there = { .models = b->models, .output = b->folder[0] };
    weft_value in[2] = { { .kind = WEFT_PORT_STRING, .type = "STRING", .s = (char *)unet } }, out[1] = { 0 }, none[1] = { 0 };
    bool made = !weft_node_call(b->c, b->r, &there, "UNetFromConfig", config, in, 1, out);
    in[1] = (weft_value){ .kind = WEFT_PORT_STRING, .type = "STRING", .s = (char *)"diffusers/model" };
    in[0] = out[0];
    made = made && !weft_node_call(b->c, b->r, &there, "DiffusersSave", save, in, 2, none);
    weft_value_clear(&out[0]);
    return made;
}

static bool bed_open(struct bed *b) {
    static const char *const names[] = { "models", "input", "output", "temp" };
    *b = (struct bed){ .c = weft_ctx_new(&(weft_options){ .threads = 1 }) };
    b->r = weft_nodes_registry(b->c);
    b->top = new_model_folders(b->c);
    if (!b->top) return false;
    for (int i = 0; i < 4; i++) snprintf(b->folder[i], sizeof b->folder[i], "%s/%s", b->top, names[i]);
    b->models[0] = b->folder[0];
    b->models[1] = WEFT_SOURCE_DIR "/examples/models";      /* shapes.json's */
    b->folders = (weft_folders){ b->models, b->folder[1], b->folder[2], b->folder[3] };
    b->runner = weft_runner_new(b->c, b->r, &(weft_runner_options){ .folders = b->folders });
    char lora[256], pictures[256];
    snprintf(lora, sizeof lora, "%s/models/loras/tiny.safetensors", b->top);
    snprintf(pictures, sizeof pictures, "%s/input/pictures", b->top);
    return b->runner && put_pictures(b) && put_unet(b) && !symlink(WEFT_SOURCE_DIR "/tests/golden/lora_kohya.safetensors", lora) &&
           !symlink(WEFT_SOURCE_DIR "/examples/pictures", pictures);
}

static void bed_close(struct bed *b) {
    weft_runner_free(b->runner);
    weft_registry_free(b->r);
    if (b->top) drop_folder(b->top);
    CHECK_EQ(weft_memory_live(b->c), 0);
    weft_ctx_free(b->c);
}

/* The graph of a file with its models and pictures replaced by those of the bed, small, and of few steps. */
static weft_graph *open_small(struct bed *b, const char *name) {
    static const char *const changes[][3] = {
        { "CheckpointLoaderSimple", "ckpt_name", "tiny.safetensors" },
        { "EmptyImage", "batch_size", "1" },
        { "EmptyLatentImage", "width", "64" },
        { "EmptyLatentImage", "height", "64" },
        { "LoadImage", "image", "half.png" },
        { "LoraLoader", "lora_name", "tiny.safetensors" },
        { "Noise", "width", "64" },
        { "Noise", "height", "64" },
        { "KSampler", "steps", "4" },
        { "Dataset", "size", "64" },
        { "Dataset", "batch_size", "2" },
    };
    char path[1024];
    snprintf(path, sizeof path, GRAPHS "/%s", name);
    weft_graph *g = weft_graph_read(b->c, b->r, path);
    const char *id;
    for (int i = 0; g && (id = weft_graph_id(g, i)); i++)
        for (size_t k = 0; k < sizeof changes / sizeof *changes; k++)
            if (!strcmp(weft_graph_class(g, id), changes[k][0]) &&
                weft_graph_set_text(b->c, g, id, changes[k][1], changes[k][2]))
                return g;
    return g;
}

/* What the graph's node 8 decodes, (1, height, width, 3). malloc'd; NULL on failure. */
struct picture { int64_t height, width; float *at; };
static struct picture run_graph(struct bed *b, const weft_graph *g) {
    struct picture p = { 0 };
    if (!weft_ok(b->c) || weft_runner_run(b->runner, g, NULL)) return p;
    const weft_value *v = weft_runner_output(b->runner, "8", 0);
    weft_tensor *t = v && v->kind == WEFT_PORT_TENSOR ? v->tensor : NULL;
    if (!t || weft_rank(t) != 4 || weft_dim(t, 0) != 1 || weft_dim(t, 3) != 3) return p;
    p = (struct picture){ weft_dim(t, 1), weft_dim(t, 2), NULL };
    size_t bytes = sizeof(float) * 3 * (size_t)(p.height * p.width);
    p.at = malloc(bytes);
    if (weft_read(b->c, t, p.at, bytes)) weft_clear(b->c);
    return p;
}

/* A file's graph with changes ("3.denoise=1", …, NULL). */
static weft_graph *open_changed(struct bed *b, const char *name, const char *const *sets) {
    weft_graph *g = open_small(b, name);
    for (; g && *sets; sets++) {
        char id[16], input[64];
        const char *dot = strchr(*sets, '.'), *equals = strchr(*sets, '=');
        snprintf(id, sizeof id, "%.*s", (int)(dot - *sets), *sets);
        snprintf(input, sizeof input, "%.*s", (int)(equals - dot - 1), dot + 1);
        if (weft_graph_set_text(b->c, g, id, input, equals + 1)) break;
    }
    return g;
}

static struct picture draw(struct bed *b, const char *name, const char *const *sets) {
    weft_graph *g = open_changed(b, name, sets);
    struct picture p = g ? run_graph(b, g) : (struct picture){ 0 };
    if (!p.at) TEST_FAIL("%s: %s", name, weft_ok(b->c) ? "node 8 gives no picture" : weft_message(b->c));
    weft_clear(b->c);
    weft_graph_free(g);
    return p;
}
#define DRAW(name, ...) draw(&b, name ".json", (const char *const[]){ __VA_ARGS__ __VA_OPT__(,) NULL })

/* The largest difference of two pictures, in parts of 255; infinite where they are of other sizes. */
static double apart(struct picture a, struct picture b) {
    double most = 0;
    if (!a.at || !b.at || a.height != b.height || a.width != b.width) return INFINITY;
    for (int64_t i = 0; i < a.height * a.width * 3; i++) most = fmax(most, 255 * fabs((double)a.at[i] - b.at[i]));
    return most;
}

/* The largest difference of two nodes' latents in the last run, in the columns from `left` to before `right`; infinite
 * where there are none. */
static double latents_apart(struct bed *b, const char *one, const char *other, int64_t left, int64_t right) {
    const weft_value *v[2] = { weft_runner_output(b->runner, one, 0), weft_runner_output(b->runner, other, 0) };
    if (!v[0] || !v[1] || v[0]->kind != WEFT_PORT_OBJECT || v[1]->kind != WEFT_PORT_OBJECT) return INFINITY;
    weft_scope s = weft_scope_named(b->c, "latents");
    weft_tensor *part[2];
    for (int i = 0; i < 2; i++)
        part[i] = weft_slice(b->c, ((weft_latent *)v[i]->object)->samples, 2, left, right - left);
    weft_tensor *d = weft_subtract(b->c, part[0], part[1]);
    float values[4096];
    int64_t n = d ? weft_count(d) : 0;
    double most =
        n && n <= 4096 && !weft_read(b->c, weft_contiguous(b->c, d), values, sizeof *values * (size_t)n) ? 0 : INFINITY;
    for (int64_t i = 0; i < n && most < INFINITY; i++) most = fmax(most, fabs((double)values[i]));
    weft_scope_end(b->c, s, NULL);
    weft_clear(b->c);
    return most;
}

/* What the graph's Loss gives with some changes; NaN on failure. */
static double loss_of(struct bed *b, const char *name, const char *const *sets) {
    weft_graph *g = open_changed(b, name, sets);
    const char *id;
    double loss = NAN;
    if (g && weft_ok(b->c) && !weft_runner_run(b->runner, g, NULL))
        for (int i = 0; (id = weft_graph_id(g, i)); i++)
            if (!strcmp(weft_graph_class(g, id), "Loss"))
                loss = weft_item(b->c, weft_runner_output(b->runner, id, 0)->tensor);
    if (!weft_ok(b->c)) TEST_FAIL("%s: %s", name, weft_message(b->c));
    weft_clear(b->c);
    weft_graph_free(g);
    return loss;
}
#define LOSS(name, ...) loss_of(&b, name ".json", (const char *const[]){ __VA_ARGS__ __VA_OPT__(,) NULL })

static bool is_training(const char *file) {
    return !strcmp(file, "train_ddpm.json") || !strcmp(file, "finetune_sd.json");
}

TEST(every_graph_is_whole_and_runs) {
    struct bed b;
    int count = 0;
    REQUIRE(bed_open(&b));
    DIR *d = opendir(GRAPHS);
    REQUIRE(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        count++;
        if (is_training(e->d_name)) continue;
        struct picture p = draw(&b, e->d_name, (const char *const[]){ NULL });
        double least = INFINITY, most = -INFINITY;
        for (int64_t i = 0; p.at && i < p.height * p.width * 3; i++) {
            least = fmin(least, p.at[i]);
            most = fmax(most, p.at[i]);
        }
        if (!(p.at && least >= 0 && most <= 1 && most > least))
            TEST_FAIL("%s: a picture from %g to %g", e->d_name, least, most);
        free(p.at);
    }
    closedir(d);
    CHECK(count >= 5);
    bed_close(&b);
}

/* What euler hands over at any step is all there is to know: in two parts it gives the same picture. The latent is
 * divided by its scale and multiplied again on the way, which rounding shows: far below one of 255 levels. */
TEST(two_samplers_are_one) {
    struct bed b;
    REQUIRE(bed_open(&b));
    struct picture one = DRAW("txt2img", "3.steps=20"), two = DRAW("two_samplers"),
                   other = DRAW("two_samplers", "10.end_at_step=15");
    CHECK(apart(one, two) < 0.01);
    CHECK(apart(one, other) > 0.05);
    free(one.at), free(two.at), free(other.at);
    bed_close(&b);
}

/* With no denoising nothing is drawn: what comes out is the picture, encoded and decoded. */
TEST(img2img_of_nothing_is_the_picture) {
    struct bed b;
    REQUIRE(bed_open(&b));
    struct picture none = DRAW("img2img", "3.denoise=0"), other = DRAW("img2img", "3.denoise=0", "3.seed=9"),
                   some = DRAW("img2img"), masked = DRAW("inpaint", "3.denoise=0");
    CHECK(apart(none, other) == 0);
    CHECK(apart(none, masked) == 0);
    CHECK(apart(none, some) > 1);
    free(none.at), free(other.at), free(some.at), free(masked.at);
    bed_close(&b);
}

/* A mask of 1 is no mask, a mask of 0 leaves the picture as it is, and half a mask leaves half of the latent (the
 * picture's other half is another all the same: the autoencoder sees the whole of it). */
TEST(inpainting_follows_the_mask) {
    struct bed b;
    REQUIRE(bed_open(&b));
    struct picture all = DRAW("inpaint", "11.image=open.png"),
                   free_of_masks = DRAW("img2img", "3.denoise=0.8", "6.text=a small sailing boat");
    struct picture nothing = DRAW("inpaint", "11.image=plain.png"), as_it_is = DRAW("img2img", "3.denoise=0"),
                   half = DRAW("inpaint");
    CHECK(apart(all, free_of_masks) < 0.05);     /* the source is blended in with a weight of 0, which rounds */
    CHECK(apart(nothing, as_it_is) < 0.05);
    CHECK(latents_apart(&b, "3", "12", SIDE / 16 + 1, SIDE / 8) < 1e-5);
    CHECK(latents_apart(&b, "3", "12", 0, SIDE / 16) > 0.1);
    CHECK(apart(half, all) > 1);
    free(all.at), free(free_of_masks.at), free(nothing.at), free(as_it_is.at), free(half.at);
    bed_close(&b);
}

/* The second pass of 0 gives the enlarged latent, whatever its seed; its size is the first's times the factor. */
TEST(hires_fix_enlarges) {
    struct bed b;
    REQUIRE(bed_open(&b));
    struct picture first = DRAW("txt2img"), same = DRAW("hires_fix", "10.scale_by=1", "11.denoise=0"),
                   large = DRAW("hires_fix"), drawn = DRAW("hires_fix", "11.seed=1");
    CHECK(apart(first, same) < 0.05);
    CHECK_EQ(large.height, 96);
    CHECK_EQ(large.width, 96);
    CHECK(apart(large, drawn) > 1);
    free(first.at), free(same.at), free(large.at), free(drawn.at);
    bed_close(&b);
}

/* The loader of old workflows is the same; what they lack takes its default. */
TEST(old_workflows) {
    struct bed b;
    REQUIRE(bed_open(&b));
    struct picture now = DRAW("txt2img");
    weft_graph *g = open_small(&b, "txt2img.json");
    REQUIRE(g && !weft_graph_remove(b.c, g, "4") && weft_graph_add(b.c, g, "4", "CheckpointLoader"));
    CHECK(!weft_graph_set_text(b.c, g, "4", "config_name", "v1-inference.yaml") &&
          !weft_graph_set_text(b.c, g, "4", "ckpt_name", "tiny.safetensors"));
    CHECK(!weft_graph_clear_input(b.c, g, "3", "denoise"));
    struct picture then = run_graph(&b, g);
    CHECK(apart(now, then) == 0);
    free(now.at), free(then.at);
    weft_graph_free(g);
    bed_close(&b);
}

/* A LoRA of strength 0 is none; of another strength it shows. */
TEST(lora_by_its_strength) {
    struct bed b;
    REQUIRE(bed_open(&b));
    struct picture none = DRAW("txt2img"), zero = DRAW("lora", "10.strength_model=0", "10.strength_clip=0"),
                   some = DRAW("lora"), half = DRAW("lora", "10.strength_model=0.4");
    CHECK(apart(none, zero) < 0.05);
    CHECK(apart(none, some) > 0.5);
    CHECK(apart(half, some) > 0.5);
    free(none.at), free(zero.at), free(some.at), free(half.at);
    bed_close(&b);
}

/* KSampler taken apart gives KSampler's picture. */
TEST(stages_are_the_sampler) {
    struct bed b;
    REQUIRE(bed_open(&b));
#define SAME "6.text=a lighthouse at the edge of the sea, golden light, photograph", "3.steps=6"
    struct picture one = DRAW("txt2img", SAME), stages = DRAW("stages"),
                   other = DRAW("txt2img", SAME, "3.sampler_name=dpmpp_2m", "3.scheduler=karras"),
                   changed = DRAW("stages", "10.sampler_name=dpmpp_2m", "10.scheduler=karras");
    CHECK(apart(one, stages) < 0.05);
    CHECK(apart(other, changed) < 0.05);
    CHECK(apart(one, other) > 0.5);
    free(one.at), free(stages.at), free(other.at), free(changed.at);
    bed_close(&b);
}

/* A step of training is a function of the batch's number and the seeds. A new model knows nothing of the noise, so its
 * loss is the noise's variance, 1 (of 2·64·64·3 values: to 2 %), and that of what it says itself. */
TEST(training_graphs_tell_their_loss) {
    struct bed b;
    REQUIRE(bed_open(&b));
    double one = LOSS("train_ddpm"), other = LOSS("train_ddpm", "4.batch=3"), seed = LOSS("train_ddpm", "6.seed=1");
    CHECK(one > 0.9 && one < 1.6);
    CHECK(LOSS("train_ddpm") == one && other != one && seed != one);
    CHECK(LOSS("train_ddpm", "4.batch=3") == other);
    CHECK(LOSS("train_ddpm", "10.loss=l1") < one);
    double fine = LOSS("finetune_sd");
    CHECK(fine > 0 && isfinite(fine) && LOSS("finetune_sd") == fine);
    CHECK(LOSS("finetune_sd", "8.seed=5") != fine && LOSS("finetune_sd", "6.seed=5") != fine);
    /* without the captions the model says something else */
    CHECK(LOSS("finetune_sd", "3.caption_dropout=1") != fine);
    bed_close(&b);
}

TEST_MAIN
