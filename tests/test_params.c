/* Parameter trees: places and names, what a check reports, weights from a seed, files and shards, layers, failing
 * memory. */
#include <sys/stat.h>
#include "runtime/params.h"
#include "tests/test.h"
#include "tests/host_memory.h"

static weft_ctx *context_of(const char *device, int threads) {
    return weft_ctx_new(&(weft_options){ .device = device,
        .threads = threads,
        .precision = WEFT_PRECISION_EXACT,
        .os_alloc = host_os_alloc,
        .os_free = host_os_free });
}
static weft_ctx *context(void) { return context_of("reference", 1); }

static void end(weft_ctx *c) {
    CHECK_EQ(weft_memory_live(c), 0);
    weft_ctx_free(c);
    CHECK_EQ(host_live, 0);
}

#define NO_INIT ((weft_init){ .kind = WEFT_INIT_ZEROS })
#define FAN_IN(n) ((weft_init){ .kind = WEFT_INIT_FAN_IN, .fan_in = (n) })
#define NORMAL(s) ((weft_init){ .kind = WEFT_INIT_NORMAL, .std = (s) })

/* ---- places ----------------------------------------------------------------------------------------------- */

static void check_name(weft_params p, const char *want) {
    char name[100];
    CHECK_STR(weft_params_name(p, name, sizeof name), want);
}

TEST(places_have_names) {
    weft_ctx *c = context();
    weft_tree *t = weft_tree_new(c, "unet");
    weft_params root = weft_root(t),
                deep = weft_sub(weft_sub_at(weft_sub(root, "down_blocks"), "0.attentions", 1), "norm");
    check_name(root, "unet");
    check_name(deep, "unet.down_blocks.0.attentions.1.norm");
    CHECK_EQ(weft_sub(root, "down_blocks.0.attentions.1.norm").node, deep.node);
    check_name((weft_params){ 0 }, "");
    check_name(weft_sub((weft_params){ 0 }, "a"), "");
    char small[8];
    CHECK_STR(weft_params_name(deep, small, sizeof small), "unet.do");
    CHECK(!weft_has(root, "down_blocks") && !weft_has(deep, "weight") && !weft_has((weft_params){ 0 }, "a"));
    weft_scope s = weft_scope_named(c, "test");
    CHECK(weft_tree_add(c, t, "down_blocks.0.attentions.1.norm.weight", weft_full(c, WEFT_F32, WEFT_SHAPE(3), 1)) ==
        WEFT_OK);
    CHECK(weft_has(root, "down_blocks") && weft_has(deep, "weight") && weft_has(root, "down_blocks.0") &&
        !weft_has(root, "down_blocks.1"));
    weft_scope_end(c, s, NULL);
    weft_tree_free(t);
    weft_tree_free(NULL);
    end(c);
}

TEST(many_places_are_told_apart) {
    weft_ctx *c = context();
    weft_tree *t = weft_tree_new(c, "t");
    static uint32_t node[100][100];
    char name[32], full[64], want[64];
    for (int i = 0; i < 100; i++)
        for (int k = 0; k < 100; k++) {
            snprintf(name, sizeof name, "%d.a_rather_long_name_%d", i, k);
            node[i][k] = weft_sub(weft_root(t), name).node;
        }
    for (int i = 0; i < 100; i++)
        for (int k = 0; k < 100; k++) {
            snprintf(name, sizeof name, "a_rather_long_name_%d", k);
            /* "" is a part as any other: another place */
            weft_params p = weft_sub(weft_sub_at(weft_root(t), "", i), name);
            CHECK(p.node != node[i][k]);
            p = (weft_params){ t, node[i][k] };
            snprintf(want, sizeof want, "t.%d.%s", i, name);
            if (strcmp(weft_params_name(p, full, sizeof full), want)) TEST_FAIL("%s", full);
        }
    weft_tree_free(t);
    end(c);
}

TEST(adding_checks_names) {
    weft_ctx *c = context();
    weft_tree *t = weft_tree_new(c, "t");
    weft_scope s = weft_scope_named(c, "test");
    weft_tensor *one = weft_full(c, WEFT_F32, WEFT_SHAPE(1), 1);
    char longest[600];
    memset(longest, 'x', sizeof longest);
    longest[501] = 0;
#define REFUSED(name, tensor, message) \
    do { \
        CHECK(weft_tree_add(c, t, name, tensor) != WEFT_OK); \
        CHECK_HAS(weft_message(c), message); \
        weft_clear(c); \
    } while (0)
    CHECK(weft_tree_add(c, t, "b", one) == WEFT_OK);
    CHECK(weft_tree_add(c, t, "a.z", one) == WEFT_OK);
    CHECK(weft_tree_add(c, t, "a", one) == WEFT_OK);       /* a tensor and a place at once */
    REFUSED("a.z", one, "parameter \"a.z\": is there already");
    REFUSED("a\nb", one, "parameter \"a?b\": a name with control characters");
    REFUSED(longest, one, "a name of more than 500 bytes");
    REFUSED("c", NULL, "no tensor for the parameter c");
#undef REFUSED
    CHECK_EQ(weft_tree_count(t), 3);
    static const char *const order[] = { "a", "a.z", "b" };
    const char *name = NULL;
    for (int i = 0; i < 3; i++) {
        CHECK(weft_tree_plain(c, t, i, &name) == one);
        CHECK_STR(name, order[i]);
    }
    CHECK(!weft_tree_plain(c, t, 3, &name) && !weft_tree_plain(c, t, -1, &name) && weft_ok(c));
    weft_scope_end(c, s, NULL);
    weft_tree_free(t);
    end(c);
}

/* ---- a model ------------------------------------------------------------------------------------------------ */

/* x: (1, 4, 4, 4) → (1, 4, 4, 2); every kind of layer once. */
static weft_tensor *model(weft_ctx *c, weft_params p, weft_tensor *x) {
    weft_scope s = weft_scope_begin(c, p);
    x = weft_nn_group_norm(c, weft_sub(p, "norm"), x, 2, 1e-5, WEFT_ACT_SILU);
    x = weft_nn_conv2d(c, weft_sub(p, "conv"), x, 8, 3, (weft_conv)WEFT_CONV_SAME(3));
    x = weft_nn_layer_norm(c, weft_sub_at(p, "norms", 0), x, 1e-5);
    x = weft_nn_linear_act(c, weft_sub(p, "mid.fc"), x, 6, true, WEFT_ACT_GELU, NULL);
    x = weft_nn_linear(c, weft_sub(p, "out"), x, 2, false);
    return weft_scope_end(c, s, x);
}

static void walk(weft_ctx *c, weft_params root, void *user) {
    weft_dtype type = user ? *(const weft_dtype *)user : WEFT_F32;
    model(c, root, weft_tensor_new(c, type, WEFT_SHAPE(1, 4, 4, 4)));
}

static weft_tree *made(weft_ctx *c, weft_dtype type, uint64_t seed) {
    weft_tree *t = weft_tree_new(c, "m");
    weft_tree_make(t, type, seed);
    CHECK(weft_tree_check(c, t, walk, NULL, true) == WEFT_OK);
    return t;
}

/* The model's output on a fixed input. */
static bool run(weft_ctx *c, weft_tree *t, weft_dtype type, float out[32]) {
    float values[64];
    for (int i = 0; i < 64; i++) values[i] = sinf((float)i);
    weft_scope s = weft_scope_named(c, "run");
    weft_tensor *x = weft_cast(c, weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1, 4, 4, 4), values), type);
    weft_tensor *y = weft_cast(c, model(c, weft_root(t), x), WEFT_F32);
    bool ok = y && weft_read(c, y, out, 32 * sizeof *out) == WEFT_OK;
    if (!ok && host_countdown < 0 && !host_failed) TEST_FAIL("%s", weft_message(c));
    weft_scope_end(c, s, NULL);
    return ok;
}

TEST(a_check_makes_everything) {
    static const char *const names[] = { "conv.bias", "conv.weight", "mid.fc.bias", "mid.fc.weight", "norm.bias",
        "norm.weight", "norms.0.bias", "norms.0.weight", "out.weight" };
    weft_ctx *c = context();
    weft_tree *t = made(c, WEFT_F16, 1);
    CHECK_EQ(weft_tree_count(t), 9);
    CHECK(!weft_is_shape_only(c));
    for (int i = 0; i < 9; i++) {
        weft_scope s = weft_scope_named(c, "test");
        const char *name;
        weft_tensor *p = weft_tree_plain(c, t, i, &name);
        CHECK_STR(name, names[i]);
        CHECK(p && weft_type(p) == WEFT_F16 && weft_data(p));
        weft_scope_end(c, s, NULL);
    }
    float a[32], b[32];
    CHECK(run(c, t, WEFT_F32, a));
    weft_tree_set_frozen(t, true);      /* and so the plain forms go */
    CHECK(run(c, t, WEFT_F32, b));
    CHECK(!memcmp(a, b, sizeof a));
    weft_tree_free(t);
    end(c);
}

TEST(a_check_reports_everything_at_once) {
    weft_ctx *c = context();
    weft_tree *t = weft_tree_new(c, "unet");
    weft_scope s = weft_scope_named(c, "test");
    struct { const char *name; weft_dtype type; int rank; int64_t shape[4]; } have[] = {
        { "norm.weight", WEFT_F32, 1, { 4 } }, { "norm.bias", WEFT_I64, 1, { 4 } },
        { "conv.weight", WEFT_F32, 4, { 8, 5, 3, 3 } }, { "conv.bias", WEFT_BF16, 1, { 8 } },
        { "mid.fc.weight", WEFT_F16, 2, { 6, 8 } }, { "out.weight", WEFT_F32, 2, { 8, 2 } },
        { "extra.a", WEFT_F32, 1, { 1 } }, { "extra.b", WEFT_F32, 1, { 1 } }
    };
    for (size_t i = 0; i < sizeof have / sizeof *have; i++)
        CHECK(weft_tree_add(c, t, have[i].name, weft_tensor_new(c, have[i].type, have[i].rank, have[i].shape)) ==
            WEFT_OK);
    CHECK_EQ(weft_tree_check(c, t, walk, NULL, true), WEFT_E_PARAMS);
    CHECK_HAS(weft_message(c),
        "unet: parameters do not fit: 3 missing: norms.0.weight, norms.0.bias, mid.fc.bias; "
        "2 misshapen: conv.weight has the shape (8, 5, 3, 3), expected (8, 4, 3, 3), out.weight has the shape (8, 2), "
        "expected (2, 6); "
        "1 of no usable type: norm.bias is of type i64, expected f32, f16 or bf16; 2 not used: extra.a, extra.b");
    weft_clear(c);
    CHECK_EQ(weft_tree_check(c, t, walk, NULL, false), WEFT_E_PARAMS);
    CHECK(!strstr(weft_message(c), "not used"));
    CHECK(!weft_is_shape_only(c));
    weft_clear(c);
    /* Outside a check the first one is the error. */
    weft_dtype f32 = WEFT_F32;
    walk(c, weft_root(t), &f32);
    CHECK_EQ(weft_error(c), WEFT_E_TYPE);
    CHECK_HAS(weft_message(c), "parameter unet.norm.bias is of type i64");
    weft_clear(c);
    CHECK(!weft_param(c, weft_sub(weft_root(t), "mid.fc"), "bias", NO_INIT, WEFT_SHAPE(6)));
    CHECK_STR(weft_message(c), "test: parameter unet.mid.fc.bias is missing");
    CHECK_EQ(weft_error(c), WEFT_E_PARAMS);
    weft_clear(c);
    CHECK(!weft_param(c, weft_root(t), "out.weight", NO_INIT, WEFT_SHAPE(2, 6)));
    CHECK_STR(weft_message(c), "test: parameter unet.out.weight has the shape (8, 2), expected (2, 6)");
    weft_clear(c);
    CHECK(!weft_param(c, (weft_params){ 0 }, "x", NO_INIT, WEFT_SHAPE(1)));
    CHECK_HAS(weft_message(c), "there is no tree");
    weft_clear(c);
    weft_scope_end(c, s, NULL);
    weft_tree_free(t);
    end(c);
}

static void ask_for_many(weft_ctx *c, weft_params root, void *user) {
    (void)user;
    for (int i = 0; i < 100; i++)
        weft_param(c, weft_sub_at(root, "a_block_with_a_long_name_of_more_than_fifty_characters", i), "weight", NO_INIT,
            WEFT_SHAPE(1));
}
static void ask_for_short(weft_ctx *c, weft_params root, void *user) {
    (void)user;
    for (int twice = 0; twice < 2; twice++)
        for (int i = 0; i < 30; i++) weft_param(c, weft_sub_at(root, "b", i), "w", NO_INIT, WEFT_SHAPE(1));
}

TEST(a_long_report_is_cut) {
    weft_ctx *c = context();
    weft_tree *t = weft_tree_new(c, "m");
    CHECK(weft_tree_check(c, t, ask_for_many, NULL, true) != WEFT_OK);
    CHECK_HAS(weft_message(c), "100 missing: a_block");
    CHECK_HAS(weft_message(c), ".19.weight, … and 80 more");
    CHECK(strlen(weft_message(c)) < 1900);
    weft_clear(c);
    CHECK(weft_tree_check(c, t, ask_for_short, NULL, true) != WEFT_OK);
    CHECK_HAS(weft_message(c), "30 missing: b.0.w, b.1.w,");
    CHECK_HAS(weft_message(c), "b.19.w, … and 10 more");
    weft_tree_free(t);
    end(c);
}

/* ---- weights from a seed -------------------------------------------------------------------------------------- */

static uint64_t splitmix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* One made tensor's values, f32. */
static bool values(
    int threads, weft_dtype type, uint64_t seed, const char *name, weft_init init, int64_t n, float *out) {
    weft_ctx *c = context_of(NULL, threads);
    weft_tree *t = weft_tree_new(c, "t");
    weft_tree_make(t, type, seed);
    weft_scope s = weft_scope_named(c, "test");
    weft_param(c, weft_root(t), "another", init, WEFT_SHAPE(7));        /* what was made before does not matter */
    weft_tensor *p = weft_cast(c, weft_param(c, weft_root(t), name, init, WEFT_SHAPE(n)), WEFT_F32);
    bool ok = p && weft_read(c, p, out, (size_t)n * 4) == WEFT_OK;
    if (!ok) TEST_FAIL("%s", weft_message(c));
    weft_scope_end(c, s, NULL);
    weft_tree_free(t);
    end(c);
    return ok;
}

enum { N = 300001 };
static float made_a[N], made_b[N];

TEST(made_values_follow_seed_and_name) {
    CHECK(values(1, WEFT_F32, 5, "conv.weight", FAN_IN(9), N, made_a));
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const char *p = "conv.weight"; *p; p++) h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
    uint64_t key = splitmix(5 + h);
    for (int i = 0; i < N; i += 997) {
        uint64_t z = splitmix(key + ((uint64_t)i / 2 + 1) * UINT64_C(0x9e3779b97f4a7c15));
        uint32_t half = i % 2 ? (uint32_t)(z >> 32) : (uint32_t)z;
        /* one rounding of a value up to 1/3 */
        CHECK_NEAR(made_a[i], (2.0 * (half >> 9) + 1 - 8388608) / 8388608 / 3, 2e-8);
    }
    CHECK(values(3, WEFT_F32, 5, "conv.weight", FAN_IN(9), N, made_b));     /* the thread count changes nothing */
    CHECK(!memcmp(made_a, made_b, sizeof made_a));
    CHECK(values(1, WEFT_F32, 5, "conv.weight", NORMAL(0.5), N, made_a));
    CHECK(values(3, WEFT_F32, 5, "conv.weight", NORMAL(0.5), N, made_b));
    CHECK(!memcmp(made_a, made_b, sizeof made_a));
    CHECK(values(1, WEFT_F32, 6, "conv.weight", NORMAL(0.5), N, made_b));
    CHECK(made_a[0] != made_b[0] && made_a[N - 1] != made_b[N - 1]);
    CHECK(values(1, WEFT_F32, 5, "conv.weighu", NORMAL(0.5), N, made_b));
    CHECK(made_a[0] != made_b[0] && made_a[N - 1] != made_b[N - 1]);
}

/* Moments within five standard errors of n = 300 001 draws. */
TEST(made_values_are_spread_as_they_should) {
    for (int normal = 0; normal < 2; normal++) {
        CHECK(values(1, WEFT_F32, 11, "w", normal ? NORMAL(2) : FAN_IN(0.25), N, made_a));
        double sum = 0, squares = 0, fourth = 0, next = 0, most = 0;
        for (int i = 0; i < N; i++) {
            double v = made_a[i] / 2.0;
            sum += v;
            squares += v * v;
            fourth += v * v * v * v;
            if (i) next += v * made_a[i - 1] / 2.0;
            if (fabs(v) > most) most = fabs(v);
        }
        double variance = normal ? 1 : 1.0 / 3, kurtosis = normal ? 3 : 0.2, n = N;
        CHECK_NEAR(sum / n, 0, 5 * sqrt(variance / n));
        CHECK_NEAR(squares / n, variance, 5 * sqrt((kurtosis - variance * variance) / n));
        CHECK_NEAR(fourth / n, kurtosis, 5 * sqrt((normal ? 105 - 9 : 1.0 / 9 - 0.04) / n));
        CHECK_NEAR(next / n, 0, 5 * variance / sqrt(n));
        CHECK(normal ? most > 4 && most < 6.7 : most > 0.9999 && most < 1);     /* √(−2·ln 2⁻²⁴) = 5.77 */
    }
}

TEST(made_types_round_the_same_values) {
    static const weft_dtype types[] = { WEFT_F16, WEFT_BF16, WEFT_F64 };
    static const double ulp[] = { 0x1p-11, 0x1p-8, 0 };
    CHECK(values(1, WEFT_F32, 5, "w", FAN_IN(4), 5000, made_a));
    for (int k = 0; k < 3; k++) {
        CHECK(values(1, types[k], 5, "w", FAN_IN(4), 5000, made_b));
        for (int i = 0; i < 5000; i++)      /* f16 is subnormal below 2⁻¹⁴ */
            if (!(fabs(made_a[i] - made_b[i]) <= ulp[k] * fabs(made_a[i]) + (k ? 0 : 0x1p-25)))
                TEST_FAIL("%d: %g became %g", i, made_a[i], made_b[i]);
    }
    weft_ctx *c = context();
    weft_tree *t = weft_tree_new(c, "m");
    weft_tree_make(t, WEFT_I64, 0);
    CHECK(!weft_param(c, weft_root(t), "a", NO_INIT, WEFT_SHAPE(1)));
    CHECK_HAS(weft_message(c), "cannot be made as i64");
    weft_tree_free(t);
    end(c);
}

/* ---- files ----------------------------------------------------------------------------------------------------- */

struct folder { char path[32]; };

static struct folder folder_new(void) {
    struct folder f = { "/tmp/weft-params-XXXXXX" };
    if (!mkdtemp(f.path)) TEST_FAIL("no folder");
    return f;
}
static const char *in(const struct folder *f, const char *name, char out[128]) {
    snprintf(out, 128, "%s/%s", f->path, name);
    return out;
}
static void folder_remove(const struct folder *f, const char *const *names) {
    char path[128];
    for (; *names; names++) unlink(in(f, *names, path));
    CHECK(!rmdir(f->path));
}
static void put_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    if (!f) return;
    fputs(text, f);
    fclose(f);
}

TEST(a_tree_is_written_and_read_again) {
    struct folder f = folder_new();
    weft_ctx *c = context();
    char path[128];
    float a[32], b[32];
    weft_tree *t = made(c, WEFT_F32, 3);
    CHECK(run(c, t, WEFT_F32, a));
    CHECK(weft_tree_write(c, t, "", in(&f, "m.safetensors", path), WEFT_F32) == WEFT_OK);
    weft_tree_free(t);
    t = weft_tree_new(c, "m");
    CHECK(weft_tree_add_folder(c, t, f.path, "m") == WEFT_OK);
    CHECK(weft_tree_check(c, t, walk, NULL, true) == WEFT_OK);
    CHECK_EQ(weft_memory_live(c), 0);       /* mapped, not read */
    CHECK(run(c, t, WEFT_F32, b));
    CHECK(!memcmp(a, b, sizeof a));
    CHECK(run(c, t, WEFT_F32, b));          /* from the packed forms */
    CHECK(!memcmp(a, b, sizeof a));
    CHECK(weft_tree_add_file(c, t, path, NULL, NULL) != WEFT_OK);
    CHECK_HAS(weft_message(c), "is there already, from /");
    weft_clear(c);
    CHECK(weft_tree_write(c, t, "", in(&f, "again.safetensors", path), WEFT_F16) == WEFT_OK);
    weft_safetensors *again = weft_st_open(c, path);
    REQUIRE(again);
    CHECK_EQ(weft_st_count(again), 9);
    CHECK(weft_st_find(again, "conv.weight")->type == WEFT_F16);
    CHECK_STR(weft_st_metadata(again, "format"), "pt");
    weft_st_close(again);
    weft_tree_free(t);
    folder_remove(&f, (const char *const[]){ "m.safetensors", "again.safetensors", NULL });
    end(c);
}

/* Made, frozen, used and so packed: what is written is what was made, to the bit. */
TEST(packed_weights_are_written_as_they_were) {
    struct folder f = folder_new();
    weft_ctx *c = context();
    char before[128], after[128];
    float out[32];
    weft_tree *t = made(c, WEFT_BF16, 4);
    CHECK(weft_tree_write(c, t, "", in(&f, "a", before), WEFT_BF16) == WEFT_OK);
    weft_tree_set_frozen(t, true);
    CHECK(run(c, t, WEFT_F32, out));
    CHECK(weft_tree_write(c, t, "", in(&f, "b", after), WEFT_BF16) == WEFT_OK);
    FILE *x = fopen(before, "rb"), *y = fopen(after, "rb");
    REQUIRE(x && y);
    static char xs[8192], ys[8192];
    size_t n = fread(xs, 1, sizeof xs, x);
    CHECK(n > 1000 && n < sizeof xs && fread(ys, 1, sizeof ys, y) == n && !memcmp(xs, ys, n));
    fclose(x);
    fclose(y);
    weft_tree_free(t);
    folder_remove(&f, (const char *const[]){ "a", "b", NULL });
    end(c);
}

static bool only_outs(void *user, const weft_st_entry *e, char *out, size_t size) {
    (*(int *)user)++;
    if (strncmp(e->name, "out.", 4)) return false;
    snprintf(out, size, "last.%s", e->name + 4);
    return true;
}

TEST(names_are_mapped) {
    struct folder f = folder_new();
    weft_ctx *c = context();
    char path[128];
    int asked = 0;
    weft_tree *t = made(c, WEFT_F32, 3);
    CHECK(weft_tree_write(c, t, "", in(&f, "m.safetensors", path), WEFT_F32) == WEFT_OK);
    weft_tree_free(t);
    t = weft_tree_new(c, "m");
    CHECK(weft_tree_add_file(c, t, path, only_outs, &asked) == WEFT_OK);
    CHECK_EQ(asked, 9);
    CHECK_EQ(weft_tree_count(t), 1);
    CHECK(weft_has(weft_root(t), "last.weight"));
    weft_tree_free(t);
    folder_remove(&f, (const char *const[]){ "m.safetensors", NULL });
    end(c);
}

TEST(shards) {
    struct folder f = folder_new();
    weft_ctx *c = context();
    char path[128], index[128], text[512];
    weft_tree *t;
    weft_scope s = weft_scope_named(c, "test");
    weft_tensor *one = weft_full(c, WEFT_F32, WEFT_SHAPE(2), 1);
    CHECK(weft_st_write(c, in(&f, "m-1.safetensors", path), &(weft_st_item){ "a", one, WEFT_F32 }, 1, NULL) == WEFT_OK);
    CHECK(weft_st_write(c, in(&f, "m-2.safetensors", path),
              (const weft_st_item[]){ { "b", one, WEFT_F32 }, { "c.d", one, WEFT_F16 } }, 2, NULL) == WEFT_OK);
    in(&f, "m.safetensors.index.json", index);
    put_text(index,
        "{\"metadata\":{\"total_size\":20},\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\",\"c.d\":"
        "\"m-2.safetensors\"}}");
    t = weft_tree_new(c, "m");
    CHECK(weft_tree_add_folder(c, t, f.path, "m") == WEFT_OK);
    CHECK_EQ(weft_tree_count(t), 3);
    weft_tree_free(t);
    static const struct { const char *map, *want; } wrong[] = {
        { "{\"weight_map\":{\"a\":\"m-3.safetensors\"}}", "names the file \"m-3.safetensors\", which is not there" },
        { "{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}",
            "names the file \"../m-1.safetensors\", which is not a plain name" },
        { "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "which is not a plain name" },
        { "{\"weight_map\":{\"a\":\"..\"}}", "which is not a plain name" },
        { "{\"weight_map\":{\"a\":\"\"}}", "which is not a plain name" },
        { "{\"weight_map\":{\"a\":3}}", "weight_map: expected names of files, found a number" },
        { "{\"weight_map\":[]}", "weight_map: expected an object, found a list" },
        { "{}", "weight_map is missing" },
        { "[]", "weight_map is missing" },
        { "{\"weight_map\":{\"z\":\"m-1.safetensors\"}}", "z is in none of its files" },
        { "{\"weight_map\":{\"a\":\"m-1.safetensors\",}}", ":1:38: expected a name in quotes" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        put_text(index, wrong[i].map);
        t = weft_tree_new(c, "m");
        CHECK(weft_tree_add_folder(c, t, f.path, "m") != WEFT_OK);
        CHECK_HAS(weft_message(c), index);
        CHECK_HAS(weft_message(c), wrong[i].want);
        weft_clear(c);
        weft_tree_free(t);
    }
    t = weft_tree_new(c, "m");
    CHECK_EQ(weft_tree_add_folder(c, t, f.path, "x"), WEFT_E_FILE);
    snprintf(text, sizeof text, "test: %s: has neither x.safetensors nor x.safetensors.index.json", f.path);
    CHECK_STR(weft_message(c), text);
    weft_clear(c);
    weft_tree_free(t);
    weft_scope_end(c, s, NULL);
    folder_remove(&f, (const char *const[]){ "m-1.safetensors", "m-2.safetensors", "m.safetensors.index.json", NULL });
    end(c);
}

static int64_t bytes_of(weft_ctx *c, weft_tree *t) {
    int64_t bytes = 0;
    const char *name;
    for (int64_t i = 0; i < weft_tree_count(t); i++) {
        weft_tensor *p = weft_tree_plain(c, t, i, &name);
        bytes += weft_count(p) * (int64_t)weft_dtype_size(weft_type(p));
    }
    return bytes;
}

/* `shards` files and their index, 0: the single file, and nothing else; removes them. */
static void check_written(weft_ctx *c, const struct folder *f, const float *want, int shards) {
    char path[128], name[64];
    float out[32];
    weft_tree *t = weft_tree_new(c, "m");
    CHECK(weft_tree_add_folder(c, t, f->path, "m") == WEFT_OK);
    CHECK(weft_tree_check(c, t, walk, NULL, true) == WEFT_OK);
    CHECK(run(c, t, WEFT_F32, out) && !memcmp(want, out, sizeof out));
    weft_tree_free(t);
    CHECK_EQ(unlink(in(f, "m.safetensors", path)) == 0, !shards);
    CHECK_EQ(unlink(in(f, "m.safetensors.index.json", path)) == 0, shards > 0);
    for (int i = 1; i <= shards; i++) {
        snprintf(name, sizeof name, "m-%05d-of-%05d.safetensors", i, shards);
        CHECK(!unlink(in(f, name, path)));
    }
    CHECK(!rmdir(f->path) && !mkdir(f->path, 0755));        /* it is empty */
}

TEST(a_tree_is_written_in_shards) {
    struct folder f = folder_new();
    weft_ctx *c = context();
    char stem[300];
    float want[32];
    weft_tree *t = made(c, WEFT_F32, 3);
    CHECK(run(c, t, WEFT_F32, want));
    const int64_t all = bytes_of(c, t);
    CHECK(weft_tree_write_folder(c, t, "", f.path, "m", WEFT_F32, all) == WEFT_OK);
    check_written(c, &f, want, 0);
    CHECK(weft_tree_write_folder(c, t, "", f.path, "m", WEFT_F32, all - 1) == WEFT_OK);
    check_written(c, &f, want, 2);
    CHECK(weft_tree_write_folder(c, t, "", f.path, "m", WEFT_F32, 1) == WEFT_OK);
    check_written(c, &f, want, 9);
    memset(stem, 'm', sizeof stem);
    stem[sizeof stem - 1] = 0;
    CHECK_EQ(weft_tree_write_folder(c, t, "", f.path, stem, WEFT_F32, all), WEFT_E_ARGUMENT);
    CHECK_HAS(weft_message(c), "a name of a file that is too long");
    weft_clear(c);
    weft_tree_free(t);
    t = weft_tree_new(c, "m");
    weft_scope s = weft_scope_named(c, "test");
    for (int i = 0; i <= WEFT_SHARDS_MOST; i++) {
        snprintf(stem, sizeof stem, "p.%d", i);
        CHECK(weft_tree_add(c, t, stem, weft_full(c, WEFT_F32, WEFT_SHAPE(1), 1)) == WEFT_OK);
    }
    weft_scope_end(c, s, NULL);
    CHECK_EQ(weft_tree_write_folder(c, t, "", f.path, "m", WEFT_F32, 4), WEFT_E_ARGUMENT);
    CHECK_HAS(weft_message(c), "m.safetensors: would be 1001 shards of at most 4 bytes; there can be 1000");
    weft_clear(c);
    weft_tree_free(t);
    folder_remove(&f, (const char *const[]){ NULL });
    end(c);
}

TEST(foreign_types_are_named_when_asked_for) {
    weft_ctx *c = context();
    weft_tree *t = weft_tree_new(c, "m");
    CHECK(weft_tree_add_file(c, t, WEFT_SOURCE_DIR "/tests/golden/st_foreign.safetensors", NULL, NULL) == WEFT_OK);
    CHECK(weft_param(c, weft_root(t), "f32", NO_INIT, WEFT_SHAPE(3)) != NULL);
    CHECK(!weft_param(c, weft_root(t), "f8a", NO_INIT, WEFT_SHAPE(3)));
    CHECK_HAS(weft_message(c), "parameter m.f8a is of type F8_E4M3, expected f32, f16 or bf16 (");
    CHECK_HAS(weft_message(c), "st_foreign.safetensors)");
    weft_clear(c);
    CHECK_EQ(weft_tree_write(c, t, "", "/tmp/weft-never-written", WEFT_F32), WEFT_E_TYPE);
    CHECK_HAS(weft_message(c), "which Weft cannot write");
    weft_clear(c);
    weft_tree_free(t);
    end(c);
}

/* ---- layers ---------------------------------------------------------------------------------------------------- */

TEST(a_matrix_passes_for_a_1x1_convolution) {
    weft_ctx *c = context();
    weft_tree *t = weft_tree_new(c, "m");
    weft_scope s = weft_scope_named(c, "test");
    static const float w[] = { 1, 2, 3, 4, 5, 6 };
    weft_tree_set_frozen(t, true);
    CHECK(weft_tree_add(c, t, "conv.weight", weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(2, 3, 1, 1), w)) == WEFT_OK);
    CHECK(weft_tree_add(c, t, "matrix.weight", weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(2, 3), w)) == WEFT_OK);
    CHECK(weft_tree_add(c, t, "matrix.bias", weft_full(c, WEFT_F32, WEFT_SHAPE(2), 0)) == WEFT_OK);
    weft_tensor *x = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(1, 1, 1, 3), (const float[]){ 1, 10, 100 });
    weft_tensor *y = weft_nn_linear(c, weft_sub(weft_root(t), "conv"), x, 2, false);
    weft_tensor *z = weft_nn_conv2d(c, weft_sub(weft_root(t), "matrix"), x, 2, 1, (weft_conv)WEFT_CONV_SAME(1));
    float a[2] = { 0 }, b[2] = { 0 };
    CHECK(weft_read(c, y, a, 8) == WEFT_OK && weft_read(c, z, b, 8) == WEFT_OK);
    CHECK(a[0] == 321 && a[1] == 654 && b[0] == 321 && b[1] == 654);
    CHECK(!weft_nn_conv2d(c, weft_sub(weft_root(t), "matrix"), x, 2, 3, (weft_conv)WEFT_CONV_SAME(3)));
    CHECK_HAS(weft_message(c), "parameter m.matrix.weight has the shape (2, 3, 1, 1), expected (2, 3, 3, 3)");
    weft_clear(c);
    weft_scope_end(c, s, NULL);
    weft_tree_free(t);
    end(c);
}

TEST(small_vectors_are_converted_once) {
    struct folder f = folder_new();
    weft_ctx *c = context();
    char path[128];
    float a[32], b[32];
    weft_tree *t = made(c, WEFT_F32, 9);
    CHECK(weft_tree_write(c, t, "", in(&f, "m.safetensors", path), WEFT_F16) == WEFT_OK);
    weft_tree_free(t);
    t = weft_tree_new(c, "m");
    CHECK(weft_tree_add_file(c, t, path, NULL, NULL) == WEFT_OK);
    CHECK(weft_tree_check(c, t, walk, NULL, true) == WEFT_OK);      /* leaves no vector without data behind */
    CHECK(run(c, t, WEFT_F32, a));
    size_t live = weft_memory_live(c);
    CHECK(run(c, t, WEFT_F32, b));
    CHECK_EQ(weft_memory_live(c), live);
    CHECK(!memcmp(a, b, sizeof a));
    CHECK(run(c, t, WEFT_BF16, b));
    CHECK(run(c, t, WEFT_F32, b));
    CHECK(!memcmp(a, b, sizeof a));
    weft_tree_set_frozen(t, false);
    CHECK(weft_memory_live(c) < live);
    live = weft_memory_live(c);
    CHECK(run(c, t, WEFT_F32, b));
    CHECK_EQ(weft_memory_live(c), live);        /* what may change is converted each time */
    CHECK(!memcmp(a, b, sizeof a));
    weft_tree_free(t);
    folder_remove(&f, (const char *const[]){ "m.safetensors", NULL });
    end(c);
}

TEST(embeddings) {
    weft_ctx *c = context();
    weft_tree *t = weft_tree_new(c, "m");
    weft_tree_make(t, WEFT_F16, 2);
    weft_scope s = weft_scope_named(c, "test");
    weft_tensor *ids = weft_tensor_from(c, WEFT_I64, WEFT_SHAPE(2), (const int64_t[]){ 4, 0 });
    weft_tensor *y = weft_nn_embedding(c, weft_sub(weft_root(t), "token"), ids, 5, 3, 0.02, WEFT_F32);
    CHECK(y && weft_rank(y) == 2 && weft_dim(y, 0) == 2 && weft_dim(y, 1) == 3 && weft_type(y) == WEFT_F32);
    CHECK(weft_has(weft_root(t), "token.weight"));
    weft_scope_end(c, s, NULL);
    weft_tree_free(t);
    end(c);
}

/* ---- failing memory -------------------------------------------------------------------------------------------- */

TEST(failing_memory_is_an_error) {
    struct folder f = folder_new();
    char path[128], copy[128];
    weft_ctx *c = context();
    weft_tree *t = made(c, WEFT_F16, 1);
    CHECK(weft_tree_write(c, t, "", in(&f, "m.safetensors", path), WEFT_F16) == WEFT_OK);
    weft_tree_free(t);
    weft_ctx_free(c);
    CHECK_EQ(host_live, 0);
    in(&f, "copy", copy);
    for (int making = 0; making < 2; making++)
        FOR_EACH_FAILURE {
            float out[32];
            c = context();
            t = c ? weft_tree_new(c, "m") : NULL;
            if (t && making) weft_tree_make(t, WEFT_F16, 1);
            bool ok = t && (making || weft_tree_add_folder(c, t, f.path, "m") == WEFT_OK) &&
                weft_tree_check(c, t, walk, NULL, true) == WEFT_OK && run(c, t, WEFT_F32, out) &&
                weft_tree_write(c, t, "", copy, WEFT_F16) == WEFT_OK &&
                weft_tree_write_folder(c, t, "", f.path, "s", WEFT_F16, bytes_of(c, t) - 1) == WEFT_OK;
            ATTEMPT_WORKED(ok);
            if (c && !ok) CHECK_EQ(weft_error(c), WEFT_E_MEMORY);
            if (c) weft_clear(c);
            weft_tree_free(t);
            if (c) CHECK_EQ(weft_memory_live(c), 0);
            weft_ctx_free(c);
            CHECK_EQ(host_live, 0);
        }
    folder_remove(&f, (const char *const[]){ "m.safetensors", "copy", "s.safetensors.index.json",
        "s-00001-of-00002.safetensors", "s-00002-of-00002.safetensors", NULL });
}

TEST_MAIN
