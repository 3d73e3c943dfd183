/* New models from configurations, and models saved as diffusers' folders, in shards too: what is read back is what was saved,
 * and what cannot be saved leaves nothing behind. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "nodes/checkpoint/config_json.h"
#include "nodes/loaders/loaders.h"
#include "runtime/autograd.h"
#include "runtime/file.h"
#include "runtime/hash.h"
#include "runtime/json.h"
#include "tests/failing_malloc.h"
#include "tests/node_bed.h"

#define UNET "{\"block_out_channels\": [16, 32], \"down_block_types\": [\"CrossAttnDownBlock2D\", \"DownBlock2D\"], " \
             "\"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\"], \"norm_num_groups\": 8, \"cross_attention_dim\": 24, " \
             "\"attention_head_dim\": [2, 4], \"layers_per_block\": [1, 2]}"
#define SCHEDULER "{\"_class_name\": \"DDPMScheduler\", \"beta_schedule\": \"squaredcos_cap_v2\", \"prediction_type\": \"v_prediction\", " \
                  "\"num_train_timesteps\": 500, \"variance_type\": \"fixed_large\"}"
#define TEXT "{\"vocab_size\": 516, \"hidden_size\": 24, \"intermediate_size\": 40, \"num_hidden_layers\": 2, " \
             "\"num_attention_heads\": 3, \"max_position_embeddings\": 20, \"eos_token_id\": 515}"
#define VAE "{\"block_out_channels\": [8, 16], \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"], " \
            "\"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"], \"norm_num_groups\": 4}"

struct models { struct bed b; char root[64]; const char *roots[2]; char output[80]; weft_value model, clip, vae; };

static const char *below(const struct models *m, const char *name) {
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", m->root, name);
    return p;
}

/* A vocabulary of the 256 letters twice, two merges and the specials: models/tokenizers/small. */
static void write_tokenizer(struct models *m) {
    char command[1024];
    snprintf(command, sizeof command, "mkdir -p %s/models/tokenizers/small %s/output", m->root, m->root);
    CHECK_EQ(system(command), 0);
    FILE *f = fopen(below(m, "models/tokenizers/small/merges.txt"), "w");
    CHECK(f && fputs("#version: 0.2\nb l\nu e</w>\n", f) >= 0 && fclose(f) == 0);
    f = fopen(below(m, "models/tokenizers/small/vocab.json"), "w");
    CHECK(f != NULL);
    fputc('{', f);
    for (int i = 0; i < 512; i++) {
        int letter = i % 256, code = letter >= 33 && letter < 127 ? letter : 256 + letter;     /* any texts serve */
        if (letter == 34 || letter == 92) fprintf(f, "\"\\%c%s\": %d, ", letter, i < 256 ? "" : "</w>", i);
        else if (code < 128) fprintf(f, "\"%c%s\": %d, ", code, i < 256 ? "" : "</w>", i);
        else fprintf(f, "\"\\u%04x%s\": %d, ", code, i < 256 ? "" : "</w>", i);
    }
    fputs("\"bl\": 512, \"ue</w>\": 513, \"<|startoftext|>\": 514, \"<|endoftext|>\": 515}", f);
    CHECK_EQ(fclose(f), 0);
}

static struct models models_new(void) {
    struct models m = { .root = "/tmp/weft-models-XXXXXX" };
    m.b = bed_new("cpu");
    CHECK(mkdtemp(m.root));
    write_tokenizer(&m);
    return m;
}

static void make_all(struct models *m) {
    snprintf(m->output, sizeof m->output, "%s/output", m->root);
    m->roots[0] = strdup(below(m, "models"));
    m->b.folders = (weft_folders){ .models = m->roots, .output = m->output };
    CHECK_EQ(CALL(&m->b, "UNetFromConfig", &m->model, IN_TEXT("config", UNET), IN_TEXT("scheduler", SCHEDULER), IN_INT("seed", 1),
                  IN_FLOAT("latent_scale", 0.75)), WEFT_OK);
    CHECK_EQ(CALL(&m->b, "CLIPFromConfig", &m->clip, IN_TEXT("config", TEXT), IN_TEXT("tokenizer", "small"), IN_INT("seed", 2)), WEFT_OK);
    CHECK_EQ(CALL(&m->b, "VAEFromConfig", &m->vae, IN_TEXT("config", VAE), IN_INT("seed", 3)), WEFT_OK);
    if (!weft_ok(m->b.c)) TEST_FAIL("%s", weft_message(m->b.c));
}

static void models_free(struct models *m) {
    weft_value_clear(&m->model);
    weft_value_clear(&m->clip);
    weft_value_clear(&m->vae);
    free((char *)m->roots[0]);
    CHECK(weft_folder_remove(m->root));
    bed_free(&m->b);
}

static weft_model *model_of(const weft_value *v) { return (weft_model *)v->object; }

/* Names, shapes and values of two trees, the second read from f32 or f16 files. */
static void same_trees(weft_ctx *c, weft_tree *want, weft_tree *got, double tolerance) {
    CHECK_EQ(weft_tree_count(want), weft_tree_count(got));
    for (int64_t i = 0; i < weft_tree_count(want); i++) {
        const char *name, *other;
        weft_scope s = weft_scope_named(c, "compare");
        weft_tensor *a = weft_tree_plain(c, want, i, &name), *b = weft_cast(c, weft_tree_plain(c, got, i, &other), WEFT_F32);
        CHECK(!strcmp(name, other));
        weft_tensor *d = weft_reduce_all(c, WEFT_REDUCE_MAX, weft_unary(c, WEFT_UNARY_ABS, weft_subtract(c, a, b)));
        double most = weft_item(c, d);
        if (!(most <= tolerance)) TEST_FAIL("%s: off by %g", name, most);
        weft_scope_end(c, s, NULL);
    }
}

/* All three parts, as output/FOLDER. */
static weft_status save(struct models *m, const char *folder, const char *dtype, const char *max_shard_size) {
    weft_value none[1] = { 0 };
    return CALL(&m->b, "DiffusersSave", none, IN_OBJECT("model", model_of(&m->model)), IN_OBJECT("clip", (weft_clip *)m->clip.object),
                IN_OBJECT("vae", (weft_vae *)m->vae.object), IN_TEXT("folder", folder), IN_TEXT("dtype", dtype), IN_INT("latent_size", 8),
                IN_TEXT("max_shard_size", max_shard_size));
}

/* Files and folders in a folder. */
static int entries(const char *path) {
    DIR *d = opendir(path);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    if (d) closedir(d);
    return n;
}

static void same_text(const char *want, const char *got) {
    if (!want || !got || strcmp(want, got)) TEST_FAIL("configurations differ:\n%s\n%s", want, got);
    free((char *)want);
    free((char *)got);
}

static void round_trip(const char *dtype, double tolerance, const char *max_shard_size) {
    struct models m = models_new();
    make_all(&m);
    weft_ctx *c = m.b.c;
    CHECK_EQ(save(&m, "a/tiny", dtype, max_shard_size), WEFT_OK);
    weft_checkpoint *k = weft_checkpoint_open(c, below(&m, "output/a/tiny"), WEFT_PARTS_ALL, WEFT_PARTS_ALL);
    if (!k) TEST_FAIL("%s", weft_message(c));
    weft_model *u = model_of(&m.model);
    weft_clip *t = (weft_clip *)m.clip.object;
    weft_vae *v = (weft_vae *)m.vae.object;
    if (k) {
        same_trees(c, u->weights->tree, k->unet, tolerance);
        same_trees(c, t->weights->tree, k->text, tolerance);
        same_trees(c, v->weights->tree, k->vae, tolerance);
        same_text(weft_unet_config_json(&u->config, 0), weft_unet_config_json(&k->unet_config, 0));
        same_text(weft_clip_text_config_json(&t->config, 514, 515), weft_clip_text_config_json(&k->text_config, 514, 515));
        v->config.scaling_factor = 0.75;        /* the model's latent_scale is what is saved */
        same_text(weft_vae_config_json(&v->config, 0), weft_vae_config_json(&k->vae_config, 0));
        same_text(weft_scheduler_config_json(&u->scheduler), weft_scheduler_config_json(&k->scheduler));
        CHECK_EQ(k->scheduler.num_train_timesteps, 500);
        CHECK_EQ(k->scheduler.prediction_type, WEFT_PREDICTION_V);
        const char *text = "blue <|endoftext|> é";
        weft_ids want = { 0 }, got = { 0 };
        CHECK(!weft_tokenizer_encode(c, t->tokenizer, text, strlen(text), &want) && !weft_tokenizer_encode(c, k->tokenizer, text, strlen(text), &got));
        CHECK(want.count == got.count && want.count >= 4 && !memcmp(want.at, got.at, (size_t)want.count * sizeof *want.at));
        CHECK_EQ(want.at[0], 512);              /* "bl" "ue</w>": the merges came along */
        weft_ids_free(&want);
        weft_ids_free(&got);
    }
    weft_checkpoint_free(k);
    models_free(&m);
}

TEST(what_is_saved_is_read_back) { round_trip("f32", 0, "10GB"); }
TEST(in_halves) { round_trip("f16", 5e-4, "10GB"); }        /* f16 rounds to 2⁻¹¹ of values that are at most 1 */
TEST(in_shards) { round_trip("f32", 0, "20KB"); }

/* ---- shards ------------------------------------------------------------------------------------------------------------------------- */

/* A shard: at most `most` bytes, or one tensor alone; its tensors are those of `whole`, to the byte, and the index puts them here. Returns
 * their bytes. */
static int64_t check_shard(weft_ctx *c, const char *path, const weft_safetensors *whole, const cJSON *map, int64_t most, int64_t *tensors) {
    weft_safetensors *f = weft_st_open(c, path);
    int64_t bytes = 0;
    for (int64_t i = 0; f && i < weft_st_count(f); i++) {
        const weft_st_entry *e = weft_st_at(f, i), *want = weft_st_find(whole, e->name);
        CHECK(want && want->type == e->type && want->rank == e->rank && !memcmp(want->shape, e->shape, sizeof e->shape));
        CHECK(want && want->bytes == e->bytes && !memcmp(want->data, e->data, e->bytes));
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(map, e->name)), strrchr(path, '/') + 1);
        bytes += (int64_t)e->bytes;
    }
    if (!f) TEST_FAIL("%s", weft_message(c));
    else if (bytes > most && weft_st_count(f) != 1) TEST_FAIL("%s: %d bytes", path, (int)bytes);
    else CHECK_STR(weft_st_metadata(f, "format"), "pt");
    *tensors += f ? weft_st_count(f) : 0;
    weft_st_close(f);
    return bytes;
}

/* A part's folder against the same part in one file: the index (which may not say a name twice: json.c) and all its shards. */
static void check_part(const struct models *m, const char *part, const char *stem, int64_t most) {
    weft_ctx *c = m->b.c;
    char path[256];
    snprintf(path, sizeof path, "%s/output/whole/%s/%s.safetensors", m->root, part, stem);
    weft_safetensors *whole = weft_st_open(c, path);
    snprintf(path, sizeof path, "%s/output/cut/%s/%s.safetensors.index.json", m->root, part, stem);
    cJSON *index = weft_json_read(c, path, 1 << 20, 0);
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map");
    const cJSON *total = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(index, "metadata"), "total_size");
    REQUIRE(whole && map);
    snprintf(path, sizeof path, "%s/output/cut/%s", m->root, part);
    const int shards = entries(path) - 2;       /* beside the configuration and the index */
    int64_t bytes = 0, tensors = 0;
    CHECK(shards > 1);
    for (int i = 1; i <= shards; i++) {
        snprintf(path, sizeof path, "%s/output/cut/%s/%s-%05d-of-%05d.safetensors", m->root, part, stem, i, shards);
        bytes += check_shard(c, path, whole, map, most, &tensors);
    }
    CHECK_EQ(tensors, weft_st_count(whole));
    CHECK_EQ(cJSON_GetArraySize(map), weft_st_count(whole));
    CHECK_EQ(cJSON_GetNumberValue(total), bytes);
    cJSON_Delete(index);
    weft_st_close(whole);
}

TEST(shards_obey_the_limit) {
    static const struct { const char *dtype, *limit; int64_t bytes; } cases[] = { { "f32", "20KB", 20000 }, { "f16", " 7.5 kib", 7680 } };
    struct models m = models_new();
    make_all(&m);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_EQ(save(&m, "whole", cases[i].dtype, "10GB"), WEFT_OK);
        CHECK_EQ(save(&m, "cut", cases[i].dtype, cases[i].limit), WEFT_OK);
        check_part(&m, "unet", "diffusion_pytorch_model", cases[i].bytes);
        check_part(&m, "vae", "diffusion_pytorch_model", cases[i].bytes);
        check_part(&m, "text_encoder", "model", cases[i].bytes);
    }
    models_free(&m);
}

static void add_to_hash(void *hash, const void *bytes, size_t n) { weft_hash_bytes(hash, bytes, n); }

static weft_hash sign(const char *folder) {
    weft_hash h = { 0 };
    weft_sign_path(folder, add_to_hash, &h);
    return h;
}

/* So that a graph loads a model again whose shards, or index, were exchanged. */
TEST(every_shard_is_in_the_signature) {
    struct models m = models_new();
    make_all(&m);
    CHECK_EQ(save(&m, "x", "f16", "40KB"), WEFT_OK);
    DIR *d = opendir(below(&m, "output/x/vae"));
    int files = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[400];
        snprintf(path, sizeof path, "%s/output/x/vae/%s", m.root, e->d_name);
        if (e->d_name[0] == '.') continue;
        const weft_hash before = sign(below(&m, "output/x"));
        CHECK(weft_hash_equal(before, sign(below(&m, "output/x"))));
        CHECK(!utimensat(AT_FDCWD, path, (const struct timespec[]){ { 1, 0 }, { 1, 0 } }, 0));
        if (weft_hash_equal(before, sign(below(&m, "output/x")))) TEST_FAIL("%s is not signed", path);
        files++;
    }
    if (d) closedir(d);
    CHECK_EQ(files, 5);
    models_free(&m);
}

TEST(limits_are_read) {
    static const struct { const char *text; int64_t bytes; } good[] = {
        { "10GB", 10000000000 }, { "5MB", 5000000 }, { "3MiB", 3145728 }, { "1.5gb", 1500000000 }, { " 2 KB ", 2000 }, { "0.001KB", 1 }, { ".5MB", 500000 },
        { "2TB", 2000000000000 }, { "1KiB", 1024 }, { "1gib", 1073741824 }, { "1TiB", 1099511627776 } };
    static const char *const bad[] = { "", " ", "3", "GB", "10", "-3MB", "+3MB", "0GB", "0.0001KB", "3XB", "3MBs", "3 M B", "1e3MB", "0x10KB", "nanGB",
                                       "infGB", "1.2.3MB", ".MB", "9999999999TB", "lots" };
    struct models m = models_new();
    make_all(&m);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t bytes = 0;
        CHECK(weft_shard_size_read(good[i].text, &bytes));
        CHECK_EQ(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char want[128];
        snprintf(want, sizeof want, "max_shard_size: expected a size such as \"10GB\", \"500MB\" or \"3MiB\", found \"%s\"", bad[i]);
        CHECK(save(&m, "x", "f32", bad[i]) != WEFT_OK);
        CHECK_HAS(weft_message(m.b.c), want);
        CHECK_HAS(weft_message(m.b.c), "DiffusersSave");
        weft_clear(m.b.c);
    }
    CHECK(save(&m, "x", "f32", "0.001KB") == WEFT_OK);
    CHECK_EQ(entries(below(&m, "output")), 1);
    models_free(&m);
}

/* A graph that says it is told before anything runs. */
TEST(a_bad_limit_in_a_graph) {
    static const char text[] = "{\"3\": {\"class_type\": \"VAEFromConfig\", \"inputs\": {\"config\": \"{}\", \"seed\": 1}}, \"7\": {\"class_type\": "
                               "\"DiffusersSave\", \"inputs\": {\"vae\": [\"3\", 0], \"folder\": \"x\", \"dtype\": \"f16\", \"latent_size\": 0%s}}}";
    struct bed b = bed_new("cpu");
    for (int i = 0; i < 2; i++) {
        char graph[512];
        snprintf(graph, sizeof graph, text, i ? ", \"max_shard_size\": \"lots\"" : "");      /* files from before it was there lack it */
        weft_graph *g = weft_graph_parse(b.c, b.r, "graph", graph, strlen(graph));
        weft_faults faults = { 0 };
        REQUIRE(g);
        CHECK_EQ(weft_graph_check(b.c, g, NULL, &faults), WEFT_OK);
        CHECK_EQ(faults.count, i);
        for (int k = 0; k < faults.count; k++) {
            CHECK_STR(faults.items[k].node, "7");
            CHECK_STR(faults.items[k].class_name, "DiffusersSave");
            CHECK_HAS(faults.items[k].details, "max_shard_size: expected a size");
        }
        weft_clear(b.c);
        weft_faults_free(&faults);
        weft_graph_free(g);
    }
    bed_free(&b);
}

static weft_status save_vae(struct models *m, const char *max_shard_size) {
    weft_value none[1] = { 0 };
    return CALL(&m->b, "DiffusersSave", none, IN_OBJECT("vae", (weft_vae *)m->vae.object), IN_TEXT("folder", "x"), IN_TEXT("dtype", "f16"),
                IN_TEXT("max_shard_size", max_shard_size));
}

/* As on a full disk: a shard does not go in (the largest have 4760 bytes), or only the index does not (12345). */
TEST(a_failed_write_leaves_nothing) {
    static const struct { rlim_t bytes; const char *file; } cases[] = { { 3000, "-of-" }, { 5500, "safetensors.index.json: " } };
    struct models m = models_new();
    make_all(&m);
    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(!setrlimit(RLIMIT_FSIZE, &(struct rlimit){ cases[i].bytes, RLIM_INFINITY }));
        CHECK_EQ(save_vae(&m, "1KB"), WEFT_E_FILE);
        CHECK_HAS(weft_message(m.b.c), "cannot be written: File too large");
        CHECK_HAS(weft_message(m.b.c), cases[i].file);
        weft_clear(m.b.c);
        CHECK_EQ(entries(below(&m, "output")), 0);
    }
    models_free(&m);
}

#ifdef FAILING_MALLOC
/* The size of the index; there are three shards and the configuration beside it. */
static int64_t saved_index(struct models *m) {
    size_t size = 0;
    char *text = weft_file_read(m->b.c, below(m, "output/x/vae/diffusion_pytorch_model.safetensors.index.json"), 1 << 20, &size);
    CHECK_EQ(entries(below(m, "output/x/vae")), 5);
    weft_text_free(text);
    return text ? (int64_t)size : -1;
}

/* Saves with one allocation failing: each of the first and of the last, and between them, where it is the same for every name,
 * each seventh (for every save waits for the disk). */
TEST(a_save_without_memory_leaves_nothing) {
    struct models m = models_new();
    make_all(&m);
    CHECK_EQ(save_vae(&m, "40KB"), WEFT_OK);            /* what is made once is made */
    const int64_t index = saved_index(&m);
    CHECK(weft_folder_remove(below(&m, "output/x")));
    weft_memory_trim(m.b.c);
    long all = -1;
    for (long n = 1000000; !test_failures; n += n < 60 || n > all - 60 ? 1 : 7) {       /* at first to count them */
        const long before = live;
        refused = false;
        countdown = n;
        const weft_status status = save_vae(&m, "40KB");
        const long left = countdown;
        countdown = -1;
        if (status && !refused) TEST_FAIL("failed although no allocation did: %s", weft_message(m.b.c));
        if (status && status != WEFT_E_MEMORY && !strstr(weft_message(m.b.c), "memory")) TEST_FAIL("failure %ld: %s", n, weft_message(m.b.c));
        CHECK_EQ(entries(below(&m, "output")), !status);
        if (!status) CHECK_EQ(saved_index(&m), index);
        if (!status) CHECK(weft_folder_remove(below(&m, "output/x")));
        weft_clear(m.b.c);
        weft_memory_trim(m.b.c);
        if (live > before) TEST_FAIL("failure %ld: %ld allocations leaked", n, live - before);
        if (!refused && all >= 0) break;
        if (all < 0) {
            all = n - left;
            n = -1;
        }
    }
    CHECK(all > 300);
    models_free(&m);
}
#endif

TEST(the_same_seed_makes_the_same_weights) {
    struct models m = models_new();
    make_all(&m);
    weft_value again[1] = { 0 }, other[1] = { 0 };
    CHECK_EQ(CALL(&m.b, "VAEFromConfig", again, IN_TEXT("config", VAE), IN_INT("seed", 3)), WEFT_OK);
    CHECK_EQ(CALL(&m.b, "VAEFromConfig", other, IN_TEXT("config", VAE), IN_INT("seed", 4)), WEFT_OK);
    weft_tree *a = ((weft_vae *)m.vae.object)->weights->tree, *b = ((weft_vae *)other->object)->weights->tree;
    same_trees(m.b.c, a, ((weft_vae *)again->object)->weights->tree, 0);
    const char *name;
    weft_tensor *x = weft_tree_plain(m.b.c, a, 0, &name), *y = weft_tree_plain(m.b.c, b, 0, &name);
    CHECK(weft_item(m.b.c, weft_reduce_all(m.b.c, WEFT_REDUCE_MAX, weft_subtract(m.b.c, x, y))) != 0);
    weft_value_clear(again);
    weft_value_clear(other);
    models_free(&m);
}

/* The two halves against the walk through VAEEncode and VAEDecode's own functions, and with a gradient. */
TEST(the_autoencoder_in_steps) {
    struct models m = models_new();
    make_all(&m);
    weft_ctx *c = m.b.c;
    weft_vae *v = (weft_vae *)m.vae.object;
    weft_scope s = weft_scope_named(c, "steps");
    weft_tensor *pixels = weft_full(c, WEFT_F32, WEFT_SHAPE(2, 8, 4, 3), 0.25);
    weft_value out[2] = { 0 }, back[1] = { 0 };
    CHECK_EQ(weft_tree_train(c, v->weights->tree, "encoder.conv_in.*", true), WEFT_OK);
    CHECK_EQ(weft_tape_begin(c), WEFT_OK);
    CHECK_EQ(CALL(&m.b, "VAEMoments", out, IN_OBJECT("vae", v), IN_TENSOR("pixels", pixels)), WEFT_OK);
    CHECK_EQ(CALL(&m.b, "VAEReconstruct", back, IN_OBJECT("vae", v), IN_TENSOR("latent", out[0].tensor)), WEFT_OK);
    CHECK_EQ(weft_backward(c, weft_reduce_all(c, WEFT_REDUCE_SUM, back->tensor), NULL), WEFT_OK);
    weft_tape_end(c);
    CHECK(weft_grad(weft_tree_trainable(v->weights->tree, 0, NULL)) != NULL);
    weft_vae_moments direct = weft_vae_encode(c, weft_root(v->weights->tree), &v->config, weft_affine(c, pixels, 2, -1));
    weft_tensor *d = weft_subtract(c, out[1].tensor, direct.logvar);
    CHECK_EQ(weft_item(c, weft_reduce_all(c, WEFT_REDUCE_MAX, weft_unary(c, WEFT_UNARY_ABS, d))), 0);
    CHECK(weft_dim(back->tensor, 1) == 8 && weft_dim(back->tensor, 2) == 4 && weft_dim(back->tensor, 3) == 3);
    weft_tree_zero_grad(v->weights->tree);
    for (int i = 0; i < 2; i++) weft_value_clear(&out[i]);
    weft_value_clear(back);
    weft_scope_end(c, s, NULL);
    models_free(&m);
}

TEST(refuses) {
    struct models m = models_new();
    make_all(&m);
    CALL_FAILS(&m.b, "block_out_channels", "UNetFromConfig", IN_TEXT("config", "{\"block_out_channels\": [0]}"), IN_TEXT("scheduler", ""));
    CALL_FAILS(&m.b, "scheduler", "UNetFromConfig", IN_TEXT("config", UNET), IN_TEXT("scheduler", "{\"num_train_timesteps\": -1}"));
    CALL_FAILS(&m.b, "the tokenizer has 516", "CLIPFromConfig", IN_TEXT("config", "{\"vocab_size\": 500}"), IN_TEXT("tokenizer", "small"));
    CALL_FAILS(&m.b, "the tokenizer's is 515", "CLIPFromConfig", IN_TEXT("config", "{\"vocab_size\": 600}"), IN_TEXT("tokenizer", "small"));
    CALL_FAILS(&m.b, "did you mean \"small\"", "CLIPFromConfig", IN_TEXT("config", TEXT), IN_TEXT("tokenizer", "smal"));
    CALL_FAILS(&m.b, "nothing to save", "DiffusersSave", IN_TEXT("folder", "x"));
    CALL_FAILS(&m.b, "leads out of the folder", "DiffusersSave", IN_OBJECT("vae", (weft_vae *)m.vae.object), IN_TEXT("folder", "../x"));
    CALL_FAILS(&m.b, "expected (N, height, width, 4)", "VAEReconstruct", IN_OBJECT("vae", (weft_vae *)m.vae.object),
               IN_TENSOR("latent", weft_full(m.b.c, WEFT_F32, WEFT_SHAPE(1, 2, 2, 3), 0)));
    models_free(&m);
}

TEST_MAIN
