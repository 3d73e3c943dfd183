/* CLIPTextEncode and CLIPSetLastLayer from text to conditioning, with embeddings, against the rules written down once
 * more over transformers (make_prompt.py); files of embeddings, good and bad. New tokens, their vectors' gradients and
 * training, against transformers (make_inversion.py). */
#include "nodes/conditioning/embeddings.h"
#include "nodes/conditioning/prompt.h"
#include "nodes/train/optim.h"
#include "runtime/autograd.h"
#include "runtime/json.h"
#include "tests/checkpoint_files.h"
#include "tests/failing_malloc.h"
#include "tests/node_bed.h"

#undef GOLDEN
#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/prompt.safetensors"
#define CASES WEFT_SOURCE_DIR "/tests/golden/tokenizer_cases.json"

enum { WIDTH = 32 };
static const weft_clip_text_config config = { .vocabulary = 814, .width = WIDTH, .inner = 128, .layers = 3, .spread = 1, .heads = 4,
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
    static const struct { const char *file, *key, *values; weft_dtype type; int rank; int64_t shape[3]; } files[] = {
        { "three.safetensors", "emb_params", "embedding.three", WEFT_F32, 2, { 3, WIDTH } },
        { "rank1.safetensors", "<cat-toy>", "embedding.rank1", WEFT_F16, 1, { WIDTH } },
        { "ten.safetensors", "clip_l", "embedding.ten", WEFT_BF16, 2, { 10, WIDTH } },
        { "sub/deep.safetensors", "string_to_param.*", "embedding.deep", WEFT_F32, 2, { 2, WIDTH } },
        { "style.v2.safetensors", "<s>", "embedding.style.v2", WEFT_F32, 2, { 1, WIDTH } },
        { "wide.safetensors", "emb_params", "embedding.three", WEFT_F32, 2, { 3, 768 } },
        { "many.safetensors", "emb_params", "embedding.three", WEFT_F16, 2, { 1001, WIDTH } },
        { "cube.safetensors", "emb_params", "embedding.three", WEFT_F32, 2, { 0, WIDTH } },
        { "whole.safetensors", "emb_params", "embedding.three", WEFT_I64, 2, { 3, WIDTH } },
        { "layer.safetensors", "conv.weight", "embedding.three", WEFT_F32, 3, { 3, 2, WIDTH } },
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        snprintf(path, sizeof path, "models/embeddings/%s", files[i].file);
        write_vectors(b.c, in(*folder, path), files[i].key, files[i].values, files[i].type, files[i].rank,
                      files[i].shape);
    }
    put_text(*folder, "models/embeddings/old.pt", "PK\3\4 and so on");
    weft_scope s = weft_scope_named(b.c, "not finite");
    for (int i = 0; i < 2; i++) {
        weft_st_item item = { "<x>", weft_full(b.c, WEFT_F32, WEFT_SHAPE(2, WIDTH), i ? INFINITY : NAN), WEFT_F32 };
        if (weft_st_write(b.c, in(*folder, i ? "models/embeddings/inf.safetensors" : "models/embeddings/nan.safetensors"),
                          &item, 1, NULL)) TEST_FAIL("%s", weft_message(b.c));
    }
    weft_scope_end(b.c, s, NULL);
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
        { "embedding:layer", "vectors (n, 32) of f32, f16 or bf16 are wanted, not (3, 2, 32) f32" },
        { "embedding:nan", "nan.safetensors: its vectors are not all finite numbers" },
        { "a embedding:inf", "inf.safetensors: its vectors are not all finite numbers" },
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

/* ---- new tokens: EmbeddingCreate ------------------------------------------------------------------------------------ */

#define NEW_TOKEN(b, out, clip, name, start, n) \
    CALL(b, "EmbeddingCreate", out, IN_OBJECT("clip", clip), IN_TEXT("token", name), IN_TEXT("initializer", start), \
         IN_INT("vectors", n))

/* A clip with the golden script's token and rows, which are leaves. */
static weft_clip *with_token(struct bed *b, weft_clip *clip) {
    weft_value out[1] = { 0 };
    CHECK(!NEW_TOKEN(b, out, clip, "<Cat-toy>", "a", 3));
    weft_clip *k = (weft_clip *)out[0].object;
    if (!k) {
        TEST_FAIL("%s", weft_message(b->c));
        return NULL;
    }
    weft_tree *tree = k->weights->tree;
    const char *name = "";
    CHECK(!weft_tree_train(b->c, tree, NULL, true));
    weft_tensor *rows = weft_tree_trainable(tree, 0, &name);
    CHECK_STR(name, "embeddings.token_embedding.added");
    CHECK(!weft_tree_trainable(tree, 1, NULL));         /* nothing else is trained */
    weft_scope s = weft_scope_named(b->c, "rows");
    weft_tensor *values = golden_input(b->c, "inversion.rows", 7, 2, (const int64_t[]){ 3, WIDTH });
    if (rows) CHECK(!weft_write(b->c, rows, weft_data(values), sizeof(float) * 3 * WIDTH));
    weft_scope_end(b->c, s, NULL);
    return k;
}

/* The context of a text by Tokenize and TextEncode; its ids, too. In the bed's scope; NULL on failure. */
static weft_tensor *context_of(struct bed *b, weft_clip *k, const char *text, int32_t *ids) {
    weft_value tokens[2] = { 0 }, out[2] = { 0 };
    weft_tensor *context = NULL;
    if (!CALL(b, "Tokenize", tokens, IN_OBJECT("clip", k), IN_TEXT("text", text)) &&
        !CALL(b, "TextEncode", out, IN_OBJECT("clip", k), IN_TENSOR("ids", tokens[0].tensor))) {
        CHECK(!weft_read(b->c, tokens[0].tensor, ids, WEFT_CLIP_LENGTH * sizeof *ids));
        context = weft_reshape(b->c, out[0].tensor, WEFT_SHAPE(WEFT_CLIP_LENGTH, WIDTH));
    } else TEST_FAIL("%s: %s", text, weft_message(b->c));
    weft_value_clear(&tokens[0]);
    weft_value_clear(&tokens[1]);
    weft_value_clear(&out[0]);
    weft_value_clear(&out[1]);
    return context;
}

TEST(a_new_token_is_as_in_transformers) {
    const char *folder;
    struct bed b = prompt_bed(&folder);
    weft_clip *clip = new_clip(&b, folder), *k = with_token(&b, clip);
    weft_safetensors *golden = weft_st_open(b.c, WEFT_SOURCE_DIR "/tests/golden/inversion.safetensors");
    REQUIRE(clip && k && golden && !weft_tape_begin(b.c));
    weft_tensor *loss = NULL;
    int n = 0;
    for (;; n++) {
        char key[64];
        snprintf(key, sizeof key, "prompt.%d", n);
        const char *prompt = weft_st_metadata(golden, key);
        if (!prompt) break;
        int32_t ids[WEFT_CLIP_LENGTH];
        weft_tensor *context = context_of(&b, k, prompt, ids);
        snprintf(key, sizeof key, "%d.ids", n);
        const weft_st_entry *e = weft_st_find(golden, key);
        for (int i = 0; e && i < WEFT_CLIP_LENGTH; i++)
            if (ids[i] != ((const int64_t *)e->data)[i]) TEST_FAIL("%s: token %d is %d", prompt, i, ids[i]);
        check_part(&b, golden, n, "context", context);
        snprintf(key, sizeof key, "inversion.loss.%d", n);
        weft_tensor *w = golden_input(b.c, key, 7, 2, (const int64_t[]){ WEFT_CLIP_LENGTH, WIDTH });
        w = weft_reduce_all(b.c, WEFT_REDUCE_SUM, weft_mul(b.c, context, w));
        loss = loss ? weft_add(b.c, loss, w) : w;
    }
    CHECK_EQ(n, 10);
    CHECK(!weft_backward(b.c, loss, NULL));
    weft_tape_end(b.c);
    float got[3 * WIDTH];
    weft_tensor *grad = weft_grad(weft_tree_trainable(k->weights->tree, 0, NULL));
    const weft_st_entry *e = weft_st_find(golden, "rows.grad");
    REQUIRE(e && grad && !weft_read(b.c, grad, got, sizeof got));
    struct test_distance d = test_compare_f32(got, e->data, 3 * WIDTH);
    if (!(d.rms <= 1e-5)) TEST_FAIL("gradient: rms %.3g", d.rms);     /* f32 through three layers, against float64 */
    weft_st_close(golden);
    weft_object_unref(&k->object);
    weft_object_unref(&clip->object);
    bed_free(&b);
    drop_folder(folder);
}

/* The context of a weighted prompt by CLIPTextEncode, read to `to` (chunks × 77 × WIDTH); returns the chunks. */
static int encoded(struct bed *b, weft_clip *k, const char *text, float *to, int room) {
    weft_value out[1] = { 0 };
    int chunks = 0;
    if (!CALL(b, "CLIPTextEncode", out, IN_TEXT("text", text), IN_OBJECT("clip", k))) {
        const weft_conditioning *c = (const weft_conditioning *)out[0].object;
        chunks = (int)weft_dim(c->items[0].context, 1) / WEFT_CLIP_LENGTH;
        if (chunks > room || weft_read(b->c, c->items[0].context, to,
                                       sizeof(float) * WEFT_CLIP_LENGTH * WIDTH * (size_t)chunks)) chunks = 0;
    }
    if (!chunks) TEST_FAIL("%s: %s", text, weft_message(b->c));
    weft_value_clear(&out[0]);
    return chunks;
}

/* A step of AdamW on the new rows changes them and nothing else; saved as diffusers saves them, they are the same
 * token under a file's name. */
TEST(a_trained_token_is_an_embedding) {
    enum { CHUNK = WEFT_CLIP_LENGTH * WIDTH };
    static float table[2][814 * WIDTH], a[2 * CHUNK], z[2 * CHUNK];
    const char *folder;
    struct bed b = prompt_bed(&folder);
    weft_clip *clip = new_clip(&b, folder), *k = with_token(&b, clip);
    REQUIRE(clip && k);
    weft_params words = weft_sub(weft_root(clip->weights->tree), "embeddings.token_embedding");
    weft_tensor *rows = weft_tree_trainable(k->weights->tree, 0, NULL);
    float before[3 * WIDTH], after[3 * WIDTH];
    for (int i = 0; i < 2; i++) {
        int32_t ids[WEFT_CLIP_LENGTH];
        weft_scope s = weft_scope_named(b.c, "step");
        weft_init init = { .kind = WEFT_INIT_ZEROS };
        weft_tensor *all = weft_param(b.c, words, "weight", init, WEFT_SHAPE(814, WIDTH));
        CHECK(!weft_read(b.c, all, table[i], sizeof table[i]) && !weft_read(b.c, rows, i ? after : before, sizeof before));
        weft_optim_options o = weft_optim_defaults(WEFT_OPTIM_ADAMW);
        weft_optim *optim = weft_optim_new(b.c, &o);
        CHECK(!i == (!i && !weft_optim_add(optim, 0, "rows", rows)));
        if (!i) {
            CHECK(!weft_tape_begin(b.c));
            weft_tensor *context = context_of(&b, k, "the <Cat-toy>", ids);
            CHECK(!weft_backward(b.c, weft_reduce_all(b.c, WEFT_REDUCE_MEAN, weft_mul(b.c, context, context)), NULL));
            weft_tape_end(b.c);
            CHECK(!weft_optim_step(optim, (weft_tensor *[]){ weft_grad(rows) }));
        }
        weft_optim_free(optim);
        weft_scope_end(b.c, s, NULL);
    }
    CHECK(!memcmp(table[0], table[1], sizeof table[0]));
    for (int i = 0; i < 3; i++) CHECK(memcmp(before + i * WIDTH, after + i * WIDTH, sizeof(float) * WIDTH));
    weft_st_item item = { "<Cat-toy>", rows, WEFT_F32 };
    CHECK(!weft_st_write(b.c, in(folder, "models/embeddings/learned.safetensors"), &item, 1, NULL));
    static const char *const prompts[][2] = {
        { "a photo of <Cat-toy> b", "a photo of embedding:learned b" },
        { "a (b:1.3) embedding:ten <Cat-toy> embedding:deep", "a (b:1.3) embedding:ten embedding:learned embedding:deep" },
    };
    for (int i = 0; i < 2; i++) {
        int chunks = encoded(&b, k, prompts[i][0], a, 2);
        CHECK_EQ(encoded(&b, clip, prompts[i][1], z, 2), chunks);
        CHECK(!memcmp(a, z, sizeof(float) * CHUNK * (size_t)chunks));
    }
    weft_object_unref(&k->object);
    weft_object_unref(&clip->object);
    bed_free(&b);
    drop_folder(folder);
}

TEST(tokens_that_cannot_be) {
    static const struct { const char *token, *initializer; int vectors; const char *message; } bad[] = {
        { "<|endoftext|>", "a", 1, "the tokenizer has it already; choose another name" },
        { "a</w>", "a", 1, "the tokenizer has it already" }, { "", "a", 1, "a name is wanted" },
        { "<x>", "a b", 1, "initializer \"a b\": one token is wanted; this is 2" },
        { "<x>", "", 1, "one token is wanted; this is 0" }, { "<x>", "a", 0, "vectors" }, { "<x>", "a", 76, "vectors" },
        { "<x>", "a \xff", 1, "UTF-8" },
    };
    const char *folder;
    struct bed b = prompt_bed(&folder);
    weft_clip *clip = new_clip(&b, folder), *k = with_token(&b, clip);
    REQUIRE(clip && k);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CALL_FAILS(&b, bad[i].message, "EmbeddingCreate", IN_OBJECT("clip", clip), IN_TEXT("token", bad[i].token),
                   IN_TEXT("initializer", bad[i].initializer), IN_INT("vectors", bad[i].vectors));
    CALL_FAILS(&b, "it has a new token already", "EmbeddingCreate", IN_OBJECT("clip", k), IN_TEXT("token", "<x>"),
               IN_TEXT("initializer", "a"));
    CALL_FAILS(&b, "it has new tokens, which are saved as a file of embeddings", "DiffusersSave", IN_OBJECT("clip", k));
    CHECK(access(in(folder, "models/model"), F_OK));
    weft_object_unref(&k->object);
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
static void fail_each(struct bed *bed, weft_clip *clip, int way) {
    struct bed b = *bed;
    long before = 0;
    for (long n = -1; !test_failures; n++) {
        weft_value out[1] = { 0 };
        weft_memory_trim(b.c);
        if (n == 0) before = live;
        refused = false;
        countdown = n;
        weft_status status = way ? NEW_TOKEN(&b, out, clip, "<x>", "a", 2)
                                 : CALL(&b, "CLIPTextEncode", out, IN_OBJECT("clip", clip),
                                        IN_TEXT("text", "(a:1.2) embedding:three, embedding:deep"));
        countdown = -1;
        if (status && !refused) TEST_FAIL("failed although no allocation did: %s", weft_message(b.c));
        if (!status && !out[0].object) TEST_FAIL("failure %ld: no result and no error", n);
        weft_value_clear(&out[0]);
        weft_clear(b.c);
        weft_memory_trim(b.c);
        if (n >= 0 && live > before) TEST_FAIL("failure %ld: %ld allocations leaked", n, live - before);
        if (n >= 0 && !refused) break;
    }
}

TEST(without_memory) {
    const char *folder;
    struct bed b = prompt_bed(&folder);
    weft_clip *clip = new_clip(&b, folder);
    REQUIRE(clip);
    fail_each(&b, clip, 0);
    fail_each(&b, clip, 1);
    weft_object_unref(&clip->object);
    bed_free(&b);
    drop_folder(folder);
}
#endif

TEST_MAIN
