/* CLIPTextEncode and CLIPSetLastLayer from text to conditioning, with embeddings, against the rules written down once
 * more over transformers (make_prompt.py); files of embeddings, good and bad. */
#include "nodes/conditioning/embeddings.h"
#include "nodes/conditioning/prompt.h"
#include "runtime/json.h"
#include "tests/checkpoint_files.h"
#include "tests/failing_malloc.h"
#include "tests/node_bed.h"

#undef GOLDEN
#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/prompt.safetensors"
#define CASES WEFT_SOURCE_DIR "/tests/golden/tokenizer_cases.json"

enum { WIDTH = 32 };
static const weft_clip_text_config config = { .vocabulary = 814, .width = WIDTH, .inner = 128, .layers = 3, .heads = 4,
                                              .positions = 77, .act = WEFT_ACT_QUICK_GELU, .norm_eps = 1e-5, .eos = 813 };

static void write_vectors(weft_ctx *c, const char *path, const char *key, const char *values, weft_dtype type, int rank,
                          const int64_t *shape) {
    weft_scope s = weft_scope_named(c, "vectors");
    weft_st_item item = { key, golden_input(c, values, 7, rank, shape), type };
    if (weft_st_write(c, path, &item, 1, NULL)) TEST_FAIL("%s", weft_message(c));
    weft_scope_end(c, s, NULL);
}

/* The embeddings of the golden script, in all the forms there are. */
static struct bed prompt_bed(const char **folder) {
    static char models[128];
    static const char *const roots[] = { models, NULL };
    struct bed b = bed_new("cpu");
    *folder = new_folder();
    snprintf(models, sizeof models, "%s/models", *folder);
    static const char *const below[] = { "models", "models/embeddings", "models/embeddings/sub", "token" };
    for (int i = 0; i < 4; i++) mkdir(in(*folder, below[i]), 0755);
    b.folders = (weft_folders){ .models = roots, .input = models, .output = models, .temp = models };
    static const struct { const char *file, *key, *values; weft_dtype type; int rank; int64_t shape[2]; } files[] = {
        { "three.safetensors", "emb_params", "embedding.three", WEFT_F32, 2, { 3, WIDTH } },
        { "rank1.safetensors", "<cat-toy>", "embedding.rank1", WEFT_F16, 1, { WIDTH } },
        { "ten.safetensors", "clip_l", "embedding.ten", WEFT_BF16, 2, { 10, WIDTH } },
        { "sub/deep.safetensors", "string_to_param.*", "embedding.deep", WEFT_F32, 2, { 2, WIDTH } },
        { "style.v2.safetensors", "<s>", "embedding.style.v2", WEFT_F32, 2, { 1, WIDTH } },
        { "wide.safetensors", "emb_params", "embedding.three", WEFT_F32, 2, { 3, 768 } },
        { "many.safetensors", "emb_params", "embedding.three", WEFT_F16, 2, { 1001, WIDTH } },
        { "cube.safetensors", "emb_params", "embedding.three", WEFT_F32, 2, { 0, WIDTH } },
        { "whole.safetensors", "emb_params", "embedding.three", WEFT_I64, 2, { 3, WIDTH } },
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        snprintf(path, sizeof path, "models/embeddings/%s", files[i].file);
        write_vectors(b.c, in(*folder, path), files[i].key, files[i].values, files[i].type, files[i].rank,
                      files[i].shape);
    }
    put_text(*folder, "models/embeddings/old.pt", "PK\3\4 and so on");
    return b;
}

typedef struct holder { weft_object object; weft_tokenizer *tokenizer; } holder;
static void holder_free(weft_object *o) {
    weft_tokenizer_free(((holder *)o)->tokenizer);
    free(o);
}
static const weft_class holder_class = { .type = "TOKENIZER", .free = holder_free };

static weft_clip *new_clip(struct bed *b, const char *folder) {
    cJSON *cases = weft_json_read(b->c, CASES, 1 << 22, 0);
    const cJSON *files = cJSON_GetObjectItem(
        cJSON_GetObjectItem(cJSON_GetObjectItem(cases, "folders"), "plain"), "files"), *file;
    cJSON_ArrayForEach(file, files) {
        char path[128];
        snprintf(path, sizeof path, "token/%s", file->string);
        put_text(folder, path, file->valuestring);
    }
    cJSON_Delete(cases);
    holder *h = calloc(1, sizeof *h);
    *h = (holder){ { &holder_class, 1 }, weft_tokenizer_open_folder(b->c, in(folder, "token")) };
    weft_tree *tree = golden_tree(b->c, "text", weft_clip_text_walk, (void *)&config, WEFT_F32);
    weft_weights *weights = weft_weights_new(b->c, tree, NULL);
    weft_clip fields = { .weights = weights, .config = config, .tokenizer_holder = &h->object, .tokenizer = h->tokenizer,
                         .family = WEFT_FAMILY_SD1, .layer = -1 };
    weft_clip *clip = weights ? weft_clip_new(b->c, &fields) : NULL;
    if (weights) weft_object_unref(&weights->object);
    weft_object_unref(&h->object);
    if (!clip) TEST_FAIL("%s", weft_message(b->c));
    return clip;
}

static void check_part(struct bed *b, const weft_safetensors *golden, int k, const char *what, weft_tensor *got) {
    char key[64];
    snprintf(key, sizeof key, "%d.%s", k, what);
    const weft_st_entry *e = weft_st_find(golden, key);
    int64_t n = weft_count(got);
    float *values = malloc(sizeof *values * (size_t)(n + 1));
    if (!e || e->bytes != sizeof *values * (size_t)n || weft_read(b->c, got, values, sizeof *values * (size_t)n))
        TEST_FAIL("%s: %d values", key, (int)n);
    else {
        struct test_distance d = test_compare_f32(values, e->data, n);
        /* As test_clip_text.c, f32 against float64. Weights of other than 1 add differences of such values. */
        if (!(d.rms <= 5e-6 && d.max <= 1e-4)) TEST_FAIL("%s: rms %.3g, largest %.3g", key, d.rms, d.max);
    }
    free(values);
}

static char warned[256];
static void on_warning(void *user, const char *text) {
    (void)user;
    snprintf(warned, sizeof warned, "%s", text);
}

TEST(prompts_are_encoded_as_by_comfyui) {
    const char *folder;
    struct bed b = prompt_bed(&folder);
    weft_clip *clip = new_clip(&b, folder);
    weft_safetensors *golden = weft_st_open(b.c, GOLDEN);
    REQUIRE(clip && golden);
    weft_set_warn(b.c, on_warning, NULL);
    int k = 0;
    for (;; k++) {
        char key[64];
        snprintf(key, sizeof key, "prompt.%d", k);
        const char *prompt = weft_st_metadata(golden, key);
        if (!prompt) break;
        snprintf(key, sizeof key, "layer.%d", k);
        weft_value layer[1] = { 0 }, out[1] = { 0 };
        CHECK(!CALL(&b, "CLIPSetLastLayer", layer, IN_OBJECT("clip", clip),
                    IN_INT("stop_at_clip_layer", atoi(weft_st_metadata(golden, key)))));
        *warned = 0;
        CHECK(!CALL(&b, "CLIPTextEncode", out, IN_TEXT("text", prompt), IN_OBJECT("clip", (weft_clip *)layer[0].object)));
        CHECK_STR(weft_message(b.c), "");
        CHECK_STR(warned, strstr(prompt, "missing") ? "there is no embedding \"missing\" in models/embeddings; it is left out"
                                                    : "");
        const weft_conditioning *c = (const weft_conditioning *)out[0].object;
        if (c && c->count == 1) {
            check_part(&b, golden, k, "context", c->items[0].context);
            check_part(&b, golden, k, "pooled", c->items[0].pooled);
        } else TEST_FAIL("prompt %d: no conditioning", k);
        weft_value_clear(&out[0]);
        weft_value_clear(&layer[0]);
    }
    CHECK(k == 16);
    weft_st_close(golden);
    weft_object_unref(&clip->object);
    bed_free(&b);
    drop_folder(folder);
}

TEST(bad_embeddings) {
    static const struct { const char *prompt, *message; } bad[] = {
        { "a embedding:wide b", "wide.safetensors: its vectors have 768 numbers (Stable Diffusion 1), those of this text "
                                "encoder 32" },
        { "a embedding:old b", "old.pt: is a pickle of PyTorch" },
        { "embedding:many", "many.safetensors: is no embedding of a text encoder: vectors (n, 32) of f32, f16 or bf16" },
        { "embedding:cube", "cube.safetensors: is no embedding" }, { "embedding:whole", "whole.safetensors: is no embedding" },
        { "embedding:", "\"embedding:\" without a name behind it" }, { "a (embedding: )", "without a name behind it" },
    };
    const char *folder;
    struct bed b = prompt_bed(&folder);
    weft_clip *clip = new_clip(&b, folder);
    REQUIRE(clip);
    weft_set_warn(b.c, on_warning, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CALL_FAILS(&b, bad[i].message, "CLIPTextEncode", IN_TEXT("text", bad[i].prompt), IN_OBJECT("clip", clip));
    static char many[300 * 20], longest[600];
    for (int i = 0; i < 257; i++) sprintf(many + strlen(many), "embedding:x%d ", i);
    CALL_FAILS(&b, "more than 256 embeddings", "CLIPTextEncode", IN_TEXT("text", many), IN_OBJECT("clip", clip));
    snprintf(longest, sizeof longest, "embedding:%0300d", 1);
    CALL_FAILS(&b, "with a name that is too long", "CLIPTextEncode", IN_TEXT("text", longest), IN_OBJECT("clip", clip));
    /* Names do not lead out of the folder. */
    static const char *const outside[] = { "embedding:../secret", "embedding:/etc/passwd", "embedding:..\\secret" };
    put_text(folder, "models/secret.safetensors", "x");
    for (int i = 0; i < 3; i++) {
        weft_value out[1] = { 0 };
        *warned = 0;
        CHECK(!CALL(&b, "CLIPTextEncode", out, IN_TEXT("text", outside[i]), IN_OBJECT("clip", clip)));
        CHECK_HAS(warned, "it is left out");
        weft_value_clear(&out[0]);
    }
    CALL_FAILS(&b, "stop_at_clip_layer -4: the text encoder has 3 layers", "CLIPSetLastLayer", IN_OBJECT("clip", clip),
               IN_INT("stop_at_clip_layer", -4));
    weft_object_unref(&clip->object);
    bed_free(&b);
    drop_folder(folder);
}

static void see(void *user, const char *name) {
    strcat(user, name);
    strcat(user, "|");
}

TEST(names_for_signatures) {
    char names[200] = "";
    weft_prompt_names("a embedding:one, (embedding:two:1.2) embedding: embedding:three.safetensors\nxembedding:four", see,
                      names);
    CHECK_STR(names, "one|two|embedding|three.safetensors|four|");
}

#ifdef FAILING_MALLOC
TEST(without_memory) {
    const char *folder;
    struct bed b = prompt_bed(&folder);
    weft_clip *clip = new_clip(&b, folder);
    REQUIRE(clip);
    long before = 0;
    for (long n = -1; !test_failures; n++) {
        weft_value out[1] = { 0 };
        weft_memory_trim(b.c);
        if (n == 0) before = live;
        refused = false;
        countdown = n;
        weft_status status = CALL(&b, "CLIPTextEncode", out, IN_TEXT("text", "(a:1.2) embedding:three, embedding:deep"),
                                  IN_OBJECT("clip", clip));
        countdown = -1;
        if (status && !refused) TEST_FAIL("failed although no allocation did: %s", weft_message(b.c));
        if (!status && !out[0].object) TEST_FAIL("failure %ld: no result and no error", n);
        weft_value_clear(&out[0]);
        weft_clear(b.c);
        weft_memory_trim(b.c);
        if (n >= 0 && live > before) TEST_FAIL("failure %ld: %ld allocations leaked", n, live - before);
        if (n >= 0 && !refused) break;
    }
    weft_object_unref(&clip->object);
    bed_free(&b);
    drop_folder(folder);
}
#endif

TEST_MAIN
