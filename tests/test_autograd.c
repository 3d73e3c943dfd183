/* The tape by its laws, and every operation's gradient against finite differences in f64.
 *
 * Finite differences: with L = Σ r·y for fixed random r, (L(x + h·v) − L(x − h·v))/2h is ∇L·v up to h²·L‴/6 and the
 * rounding of L over h. With h = 1e-5 both are about 1e-10 of L's size; 1e-6 leaves room for steep functions. */
#include "runtime/autograd.h"
#include "tests/host_memory.h"
#include "tests/operations.h"

#define S(...) WEFT_SHAPE(__VA_ARGS__)
#define STEP 1e-5
#define NEAR 1e-6

/* ---- finite differences ------------------------------------------------------------------------------------------ */

enum { LEAVES = 16 };

/* Marks every operand as a leaf, or moves one of them. */
struct probe {
    weft_tensor *leaf[LEAVES];
    int leaves;
    int moved;                  /* which leaf; −1: none */
    int64_t element;            /* of it; −1: along a random direction */
    uint64_t direction;         /* seed */
    double step;
};

static void made(void *user, weft_tensor *t) {
    struct probe *p = user;
    double *x = weft_data(t);
    if (!t || p->leaves == LEAVES) return;
    if (p->moved == p->leaves && x) {
        uint64_t state = p->direction;
        if (p->element >= 0) x[p->element] += p->step;
        else for (int64_t i = 0; i < weft_count(t); i++) x[i] += p->step * noise(&state);
    }
    if (p->moved < 0) weft_set_requires_grad(t, true);
    p->leaf[p->leaves++] = t;
}

/* Σ r·y over all of y; *size: the sum of the products' magnitudes. */
static weft_tensor *loss_of(weft_ctx *c, weft_tensor *y) {
    if (!y) return NULL;
    return weft_reduce_all(c, WEFT_REDUCE_SUM, weft_mul(c, y, noisy(c, WEFT_F64, 77, weft_rank(y), weft_shape(y))));
}

typedef weft_tensor *call_fn(weft_ctx *c, struct draw *d);

static weft_tensor *loss_with(weft_ctx *c, call_fn *call, uint64_t seed, bool empty, struct probe *p) {
    struct draw d = { .state = seed, .type = WEFT_F64, .weights = WEFT_F64, .empty = empty, .made = made, .user = p };
    p->leaves = 0;
    return loss_of(c, call(c, &d));
}

static double moved_loss(weft_ctx *c, call_fn *call, uint64_t seed, bool empty, struct probe p) {
    weft_scope s = weft_scope_named(c, "moved");
    double value = weft_item(c, loss_with(c, call, seed, empty, &p));
    weft_scope_end(c, s, NULL);
    return value;
}

/* One leaf's gradient (NULL: 0) along a random direction and by some elements. */
static void check_leaf(weft_ctx *c, const char *name, call_fn *call, uint64_t seed, bool empty, int leaf, int64_t n,
                       const double *g) {
    for (int k = 0; k < 4 && n; k++) {
        struct probe p = { .moved = leaf, .direction = seed * 31 + (uint64_t)k, .element = -1 };
        uint64_t state = p.direction;
        double want = 0, size = 1;
        if (k) p.element = (int64_t)((noise(&state) + 1) / 2 * (double)n);
        if (k && g) want = g[p.element];
        for (int64_t i = 0; !k && g && i < n; i++) want += g[i] * noise(&state);
        for (int64_t i = 0; g && i < n; i++) size = fmax(size, fabs(g[i]));
        p.step = STEP;
        double up = moved_loss(c, call, seed, empty, p);
        p.step = -STEP;
        double got = (up - moved_loss(c, call, seed, empty, p)) / (2 * STEP);
        if (!(fabs(got - want) <= NEAR * size * sqrt((double)n)))
            TEST_FAIL("%s, seed %" PRIu64 ", leaf %d, element %" PRId64 " of %" PRId64 ": gradient %.9g, "
                      "difference %.9g", name, seed, leaf, p.element, n, want, got);
    }
}

static void check_call(const char *name, call_fn *call, uint64_t seed, bool empty) {
    weft_ctx *c = open_device("reference");
    struct probe p = { .moved = -1 };
    double *gradient[LEAVES] = { 0 };
    int64_t count[LEAVES];
    weft_scope s = weft_scope_named(c, name);
    CHECK(!weft_tape_begin(c));
    weft_tensor *loss = loss_with(c, call, seed, empty, &p);
    const int leaves = p.leaves;
    bool depends = weft_requires_grad(loss);
    if (!loss || (depends && weft_backward(c, loss, NULL)))
        TEST_FAIL("%s, seed %" PRIu64 ": %s", name, seed, weft_message(c));
    for (int i = 0; i < leaves && weft_ok(c); i++) {
        weft_tensor *g = weft_grad(p.leaf[i]);
        count[i] = weft_count(p.leaf[i]);
        if (g) gradient[i] = values_of(c, g);
    }
    weft_tape_end(c);
    weft_scope_end(c, s, NULL);
    CHECK_EQ(weft_memory_live(c), 0);
    for (int i = 0; i < leaves && weft_ok(c); i++) check_leaf(c, name, call, seed, empty, i, count[i], gradient[i]);
    for (int i = 0; i < leaves; i++) free(gradient[i]);
    CLOSE(c);
}

/* Rounds to bf16, and sinusoids of a time: not of this kind. */
static bool smooth(const char *name) { return strcmp(name, "cast") && strcmp(name, "timestep"); }

TEST(differences) {
    for (int i = 0; i < OPERATIONS; i++)
        for (uint64_t seed = 1; seed <= 12 && !test_failures; seed++)
            if (smooth(operation[i].name)) check_call(operation[i].name, operation[i].call, seed, seed > 9);
}

/* ---- the tape's laws --------------------------------------------------------------------------------------------- */

static weft_tensor *leaf_of(weft_tensor *t) {
    weft_set_requires_grad(t, true);
    return t;
}

static weft_tensor *sum(weft_ctx *c, weft_tensor *x) { return weft_reduce_all(c, WEFT_REDUCE_SUM, x); }

TEST(uses_add_up) {
    weft_ctx *c = open_device("cpu");
    CHECK(!weft_tape_begin(c));
    weft_tensor *a = leaf_of(TENSOR(c, WEFT_F32, S(3), 1, 2, 3));
    weft_tensor *y = weft_add(c, weft_mul(c, a, a), weft_add(c, a, a));          /* a² + 2a */
    CHECK(weft_requires_grad(y) && !weft_grad(a));
    CHECK(!weft_backward(c, sum(c, y), NULL));
    CHECK_TENSOR(c, weft_grad(a), S(3), 0, 4, 6, 8);
    CHECK(!weft_backward(c, sum(c, weft_affine(c, a, 10, 0)), NULL));            /* adds to it */
    CHECK_TENSOR(c, weft_grad(a), S(3), 0, 14, 16, 18);
    weft_zero_grad(a);
    CHECK(!weft_grad(a));
    CHECK(!weft_backward(c, a, TENSOR(c, WEFT_F32, S(3), 5, 6, 7)));             /* a leaf is its own loss */
    CHECK_TENSOR(c, weft_grad(a), S(3), 0, 5, 6, 7);
    weft_tape_end(c);
    CLOSE(c);
}

/* One leaf as several operands of one operation: none of its shares may be written where another is still read. */
TEST(one_leaf_in_all_places) {
    weft_ctx *c = open_device("reference");
    CHECK(!weft_tape_begin(c));
    weft_tensor *a = leaf_of(TENSOR(c, WEFT_F64, S(2, 2), 1, 2, 3, 4));
    weft_tensor *y = weft_linear(c, a, a, NULL, WEFT_ACT_NONE, a);               /* a·aᵀ + a */
    CHECK(!weft_backward(c, y, TENSOR(c, WEFT_F64, S(2, 2), 1, 10, 100, 1000)));
    /* dy·a + dyᵀ·a + dy */
    CHECK_TENSOR(c, weft_grad(a), S(2, 2), 1e-9, 31 + 301 + 1, 42 + 402 + 10, 3100 + 3010 + 100, 4200 + 4020 + 1000);
    weft_tape_end(c);
    CLOSE(c);
}

TEST(what_is_not_recorded) {
    weft_ctx *c = open_device("cpu");
    weft_tensor *a = leaf_of(TENSOR(c, WEFT_F32, S(2), 1, 2));
    CHECK(!weft_requires_grad(weft_silu(c, a)));                                 /* without a tape */
    CHECK(!weft_tape_begin(c));
    weft_no_grad(c, true);
    weft_no_grad(c, true);
    weft_no_grad(c, false);
    CHECK(!weft_requires_grad(weft_silu(c, a)));
    weft_no_grad(c, false);
    weft_tensor *y = weft_mul(c, a, weft_detach(c, a));
    CHECK(!weft_requires_grad(weft_cast(c, a, WEFT_I64)));
    CHECK(!weft_backward(c, sum(c, y), NULL));
    CHECK_TENSOR(c, weft_grad(a), S(2), 0, 1, 2);
    CHECK_EQ(weft_item(c, sum(c, y)), 5);                                        /* its values are there still */
    weft_set_requires_grad(a, false);
    CHECK(!weft_grad(a) && !weft_requires_grad(weft_silu(c, a)));
    weft_tape_end(c);
    CLOSE(c);
}

TEST(errors) {
    weft_ctx *c = open_device("cpu");
    weft_tensor *a = leaf_of(TENSOR(c, WEFT_F32, S(2), 1, 2)), *w = TENSOR(c, WEFT_F32, S(2), 3, 4);
    CHECK(weft_backward(c, a, NULL));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "there is no tape");
    CHECK(!weft_tape_begin(c));
    CHECK(weft_tape_begin(c));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "a tape already");
    CHECK(weft_backward(c, weft_mul(c, a, w), NULL));
    CHECK_ERROR(c, WEFT_E_SHAPE, "the loss (2) f32 is not one value");
    CHECK(weft_backward(c, weft_mul(c, a, w), TENSOR(c, WEFT_F32, S(1), 1)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "the seed is (1) f32, the loss (2) f32");
    CHECK(weft_backward(c, sum(c, w), NULL));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "depends on nothing that requires a gradient");
    weft_set_requires_grad(weft_cast(c, w, WEFT_F16), true);
    CHECK_ERROR(c, WEFT_E_TYPE, "(2) f16 cannot have a gradient: only f32 and f64 can");

    weft_tensor *y = weft_mul(c, a, w);
    CHECK(!weft_backward(c, sum(c, y), NULL));
    CHECK(weft_backward(c, sum(c, weft_silu(c, y)), NULL));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "computed before an earlier backward pass");
    CHECK(!weft_backward(c, sum(c, weft_mul(c, a, weft_detach(c, y))), NULL));

    y = weft_mul(c, a, w);
    CHECK(!weft_write(c, w, (float[]){ 0, 0 }, 8));
    CHECK(weft_backward(c, sum(c, y), NULL));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "mul: (2) f32 was written to after the operation used it");

    CHECK(weft_backward(c, sum(c, weft_timestep_embedding(c, a, 6, true, 0, 1, 10000)), NULL));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "timestep_embedding has no gradient");
    weft_tape_end(c);
    CLOSE(c);
}

/* Without a rule is what has no operand, what updates in place behind the tape's back, and times, which are not
 * learned. */
TEST(rules) {
    static const char *const without[] = {
        "read", "write", "full", "timestep_embedding", "random", "sum_squares", "lerp", "adam", "sgd", "lion", "adafactor",
    };
    int count;
    const weft_op *const *ops = weft_ops(&count);
    for (int i = 0; i < count; i++) {
        const char *name = ops[i]->name;
        bool none = false;
        for (size_t k = 0; k < sizeof without / sizeof *without; k++) none = none || !strcmp(name, without[k]);
        if (!ops[i]->backward != none) TEST_FAIL("%s %s", name, none ? "has a rule" : "has no rule");
    }
}

/* Every operation in f32 on the fast back end against f64 on the naive one, at the same values. */
TEST(back_ends_agree) {
    for (int i = 0; i < OPERATIONS; i++)
        for (uint64_t seed = 21; seed <= 26; seed++) {
            double *gradient[2][LEAVES] = { { 0 } };
            int64_t count[LEAVES] = { 0 };
            if (!strcmp(operation[i].name, "timestep") || !strcmp(operation[i].name, "cast")) continue;
            for (int k = 0; k < 2; k++) {
                weft_ctx *c = open_device(k ? "reference" : "cpu");
                struct probe p = { .moved = -1 };
                struct draw d = { .state = seed, .type = k ? WEFT_F64 : WEFT_F32, .weights = k ? WEFT_F64 : WEFT_F32,
                                  .made = made, .user = &p };
                CHECK(!weft_tape_begin(c));
                weft_tensor *y = operation[i].call(c, &d);
                weft_tensor *r = y ? noisy(c, weft_type(y), 5, weft_rank(y), weft_shape(y)) : NULL;
                if (!y || (weft_requires_grad(y) && weft_backward(c, y, r)))
                    TEST_FAIL("%s, seed %" PRIu64 ": %s", operation[i].name, seed, weft_message(c));
                for (int j = 0; j < p.leaves; j++) {
                    count[j] = weft_count(p.leaf[j]);
                    if (weft_grad(p.leaf[j])) gradient[k][j] = values_of(c, weft_grad(p.leaf[j]));
                }
                CLOSE(c);
            }
            for (int j = 0; j < LEAVES; j++) {
                double most = 0, size = 1;
                CHECK(!gradient[0][j] == !gradient[1][j]);
                for (int64_t n = 0; gradient[0][j] && gradient[1][j] && n < count[j]; n++) {
                    size = fmax(size, fabs(gradient[1][j][n]));
                    most = fmax(most, fabs(gradient[0][j][n] - gradient[1][j][n]));
                }
                /* Sums of up to 400 products round by 1e-6 of the largest; small variances amplify it. */
                if (!(most <= 3e-5 * size))
                    TEST_FAIL("%s, seed %" PRIu64 ", leaf %d: off by %.3g of %.3g", operation[i].name, seed, j, most,
                              size);
                free(gradient[0][j]);
                free(gradient[1][j]);
            }
        }
}

/* ---- running again ----------------------------------------------------------------------------------------------- */

struct twice { int *calls; bool nested; };

/* in: x, w, NULL. out: x·w, silu of it, x itself. */
static void part(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **out) {
    const struct twice *t = user;
    ++*t->calls;
    CHECK(!in[2]);
    out[0] = weft_mul(c, in[0], in[1]);
    out[1] = weft_silu(c, out[0]);
    out[2] = in[0];
}

static void outer(weft_ctx *c, const void *user, weft_tensor *const *in, weft_tensor **out) {
    struct twice t = *(const struct twice *)user;
    weft_recompute(c, part, &t, sizeof t, 3, in, 3, out);
}

TEST(running_again) {
    weft_ctx *c = open_device("reference");
    for (int k = 0; k < 4; k++) {
        int calls = 0;
        struct twice t = { &calls, k == 3 };
        weft_tensor *out[3];
        weft_scope s = weft_scope_named(c, "case");
        weft_set_recompute(c, k > 0);
        CHECK(!weft_tape_begin(c));
        weft_tensor *x = leaf_of(TENSOR(c, WEFT_F64, S(2), 0.5, -1)), *w = leaf_of(TENSOR(c, WEFT_F64, S(2), 3, 4));
        weft_tensor *in[3] = { weft_affine(c, x, 2, 0), w, NULL };
        CHECK(!weft_recompute(c, t.nested ? outer : part, &t, sizeof t, 3, in, 3, out));
        weft_tensor *y = weft_add(c, weft_add(c, out[0], out[1]), weft_mul(c, out[2], out[2]));
        if (k == 2) y = out[1];                                 /* the other results go unused */
        CHECK(!weft_backward(c, sum(c, y), NULL));
        CHECK_EQ(calls, k == 0 ? 1 : k == 3 ? 3 : 2);
        double slope[2], dx[2], dw[2];
        for (int i = 0; i < 2; i++) {
            double a = i ? -2 : 1, b = i ? 4 : 3, z = a * b, sigma = 1 / (1 + exp(-z));
            slope[i] = sigma * (1 + z * (1 - sigma)) + (k != 2);
            dx[i] = 2 * (slope[i] * b + (k != 2) * 2 * a);
            dw[i] = slope[i] * a;
        }
        CHECK_TENSOR(c, weft_grad(x), S(2), 1e-12, dx[0], dx[1]);
        CHECK_TENSOR(c, weft_grad(w), S(2), 1e-12, dw[0], dw[1]);
        weft_tape_end(c);
        weft_scope_end(c, s, NULL);
    }
    CLOSE(c);
}

/* ---- trees ------------------------------------------------------------------------------------------------------- */

/* A small model of everything that has weights: (N,4,4,3) → (N·16, 6). */
static weft_tensor *model(weft_ctx *c, weft_params p, weft_tensor *x) {
    int64_t n = weft_dim(x, 0);
    weft_scope s = weft_scope_begin(c, p);
    x = weft_nn_conv2d(c, weft_sub(p, "conv"), x, 8, 3, WEFT_CONV_SAME(3));
    x = weft_nn_group_norm(c, weft_sub(p, "norm"), x, 2, 1e-5, WEFT_ACT_SILU);
    x = weft_nn_layer_norm(c, weft_sub(p, "layer"), weft_reshape(c, x, S(n, 16, 2, 4)), 1e-5);
    weft_tensor *y = weft_reshape(c, weft_attention(c, x, x, x, 0, false), S(n * 16, 8));
    y = weft_nn_linear_act(c, weft_sub(p, "in"), y, 12, true, WEFT_ACT_GELU, NULL);
    return weft_scope_end(c, s, weft_nn_linear(c, weft_sub(p, "out"), y, 6, true));
}

static void walk(weft_ctx *c, weft_params root, void *user) {
    (void)user;
    model(c, root, weft_tensor_new(c, WEFT_F32, S(1, 4, 4, 3)));
}

static weft_tree *made_tree(weft_ctx *c, weft_dtype type) {
    weft_tree *t = weft_tree_new(c, "model");
    if (t) weft_tree_make(t, type, 7);
    if (t && !weft_tree_check(c, t, walk, NULL, false)) return t;
    weft_tree_free(t);
    return NULL;
}

static bool step(weft_ctx *c, weft_tree *t) {
    weft_scope s = weft_scope_named(c, "step");
    bool ok = weft_tape_begin(c) == WEFT_OK;
    weft_tensor *y = ok ? model(c, weft_root(t), noisy(c, WEFT_F32, 3, S(2, 4, 4, 3))) : NULL;
    ok = y && !weft_backward(c, sum(c, weft_mul(c, y, y)), NULL);
    weft_tape_end(c);
    weft_scope_end(c, s, NULL);
    return ok;
}

TEST(trained_trees) {
    weft_ctx *c = open_device("cpu");
    weft_tree *t = made_tree(c, WEFT_F32);
    const char *name;
    REQUIRE(t);
    CHECK(!weft_tree_trainable(t, 0, &name));
    CHECK(weft_tree_train(c, t, "cony.*", true));
    CHECK_ERROR(c, WEFT_E_PARAMS, "model: no parameter of the tree's 10 matches \"cony.*\"");
    CHECK(!weft_tree_train(c, t, "conv.*", true));
    CHECK(!weft_tree_train(c, t, "*.weight", true));
    CHECK(weft_tree_trainable(t, 0, &name));
    CHECK_STR(name, "conv.bias");
    CHECK(weft_tree_trainable(t, 5, &name));
    CHECK_STR(name, "out.weight");
    CHECK(!weft_tree_trainable(t, 6, &name));
    CHECK(step(c, t));
    for (int i = 0; i < 6; i++) CHECK(weft_grad(weft_tree_trainable(t, i, NULL)) != NULL);
    CHECK(!weft_tree_not_finite(c, t));
    CHECK(!weft_tree_train(c, t, "conv.*", false));
    CHECK(weft_tree_trainable(t, 0, &name));
    CHECK_STR(name, "in.weight");
    weft_tree_zero_grad(t);
    CHECK(!weft_grad(weft_tree_trainable(t, 0, NULL)));
    weft_tree_free(t);
    CLOSE(c);
}

/* Downhill by hand: the next pass must see the new weights, not their old packed form, and a file must hold them. */
TEST(trained_weights_are_used_and_written) {
    weft_ctx *c = open_device("cpu");
    char path[] = "/tmp/weft_autograd_XXXXXX";
    int file = mkstemp(path);
    REQUIRE(file >= 0);
    close(file);
    weft_tree *t = made_tree(c, WEFT_F32), *read = weft_tree_new(c, "read");
    REQUIRE(t && read && !weft_tree_train(c, t, NULL, true));
    double before[3];
    for (int i = 0; i < 3; i++) {
        weft_scope s = weft_scope_named(c, "look");
        weft_tensor *y = model(c, weft_root(t), noisy(c, WEFT_F32, 3, S(2, 4, 4, 3)));
        before[i] = weft_item(c, sum(c, weft_mul(c, y, y)));
        weft_scope_end(c, s, NULL);
        weft_tree_zero_grad(t);
        CHECK(step(c, t));
        for (int64_t k = 0; k < 10; k++) {
            weft_tensor *w = weft_tree_trainable(t, k, NULL);
            float x[400];
            const size_t bytes = (size_t)weft_count(w) * sizeof *x;
            REQUIRE(bytes <= sizeof x && !weft_read(c, w, x, bytes));
            const float *g = host_data(weft_grad(w));
            for (int64_t j = 0; j < weft_count(w); j++) x[j] -= 1e-3f * g[j];
            CHECK(!weft_write(c, w, x, bytes));
        }
    }
    CHECK(before[1] < 0.99 * before[0] && before[2] < 0.99 * before[1]);
    CHECK(!weft_tree_write(c, t, "", path, WEFT_F32) && !weft_tree_add_file(c, read, path, NULL, NULL));
    double after[2];
    for (int i = 0; i < 2 && weft_ok(c); i++) {
        weft_scope s = weft_scope_named(c, "look");
        after[i] = weft_item(c, sum(c, model(c, weft_root(i ? read : t), noisy(c, WEFT_F32, 3, S(2, 4, 4, 3)))));
        weft_scope_end(c, s, NULL);
    }
    CHECK_EQ(after[0] == after[1], 1);
    /* What was read is a file's memory, which nobody may write: training makes it the context's own. */
    CHECK(!weft_tree_train(c, read, NULL, true) && step(c, read));
    CHECK(!weft_write(c, weft_tree_trainable(read, 0, NULL), (float[8]){ 0 }, 8 * sizeof(float)));
    weft_tree_free(read);
    weft_tree_free(t);
    unlink(path);
    CHECK_STR(weft_message(c), "");
    CLOSE(c);
}

/* Gradients go through frozen 16-bit weights, of which only the packed form is left; they are those of the same
 * values in f32. Training such a weight makes it f32. */
TEST(half_weights) {
    double *dx[2] = { 0 };
    weft_ctx *c = open_device("cpu");
    weft_tree *half = made_tree(c, WEFT_F16), *full = weft_tree_new(c, "model");
    REQUIRE(half && full);
    for (int64_t i = 0; i < 10; i++) {
        const char *name;
        weft_tensor *w = weft_cast(c, weft_tree_plain(c, half, i, &name), WEFT_F32);
        CHECK(!weft_tree_add(c, full, name, w));
    }
    weft_tree_set_frozen(half, true);
    for (int k = 0; k < 2; k++)
        for (int again = 0; again < 2; again++) {
            weft_scope s = weft_scope_named(c, "case");
            CHECK(!weft_tape_begin(c));
            weft_tensor *x = leaf_of(noisy(c, WEFT_F32, 3, S(2, 4, 4, 3)));
            weft_tensor *y = model(c, weft_root(k ? full : half), x);
            CHECK(y && !weft_backward(c, sum(c, weft_mul(c, y, y)), NULL));
            weft_tape_end(c);
            free(dx[k]);
            dx[k] = weft_grad(x) ? values_of(c, weft_grad(x)) : NULL;
            weft_scope_end(c, s, NULL);
        }
    for (int i = 0; i < 96 && dx[0] && dx[1]; i++) CHECK_NEAR(dx[0][i], dx[1][i], 1e-6 * fmax(1, fabs(dx[1][i])));
    CHECK(dx[0] && dx[1]);
    free(dx[0]);
    free(dx[1]);
    CHECK(!weft_tree_train(c, half, "in.weight", true) && step(c, half));
    CHECK(weft_type(weft_tree_trainable(half, 0, NULL)) == WEFT_F32);
    CHECK(weft_type(weft_grad(weft_tree_trainable(half, 0, NULL))) == WEFT_F32);
    weft_tree_free(half);
    weft_tree_free(full);
    CHECK_STR(weft_message(c), "");
    CLOSE(c);
}

/* Adapters on a frozen f16 base: only they have gradients, B's at first alone since B is 0. */
TEST(adapters) {
    weft_ctx *c = open_device("cpu");
    weft_tree *base = made_tree(c, WEFT_F16);
    weft_tree *lora = base ? weft_tree_overlay(c, base) : NULL;
    REQUIRE(lora);
    weft_tree_set_frozen(base, true);
    CHECK(!weft_tree_make_adapters(c, lora, (const char *const[]){ "in", "conv", NULL }, 2, 4, WEFT_F32, 9));
    CHECK(!weft_tree_train(c, lora, NULL, true));
    CHECK(step(c, lora));
    const char *name;
    int count = 0;
    for (weft_tensor *t; (t = weft_tree_trainable(lora, count, &name)); count++) {
        weft_tensor *g = weft_grad(t);
        double *x = g ? values_of(c, g) : NULL, size = 0;
        for (int64_t i = 0; x && i < weft_count(g); i++) size += fabs(x[i]);
        CHECK(x && (size > 0) == (strstr(name, "lora_B") != NULL));
        free(x);
    }
    CHECK_EQ(count, 4);
    CHECK(!weft_tree_trainable(base, 0, NULL));
    weft_tree_free(lora);
    weft_tree_free(base);
    CHECK_STR(weft_message(c), "");
    CLOSE(c);
}

/* ---- NaN --------------------------------------------------------------------------------------------------------- */

static void put_value(weft_ctx *c, weft_tensor *t, int64_t at, float value) {
    weft_scope s = weft_scope_named(c, "value");
    const int64_t n = weft_count(t);
    CHECK(!weft_write(c, weft_slice(c, weft_reshape(c, t, S(n)), 0, at, 1), &value, sizeof value));
    weft_scope_end(c, s, NULL);
}

TEST(not_finite) {
    weft_ctx *c = open_device("cpu");
    CHECK(weft_is_finite(c, TENSOR(c, WEFT_F32, S(3), 1e38, -1e38, 0)));
    CHECK(!weft_is_finite(c, TENSOR(c, WEFT_F32, S(3), 1, INFINITY, 0)));
    CHECK(!weft_is_finite(c, TENSOR(c, WEFT_F16, S(3), 1, NAN, 0)));
    CHECK(weft_is_finite(c, TENSOR(c, WEFT_F32, S(0), 0)));
    weft_tree *t = made_tree(c, WEFT_F32);
    REQUIRE(t && !weft_tree_train(c, t, NULL, true) && step(c, t));
    CHECK(!weft_tree_not_finite(c, t));
    put_value(c, weft_grad(weft_tree_trainable(t, 4, NULL)), 0, NAN);
    put_value(c, weft_grad(weft_tree_trainable(t, 7, NULL)), 1, INFINITY);
    CHECK_STR(weft_tree_not_finite(c, t), "layer.bias");
    weft_tree_zero_grad(t);

    weft_watch_finite(c, true);
    CHECK(step(c, t));
    weft_tree_zero_grad(t);
    put_value(c, weft_tree_trainable(t, 8, NULL), 0, NAN);                      /* out.bias */
    CHECK(!step(c, t));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "model.out: linear: the result, (32, 6) f32, is not finite");
    weft_scope s = weft_scope_named(c, "root");
    CHECK(!weft_tape_begin(c));
    weft_tensor *x = leaf_of(TENSOR(c, WEFT_F32, S(2), 0, 1));                /* finite, but its slope is not */
    CHECK(weft_backward(c, sum(c, weft_unary(c, WEFT_UNARY_SQRT, x)), NULL));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "sqrt: the gradient of operand 1, (2) f32, is not finite");
    weft_tape_end(c);
    weft_watch_finite(c, false);
    weft_scope_end(c, s, NULL);
    weft_tree_free(t);
    CLOSE(c);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

TEST(every_allocation_fails_once) {
    for (int again = 0; again < 2; again++)
        FOR_EACH_FAILURE {
            const weft_options options = { .device = "cpu", .threads = 1, .os_alloc = host_os_alloc, .os_free = host_os_free };
            weft_ctx *c = weft_ctx_new(&options);
            if (!c) continue;
            weft_set_recompute(c, again);
            weft_tree *t = weft_ok(c) ? made_tree(c, WEFT_F32) : NULL;
            bool ok = t && !weft_tree_train(c, t, NULL, true) && step(c, t) && step(c, t);
            for (int i = 0; ok && i < 10; i++) ok = weft_grad(weft_tree_trainable(t, i, NULL)) != NULL;
            if (!ok) CHECK_EQ(weft_error(c), WEFT_E_MEMORY);
            ATTEMPT_WORKED(ok);
            weft_tree_free(t);
            CHECK_EQ(weft_memory_live(c), 0);
            weft_ctx_free(c);
            CHECK_EQ(host_live, 0);
            if (test_failures) break;
        }
}

TEST_MAIN
